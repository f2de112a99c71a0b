//! The recipe of a package's image, and the template that runs the image.
//!
//! The image holds the package and what it needs, and nothing of it runs while it is made: install scripts are off for npm,
//! and only wheels are taken from `PyPI`, unless somebody says otherwise. What was resolved is said on the build's output and
//! becomes a label. The image's program is `/opt/server/run`, whatever the package calls it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::{Ecosystem, Package, Source};
use crate::domain::spec::Transport;

/// What the line of the build's output begins with that says which versions were resolved.
pub const LOCK_LINE: &str = "mcp-manager-lock ";

/// Label with the package that was asked for.
pub const SOURCE_LABEL: &str = "io.mcp-manager.package";

/// Label with the versions that were resolved, as a JSON object from names to versions.
pub const LOCK_LABEL: &str = "io.mcp-manager.lock";

/// Label of templates and services with where their server comes from.
pub const TEMPLATE_LABEL: &str = "mcp-package";

/// Who the server runs as. It owns nothing in the image.
const USER: u32 = 65_532;

/// Where a server's files are in its image.
const DIRECTORY: &str = "/opt/server";

/// How an image is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The image that it begins with.
    pub base_image: String,
    /// Run what packages want to run while they are installed.
    pub install_scripts: bool,
    /// The package's program, when it has several.
    pub program: Option<String>,
}

/// A recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// Name of the image: of its package, with a digest of the recipe as its tag.
    pub image: String,
    /// The Containerfile.
    pub containerfile: String,
}

