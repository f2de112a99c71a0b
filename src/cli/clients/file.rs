//! A client's file: reading it, working out a change, writing it whole or not at all, and taking the change back.
//!
//! Before the first entry of this manager goes in, the file is copied beside itself. Whatever the file was can then be had
//! back exactly: if the copy with our entries is what the file says now, nothing else was changed, and the copy is put back
//! byte for byte. Otherwise our entries are taken out of what the file has become, the entries that they replaced are put in
//! again, and what had been made for ours alone goes with them. So the copy also gets what is replaced later on.
//!
//! Several managers, or one by several addresses, may be in one file. The copy is of the time before the first of them, and
//! the last that goes puts it back; none takes another's entry for what the user wrote.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::form::Client;
use super::format::{Read, Refusal};
use super::node::Node;
use super::select::is_a_managers;
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
    /// Names of entries that ours had replaced and that cannot be put in again; the copy has them.
    pub lost: Vec<String>,
    /// Names of entries that stay, since they are others' now, and are not what they were before ours either.
    pub changed: Vec<String>,
    copy: Copy,
}

/// What happens to the copy.
#[derive(Debug)]
enum Copy {
    Keep,
    Make,
    /// It says this from now on.
    Correct(String),
    Remove,
}

impl<'c> ClientFile<'c> {
    /// The file of a client at `path`.
    pub fn new(client: &'c Client, path: &Path) -> Self {
        // People keep such files in repositories and link to them; the link stays, also where it leads to no file yet.
        Self { client, path: fs::canonicalize(path).ok().or_else(|| target_of(path)).unwrap_or_else(|| path.to_owned()) }
    }

    /// A link that is left when links have been followed leads into a folder that is not there. What is written in its place
    /// would end it, and to make folders wherever it may lead, e.g. on a disk that is away, is not for us.
    fn leads_somewhere(&self) -> Result<()> {
        if !self.path.is_symlink() {
            return Ok(());
        }
        let target = fs::read_link(&self.path).unwrap_or_default();
        let detail = format!("{} is a link to {}, and there is no folder for that", self.path.display(), target.display());
        Err(Error::new(Kind::Invalid, detail).remedy("make the folder, correct the link, or name another file with --file"))
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
        self.leads_somewhere()?;
        let before = read(&self.path)?;
        let present = self.entries()?;
        let foreign = |(name, _): &&(String, Node)| present.iter().any(|(other, node)| other == name && !ours(node));
        if let Some((name, _)) = entries.iter().find(foreign).filter(|_| !force) {
            let detail = format!("there is another server '{name}' in {}", self.path.display());
            return Err(Error::new(Kind::Conflict, detail).remedy("rename it there, or replace it with --force"));
        }
        let after = self.with(before.as_deref(), entries).map_err(|refusal| self.refused(&refusal))?;
        let original = read(&self.copy())?;
        let connected = self.connected(&present, original.as_deref(), ours);
        // Without a copy there was no file, if managers' entries are all that there is.
        let began = || original.is_some() || self.with(None, &connected).ok() == before;
        let copy = if before.as_ref() == Some(&after) || before == original {
            Copy::Keep
        } else if connected.iter().any(|(_, node)| ours(node)) || (!connected.is_empty() && began()) {
            let was_connected = |name: &&str| connected.iter().any(|(other, _)| other == name);
            let names = entries.iter().map(|(name, _)| name.as_str()).filter(|name| !was_connected(name));
            self.corrected(before.as_deref().unwrap_or_default(), names)?.map_or(Copy::Keep, Copy::Correct)
        } else {
            Copy::Make
        };
        Ok(Change { before, after: Some(after), lost: Vec::new(), changed: Vec::new(), copy })
    }

    /// The entries that managers have put in since the copy was made: this one, and others or this one by other addresses.
    fn connected(
        &self,
        present: &[(String, Node)],
        original: Option<&str>,
        ours: &impl Fn(&Node) -> bool,
    ) -> Vec<(String, Node)> {
        let was_there = |name: &str, node: &Node| {
            let mut entries = self.forms().filter_map(|form| form.format.entry(original?, form.section, name).ok().flatten());
            entries.any(|entry| entry == *node)
        };
        let is_one = |(name, node): &&(String, Node)| ours(node) || (is_a_managers(name, node) && !was_there(name, node));
        present.iter().filter(is_one).cloned().collect()
    }

