//! Carrying out the steps of a plan on the engine. Every step can be repeated: what is done already counts as done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::SemaphorePermit;

use super::bridge::{self, Invocation};
use super::client::EngineError;
use super::container::{Blueprint, needs_image_user};
use super::errors;
use super::images::{Image, OnProgress};
use super::missing;
use super::observed::{Inspected, Observed};
use super::plan::Step;
use super::records;
use super::shared::Shared;
use super::shipped;
use crate::domain::spec::{MountSource, ServiceSpec};
use crate::domain::status::{Desired, Record, ReplicaState};
use crate::error::{Error, Kind, Result};

/// So long the engine may take to be done with a container that has ended; the process that does it may have been killed.
const SETTLING: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);
/// So often a start is tried again while another manager replaces a secret.
const REPLACING: u32 = 20;

/// What a step is done for.
#[derive(Clone)]
pub(super) struct Job {
    pub(super) shared: Arc<Shared>,
    pub(super) record: Arc<Record>,
    pub(super) digest: Arc<str>,
    /// The reference by which the engine knows the image, when that is not the spec's.
    pub(super) image: Option<String>,
    pub(super) remove_volumes: bool,
    pub(super) progress: OnProgress,
}

/// What came of a step.
#[derive(Debug)]
pub(super) enum Effect {
    /// A container as it is now, and when the engine was asked.
    Seen(Observed, Instant),
    /// A container that was made here.
    Made(String),
    /// A container that is no more.
    Gone(String),
    /// A container was started by the manager.
    Started(String),
    /// What the engine had to say about a creation.
    Warned(Vec<String>),
    /// The image is not at hand.
    ImageNeeded,
    /// The image is at hand under this reference.
    ImageReady(String),
    /// The record cannot be carried out.
    Failed(Error),
    /// An existing container could not be started.
    Refused(String, Error),
    /// The record is not there any more.
    RecordGone,
    /// Nothing of the service is left.
    Purged,
    /// The step could not be done now and is repeated later.
    Again(Error),
}

impl Job {
    /// Carries out one step. Only `Fetch` may be dropped half-way.
    pub(super) async fn perform(self, step: Step) -> Vec<Effect> {
        let done = match &step {
            Step::Fetch => self.fetch().await,
            Step::Create { ordinal, start } => self.create(*ordinal, *start).await,
            Step::Start { id } => self.start(id).await,
            Step::Stop { id } => self.stop(id).await,
            Step::Restart { id } => self.restart(id).await,
            Step::Remove { id } => self.remove(id).await,
            Step::Abandon { new, old: _ } => self.abandon(new).await,
            Step::Purge => self.purge().await,
        };
        done.unwrap_or_else(|error| vec![Effect::Again(error)])
    }

