//! Sessions with services of the earlier eras for callers that have none of their own: one for each caller and service.
//! Leaves out what is said in them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;
use tokio::sync::OnceCell;

use super::look::{Line, SESSIONS, client_info, within};
use super::session::OPEN_LIMIT;
use super::upstream::{Unanswered, Upstream};
use crate::domain::name::ServiceName;
use crate::lifecycle::Tasks;

/// So many sessions at once; then the one that has been used least of late ends.
const MAX_LINES: usize = 1000;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct SharedLines {
    /// By caller and service.
    lines: Mutex<HashMap<(String, ServiceName), Shared>>,
    /// How many times one of them has been asked for.
    uses: AtomicU64,
}

#[derive(Debug, Clone, Default)]
struct Shared {
    /// Opened by whoever needs it first; all others who need it meanwhile wait for that.
    line: Arc<OnceCell<Line>>,
    /// The number of its last use.
    used: u64,
}

impl SharedLines {
    /// A number that no other request in a session with a service has.
    pub(super) fn number(&self) -> u64 {
        self.uses.fetch_add(1, Ordering::Relaxed)
    }

    /// The caller's session with the service; a new one in place of `gone`, which the service does not know any more.
    pub(super) async fn line(
        &self,
        caller: &str,
        service: &ServiceName,
        gone: Option<&Line>,
        upstream: &Upstream,
        tasks: &Tasks,
    ) -> Result<Line, Unanswered> {
        let (shared, least) = self.find(caller, service, gone);
        if let Some(least) = least {
            tasks.spawn("mcp: end a shared session", async move { least.close().await });
        }
        if let Some(line) = shared.get() {
            return Ok(line.clone());
        }
        let open = async || {
            let mut line = Line { limit: OPEN_LIMIT, ..Line::new(upstream, service) };
            let params = json!({"protocolVersion": SESSIONS[0], "capabilities": {}, "clientInfo": client_info()});
            line.initialize(&params).await?;
            Ok::<_, Unanswered>(line)
        };
        // Who has waited for somebody else's attempt that failed makes one, too, but all of it takes no longer than one.
        within(OPEN_LIMIT, shared.get_or_try_init(|| Box::pin(open()))).await.cloned()
    }

    /// The place of the line, and one that had to go for it.
    fn find(&self, caller: &str, service: &ServiceName, gone: Option<&Line>) -> (Arc<OnceCell<Line>>, Option<Line>) {
        let key = (caller.to_owned(), service.clone());
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let is_gone = |shared: &Shared| gone.zip(shared.line.get()).is_some_and(|(gone, line)| line.is(gone));
        let mut least = None;
        if lines.get(&key).is_some_and(is_gone) {
            lines.remove(&key);
        } else if lines.len() >= MAX_LINES && !lines.contains_key(&key) {
            let key = lines.iter().min_by_key(|(_, shared)| shared.used).map(|(key, _)| key.clone());
            least = key.and_then(|key| lines.remove(&key)?.line.get().cloned());
        }
        let shared = lines.entry(key).or_default();
        shared.used = self.number();
        (Arc::clone(&shared.line), least)
    }
}
