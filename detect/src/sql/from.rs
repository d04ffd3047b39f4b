//! `FROM`: the streams that a statement reads.

use sqlparser::ast::{
    Expr, Join, JoinConstraint, JoinOperator, ObjectName, ObjectNamePart, TableAlias, TableFactor,
    TableWithJoins,
};
use sqlparser::tokenizer::Location;

use crate::catalog::{COLUMNS, Stream};
use crate::error::ErrorKind;
use crate::nearest::nearest;
use crate::sql::Fault;
use crate::sql::place::{START, known, query_start};
use crate::sql::scope::Named;

/// Streams in one rule.
const MAX_STREAMS: usize = 4;

/// The streams, and the conditions behind `ON`.
pub(super) fn streams(from: &[TableWithJoins]) -> Result<(Vec<Named>, Vec<&Expr>), Fault> {
    let [TableWithJoins { relation, joins }] = from else {
        let at = from
            .get(1)
            .map_or(START, |second| relation_start(&second.relation));
        let names = Stream::ALL.map(Stream::name).join(", ");
        let message = format!("expected FROM and one stream of {names}");
        return Err(Fault::new(at, ErrorKind::Syntax(message)));
    };
    let (mut streams, mut conditions) = (vec![named(relation)?], Vec::new());
    for join in joins {
        let (stream, condition) = joined(join)?;
        let at = relation_start(&join.relation);
        if streams.len() == MAX_STREAMS {
            return Err(Fault::limit(at, "number of streams", MAX_STREAMS));
        }
        if streams.iter().any(|other| other.alias == stream.alias) {
            let message = "each stream that is joined needs its own name: exec AS a JOIN exit AS b";
            return Err(Fault::ty(at, message));
        }
        streams.push(stream);
        conditions.push(condition);
    }
    match streams.iter().find(|stream| stream.alias.is_none()) {
        Some(_) if streams.len() > 1 => Err(Fault::ty(
            relation_start(relation),
            "each stream that is joined needs its own name: exec AS a JOIN exit AS b",
        )),
        _ => Ok((streams, conditions)),
    }
}

fn joined(join: &Join) -> Result<(Named, &Expr), Fault> {
    let Join {
        relation,
        global,
        join_operator,
    } = join;
    let at = relation_start(relation);
    match join_operator {
        JoinOperator::Join(JoinConstraint::On(condition))
        | JoinOperator::Inner(JoinConstraint::On(condition))
            if !global =>
        {
            Ok((named(relation)?, condition))
        }
        _ => Err(Fault::unsupported(
            at,
            "JOIN other than JOIN stream AS name ON condition",
        )),
    }
}

fn named(relation: &TableFactor) -> Result<Named, Fault> {
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
    let alias = alias
        .as_ref()
        .map(|alias| self::alias(alias, at))
        .transpose()?;
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
    let stream = named_stream(name, at)?;
    Ok(Named { alias, stream, at })
}

/// `AS` is required: without it any word that some other SQL has after a table, such as `AUTO`
/// before `JOIN`, is taken for an alias and changes nothing.
fn alias(alias: &TableAlias, near: Location) -> Result<String, Fault> {
    let TableAlias {
        explicit,
        name,
        columns,
        at: index,
    } = alias;
    let at = known(name.span.start, near);
    if !explicit {
        return Err(Fault::unsupported(at, format!("`{name}` without AS here")));
    }
    if !columns.is_empty() || index.is_some() {
        return Err(Fault::unsupported(at, "an alias with columns"));
    }
    let text = match name.quote_style {
        Some(_) => name.value.clone(),
        None => name.value.to_lowercase(),
    };
    let begins_column = |column: &str| column.split('.').next() == Some(&text);
    if COLUMNS.iter().any(|column| begins_column(column.name)) {
        let message = format!("an alias cannot be `{text}`, with which columns begin");
        return Err(Fault::ty(at, message));
    }
    Ok(text)
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
        let nearest = nearest(&text, names).unwrap_or(Stream::Exec.name());
        let kind = ErrorKind::Unknown {
            what: "stream",
            nearest: Some(nearest.to_owned()),
            name: text,
        };
        Fault::new(at, kind)
    })
}
