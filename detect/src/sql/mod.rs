//! SQL text to the intermediate form. Nothing passes that is not named here: every clause of a
//! `SELECT` and every kind of expression is either compiled or refused with its place.

mod aggregate;
mod condition;
mod from;
mod function;
mod glob;
mod group;
mod having;
mod interval;
mod join;
mod operator;
mod parse;
mod place;
mod scalar;
mod scope;
mod select;
mod spelling;

use sqlparser::tokenizer::Location;

use crate::catalog::Stream;
use crate::error::ErrorKind;
use crate::ir::Predicate;
use crate::list::Lists;
use crate::rule::{Clause, Selected};
use crate::trigger::Trigger;
use condition::Conditions;
use place::START;
use scalar::Scalars;
use scope::{Named, Scope};

pub use aggregate::{AGGREGATES, AggregateDoc};
pub use function::{FUNCTIONS, FunctionDoc};

/// A rule's statement, compiled.
pub(crate) struct Query {
    pub(crate) select: Vec<Selected>,
    pub(crate) clauses: Vec<Clause>,
    pub(crate) trigger: Trigger,
}

/// An error at a place in the SQL text.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) at: Location,
    pub(crate) kind: ErrorKind,
}

impl Fault {
    fn new(at: Location, kind: ErrorKind) -> Self {
        Self { at, kind }
    }

    fn unsupported(at: Location, what: impl Into<String>) -> Self {
        Self::new(at, ErrorKind::Unsupported(what.into()))
    }

    fn ty(at: Location, problem: impl Into<String>) -> Self {
        Self::new(at, ErrorKind::Type(problem.into()))
    }

    fn limit(at: Location, what: &'static str, limit: impl ToString) -> Self {
        Self::new(
            at,
            ErrorKind::Limit {
                what,
                limit: limit.to_string(),
            },
        )
    }
}

/// Compiles a statement, or says all that is wrong with it.
pub(crate) fn compile(sql: &str, lists: &Lists) -> Result<Query, Vec<Fault>> {
    let query = parse::parse(sql).map_err(|fault| vec![fault])?;
    let at_clause = |fault: Fault| match &fault.kind {
        // The syntax tree does not say where most clauses stand.
        ErrorKind::Unsupported(clause) if fault.at == place::query_start(&query) => Fault {
            at: parse::place_of(clause, sql).unwrap_or(fault.at),
            ..fault
        },
        _ => fault,
    };
    let compiled = select::compile(sql, &query, lists);
    compiled.map_err(|faults| faults.into_iter().map(at_clause).collect())
}

/// Compiles a condition on one of these streams that must not be true: the position of the stream,
/// and that it is not.
pub(crate) fn compile_exception(
    sql: &str,
    streams: Vec<(Option<String>, Stream)>,
    lists: &Lists,
) -> Result<(usize, Predicate), Fault> {
    let expr = parse::parse_condition(sql)?;
    let named = |(alias, stream)| Named {
        alias,
        stream,
        at: START,
    };
    let scope = Scope::new(streams.into_iter().map(named).collect(), lists);
    let scalars = Scalars { scope: &scope };
    let condition = Conditions { scalars }.compile(&expr)?;
    let stream = scope.one_named("an exception on values", START)?;
    let is_true = Predicate::Is(Box::new(condition), Some(true));
    Ok((stream.unwrap_or(0), Predicate::Not(Box::new(is_true))))
}
