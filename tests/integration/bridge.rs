//! The bridge under clients that come in numbers and do not behave, on this machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::bridged::{Bridged, conformance_server};
use crate::support::mcp::Session;
use crate::support::{PATIENCE, eventually, http_client, stretched};

/// A server that says, when told to, many times that its tools have changed.
const CHATTERBOX: &str = r#"
import sys, json
for line in sys.stdin:
    m = json.loads(line)
    i, p = m.get('id'), m.get('params') or {}
    if m.get('method') == 'initialize':
        print(json.dumps({'jsonrpc':'2.0','id':i,'result':{'protocolVersion':p['protocolVersion'],'capabilities':{'tools':{'listChanged':True}},'serverInfo':{'name':'c','version':'1'}}}), flush=True)
    elif m.get('method') == 'tools/call':
        a = p['arguments']
        for n in range(a['times']):
            print('{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"n":%d,"x":"%s"}}' % (n, 'x' * a['size']))
        print(json.dumps({'jsonrpc':'2.0','method':'notifications/tools/list_changed','params':{'last':a['last']}}))
        print(json.dumps({'jsonrpc':'2.0','id':i,'result':{'content':[]}}), flush=True)
    elif i is not None:
        print(json.dumps({'jsonrpc':'2.0','id':i,'error':{'code':-32601,'message':'Method not found'}}), flush=True)
"#;

const MIB: u64 = 1 << 20;

