//! Tools that need something of the client before they can answer, some of them several times. `test_sampling` and the
//! `test_elicitation*` tools are what the suite asks of the older era, `test_input_required_result_*` of the newer one;
//! each works for clients of both.
#![expect(deprecated, reason = "sampling and roots are deprecated in the newer era, which still has them")]

use rmcp::handler::server::tool::{InputResponses, RequestState};
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{
    CallToolResponse, CreateMessageRequest, CreateMessageRequestParams, InputRequest, InputRequests, ListRootsRequest,
    SamplingMessage,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, tool, tool_router};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::ask::{Asked, ask, can, field, form};
use crate::content;
use crate::server::Server;

type Answer = Result<CallToolResponse, ErrorData>;
type Context = RequestContext<RoleServer>;

#[derive(Deserialize, JsonSchema)]
struct SamplingArguments {
    /// The prompt for the model
    prompt: String,
}

#[derive(Deserialize, JsonSchema)]
struct ElicitationArguments {
    /// What to ask the user
    message: String,
}

#[tool_router(router = asking_tools, vis = "pub")]
impl Server {
    #[tool(description = "Ask the client's model")]
    async fn test_sampling(
        &self,
        Parameters(arguments): Parameters<SamplingArguments>,
        given: InputResponses,
        context: Context,
    ) -> Answer {
        let answers = match ask(&context, given.0, one("answer", sampling(&arguments.prompt, 100)), None).await? {
            Asked::Answers(answers) => answers,
            Asked::Unfinished(result) => return Ok(result.into()),
        };
        answer(format!("LLM response: {}", words(field(&answers, "answer", "/content/text"))))
    }

    #[tool(description = "Ask the user for name and address")]
    async fn test_elicitation(
        &self,
        Parameters(arguments): Parameters<ElicitationArguments>,
        given: InputResponses,
        context: Context,
    ) -> Answer {
        let schema = json!({
            "type": "object",
            "properties": {
                "username": {"type": "string", "description": "User's response"},
                "email": {"type": "string", "description": "User's email address"},
            },
            "required": ["username", "email"],
        });
        let answers = match ask(&context, given.0, one("user", form(&arguments.message, schema)?), None).await? {
            Asked::Answers(answers) => answers,
            Asked::Unfinished(result) => return Ok(result.into()),
        };
        answer(format!("User response: {}", decision(answers.get("user"))))
    }

    #[tool(description = "Ask the user with a form that has a default of every type")]
    async fn test_elicitation_sep1034_defaults(&self, given: InputResponses, context: Context) -> Answer {
        let schema = json!({"type": "object", "properties": {
            "name": {"type": "string", "default": "John Doe"},
            "age": {"type": "integer", "default": 30},
            "score": {"type": "number", "default": 95.5},
            "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
            "verified": {"type": "boolean", "default": true},
        }});
        let answers = match ask(&context, given.0, one("form", form("Please check these values", schema)?), None).await? {
            Asked::Answers(answers) => answers,
            Asked::Unfinished(result) => return Ok(result.into()),
        };
        answer(format!("Elicitation completed: {}", decision(answers.get("form"))))
    }

    #[tool(description = "Ask the user with a form that has a choice of every kind")]
    async fn test_elicitation_sep1330_enums(&self, given: InputResponses, context: Context) -> Answer {
        let titled = |word: &str| {
            json!([
                {"const": "value1", "title": format!("First {word}")},
                {"const": "value2", "title": format!("Second {word}")},
                {"const": "value3", "title": format!("Third {word}")},
            ])
        };
        let plain = json!(["option1", "option2", "option3"]);
        let schema = json!({"type": "object", "properties": {
            "untitledSingle": {"type": "string", "enum": plain},
            "titledSingle": {"type": "string", "oneOf": titled("Option")},
            "legacyEnum": {"type": "string", "enum": ["opt1", "opt2", "opt3"], "enumNames": ["Option One", "Option Two", "Option Three"]},
            "untitledMulti": {"type": "array", "items": {"type": "string", "enum": plain}},
            "titledMulti": {"type": "array", "items": {"anyOf": titled("Choice")}},
        }});
        let answers = match ask(&context, given.0, one("form", form("Please choose", schema)?), None).await? {
            Asked::Answers(answers) => answers,
            Asked::Unfinished(result) => return Ok(result.into()),
        };
        answer(format!("Elicitation completed: {}", decision(answers.get("form"))))
    }

