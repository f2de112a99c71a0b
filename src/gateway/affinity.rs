//! Which replica has which MCP session, for servers that keep their sessions in memory and run as several replicas.
//!
//! The id that a client gets names the replica, so that every manager finds it, also one that was started after the session:
//! `r1.REPLICA.ID`, where REPLICA tells replicas of one service apart and nothing more. It is no secret and gives no right:
//! whoever changes it reaches another replica of the same service, as everybody does without a session. What was opened
//! while there was one replica has the server's own id; that, and the ids of the bridge, which find their owner by
//! themselves, are remembered from answers in memory alone. A session that is not known goes to any replica, whose refusal
//! tells the client to begin anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

use super::upstream::Upstream;
use crate::routing::NAMED_SESSION;

/// The header that names a session, in answers that open one and in requests that belong to it.
pub(super) const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");

/// So many sessions are remembered for one service; then the half that was used longest ago is forgotten.
const REMEMBERED: usize = 10_000;

/// Names the replica in the id of a session that it opened.
pub(super) fn name_replica(headers: &mut HeaderMap, upstream: &Upstream) {
    let id = headers.get(SESSION_ID).and_then(|id| id.to_str().ok());
    let named = id.and_then(|id| HeaderValue::from_str(&format!("{NAMED_SESSION}{}.{id}", upstream.tag)).ok());
    if let Some(named) = named {
        headers.insert(SESSION_ID, named);
    }
}

/// Gives the server its own id back, if the request's id names a replica; which of `upstreams` that is.
pub(super) fn replica_named(headers: &mut HeaderMap, upstreams: &[Arc<Upstream>]) -> Option<Arc<Upstream>> {
    let id = headers.get(SESSION_ID)?.to_str().ok()?;
    let (replica, own) = id.strip_prefix(NAMED_SESSION)?.split_once('.')?;
    let found = upstreams.iter().find(|upstream| upstream.tag == replica).cloned();
    let own = HeaderValue::from_str(own).ok()?;
    headers.insert(SESSION_ID, own);
    found
}

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
    fn an_id_names_its_replica_to_every_manager() {
        let replicas = || [1, 2].map(|port| Upstream::new(([127, 0, 0, 1], port).into()));
        let (here, there) = (replicas(), replicas());
        let mut headers = with("5f.1c");
        name_replica(&mut headers, &here[1]);
        assert_ne!(headers[SESSION_ID], "5f.1c");
        let found = replica_named(&mut headers, &there).unwrap();
        assert!(Arc::ptr_eq(&found, &there[1]));
        assert_eq!(headers[SESSION_ID], "5f.1c");
        for other in ["5f.1c", "r1.none", ""] {
            assert!(replica_named(&mut with(other), &there).is_none(), "{other}");
        }
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
