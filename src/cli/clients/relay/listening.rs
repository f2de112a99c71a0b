//! What the server says by itself, in sessions of the earlier eras: heard over one stream after the other, and in one session
//! after the other. Leaves out what is said.

use std::convert::Infallible;
use std::rc::Rc;

use super::link::Link;
use super::stream::{FIRST_PAUSE, NoStream, Place, read};
use super::write_line;
use crate::rpc::pauses::Pauses;

/// Why a session is not listened to any more.
enum Silence {
    /// Nothing is to be heard in it.
    Forever,
    /// The endpoint does not know it any more.
    Gone,
}

/// Writes what the server says by itself.
pub async fn listen(link: Rc<Link>) -> Infallible {
    let mut sessions = link.sessions();
    let mut pauses = Pauses::beginning_with(FIRST_PAUSE);
    loop {
        let session = match sessions.wait_for(Option::is_some).await {
            Ok(session) => session.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        };
        let is_other = |now: &Option<String>| now.as_deref() != Some(session.as_str());
        let silence = tokio::select! {
            _ = sessions.wait_for(is_other) => continue,
            silence = hear(&link, &mut pauses) => silence,
        };
        if matches!(silence, Silence::Gone) {
            // This does not end before its time: a session that is half begun would be nobody's.
            while !is_other(&link.session()) && link.begin_again(&session).await.is_err() {
                tokio::time::sleep(pauses.pause()).await;
            }
        } else {
            // What would have to be dropped before the next turn: who holds it keeps the session from being changed.
            drop(sessions.wait_for(is_other).await);
        }
    }
}

/// Writes what the server says in a session.
async fn hear(link: &Link, pauses: &mut Pauses) -> Silence {
    let (mut place, mut is_first) = (Place::default(), true);
    loop {
        let was_open = match link.open(&place).await {
            Ok(response) => {
                let heard = read(&link.client, response, &mut place, false, &mut |text| write_line(text).map(|()| false)).await;
                // Nobody reads any more.
                let Ok(end) = heard else { return Silence::Forever };
                if end.worked {
                    pauses.reset();
                }
                true
            }
            Err(NoStream::Never) => return Silence::Forever,
            // A session that has just begun is known, so it is such streams that are not.
            Err(NoStream::Gone) => return if is_first { Silence::Forever } else { Silence::Gone },
            Err(NoStream::Forgotten) => {
                place.forget();
                continue;
            }
            Err(NoStream::NotNow) => false,
        };
        is_first = false;
        tokio::time::sleep(place.pause(was_open, pauses)).await;
    }
}
