//! Streams of events that are gone on with where they were cut, behind the last event that came: what a server says by itself,
//! and answers of the earlier eras. Leaves out what is said.

use std::time::Duration;

use reqwest::header::HeaderValue;
use reqwest::{Method, Response, StatusCode};
use tokio::time::{Instant, timeout_at};

use super::super::super::client::Client;
use super::super::super::exit::{Outcome, Trouble};
use super::super::super::sse;
use super::link::Link;
use super::message::Message;
use crate::error::{Error, Kind};
use crate::rpc::events::Events;
use crate::rpc::pauses::{Pauses, WORKS};

/// An event longer than this is not read to its end. A bridge passes messages of up to 64 MiB.
const MAX_EVENT: usize = 65 << 20;

/// So long a stream may go on when it has given all that was waited for.
const LINGER: Duration = Duration::from_secs(1);

/// Nobody is asked sooner again, whatever is said of it.
const LEAST_PAUSE: Duration = Duration::from_millis(100);

/// An answer is asked for so often in a row without a word of it.
const ATTEMPTS: usize = 5;

/// Between the first attempts to reach the endpoint.
pub const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Where a stream can be gone on with.
#[derive(Debug, Default)]
pub struct Place {
    last: Option<HeaderValue>,
    retry: Option<Duration>,
}

impl Place {
    /// Forgets the last event. Whether there was one.
    pub fn forget(&mut self) -> bool {
        self.last.take().is_some()
    }

    /// How long the server is left alone: as long as it wants when its stream has ended, and longer and longer when there was
    /// none.
    pub fn pause(&self, was_open: bool, pauses: &mut Pauses) -> Duration {
        match self.retry {
            Some(wanted) if was_open => wanted.max(LEAST_PAUSE),
            wanted => pauses.pause().max(wanted.unwrap_or_default()),
        }
    }

    fn note(&mut self, events: &Events) {
        if let Some(id) = events.last_id() {
            self.last = HeaderValue::from_bytes(id).ok().filter(|id| !id.is_empty());
        }
        self.retry = events.retry().or(self.retry);
    }
}

/// How a stream has ended.
pub struct End {
    /// All that was waited for has come.
    pub done: bool,
    /// It said something, or was open for a while.
    pub worked: bool,
    why: Option<Trouble>,
}

/// Why there is no stream.
#[derive(Debug, PartialEq, Eq)]
pub enum NoStream {
    /// The endpoint has none.
    Never,
    /// It does not know the session.
    Gone,
    /// It does not know what is to be gone on with.
    Forgotten,
    /// It may be otherwise next time.
    NotNow,
}

/// What a message is given to; it says whether all that was waited for has come.
pub type Each<'e> = &'e mut dyn FnMut(&str) -> Outcome<bool>;

/// Reads a stream to its end and gives each message to `each`. An error is one of `each`.
pub async fn read(client: &Client, mut response: Response, place: &mut Place, done: bool, each: Each<'_>) -> Outcome<End> {
    let began = Instant::now();
    let mut events = Events::default();
    let (mut done, mut worked) = (done, false);
    let mut until = done.then(|| began + LINGER);
    let why = loop {
        let chunk = match until {
            Some(until) => match timeout_at(until, response.chunk()).await {
                Ok(chunk) => chunk,
                Err(_) => break None,
            },
            None => response.chunk().await,
        };
        match chunk {
            Ok(Some(bytes)) => events.push(&bytes),
            Ok(None) => break None,
            Err(error) => break Some(client.no_answer(error)),
        }
        while let Some(data) = events.take() {
            worked = true;
            done |= each(&String::from_utf8_lossy(&data))?;
        }
        place.note(&events);
        if events.pending() > MAX_EVENT {
            // It would be as long the next time.
            place.forget();
            let error = Error::new(Kind::BackendUnavailable, "a message of the endpoint is longer than 64 MiB");
            break Some(Trouble::unreachable(error));
        }
        if done && until.is_none() {
            until = Some(Instant::now() + LINGER);
        }
    };
    Ok(End { done, worked: worked || began.elapsed() >= WORKS, why })
}

