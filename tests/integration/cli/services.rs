//! Services through the command line, from `run` to `rm`.

use crate::support::command::{Ran, User};
use crate::support::eventually;
use crate::support::product::{Options, Product};
use tokio::io::AsyncWriteExt as _;

#[tokio::test(flavor = "multi_thread")]
async fn a_service_lives_through_the_command_line() {
    let product = Product::start(Options::memory()).await;
    let user = User::of_product(&product);
    let created = user.document("run echo --replicas 2 --env A=1 --label team=a --label 'on=call,duty\\' --memory 32m").await;
    assert_eq!(created["status"], "running", "{created:#}");
    assert_eq!(created["template"]["name"], "echo", "the template of that name is meant");
    assert_eq!((&created["spec"]["environment"]["A"], &created["spec"]["memory_limit"]), (&"1".into(), &"32m".into()));
    assert_eq!(user.done("ls --quiet").await, "echo\n");
    assert_eq!(user.document("ls --label team=b").await.as_array().map(Vec::len), Some(0));
    for (label, found) in [("on=call,duty\\", 1), ("on=call", 0), ("on", 1), ("on,team", 0)] {
        let list = user.document(&format!("ls --label team=a --label '{label}'")).await;
        assert_eq!(list.as_array().map(Vec::len), Some(found), "{label}");
    }
    assert_eq!(user.document("ps echo").await.as_array().map(Vec::len), Some(2));
    assert_eq!(user.document("scale echo 3").await["ready_replicas"], 3);
    assert_eq!(user.document("stop echo").await[0]["status"], "stopped");
    assert_eq!(user.document("status echo").await["desired"], "stopped");
    assert_eq!(user.document("start echo").await[0]["status"], "running");
    assert_eq!(user.document("restart echo --wait started").await[0]["outcome"], "changed");
    assert_eq!(user.document("rm echo").await[0]["removed"], true);
    assert_eq!(user.done("ls --quiet").await.trim(), "");
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_would_be_and_does_nothing() {
    let product = Product::start(Options::memory()).await;
    let user = User::of_product(&product);
    let plan = user.document("run echo --replicas 2 --dry-run").await;
    assert_eq!((&plan["outcome"], &plan["spec"]["replicas"]), (&"created".into(), &2.into()), "{plan:#}");
    assert_eq!(user.done("ls --quiet").await.trim(), "");
    user.done("run echo").await;
    let refused = user.run("run echo --dry-run").await;
    assert_eq!(refused.code, 4, "{refused:#?}");
    let file = product.folder.path().join("services.json");
    let services =
        r#"[{"service_name": "echo", "template": "echo", "replicas": 3}, {"service_name": "new", "template": "echo"}]"#;
    std::fs::write(&file, services).unwrap();
    let plans = user.document(&format!("apply --file {} --dry-run", file.display())).await;
    let outcomes = (&plans[0]["outcome"], &plans[1]["outcome"], plans[0]["objects"][1]["action"].as_str());
    assert_eq!(outcomes, (&"changed".into(), &"created".into(), Some("create")), "{plans:#}");
    let table = user.done(&format!("apply --file {} --dry-run --output table", file.display())).await;
    assert!(table.contains("echo would be changed") && table.contains("new would be created"), "{table}");
    assert_eq!(user.document("ls").await.as_array().map(Vec::len), Some(1));
    let package = user.run("run npm:thing --dry-run").await;
    assert!(package.code == 2 && package.stderr.contains("--dry-run"), "{package:#?}");
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_and_messages_tell_scripts_and_people_what_went_wrong() {
    let product = Product::start(Options::memory()).await;
    let user = User::of_product(&product);
    user.done("run echo").await;
    for (arguments, code, words) in [
        ("run echo", 4, "there is a service 'echo' already"),
        ("run npm:not-looked-for --service echo", 4, "there is a service 'echo' already"),
        ("run other --template ecko", 3, "did you mean 'echo'?"),
        ("run Bad_Name --image x", 2, "is not a service name"),
        ("run x --image x --memory 1k", 2, "memory_limit"),
        ("run x --image x --memory lots", 2, "--memory"),
        ("run x --image localhost/missing", 1, "error:"),
        ("run x --no-such-flag", 2, "--no-such-flag"),
        ("status ecko", 3, "did you mean 'echo'?"),
        ("status ../../health", 2, "is not a service name"),
        ("logs ecko", 3, "there is no service"),
        ("scale echo 0", 2, "replicas"),
        ("scale echo 101", 2, "replicas"),
        ("rm echo ecko", 3, "there is no service 'ecko'"),
        ("template show nothing", 3, "there is no template"),
        ("ls --status sleeping", 2, "is not a status"),
        ("apply -f /nonexistent.json", 2, "/nonexistent.json cannot be read"),
    ] {
        let ran = user.run(arguments).await;
        assert_eq!(ran.code, code, "{arguments}: {ran:#?}");
        assert!(ran.stderr.contains(words), "{arguments}: {ran:#?}");
    }
    assert_eq!(user.run("rm --ignore-missing ecko").await.code, 0);
    assert_eq!(user.done("ls --quiet").await.trim(), "", "'rm echo ecko' deleted what there was");
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_json_errors_are_documents_on_standard_error() {
    let product = Product::start(Options::memory()).await;
    let user = User::of_product(&product);
    let ran = user.run("--json status nothing").await;
    let problem: serde_json::Value = serde_json::from_str(&ran.stderr).unwrap();
    assert_eq!((&problem["type"], &problem["exit_code"]), (&"urn:mcp-manager:problem:not-found".into(), &3.into()));
    assert_eq!(ran.stdout, "");
    for misused in ["--json scale echo two", "scale --json echo", "--json ls --no-such-flag"] {
        let ran = user.run(misused).await;
        let problem: serde_json::Value = serde_json::from_str(&ran.stderr).unwrap();
        assert_eq!((&problem["type"], &problem["exit_code"]), (&"urn:mcp-manager:problem:invalid".into(), &2.into()), "{ran:#?}");
        assert_eq!(ran.code, 2);
    }
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn applying_a_file_twice_changes_nothing_the_second_time() {
    let product = Product::start(Options::memory()).await;
    let user = User::of_product(&product);
    let file = user.home.path().join("services.json");
    std::fs::write(&file, r#"[{"service_name": "a", "template": "echo"}, {"name": "b", "image": "x:1", "port": 80}]"#).unwrap();
    let outcomes = |document: serde_json::Value| {
        let list = document.as_array().unwrap().clone();
        list.iter().map(|service| service["outcome"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(outcomes(user.document("apply -f services.json").await), ["created", "created"]);
    assert_eq!(outcomes(user.document("apply -f services.json").await), ["unchanged", "unchanged"]);
    std::fs::write(&file, r#"{"service_name": "a", "template": "echo", "replicas": 2}"#).unwrap();
    let mut child = user.command("apply -f -").stdin(std::process::Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&std::fs::read(&file).unwrap()).await.unwrap();
    let ran = Ran::end_of(child).await;
    assert_eq!(outcomes(serde_json::from_str(&ran.stdout).unwrap()), ["changed"], "{ran:#?}");
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_wrong_service_does_not_keep_the_others_from_being_applied() {
    let product = Product::start(Options::memory()).await;
    let user = User::of_product(&product);
    let text = r#"[{"name": "a", "template": "nothing"}, {"name": "b", "image": "x", "prot": 1}, {"name": "c", "image": "x"}]"#;
    std::fs::write(user.home.path().join("services.json"), text).unwrap();
    let ran = user.run("apply -f services.json").await;
    assert_eq!(ran.code, 3, "the first trouble decides: {ran:#?}");
    assert!(ran.stderr.contains("error: a: there is no template"), "{ran:#?}");
    assert!(ran.stderr.contains("error: b:") && ran.stderr.contains("did you mean 'port'?"), "{ran:#?}");
    assert_eq!(user.done("ls --quiet").await, "c\n");
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_lines_and_following_ends_with_the_service() {
    let product = Product::start(Options::memory()).await;
    let user = User::of_product(&product);
    user.done("run echo --replicas 2").await;
    let logs = user.done("logs echo").await;
    assert!(logs.contains("echo-1 | ") && logs.contains("echo-2 | "), "replicas are told apart: {logs}");
    let one = user.done("logs --replica 1 --tail 1 echo").await;
    assert_eq!((one.lines().count(), one.contains(" | ")), (1, false), "{one}");
    let first: serde_json::Value = serde_json::from_str(user.done("--json logs echo").await.lines().next().unwrap()).unwrap();
    assert_eq!(first["stream"], "stdout");
    let following = user.spawn("logs --follow echo");
    eventually("the follower is known to the manager", async || {
        let metrics = product.client.get(format!("{}/metrics", product.url)).send().await.unwrap().text().await.unwrap();
        metrics
            .lines()
            .any(|line| line.starts_with("mcp_manager_operations_total{operation=\"service_logs\"") && line.ends_with(" 4"))
    })
    .await;
    user.done("rm echo").await;
    let ran = Ran::end_of(following).await;
    assert_eq!(ran.code, 0, "{ran:#?}");
    assert!(ran.stdout.contains("echo-1 | "), "{ran:#?}");
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_is_told_that_the_manager_stops() {
    let product = Product::start(Options::memory()).await;
    let user = User::of_product(&product);
    user.done("run echo").await;
    let followers = ["events", "events echo", "logs --follow echo"].map(|command| (command, user.spawn(command)));
    eventually("the followers are known to the manager", async || {
        let metrics = product.client.get(format!("{}/metrics", product.url)).send().await.unwrap().text().await.unwrap();
        let counted = |operation: &str, count: u32| {
            metrics.contains(&format!("mcp_manager_operations_total{{operation=\"{operation}\",result=\"ok\"}} {count}"))
        };
        counted("service_events", 2) && counted("service_logs", 1)
    })
    .await;
    let (status, log) = product.terminate().await;
    assert!(status.success() && !log.contains("were cut off"), "{status}: {log}");
    for (command, child) in followers {
        let ran = Ran::end_of(child).await;
        assert_eq!(ran.code, 1, "{command}: {ran:#?}");
        assert!(ran.stderr.contains("the manager is shutting down") && ran.stderr.contains("try again"), "{command}: {ran:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_followed_until_their_service_is_gone() {
    let product = Product::start(Options::memory()).await;
    let user = User::of_product(&product);
    user.done("run echo").await;
    let following = user.spawn("events echo");
    eventually("the follower is known to the manager", async || {
        let metrics = product.client.get(format!("{}/metrics", product.url)).send().await.unwrap().text().await.unwrap();
        metrics.contains("operation=\"service_events\"")
    })
    .await;
    user.done("stop echo").await;
    user.done("rm echo").await;
    let ran = Ran::end_of(following).await;
    assert_eq!(ran.code, 0, "{ran:#?}");
    let kinds: Vec<serde_json::Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(kinds.iter().any(|event| event["phase"] == "stopped"), "{ran:#?}");
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_authentication_a_key_made_here_is_needed_and_its_role_counts() {
    let user = User::of("http://127.0.0.1:9");
    let file = user.home.path().join("keys");
    let make = async |role: &str| user.done(&format!("auth key {role} {role} --file {}", file.display())).await.trim().to_owned();
    let (admin, viewer) = (make("admin").await, make("viewer").await);
    assert_eq!(user.run(&format!("auth key admin admin --file {}", file.display())).await.code, 4);
    let options = Options::memory().with("ENABLE_AUTH", "true").with("MCP_MANAGER_AUTH_KEYS_FILE", file.to_str().unwrap());
    let product = Product::start(options).await;
    let caller = |key: &str| User::of_product(&product).with("MCP_MANAGER_API_KEY", key);
    let nobody = User::of_product(&product).run("ls").await;
    assert_eq!(nobody.code, 6, "{nobody:#?}");
    assert!(nobody.stderr.contains("MCP_MANAGER_API_KEY"), "{nobody:#?}");
    for (key, arguments, code) in
        [("mcpm_wrong", "ls", 6), (&viewer, "ls", 0), (&viewer, "run echo", 6), (&admin, "run echo", 0), (&admin, "rm echo", 0)]
    {
        let ran = caller(key).run(arguments).await;
        assert_eq!(ran.code, code, "{arguments}: {ran:#?}");
    }
    let (status, log) = product.terminate().await;
    assert!(status.success() && !log.contains(&admin), "{log}");
}
