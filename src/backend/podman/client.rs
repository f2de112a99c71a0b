//! The engine's API, as this backend uses it: every call with a limit of time and one kind of error.
//!
//! `podman-api` is the client. Its own request layer is used directly where the crate's call is wrong or wasteful:
//! `create` (its builder misspells `no_new_privileges` and the log driver), the creation of secrets (it quotes the
//! value), `inspect` (it always asks for sizes, which walks the file system), and multiplexed streams (its decoder
//! panics on an unknown stream number and trusts any length). Pulls go through the engine's Docker-compatible call,
//! because Podman's own tells no bytes.
//! What the answers mean for services is not decided here.

use std::collections::HashMap;
use std::future::Future;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use containers_api::conn::{self, Headers, Payload, RequestClient, Transport, hyper};
use containers_api::url::{append_query, encoded_pairs};
use futures_util::TryFutureExt as _;
use futures_util::stream::{BoxStream, StreamExt as _};
use podman_api::models;
use podman_api::opts::{
    ContainerDeleteOpts, ContainerListFilter, ContainerListOpts, EventsOpts, ExecCreateOpts, NetworkCreateOpts, VolumeCreateOpts,
    VolumeListFilter, VolumeListOpts,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(super) use super::engine_error::EngineError;
use super::engine_error::again_if_faulty;

/// The API version asked for; newer engines serve it too, and its answers are the ones this code was measured against.
pub(super) const API: &str = "/v4.3.1/libpod";
/// The one call of Docker's API, in the version of it that the same engines serve.
const DOCKER_PULL: &str = "/v1.41/images/create";

/// Questions that the engine answers from its own state.
const SHORT: Duration = Duration::from_secs(30);
/// Work on containers, which may copy an image's files.
const LONG: Duration = Duration::from_mins(5);
/// Writing an image, which packs all files of a container.
const COMMIT: Duration = Duration::from_mins(15);
/// Time between two looks at the socket.
const REACH: Duration = Duration::from_millis(500);
/// So often a list is asked for again that failed because something in it went away meanwhile.
const LIST_RETRIES: u32 = 20;
/// Longest answer read into memory.
const MAX_ANSWER: usize = 64 << 20;

type Answer<T> = Result<T, EngineError>;

/// What `create` answers.
#[derive(Debug, Deserialize)]
pub(super) struct Created {
    #[serde(rename = "Id")]
    pub(super) id: String,
    #[serde(rename = "Warnings", default)]
    pub(super) warnings: Option<Vec<String>>,
}

/// What the engine says of an image or a secret that it made.
#[derive(Debug, Deserialize)]
struct Made {
    #[serde(rename = "Id", alias = "ID")]
    id: String,
}

/// One line of what the engine says while it pulls.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PullReport {
    /// What it does with the part `id`, a word or two.
    pub(super) status: String,
    /// Digest of a layer or of the image's configuration, shortened.
    pub(super) id: String,
    #[serde(rename = "progressDetail")]
    pub(super) bytes: PulledBytes,
    /// Why the pull has failed.
    pub(super) error: Option<String>,
}

/// How much of one part has arrived. Zero where nothing is said.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PulledBytes {
    pub(super) current: u64,
    /// -1 where the registry does not say how much there is.
    pub(super) total: i64,
}

/// How a command inside a container ended.
#[derive(Debug)]
pub(super) struct ExecResult {
    pub(super) code: i64,
    /// The end of what it wrote, both streams.
    pub(super) output: Vec<u8>,
}

/// A client of one engine. Every call opens its own connection, so a restarted engine needs no new client.
#[derive(Debug)]
pub(super) struct Engine {
    podman: podman_api::Podman,
    pub(super) raw: RequestClient<EngineError>,
    socket: PathBuf,
}

async fn within<T, E>(limit: Duration, call: impl Future<Output = Result<T, E>>) -> Answer<T>
where
    EngineError: From<E>,
{
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer.map_err(EngineError::from),
        Err(_) => Err(EngineError::Late(limit)),
    }
}

/// 304 says that the thing was so already.
fn already(answer: Answer<()>) -> Answer<()> {
    match answer {
        Err(EngineError::Refused { status: 304, .. }) => Ok(()),
        other => other,
    }
}

