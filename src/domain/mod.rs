//! Pure types and rules: names, address ranges, quantities, templates, specs, statuses, access. No I/O, no async.

pub mod access;
pub mod address_range;
pub mod aggregate;
pub mod document;
pub mod fields;
pub mod name;
pub mod package;
pub mod quantity;
#[cfg(test)]
pub mod samples;
pub mod spec;
pub mod status;
pub mod template;
pub mod version;

/// Longest text of somebody else's that an error quotes, in characters.
const MAX_SHOWN: usize = 80;

/// Longest name for which a near one is sought; what is longer is no slip of the keyboard, and costly to compare.
const MAX_NEAR: usize = 64;

/// Somebody else's text as an error or a log line may quote it: escaped, and not long.
#[must_use]
pub fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// The existing name nearest to `name`, when one is near enough to be a likely slip of the keyboard.
#[must_use]
pub fn nearest<'a>(name: &str, existing: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > MAX_NEAR {
        return None;
    }
    existing
        .into_iter()
        .map(|candidate| (strsim::normalized_damerau_levenshtein(name, candidate), candidate))
        .filter(|(similarity, _)| *similarity >= 0.6)
        .max_by(|(left, _), (right, _)| left.total_cmp(right))
        .map(|(_, candidate)| candidate)
}
