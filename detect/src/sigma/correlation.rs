//! Correlations: rules on several events that other rules found.

use event::Level;

use crate::catalog::{COLUMNS, Column, Stream};
use crate::correlate::MAX_SAMPLES;
use crate::dedup::Dedup;
use crate::error::{ErrorKind, Place};
use crate::ir::{Comparison, Function, Scalar};
use crate::rule::{Clause, Output, Rule, Selected, column_names};
use crate::sigma::header::{Header, scalar};
use crate::sigma::item::{Found, Items};
use crate::sigma::logsource::Logsource;
use crate::sigma::node::{Node, Yaml};
use crate::trigger::{
    Aggregate, AggregateFunction, Equality, Having, Input, Number, Operand, Sequence, Step,
    Threshold, Trigger, Window,
};

/// Longest time between events of one finding.
const MAX_TIMESPAN_S: u64 = 30 * 86_400;
/// Rules of one correlation.
const MAX_RULES: usize = 64;

/// A rule that correlations can name.
pub(crate) struct Known {
    pub(crate) rule: Rule,
    pub(crate) name: Option<String>,
    pub(crate) source: Logsource,
}

/// A correlation that compiled.
pub(crate) struct Correlation {
    pub(crate) rule: Rule,
    /// Positions of its rules.
    pub(crate) of: Vec<usize>,
    /// They also fire by themselves.
    pub(crate) generate: bool,
}

/// What is counted, or asked of the order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Events,
    Values(AggregateFunction),
    Temporal,
    Ordered,
}

fn wrong(problem: impl Into<String>) -> ErrorKind {
    ErrorKind::Key {
        key: "correlation",
        problem: problem.into(),
    }
}

pub(crate) fn compile(
    document: &Node,
    file: &str,
    known: &[Known],
    items: impl Fn(Logsource) -> Items<'static>,
) -> Result<Correlation, Vec<Found>> {
    let header = Header::read(document)?;
    let one = |error| vec![error];
    let node = document.get("correlation").unwrap_or(document);
    let of = rules(node, known).map_err(one)?;
    let parts = Parts {
        node,
        names: of.iter().map(|at| reference(&known[*at])).collect(),
        items: of.iter().map(|at| items(known[*at].source)).collect(),
    };
    let kind = parts.kind().map_err(one)?;
    let keys = parts.keys().map_err(one)?;
    let trigger = parts.trigger(kind, &keys).map_err(one)?;
    let chosen = || of.iter().map(|at| &known[*at].rule);
    let clauses: Vec<Clause> = chosen().map(|rule| rule.clauses[0].clone()).collect();
    let level = chosen().map(|rule| rule.level).max();
    let mut rule = Rule {
        select: selected(
            kind,
            &keys,
            parts.group_by(),
            clauses.len(),
            clauses[clauses.len() - 1].stream,
        ),
        id: header.id,
        title: header.title,
        description: header.description,
        level: header.level.or(level).unwrap_or(Level::Medium),
        tags: header.tags,
        references: header.references,
        falsepositives: header.falsepositives,
        columns: Vec::new(),
        missing: chosen().flat_map(|rule| rule.missing.clone()).collect(),
        exceptions: Vec::new(),
        provenance: Some(Box::new(header.provenance)),
        file: file.to_owned(),
        line: header.at.line,
        fires: 0,
        silent: 0,
        clauses,
        trigger,
        dedup: Dedup::default(),
        tests: Vec::new(),
    };
    rule.columns = column_names(rule.all_deciding_fields());
    let generate = [document, node].iter().any(|node| {
        let generate = node.get("generate").map(|generate| &generate.value);
        matches!(generate, Some(Yaml::Bool(true)))
    });
    Ok(Correlation { rule, of, generate })
}

/// What aliases call the rule.
fn reference(known: &Known) -> Vec<String> {
    [Some(known.rule.id.clone()), known.name.clone()]
        .into_iter()
        .flatten()
        .collect()
}

