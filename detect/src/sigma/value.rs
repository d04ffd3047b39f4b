//! Texts of rules: wildcards, their escaping, placeholders, and what modifiers make of them.

use crate::like::{Like, Token};

/// A text with wildcards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text(pub(crate) Vec<Piece>);

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Char(char),
    /// `?`
    One,
    /// `*`
    Many,
    /// `%name%`, only with the modifier `expand`.
    Placeholder(String),
}

/// The characters that Windows programs take for the start of a flag.
pub(crate) const DASHES: [char; 5] = ['-', '/', '\u{2013}', '\u{2014}', '\u{2015}'];

impl Text {
    /// `*` and `?` are wildcards unless a backslash stands before them. A backslash before a
    /// wildcard or another backslash is an escape, before anything else it is itself.
    pub(crate) fn parse(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            pieces.push(match c {
                '*' => Piece::Many,
                '?' => Piece::One,
                '\\' => match chars.next_if(|next| matches!(next, '*' | '?' | '\\')) {
                    Some(escaped) => Piece::Char(escaped),
                    None => Piece::Char('\\'),
                },
                _ => Piece::Char(c),
            });
        }
        Self(pieces)
    }

    /// No character has a meaning.
    pub(crate) fn plain(text: &str) -> Self {
        Self(text.chars().map(Piece::Char).collect())
    }

    /// The text, if it has no wildcard.
    pub(crate) fn as_plain(&self) -> Option<String> {
        let char_of = |piece: &Piece| match piece {
            Piece::Char(c) => Some(*c),
            _ => None,
        };
        self.0.iter().map(char_of).collect()
    }

    pub(crate) fn open_start(&mut self) {
        if self.0.first() != Some(&Piece::Many) {
            self.0.insert(0, Piece::Many);
        }
    }

    pub(crate) fn open_end(&mut self) {
        if self.0.last() != Some(&Piece::Many) {
            self.0.push(Piece::Many);
        }
    }

    /// Turns `%name%` into placeholders, and `\%` into `%`.
    pub(crate) fn with_placeholders(&self) -> Self {
        let (mut out, mut rest) = (Vec::new(), &self.0[..]);
        while let Some((first, after)) = rest.split_first() {
            match (first, after.first()) {
                (Piece::Char('\\'), Some(Piece::Char('%'))) => {
                    out.push(Piece::Char('%'));
                    rest = &after[1..];
                }
                (Piece::Char('%'), _) => match placeholder(after) {
                    Some((name, end)) => {
                        out.push(Piece::Placeholder(name));
                        rest = &after[end..];
                    }
                    None => {
                        out.push(first.clone());
                        rest = after;
                    }
                },
                _ => {
                    out.push(first.clone());
                    rest = after;
                }
            }
        }
        Self(out)
    }

    pub(crate) fn placeholder(&self) -> Option<&str> {
        self.0.iter().find_map(|piece| match piece {
            Piece::Placeholder(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// With `by` in the place of the first placeholder.
    pub(crate) fn replace_placeholder(&self, by: &Self) -> Self {
        let at = |piece: &Piece| matches!(piece, Piece::Placeholder(_));
        let Some(at) = self.0.iter().position(at) else {
            return self.clone();
        };
        Self([&self.0[..at], &by.0, &self.0[at + 1..]].concat())
    }

    /// Where a dash begins a flag: before a letter, digit or `_`, and not after one.
    pub(crate) fn flag_dashes(&self) -> Vec<usize> {
        let word = |at: Option<usize>| {
            let piece = at.and_then(|at| self.0.get(at));
            matches!(piece, Some(Piece::Char(c)) if c.is_alphanumeric() || *c == '_')
        };
        let is_flag = |at: &usize| {
            matches!(self.0[*at], Piece::Char(c) if DASHES.contains(&c))
                && !word(at.checked_sub(1))
                && word(Some(at + 1))
        };
        (0..self.0.len()).filter(is_flag).collect()
    }

    /// With another character at a position.
    pub(crate) fn with_char(&self, at: usize, c: char) -> Self {
        let mut pieces = self.0.clone();
        pieces[at] = Piece::Char(c);
        Self(pieces)
    }

    /// As a pattern. Placeholders are replaced before.
    pub(crate) fn like(&self, ignore_case: bool) -> Like {
        let token = |piece: &Piece| match piece {
            Piece::Char(c) => Some(Token::Char(*c)),
            Piece::One => Some(Token::One),
            Piece::Many => Some(Token::Many),
            Piece::Placeholder(_) => None,
        };
        Like::of(self.0.iter().filter_map(token), ignore_case)
    }
}

/// The name at the start of the pieces that ends with `%`, and how many pieces that are.
fn placeholder(pieces: &[Piece]) -> Option<(String, usize)> {
    let mut name = String::new();
    for (at, piece) in pieces.iter().enumerate() {
        match piece {
            Piece::Char('%') if !name.is_empty() => return Some((name, at + 1)),
            Piece::Char(c) if c.is_alphanumeric() || *c == '_' => name.push(*c),
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{Piece, Text};

    /// Wildcards as `⁑` and `⁇`, placeholders as `<name>`.
    fn show(text: &Text) -> String {
        let show = |piece: &Piece| match piece {
            Piece::Char(c) => c.to_string(),
            Piece::One => "⁇".to_owned(),
            Piece::Many => "⁑".to_owned(),
            Piece::Placeholder(name) => format!("<{name}>"),
        };
        text.0.iter().map(show).collect()
    }

    #[test]
    fn escaping_is_that_of_the_specification() {
        let check = |text: &str, shown: &str| assert_eq!(show(&Text::parse(text)), shown, "{text}");
        check(r"C:\Windows\cmd", r"C:\Windows\cmd");
        check(r"C:\\Windows", r"C:\Windows");
        check("a*b?", "a⁑b⁇");
        check(r"a\*b\?", "a*b?");
        check(r"a\\*", "a\\⁑");
        check(r"a\\\*", r"a\*");
        check(r"a\\\b", r"a\\b");
        check(r"a\\\\b", r"a\\b");
        check(r"\", r"\");
        check(r"a\\", r"a\");
    }

    #[test]
    fn placeholders_stand_between_percent_signs() {
        let check = |text: &str, shown: &str| {
            assert_eq!(
                show(&Text::parse(text).with_placeholders()),
                shown,
                "{text}"
            );
        };
        check("%name%", "<name>");
        check("a%b_1%c*%d%", "a<b_1>c⁑<d>");
        check(r"\%plain%name%", "%plain<name>");
        check("50% or 60%", "50% or 60%");
        check("%%", "%%");
        check("%no wild*%", "%no wild⁑%");
    }

    #[test]
    fn dashes_of_flags_are_those_before_words() {
        let check = |text: &str, dashes: &[usize]| {
            assert_eq!(Text::parse(text).flag_dashes(), dashes, "{text}");
        };
        check(" -param-name", &[1]);
        check("/c", &[0]);
        check("--all", &[1]);
        check("a -b /c", &[2, 5]);
        check("a-b", &[]);
        check("a \u{2013}b \u{2014}c", &[2, 5]);
        check("- ", &[]);
    }
}
