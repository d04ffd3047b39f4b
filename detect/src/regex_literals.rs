//! Texts that a regular expression cannot match without.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind, Repetition};

use crate::program::rarest;

/// Begins a pattern that ignores case.
pub(crate) const IGNORE_CASE: &str = "(?i)";

/// More alternatives than this are not worth searching for.
const MAX_TEXTS: usize = 64;

/// Texts of which every match contains at least one, but for the case of ASCII letters: the pattern
/// is read as case-sensitive, and what ignoring case adds differs only in that.
pub(crate) fn required_texts(pattern: &str) -> Option<Vec<Box<[u8]>>> {
    // Ignoring case may then cross between ASCII and the rest.
    if switches(pattern, 'u') {
        return None;
    }
    let hir = ParserBuilder::new()
        .unicode(false)
        .utf8(false)
        .dot_matches_new_line(true)
        .build()
        .parse(pattern.strip_prefix(IGNORE_CASE).unwrap_or(pattern))
        .ok()?;
    of(&hir).filter(|texts| texts.len() <= MAX_TEXTS)
}

/// The same for a pattern on characters. Where it may ignore case, `k` and `s` are also letters
/// beyond ASCII, and U+FFFD may stand for a byte that is no character.
pub(crate) fn required_chars(pattern: &str) -> Option<Vec<Box<[u8]>>> {
    let ignores_case = switches(pattern, 'i');
    // As case-sensitive: what ignoring case adds is not trusted below.
    let flags = pattern
        .strip_prefix("(?")
        .and_then(|rest| rest.split_once(')'));
    let plain = flags.filter(|(flags, _)| flags.chars().all(|c| matches!(c, 'i' | 'm' | 's')));
    let texts = required_texts(plain.map_or(pattern, |(_, rest)| rest))?;
    let sure =
        |byte: &u8| byte.is_ascii() && !(ignores_case && matches!(byte, b'k' | b'K' | b's' | b'S'));
    let longest = |text: Box<[u8]>| -> Box<[u8]> {
        let runs = text.split(|byte| !sure(byte));
        runs.max_by_key(|run| run.len()).unwrap_or_default().into()
    };
    Some(texts.into_iter().map(longest).collect())
}

/// Whether a group such as `(?i)` names the flag.
fn switches(pattern: &str, flag: char) -> bool {
    pattern.split("(?").skip(1).any(|group| {
        group
            .chars()
            .take_while(|c| c.is_ascii_alphabetic() || *c == '-')
            .any(|c| c == flag)
    })
}

/// No text with fewer bytes matches. Read as bytes and as characters, since it depends on that, and
/// the caller may mean either. A character is one byte here, whatever it is: a byte that belongs to
/// none counts as one.
pub(crate) fn least_bytes(pattern: &str) -> usize {
    let least = [false, true].into_iter().filter_map(|unicode| {
        let mut parser = ParserBuilder::new();
        let hir = parser.unicode(unicode).utf8(false).build().parse(pattern);
        Some(least_chars(&hir.ok()?))
    });
    least.min().unwrap_or(0)
}

/// The parser bounds the depth of what it returns.
fn least_chars(hir: &Hir) -> usize {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => 0,
        HirKind::Literal(literal) => String::from_utf8_lossy(&literal.0).chars().count(),
        HirKind::Class(_) => 1,
        HirKind::Capture(capture) => least_chars(&capture.sub),
        HirKind::Repetition(repetition) => {
            let times = usize::try_from(repetition.min).unwrap_or(usize::MAX);
            least_chars(&repetition.sub).saturating_mul(times)
        }
        HirKind::Concat(parts) => {
            let parts = parts.iter().map(least_chars);
            parts.fold(0, usize::saturating_add)
        }
        HirKind::Alternation(parts) => parts.iter().map(least_chars).min().unwrap_or(0),
    }
}

/// Bytes of some kind one after the other.
#[derive(Debug)]
pub(crate) struct Run {
    kind: [bool; 256],
    len: usize,
}

/// A shorter run is found no faster than the expression decides.
const LEAST_RUN: usize = 16;

impl Run {
    /// Whether the text contains one: of places that are the length of a run apart, each run covers
    /// one, so the others are not looked at.
    pub(crate) fn is_in(&self, text: &[u8]) -> bool {
        let is_kind = |byte: &&u8| self.kind[usize::from(**byte)];
        let places = (self.len - 1..text.len()).step_by(self.len);
        let mut places = places.filter(|at| is_kind(&&text[*at]));
        places.any(|at| {
            let (before, after) = text.split_at(at);
            let before = before.iter().rev().take_while(is_kind).count();
            before + after.iter().take_while(is_kind).count() >= self.len
        })
    }
}

/// A run of ASCII that every match contains, on bytes and on characters.
pub(crate) fn required_run(pattern: &str) -> Option<Run> {
    // What is ASCII only among characters is the same among bytes.
    let hir = ParserBuilder::new().utf8(false).build().parse(pattern);
    run_of(&hir.ok()?)
}

