//! Images of the templates that come with the manager. Their recipes, the folders below `docker/`, are in the program, so
//! that an image which is missing can be made wherever the manager runs. Pure.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::Ecosystem;
use super::recipe::{SYSTEM_CAPABILITIES, Script};

/// Label with the digest of the recipe that an image was made by.
pub const RECIPE_LABEL: &str = "io.mcp-manager.recipe";

/// Where `docker/` says `$PATH`: that of the base images.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A folder below `docker/`.
struct Folder {
    name: &'static str,
    dockerfile: &'static str,
    /// What its Dockerfile copies, by name.
    files: &'static [(&'static str, &'static str)],
}

macro_rules! folder {
    ($name:literal $(, $file:literal)*) => {
        Folder {
            name: $name,
            dockerfile: include_str!(concat!("../../../docker/", $name, "/Dockerfile")),
            files: &[$(($file, include_str!(concat!("../../../docker/", $name, "/", $file)))),*],
        }
    };
}

static FOLDERS: [Folder; 9] = [
    folder!("everything"),
    folder!("fastapi", "main.py", "requirements.txt"),
    folder!("fetch", "requirements.txt"),
    folder!("filesystem"),
    folder!("git", "requirements.txt"),
    folder!("memory"),
    folder!("sequential-thinking"),
    folder!("sqlite", "requirements.txt"),
    folder!("time", "requirements.txt"),
];

/// How an image is made: what its Dockerfile says, for the one way in which the manager makes images.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shipped {
    /// Name of the folder.
    pub name: &'static str,
    /// The image that it begins with.
    pub base: String,
    /// What is run in it, for `sh`.
    pub script: String,
    /// How many steps the script says.
    pub steps: u64,
    /// What the script may do beyond what every process may.
    pub capabilities: Vec<String>,
    /// Variables of the script and of the image.
    pub environment: BTreeMap<String, String>,
    /// Program of the image, if it names one.
    pub entrypoint: Vec<String>,
    /// The program's arguments, or the program.
    pub command: Vec<String>,
    /// Who it runs as, `UID:GID`.
    pub user: String,
    /// Working directory of the image.
    pub directory: String,
    /// Digest of all that it is made of.
    pub digest: String,
}

impl Shipped {
    /// The registry whose packages are in it.
    #[must_use]
    pub fn ecosystem(&self) -> Ecosystem {
        if self.script.contains("npm install") { Ecosystem::Npm } else { Ecosystem::Pypi }
    }
}

/// Names of the images that can be made, after `localhost/mcp/`.
pub fn names() -> impl Iterator<Item = &'static str> {
    FOLDERS.iter().map(|folder| folder.name)
}

/// The recipe of an image, if it is the one that a shipped template names.
#[must_use]
pub fn shipped(image: &str) -> Option<Shipped> {
    let name = image.strip_prefix("localhost/mcp/")?;
    let name = name.strip_suffix(":latest").unwrap_or(name);
    FOLDERS.iter().find(|folder| folder.name == name).map(read)
}

/// Reads a Dockerfile of ours, which uses no more of that language than this.
fn read(folder: &Folder) -> Shipped {
    let mut made = Shipped { name: folder.name, directory: "/".to_owned(), ..Shipped::default() };
    let mut script = Script::default();
    for line in instructions(folder.dockerfile) {
        let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let program = || serde_json::from_str(rest).unwrap_or_default();
        match word {
            "FROM" => rest.clone_into(&mut made.base),
            "COPY" => {
                let (files, place) = rest.rsplit_once(' ').unwrap_or_default();
                script.command(["mkdir", "-p", place]);
                for (file, text) in files.split(' ').filter_map(|file| folder.files.iter().find(|(name, _)| *name == file)) {
                    script.file(&format!("{place}{file}"), text);
                }
            }
            "RUN" => {
                script.step(rest.split("&&").next().unwrap_or(rest).trim());
                // In a shell of its own, where what stands before an `&&` ends it, too. What it says is not the script's own word.
                script.line(&format!("( {rest} ) >&2"));
            }
            "ENV" => made.environment.extend(rest.split(' ').filter_map(|pair| {
                let (name, value) = pair.split_once('=')?;
                Some((name.to_owned(), value.replace("$PATH", PATH)))
            })),
            "USER" => rest.clone_into(&mut made.user),
            "WORKDIR" => rest.clone_into(&mut made.directory),
            "ENTRYPOINT" => made.entrypoint = program(),
            "CMD" => made.command = program(),
            // EXPOSE: the template says the port.
            _ => {}
        }
    }
    // The image's own root does not let even root make folders in it.
    let beside = |line: &str| line.starts_with("COPY") && !line.contains(" /opt/");
    let needs_rights = |line: &str| line.contains("apt-get") || line.contains("--owner") || beside(line);
    if folder.dockerfile.lines().any(needs_rights) {
        made.capabilities = SYSTEM_CAPABILITIES.map(str::to_owned).to_vec();
    }
    (made.script, made.steps) = (script.text, script.steps);
    made.digest = crate::domain::hex(&Sha256::digest(format!("{made:?}"))[..6]);
    made
}

/// The instructions of a Dockerfile, each in one line.
fn instructions(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut begun = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (part, goes_on) = line.strip_suffix('\\').map_or((line, false), |part| (part.trim_end(), true));
        begun.push_str(part);
        if goes_on {
            begun.push(' ');
        } else {
            all.push(std::mem::take(&mut begun));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_folder_is_read_as_its_dockerfile_says() {
        let git = shipped("localhost/mcp/git:latest").unwrap();
        insta::assert_snapshot!(format!("{git:#?}\n{}", git.script));
        for name in names() {
            let recipe = shipped(&format!("localhost/mcp/{name}:latest")).unwrap();
            let runs = recipe.entrypoint.len() + recipe.command.len();
            assert!(recipe.base.starts_with("docker.io/") && runs > 0 && recipe.user == "1000:1000", "{recipe:?}");
            assert!(recipe.environment.values().all(|value| !value.contains('$')), "{recipe:?}");
            assert!(recipe.script.contains("install") && recipe.steps > 0, "{recipe:?}");
        }
    }

    #[test]
    fn nothing_in_the_dockerfiles_goes_unread() {
        for folder in &FOLDERS {
            for line in instructions(folder.dockerfile) {
                let (word, rest) = line.split_once(' ').unwrap();
                let known = ["FROM", "COPY", "RUN", "ENV", "USER", "WORKDIR", "ENTRYPOINT", "CMD", "EXPOSE"].contains(&word);
                let one_base = word != "FROM" || !rest.contains(' ');
                let plain = word != "ENV" || rest.split(' ').all(|pair| pair.contains('=') && !pair.contains(['"', '\'']));
                let at_hand = word != "COPY" || {
                    let (files, place) = rest.rsplit_once(' ').unwrap();
                    place.ends_with('/') && files.split(' ').all(|file| folder.files.iter().any(|(name, _)| *name == file))
                };
                let list = !["ENTRYPOINT", "CMD"].contains(&word) || serde_json::from_str::<Vec<String>>(rest).is_ok();
                assert!(known && one_base && plain && at_hand && list, "{}: {line}", folder.name);
            }
        }
    }

    #[test]
    fn other_images_are_not_ours_to_make() {
        for image in
            ["localhost/mcp/time:1", "localhost/mcp/echo:latest", "mcp/time", "docker.io/mcp/time:latest", "localhost/mcp/"]
        {
            assert_eq!(shipped(image), None, "{image}");
        }
        assert_eq!(shipped("localhost/mcp/time"), shipped("localhost/mcp/time:latest"));
    }
}
