//! The MCP side: tools, a resource, a prompt, served over Streamable HTTP to clients of both protocol eras. Clients
//! of revision 2026-07-28 get stateless calls; older ones get a session with their `initialize`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use rmcp::handler::server::router::prompt::PromptRouter;
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{
    CallToolResult, ContentBlock, Implementation, ListResourceTemplatesResult, ListResourcesResult, PaginatedRequestParams,
    ProgressNotificationParam, Prompt, PromptMessage, ProtocolVersion, ReadResourceRequestParams, ReadResourceResponse,
    ReadResourceResult, RequestMetaObject, Resource, ResourceContents, ResourceTemplate, Role, ServerCapabilities, ServerConfig,
    Tool,
};
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{
    ErrorData, Peer, RoleServer, ServerHandler, ServiceExt as _, prompt, prompt_handler, prompt_router, tool, tool_handler,
    tool_router,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::state::Echo;

const INFO_URI: &str = "echo://info";
const MESSAGE_PREFIX: &str = "echo://message/";

/// The service for `/mcp`. Host names are checked in `hosts`, which knows patterns; the library's own list does not.
/// A stateless call that reports nothing on its way is answered with plain JSON, which costs less than a stream.
pub fn service(echo: &Arc<Echo>) -> StreamableHttpService<EchoServer, LocalSessionManager> {
    let config = StreamableHttpServerConfig::default()
        .with_cancellation_token(echo.stopping.child_token())
        .with_max_request_body_bytes(echo.settings.max_body_bytes)
        .with_legacy_session_mode(echo.settings.sessions)
        .with_json_response(true)
        .disable_allowed_hosts();
    let server = EchoServer::new(Arc::clone(echo));
    StreamableHttpService::new(move || Ok(server.clone()), Arc::default(), config)
}

/// Serves one client on standard input and output until it closes them.
pub async fn serve_stdio(echo: &Arc<Echo>) -> anyhow::Result<()> {
    let running = EchoServer::new(Arc::clone(echo)).serve(rmcp::transport::stdio()).await?;
    running.waiting().await?;
    Ok(())
}

/// Answer of `GET /mcp/capabilities`: what an MCP client would find, for people and tools that do not speak MCP.
#[derive(Serialize)]
pub struct Description {
    name: String,
    version: &'static str,
    endpoint: &'static str,
    transport: &'static str,
    protocol_versions: &'static [ProtocolVersion],
    capabilities: ServerCapabilities,
    tools: Vec<Tool>,
    resources: Vec<Resource>,
    prompts: Vec<Prompt>,
}

/// Handler of `GET /mcp/capabilities`.
pub async fn capabilities(State(echo): State<Arc<Echo>>) -> Json<Description> {
    Json(Description {
        name: echo.settings.service_name.clone(),
        version: env!("CARGO_PKG_VERSION"),
        endpoint: "/mcp",
        transport: "streamable-http",
        protocol_versions: ProtocolVersion::KNOWN_VERSIONS,
        capabilities: server_capabilities(),
        tools: EchoServer::tool_router().list_all(),
        resources: vec![info_resource()],
        prompts: EchoServer::prompt_router().list_all(),
    })
}

fn server_capabilities() -> ServerCapabilities {
    ServerCapabilities::builder().enable_tools().enable_resources().enable_prompts().build()
}

fn info_resource() -> Resource {
    Resource::new(INFO_URI, "info")
        .with_description("What this echo service is: name, version, host, uptime, requests")
        .with_mime_type("application/json")
}

/// One handler; clones share the routers and the service behind them.
#[derive(Clone)]
pub struct EchoServer {
    echo: Arc<Echo>,
    tool_router: ToolRouter<Self>,
    prompt_router: PromptRouter<Self>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct EchoArguments {
    /// Text to give back
    message: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct AddArguments {
    /// First number
    a: f64,
    /// Second number
    b: f64,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct SlowEchoArguments {
    /// Text to give back
    message: String,
    /// How many steps to take, each reported as progress
    #[serde(default = "default_steps")]
    #[schemars(range(min = 1, max = 100))]
    steps: u32,
    /// Length of a step in milliseconds
    #[serde(default = "default_step_ms")]
    #[schemars(range(max = 10_000))]
    step_ms: u64,
}

fn default_steps() -> u32 {
    5
}

fn default_step_ms() -> u64 {
    200
}

#[tool_router]
impl EchoServer {
    fn new(echo: Arc<Echo>) -> Self {
        Self { echo, tool_router: Self::tool_router(), prompt_router: Self::prompt_router() }
    }

    #[tool(
        description = "Give the message back",
        annotations(title = "Echo", read_only_hint = true, idempotent_hint = true, open_world_hint = false)
    )]
    async fn echo(&self, Parameters(arguments): Parameters<EchoArguments>) -> String {
        arguments.message
    }

    #[tool(
        description = "Add two numbers",
        annotations(title = "Add", read_only_hint = true, idempotent_hint = true, open_world_hint = false)
    )]
    async fn add(&self, Parameters(AddArguments { a, b }): Parameters<AddArguments>) -> String {
        (a + b).to_string()
    }

    #[tool(
        description = "Give the message back after some steps, reporting progress after each",
        annotations(title = "Slow echo", read_only_hint = true, idempotent_hint = true, open_world_hint = false)
    )]
    async fn slow_echo(
        &self,
        Parameters(arguments): Parameters<SlowEchoArguments>,
        meta: RequestMetaObject,
        client: Peer<RoleServer>,
    ) -> CallToolResult {
        let SlowEchoArguments { message, steps, step_ms } = arguments;
        if !(1..=100).contains(&steps) || step_ms > 10_000 {
            let text = "steps must be between 1 and 100, and step_ms at most 10000";
            return CallToolResult::error(vec![ContentBlock::text(text)]);
        }
        let token = meta.get_progress_token();
        for step in 1..=steps {
            tokio::time::sleep(Duration::from_millis(step_ms)).await;
            let Some(token) = &token else { continue };
            let progress = ProgressNotificationParam::new(token.clone(), step.into())
                .with_total(steps.into())
                .with_message(format!("step {step} of {steps}"));
            // A client that stopped listening is told nothing more; the answer fails by itself.
            let _ = client.notify_progress(progress).await;
        }
        CallToolResult::success(vec![ContentBlock::text(message)])
    }

    #[tool(
        description = "Tell which instance answers: service name, host, version, uptime, requests",
        annotations(title = "Service information", read_only_hint = true, open_world_hint = false)
    )]
    async fn service_info(&self) -> Result<CallToolResult, ErrorData> {
        Ok(CallToolResult::success(vec![ContentBlock::json(self.echo.info())?]))
    }

    #[tool(
        description = "Fail with the message, as a tool that could not do its work does",
        annotations(title = "Fail", read_only_hint = true, idempotent_hint = true, open_world_hint = false)
    )]
    async fn fail(&self, Parameters(arguments): Parameters<EchoArguments>) -> CallToolResult {
        CallToolResult::error(vec![ContentBlock::text(arguments.message)])
    }
}

