//! Images that are fetched ahead of their services, and the one look at everything that may be wrong.

use serde_json::json;

use crate::support::product::{Options, Product};

#[tokio::test]
async fn a_pulled_image_is_listed_and_a_wrong_request_says_why() {
    let product = Product::start(Options::memory()).await;
    let image = "docker.io/library/busybox:1.36";
    let (status, pulled) = product.post("/images/pull", &json!({"image": image})).await;
    assert_eq!((status, pulled["names"][0].as_str()), (200, Some(image)), "{pulled:#}");
    let (_, images) = product.get("/images").await;
    assert!(images.as_array().unwrap().iter().any(|one| one["names"][0] == image), "{images:#}");
    for (body, field) in [
        (json!({}), "image"),
        (json!({"image": "not an image"}), "image"),
        (json!({"image": image, "pull_policy": "sometimes"}), "pull_policy"),
        (json!({"imge": image}), "imge"),
    ] {
        let (status, problem) = product.post("/images/pull", &body).await;
        assert_eq!((status, problem["errors"][0]["field"].as_str()), (422, Some(field)), "{problem:#}");
    }
    let (status, problem) = product.post("/images/pull", &json!({"image": "localhost/missing:1"})).await;
    assert_eq!((status, problem["type"].as_str()), (422, Some("urn:mcp-manager:problem:image-not-found")));
    product.finish().await;
}

#[tokio::test]
async fn diagnostics_name_what_is_wrong_and_nothing_else() {
    let product = Product::start(Options::memory()).await;
    let (status, before) = product.get("/system/diagnostics").await;
    assert_eq!((status, before["healthy"].as_bool()), (200, Some(true)), "{before:#}");
    let findings = before["findings"].as_array().unwrap();
    assert!(findings.iter().all(|finding| finding["subject"] == "limits"), "the memory backend enforces none: {before:#}");
    product.create_echo("well", json!({})).await;
    product.post("/containers?wait=none", &json!({"service_name": "ill", "image": "localhost/missing:1", "port": 80})).await;
    product.until("ill", "failed", |service| service["status"] == "failed").await;
    let (_, after) = product.get("/system/diagnostics").await;
    assert_eq!((after["healthy"].as_bool(), after["summary"].as_str()), (Some(false), Some("1 error, 4 warnings")), "{after:#}");
    assert_eq!(after["findings"][0]["subject"], "container ill");
    assert_eq!(after["services"], json!({"failed": 1, "running": 1}));
    product.finish().await;
}
