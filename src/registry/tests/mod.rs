//! Claims about the registry, made on real directories with a real watcher. Every wait is for a condition.

mod writing;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{MAX_FILES, Registry, Settings, TemplateSummary, Templates};
use crate::domain::template::TemplateReference;
use crate::error::{Kind, Result};
use crate::lifecycle::Tasks;
use crate::telemetry::Metrics;

const DEADLINE: Duration = Duration::from_secs(20);

/// A templates directory inside a directory of its own.
struct Rig {
    root: TempDir,
    tasks: Tasks,
    metrics: Metrics,
}

impl Rig {
    fn new() -> Self {
        let rig = Self { root: tempfile::tempdir().unwrap(), tasks: Tasks::default(), metrics: Metrics::new().unwrap() };
        fs::create_dir(rig.dir()).unwrap();
        rig
    }

    fn dir(&self) -> PathBuf {
        self.root.path().join("templates")
    }

    fn write(&self, file: &str, text: impl AsRef<[u8]>) {
        fs::write(self.dir().join(file), text).unwrap();
    }

    async fn try_open(&self) -> Result<Arc<Registry>> {
        let settings = Settings { dir: self.dir(), debounce: Duration::from_millis(20) };
        Registry::open(settings, &self.tasks, &self.metrics).await
    }

    async fn open(&self) -> Arc<Registry> {
        self.try_open().await.unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.tasks.stopping().cancel();
    }
}

/// A flat template.
fn flat(name: &str, version: &str, image: &str) -> String {
    json!({"name": name, "version": version, "image": image}).to_string()
}

/// Waits until the templates are as claimed.
async fn until(registry: &Registry, claim: &str, holds: impl Fn(&Templates) -> bool) {
    let mut changes = registry.changes();
    let wait = changes.wait_for(|templates| holds(templates));
    let held = matches!(tokio::time::timeout(DEADLINE, wait).await, Ok(Ok(_)));
    assert!(held, "not in time: {claim}; there is {:?}", registry.list());
}

fn image(templates: &Templates, reference: &str) -> Option<String> {
    templates.get(reference).ok().and_then(|template| template.spec.image.clone())
}

fn summary(registry: &Registry, file: &str) -> TemplateSummary {
    registry.list().summaries().into_iter().find(|summary| summary.file == file).unwrap()
}

fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|file| file.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn files_that_come_change_and_go_are_followed() {
    let rig = Rig::new();
    rig.write("echo.json", flat("echo", "1", "echo:1"));
    let registry = rig.open().await;
    assert_eq!(image(&registry.list(), "echo").as_deref(), Some("echo:1"));

    rig.write("nginx.json", flat("nginx", "1", "nginx:1"));
    until(&registry, "an added file is read", |now| image(now, "nginx").is_some()).await;
    rig.write("echo.json", flat("echo", "1", "echo:2"));
    until(&registry, "a changed file is read", |now| image(now, "echo").as_deref() == Some("echo:2")).await;
    fs::rename(rig.dir().join("nginx.json"), rig.dir().join("web.json")).unwrap();
    until(&registry, "a renamed file is followed", |now| now.entries().iter().any(|entry| entry.file == "web.json")).await;
    assert_eq!(image(&registry.list(), "nginx").as_deref(), Some("nginx:1"));
    fs::remove_file(rig.dir().join("web.json")).unwrap();
    until(&registry, "a removed file is gone", |now| now.get("nginx").is_err()).await;
    assert_eq!(registry.list().usable().count(), 1);
}

#[tokio::test]
async fn an_editor_that_replaces_the_file_is_followed_time_after_time() {
    let rig = Rig::new();
    rig.write("echo.json", flat("echo", "1", "echo:0"));
    let registry = rig.open().await;
    for round in 1..=5 {
        let wanted = format!("echo:{round}");
        rig.write(".echo.json.swp", flat("echo", "1", &wanted));
        fs::rename(rig.dir().join(".echo.json.swp"), rig.dir().join("echo.json")).unwrap();
        until(&registry, &wanted, |now| image(now, "echo").as_deref() == Some(&wanted)).await;
    }
    assert_eq!(registry.list().entries().len(), 1);
}

