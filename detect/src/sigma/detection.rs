//! The `detection` of a rule, and that of a filter.

use crate::error::{ErrorKind, Place};
use crate::sigma::condition::{Condition, Selections};
use crate::sigma::expr::Expr;
use crate::sigma::item::{Found, Items};
use crate::sigma::modifier::Target;
use crate::sigma::node::{Node, Yaml};

/// A detection: selections, and conditions of which one must hold.
pub(crate) struct Detection {
    pub(crate) selections: Selections,
    pub(crate) conditions: Vec<(Place, Condition)>,
}

/// Keys of a detection that are no selections; `rules` is that of a filter.
const OTHER_KEYS: [&str; 3] = ["condition", "timeframe", "rules"];

fn wrong(problem: impl Into<String>) -> ErrorKind {
    ErrorKind::Detection(problem.into())
}

impl Detection {
    /// Everything that is wrong with it, or the detection.
    pub(crate) fn read(node: &Node, items: &Items<'_>) -> Result<Self, Vec<Found>> {
        let Some(entries) = node.entries() else {
            let problem = format!("selections are expected, not {}", node.kind());
            return Err(vec![(node.at, wrong(problem))]);
        };
        let (mut selections, mut errors) = (Selections::new(), Vec::new());
        for (key, value) in entries {
            match key.text.as_str() {
                "timeframe" => errors.push((
                    key.at,
                    wrong("`timeframe` is no longer part of Sigma; write a correlation rule"),
                )),
                name if OTHER_KEYS.contains(&name) => {}
                name => match selection(items, value) {
                    Ok(expr) => selections.push((name.to_owned(), expr)),
                    Err(error) => errors.push(error),
                },
            }
        }
        let conditions = conditions(node);
        let (Ok(conditions), true) = (&conditions, errors.is_empty()) else {
            errors.extend(conditions.err());
            return Err(errors);
        };
        Ok(Self {
            selections,
            conditions: conditions.clone(),
        })
    }

    /// Texts and conditions that must all hold.
    pub(crate) fn parts(&self) -> Result<Vec<(String, Expr)>, Found> {
        let part = |at: Place, condition: &Condition| {
            let sized = condition.check_size(&self.selections);
            let expr = sized.and_then(|()| condition.resolve(&self.selections));
            expr.map(|expr| (condition.to_string(), expr))
                .map_err(|kind| (at, kind))
        };
        if let [(at, condition)] = self.conditions.as_slice() {
            let conjuncts = condition.clone().conjuncts();
            return conjuncts.iter().map(|c| part(*at, c)).collect();
        }
        let any: Vec<(String, Expr)> = self
            .conditions
            .iter()
            .map(|(at, condition)| part(*at, condition))
            .collect::<Result<_, _>>()?;
        let (texts, exprs): (Vec<_>, Vec<_>) = any.into_iter().unzip();
        Ok(vec![(texts.join(" or "), Expr::any(exprs))])
    }
}

/// A condition, or a list of them.
fn conditions(node: &Node) -> Result<Vec<(Place, Condition)>, Found> {
    let Some(conditions) = node.get("condition") else {
        return Err((node.at, wrong("`condition` is missing")));
    };
    if conditions.items().is_empty() {
        return Err((conditions.at, wrong("`condition` is empty")));
    }
    let one = |node: &Node| {
        let text = node.text().ok_or_else(|| {
            let problem = format!("condition: text is expected, not {}", node.kind());
            (node.at, wrong(problem))
        })?;
        let condition = Condition::parse(text).map_err(|kind| (node.at, kind))?;
        Ok((node.at, condition))
    };
    conditions.items().iter().map(one).collect()
}

/// A map: all of its keys. A list: any of its maps or keywords.
fn selection(items: &Items<'_>, node: &Node) -> Result<Expr, Found> {
    match &node.value {
        Yaml::Map(entries) if entries.is_empty() => {
            Err((node.at, wrong("an empty selection matches everything")))
        }
        Yaml::Map(entries) => {
            let parts = entries.iter().map(|(key, values)| {
                let target = Target::read(key)?;
                items.compile(&target, values)
            });
            Ok(Expr::all(parts.collect::<Result<_, _>>()?))
        }
        Yaml::List(list) if list.is_empty() => {
            Err((node.at, wrong("an empty list matches nothing")))
        }
        Yaml::List(list) => {
            let parts = list.iter().map(|part| match part.value {
                Yaml::List(_) => Err((part.at, wrong("a list in a list has no meaning"))),
                _ => selection(items, part),
            });
            Ok(Expr::any(parts.collect::<Result<_, _>>()?))
        }
        Yaml::Null => Err((node.at, wrong("null needs a field"))),
        _ => items.compile(&Target::event(node.at), node),
    }
}
