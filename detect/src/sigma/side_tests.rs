//! Tests of Sigma rules, which have no place for them: `NAME.tests.yml` beside `NAME.yml`.

use std::path::Path;

use event::{BootTime, Event, WallTime};
use serde::Deserialize;
use serde_json::Value;
use serde_saphyr::Spanned;

use crate::catalog::Stream;
use crate::error::ErrorKind;
use crate::rule::{Rule, Source, TestCase, canonical_id};
use crate::sigma::item::Found;
use crate::sigma::report::{Report, Untested};
use crate::sigma::sysmon;
use crate::test_event::TestEvent;
use crate::yaml::{options, place, yaml_message, yaml_place};

/// The tests of one rule.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tests {
    /// Needed where the file beside it holds several.
    rule: Option<String>,
    #[serde(default)]
    fires: Vec<Spanned<Value>>,
    #[serde(default)]
    silent: Vec<Spanned<Value>>,
}

/// Whether the file's name is that of tests.
pub(crate) fn is_tests(file: &str) -> bool {
    stem(file).is_some()
}

/// The name without `.tests.yml`.
fn stem(file: &str) -> Option<&str> {
    file.strip_suffix(".tests.yml")
        .or_else(|| file.strip_suffix(".tests.yaml"))
}

/// Gives the tests of a file to the rules that they are of. Tests of rules that are
/// rejected or do not fire by themselves have nothing to test, and are told in the report.
pub(crate) fn give(
    source: &Source<'_>,
    rules: &mut [Rule],
    report: &mut Report,
) -> Result<(), Vec<Found>> {
    let documents: Vec<Tests> = serde_saphyr::from_multiple_with_options(source.text, options())
        .map_err(|cause| vec![(yaml_place(&cause), ErrorKind::Yaml(yaml_message(&cause)))])?;
    let of = stem(source.file).unwrap_or_default();
    let mut errors = Vec::new();
    for document in documents {
        let is_meant = |file: &str, rule: &str| match &document.rule {
            Some(id) => rule == canonical_id(id),
            None => Path::new(file).with_extension("") == Path::new(of),
        };
        let Some(rule) = rules.iter_mut().find(|rule| is_meant(&rule.file, &rule.id)) else {
            let mut others = report.elsewhere.iter();
            if !others.any(|other| is_meant(&other.file, &other.rule_id)) {
                report.untested.push(Untested {
                    file: source.file.to_owned(),
                    tests: document.fires.len() + document.silent.len(),
                    rule_id: document.rule,
                });
            }
            continue;
        };
        let stream = rule
            .clauses
            .first()
            .map_or(Stream::Exec, |clause| clause.stream);
        let fires = document.fires.into_iter().map(|test| (test, true));
        let tests = fires.chain(document.silent.into_iter().map(|test| (test, false)));
        for (test, must_fire) in tests {
            match case(test, must_fire, stream, source.file) {
                Ok(case) => rule.add_test(case),
                Err(error) => errors.push(error),
            }
        }
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors)
    }
}

fn case(
    test: Spanned<Value>,
    must_fire: bool,
    stream: Stream,
    file: &str,
) -> Result<TestCase, Found> {
    let at = place(test.defined);
    let wrong = |problem: String| {
        (
            at,
            ErrorKind::Key {
                key: "tests",
                problem,
            },
        )
    };
    let name = test
        .value
        .get("name")
        .and_then(Value::as_str)
        .map(str::to_owned);
    let events = if series(&test.value).iter().any(sysmon::has_fields) {
        of_sysmon(series(&test.value)).map_err(wrong)?
    } else {
        let event: TestEvent = serde_json::from_value(test.value)
            .map_err(|error| wrong(format!("is no event: {error}")))?;
        event.into_events(stream).map_err(wrong)?
    };
    Ok(TestCase {
        name,
        file: Some(file.to_owned()),
        line: at.line,
        must_fire,
        events,
    })
}

/// The events of a test: those of its `events`, or itself.
fn series(test: &Value) -> &[Value] {
    match test.get("events") {
        Some(Value::Array(events)) if !events.is_empty() => events,
        _ => std::slice::from_ref(test),
    }
}

/// An event without a time is a moment after the one before it.
fn of_sysmon(series: &[Value]) -> Result<Vec<Event>, String> {
    let mut events: Vec<Event> = Vec::new();
    for value in series {
        let mut event =
            sysmon::from_value(value).map_err(|error| format!("is no event: {error}"))?;
        if event.header.wall == WallTime(0)
            && let Some(before) = events.last()
        {
            event.header.time = BootTime(before.header.time.0.saturating_add(1_000_000));
            event.header.wall = WallTime(before.header.wall.0.saturating_add(1_000_000));
        }
        events.push(event);
    }
    events.sort_by_key(|event| event.header.time);
    Ok(events)
}
