//! What clients have said to a server of an earlier era that one in its place has to hear again: the log level, and which
//! resources they want to hear of. Leaves out who keeps that.

use std::time::Duration;

use bytes::Bytes;

use super::link::Link;
use crate::error::Result;
use crate::rpc;

/// How long a server may take for each of these.
const LIMIT: Duration = Duration::from_secs(30);
/// No client's id, on a link that passes those on as they are.
const ID: &[u8] = b"\"mcp-bridge\"";

/// Says it all again, one after the other, until the server does not answer any more or the limit is reached. What it
/// refuses is left.
pub async fn repeat(link: &Link, level: Option<Bytes>, uris: impl IntoIterator<Item = String>, limit: Duration) {
    let all = async {
        if let Some(level) = level {
            say(link, "logging/setLevel", "level", &level).await?;
        }
        for uri in uris {
            say(link, "resources/subscribe", "uri", rpc::quoted(&uri).as_bytes()).await?;
        }
        Ok(())
    };
    let said: Result<()> = tokio::time::timeout(limit, all).await.unwrap_or(Ok(()));
    if let Err(error) = said {
        tracing::debug!(%error, "the server does not hear all that another one in its place was told");
    }
}

/// Subscribes the server to a resource, or ends that.
pub async fn tell_server(link: &Link, method: &'static str, uri: &str) {
    if let Err(error) = say(link, method, "uri", rpc::quoted(uri).as_bytes()).await {
        tracing::debug!(%error, method, "the server did not answer");
    }
}

async fn say(link: &Link, method: &str, name: &str, value: &[u8]) -> Result<()> {
    let params = [b"{\"", name.as_bytes(), b"\":", value, b"}"].concat();
    link.call(rpc::request(ID, method, &params), LIMIT).await.map(drop)
}
