//! A registry on loopback with images of the test's own, a few hundred bytes each, some of which it does not give away.
//! It speaks plain HTTP, which the engine of a product takes from it once told so.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::podman;
use super::product::Options;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const USER: &str = "somebody";

/// What the layer of an image of a `slow` repository holds beside its program.
pub const SLOW: usize = 1 << 20;

/// A running one; it ends, and its images leave the engine, with the value. First segments of repositories say how it
/// treats them: `private` wants a login, `denied` is 403 and `busy` 429, each with the reason, `bare-STATUS` is that status
/// without one, `slow` and `unsized` take seconds to give a layer of [`SLOW`] bytes and more, the second without saying how
/// many; the images of `vanishing` share a layer, and all but `vanishing/base` have one more, see [`Registry::removes`]; all
/// others are everybody's.
pub struct Registry {
    address: SocketAddr,
    shelves: Arc<Shelves>,
    /// The engine's settings, and whatever else a test puts there.
    pub folder: tempfile::TempDir,
    served: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Shelves {
    login: String,
    blobs: Mutex<HashMap<String, Vec<u8>>>,
    /// `REPOSITORY:TAG` to the digest of the manifest.
    tags: Mutex<HashMap<String, String>>,
    /// How often manifests of each repository were asked for.
    asked: Mutex<HashMap<String, u32>>,
    /// The image that the engine loses when it asks for a layer of `vanishing`.
    doomed: Mutex<Option<String>>,
}

impl Registry {
    pub async fn start() -> Self {
        let login = format!("{USER}:{}", podman::unique("secret"));
        let shelves = Arc::new(Shelves { login, ..Shelves::default() });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answering = move |State(shelves): State<Arc<Shelves>>, request: Request| async move {
            shelves.remove_doomed(request.uri().path()).await;
            answer(&shelves, &request)
        };
        let router = Router::new().fallback(answering).with_state(shelves.clone());
        let served = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let folder = tempfile::tempdir().unwrap();
        let settings = format!("[[registry]]\nlocation = \"{address}\"\ninsecure = true\n");
        std::fs::write(folder.path().join("registries.conf"), settings).unwrap();
        Self { address, shelves, folder, served }
    }

    /// A product on Podman whose engine takes images from here.
    pub fn options(&self) -> Options {
        let file = self.folder.path().join("registries.conf");
        Options::podman().with("CONTAINERS_REGISTRIES_CONF", file.display().to_string())
    }

    /// How the engine names an image of here.
    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// What a file of logins holds for this registry once somebody has logged in, with this password or the right one.
    pub fn logins(&self, password: Option<&str>) -> Value {
        let login = password.map_or_else(|| self.shelves.login.clone(), |password| format!("{USER}:{password}"));
        json!({"auths": {self.address.to_string(): {"auth": STANDARD.encode(login)}}})
    }

