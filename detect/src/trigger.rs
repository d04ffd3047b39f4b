//! When a rule fires, whatever language it was written in.

use std::cmp::Ordering;
use std::fmt;

use crate::catalog::FieldSet;
use crate::ir::{Comparison, Predicate, Scalar};

/// When a rule fires.
#[derive(Debug, Clone)]
pub(crate) enum Trigger {
    /// On every event that satisfies its one clause.
    Each,
    /// When what was seen of a group within a window satisfies a condition.
    Threshold(Box<Threshold>),
    /// When events satisfied its clauses one after the other.
    Sequence(Sequence),
    /// As one of these two, but some of what it looks at are no events: they are what other
    /// triggers found.
    Chain(Box<Chain>),
}

impl Trigger {
    /// What it reads of an event of a clause.
    pub(crate) fn collect_fields(&self, clause: usize, into: &mut FieldSet) {
        match self {
            Self::Each => {}
            Self::Threshold(threshold) => threshold.collect_fields(clause, into),
            Self::Sequence(sequence) => sequence.collect_fields(clause, into),
            Self::Chain(chain) => chain.collect_fields(clause, into),
        }
    }

    /// The one that decides whether the rule fires.
    pub(crate) fn outermost(&self) -> &Self {
        match self {
            Self::Chain(chain) => &chain.trigger,
            trigger => trigger,
        }
    }

    /// Triggers within it, and those within them.
    pub(crate) fn links(&self) -> usize {
        match self {
            Self::Chain(chain) => {
                let within = chain.links.iter().map(|link| 1 + link.trigger.links());
                within.sum()
            }
            _ => 0,
        }
    }

    /// How many triggers are within each other; 0 for one that looks at events only.
    pub(crate) fn depth(&self) -> usize {
        match self {
            Self::Chain(chain) => {
                let within = chain.links.iter().map(|link| 1 + link.trigger.depth());
                within.max().unwrap_or(0)
            }
            _ => 0,
        }
    }
}

/// A trigger on what others found.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    /// In the order of their clauses.
    pub(crate) links: Vec<Link>,
    /// Over all clauses: one that belongs to a link counts when an event of it completes the link.
    /// A [`Trigger::Threshold`] or [`Trigger::Sequence`].
    pub(crate) trigger: Trigger,
}

/// A trigger within another.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    /// The first of its clauses among all.
    pub(crate) first: usize,
    /// Number of its clauses, which follow each other.
    pub(crate) clauses: usize,
    /// It counts each time its condition holds, not only when it would fire as a rule: for triggers
    /// that ask whether and how recently it held, not how often.
    pub(crate) repeats: bool,
    pub(crate) trigger: Trigger,
}

impl Chain {
    fn collect_fields(&self, clause: usize, into: &mut FieldSet) {
        if let Some((_, link, own)) = self.link(clause) {
            link.trigger.collect_fields(own, into);
        }
        self.trigger.collect_fields(clause, into);
    }

    /// The link that the clause belongs to, with its position and that of the clause in it.
    pub(crate) fn link(&self, clause: usize) -> Option<(usize, &Link, usize)> {
        let links = self.links.iter().enumerate();
        links
            .filter_map(|(position, link)| {
                let own = clause.checked_sub(link.first)?;
                (own < link.clauses).then_some((position, link, own))
            })
            .next()
    }
}

/// Events of all clauses, counted by group and window.
#[derive(Debug, Clone)]
pub(crate) struct Threshold {
    pub(crate) window: Window,
    /// For every clause, the values that its events are grouped by.
    pub(crate) keys: Vec<Vec<Scalar>>,
    pub(crate) aggregates: Vec<Aggregate>,
    pub(crate) having: Having,
}

/// Different events, one for each step, in the order of the steps.
#[derive(Debug, Clone)]
pub(crate) struct Sequence {
    /// The first one asks for nothing; each other one has an equality, and a bound on the time
    /// after the one before it.
    pub(crate) steps: Vec<Step>,
}

/// How an event must relate to those of earlier steps.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// Clauses that follow those of the step before it, of which any will do. Not 0.
    pub(crate) clauses: usize,
    pub(crate) equalities: Vec<Equality>,
    /// At most so many nanoseconds after an earlier step.
    pub(crate) within: Vec<(usize, u64)>,
}

