//! Editors and other applications with windows.

use super::super::form::Fixed::{EntryName, Text};
use super::super::form::{Approve, Bearer, Client, Handed, Remote, Stdio, Variable};
use super::super::format::{Format, Section};
use super::super::place::{Place, Places};
use super::COMMON;

/// Editors and other applications with windows, in the order in which they are listed.
pub const EDITORS: &[Client] = &[
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
        name: "devin",
        title: "Devin Desktop",
        places: Places {
            linux: &[Place::home(".config/devin/mcp_config.json")],
            macos: &[Place::home(".config/devin/mcp_config.json")],
            windows: &[Place::application("devin/mcp_config.json")],
        },
        programs: &["devin-desktop", "devin"],
        trace: Some(Place::home(".config/devin")),
        remote: Some(Remote { lead: &[], url: "url", tail: &[("transport", Text("http"))] }),
        reference: Variable::Around("${env:", "}"),
        sources: &[
            "https://docs.devin.ai/desktop/cascade/mcp",
            "https://docs.devin.ai/cli/extensibility/mcp/configuration",
            "https://vaadin.com/docs/latest/building-apps/agentic-development/mcp/supported-tools/devin-desktop",
        ],
        ..COMMON
    },
    Client {
        // Since June 2026 it is Devin Desktop, which has a file of its own.
        name: "windsurf",
        title: "Windsurf (before Devin Desktop)",
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
        section: Section::map("context_servers"),
        // Headers are sent as they are written.
        sources: &[
            "https://zed.dev/docs/ai/mcp",
            "https://zed.dev/docs/configuring-zed",
            "https://github.com/zed-industries/zed/issues/60459",
        ],
        ..COMMON
    },
    Client {
        name: "cline",
        title: "Cline",
        places: Places::everywhere(&[Place::home(".cline/data/settings/cline_mcp_settings.json")]),
        variables: &[
            ("CLINE_MCP_SETTINGS_PATH", ""),
            ("CLINE_DATA_DIR", "settings/cline_mcp_settings.json"),
            ("CLINE_DIR", "data/settings/cline_mcp_settings.json"),
        ],
        programs: &["cline"],
        trace: Some(Place::home(".cline")),
        remote: Some(Remote { lead: &[("type", Text("streamableHttp"))], url: "url", tail: &[] }),
        reference: Variable::Around("${env:", "}"),
        approve: Approve::WhenAsked("autoApprove"),
        sources: &[
            "https://docs.cline.bot/mcp/mcp-overview",
            "https://github.com/cline/cline/blob/main/apps/vscode/src/core/storage/disk.ts",
            "https://github.com/cline/cline/blob/main/apps/vscode/src/utils/envExpansion.ts",
            "https://github.com/cline/cline/blob/main/apps/vscode/src/hosts/vscode/mcp-settings-legacy-migration.ts",
        ],
        unknown: "nothing; but the command line, which reads the same file, fills in no references and needs '--key literal'",
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
        variables: &[("CONTINUE_GLOBAL_DIR", "config.yaml")],
        programs: &["cn"],
        trace: Some(Place::home(".continue")),
        format: Format::Yaml,
        section: Section::list("mcpServers", "name"),
        // Without these three, Continue does not take the file.
        starter: "name: Local Config\nversion: 1.0.0\nschema: v1\n",
        remote: Some(Remote { lead: &[("name", EntryName), ("type", Text("streamable-http"))], url: "url", tail: &[] }),
        stdio: Stdio { lead: &[("name", EntryName), ("type", Text("stdio"))], ..COMMON.stdio },
        bearer: Bearer::Token("apiKey"),
        reference: Variable::Around("${{ secrets.", " }}"),
        sources: &[
            "https://docs.continue.dev/customize/deep-dives/mcp",
            "https://github.com/continuedev/continue/blob/main/packages/config-yaml/src/schemas/mcp/index.ts",
            "https://github.com/continuedev/continue/blob/main/README.md",
        ],
        unknown: "nothing; but it is discontinued since June 2026",
        ..COMMON
    },
    Client {
        name: "lm-studio",
        title: "LM Studio",
        places: Places::everywhere(&[Place::home(".lmstudio/mcp.json")]),
        programs: &["lms"],
        trace: Some(Place::home(".lmstudio")),
        // Headers are sent as they are written.
        sources: &["https://lmstudio.ai/docs/app/mcp", "https://github.com/lmstudio-ai/lms/issues/389"],
        ..COMMON
    },
    Client {
        name: "trae",
        title: "Trae",
        places: Places::everywhere(&[Place::application("Trae/User/mcp.json")]),
        programs: &["trae"],
        trace: Some(Place::application("Trae")),
        ..TRAE
    },
    Client {
        name: "trae-cn",
        title: "Trae CN",
        places: Places::everywhere(&[Place::application("Trae CN/User/mcp.json")]),
        programs: &["trae-cn"],
        trace: Some(Place::application("Trae CN")),
        ..TRAE
    },
    Client {
        name: "kiro",
        title: "Kiro",
        places: Places::everywhere(&[Place::home(".kiro/settings/mcp.json")]),
        programs: &["kiro", "kiro-cli"],
        trace: Some(Place::home(".kiro")),
        // One file, and a way of its own in the editor (`${NAME}`, for approved variables) and in the command line before
        // its version 3 (`${env:NAME}`): what one fills in, the other would send as it is written.
        reference: Variable::Unknown,
        approve: Approve::WhenAsked("autoApprove"),
        sources: &["https://kiro.dev/docs/mcp/configuration/", "https://kiro.dev/docs/cli/mcp/configuration/"],
        ..COMMON
    },
    Client {
        name: "antigravity",
        title: "Antigravity",
        // Since its version 2 the editor and the command line read the first alone; the second is what the editor had before.
        places: Places::everywhere(&[
            Place::home(".gemini/config/mcp_config.json").with_folder(),
            Place::home(".gemini/antigravity/mcp_config.json"),
        ]),
        programs: &["antigravity", "agy"],
        trace: Some(Place::home(".gemini/antigravity")),
        remote: Some(Remote { lead: &[], url: "serverUrl", tail: &[] }),
        // Headers are sent as they are written.
        sources: &["https://antigravity.google/docs/mcp"],
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
        stdio: Stdio { key: Handed::Unknown, ..COMMON.stdio },
        reference: Variable::Around("${", "}"),
        sources: &["https://docs.qoder.com/user-guide/chat/model-context-protocol", "https://docs.qoder.com/qoderwork/mcp"],
        unknown: "the file of the editor, which its documents open from its settings and do not name (the second place is \
                  what other tools write), the command line's is the first; whether variables of programs may refer to \
                  those of the environment",
        ..COMMON
    },
];

const TRAE: Client = Client {
    sources: &["https://docs.trae.ai/ide/model-context-protocol"],
    unknown: "its documents add servers in its settings and name no file (this one is what other tools write); whether \
              headers may refer to environment variables",
    ..COMMON
};

const VS_CODE: Client = Client {
    section: Section::map("servers"),
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
