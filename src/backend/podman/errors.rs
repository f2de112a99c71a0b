//! From the engine's words to errors of the product. Pure.
//!
//! The engine answers most failures with status 500 and a sentence, so the sentence is all there is to tell them apart.
//! Each pattern below was seen; what matches none keeps the engine's own words.

use std::borrow::Cow;

use super::client::EngineError;
use super::local_images;
use crate::domain::spec::{ServiceSpec, unknown_secrets};
use crate::error::{Error, Kind};

/// An error of the engine outside of creating and starting; `doing` completes "cannot …".
pub(super) fn engine(error: EngineError, doing: &str) -> Error {
    match &error {
        EngineError::Away(_) | EngineError::Late(_) => away().because(error),
        EngineError::Refused { message, .. } if no_space(message) => space(),
        EngineError::Refused { message, .. } => {
            Error::new(Kind::Internal, format!("cannot {doing}: {}", words(message))).remedy(REFUSED).because(error)
        }
        EngineError::Odd(_) => Error::internal(format!("cannot {doing}"), error).remedy(REFUSED),
    }
}

/// What may help where the engine does not do what it always does.
const REFUSED: &str = "try again; `mcp-manager doctor` looks at the engine, and the manager's log has all that it said";

/// The engine does not answer.
pub(super) fn away() -> Error {
    Error::new(Kind::BackendUnavailable, "the container engine does not answer")
        .remedy("running services go on; it is tried again all the time. `mcp-manager doctor` tells what is missing")
}

fn space() -> Error {
    Error::new(Kind::NoSpace, "no space is left in the container engine's storage")
        .remedy("remove images and volumes that are not needed (podman system prune), or enlarge the disk")
}

fn no_space(message: &str) -> bool {
    // The last one is SQLite's, in which Podman 5 keeps what there is.
    ["no space left on device", "disk quota exceeded", "database or disk is full"].iter().any(|pattern| message.contains(pattern))
}

/// The engine's sentence without its habit of saying the cause twice (`a: b: b`).
fn words(message: &str) -> &str {
    let half = message.rmatch_indices(": ").find_map(|(at, _)| {
        let (before, cause) = (&message[..at], &message[at + 2..]);
        (before == cause || before.ends_with(&format!(": {cause}")) || before.ends_with(&format!(" {cause}"))).then_some(before)
    });
    half.unwrap_or(message).trim_end_matches([':', ' '])
}

/// The text between the last pair of double quotes.
fn quoted(message: &str) -> Option<&str> {
    let (before, _) = message.rsplit_once('"')?;
    before.rsplit_once('"').map(|(_, quoted)| quoted)
}

/// The secret, with its variable, that somebody took out of the engine just before a start.
fn lost_secret<'a>(message: &str, spec: &'a ServiceSpec) -> Option<(&'a str, &'a str)> {
    let name = if message.contains("no such secret") { quoted(message)? } else { return None };
    let (variable, name) = spec.secrets.iter().find(|(_, secret)| *secret == name)?;
    Some((variable, name))
}

/// Whether a start failed for one of the engine's secrets that were there just before: another manager is replacing it.
pub(super) fn is_without_secret<'a>(error: &EngineError, mut held: impl Iterator<Item = &'a String>) -> bool {
    let EngineError::Refused { message, .. } = error else { return false };
    message.contains("no such secret") && quoted(message).is_some_and(|name| held.any(|secret| secret == name))
}

/// Variables, with their secrets, of which neither the manager nor the engine knows the value.
pub(super) fn no_secrets<'a>(missing: impl IntoIterator<Item = (&'a str, &'a str)>) -> Error {
    unknown_secrets(missing, Some(|name| format!("podman secret create {name} FILE")))
}

