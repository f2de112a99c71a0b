//! Headers that repeat arguments of tools (`Mcp-Param-*`), as the tools' schemas ask for with `x-mcp-header`. A server on
//! stdio sees no headers, so only the bridge can compare them. Leaves out the headers that every request has.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderMap;
use serde_json::Value;

use super::super::Context;
use super::super::common::modern_params;
use super::super::json;
use super::super::link::Link;
use super::super::scan::Message;
use crate::rpc;
use crate::rpc::headers::{Annotated, annotated, argument, decoded};

/// Pages of `tools/list` that are read.
const PAGES: usize = 50;

/// The annotated arguments of every tool that has some.
type Tools = Arc<HashMap<String, Vec<Annotated>>>;

/// The annotated arguments of one server's tools, once they are known.
#[derive(Debug, Default)]
pub struct ToolHeaders {
    known: Mutex<Option<Tools>>,
}

impl ToolHeaders {
    /// Compares the headers of a `tools/call` with its arguments.
    ///
    /// # Errors
    /// Which header does not say what the body says.
    pub async fn check(
        &self,
        context: &Context,
        link: &Link,
        headers: &HeaderMap,
        text: &[u8],
        message: &Message,
    ) -> Result<(), String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let tools = match known {
            Some(tools) => tools,
            None => self.learn(context, link).await,
        };
        let [name, arguments] = message.params(text, ["name", "arguments"]);
        let name = name.and_then(|name| json::string(text, name)).unwrap_or_default();
        let Some(annotated) = tools.get(&*name) else { return Ok(()) };
        let arguments: Value = arguments.and_then(|span| serde_json::from_slice(span.of(text)).ok()).unwrap_or_default();
        for (header, path) in annotated {
            let given = headers.get(header).map(|value| value.to_str().unwrap_or("\u{fffd}").trim());
            compare(header, given, argument(&arguments, path))?;
        }
        Ok(())
    }

    /// Forgets what is known, after the tools have changed.
    pub fn forget(&self) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn learn(&self, context: &Context, link: &Link) -> Tools {
        let mut tools = HashMap::new();
        let mut cursor = None;
        for _ in 0..PAGES {
            let mut params: Value = serde_json::from_slice(&modern_params()).unwrap_or_default();
            if let (Some(cursor), Some(params)) = (cursor.take(), params.as_object_mut()) {
                params.insert("cursor".to_owned(), cursor);
            }
            let request = rpc::request(b"0", "tools/list", params.to_string().as_bytes());
            let Ok((answer, message)) = link.call(request, context.options.start_timeout).await else { break };
            let page: Value =
                message.result.and_then(|result| serde_json::from_slice(result.of(&answer)).ok()).unwrap_or_default();
            for tool in page["tools"].as_array().into_iter().flatten() {
                let annotated = annotated(&tool["inputSchema"]);
                if let (Some(name), false) = (tool["name"].as_str(), annotated.is_empty()) {
                    tools.insert(name.to_owned(), annotated);
                }
            }
            match page.get("nextCursor") {
                Some(next @ Value::String(_)) => cursor = Some(next.clone()),
                _ => break,
            }
        }
        let tools = Arc::new(tools);
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&tools));
        tools
    }
}

fn compare(header: &str, given: Option<&str>, value: Option<&Value>) -> Result<(), String> {
    let given = given.map(|given| decoded(given).ok_or_else(|| format!("{header} is not properly encoded"))).transpose()?;
    match (given, value) {
        (None, None) => Ok(()),
        (None, Some(_)) => Err(format!("the header {header} is missing")),
        (Some(_), None) => Err(format!("{header} is given and the arguments have no such value")),
        (Some(given), Some(value)) => {
            let same = match value {
                Value::String(value) => *value == given,
                Value::Bool(value) => value.to_string() == given,
                Value::Number(value) => given.parse::<f64>().is_ok_and(|given| value.as_f64() == Some(given)),
                _ => false,
            };
            if same { Ok(()) } else { Err(format!("{header} is '{given}' and the body says {value}")) }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_compared_as_what_they_are() {
        for (given, value) in
            [("42.0", json!(42)), ("true", json!(true)), ("=?base64?SGVsbG8=?=", json!("Hello")), ("SGVsbG8=", json!("SGVsbG8="))]
        {
            assert_eq!(compare("h", Some(given), Some(&value)), Ok(()), "{given}");
        }
        for (given, value) in [
            (None, Some(json!("x"))),
            (Some("x"), None),
            (Some("y"), Some(json!("x"))),
            (Some("=?base64?SGVsbG8?="), Some(json!("Hello"))),
        ] {
            assert!(compare("h", given, value.as_ref()).is_err(), "{given:?}");
        }
    }
}
