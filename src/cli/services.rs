//! Commands that change services: run, apply, start, stop, restart, scale, rm.

use std::time::Instant;

use reqwest::Method;
use serde_json::{Value, json};

use super::arguments::{Apply, NamesAndWait, Remove, Run, Scale, WaitFor};
use super::client::{Client, Query, service_path};
use super::exit::{Code, Outcome, Trouble};
use super::output::{Output, Value as Cell};
use super::progress::{Waiting, watched};
use super::request;
use crate::config::Environment;
use crate::domain::status::{Desired, Phase};
use crate::manager::PatchRequest;
use crate::manager::views::{ServiceDetail, ServicePlan};

/// `mcp-manager run`.
pub async fn run(client: &Client, output: &Output, run: &Run, environment: &Environment) -> Outcome {
    let body = request::from_arguments(run, environment)?;
    service_path(&run.name, "")?;
    if run.plan {
        let plan: ServicePlan = client.change(Method::POST, "/containers", &dry_run(), Some(&body)).await?;
        return if output.json { output.document(&plan) } else { show_plan(output, &plan) };
    }
    let started = Instant::now();
    let query = query(run.wait);
    let work = client.change(Method::POST, "/containers", &query, Some(&body));
    let detail: ServiceDetail = watched(client, output, &run.name, Waiting::Creation, work).await?;
    show(output, &detail, started)?;
    health(output, &detail, run.wait)
}

/// `mcp-manager apply`: every file is read before anything is changed; each service is applied even if another fails.
pub async fn apply(client: &Client, output: &Output, services: Vec<(String, Value)>, arguments: &Apply) -> Outcome {
    if arguments.plan {
        return plan(client, output, services).await;
    }
    let wait = arguments.wait;
    let mut all = Several::default();
    for (name, body) in services {
        let started = Instant::now();
        let work = async { client.change(Method::PUT, &service_path(&name, "")?, &query(wait), Some(&body)).await };
        all.add(output, &name, watched(client, output, &name, Waiting::Change, work).await, started, wait)?;
    }
    all.finish(output)
}

/// `mcp-manager apply --dry-run`: every service is planned even if another cannot be.
async fn plan(client: &Client, output: &Output, services: Vec<(String, Value)>) -> Outcome {
    let (mut plans, mut trouble) = (Vec::new(), None);
    for (name, body) in services {
        let path = service_path(&name, "")?;
        match client.change::<ServicePlan, _>(Method::PUT, &path, &dry_run(), Some(&body)).await {
            Ok(plan) if output.json => plans.push(plan),
            Ok(plan) => show_plan(output, &plan)?,
            Err(stop @ Trouble::Error(Code::Interrupted | Code::Unreachable, _)) => return Err(stop),
            Err(other) => note_first(&mut trouble, other, &name, output),
        }
    }
    if output.json {
        output.document(&plans)?;
    }
    trouble.map_or(Ok(()), |code| Err(Trouble::Said(code)))
}

/// What is done to services by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Start,
    Stop,
    Restart,
}

/// `mcp-manager start`, `stop` and `restart`.
pub async fn set(client: &Client, output: &Output, verb: Verb, arguments: &NamesAndWait) -> Outcome {
    let end = match verb {
        Verb::Start => "/start",
        Verb::Stop => "/stop",
        Verb::Restart => "/restart",
    };
    let mut all = Several::default();
    for name in &arguments.names {
        let started = Instant::now();
        let work = async { client.change(Method::POST, &service_path(name, end)?, &query(arguments.wait), None::<&()>).await };
        all.add(output, name, watched(client, output, name, Waiting::Change, work).await, started, arguments.wait)?;
    }
    all.finish(output)
}

/// `mcp-manager scale`.
pub async fn scale(client: &Client, output: &Output, scale: &Scale) -> Outcome {
    let started = Instant::now();
    let body = PatchRequest { replicas: Some(scale.replicas), ..PatchRequest::default() };
    let path = service_path(&scale.name, "")?;
    let query = query(scale.wait);
    let work = client.change(Method::PATCH, &path, &query, Some(&body));
    let detail: ServiceDetail = watched(client, output, &scale.name, Waiting::Change, work).await?;
    show(output, &detail, started)?;
    health(output, &detail, scale.wait)
}

/// `mcp-manager rm`.
pub async fn remove(client: &Client, output: &Output, arguments: &Remove) -> Outcome {
    let query: Query = if arguments.volumes { vec![("volumes", "true".to_owned())] } else { Vec::new() };
    let mut trouble: Option<Code> = None;
    let mut removed = Vec::new();
    for name in &arguments.names {
        let work = async { client.delete(&service_path(name, "")?, &query).await };
        match watched(client, output, name, Waiting::Change, work).await {
            Ok(()) => removed.push((name, true)),
            Err(missing) if missing.code() == Code::NotFound && arguments.ignore_missing => removed.push((name, false)),
            Err(stop @ (Trouble::BrokenPipe | Trouble::Error(Code::Interrupted | Code::Unreachable, _))) => return Err(stop),
            Err(other) => note_first(&mut trouble, other, name, output),
        }
    }
    if output.json {
        let list: Vec<Value> = removed.iter().map(|(name, was)| json!({"name": name, "removed": was})).collect();
        output.document(&list)?;
    } else {
        for (name, was) in removed {
            let text =
                if output.quiet { name.clone() } else { format!("{name} {}", if was { "deleted" } else { "was not there" }) };
            output.text(&text)?;
        }
    }
    trouble.map_or(Ok(()), |code| Err(Trouble::Said(code)))
}

