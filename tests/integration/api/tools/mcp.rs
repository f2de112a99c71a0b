//! `/mcp`, spoken to message by message in both protocol eras.

use mcp_manager::tools::TOOLS;
use reqwest::Method;
use serde_json::{Value, json};

use super::super::access::with_keys;
use crate::support::mcp::{Session, stateless, stateless_with};
use crate::support::product::{Options, Product};
use crate::support::{eventually, http_client, podman};

fn call(tool: &str, arguments: &Value) -> Value {
    json!({"name": tool, "arguments": arguments})
}

#[tokio::test]
async fn both_eras_find_the_same_tools_and_get_the_same_answers() {
    let product = Product::start(Options::memory()).await;
    let url = format!("{}/mcp", product.url);
    let session = Session::open(&product.client, &url).await;
    assert_eq!(session.server["serverInfo"]["name"], "mcp-manager");
    assert!(session.server["instructions"].as_str().unwrap().contains("template_list"));
    let old = session.call("tools/list", json!({})).await.result()["tools"].clone();
    let new = stateless(&product.client, &url, "tools/list", json!({})).await.result()["tools"].clone();
    assert_eq!(old, new);
    assert_eq!(product.get("/tools").await.1["tools"], new, "and the API tells the same");
    let names: Vec<&str> = new.as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, TOOLS.iter().map(|tool| tool.name).collect::<Vec<_>>());

    let created =
        session.call("tools/call", call("container_create", &json!({"service_name": "echo", "template": "echo"}))).await;
    let content = &created.result()["structuredContent"];
    assert_eq!((content["name"].as_str(), content["status"].as_str()), (Some("echo"), Some("running")));
    let text = created.result()["content"][0]["text"].as_str().unwrap();
    assert_eq!(&serde_json::from_str::<Value>(text).unwrap(), content, "clients that know no structure read the same");
    let got = stateless(&product.client, &url, "tools/call", call("container_get", &json!({"name": "echo"}))).await;
    assert_eq!(got.result()["resultType"], "complete");
    assert_eq!(got.result()["structuredContent"]["url"], content["url"]);
    assert_eq!(session.close().await, 202);
    assert_eq!(session.call("tools/list", json!({})).await.status, 404, "the session is over");
    product.finish().await;
}

