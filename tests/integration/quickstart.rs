//! `scripts/quickstart.sh` on machines that lack something: it ends at once, says what is missing, and what to do about it.
//!
//! Nothing is installed or set up here: the script ends before. Machines that lack packages, network or a right are played
//! with this one's own means: a list of packages that is empty, a namespace without network, a search path without sudo.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::support::free_port;
use crate::support::machine::{Part, offered};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/quickstart.sh");
/// Longer than the script's own limits on what it fetches.
const PATIENCE: Duration = Duration::from_mins(3);
/// Some of the packages that it needs.
const PACKAGES: [&str; 4] = ["podman", "uidmap", "aardvark-dns", "gcc"];

/// Folders for one run.
struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    /// The programs of this machine, but for these.
    fn without(programs: &[&str]) -> Self {
        let machine = Self { folder: tempfile::tempdir().unwrap() };
        let own = machine.folder("bin");
        for folder in ["/usr/bin", "/bin", "/usr/sbin", "/sbin"] {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let name = entry.file_name();
                if !programs.iter().any(|program| *program == name) {
                    // The same program may be in two of them.
                    let _ = symlink(entry.path(), own.join(&name));
                }
            }
        }
        machine
    }

    fn folder(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// With nothing installed, as far as the list of packages says.
    fn bare(&self) -> (&'static str, PathBuf) {
        let folder = self.folder("dpkg");
        std::fs::write(folder.join("status"), "").unwrap();
        ("DPKG_ADMINDIR", folder)
    }

    /// Runs the script by this command, which it follows; it must fail. What it says then.
    async fn fails(&self, before: &[&str], variables: &[(&str, PathBuf)]) -> String {
        let port = free_port().to_string();
        let mut words = before.iter().copied().chain([SCRIPT, "--port", &port]);
        let mut command = Command::new(words.next().unwrap());
        command
            .args(words)
            .env("PATH", self.folder("bin"))
            .env("MCP_CACHE", self.folder("cache"))
            .env("CARGO_HOME", self.folder("cargo"))
            .env("XDG_STATE_HOME", self.folder("state"))
            .env_remove("CARGO_TARGET_DIR")
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let Output { status, stdout, stderr } = timeout(PATIENCE, command.output()).await.expect("it ends").unwrap();
        let (said, failure) = (String::from_utf8_lossy(&stdout).into_owned(), String::from_utf8_lossy(&stderr).into_owned());
        assert_eq!(status.code(), Some(1), "{said}\n{failure}");
        assert!(failure.contains("quickstart.sh: failed:"), "{said}\n{failure}");
        failure
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_root_and_sudo_the_quick_start_says_which_packages_root_has_to_install() {
    if offered(Part::Podman).is_none() {
        return;
    }
    let machine = Machine::without(&["sudo"]);
    let said = machine.fails(&[], &[machine.bare()]).await;
    assert!(said.contains("this step needs root: apt-get install "), "{said}");
    assert!(PACKAGES.iter().all(|package| said.contains(package)), "{said}");
    assert!(said.contains("You are not root and there is no sudo") && said.contains("apt-get install sudo"), "{said}");

    // One that refuses, or wants a password, of which there is nobody to ask.
    let sudo = machine.folder("bin").join("sudo");
    std::fs::write(&sudo, "#!/bin/sh\nexit 1\n").unwrap();
    std::fs::set_permissions(&sudo, std::fs::Permissions::from_mode(0o755)).unwrap();
    let said = machine.fails(&[], &[machine.bare()]).await;
    assert!(said.contains("this step needs root: apt-get install ") && said.contains("sudo refused"), "{said}");
    assert!(said.contains("Run 'sudo -v' first, or run this script as root."), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_network_the_quick_start_names_the_packages_that_are_missing() {
    if offered(Part::Podman).is_none() {
        return;
    }
    let machine = Machine::without(&[]);
    // Of apt everything is the machine's own but for its folders, which only the real root may write.
    let settings = machine.folder("apt").join("apt.conf");
    for folder in ["state/lists/partial", "cache/archives/partial", "etc", "log"] {
        machine.folder(&format!("apt/{folder}"));
    }
    let (dpkg, admin) = machine.bare();
    let apt = machine.folder("apt").display().to_string();
    std::fs::write(machine.folder("apt/etc").join("sources.list"), "deb http://deb.debian.org/debian stable main\n").unwrap();
    let text = format!(
        "Dir::State \"{apt}/state\";\nDir::State::status \"{}/status\";\nDir::Cache \"{apt}/cache\";\nDir::Etc \"{apt}/etc\";\n\
         Dir::Log \"{apt}/log\";\nAPT::Sandbox::User \"root\";\nAcquire::Retries \"0\";\n",
        admin.display()
    );
    std::fs::write(&settings, text).unwrap();
    // Root of a namespace of its own, in which there is no network at all.
    let alone = ["unshare", "--user", "--map-root-user", "--net"];
    let said = machine.fails(&alone, &[(dpkg, admin), ("APT_CONFIG", settings)]).await;
    assert!(said.contains("apt cannot reach the Debian archive, and these packages are missing: "), "{said}");
    assert!(PACKAGES.iter().all(|package| said.contains(package)), "{said}");
    assert!(said.contains("Give the machine network") && said.contains("apt-get install --no-install-recommends "), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_way_to_rust_the_quick_start_says_so_and_how_to_do_without() {
    if offered(Part::Podman).is_none() {
        return;
    }
    let machine = Machine::without(&["cargo", "rustc", "rustup"]);
    // Nobody listens there, so nothing is reached; Podman, which is set up already, needs nobody.
    let nowhere = PathBuf::from("http://127.0.0.1:1");
    let said = machine.fails(&[], &[("http_proxy", nowhere.clone()), ("https_proxy", nowhere)]).await;
    if Path::new("/usr/local/cargo/bin/cargo").exists() {
        assert!(said.contains("cargo cannot reach the crate registry"), "{said}");
    } else {
        assert!(said.contains("Rust 1.95 or newer is needed to build, and found is: none"), "{said}");
        assert!(said.contains("could not be fetched from https://sh.rustup.rs"), "{said}");
        assert!(said.contains("./scripts/quickstart.sh --binaries FOLDER"), "{said}");
    }
    assert!(said.contains("Give the machine network (or a proxy: export https_proxy)"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_users_may_make_no_namespaces_the_quick_start_says_which_setting_allows_it() {
    if offered(Part::Podman).is_none() {
        return;
    }
    let machine = Machine::without(&["sudo"]);
    // A namespace's own limit, which its owner may set, forbids those inside of it.
    let forbidden = "echo 0 >/proc/sys/user/max_user_namespaces && exec \"$@\"";
    let alone = ["unshare", "--user", "--map-current-user", "--keep-caps", "sh", "-c", forbidden, "sh"];
    let said = machine.fails(&alone, &[]).await;
    assert!(said.contains("the kernel does not let users make user namespaces"), "{said}");
    assert!(said.contains("sysctl -w user.max_user_namespaces="), "{said}");
}
