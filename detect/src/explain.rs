//! Why a rule holds for an event, or does not.

use event::Event;
use serde_json::Value;

use crate::catalog::{COLUMNS, FieldSet, Stream};
use crate::eval;
use crate::finding::show;
use crate::ir::Predicate;
use crate::rule::{Clause, Rule};
use crate::sigma::sysmon;
use crate::sql_text;
use crate::test_event::TestEvent;
use crate::view::{Scratch, View, stream_of};

/// A condition, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// As in the rule, or in SQL's words; of what has parts, how they are linked.
    pub text: String,
    /// `None`: neither true nor false, because something is unknown.
    pub truth: Option<bool>,
    /// What it read, as `column = value`; only where it has no parts.
    pub values: Vec<String>,
    /// What it is made of.
    pub parts: Vec<Part>,
}

/// How one event stands to one clause of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// All conditions are true.
    pub holds: bool,
    /// The conditions; none if the event is of another stream.
    pub conditions: Vec<Part>,
    /// What the clause reads.
    pub stream: &'static str,
}

/// One explanation for each clause of the rule; most rules have one.
#[must_use]
pub fn explain(rule: &Rule, event: &Event) -> Vec<Explanation> {
    rule.clauses
        .iter()
        .map(|clause| of_clause(clause, event))
        .collect()
}

/// Reads an event for [`explain()`]: Sysmon's fields as JSON, or what tests of rules have.
///
/// # Errors
/// What is wrong with it.
pub fn read_event(json: &str, rule: &Rule) -> Result<Event, String> {
    let value: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
    if sysmon::has_fields(&value) {
        return sysmon::from_value(&value).map_err(|error| error.to_string());
    }
    let event: TestEvent = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let stream = rule
        .clauses
        .first()
        .map_or(Stream::Exec, |clause| clause.stream);
    let mut events = event.into_events(stream)?;
    events.pop().ok_or_else(|| "no event".to_owned())
}

fn of_clause(clause: &Clause, event: &Event) -> Explanation {
    let mut scratch = Scratch::default();
    scratch.fill(event, clause.condition_fields());
    let view = View::new(event, &scratch);
    let view = view.filter(|_| stream_of(event) == Some(clause.stream));
    let conditions: Vec<Part> = view
        .iter()
        .flat_map(|view| conditions(clause, view))
        .collect();
    Explanation {
        holds: view.is_some() && conditions.iter().all(|part| part.truth == Some(true)),
        conditions,
        stream: clause.stream.name(),
    }
}

fn conditions(clause: &Clause, view: &View<'_>) -> Vec<Part> {
    let one = |condition: &crate::rule::Condition| {
        let part = part(&condition.predicate, view);
        Part {
            text: condition.text.clone(),
            // A leaf says the same as the condition that it is.
            parts: if part.parts.is_empty() {
                vec![]
            } else {
                vec![part.clone()]
            },
            ..part
        }
    };
    clause.conditions.iter().map(one).collect()
}

fn part(predicate: &Predicate, view: &View<'_>) -> Part {
    let truth = eval::predicate(predicate, view);
    let (text, parts): (&str, &[Predicate]) = match predicate {
        Predicate::And(parts) => ("all of", parts),
        Predicate::Or(parts) => ("any of", parts),
        Predicate::Not(inner) => ("not", std::slice::from_ref(inner)),
        Predicate::Is(inner, Some(true)) => {
            return Part {
                truth,
                ..part(inner, view)
            };
        }
        leaf => return of_leaf(leaf, truth, view),
    };
    Part {
        text: text.to_owned(),
        truth,
        values: Vec::new(),
        parts: parts.iter().map(|p| part(p, view)).collect(),
    }
}

fn of_leaf(leaf: &Predicate, truth: Option<bool>, view: &View<'_>) -> Part {
    let mut fields = FieldSet::default();
    leaf.collect_fields(&mut fields);
    let read = COLUMNS
        .iter()
        .filter(|column| fields.contains(column.field));
    Part {
        text: sql_text::condition(leaf).text,
        truth,
        values: read.map(|column| show(column.field, view)).collect(),
        parts: Vec::new(),
    }
}
