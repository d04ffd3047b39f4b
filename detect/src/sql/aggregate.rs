//! What is computed over the events of a window.

use std::fmt::Debug;

use sqlparser::ast::{
    DuplicateTreatment, Expr, Function as Call, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, SelectItem, Value,
};
use sqlparser::tokenizer::Location;

use crate::catalog::Type;
use crate::ir::Scalar;
use crate::rule::{Output, Selected};
use crate::sql::Fault;
use crate::sql::condition::Conditions;
use crate::sql::function::call_name;
use crate::sql::group::Group;
use crate::sql::place::start;
use crate::sql::scalar::{Scalars, column_name};
use crate::sql::select::item_start;
use crate::trigger::{Aggregate, AggregateFunction, Input, Window};

/// Aggregates in one rule, and those of them that tell values apart.
const MAX_AGGREGATES: usize = 8;
const MAX_DISTINCT_AGGREGATES: usize = 4;

/// An aggregate as the documentation shows it.
#[derive(Debug, Clone, Copy)]
pub struct AggregateDoc {
    /// How it is called.
    pub usage: &'static str,
    /// What it gives.
    pub doc: &'static str,
    name: &'static str,
}

const fn aggregate(name: &'static str, usage: &'static str, doc: &'static str) -> AggregateDoc {
    AggregateDoc { usage, doc, name }
}

/// Every aggregate, in the order of the documentation.
#[rustfmt::skip]
pub static AGGREGATES: &[AggregateDoc] = &[
    aggregate("count", "count(*)", "number of events"),
    aggregate("count", "count(value)", "number of events in which it is not `NULL`"),
    aggregate("count", "count(DISTINCT value)", "number of different values; `NULL` is none"),
    aggregate("sum", "sum(integer)", "sum"),
    aggregate("avg", "avg(integer)", "average, not rounded"),
    aggregate("min", "min(integer)", "least value"),
    aggregate("max", "max(integer)", "greatest value"),
    aggregate("median", "median(integer)", "median, not rounded: half of the values lie below it; in `SLIDING` windows"),
    aggregate("percentile", "percentile(integer, number)", "the value below which so many hundredths of the values lie, 0 to 100 as a whole number, in proportion between two values; in `SLIDING` windows"),
    aggregate("any_value", "any_value(value)", "in `SELECT`: the value in the event that completed the finding"),
];

/// Its name in `SELECT`; it keeps nothing.
const ANY_VALUE: &str = "any_value";

pub(super) fn is_aggregate(name: &str) -> bool {
    AGGREGATES.iter().any(|doc| doc.name == name)
}

/// The aggregates of one rule, each once however often it is written.
pub(super) struct Aggregates<'q> {
    pub(super) scalars: Scalars<'q>,
    found: Vec<Aggregate>,
    /// Names that `SELECT` gives them.
    names: Vec<(String, usize)>,
    window: Window,
    at: Location,
}

impl<'q> Aggregates<'q> {
    pub(super) fn new(scalars: Scalars<'q>, window: Window) -> Self {
        Self {
            scalars,
            window,
            found: Vec::new(),
            names: Vec::new(),
            at: crate::sql::place::START,
        }
    }

    pub(super) fn finish(self) -> Result<Vec<Aggregate>, Fault> {
        let keeps_values = |a: &&Aggregate| a.function == AggregateFunction::CountDistinct;
        if self.found.len() > MAX_AGGREGATES {
            return Err(Fault::limit(
                self.at,
                "number of aggregates",
                MAX_AGGREGATES,
            ));
        }
        if self.found.iter().filter(keeps_values).count() > MAX_DISTINCT_AGGREGATES {
            let what = "number of count(DISTINCT …)";
            return Err(Fault::limit(self.at, what, MAX_DISTINCT_AGGREGATES));
        }
        Ok(self.found)
    }

    /// What it computes, by its position.
    pub(super) fn function(&self, index: usize) -> AggregateFunction {
        self.found[index].function
    }

    /// The aggregate to which `SELECT` gives this name.
    pub(super) fn named(&self, name: &str) -> Option<usize> {
        let found = self.names.iter().find(|(other, _)| other == name);
        found.map(|(_, index)| *index)
    }

    /// An item of `SELECT`: an aggregate, or something that all events of a group share.
    pub(super) fn select(
        &mut self,
        item: &SelectItem,
        groups: &[Group],
    ) -> Result<Selected, Fault> {
        let at = item_start(item);
        let (expr, alias) = match item {
            SelectItem::UnnamedExpr(expr) => (expr, None),
            SelectItem::ExprWithAlias { expr, alias } => (expr, Some(alias.value.clone())),
            _ => return Err(Fault::unsupported(at, "* with GROUP BY")),
        };
        let output = self.output(expr, groups, at)?;
        let name = alias.or_else(|| default_name(expr));
        let name =
            name.ok_or_else(|| Fault::unsupported(at, "an expression without a name (AS …)"))?;
        if let Output::Aggregate(index) = output {
            self.names.push((name.to_lowercase(), index));
        }
        Ok(Selected {
            name: name.into(),
            clause: 0,
            output,
        })
    }

    fn output(&mut self, expr: &Expr, groups: &[Group], at: Location) -> Result<Output, Fault> {
        if let Expr::Function(call) = expr {
            match call_name(call).as_str() {
                ANY_VALUE => return self.any_value(call, at).map(Output::Scalar),
                name if is_aggregate(name) => return self.call(call, at).map(Output::Aggregate),
                _ => {}
            }
        }
        let value = self.scalars.compile(expr, at)?;
        if groups.iter().any(|group| same(&group.value, &value)) {
            return Ok(Output::Scalar(value));
        }
        let message = "what is selected is in GROUP BY, an aggregate, or any_value(…)";
        Err(Fault::ty(at, message))
    }

