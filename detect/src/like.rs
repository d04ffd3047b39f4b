//! `LIKE` and `ILIKE` patterns.

use crate::text::{self, Unit, contains, contains_ignore_ascii_case, first_unit, fold};

/// A compiled pattern. `_` stands for one character or one byte that belongs to none, `%` for any
/// number of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Like {
    tokens: Box<[Token]>,
    ignore_case: bool,
    shape: Shape,
    /// A character beyond ASCII must occur; case never crosses that line.
    beyond_ascii: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    Char(char),
    One,
    Many,
}

/// Patterns that need no token by token matching.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Shape {
    Equal(Box<[u8]>),
    Prefix(Box<[u8]>),
    Suffix(Box<[u8]>),
    Contains(Box<[u8]>),
    General,
}

/// The escape character must be followed by `%`, `_` or itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DanglingEscape;

impl Like {
    /// Compiles the text of a pattern.
    pub(crate) fn parse(
        pattern: &str,
        escape: Option<char>,
        ignore_case: bool,
    ) -> Result<Self, DanglingEscape> {
        let mut tokens = Vec::new();
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            let token = match c {
                _ if Some(c) == escape => match chars.next() {
                    Some(c) if c == '%' || c == '_' || Some(c) == escape => Token::Char(c),
                    _ => return Err(DanglingEscape),
                },
                '_' => Token::One,
                '%' => Token::Many,
                _ => Token::Char(c),
            };
            if token != Token::Many || tokens.last() != Some(&Token::Many) {
                tokens.push(token);
            }
        }
        Ok(Self::new(tokens, ignore_case))
    }

    /// A pattern of these tokens.
    pub(crate) fn of(tokens: impl Iterator<Item = Token>, ignore_case: bool) -> Self {
        let mut joined: Vec<Token> = Vec::new();
        for token in tokens {
            if token != Token::Many || joined.last() != Some(&Token::Many) {
                joined.push(token);
            }
        }
        Self::new(joined, ignore_case)
    }

    /// Text that may be preceded and followed by anything.
    pub(crate) fn literal(text: &str, open_start: bool, open_end: bool) -> Self {
        let start = open_start.then_some(Token::Many);
        let end = open_end.then_some(Token::Many);
        Self::new(
            start
                .into_iter()
                .chain(text.chars().map(Token::Char))
                .chain(end)
                .collect(),
            false,
        )
    }

    fn new(mut tokens: Vec<Token>, ignore_case: bool) -> Self {
        if ignore_case {
            for token in &mut tokens {
                if let Token::Char(c) = token {
                    *c = fold(*c);
                }
            }
        }
        let shape = shape(&tokens, ignore_case);
        let is_beyond_ascii = |token: &Token| matches!(token, Token::Char(c) if !c.is_ascii());
        Self {
            beyond_ascii: tokens.iter().any(is_beyond_ascii),
            tokens: tokens.into(),
            ignore_case,
            shape,
        }
    }

    pub(crate) fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    pub(crate) fn ignore_case(&self) -> bool {
        self.ignore_case
    }

    /// Whether all of `text` matches.
    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        match (&self.shape, self.ignore_case) {
            (Shape::Equal(part), false) => text == &**part,
            (Shape::Equal(part), true) => text.eq_ignore_ascii_case(part),
            (Shape::Prefix(part), false) => text.starts_with(part),
            (Shape::Prefix(part), true) => text
                .get(..part.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(part)),
            (Shape::Suffix(part), false) => text.ends_with(part),
            (Shape::Suffix(part), true) => {
                let start = text.len().checked_sub(part.len());
                start.is_some_and(|start| text[start..].eq_ignore_ascii_case(part))
            }
            (Shape::Contains(part), false) => contains(text, part),
            (Shape::Contains(part), true) => contains_ignore_ascii_case(text, part),
            (Shape::General, _) if self.beyond_ascii && text.is_ascii() => false,
            (Shape::General, _) => self.matches_tokens(text),
        }
    }

    /// The usual two-pointer walk: on a mismatch, the last `%` takes one unit more.
    fn matches_tokens(&self, text: &[u8]) -> bool {
        let (mut token, mut rest) = (0, text);
        let mut retry: Option<(usize, &[u8])> = None;
        loop {
            if self.tokens.get(token) == Some(&Token::Many) {
                token += 1;
                retry = Some((token, rest));
            } else if let Some(after) = self.step(token, rest) {
                token += 1;
                rest = after;
            } else if token == self.tokens.len() && rest.is_empty() {
                return true;
            } else {
                let Some((at, skipped)) = retry else {
                    return false;
                };
                let Some((_, len)) = first_unit(skipped) else {
                    return false;
                };
                retry = Some((at, &skipped[len..]));
                (token, rest) = (at, &skipped[len..]);
            }
        }
    }

    /// What is left after one unit, if it matches the token.
    fn step<'t>(&self, token: usize, text: &'t [u8]) -> Option<&'t [u8]> {
        let (unit, len) = first_unit(text)?;
        let matches = match (self.tokens.get(token)?, unit) {
            (Token::One, _) => true,
            (Token::Char(want), Unit::Char(c)) if self.ignore_case => *want == fold(c),
            (Token::Char(want), Unit::Char(c)) => *want == c,
            (Token::Char(_), Unit::Byte(_)) | (Token::Many, _) => false,
        };
        matches.then(|| &text[len..])
    }
}

