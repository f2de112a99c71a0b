//! Commands about packages: `run npm:…`, `import` and `export`. Images and templates are made by the manager.

use std::path::Path;
use std::time::Duration;

use indicatif::ProgressBar;
use jsonc_parser::{CollectOptions, ParseOptions};
use reqwest::Method;
use serde_json::{Value, json};

use super::arguments::{Run, Settings};
use super::client::{Client, Query, error_of, service_path};
use super::exit::{Code, Outcome, Trouble};
use super::output::{Output, one_line};
use super::package_arguments::{Export, Import};
use super::request::{read_text, shown};
use super::{services, settings, sse};
use crate::config::Environment;
use crate::domain::document::Document;
use crate::domain::mcp_path::path_label;
use crate::domain::package::import::{self, Imported};
use crate::domain::package::template::{TEMPLATE_LABEL, VERSION_LABEL};
use crate::domain::package::{Source, server_json};
use crate::error::{Error, FieldError, Kind};
use crate::manager::views::ServiceDetail;
use crate::manager::{PackageAnswer, PackageRequest};
use crate::problem::Problem;
use crate::registry::TemplateDetail;
use crate::whole_file;

/// So many names are tried for a template whose own is taken.
const MOST_NAMES: usize = 9;

/// `mcp-manager run SOURCE`: makes the package a template, and creates a service from it.
pub async fn run(client: &Client, output: &Output, run: &Run, environment: &Environment) -> Outcome {
    if run.plan {
        let remedy = "leave it out: the image and the template of a package are made before there is a service to plan";
        return Err(Error::invalid_field("--dry-run", "does not go with a package", remedy).into());
    }
    let source: Source = run.name.parse()?;
    let name = run.package.service.clone().unwrap_or_else(|| source.service_name());
    is_free(client, &name).await?;
    let request = PackageRequest {
        source: Some(source.to_string()),
        name: Some(run.template.clone().unwrap_or_else(|| name.clone())),
        program: run.package.program.clone(),
        with: Some(run.package.with.clone()).filter(|with| !with.is_empty()),
        system_packages: Some(run.package.system.clone()).filter(|system| !system.is_empty()),
        arguments: (!run.command.is_empty()).then(|| run.command.clone()),
        transport: run
            .package
            .transport
            .as_deref()
            .map(|text| serde_json::from_value(json!(text)))
            .transpose()
            .map_err(|_| Error::invalid_field("--transport", "is not a transport", "use stdio, http or sse"))?,
        port: run.port,
        egress: run.egress.then_some(true),
        install_scripts: run.package.install_scripts.then_some(true),
        refresh: run.package.refresh.then_some(true),
        replace: run.package.replace_template.then_some(true),
        ..PackageRequest::default()
    };
    let answer = add(client, output, &request).await?;
    let service = Run {
        name,
        template: Some(answer.template),
        // What the template says already.
        port: None,
        command: Vec::new(),
        egress: false,
        ..run.clone()
    };
    services::run(client, output, &service, environment).await
}

/// That no service has the name: making an image may take minutes.
async fn is_free(client: &Client, name: &str) -> Outcome {
    match client.get::<Value>(&service_path(name, "")?, &Query::new()).await {
        Err(Trouble::Error(_, error)) if error.kind == Kind::NotFound => Ok(()),
        taken => {
            taken?;
            let error = Error::new(Kind::AlreadyExists, format!("there is a service '{name}' already"));
            Err(error.remedy("use another name (--service NAME), or delete it first").into())
        }
    }
}

