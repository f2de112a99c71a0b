//! Questions to the client (elicitation, sampling, roots) in the way of its era: a client of 2026-07-28 gets its call
//! back unfinished and repeats it with the answers; an older one is asked by requests while its call waits.

use rmcp::model::{
    ClientCapabilities, ElicitRequest, ElicitRequestParams, ElicitationCapability, ElicitationSchema, InputRequest,
    InputRequests, InputRequiredResult, InputResponses, JsonObject, ProtocolVersion, RootsCapabilities, SamplingCapability,
    ServerRequest,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer};
use serde_json::Value;

/// What asking led to.
pub enum Asked {
    /// The client's results, each an object, under the names of the questions.
    Answers(InputResponses),
    /// The call ends here; the client repeats it with the answers.
    Unfinished(InputRequiredResult),
}

/// Asks the questions that the client has not answered with this call.
///
/// # Errors
///
/// The client cannot do what it is asked for, or it answered with an error.
pub async fn ask(
    context: &RequestContext<RoleServer>,
    given: Option<InputResponses>,
    questions: InputRequests,
    state: Option<String>,
) -> Result<Asked, ErrorData> {
    let missing = missing_capabilities(context, &questions);
    if missing != ClientCapabilities::default() {
        return Err(ErrorData::missing_required_client_capability(missing));
    }
    if context.protocol_version() < Some(ProtocolVersion::V_2026_07_28) {
        return by_request(context, questions).await.map(Asked::Answers);
    }
    // Whatever else the client sends along is none of ours; what is no object is no answer.
    let given = given.unwrap_or_default();
    let answers: InputResponses = questions
        .keys()
        .filter_map(|name| Some((name.clone(), given.get(name).filter(|answer| answer.is_object())?.clone())))
        .collect();
    if answers.len() == questions.len() {
        return Ok(Asked::Answers(answers));
    }
    Ok(Asked::Unfinished(InputRequiredResult::new(Some(questions), state)))
}

/// Whether the client of this call declared that it answers such questions.
pub fn can(context: &RequestContext<RoleServer>, question: &InputRequest) -> bool {
    let declared = context.client_capabilities().unwrap_or_default();
    match question {
        InputRequest::Elicitation(_) => declared.elicitation.is_some(),
        InputRequest::CreateMessage(_) => declared.sampling.is_some(),
        InputRequest::ListRoots(_) => declared.roots.is_some(),
        _ => false,
    }
}

fn missing_capabilities(context: &RequestContext<RoleServer>, questions: &InputRequests) -> ClientCapabilities {
    let mut missing = ClientCapabilities::default();
    for question in questions.values().filter(|question| !can(context, question)) {
        match question {
            InputRequest::Elicitation(_) => missing.elicitation = Some(ElicitationCapability::default()),
            InputRequest::CreateMessage(_) => missing.sampling = Some(SamplingCapability::default()),
            _ => missing.roots = Some(RootsCapabilities::default()),
        }
    }
    missing
}

/// All questions are under way at once, as a client of the newer era gets them at once.
async fn by_request(context: &RequestContext<RoleServer>, questions: InputRequests) -> Result<InputResponses, ErrorData> {
    let answers = questions.into_iter().map(async |(name, question)| {
        let request = match question {
            InputRequest::Elicitation(request) => ServerRequest::ElicitRequest(request),
            InputRequest::CreateMessage(request) => ServerRequest::CreateMessageRequest(request),
            InputRequest::ListRoots(request) => ServerRequest::ListRootsRequest(request),
            _ => return Err(ErrorData::internal_error("no such question", None)),
        };
        let answer = context.peer.send_request(request).await;
        let answer = answer.map_err(|error| ErrorData::internal_error(format!("the client did not answer: {error}"), None))?;
        let answer = serde_json::to_value(answer).map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        Ok((name, answer))
    });
    Ok(futures_util::future::try_join_all(answers).await?.into_iter().collect())
}

/// A form for the user. `schema` is of an object with properties.
pub fn form(message: &str, schema: Value) -> Result<InputRequest, ErrorData> {
    let schema: JsonObject =
        serde_json::from_value(schema).map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
    let requested_schema =
        ElicitationSchema::from_json_schema(schema).map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
    let params = ElicitRequestParams::FormElicitationParams { meta: None, message: message.to_owned(), requested_schema };
    Ok(InputRequest::Elicitation(ElicitRequest::new(params)))
}

/// A field of what the user filled in, or of the answer itself.
pub fn field<'a>(answers: &'a InputResponses, name: &str, path: &str) -> Option<&'a Value> {
    answers.get(name)?.pointer(path)
}
