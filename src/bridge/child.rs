//! One running server: its standard input as a queue, its standard output as lines, its standard error in the log, and
//! its end. Leaves out what the lines mean (see [`super::link`]).

use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::sync::Notify;

use super::Context;
use super::frame::{Line, Lines};
use super::log::log;
use super::reaper::{Ended, Process};
use super::stragglers::Mark;
use super::{remote, stragglers};
use crate::error::{Error, Result};

/// How long a server may take to end after its input was closed, and again after SIGTERM.
pub(super) const GRACE: Duration = Duration::from_secs(2);
/// How long output is still read after a server has ended, in case a grandchild holds the pipe open.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// A larger buffer for messages is given back once it is empty.
const KEPT: usize = 64 * 1024;

/// What a child does, as its owner hears of it.
pub trait Hears: Send + Sync {
    /// It wrote a line.
    fn line(&self, line: Line);
    /// It has ended, or closed its output; nothing more comes. `why` is a sentence.
    fn ended(&self, why: &str);
}

/// A running server.
#[derive(Debug)]
pub struct Child {
    process: Process,
    mark: Option<Mark>,
    input: Mutex<Vec<u8>>,
    wake: Notify,
    closing: AtomicBool,
    most: usize,
    inherits: bool,
    /// Whether the process is this child's alone, and ends with it.
    own: bool,
}

impl Child {
    /// Starts the server; `hears` gets what it says.
    ///
    /// # Errors
    /// `LimitReached` or `StartFailed`.
    pub fn start(context: &Arc<Context>, hears: impl FnOnce(&Arc<Self>) -> Arc<dyn Hears>) -> Result<Arc<Self>> {
        if context.options.sse_server.is_some() {
            let child = Self::new(context, context.program.process(context)?, None, false);
            let hears = hears(&child);
            context.tasks.spawn("stream of the server", remote::converse(Arc::clone(context), Arc::clone(&child), hears));
            return Ok(child);
        }
        let (process, mut spawned, mark) = spawn(context, Stdio::piped())?;
        let mut open = || {
            let missing = || std::io::Error::other("a pipe is missing");
            let input = pipe::Sender::from_owned_fd(OwnedFd::from(spawned.stdin.take().ok_or_else(missing)?))?;
            let output = pipe::Receiver::from_owned_fd(OwnedFd::from(spawned.stdout.take().ok_or_else(missing)?))?;
            let errors = pipe::Receiver::from_owned_fd(OwnedFd::from(spawned.stderr.take().ok_or_else(missing)?))?;
            Ok::<_, std::io::Error>((input, output, errors))
        };
        let (input, output, errors) = open().map_err(|error| {
            process.signal(Signal::KILL);
            Error::internal("the pipes of the server cannot be used", error)
        })?;
        let child = Self::new(context, process, Some(mark), true);
        let hears = hears(&child);
        context.tasks.spawn("input of a child", Arc::clone(&child).write(input));
        context.tasks.spawn("output of a child", Arc::clone(&child).read(output, context.options.max_message, hears));
        context.tasks.spawn("log of a child", log(errors, child.process.id()));
        Ok(child)
    }

    fn new(context: &Context, process: Process, mark: Option<Mark>, own: bool) -> Arc<Self> {
        Arc::new(Self {
            process,
            mark,
            input: Mutex::default(),
            wake: Notify::new(),
            closing: AtomicBool::new(false),
            most: context.options.max_message.saturating_add(8 << 20),
            inherits: context.processes.inherits(),
            own,
        })
    }

    /// Sends one message, which must not contain line breaks. What many callers send in one turn is one write. False if
    /// the child has ended or does not read.
    pub fn send(&self, message: &[u8]) -> bool {
        if self.closing.load(Ordering::Relaxed) {
            return false;
        }
        let mut input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        if input.len() + message.len() > self.most {
            return false;
        }
        input.extend_from_slice(message);
        input.push(b'\n');
        drop(input);
        self.wake.notify_one();
        true
    }

