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
async fn what_the_request_itself_has_wrong_is_said_before_an_image_is_made() {
    let product = Product::start(Options::memory()).await;
    let before = product.get("/images").await.1;
    for (body, status, word) in [
        (json!({"source": "pypi:mcp-server-time", "name": "time"}), 409, "there is a template 'time' already"),
        (json!({"source": "pypi:mcp-server-time", "name": "Time"}), 422, "name"),
        (json!({"source": "pypi:mcp-server-time", "memory_limit": "1k"}), 422, "memory_limit"),
    ] {
        let (answered, problem) = product.post("/packages", &body).await;
        assert!(answered == status && problem.to_string().contains(word), "{body}: {problem:#}");
        assert_eq!(product.get("/images").await.1, before, "{body}");
    }
    // What the image alone says is no difference from what is there.
    let body = json!({"source": "image:docker.io/x/listens:1", "name": "listens"});
    for _ in 0..2 {
        let (status, made) = product.post("/packages", &body).await;
        assert_eq!(status, 200, "{made:#}");
    }
    product.finish().await;
}

#[tokio::test]
async fn an_import_takes_over_what_has_a_counterpart_and_fails_where_everything_is_left_out() {
    let product = Product::start(Options::memory()).await;
    let user = User::of_product(&product);
    let put = |servers: Value| {
        std::fs::write(user.home.path().join("mcp.json"), json!({"mcp": {"inputs": [], "servers": servers}}).to_string())
            .unwrap();
    };
    let remote = json!({"url": "https://example.com/mcp"});
    put(json!({"limited": {"command": "docker run -ti --memory 256m docker.io/x/limited:1"}, "remote": remote,
        "pinned": {"command": "uvx --with 'mcp<2' pinned@latest"}}));
    let imported = user.document("import mcp.json --templates-only").await;
    assert_eq!(imported[2]["outcome"], "left out", "one that is left out is no failure: {imported:#}");
    let (_, limited) = product.get("/templates/limited").await;
    assert_eq!(limited["document"]["memory_limit"], "256m", "{limited:#}");
    let same = json!({"source": "pypi:pinned", "with": ["mcp<2"], "transport": "stdio"});
    let (status, pinned) = product.post("/packages", &same).await;
    assert_eq!((status, &pinned["cached"]), (200, &true.into()), "{pinned:#}");
    put(json!({"remote": remote}));
    for (arguments, code) in [("", 1), ("--dry-run", 1), ("--only limited", 2)] {
        let ran = user.run(&format!("import mcp.json {arguments}")).await;
        assert_eq!(ran.code, code, "{arguments}: {ran:#?}");
    }
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
async fn a_server_json_s_variables_and_path_reach_the_template_and_its_secret_arguments_do_not() {
    let product = Product::start(Options::memory()).await;
    let user = User::of_product(&product);
    let put = |arguments: Value| {
        let document = json!({"name": "io.github.me/tools", "description": "Tools", "version": "1.0.0", "packages": [{
            "registryType": "npm", "identifier": "@me/tools", "version": "1.0.0", "packageArguments": arguments,
            "transport": {"type": "streamable-http", "url": "http://localhost:{port}/tools"}}]});
        std::fs::write(user.home.path().join("server.json"), document.to_string()).unwrap();
    };
    let port = json!({"type": "named", "name": "--port", "value": "{number}", "variables": {"number": {"default": "3001"}}});
    put(json!([port]));
    let imported = user.document("import server.json --templates-only").await;
    assert_eq!(imported[0]["outcome"], "template made", "{imported:#}");
    let (_, template) = product.get("/templates/tools").await;
    let document = &template["document"];
    assert_eq!((&document["command"], &document["port"]), (&json!(["--port=3001"]), &json!(3001)), "{template:#}");
    assert_eq!(document["labels"]["mcp.path"], "/tools", "{template:#}");
    let exported = user.document("export tools --name io.github.me/again").await;
    assert_eq!(exported["packages"][0]["transport"]["url"], "http://localhost:3001/tools", "{exported:#}");
    let (status, problem) = product.post("/packages", &json!({"source": "npm:a", "port": 80, "path": "tools"})).await;
    assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!("path")), "{problem:#}");
    // A second server of the name would be `tools-2`.
    let value = unique("hunter2");
    put(json!([port, {"type": "named", "name": "--key", "isSecret": true, "default": value}]));
    let left_out = async || {
        let ran = user.run("import server.json --templates-only").await;
        let said: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert!(ran.code == 1 && said[0]["outcome"] == "left out", "{ran:#?}");
        said
    };
    let refused = left_out().await;
    put(json!([port, {"type": "named", "name": "--place", "isRequired": true}]));
    let asked = left_out().await;
    assert!(asked[0]["reason"].as_str().unwrap().contains("packages[0].packageArguments[1].value"), "{asked:#}");
    let (_, templates) = product.get("/templates").await;
    assert!(!refused.to_string().contains(&value) && !templates.to_string().contains("tools-2"), "{refused:#} {templates:#}");
    assert_eq!(product.get("/templates/tools").await.1["document"], *document, "what is left out changes nothing");
    product.finish().await;
}

