//! Claims about the templates and image recipes that the product ships.

use std::path::{Path, PathBuf};

use mcp_manager::domain::spec::{Defaults, ServiceSpec, SpecInput, Transport};
use mcp_manager::domain::template::{Template, json_schema};
use serde_json::Value;

fn root(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)
}

/// Every shipped template: its file's name without the ending, and its document.
fn shipped() -> Vec<(String, Value)> {
    let files = std::fs::read_dir(root("templates")).unwrap().map(|entry| entry.unwrap().path());
    let json = files.filter(|path| path.extension().is_some_and(|ending| ending == "json"));
    json.map(|path| {
        let document =
            serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (path.file_stem().unwrap().to_str().unwrap().to_owned(), document)
    })
    .collect()
}

/// The service that a template makes where a request adds nothing.
fn service(template: &Template) -> ServiceSpec {
    let made = template.instantiate(SpecInput::default(), &Defaults::default(), &|_| None);
    made.unwrap_or_else(|error| panic!("{}: {error:?}", template.name))
}

#[test]
fn the_promised_templates_are_shipped_under_their_own_names() {
    let mut names: Vec<_> = shipped().into_iter().map(|(file, _)| file).collect();
    names.sort_unstable();
    let promised = [
        "echo",
        "everything",
        "fastapi",
        "fetch",
        "filesystem",
        "git",
        "memory",
        "nginx",
        "sequential-thinking",
        "sqlite",
        "time",
    ];
    assert_eq!(names, promised);
    for (file, document) in shipped() {
        assert_eq!(document["name"], file.as_str());
    }
}

#[test]
fn every_shipped_template_validates_against_the_published_schema() {
    let validator = jsonschema::validator_for(&json_schema()).unwrap();
    for (file, document) in shipped() {
        let errors: Vec<_> =
            validator.iter_errors(&document).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(errors.is_empty(), "{file}: {errors:#?}");
    }
}

#[test]
fn every_shipped_template_makes_a_service_without_further_input() {
    for (file, document) in shipped() {
        let template = Template::from_document(&document, None).unwrap_or_else(|errors| panic!("{file}: {errors:?}"));
        assert!(template.description.is_some() && !template.capabilities.is_empty(), "{file} says nothing about itself");
        assert!(service(&template).port.is_some(), "{file} has no port to be reached at");
    }
}

#[test]
fn only_fetch_and_nginx_open_a_lock_and_servers_that_speak_stdio_say_their_program() {
    for (file, document) in shipped() {
        let spec = service(&Template::from_document(&document, None).unwrap());
        assert_eq!(spec.egress, file == "fetch", "{file}");
        // Where capabilities are refused, as in a cluster, nginx runs as an ordinary user: k8s/templates/.
        assert_eq!(spec.cap_add.is_empty(), file != "nginx", "{file}");
        assert!(spec.read_only && spec.no_new_privileges, "{file}");
        let stdio = !["echo", "fastapi", "nginx"].contains(&file.as_str());
        assert_eq!(spec.transport == Transport::Stdio, stdio, "{file}");
        // A cluster does not tell what an image would run. It is what the recipe says.
        let program = spec.entrypoint.clone().unwrap_or_default();
        assert_eq!(program.is_empty(), !stdio, "{file}");
        if stdio {
            let recipe = std::fs::read_to_string(root("docker").join(&file).join("Dockerfile")).unwrap();
            assert!(recipe.contains(&format!("\nENTRYPOINT {}\n", serde_json::to_string(&program).unwrap())), "{file}");
            let command =
                recipe.lines().find_map(|line| line.strip_prefix("CMD ")).map(|line| serde_json::from_str(line).unwrap());
            assert_eq!(spec.command, command.unwrap_or_else(Vec::<String>::new), "{file}");
        }
    }
}

#[test]
fn every_image_of_our_own_has_a_recipe_that_does_not_run_as_root() {
    for (file, document) in shipped() {
        let image = document["image"].as_str().unwrap();
        let Some(name) = image.strip_prefix("localhost/mcp/") else {
            assert!(image.starts_with("docker.io/"), "{file}: {image} can come from anywhere");
            continue;
        };
        let recipe = root("docker").join(name.trim_end_matches(":latest")).join("Dockerfile");
        let text = std::fs::read_to_string(&recipe).unwrap_or_else(|error| panic!("{}: {error}", recipe.display()));
        let user = text.lines().filter_map(|line| line.strip_prefix("USER ")).next_back();
        assert!(user.is_some_and(|user| user.starts_with(|first: char| ('1'..='9').contains(&first))), "{file}: user {user:?}");
        // A name that no registry answers for: pulling it could only fetch a stranger's image.
        let pull = document.get("pull_policy").or_else(|| document["default_config"].get("pull_policy"));
        assert_eq!(pull.and_then(Value::as_str), Some("never"), "{file}");
    }
}
