//! Correlations: rules on several events that other rules found, or on what other correlations did.

use std::sync::Arc;

use event::Level;

use crate::catalog::{COLUMNS, Column, Type};
use crate::correlate::MAX_SAMPLES;
use crate::dedup::Dedup;
use crate::error::{ErrorKind, Place};
use crate::ir::{Comparison, Function, Predicate, Scalar};
use crate::nearest::nearest;
use crate::rule::{Clause, Output, Rule, Selected, canonical_id, column_names};
use crate::sigma::condition::Condition;
use crate::sigma::header::{Header, reference, scalar};
use crate::sigma::item::{Found, Items};
use crate::sigma::logsource::Logsource;
use crate::sigma::node::{Node, Yaml};
use crate::trigger::{
    Aggregate, AggregateFunction, Chain, Equality, Having, Input, Link, Number, Operand, Sequence,
    Step, Threshold, Trigger, Window,
};

/// Longest time between events of one finding.
const MAX_TIMESPAN_S: u64 = 30 * 86_400;
/// Rules of one correlation.
const MAX_RULES: usize = 64;
/// Rules of one correlation and of those that it is on.
const MAX_CLAUSES: usize = 256;
/// Correlations that one is on, and that those are on.
const MAX_LINKS: usize = 16;
/// Correlations on each other.
const MAX_DEPTH: usize = 10;

/// What its section may hold. `timeframe` is what `timespan` was called before.
const KEYS: [&str; 8] = [
    "type",
    "rules",
    "group-by",
    "timespan",
    "timeframe",
    "condition",
    "aliases",
    "generate",
];

/// A rule that correlations can name.
pub(crate) struct Known {
    pub(crate) rule: Rule,
    pub(crate) name: Option<String>,
    pub(crate) fields: Fields,
}

/// What fields of what a rule found are.
#[derive(Clone)]
pub(crate) enum Fields {
    Of(Logsource),
    /// Those of the event that completed it, whichever of its rules found that.
    Correlation(Arc<Members>),
}

/// What a correlation is on.
pub(crate) struct Members {
    aliases: Option<Node>,
    /// For each rule, what aliases call it.
    names: Vec<Vec<String>>,
    fields: Vec<Fields>,
}

/// A correlation that compiled.
pub(crate) struct Correlation {
    pub(crate) known: Known,
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
    check_keys(node).map_err(one)?;
    let of = rules(node, known).map_err(one)?;
    let chosen = || of.iter().map(|at| &known[*at].rule);
    let members = Arc::new(Members {
        aliases: node.get("aliases").cloned(),
        names: of.iter().map(|at| names_of(&known[*at])).collect(),
        fields: of.iter().map(|at| known[*at].fields.clone()).collect(),
    });
    let parts = Parts {
        node,
        sizes: chosen().map(|rule| rule.clauses.len()).collect(),
        members: &members,
        items: &items,
    };
    let kind = parts.kind().map_err(one)?;
    parts.check_aliases().map_err(one)?;
    let keys = parts.keys().map_err(one)?;
    let trigger = parts.trigger(kind, &keys).map_err(one)?;
    let trigger = chained(kind, trigger, chosen()).map_err(|kind| vec![(node.at, kind)])?;
    let clauses: Vec<Clause> = chosen().flat_map(|rule| rule.clauses.clone()).collect();
    let level = chosen().map(|rule| rule.level).max();
    let mut rule = Rule {
        select: selected(kind, &keys, parts.group_by(), of.len(), &clauses),
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
    let known = Known {
        rule,
        name: header.name,
        fields: Fields::Correlation(members),
    };
    Ok(Correlation {
        known,
        of,
        generate,
    })
}

/// What is misspelt here would make another correlation of it.
fn check_keys(node: &Node) -> Result<(), Found> {
    let Some(entries) = node.entries() else {
        let problem = format!("is {}, not keys and values", node.kind());
        return Err((node.at, wrong(problem)));
    };
    let unknown = entries
        .iter()
        .find(|(key, _)| !KEYS.contains(&key.text.as_str()));
    unknown.map_or(Ok(()), |(key, _)| {
        let kind = ErrorKind::Unknown {
            what: "key of a correlation",
            name: key.text.clone(),
            nearest: nearest(&key.text, KEYS.into_iter()).map(str::to_owned),
        };
        Err((key.at, kind))
    })
}

/// The trigger, on what the rules that are correlations find.
fn chained<'r>(
    kind: Kind,
    trigger: Trigger,
    rules: impl Iterator<Item = &'r Rule>,
) -> Result<Trigger, ErrorKind> {
    let (mut links, mut clauses) = (Vec::new(), 0);
    for rule in rules {
        if !matches!(rule.trigger, Trigger::Each) {
            links.push(Link {
                first: clauses,
                clauses: rule.clauses.len(),
                repeats: matches!(kind, Kind::Temporal | Kind::Ordered),
                trigger: rule.trigger.clone(),
            });
        }
        clauses += rule.clauses.len();
    }
    let trigger = if links.is_empty() {
        trigger
    } else {
        Trigger::Chain(Box::new(Chain { links, trigger }))
    };
    let limits = [
        (
            clauses,
            "number of rules of all its correlations",
            MAX_CLAUSES,
        ),
        (trigger.links(), "number of correlations in it", MAX_LINKS),
        (trigger.depth(), "depth of correlations", MAX_DEPTH),
    ];
    let beyond = limits.into_iter().find(|(found, _, limit)| found > limit);
    beyond.map_or(Ok(trigger), |(_, what, limit)| {
        let limit = limit.to_string();
        Err(ErrorKind::Limit { what, limit })
    })
}

