//! Several managers behind one address: sessions of the earlier protocol eras reach the manager that has them.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::mcp::Session;
use crate::support::product::{Options, Product};

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_found_by_every_manager_that_has_the_key_and_by_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let keyed = |name: &str| Options::memory().with("MCP_MANAGER_PEERS_KEY_FILE", folder.path().join(name).display().to_string());
    let one = Product::start(keyed("key")).await;
    let other = Product::start(keyed("key")).await;
    let stranger = Product::start(keyed("another")).await;
    for path in ["/mcp", "/mcp/all"] {
        let session = Session::open(&one.client, &format!("{}{path}", one.url)).await;
        let there = session.at(&other.client, &format!("{}{path}", other.url));
        assert_eq!(there.call("tools/list", json!({})).await.status, 200, "{path}: {}", other.log());
        assert_eq!(session.call("ping", json!({})).await.status, 200);
        let strange = session.at(&stranger.client, &format!("{}{path}", stranger.url));
        assert_eq!(strange.call("ping", json!({})).await.status, 404);
        // The stream of the session comes through as well, and stays open.
        let stream = other.client.get(format!("{}{path}", other.url)).header("accept", "text/event-stream");
        let stream =
            stream.header("mcp-session-id", &session.id).header("mcp-protocol-version", "2025-11-25").send().await.unwrap();
        assert_eq!((stream.status().as_u16(), stream.headers()["content-type"].to_str().unwrap()), (200, "text/event-stream"));
        drop(stream);
        assert!(there.close().await < 300);
        assert_eq!(session.call("ping", json!({})).await.status, 404, "{path}: it was ended through the other manager");
    }
    let session = Session::open(&one.client, &format!("{}/mcp", one.url)).await;
    let there = session.at(&other.client, &format!("{}/mcp", other.url));
    one.finish().await;
    let began = Instant::now();
    assert_eq!(there.call("ping", json!({})).await.status, 404, "its manager is gone");
    assert!(began.elapsed() < Duration::from_secs(20), "the client is told at once");
    other.finish().await;
    stranger.finish().await;
}