/// Asks for a package and shows how far it is.
async fn add(client: &Client, output: &Output, request: &PackageRequest) -> Outcome<PackageAnswer> {
    let bar = if output.shows_progress() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    bar.set_prefix(request.source.clone().unwrap_or_default());
    bar.enable_steady_tick(Duration::from_millis(120));
    let response = client.send_for_events("/packages", request).await?;
    let (mut answer, mut step) = (None, None);
    sse::follow(client, response, |event| {
        match event.name.as_str() {
            "progress" => {
                let progress: Value = serde_json::from_str(&event.data).unwrap_or_default();
                let message = progress["message"].as_str().unwrap_or_default().to_owned();
                if output.shows_progress() {
                    bar.set_message(one_line(&message));
                } else if step != Some(progress["done"].clone()) {
                    // What each step says is for those who watch.
                    output.note(&message);
                    step = Some(progress["done"].clone());
                }
            }
            "done" => answer = serde_json::from_str::<PackageAnswer>(&event.data).ok(),
            "problem" => {
                let problem: Result<Problem, _> = serde_json::from_str(&event.data);
                return Err(problem
                    .map_or_else(|error| Error::internal("the manager's problem cannot be read", error), error_of)
                    .into());
            }
            _ => {}
        }
        Ok(())
    })
    .await?;
    bar.finish_and_clear();
    let answer: PackageAnswer = answer.ok_or_else(|| {
        Trouble::unreachable(Error::new(Kind::BackendUnavailable, "the manager broke off").remedy("see whether it still runs"))
    })?;
    let packages = answer.lock.as_ref().map(|lock| format!(", {} packages", lock.len())).unwrap_or_default();
    let made = match (answer.cached, &answer.lock) {
        (true, _) => "at hand",
        (false, Some(_)) => "made",
        (false, None) => "pulled",
    };
    output.note(&format!("image {} {made}{packages}; template '{}'", answer.image, answer.template));
    Ok(answer)
}

/// `mcp-manager import`: every server of the file becomes a template and a service; one that fails does not stop the others.
/// It has failed when one did, and when all were left out.
pub async fn import(client: &Client, output: &Output, wanted: &Import) -> Outcome {
    let text = read_text(&wanted.file)?;
    let of_file = |errors: Vec<FieldError>| Error::invalid(&format!("{} cannot be imported", shown(&wanted.file)), errors);
    let plain;
    let document = match Document::parse(text.as_bytes()) {
        Ok(document) => document,
        // Files of clients may hold comments.
        Err(errors) => {
            plain = without_comments(&text).ok_or_else(|| of_file(errors))?;
            Document::parse(plain.as_bytes()).map_err(of_file)?
        }
    };
    let read = if server_json::is_one(&document.value) {
        server_json::read(&document.value)
    } else {
        import::clients_file(&document.value)
    };
    let import = read.map_err(|errors| of_file(document.with_lines(errors)))?;
    let meant = |name: &str| wanted.only.is_empty() || wanted.only.iter().any(|only| only == name);
    let mut names = import.servers.iter().map(|server| &server.name).chain(import.left_out.iter().map(|(name, _)| name));
    if !names.any(|name| meant(name)) {
        let remedy = "name servers as the import without --only names them; --dry-run changes nothing";
        return Err(Error::invalid_field("--only", "names no server of the file", remedy).into());
    }
    let directory = settings::load(&Settings::default())?.secrets.dir;
    let mut results = Vec::new();
    let mut failed = false;
    for server in import.servers.iter().filter(|server| meant(&server.name)) {
        for note in &server.notes {
            output.note(&format!("{}: {note}", server.name));
        }
        let done = if wanted.dry_run {
            Ok((server.name.clone(), "would be imported"))
        } else {
            take_over(client, output, wanted, server, &directory).await
        };
        let (template, outcome, reason) = match done {
            Ok((template, done)) => (template, done, None),
            Err(Trouble::Error(_, error)) => (server.name.clone(), "failed", Some(error.to_string())),
            Err(other) => return Err(other),
        };
        failed |= outcome == "failed";
        let secrets: Vec<String> = server.secrets.keys().map(|variable| import::secret_name(&template, variable)).collect();
        results.push(json!({
            "name": server.name, "source": server.source.to_string(), "outcome": outcome, "reason": reason, "secrets": secrets,
            "with": server.with, "arguments": server.arguments, "environment": server.environment.keys().collect::<Vec<_>>(),
            "required_env_vars": server.required, "memory_limit": server.memory_limit, "notes": server.notes,
        }));
    }
    // A script would take nothing for all of it.
    failed |= results.is_empty();
    for (name, reason) in import.left_out.iter().filter(|(name, _)| meant(name)) {
        results.push(json!({"name": name, "outcome": "left out", "reason": reason}));
    }
    if output.json {
        output.document(&results)?;
    } else {
        for result in &results {
            let text = |field: &str| result[field].as_str().unwrap_or_default().to_owned();
            let reason =
                Some(text("reason")).filter(|reason| !reason.is_empty()).map(|reason| format!(": {reason}")).unwrap_or_default();
            output.text(&format!("{}  {}  {}{reason}", text("name"), text("source"), text("outcome")))?;
        }
    }
    if failed { Err(Trouble::Said(Code::Failed)) } else { Ok(()) }
}

