//! Who may call which tool, and what the audit says of it: over both ways to call one.

use mcp_manager::domain::access::Role;
use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::super::access::with_keys;
use super::story;
use crate::support::http_client;
use crate::support::mcp::stateless;
use crate::support::product::{Options, Product};

fn client(key: &str) -> reqwest::Client {
    let headers = HeaderMap::from_iter([("x-api-key".parse().unwrap(), HeaderValue::from_str(key).unwrap())]);
    http_client().default_headers(headers).build().unwrap()
}

#[tokio::test]
async fn every_tool_refuses_strangers_and_those_whose_role_does_not_reach() {
    let (product, keys) = with_keys().await;
    let key = |role: &str| keys.iter().find(|(is, _)| *is == role).unwrap().1.clone();
    let mcp = format!("{}/mcp", product.url);
    let (admin, viewer) = (client(&key("admin")), client(&key("viewer")));
    let all = stateless(&admin, &mcp, "tools/list", json!({})).await.result()["tools"].as_array().unwrap().clone();
    let few = stateless(&viewer, &mcp, "tools/list", json!({})).await.result()["tools"].as_array().unwrap().clone();
    for (tool, arguments) in story() {
        let described = all.iter().find(|described| described["name"] == tool).unwrap_or_else(|| panic!("{tool} is not listed"));
        let reads = described["annotations"]["readOnlyHint"] == true;
        let may = mcp_manager::tools::find(tool).unwrap().operation.least_role() <= Role::Viewer;
        assert_eq!(few.iter().any(|described| described["name"] == tool), may, "a viewer sees what a viewer may use: {tool}");
        assert!(reads || !may, "{tool} changes something, and a viewer may use it");

        let path = format!("/tools/{tool}");
        assert_eq!(product.post(&path, &arguments).await.0, 401, "{tool} as a stranger");
        let call = json!({"name": tool, "arguments": arguments});
        assert_eq!(
            stateless(&product.client, &mcp, "tools/call", call.clone()).await.status,
            401,
            "{tool} as a stranger over MCP"
        );
        if may {
            continue;
        }
        let refused = product
            .request(reqwest::Method::POST, &path)
            .header("x-api-key", key("viewer"))
            .json(&arguments)
            .send()
            .await
            .unwrap();
        assert_eq!(refused.status(), 403, "{tool} as a viewer");
        let problem: Value = refused.json().await.unwrap();
        let answer = stateless(&viewer, &mcp, "tools/call", call).await;
        assert_eq!(
            (&answer.result()["isError"], &answer.result()["structuredContent"]),
            (&json!(true), &problem),
            "{tool} over MCP"
        );
    }
    // The handshake itself is for those who are known.
    let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    let refused =
        product.client.post(&mcp).header("accept", "application/json, text/event-stream").json(&hello).send().await.unwrap();
    assert_eq!((refused.status().as_u16(), refused.headers()["www-authenticate"].to_str().unwrap()), (401, "Bearer"));
    drop(product);
}

#[tokio::test]
async fn every_tool_that_changes_something_leaves_an_audit_entry_whichever_way_it_is_called() {
    let folder = tempfile::tempdir().unwrap();
    for over_mcp in [false, true] {
        let file = folder.path().join(format!("audit-{over_mcp}"));
        let product = Product::start(Options::memory().with("MCP_MANAGER_AUDIT_FILE", file.display().to_string())).await;
        product.create_echo("echo", json!({})).await;
        let mut expected = Vec::new();
        let (_, listed) = product.get("/tools").await;
        for (tool, arguments) in story() {
            if over_mcp {
                let answer = stateless(
                    &product.client,
                    &format!("{}/mcp", product.url),
                    "tools/call",
                    json!({"name": tool, "arguments": arguments}),
                )
                .await;
                assert_eq!(answer.result()["isError"], false, "{tool}: {answer:?}");
            } else {
                assert_eq!(product.post(&format!("/tools/{tool}"), &arguments).await.0, 200, "{tool}");
            }
            let described = listed["tools"].as_array().unwrap().iter().find(|described| described["name"] == tool).unwrap();
            if described["annotations"]["readOnlyHint"] == false {
                expected.push(tool);
            }
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let ended: Vec<Value> = lines.filter(|line| line["event"] == "end").skip(1).collect();
        assert!(ended.iter().all(|line| line["result"] == "ok" && line["request_id"].is_string()), "{ended:#?}");
        let operations: Vec<&str> = ended.iter().map(|line| line["operation"].as_str().unwrap()).collect();
        let of = |tool: &&str| mcp_manager::tools::find(tool).unwrap().operation.slug();
        assert_eq!(operations, expected.iter().map(of).collect::<Vec<_>>());
        product.finish().await;
    }
}
