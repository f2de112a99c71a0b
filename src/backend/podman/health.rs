//! Health of one replica: when to ask, how to ask, and what the answers add up to.
//!
//! Checks come from the manager, through the published port where there is one: Podman's own checks need systemd timers,
//! and a request costs a hundredth of a command inside the container.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::client::{Engine, EngineError};
use super::observed::Inspected;
use super::{frames, listening};
use crate::domain::spec::{HealthCheck, Probe};
use crate::domain::status::Health;

/// First pause between two checks of a service that has not been healthy yet.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
/// A process that ends at once is not called healthy in between.
const SETTLED: Duration = Duration::from_millis(100);
/// The engine's port forwarder takes connections that nobody listens to and closes them when it has tried for 190 ms.
const REFUSAL: Duration = Duration::from_millis(400);
const NOBODY: &str = "nothing listens on the port";
/// Longest part of a check's own words that is kept.
const MAX_DETAIL: usize = 300;

/// What the checks of one run of a container add up to.
#[derive(Debug, Clone)]
pub(super) struct HealthTrack {
    pub(super) health: Health,
    pub(super) detail: Option<String>,
    started: Instant,
    failures: u32,
    attempts: u32,
    ever_healthy: bool,
}

impl HealthTrack {
    pub(super) const fn new(started: Instant) -> Self {
        Self { health: Health::Starting, detail: None, started, failures: 0, attempts: 0, ever_healthy: false }
    }

    /// Takes in the outcome of a check.
    pub(super) fn record(&mut self, outcome: Result<(), String>, check: &HealthCheck, now: Instant) {
        self.attempts = self.attempts.saturating_add(1);
        match outcome {
            Ok(()) => {
                self.health = Health::Healthy;
                self.failures = 0;
                self.detail = None;
                self.ever_healthy = true;
            }
            Err(detail) => {
                self.detail = Some(detail.chars().take(MAX_DETAIL).collect());
                if self.ever_healthy || self.failures < self.may_have_failed(check, now) {
                    self.failures = self.failures.saturating_add(1);
                }
                if self.failures >= check.retries.max(1) {
                    self.health = Health::Unhealthy;
                }
            }
        }
    }

    /// How many failures count of a service that was never healthy: none within its start period, and then one an
    /// interval, however often it was asked.
    fn may_have_failed(&self, check: &HealthCheck, now: Instant) -> u32 {
        let age = now.duration_since(self.started);
        let Some(late) = age.checked_sub(check.start_period.duration()) else { return 0 };
        let intervals = late.as_millis() / check.interval.duration().as_millis().max(1);
        u32::try_from(intervals).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// When the next check is due after one that began at `asked` and has ended `now`; never when none is needed. Pauses
    /// begin when a check ends, but for those before a failure is confirmed: there the time that a service which hangs
    /// has taken counts, so that it leaves the routes within two intervals, too, where three timeouts fit into one.
    pub(super) fn next(&self, check: &HealthCheck, start_timeout: Duration, asked: Instant, now: Instant) -> Option<Instant> {
        let from = if self.is_doubted() { asked } else { now };
        Some((from + self.pause(check, start_timeout, now)?).max(now))
    }

    /// It was healthy, and has failed less often since than makes it unhealthy.
    fn is_doubted(&self) -> bool {
        self.health == Health::Healthy && self.failures > 0
    }

    /// The pause before the next check; none when no further check is needed.
    ///
    /// Before the first success, for as long as a start may take, checks follow each other quickly, so that a service is
    /// used as soon as it can be. A failure of a healthy one is confirmed within half an interval, so that it leaves the
    /// routes within two.
    fn pause(&self, check: &HealthCheck, start_timeout: Duration, now: Instant) -> Option<Duration> {
        let interval = check.interval.duration();
        if check.probe == Probe::Process && self.ever_healthy {
            return None;
        }
        if self.is_doubted() {
            return Some(interval / (2 * check.retries.max(1)));
        }
        let age = now.duration_since(self.started);
        if self.ever_healthy || age >= start_timeout.max(check.start_period.duration()) {
            return Some(interval);
        }
        let longest = (age / 20).clamp(Duration::from_millis(100), Duration::from_secs(1));
        let first = match check.probe {
            Probe::Http(_) | Probe::Tcp => FIRST_PAUSE,
            Probe::Command(_) | Probe::Process => SETTLED,
        };
        Some((first * 2_u32.pow(self.attempts.min(10))).min(longest).min(interval))
    }

    /// Whether it has been asked at all.
    pub(super) const fn was_asked(&self) -> bool {
        self.attempts > 0
    }

    /// The pause before the very first check.
    pub(super) fn first_pause(check: &HealthCheck) -> Duration {
        if check.probe == Probe::Process { SETTLED } else { Duration::ZERO }
    }
}

/// Whom to ask.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// The container.
    pub(super) id: String,
    /// Its first process and the service's port inside, where the machine's process table shows them.
    pub(super) inside: Option<(u32, u16)>,
    /// Where its port is reached.
    pub(super) address: Option<SocketAddr>,
}

