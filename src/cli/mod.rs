//! The command line: a face that runs the manager (`serve`), asks a running one over its REST API, or looks at this machine
//! (`doctor`, `config`). It decides nothing about services.

mod arguments;
mod client;
mod clients;
mod contexts;
mod doctor;
mod exit;
mod install;
mod keys;
mod lists;
mod logs;
mod mcp;
mod output;
mod package_arguments;
mod packages;
mod progress;
mod reference;
mod request;
mod service_arguments;
mod services;
mod settings;
mod sse;
mod templates;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

use crate::config::{Config, Environment, LogFormat};
use crate::domain::package::Source;
use crate::error::{Error, Kind};
use crate::memory;
use crate::telemetry::logging;
use arguments::{AuthCommand, Command, CommandLine, TemplateCommand};
use client::Client;
use clients::arguments::ClientCommand;
use exit::Outcome;
use mcp::arguments::Subject;
use output::Output;
use services::Verb;

/// Runs the command that the process was called with; the exit code says how it went.
#[must_use]
pub fn main() -> ExitCode {
    let line = match CommandLine::try_parse() {
        Ok(line) => line,
        // Help and version are no errors; clap knows where to write each.
        Err(usage) => {
            if usage.use_stderr() && asks_for_json(std::env::args_os()) {
                return exit::report(&misused(&usage).into(), true);
            }
            let _ = usage.print();
            return if usage.use_stderr() { exit::Code::Usage.into() } else { ExitCode::SUCCESS };
        }
    };
    match run(&line) {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => exit::report(&trouble, line.common.json),
    }
}

/// Whether `--json` is among words that cannot be understood as a whole.
fn asks_for_json(words: impl Iterator<Item = OsString>) -> bool {
    words.take_while(|word| word != "--").any(|word| word == "--json")
}

/// What clap says of a wrong use, as an error like all others.
fn misused(usage: &clap::Error) -> Error {
    if usage.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Error::new(Kind::Invalid, "there is no command").remedy("'mcp-manager --help' lists them");
    }
    let text = usage.render().to_string();
    let mut parts = text.split("\n\n").map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
    let detail = parts.next().unwrap_or_default();
    let remedy: Vec<String> = parts.filter(|part| !part.is_empty()).collect();
    Error::new(Kind::Invalid, detail.strip_prefix("error: ").unwrap_or(&detail)).remedy(remedy.join("; "))
}

fn run(line: &CommandLine) -> Outcome {
    let output = Output::new(&line.common);
    match &line.command {
        Command::Serve(arguments) => {
            memory::settle(memory::Program::Manager);
            serve(&settings::load(arguments)?)
        }
        Command::Doctor(arguments) => {
            let (config, wrong) = settings::load_in_any_case(arguments)?;
            client_runtime()?.block_on(doctor::command(&output, &config, wrong))
        }
        Command::Install(command) => install::command(&output, command),
        Command::Config(command) => settings::command(&output, command),
        Command::Auth(AuthCommand::Key(arguments)) => keys::make(&output, arguments),
        Command::Completion { shell } => completion(&output, *shell),
        Command::Version => version(&output),
        Command::Reference { subject: Subject::Commands } => output.text(&reference::markdown()),
        Command::Reference { subject: Subject::Tools } => output.text(&crate::tools::markdown()),
        Command::Template(TemplateCommand::Validate { files }) => templates::validate(&output, files),
        Command::Template(TemplateCommand::Schema) => templates::schema(&output),
        Command::Client(ClientCommand::Relay { url }) => client_runtime()?.block_on(clients::relay(&line.common, url)),
        Command::Client(command) => {
            let environment = Environment::of_process();
            let common = contexts::resolve(&line.common, &environment)?;
            client_runtime()?.block_on(clients::command(&output, &common, command, &environment))
        }
        Command::Context(command) => contexts::command(&output, &line.common, command, &Environment::of_process()),
        _ => client_runtime()?.block_on(ask(line, &output)),
    }
}

/// The commands that a running manager answers.
async fn ask(line: &CommandLine, output: &Output) -> Outcome {
    let client = Client::new(&contexts::resolve(&line.common, &Environment::of_process())?)?;
    let client = &client;
    match &line.command {
        Command::Run(arguments) if Source::is_one(&arguments.name) => {
            packages::run(client, output, arguments, &Environment::of_process()).await
        }
        Command::Import(arguments) => packages::import(client, output, arguments).await,
        Command::Export(arguments) => packages::export(client, output, arguments).await,
        Command::Run(arguments) => services::run(client, output, arguments, &Environment::of_process()).await,
        Command::Apply(arguments) => services::apply(client, output, request::from_files(&arguments.file)?, arguments).await,
        Command::Ls(arguments) => lists::list(client, output, arguments).await,
        Command::Ps(arguments) => lists::containers(client, output, &arguments.names).await,
        Command::Status(arguments) => lists::status(client, output, &arguments.name).await,
        Command::Health { ready } => lists::health(client, output, *ready).await,
        Command::Logs(arguments) => logs::logs(client, output, arguments).await,
        Command::Start(arguments) => services::set(client, output, Verb::Start, arguments).await,
        Command::Stop(arguments) => services::set(client, output, Verb::Stop, arguments).await,
        Command::Restart(arguments) => services::set(client, output, Verb::Restart, arguments).await,
        Command::Scale(arguments) => services::scale(client, output, arguments).await,
        Command::Rm(arguments) => services::remove(client, output, arguments).await,
        Command::Events(arguments) => logs::events(client, output, arguments.name.as_deref()).await,
        Command::Mcp => mcp::serve(client).await,
        Command::McpTools(arguments) => mcp::tools(client, output, arguments).await,
        Command::McpCall(arguments) => mcp::call(client, output, arguments).await,
        Command::Template(TemplateCommand::Ls) => templates::list(client, output).await,
        Command::Template(TemplateCommand::Show { name }) => templates::show(client, output, name).await,
        // The others need no manager and were run before.
        _ => Ok(()),
    }
}

/// `mcp-manager serve`.
fn serve(config: &Config) -> Outcome {
    let format = match config.telemetry.log_format {
        LogFormat::Auto => logging::Format::Auto,
        LogFormat::Human => logging::Format::Human,
        LogFormat::Json => logging::Format::Json,
    };
    logging::start(&config.telemetry.log_level, format)?;
    let mut builder = Builder::new_multi_thread();
    // Files are read on threads that may block; few are needed, and each costs memory.
    builder.worker_threads(usize::from(config.server.worker_threads)).max_blocking_threads(32);
    let runtime = builder.enable_all().build().map_err(no_runtime)?;
    let served = runtime.block_on(crate::app::run(config.clone()));
    // What still blocks has been waited for long enough.
    runtime.shutdown_background();
    Ok(served?)
}

/// One thread is enough to ask.
fn client_runtime() -> Outcome<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build().map_err(no_runtime)?)
}

fn no_runtime(error: std::io::Error) -> Error {
    Error::internal(format!("the system does not give what is needed to run: {error}"), error)
}

/// `mcp-manager completion`.
fn completion(output: &Output, shell: clap_complete::Shell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut CommandLine::command(), "mcp-manager", &mut script);
    output.text(&String::from_utf8_lossy(&script))
}

/// `mcp-manager version`.
fn version(output: &Output) -> Outcome {
    let version = env!("CARGO_PKG_VERSION");
    if output.explicit_json {
        return output.document(&json!({"name": "mcp-manager", "version": version}));
    }
    output.text(&format!("mcp-manager {version}"))
}
