//! Claims about servers that misbehave: only their own session is hurt, and nothing is left of them.

use super::*;

async fn pid(running: &Running, session: &str) -> Value {
    running.call(session, "pid", json!({})).await["result"]["pid"].clone()
}

fn kill(pid: &Value) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid.as_i64().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// Servers of each era, in each mode.
const ALL: [(&str, &str); 4] = [("legacy", "per_session"), ("legacy", "shared"), ("modern", "per_session"), ("modern", "shared")];

#[tokio::test]
async fn a_server_killed_in_the_middle_of_calls_fails_them_at_once_and_the_next_call_works() {
    for (era, mode) in ALL {
        let running = Running::start(era, &["--session-mode", mode]).await;
        let (session, other) = (running.session().await, running.session().await);
        let (mut first, unhurt) = (pid(&running, &session).await, pid(&running, &other).await);
        // Not only the first time.
        for _ in 0..2 {
            let ids: Vec<Value> = (0..5).map(Value::from).collect();
            let pending = ids.iter().map(|id| running.post_call(&session, id, "hang"));
            let killing = async {
                let links = || running.bridge.context.links.alive();
                until("all calls wait for the server", || links().iter().any(|link| link.pending() == 5)).await;
                kill(&first);
                Instant::now()
            };
            let (answers, killed) = tokio::join!(futures_util::future::join_all(pending), killing);
            assert!(killed.elapsed() < Duration::from_secs(5), "{era}, {mode}: pending calls fail at once");
            for (id, answer) in ids.iter().zip(answers) {
                assert_eq!(answer["id"], *id, "{era}, {mode}");
                assert!(answer["error"]["message"].as_str().unwrap().contains("killed by signal 9"), "{era}, {mode}: {answer}");
            }
            let second = pid(&running, &session).await;
            assert!(second.is_number() && second != first, "{era}, {mode}: {second}");
            first = second;
        }
        let beside = pid(&running, &other).await;
        assert_eq!(beside, if mode == "shared" { first } else { unhurt }, "{era}, {mode}");
        running.end().await;
    }
}

#[tokio::test]
async fn a_server_that_closes_its_output_alone_fails_what_is_pending_at_once_and_another_takes_its_place() {
    for (era, mode) in ALL {
        let running = Running::start(era, &["--session-mode", mode]).await;
        let (session, other) = (running.session().await, running.session().await);
        let (first, beside) = (pid(&running, &session).await, pid(&running, &other).await);
        let ids = [json!(11), json!("two"), json!(13)];
        let pending = ids.iter().map(|id| running.post_call(&session, id, "hang"));
        let closing = async {
            let links = || running.bridge.context.links.alive();
            until("all calls wait for the server", || links().iter().any(|link| link.pending() == 3)).await;
            // It lives on for a minute, and would take calls that it cannot answer.
            (running.call(&session, "close", json!({})).await, Instant::now())
        };
        let (answers, (last, closed)) = tokio::join!(futures_util::future::join_all(pending), closing);
        assert!(closed.elapsed() < Duration::from_secs(5), "{era}, {mode}: pending calls fail at once");
        for answer in answers.iter().chain([&last]) {
            let error = json!({"code": -32603, "message": "the server closed its output"});
            assert_eq!((&answer["error"], &answer["result"]), (&error, &Value::Null), "{era}, {mode}");
        }
        for (id, answer) in ids.iter().zip(&answers) {
            assert_eq!(answer["id"], *id, "{era}, {mode}");
        }
        let second = pid(&running, &session).await;
        assert!(second.is_number() && second != first, "{era}, {mode}: {second}");
        if mode == "per_session" {
            assert_eq!(pid(&running, &other).await, beside, "another session keeps its server");
        }
        until("what closed its output has been ended", || !is_alive(&first)).await;
        running.end().await;
    }
}

#[tokio::test]
async fn a_session_hears_of_changes_at_the_server_in_the_place_of_one_that_was_killed() {
    for (era, mode) in ALL {
        let running = Running::start(era, &["--session-mode", mode]).await;
        let session = running.session().await;
        let headers = [("mcp-session-id", session.as_str()), ("accept", "text/event-stream")];
        let mut listening = running.send("GET", "/mcp", &headers, "").await;
        kill(&pid(&running, &session).await);
        // What is sent before the end is noticed fails with it.
        until_async("the next one works", async || pid(&running, &session).await.is_number()).await;
        assert_eq!(running.call(&session, "change", json!({})).await["result"], json!({}), "{era}, {mode}");
        let mut text = String::new();
        while !text.contains("notifications/tools/list_changed") {
            let frame = tokio::time::timeout(Duration::from_secs(20), listening.body.frame()).await;
            let frame = frame.unwrap_or_else(|_| panic!("{era}, {mode}: nothing of the change but {text}"));
            text.push_str(&String::from_utf8_lossy(frame.unwrap().unwrap().data_ref().unwrap()));
        }
        drop(listening);
        running.end().await;
    }
}

