//! Claims about sessions whose clients go without a word, about whose place a new one takes, and that no process outlives
//! its session.

use super::*;

/// Servers of each era, in each mode.
const ALL: [(&str, &str); 4] = [("legacy", "per_session"), ("legacy", "shared"), ("modern", "per_session"), ("modern", "shared")];

/// A bridge before servers that begin when there is no such file any more.
async fn held_by(gate: &std::path::Path, flags: &[&str]) -> Running {
    Running::start(&format!("legacy; while test -e {}; do sleep 0.02; done;", gate.display()), flags).await
}

/// A bridge whose sessions keep their place no longer than they do something.
async fn without_grace(era: &str, flags: &[&str]) -> Running {
    let mut options = Running::options(era, flags);
    options.grace = Duration::ZERO;
    Running::over(options).await
}

async fn pid(running: &Running, session: &str) -> Value {
    running.call(session, "pid", json!({})).await["result"]["pid"].clone()
}

#[tokio::test]
async fn a_client_of_2024_that_hangs_up_while_its_session_opens_leaves_neither_session_nor_process() {
    let folder = tempfile::tempdir().unwrap();
    let gate = folder.path().join("gate");
    std::fs::write(&gate, "").unwrap();
    let running = held_by(&gate, &["--sse", "--spare", "0"]).await;
    let mut stream = running.send("GET", "/sse", &[], "").await;
    let frame = stream.body.frame().await.unwrap().unwrap().into_data().unwrap();
    let text = String::from_utf8_lossy(&frame).into_owned();
    let path = text.trim().strip_prefix("event: endpoint\ndata: ").unwrap();
    let id = path.split_once('=').unwrap().1;
    let json_type = [("content-type", "application/json")];
    let opening = running.send("POST", path, &json_type, initialize("2024-11-05"));
    let leaving = async {
        until("the session's server starts beside the common one", || running.bridge.context.links.pending() == 2).await;
        drop(stream);
        until("the stream is gone", || running.bridge.sessions.expected(id).is_none()).await;
        std::fs::remove_file(&gate).unwrap();
    };
    let (opened, ()) = tokio::join!(opening, leaving);
    assert_eq!(opened.status, 404);
    assert_eq!(running.bridge.sessions.count(), 0);
    until("the end of the session's server", || running.bridge.context.processes.count() == 1).await;
    running.end().await;
}

#[tokio::test]
async fn a_session_that_is_ended_while_its_server_starts_again_ends_that_server_and_fails_the_call() {
    let folder = tempfile::tempdir().unwrap();
    let gate = folder.path().join("gate");
    let running = held_by(&gate, &["--spare", "0"]).await;
    let session = running.session().await;
    until("the common server is known", || running.bridge.common.health().is_ok()).await;
    std::fs::write(&gate, "").unwrap();
    running.call(&session, "die", json!({})).await;
    let id = json!("again");
    let calling = running.post_call(&session, &id, "hang");
    let ending = async {
        until("the server starts again", || running.bridge.context.links.pending() == 1).await;
        assert_eq!(running.send("DELETE", "/mcp", &[("mcp-session-id", &session)], "").await.status, 200);
    };
    let both = async { tokio::join!(calling, ending) };
    let (answer, ()) = tokio::time::timeout(Duration::from_secs(20), both).await.expect("the call is answered");
    assert_eq!(answer["id"], id);
    assert!(answer["error"]["message"].as_str().unwrap().contains("the session has ended"), "{answer}");
    // The common server is all there is.
    until("the end of what was being started", || running.bridge.context.processes.count() <= 1).await;
    std::fs::remove_file(&gate).unwrap();
    running.end().await;
}

