//! Templates from files: one directory of `*.json`, read at the start and whenever it changes.
//!
//! Readers get an immutable [`Templates`] and ask nobody. A file that stops being valid keeps its last valid template,
//! marked stale, with its errors beside it. What a template means is [`crate::domain::template`]'s business, and
//! running services are never touched from here.

mod answers;
mod scan;
mod store;
mod templates;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch as channel;

use crate::domain::template::{Template, TemplateReference};
use crate::error::{Error, FieldError, Kind, Result};
use crate::lifecycle::Tasks;
use crate::telemetry::Metrics;

pub use answers::{TemplateDetail, TemplateSummary};
pub use scan::{MAX_FILE_SIZE, MAX_FILES, given_already};
pub use templates::{Entry, Templates};

use scan::Scanner;

/// Where templates come from.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The directory; its `*.json` files are read, its subdirectories are not.
    pub dir: PathBuf,
    /// Changes that follow each other within this time are read together.
    pub debounce: Duration,
}

/// Names of the files that would be read in a templates directory.
pub fn files_in(dir: &Path) -> std::io::Result<BTreeSet<String>> {
    scan::candidates(dir)
}

/// What is in a file of a templates directory, as much of it as tells whether it is too large; why it would not be read
/// otherwise.
pub fn read_in(dir: &Path, name: &str) -> Result<Vec<u8>, FieldError> {
    scan::read_in(dir, name)
}

/// What a file of that name and content would give in a templates directory; all that is wrong with it otherwise.
pub fn check_file(content: &[u8], file_name: &str) -> Result<Template, Vec<FieldError>> {
    scan::parse(content, file_name).map_err(|broken| broken.errors)
}

/// The templates of one directory, kept up to date.
#[derive(Debug)]
pub struct Registry {
    settings: Settings,
    metrics: Metrics,
    scanner: Mutex<Scanner>,
    current: channel::Sender<Arc<Templates>>,
}

impl Registry {
    /// Reads the directory and follows its changes from then on, until `tasks` stop.
    ///
    /// A missing directory is no error: it is watched for. One that cannot be read is, because at the start somebody is
    /// there to put it right. Files with errors never are.
    pub async fn open(settings: Settings, tasks: &Tasks, metrics: &Metrics) -> Result<Arc<Self>> {
        let registry = Arc::new(Self {
            scanner: Mutex::new(Scanner::new(settings.dir.clone())),
            settings,
            metrics: metrics.clone(),
            current: channel::Sender::new(Arc::default()),
        });
        if registry.reload().await? {
            let tidy = |registry: &Self, _: &mut Scanner| {
                store::tidy(&registry.settings.dir);
                Ok(())
            };
            registry.blocking(tidy).await?;
        }
        tasks.spawn("template watcher", watch::follow(registry.clone(), tasks.stopping()));
        Ok(registry)
    }

    /// The templates as they are now.
    #[must_use]
    pub fn list(&self) -> Arc<Templates> {
        self.current.borrow().clone()
    }

    /// The templates now and at every change.
    #[must_use]
    pub fn changes(&self) -> channel::Receiver<Arc<Templates>> {
        self.current.subscribe()
    }

    /// The template that `reference` names: `NAME` for its newest version, or `NAME@VERSION`.
    pub fn get(&self, reference: &str) -> Result<Arc<Template>> {
        self.list().get(reference)
    }

    /// Whether a service started from `reference` would now start differently: its template has a newer version, was
    /// changed or is gone, but not with the directory.
    #[must_use]
    pub fn is_outdated(&self, reference: &TemplateReference) -> bool {
        self.list().is_outdated(reference)
    }

    /// What `document` would be as a template; all that is wrong with it otherwise. Nothing is kept.
    pub fn validate(document: &Value) -> Result<Template> {
        store::checked(None, document.clone())
    }

