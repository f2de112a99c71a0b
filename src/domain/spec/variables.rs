//! The rules of names with values: environment, secrets, labels, and references to the manager's own environment.

use std::collections::{BTreeMap, BTreeSet};

use super::rules::{Check, MAX_ENTRIES, MAX_TEXT, NAME_REMEDY, WITHHELD, WITHHELD_REMEDY, is_plain_name, is_variable};
use super::{EnvironmentValue, REDACTED, Variables};
use crate::domain::shown;
use crate::error::{Error, FieldError};

const VARIABLE_REMEDY: &str = "use ASCII letters, digits and signs other than '=', without spaces, 256 at most";

/// Prefix of the labels by which the manager knows what is its own.
pub(super) const OWN_LABELS: &str = "io.mcp-manager.";

impl Check {
    pub(super) fn environment(
        &mut self,
        environment: BTreeMap<String, EnvironmentValue>,
        allowed: &[String],
        variables: Variables<'_>,
    ) -> BTreeMap<String, String> {
        self.count("environment", environment.len());
        let allowed: BTreeSet<&str> = allowed.iter().map(String::as_str).collect();
        let mut read = BTreeMap::new();
        for (name, EnvironmentValue(value)) in environment.into_iter().take(MAX_ENTRIES) {
            let field = format!("environment.{}", shown(&name));
            self.that(is_variable(&name), &field, "is not a variable name", VARIABLE_REMEDY);
            match expand(&value, &allowed, variables) {
                Ok(value) => {
                    self.that(!value.contains('\0'), &field, "has a NUL character", "remove it");
                    self.that(!value.contains(REDACTED), &field, WITHHELD, WITHHELD_REMEDY);
                    read.insert(name, value);
                }
                Err((message, remedy)) => self.wrong(field, message, remedy),
            }
        }
        read
    }

    pub(super) fn secrets(
        &mut self,
        secrets: BTreeMap<String, String>,
        environment: &BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        self.count("secrets", secrets.len());
        for (variable, secret) in secrets.iter().take(MAX_ENTRIES) {
            let field = format!("secrets.{}", shown(variable));
            self.that(is_variable(variable), &field, "is not a variable name", VARIABLE_REMEDY);
            self.that(is_plain_name(secret), &field, "is not the name of a secret", NAME_REMEDY);
            self.that(!environment.contains_key(variable), &field, "is also set in 'environment'", "set it in one place");
        }
        secrets
    }

    pub(super) fn labels(&mut self, labels: BTreeMap<String, EnvironmentValue>) -> BTreeMap<String, String> {
        self.count("labels", labels.len());
        let mut read = BTreeMap::new();
        for (name, EnvironmentValue(value)) in labels.into_iter().take(MAX_ENTRIES) {
            let field = format!("labels.{}", shown(&name));
            self.that(is_variable(&name), &field, "is not a label name", VARIABLE_REMEDY);
            self.that(!name.starts_with(OWN_LABELS), &field, "belongs to the manager", "use another prefix");
            let remedy =
                "leave it out: the manager computes the routes; options and middlewares of the service's router may be set";
            self.that(!is_route(&name), &field, "says where requests go, which is the manager's", remedy);
            let right = value.len() <= MAX_TEXT && !value.contains('\0');
            self.that(right, &field, "has a value that is too long or has a NUL character", "use at most 32 KiB of text");
            read.insert(name, value);
        }
        read
    }
}

/// The parts of a label of Traefik's that speaks of a router or a service, behind `traefik`: `http`, `routers`, the name of
/// the router, and options. Traefik reads them in any case.
fn of_traefik(label: &str) -> Option<Vec<String>> {
    let mut parts = label.split('.').map(str::to_ascii_lowercase);
    let parts: Vec<String> = (parts.next()? == "traefik").then(|| parts.collect())?;
    let [protocol, kind, _, ..] = parts.as_slice() else { return None };
    let speaks = ["http", "tcp", "udp"].contains(&protocol.as_str()) && ["routers", "services"].contains(&kind.as_str());
    speaks.then_some(parts)
}

/// Whether a label says what a router matches, or who answers for a service.
fn is_route(label: &str) -> bool {
    let parts = of_traefik(label).unwrap_or_default();
    match parts.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [_, "routers", _, option, ..] => *option == "rule",
        [_, "services", _, "loadbalancer", option, ..] => {
            *option == "server" || *option == "servers" || option.starts_with("servers[")
        }
        [_, "services", _, kind, ..] => *kind != "loadbalancer",
        _ => false,
    }
}

/// The labels that speak of another router or service of Traefik's than that of the service `name`: they would take its
/// name from it, or make Traefik drop both.
#[must_use]
pub fn labels_of_others(labels: &BTreeMap<String, String>, name: &str) -> Vec<FieldError> {
    let of_another = |label: &&String| of_traefik(label).is_some_and(|parts| parts[2] != name);
    let wrong = |label: &String| {
        let message = "speaks of another router or service than this one's";
        FieldError::new(format!("labels.{}", shown(label)), message, format!("write '{name}' in its place, or leave it out"))
    };
    labels.keys().filter(of_another).map(wrong).collect()
}

/// Variables of the manager with this beginning hold secrets.
pub const SECRET_VARIABLES: &str = "MCP_MANAGER_SECRET_";

