//! The OpenAPI document and the page that shows it.

use std::sync::OnceLock;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use schemars::generate::SchemaSettings;
use serde_json::Value;
use utoipa::OpenApi as _;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi, Server};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::Api;
use super::problem::{Problem, ProblemDocument};
use crate::domain::spec::SpecInput;
use crate::domain::status::ServiceEvent;
use crate::domain::template;
use crate::error::{Error, Kind};
use crate::manager::{PatchRequest, ServiceRequest};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "mcp-manager", description = "Runs MCP servers as locked-down containers with stable URLs."),
    tags(
        (name = "containers", description = "Services: named things that run, from a template or an inline spec"),
        (name = "templates", description = "How to run one kind of service"),
        (name = "system", description = "The manager itself"),
        (name = "tools", description = "What agents can do, as MCP tools have it"),
    ),
    components(schemas(ProblemDocument, ServiceEvent))
)]
struct Document;

/// The document without its paths.
pub fn base() -> OpenApi {
    let mut document = Document::openapi();
    // Where the document is, there the API is: at the root, or under the prefix of a proxy that the manager never sees.
    document.servers = Some(vec![Server::new("./")]);
    let components = document.components.get_or_insert_default();
    components.add_security_scheme(
        "bearer",
        SecurityScheme::Http(
            HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("needed with ENABLE_AUTH=true")).build(),
        ),
    );
    components.add_security_scheme("api_key", SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-API-Key"))));
    document
}

/// The document with the schemas of what is written to the manager as they are published elsewhere: OpenAPI 3.1 speaks
/// JSON Schema, and what is derived for it alone would know less. With `compat` the old names of tools are in it, too.
pub fn corrected(document: OpenApi, compat: bool) -> Value {
    // Plain values always serialise.
    let mut document = serde_json::to_value(document).unwrap_or_default();
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    let request = generator.subschema_for::<ServiceRequest>();
    drop((request, generator.subschema_for::<PatchRequest>(), generator.subschema_for::<SpecInput>()));
    let template = template::schema_with(&mut generator);
    if let Value::Object(schemas) = &mut document["components"]["schemas"] {
        schemas.remove("TemplateHeader");
        schemas.extend(generator.take_definitions(true));
        schemas.insert("TemplateDocument".to_owned(), template);
    }
    // Unknown fields are errors.
    document["components"]["schemas"]["ServiceRequest"]["additionalProperties"] = false.into();
    super::tools::describe(&mut document, compat);
    document
}

/// `GET /openapi.json` and the page `GET /docs`. What leads from one to the other is relative, since the manager may
/// stand behind a proxy under a prefix that it never sees.
pub fn pages() -> Router<Api> {
    let page = SwaggerUi::new("/docs").config(Config::from("../openapi.json"));
    Router::from(page).layer(from_fn(ours)).route("/openapi.json", get(document))
}

/// The document is made when it is first asked for: as a tree it is larger than everything else that the manager has in
/// memory, and most managers are never asked.
async fn document(State(api): State<Api>) -> impl IntoResponse {
    static TEXTS: [OnceLock<Bytes>; 2] = [const { OnceLock::new() }; 2];
    let compat = api.settings.policy.compat;
    let text = TEXTS[usize::from(compat)].get_or_init(|| super::openapi_document(compat).to_string().into());
    ([(header::CONTENT_TYPE, "application/json")], text.clone())
}

/// The page's answers where the library's own would lead out of the prefix or say nothing.
async fn ours(request: Request, next: Next) -> Response {
    let path = request.uri().path().escape_debug().to_string();
    let mut response = next.run(request).await;
    if matches!(response.status(), StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST) {
        let error = Error::new(Kind::NotFound, format!("the page has no part {path}"));
        return Problem(error.remedy("GET /docs/ is the page, GET /openapi.json the description that it shows")).into_response();
    }
    if response.headers().get(header::LOCATION).is_some_and(|location| location == "/docs/") {
        response.headers_mut().insert(header::LOCATION, HeaderValue::from_static("docs/"));
    }
    response
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use serde_json::{Value, json};

    use crate::domain::samples::spec_document;
    use crate::manager::ServiceRequest;

    /// Whether the document allows this body where the schema of that name is wanted.
    fn allows(schema: &str, body: &Value) -> bool {
        validator(schema).is_valid(body)
    }

    fn validator(schema: &str) -> jsonschema::Validator {
        let mut document = crate::rest::openapi_document(false);
        document["$ref"] = format!("#/components/schemas/{schema}").into();
        jsonschema::validator_for(&document).unwrap()
    }

    #[test]
    fn the_document_allows_the_bodies_that_are_read() {
        let service = json!({"service_name": "a", "template": "echo", "environment": {"A": 1}, "replicas": 2});
        assert!(allows("ServiceRequest", &service));
        assert!(allows("ServiceRequest", &json!({"image": "x", "port": 80, "memory_limit": "512m", "volumes": {"v": "/d"}})));
        assert!(!allows("ServiceRequest", &json!({"image": "x", "port": "no"})));
        assert!(allows("TemplateDocument", &json!({"name": "a", "image": "x", "port": 80})));
        assert!(allows("TemplateDocument", &json!({"name": "a", "default_config": {"image": "x"}, "capabilities": ["c"]})));
        assert!(!allows("TemplateDocument", &json!({"name": 1})));
        assert!(allows("PatchRequest", &json!({"replicas": 2, "environment": {"A": null}})));
        assert!(allows("PatchRequest", &json!({"memory_limit": 67_108_864})));
    }

    #[test]
    fn the_document_refuses_what_the_rules_refuse() {
        for body in [
            json!({"service_name": "manager"}),
            json!({"service_name": "a", "prot": 80}),
            json!({"service_name": "a", "health_check": {"retries": 101}}),
            json!({"service_name": "a", "cap_add": ["SYS_ADMIN"]}),
            json!({"service_name": "a", "autoscaling": {"min": 1}}),
            json!({"service_name": "a", "volumes": [{}]}),
        ] {
            assert!(!allows("ServiceRequest", &body), "{body}");
        }
        assert!(!allows("TemplateDocument", &json!({"name": "a", "image": null})));
        assert!(!allows("TemplateDocument", &json!({"name": "a", "default_config": {"image": "x", "prot": 80}})));
        assert!(!allows("PatchRequest", &json!({"replicas": 101})) && !allows("PatchRequest", &json!({"cpu_limit": 0})));
    }

    proptest::proptest! {
        #[test]
        fn the_document_allows_whatever_the_reader_of_requests_takes(mut body in spec_document()) {
            static VALIDATOR: LazyLock<jsonschema::Validator> = LazyLock::new(|| validator("ServiceRequest"));
            body["template"] = "echo".into();
            body["name"] = "demo".into();
            if ServiceRequest::read(&body, None).is_ok_and(|request| request.wrong_anywhere().is_empty()) {
                let errors: Vec<_> = VALIDATOR.iter_errors(&body).map(|error| error.to_string()).collect();
                assert!(errors.is_empty(), "{body}: {errors:?}");
            }
        }
    }
}
