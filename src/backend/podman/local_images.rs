//! Images that are built on the machine and that no registry has: how to get one that is not there. Pure.

use crate::domain::package::shipped;
use crate::error::{Error, Kind};

/// Where images of shipped templates are named.
const SHIPPED: &str = "localhost/mcp/";

/// An image that is not at hand and must not be pulled.
pub(super) fn not_at_hand(image: &str) -> Error {
    let remedy =
        if is_local(image) { remedy(image) } else { "build or load it first, or set pull_policy to 'missing'".to_owned() };
    Error::new(Kind::ImageNotFound, format!("the image {image} is not on this machine, and the pull policy is 'never'"))
        .remedy(remedy)
}

/// Whether an image's name says that it was built on the machine. No registry is asked for such a name on purpose.
pub(super) fn is_local(image: &str) -> bool {
    image.starts_with("localhost/")
}

/// What makes a local image available: for that of a shipped template the very command.
pub(super) fn remedy(image: &str) -> String {
    let name = image.strip_prefix(SHIPPED).and_then(|rest| rest.split([':', '@']).next()).unwrap_or_default();
    let build = if name == "echo" {
        format!("`podman build -t {image} -f docker/echo/Dockerfile FOLDER`, with the program mcp-echo in FOLDER")
    } else if shipped::names().any(|one| one == name) {
        format!("`podman build -t {image} docker/{name}` in the project's folder")
    } else {
        format!("`podman build -t {image} FOLDER`")
    };
    format!("build it as the user that runs the engine: {build}; or load it: `podman load --input FILE`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_for_an_image_of_a_shipped_template_is_its_command() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut built = Vec::new();
        for entry in std::fs::read_dir(root.join("templates")).unwrap() {
            let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            let template: serde_json::Value = serde_json::from_str(&text).unwrap();
            let image = template["image"].as_str().unwrap();
            let Some(name) = image.strip_prefix(SHIPPED).and_then(|rest| rest.strip_suffix(":latest")) else { continue };
            assert!(root.join("docker").join(name).join("Dockerfile").is_file(), "{image} has no recipe");
            if name != "echo" {
                assert!(remedy(image).contains(&format!("`podman build -t {image} docker/{name}`")), "{}", remedy(image));
                built.push(name.to_owned());
            }
        }
        built.sort_unstable();
        assert_eq!(built, shipped::names().collect::<Vec<_>>());
        assert!(remedy("localhost/mcp/echo:latest").contains("docker/echo/Dockerfile"));
        assert!(remedy("localhost/mcp/fastapi@sha256:1").contains("docker/fastapi`"));
        assert!(remedy("localhost/mcp/mine").contains("FOLDER") && remedy("localhost/x").contains("FOLDER"));
    }

    #[test]
    fn an_image_that_must_not_be_pulled_is_built_if_it_is_local_and_else_pulled() {
        assert!(not_at_hand("localhost/x").remedy.unwrap().contains("podman build"));
        assert!(not_at_hand("docker.io/x").remedy.unwrap().contains("missing"));
    }
}
