//! `JOIN`: events that follow each other.
//!
//! What stands behind `ON` and what stands behind `WHERE` mean the same here. Each of their parts
//! is about one stream, equates values of two, or bounds the time between two.

use sqlparser::ast::{BinaryOperator, Expr};
use sqlparser::tokenizer::Location;

use crate::ir::Scalar;
use crate::rule::{Clause, Condition};
use crate::sql::condition::{Conditions, conjuncts, same_type};
use crate::sql::group::MAX_WINDOW_NS;
use crate::sql::interval;
use crate::sql::place::{START, start};
use crate::sql::scalar::{Scalars, column_name};
use crate::sql::scope::Named;
use crate::sql::select::{Clauses, select_item};
use crate::sql::{Fault, Query as Compiled};
use crate::trigger::{Equality, Sequence, Step, Trigger};

pub(super) fn compile(
    clauses: &Clauses<'_>,
    on: &[&Expr],
    scalars: Scalars<'_>,
) -> Result<Compiled, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut select = Vec::new();
    for item in clauses.projection {
        match select_item(item, scalars) {
            Ok(items) => select.extend(items),
            Err(fault) => faults.push(fault),
        }
    }
    let mut joined = Joined::new(scalars);
    let parts = on.iter().copied().chain(clauses.selection);
    for part in parts.flat_map(conjuncts) {
        faults.extend(joined.add(part).err());
    }
    if faults.is_empty() {
        faults.extend(joined.missing());
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let Joined { clauses, steps, .. } = joined;
    Ok(Compiled {
        select,
        clauses,
        trigger: Trigger::Sequence(Sequence { steps }),
    })
}

/// What the parts say so far.
struct Joined<'q> {
    scalars: Scalars<'q>,
    clauses: Vec<Clause>,
    steps: Vec<Step>,
    /// For each step, that it is not before the one before it.
    ordered: Vec<bool>,
}

/// What one part says about the times of two streams, the earlier one first.
enum Time {
    /// The second is not before the first.
    Order(usize, usize),
    /// The second is at most so many nanoseconds after the first.
    Within(usize, usize, u64),
}

impl<'q> Joined<'q> {
    fn new(scalars: Scalars<'q>) -> Self {
        let streams = scalars.scope.streams();
        let clause = |named: &Named| Clause {
            alias: named.alias.clone(),
            stream: named.stream,
            conditions: Vec::new(),
        };
        Self {
            scalars,
            clauses: streams.iter().map(clause).collect(),
            steps: streams.iter().map(|_| Step::default()).collect(),
            ordered: vec![false; streams.len()],
        }
    }

    fn add(&mut self, expr: &Expr) -> Result<(), Fault> {
        let at = start(expr, START);
        self.scalars.scope.count_term(at)?;
        let times = self.times(expr, at)?;
        if !times.is_empty() {
            return times
                .into_iter()
                .try_for_each(|time| self.add_time(time, at));
        }
        if let Some((step, equality)) = self.equality(expr, at)? {
            self.steps[step].equalities.push(equality);
            return Ok(());
        }
        self.scalars.scope.take_named();
        let predicate = Conditions {
            scalars: self.scalars,
        }
        .compile(expr)?;
        let what = "a condition other than an equality or a length of time on values";
        let stream = self.scalars.scope.one_named(what, at)?.unwrap_or(0);
        let text = expr.to_string();
        self.clauses[stream]
            .conditions
            .push(Condition { text, predicate });
        Ok(())
    }

    /// `a.x = b.y`.
    fn equality(&self, expr: &Expr, at: Location) -> Result<Option<(usize, Equality)>, Fault> {
        let Expr::BinaryOp {
            left,
            op: BinaryOperator::Eq,
            right,
        } = unnested(expr)
        else {
            return Ok(None);
        };
        let (Ok((left, of_left)), Ok((right, of_right))) =
            (self.value(left, at), self.value(right, at))
        else {
            return Ok(None);
        };
        let ([of_left], [of_right]) = (of_left.as_slice(), of_right.as_slice()) else {
            return Ok(None);
        };
        if of_left == of_right {
            return Ok(None);
        }
        same_type(&left, &right, at)?;
        let (step, own, earlier, other) = if of_left > of_right {
            (*of_left, left, *of_right, right)
        } else {
            (*of_right, right, *of_left, left)
        };
        let equality = Equality {
            own: vec![own],
            earlier,
            other: vec![other],
        };
        Ok(Some((step, equality)))
    }

    /// A value, and the streams that it is of.
    fn value(&self, expr: &Expr, at: Location) -> Result<(Scalar, Vec<usize>), Fault> {
        self.scalars.scope.take_named();
        let value = self.scalars.compile(expr, at)?;
        Ok((value, self.scalars.scope.take_named()))
    }