    /// The copy with the entries that stand under these names in the file now, where it has others: since the copy was made,
    /// somebody added, changed or removed them, and they are what ours take the place of.
    fn corrected<'n>(&self, text: &str, mut names: impl Iterator<Item = &'n str>) -> Result<Option<String>> {
        let start = read(&self.copy())?.unwrap_or_else(|| self.client.starter.to_owned());
        let corrected = names.try_fold(start.clone(), |copy, name| {
            self.forms().try_fold(copy, |copy, form| match form.format.entry(text, form.section, name)? {
                Some(entry) => form.format.with(&copy, form.section, name, &entry),
                None => form.format.without(&copy, form.section, name),
            })
        });
        // What cannot be noted is no reason not to connect.
        Ok(corrected.ok().filter(|corrected| *corrected != start))
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
        let original = read(&self.copy())?;
        let changed = if names.is_empty() { self.changed(original.as_deref(), &present, ours) } else { Vec::new() };
        let connected = self.connected(&present, original.as_deref(), ours);
        let goes = |(name, node): &&(String, Node)| ours(node) && (names.is_empty() || names.contains(name));
        let stays: Vec<(String, Node)> = connected.iter().filter(|entry| !goes(entry)).cloned().collect();
        if connected.len() == stays.len() {
            return Ok(Change { after: before.clone(), before, lost: Vec::new(), changed, copy: Copy::Keep });
        }
        if self.with(original.as_deref(), &connected).as_ref() == Ok(&text) {
            let (after, copy) = if stays.is_empty() {
                (original, Copy::Remove)
            } else {
                (self.with(original.as_deref(), &stays).ok(), Copy::Keep)
            };
            return Ok(Change { before, after, lost: Vec::new(), changed: Vec::new(), copy });
        }
        let names: Vec<&str> = connected.iter().filter(goes).map(|(name, _)| name.as_str()).collect();
        let without = self.without(text, original.as_deref(), &names, ours).map_err(|refusal| self.refused(&refusal))?;
        let copy = if original.is_some() && without.after == original { Copy::Remove } else { Copy::Keep };
        Ok(Change { before, changed, copy, ..without })
    }

    /// Names of entries that are not ours and not what the copy says.
    fn changed(&self, original: Option<&str>, present: &[(String, Node)], ours: &impl Fn(&Node) -> bool) -> Vec<String> {
        let was = |name: &str, node: &Node| {
            let mut entries = self.forms().filter_map(|form| form.format.entry(original?, form.section, name).ok().flatten());
            entries.next().is_some_and(|first| first != *node && entries.all(|other| other != *node))
        };
        let others = present.iter().filter(|(name, node)| !ours(node) && was(name, node));
        others.map(|(name, _)| name.clone()).collect()
    }

    /// A text without these entries of ours, with those that they replaced, and without what was made for ours alone.
    fn without(&self, text: String, original: Option<&str>, names: &[&str], ours: &impl Fn(&Node) -> bool) -> Read<Change> {
        let start = original.unwrap_or(self.client.starter);
        let (mut text, mut lost) = (text, Vec::new());
        for form in self.forms() {
            let (format, section) = (form.format, form.section);
            for name in names {
                let is_ours = format.entry(&text, section, name)?.as_ref().is_some_and(ours);
                if is_ours {
                    text = format.without(&text, section, name)?;
                }
            }
        }
        for form in self.forms() {
            let (format, section) = (form.format, form.section);
            for name in names {
                // The copy may be one that cannot be read any more.
                let replaced = format.entry(start, section, name).ok().flatten().filter(|entry| !ours(entry));
                let Some(replaced) = replaced.filter(|_| format.entry(&text, section, name) == Ok(None)) else { continue };
                match format.with(&text, section, name, &replaced) {
                    Ok(with) => text = with,
                    Err(_) => lost.push((*name).to_owned()),
                }
            }
            // Entries are put into the section of the newer form only where there is one already.
            if section.within.is_none() && format.knows(start, section) == Ok(false) {
                text = format.without_section(&text, section)?;
            }
        }
        let goes = original.is_none() && self.is_bare(&text)?;
        Ok(Change { before: None, after: Some(text).filter(|_| !goes), lost, changed: Vec::new(), copy: Copy::Keep })
    }

    /// Whether a text says no more than a file that is made here says before its entries.
    fn is_bare(&self, text: &str) -> Read<bool> {
        let (format, starter) = (self.client.format, self.client.starter);
        let comments = |text: &str| ["//", "/*", "#"].map(|mark| text.matches(mark).count());
        Ok(format.whole(text)? == format.whole(starter)? && comments(text) == comments(starter))
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
        match &change.copy {
            Copy::Make => {
                if copy.exists() {
                    // It is of an earlier time; what is there now is what matters, but nobody's only copy is thrown away.
                    let mut olders = (1..).map(|number: u32| match number {
                        1 => with_ending(&copy, ".old"),
                        _ => with_ending(&copy, &format!(".old-{number}")),
                    });
                    let older = olders.find(|older| !older.exists()).unwrap_or_default();
                    fs::rename(&copy, &older).map_err(|error| fault(&copy, "cannot be moved", error))?;
                }
                if let Some(before) = &change.before {
                    write(&copy, before, self.permissions())?;
                }
            }
            Copy::Correct(text) => write(&copy, text, self.permissions())?,
            Copy::Keep | Copy::Remove => {}
        }
        match &change.after {
            Some(after) if change.before.as_ref() != Some(after) => write(&self.path, after, self.permissions())?,
            None if change.before.is_some() => {
                fs::remove_file(&self.path).map_err(|error| fault(&self.path, "cannot be removed", error))?;
            }
            _ => {}
        }
        if matches!(change.copy, Copy::Remove) && copy.exists() {
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

/// Where a link leads at whose end there is no file, if its folder is there.
fn target_of(link: &Path) -> Option<PathBuf> {
    let mut path = Some(link).filter(|link| link.is_symlink())?.to_owned();
    // As many as the system follows.
    for _ in 0..40 {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        path = fs::canonicalize(folder).ok()?.join(path.file_name()?);
        if !path.is_symlink() {
            return Some(path);
        }
        path = path.parent()?.join(fs::read_link(&path).ok()?);
    }
    None
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
