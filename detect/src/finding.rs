//! What a match tells.

use event::{Argv, Event, EventKind, Finding};

use crate::catalog::{Column, Field};
use crate::eval;
use crate::rule::Rule;
use crate::text::escape;
use crate::view::{Value, View};

pub(crate) fn finding(rule: &Rule, event: &Event, view: &View<'_>, leaf_index: u64) -> Finding {
    let exe = match &event.kind {
        EventKind::Exec(exec) => exec.process.exe.clone(),
        EventKind::Exit(exit) => exit.exe.clone(),
        EventKind::FailedExec(failed) => failed.exe.clone(),
        EventKind::Hashed(hashed) => hashed.exe.clone(),
        _ => event::Bytes::new(),
    };
    let selected = rule.select.iter().filter_map(|selected| {
        let value = eval::scalar(&selected.value, view)?;
        Some((selected.name.clone(), text_of(&value)))
    });
    Finding {
        header: event.header,
        rule_id: rule.id.clone(),
        title: rule.title.clone(),
        level: rule.level,
        tags: rule.tags.clone(),
        leaf_index,
        key: event.key(),
        exe,
        selected: selected.collect(),
        absent: absent(rule, view),
    }
}

/// Columns of the rule's conditions that this event could not fill, or not wholly.
fn absent(rule: &Rule, view: &View<'_>) -> Vec<String> {
    let columns = rule.columns.iter().filter_map(|name| Column::find(name));
    let unknown = |column: &&Column| {
        let missing = !column.nullable && view.get(column.field).is_none();
        missing || view.is_cut(column.field)
    };
    columns
        .filter(unknown)
        .map(|column| column.name.to_owned())
        .collect()
}

/// As people read it: arrays as `["a","b"]`, bytes that are not UTF-8 as `\xHH`.
pub(crate) fn text_of(value: &Value<'_>) -> String {
    match value {
        Value::Text(text) => escape(text),
        Value::Int(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::List(argv) => list(argv),
    }
}

fn list(argv: &Argv) -> String {
    let quoted: Vec<String> = argv
        .iter()
        .map(|argument| format!("\"{}\"", escape(argument).replace('"', "\\\"")))
        .collect();
    format!("[{}]", quoted.join(","))
}

/// `column = value` for messages.
pub(crate) fn show(field: Field, view: &View<'_>) -> String {
    let value = view
        .get(field)
        .map_or_else(|| "NULL".to_owned(), |value| text_of(&value));
    format!("{} = {value}", Column::of(field).name)
}
