//! Names of many services side by side: who is in a group, what a tool is called, which URI a resource has. Pure.

use std::collections::BTreeMap;

use super::name::ServiceName;

/// Between a service and the name of what it offers. No service's name holds an underscore, so the first one splits.
const SEPARATOR: &str = "__";

/// What the configuration says of names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// Services of each group; a `*` stands for any text.
    pub groups: BTreeMap<String, Vec<String>>,
    /// What is not shown, as patterns over `SERVICE__NAME`.
    pub hidden: Vec<String>,
    /// Other names for `SERVICE__NAME`.
    pub renamed: BTreeMap<String, String>,
}

/// Which services an endpoint is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All.
    All,
    /// Those of the group of this name.
    Group(String),
}

impl Names {
    /// Whether there is such a group.
    #[must_use]
    pub fn has(&self, scope: &Scope) -> bool {
        match scope {
            Scope::All => true,
            Scope::Group(group) => self.groups.contains_key(group),
        }
    }

    /// Whether the service belongs to the scope.
    #[must_use]
    pub fn includes(&self, scope: &Scope, service: &str) -> bool {
        match scope {
            Scope::All => true,
            Scope::Group(group) => {
                self.groups.get(group).is_some_and(|members| members.iter().any(|member| matches(member, service)))
            }
        }
    }

    /// The name under which clients see what a service calls `name`; `None` when they are not to see it.
    #[must_use]
    pub fn shown(&self, service: &str, name: &str) -> Option<String> {
        let full = format!("{service}{SEPARATOR}{name}");
        if self.hidden.iter().any(|pattern| matches(pattern, &full)) {
            return None;
        }
        Some(self.renamed.get(&full).cloned().unwrap_or(full))
    }

    /// The service, and its own name for it, of what clients see as `shown`.
    #[must_use]
    pub fn original(&self, shown: &str) -> Option<(ServiceName, String)> {
        let renamed = self.renamed.iter().find(|(_, new)| *new == shown).map(|(full, _)| full.as_str());
        let (service, name) = renamed.unwrap_or(shown).split_once(SEPARATOR)?;
        // What has got another name, or none, is not reached by its old one.
        (self.shown(service, name)? == shown).then_some(())?;
        Some((service.parse().ok()?, name.to_owned()))
    }
}

/// The URI under which clients see a service's resource: the scheme says whose it is, so URIs of several services do
/// not clash, and what follows is the service's own.
#[must_use]
pub fn shown_uri(service: &str, uri: &str) -> String {
    format!("mcp.{service}+{uri}")
}

/// The service and its own URI, if the URI says whose it is.
#[must_use]
pub fn original_uri(shown: &str) -> Option<(ServiceName, &str)> {
    let (service, uri) = shown.strip_prefix("mcp.")?.split_once('+')?;
    Some((service.parse().ok()?, uri))
}

/// Whether a URI may be one of those of a URI template: what stands outside of its expressions is there, in this order.
#[must_use]
pub fn is_of_template(template: &str, uri: &str) -> bool {
    let mut literals = Vec::new();
    let mut rest = template;
    while let Some((literal, expression)) = rest.split_once('{') {
        let Some((_, after)) = expression.split_once('}') else { return false };
        literals.push(literal);
        rest = after;
    }
    literals.push(rest);
    in_order(literals.into_iter(), uri)
}

/// Whether the text is of the pattern, in which `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    in_order(pattern.split('*'), text)
}

/// Whether the text consists of these parts with any text between them.
fn in_order<'a>(mut parts: impl DoubleEndedIterator<Item = &'a str>, text: &str) -> bool {
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names() -> Names {
        Names {
            groups: [("dev".to_owned(), vec!["git".to_owned(), "web-*".to_owned()])].into(),
            hidden: vec!["*__delete_*".to_owned(), "git__reset".to_owned()],
            renamed: [("git__status".to_owned(), "status".to_owned())].into(),
        }
    }

    #[test]
    fn groups_hold_the_services_that_they_name() {
        let (names, dev) = (names(), Scope::Group("dev".to_owned()));
        for (service, member) in [("git", true), ("web-1", true), ("web", false), ("time", false)] {
            assert_eq!(names.includes(&dev, service), member, "{service}");
            assert!(names.includes(&Scope::All, service));
        }
        assert!(!names.has(&Scope::Group("ops".to_owned())));
    }

    #[test]
    fn hidden_names_are_neither_shown_nor_reached_and_renamed_ones_by_their_new_name_only() {
        let names = names();
        assert_eq!(names.shown("git", "log").as_deref(), Some("git__log"));
        assert_eq!(names.shown("git", "status").as_deref(), Some("status"));
        assert_eq!(names.shown("git", "reset"), None);
        assert_eq!(names.shown("files", "delete_all"), None);
        assert_eq!(names.original("git__log").unwrap().1, "log");
        assert_eq!(names.original("status").unwrap(), ("git".parse().unwrap(), "status".to_owned()));
        for unreachable in ["git__status", "git__reset", "files__delete_all", "log", "__log", "No__log", ""] {
            assert_eq!(names.original(unreachable), None, "{unreachable}");
        }
    }

    #[test]
    fn uris_say_whose_they_are_and_stay_uris() {
        let shown = shown_uri("9-web", "echo://message/{text}");
        assert_eq!(shown, "mcp.9-web+echo://message/{text}");
        assert_eq!(original_uri(&shown).unwrap(), ("9-web".parse().unwrap(), "echo://message/{text}"));
        assert_eq!(original_uri("echo://info"), None);
    }

    #[test]
    fn a_uri_is_of_a_template_when_what_is_fixed_in_it_is_there() {
        let template = "test://template/{id}/data";
        for (template, uri, is) in [
            (template, "test://template/123/data", true),
            (template, "test://template/data", false),
            (template, "test://other/123/data", false),
            ("file:///{+path}", "file:///a/b", true),
            ("file:///{+path}", "file:/a", false),
            ("a://b", "a://b", true),
            ("a://b", "a://bc", false),
            ("a://{b", "a://{b", false),
        ] {
            assert_eq!(is_of_template(template, uri), is, "{template} {uri}");
        }
    }

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text, matched) in [
            ("*", "", true),
            ("a*", "a", true),
            ("a*b", "ab", true),
            ("a*b", "a", false),
            ("a*a", "a", false),
            ("a*b*c", "a-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("ab", "abc", false),
        ] {
            assert_eq!(matches(pattern, text), matched, "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn every_shown_name_leads_back(service in "[a-z][a-z0-9]{0,9}", name in "[ -~]{1,20}") {
            let names = names();
            prop_assume!(service.parse::<ServiceName>().is_ok());
            if let Some(shown) = names.shown(&service, &name) {
                prop_assert_eq!(names.original(&shown).unwrap(), (service.parse().unwrap(), name));
            }
        }
    }
}
