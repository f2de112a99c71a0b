//! Questions about services; all but logs, stats and inspection are answered from the view.

use std::ops::RangeInclusive;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tokio_stream::wrappers::BroadcastStream;
use utoipa::IntoParams;

use super::services::has_looked;
use super::views::{ServiceDetail, ServiceList};
use super::{Manager, redact};
use crate::domain::access::{Actor, Operation};
use crate::domain::name::ServiceName;
use crate::domain::status::{Phase, ReplicaStats, ServiceEvent, ServiceState, Snapshot};
use crate::domain::{fields, shown};
use crate::error::{Error, FieldError, Result};

/// Services on one page, when nothing else is asked for, and at most.
const PAGE: usize = 500;
const LIMIT: RangeInclusive<usize> = 1..=PAGE;

/// Reads a number of services.
fn limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    fields::whole(deserializer, LIMIT)
}

/// Which services a list should show, as callers write it.
#[derive(Debug, Clone, Default, Deserialize, IntoParams, JsonSchema)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListRequest {
    /// Only services in these phases, comma-separated (`running,starting`).
    #[param(max_length = 200)]
    pub status: Option<String>,
    /// Only services from this template, `NAME` or `NAME@VERSION`.
    pub template: Option<String>,
    /// Only services with these labels, comma-separated: `KEY` or `KEY=VALUE`. In a value, `\,` is a comma and `\\` a
    /// backslash.
    pub label: Option<String>,
    /// Services on a page, 1 to 500.
    #[param(minimum = 1, maximum = 500)]
    #[serde(default, deserialize_with = "limit")]
    #[schemars(range(min = 1, max = 500))]
    pub limit: Option<usize>,
    /// Only names after this one: `next` of the page before.
    pub after: Option<String>,
}

impl ListRequest {
    /// What is asked for; an error for what cannot be.
    pub fn query(self) -> Result<ListQuery> {
        let (phases, errors) = self.judged();
        if !errors.is_empty() {
            return Err(Error::invalid("the request is not valid", fields::bounded(errors)));
        }
        let labels = self.label.iter().flat_map(|list| labels_of(list)).filter(|text| !text.is_empty());
        let labels = labels.map(|text| match text.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (text, None),
        });
        let labels = labels.collect();
        // Like an empty status or label, an empty name asks for nothing in particular.
        let template = self.template.filter(|template| !template.is_empty());
        Ok(ListQuery { phases, template, labels, after: self.after, limit: self.limit.unwrap_or(PAGE) })
    }

    /// All that is asked for and cannot be.
    #[must_use]
    pub fn violations(&self) -> Vec<FieldError> {
        self.judged().1
    }

    fn judged(&self) -> (Vec<Phase>, Vec<FieldError>) {
        let (mut phases, mut errors) = (Vec::new(), Vec::new());
        for text in self.status.iter().flat_map(|list| list.split(',')).filter(|text| !text.is_empty()) {
            if let Some(phase) = Phase::ALL.into_iter().find(|phase| phase.as_str() == text) {
                phases.push(phase);
            } else {
                let known = Phase::ALL.map(Phase::as_str).join(", ");
                let message = format!("'{}' is not a status", shown(text));
                errors.push(FieldError::new("status", message, format!("use one of {known}")));
            }
        }
        if let Some(limit) = self.limit.filter(|limit| !LIMIT.contains(limit)) {
            errors.push(FieldError::new("limit", format!("is {limit}"), format!("use {} to {}", LIMIT.start(), LIMIT.end())));
        }
        (phases, errors)
    }
}

/// A label's selector as one entry of [`ListRequest::label`].
#[must_use]
pub fn label_entry(selector: &str) -> String {
    selector.replace('\\', r"\\").replace(',', r"\,")
}

/// The entries of [`ListRequest::label`]. A backslash that stands before nothing special is one.
fn labels_of(list: &str) -> Vec<String> {
    let mut entries = vec![String::new()];
    let mut rest = list.chars().peekable();
    while let Some(character) = rest.next() {
        let escaped = if character == '\\' { rest.next_if(|next| matches!(next, ',' | '\\')) } else { None };
        match (entries.last_mut(), escaped) {
            (_, None) if character == ',' => entries.push(String::new()),
            (Some(entry), escaped) => entry.push(escaped.unwrap_or(character)),
            (None, _) => {}
        }
    }
    entries
}

/// Which services a list shows.
#[derive(Debug, Clone, Default)]
pub struct ListQuery {
    /// Only those in one of these phases; all when empty.
    pub phases: Vec<Phase>,
    /// Only those from this template (`NAME` or `NAME@VERSION`).
    pub template: Option<String>,
    /// Only those with all these labels; a value of `None` asks for the label alone.
    pub labels: Vec<(String, Option<String>)>,
    /// Only names after this one.
    pub after: Option<String>,
    /// So many at most.
    pub limit: usize,
}

impl ListQuery {
    fn matches(&self, service: &ServiceState) -> bool {
        let record = &service.record;
        let template = self.template.as_ref().is_none_or(|wanted| {
            let (name, version) = wanted.split_once('@').map_or((wanted.as_str(), None), |(name, version)| (name, Some(version)));
            record.template.as_ref().is_some_and(|is| is.name == name && version.is_none_or(|version| is.version == version))
        });
        let label = |(name, value): &(String, Option<String>)| {
            record.spec.labels.get(name).is_some_and(|is| value.as_ref().is_none_or(|value| is == value))
        };
        template && (self.phases.is_empty() || self.phases.contains(&service.phase)) && self.labels.iter().all(label)
    }
}

