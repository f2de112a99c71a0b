//! A client's file: reading it, working out a change, writing it whole or not at all, and taking the change back.
//!
//! Before the first entry of this manager goes in, the file is copied beside itself. Whatever the file was can then be had
//! back exactly: if the copy with our entries is what the file says now, nothing else was changed, and the copy is put back
//! byte for byte. Otherwise our entries are taken out of what the file has become.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::form::Client;
use super::format::{Read, Refusal};
use super::node::Node;
use crate::error::{Error, FieldError, Kind, Result};
use crate::whole_file;

/// What the copy of a file is called: its name with this behind it.
const COPY: &str = ".before-mcp-manager";

/// Files of clients are small; what is larger is something else.
const MAX_SIZE: u64 = 64 << 20;

/// A client's file.
#[derive(Debug)]
pub struct ClientFile<'c> {
    client: &'c Client,
    /// Where it is; the target, where it is a link.
    pub path: PathBuf,
}

/// A change that has been worked out.
#[derive(Debug)]
pub struct Change {
    /// What the file says; nothing when it is not there.
    pub before: Option<String>,
    /// What it will say; nothing when it goes.
    pub after: Option<String>,
    copy: Copy,
}

/// What happens to the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copy {
    Keep,
    Make,
    Remove,
}

impl<'c> ClientFile<'c> {
    /// The file of a client at `path`.
    pub fn new(client: &'c Client, path: &Path) -> Self {
        // People keep such files in repositories and link to them; the link stays.
        Self { client, path: fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()) }
    }

    /// The servers in the file, in whichever form of the client they stand.
    pub fn entries(&self) -> Result<Vec<(String, Node)>> {
        let text = read(&self.path)?.unwrap_or_default();
        let lists = self.forms().map(|form| form.format.entries(&text, form.section)).collect::<Read<Vec<_>>>();
        Ok(lists.map_err(|refusal| self.refused(&refusal))?.concat())
    }

    /// The form in which the file takes entries.
    pub fn form(&self) -> Result<&'c Client> {
        self.form_of(&read(&self.path)?.unwrap_or_default()).map_err(|refusal| self.refused(&refusal))
    }

    /// The form in which this text takes entries: the newer one where it has servers in that, else the one that all read.
    pub fn form_of(&self, text: &str) -> Read<&'c Client> {
        match self.client.newer {
            Some(newer) if newer.format.has(text, newer.section)? => Ok(newer),
            _ => Ok(self.client),
        }
    }

    fn forms(&self) -> impl Iterator<Item = &'c Client> {
        std::iter::once(self.client).chain(self.client.newer)
    }

    /// The change that puts these entries in. An entry of another kind by the same name is replaced only with `force`.
    pub fn connect(&self, entries: &[(String, Node)], ours: &impl Fn(&Node) -> bool, force: bool) -> Result<Change> {
        let before = read(&self.path)?;
        let present = self.entries()?;
        let foreign = |(name, _): &&(String, Node)| present.iter().any(|(other, node)| other == name && !ours(node));
        if let Some((name, _)) = entries.iter().find(foreign).filter(|_| !force) {
            let detail = format!("there is another server '{name}' in {}", self.path.display());
            return Err(Error::new(Kind::Conflict, detail).remedy("rename it there, or replace it with --force"));
        }
        let after = self.with(before.as_deref(), entries).map_err(|refusal| self.refused(&refusal))?;
        let first = !present.iter().any(|(_, node)| ours(node));
        let copy = if first && before.as_ref() != Some(&after) { Copy::Make } else { Copy::Keep };
        Ok(Change { before, after: Some(after), copy })
    }

    /// The change that takes our entries out, those of these names or all.
    pub fn disconnect(&self, names: &[String], ours: &impl Fn(&Node) -> bool) -> Result<Change> {
        let before = read(&self.path)?;
        let text = before.clone().unwrap_or_default();
        let present = self.entries()?;
        if let Some((name, _)) = present.iter().find(|(name, node)| names.contains(name) && !ours(node)) {
            let detail = format!("the server '{name}' in {} leads to something else than this manager", self.path.display());
            return Err(
                Error::new(Kind::Conflict, detail).remedy("name the manager it leads to with --server, or remove it there")
            );
        }
        let connected: Vec<(String, Node)> = present.into_iter().filter(|(_, node)| ours(node)).collect();
        let goes = |(name, _): &&(String, Node)| names.is_empty() || names.contains(name);
        let stays: Vec<(String, Node)> = connected.iter().filter(|entry| !goes(entry)).cloned().collect();
        if connected.len() == stays.len() {
            return Ok(Change { after: before.clone(), before, copy: Copy::Keep });
        }
        let original = read(&self.copy())?;
        if self.with(original.as_deref(), &connected).as_ref() == Ok(&text) {
            let (after, copy) = if stays.is_empty() {
                (original, Copy::Remove)
            } else {
                (self.with(original.as_deref(), &stays).ok(), Copy::Keep)
            };
            return Ok(Change { before, after, copy });
        }
        let without = |text: String, form: &Client| {
            let entries = form.format.entries(&text, form.section)?;
            let mut ours = entries.iter().filter(|(_, node)| ours(node)).filter(goes);
            ours.try_fold(text, |text, (name, _)| form.format.without(&text, form.section, name))
        };
        let after = self.forms().try_fold(text, without).map_err(|refusal| self.refused(&refusal))?;
        Ok(Change { before, after: Some(after), copy: Copy::Keep })
    }

    /// A text with these entries; a new one when there is none.
    pub fn with(&self, text: Option<&str>, entries: &[(String, Node)]) -> Read<String> {
        let start = text.unwrap_or(self.client.starter).to_owned();
        let form = self.form_of(&start)?;
        entries.iter().try_fold(start, |text, (name, entry)| {
            // In another form, an entry of this name would be the same server once more.
            let mut others = self.forms().filter(|other| other.section != form.section);
            let text = others.try_fold(text, |text, other| other.format.without(&text, other.section, name))?;
            form.format.with(&text, form.section, name, entry)
        })
    }

    /// Makes the change, unless somebody else changed the file meanwhile.
    pub fn make(&self, change: &Change) -> Result<()> {
        if read(&self.path)? != change.before {
            let detail = format!("{} was changed by another program at this moment", self.path.display());
            return Err(Error::new(Kind::Conflict, detail).remedy("try again"));
        }
        let copy = self.copy();
        if change.copy == Copy::Make {
            if copy.exists() {
                // It is of an earlier time; what is there now is what matters, but nobody's only copy is thrown away.
                let older = with_ending(&copy, ".old");
                fs::rename(&copy, &older).map_err(|error| fault(&copy, "cannot be moved", error))?;
            }
            if let Some(before) = &change.before {
                write(&copy, before, self.permissions())?;
            }
        }
        match &change.after {
            Some(after) if change.before.as_ref() != Some(after) => write(&self.path, after, self.permissions())?,
            Some(_) => {}
            None => fs::remove_file(&self.path).map_err(|error| fault(&self.path, "cannot be removed", error))?,
        }
        if change.copy == Copy::Remove && copy.exists() {
            fs::remove_file(&copy).map_err(|error| fault(&copy, "cannot be removed", error))?;
        }
        Ok(())
    }

    /// The copy of the file as it was before this manager.
    pub fn copy(&self) -> PathBuf {
        with_ending(&self.path, COPY)
    }

    /// Those of the file; a new one is its owner's alone, since keys may come into it.
    fn permissions(&self) -> Permissions {
        fs::metadata(&self.path).map_or_else(|_| Permissions::from_mode(0o600), |metadata| metadata.permissions())
    }

    fn refused(&self, refusal: &Refusal) -> Error {
        let message = format!("{} {}", self.path.display(), refusal.message);
        let field = FieldError { line: refusal.line, ..FieldError::new("", message, "correct it there; it was not touched") };
        let line = refusal.line.map(|line| format!(" in line {line}")).unwrap_or_default();
        let detail = format!("{}{line} {}; it was not touched", self.path.display(), refusal.message);
        Error { fields: vec![field], ..Error::new(Kind::Invalid, detail) }
            .remedy("correct it there, or name another file with --file")
    }
}

