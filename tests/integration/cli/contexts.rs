//! Managers by name: what is remembered, who gets which key, and a manager behind TLS (the real Traefik's).

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::support::command::User;
use crate::support::machine::{Part, offered};
use crate::support::product::{Options, Product};
use crate::support::{eventually, free_port};

/// A user who names no manager.
fn user() -> User {
    User::without_manager()
}

/// A manager that knows one key, and the file that holds the key.
async fn guarded(user: &User, file: &str) -> Product {
    let keys = user.home.path().join(format!("{file}.keys"));
    let key = user.done(&format!("auth key tester operator --file {}", keys.display())).await;
    std::fs::write(user.home.path().join(file), key).unwrap();
    let options = Options::memory().with("ENABLE_AUTH", "true").with("MCP_MANAGER_AUTH_KEYS_FILE", keys.to_str().unwrap());
    Product::start(options).await
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_ask_the_manager_in_use_with_its_own_key() {
    let user = user();
    let (one, two) = (guarded(&user, "one.key").await, guarded(&user, "two.key").await);
    let (one_url, two_url) = (&one.url, &two.url);
    user.done(&format!("context set one --server {one_url} --api-key-file one.key --use")).await;
    user.done(&format!("context set two --server {two_url} --api-key-file two.key")).await;
    user.done("run first --image localhost/x --wait none").await;
    assert_eq!(user.document("ls").await[0]["name"], "first");
    assert_eq!(user.document("--context two ls").await, json!([]));
    user.done("context use two").await;
    assert_eq!(user.document("ls").await, json!([]));

    // The key of the context in use is not for another address.
    let refused = user.run(&format!("--server {two_url} ls")).await;
    assert!(refused.code != 0 && refused.stderr.contains("MCP_MANAGER_API_KEY"), "{refused:#?}");
    let both = user.run(&format!("--server {one_url} --context two ls")).await;
    assert!(both.code == 2 && both.stderr.contains("one of --server and --context"), "{both:#?}");

    let home = user.home.path();
    let listed = user.document("context ls").await;
    let expected =
        json!({"name": "two", "current": true, "server": two_url, "api_key_file": home.join("two.key"), "ca_file": null});
    assert_eq!(listed[2], expected, "{listed:#}");
    assert_eq!(user.document("context show").await, expected);
    let file = home.join(".config/mcp-manager/contexts.toml");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let key = std::fs::read_to_string(home.join("two.key")).unwrap();
    assert!(!std::fs::read_to_string(file).unwrap().contains(key.trim()), "keys themselves are not recorded");

    user.done("context rm two").await;
    assert_eq!(user.document("context show").await["name"], "default");
    let unknown = user.run("--context tow ls").await;
    assert!(unknown.code != 0 && unknown.stderr.contains("there is no context 'tow'"), "{unknown:#?}");
    assert!(one.terminate().await.0.success() && two.terminate().await.0.success());
}

#[tokio::test]
async fn what_cannot_be_a_context_is_refused_and_changes_nothing() {
    let user = user();
    user.done("context set here --server http://127.0.0.1:9").await;
    std::fs::write(user.home.path().join("empty"), "").unwrap();
    for (words, says) in [
        ("set there", "--server"),
        ("set there --server ftp://x", "not an address of HTTP"),
        ("set default --server http://127.0.0.1:9", "choose another name"),
        ("set ../x --server http://127.0.0.1:9", "cannot name a context"),
        ("set here --api-key-file nowhere", "--api-key-file"),
        ("set here --server https://localhost --ca-file empty", "holds no certificate"),
        ("use her", "did you mean 'here'?"),
        ("rm here nobody", "there is no context 'nobody'"),
    ] {
        let ran = user.run(&format!("context {words}")).await;
        assert!(ran.code == 2 || ran.code == 3 || ran.code == 4, "{words}: {ran:#?}");
        assert!(ran.stderr.contains(says), "{words}: {ran:#?}");
    }
    assert_eq!(user.document("context ls").await.as_array().unwrap().len(), 2);
    let file = user.home.path().join(".config/mcp-manager/contexts.toml");
    std::fs::write(&file, "current = 'here'\n[contexts.here]\nsever = 'x'\n").unwrap();
    let ran = user.run("ls").await;
    assert!(ran.code == 2 && ran.stderr.contains("contexts.toml") && ran.stderr.contains("sever"), "{ran:#?}");
    assert_eq!(user.run("--server http://127.0.0.1:9 ls").await.code, 5, "who names an address needs no context");
    // Commands that ask no manager do not care.
    user.done("version").await;
}

/// Makes an authority's certificate, `ca.crt`, and one for localhost that it signed, `tls.crt`.
async fn make_certificates(folder: &Path) {
    let openssl = async |words: &str| {
        let ran = Command::new("openssl").args(shlex::split(words).unwrap()).current_dir(folder).output().await.unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    };
    let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
    openssl(&format!("{new} -subj /CN=authority -addext basicConstraints=critical,CA:TRUE -keyout ca.key -out ca.crt")).await;
    let leaf = "-subj /CN=localhost -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE";
    openssl(&format!("{new} {leaf} -CA ca.crt -CAkey ca.key -keyout tls.key -out tls.crt")).await;
}

/// Traefik with such a certificate before what listens at `behind`.
async fn traefik(program: &str, folder: &Path, behind: &str) -> (Child, u16) {
    make_certificates(folder).await;
    let dynamic = json!({
        "tls": {"certificates": [{"certFile": folder.join("tls.crt"), "keyFile": folder.join("tls.key")}]},
        "http": {
            "routers": {"manager": {"rule": "PathPrefix(`/api/mcp`)", "service": "manager", "tls": {}, "middlewares": ["strip"]}},
            "middlewares": {"strip": {"stripPrefix": {"prefixes": ["/api/mcp"]}}},
            "services": {"manager": {"loadBalancer": {"servers": [{"url": behind}]}}},
        },
    });
    std::fs::write(folder.join("dynamic.yml"), dynamic.to_string()).unwrap();
    let port = free_port();
    let process = Command::new(program)
        .arg(format!("--entryPoints.secure.address=127.0.0.1:{port}"))
        .arg(format!("--providers.file.filename={}", folder.join("dynamic.yml").display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    (process, port)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_behind_tls_is_asked_where_its_authority_is_named() {
    let Some(program) = offered(Part::Traefik) else { return };
    let user = user();
    let product = guarded(&user, "key").await;
    let (_process, port) = traefik(&program, user.home.path(), &product.url).await;
    let server = format!("https://localhost:{port}/api/mcp");
    user.done(&format!("context set far --server {server} --api-key-file key --ca-file ca.crt --use")).await;
    eventually("Traefik leads to the manager", async || user.run("ls").await.code == 0).await;
    user.done("run echo --image localhost/x --wait none").await;
    assert_eq!(user.document("ls").await[0]["name"], "echo");
    // What clients start finds key and authority, too.
    let entry = user.document("client config claude-desktop --manager --stdio").await;
    let written = entry.to_string();
    for part in [&server, "--ca-file", "ca.crt", "--api-key-file"] {
        assert!(written.contains(part), "no {part}: {entry:#}");
    }

    let of_other = user.home.path().join("other");
    std::fs::create_dir(&of_other).unwrap();
    make_certificates(&of_other).await;
    let stranger = user.run("--ca-file other/ca.crt ls").await;
    assert_eq!(stranger.code, 5, "{stranger:#?}");
    assert!(stranger.stderr.contains("is not believed") && stranger.stderr.contains("--ca-file"), "{stranger:#?}");
    let by_address = user.run(&format!("--server https://127.0.0.1:{port}/api/mcp --ca-file ca.crt --json ls")).await;
    let problem: Value = serde_json::from_str(&by_address.stderr).unwrap();
    assert!(problem["detail"].as_str().unwrap().contains("is not believed"), "{problem:#}");
    assert!(product.terminate().await.0.success());
}
