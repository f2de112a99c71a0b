//! Packages become images, templates and services: the requests on the memory backend, real packages on real Podman.

use serde_json::{Value, json};

use crate::support::command::User;
use crate::support::machine::{Part, offered};
use crate::support::product::{Options, Product};

#[tokio::test]
async fn a_package_becomes_an_image_once_and_a_template_that_can_be_kept_and_edited() {
    let product = Product::start(Options::memory()).await;
    let request = json!({"source": "npm:@a/server-b@1.2.3", "arguments": ["--x"], "environment": {"A": "b"}});
    let (status, first) = product.post("/packages", &request).await;
    assert_eq!((status, &first["cached"], &first["template"]), (200, &false.into(), &"server-b".into()), "{first:#}");
    assert_eq!(first["lock"], json!({"example": "1.0.0"}));
    let (_, again) = product.post("/packages", &request).await;
    assert_eq!((&again["cached"], &again["image"]), (&true.into(), &first["image"]), "{again:#}");
    let (status, template) = product.get("/templates/server-b").await;
    assert_eq!((status, &template["document"]["transport"]), (200, &"stdio".into()), "{template:#}");
    let other = json!({"source": "npm:@a/server-b@1.2.3", "arguments": ["--y"]});
    let (status, problem) = product.post("/packages", &other).await;
    assert_eq!(status, 409, "what somebody may have edited is not overwritten: {problem:#}");
    let (status, replaced) =
        product.post("/packages", &json!({"source": "npm:@a/server-b@1.2.3", "arguments": ["--y"], "replace": true})).await;
    assert_eq!((status, &replaced["document"]["command"]), (200, &json!(["--y"])), "{replaced:#}");
    product.finish().await;
}

#[tokio::test]
async fn requests_that_cannot_be_met_say_why() {
    let product = Product::start(Options::memory()).await;
    for (body, status, word) in [
        (json!({}), 422, "source"),
        (json!({"source": "npm:a b"}), 422, "source"),
        (json!({"source": "npm:a", "install_scripts": true}), 422, "allow_install_scripts"),
        (json!({"source": "npm:missing"}), 422, "cannot be made"),
        (json!({"source": "npm:a", "nmae": "x"}), 422, "nmae"),
    ] {
        let (answered, problem) = product.post("/packages", &body).await;
        assert_eq!(answered, status, "{body}: {problem:#}");
        assert!(problem.to_string().contains(word), "{body}: {problem:#}");
    }
    product.finish().await;
}

#[tokio::test]
async fn servers_that_people_have_become_templates_and_their_secrets_secrets() {
    use std::os::unix::fs::PermissionsExt as _;
    let product = Product::start(Options::memory()).await;
    let user = User::of_product(&product);
    let file = json!({"mcpServers": {
        "Wall Clock": {"command": "uvx", "args": ["mcp-server-time", "--local-timezone=UTC"]},
        "git hub": {"command": "npx", "args": ["-y", "@x/github@1.0.0"], "env": {"GITHUB_TOKEN": "ghp_hunter2", "HOST": "h"}},
        "remote": {"url": "https://example.com/mcp"},
    }});
    std::fs::write(user.home.path().join("mcp.json"), file.to_string()).unwrap();
    let dry = user.document("import mcp.json --dry-run").await;
    assert_eq!(dry.as_array().unwrap().len(), 3, "{dry:#}");
    assert_eq!(product.get("/templates/wall-clock").await.0, 404, "a dry run makes nothing");
    let imported = user.document("import mcp.json --templates-only").await;
    let outcome = |name: &str| imported.as_array().unwrap().iter().find(|one| one["name"] == name).unwrap()["outcome"].clone();
    assert_eq!(
        (outcome("wall-clock"), outcome("git-hub"), outcome("remote")),
        ("template made".into(), "template made".into(), "left out".into())
    );
    let (_, template) = product.get("/templates/git-hub").await;
    assert_eq!(template["document"]["secrets"], json!({"GITHUB_TOKEN": "git-hub-github-token"}));
    assert_eq!(template["document"]["environment"], json!({"HOST": "h"}));
    assert!(!template.to_string().contains("hunter2"));
    let secret = user.home.path().join(".config/mcp-manager/secrets/git-hub-github-token");
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "ghp_hunter2");
    assert_eq!(std::fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    let exported = user.document("export wall-clock --name io.github.me/time --version 1.0.0").await;
    assert_eq!(exported["packages"][0]["identifier"], "mcp-server-time", "{exported:#}");
    std::fs::write(user.home.path().join("server.json"), exported.to_string().replace("io.github.me/time", "io.github.me/clock"))
        .unwrap();
    let back = user.document("import server.json --templates-only").await;
    assert_eq!((&back[0]["name"], &back[0]["outcome"]), (&"clock".into(), &"template made".into()), "{back:#}");
    product.finish().await;
}

/// Real packages, from real registries, in images that real Podman makes.
#[tokio::test]
async fn real_packages_become_images_that_run_as_nobody_and_say_what_is_in_them() {
    if offered(Part::Podman).is_none() || offered(Part::Hub).is_none() {
        return;
    }
    let options = Options::podman().with("MCP_MANAGER_PACKAGES_BUILD_NETWORK", "host");
    let product = Product::start(options).await;
    let user = User::of_product(&product);
    for (source, name) in
        [("npm:@modelcontextprotocol/server-memory", "server-memory"), ("pypi:mcp-server-time", "mcp-server-time")]
    {
        let (status, made) = product.post("/packages", &json!({"source": source})).await;
        assert_eq!(status, 200, "{source}: {made:#}");
        let lock = made["lock"].as_object().unwrap();
        assert!(lock.len() > 5, "{source}: {lock:#?}");
        let package = source.split_once(':').unwrap().1;
        assert!(lock[package].as_str().unwrap().contains('.'), "{source}: {lock:#?}");
        let (_, again) = product.post("/packages", &json!({"source": source})).await;
        assert_eq!((&again["cached"], &again["lock"]), (&Value::Bool(true), &made["lock"]), "{source}");
        let exported = user.document(&format!("export {name} --name a.b/c")).await;
        assert_eq!(exported["packages"][0]["identifier"], package);
    }
    let (status, problem) =
        product.post("/packages", &json!({"source": "npm:@modelcontextprotocol/there-is-no-such-server"})).await;
    assert_eq!(status, 422, "{problem:#}");
    assert!(problem["detail"].as_str().unwrap().contains("404"), "the registry's own words are shown: {problem:#}");
    product.finish().await;
}