    /// A turn among the operations that run at the same time. The semaphore is never closed.
    async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.shared.operations.acquire().await.ok()
    }

    async fn seen(&self, id: &str) -> Result<Effect, EngineError> {
        let asked = Instant::now();
        let seen = self.shared.look(id, self.record.spec.front_port()).await?;
        Ok(seen.map_or_else(|| Effect::Gone(id.to_owned()), |observed| Effect::Seen(observed, asked)))
    }

    async fn fetch(&self) -> Result<Vec<Effect>> {
        let spec = &self.record.spec;
        let fetched = shipped::fetch(&self.shared, &spec.image, spec.pull_policy, None, self.progress.clone()).await;
        match fetched {
            Ok(fetched) => Ok(vec![Effect::ImageReady(fetched.reference)]),
            Err(error) if error.kind == Kind::BackendUnavailable => Err(error),
            Err(error) => Ok(vec![Effect::Failed(error)]),
        }
    }

    async fn create(&self, ordinal: u32, start: bool) -> Result<Vec<Effect>> {
        let shared = &*self.shared;
        let spec = &*self.record.spec;
        let held = match shared.secrets.hold(shared, spec).await {
            Ok(held) => held,
            Err(error) if error.kind == Kind::BackendUnavailable => return Err(error),
            Err(error) => return Ok(vec![Effect::Failed(error)]),
        };
        let _turn = self.turn().await;
        if !self.record_stands().await? {
            return Ok(vec![Effect::RecordGone]);
        }
        let mut secrets = held.names.clone();
        if let Some((variable, secret)) = self.session_key().await? {
            secrets.insert(variable, secret);
        }
        let Made { id, here, warnings } = match self.make(ordinal, &secrets).await {
            Ok(made) => made,
            Err(Unmade::NoImage) => return Ok(vec![Effect::ImageNeeded]),
            Err(Unmade::Later(error)) => return Err(error),
            Err(Unmade::Because(error)) if error.kind == Kind::BackendUnavailable => return Err(error),
            Err(Unmade::Because(error)) => return Ok(vec![Effect::Failed(error)]),
        };
        // Another manager may have finished a deletion in the meantime, which this container would undo.
        if !self.record_stands().await? {
            let removed = shared.engine.remove(&id, Duration::ZERO).await;
            removed.map_err(|error| errors::engine(error, "remove a container"))?;
            return Ok(vec![Effect::Gone(id), Effect::RecordGone]);
        }
        let mut effects = vec![Effect::Warned(warnings)];
        effects.extend(here.then(|| Effect::Made(id.clone())));
        if !start {
            effects.push(self.seen(&id).await.map_err(|error| errors::engine(error, "look at the new container"))?);
            return Ok(effects);
        }
        match self.launch(&id, &secrets).await {
            Ok(()) => {
                effects.push(self.seen(&id).await.map_err(|error| errors::engine(error, "look at the new container"))?);
                Ok(effects)
            }
            // One that is missing is still being made by another manager, or was removed by somebody.
            Err(error) if error.is_away() || error.is_missing() || errors::is_without_secret(&error, secrets.values()) => {
                Err(errors::engine(error, "start the container"))
            }
            Err(error) => {
                let removed = shared.engine.remove(&id, Duration::ZERO).await;
                if !errors::lost_its_port(&error, spec) {
                    effects.push(Effect::Failed(errors::start(error, spec)));
                }
                if let Err(error) = removed {
                    effects.push(self.seen(&id).await.map_err(|_| errors::engine(error, "remove a container"))?);
                }
                Ok(effects)
            }
        }
    }

    /// What the bridge runs in the container of a replica, and how the replica is called among its peers.
    fn bridged(&self, image: &Image, ordinal: u32) -> Result<(Invocation, String)> {
        let owner = bridge::owner(&self.shared.names.container(&self.record.name, self.record.generation, ordinal));
        let invocation = bridge::invocation(&self.record.spec, image, &owner, &self.shared.settings.bridge_hosts)?;
        Ok((invocation, owner))
    }

    /// Makes sure that the service has a key for session ids; the variable and the engine's secret with it.
    async fn session_key(&self) -> Result<Option<(String, String)>> {
        if !bridge::is_needed(&self.record.spec) {
            return Ok(None);
        }
        let name = self.shared.names.session_key(&self.record.name);
        let key = crate::random::key();
        match self.shared.engine.create_secret(&name, &key).await {
            // Once made it stays, for all replicas and managers.
            Err(error) if error.says("secret name in use") => {}
            answer => {
                answer.map_err(|error| errors::engine(error, "store the key for session ids"))?;
            }
        }
        Ok(Some((bridge::KEY_VARIABLE.to_owned(), name)))
    }

    /// Starts a container. The bridge is copied into it each time: a manager may have been killed between the creation
    /// and the copy, and may be newer than the container.
    async fn launch(&self, id: &str, secrets: &BTreeMap<String, String>) -> Result<(), EngineError> {
        if bridge::is_needed(&self.record.spec)
            && let Ok(program) = bridge::program(self.shared.settings.bridge.as_deref())
            && !self.shared.look(id, None).await?.is_some_and(|seen| seen.state == ReplicaState::Running)
        {
            bridge::deliver(&self.shared.engine, &program, id).await?;
        }
        self.shared.ready_name_server().await?;
        let mut waited = 0;
        loop {
            match self.shared.engine.start(id).await {
                Err(error) if errors::is_without_secret(&error, secrets.values()) && waited < REPLACING => waited += 1,
                answer => return answer,
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn record_stands(&self) -> Result<bool> {
        let stands = missing::stands(&self.shared, &self.record).await;
        stands.map_err(|error| errors::engine(error, "look at the record of the service"))
    }

    /// Makes a container.
    async fn make(&self, ordinal: u32, secrets: &BTreeMap<String, String>) -> Result<Made, Unmade> {
        let shared = &*self.shared;
        let spec = &*self.record.spec;
        let abilities = shared.abilities();
        let image = self.image.as_deref().unwrap_or(&spec.image);
        let bridged = bridge::is_needed(spec);
        let described = if bridged || needs_image_user(spec) {
            let described = shared.engine.image::<Image>(image).await;
            Some(described.map_err(|error| errors::engine(error, "look at the image"))?.ok_or(Unmade::NoImage)?)
        } else {
            None
        };
        let (mut networks_made, mut waited) = (false, 0);
        loop {
            let blueprint = Blueprint {
                settings: &shared.settings,
                names: &shared.names,
                abilities: &abilities,
                record: &self.record,
                digest: &self.digest,
                ordinal,
                image,
                image_user: described.as_ref().map(Image::user),
                secrets,
                init: !shared.no_init.load(Ordering::Relaxed),
                bridged: described.as_ref().filter(|_| bridged).map(|image| self.bridged(image, ordinal)).transpose()?,
            };
            let init = blueprint.init;
            let error = match shared.engine.create(&blueprint.request()?).await {
                Ok(created) => {
                    return Ok(Made { id: created.id, here: true, warnings: created.warnings.unwrap_or_default() });
                }
                Err(error) => error,
            };
            if error.says("image not known") {
                return Err(Unmade::NoImage);
            } else if error.says("name is already in use") {
                // Made by an attempt whose answer was lost, or by another manager: it is the one.
                let id = shared.names.container(&self.record.name, self.record.generation, ordinal);
                return Ok(Made { id, here: false, warnings: Vec::new() });
            } else if init && error.says("init binary") {
                tracing::warn!("the engine has no init process (catatonit); containers run without one");
                shared.no_init.store(true, Ordering::Relaxed);
            } else if error.says("network not found") && !networks_made {
                networks_made = true;
                shared.ensure_networks().await.map_err(|error| errors::engine(error, "make the network"))?;
            } else if errors::is_without_secret(&error, secrets.values()) {
                if waited == REPLACING {
                    return Err(Unmade::Later(errors::engine(error, "make the container")));
                }
                waited += 1;
                tokio::time::sleep(PAUSE).await;
            } else {
                return Err(errors::start(error, spec).into());
            }
        }
    }

    async fn start(&self, id: &str) -> Result<Vec<Effect>> {
        let shared = &*self.shared;
        let held = match shared.secrets.hold(shared, &self.record.spec).await {
            Ok(held) => held,
            Err(error) if error.kind == Kind::BackendUnavailable => return Err(error),
            Err(error) => return Ok(vec![Effect::Refused(id.to_owned(), error)]),
        };
        self.until_settled(id).await;
        let _turn = self.turn().await;
        self.session_key().await?;
        match self.launch(id, &held.names).await {
            Ok(()) => {
                let seen = self.seen(id).await.map_err(|error| errors::engine(error, "look at the container"))?;
                Ok(vec![Effect::Started(id.to_owned()), seen])
            }
            Err(error) if error.is_missing() => Ok(vec![Effect::Gone(id.to_owned())]),
            Err(error) if error.is_away() || errors::is_without_secret(&error, held.names.values()) => {
                Err(errors::engine(error, "start the container"))
            }
            Err(error) if errors::lost_its_port(&error, &self.record.spec) => self.remove(id).await,
            Err(error) => Ok(vec![Effect::Refused(id.to_owned(), errors::start(error, &self.record.spec))]),
        }
    }

    /// Waits until the engine is done with a container that has ended, which it leaves to a process of its own. Started
    /// before that, the container would keep the network of its last run, and lose its port as soon as that process ends.
    async fn until_settled(&self, id: &str) {
        let began = Instant::now();
        while began.elapsed() < SETTLING
            && self.shared.engine.inspect::<Inspected>(id).await.is_ok_and(|inspected| inspected.is_settling())
        {
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn stop(&self, id: &str) -> Result<Vec<Effect>> {
        match self.shared.engine.stop(id).await {
            Err(error) if error.is_missing() => Ok(vec![Effect::Gone(id.to_owned())]),
            Err(error) => Err(errors::engine(error, "stop the container")),
            Ok(()) => Ok(vec![self.seen(id).await.map_err(|error| errors::engine(error, "look at the container"))?]),
        }
    }

    async fn restart(&self, id: &str) -> Result<Vec<Effect>> {
        let mut effects = self.stop(id).await?;
        if !effects.iter().any(|effect| matches!(effect, Effect::Gone(_))) {
            effects.extend(self.start(id).await?.into_iter().filter(|effect| !matches!(effect, Effect::Started(_))));
        }
        Ok(effects)
    }

    async fn remove(&self, id: &str) -> Result<Vec<Effect>> {
        let answer = self.shared.engine.remove(id, self.record.spec.stop_timeout.duration()).await;
        answer.map_err(|error| errors::engine(error, "remove a container"))?;
        Ok(vec![Effect::Gone(id.to_owned())])
    }

    async fn abandon(&self, new: &str) -> Result<Vec<Effect>> {
        let answer = self.shared.engine.remove(new, Duration::ZERO).await;
        answer.map_err(|error| errors::engine(error, "remove a container"))?;
        Ok(vec![Effect::Gone(new.to_owned())])
    }

    /// Takes away what outlives the containers, the records last: until then a successor can finish this.
    async fn purge(&self) -> Result<Vec<Effect>> {
        let shared = &*self.shared;
        let fault = |error| errors::engine(error, "remove the records of the service");
        // Containers that another manager made before it heard of the deletion. While our record is there, no new service
        // has the name, so they belong to this one.
        let strangers = missing::containers_of(shared, &self.record.name).await.map_err(fault)?;
        let ours = records::get(&shared.engine, &shared.names, &self.record.name, self.record.generation).await;
        if ours.map_err(fault)?.is_none_or(|ours| ours.record.created_at != self.record.created_at) {
            // Another manager has finished.
            return Ok(vec![Effect::Purged]);
        }
        for id in strangers.into_iter().filter_map(|stranger| stranger.id) {
            shared.engine.remove(&id, Duration::ZERO).await.map_err(fault)?;
        }
        // As the engine has them, which knows of the other managers' deletions: of several at once, the last sees that
        // nobody else uses what they shared.
        let present = records::load(&shared.engine, &shared.names).await.map_err(fault)?.newest;
        let others = present.values().map(|other| &other.record).filter(|other| other.name != self.record.name);
        let others: Vec<&ServiceSpec> =
            others.filter(|other| other.desired != Desired::Removed).map(|other| &*other.spec).collect();
        shared.secrets.release(&shared.engine, &shared.names, &self.record.spec, others.iter().copied()).await?;
        if bridge::is_needed(&self.record.spec) {
            shared.engine.remove_secret(&shared.names.session_key(&self.record.name)).await.map_err(fault)?;
        }
        if self.remove_volumes {
            self.remove_volumes(&others).await?;
        }
        // Older generations may be left from an interrupted change.
        let found = shared.engine.volumes(super::names::SERVICE, self.record.name.as_str()).await.map_err(fault)?;
        let mut generations: Vec<u64> = found
            .iter()
            .filter_map(|volume| shared.names.parse_record(&volume.name))
            .filter(|(name, generation)| *name == self.record.name && *generation <= self.record.generation)
            .map(|(_, generation)| generation)
            .collect();
        generations.sort_unstable();
        for generation in generations {
            shared.engine.remove_volume(&shared.names.record(&self.record.name, generation)).await.map_err(fault)?;
        }
        Ok(vec![Effect::Purged])
    }

    /// Removes the named volumes that no other service uses.
    async fn remove_volumes(&self, others: &[&ServiceSpec]) -> Result<()> {
        for mount in &self.record.spec.volumes {
            let MountSource::Volume(name) = &mount.source else { continue };
            let used = others.iter().any(|other| other.volumes.iter().any(|theirs| theirs.source == mount.source));
            if used {
                continue;
            }
            match self.shared.engine.remove_volume(name).await {
                Ok(_) => {}
                // A container of somebody else's uses it: then it is not ours alone.
                Err(error) if error.says("being used") => {
                    tracing::info!(service = %self.record.name, volume = name, "the volume is in use elsewhere and stays");
                }
                Err(error) => return Err(errors::engine(error, "remove a volume")),
            }
        }
        Ok(())
    }
}

/// A container that is there.
struct Made {
    /// Its id, or its name.
    id: String,
    /// Nobody else has made it.
    here: bool,
    /// What the engine had to say.
    warnings: Vec<String>,
}

/// Why a container was not made.
enum Unmade {
    NoImage,
    Because(Error),
    /// It may be made a moment later.
    Later(Error),
}

impl From<Error> for Unmade {
    fn from(error: Error) -> Self {
        Self::Because(error)
    }
}
