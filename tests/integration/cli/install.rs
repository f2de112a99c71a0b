//! `install` and `uninstall` as far as a machine without systemd can show them; scripts/test-machine.sh shows the rest.

use std::process::Command;

use crate::support::command::User;

fn user() -> User {
    User::of("http://127.0.0.1:9")
}

#[tokio::test]
async fn the_unit_of_a_dry_run_is_one_that_systemd_takes_and_nothing_is_written() {
    let user = user().with("HEALTH_CHECK_INTERVAL", "7").with("MCP_MANAGER_SECRET_TOKEN", "hunter2");
    std::fs::create_dir(user.home.path().join("templates")).unwrap();
    let ran = user.run("install --dry-run --listen 127.0.0.1:8123 --set limits.max_containers=20").await;
    assert_eq!(ran.code, 0, "{ran:#?}");
    assert!(ran.stderr.contains("not in the unit: HEALTH_CHECK_INTERVAL, MCP_MANAGER_SECRET_TOKEN;"), "{ran:#?}");
    assert!(ran.stderr.contains("enable mcp-manager.service") && !ran.stderr.contains("hunter2"), "{ran:#?}");
    assert!(!user.home.path().join(".config").exists());
    let templates = user.home.path().join("templates");
    for words in
        ["\"--listen=127.0.0.1:8123\"", "\"--set=limits.max_containers=20\"", &format!("--templates={}\"", templates.display())]
    {
        assert!(ran.stdout.contains(words), "{words} is missing: {ran:#?}");
    }
    // What systemd thinks of it, where its programs are.
    let file = user.home.path().join("mcp-manager.service");
    std::fs::write(&file, &ran.stdout).unwrap();
    match Command::new("systemd-analyze").args(["--user", "verify"]).arg(&file).env("XDG_RUNTIME_DIR", user.home.path()).output()
    {
        Ok(verified) => {
            let said = String::from_utf8_lossy(&verified.stderr);
            assert!(verified.status.success() && !said.contains("mcp-manager.service"), "{said}\n{}", ran.stdout);
        }
        Err(error) => eprintln!("systemd-analyze cannot be asked: {error}"),
    }
}

#[tokio::test]
async fn where_no_systemd_can_be_asked_install_says_so_and_writes_nothing() {
    let user = user();
    let ran = user.run("install").await;
    assert_eq!(ran.code, 1, "{ran:#?}");
    assert!(ran.stderr.contains("systemd") && ran.stderr.contains("remedy:"), "{ran:#?}");
    assert!(!user.home.path().join(".config").exists());
}

#[tokio::test]
async fn a_unit_of_somebody_else_is_not_taken_away() {
    let user = user();
    let units = user.home.path().join(".config/systemd/user");
    std::fs::create_dir_all(&units).unwrap();
    let file = units.join("mcp-manager.service");
    assert!(user.done("uninstall --output table").await.contains("nothing to do"));
    std::fs::write(&file, "[Service]\nExecStart=/bin/true\n").unwrap();
    let ran = user.run("uninstall").await;
    assert_eq!(ran.code, 4, "{ran:#?}");
    assert!(file.exists(), "{ran:#?}");
    assert!(user.done("uninstall --force --dry-run --output table").await.contains("would be"));
    assert!(file.exists());
}
