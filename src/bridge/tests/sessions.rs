//! Claims about sessions, limits, faults and the endpoint of the earlier eras.

use super::*;

#[tokio::test]
async fn a_message_passes_as_it_is() {
    let running = Running::start("legacy", &[]).await;
    let session = running.session().await;
    for id in [r#""\u00e9 \"x\"""#, "1.50", "-7", "12345678901234567890"] {
        let body = format!(
            r#"{{ "x":1e2, "id":{id},"method":"tools/call","jsonrpc":"2.0","params":{{"name":"echo","é":"\ud83d\ude00 😀","n":1.000,"z":{{}}}}}}"#
        );
        let answer = running.post(&session, &body).await;
        assert_eq!(answer.headers["content-type"], "application/json");
        let expected = body.replacen("\"method\"", "\"result\":{\"content\":[]},\"was\"", 1).replacen("\"params\"", "\"had\"", 1);
        assert_eq!(answer.text().await, expected);
    }
    running.end().await;
}

#[tokio::test]
async fn large_messages_pass() {
    let running = Running::start("legacy", &[]).await;
    let session = running.session().await;
    let big = running.call(&session, "big", json!({"size": 10_000_000})).await;
    assert_eq!(big["result"]["text"].as_str().unwrap().len(), 10_000_000);
    let echoed = running.call(&session, "echo", json!({"text": "y".repeat(10_000_000)})).await;
    assert_eq!(echoed["had"]["arguments"]["text"].as_str().unwrap().len(), 10_000_000);
    running.end().await;
}

#[tokio::test]
async fn every_session_has_a_server_of_its_own_that_ends_with_it() {
    let running = Running::start("legacy", &[]).await;
    let (one, two) = (running.session().await, running.session().await);
    let first = running.call(&one, "pid", json!({})).await["result"]["pid"].clone();
    let second = running.call(&two, "pid", json!({})).await["result"]["pid"].clone();
    assert_ne!(first, second);
    let grandchild = running.call(&one, "grandchild", json!({})).await["result"]["pid"].clone();
    let away = running.call(&one, "grandchild", json!({"away": true})).await["result"]["pid"].clone();
    let bare = running.call(&one, "grandchild", json!({"away": true, "bare": true})).await["result"]["pid"].clone();
    let deleted = running.send("DELETE", "/mcp", &[("mcp-session-id", &one)], "").await;
    assert_eq!(deleted.status, 200);
    until("the end of all processes of the session", || ![&first, &grandchild, &away, &bare].into_iter().any(is_alive)).await;
    assert_eq!(running.post(&one, &call(json!(1), "pid", json!({})).to_string()).await.status, 404);
    assert_eq!(running.call(&two, "pid", json!({})).await["result"]["pid"], second);
    running.end().await;
}

#[tokio::test]
async fn what_is_kept_for_clients_that_come_back_is_bounded_also_when_many_answers_come_together() {
    let running = Running::start("legacy", &["--replay", "20000"]).await;
    let id = running.session().await;
    let headers = [("content-type", "application/json"), ("accept", "text/event-stream"), ("mcp-session-id", id.as_str())];
    // All streams are open before the first of them ends.
    let calls = (0..9).map(|number| match number {
        0 => call(json!(number), "slow", json!({"s": 1})),
        _ => call(json!(number), "big", json!({"size": 9000})),
    });
    let answers = calls.map(async |call| running.send("POST", "/mcp", &headers, call.to_string()).await.message().await);
    for answer in futures_util::future::join_all(answers).await {
        assert!(answer["result"].is_object(), "{answer}");
    }
    let session = running.bridge.sessions.get(&id).unwrap();
    until("no more is kept than shall be", || session.held() <= 20_000).await;
    running.end().await;
}

#[tokio::test]
async fn a_server_that_dies_fails_what_is_pending_and_the_next_call_works() {
    let running = Running::start("legacy", &[]).await;
    let session = running.session().await;
    let died = running.call(&session, "die", json!({})).await;
    assert!(died["error"]["message"].as_str().unwrap().contains("status 3"), "{died}");
    assert!(running.call(&session, "pid", json!({})).await["result"]["pid"].is_number());
    let closed = running.call(&session, "close", json!({})).await;
    assert!(closed["error"]["message"].as_str().unwrap().contains("closed its output"), "{closed}");
    assert!(running.call(&session, "pid", json!({})).await["result"]["pid"].is_number());
    running.end().await;
}

