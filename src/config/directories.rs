//! Where files are looked for when no setting says so: the XDG directories of the user, then those of the system.

use std::path::{Path, PathBuf};

use super::environment::Environment;

/// Name of our directories inside the XDG ones.
const OURS: &str = "mcp-manager";

/// The directories of the user and the system.
#[derive(Debug, Clone, Default)]
pub struct Directories {
    /// The working directory at the start.
    pub working: PathBuf,
    config: Option<PathBuf>,
    data: Option<PathBuf>,
    runtime: Option<PathBuf>,
    system_config: PathBuf,
    system_data: PathBuf,
}

impl Directories {
    /// The directories as the environment says them; `root` is `/` but in tests.
    #[must_use]
    pub fn new(environment: &Environment, working: PathBuf, root: &Path) -> Self {
        let absolute = |name: &str| environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = absolute("HOME");
        let below_home = |path: &str| home.as_ref().map(|home| home.join(path));
        Self {
            working,
            config: absolute("XDG_CONFIG_HOME").or_else(|| below_home(".config")).map(|path| path.join(OURS)),
            data: absolute("XDG_DATA_HOME").or_else(|| below_home(".local/share")).map(|path| path.join(OURS)),
            runtime: absolute("XDG_RUNTIME_DIR"),
            system_config: root.join("etc").join(OURS),
            system_data: root.join("usr/share").join(OURS),
        }
    }

    /// Where the file of settings is looked for; the first that exists is read.
    #[must_use]
    pub fn config_files(&self) -> Vec<PathBuf> {
        self.config.iter().chain([&self.system_config]).map(|directory| directory.join("config.toml")).collect()
    }

    /// The directory of templates: `./templates`, else the user's, else the system's, whichever exists first. When none
    /// exists it is the user's, where one may be made.
    #[must_use]
    pub fn templates(&self) -> PathBuf {
        let candidates = [Some(self.working.join("templates")), self.data.as_ref().map(|data| data.join("templates"))];
        let candidates: Vec<PathBuf> = candidates.into_iter().flatten().chain([self.system_data.join("templates")]).collect();
        let made_first = candidates.get(1).cloned().unwrap_or_default();
        candidates.into_iter().find(|directory| directory.is_dir()).unwrap_or(made_first)
    }

    /// The directory of secrets.
    #[must_use]
    pub fn secrets(&self) -> PathBuf {
        self.config.as_ref().unwrap_or(&self.system_config).join("secrets")
    }

    /// The file of API keys.
    #[must_use]
    pub fn keys_file(&self) -> PathBuf {
        self.config.as_ref().unwrap_or(&self.system_config).join("keys")
    }

    /// Where the user's contexts of the command line are recorded.
    #[must_use]
    pub fn contexts_file(&self) -> Option<PathBuf> {
        Some(self.config.as_ref()?.join("contexts.toml"))
    }

    /// Where units of the user's own systemd are.
    #[must_use]
    pub fn user_units(&self) -> Option<PathBuf> {
        Some(self.config.as_ref()?.parent()?.join("systemd/user"))
    }

    /// Where the user's own Podman service listens, if there is one.
    #[must_use]
    pub fn podman_sockets(&self) -> Vec<PathBuf> {
        self.runtime.iter().map(|runtime| runtime.join("podman/podman.sock")).collect()
    }

    /// Where the user's own Podman tells its name server the addresses of containers.
    #[must_use]
    pub fn podman_name_server(&self) -> Option<PathBuf> {
        self.runtime.as_ref().map(|runtime| runtime.join("containers/networks/aardvark-dns"))
    }

    /// Where the user's own Podman keeps what does not outlive the machine's run.
    #[must_use]
    pub fn podman_temporary(&self) -> Option<PathBuf> {
        self.runtime.as_ref().map(|runtime| runtime.join("libpod/tmp"))
    }

    /// The directory for sockets and state that need not outlive the machine's run. Without `XDG_RUNTIME_DIR` it is one
    /// named after the user in the directory of temporary files.
    #[must_use]
    pub fn runtime(&self) -> PathBuf {
        match &self.runtime {
            Some(runtime) => runtime.join(OURS),
            None => std::env::temp_dir().join(format!("{OURS}-{}", rustix::process::getuid().as_raw())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_looked_for_beside_the_user_then_with_the_user_then_in_the_system() {
        let root = tempfile::tempdir().unwrap();
        let working = root.path().join("work");
        let home = root.path().join("home");
        let environment = Environment::from_iter([("HOME", home.to_str().unwrap())]);
        let directories = Directories::new(&environment, working.clone(), root.path());
        let of_user = home.join(".local/share/mcp-manager/templates");
        assert_eq!(directories.templates(), of_user, "none exists: the user's is the one to make");
        let of_system = root.path().join("usr/share/mcp-manager/templates");
        for next in [of_system, of_user, working.join("templates")] {
            std::fs::create_dir_all(&next).unwrap();
            assert_eq!(directories.templates(), next);
        }
    }
}
