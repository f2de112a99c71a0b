//! Requests out of what users write: the arguments of `run`, and the files of `apply`.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::de::IgnoredAny;
use serde_json::Value;

use super::arguments::Run;
use super::exit::Outcome;
use crate::config::Environment;
use crate::domain::document::Document;
use crate::domain::fields;
use crate::domain::quantity::{Bytes, MilliCpu, Span};
use crate::domain::spec::{EnvironmentValue, PortNumber, SpecInput, Volumes, Words};
use crate::error::{Error, FieldError, Result};
use crate::manager::ServiceRequest;

/// The request that the arguments of `run` make; all that is wrong with them otherwise.
pub fn from_arguments(run: &Run, environment: &Environment) -> Result<ServiceRequest> {
    let mut read = Reader { errors: Vec::new() };
    // The template of the same name is what is meant when nothing is said.
    let template = run.template.clone().or_else(|| run.image.is_none().then(|| run.name.clone()));
    let volumes = serde_json::from_value::<Volumes>(run.volume.clone().into());
    let volumes = volumes.map_err(|error| read.wrong("--volume", error.to_string(), "write SOURCE:TARGET or SOURCE:TARGET:ro"));
    let json = |text: &Option<String>| text.clone().map(Value::String);
    let spec = SpecInput {
        image: run.image.clone(),
        port: run.port,
        environment: some(read.variables(&run.env, environment)),
        secrets: some(read.pairs("--secret", &run.secret, "write NAME=SECRET")),
        labels: some(read.labels(&run.label)),
        volumes: volumes.ok().filter(|volumes| !volumes.0.is_empty()),
        ports: some(read.ports(&run.publish)),
        replicas: run.replicas,
        memory_limit: read.quantity::<Bytes>("--memory", run.memory.as_deref()),
        cpu_limit: read.quantity::<MilliCpu>("--cpus", run.cpus.as_deref()),
        pids_limit: run.pids,
        user: run.user.clone(),
        networks: (!run.network.is_empty()).then(|| run.network.clone()),
        health_check_path: run.health_path.clone(),
        start_timeout: read.quantity::<Span>("--start-timeout", run.start_timeout.as_deref()),
        restart_policy: read.value("--restart", json(&run.restart), "use no, always, unless-stopped or on-failure"),
        pull_policy: read.value("--pull", json(&run.pull), "use always, missing or never"),
        read_only: run.writable.then_some(false),
        egress: run.egress.then_some(true),
        entrypoint: read.value("--entrypoint", json(&run.entrypoint), "close the quote"),
        command: (!run.command.is_empty()).then(|| Words(run.command.clone())),
        ..SpecInput::default()
    };
    if read.errors.is_empty() {
        Ok(ServiceRequest::new(run.name.clone(), template, spec))
    } else {
        Err(Error::invalid("the command cannot be understood", read.errors))
    }
}

fn some<K, V>(map: BTreeMap<K, V>) -> Option<BTreeMap<K, V>> {
    (!map.is_empty()).then_some(map)
}

struct Reader {
    errors: Vec<FieldError>,
}

impl Reader {
    /// What follows `; ` in messages of our own types is their remedy and goes before the general one.
    fn wrong(&mut self, flag: &str, message: impl Into<String>, remedy: &str) {
        let message = message.into();
        let (message, remedy) = message.split_once("; ").unwrap_or((&message, remedy));
        self.errors.push(FieldError::new(flag, message, remedy));
    }

    fn quantity<T: FromStr<Err = String>>(&mut self, flag: &str, text: Option<&str>) -> Option<T> {
        text?.parse().map_err(|error: String| self.wrong(flag, error, "write it as the help says")).ok()
    }

    fn value<T: serde::de::DeserializeOwned>(&mut self, flag: &str, value: Option<Value>, remedy: &str) -> Option<T> {
        serde_json::from_value(value?).map_err(|error| self.wrong(flag, error.to_string(), remedy)).ok()
    }

