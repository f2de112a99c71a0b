//! Which replica has which MCP session, for servers that keep their sessions in memory and run as several replicas.
//!
//! It is learned from answers and kept in memory alone: a session that is not known goes to any replica, whose refusal
//! tells the client to begin anew. Sessions of the bridge find their owner without it; it saves them a hop.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

use super::upstream::Upstream;

/// The header that names a session, in answers that open one and in requests that belong to it.
pub(super) const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");

/// So many sessions are remembered for one service; then the half that was used longest ago is forgotten.
const REMEMBERED: usize = 10_000;

/// The sessions of one service.
#[derive(Debug, Default)]
pub(super) struct Affinity(Mutex<HashMap<HeaderValue, (Arc<Upstream>, Instant)>>);

impl Affinity {
    /// The replica that has the session of a request, if it is one of `upstreams`.
    pub(super) fn of(&self, headers: &HeaderMap, upstreams: &[Arc<Upstream>]) -> Option<Arc<Upstream>> {
        let id = headers.get(SESSION_ID)?;
        let mut sessions = self.sessions();
        let (upstream, used) = sessions.get_mut(id)?;
        *used = Instant::now();
        upstreams.iter().find(|candidate| Arc::ptr_eq(candidate, upstream)).cloned()
    }

    /// Learns from an answer of `upstream`.
    pub(super) fn learn(&self, headers: &HeaderMap, upstream: &Arc<Upstream>) {
        let Some(id) = headers.get(SESSION_ID) else { return };
        let mut sessions = self.sessions();
        if sessions.len() >= REMEMBERED {
            let mut times: Vec<Instant> = sessions.values().map(|(_, used)| *used).collect();
            let (_, middle, _) = times.select_nth_unstable(REMEMBERED / 2);
            let middle = *middle;
            sessions.retain(|_, (_, used)| *used > middle);
        }
        sessions.insert(id.clone(), (Arc::clone(upstream), Instant::now()));
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<HeaderValue, (Arc<Upstream>, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(id: &str) -> HeaderMap {
        HeaderMap::from_iter([(SESSION_ID, id.parse().unwrap())])
    }

    #[test]
    fn a_session_stays_with_its_replica_as_long_as_that_is_there() {
        let [one, other] = [1, 2].map(|port| Upstream::new(([127, 0, 0, 1], port).into()));
        let (affinity, both) = (Affinity::default(), [Arc::clone(&one), Arc::clone(&other)]);
        affinity.learn(&with("a"), &other);
        affinity.learn(&HeaderMap::new(), &one);
        assert!(Arc::ptr_eq(&affinity.of(&with("a"), &both).unwrap(), &other));
        assert!(affinity.of(&with("b"), &both).is_none());
        assert!(affinity.of(&HeaderMap::new(), &both).is_none());
        assert!(affinity.of(&with("a"), &[one]).is_none(), "its replica is gone");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (affinity, one) = (Affinity::default(), Upstream::new(([127, 0, 0, 1], 1).into()));
        for number in 0..REMEMBERED + 10 {
            affinity.learn(&with(&number.to_string()), &one);
        }
        assert!(affinity.sessions().len() <= REMEMBERED);
        assert!(affinity.of(&with(&(REMEMBERED + 9).to_string()), &[one]).is_some(), "the latest is known");
    }
}
