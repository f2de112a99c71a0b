//! Making images, and what is known of images that are there.
//!
//! An image is made by a script in a container that is as locked as those of services, and of which an image is then made.
//! The engine's own builds were the other way: their containers have more rights, are nobody's when the manager dies, and
//! look like those of other people's builds. This container ends and goes by itself, whoever is left ([`said::WAITS`] after
//! its script), and its name keeps two makers of one image apart.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::abilities::Abilities;
use super::client::EngineError;
use super::container::default_id_map;
use super::frames::Decoder;
use super::images::OnProgress;
use super::settings::Settings;
use super::shared::Shared;
use super::{client::Engine, errors};
use crate::backend::{Build, Built, ImageDetail, ImageInfo};
use crate::domain::package::lock::Lock;
use crate::domain::package::recipe::LOCK_LABEL;
use crate::domain::package::said::{self, Said, said};
use crate::domain::status::{Progress, Stream};
use crate::error::{Error, Kind, Result};

/// More of a script's output is not kept, in lines and in bytes, and a longer line is cut.
const MAX_LINES: usize = 5_000;
const MAX_KEPT: usize = 4 << 20;
const MAX_LINE: usize = 512 << 10;

/// Whoever waits for another maker looks this often, and takes a container that does not run for left behind after so many
/// looks.
const LOOK: Duration = Duration::from_millis(250);
const LOOKS: u32 = 40;

/// What a script may use.
const MEMORY: u64 = 4 << 30;
const PROCESSES: u64 = 2_048;
const TEMPORARY: &str = "size=2g";

/// What is read of the engine's description of an image.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Image {
    id: String,
    repo_tags: Option<Vec<String>>,
    size: u64,
    labels: Option<BTreeMap<String, String>>,
    config: Config,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Config {
    exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
}

/// What is known of an image; nothing when it is not at hand.
pub(super) async fn look(engine: &Engine, reference: &str) -> Result<Option<ImageDetail>> {
    let image = engine.image::<Image>(reference).await.map_err(|error| errors::engine(error, "look at the image"))?;
    Ok(image.map(|image| {
        let port = |text: &String| text.strip_suffix("/tcp").unwrap_or(text).parse().ok();
        ImageDetail {
            info: ImageInfo { id: image.id, names: image.repo_tags.unwrap_or_default(), size_bytes: image.size },
            labels: image.labels.unwrap_or_default(),
            ports: image.config.exposed_ports.unwrap_or_default().keys().filter_map(port).collect(),
        }
    }))
}

/// Makes an image of the base image that the engine knows by the reference `base`.
pub(super) async fn build(shared: &Arc<Shared>, build: Build, base: String, progress: OnProgress) -> Result<Built> {
    let given_up = CancellationToken::new();
    let _guard = given_up.clone().drop_guard();
    let work = make(shared.clone(), build, base, progress, given_up);
    // A task of its own, because what it made has to be removed also when nobody waits for it any more.
    shared.do_whole("build of an image", work).await.unwrap_or_else(|| Err(cancelled()))
}

fn cancelled() -> Error {
    Error::called_off("the image is not made: it was given up")
}

async fn make(
    shared: Arc<Shared>,
    build: Build,
    base: String,
    progress: OnProgress,
    given_up: CancellationToken,
) -> Result<Built> {
    let engine = &shared.engine;
    let name = shared.names.build(&build.image);
    let timeout = shared.settings.build_timeout;
    let deadline = Instant::now() + timeout;
    let late = || {
        let detail = format!("the image {} was not made within {} seconds", build.image, timeout.as_secs());
        Error::new(Kind::Timeout, detail).remedy("try again, or raise the setting packages.build_timeout")
    };
    let request = request(&build, &name, &base, &shared.settings, &shared.abilities());
    let container = loop {
        match engine.create(&request).await {
            Ok(created) => break created.id,
            Err(error) if error.says("already in use") => {}
            Err(error) => return Err(refused(error, &shared.settings)),
        }
        progress(Progress { message: "waiting for another maker of this image".to_owned(), done: 0, total: Some(build.steps) });
        tokio::select! {
            waited = tokio::time::timeout_at(deadline.into(), other(engine, &name)) => waited.map_err(|_| late())??,
            () = given_up.cancelled() => return Err(cancelled()),
        }
        if !build.refresh && look(engine, &build.image).await?.is_some() {
            return Ok(Built::Made);
        }
    };
    let before = look(engine, &build.image).await?.map(|image| image.info.id);
    let outcome = tokio::select! {
        outcome = tokio::time::timeout_at(deadline.into(), fill(&shared, &container, &build, &progress)) => {
            outcome.unwrap_or_else(|_| Err(late()))
        }
        () = given_up.cancelled() => Err(cancelled()),
    };
    if let Err(error) = engine.remove(&container, Duration::ZERO).await {
        tracing::warn!(container = name, %error, "the container in which an image was made is still there; it goes by itself");
    }
    if let (Ok(Built::Made), Some(before)) = (&outcome, before) {
        // Where services still run from it, it stays.
        if let Err(error) = engine.remove_image(&before).await {
            tracing::debug!(image = before, %error, "the image that was replaced stays");
        }
    }
    outcome
}