/// A container that could not be created or started.
pub(super) fn start(error: EngineError, spec: &ServiceSpec) -> Error {
    let EngineError::Refused { message, .. } = &error else { return engine(error, "start the service") };
    let said = words(message);
    let has = |pattern: &str| message.contains(pattern);
    let failed = |detail: String| Error::new(Kind::StartFailed, detail);
    let told = if no_space(message) {
        space()
    } else if let Some(missing) = lost_secret(message, spec) {
        no_secrets([missing])
    } else if has("network not found") {
        let network = message.split("name or ID ").nth(1).and_then(|rest| rest.split(':').next()).unwrap_or_default();
        let remedy = format!("create it (podman network create {network}) or leave it out");
        Error::invalid_field("networks", format!("there is no network '{network}'"), remedy)
    } else if has("address already in use") {
        taken_port(message)
    } else if has("statfs ") && has("no such file or directory") {
        let path = message.split("statfs ").nth(1).and_then(|rest| rest.split(':').next()).unwrap_or_default();
        Error::invalid_field("volumes", format!("the host path {path} does not exist"), "create it, or correct the path")
    } else if has("no matching entries in passwd file") {
        let user = spec.user.as_deref().unwrap_or_default();
        Error::invalid_field("user", format!("the image has no user '{user}'"), "name a user of the image, or give UID:GID")
    } else if has("exec format error") {
        wrong_architecture(&spec.image, None)
    } else if has("command that was not found") || has("executable file not found") {
        failed(format!("the image has no such program: {said}"))
            .remedy("correct 'command' or 'entrypoint', or choose another image")
    } else if has("permission denied") {
        failed(format!("the container was refused something it needs: {said}"))
            .remedy("check the image's user, and whether it needs a writable root (read_only: false) or a capability (cap_add)")
    } else {
        failed(format!("the container engine says: {said}"))
            .remedy("correct what it names in the service's description; `mcp-manager doctor` looks for what this machine lacks")
    };
    told.because(error)
}

/// Address and port out of `… listen tcp 127.0.0.1:8080: bind: address already in use`.
fn taken_address(message: &str) -> (&str, &str) {
    let address = message.split_whitespace().find(|word| word.trim_end_matches(':').contains(':'));
    let address = address.unwrap_or_default().trim_end_matches(':');
    (address, address.rsplit(':').next().unwrap_or_default())
}

/// Whether a start failed because the free port that the engine chose when it made the container has been taken by
/// somebody else since. The container keeps that port for good, so only a new container helps.
pub(super) fn lost_its_port(error: &EngineError, spec: &ServiceSpec) -> bool {
    let EngineError::Refused { message, .. } = error else { return false };
    if !message.contains("address already in use") {
        return false;
    }
    let (_, port) = taken_address(message);
    port.parse().is_ok_and(|port: u16| !spec.ports.values().any(|fixed| *fixed == port))
}

/// Why the init process in front of a service could not start the service's own program, out of what it wrote last.
/// Without it the engine itself would have refused the start.
pub(super) fn not_executable(last_words: &[String], spec: &ServiceSpec) -> Option<Error> {
    let reason = last_words.iter().find_map(|line| line.split_once("failed to exec pid1: "))?.1.trim();
    if reason.contains("Exec format error") {
        return Some(wrong_architecture(&spec.image, None));
    }
    let program = spec.entrypoint.as_ref().and_then(|words| words.first()).or_else(|| spec.command.first());
    let program = program.map_or_else(|| "the image's program".to_owned(), |program| format!("'{program}'"));
    // The init process looks for a shell to run what is no program of this machine, and says so of that shell.
    let hint = if reason.contains("No such file") { " (it, its interpreter, or it is not built for this machine)" } else { "" };
    let error = Error::new(Kind::StartFailed, format!("{program} cannot be run in the image: {reason}{hint}"));
    Some(error.remedy("correct 'command' or 'entrypoint', or choose another image"))
}

fn taken_port(message: &str) -> Error {
    let (address, port) = taken_address(message);
    Error::new(Kind::Conflict, format!("port {port} is taken on this machine ({address})"))
        .remedy("choose another host port in 'ports', or stop what listens there")
}

pub(super) fn wrong_architecture(image: &str, found: Option<(&str, &str)>) -> Error {
    let detail = match found {
        Some((image_is, machine_is)) => format!("the image {image} is built for {image_is}, this machine is {machine_is}"),
        None => format!("the image {image} is not built for this machine"),
    };
    Error::new(Kind::WrongArchitecture, detail).remedy("use an image that is built for this machine's architecture")
}

