//! Which directories of the host services may have, on rootless Podman.

use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::support::podman::{self, owned_by};
use crate::support::product::{Options, Product};

/// Asks for a service with these volumes.
async fn create(product: &Product, volumes: &Value) -> (u16, Value) {
    product.post("/containers", &json!({"service_name": "echo", "template": "echo", "volumes": volumes})).await
}

#[tokio::test(flavor = "multi_thread")]
async fn host_directories_outside_of_the_allow_list_are_refused_however_they_are_written() {
    if !podman::ready().await {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let (allowed, secret) = (root.join("allowed"), root.join("allowed-not"));
    for made in [allowed.join("data"), secret.join("deep")] {
        std::fs::create_dir_all(made).unwrap();
    }
    symlink(&secret, allowed.join("out")).unwrap();
    symlink("../allowed-not", allowed.join("relative")).unwrap();
    symlink("out", allowed.join("link-to-link")).unwrap();
    symlink(allowed.join("data"), allowed.join("within")).unwrap();
    let product = Product::start(Options::podman().with("ALLOWED_HOST_PATHS", allowed.display().to_string())).await;

    let inside = |name: &str| format!("{}/{name}", allowed.display());
    let outside = [
        "/".to_owned(),
        "/etc".to_owned(),
        root.display().to_string(),
        // Its name begins like that of the allowed one.
        secret.display().to_string(),
        inside("../allowed-not"),
        inside("data/../../allowed-not"),
        inside("out"),
        inside("out/deep"),
        inside("relative"),
        inside("link-to-link"),
        inside("within/../out"),
        inside("no-such-folder"),
    ];
    for path in &outside {
        let (status, problem) = create(&product, &json!({path: "/data"})).await;
        assert_eq!((status, problem["type"].as_str()), (422, Some("urn:mcp-manager:problem:invalid")), "{path}: {problem:#}");
        let field = problem["errors"][0]["field"].as_str();
        assert!(field.is_some_and(|field| field.starts_with("volumes./")), "{path}: {problem:#}");
        assert!(problem["errors"][0]["remedy"].is_string(), "{path}: {problem:#}");
    }
    let two = json!([format!("{}:/a", inside("data")), format!("{}:/b", inside("out"))]);
    let (status, problem) = create(&product, &two).await;
    assert_eq!((status, problem["errors"][0]["field"].as_str()), (422, Some("volumes[1]")), "{problem:#}");
    assert_eq!(product.get("/containers").await.1["total"], 0);
    assert_eq!(owned_by(&product.options.instance).await, Vec::<String>::new());

    // What leads nowhere else is mounted from where it really is, so that a link changed later changes nothing.
    let (status, service) = create(&product, &json!({inside("within"): "/data:ro"})).await;
    assert_eq!((status, service["status"].as_str()), (201, Some("running")), "{service:#}\n{}", product.log());
    let id = service["instances"][0]["id"].as_str().unwrap();
    let mounts =
        podman::podman(&["inspect", "--format", "{{range .Mounts}}{{.Source}}:{{.Destination}}:{{.RW}} {{end}}", id]).await;
    assert!(mounts.split(' ').any(|mount| mount == format!("{}:/data:false", inside("data"))), "{mounts}");
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_allow_list_no_host_directory_is_mounted() {
    let product = Product::start(Options::memory()).await;
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().to_str().unwrap(), "/", "./data"] {
        let (status, problem) = create(&product, &json!({path: "/data"})).await;
        assert_eq!(
            (status, problem["errors"][0]["field"].as_str()),
            (422, Some(format!("volumes.{path}").as_str())),
            "{path}: {problem:#}"
        );
        assert!(problem["errors"][0]["remedy"].as_str().unwrap().contains("ALLOWED_HOST_PATHS"), "{path}: {problem:#}");
    }
    product.finish().await;
}
