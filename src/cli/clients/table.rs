//! The clients that can be connected: where each keeps its servers, and how it writes one. This is data; a client is an
//! entry of [`CLIENTS`], and nothing else in the program names one.
//!
//! Every fact has its source beside it. What its makers' documents or code do not say is named in `unknown` and not made up.

use super::form::{Approve, Bearer, Client, Fixed, Remote, Stdio, Variable};
use super::format::{Format, Section, Shape};
use super::place::{Place, Places};

use Fixed::{EntryName, Everything, Number, Text, True};

const MCP_SERVERS: Section = Section { key: "mcpServers", shape: Shape::Map };
const SERVERS: Section = Section { key: "servers", shape: Shape::Map };

/// `{"url": …, "headers": {…}}` under `mcpServers`, the form that most clients took from one another.
const COMMON: Client = Client {
    name: "",
    title: "",
    places: Places::NOWHERE,
    variable: None,
    programs: &[],
    trace: None,
    format: Format::Json,
    section: MCP_SERVERS,
    starter: "",
    remote: Some(Remote { lead: &[], url: "url", tail: &[] }),
    stdio: Stdio { lead: &[], command: "command", env: "env", joined: false, tail: &[] },
    bearer: Bearer::Header("headers"),
    reference: Variable::Unknown,
    approve: Approve::Never,
    sources: &[],
    unknown: "",
};

const VS_CODE: Client = Client {
    section: SERVERS,
    remote: Some(Remote { lead: &[("type", Text("http"))], url: "url", tail: &[] }),
    stdio: Stdio { lead: &[("type", Text("stdio"))], ..COMMON.stdio },
    reference: Variable::Around("${env:", "}"),
    sources: &[
        "https://code.visualstudio.com/docs/copilot/reference/mcp-configuration",
        "https://code.visualstudio.com/docs/reference/variables-reference",
    ],
    ..COMMON
};

/// The command line's, then the editor's.
const QODER: &[Place] = &[Place::home(".qoder/settings.json"), Place::application("Qoder/SharedClientCache/mcp.json")];