/// What correlations call the rule.
pub(crate) fn names_of(known: &Known) -> Vec<String> {
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
        let name = reference(node);
        let is_named = |known: &Known| names_of(known).contains(&name);
        let position = known.iter().position(is_named);
        position.ok_or_else(|| {
            let name = scalar(node);
            let problem = format!("names the rule `{name}`, which is not there");
            (node.at, wrong(problem))
        })
    };
    let mut positions = Vec::new();
    for node in rules.items() {
        let position = position(node)?;
        if positions.contains(&position) {
            let problem = format!("names the rule `{}` twice", scalar(node));
            return Err((node.at, wrong(problem)));
        }
        positions.push(position);
    }
    Ok(positions)
}

impl Members {
    /// The value of a field or alias in what a rule found, for each clause of the rule; or what is
    /// wrong.
    fn values(
        &self,
        rule: usize,
        name: &str,
        items: &impl Fn(Logsource) -> Items<'static>,
    ) -> Result<Vec<Scalar>, String> {
        let field = self.unaliased(rule, name)?;
        match &self.fields[rule] {
            Fields::Of(source) => match items(*source).field(&field) {
                Some(value) => Ok(vec![value]),
                None => Err(format!(
                    "groups or counts by `{field}`, which is not produced here"
                )),
            },
            Fields::Correlation(members) => {
                let rules = 0..members.names.len();
                let values = rules.map(|rule| members.values(rule, &field, items));
                values.collect::<Result<Vec<_>, _>>().map(|v| v.concat())
            }
        }
    }

    fn unaliased(&self, rule: usize, name: &str) -> Result<String, String> {
        let aliases = self.aliases.as_ref();
        let Some(alias) = aliases.and_then(|aliases| aliases.get(name)) else {
            return Ok(name.to_owned());
        };
        let mut entries = alias.entries().unwrap_or_default().iter();
        let of_rule = entries.find(|(key, _)| self.names[rule].contains(&canonical_id(&key.text)));
        of_rule
            .map(|(_, field)| scalar(field))
            .ok_or_else(|| format!("has no alias `{name}` for rule `{}`", self.names[rule][0]))
    }
}

/// The section of a document, with its rules.
struct Parts<'n, I> {
    node: &'n Node,
    /// For each rule, the number of its clauses.
    sizes: Vec<usize>,
    members: &'n Members,
    items: &'n I,
}