    /// `NAME=VALUE` pairs.
    fn pairs(&mut self, flag: &str, texts: &[String], remedy: &str) -> BTreeMap<String, String> {
        let mut pairs = BTreeMap::new();
        for text in texts {
            match text.split_once('=') {
                Some((name, value)) if !name.is_empty() => {
                    pairs.insert(name.to_owned(), value.to_owned());
                }
                _ => self.wrong(flag, format!("'{}' has no name or no value", text.escape_debug()), remedy),
            }
        }
        pairs
    }

    fn labels(&mut self, texts: &[String]) -> BTreeMap<String, EnvironmentValue> {
        let pairs = self.pairs("--label", texts, "write NAME=VALUE");
        pairs.into_iter().map(|(name, value)| (name, EnvironmentValue(value))).collect()
    }

    /// `NAME=VALUE`, or `NAME` for the value it has here.
    fn variables(&mut self, texts: &[String], environment: &Environment) -> BTreeMap<String, EnvironmentValue> {
        let mut variables = BTreeMap::new();
        for text in texts {
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (text.as_str(), environment.get(text)),
            };
            match value {
                Some(value) if !name.is_empty() => {
                    variables.insert(name.to_owned(), EnvironmentValue(value.to_owned()));
                }
                _ => self.wrong(
                    "--env",
                    format!("'{}' has no name, or no value here and in this environment", name.escape_debug()),
                    "write NAME=VALUE",
                ),
            }
        }
        variables
    }

    /// `HOST:CONTAINER` ports.
    fn ports(&mut self, texts: &[String]) -> BTreeMap<String, PortNumber> {
        let mut ports = BTreeMap::new();
        for text in texts {
            let pair =
                text.split_once(':').and_then(|(host, container)| Some((host.parse().ok()?, container.parse::<u16>().ok()?)));
            match pair {
                Some((host, container)) if host > 0 && container > 0 => {
                    ports.insert(container.to_string(), PortNumber(host));
                }
                _ => self.wrong(
                    "--publish",
                    format!("'{}' is not a pair of ports", text.escape_debug()),
                    "write HOST:CONTAINER, e.g. 8080:80",
                ),
            }
        }
        ports
    }
}

/// The services that files describe, by name, in order. Every file is read before any is judged: when something is wrong that
/// the manager would not see, all that is wrong is told, and nothing is sent.
pub fn from_files(files: &[PathBuf]) -> Outcome<Vec<(String, Value)>> {
    let mut services = Vec::new();
    let mut errors = Vec::new();
    let mut is_unseen = false;
    // Where each name stands: one service cannot be two things, and would change at every run.
    let mut places: BTreeMap<String, &Path> = BTreeMap::new();
    for file in files {
        let text = read_text(file)?;
        let mut found = 0_usize;
        for part in parts(&text) {
            is_unseen |= part.is_unseen;
            let named = |error: FieldError| FieldError { message: format!("{}, in {}", error.message, shown(file)), ..error };
            errors.extend(part.errors.into_iter().map(named));
            for service in part.services {
                found += 1;
                let name = ["service_name", "name"].iter().find_map(|key| service.get(*key)).and_then(Value::as_str);
                if let Some(name) = name.map(str::to_owned) {
                    if let Some(first) = places.get(&name) {
                        is_unseen = true;
                        let place = if *first == file { "twice in".to_owned() } else { format!("in {} and in", shown(first)) };
                        let message = format!("'{}' is described {place} {}", name.escape_debug(), shown(file));
                        errors.push(FieldError::new("service_name", message, "keep one description of each service"));
                    } else {
                        places.insert(name.clone(), file);
                    }
                    services.push((name, service));
                } else {
                    is_unseen = true;
                    let message = format!("service {found} in {} has no name", shown(file));
                    errors.push(FieldError::new("service_name", message, "write {\"service_name\": \"…\", …}"));
                }
            }
        }
    }
    if services.is_empty() && errors.is_empty() {
        is_unseen = true;
        errors.push(FieldError::new("", "the files describe no service", "write {\"service_name\": \"…\", …}"));
    }
    // Of the rest the manager knows more: template and machine.
    if is_unseen { Err(Error::invalid("the files cannot be applied", fields::bounded(errors)).into()) } else { Ok(services) }
}

