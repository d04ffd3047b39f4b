//! What a match tells.

use std::sync::Arc;

use event::{ColumnName, EventKind, Finding};

use crate::catalog::{Column, Field, FieldSet};
use crate::correlate::Match;
use crate::eval;
use crate::ir::Scalar;
use crate::rule::{Output, Rule, Selected};
use crate::text::escape;
use crate::view::{Value, View};

/// What all findings of a rule say.
#[derive(Debug)]
pub(crate) struct RuleText {
    rule_id: Arc<str>,
    title: Arc<str>,
    tags: Arc<[String]>,
    author: Arc<str>,
    license: Arc<str>,
}

impl RuleText {
    pub(crate) fn of(rule: &Rule) -> Self {
        let provenance = rule.provenance.as_deref();
        Self {
            rule_id: rule.id.as_str().into(),
            title: rule.title.as_str().into(),
            tags: rule.tags.as_slice().into(),
            author: provenance.map_or("", |p| &p.author).into(),
            license: provenance.map_or("", |p| &p.license).into(),
        }
    }
}

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
    let exe = match &event.kind {
        EventKind::Exec(exec) => exec.process.exe.clone(),
        EventKind::Exit(exit) => exit.exe.clone(),
        EventKind::FailedExec(failed) => failed.exe.clone(),
        EventKind::Hashed(hashed) => hashed.exe.clone(),
        _ => event::Bytes::new(),
    };
    let read = |(index, column): (usize, &Selected)| {
        let text = text(index, &column.output)?;
        Some((column.name.clone(), text))
    };
    let mut selected = Vec::with_capacity(rule.select.len());
    selected.extend(rule.select.iter().enumerate().filter_map(read));
    Finding {
        header: event.header,
        rule_id: Arc::clone(&found.text.rule_id),
        title: Arc::clone(&found.text.title),
        level: rule.level,
        tags: Arc::clone(&found.text.tags),
        leaf_index: found.leaf_index,
        key: event.key(),
        exe,
        selected,
        absent: circumstances
            .absent
            .columns()
            .map(|column| column.name.into())
            .chain(rule.missing.iter().cloned().map(ColumnName::from))
            .collect(),
        evidence: circumstances.evidence,
        incomplete: circumstances.incomplete,
        author: Arc::clone(&found.text.author),
        license: Arc::clone(&found.text.license),
        matched: matched(found),
    }
}

/// Longest value among those that decided: the event has the whole.
const MAX_MATCHED_BYTES: usize = 512;

/// The columns that decided about the event, those without a value left out.
fn matched(found: &Match<'_>) -> Vec<(ColumnName, String)> {
    debug_assert_eq!(found.matched, evaluated_matched(found));
    let with_value = |column: &Column| {
        let value = found.view.get(column.field)?;
        Some((column.name.into(), shortened(&value)))
    };
    let mut matched = Vec::with_capacity(found.matched.len());
    matched.extend(found.matched.columns().filter_map(with_value));
    matched
}

/// What the program found out already, by evaluating all once more.
fn evaluated_matched(found: &Match<'_>) -> FieldSet {
    let mut fields = FieldSet::default();
    for condition in &found.rule.clauses[found.clause].conditions {
        eval::deciding(&condition.predicate, &found.view, &mut fields);
    }
    fields
}

fn shortened(value: &Value<'_>) -> String {
    let mut text = match value {
        // Escaped, it is not shorter, so one character more than is kept will do.
        Value::Text(text) => escape(&text[..text.len().min(MAX_MATCHED_BYTES + 4)]),
        other => text_of(other),
    };
    if text.len() > MAX_MATCHED_BYTES {
        text.truncate(text.floor_char_boundary(MAX_MATCHED_BYTES));
        text.push('…');
    }
    text
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
    for column in deciding.columns() {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use event::{Event, Exec, Header, Process};

    use super::*;
    use crate::{Matcher, RuleSet, Source};

    /// The columns that decided that the condition holds.
    fn check(condition: &str, expected: &[(&str, &str)]) {
        let text = format!(
            "id: r\ntitle: R\nlevel: low\nsql: |\n  SELECT process.pid FROM exec WHERE {condition}\n"
        );
        let source = Source {
            file: "r.yaml",
            text: &text,
        };
        let rules = RuleSet::compile(&[source]).unwrap();
        let long = "x".repeat(600);
        let process = Process {
            exe: "/bin/sh".into(),
            argv: ["sh", "-c", long.as_str()].into_iter().collect(),
            cwd: Some("/tmp".into()),
            ..Process::default()
        };
        let event = Event {
            header: Header::default(),
            kind: EventKind::Exec(Box::new(Exec {
                process,
                old_tid: None,
            })),
        };
        let mut findings = Vec::new();
        Matcher::new(Arc::new(rules)).on_event(&event, 1, &mut findings);
        let matched = findings[0].matched.iter();
        let matched: Vec<_> = matched.map(|(n, v)| (&**n, v.as_str())).collect();
        assert_eq!(matched, expected, "{condition}");
    }

    #[test]
    fn a_long_value_is_cut_between_characters() {
        for end in [
            &b"\xff\xff\xff"[..],
            "éé".as_bytes(),
            b"\n\n",
            "\u{1f600}".as_bytes(),
            b"xyz",
        ] {
            for start in 500..516 {
                let text = [&vec![b'x'; start][..], end, &[b'x'; 9]].concat();
                let mut expected = escape(&text);
                if expected.len() > MAX_MATCHED_BYTES {
                    expected.truncate(expected.floor_char_boundary(MAX_MATCHED_BYTES));
                    expected.push('…');
                }
                assert_eq!(shortened(&Value::Text(text.into())), expected);
            }
        }
    }

    #[test]
    fn a_finding_tells_the_columns_that_decided() {
        check("process.name = 'sh'", &[("process.name", "sh")]);
        check(
            "process.name = 'sh' AND process.working_directory LIKE '/tmp%'",
            &[
                ("process.name", "sh"),
                ("process.working_directory", "/tmp"),
            ],
        );
        // Of several ways to hold, those that did.
        check(
            "process.name = 'no' OR process.working_directory = '/tmp' OR process.comm = 'no'",
            &[("process.working_directory", "/tmp")],
        );
        // An exception that did not apply is told by what kept it from that.
        check(
            "process.name = 'sh' AND NOT (process.executable = '/bin/sh' \
             AND process.working_directory = '/home')",
            &[
                ("process.name", "sh"),
                ("process.working_directory", "/tmp"),
            ],
        );
        check("process.user IS NULL", &[]);
        let cut = format!("sh -c {}…", "x".repeat(506));
        check(
            "process.command_line LIKE 'sh%'",
            &[("process.command_line", &cut)],
        );
    }
}