impl<I: Fn(Logsource) -> Items<'static>> Parts<'_, I> {
    fn kind(&self) -> Result<Kind, Found> {
        let Some(node) = self.node.get("type") else {
            return Err((self.node.at, wrong("has no `type`")));
        };
        let kind = match scalar(node).as_str() {
            "event_count" => Kind::Events,
            "value_count" => Kind::Values(AggregateFunction::CountDistinct),
            "value_sum" => Kind::Values(AggregateFunction::Sum),
            "value_avg" => Kind::Values(AggregateFunction::Average),
            "value_min" => Kind::Values(AggregateFunction::Min),
            "value_max" => Kind::Values(AggregateFunction::Max),
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

    /// For each clause of each rule, the values that its events are grouped by.
    fn keys(&self) -> Result<Vec<Vec<Scalar>>, Found> {
        let names = self
            .node
            .get("group-by")
            .map(Node::items)
            .unwrap_or_default();
        let mut keys = vec![Vec::new(); self.sizes.iter().sum()];
        for name in names {
            let values = self.values(name)?;
            keys.iter_mut().zip(values).for_each(|(k, v)| k.push(v));
        }
        Ok(keys)
    }

    /// For each clause of each rule, the value of a field or alias.
    fn values(&self, name: &Node) -> Result<Vec<Scalar>, Found> {
        let field = scalar(name);
        let rules = 0..self.sizes.len();
        let values = rules.map(|rule| self.members.values(rule, &field, self.items));
        let values: Result<Vec<_>, _> = values.collect();
        let values = values.map_err(|problem| (name.at, wrong(problem)))?;
        let values = values.concat();
        let is_like_first = |value: &Scalar| value.ty() == values[0].ty();
        if values.iter().all(is_like_first) {
            return Ok(values);
        }
        // A number and the text of it are the same.
        Ok(values.into_iter().map(text).collect())
    }

    fn trigger(&self, kind: Kind, keys: &[Vec<Scalar>]) -> Result<Trigger, Found> {
        let size = self.timespan()?;
        if kind == Kind::Ordered {
            self.check_ordered()?;
            return Ok(Trigger::Sequence(self.ordered(size, keys)));
        }
        let function = match kind {
            Kind::Events => AggregateFunction::Count,
            Kind::Values(function) => function,
            Kind::Temporal | Kind::Ordered => AggregateFunction::CountDistinct,
        };
        let mut aggregates = vec![Aggregate {
            function,
            inputs: self.inputs(kind)?,
        }];
        let having = match self.expression()? {
            Some((at, condition)) if kind == Kind::Temporal => {
                aggregates.extend((0..self.sizes.len()).map(|rule| self.events_of(rule)));
                self.found(at, &condition)?
            }
            _ => self.having(kind)?,
        };
        Ok(Trigger::Threshold(Box::new(Threshold {
            window: Window::Sliding { size },
            keys: keys.to_vec(),
            aggregates,
            having,
        })))
    }

    /// Its condition on which rules found something, if it is one: `a and not b`.
    fn expression(&self) -> Result<Option<(Place, Condition)>, Found> {
        let node = self.node.get("condition");
        let Some((at, text)) = node.and_then(|node| Some((node.at, node.text()?))) else {
            return Ok(None);
        };
        let condition = Condition::parse(text).map_err(|kind| (at, kind))?;
        Ok(Some((at, condition)))
    }

    /// The number of events that one of the rules found.
    fn events_of(&self, rule: usize) -> Aggregate {
        let sizes = self.sizes.iter().enumerate();
        let inputs = sizes.flat_map(|(position, size)| {
            let is_other = position != rule;
            let never = Predicate::Truth(Scalar::Bool(false));
            let input = Input {
                value: None,
                filter: is_other.then_some(never),
            };
            vec![input; *size]
        });
        Aggregate {
            function: AggregateFunction::Count,
            inputs: inputs.collect(),
        }
    }

    /// The condition on the aggregates after the first, of which there is one for each rule.
    fn found(&self, at: Place, condition: &Condition) -> Result<Having, Found> {
        let mut unused: Vec<bool> = vec![true; self.sizes.len()];
        let having = self.found_of(condition, &mut unused);
        let having = having.map_err(|problem| (at, wrong(problem)))?;
        match unused.iter().position(|unused| *unused) {
            Some(rule) => {
                let name = &self.members.names[rule][0];
                let problem = format!("has the rule `{name}`, which its condition does not name");
                Err((at, wrong(problem)))
            }
            None => Ok(having),
        }
    }

    fn found_of(&self, condition: &Condition, unused: &mut [bool]) -> Result<Having, String> {
        let mut all = |parts: &[Condition]| -> Result<Vec<Having>, String> {
            let parts = parts.iter().map(|part| self.found_of(part, unused));
            parts.collect()
        };
        match condition {
            Condition::And(parts) => Ok(Having::And(all(parts)?)),
            Condition::Or(parts) => Ok(Having::Or(all(parts)?)),
            Condition::Not(inner) => Ok(Having::Not(Box::new(self.found_of(inner, unused)?))),
            Condition::Selection(name) => {
                let (rules, called) = (&self.members.names, canonical_id(name));
                let position = rules.iter().position(|names| names.contains(&called));
                let position = position.ok_or_else(|| {
                    format!("asks in its condition for `{name}`, which is none of its rules")
                })?;
                unused[position] = false;
                Ok(at_least(1 + position, 1))
            }
            Condition::Of(..) => {
                Err("has `of` in its condition, which is for selections only".to_owned())
            }
        }
    }

    /// All rules must be found where their order matters, whatever way that is said.
    fn check_ordered(&self) -> Result<(), Found> {
        let Some(node) = self.node.get("condition") else {
            return Ok(());
        };
        let asks_for_all = match self.expression()? {
            Some((at, condition)) => {
                self.found(at, &condition)?;
                let parts = condition.conjuncts();
                parts
                    .iter()
                    .all(|part| matches!(part, Condition::Selection(_)))
            }
            None => {
                let having = self.having(Kind::Ordered)?;
                let of = |count: usize| {
                    let count = Number::from(i128::try_from(count).unwrap_or(i128::MAX));
                    having.truth(&|_| Some(count)) == Some(true)
                };
                let all = self.sizes.len();
                of(all) && !(0..all).any(of)
            }
        };
        if asks_for_all {
            return Ok(());
        }
        let problem = "is `temporal_ordered` and asks for something else than all of its rules";
        Err((node.at, wrong(problem)))
    }

    /// Each alias is a field of rules that are there.
    fn check_aliases(&self) -> Result<(), Found> {
        let Some(aliases) = self.node.get("aliases") else {
            return Ok(());
        };
        let expected = |node: &Node| {
            let problem = "has aliases that are not `alias: {rule: field}`";
            (node.at, wrong(problem))
        };
        for (_, alias) in aliases.entries().ok_or_else(|| expected(aliases))? {
            for (rule, field) in alias.entries().ok_or_else(|| expected(alias))? {
                field.text().ok_or_else(|| expected(field))?;
                let mut names = self.members.names.iter().flatten();
                let called = canonical_id(&rule.text);
                if !names.any(|name| *name == called) {
                    let problem = format!(
                        "has an alias for `{}`, which is none of its rules",
                        rule.text
                    );
                    return Err((rule.at, wrong(problem)));
                }
            }
        }
        Ok(())
    }

    /// For each clause of each rule, what its events give.
    fn inputs(&self, kind: Kind) -> Result<Vec<Input>, Found> {
        let clauses = self.sizes.iter().sum();
        let values = match kind {
            Kind::Events => vec![None; clauses],
            // Each rule is a value of its own.
            Kind::Temporal | Kind::Ordered => {
                let rules = (0..).zip(&self.sizes);
                let values = rules.map(|(rule, size)| vec![Some(Scalar::Int(rule)); *size]);
                values.collect::<Vec<_>>().concat()
            }
            Kind::Values(function) => {
                let field = self.node.get("condition").and_then(|c| c.get("field"));
                let Some(field) = field.filter(|field| !field.items().is_empty()) else {
                    let at = field.unwrap_or(self.node).at;
                    return Err((at, wrong("needs a `field` in its condition")));
                };
                if function == AggregateFunction::CountDistinct {
                    self.combined(field.items())?
                } else if field.items().len() == 1 {
                    let values = self.values(&field.items()[0])?.into_iter();
                    values.map(|value| Some(number(value))).collect()
                } else {
                    return Err((field.at, wrong("needs one `field` in its condition")));
                }
            }
        };
        let input = |value| Input {
            value,
            filter: None,
        };
        Ok(values.into_iter().map(input).collect())
    }

    /// For each clause, what differs where the value of one of the fields does.
    fn combined(&self, fields: &[Node]) -> Result<Vec<Option<Scalar>>, Found> {
        let mut combined = self.values(&fields[0])?;
        if fields.len() > 1 {
            combined = combined.into_iter().map(text).collect();
        }
        for field in &fields[1..] {
            for (before, value) in combined.iter_mut().zip(self.values(field)?) {
                // No text of the system holds a NUL.
                let parts = vec![before.clone(), Scalar::Text(b"\0"[..].into()), text(value)];
                *before = Scalar::Call(Function::Concat, parts);
            }
        }
        Ok(combined.into_iter().map(Some).collect())
    }

    /// Every event must have the first one's values, and come within the time after it.
    fn ordered(&self, size: u64, keys: &[Vec<Scalar>]) -> Sequence {
        let (mut steps, mut rest): (Vec<Step>, _) = (Vec::new(), keys);
        let first = &keys[..self.sizes[0]];
        for clauses in &self.sizes {
            let (own, after) = rest.split_at(*clauses);
            rest = after;
            let column = |keys: &[Vec<Scalar>], position: usize| {
                let values = keys.iter().map(|keys| keys[position].clone());
                values.map(equal_if_absent).collect()
            };
            let equality = |position| Equality {
                own: column(own, position),
                earlier: 0,
                other: column(first, position),
            };
            let is_first = steps.is_empty();
            let equalities = (0..first[0].len()).filter(|_| !is_first).map(equality);
            steps.push(Step {
                clauses: *clauses,
                equalities: equalities.collect(),
                within: Vec::from_iter((!is_first).then_some((0, size))),
            });
        }
        Sequence { steps }
    }

    fn having(&self, kind: Kind) -> Result<Having, Found> {
        let condition = self.node.get("condition");
        if kind == Kind::Temporal && condition.is_none() {
            return Ok(at_least(0, self.sizes.len()));
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
        let number = &text[..text.len() - 1];
        if !number.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(wrong());
        }
        let number = number.parse::<u64>().map_err(|_| wrong())?;
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

fn at_least(aggregate: usize, count: usize) -> Having {
    let count = Number::from(i128::try_from(count).unwrap_or(i128::MAX));
    Having::Compare(
        Operand::Aggregate(aggregate),
        Comparison::GreaterOrEqual,
        Operand::Number(count),
    )
}

fn text(value: Scalar) -> Scalar {
    match value.ty() {
        Type::Text => value,
        _ => Scalar::Call(Function::Decimal, vec![value]),
    }
}

/// Where a step of a sequence must equal another, `NULL` equals nothing, while events that lack what
/// they are grouped by are one group.
fn equal_if_absent(value: Scalar) -> Scalar {
    // No text of the system is a NUL.
    let absent = Scalar::Text(b"\0"[..].into());
    Scalar::Call(Function::Coalesce, vec![text(value), absent])
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

/// What was grouped by, what was counted, and what alerts on the stream show of the last event.
fn selected(
    kind: Kind,
    keys: &[Vec<Scalar>],
    names: Vec<String>,
    rules: usize,
    clauses: &[Clause],
) -> Vec<Selected> {
    let same = |position: usize| {
        let of_rule = |keys: &Vec<Scalar>| format!("{:?}", keys[position]);
        keys.iter().all(|other| of_rule(other) == of_rule(&keys[0]))
    };
    let groups = names.into_iter().enumerate();
    // Aliases are other columns in other events.
    let groups = groups.filter(|(position, _)| same(*position));
    let last = rules - 1;
    let stream = clauses[clauses.len() - 1].stream;
    let mut selected: Vec<Selected> = groups
        .map(|(position, name)| Selected {
            name: name.into(),
            clause: last,
            output: Output::Scalar(keys[0][position].clone()),
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
