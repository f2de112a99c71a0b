//! An immutable view of all templates, and how references to them are read.

use std::sync::Arc;

use crate::domain::shown;
use crate::domain::template::{Template, TemplateReference};
use crate::domain::version::compare_versions;
use crate::error::{Error, FieldError, Kind, Result};

/// All templates at one moment: by name, the newest version first, files without a usable template last.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Templates {
    entries: Vec<Entry>,
    directory: Directory,
}

/// Whether the directory is there.
#[derive(Debug, Default, PartialEq, Eq)]
enum Directory {
    /// It is.
    There,
    /// It has never been there.
    #[default]
    Never,
    /// It is gone; what it held then.
    Gone(Arc<Templates>),
}

/// What one template file gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name of the file inside the templates directory.
    pub file: String,
    /// Name of its template; a guess from the document or the file's name when it never was valid.
    pub name: String,
    /// Version of its template, as far as one can be read.
    pub version: Option<String>,
    /// The template in use; none when the file never was valid.
    pub template: Option<Arc<Template>>,
    /// The file has errors, and `template` is what it last held without any.
    pub stale: bool,
    /// All that is wrong with the file.
    pub errors: Vec<FieldError>,
}

impl Templates {
    pub(super) fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_by(|left, right| {
            let version = |entry: &Entry| entry.version.clone().unwrap_or_default();
            let usable = |entry: &Entry| entry.template.is_some();
            (left.name.cmp(&right.name))
                .then_with(|| usable(right).cmp(&usable(left)))
                .then_with(|| compare_versions(&version(right), &version(left)))
                .then_with(|| left.file.cmp(&right.file))
        });
        Self { entries, directory: Directory::There }
    }

    /// The same while the directory is not there, after `before`: what is in it is out of sight then, which is no change of
    /// it.
    #[must_use]
    pub(super) fn out_of_sight(self, before: Arc<Self>) -> Self {
        let directory = match &before.directory {
            Directory::There => Directory::Gone(before),
            Directory::Never => Directory::Never,
            Directory::Gone(held) => Directory::Gone(held.clone()),
        };
        Self { directory, ..self }
    }

    /// Every template file.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Every template that services can be started from.
    pub fn usable(&self) -> impl Iterator<Item = &Arc<Template>> {
        self.entries.iter().filter_map(|entry| entry.template.as_ref())
    }

    /// The template that `reference` names: `NAME` for its newest version, or `NAME@VERSION`.
    pub fn get(&self, reference: &str) -> Result<Arc<Template>> {
        let (name, version) = split(reference);
        let found = self.usable().find(|template| matches(template, name, version));
        found.cloned().ok_or_else(|| self.missing(reference))
    }

    /// The usable versions of a template, newest first.
    pub fn versions(&self, name: &str) -> impl Iterator<Item = &str> {
        self.usable().filter(move |template| template.name == name).map(|template| template.version.as_str())
    }

    /// Whether a service started from `reference` would now start differently. While the directory is gone, what it last
    /// held is what counts; nothing is known where it never was there.
    #[must_use]
    pub fn is_outdated(&self, reference: &TemplateReference) -> bool {
        match &self.directory {
            Directory::There => {}
            Directory::Never => return false,
            Directory::Gone(held) => return held.is_outdated(reference),
        }
        let TemplateReference { name, version, digest, pinned } = reference;
        let present = if *pinned { self.get(&format!("{name}@{version}")) } else { self.get(name) };
        present.map_or(true, |template| template.version != *version || template.digest != *digest)
    }

    /// The entry that `reference` names, usable or not.
    pub(super) fn entry(&self, reference: &str) -> Result<&Entry> {
        let (name, version) = split(reference);
        let same_version = |entry: &&Entry| version.is_none() || entry.version.as_deref() == version;
        let found = self.entries.iter().filter(|entry| entry.name == name).find(same_version);
        found.ok_or_else(|| self.missing(reference))
    }

    /// Why there is no usable template of that name.
    fn missing(&self, reference: &str) -> Error {
        let (name, version) = split(reference);
        let broken = self.entries.iter().find(|entry| {
            entry.template.is_none() && entry.name == name && (version.is_none() || entry.version.as_deref() == version)
        });
        if let Some(entry) = broken {
            let detail = format!("the template '{}' cannot be used: its file {} has errors", shown(name), entry.file);
            let error = Error { fields: entry.errors.clone(), ..Error::new(Kind::NotFound, detail) };
            return error.remedy("correct the file; it is read again as soon as it changes");
        }
        let versions: Vec<&str> = self.versions(name).collect();
        if let (Some(version), false) = (version, versions.is_empty()) {
            let detail = format!("the template '{name}' has no version '{}'", shown(version));
            return Error::new(Kind::NotFound, detail).remedy(format!("there is {}", versions.join(", ")));
        }
        Error::not_found("template", reference, self.usable().map(|template| template.name.as_str()))
    }
}

/// Splits `NAME@VERSION`.
fn split(reference: &str) -> (&str, Option<&str>) {
    reference.split_once('@').map_or((reference, None), |(name, version)| (name, Some(version)))
}

fn matches(template: &Template, name: &str, version: Option<&str>) -> bool {
    template.name == name && version.is_none_or(|version| template.version == version)
}
