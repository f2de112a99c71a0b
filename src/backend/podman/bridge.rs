//! The bridge in containers of servers that speak stdio: which command it gets, and its way into the container.
//!
//! Its program is copied into the created container through the engine's API. A read-only mount would do with less, but
//! asks for a path that the manager and the engine share, which there is not with an engine in another container or on
//! another machine. What the bridge does is its own business.

use std::path::{Path, PathBuf};

use containers_api::conn::hyper::Body;
use futures_util::stream::{self, StreamExt as _};
use sha2::{Digest as _, Sha256};
use tokio_util::io::ReaderStream;

use super::client::{Engine, EngineError};
use super::images::Image;
use crate::backend::bridge;
pub(super) use crate::backend::bridge::is_needed;
use crate::domain::hex;
use crate::domain::spec::ServiceSpec;
use crate::error::{Error, Kind, Result};

/// Where the program is inside.
const INSIDE: &str = ".mcp-bridge";
/// The variable with the service's key for session ids.
pub(super) const KEY_VARIABLE: &str = "MCP_BRIDGE_SESSION_KEY";
/// A tar archive consists of blocks of this size and ends with two empty ones.
const BLOCK: u64 = 512;

/// The name of a replica in session ids, and among its peers: short enough for a DNS label whatever the service is
/// called, and another one with each container, so that sessions of a container that is gone are nobody's.
pub(super) fn owner(container: &str) -> String {
    format!("r{}", hex(&Sha256::digest(container)[..8]))
}

/// What the container runs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Invocation {
    /// The bridge and its flags, up to and with `--`.
    pub(super) entrypoint: Vec<String>,
    /// The server and its arguments.
    pub(super) command: Vec<String>,
}

/// The bridge's command line for one container of a service. `hosts` are values of the Host header that it takes.
pub(super) fn invocation(spec: &ServiceSpec, image: &Image, owner: &str, hosts: &[String]) -> Result<Invocation> {
    let command = command(spec, image);
    if command.is_empty() {
        let error = Error::new(Kind::StartFailed, format!("the image {} names no program", spec.image));
        return Err(error.remedy("set 'command' or 'entrypoint' to the server's command"));
    }
    let arguments = bridge::arguments(spec, owner, hosts);
    let entrypoint = [format!("/{INSIDE}")].into_iter().chain(arguments).collect();
    Ok(Invocation { entrypoint, command })
}

/// What would run without the bridge: an entrypoint of the spec replaces that of the image together with its command.
fn command(spec: &ServiceSpec, image: &Image) -> Vec<String> {
    let (entrypoint, command) = match &spec.entrypoint {
        Some(entrypoint) => (entrypoint.as_slice(), &[][..]),
        None => image.program(),
    };
    let command = if spec.command.is_empty() { command } else { &spec.command };
    entrypoint.iter().chain(command).cloned().collect()
}

/// The bridge's program, if it is there.
pub(super) fn program(path: Option<&Path>) -> Result<PathBuf> {
    let found = path.filter(|path| path.is_file()).map(Path::to_owned);
    found.ok_or_else(|| {
        let place = path.map_or_else(String::new, |path| format!(" at {}", path.display()));
        Error::new(Kind::NotSupported, format!("servers that speak stdio need the bridge, and there is no mcp-bridge{place}"))
            .remedy("put mcp-bridge beside the manager's own program, or set bridge.path")
    })
}

