//! `mcp-tools` and `mcp-call`: an MCP client of either protocol era, to try a service from the shell.

use rmcp::model::{CallToolRequestParams, ClientCapabilities, ClientConfig, ErrorData, Implementation, ProtocolVersion};
use rmcp::service::{ClientInitializeError, ClientLifecycleMode, ClientServiceExt as _, RoleClient, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::{StreamableHttpClientTransportConfig, StreamableHttpError};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::to_raw_value;

use super::arguments::{Era, McpCall, McpService};
use super::verbatim::{Raw, Verbatim};
use crate::cli::client::{Client, service_path};
use crate::cli::exit::{Code, Outcome, Trouble};
use crate::cli::output::{Output, Value as Cell};
use crate::domain::mcp_path::mcp_path;
use crate::domain::status::Phase;
use crate::error::{Error, Kind};
use crate::manager::views::ServiceDetail;
use crate::rpc;

type Session = RunningService<RoleClient, ClientConfig>;

/// `mcp-manager mcp-tools`.
pub async fn tools(client: &Client, output: &Output, arguments: &McpService) -> Outcome {
    let Opened { session, url, .. } = open(client, arguments, None).await?;
    let tools = session.list_all_tools().await.map_err(|error| broke_off(&url, &error))?;
    let _ = session.cancel().await;
    if output.json {
        return output.document(&tools);
    }
    if output.quiet {
        return tools.iter().try_for_each(|tool| output.text(&tool.name));
    }
    let row = |tool: &rmcp::model::Tool| {
        let description = tool.description.as_deref().unwrap_or_default();
        let schema = |word: &str| tool.input_schema.get(word);
        let required = schema("required").and_then(Value::as_array).cloned().unwrap_or_default();
        let names = schema("properties").and_then(Value::as_object).into_iter().flatten().map(|(name, _)| {
            let optional = if required.iter().any(|one| one == name) { "" } else { "?" };
            format!("{name}{optional}")
        });
        let arguments: Vec<String> = names.collect();
        let first = description.lines().next().unwrap_or_default();
        [tool.name.to_string(), arguments.join(" "), first.to_owned()].map(Cell::plain).to_vec()
    };
    output.table(&["TOOL", "ARGUMENTS", "DESCRIPTION"], tools.iter().map(row).collect())
}

/// What of a result has to be known to show it.
#[derive(Deserialize)]
struct Shown {
    #[serde(default)]
    content: Vec<Raw>,
    #[serde(rename = "isError")]
    is_error: Option<bool>,
}

/// A piece of a result that is text.
#[derive(Deserialize)]
struct Text {
    text: String,
}

/// `mcp-manager mcp-call`.
pub async fn call(client: &Client, output: &Output, arguments: &McpCall) -> Outcome {
    let given = read_arguments(&arguments.arguments)?;
    // The library takes no arguments but those that its types can hold; what is sent is what was given.
    let known = serde_json::from_str(given.get()).unwrap_or_default();
    let Opened { session, http, url } = open(client, &arguments.service, Some(given)).await?;
    let request = CallToolRequestParams::new(arguments.tool.clone()).with_arguments(known);
    let result = session.call_tool(request).await.map_err(|error| match &error {
        rmcp::ServiceError::McpError(refused) => refused_or_failed(refused),
        _ => broke_off(&url, &error),
    })?;
    let _ = session.cancel().await;
    let result = http.result().map_or_else(|| to_raw_value(&result), Ok);
    let result = result.map_err(|error| Error::internal("the result cannot be written", error))?;
    let strange = |error| Error::new(Kind::BackendUnavailable, format!("the service's result is none of MCP: {error}"));
    let shown: Shown = serde_json::from_str(result.get()).map_err(strange)?;
    if output.json {
        output.document(&result)?;
    } else {
        for content in &shown.content {
            // What is not text is shown as it came.
            match serde_json::from_str(content.get()) {
                Ok(Text { text }) => output.content(&text)?,
                Err(_) => output.document(content)?,
            }
        }
    }
    if shown.is_error == Some(true) { Err(Trouble::Said(Code::Failed)) } else { Ok(()) }
}

/// The error for a call that is answered by one. Some say that the call is wrong, which is its writer's affair; all others
/// that the service, or what leads to it, has failed.
fn refused_or_failed(error: &ErrorData) -> Trouble {
    let (what, code) = (&error.message, error.code.0);
    if [rpc::INVALID_REQUEST, rpc::METHOD_NOT_FOUND, rpc::INVALID_PARAMS].contains(&code) {
        let refused = Error::new(Kind::Invalid, format!("the service refused the call: {what} ({code})"));
        return refused.remedy("'mcp-manager mcp-tools' tells which tools there are").into();
    }
    let failed = Error::new(Kind::BackendUnavailable, format!("the service failed at the call: {what} ({code})"));
    failed.remedy("look at the service's logs").into()
}

fn read_arguments(text: &str) -> Outcome<Raw> {
    let text = if text == "-" { std::io::read_to_string(std::io::stdin())? } else { text.to_owned() };
    let wrong = |message: String| Error::invalid_field("JSON", message, "write e.g. '{\"message\": \"hello\"}'").into();
    match serde_json::from_str::<Raw>(&text) {
        Ok(arguments) if arguments.get().starts_with('{') => Ok(arguments),
        Ok(_) => Err(wrong("is not a JSON object".to_owned())),
        Err(error) => Err(wrong(format!("is not JSON: {error}"))),
    }
}

/// A session with a service.
struct Opened {
    session: Session,
    http: Verbatim,
    url: String,
}

/// Opens a session with a service, in which a tool is called with these arguments.
async fn open(client: &Client, service: &McpService, arguments: Option<Raw>) -> Outcome<Opened> {
    let url = if service.service.contains("://") { service.service.clone() } else { url_of(client, service).await? };
    let http = Verbatim::new(client.of_service(&url).await?, arguments);
    let modes = match service.era {
        // Servers of the old era refuse the question in ways of their own, so the handshake is tried after any refusal.
        Era::Auto => vec![modern(), ClientLifecycleMode::Initialize],
        Era::New => vec![modern()],
        Era::Old => vec![ClientLifecycleMode::Initialize],
    };
    let mut last = None;
    for mode in modes {
        let config = StreamableHttpClientTransportConfig::with_uri(url.as_str());
        let transport = StreamableHttpClientTransport::with_client(http.clone(), config);
        let implementation = Implementation::new("mcp-manager", env!("CARGO_PKG_VERSION"));
        let me = ClientConfig::new(ClientCapabilities::default(), implementation);
        match me.serve_with_lifecycle(transport, mode).await {
            Ok(session) => return Ok(Opened { session, http, url }),
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(|| Error::new(Kind::Internal, "no era was tried"), |error| no_session(&url, &error)).into())
}

/// Why there is no session: the service, or what leads to it, cannot open one now, or what answers is no service of MCP.
fn no_session(url: &str, error: &ClientInitializeError) -> Error {
    let not_now = |why: String| {
        let error = Error::new(Kind::BackendUnavailable, format!("the service at {url} opens no session: {why}"));
        error.remedy("try again later; 'mcp-manager status' and 'mcp-manager logs' say how the service is")
    };
    // Whoever knows neither the question nor its form is of another era; all other errors are of a server that knows both.
    let strange = [rpc::PARSE_ERROR, rpc::INVALID_REQUEST, rpc::METHOD_NOT_FOUND, rpc::INVALID_PARAMS, rpc::UNSUPPORTED_VERSION];
    if let ClientInitializeError::JsonRpcError(says) = error
        && !strange.contains(&says.code.0)
    {
        return not_now(format!("{} ({})", says.message, says.code.0));
    }
    if let ClientInitializeError::TransportError { error, .. } = error
        && let Some(StreamableHttpError::HttpStatus(answer)) = error.error.downcast_ref::<StreamableHttpError<reqwest::Error>>()
    {
        return not_now(format!("it is answered with HTTP {}", answer.status));
    }
    let detail = format!("what answers at {url} does not speak MCP: {error}");
    let remedy = "look at 'mcp-manager logs'; --path names another path, --era another protocol";
    Error::new(Kind::BackendUnavailable, detail).remedy(remedy)
}

fn modern() -> ClientLifecycleMode {
    ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }
}

async fn url_of(client: &Client, service: &McpService) -> Outcome<String> {
    let detail: ServiceDetail = client.get(&service_path(&service.service, "")?, &Vec::new()).await?;
    let name = &detail.summary.name;
    if !matches!(detail.summary.status, Phase::Running | Phase::Degraded) {
        let error = Error::new(Kind::Conflict, format!("'{name}' is {}", detail.summary.status.as_str()));
        return Err(error.remedy(format!("'mcp-manager status {name}' says why; 'mcp-manager start {name}' starts it")).into());
    }
    let no_port =
        || Error::new(Kind::NotSupported, format!("'{name}' has no port, so nobody can talk to it")).remedy("give it one");
    let no_mcp = || {
        let error = Error::new(Kind::NotSupported, format!("'{name}' speaks no MCP: its label 'mcp.path' is 'false'"));
        error.remedy("name a path with --path, or correct the label")
    };
    let path = service.path.as_deref().or_else(|| mcp_path(&detail.summary.labels)).ok_or_else(no_mcp)?;
    let url = detail.summary.url.ok_or_else(no_port)?;
    Ok(format!("{}/{}", url.trim_end_matches('/'), path.trim_start_matches('/')))
}

fn broke_off(url: &str, error: &rmcp::ServiceError) -> Trouble {
    Error::new(Kind::BackendUnavailable, format!("the session with {url} broke off: {error}"))
        .remedy("look at the service's logs")
        .into()
}
