//! The task of one service: it hears of changes, asks the plan what to do, does it, and shows where the service stands.
//!
//! It owns everything that is known of the service. Steps run one batch at a time; checks and looks at containers run
//! beside them.

mod making;
mod messages;
mod outcome;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tracing::{Instrument as _, Span};

use making::Making;
pub(super) use messages::Message;
use messages::{Aside, FirstLook};

use super::health::{self, Target};
use super::lost_network::{Attached, Lost};
use super::phase::{Standing, phase};
use super::plan::{self, Attempt, DEFERENCE, Member, Situation, Step};
use super::records::Stored;
use super::replica::Tracked;
use super::shared::Shared;
use super::steps::{Effect, Job};
use crate::domain::spec::{Probe, PullPolicy, ServiceSpec};
use crate::domain::status::{Desired, Progress, Record, ReplicaState, ServiceState};
use crate::error::{Error, Result};

/// Steps that are under way.
struct Batch {
    steps: Vec<Step>,
    /// Generation of the record that they are done for.
    generation: u64,
    outcome: BoxFuture<'static, Vec<Effect>>,
}

/// The record could not be carried out.
struct Failed {
    error: Error,
    again: Attempt,
}

/// What is known of the image.
#[derive(PartialEq, Eq)]
enum ImageState {
    /// It may well be there. The attempt to create a container tells, which saves a question in the usual case.
    Assumed,
    /// It must be fetched first.
    Needed,
    /// It was fetched, and the engine knows it by this reference.
    Ready(String),
}

impl ImageState {
    /// Before the first container of a spec is made.
    fn before(spec: &ServiceSpec) -> Self {
        if spec.pull_policy == PullPolicy::Always { Self::Needed } else { Self::Assumed }
    }
}

/// Whether the record is where it should be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whereabouts {
    Known,
    /// It is not; what has become of it is being found out, and nothing is done meanwhile.
    Missing,
    /// Nothing is left of the service.
    Gone,
}

/// Replicas that are to be restarted, one after the other.
#[derive(Default)]
struct Restarts {
    queue: VecDeque<String>,
    /// The one restarted last gets until then to become ready before the next one goes down.
    gate: Option<(String, Instant)>,
    waiting: Vec<oneshot::Sender<Result<()>>>,
}

/// One service and its task's state.
pub(super) struct Service {
    shared: Arc<Shared>,
    record: Arc<Record>,
    digest: Arc<str>,
    remove_volumes: bool,
    /// The request whose wish is being carried out, until it is; the lines that are logged meanwhile are its.
    cause: Span,
    containers: BTreeMap<String, Tracked>,
    image: ImageState,
    failed: Option<Failed>,
    /// Failed attempts at the present record.
    attempts: u32,
    established: bool,
    warnings: Vec<String>,
    progress: Option<Progress>,
    restarts: Restarts,
    removals: Vec<oneshot::Sender<Result<()>>>,
    /// After trouble with the engine, nothing is done before this moment.
    blocked: Option<Instant>,
    trouble: u32,
    wake: Option<Timestamp>,
    batch: Option<Batch>,
    making: Making,
    aside: FuturesUnordered<BoxFuture<'static, Aside>>,
    inbox: mpsc::UnboundedSender<Message>,
    messages: mpsc::UnboundedReceiver<Message>,
    first_look: Option<FirstLook>,
    whereabouts: Whereabouts,
}

impl Service {
    pub(super) fn new(
        shared: Arc<Shared>,
        stored: &Stored,
        inbox: mpsc::UnboundedSender<Message>,
        messages: mpsc::UnboundedReceiver<Message>,
        established: bool,
        first_look: bool,
    ) -> Self {
        let record = stored.record.clone();
        Self {
            digest: record.spec.container_digest().into(),
            remove_volumes: stored.remove_volumes,
            cause: stored.cause.clone(),
            containers: BTreeMap::new(),
            image: ImageState::before(&record.spec),
            failed: None,
            attempts: 0,
            established,
            warnings: shared.warnings_for(&record.spec),
            progress: None,
            restarts: Restarts::default(),
            removals: Vec::new(),
            blocked: None,
            trouble: 0,
            wake: None,
            batch: None,
            making: Making::of(stored, first_look),
            aside: FuturesUnordered::new(),
            inbox,
            messages,
            first_look: first_look.then(|| FirstLook(shared.clone())),
            whereabouts: Whereabouts::Known,
            record,
            shared,
        }
    }