    /// What the part says about times of different streams; nothing if it is about something else.
    fn times(&self, expr: &Expr, at: Location) -> Result<Vec<Time>, Fault> {
        let times = match unnested(expr) {
            Expr::Between {
                expr,
                negated: false,
                low,
                high,
            } => {
                let low = self.at_least(expr, low);
                let high = self.at_most(expr, high, at)?;
                low.zip(high).map(|(low, high)| vec![low, high])
            }
            Expr::BinaryOp { left, op, right } => match op {
                BinaryOperator::GtEq => self.at_least(left, right).map(|time| vec![time]),
                BinaryOperator::LtEq => match self.at_least(right, left) {
                    Some(time) => Some(vec![time]),
                    None => self.at_most(left, right, at)?.map(|time| vec![time]),
                },
                _ => None,
            },
            _ => None,
        };
        Ok(times.unwrap_or_default())
    }

    /// `later.event.time >= earlier.event.time`.
    fn at_least(&self, later: &Expr, earlier: &Expr) -> Option<Time> {
        let (later, earlier) = (self.time_of(later)?, self.time_of(earlier)?);
        (later != earlier).then_some(Time::Order(earlier, later))
    }

    /// `later.event.time <= earlier.event.time + INTERVAL …`, or
    /// `later.event.time - earlier.event.time <= INTERVAL …`.
    fn at_most(&self, value: &Expr, bound: &Expr, at: Location) -> Result<Option<Time>, Fault> {
        let (later, earlier, length) = match (unnested(value), unnested(bound)) {
            (
                value,
                Expr::BinaryOp {
                    left,
                    op: BinaryOperator::Plus,
                    right,
                },
            ) => (self.time_of(value), self.time_of(left), &**right),
            (
                Expr::BinaryOp {
                    left,
                    op: BinaryOperator::Minus,
                    right,
                },
                length,
            ) => (self.time_of(left), self.time_of(right), length),
            _ => return Ok(None),
        };
        let (Some(later), Some(earlier), Expr::Interval(length)) = (later, earlier, length) else {
            return Ok(None);
        };
        if later == earlier {
            return Ok(None);
        }
        let bound = interval::nanoseconds(length, at)?;
        if bound > MAX_WINDOW_NS {
            return Err(Fault::limit(at, "time between events", "24 hours"));
        }
        Ok(Some(Time::Within(earlier, later, bound)))
    }

    /// The stream whose `event.time` this is.
    fn time_of(&self, expr: &Expr) -> Option<usize> {
        let name = column_name(unnested(expr))?;
        let alias = name.strip_suffix(".event.time")?;
        let streams = self.scalars.scope.streams();
        streams
            .iter()
            .position(|named| named.alias.as_deref() == Some(alias))
    }

    fn add_time(&mut self, time: Time, at: Location) -> Result<(), Fault> {
        let (Time::Order(earlier, later) | Time::Within(earlier, later, _)) = time;
        if earlier > later {
            let streams = self.scalars.scope.streams();
            let [first, second] = [later, earlier].map(|stream| alias(streams, stream));
            let message = format!("`{first}` is first in FROM, so `{second}` must come after it");
            return Err(Fault::ty(at, message));
        }
        match time {
            Time::Order(..) if earlier + 1 == later => self.ordered[later] = true,
            Time::Order(..) => {}
            Time::Within(_, _, bound) => {
                let within = &mut self.steps[later].within;
                match within.iter_mut().find(|(step, _)| *step == earlier) {
                    Some((_, other)) => *other = bound.min(*other),
                    None => within.push((earlier, bound)),
                }
            }
        }
        Ok(())
    }

    /// What a step needs and lacks.
    fn missing(&self) -> Option<Fault> {
        let streams = self.scalars.scope.streams();
        (1..streams.len()).find_map(|step| {
            let [before, this] = [step - 1, step].map(|stream| alias(streams, stream));
            let timed = self.steps[step]
                .within
                .iter()
                .any(|(earlier, _)| earlier + 1 == step);
            if !timed || !self.ordered[step] {
                let message = format!(
                    "`{this}` needs a time: {this}.event.time BETWEEN {before}.event.time AND \
                     {before}.event.time + INTERVAL '10' SECOND"
                );
                return Some(Fault::ty(streams[step].at, message));
            }
            if self.steps[step].equalities.is_empty() {
                let message = format!(
                    "`{this}` needs something in common with an earlier stream, such as \
                     {this}.process.entity_id = {before}.process.entity_id"
                );
                return Some(Fault::ty(streams[step].at, message));
            }
            None
        })
    }
}

fn alias(streams: &[Named], stream: usize) -> &str {
    streams[stream].alias.as_deref().unwrap_or_default()
}

fn unnested(mut expr: &Expr) -> &Expr {
    while let Expr::Nested(inner) = expr {
        expr = inner;
    }
    expr
}
