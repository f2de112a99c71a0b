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
use crate::backend::{Build, ImageDetail};
use crate::domain::access::{Actor, Operation};
use crate::domain::fields;
use crate::domain::package::recipe::{self, LOCK_LABEL, LOCK_LINE, Options, SOURCE_LABEL, TemplateParts};
use crate::domain::package::{Ecosystem, Package, Source};
use crate::domain::spec::{PullPolicy, Transport};
use crate::error::{Error, Kind, Result};

/// How images of packages are made.
#[derive(Debug, Clone)]
pub struct PackageSettings {
    /// Image that those of npm packages begin with.
    pub npm_image: String,
    /// Image that those of `PyPI` packages begin with.
    pub pypi_image: String,
    /// Network of builds; the engine's default when absent.
    pub network: Option<String>,
    /// Longest time for a build.
    pub timeout: std::time::Duration,
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
    /// Arguments for the server.
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
                () = cancelled.cancelled() => Err(Error::new(Kind::Cancelled, "the build was cancelled")),
            }
        };
        self.perform(actor, Operation::PackageAdd, &target, work).await
    }

    async fn package(&self, request: PackageRequest, source: Source, progress: OnProgress) -> Result<PackageAnswer> {
        let image = match &source {
            Source::Package(package) => self.built(&request, package, &progress).await?,
            Source::Image(image) => self.looked_at(image, &progress).await?,
        };
        let only_port = Some(image.detail.ports.as_slice()).filter(|ports| ports.len() == 1).map(|ports| ports[0]);
        let port = request.port.or(only_port.filter(|_| request.transport != Some(Transport::Stdio)));
        let transport = request.transport.unwrap_or(if port.is_some() { Transport::Http } else { Transport::Stdio });
        let parts = TemplateParts {
            name: request.name.unwrap_or_else(|| source.service_name()),
            description: request.description.or_else(|| Some(source.description())),
            source: source.to_string(),
            image: image.name.clone(),
            made_here: matches!(source, Source::Package(_)),
            transport,
            port: port.filter(|_| transport != Transport::Stdio || request.port.is_some()),
            arguments: request.arguments.unwrap_or_default(),
            environment: request.environment.unwrap_or_default(),
            secrets: request.secrets.unwrap_or_default(),
            required: request.required_env_vars.unwrap_or_default(),
            egress: request.egress.unwrap_or_default(),
        };
        let document = recipe::template(&parts);
        let present = self.registry.list().detail(&parts.name).ok().and_then(|detail| detail.document);
        match present {
            // What is written gets its version when it is kept.
            Some(present) if same(&present, &document) => {}
            Some(_) if !request.replace.unwrap_or_default() => {
                let detail = format!("there is a template '{}' already, and it says something else", parts.name);
                return Err(Error::new(Kind::AlreadyExists, detail)
                    .remedy("start that one, choose another name for this, or replace it ('replace', --replace-template)"));
            }
            _ => drop(self.registry.put(Some(&parts.name), document.clone()).await?),
        }
        Ok(PackageAnswer {
            source: source.to_string(),
            image: image.name,
            cached: image.cached,
            lock: image.detail.labels.get(LOCK_LABEL).and_then(|lock| serde_json::from_str(lock).ok()),
            template: parts.name,
            document,
        })
    }

    /// The image of a package: the one that was made by the same recipe before, or a new one.
    async fn built(&self, request: &PackageRequest, package: &Package, progress: &OnProgress) -> Result<Ready> {
        let settings = &self.settings.packages;
        let install_scripts = request.install_scripts.unwrap_or_default();
        if install_scripts && !settings.allow_install_scripts {
            let remedy = "leave it out, or allow it with the setting packages.allow_install_scripts";
            return Err(Error::invalid_field("install_scripts", "is not allowed by this manager", remedy));
        }
        let base_image = match package.ecosystem {
            Ecosystem::Npm => settings.npm_image.clone(),
            Ecosystem::Pypi => settings.pypi_image.clone(),
        };
        let recipe = recipe::recipe(package, &Options { base_image, install_scripts, program: request.program.clone() });
        let refresh = request.refresh.unwrap_or_default();
        if !refresh
            && let Some(detail) = self.backend.image(&recipe.image).await?
            && detail.labels.contains_key(LOCK_LABEL)
        {
            return Ok(Ready { name: recipe.image, detail, cached: true });
        }
        // What is still being made has a name of its own, so that the name that services use is never half an image.
        let unfinished = format!("{}-unfinished", recipe.image);
        let mut build = Build {
            image: unfinished.clone(),
            containerfile: recipe.containerfile.clone(),
            network: settings.network.clone(),
            timeout: settings.timeout,
            refresh,
        };
        let mut lines = self.backend.build(build.clone(), progress.clone()).await?;
        if lock_of(&lines).is_none() && !build.refresh {
            // The engine had all steps, but no image with a label: what they said is only said when they are done.
            build.refresh = true;
            lines = self.backend.build(build, progress.clone()).await?;
        }
        let lock = lock_of(&lines).ok_or_else(|| Error::new(Kind::Internal, "the build did not say what it installed"))?;
        let labels = BTreeMap::from([(SOURCE_LABEL.to_owned(), package.to_string()), (LOCK_LABEL.to_owned(), lock)]);
        let last = Build {
            image: recipe.image.clone(),
            containerfile: recipe::labelled(&unfinished, &labels),
            network: None,
            timeout: settings.timeout,
            refresh: false,
        };
        self.backend.build(last, progress.clone()).await?;
        let missing = || Error::new(Kind::Internal, format!("the image {} was made and is not there", recipe.image));
        let detail = self.backend.image(&recipe.image).await?.ok_or_else(missing)?;
        Ok(Ready { name: recipe.image.clone(), detail, cached: false })
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

/// Whether a template says what the document does, whatever more it says of itself.
fn same(present: &Value, document: &Value) -> bool {
    let fields = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let (mut present, mut document) = (fields(present), fields(document));
    for field in ["version", "$schema"] {
        present.remove(field);
        document.remove(field);
    }
    present == document
}

/// What the build said of the versions that were resolved.
fn lock_of(lines: &[String]) -> Option<String> {
    lines.iter().rev().find_map(|line| line.trim().strip_prefix(LOCK_LINE)).map(str::to_owned)
}
