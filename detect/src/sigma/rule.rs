//! A Sigma rule as one of the engine's.

use event::Level;

use crate::catalog::{COLUMNS, Column, FieldSet, Stream};
use crate::dedup::Dedup;
use crate::error::ErrorKind;
use crate::ir::Scalar;
use crate::rule::{Clause, Condition, Output, Rule, Selected, column_names};
use crate::sigma::correlation::{Fields, Known};
use crate::sigma::detection::Detection;
use crate::sigma::expr::Expr;
use crate::sigma::filter::Filter;
use crate::sigma::header::Header;
use crate::sigma::item::{Found, Items, Lists};
use crate::sigma::logsource::{Logsource, Os};
use crate::sigma::node::Node;
use crate::sigma::report::{Degraded, Elsewhere};
use crate::trigger::Trigger;

/// How a rule came out.
pub(crate) enum Outcome {
    Loaded(Box<Known>, Option<Degraded>),
    Elsewhere(Elsewhere),
}

/// Where and with what rules are compiled.
pub(crate) struct Site<'a> {
    pub(crate) file: &'a str,
    pub(crate) host: Option<Os>,
    pub(crate) lists: &'a Lists,
    pub(crate) filters: &'a [Filter],
}

pub(crate) fn compile(document: &Node, site: &Site<'_>) -> Result<Outcome, Vec<Found>> {
    let header = Header::read(document);
    let source = Logsource::read(document.get("logsource"), document.at);
    let (header, source) = match (header, source) {
        (Ok(header), Ok(source)) => (header, source),
        (header, source) => {
            let mut errors = header.err().unwrap_or_default();
            errors.extend(source.err());
            return Err(errors);
        }
    };
    if let (Some(os), Some(host)) = (source.os, site.host)
        && os != host
    {
        let (line, file) = (header.at.line, site.file.to_owned());
        let (rule_id, title, name) = (header.id, header.title, header.name);
        return Ok(Outcome::Elsewhere(Elsewhere {
            rule_id,
            name,
            title,
            file,
            line,
            os,
        }));
    }
    let items = Items::new(source, site.host, site.lists);
    let parts = parts(document, &header, &items, site.filters)?;
    let whole = Expr::And(parts.iter().map(|(_, expr)| expr.clone()).collect());
    check_satisfiable(document, &whole, &items).map_err(|error| vec![error])?;
    let degraded = degraded(&header, &whole, site);
    let name = header.name.clone();
    let rule = build(header, source, &items, parts, site.file, degraded.as_ref());
    let known = Known {
        rule,
        name,
        fields: Fields::Of(source),
    };
    Ok(Outcome::Loaded(Box::new(known), degraded))
}

/// The conditions of the rule, and of the filters that are for it.
fn parts(
    document: &Node,
    header: &Header,
    items: &Items<'_>,
    filters: &[Filter],
) -> Result<Vec<(String, Expr)>, Vec<Found>> {
    let Some(detection) = document.get("detection") else {
        let problem = "is missing".to_owned();
        let kind = ErrorKind::Key {
            key: "detection",
            problem,
        };
        return Err(vec![(document.at, kind)]);
    };
    let detection = Detection::read(detection, items)?;
    let mut parts = detection.parts().map_err(|error| vec![error])?;
    for filter in filters
        .iter()
        .filter(|filter| filter.is_for(header, items.source))
    {
        let of_filter = filter.parts(items).map_err(|(_, kind)| {
            let problem = format!("filter {} ({}): {kind}", filter.title, filter.file);
            vec![(header.at, ErrorKind::Detection(problem))]
        })?;
        parts.extend(of_filter);
    }
    Ok(parts)
}

