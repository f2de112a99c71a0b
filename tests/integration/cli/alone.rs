//! Commands that need no manager: settings, keys, templates, completion, version, doctor.

use std::net::TcpListener;

use serde_json::Value;

use crate::support::PATIENCE;
use crate::support::command::User;

fn user() -> User {
    User::of("http://127.0.0.1:9")
}

#[tokio::test]
async fn settings_are_shown_with_their_sources_and_without_secrets() {
    let user = user().with("MAX_CONTAINERS", "7").with("REDIS_URL", "redis://:hunter2@localhost/0");
    let directory = user.home.path().join(".config/mcp-manager");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("config.toml"), "[limits]\ndefault_pids_limit = 9\n").unwrap();
    let shown = user.document("config show --listen 127.0.0.1:1 --set health.interval=5s").await;
    let setting = |path: &str| (shown[path]["value"].clone(), shown[path]["source"].as_str().unwrap().to_owned());
    assert_eq!(setting("limits.max_containers"), (7.into(), "variable MAX_CONTAINERS".into()));
    assert_eq!(setting("server.listen"), ("127.0.0.1:1".into(), "flag --listen".into()));
    assert_eq!(setting("health.interval"), ("5s".into(), "flag --set".into()));
    assert_eq!(setting("gateway.enabled"), (true.into(), "default".into()));
    let (value, source) = setting("limits.default_pids_limit");
    assert_eq!(value, 9);
    assert!(source.ends_with("config.toml:2"), "{source}");
    assert_eq!(setting("redis.url").0, "(secret)");
    let table = user.run("config show --output table").await;
    assert!(!table.stdout.contains("hunter2") && !table.stderr.contains("hunter2"), "{table:#?}");
    assert!(table.stderr.contains("REDIS_URL has no effect"), "{table:#?}");
}

#[tokio::test]
async fn a_manager_with_wrong_settings_does_not_start_and_says_all_that_is_wrong() {
    let ran = user().with("MAX_CONTAINERS", "many").with("ENABLE_AUTH", "perhaps").run("serve --listen nowhere").await;
    assert_eq!(ran.code, 2, "{ran:#?}");
    for words in ["variable MAX_CONTAINERS", "variable ENABLE_AUTH", "flag --listen", "true or false"] {
        assert!(ran.stderr.contains(words), "{words} is missing: {ran:#?}");
    }
    let ran = user().with("DEFAULT_MEMORY_LIMIT", "100t").with("DEFAULT_CPU_LIMIT", "5000").run("config show").await;
    let told = ran.stdout.clone() + &ran.stderr;
    for words in ["DEFAULT_MEMORY_LIMIT", "DEFAULT_CPU_LIMIT", "use 6m to 64t", "to 4096"] {
        assert!(told.contains(words), "no service could have that: {words} is missing: {ran:#?}");
    }
}

#[tokio::test]
async fn a_manager_with_authentication_and_no_keys_does_not_start() {
    let ran = user().with("ENABLE_AUTH", "true").run("serve --listen 127.0.0.1:0 --backend memory").await;
    assert_ne!(ran.code, 0, "{ran:#?}");
    assert!(ran.stderr.contains("mcp-manager auth key"), "{ran:#?}");
}

#[tokio::test]
async fn a_manager_whose_address_is_taken_says_whose_turn_it_is() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let ran = user().run(&format!("serve --backend memory --listen {address}")).await;
    assert_ne!(ran.code, 0, "{ran:#?}");
    assert!(ran.stderr.contains(&address.to_string()), "{ran:#?}");
}

