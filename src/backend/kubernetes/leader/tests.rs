//! Who waits for the lease, and how a server that is away is asked, before a server that has nothing but a lease.

use std::cell::Cell;

use kube::core::Status;
use tokio::sync::Notify;

use super::super::lease::stand_in::{LONG, Server};
use super::*;

fn busy() -> kube::Error {
    kube::Error::Api(Box::new(Status { code: 503, message: "starting".to_owned(), ..Status::default() }))
}

#[tokio::test]
async fn a_server_that_is_away_is_asked_again_while_it_owes_answers() {
    let (asked, third) = (Cell::new(0), Notify::new());
    let ask = || async {
        asked.set(asked.get() + 1);
        match asked.get() {
            1 => third.notified().await,
            3 => {
                third.notify_one();
                std::future::pending::<()>().await;
            }
            _ => std::future::pending::<()>().await,
        }
        Ok(())
    };
    tokio::time::timeout(LONG, answers(ask)).await.expect("the first question is answered while two others are open");
}

#[tokio::test]
async fn what_a_server_says_of_itself_being_away_is_no_answer_and_a_refusal_is_one() {
    let asked = Cell::new(0);
    let ask = || async {
        asked.set(asked.get() + 1);
        let refusal = || kube::Error::Api(Box::new(Status { code: 403, ..Status::default() }));
        if asked.get() < 3 { Err(busy()) } else { Err(refusal()) }
    };
    tokio::time::timeout(LONG, answers(ask)).await.unwrap();
    assert_eq!(asked.get(), 3);
}

#[tokio::test]
async fn who_waits_for_the_lease_asks_nothing_while_it_is_renewed_and_takes_it_at_once_when_it_is_given_back() {
    let server = Server::start(true).await;
    let shared = server.manager();
    let ends = CancellationToken::new();
    let takes_part = shared.tasks.spawn("leader", take_part(shared.clone(), ends.clone()));
    server.until(|server| server.asked.lock().unwrap().contains(&"watch")).await;
    server.write("another");
    server.write("");
    server.until(|_| shared.is_leading()).await;
    assert_eq!(*server.asked.lock().unwrap(), ["get", "watch", "get", "patch"]);
    ends.cancel();
    assert!(takes_part.await.unwrap().is_some());
    assert_eq!(server.holder(), "", "who ends gives it back");
}

#[tokio::test]
async fn who_may_not_watch_the_lease_looks_at_it() {
    let server = Server::start(false).await;
    let shared = server.manager();
    let takes_part = shared.tasks.spawn("leader", take_part(shared.clone(), CancellationToken::new()));
    server.until(|server| server.asked.lock().unwrap().contains(&"watch")).await;
    server.write("");
    server.until(|_| shared.is_leading()).await;
    takes_part.abort();
}
