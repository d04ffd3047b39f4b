//! What an operator lets pass of a rule, in files of their own: they stay when rules change.

use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::error::{Error, ErrorKind};
use crate::list::Lists;
use crate::nearest::nearest;
use crate::rule::{Condition, Rule, RuleException, Source, canonical_id, column_names};
use crate::sigma::Report;
use crate::sql;
use crate::sql_place::SqlPlaces;
use crate::yaml::{Found, key, options, place, yaml_message, yaml_place};

/// Exceptions of one rule.
const MAX_EXCEPTIONS: usize = 64;

/// An exception in a rule.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Exception {
    name: Spanned<String>,
    when: Spanned<String>,
}

/// An exception in a file of exceptions.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    rule: Spanned<String>,
    name: Spanned<String>,
    when: Spanned<String>,
}

/// Whether the file's name is that of exceptions.
#[must_use]
pub fn is_exceptions(file: &str) -> bool {
    let name = file.rsplit(['/', '\\']).next().unwrap_or(file);
    matches!(name, "exceptions.yaml" | "exceptions.yml")
}

/// Adds the exceptions of a file to the rules that they name. Those of rules that are known and do
/// not run here change nothing.
pub(crate) fn apply(
    source: &Source<'_>,
    lists: &Lists,
    rules: &mut [Rule],
    report: &Report,
) -> Vec<Error> {
    let error = |(place, kind)| Error {
        file: source.file.to_owned(),
        place,
        kind,
    };
    let entries: Result<Vec<Vec<Entry>>, _> =
        serde_saphyr::from_multiple_with_options(source.text, options());
    let entries = match entries {
        Ok(entries) => entries.into_iter().flatten(),
        Err(cause) => {
            let kind = ErrorKind::Yaml(yaml_message(&cause));
            return vec![error((yaml_place(&cause), kind))];
        }
    };
    let mut errors = Vec::new();
    for Entry {
        rule: id,
        name,
        when,
    } in entries
    {
        let exception = Exception { name, when };
        let meant = canonical_id(&id.value);
        match rules.iter_mut().find(|rule| rule.id == meant) {
            Some(rule) => {
                errors.extend(add(&exception, source, lists, rule));
                rule.columns = column_names(rule.all_deciding_fields());
            }
            None if report.elsewhere.iter().any(|rule| rule.rule_id == meant) => {}
            None => {
                let ids = rules.iter().map(|rule| rule.id.as_str());
                let kind = ErrorKind::Unknown {
                    what: "rule",
                    nearest: nearest(&id.value, ids).map(str::to_owned),
                    name: id.value.clone(),
                };
                errors.push((place(id.defined), kind));
            }
        }
    }
    errors.into_iter().map(error).collect()
}

/// Adds an exception, which stands in that file, to a rule.
pub(crate) fn add(
    exception: &Exception,
    source: &Source<'_>,
    lists: &Lists,
    rule: &mut Rule,
) -> Vec<Found> {
    let Exception { name, when } = exception;
    if name.value.trim().is_empty() {
        return vec![(place(name.defined), key("name", "is empty"))];
    }
    rule.exceptions.push(RuleException {
        name: name.value.clone(),
        file: source.file.to_owned(),
        line: place(name.defined).line,
    });
    if rule.exceptions.len() > MAX_EXCEPTIONS {
        let kind = ErrorKind::Limit {
            what: "number of exceptions of a rule",
            limit: MAX_EXCEPTIONS.to_string(),
        };
        return vec![(place(name.defined), kind)];
    }
    let places = SqlPlaces::new(source.text, when);
    let mut errors = Vec::new();
    for clauses in scopes(rule) {
        let streams: Vec<_> = clauses
            .iter()
            .map(|clause| {
                (
                    rule.clauses[*clause].alias.clone(),
                    rule.clauses[*clause].stream,
                )
            })
            .collect();
        match sql::compile_exception(&when.value, streams, lists) {
            Ok((clause, predicate)) => rule.clauses[clauses[clause]].conditions.push(Condition {
                text: format!("NOT exception `{}`", name.value),
                predicate,
            }),
            Err(fault) => errors.push((places.in_file(fault.at), fault.kind)),
        }
    }
    errors
}

/// Clauses that see each other's names. Those without names are each for themselves, and each has
/// the exception.
fn scopes(rule: &Rule) -> Vec<Vec<usize>> {
    let all = 0..rule.clauses.len();
    if rule.clauses.iter().all(|clause| clause.alias.is_some()) {
        vec![all.collect()]
    } else {
        all.map(|clause| vec![clause]).collect()
    }
}
