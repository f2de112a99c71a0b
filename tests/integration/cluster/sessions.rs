//! Servers that need the bridge, in a cluster: it comes into their pods, and sessions find the replica that has them.

use mcp_manager::backend::kubernetes::{Kubernetes, Settings};
use mcp_manager::domain::spec::{ServiceSpec, Transport};
use mcp_manager::domain::status::ServiceState;
use serde_json::json;

use crate::contract::{Manager, name, running, spec};
use crate::support::http_client;
use crate::support::kubernetes::Namespace;
use crate::support::mcp::Session;
use crate::support::product::{Options, Product};

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_a_stdio_server_is_served_whichever_replica_is_asked() {
    let Some(namespace) = Namespace::new().await else { return };
    let settings = Settings { bridge_image: Some(namespace.image.clone()), ..namespace.settings() };
    let manager = Manager::start_with(|tasks| Kubernetes::connect(settings, tasks)).await;
    let entrypoint = Some(vec!["/mcp-echo".to_owned(), "--stdio".to_owned()]);
    let stdio = ServiceSpec { transport: Transport::Stdio, entrypoint, replicas: 3, ..spec(&namespace) };
    manager.backend.create(&name("echo"), running(stdio)).await.unwrap();
    let all = |service: &ServiceState| service.ready().count() == 3;
    let service = manager.service(&name("echo"), "three replicas are ready", all).await;
    let url = |index: usize| format!("http://{}/mcp", service.replicas[index].address.unwrap());
    let client = http_client().build().unwrap();
    let session = Session::open(&client, &url(0)).await;
    for replica in [0, 1, 2] {
        let answer = session.at(&client, &url(replica)).call("tools/list", json!({})).await;
        assert!(answer.result()["tools"].as_array().is_some_and(|tools| !tools.is_empty()), "replica {replica}: {answer:?}");
    }
    assert_eq!(session.at(&client, &url(2)).close().await, 200);
    manager.backend.remove(&name("echo"), false).await.unwrap();
    manager.stop().await;
    assert_eq!(namespace.owned().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn managers_in_a_cluster_know_each_others_sessions_by_a_key_that_the_first_one_made() {
    let Some(namespace) = Namespace::new().await else { return };
    let options = Options::kubernetes(&namespace);
    // They come at the same moment, and one of them is the first.
    let (one, other) = tokio::join!(Product::start(options.clone()), Product::start(options.clone()));
    let session = Session::open(&one.client, &format!("{}/mcp", one.url)).await;
    let there = session.at(&other.client, &format!("{}/mcp", other.url));
    assert_eq!(there.call("tools/list", json!({})).await.status, 200, "{}", other.log());
    // Another installation in the same namespace has another key.
    let stranger = Product::start(Options { instance: format!("{}x", options.instance), ..options }).await;
    let strange = session.at(&stranger.client, &format!("{}/mcp", stranger.url));
    assert_eq!(strange.call("ping", json!({})).await.status, 404);
    assert!(there.close().await < 300);
    for product in [one, other, stranger] {
        product.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_the_old_transport_runs_behind_the_bridge() {
    let Some(namespace) = Namespace::new().await else { return };
    let settings = Settings { bridge_image: Some(namespace.image.clone()), ..namespace.settings() };
    let manager = Manager::start_with(|tasks| Kubernetes::connect(settings, tasks)).await;
    // A bridge that serves clients of 2024-11-05 is a server of theirs.
    let server = ["/usr/local/bin/mcp-bridge", "--sse", "--listen", "127.0.0.1:9000", "--", "/mcp-echo", "--stdio"];
    let entrypoint = Some(server.map(str::to_owned).to_vec());
    let old = ServiceSpec { transport: Transport::Sse, port: Some(9000), entrypoint, ..spec(&namespace) };
    manager.backend.create(&name("echo"), running(old)).await.unwrap();
    let service = manager.service(&name("echo"), "it is ready", |service| service.ready().count() == 1).await;
    let url = format!("http://{}/mcp", service.replicas[0].address.unwrap());
    let session = Session::open(&http_client().build().unwrap(), &url).await;
    let answer = session.call("tools/list", json!({})).await;
    assert!(answer.result()["tools"].as_array().is_some_and(|tools| !tools.is_empty()), "{answer:?}");
    manager.backend.remove(&name("echo"), false).await.unwrap();
    manager.stop().await;
}