    /// Checks `document` and writes it into the directory: over the file that gives this name and version, or as a new
    /// one. `name` is `NAME` or `NAME@VERSION`; without it the document must say its name. True when it is new.
    pub async fn put(self: &Arc<Self>, name: Option<&str>, document: Value) -> Result<(TemplateDetail, bool)> {
        let template = store::checked(name, document)?;
        self.blocking(move |registry, scanner| {
            // What is replaced is decided by what the directory holds now.
            registry.refresh(scanner)?;
            let before = registry.list();
            let file = store::file_for(&template, &before)?;
            scanner.make_directory().map_err(|error| store::write_fault(&registry.settings.dir, error))?;
            store::write(&registry.settings.dir, &file, &template.document)?;
            scanner.forget(&file);
            registry.refresh(scanner)?;
            let is_new = before.versions(&template.name).all(|version| version != template.version);
            Ok((registry.list().detail(&format!("{}@{}", template.name, template.version))?, is_new))
        })
        .await
    }

    /// Deletes the file of the template that `reference` names. Running services go on.
    pub async fn delete(self: &Arc<Self>, reference: &str) -> Result<()> {
        let reference = reference.to_owned();
        self.blocking(move |registry, scanner| {
            registry.refresh(scanner)?;
            let file = store::file_of(&reference, &registry.list())?;
            store::delete(&registry.settings.dir, &file)?;
            registry.refresh(scanner).map(|_| ())
        })
        .await
    }

    /// Reads what has changed and publishes it. False when the directory does not exist.
    async fn reload(self: &Arc<Self>) -> Result<bool> {
        self.blocking(Self::refresh).await
    }

    /// Does file work on a thread that may block, one piece at a time. It is finished even if its caller goes away.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self, &mut Scanner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let registry = self.clone();
        // What is said of the work belongs to the request that asked for it.
        let span = tracing::Span::current();
        let done = tokio::task::spawn_blocking(move || {
            let _inside = span.enter();
            // A scan leaves nothing half-done that the next one would trip over.
            let mut scanner = registry.scanner.lock().unwrap_or_else(PoisonError::into_inner);
            work(&registry, &mut scanner)
        });
        done.await.map_err(|error| Error::internal("reading the templates broke off", error))?
    }

    fn refresh(&self, scanner: &mut Scanner) -> Result<bool> {
        let there = scanner.scan().map_err(|error| {
            self.metrics.template_reloads.with_label_values(&["failed"]).inc();
            let message = format!("the templates directory {} cannot be read: {error}", self.settings.dir.display());
            let remedy = "give the manager the right to list it, or set MCP_MANAGER_TEMPLATES_DIR to a directory";
            Error::new(Kind::Invalid, message).remedy(remedy).because(error)
        })?;
        let templates = scanner.templates();
        self.publish(if there { templates } else { templates.out_of_sight(self.list()) });
        Ok(there)
    }

    /// Swaps the snapshot, and tells log and metrics what is new in it.
    fn publish(&self, templates: Templates) {
        let before = self.list();
        if *before == templates {
            return;
        }
        for entry in templates.entries().iter().filter(|entry| !entry.errors.is_empty()) {
            let known = before.entries().iter().find(|old| old.file == entry.file);
            if known.is_some_and(|known| known.errors == entry.errors) {
                continue;
            }
            let kept = if entry.stale { "; its last valid version stays in use" } else { "" };
            for error in &entry.errors {
                // What is wrong with the directory as a whole has no file.
                let of = if entry.file.is_empty() { String::new() } else { format!("template file {}: ", entry.file) };
                tracing::warn!(file = %entry.file, "{of}{error}{kept}");
            }
        }
        let broken = templates.entries().iter().filter(|entry| !entry.errors.is_empty()).count();
        let usable = templates.usable().count();
        self.metrics.templates.set(i64::try_from(usable).unwrap_or(i64::MAX));
        self.metrics.template_errors.set(i64::try_from(broken).unwrap_or(i64::MAX));
        self.metrics.template_reloads.with_label_values(&[if broken == 0 { "ok" } else { "invalid" }]).inc();
        tracing::info!(templates = usable, files_with_errors = broken, "templates read");
        self.current.send_replace(Arc::new(templates));
    }
}