#[tokio::test]
async fn what_is_no_message_is_refused_in_the_words_of_json_rpc_and_ids_come_back_as_they_were() {
    let product = Product::start(Options::memory()).await;
    let url = format!("{}/mcp", product.url);
    let session = Session::open(&product.client, &url).await;
    let send = async |path: &str, session: Option<&str>, body: &str| {
        let request = product.request(Method::POST, path).header("accept", "application/json, text/event-stream");
        let mut request = request.header("content-type", "application/json; charset=utf-8").body(body.to_owned());
        if let Some(session) = session {
            request = request.header("mcp-session-id", session);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        // An answer in a session is an event.
        let data = text.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim).rfind(|data| !data.is_empty());
        (status, data.unwrap_or(&text).to_owned())
    };
    let deep = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"x":{}{}}}}}"#, "[".repeat(500), "]".repeat(500));
    let ping = |id: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#);
    let batch = format!("[{},{}]", ping("1"), ping("2"));
    let broken = [
        ("", -32700, "not JSON"),
        ("{", -32700, "line 1 column 1"),
        ("{\"jsonrpc\":\"2.0\",}", -32700, "line 1 column 1"),
        (&ping("1")[1..], -32700, "not JSON"),
        (&batch, -32600, "batches are not taken"),
        ("[]", -32600, "batches are not taken"),
        ("7", -32600, "no message"),
        ("{}", -32600, "no message"),
        (r#"{"id":1,"method":"ping"}"#, -32600, "no message"),
        (&deep, -32600, "recursion limit"),
        (&ping("null"), -32600, "id"),
        (&ping("1.5"), -32600, "id"),
        (&ping("1.0"), -32600, "id"),
        (&ping("9223372036854775808"), -32600, "id"),
        (&ping("{}"), -32600, "id"),
    ];
    for (body, code, word) in broken {
        for session in [None, Some(session.id.as_str())] {
            let (status, text) = send("/mcp", session, body).await;
            let answer: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{body}: {status} {text}"));
            assert_eq!(
                (status, answer["error"]["code"].as_i64(), &answer["id"]),
                (400, Some(code), &Value::Null),
                "{body}: {text}"
            );
            assert!(answer["error"]["message"].as_str().unwrap().contains(word), "{body}: {text}");
        }
    }
    for id in ["\"\"", "\"a b\"", "\"7\"", "0", "-1", "9223372036854775807", "9007199254740993"] {
        let (status, text) = send("/mcp", Some(&session.id), &ping(id)).await;
        assert!(status == 200 && text.contains(&format!("\"id\":{id},\"result\"")), "{id}: {status} {text}");
    }
    // The endpoint over all services says the same, and gives back whatever is a string or number.
    let all = Session::open(&product.client, &format!("{}/mcp/all", product.url)).await;
    for (body, code, word) in
        [("{", -32700, "line 1 column 1"), (&batch, -32600, "batches are not taken"), ("{}", -32600, "no JSON-RPC")]
    {
        let (status, text) = send("/mcp/all", Some(&all.id), body).await;
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((status, answer["error"]["code"].as_i64()), (400, Some(code)), "{body}: {text}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(word), "{body}: {text}");
    }
    for id in ["\"a\"", "1.50", "123456789012345678901234567890"] {
        let (status, text) = send("/mcp/all", Some(&all.id), &ping(id)).await;
        assert!(status == 200 && text.contains(&format!("\"id\":{id},")), "{id}: {status} {text}");
    }
    product.finish().await;
}

#[tokio::test]
async fn wrong_parameters_are_told_as_such_and_not_as_an_unknown_method() {
    let product = Product::start(Options::memory()).await;
    let url = format!("{}/mcp", product.url);
    let session = Session::open(&product.client, &url).await;
    let hello = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": 7, "version": "1"}});
    for (method, params, place) in [
        ("tools/call", json!({"name": 5}), "params.name"),
        ("tools/call", json!({"name": "container_list", "arguments": "x"}), "params.arguments"),
        ("tools/call", json!({"arguments": {}}), "name"),
        ("tools/call", json!(["container_list"]), "params"),
        ("tools/call", Value::Null, "params"),
        ("tools/list", json!({"cursor": 5}), "params.cursor"),
        ("tools/list", json!({"cursor": "zzz"}), "params.cursor"),
        ("tools/list", json!({"cursor": ""}), "params.cursor"),
        ("tools/list", json!("x"), "params"),
        ("ping", json!([]), "params"),
        ("ping", json!({"_meta": 1}), "params._meta"),
        ("initialize", hello.clone(), "params.clientInfo.name"),
    ] {
        let answer = session.call(method, params.clone()).await;
        assert_eq!((answer.status, answer.error_code()), (200, -32602), "{method} {params}: {answer:?}");
        let error = &answer.messages[0]["error"];
        assert_eq!((&answer.messages[0]["id"], &error["data"]["title"]), (&json!(1), &json!("The request is not valid")));
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(place) && error["data"]["remedy"].is_string(), "{method} {params}: {error}");
    }
    for (method, params) in [
        ("tools/call", json!({"name": 5})),
        ("tools/call", json!({"name": "container_list", "arguments": "x"})),
        ("tools/list", json!({"cursor": "zzz"})),
    ] {
        let answer = stateless(&product.client, &url, method, params.clone()).await;
        assert_eq!(answer.error_code(), -32602, "{method} {params}: {answer:?}");
    }
    // Without a session, and without parameters at all.
    let send = async |body: Value| {
        let request = product.request(Method::POST, "/mcp").header("accept", "application/json, text/event-stream");
        request.json(&body).send().await.unwrap().json::<Value>().await.unwrap()["error"]["code"].clone()
    };
    assert_eq!(send(json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello})).await, -32602);
    assert_eq!(send(json!({"jsonrpc": "2.0", "id": 1, "method": "initialize"})).await, -32602);
    // What there is not is still that, whatever its parameters are, and so is a session that is over.
    for method in ["no/such", "prompts/get", "resources/list"] {
        assert_eq!(session.call(method, json!({"name": 5, "cursor": "x"})).await.error_code(), -32601, "{method}");
    }
    assert_eq!(session.call("tools/list", Value::Null).await.result()["tools"].as_array().unwrap().len(), TOOLS.len());
    assert_eq!(session.close().await, 202);
    assert_eq!(session.call("tools/call", json!({"name": 5})).await.status, 404);
    product.finish().await;
}

