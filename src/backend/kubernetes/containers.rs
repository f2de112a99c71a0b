//! Why a container of a pod does not run, as its node says. Pure.

use super::observed::{Container, Pod, Terminated, Waiting};
use super::reasons::{Reason, reason};
use crate::error::Kind;

/// So many lines of what a container said last are shown.
const LINES: usize = 10;

/// What is wrong with the container that brings the bridge, if anything is.
pub(super) fn of_bridge(container: &Container) -> Option<Reason> {
    if container.is_done() {
        return None;
    }
    let found = of_container(container, &container.image)?;
    let remedy = match found.code {
        "not_configured" => found.remedy,
        code if code.starts_with("image_") => format!("{}; kubernetes.bridge_image says which it is", found.remedy),
        _ => "set kubernetes.bridge_image to an image with mcp-bridge, and kubernetes.bridge_program to where that is".to_owned(),
    };
    Some(Reason { detail: format!("the bridge does not come into its pod: {}", found.detail), remedy, ..found })
}

/// What is wrong with a container, if anything is.
pub(super) fn of_container(container: &Container, image: &str) -> Option<Reason> {
    if let Some(waiting) = &container.waiting {
        match waiting.reason.as_str() {
            "ErrImagePull"
            | "ImagePullBackOff"
            | "InvalidImageName"
            | "ErrImageNeverPull"
            | "ImageInspectError"
            | "SignatureValidationFailed"
            | "RegistryUnavailable" => return Some(image_pull(waiting, image)),
            "CreateContainerConfigError" => return Some(configuration(waiting)),
            "CreateContainerError" | "RunContainerError" => return Some(cannot_run(&waiting.message)),
            _ => {}
        }
    }
    let ended = container.ended.as_ref()?;
    if matches!(ended.reason.as_str(), "StartError" | "ContainerCannotRun") {
        return Some(cannot_run(&ended.message));
    }
    // What the runtime says in the program's place; the node takes it for the program's own end.
    if ended.message.starts_with("exec ") && ended.message.trim_end().ends_with("exec format error") {
        return Some(Reason { ended: Some((ended.exit_code, container.restarts)), ..cannot_run(&ended.message) });
    }
    // What runs again and is well is a matter of the past.
    if container.running.is_some() && container.started {
        return None;
    }
    Some(ended_by_itself(container, ended))
}

fn ended_by_itself(container: &Container, ended: &Terminated) -> Reason {
    let (code, restarts, words) = (ended.exit_code, container.restarts, last_words(ended));
    let looping = container.waiting.as_ref().is_some_and(|waiting| waiting.reason == "CrashLoopBackOff");
    let (name, detail, remedy) = if ended.reason == "OOMKilled" {
        let detail = format!("it needed more memory than its limit and was killed (exit code {code}, {restarts} restarts)");
        ("out_of_memory", detail, "raise memory_limit, or find out what takes it")
    } else {
        let said = if words.is_empty() { String::new() } else { format!("; it said: {}", words.join(" | ")) };
        let detail = format!("it ended with exit code {code} after {restarts} restarts{said}");
        if looping {
            ("crash_loop", detail, "look at its logs, those of the previous container too")
        } else {
            ("exited", detail, "it is started again; look at its logs")
        }
    };
    Reason { ended: Some((code, restarts)), words, ..reason(name, Kind::StartFailed, false, detail, remedy) }
}

/// Whether a pod has no container because its image cannot be had.
pub(super) fn has_no_image(pod: &Pod) -> bool {
    let containers = pod.init.iter().chain([&pod.service]);
    let reasons = containers.filter_map(|container| container.waiting.as_ref());
    pod.service.running.is_none()
        && reasons.into_iter().any(|waiting| {
            matches!(waiting.reason.as_str(), "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull")
        })
}

