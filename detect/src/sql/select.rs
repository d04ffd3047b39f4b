//! The clauses of a statement. Every struct of the syntax tree is taken apart field by field, so
//! that a clause which a newer parser adds does not compile here until someone decides about it.

use sqlparser::ast::{
    Expr, GroupByExpr, LimitClause, OrderByKind, Query, Select, SelectFlavor, SelectItem, SetExpr,
    TableWithJoins, WildcardAdditionalOptions,
};
use sqlparser::tokenizer::Location;

use crate::catalog::COLUMNS;
use crate::error::ErrorKind;
use crate::ir::Scalar;
use crate::list::Lists;
use crate::rule::{Clause, Condition, Output, Selected};
use crate::sql::aggregate::{Aggregates, same};
use crate::sql::condition::{Conditions, conjuncts};
use crate::sql::from;
use crate::sql::group::{Group, group_by};
use crate::sql::having;
use crate::sql::join;
use crate::sql::place::{START, before_group, condition_texts, known, query_start, start};
use crate::sql::scalar::{Scalars, column_name};
use crate::sql::scope::Scope;
use crate::sql::{Fault, Query as Compiled};
use crate::trigger::{Having, Threshold, Trigger};

pub(super) fn compile(sql: &str, query: &Query, lists: &Lists) -> Result<Compiled, Vec<Fault>> {
    let clauses = only_select(query).and_then(only_clauses);
    let clauses = clauses.map_err(|fault| vec![fault])?;
    let (streams, on) = from::streams(clauses.from).map_err(|fault| vec![fault])?;
    let scope = Scope::new(streams, lists);
    let scalars = Scalars { scope: &scope };
    let counts = !clauses.group_by.is_empty() || clauses.having.is_some();
    if scope.streams().len() > 1 {
        if counts {
            let fault = Fault::unsupported(clauses.group_at, "GROUP BY or HAVING with JOIN");
            return Err(vec![fault]);
        }
        join::compile(&clauses, &on, scalars)
    } else if !counts {
        each(sql, &clauses, scalars)
    } else {
        grouped(sql, &clauses, scalars)
    }
}

/// A rule on single events.
fn each(sql: &str, clauses: &Clauses<'_>, scalars: Scalars<'_>) -> Result<Compiled, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut selected = Vec::new();
    for item in clauses.projection {
        match select_item(item, scalars) {
            Ok(items) => selected.extend(items),
            Err(fault) => faults.push(fault),
        }
    }
    let conditions = conditions(sql, clauses.selection, scalars, &mut faults);
    if !faults.is_empty() {
        return Err(faults);
    }
    Ok(Compiled {
        select: selected,
        clauses: vec![Clause {
            alias: None,
            stream: scalars.scope.streams()[0].stream,
            conditions,
        }],
        trigger: Trigger::Each,
    })
}

/// A rule that counts events by group and window.
fn grouped(sql: &str, clauses: &Clauses<'_>, scalars: Scalars<'_>) -> Result<Compiled, Vec<Fault>> {
    let mut faults = Vec::new();
    let sql = before_group(sql, clauses.group_at);
    let conditions = conditions(sql, clauses.selection, scalars, &mut faults);
    let (window, groups) = match group_by(clauses.group_by, scalars, clauses.group_at) {
        Ok(found) => found,
        Err(fault) => {
            faults.push(fault);
            return Err(faults);
        }
    };
    let mut aggregates = Aggregates::new(scalars, window);
    let mut select = Vec::new();
    for item in clauses.projection {
        match aggregates.select(item, &groups) {
            Ok(selected) => select.push(selected),
            Err(fault) => faults.push(fault),
        }
    }
    select.extend(unselected(&groups, &select));
    let having = clauses
        .having
        .map(|expr| having::compile(expr, window, &mut aggregates));
    let having = having.unwrap_or(Ok(Having::And(Vec::new())));
    match (having, aggregates.finish()) {
        (Ok(having), Ok(aggregates)) if faults.is_empty() => Ok(Compiled {
            select,
            clauses: vec![Clause {
                alias: None,
                stream: scalars.scope.streams()[0].stream,
                conditions,
            }],
            trigger: Trigger::Threshold(Box::new(Threshold {
                window,
                keys: vec![groups.into_iter().map(|group| group.value).collect()],
                aggregates,
                having,
            })),
        }),
        (having, aggregates) => {
            faults.extend(having.err());
            faults.extend(aggregates.err());
            Err(faults)
        }
    }
}

