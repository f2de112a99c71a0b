//! Packages as servers: an image is made for a package, or an existing one is looked at, and a template is written that
//! runs it. The recipe and the template are the domain's; making the image is the backend's.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::Manager;
use super::images::OnProgress;
use super::request::as_object;
use crate::backend::{Build, Built, ImageDetail};
use crate::domain::access::{Actor, Operation};
use crate::domain::fields;
use crate::domain::mcp_path::{is_path, path_label};
use crate::domain::package::known::{self, Known};
use crate::domain::package::lock::{self, Lock};
use crate::domain::package::recipe::{self, BASE_LABEL, DIRECTORY, LOCK_LABEL, Options, SOURCE_LABEL, USER};
use crate::domain::package::template::{self, TemplateParts, VERSION_LABEL};
use crate::domain::package::{Ecosystem, Package, Source, distribution, failure, is_system_package, is_with};
use crate::domain::quantity::Bytes;
use crate::domain::shown;
use crate::domain::spec::{MEMORY, PullPolicy, Transport, within};
use crate::domain::template::Template;
use crate::error::{Error, FieldError, Kind, Result};

/// How images of packages are made.
#[derive(Debug, Clone)]
pub struct PackageSettings {
    /// Image that those of npm packages begin with.
    pub npm_image: String,
    /// Image that those of `PyPI` packages begin with.
    pub pypi_image: String,
    /// Requests may let packages run programs while they are installed.
    pub allow_install_scripts: bool,
}

/// A package to be made a server of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PackageRequest {
    /// Where the server comes from: `npm:NAME[@VERSION]`, `pypi:NAME[@VERSION]` or `image:REFERENCE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = true, example = "npm:@modelcontextprotocol/server-everything")]
    pub source: Option<String>,
    /// Name of the template (default: the last part of the source's name).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// One sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The package's program, when it has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// Further packages of the same registry, with the versions that are wanted: `mcp<2` of `PyPI`, `NAME@VERSION` of npm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with: Option<Vec<String>>,
    /// Packages of the base image's distribution that the server needs, such as `git`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_packages: Option<Vec<String>>,
    /// Arguments for the server (default: those that a server is known to need).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Vec<String>>,
    /// Variables with values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<BTreeMap<String, String>>,
    /// Variables filled from secrets: `{"API_KEY": "name-of-secret"}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<BTreeMap<String, String>>,
    /// Variables that each service has to be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required_env_vars: Option<Vec<String>>,
    /// How clients talk to the server (default: `http` when a port is given or the image names one, else `stdio`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<Transport>,
    /// Port on which the server listens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Path at which the server speaks MCP (default: `/mcp`, or `/sse` of the transport `sse`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Limit of memory (default: the setting `DEFAULT_MEMORY_LIMIT`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = within(MEMORY))]
    pub memory_limit: Option<Bytes>,
    /// May open connections to the outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<bool>,
    /// Let packages run programs while they are installed, where the settings allow it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub install_scripts: Option<bool>,
    /// Replace a template of the same name that says something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replace: Option<bool>,
    /// Make the image anew, with what the registry has now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh: Option<bool>,
}

/// A package that can be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
pub struct PackageAnswer {
    /// Where the server comes from.
    pub source: String,
    /// Its image.
    pub image: String,
    /// The image was there already.
    pub cached: bool,
    /// The versions that were resolved, by name; absent for images that were not made here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<BTreeMap<String, String>>,
    /// Name of the template.
    pub template: String,
    /// The template's document.
    pub document: Value,
}

impl PackageRequest {
    /// Reads a request.
    pub fn read(document: &Value) -> Result<Self> {
        fields::read(as_object(document)?).map_err(|errors| Error::invalid("the request is not valid", errors))
    }
}

