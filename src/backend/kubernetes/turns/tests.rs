//! Turns of two managers, before a server that has nothing but their lease.

use futures_util::future::ready;
use kube::core::Status;
use tokio::time::timeout;

use super::super::lease::stand_in::{LONG, Server};
use super::super::world::{Item, News, Source};
use super::*;
use crate::backend::Change;
use crate::domain::name::ServiceName;
use crate::domain::status::Desired;

const SHORT: Duration = Duration::from_millis(50);

/// A root object of this version, as a call is answered.
async fn recorded_as(turn: &Turn, version: &str) -> Result<DynamicObject> {
    let mut object = DynamicObject::new("mcp-echo", &kinds::root());
    object.metadata.resource_version = Some(version.to_owned());
    turn.write(ready(Ok(object))).await
}

/// The watch tells of it.
fn tell(turns: &Turns, version: &str) {
    let service: ServiceName = "echo".parse().unwrap();
    let record = Change { spec: Arc::default(), template: None, desired: Desired::Running }.first(&service);
    let root = Root { uid: "u".into(), version: version.into(), deleting: false, record: Arc::new(record), refusal: None };
    turns.shared.hear(Source::Roots, News::Is { service, name: String::new(), item: Box::new(Item::Root(root)) });
}

async fn free(server: &Server) {
    server.until(|server| server.holder().is_empty()).await;
}

/// A server whose lease is free, and two managers.
async fn two() -> (Arc<Server>, Arc<Turns>, Arc<Turns>) {
    let server = Server::start(false).await;
    server.lease.send_modify(|lease| lease["metadata"]["annotations"] = json!({names::RECORDED: "0"}));
    server.write("");
    let (one, other) = (Turns::new(server.manager()), Turns::new(server.manager()));
    (server, one, other)
}

#[tokio::test]
async fn turns_do_not_overlap_and_who_waits_for_one_has_it_soon() {
    let (_server, one, other) = two().await;
    let turn = one.take().await.unwrap();
    assert!(timeout(SHORT, other.take()).await.is_err());
    drop(turn);
    timeout(LONG, other.take()).await.unwrap().unwrap();
}

#[tokio::test]
async fn who_has_had_the_last_turn_takes_the_next_with_one_call_and_requests_share_it() {
    let (server, one, _) = two().await;
    drop(one.take().await.unwrap());
    free(&server).await;
    server.asked();
    let (first, second) = tokio::join!(one.take(), one.take());
    let (first, second) = (first.unwrap(), second.unwrap());
    let joined = one.join().await.unwrap();
    assert!(Arc::ptr_eq(&first, &second) && Arc::ptr_eq(&first, &joined));
    assert_eq!(server.asked(), ["patch"]);
    drop((first, second));
    assert!(timeout(SHORT, free(&server)).await.is_err(), "one request has it yet");
    drop(joined);
    free(&server).await;
    assert_eq!(server.asked(), ["patch"]);
}

#[tokio::test]
async fn a_turn_begins_when_what_others_have_recorded_is_known() {
    let (server, one, other) = two().await;
    let turn = one.take().await.unwrap();
    recorded_as(&turn, "9").await.unwrap();
    drop(turn);
    free(&server).await;
    let mut waits = std::pin::pin!(other.take());
    assert!(timeout(SHORT, &mut waits).await.is_err(), "the watch has told of nothing");
    tell(&other, "9");
    timeout(LONG, waits).await.unwrap().unwrap();
    assert!(!server.asked().contains(&"list"));
}

#[tokio::test]
async fn what_nobody_knows_to_be_written_is_looked_for_by_the_next_turn() {
    let (server, one, other) = two().await;
    let turn = one.take().await.unwrap();
    let refusal = kube::Error::Api(Box::new(Status { code: 409, reason: "Conflict".into(), ..Status::default() }));
    assert_eq!(turn.write(ready(Err(refusal))).await.unwrap_err().kind, Kind::Conflict);
    drop(turn);
    drop(other.take().await.unwrap());
    assert!(!server.asked().contains(&"list"), "a refusal has written nothing");
    let turn = one.take().await.unwrap();
    let cut = kube::Error::Api(Box::new(Status { code: 504, ..Status::default() }));
    assert_eq!(turn.write(ready(Err(cut))).await.unwrap_err().kind, Kind::BackendUnavailable);
    drop(turn);
    drop(other.take().await.unwrap());
    assert!(server.asked().contains(&"list"));
}

#[tokio::test]
async fn a_manager_with_many_requests_lets_others_in_between() {
    let (_server, one, other) = two().await;
    let many = async {
        for _ in 0..10_000 {
            let _turn = one.take().await.unwrap();
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    };
    let waits = async {
        tokio::time::sleep(SHORT).await;
        other.take().await.unwrap()
    };
    tokio::select! {
        biased;
        _ = timeout(LONG, waits) => {}
        () = many => panic!("it never had its turn"),
    }
}

#[tokio::test]
async fn nothing_is_written_in_a_turn_that_may_have_run_out() {
    let (_server, one, _) = two().await;
    let since = one.take().await.unwrap().since.checked_sub(TRUSTED).unwrap();
    let turn = Turn { turns: one, since };
    assert_eq!(recorded_as(&turn, "9").await.unwrap_err().kind, Kind::Conflict);
}
