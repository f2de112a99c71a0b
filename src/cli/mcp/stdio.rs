//! `mcp-manager mcp`: the tools of a running manager over standard input and output.
//!
//! It asks the manager over its API, call by call, and runs nothing itself: so there is one manager with one view, one
//! audit and one set of keys, however many clients start this program; and a manager that is restarted, or not up yet,
//! costs one call and not the client's connection.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Map, Value};

use crate::cli::client::{Client, error_of};
use crate::cli::exit::{Outcome, Trouble};
use crate::cli::sse::{self, Event};
use crate::domain::access::Actor;
use crate::domain::status::Progress;
use crate::error::{Error, Kind, Result};
use crate::mcp::{self, Host, Request};
use crate::problem::Problem;
use crate::tools::{self, Policy, Tool};

/// Serves until the client closes standard input.
pub async fn serve(client: &Client) -> Outcome {
    Ok(mcp::serve_stdio(Arc::new(Remote { client: client.clone() })).await?)
}

/// A manager that is asked over its API.
struct Remote {
    client: Client,
}

impl Remote {
    async fn listed(&self) -> Result<Vec<Value>> {
        let mut answer: Value = self.client.get("/tools", &Vec::new()).await.map_err(told)?;
        match answer["tools"].take() {
            Value::Array(tools) => Ok(tools),
            _ => Ok(Vec::new()),
        }
    }

    async fn ask(&self, name: &str, arguments: &Map<String, Value>, report: impl Fn(Progress)) -> Result<Value> {
        let response = self.client.send_for_events(&format!("/tools/{name}"), arguments).await.map_err(told)?;
        let mut result = None;
        let handle = |event: Event| {
            match event.name.as_str() {
                "progress" => {
                    if let Ok(progress) = serde_json::from_str(&event.data) {
                        report(progress);
                    }
                }
                "result" => result = serde_json::from_str(&event.data).ok().map(Ok),
                "problem" => result = serde_json::from_str::<Problem>(&event.data).ok().map(|problem| Err(error_of(problem))),
                _ => {}
            }
            Ok(())
        };
        sse::follow(&self.client, response, handle).await.map_err(told)?;
        result.unwrap_or_else(|| {
            Err(Error::new(Kind::BackendUnavailable, "the manager ended before it answered")
                .remedy("see whether it still runs; what was asked for may have been done"))
        })
    }
}

#[async_trait]
impl Host for Remote {
    /// Without a manager the tools are those of this program, so that a client that asks once, at its start, finds them.
    async fn tools(&self, _: Option<&Actor>) -> Vec<Value> {
        self.listed().await.unwrap_or_else(|_| tools::described(&Policy::default(), None))
    }

    async fn must_confirm(&self, tool: &Tool) -> Result<bool> {
        if tool.effect.reads_only() {
            return Ok(false);
        }
        let listed = self.listed().await?;
        let described = listed.iter().find(|described| described["name"] == tool.name);
        Ok(described.is_some_and(|described| described["_meta"]["io.mcp-manager/confirm"] == true))
    }

    async fn call(&self, request: Request) -> Result<Value> {
        // The name becomes part of a path, so only known ones are asked for.
        if tools::find(&request.name).is_none() && tools::compat::alias_of(&request.name).is_none() {
            return Err(tools::unknown(&request.name, true));
        }
        let report = |progress| {
            if let Some(told) = &request.progress {
                told(progress);
            }
        };
        tokio::select! {
            answer = self.ask(&request.name, &request.arguments, report) => answer,
            // Leaving the stream cancels the call in the manager.
            () = request.cancelled.cancelled() => Err(Error::new(Kind::Cancelled, "the request was cancelled by its caller")),
        }
    }

    fn is_stopping(&self) -> bool {
        false
    }
}

/// The error in a command's trouble.
fn told(trouble: Trouble) -> Error {
    match trouble {
        Trouble::Error(_, error) => *error,
        Trouble::Said(_) | Trouble::BrokenPipe => Error::new(Kind::Cancelled, "the output was closed"),
    }
}
