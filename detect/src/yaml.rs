//! Rule files: YAML documents, one rule each.

use event::Level;
use serde::Deserialize;
use serde_saphyr::{Location, Spanned};

use crate::dedup;
use crate::error::{Error, ErrorKind, Place};
use crate::exception::{self, Exception};
use crate::list::Lists;
use crate::rule::{MAX_ID_BYTES, Rule, Source, TestCase, canonical_id, column_names, is_id};
use crate::sql;
use crate::sql_place::SqlPlaces;
use crate::test_event::TestEvent;

/// Longest rule file.
const MAX_FILE_BYTES: usize = 1 << 20;
/// Lists and maps in each other. They are read by recursion, whose steps are large without
/// optimization: 64 of them, the library's own limit, overflow a stack of 2 MiB.
const MAX_DEPTH: usize = 32;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    id: Spanned<String>,
    title: Spanned<String>,
    #[serde(default)]
    description: String,
    level: Spanned<String>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    references: Vec<String>,
    #[serde(default)]
    falsepositives: Vec<String>,
    sql: Spanned<String>,
    dedup: Option<dedup::Text>,
    #[serde(default)]
    exceptions: Vec<Exception>,
    #[serde(default)]
    tests: Tests,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Tests {
    #[serde(default)]
    fires: Vec<Spanned<TestEvent>>,
    #[serde(default)]
    silent: Vec<Spanned<TestEvent>>,
}

/// The rules of a file with the places of their ids, or all its errors. After an error in the
/// YAML itself the rest of the file cannot be told apart, so that one stands alone.
pub(crate) fn read(source: &Source<'_>, lists: &Lists) -> Result<Vec<(Rule, Place)>, Vec<Error>> {
    let error = |place, kind| Error {
        file: source.file.to_owned(),
        place,
        kind,
    };
    if source.text.len() > MAX_FILE_BYTES {
        let kind = ErrorKind::Limit {
            what: "rule file",
            limit: format!("{MAX_FILE_BYTES} bytes"),
        };
        return Err(vec![error(Place { line: 1, column: 1 }, kind)]);
    }
    let documents = serde_saphyr::from_multiple_with_options::<Document>(source.text, options())
        .map_err(|cause| {
            vec![error(
                yaml_place(&cause),
                ErrorKind::Yaml(yaml_message(&cause)),
            )]
        })?;
    let (mut rules, mut errors) = (Vec::new(), Vec::new());
    for document in documents {
        let id_place = place(document.id.defined);
        match rule(document, source, lists) {
            Ok(rule) => rules.push((rule, id_place)),
            Err(found) => errors.extend(found.into_iter().map(|(place, kind)| error(place, kind))),
        }
    }
    if errors.is_empty() {
        Ok(rules)
    } else {
        Err(errors)
    }
}

/// How all YAML is read.
pub(crate) fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        with_snippet: false,
        budget: serde_saphyr::budget! { max_depth: MAX_DEPTH },
    }
}

pub(crate) type Found = (Place, ErrorKind);

