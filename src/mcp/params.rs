//! Whether the parameters of a request are what its method takes. The library takes a request whose parameters it cannot
//! read for one of a method that it does not know; here the client is told what is wrong with them. Leaves out methods that
//! this server does not have.

use rmcp::model::{CallToolRequestParams, CompleteRequestParams, InitializeRequestParams, JsonObject, PaginatedRequestParams};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::domain::shown;
use crate::error::Error;

/// A method of this server.
struct Method {
    name: &'static str,
    /// Whether it can be asked for without parameters.
    optional: bool,
    /// Reads parameters: where they are wrong, and why.
    read: fn(&Value) -> Result<(), (String, String)>,
    /// What it takes.
    remedy: &'static str,
}

/// Parameters of which nothing but `_meta` has a meaning.
#[derive(Deserialize)]
struct Plain {
    #[serde(rename = "_meta")]
    _meta: Option<JsonObject>,
}

const METHODS: [Method; 6] = [
    Method {
        name: "initialize",
        optional: false,
        read: read::<InitializeRequestParams>,
        remedy: "send protocolVersion, capabilities, and clientInfo with a name and a version",
    },
    Method { name: "ping", optional: true, read: read::<Plain>, remedy: "leave the parameters out, or send an object" },
    Method { name: "server/discover", optional: false, read: read::<Plain>, remedy: "send an object with _meta" },
    Method {
        name: "tools/list",
        optional: true,
        read: read::<PaginatedRequestParams>,
        remedy: "leave the parameters out, or send an object",
    },
    Method {
        name: "tools/call",
        optional: false,
        read: read::<CallToolRequestParams>,
        remedy: "send the name of a tool, and its arguments as an object",
    },
    Method { name: "completion/complete", optional: false, read: read::<CompleteRequestParams>, remedy: "send ref and argument" },
];

/// Whether requests of this method can have wrong parameters here.
pub(super) fn are_known(method: &str) -> bool {
    METHODS.iter().any(|known| known.name == method)
}

/// What is wrong with the parameters of a request of this method; nothing is wrong with those of unknown methods.
pub(super) fn wrong(method: &str, params: Option<&Value>) -> Option<Error> {
    let method = METHODS.iter().find(|known| known.name == method)?;
    let (field, why) = match params {
        None | Some(Value::Null) if method.optional => return None,
        None => ("params".to_owned(), format!("is missing, which {} needs", method.name)),
        Some(params @ Value::Object(_)) => (method.read)(params).err()?,
        Some(_) => ("params".to_owned(), "is no object".to_owned()),
    };
    Some(Error::invalid_field(field, why, method.remedy))
}

/// The error for parameters that the library could not read, for whatever reason.
pub(super) fn unreadable(method: &str, params: Option<&Value>) -> Error {
    wrong(method, params)
        .unwrap_or_else(|| Error::invalid_field("params", "cannot be read", "send what the method takes, and each member once"))
}

fn read<T: DeserializeOwned>(params: &Value) -> Result<(), (String, String)> {
    let found = serde_path_to_error::deserialize::<_, T>(params);
    found.map(drop).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." { "params".to_owned() } else { format!("params.{}", shown(&path)) };
        (field, shown(&error.inner().to_string()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(method: &str, params: &Value) -> Option<String> {
        wrong(method, Some(params)).map(|error| error.to_string())
    }

    #[test]
    fn what_is_wrong_with_parameters_is_said_with_its_place() {
        let told = |method: &str, params: Value| told(method, &params).unwrap();
        let hello = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": 7, "version": "1"}});
        insta::assert_snapshot!(
            [
                told("tools/call", json!({"name": 5})),
                told("tools/call", json!({"name": "a", "arguments": "x"})),
                told("tools/call", json!({"name": "a", "_meta": []})),
                told("tools/call", json!({})),
                told("tools/call", json!(["a"])),
                told("tools/list", json!({"cursor": 5})),
                told("tools/list", json!("x")),
                told("ping", json!([])),
                told("ping", json!({"_meta": "x"})),
                told("initialize", hello),
                told("initialize", json!({})),
                wrong("tools/call", None).unwrap().to_string(),
                wrong("server/discover", None).unwrap().to_string(),
            ]
            .join("\n")
        );
    }

    #[test]
    fn nothing_is_wrong_with_what_a_method_takes() {
        for (method, params) in [
            ("tools/call", json!({"name": "a"})),
            ("tools/call", json!({"name": "a", "arguments": null, "x": 1})),
            ("tools/call", json!({"name": "a", "arguments": {"a": [1, {}]}, "_meta": {"progressToken": 1}})),
            ("tools/list", json!({"cursor": "x"})),
            ("tools/list", Value::Null),
            ("ping", json!({"x": 1})),
            (
                "initialize",
                json!({"protocolVersion": "1", "capabilities": {"x": 1}, "clientInfo": {"name": "a", "version": "1"}}),
            ),
            ("prompts/get", json!(5)),
            ("no/such", json!({"name": 5})),
        ] {
            assert_eq!(told(method, &params), None, "{method} {params}");
        }
        assert!(wrong("tools/list", None).is_none() && wrong("ping", None).is_none());
    }
}
