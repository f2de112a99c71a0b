//! Commands that show services: ls, ps, status.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value as Json, json};

use super::arguments::List;
use super::client::{Client, Query, service_path};
use super::exit::{Code, Outcome, Trouble};
use super::output::{Judgement, Output, Value, age, one_line};
use crate::domain::status::{Health, Phase, Replica, ReplicaState};
use crate::manager::label_entry;
use crate::manager::views::{ServiceDetail, ServiceList, ServiceSummary};

/// So many services are asked for at the same time.
const AT_ONCE: usize = 8;

/// `mcp-manager health`.
pub async fn health(client: &Client, output: &Output, ready: bool) -> Outcome {
    let health: Json = client.get("/health", &Query::new()).await?;
    if output.json {
        output.document(&health)?;
    } else if !output.quiet {
        output.text(health["status"].as_str().unwrap_or("unknown"))?;
    }
    if ready && health["ready"] != true { Err(Trouble::Said(Code::NotHealthy)) } else { Ok(()) }
}

/// `mcp-manager ls`.
pub async fn list(client: &Client, output: &Output, list: &List) -> Outcome {
    let mut query = Query::new();
    query.extend(list.status.clone().map(|status| ("status", status)));
    query.extend(list.template.clone().map(|template| ("template", template)));
    if !list.label.is_empty() {
        query.push(("label", list.label.iter().map(String::as_str).map(label_entry).collect::<Vec<_>>().join(",")));
    }
    let services = all(client, query).await?;
    if output.json {
        return output.document(&services);
    }
    if output.quiet {
        return services.iter().try_for_each(|service| output.text(&service.name));
    }
    if services.is_empty() {
        output.note("no services; 'mcp-manager run NAME' creates one, 'mcp-manager template ls' shows from what");
        return Ok(());
    }
    let rows = services.iter().map(|service| {
        let source = match &service.template {
            Some(template) if service.template_outdated => format!("{}@{} (outdated)", template.name, template.version),
            Some(template) => format!("{}@{}", template.name, template.version),
            None => service.image.clone(),
        };
        vec![
            Value::plain(&service.name),
            Value::phase(service.status),
            Value::plain(format!("{}/{}", service.ready_replicas, service.replicas)),
            Value::plain(service.url.clone().unwrap_or_default()),
            Value::plain(source),
            if service.restarts == 0 {
                Value::default()
            } else {
                Value::judged(service.restarts.to_string(), Judgement::Doubtful)
            },
            Value::plain(age(service.created_at)),
            Value::plain(service.message.clone().unwrap_or_default()),
        ]
    });
    output.table(&["NAME", "STATUS", "READY", "URL", "FROM", "RESTARTS", "AGE", "MESSAGE"], rows.collect())
}

/// Every page of the list.
async fn all(client: &Client, query: Query) -> Outcome<Vec<ServiceSummary>> {
    let mut services = Vec::new();
    let mut after = None;
    loop {
        let mut query = query.clone();
        query.extend(after.map(|after| ("after", after)));
        let page: ServiceList = client.get("/containers", &query).await?;
        services.extend(page.containers);
        after = page.next;
        if after.is_none() {
            return Ok(services);
        }
    }
}

/// `mcp-manager ps`.
pub async fn containers(client: &Client, output: &Output, names: &[String]) -> Outcome {
    let names = if names.is_empty() {
        all(client, Query::new()).await?.into_iter().map(|service| service.name).collect()
    } else {
        names.to_vec()
    };
    let details: Vec<ServiceDetail> = stream::iter(names)
        .map(|name| async move { client.get::<ServiceDetail>(&service_path(&name, "")?, &Query::new()).await })
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    let mut replicas = details.iter().flat_map(|detail| detail.instances.iter().map(|replica| (&detail.summary.name, replica)));
    if output.json {
        let list: Vec<Json> = replicas
            .map(|(service, replica)| {
                let mut value = json!(replica);
                value["service"] = json!(service);
                value
            })
            .collect();
        return output.document(&list);
    }
    if output.quiet {
        return replicas.try_for_each(|(_, replica)| output.text(&replica.name));
    }
    let rows = replicas.map(|(service, replica)| [vec![Value::plain(service)], replica_row(replica)].concat());
    output.table(&[&["SERVICE"][..], &REPLICA_HEADER].concat(), rows.collect())
}

const REPLICA_HEADER: [&str; 8] = ["REPLICA", "CONTAINER", "STATE", "HEALTH", "ADDRESS", "RUNS FOR", "RESTARTS", "LAST EXIT"];

