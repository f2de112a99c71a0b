//! The MCP face: the table of [`crate::tools`] for MCP clients of every protocol revision, over Streamable HTTP and over
//! standard input and output. It decides nothing: a [`Host`] does what is called.

mod confirm;
mod door;
mod handler;
mod http;
mod local;
mod message;
mod params;

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use crate::domain::access::Actor;
use crate::error::{Error, Kind, Result};
use crate::manager::OnProgress;
use crate::tools::Tool;

pub use door::Door;
pub use http::{Settings, router};

/// Who does what is called: the manager in this process, or one that is asked over its API.
#[async_trait]
pub trait Host: Send + Sync + 'static {
    /// The tools as MCP describes them.
    async fn tools(&self, actor: Option<&Actor>) -> Vec<Value>;

    /// Whether the user must confirm this tool first.
    async fn must_confirm(&self, tool: &Tool) -> Result<bool>;

    /// Calls a tool, or an old name of one.
    async fn call(&self, call: Request) -> Result<Value>;

    /// Whether calls end now because the process does, which is no wish of the caller's.
    fn is_stopping(&self) -> bool;
}

/// One call of a tool.
pub struct Request {
    /// Name of the tool, or an old name of one.
    pub name: String,
    /// Who calls; nobody is known where the process's own user calls.
    pub actor: Option<Actor>,
    /// The arguments.
    pub arguments: Map<String, Value>,
    /// Is told how far it is, when the client wants to know.
    pub progress: Option<OnProgress>,
    /// Cancelled when the client gives up on purpose.
    pub cancelled: CancellationToken,
}

/// Serves over standard input and output until the client closes them.
pub async fn serve_stdio(host: Arc<dyn Host>) -> Result<()> {
    let trouble = |error: rmcp::service::ServerInitializeError| match error {
        // The client went away before it said anything; nobody is there to be told.
        rmcp::service::ServerInitializeError::ConnectionClosed(_) => None,
        other => Some(Error::new(Kind::Invalid, format!("the MCP client does not speak the protocol: {other}"))),
    };
    let handler = handler::Handler::new(host, confirm::Signer::new(&rand::random::<[u8; 32]>()));
    match rmcp::ServiceExt::serve(handler, rmcp::transport::io::stdio_pipes()).await {
        Ok(running) => {
            // However it ended, the client is gone.
            let _ = running.waiting().await;
            Ok(())
        }
        Err(error) => trouble(error).map_or(Ok(()), Err),
    }
}
