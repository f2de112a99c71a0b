//! The environment variables of settings: how they are called, which are set, which look like a slip of the keyboard.

use super::environment::Environment;
use super::section::Setting;
use crate::domain::nearest;
use crate::domain::spec::SECRET_VARIABLES;

/// Names with our prefix that are no settings: the file of settings, and what the command line's client uses.
pub const CONFIG_FILE: &str = "MCP_MANAGER_CONFIG";
const OTHERS: [&str; 3] = [CONFIG_FILE, "MCP_MANAGER_SERVER", "MCP_MANAGER_API_KEY"];

/// Sections whose settings have names that say nothing without them: `MCP_MANAGER_URL` would be taken for something else.
const NEED_THEIR_SECTION: [&str; 5] = ["audit", "kubernetes", "redis", "secrets", "templates"];

/// A variable that sets a setting.
#[derive(Debug, Clone)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// `section.field`.
    pub path: String,
    /// Its value.
    pub value: String,
}

/// The names of the variables that set `setting`, the weakest first: its bare names, the same with the prefix, prefix and
/// field where that is clear without the section, and prefix, section and field.
#[must_use]
pub fn names(setting: &Setting, settings: &[Setting]) -> Vec<String> {
    let upper = |text: &str| format!("MCP_MANAGER_{}", text.to_ascii_uppercase());
    let mut names: Vec<String> = setting.bare_variables.iter().map(ToString::to_string).collect();
    names.extend(setting.bare_variables.iter().map(|name| upper(name)));
    let alone = settings.iter().filter(|other| other.field == setting.field).count() == 1;
    if alone && !NEED_THEIR_SECTION.contains(&setting.section) {
        names.push(upper(setting.field));
    }
    names.push(upper(&format!("{}_{}", setting.section, setting.field)));
    // Of a name that two rules make, the stronger stays.
    let again = |at: usize| names[at + 1..].contains(&names[at]);
    (0..names.len()).filter(|at| !again(*at)).map(|at| names[at].clone()).collect()
}

/// The variables that are set, the weakest first, and warnings about those that do nothing.
#[must_use]
pub fn read(environment: &Environment, settings: &[Setting]) -> (Vec<Variable>, Vec<String>) {
    let mut found = Vec::new();
    let mut warnings = Vec::new();
    let mut known: Vec<String> = OTHERS.iter().map(ToString::to_string).collect();
    for setting in settings {
        let names = names(setting, settings);
        let set: Vec<Variable> = names
            .iter()
            .filter_map(|name| Some((name, environment.get(name)?)))
            .map(|(name, value)| Variable { name: name.clone(), path: setting.path(), value: value.to_owned() })
            .collect();
        if let Some(strongest) = set.last() {
            for weaker in set.iter().filter(|variable| variable.value != strongest.value) {
                warnings
                    .push(format!("{} is set and counts; {} says something else and is ignored", strongest.name, weaker.name));
            }
        }
        found.extend(set);
        known.extend(names);
    }
    for name in environment.names().filter(|name| is_ours(name)) {
        if !known.iter().any(|known| known == name) {
            // What all of them begin with says nothing about which is meant.
            let hint = PREFIXES.into_iter().find_map(|prefix| {
                let known = known.iter().filter_map(|known| known.strip_prefix(prefix));
                nearest(name.strip_prefix(prefix)?, known).map(|near| format!("; did you mean {prefix}{near}?"))
            });
            warnings.push(format!("the variable {name} is not a setting and has no effect{}", hint.unwrap_or_default()));
        }
    }
    (found, warnings)
}

/// Beginnings of variables that must be meant for the manager.
const PREFIXES: [&str; 2] = ["MCP_MANAGER_", "CONTAINERS_STORAGE_"];

/// Whether a variable of that name must be meant for the manager. Podman reads `CONTAINERS_STORAGE_CONF` itself.
fn is_ours(name: &str) -> bool {
    let is_others = name.starts_with(SECRET_VARIABLES) || name == "CONTAINERS_STORAGE_CONF";
    PREFIXES.iter().any(|prefix| name.starts_with(prefix)) && !is_others
}
