//! The recipe of a package's image: the script that installs it in a container of a base image, and what the image runs.
//!
//! Nothing of the package runs while it is installed: install scripts are off for npm, and only wheels are taken from
//! `PyPI`, unless somebody says otherwise. What was installed is looked at as files, by an interpreter that is not among them
//! and loads none of them: a wheel's `.pth` runs with every start of an interpreter that has it. What was resolved is said on
//! the script's output and becomes a label. The image's program is `/opt/server/run`, whatever the package calls it.

use std::collections::BTreeMap;

use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::said::{LOCK, STEP};
use super::{Ecosystem, Package};

/// Label with the package that was asked for.
pub const SOURCE_LABEL: &str = "io.mcp-manager.package";

/// Label with the image that it begins with.
pub const BASE_LABEL: &str = "io.mcp-manager.base";

/// Label with the versions that were resolved, as a JSON object from names to versions.
pub const LOCK_LABEL: &str = "io.mcp-manager.lock";

/// Who the server runs as. It owns nothing in the image.
pub const USER: &str = "65532:65532";

/// Where a server's files are in its image.
pub const DIRECTORY: &str = "/opt/server";

/// What programs of the distribution need for being installed.
pub(super) const SYSTEM_CAPABILITIES: [&str; 5] = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"];

/// How an image is made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The image that it begins with.
    pub base_image: String,
    /// Run what packages want to run while they are installed.
    pub install_scripts: bool,
    /// The package's program, when it has several.
    pub program: Option<String>,
    /// Further packages of the same registry, with the versions that are wanted.
    pub with: Vec<String>,
    /// Packages of the base image's distribution.
    pub system: Vec<String>,
}

/// A recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// Name of the image: of its package, with a digest of the recipe as its tag.
    pub image: String,
    /// What installs the package, for `sh`.
    pub script: String,
    /// How many steps the script says.
    pub steps: u64,
    /// What the script may do beyond what every process may.
    pub capabilities: Vec<String>,
    /// Variables of the script and of the server.
    pub environment: BTreeMap<String, String>,
    /// The server's program.
    pub entrypoint: Vec<String>,
}

