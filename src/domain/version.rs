//! The order of versions. People write `1.10`, `v2`, `2024-06-01`, `1.0-rc2`; all of them have a place.

use std::cmp::Ordering;

/// Orders versions: number by number, `1.10` after `1.9`; text after numbers; what has a part after `-` before what has
/// not; what has more parts after what has fewer. A leading `v` and what follows a `+` count only between equals.
#[must_use]
pub fn compare_versions(left: &str, right: &str) -> Ordering {
    compare_meanings(left, right).then_with(|| left.cmp(right))
}

fn compare_meanings(left: &str, right: &str) -> Ordering {
    let ((left, left_pre), (right, right_pre)) = (split(left), split(right));
    compare_parts(left, right).then_with(|| match (left_pre, right_pre) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(left), Some(right)) => compare_parts(left, right),
    })
}

/// The version proper and what follows its first `-`.
fn split(version: &str) -> (&str, Option<&str>) {
    let version = version.split_once('+').map_or(version, |(version, _)| version);
    let version =
        version.strip_prefix('v').filter(|rest| rest.starts_with(|first: char| first.is_ascii_digit())).unwrap_or(version);
    version.split_once('-').map_or((version, None), |(version, pre)| (version, Some(pre)))
}

fn compare_parts(left: &str, right: &str) -> Ordering {
    let parts = |text| std::iter::successors(Some(next_part(text)), |(_, rest)| (!rest.is_empty()).then(|| next_part(rest)));
    parts(left).map(|(part, _)| part).cmp(parts(right).map(|(part, _)| part))
}

/// A run of digits or a run of others. Numbers are compared by their length first, so none is too large.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part<'v> {
    Number(usize, &'v str),
    Text(&'v str),
}

fn next_part(text: &str) -> (Part<'_>, &str) {
    let text = text.trim_start_matches(['.', '-', '_']);
    let is_number = text.starts_with(|first: char| first.is_ascii_digit());
    let ends = |next: char| next.is_ascii_digit() != is_number || ['.', '-', '_'].contains(&next);
    let (part, rest) = text.split_at(text.find(ends).unwrap_or(text.len()));
    if is_number {
        let digits = part.trim_start_matches('0');
        (Part::Number(digits.len(), digits), rest)
    } else {
        (Part::Text(part), rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn versions_stand_in_the_order_that_people_expect() {
        let expected = [
            "0",
            "1.0-alpha",
            "1.0-alpha.2",
            "1.0-rc2",
            "1.0-rc10",
            "1.0",
            "1.0+build",
            "1.0.1",
            "1.9-rc1",
            "1.9",
            "v1.10",
            "2",
            "2024-06-01",
            "2024-11-30",
            "99999999999999999999999",
            "latest",
        ];
        let mut versions = expected;
        versions.reverse();
        versions.sort_by(|left, right| compare_versions(left, right));
        assert_eq!(versions, expected);
    }

    proptest! {
        #[test]
        fn it_is_an_order(a in "[0-9a-c.+_v-]{0,8}", b in "[0-9a-c.+_v-]{0,8}", c in "[0-9a-c.+_v-]{0,8}") {
            prop_assert_eq!(compare_versions(&a, &b), compare_versions(&b, &a).reverse());
            prop_assert_eq!(compare_versions(&a, &b) == Ordering::Equal, a == b);
            if compare_versions(&a, &b).is_le() && compare_versions(&b, &c).is_le() {
                prop_assert!(compare_versions(&a, &c).is_le());
            }
        }
    }
}