/// One JSON document of a file.
struct Part {
    services: Vec<Value>,
    /// What is wrong with it, as far as that can be told here.
    errors: Vec<FieldError>,
    /// Among it is what the manager would not see: that it is no JSON, or that a name is given twice.
    is_unseen: bool,
}

/// The JSON documents that stand in a text one after the other; nothing is read behind one that does not end.
fn parts(text: &str) -> Vec<Part> {
    let broken = |errors| Part { services: Vec::new(), errors, is_unseen: true };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut ends = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    let (mut parts, mut start) = (Vec::new(), 0);
    while let Some(read) = ends.next() {
        if let Err(error) = read {
            let error = FieldError { line: Some(error.line()), ..FieldError::new("", error.to_string(), "correct the JSON") };
            parts.push(broken(vec![error]));
            break;
        }
        let before = text[..start].matches('\n').count();
        let mut part = Document::read(&text.as_bytes()[start..ends.byte_offset()]).map_or_else(broken, part);
        for error in &mut part.errors {
            error.line = error.line.map(|line| line + before);
        }
        parts.push(part);
        start = ends.byte_offset();
    }
    parts
}

/// A document that holds one service or a list of them.
fn part(document: Document<'_>) -> Part {
    let (list, is_list) = match &document.value {
        Value::Array(list) => (list.as_slice(), true),
        one => (std::slice::from_ref(one), false),
    };
    let mut wrong = Vec::new();
    for (index, service) in list.iter().enumerate() {
        // Of what has no name, that is told alone.
        let Ok(request) = ServiceRequest::read(service, None) else { continue };
        let errors =
            request.wrong_anywhere().into_iter().filter(|error| error.field != "service_name" || error.message != "is missing");
        wrong.extend(errors.map(|error| match error.field.as_str() {
            field if is_list && !field.is_empty() => FieldError { field: format!("[{index}].{field}"), ..error },
            _ => error,
        }));
    }
    let is_unseen = !document.twice.is_empty();
    let errors = fields::once(Err::<(), _>(document.with_lines(wrong)), &document.twice).err().unwrap_or_default();
    let services = if is_list { list.to_vec() } else { vec![document.value] };
    Part { services, errors, is_unseen }
}

/// The text of a file, or of standard input for `-`.
pub fn read_text(file: &Path) -> Result<String> {
    let mut text = String::new();
    let read = if file.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text).map(drop)
    } else {
        std::fs::read_to_string(file).map(|read| text = read)
    };
    read.map(|()| text).map_err(|error| {
        Error::invalid_field("", format!("{} cannot be read: {error}", shown(file)), "name a file that you may read, or -")
    })
}