#[tokio::test]
async fn a_server_that_ends_behind_its_handshake_is_started_later_and_later() {
    for mode in ["per_session", "shared"] {
        let began = Instant::now();
        let running = Running::start("legacy ENDS=1", &["--session-mode", mode]).await;
        let failed = || running.bridge.context.metrics.children_failed.value();
        until("it has ended five times", || failed() >= 5).await;
        // At once, then after 250, 500 and 1000 ms.
        assert!(began.elapsed() > Duration::from_millis(1700), "{mode}: {:?} for five starts", began.elapsed());
        let health = || running.bridge.common.health();
        until("health says why", || health().is_err_and(|why| why == "the server exited with status 4")).await;
        running.end().await;
    }
}

#[tokio::test]
async fn calls_of_a_session_do_not_start_a_server_again_and_again_that_ends_behind_its_handshake() {
    let running = Running::start("legacy ENDS=1", &[]).await;
    let session = running.session().await;
    let mut says = String::new();
    for _ in 0..50 {
        says = running.call(&session, "pid", json!({})).await["error"]["message"].as_str().unwrap().to_owned();
        if says.contains("the next start is in") {
            break;
        }
    }
    assert!(says.contains("the server exited with status 4; the next start is in"), "{says}");
    running.end().await;
}

#[tokio::test]
async fn a_server_that_floods_does_not_keep_others_from_being_served() {
    let running = Running::start("legacy", &["--max-queue", "100000"]).await;
    let (session, other) = (running.session().await, running.session().await);
    let flooding = pid(&running, &session).await;
    // Its events are not read, so its stream is cut, and the flood goes nowhere.
    let flood = running.post(&session, &call(json!(1), "flood", json!({})).to_string()).await;
    let metrics = &running.bridge.context.metrics;
    until("messages are dropped", || metrics.messages_dropped.value() > 100).await;
    for _ in 0..20 {
        assert!(pid(&running, &other).await.is_number());
    }
    let held: usize = running.bridge.sessions.get(&session).unwrap().listening().held();
    assert!(held < 1 << 20, "{held} bytes are held of a flood");
    drop(flood);
    assert_eq!(running.send("DELETE", "/mcp", &[("mcp-session-id", &session)], "").await.status, 200);
    until("the flooding server has ended", || !is_alive(&flooding)).await;
    running.end().await;
}

#[tokio::test]
async fn binary_output_of_a_server_is_thrown_away() {
    let running = Running::start("legacy", &[]).await;
    let session = running.session().await;
    assert_eq!(running.call(&session, "binary", json!({})).await["result"], json!({}));
    assert!(pid(&running, &session).await.is_number());
    running.end().await;
}

#[tokio::test]
async fn a_server_that_hangs_has_a_limit_of_calls_that_wait_and_of_time() {
    let running = Running::start("legacy", &["--max-pending", "2", "--request-timeout", "6"]).await;
    let session = running.session().await;
    let (one, two) = (json!(1), json!(2));
    let waiting = async { tokio::join!(running.post_call(&session, &one, "hang"), running.post_call(&session, &two, "hang")) };
    let refused = async {
        let links = || running.bridge.context.links.alive();
        until("both wait", || links().iter().any(|link| link.pending() == 2)).await;
        running.post(&session, &call(json!(3), "pid", json!({})).to_string()).await.status
    };
    let ((one, two), refused) = tokio::join!(waiting, refused);
    assert_eq!(refused, 503);
    for answer in [one, two] {
        assert!(answer["error"]["message"].as_str().unwrap().contains("did not answer within 6 s"), "{answer}");
    }
    assert!(pid(&running, &session).await.is_number(), "the server was told that nobody waits, and is used again");
    running.end().await;
}

