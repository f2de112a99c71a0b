//! The OpenAPI document and the page that shows it.

use axum::Router;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_swagger_ui::SwaggerUi;

use super::Api;
use super::problem::ProblemDocument;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "mcp-manager", description = "Runs MCP servers as locked-down containers with stable URLs."),
    tags(
        (name = "containers", description = "Services: named things that run, from a template or an inline spec"),
        (name = "templates", description = "How to run one kind of service"),
        (name = "system", description = "The manager itself"),
    ),
    components(schemas(ProblemDocument))
)]
struct Document;

/// The document without its paths.
pub fn base() -> OpenApi {
    let mut document = Document::openapi();
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

/// `GET /openapi.json` and the page `GET /docs`.
pub fn pages(document: OpenApi) -> Router<Api> {
    SwaggerUi::new("/docs").url("/openapi.json", document).into()
}