fn image_pull(waiting: &Waiting, image: &str) -> Reason {
    let said = waiting.message.as_str();
    let has = |patterns: &[&str]| patterns.iter().any(|pattern| said.to_ascii_lowercase().contains(pattern));
    let told = |code, kind, what: &str, remedy: &str| {
        let detail = format!("the image '{image}' {what}");
        let detail = if said.is_empty() { detail } else { format!("{detail}: {said}") };
        reason(code, kind, true, detail, remedy)
    };
    if waiting.reason == "InvalidImageName" {
        return told("image_not_found", Kind::ImageNotFound, "has no valid name", "correct the image's name");
    }
    if waiting.reason == "SignatureValidationFailed" {
        let remedy = "use a signed image, or change which signatures the node asks for";
        return told("image_untrusted", Kind::ImageAccessDenied, "has no signature that its node accepts", remedy);
    }
    if waiting.reason == "ErrImageNeverPull" {
        let remedy = "load it onto the nodes, or set pull_policy to missing";
        return told("image_not_found", Kind::ImageNotFound, "is not on the node and may not be pulled", remedy);
    }
    if has(&["toomanyrequests", "429 too many requests", "rate limit"]) {
        let remedy = "wait, or give credentials (kubernetes.image_pull_secrets) with a higher limit";
        return told("image_rate_limited", Kind::RegistryUnavailable, "is held back by its registry's rate limit", remedy);
    }
    if has(&["unauthorized", "authentication required", "access denied", "403 forbidden", "insufficient_scope", "no basic auth"])
    {
        let remedy = "name a secret with the registry's credentials in kubernetes.image_pull_secrets";
        return told("image_refused", Kind::ImageAccessDenied, "is refused by its registry", remedy);
    }
    if has(&["no match for platform", "no matching manifest"]) {
        return told(
            "image_architecture",
            Kind::WrongArchitecture,
            "is not made for the node",
            "use an image for its architecture",
        );
    }
    if has(&["no space left"]) {
        return told("image_no_space", Kind::NoSpace, "does not fit on the node", "free disk space on the node");
    }
    if has(&["not found", "manifest unknown", "name unknown", "does not exist"]) {
        return told("image_not_found", Kind::ImageNotFound, "does not exist", "correct the image's name or tag");
    }
    let remedy = "check that the nodes reach the registry, and the image's name";
    told("image_unavailable", Kind::RegistryUnavailable, "could not be pulled", remedy)
}

fn configuration(waiting: &Waiting) -> Reason {
    let said = waiting.message.as_str();
    let remedy = if said.contains("root") || said.contains("non-numeric user") {
        "the image wants to run as root, which is not allowed: set 'user' to a number other than 0"
    } else if said.contains("secret") {
        "give the value of the secret to the manager"
    } else {
        "correct what the words name"
    };
    reason("not_configured", Kind::StartFailed, true, format!("the container cannot be made: {said}"), remedy)
}

fn cannot_run(said: &str) -> Reason {
    let mut kind = Kind::StartFailed;
    let remedy = if said.contains("no such file") || said.contains("executable file not found") {
        "the image has no such program: correct 'entrypoint' or 'command'"
    } else if said.contains("permission denied") {
        "the program may not be run by its user: check 'user' and the image"
    } else if said.contains("exec format error") {
        kind = Kind::WrongArchitecture;
        "use an image for the node's architecture; a script must name its interpreter in its first line"
    } else {
        "correct what the words name"
    };
    reason("cannot_run", kind, true, format!("the container cannot be started: {said}"), remedy)
}

/// The last lines that a container said, where the cluster keeps them.
pub(super) fn last_words(ended: &Terminated) -> Vec<String> {
    let lines: Vec<&str> = ended.message.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].iter().map(|line| (*line).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(word: &str, said: &str) -> Container {
        let waiting = Waiting { reason: word.into(), message: said.into() };
        Container { waiting: Some(waiting), image: "example.org/bridge:1".into(), ..Container::default() }
    }

    fn ended(word: &str, code: i64, said: &str) -> Container {
        let ended = Terminated { exit_code: code, reason: word.into(), message: said.into(), ..Terminated::default() };
        Container { ended: Some(ended), ..Container::default() }
    }

    #[test]
    fn what_keeps_the_bridge_away_is_told_as_that() {
        let table = [
            (waiting("ErrImagePull", "not found"), "image_not_found", "kubernetes.bridge_image"),
            (ended("StartError", 128, "exec: \"/bridge\": no such file"), "cannot_run", "kubernetes.bridge_program"),
            (waiting("CreateContainerConfigError", "image will run as root"), "not_configured", "'user'"),
        ];
        for (container, code, remedy) in table {
            let reason = of_bridge(&container).unwrap();
            assert_eq!(reason.code, code);
            assert!(reason.detail.contains("the bridge") && reason.remedy.contains(remedy), "{reason:?}");
        }
        assert!(of_bridge(&ended("Completed", 0, "")).is_none(), "that is how it ends when it has brought it");
    }

    #[test]
    fn an_image_that_no_node_can_keep_or_accept_is_told_as_that() {
        let table = [
            (waiting("ErrImagePull", "write /var/lib/x: no space left on device"), "image_no_space"),
            (waiting("SignatureValidationFailed", "no signature"), "image_untrusted"),
            (waiting("InvalidImageName", "couldn't parse image name"), "image_not_found"),
        ];
        for (container, code) in table {
            let reason = of_container(&container, "x").unwrap();
            assert_eq!((reason.code, reason.hard), (code, true));
        }
    }

    #[test]
    fn a_program_for_another_machine_cannot_run_whoever_says_so() {
        for container in [
            ended("Error", 255, "exec /server: exec format error\n"),
            waiting("RunContainerError", "exec: \"/server\": exec format error"),
        ] {
            let reason = of_container(&container, "x").unwrap();
            assert_eq!((reason.code, reason.kind, reason.hard), ("cannot_run", Kind::WrongArchitecture, true));
        }
        let own = ended("Error", 1, "sh: exec /x: exec format error\nbye");
        assert_eq!(of_container(&own, "x").unwrap().code, "exited");
    }
}