#[tokio::test]
async fn sessions_that_are_dropped_leave_no_process() {
    let flags = ["--idle-timeout", "1", "--max-sessions", "16", "--session-mode", "per_session"];
    let running = Running::start("legacy", &flags).await;
    let mut pids = Vec::new();
    for _ in 0..10 {
        let session = running.session().await;
        pids.push(pid(&running, &session).await);
    }
    until("all sessions have expired", || running.bridge.sessions.count() == 0).await;
    until("their servers have ended", || !pids.iter().any(is_alive)).await;
    running.end().await;
}

/// A bridge that serves clients of 2024-11-05 is a server of that transport.
async fn old_server() -> (Running, String) {
    let server = Running::start("legacy", &["--sse"]).await;
    let url = format!("http://{}/sse", server.address);
    (server, url)
}

fn before(url: &str, command: &str) -> Options {
    Arguments::parse_from(["mcp-bridge", "--sse-server", url, "--", "sh", "-c", command]).resolve().unwrap()
}

#[tokio::test]
async fn a_server_of_the_old_transport_is_served_like_any_other() {
    let (server, url) = old_server().await;
    let running = Running::over(before(&url, "exec sleep 600")).await;
    let (one, two) = (running.session().await, running.session().await);
    let (first, second) = (pid(&running, &one).await, pid(&running, &two).await);
    assert!(first.is_number() && second.is_number() && first != second, "a stream, and so a session, for each");
    let mut body = call(json!("é"), "progress", json!({"n": 2}));
    body["params"]["_meta"] = json!({"progressToken": "t"});
    let messages = running.post(&one, &body.to_string()).await.messages().await;
    assert_eq!(messages.len(), 3, "{messages:?}");
    assert_eq!(messages[2]["id"], "é");
    let big = running.call(&two, "big", json!({"size": 2_000_000})).await;
    assert_eq!(big["result"]["text"].as_str().unwrap().len(), 2_000_000);
    // A client of the stateless era is served by the same server.
    let listed = running.modern(modern_call(json!(7), "pid", json!({}), json!({}))).await;
    assert!(listed.message().await["result"]["pid"].is_number());
    assert_eq!(running.send("DELETE", "/mcp", &[("mcp-session-id", &one)], "").await.status, 200);
    until("the session's end reaches the server", || !is_alive(&first)).await;
    assert!(is_alive(&second));
    running.end().await;
    server.end().await;
}

#[tokio::test]
async fn a_server_whose_first_start_fails_is_started_again_though_nobody_asks() {
    for mode in ["per_session", "shared"] {
        let folder = tempfile::tempdir().unwrap();
        let tried = folder.path().join("tried").display().to_string();
        let script = format!("test -e {tried} || {{ touch {tried}; exit 3; }}; exec python3 -u -c \"$0\"");
        let words = ["mcp-bridge", "--session-mode", mode, "--", "sh", "-c", &script, SERVER];
        let running = Running::over(Arguments::parse_from(words).resolve().unwrap()).await;
        until_async("it is healthy", async || running.send("GET", "/health", &[], "").await.status == 200).await;
        running.end().await;
    }
}

#[tokio::test]
async fn a_server_of_the_old_transport_that_ends_is_started_again() {
    let (server, url) = old_server().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid").display().to_string();
    let running = Running::over(before(&url, &format!("echo $$ > {file}; exec sleep 600"))).await;
    let session = running.session().await;
    let started = || std::fs::read_to_string(&file).unwrap_or_default().trim().to_owned();
    // The stream is there before its program has come to its first line: the other bridge is the one that answers.
    until("the program has told its id", || !started().is_empty()).await;
    let process: Value = started().parse().unwrap();
    // More of them than the bridge itself ever has waiting.
    let ids = [1, 2, 3].map(Value::from);
    let pending = futures_util::future::join_all(ids.iter().map(|id| running.post_call(&session, id, "hang")));
    let killing = async {
        let links = || running.bridge.context.links.alive();
        until("the calls wait", || links().iter().any(|link| link.pending() == ids.len())).await;
        kill(&process);
    };
    let (failed, ()) = tokio::join!(pending, killing);
    let killed = |answer: &Value| answer["error"]["message"].as_str().unwrap_or_default().contains("killed by signal 9");
    assert!(failed.iter().all(killed), "{failed:?}");
    assert!(pid(&running, &session).await.is_number());
    until("another program has told its id", || ![String::new(), process.to_string()].contains(&started())).await;
    running.end().await;
    server.end().await;
}
