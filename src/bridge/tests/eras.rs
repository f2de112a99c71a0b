//! Claims about the stateless era, and about clients of one era at servers of the other.

use super::*;

#[tokio::test]
async fn questions_of_a_server_reach_the_client_and_its_answers_the_server() {
    for (era, question) in [("legacy", json!("s1")), ("modern", json!("mcp-bridge-1"))] {
        let running = Running::start(era, &[]).await;
        let session = running.session().await;
        let mut asked = running.post(&session, &call(json!(1), "ask", json!({})).to_string()).await;
        let mut text = String::new();
        while !text.contains("elicitation/create") {
            let frame = asked.body.frame().await.unwrap().unwrap();
            text.push_str(&String::from_utf8_lossy(frame.data_ref().unwrap()));
        }
        let said = json!({"jsonrpc": "2.0", "id": question, "result": {"action": "accept"}});
        assert_eq!(running.post(&session, &said.to_string()).await.status, 202);
        let message = asked.message().await;
        let expected = if era == "legacy" { json!({"action": "accept"}) } else { json!({"k": {"action": "accept"}}) };
        assert_eq!(message["result"]["said"], expected, "{era}");
        running.end().await;
    }
}

#[tokio::test]
async fn a_call_that_is_cancelled_while_its_client_is_asked_does_not_run() {
    let running = Running::start("modern", &[]).await;
    let session = running.session().await;
    let mut asked = running.post(&session, &call(json!("c"), "ask", json!({})).to_string()).await;
    let mut text = String::new();
    while !text.contains("elicitation/create") {
        text.push_str(&String::from_utf8_lossy(asked.body.frame().await.unwrap().unwrap().data_ref().unwrap()));
    }
    let cancelled = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "c"}});
    assert_eq!(running.post(&session, &cancelled.to_string()).await.status, 202);
    let said = json!({"jsonrpc": "2.0", "id": "mcp-bridge-1", "result": {"action": "accept"}});
    assert_eq!(running.post(&session, &said.to_string()).await.status, 202);
    let messages = asked.messages().await;
    let [withdrawn] = &messages[..] else { panic!("the call is answered: {messages:?}") };
    assert_eq!(withdrawn["method"], "notifications/cancelled");
    assert_eq!(withdrawn["params"]["requestId"], "mcp-bridge-1");
    let state = json!({"jsonrpc": "2.0", "id": 1, "method": "state"});
    let state = running.post(&session, &state.to_string()).await.message().await;
    assert_eq!(state["result"]["answered"], Value::Null, "the server was not called again");
    running.end().await;
}

#[tokio::test]
async fn a_question_that_the_client_does_not_answer_ends_the_call_in_time() {
    let running = Running::start("modern", &["--request-timeout", "6"]).await;
    let session = running.session().await;
    let messages = running.post(&session, &call(json!("c"), "ask", json!({})).to_string()).await.messages().await;
    let [question, withdrawn, answer] = &messages[..] else { panic!("{messages:?}") };
    assert_eq!(withdrawn["params"]["requestId"], question["id"]);
    assert_eq!(answer["error"]["message"], "the client did not answer within 6 s");
    running.end().await;
}