/// Positions of the rules that it names.
fn rules(node: &Node, known: &[Known]) -> Result<Vec<usize>, Found> {
    let Some(rules) = node.get("rules") else {
        return Err((node.at, wrong("has no `rules`")));
    };
    if rules.items().is_empty() || rules.items().len() > MAX_RULES {
        return Err((
            rules.at,
            wrong(format!("has no rules, or more than {MAX_RULES}")),
        ));
    }
    let position = |node: &Node| {
        let name = scalar(node);
        let is_named = |known: &Known| reference(known).contains(&name);
        let position = known.iter().position(is_named);
        position.ok_or_else(|| {
            let problem =
                format!("names the rule `{name}`, which is not there, or is a correlation");
            (node.at, wrong(problem))
        })
    };
    rules.items().iter().map(position).collect()
}

/// The section of a document, with its rules.
struct Parts<'n> {
    node: &'n Node,
    /// For each rule.
    names: Vec<Vec<String>>,
    items: Vec<Items<'static>>,
}

impl Parts<'_> {
    fn kind(&self) -> Result<Kind, Found> {
        let Some(node) = self.node.get("type") else {
            return Err((self.node.at, wrong("has no `type`")));
        };
        let kind = match scalar(node).as_str() {
            "event_count" => Kind::Events,
            "value_count" => Kind::Values(AggregateFunction::CountDistinct),
            "value_sum" => Kind::Values(AggregateFunction::Sum),
            "value_avg" => Kind::Values(AggregateFunction::Average),
            "value_median" => Kind::Values(AggregateFunction::Percentile(50)),
            "value_percentile" => Kind::Values(AggregateFunction::Percentile(self.percentile()?)),
            "temporal" => Kind::Temporal,
            "temporal_ordered" => Kind::Ordered,
            other => {
                let problem = format!("has the unknown type `{other}`");
                return Err((node.at, wrong(problem)));
            }
        };
        Ok(kind)
    }

    fn percentile(&self) -> Result<u8, Found> {
        let node = self
            .node
            .get("condition")
            .and_then(|condition| condition.get("percentile"));
        let number = node.map(|node| &node.value);
        match number {
            Some(Yaml::Int(number @ 0..=100)) => Ok(u8::try_from(*number).unwrap_or(100)),
            _ => {
                let at = node.unwrap_or(self.node).at;
                Err((
                    at,
                    wrong("needs a `percentile` from 0 to 100 in its condition"),
                ))
            }
        }
    }

    /// Names of what is grouped by.
    fn group_by(&self) -> Vec<String> {
        let names = self
            .node
            .get("group-by")
            .map(Node::items)
            .unwrap_or_default();
        names.iter().map(scalar).collect()
    }

    /// For each rule, the values that its events are grouped by.
    fn keys(&self) -> Result<Vec<Vec<Scalar>>, Found> {
        let names = self
            .node
            .get("group-by")
            .map(Node::items)
            .unwrap_or_default();
        let of_rule = |rule: usize| {
            names
                .iter()
                .map(move |name| self.field(rule, name))
                .collect()
        };
        (0..self.items.len()).map(of_rule).collect()
    }

    /// The value of a field or alias in the events of a rule.
    fn field(&self, rule: usize, name: &Node) -> Result<Scalar, Found> {
        let field = self.unaliased(rule, &scalar(name), name.at)?;
        let found = self.items[rule].field(&field);
        found.ok_or_else(|| {
            let problem = format!("groups or counts by `{field}`, which is not produced here");
            (name.at, wrong(problem))
        })
    }

    fn unaliased(&self, rule: usize, name: &str, at: Place) -> Result<String, Found> {
        let Some(alias) = self
            .node
            .get("aliases")
            .and_then(|aliases| aliases.get(name))
        else {
            return Ok(name.to_owned());
        };
        let of_rule = self.names[rule].iter().find_map(|rule| alias.get(rule));
        of_rule.map(scalar).ok_or_else(|| {
            let problem = format!("has no alias `{name}` for rule `{}`", self.names[rule][0]);
            (at, wrong(problem))
        })
    }

    fn trigger(&self, kind: Kind, keys: &[Vec<Scalar>]) -> Result<Trigger, Found> {
        let size = self.timespan()?;
        if kind == Kind::Ordered {
            return Ok(Trigger::Sequence(ordered(size, keys)));
        }
        let function = match kind {
            Kind::Events => AggregateFunction::Count,
            Kind::Values(function) => function,
            Kind::Temporal | Kind::Ordered => AggregateFunction::CountDistinct,
        };
        let inputs = (0..keys.len()).map(|rule| self.input(kind, rule));
        let aggregate = Aggregate {
            function,
            inputs: inputs.collect::<Result<_, _>>()?,
        };
        Ok(Trigger::Threshold(Box::new(Threshold {
            window: Window::Sliding { size },
            keys: keys.to_vec(),
            aggregates: vec![aggregate],
            having: self.having(kind)?,
        })))
    }

    /// What an event of a rule gives.
    fn input(&self, kind: Kind, rule: usize) -> Result<Input, Found> {
        let value = match kind {
            Kind::Events => None,
            // Each rule is a value of its own.
            Kind::Temporal | Kind::Ordered => Some(Scalar::Int(rule as i128)),
            Kind::Values(function) => {
                let field = self.node.get("condition").and_then(|c| c.get("field"));
                let Some(field) = field.filter(|field| field.items().len() == 1) else {
                    let at = field.unwrap_or(self.node).at;
                    return Err((at, wrong("needs one `field` in its condition")));
                };
                let value = self.field(rule, &field.items()[0])?;
                let counts = function == AggregateFunction::CountDistinct;
                Some(if counts { value } else { number(value) })
            }
        };
        Ok(Input {
            value,
            filter: None,
        })
    }

    fn having(&self, kind: Kind) -> Result<Having, Found> {
        let condition = self.node.get("condition");
        if kind == Kind::Temporal && condition.is_none() {
            return Ok(at_least(self.items.len()));
        }
        let Some(condition) = condition else {
            return Err((self.node.at, wrong("has no `condition`")));
        };
        let Some(entries) = condition.entries() else {
            return Err((
                condition.at,
                wrong("needs bounds such as `gte: 3` as its condition"),
            ));
        };
        let mut parts = Vec::new();
        for (key, value) in entries {
            let comparison = match key.text.as_str() {
                "gt" => Comparison::Greater,
                "gte" => Comparison::GreaterOrEqual,
                "lt" => Comparison::Less,
                "lte" => Comparison::LessOrEqual,
                "eq" => Comparison::Equal,
                "neq" => Comparison::NotEqual,
                "field" | "percentile" => continue,
                other => {
                    return Err((key.at, wrong(format!("has the unknown bound `{other}`"))));
                }
            };
            let bound = bound(value).map_err(|kind| (value.at, kind))?;
            let counts = matches!(
                kind,
                Kind::Events | Kind::Temporal | Kind::Values(AggregateFunction::CountDistinct)
            );
            let needs = matches!(
                comparison,
                Comparison::Greater | Comparison::GreaterOrEqual | Comparison::Equal
            );
            if counts && needs && bound.exceeds(MAX_SAMPLES) {
                let kind = ErrorKind::Limit {
                    what: "count of a correlation",
                    limit: MAX_SAMPLES.to_string(),
                };
                return Err((value.at, kind));
            }
            parts.push(Having::Compare(
                Operand::Aggregate(0),
                comparison,
                Operand::Number(bound),
            ));
        }
        if parts.is_empty() {
            return Err((
                condition.at,
                wrong("needs bounds such as `gte: 3` as its condition"),
            ));
        }
        Ok(Having::And(parts))
    }

    /// In nanoseconds.
    fn timespan(&self) -> Result<u64, Found> {
        let node = self
            .node
            .get("timespan")
            .or_else(|| self.node.get("timeframe"));
        let Some(node) = node else {
            return Err((self.node.at, wrong("has no `timespan`")));
        };
        let text = scalar(node);
        let wrong = || {
            let problem =
                format!("has the timespan `{text}`; a number and s, m, h, d or w is expected");
            (node.at, wrong(problem))
        };
        let unit = text.chars().last().ok_or_else(wrong)?;
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            'w' => 7 * 86_400,
            _ => return Err(wrong()),
        };
        let number = text
            .trim_end_matches(unit)
            .parse::<u64>()
            .map_err(|_| wrong())?;
        let seconds = number.saturating_mul(seconds);
        match seconds {
            0 => Err(wrong()),
            seconds if seconds > MAX_TIMESPAN_S => {
                let kind = ErrorKind::Limit {
                    what: "timespan",
                    limit: "30 days".to_owned(),
                };
                Err((node.at, kind))
            }
            seconds => Ok(seconds * 1_000_000_000),
        }
    }
}

