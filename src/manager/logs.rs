//! Logs of services, replicas merged and told apart.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::Manager;
use crate::backend::LogStream;
use crate::domain::access::{Actor, Operation};
use crate::domain::fields::whole;
use crate::domain::name::ServiceName;
use crate::domain::quantity::Span;
use crate::domain::shown;
use crate::domain::spec;
use crate::domain::status::{LogLine, LogQuery, Stream};
use crate::error::{Error, FieldError, Result};

/// Lines of each replica when nothing else is asked for, and at most unless they are followed.
const DEFAULT_TAIL: u32 = 100;
const TAIL: RangeInclusive<u32> = 0..=10_000;

/// Reads a number of lines.
pub fn tail<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    whole(deserializer, TAIL)
}

/// How long after a moment lines from before it may come in.
const LATE: Duration = Duration::from_millis(500);

/// Which log lines a caller wants, as callers write it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogRequest {
    /// So many of the last lines of each replica: 0 to 10000 (default 100).
    #[serde(default, deserialize_with = "tail")]
    #[schemars(range(min = 0, max = 10000))]
    pub tail: Option<u32>,
    /// Only lines from then on: a time (`2026-01-31T12:00:00Z`), seconds since 1970, or a span before now (`2h`).
    pub since: Option<String>,
    /// Only lines before then: a time, seconds since 1970, or a span before now.
    pub until: Option<String>,
    /// Only `stdout` or `stderr`.
    pub stream: Option<Stream>,
    /// Only this replica.
    #[serde(default, deserialize_with = "spec::replicas")]
    #[schemars(range(min = 1))]
    pub replica: Option<u32>,
    /// What the container before the present one logged, where the engine makes a new one for each start (default false).
    pub previous: Option<bool>,
    /// Whether lines carry their time (default true).
    pub timestamps: Option<bool>,
}

/// Log lines of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema, JsonSchema)]
pub struct LogPage {
    /// The lines, oldest first.
    pub lines: Vec<LogLine>,
}

impl LogRequest {
    /// What is asked for; an error for what cannot be.
    fn query(&self, follow: bool) -> Result<LogQuery> {
        self.judged(follow).map_err(|errors| Error::invalid("the request is not valid", errors))
    }

    /// All that is asked for and cannot be.
    #[must_use]
    pub fn violations(&self, follow: bool) -> Vec<FieldError> {
        self.judged(follow).err().unwrap_or_default()
    }

    fn judged(&self, follow: bool) -> Result<LogQuery, Vec<FieldError>> {
        let mut errors = Vec::new();
        let tail = self.tail.unwrap_or(DEFAULT_TAIL);
        if !TAIL.contains(&tail) {
            let remedy = format!("use {} to {}, or 'since'", TAIL.start(), TAIL.end());
            errors.push(FieldError::new("tail", format!("is {tail}"), remedy));
        }
        let mut read = |field, text: &Option<String>| {
            text.as_deref().and_then(|text| moment(field, text).map_err(|error| errors.push(error)).ok())
        };
        let (since, until) = (read("since", &self.since), read("until", &self.until));
        if let (Some(since), Some(until)) = (since, until)
            && since >= until
        {
            errors.push(FieldError::new("until", "is not after 'since'", "swap them, or leave one out"));
        }
        let previous = self.previous.unwrap_or_default();
        if previous && follow {
            errors.push(FieldError::new("previous", "has ended and cannot be followed", "leave out 'follow' or 'previous'"));
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        // Before that moment nothing more comes when it has passed.
        let follow = follow && until.is_none_or(|until| until > Timestamp::now());
        Ok(LogQuery { tail: Some(tail), since, until, stream: self.stream, replica: self.replica, previous, follow })
    }
}

/// A moment as people give it: a time, seconds since 1970, or a span before now.
fn moment(field: &str, text: &str) -> Result<Timestamp, FieldError> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    // A bare number is seconds since 1970 as with Docker; a number with a unit is a span.
    if let Ok(seconds) = text.parse::<i64>()
        && let Ok(time) = Timestamp::from_second(seconds)
    {
        return Ok(time);
    }
    let before = text.parse::<Span>().ok().and_then(|span| Timestamp::now().checked_sub(span.duration()).ok());
    before.ok_or_else(|| {
        let remedy = "write a time (2026-01-31T12:00:00Z), seconds since 1970, or a span before now (30s, 2h)";
        FieldError::new(field, format!("'{}' is not a moment", shown(text)), remedy)
    })
}

impl Manager {
    /// The log lines that there are.
    pub async fn service_log_page(self: &Arc<Self>, actor: &Actor, name: &ServiceName, request: LogRequest) -> Result<LogPage> {
        Ok(LogPage { lines: self.follow_service_logs(actor, name, request, false).await?.try_collect().await? })
    }

    /// The log lines that there are, and with `follow` those that come, until the service is gone; when the manager stops, the
    /// last item is an error that says so.
    pub async fn follow_service_logs(
        self: &Arc<Self>,
        actor: &Actor,
        name: &ServiceName,
        request: LogRequest,
        follow: bool,
    ) -> Result<LogStream> {
        let timestamps = request.timestamps.unwrap_or(true);
        let query = request.query(follow)?;
        let until = query.until.filter(|_| query.follow);
        let following = query.follow;
        let mut lines = self.service_logs(actor, name, query).await?;
        if following {
            lines = super::until_stopped(lines, self.tasks.stopping());
        }
        if let Some(until) = until {
            let left = until.duration_since(Timestamp::now()).try_into().unwrap_or(Duration::ZERO);
            lines = lines.take_until(tokio::time::sleep(left + LATE)).boxed();
        }
        Ok(if timestamps { lines } else { Box::pin(lines.map_ok(|line| LogLine { timestamp: None, ..line })) })
    }

    /// The log lines that `query` asks for.
    async fn service_logs(self: &Arc<Self>, actor: &Actor, name: &ServiceName, query: LogQuery) -> Result<LogStream> {
        let (manager, owned) = (self.clone(), name.clone());
        let work = async move {
            let service = manager.service(&owned)?;
            if let Some(replica) = query.replica
                && !service.replicas.iter().any(|is| is.ordinal == replica)
            {
                let numbers: Vec<String> = service.replicas.iter().map(|is| is.ordinal.to_string()).collect();
                let remedy = format!("use one of: {}", numbers.join(", "));
                return Err(Error::invalid_field("replica", format!("'{owned}' has no replica {replica}"), remedy));
            }
            manager.backend.logs(&owned, query).await
        };
        self.perform(actor, Operation::ServiceLogs, name.as_str(), work).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_times_or_spans_before_now() {
        assert_eq!(moment("since", "1970-01-01T00:00:10Z").ok(), Timestamp::from_second(10).ok());
        assert_eq!(moment("since", "10").ok(), Timestamp::from_second(10).ok());
        let hour_ago = moment("since", "1h").unwrap();
        assert!((Timestamp::now().duration_since(hour_ago).as_secs() - 3600).abs() < 5);
        assert!(moment("since", "yesterday").is_err());
    }
}
