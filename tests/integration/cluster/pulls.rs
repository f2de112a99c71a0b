//! Images that come slowly, or are not made for the node, from a registry of the test's own on the node's loopback.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mcp_manager::domain::spec::{HealthCheck, Probe, PullPolicy, ServiceSpec};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::registries::{answering, port};
use super::{Kind, told};
use crate::contract::spec;
use crate::support::kubernetes::Namespace;
use crate::support::product::{Options, Product};
use crate::support::registry::{architectures, layer_of, program};

const SHELF: Kind = ("", "v1", "ConfigMap", "configmaps");
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Seconds that a slow image takes, and that its service has to start.
const SLOW: u32 = 15;
const BUDGET: u32 = 10;

/// What a registry has: what the tag stands for, and files by the hexadecimal digits of their digests.
struct Image {
    tag: Value,
    media_type: &'static str,
    files: BTreeMap<String, Vec<u8>>,
}

impl Image {
    /// One layer with this program, which no node has yet.
    fn new(beside: &Namespace, program: &[u8], architecture: &str) -> Self {
        let layer = layer_of(program, beside.name.as_bytes());
        let digest = digest(&layer);
        let config = json!({"architecture": architecture, "os": "linux", "config": {"Entrypoint": ["/wait"]},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]}});
        let config = config.to_string().into_bytes();
        let part = |media_type: &str, bytes: &[u8]| {
            let digest = format!("sha256:{}", self::digest(bytes));
            json!({"mediaType": format!("application/vnd.oci.image.{media_type}"), "digest": digest, "size": bytes.len()})
        };
        let tag = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": part("config.v1+json", &config),
            "layers": [part("layer.v1.tar", &layer)]});
        let files = [(self::digest(&config), config), (digest, layer)].into();
        Self { tag, media_type: MANIFEST, files }
    }

    /// The same in a list of images, as that for this architecture.
    fn listed(mut self, architecture: &str) -> Self {
        let manifest = self.tag.to_string().into_bytes();
        let platform = json!({"architecture": architecture, "os": "linux"});
        let digest = digest(&manifest);
        let entry =
            json!({"mediaType": MANIFEST, "digest": format!("sha256:{digest}"), "size": manifest.len(), "platform": platform});
        self.tag = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
        self.media_type = INDEX;
        self.files.insert(digest, manifest);
        self
    }

    /// Has a registry give it, which takes `delay` seconds for each blob; how nodes name it.
    async fn served(mut self, beside: &Namespace, port: u32, delay: u32) -> String {
        let tag = self.tag.to_string().into_bytes();
        let whole = digest(&tag);
        self.files.insert(whole.clone(), tag);
        let data: BTreeMap<_, _> = self.files.iter().map(|(name, bytes)| (name, STANDARD.encode(bytes))).collect();
        let files = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shelf"}, "binaryData": data});
        beside.create(SHELF, files).await;
        let media_type = self.media_type;
        let script = format!(
            r"read -r method path rest
            while IFS= read -r line; do [ ${{#line}} -le 1 ] && break; done
            type={MANIFEST} delay=0
            case $path in
                */manifests/sha256:*) name=${{path##*sha256:}} ;;
                */manifests/*) name={whole} ;;
                */blobs/sha256:*) name=${{path##*sha256:}} type=application/octet-stream delay={delay} ;;
                *) printf 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'; exit ;;
            esac
            [ $name = {whole} ] && type={media_type}
            file=/shelf/$name
            if ! [ -e $file ]; then printf 'HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'; exit; fi
            printf 'HTTP/1.1 200 OK\r\nContent-Type: %s\r\nDocker-Content-Digest: sha256:%s\r\n' $type $name
            printf 'Content-Length: %s\r\nConnection: close\r\n\r\n' $(/busybox stat -L -c %s $file)
            if [ $method != HEAD ]; then /busybox sleep $delay; /busybox cat $file; fi"
        );
        answering(beside, port, &script, &["shelf"]).await;
        format!("127.0.0.1:{port}/{}/image:1", beside.name)
    }
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_to_start_begins_when_the_node_has_the_image() {
    let (Some(beside), Some(namespace)) = (Namespace::open().await, Namespace::new().await) else { return };
    let image = Image::new(&beside, &program(), architectures().0).served(&beside, port() + 6, SLOW).await;
    let product = Product::start(Options::kubernetes(&namespace)).await;
    let body = json!({"service_name": "pulled", "image": image, "pull_policy": "missing",
        "start_timeout": format!("{BUDGET}s"), "stop_timeout": "1s"});
    let begun = std::time::Instant::now();
    let pulling = product.until("pulled", "it is pulled", |service| service["status"] == "pulling");
    let ((status, service), pulling) = tokio::join!(product.post("/containers", &body), pulling);
    let message = pulling["progress"]["message"].as_str().unwrap_or_default();
    assert!(message.contains(&image) && message.contains("node "), "{pulling:#}");
    // Two blobs, one after the other or both at once.
    assert!(begun.elapsed().as_secs() >= u64::from(SLOW), "it was no slow pull: {:?}", begun.elapsed());
    assert_eq!((status, &service["status"]), (201, &json!("running")), "{service:#}\n{}", product.log());
    assert!(service["progress"].is_null(), "{service:#}");
    product.finish().await;
}

/// A service of this image, which asks for nothing.
fn of(image: String, namespace: &Namespace) -> ServiceSpec {
    let health_check = HealthCheck { probe: Probe::Process, ..HealthCheck::default() };
    ServiceSpec { image, pull_policy: PullPolicy::Missing, port: None, health_check, ..spec(namespace) }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_for_other_machines_is_named() {
    let elsewhere = architectures().1;
    let (Some(beside), Some(namespace)) = (Namespace::open().await, Namespace::new().await) else { return };
    // One that is in no list a node takes as it is, and only its program does not run.
    let image = Image::new(&beside, &program(), elsewhere).listed(elsewhere).served(&beside, port() + 7, 0).await;
    let reason = told(&namespace, of(image, &namespace), "image_architecture", &["not made for the node"]).await;
    assert!(reason.permanent, "{reason:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_for_other_machines_is_named() {
    let (Some(beside), Some(namespace)) = (Namespace::open().await, Namespace::new().await) else { return };
    let mut foreign = program();
    // Of a machine that nobody has.
    foreign[18..20].copy_from_slice(&[0xff, 0x7f]);
    let image = Image::new(&beside, &foreign, architectures().0).served(&beside, port() + 9, 0).await;
    let echo = of(image, &namespace);
    let reason = told(&namespace, echo, "cannot_run", &["exec format error", "architecture"]).await;
    assert!(reason.permanent, "{reason:?}");
}