#[tokio::test]
async fn an_imported_server_takes_no_other_s_service_template_or_secret_for_its_own() {
    let product = Product::start(Options::memory()).await;
    let user = User::of_product(&product);
    let put = |servers: Value| {
        std::fs::write(user.home.path().join("mcp.json"), json!({"mcpServers": servers}).to_string()).unwrap();
    };
    let (status, shipped) = product.post("/containers", &json!({"service_name": "echo", "template": "echo"})).await;
    assert!(status < 300, "{shipped:#}");
    put(json!({"echo": {"command": "uvx", "args": ["mcp-echo-x"]}}));
    for outcome in ["imported", "there already"] {
        let imported = user.document("import mcp.json").await;
        assert_eq!(imported[0]["outcome"], outcome, "{imported:#}");
        for name in ["echo", "echo-2"] {
            let (_, service) = product.get(&format!("/containers/{name}")).await;
            assert_eq!(service["template"]["name"], name, "{service:#}");
        }
    }
    // Two names that are one here.
    let (one, other) = (unique("one"), unique("other"));
    let server = |package: &str, key: &str| json!({"command": "npx", "args": [package], "env": {"API_KEY": key}});
    put(json!({"My Server": server("@a/one", &one), "my-server": server("@a/other", &other)}));
    let imported = user.document("import mcp.json --templates-only").await;
    let outcomes = (&imported[0]["outcome"], &imported[1]["name"], &imported[1]["outcome"]);
    assert_eq!(outcomes, (&"template made".into(), &"my-server".into(), &"left out".into()), "{imported:#}");
    assert_eq!(product.get("/templates/my-server-2").await.0, 404);
    // From another file, the second gets a template and a secret of its own.
    put(json!({"my-server": server("@a/other", &other)}));
    let imported = user.document("import mcp.json --templates-only").await;
    assert_eq!(imported[0]["secrets"], json!(["my-server-2-api-key"]), "{imported:#}");
    let (_, template) = product.get("/templates/my-server-2").await;
    assert_eq!(template["document"]["secrets"], json!({"API_KEY": "my-server-2-api-key"}));
    let secrets = user.home.path().join(".config/mcp-manager/secrets");
    let kept = ["my-server-api-key", "my-server-2-api-key"].map(|name| std::fs::read_to_string(secrets.join(name)).unwrap());
    assert_eq!(kept, [one, other]);
    // Where a secret cannot be kept, nothing refers to it.
    std::fs::write(secrets.join("third-api-key"), unique("kept")).unwrap();
    put(json!({"third": server("@a/third", &unique("third"))}));
    let refused = user.run("import mcp.json --templates-only").await;
    assert!(refused.code != 0 && refused.stdout.contains("another secret"), "{refused:#?}");
    assert_eq!(product.get("/templates/third").await.0, 404);
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

/// A product that makes images where registries are reached by the host's way only. Each test makes a package, or a version
/// of it, that no other test makes: two makers of one image take its name away from each other.
async fn podman() -> Option<Product> {
    if offered(Part::Podman).is_none() || offered(Part::Hub).is_none() {
        return None;
    }
    Some(Product::start(Options::podman().with("MCP_MANAGER_PACKAGES_BUILD_NETWORK", "host")).await)
}

/// Containers in which it makes images, and images of this package without a name, which is what is left of one that was not
/// made.
async fn unfinished(product: &Product, source: &str) -> Vec<String> {
    let makers = format!("{}.build.", product.options.instance);
    let containers = podman_says(&["ps", "--all", "--format", "{{.Names}}"]).await;
    let of_package = format!("label=io.mcp-manager.package={source}");
    let images = podman_says(&["images", "--all", "--quiet", "--filter", "dangling=true", "--filter", &of_package]).await;
    containers.lines().filter(|name| name.starts_with(&makers)).chain(images.lines()).map(str::to_owned).collect()
}

/// Waits until no image is being made.
async fn until_nothing_is_unfinished(product: &Product, source: &str, before: &[String]) {
    let wait = async {
        while unfinished(product, source).await != before {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    assert!(timeout(Duration::from_mins(4), wait).await.is_ok(), "left: {:?}", unfinished(product, source).await);
}

/// Waits until an image is being made.
async fn until_one_is_begun(product: &Product, source: &str) {
    let wait = async {
        while !unfinished(product, source).await.iter().any(|one| one.contains(".build.")) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(timeout(Duration::from_mins(1), wait).await.is_ok(), "no image is begun");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_s_image_runs_as_nobody_says_what_is_in_it_and_is_made_once() {
    let Some(product) = podman().await else { return };
    let source = "npm:@modelcontextprotocol/server-memory@2026.7.4";
    let before = unfinished(&product, source).await;
    let request = json!({"source": source, "refresh": true});
    // Two at the same time: one makes it, and the other gets it or makes it after that.
    let (one, other) = tokio::join!(product.post("/packages", &request), product.post("/packages", &request));
    for (status, made) in [&one, &other] {
        assert_eq!(*status, 200, "{made:#}");
        let lock = made["lock"].as_object().unwrap();
        assert!(lock.len() > 5, "{lock:#?}");
        assert_eq!(lock["@modelcontextprotocol/server-memory"], "2026.7.4", "{lock:#?}");
    }
    let image = one.1["image"].as_str().unwrap();
    let config = podman_says(&["image", "inspect", "--format", "{{json .Config}}", image]).await;
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!((&config["User"], &config["Entrypoint"]), (&json!("65532:65532"), &json!(["/opt/server/run"])), "{config:#}");
    assert_eq!(config["Labels"]["io.mcp-manager.package"], source, "{config:#}");
    let (_, again) = product.post("/packages", &json!({"source": source})).await;
    assert_eq!((&again["cached"], &again["lock"]), (&Value::Bool(true), &one.1["lock"]), "{again:#}");
    until_nothing_is_unfinished(&product, source, &before).await;
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_that_cannot_be_made_says_why_and_leaves_nothing() {
    let Some(product) = podman().await else { return };
    for (source, word) in [
        ("npm:@modelcontextprotocol/there-is-no-such-server", "npm has no package"),
        ("npm:@modelcontextprotocol/server-memory@0.0.9", "npm has no version '0.0.9'"),
        ("pypi:mcp-server-time@99.1", "PyPI has no such version"),
        ("pypi:certifi", "no program"),
    ] {
        let before = unfinished(&product, source).await;
        let (status, problem) = product.post("/packages", &json!({"source": source})).await;
        assert_eq!(status, 422, "{source}: {problem:#}");
        assert!(problem.to_string().contains(word), "{source}: {problem:#}");
        assert_eq!(unfinished(&product, source).await, before, "{source}");
    }
    product.finish().await;
    let cut_off = Options::podman().with("MCP_MANAGER_PACKAGES_BUILD_NETWORK", "none");
    let product = Product::start(cut_off).await;
    let source = "pypi:mcp-server-time@2026.8.18";
    let before = unfinished(&product, source).await;
    let (status, problem) = product.post("/packages", &json!({"source": source})).await;
    assert_eq!((status, &problem["type"]), (502, &json!("urn:mcp-manager:problem:registry-unavailable")), "{problem:#}");
    assert_eq!(unfinished(&product, source).await, before);
    product.finish().await;
}

/// Writes a wheel whose `.pth` would run with every start of an interpreter that has it, and which says what the build says.
const WHEEL: &str = r#"import zipfile
files = {
    "pth_server.py": "def main():\n    print('I am the server')\n",
    "pth_server.pth": "import sys; open('/opt/server/ran', 'w').close(); "
        + "print('mcp-manager-lock {\"forged\": \"1\"}\\nmcp-manager-end 0', flush=True)\n",
    "pth_server-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: pth-server\nVersion: 1.0\n",
    "pth_server-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "pth_server-1.0.dist-info/entry_points.txt": "[console_scripts]\npth-server = pth_server:main\n",
}
record = "pth_server-1.0.dist-info/RECORD"
files[record] = "".join(f"{name},,\n" for name in [*files, record])
with zipfile.ZipFile("/wheels/pth_server-1.0-py3-none-any.whl", "w") as wheel:
    for name, text in files.items():
        wheel.writestr(name, text)
"#;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_wheel_runs_while_its_image_is_made_not_even_its_pth() {
    if offered(Part::Podman).is_none() || offered(Part::Hub).is_none() {
        return;
    }
    let base = format!("localhost/{}:1", unique("wheels"));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("wheel.py"), WHEEL).unwrap();
    let recipe = "FROM docker.io/library/python:3.13-slim\nENV PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels\nWORKDIR /wheels\n\
                  COPY wheel.py /wheel.py\nRUN python3 /wheel.py\n";
    std::fs::write(folder.path().join("Containerfile"), recipe).unwrap();
    let context = folder.path().display().to_string();
    podman_says(&["build", "--quiet", "--layers=false", "--network=none", "--tag", &base, &context]).await;
    let options = Options::podman().with("MCP_MANAGER_PACKAGES_BUILD_NETWORK", "none");
    let product = Product::start(options.with("MCP_MANAGER_PACKAGES_PYPI_IMAGE", &base)).await;
    let (status, made) = product.post("/packages", &json!({"source": "pypi:pth-server"})).await;
    assert_eq!((status, &made["lock"]), (200, &json!({"pth-server": "1.0"})), "{made:#}");
    let image = made["image"].as_str().unwrap();
    let run = async |program: &[&str]| podman_says(&[&["run", "--rm", "--network=none", "--entrypoint"], program].concat()).await;
    let installed = run(&["ls", image, "/opt/server", "/opt/server/bin"]).await;
    assert!(installed.contains("pth-server") && !installed.contains("ran"), "{installed}");
    assert!(!installed.contains("pip"), "the installer is no part of the server: {installed}");
    product.finish().await;
    podman_says(&["rmi", image, &base]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_nobody_waits_for_and_one_whose_manager_was_killed_leave_nothing() {
    let Some(product) = podman().await else { return };
    // Installing all of it takes some seconds.
    let source = "npm:@modelcontextprotocol/server-everything@2025.9.25";
    let before = unfinished(&product, source).await;
    let request = json!({"source": source, "refresh": true});
    let asked = tokio::spawn(product.request(Method::POST, "/packages").json(&request).send());
    until_one_is_begun(&product, source).await;
    asked.abort();
    until_nothing_is_unfinished(&product, source, &before).await;
    let asked = tokio::spawn(product.request(Method::POST, "/packages").json(&request).send());
    until_one_is_begun(&product, source).await;
    let product = product.kill_and_restart().await;
    asked.abort();
    until_nothing_is_unfinished(&product, source, &before).await;
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