#[tokio::test]
async fn rubbish_of_a_server_hurts_nobody() {
    let running = Running::start("legacy", &[]).await;
    let session = running.session().await;
    assert_eq!(running.call(&session, "rubbish", json!({})).await["result"], json!({}));
    assert!(running.bridge.context.metrics.lines_refused.value() >= 3);
    running.end().await;
}

#[tokio::test]
async fn progress_opens_events_that_can_be_read_again() {
    let running = Running::start("legacy", &[]).await;
    let session = running.session().await;
    let mut body = call(json!(5), "progress", json!({"n": 3}));
    body["params"]["_meta"] = json!({"progressToken": "t"});
    let text = running.post(&session, &body.to_string()).await.text().await;
    let ids: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
    assert_eq!(ids.len(), 5, "{text}");
    let again = [("mcp-session-id", session.as_str()), ("accept", "text/event-stream"), ("last-event-id", ids[3])];
    let messages = running.send("GET", "/mcp", &again, "").await.messages().await;
    assert_eq!(messages, [json!({"jsonrpc": "2.0", "id": 5, "result": {}})]);
    running.end().await;
}

#[tokio::test]
async fn in_shared_mode_ids_and_tokens_of_clients_do_not_mix() {
    let running = Running::start("legacy", &["--session-mode", "shared"]).await;
    let (one, two) = (running.session().await, running.session().await);
    let pid = running.call(&one, "pid", json!({})).await;
    assert_eq!(pid["result"], running.call(&two, "pid", json!({})).await["result"]);
    let mut body = call(json!("\u{e9}"), "progress", json!({}));
    body["params"]["_meta"] = json!({"progressToken": 1});
    let body = body.to_string();
    let (first, second) = tokio::join!(running.post(&one, &body), running.post(&two, &body));
    for answer in [first, second] {
        let messages = answer.messages().await;
        assert_eq!(messages.len(), 3);
        assert!(messages[..2].iter().all(|message| message["params"]["progressToken"] == 1));
        assert_eq!(messages[2]["id"], "\u{e9}");
    }
    running.end().await;
}

#[tokio::test]
async fn limits_hold() {
    let running = Running::start("legacy", &["--max-sessions", "1", "--max-message", "1000", "--idle-timeout", "1"]).await;
    let session = running.session().await;
    assert_eq!(running.post("", &initialize("2025-11-25")).await.status, 503);
    let too_long = call(json!(1), "echo", json!({"x": "x".repeat(1000)})).to_string();
    assert_eq!(running.post(&session, &too_long).await.status, 413);
    let answer = running.call(&session, "big", json!({"size": 2000})).await;
    assert!(answer["error"]["message"].as_str().unwrap().contains("longer than"), "{answer}");
    until("the end of the idle session", || running.bridge.sessions.count() == 0).await;
    assert_eq!(running.post(&session, &call(json!(1), "pid", json!({})).to_string()).await.status, 404);
    running.end().await;
}

#[tokio::test]
async fn what_is_forged_or_from_a_stranger_is_refused() {
    let running = Running::start("legacy", &[]).await;
    let body = call(json!(1), "pid", json!({})).to_string();
    let session = running.session().await;
    let mut forged = session.clone();
    forged.replace_range(session.len() - 1.., if session.ends_with('0') { "1" } else { "0" });
    assert_eq!(running.post(&forged, &body).await.status, 404);
    assert_eq!(running.post("x", &body).await.status, 404);
    assert_eq!(running.post("", &body).await.status, 400);
    let json_type = ("content-type", "application/json");
    for headers in [[json_type, ("origin", "http://evil.example.com")], [json_type, ("origin", "null")]] {
        assert_eq!(running.send("POST", "/mcp", &headers, body.clone()).await.status, 403);
    }
    assert_eq!(running.send("POST", "/mcp", &[("content-type", "text/plain")], body).await.status, 415);
    assert_eq!(running.post(&session, "{").await.status, 400);
    running.end().await;
}

#[tokio::test]
async fn a_session_is_reached_through_another_replica() {
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), format!("{:032x}", rand::random::<u128>())).unwrap();
    let path = key.path().to_str().unwrap().to_owned();
    let owner = Running::start("legacy", &["--owner", "one", "--session-key-file", &path]).await;
    let session = owner.session().await;
    let front = Running::start("legacy", &["--owner", "two", "--session-key-file", &path, "--peer", &replica(&owner)]).await;
    let pid = owner.call(&session, "pid", json!({})).await;
    assert_eq!(front.call(&session, "pid", json!({})).await, pid);
    assert_eq!(front.bridge.context.metrics.forwarded.value(), 1);
    owner.end().await;
    assert_eq!(front.post(&session, &call(json!(1), "pid", json!({})).to_string()).await.status, 404);
    front.end().await;
}

