//! Where a place in a rule's SQL text is in the rule's file.

use serde_saphyr::Spanned;
use sqlparser::tokenizer::Location;

use crate::error::Place;
use crate::yaml::place;

/// The SQL text as the YAML scalar it was written as.
///
/// Block, folded and plain scalars keep their visible characters in order and change only white
/// space, so the n-th visible character of the text is the n-th of the source. Quoted scalars with
/// escapes do not; there, every place is the start of the scalar.
pub(crate) struct SqlPlaces<'a> {
    sql: &'a str,
    source: &'a str,
    start: Place,
}

impl<'a> SqlPlaces<'a> {
    pub(crate) fn new(file: &'a str, sql: &'a Spanned<String>) -> Self {
        let span = sql.defined.span();
        let source = span
            .byte_offset()
            .zip(span.byte_len())
            .and_then(|(offset, len)| {
                let start = usize::try_from(offset).ok()?;
                file.get(start..start.checked_add(usize::try_from(len).ok()?)?)
            });
        Self {
            sql: &sql.value,
            source: source.unwrap_or_default(),
            start: place(sql.defined),
        }
    }

    /// The place in the file of a place in the SQL text. What is past the last visible character
    /// is right after it.
    pub(crate) fn in_file(&self, at: Location) -> Place {
        let (skip, quote) = match self.source.chars().next() {
            Some(quote @ ('\'' | '"')) if !self.sql.starts_with(quote) => (1, Some(quote)),
            _ => (0, None),
        };
        let body = self.source.get(skip..).unwrap_or_default();
        let body = quote
            .and_then(|quote| body.strip_suffix(quote))
            .unwrap_or(body);
        if quote.is_some() && body.contains(['\\', '\'']) {
            return self.start;
        }
        let mut before = visible_before(self.sql, at);
        let mut here = Place {
            column: self.start.column + skip as u64,
            ..self.start
        };
        let mut after_last = here;
        for c in body.chars() {
            if !c.is_whitespace() {
                if before == 0 {
                    return here;
                }
                before -= 1;
            }
            here = next(here, c);
            if !c.is_whitespace() {
                after_last = here;
            }
        }
        after_last
    }
}

fn visible_before(sql: &str, at: Location) -> usize {
    let mut here = Place { line: 1, column: 1 };
    let end = Place {
        line: at.line,
        column: at.column,
    };
    let mut count = 0;
    for c in sql.chars() {
        if here >= end {
            break;
        }
        count += usize::from(!c.is_whitespace());
        here = next(here, c);
    }
    count
}

fn next(place: Place, c: char) -> Place {
    match c {
        '\n' => Place {
            line: place.line + 1,
            column: 1,
        },
        _ => Place {
            line: place.line,
            column: place.column + 1,
        },
    }
}
