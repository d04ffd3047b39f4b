//! Places of parts of the syntax tree. The parser's own `span()` recurses, and chains of operators
//! are as deep as they are long, so this walks along the left edge instead.

use sqlparser::ast::{Expr, ObjectNamePart, Query, SetExpr};
use sqlparser::tokenizer::Location;

pub(super) const START: Location = Location { line: 1, column: 1 };

/// Parts of the syntax tree without a place of their own say line 0.
pub(super) fn known(at: Location, otherwise: Location) -> Location {
    if at.line == 0 { otherwise } else { at }
}

/// Where an expression begins. Follows the left edge by hand: chains are as deep as they are long
/// and `span()` recurses.
pub(super) fn start(expr: &Expr, otherwise: Location) -> Location {
    let mut expr = expr;
    loop {
        expr = match expr {
            Expr::BinaryOp { left, .. }
            | Expr::AnyOp { left, .. }
            | Expr::AllOp { left, .. }
            | Expr::IsDistinctFrom(left, _)
            | Expr::IsNotDistinctFrom(left, _) => left,
            Expr::IsNull(inner)
            | Expr::IsNotNull(inner)
            | Expr::IsTrue(inner)
            | Expr::IsNotTrue(inner)
            | Expr::IsFalse(inner)
            | Expr::IsNotFalse(inner)
            | Expr::IsUnknown(inner)
            | Expr::IsNotUnknown(inner) => inner,
            Expr::InList { expr, .. }
            | Expr::InSubquery { expr, .. }
            | Expr::InUnnest { expr, .. }
            | Expr::Between { expr, .. }
            | Expr::Like { expr, .. }
            | Expr::ILike { expr, .. }
            | Expr::SimilarTo { expr, .. }
            | Expr::RLike { expr, .. }
            | Expr::Cast { expr, .. }
            | Expr::Collate { expr, .. }
            | Expr::IsJson { expr, .. }
            | Expr::IsNormalized { expr, .. }
            | Expr::Nested(expr)
            | Expr::UnaryOp { expr, .. } => expr,
            Expr::AtTimeZone { timestamp, .. } => timestamp,
            Expr::CompoundFieldAccess { root, .. } => root,
            Expr::JsonAccess { value, .. } => value,
            Expr::Identifier(ident) => return known(ident.span.start, otherwise),
            Expr::CompoundIdentifier(parts) => {
                return parts
                    .first()
                    .map_or(otherwise, |p| known(p.span.start, otherwise));
            }
            Expr::Value(value) => return known(value.span.start, otherwise),
            Expr::Function(function) => {
                return match function.name.0.first() {
                    Some(ObjectNamePart::Identifier(ident)) => known(ident.span.start, otherwise),
                    _ => otherwise,
                };
            }
            Expr::Case { case_token, .. } => return known(case_token.0.span.start, otherwise),
            Expr::Subquery(query)
            | Expr::Exists {
                subquery: query, ..
            } => {
                return known(query_start(query), otherwise);
            }
            Expr::Substring { expr, .. }
            | Expr::Overlay { expr, .. }
            | Expr::Trim { expr, .. }
            | Expr::Position { expr, .. }
            | Expr::Extract { expr, .. }
            | Expr::Convert { expr, .. } => expr,
            Expr::Interval(interval) => &interval.value,
            Expr::Tuple(members) => match members.first() {
                Some(first) => first,
                None => return otherwise,
            },
            // Anything else is refused as a whole where it stands.
            _ => return otherwise,
        };
    }
}

/// The `SELECT` of a query; of the first one in a set operation, the second, which is too many.
pub(super) fn query_start(query: &Query) -> Location {
    let mut body = &*query.body;
    let mut at = START;
    loop {
        body = match body {
            SetExpr::Select(select) => return known(select.select_token.0.span.start, at),
            SetExpr::SetOperation { left, right, .. } => {
                if let SetExpr::Select(select) = &**right {
                    at = known(select.select_token.0.span.start, at);
                }
                match &**left {
                    SetExpr::SetOperation { .. } => left,
                    _ => return at,
                }
            }
            _ => return at,
        };
    }
}

/// The statement before `GROUP BY`, whose first expression begins at `at`.
pub(super) fn before_group(sql: &str, at: Location) -> &str {
    let before = &sql[..offset(sql, at)];
    let group = before.to_ascii_lowercase().rfind("group");
    &before[..group.unwrap_or(before.len())]
}

/// The text of each condition, as written but for white space.
pub(super) fn condition_texts(sql: &str, conditions: &[&Expr]) -> Vec<String> {
    let offsets: Vec<usize> = conditions
        .iter()
        .map(|condition| offset(sql, start(condition, START)))
        .collect();
    let begin = |index: usize| {
        let word = if index == 0 { "where" } else { "and" };
        let before = sql[..offsets[index]].to_ascii_lowercase();
        before
            .rfind(word)
            .map_or(offsets[index], |at| at + word.len())
    };
    let end = |index: usize| match offsets.get(index + 1) {
        Some(_) => begin(index + 1) - "and".len(),
        None => sql.len(),
    };
    (0..conditions.len())
        .map(|index| {
            let text = sql.get(begin(index)..end(index)).unwrap_or_default();
            let words: Vec<&str> = text
                .trim_end_matches([';', ' ', '\n'])
                .split_whitespace()
                .collect();
            words.join(" ")
        })
        .collect()
}

fn offset(sql: &str, at: Location) -> usize {
    let (mut line, mut column) = (1, 1);
    for (offset, c) in sql.char_indices() {
        if (line, column) >= (at.line, at.column) {
            return offset;
        }
        (line, column) = if c == '\n' {
            (line + 1, 1)
        } else {
            (line, column + 1)
        };
    }
    sql.len()
}
