//! What services say outside of answers, at the endpoints over many services: who hears of which change, and that nobody
//! stops hearing because a service ended a stream or forgot a session.

use reqwest::Method;
use serde_json::{Value, json};

use super::aggregate::{create as create_echo, listen, subscribe};
use crate::support::machine::{Part, offered};
use crate::support::mcp::{Session, stateless};
use crate::support::product::{Options, Product};
use crate::support::scripted::{self, Heard, tell};
use crate::support::{eventually, podman};

const TOOLS_CHANGED: &str = "\"method\":\"notifications/tools/list_changed\"";
const UPDATED: &str = "notifications/resources/updated";

/// Waits until so many tools, prompts, resources and templates are listed.
async fn seen(product: &Product, url: &str, counts: [usize; 4]) {
    let lists =
        [("tools", "tools"), ("prompts", "prompts"), ("resources", "resources"), ("resources/templates", "resourceTemplates")];
    for ((list, member), count) in lists.into_iter().zip(counts) {
        eventually(&format!("{count} of {list} are listed"), async || {
            let answer = stateless(&product.client, url, &format!("{list}/list"), json!({})).await;
            answer.result()[member].as_array().unwrap().len() == count
        })
        .await;
    }
}

/// Listeners of both eras at an endpoint: with a session, which is given too, and without one.
async fn listeners(product: &Product, url: &str) -> (Session, [Heard; 2]) {
    let session = Session::open(&product.client, url).await;
    let heard = Heard::on(listen(product, url, &session).await);
    (session, [heard, Heard::on(subscribe(product, url).await)])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_does_not_hear_of_services_that_come_and_go_elsewhere() {
    if !podman::ready().await {
        return;
    }
    let product = Product::start(Options::podman().with("MCP_MANAGER_AGGREGATE_GROUPS", "own=mine,both=mine+other")).await;
    let url = |path: &str| format!("{}/mcp/{path}", product.url);
    create_echo(&product, "mine").await;
    seen(&product, &url("g/own"), [5, 1, 1, 1]).await;
    let (_own, own) = listeners(&product, &url("g/own")).await;
    let (_both, both) = listeners(&product, &url("g/both")).await;
    let (_all, all) = listeners(&product, &url("all")).await;
    create_echo(&product, "other").await;
    for heard in both.iter().chain(&all) {
        heard.hears(TOOLS_CHANGED, 1).await;
    }
    assert_eq!(product.call(Method::DELETE, "/containers/other").await.0, 204);
    for heard in both.iter().chain(&all) {
        heard.hears(TOOLS_CHANGED, 2).await;
    }
    // What was heard by mistake would have been heard by then, and once more now.
    assert_eq!(product.call(Method::DELETE, "/containers/mine").await.0, 204);
    for heard in &own {
        heard.hears(TOOLS_CHANGED, 1).await;
    }
    for heard in both.iter().chain(&all) {
        heard.hears(TOOLS_CHANGED, 3).await;
    }
    assert_eq!(own[0].times("list_changed"), 3, "its tools, prompts and resources are gone");
    assert_eq!(own[1].times("list_changed"), 1, "it asked for news of tools alone");
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_hears_of_the_changes_that_its_clients_can_see() {
    if !podman::ready().await || offered(Part::Hub).is_none() {
        return;
    }
    let options = Options::podman().with("MCP_MANAGER_AGGREGATE_GROUPS", "own=mine");
    let product = Product::start(options.with("MCP_MANAGER_AGGREGATE_HIDDEN", "*__secret")).await;
    let (own_url, all_url) = (format!("{}/mcp/g/own", product.url), format!("{}/mcp/all", product.url));
    for name in ["mine", "other"] {
        scripted::create(&product, name).await;
    }
    seen(&product, &all_url, [2, 0, 4, 0]).await;
    let (_own, own) = listeners(&product, &own_url).await;
    let (_all, all) = listeners(&product, &all_url).await;
    tell(&product, "other", json!({"tools": ["one", "two"]})).await;
    seen(&product, &all_url, [3, 0, 4, 0]).await;
    for heard in &all {
        heard.hears(TOOLS_CHANGED, 1).await;
    }
    // Nobody sees the first of these changes.
    tell(&product, "mine", json!({"tools": ["one", "secret"]})).await;
    tell(&product, "other", json!({"tools": ["one", "two", "three"]})).await;
    seen(&product, &all_url, [4, 0, 4, 0]).await;
    tell(&product, "mine", json!({"tools": ["one", "secret", "more"]})).await;
    seen(&product, &all_url, [5, 0, 4, 0]).await;
    for heard in &own {
        heard.hears(TOOLS_CHANGED, 1).await;
    }
    for heard in &all {
        heard.hears(TOOLS_CHANGED, 3).await;
    }
    product.finish().await;
}

/// A client's session at the endpoint over all services, subscribed to the scripted service's resource `a:1`, and what it
/// hears.
async fn subscribed(product: &Product, name: &str) -> (Session, Heard) {
    let url = format!("{}/mcp/all", product.url);
    seen(product, &url, [1, 0, 2, 0]).await;
    let session = Session::open(&product.client, &url).await;
    let heard = Heard::on(listen(product, &url, &session).await);
    session.call("resources/subscribe", json!({"uri": format!("mcp.{name}+a:1")})).await.result();
    eventually("the service is listened to", async || scripted::sessions(product, name).await[0]["open"] == 1).await;
    (session, heard)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_a_service_ends_is_opened_again_where_it_ended_until_the_session_ends() {
    if !podman::ready().await || offered(Part::Hub).is_none() {
        return;
    }
    let product = Product::start(Options::podman()).await;
    scripted::create(&product, "old").await;
    let (session, heard) = subscribed(&product, "old").await;
    let updated = json!({"updated": "a:1"});
    tell(&product, "old", updated.clone()).await;
    heard.hears(UPDATED, 1).await;
    // What is said while there is no stream comes with the next one.
    tell(&product, "old", json!({"end": 1, "updated": "a:1"})).await;
    heard.hears(UPDATED, 2).await;
    // A service that has no time for it is asked again, after a pause.
    tell(&product, "old", json!({"end": 1, "updated": "a:1", "refuse": 2})).await;
    heard.hears(UPDATED, 3).await;
    assert_eq!(heard.times("\"uri\":\"mcp.old+a:1\""), 3);
    let begun = scripted::sessions(&product, "old").await[0]["begun"].clone();
    let begun: Vec<(f64, Value)> = serde_json::from_value(begun).unwrap();
    let after: Vec<&Value> = begun.iter().map(|(_, after)| after).collect();
    assert_eq!(json!(after), json!([null, "0", "refused", "refused", "1"]));
    assert!(begun.windows(2).all(|pair| pair[1].0 - pair[0].0 > 0.9), "without a pause: {begun:?}");

    assert_eq!(session.close().await, 204);
    let over = async || scripted::sessions(&product, "old").await.iter().all(|own| own["open"] == 0 && own["known"] == false);
    eventually("nothing is left at the service", over).await;
    // The manager's own session goes on, and its stream is opened again no sooner than the other would be.
    let of_manager = async || {
        let told = tell(&product, "old", json!({})).await;
        told["sessions"].as_array().unwrap().iter().find(|own| own["client"] == "mcp-manager").unwrap().clone()
    };
    eventually("the manager listens", async || of_manager().await["open"] == 1).await;
    let count = async || of_manager().await["begun"].as_array().unwrap().len();
    let before = count().await;
    tell(&product, "old", json!({"end": 1})).await;
    eventually("the manager listens again", async || count().await > before).await;
    let told = tell(&product, "old", json!({})).await;
    assert_eq!(told["unknown"], json!([]), "somebody asked for a session that has ended: {told:#}");
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_waits_for_is_said_again_to_a_service_that_has_forgotten_its_session() {
    if !podman::ready().await || offered(Part::Hub).is_none() {
        return;
    }
    let product = Product::start(Options::podman()).await;
    scripted::create(&product, "old").await;
    let (session, heard) = subscribed(&product, "old").await;
    session.call("resources/subscribe", json!({"uri": "mcp.old+a:2"})).await.result();
    session.call("resources/unsubscribe", json!({"uri": "mcp.old+a:2"})).await.result();
    session.call("logging/setLevel", json!({"level": "warning"})).await.result();
    let is_known = async || {
        let sessions = scripted::sessions(&product, "old").await;
        let now = sessions.last().unwrap();
        now["known"] == true && now["open"] == 1 && now["uris"] == json!(["a:1"]) && now["level"] == "warning"
    };
    eventually("the service knows what the client waits for", is_known).await;
    for times in 1..=2 {
        tell(&product, "old", json!({"forget": true})).await;
        eventually("the service knows it again, though the client says nothing", is_known).await;
        tell(&product, "old", json!({"updated": "a:1"})).await;
        heard.hears(UPDATED, times).await;
        assert_eq!(scripted::sessions(&product, "old").await.len(), times + 1, "each is opened once");
    }
    // A call finds out as well, and what the manager has learned of the service stays.
    tell(&product, "old", json!({"forget": true})).await;
    session.call("tools/call", json!({"name": "old__one", "arguments": {}})).await.result();
    eventually("the service knows it again", is_known).await;
    tell(&product, "old", json!({"updated": "a:1"})).await;
    heard.hears(UPDATED, 3).await;
    assert_eq!(heard.times("\"uri\":\"mcp.old+a:1\""), 3);
    assert_eq!(heard.times("list_changed"), 0, "no list has changed");
    tell(&product, "old", json!({"tools": ["one", "two"]})).await;
    heard.hears(TOOLS_CHANGED, 1).await;

    // Who has an open session keeps nobody from stopping.
    let (status, log) = product.terminate().await;
    assert!(status.success() && !log.contains("still open after the drain time"), "{log}");
}