fn at_least(count: usize) -> Having {
    let count = Number::from(i128::try_from(count).unwrap_or(i128::MAX));
    Having::Compare(
        Operand::Aggregate(0),
        Comparison::GreaterOrEqual,
        Operand::Number(count),
    )
}

fn number(value: Scalar) -> Scalar {
    Scalar::Call(Function::Number, vec![value])
}

#[expect(clippy::cast_possible_truncation, reason = "bounded")]
fn bound(node: &Node) -> Result<Number, ErrorKind> {
    match node.value {
        Yaml::Int(number) => Ok(Number::from(number)),
        Yaml::Float(number) if number.abs() < 1e12 => {
            let millionths = (number * 1e6).round() as i128;
            Number::ratio(millionths, 1_000_000).ok_or_else(|| wrong("has no number as a bound"))
        }
        _ => Err(wrong("has no number as a bound")),
    }
}

/// Every event must have the first one's values, and come within the time after it.
fn ordered(size: u64, keys: &[Vec<Scalar>]) -> Sequence {
    let step = |rule: usize| {
        if rule == 0 {
            return Step::default();
        }
        let pairs = keys[rule].iter().zip(&keys[0]);
        Step {
            equalities: pairs
                .map(|(own, other)| Equality {
                    own: own.clone(),
                    earlier: 0,
                    other: other.clone(),
                })
                .collect(),
            within: vec![(0, size)],
        }
    };
    Sequence {
        steps: (0..keys.len()).map(step).collect(),
    }
}

