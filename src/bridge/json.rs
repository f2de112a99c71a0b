//! JSON texts as byte ranges: checks a text against the grammar and finds members, without building a tree and without
//! copying. Leaves out the meaning of members (see [`super::scan`]) and changing a text (see [`super::splice`]).

use std::borrow::Cow;

/// Values nested deeper than this are refused, so that no text can exhaust the stack.
const DEEPEST: u32 = 256;
const TOO_DEEP: &str = "values are nested deeper than 256 levels";

/// A range of bytes in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    /// The bytes of the range.
    #[must_use]
    pub fn of(self, text: &[u8]) -> &[u8] {
        &text[self.start..self.end]
    }

    /// The range with no bytes in front of `self`.
    #[must_use]
    pub fn before(self) -> Self {
        Self { start: self.start, end: self.start }
    }
}

/// Why a text is no JSON, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub struct Fault {
    /// What is wrong.
    pub what: &'static str,
    /// Offset in bytes.
    pub at: usize,
}

impl Fault {
    /// Whether it is JSON all the same, as far as it was read.
    #[must_use]
    pub fn is_depth(&self) -> bool {
        self.what == TOO_DEEP
    }
}

fn fault<T>(what: &'static str, at: usize) -> Result<T, Fault> {
    Err(Fault { what, at })
}

/// Checks that `text` is one JSON value in UTF-8 with nothing behind it; the range of the value without white space.
///
/// # Errors
/// The first place where it is not.
pub fn check(text: &[u8]) -> Result<Span, Fault> {
    if let Err(error) = std::str::from_utf8(text) {
        return fault("this is not UTF-8", error.valid_up_to());
    }
    let start = skip_white(text, 0);
    let end = skip_value(text, start, 0)?;
    let rest = skip_white(text, end);
    if rest == text.len() { Ok(Span { start, end }) } else { fault("text behind the value", rest) }
}

/// The members of the object at `object`, in order. Whether the range holds an object, and what is in it, is checked on
/// the way.
#[must_use]
pub fn members(text: &[u8], object: Span) -> Members<'_> {
    Members { text, position: object.start, state: Position::Start }
}

/// The elements of the array at `array`, in order, checked on the way.
pub fn elements(text: &[u8], array: Span) -> Result<Vec<Span>, Fault> {
    let mut found = Vec::new();
    let mut position = array.start;
    if text.get(position) != Some(&b'[') {
        return fault("an array is expected", position);
    }
    position = skip_white(text, position + 1);
    if text.get(position) == Some(&b']') {
        return Ok(found);
    }
    loop {
        let end = skip_value(text, position, 1)?;
        found.push(Span { start: position, end });
        position = skip_white(text, end);
        match text.get(position) {
            Some(b',') => position = skip_white(text, position + 1),
            Some(b']') => return Ok(found),
            _ => return fault("',' or ']' is expected", position),
        }
    }
}

/// The values of the members called `names` of the object at `object`. The last of several members of one name counts,
/// as for most readers. Nothing is found in what is no object.
#[must_use]
pub fn find<const N: usize>(text: &[u8], object: Option<Span>, names: [&str; N]) -> [Option<Span>; N] {
    find_noting(text, object, names).0
}

/// As [`find`], and whether one of the names occurs more than once.
#[must_use]
pub fn find_noting<const N: usize>(text: &[u8], object: Option<Span>, names: [&str; N]) -> ([Option<Span>; N], bool) {
    let (mut found, mut twice) = ([None; N], false);
    let Some(object) = object else { return (found, twice) };
    for member in members(text, object) {
        let Ok(member) = member else { break };
        for (name, place) in names.iter().zip(found.iter_mut()) {
            if member.is_called(text, name) {
                twice |= place.replace(member.value).is_some();
            }
        }
    }
    (found, twice)
}

/// The string at `span`, or nothing if no string is there.
#[must_use]
pub fn string(text: &[u8], span: Span) -> Option<Cow<'_, str>> {
    let raw = span.of(text);
    let inner = raw.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if inner.contains(&b'\\') {
        serde_json::from_slice(raw).ok().map(Cow::Owned)
    } else {
        std::str::from_utf8(inner).ok().map(Cow::Borrowed)
    }
}

