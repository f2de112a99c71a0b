//! The record of who did what: a line when an operation begins, a line when it ends.
//!
//! Lines go to the log (target `audit`) and, when a file is set, there as JSON, one object a line, and when a database is
//! set, into its table. An operation whose beginning cannot be written is not done; one whose end cannot be written has been
//! done all the same, so that is only logged. Reading the audit is left to readers of the file and of the table.

mod database;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Mutex;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::domain::access::{Actor, Operation};
use crate::error::{Error, Kind, Result};
use crate::lifecycle::Tasks;
use database::Database;

/// Writes the audit.
#[derive(Debug, Clone)]
pub struct Audit {
    file: Option<Arc<Mutex<tokio::fs::File>>>,
    database: Option<Database>,
}

/// An operation that has begun.
#[derive(Debug)]
pub struct Entry {
    audit: Audit,
    line: Line,
    /// Its end will be written, too, when the manager stops meanwhile.
    _hold: Option<TaskTrackerToken>,
}

#[derive(Debug, Clone, Serialize)]
struct Line {
    /// What the two lines of one operation have in common.
    #[serde(skip)]
    entry: String,
    at: Timestamp,
    event: &'static str,
    actor: String,
    operation: &'static str,
    target: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<String>,
}

impl Audit {
    /// An audit that goes to the log, to `file` when there is one (created with mode 0600, appended to), and to the database
    /// at the address `database` when there is one.
    pub async fn open(file: Option<PathBuf>, database: Option<&str>, tasks: &Tasks) -> Result<Self> {
        let file = match file {
            Some(path) => Some(Arc::new(Mutex::new(appended(&path).await?))),
            None => None,
        };
        let database = match database {
            Some(url) => Some(Box::pin(Database::open(url, tasks)).await?),
            None => None,
        };
        Ok(Self { file, database })
    }

    /// Opens an entry. An error means that the operation must not be done.
    pub async fn begin(&self, actor: &Actor, operation: Operation, target: &str) -> Result<Entry> {
        let hold = self.database.as_ref().map(Database::hold);
        let line = Line {
            entry: crate::random::id(),
            at: Timestamp::now(),
            event: "begin",
            actor: actor.name.clone(),
            operation: operation.slug(),
            // Names that callers choose may hold control characters.
            target: target.escape_debug().to_string(),
            request_id: actor.request_id.clone(),
            result: None,
        };
        self.write(&line).await.map_err(|error| {
            Error::internal("the audit cannot be written, so the operation was not done", error).remedy(
                "make room for the audit file or correct its permissions; see that the audit's database runs, where one is set",
            )
        })?;
        Ok(Entry { audit: self.clone(), line, _hold: hold })
    }

    async fn write(&self, line: &Line) -> std::io::Result<()> {
        if let Some(file) = &self.file {
            let mut text = serde_json::to_vec(line)?;
            text.push(b'\n');
            let mut file = file.lock().await;
            file.write_all(&text).await?;
            file.flush().await?;
        }
        match &self.database {
            // Boxed, because every operation of the manager would carry its size.
            Some(database) => Box::pin(database.write(line)).await,
            None => Ok(()),
        }
    }
}

impl Entry {
    /// Closes the entry.
    pub async fn finish(self, error: Option<&Error>) {
        let result = error.map_or("ok", |error| error.kind.slug()).to_owned();
        let line = Line { at: Timestamp::now(), event: "end", result: Some(result), ..self.line };
        tracing::info!(
            target: "audit",
            actor = line.actor,
            operation = line.operation,
            // Not 'target': JSON lines have a key of that name already.
            subject = line.target,
            request_id = line.request_id,
            result = line.result,
            "operation"
        );
        if let Err(error) = self.audit.write(&line).await {
            tracing::error!(%error, operation = line.operation, subject = line.target, "the end of an operation could not be audited");
        }
    }
}

async fn appended(path: &Path) -> Result<tokio::fs::File> {
    let opened = tokio::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path).await;
    opened.map_err(|error| {
        Error::new(Kind::Invalid, format!("the audit file {} cannot be opened: {error}", path.display()))
            .remedy("name a file in a directory that the manager may write (setting audit.file)")
    })
}
