//! `FROM`: the streams that a statement reads.

use sqlparser::ast::{ObjectName, ObjectNamePart, TableAlias, TableFactor, TableWithJoins};
use sqlparser::tokenizer::Location;

use crate::catalog::{COLUMNS, Stream};
use crate::error::ErrorKind;
use crate::nearest::nearest;
use crate::sql::Fault;
use crate::sql::place::{START, known, query_start};
use crate::sql::scope::Named;

pub(super) fn streams(from: &[TableWithJoins]) -> Result<Vec<Named>, Fault> {
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
    Ok(vec![named(relation)?])
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
    Ok(Named { alias, stream })
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
