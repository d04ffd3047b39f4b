//! Filters: conditions that are added to many rules.

use crate::error::{ErrorKind, Place};
use crate::sigma::detection::Detection;
use crate::sigma::expr::Expr;
use crate::sigma::header::{Header, reference};
use crate::sigma::item::{Found, Items, Lists};
use crate::sigma::logsource::{Logsource, Os, Scope};
use crate::sigma::node::Node;

/// A filter.
#[derive(Debug)]
pub(crate) struct Filter {
    pub(crate) title: String,
    pub(crate) file: String,
    source: Scope,
    /// Ids and names of rules, and where they stand; `None`: all of the log source.
    rules: Option<Vec<(Place, String)>>,
    detection: Node,
}

impl Filter {
    /// Everything that is wrong with it, or the filter.
    pub(crate) fn read(document: &Node, file: &str, lists: &Lists) -> Result<Self, Vec<Found>> {
        let header = Header::read(document)?;
        let source = Scope::read(document.get("logsource"), document.at).map_err(|e| vec![e])?;
        let Some(detection) = document.get("filter") else {
            return Err(vec![(document.at, wrong("is missing"))]);
        };
        let filter = Self {
            title: header.title,
            file: file.to_owned(),
            source,
            rules: rules(detection).map_err(|error| vec![error])?,
            detection: detection.clone(),
        };
        // Fields depend on the rule, what is wrong does not.
        filter
            .parts(&Items::new(source.sample(), None, lists))
            .map_err(|e| vec![e])?;
        Ok(filter)
    }

    /// Whether the rule is one of those that it is for.
    pub(crate) fn is_for(&self, header: &Header, source: Logsource) -> bool {
        let named = |(_, reference): &(Place, String)| {
            *reference == header.id || header.name.as_ref() == Some(reference)
        };
        self.is_on(source)
            && self
                .rules
                .as_ref()
                .is_none_or(|rules| rules.iter().any(named))
    }

    /// Whether the log source is its own or a part of it.
    pub(crate) fn is_on(&self, source: Logsource) -> bool {
        self.source.contains(source)
    }

    /// What rules must satisfy, too.
    pub(crate) fn parts(&self, items: &Items<'_>) -> Result<Vec<(String, Expr)>, Found> {
        let detection = Detection::read(&self.detection, items);
        let detection = detection.map_err(|mut errors| errors.swap_remove(0))?;
        let parts = detection.parts()?;
        let named = |(text, expr)| (format!("filter {}: {text}", self.title), expr);
        Ok(parts.into_iter().map(named).collect())
    }

    /// Whether it can be for any rule there.
    pub(crate) fn is_elsewhere(&self, host: Option<Os>) -> bool {
        self.source
            .os
            .zip(host)
            .is_some_and(|(os, host)| os != host)
    }

    /// Ids and names of rules, and where they stand.
    pub(crate) fn named(&self) -> impl Iterator<Item = (Place, &str)> {
        let rules = self.rules.iter().flatten();
        rules.map(|(at, rule)| (*at, rule.as_str()))
    }
}

fn wrong(problem: &str) -> ErrorKind {
    ErrorKind::Key {
        key: "filter",
        problem: problem.to_owned(),
    }
}

fn rules(filter: &Node) -> Result<Option<Vec<(Place, String)>>, Found> {
    let Some(rules) = filter.get("rules") else {
        return Err((
            filter.at,
            wrong("has no `rules`; `any` stands for all of the log source"),
        ));
    };
    let items = rules.items().iter();
    let names: Vec<(Place, String)> = items.map(|node| (node.at, reference(node))).collect();
    match names.as_slice() {
        [] => Ok(None),
        [(_, any)] if any.eq_ignore_ascii_case("any") => Ok(None),
        names if names.iter().any(|(_, name)| name.is_empty()) => {
            Err((rules.at, wrong("has `rules` that are no ids or names")))
        }
        _ => Ok(Some(names)),
    }
}
