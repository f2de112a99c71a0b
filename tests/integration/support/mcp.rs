//! A small MCP client over Streamable HTTP for both protocol eras. It hides nothing: an answer keeps its status and
//! every message, so that a test can make claims about each.

use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

use super::PATIENCE;

pub const STATELESS_VERSION: &str = "2026-07-28";
pub const SESSION_VERSION: &str = "2025-11-25";

/// What came back for one request.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub session: Option<String>,
    /// The JSON-RPC messages, in order: one for a JSON answer, any number for a stream.
    pub messages: Vec<Value>,
    /// The body, when there are none.
    pub text: String,
}

impl Answer {
    /// The result of the request; fails the test when it is an error.
    pub fn result(&self) -> &Value {
        let last = self.messages.last().unwrap_or_else(|| panic!("status {} without a message: {}", self.status, self.text));
        last.get("result").unwrap_or_else(|| panic!("status {}: {last}", self.status))
    }

    /// The code of the JSON-RPC error; fails the test when there is none.
    pub fn error_code(&self) -> i64 {
        self.messages.last().and_then(|message| message["error"]["code"].as_i64()).unwrap_or_else(|| panic!("{self:?}"))
    }
}

async fn send(request: RequestBuilder, body: Value) -> Answer {
    let response =
        request.timeout(PATIENCE).header("accept", "application/json, text/event-stream").json(&body).send().await.unwrap();
    let status = response.status().as_u16();
    let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let (session, kind) = (header("mcp-session-id"), header("content-type").unwrap_or_default());
    let text = response.text().await.unwrap();
    let messages = if kind.starts_with("text/event-stream") {
        let data = text.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim).filter(|data| !data.is_empty());
        data.map(|data| serde_json::from_str(data).unwrap()).collect()
    } else if kind.starts_with("application/json") {
        vec![serde_json::from_str(&text).unwrap()]
    } else {
        Vec::new()
    };
    let text = if messages.is_empty() { text } else { String::new() };
    Answer { status, session, messages, text }
}

/// One stateless request of revision 2026-07-28, with the metadata and headers it must carry.
pub async fn stateless(client: &Client, url: &str, method: &str, params: Value) -> Answer {
    stateless_with(client, url, method, params, json!({})).await
}

/// The same, of a client with these capabilities.
pub async fn stateless_with(client: &Client, url: &str, method: &str, mut params: Value, capabilities: Value) -> Answer {
    params["_meta"]["io.modelcontextprotocol/protocolVersion"] = STATELESS_VERSION.into();
    params["_meta"]["io.modelcontextprotocol/clientInfo"] = json!({"name": "test", "version": "1"});
    params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = capabilities;
    let mut request = client.post(url).header("mcp-protocol-version", STATELESS_VERSION).header("mcp-method", method);
    if let Some(name) = params["name"].as_str().or_else(|| params["uri"].as_str()) {
        request = request.header("mcp-name", name);
    }
    send(request, json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})).await
}

/// A session of revision 2025-11-25.
pub struct Session {
    client: Client,
    url: String,
    pub id: String,
    /// The answer to `initialize`.
    pub server: Value,
}

impl Session {
    /// Does the handshake.
    pub async fn open(client: &Client, url: &str) -> Self {
        let params = json!({
            "protocolVersion": SESSION_VERSION, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"},
        });
        let body = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params});
        let answer = send(client.post(url), body).await;
        let server = answer.result().clone();
        let session = Self { client: client.clone(), url: url.to_owned(), id: answer.session.expect("no session id"), server };
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        assert_eq!(send(session.request(), initialized).await.status, 202);
        session
    }

    /// The same session, called at another address.
    pub fn at(&self, client: &Client, url: &str) -> Self {
        Self { client: client.clone(), url: url.to_owned(), id: self.id.clone(), server: self.server.clone() }
    }

    /// A session that somebody made up.
    pub fn with_id(&self, id: &str) -> Self {
        Self { id: id.to_owned(), ..self.at(&self.client, &self.url) }
    }

    fn request(&self) -> RequestBuilder {
        self.client.post(&self.url).header("mcp-session-id", &self.id).header("mcp-protocol-version", SESSION_VERSION)
    }

    pub async fn call(&self, method: &str, params: Value) -> Answer {
        send(self.request(), json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})).await
    }

    /// Says something that has no answer.
    pub async fn notify(&self, method: &str, params: Value) {
        let answer = send(self.request(), json!({"jsonrpc": "2.0", "method": method, "params": params})).await;
        assert_eq!(answer.status, 202, "{method}");
    }

    /// The same session as another client would use it.
    pub fn with_client(&self, client: &Client) -> Self {
        Self { client: client.clone(), url: self.url.clone(), id: self.id.clone(), server: self.server.clone() }
    }

    /// Ends the session; answers the status.
    pub async fn close(&self) -> u16 {
        let request = self.client.delete(&self.url).header("mcp-session-id", &self.id);
        request.header("mcp-protocol-version", SESSION_VERSION).send().await.unwrap().status().as_u16()
    }
}
