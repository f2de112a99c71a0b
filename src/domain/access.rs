//! Who may do what: actors, roles, operations, and the one table that decides.

use serde::{Deserialize, Serialize};

/// The header in which the manager tells a bridge whose session it is, where callers have names. A client's own is never
/// passed on by the manager.
pub const CALLER_HEADER: &str = "x-mcp-manager-caller";

/// How much an actor may do; each role may do what the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Nothing but health and metrics.
    Nobody,
    /// Look at everything that is not secret.
    Viewer,
    /// Create, change and delete services.
    Operator,
    /// Everything, templates and inspection included.
    Admin,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// Name for the audit: `anonymous`, the name of a key, `system`.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Request it acts in, when it came by one.
    pub request_id: Option<String>,
}

impl Actor {
    /// The manager itself.
    #[must_use]
    pub fn system() -> Self {
        Self { name: "system".to_owned(), role: Role::Admin, request_id: None }
    }

    /// Somebody who was not asked who they are. Operations that are open to everybody are done in this name, with or
    /// without a key, so that a probe with a key of yesterday still learns how the manager is.
    #[must_use]
    pub fn stranger(request_id: Option<String>) -> Self {
        Self { name: "anonymous".to_owned(), role: Role::Nobody, request_id }
    }
}

macro_rules! operations {
    ($( $variant:ident $slug:literal $role:ident $audited:literal, )*) => {
        /// Everything an actor can ask the manager to do. A face cannot offer what is not in this list, and each entry
        /// says who may do it and whether it is audited.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "the slug says it, and the table is read as a table")]
        pub enum Operation { $( $variant, )* }

        impl Operation {
            /// Every operation.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )* ];

            /// Name in metrics and audit.
            #[must_use]
            pub const fn slug(self) -> &'static str { match self { $( Self::$variant => $slug, )* } }

            /// The least role that may do it.
            #[must_use]
            pub const fn least_role(self) -> Role { match self { $( Self::$variant => Role::$role, )* } }

            /// Whether it leaves an audit entry.
            #[must_use]
            pub const fn audited(self) -> bool { match self { $( Self::$variant => $audited, )* } }
        }
    };
}

operations! {
    ServiceCreate "service_create" Operator true,
    ServiceApply "service_apply" Operator true,
    ServicePatch "service_patch" Operator true,
    ServiceDelete "service_delete" Operator true,
    // It changes nothing, but shows what templates fill in from the manager's own environment.
    ServicePlan "service_plan" Operator false,
    ServiceStart "service_start" Operator true,
    ServiceStop "service_stop" Operator true,
    ServiceRestart "service_restart" Operator true,
    ServiceList "service_list" Viewer false,
    ServiceGet "service_get" Viewer false,
    ServiceLogs "service_logs" Viewer false,
    ServiceStats "service_stats" Viewer false,
    ServiceEvents "service_events" Viewer false,
    ServiceInspect "service_inspect" Viewer false,
    // What passes is the service's own affair, and as frequent as its use: the log has it, the audit does not.
    ServiceUse "service_use" Operator false,
    TemplateList "template_list" Viewer false,
    TemplateGet "template_get" Viewer false,
    TemplateValidate "template_validate" Viewer false,
    TemplatePut "template_put" Admin true,
    TemplateDelete "template_delete" Admin true,
    PackageAdd "package_add" Admin true,
    ImageList "image_list" Viewer false,
    ImagePull "image_pull" Operator true,
    ToolList "tool_list" Viewer false,
    SystemInfo "system_info" Viewer false,
    SystemDiagnostics "system_diagnostics" Viewer false,
    HealthRead "health_read" Nobody false,
    MetricsRead "metrics_read" Nobody false,
}
