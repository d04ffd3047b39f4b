//! All Sigma documents of a set.

use std::collections::{HashMap, HashSet};

use crate::error::{Error, ErrorKind, Place};
use crate::rule::{MAX_ID_BYTES, Rule, Source, canonical_id};
use crate::sigma::chain::{Refused, correlations};
use crate::sigma::collection;
use crate::sigma::correlation::{Fields, Known, names_of};
use crate::sigma::filter::Filter;
use crate::sigma::item::{Found, Lists};
use crate::sigma::logsource::Os;
use crate::sigma::node::{Node, documents};
use crate::sigma::report::{Degraded, Report};
use crate::sigma::rule::{Outcome, Site, compile};
use crate::sigma::side_tests::{give, is_tests};

/// Whether a file holds Sigma documents: the first line that begins with a key of one of the two
/// languages decides. In a file without such lines, its first document does.
#[must_use]
pub fn is_sigma(file: &str, text: &str) -> bool {
    const KEYS: [&str; 4] = ["detection", "correlation", "filter", "logsource"];
    if is_tests(file) {
        return true;
    }
    let keys = text.lines().filter_map(|line| line.split_once(':'));
    let mut languages = keys.filter_map(|(key, _)| match key.trim_end() {
        "sql" => Some(false),
        key => KEYS.contains(&key).then_some(true),
    });
    languages.next().unwrap_or_else(|| {
        let documents = documents(text).unwrap_or_default();
        let first = documents.first();
        first.is_some_and(|first| {
            first.get("sql").is_none() && KEYS.iter().any(|key| first.get(key).is_some())
        })
    })
}

/// Compiles the documents of Sigma files. Ids in `taken` are those of other rules, with their
/// places; those of the rules that load are added.
pub(crate) fn load(
    sources: &[&Source<'_>],
    host: Option<Os>,
    lists: &Lists,
    taken: &mut HashMap<String, String>,
) -> (Vec<Rule>, Report) {
    let mut report = Report::default();
    let mut read = Vec::new();
    let (tests, sources): (Vec<&Source<'_>>, Vec<&Source<'_>>) =
        sources.iter().partition(|source| is_tests(source.file));
    for source in sources {
        let (found, errors) = collection::read(source.text);
        read.extend(found.into_iter().map(|document| (source.file, document)));
        for error in errors {
            report.reject(source.file, vec![error]);
        }
    }
    let filters = filters(&read, host, lists, &mut report);
    let (mut rules, mut known): (Vec<Known>, _) = (Vec::new(), HashSet::new());
    let mut refused = Refused::default();
    for (file, document) in read.iter().filter(|(_, document)| is_rule(document)) {
        known.extend(names(document));
        let site = Site {
            file,
            host,
            lists,
            filters: &filters,
        };
        match compile(document, &site) {
            Ok(Outcome::Elsewhere(elsewhere)) => report.elsewhere.push(elsewhere),
            Ok(Outcome::Loaded(mut rule, degraded)) => match claim(&mut rule.rule, document, taken)
            {
                Ok(()) => {
                    report.degraded.extend(degraded.map(|degraded| Degraded {
                        rule_id: rule.rule.id.clone(),
                        ..degraded
                    }));
                    rules.push(*rule);
                }
                Err(error) => refused.add(document, file, vec![error], &mut report),
            },
            Err(errors) => refused.add(document, file, errors, &mut report),
        }
    }
    for filter in &filters {
        for (at, problem) in idle(filter, &known, &rules) {
            let kind = ErrorKind::Key {
                key: "filter",
                problem,
            };
            report.reject(&filter.file, vec![(at, kind)]);
        }
    }
    report.filters = filters.len();
    let mut rules = correlations(&read, rules, host, taken, &mut refused, &mut report);
    for source in tests {
        if let Err(errors) = give(source, &mut rules, &mut report) {
            report.reject(source.file, errors);
        }
    }
    (rules, report)
}

/// Rules that a filter names and does nothing to.
fn idle(filter: &Filter, documents: &HashSet<String>, rules: &[Known]) -> Vec<(Place, String)> {
    let problem = |name: &str| {
        if !documents.contains(name) {
            return Some(format!("names the rule `{name}`, which is not there"));
        }
        let named = |known: &&Known| names_of(known).iter().any(|own| own == name);
        let Fields::Of(source) = rules.iter().find(named)?.fields else {
            return None;
        };
        (!filter.is_on(source))
            .then(|| format!("names the rule `{name}`, which is for another log source"))
    };
    let named = filter.named();
    named
        .filter_map(|(at, name)| Some((at, problem(name)?)))
        .collect()
}

fn is_rule(document: &Node) -> bool {
    document.get("correlation").is_none() && document.get("filter").is_none()
}

/// What filters and correlations can call the rule.
pub(crate) fn names(document: &Node) -> impl Iterator<Item = String> {
    let named = ["id", "name"]
        .into_iter()
        .filter_map(|key| document.get(key));
    named
        .filter_map(|node| node.text().map(canonical_id))
        .collect::<Vec<_>>()
        .into_iter()
}

fn filters(
    read: &[(&str, Node)],
    host: Option<Os>,
    lists: &Lists,
    report: &mut Report,
) -> Vec<Filter> {
    let mut filters = Vec::new();
    for (file, document) in read.iter().filter(|(_, d)| d.get("filter").is_some()) {
        match Filter::read(document, file, lists) {
            Ok(filter) if filter.is_elsewhere(host) => {}
            Ok(filter) => filters.push(filter),
            Err(errors) => report.reject(file, errors),
        }
    }
    filters
}

/// An id belongs to the first rule that has it. What others are called in place of one is numbered.
pub(crate) fn claim(
    rule: &mut Rule,
    document: &Node,
    taken: &mut HashMap<String, String>,
) -> Result<(), Found> {
    let at = document.get("id").map_or(document.at, |id| id.at);
    if document.get("id").is_none() && taken.contains_key(&rule.id) {
        let named = (2..).map(|number| numbered(&rule.id, number));
        let free = named.into_iter().find(|id| !taken.contains_key(id));
        rule.id = free.unwrap_or_default();
    }
    if let Some(first) = taken.get(&rule.id) {
        let (id, first) = (rule.id.clone(), first.clone());
        return Err((at, ErrorKind::DuplicateId { id, first }));
    }
    taken.insert(rule.id.clone(), format!("{}:{at}", rule.file));
    Ok(())
}

fn numbered(id: &str, number: usize) -> String {
    let suffix = format!("-{number}");
    let end = id.len().min(MAX_ID_BYTES - suffix.len());
    format!("{}{suffix}", &id[..end])
}

impl Report {
    pub(crate) fn reject(&mut self, file: &str, errors: Vec<(Place, ErrorKind)>) {
        self.rejected_documents += 1;
        self.rejected
            .extend(errors.into_iter().map(|(place, kind)| Error {
                file: file.to_owned(),
                place,
                kind,
            }));
    }
}
