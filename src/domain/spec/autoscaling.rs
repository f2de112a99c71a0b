//! Replicas by load: how many there may be, and what load each should bear. Backends that do not scale say so.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::rules::{self, Check};
use super::schema::{requires, within};
use crate::domain::quantity::Span;

/// Load at which a replica counts as busy, in percent of its CPU limit.
const CPU_PERCENT: u32 = 80;

/// Autoscaling as written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = requires("max"))]
pub struct AutoscalingInput {
    /// Fewest replicas (default: `replicas`, or 1).
    #[serde(default, deserialize_with = "rules::replicas", skip_serializing_if = "Option::is_none")]
    #[schemars(transform = within(rules::REPLICAS))]
    pub min: Option<u32>,
    /// Most replicas; `MAX_CONTAINERS` counts these.
    #[serde(default, deserialize_with = "rules::replicas", skip_serializing_if = "Option::is_none")]
    #[schemars(required, transform = within(rules::REPLICAS))]
    pub max: Option<u32>,
    /// Load that each replica should bear, in percent of its CPU limit, 1 to 100 (default 80).
    #[serde(default, deserialize_with = "rules::cpu_percent", skip_serializing_if = "Option::is_none")]
    #[schemars(transform = within(rules::CPU_PERCENT))]
    pub cpu_percent: Option<u32>,
    /// How long the load must have been lower before replicas go, up to `1h` (default `5m`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = within(rules::UP_TO_AN_HOUR))]
    pub scale_down_after: Option<Span>,
}

/// Replicas by load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
pub struct Autoscaling {
    /// Fewest replicas.
    pub min: u32,
    /// Most replicas.
    pub max: u32,
    /// Load that each replica should bear, in percent of its CPU limit.
    pub cpu_percent: u32,
    /// How long the load must have been lower before replicas go.
    #[serde(default = "scale_down_after")]
    pub scale_down_after: Span,
}

/// Replicas that came with a burst of load are still there for the next one.
const fn scale_down_after() -> Span {
    Span(300_000)
}

impl Check {
    /// Autoscaling, and how many replicas there are at first where the spec does not say.
    pub(super) fn autoscaling(&mut self, input: Option<AutoscalingInput>, replicas: Option<u32>) -> (Option<Autoscaling>, u32) {
        let Some(input) = input else { return (None, replicas.unwrap_or(1)) };
        let min = self.within("autoscaling.min", input.min.or(replicas).unwrap_or(1), rules::REPLICAS);
        let Some(max) = input.max else {
            self.wrong("autoscaling.max", "is missing", "say how many replicas there may be at most");
            return (None, replicas.unwrap_or(1));
        };
        let max = self.within("autoscaling.max", max, rules::REPLICAS);
        self.that(min <= max, "autoscaling.max", "is less than the fewest", &format!("use {min} or more"));
        let replicas = replicas.unwrap_or(min);
        self.that((min..=max).contains(&replicas) || min > max, "replicas", "is not within 'autoscaling'", "leave it out");
        let cpu_percent = self.within("autoscaling.cpu_percent", input.cpu_percent.unwrap_or(CPU_PERCENT), rules::CPU_PERCENT);
        let scale_down_after = input.scale_down_after.unwrap_or_else(scale_down_after);
        // A cluster remembers loads no longer.
        let most = *rules::UP_TO_AN_HOUR.end();
        self.that(scale_down_after <= most, "autoscaling.scale_down_after", "is too long", &format!("use {most} or less"));
        (Some(Autoscaling { min, max, cpu_percent, scale_down_after }), replicas)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Defaults, ServiceSpec, SpecInput, resolve};

    fn resolved(document: serde_json::Value) -> Result<ServiceSpec, Vec<String>> {
        let input: SpecInput = serde_json::from_value(document).unwrap();
        let resolved = resolve(input, &Defaults::default(), &[], &|_| None);
        resolved.map_err(|errors| errors.into_iter().map(|error| error.field).collect())
    }

    #[test]
    fn replicas_begin_with_the_fewest_and_stay_within() {
        let spec = resolved(json!({"image": "x", "autoscaling": {"min": 2, "max": 5}})).unwrap();
        assert_eq!((spec.replicas, spec.most_replicas(), spec.autoscaling.unwrap().cpu_percent), (2, 5, 80));
        let spec = resolved(json!({"image": "x", "replicas": 3, "autoscaling": {"max": 5}})).unwrap();
        assert_eq!((spec.replicas, spec.autoscaling.unwrap().min), (3, 3));
        let table = [
            (json!({"min": 2}), "autoscaling.max"),
            (json!({"min": 6, "max": 5}), "autoscaling.max"),
            (json!({"max": 1000}), "autoscaling.max"),
            (json!({"max": 2, "cpu_percent": 0}), "autoscaling.cpu_percent"),
            (json!({"max": 2, "scale_down_after": "2h"}), "autoscaling.scale_down_after"),
        ];
        for (autoscaling, field) in table {
            assert_eq!(resolved(json!({"image": "x", "autoscaling": autoscaling})).unwrap_err(), [field]);
        }
        let outside = resolved(json!({"image": "x", "replicas": 9, "autoscaling": {"min": 1, "max": 5}}));
        assert_eq!(outside.unwrap_err(), ["replicas"]);
    }

    #[test]
    fn what_scales_replaces_no_container() {
        let plain = resolved(json!({"image": "x"})).unwrap();
        let scaled = resolved(json!({"image": "x", "autoscaling": {"max": 5}})).unwrap();
        assert_eq!(plain.container_digest(), scaled.container_digest());
    }
}
