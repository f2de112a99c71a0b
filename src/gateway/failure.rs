//! Why a request could not be passed on, and what its client is told.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http::StatusCode;
use http::header::{HeaderValue, RETRY_AFTER};
use jiff::Timestamp;

use super::body::ResponseBody;
use crate::domain::status::{Phase, ServiceState};
use crate::error::{Error, Kind};
use crate::problem::Problem;
use crate::routing::{lacks_address, unready_reason};

/// Where a service without a ready replica stands.
#[derive(Debug)]
pub(super) struct NotReady {
    phase: Phase,
    reason: String,
    remedy: String,
    /// Seconds after which it is worth asking again.
    retry_after: Option<u32>,
}

/// What kept a request from its answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// No service has that name; the error names the nearest.
    Unknown(Error),
    /// The service has no ready replica.
    NotReady(Box<NotReady>),
    /// What runs is not known yet.
    NotSynced,
    /// No replica took the connection.
    Connect(SocketAddr, io::Error),
    /// The replica closed or broke the connection before it answered.
    Closed(SocketAddr, hyper::Error),
    /// What the replica sent is not HTTP.
    Protocol(SocketAddr, hyper::Error),
    /// No answer within the limit.
    Timeout(SocketAddr, Duration),
    /// The client broke off while it sent its request.
    Client(hyper::Error),
    /// The request cannot be passed on by anybody.
    Method,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(error) => write!(formatter, "{}", error.detail),
            Self::NotReady(state) => write!(formatter, "is {}: {}", state.phase.as_str(), state.reason),
            Self::NotSynced => formatter.write_str("is not known yet: the manager has just started and still looks around"),
            Self::Connect(address, error) if error.kind() == io::ErrorKind::TimedOut => {
                write!(formatter, "took no connection at {address} in time")
            }
            Self::Connect(address, error) => write!(formatter, "took no connection at {address}: {}", words(error)),
            Self::Closed(address, error) => {
                let cause = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
                let cause = cause.map_or("it closed the connection", |cause| words(cause));
                write!(formatter, "broke off at {address} before it answered: {cause}")
            }
            Self::Protocol(address, error) => write!(formatter, "sent at {address} what is not HTTP: {error}"),
            Self::Timeout(address, limit) => write!(formatter, "did not answer at {address} within {} s", limit.as_secs_f32()),
            Self::Client(error) => write!(formatter, "got an incomplete request: {error}"),
            Self::Method => formatter.write_str("cannot be reached by CONNECT"),
        }
    }
}

/// An error of the operating system in its usual words.
fn words(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused",
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "connection reset",
        io::ErrorKind::ConnectionAborted => "connection aborted",
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "unreachable",
        io::ErrorKind::TimedOut => "timed out",
        _ => "input/output error",
    }
}

impl Failure {
    pub(super) fn unknown<'a>(name: &str, existing: impl Iterator<Item = &'a str>) -> Self {
        let name: String = name.chars().take(80).collect();
        Self::Unknown(Error::not_found("service", &name.escape_debug().to_string(), existing))
    }

    pub(super) fn not_ready(state: &ServiceState) -> Self {
        Self::NotReady(Box::new(NotReady {
            phase: state.phase,
            reason: unready_reason(state),
            remedy: remedy(state),
            retry_after: worth_waiting(state),
        }))
    }

    /// How a connection to a replica failed.
    pub(super) fn of(replica: SocketAddr, error: hyper::Error) -> Self {
        if error.is_user() {
            Self::Client(error)
        } else if error.is_parse() {
            Self::Protocol(replica, error)
        } else {
            Self::Closed(replica, error)
        }
    }

    /// The name of the reason, as metric label and in the problem's type.
    pub(super) const fn slug(&self) -> &'static str {
        match self {
            Self::Unknown(_) => Kind::NotFound.slug(),
            Self::NotReady(_) => "service-not-ready",
            Self::NotSynced => "manager-starting",
            Self::Connect(..) => "service-unreachable",
            Self::Closed(..) => "service-broke-off",
            Self::Protocol(..) => "service-not-http",
            Self::Timeout(..) => Kind::Timeout.slug(),
            Self::Client(_) => "request-incomplete",
            Self::Method => "method-not-passed-on",
        }
    }

    /// What the client is told: the service, its phase where it matters, and the reason.
    pub(super) fn answer(self, name: &str) -> http::Response<ResponseBody> {
        let slug = self.slug();
        let detail = format!("the service '{name}' {self}");
        let problem = |status, title, remedy: String| Problem::new(status, slug, title, detail.clone()).remedy(remedy);
        let logs = || format!("look at GET /containers/{name}/logs");
        let mut retry_after = None;
        let problem = match self {
            Self::Unknown(error) => Problem::from(error),
            Self::NotReady(state) => {
                retry_after = state.retry_after;
                problem(StatusCode::SERVICE_UNAVAILABLE, "The service is not ready", state.remedy)
                    .member("phase", state.phase.as_str())
                    .member("reason", state.reason)
            }
            Self::NotSynced => {
                retry_after = Some(1);
                problem(StatusCode::SERVICE_UNAVAILABLE, "The manager is starting", "ask again in a moment".to_owned())
            }
            Self::Connect(..) | Self::Closed(..) | Self::Protocol(..) => {
                problem(StatusCode::BAD_GATEWAY, "The service did not answer properly", logs())
            }
            Self::Timeout(..) => problem(StatusCode::GATEWAY_TIMEOUT, "The service took too long", logs()),
            Self::Client(_) => problem(StatusCode::BAD_REQUEST, "The request broke off", "send it again".to_owned()),
            Self::Method => {
                problem(StatusCode::NOT_IMPLEMENTED, "Not a proxy for everything", "send an ordinary request".to_owned())
            }
        };
        let mut response = problem.member("service", name).into_response();
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// After how many seconds it is worth asking again: not at all while only a person can change something.
fn worth_waiting(state: &ServiceState) -> Option<u32> {
    if lacks_address(state) {
        return None;
    }
    match state.phase {
        Phase::Pending | Phase::Creating | Phase::Starting | Phase::Running | Phase::Degraded => Some(1),
        Phase::Pulling | Phase::Unhealthy => Some(5),
        Phase::CrashLoop => {
            let next = state.replicas.iter().filter_map(|replica| replica.next_start).min();
            let wait = next.map_or(5, |next| next.duration_since(Timestamp::now()).as_secs() + 1);
            Some(u32::try_from(wait.clamp(1, 300)).unwrap_or(5))
        }
        Phase::Exited | Phase::Stopping | Phase::Stopped | Phase::Failed | Phase::Deleting => None,
    }
}

fn remedy(state: &ServiceState) -> String {
    let name = &state.record.name;
    if lacks_address(state) {
        return "run the manager on an engine or a cluster (setting backend.kind)".to_owned();
    }
    match state.phase {
        Phase::Stopped | Phase::Stopping | Phase::Exited => format!("start it with POST /containers/{name}/start"),
        Phase::Failed => state
            .failure
            .as_ref()
            .and_then(|failure| failure.remedy.clone())
            .unwrap_or_else(|| format!("look at GET /containers/{name}, correct what is wrong there, and apply it again")),
        Phase::Unhealthy | Phase::CrashLoop => format!("look at GET /containers/{name}/logs"),
        _ => "ask again in a moment".to_owned(),
    }
}
