//! The lists of many services as one: each thing under the name of its service, in a stable order.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::look::{ListOf, Offer};
use super::raw::Object;
use crate::domain::aggregate::{Names, shown_uri};
use crate::domain::name::ServiceName;

/// The items of all services as clients see them: everything but names and URIs is as it came. Of two with one name,
/// which only a renaming can cause, the first is shown.
pub(super) fn items(offers: &[(ServiceName, Arc<Offer>)], names: &Names, list: ListOf) -> Vec<Object> {
    let (mut items, mut seen) = (Vec::new(), BTreeSet::new());
    for (service, offer) in offers {
        for item in offer.lists.of(list) {
            let Some(shown) = names.shown(service.as_str(), &item.name) else { continue };
            let uri = item.uri.as_deref().map(|uri| shown_uri(service.as_str(), uri));
            if !seen.insert(uri.clone().unwrap_or_else(|| shown.clone())) {
                tracing::warn!(service = service.as_str(), name = shown, "two things have one name; the first is shown");
                continue;
            }
            let mut whole = item.whole.clone();
            whole.put("name", &shown);
            if let Some(uri) = uri {
                whole.put(if whole.has("uri") { "uri" } else { "uriTemplate" }, &uri);
            }
            items.push(whole);
        }
    }
    items
}

/// What the services can do together. Lists can always be asked for and change as services come and go; the rest is
/// there when some service has it.
pub(super) fn capabilities(offers: &[(ServiceName, Arc<Offer>)], sessions: bool) -> Value {
    let some = |name: &str| offers.iter().any(|(_, offer)| offer.capabilities.has(name));
    let subscribe = offers.iter().any(|(_, offer)| {
        offer.capabilities.object("resources").and_then(|resources| resources.read("subscribe")).unwrap_or(false)
    });
    let mut all = Map::new();
    all.insert("tools".to_owned(), json!({"listChanged": true}));
    all.insert("prompts".to_owned(), json!({"listChanged": true}));
    // Without sessions a subscription is a stream of one service, which this endpoint does not join.
    let resources = if sessions { json!({"listChanged": true, "subscribe": subscribe}) } else { json!({"listChanged": true}) };
    all.insert("resources".to_owned(), resources);
    for name in ["completions", "logging"] {
        if some(name) {
            all.insert(name.to_owned(), json!({}));
        }
    }
    Value::Object(all)
}

/// What a model should know of the services, each in its own words.
pub(super) fn instructions(offers: &[(ServiceName, Arc<Offer>)]) -> String {
    let mut text =
        "Tools and prompts of several servers, each named SERVER__NAME; resources have URIs that begin with mcp.SERVER+."
            .to_owned();
    for (service, offer) in offers {
        if let Some(words) = &offer.instructions {
            text.push_str("\n\n");
            text.push_str(service.as_str());
            text.push_str(": ");
            text.push_str(words);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::look::{Item, Lists};
    use super::*;

    fn offer(json: &str) -> Arc<Offer> {
        let list = |name: &str| -> Vec<Item> {
            let whole: Object = serde_json::from_str(json).unwrap();
            let items: Vec<Object> = whole.read(name).unwrap_or_default();
            let uri = |whole: &Object| whole.text("uri").or_else(|| whole.text("uriTemplate"));
            items.into_iter().map(|whole| Item { name: whole.text("name").unwrap(), uri: uri(&whole), whole }).collect()
        };
        let whole: Object = serde_json::from_str(json).unwrap();
        let lists = Lists {
            tools: list("tools"),
            resources: list("resources"),
            templates: list("resourceTemplates"),
            ..Lists::default()
        };
        let capabilities = whole.object("capabilities").unwrap_or_default();
        Arc::new(Offer { capabilities, instructions: whole.text("instructions"), lists })
    }

    fn offers() -> Vec<(ServiceName, Arc<Offer>)> {
        let git = r#"{"tools":[{"name":"status","x-new":[1.0,{"b":1,"a":2}]},{"name":"reset"}],"capabilities":{"logging":{}},"instructions":"Look first."}"#;
        let files = r#"{"resources":[{"uri":"file:///a","name":"a"}],"resourceTemplates":[{"uriTemplate":"file:///{p}","name":"p"}],"capabilities":{"resources":{"subscribe":true}}}"#;
        vec![("files".parse().unwrap(), offer(files)), ("git".parse().unwrap(), offer(git))]
    }

    fn listed(names: &Names, method: &str) -> Vec<String> {
        items(&offers(), names, ListOf::of_method(method).unwrap()).iter().map(Object::to_text).collect()
    }

    #[test]
    fn items_keep_everything_but_their_names() {
        let names = Names { hidden: vec!["git__reset".to_owned()], ..Names::default() };
        assert_eq!(listed(&names, "tools/list"), [r#"{"name":"git__status","x-new":[1.0,{"b":1,"a":2}]}"#]);
        assert_eq!(listed(&names, "resources/list"), [r#"{"uri":"mcp.files+file:///a","name":"files__a"}"#]);
        assert_eq!(listed(&names, "resources/templates/list"), [r#"{"uriTemplate":"mcp.files+file:///{p}","name":"files__p"}"#]);
        assert_eq!(listed(&names, "prompts/list"), Vec::<String>::new());
    }

    #[test]
    fn capabilities_are_those_that_somebody_has() {
        let all = capabilities(&offers(), true);
        assert_eq!(all["resources"], json!({"listChanged": true, "subscribe": true}));
        assert!(all.get("logging").is_some() && all.get("completions").is_none(), "{all}");
        assert_eq!(capabilities(&[], true)["resources"]["subscribe"], false);
        assert!(instructions(&offers()).ends_with("git: Look first."));
    }
}
