//! Servers that speak stdio, in a cluster: the bridge comes into their pods, and sessions find the replica that has them.

use mcp_manager::backend::kubernetes::{Kubernetes, Settings};
use mcp_manager::domain::spec::{ServiceSpec, Transport};
use mcp_manager::domain::status::ServiceState;
use serde_json::json;

use crate::contract::{Manager, name, running, spec};
use crate::support::kubernetes::Namespace;
use crate::support::mcp::Session;

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
    let client = reqwest::Client::new();
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
