//! Which service a request is for, and what it says in that service's own words.

use bytes::Bytes;
use serde_json::value::RawValue;

use super::Hub;
use super::raw::{Message, Object};
use crate::domain::aggregate::{Scope, original_uri};
use crate::domain::name::ServiceName;
use crate::rpc;

/// A request for one service.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) service: ServiceName,
    /// The request with the service's own names.
    pub(super) message: Message,
    /// The service's own name or URI of what is asked for.
    pub(super) name: String,
}

/// Why there is no target.
#[derive(Debug)]
pub(super) struct NoTarget {
    pub(super) code: i32,
    pub(super) text: String,
}

impl Hub {
    /// The target of a request; `None` when its method is none that services answer.
    pub(super) fn target(&self, scope: &Scope, message: &Message) -> Option<Result<Target, NoTarget>> {
        let mut params = message.params();
        let found = match message.method.as_deref()? {
            "tools/call" => self.by_name(scope, &mut params, "tool", "tools/list"),
            "prompts/get" => self.by_name(scope, &mut params, "prompt", "prompts/list"),
            "resources/read" | "resources/subscribe" | "resources/unsubscribe" => self.by_uri(scope, &mut params),
            "completion/complete" => {
                let Some(mut reference) = params.object("ref") else {
                    return Some(Err(wrong("there is no ref")));
                };
                let found = if reference.text("type").as_deref() == Some("ref/prompt") {
                    self.by_name(scope, &mut reference, "prompt", "prompts/list")
                } else {
                    self.by_uri(scope, &mut reference)
                };
                params.put("ref", &reference);
                found
            }
            _ => return None,
        };
        Some(found.map(|(service, name)| {
            let mut message = message.clone();
            message.set_params(&params);
            Target { service, message, name }
        }))
    }

    fn by_name(&self, scope: &Scope, params: &mut Object, what: &str, list: &str) -> Result<(ServiceName, String), NoTarget> {
        let Some(shown) = params.text("name") else { return Err(wrong("there is no name")) };
        let names = &self.settings.names;
        let found = names.original(&shown).filter(|(service, _)| self.is_member(scope, service));
        let Some((service, name)) = found else {
            return Err(wrong(format!("there is no {what} '{}'; {list} tells which there are", crate::domain::shown(&shown))));
        };
        params.put("name", &name);
        Ok((service, name))
    }

    fn is_member(&self, scope: &Scope, service: &ServiceName) -> bool {
        self.settings.names.includes(scope, service.as_str()) && self.upstream.gateway.knows(service.as_str())
    }

    /// A URI that does not say whose it is may stand in what a service answered; it is looked for in what the services
    /// list.
    fn by_uri(&self, scope: &Scope, params: &mut Object) -> Result<(ServiceName, String), NoTarget> {
        let Some(shown) = params.text("uri") else { return Err(wrong("there is no uri")) };
        let names = &self.settings.names;
        let claimed = original_uri(&shown).map(|(service, uri)| (service, uri.to_owned()));
        let owner = || self.catalog.owner_of(&shown, |service| self.is_member(scope, service));
        let found = claimed.or_else(|| owner().map(|service| (service, shown.clone())));
        let found = found.filter(|(service, uri)| {
            let item = self.catalog.resource(service.as_str(), uri);
            self.is_member(scope, service) && item.is_none_or(|name| names.shown(service.as_str(), &name).is_some())
        });
        let Some((service, uri)) = found else {
            let text = format!("there is no resource '{}'; resources/list tells which there are", crate::domain::shown(&shown));
            return Err(wrong(text));
        };
        params.put("uri", &uri);
        Ok((service, uri))
    }
}

fn wrong(text: impl Into<String>) -> NoTarget {
    NoTarget { code: rpc::INVALID_PARAMS, text: text.into() }
}

impl NoTarget {
    pub(super) fn to_text(&self, id: Option<&RawValue>) -> Bytes {
        super::raw::error(id, self.code, &self.text, None)
    }
}
