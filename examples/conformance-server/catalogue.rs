//! Prompts and resources, under the suite's names.

use std::sync::atomic::Ordering;

use rmcp::ErrorData;
use rmcp::RoleServer;
use rmcp::model::{
    CompleteRequestParams, ContentBlock, GetPromptRequestParams, GetPromptResponse, GetPromptResult, InputRequests, Prompt,
    PromptArgument, PromptMessage, ReadResourceResult, Reference, Resource, ResourceContents, ResourceTemplate, Role,
};
use rmcp::service::RequestContext;
use serde_json::json;

use crate::ask::{Asked, ask, field};
use crate::content::PNG;
use crate::rounds::{string_form, words};
use crate::state::{State, WATCHED};

const TEXT: &str = "test://static-text";
const BINARY: &str = "test://static-binary";

/// Every prompt there is at the moment.
pub fn prompts(state: &State) -> Vec<Prompt> {
    let argument = |name: &str, what: &str| PromptArgument::new(name).with_description(what).with_required(true);
    let mut prompts = vec![
        Prompt::new("test_simple_prompt", Some("A prompt without arguments"), None),
        Prompt::new(
            "test_prompt_with_arguments",
            Some("A prompt that takes two arguments"),
            Some(vec![argument("arg1", "First test argument"), argument("arg2", "Second test argument")]),
        ),
        Prompt::new(
            "test_prompt_with_embedded_resource",
            Some("A prompt with a resource in it"),
            Some(vec![argument("resourceUri", "URI of the resource to embed")]),
        ),
        Prompt::new("test_prompt_with_image", Some("A prompt with an image in it"), None),
        Prompt::new("test_input_required_result_prompt", Some("A prompt that asks the user first"), None),
    ];
    if state.extra_prompt.load(Ordering::Relaxed) {
        prompts.push(Prompt::new("extra_prompt", Some("A prompt that comes and goes"), None));
    }
    prompts
}

/// One of them, filled in.
pub async fn prompt(
    state: &State,
    request: GetPromptRequestParams,
    context: &RequestContext<RoleServer>,
) -> Result<GetPromptResponse, ErrorData> {
    let argument = |name: &str| words(request.arguments.as_ref().and_then(|arguments| arguments.get(name)));
    let say = |text: String| PromptMessage::new_text(Role::User, text);
    let messages = match request.name.as_str() {
        "test_simple_prompt" => vec![say("This is a simple prompt for testing.".to_owned())],
        "test_prompt_with_arguments" => {
            vec![say(format!("Prompt with arguments: arg1='{}', arg2='{}'", argument("arg1"), argument("arg2")))]
        }
        "test_prompt_with_embedded_resource" => {
            let resource = ResourceContents::text("Embedded resource content for testing.", argument("resourceUri"));
            let resource = ContentBlock::resource(resource.with_mime_type("text/plain"));
            let request = "Please process the embedded resource above.".to_owned();
            vec![PromptMessage::new(Role::User, resource), say(request)]
        }
        "test_prompt_with_image" => {
            let image = ContentBlock::image(PNG, "image/png");
            vec![PromptMessage::new(Role::User, image), say("Please analyze the image above.".to_owned())]
        }
        "test_input_required_result_prompt" => {
            let question = ("user_context".to_owned(), string_form("What context should the prompt use?", "context")?);
            match ask(context, request.input_responses, InputRequests::from([question]), None).await? {
                Asked::Answers(answers) => {
                    vec![say(format!("Prompt with context: {}", words(field(&answers, "user_context", "/content/context"))))]
                }
                Asked::Unfinished(result) => return Ok(result.into()),
            }
        }
        "extra_prompt" if state.extra_prompt.load(Ordering::Relaxed) => vec![say("This prompt comes and goes.".to_owned())],
        name => return Err(ErrorData::invalid_params(format!("there is no prompt '{name}'"), None)),
    };
    Ok(GetPromptResult::new(messages).into())
}

/// Every resource that has a fixed URI.
pub fn resources() -> Vec<Resource> {
    vec![
        Resource::new(TEXT, "static-text").with_description("Text that never changes").with_mime_type("text/plain"),
        Resource::new(BINARY, "static-binary").with_description("A red pixel").with_mime_type("image/png"),
        Resource::new(WATCHED, "watched-resource").with_description("How often it was touched").with_mime_type("text/plain"),
    ]
}

/// Resources whose URIs have a hole in them.
pub fn templates() -> Vec<ResourceTemplate> {
    let template = ResourceTemplate::new("test://template/{id}/data", "template");
    vec![template.with_description("Data for any id").with_mime_type("application/json")]
}

/// The contents of a resource.
pub fn read(state: &State, uri: &str) -> Result<ReadResourceResult, ErrorData> {
    let contents = match uri {
        TEXT => ResourceContents::text("This is the content of the static text resource.", uri).with_mime_type("text/plain"),
        BINARY => ResourceContents::blob(PNG, uri).with_mime_type("image/png"),
        WATCHED => {
            let text = format!("touched {} times", state.touched.load(Ordering::Relaxed));
            ResourceContents::text(text, uri).with_mime_type("text/plain")
        }
        _ => {
            let id = uri.strip_prefix("test://template/").and_then(|rest| rest.strip_suffix("/data"));
            let Some(id) = id.filter(|id| !id.is_empty() && !id.contains('/')) else {
                return Err(ErrorData::resource_not_found(format!("there is no resource '{uri}'"), Some(json!({"uri": uri}))));
            };
            let data = json!({"id": id, "templateTest": true, "data": format!("Data for ID: {id}")});
            ResourceContents::text(data.to_string(), uri).with_mime_type("application/json")
        }
    };
    Ok(ReadResourceResult::new(vec![contents]))
}

/// What an argument that begins like this could be.
pub fn completions(request: &CompleteRequestParams) -> Vec<String> {
    let words: &[&str] = match &request.r#ref {
        Reference::Prompt(prompt) if prompt.name == "test_prompt_with_arguments" => &["paris", "park", "party"],
        Reference::Resource(resource) if resource.uri.starts_with("test://template/") => &["1", "12", "123"],
        _ => &[],
    };
    words.iter().filter(|word| word.starts_with(&request.argument.value)).map(|&word| word.to_owned()).collect()
}
