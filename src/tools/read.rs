//! How a tool's arguments are read: every wrong field is reported, in the words of the API.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::domain::fields;
use crate::domain::name::ServiceName;
use crate::error::{Error, Result};

/// The arguments of a tool.
pub(super) trait Arguments: Sized {
    /// Reads them.
    fn read(arguments: &Map<String, Value>) -> Result<Self>;
}

/// What is read field by field needs no more than its type.
pub(super) fn plain<T: DeserializeOwned>(arguments: &Map<String, Value>) -> Result<T> {
    fields::read(arguments).map_err(|errors| Error::invalid("the request is not valid", errors))
}

/// The arguments that `T` knows, and those that are left for somebody else to read.
pub(super) fn part<T>(arguments: &Map<String, Value>) -> (fields::Reading<T>, Map<String, Value>)
where
    T: DeserializeOwned + Default,
{
    let known = fields::field_names::<T>();
    let rest = arguments.iter().filter(|(key, _)| !known.contains(&key.as_str()));
    let rest = rest.map(|(key, value)| (key.clone(), value.clone())).collect();
    (fields::read_part(arguments, &|key| known.contains(&key), &[]), rest)
}

/// What was read of a part and what became of the rest, with the errors of both.
pub(super) fn both<A, B>(part: fields::Reading<A>, rest: Result<B>) -> Result<(A, B)> {
    match rest {
        Ok(rest) if part.errors.is_empty() => Ok((part.value, rest)),
        Ok(_) => Err(Error::invalid("the request is not valid", part.errors)),
        Err(error) if part.errors.is_empty() => Err(error),
        Err(error) => Err(Error::invalid("the request is not valid", [part.errors, error.fields].concat())),
    }
}

/// The name of a service, which must be there.
pub(super) fn service_name(name: Option<String>) -> Result<ServiceName> {
    name.ok_or_else(|| Error::invalid_field("name", "is missing", "name a container; container_list tells which there are"))?
        .parse()
}
