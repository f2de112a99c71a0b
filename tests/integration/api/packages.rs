//! Packages become images, templates and services: the requests on the memory backend, real packages on real Podman.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::command::User;
use crate::support::machine::{Part, offered};
use crate::support::podman::{podman as podman_says, unique};
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
        (json!({"source": "npm:missing"}), 422, "no package 'missing'"),
        (json!({"source": "npm:a", "with": ["git+https://x"]}), 422, "with[0]"),
        (json!({"source": "npm:a", "system_packages": ["--x"]}), 422, "system_packages[0]"),
        (json!({"source": "npm:a", "program": "x y"}), 422, "program"),
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
        "off": {"command": "uvx", "args": ["mcp-server-time"], "disabled": true},
        "time": {"command": "uvx", "args": ["mcp-server-time"], "env": {"TIME_TOKEN": "t"}},
    }});
    std::fs::write(user.home.path().join("mcp.json"), file.to_string()).unwrap();
    let dry = user.document("import mcp.json --dry-run").await;
    assert_eq!(dry.as_array().unwrap().len(), 5, "{dry:#}");
    assert_eq!(product.get("/templates/wall-clock").await.0, 404, "a dry run makes nothing");
    let imported = user.document("import mcp.json --templates-only").await;
    let outcome = |name: &str| imported.as_array().unwrap().iter().find(|one| one["name"] == name).unwrap()["outcome"].clone();
    assert_eq!(
        (outcome("wall-clock"), outcome("git-hub"), outcome("remote")),
        ("template made".into(), "template made".into(), "left out".into())
    );
    assert_eq!(outcome("off"), "left out");
    // A template of that name is shipped, and stays as it is.
    assert_eq!(outcome("time"), "template made");
    let image = async |template: &str| product.get(&format!("/templates/{template}")).await.1["document"]["image"].clone();
    assert_eq!(image("time").await, "localhost/mcp/time:latest");
    assert_ne!(image("time-2").await, image("time").await);
    let again = user.document("import mcp.json --templates-only").await;
    assert_eq!(again, imported, "importing again makes nothing anew");
    assert_eq!(product.get("/templates/time-3").await.0, 404);
    // What somebody has changed is not overwritten unless that is meant, and then nothing of it is kept.
    let changed = file.to_string().replace("UTC", "GMT").replace("hunter2", "hunter3");
    std::fs::write(user.home.path().join("changed.json"), changed).unwrap();
    let refused = user.run("import changed.json --templates-only --only wall-clock").await;
    assert!(refused.code != 0 && refused.stdout.contains("--replace-template"), "{refused:#?}");
    let replaced = user.document("import changed.json --templates-only --only wall-clock --replace-template").await;
    assert_eq!(replaced[0]["outcome"], "template made", "{replaced:#}");
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
    // Without --version it is the template's, or that of its package; a server without any is nothing for the registry.
    let pinned = user.document("export git-hub --name io.github.me/hub").await;
    assert_eq!((&pinned["version"], &pinned["packages"][0]["version"]), (&"1.0.0".into(), &"1.0.0".into()), "{pinned:#}");
    let refused = user.run("export wall-clock --name io.github.me/time").await;
    assert!(refused.code != 0 && refused.stderr.contains("give --version"), "{refused:#?}");
    let back = user.document("import server.json --templates-only").await;
    assert_eq!((&back[0]["name"], &back[0]["outcome"]), (&"clock".into(), &"template made".into()), "{back:#}");
    product.finish().await;
}

