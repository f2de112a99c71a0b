//! Logs of pods, followed over what becomes of the API server.

use futures_util::StreamExt as _;
use mcp_manager::backend::LogStream;
use mcp_manager::domain::status::{LogLine, LogQuery};
use serde_json::json;

use super::{create, manager_by};
use crate::contract::{PATIENCE, name, spec};
use crate::support::http_client;
use crate::support::kubernetes::Namespace;
use crate::support::kubernetes_way::Way;

/// The lines up to this one.
async fn up_to(lines: &mut LogStream, last: &str) -> Vec<LogLine> {
    let mut told: Vec<LogLine> = Vec::new();
    while told.last().is_none_or(|line| line.line != last) {
        let next = tokio::time::timeout(PATIENCE, lines.next()).await;
        let next = next.unwrap_or_else(|_| panic!("'{last}' never came: {told:?}"));
        told.push(next.expect("the log goes on").unwrap());
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn a_followed_log_goes_on_where_it_was_when_the_api_server_is_back() {
    let Some(namespace) = Namespace::new().await else { return };
    let way = Way::to(&namespace).await;
    let manager = manager_by(&way, &namespace).await;
    let mut talking = spec(&namespace);
    talking.environment.insert("MCP_ECHO_TEST_CONTROLS".into(), "true".into());
    let (echo, service) = (name("echo"), create(&manager, talking).await);
    let log = format!("http://{}/log", service.replicas[0].address.unwrap());
    let client = http_client().build().unwrap();
    let write = async |line: &str| {
        let answer = client.post(&log).json(&json!({"stdout": [line], "stderr": []})).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    };
    let mut lines = manager.backend.logs(&echo, LogQuery { follow: true, ..LogQuery::default() }).await.unwrap();
    write("before").await;
    let mut told = up_to(&mut lines, "before").await;
    way.cut();
    manager.until("the server is known to be away", |snapshot| !snapshot.connected).await;
    write("meanwhile").await;
    way.mend().await;
    told.extend(up_to(&mut lines, "meanwhile").await);
    write("afterwards").await;
    told.extend(up_to(&mut lines, "afterwards").await);
    manager.until("the server is known to be back", |snapshot| snapshot.connected).await;
    let whole = up_to(&mut manager.backend.logs(&echo, LogQuery::default()).await.unwrap(), "afterwards").await;
    assert_eq!(told, whole, "each line is told once");
    manager.backend.remove(&echo, false).await.unwrap();
    manager.stop().await;
}
