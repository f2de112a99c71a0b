//! What one running echo service knows about itself. Nothing here outlives the process.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::settings::Settings;

/// The service: its settings, its counters, and the switches tests may throw.
#[derive(Debug)]
pub struct Echo {
    pub settings: Settings,
    /// Cancelled when the service is to end; open streams watch it so that they do not hold up the drain.
    pub stopping: CancellationToken,
    hostname: String,
    instance: String,
    started: Instant,
    started_at: Timestamp,
    requests: AtomicU64,
    healthy: AtomicBool,
    health_delay_ms: AtomicU64,
    exit_code: AtomicU8,
}

/// Answer of `GET /health`.
#[derive(Debug, Serialize)]
pub struct Health {
    pub status: &'static str,
    pub service: String,
    pub version: &'static str,
    pub uptime_seconds: f64,
}

/// Answer of `GET /info`, and of the MCP resource and tool of the same meaning.
#[derive(Debug, Serialize)]
pub struct Info {
    pub service: String,
    pub name: &'static str,
    pub version: &'static str,
    pub hostname: String,
    /// Tells replicas apart, which may all have the same host name: drawn anew with every start.
    pub instance: String,
    pub pid: u32,
    pub started_at: String,
    pub uptime_seconds: f64,
    /// Requests taken since the start, this one included.
    pub requests: u64,
    /// Resident memory in bytes; absent where /proc does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    pub test_controls: bool,
}

impl Echo {
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            stopping: CancellationToken::new(),
            hostname: hostname(),
            instance: format!("{:08x}", rand::random::<u32>()),
            started: Instant::now(),
            started_at: Timestamp::now(),
            requests: AtomicU64::new(0),
            healthy: AtomicBool::new(true),
            health_delay_ms: AtomicU64::new(0),
            exit_code: AtomicU8::new(0),
        }
    }

    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    pub fn instance(&self) -> &str {
        &self.instance
    }

    pub fn count_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    pub fn set_healthy(&self, healthy: bool) {
        self.healthy.store(healthy, Ordering::Relaxed);
    }

    pub fn health_delay(&self) -> Duration {
        Duration::from_millis(self.health_delay_ms.load(Ordering::Relaxed))
    }

    pub fn set_health_delay_ms(&self, milliseconds: u64) {
        self.health_delay_ms.store(milliseconds, Ordering::Relaxed);
    }

    pub fn exit_code(&self) -> u8 {
        self.exit_code.load(Ordering::Relaxed)
    }

    /// Ends the service as a stop signal would, but with this exit code.
    pub fn end_with(&self, code: u8) {
        self.exit_code.store(code, Ordering::Relaxed);
        self.stopping.cancel();
    }

    pub fn health(&self) -> Health {
        Health {
            status: if self.is_healthy() { "healthy" } else { "unhealthy" },
            service: self.settings.service_name.clone(),
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: self.uptime_seconds(),
        }
    }

    pub fn info(&self) -> Info {
        Info {
            service: self.settings.service_name.clone(),
            name: env!("CARGO_BIN_NAME"),
            version: env!("CARGO_PKG_VERSION"),
            hostname: self.hostname.clone(),
            instance: self.instance.clone(),
            pid: std::process::id(),
            started_at: self.started_at.to_string(),
            uptime_seconds: self.uptime_seconds(),
            requests: self.requests(),
            memory_bytes: resident_bytes(),
            test_controls: self.settings.test_controls,
        }
    }

    fn uptime_seconds(&self) -> f64 {
        // Milliseconds are enough, and a shorter number reads better.
        (self.started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0
    }
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
