//! The one error of the crate: what is wrong, with which field, and what to do about it.
//!
//! It knows no transport: [`crate::rest`] turns a [`Kind`] into an HTTP status, the command line into an exit code,
//! an MCP tool into a tool error. The public text (`detail`, `remedy`, `fields`) and the internal cause (`source`)
//! are kept apart: the cause goes to the log only.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Result of everything fallible in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as a stable name that clients may match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The request, template or setting is wrong; `fields` says where.
    Invalid,
    /// No such service, template, image or replica.
    NotFound,
    /// The name is taken.
    AlreadyExists,
    /// The request does not fit the present state, or was overtaken by another one.
    Conflict,
    /// A limit of the manager (`MAX_CONTAINERS`, concurrent creations) is reached.
    LimitReached,
    /// The backend, this machine or this version cannot do it.
    NotSupported,
    /// Credentials are missing or wrong.
    Unauthenticated,
    /// The caller may not do this.
    Forbidden,
    /// The registry does not know the image.
    ImageNotFound,
    /// The registry refused the credentials, or wants some.
    ImageAccessDenied,
    /// The registry could not be reached or broke off.
    RegistryUnavailable,
    /// The image does not exist for this machine's architecture.
    WrongArchitecture,
    /// No space left for the image or the container.
    NoSpace,
    /// The service could not be started; its container reported an error.
    StartFailed,
    /// The container engine or cluster does not answer.
    BackendUnavailable,
    /// Something took longer than its limit.
    Timeout,
    /// The operation was given up because its object is being deleted or the manager is shutting down.
    Cancelled,
    /// A fault of the manager itself.
    Internal,
}

impl Kind {
    /// Every kind, for documentation and for tests that no face forgets one.
    pub const ALL: [Self; 18] = [
        Self::Invalid,
        Self::NotFound,
        Self::AlreadyExists,
        Self::Conflict,
        Self::LimitReached,
        Self::NotSupported,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::ImageNotFound,
        Self::ImageAccessDenied,
        Self::RegistryUnavailable,
        Self::WrongArchitecture,
        Self::NoSpace,
        Self::StartFailed,
        Self::BackendUnavailable,
        Self::Timeout,
        Self::Cancelled,
        Self::Internal,
    ];

    /// The stable name, as used in the `type` of problem documents and as metric label.
    #[must_use]
    pub const fn slug(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::NotFound => "not-found",
            Self::AlreadyExists => "already-exists",
            Self::Conflict => "conflict",
            Self::LimitReached => "limit-reached",
            Self::NotSupported => "not-supported",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::ImageNotFound => "image-not-found",
            Self::ImageAccessDenied => "image-access-denied",
            Self::RegistryUnavailable => "registry-unavailable",
            Self::WrongArchitecture => "wrong-architecture",
            Self::NoSpace => "no-space",
            Self::StartFailed => "start-failed",
            Self::BackendUnavailable => "backend-unavailable",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
        }
    }

    /// What helps against an error of the kind, where nobody knows better.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Invalid => "correct what was sent; GET /docs shows what is allowed",
            Self::NotFound => "check the name and the address; GET /containers, GET /templates and GET /docs list what there is",
            Self::AlreadyExists => "choose another name, or change or delete what has this one",
            Self::Conflict => "look at how it stands now, and send the request again if it is still wanted",
            Self::LimitReached => "give up something that counts towards the limit, or raise it in the configuration",
            Self::NotSupported => "GET /system says what this installation can do, GET /docs what the API offers",
            Self::Unauthenticated => "send a key as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'",
            Self::Forbidden => "use a key whose role allows it",
            Self::ImageNotFound => "check the image's name and tag, or build or load it on the engine's machine",
            Self::ImageAccessDenied => "check the name, and the registry's credentials (setting REGISTRY_AUTH_FILE)",
            Self::RegistryUnavailable => "check the network and the registry, then try again",
            Self::WrongArchitecture => "use an image that is built for this machine's architecture",
            Self::NoSpace => "remove images and volumes that are not needed, or enlarge the disk",
            Self::StartFailed => "see the last lines of its log; check its command, user, volumes and limits",
            Self::BackendUnavailable => "it is tried again all the time; 'mcp-manager doctor' tells what is missing",
            Self::Timeout => "look at how it stands now; try again, or allow more time",
            Self::Cancelled => "send it again if it is still wanted",
            Self::Internal => "the manager's log has the cause under the request's id; if it comes again, report it with that",
        }
    }

    /// A short human title, the same for every error of the kind.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Invalid => "The request is not valid",
            Self::NotFound => "Not found",
            Self::AlreadyExists => "The name is taken",
            Self::Conflict => "The request does not fit the present state",
            Self::LimitReached => "A limit is reached",
            Self::NotSupported => "Not supported here",
            Self::Unauthenticated => "Who are you?",
            Self::Forbidden => "Not allowed",
            Self::ImageNotFound => "The image does not exist",
            Self::ImageAccessDenied => "The registry refused access to the image",
            Self::RegistryUnavailable => "The registry cannot be reached",
            Self::WrongArchitecture => "The image does not exist for this architecture",
            Self::NoSpace => "No space left",
            Self::StartFailed => "The service could not be started",
            Self::BackendUnavailable => "The container engine does not answer",
            Self::Timeout => "It took too long",
            Self::Cancelled => "Given up",
            Self::Internal => "Internal error",
        }
    }
}

/// One thing that is wrong with one field of a request, template or setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema, utoipa::ToSchema)]
pub struct FieldError {
    /// Where: dotted path from the root of the document, `environment.PATH`, `volumes[0].host_path`; empty for the whole.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Line in the file, from 1, where the document came from a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
}

