//! A server that speaks HTTP+SSE of revision 2024-11-05 instead of standard input and output: one process for all
//! sessions, each of which is a stream of events at it. Leaves out what its messages mean (see [`super::link`]).

use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Request, Uri};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustix::process::Signal;
use tokio::net::unix::pipe;

use super::child::{self, Child, Hears};
use super::events::Events;
use super::frame::Line;
use super::reaper::Process;
use super::scan::{Kind, scan};
use super::stragglers::Mark;
use super::{Context, stragglers};
use crate::error::{Error, Result};
use crate::rpc;

/// The pause between two attempts to reach a server that starts.
const AGAIN: Duration = Duration::from_millis(25);

type Http = Client<HttpConnector, Full<Bytes>>;

#[derive(Debug)]
struct Running {
    process: Process,
    mark: Mark,
    http: Http,
}

/// The server's process.
#[derive(Debug, Default)]
pub struct Program {
    running: Mutex<Option<Running>>,
}

impl Program {
    /// The process; it is started if it does not run.
    ///
    /// # Errors
    /// `LimitReached` or `StartFailed`.
    pub fn process(&self, context: &Arc<Context>) -> Result<Process> {
        let mut running = self.running();
        if let Some(running) = running.as_ref().filter(|running| running.process.ended().is_none()) {
            return Ok(running.process.clone());
        }
        let (process, spawned, mark) = child::spawn(context, Stdio::null())?;
        let pipes = spawned.stdout.map(OwnedFd::from).into_iter().chain(spawned.stderr.map(OwnedFd::from));
        for pipe in pipes {
            let pipe = pipe::Receiver::from_owned_fd(pipe).map_err(|error| {
                process.signal(Signal::KILL);
                Error::internal("the output of the server cannot be read", error)
            })?;
            context.tasks.spawn("log of the server", super::log::log(pipe, process.id()));
        }
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let http = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(16).build(connector);
        *running = Some(Running { process: process.clone(), mark, http });
        Ok(process)
    }

    /// Ends the process and everything it started.
    pub fn stop(&self, context: &Arc<Context>) {
        let Some(Running { process, mark, .. }) = self.running().take() else { return };
        let inherits = context.processes.inherits();
        context.tasks.spawn("end of the server", async move {
            for signal in [Signal::TERM, Signal::KILL] {
                process.signal(signal);
                if tokio::time::timeout(child::GRACE, process.wait()).await.is_ok() {
                    break;
                }
            }
            stragglers::end(&mark, inherits).await;
        });
    }