/// Whether the value at `span` is the string `expected`, however it is escaped.
#[must_use]
pub fn is_string(text: &[u8], span: Option<Span>, expected: &str) -> bool {
    span.and_then(|span| string(text, span)).is_some_and(|found| found == expected)
}

/// Whether two texts are the same string or number, however they are written.
#[must_use]
pub fn same_scalar(one: &[u8], other: &[u8]) -> bool {
    if one == other {
        return true;
    }
    let read = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).ok();
    match (read(one), read(other)) {
        (Some(serde_json::Value::Number(one)), Some(serde_json::Value::Number(other))) => one.as_f64() == other.as_f64(),
        (Some(one @ serde_json::Value::String(_)), Some(other)) => one == other,
        _ => false,
    }
}

/// One member of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// The name with its quotes.
    pub key: Span,
    /// The value.
    pub value: Span,
}

impl Member {
    /// Whether the member has this name, however it is escaped.
    #[must_use]
    pub fn is_called(&self, text: &[u8], name: &str) -> bool {
        let raw = &text[self.key.start + 1..self.key.end - 1];
        raw == name.as_bytes() || (raw.contains(&b'\\') && is_string(text, Some(self.key), name))
    }

    /// The whole member, name and value.
    #[must_use]
    pub fn span(&self) -> Span {
        Span { start: self.key.start, end: self.value.end }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    Start,
    Inside,
    End,
}

/// See [`members`]. After the last member, [`Members::end`] says where the object ended.
#[derive(Debug)]
pub struct Members<'a> {
    text: &'a [u8],
    position: usize,
    state: Position,
}

impl Members<'_> {
    /// One past the closing brace, once the iterator has returned nothing.
    #[must_use]
    pub fn end(&self) -> usize {
        self.position
    }

    fn step(&mut self) -> Result<Option<Member>, Fault> {
        let text = self.text;
        let byte = |at: usize| text.get(at).copied();
        match self.state {
            Position::End => return Ok(None),
            Position::Start => {
                if byte(self.position) != Some(b'{') {
                    return fault("an object is expected", self.position);
                }
                self.position = skip_white(text, self.position + 1);
                if byte(self.position) == Some(b'}') {
                    self.position += 1;
                    self.state = Position::End;
                    return Ok(None);
                }
                self.state = Position::Inside;
            }
            Position::Inside => {
                self.position = skip_white(text, self.position);
                match byte(self.position) {
                    Some(b',') => self.position = skip_white(text, self.position + 1),
                    Some(b'}') => {
                        self.position += 1;
                        self.state = Position::End;
                        return Ok(None);
                    }
                    _ => return fault("',' or '}' is expected", self.position),
                }
            }
        }
        if byte(self.position) != Some(b'"') {
            return fault("a name in quotes is expected", self.position);
        }
        let key = Span { start: self.position, end: skip_string(text, self.position)? };
        let colon = skip_white(text, key.end);
        if byte(colon) != Some(b':') {
            return fault("':' is expected", colon);
        }
        let start = skip_white(text, colon + 1);
        let end = skip_value(text, start, 1)?;
        self.position = end;
        Ok(Some(Member { key, value: Span { start, end } }))
    }
}

impl Iterator for Members<'_> {
    type Item = Result<Member, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            self.state = Position::End;
        }
        step.transpose()
    }
}

/// The first position from `position` on that is no white space.
#[must_use]
pub fn skip_white(text: &[u8], mut position: usize) -> usize {
    while matches!(text.get(position), Some(b' ' | b'\n' | b'\r' | b'\t')) {
        position += 1;
    }
    position
}

fn skip_value(text: &[u8], position: usize, depth: u32) -> Result<usize, Fault> {
    if depth > DEEPEST {
        return fault(TOO_DEEP, position);
    }
    match text.get(position) {
        Some(b'"') => skip_string(text, position),
        Some(b'{') => skip_object(text, position, depth),
        Some(b'[') => skip_array(text, position, depth),
        Some(b'-' | b'0'..=b'9') => skip_number(text, position),
        Some(b't') => skip_word(text, position, b"true"),
        Some(b'f') => skip_word(text, position, b"false"),
        Some(b'n') => skip_word(text, position, b"null"),
        Some(_) => fault("no value starts so", position),
        None => fault("the text ends where a value is expected", position),
    }
}