impl Manager {
    /// The live view.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.backend.view().borrow().clone()
    }

    /// Whether the actor may send requests to services; `target` is the service, or the group of services.
    pub async fn authorise_use(self: &Arc<Self>, actor: &Actor, target: &str) -> Result<()> {
        self.perform(actor, Operation::ServiceUse, target, std::future::ready(Ok(()))).await
    }

    /// The services that `query` asks for.
    pub async fn list_services(self: &Arc<Self>, actor: &Actor, query: ListQuery) -> Result<ServiceList> {
        let manager = self.clone();
        self.perform(actor, Operation::ServiceList, "", async move {
            let snapshot = manager.snapshot();
            has_looked(&snapshot)?;
            let matching: Vec<_> = snapshot.services.iter().filter(|(_, service)| query.matches(service)).collect();
            let rest =
                matching.iter().filter(|(name, _)| query.after.as_ref().is_none_or(|after| name.as_str() > after.as_str()));
            let mut page: Vec<_> = rest.take(query.limit + 1).collect();
            let more = page.len() > query.limit;
            page.truncate(query.limit);
            let next = page.last().filter(|_| more).map(|(name, _)| name.to_string());
            let containers = page.into_iter().map(|(_, service)| manager.summary(service)).collect();
            Ok(ServiceList { containers, total: matching.len(), next, as_of: snapshot.as_of })
        })
        .await
    }

    /// Everything about one service.
    pub async fn get_service(self: &Arc<Self>, actor: &Actor, name: &ServiceName) -> Result<ServiceDetail> {
        let (manager, owned) = (self.clone(), name.clone());
        let work = async move { Ok(manager.detail(&*manager.service(&owned)?)) };
        self.perform(actor, Operation::ServiceGet, name.as_str(), work).await
    }

    /// What each running replica uses.
    pub async fn service_stats(self: &Arc<Self>, actor: &Actor, name: &ServiceName) -> Result<Vec<ReplicaStats>> {
        let (manager, owned) = (self.clone(), name.clone());
        let work = async move {
            manager.service(&owned)?;
            manager.backend.stats(&owned).await
        };
        self.perform(actor, Operation::ServiceStats, name.as_str(), work).await
    }

    /// The engine's own description of each replica, without secret values.
    pub async fn inspect_service(self: &Arc<Self>, actor: &Actor, name: &ServiceName) -> Result<Vec<Value>> {
        let (manager, owned) = (self.clone(), name.clone());
        let work = async move {
            let service = manager.service(&owned)?;
            let secrets: Vec<&str> = service.record.spec.secrets.keys().map(String::as_str).collect();
            let mut documents = manager.backend.inspect(&owned).await?;
            for document in &mut documents {
                redact::inspection(document, &secrets);
            }
            Ok(documents)
        };
        self.perform(actor, Operation::ServiceInspect, name.as_str(), work).await
    }

    /// What happens to a service from now on, beginning with where it stands; ends when it is removed. `None` asks for all
    /// services, without end. When the manager stops, the last item is an error that says so.
    pub async fn service_events(
        self: &Arc<Self>,
        actor: &Actor,
        name: Option<&ServiceName>,
    ) -> Result<BoxStream<'static, Result<ServiceEvent>>> {
        let (manager, owned) = (self.clone(), name.cloned());
        let stopping = self.tasks.stopping();
        let work = async move {
            let receiver = manager.backend.events();
            let snapshot = manager.snapshot();
            let first: Vec<ServiceEvent> = match &owned {
                Some(name) => vec![standing(&*manager.service(name)?)],
                None => snapshot.services.values().map(|service| standing(service)).collect(),
            };
            let wanted = owned.clone();
            let live = BroadcastStream::new(receiver)
                .filter_map(|event| std::future::ready(event.ok()))
                .filter(move |event| std::future::ready(wanted.as_ref().is_none_or(|name| event.service == *name)));
            // The stream ends with the service's removal at once, not with the event after it, which never comes.
            let live = live.flat_map(move |event| {
                let end = (owned.is_some() && event.kind == "removed").then_some(None);
                futures_util::stream::iter(std::iter::once(Some(event)).chain(end))
            });
            let live = live.take_while(|event| std::future::ready(event.is_some())).filter_map(std::future::ready);
            let all = futures_util::stream::iter(first).chain(live).map(Ok).boxed();
            Ok(super::until_stopped(all, stopping))
        };
        self.perform(actor, Operation::ServiceEvents, name.map_or("", ServiceName::as_str), work).await
    }
}

/// An event that says where a service stands.
fn standing(service: &ServiceState) -> ServiceEvent {
    ServiceEvent {
        sequence: 0,
        at: service.record.updated_at,
        service: service.record.name.clone(),
        kind: "phase".to_owned(),
        message: format!("{} is {}", service.record.name, service.phase.as_str()),
        replica: None,
        phase: Some(service.phase),
    }
}
