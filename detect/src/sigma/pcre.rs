//! Regular expressions of rules, which are PCRE, as those of the engine.

use std::iter::Peekable;
use std::str::Chars;

use regex::bytes::{Regex, RegexBuilder};

use crate::error::ErrorKind;

/// Longest pattern.
const MAX_BYTES: usize = 16 * 1024;
/// Largest compiled pattern.
const MAX_COMPILED: usize = 4 << 20;

/// Compiles a pattern with the flags `i`, `m`, `s`. The flags become part of the text, so that the
/// text alone says what matches.
pub(crate) fn compile(pattern: &str, flags: &[char]) -> Result<Regex, ErrorKind> {
    if pattern.len() > MAX_BYTES {
        return Err(ErrorKind::Limit {
            what: "regular expression",
            limit: format!("{MAX_BYTES} bytes"),
        });
    }
    let lines = flags.contains(&'m') || pattern.contains("(?m");
    let mut flags: Vec<char> = flags.to_vec();
    flags.sort_unstable();
    flags.dedup();
    let mut text = translate(pattern, lines);
    if !flags.is_empty() {
        text = format!("(?{}){text}", flags.iter().collect::<String>());
    }
    RegexBuilder::new(&text)
        .size_limit(MAX_COMPILED)
        .dfa_size_limit(MAX_COMPILED)
        .nest_limit(100)
        .build()
        .map_err(|error| ErrorKind::Pattern(reason(&error)))
}

/// The library draws a caret under the pattern; its last line says what is wrong.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.trim_start_matches("error: ").to_owned()
}

/// The same pattern in the syntax of the engine: what is plain in PCRE and not there is escaped.
fn translate(pattern: &str, lines: bool) -> String {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => escape(&mut chars, &mut out),
            '[' => class(&mut chars, &mut out),
            '{' if !is_quantifier(chars.clone()) => out.push_str(r"\{"),
            // PCRE's also matches before a line break that ends the text.
            '$' if !lines => out.push_str(r"(?:\n?\z)"),
            _ => out.push(c),
        }
    }
    out
}

/// After a backslash. `\<` and `\>` are word boundaries in the engine alone.
fn escape(chars: &mut Peekable<Chars<'_>>, out: &mut String) {
    match chars.next() {
        Some(c @ ('<' | '>')) => out.push(c),
        Some(c) => out.extend(['\\', c]),
        None => out.push('\\'),
    }
}

/// After `[`: in the engine classes nest and have set operations.
fn class(chars: &mut Peekable<Chars<'_>>, out: &mut String) {
    out.push('[');
    out.extend(chars.next_if_eq(&'^'));
    if chars.next_if_eq(&']').is_some() {
        out.push_str(r"\]");
    }
    if chars.next_if_eq(&'-').is_some() {
        out.push_str(r"\-");
    }
    while let Some(c) = chars.next() {
        match c {
            '\\' => escape(chars, out),
            '[' if chars.peek() == Some(&':') => posix_class(chars, out),
            '[' | '&' | '~' => out.extend(['\\', c]),
            '-' if chars.next_if_eq(&'-').is_some() => out.push_str(r"-\-"),
            ']' => {
                out.push(c);
                return;
            }
            _ => out.push(c),
        }
    }
}

/// After `[` of `[:alpha:]` inside a class.
fn posix_class(chars: &mut Peekable<Chars<'_>>, out: &mut String) {
    out.push('[');
    for c in chars.by_ref() {
        out.push(c);
        if c == ']' {
            return;
        }
    }
}

/// After `{`: digits, perhaps a comma and digits, and `}`.
fn is_quantifier(mut rest: Peekable<Chars<'_>>) -> bool {
    let mut digits = || {
        let mut count = 0;
        while rest.next_if(char::is_ascii_digit).is_some() {
            count += 1;
        }
        (count, rest.next())
    };
    match digits() {
        (1.., Some('}')) => true,
        (1.., Some(',')) => digits().1 == Some('}'),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::compile;

    fn matches(pattern: &str, flags: &[char], text: &str) -> bool {
        compile(pattern, flags).unwrap().is_match(text.as_bytes())
    }

    #[test]
    fn a_pattern_occurs_somewhere_and_minds_case_unless_told() {
        assert!(matches("b+c", &[], "abbcd"));
        assert!(!matches("B", &[], "abc"));
        assert!(matches("B", &['i'], "abc"));
        assert!(matches("É", &['i'], "é"));
        assert!(!matches("^b", &[], "a\nb"));
        assert!(matches("^b$", &['m'], "a\nb\nc"));
        assert!(!matches("a.b", &[], "a\nb"));
        assert!(matches("a.b", &['s', 'i'], "A\nB"));
    }

    #[test]
    fn what_is_plain_in_pcre_is_plain() {
        let check = |pattern, text| assert!(matches(pattern, &[], text), "{pattern} on {text}");
        check(r"^\<a\>$", "<a>");
        check("^a{b}{2}$", "a{b}}");
        check("^x{,3}$", "x{,3}");
        check("^x{2,3}$", "xx");
        check("^[a[b]$", "[");
        check("^[a&&b]$", "&");
        check("^[~~^]$", "~");
        check("^[+--]$", ",");
        check("^[--a]$", "-");
        check("^[[:digit:]x]+$", "1x");
        check("^[]a]$", "]");
        check("^[^]a]$", "b");
        check(r"^[\]]$", "]");
        check("a$", "a\n");
        check(r"\$a", "$a");
    }

    #[test]
    fn what_takes_more_than_linear_time_is_refused() {
        for pattern in ["(?=a)b", "(?!a)b", r"(a)\1", "(?<=a)b", "(a"] {
            assert!(compile(pattern, &[]).is_err(), "{pattern}");
        }
    }
}