/// All clients, in the order in which they are listed.
pub const CLIENTS: &[Client] = &[
    Client {
        name: "claude-code",
        title: "Claude Code",
        places: Places::everywhere(&[Place::home(".claude.json")]),
        variable: Some(("CLAUDE_CONFIG_DIR", ".claude.json")),
        programs: &["claude"],
        trace: Some(Place::home(".claude")),
        remote: Some(Remote { lead: &[("type", Text("http"))], url: "url", tail: &[] }),
        stdio: Stdio { lead: &[("type", Text("stdio"))], ..COMMON.stdio },
        reference: Variable::Around("${", "}"),
        sources: &["https://code.claude.com/docs/en/mcp"],
        ..COMMON
    },
    Client {
        name: "claude-desktop",
        title: "Claude Desktop",
        places: Places::everywhere(&[Place::application("Claude/claude_desktop_config.json")]),
        trace: Some(Place::application("Claude")),
        // Its file starts programs only. Remote servers are added in its settings, and are called from its makers' machines,
        // which do not reach this one.
        remote: None,
        sources: &[
            "https://modelcontextprotocol.io/docs/develop/connect-local-servers",
            "https://support.claude.com/en/articles/11175166-get-started-with-custom-connectors-using-remote-mcp",
        ],
        unknown: "the place on Linux, where its makers publish no build; community builds use this one",
        ..COMMON
    },
    Client {
        name: "cursor",
        title: "Cursor",
        places: Places::everywhere(&[Place::home(".cursor/mcp.json")]),
        programs: &["cursor"],
        trace: Some(Place::home(".cursor")),
        reference: Variable::Around("${env:", "}"),
        sources: &["https://cursor.com/docs/mcp"],
        ..COMMON
    },
    Client {
        name: "vscode",
        title: "VS Code",
        places: Places::everywhere(&[Place::application("Code/User/mcp.json")]),
        programs: &["code"],
        trace: Some(Place::application("Code/User")),
        ..VS_CODE
    },
    Client {
        name: "vscode-insiders",
        title: "VS Code Insiders",
        places: Places::everywhere(&[Place::application("Code - Insiders/User/mcp.json")]),
        programs: &["code-insiders"],
        trace: Some(Place::application("Code - Insiders/User")),
        ..VS_CODE
    },
    Client {
        name: "vscode-server",
        title: "VS Code Server",
        places: Places::everywhere(&[Place::home(".vscode-server/data/User/mcp.json")]),
        trace: Some(Place::home(".vscode-server")),
        unknown: "its documents open this file by a command and do not name it",
        ..VS_CODE
    },
    Client {
        name: "windsurf",
        title: "Windsurf",
        places: Places::everywhere(&[Place::home(".codeium/windsurf/mcp_config.json")]),
        programs: &["windsurf"],
        trace: Some(Place::home(".codeium/windsurf")),
        remote: Some(Remote { lead: &[], url: "serverUrl", tail: &[] }),
        reference: Variable::Around("${env:", "}"),
        sources: &["https://docs.windsurf.com/windsurf/cascade/mcp"],
        ..COMMON
    },
    Client {
        name: "windsurf-jetbrains",
        title: "Windsurf for JetBrains",
        places: Places::everywhere(&[Place::home(".codeium/mcp_config.json")]),
        trace: Some(Place::home(".codeium")),
        remote: Some(Remote { lead: &[], url: "serverUrl", tail: &[] }),
        reference: Variable::Around("${env:", "}"),
        sources: &["https://docs.windsurf.com/plugins/cascade/mcp"],
        ..COMMON
    },
    Client {
        name: "zed",
        title: "Zed",
        places: Places {
            linux: &[Place::config("zed/settings.json")],
            macos: &[Place::home(".config/zed/settings.json")],
            windows: &[Place::application("Zed/settings.json")],
        },
        programs: &["zed", "zeditor"],
        trace: Some(Place::config("zed")),
        section: Section { key: "context_servers", shape: Shape::Map },
        sources: &["https://zed.dev/docs/ai/mcp", "https://zed.dev/docs/configuring-zed"],
        unknown: "whether headers may refer to environment variables",
        ..COMMON
    },
    Client {
        name: "cline",
        title: "Cline",
        places: Places::everywhere(&[Place::home(".cline/data/settings/cline_mcp_settings.json")]),
        variable: Some(("CLINE_DIR", "data/settings/cline_mcp_settings.json")),
        programs: &["cline"],
        trace: Some(Place::home(".cline")),
        remote: Some(Remote { lead: &[("type", Text("streamableHttp"))], url: "url", tail: &[] }),
        reference: Variable::Around("${env:", "}"),
        approve: Approve::WhenAsked("autoApprove"),
        sources: &[
            "https://docs.cline.bot/mcp/mcp-overview",
            "https://github.com/cline/cline/blob/main/apps/vscode/src/core/storage/disk.ts",
            "https://github.com/cline/cline/blob/main/apps/vscode/src/utils/envExpansion.ts",
        ],
        ..COMMON
    },
    Client {
        name: "roo-code",
        title: "Roo Code",
        places: Places::everywhere(&[Place::application(
            "Code/User/globalStorage/rooveterinaryinc.roo-cline/settings/mcp_settings.json",
        )]),
        trace: Some(Place::application("Code/User/globalStorage/rooveterinaryinc.roo-cline")),
        remote: Some(Remote { lead: &[("type", Text("streamable-http"))], url: "url", tail: &[] }),
        reference: Variable::Around("${env:", "}"),
        approve: Approve::WhenAsked("alwaysAllow"),
        sources: &[
            "https://github.com/RooCodeInc/Roo-Code/blob/main/src/services/mcp/McpHub.ts",
            "https://docs.roocode.com/features/mcp/using-mcp-in-roo",
        ],
        unknown: "nothing; but it is discontinued since May 2026",
        ..COMMON
    },
    Client {
        name: "continue",
        title: "Continue",
        places: Places::everywhere(&[Place::home(".continue/config.yaml")]),
        variable: Some(("CONTINUE_GLOBAL_DIR", "config.yaml")),
        programs: &["cn"],
        trace: Some(Place::home(".continue")),
        format: Format::Yaml,
        section: Section { key: "mcpServers", shape: Shape::List("name") },
        // Without these three, Continue does not take the file.
        starter: "name: Local Config\nversion: 1.0.0\nschema: v1\n",
        remote: Some(Remote { lead: &[("name", EntryName), ("type", Text("streamable-http"))], url: "url", tail: &[] }),
        stdio: Stdio { lead: &[("name", EntryName), ("type", Text("stdio"))], ..COMMON.stdio },
        bearer: Bearer::Token("apiKey"),
        reference: Variable::Around("${{ secrets.", " }}"),
        sources: &[
            "https://docs.continue.dev/customize/deep-dives/mcp",
            "https://github.com/continuedev/continue/blob/main/packages/config-yaml/src/schemas/mcp/index.ts",
        ],
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
        section: Section { key: "extensions", shape: Shape::Map },
        remote: Some(Remote {
            lead: &[("enabled", True), ("type", Text("streamable_http")), ("name", EntryName), ("description", Text(""))],
            url: "uri",
            tail: &[("timeout", Number("300"))],
        }),
        stdio: Stdio {
            lead: &[("enabled", True), ("type", Text("stdio")), ("name", EntryName), ("description", Text(""))],
            command: "cmd",
            env: "envs",
            joined: false,
            tail: &[("timeout", Number("300"))],
        },
        sources: &[
            "https://block.github.io/goose/docs/guides/config-files",
            "https://block.github.io/goose/docs/getting-started/using-extensions",
        ],
        unknown: "whether headers may refer to environment variables",
        ..COMMON
    },
    Client {
        name: "gemini-cli",
        title: "Gemini CLI",
        places: Places::everywhere(&[Place::home(".gemini/settings.json")]),
        variable: Some(("GEMINI_CLI_HOME", ".gemini/settings.json")),
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
        name: "codex",
        title: "Codex",
        places: Places::everywhere(&[Place::home(".codex/config.toml")]),
        variable: Some(("CODEX_HOME", "config.toml")),
        programs: &["codex"],
        trace: Some(Place::home(".codex")),
        format: Format::Toml,
        section: Section { key: "mcp_servers", shape: Shape::Map },
        bearer: Bearer::Header("http_headers"),
        reference: Variable::NamedIn("bearer_token_env_var"),
        sources: &["https://developers.openai.com/codex/mcp", "https://developers.openai.com/codex/config-reference"],
        ..COMMON
    },
    Client {
        name: "copilot-cli",
        title: "GitHub Copilot CLI",
        places: Places::everywhere(&[Place::home(".copilot/mcp-config.json")]),
        variable: Some(("COPILOT_HOME", "mcp-config.json")),
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
        name: "opencode",
        title: "OpenCode",
        places: Places::everywhere(&[Place::config("opencode/opencode.json"), Place::config("opencode/opencode.jsonc")]),
        variable: Some(("OPENCODE_CONFIG", "")),
        programs: &["opencode"],
        trace: Some(Place::config("opencode")),
        section: Section { key: "mcp", shape: Shape::Map },
        remote: Some(Remote { lead: &[("type", Text("remote"))], url: "url", tail: &[("enabled", True)] }),
        stdio: Stdio {
            lead: &[("type", Text("local"))],
            command: "command",
            env: "environment",
            joined: true,
            tail: &[("enabled", True)],
        },
        reference: Variable::Around("{env:", "}"),
        sources: &["https://opencode.ai/docs/mcp-servers/", "https://opencode.ai/docs/config/"],
        ..COMMON
    },
    Client {
        name: "lm-studio",
        title: "LM Studio",
        places: Places::everywhere(&[Place::home(".lmstudio/mcp.json")]),
        programs: &["lms"],
        trace: Some(Place::home(".lmstudio")),
        sources: &["https://lmstudio.ai/docs/app/mcp"],
        unknown: "whether headers may refer to environment variables",
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
        programs: &["amp"],
        trace: Some(Place::config("amp")),
        section: Section { key: "amp.mcpServers", shape: Shape::Map },
        reference: Variable::Around("${", "}"),
        sources: &["https://ampcode.com/manual#mcp", "https://ampcode.com/manual#configuration"],
        ..COMMON
    },
    Client {
        name: "trae",
        title: "Trae",
        places: Places::everywhere(&[Place::application("Trae/User/mcp.json")]),
        programs: &["trae"],
        trace: Some(Place::application("Trae")),
        sources: &["https://docs.trae.ai/ide/model-context-protocol"],
        unknown: "its documents add servers in its settings and name no file (this one is what other tools write); whether \
                  headers may refer to environment variables",
        ..COMMON
    },
    Client {
        name: "kiro",
        title: "Kiro",
        places: Places::everywhere(&[Place::home(".kiro/settings/mcp.json")]),
        programs: &["kiro", "kiro-cli"],
        trace: Some(Place::home(".kiro")),
        reference: Variable::Around("${", "}"),
        approve: Approve::WhenAsked("autoApprove"),
        sources: &["https://kiro.dev/docs/mcp/configuration/", "https://kiro.dev/docs/cli/mcp/configuration/"],
        ..COMMON
    },
    Client {
        name: "antigravity",
        title: "Antigravity",
        // Since its version 2 the editor and the command line share the first; the second is what the editor had before.
        places: Places::everywhere(&[
            Place::home(".gemini/config/mcp_config.json"),
            Place::home(".gemini/antigravity/mcp_config.json"),
        ]),
        programs: &["antigravity", "agy"],
        trace: Some(Place::home(".gemini/antigravity")),
        remote: Some(Remote { lead: &[], url: "serverUrl", tail: &[] }),
        sources: &["https://antigravity.google/docs/mcp"],
        unknown: "whether headers may refer to environment variables",
        ..COMMON
    },
    Client {
        name: "mistral-vibe",
        title: "Mistral Vibe",
        places: Places::everywhere(&[Place::home(".vibe/config.toml")]),
        variable: Some(("VIBE_HOME", "config.toml")),
        programs: &["vibe"],
        trace: Some(Place::home(".vibe")),
        format: Format::Toml,
        section: Section { key: "mcp_servers", shape: Shape::List("name") },
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
        variable: Some(("KIMI_SHARE_DIR", "mcp.json")),
        programs: &["kimi"],
        trace: Some(Place::home(".kimi")),
        remote: Some(Remote { lead: &[], url: "url", tail: &[("transport", Text("http"))] }),
        sources: &[
            "https://github.com/MoonshotAI/kimi-cli/blob/main/docs/en/customization/mcp.md",
            "https://github.com/MoonshotAI/kimi-cli/blob/main/src/kimi_cli/cli/mcp.py",
        ],
        unknown: "whether headers may refer to environment variables; it is no longer maintained, and its successor's \
                  documents were not found (other tools write ~/.kimi-code/mcp.json)",
        ..COMMON
    },
    Client {
        name: "factory",
        title: "Factory (Droid)",
        places: Places::everywhere(&[Place::home(".factory/mcp.json")]),
        programs: &["droid"],
        trace: Some(Place::home(".factory")),
        remote: Some(Remote { lead: &[("type", Text("http"))], url: "url", tail: &[] }),
        stdio: Stdio { lead: &[("type", Text("stdio"))], ..COMMON.stdio },
        // Seen with droid 0.215: references in headers are filled in.
        reference: Variable::Around("${", "}"),
        sources: &["https://docs.factory.ai/cli/configuration/mcp"],
        ..COMMON
    },
    Client {
        name: "qoder",
        title: "Qoder",
        places: Places::everywhere(QODER),
        programs: &["qodercli", "qoder"],
        trace: Some(Place::application("Qoder")),
        // Seen with qodercli 1.1: its own 'mcp add' writes this, and references in headers are filled in.
        remote: Some(Remote { lead: &[("type", Text("http"))], url: "url", tail: &[] }),
        reference: Variable::Around("${", "}"),
        sources: &["https://docs.qoder.com/user-guide/chat/model-context-protocol", "https://docs.qoder.com/qoderwork/mcp"],
        unknown: "the file of the editor, which its documents open from its settings and do not name (the second place is \
                  what other tools write); the command line's is the first",
        ..COMMON
    },
    Client {
        name: "openhands",
        title: "OpenHands",
        places: Places::everywhere(&[Place::home(".openhands/mcp.json")]),
        variable: Some(("OPENHANDS_PERSISTENCE_DIR", "mcp.json")),
        programs: &["openhands"],
        trace: Some(Place::home(".openhands")),
        remote: Some(Remote { lead: &[], url: "url", tail: &[("transport", Text("http"))] }),
        approve: Approve::Always("autoApprove"),
        sources: &[
            "https://github.com/OpenHands/OpenHands-CLI/blob/main/openhands_cli/locations.py",
            "https://github.com/OpenHands/OpenHands-CLI/blob/main/openhands_cli/mcp/mcp_utils.py",
        ],
        unknown: "whether headers may refer to environment variables",
        ..COMMON
    },
];