#[tokio::test]
async fn errors_carry_the_text_of_the_problem_document_and_the_document_itself() {
    let product = Product::start(Options::memory()).await;
    let url = format!("{}/mcp", product.url);
    let wrong = json!({"service_name": "echo", "imge": "x", "replicas": "many"});
    let (_, problem) = product.post("/containers", &wrong).await;
    let session = Session::open(&product.client, &url).await;
    for answer in [
        session.call("tools/call", call("container_create", &wrong)).await,
        stateless(&product.client, &url, "tools/call", call("container_create", &wrong)).await,
    ] {
        let result = answer.result();
        assert_eq!((&result["isError"], &result["structuredContent"]), (&json!(true), &problem));
        let text = result["content"][0]["text"].as_str().unwrap();
        assert!(text.starts_with(problem["detail"].as_str().unwrap()), "{text}");
        for error in problem["errors"].as_array().unwrap() {
            for part in ["field", "message", "remedy"] {
                assert!(text.contains(error[part].as_str().unwrap()), "{part} of {error} in {text}");
            }
        }
    }
    let unknown = session.call("tools/call", call("container_lst", &json!({}))).await;
    assert_eq!(unknown.error_code(), -32602);
    assert!(unknown.messages[0]["error"]["message"].as_str().unwrap().contains("did you mean 'container_list'?"));
    product.finish().await;
}

#[tokio::test]
async fn progress_is_told_to_those_who_ask_for_it_and_grows() {
    let product = Product::start(Options::memory()).await;
    let url = format!("{}/mcp", product.url);
    let session = Session::open(&product.client, &url).await;
    let with_token = |tool: &str, arguments: Value| {
        let mut params = call(tool, &arguments);
        params["_meta"] = json!({"progressToken": "p-1"});
        params
    };
    let create = |name: &str| json!({"service_name": name, "template": "echo"});
    let old = session.call("tools/call", with_token("container_create", create("a"))).await;
    let new = stateless(&product.client, &url, "tools/call", with_token("container_create", create("b"))).await;
    let pull = stateless(&product.client, &url, "tools/call", with_token("image_pull", json!({"image": "x:1"}))).await;
    for answer in [&old, &new, &pull] {
        assert_eq!(answer.result()["isError"], false, "{answer:?}");
        let reports: Vec<&Value> =
            answer.messages.iter().filter(|message| message["method"] == "notifications/progress").collect();
        assert!(!reports.is_empty(), "{answer:?}");
        for (index, report) in reports.iter().enumerate() {
            assert_eq!(report["params"]["progressToken"], "p-1");
            assert_eq!(report["params"]["progress"].as_f64(), Some(f64::from(u32::try_from(index).unwrap() + 1)));
            assert!(report["params"]["message"].is_string());
        }
    }
    let silent = stateless(&product.client, &url, "tools/call", call("container_create", &create("c"))).await;
    assert_eq!(silent.messages.len(), 1, "nobody asked");
    product.finish().await;
}

#[tokio::test]
async fn what_must_be_confirmed_is_asked_first_in_the_era_without_sessions() {
    let product = Product::start(Options::memory().with("MCP_MANAGER_MCP_CONFIRM", "container_remove")).await;
    let url = format!("{}/mcp", product.url);
    product.create_echo("echo", json!({})).await;
    let remove = call("container_remove", &json!({"name": "echo"}));
    let mut unasked = remove.clone();
    unasked["inputResponses"] = json!({"confirm": {"action": "accept", "content": {"confirm": true}}});
    for mute in [&remove, &unasked] {
        let mute = stateless(&product.client, &url, "tools/call", mute.clone()).await;
        assert_eq!((mute.status, mute.error_code()), (400, -32021), "{mute:?}");
    }
    let asks = json!({"elicitation": {"form": {}}});
    let question = stateless_with(&product.client, &url, "tools/call", remove.clone(), asks.clone()).await;
    assert_eq!(question.result()["resultType"], "input_required", "{question:?}");
    let elicitation = &question.result()["inputRequests"]["confirm"];
    assert_eq!(elicitation["method"], "elicitation/create");
    assert!(elicitation["params"]["message"].as_str().unwrap().contains("name \"echo\""));
    // An answer counts only for what was asked: with its state, and with the same arguments.
    let state = &question.result()["requestState"];
    let mut other = unasked.clone();
    (other["arguments"]["name"], other["requestState"]) = ("other".into(), state.clone());
    let mut forged = unasked.clone();
    forged["requestState"] = format!("{}x", state.as_str().unwrap()).into();
    product.create_echo("other", json!({})).await;
    for wrong in [unasked, other, forged] {
        let asked = stateless_with(&product.client, &url, "tools/call", wrong, asks.clone()).await;
        assert_eq!(asked.result()["resultType"], "input_required", "{asked:?}");
    }
    assert_eq!(product.get("/containers").await.1["total"], 2, "nobody was asked");
    for (answer, left) in [
        (json!({"action": "decline"}), 2),
        (json!({"action": "accept", "content": {"confirm": false}}), 2),
        (json!({"action": "accept", "content": {"confirm": true}}), 1),
    ] {
        let mut again = remove.clone();
        again["requestState"] = state.clone();
        again["inputResponses"] = json!({"confirm": answer});
        let done = stateless_with(&product.client, &url, "tools/call", again, asks.clone()).await;
        assert_eq!(done.result()["isError"], left == 2, "{done:?}");
        assert_eq!(product.get("/containers").await.1["total"], left, "{done:?}");
    }
    // Other tools, and the API, which people and programs use on purpose, are not asked.
    product.create_echo("echo", json!({})).await;
    let stopped = stateless(&product.client, &url, "tools/call", call("container_stop", &json!({"name": "echo"}))).await;
    assert_eq!(stopped.result()["isError"], false);
    product.finish().await;
}