    /// Works for the service until it is gone or the backend stops.
    pub(super) async fn run(mut self) {
        let cancelled = self.shared.cancelled.clone();
        while self.whereabouts != Whereabouts::Gone {
            // What has arrived is taken in as a whole before anything follows from it.
            while let Ok(message) = self.messages.try_recv() {
                self.heard(message);
            }
            self.cause.clone().in_scope(|| self.replan());
            self.making.give_sign();
            self.launch_checks();
            self.publish();
            self.finish_first_look();
            let timer = self.timer();
            tokio::select! {
                () = cancelled.cancelled() => return,
                message = self.messages.recv() => {
                    if let Some(message) = message {
                        self.heard(message);
                    }
                }
                effects = outcome(&mut self.batch) => self.cause.clone().in_scope(|| self.finish_batch(effects)),
                Some(aside) = self.aside.next() => self.cause.clone().in_scope(|| self.take_aside(aside)),
                () = sleep_until(timer), if timer.is_some() => {}
            }
        }
        self.end();
    }

    fn heard(&mut self, message: Message) {
        self.cause.clone().in_scope(|| self.hear(message));
    }

    /// The service is gone.
    fn end(mut self) {
        self.making.end_turn();
        self.shared.turns.forget(&self.record.name);
        self.shared.forget(&self.record.name);
        self.messages.close();
        let mut successor = None;
        while let Ok(message) = self.messages.try_recv() {
            match message {
                Message::Remove(reply) => self.removals.push(reply),
                // Another service has got the name already.
                Message::Record(stored) if stored.is_newer_than(&self.record) => successor = Some(stored),
                _ => {}
            }
        }
        for id in self.containers.keys() {
            self.shared.pasts.forget(id);
        }
        for reply in self.removals.drain(..) {
            let _ = reply.send(Ok(()));
        }
        if let Some(stored) = successor {
            self.shared.adopt(&stored, Message::Connected, false, false);
        }
    }

    fn members(&self) -> Vec<Member> {
        self.containers.values().map(|container| container.member(&self.digest)).collect()
    }

    /// Asks the plan, unless something is under way, the record is missing, or the engine is in trouble.
    fn replan(&mut self) {
        let now = Instant::now();
        if self.batch.is_some() || self.whereabouts != Whereabouts::Known || self.blocked.is_some_and(|until| until > now) {
            return;
        }
        self.blocked = None;
        // The engine tells nobody of a start that it refuses.
        self.recall(|container| container.observed.state != ReplicaState::Running);
        let members = self.members();
        self.advance_restarts(&members, now);
        let situation = Situation {
            record: &self.record,
            members: &members,
            needs_image: self.image == ImageState::Needed,
            attempt: self.failed.as_ref().map_or(Attempt::Open, |failed| failed.again),
            established: self.established,
            restart: self.restarts.gate.is_none().then(|| self.restarts.queue.front().map(String::as_str)).flatten(),
            restarting: self.restarts.gate.is_some(),
            boot: self.shared.boot,
            deference: if self.shared.turns.leads() { Duration::ZERO } else { DEFERENCE },
            now: Timestamp::now(),
        };
        let plan = plan::plan(&situation);
        self.wake = plan.wake;
        if plan.steps.is_empty() {
            self.making.end_turn();
            let complete = (1..=self.record.spec.replicas).all(|ordinal| members.iter().any(|member| member.ordinal == ordinal));
            self.established |= complete && self.failed.is_none();
            let is_done = self.restarts.queue.is_empty() && members.iter().all(|member| member.ready);
            if is_done || self.record.desired != Desired::Running {
                // What happens from here on is nobody's wish.
                self.cause = Span::none();
            }
            return;
        }
        if self.may_begin(&plan.steps, now) {
            self.begin(plan.steps);
        }
    }

    fn begin(&mut self, steps: Vec<Step>) {
        for step in &steps {
            if let Some(id) = step.ends() {
                self.change(id, Tracked::stopping);
            }
            if let Step::Start { id } = step {
                self.change(id, Tracked::starting);
            }
            if let Step::Restart { id } = step
                && self.change(id, Tracked::reconnecting) == Some(true)
            {
                let service = &self.record.name;
                tracing::warn!(%service, container = id, "a container has lost its network, or what serves its port, and is started again");
                self.shared.metrics.container_restarts.with_label_values(&["network"]).inc();
            }
        }
        if steps.iter().any(|step| matches!(step, Step::Fetch | Step::Create { .. })) {
            self.failed = None;
        }
        let inbox = self.inbox.clone();
        let job = Job {
            shared: self.shared.clone(),
            record: self.record.clone(),
            digest: self.digest.clone(),
            image: match &self.image {
                ImageState::Ready(reference) => Some(reference.clone()),
                ImageState::Assumed | ImageState::Needed => None,
            },
            remove_volumes: self.remove_volumes,
            progress: Arc::new(move |progress| {
                let _ = inbox.send(Message::Progress(progress));
            }),
        };
        let outcome = join_all(steps.iter().cloned().map(|step| job.clone().perform(step))).instrument(self.cause.clone());
        let generation = self.record.generation;
        self.batch =
            Some(Batch { steps, generation, outcome: outcome.map(|effects| effects.into_iter().flatten().collect()).boxed() });
    }