/// A finding names its group, whatever else it selects.
fn unselected(groups: &[Group], select: &[Selected]) -> Vec<Selected> {
    let is_there = |group: &Group| {
        select.iter().any(|selected| match &selected.output {
            Output::Scalar(value) => same(value, &group.value),
            Output::Aggregate(_) => false,
        })
    };
    let missing = groups.iter().filter(|group| !is_there(group));
    missing
        .map(|group| Selected {
            name: group.name.clone().into(),
            clause: 0,
            output: Output::Scalar(group.value.clone()),
        })
        .collect()
}

fn conditions(
    sql: &str,
    selection: Option<&Expr>,
    scalars: Scalars<'_>,
    faults: &mut Vec<Fault>,
) -> Vec<Condition> {
    let compiler = Conditions { scalars };
    let mut conditions = Vec::new();
    let parts = selection.map(conjuncts).unwrap_or_default();
    let texts = condition_texts(sql, &parts);
    for (expr, text) in parts.into_iter().zip(texts) {
        match compiler.compile(expr) {
            Ok(predicate) => conditions.push(Condition { text, predicate }),
            Err(fault) => faults.push(fault),
        }
    }
    conditions
}

fn only_select(query: &Query) -> Result<&Select, Fault> {
    let Query {
        with,
        body,
        order_by,
        limit_clause,
        fetch,
        locks,
        for_clause,
        settings,
        format_clause,
        pipe_operators,
    } = query;
    let at = query_start(query);
    let order_at = order_by.as_ref().map_or(at, |order| match &order.kind {
        OrderByKind::Expressions(by) => by.first().map_or(at, |first| start(&first.expr, at)),
        OrderByKind::All(_) => at,
    });
    let limit_at = match limit_clause {
        Some(LimitClause::LimitOffset {
            limit: Some(limit), ..
        }) => start(limit, at),
        _ => at,
    };
    let refused = [
        (with.is_some(), at, "WITH"),
        (order_by.is_some(), order_at, "ORDER BY"),
        (limit_clause.is_some(), limit_at, "LIMIT or OFFSET"),
        (fetch.is_some(), at, "FETCH"),
        (!locks.is_empty() || for_clause.is_some(), at, "FOR"),
        (settings.is_some(), at, "SETTINGS"),
        (format_clause.is_some(), at, "FORMAT"),
        (!pipe_operators.is_empty(), at, "a pipe operator"),
    ];
    refuse_first(refused.into_iter())?;
    match &**body {
        SetExpr::Select(select) => Ok(select),
        SetExpr::SetOperation { op, .. } => Err(Fault::unsupported(at, op.to_string())),
        SetExpr::Query(_) => Err(Fault::unsupported(at, "a statement in parentheses")),
        _ => Err(Fault::unsupported(at, "a statement other than SELECT")),
    }
}

fn refuse_first(
    mut refused: impl Iterator<Item = (bool, Location, &'static str)>,
) -> Result<(), Fault> {
    match refused.find(|(present, ..)| *present) {
        Some((_, at, what)) => Err(Fault::unsupported(at, what)),
        None => Ok(()),
    }
}

/// The clauses that rules have.
pub(super) struct Clauses<'q> {
    from: &'q [TableWithJoins],
    pub(super) projection: &'q [SelectItem],
    pub(super) selection: Option<&'q Expr>,
    group_by: &'q [Expr],
    group_at: Location,
    having: Option<&'q Expr>,
}

