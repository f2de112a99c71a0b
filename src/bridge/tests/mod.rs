//! The bridge over a real child process and real connections. The server is a script whose tools do what a test needs.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser as _;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use super::{Arguments, Bridge, Context, Options, http};

mod ends;
mod eras;
mod faults;
mod oddities;
mod places;
mod sessions;

const SERVER: &str = r#"
import sys, json, os, time, subprocess
era = os.environ.get('ERA', 'legacy')
out = sys.stdout
def say(m): out.write(json.dumps(m) + '\n'); out.flush()
def raw(t): out.write(t + '\n'); out.flush()
def discovered(i): say({'jsonrpc':'2.0','id':i,'result':{'resultType':'complete','supportedVersions':['2026-07-28'],'capabilities':{'tools':{}},'_meta':{'io.modelcontextprotocol/serverInfo':{'name':'script','version':'2'}}}})
state = {}
for line in sys.stdin:
    m = json.loads(line)
    i, method, p = m.get('id'), m.get('method'), m.get('params') or {}
    if method == 'initialize' and era == 'legacy':
        say({'jsonrpc':'2.0','id':i,'result':{'protocolVersion':p['protocolVersion'],'capabilities':{'tools':{'listChanged':True},'resources':{'subscribe':True},'logging':{}},'serverInfo':{'name':'script','version':'1'}}})
    elif method == 'server/discover' and os.environ.get('LATE') and 'late' not in state: state['late'] = i
    elif method == 'initialize' and 'late' in state:
        say({'jsonrpc':'2.0','id':i,'error':{'code':-32601,'message':'Method not found'}}); discovered(state['late'])
    elif method == 'server/discover' and era == 'modern': discovered(i)
    elif method == 'tools/call':
        name, a = p['name'], p.get('arguments', {})
        meta = p.get('_meta', {})
        if name == 'echo': raw(line.strip().replace('"method"', '"result":{"content":[]},"was"', 1).replace('"params"', '"had"', 1))
        elif name == 'pid': say({'jsonrpc':'2.0','id':i,'result':{'pid':os.getpid()}})
        elif name == 'die': os._exit(3)
        elif name == 'progress':
            for n in range(a.get('n', 2)): say({'jsonrpc':'2.0','method':'notifications/progress','params':{'progressToken':meta['progressToken'],'progress':n}})
            say({'jsonrpc':'2.0','id':i,'result':{}})
        elif name == 'rubbish':
            raw('this is no message'); sys.stdout.buffer.write(b'\xff\xfe\n{"jsonrpc":"2.0"'); out.flush(); raw(''); say({'jsonrpc':'2.0','id':i,'result':{}})
        elif name == 'hang': pass
        elif name == 'raw': raw(a['text'].replace('$ID', json.dumps(i)))
        elif name == 'unread': say({'jsonrpc':'2.0',**({'id':None} if a['null'] else {}),'error':{'code':-32700,'message':'cannot read this','data':[1e99]}})
        elif name == 'burst':
            for n in range(a['n']): raw('{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"' + 'x' * 10000 + '"}}')
            say({'jsonrpc':'2.0','id':i,'result':{'burst':a['n']}})
        elif name == 'binary': sys.stdout.buffer.write(os.urandom(1 << 20) + b'\n'); out.flush(); say({'jsonrpc':'2.0','id':i,'result':{}})
        elif name == 'flood':
            while True: raw('{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"' + 'x' * 10000 + '"}}')
        elif name == 'slow': time.sleep(a['s']); say({'jsonrpc':'2.0','id':i,'result':{'slow':True}})
        elif name == 'close': os.close(1); time.sleep(60)
        elif name == 'grandchild':
            g = subprocess.Popen(['sleep', '600'], start_new_session=a.get('away', False), env={'PATH': os.environ['PATH']} if a.get('bare') else None); say({'jsonrpc':'2.0','id':i,'result':{'pid':g.pid}})
        elif name == 'deep': raw('{"jsonrpc":"2.0","id":%s,"result":%s%s}' % (json.dumps(i), '[' * a['depth'], ']' * a['depth']))
        elif name == 'big': time.sleep(a.get('s', 0)); say({'jsonrpc':'2.0','id':i,'result':{'text':'x' * a['size']}})
        elif name == 'ask' and era == 'legacy':
            state['ask'] = i; say({'jsonrpc':'2.0','id':'s1','method':a.get('method','elicitation/create'),'params':{'message':'who?'}})
        elif name == 'ask':
            r = p.get('inputResponses'); state['answered'] = r
            say({'jsonrpc':'2.0','id':i,'result':{'resultType':'complete','said':r,'state':p.get('requestState')} if r else {'resultType':'input_required','inputRequests':{'k':{'method':a.get('method','elicitation/create'),'params':{'message':'who?'}}},'requestState':'st'}})
        elif name == 'change' and era == 'modern':
            say({'jsonrpc':'2.0','method':'notifications/tools/list_changed','params':{'_meta':{'io.modelcontextprotocol/subscriptionId':state['sub']}}}); say({'jsonrpc':'2.0','id':i,'result':{}})
        elif name == 'change': say({'jsonrpc':'2.0','method':'notifications/tools/list_changed'}); say({'jsonrpc':'2.0','id':i,'result':{}})
        elif name == 'environment': say({'jsonrpc':'2.0','id':i,'result':{'key':os.environ.get('MCP_BRIDGE_SESSION_KEY')}})
        else: say({'jsonrpc':'2.0','id':i,'error':{'code':-32602,'message':'no such tool'}})
    elif method == 'subscriptions/listen' and era == 'modern': state['sub'] = i
    elif method == 'notifications/initialized' and os.environ.get('ENDS'): os._exit(4)
    elif method == 'tools/list': say({'jsonrpc':'2.0','id':i,'result':{'tools':[]}})
    elif method == 'resources/subscribe' and era == 'legacy':
        state.setdefault('uris', []).append(p['uri']); say({'jsonrpc':'2.0','id':i,**({'error':{'code':-32602,'message':'no such resource'}} if p['uri'].startswith('no:') else {'result':{}})})
    elif method == 'resources/unsubscribe' and era == 'legacy': state['uris'].remove(p['uri']); say({'jsonrpc':'2.0','id':i,'result':{}})
    elif method == 'logging/setLevel' and era == 'legacy': state['level'] = p['level']; say({'jsonrpc':'2.0','id':i,'result':{}})
    elif method == 'notifications/cancelled': state['cancelled'] = p['requestId']
    elif method == 'state': say({'jsonrpc':'2.0','id':i,'result':state})
    elif method is None and 'ask' in state: say({'jsonrpc':'2.0','id':state.pop('ask'),'result':{'said':m.get('result'),'refused':m.get('error')}})
    elif i is not None and not os.environ.get('MUTE'): say({'jsonrpc':'2.0','id':i,'error':{'code':-32601,'message':'Method not found'}})
