//! Commands that show what happens: logs, events.

use std::io::Write as _;

use reqwest::Method;

use super::arguments::{LogStream, Logs};
use super::client::{Client, Query, error_of, service_path};
use super::exit::{Outcome, Trouble};
use super::output::Output;
use super::sse;
use crate::domain::status::{LogLine, ServiceEvent, Stream};
use crate::error::Error;
use crate::manager::LogPage;
use crate::manager::views::ServiceDetail;

/// `mcp-manager logs`. Lines are written as the service wrote them, its standard error to ours; with `--json` each is an
/// object a line. Piping does not turn them into JSON: lines are what is looked for in logs.
pub async fn logs(client: &Client, output: &Output, arguments: &Logs) -> Outcome {
    let path = service_path(&arguments.name, "/logs")?;
    let mut query: Query = vec![("tail", arguments.tail.to_string())];
    query.extend(arguments.since.clone().map(|since| ("since", since)));
    query.extend(arguments.until.clone().map(|until| ("until", until)));
    query.extend(arguments.replica.map(|replica| ("replica", replica.to_string())));
    query.extend(arguments.previous.then(|| ("previous", "true".to_owned())));
    query.extend(arguments.stream.map(|stream| {
        let name = if stream == LogStream::Stdout { "stdout" } else { "stderr" };
        ("stream", name.to_owned())
    }));
    let detail: ServiceDetail = client.get(&service_path(&arguments.name, "")?, &Query::new()).await?;
    let several = detail.summary.replicas > 1 && arguments.replica.is_none();
    let show = |line: &LogLine| {
        if output.explicit_json {
            return output.line(line);
        }
        let time = line.timestamp.filter(|_| arguments.timestamps).map(|time| format!("{time} ")).unwrap_or_default();
        let replica = if several { format!("{}-{} | ", arguments.name, line.replica) } else { String::new() };
        let text = format!("{time}{replica}{}\n", line.line);
        match line.stream {
            // Where the engine does not tell, it is output.
            Some(Stream::Stdout) | None => std::io::stdout().write_all(text.as_bytes())?,
            Some(Stream::Stderr) => std::io::stderr().write_all(text.as_bytes())?,
        }
        Ok(())
    };
    if !arguments.follow {
        let page: LogPage = client.get(&path, &query).await?;
        return page.lines.iter().try_for_each(show);
    }
    query.push(("follow", "true".to_owned()));
    let response = client.send(Method::GET, &path, &query, None::<&()>).await?;
    let follow = sse::follow(client, response, |event| match event.name.as_str() {
        "line" => show(&decoded(&event.data)?),
        "problem" => Err(problem(&event.data)),
        _ => Ok(()),
    });
    until_interrupted(follow).await
}

/// `mcp-manager events`.
pub async fn events(client: &Client, output: &Output, name: Option<&str>) -> Outcome {
    let path = name.map_or_else(|| Ok("/events".to_owned()), |name| service_path(name, "/events"))?;
    let response = client.send(Method::GET, &path, &Query::new(), None::<&()>).await?;
    let follow = sse::follow(client, response, |event| {
        if event.name == "problem" {
            return Err(problem(&event.data));
        }
        let event: ServiceEvent = decoded(&event.data)?;
        if output.json {
            return output.line(&event);
        }
        let replica = event.replica.map(|replica| format!(" replica {replica}")).unwrap_or_default();
        output.text(&format!("{:.0}  {}{replica}  {}  {}", event.at, event.service, event.kind, event.message))
    });
    until_interrupted(follow).await
}

/// Following ends when the user has seen enough; that is no failure.
async fn until_interrupted(follow: impl Future<Output = Outcome>) -> Outcome {
    tokio::select! {
        ended = follow => ended,
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
    }
}

fn decoded<T: serde::de::DeserializeOwned>(data: &str) -> Outcome<T> {
    serde_json::from_str(data).map_err(|error| {
        let error = Error::internal("the manager sent an event that this version does not know", error);
        Trouble::unreachable(error.remedy("use manager and command line of the same version"))
    })
}

/// An error in the middle of a stream.
fn problem(data: &str) -> Trouble {
    decoded(data).map_or_else(|trouble| trouble, |document| error_of(document).into())
}
