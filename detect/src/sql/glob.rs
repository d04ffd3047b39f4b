//! `GLOB`: patterns as shells have them, on the whole text, minding case.

use sqlparser::tokenizer::Location;

use crate::error::ErrorKind;
use crate::expression::{Reading, Regex};
use crate::ir::Pattern;
use crate::like::{Like, Token};
use crate::sql::Fault;

/// How the operator is called between parser and compiler.
pub(super) const GLOB: &str = "GLOB";
pub(super) const NOT_GLOB: &str = "NOT GLOB";

const MAX_GLOB_BYTES: usize = 1024;
/// Memory of a pattern with classes.
const MAX_REGEX_SIZE: usize = 1 << 20;
/// Classes in a sequence are no deeper than this.
const MAX_DEPTH: u32 = 10;

/// `*` is anything, `?` one character, `[a-z]` one of these, `[^a-z]` one that is none of these.
pub(super) fn glob_pattern(pattern: &str, at: Location) -> Result<Pattern, Fault> {
    if pattern.len() > MAX_GLOB_BYTES {
        let limit = format_args!("{MAX_GLOB_BYTES} bytes");
        return Err(Fault::limit(at, "GLOB pattern", limit));
    }
    if !pattern.contains('[') {
        let tokens = pattern.chars().map(|c| match c {
            '*' => Token::Many,
            '?' => Token::One,
            c => Token::Char(c),
        });
        return Ok(Pattern::Like(Like::of(tokens, false)));
    }
    let text = as_regex(pattern).ok_or_else(|| {
        let message = "a `[` of GLOB is not closed, or a range is empty; `[[]` is a bracket";
        Fault::new(at, ErrorKind::Pattern(message.to_owned()))
    })?;
    let reading = Reading {
        unicode: true,
        dot_is_all: true,
        max_depth: MAX_DEPTH,
        max_bytes: MAX_REGEX_SIZE,
    };
    Regex::new(&text, reading).map(Pattern::Chars).map_err(|_| {
        Fault::limit(
            at,
            "compiled GLOB pattern",
            format_args!("{MAX_REGEX_SIZE} bytes"),
        )
    })
}

fn as_regex(pattern: &str) -> Option<String> {
    let mut out = r"\A".to_owned();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' => out.push_str(".*"),
            '?' => out.push('.'),
            '[' => out.push_str(&class(&mut chars)?),
            c => out.push_str(&regex_syntax::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    out.push_str(r"\z");
    Some(out)
}

/// What follows `[`, up to and with the `]` that closes it. A `]` right at the start is one of the
/// characters.
fn class(chars: &mut std::str::Chars<'_>) -> Option<String> {
    let mut rest = chars.clone();
    let negated = rest.next() == Some('^');
    if negated {
        chars.next();
    }
    let mut members = Vec::new();
    loop {
        match chars.next()? {
            ']' if !members.is_empty() => break,
            c => members.push(c),
        }
    }
    let mut out = if negated { "[^" } else { "[" }.to_owned();
    let mut members = members.as_slice();
    while let [first, rest @ ..] = members {
        let (last, rest) = match rest {
            ['-', last, rest @ ..] => (last, rest),
            rest => (first, rest),
        };
        if last < first {
            return None;
        }
        out.push_str(&format!(
            r"\x{{{:x}}}-\x{{{:x}}}",
            u32::from(*first),
            u32::from(*last)
        ));
        members = rest;
    }
    out.push(']');
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::glob_pattern;
    use crate::sql::place::START;

    #[test]
    fn patterns_are_those_of_shells() {
        let check = |pattern: &str, text: &[u8], matches: bool| {
            let compiled = glob_pattern(pattern, START).unwrap();
            let what = format!("{pattern} on {}", text.escape_ascii());
            assert_eq!(compiled.matches(text), matches, "{what}");
        };
        check("/tmp/*", b"/tmp/a/b", true);
        check("/tmp/*", b"/x/tmp/a", false);
        check("*.s?", b"a.sh", true);
        check("A*", b"abc", false);
        check("a%_", b"a%_", true);
        check("a%_", b"abc", false);
        check("[a-c]x*", b"bxyz", true);
        check("[a-c]x*", b"dx", false);
        check("[^a-c]x", b"dx", true);
        check("[^a-c]x", "éx".as_bytes(), true);
        check("[^a-c]x", b"\xffx", true);
        check("[]-]", b"]", true);
        check("[]-]", b"-", true);
        check("[a\\d]", b"\\", true);
        check("[a\\d]", b"7", false);
        check("x[[]y", b"x[y", true);
        check("[.]*\n", b".a\n", true);
        check("(a)+[b]", b"(a)+b", true);
    }

    #[test]
    fn broken_classes_are_errors() {
        for pattern in ["[", "a[b", "[]", "[^]", "[z-a]"] {
            assert!(glob_pattern(pattern, START).is_err(), "{pattern}");
        }
    }
}
