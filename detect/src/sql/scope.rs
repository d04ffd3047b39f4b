//! What the names in one statement stand for.

use std::cell::Cell;

use sqlparser::tokenizer::Location;

use crate::catalog::{COLUMNS, Column, Stream};
use crate::error::ErrorKind;
use crate::nearest::nearest;
use crate::sql::Fault;

/// Conditions in one rule.
const MAX_TERMS: usize = 512;

/// The streams that a statement reads, and what is counted while it is compiled.
#[derive(Debug)]
pub(super) struct Scope {
    streams: Vec<Named>,
    terms: Cell<usize>,
}

/// A stream in `FROM`.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) alias: Option<String>,
    pub(super) stream: Stream,
}

impl Scope {
    pub(super) fn new(streams: Vec<Named>) -> Self {
        Self {
            streams,
            terms: Cell::new(0),
        }
    }

    pub(super) fn streams(&self) -> &[Named] {
        &self.streams
    }

    /// Counts one more condition.
    pub(super) fn count_term(&self, at: Location) -> Result<(), Fault> {
        self.terms.set(self.terms.get() + 1);
        if self.terms.get() > MAX_TERMS {
            return Err(Fault::limit(at, "number of conditions", MAX_TERMS));
        }
        Ok(())
    }

    /// The column of that name, if its stream has it.
    pub(super) fn column(
        &self,
        name: &str,
        quoted: bool,
        at: Location,
    ) -> Result<&'static Column, Fault> {
        let (named, rest) = self
            .stream_of(name)
            .ok_or_else(|| self.unknown(name, quoted, at))?;
        let column = Column::find(rest).ok_or_else(|| self.unknown(name, quoted, at))?;
        if column.streams.contains(&named.stream) {
            return Ok(column);
        }
        let only_in: Vec<_> = column.streams.iter().map(|stream| stream.name()).collect();
        let kind = ErrorKind::NotInStream {
            column: column.name,
            stream: named.stream.name(),
            only_in: only_in.join(", "),
        };
        Err(Fault::new(at, kind))
    }

    /// The stream that a name is of, and the name in it.
    fn stream_of<'n>(&self, name: &'n str) -> Option<(&Named, &'n str)> {
        let qualified = name.split_once('.').and_then(|(first, rest)| {
            let is = |named: &&Named| named.alias.as_deref() == Some(first);
            Some((self.streams.iter().find(is)?, rest))
        });
        let only = match self.streams.as_slice() {
            [only] => Some((only, name)),
            _ => None,
        };
        qualified.or(only)
    }

    fn unknown(&self, name: &str, quoted: bool, at: Location) -> Fault {
        if quoted {
            let text = name.replace('\'', "''");
            let message = format!("\"{name}\" is a column name in SQL; text is '{text}'");
            return Fault::ty(at, message);
        }
        let names = self.column_names();
        let nearest = nearest(name, names.iter().map(String::as_str)).map(str::to_owned);
        let kind = ErrorKind::Unknown {
            what: "column",
            name: name.to_owned(),
            nearest,
        };
        Fault::new(at, kind)
    }

    /// As they have to be written.
    fn column_names(&self) -> Vec<String> {
        let qualified = |named: &Named, column: &Column| match &named.alias {
            Some(alias) if self.streams.len() > 1 => format!("{alias}.{}", column.name),
            _ => column.name.to_owned(),
        };
        let of = |named| {
            let columns = COLUMNS.iter();
            let columns = columns.filter(move |c| c.streams.contains(&Named::stream(named)));
            columns.map(move |column| qualified(named, column))
        };
        self.streams.iter().flat_map(of).collect()
    }
}

impl Named {
    fn stream(&self) -> Stream {
        self.stream
    }
}