impl Change {
    /// Whether there is nothing to do.
    pub fn is_none(&self) -> bool {
        self.before == self.after
    }

    /// The change as a unified diff.
    pub fn diff(&self, path: &str) -> String {
        let (before, after) = (self.before.as_deref().unwrap_or_default(), self.after.as_deref().unwrap_or_default());
        let name = |text: &Option<String>| if text.is_some() { path } else { "/dev/null" };
        let diff = similar::TextDiff::from_lines(before, after);
        diff.unified_diff().header(name(&self.before), name(&self.after)).to_string()
    }
}

/// The text of a file; nothing when there is no such file.
fn read(path: &Path) -> Result<Option<String>> {
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Ok(metadata) if !metadata.is_file() || metadata.len() > MAX_SIZE => {
            let detail = format!("{} is no file of settings", path.display());
            return Err(Error::new(Kind::Invalid, detail).remedy("name another file with --file"));
        }
        _ => {}
    }
    fs::read_to_string(path).map(Some).map_err(|error| fault(path, "cannot be read", error))
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    path.with_file_name(name)
}

/// Writes a file whole or not at all, in a folder that is made when it is missing.
fn write(path: &Path, text: &str, permissions: Permissions) -> Result<()> {
    whole_file::make_folder_of(path)
        .and_then(|()| whole_file::write(path, text.as_bytes(), Some(permissions)))
        .map_err(|error| fault(path, "cannot be written", error))
}

fn fault(path: &Path, what: &str, error: std::io::Error) -> Error {
    Error::new(Kind::Invalid, format!("{} {what}: {error}", path.display()))
        .remedy("name another file with --file")
        .because(error)
}