#[tokio::test]
async fn what_a_package_is_known_to_need_is_in_its_template_unless_the_request_says_otherwise() {
    let product = Product::start(Options::memory()).await;
    let (_, made) = product.post("/packages", &json!({"source": "pypi:mcp-server-sqlite", "name": "db"})).await;
    assert_eq!(made["document"]["command"], json!(["--db-path", "/data/sqlite.db"]), "{made:#}");
    assert_eq!(made["document"]["volumes"], json!({"db-data": "/data"}), "{made:#}");
    let request =
        json!({"source": "pypi:mcp-server-sqlite", "name": "mine", "arguments": ["--db-path", "/data/x"], "with": ["mcp==1.9"]});
    let (_, mine) = product.post("/packages", &request).await;
    assert_eq!(mine["document"]["command"], json!(["--db-path", "/data/x"]), "{mine:#}");
    assert_ne!(mine["image"], made["image"], "other versions are another image");
    product.finish().await;
}

/// How long it may take to make a package's image where nothing is at hand.
const PATIENCE: Duration = Duration::from_mins(8);

/// A product that makes images where registries are reached by the host's way only.
async fn podman() -> Option<Product> {
    if offered(Part::Podman).is_none() || offered(Part::Hub).is_none() {
        return None;
    }
    Some(Product::start(Options::podman().alone().with("MCP_MANAGER_PACKAGES_BUILD_NETWORK", "host")).await)
}

/// Containers in which images are made, and images without a name, which is what is left of one that was not.
async fn unfinished() -> Vec<String> {
    let containers = podman_says(&["ps", "--all", "--external", "--format", "container {{.Names}}"]).await;
    let images = podman_says(&["images", "--all", "--filter", "dangling=true", "--format", "image {{.Id}}"]).await;
    containers.lines().filter(|line| line.contains(".build.")).chain(images.lines()).map(str::to_owned).collect()
}

