//! Services of the product whose Services in the cluster would have one name: that by which the pods of `a` are named,
//! `a-pods`, is also that of a service of this name. Pure; who comes later is refused.

use super::names::Names;
use super::objects;
use super::world::World;
use crate::domain::name::ServiceName;
use crate::domain::spec::ServiceSpec;
use crate::error::{Error, Result};

/// Refuses a new service, or one that has been `before`, where it would take a Service of another one's.
pub(super) fn check(
    names: &Names,
    world: &World,
    name: &ServiceName,
    before: Option<&ServiceSpec>,
    spec: &ServiceSpec,
) -> Result<()> {
    let of = |name: &ServiceName, spec: &ServiceSpec| objects::service_names(names, name, spec);
    let known = before.map(|before| of(name, before)).unwrap_or_default();
    let wanted: Vec<String> = of(name, spec).into_iter().filter(|object| !known.contains(object)).collect();
    let others = world.services().filter(|(other, _)| *other != name);
    let mut theirs = others.filter_map(|(other, objects)| Some((other, of(other, &objects.root.as_ref()?.record.spec))));
    let Some((other, object)) =
        theirs.find_map(|(other, theirs)| Some((other, theirs.into_iter().find(|object| wanted.contains(object))?)))
    else {
        return Ok(());
    };
    let message = format!("the cluster's Service '{object}', which it needs, is one of the service '{other}'");
    Err(if before.is_none() {
        Error::invalid_field("service_name", message, "choose another name")
    } else {
        Error::invalid_field("port", message, "create a service of another name in its place")
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

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
        let names = Names { instance: "mcp".into(), namespace: "tools".into() };
        let error = check(&names, world, &name.parse().unwrap(), before, spec).err()?;
        Some(error.fields[0].field.clone())
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
