//! The command line when nothing is as it should be: no manager, another program in its place, slow answers, sick services,
//! readers that go away.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use mcp_manager::lifecycle::Tasks;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::support::command::{Ran, User};
use crate::support::eventually;
use crate::support::product::{Options, Product, signal};

/// A program that answers every request with these bytes, or not at all. Its address, and a count of requests.
async fn program(answer: Option<String>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    // It ends with the test's runtime.
    Tasks::default().spawn("program", async move {
        let mut held = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 65536];
            let _ = stream.read(&mut request).await;
            counter.fetch_add(1, SeqCst);
            match &answer {
                Some(answer) => stream.write_all(answer.as_bytes()).await.unwrap(),
                None => held.push(stream),
            }
        }
    });
    (address, count)
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn without_a_manager_the_remedy_says_how_to_start_one() {
    let ran = User::of("http://127.0.0.1:9").run("ls").await;
    assert_eq!(ran.code, 5, "{ran:#?}");
    assert!(
        ran.stderr.contains("no manager answers at http://127.0.0.1:9") && ran.stderr.contains("mcp-manager serve"),
        "{ran:#?}"
    );
    let json = User::of("http://127.0.0.1:9").run("--json ls").await;
    let problem: Value = serde_json::from_str(&json.stderr).unwrap();
    assert_eq!(problem["type"], "urn:mcp-manager:problem:manager-unreachable");
}

#[tokio::test]
async fn an_address_that_cannot_work_is_refused_before_anything_is_sent() {
    for server in ["127.0.0.1:8000", "ftp://x"] {
        let ran = User::of(server).run("ls").await;
        assert_eq!(ran.code, 2, "{server}: {ran:#?}");
    }
}

#[tokio::test]
async fn another_program_in_the_managers_place_is_told_as_such() {
    for (status, body) in [("404 Not Found", "<html>nothing here</html>"), ("200 OK", "<html>hello</html>"), ("200 OK", "[1, 2]")]
    {
        let (address, _) = program(Some(answer(status, body))).await;
        let ran = User::of(&address).run("ls").await;
        assert_eq!(ran.code, 5, "{body}: {ran:#?}");
        assert!(ran.stderr.contains("--server"), "{body}: {ran:#?}");
    }
}

#[tokio::test]
async fn another_programs_consent_is_not_taken_for_the_managers() {
    let (address, _) = program(Some(answer("200 OK", "<html>log in</html>"))).await;
    for command in ["rm x", "rm --json x", "events", "events x"] {
        let ran = User::of(&address).run(command).await;
        assert_eq!((ran.code, ran.stdout.contains("true")), (5, false), "{command}: {ran:#?}");
        assert!(ran.stderr.contains("--server"), "{command}: {ran:#?}");
    }
}

#[tokio::test]
async fn a_manager_that_breaks_off_is_told_apart_from_none() {
    let (address, _) = program(Some(String::new())).await;
    let ran = User::of(&address).run("ls").await;
    assert_eq!(ran.code, 5, "{ran:#?}");
    assert!(ran.stderr.contains("broke off"), "{ran:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_not_healthy_in_time_has_an_exit_code_of_its_own() {
    let product = Product::start(Options::memory()).await;
    let mut detail = User::of_product(&product).document("run echo").await;
    product.finish().await;
    detail["status"] = json!("unhealthy");
    detail["ready_replicas"] = json!(0);
    detail["message"] = json!("replica 1: /health answers 500");
    let (address, _) = program(Some(answer("201 Created", &detail.to_string()))).await;
    let ran = User::of(&address).run("run echo").await;
    assert_eq!(ran.code, 7, "{ran:#?}");
    assert!(ran.stderr.contains("/health answers 500") && ran.stderr.contains("mcp-manager logs echo"), "{ran:#?}");
    assert_eq!(User::of(&address).run("run echo --wait started").await.code, 0, "nobody waited for its health");
}

#[tokio::test]
async fn an_interrupted_wait_says_that_the_manager_goes_on() {
    // What was there before is not to be given up for a change.
    for (command, undo) in [("run echo", true), ("scale echo 2", false), ("stop echo", false)] {
        let (address, asked) = program(None).await;
        let child = User::of(&address).spawn(command);
        eventually("the request is sent", async || asked.load(SeqCst) > 0).await;
        signal(i32::try_from(child.id().unwrap()).unwrap(), rustix::process::Signal::INT);
        let ran = Ran::end_of(child).await;
        assert_eq!(ran.code, 130, "{command}: {ran:#?}");
        let (goes_on, look) = ("the manager goes on", "mcp-manager status echo");
        assert!(ran.stderr.contains(goes_on) && ran.stderr.contains(look), "{command}: {ran:#?}");
        assert_eq!(ran.stderr.contains("mcp-manager rm"), undo, "{command}: {ran:#?}");
    }
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_error() {
    let user = User::of("http://127.0.0.1:9");
    for arguments in ["config show --output table", "config show --json", "completion bash", "template schema", "reference"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let child = user.command(arguments).stdout(Stdio::from(writer)).spawn().unwrap();
        let ran = Ran::end_of(child).await;
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{arguments}");
    }
}