    /// Ends the server and everything it started: closes its input, then SIGTERM, then SIGKILL.
    pub fn stop(self: &Arc<Self>, context: &Arc<Context>) {
        if self.close() && self.own {
            context.tasks.spawn("end of a child", Arc::clone(self).end());
        }
    }

    /// Takes no further message. False if it did not before.
    pub(super) fn close(&self) -> bool {
        let first = !self.closing.swap(true, Ordering::Relaxed);
        self.wake.notify_one();
        first
    }

    /// Whether no further message is taken.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Waits for messages, or for the end of them.
    pub(super) async fn has_input(&self) {
        self.wake.notified().await;
    }

    /// Moves what was sent into `sending`, which must be empty.
    pub(super) fn take_input(&self, sending: &mut Vec<u8>) {
        let mut input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut *input, sending);
        // A single large message must not hold its memory for good.
        if input.capacity() > KEPT {
            *input = Vec::new();
        }
    }

    /// Whether [`Child::stop`] was called or the server ended.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.closing.load(Ordering::Relaxed) || self.process.ended().is_some()
    }

    /// Waits until the process is gone.
    pub async fn gone(&self) -> Ended {
        self.process.wait().await
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> i32 {
        self.process.id()
    }

    async fn end(self: Arc<Self>) {
        for signal in [Signal::TERM, Signal::KILL] {
            if tokio::time::timeout(GRACE, self.process.wait()).await.is_ok() {
                break;
            }
            self.process.signal(signal);
        }
        self.process.wait().await;
        if let Some(mark) = &self.mark {
            stragglers::end(mark, self.inherits).await;
        }
    }

    async fn write(self: Arc<Self>, mut pipe: pipe::Sender) {
        let mut sending = Vec::new();
        loop {
            tokio::select! {
                () = self.wake.notified() => {}
                _ = self.process.wait() => return,
            }
            loop {
                self.take_input(&mut sending);
                if sending.is_empty() {
                    break;
                }
                let written = tokio::select! {
                    written = pipe.write_all(&sending) => written.is_ok(),
                    _ = self.process.wait() => false,
                };
                if !written {
                    return;
                }
                sending.clear();
            }
            if self.closing.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    async fn read(self: Arc<Self>, mut pipe: pipe::Receiver, limit: usize, hears: Arc<dyn Hears>) {
        let mut lines = Lines::new(limit);
        let process = self.process.clone();
        let mut gone = std::pin::pin!(process.wait());
        let ended = loop {
            tokio::select! {
                biased;
                read = pipe.read_buf(lines.space()) => match read {
                    Ok(1..) => while let Some(line) = lines.next_line() { hears.line(line) },
                    _ => break None,
                },
                ended = &mut gone => break Some(ended),
            }
        };
        let why = if let Some(ended) = ended {
            let rest = async {
                while let Ok(1..) = pipe.read_buf(lines.space()).await {
                    while let Some(line) = lines.next_line() {
                        hears.line(line);
                    }
                }
            };
            // Whoever holds the pipe open longer is no longer the server.
            let _open = tokio::time::timeout(LAST_WORDS, rest).await;
            ended.to_string()
        } else {
            match tokio::time::timeout(LAST_WORDS, &mut gone).await {
                Ok(ended) => ended.to_string(),
                Err(_) => "the server closed its output".to_owned(),
            }
        };
        hears.ended(&why);
        self.close();
        self.end().await;
    }
}

/// Starts the server's command with this input; the mark is on all that it starts.
///
/// # Errors
/// `LimitReached` or `StartFailed`.
pub(super) fn spawn(context: &Context, input: Stdio) -> Result<(Process, std::process::Child, Mark)> {
    let mark = Mark::unique();
    let mut words = context.options.command.iter();
    let mut command = Command::new(words.next().map_or_else(Default::default, Clone::clone));
    command.args(words).env_remove(super::options::KEY_VARIABLE);
    command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
    crate::memory::keep_from(&mut command);
    let (process, spawned) = context.processes.spawn(&mut command, &mark)?;
    context.metrics.children_started.add(1);
    Ok((process, spawned, mark))
}
