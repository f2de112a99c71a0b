//! The gateway's working copy of the host table: services with their replicas' connections and the turn they take.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::HeaderMap;

use super::affinity::{self, Affinity};
use super::upstream::Upstream;
use crate::domain::name::ServiceName;
use crate::domain::status::{ServiceState, Snapshot};
use crate::routing::{HostTable, ServiceEntry, keeps_sessions};

/// All services of one view.
#[derive(Debug, Default)]
pub(super) struct Routes {
    snapshot: Arc<Snapshot>,
    services: HashMap<ServiceName, Arc<Route>>,
}

/// One service.
#[derive(Debug)]
pub(super) struct Route {
    entry: ServiceEntry,
    upstreams: Vec<Arc<Upstream>>,
    turn: AtomicUsize,
    /// Shared with the route that follows when the service's replicas change.
    affinity: Arc<Affinity>,
    /// Whether ids of sessions name the replica that has them.
    names_replicas: bool,
}

impl Routes {
    /// The routes of `snapshot`; services that have not changed, and connections to replicas that are still ready, are
    /// taken over from `previous`.
    pub(super) fn of(snapshot: &Arc<Snapshot>, previous: &Self) -> Self {
        let services = HostTable::of(snapshot).into_iter().map(|(name, entry)| {
            let before = previous.services.get(&name);
            let route = match before {
                Some(route) if Arc::ptr_eq(&route.entry.state, &entry.state) => Arc::clone(route),
                _ => Arc::new(Route::of(entry, before.map(Arc::as_ref))),
            };
            (name, route)
        });
        Self { services: services.collect(), snapshot: Arc::clone(snapshot) }
    }

    /// Whether they are made from this very view.
    pub(super) fn are_of(&self, snapshot: &Arc<Snapshot>) -> bool {
        Arc::ptr_eq(&self.snapshot, snapshot)
    }

    pub(super) fn synced(&self) -> bool {
        self.snapshot.synced
    }

    pub(super) fn get(&self, name: &str) -> Option<&Arc<Route>> {
        self.services.get(name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.services.keys().map(ServiceName::as_str)
    }

    pub(super) fn close_idle(&self) {
        self.services.values().flat_map(|route| &route.upstreams).for_each(|upstream| upstream.close_idle());
    }
}

impl Route {
    fn of(entry: ServiceEntry, before: Option<&Self>) -> Self {
        let known = |address| before?.upstreams.iter().find(|upstream| upstream.address == address).cloned();
        let upstreams = entry.ready.iter().map(|address| known(*address).unwrap_or_else(|| Upstream::new(*address)));
        let turn = before.map_or(0, |before| before.turn.load(Ordering::Relaxed));
        let affinity = before.map(|before| Arc::clone(&before.affinity)).unwrap_or_default();
        let spec = &entry.state.record.spec;
        let names_replicas = spec.replicas > 1 && keeps_sessions(spec);
        Self { upstreams: upstreams.collect(), turn: AtomicUsize::new(turn), affinity, names_replicas, entry }
    }

    pub(super) fn state(&self) -> &ServiceState {
        &self.entry.state
    }

    /// How many replicas are ready.
    pub(super) fn replicas(&self) -> usize {
        self.upstreams.len()
    }

    /// The replica that has the session of a request, where there is a choice. An id that names it becomes the server's own.
    pub(super) fn owner(&self, headers: &mut HeaderMap) -> Option<Arc<Upstream>> {
        let named = affinity::replica_named(headers, &self.upstreams);
        named.or_else(|| if self.upstreams.len() > 1 { self.affinity.of(headers, &self.upstreams) } else { None })
    }

    /// Learns from the headers of an answer which session `upstream` has. Where several replicas keep sessions of their own,
    /// the id names the replica from here on.
    pub(super) fn learn(&self, headers: &mut HeaderMap, upstream: &Arc<Upstream>) {
        if self.names_replicas {
            affinity::name_replica(headers, upstream);
        } else {
            self.affinity.learn(headers, upstream);
        }
    }

    /// The replica for the next request: of those that are not in `tried`, the one with the fewest requests waiting for
    /// an answer, and among equals the one whose turn it is. Streams that are being answered do not count, so that a
    /// replica with many listeners is not left out.
    pub(super) fn pick(&self, tried: &[Arc<Upstream>]) -> Option<&Arc<Upstream>> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.upstreams.len().max(1);
        let (later, first) = self.upstreams.split_at(turn);
        let untried = |upstream: &&Arc<Upstream>| !tried.iter().any(|tried| Arc::ptr_eq(tried, upstream));
        first.iter().chain(later).filter(untried).min_by_key(|upstream| upstream.waiting())
    }
}