/// Copies the program into a container that does not run.
pub(super) async fn deliver(engine: &Engine, program: &Path, container: &str) -> Result<(), EngineError> {
    let own = |error: std::io::Error| EngineError::Odd(format!("{}: {error}", program.display()));
    let file = tokio::fs::File::open(program).await.map_err(own)?;
    let size = file.metadata().await.map_err(own)?.len();
    let mut header = tar::Header::new_ustar();
    header.set_path(INSIDE).map_err(own)?;
    header.set_size(size);
    header.set_mode(0o755);
    header.set_cksum();
    let end = vec![0; usize::try_from(size.next_multiple_of(BLOCK) - size + 2 * BLOCK).unwrap_or_default()];
    let whole = |bytes: Vec<u8>| stream::iter([Ok(bytes.into())]);
    // In pieces: the program may be many times as large as all that the manager keeps in memory.
    let archive = whole(header.as_bytes().to_vec()).chain(ReaderStream::with_capacity(file, 1 << 16)).chain(whole(end));
    engine.unpack(container, Body::wrap_stream(archive)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::spec::{SessionMode, Transport};

    fn image(entrypoint: &[&str], command: &[&str]) -> Image {
        let json = serde_json::json!({"Config": {"Entrypoint": entrypoint, "Cmd": command}});
        serde_json::from_value(json).unwrap()
    }

    fn stdio() -> ServiceSpec {
        ServiceSpec { transport: Transport::Stdio, port: Some(8000), ..ServiceSpec::default() }
    }

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn the_server_s_command_is_what_would_run_without_the_bridge() {
        let image = image(&["node", "index.js"], &["stdio"]);
        let table = [
            (None, vec![], "node index.js stdio"),
            (None, vec!["other"], "node index.js other"),
            (Some("uvx"), vec![], "uvx"),
            (Some("uvx"), vec!["mcp-server-time", "--utc"], "uvx mcp-server-time --utc"),
        ];
        for (entrypoint, command, expected) in table {
            let entrypoint = entrypoint.map(|word: &str| vec![word.to_owned()]);
            let command: Vec<_> = command.into_iter().map(str::to_owned).collect();
            let spec = ServiceSpec { entrypoint, command, ..stdio() };
            assert_eq!(invocation(&spec, &image, "r1", &[]).unwrap().command, words(expected));
        }
        let none = serde_json::from_value::<Image>(serde_json::json!({"Config": {}})).unwrap();
        assert_eq!(invocation(&stdio(), &none, "r1", &[]).unwrap_err().kind, Kind::StartFailed);
    }

    #[test]
    fn the_bridge_is_told_how_its_service_is_to_run() {
        let spec = ServiceSpec { session_mode: SessionMode::Shared, pids_limit: 100, ..stdio() };
        let invocation = invocation(&spec, &image(&["x"], &[]), "r1", &["*.example.com".to_owned()]).unwrap();
        let expected = "/.mcp-bridge --listen 0.0.0.0:8000 --session-mode shared --max-sessions 6 --start-timeout 60 \
                        --drain-timeout 9 --owner r1 --peer http://{owner}:8000 \
                        --caller-header x-mcp-manager-caller --allowed-host *.example.com --";
        assert_eq!(invocation.entrypoint.join(" "), expected.split_whitespace().collect::<Vec<_>>().join(" "));
    }

    #[test]
    fn the_bridge_leaves_a_server_of_the_old_transport_its_port() {
        let labels = [("mcp.sse_path", "/events"), ("mcp.sse", "true")];
        let labels = labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let spec = ServiceSpec { transport: Transport::Sse, labels, ..stdio() };
        let words = invocation(&spec, &image(&["x"], &[]), "r1", &[]).unwrap().entrypoint.join(" ");
        assert!(words.contains("--listen 0.0.0.0:8001 "), "{words}");
        assert!(words.ends_with("--sse-server http://127.0.0.1:8000/events --sse --"), "{words}");
    }

    #[test]
    fn each_container_has_its_own_owner_which_is_a_label_of_dns() {
        let long = format!("mcp-{}-12-3", "x".repeat(60));
        assert_ne!(owner(&long), owner("mcp-x-12-4"));
        assert!(owner(&long).len() <= 63 && owner(&long).bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }

    #[test]
    fn a_bridge_that_is_not_there_is_said_with_its_place() {
        assert!(program(Some(Path::new("/nowhere/mcp-bridge"))).unwrap_err().detail.contains("/nowhere/mcp-bridge"));
        assert_eq!(program(None).unwrap_err().kind, Kind::NotSupported);
    }
}
