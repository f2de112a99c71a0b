//! Tools that answer by themselves: contents of every kind, progress, logs, changes. The texts are the suite's.
#![expect(deprecated, reason = "logging is deprecated in the newer era and belongs to the older one")]

use std::time::Duration;

use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{
    CallToolResponse, CallToolResult, ContentBlock, LoggingLevel, LoggingMessageNotificationParam, ProgressNotificationParam,
    ResourceContents,
};
use rmcp::service::RequestContext;
use rmcp::{RoleServer, tool, tool_router};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::server::Server;
use crate::state::Change;

/// One red pixel.
pub const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mM4YWQEAALyAS2Sl/RHAAAAAElFTkSuQmCC";
/// A millisecond of silence.
const WAV: &str = "UklGRiwAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQgAAACAgICAgICAgA==";

const STEP: Duration = Duration::from_millis(50);

#[derive(Deserialize, JsonSchema)]
struct EchoArguments {
    /// Text to give back
    message: String,
}

#[derive(Deserialize, JsonSchema)]
struct RepeatArguments {
    /// Text to repeat
    text: String,
    /// How often
    #[schemars(range(max = 20_000_000))]
    times: usize,
}

#[derive(Deserialize, JsonSchema)]
struct WaitArguments {
    /// How long
    milliseconds: u64,
}

#[tool_router(router = content_tools, vis = "pub")]
impl Server {
    #[tool(description = "Give the message back", annotations(read_only_hint = true))]
    fn echo(Parameters(arguments): Parameters<EchoArguments>) -> String {
        arguments.message
    }

    #[tool(description = "Give the text back many times, for answers of any size", annotations(read_only_hint = true))]
    fn repeat(Parameters(RepeatArguments { text, times }): Parameters<RepeatArguments>) -> Result<String, String> {
        match text.len().checked_mul(times) {
            Some(length) if length <= 20_000_000 => Ok(text.repeat(times)),
            _ => Err("the answer may have 20 MB".to_owned()),
        }
    }

    #[tool(description = "Answer after a while, unless the call is cancelled", annotations(read_only_hint = true))]
    async fn wait(&self, Parameters(arguments): Parameters<WaitArguments>, context: RequestContext<RoleServer>) -> String {
        tokio::select! {
            () = context.ct.cancelled() => eprintln!("wait: cancelled"),
            () = tokio::time::sleep(Duration::from_millis(arguments.milliseconds)) => {}
        }
        format!("waited {} ms", arguments.milliseconds)
    }

    #[tool(description = "Answer with text")]
    fn test_simple_text() -> String {
        "This is a simple text response for testing.".to_owned()
    }

    #[tool(description = "Answer with an image")]
    fn test_image_content() -> CallToolResult {
        CallToolResult::success(vec![ContentBlock::image(PNG, "image/png")])
    }

    #[tool(description = "Answer with sound")]
    fn test_audio_content() -> CallToolResult {
        CallToolResult::success(vec![ContentBlock::audio(WAV, "audio/wav")])
    }

    #[tool(description = "Answer with an embedded resource")]
    fn test_embedded_resource() -> CallToolResult {
        let resource = ResourceContents::text("This is an embedded resource content.", "test://embedded-resource");
        CallToolResult::success(vec![ContentBlock::resource(resource.with_mime_type("text/plain"))])
    }

    #[tool(description = "Answer with text, an image and a resource")]
    fn test_multiple_content_types() -> CallToolResult {
        let text = json!({"test": "data", "value": 123}).to_string();
        let resource = ResourceContents::text(text, "test://mixed-content-resource").with_mime_type("application/json");
        CallToolResult::success(vec![
            ContentBlock::text("Multiple content types test:"),
            ContentBlock::image(PNG, "image/png"),
            ContentBlock::resource(resource),
        ])
    }

    #[tool(description = "Fail as a tool does that could not do its work")]
    fn test_error_handling() -> CallToolResult {
        CallToolResult::error(vec![ContentBlock::text("This tool intentionally returns an error for testing")])
    }

    #[tool(description = "Log three lines while working")]
    async fn test_tool_with_logging(&self, context: RequestContext<RoleServer>) -> String {
        self.log(&context, "Tool execution started").await;
        tokio::time::sleep(STEP).await;
        self.log(&context, "Tool processing data").await;
        tokio::time::sleep(STEP).await;
        self.log(&context, "Tool execution completed").await;
        "Tool with logging executed successfully".to_owned()
    }

    #[tool(description = "Log a line, for a client of the newer era if its call asks for logs")]
    async fn test_logging_tool(&self, context: RequestContext<RoleServer>) -> String {
        self.log(&context, "Logging tool called").await;
        "logged".to_owned()
    }

    #[tool(description = "Report progress of 0, 50 and 100 percent where the call asks for it")]
    async fn test_tool_with_progress(&self, context: RequestContext<RoleServer>) -> String {
        for percent in [0.0, 50.0, 100.0] {
            if percent > 0.0 {
                tokio::time::sleep(STEP).await;
            }
            if let Some(token) = context.meta.get_progress_token() {
                let progress = ProgressNotificationParam::new(token, percent).with_total(100.0);
                // Who does not listen any longer is told nothing more.
                let _ = context.peer.notify_progress(progress).await;
            }
        }
        "Tool with progress executed successfully".to_owned()
    }

    #[tool(description = "Add a tool, or take it away again")]
    async fn test_trigger_tool_change(&self) -> String {
        self.state.change(Change::Tools).await;
        "the list of tools is another one".to_owned()
    }

    #[tool(description = "Add a prompt, or take it away again")]
    async fn test_trigger_prompt_change(&self) -> String {
        self.state.change(Change::Prompts).await;
        "the list of prompts is another one".to_owned()
    }

    #[tool(description = "Change the resource test://watched-resource")]
    async fn touch_watched_resource(&self) -> String {
        self.state.change(Change::Watched).await;
        "the resource has new contents".to_owned()
    }
}

impl Server {
    /// Logs at level info: in the newer era if the call asks for that, in the older one unless the session asked for less.
    async fn log(&self, context: &RequestContext<RoleServer>, text: &str) {
        let least = if crate::server::is_stateless(context) { context.meta.log_level() } else { Some(self.log_level()) };
        if least.is_none_or(|least| least as u8 > LoggingLevel::Info as u8) {
            return;
        }
        let message = LoggingMessageNotificationParam::new(LoggingLevel::Info, json!(text)).with_logger("conformance-server");
        let _ = context.peer.notify_logging_message(message).await;
    }
}

/// An answer that is plain text.
pub fn text(text: impl Into<String>) -> CallToolResponse {
    CallToolResult::success(vec![ContentBlock::text(text)]).into()
}
