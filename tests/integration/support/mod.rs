//! What several tests need: running programs, and clients that speak to them. No claims here.

pub mod bridged;
pub mod clients;
pub mod command;
pub mod company;
pub mod conformance;
pub mod echo;
pub mod kubernetes;
pub mod kubernetes_door;
pub mod kubernetes_way;
pub mod machine;
pub mod mcp;
pub mod podman;
pub mod product;
pub mod registry;
pub mod scripted;
pub mod traefik;

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use mcp_manager::http_client::Trust;

/// Longest time anything in these tests may take before it counts as hanging.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A client of the product, and of what stands before it. It asks addresses of HTTP.
pub fn http_client() -> reqwest::ClientBuilder {
    mcp_manager::http_client::builder(Trust::Nobody).expect("nobody has to be trusted")
}

/// Asks again and again until `holds` is true; fails the test when that takes too long.
pub async fn eventually(claim: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {claim}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A port that stays free until Traefik takes it: below those that the system hands out to whoever asks for any, which
/// another test's container or connection may get in the meantime, and given once.
pub fn free_port() -> u16 {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    // Another run of the tests begins elsewhere.
    let first = 20_000 + u16::try_from(std::process::id() % 100).unwrap() * 100;
    loop {
        let port = first + GIVEN.fetch_add(1, Ordering::Relaxed);
        assert!(port < 32_000, "no port is free");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// `limit`, or more of it by as much as this machine, busy with other tests, is slower than an idle one at starting
/// programs just now: for promises of the product in seconds.
pub async fn stretched(limit: Duration) -> Duration {
    const PROGRAMS: u32 = 20;
    /// Of one program; measured on two idle cores it is 1 ms.
    const IDLE: Duration = Duration::from_millis(4);
    let began = Instant::now();
    for _ in 0..PROGRAMS {
        tokio::process::Command::new("true").status().await.unwrap();
    }
    limit.mul_f64((began.elapsed().as_secs_f64() / (IDLE * PROGRAMS).as_secs_f64()).clamp(1.0, 10.0))
}

/// Shows each failure when it happens, not only when the whole run, which takes minutes, has ended.
pub fn tell_failures_at_once() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |about| {
            // Written in one piece, past the harness, which keeps what `eprintln!` is given.
            let thread = std::thread::current();
            let line = format!("FAILURE in {}: {about}\n", thread.name().unwrap_or("a task"));
            let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
            usual(about);
        }));
    });
}

/// Process ids of this user's processes, zombies left out, whose command line contains both texts.
pub fn processes(one: &str, other: &str) -> Vec<i32> {
    let user = rustix::process::getuid().as_raw();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let matching = entries.filter_map(|entry| {
        use std::os::unix::fs::MetadataExt as _;
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read_to_string(entry.path().join("cmdline")).ok()?.replace('\0', " ");
        (entry.metadata().ok()?.uid() == user && line.contains(one) && line.contains(other)).then_some(pid)
    });
    matching.collect()
}