/// Finds the program, puts it where the image starts it, and says what was installed.
const NPM_SCRIPT: &str = r#"const fs=require("fs"),[mark,name,wish]=process.argv.slice(1);
const about=JSON.parse(fs.readFileSync(`node_modules/${name}/package.json`)),last=name.split("/").pop();
const bin=typeof about.bin==="string"?[last]:Object.keys(about.bin||{});
const found=wish?bin.find(b=>b===wish):bin.length===1?bin[0]:bin.find(b=>b===last);
if(!found){console.error(`the package has ${bin.length?"the programs "+bin.join(", "):"no program"}`);process.exit(64)}
fs.symlinkSync(`/opt/server/node_modules/.bin/${found}`,"/opt/server/run");const lock={};
const all=JSON.parse(fs.readFileSync("package-lock.json")).packages;
for(const p of Object.keys(all).sort())if(p)lock[p.replace(/^node_modules\//,"")]=all[p].version||"";
console.log(mark+JSON.stringify(lock));"#;

/// The same for Python, and the installer goes, which is no part of the server.
const PYPI_SCRIPT: &str = r#"import json,os,re,shutil,sys,sysconfig
from importlib.metadata import distributions
mark,name=sys.argv[1:3]
wish=sys.argv[3] if len(sys.argv)>3 else ""
flat=lambda t:re.sub("[-_.]+","-",t).lower()
base=dict.fromkeys(("base","platbase"),"/opt/server")
sites={os.path.realpath(sysconfig.get_path(kind,"posix_prefix",base)) for kind in ("purelib","platlib")}
sites=sorted(filter(os.path.isdir,sites))
lock,bins={},set()
for d in distributions(path=sites):
    called=d.metadata["Name"] or ""
    if flat(called)=="pip":
        continue
    lock[called]=d.version
    if flat(called)==flat(name):
        bins.update(e.name for e in d.entry_points if e.group=="console_scripts" and re.fullmatch("[A-Za-z0-9._-]+",e.name))
bins=sorted(bins)
found=[b for b in bins if b==wish] if wish else bins if len(bins)==1 else [b for b in bins if flat(b)==flat(name)]
if not found:
    print("the package has "+("the programs "+", ".join(bins) if bins else "no program"),file=sys.stderr)
    sys.exit(64)
os.symlink("/opt/server/bin/"+found[0],"/opt/server/run")
for folder in sites:
    for entry in os.listdir(folder):
        if re.fullmatch("pip|pip-[^-]*[.]dist-info",entry):
            shutil.rmtree(os.path.join(folder,entry))
for entry in os.listdir("/opt/server/bin"):
    if re.fullmatch("pip[0-9.]*",entry):
        os.remove("/opt/server/bin/"+entry)
print(mark+json.dumps(lock,sort_keys=True))"#;

/// Installs packages of whichever distribution this is.
const SYSTEM_SCRIPT: &str = "if command -v apt-get >/dev/null; then
export DEBIAN_FRONTEND=noninteractive
apt-get update -q -o APT::Sandbox::User=root >&2
apt-get install -y -q --no-install-recommends \"$@\" >&2
rm -rf /var/lib/apt/lists/*
elif command -v apk >/dev/null; then apk add --no-cache \"$@\" >&2
else echo 'the base image has neither apt-get nor apk' >&2; exit 65; fi";

/// The recipe for a package.
#[must_use]
pub fn recipe(package: &Package, options: &Options) -> Recipe {
    let Package { ecosystem, name, version } = package;
    let between = if *ecosystem == Ecosystem::Npm { "@" } else { "==" };
    let wanted = version.as_ref().map_or_else(|| name.clone(), |version| format!("{name}{between}{version}"));
    let mut wanted: Vec<&str> = vec![&wanted];
    wanted.extend(options.with.iter().map(String::as_str));
    let program = options.program.iter().map(String::as_str);
    let finish = [LOCK, name].into_iter().chain(program);
    let mut script = Script::default();
    if !options.system.is_empty() {
        script.step(&format!("installing {}", options.system.join(", ")));
        script.command(["set", "--"].into_iter().chain(options.system.iter().map(String::as_str)));
        script.line(SYSTEM_SCRIPT);
    }
    let mut environment = BTreeMap::from([("HOME".to_owned(), "/tmp".to_owned())]);
    let mut variable = |name: &str, value: &str| environment.insert(name.to_owned(), value.to_owned());
    match ecosystem {
        Ecosystem::Npm => {
            let scripts = if options.install_scripts { "--foreground-scripts" } else { "--ignore-scripts" };
            script.command(["mkdir", "-p", DIRECTORY]);
            script.command(["cd", DIRECTORY]);
            script.step(&format!("installing {}", wanted.join(", ")));
            let install = ["npm", "install", "--omit=dev", "--no-audit", "--no-fund", "--no-update-notifier", scripts, "--"];
            script.quiet(install.into_iter().chain(wanted));
            script.step("looking at what was installed");
            script.command(["node", "-e", NPM_SCRIPT, "--"].into_iter().chain(finish));
            variable("NODE_ENV", "production");
        }
        Ecosystem::Pypi => {
            let binaries = if options.install_scripts { "--prefer-binary" } else { "--only-binary=:all:" };
            script.step("making a virtual environment");
            script.quiet(["python3", "-m", "venv", DIRECTORY]);
            script.step(&format!("installing {}", wanted.join(", ")));
            let pip = ["/opt/server/bin/python", "-m", "pip", "--no-input", "--disable-pip-version-check"];
            let install = ["install", "--progress-bar=off", "--no-cache-dir", binaries, "--"];
            script.quiet(pip.into_iter().chain(install).chain(wanted));
            script.step("looking at what was installed");
            // From here on nothing in the virtual environment may run, not even its interpreter.
            script.command(["python3", "-I", "-S", "-c", PYPI_SCRIPT].into_iter().chain(finish));
            variable("PYTHONUNBUFFERED", "1");
            variable("PYTHONDONTWRITEBYTECODE", "1");
        }
    }
    let capabilities = if options.system.is_empty() { &[][..] } else { &SYSTEM_CAPABILITIES[..] };
    let entrypoint = vec![format!("{DIRECTORY}/run")];
    let whole = json!([options.base_image, script.text, environment, entrypoint, capabilities, USER]);
    let tag = crate::domain::hex(&Sha256::digest(whole.to_string())[..6]);
    let path = name.trim_start_matches('@').to_ascii_lowercase().replace(['/', '_', '.'], "-");
    Recipe {
        image: format!("localhost/mcp-manager/{}-{path}:{tag}", ecosystem.as_str()),
        script: script.text,
        steps: script.steps,
        capabilities: capabilities.iter().map(|name| (*name).to_owned()).collect(),
        environment,
        entrypoint,
    }
}

/// A script that is being written.
#[derive(Default)]
pub(super) struct Script {
    pub(super) text: String,
    pub(super) steps: u64,
}

impl Script {
    /// Says what comes.
    pub(super) fn step(&mut self, what: &str) {
        self.steps += 1;
        self.command(["echo", &format!("{STEP}{what}")]);
    }

    /// One command, whose words are taken as they are.
    pub(super) fn command<'w>(&mut self, words: impl IntoIterator<Item = &'w str>) {
        self.line(&joined(words));
    }

    /// One command that repeats what others say: all of it goes to standard error, where it is no more than words.
    fn quiet<'w>(&mut self, words: impl IntoIterator<Item = &'w str>) {
        self.line(&format!("{} >&2", joined(words)));
    }

    /// A file with this text.
    pub(super) fn file(&mut self, path: &str, text: &str) {
        self.line(&format!("{} >{}", joined(["printf", "%s", text]), quoted(path)));
    }

    pub(super) fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }
}

/// A command of these words.
fn joined<'w>(words: impl IntoIterator<Item = &'w str>) -> String {
    words.into_iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// A word as `sh` reads it back.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./@=:,+".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Source;
    use super::*;

    fn package(source: &str) -> Package {
        let Source::Package(package) = source.parse().unwrap() else { panic!("{source}") };
        package
    }

    fn made(source: &str, options: Options) -> Recipe {
        let base_image = "docker.io/library/debian:13-slim".to_owned();
        recipe(&package(source), &Options { base_image, ..options })
    }

    #[test]
    fn recipes_are_small_and_say_everything() {
        let git = Options { system: vec!["git".into()], with: vec!["mcp<2".into()], ..Options::default() };
        let shown =
            [made("npm:@modelcontextprotocol/server-everything@1.0.0", Options::default()), made("pypi:mcp-server-git", git)]
                .map(|recipe| format!("{}\n{}\n{:?}", recipe.image, recipe.script, recipe.capabilities));
        insta::assert_snapshot!(shown.join("\n"));
    }

    #[test]
    fn nothing_of_a_package_runs_while_it_is_installed_unless_allowed() {
        let script = |source: &str, install_scripts: bool| made(source, Options { install_scripts, ..Options::default() }).script;
        assert!(script("npm:a", false).contains(" --ignore-scripts "));
        assert!(!script("npm:a", true).contains("--ignore-scripts"));
        assert!(script("pypi:a", false).contains(" --only-binary=:all: "));
        assert!(!script("pypi:a", true).contains("--only-binary"));
    }

    #[test]
    fn what_was_installed_does_not_run_after_it_was_and_what_installers_say_is_not_taken_for_the_script_s_words() {
        for source in ["npm:a", "pypi:a"] {
            let script = made(source, Options { system: vec!["git".into()], ..Options::default() }).script;
            let (before, after) = script.split_once("looking at what was installed").unwrap();
            assert!(!after.contains("/opt/server/bin/python") && !after.contains(" -m "), "{after}");
            let installers =
                before.lines().filter(|line| [" install ", " update ", " add ", " -m "].iter().any(|word| line.contains(word)));
            for line in installers.filter(|line| !line.contains(STEP)) {
                assert!(line.ends_with(" >&2"), "{line}");
            }
        }
    }

    #[test]
    fn the_image_s_name_follows_from_what_is_in_it() {
        let image = |source: &str| made(source, Options::default()).image;
        assert_eq!(image("npm:a@1"), image("npm:a@1"));
        assert_ne!(image("npm:a@1"), image("npm:a@2"));
        assert_ne!(image("npm:a@1"), made("npm:a@1", Options { install_scripts: true, ..Options::default() }).image);
        assert_ne!(image("pypi:a"), made("pypi:a", Options { with: vec!["b<2".into()], ..Options::default() }).image);
        for source in ["npm:@x/y_z.w@1", "pypi:A.b_C"] {
            assert!(crate::domain::spec::is_image(&image(source)), "{}", image(source));
        }
    }

    #[test]
    fn every_step_is_counted() {
        for source in ["npm:a", "pypi:a"] {
            let recipe = made(source, Options { system: vec!["git".into()], ..Options::default() });
            let said = recipe.script.lines().filter(|line| line.contains(STEP.trim())).count();
            assert_eq!(said as u64, recipe.steps, "{}", recipe.script);
        }
    }

    proptest! {
        #[test]
        fn words_reach_the_command_as_they_are(word in "\\PC*") {
            prop_assert_eq!(shlex::split(&quoted(&word)), Some(vec![word]));
        }
    }
}
