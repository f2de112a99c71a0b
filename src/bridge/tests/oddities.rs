//! Claims about what is odd on either side, and hurts nobody else: ids, names, revisions, event ids, answers without an id.

use super::*;

#[tokio::test]
async fn health_says_when_no_session_can_be_opened_and_when_one_could_again() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken");
    let running = Running::start(&format!("legacy; test -e {} && exit 7;", broken.display()), &[]).await;
    let health = async || {
        let health = running.send("GET", "/health", &[], "").await;
        (health.status.as_u16(), health.text().await)
    };
    running.session().await;
    until_async("health", async || health().await.0 == 200).await;
    std::fs::write(&broken, "").unwrap();
    // What was started before still serves.
    let opened = async || running.post("", &initialize("2025-11-25")).await.message().await["result"].is_object();
    until_async("sessions open no more", async || !opened().await).await;
    let (status, says) = health().await;
    assert_eq!(status, 503, "{says}");
    assert!(says.contains("the server exited with status 7"), "{says}");
    std::fs::remove_file(&broken).unwrap();
    until_async("health without anybody asking for a session", async || health().await.0 == 200).await;
    assert!(opened().await);
    running.end().await;
}

#[tokio::test]
async fn a_revision_that_nobody_speaks_is_refused_within_a_session_whatever_is_asked() {
    let running = Running::start("legacy", &[]).await;
    let session = running.session().await;
    let request = call(json!(1), "pid", json!({})).to_string();
    let notification = json!({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}).to_string();
    for (method, body) in [("POST", &request), ("POST", &notification), ("GET", &String::new()), ("DELETE", &String::new())] {
        let headers = [
            ("content-type", "application/json"),
            ("accept", "application/json, text/event-stream"),
            ("mcp-session-id", session.as_str()),
            ("mcp-protocol-version", "1999-01-01"),
        ];
        let refused = running.send(method, "/mcp", &headers, body.clone()).await;
        assert_eq!(refused.status, 400, "{method} {body}");
        let says = refused.text().await;
        assert!(
            ["MCP-Protocol-Version", "1999-01-01", "2026-07-28, 2025-11-25"].iter().all(|part| says.contains(part)),
            "{says}"
        );
        for version in ["2025-06-18", "2025-11-25"] {
            let headers = [headers[0], headers[1], headers[2], ("mcp-protocol-version", version)];
            assert_eq!(running.send("POST", "/mcp", &headers, request.clone()).await.status, 200, "{version}");
        }
    }
    running.end().await;
}

