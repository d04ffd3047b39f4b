//! The documents of a file, as rules: what `action` says of some is done to the others.
//!
//! `action` was part of Sigma 1 and is in sets of rules that are older than that. The merging is
//! that of the reference implementation, pySigma.

use crate::error::{ErrorKind, Place};
use crate::sigma::header::scalar;
use crate::sigma::item::Found;
use crate::sigma::node::{Node, Yaml, documents};
use crate::yaml::{yaml_message, yaml_place};

/// Documents that are rules, filters or correlations, and what is wrong with the others. In a file
/// that is no YAML as a whole, the documents that are stand alone.
pub(crate) fn read(text: &str) -> (Vec<Node>, Vec<Found>) {
    let (documents, mut errors) = match documents(text) {
        Ok(documents) => (documents, Vec::new()),
        Err(_) => apart(text),
    };
    let mut actions = Actions::default();
    let documents = documents.into_iter();
    let rules = documents
        .filter_map(|document| actions.apply(document).map_err(|e| errors.push(e)).ok())
        .flatten()
        .collect();
    (rules, errors)
}

/// Each document by itself. Nothing in YAML goes on over a line that begins with `---`.
fn apart(text: &str) -> (Vec<Node>, Vec<Found>) {
    let (mut nodes, mut errors) = (Vec::new(), Vec::new());
    let (mut start, mut first_line, mut line) = (0, 0, 0);
    let mut at = 0;
    // Directives belong to what follows them.
    let is_empty = |part: &str| {
        let mut lines = part.lines();
        lines.all(|line| line.trim().is_empty() || line.starts_with(['%', '#']))
    };
    let mut take = |part: &str, lines: u64| match documents(part) {
        _ if is_empty(part) => {}
        Ok(found) => nodes.extend(found.into_iter().map(|mut node| {
            node.shift(lines);
            node
        })),
        Err(error) => {
            let place = yaml_place(&error);
            let place = Place {
                line: place.line + lines,
                ..place
            };
            errors.push((place, ErrorKind::Yaml(yaml_message(&error))));
        }
    };
    for text_line in text.split_inclusive('\n') {
        let after = text_line.strip_prefix("---");
        if after.is_some_and(|after| after.trim_start().len() < after.len() || after.is_empty()) {
            take(&text[start..at], first_line);
            (start, first_line) = (at, line);
        }
        at += text_line.len();
        line += 1;
    }
    take(&text[start..], first_line);
    (nodes, errors)
}

/// What went before in the file.
#[derive(Default)]
struct Actions {
    /// Part of every rule that follows.
    global: Option<Node>,
    /// What `repeat` repeats.
    previous: Option<Node>,
}

impl Actions {
    /// The rule that the document is, if it is one.
    fn apply(&mut self, mut document: Node) -> Result<Option<Node>, Found> {
        let Some(action) = document.remove("action") else {
            let is_rule = document.entries().is_some()
                && ["correlation", "filter"]
                    .iter()
                    .all(|key| document.get(key).is_none());
            if let Some(global) = self.global.as_ref().filter(|_| is_rule) {
                document.merge(global);
            }
            self.previous = Some(document.clone());
            return Ok(Some(document));
        };
        let wrong = |problem: String| {
            let key = "action";
            Err((action.at, ErrorKind::Key { key, problem }))
        };
        match scalar(&action).as_str() {
            "global" => {
                self.previous = Some(document.clone());
                self.global = Some(document);
                Ok(None)
            }
            "reset" => {
                self.global = None;
                Ok(None)
            }
            "repeat" => match self.previous.take() {
                Some(mut rule) => {
                    rule.merge(&document);
                    rule.at = document.at;
                    self.previous = Some(rule.clone());
                    Ok(Some(rule))
                }
                None => wrong("repeats a rule, and there is none before it".to_owned()),
            },
            other => wrong(format!(
                "is `{other}`; one of global, reset, repeat is expected"
            )),
        }
    }
}

impl Node {
    fn remove(&mut self, key: &str) -> Option<Self> {
        let Yaml::Map(entries) = &mut self.value else {
            return None;
        };
        let position = entries.iter().position(|(k, _)| k.text == key)?;
        Some(entries.remove(position).1)
    }

    /// Takes the keys of the other, whose values count where both have one.
    fn merge(&mut self, other: &Self) {
        let (Yaml::Map(entries), Yaml::Map(others)) = (&mut self.value, &other.value) else {
            *self = other.clone();
            return;
        };
        for (key, value) in others {
            match entries.iter_mut().find(|(own, _)| own.text == key.text) {
                Some((_, own)) => own.merge(value),
                None => entries.push((key.clone(), value.clone())),
            }
        }
    }

    fn shift(&mut self, lines: u64) {
        self.at.line += lines;
        match &mut self.value {
            Yaml::List(items) => items.iter_mut().for_each(|item| item.shift(lines)),
            Yaml::Map(entries) => {
                for (key, value) in entries {
                    key.at.line += lines;
                    value.shift(lines);
                }
            }
            _ => {}
        }
    }
}