/// A pull that failed, from the registry's and engine's words.
pub(super) fn pull(image: &str, message: &str) -> Error {
    let message = &*plain_status(message);
    let lower = message.to_lowercase();
    let has = |patterns: &[&str]| patterns.iter().any(|pattern| lower.contains(pattern));
    let of = |kind, detail: &str, remedy: &str| {
        Error::new(kind, format!("the image {image} cannot be pulled: {detail}")).remedy(remedy).because(message.to_owned())
    };
    if no_space(&lower) {
        return space().because(message.to_owned());
    }
    if has(&["no image found in image index for architecture", "no image found in manifest list for architecture"]) {
        return wrong_architecture(image, None).because(message.to_owned());
    }
    if has(&["invalid reference format", "repository name must be lowercase"]) {
        return Error::invalid_field("image", format!("'{image}' is not an image reference"), "write REGISTRY/NAME:TAG");
    }
    if has(&["did not resolve to an alias", "short-name resolution enforced"]) {
        return of(
            Kind::ImageNotFound,
            "its name does not say from which registry",
            "write the full name, docker.io/library/NAME:TAG",
        );
    }
    if has(&["unauthorized", "authentication required", "denied", "no basic auth credentials"]) || answered(&lower, 403) {
        let remedy = "check the name; if the image is not public, name a file with the registry's credentials (podman login \
                      --authfile FILE REGISTRY) in the setting REGISTRY_AUTH_FILE";
        return of(Kind::ImageAccessDenied, "the registry refused access, or there is no such image", remedy);
    }
    if has(&["manifest unknown", "name unknown", "not found", "image not known"]) || answered(&lower, 404) {
        return of(Kind::ImageNotFound, "the registry does not know it", "check the name and the tag");
    }
    if has(&["connection refused"]) && local_images::is_local(image) {
        let remedy = local_images::remedy(image);
        return of(Kind::ImageNotFound, "it is not on this machine, and no registry answers for localhost", &remedy);
    }
    let detail = words(message).rsplit(": ").next().unwrap_or(message);
    let known = BROKEN_PULLS.iter().find(|(patterns, ..)| has(patterns));
    let (told, remedy) =
        known.map_or(("the registry cannot be reached", "check the network and the registry"), |row| (row.1, row.2));
    of(Kind::RegistryUnavailable, &format!("{told} ({detail})"), remedy)
}

/// The words of Podman 4 for a registry's answer that gives no reason that clients know; those of Podman 5 are
/// `error parsing HTTP 403 response body: unexpected end of JSON input: ""`.
fn plain_status(message: &str) -> Cow<'_, str> {
    let status = message.split_once("error parsing HTTP ").and_then(|(before, rest)| {
        let (status, _) = rest.split_once(" response body")?;
        status.parse::<u16>().ok().map(|status| format!("{before}StatusCode: {status}"))
    });
    status.map_or(Cow::Borrowed(message), Cow::Owned)
}

/// Whether the registry answered with this status: said so when it asked for the registry, and so for the image, if the
/// answer gave no reason that clients know.
fn answered(lower: &str, status: u16) -> bool {
    ["status code from registry", "statuscode:"].iter().any(|words| lower.contains(&format!("{words} {status}")))
}

/// The engine's words for a layer that it no longer has.
pub(super) const LOST_LAYER: &str = "layer not known";

/// Ways in which a registry is there and gives no image all the same: the engine's words, ours, and what to do.
const BROKEN_PULLS: [(&[&str], &str, &str); 8] = [
    (&[LOST_LAYER], "a layer of it went with another image that was removed meanwhile", "try again"),
    (&["timeout", "deadline exceeded"], "the registry did not answer in time", "try again, or check the network"),
    (
        &["server gave http response to https client", "first record does not look like a tls handshake"],
        "the registry speaks HTTP without encryption",
        "if it is to be trusted, give it insecure = true in the engine's registries.conf, and start the engine anew",
    ),
    (
        &["x509: ", "certificate"],
        "the registry's certificate is not trusted",
        "put the authority's certificate into /etc/containers/certs.d/REGISTRY on the engine's machine",
    ),
    (
        &["no such host", "server misbehaving"],
        "the registry's name is not known",
        "check the name, and the machine's name server",
    ),
    (
        &["too many requests", "toomanyrequests", "rate limit", "statuscode: 429"],
        "the registry wants fewer requests",
        "try again later, or give credentials in the setting REGISTRY_AUTH_FILE",
    ),
    (
        &["digest did not match", "unexpected eof", "connection reset", "broken pipe"],
        "the registry sent the image incompletely or wrongly",
        "try again; if that does not help, look at the registry and at proxies on the way",
    ),
    (
        &["status code from registry 5", "http status: 5", "internal server error", "service unavailable", "bad gateway"],
        "the registry reports a fault of its own",
        "try again later, or tell whoever runs the registry",
    ),
];