/// Asks once; `None` when the engine that would have to be asked is away, which says nothing about the service.
pub(super) async fn probe(engine: &Engine, target: &Target, check: &HealthCheck) -> Option<Result<(), String>> {
    let limit = check.timeout.duration();
    let asked = async {
        match (&check.probe, target.address) {
            (Probe::Http(_) | Probe::Tcp, None) => Some(Err("the container has no published port".to_owned())),
            (Probe::Http(_) | Probe::Tcp, Some(_)) if target.listens() == Some(false) => Some(Err(NOBODY.to_owned())),
            (Probe::Http(path), Some(address)) => Some(http(address, path).await),
            (Probe::Tcp, Some(_)) if target.listens() == Some(true) => Some(Ok(())),
            (Probe::Tcp, Some(address)) => Some(tcp(address).await),
            (Probe::Command(command), _) => known(self::command(engine, &target.id, command, limit).await),
            (Probe::Process, _) => known(process(engine, &target.id).await),
        }
    };
    match tokio::time::timeout(limit, asked).await {
        Ok(outcome) => outcome,
        Err(_) => Some(Err(format!("no answer within {}", check.timeout))),
    }
}

impl Target {
    /// Whether something listens on the port, when that can be seen.
    fn listens(&self) -> Option<bool> {
        self.inside.and_then(|(pid, port)| listening::listens(pid, port))
    }
}

impl Target {
    /// Whether the engine's port forwarder is gone: the service listens, and nobody takes connections for it.
    pub(super) async fn has_lost_port(&self) -> bool {
        let Some(address) = self.address.filter(|address| address.ip().is_loopback()) else { return false };
        // An engine may also lead connections to it without listening.
        if self.listens() != Some(true) || listening::listens_here(address) != Some(false) {
            return false;
        }
        let refused = TcpStream::connect(address).await.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
        // The forwarder of a service that ends goes after it.
        refused && self.listens() == Some(true)
    }
}

/// The outcome of a check that goes through the engine.
fn known(outcome: Result<Result<(), String>, EngineError>) -> Option<Result<(), String>> {
    match outcome {
        Ok(outcome) => Some(outcome),
        Err(EngineError::Away(_)) => None,
        Err(error) => Some(Err(error.to_string())),
    }
}

async fn http(address: SocketAddr, path: &str) -> Result<(), String> {
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(|error| error.to_string())?;
    let request = http::Request::get(path)
        .header(http::header::HOST, address.to_string())
        .header(http::header::USER_AGENT, "mcp-manager-health")
        .header(http::header::CONNECTION, "close")
        .body(Empty::<bytes::Bytes>::new())
        .map_err(|error| error.to_string())?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        if status.as_u16() < 400 { Ok(()) } else { Err(format!("GET {path} answered {status}{}", words(answer).await)) }
    };
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        biased;
        answered = &mut answer => answered,
        // An answer that came just before the end is there all the same.
        _ = connection => answer.await,
    }
}