/// What was grouped by, what was counted, and what alerts on the stream show of the last event.
fn selected(
    kind: Kind,
    keys: &[Vec<Scalar>],
    names: Vec<String>,
    rules: usize,
    stream: Stream,
) -> Vec<Selected> {
    let same = |position: usize| {
        let of_rule = |keys: &Vec<Scalar>| format!("{:?}", keys[position]);
        keys.iter().all(|other| of_rule(other) == of_rule(&keys[0]))
    };
    let groups = names.into_iter().enumerate();
    // Aliases are other columns in other events.
    let groups = groups.filter(|(position, _)| same(*position));
    let last = rules - 1;
    let mut selected: Vec<Selected> = groups
        .map(|(position, name)| Selected {
            name: name.into(),
            clause: last,
            output: Output::Scalar(keys[last][position].clone()),
        })
        .collect();
    if kind != Kind::Ordered {
        selected.push(Selected {
            name: "count".into(),
            clause: 0,
            output: Output::Aggregate(0),
        });
    }
    let is_shown = |column: &&Column| column.is_default() && column.streams.contains(&stream);
    selected.extend(COLUMNS.iter().filter(is_shown).map(|column| Selected {
        name: column.name.into(),
        clause: last,
        output: Output::Scalar(Scalar::Field(column.field)),
    }));
    selected
}