#[tokio::test]
async fn pages_of_strangers_are_refused_and_those_that_are_allowed_are_not() {
    let product = Product::start(Options::memory().with("CORS_ORIGINS", "http://app.example.com")).await;
    let ask = async |origin: String| {
        let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
        let request = product.request(Method::POST, "/mcp").header("accept", "application/json, text/event-stream");
        request.header("origin", origin).json(&hello).send().await.unwrap().status().as_u16()
    };
    assert_eq!(ask("http://evil.example.com".to_owned()).await, 403);
    assert_eq!(ask("null".to_owned()).await, 403);
    assert_eq!(ask("http://app.example.com".to_owned()).await, 200);
    assert_eq!(ask(product.url.clone()).await, 200, "the manager's own pages");
    product.finish().await;
}

#[tokio::test]
async fn a_session_is_its_openers_and_there_are_not_too_many() {
    let (product, keys) = with_keys().await;
    let client = |role: &str| {
        let key = &keys.iter().find(|(is, _)| *is == role).unwrap().1;
        let headers = [("x-api-key".parse().unwrap(), key.parse().unwrap())].into_iter().collect();
        http_client().default_headers(headers).build().unwrap()
    };
    let url = format!("{}/mcp", product.url);
    let own = Session::open(&client("admin"), &url).await;
    let stolen = own.with_client(&client("viewer"));
    assert_eq!(stolen.call("tools/list", json!({})).await.status, 404, "to others it does not exist");
    assert_eq!(stolen.close().await, 404);
    assert_eq!(own.call("tools/list", json!({})).await.status, 200);
    drop(product);

    let product = Product::start(Options::memory().with("MCP_MANAGER_MCP_MAX_SESSIONS", "2")).await;
    let url = format!("{}/mcp", product.url);
    let first = Session::open(&product.client, &url).await;
    let _second = Session::open(&product.client, &url).await;
    let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    let third = product.request(Method::POST, "/mcp").header("accept", "application/json, text/event-stream").json(&hello);
    let refused = third.send().await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (429, &"5".parse().unwrap()));
    assert_eq!(
        stateless(&product.client, &url, "tools/list", json!({})).await.status,
        200,
        "calls without a session need no place"
    );
    first.close().await;
    eventually("there is room again", async || {
        let again = product.request(Method::POST, "/mcp").header("accept", "application/json, text/event-stream").json(&hello);
        again.send().await.unwrap().status() == 200
    })
    .await;
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_creation_leaves_nothing_in_the_engine() {
    if !podman::ready().await {
        return;
    }
    let product = Product::start(Options::podman()).await;
    let url = format!("{}/mcp", product.url);
    // It runs and is never found healthy, so that the call waits.
    let create = json!({"service_name": "slow", "template": "echo", "health_check_path": "/nothing-here", "start_timeout": "5m",
        "health_check": {"start_period": "5m"}});
    let gone = async || {
        eventually("nothing is left", async || {
            product.get("/containers/slow").await.0 == 404 && podman::owned_by(&product.options.instance).await.is_empty()
        })
        .await;
    };
    let runs = async || {
        product.until("slow", "it runs", |service| service["instances"][0]["state"] == "running").await;
    };
    let session = Session::open(&product.client, &url).await;
    let other = session.with_client(&product.client);
    let waiting = async { drop(session.call("tools/call", call("container_create", &create)).await) };
    let cancelling = async {
        runs().await;
        // The calls of a session are all number 1.
        other.notify("notifications/cancelled", json!({"requestId": 1, "reason": "enough"})).await;
        gone().await;
    };
    // A call that was cancelled gets no answer, so its end is not waited for.
    tokio::select! {
        () = async { waiting.await; std::future::pending().await } => {}
        () = cancelling => {}
    }
    // Without a session, going away is how a call is cancelled.
    tokio::select! {
        answer = stateless(&product.client, &url, "tools/call", call("container_create", &create)) => panic!("{answer:?}"),
        () = runs() => {}
    }
    gone().await;
    product.finish().await;
}
