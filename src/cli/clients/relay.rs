//! `mcp-manager client relay`: MCP on standard input and output for an endpoint of Streamable HTTP, for clients that know no
//! servers but programs. Messages pass as they came; nothing of what they say is decided here. Only a session that the endpoint
//! knows no more, since it was started anew, is begun again for a client that could not know, streams that are cut are gone on
//! with, requests that nobody answers any more are answered with errors, and what HTTP wants beside a body of revision
//! 2026-07-28 is added: headers, and leaving a request that is called off.

mod link;
mod listening;
mod message;
mod stream;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{BufRead as _, Write as _};
use std::rc::Rc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{FutureExt as _, LocalBoxFuture};
use futures_util::stream::FuturesUnordered;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::arguments::Common;
use super::super::exit::{Outcome, Trouble};
use crate::error::{Error, Kind};
use crate::rpc;
use link::Link;
use listening::listen;
use message::{Message, Waiting};

/// Messages that wait for their turn; the client waits when there are more.
const QUEUE: usize = 64;

/// How long an endpoint may take to say which tools it has.
const PATIENCE: Duration = Duration::from_secs(15);

/// So long nothing else is sent while the endpoint has not taken what only tells it something.
const TURN: Duration = Duration::from_secs(30);

/// More pages of tools than this are not asked for.
const MAX_PAGES: usize = 50;

/// What a client of the first era offers when it asks for tools.
const VERSION: &str = "2025-11-25";

/// What has ended.
enum Ended {
    /// A request of this id, if it can be called off; others went on meanwhile.
    Request { id: Option<String>, is_waited_for: Rc<Cell<bool>> },
    /// The message of this number, after which the next may be read.
    Turn(u64),
}

/// A message after which the next may be read: its number, and when it has had its time.
struct Turn(u64, Option<Instant>);

impl Turn {
    /// Waits until a turn has had its time.
    async fn overdue(turn: Option<&Self>) {
        match turn {
            Some(Self(_, Some(until))) => tokio::time::sleep_until(*until).await,
            _ => std::future::pending().await,
        }
    }
}

/// A request that can be called off.
struct Open {
    left: CancellationToken,
    /// Leaving it says all.
    is_modern: bool,
    called_off: Rc<Cell<bool>>,
    is_waited_for: Rc<Cell<bool>>,
}

/// Passes messages until standard input ends.
pub async fn relay(common: &Common, url: &str) -> Outcome {
    let link = Rc::new(Link::to(common, url)?);
    let mut messages = lines_of_standard_input();
    let mut running: FuturesUnordered<LocalBoxFuture<'static, Ended>> = FuturesUnordered::new();
    let listening = listen(link.clone());
    tokio::pin!(listening);
    // Those that the client waits for, and those that can be dropped.
    let mut requests = 0_usize;
    let mut open: BTreeMap<String, Open> = BTreeMap::new();
    let mut turn: Option<Turn> = None;
    let mut turns = 0;
    let mut ended = false;
    loop {
        if ended && requests == 0 && turn.is_none() {
            link.leave().await;
            return Ok(());
        }
        tokio::select! {
            message = messages.recv(), if turn.is_none() && !ended => {
                let Some(text) = message else {
                    ended = true;
                    continue;
                };
                let message = Message::of(&text);
                if let Some(request) = message.cancels.as_ref().and_then(|id| open.remove(id)) {
                    // Without a session, a request is called off by leaving it; nobody would know what is meant otherwise.
                    if request.is_modern {
                        request.left.cancel();
                        continue;
                    }
                    // The server need not answer it any more.
                    request.called_off.set(true);
                    requests -= usize::from(request.is_waited_for.replace(false));
                }
                let left = CancellationToken::new();
                // A session begins with its first answer, and what only tells something is to arrive in order.
                let end = if message.tells() || message.begins() {
                    turns += 1;
                    turn = Some(Turn(turns, message.tells().then(|| Instant::now() + TURN)));
                    Ended::Turn(turns)
                } else {
                    let is_waited_for = Rc::new(Cell::new(!message.lasts()));
                    requests += usize::from(is_waited_for.get());
                    let id = if let [id] = message.ids.as_slice() { Some(id.clone()) } else { None };
                    if let Some(id) = id.clone() {
                        let (left, called_off) = (left.clone(), message.called_off.clone());
                        let (is_modern, is_waited_for) = (message.version.is_some(), is_waited_for.clone());
                        open.insert(id, Open { left, is_modern, called_off, is_waited_for });
                    }
                    Ended::Request { id, is_waited_for }
                };
                let work = passed(link.clone(), text, message);
                running.push(left.run_until_cancelled_owned(work).map(|_| end).boxed_local());
            }
            Some(end) = running.next(), if !running.is_empty() => match end {
                Ended::Request { id, is_waited_for } => {
                    requests -= usize::from(is_waited_for.get());
                    open.remove(&id.unwrap_or_default());
                }
                Ended::Turn(number) => turn = turn.filter(|turn| turn.0 != number),
            },
            () = Turn::overdue(turn.as_ref()) => turn = None,
            never = &mut listening => match never {},
        }
    }
}