fn only_clauses(select: &Select) -> Result<Clauses<'_>, Fault> {
    let Select {
        select_token,
        optimizer_hints,
        distinct,
        select_modifiers,
        top,
        top_before_distinct: _,
        projection,
        exclude,
        into,
        from,
        lateral_views,
        prewhere,
        selection,
        connect_by,
        group_by,
        cluster_by,
        distribute_by,
        sort_by,
        having,
        named_window,
        qualify,
        window_before_qualify: _,
        value_table_mode,
        flavor,
    } = select;
    let at = select_token.0.span.start;
    let (group_by, modified) = match group_by {
        GroupByExpr::Expressions(by, modifiers) => (by.as_slice(), !modifiers.is_empty()),
        GroupByExpr::All(_) => (&[][..], true),
    };
    let having_at = having.as_ref().map_or(at, |having| start(having, at));
    let group_at = group_by.first().map_or(having_at, |first| start(first, at));
    let refused = [
        (distinct.is_some(), at, "DISTINCT or ALL"),
        (into.is_some(), at, "INTO"),
        (modified, group_at, "GROUP BY ALL or with a modifier"),
        (top.is_some(), at, "TOP"),
        (
            !named_window.is_empty() || qualify.is_some(),
            at,
            "WINDOW or QUALIFY",
        ),
        (!lateral_views.is_empty(), at, "LATERAL VIEW"),
        (prewhere.is_some(), at, "PREWHERE"),
        (!connect_by.is_empty(), at, "CONNECT BY"),
        (!cluster_by.is_empty(), at, "CLUSTER BY"),
        (!distribute_by.is_empty(), at, "DISTRIBUTE BY"),
        (!sort_by.is_empty(), at, "SORT BY"),
        (exclude.is_some(), at, "EXCLUDE"),
        (!optimizer_hints.is_empty(), at, "a hint"),
        (
            select_modifiers.is_some() || value_table_mode.is_some(),
            at,
            "a modifier of SELECT",
        ),
        (*flavor != SelectFlavor::Standard, at, "FROM before SELECT"),
    ];
    refuse_first(refused.into_iter())?;
    if projection.is_empty() {
        let message = "expected columns after SELECT".to_owned();
        return Err(Fault::new(at, ErrorKind::Syntax(message)));
    }
    Ok(Clauses {
        from,
        projection,
        selection: selection.as_ref(),
        group_by,
        group_at,
        having: having.as_ref(),
    })
}

pub(super) fn select_item(item: &SelectItem, scalars: Scalars<'_>) -> Result<Vec<Selected>, Fault> {
    let at = item_start(item);
    scalars.scope.take_named();
    let selected = |name: String, value| {
        let clause = scalars.scope.one_named("what is selected", at)?;
        let output = Output::Scalar(value);
        Ok(vec![Selected {
            name: name.into(),
            clause: clause.unwrap_or(scalars.scope.streams().len() - 1),
            output,
        }])
    };
    match item {
        SelectItem::UnnamedExpr(expr) => {
            let value = scalars.compile(expr, at)?;
            let Some(name) = column_name(expr) else {
                return Err(Fault::unsupported(
                    at,
                    "an expression without a name (AS …)",
                ));
            };
            selected(name, value)
        }
        SelectItem::ExprWithAlias { expr, alias } => {
            let value = scalars.compile(expr, at)?;
            selected(alias.value.clone(), value)
        }
        SelectItem::Wildcard(options) if is_plain(options) => Ok(defaults(scalars.scope)),
        SelectItem::Wildcard(_) => Err(Fault::unsupported(at, "an option of *")),
        SelectItem::QualifiedWildcard(..) => Err(Fault::unsupported(at, "a qualified *")),
        SelectItem::ExprWithAliases { .. } => Err(Fault::unsupported(at, "several names for one")),
    }
}

pub(super) fn item_start(item: &SelectItem) -> Location {
    match item {
        SelectItem::UnnamedExpr(expr)
        | SelectItem::ExprWithAlias { expr, .. }
        | SelectItem::ExprWithAliases { expr, .. } => start(expr, START),
        SelectItem::Wildcard(options) | SelectItem::QualifiedWildcard(_, options) => {
            known(options.wildcard_token.0.span.start, START)
        }
    }
}

fn is_plain(options: &WildcardAdditionalOptions) -> bool {
    let WildcardAdditionalOptions {
        wildcard_token: _,
        opt_ilike,
        opt_exclude,
        opt_except,
        opt_replace,
        opt_rename,
        opt_alias,
    } = options;
    opt_ilike.is_none()
        && opt_exclude.is_none()
        && opt_except.is_none()
        && opt_replace.is_none()
        && opt_rename.is_none()
        && opt_alias.is_none()
}

fn defaults(scope: &Scope) -> Vec<Selected> {
    let mut defaults = Vec::new();
    for (clause, named) in scope.streams().iter().enumerate() {
        let prefix = match &named.alias {
            Some(alias) if scope.streams().len() > 1 => format!("{alias}."),
            _ => String::new(),
        };
        let columns = COLUMNS.iter();
        let columns = columns.filter(|c| c.is_default() && c.streams.contains(&named.stream));
        defaults.extend(columns.map(|column| Selected {
            name: format!("{prefix}{}", column.name).into(),
            clause,
            output: Output::Scalar(Scalar::Field(column.field)),
        }));
    }
    defaults
}