/// A document without the comments and trailing commas that it has.
fn without_comments(text: &str) -> Option<String> {
    let parsed = jsonc_parser::parse_to_ast(text, &CollectOptions::default(), &ParseOptions::default()).ok()?;
    Some(Value::from(parsed.value?).to_string())
}

/// Makes a server's template and service; the template's name, and what has been done.
async fn take_over(
    client: &Client,
    output: &Output,
    wanted: &Import,
    server: &Imported,
    directory: &Path,
) -> Outcome<(String, &'static str)> {
    let template = name_of_template(client, server).await?;
    // Before anything refers to it.
    let mut kept = Vec::new();
    for (variable, value) in &server.secrets {
        let path = directory.join(import::secret_name(&template, variable));
        if let Some(value) = value
            && !is_kept(&path, value)?
        {
            kept.push((path, value));
        }
    }
    let secrets = server.secrets.keys().map(|variable| (variable.clone(), import::secret_name(&template, variable))).collect();
    let request = PackageRequest {
        source: Some(server.source.to_string()),
        name: Some(template.clone()),
        description: server.description.clone(),
        program: server.program.clone(),
        with: Some(server.with.clone()).filter(|with| !with.is_empty()),
        arguments: Some(server.arguments.clone()).filter(|arguments| !arguments.is_empty()),
        environment: Some(server.environment.clone()).filter(|environment| !environment.is_empty()),
        secrets: Some(secrets).filter(|_| !server.secrets.is_empty()),
        required_env_vars: Some(server.required.clone()).filter(|required| !required.is_empty()),
        transport: Some(server.transport),
        port: server.port,
        path: server.path.clone(),
        memory_limit: server.memory_limit,
        egress: wanted.egress.then_some(true),
        replace: wanted.replace_template.then_some(true),
        ..PackageRequest::default()
    };
    add(client, output, &request).await?;
    for (path, value) in kept {
        keep_secret(&path, value)?;
    }
    for (variable, _) in server.secrets.iter().filter(|(_, value)| value.is_none()) {
        let name = import::secret_name(&template, variable);
        output.note(&format!("{}: put the value of {variable} into the secret '{name}'", server.name));
    }
    // Without their values, a service would only fail.
    if wanted.templates_only || !server.required.is_empty() || server.secrets.values().any(Option::is_none) {
        return Ok((template, "template made"));
    }
    let outcome = start(client, output, server, &template).await?;
    Ok((template, outcome))
}

/// The name for a server's template: its own, or the next free one where something else has that: `time-2` beside the
/// shipped `time`. One of the same server is the same template.
async fn name_of_template(client: &Client, server: &Imported) -> Outcome<String> {
    let source = server.source.to_string();
    let names = (1..=MOST_NAMES).map(|number| match number {
        1 => server.name.clone(),
        _ => format!("{}-{number}", server.name),
    });
    for name in names {
        let present: TemplateDetail = match client.get(&format!("/templates/{name}"), &Query::new()).await {
            Err(Trouble::Error(_, error)) if error.kind == Kind::NotFound => return Ok(name),
            present => present?,
        };
        let made_of = present.document.as_ref().and_then(|document| document["labels"][TEMPLATE_LABEL].as_str());
        if made_of == Some(source.as_str()) {
            return Ok(name);
        }
    }
    let detail = format!("the templates '{0}' and '{0}-2' to '{0}-{MOST_NAMES}' are of other servers", server.name);
    Err(Error::new(Kind::AlreadyExists, detail).remedy("rename the server in the file to import").into())
}

/// Starts a service of a template: under the server's name, or under the template's where another service has that.
async fn start(client: &Client, output: &Output, server: &Imported, template: &str) -> Outcome<&'static str> {
    let query: Query = vec![("wait", "none".to_owned())];
    let mut names = vec![server.name.as_str(), template];
    names.dedup();
    for name in names {
        let body = json!({"service_name": name, "template": template});
        match client.change::<Value, _>(Method::POST, "/containers", &query, Some(&body)).await {
            Err(Trouble::Error(_, error)) if error.kind == Kind::AlreadyExists => {}
            changed => {
                changed?;
                if name != server.name {
                    output.note(&format!("{}: there is another service of that name, so this one is '{name}'", server.name));
                }
                return Ok("imported");
            }
        }
        let present: ServiceDetail = client.get(&service_path(name, "")?, &Query::new()).await?;
        // Who imports a file again has most of it already.
        if present.summary.template.is_some_and(|present| present.name == template) {
            return Ok("there already");
        }
    }
    let detail = format!("there is another service '{}', which is not of the template '{template}'", server.name);
    let remedy = format!("start this one under another name: mcp-manager run NAME --template {template}");
    Err(Error::new(Kind::AlreadyExists, detail).remedy(remedy).into())
}