#[tokio::test]
async fn an_error_for_what_a_server_could_not_read_answers_the_only_call_that_waits() {
    for era in ["legacy", "modern"] {
        for mode in ["per_session", "shared"] {
            let running = Running::start(era, &["--session-mode", mode]).await;
            let session = running.session().await;
            for is_null in [true, false] {
                let answer = running.call(&session, "unread", json!({"null": is_null})).await;
                let error = json!({"code": -32700, "message": "cannot read this", "data": [1e99]});
                assert_eq!((&answer["id"], &answer["error"]), (&json!(1), &error), "{era}, {mode}");
            }
            for rest in [r#""result":{}"#, r#""error":"no object""#] {
                let text = format!(r#"{{"jsonrpc":"2.0","id":null,{rest}}}"#);
                let answer = running.call(&session, "raw", json!({"text": text})).await;
                let error = json!({"code": -32603, "message": "the server could not read the request"});
                assert_eq!((&answer["id"], &answer["error"]), (&json!(1), &error), "{era}, {mode}");
            }
            running.end().await;
        }
    }
}

#[tokio::test]
async fn a_call_is_cancelled_by_its_very_id_also_where_numbers_cannot_tell_it_from_others() {
    let running = Running::start("legacy", &[]).await;
    let session = running.session().await;
    // All of them are the same as a double.
    let ids: Vec<Value> = (0..20_u64).map(|number| json!((1_u64 << 60) + number)).collect();
    let calls = ids
        .iter()
        .map(async |id| running.post(&session, &call(id.clone(), "hang", json!({})).to_string()).await.messages().await);
    let pending = || running.bridge.context.links.pending();
    let cancelling = async {
        until("all wait", || pending() == ids.len()).await;
        let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": ids[13]}});
        assert_eq!(running.post(&session, &cancel.to_string()).await.status, 202);
        until("one waits no more", || pending() == ids.len() - 1).await;
        running.call(&session, "die", json!({})).await
    };
    let (answers, _) = tokio::join!(futures_util::future::join_all(calls), cancelling);
    for (number, (id, answers)) in ids.iter().zip(answers).enumerate() {
        let answered: Vec<_> = answers.iter().map(|answer| &answer["id"]).collect();
        assert_eq!(answered, if number == 13 { vec![] } else { vec![id] }, "{id}");
    }
    running.end().await;
}

#[tokio::test]
async fn the_answer_behind_a_flood_can_be_fetched_by_a_client_that_was_too_slow() {
    let running = Running::start("legacy", &["--max-queue", "100000", "--replay", "50000"]).await;
    let session = running.session().await;
    let mut slow = running.post(&session, &call(json!(1), "burst", json!({"n": 4000})).to_string()).await;
    let first = slow.body.frame().await.unwrap().unwrap().into_data().unwrap();
    let id = String::from_utf8_lossy(&first[4..]).lines().next().unwrap().to_owned();
    // Nothing more is read, until the server has said all.
    let pending = || running.bridge.context.links.pending();
    until("the call is answered", || pending() == 0).await;
    assert!(running.bridge.context.metrics.messages_dropped.value() > 0, "the client was cut off");
    drop(slow);
    let session_held = || running.bridge.sessions.get(&session).unwrap().held();
    until("no more is kept than shall be", || session_held() <= 50_000).await;
    let again = [("mcp-session-id", session.as_str()), ("last-event-id", id.as_str())];
    let answer = running.send("GET", "/mcp", &again, "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.message().await["result"], json!({"burst": 4000}));
    running.end().await;
}

#[tokio::test]
async fn event_ids_and_names_of_members_may_be_as_odd_as_they_like() {
    let running = Running::start("legacy", &[]).await;
    let session = running.session().await;
    for id in ["0-18446744073709551615", "0-0"] {
        let headers = [("mcp-session-id", session.as_str()), ("accept", "text/event-stream"), ("last-event-id", id)];
        assert_eq!(running.send("GET", "/mcp", &headers, "").await.status, 200, "{id}");
    }
    let body = r#"{"jsonrpc":"2.0","x\u00e9":1,"id":1,"method":"tools/call","params":{"name":"pid"}}"#;
    assert!(running.post(&session, body).await.message().await["result"]["pid"].is_number());
    running.end().await;
}

#[tokio::test]
async fn values_nested_too_deep_are_refused_either_way_by_an_error_that_names_the_limit() {
    let running = Running::start("legacy", &[]).await;
    let session = running.session().await;
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let ask = |depth: usize| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{}}}"#, nested(depth));
    let refused = running.post(&session, &ask(257)).await;
    assert_eq!(refused.status, 400);
    let error = refused.message().await["error"].clone();
    assert_eq!(error["code"], -32700);
    assert!(error["message"].as_str().unwrap().contains("nested deeper than 256 levels"), "{error}");
    assert_eq!(running.post(&session, &ask(256)).await.status, 200);
    let answer = running.call(&session, "deep", json!({"depth": 257})).await;
    assert!(answer["error"]["message"].as_str().unwrap().contains("nested deeper than 256 levels"), "{answer}");
    let answer = running.call(&session, "deep", json!({"depth": 100})).await;
    assert!(answer["result"].is_array(), "{answer}");
    running.end().await;
}

#[tokio::test]
async fn an_answer_that_nobody_waited_for_is_kept_however_large_until_it_has_been_fetched() {
    let running = Running::start("legacy", &["--replay", "10000"]).await;
    let session = running.session().await;
    let mut slow = running.post(&session, &call(json!(1), "big", json!({"size": 50_000, "s": 2})).to_string()).await;
    let first = slow.body.frame().await.unwrap().unwrap().into_data().unwrap();
    let id = String::from_utf8_lossy(&first[4..]).lines().next().unwrap().to_owned();
    drop(slow);
    let pending = || running.bridge.context.links.pending();
    until("the call is answered", || pending() == 0).await;
    // What is done every now and then.
    running.bridge.sessions.sweep();
    let again = [("mcp-session-id", session.as_str()), ("last-event-id", id.as_str())];
    let answer = running.send("GET", "/mcp", &again, "").await.message().await;
    assert_eq!(answer["result"]["text"].as_str().map(str::len), Some(50_000));
    running.bridge.sessions.sweep();
    let held = || running.bridge.sessions.get(&session).unwrap().held();
    until("no more is kept than shall be", || held() <= 10_000).await;
    running.end().await;
}

