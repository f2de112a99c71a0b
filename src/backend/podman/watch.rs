//! Keeps up with the engine: its list at the start and every so often, its events in between.
//!
//! Events only say where to look; what is so is always asked. The record volumes of other managers on the same engine
//! are followed in the same way.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use jiff::Timestamp;
use podman_api::models::Event;
use tokio_util::sync::CancellationToken;

use super::abilities::Abilities;
use super::client::EngineError;
use super::missing::Orphans;
use super::names;
use super::observed::{Listed, Observed};
use super::records::{self, Stored};
use super::service::Message;
use super::shared::Shared;
use crate::domain::name::ServiceName;

/// Pauses between attempts to reach the engine.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// So many services are taken over at the same time.
const AT_ONCE: usize = 8;

/// Follows the engine until `cancelled`.
pub(super) async fn follow(shared: Arc<Shared>, cancelled: CancellationToken) {
    let mut pause = FIRST_PAUSE;
    let mut told = false;
    loop {
        let began = Instant::now();
        let ended = tokio::select! {
            () = cancelled.cancelled() => break,
            ended = session(&shared) => ended,
        };
        let was_connected = shared.view.snapshot().connected;
        shared.view.connected(false);
        shared.metrics.engine_connected.set(0);
        if was_connected || !told {
            tracing::warn!(socket = %shared.engine.socket().display(), reason = %ended, "no connection to the container engine");
            told = true;
        }
        pause = if began.elapsed() > LONGEST_PAUSE { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
        tokio::select! {
            () = cancelled.cancelled() => break,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// One connection's time; answers why it ended.
async fn session(shared: &Arc<Shared>) -> EngineError {
    let attended = async {
        shared.set_abilities(Abilities::of(shared.engine.info().await?));
        shared.look_where_it_is().await;
        shared.ensure_networks().await?;
        shared.look_where_services_are().await?;
        tracing::info!(socket = %shared.engine.socket().display(), "connected to the container engine");
        let mut orphans = Orphans::default();
        loop {
            attend(shared, &mut orphans).await?;
            // Where events go to a file, Podman ends the stream whenever it cuts that file short. An engine that answers
            // all the same is not lost.
            shared.engine.ping().await?;
            tracing::debug!("the engine ended the stream of events, and answers; following it anew");
            tokio::time::sleep(FIRST_PAUSE).await;
        }
    };
    let ended: Result<std::convert::Infallible, EngineError> = attended.await;
    match ended {
        Err(error) => error,
    }
}

/// Follows one stream of events to its end.
async fn attend(shared: &Arc<Shared>, orphans: &mut Orphans) -> Result<(), EngineError> {
    // Events are asked for from a moment before the list, so that nothing falls between the two.
    let since = Timestamp::now().as_second() - 1;
    let mut events = shared.engine.events(since);
    let again = reconcile(shared, orphans).await?;
    heard(shared);
    let mut unreachable = pin!(shared.engine.unreachable());
    let mut tick = tokio::time::interval(shared.settings.reconcile_interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tick.reset_after(again.unwrap_or(shared.settings.reconcile_interval));
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => {
                    shared.view.heard();
                    take_event(shared, &event).await?;
                }
                Some(Err(EngineError::Odd(error))) => tracing::debug!(error, "an event could not be read"),
                // However the stream ended: whether the engine is lost is found out by asking it.
                Some(Err(error)) => {
                    tracing::debug!(%error, "the stream of events broke off");
                    return Ok(());
                }
                None => return Ok(()),
            },
            lost = &mut unreachable => return Err(lost),
            _ = tick.tick() => {
                let again = reconcile(shared, orphans).await?;
                heard(shared);
                if let Some(again) = again {
                    tick.reset_after(again);
                }
            }
        }
    }
}

/// The engine has answered in full; who waited for that goes on.
fn heard(shared: &Shared) {
    let was_away = !shared.view.snapshot().connected;
    shared.view.connected(true);
    shared.metrics.engine_connected.set(1);
    if was_away {
        for name in shared.service_names() {
            shared.tell(name.as_str(), Message::Connected);
        }
    }
}

/// Compares everything with the engine; answers when that is to be done again, if earlier than usual.
async fn reconcile(shared: &Arc<Shared>, orphans: &mut Orphans) -> Result<Option<Duration>, EngineError> {
    let outcome = compare(shared, orphans).await;
    let result = if outcome.is_ok() { "ok" } else { "failed" };
    shared.metrics.reconciles.with_label_values(&[result]).inc();
    outcome
}

async fn compare(shared: &Arc<Shared>, orphans: &mut Orphans) -> Result<Option<Duration>, EngineError> {
    let names = &shared.names;
    let asked = Instant::now();
    // Containers first: a container in the list had its record before, so a record that is missing is really missing.
    let listed = shared.engine.containers(names::OWNER, names.owner()).await?;
    shared.tidy_name_server(&listed).await?;
    let ids: BTreeSet<&str> = listed.iter().filter_map(|one| one.id.as_deref()).collect();
    shared.pasts.tidy(|id| ids.contains(id));
    let publish = shared.services_address();
    let mut containers: BTreeMap<ServiceName, Vec<Listed>> = BTreeMap::new();
    for listed in listed.iter().filter_map(|listed| Observed::of_listed(listed, publish)) {
        containers.entry(listed.service.clone()).or_default().push(listed);
    }
    let found = records::load(&shared.engine, names).await?;
    let first_look = shared.is_first_list();
    let records = found.newest.values().map(|stored| {
        let observed = containers.remove(&stored.record.name).unwrap_or_default().into_iter().map(|one| one.observed).collect();
        take_record(shared, stored, observed, asked, first_look)
    });
    let mut records = futures_util::stream::iter(records.collect::<Vec<_>>()).buffer_unordered(AT_ONCE);
    while let Some(taken) = records.next().await {
        taken?;
    }
    drop(records);
    for name in shared.service_names() {
        if !found.newest.contains_key(&name) {
            let observed = containers.remove(&name).unwrap_or_default().into_iter().map(|one| one.observed).collect();
            shared.tell(name.as_str(), Message::Listed(observed, asked));
            shared.tell(name.as_str(), Message::RecordMissing);
        }
    }
    let (restored, again) = orphans.found(shared, containers).await;
    for (stored, containers) in restored {
        adopt(shared, &stored, containers.into_iter().map(|one| one.observed).collect(), first_look).await?;
    }
    for volume in found.outdated {
        shared.engine.remove_volume(&volume).await?;
    }
    // Until it is known whose the containers without a record are, the look at everything is not complete.
    if again.is_none() {
        shared.listed();
    }
    Ok(again)
}

/// Gives a record to its service's task, or starts one for it.
async fn take_record(
    shared: &Arc<Shared>,
    stored: &Stored,
    observed: Vec<Observed>,
    asked: Instant,
    first_look: bool,
) -> Result<(), EngineError> {
    let name = &stored.record.name;
    if shared.has(name.as_str()) {
        shared.tell(name.as_str(), Message::Record(stored.clone()));
        shared.tell(name.as_str(), Message::Listed(observed, asked));
        return Ok(());
    }
    // The list may be older than a deletion that has finished since: only what still exists gets a task.
    if records::get(&shared.engine, &shared.names, name, stored.record.generation).await?.is_some() {
        adopt(shared, stored, observed, first_look).await?;
    }
    Ok(())
}

/// Starts the task of a service that exists. The list is coarse (whole seconds, no reasons of ends), so each container is
/// looked at first.
async fn adopt(shared: &Arc<Shared>, stored: &Stored, listed: Vec<Observed>, first_look: bool) -> Result<(), EngineError> {
    let asked = Instant::now();
    let mut observed = Vec::new();
    for listed in listed {
        observed.extend(shared.look(&listed.id, stored.record.spec.front_port()).await?);
    }
    let established = !observed.is_empty();
    shared.adopt(stored, Message::Found(observed, asked), established, first_look);
    Ok(())
}

/// Looks where an event points.
async fn take_event(shared: &Arc<Shared>, event: &Event) -> Result<(), EngineError> {
    let nanoseconds = i128::from(event.time_nano);
    let at = Timestamp::from_nanosecond(nanoseconds).unwrap_or_else(|_| Timestamp::now());
    let attributes = &event.actor.attributes;
    match (event.typ.as_str(), event.action.as_str()) {
        ("container", action @ ("start" | "died" | "remove")) => {
            if attributes.get(names::OWNER).map(String::as_str) != Some(shared.names.owner()) {
                return Ok(());
            }
            let Some(service) = attributes.get(names::SERVICE) else { return Ok(()) };
            count(shared, action, at);
            shared.tell(service, Message::Touched(event.actor.id.clone(), at));
        }
        ("volume", action @ ("create" | "remove")) => {
            let volume = attributes.get("name").map_or(event.actor.id.as_str(), String::as_str);
            let Some((service, generation)) = shared.names.parse_record(volume) else { return Ok(()) };
            let known = shared.view.get(&service).is_some_and(|state| state.record.generation >= generation);
            if known && action == "create" {
                return Ok(());
            }
            count(shared, action, at);
            if let Some(stored) = records::get(&shared.engine, &shared.names, &service, generation).await? {
                take_record(shared, &stored, Vec::new(), Instant::now(), false).await?;
            } else if shared.view.get(&service).is_some_and(|state| state.record.generation == generation) {
                shared.tell(service.as_str(), Message::RecordMissing);
            }
        }
        _ => {}
    }
    Ok(())
}

fn count(shared: &Shared, kind: &str, at: Timestamp) {
    let lag = Timestamp::now().duration_since(at).as_secs_f64().max(0.0);
    shared.metrics.engine_events.with_label_values(&[kind]).inc();
    shared.metrics.event_lag.with_label_values(&[kind]).observe(lag);
}