async fn until_no_sessions(bridge: &Bridged) {
    eventually("all sessions have ended", async || bridge.figure("mcp_bridge_sessions").await == 0).await;
    // What is left is started ahead of sessions, or shared by clients without one.
    eventually("their processes, too", async || bridge.figure("mcp_bridge_children").await <= 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_sessions_that_nobody_ends_leave_no_process_and_no_memory() {
    let server = conformance_server();
    // Long enough for a client on a busy machine to do its calls one after the other.
    let flags = ["--idle-timeout", "4", "--max-sessions", "60"];
    let bridge = Bridged::before(&flags, &[server.to_str().unwrap()]).await;
    let client = http_client().pool_max_idle_per_host(0).build().unwrap();
    let wave = async |size: usize| {
        let mut opening = tokio::task::JoinSet::new();
        for _ in 0..size {
            let (client, url) = (client.clone(), bridge.url.clone());
            opening.spawn(async move { Session::open(&client, &url).await.call("tools/list", json!({})).await.status });
        }
        assert!(opening.join_all().await.iter().all(|status| *status == 200));
        until_no_sessions(&bridge).await;
    };
    wave(50).await;
    let before = bridge.memory_at_rest().await;
    for _ in 0..9 {
        wave(50).await;
    }
    assert_eq!(bridge.figure("mcp_bridge_sessions_expired_total").await, 500);
    let after = bridge.memory_at_rest().await;
    assert!(after < before + 2 * MIB, "{} KiB before, {} KiB after", before / 1024, after / 1024);
    bridge.finish().await;
}

/// Opens the listening stream of a session, and takes its head.
async fn listen(bridge: &Bridged, session: &str, buffer: u32) -> TcpStream {
    let address = bridge.url.trim_start_matches("http://").trim_end_matches("/mcp").parse().unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(buffer).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let head = format!("GET /mcp HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\nmcp-session-id: {session}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_readers_of_which_half_never_read_hold_nobody_up() {
    const READERS: usize = 1000;
    let flags = ["--session-mode", "shared", "--max-sessions", "1100"];
    let bridge = Bridged::before(&flags, &["python3", "-c", CHATTERBOX]).await;
    let client = http_client().build().unwrap();
    let told = Arc::new(AtomicUsize::new(0));
    let mut silent = Vec::new();
    for number in 0..READERS {
        let session = Session::open(&client, &bridge.url).await;
        let mut stream = listen(&bridge, &session.id, if number % 2 == 0 { 1 << 20 } else { 4096 }).await;
        if number % 2 == 1 {
            silent.push(stream);
            continue;
        }
        let told = Arc::clone(&told);
        tokio::spawn(async move {
            let (mut seen, mut piece) = (Vec::new(), vec![0; 64 << 10]);
            loop {
                let read = stream.read(&mut piece).await.unwrap_or_default();
                if read == 0 {
                    return;
                }
                seen.extend_from_slice(&piece[..read]);
                if seen.windows(12).any(|bytes| bytes == b"\"last\": true") {
                    told.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                // An end may be in two pieces.
                seen.drain(..seen.len().saturating_sub(64));
            }
        });
    }
    let caller = Session::open(&client, &bridge.url).await;
    let before = bridge.memory();
    for round in 0..4 {
        let arguments = json!({"times": 500, "size": 1000, "last": round == 3});
        let began = std::time::Instant::now();
        let answer = caller.call("tools/call", json!({"name": "change", "arguments": arguments})).await;
        assert_eq!(answer.result(), &json!({"content": []}));
        let took = began.elapsed();
        assert!(took < stretched(Duration::from_secs(20)).await, "the call took {took:?}");
    }
    eventually("who reads hears the last word", async || told.load(Ordering::Relaxed) == READERS / 2).await;
    let after = bridge.memory();
    // Half a megabyte for each who does not read would be 250 MiB.
    assert!(after < before + 150 * MIB, "{} KiB before, {} KiB after", before / 1024, after / 1024);
    drop(silent);
    assert_eq!(caller.close().await, 200);
    bridge.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_on_after_its_server_was_killed_whatever_eras_the_server_speaks() {
    let server = conformance_server();
    for flags in [
        ["--session-mode", "shared", "--era", "auto"],
        ["--session-mode", "per_session", "--era", "modern"],
        ["--session-mode", "per_session", "--era", "auto"],
    ] {
        let bridge = Bridged::before(&flags, &[server.to_str().unwrap()]).await;
        let client = http_client().build().unwrap();
        let sessions = [Session::open(&client, &bridge.url).await, Session::open(&client, &bridge.url).await];
        for _ in 0..2 {
            for session in &sessions {
                session.call("tools/list", json!({})).await.result();
            }
            let killed = bridge.servers();
            assert!(!killed.is_empty());
            for pid in killed.into_iter().filter_map(Pid::from_raw) {
                // One may have ended by itself meanwhile.
                let _gone = kill_process(pid, Signal::KILL);
            }
            for session in &sessions {
                // What was sent before the end was noticed fails with it.
                let works = async || session.call("tools/list", json!({})).await.messages[0]["result"].is_object();
                eventually(&format!("the next call works with {flags:?}"), works).await;
            }
        }
        bridge.finish().await;
    }
}

#[tokio::test]
async fn the_log_has_last_words_without_a_line_end_and_the_beginning_of_long_lines() {
    let script = r"printf 'begin%20000d' 7 >&2; printf '\nlast words' >&2; exit 3";
    let mut bridge = tokio::process::Command::new(env!("CARGO_BIN_EXE_mcp-bridge"))
        .args(["--listen", "127.0.0.1:0", "--", "sh", "-c", script])
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(bridge.stderr.take().unwrap()).lines();
    let (mut long, mut last) = (false, false);
    let reading = async {
        while !long || !last {
            let line = lines.next_line().await.unwrap().expect("the bridge does not end");
            long |= line.starts_with("begin  ") && line.len() > 16 << 10 && line.ends_with("(the rest of this line is left out)");
            last |= line == "last words";
        }
    };
    assert!(tokio::time::timeout(PATIENCE, reading).await.is_ok(), "a long line: {long}; last words: {last}");
    bridge.kill().await.unwrap();
}

/// The bundled server, with calls of several clients under way at once.
#[tokio::test(flavor = "multi_thread")]
async fn clients_that_share_a_server_and_a_progress_token_hear_of_their_own_calls_alone() {
    for era in ["legacy", "modern"] {
        let flags = ["--session-mode", "shared", "--era", era];
        let bridge = Bridged::before(&flags, &[env!("CARGO_BIN_EXE_mcp-echo"), "--stdio"]).await;
        let client = http_client().build().unwrap();
        let mut calls = tokio::task::JoinSet::new();
        for steps in 2..10_u64 {
            let (client, url) = (client.clone(), bridge.url.clone());
            // The second token is a string, and so another one than the number.
            let token = if steps % 2 == 0 { json!(7) } else { json!("7") };
            let params = json!({"name": "slow_echo", "_meta": {"progressToken": token},
                "arguments": {"message": format!("of {steps}"), "steps": steps, "step_ms": 30}});
            calls.spawn(async move {
                let session = Session::open(&client, &url).await;
                (steps, token, session.call("tools/call", params).await)
            });
        }
        for (steps, token, answer) in calls.join_all().await {
            assert_eq!(answer.result()["content"][0]["text"], format!("of {steps}"), "{era}");
            let (last, news) = answer.messages.split_last().unwrap();
            assert_eq!(last["id"], 1);
            let told: Vec<_> =
                news.iter().map(|news| (&news["params"]["progressToken"], news["params"]["progress"].as_f64())).collect();
            let expected: Vec<_> = (1..=u32::try_from(steps).unwrap()).map(|step| (&token, Some(f64::from(step)))).collect();
            assert_eq!(told, expected, "{era}, {steps} steps");
            assert!(
                news.iter().all(|news| news["params"]["total"].as_f64() == u32::try_from(steps).ok().map(f64::from)),
                "{answer:?}"
            );
        }
        assert_eq!(bridge.servers().len(), 1, "{era}: all of them have one server");
        bridge.finish().await;
    }
}