/// The results of one command for several services.
#[derive(Default)]
struct Several {
    details: Vec<ServiceDetail>,
    trouble: Option<Code>,
}

impl Several {
    /// Takes a result; fails only when it makes no sense to go on.
    fn add(&mut self, output: &Output, name: &str, result: Outcome<ServiceDetail>, started: Instant, wait: WaitFor) -> Outcome {
        match result {
            Ok(detail) => {
                if !output.json {
                    show(output, &detail, started)?;
                }
                if let Err(unhealthy) = health(output, &detail, wait) {
                    self.trouble.get_or_insert(unhealthy.code());
                }
                self.details.push(detail);
                Ok(())
            }
            Err(stop @ (Trouble::BrokenPipe | Trouble::Error(Code::Interrupted | Code::Unreachable, _))) => Err(stop),
            Err(other) => {
                note_first(&mut self.trouble, other, name, output);
                Ok(())
            }
        }
    }

    fn finish(self, output: &Output) -> Outcome {
        if output.json {
            output.document(&self.details)?;
        }
        self.trouble.map_or(Ok(()), |code| Err(Trouble::Said(code)))
    }
}

/// Shows a trouble with one of several services; the first decides the exit code.
fn note_first(first: &mut Option<Code>, mut other: Trouble, name: &str, output: &Output) {
    if let Trouble::Error(_, error) = &mut other {
        error.detail = format!("{name}: {}", error.detail);
    }
    super::exit::report(&other, output.explicit_json);
    first.get_or_insert(other.code());
}

fn query(wait: WaitFor) -> Query {
    let wait = match wait {
        WaitFor::None => "none",
        WaitFor::Started => "started",
        WaitFor::Healthy => "healthy",
    };
    vec![("wait", wait.to_owned())]
}

fn dry_run() -> Query {
    vec![("dry_run", "true".to_owned())]
}

/// Shows what would become of a service: a sentence, and a table of what it takes.
fn show_plan(output: &Output, plan: &ServicePlan) -> Outcome {
    for warning in &plan.plan.warnings {
        output.note(&format!("warning: {warning}"));
    }
    if output.quiet {
        return output.text(&plan.name);
    }
    let asked = if plan.plan.accepted_by_engine { ", and the engine takes it" } else { "" };
    let outcome = if plan.outcome == "retried" { "tried again" } else { &plan.outcome };
    output.text(&format!("{} would be {outcome}{asked}", plan.name))?;
    if plan.plan.objects.is_empty() {
        return Ok(());
    }
    let word = |action| serde_json::to_value(action).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default();
    let rows =
        plan.plan.objects.iter().map(|object| {
            vec![Cell::plain(word(object.action)), Cell::plain(object.kind.clone()), Cell::plain(object.name.clone())]
        });
    output.table(&["ACTION", "KIND", "NAME"], rows.collect())
}

/// Shows what became of a service: a sentence, or the whole document as JSON.
fn show(output: &Output, detail: &ServiceDetail, started: Instant) -> Outcome {
    let summary = &detail.summary;
    if output.json {
        return output.document(detail);
    }
    if output.quiet {
        return output.text(&summary.name);
    }
    for warning in &detail.warnings {
        output.note(&format!("warning: {warning}"));
    }
    let verb = match detail.outcome.as_deref() {
        Some("unchanged") => "is unchanged and",
        Some("retried") => "was tried again and is",
        _ => "is",
    };
    let place = match &summary.url {
        Some(url) if summary.status == Phase::Running => format!(" at {url}"),
        _ => String::new(),
    };
    let ready = match summary.replicas {
        1 => String::new(),
        replicas => format!(", {} of {replicas} replicas ready", summary.ready_replicas),
    };
    let seconds = started.elapsed().as_secs_f64();
    output.text(&format!("{} {verb} {}{place}{ready} ({seconds:.1} s)", summary.name, summary.status.as_str()))
}

/// A service that was waited for and is not healthy is a failure of its own kind.
fn health(output: &Output, detail: &ServiceDetail, wait: WaitFor) -> Outcome {
    let summary = &detail.summary;
    let should = wait == WaitFor::Healthy && summary.desired == Desired::Running;
    if !should || summary.status == Phase::Running {
        return Ok(());
    }
    let reason = summary.message.clone().unwrap_or_else(|| format!("it is {}", summary.status.as_str()));
    output.note(&format!("{} is not healthy: {reason}; see 'mcp-manager logs {0}'", summary.name));
    Err(Trouble::Said(Code::NotHealthy))
}