impl FieldError {
    /// A field error with its remedy.
    pub fn new(field: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into(), remedy: Some(remedy.into()), line: None }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(formatter, "line {line}: ")?;
        }
        if !self.field.is_empty() {
            write!(formatter, "{}: ", self.field)?;
        }
        formatter.write_str(&self.message)?;
        if let Some(remedy) = &self.remedy {
            write!(formatter, " ({remedy})")?;
        }
        Ok(())
    }
}

/// An error of the product; cheap to clone, so that every waiter of one operation gets the same answer.
#[derive(Debug, Clone)]
pub struct Error {
    /// What kind of thing went wrong.
    pub kind: Kind,
    /// What went wrong this time, in a sentence for the caller.
    pub detail: String,
    /// What the caller can do about it.
    pub remedy: Option<String>,
    /// The fields that are wrong, all of them.
    pub fields: Vec<FieldError>,
    /// The internal cause, for the log only.
    pub source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind` that says `detail`.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), remedy: None, fields: Vec::new(), source: None }
    }

    /// Invalid input: all the fields that are wrong at once.
    #[must_use]
    pub fn invalid(what: &str, fields: Vec<FieldError>) -> Self {
        let detail = match fields.as_slice() {
            [only] => format!("{what}: {only}"),
            many => format!("{what}: {} fields are wrong", many.len()),
        };
        Self { fields, ..Self::new(Kind::Invalid, detail) }
    }

    /// Invalid input in a single field.
    pub fn invalid_field(field: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        let field = FieldError::new(field, message, remedy);
        Self { fields: vec![field.clone()], ..Self::new(Kind::Invalid, field.to_string()) }
    }

    /// No such thing; names the nearest existing one when there is a near one, and else how to list them.
    pub fn not_found<'a>(what: &str, name: &str, existing: impl IntoIterator<Item = &'a str>) -> Self {
        let error = Self::new(Kind::NotFound, format!("there is no {what} '{}'", crate::domain::shown(name)));
        match crate::domain::nearest(name, existing) {
            Some(near) => error.remedy(format!("did you mean '{near}'?")),
            None => match what {
                "service" => error.remedy("'mcp-manager ls' and GET /containers list those that there are"),
                "template" => error.remedy("'mcp-manager template ls' and GET /templates list those that there are"),
                "tool" => error.remedy("GET /tools and an MCP client's list of tools name those that there are"),
                _ => error,
            },
        }
    }

    /// A fault of the manager itself or of something it relies on, with its cause for the log.
    pub fn internal(detail: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::new(Kind::Internal, detail).because(source)
    }

    /// The manager stops: nothing is done, or waited for, any more.
    #[must_use]
    pub fn shutting_down() -> Self {
        Self::new(Kind::Cancelled, "the manager is shutting down").remedy("try again when it runs again")
    }

    /// Whoever asked for it does not want it any more.
    pub fn called_off(detail: impl Into<String>) -> Self {
        Self::new(Kind::Cancelled, detail).remedy("send it again if it is still wanted")
    }

    /// There are as many sessions of clients as there may be.
    #[must_use]
    pub fn too_many_sessions(most: usize) -> Self {
        Self::new(Kind::LimitReached, format!("there are {most} sessions already"))
            .remedy("end sessions, or raise the setting mcp.max_sessions")
    }

    /// Adds what the caller can do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// The error as callers are told it, who always hear what they can do: about its one field, its fields, or errors of its
    /// kind, unless it says so itself.
    #[must_use]
    pub fn with_some_remedy(mut self) -> Self {
        if self.remedy.as_ref().is_none_or(String::is_empty) {
            let own = match self.fields.as_slice() {
                [only] => only.remedy.as_deref(),
                [] => None,
                _ => Some("correct each of the fields, as their own remedies say"),
            };
            self.remedy = Some(own.unwrap_or_else(|| self.kind.remedy()).to_owned());
        }
        self
    }

    /// Adds the internal cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.detail)?;
        if self.fields.len() > 1 {
            for field in &self.fields {
                write!(formatter, "\n  {field}")?;
            }
        }
        if let Some(remedy) = &self.remedy {
            write!(formatter, "; {remedy}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

/// The public part of an [`Error`], as it appears inside other documents (a failed service's `failure`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema, utoipa::ToSchema)]
pub struct Failure {
    /// Stable name of the kind of error.
    pub code: String,
    /// What went wrong.
    pub detail: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let Error { kind, detail, remedy, .. } = error.clone().with_some_remedy();
        Self { code: kind.slug().to_owned(), detail, remedy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_kind_of_error_leaves_callers_without_a_remedy() {
        for kind in Kind::ALL {
            let error = Error::new(kind, "x");
            assert!(!error.clone().with_some_remedy().remedy.unwrap().is_empty(), "{kind:?}");
            assert!(!Failure::from(&error).remedy.unwrap().is_empty(), "{kind:?}");
            assert_eq!(error.remedy("own").with_some_remedy().remedy.as_deref(), Some("own"), "{kind:?}");
        }
    }

    #[test]
    fn the_remedy_of_the_only_field_is_that_of_the_error() {
        let error = Error::invalid_field("port", "is 0", "use 1 to 65535").with_some_remedy();
        assert_eq!(error.remedy.as_deref(), Some("use 1 to 65535"));
        let two = vec![FieldError::new("a", "is 0", "use 1"), FieldError::new("b", "is 0", "use 2")];
        assert!(Error::invalid("x", two).with_some_remedy().remedy.unwrap().contains("each of the fields"));
    }
}
