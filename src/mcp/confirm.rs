//! Asking the client's user before a tool does something: by elicitation in a session, by asking for input in the
//! revision that has no sessions. There an answer counts only with the state that came with the question, which is signed:
//! without it, whoever calls could answer what nobody was asked, or take the answer to one call for another.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, ElicitRequest, ElicitRequestParams, ElicitResult, ElicitationAction, ElicitationSchema, ErrorCode,
    InputRequest, InputRequiredResult, ProtocolVersion, RequestStateCodec, SealOptions,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Kind, Result};
use crate::tools::Tool;

/// Key of the one question.
const KEY: &str = "confirm";

/// How long a user may think about it.
const PATIENCE: Duration = Duration::from_mins(10);

/// Signs what belongs to questions.
#[derive(Clone)]
pub(super) struct Signer(Arc<RequestStateCodec>);

impl Signer {
    /// A signer with a key of any length; managers that share it take each other's.
    pub(super) fn new(key: &[u8]) -> Self {
        // Sessions have this key, too; the library marks what it signs.
        Self(Arc::new(RequestStateCodec::new_unchecked(Sha256::digest(key).to_vec())))
    }

    fn state(&self, call: &[u8]) -> String {
        self.0.seal_with(&[], &SealOptions::new().associated_data(call).ttl(PATIENCE))
    }

    fn is_of(&self, state: &str, call: &[u8]) -> bool {
        self.0.open_with(state, call).is_ok()
    }
}

/// What came of asking.
pub(super) enum Confirmation {
    /// The user has confirmed.
    Given,
    /// A question that the client must put to the user and come back with.
    Ask(InputRequiredResult),
    /// The client cannot ask its user, which revision 2026-07-28 wants to be an error of the protocol.
    CannotAsk(ErrorData),
}

/// Asks the user where that can be done here; an error when the user declined or cannot be asked.
pub(super) async fn confirmed(
    tool: &Tool,
    request: &CallToolRequestParams,
    caller: Option<&str>,
    signer: &Signer,
    context: &RequestContext<RoleServer>,
) -> Result<Confirmation> {
    let is_new = context.protocol_version().is_some_and(|version| version >= ProtocolVersion::V_2026_07_28);
    let elicitation = context.client_capabilities().and_then(|capabilities| capabilities.elicitation);
    // A client that names no mode means forms, as there was nothing else once.
    if !elicitation.is_some_and(|modes| modes.form.is_some() || modes.url.is_none()) {
        let detail = format!("{} must be confirmed, and this client cannot ask its user", tool.name);
        let error = Error::new(Kind::NotSupported, detail)
            .remedy("use a client with elicitation, the command line, or change the setting mcp.confirm");
        if !is_new {
            return Err(error);
        }
        let needed = json!({"requiredCapabilities": {"elicitation": {"form": {}}}});
        let code = ErrorCode::MISSING_REQUIRED_CLIENT_CAPABILITY;
        return Ok(Confirmation::CannotAsk(ErrorData::new(code, error.to_string(), Some(needed))));
    }
    // Members of objects are in order here, so that the same call is the same text.
    let call = json!([tool.name, request.arguments, caller]).to_string().into_bytes();
    let answered = request.request_state.as_deref().is_some_and(|state| is_new && signer.is_of(state, &call));
    let answer = request.input_responses.as_ref().and_then(|responses| responses.get(KEY)).filter(|_| answered);
    if let Some(answer) = answer {
        let answer = serde_json::from_value(answer.clone());
        let answer =
            answer.map_err(|_| Error::invalid_field(KEY, "is not the result of an elicitation", "answer the question"))?;
        return judge(tool, &answer).map(|()| Confirmation::Given);
    }
    let question = ElicitRequestParams::FormElicitationParams {
        meta: None,
        message: message(tool, request.arguments.as_ref()),
        requested_schema: schema()?,
    };
    if is_new {
        let question = InputRequest::Elicitation(ElicitRequest::new(question));
        let questions = BTreeMap::from([(KEY.to_owned(), question)]);
        return Ok(Confirmation::Ask(InputRequiredResult::new(Some(questions), Some(signer.state(&call)))));
    }
    let answer = tokio::select! {
        answer = context.peer.create_elicitation(question) => answer,
        () = context.ct.cancelled() => return Err(Error::called_off("the request was cancelled by its caller")),
    };
    let unasked = |error| {
        Error::new(Kind::NotSupported, format!("{} must be confirmed, and the client did not ask its user: {error}", tool.name))
            .remedy("use a client with elicitation, the command line, or change the setting mcp.confirm")
    };
    judge(tool, &answer.map_err(unasked)?).map(|()| Confirmation::Given)
}

fn judge(tool: &Tool, answer: &ElicitResult) -> Result<()> {
    let said = answer.content.as_ref().and_then(|content| content.get(KEY)).and_then(Value::as_bool);
    if answer.action == ElicitationAction::Accept && said == Some(true) {
        return Ok(());
    }
    Err(Error::new(Kind::Cancelled, format!("{} was not confirmed by the user; nothing was done", tool.name)))
}

fn schema() -> Result<ElicitationSchema> {
    let schema = json!({
        "type": "object",
        "properties": {KEY: {"type": "boolean", "title": "Do it", "description": "Whether it is to be done."}},
        "required": [KEY],
    });
    serde_json::from_value(schema).map_err(|error| Error::internal("the question cannot be written", error))
}

/// What will be done. Values inside of objects and lists are left out: there may be secrets among them.
fn message(tool: &Tool, arguments: Option<&Map<String, Value>>) -> String {
    let arguments = arguments.into_iter().flatten().map(|(name, value)| match value {
        Value::Object(_) | Value::Array(_) => format!("{name} …"),
        plain => format!("{name} {plain}"),
    });
    let arguments: Vec<String> = arguments.collect();
    format!("{} ({}): {} {}", tool.title, arguments.join(", "), tool.description, "Do it?")
}
