//! Reading the templates directory: which files count, which have changed, and which of them gives which template.
//!
//! Blocking, on purpose: the caller runs it on a thread of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use super::templates::{Entry, Templates};
use crate::domain::document::Document;
use crate::domain::fields::bounded;
use crate::domain::shown;
use crate::domain::template::Template;
use crate::error::FieldError;

/// Largest template file in bytes.
pub const MAX_FILE_SIZE: u64 = 1 << 20;

/// Most template files in one directory; what follows by name is left out, and said to be.
pub const MAX_FILES: usize = 1000;

/// File systems stamp changes in steps of some milliseconds, so two changes within one step look alike. A file this
/// young is read again the next time.
const YOUNG: Duration = Duration::from_secs(2);

/// How long a file that is gone may come back, under its name or another, and still have its last valid template.
/// Renaming and some ways of saving take a file away first.
const AWAY: Duration = Duration::from_secs(10);

/// Remembers what was read, so that a scan reads only what has changed.
#[derive(Debug)]
pub(super) struct Scanner {
    dir: PathBuf,
    files: BTreeMap<String, File>,
    /// Files that gave a template and are gone, with when they were missed.
    gone: Vec<(String, File, Instant)>,
    /// What is wrong with the directory as a whole: files that are left out, or all of them because it is not there.
    amiss: Option<FieldError>,
    /// The directory has been there.
    seen: bool,
}

/// One template file as it was last read.
#[derive(Debug)]
struct File {
    /// What the file looked like; none when it must be read again.
    stamp: Option<Stamp>,
    /// Which file it was, whatever its name.
    identity: Option<Identity>,
    read: Result<Arc<Template>, Broken>,
    /// The template that was in use after the last scan.
    used: Option<Arc<Template>>,
}

/// What is known of a file without a valid template.
#[derive(Debug)]
pub(super) struct Broken {
    name: Option<String>,
    version: Option<String>,
    pub(super) errors: Vec<FieldError>,
}

impl From<FieldError> for Broken {
    fn from(error: FieldError) -> Self {
        Self { name: None, version: None, errors: vec![error] }
    }
}