/// A pattern that leads to one replica: the name of the owner is in a part of the address that nobody reads.
fn replica(running: &Running) -> String {
    format!("http://{{owner}}@{}", running.address)
}

#[tokio::test]
async fn clients_of_2024_have_one_stream_for_everything() {
    let running = Running::start("legacy", &["--sse"]).await;
    let mut stream = running.send("GET", "/sse", &[], "").await;
    let mut text = String::new();
    let read = async |stream: &mut Answer, text: &mut String, wanted: &str| {
        while !text.contains(wanted) {
            let frame = stream.body.frame().await.unwrap().unwrap();
            text.push_str(&String::from_utf8_lossy(frame.data_ref().unwrap()));
        }
    };
    read(&mut stream, &mut text, "\n\n").await;
    let path = text.trim().strip_prefix("event: endpoint\ndata: ").unwrap().to_owned();
    let json_type = [("content-type", "application/json")];
    assert_eq!(running.send("POST", &path, &json_type, initialize("2024-11-05")).await.status, 202);
    read(&mut stream, &mut text, "serverInfo").await;
    let mut body = call(json!(1), "progress", json!({}));
    body["params"]["_meta"] = json!({"progressToken": "t"});
    assert_eq!(running.send("POST", &path, &json_type, body.to_string()).await.status, 202);
    read(&mut stream, &mut text, "\"id\": 1").await;
    assert_eq!(text.matches("event: message").count(), 4, "{text}");
    drop(stream);
    until("the end of the session", || running.bridge.sessions.count() == 0).await;
    running.end().await;
}

#[tokio::test]
async fn batches_belong_to_one_revision() {
    let running = Running::start("legacy", &[]).await;
    let answer = running.post("", &initialize("2025-03-26")).await;
    let session = answer.headers["mcp-session-id"].to_str().unwrap().to_owned();
    let batch = json!([call(json!(1), "pid", json!({})), call(json!("2"), "none", json!({}))]).to_string();
    let answers = running.post(&session, &batch).await.message().await;
    assert_eq!((&answers[0]["id"], &answers[1]["id"], &answers[1]["error"]["code"]), (&json!(1), &json!("2"), &json!(-32602)));
    let session = running.session().await;
    assert_eq!(running.post(&session, &batch).await.status, 400);
    running.end().await;
}

#[tokio::test]
async fn a_batch_in_which_a_server_says_more_than_answers_is_a_stream_of_events() {
    let running = Running::start("legacy", &[]).await;
    let answer = running.post("", &initialize("2025-03-26")).await;
    let session = answer.headers["mcp-session-id"].to_str().unwrap().to_owned();
    let mut progress = call(json!(1), "progress", json!({"n": 2}));
    progress["params"]["_meta"] = json!({"progressToken": "t"});
    let bad = json!({"jsonrpc": "2.0", "id": 3});
    let batch = json!([progress, bad, call(json!(2), "pid", json!({}))]).to_string();
    let answer = running.post(&session, &batch).await;
    assert_eq!(answer.headers["content-type"], "text/event-stream");
    let messages = answer.messages().await;
    let of_progress = messages.iter().filter(|message| message["method"] == "notifications/progress").count();
    let answered = |id: Value| messages.iter().any(|message| message["id"] == id && message["result"].is_object());
    assert!(of_progress == 2 && answered(json!(1)) && answered(json!(2)), "{messages:?}");
    assert!(messages.iter().any(|message| message["error"]["code"] == -32600), "{messages:?}");
    // What is wrong with one message is answered beside the others.
    let batch = json!([call(json!(4), "pid", json!({})), bad]).to_string();
    let answers = running.post(&session, &batch).await.message().await;
    let codes: Vec<_> = answers.as_array().unwrap().iter().map(|answer| &answer["error"]["code"]).collect();
    assert!(codes.len() == 2 && codes.contains(&&json!(-32600)) && codes.contains(&&Value::Null), "{answers}");
    // A question in the middle of a batch reaches the client, and its answer the server.
    let batch = json!([call(json!(5), "ask", json!({}))]).to_string();
    let mut asked = running.post(&session, &batch).await;
    let mut text = String::new();
    while !text.contains("elicitation/create") {
        let frame = asked.body.frame().await.unwrap().unwrap();
        text.push_str(&String::from_utf8_lossy(frame.data_ref().unwrap()));
    }
    let said = json!({"jsonrpc": "2.0", "id": "s1", "result": {"action": "accept"}});
    assert_eq!(running.post(&session, &said.to_string()).await.status, 202);
    assert_eq!(asked.message().await["result"]["said"], json!({"action": "accept"}));
    running.end().await;
}