/// Waits until the container of another maker is gone; one that was left behind is removed.
async fn other(engine: &Engine, name: &str) -> Result<()> {
    let mut looks = 0;
    loop {
        match engine.inspect::<Value>(name).await {
            Ok(container) if container["State"]["Running"] == true => looks = 0,
            Ok(_) => looks += 1,
            // One that is going at this moment is half there, and the engine says so in another way.
            Err(error) if error.is_missing() || error.says("no such container") => return Ok(()),
            Err(error) => return Err(errors::engine(error, "look at the other maker of the image")),
        }
        if looks >= LOOKS {
            let removed = engine.remove(name, Duration::ZERO).await;
            return removed.map_err(|error| errors::engine(error, "remove what another maker of the image left"));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Runs the script to its end, and makes the image.
async fn fill(shared: &Shared, container: &str, build: &Build, progress: &OnProgress) -> Result<Built> {
    let engine = &shared.engine;
    shared.ready_name_server().await.map_err(|error| refused(error, &shared.settings))?;
    engine.start(container).await.map_err(|error| refused(error, &shared.settings))?;
    let query = [("follow", "true"), ("stdout", "true"), ("stderr", "true")].map(|(name, value)| (name, value.to_owned()));
    let mut stream = engine.logs(container, &query);
    let mut output = Output::new(build, progress);
    let mut decoder = Decoder::default();
    let code = 'script: loop {
        let Some(chunk) = stream.next().await else { break -1 };
        decoder.feed(&chunk.map_err(|error| errors::engine(error, "hear what the build says"))?);
        let damaged = |error| Error::internal("the build's output cannot be read", error);
        while let Some((from, data)) = decoder.next().map_err(damaged)? {
            if let Some(code) = output.hear(from, &data) {
                break 'script code;
            }
        }
    };
    let labels = match (code, output.lock) {
        (0, Some(lock)) => labels(build, &lock),
        (0, None) if !build.says_lock => build.labels.clone(),
        (code, _) => return Ok(Built::Failed(code, output.lines.into())),
    };
    (output.progress)(Progress { message: "writing the image".to_owned(), ..output.step.clone() });
    let committed = engine.commit(container, &build.image, &changes(build, &labels, &shared.abilities())).await;
    committed.map_err(|error| errors::engine(error, "write the image"))?;
    Ok(Built::Made)
}

/// The image's labels: what the build wants, and which versions were installed.
fn labels(build: &Build, lock: &Lock) -> BTreeMap<String, String> {
    let mut labels = build.labels.clone();
    labels.insert(LOCK_LABEL.to_owned(), json!(lock).to_string());
    labels
}

/// What a script has said.
struct Output<'b> {
    build: &'b Build,
    progress: &'b OnProgress,
    step: Progress,
    lock: Option<Lock>,
    /// The last lines, and how long they are together.
    lines: VecDeque<String>,
    kept: usize,
    /// Lines that have not ended, of standard output and of standard error.
    begun: [Vec<u8>; 2],
}

impl<'b> Output<'b> {
    fn new(build: &'b Build, progress: &'b OnProgress) -> Self {
        let begun = [Vec::new(), Vec::new()];
        Self { build, progress, step: Progress::default(), lock: None, lines: VecDeque::new(), kept: 0, begun }
    }

    /// Takes some of a stream; the script's code when its end was in it.
    fn hear(&mut self, from: Stream, data: &[u8]) -> Option<i64> {
        let stream = usize::from(from != Stream::Stdout);
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            let begun = &mut self.begun[stream];
            let room = MAX_LINE - begun.len();
            begun.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(begun);
                if let Some(code) = self.take(from, &String::from_utf8_lossy(&line)) {
                    return Some(code);
                }
            }
        }
        None
    }

    /// Takes a line; the script's code when it was the last. On standard error are the words of its commands, whatever they
    /// look like.
    fn take(&mut self, from: Stream, line: &str) -> Option<i64> {
        let heard = if from == Stream::Stdout { said(line) } else { Said::Words(line.trim_end()) };
        match heard {
            Said::Step(what) => {
                self.step = Progress { message: what.to_owned(), done: self.step.done + 1, total: Some(self.build.steps) };
                (self.progress)(self.step.clone());
            }
            Said::Lock(lock) => self.lock = Some(lock),
            Said::End(code) => return Some(code),
            Said::Words("") => {}
            Said::Words(words) => {
                let message = format!("{}: {}", self.step.message, words.chars().take(100).collect::<String>());
                (self.progress)(Progress { message, ..self.step.clone() });
                self.kept += words.len();
                self.lines.push_back(words.to_owned());
                while self.lines.len() > MAX_LINES || self.kept > MAX_KEPT {
                    let Some(first) = self.lines.pop_front() else { break };
                    self.kept -= first.len();
                }
            }
        }
        None
    }
}