#[tokio::test]
async fn template_files_are_checked_without_a_manager() {
    let user = user();
    std::fs::write(user.home.path().join("good.json"), r#"{"name": "good", "image": "x:1", "port": 80}"#).unwrap();
    std::fs::write(user.home.path().join("bad.json"), "{\n\"nmae\": \"x\",\n\"port\": \"abc\"}").unwrap();
    assert_eq!(user.done("template validate --output table good.json").await, "good.json: ok, good@0\n");
    let ran = user.run("template validate --output table good.json bad.json").await;
    assert_eq!(ran.code, 2, "{ran:#?}");
    assert!(ran.stdout.contains("bad.json: line 2: nmae: unknown field (did you mean 'name'?)"), "{ran:#?}");
    assert!(ran.stdout.contains("bad.json: line 3: port:"), "{ran:#?}");
    let list: Value = serde_json::from_str(&user.run("template validate good.json bad.json").await.stdout).unwrap();
    assert_eq!((&list[0]["valid"], &list[1]["valid"]), (&true.into(), &false.into()));
}

#[tokio::test]
async fn a_template_file_that_cannot_be_checked_keeps_no_other_from_being_checked() {
    let user = user();
    let directory = user.home.path().join("templates");
    std::fs::create_dir_all(directory.join("more.json")).unwrap();
    let file = |name: &str, text: &str| std::fs::write(directory.join(name), text).unwrap();
    file("a.json", r#"{"image": "x:1", "prot": 1, "port": 1, "port": 2}"#);
    file("b.json", &format!("{{\"image\": \"x:1\", \"description\": \"d\"}}{}", " ".repeat(1 << 20)));
    file("c.json", r#"{"image": "x:1"}"#);
    file("left.schema.json", "{");
    file("left.txt", "{");
    let ran = user.run("template validate --json missing.json templates").await;
    assert_eq!(ran.code, 2, "{ran:#?}");
    let list: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:#?}"));
    let told: Vec<(&str, bool)> =
        list.as_array().unwrap().iter().map(|one| (one["file"].as_str().unwrap(), one["valid"].as_bool().unwrap())).collect();
    let expected =
        [("missing.json", false), ("templates/a.json", false), ("templates/b.json", false), ("templates/c.json", true)];
    assert_eq!(told, expected, "{list:#}");
    assert_eq!(list[1]["errors"].as_array().unwrap().len(), 2, "what is given twice hides nothing: {list:#}");
    assert_eq!(list[2]["errors"][0]["message"], "the file is larger than 1 MiB", "as the manager says it: {list:#}");
    let ran = user.run("template validate --output table missing.json templates/c.json").await;
    assert!(ran.stdout.contains("templates/c.json: ok, c@0"), "{ran:#?}");
}

#[tokio::test]
async fn what_the_manager_would_not_read_in_a_directory_is_told_and_keeps_nobody_waiting() {
    let user = user();
    let directory = user.home.path().join("templates");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(user.home.path().join("outside.json"), r#"{"image": "x:1"}"#).unwrap();
    std::os::unix::fs::symlink("../outside.json", directory.join("link.json")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(directory.join("pipe.json")).status().unwrap().success());
    let ran = tokio::time::timeout(PATIENCE, user.run("template validate --json templates")).await.expect("it ends");
    assert_eq!(ran.code, 2, "{ran:#?}");
    let list: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:#?}"));
    let told = [&list[0]["errors"][0]["message"], &list[1]["errors"][0]["message"]];
    let leads_out = "the file is a symbolic link that leads out of the templates directory";
    assert_eq!(told, [leads_out, "it is not a regular file"], "{list:#}");
}

#[tokio::test]
async fn of_two_files_of_a_directory_with_one_template_the_second_is_wrong_as_in_the_managers_own() {
    let user = user();
    let directory = user.home.path().join("templates");
    std::fs::create_dir(&directory).unwrap();
    for file in ["one.json", "two.json"] {
        std::fs::write(directory.join(file), r#"{"name": "twin", "image": "x:1"}"#).unwrap();
    }
    let ran = user.run("template validate --json templates").await;
    assert_eq!(ran.code, 2, "{ran:#?}");
    let list: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:#?}"));
    assert_eq!((&list[0]["valid"], &list[1]["valid"]), (&true.into(), &false.into()), "{list:#}");
    let message = &list[1]["errors"][0]["message"];
    assert_eq!(message, "the template twin@0 is already given by the file one.json", "{list:#}");
    // Files that are named may belong to many directories.
    user.done("template validate templates/one.json templates/two.json").await;
}

#[tokio::test]
async fn doctor_reports_every_check_with_a_remedy_for_each_that_is_not_ok() {
    let user = user();
    let ran = user.run("doctor --json --listen 127.0.0.1:0").await;
    let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:#?}"));
    let checks = report["checks"].as_array().unwrap();
    let failed = checks.iter().filter(|check| check["state"] == "fail").count();
    assert_eq!(report["failed"], failed, "{report:#}");
    assert_eq!(ran.code, i32::from(failed > 0), "{report:#}");
    for check in checks {
        assert_eq!(check["state"] == "ok", check["remedy"].is_null(), "{check:#}");
    }
    // Whatever the machine is like, these can be looked at.
    for name in ["user", "user namespaces", "/dev/net/tun", "settings", "address", "templates"] {
        assert!(checks.iter().any(|check| check["check"] == name), "{name} is missing in {report:#}");
    }
}

#[tokio::test]
async fn doctor_looks_at_the_machine_though_settings_are_wrong_and_says_which() {
    let user = user().with("MAX_CONTAINERS", "lots");
    let ran = user.run("doctor --json --set health.interval=0").await;
    let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:#?}"));
    assert_eq!((ran.code, &report["ok"]), (1, &false.into()), "{report:#}");
    let checks = report["checks"].as_array().unwrap();
    let wrong: Vec<&str> =
        checks.iter().filter(|check| check["check"] == "settings").map(|check| check["message"].as_str().unwrap()).collect();
    assert_eq!(wrong.len(), 2, "{report:#}");
    assert!(wrong.iter().any(|wrong| wrong.contains("'lots'") && wrong.contains("variable MAX_CONTAINERS")), "{report:#}");
    assert!(wrong.iter().any(|wrong| wrong.contains("health.interval") && wrong.contains("--set")), "{report:#}");
    assert!(checks.iter().any(|check| check["check"] == "/dev/net/tun"), "{report:#}");
}

#[tokio::test]
async fn every_shell_gets_a_completion_script_and_the_version_is_told() {
    let user = user();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(user.done(&format!("completion {shell}")).await.contains("scale"), "{shell}");
    }
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(user.done("version").await, format!("mcp-manager {version}\n"));
    assert_eq!(user.done("--version").await, format!("mcp-manager {version}\n"));
    assert_eq!(user.document("--json version").await["version"], version);
    let help = user.done("--help").await;
    assert!(help.contains("Exit codes:") && !help.contains('\u{1b}'), "{help}");
}
