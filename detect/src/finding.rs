//! What a match tells.

use event::{EventKind, Finding};

use crate::catalog::{COLUMNS, Column, Field, FieldSet};
use crate::correlate::Match;
use crate::eval;
use crate::ir::Scalar;
use crate::rule::{Output, column_names};
use crate::text::escape;
use crate::view::{Value, View};

/// What a finding says besides its rule and the event that completed it.
#[derive(Debug, Default)]
pub(crate) struct Circumstances {
    pub(crate) evidence: Vec<u64>,
    pub(crate) incomplete: Vec<String>,
    pub(crate) absent: FieldSet,
}

/// `text` gives what the rule selected.
pub(crate) fn finding(
    found: &Match<'_>,
    circumstances: Circumstances,
    text: impl Fn(usize, &Output) -> Option<String>,
) -> Finding {
    let (rule, event) = (found.rule, found.event);
    let provenance = rule.provenance.as_deref();
    let exe = match &event.kind {
        EventKind::Exec(exec) => exec.process.exe.clone(),
        EventKind::Exit(exit) => exit.exe.clone(),
        EventKind::FailedExec(failed) => failed.exe.clone(),
        EventKind::Hashed(hashed) => hashed.exe.clone(),
        _ => event::Bytes::new(),
    };
    let selected = rule
        .select
        .iter()
        .enumerate()
        .filter_map(|(index, selected)| {
            let text = text(index, &selected.output)?;
            Some((selected.name.clone(), text))
        });
    Finding {
        header: event.header,
        rule_id: rule.id.clone(),
        title: rule.title.clone(),
        level: rule.level,
        tags: rule.tags.clone(),
        leaf_index: found.leaf_index,
        key: event.key(),
        exe,
        selected: selected.collect(),
        absent: column_names(circumstances.absent)
            .into_iter()
            .map(str::to_owned)
            .chain(rule.missing.iter().cloned())
            .collect(),
        evidence: circumstances.evidence,
        incomplete: circumstances.incomplete,
        author: provenance.map(|p| p.author.clone()).unwrap_or_default(),
        license: provenance.map(|p| p.license.clone()).unwrap_or_default(),
    }
}

/// Of a rule that fires on single events.
pub(crate) fn finding_on_event(found: &Match<'_>) -> Finding {
    let circumstances = Circumstances {
        absent: absent(found),
        ..Circumstances::default()
    };
    finding(found, circumstances, |_, output| match output {
        Output::Scalar(value) => text(value, &found.view),
        Output::Aggregate(_) => None,
    })
}

/// Columns that decide about the clause and that this event could not fill, or not wholly.
pub(crate) fn absent(found: &Match<'_>) -> FieldSet {
    let deciding = found.deciding;
    let view = &found.view;
    let mut absent = FieldSet::default();
    for column in COLUMNS.iter().filter(|c| deciding.contains(c.field)) {
        let missing = !column.nullable && view.get(column.field).is_none();
        if missing || view.is_cut(column.field) {
            absent.insert(column.field);
        }
    }
    absent
}

/// The value of an expression as people read it; nothing for `NULL`.
pub(crate) fn text(value: &Scalar, view: &View<'_>) -> Option<String> {
    eval::scalar(value, view).map(|value| text_of(&value))
}

/// As people read it: arrays as `["a","b"]`, bytes that are not UTF-8 as `\xHH`.
pub(crate) fn text_of(value: &Value<'_>) -> String {
    match value {
        Value::Text(text) => escape(text),
        Value::Int(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::List(argv) => list(argv.iter().map(quoted)),
        Value::Ancestors(ancestors) => list(ancestors.iter().map(|element| match element {
            Some(Value::Text(text)) => quoted(&text),
            Some(other) => text_of(&other),
            None => "NULL".to_owned(),
        })),
    }
}

fn list(elements: impl Iterator<Item = String>) -> String {
    format!("[{}]", elements.collect::<Vec<_>>().join(","))
}

fn quoted(element: &[u8]) -> String {
    format!("\"{}\"", escape(element).replace('"', "\\\""))
}

/// `column = value` for messages.
pub(crate) fn show(field: Field, view: &View<'_>) -> String {
    let value = view
        .get(field)
        .map_or_else(|| "NULL".to_owned(), |value| text_of(&value));
    format!("{} = {value}", Column::of(field).name)
}