    fn http(&self) -> Option<Http> {
        self.running().as_ref().map(|running| running.http.clone())
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens a stream of events and brings messages both ways until one side ends it.
pub(super) async fn converse(context: Arc<Context>, child: Arc<Child>, hears: Arc<dyn Hears>) {
    let why = tokio::select! {
        why = talk(&context, &child, &*hears) => why,
        ended = child.gone() => ended.to_string(),
    };
    child.close();
    hears.ended(&why);
}

async fn talk(context: &Context, child: &Child, hears: &dyn Hears) -> String {
    let Some((uri, http)) = context.options.sse_server.clone().zip(context.program.http()) else {
        return "the server has ended".to_owned();
    };
    let limit = context.options.start_timeout;
    let opened = async {
        let mut events = connect(&http, &uri, child, context.options.max_message).await?;
        let messages = loop {
            match events.next().await? {
                Some(event) if event.name == "endpoint" => break endpoint(&uri, &event.data)?,
                Some(_) => {}
                None => return Err("the server ended the stream of events at once".to_owned()),
            }
        };
        Ok((events, messages))
    };
    let (mut events, messages) = match tokio::time::timeout(limit, opened).await {
        Ok(Ok(opened)) => opened,
        Ok(Err(why)) => return why,
        Err(_) => return format!("the server opened no stream of events at {} within {} s", uri.path(), limit.as_secs()),
    };
    let listening = async {
        loop {
            match events.next().await {
                Ok(Some(event)) if event.name == "message" => hears.line(Line::Text(event.data)),
                Ok(Some(_)) => {}
                Ok(None) => return "the server ended the stream of events".to_owned(),
                Err(why) => return why,
            }
        }
    };
    tokio::select! {
        why = listening => why,
        why = post_all(context, child, &http, &messages, hears) => why,
    }
}

/// Asks until the server listens.
async fn connect(http: &Http, uri: &Uri, child: &Child, limit: usize) -> Result<Events, String> {
    while !child.is_closing() {
        let request = Request::get(uri).header(ACCEPT, "text/event-stream").body(Full::default());
        match http.request(request.map_err(|error| error.to_string())?).await {
            Ok(answer) if answer.status() == 200 => return Ok(Events::new(answer.into_body(), limit)),
            Ok(answer) => return Err(format!("the server answered GET {} with {}", uri.path(), answer.status())),
            Err(error) if error.is_connect() => tokio::time::sleep(AGAIN).await,
            Err(error) => return Err(format!("the server broke off at GET {}: {error}", uri.path())),
        }
    }
    Err("the session was closed".to_owned())
}

/// Where messages go. Only the path counts: a server knows less well than the bridge where it is.
fn endpoint(stream: &Uri, data: &[u8]) -> Result<Uri, String> {
    let odd = || "the server names no address for messages".to_owned();
    let text = std::str::from_utf8(data).map_err(|_| odd())?.trim();
    let path = match text.parse::<Uri>() {
        Ok(uri) => uri.path_and_query().map(ToString::to_string),
        Err(_) => None,
    };
    let folder = stream.path().rsplit_once('/').map_or("", |(folder, _)| folder);
    let path = if text.starts_with('/') || text.contains("://") { path } else { Some(format!("{folder}/{text}")) };
    let authority = stream.authority().ok_or_else(odd)?;
    format!("http://{authority}{}", path.ok_or_else(odd)?).parse().map_err(|_| odd())
}

/// Posts messages in their order. One that is refused is an error for whoever waits for its answer.
async fn post_all(context: &Context, child: &Child, http: &Http, messages: &Uri, hears: &dyn Hears) -> String {
    let mut sending = Vec::new();
    loop {
        child.take_input(&mut sending);
        if sending.is_empty() {
            if child.is_closing() {
                return "the session was closed".to_owned();
            }
            child.has_input().await;
            continue;
        }
        let all = Bytes::from(std::mem::take(&mut sending));
        for line in all.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            let text = all.slice_ref(line);
            let posted = tokio::time::timeout(context.options.body_timeout, post(http, messages, text.clone())).await;
            let posted = posted.unwrap_or_else(|_| Err("the server takes no more messages".to_owned()));
            let Err(why) = posted else { continue };
            let Ok(message) = scan(&text) else { continue };
            if let (Kind::Request, Some(id)) = (message.kind(), message.id) {
                hears.line(Line::Text(rpc::error(Some(id.of(&text)), rpc::INTERNAL_ERROR, &why, None)));
            } else {
                tracing::warn!(why, "a message of a client could not be brought to the server");
            }
        }
    }
}

async fn post(http: &Http, messages: &Uri, text: Bytes) -> Result<(), String> {
    let request = Request::post(messages).header(CONTENT_TYPE, "application/json").body(Full::new(text));
    let answer = http.request(request.map_err(|error| error.to_string())?).await;
    let answer = answer.map_err(|error| format!("the server broke off: {error}"))?;
    if answer.status().is_success() {
        return Ok(());
    }
    Err(format!("the server answered a message with {}", answer.status()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_to_the_bridge_s_own_server_wherever_it_says_it_is() {
        let stream: Uri = "http://127.0.0.1:9000/mcp/sse".parse().unwrap();
        for (said, expected) in [
            ("/messages?sessionId=1", "http://127.0.0.1:9000/messages?sessionId=1"),
            ("http://evil.example.com/messages/?s=1", "http://127.0.0.1:9000/messages/?s=1"),
            ("messages?s=1", "http://127.0.0.1:9000/mcp/messages?s=1"),
        ] {
            assert_eq!(endpoint(&stream, said.as_bytes()).unwrap().to_string(), expected);
        }
        assert!(endpoint(&stream, b"\xff").is_err());
    }
}