impl Manager {
    /// Makes a package, or an image, something that can be started: an image and a template. `cancelled` breaks it off.
    pub async fn add_package(
        self: &Arc<Self>,
        actor: &Actor,
        request: PackageRequest,
        progress: OnProgress,
        cancelled: CancellationToken,
    ) -> Result<PackageAnswer> {
        let source: Source = request.source.as_deref().unwrap_or_default().parse()?;
        let (manager, target) = (self.clone(), source.to_string());
        let work = async move {
            tokio::select! {
                answer = manager.package(request, source, progress) => answer,
                () = cancelled.cancelled() => Err(Error::called_off("the build was cancelled")),
            }
        };
        self.perform(actor, Operation::PackageAdd, &target, work).await
    }

    async fn package(&self, request: PackageRequest, source: Source, progress: OnProgress) -> Result<PackageAnswer> {
        let wrong_path = |message: &str| Error::invalid_field("path", message, "write e.g. /mcp, or leave it out");
        if !request.path.as_deref().is_none_or(is_path) {
            return Err(wrong_path("is not a path of letters, digits and /-_.~"));
        }
        let known = match &source {
            Source::Package(package) => known::of(package),
            Source::Image(_) => known::NOTHING,
        };
        let name = request.name.clone().unwrap_or_else(|| source.service_name());
        let (image, build) = match &source {
            Source::Package(package) => {
                let build = self.recipe(&request, package, &known)?;
                (build.image.clone(), Some((package, build)))
            }
            Source::Image(image) => (image.clone(), None),
        };
        // What is wrong with it is said before anybody waits for an image, as far as the image does not decide.
        let expected = template::template(&parts(&request, &source, &known, &name, &image, None));
        Template::from_document(&expected, None).map_err(|errors| Error::invalid("the template is not valid", errors))?;
        let present = || self.registry.list().detail(&name).ok().and_then(|detail| detail.document);
        let replace = request.replace.unwrap_or_default();
        if !replace && present().is_some_and(|present| !may_be_same(&present, &expected, &request)) {
            return Err(taken(&name));
        }
        let image = match build {
            Some((package, build)) => self.built(package, build, &progress).await?,
            None => self.looked_at(&image, &progress).await?,
        };
        let parts = parts(&request, &source, &known, &name, &image.name, Some(&image.detail));
        if request.path.is_some() && path_label(parts.transport).is_none() {
            return Err(wrong_path("is nothing for the transport stdio"));
        }
        let document = template::template(&parts);
        match present() {
            // What is written gets its version when it is kept.
            Some(present) if same(&present, &document) => {
                let version = &document["labels"][VERSION_LABEL];
                if present["labels"][VERSION_LABEL] != *version {
                    let mut present = present;
                    present["labels"][VERSION_LABEL] = version.clone();
                    self.registry.put(Some(&parts.name), present).await?;
                }
            }
            Some(_) if !replace => return Err(taken(&name)),
            _ => drop(self.registry.put(Some(&parts.name), document.clone()).await?),
        }
        let lock = image.detail.labels.get(LOCK_LABEL).and_then(|lock| lock::read(lock));
        Ok(PackageAnswer {
            source: source.to_string(),
            image: image.name,
            cached: image.cached,
            lock,
            template: parts.name,
            document,
        })
    }

    /// How the image of a package is made.
    fn recipe(&self, request: &PackageRequest, package: &Package, known: &Known) -> Result<Build> {
        let settings = &self.settings.packages;
        let base_image = match package.ecosystem {
            Ecosystem::Npm => settings.npm_image.clone(),
            Ecosystem::Pypi => settings.pypi_image.clone(),
        };
        let options = options(request, package.ecosystem, known, base_image, settings.allow_install_scripts)?;
        let recipe = recipe::recipe(package, &options);
        Ok(Build {
            image: recipe.image,
            base: options.base_image.clone(),
            script: recipe.script,
            steps: recipe.steps,
            says_lock: true,
            capabilities: recipe.capabilities,
            environment: recipe.environment,
            entrypoint: recipe.entrypoint,
            command: Vec::new(),
            user: USER.to_owned(),
            directory: DIRECTORY.to_owned(),
            labels: BTreeMap::from([(SOURCE_LABEL.to_owned(), package.to_string()), (BASE_LABEL.to_owned(), options.base_image)]),
            refresh: request.refresh.unwrap_or_default(),
        })
    }