fn skip_word(text: &[u8], position: usize, word: &[u8]) -> Result<usize, Fault> {
    if text[position..].starts_with(word) { Ok(position + word.len()) } else { fault("no such word", position) }
}

fn skip_object(text: &[u8], position: usize, depth: u32) -> Result<usize, Fault> {
    let mut position = skip_white(text, position + 1);
    if text.get(position) == Some(&b'}') {
        return Ok(position + 1);
    }
    loop {
        if text.get(position) != Some(&b'"') {
            return fault("a name in quotes is expected", position);
        }
        position = skip_white(text, skip_string(text, position)?);
        if text.get(position) != Some(&b':') {
            return fault("':' is expected", position);
        }
        position = skip_value(text, skip_white(text, position + 1), depth + 1)?;
        position = skip_white(text, position);
        match text.get(position) {
            Some(b',') => position = skip_white(text, position + 1),
            Some(b'}') => return Ok(position + 1),
            _ => return fault("',' or '}' is expected", position),
        }
    }
}

fn skip_array(text: &[u8], position: usize, depth: u32) -> Result<usize, Fault> {
    let mut position = skip_white(text, position + 1);
    if text.get(position) == Some(&b']') {
        return Ok(position + 1);
    }
    loop {
        position = skip_white(text, skip_value(text, position, depth + 1)?);
        match text.get(position) {
            Some(b',') => position = skip_white(text, position + 1),
            Some(b']') => return Ok(position + 1),
            _ => return fault("',' or ']' is expected", position),
        }
    }
}

fn skip_digits(text: &[u8], mut position: usize) -> Result<usize, Fault> {
    let start = position;
    while matches!(text.get(position), Some(b'0'..=b'9')) {
        position += 1;
    }
    if position == start { fault("a digit is expected", position) } else { Ok(position) }
}

fn skip_number(text: &[u8], mut position: usize) -> Result<usize, Fault> {
    if text[position] == b'-' {
        position += 1;
    }
    let leading_zero = text.get(position) == Some(&b'0');
    let whole = skip_digits(text, position)?;
    if leading_zero && whole > position + 1 {
        return fault("a number does not start with 0", position);
    }
    position = whole;
    if text.get(position) == Some(&b'.') {
        position = skip_digits(text, position + 1)?;
    }
    if matches!(text.get(position), Some(b'e' | b'E')) {
        position += 1;
        if matches!(text.get(position), Some(b'+' | b'-')) {
            position += 1;
        }
        position = skip_digits(text, position)?;
    }
    Ok(position)
}

/// The first byte from `position` on that is a quote, a backslash or a control character. Large messages are nearly all
/// string, and this is most of what is done about them: eight bytes are looked at together. Whatever the compiler would have
/// to turn into vector instructions itself is twenty times slower in a program that is built to be small.
fn skip_plain(text: &[u8], mut position: usize) -> usize {
    let words = text.get(position..).unwrap_or_default().as_chunks().0.iter();
    for word in words {
        if let Some(offset) = special_of(u64::from_le_bytes(*word)) {
            return position + offset;
        }
        position += size_of::<u64>();
    }
    while text.get(position).is_some_and(|&byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        position += 1;
    }
    position
}

/// The first of eight bytes that ends a run of plain characters.
fn special_of(word: u64) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let zero_byte = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
    let found = control | zero_byte(word ^ (ONES * u64::from(b'"'))) | zero_byte(word ^ (ONES * u64::from(b'\\')));
    // The lowest mark is exact; only marks above a true one can be false.
    (found != 0).then(|| (found.trailing_zeros() / 8) as usize)
}

fn skip_string(text: &[u8], position: usize) -> Result<usize, Fault> {
    let mut position = position + 1;
    loop {
        position = skip_plain(text, position);
        match text.get(position) {
            Some(b'"') => return Ok(position + 1),
            Some(b'\\') => match text.get(position + 1) {
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => position += 2,
                Some(b'u') if text.get(position + 2..position + 6).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) => {
                    position += 6;
                }
                _ => return fault("no such escape", position),
            },
            Some(_) => return fault("a control character in a string", position),
            None => return fault("the text ends inside a string", position),
        }
    }
}

#[cfg(test)]
mod tests;
