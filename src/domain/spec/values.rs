//! The small closed sets a spec is made of, with their spellings.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::input::also_spelled;
use crate::domain::shown;

/// How clients talk to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "TransportInput", transform = also_spelled(&["streamable-http", "streamable_http"]))]
pub enum Transport {
    /// HTTP: a plain web service, or MCP over Streamable HTTP.
    #[default]
    #[serde(alias = "streamable-http", alias = "streamable_http")]
    Http,
    /// MCP over standard input and output; the bridge speaks HTTP for it.
    Stdio,
    /// MCP over the old HTTP+SSE transport; the bridge speaks Streamable HTTP for it.
    Sse,
}

/// Whether clients of a stdio server share one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SessionMode {
    /// One process a session.
    #[default]
    PerSession,
    /// One process for all; only for servers that keep nothing per client.
    Shared,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "PullPolicyInput", transform = also_spelled(&["if_not_present", "IfNotPresent"]))]
pub enum PullPolicy {
    /// Each time a service is created or changed.
    Always,
    /// When it is not there yet.
    #[default]
    #[serde(alias = "if_not_present", alias = "IfNotPresent")]
    Missing,
    /// Never: it must be there.
    Never,
}

/// What happens when a service ends by itself. What the user stopped always stays stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RestartPolicy {
    /// Nothing.
    No,
    /// It is started again, with growing pauses.
    Always,
    /// As `Always`: a stop by the user is remembered under either name.
    #[default]
    UnlessStopped,
    /// It is started again when it ended with a status other than 0, so many times at most (without end when absent).
    OnFailure(Option<u32>),
}

impl std::fmt::Display for RestartPolicy {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::No => formatter.write_str("no"),
            Self::Always => formatter.write_str("always"),
            Self::UnlessStopped => formatter.write_str("unless-stopped"),
            Self::OnFailure(None) => formatter.write_str("on-failure"),
            Self::OnFailure(Some(times)) => write!(formatter, "on-failure:{times}"),
        }
    }
}

impl Serialize for RestartPolicy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RestartPolicy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let times = |text: &str| {
            let plain = (1..=6).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_| plain)
        };
        let policy = match text.split_once(':').map_or((text.as_str(), None), |(name, times)| (name, Some(times))) {
            ("no" | "never", None) => Some(Self::No),
            ("always", None) => Some(Self::Always),
            ("unless-stopped" | "unless_stopped", None) => Some(Self::UnlessStopped),
            ("on-failure" | "on_failure", None) => Some(Self::OnFailure(None)),
            ("on-failure" | "on_failure", Some(text)) => times(text).map(|times| Self::OnFailure(Some(times))),
            _ => None,
        };
        policy.ok_or_else(|| {
            D::Error::custom(format!(
                "'{}' is not a restart policy; use no, always, unless-stopped, on-failure or on-failure:TIMES",
                shown(&text)
            ))
        })
    }
}

impl schemars::JsonSchema for RestartPolicy {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RestartPolicy".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string", "pattern": RESTART_PATTERN, "description": RESTART_DESCRIPTION, "examples": ["unless-stopped"]
        })
    }
}

const RESTART_PATTERN: &str = "^(no|never|always|unless[-_]stopped|on[-_]failure(:[0-9]{1,6})?)$";
const RESTART_DESCRIPTION: &str = "What happens when a service ends by itself.";

impl utoipa::ToSchema for RestartPolicy {
    fn name() -> std::borrow::Cow<'static, str> {
        "RestartPolicy".into()
    }
}

impl utoipa::PartialSchema for RestartPolicy {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .pattern(Some(RESTART_PATTERN))
            .description(Some(RESTART_DESCRIPTION))
            .examples([serde_json::json!("unless-stopped")])
            .into()
    }
}

/// Where mounted files come from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MountSource {
    /// An absolute path of the machine that the container engine runs on.
    Host(String),
    /// A named volume of the engine.
    Volume(String),
}

/// One mounted host directory or named volume.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema, utoipa::ToSchema)]
pub struct Mount {
    /// Where the files come from.
    pub source: MountSource,
    /// Absolute path inside the container.
    pub target: String,
    /// The service may not write.
    #[serde(default)]
    pub read_only: bool,
}