/// The request for the container in which the image is made. It has the locks of a service's, but that it can be written to.
fn request(build: &Build, name: &str, base: &str, settings: &Settings, abilities: &Abilities) -> Value {
    let temporary = json!({"type": "tmpfs", "source": "tmpfs", "destination": "/tmp",
        "options": ["rw", TEMPORARY, "mode=1777", "nosuid", "nodev"]});
    let mut request = json!({
        "name": name,
        "image": base,
        "entrypoint": ["/bin/sh", "-c", said::whole(&build.script)],
        "command": [],
        "env": build.environment,
        "httpproxy": false,
        "user": "0:0",
        "work_dir": "/",
        "cap_drop": ["all"],
        "cap_add": build.capabilities,
        "no_new_privileges": true,
        "mounts": [temporary],
        "restart_policy": "no",
        // It goes by itself, whatever becomes of the manager and the engine's service.
        "remove": true,
        "timeout": settings.build_timeout.as_secs() + said::WAITS,
        "log_configuration": {"driver": "k8s-file", "size": 64 << 20},
    });
    let mut put = |name: &str, value: Value| request[name] = value;
    if abilities.rootless {
        put("userns", json!({"nsmode": "private"}));
        let ids = default_id_map();
        put("idmappings", json!({"HostUIDMapping": false, "HostGIDMapping": false, "UIDMap": ids, "GIDMap": ids}));
    }
    match settings.build_network.as_deref() {
        None => {}
        Some(mode @ ("host" | "none" | "slirp4netns" | "pasta" | "private")) => put("netns", json!({"nsmode": mode})),
        Some(network) => {
            put("netns", json!({"nsmode": "bridge"}));
            put("networks", json!({network: {}}));
        }
    }
    let mut limits = serde_json::Map::new();
    if abilities.enforces_pids() {
        limits.insert("pids".to_owned(), json!({"limit": PROCESSES}));
    }
    if abilities.enforces_memory() {
        limits.insert("memory".to_owned(), json!({"limit": MEMORY, "swap": MEMORY}));
    }
    if !limits.is_empty() {
        put("resource_limits", Value::Object(limits));
    }
    request
}

