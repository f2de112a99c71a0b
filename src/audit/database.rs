//! The audit in a table of PostgreSQL, for managers that share no file: a row when an operation begins, a row when it ends.
//!
//! The table is made when it is missing; where it is there, the right to insert is enough, so that the manager's account can
//! be one that cannot change what was written. Reading it is left to SQL.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio_postgres::{Client, NoTls, Statement};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::Line;
use crate::error::{Error, Kind, Result};
use crate::lifecycle::Tasks;

/// Longest time for one row, a new connection included: callers wait for it.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest time that the database may take at the start of a manager, with which it may start.
const PATIENCE_AT_START: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(500);

/// Managers that start together make the table one after the other. `IF NOT EXISTS` alone would fail in one of them.
const TABLE: &str = "
    BEGIN;
    SELECT pg_advisory_xact_lock(7305808);
    CREATE TABLE IF NOT EXISTS mcp_audit (
        entry text NOT NULL, event text NOT NULL, at timestamptz NOT NULL, actor text NOT NULL, operation text NOT NULL,
        target text NOT NULL, request_id text, result text, PRIMARY KEY (entry, event));
    CREATE INDEX IF NOT EXISTS mcp_audit_at ON mcp_audit (at);
    COMMIT;";
/// A row whose acknowledgement was lost may be sent again.
const ROW: &str = "INSERT INTO mcp_audit (entry, event, at, actor, operation, target, request_id, result) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING";

/// The table. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Database {
    config: Arc<tokio_postgres::Config>,
    tasks: Tasks,
    /// Operations under way: as long as there are any, a manager that stops keeps its connection.
    open: TaskTracker,
    connected: Arc<Mutex<Option<Arc<Connected>>>>,
}

struct Connected {
    client: Client,
    row: Statement,
}

impl Database {
    /// The database at `url` (`postgres://…`), which must answer and have the table or let it be made.
    pub async fn open(url: &str, tasks: &Tasks) -> Result<Self> {
        let database = Self::at(url, tasks)?;
        database.answers(PATIENCE_AT_START).await?;
        Ok(database)
    }

    fn at(url: &str, tasks: &Tasks) -> Result<Self> {
        let mut config: tokio_postgres::Config = url.parse().map_err(|error: tokio_postgres::Error| {
            Error::new(Kind::Invalid, "the setting audit.database_url is not the address of a PostgreSQL database")
                .remedy("write postgres://USER:PASSWORD@HOST:PORT/DATABASE")
                .because(error)
        })?;
        config.connect_timeout(PATIENCE).tcp_user_timeout(PATIENCE).application_name("mcp-manager");
        Ok(Self { config: Arc::new(config), tasks: tasks.clone(), open: TaskTracker::new(), connected: Arc::default() })
    }

    /// Waits for the first answer.
    async fn answers(&self, patience: Duration) -> Result<()> {
        let began = tokio::time::Instant::now();
        while let Err(error) = within(self.connected()).await {
            if began.elapsed() >= patience {
                return Err(Error::new(Kind::Invalid, format!("the audit's database cannot be used: {error}"))
                    .remedy("see that it runs at the address of the setting audit.database_url and takes this account"));
            }
            tracing::debug!(%error, "the audit's database does not answer yet");
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Keeps the connection until it is dropped.
    pub fn hold(&self) -> TaskTrackerToken {
        self.open.token()
    }

    /// Adds a row.
    pub async fn write(&self, line: &Line) -> std::io::Result<()> {
        let written = within(async {
            let connected = self.connected().await?;
            match connected.insert(line).await {
                // The database has been restarted, or somebody between has lost the connection.
                Err(_) if connected.client.is_closed() => self.connected().await?.insert(line).await,
                other => other,
            }
        });
        let written = written.await;
        if written.is_err()
            && let Ok(mut connected) = self.connected.try_lock()
        {
            // Whatever it was, the next row does not wait for this connection again.
            *connected = None;
        }
        written
    }

    /// The connection that there is, or a new one.
    async fn connected(&self) -> std::io::Result<Arc<Connected>> {
        let mut slot = self.connected.lock().await;
        if let Some(connected) = slot.as_ref().filter(|connected| !connected.client.is_closed()) {
            return Ok(connected.clone());
        }
        let (client, connection) = self.config.connect(NoTls).await.map_err(|error| fault(&error))?;
        let (stopping, open) = (self.tasks.stopping(), self.open.clone());
        self.tasks.spawn("audit database", async move {
            let done = async {
                stopping.cancelled().await;
                open.close();
                open.wait().await;
            };
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    tracing::warn!(error = %fault(&error), "the connection to the audit's database has ended");
                },
                () = done => {}
            }
        });
        let table: Option<String> =
            client.query_one("SELECT to_regclass('mcp_audit')::text", &[]).await.map_err(|error| fault(&error))?.get(0);
        if table.is_none() {
            client.batch_execute(TABLE).await.map_err(|error| fault(&error))?;
        }
        let row = client.prepare(ROW).await.map_err(|error| fault(&error))?;
        Ok(slot.insert(Arc::new(Connected { client, row })).clone())
    }
}

impl Connected {
    async fn insert(&self, line: &Line) -> std::io::Result<()> {
        let Line { entry, event, at, actor, operation, target, request_id, result } = line;
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 8] =
            [entry, event, at, actor, operation, target, request_id, result];
        self.client.execute(&self.row, &values).await.map(drop).map_err(|error| fault(&error))
    }
}

impl std::fmt::Debug for Connected {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Connected").finish_non_exhaustive()
    }
}

async fn within<T>(work: impl Future<Output = std::io::Result<T>>) -> std::io::Result<T> {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
}

/// The library's own text says "db error" alone; what the database said is its cause.
fn fault(error: &tokio_postgres::Error) -> std::io::Error {
    let said = error.as_db_error().map(|said| said.message().to_owned());
    let said = said.or_else(|| std::error::Error::source(error).map(ToString::to_string));
    std::io::Error::other(said.unwrap_or_else(|| error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_none_is_refused_without_its_password() {
        let error = Database::at("postgres://me:secret@host:port/db", &Tasks::default()).unwrap_err();
        assert!(error.detail.contains("audit.database_url") && !error.detail.contains("secret"), "{error:?}");
    }

    #[tokio::test]
    async fn a_database_that_does_not_answer_is_an_error_without_its_password() {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let database = Database::at(&format!("postgres://me:secret@{nobody}/db"), &Tasks::default()).unwrap();
        let error = database.answers(Duration::ZERO).await.unwrap_err();
        assert!(error.detail.contains("cannot be used") && !format!("{error:?}").contains("secret"), "{error:?}");
    }
}
