//! A keep-alive connection to a Streamable HTTP endpoint of MCP, and sessions on it. Reads answers of stated length and
//! in chunks, as JSON and as events; anything else is an error.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long any one answer may take.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Where an MCP server is.
#[derive(Clone, Debug)]
pub struct Endpoint {
    address: SocketAddr,
    path: String,
}

impl Endpoint {
    /// From `http://IP:PORT/PATH`.
    pub fn parse(url: &str) -> anyhow::Result<Self> {
        let rest = url.strip_prefix("http://").context("an endpoint begins with http://")?;
        let (address, path) = rest.split_once('/').unwrap_or((rest, ""));
        Ok(Self { address: address.parse().with_context(|| format!("{address} is not IP:PORT"))?, path: format!("/{path}") })
    }

    /// Opens a session of revision 2025-11-25, up to its first list of tools; gives its id.
    pub async fn open_session(&self) -> anyhow::Result<String> {
        let mut connection = Connection::open(self).await?;
        let initialize = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#;
        let opened = connection.post(None, initialize.as_bytes()).await?;
        ensure!(opened.status == 200, "initialize answered {}", opened.status);
        let session = opened.session.clone().context("initialize answered without mcp-session-id")?;
        let initialized = br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        let noted = connection.post(Some(&session), initialized).await?;
        ensure!(noted.status < 300, "notifications/initialized answered {}", noted.status);
        let listed = connection.post(Some(&session), br#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#).await?;
        ensure!(listed.status == 200, "tools/list answered {}", listed.status);
        Ok(session)
    }

    /// Ends a session. Servers may refuse that, so nothing is made of the answer.
    pub async fn close_session(&self, session: &str) -> anyhow::Result<()> {
        Connection::open(self).await?.request("DELETE", Some(session), b"").await?;
        Ok(())
    }
}

/// An open connection.
pub struct Connection {
    stream: TcpStream,
    endpoint: Endpoint,
    /// What was read and not yet used.
    unread: Vec<u8>,
}

/// An answer.
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// The session that it opened.
    pub session: Option<String>,
    events: bool,
    body: Vec<u8>,
}

impl Answer {
    /// The JSON-RPC messages in it.
    pub fn messages(&self) -> impl Iterator<Item = &[u8]> {
        let whole = (!self.events && !self.body.is_empty()).then_some(self.body.as_slice());
        let events = self.events.then(|| {
            let lines = self.body.split(|byte| *byte == b'\n');
            lines.filter_map(|line| line.strip_prefix(b"data:")).map(<[u8]>::trim_ascii).filter(|data| !data.is_empty())
        });
        whole.into_iter().chain(events.into_iter().flatten())
    }
}

impl Connection {
    /// Connects.
    pub async fn open(endpoint: &Endpoint) -> anyhow::Result<Self> {
        let stream =
            TcpStream::connect(endpoint.address).await.with_context(|| format!("nobody answers at {}", endpoint.address))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, endpoint: endpoint.clone(), unread: Vec::with_capacity(64 << 10) })
    }

    /// Posts a message and reads the whole answer.
    pub async fn post(&mut self, session: Option<&str>, message: &[u8]) -> anyhow::Result<Answer> {
        self.request("POST", session, message).await
    }

    async fn request(&mut self, method: &str, session: Option<&str>, body: &[u8]) -> anyhow::Result<Answer> {
        let Endpoint { address, path } = &self.endpoint;
        let session =
            session.map_or_else(String::new, |id| format!("mcp-session-id: {id}\r\nmcp-protocol-version: 2025-11-25\r\n"));
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
             accept: application/json, text/event-stream\r\n{session}content-length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        let answered = tokio::time::timeout(PATIENCE, async {
            self.stream.write_all(&request).await?;
            self.read().await
        });
        answered.await.with_context(|| format!("no answer in {} s", PATIENCE.as_secs()))?
    }

    async fn read(&mut self) -> anyhow::Result<Answer> {
        let head = loop {
            if let Some(at) = self.unread.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break self.unread.drain(..at + 4).collect::<Vec<_>>();
            }
            self.more().await?;
        };
        let head = String::from_utf8(head).context("headers that are not text")?;
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).context("no status line")?;
        let mut answer = Answer { status, session: None, events: false, body: Vec::new() };
        let (mut length, mut chunked) = (None, false);
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = Some(value.parse()?),
                "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
                "content-type" => answer.events = value.starts_with("text/event-stream"),
                "mcp-session-id" => answer.session = Some(value.to_owned()),
                _ => {}
            }
        }
        match length {
            _ if chunked => self.chunks(&mut answer.body).await?,
            Some(length) => self.take(length, &mut answer.body).await?,
            None if status == 202 || status == 204 => {}
            None => bail!("an answer of status {status} without the length of its body"),
        }
        Ok(answer)
    }

    async fn chunks(&mut self, body: &mut Vec<u8>) -> anyhow::Result<()> {
        loop {
            let line = loop {
                if let Some(at) = self.unread.windows(2).position(|bytes| bytes == b"\r\n") {
                    break self.unread.drain(..at + 2).collect::<Vec<_>>();
                }
                self.more().await?;
            };
            let size = std::str::from_utf8(&line)?.trim().split(';').next().unwrap_or_default();
            let size = usize::from_str_radix(size, 16).with_context(|| format!("'{size}' is not the size of a chunk"))?;
            self.take(size, body).await?;
            self.take(2, &mut Vec::new()).await?;
            if size == 0 {
                return Ok(());
            }
        }
    }

    /// Moves so many bytes to the end of `into`.
    async fn take(&mut self, length: usize, into: &mut Vec<u8>) -> anyhow::Result<()> {
        let there = length.min(self.unread.len());
        into.extend(self.unread.drain(..there));
        let mut missing = length - there;
        into.reserve(missing);
        while missing > 0 {
            let read = (&mut self.stream).take(missing as u64).read_buf(into).await?;
            ensure!(read > 0, "the connection was closed in the middle of an answer");
            missing -= read;
        }
        Ok(())
    }

    async fn more(&mut self) -> anyhow::Result<()> {
        ensure!(self.stream.read_buf(&mut self.unread).await? > 0, "the connection was closed");
        Ok(())
    }
}