fn shape(tokens: &[Token], ignore_case: bool) -> Shape {
    let open_start = tokens.first() == Some(&Token::Many);
    let open_end = tokens.last() == Some(&Token::Many);
    let inner = tokens.strip_prefix(&[Token::Many]).unwrap_or(tokens);
    let inner = inner.strip_suffix(&[Token::Many]).unwrap_or(inner);
    let mut literal = String::new();
    for token in inner {
        match token {
            Token::Char(c) if c.is_ascii() || !ignore_case => literal.push(*c),
            _ => return Shape::General,
        }
    }
    let literal = literal.into_bytes().into_boxed_slice();
    match (open_start, open_end) {
        (false, false) => Shape::Equal(literal),
        (false, true) => Shape::Prefix(literal),
        (true, false) => Shape::Suffix(literal),
        (true, true) => Shape::Contains(literal),
    }
}

/// Number of characters, counting bytes that belong to none.
pub(crate) fn length(text: &[u8]) -> usize {
    text::units(text).count()
}

#[cfg(test)]
mod tests {
    use super::{DanglingEscape, Like};

    fn check(pattern: &str, text: &[u8], like: bool, ilike: bool) {
        for (ignore_case, expected) in [(false, like), (true, ilike)] {
            let compiled = Like::parse(pattern, None, ignore_case).unwrap();
            let what = format!("{pattern} on {}", text.escape_ascii());
            assert_eq!(compiled.matches(text), expected, "{what}");
            assert_eq!(
                compiled.matches_tokens(text),
                expected,
                "{what}, token by token"
            );
        }
    }

    #[test]
    fn patterns_match_the_whole_text() {
        check("", b"", true, true);
        check("", b"a", false, false);
        check("%", b"", true, true);
        check("a%", b"abc", true, true);
        check("A%", b"abc", false, true);
        check("%C", b"abc", false, true);
        check("%b%", b"abc", true, true);
        check("%B%", b"abc", false, true);
        check("a_c", b"abc", true, true);
        check("a_c", b"abbc", false, false);
        check("%a%b%", b"xxaxxb", true, true);
        check("%ab%ab", b"ababxab", true, true);
        check("%aab", b"aaab", true, true);
        check("_", b"", false, false);
    }

    #[test]
    fn characters_and_stray_bytes_are_one_unit_each() {
        check("_", "é".as_bytes(), true, true);
        check("__", "é".as_bytes(), false, false);
        check("%__", "é".as_bytes(), false, false);
        check("É%", "éa".as_bytes(), false, true);
        check("a_b", b"a\xffb", true, true);
        check("%b", b"\xff\xfeb", true, true);
        check("%é", b"\xe2\xc3\xa9", true, true);
        check("k", "\u{212a}".as_bytes(), false, false);
    }

    #[test]
    fn escape_makes_wildcards_plain() {
        let like = Like::parse("100!%!_!!%", Some('!'), false).unwrap();
        assert!(like.matches(b"100%_!xyz"));
        assert!(!like.matches(b"100xx!xyz"));
        assert_eq!(Like::parse("a!b", Some('!'), false), Err(DanglingEscape));
        assert_eq!(Like::parse("a!", Some('!'), false), Err(DanglingEscape));
    }
}