/// Whether a creation that failed so may succeed later without anybody changing anything.
pub(super) const fn may_pass(kind: Kind) -> bool {
    matches!(kind, Kind::RegistryUnavailable | Kind::NoSpace | Kind::Timeout | Kind::BackendUnavailable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(message: &str) -> EngineError {
        EngineError::Refused { status: 500, message: message.to_owned() }
    }

    #[test]
    fn every_way_a_pull_fails_has_its_kind() {
        let table = [
            (
                "initializing source docker://x: reading manifest nope in docker.io/library/nginx: manifest unknown",
                Kind::ImageNotFound,
            ),
            (
                "reading manifest latest in docker.io/library/x: errors:\ndenied: requested access to the resource is denied",
                Kind::ImageAccessDenied,
            ),
            (
                "unable to retrieve auth token: invalid username/password: unauthorized: authentication required",
                Kind::ImageAccessDenied,
            ),
            (
                "pinging container registry 127.0.0.1:1: Get \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused",
                Kind::RegistryUnavailable,
            ),
            ("dial tcp: lookup nowhere.invalid: no such host", Kind::RegistryUnavailable),
            (
                "received unexpected HTTP status: invalid status code from registry 500 (Internal Server Error)",
                Kind::RegistryUnavailable,
            ),
            ("tls: first record does not look like a TLS handshake", Kind::RegistryUnavailable),
            (
                "choosing an image from manifest list: no image found in image index for architecture amd64, variant \"\", OS linux",
                Kind::WrongArchitecture,
            ),
            (
                "writing blob: storing blob to file \"/var/tmp/storage1\": write /var/tmp/storage1: no space left on device",
                Kind::NoSpace,
            ),
            ("localhost/x: image not known", Kind::ImageNotFound),
            ("invalid reference format", Kind::Invalid),
            (
                "short-name \"x\" did not resolve to an alias and no unqualified-search registries are defined",
                Kind::ImageNotFound,
            ),
            ("Get \"https://example/v2/\": net/http: TLS handshake timeout", Kind::RegistryUnavailable),
        ];
        for (message, kind) in table {
            let error = pull("x", message);
            assert_eq!(error.kind, kind, "{message}");
            assert!(error.remedy.is_some() || !error.fields.is_empty(), "no remedy for: {message}");
        }
    }

    #[test]
    fn what_a_registry_did_wrong_is_told_apart() {
        let table = [
            (
                "x",
                "Get \"https://r/v2/\": http: server gave HTTP response to HTTPS client",
                "without encryption",
                "insecure = true",
            ),
            (
                "x",
                "Get \"https://r/v2/\": tls: failed to verify certificate: x509: certificate signed by unknown authority",
                "not trusted",
                "certs.d",
            ),
            ("x", "dial tcp: lookup nowhere.invalid: no such host", "name is not known", "name server"),
            ("x", "reading blob sha256:1: unexpected EOF", "incompletely", "try again"),
            ("x", "received unexpected HTTP status: 503 Service Unavailable", "fault of its own", "try again later"),
            ("x", "dial tcp 1.2.3.4:443: i/o timeout", "in time (i/o timeout)", "network"),
            ("x", "dial tcp 1.2.3.4:443: connect: connection refused", "cannot be reached (connection refused)", "network"),
            ("localhost/x", "dial tcp [::1]:443: connect: connection refused", "not on this machine", "podman build"),
            ("x", "unauthorized: authentication required", "refused access", "REGISTRY_AUTH_FILE"),
            ("x", "reading manifest 1 in r/x: StatusCode: 403, ", "refused access", "REGISTRY_AUTH_FILE"),
            ("x", "reading manifest 1 in r/x: StatusCode: 404, <html>", "does not know it", "tag"),
            ("x", "error parsing HTTP 403 response body: invalid character '<': \"<\"", "refused access", "REGISTRY_AUTH_FILE"),
            ("x", "error parsing HTTP 404 response body: unexpected end of JSON input: \"\"", "does not know it", "tag"),
            ("x", "error parsing HTTP 429 response body: unexpected end of JSON input: \"\"", "fewer requests", "later"),
            (
                "x",
                "error parsing HTTP 418 response body: unexpected end of JSON input: \"\"",
                "cannot be reached (418)",
                "network",
            ),
            ("x", "reading manifest 1 in r/x: StatusCode: 429, \"\"", "fewer requests", "try again later"),
        ];
        for (image, message, told, remedy) in table {
            let error = pull(image, message);
            assert!(error.detail.contains(told), "{} does not contain {told}", error.detail);
            assert!(
                error.remedy.as_ref().is_some_and(|said| said.contains(remedy)),
                "{:?} does not contain {remedy}",
                error.remedy
            );
        }
    }

    #[test]
    fn every_way_a_start_fails_says_what_to_do() {
        let secrets = [("TOKEN".to_owned(), "nosecret".to_owned())].into();
        let spec = ServiceSpec { secrets, user: Some("nosuch".into()), ..ServiceSpec::default() };
        let table = [
            (
                "rootlessport listen tcp 127.0.0.1:18999: bind: address already in use: rootlessport listen tcp 127.0.0.1:18999: bind: address already in use",
                Kind::Conflict,
                "port 18999 is taken",
            ),
            (
                "unable to find network with name or ID nope: network not found: network not found",
                Kind::Invalid,
                "networks: there is no network 'nope'",
            ),
            (
                "running container create option: no secret with name or id \"nosecret\": no such secret: no such secret",
                Kind::Invalid,
                "secrets.TOKEN: there is no secret 'nosecret'",
            ),
            (
                "statfs /nonexist: no such file or directory: no such file or directory",
                Kind::Invalid,
                "volumes: the host path /nonexist does not exist",
            ),
            (
                "unable to find user nosuch: no matching entries in passwd file: no matching entries in passwd file",
                Kind::Invalid,
                "user: the image has no user 'nosuch'",
            ),
            (
                "runc: runc create failed: unable to start container process: exec: \"/nope\": stat /nope: no such file or directory: OCI runtime attempted to invoke a command that was not found: OCI runtime attempted to invoke a command that was not found",
                Kind::StartFailed,
                "the image has no such program",
            ),
            ("runc: exec /x: exec format error: OCI runtime error", Kind::WrongArchitecture, "not built for this machine"),
            ("write /x: no space left on device: no space left on device", Kind::NoSpace, "no space"),
            ("adding volume to database: database or disk is full", Kind::NoSpace, "no space"),
            ("something new: cause", Kind::StartFailed, "something new: cause"),
        ];
        for (message, kind, text) in table {
            let error = start(refused(message), &spec);
            assert_eq!(error.kind, kind, "{message}");
            assert!(error.detail.contains(text), "{} does not contain {text}", error.detail);
        }
    }

    #[test]
    fn a_program_that_cannot_be_run_is_no_crash() {
        let spec = ServiceSpec { entrypoint: Some(vec!["/nope".into()]), ..ServiceSpec::default() };
        let said = |reason: &str| vec![format!("ERROR (catatonit:2): failed to exec pid1: {reason}")];
        let error = not_executable(&said("No such file or directory"), &spec).unwrap();
        assert_eq!(error.kind, Kind::StartFailed);
        assert!(error.detail.contains("'/nope'") && error.detail.contains("No such file"), "{error}");
        assert_eq!(not_executable(&said("Exec format error"), &spec).unwrap().kind, Kind::WrongArchitecture);
        assert!(not_executable(&["panic".to_owned()], &spec).is_none());
    }

    #[test]
    fn a_port_that_nobody_asked_for_is_given_up() {
        let error = refused("rootlessport listen tcp 127.0.0.1:18999: bind: address already in use: x");
        assert!(lost_its_port(&error, &ServiceSpec::default()));
        assert!(!lost_its_port(&error, &ServiceSpec { ports: [(80, 18_999)].into(), ..ServiceSpec::default() }));
        assert!(!lost_its_port(&refused("no such secret"), &ServiceSpec::default()));
    }

    #[test]
    fn a_secret_that_was_there_just_before_is_told_from_others() {
        let error = refused("no secret with name or id \"mcp.key\": no such secret");
        assert!(is_without_secret(&error, ["mcp.key".to_owned()].iter()));
        assert!(!is_without_secret(&error, ["key".to_owned()].iter()));
    }

    #[test]
    fn a_cause_is_not_said_twice() {
        assert_eq!(words("a b: c: c"), "a b: c");
        assert_eq!(words("c: c"), "c");
        assert_eq!(words("one: two"), "one: two");
        assert_eq!(words("alone: "), "alone");
    }
}