/// The name of a file in messages.
pub fn shown(file: &Path) -> String {
    if file.as_os_str() == "-" { "standard input".to_owned() } else { file.display().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::arguments::{Command, CommandLine};
    use clap::Parser as _;
    use serde_json::json;

    fn request(arguments: &str) -> Result<Value> {
        let words = shlex::split(&format!("mcp-manager run {arguments}")).unwrap();
        let Command::Run(run) = CommandLine::try_parse_from(words).unwrap().command else { panic!("not run") };
        let environment = Environment::from_iter([("HERE", "from here")]);
        from_arguments(&run, &environment).map(|request| serde_json::to_value(request).unwrap())
    }

    #[test]
    fn a_name_alone_means_the_template_of_that_name() {
        assert_eq!(request("echo").unwrap(), json!({"service_name": "echo", "template": "echo"}));
        assert_eq!(request("web --image nginx").unwrap(), json!({"service_name": "web", "image": "nginx"}));
    }

    #[test]
    fn every_option_reaches_the_request() {
        let made = request(
            "x --template t@1 --image i --port 80 -e A=1=2 -e HERE -e EMPTY= --secret KEY=name --volume data:/data:ro --publish 8080:80 \
             --label a=b --replicas 2 --memory 64m --cpus 0.5 --pids 5 --user 1:1 --network n --health-path /h --start-timeout 2m \
             --restart on-failure:3 --pull never --writable --egress --entrypoint '/bin/sh -c' -- echo 'a b'",
        )
        .unwrap();
        insta::assert_json_snapshot!(made);
        let value = made.as_object().unwrap();
        // What is left out of the arguments on purpose; a new field of specs must be decided upon here.
        let left_out = [
            "args",
            "working_dir",
            "tmpfs",
            "storage_limit",
            "health_check",
            "health_check_interval",
            "network",
            "transport",
            "session_mode",
            "max_sessions",
            "session_idle_timeout",
            "autoscaling",
            "stop_timeout",
            "no_new_privileges",
            "cap_add",
            "kubernetes",
        ];
        for field in fields::field_names::<SpecInput>() {
            assert_ne!(value.contains_key(*field), left_out.contains(field), "{field}");
        }
        assert_eq!(ServiceRequest::read(&made, None).unwrap().unreadable(), [], "the manager takes what the command line makes");
    }

    #[test]
    fn everything_wrong_is_reported_at_once() {
        let error = request(
            "x -e UNSET -e =1 --secret A --volume data --publish 80 --label a --memory lots --cpus x --restart often --pull now",
        );
        insta::assert_snapshot!(error.unwrap_err());
    }

    #[test]
    fn files_hold_one_service_a_list_or_several() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let good = [
            file("one.json", "{\"service_name\": \"a\"}"),
            file("list.json", "[{\"name\": \"b\"}, {\"service_name\": \"c\"}]"),
            file("several.json", "{\"service_name\": \"d\"}\n{\"service_name\": \"e\"}\n"),
        ];
        let names: Vec<String> = from_files(&good).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a", "b", "c", "d", "e"]);
        let bad = [
            file("broken.json", "{\"service_name\": \"a\", \"template\": \"t\"}\n{\"x\""),
            file("nameless.json", "[{\"image\": \"x\"}, 3]"),
        ];
        let super::super::exit::Trouble::Error(_, error) = from_files(&bad).unwrap_err() else { panic!("not an error") };
        assert_eq!(error.fields.len(), 3, "{error}");
        assert!(from_files(&[file("empty.json", "")]).is_err());
        let again = file("again.json", "[{\"name\": \"c\", \"image\": \"i\"}, {\"name\": \"f\"}, {\"name\": \"f\"}]");
        let files = [good[1].clone(), again];
        let super::super::exit::Trouble::Error(_, error) = from_files(&files).unwrap_err() else { panic!("not an error") };
        let told: Vec<&str> = error.fields.iter().map(|error| error.message.as_str()).collect();
        let [list, again] = files.each_ref().map(|file| file.display().to_string());
        assert!(told.contains(&format!("'c' is described in {list} and in {again}").as_str()), "{told:?}");
        assert!(told.contains(&format!("'f' is described twice in {again}").as_str()), "{told:?}");
        let twice = file(
            "twice.json",
            "{\"name\": \"a\", \"template\": \"t\"}\n{\"name\": \"b\", \"template\": \"t\",\n\"replicas\": 1, \"replicas\": 2,\n\
             \"prot\": 1}\n[{\"name\": \"c\", \"image\": \"i\"},\n{\"name\": \"d\", \"template\": \"t\", \"cpu_limit\": \"lots\"}]",
        );
        let super::super::exit::Trouble::Error(_, error) = from_files(&[twice]).unwrap_err() else { panic!("not an error") };
        let told: Vec<_> = error.fields.iter().map(|error| (error.field.as_str(), error.line)).collect();
        let expected = [("replicas", Some(3)), ("prot", Some(4)), ("[1].cpu_limit", Some(6))];
        assert_eq!(told, expected, "{error}");
    }
}