"#;

struct Running {
    bridge: Arc<Bridge>,
    address: SocketAddr,
    server: http::Server,
}

struct Answer {
    status: StatusCode,
    headers: hyper::HeaderMap,
    body: hyper::body::Incoming,
}

impl Running {
    async fn start(era: &str, flags: &[&str]) -> Self {
        Self::over(Self::options(era, flags)).await
    }

    fn options(era: &str, flags: &[&str]) -> Options {
        let mut words: Vec<OsString> = vec!["mcp-bridge".into()];
        words.extend(flags.iter().map(Into::into));
        let command = format!("ERA={era} exec python3 -u -c \"$0\"");
        words.extend(["--", "sh", "-c", &command, SERVER].map(Into::into));
        Arguments::parse_from(words).resolve().unwrap()
    }

    async fn over(options: Options) -> Self {
        let listener = http::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let bridge = Bridge::start(Context::new(options, false)).unwrap();
        let server = http::serve(&bridge, listener);
        Self { bridge, address, server }
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        let stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        #[expect(clippy::disallowed_methods, reason = "a test's connection ends with the test")]
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = sender.send_request(request.body(Full::new(body.into())).unwrap()).await.unwrap();
        let (head, body) = answer.into_parts();
        Answer { status: head.status, headers: head.headers, body }
    }

    async fn post(&self, session: &str, body: &str) -> Answer {
        let headers = [
            ("content-type", "application/json"),
            ("accept", "application/json, text/event-stream"),
            ("mcp-session-id", session),
        ];
        let headers = if session.is_empty() { &headers[..2] } else { &headers[..] };
        self.send("POST", "/mcp", headers, body.to_owned()).await
    }

    async fn session(&self) -> String {
        let answer = self.post("", &initialize("2025-11-25")).await;
        assert_eq!(answer.status, 200);
        let id = answer.headers["mcp-session-id"].to_str().unwrap().to_owned();
        let notified = self.post(&id, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
        assert_eq!(notified.status, 202);
        id
    }

    async fn call(&self, session: &str, tool: &str, arguments: Value) -> Value {
        let answer = self.post(session, &call(json!(1), tool, arguments).to_string()).await;
        answer.message().await
    }

    async fn post_call(&self, session: &str, id: &Value, tool: &str) -> Value {
        self.post(session, &call(id.clone(), tool, json!({})).to_string()).await.message().await
    }

    async fn modern(&self, body: Value) -> Answer {
        let text = body.to_string();
        let method = body["method"].as_str().unwrap();
        let name = body["params"]["name"].as_str().unwrap_or_default();
        let mut headers =
            vec![("content-type", "application/json"), ("mcp-protocol-version", "2026-07-28"), ("mcp-method", method)];
        if method == "tools/call" {
            headers.push(("mcp-name", name));
        }
        self.send("POST", "/mcp", &headers, text).await
    }

    async fn end(self) {
        self.server.stop_accepting();
        self.bridge.drain().await;
        assert_eq!(self.bridge.context.processes.count(), 0, "processes are left");
    }
}

impl Answer {
    async fn text(self) -> String {
        String::from_utf8(self.body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    /// The last message of the answer, JSON or events.
    async fn message(self) -> Value {
        self.messages().await.pop().unwrap()
    }

    async fn messages(self) -> Vec<Value> {
        let events = self.headers["content-type"] == "text/event-stream";
        let text = self.text().await;
        if !events {
            return vec![serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"))];
        }
        let data = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| !data.is_empty());
        data.map(|data| serde_json::from_str(data).unwrap()).collect()
    }
}

fn initialize(version: &str) -> String {
    let params =
        json!({"protocolVersion": version, "capabilities": {"elicitation": {}}, "clientInfo": {"name": "t", "version": "1"}});
    json!({"jsonrpc": "2.0", "id": "i", "method": "initialize", "params": params}).to_string()
}

#[expect(clippy::needless_pass_by_value, reason = "calls read better without borrows")]
fn call(id: Value, tool: &str, arguments: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": tool, "arguments": arguments}})
}

#[expect(clippy::needless_pass_by_value, reason = "calls read better without borrows")]
fn modern_call(id: Value, tool: &str, arguments: Value, capabilities: Value) -> Value {
    let mut body = call(id, tool, arguments);
    body["params"]["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": capabilities
    });
    body
}

fn is_alive(pid: &Value) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(20), "{what} does not come true");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn until_async(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begin = Instant::now();
    while !holds().await {
        assert!(begin.elapsed() < Duration::from_secs(20), "{what} does not come true");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