#[tokio::test]
async fn a_client_of_the_stateless_era_meets_servers_of_both() {
    for era in ["legacy", "modern"] {
        let running = Running::start(era, &[]).await;
        let mut discover = modern_call(json!("d"), "", json!({}), json!({}));
        discover["method"] = "server/discover".into();
        let discovered = running.modern(discover).await.message().await;
        assert_eq!(discovered["id"], "d");
        assert_eq!(discovered["result"]["supportedVersions"][0], "2026-07-28", "{discovered}");
        assert_eq!(discovered["result"]["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "script");
        let pid = running.modern(modern_call(json!(7), "pid", json!({}), json!({}))).await.message().await;
        assert_eq!(pid["id"], 7);
        if era == "legacy" {
            assert_eq!(pid["result"]["resultType"], "complete");
        }
        let mut ping = modern_call(json!(1), "", json!({}), json!({}));
        ping["method"] = "ping".into();
        let refused = running.modern(ping).await;
        assert_eq!(refused.status, 404);
        assert_eq!(refused.message().await["error"]["code"], -32601);
        running.end().await;
    }
}

#[tokio::test]
async fn a_question_of_an_earlier_server_becomes_a_round_trip() {
    let running = Running::start("legacy", &[]).await;
    let capabilities = json!({"elicitation": {}});
    let first = running.modern(modern_call(json!(1), "ask", json!({}), capabilities.clone())).await.message().await;
    assert_eq!(first["result"]["resultType"], "input_required", "{first}");
    let (name, question) = first["result"]["inputRequests"].as_object().unwrap().iter().next().unwrap();
    assert_eq!(question["method"], "elicitation/create");
    let mut again = modern_call(json!(2), "ask", json!({}), capabilities.clone());
    again["params"]["requestState"] = first["result"]["requestState"].clone();
    let unanswered = running.modern(again.clone()).await.message().await;
    assert_eq!(unanswered["result"]["resultType"], "input_required");
    again["params"]["requestState"] = unanswered["result"]["requestState"].clone();
    again["params"]["inputResponses"] = json!({name.as_str(): {"action": "accept"}});
    let last = running.modern(again.clone()).await.message().await;
    assert_eq!((&last["id"], &last["result"]["said"]), (&json!(2), &json!({"action": "accept"})), "{last}");
    let replayed = running.modern(again).await.message().await;
    assert_eq!(replayed["error"]["code"], -32602);
    running.end().await;
}

#[tokio::test]
async fn calls_that_may_ask_their_client_wait_for_a_server_while_there_are_as_many_as_there_may_be() {
    // Nine processes, of which one is for calls that ask nothing.
    let running = Running::start("legacy", &["--max-sessions", "1", "--spare", "0"]).await;
    let capabilities = json!({"elicitation": {}});
    let calls = (0..20).map(|id| running.modern(modern_call(json!(id), "slow", json!({"s": 0.1}), capabilities.clone())));
    for answer in futures_util::future::join_all(calls).await {
        assert_eq!(answer.status, 200);
        assert_eq!(answer.message().await["result"]["slow"], true);
    }
    // Whoever never comes back is in nobody's way.
    let mut states = Vec::new();
    for id in 0..10 {
        let asked = running.modern(modern_call(json!(id), "ask", json!({}), capabilities.clone())).await.message().await;
        assert_eq!(asked["result"]["resultType"], "input_required", "{asked}");
        states.push((asked["result"]["requestState"].clone(), asked["result"]["inputRequests"].clone()));
    }
    let resumed = async |(state, questions): &(Value, Value)| {
        let mut again = modern_call(json!(11), "ask", json!({}), capabilities.clone());
        let name = questions.as_object().unwrap().keys().next().unwrap().clone();
        again["params"]["requestState"] = state.clone();
        again["params"]["inputResponses"] = json!({name: {"action": "accept"}});
        running.modern(again).await.message().await
    };
    assert_eq!(resumed(&states[0]).await["error"]["code"], -32602, "the one that has waited longest has made room");
    assert_eq!(resumed(&states[9]).await["result"]["said"], json!({"action": "accept"}));
    running.end().await;
}

#[tokio::test]
async fn a_server_of_an_earlier_era_hears_nothing_of_the_other_one() {
    let running = Running::start("legacy", &[]).await;
    for capabilities in [json!({}), json!({"elicitation": {}})] {
        let mut body = modern_call(json!(1), "echo", json!({}), capabilities);
        body["params"]["_meta"]["mine"] = json!({"x": 1});
        let answer = running.modern(body).await.message().await;
        assert_eq!(answer["had"]["_meta"], json!({"mine": {"x": 1}}), "{answer}");
        assert_eq!(answer["result"]["resultType"], "complete");
    }
    running.end().await;
}

#[tokio::test]
async fn headers_must_say_what_the_body_says() {
    let running = Running::start("modern", &[]).await;
    let body = modern_call(json!(1), "pid", json!({}), json!({})).to_string();
    let base = [("content-type", "application/json"), ("mcp-protocol-version", "2026-07-28")];
    for more in [
        &[][..],
        &[("mcp-method", "tools/call")],
        &[("mcp-method", "tools/list"), ("mcp-name", "pid")],
        &[("mcp-method", "tools/call"), ("mcp-name", "other")],
        &[("mcp-method", "tools/call"), ("mcp-name", "=?base64?!?=")],
    ] {
        let refused = running.send("POST", "/mcp", &[&base[..], more].concat(), body.clone()).await;
        assert_eq!(refused.status, 400);
        assert_eq!(refused.message().await["error"]["code"], -32020);
    }
    let encoded = [&base[..], &[("mcp-method", "tools/call"), ("mcp-name", "=?base64?cGlk?=")]].concat();
    assert_eq!(running.send("POST", "/mcp", &encoded, body).await.status, 200);
    running.end().await;
}

#[tokio::test]
async fn initialize_agrees_on_a_revision_whatever_the_header_says() {
    for era in ["legacy", "modern"] {
        let running = Running::start(era, &[]).await;
        for version in ["2026-07-28", "1999-01-01", "x"] {
            let headers = [("content-type", "application/json"), ("mcp-protocol-version", version), ("mcp-method", "initialize")];
            let answer = running.send("POST", "/mcp", &headers, initialize("2025-11-25")).await;
            assert_eq!(answer.status, 200, "{era}, {version}");
            let session = answer.headers["mcp-session-id"].to_str().unwrap().to_owned();
            assert_eq!(answer.message().await["result"]["protocolVersion"], "2025-11-25", "{era}, {version}");
            assert!(running.call(&session, "pid", json!({})).await["result"]["pid"].is_number(), "{era}, {version}");
        }
        running.end().await;
    }
}

#[tokio::test]
async fn a_request_without_a_session_whose_header_and_body_name_different_revisions_is_told_so() {
    let running = Running::start("legacy", &[]).await;
    let session = running.session().await;
    let body = modern_call(json!(1), "pid", json!({}), json!({})).to_string();
    let headers =
        [("content-type", "application/json"), ("mcp-protocol-version", "2025-11-25"), ("mcp-session-id", session.as_str())];
    let refused = running.send("POST", "/mcp", &headers[..2], body.clone()).await;
    assert_eq!(refused.status, 400);
    let error = refused.message().await["error"].clone();
    assert_eq!(error["code"], -32020, "{error}");
    assert!(error["message"].as_str().unwrap().contains("MCP-Protocol-Version is '2025-11-25'"), "{error}");
    assert_eq!(running.send("POST", "/mcp", &headers, body).await.status, 200, "a session has agreed on its revision");
    let plain = call(json!(1), "pid", json!({})).to_string();
    let refused = running.send("POST", "/mcp", &headers[..2], plain).await.message().await["error"].clone();
    assert_eq!(refused["code"], -32600, "{refused}");
    running.end().await;
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_request() {
    let running = Running::start("modern", &[]).await;
    running.modern(modern_call(json!(1), "pid", json!({}), json!({}))).await;
    let hanging = running.modern(modern_call(json!(1), "hang", json!({}), json!({})));
    assert!(tokio::time::timeout(Duration::from_millis(500), hanging).await.is_err());
    let pending = || running.bridge.context.links.pending();
    until("the end of the request", || pending() == 0).await;
    let mut state = modern_call(json!(1), "", json!({}), json!({}));
    state["method"] = "state".into();
    assert!(running.modern(state).await.message().await["result"]["cancelled"].is_number());
    running.end().await;
}

#[tokio::test]
async fn changes_reach_who_asked_for_them() {
    let running = Running::start("legacy", &[]).await;
    let mut listen = modern_call(json!("sub"), "", json!({}), json!({}));
    listen["method"] = "subscriptions/listen".into();
    listen["params"]["notifications"] = json!({"toolsListChanged": true, "promptsListChanged": true});
    let mut stream = running.modern(listen).await;
    let mut text = String::new();
    running.modern(modern_call(json!(1), "change", json!({}), json!({}))).await;
    while !text.contains("list_changed") {
        let frame = stream.body.frame().await.unwrap().unwrap();
        text.push_str(&String::from_utf8_lossy(frame.data_ref().unwrap()));
    }
    let mut said =
        text.lines().filter_map(|line| line.strip_prefix("data: ")).map(|data| serde_json::from_str::<Value>(data).unwrap());
    let acknowledged = said.next().unwrap();
    assert_eq!(acknowledged["params"]["notifications"], json!({"toolsListChanged": true}));
    assert_eq!(said.next().unwrap()["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], "sub");
    drop(stream);
    running.end().await;
}

#[tokio::test]
async fn a_server_that_says_nothing_to_the_question_for_its_era_is_initialised_soon() {
    // The first passes over what it does not know. The second answers the question only when it has refused `initialize`.
    for (script, version) in [("legacy MUTE=1", "1"), ("modern LATE=1", "2")] {
        let mut options = Running::options(script, &[]);
        options.silence = Duration::from_millis(300);
        let running = Running::over(options).await;
        until_async("it is ready", async || running.send("GET", "/health", &[], "").await.status == 200).await;
        let mut discover = modern_call(json!("d"), "", json!({}), json!({}));
        discover["method"] = "server/discover".into();
        let discovered = running.modern(discover).await.message().await;
        assert_eq!(discovered["result"]["_meta"]["io.modelcontextprotocol/serverInfo"]["version"], version, "{discovered}");
        let pending = || running.bridge.context.links.pending();
        until("nothing waits any more", || pending() == 0).await;
        running.end().await;
    }
}

#[tokio::test]
async fn a_server_that_is_started_again_hears_of_the_resources_of_a_subscription() {
    let running = Running::start("legacy", &[]).await;
    let mut listen = modern_call(json!("sub"), "", json!({}), json!({}));
    listen["method"] = "subscriptions/listen".into();
    listen["params"]["notifications"] = json!({"resourceSubscriptions": ["a:1"]});
    let stream = running.modern(listen).await;
    running.modern(modern_call(json!(1), "die", json!({}), json!({}))).await;
    let mut state = modern_call(json!(1), "", json!({}), json!({}));
    state["method"] = "state".into();
    until_async("the next server has heard of it", async || {
        running.modern(state.clone()).await.message().await["result"]["uris"] == json!(["a:1"])
    })
    .await;
    drop(stream);
    until_async("it has heard of the end", async || {
        running.modern(state.clone()).await.message().await["result"]["uris"] == json!([])
    })
    .await;
    running.end().await;
}

#[tokio::test]
async fn subscriptions_have_a_limit_of_their_own_and_keep_no_call_from_being_answered() {
    let running = Running::start("modern", &["--max-pending", "4"]).await;
    let listens = (0..5).map(|id| {
        let mut listen = modern_call(json!(id), "", json!({}), json!({}));
        listen["method"] = "subscriptions/listen".into();
        running.modern(listen)
    });
    let (refused, open): (Vec<_>, Vec<_>) =
        futures_util::future::join_all(listens).await.into_iter().partition(|answer| answer.status == 503);
    assert_eq!(open.len(), 4);
    let says = refused.into_iter().next().unwrap().message().await["error"]["message"].to_string();
    assert!(says.contains("4 subscriptions are open"), "{says}");
    assert_eq!(running.modern(modern_call(json!("c"), "pid", json!({}), json!({}))).await.status, 200);
    drop(open);
    running.end().await;
}

#[tokio::test]
async fn a_client_of_the_stateless_era_is_asked_what_it_offers_and_nothing_else() {
    let running = Running::start("legacy", &[]).await;
    let methods = ["sampling/createMessage", "elicitation/create", "roots/list"];
    for (offered, its) in ["sampling", "elicitation", "roots"].into_iter().zip(methods) {
        for method in methods {
            let asking = modern_call(json!(1), "ask", json!({"method": method}), json!({offered: {}}));
            let answer = running.modern(asking).await.message().await;
            if method == its {
                assert_eq!(answer["result"]["resultType"], "input_required", "{offered}, {method}: {answer}");
            } else {
                let refused = json!({"code": -32601, "message": format!("the clients of this server do not offer {method}")});
                assert_eq!(answer["result"]["refused"], refused, "{offered}, {method}: {answer}");
            }
        }
    }
    running.end().await;
}

#[tokio::test]
async fn a_client_that_refuses_a_question_of_a_stateless_server_is_not_asked_again() {
    let running = Running::start("modern", &[]).await;
    let session = running.session().await;
    let error = json!({"code": -1, "message": "the user says no", "data": {"why": 7}});
    let methods = ["elicitation/create", "sampling/createMessage", "roots/list"];
    for (number, method) in methods.into_iter().enumerate() {
        let body = call(json!("asking"), "ask", json!({"method": method}));
        let mut asked = running.post(&session, &body.to_string()).await;
        let mut text = String::new();
        while !text.contains(method) {
            text.push_str(&String::from_utf8_lossy(asked.body.frame().await.unwrap().unwrap().data_ref().unwrap()));
        }
        let said = json!({"jsonrpc": "2.0", "id": format!("mcp-bridge-{}", number + 1), "error": error});
        assert_eq!(running.post(&session, &said.to_string()).await.status, 202);
        let messages = asked.messages().await;
        let [last] = &messages[..] else { panic!("{method}: the client is asked again: {messages:?}") };
        assert_eq!(last["id"], "asking", "{method}");
        if method == "elicitation/create" {
            assert_eq!(last["result"]["said"], json!({"k": {"action": "cancel"}}), "{last}");
        } else {
            assert_eq!(last["error"], error, "{method}");
        }
    }
    running.end().await;
}