/// No system at all gives what the rule needs.
fn check_satisfiable(document: &Node, whole: &Expr, items: &Items<'_>) -> Result<(), Found> {
    let unknown = items.unknown.borrow();
    let nowhere = |expr: &Expr| without_host(expr, &unknown).constant() == Some(false);
    match unknown.first() {
        Some((at, _)) if nowhere(whole) => {
            let mut names: Vec<&str> = unknown.iter().map(|(_, name)| name.as_str()).collect();
            names.sort_unstable();
            names.dedup();
            let problem = format!("{} is not produced", names.join(", "));
            Err((*at, ErrorKind::NeverMatches(problem)))
        }
        _ if unknown.is_empty() && items.host.is_none() && whole.constant() == Some(false) => {
            let problem = "its conditions exclude each other".to_owned();
            Err((document.at, ErrorKind::NeverMatches(problem)))
        }
        _ => Ok(()),
    }
}

/// The condition where only fields are missing that no system gives.
fn without_host(expr: &Expr, unknown: &[(crate::Place, String)]) -> Expr {
    let each = |parts: &[Expr]| {
        parts
            .iter()
            .map(|part| without_host(part, unknown))
            .collect()
    };
    match expr {
        Expr::And(parts) => Expr::And(each(parts)),
        Expr::Or(parts) => Expr::Or(each(parts)),
        Expr::Not(inner) => without_host(inner, unknown).not(),
        Expr::Leaf(leaf) => {
            let mut leaf = leaf.clone();
            leaf.missing = leaf.missing.filter(|missing| {
                let field = format!("field `{}`", missing.field);
                unknown.iter().any(|(_, name)| name.starts_with(&field))
            });
            Expr::Leaf(leaf)
        }
    }
}

fn degraded(header: &Header, whole: &Expr, site: &Site<'_>) -> Option<Degraded> {
    let gaps = whole.gaps();
    (!gaps.fields.is_empty()).then(|| Degraded {
        rule_id: header.id.clone(),
        title: header.title.clone(),
        file: site.file.to_owned(),
        line: header.at.line,
        fields: gaps.fields,
        misfiring: gaps.misfiring,
        never: whole.constant() == Some(false),
    })
}

fn build(
    header: Header,
    source: Logsource,
    items: &Items<'_>,
    parts: Vec<(String, Expr)>,
    file: &str,
    degraded: Option<&Degraded>,
) -> Rule {
    let conditions = parts.into_iter().map(|(text, expr)| Condition {
        text,
        predicate: expr.predicate(),
    });
    let clause = Clause {
        alias: None,
        stream: source.stream,
        conditions: conditions.collect(),
    };
    let fields = clause.condition_fields();
    // A column that is missing everywhere is told with each finding by itself.
    let unmapped = |name: &&String| source.meaning(name).field().is_none();
    let missing = degraded.map(|degraded| degraded.fields.iter().filter(unmapped).cloned());
    Rule {
        exceptions: Vec::new(),
        select: selected(source.stream, fields, items, &header.fields),
        id: header.id,
        title: header.title,
        description: header.description,
        level: header.level.unwrap_or(Level::Medium),
        tags: header.tags,
        references: header.references,
        falsepositives: header.falsepositives,
        columns: column_names(fields),
        missing: missing.into_iter().flatten().collect(),
        provenance: Some(Box::new(header.provenance)),
        file: file.to_owned(),
        line: header.at.line,
        fires: 0,
        silent: 0,
        clauses: vec![clause],
        trigger: Trigger::Each,
        dedup: Dedup::default(),
        tests: Vec::new(),
    }
}

/// What every alert on the stream shows, what the rule asked about, and what it wants shown.
fn selected(
    stream: Stream,
    fields: FieldSet,
    items: &Items<'_>,
    wanted: &[String],
) -> Vec<Selected> {
    let meant = wanted
        .iter()
        .filter_map(|name| items.source.meaning(name).field());
    let mut fields = fields;
    meant.for_each(|field| fields.insert(field));
    let is_shown = |column: &&Column| {
        column.streams.contains(&stream) && (column.is_default() || fields.contains(column.field))
    };
    let shown = COLUMNS.iter().filter(is_shown);
    shown
        .map(|column| Selected {
            name: column.name.into(),
            clause: 0,
            output: Output::Scalar(Scalar::Field(column.field)),
        })
        .collect()
}
