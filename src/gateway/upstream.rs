//! Connections to one replica: opened, used by one request at a time, kept for the next.
//!
//! A connection has no task of its own. The request that uses it drives it, inside the task of the client's
//! connection: nothing is handed from thread to thread on the way, and when the client goes away, its task ends and
//! takes the connection to the replica with it. While a connection is kept, nobody drives it; whether the replica has
//! closed it meanwhile is found out when it is taken.

use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use hyper::client::conn::http1::{Connection, SendRequest};
use hyper_util::rt::TokioIo;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;

use super::body::RequestBody;
use crate::domain::hex;

/// Kept connections are closed after so long. Common servers close theirs after two seconds and more, and a connection
/// that both ends close at once costs a request.
pub(super) const IDLE_LIMIT: Duration = Duration::from_millis(1500);

/// So many connections are kept for one replica.
const KEPT: usize = 256;

/// A link is large and goes from hand to hand, so it stays in its box.
type Kept = Vec<Box<Link>>;

/// One replica.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    /// What it is called in ids of sessions: the same for every manager, and nothing about the machine.
    pub(super) tag: String,
    waiting: AtomicUsize,
    /// The most recently used last. A plain lock: it is held for a push or a pop.
    kept: Mutex<Kept>,
}

impl Upstream {
    pub(super) fn new(address: SocketAddr) -> Arc<Self> {
        let tag = hex(&Sha256::digest(address.to_string())[..6]);
        Arc::new(Self { address, tag, waiting: AtomicUsize::new(0), kept: Mutex::default() })
    }

    /// How many requests wait for this replica's answer.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Counts a request as waiting until the guard is dropped.
    pub(super) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(self)
    }

    /// A kept connection that is still open.
    pub(super) fn take(&self) -> Option<Box<Link>> {
        loop {
            let mut link = self.kept().pop()?;
            if link.since.elapsed() < IDLE_LIMIT && link.is_idle() {
                return Some(link);
            }
        }
    }

    /// Keeps a connection for the next request, if it can carry one.
    pub(super) fn keep(&self, mut link: Box<Link>) {
        if link.is_idle() {
            link.since = Instant::now();
            link.reused = true;
            let mut kept = self.kept();
            if kept.len() < KEPT {
                kept.push(link);
            }
        }
    }

    pub(super) fn close_idle(&self) {
        let mut kept = self.kept();
        let fresh = kept.iter().position(|link| link.since.elapsed() < IDLE_LIMIT).unwrap_or(kept.len());
        let closed: Vec<_> = kept.drain(..fresh).collect();
        // Closing sockets takes a while; nobody should wait for the lock meanwhile.
        drop(kept);
        drop(closed);
    }

    /// Opens a connection.
    pub(super) async fn connect(&self, timeout: Duration) -> io::Result<TcpStream> {
        let stream = tokio::time::timeout(timeout, TcpStream::connect(self.address)).await??;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Upstream::wait`].
pub(super) struct Waiting<'a>(&'a Upstream);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An open connection to a replica.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) sender: SendRequest<RequestBody>,
    /// Absent once it has ended.
    connection: Option<Connection<TokioIo<TcpStream>, RequestBody>>,
    /// It has carried a request before.
    pub(super) reused: bool,
    since: Instant,
}

impl Link {
    pub(super) async fn over(stream: TcpStream) -> hyper::Result<Box<Self>> {
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        Ok(Box::new(Self { sender, connection: Some(connection), reused: false, since: Instant::now() }))
    }

    /// Lets the connection read and write; true while it is open. What ended it reaches the request that it carried.
    pub(super) fn drive(&mut self, context: &mut Context<'_>) -> bool {
        if let Some(connection) = &mut self.connection
            && let Poll::Ready(_) = Pin::new(connection).poll(context)
        {
            self.connection = None;
        }
        self.connection.is_some()
    }

    /// Whether it is open and waits for a request. Asked without a waker: nobody wants to hear of it later, neither
    /// when the replica closes it nor when the next request is put in.
    fn is_idle(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop())) && self.sender.is_ready()
    }
}
