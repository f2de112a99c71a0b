//! Whose turn it is to make what a service lacks, where several managers work for it.
//!
//! The manager that wrote the record goes first. Another one looks on, and makes what is lacking when nobody does; before
//! that it looks at what has been made. So an image is pulled once, and what one manager cannot make, for want of a
//! password, say, takes nothing away that another one can.

use std::collections::BTreeSet;
use std::time::Instant;

use futures_util::FutureExt as _;

use super::super::client::EngineError;
use super::super::errors;
use super::super::missing;
use super::super::observed::Observed;
use super::super::plan::{DEFERENCE, Step};
use super::super::records::Stored;
use super::super::shared::Shared;
use super::super::turns;
use super::Service;
use super::messages::Aside;
use crate::domain::status::{Desired, Record, ReplicaState};

/// What is known of who makes what.
pub(super) struct Making {
    /// Held from the first step to the last.
    turn: Option<turns::Making>,
    /// A turn is being waited for.
    waiting: bool,
    /// Another manager has written the record.
    theirs: bool,
    /// Until then it is left to that one.
    left_until: Option<Instant>,
    /// Containers that were made here.
    made: BTreeSet<String>,
    shortfall: Shortfall,
}

/// Whether it is the making of something that has failed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shortfall {
    None,
    Open,
    /// It was taken back, because another manager has made that. Once for a record.
    MadeUpFor,
}

impl Making {
    /// For a record that has come. At the start of a manager nobody else is expected to work for what it finds.
    pub(super) fn of(stored: &Stored, at_start: bool) -> Self {
        let theirs = !stored.written_here;
        Self {
            turn: None,
            waiting: false,
            theirs,
            left_until: (theirs && !at_start).then(|| Instant::now() + DEFERENCE),
            made: BTreeSet::new(),
            shortfall: Shortfall::None,
        }
    }

    /// A newer record has come; `stays` are the containers that there are.
    pub(super) fn begin_anew(&mut self, stored: &Stored, stays: impl Fn(&str) -> bool) {
        let before = std::mem::replace(self, Self::of(stored, false));
        (self.turn, self.waiting, self.made) = (before.turn, before.waiting, before.made);
        self.made.retain(|container| stays(container));
    }

    /// The record is this manager's own, which had found it before its writer told of it.
    pub(super) const fn is_ours(&mut self) {
        (self.theirs, self.left_until) = (false, None);
    }

    pub(super) fn end_turn(&mut self) {
        self.turn = None;
    }

    pub(super) fn give_sign(&mut self) {
        if let Some(turn) = &mut self.turn {
            turn.give_sign();
        }
    }

    /// When something is due.
    pub(super) fn due(&self) -> Option<Instant> {
        let left_until = self.left_until.filter(|until| *until > Instant::now());
        [self.turn.as_ref().map(turns::Making::next_sign), left_until].into_iter().flatten().min()
    }

    pub(super) fn has_made(&mut self, container: String) {
        self.made.insert(container);
    }

    pub(super) fn has_failed(&mut self, fell_short: bool) {
        if self.shortfall != Shortfall::MadeUpFor {
            self.shortfall = if fell_short { Shortfall::Open } else { Shortfall::None };
        }
    }
}

impl Service {
    /// Whether a step makes something, or takes away what another manager may just have made: once all of a service has
    /// stood, what there is of it is known.
    fn makes(&self, step: &Step) -> bool {
        match step {
            Step::Fetch | Step::Create { .. } => true,
            Step::Start { id } | Step::Remove { id } => !self.established && !self.making.made.contains(id),
            Step::Stop { .. } | Step::Restart { .. } | Step::Abandon { .. } | Step::Purge => false,
        }
    }

    /// Whether it is this manager's turn to do these steps. If not, it is asked again in time.
    pub(super) fn may_begin(&mut self, steps: &[Step], now: Instant) -> bool {
        if self.record.desired != Desired::Running || !steps.iter().any(|step| self.makes(step)) {
            return true;
        }
        if self.making.left_until.is_some_and(|until| until > now) {
            self.making.turn = None;
            return false;
        }
        if self.making.turn.is_some() {
            return true;
        }
        if self.making.waiting {
            return false;
        }
        if !self.making.theirs {
            self.making.turn = self.shared.turns.make_at_once(&self.record.name);
            if self.making.turn.is_some() {
                return true;
            }
        }
        self.making.waiting = true;
        let (shared, record) = (self.shared.clone(), self.record.clone());
        let wait = async move {
            let turn = shared.turns.make(&record.name).await;
            let asked = Instant::now();
            let found = look_at_all(&shared, &record).await;
            Aside::Turn { turn, asked, found }
        };
        self.aside.push(wait.boxed());
        false
    }

    /// It is this manager's turn, and this is what there is now.
    pub(super) fn take_turn(&mut self, turn: turns::Making, asked: Instant, found: Result<Vec<Observed>, EngineError>) {
        self.making.waiting = false;
        match found {
            Ok(found) => {
                self.making.turn = Some(turn);
                self.see_all(found, asked);
            }
            Err(error) => self.again(&errors::engine(error, "look at the containers")),
        }
    }

    /// What could not be made here is no failure any more when another manager has made it. Once for a record: two managers
    /// that fail one after the other at what takes a while would else encourage each other for ever.
    pub(super) fn accept(&mut self, observed: &Observed) {
        let theirs = observed.state == ReplicaState::Running
            && *observed.digest == *self.digest
            && !self.making.made.contains(&observed.id);
        if theirs && self.failed.is_some() && self.making.shortfall == Shortfall::Open {
            tracing::info!(service = %self.record.name, container = observed.id, "another manager has made what this one could not");
            self.making.shortfall = Shortfall::MadeUpFor;
            self.failed = None;
        }
    }
}

/// All containers of a service, each looked at.
pub(super) async fn look_at_all(shared: &Shared, record: &Record) -> Result<Vec<Observed>, EngineError> {
    let mut found = Vec::new();
    for id in missing::containers_of(shared, &record.name).await?.into_iter().filter_map(|listed| listed.id) {
        found.extend(shared.look(&id, record.spec.front_port()).await?);
    }
    Ok(found)
}
