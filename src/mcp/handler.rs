//! What is asked of the MCP server, in the library's words: which tools there are, and calls of them.

use std::pin::pin;
use std::sync::Arc;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, CustomRequest, CustomResult, ErrorCode,
    Implementation, ListPromptsRequestMethod, ListPromptsResult, ListResourceTemplatesRequestMethod, ListResourceTemplatesResult,
    ListResourcesRequestMethod, ListResourcesResult, ListToolsResult, PaginatedRequestParams, ProgressNotificationParam,
    ServerCapabilities, ServerConfig, Tool as Described,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::confirm::{self, Confirmation, Signer};
use super::{Host, Request, params};
use crate::domain::access::Actor;
use crate::domain::shown;
use crate::error::{Error, Kind, Result};
use crate::manager::OnProgress;
use crate::problem::Problem;
use crate::tools;

const INSTRUCTIONS: &str = "Runs MCP servers and web services as locked-down containers with stable URLs. template_list tells \
    what can be started, container_create starts it and answers with its URL, container_list tells what runs. When \
    something is not as it should be: container_get says why in 'message', container_logs shows its words, and \
    system_diagnostics looks at everything at once. Errors say which field is wrong and what to do about it.";

/// Reports of progress that wait to be sent; further ones are left out, as later ones say more.
const REPORTS: usize = 64;

/// One handler; clones share their host.
#[derive(Clone)]
pub(super) struct Handler {
    host: Arc<dyn Host>,
    signer: Signer,
}

impl Handler {
    pub(super) fn new(host: Arc<dyn Host>, signer: Signer) -> Self {
        Self { host, signer }
    }

    async fn answer(
        &self,
        request: CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<Result<CallToolResponse, ErrorData>> {
        let tool = tools::find(&request.name).or_else(|| tools::compat::alias_of(&request.name)?.tool());
        if let Some(tool) = tool
            && self.host.must_confirm(tool).await?
        {
            let caller = actor(context).map(|actor| actor.name);
            match confirm::confirmed(tool, &request, caller.as_deref(), &self.signer, context).await? {
                Confirmation::Given => {}
                Confirmation::Ask(question) => return Ok(Ok(CallToolResponse::InputRequired(question))),
                Confirmation::CannotAsk(refusal) => return Ok(Err(refusal)),
            }
        }
        let (progress, mut reports) = reports(context);
        let cancelled = CancellationToken::new();
        let call = Request {
            name: request.name.into_owned(),
            actor: actor(context),
            arguments: request.arguments.unwrap_or_default(),
            progress,
            cancelled: cancelled.clone(),
        };
        // Sessions have tasks of their own, which know nothing of the request that a call came with.
        let id = call.actor.as_ref().and_then(|actor| actor.request_id.clone());
        let span = tracing::info_span!("request", request_id = id, tool = call.name.as_str());
        let mut work = pin!(self.host.call(call).instrument(span));
        let mut done = 0.0;
        loop {
            tokio::select! {
                biased;
                Some((mut report, message)) = reports.recv() => {
                    done += 1.0;
                    report.progress = done;
                    // A client that does not listen any more misses nothing but this.
                    let _ = context.peer.notify_progress(report.with_message(message)).await;
                }
                answer = &mut work => return Ok(Ok(CallToolResult::structured(answer?).into())),
                () = context.ct.cancelled(), if !cancelled.is_cancelled() => {
                    // When the process ends, what is under way goes on; the next manager finishes it.
                    if self.host.is_stopping() {
                        return Err(Error::shutting_down());
                    }
                    cancelled.cancel();
                }
            }
        }
    }
}

impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        let implementation = Implementation::new("mcp-manager", env!("CARGO_PKG_VERSION")).with_title("mcp-manager");
        let capabilities = ServerCapabilities::builder().enable_tools().build();
        ServerConfig::new(capabilities).with_server_info(implementation).with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        if request.is_some_and(|request| request.cursor.is_some()) {
            let remedy = "there is one page only: leave the cursor out";
            return Err(misasked(Error::invalid_field("params.cursor", "is none that this server gave", remedy)));
        }
        let described = self.host.tools(actor(&context).as_ref()).await;
        let tools = described.into_iter().map(serde_json::from_value::<Described>).collect::<Result<Vec<_>, _>>();
        let tools = tools.map_err(|error| ErrorData::internal_error(format!("a tool cannot be described: {error}"), None))?;
        Ok(ListToolsResult::with_all_items(tools))
    }

    // The library would answer these with empty lists, which says that there could be some.
    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        Err(ErrorData::method_not_found::<ListPromptsRequestMethod>())
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        Err(ErrorData::method_not_found::<ListResourcesRequestMethod>())
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Err(ErrorData::method_not_found::<ListResourceTemplatesRequestMethod>())
    }

    // What the library could not read as any request that it knows; over HTTP the door has looked before.
    async fn on_custom_request(&self, request: CustomRequest, _: RequestContext<RoleServer>) -> Result<CustomResult, ErrorData> {
        let CustomRequest { method, params, .. } = request;
        if params::are_known(&method) {
            return Err(misasked(params::unreadable(&method, params.as_ref())));
        }
        let text = format!("there is no method '{}' here", shown(&method));
        Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, text, None))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let name = request.name.clone();
        match self.answer(request, &context).await {
            Ok(answer) => answer,
            // That there is no such tool is an error of the protocol; everything else is for the model to read.
            Err(error) if error.kind == Kind::NotFound && error.detail.starts_with("there is no tool ") => Err(misasked(error)),
            Err(error) => Ok(failed(&name, error).into()),
        }
    }
}

/// An error of the protocol: what was asked for is wrong.
fn misasked(error: Error) -> ErrorData {
    ErrorData::invalid_params(error.to_string(), serde_json::to_value(Problem::from(error)).ok())
}

/// A call that failed: the text that people read, and the problem document that programs read.
fn failed(tool: &str, error: Error) -> CallToolResult {
    if error.kind == Kind::Internal {
        // Logged once, here, where it is handled; the caller does not see the cause.
        tracing::error!(tool, detail = error.detail, cause = ?error.source, "a tool failed");
    }
    let error = error.with_some_remedy();
    let mut result = CallToolResult::error(vec![ContentBlock::text(error.to_string())]);
    result.structured_content = serde_json::to_value(Problem::from(error)).ok();
    result
}

/// Who calls, as the door found out.
fn actor(context: &RequestContext<RoleServer>) -> Option<Actor> {
    context.extensions.get::<::http::request::Parts>()?.extensions.get::<Actor>().cloned()
}

type Reports = mpsc::Receiver<(ProgressNotificationParam, String)>;

/// Where progress is told, and where it is taken from to be sent; nowhere when the client does not want to know.
fn reports(context: &RequestContext<RoleServer>) -> (Option<OnProgress>, Reports) {
    let (sender, receiver) = mpsc::channel(REPORTS);
    let progress = context.meta.get_progress_token().map(|token| {
        let report: OnProgress = Arc::new(move |progress| {
            let _ = sender.try_send((ProgressNotificationParam::new(token.clone(), 0.0), progress.message));
        });
        report
    });
    (progress, receiver)
}