    fn any_value(&self, call: &Call, at: Location) -> Result<Scalar, Fault> {
        let arguments = Arguments::of(call, at)?;
        match arguments {
            Arguments {
                value: Some(value),
                percent: None,
                distinct: false,
                filter: None,
            } => self.scalars.compile(value, start(value, at)),
            _ => Err(misuse(ANY_VALUE, at)),
        }
    }

    /// The position of the aggregate that is called.
    pub(super) fn call(&mut self, call: &Call, at: Location) -> Result<usize, Fault> {
        let name = call_name(call);
        let Arguments {
            value,
            percent,
            distinct,
            filter,
        } = Arguments::of(call, at)?;
        let value = value
            .map(|value| self.scalars.compile(value, start(value, at)))
            .transpose()?;
        let ty = value.as_ref().map(Scalar::ty);
        let function = match percent {
            None => function(&name, ty, distinct),
            Some(percent) => percentile(&name, ty, distinct, percent),
        };
        let function = function.ok_or_else(|| misuse(&name, at))?;
        if matches!(function, AggregateFunction::Percentile(_))
            && !matches!(self.window, Window::Sliding { .. })
        {
            let what = format!("{name}() in a window that does not slide");
            return Err(Fault::unsupported(at, what));
        }
        let conditions = Conditions {
            scalars: self.scalars,
        };
        let filter = filter
            .map(|filter| conditions.compile(filter))
            .transpose()?;
        self.at = at;
        Ok(self.position(Aggregate {
            function,
            inputs: vec![Input { value, filter }],
        }))
    }

    fn position(&mut self, aggregate: Aggregate) -> usize {
        let there = self.found.iter().position(|found| same(found, &aggregate));
        there.unwrap_or_else(|| {
            self.found.push(aggregate);
            self.found.len() - 1
        })
    }
}

/// Compiled from the same text, but for spelling.
pub(super) fn same<T: Debug>(left: &T, right: &T) -> bool {
    format!("{left:?}") == format!("{right:?}")
}

fn default_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Function(call) if is_aggregate(&call_name(call)) => Some(call_name(call)),
        _ => column_name(expr),
    }
}

fn function(name: &str, value: Option<Type>, distinct: bool) -> Option<AggregateFunction> {
    Some(match (name, value, distinct) {
        ("count", None, false) => AggregateFunction::Count,
        ("count", Some(_), false) => AggregateFunction::Count,
        ("count", Some(Type::Text | Type::Int | Type::Bool), true) => {
            AggregateFunction::CountDistinct
        }
        ("sum", Some(Type::Int), false) => AggregateFunction::Sum,
        ("avg", Some(Type::Int), false) => AggregateFunction::Average,
        ("min", Some(Type::Int), false) => AggregateFunction::Min,
        ("max", Some(Type::Int), false) => AggregateFunction::Max,
        ("median", Some(Type::Int), false) => AggregateFunction::Percentile(50),
        _ => return None,
    })
}

/// `percentile(value, 95)`.
fn percentile(
    name: &str,
    value: Option<Type>,
    distinct: bool,
    percent: &Expr,
) -> Option<AggregateFunction> {
    let Expr::Value(percent) = percent else {
        return None;
    };
    let Value::Number(digits, false) = &percent.value else {
        return None;
    };
    let percent = digits.parse().ok().filter(|percent| *percent <= 100)?;
    let fits = name == "percentile" && value == Some(Type::Int) && !distinct;
    fits.then_some(AggregateFunction::Percentile(percent))
}

fn misuse(name: &str, at: Location) -> Fault {
    let usages: Vec<_> = AGGREGATES
        .iter()
        .filter(|doc| doc.name == name)
        .map(|doc| doc.usage)
        .collect();
    Fault::ty(at, format!("wrong arguments; usage: {}", usages.join(", ")))
}

/// What stands in the parentheses of an aggregate, and behind them.
struct Arguments<'q> {
    /// `None` for `*`.
    value: Option<&'q Expr>,
    /// The second argument.
    percent: Option<&'q Expr>,
    distinct: bool,
    filter: Option<&'q Expr>,
}

impl<'q> Arguments<'q> {
    fn of(call: &'q Call, at: Location) -> Result<Self, Fault> {
        let Call {
            name: _,
            uses_odbc_syntax,
            parameters,
            args,
            within_group,
            filter,
            null_treatment,
            over,
        } = call;
        let name = call_name(call);
        let plain = !uses_odbc_syntax
            && *parameters == FunctionArguments::None
            && within_group.is_empty()
            && null_treatment.is_none()
            && over.is_none();
        let FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment,
            args,
            clauses,
        }) = args
        else {
            return Err(misuse(&name, at));
        };
        if !plain || !clauses.is_empty() {
            let what = format!("a clause in the call of {name}()");
            return Err(Fault::unsupported(at, what));
        }
        use FunctionArgExpr::{Expr, Wildcard};
        let (value, percent) = match args.as_slice() {
            [FunctionArg::Unnamed(Wildcard)] => (None, None),
            [FunctionArg::Unnamed(Expr(value))] => (Some(value), None),
            [
                FunctionArg::Unnamed(Expr(value)),
                FunctionArg::Unnamed(Expr(percent)),
            ] => (Some(value), Some(percent)),
            _ => return Err(misuse(&name, at)),
        };
        Ok(Self {
            value,
            percent,
            distinct: *duplicate_treatment == Some(DuplicateTreatment::Distinct),
            filter: filter.as_deref(),
        })
    }
}