#[tokio::test]
async fn a_change_of_the_same_size_within_the_same_instant_is_seen() {
    let rig = Rig::new();
    rig.write("echo.json", flat("echo", "1", "echo:0"));
    let registry = rig.open().await;
    for round in 1..=9 {
        rig.write("echo.json", flat("echo", "1", &format!("echo:{round}")));
    }
    until(&registry, "the last of the changes is seen", |now| image(now, "echo").as_deref() == Some("echo:9")).await;
}

#[tokio::test]
async fn a_broken_file_keeps_its_last_valid_template_and_says_what_is_wrong() {
    let rig = Rig::new();
    rig.write("echo.json", flat("echo", "1", "echo:1"));
    let registry = rig.open().await;
    let reference = registry.get("echo").unwrap().reference();

    rig.write("echo.json", "{\n  \"image\": \"echo:2\",\n  \"prot\": 80,\n  \"memory_limit\": \"x\"\n}\n");
    until(&registry, "the errors are shown", |now| now.entries()[0].errors.len() == 2).await;
    let shown = summary(&registry, "echo.json");
    assert!(shown.stale && shown.usable, "{shown:?}");
    let places: Vec<_> = shown.errors.iter().map(|error| (error.field.as_str(), error.line)).collect();
    assert_eq!(places, [("prot", Some(3)), ("memory_limit", Some(4))]);
    assert!(shown.errors.iter().all(|error| error.remedy.is_some()), "{shown:?}");
    assert_eq!(image(&registry.list(), "echo").as_deref(), Some("echo:1"));
    assert!(!registry.is_outdated(&reference), "nothing has changed for services as long as the file is broken");
    assert_eq!((rig.metrics.templates.get(), rig.metrics.template_errors.get()), (1, 1));

    rig.write("echo.json", "");
    until(&registry, "an empty file is an error too", |now| now.entries()[0].errors.len() == 1).await;
    assert!(summary(&registry, "echo.json").stale);
    rig.write("echo.json", flat("echo", "1", "echo:3"));
    until(&registry, "the corrected file is used", |now| image(now, "echo").as_deref() == Some("echo:3")).await;
    assert!(!summary(&registry, "echo.json").stale && registry.is_outdated(&reference));
    assert_eq!(rig.metrics.template_errors.get(), 0);
}