/// Which content a file has, as far as its metadata tells.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
struct Stamp {
    identity: Identity,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Which file it is; a change of its name or content leaves it alone.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
struct Identity {
    device: u64,
    inode: u64,
    /// Numbers of files that are gone are given again. Not every file system tells this.
    created: Option<SystemTime>,
}

impl Scanner {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, files: BTreeMap::new(), gone: Vec::new(), amiss: None, seen: false }
    }

    /// Looks at every file and reads those that have changed. False when there is no such directory. On an error
    /// nothing has changed.
    pub(super) fn scan(&mut self) -> io::Result<bool> {
        let missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        let listed = fs::canonicalize(&self.dir).and_then(|root| Ok((candidates(&root)?, root)));
        let (mut names, root) = match listed {
            Ok(listed) => listed,
            Err(error) if missing(&error) => {
                // While there is no directory nothing can come back, so none of that time counts.
                self.gone.iter_mut().for_each(|(.., since)| *since = Instant::now());
                self.miss(&BTreeSet::new());
                let message = format!("the templates directory {} does not exist", self.dir.display());
                let remedy = "make it, or name another one (setting templates.dir, MCP_MANAGER_TEMPLATES_DIR); templates appear as soon as it is there";
                self.amiss = Some(FieldError::new("", message, remedy));
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        self.seen = true;
        self.amiss = (names.len() > MAX_FILES).then(|| {
            let message = format!("{} files are left out, because there are more than {MAX_FILES}", names.len() - MAX_FILES);
            FieldError::new("", message, "remove template files that nobody uses")
        });
        while names.len() > MAX_FILES {
            names.pop_last();
        }
        self.gone.retain(|(.., since)| since.elapsed() < AWAY);
        self.miss(&names);
        for name in names {
            self.look_at(&root, name);
        }
        Ok(true)
    }

    /// Makes the directory where nobody has made it yet. One that is gone may come back, and is left to whoever took it.
    pub(super) fn make_directory(&self) -> io::Result<()> {
        if self.seen { Ok(()) } else { fs::create_dir_all(&self.dir) }
    }

    /// Forgets the files that are not `there` any more, but for what they may come back to.
    fn miss(&mut self, there: &BTreeSet<String>) {
        let (files, gone) = std::mem::take(&mut self.files).into_iter().partition(|(name, _)| there.contains(name));
        self.files = files;
        let gone: BTreeMap<String, File> = gone;
        self.gone
            .extend(gone.into_iter().filter(|(_, file)| file.used.is_some()).map(|(name, file)| (name, file, Instant::now())));
    }

    /// Reads this file again the next time, whatever it looks like.
    pub(super) fn forget(&mut self, name: &str) {
        if let Some(file) = self.files.get_mut(name) {
            file.stamp = None;
        }
    }

    /// Reads one file if it is not as it was.
    fn look_at(&mut self, root: &Path, name: String) {
        let (stamp, path) = match inside(root, &name) {
            Ok(found) => found,
            Err(error) => {
                // Gone since the directory was listed: the next scan sees it so.
                if let Some(error) = error {
                    self.keep(name, None, None, Err(error.into()));
                }
                return;
            }
        };
        if self.files.get(&name).is_some_and(|file| file.stamp.is_some_and(|known| known == stamp)) {
            return;
        }
        let read = read_file(&path).map_err(Broken::from).and_then(|bytes| parse(&bytes, &name));
        let identity = Some(stamp.identity);
        self.keep(name, stamp.is_settled().then_some(stamp), identity, read.map(Arc::new));
    }

    fn keep(&mut self, name: String, stamp: Option<Stamp>, identity: Option<Identity>, read: Result<Arc<Template>, Broken>) {
        let mut used = self.files.remove(&name).and_then(|file| file.used);
        if let (None, Err(broken)) = (&used, &read) {
            used = self.last_of(&name, identity, broken);
        }
        self.files.insert(name, File { stamp, identity, read, used });
    }

    /// The last valid template of a broken file that was gone: the one of that name, the same one under another name, or
    /// the one whose template it still says it is.
    fn last_of(&mut self, name: &str, identity: Option<Identity>, broken: &Broken) -> Option<Arc<Template>> {
        let is_it = |(before, file, _): &(String, File, Instant)| {
            let says_so = || file.used.as_ref().is_some_and(|used| broken.name.as_ref() == Some(&used.name));
            before == name || (identity.is_some() && identity == file.identity) || says_so()
        };
        let found = self.gone.iter().position(is_it)?;
        self.gone.remove(found).1.used
    }

    /// Decides which file gives which template. The first file by name wins a name and version; a file that cannot
    /// give what it says keeps what it last gave, unless a valid file gives that now.
    pub(super) fn templates(&mut self) -> Templates {
        let mut owners: BTreeMap<(String, String), String> = BTreeMap::new();
        let mut lost: BTreeMap<String, FieldError> = BTreeMap::new();
        for (name, file) in &mut self.files {
            let Ok(template) = &file.read else { continue };
            let key = (template.name.clone(), template.version.clone());
            if let Some(owner) = owners.get(&key) {
                lost.insert(name.clone(), given_already(template, owner, name));
            } else {
                owners.insert(key, name.clone());
                file.used = Some(template.clone());
            }
        }
        for (name, file) in &mut self.files {
            if file.read.is_ok() && !lost.contains_key(name) {
                continue;
            }
            let key = |template: &Arc<Template>| (template.name.clone(), template.version.clone());
            file.used = file.used.take().filter(|template| !owners.contains_key(&key(template)));
            if let Some(used) = &file.used {
                owners.insert(key(used), name.clone());
            }
        }
        let mut entries: Vec<Entry> = self.files.iter().map(|(name, file)| file.entry(name, lost.get(name))).collect();
        entries.extend(self.amiss.clone().map(|error| Entry {
            file: String::new(),
            name: String::new(),
            version: None,
            template: None,
            stale: false,
            errors: vec![error],
        }));
        Templates::new(entries)
    }
}

impl File {
    fn entry(&self, file: &str, lost: Option<&FieldError>) -> Entry {
        let (name, version, errors) = match &self.read {
            Ok(template) => (Some(template.name.clone()), Some(template.version.clone()), lost.cloned().into_iter().collect()),
            Err(broken) => (broken.name.clone(), broken.version.clone(), broken.errors.clone()),
        };
        let used = self.used.as_ref();
        Entry {
            file: file.to_owned(),
            name: used.map(|used| used.name.clone()).or(name).unwrap_or_else(|| stem(file).to_owned()),
            version: used.map(|used| used.version.clone()).or(version),
            template: self.used.clone(),
            stale: !errors.is_empty() && used.is_some(),
            errors,
        }
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            identity: Identity { device: metadata.dev(), inode: metadata.ino(), created: metadata.created().ok() },
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether a change from now on would show.
    fn is_settled(self) -> bool {
        let changed = u64::try_from(self.changed.0).map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        changed.is_ok_and(|changed| changed.elapsed().is_ok_and(|age| age > YOUNG))
    }
}

/// Whether a file of this name may hold a template: `*.json`, not hidden, not a schema.
pub(super) fn is_candidate(name: &str) -> bool {
    let json = Path::new(name).extension().is_some_and(|extension| extension == "json");
    json && !name.starts_with('.') && !name.ends_with(".schema.json")
}

/// Names of the files that may hold a template.
pub(super) fn candidates(root: &Path) -> io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for file in fs::read_dir(root)? {
        let name = file?.file_name().to_string_lossy().into_owned();
        if is_candidate(&name) && !fs::metadata(root.join(&name)).is_ok_and(|metadata| metadata.is_dir()) {
            names.insert(name);
        }
    }
    Ok(names)
}

/// Where the file `name` really is. `Err(None)` when it is gone.
fn inside(root: &Path, name: &str) -> Result<(Stamp, PathBuf), Option<FieldError>> {
    let fault = |error: io::Error| {
        let message = format!("the file cannot be read: {error}");
        (error.kind() != io::ErrorKind::NotFound || fs::symlink_metadata(root.join(name)).is_ok())
            .then(|| FieldError::new("", message, "let the manager read it, or remove it"))
    };
    let path = fs::canonicalize(root.join(name)).map_err(fault)?;
    if !path.starts_with(root) {
        let message = "the file is a symbolic link that leads out of the templates directory";
        return Err(Some(FieldError::new("", message, "put the file itself into the directory")));
    }
    let metadata = fs::metadata(&path).map_err(fault)?;
    if !metadata.is_file() {
        return Err(Some(FieldError::new("", "it is not a regular file", "remove it")));
    }
    Ok((Stamp::of(&metadata), path))
}

/// The content of the file `name` of a directory.
pub(super) fn read_in(dir: &Path, name: &str) -> Result<Vec<u8>, FieldError> {
    let gone = || FieldError::new("", "the file is gone", "look again");
    let root = fs::canonicalize(dir).map_err(|_| gone())?;
    let (_, path) = inside(&root, name).map_err(|error| error.unwrap_or_else(gone))?;
    read_file(&path)
}

/// The content of a file, as much of it as tells whether it is too large.
fn read_file(path: &Path) -> Result<Vec<u8>, FieldError> {
    let fault = |error: io::Error| {
        FieldError::new("", format!("the file cannot be read: {error}"), "let the manager read it, or remove it")
    };
    // A pipe that took the file's place must not hold the reader up.
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(fault)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_SIZE + 1).read_to_end(&mut bytes).map_err(fault)?;
    Ok(bytes)
}

