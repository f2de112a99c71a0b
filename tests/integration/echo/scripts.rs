//! The scripts that check a running installation, so far as they concern the echo service.

use std::path::Path;
use std::process::Output;

use tokio::process::Command;

use crate::support::echo::EchoProcess;

async fn run(script: &str, arguments: &[&str]) -> Output {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(script);
    Command::new("bash").arg(path).args(arguments).output().await.unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test]
async fn both_scripts_pass_a_right_service_by_address_and_by_name() {
    let echo = EchoProcess::start(&[]).await;
    let by_name = echo.url.replace("127.0.0.1", "echo.localhost");
    for url in [&echo.url, &by_name] {
        for (script, arguments) in [("test-echo.sh", vec![url.as_str()]), ("test-mcp.sh", vec!["-", url.as_str()])] {
            let output = run(script, &arguments).await;
            assert!(output.status.success(), "{script} {url}: {}", text(&output));
        }
    }
}

#[tokio::test]
async fn the_first_wrong_answer_ends_the_script_and_says_what_was_expected() {
    let echo = EchoProcess::with_controls().await;
    echo.post_json("/health/fail", "").await;
    let output = run("test-echo.sh", &[&echo.url]).await;
    assert_eq!(output.status.code(), Some(1));
    let text = text(&output);
    assert!(text.contains("expected: status 200") && text.contains("got:      503") && text.contains("/health"), "{text}");
    assert!(!text.contains("/info"), "it went on after the wrong answer: {text}");
}

#[tokio::test]
async fn a_server_that_lost_its_sessions_fails_the_mcp_script() {
    let echo = EchoProcess::start(&[("MCP_ECHO_SESSIONS", "false")]).await;
    let output = run("test-mcp.sh", &["-", &echo.url]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("expected: the header mcp-session-id"), "{}", text(&output));
}

#[tokio::test]
async fn nobody_there_is_a_failure_not_a_pass() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (script, arguments) in
        [("test-echo.sh", vec![format!("http://{free}")]), ("test-mcp.sh", vec!["-".into(), format!("http://{free}")])]
    {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let output = run(script, &arguments).await;
        assert_eq!(output.status.code(), Some(1), "{script}");
        assert!(text(&output).contains("expected: an answer"), "{}", text(&output));
    }
}