    /// The image of a package: the one that was made by the same recipe before, or a new one.
    async fn built(&self, package: &Package, build: Build, progress: &OnProgress) -> Result<Ready> {
        let name = build.image.clone();
        if !build.refresh
            && let Some(detail) = self.backend.image(&name).await?
        {
            return Ok(Ready { name, detail, cached: true });
        }
        match self.backend.build(build, progress.clone()).await? {
            Built::Made => {}
            Built::Failed(code, lines) => return Err(failure::failure(package, code, &lines)),
        }
        let missing = || Error::new(Kind::Internal, format!("the image {name} was made and is not there"));
        let detail = self.backend.image(&name).await?.ok_or_else(missing)?;
        Ok(Ready { name, detail, cached: false })
    }

    /// An image that somebody else made; it is pulled when it is not at hand.
    async fn looked_at(&self, image: &str, progress: &OnProgress) -> Result<Ready> {
        let cached = self.backend.image(image).await?.is_some();
        if !cached {
            self.backend.pull(image, PullPolicy::Missing, None, progress.clone()).await?;
        }
        let missing = || Error::new(Kind::ImageNotFound, format!("the image {image} is not there"));
        let detail = self.backend.image(image).await?.ok_or_else(missing)?;
        Ok(Ready { name: image.to_owned(), detail, cached })
    }
}

/// An image that a template can name.
struct Ready {
    name: String,
    detail: ImageDetail,
    cached: bool,
}

/// What the template is made of, with what the package is known to need; of an image that is not there yet, `detail` is none.
fn parts(
    request: &PackageRequest,
    source: &Source,
    known: &Known,
    name: &str,
    image: &str,
    detail: Option<&ImageDetail>,
) -> TemplateParts {
    let only_port = detail.map(|detail| detail.ports.as_slice()).filter(|ports| ports.len() == 1).map(|ports| ports[0]);
    let port = request.port.or(only_port.filter(|_| request.transport != Some(Transport::Stdio)));
    let transport = request.transport.unwrap_or(if port.is_some() { Transport::Http } else { Transport::Stdio });
    let texts = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let mut environment: BTreeMap<_, _> = known.environment.iter().map(texts).collect();
    environment.extend(request.environment.clone().unwrap_or_default());
    let arguments = || known.arguments.iter().map(|word| (*word).to_owned()).collect();
    let lock = detail.and_then(|detail| lock::read(detail.labels.get(LOCK_LABEL)?));
    TemplateParts {
        version: lock.as_ref().and_then(|lock| installed(source, lock)),
        description: request.description.clone().or_else(|| Some(source.description())),
        source: source.to_string(),
        image: image.to_owned(),
        made_here: matches!(source, Source::Package(_)),
        transport,
        port: port.filter(|_| transport != Transport::Stdio || request.port.is_some()),
        path: request.path.clone(),
        arguments: request.arguments.clone().unwrap_or_else(arguments),
        environment,
        secrets: request.secrets.clone().unwrap_or_default(),
        required: request.required_env_vars.clone().unwrap_or_default(),
        volumes: known.volume.map(|path| (format!("{name}-data"), path.to_owned())).into_iter().collect(),
        memory_limit: request.memory_limit,
        egress: request.egress.unwrap_or_default(),
        name: name.to_owned(),
    }
}

/// Whether a template may turn out to say what the request makes, once the image has said its port.
fn may_be_same(present: &Value, expected: &Value, request: &PackageRequest) -> bool {
    let (mut present, mut expected) = (present.clone(), expected.clone());
    for document in [&mut present, &mut expected].into_iter().filter_map(Value::as_object_mut) {
        if request.port.is_none() {
            document.remove("port");
            if request.transport.is_none() {
                document.remove("transport");
                let labels = document.get_mut("labels").and_then(Value::as_object_mut);
                if let Some((labels, path)) = labels.zip(path_label(Transport::Http)) {
                    labels.remove(path);
                }
            }
        }
    }
    same(&present, &expected)
}

