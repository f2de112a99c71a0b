//! What a client still sends of a body whose request is refused.
//!
//! Many clients write all of a request before they read the answer. To close a connection under their hands would take
//! the answer from them: they would see a broken connection and never learn why.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// So much of a refused body is read and thrown away, in bytes.
const MOST: u64 = 32 << 20;

/// So long it is read and thrown away.
const LONGEST: Duration = Duration::from_secs(5);

/// A body of a known length up to this has been written by the time that the answer is, in bytes.
const SMALL: u64 = 64 << 10;

/// Where a body is left by who does not read it to its end.
#[derive(Debug, Default, Clone)]
pub(super) struct Rest(Arc<Mutex<Option<Incoming>>>);

impl Rest {
    /// The request, of whose body this will have the rest.
    pub(super) fn of(&self, request: Request<Incoming>) -> Request<axum::body::Body> {
        let waits = request.headers().contains_key(header::EXPECT);
        request.map(|body| {
            if body.is_end_stream() {
                return axum::body::Body::empty();
            }
            axum::body::Body::new(Returning { body: Some(body), waits, rest: self.clone() })
        })
    }

    /// Reads the rest of a body whose request was refused; where there is too much of it, the answer says that the
    /// connection ends.
    pub(super) async fn discard<B>(self, response: &mut http::Response<B>) {
        let status = response.status();
        if !status.is_client_error() && !status.is_server_error() {
            return;
        }
        let left = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(body) = left else { return };
        let length = body.size_hint();
        if status != StatusCode::PAYLOAD_TOO_LARGE && length.upper().is_some_and(|upper| upper <= SMALL) {
            return;
        }
        if !matches!(tokio::time::timeout(LONGEST, read(body)).await, Ok(true)) {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

/// Reads a body to its end; false when it is too long for that, or breaks off.
async fn read(mut body: Incoming) -> bool {
    let mut room = MOST;
    while body.size_hint().lower() <= room {
        match body.frame().await {
            None => return true,
            Some(Err(_)) => return false,
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                room = room.saturating_sub(u64::try_from(length).unwrap_or(u64::MAX));
            }
        }
        if room == 0 {
            return false;
        }
    }
    false
}

/// A body that is given back when it is dropped.
struct Returning {
    body: Option<Incoming>,
    /// Its sender waits to be asked for it, and has not been.
    waits: bool,
    rest: Rest,
}

impl Body for Returning {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.waits = false;
        self.body.as_mut().map_or(Poll::Ready(None), |body| Pin::new(body).poll_frame(context))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Incoming::size_hint)
    }
}

impl Drop for Returning {
    fn drop(&mut self) {
        let left = self.body.take().filter(|body| !self.waits && !body.is_end_stream());
        *self.rest.0.lock().unwrap_or_else(PoisonError::into_inner) = left;
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::extract::DefaultBodyLimit;
    use axum::routing::post;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::lifecycle::Tasks;

    const LIMIT: usize = 1 << 20;

    async fn listening(tasks: &Tasks) -> TcpStream {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/", post(|_: Bytes| async {}))
            .route("/refused", post(|| async { StatusCode::UNAUTHORIZED }))
            .layer(DefaultBodyLimit::max(LIMIT));
        let served = crate::server::serve(listener, crate::server::Settings::default(), router, None, tasks.clone());
        tasks.spawn("server", served);
        TcpStream::connect(address).await.unwrap()
    }

    /// Writes a whole request, and reads only then.
    async fn post_whole(client: &mut TcpStream, path: &str, length: usize) -> String {
        let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
        client.write_all(&vec![b' '; length]).await.unwrap();
        head_of_answer(client).await
    }

    async fn head_of_answer(client: &mut TcpStream) -> String {
        let mut answer = Vec::new();
        let whole = async {
            while !answer.ends_with(b"\r\n\r\n") {
                answer.push(client.read_u8().await.unwrap());
            }
        };
        tokio::time::timeout(Duration::from_secs(20), whole).await.expect("an answer comes");
        String::from_utf8(answer).unwrap().to_ascii_lowercase()
    }

    #[tokio::test]
    async fn who_writes_all_before_it_reads_learns_that_the_body_is_too_large() {
        let tasks = Tasks::default();
        for megabytes in [2, 5, 10, 30] {
            let mut client = listening(&tasks).await;
            let answer = post_whole(&mut client, "/", megabytes << 20).await;
            assert!(answer.starts_with("http/1.1 413") && !answer.contains("connection: close"), "{megabytes}: {answer}");
        }
        tasks.stopping().cancel();
    }

    #[tokio::test]
    async fn who_writes_all_before_it_reads_learns_why_it_is_refused() {
        let tasks = Tasks::default();
        for megabytes in [1, 5, 10] {
            let mut client = listening(&tasks).await;
            let answer = post_whole(&mut client, "/refused", megabytes << 20).await;
            assert!(answer.starts_with("http/1.1 401") && !answer.contains("connection: close"), "{megabytes}: {answer}");
        }
        tasks.stopping().cancel();
    }

    #[tokio::test]
    async fn who_waits_to_be_asked_for_its_body_is_refused_without_being_asked() {
        let tasks = Tasks::default();
        let mut client = listening(&tasks).await;
        let head = "POST /refused HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 5000000\r\n\r\n";
        client.write_all(head.as_bytes()).await.unwrap();
        let answer = head_of_answer(&mut client).await;
        assert!(answer.starts_with("http/1.1 401"), "{answer}");
        tasks.stopping().cancel();
    }

    #[tokio::test]
    async fn an_answer_before_the_end_of_a_body_says_that_the_connection_is_closed() {
        let tasks = Tasks::default();
        let mut client = listening(&tasks).await;
        let head = format!("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", 1_usize << 30);
        client.write_all(head.as_bytes()).await.unwrap();
        client.write_all(&vec![b' '; LIMIT + 1]).await.unwrap();
        let answer = head_of_answer(&mut client).await;
        assert!(answer.starts_with("http/1.1 413") && answer.contains("connection: close"), "{answer}");
        tasks.stopping().cancel();
    }
}