/// The manager's variable that may hold the secret `name`: `api-key` is in `MCP_MANAGER_SECRET_API_KEY`.
#[must_use]
pub fn secret_variable(name: &str) -> String {
    let upper = name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' });
    SECRET_VARIABLES.chars().chain(upper).collect()
}

/// One error for all secrets that nobody knows, which come as variable and name. `way` is the backend's own way to create
/// one, where it has any.
#[must_use]
pub fn unknown_secrets<'a>(missing: impl IntoIterator<Item = (&'a str, &'a str)>, way: Option<fn(&str) -> String>) -> Error {
    let field = |(variable, name): (&str, &str)| {
        let mut remedy = format!(
            "write its value into the file {name} of the setting secrets.dir, or set {} where the manager runs",
            secret_variable(name)
        );
        if let Some(way) = way {
            remedy = format!("{remedy}, or create it: {}", way(name));
        }
        FieldError::new(format!("secrets.{variable}"), format!("there is no secret '{name}'"), remedy)
    };
    let fields: Vec<FieldError> = missing.into_iter().map(field).collect();
    Error::invalid("the service", fields)
}

/// Replaces `${NAME}` and `${NAME:-default}`; `$$` is a dollar sign. Anything else stands as it is.
fn expand(value: &str, allowed: &BTreeSet<&str>, variables: Variables<'_>) -> Result<String, (String, String)> {
    let mut expanded = String::with_capacity(value.len().min(MAX_TEXT));
    let mut rest = value;
    // What a few references stand for may be much longer than they are.
    let mut push = |text: &str| {
        expanded.push_str(text);
        let long = || ("is longer than 32 KiB".to_owned(), "pass large values as a file in a volume".to_owned());
        if expanded.len() <= MAX_TEXT { Ok(()) } else { Err(long()) }
    };
    // Behind the last brace nothing is a reference; it is not searched for time and again.
    let last_brace = value.rfind('}');
    while let Some((before, after)) = rest.split_once('$') {
        push(before)?;
        if let Some(after) = after.strip_prefix('$') {
            push("$")?;
            rest = after;
            continue;
        }
        let may_close = last_brace.is_some_and(|brace| brace >= value.len() - after.len());
        let reference = after.strip_prefix('{').filter(|_| may_close).and_then(|inner| inner.split_once('}'));
        if let Some((reference, after)) = reference {
            push(&referenced(reference, allowed, variables)?)?;
            rest = after;
        } else {
            push("$")?;
            rest = after;
        }
    }
    push(rest)?;
    Ok(expanded)
}

/// What `NAME` or `NAME:-default` stands for.
fn referenced(reference: &str, allowed: &BTreeSet<&str>, variables: Variables<'_>) -> Result<String, (String, String)> {
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    if !allowed.contains(name) {
        let message = format!("refers to the manager's variable '{}', which is not allowed", shown(name));
        return Err((message, "name it in the template's 'allowed_env', or write $$ for a dollar sign".to_owned()));
    }
    variables(name).or_else(|| default.map(str::to_owned)).ok_or_else(|| {
        let message = format!("refers to the manager's variable '{}', which is not set", shown(name));
        (message, format!("set it, or write ${{{}:-default}}", shown(name)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_variables_are_what_their_remedy_says() {
        for good in ["A", "1A", "a-b", "a.b", "A/B", "_"] {
            assert!(is_variable(good), "{good}");
        }
        for bad in ["", "A B", "A=B", "Ä", "A\n", &"A".repeat(257)] {
            assert!(!is_variable(bad), "{bad}");
        }
    }

    #[test]
    fn labels_say_options_of_a_route_but_neither_where_it_leads_nor_anything_of_others() {
        let refused = [
            "traefik.http.routers.q.rule",
            "Traefik.HTTP.Routers.q.RULE",
            "traefik.tcp.routers.q.rule",
            "traefik.http.services.q.loadbalancer.server.port",
            "traefik.http.services.q.LoadBalancer.servers[0].url",
            "traefik.http.services.q.weighted.services[0].name",
            "traefik.udp.services.q.loadbalancer.server.port",
        ];
        let labels = |name: &str| [(name.to_owned(), EnvironmentValue("x".into()))].into_iter().collect();
        for name in refused {
            let mut check = Check::default();
            check.labels(labels(name));
            assert_eq!(check.errors.len(), 1, "{name}");
        }
        let taken = [
            "traefik.http.routers.q.middlewares",
            "traefik.http.routers.q.tls.certresolver",
            "traefik.http.services.q.loadbalancer.sticky.cookie",
            "traefik.http.services.q.loadbalancer.serverstransport",
            "traefik.http.middlewares.q.headers.customrequestheaders.rule",
            "traefik.enable",
            "rule",
        ];
        for name in taken {
            let mut check = Check::default();
            let read = check.labels(labels(name));
            assert_eq!((check.errors.len(), labels_of_others(&read, "q").len()), (0, 0), "{name}");
        }
        let of_others = ["traefik.http.routers.echo.middlewares", "traefik.HTTP.services.echo.loadbalancer.sticky.cookie"];
        let of_others = of_others.map(|name| (name.to_owned(), "x".to_owned())).into();
        assert_eq!(labels_of_others(&of_others, "q").len(), 2);
        assert_eq!(labels_of_others(&of_others, "echo").len(), 0);
    }
}
