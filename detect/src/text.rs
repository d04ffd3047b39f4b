//! Text that is mostly UTF-8 but need not be: characters, and letter case.

use std::borrow::Cow;

/// One character of a text, or one byte that belongs to no character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Char(char),
    Byte(u8),
}

/// Splits bytes into [`Unit`]s.
pub(crate) fn units(text: &[u8]) -> impl Iterator<Item = Unit> + '_ {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (unit, len) = first_unit(rest)?;
        rest = &rest[len..];
        Some(unit)
    })
}

/// Splits bytes into [`Unit`]s, each as its bytes.
pub(crate) fn units_with_bytes(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (_, len) = first_unit(rest)?;
        let (unit, after) = rest.split_at(len);
        rest = after;
        Some(unit)
    })
}

/// The first unit and its length in bytes.
pub(crate) fn first_unit(text: &[u8]) -> Option<(Unit, usize)> {
    let first = *text.first()?;
    let len = match first {
        0..=0x7f => return Some((Unit::Char(char::from(first)), 1)),
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return Some((Unit::Byte(first), 1)),
    };
    let decoded = text
        .get(..len)
        .and_then(|bytes| std::str::from_utf8(bytes).ok());
    match decoded.and_then(|s| s.chars().next()) {
        Some(c) => Some((Unit::Char(c), len)),
        None => Some((Unit::Byte(first), 1)),
    }
}

/// Folds letter case for comparison. ASCII folds to ASCII only and everything else to non-ASCII
/// only, so that bytes below 0x80 can be searched for without decoding: `K` (Kelvin sign) is no
/// `k` here.
pub(crate) fn fold(c: char) -> char {
    if c.is_ascii() {
        return c.to_ascii_lowercase();
    }
    lower_char(upper_char(c))
}

/// Bytes that are folded in one step.
const STEP: usize = 32;

/// Appends the text with letter case folded away; bytes that are no characters stay.
pub(crate) fn fold_text(text: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.reserve(text.len() + STEP);
    let (steps, rest) = text.as_chunks::<STEP>();
    let mut all = 0;
    for step in steps {
        all |= push_lowercase(step, out);
    }
    if !rest.is_empty() {
        // A whole step as well: byte after byte, the rest would take longer than all before it.
        let mut step = [0; STEP];
        step[..rest.len()].copy_from_slice(rest);
        all |= push_lowercase(&step, out);
        out.truncate(start + text.len());
    }
    if all >= 0x80 {
        out.truncate(start);
        fold_wide(text, out);
    }
}

/// Returns all bits that are set in any byte.
#[inline]
fn push_lowercase(step: &[u8; STEP], out: &mut Vec<u8>) -> u8 {
    let mut folded = *step;
    folded.make_ascii_lowercase();
    out.extend_from_slice(&folded);
    step.iter().fold(0, |all, byte| all | byte)
}

fn fold_wide(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    loop {
        let end = rest.iter().position(|byte| !byte.is_ascii());
        let (run, after) = rest.split_at(end.unwrap_or(rest.len()));
        out.extend(run.iter().map(u8::to_ascii_lowercase));
        let Some((unit, len)) = first_unit(after) else {
            return;
        };
        let (unit_bytes, after) = after.split_at(len);
        match unit {
            Unit::Char(c) if !has_case(c) => out.extend_from_slice(unit_bytes),
            Unit::Char(c) => out.extend_from_slice(fold(c).encode_utf8(&mut [0; 4]).as_bytes()),
            Unit::Byte(byte) => out.push(byte),
        }
        rest = after;
    }
}

/// False for marks such as `®` and for the scripts of East Asia, without a look at the tables of all
/// characters.
fn has_case(c: char) -> bool {
    !matches!(c, '\u{80}'..='\u{b4}' | '\u{b6}'..='\u{bf}' | '\u{2e80}'..='\u{a4cf}')
}

/// The bytes that hexadecimal digits of either case stand for.
pub(crate) fn parse_hex(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (pairs, []) = digits.as_chunks::<2>() else {
        return None;
    };
    let bytes = pairs.iter().map(|[high, low]| {
        let byte = digit(*high)? << 4 | digit(*low)?;
        u8::try_from(byte).ok()
    });
    bytes.collect()
}

/// Parts paths, on one system or another.
pub(crate) const SEPARATORS: [u8; 2] = [b'/', b'\\'];

pub(crate) fn is_separator(byte: u8) -> bool {
    SEPARATORS.contains(&byte)
}

fn lower_char(c: char) -> char {
    one_char(c, c.to_lowercase())
}

fn upper_char(c: char) -> char {
    one_char(c, c.to_uppercase())
}

/// The mapping, where it is one character on the same side of ASCII.
fn one_char(c: char, mut mapped: impl Iterator<Item = char>) -> char {
    match (mapped.next(), mapped.next()) {
        (Some(m), None) if m.is_ascii() == c.is_ascii() => m,
        _ => c,
    }
}

/// Lower case; bytes that are no characters stay.
pub(crate) fn lower(text: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    map_chars(text, u8::is_ascii_uppercase, lower_char)
}