/// The template in `bytes`; where the document names none, the file does.
pub(super) fn parse(bytes: &[u8], file: &str) -> Result<Template, Broken> {
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_FILE_SIZE {
        let remedy = "a template is some lines of JSON; keep data elsewhere";
        return Err(FieldError::new("", "the file is larger than 1 MiB", remedy).into());
    }
    let document = Document::read(bytes).map_err(|errors| Broken { name: None, version: None, errors })?;
    let read = Template::from_document(&document.value, Some(stem(file)));
    let errors = [document.twice.clone(), read.as_ref().err().cloned().unwrap_or_default()].concat();
    match read {
        Ok(template) if errors.is_empty() => Ok(template),
        _ => {
            let text = |field: &str| document.value.get(field).and_then(Value::as_str).map(shown);
            Err(Broken { name: text("name"), version: text("version"), errors: document.with_lines(bounded(errors)) })
        }
    }
}

/// What is wrong with a file of a templates directory that gives the same name and version as the file `owner` before it.
#[must_use]
pub fn given_already(template: &Template, owner: &str, file: &str) -> FieldError {
    let message = format!("the template {}@{} is already given by the file {owner}", template.name, template.version);
    FieldError::new("version", message, format!("change name or version here, or remove one of {owner} and {file}"))
}

/// The name of a template in a file whose document has none: `echo` for `echo.json` and `echo@2.json`.
fn stem(file: &str) -> &str {
    let stem = file.strip_suffix(".json").unwrap_or(file);
    stem.split_once('@').map_or(stem, |(name, _)| name)
}