    /// Puts an image there, `REPOSITORY:TAG`, whose only program waits until it is ended. `mark` tells it from others under
    /// the same name; its id.
    pub fn publish(&self, name: &str, mark: &str, architecture: &str) -> String {
        let slow = ["slow/", "unsized/"].iter().any(|first| name.starts_with(first));
        // A layer that the engine has of another image would not be asked for.
        let padding: Vec<u8> = format!("{name} of {} ", self.address).bytes().cycle().take(if slow { SLOW } else { 0 }).collect();
        let mut layers = vec![layer(&padding)];
        if let Some(vanishing) = name.strip_prefix("vanishing/") {
            layers = vec![layer(self.address.to_string().as_bytes())];
            if !vanishing.starts_with("base:") {
                layers.push(layer(name.as_bytes()));
            }
        }
        let layers: Vec<_> = layers.into_iter().map(|layer| (layer.len(), self.keep(layer))).collect();
        let config = json!({
            "architecture": architecture, "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|(_, digest)| digest).collect::<Vec<_>>()},
            "config": {"Entrypoint": ["/wait"], "Labels": {"mark": mark, "registry": self.address.to_string()}},
        });
        let config = config.to_string().into_bytes();
        let config_size = config.len();
        let config_digest = self.keep(config);
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest, "size": config_size},
            "layers": layers.iter().map(|(size, digest)| {
                json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": size})
            }).collect::<Vec<_>>(),
        });
        let manifest = self.keep(manifest.to_string().into_bytes());
        self.shelves.tags.lock().unwrap().insert(name.to_owned(), manifest);
        config_digest.trim_start_matches("sha256:").to_owned()
    }

    /// Has this image removed from the engine once the next layer of a `vanishing` image is asked for: the engine has
    /// decided by then which layers it need not ask for, since it has them of other images.
    pub fn removes(&self, reference: &str) {
        *self.shelves.doomed.lock().unwrap() = Some(reference.to_owned());
    }

    /// How often manifests of a repository were asked for.
    pub fn asked(&self, repository: &str) -> u32 {
        self.shelves.asked.lock().unwrap().get(repository).copied().unwrap_or_default()
    }

    fn keep(&self, blob: Vec<u8>) -> String {
        let digest = Sha256::digest(&blob).iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"));
        self.shelves.blobs.lock().unwrap().insert(digest.clone(), blob);
        digest
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.served.abort();
        let list = |filter: &str| {
            let output =
                std::process::Command::new("podman").args(["images", "--quiet", "--no-trunc", "--filter", filter]).output();
            output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
        };
        // Those that have lost their name to a newer one have still their label.
        let label = format!("label=registry={}", self.address);
        let images = [list(&format!("reference={}/*/*", self.address)), list(&label)].concat();
        if !images.trim().is_empty() {
            let remove = ["rmi", "--force", "--ignore"];
            let _ = std::process::Command::new("podman").args(remove).args(images.split_whitespace()).output();
        }
    }
}

/// An answer of the registry's API, as far as clients that pull need it.
fn answer(shelves: &Shelves, request: &Request) -> Response {
    let path = request.uri().path();
    let known = shelves.knows(request.headers());
    let Some((repository, kind, reference)) = parts(path) else {
        // Clients ask this first, and log in from then on only if they are told to here.
        return if known { StatusCode::OK.into_response() } else { unauthorized() };
    };
    let first = repository.split('/').next().unwrap_or_default();
    // Without this header clients wait for a minute in all before they give up after 429.
    let again = [(header::RETRY_AFTER, "0")];
    match first {
        "private" if !known => return unauthorized(),
        "denied" => return refused(StatusCode::FORBIDDEN, "DENIED", "requested access to the resource is denied"),
        "busy" => {
            return (again, refused(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", "rate limit reached")).into_response();
        }
        _ => {}
    }
    if let Some(status) = first.strip_prefix("bare-") {
        return (StatusCode::from_u16(status.parse().unwrap()).unwrap(), again).into_response();
    }
    let (digest, content_type) = if kind == "manifests" {
        *shelves.asked.lock().unwrap().entry(repository.to_owned()).or_default() += 1;
        let tagged = shelves.tags.lock().unwrap().get(&format!("{repository}:{reference}")).cloned();
        (tagged.unwrap_or_else(|| reference.to_owned()), MANIFEST)
    } else {
        (reference.to_owned(), "application/octet-stream")
    };
    match shelves.blobs.lock().unwrap().get(&digest) {
        Some(blob) => {
            let headers = [("content-type", content_type), ("docker-content-digest", digest.as_str())];
            match first {
                "slow" if blob.len() > SLOW => (headers, [(header::CONTENT_LENGTH, blob.len())], slowly(blob)).into_response(),
                "unsized" if blob.len() > SLOW => (headers, slowly(blob)).into_response(),
                _ => (headers, blob.clone()).into_response(),
            }
        }
        None => refused(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "manifest unknown"),
    }
}

impl Shelves {
    async fn remove_doomed(&self, path: &str) {
        let Some(("vanishing/image", "blobs", digest)) = parts(path) else { return };
        // What is no layer is JSON.
        if self.blobs.lock().unwrap().get(digest).is_none_or(|blob| blob.starts_with(b"{")) {
            return;
        }
        let doomed = self.doomed.lock().unwrap().take();
        if let Some(image) = doomed {
            tokio::time::sleep(Duration::from_millis(500)).await;
            podman::podman(&["rmi", &image]).await;
        }
    }

    fn knows(&self, headers: &HeaderMap) -> bool {
        let login = format!("Basic {}", STANDARD.encode(&self.login));
        headers.get(header::AUTHORIZATION).is_some_and(|sent| sent.as_bytes() == login.as_bytes())
    }
}

/// `/v2/REPOSITORY/KIND/REFERENCE`.
fn parts(path: &str) -> Option<(&str, &str, &str)> {
    let (rest, reference) = path.strip_prefix("/v2/")?.rsplit_once('/')?;
    let (repository, kind) = rest.rsplit_once('/')?;
    Some((repository, kind, reference))
}

fn unauthorized() -> Response {
    let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"test\"")];
    (challenge, refused(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "authentication required")).into_response()
}