/// Waits until no image is being made.
async fn until_nothing_is_unfinished(before: &[String]) {
    let wait = async {
        while unfinished().await != before {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    assert!(timeout(Duration::from_mins(4), wait).await.is_ok(), "left: {:?}", unfinished().await);
}

/// Waits until an image is being made.
async fn until_one_is_begun() {
    let wait = async {
        while !unfinished().await.iter().any(|one| one.starts_with("container")) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(timeout(Duration::from_mins(1), wait).await.is_ok(), "no image is begun");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_s_image_runs_as_nobody_says_what_is_in_it_and_is_made_once() {
    let Some(product) = podman().await else { return };
    let before = unfinished().await;
    let request = json!({"source": "npm:@modelcontextprotocol/server-memory", "refresh": true});
    // Two at the same time: one makes it, and the other gets it or makes it after that.
    let (one, other) = tokio::join!(product.post("/packages", &request), product.post("/packages", &request));
    for (status, made) in [&one, &other] {
        assert_eq!(*status, 200, "{made:#}");
        let lock = made["lock"].as_object().unwrap();
        assert!(lock.len() > 5, "{lock:#?}");
        assert!(lock["@modelcontextprotocol/server-memory"].as_str().unwrap().contains('.'), "{lock:#?}");
    }
    let image = one.1["image"].as_str().unwrap();
    let config = podman_says(&["image", "inspect", "--format", "{{json .Config}}", image]).await;
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!((&config["User"], &config["Entrypoint"]), (&json!("65532:65532"), &json!(["/opt/server/run"])), "{config:#}");
    assert_eq!(config["Labels"]["io.mcp-manager.package"], "npm:@modelcontextprotocol/server-memory", "{config:#}");
    let (_, again) = product.post("/packages", &json!({"source": "npm:@modelcontextprotocol/server-memory"})).await;
    assert_eq!((&again["cached"], &again["lock"]), (&Value::Bool(true), &one.1["lock"]), "{again:#}");
    until_nothing_is_unfinished(&before).await;
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_that_cannot_be_made_says_why_and_leaves_nothing() {
    let Some(product) = podman().await else { return };
    let before = unfinished().await;
    for (source, word) in [
        ("npm:@modelcontextprotocol/there-is-no-such-server", "npm has no package"),
        ("npm:@modelcontextprotocol/server-memory@0.0.9", "npm has no version '0.0.9'"),
        ("pypi:mcp-server-time@99.1", "PyPI has no such version"),
        ("pypi:certifi", "no program"),
    ] {
        let (status, problem) = product.post("/packages", &json!({"source": source})).await;
        assert_eq!(status, 422, "{source}: {problem:#}");
        assert!(problem.to_string().contains(word), "{source}: {problem:#}");
        assert_eq!(unfinished().await, before, "{source}");
    }
    product.finish().await;
    let alone = Options::podman().alone().with("MCP_MANAGER_PACKAGES_BUILD_NETWORK", "none");
    let product = Product::start(alone).await;
    let (status, problem) = product.post("/packages", &json!({"source": "pypi:mcp-server-time@2026.8.18"})).await;
    assert_eq!((status, &problem["type"]), (502, &json!("urn:mcp-manager:problem:registry-unavailable")), "{problem:#}");
    assert_eq!(unfinished().await, before);
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_nobody_waits_for_and_one_whose_manager_was_killed_leave_nothing() {
    let Some(product) = podman().await else { return };
    let before = unfinished().await;
    // A version of its own, so that no other test has made it; installing all of it takes some seconds.
    let request = json!({"source": "npm:@modelcontextprotocol/server-everything@2025.9.25", "refresh": true});
    let asked = tokio::spawn(product.request(Method::POST, "/packages").json(&request).send());
    until_one_is_begun().await;
    asked.abort();
    until_nothing_is_unfinished(&before).await;
    let asked = tokio::spawn(product.request(Method::POST, "/packages").json(&request).send());
    until_one_is_begun().await;
    let product = product.kill_and_restart().await;
    asked.abort();
    until_nothing_is_unfinished(&before).await;
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_imported_server_runs_with_its_secret_which_nobody_is_shown() {
    if offered(Part::Podman).is_none() || offered(Part::Hub).is_none() {
        return;
    }
    let secrets = tempfile::tempdir().unwrap();
    let folder = secrets.path().display().to_string();
    let options = Options::podman().with_secrets().with("MCP_MANAGER_PACKAGES_BUILD_NETWORK", "host");
    let product = Product::start(options.with("MCP_MANAGER_SECRETS_DIR", &folder)).await;
    let user = User::of_product(&product).with("MCP_MANAGER_SECRETS_DIR", &folder);
    let (name, value) = (unique("clock"), unique("hunter2"));
    let server = json!({"command": "uvx", "args": ["mcp-server-time", "--local-timezone=UTC"], "env": {"CLOCK_TOKEN": value}});
    let file = format!("// mine\n{{\"mcpServers\": {{\"{name}\": {server},}} }}");
    std::fs::write(user.home.path().join("mcp.json"), file).unwrap();
    let dry = user.document("import mcp.json --dry-run").await;
    assert_eq!((&dry[0]["outcome"], &dry[0]["secrets"][0]), (&json!("would be imported"), &json!(format!("{name}-clock-token"))));
    assert_eq!(std::fs::read_dir(secrets.path()).unwrap().count(), 0, "a dry run keeps nothing");
    let imported: Value = serde_json::from_str(&user.done_within(PATIENCE, "import mcp.json").await).unwrap();
    assert_eq!(imported[0]["outcome"], "imported", "{imported:#}");
    let service = product.until(&name, "it is ready", |service| service["ready_replicas"] == 1).await;
    let container = service["instances"][0]["name"].as_str().unwrap();
    assert_eq!(podman_says(&["exec", container, "printenv", "CLOCK_TOKEN"]).await, value);
    for path in [format!("/templates/{name}"), format!("/containers/{name}"), format!("/containers/{name}/inspect")] {
        let (status, answer) = product.get(&path).await;
        assert!(status == 200 && !answer.to_string().contains(&value), "{path}: {answer:#}");
    }
    assert!(!product.log().contains(&value), "{}", product.log());
    let again = user.document("import mcp.json").await;
    assert_eq!(again[0]["outcome"], "there already", "{again:#}");
    product.finish().await;
}
