//! The command line on a terminal: tables, colours and progress there, JSON and plain text elsewhere.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::support::command::{Ran, User};
use crate::support::podman;
use crate::support::product::{Options, Product};
use crate::support::registry::{Registry, architectures};

/// A terminal of so many columns: the end that programs write to, and the end that shows it.
fn terminal(columns: u16) -> (OwnedFd, File) {
    let shown = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&shown).unwrap();
    unlockpt(&shown).unwrap();
    tcsetwinsize(&shown, Winsize { ws_row: 50, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let path = ptsname(&shown, Vec::new()).unwrap();
    // It is not to become the terminal of the tests themselves: they would end with it.
    let written = rustix::fs::open(path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    (written, File::from(shown))
}

/// Runs a command on a terminal, and gives what it shows and its exit code.
async fn on_terminal(user: &User, arguments: &str, columns: u16) -> (String, i32) {
    let (written, mut shown) = terminal(columns);
    let mut command = user.command(arguments);
    command.env("TERM", "xterm").stdout(Stdio::from(written.try_clone().unwrap())).stderr(Stdio::from(written));
    let child = command.spawn().unwrap();
    // The command holds the terminal's other end, and so does `Command`, until it is dropped.
    drop(command);
    let reading = std::thread::spawn(move || {
        let mut text = Vec::new();
        let mut piece = [0; 4096];
        // When the last program has closed its end, reading fails.
        while let Ok(length @ 1..) = shown.read(&mut piece) {
            text.extend_from_slice(&piece[..length]);
        }
        String::from_utf8_lossy(&text).replace("\r\n", "\n")
    });
    let ran = Ran::end_of(child).await;
    (reading.join().unwrap(), ran.code)
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_coloured_tables_on_a_terminal_and_json_elsewhere() {
    let product = Product::start(Options::memory()).await;
    let user = User::of_product(&product);
    user.done("run echo").await;
    assert!(user.document("ls").await.is_array());
    let (shown, code) = on_terminal(&user, "ls", 120).await;
    assert_eq!(code, 0, "{shown}");
    assert!(shown.starts_with("NAME") && shown.contains(&format!("http://echo.localhost:{}", product.port)), "{shown}");
    assert!(shown.contains("\u{1b}["), "the status has a colour: {shown:?}");
    let (plain, _) = on_terminal(&User::of_product(&product).with("NO_COLOR", "1"), "ls", 120).await;
    assert!(!plain.contains('\u{1b}'), "{plain:?}");
    let (json, _) = on_terminal(&user, "ls --json", 120).await;
    assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok(), "{json}");
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_addresses_are_never_broken_however_narrow_the_terminal() {
    let product = Product::start(Options::memory()).await;
    let user = User::of_product(&product);
    user.done("run a-rather-long-name-for-one-service --template echo").await;
    for columns in [0, 1, 40, 80, 200] {
        let (shown, _) = on_terminal(&user, "ls", columns).await;
        let url = format!("http://a-rather-long-name-for-one-service.localhost:{}", product.port);
        assert!(shown.contains(&url), "{columns} columns: {shown}");
    }
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_service_was_given_does_nothing_to_the_terminal_and_keeps_its_line() {
    let product = Product::start(Options::memory()).await;
    let user = User::of_product(&product);
    let environment = serde_json::json!({"A": "\u{7}\u{1b}[31mRED\u{9b}2J", "B": "l1\nl2"});
    let body = serde_json::json!({"service_name": "echo", "template": "echo", "environment": environment});
    let (status, answer) = product.post("/containers?wait=none", &body).await;
    assert!(matches!(status, 201 | 202), "{answer:#}");
    let user = user.with("NO_COLOR", "1");
    let (shown, code) = on_terminal(&user, "status echo", 120).await;
    assert_eq!(code, 0, "{shown}");
    assert!(!shown.contains(|letter: char| letter.is_control() && letter != '\n'), "{shown:?}");
    assert!(shown.contains("B=l1\\nl2\n"), "{shown:?}");
    let (json, _) = on_terminal(&user, "status --json echo", 120).await;
    assert!(!json.contains(|letter: char| letter.is_control() && letter != '\n'), "{json:?}");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["spec"]["environment"]["A"], environment["A"], "{json:#}");
    product.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_shows_a_bar_while_an_image_comes_on_a_terminal_and_nothing_elsewhere() {
    if !podman::ready().await {
        return;
    }
    let registry = Registry::start().await;
    registry.publish("slow/image:1", "slow", architectures().0);
    let product = Product::start(registry.options()).await;
    let user = User::of_product(&product);
    let run = format!("run echo --image {}", registry.reference("slow/image:1"));
    let (shown, code) = on_terminal(&user, &run, 100).await;
    assert_eq!(code, 0, "{shown}\n{}", product.log());
    for part in ["echo pulling: downloading", "[█", " KiB/1.00 MiB "] {
        assert!(shown.contains(part), "{part}: {shown:?}");
    }
    // What it drew while it waited is gone when the result is there.
    assert!(shown.rsplit("\u{1b}[2K").next().unwrap().contains("echo is running ("), "{shown:?}");
    let (quiet, _) = on_terminal(&user, "stop --quiet echo", 100).await;
    assert_eq!(quiet, "echo\n");
    let ran = user.run("start echo").await;
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    product.finish().await;
}