impl Default for Step {
    fn default() -> Self {
        Self {
            clauses: 1,
            equalities: Vec::new(),
            within: Vec::new(),
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Equality {
    /// For every clause of the step.
    pub(crate) own: Vec<Scalar>,
    pub(crate) earlier: usize,
    /// For every clause of the earlier step.
    pub(crate) other: Vec<Scalar>,
}

/// Lengths are in nanoseconds and not 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Window {
    /// One begins at every multiple of `slide`, and is `size` long, which is a multiple of it.
    Fixed { slide: u64, size: u64 },
    /// What is at most `size` old, asked anew at every event.
    Sliding { size: u64 },
}

impl Window {
    /// How long after its last event a group still matters. Windows that overlap one that fired
    /// are quiet, and the last of them ends nearly two sizes after the last event of that one.
    pub(crate) fn memory(self) -> u64 {
        match self {
            Self::Fixed { slide, size } if slide < size => 2 * size,
            _ => self.size(),
        }
    }

    pub(crate) fn size(self) -> u64 {
        match self {
            Self::Fixed { size, .. } | Self::Sliding { size } => size,
        }
    }
}

/// What is computed over the events of a window.
#[derive(Debug, Clone)]
pub(crate) struct Aggregate {
    pub(crate) function: AggregateFunction,
    /// For every clause.
    pub(crate) inputs: Vec<Input>,
}

/// What one clause's events give to an aggregate.
#[derive(Debug, Clone)]
pub(crate) struct Input {
    /// `None` counts every event; a value that is `NULL` counts for nothing.
    pub(crate) value: Option<Scalar>,
    /// Only events of which this is true.
    pub(crate) filter: Option<Predicate>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AggregateFunction {
    Count,
    CountDistinct,
    Sum,
    Average,
    Min,
    Max,
    /// So many hundredths of the values lie below it; between two values in proportion.
    Percentile(u8),
}

/// A condition on aggregates; unknown where one of them has no value.
#[derive(Debug, Clone)]
pub(crate) enum Having {
    And(Vec<Having>),
    Or(Vec<Having>),
    Not(Box<Having>),
    Compare(Operand, Comparison, Operand),
}

#[derive(Debug, Clone)]
pub(crate) enum Operand {
    Aggregate(usize),
    Number(Number),
    Arithmetic(Box<Operand>, Arithmetic, Box<Operand>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
}

/// An exact fraction: averages and ratios are compared without rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Number {
    numerator: i128,
    /// Above 0.
    denominator: i128,
}

impl Threshold {
    fn collect_fields(&self, clause: usize, into: &mut FieldSet) {
        let keys = self.keys.get(clause).into_iter().flatten();
        keys.for_each(|key| key.collect_fields(into));
        let inputs = self.aggregates.iter().filter_map(|a| a.inputs.get(clause));
        for input in inputs {
            input.value.iter().for_each(|v| v.collect_fields(into));
            input.filter.iter().for_each(|f| f.collect_fields(into));
        }
    }
}

impl Sequence {
    fn collect_fields(&self, clause: usize, into: &mut FieldSet) {
        let (of, own) = self.step(clause);
        for (step, equality) in self.equalities() {
            if step == of {
                equality.own[own].collect_fields(into);
            }
            if equality.earlier == of {
                equality.other[own].collect_fields(into);
            }
        }
    }

    /// The step that a clause is for, and the position of the clause in it.
    pub(crate) fn step(&self, clause: usize) -> (usize, usize) {
        let mut own = clause;
        for (position, step) in self.steps.iter().enumerate() {
            match own.checked_sub(step.clauses) {
                Some(rest) => own = rest,
                None => return (position, own),
            }
        }
        (self.steps.len(), own)
    }

    /// All of them, each with its step.
    pub(crate) fn equalities(&self) -> impl Iterator<Item = (usize, &Equality)> {
        let steps = self.steps.iter().enumerate();
        steps.flat_map(|(step, found)| found.equalities.iter().map(move |e| (step, e)))
    }

    /// The longest bound between two of its events.
    pub(crate) fn longest(&self) -> u64 {
        let bounds = self.steps.iter().flat_map(|step| &step.within);
        bounds.map(|(_, bound)| *bound).max().unwrap_or(0)
    }
}

impl Having {
    /// `None` is unknown.
    pub(crate) fn truth(&self, value: &impl Fn(usize) -> Option<Number>) -> Option<bool> {
        match self {
            Self::And(parts) => all(parts.iter().map(|part| part.truth(value))),
            Self::Or(parts) => {
                all(parts.iter().map(|part| part.truth(value).map(|t| !t))).map(|truth| !truth)
            }
            Self::Not(inner) => inner.truth(value).map(|truth| !truth),
            Self::Compare(left, comparison, right) => {
                let order = left.value(value)?.compare(right.value(value)?)?;
                Some(comparison.holds(order))
            }
        }
    }
}

fn all(truths: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut all = Some(true);
    for truth in truths {
        match truth {
            Some(false) => return Some(false),
            Some(true) => {}
            None => all = None,
        }
    }
    all
}

impl Operand {
    fn value(&self, aggregate: &impl Fn(usize) -> Option<Number>) -> Option<Number> {
        match self {
            Self::Aggregate(index) => aggregate(*index),
            Self::Number(number) => Some(*number),
            Self::Arithmetic(left, operator, right) => {
                let (left, right) = (left.value(aggregate)?, right.value(aggregate)?);
                left.calculate(*operator, right)
            }
        }
    }
}

impl Number {
    /// `None` for a denominator of 0.
    pub(crate) fn ratio(numerator: i128, denominator: i128) -> Option<Self> {
        let sign = denominator.signum();
        (sign != 0).then_some(())?;
        Some(Self {
            numerator: numerator.checked_mul(sign)?,
            denominator: denominator.checked_mul(sign)?,
        })
    }

    pub(crate) fn exceeds(self, bound: usize) -> bool {
        let bound = i128::try_from(bound).unwrap_or(i128::MAX);
        self.compare(Self::from(bound)) == Some(Ordering::Greater)
    }

    /// `None` where the exact comparison would not fit.
    fn compare(self, other: Self) -> Option<Ordering> {
        let left = self.numerator.checked_mul(other.denominator)?;
        Some(left.cmp(&other.numerator.checked_mul(self.denominator)?))
    }

    /// `None` for a division by 0 and for a result that does not fit.
    fn calculate(self, operator: Arithmetic, other: Self) -> Option<Self> {
        let (a, b) = (self.numerator, self.denominator);
        let (c, d) = (other.numerator, other.denominator);
        let (ad, cb) = (a.checked_mul(d)?, c.checked_mul(b)?);
        match operator {
            Arithmetic::Add => Self::ratio(ad.checked_add(cb)?, b.checked_mul(d)?),
            Arithmetic::Subtract => Self::ratio(ad.checked_sub(cb)?, b.checked_mul(d)?),
            Arithmetic::Multiply => Self::ratio(a.checked_mul(c)?, b.checked_mul(d)?),
            Arithmetic::Divide => Self::ratio(ad, cb),
        }
    }
}

impl From<i128> for Number {
    fn from(number: i128) -> Self {
        Self {
            numerator: number,
            denominator: 1,
        }
    }
}

/// For people: what is no integer with three digits.
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (
            self.numerator / self.denominator,
            self.numerator % self.denominator,
        );
        if rest == 0 {
            return write!(f, "{whole}");
        }
        let sign = if self.numerator < 0 { "-" } else { "" };
        let thousandths =
            rest.unsigned_abs().saturating_mul(1000) / self.denominator.unsigned_abs();
        write!(f, "{sign}{}.{thousandths:03}", whole.unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use super::{Arithmetic, Having, Number, Operand};
    use crate::ir::Comparison;

    fn number(numerator: i128, denominator: i128) -> Number {
        Number::ratio(numerator, denominator).unwrap()
    }

    #[test]
    fn fractions_are_exact() {
        let third = number(1, 3);
        assert_eq!(third.compare(number(-2, -6)), Some(Ordering::Equal));
        let sum = third.calculate(Arithmetic::Add, number(2, 3)).unwrap();
        assert_eq!(sum.compare(Number::from(1)), Some(Ordering::Equal));
        assert_eq!(third.calculate(Arithmetic::Divide, Number::from(0)), None);
        assert_eq!(
            Number::from(i128::MAX).calculate(Arithmetic::Add, Number::from(1)),
            None
        );
    }

    #[test]
    fn fractions_print_as_decimals() {
        let check = |number: Number, text: &str| assert_eq!(number.to_string(), text);
        check(number(6, 3), "2");
        check(number(10, 4), "2.500");
        check(number(-1, 3), "-0.333");
        check(number(-7, 2), "-3.500");
    }

    #[test]
    fn what_has_no_value_makes_a_condition_unknown() {
        let compare = |aggregate| {
            Having::Compare(
                Operand::Aggregate(aggregate),
                Comparison::Greater,
                Operand::Number(Number::from(1)),
            )
        };
        let value = |index| (index == 0).then_some(Number::from(5));
        let check = |having: Having, truth| assert_eq!(having.truth(&value), truth);
        check(compare(0), Some(true));
        check(compare(1), None);
        check(Having::And(vec![compare(0), compare(1)]), None);
        check(Having::Or(vec![compare(1), compare(0)]), Some(true));
        check(Having::Not(Box::new(compare(1))), None);
    }
}
