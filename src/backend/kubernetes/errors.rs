//! From the API server's words to errors of the product. Pure.

use kube::Error as ApiError;
use kube::core::Status;

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
        (500..=599 | 408 | 429, _) if is_own_trouble(status) => away(),
        (500..=599, _) if said.contains(WEBHOOK) => {
            told(Kind::NotSupported).remedy("an admission webhook of the cluster fails: look at what serves it")
        }
        (500..=599, _) if has(said, &AT_THE_NODE) => {
            told(Kind::BackendUnavailable).remedy("the API server does not reach the pod's node: look with 'kubectl get nodes'")
        }
        (500..=599, _) if has(said, &BEHIND) => told(Kind::BackendUnavailable)
            .remedy("what serves this part of the cluster's API is down: look with 'kubectl get apiservices'"),
        (500..=599, _) => told(Kind::Internal).remedy("these are the API server's words; its own log has more"),
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
        ApiError::Api(status) => is_own_trouble(status),
        ApiError::SerdeError(_) | ApiError::BuildRequest(_) | ApiError::Auth(_) => false,
        _ => true,
    }
}

/// In the server's words for an admission webhook that does not answer, or not as it should.
const WEBHOOK: &str = "webhook";
/// For a kubelet that it does not reach: the log's path there, and a kubelet's port.
const AT_THE_NODE: [&str; 3] = ["containerLogs", ":10250", "error dialing backend"];
/// For another server to which it leaves a part of its API, as that with the metrics.
const BEHIND: [&str; 3] = ["service unavailable", "error trying to reach service", "unable to handle the request"];
/// For its own store, and for its own start and end.
const OWN: [&str; 8] = [
    "etcd",
    "leader changed",
    "rpc error",
    "context deadline exceeded",
    "context canceled",
    "starting",
    "initializing",
    "shutting down",
];
/// Reason of an answer that is none of the server's documents: the page of a proxy in front, or a text.
const NO_DOCUMENT: &str = "Failed to parse error data";

/// Whether the API server is busy, or has lost its own store. Answers with the codes for that are given for others that it
/// asks, too: webhooks, kubelets, and servers of parts of its API.
fn is_own_trouble(status: &Status) -> bool {
    let said = status.message.as_str();
    let of_others = said.contains(WEBHOOK) || has(said, &AT_THE_NODE) || (has(said, &BEHIND) && !said.contains('<'));
    match status.code {
        408 | 429 | 502 | 504 => true,
        500 => !of_others && (said.is_empty() || has(said, &OWN)),
        // In the place of a server that is away, a proxy answers with this code and words of its own.
        503 => !of_others && (status.reason == NO_DOCUMENT || has(said, &OWN)),
        _ => false,
    }
}

fn has(said: &str, words: &[&str]) -> bool {
    words.iter().any(|word| said.contains(word))
}

/// Whether a call failed because somebody else was quicker.
pub(super) fn is_conflict(error: &ApiError) -> bool {
    matches!(error, ApiError::Api(status) if status.code == 409)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u16, reason: &str, message: &str) -> ApiError {
        let status = Status { code, reason: reason.into(), message: message.into(), ..Status::default() };
        ApiError::Api(Box::new(status))
    }

    fn refused(code: u16, reason: &str, message: &str) -> Error {
        api(answer(code, reason, message), "write the Deployment")
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
            (500, "", "failed to decode the object", Kind::Internal),
        ];
        for (code, reason, message, kind) in table {
            let error = refused(code, reason, message);
            assert_eq!(error.kind, kind, "{message}");
            let says = kind == Kind::BackendUnavailable || error.detail.contains(message);
            assert!(says, "{error} leaves out the server's words");
        }
    }

    #[test]
    fn the_server_is_away_only_when_its_words_are_of_itself() {
        let away_ones = [
            (429, "TooManyRequests", "storage is (re)initializing"),
            (504, "Timeout", "Timeout: request did not complete within requested timeout - context deadline exceeded"),
            (500, "", "etcdserver: request timed out"),
            (500, "", "rpc error: code = Unavailable desc = transport: dial tcp 127.0.0.1:2379: connect: connection refused"),
            (503, "ServiceUnavailable", "apiserver is shutting down"),
            (503, NO_DOCUMENT, "<html><body><h1>503 Service Unavailable</h1>no server is available</body></html>"),
            (503, NO_DOCUMENT, ""),
            (502, NO_DOCUMENT, "Bad Gateway"),
            (500, NO_DOCUMENT, ""),
        ];
        for (code, reason, message) in away_ones {
            assert!(is_away(&answer(code, reason, message)), "{code} {message}");
            assert_eq!(refused(code, reason, message).detail, away().detail, "{code} {message}");
        }
    }

    #[test]
    fn the_failure_of_a_webhook_a_node_or_another_server_is_told_in_the_server_s_words() {
        let table = [
            (
                500,
                "InternalError",
                "Internal error occurred: failed calling webhook \"x.example.org\": failed to call webhook: Post \
                 \"https://x.y.svc:443/\": context deadline exceeded",
                Kind::NotSupported,
                "webhook",
            ),
            (
                500,
                "InternalError",
                "Get \"https://10.0.0.5:10250/containerLogs/mcp/mcp-echo-1/service\": dial tcp 10.0.0.5:10250: i/o timeout",
                Kind::BackendUnavailable,
                "nodes",
            ),
            (503, NO_DOCUMENT, "service unavailable", Kind::BackendUnavailable, "apiservices"),
            (503, NO_DOCUMENT, "error trying to reach service: dial tcp 10.1.0.9:443", Kind::BackendUnavailable, "apiservices"),
        ];
        for (code, reason, message, kind, remedy) in table {
            let error = refused(code, reason, message);
            assert_eq!(error.kind, kind, "{message}");
            assert!(error.detail.contains(message), "{error} leaves out the server's words");
            assert!(error.remedy.is_some_and(|text| text.contains(remedy)), "{message}");
            assert!(!is_away(&answer(code, reason, message)), "{message}");
        }
    }
}