fn rule(document: Document, source: &Source<'_>, lists: &Lists) -> Result<Rule, Vec<Found>> {
    let mut errors = Vec::new();
    check_id(&document.id, &mut errors);
    if document.title.value.trim().is_empty() {
        errors.push((place(document.title.defined), key("title", "is empty")));
    }
    let level = Level::from_name(&document.level.value).unwrap_or_else(|| {
        let problem = format!(
            "is `{}`; one of {} is expected",
            document.level.value,
            Level::ALL.map(Level::name).join(", ")
        );
        errors.push((place(document.level.defined), key("level", problem)));
        Level::default()
    });
    let places = SqlPlaces::new(source.text, &document.sql);
    let query = sql::compile(&document.sql.value, lists).map_err(|faults| {
        errors.extend(
            faults
                .into_iter()
                .map(|fault| (places.in_file(fault.at), fault.kind)),
        );
    });
    let Ok(query) = query else { return Err(errors) };
    let (fires, silent) = (document.tests.fires.len(), document.tests.silent.len());
    let tests = test_cases(document.tests, query.clauses[0].stream, &mut errors);
    let last = query.clauses.last().map(|clause| clause.stream);
    let dedup = document.dedup.zip(last);
    let dedup = dedup.map(|(text, stream)| text.read(stream, &mut errors));
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut rule = Rule {
        id: canonical_id(&document.id.value),
        title: document.title.value,
        description: document.description.trim_end().to_owned(),
        level,
        tags: document.tags,
        references: document.references,
        falsepositives: document.falsepositives,
        columns: Vec::new(),
        exceptions: Vec::new(),
        missing: Vec::new(),
        provenance: None,
        file: source.file.to_owned(),
        line: document.id.defined.line(),
        fires,
        silent,
        select: query.select,
        clauses: query.clauses,
        trigger: query.trigger,
        dedup: dedup.unwrap_or_default(),
        tests,
    };
    let add = |exception| exception::add(exception, source, lists, &mut rule);
    let errors: Vec<Found> = document.exceptions.iter().flat_map(add).collect();
    if !errors.is_empty() {
        return Err(errors);
    }
    rule.columns = column_names(rule.all_deciding_fields());
    Ok(rule)
}

fn check_id(id: &Spanned<String>, errors: &mut Vec<Found>) {
    if !is_id(&id.value) {
        let problem =
            format!("must be 1 to {MAX_ID_BYTES} letters, digits, `-`, `_` or `.`, all ASCII");
        errors.push((place(id.defined), key("id", problem)));
    }
}

fn test_cases(
    tests: Tests,
    stream: crate::catalog::Stream,
    errors: &mut Vec<Found>,
) -> Vec<TestCase> {
    let all = tests.fires.into_iter().map(|t| (t, true));
    let all = all.chain(tests.silent.into_iter().map(|t| (t, false)));
    all.filter_map(|(test, must_fire)| {
        let at = place(test.defined);
        let name = test.value.name.clone();
        match test.value.into_events(stream) {
            Ok(events) => Some(TestCase {
                name,
                file: None,
                line: at.line,
                must_fire,
                events,
            }),
            Err(problem) => {
                errors.push((at, key("tests", problem)));
                None
            }
        }
    })
    .collect()
}

pub(crate) fn key(key: &'static str, problem: impl Into<String>) -> ErrorKind {
    ErrorKind::Key {
        key,
        problem: problem.into(),
    }
}

pub(crate) fn place(location: Location) -> Place {
    Place {
        line: location.line().max(1),
        column: location.column().max(1),
    }
}

pub(crate) fn yaml_place(error: &serde_saphyr::Error) -> Place {
    error.location().map_or(Place { line: 1, column: 1 }, place)
}

/// The library's message without its place, which we print in front, and without advice on
/// settings that operators do not have.
pub(crate) fn yaml_message(error: &serde_saphyr::Error) -> String {
    let text = error
        .without_snippet()
        .to_string()
        .replace(['\n', '\r'], " ");
    let text = match text.rfind(" at line ") {
        Some(end) => &text[..end],
        None => &text,
    };
    match text {
        "invalid u32" => "a number from 0 to 4294967295 is expected".to_owned(),
        "invalid u64" => "a number from 0 to 18446744073709551615 is expected".to_owned(),
        "expected sequence start" => "a list is expected".to_owned(),
        "expected mapping start" => "keys and values are expected".to_owned(),
        "expected string scalar" => "text is expected".to_owned(),
        _ if text.starts_with("budget breached: Depth") => {
            format!("lists and maps in each other exceed the limit of {MAX_DEPTH} levels")
        }
        _ if text.starts_with("cannot deserialize null") => "a value is expected".to_owned(),
        _ => text
            .trim_end_matches(", set DuplicateKeyPolicy in Options if acceptable")
            .to_owned(),
    }
}