#[tokio::test]
async fn a_file_that_never_was_valid_is_listed_and_cannot_be_used() {
    let rig = Rig::new();
    rig.write("echo.json", r#"{"name": "echo", "version": "3", "prot": 80}"#);
    rig.write("junk.json", "{");
    let registry = rig.open().await;
    let broken = summary(&registry, "echo.json");
    assert!(!broken.usable && !broken.stale && !broken.default, "{broken:?}");
    assert_eq!((broken.name.as_str(), broken.version.as_deref()), ("echo", Some("3")));
    let error = registry.get("echo").unwrap_err();
    assert_eq!(error.kind, Kind::NotFound);
    assert!(error.detail.contains("echo.json") && error.fields == broken.errors, "{error}");
    assert_eq!(summary(&registry, "junk.json").name, "junk");
    assert_eq!((rig.metrics.templates.get(), rig.metrics.template_errors.get()), (0, 2));
}

#[tokio::test]
async fn versions_stand_side_by_side_and_the_newest_is_the_default() {
    let rig = Rig::new();
    for (file, version) in [("a.json", "1.9"), ("b.json", "1.10"), ("c.json", "1.10-rc1")] {
        rig.write(file, flat("echo", version, &format!("echo:{version}")));
    }
    let registry = rig.open().await;
    assert_eq!(image(&registry.list(), "echo").as_deref(), Some("echo:1.10"));
    assert_eq!(image(&registry.list(), "echo@1.9").as_deref(), Some("echo:1.9"));
    assert_eq!(registry.list().versions("echo").collect::<Vec<_>>(), ["1.10", "1.10-rc1", "1.9"]);
    let defaults: Vec<String> =
        registry.list().summaries().into_iter().filter(|summary| summary.default).map(|summary| summary.file).collect();
    assert_eq!(defaults, ["b.json"]);
    let old = registry.get("echo@1.9").unwrap().reference();
    assert!(registry.is_outdated(&old) && !registry.is_outdated(&registry.get("echo").unwrap().reference()));

    let error = registry.get("echo@2").unwrap_err();
    assert_eq!(error.kind, Kind::NotFound);
    assert!(error.remedy.unwrap().contains("1.10"), "the versions there are are named");
    assert!(registry.get("ecco").unwrap_err().remedy.unwrap().contains("echo"), "the nearest name is named");
}

#[tokio::test]
async fn of_two_files_with_one_version_the_first_by_name_wins_and_the_other_says_so() {
    let rig = Rig::new();
    rig.write("b.json", flat("echo", "1", "echo:b"));
    let registry = rig.open().await;
    rig.write("a.json", flat("echo", "1", "echo:a"));
    until(&registry, "the first by name is used", |now| image(now, "echo").as_deref() == Some("echo:a")).await;
    let errors = summary(&registry, "b.json").errors;
    assert!(errors[0].message.contains("a.json") && errors[0].remedy.as_ref().unwrap().contains("b.json"), "{errors:?}");
    fs::remove_file(rig.dir().join("a.json")).unwrap();
    until(&registry, "the other takes its place", |now| image(now, "echo").as_deref() == Some("echo:b")).await;
    assert!(summary(&registry, "b.json").errors.is_empty());
}

#[tokio::test]
async fn a_valid_file_wins_over_what_a_broken_one_once_said() {
    let rig = Rig::new();
    rig.write("a.json", flat("echo", "1", "echo:a"));
    let registry = rig.open().await;
    rig.write("a.json", "{");
    until(&registry, "a.json is stale", |now| now.entries()[0].stale).await;
    rig.write("b.json", flat("echo", "1", "echo:b"));
    until(&registry, "b.json is used", |now| image(now, "echo").as_deref() == Some("echo:b")).await;
    assert!(!summary(&registry, "a.json").usable);
}

#[tokio::test]
async fn a_directory_that_comes_goes_and_comes_back_is_followed() {
    let rig = Rig::new();
    fs::remove_dir(rig.dir()).unwrap();
    let registry = rig.open().await;
    let is_missed = |now: &Templates| {
        let entries = now.entries();
        entries.len() == 1 && entries[0].errors.iter().any(|error| error.message.contains("does not exist"))
    };
    assert!(is_missed(&registry.list()), "{:?}", registry.list());
    fs::create_dir(rig.dir()).unwrap();
    rig.write("echo.json", flat("echo", "1", "echo:1"));
    until(&registry, "a directory that appears is read", |now| image(now, "echo").is_some()).await;

    fs::rename(rig.dir(), rig.root.path().join("away")).unwrap();
    until(&registry, "a directory that vanishes takes its templates along, and is missed", is_missed).await;
    fs::create_dir(rig.dir()).unwrap();
    rig.write("echo.json", flat("echo", "1", "echo:2"));
    until(&registry, "another directory in its place is read", |now| image(now, "echo").as_deref() == Some("echo:2")).await;
    rig.write("echo.json", flat("echo", "1", "echo:3"));
    until(&registry, "and watched", |now| image(now, "echo").as_deref() == Some("echo:3")).await;
}

#[tokio::test]
async fn services_are_compared_with_what_a_directory_held_that_is_gone_and_with_nothing_where_it_never_was() {
    let rig = Rig::new();
    rig.write("echo.json", flat("echo", "2", "echo:2"));
    rig.write("other.json", flat("other", "1", "other:1"));
    let registry = rig.open().await;
    let (now, other) = (registry.get("echo").unwrap().reference(), registry.get("other").unwrap().reference());
    let older = TemplateReference { version: "1".to_owned(), ..now.clone() };
    let flags = |registry: &Registry| [&now, &older, &other].map(|reference| registry.is_outdated(reference));
    fs::remove_file(rig.dir().join("other.json")).unwrap();
    until(&registry, "a file is gone from a directory that is there", |now| now.get("other").is_err()).await;
    assert_eq!(flags(&registry), [false, true, true]);

    let away = rig.root.path().join("away");
    fs::rename(rig.dir(), &away).unwrap();
    until(&registry, "the directory is gone", |now| now.get("echo").is_err()).await;
    assert_eq!(flags(&registry), [false, true, true], "nothing is known to have changed");
    let late = rig.open().await;
    assert_eq!(flags(&late), [false; 3], "it has never been there for this one");
    fs::write(away.join("echo.json"), flat("echo", "2", "echo:3")).unwrap();
    fs::rename(&away, rig.dir()).unwrap();
    for registry in [&registry, &late] {
        until(registry, "the directory is back, with a change", |now| now.get("echo").is_ok()).await;
        assert_eq!(flags(registry), [true; 3]);
    }
}

#[tokio::test]
async fn links_swapped_as_kubernetes_does_are_followed() {
    let rig = Rig::new();
    for (folder, tag) in [("..1", "echo:1"), ("..2", "echo:2")] {
        fs::create_dir(rig.dir().join(folder)).unwrap();
        rig.write(&format!("{folder}/echo.json"), flat("echo", "1", tag));
    }
    symlink("..1", rig.dir().join("..data")).unwrap();
    symlink("..data/echo.json", rig.dir().join("echo.json")).unwrap();
    let registry = rig.open().await;
    assert_eq!(image(&registry.list(), "echo").as_deref(), Some("echo:1"));
    symlink("..2", rig.dir().join("..data_tmp")).unwrap();
    fs::rename(rig.dir().join("..data_tmp"), rig.dir().join("..data")).unwrap();
    until(&registry, "the new data is read", |now| image(now, "echo").as_deref() == Some("echo:2")).await;
}

#[tokio::test]
async fn a_broken_file_that_is_renamed_or_comes_back_keeps_its_last_valid_template() {
    let rig = Rig::new();
    rig.write("echo.json", flat("echo", "1", "echo:1"));
    let registry = rig.open().await;
    let in_use = |file: &str| {
        let file = file.to_owned();
        move |now: &Templates| {
            let stale = |entry: &crate::registry::Entry| entry.file == file && entry.stale;
            now.entries().iter().any(stale) && image(now, "echo").as_deref() == Some("echo:1")
        }
    };
    // Its name is not to be read from it, so it is known by what the directory says.
    rig.write("echo.json", "{");
    until(&registry, "it is broken", in_use("echo.json")).await;
    fs::rename(rig.dir().join("echo.json"), rig.dir().join("other.json")).unwrap();
    until(&registry, "it has another name", |now| {
        assert_eq!(image(now, "echo").as_deref(), Some("echo:1"), "it is there all the time: {now:?}");
        in_use("other.json")(now)
    })
    .await;

    fs::rename(rig.dir(), rig.root.path().join("away")).unwrap();
    until(&registry, "the directory is gone", |now| image(now, "echo").is_none()).await;
    fs::rename(rig.root.path().join("away"), rig.dir()).unwrap();
    until(&registry, "the directory is back", in_use("other.json")).await;

    fs::remove_file(rig.dir().join("other.json")).unwrap();
    until(&registry, "the file is gone", |now| image(now, "echo").is_none()).await;
    rig.write("third.json", flat("echo", "1", "echo:1").replace("\"image\"", "\"imagine\""));
    until(&registry, "a new one says that it is the same template, and is broken", in_use("third.json")).await;
}

#[tokio::test]
async fn a_path_that_is_turned_to_another_directory_is_followed_and_watched_there() {
    let rig = Rig::new();
    let (old, new) = (rig.root.path().join("old"), rig.root.path().join("new"));
    fs::rename(rig.dir(), &old).unwrap();
    symlink(&old, rig.dir()).unwrap();
    rig.write("echo.json", flat("echo", "1", "echo:1"));
    let registry = rig.open().await;
    fs::create_dir(&new).unwrap();
    fs::write(new.join("echo.json"), flat("echo", "1", "echo:2")).unwrap();
    symlink(&new, rig.root.path().join("next")).unwrap();
    fs::rename(rig.root.path().join("next"), rig.dir()).unwrap();
    until(&registry, "the other directory is read", |now| image(now, "echo").as_deref() == Some("echo:2")).await;
    rig.write("echo.json", flat("echo", "1", "echo:3"));
    until(&registry, "and watched", |now| image(now, "echo").as_deref() == Some("echo:3")).await;
}

#[tokio::test]
async fn a_burst_of_changes_ends_in_the_right_state() {
    let rig = Rig::new();
    let registry = rig.open().await;
    for round in 0..4 {
        for number in 0..100 {
            rig.write(&format!("t{number}.json"), flat(&format!("t{number}"), "1", &format!("i:{round}")));
        }
    }
    for number in 50..100 {
        fs::remove_file(rig.dir().join(format!("t{number}.json"))).unwrap();
    }
    let all = |now: &Templates| {
        now.usable().count() == 50 && now.usable().all(|template| template.spec.image.as_deref() == Some("i:3"))
    };
    until(&registry, "all 50 in their last state", all).await;
}

#[tokio::test]
async fn what_is_no_template_file_is_left_alone() {
    let rig = Rig::new();
    for file in ["template.schema.json", ".hidden.json", "README.md", "echo.json~", "x.JSON"] {
        rig.write(file, "not a template");
    }
    fs::create_dir(rig.dir().join("folder.json")).unwrap();
    rig.write("folder.json/inner.json", flat("inner", "1", "i"));
    let registry = rig.open().await;
    assert!(registry.list().entries().is_empty(), "{:?}", registry.list());
}

#[tokio::test]
async fn hostile_files_are_errors_and_hold_nobody_up() {
    let rig = Rig::new();
    fs::write(rig.root.path().join("secret.json"), flat("secret", "1", "i")).unwrap();
    symlink("../secret.json", rig.dir().join("link.json")).unwrap();
    symlink("nowhere.json", rig.dir().join("dangling.json")).unwrap();
    symlink("loop.json", rig.dir().join("loop.json")).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, rig.dir().join("pipe.json"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    rig.write("large.json", vec![b' '; 1_048_577]);
    rig.write("latin.json", b"{\"name\": \"caf\xe9\"}");
    rig.write("deep.json", "[".repeat(1_000_000));
    rig.write("good.json", flat("good", "1", "i"));
    let registry = tokio::time::timeout(DEADLINE, rig.open()).await.unwrap();
    let said = |file: &str| summary(&registry, file).errors.iter().map(ToString::to_string).collect::<String>();
    assert!(said("link.json").contains("leads out"), "{}", said("link.json"));
    for file in ["dangling.json", "loop.json", "pipe.json", "large.json", "latin.json", "deep.json"] {
        assert!(!said(file).is_empty() && !summary(&registry, file).usable, "{file}");
    }
    assert!(said("large.json").contains("1 MiB"));
    assert!(registry.get("good").is_ok() && registry.get("secret").is_err());
}

#[tokio::test]
async fn too_many_files_are_said_to_be_left_out() {
    let rig = Rig::new();
    for number in 0..MAX_FILES + 2 {
        rig.write(&format!("t{number:05}.json"), flat(&format!("t{number:05}"), "1", "i"));
    }
    let registry = rig.open().await;
    assert_eq!(registry.list().usable().count(), MAX_FILES);
    let entries = registry.list();
    let errors: Vec<String> = entries.entries().iter().flat_map(|entry| &entry.errors).map(ToString::to_string).collect();
    assert!(errors.len() == 1 && errors[0].starts_with("2 files are left out"), "{errors:?}");
}

#[tokio::test]
async fn a_path_that_cannot_be_listed_is_a_clear_error_at_the_start() {
    let rig = Rig::new();
    fs::remove_dir(rig.dir()).unwrap();
    fs::write(rig.dir(), "a file").unwrap();
    let error = rig.try_open().await.unwrap_err();
    assert!(error.detail.contains("templates") && error.remedy.is_some(), "{error}");
}

#[tokio::test]
async fn an_unreadable_directory_leaves_the_templates_as_they_were() {
    let rig = Rig::new();
    rig.write("echo.json", flat("echo", "1", "echo:1"));
    let registry = rig.open().await;
    // A file in the directory's place is an error that root meets as well.
    fs::rename(rig.dir(), rig.root.path().join("away")).unwrap();
    fs::write(rig.dir(), "").unwrap();
    let failures = || rig.metrics.template_reloads.with_label_values(&["failed"]).get();
    let noticed = async {
        while failures() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, noticed).await.expect("the failure is counted");
    assert_eq!(image(&registry.list(), "echo").as_deref(), Some("echo:1"));
    fs::remove_file(rig.dir()).unwrap();
    fs::rename(rig.root.path().join("away"), rig.dir()).unwrap();
    rig.write("echo.json", flat("echo", "1", "echo:2"));
    until(&registry, "the directory is followed again", |now| image(now, "echo").as_deref() == Some("echo:2")).await;
}
