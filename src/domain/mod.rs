//! Pure types and rules: names, quantities, templates, specs, statuses, access. No I/O, no async.

pub mod access;
pub mod fields;
pub mod name;
pub mod quantity;
pub mod spec;
pub mod status;
pub mod template;

/// The existing name nearest to `name`, when one is near enough to be a likely slip of the keyboard.
#[must_use]
pub fn nearest<'a>(name: &str, existing: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    existing
        .into_iter()
        .map(|candidate| (strsim::normalized_damerau_levenshtein(name, candidate), candidate))
        .filter(|(similarity, _)| *similarity >= 0.6)
        .max_by(|(left, _), (right, _)| left.total_cmp(right))
        .map(|(_, candidate)| candidate)
}
