//! The table of tools. It names them and says what they are; what they do stands in the files beside it.

use super::{Call, Effect, Tool, Work, containers, read, schema, system, templates};
use crate::domain::access::Operation;

/// Every tool, in the order in which they are listed.
pub const TOOLS: &[Tool] = &[
    tool! { container_create(containers::Create) -> containers::Created, containers::create, ServiceCreate, ADDS, "POST /containers",
    "Create container",
    "Create and start a container (a service with a name, a URL and 1 to 100 replicas) from a template, from an image, \
     or from a template with changes. Answers when it is healthy or its start timeout has passed: look at 'status'. \
     A creation that fails leaves nothing behind. template_list tells which templates there are." },
    tool! { container_list(containers::List) -> containers::Listed, containers::list, ServiceList, READS, "GET /containers",
    "List containers",
    "List the containers that this manager runs, with their status, URL, image and template; filters and pages." },
    tool! { container_get(containers::Named) -> containers::Shown, containers::get, ServiceGet, READS, "GET /containers/{name}",
    "Show container",
    "Everything about one container: status, why it is not as it should be, replicas, health, last exit, settings." },
    tool! { container_start(containers::NamedAndWait) -> containers::Shown, containers::start, ServiceStart, ADDS_AGAIN,
    "POST /containers/{name}/start",
    "Start container",
    "Start a stopped container. container_create makes new ones." },
    tool! { container_stop(containers::NamedAndWait) -> containers::Shown, containers::stop, ServiceStop, DESTROYS_AGAIN,
    "POST /containers/{name}/stop",
    "Stop container",
    "Stop a container; it stays stopped until somebody starts it. Nothing is deleted." },
    tool! { container_restart(containers::NamedAndWait) -> containers::Shown, containers::restart, ServiceRestart, DESTROYS,
    "POST /containers/{name}/restart",
    "Restart container",
    "Restart a container, one replica after the other; a stopped one is started." },
    tool! { container_remove(containers::Remove) -> containers::Removal, containers::remove, ServiceDelete, DESTROYS_AGAIN,
    "DELETE /containers/{name}",
    "Remove container",
    "Delete a container with everything that belongs to it. Its named volumes stay unless 'volumes' is true. \
     Also ends a creation that is under way." },
    tool! { container_logs(containers::Logs) -> containers::LogPage, containers::logs, ServiceLogs, READS,
    "GET /containers/{name}/logs",
    "Container logs",
    "Log lines of a container, replicas merged by time: the last 100 of each unless 'tail' or 'since' say otherwise." },
    tool! { container_inspect(containers::Named) -> containers::Inspection, containers::inspect, ServiceInspect, READS,
    "GET /containers/{name}/inspect",
    "Inspect container",
    "The engine's own description of each replica of a container; secret values are replaced." },
    tool! { container_stats(containers::Named) -> containers::Stats, containers::stats, ServiceStats, READS,
    "GET /containers/{name}/stats",
    "Container statistics",
    "CPU, memory, processes and network use of each running replica of a container." },
    tool! { container_update_env(containers::UpdateEnvironment) -> containers::Shown, containers::update_environment, ServicePatch,
    DESTROYS_AGAIN, "PATCH /containers/{name}",
    "Update container environment",
    "Set or remove (null) environment variables of a container; its replicas are replaced one by one. \
     When the new ones do not become healthy, the former state stays." },
    tool! { container_scale(containers::Scale) -> containers::Shown, containers::scale, ServicePatch, DESTROYS_AGAIN,
    "PATCH /containers/{name}",
    "Scale container",
    "Change how many replicas run a container." },
    tool! { container_apply(containers::Apply) -> containers::Shown, containers::apply, ServiceApply, DESTROYS_AGAIN,
    "PUT /containers/{name}",
    "Apply container",
    "Make a container be as described: it is created, changed, tried again if it had failed, or left alone; \
     'outcome' says which. What the description does not say goes back to the template or the defaults." },
    tool! { container_plan(containers::Plan) -> containers::Planned, containers::plan, ServicePlan, READS,
    "PUT /containers/{name}?dry_run=true",
    "Plan container",
    "Show what container_create or container_apply would do with the same description, without doing it: whether a \
     container would be created, changed or left alone, and which objects of the engine that takes. \
     Errors are those of the real thing." },
    tool! { template_list(system::Nothing) -> templates::Listed, templates::list, TemplateList, READS, "GET /templates",
    "List templates",
    "List the templates that containers can be created from, with what they need and can do; those with errors are among them." },
    tool! { template_get(templates::Named) -> templates::Shown, templates::get, TemplateGet, READS, "GET /templates/{name}",
    "Show template",
    "One template with its document: NAME for its newest version, or NAME@VERSION." },
    tool! { template_validate(templates::Document) -> templates::Valid, templates::validate, TemplateValidate, READS,
    "POST /templates/validate",
    "Validate template",
    "Check a template document without keeping it; a wrong one is answered with every error it has." },
    tool! { template_create(templates::Document) -> templates::Written, templates::create, TemplatePut, DESTROYS_AGAIN,
    "POST /templates",
    "Create template",
    "Write a template, or replace the same version of one. Running containers go on as they are." },
    tool! { package_add(system::Package) -> system::PackageAnswer, system::add_package, PackageAdd, DESTROYS_AGAIN, "POST /packages",
    "Add package",
    "Make a package of npm or PyPI, or an image, something that can be started: an image is built in a locked container \
     and a template written, whose name is answered; container_create with that template starts it. A package that was \
     built before is at hand at once. A template that says something else is replaced only with 'replace'." },
    tool! { image_list(system::Nothing) -> system::Images, system::images, ImageList, READS, "GET /images",
    "List images",
    "List the images that the engine has." },
    tool! { image_pull(system::Pull) -> system::Image, system::pull, ImagePull, ADDS_AGAIN, "POST /images/pull",
    "Pull image",
    "Make an image available, so that containers from it start at once." },
    tool! { system_health(system::Nothing) -> system::Health, system::health, HealthRead, READS, "GET /health",
    "System health",
    "Whether the manager and what it relies on are well." },
    tool! { system_diagnostics(system::Nothing) -> system::Diagnostics, system::diagnostics, SystemDiagnostics, READS,
    "GET /system/diagnostics",
    "System diagnostics",
    "One look at everything that may be wrong: engine, limits, capacity, containers, templates; with remedies." },
];