impl Engine {
    pub(super) fn new(socket: &Path) -> Self {
        let client = hyper::Client::builder().pool_max_idle_per_host(0).build(conn::get_unix_connector());
        let transport = Transport::Unix { client, path: socket.to_owned() };
        Self {
            podman: podman_api::Podman::unix(socket),
            raw: RequestClient::new(transport, Box::new(|response| Box::pin(async { Ok(response) }))),
            socket: socket.to_owned(),
        }
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    // ---- the engine itself

    pub(super) async fn ping(&self) -> Answer<()> {
        within(Duration::from_secs(5), async { self.podman.ping().await.map(|_| ()) }).await
    }

    /// Returns when nothing listens on the socket any more. Connections made before would go on without noticing.
    pub(super) async fn unreachable(&self) -> EngineError {
        loop {
            tokio::time::sleep(REACH).await;
            match tokio::net::UnixStream::connect(&self.socket).await {
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                    return EngineError::Away(format!("its socket: {error}"));
                }
                // Other failures are this process' own, such as too many open files.
                Ok(_) | Err(_) => {}
            }
        }
    }

    pub(super) async fn info(&self) -> Answer<models::Info> {
        within(SHORT, self.podman.info()).await
    }

    /// Events of containers and volumes from `since` (Unix seconds) on, without end.
    pub(super) fn events(&self, since: i64) -> BoxStream<'_, Answer<models::Event>> {
        let filters = [("type".to_owned(), vec!["container".to_owned(), "volume".to_owned()])];
        let options = EventsOpts::builder().stream(true).since(since.to_string()).filters(filters).build();
        self.podman.events(&options).map(|event| event.map_err(EngineError::from)).boxed()
    }

    // ---- containers

    pub(super) async fn containers(&self, label: &str, value: &str) -> Answer<Vec<models::ListContainer>> {
        let filter = ContainerListFilter::LabelKeyVal(label.to_owned(), value.to_owned());
        let options = ContainerListOpts::builder().all(true).filter([filter]).build();
        within(SHORT, async { self.podman.containers().list(&options).await }).await
    }

    /// Also those that others own.
    pub(super) async fn all_containers(&self) -> Answer<Vec<models::ListContainer>> {
        let options = ContainerListOpts::builder().all(true).build();
        within(SHORT, async { self.podman.containers().list(&options).await }).await
    }

    pub(super) async fn create(&self, request: &Value) -> Answer<Created> {
        let answer = self.post("/containers/create", Payload::Json(serde_json::to_vec(request)?), LONG).await?;
        Ok(serde_json::from_slice(&answer)?)
    }

    /// The engine's description of a container.
    pub(super) async fn inspect<T: DeserializeOwned>(&self, id: &str) -> Answer<T> {
        self.get_json(&format!("/containers/{id}/json")).await
    }

    pub(super) async fn start(&self, id: &str) -> Answer<()> {
        already(within(LONG, async { self.podman.containers().get(id).start(None).await }).await)
    }

    /// Stops it, with the grace that the container was created with.
    pub(super) async fn stop(&self, id: &str) -> Answer<()> {
        let options = podman_api::opts::ContainerStopOpts::default();
        already(again_if_faulty(|| within(LONG, async { self.podman.containers().get(id).stop(&options).await })).await)
    }

    /// Removes it with its anonymous volumes, stopping it first with at most `grace`.
    pub(super) async fn remove(&self, id: &str, grace: Duration) -> Answer<()> {
        let grace = usize::try_from(grace.as_millis().div_ceil(1000)).unwrap_or(usize::MAX);
        let options = ContainerDeleteOpts::builder().force(true).volumes(true).timeout(grace).build();
        let answer = again_if_faulty(|| within(LONG, async { self.podman.containers().get(id).delete(&options).await })).await;
        answer.or_else(|error| if error.is_missing() { Ok(()) } else { Err(error) })
    }

    /// Unpacks a tar archive into the root of a container.
    pub(super) async fn unpack(&self, id: &str, archive: hyper::Body) -> Answer<()> {
        let call = async {
            let response = self.raw.put(format!("{API}/containers/{id}/archive?path=/"), Payload::Tar(archive)).await?;
            successful(response).await.map(|_| ())
        };
        within(LONG, call).await
    }

    /// The multiplexed log stream. The engine answers no earlier than with the first line, so there is no limit of time.
    pub(super) fn logs(&self, id: &str, query: &[(&str, String)]) -> BoxStream<'static, Answer<Bytes>> {
        let mut path = format!("{API}/containers/{id}/logs");
        append_query(&mut path, encoded_pairs(query.iter().map(|(key, value)| (*key, value.as_str()))));
        let client = self.raw.clone();
        let open = async move {
            let body = successful(client.get(path).await?).await?;
            Ok::<_, EngineError>(body.map(|chunk| chunk.map_err(EngineError::from)))
        };
        open.try_flatten_stream().boxed()
    }

    pub(super) async fn stats(&self, ids: &[&str]) -> Answer<Value> {
        let mut path = "/containers/stats".to_owned();
        append_query(&mut path, encoded_pairs(ids.iter().map(|id| ("containers", *id)).chain([("stream", "false")])));
        self.get_json(&path).await
    }

    /// Runs a command inside a container and waits for its end.
    pub(super) async fn exec(&self, id: &str, command: &[String], limit: Duration) -> Answer<ExecResult> {
        let run = async {
            let options = ExecCreateOpts::builder().command(command).attach_stdout(true).attach_stderr(true).build();
            let exec = self.podman.containers().get(id).create_exec(&options).await?;
            let path = format!("/exec/{}/start", exec.id());
            let output = self.post(&path, Payload::Json(b"{\"Detach\":false}".to_vec()), LONG).await?;
            let state = exec.inspect().await?;
            let code = state.get("ExitCode").and_then(Value::as_i64).unwrap_or(-1);
            Ok::<_, EngineError>(ExecResult { code, output: output.to_vec() })
        };
        within(limit, run).await
    }

    // ---- records and other things a service needs

    pub(super) async fn create_volume(&self, name: &str, labels: HashMap<&str, String>) -> Answer<()> {
        let options = VolumeCreateOpts::builder().name(name).labels(labels).build();
        within(SHORT, async { self.podman.volumes().create(&options).await.map(|_| ()) }).await
    }

    pub(super) async fn volumes(&self, label: &str, value: &str) -> Answer<Vec<models::Volume>> {
        let mut failures = 0;
        loop {
            let filter = VolumeListFilter::LabelKeyVal(label.to_owned(), value.to_owned());
            let options = VolumeListOpts::builder().filter([filter]).build();
            match within(SHORT, async { self.podman.volumes().list(&options).await }).await {
                // One volume that is removed while the list is read makes the whole list fail.
                Err(error) if error.says("no such volume") && failures < LIST_RETRIES => failures += 1,
                answer => return answer,
            }
        }
    }

    /// Labels of a volume; `None` when there is no such volume.
    pub(super) async fn volume_labels(&self, name: &str) -> Answer<Option<HashMap<String, String>>> {
        match within(SHORT, async { self.podman.volumes().get(name).inspect().await }).await {
            Ok(volume) => Ok(Some(volume.labels)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes a volume; whether there was one.
    pub(super) async fn remove_volume(&self, name: &str) -> Answer<bool> {
        match within(SHORT, async { self.podman.volumes().get(name).delete().await }).await {
            Ok(()) => Ok(true),
            // The second is said, as an error of the engine's own, to whoever is overtaken by somebody else's removal.
            Err(error) if error.is_missing() || error.says("no such volume") => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether a network is an internal one; `None` when there is no such network.
    pub(super) async fn network(&self, name: &str) -> Answer<Option<bool>> {
        match within(SHORT, async { self.podman.networks().get(name).inspect().await }).await {
            Ok(network) => Ok(Some(network.internal.unwrap_or_default())),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates a bridge network with name resolution. One that exists stays as it is.
    pub(super) async fn create_network(&self, name: &str, internal: bool, owner: (&str, &str)) -> Answer<()> {
        let labels = HashMap::from([owner]);
        let options = NetworkCreateOpts::builder().name(name).driver("bridge").dns_enabled(true);
        let options = options.internal(internal).labels(labels).build();
        match within(SHORT, async { self.podman.networks().create(&options).await.map(|_| ()) }).await {
            Err(EngineError::Refused { status: 409, .. }) => Ok(()),
            answer => answer,
        }
    }

    /// Creates a secret; the engine's id of it, which no other will have.
    pub(super) async fn create_secret(&self, name: &str, value: &str) -> Answer<String> {
        let mut path = "/secrets/create".to_owned();
        append_query(&mut path, encoded_pairs([("name", name)]));
        let answer = self.post(&path, Payload::Text(value.as_bytes().to_vec()), SHORT).await?;
        Ok(serde_json::from_slice::<Made>(&answer)?.id)
    }

    /// The engine's id of the secret that has this name now; `None` when there is none.
    pub(super) async fn secret_id(&self, name: &str) -> Answer<Option<String>> {
        match within(SHORT, async { self.podman.secrets().get(name).inspect().await }).await {
            Ok(secret) => Ok(Some(secret.id.unwrap_or_default())),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn remove_secret(&self, name: &str) -> Answer<()> {
        let answer = within(SHORT, async { self.podman.secrets().get(name).delete().await }).await;
        answer.or_else(|error| if error.is_missing() { Ok(()) } else { Err(error) })
    }

    // ---- images

    pub(super) async fn images(&self) -> Answer<Vec<models::LibpodImageSummary>> {
        within(SHORT, async { self.podman.images().list(&podman_api::opts::ImageListOpts::default()).await }).await
    }

    /// The engine's description of an image; `None` when it is not there.
    pub(super) async fn image<T: DeserializeOwned>(&self, reference: &str) -> Answer<Option<T>> {
        match self.get_json(&format!("/images/{reference}/json")).await {
            Ok(image) => Ok(Some(image)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes an image of what is in a container, with changes as a Containerfile says them; its id.
    pub(super) async fn commit(&self, container: &str, image: &str, changes: &[String]) -> Answer<String> {
        let (repository, tag) = image.rsplit_once(':').unwrap_or((image, "latest"));
        let fixed = [("container", container), ("repo", repository), ("tag", tag), ("pause", "false")];
        let mut path = "/commit".to_owned();
        append_query(
            &mut path,
            encoded_pairs(fixed.into_iter().chain(changes.iter().map(|change| ("changes", change.as_str())))),
        );
        let answer = self.post(&path, Payload::None, COMMIT).await?;
        Ok(serde_json::from_slice::<Made>(&answer)?.id)
    }

    /// Removes an image that nothing uses, by its id if it has no other name, or takes this name from it.
    pub(super) async fn remove_image(&self, image: &str) -> Answer<()> {
        within(LONG, async { self.podman.images().get(image).delete().await }).await
    }

    /// Pulls an image and hands each report to `on_report`; failures are reports with `error` set. Dropping the future
    /// cancels the pull.
    pub(super) async fn pull(&self, reference: &str, auth: Option<String>, mut on_report: impl FnMut(PullReport)) -> Answer<()> {
        let mut path = DOCKER_PULL.to_owned();
        append_query(&mut path, encoded_pairs([("fromImage", reference)]));
        let headers = auth.map(|auth| Headers::single("X-Registry-Auth", auth));
        let response = self.raw.post(path, Payload::<Vec<u8>>::None, headers).await?;
        let mut body = successful(response).await?;
        let mut unread = Vec::new();
        while let Some(chunk) = body.next().await {
            unread.extend_from_slice(&chunk?);
            while let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = unread.drain(..=end).collect();
                on_report(serde_json::from_slice(&line)?);
            }
            if unread.len() > MAX_ANSWER {
                return Err(EngineError::Odd(format!("a line of its answer is longer than {MAX_ANSWER} bytes")));
            }
        }
        Ok(())
    }

    // ---- requests

    async fn get_json<T: DeserializeOwned>(&self, path: &str) -> Answer<T> {
        let call = async {
            let response = self.raw.get(format!("{API}{path}")).await?;
            Ok::<_, EngineError>(serde_json::from_slice(&read(successful(response).await?).await?)?)
        };
        within(SHORT, call).await
    }

    async fn post(&self, path: &str, body: Payload<Vec<u8>>, limit: Duration) -> Answer<Bytes> {
        let call = async {
            let response = self.raw.post(format!("{API}{path}"), body, None::<Headers>).await?;
            read(successful(response).await?).await
        };
        within(limit, call).await
    }
}

/// The body of a successful answer, or the error that the engine describes.
pub(super) async fn successful(response: hyper::Response<hyper::Body>) -> Answer<hyper::Body> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Refusal {
        message: String,
        cause: String,
    }
    let status = response.status();
    if status.is_success() {
        return Ok(response.into_body());
    }
    let text = read(response.into_body()).await?;
    let refusal: Refusal = serde_json::from_slice(&text).unwrap_or_default();
    let message = match (refusal.message.is_empty(), refusal.cause.is_empty()) {
        (true, true) => String::from_utf8_lossy(&text).into_owned(),
        _ => format!("{}: {}", refusal.message, refusal.cause),
    };
    Err(EngineError::Refused { status: status.as_u16(), message })
}

/// Reads a whole body, up to [`MAX_ANSWER`].
async fn read(mut body: hyper::Body) -> Answer<Bytes> {
    let mut whole = Vec::new();
    while let Some(chunk) = body.next().await {
        let chunk = chunk?;
        if whole.len() + chunk.len() > MAX_ANSWER {
            return Err(EngineError::Odd(format!("the answer is longer than {MAX_ANSWER} bytes")));
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.into())
}
