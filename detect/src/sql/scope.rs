//! What the names in one statement stand for.

use std::cell::Cell;

use sqlparser::tokenizer::Location;

use crate::catalog::{COLUMNS, Column, Stream};
use crate::error::ErrorKind;
use crate::list::Lists;
use crate::nearest::nearest;
use crate::sql::Fault;

/// Conditions within values within conditions …
const MAX_INNER: usize = 8;

/// Conditions in one rule.
const MAX_TERMS: usize = 512;

/// The streams that a statement reads, and what is counted while it is compiled.
#[derive(Debug)]
pub(super) struct Scope<'l> {
    lists: &'l Lists,
    streams: Vec<Named>,
    terms: Cell<usize>,
    /// Streams of which a column was named, as a bit set.
    named: Cell<u32>,
    /// Conditions within values within conditions …, at present.
    inner: Cell<usize>,
}

/// A stream in `FROM`.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) alias: Option<String>,
    pub(super) stream: Stream,
    pub(super) at: Location,
}

impl<'l> Scope<'l> {
    pub(super) fn new(streams: Vec<Named>, lists: &'l Lists) -> Self {
        Self {
            lists,
            streams,
            terms: Cell::new(0),
            named: Cell::new(0),
            inner: Cell::new(0),
        }
    }

    pub(super) fn streams(&self) -> &[Named] {
        &self.streams
    }

    /// The values of a list.
    pub(super) fn list(&self, name: &str, at: Location) -> Result<&'l [String], Fault> {
        self.lists.get(name).map(Vec::as_slice).ok_or_else(|| {
            let names = self.lists.keys().map(String::as_str);
            let kind = ErrorKind::Unknown {
                what: "list",
                name: name.to_owned(),
                nearest: nearest(name, names).map(str::to_owned),
            };
            Fault::new(at, kind)
        })
    }

    /// Positions of the streams of which a column was named since this was last asked.
    pub(super) fn take_named(&self) -> Vec<usize> {
        let named = self.named.replace(0);
        (0..self.streams.len())
            .filter(|stream| named & 1 << stream != 0)
            .collect()
    }

    /// The stream of which columns were named since last asked; none where no column was.
    pub(super) fn one_named(&self, what: &str, at: Location) -> Result<Option<usize>, Fault> {
        match self.take_named().as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(*one)),
            _ => Err(Fault::unsupported(
                at,
                format!("{what} from several streams"),
            )),
        }
    }

    /// Compiles a condition that stands within a value.
    pub(super) fn inner<T>(
        &self,
        at: Location,
        compile: impl FnOnce() -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        if self.inner.get() == MAX_INNER {
            let limit = format_args!("{MAX_INNER} levels");
            return Err(Fault::limit(at, "nesting of conditions in values", limit));
        }
        self.inner.set(self.inner.get() + 1);
        let compiled = compile();
        self.inner.set(self.inner.get() - 1);
        compiled
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
        let (position, rest) = self
            .stream_of(name)
            .ok_or_else(|| self.unknown(name, quoted, at))?;
        let named = &self.streams[position];
        let column = Column::find(rest).ok_or_else(|| self.unknown(name, quoted, at))?;
        if column.streams.contains(&named.stream) {
            self.named.set(self.named.get() | 1 << position);
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

    /// The position of the stream that a name is of, and the name in it.
    fn stream_of<'n>(&self, name: &'n str) -> Option<(usize, &'n str)> {
        let qualified = name.split_once('.').and_then(|(first, rest)| {
            let is = |named: &Named| named.alias.as_deref() == Some(first);
            Some((self.streams.iter().position(is)?, rest))
        });
        let only = (self.streams.len() == 1).then_some((0, name));
        qualified.or(only)
    }

    fn unknown(&self, name: &str, quoted: bool, at: Location) -> Fault {
        if quoted {
            let text = name.replace('\'', "''");
            let message = format!("\"{name}\" is a column name in SQL; text is '{text}'");
            return Fault::ty(at, message);
        }
        if self.streams.len() > 1 && Column::find(name).is_some() {
            let alias = self.streams[0].alias.as_deref().unwrap_or_default();
            let message = format!("of which stream is `{name}`? Write `{alias}.{name}`");
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
        let mut names = Vec::new();
        for named in &self.streams {
            let prefix = match &named.alias {
                Some(alias) if self.streams.len() > 1 => format!("{alias}."),
                _ => String::new(),
            };
            let columns = COLUMNS.iter();
            let columns = columns.filter(|c| c.streams.contains(&named.stream));
            names.extend(columns.map(|column| format!("{prefix}{}", column.name)));
        }
        names
    }
}
