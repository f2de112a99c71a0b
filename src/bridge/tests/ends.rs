//! Claims about what is pending when a session or the bridge ends: it is answered.

use super::*;

/// Servers of each era, in each mode.
const ALL: [(&str, &str); 4] = [("legacy", "per_session"), ("legacy", "shared"), ("modern", "per_session"), ("modern", "shared")];

fn pending(running: &Running) -> usize {
    running.bridge.context.links.pending()
}

fn gave_up(answer: &Value, id: &Value, says: &str) {
    let error = json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32603, "message": says}});
    assert_eq!(*answer, error);
}

#[tokio::test]
async fn what_a_session_has_pending_is_answered_when_the_session_is_ended() {
    for (era, mode) in ALL {
        let running = Running::start(era, &["--session-mode", mode]).await;
        let (session, other) = (running.session().await, running.session().await);
        until("the common server is known", || running.bridge.common.health().is_ok()).await;
        // One whose stream of events has begun, and one that is not answered at all yet.
        let [first, second, third] = [json!("first"), json!(2), json!("third")];
        let begun = running.post(&session, &call(first.clone(), "hang", json!({})).to_string()).await;
        let waiting = running.post_call(&session, &second, "hang");
        let unhurt = running.post_call(&other, &third, "hang");
        let ending = async {
            until("all three wait", || pending(&running) == 3).await;
            assert_eq!(running.send("DELETE", "/mcp", &[("mcp-session-id", &session)], "").await.status, 200);
            until("only the other session's call waits", || pending(&running) == 1).await;
            assert_eq!(running.send("DELETE", "/mcp", &[("mcp-session-id", &other)], "").await.status, 200);
        };
        let all = async { tokio::join!(waiting, unhurt, ending) };
        let (waiting, unhurt, ()) = tokio::time::timeout(Duration::from_secs(20), all).await.expect("all calls are answered");
        let says = "the session has ended";
        gave_up(&begun.message().await, &first, says);
        gave_up(&waiting, &second, says);
        gave_up(&unhurt, &third, says);
        running.end().await;
    }
}

#[tokio::test]
async fn a_question_to_a_client_whose_session_is_ended_fails_the_call_that_asked_it() {
    let running = Running::start("modern", &[]).await;
    let session = running.session().await;
    let mut asking = running.post(&session, &call(json!(1), "ask", json!({})).to_string()).await;
    let mut text = String::new();
    while !text.contains("elicitation/create") {
        text.push_str(&String::from_utf8_lossy(asking.body.frame().await.unwrap().unwrap().data_ref().unwrap()));
    }
    assert_eq!(running.send("DELETE", "/mcp", &[("mcp-session-id", &session)], "").await.status, 200);
    gave_up(&asking.message().await, &json!(1), "the session has ended");
    running.end().await;
}

#[tokio::test]
async fn what_is_pending_is_answered_when_the_time_to_drain_is_over() {
    for (era, mode) in ALL {
        let running = Running::start(era, &["--session-mode", mode, "--drain-timeout", "2"]).await;
        let session = running.session().await;
        until("the common server is known", || running.bridge.common.health().is_ok()).await;
        let (one, two) = (json!("one"), json!(2));
        let in_session = running.post_call(&session, &one, "hang");
        let stateless = async {
            let body = modern_call(two.clone(), "hang", json!({}), json!({"elicitation": {}}));
            running.modern(body).await.message().await
        };
        let draining = async {
            until("both wait", || pending(&running) == 2).await;
            running.server.stop_accepting();
            running.bridge.drain().await;
        };
        let all = async { tokio::join!(in_session, stateless, draining) };
        let (in_session, stateless, ()) = tokio::time::timeout(Duration::from_secs(20), all).await.expect("all are answered");
        gave_up(&in_session, &one, "the bridge ends");
        gave_up(&stateless, &two, "the bridge ends");
        assert_eq!(running.bridge.context.processes.count(), 0, "{era}, {mode}: processes are left");
    }
}
