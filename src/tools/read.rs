//! How a tool's arguments are read: everything that is wrong is reported at once, in the words of the API.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::domain::fields::{self, Reading};
use crate::domain::name::ServiceName;
use crate::error::{Error, FieldError, Kind, Result};

/// The arguments of a tool.
pub(super) trait Arguments: Sized {
    /// Reads them. `twice` are the names that are given twice among them.
    fn read(arguments: &Map<String, Value>, twice: Vec<FieldError>) -> Result<Self>;
}

/// Arguments that are read field by field, and may break rules although each can be read.
pub(super) trait Plain: DeserializeOwned + Default {
    /// All the rules that they break.
    fn violations(&self) -> Vec<FieldError>;
}

/// What is read field by field.
pub(super) fn plain<T: Plain>(arguments: &Map<String, Value>, twice: &[FieldError]) -> Result<T> {
    let mut read = fields::read_part::<T>(arguments, &|_| true, &[]);
    add_violations(&mut read);
    checked(read, twice)
}

/// What two types know of the arguments, with the errors of both; `T` is read first, and the rest is for `R`.
pub(super) fn both<T: Plain, R: Plain>(arguments: &Map<String, Value>, twice: &[FieldError]) -> Result<(T, R)> {
    let (mut first, rest) = part::<T>(arguments);
    let mut second = fields::read_part::<R>(&rest, &|_| true, &[]);
    add_violations(&mut first);
    add_violations(&mut second);
    let errors = [first.errors, second.errors].concat();
    checked(Reading { value: (first.value, second.value), errors, ..Reading::default() }, twice)
}

/// What something with a reader of its own makes of the arguments.
pub(super) fn by<T>(read: impl FnOnce(&Value) -> Result<T>, arguments: &Map<String, Value>, twice: &[FieldError]) -> Result<T> {
    let read = read(&Value::Object(arguments.clone()));
    if twice.is_empty() { read } else { once(read.map_err(|error| error.fields), twice) }
}

/// The arguments that `T` knows, and those that are left for somebody else to read.
pub(super) fn part<T>(arguments: &Map<String, Value>) -> (Reading<T>, Map<String, Value>)
where
    T: DeserializeOwned + Default,
{
    let known = fields::field_names::<T>();
    let rest = arguments.iter().filter(|(key, _)| !known.contains(&key.as_str()));
    let rest = rest.map(|(key, value)| (key.clone(), value.clone())).collect();
    (fields::read_part(arguments, &|key| known.contains(&key), &[]), rest)
}

/// What was read, when nothing is wrong and no name is given twice.
pub(super) fn once<T>(read: Result<T, Vec<FieldError>>, twice: &[FieldError]) -> Result<T> {
    fields::once(read, twice).map_err(|errors| Error::invalid("the request is not valid", errors))
}

/// The name of a service, which must be there.
pub(super) fn service_name(name: Option<String>) -> Result<ServiceName> {
    name.ok_or_else(|| Error::invalid_field("name", "is missing", "name a container; container_list tells which there are"))?
        .parse()
}

/// What is wrong with the name of a service.
pub(super) fn wrong_name(name: Option<&String>) -> Vec<FieldError> {
    service_name(name.cloned()).err().map(|error| error.fields).unwrap_or_default()
}

fn add_violations<T: Plain>(read: &mut Reading<T>) {
    let violations = read.value.violations().into_iter();
    // About what could not be read nothing else is said.
    read.errors.extend(violations.filter(|error| !read.unread.contains(&error.field)));
}

fn checked<T>(read: Reading<T>, twice: &[FieldError]) -> Result<T> {
    // Where it is all that is wrong, a name is told as an endpoint tells it, which finds it in the path before all else.
    if let ([error], []) = (&*read.errors, twice)
        && error.field == "service_name"
    {
        return Err(Error { fields: read.errors.clone(), ..Error::new(Kind::Invalid, error.to_string()) });
    }
    once(if read.errors.is_empty() { Ok(read.value) } else { Err(fields::bounded(read.errors)) }, twice)
}