#[tokio::test]
async fn an_answer_that_is_no_proper_message_fails_its_call_and_no_other_one() {
    for mode in ["per_session", "shared"] {
        let running = Running::start("legacy", &["--session-mode", mode, "--max-message", "20000"]).await;
        let session = running.session().await;
        let id = json!("other");
        let other = running.post_call(&session, &id, "hang");
        let calls = async {
            until("the other call waits", || running.bridge.context.links.alive().iter().any(|link| link.pending() == 1)).await;
            for (text, says) in [
                (r#"{"jsonrpc":"2.0","id":$ID}"#, "no method, no result and no error"),
                (r#"{"id":$ID,"result":{}}"#, "member jsonrpc"),
                (r#"{"jsonrpc":"2.0","\u0069d":$ID,"result":{}}"#, "escaped"),
                (r#"{"jsonrpc":"2.0","id":$ID,"result":{},"error":{"code":1,"message":"m"}}"#, "a result and an error"),
                (r#"{"jsonrpc":"2.0","id":$ID,"result":{"no JSON"}}"#, "no JSON"),
            ] {
                let error = running.call(&session, "raw", json!({"text": text})).await["error"].clone();
                assert_eq!(error["code"], -32603, "{text}: {error}");
                assert!(error["message"].as_str().unwrap().contains(says), "{text}: {error}");
            }
            let long = running.call(&session, "big", json!({"size": 30_000})).await;
            assert_eq!(long["error"]["message"], "the server's answer is longer than 20000 bytes");
            for (text, expected) in [
                (r#"{"jsonrpc":"2.0","id":$ID,"result":{"x":1},"error":null}"#, json!({"id": 1, "result": {"x": 1}})),
                (
                    r#"{"jsonrpc":"2.0","id":$ID,"result":null,"error":{"code":7,"message":"m"}}"#,
                    json!({"id": 1, "error": {"code": 7, "message": "m"}}),
                ),
                ("\u{feff}{\"jsonrpc\":\"2.0\",\"id\":$ID,\"result\":{}}", json!({"id": 1, "result": {}})),
            ] {
                let mut answer = running.call(&session, "raw", json!({"text": text})).await;
                assert_eq!(answer.as_object_mut().unwrap().remove("jsonrpc"), Some("2.0".into()));
                assert_eq!(answer, expected, "{text}");
            }
            running.send("DELETE", "/mcp", &[("mcp-session-id", &session)], "").await;
        };
        let all = async { tokio::join!(other, calls) };
        let (other, ()) = tokio::time::timeout(Duration::from_secs(30), all).await.expect("all calls are answered");
        assert_eq!(other["error"]["message"], "the session has ended", "the other call waited until then");
        running.end().await;
    }
}

#[tokio::test]
async fn an_answer_behind_half_a_line_arrives_and_one_that_is_broken_fails_its_call_and_no_log_does() {
    for mode in ["per_session", "shared"] {
        let running = Running::start("legacy", &["--session-mode", mode]).await;
        let session = running.session().await;
        let said = async |text: &str| {
            let answer = running.call(&session, "raw", json!({"text": text}));
            tokio::time::timeout(Duration::from_secs(20), answer).await.unwrap_or_else(|_| panic!("{mode}: {text} hangs"))
        };
        let whole = r#"{"jsonrpc":"2.0","id":$ID,"result":{"x":1}}"#;
        for line in [
            format!(r#"{{"{whole}"#),
            format!(r#"{{"level":"info"}}{whole}"#),
            // What is logged before an answer, or of one.
            format!("sent {{\"jsonrpc\":\"2.0\",\"id\":$ID,\"result\":\n{whole}"),
            format!("{{\"level\":\"warn\",\"error\":\n{whole}"),
            format!("{{\"level\":\"debug\",\"sent\":{{\"jsonrpc\":\"2.0\",\"id\":$ID,\"result\":{{}}}}}}\n{whole}"),
        ] {
            let answer = said(&line).await;
            assert_eq!((&answer["id"], &answer["result"]), (&json!(1), &json!({"x": 1})), "{mode}: {line}");
        }
        for line in [
            r#"{"{"jsonrpc":"2.0","id":$ID,"result":{"x":"#,
            r#"{"jsonrpc":"2.0","id":$ID,"result":{"x":"ab{"jsonrpc":"2.0","id":"nobody's","result":{}}"#,
        ] {
            let error = said(line).await["error"].clone();
            assert_eq!(error["code"], -32603, "{mode}: {line}");
            assert!(error["message"].as_str().unwrap().contains("no JSON"), "{mode}: {error}");
        }
        running.end().await;
    }
}

#[tokio::test]
async fn no_client_says_a_name_twice_that_could_mean_another_clients_call() {
    for (mode, is_shared) in [("shared", true), ("per_session", false)] {
        let running = Running::start("legacy", &["--session-mode", mode]).await;
        let session = running.session().await;
        for (body, name) in [
            (r#"{"jsonrpc":"2.0","id":3,"id":1003,"method":"tools/call","params":{"name":"pid"}}"#, "id"),
            (r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{},"params":{"name":"pid"}}"#, "params"),
        ] {
            let refused = running.post(&session, body).await;
            assert_eq!(refused.status, 400, "{body}");
            let error = refused.message().await["error"].clone();
            assert_eq!(error["code"], -32600, "{error}");
            assert!(error["message"].as_str().unwrap().contains(&format!("{name} occurs twice")), "{error}");
        }
        for (params, name) in [
            (r#""_meta":{"progressToken":1},"name":"pid","_meta":{"progressToken":2}"#, "_meta"),
            (r#""name":"pid","_meta":{"progressToken":1,"progressT\u006fken":2}"#, "progressToken"),
        ] {
            let body = format!(r#"{{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{{{params}}}}}"#);
            let answer = running.post(&session, &body).await;
            assert_eq!(answer.status, if is_shared { 400 } else { 200 }, "{mode}: {body}");
            let answer = answer.message().await;
            let says = answer["error"]["message"].as_str().unwrap_or_default();
            assert_eq!(says.contains(&format!("{name} occurs twice")), is_shared, "{mode}: {answer}");
        }
        running.end().await;
    }
}
