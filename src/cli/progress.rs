//! What is shown while a command waits for a service: phase, pull progress and time, on standard error.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::client::{Client, service_path};
use super::exit::{Code, Outcome, Trouble};
use super::output::{Output, one_line};
use crate::error::{Error, Kind};
use crate::manager::views::ServiceDetail;

/// Time between two looks at the service.
const PERIOD: Duration = Duration::from_millis(250);

/// What a command waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// A service that was not there before.
    Creation,
    /// Something else that becomes of a service.
    Change,
}

/// Waits for `work` and shows meanwhile how the service `name` is. When the user interrupts it, the manager goes on, and
/// that is said.
pub async fn watched<T>(
    client: &Client,
    output: &Output,
    name: &str,
    waiting: Waiting,
    work: impl Future<Output = Outcome<T>>,
) -> Outcome<T> {
    let bar = if output.shows_progress() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    bar.set_style(style(false));
    bar.set_prefix(name.to_owned());
    bar.enable_steady_tick(Duration::from_millis(120));
    let mut ticks = tokio::time::interval(PERIOD);
    tokio::pin!(work);
    let result = loop {
        tokio::select! {
            biased;
            result = &mut work => break result,
            interrupted = tokio::signal::ctrl_c() => break Err(interruption(name, waiting, interrupted)),
            _ = ticks.tick(), if output.shows_progress() => show(client, &bar, name).await,
        }
    };
    bar.finish_and_clear();
    result
}

/// Looks at the service once and shows it. A service that is not there yet, or a manager that is busy, shows nothing new.
async fn show(client: &Client, bar: &ProgressBar, name: &str) {
    let Ok(path) = service_path(name, "") else { return };
    let Ok(Ok(service)) = tokio::time::timeout(PERIOD * 4, client.get::<ServiceDetail>(&path, &Vec::new())).await else { return };
    let total = service.progress.as_ref().and_then(|progress| progress.total);
    if let (Some(progress), Some(total)) = (&service.progress, total) {
        bar.set_length(total);
        bar.set_position(progress.done.min(total));
    }
    bar.set_style(style(total.is_some()));
    let step = service.progress.map(|progress| format!(": {}", one_line(&progress.message))).unwrap_or_default();
    let summary = service.summary;
    // Beside a bar there is little room, and nothing is ready before its image is there.
    let ready =
        if total.is_some() { String::new() } else { format!(" ({} of {} ready)", summary.ready_replicas, summary.replicas) };
    bar.set_message(format!("{}{step}{ready}", summary.status.as_str()));
}

fn style(with_length: bool) -> ProgressStyle {
    let template = if with_length {
        "{spinner} {prefix} {wide_msg} [{bar:20}] {bytes}/{total_bytes} {elapsed}"
    } else {
        "{spinner} {prefix} {wide_msg} {elapsed}"
    };
    // The templates are constants; were one wrong, indicatif's own would do.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn interruption(name: &str, waiting: Waiting, listened: std::io::Result<()>) -> Trouble {
    if let Err(error) = listened {
        return Error::internal("cannot listen for signals", error).into();
    }
    let error = Error::new(Kind::Cancelled, "interrupted; the manager goes on with what was asked for").remedy(match waiting {
        Waiting::Creation => format!("look with 'mcp-manager status {name}', or give up with 'mcp-manager rm {name}'"),
        // To remove what was there before would undo more than the change.
        Waiting::Change => format!("look with 'mcp-manager status {name}'"),
    });
    Trouble::Error(Code::Interrupted, Box::new(error))
}
