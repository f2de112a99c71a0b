//! What outlives a request: lists that change, who wants to hear of it, and the key of `requestState`.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rmcp::model::{RequestStateCodec, RequestStateError, ResourceUpdatedNotificationParam};
use rmcp::{Peer, RoleServer};
use tokio::sync::broadcast;

/// A resource that changes, with each call of the tool `touch_watched_resource`.
pub const WATCHED: &str = "test://watched-resource";

/// A list or a resource that is no longer what it was.
#[derive(Clone, Copy)]
pub enum Change {
    /// The tool that comes and goes did.
    Tools,
    /// The prompt that comes and goes did.
    Prompts,
    /// `WATCHED` has new contents.
    Watched,
}

/// Shared by all sessions of one process; over stdio there is one.
pub struct State {
    /// Whether the tool that comes and goes is there.
    pub extra_tool: AtomicBool,
    /// Whether the prompt that comes and goes is there.
    pub extra_prompt: AtomicBool,
    /// How often the watched resource was changed.
    pub touched: AtomicU64,
    /// Seals and opens `requestState`.
    pub sealed: RequestStateCodec,
    /// How long finding the resources takes.
    pub late_resources: Duration,
    changes: broadcast::Sender<Change>,
    sessions: Mutex<Vec<Session>>,
}

/// The URIs that one client of the older era subscribed to.
pub type Subscriptions = Arc<Mutex<HashSet<String>>>;

/// A client of the older era, which is told of changes without having opened a stream for them.
#[derive(Clone)]
struct Session {
    client: Peer<RoleServer>,
    subscriptions: Subscriptions,
}

impl State {
    /// With the key that `requestState` is signed with, which must be long enough.
    pub fn new(key: Vec<u8>, late_resources: Duration) -> Result<Self, RequestStateError> {
        Ok(Self {
            extra_tool: AtomicBool::new(false),
            extra_prompt: AtomicBool::new(false),
            touched: AtomicU64::new(0),
            sealed: RequestStateCodec::try_new(key)?,
            late_resources,
            changes: broadcast::channel(64).0,
            sessions: Mutex::default(),
        })
    }

    /// Changes as they happen, for a subscription of the newer era.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// A client of the older era is there.
    pub fn joined(&self, client: Peer<RoleServer>, subscriptions: Subscriptions) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|session| !session.client.is_transport_closed());
        sessions.push(Session { client, subscriptions });
    }

    /// Makes the change and tells everybody who wants to know.
    pub async fn change(&self, change: Change) {
        match change {
            Change::Tools => drop(self.extra_tool.fetch_not(Ordering::Relaxed)),
            Change::Prompts => drop(self.extra_prompt.fetch_not(Ordering::Relaxed)),
            Change::Watched => drop(self.touched.fetch_add(1, Ordering::Relaxed)),
        }
        // No receiver is no fault: nobody subscribed.
        let _ = self.changes.send(change);
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for Session { client, subscriptions } in sessions {
            // A client that is gone is told nothing, and dropped when the next one joins.
            let _ = match change {
                Change::Tools => client.notify_tool_list_changed().await,
                Change::Prompts => client.notify_prompt_list_changed().await,
                Change::Watched if subscriptions.lock().unwrap_or_else(PoisonError::into_inner).contains(WATCHED) => {
                    client.notify_resource_updated(ResourceUpdatedNotificationParam::new(WATCHED)).await
                }
                Change::Watched => Ok(()),
            };
        }
    }
}