/// What an answer says for people: the first line of a text. The bridge says there why its server does not work.
async fn words(answer: http::Response<Incoming>) -> String {
    let kind = answer.headers().get(http::header::CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    if !kind.is_some_and(|kind| kind.starts_with(b"text/plain")) {
        return String::new();
    }
    let body = Limited::new(answer.into_body(), 4 * MAX_DETAIL).collect().await.map(http_body_util::Collected::to_bytes);
    let text = body.map(|body| String::from_utf8_lossy(&body).into_owned()).unwrap_or_default();
    text.lines().map(str::trim).find(|line| !line.is_empty()).map(|line| format!(": {}", line.escape_debug())).unwrap_or_default()
}

async fn tcp(address: SocketAddr) -> Result<(), String> {
    let mut stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let mut byte = [0_u8; 1];
    match tokio::time::timeout(REFUSAL, stream.read(&mut byte)).await {
        // It waits for us, or greets us: somebody is there.
        Err(_) | Ok(Ok(1..)) => Ok(()),
        Ok(Ok(0)) => Err(NOBODY.to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
    }
}

async fn command(engine: &Engine, id: &str, command: &[String], limit: Duration) -> Result<Result<(), String>, EngineError> {
    let result = engine.exec(id, command, limit).await?;
    if result.code == 0 {
        return Ok(Ok(()));
    }
    let output = frames::text(&result.output);
    let last = output.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("no output");
    Ok(Err(format!("the command ended with status {}: {last}", result.code)))
}

async fn process(engine: &Engine, id: &str) -> Result<Result<(), String>, EngineError> {
    let inspected: Inspected = engine.inspect(id).await?;
    Ok(if inspected.is_running() { Ok(()) } else { Err("its process has ended".to_owned()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::quantity::Span;

    fn check() -> HealthCheck {
        HealthCheck {
            probe: Probe::Http("/".into()),
            interval: Span(30_000),
            timeout: Span(5_000),
            retries: 3,
            start_period: Span(10_000),
        }
    }

    fn failed() -> Result<(), String> {
        Err("no".to_owned())
    }

    const START: Duration = Duration::from_mins(1);

    #[test]
    fn a_service_that_fails_or_hangs_leaves_within_two_intervals() {
        let start = Instant::now();
        let check = HealthCheck { timeout: Span(10_000), ..check() };
        for takes in [Duration::ZERO, Duration::from_secs(1), check.timeout.duration()] {
            let mut track = HealthTrack::new(start);
            track.record(Ok(()), &check, start);
            let mut now = start;
            let mut asked = track.next(&check, START, start, start).unwrap();
            while track.health == Health::Healthy {
                now = asked + takes;
                track.record(failed(), &check, now);
                asked = track.next(&check, START, asked, now).unwrap();
            }
            assert!(now <= start + 2 * check.interval.duration(), "{:?} when a failure takes {takes:?}", now - start);
        }
    }

    #[test]
    fn after_the_start_period_a_failure_an_interval_counts_and_one_success_brings_it_back() {
        let start = Instant::now();
        let mut track = HealthTrack::new(start);
        for seconds in [11, 11, 12, 39, 41, 69] {
            track.record(failed(), &check(), start + Duration::from_secs(seconds));
            assert_eq!(track.health, Health::Starting, "after {seconds} s");
        }
        let late = start + Duration::from_secs(71);
        track.record(failed(), &check(), late);
        assert_eq!(track.health, Health::Unhealthy);
        track.record(Ok(()), &check(), late);
        assert_eq!((track.health, &track.detail), (Health::Healthy, &None));
    }

    #[test]
    fn failures_while_starting_do_not_count() {
        let start = Instant::now();
        let mut track = HealthTrack::new(start);
        (0..50).for_each(|_| track.record(failed(), &check(), start + Duration::from_secs(9)));
        assert_eq!(track.health, Health::Starting);
    }

    #[test]
    fn a_starting_service_is_asked_often_and_ever_less_often() {
        let start = Instant::now();
        let mut track = HealthTrack::new(start);
        let mut pauses = Vec::new();
        for attempt in 0..12 {
            let now = start + Duration::from_millis(attempt);
            pauses.push(track.pause(&check(), START, now).unwrap());
            track.record(failed(), &check(), now);
        }
        assert_eq!(pauses[0], FIRST_PAUSE);
        assert!(pauses.is_sorted());
        assert_eq!(pauses.last(), Some(&Duration::from_millis(100)));
        assert_eq!(track.pause(&check(), START, start + START), Some(check().interval.duration()));
    }

    #[tokio::test]
    async fn a_port_that_closes_at_once_is_not_open() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (outcome, ()) = tokio::join!(tcp(address), async { drop(listener.accept().await.unwrap()) });
        assert!(outcome.is_err());
        let (outcome, _kept) = tokio::join!(tcp(address), async { listener.accept().await.unwrap() });
        assert_eq!(outcome, Ok(()));
    }

    #[tokio::test]
    async fn an_error_status_is_unhealthy() {
        use tokio::io::AsyncWriteExt as _;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        for (answer, healthy) in [("204 No Content", true), ("302 Found", true), ("404 Not Found", false), ("503 Busy", false)] {
            let serve = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                let length = stream.read(&mut request).await.unwrap();
                assert!(request[..length].starts_with(b"GET /health HTTP/1.1\r\n"));
                stream.write_all(format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await.unwrap();
            };
            let (outcome, ()) = tokio::join!(http(address, "/health"), serve);
            assert_eq!(outcome.is_ok(), healthy, "{answer}: {outcome:?}");
        }
    }

    #[tokio::test]
    async fn what_an_unhealthy_service_says_for_people_is_its_reason() {
        use tokio::io::AsyncWriteExt as _;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let long = "x".repeat(10_000);
        for (kind, body, expected) in [
            ("text/plain; charset=utf-8", "the server exited with status 3\nmore\n", ": the server exited with status 3"),
            ("text/html", "<p>no</p>", ""),
            ("text/plain", long.as_str(), ""),
        ] {
            let serve = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let length = stream.read(&mut [0; 1024]).await.unwrap();
                assert!(length > 0);
                let head = format!("HTTP/1.1 503 Busy\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n", body.len());
                stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
            };
            let (outcome, ()) = tokio::join!(http(address, "/health"), serve);
            assert_eq!(outcome.unwrap_err(), format!("GET /health answered 503 Service Unavailable{expected}"));
        }
    }
}
