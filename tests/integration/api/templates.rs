//! Templates over the API and as files: reload, versions, and services that outlive their template.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::product::{Options, Product};

fn named<'a>(list: &'a Value, name: &str) -> Option<&'a Value> {
    list["templates"].as_array().unwrap().iter().find(|template| template["name"] == name)
}

#[tokio::test]
async fn a_changed_file_is_taken_at_once_and_a_broken_one_keeps_the_last_good_version() {
    let product = Product::start(Options::memory()).await;
    let file = product.templates().join("demo.json");
    std::fs::write(&file, r#"{"name": "demo", "version": "1", "image": "localhost/demo:1", "port": 80}"#).unwrap();
    eventually("the new file is listed", async || named(&product.get("/templates").await.1, "demo").is_some()).await;
    let (status, created) = product.post("/containers", &json!({"service_name": "demo", "template": "demo"})).await;
    assert_eq!((status, created["template_outdated"].as_bool()), (201, Some(false)), "{created:#}");

    std::fs::write(&file, "{\n \"name\": \"demo\",\n \"prot\": 80,\n \"memory_limit\": \"much\"\n}").unwrap();
    eventually("the errors are shown", async || {
        let (_, list) = product.get("/templates").await;
        named(&list, "demo").is_some_and(|demo| demo["errors"].as_array().is_some_and(|errors| errors.len() == 3))
    })
    .await;
    let (_, list) = product.get("/templates").await;
    let demo = named(&list, "demo").unwrap();
    assert_eq!((demo["stale"].as_bool(), demo["image"].as_str()), (Some(true), Some("localhost/demo:1")), "{demo:#}");
    let lines: Vec<_> = demo["errors"].as_array().unwrap().iter().map(|error| error["line"].as_u64()).collect();
    assert!(lines.contains(&Some(3)) && lines.contains(&Some(4)), "{demo:#}");
    let (_, metrics) = (0, product.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap());
    assert!(metrics.contains("mcp_manager_template_errors 1"), "{metrics}");

    std::fs::write(&file, r#"{"name": "demo", "version": "2", "image": "localhost/demo:2", "port": 80}"#).unwrap();
    product.until("demo", "its template is newer", |service| service["template_outdated"] == true).await;
    assert_eq!(product.get("/containers/demo").await.1["image"], "localhost/demo:1", "what runs keeps its version");
    std::fs::write(file.with_file_name("older.json"), r#"{"name": "demo", "version": "1.9", "image": "localhost/demo:1"}"#)
        .unwrap();
    eventually("the older version is there", async || product.get("/templates/demo@1.9").await.0 == 200).await;
    let pinned = json!({"service_name": "pinned", "template": "demo@1.9"});
    let (status, created) = product.post("/containers", &pinned).await;
    assert_eq!((status, created["template_outdated"].as_bool()), (201, Some(false)), "it was asked for: {created:#}");
    std::fs::write(file.with_file_name("older.json"), r#"{"name": "demo", "version": "1.9", "image": "localhost/demo:3"}"#)
        .unwrap();
    product.until("pinned", "that very version has changed", |service| service["template_outdated"] == true).await;
    std::fs::remove_file(file.with_file_name("older.json")).unwrap();
    std::fs::remove_file(&file).unwrap();
    eventually("it is gone", async || named(&product.get("/templates").await.1, "demo").is_none()).await;
    product.finish().await;
}

#[tokio::test]
async fn a_service_is_not_outdated_because_the_whole_directory_of_templates_is_out_of_sight() {
    let product = Product::start(Options::memory()).await;
    let dir = product.templates();
    let away = dir.with_extension("away");
    for name in ["kept", "removed"] {
        std::fs::write(dir.join(format!("{name}.json")), json!({"name": name, "image": "localhost/demo:1"}).to_string()).unwrap();
        eventually("it is listed", async || named(&product.get("/templates").await.1, name).is_some()).await;
        let (status, created) = product.post("/containers", &json!({"service_name": name, "template": name})).await;
        assert_eq!(status, 201, "{created:#}");
    }
    std::fs::remove_file(dir.join("removed.json")).unwrap();
    product.until("removed", "its template was removed", |service| service["template_outdated"] == true).await;

    std::fs::rename(&dir, &away).unwrap();
    eventually("the directory is missed, with the templates in it", async || {
        let (_, list) = product.get("/templates").await;
        let said = named(&list, "").is_some_and(|entry| entry["errors"].to_string().contains("does not exist"));
        said && named(&list, "kept").is_none()
    })
    .await;
    let outdated = async |name: &str| product.get(&format!("/containers/{name}")).await.1["template_outdated"].clone();
    assert_eq!((outdated("kept").await, outdated("removed").await), (json!(false), json!(true)));

    std::fs::rename(&away, &dir).unwrap();
    eventually("the directory is back", async || named(&product.get("/templates").await.1, "kept").is_some()).await;
    assert_eq!((outdated("kept").await, outdated("removed").await), (json!(false), json!(true)));
    std::fs::remove_file(dir.join("kept.json")).unwrap();
    product.until("kept", "its template was removed, too", |service| service["template_outdated"] == true).await;
    product.finish().await;
}

#[tokio::test]
async fn templates_can_be_written_read_and_deleted_over_the_api() {
    let product = Product::start(Options::memory()).await;
    let template = json!({"name": "demo", "version": "1.0", "image": "localhost/demo:1", "port": 80});
    let (status, written) = product.send(Method::PUT, "/templates/demo", &template).await;
    assert_eq!(status, 201, "{written:#}");
    let (status, _) = product.send(Method::PUT, "/templates/demo", &template).await;
    assert_eq!(status, 200, "the same again is no new one");
    let newer = json!({"name": "demo", "version": "1.1", "image": "localhost/demo:2", "port": 80});
    assert_eq!(product.post("/templates", &newer).await.0, 201);
    let (_, newest) = product.get("/templates/demo").await;
    assert_eq!(newest["version"], "1.1", "{newest:#}");
    assert_eq!(product.get("/templates/demo@1.0").await.1["version"], "1.0");
    let (status, problem) = product.post("/templates", &json!({"name": "../x", "imge": "y"})).await;
    assert_eq!(
        (status, problem["errors"].as_array().map(Vec::len)),
        (422, Some(3)),
        "name, unknown field, missing image: {problem:#}"
    );
    assert_eq!(product.post("/templates/validate", &newer).await.0, 200);
    assert_eq!(product.call(Method::DELETE, "/templates/demo@1.1").await.0, 204);
    assert_eq!(product.get("/templates/demo").await.1["version"], "1.0");
    assert_eq!(product.call(Method::DELETE, "/templates/demo").await.0, 204);
    assert_eq!(product.get("/templates/demo").await.0, 404);
    product.finish().await;
}
