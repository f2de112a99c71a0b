//! The machine as the checks see it: files below a root, the user, the programs in the path. Tests put a directory in the
//! machine's place.

use std::path::{Path, PathBuf};

use crate::config::Config;

/// Where checks look.
#[derive(Debug, Clone)]
pub struct Machine {
    root: PathBuf,
    /// Number of the user.
    pub uid: u32,
    /// Name of the user, or the number where it has none.
    pub user: String,
    path: Vec<PathBuf>,
    /// The user's directory for sockets, as `XDG_RUNTIME_DIR` says.
    pub runtime_dir: Option<PathBuf>,
}

impl Machine {
    /// This machine and the user of this process.
    pub fn this(config: &Config) -> Self {
        let uid = rustix::process::getuid().as_raw();
        let path = config.environment.get("PATH").unwrap_or("/usr/local/bin:/usr/bin:/bin");
        let mut path: Vec<PathBuf> = std::env::split_paths(path).collect();
        // Administrators' programs are often not in the path of users.
        path.extend(["/usr/sbin".into(), "/sbin".into(), "/usr/local/sbin".into()]);
        let runtime_dir = config.environment.get("XDG_RUNTIME_DIR").map(PathBuf::from);
        Self::new("/".into(), uid, path, runtime_dir)
    }

    /// A machine whose files are below `root`.
    pub fn new(root: PathBuf, uid: u32, path: Vec<PathBuf>, runtime_dir: Option<PathBuf>) -> Self {
        let mut machine = Self { root, uid, user: uid.to_string(), path, runtime_dir };
        let name = machine.read("/etc/passwd").and_then(|text| name_of(&text, uid));
        machine.user = name.unwrap_or(machine.user);
        machine
    }

    /// Where `path` is.
    pub fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The text of a file; `None` when it cannot be read.
    pub fn read(&self, path: impl AsRef<Path>) -> Option<String> {
        std::fs::read_to_string(self.at(path)).ok()
    }

    /// Whether there is something at `path`.
    pub fn has(&self, path: impl AsRef<Path>) -> bool {
        self.at(path).exists()
    }

    /// Where a program is, in the path or where engines keep their helpers.
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        const HELPERS: [&str; 4] =
            ["/usr/lib/podman", "/usr/libexec/podman", "/usr/local/lib/podman", "/usr/local/libexec/podman"];
        let directories = self.path.iter().map(PathBuf::as_path).chain(HELPERS.iter().map(Path::new));
        directories.map(|directory| directory.join(name)).find(|path| self.at(path).is_file())
    }
}

/// The name of a user in the text of /etc/passwd.
fn name_of(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
pub mod fake {
    //! A machine made of files in a temporary directory.

    use super::Machine;

    /// The machine, and the directory that goes with it.
    pub struct Fake {
        pub machine: Machine,
        directory: tempfile::TempDir,
    }

    impl Fake {
        /// A machine of the user `dev` (1000) with these files; a program is a file below /usr/bin.
        pub fn with(files: &[(&str, &str)]) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let write = |path: &str, text: &str| {
                let path = directory.path().join(path.trim_start_matches('/'));
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            };
            write("/etc/passwd", "root:x:0:0::/root:/bin/sh\ndev:x:1000:1000::/home/dev:/bin/sh\n");
            for (path, text) in files {
                write(path, text);
            }
            let machine = Machine::new(directory.path().to_owned(), 1000, vec!["/usr/bin".into()], Some("/run/user/1000".into()));
            Self { machine, directory }
        }

        /// The same for another user.
        pub fn of_user(&self, uid: u32) -> Machine {
            Machine::new(self.directory.path().to_owned(), uid, vec!["/usr/bin".into()], None)
        }
    }
}