/// The tools that the endpoint has, as it describes them.
pub async fn tools(common: &Common, url: &str) -> Outcome<Vec<Value>> {
    let asked = async {
        let link = Link::to(common, url)?;
        let client = json!({"name": "mcp-manager", "version": env!("CARGO_PKG_VERSION")});
        let params = json!({"protocolVersion": VERSION, "capabilities": {}, "clientInfo": client});
        link.ask("initialize", params).await?;
        let initialized = rpc::notification("notifications/initialized", None);
        link.post(&String::from_utf8_lossy(&initialized), &Message::default(), &mut |_| Ok(true)).await?;
        let mut tools = Vec::new();
        let mut cursor = None;
        for _ in 0..MAX_PAGES {
            let params = cursor.as_ref().map_or_else(|| json!({}), |cursor| json!({"cursor": cursor}));
            let page = link.ask("tools/list", params).await?;
            tools.extend(page["tools"].as_array().cloned().unwrap_or_default());
            match page.get("nextCursor").filter(|next| next.is_string()) {
                Some(next) => cursor = Some(next.clone()),
                None => break,
            }
        }
        link.leave().await;
        Ok(tools)
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| {
        let detail = format!("{url} did not say which tools it has within {} seconds", PATIENCE.as_secs());
        Err(Trouble::unreachable(Error::new(Kind::Timeout, detail)))
    })
}

/// Sends a message and writes what comes back. Requests that are left without an answer get an error, so that none hangs.
async fn passed(link: Rc<Link>, text: String, message: Message) {
    let mut waiting = Waiting::of(&message);
    let mut written = |text: &str| {
        if waiting.hears(text) {
            write_line(text)?;
        }
        Ok(waiting.is_over())
    };
    let why = match link.post(&text, &message, &mut written).await {
        Ok(()) => "the endpoint did not answer".to_owned(),
        Err(Trouble::Error(_, error)) => {
            if message.ids.is_empty() {
                let _ = writeln!(std::io::stderr(), "mcp-manager: {error}");
            }
            error.to_string()
        }
        // Who does not read any more needs no error.
        Err(_) => return,
    };
    if message.called_off.get() {
        return;
    }
    for error in waiting.errors(&why) {
        let _ = write_line(&error);
    }
}

/// One message a line. Line ends can only stand between tokens, where they are as good as a space.
fn write_line(text: &str) -> Outcome {
    let mut stdout = std::io::stdout().lock();
    if text.contains(['\n', '\r']) {
        writeln!(stdout, "{}", text.replace(['\n', '\r'], " "))?;
    } else {
        writeln!(stdout, "{text}")?;
    }
    Ok(stdout.flush()?)
}

/// The lines of standard input, read on a thread of its own: reading it cannot be given up, and must not hold anything up.
fn lines_of_standard_input() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if !line.trim().is_empty() && sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    receiver
}
