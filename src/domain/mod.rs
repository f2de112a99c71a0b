//! Pure types and rules: names, address ranges, quantities, templates, specs, statuses, access, what is secret. No I/O, no async.

pub mod access;
pub mod address_range;
pub mod aggregate;
pub mod document;
pub mod fields;
pub mod mcp_path;
pub mod name;
pub mod package;
pub mod quantity;
pub mod reason;
#[cfg(test)]
pub mod samples;
pub mod secret;
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

/// Bytes as lower-case hexadecimal digits, two for each.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |text, byte| text + &format!("{byte:02x}"))
}

/// Shortest beginning of a name for which the whole is suggested.
const MIN_BEGINNING: usize = 3;

/// The existing name nearest to `name`: one near enough to be a likely slip of the keyboard, else the shortest one that
/// begins with it (`memory` for `memory_limit`). Of equally near ones it is the first; capitals make no difference.
#[must_use]
pub fn nearest<'a>(name: &str, existing: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > MAX_NEAR {
        return None;
    }
    let lower = name.to_lowercase();
    let (mut near, mut longer): (Option<(f64, &str)>, Option<&str>) = (None, None);
    for candidate in existing {
        let small = candidate.to_lowercase();
        let similarity = strsim::normalized_damerau_levenshtein(&lower, &small);
        if similarity >= 0.6 && near.is_none_or(|(best, _)| similarity > best) {
            near = Some((similarity, candidate));
        }
        let begins = name.len() >= MIN_BEGINNING && small.starts_with(&lower);
        if begins && longer.is_none_or(|shortest| candidate.len() < shortest.len()) {
            longer = Some(candidate);
        }
    }
    near.map(|(_, candidate)| candidate).or(longer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_and_a_beginning_have_a_nearest_name_and_anything_else_has_none() {
        let known = ["port", "ports", "environment", "memory_limit", "health_check_path", "health_check", "cpu_limit"];
        let table = [
            ("prot", Some("port")),
            ("portt", Some("port")),
            ("ENVIRONMENT", Some("environment")),
            ("Mem", Some("memory_limit")),
            ("memory", Some("memory_limit")),
            ("mem_limit", Some("memory_limit")),
            ("env", Some("environment")),
            ("health", Some("health_check")),
            ("healthcheck", Some("health_check")),
            ("cpu", Some("cpu_limit")),
            ("me", None),
            ("xyz", None),
            ("", None),
        ];
        for (written, meant) in table {
            assert_eq!(nearest(written, known), meant, "{written}");
        }
    }
}
