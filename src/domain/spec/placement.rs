//! Where in a cluster a service may run: the section `kubernetes` of specs. It says on which nodes, and nothing else of a
//! pod, so that no lock can be opened by it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::rules::Check;
use super::schema;

/// What a toleration may say, and the kinds of affinity.
pub(super) const OPERATORS: [&str; 2] = ["Equal", "Exists"];
pub(super) const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
pub(super) const AFFINITIES: [&str; 3] = ["nodeAffinity", "podAffinity", "podAntiAffinity"];

/// Which nodes of a cluster a service may run on. Other backends pass it by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Placement {
    /// Labels that its nodes must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that do not keep it off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// `nodeAffinity`, `podAffinity` and `podAntiAffinity` as pods have them.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = Object)]
    #[schemars(transform = schema::affinity)]
    pub affinity: Map<String, Value>,
}

/// A taint that does not keep a service off.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Toleration {
    /// Key of the taint; every taint when absent, with the operator `Exists`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// `Equal` (the default) or `Exists`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::operator)]
    pub operator: Option<String>,
    /// Value of the taint, with `Equal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`; each when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schema::effect)]
    pub effect: Option<String>,
}

impl Check {
    /// A section that says nothing is none.
    pub(super) fn placement(&mut self, input: Option<Placement>) -> Option<Placement> {
        let placement = input.filter(|placement| *placement != Placement::default())?;
        for (index, toleration) in placement.tolerations.iter().enumerate() {
            let field = |name: &str| format!("kubernetes.tolerations[{index}].{name}");
            let one_of = |value: &Option<String>, allowed: &[&str]| value.as_deref().is_none_or(|value| allowed.contains(&value));
            let operators = one_of(&toleration.operator, &OPERATORS);
            self.that(operators, &field("operator"), "is not known", "use Equal or Exists");
            let effects = one_of(&toleration.effect, &EFFECTS);
            self.that(effects, &field("effect"), "is not known", "use NoSchedule, PreferNoSchedule or NoExecute");
        }
        for kind in placement.affinity.keys() {
            let known = AFFINITIES.contains(&kind.as_str());
            let remedy = "use nodeAffinity, podAffinity and podAntiAffinity";
            self.that(known, &format!("kubernetes.affinity.{}", crate::domain::shown(kind)), "is not known", remedy);
        }
        Some(placement)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Defaults, SpecInput, resolve};

    #[test]
    fn it_says_on_which_nodes_and_nothing_else() {
        let resolved = |section: serde_json::Value| {
            let input: SpecInput = serde_json::from_value(json!({"image": "x", "kubernetes": section})).unwrap();
            let resolved = resolve(input, &Defaults::default(), &[], &|_| None);
            resolved.map_err(|errors| errors.into_iter().map(|error| error.field).collect::<Vec<_>>())
        };
        assert_eq!(resolved(json!({})).unwrap().kubernetes, None);
        let good = json!({"node_selector": {"disk": "fast"}, "tolerations": [{"key": "gpu", "operator": "Exists"}]});
        assert_eq!(serde_json::to_value(resolved(good.clone()).unwrap().kubernetes).unwrap(), good);
        let bad = json!({"tolerations": [{"operator": "Like"}, {"effect": "Never"}], "affinity": {"hostNetwork": {}}});
        let fields =
            ["kubernetes.tolerations[0].operator", "kubernetes.tolerations[1].effect", "kubernetes.affinity.hostNetwork"];
        assert_eq!(resolved(bad).unwrap_err(), fields);
        let other = json!({"image": "x", "kubernetes": {"hostNetwork": true}});
        assert!(serde_json::from_value::<SpecInput>(other).is_err(), "what is no matter of nodes is refused");
    }
}
