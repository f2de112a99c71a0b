//! Images that services are made of, pulled by rootless Podman from a registry of the test's own, and why that may fail.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::podman::{self, owned_by};
use crate::support::product::{Options, Product};
use crate::support::registry::{Registry, SLOW, architectures};

/// Asks for a service of this image.
async fn create(product: &Product, image: &str, more: Value) -> (u16, Value) {
    let mut body = json!({"service_name": "pulled", "image": image, "stop_timeout": "1s"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    product.post("/containers", &body).await
}

/// Creates a service of this image, which must run.
async fn runs(product: &Product, image: &str, more: Value) {
    let (status, service) = create(product, image, more).await;
    assert_eq!((status, service["status"].as_str()), (201, Some("running")), "{service:#}\n{}", product.log());
}

/// Asks for a service of this image, which must fail so and leave nothing; what is said of it.
async fn refused(product: &Product, image: &str, status: u16, kind: &str) -> Value {
    let (answered, problem) = create(product, image, json!({})).await;
    let expected = format!("urn:mcp-manager:problem:{kind}");
    assert_eq!((answered, problem["type"].as_str()), (status, Some(expected.as_str())), "{problem:#}\n{}", product.log());
    assert!(problem["detail"].as_str().unwrap().contains(image), "which image: {problem:#}");
    assert!(problem["remedy"].is_string(), "what to do: {problem:#}");
    assert_eq!(product.get("/containers").await.1["total"], 0, "{image}");
    assert_eq!(owned_by(&product.options.instance).await, Vec::<String>::new(), "{image}");
    assert_eq!(podman::podman(&["images", "--quiet", "--filter", &format!("reference={image}")]).await, "", "{image}");
    problem
}

/// Which of these images the service's container is made of.
async fn made_of<'a>(product: &Product, ids: &[&'a str]) -> Vec<&'a str> {
    let (status, inspected) = product.get("/containers/pulled/inspect").await;
    assert_eq!(status, 200, "{inspected:#}");
    ids.iter().copied().filter(|id| inspected.to_string().contains(*id)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_refuses_access_is_told_with_the_remedy_and_following_it_helps() {
    if !podman::ready().await {
        return;
    }
    let registry = Registry::start().await;
    let logins = registry.folder.path().join("auth.json");
    std::fs::write(&logins, json!({"auths": {}}).to_string()).unwrap();
    // By the manager's own name for it: the engine knows the other one, too, and would log in by itself.
    let options = registry.options().with("MCP_MANAGER_BACKEND_REGISTRY_CREDENTIALS_FILE", logins.display().to_string());
    let product = Product::start(options).await;
    let image = registry.reference("private/image:1");
    registry.publish("private/image:1", "private", architectures().0);
    for name in ["private/image:1", "denied/image:1", "bare-403/image:1"] {
        let problem = refused(&product, &registry.reference(name), 422, "image-access-denied").await;
        let remedy = problem["remedy"].as_str().unwrap();
        assert!(remedy.contains("podman login") && remedy.contains("REGISTRY_AUTH_FILE"), "{problem:#}");
    }
    std::fs::write(&logins, registry.logins(Some("wrong")).to_string()).unwrap();
    refused(&product, &image, 422, "image-access-denied").await;
    std::fs::write(&logins, registry.logins(None).to_string()).unwrap();
    runs(&product, &image, json!({})).await;
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_for_another_machine_and_a_registry_that_holds_back_are_told_apart() {
    if !podman::ready().await {
        return;
    }
    let registry = Registry::start().await;
    let product = Product::start(registry.options()).await;
    let (here, elsewhere) = architectures();
    registry.publish("public/image:1", "foreign", elsewhere);
    let problem = refused(&product, &registry.reference("public/image:1"), 422, "wrong-architecture").await;
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(elsewhere) && detail.contains(here), "{problem:#}");
    for (name, told) in [("busy", "fewer requests"), ("bare-429", "fewer requests"), ("bare-500", "fault of its own")] {
        let image = registry.reference(&format!("{name}/image:1"));
        let problem = refused(&product, &image, 502, "registry-unavailable").await;
        assert!(problem["detail"].as_str().unwrap().contains(told), "{problem:#}");
        assert!(problem["remedy"].as_str().unwrap().contains("later"), "{problem:#}");
    }
    for name in ["bare-404", "public"] {
        refused(&product, &registry.reference(&format!("{name}/nothing:1")), 422, "image-not-found").await;
    }
    // Once the registry has it for this machine, the same request is answered.
    registry.publish("public/image:1", "native", here);
    runs(&product, &registry.reference("public/image:1"), json!({})).await;
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn always_asks_the_registry_each_time_and_missing_takes_what_is_there() {
    if !podman::ready().await {
        return;
    }
    let registry = Registry::start().await;
    let product = Product::start(registry.options()).await;
    let image = registry.reference("public/image:1");
    let old = registry.publish("public/image:1", "old", architectures().0);
    let mut asked = 0;
    let mut new = None;
    // The name stands for another image from the second creation on.
    for (policy, asks, takes_new) in [("missing", true, false), ("missing", false, false), ("always", true, true)] {
        runs(&product, &image, json!({"pull_policy": policy})).await;
        assert_eq!(registry.asked("public/image") > asked, asks, "{policy}");
        asked = registry.asked("public/image");
        let new = new.get_or_insert_with(|| registry.publish("public/image:1", "new", architectures().0));
        let expected = if takes_new { new.as_str() } else { old.as_str() };
        assert_eq!(made_of(&product, &[old.as_str(), new.as_str()]).await, [expected], "{policy}");
        assert_eq!(product.call(Method::DELETE, "/containers/pulled").await.0, 204);
    }
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_whose_layer_goes_with_another_image_while_it_is_pulled_is_there_all_the_same() {
    if !podman::ready().await {
        return;
    }
    let registry = Registry::start().await;
    let product = Product::start(registry.options()).await;
    let [base, image] = ["vanishing/base:1", "vanishing/image:1"].map(|name| registry.reference(name));
    registry.publish("vanishing/base:1", "base", architectures().0);
    registry.publish("vanishing/image:1", "image", architectures().0);
    podman::podman(&["pull", "--quiet", "--tls-verify=false", &base]).await;
    registry.removes(&base);
    runs(&product, &image, json!({})).await;
    assert!(product.log().contains("a layer of it went with another image"), "{}", product.log());
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_tells_how_far_it_is_until_the_image_is_there() {
    if !podman::ready().await {
        return;
    }
    let registry = Registry::start().await;
    let product = Product::start(registry.options()).await;
    for (name, sized) in [("slow/image:1", true), ("unsized/image:1", false)] {
        registry.publish(name, name, architectures().0);
        let body = json!({"service_name": "pulled", "image": registry.reference(name), "stop_timeout": "1s"});
        let (status, service) = product.post("/containers?wait=none", &body).await;
        assert_eq!(status, 202, "{service:#}");
        let begun = |service: &Value| service["progress"]["done"].as_u64().is_some_and(|done| done > 0);
        let pulling = product.until("pulled", "a part of the image has come", begun).await;
        let (done, total) = (pulling["progress"]["done"].as_u64().unwrap(), pulling["progress"]["total"].as_u64());
        assert_eq!(
            (&pulling["status"], &pulling["progress"]["message"]),
            (&"pulling".into(), &"downloading".into()),
            "{pulling:#}"
        );
        assert_eq!(total.is_some_and(|total| total > SLOW as u64 && done < total), sized, "{pulling:#}");
        assert_eq!(total.is_some(), sized, "{pulling:#}");
        let later = product.until("pulled", "more has come", |service| service["progress"]["done"].as_u64() != Some(done)).await;
        assert!(later["progress"].is_null() || later["progress"]["done"].as_u64() > Some(done), "{later:#}");
        let running = product.until("pulled", "it runs", |service| service["status"] == "running").await;
        assert!(running["progress"].is_null(), "{running:#}");
        assert_eq!(product.call(Method::DELETE, "/containers/pulled").await.0, 204);
    }
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_to_start_begins_when_the_image_is_there() {
    if !podman::ready().await {
        return;
    }
    let registry = Registry::start().await;
    let product = Product::start(registry.options()).await;
    registry.publish("slow/image:2", "slow", architectures().0);
    let image = registry.reference("slow/image:2");
    // The pull takes five times as long. Whether the container runs that soon is for the machine to say.
    let (status, service) = create(&product, &image, json!({"start_timeout": "1s"})).await;
    assert_eq!(status, 201, "{service:#}");
    assert_ne!(service["status"], "pulling", "{service:#}");
    product.until("pulled", "it runs", |service| service["status"] == "running").await;
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_takes_too_long_names_the_setting_that_limits_it() {
    if !podman::ready().await {
        return;
    }
    // It takes connections and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let product = Product::start(Options::podman().with("MCP_MANAGER_BACKEND_PULL_TIMEOUT", "1s")).await;
    let image = format!("{}/any:1", silent.local_addr().unwrap());
    let problem = refused(&product, &image, 504, "timeout").await;
    assert!(problem["detail"].as_str().unwrap().contains("within 1 second"), "{problem:#}");
    assert!(problem["remedy"].as_str().unwrap().contains("backend.pull_timeout"), "{problem:#}");
    product.finish().await;
}
