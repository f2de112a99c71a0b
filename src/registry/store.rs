//! Writing and deleting template files. Readers of the directory see the old file or the new one, never half of one.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::scan::{MAX_FILE_SIZE, MAX_FILES, is_candidate};
use super::templates::{Entry, Templates};
use crate::domain::shown;
use crate::domain::template::Template;
use crate::error::{Error, FieldError, Kind, Result};
use crate::whole_file;

/// A file that is being written for longer than this belongs to a manager that was killed.
const ABANDONED: Duration = Duration::from_mins(10);

/// Checks `document` as the template called `name` (`NAME` or `NAME@VERSION`; what the document says when absent) and
/// names it inside, so that it does not depend on its file's name.
pub(super) fn checked(name: Option<&str>, mut document: Value) -> Result<Template> {
    let (name, version) = match name.map(|name| name.split_once('@').unwrap_or((name, ""))) {
        Some((name, version)) => (Some(name), Some(version).filter(|version| !version.is_empty())),
        None => (None, None),
    };
    let mut errors = Vec::new();
    for (field, wanted) in [("name", name), ("version", version)] {
        let (Some(wanted), Some(object)) = (wanted, document.as_object_mut()) else { continue };
        match object.get(field) {
            None | Some(Value::Null) => drop(object.insert(field.to_owned(), wanted.into())),
            Some(Value::String(text)) if text != wanted => {
                let message = format!("the document says '{}', the address says '{}'", shown(text), shown(wanted));
                errors.push(FieldError::new(field, message, "leave it out of the document, or make them agree"));
            }
            Some(_) => {}
        }
    }
    match Template::from_document(&document, None) {
        Ok(template) if errors.is_empty() => Ok(template),
        Ok(_) => Err(Error::invalid("the template is not valid", errors)),
        Err(more) => {
            errors.extend(more);
            Err(Error::invalid("the template is not valid", errors))
        }
    }
}

/// The file that `template` goes into: the one that gives this version now, or a broken one of its name, or a new one.
pub(super) fn file_for(template: &Template, templates: &Templates) -> Result<String> {
    let same_version =
        |entry: &&Entry| entry.name == template.name && entry.version.as_ref().is_none_or(|version| *version == template.version);
    let giving = templates.entries().iter().filter(|entry| entry.template.is_some()).find(same_version);
    let broken = || templates.entries().iter().filter(|entry| entry.template.is_none()).find(same_version);
    if let Some(entry) = giving.or_else(broken) {
        return Ok(entry.file.clone());
    }
    if templates.entries().len() >= MAX_FILES {
        let detail = format!("there are {MAX_FILES} template files already");
        return Err(Error::new(Kind::LimitReached, detail).remedy("delete templates that nobody uses"));
    }
    let Template { name, version, .. } = template;
    let taken = |file: &String| templates.entries().iter().any(|entry| entry.file == *file);
    let names = [format!("{name}.json"), format!("{name}@{version}.json")];
    names.iter().find(|file| is_candidate(file) && !taken(file)).cloned().ok_or_else(|| {
        let detail = format!("the files {} and {} hold other templates", names[0], names[1]);
        Error::new(Kind::Conflict, detail).remedy("rename those files, or choose another version")
    })
}

/// The file to delete for `reference`. A name with several versions must say which.
pub(super) fn file_of(reference: &str, templates: &Templates) -> Result<String> {
    let entry = templates.entry(reference)?;
    let (name, version) = reference.split_once('@').map_or((reference, None), |(name, version)| (name, Some(version)));
    let same = |other: &&Entry| other.name == name && version.is_none_or(|version| other.version.as_deref() == Some(version));
    let all: Vec<&Entry> = templates.entries().iter().filter(same).collect();
    if all.len() == 1 {
        return Ok(entry.file.clone());
    }
    let what = |entry: &&Entry| format!("{name}@{} ({})", entry.version.as_deref().unwrap_or("?"), entry.file);
    let list = all.iter().map(what).collect::<Vec<_>>().join(", ");
    let detail = format!("'{reference}' may be any of {list}");
    Err(Error::new(Kind::Conflict, detail).remedy("name the version, e.g. NAME@1.2.0, or remove the file by hand"))
}

/// Writes `document` to `dir/file` in one step.
pub(super) fn write(dir: &Path, file: &str, document: &Value) -> Result<()> {
    let fault = |error| write_fault(dir, error);
    let mut text = serde_json::to_string_pretty(document).map_err(|error| fault(error.into()))?;
    text.push('\n');
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_FILE_SIZE {
        return Err(Error::invalid_field("", "the template is larger than 1 MiB", "keep data elsewhere, e.g. in a volume"));
    }
    whole_file::write(&dir.join(file), text.as_bytes(), None).map_err(fault)
}

/// Deletes `dir/file`.
pub(super) fn delete(dir: &Path, file: &str) -> Result<()> {
    match fs::remove_file(dir.join(file)).and_then(|()| File::open(dir)?.sync_all()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(write_fault(dir, error)),
        _ => Ok(()),
    }
}

/// Removes what a manager that was killed while writing has left.
pub(super) fn tidy(dir: &Path) {
    let Ok(files) = fs::read_dir(dir) else { return };
    for file in files.flatten() {
        let name = file.file_name().to_string_lossy().into_owned();
        let old = || {
            let modified = file.metadata().and_then(|metadata| metadata.modified());
            modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age > ABANDONED))
        };
        if whole_file::is_unfinished(&name) && old() {
            match fs::remove_file(file.path()) {
                Ok(()) => tracing::info!(file = name, "removed a template file that a killed manager left unfinished"),
                Err(error) => tracing::warn!(file = name, %error, "an unfinished template file cannot be removed"),
            }
        }
    }
}

pub(super) fn write_fault(dir: &Path, error: io::Error) -> Error {
    let (kind, remedy) = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => (Kind::NoSpace, "make room on its file system"),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            (Kind::NotSupported, "let the manager write to it, or change the files where they come from")
        }
        io::ErrorKind::NotFound => (Kind::Conflict, "create the directory"),
        _ => (Kind::Internal, "see the manager's log"),
    };
    let detail = format!("the templates directory {} cannot be written: {error}", dir.display());
    Error::new(kind, detail).remedy(remedy).because(error)
}