const READS: Effect = Effect::Reads;
const ADDS: Effect = Effect::Adds { idempotent: false };
const ADDS_AGAIN: Effect = Effect::Adds { idempotent: true };
const DESTROYS: Effect = Effect::Destroys { idempotent: false };
const DESTROYS_AGAIN: Effect = Effect::Destroys { idempotent: true };

/// Reads the arguments, does the work, writes the answer.
fn run<I, O, W>(call: Call, work: fn(Call, I) -> W) -> Work
where
    I: read::Arguments + Send + 'static,
    O: serde::Serialize,
    W: Future<Output = crate::error::Result<O>> + Send + 'static,
{
    Box::pin(async move {
        let mut call = call;
        let input = I::read(&call.arguments, std::mem::take(&mut call.twice))?;
        let output = work(call, input).await?;
        serde_json::to_value(output).map_err(|error| crate::error::Error::internal("the answer cannot be written", error))
    })
}

macro_rules! tool {
    ($name:ident($input:ty) -> $output:ty, $function:path, $operation:ident, $effect:ident, $endpoint:literal, $title:literal, $description:literal) => {
        Tool {
            name: stringify!($name),
            title: $title,
            description: $description,
            operation: Operation::$operation,
            effect: $effect,
            endpoint: $endpoint,
            input: schema::input::<$input>,
            output: schema::output::<$output>,
            run: |call| run::<$input, $output, _>(call, $function),
        }
    };
}
use tool;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_given_once_and_effects_agree_with_the_operations() {
        let names: BTreeSet<_> = TOOLS.iter().map(|tool| tool.name).collect();
        assert_eq!(names.len(), TOOLS.len());
        for tool in TOOLS {
            assert_eq!(tool.effect.reads_only(), !tool.operation.audited(), "{}: what changes something is audited", tool.name);
        }
    }

    #[test]
    fn schemas_are_objects_in_words_that_every_validator_knows() {
        for tool in TOOLS {
            for schema in [tool.input_schema(), tool.output_schema()] {
                assert_eq!(schema["type"], "object", "{}", tool.name);
                let text = serde_json::Value::Object((*schema).clone()).to_string();
                for word in ["\"$ref\"", "\"$defs\"", "\"format\":\"", "\"$schema\":\""] {
                    assert!(!text.contains(word), "{} has {word}", tool.name);
                }
                jsonschema::validator_for(&serde_json::Value::Object((*schema).clone())).unwrap();
            }
            let input = tool.input_schema();
            assert!(!["anyOf", "oneOf", "allOf"].iter().any(|word| input.contains_key(*word)), "{}: models refuse it", tool.name);
            assert_eq!(input["additionalProperties"], false, "{}", tool.name);
            for (field, schema) in input["properties"].as_object().unwrap() {
                assert!(schema["description"].is_string(), "{}.{field} says what it is", tool.name);
            }
        }
    }
}
