//! The least HTTP client that can time a call: blocking, one request after the other, bodies of stated length only.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

/// An open connection.
pub struct Connection {
    stream: BufReader<TcpStream>,
    host: String,
}

/// An answer.
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Vec<u8>,
}

impl Connection {
    /// Connects; `patience` bounds connecting and every wait for bytes. Requests name `host`.
    pub fn open(address: SocketAddr, host: &str, patience: Duration) -> anyhow::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        Ok(Self { stream: BufReader::with_capacity(64 << 10, stream), host: host.to_owned() })
    }

    /// Sends a request, with JSON where there is a body, and reads the whole answer.
    pub fn call(&mut self, method: &str, path: &str, body: &str) -> anyhow::Result<Answer> {
        let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
        let head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n{kind}content-length: {}\r\n\r\n", self.host, body.len());
        self.stream.get_mut().write_all((head + body).as_bytes())?;
        let status = self.line()?;
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status line")?;
        let mut length = if status == 204 { Some(0) } else { None };
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = Some(value.trim().parse()?);
            }
        }
        let Some(length) = length else { bail!("{method} {path} answered {status} without the length of its body") };
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(Answer { status, body })
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        ensure!(self.stream.read_line(&mut line)? > 0, "the connection was closed");
        Ok(line.trim_end().to_owned())
    }
}

/// Sends one request on a connection of its own and expects success.
pub fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> anyhow::Result<Answer> {
    let answer = Connection::open(address, &address.to_string(), Duration::from_mins(2))?.call(method, path, body)?;
    ensure!(answer.status < 300, "{method} {path} answered {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
    Ok(answer)
}