fn run_of(hir: &Hir) -> Option<Run> {
    match hir.kind() {
        HirKind::Capture(capture) => run_of(&capture.sub),
        HirKind::Concat(parts) => parts.iter().filter_map(run_of).max_by_key(|run| run.len),
        HirKind::Repetition(repetition) => repeated(repetition),
        _ => None,
    }
}

fn repeated(repetition: &Repetition) -> Option<Run> {
    let len = usize::try_from(repetition.min).ok()?;
    let HirKind::Class(class) = repetition.sub.kind() else {
        return None;
    };
    let class = match class {
        Class::Unicode(class) => class.to_byte_class()?,
        Class::Bytes(class) => class.clone(),
    };
    let mut kind = [false; 256];
    for range in class.ranges() {
        kind[usize::from(range.start())..=usize::from(range.end())].fill(true);
    }
    (len >= LEAST_RUN && class.is_ascii()).then_some(Run { kind, len })
}

/// The parser bounds the depth of what it returns.
fn of(hir: &Hir) -> Option<Vec<Box<[u8]>>> {
    match hir.kind() {
        HirKind::Literal(literal) => Some(vec![literal.0.clone()]),
        HirKind::Capture(capture) => of(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => of(&repetition.sub),
        HirKind::Concat(parts) => rarest(parts.iter().filter_map(of)),
        HirKind::Alternation(parts) => {
            let sets: Option<Vec<_>> = parts.iter().map(of).collect();
            Some(sets?.concat())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{least_bytes, required_chars, required_run, required_texts};

    #[test]
    fn no_shorter_text_matches() {
        let check = |pattern, bytes| assert_eq!(least_bytes(pattern), bytes, "{pattern}");
        check(r"\s[a-f0-9]{64}\s[a-f0-9]{16}", 82);
        check("a|bcd", 1);
        check("(?i)\u{17f}\u{212a}", 2);
        check("\u{e9}+", 1);
        check(r"[\x{80}-\x{10FFFF}]{3}x?", 3);
        check(".*", 0);
        check("(", 0);
    }

    #[test]
    fn every_match_contains_the_run() {
        let len = |pattern| required_run(pattern).map(|run| run.len);
        assert_eq!(len(r"\s[a-f0-9]{64}\s[a-f0-9]{16}"), Some(64));
        assert_eq!(len("x([0-9]{16,})"), Some(16));
        for pattern in [
            "[a-f]{15}",
            "[a-f]{0,20}",
            "(?i)[k]{16}",
            "[^a]{16}",
            r"\d{16}",
            ".{16}",
        ] {
            assert_eq!(len(pattern), None, "{pattern}");
        }
    }

    #[test]
    fn a_run_is_found_wherever_it_is() {
        let run = required_run("[a-f]{16}").unwrap();
        for before in 0..40 {
            for after in 0..20 {
                let text = |len| ["x".repeat(before), "a".repeat(len), "x".repeat(after)].concat();
                assert!(run.is_in(text(16).as_bytes()));
                assert!(run.is_in(text(40).as_bytes()));
                assert!(!run.is_in(text(15).as_bytes()));
            }
        }
    }

    #[test]
    fn every_match_contains_one_of_the_texts() {
        let check = |pattern, expected: Option<&[&str]>| {
            let texts = required_texts(pattern);
            let texts: Option<Vec<_>> = texts.as_ref().map(|texts| {
                texts
                    .iter()
                    .map(|t| std::str::from_utf8(t).unwrap())
                    .collect()
            });
            assert_eq!(texts.as_deref(), expected, "{pattern}");
        };
        check("abc", Some(&["abc"]));
        check("a.*bcd+e?", Some(&["bc"]));
        check(r"^(if=)?/proc/\d+/mem$", Some(&["/proc/"]));
        check("(curl|wget) x", Some(&["curl", "wget"]));
        check("(ab)?|cd", None);
        check("[ab]*", None);
        check("(?i)abc", Some(&["abc"]));
        check("a(?i)bc", Some(&["a"]));
        check("(ab){2,}", Some(&["ab"]));
        check("é", Some(&["é"]));
        check("(?u:k)", None);
        check("(?-i:k)", Some(&["k"]));
    }

    #[test]
    fn texts_of_patterns_on_characters_hold_for_every_form_of_a_letter() {
        let check = |pattern, text: &str| {
            let texts = required_chars(pattern).unwrap();
            assert_eq!(texts.concat(), text.as_bytes(), "{pattern}");
        };
        check("mask", "mask");
        check("(?i)mask", "ma");
        check("(?:x(?i)mask)", "x");
        check("(?:mask(?i)x)", "ma");
        check("(?:mask)", "mask");
        check("ab\u{fffd}c", "ab");
    }
}