/// Whether a secret is in its file already. One that says something else is not overwritten.
fn is_kept(path: &Path, value: &str) -> Outcome<bool> {
    match std::fs::read_to_string(path) {
        Ok(present) if present.trim_end_matches('\n') == value => Ok(true),
        Ok(_) => {
            let detail = format!("there is another secret in {} already", path.display());
            let remedy = "remove that file, or take the variable out of the file to import";
            Err(Error::new(Kind::Conflict, detail).remedy(remedy).into())
        }
        Err(_) => Ok(false),
    }
}

/// Writes a secret's file, readable by its owner only.
fn keep_secret(path: &Path, value: &str) -> Outcome {
    use std::os::unix::fs::PermissionsExt as _;
    let fault = |error: std::io::Error| Error::internal(format!("the secret {} cannot be kept: {error}", path.display()), error);
    let permissions = std::fs::Permissions::from_mode(0o600);
    whole_file::make_folder_of(path).map_err(fault)?;
    Ok(whole_file::write_new(path, value.as_bytes(), Some(permissions)).map_err(fault)?)
}

/// `mcp-manager export`: the registry's document for a template that was made of a package or an image.
pub async fn export(client: &Client, output: &Output, wanted: &Export) -> Outcome {
    let (name, version) = wanted.template.split_once('@').unwrap_or((&wanted.template, "0"));
    if !crate::domain::template::is_template_name(name) || version.is_empty() {
        return Err(Error::invalid_field("TEMPLATE", "is not the name of a template", "write NAME or NAME@VERSION").into());
    }
    if !server_json::is_name(&wanted.name) {
        return Err(Error::invalid_field("--name", "is no name of the registry", "write e.g. io.github.me/weather").into());
    }
    let detail: TemplateDetail = client.get(&format!("/templates/{}", wanted.template), &Query::new()).await?;
    let document = detail.document.unwrap_or_default();
    let spec = detail.spec.unwrap_or_default();
    let made_of = document["labels"][TEMPLATE_LABEL].as_str().map(str::to_owned);
    let source = made_of.or_else(|| spec.image.clone().map(|image| format!("image:{image}"))).unwrap_or_default();
    let mut source: Source = source.parse()?;
    if let (Source::Package(package), Some(version)) = (&mut source, document["labels"][VERSION_LABEL].as_str()) {
        // The version that was asked for may mean another one tomorrow.
        package.version = Some(version.to_owned());
    }
    let version = wanted.version.clone().or_else(|| published_version(&document, &source)).ok_or_else(unversioned)?;
    let mut server = Imported::of(&wanted.name, source);
    server.description = detail.summary.description;
    server.transport = detail.summary.transport;
    server.port = detail.summary.port;
    server.path = path_label(server.transport).and_then(|label| document["labels"][label].as_str()).map(str::to_owned);
    server.arguments = spec.command.map(|words| words.0).unwrap_or_default();
    for (variable, value) in document["environment"].as_object().into_iter().flatten() {
        server.environment.insert(variable.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    }
    server.secrets = spec.secrets.into_iter().flatten().map(|(variable, _)| (variable, None)).collect();
    server.required = detail.summary.required_env_vars;
    output.document(&server_json::write(&wanted.name, &version, &server))
}

/// The version under which a template is published: its own if it says one, otherwise that of the package it was made of.
/// (A template that says none is version 0 here, which is nothing that anybody chose.)
fn published_version(document: &Value, source: &Source) -> Option<String> {
    let package = match source {
        Source::Package(package) => package.version.clone(),
        Source::Image(_) => None,
    };
    document["version"].as_str().map(str::to_owned).or(package)
}

fn unversioned() -> Error {
    let remedy = "give --version, or write a version into the template";
    Error::invalid_field(
        "version",
        "is missing: the registry wants one, and neither the template nor its package says it",
        remedy,
    )
}
