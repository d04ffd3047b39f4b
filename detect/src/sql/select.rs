//! The clauses of a statement. Every struct of the syntax tree is taken apart field by field, so
//! that a clause which a newer parser adds does not compile here until someone decides about it.

use sqlparser::ast::{
    Expr, GroupByExpr, LimitClause, ObjectName, ObjectNamePart, OrderByKind, Query, Select,
    SelectFlavor, SelectItem, SetExpr, TableFactor, TableWithJoins, WildcardAdditionalOptions,
};
use sqlparser::tokenizer::Location;

use crate::catalog::{COLUMNS, Stream};
use crate::error::ErrorKind;
use crate::ir::Scalar;
use crate::nearest::nearest;
use crate::rule::{Clause, Condition, Selected, Trigger};
use crate::sql::condition::{Conditions, conjuncts};
use crate::sql::place::{START, condition_texts, known, query_start, start};
use crate::sql::scalar::{Scalars, column_name};
use crate::sql::{Fault, Query as Compiled};

pub(super) fn compile(sql: &str, query: &Query) -> Result<Compiled, Vec<Fault>> {
    let select = only_select(query).map_err(|fault| vec![fault])?;
    let (from, projection, selection) = only_clauses(select).map_err(|fault| vec![fault])?;
    let stream = stream(from).map_err(|fault| vec![fault])?;
    let scalars = Scalars { stream };
    let mut faults = Vec::new();
    let mut selected = Vec::new();
    for item in projection {
        match select_item(item, scalars) {
            Ok(items) => selected.extend(items),
            Err(fault) => faults.push(fault),
        }
    }
    let conditions = conditions(sql, selection, scalars, &mut faults);
    if faults.is_empty() {
        Ok(Compiled {
            select: selected,
            clauses: vec![Clause { stream, conditions }],
            trigger: Trigger::Each,
        })
    } else {
        Err(faults)
    }
}

fn conditions(
    sql: &str,
    selection: Option<&Expr>,
    scalars: Scalars,
    faults: &mut Vec<Fault>,
) -> Vec<Condition> {
    let mut compiler = Conditions::new(scalars);
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
        (limit_clause.is_some(), limit_at, "LIMIT"),
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

type Clauses<'q> = (&'q [TableWithJoins], &'q [SelectItem], Option<&'q Expr>);

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
    let (grouped, group_at) = match group_by {
        GroupByExpr::Expressions(by, modifiers) => (
            !by.is_empty() || !modifiers.is_empty(),
            by.first().map_or(at, |first| start(first, at)),
        ),
        GroupByExpr::All(_) => (true, at),
    };
    let having_at = having.as_ref().map_or(at, |having| start(having, at));
    let refused = [
        (distinct.is_some(), at, "DISTINCT or ALL"),
        (into.is_some(), at, "INTO"),
        (grouped, group_at, "GROUP BY"),
        (having.is_some(), having_at, "HAVING"),
        (top.is_some(), at, "TOP"),
        (
            !named_window.is_empty() || qualify.is_some(),
            at,
            "a window",
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
    Ok((from, projection, selection.as_ref()))
}

fn stream(from: &[TableWithJoins]) -> Result<Stream, Fault> {
    let [TableWithJoins { relation, joins }] = from else {
        let at = from
            .get(1)
            .map_or(START, |second| relation_start(&second.relation));
        let names = Stream::ALL.map(Stream::name).join(", ");
        let message = format!("expected FROM and one stream of {names}");
        return Err(Fault::new(at, ErrorKind::Syntax(message)));
    };
    if let Some(join) = joins.first() {
        return Err(Fault::unsupported(relation_start(&join.relation), "JOIN"));
    }
    let at = relation_start(relation);
    let TableFactor::Table {
        name,
        alias,
        args,
        with_hints,
        version,
        with_ordinality,
        partitions,
        json_path,
        sample,
        index_hints,
    } = relation
    else {
        return Err(Fault::unsupported(at, "a subquery or function in FROM"));
    };
    if let Some(alias) = alias {
        let at = known(alias.name.span.start, at);
        return Err(Fault::unsupported(
            at,
            format!("an alias (`{}`) of a stream", alias.name),
        ));
    }
    let plain = args.is_none()
        && with_hints.is_empty()
        && version.is_none()
        && !with_ordinality
        && partitions.is_empty()
        && json_path.is_none()
        && sample.is_none()
        && index_hints.is_empty();
    if !plain {
        return Err(Fault::unsupported(
            at,
            "anything but a stream's name in FROM",
        ));
    }
    named_stream(name, at)
}

fn relation_start(relation: &TableFactor) -> Location {
    match relation {
        TableFactor::Table { name, .. } => match name.0.first() {
            Some(ObjectNamePart::Identifier(ident)) => known(ident.span.start, START),
            _ => START,
        },
        TableFactor::Derived { subquery, .. } => query_start(subquery),
        _ => START,
    }
}

fn named_stream(name: &ObjectName, at: Location) -> Result<Stream, Fault> {
    let text = match name.0.as_slice() {
        [ObjectNamePart::Identifier(ident)] => ident.value.to_lowercase(),
        _ => name.to_string(),
    };
    Stream::from_name(&text).ok_or_else(|| {
        let names = Stream::ALL.into_iter().map(Stream::name);
        let nearest = Some(
            nearest(&text, names)
                .unwrap_or(Stream::Exec.name())
                .to_owned(),
        );
        Fault::new(
            at,
            ErrorKind::Unknown {
                what: "stream",
                name: text,
                nearest,
            },
        )
    })
}

fn select_item(item: &SelectItem, scalars: Scalars) -> Result<Vec<Selected>, Fault> {
    let at = match item {
        SelectItem::UnnamedExpr(expr)
        | SelectItem::ExprWithAlias { expr, .. }
        | SelectItem::ExprWithAliases { expr, .. } => start(expr, START),
        SelectItem::Wildcard(options) | SelectItem::QualifiedWildcard(_, options) => {
            known(options.wildcard_token.0.span.start, START)
        }
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
            Ok(vec![Selected { name, value }])
        }
        SelectItem::ExprWithAlias { expr, alias } => Ok(vec![Selected {
            name: alias.value.clone(),
            value: scalars.compile(expr, at)?,
        }]),
        SelectItem::Wildcard(options) if is_plain(options) => Ok(defaults(scalars.stream)),
        SelectItem::Wildcard(_) => Err(Fault::unsupported(at, "an option of *")),
        SelectItem::QualifiedWildcard(..) => Err(Fault::unsupported(at, "a qualified *")),
        SelectItem::ExprWithAliases { .. } => Err(Fault::unsupported(at, "several names for one")),
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

fn defaults(stream: Stream) -> Vec<Selected> {
    COLUMNS
        .iter()
        .filter(|column| column.is_default() && column.streams.contains(&stream))
        .map(|column| Selected {
            name: column.name.to_owned(),
            value: Scalar::Field(column.field),
        })
        .collect()
}