fn refused(status: StatusCode, code: &str, message: &str) -> Response {
    (status, axum::Json(json!({"errors": [{"code": code, "message": message}]}))).into_response()
}

/// A body of so many bytes in a hundred pieces, of which twenty come each second.
fn slowly(blob: &[u8]) -> Body {
    let pieces: Vec<Vec<u8>> = blob.chunks(blob.len().div_ceil(100)).map(<[u8]>::to_vec).collect();
    Body::from_stream(futures_util::stream::iter(pieces).then(|piece| async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok::<_, Infallible>(piece)
    }))
}

/// A file system whose one program is `/wait`, with a file that holds `padding` if there is any.
fn layer(padding: &[u8]) -> Vec<u8> {
    layer_of(&program(), padding)
}

/// The same with another program.
pub fn layer_of(program: &[u8], padding: &[u8]) -> Vec<u8> {
    let mut head = tar::Header::new_ustar();
    head.set_mode(0o755);
    head.set_size(program.len() as u64);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut head, "wait", program).unwrap();
    if !padding.is_empty() {
        head.set_size(padding.len() as u64);
        archive.append_data(&mut head, "padding", padding).unwrap();
    }
    archive.into_inner().unwrap()
}

/// The smallest program there is that waits for a signal: the head of an ELF file, and one system call in a loop.
pub fn program() -> Vec<u8> {
    let (machine, code): (u16, &[u8]) = match std::env::consts::ARCH {
        // mov eax, 34 (pause); syscall; jmp to the start
        "x86_64" => (62, &[0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7]),
        // mov x0 to x3, 0; mov x8, 73 (ppoll); svc 0; b to the start
        "aarch64" => (
            183,
            &[
                0x00, 0x00, 0x80, 0xd2, 0x01, 0x00, 0x80, 0xd2, 0x02, 0x00, 0x80, 0xd2, 0x03, 0x00, 0x80, 0xd2, //
                0x28, 0x09, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4, 0xfa, 0xff, 0xff, 0x17,
            ],
        ),
        other => panic!("nobody has written the program of the tests' images for {other}"),
    };
    let (base, heads) = (0x40_0000_u64, 64 + 56);
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0".to_vec();
    file.extend(machine.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    // Where it begins, where the table of its one segment is, and that it has no sections.
    file.extend([base + heads, 64, 0].map(u64::to_le_bytes).concat());
    file.extend(0_u32.to_le_bytes());
    file.extend([64_u16, 56, 1, 64, 0, 0].map(u16::to_le_bytes).concat());
    // The segment: loaded (1), readable and executable (5), the whole file.
    let size = heads + code.len() as u64;
    file.extend([1_u32, 5].map(u32::to_le_bytes).concat());
    file.extend([0, base, base, size, size, 4096].map(u64::to_le_bytes).concat());
    file.extend(code);
    file
}

/// The architecture of this machine as images name it, and another one.
pub fn architectures() -> (&'static str, &'static str) {
    if std::env::consts::ARCH == "aarch64" { ("arm64", "amd64") } else { ("amd64", "arm64") }
}