#[prompt_router]
impl EchoServer {
    #[prompt(name = "echo", description = "Ask the model to say the message back")]
    async fn echo_prompt(&self, Parameters(arguments): Parameters<EchoArguments>) -> Vec<PromptMessage> {
        let text = format!("Say exactly this and nothing else: {}", arguments.message);
        vec![PromptMessage::new_text(Role::User, text)]
    }
}

#[tool_handler(router = self.tool_router)]
#[prompt_handler(router = self.prompt_router)]
impl ServerHandler for EchoServer {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(server_capabilities())
            .with_server_info(Implementation::new(&self.echo.settings.service_name, env!("CARGO_PKG_VERSION")))
            .with_instructions("Gives back what it is sent. Use it to check that the way to an MCP server works.")
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        Ok(ListResourcesResult::with_all_items(vec![info_resource()]))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let template = ResourceTemplate::new(format!("{MESSAGE_PREFIX}{{message}}"), "message")
            .with_description("The message, given back")
            .with_mime_type("text/plain");
        Ok(ListResourceTemplatesResult::with_all_items(vec![template]))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let contents = if request.uri == INFO_URI {
            let text =
                serde_json::to_string(&self.echo.info()).map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
            ResourceContents::text(text, request.uri).with_mime_type("application/json")
        } else if let Some(message) = request.uri.strip_prefix(MESSAGE_PREFIX) {
            ResourceContents::text(message, &request.uri).with_mime_type("text/plain")
        } else {
            let text = format!("there is no resource '{}'; resources/list tells which there are", request.uri);
            return Err(ErrorData::resource_not_found(text, None));
        };
        Ok(ReadResourceResult::new(vec![contents]).into())
    }
}
