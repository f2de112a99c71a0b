//! What is known of the cluster: of each service, its root object, its workload, its pods, and which other objects there
//! are. Watches write it; everything else reads it.

use std::collections::{BTreeMap, BTreeSet};

use super::kinds::Owned;
use super::observed::{Condition, Pod, Workload, Written};
use super::root::Root;
use super::trouble::Warning;
use super::unrouted::{Lack, Offer};
use crate::domain::name::ServiceName;

/// Everything known of one service.
#[derive(Debug, Clone, Default)]
pub(super) struct Objects {
    pub(super) root: Option<Root>,
    pub(super) workload: Option<Workload>,
    pub(super) pods: BTreeMap<String, Pod>,
    /// Every owned object there is, workloads included.
    pub(super) written: BTreeMap<(Owned, String), Written>,
    /// Why its route is not followed.
    pub(super) unfollowed: Option<Condition>,
    /// What the cluster warned of while its present record was in trouble, by object.
    pub(super) warnings: BTreeMap<String, Vec<Warning>>,
}

impl Objects {
    /// The pods that are or will be there, but not those that have ended for good.
    pub(super) fn present(&self) -> impl Iterator<Item = &Pod> + Clone {
        self.pods.values().filter(|pod| !pod.is_over())
    }

    fn is_empty(&self) -> bool {
        self.root.is_none() && self.pods.is_empty() && self.written.is_empty()
    }
}

/// Where a piece of news comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Source {
    Roots,
    Pods,
    Owned(Owned),
}

impl Source {
    /// All of them.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        [Self::Roots, Self::Pods].into_iter().chain(Owned::ALL.into_iter().map(Self::Owned))
    }
}

/// An object as a watch told of it.
#[derive(Debug)]
pub(super) enum Item {
    Root(Root),
    Pod(Box<Pod>),
    Workload(Box<Workload>, Written),
    Route(Option<Box<Condition>>, Written),
    Other(Written),
}

/// A piece of news.
#[derive(Debug)]
pub(super) enum News {
    /// Everything there is follows.
    Begin,
    /// It is there. A root object has no name of its own: it is the service.
    Is { service: ServiceName, name: String, item: Box<Item> },
    /// It is gone.
    Gone { service: ServiceName, name: String },
    /// Everything has been told.
    Complete,
    /// The source is cut off; it is tried again.
    Cut,
}

/// What is known.
#[derive(Debug, Default)]
pub(super) struct World {
    services: BTreeMap<ServiceName, Objects>,
    /// What a source that tells everything anew has told so far.
    telling: BTreeMap<Source, BTreeSet<(ServiceName, String)>>,
    /// Sources that have told everything and are not cut off.
    live: BTreeSet<Source>,
    /// Sources that have told everything, now or earlier.
    heard: BTreeSet<Source>,
    /// Whether routes can be written.
    offer: Offer,
    /// Newest version of a root object of which the watch has told, with all that was before it.
    roots: u64,
    /// The same of a watch that tells everything anew, in no order: it counts when all is told.
    roots_so_far: Option<u64>,
}

impl World {
    pub(super) fn get(&self, service: &ServiceName) -> Option<&Objects> {
        self.services.get(service)
    }

    pub(super) fn get_mut(&mut self, service: &ServiceName) -> Option<&mut Objects> {
        self.services.get_mut(service)
    }

    pub(super) fn services(&self) -> impl Iterator<Item = (&ServiceName, &Objects)> {
        self.services.iter()
    }

    /// What keeps routes from being written.
    pub(super) fn lack(&self) -> Option<&Lack> {
        if let Offer::Lacking(lack) = &self.offer { Some(lack) } else { None }
    }

    /// Whether routes can be written, as far as anybody has looked.
    pub(super) fn offers_routes(&self) -> bool {
        self.offer == Offer::Here
    }

    /// From now on routes can be written, or cannot; whether that is new.
    pub(super) fn offer(&mut self, offer: Offer) -> bool {
        std::mem::replace(&mut self.offer, offer) != self.offer
    }

    /// Whether all sources have told everything and none is cut off.
    pub(super) fn is_live(&self) -> bool {
        Source::all().all(|source| self.live.contains(&source))
    }

