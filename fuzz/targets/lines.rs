//! Any bytes in any pieces as the output of a server: the lines are those of the whole text, and none is longer than
//! allowed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mcp_manager::bridge::frame::{Line, Lines};

const LIMIT: usize = 16;

fuzz_target!(|bytes: &[u8]| {
    let Some((pieces, text)) = bytes.split_at_checked(bytes.len().min(8)) else { return };
    let mut lines = Lines::new(LIMIT);
    let mut found = Vec::new();
    let (mut rest, mut number) = (text, 0);
    while !rest.is_empty() {
        let size = pieces.get(number % 8).map_or(1, |size| usize::from(*size)).clamp(1, rest.len());
        let (piece, after) = rest.split_at(size);
        lines.space().extend_from_slice(piece);
        while let Some(line) = lines.next_line() {
            found.push(line);
        }
        (rest, number) = (after, number + 1);
    }
    let short: Vec<&[u8]> =
        found.iter().filter_map(|line| if let Line::Text(text) = line { Some(&text[..]) } else { None }).collect();
    assert!(short.iter().all(|line| line.len() <= LIMIT + 1 && !line.contains(&b'\n')), "{found:?}");
    let whole = text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut whole = whole.filter(|line| !line.is_empty());
    assert!(short.iter().all(|line| whole.any(|other| other == *line)), "{found:?}");
});
