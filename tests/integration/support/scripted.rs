//! A service of the earlier eras that does what a test tells it: it ends its streams, forgets its sessions, changes its
//! tools, and says who is there. Leaves out what is claimed of those who call it.

use std::sync::{Arc, Mutex};

use futures_util::StreamExt as _;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::eventually;
use super::product::Product;

/// A server in Python. What it is told comes to `/do`; the answer says of each session that it knows or has known who
/// opened it, what it is subscribed to, how many streams it has, and after which event each of them was to begin, `refused`
/// if it was none. Each event has its number as id, and is kept. An id that a session has used is refused, as the protocol
/// has it.
const SERVER: &str = r"
import json, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

changed = threading.Condition()
sessions, state = {}, {'tools': ['one'], 'round': 0, 'refuse': 0, 'unknown': []}

def message(method, params): return {'jsonrpc': '2.0', 'method': method, 'params': params}

def told(order):
    state['round'] += order.get('end', 0)
    state['refuse'] = order.get('refuse', state['refuse'])
    if 'forget' in order:
        for session in sessions.values(): session['known'] = False
    for session in (session for session in sessions.values() if session['known']):
        if order.get('updated') in session['uris']:
            session['events'].append(message('notifications/resources/updated', {'uri': order['updated']}))
        if 'tools' in order: session['events'].append(message('notifications/tools/list_changed', {}))
    state['tools'] = order.get('tools', state['tools'])
    changed.notify_all()
    hidden = ('events', 'used')
    return {'unknown': state['unknown'], 'sessions': [
        {name: sorted(value) if name == 'uris' else value for name, value in session.items() if name not in hidden}
        for session in sessions.values()]}

def answer(session, method, params):
    if method == 'tools/list': return {'tools': [{'name': name, 'inputSchema': {'type': 'object'}} for name in state['tools']]}
    if method == 'resources/list': return {'resources': [{'uri': 'a:' + name, 'name': name} for name in '12']}
    if method == 'resources/templates/list': return {'resourceTemplates': []}
    if method == 'tools/call': return {'content': [{'type': 'text', 'text': 'done'}]}
    if method == 'resources/subscribe': session['uris'].add(params['uri'])
    if method == 'resources/unsubscribe': session['uris'].discard(params['uri'])
    if method == 'logging/setLevel': session['level'] = params['level']
    return {}