    #[tool(description = "Need the client's model, and refuse who has none")]
    async fn test_missing_capability(&self, given: InputResponses, context: Context) -> Answer {
        match ask(&context, given.0, one("answer", sampling("Say yes", 10)), None).await? {
            Asked::Answers(_) => answer("the client has a model"),
            Asked::Unfinished(result) => Ok(result.into()),
        }
    }

    #[tool(description = "Ask the user on the stream of the call")]
    async fn test_streaming_elicitation(&self, given: InputResponses, context: Context) -> Answer {
        match ask(&context, given.0, one("value", string_form("Which value?", "value")?), None).await? {
            Asked::Answers(answers) => answer(format!("The value is {}", words(field(&answers, "value", "/content/value")))),
            Asked::Unfinished(result) => Ok(result.into()),
        }
    }

    #[tool(description = "Greet the user by name")]
    async fn test_input_required_result_elicitation(&self, given: InputResponses, context: Context) -> Answer {
        match ask(&context, given.0, one("user_name", string_form("What is your name?", "name")?), None).await? {
            Asked::Answers(answers) => answer(format!("Hello, {}!", words(field(&answers, "user_name", "/content/name")))),
            Asked::Unfinished(result) => Ok(result.into()),
        }
    }

    #[tool(description = "Ask the client's model for a capital")]
    async fn test_input_required_result_sampling(&self, given: InputResponses, context: Context) -> Answer {
        match ask(&context, given.0, one("capital_question", sampling("What is the capital of France?", 100)), None).await? {
            Asked::Answers(answers) => answer(words(field(&answers, "capital_question", "/content/text"))),
            Asked::Unfinished(result) => Ok(result.into()),
        }
    }

    #[tool(description = "List the client's roots")]
    async fn test_input_required_result_list_roots(&self, given: InputResponses, context: Context) -> Answer {
        match ask(&context, given.0, one("client_roots", roots()), None).await? {
            Asked::Answers(answers) => answer(format!("The roots are {}", words(field(&answers, "client_roots", "/roots")))),
            Asked::Unfinished(result) => Ok(result.into()),
        }
    }

    #[tool(description = "Let the user confirm, and check that the state came back as it was")]
    async fn test_input_required_result_request_state(
        &self,
        state: RequestState,
        given: InputResponses,
        context: Context,
    ) -> Answer {
        self.confirm("test_input_required_result_request_state", state.0, given, &context).await
    }

    #[tool(description = "Let the user confirm, and refuse a state that was changed on the way")]
    async fn test_input_required_result_tampered_state(
        &self,
        state: RequestState,
        given: InputResponses,
        context: Context,
    ) -> Answer {
        self.confirm("test_input_required_result_tampered_state", state.0, given, &context).await
    }

    #[tool(description = "Ask the user, the client's model and for its roots at once")]
    async fn test_input_required_result_multiple_inputs(
        &self,
        state: RequestState,
        given: InputResponses,
        context: Context,
    ) -> Answer {
        let tool = "test_input_required_result_multiple_inputs";
        self.check(state.0.as_deref(), tool)?;
        let questions = InputRequests::from([
            ("user_name".to_owned(), string_form("What is your name?", "name")?),
            ("greeting".to_owned(), sampling("Generate a greeting", 50)),
            ("client_roots".to_owned(), roots()),
        ]);
        match ask(&context, given.0, questions, Some(self.seal(tool)?)).await? {
            Asked::Answers(answers) => answer(format!(
                "{} {} has the roots {}",
                words(field(&answers, "greeting", "/content/text")),
                words(field(&answers, "user_name", "/content/name")),
                words(field(&answers, "client_roots", "/roots")),
            )),
            Asked::Unfinished(result) => Ok(result.into()),
        }
    }