fn taken(name: &str) -> Error {
    Error::new(Kind::AlreadyExists, format!("there is a template '{name}' already, and it says something else"))
        .remedy("start that one, choose another name for this, or replace it ('replace', --replace-template)")
}

/// Whether a template says what the document does, whatever more it says of itself.
fn same(present: &Value, document: &Value) -> bool {
    let fields = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let (mut present, mut document) = (fields(present), fields(document));
    for field in ["version", "$schema"] {
        present.remove(field);
        document.remove(field);
    }
    for fields in [&mut present, &mut document] {
        if let Some(labels) = fields.get_mut("labels").and_then(Value::as_object_mut) {
            labels.remove(VERSION_LABEL);
        }
    }
    present == document
}

/// The version of the package itself that was installed.
fn installed(source: &Source, lock: &Lock) -> Option<String> {
    let Source::Package(package) = source else { return None };
    let same = |name: &str| name == package.name || known::same_in_python(name, &package.name);
    lock.iter().find(|(name, _)| same(name)).map(|(_, version)| version.clone())
}

/// How the image is made: as the request says, with what the package is known to need.
fn options(request: &PackageRequest, ecosystem: Ecosystem, known: &Known, base_image: String, scripts: bool) -> Result<Options> {
    let mut errors = Vec::new();
    let install_scripts = request.install_scripts.unwrap_or_default();
    if install_scripts && !scripts {
        let remedy = "leave it out, or allow it with the setting packages.allow_install_scripts";
        errors.push(FieldError::new("install_scripts", "is not allowed by this manager", remedy));
    }
    let mut with = request.with.clone().unwrap_or_default();
    for (index, text) in with.iter().enumerate().filter(|(_, text)| !is_with(ecosystem, text)) {
        let message = format!("'{}' names no package that could be added", shown(text));
        errors.push(FieldError::new(format!("with[{index}]"), message, "write NAME<2 for PyPI, NAME@VERSION for npm"));
    }
    let mut system = request.system_packages.clone().unwrap_or_default();
    for (index, text) in system.iter().enumerate().filter(|(_, text)| !is_system_package(text)) {
        let message = format!("'{}' is not a name of a distribution's package", shown(text));
        errors.push(FieldError::new(format!("system_packages[{index}]"), message, "write e.g. git"));
    }
    let word = |text: &String| {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        !text.is_empty() && !text.starts_with('-') && text.bytes().all(letter)
    };
    if !request.program.as_ref().is_none_or(word) {
        errors.push(FieldError::new("program", "is not the name of a program", "name one that the package has"));
    }
    if !errors.is_empty() {
        return Err(Error::invalid("the request is not valid", errors));
    }
    // What the request says of a package goes before what is known.
    let same = |text: &str| with.iter().any(|said| distribution(said).eq_ignore_ascii_case(distribution(text)));
    let more: Vec<String> = known.with.iter().filter(|text| !same(text)).map(|text| (*text).to_owned()).collect();
    with.extend(more);
    let more: Vec<String> =
        known.system.iter().filter(|text| !system.iter().any(|said| said == *text)).map(|text| (*text).to_owned()).collect();
    system.extend(more);
    Ok(Options { base_image, install_scripts, program: request.program.clone(), with, system })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_template_that_differs_in_nothing_but_what_its_image_says_may_be_the_same() {
        let asked = |port| PackageRequest { port, ..PackageRequest::default() };
        let present = json!({"name": "a", "image": "i", "transport": "http", "port": 80, "labels": {"mcp.path": "/x"}});
        for (expected, request, same) in [
            (json!({"name": "a", "image": "i", "transport": "stdio", "labels": {}}), asked(None), true),
            (json!({"name": "a", "image": "j", "transport": "stdio", "labels": {}}), asked(None), false),
            (
                json!({"name": "a", "image": "i", "transport": "http", "port": 81, "labels": {"mcp.path": "/x"}}),
                asked(Some(81)),
                false,
            ),
            (present.clone(), asked(Some(80)), true),
        ] {
            assert_eq!(may_be_same(&present, &expected, &request), same, "{expected}");
        }
    }
}