class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def log_message(self, *_): pass

    def say(self, status, body=None, **headers):
        text = b'' if body is None else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**headers, 'content-type': 'application/json', 'content-length': str(len(text))}.items():
            self.send_header(name.replace('_', '-'), value)
        self.end_headers()
        self.wfile.write(text)

    def session(self):
        session = sessions.get(self.headers.get('mcp-session-id'))
        return session if session and session['known'] else None

    def nobody(self):
        if self.command == 'GET': state['unknown'].append(self.headers.get('mcp-session-id'))
        error = {'code': -32001, 'message': 'no such session'}
        self.say(404 if 'mcp-session-id' in self.headers else 400, {'jsonrpc': '2.0', 'id': None, 'error': error})

    def do_POST(self):
        said = json.loads(self.rfile.read(int(self.headers['content-length'])))
        with changed:
            if self.path == '/do': return self.say(200, told(said))
            method, id, params, headers = said.get('method'), said.get('id'), said.get('params') or {}, {}
            session = self.session()
            if method == 'initialize':
                name = 's%d' % len(sessions)
                session = sessions[name] = {'client': params['clientInfo']['name'], 'known': True, 'uris': set(), 'open': 0,
                    'begun': [], 'level': None, 'events': [], 'used': set()}
                headers = {'mcp_session_id': name}
                can = {'tools': {'listChanged': True}, 'resources': {'subscribe': True}, 'logging': {}}
                result = {'protocolVersion': params['protocolVersion'], 'capabilities': can,
                    'serverInfo': {'name': 'scripted', 'version': '1'}}
            elif session is None: return self.nobody()
            elif id is None: return self.say(202)
            else: result = answer(session, method, params)
            if isinstance(id, str) and id in session['used']:
                return self.say(200, {'jsonrpc': '2.0', 'id': id, 'error': {'code': -32600, 'message': 'that id was used'}})
            session['used'].add(id)
            self.say(200, {'jsonrpc': '2.0', 'id': id, 'result': result}, **headers)

    def do_DELETE(self):
        with changed:
            session = self.session()
            if session is None: return self.nobody()
            session['known'] = False
            changed.notify_all()
            self.say(204)

    def do_GET(self):
        with changed:
            session, last = self.session(), self.headers.get('last-event-id')
            if session is None: return self.nobody()
            if session['client'] == 'test' and state['refuse'] > 0:
                state['refuse'] -= 1
                session['begun'].append([time.monotonic(), 'refused'])
                return self.say(503)
            session['begun'].append([time.monotonic(), last])
            session['open'] += 1
            at, round = len(session['events']) if last is None else int(last) + 1, state['round']
        self.close_connection = True
        try:
            self.send_response(200)
            self.send_header('content-type', 'text/event-stream')
            self.send_header('connection', 'close')
            self.end_headers()
            self.wfile.write(b': open\n\n')
            while True:
                with changed:
                    changed.wait_for(lambda: len(session['events']) > at or state['round'] != round or not session['known'], 0.2)
                    if state['round'] != round or not session['known']: return
                    events = list(enumerate(session['events']))[at:]
                # Whoever has gone is found out by writing.
                self.wfile.write(b':\n\n')
                for number, event in events:
                    self.wfile.write(b'id: %d\ndata: %s\n\n' % (number, json.dumps(event).encode()))
                    at = number + 1
        except OSError: pass
        finally:
            with changed: session['open'] -= 1

ThreadingHTTPServer(('', 8000), Handler).serve_forever()
";

/// Creates a service of it. It needs the machine to offer a [`super::machine::Part::Hub`].
pub async fn create(product: &Product, name: &str) {
    let body = json!({
        "service_name": name, "image": "docker.io/library/python:3.12-slim", "port": 8000,
        "entrypoint": ["python3", "-u", "-c", SERVER], "health_check": {"interval": "1h"},
    });
    let (status, answer) = product.post("/containers", &body).await;
    assert_eq!((status, answer["status"].as_str()), (201, Some("running")), "{answer:#}\n{}", product.log());
}

/// Tells the service what to do; what it says of its sessions.
pub async fn tell(product: &Product, name: &str, order: Value) -> Value {
    let answer = product.service(Method::POST, name, "/do").json(&order).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.json().await.unwrap()
}

/// The sessions that a test's client has with the service by way of the manager, the latest last.
pub async fn sessions(product: &Product, name: &str) -> Vec<Value> {
    let mut told = tell(product, name, json!({})).await;
    let sessions: Vec<Value> = serde_json::from_value(told["sessions"].take()).unwrap();
    sessions.into_iter().filter(|session| session["client"] == "test").collect()
}

/// A stream of events that is read all the time.
pub struct Heard {
    text: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Heard {
    pub fn on(stream: Response) -> Self {
        assert_eq!(stream.headers()["content-type"], "text/event-stream");
        let text = Arc::new(Mutex::new(String::new()));
        let (mut body, heard) = (stream.bytes_stream(), Arc::clone(&text));
        let reader = tokio::spawn(async move {
            while let Some(Ok(bytes)) = body.next().await {
                heard.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes));
            }
        });
        Self { text, reader }
    }

    /// How often it has been said so far.
    pub fn times(&self, words: &str) -> usize {
        self.text.lock().unwrap().matches(words).count()
    }

    /// Waits until it has been said so often; it must not be more often.
    pub async fn hears(&self, words: &str, times: usize) {
        eventually(&format!("{words} is heard {times} times"), async || self.times(words) >= times).await;
        assert_eq!(self.times(words), times, "{}", self.text.lock().unwrap());
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        self.reader.abort();
    }
}