fn replica_row(replica: &Replica) -> Vec<Value> {
    let running = replica.state == ReplicaState::Running;
    let state = match replica.state {
        ReplicaState::Created => Value::plain("created"),
        ReplicaState::Running => Value::judged("running", Judgement::Good),
        ReplicaState::Exited => Value::judged("exited", Judgement::Bad),
    };
    let health = match replica.health {
        _ if !running => Value::default(),
        Health::Starting => Value::judged("starting", Judgement::Doubtful),
        Health::Healthy => Value::judged("healthy", Judgement::Good),
        Health::Unhealthy => Value::judged("unhealthy", Judgement::Bad),
    };
    let exit = replica.last_exit.as_ref().map(|exit| {
        let reason = if exit.oom_killed { ", out of memory" } else { "" };
        format!("{}{reason}, {} ago", exit.code, age(exit.at))
    });
    vec![
        Value::plain(replica.ordinal.to_string()),
        Value::plain(&replica.name),
        state,
        health,
        Value::plain(replica.address.map(|address| address.to_string()).unwrap_or_default()),
        Value::plain(replica.started_at.filter(|_| running).map(age).unwrap_or_default()),
        if replica.restarts == 0 { Value::default() } else { Value::plain(replica.restarts.to_string()) },
        Value::plain(exit.unwrap_or_default()),
    ]
}

/// `mcp-manager status`.
pub async fn status(client: &Client, output: &Output, name: &str) -> Outcome {
    let detail: ServiceDetail = client.get(&service_path(name, "")?, &Query::new()).await?;
    if output.json {
        return output.document(&detail);
    }
    if output.quiet {
        return output.text(detail.summary.status.as_str());
    }
    let (summary, spec) = (&detail.summary, &detail.spec);
    let template = summary.template.as_ref().map(|template| {
        let outdated = if summary.template_outdated { " (has changed since; apply the service to take it over)" } else { "" };
        format!("{}@{}{outdated}", template.name, template.version)
    });
    let failure = detail.failure.as_ref().map(|failure| match &failure.remedy {
        Some(remedy) => format!("{} ({remedy})", failure.detail),
        None => failure.detail.clone(),
    });
    // What the failure says is said there.
    let reasons = detail.reasons.iter().filter(|reason| !reason.permanent);
    let reasons: Vec<String> = reasons.map(|reason| format!("{reason} ({})", reason.remedy)).collect();
    // A failure is its own, longer message.
    let message = if failure.is_some() { None } else { summary.message.clone() };
    let progress = detail.progress.as_ref().map(|progress| progress.message.clone());
    let pairs: Vec<String> = spec.environment.iter().map(|(name, value)| format!("{name}={}", one_line(value))).collect();
    let desired = serde_json::to_value(summary.desired).ok().and_then(|desired| desired.as_str().map(str::to_owned));
    let wanted =
        if summary.status == Phase::Running { String::new() } else { format!(" (wanted: {})", desired.unwrap_or_default()) };
    output.pairs(&[
        ("name", summary.name.clone()),
        ("status", format!("{}{wanted}", summary.status.as_str())),
        ("step", progress.unwrap_or_default()),
        ("message", message.unwrap_or_default()),
        ("failure", failure.unwrap_or_default()),
        ("url", summary.url.clone().unwrap_or_default()),
        ("template", template.unwrap_or_default()),
        ("image", summary.image.clone()),
        ("replicas", format!("{} of {} ready", summary.ready_replicas, summary.replicas)),
        ("limits", format!("memory {}, cpu {}, pids {}", spec.memory_limit, spec.cpu_limit, spec.pids_limit)),
        ("restart", spec.restart_policy.to_string()),
        ("environment", pairs.join("\n")),
        ("created", format!("{:.0} ({} ago)", summary.created_at, age(summary.created_at))),
        ("changed", format!("{:.0} (generation {})", detail.updated_at, detail.generation)),
        ("warnings", detail.warnings.join("\n")),
        ("reasons", reasons.join("\n")),
        ("loosened", detail.loosened.join("\n")),
    ])?;
    let detailed = detail.instances.iter().filter_map(|replica| {
        let said = replica.health_detail.as_ref().map(|text| format!("replica {}: {text}", replica.ordinal));
        said.filter(|_| !replica.is_ready())
    });
    let detailed: Vec<String> = detailed.collect();
    if !detail.instances.is_empty() {
        output.text("")?;
        output.table(&REPLICA_HEADER, detail.instances.iter().map(replica_row).collect())?;
    }
    detailed.iter().try_for_each(|line| output.text(line))?;
    // A replica that is well says nothing of its former ends.
    let ended = detail.instances.iter().filter(|replica| !replica.is_ready());
    for (replica, exit) in ended.filter_map(|replica| Some((replica, replica.last_exit.as_ref()?))) {
        if !exit.last_log_lines.is_empty() {
            output.text(&format!("\nreplica {}, last lines before it ended with status {}:", replica.ordinal, exit.code))?;
            exit.last_log_lines.iter().try_for_each(|line| output.text(&format!("  {line}")))?;
        }
    }
    Ok(())
}