/// Upper case; bytes that are no characters stay.
pub(crate) fn upper(text: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    map_chars(text, u8::is_ascii_lowercase, upper_char)
}

fn map_chars(
    text: Cow<'_, [u8]>,
    changes: fn(&u8) -> bool,
    map: fn(char) -> char,
) -> Cow<'_, [u8]> {
    if text.iter().all(|byte| byte.is_ascii() && !changes(byte)) {
        return text;
    }
    let mut out = Vec::with_capacity(text.len());
    for unit in units(&text) {
        match unit {
            Unit::Char(c) => out.extend_from_slice(map(c).encode_utf8(&mut [0; 4]).as_bytes()),
            Unit::Byte(byte) => out.push(byte),
        }
    }
    Cow::Owned(out)
}

/// The part after the last `/`.
pub(crate) fn basename(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

/// The part before the last `/`; `/` for a file in the root, nothing for a bare name.
pub(crate) fn dirname(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(0) => b"/",
        Some(end) => &path[..end],
        None => b"",
    }
}

/// Whether `part` occurs in `text`.
pub(crate) fn contains(text: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
}

/// Whether `part` occurs in `text`, ASCII letters in either case.
pub(crate) fn contains_ignore_ascii_case(text: &[u8], part: &[u8]) -> bool {
    let Some(first) = part.first() else {
        return true;
    };
    let (lower, upper) = (first.to_ascii_lowercase(), first.to_ascii_uppercase());
    memchr::memchr2_iter(lower, upper, text).any(|at| {
        let window = text.get(at..at + part.len());
        window.is_some_and(|window| window.eq_ignore_ascii_case(part))
    })
}

/// For people: what is not UTF-8, and control characters, as `\xHH`.
pub(crate) fn escape(text: &[u8]) -> String {
    use std::fmt::Write as _;
    // All of them, so that many bytes are one step.
    let control = |any: bool, byte: &u8| any | byte.is_ascii_control();
    let plain = !text.iter().fold(false, control);
    if let Some(text) = std::str::from_utf8(text).ok().filter(|_| plain) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for unit in units(text) {
        // Writing to a String cannot fail.
        let _ = match unit {
            Unit::Char(c) if c.is_ascii_control() => write!(out, "\\x{:02x}", u32::from(c)),
            Unit::Char(c) => out.write_char(c),
            Unit::Byte(byte) => write!(out, "\\x{byte:02x}"),
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    #[test]
    fn case_maps_characters_and_keeps_other_bytes() {
        let check = |text: &[u8], low: &[u8], up: &[u8]| {
            assert_eq!(lower(Cow::Borrowed(text)), low, "{}", text.escape_ascii());
            assert_eq!(upper(Cow::Borrowed(text)), up, "{}", text.escape_ascii());
        };
        check(b"aB1", b"ab1", b"AB1");
        check("Éa".as_bytes(), "éa".as_bytes(), "ÉA".as_bytes());
        check(b"\xffA\xc3", b"\xffa\xc3", b"\xffA\xc3");
        check(
            "ß\u{212a}".as_bytes(),
            "ß\u{212a}".as_bytes(),
            "ß\u{212a}".as_bytes(),
        );
    }

    #[test]
    fn fold_joins_all_forms_of_a_letter_and_keeps_ascii_apart() {
        assert_eq!(fold('Σ'), fold('ς'));
        assert_eq!(fold('K'), 'k');
        assert_ne!(fold('\u{212a}'), 'k');
        assert_ne!(fold('ſ'), 's');
    }

    #[test]
    fn characters_without_case_stay() {
        for c in '\u{80}'..=char::MAX {
            assert!(has_case(c) || fold(c) == c, "{c}");
        }
    }

    #[test]
    fn folded_text_is_folded_characters() {
        for text in ["", "aB®C µÉ\u{212a}zΣx", "Microsoft® Windows®", "x\u{aa}"] {
            let mut folded = b"before".to_vec();
            fold_text(text.as_bytes(), &mut folded);
            let expected: String = text.chars().map(fold).collect();
            assert_eq!(folded, format!("before{expected}").as_bytes());
        }
        let mut folded = Vec::new();
        fold_text(b"A\xff\xc3Z", &mut folded);
        assert_eq!(folded, b"a\xff\xc3z");
    }

    #[test]
    fn paths_split_at_the_last_slash() {
        let check = |path: &str, dir: &str, base: &str| {
            assert_eq!(dirname(path.as_bytes()), dir.as_bytes(), "{path}");
            assert_eq!(basename(path.as_bytes()), base.as_bytes(), "{path}");
        };
        check("/usr/bin/sh", "/usr/bin", "sh");
        check("/init", "/", "init");
        check("sh", "", "sh");
        check("", "", "");
        check("/tmp/", "/tmp", "");
    }

    #[test]
    fn escape_shows_what_is_not_text() {
        assert_eq!(escape(b"a\xffb\n\xc3\xa9"), "a\\xffb\\x0aé");
    }
}