#[tokio::test]
async fn a_new_session_takes_the_place_of_the_one_that_has_been_idle_for_longest() {
    let running = without_grace("legacy", &["--max-sessions", "3"]).await;
    let mut sessions = Vec::new();
    for _ in 0..3 {
        let session = running.session().await;
        let server = pid(&running, &session).await;
        sessions.push((session, server));
    }
    pid(&running, &sessions[0].0).await;
    let (gone, server) = sessions.remove(1);
    let new = running.session().await;
    assert_eq!(running.post(&gone, &call(json!(1), "pid", json!({})).to_string()).await.status, 404);
    until("the end of its server", || !is_alive(&server)).await;
    for (session, server) in &sessions {
        assert_eq!(pid(&running, session).await, *server);
    }
    assert!(pid(&running, &new).await.is_number());
    let metrics = &running.bridge.context.metrics;
    assert_eq!((metrics.sessions_displaced.value(), metrics.sessions_refused.value()), (1, 0));
    running.end().await;
}

#[tokio::test]
async fn no_session_gives_its_place_that_listens_or_whose_call_is_not_answered_also_when_its_client_went() {
    for (era, mode) in ALL {
        let running = without_grace(era, &["--session-mode", mode, "--max-sessions", "2"]).await;
        let opens = async || running.post("", &initialize("2025-11-25")).await;
        let calling = running.session().await;
        let begun = running.post(&calling, &call(json!(1), "hang", json!({})).to_string()).await;
        drop(begun);
        let listening = running.session().await;
        let headers = [("mcp-session-id", listening.as_str()), ("accept", "text/event-stream")];
        let stream = running.send("GET", "/mcp", &headers, "").await;
        for _ in 0..3 {
            let refused = opens().await;
            assert_eq!(refused.status, 503, "{era}, {mode}");
            assert!(refused.headers.contains_key("retry-after"), "{era}, {mode}");
        }
        drop(stream);
        until_async("the session that listens no more gives its place", async || opens().await.status == 200).await;
        let listed = running.post(&listening, &call(json!(2), "pid", json!({})).to_string()).await;
        assert_eq!(listed.status, 404, "{era}, {mode}");
        assert!(running.bridge.sessions.get(&calling).is_some(), "{era}, {mode}");
        running.end().await;
    }
}

#[tokio::test]
async fn a_session_keeps_its_place_until_its_client_has_fetched_what_it_is_owed() {
    let running = without_grace("legacy", &["--max-sessions", "1"]).await;
    let session = running.session().await;
    let opens = async || running.post("", &initialize("2025-11-25")).await.status == 200;
    let mut slow = running.post(&session, &call(json!(1), "slow", json!({"s": 2})).to_string()).await;
    let first = slow.body.frame().await.unwrap().unwrap().into_data().unwrap();
    let id = String::from_utf8_lossy(&first[4..]).lines().next().unwrap().to_owned();
    drop(slow);
    until("the call is answered", || running.bridge.context.links.pending() == 0).await;
    assert!(!opens().await);
    let again = [("mcp-session-id", session.as_str()), ("last-event-id", id.as_str())];
    let answer = running.send("GET", "/mcp", &again, "").await.message().await;
    assert_eq!(answer["result"], json!({"slow": true}));
    until_async("it gives its place", opens).await;
    running.end().await;
}

#[tokio::test]
async fn a_server_of_the_stateless_era_alone_is_not_started_for_each_session_to_refuse_it() {
    let running = Running::start("modern", &["--spare", "0"]).await;
    let mut pids = std::collections::HashSet::new();
    for _ in 0..5 {
        let session = running.session().await;
        pids.insert(pid(&running, &session).await.as_i64());
    }
    assert_eq!(pids.len(), 5);
    // The common one, the one that refused, and one for each session.
    assert_eq!(running.bridge.context.metrics.children_started.value(), 7);
    running.end().await;
    let running = Running::start("modern", &[]).await;
    running.session().await;
    let started = || running.bridge.context.links.alive();
    let is_spare = |link: &Arc<crate::bridge::link::Link>| link.is_shared() && link.ended().is_none();
    // The common one, the first session's, and one for the next.
    until("a server is started ahead", || started().iter().filter(|link| is_spare(link)).count() == 3).await;
    let ahead: Vec<_> = started().iter().map(|link| json!(link.child().id())).collect();
    let second = running.session().await;
    let server = pid(&running, &second).await;
    assert!(ahead.contains(&server), "{server} of {ahead:?}");
    running.end().await;
}
