//! How often what an endpoint lists has changed: counted for each endpoint by itself, so that its clients hear of nothing
//! that they do not see. Leaves out telling them.

use std::collections::BTreeMap;

use tokio::sync::watch;

use super::look::{Item, Lists};
use crate::domain::aggregate::{Names, Scope};

/// Counts changes, each of the three kinds that clients can be told of by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Version {
    tools: u64,
    prompts: u64,
    resources: u64,
}

impl Version {
    /// The kinds that have changed since.
    pub(super) fn since(self, before: Self) -> impl Iterator<Item = &'static str> {
        let kinds = [
            ("tools", self.tools != before.tools),
            ("prompts", self.prompts != before.prompts),
            ("resources", self.resources != before.resources),
        ];
        kinds.into_iter().filter(|(_, changed)| *changed).map(|(kind, _)| kind)
    }
}

/// The counts of all endpoints.
#[derive(Debug)]
pub(super) struct Changes {
    names: Names,
    all: watch::Sender<Version>,
    groups: BTreeMap<String, watch::Sender<Version>>,
}

impl Changes {
    pub(super) fn new(names: Names) -> Self {
        let groups = names.groups.keys().map(|group| (group.clone(), watch::Sender::default())).collect();
        Self { names, all: watch::Sender::default(), groups }
    }

    /// Counts what has become of a service's lists, wherever somebody sees the difference.
    pub(super) fn count(&self, service: &str, before: &Lists, after: &Lists) {
        let shown = |items: &[Item]| -> Vec<Item> {
            items.iter().filter(|item| self.names.shown(service, &item.name).is_some()).cloned().collect()
        };
        let differs = |before: &[Item], after: &[Item]| before != after && shown(before) != shown(after);
        let tools = differs(&before.tools, &after.tools);
        let prompts = differs(&before.prompts, &after.prompts);
        let resources = differs(&before.resources, &after.resources) || differs(&before.templates, &after.templates);
        if !(tools || prompts || resources) {
            return;
        }
        let has = |group: &String| self.names.includes(&Scope::Group(group.clone()), service);
        let groups = self.groups.iter().filter(|(group, _)| has(group)).map(|(_, version)| version);
        for version in groups.chain([&self.all]) {
            version.send_modify(|version| {
                version.tools += u64::from(tools);
                version.prompts += u64::from(prompts);
                version.resources += u64::from(resources);
            });
        }
    }

    /// Tells of the changes at one endpoint. Nothing is told of a group that there is none of.
    pub(super) fn of(&self, scope: &Scope) -> watch::Receiver<Version> {
        match scope {
            Scope::All => self.all.subscribe(),
            Scope::Group(group) => match self.groups.get(group) {
                Some(version) => version.subscribe(),
                None => watch::Sender::default().subscribe(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::raw::Object;
    use super::*;

    fn tools(names: &[&str]) -> Lists {
        let item = |name: &&str| Item { name: (*name).to_owned(), uri: None, whole: Object::default() };
        Lists { tools: names.iter().map(item).collect(), ..Lists::default() }
    }

    #[test]
    fn a_change_is_counted_where_it_is_seen() {
        let groups = [("web".to_owned(), vec!["web-*".to_owned()]), ("git".to_owned(), vec!["git".to_owned()])];
        let changes = Changes::new(Names { groups: groups.into(), hidden: vec!["*__secret".to_owned()], ..Names::default() });
        let web = Scope::Group("web".to_owned());
        let told = |scope: &Scope| {
            let now = *changes.of(scope).borrow();
            now.since(Version::default()).collect::<Vec<_>>()
        };
        changes.count("git", &tools(&[]), &tools(&["log"]));
        assert_eq!((told(&Scope::All), told(&web)), (vec!["tools"], vec![]));
        assert_eq!(told(&Scope::Group("git".to_owned())), ["tools"]);
        changes.count("web-1", &tools(&[]), &tools(&["secret"]));
        changes.count("web-1", &tools(&["a"]), &tools(&["a"]));
        assert_eq!(told(&web), Vec::<&str>::new(), "nobody sees that");
        changes.count("web-1", &tools(&["secret"]), &tools(&["secret", "get"]));
        assert_eq!(told(&web), ["tools"]);
    }
}