    /// Lets the next restart go ahead when the last one is ready again or has had its time.
    fn advance_restarts(&mut self, members: &[Member], now: Instant) {
        let ready = |id: &str| members.iter().any(|member| member.id == id && member.ready);
        if self.restarts.gate.as_ref().is_some_and(|(id, until)| ready(id) || *until <= now) {
            self.restarts.gate = None;
        }
        let runs = |id: &String| members.iter().any(|member| member.id == *id && member.state == ReplicaState::Running);
        while self.restarts.queue.front().is_some_and(|id| !runs(id)) {
            self.restarts.queue.pop_front();
        }
        if self.restarts.queue.is_empty() {
            self.answer_restarts(&Ok(()));
        }
    }

    fn answer_restarts(&mut self, answer: &Result<()>) {
        for reply in self.restarts.waiting.drain(..) {
            let _ = reply.send(answer.clone());
        }
    }

    // ---- health

    fn launch_checks(&mut self) {
        let now = Instant::now();
        let check = &self.record.spec.health_check;
        for (id, container) in &mut self.containers {
            let Some(run) = container.take_check(now) else { continue };
            let inside = container.observed.pid.zip(self.record.spec.front_port()).filter(|_| self.shared.is_local());
            let target = Target { id: id.clone(), inside, address: container.observed.address };
            let attached = container.observed.address.and(inside).map(|(pid, _)| Attached {
                pid,
                started_at: container.observed.started_at,
                namespace: self.shared.network_namespace_dir().map(Path::to_owned),
            });
            let (shared, check) = (self.shared.clone(), check.clone());
            let ask = async move {
                let _turn = shared.checks.acquire().await;
                let outcome = health::probe(&shared.engine, &target, &check).await;
                let mut lost = attached.and_then(|attached| attached.lost());
                // An answer has come through the port.
                let answered = matches!((&check.probe, &outcome), (Probe::Http(_), Some(Ok(()))));
                if lost.is_none() && !answered && target.has_lost_port().await {
                    lost = Some(Lost::Port);
                }
                Aside::Checked { id: target.id, run, outcome, lost }
            };
            self.aside.push(ask.boxed());
        }
    }

    /// When something is due though nothing happens.
    fn timer(&self) -> Option<Instant> {
        let now = Timestamp::now();
        let wake = self.wake.filter(|_| self.batch.is_none());
        let wake = wake.map(|wake| Instant::now() + Duration::try_from(wake.duration_since(now)).unwrap_or_default());
        let checks = self.containers.values().filter_map(Tracked::next_check).min();
        let gate = self.restarts.gate.as_ref().map(|(_, until)| *until);
        let blocked = self.blocked.filter(|_| self.batch.is_none());
        [wake, checks, gate, blocked, self.making.due()].into_iter().flatten().min()
    }

    // ---- what others see

    pub(super) fn publish(&self) {
        let members: Vec<_> = self.containers.values().map(|one| (one.member(&self.digest), one.health())).collect();
        let under_way = self.batch.as_ref().map_or(&[][..], |batch| &batch.steps);
        let standing = Standing {
            record: &self.record,
            members: &members,
            under_way,
            failed: self.failed.is_some(),
            established: self.established,
            boot: self.shared.boot,
        };
        let mut replicas: Vec<_> =
            self.containers.values().map(|container| container.replica(&self.record, self.shared.boot)).collect();
        replicas.sort_by(|one, other| (one.ordinal, &one.name).cmp(&(other.ordinal, &other.name)));
        let state = ServiceState {
            record: self.record.clone(),
            phase: phase(&standing),
            replicas,
            failure: self.failed.as_ref().map(|failed| failed.error.clone()),
            progress: self.progress.clone(),
            warnings: self.warnings.clone(),
            reasons: Vec::new(),
        };
        let before = self.shared.view.get(&self.record.name);
        if !before.is_some_and(|before| same(&before, &state)) {
            self.shared.view.put(state);
        }
    }

    /// The first look is over when every container that ran has been asked for its health.
    fn finish_first_look(&mut self) {
        if self.first_look.is_some() && self.containers.values().all(Tracked::was_asked) {
            self.first_look = None;
        }
    }
}

/// Whether nothing that readers see has changed.
fn same(before: &ServiceState, after: &ServiceState) -> bool {
    let detail = |state: &ServiceState| state.failure.as_ref().map(|failure| failure.detail.clone());
    Arc::ptr_eq(&before.record, &after.record)
        && before.phase == after.phase
        && before.replicas == after.replicas
        && before.progress == after.progress
        && before.warnings == after.warnings
        && detail(before) == detail(after)
}

/// The outcome of the steps that are under way; never, when there are none.
async fn outcome(batch: &mut Option<Batch>) -> Vec<Effect> {
    match batch {
        Some(batch) => (&mut batch.outcome).await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}