impl Link {
    /// Opens the stream of the session: behind an event, or that of what the server says by itself.
    pub async fn open(&self, place: &Place) -> Result<Response, NoStream> {
        self.settled().await;
        let mut request = self.request(Method::GET, "text/event-stream");
        if let Some(last) = &place.last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.map_err(|_| NoStream::NotNow)?;
        let status = response.status();
        if status.is_success() {
            return if sse::is_stream(&response) { Ok(response) } else { Err(NoStream::Never) };
        }
        Err(match status {
            StatusCode::NOT_FOUND => NoStream::Gone,
            StatusCode::BAD_REQUEST if place.last.is_some() => NoStream::Forgotten,
            StatusCode::NOT_IMPLEMENTED => NoStream::Never,
            // Some have one stream at a time, and do not know yet that the former one has ended.
            StatusCode::CONFLICT | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => NoStream::NotNow,
            _ if status.is_server_error() => NoStream::NotNow,
            _ => NoStream::Never,
        })
    }

    /// Reads the answer to a message, which is a stream, until all that was waited for has come. Where the stream is cut before,
    /// it is gone on with if its events have ids in a session.
    pub async fn follow(&self, response: Response, message: &Message, each: Each<'_>) -> Outcome {
        let (mut place, mut pauses, mut attempts) = (Place::default(), Pauses::beginning_with(FIRST_PAUSE), 0);
        let (session, done) = (self.session(), message.ids.is_empty());
        let goes_on = || message.version.is_none() && session.is_some() && session == self.session() && !message.called_off.get();
        let mut end = read(&self.client, response, &mut place, done, each).await?;
        let mut was_open = true;
        while !end.done && place.last.is_some() && goes_on() {
            // Some end their streams all the time, and say when to come back.
            if end.worked || (was_open && place.retry.is_some()) {
                attempts = 0;
                pauses.reset();
            }
            attempts += 1;
            if attempts > ATTEMPTS {
                break;
            }
            tokio::time::sleep(place.pause(was_open, &mut pauses)).await;
            if !goes_on() {
                break;
            }
            match self.open(&place).await {
                Ok(response) => {
                    let last = place.last.clone();
                    end = read(&self.client, response, &mut place, done, each).await?;
                    end.worked |= last != place.last;
                    was_open = true;
                }
                Err(NoStream::NotNow) => (was_open, end.worked) = (false, false),
                Err(_) => break,
            }
        }
        if end.done {
            return Ok(());
        }
        let broke_off = || {
            let error = Error::new(Kind::BackendUnavailable, "the endpoint ended its stream before it had answered");
            Trouble::unreachable(error.remedy("see whether the service still runs; what was asked for may have been done"))
        };
        Err(end.why.unwrap_or_else(broke_off))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_left_alone_as_long_as_it_wants_and_longer_and_longer_while_it_fails() {
        let (mut place, mut pauses) = (Place::default(), Pauses::beginning_with(FIRST_PAUSE));
        let mut next = |place: &Place, was_open| place.pause(was_open, &mut pauses).as_millis();
        assert_eq!([next(&place, true), next(&place, false)], [500, 1000]);
        let mut events = Events::default();
        events.push(b"id: 7\nretry: 1700\ndata:\n\n");
        assert_eq!(events.take(), None);
        place.note(&events);
        assert_eq!(
            [true, false, false, false, false, false].map(|was_open| next(&place, was_open)),
            [1700, 2000, 5000, 10_000, 30_000, 30_000]
        );
        place.retry = Some(Duration::ZERO);
        assert_eq!(next(&place, true), 100, "not at once, whatever it says");
        pauses.reset();
        assert_eq!(place.pause(false, &mut pauses).as_millis(), 500);
        assert!(place.forget() && !place.forget());
    }
}
