//! MCP clients are connected by editing their files: places, copies, refusals.

use std::fs;

use serde_json::{Value, json};

use crate::support::command::User;
use crate::support::product::{Options, Product};

/// A user whose manager does not run; connecting needs none.
fn user() -> User {
    User::of("http://127.0.0.1:9")
}

fn put(user: &User, path: &str, text: &str) {
    let path = user.home.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn text(user: &User, path: &str) -> Option<String> {
    fs::read_to_string(user.home.path().join(path)).ok()
}

#[tokio::test]
async fn every_client_is_connected_in_its_place_listed_and_taken_back_exactly() {
    let user = user();
    let clients = user.document("client list").await;
    let clients: Vec<&Value> = clients.as_array().unwrap().iter().collect();
    assert!(clients.len() >= 34, "{}", clients.len());
    for client in &clients {
        let (name, file) = (client["client"].as_str().unwrap(), client["file"].as_str().unwrap());
        assert!(file.starts_with("~/"), "{client}");
        let connected = user.document(&format!("client connect {name} files notes")).await;
        assert_eq!(
            (&connected["outcome"], &connected["servers"]),
            (&"connected".into(), &json!(["files", "notes"])),
            "{connected}"
        );
        let again = user.document(&format!("client connect {name} files notes")).await;
        assert_eq!(again["outcome"], "unchanged", "{again}");
    }
    // Some clients share a directory, so this is looked at when all are connected.
    let listed = user.document("client list").await;
    for client in listed.as_array().unwrap() {
        assert_eq!(client["connected"], json!(["files", "notes"]), "{client}");
        assert_eq!(client["installed"], true, "its file is a sign of it: {client}");
    }
    for client in &clients {
        user.done(&format!("client disconnect {}", client["client"].as_str().unwrap())).await;
        assert_eq!(text(&user, &client["file"].as_str().unwrap()[2..]), None, "{client}");
    }
}

#[tokio::test]
async fn what_else_stands_in_the_file_survives_and_comes_back_byte_for_byte() {
    let user = user();
    let before = "{\n\t// mine\n\t\"numStartups\": 34,\n\t\"mcpServers\": {\n\t\t\"own\": { \"type\": \"stdio\", \"command\": \"x\" }, // keep\n\t},\n}";
    put(&user, ".claude.json", before);
    user.done("client connect claude-code files").await;
    let after = text(&user, ".claude.json").unwrap();
    for kept in ["// mine", "// keep", "\"numStartups\": 34", "\t\t\"own\": { \"type\": \"stdio\", \"command\": \"x\" },"] {
        assert!(after.contains(kept), "{kept}: {after}");
    }
    assert!(after.contains("\"url\": \"http://127.0.0.1:9/mcp/s/files\""), "{after}");
    assert_eq!(text(&user, ".claude.json.before-mcp-manager").as_deref(), Some(before));
    let shown = user.done("client disconnect claude-code --dry-run --output table").await;
    assert!(shown.contains("-\t\t\"files\": {"), "{shown}");
    assert_eq!(text(&user, ".claude.json"), Some(after), "a dry run writes nothing");
    user.done("client disconnect claude-code").await;
    assert_eq!(text(&user, ".claude.json").as_deref(), Some(before));
    assert_eq!(text(&user, ".claude.json.before-mcp-manager"), None);
}

#[tokio::test]
async fn links_and_permissions_of_the_file_stay() {
    use std::os::unix::fs::PermissionsExt as _;
    let user = user();
    put(&user, "dotfiles/mcp.json", "{}\n");
    fs::set_permissions(user.home.path().join("dotfiles/mcp.json"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::create_dir(user.home.path().join(".cursor")).unwrap();
    std::os::unix::fs::symlink("../dotfiles/mcp.json", user.home.path().join(".cursor/mcp.json")).unwrap();
    user.done("client connect cursor").await;
    assert!(fs::symlink_metadata(user.home.path().join(".cursor/mcp.json")).unwrap().is_symlink());
    let mode = |path: &str| fs::metadata(user.home.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("dotfiles/mcp.json"), 0o640);
    assert!(text(&user, "dotfiles/mcp.json").unwrap().contains("/mcp/all"));
    user.done("client connect kiro").await;
    assert_eq!(mode(".kiro/settings/mcp.json"), 0o600, "a new file is its owner's alone");
}

#[tokio::test]
async fn a_link_to_no_file_is_followed_if_the_folder_of_its_target_is_there() {
    let user = user();
    let link = user.home.path().join(".cursor/mcp.json");
    fs::create_dir(user.home.path().join(".cursor")).unwrap();
    std::os::unix::fs::symlink("../dotfiles/mcp.json", &link).unwrap();
    let ran = user.run("client connect cursor").await;
    assert_eq!(ran.code, 2, "{ran:#?}");
    assert!(ran.stderr.contains("is a link to ../dotfiles/mcp.json, and there is no folder for that"), "{ran:#?}");
    fs::create_dir(user.home.path().join("dotfiles")).unwrap();
    user.done("client connect cursor").await;
    assert!(link.is_symlink() && text(&user, "dotfiles/mcp.json").unwrap().contains("/mcp/all"));
    user.done("client disconnect cursor").await;
    assert!(link.is_symlink() && text(&user, "dotfiles/mcp.json").is_none());
}

#[tokio::test]
async fn a_file_that_its_client_wrote_anew_keeps_nothing_that_connecting_made_and_gets_back_what_it_replaced() {
    let user = user();
    let anew = |path: &str| {
        let value: Value = serde_json::from_str(&text(&user, path).unwrap()).unwrap();
        put(&user, path, &value.to_string());
    };
    user.done("client connect cursor files").await;
    anew(".cursor/mcp.json");
    user.done("client disconnect cursor").await;
    assert_eq!(text(&user, ".cursor/mcp.json"), None, "the file was made for the entry");
    let own = json!({"theme": "dark", "mcpServers": {"files": {"command": "x"}}});
    put(&user, ".cursor/mcp.json", &own.to_string());
    user.done("client connect cursor files --force").await;
    anew(".cursor/mcp.json");
    user.done("client disconnect cursor").await;
    assert_eq!(serde_json::from_str::<Value>(&text(&user, ".cursor/mcp.json").unwrap()).unwrap(), own);
    user.done("client connect cursor files --force").await;
    put(&user, ".cursor/mcp.json", &json!({"mcpServers": {"files": {"url": "https://example.com"}}}).to_string());
    let ran = user.run("client disconnect cursor").await;
    assert!(ran.code == 0 && ran.stderr.contains("'files' in ~/.cursor/mcp.json is not this manager's, so it stays"), "{ran:#?}");
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named_with_its_line_and_left_alone() {
    let user = user();
    put(&user, ".gemini/settings.json", "{\n  \"a\": 1\n  \"b\": 2\n}\n");
    let ran = user.run("client connect gemini-cli").await;
    assert_eq!(ran.code, 2, "{ran:#?}");
    assert!(ran.stderr.contains("settings.json in line 2 is not JSON"), "{ran:#?}");
    assert_eq!(text(&user, ".gemini/settings.json").as_deref(), Some("{\n  \"a\": 1\n  \"b\": 2\n}\n"));
    let ran = user.run("client connect emacs").await;
    assert_eq!(ran.code, 3, "{ran:#?}");
}

#[tokio::test]
async fn the_key_is_written_as_a_reference_unless_it_is_asked_for() {
    let user = user().with("MCP_MANAGER_API_KEY", "mcpm_secret");
    for client in ["cursor", "codex", "opencode", "mistral-vibe", "continue", "gemini-cli"] {
        let written = user.done(&format!("client config {client} --output table")).await;
        assert!(written.contains("MCP_MANAGER_API_KEY") && !written.contains("mcpm_secret"), "{client}: {written}");
    }
    let ran = user.run("client connect lm-studio").await;
    assert_eq!(ran.code, 2, "{ran:#?}");
    assert!(ran.stderr.contains("--key literal") && ran.stderr.contains("--stdio with --api-key-file"), "{ran:#?}");
    let written = user.done("client config lm-studio --key literal --output table").await;
    assert!(written.contains("\"Authorization\": \"Bearer mcpm_secret\""), "{written}");
    let written = user.done("client config lm-studio --key none --output table").await;
    assert!(!written.contains("Authorization"), "{written}");
}

#[tokio::test]
async fn a_program_is_told_where_the_key_is_since_clients_hand_on_few_variables() {
    let user = user().with("MCP_MANAGER_API_KEY", "mcpm_secret");
    for (client, held) in [
        ("claude-code", "\"MCP_MANAGER_API_KEY\": \"${MCP_MANAGER_API_KEY}\""),
        ("codex", "env_vars = [\"MCP_MANAGER_API_KEY\"]"),
        ("goose", "env_keys: [\"MCP_MANAGER_API_KEY\"]"),
    ] {
        let written = user.done(&format!("client config {client} files --stdio --output table")).await;
        assert!(written.contains(held) && !written.contains("mcpm_secret"), "{client}: {written}");
    }
    // This one fills in no references, so that the variable would stay behind.
    let ran = user.run("client connect claude-desktop files").await;
    assert_eq!(ran.code, 2, "{ran:#?}");
    assert!(ran.stderr.contains("--api-key-file") && ran.stderr.contains("--key literal"), "{ran:#?}");
    put(&user, "key", "mcpm_of_a_file\n");
    let file = user.home.path().join("key").display().to_string();
    let written = user.done(&format!("client config claude-desktop files --api-key-file {file} --output table")).await;
    assert!(written.contains("\"--api-key-file\"") && written.contains(&format!("\"{file}\"")), "{written}");
    assert!(!written.contains("mcpm_"), "{written}");
    let written = user.done("client config claude-desktop files --key literal --output table").await;
    assert!(written.contains("\"MCP_MANAGER_API_KEY\": \"mcpm_secret\""), "{written}");
    let written = user.done("client config claude-desktop files --key none --output table").await;
    assert!(!written.contains("KEY") && !written.contains("mcpm_"), "{written}");
}

#[tokio::test]
async fn names_under_which_a_client_keeps_other_things_are_refused() {
    let user = user();
    for name in ["servers", "timeout"] {
        let ran = user.run(&format!("client connect opencode {name}")).await;
        assert_eq!(ran.code, 2, "{ran:#?}");
        assert!(ran.stderr.contains(&format!("cannot be '{name}' for OpenCode")), "{ran:#?}");
    }
    assert_eq!(text(&user, ".config/opencode/opencode.json"), None);
}

#[tokio::test]
async fn a_running_manager_is_asked_whether_the_service_exists() {
    let product = Product::start(Options::memory()).await;
    let user = User::of_product(&product);
    let ran = user.run("client connect cursor nothing").await;
    assert_eq!(ran.code, 3, "{ran:#?}");
    assert_eq!(text(&user, ".cursor/mcp.json"), None);
    user.done("run echo --wait started").await;
    user.done("client connect cursor echo").await;
    let written: Value = serde_json::from_str(&text(&user, ".cursor/mcp.json").unwrap()).unwrap();
    assert_eq!(written["mcpServers"]["echo"]["url"], format!("{}/mcp/s/echo", product.url));
    product.finish().await;
}