    /// Whether all sources have told everything at least once: what is not known is not there.
    pub(super) fn is_known(&self) -> bool {
        Source::all().all(|source| self.heard.contains(&source))
    }

    /// What is known may be out of date: no source counts until it has told everything anew.
    pub(super) fn doubt(&mut self) {
        self.live.clear();
    }

    /// Whether the watch of root objects has told of this version of one, and so of all that was recorded before it.
    pub(super) const fn is_told_of(&self, version: u64) -> bool {
        self.roots >= version
    }

    /// Takes note of how far a watch has told. What calls of ours are answered with says nothing of that.
    pub(super) fn follow(&mut self, source: Source, news: &News) {
        if source != Source::Roots {
            return;
        }
        match news {
            News::Begin => self.roots_so_far = Some(0),
            News::Is { item, .. } => {
                if let Item::Root(root) = &**item {
                    let told = self.roots_so_far.as_mut().unwrap_or(&mut self.roots);
                    *told = root.number().max(*told);
                }
            }
            News::Complete => self.roots = self.roots_so_far.take().unwrap_or_default().max(self.roots),
            News::Gone { .. } | News::Cut => {}
        }
    }

    /// Takes in a piece of news; the services that it concerns.
    pub(super) fn hear(&mut self, source: Source, news: News) -> Vec<ServiceName> {
        match news {
            News::Begin => {
                self.telling.insert(source, BTreeSet::new());
                Vec::new()
            }
            News::Is { service, name, item } => {
                if let Some(told) = self.telling.get_mut(&source) {
                    told.insert((service.clone(), name.clone()));
                }
                self.put(source, &service, name, *item);
                vec![service]
            }
            News::Gone { service, name } => {
                self.take(source, &service, &name);
                vec![service]
            }
            News::Complete => {
                self.live.insert(source);
                self.heard.insert(source);
                let told = self.telling.remove(&source).unwrap_or_default();
                let gone: Vec<_> = self.known(source).into_iter().filter(|known| !told.contains(known)).collect();
                for (service, name) in &gone {
                    self.take(source, service, name);
                }
                gone.into_iter().map(|(service, _)| service).collect()
            }
            News::Cut => {
                self.live.remove(&source);
                Vec::new()
            }
        }
    }

    fn put(&mut self, source: Source, service: &ServiceName, name: String, item: Item) {
        let objects = self.services.entry(service.clone()).or_default();
        match (source, item) {
            (Source::Roots, Item::Root(root)) => {
                // The watch may tell of a change only after the next one has been made here.
                let newer = objects
                    .root
                    .as_ref()
                    .filter(|known| known.uid == root.uid && known.record.generation > root.record.generation);
                if newer.is_none() {
                    let before = objects.root.as_ref().map(|known| known.record.generation);
                    if before != Some(root.record.generation) {
                        // They were about what it was before.
                        objects.warnings.clear();
                    }
                    objects.root = Some(root);
                }
            }
            (Source::Pods, Item::Pod(pod)) => {
                objects.pods.insert(name, *pod);
            }
            (Source::Owned(kind), Item::Workload(workload, written)) => {
                objects.workload = Some(*workload);
                objects.written.insert((kind, name), written);
            }
            (Source::Owned(kind), Item::Route(unfollowed, written)) => {
                objects.unfollowed = unfollowed.map(|condition| *condition);
                objects.written.insert((kind, name), written);
            }
            (Source::Owned(kind), Item::Other(written)) => {
                objects.written.insert((kind, name), written);
            }
            _ => {}
        }
    }

    fn take(&mut self, source: Source, service: &ServiceName, name: &str) {
        let Some(objects) = self.services.get_mut(service) else { return };
        match source {
            Source::Roots => objects.root = None,
            Source::Pods => {
                objects.pods.remove(name);
                objects.warnings.remove(name);
            }
            Source::Owned(kind) => {
                objects.written.remove(&(kind, name.to_owned()));
                if kind.is_extension() {
                    objects.unfollowed = None;
                }
                if objects.workload.as_ref().is_some_and(|workload| workload.kind == kind) {
                    objects.workload = None;
                }
            }
        }
        if objects.is_empty() {
            self.services.remove(service);
        }
    }