/// What the image says of itself, as a Containerfile would.
fn changes(build: &Build, labels: &BTreeMap<String, String>, abilities: &Abilities) -> Vec<String> {
    let fixed = [
        format!("ENTRYPOINT {}", json!(build.entrypoint)),
        format!("USER {}", build.user),
        format!("WORKDIR {}", build.directory),
    ];
    let command = (!build.command.is_empty()).then(|| format!("CMD {}", json!(build.command)));
    let label = |(name, value): (&String, &String)| {
        if abilities.reads_changes_as_words() {
            let escaped = value.replace('\\', r"\\").replace('"', r#"\""#).replace('$', r"\$");
            format!("LABEL {name}=\"{escaped}\"")
        } else {
            // The engine takes all that follows the first `=` as it is.
            format!("LABEL {name}={value}")
        }
    };
    fixed.into_iter().chain(command).chain(labels.iter().map(label)).collect()
}

/// The container could not be made or started.
fn refused(error: EngineError, settings: &Settings) -> Error {
    if error.says("network not found") {
        let message = format!("there is no network '{}'", settings.build_network.as_deref().unwrap_or_default());
        return Error::invalid_field("packages.build_network", message, "create it, name another, or leave the setting out");
    }
    errors::engine(error, "make the image")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build() -> Build {
        Build {
            image: "localhost/x/y:0123".into(),
            base: "b".into(),
            script: "true\n".into(),
            steps: 2,
            capabilities: Vec::new(),
            environment: BTreeMap::new(),
            entrypoint: vec!["/run me".into()],
            command: Vec::new(),
            says_lock: true,
            user: "1:1".into(),
            directory: "/opt".into(),
            labels: BTreeMap::from([("a".into(), "{\"b\":\"c = d\"}".into())]),
            refresh: false,
        }
    }

    fn settings(network: Option<&str>) -> Settings {
        let settings = Settings::new("/nonexistent".into());
        Settings { build_network: network.map(str::to_owned), build_timeout: Duration::from_mins(1), ..settings }
    }

    #[test]
    fn a_script_has_no_rights_and_goes_by_itself() {
        let request =
            request(&build(), "mcp.build.0123", "b", &settings(None), &Abilities { rootless: true, ..Abilities::default() });
        assert_eq!((&request["cap_drop"], &request["cap_add"]), (&json!(["all"]), &json!([])));
        assert_eq!((&request["no_new_privileges"], &request["remove"]), (&json!(true), &json!(true)));
        assert_eq!(request["idmappings"]["UIDMap"][0]["host_id"], 1, "root inside is not the user outside");
        assert_eq!(request["timeout"], 60 + said::WAITS);
        assert_eq!(request.get("netns"), None);
    }

    #[test]
    fn networks_are_modes_or_names() {
        let of = |network: &str| request(&build(), "n", "b", &settings(Some(network)), &Abilities::default());
        assert_eq!(of("host")["netns"], json!({"nsmode": "host"}));
        assert_eq!(of("mine")["networks"], json!({"mine": {}}));
    }

    #[test]
    fn the_image_says_what_it_is() {
        let of = |version: &str| {
            let abilities = Abilities { version: version.to_owned(), ..Abilities::default() };
            changes(&build(), &build().labels, &abilities)
        };
        let common = ["ENTRYPOINT [\"/run me\"]", "USER 1:1", "WORKDIR /opt"].map(str::to_owned).to_vec();
        assert_eq!(of("4.3.1"), [&common[..], &[r#"LABEL a={"b":"c = d"}"#.to_owned()]].concat());
        assert_eq!(of("5.4.2"), [&common[..], &[r#"LABEL a="{\"b\":\"c = d\"}""#.to_owned()]].concat());
    }

    /// What an output makes of a script that says this, and the progress that it told.
    fn heard<T>(work: impl FnOnce(&mut Output<'_>) -> T) -> (T, Vec<(u64, String)>) {
        let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
        let into = heard.clone();
        let progress: OnProgress =
            Arc::new(move |progress: Progress| into.lock().unwrap().push((progress.done, progress.message)));
        let done = work(&mut Output::new(&build(), &progress));
        let heard = heard.lock().unwrap().clone();
        (done, heard)
    }

    #[test]
    fn what_a_script_says_becomes_progress_labels_and_its_end() {
        let ((), told) = heard(|output| {
            assert_eq!(output.hear(Stream::Stdout, b"mcp-manager-step one\nmcp-mana"), None);
            assert_eq!(output.hear(Stream::Stderr, b"added 3 packages\n"), None);
            assert_eq!(output.hear(Stream::Stdout, b"ger-lock {\"a\":\"1\"}\n"), None);
            assert_eq!(output.hear(Stream::Stdout, b"mcp-manager-end 7\nmore\n"), Some(7));
            assert_eq!(output.lines, ["added 3 packages"]);
            let labels = labels(output.build, output.lock.as_ref().unwrap());
            assert_eq!(labels[LOCK_LABEL], "{\"a\":\"1\"}");
            assert_eq!(labels.len(), 1 + build().labels.len());
        });
        assert_eq!(told, [(1, "one".to_owned()), (1, "one: added 3 packages".to_owned())]);
    }

    #[test]
    fn what_commands_say_is_neither_a_step_nor_a_label_nor_the_end() {
        heard(|output| {
            let lines = "mcp-manager-step x\nmcp-manager-lock {}\nmcp-manager-end 0\n";
            assert_eq!(output.hear(Stream::Stderr, lines.as_bytes()), None);
            // What is no lock is none on standard output either.
            assert_eq!(output.hear(Stream::Stdout, b"mcp-manager-lock {\"a b\":\"1\"}\nmcp-manager-label x=y\n"), None);
            assert_eq!((&output.lock, output.step.done, output.lines.len()), (&None, 0, 5));
        });
    }

    #[test]
    fn a_script_that_says_too_much_is_heard_to_its_end_and_not_kept() {
        heard(|output| {
            let long = vec![b'x'; MAX_LINE];
            for _ in 0..20 {
                assert_eq!(output.hear(Stream::Stdout, &long), None);
            }
            assert_eq!(output.begun[0].len(), MAX_LINE);
            for _ in 0..20 {
                output.hear(Stream::Stderr, &[&long[1..], b"\n"].concat());
            }
            assert!(output.lines.len() < 20 && output.kept <= MAX_KEPT, "{} bytes", output.kept);
            for _ in 0..2 * MAX_LINES {
                output.hear(Stream::Stderr, b"a\n");
            }
            assert_eq!((output.lines.len(), output.kept), (MAX_LINES, MAX_LINES));
            assert_eq!(output.hear(Stream::Stdout, b"\nmcp-manager-end 0\n"), Some(0));
        });
    }
}
