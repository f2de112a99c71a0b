//! An engine that lost all of its processes at once while its runtime folder stayed, as when the container is restarted
//! that everything runs in, or the kernel ends all of a user's processes for want of memory.
//!
//! Podman then takes its containers for running and looks for one to join the user namespace of; it finds none and refuses
//! every command until it is told to look anew. Also then it takes the file systems of the containers for mounted, which
//! went with the processes; cleaning up tells it better.

use std::path::Path;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

/// How long one command may take. Podman waits 5 s for each container to say how it ended.
const PATIENCE: Duration = Duration::from_mins(1);

/// Whether that is what Podman says, and not one of the other faults in which it names the same way out.
pub(super) fn is_needed(said: &str) -> bool {
    said.contains("invalid internal status") && said.contains("system migrate")
}

/// Has Podman look anew. `podman` gives its command without arguments; managers whose runtime folders are in `common` do
/// this one after the other, and find it done.
pub(super) async fn revive(podman: impl Fn() -> Command, common: &Path) -> Result<(), String> {
    let lock = std::fs::File::open(common).map_err(|error| format!("{}: {error}", common.display()))?;
    let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await;
    // Where the file system knows no locks, this manager counts as the only one.
    let _turn = lock.ok().and_then(Result::ok);
    match run(&podman, &["ps", "--quiet"]).await {
        Err(said) if is_needed(&said) => {}
        other => return other,
    }
    tracing::warn!("all processes of the container engine were ended at once; its containers are started anew");
    run(&podman, &["system", "migrate"]).await?;
    run(&podman, &["container", "cleanup", "--all"]).await
}

/// What it said when it failed.
async fn run(podman: &impl Fn() -> Command, arguments: &[&str]) -> Result<(), String> {
    let output = timeout(PATIENCE, podman().args(arguments).kill_on_drop(true).output()).await;
    let output =
        output.map_err(|_| format!("podman {} took too long", arguments.join(" ")))?.map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() && !is_needed(&said) { Ok(()) } else { Err(said) }
}