/// Finds the program, puts it where the image starts it, and says what was installed.
const NPM_SCRIPT: &str = r#"const fs=require("fs"),[name,wish]=process.argv.slice(1);process.chdir("/opt/server");
const about=JSON.parse(fs.readFileSync(`node_modules/${name}/package.json`)),last=name.split("/").pop();
const bin=typeof about.bin==="string"?[last]:Object.keys(about.bin||{});
const found=wish?bin.find(b=>b===wish):bin.length===1?bin[0]:bin.find(b=>b===last);
if(!found){console.error(`the package has ${bin.length?"the programs "+bin.join(", "):"no program"}; name one`);process.exit(64)}
fs.symlinkSync(`/opt/server/node_modules/.bin/${found}`,"/opt/server/run");const lock={};
const all=JSON.parse(fs.readFileSync("package-lock.json")).packages;
for(const p of Object.keys(all).sort())if(p)lock[p.replace(/^node_modules\//,"")]=all[p].version||"";
console.log("mcp-manager-lock "+JSON.stringify(lock));"#;

/// The same for Python.
const PYPI_SCRIPT: &str = r#"import json,os,sys
from importlib.metadata import distribution,distributions
name,wish=sys.argv[1],(sys.argv[2:] or [""])[0]
flat=lambda t:t.lower().replace("_","-").replace(".","-")
bins=[e.name for e in distribution(name).entry_points if e.group=="console_scripts"]
found=[b for b in bins if b==wish] if wish else bins if len(bins)==1 else [b for b in bins if flat(b)==flat(name)]
if not found: sys.exit("the package has "+("the programs "+", ".join(bins) if bins else "no program")+"; name one")
os.symlink("/opt/server/bin/"+found[0],"/opt/server/run")
lock={d.metadata["Name"]:d.version for d in distributions(path=[p for p in sys.path if p.startswith("/opt/server")])}
print("mcp-manager-lock "+json.dumps(lock,sort_keys=True))"#;

/// The recipe for a package.
#[must_use]
pub fn recipe(package: &Package, options: &Options) -> Recipe {
    let Package { ecosystem, name, version } = package;
    let install: Vec<String> = match ecosystem {
        Ecosystem::Npm => {
            let wanted = version.as_ref().map_or_else(|| name.clone(), |version| format!("{name}@{version}"));
            let scripts = if options.install_scripts { "--foreground-scripts" } else { "--ignore-scripts" };
            ["npm", "install", "--omit=dev", "--no-audit", "--no-fund", "--no-update-notifier", scripts, &wanted]
                .map(str::to_owned)
                .to_vec()
        }
        Ecosystem::Pypi => {
            let wanted = version.as_ref().map_or_else(|| name.clone(), |version| format!("{name}=={version}"));
            let binaries = if options.install_scripts { "--prefer-binary" } else { "--only-binary=:all:" };
            ["/opt/server/bin/pip", "install", "--no-cache-dir", "--no-input", "--disable-pip-version-check", binaries, &wanted]
                .map(str::to_owned)
                .to_vec()
        }
    };
    let program = options.program.iter().cloned();
    let (prepare, finish): (Vec<Vec<String>>, Vec<String>) = match ecosystem {
        Ecosystem::Npm => {
            let finish = ["node", "-e", &NPM_SCRIPT.replace('\n', ""), name].map(str::to_owned);
            (Vec::new(), finish.into_iter().chain(program).collect())
        }
        Ecosystem::Pypi => {
            let venv = ["python", "-m", "venv", DIRECTORY].map(str::to_owned).to_vec();
            let finish = ["/opt/server/bin/python", "-c", PYPI_SCRIPT, name].map(str::to_owned);
            (vec![venv], finish.into_iter().chain(program).collect())
        }
    };
    let run = |words: &Vec<String>| format!("RUN {}", json!(words));
    let mut lines = vec![
        format!("FROM {}", options.base_image),
        format!("WORKDIR {DIRECTORY}"),
        "ENV HOME=/tmp NODE_ENV=production PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1".to_owned(),
    ];
    lines.extend(prepare.iter().map(run));
    // What installers keep for the next time is of no use in an image.
    lines.push(format!("RUN --mount=type=tmpfs,target=/tmp {}", json!(install)));
    lines.push(run(&finish));
    lines.push(format!("USER {USER}:{USER}"));
    lines.push(format!("ENTRYPOINT {}", json!([format!("{DIRECTORY}/run")])));
    let containerfile = lines.join("\n") + "\n";
    let digest = Sha256::digest(containerfile.as_bytes());
    let tag = digest.iter().take(6).fold(String::new(), |tag, byte| tag + &format!("{byte:02x}"));
    let path = name.trim_start_matches('@').to_ascii_lowercase().replace(['/', '_', '.'], "-");
    Recipe { image: format!("localhost/mcp-manager/{}-{path}:{tag}", ecosystem.as_str()), containerfile }
}

/// The recipe that adds labels to an image, under the name that services use.
#[must_use]
pub fn labelled(image: &str, labels: &BTreeMap<String, String>) -> String {
    // A dollar would be taken for a variable.
    let label =
        |(name, value): (&String, &String)| format!("LABEL {}={}\n", json!(name), json!(value).to_string().replace('$', "\\$"));
    std::iter::once(format!("FROM {image}\n")).chain(labels.iter().map(label)).collect()
}

/// What a template is made of.
#[derive(Debug, Clone, Default)]
pub struct TemplateParts {
    /// Its name.
    pub name: String,
    /// One sentence for people.
    pub description: Option<String>,
    /// Where the server comes from.
    pub source: String,
    /// The image.
    pub image: String,
    /// It is never pulled, since it was made here.
    pub made_here: bool,
    /// How clients talk to it.
    pub transport: Transport,
    /// Port on which it listens.
    pub port: Option<u16>,
    /// Arguments after the image's program.
    pub arguments: Vec<String>,
    /// Variables with values.
    pub environment: BTreeMap<String, String>,
    /// Variables filled from secrets.
    pub secrets: BTreeMap<String, String>,
    /// Variables that each service has to be given.
    pub required: Vec<String>,
    /// May open connections to the outside.
    pub egress: bool,
}

/// The template of a server: a document to be kept and edited.
#[must_use]
pub fn template(parts: &TemplateParts) -> Value {
    let mut document = Map::new();
    let mut put = |name: &str, value: Value| document.insert(name.to_owned(), value);
    put("name", json!(parts.name));
    if let Some(description) = &parts.description {
        put("description", json!(description));
    }
    put("image", json!(parts.image));
    put("transport", json!(parts.transport));
    if parts.made_here {
        put("pull_policy", json!("never"));
    }
    if let Some(port) = parts.port {
        put("port", json!(port));
    }
    if !parts.arguments.is_empty() {
        put("command", json!(parts.arguments));
    }
    for (name, map) in [("environment", &parts.environment), ("secrets", &parts.secrets)] {
        if !map.is_empty() {
            put(name, json!(map));
        }
    }
    if !parts.required.is_empty() {
        put("required_env_vars", json!(parts.required));
    }
    put("labels", json!({TEMPLATE_LABEL: parts.source}));
    if parts.egress {
        put("egress", json!(true));
    }
    Value::Object(document)
}

impl Source {
    /// What a template says of where its server comes from.
    #[must_use]
    pub fn description(&self) -> String {
        match self {
            Self::Package(package) => format!("The package {package}"),
            Self::Image(image) => format!("The image {image}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::template::Template;

    fn made(source: &str, scripts: bool) -> Recipe {
        let Source::Package(package) = source.parse().unwrap() else { panic!("{source}") };
        let base = match package.ecosystem {
            Ecosystem::Npm => "docker.io/library/node:22-slim",
            Ecosystem::Pypi => "docker.io/library/python:3.13-slim",
        };
        recipe(&package, &Options { base_image: base.to_owned(), install_scripts: scripts, program: None })
    }

    #[test]
    fn recipes_are_small_and_say_everything() {
        let shown = ["npm:@modelcontextprotocol/server-everything@1.0.0", "pypi:mcp-server-time"].map(|source| {
            let recipe = made(source, false);
            format!("{}\n{}", recipe.image, recipe.containerfile)
        });
        insta::assert_snapshot!(shown.join("\n"));
    }

    #[test]
    fn nothing_of_a_package_runs_while_it_is_installed_unless_allowed() {
        assert!(made("npm:a", false).containerfile.contains("--ignore-scripts"));
        assert!(!made("npm:a", true).containerfile.contains("--ignore-scripts"));
        assert!(made("pypi:a", false).containerfile.contains("--only-binary=:all:"));
        assert!(!made("pypi:a", true).containerfile.contains("--only-binary"));
    }

    #[test]
    fn the_image_s_name_follows_from_what_is_in_it() {
        let image = |source: &str| made(source, false).image;
        assert_eq!(image("npm:a@1"), image("npm:a@1"));
        assert_ne!(image("npm:a@1"), image("npm:a@2"));
        assert_ne!(image("npm:a@1"), made("npm:a@1", true).image);
        for source in ["npm:@x/y_z.w@1", "pypi:A.b_C"] {
            assert!(crate::domain::spec::is_image(&image(source)), "{}", image(source));
        }
    }

    #[test]
    fn templates_that_are_made_are_valid() {
        let parts = TemplateParts {
            name: "time".into(),
            description: Some("The package pypi:mcp-server-time".into()),
            source: "pypi:mcp-server-time".into(),
            image: "localhost/mcp-manager/pypi-mcp-server-time:0123".into(),
            made_here: true,
            transport: Transport::Stdio,
            arguments: vec!["--local-timezone".into(), "UTC".into()],
            environment: BTreeMap::from([("A".into(), "b".into())]),
            secrets: BTreeMap::from([("KEY".into(), "time-key".into())]),
            required: vec!["PLACE".into()],
            ..TemplateParts::default()
        };
        let template = Template::from_document(&template(&parts), None).unwrap();
        assert_eq!(template.name, "time");
        assert_eq!(template.required_env_vars, ["PLACE"]);
    }

    #[test]
    fn labels_hold_any_text() {
        let labels = BTreeMap::from([("a".to_owned(), "{\"x\": \"$1 \\\" é\"}".to_owned())]);
        assert_eq!(labelled("i:1", &labels), "FROM i:1\nLABEL \"a\"=\"{\\\"x\\\": \\\"\\$1 \\\\\\\" é\\\"}\"\n");
    }
}
