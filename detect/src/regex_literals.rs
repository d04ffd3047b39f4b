//! Texts that a regular expression cannot match without.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Hir, HirKind};

use crate::program::rarest;

/// More alternatives than this are not worth searching for.
const MAX_TEXTS: usize = 64;

/// Texts of which every match contains at least one, but for the case of ASCII letters: the pattern
/// is read as case-sensitive, and what ignoring case adds differs only in that.
pub(crate) fn required_texts(pattern: &str) -> Option<Vec<Box<[u8]>>> {
    if switches_to_unicode(pattern) {
        return None;
    }
    let hir = ParserBuilder::new()
        .unicode(false)
        .utf8(false)
        .dot_matches_new_line(true)
        .build()
        .parse(pattern)
        .ok()?;
    of(&hir).filter(|texts| texts.len() <= MAX_TEXTS)
}

/// `(?u)`: ignoring case may then cross between ASCII and the rest.
fn switches_to_unicode(pattern: &str) -> bool {
    pattern.split("(?").skip(1).any(|group| {
        group
            .chars()
            .take_while(|c| c.is_ascii_alphabetic() || *c == '-')
            .any(|c| c == 'u')
    })
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
    use super::required_texts;

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
        check("(?i)abc", None);
        check("(ab){2,}", Some(&["ab"]));
        check("é", Some(&["é"]));
        check("(?u:k)", None);
        check("(?-i:k)", Some(&["k"]));
    }
}
