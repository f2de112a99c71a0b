//! Programs of the terminal.

use super::super::form::Fixed::{EntryName, Everything, Number, Text, True};
use super::super::form::{Approve, Bearer, Client, Handed, Remote, Stdio, Variable};
use super::super::format::{Format, Section};
use super::super::place::{Place, Places};
use super::COMMON;

/// Programs of the terminal, in the order in which they are listed.
pub const TERMINALS: &[Client] = &[
    Client {
        name: "claude-code",
        title: "Claude Code",
        places: Places::everywhere(&[Place::home(".claude.json")]),
        variables: &[("CLAUDE_CONFIG_DIR", ".claude.json")],
        programs: &["claude"],
        trace: Some(Place::home(".claude")),
        remote: Some(Remote { lead: &[("type", Text("http"))], url: "url", tail: &[] }),
        stdio: Stdio { lead: &[("type", Text("stdio"))], ..COMMON.stdio },
        reference: Variable::Around("${", "}"),
        sources: &["https://code.claude.com/docs/en/mcp"],
        ..COMMON
    },
    Client {
        name: "goose",
        title: "Goose",
        places: Places {
            linux: &[Place::config("goose/config.yaml")],
            macos: &[Place::config("goose/config.yaml")],
            windows: &[Place::application("Block/goose/config/config.yaml")],
        },
        programs: &["goose"],
        trace: Some(Place::config("goose")),
        format: Format::Yaml,
        section: Section::map("extensions"),
        remote: Some(Remote {
            lead: &[("enabled", True), ("type", Text("streamable_http")), ("name", EntryName), ("description", Text(""))],
            url: "uri",
            tail: &[("timeout", Number("300"))],
        }),
        stdio: Stdio {
            lead: &[("enabled", True), ("type", Text("stdio")), ("name", EntryName), ("description", Text(""))],
            command: "cmd",
            env: "envs",
            tail: &[("timeout", Number("300"))],
            ..COMMON.stdio
        },
        reference: Variable::Listed("env_keys", "${", "}"),
        sources: &[
            "https://block.github.io/goose/docs/guides/config-files",
            "https://block.github.io/goose/docs/getting-started/using-extensions",
            "https://github.com/aaif-goose/goose/blob/main/crates/goose/src/agents/extension_manager.rs",
        ],
        ..COMMON
    },
    Client {
        name: "gemini-cli",
        title: "Gemini CLI",
        places: Places::everywhere(&[Place::home(".gemini/settings.json")]),
        variables: &[("GEMINI_CLI_HOME", ".gemini/settings.json")],
        programs: &["gemini"],
        // Newer versions write `url` with `type: http` and call this one deprecated; it is what all versions read.
        remote: Some(Remote { lead: &[], url: "httpUrl", tail: &[] }),
        reference: Variable::Around("${", "}"),
        sources: &[
            "https://github.com/google-gemini/gemini-cli/blob/main/docs/tools/mcp-server.md",
            "https://github.com/google-gemini/gemini-cli/blob/main/docs/reference/configuration.md",
        ],
        ..COMMON
    },
    Client {
        name: "qwen-code",
        title: "Qwen Code",
        places: Places::everywhere(&[Place::home(".qwen/settings.json")]),
        programs: &["qwen"],
        trace: Some(Place::home(".qwen")),
        remote: Some(Remote { lead: &[], url: "httpUrl", tail: &[] }),
        reference: Variable::Around("${", "}"),
        sources: &[
            "https://github.com/QwenLM/qwen-code/blob/main/docs/users/features/mcp.md",
            "https://github.com/QwenLM/qwen-code/blob/main/docs/users/configuration/settings.md",
        ],
        ..COMMON
    },
    Client {
        name: "codex",
        title: "Codex",
        places: Places::everywhere(&[Place::home(".codex/config.toml")]),
        variables: &[("CODEX_HOME", "config.toml")],
        programs: &["codex"],
        trace: Some(Place::home(".codex")),
        format: Format::Toml,
        section: Section::map("mcp_servers"),
        stdio: Stdio { key: Handed::ByName("env_vars"), ..COMMON.stdio },
        bearer: Bearer::Header("http_headers"),
        reference: Variable::NamedIn("bearer_token_env_var"),
        sources: &["https://developers.openai.com/codex/mcp", "https://developers.openai.com/codex/config-reference"],
        ..COMMON
    },
    Client {
        name: "copilot-cli",
        title: "GitHub Copilot CLI",
        places: Places::everywhere(&[Place::home(".copilot/mcp-config.json")]),
        variables: &[("COPILOT_HOME", "mcp-config.json")],
        programs: &["copilot"],
        trace: Some(Place::home(".copilot")),
        remote: Some(Remote { lead: &[("type", Text("http"))], url: "url", tail: &[("tools", Everything)] }),
        stdio: Stdio { lead: &[("type", Text("local"))], tail: &[("tools", Everything)], ..COMMON.stdio },
        reference: Variable::Around("${", "}"),
        sources: &[
            "https://docs.github.com/en/copilot/how-tos/copilot-cli/customize-copilot/add-mcp-servers",
            "https://docs.github.com/en/copilot/reference/copilot-cli-reference/cli-config-dir-reference",
            "https://github.com/github/copilot-cli/blob/main/changelog.md",
        ],
        ..COMMON
    },
    Client {
        // Version 2 reads this form too, so it is what a file without servers gets.
        section: Section::map("mcp").holding(&["servers", "timeout"]),
        newer: Some(&OPENCODE_2),
        remote: Some(Remote { tail: &[("enabled", True)], ..OPENCODE_REMOTE }),
        stdio: Stdio { tail: &[("enabled", True)], ..OPENCODE_2.stdio },
        ..OPENCODE_2
    },
    Client {
        name: "kilo-code",
        title: "Kilo Code",
        places: Places::everywhere(&[Place::config("kilo/kilo.jsonc"), Place::config("kilo/kilo.json")]),
        variables: &[],
        programs: &["kilo"],
        trace: Some(Place::config("kilo")),
        // The first version of what OpenCode has.
        section: Section::map("mcp").holding(&["servers", "timeout"]),
        remote: Some(Remote { tail: &[("enabled", True)], ..OPENCODE_REMOTE }),
        stdio: Stdio { tail: &[("enabled", True)], ..OPENCODE_2.stdio },
        sources: &["https://kilo.ai/docs/automate/mcp/using-in-kilo-code"],
        ..OPENCODE_2
    },
    Client {
        name: "crush",
        title: "Crush",
        places: Places {
            linux: &[Place::config("crush/crush.json")],
            macos: &[Place::config("crush/crush.json")],
            windows: &[Place::home("AppData/Local/crush/crush.json")],
        },
        variables: &[("CRUSH_GLOBAL_CONFIG", "crush.json")],
        programs: &["crush"],
        trace: Some(Place::config("crush")),
        section: Section::map("mcp"),
        remote: Some(Remote { lead: &[("type", Text("http"))], url: "url", tail: &[] }),
        stdio: Stdio { lead: &[("type", Text("stdio"))], ..COMMON.stdio },
        reference: Variable::Around("$", ""),
        sources: &["https://github.com/charmbracelet/crush/blob/main/README.md", "https://docs.firecrawl.dev/quickstarts/crush"],
        ..COMMON
    },
    Client {
        name: "grok-build",
        title: "Grok Build",
        places: Places::everywhere(&[Place::home(".grok/config.toml")]),
        variables: &[("GROK_HOME", "config.toml")],
        programs: &["grok"],
        trace: Some(Place::home(".grok")),
        format: Format::Toml,
        section: Section::map("mcp_servers"),
        reference: Variable::Around("${", "}"),
        sources: &["https://docs.x.ai/build/features/mcp-servers"],
        ..COMMON
    },
    Client {
        name: "amp",
        title: "Amp",
        places: Places {
            linux: &[Place::config("amp/settings.json")],
            macos: &[Place::home(".config/amp/settings.json")],
            windows: &[Place::home(".config/amp/settings.json")],
        },
        variables: &[("AMP_SETTINGS_FILE", "")],
        programs: &["amp"],
        trace: Some(Place::config("amp")),
        section: Section::map("amp.mcpServers"),
        reference: Variable::Around("${", "}"),
        sources: &["https://ampcode.com/manual#mcp", "https://ampcode.com/manual#configuration"],
        ..COMMON
    },
    Client {
        name: "mistral-vibe",
        title: "Mistral Vibe",
        places: Places::everywhere(&[Place::home(".vibe/config.toml")]),
        variables: &[("VIBE_HOME", "config.toml")],
        programs: &["vibe"],
        trace: Some(Place::home(".vibe")),
        format: Format::Toml,
        section: Section::list("mcp_servers", "name"),
        remote: Some(Remote { lead: &[("name", EntryName), ("transport", Text("streamable-http"))], url: "url", tail: &[] }),
        stdio: Stdio { lead: &[("name", EntryName), ("transport", Text("stdio"))], ..COMMON.stdio },
        reference: Variable::NamedIn("api_key_env"),
        sources: &[
            "https://github.com/mistralai/mistral-vibe/blob/main/README.md",
            "https://github.com/mistralai/mistral-vibe/blob/main/vibe/core/config/models.py",
        ],
        ..COMMON
    },
    Client {
        name: "kimi-cli",
        title: "Kimi CLI",
        places: Places::everywhere(&[Place::home(".kimi/mcp.json")]),
        variables: &[("KIMI_SHARE_DIR", "mcp.json")],
        // Its program is called as that of its successor is, and so no sign of it.
        trace: Some(Place::home(".kimi")),
        remote: Some(Remote { lead: &[], url: "url", tail: &[("transport", Text("http"))] }),
        sources: &[
            "https://github.com/MoonshotAI/kimi-cli/blob/main/docs/en/customization/mcp.md",
            "https://github.com/MoonshotAI/kimi-cli/blob/main/src/kimi_cli/cli/mcp.py",
        ],
        unknown: "whether headers may refer to environment variables; it is no longer maintained, its successor is Kimi Code",
        ..COMMON
    },
    Client {
        name: "kimi-code",
        title: "Kimi Code",
        places: Places::everywhere(&[Place::home(".kimi-code/mcp.json")]),
        variables: &[("KIMI_CODE_HOME", "mcp.json")],
        programs: &["kimi"],
        trace: Some(Place::home(".kimi-code")),
        remote: Some(Remote { lead: &[], url: "url", tail: &[("transport", Text("http"))] }),
        stdio: Stdio { key: Handed::Inherited, ..COMMON.stdio },
        reference: Variable::NamedIn("bearerTokenEnvVar"),
        sources: &[
            "https://github.com/MoonshotAI/kimi-code/blob/main/docs/en/customization/mcp.md",
            "https://github.com/MoonshotAI/kimi-code/blob/main/packages/agent-core-v2/src/mcpCore/client-stdio.ts",
        ],
        ..COMMON
    },
    Client {
        name: "factory",
        title: "Factory (Droid)",
        places: Places::everywhere(&[Place::home(".factory/mcp.json")]),
        programs: &["droid"],
        trace: Some(Place::home(".factory")),
        remote: Some(Remote { lead: &[("type", Text("http"))], url: "url", tail: &[] }),
        stdio: Stdio { lead: &[("type", Text("stdio"))], key: Handed::Unknown, ..COMMON.stdio },
        // Seen with droid 0.215: references in headers are filled in.
        reference: Variable::Around("${", "}"),
        sources: &["https://docs.factory.ai/cli/configuration/mcp"],
        unknown: "whether variables of programs may refer to those of the environment",
        ..COMMON
    },
    Client {
        name: "openhands",
        title: "OpenHands",
        places: Places::everywhere(&[Place::home(".openhands/mcp.json")]),
        variables: &[("OPENHANDS_PERSISTENCE_DIR", "mcp.json")],
        programs: &["openhands"],
        trace: Some(Place::home(".openhands")),
        remote: Some(Remote { lead: &[], url: "url", tail: &[("transport", Text("http"))] }),
        // The command line takes the servers and passes over the list.
        approve: Approve::Always("autoApprove"),
        sources: &[
            "https://github.com/OpenHands/OpenHands-CLI/blob/main/openhands_cli/locations.py",
            "https://github.com/OpenHands/OpenHands-CLI/blob/main/openhands_cli/mcp/mcp_utils.py",
        ],
        unknown: "whether headers may refer to environment variables",
        ..COMMON
    },
];

const OPENCODE_REMOTE: Remote = Remote { lead: &[("type", Text("remote"))], url: "url", tail: &[] };

/// Version 2 has a map of its own for servers, and `disabled` in the place of `enabled`.
const OPENCODE_2: Client = Client {
    name: "opencode",
    title: "OpenCode",
    places: Places::everywhere(&[Place::config("opencode/opencode.json"), Place::config("opencode/opencode.jsonc")]),
    variables: &[("OPENCODE_CONFIG", "")],
    programs: &["opencode"],
    trace: Some(Place::config("opencode")),
    section: Section::map("servers").within("mcp"),
    remote: Some(OPENCODE_REMOTE),
    stdio: Stdio { lead: &[("type", Text("local"))], env: "environment", joined: true, ..COMMON.stdio },
    reference: Variable::Around("{env:", "}"),
    sources: &[
        "https://opencode.ai/docs/mcp-servers/",
        "https://opencode.ai/docs/config/",
        "https://github.com/anomalyco/opencode/blob/dev/packages/core/src/config/mcp.ts",
        "https://github.com/anomalyco/opencode/blob/dev/packages/core/src/config/normalize.ts",
    ],
    ..COMMON
};