#[tokio::test]
async fn a_silent_answer_can_be_fetched_by_who_comes_back() {
    let running = Running::start("legacy", &[]).await;
    let session = running.session().await;
    let mut slow = running.post(&session, &call(json!(1), "slow", json!({"s": 2})).to_string()).await;
    assert_eq!(slow.headers["content-type"], "text/event-stream");
    let first = slow.body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(first.starts_with(b"id: "), "{first:?}");
    let id = String::from_utf8_lossy(&first[4..]).lines().next().unwrap().to_owned();
    drop(slow);
    let again = [("mcp-session-id", session.as_str()), ("last-event-id", id.as_str())];
    let messages = running.send("GET", "/mcp", &again, "").await.messages().await;
    assert_eq!(messages[0]["result"], json!({"slow": true}));
    running.end().await;
}

#[tokio::test]
async fn a_server_that_does_not_work_is_said_to_be_unhealthy() {
    let options = Arguments::parse_from(["mcp-bridge", "--", "/nowhere/server"]).resolve().unwrap();
    let listener = http::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let bridge = Bridge::start(Context::new(options, false)).unwrap();
    let server = http::serve(&bridge, listener);
    let running = Running { bridge, address, server };
    let health = running.send("GET", "/health", &[], "").await;
    assert_eq!(health.status, 503);
    running.end().await;
    let running = Running::start("legacy", &[]).await;
    let bridge = Arc::clone(&running.bridge);
    until("health", || bridge.common.health().is_ok()).await;
    assert_eq!(running.send("GET", "/health", &[], "").await.status, 200);
    assert!(running.send("GET", "/metrics", &[], "").await.text().await.contains("mcp_bridge_children "));
    running.end().await;
}

#[tokio::test]
async fn a_server_that_is_started_again_hears_of_the_log_level_and_of_subscriptions() {
    for mode in ["per_session", "shared"] {
        let running = Running::start("legacy", &["--session-mode", mode]).await;
        let session = running.session().await;
        let say = async |method: &str, params: Value| {
            let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
            running.post(&session, &body).await.message().await
        };
        say("logging/setLevel", json!({"level": "debug"})).await;
        for uri in ["a:1", "a:2", "no:3"] {
            say("resources/subscribe", json!({"uri": uri})).await;
        }
        say("resources/unsubscribe", json!({"uri": "a:1"})).await;
        running.call(&session, "die", json!({})).await;
        until_async("the next server has heard what holds, and nothing else", async || {
            let state = &say("state", json!({})).await["result"];
            state["uris"] == json!(["a:2"]) && state["level"] == "debug"
        })
        .await;
        running.end().await;
    }
}

#[tokio::test]
async fn a_session_is_subscribed_to_no_more_than_is_kept_of_it() {
    for (era, mode) in [("legacy", "per_session"), ("legacy", "shared"), ("modern", "per_session")] {
        let running = Running::start(era, &["--session-mode", mode]).await;
        let session = running.session().await;
        let say = async |method: &str, uri: &str| {
            let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": {"uri": uri}}).to_string();
            running.post(&session, &body).await.message().await
        };
        let (one, other) = (format!("a:{}", "x".repeat(200_000)), format!("a:{}", "y".repeat(200_000)));
        if era == "legacy" {
            let refused = say("resources/subscribe", &format!("no:{one}")).await;
            assert_eq!(refused["error"]["message"], "no such resource", "what the server refuses takes no room");
        }
        assert_eq!(say("resources/subscribe", &one).await["error"], Value::Null, "{era}, {mode}");
        let error = &say("resources/subscribe", &other).await["error"];
        assert_eq!(error["code"], -32602, "{era}, {mode}");
        assert!(error["message"].as_str().unwrap().contains("unsubscribe from some first"), "{error}");
        assert_eq!(say("resources/unsubscribe", &one).await["error"], Value::Null, "{era}, {mode}");
        assert_eq!(say("resources/subscribe", &other).await["error"], Value::Null, "{era}, {mode}");
        running.end().await;
    }
}
