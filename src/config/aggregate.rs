//! Section `aggregate`: the MCP endpoints over many services, `/mcp/all` and `/mcp/g/GROUP`.

use std::collections::{BTreeMap, BTreeSet};

use super::section::{Check, section};
use crate::domain::aggregate::Names;

section! {
    /// The MCP endpoints over many services, `/mcp/all` and `/mcp/g/GROUP`.
    pub struct Aggregate in "aggregate" {
        /// Groups of services, each `NAME=SERVICE+SERVICE`; a `*` in a service's name stands for any text. The group is
        /// served at `/mcp/g/NAME`.
        groups: Vec<String> = Vec::new();
        /// Tools, prompts and resources that are not shown and cannot be used, as patterns over `SERVICE__NAME`:
        /// `*__delete_*`.
        hidden: Vec<String> = Vec::new();
        /// Other names for tools, prompts and resources, each `SERVICE__NAME=NEW`.
        renamed: Vec<String> = Vec::new();
    }
}

impl Aggregate {
    fn validate(&self, check: &mut Check) {
        let name = |text: &str| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        };
        let pattern = |text: &str| !text.is_empty() && name(&text.replace('*', "a"));
        for text in &self.groups {
            let right = text.split_once('=').is_some_and(|(group, members)| name(group) && members.split('+').all(pattern));
            let message = format!("'{}' is not a group", text.escape_debug());
            check.that(right, "groups", message, "write NAME=SERVICE+SERVICE, e.g. dev=git+time+web-*");
        }
        for text in &self.hidden {
            check.that(!text.trim().is_empty(), "hidden", "has an empty pattern", "write e.g. files__delete_* or *__reset");
        }
        let mut seen = BTreeSet::new();
        for text in &self.renamed {
            let parts = text.split_once('=').filter(|(full, new)| full.contains("__") && !new.is_empty());
            let message = format!("'{}' is not a new name", text.escape_debug());
            check.that(parts.is_some(), "renamed", message, "write SERVICE__NAME=NEW, e.g. git__git_status=status");
            let new = parts.map_or(text.as_str(), |(_, new)| new);
            let message = format!("gives the name '{}' twice", new.escape_debug());
            check.that(seen.insert(new), "renamed", message, "choose another name");
        }
    }

    /// The rules of names that the settings make.
    #[must_use]
    pub fn names(&self) -> Names {
        let pairs = |list: &[String]| -> BTreeMap<String, String> {
            list.iter().filter_map(|text| text.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        };
        let groups = pairs(&self.groups).into_iter();
        Names {
            groups: groups.map(|(group, members)| (group, members.split('+').map(str::to_owned).collect())).collect(),
            hidden: self.hidden.clone(),
            renamed: pairs(&self.renamed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_new_names_are_read_and_wrong_ones_refused() {
        let lists = |groups: &[&str], renamed: &[&str]| Aggregate {
            groups: groups.iter().map(ToString::to_string).collect(),
            renamed: renamed.iter().map(ToString::to_string).collect(),
            ..Aggregate::default()
        };
        let names = lists(&["dev=git+web-*"], &["git__git_status=status"]).names();
        assert_eq!(names.groups["dev"], ["git", "web-*"]);
        assert_eq!(names.renamed["git__git_status"], "status");
        let wrong = |settings: &Aggregate| {
            let mut check = Check::default();
            settings.validate(&mut check);
            check.problems.len()
        };
        assert_eq!(wrong(&lists(&["dev=git", "all=*"], &["a__b=c", "a__c=d"])), 0);
        assert_eq!(wrong(&lists(&["dev", "=git", "dev=", "Dev=git", "dev=git+"], &[])), 5);
        assert_eq!(wrong(&lists(&[], &["a=b", "a__b=", "a__b=x", "a__c=x"])), 3);
    }
}