    fn known(&self, source: Source) -> Vec<(ServiceName, String)> {
        let names = |objects: &Objects| -> Vec<String> {
            match source {
                Source::Roots => objects.root.iter().map(|_| String::new()).collect(),
                Source::Pods => objects.pods.keys().cloned().collect(),
                Source::Owned(kind) => {
                    objects.written.keys().filter(|(known, _)| *known == kind).map(|(_, name)| name.clone()).collect()
                }
            }
        };
        self.services
            .iter()
            .flat_map(|(service, objects)| names(objects).into_iter().map(|name| (service.clone(), name)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::backend::Change;
    use crate::domain::status::Desired;

    fn echo() -> ServiceName {
        "echo".parse().unwrap()
    }

    fn pod(name: &str) -> News {
        let item = Item::Pod(Box::new(Pod { name: name.to_owned(), ..Pod::default() }));
        News::Is { service: echo(), name: name.to_owned(), item: Box::new(item) }
    }

    #[test]
    fn what_is_not_told_again_is_gone() {
        let mut world = World::default();
        for news in [News::Begin, pod("one"), pod("two"), News::Complete] {
            world.hear(Source::Pods, news);
        }
        world.hear(Source::Pods, News::Cut);
        assert_eq!(world.get(&echo()).unwrap().pods.len(), 2, "what was known stays known while the source is cut off");
        for news in [News::Begin, pod("two")] {
            world.hear(Source::Pods, news);
        }
        assert_eq!(world.get(&echo()).unwrap().pods.len(), 2, "not before everything has been told");
        world.hear(Source::Pods, News::Complete);
        assert_eq!(world.get(&echo()).unwrap().pods.keys().collect::<Vec<_>>(), ["two"]);
        world.hear(Source::Pods, News::Gone { service: echo(), name: "two".into() });
        assert!(world.get(&echo()).is_none(), "a service of which nothing is there is not known");
    }

    #[test]
    fn how_far_a_watch_has_told_is_known_only_when_it_has_told_everything() {
        let mut world = World::default();
        let mut follow = |news: News, version: u64| {
            world.follow(Source::Roots, &news);
            world.is_told_of(version)
        };
        let root = |version: u64| {
            let record = Change { spec: Arc::default(), template: None, desired: Desired::Running }.first(&echo());
            let version = version.to_string();
            let root = Root { uid: "u".into(), version, deleting: false, record: Arc::new(record), refusal: None };
            News::Is { service: echo(), name: String::new(), item: Box::new(Item::Root(root)) }
        };
        assert!(!follow(News::Begin, 7) && !follow(root(9), 7), "older ones may follow");
        assert!(follow(News::Complete, 9));
        assert!(!follow(root(12), 13) && follow(root(11), 12));
        assert!(!follow(News::Cut, 13) && !follow(News::Begin, 13) && !follow(root(14), 13));
        assert!(follow(News::Complete, 14));
    }

    #[test]
    fn a_route_that_is_followed_again_or_gone_is_no_trouble_any_more() {
        let (mut world, routes) = (World::default(), Source::Owned(Owned::HttpRoute));
        let route = |condition: Option<Condition>| {
            let written = Written { digest: "a".into(), uid: "w".into(), root: "u".into(), deleting: false };
            let item = Item::Route(condition.map(Box::new), written);
            News::Is { service: echo(), name: "mcp-echo".into(), item: Box::new(item) }
        };
        world.hear(Source::Pods, pod("one"));
        world.hear(routes, route(Some(Condition::default())));
        assert!(world.get(&echo()).unwrap().unfollowed.is_some());
        world.hear(routes, route(None));
        assert!(world.get(&echo()).unwrap().unfollowed.is_none());
        world.hear(routes, route(Some(Condition::default())));
        world.hear(routes, News::Gone { service: echo(), name: "mcp-echo".into() });
        let known = world.get(&echo()).unwrap();
        assert!(known.unfollowed.is_none() && known.written.is_empty());
    }

    #[test]
    fn the_world_is_live_when_no_source_is_cut_off() {
        let mut world = World::default();
        for source in Source::all() {
            assert!(!world.is_live());
            world.hear(source, News::Begin);
            world.hear(source, News::Complete);
        }
        assert!(world.is_live());
        world.hear(Source::Roots, News::Cut);
        assert!(!world.is_live());
    }
}
