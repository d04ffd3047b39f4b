//! Detection rules over process events: rules in, events in, findings out.
//!
//! Knows no clock, no file system and no network: the caller hands in the text of rule files and
//! the events, and does what it likes with the findings. The same rules and events always give the
//! same findings, live or replayed.
//!
//! Start with [`RuleSet::compile`] and [`Matcher`]. A rule file is YAML (`yaml.rs`) around one SQL
//! statement (`sql/`), whose names come from one table ([`catalog`]). It compiles to a form that
//! knows nothing of SQL (`ir.rs`), whose meaning `eval.rs` states and `program/` finds fast. A rule
//! fires on single events, or on what `correlate/` remembers of several (`trigger.rs`).

mod apply;
pub mod catalog;
mod civil;
mod correlate;
mod dedup;
mod error;
mod eval;
mod exception;
mod explain;
mod expression;
mod finding;
mod ir;
mod like;
mod list;
mod matcher;
mod nearest;
mod program;
mod regex_literals;
mod rule;
mod rule_test;
mod shipped;
pub mod sigma;
mod sql;
mod sql_place;
mod sql_text;
mod test_event;
mod text;
mod trigger;
mod view;
mod yaml;

pub use correlate::Memory;
pub use dedup::Sameness;
pub use error::{Error, ErrorKind, Place};
pub use exception::is_exceptions;
pub use explain::{Explanation, Part, explain, read_event};
pub use list::read_list;
pub use matcher::Matcher;
pub use rule::{Options, Rule, RuleException, RuleSet, Source, canonical_id};
pub use rule_test::{TestOutcome, run_tests};
pub use shipped::shipped;
pub use sql::{AGGREGATES, AggregateDoc, FUNCTIONS, FunctionDoc};
