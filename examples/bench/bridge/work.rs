//! Calls of tools, and whether their answers are right.

use std::borrow::Cow;

use anyhow::{Context as _, ensure};
use serde::Deserialize;

/// The size of large answers.
const LARGE: usize = 1_000_000;

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// `echo` with a few bytes.
    Small,
    /// `echo` with a megabyte, which goes both ways.
    LargeEcho,
    /// `repeat`, which answers with a megabyte.
    LargeAnswer,
}

impl Work {
    /// In names of figures.
    pub fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::LargeEcho => "1 MB both ways",
            Self::LargeAnswer => "1 MB answers",
        }
    }

    /// The request with this id, which is part of what must come back.
    pub fn request(self, prefix: &str, id: u64) -> Vec<u8> {
        let (tool, arguments) = match self {
            Self::Small => ("echo", format!(r#"{{"message":"call {id}"}}"#)),
            Self::LargeEcho => ("echo", format!(r#"{{"message":"call {id} {}"}}"#, "x".repeat(LARGE))),
            Self::LargeAnswer => ("repeat", format!(r#"{{"text":"0123456789","times":{}}}"#, LARGE / 10)),
        };
        let params = format!(r#"{{"name":"{prefix}{tool}","arguments":{arguments}}}"#);
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{params}}}"#).into_bytes()
    }

    /// Whether the message is the answer to the request with this id; an error if it answers wrongly.
    pub fn answers(self, message: &[u8], id: u64) -> anyhow::Result<bool> {
        let read: Message = serde_json::from_slice(message).with_context(|| format!("not an answer: {}", start(message)))?;
        if read.id != Some(id) {
            return Ok(false);
        }
        let result = read.result.with_context(|| format!("call {id} failed: {}", start(message)))?;
        let text = result.content.first().map(|content| content.text.as_ref()).unwrap_or_default();
        // One of the servers says "Echo: " first.
        let text = text.strip_prefix("Echo: ").unwrap_or(text);
        let right = match self {
            Self::Small => text.strip_prefix("call ").is_some_and(|rest| rest.parse() == Ok(id)),
            Self::LargeEcho => {
                let padding = text.strip_prefix("call ").and_then(|rest| rest.split_once(' '));
                padding.is_some_and(|(number, padding)| number.parse() == Ok(id) && padding.len() == LARGE)
            }
            Self::LargeAnswer => text.len() == LARGE,
        };
        ensure!(right, "call {id} was answered wrongly: {}", start(message));
        Ok(true)
    }
}

fn start(message: &[u8]) -> String {
    String::from_utf8_lossy(&message[..message.len().min(300)]).into_owned()
}

#[derive(Deserialize)]
struct Message<'a> {
    id: Option<u64>,
    #[serde(borrow)]
    result: Option<CallResult<'a>>,
}

#[derive(Deserialize)]
struct CallResult<'a> {
    #[serde(borrow, default)]
    content: Vec<Content<'a>>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow, default)]
    text: Cow<'a, str>,
}
