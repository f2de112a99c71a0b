//! Section `telemetry`: what the manager tells about itself.

use super::section::{Check, section};
use super::value::choice;
use crate::telemetry::logging;

choice! {
    /// How log lines look.
    pub enum LogFormat, "auto, human or json" {
        /// For people on a terminal, JSON elsewhere.
        Auto = "auto",
        /// One readable line each.
        Human = "human",
        /// One JSON object a line.
        Json = "json",
    }
}

section! {
    /// What the manager tells about itself.
    pub struct Telemetry in "telemetry" {
        /// Least level that is logged: `error`, `warning`, `info`, `debug` or `trace`; or directives for single modules,
        /// e.g. `info,mcp_manager::backend=debug`.
        log_level: String = "info".to_owned(), also "LOG_LEVEL";
        /// How log lines look: `human`, `json`, or `auto` for human on a terminal and JSON elsewhere.
        log_format: LogFormat = LogFormat::Auto, also "LOG_FORMAT";
        /// Serve metrics for Prometheus at `/metrics`.
        metrics_enabled: bool = true, also "ENABLE_METRICS";
    }
}

impl Telemetry {
    fn validate(&self, check: &mut Check) {
        let message = format!("'{}' is not a level", self.log_level.escape_debug());
        let remedy = "use error, warning, info, debug or trace, or directives like info,mcp_manager=debug";
        check.that(logging::filter(&self.log_level).is_ok(), "log_level", message, remedy);
    }
}