    #[tool(description = "Ask the user twice, one question after the other")]
    async fn test_input_required_result_multi_round(
        &self,
        state: RequestState,
        given: InputResponses,
        context: Context,
    ) -> Answer {
        // The state of the second round carries what the first one learned; nothing is kept here.
        let known: Option<String> = match &state.0 {
            Some(state) => self.open(state)?.as_object().and_then(|state| state.get("name")?.as_str().map(str::to_owned)),
            None => None,
        };
        let (name, given) = if let Some(name) = known {
            (name, given.0)
        } else {
            let question = one("step1", string_form("Step 1: What is your name?", "name")?);
            match ask(&context, given.0, question, Some(self.seal(json!({"round": 1}))?)).await? {
                Asked::Answers(answers) => (words(field(&answers, "step1", "/content/name")), None),
                Asked::Unfinished(result) => return Ok(result.into()),
            }
        };
        let question = one("step2", string_form("Step 2: What is your favorite color?", "color")?);
        match ask(&context, given, question, Some(self.seal(json!({"round": 2, "name": name}))?)).await? {
            Asked::Answers(answers) => answer(format!("{name} likes {}", words(field(&answers, "step2", "/content/color")))),
            Asked::Unfinished(result) => Ok(result.into()),
        }
    }

    #[tool(description = "Ask only what the client can answer")]
    async fn test_input_required_result_capabilities(&self, given: InputResponses, context: Context) -> Answer {
        let mut questions = InputRequests::from([
            ("name".to_owned(), string_form("What is your name?", "name")?),
            ("poem".to_owned(), sampling("Write a line of a poem", 50)),
        ]);
        questions.retain(|_, question| can(&context, question));
        if questions.is_empty() {
            return answer("There is nothing the client could be asked");
        }
        match ask(&context, given.0, questions, None).await? {
            Asked::Answers(answers) => answer(format!("The client answered {} questions", answers.len())),
            Asked::Unfinished(result) => Ok(result.into()),
        }
    }
}

impl Server {
    async fn confirm(&self, tool: &str, state: Option<String>, given: InputResponses, context: &Context) -> Answer {
        self.check(state.as_deref(), tool)?;
        let schema = json!({"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]});
        match ask(context, given.0, one("confirm", form("Please confirm", schema)?), Some(self.seal(tool)?)).await? {
            Asked::Answers(answers) => {
                let ok = field(&answers, "confirm", "/content/ok") == Some(&Value::Bool(true));
                answer(format!("state-ok, {}", if ok { "confirmed" } else { "not confirmed" }))
            }
            Asked::Unfinished(result) => Ok(result.into()),
        }
    }

    fn seal(&self, state: impl Into<Value>) -> Result<String, ErrorData> {
        self.state.sealed.seal_json(&state.into()).map_err(|error| ErrorData::internal_error(error.to_string(), None))
    }

    fn open(&self, state: &str) -> Result<Value, ErrorData> {
        let opened = self.state.sealed.open_json(state);
        opened.map_err(|error| ErrorData::invalid_params(format!("requestState is not one of this server: {error}"), None))
    }

    /// A state that came with the call was made here, and for this tool.
    fn check(&self, state: Option<&str>, tool: &str) -> Result<(), ErrorData> {
        match state {
            Some(state) if self.open(state)? != tool => {
                Err(ErrorData::invalid_params("requestState belongs to another tool", None))
            }
            _ => Ok(()),
        }
    }
}

/// The call is done.
#[expect(clippy::unnecessary_wraps, reason = "the other arms of its callers have a result")]
fn answer(text: impl Into<String>) -> Answer {
    Ok(content::text(text))
}

fn one(name: &str, question: InputRequest) -> InputRequests {
    InputRequests::from([(name.to_owned(), question)])
}

fn sampling(prompt: &str, tokens: u32) -> InputRequest {
    let params = CreateMessageRequestParams::new(vec![SamplingMessage::user_text(prompt)], tokens);
    InputRequest::CreateMessage(CreateMessageRequest::new(params))
}

fn roots() -> InputRequest {
    InputRequest::ListRoots(ListRootsRequest::default())
}

/// A form with one field that takes text.
pub fn string_form(message: &str, name: &str) -> Result<InputRequest, ErrorData> {
    form(message, json!({"type": "object", "properties": {name: {"type": "string"}}, "required": [name]}))
}

/// What the user did with a form.
fn decision(answer: Option<&Value>) -> String {
    let part = |name: &str| answer.and_then(|answer| answer.get(name));
    format!("action={}, content={}", words(part("action")), part("content").unwrap_or(&json!({})))
}

/// Text as it is, anything else as JSON.
pub fn words(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => "nothing".to_owned(),
    }
}
