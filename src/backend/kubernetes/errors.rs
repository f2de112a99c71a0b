//! From the API server's words to errors of the product. Pure.

use kube::Error as ApiError;

use crate::error::{Error, Kind};

/// An error of a call; `doing` completes "cannot …".
pub(super) fn api(error: ApiError, doing: &str) -> Error {
    let ApiError::Api(status) = &error else {
        return match error {
            ApiError::SerdeError(_) | ApiError::BuildRequest(_) => Error::internal(format!("cannot {doing}"), error),
            ApiError::Auth(_) => {
                away().remedy("the credentials for the cluster could not be had: look at its account").because(error)
            }
            _ => away().because(error),
        };
    };
    let said = status.message.trim();
    let told = |kind| Error::new(kind, format!("cannot {doing}: {said}"));
    let answer = match (status.code, status.reason.as_str()) {
        (401, _) => told(Kind::BackendUnavailable).remedy("the cluster does not know the manager's credentials: renew them"),
        (403, _) if said.contains("exceeded quota") => {
            told(Kind::LimitReached).remedy("raise the namespace's ResourceQuota, or ask for less")
        }
        (403, _) if said.contains("violates PodSecurity") => {
            told(Kind::NotSupported).remedy("the namespace does not allow what the spec opens: leave that out of the spec")
        }
        (403, _) if said.contains("is being terminated") => told(Kind::Conflict).remedy("use a namespace that stays"),
        (403, _) if said.contains("cannot ") => {
            told(Kind::NotSupported).remedy("give the manager's account the Role that its documentation lists")
        }
        (403, _) => told(Kind::NotSupported).remedy("an admission rule of the cluster refuses it; its words say which"),
        (404, _) => told(Kind::NotFound),
        (409, "AlreadyExists") => told(Kind::AlreadyExists),
        (409, _) => told(Kind::Conflict),
        (400 | 422, _) => told(Kind::Invalid),
        (408 | 429 | 500..=599, _) => away(),
        _ => told(Kind::Internal),
    };
    answer.because(error)
}

/// The API server does not answer.
pub(super) fn away() -> Error {
    Error::new(Kind::BackendUnavailable, "the cluster's API server does not answer")
        .remedy("running services go on; it is tried again all the time")
}

/// Whether a call failed because the API server is out of reach, or has lost its own store.
pub(super) fn is_away(error: &ApiError) -> bool {
    match error {
        ApiError::Api(status) => matches!(status.code, 408 | 429 | 500..=599),
        ApiError::SerdeError(_) | ApiError::BuildRequest(_) | ApiError::Auth(_) => false,
        _ => true,
    }
}

/// Whether a call failed because somebody else was quicker.
pub(super) fn is_conflict(error: &ApiError) -> bool {
    matches!(error, ApiError::Api(status) if status.code == 409)
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn refused(code: u16, reason: &str, message: &str) -> Error {
        let status = Status { code, reason: reason.into(), message: message.into(), ..Status::default() };
        api(ApiError::Api(Box::new(status)), "write the Deployment")
    }

    #[test]
    fn what_the_server_says_becomes_an_error_with_a_remedy() {
        let table = [
            (403, "Forbidden", "pods \"x\" is forbidden: exceeded quota: small, requested: cpu=1", Kind::LimitReached),
            (
                403,
                "Forbidden",
                "pods \"x\" is forbidden: violates PodSecurity \"restricted:latest\": runAsNonRoot",
                Kind::NotSupported,
            ),
            (403, "Forbidden", "services is forbidden: User \"x\" cannot create resource", Kind::NotSupported),
            (409, "AlreadyExists", "configmaps \"mcp-echo\" already exists", Kind::AlreadyExists),
            (409, "Conflict", "the object has been modified", Kind::Conflict),
            (422, "Invalid", "spec.replicas: Invalid value", Kind::Invalid),
            (503, "ServiceUnavailable", "starting", Kind::BackendUnavailable),
        ];
        for (code, reason, message, kind) in table {
            let error = refused(code, reason, message);
            assert_eq!(error.kind, kind, "{message}");
            let says = kind == Kind::BackendUnavailable || error.detail.contains(message);
            assert!(says, "{error} leaves out the server's words");
        }
    }
}
