//! Services of the product whose Services in the cluster would have one name: that by which the pods of `a` are named,
//! `a-pods`, is also that of a service of this name. Pure but for the names that are about to be taken; who comes later is
//! refused.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::names::Names;
use super::objects;
use super::world::World;
use crate::domain::name::ServiceName;
use crate::domain::spec::ServiceSpec;
use crate::error::{Error, Result};

/// Names that a service takes until its record is known; given up when dropped.
#[derive(Debug)]
pub(super) struct Claim {
    service: ServiceName,
    objects: Vec<String>,
}

/// What is about to be recorded here.
#[derive(Debug, Default)]
pub(super) struct Claims(Mutex<Vec<Weak<Claim>>>);

impl Claims {
    /// Refuses a new service, or one that has been `before`, where it would take a Service of another one's.
    pub(super) fn claim(
        &self,
        names: &Names,
        world: &World,
        name: &ServiceName,
        before: Option<&ServiceSpec>,
        spec: &ServiceSpec,
    ) -> Result<Arc<Claim>> {
        let claim = Claim { service: name.clone(), objects: added(names, name, before, spec) };
        let mut claims = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        claims.retain(|claim| claim.strong_count() > 0);
        let under_way: Vec<Arc<Claim>> = claims.iter().filter_map(Weak::upgrade).collect();
        if let Some((other, object)) = known(names, world, &claim).or_else(|| about_to_be(&under_way, &claim)) {
            return Err(taken(&other, &object, before.is_none()));
        }
        let claim = Arc::new(claim);
        claims.push(Arc::downgrade(&claim));
        Ok(claim)
    }
}

/// The names that a service would take which it does not have yet.
pub(super) fn added(names: &Names, name: &ServiceName, before: Option<&ServiceSpec>, spec: &ServiceSpec) -> Vec<String> {
    let of = |spec: &ServiceSpec| objects::service_names(names, name, spec);
    let known = before.map(of).unwrap_or_default();
    of(spec).into_iter().filter(|object| !known.contains(object)).collect()
}

/// The service that has one of the names, and that name.
fn known(names: &Names, world: &World, claim: &Claim) -> Option<(ServiceName, String)> {
    world.services().filter(|(other, _)| **other != claim.service).find_map(|(other, objects)| {
        let theirs = objects::service_names(names, other, &objects.root.as_ref()?.record.spec);
        let object = theirs.into_iter().find(|object| claim.objects.contains(object))?;
        Some((other.clone(), object))
    })
}

fn about_to_be(under_way: &[Arc<Claim>], claim: &Claim) -> Option<(ServiceName, String)> {
    under_way.iter().filter(|other| other.service != claim.service).find_map(|other| {
        let object = other.objects.iter().find(|object| claim.objects.contains(object))?;
        Some((other.service.clone(), object.clone()))
    })
}

fn taken(other: &ServiceName, object: &str, is_new: bool) -> Error {
    let message = format!("the cluster's Service '{object}', which it needs, is one of the service '{other}'");
    if is_new {
        Error::invalid_field("service_name", message, "choose another name")
    } else {
        Error::invalid_field("port", message, "create a service of another name in its place")
    }
}

#[cfg(test)]
mod tests {
    use super::super::root::Root;
    use super::super::world::{Item, News, Source};
    use super::*;
    use crate::backend::Change;
    use crate::domain::spec::{Mount, MountSource};
    use crate::domain::status::Desired;

    fn web() -> ServiceSpec {
        ServiceSpec { port: Some(8000), ..ServiceSpec::default() }
    }

    /// Each of its replicas has a volume, and so a name.
    fn store() -> ServiceSpec {
        let mount = Mount { source: MountSource::Volume("data".into()), target: "/data".into(), read_only: false };
        ServiceSpec { volumes: vec![mount], replicas: 2, ..web() }
    }

    fn world(service: &str, spec: ServiceSpec) -> World {
        let (mut world, name) = (World::default(), service.parse::<ServiceName>().unwrap());
        let record = Change { spec: Arc::new(spec), template: None, desired: Desired::Running }.first(&name);
        let root = Root { uid: "u".into(), version: "1".into(), deleting: false, record: Arc::new(record), refusal: None };
        let item = Box::new(Item::Root(root));
        world.hear(Source::Roots, News::Is { service: name, name: String::new(), item });
        world
    }

    fn refused(world: &World, name: &str, before: Option<&ServiceSpec>, spec: &ServiceSpec) -> Option<String> {
        let claim = claim(&Claims::default(), world, name, before, spec);
        Some(claim.err()?.fields[0].field.clone())
    }

    fn claim(claims: &Claims, world: &World, name: &str, before: Option<&ServiceSpec>, spec: &ServiceSpec) -> Result<Arc<Claim>> {
        let names = Names { instance: "mcp".into(), namespace: "tools".into() };
        claims.claim(&names, world, &name.parse().unwrap(), before, spec)
    }

    #[test]
    fn of_two_that_are_created_at_one_moment_the_second_is_refused() {
        let (claims, nothing) = (Claims::default(), World::default());
        let first = claim(&claims, &nothing, "a", None, &store()).unwrap();
        assert!(claim(&claims, &nothing, "a-pods", None, &web()).is_err());
        assert!(claim(&claims, &nothing, "b", None, &web()).is_ok());
        drop(first);
        assert!(claim(&claims, &nothing, "a-pods", None, &web()).is_ok());
    }

    #[test]
    fn a_service_with_the_name_of_another_one_s_pods_is_refused_whichever_comes_first() {
        let field = Some("service_name".to_owned());
        assert_eq!(refused(&world("a", store()), "a-pods", None, &web()), field);
        assert_eq!(refused(&world("a-pods", web()), "a", None, &store()), field);
    }

    #[test]
    fn what_shares_no_service_in_the_cluster_is_let_in() {
        let without_port = ServiceSpec { port: None, ..web() };
        assert_eq!(refused(&world("a", web()), "a-pods", None, &web()), None, "its pods have no names");
        assert_eq!(refused(&world("a", store()), "a-pods", None, &without_port), None, "it has no Service");
        assert_eq!(refused(&world("a", store()), "a-pods-pods", None, &store()), None);
    }

    #[test]
    fn a_service_that_gets_a_port_is_refused_and_one_that_has_it_can_be_changed() {
        let (taken, without_port) = (world("a", store()), ServiceSpec { port: None, ..web() });
        assert_eq!(refused(&taken, "a-pods", Some(&without_port), &web()), Some("port".to_owned()));
        assert_eq!(refused(&taken, "a-pods", Some(&web()), &web()), None);
    }
}
