//! Text to a syntax tree, within bounds, with a place for every error.

use sqlparser::ast::{Expr, Query, Statement};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, TokenizerError};

use crate::error::ErrorKind;
use crate::sql::Fault;
use crate::sql::place::START;
use crate::sql::spelling::rewrite;

const MAX_SQL_BYTES: usize = 32 * 1024;
/// Chains such as `a OR b OR c` become trees as deep as they are long, and the parser's own
/// recursion limit does not see them. They are dropped recursively, so the text is bounded.
const MAX_TOKENS: usize = 4096;
/// Parentheses and the like, where the parser does recurse.
const MAX_NESTING: usize = 50;

pub(super) fn parse(sql: &str) -> Result<Box<Query>, Fault> {
    let tokens = rewrite(tokenize(sql)?);
    let end = end_of(&tokens);
    check_is_one_select(&tokens, end)?;
    let mut parser = parser(tokens);
    let statement = parser
        .parse_statement()
        .map_err(|error| fault(error, end))?;
    let rest = parser.peek_token();
    if !matches!(rest.token, Token::EOF | Token::SemiColon) {
        let message = format!("expected the end of the statement, found {}", rest.token);
        return Err(Fault::new(rest.span.start, ErrorKind::Syntax(message)));
    }
    match statement {
        Statement::Query(query) => Ok(query),
        _ => Err(not_one_select(START, "found something else")),
    }
}

/// A condition by itself.
pub(super) fn parse_condition(sql: &str) -> Result<Expr, Fault> {
    let tokens = rewrite(tokenize(sql)?);
    let end = end_of(&tokens);
    let mut parser = parser(tokens);
    let expr = parser.parse_expr().map_err(|error| fault(error, end))?;
    let rest = parser.peek_token();
    if rest.token != Token::EOF {
        let message = format!("expected the end of the condition, found {}", rest.token);
        return Err(Fault::new(rest.span.start, ErrorKind::Syntax(message)));
    }
    Ok(expr)
}

fn parser(tokens: Vec<TokenWithSpan>) -> Parser<'static> {
    Parser::new(&PostgreSqlDialect {})
        .with_recursion_limit(MAX_NESTING)
        .with_tokens_with_locations(tokens)
}

fn tokenize(sql: &str) -> Result<Vec<TokenWithSpan>, Fault> {
    if sql.len() > MAX_SQL_BYTES {
        let limit = format_args!("{MAX_SQL_BYTES} bytes");
        return Err(Fault::limit(START, "SQL text", limit));
    }
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, sql)
        .tokenize_with_location()
        .map_err(|TokenizerError { message, location }| {
            Fault::new(location, ErrorKind::Syntax(in_our_words(&message)))
        })?;
    let mut visible = tokens.iter().filter(|token| !is_space(token));
    match visible.nth(MAX_TOKENS) {
        Some(token) => Err(Fault::limit(
            token.span.start,
            "SQL text",
            format_args!("{MAX_TOKENS} words"),
        )),
        None => Ok(tokens),
    }
}

fn is_space(token: &TokenWithSpan) -> bool {
    matches!(token.token, Token::Whitespace(_))
}

/// Right after the last word.
fn end_of(tokens: &[TokenWithSpan]) -> Location {
    let last = tokens
        .iter()
        .rev()
        .find(|t| !is_space(t) && t.token != Token::EOF);
    last.map_or(START, |token| token.span.end)
}

/// Said before parsing, so that `DROP TABLE x` is told that it is no rule rather than how to drop
/// tables properly.
fn check_is_one_select(tokens: &[TokenWithSpan], end: Location) -> Result<(), Fault> {
    let mut visible = tokens
        .iter()
        .filter(|t| !is_space(t) && t.token != Token::EOF);
    match visible.next() {
        None => return Err(not_one_select(end, "found nothing")),
        Some(first) => match &first.token {
            Token::Word(word) if word.keyword == Keyword::SELECT => {}
            Token::Word(word) if word.keyword == Keyword::WITH => {
                return Err(Fault::unsupported(first.span.start, "WITH"));
            }
            Token::LParen => {
                return Err(Fault::unsupported(
                    first.span.start,
                    "a statement in parentheses",
                ));
            }
            other => {
                return Err(not_one_select(first.span.start, &format!("found {other}")));
            }
        },
    }
    let mut after = visible
        .skip_while(|token| token.token != Token::SemiColon)
        .skip(1);
    match after.find(|token| token.token != Token::SemiColon) {
        Some(second) => Err(not_one_select(
            second.span.start,
            "a second statement begins here",
        )),
        None => Ok(()),
    }
}

fn not_one_select(at: Location, found: &str) -> Fault {
    Fault::new(at, ErrorKind::NotOneSelect(found.to_owned()))
}

fn fault(error: ParserError, end: Location) -> Fault {
    match error {
        ParserError::RecursionLimitExceeded => {
            Fault::limit(START, "nesting", format_args!("{MAX_NESTING} levels"))
        }
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => {
            let (message, at) = split_place(&text).unwrap_or((text.as_str(), end));
            Fault::new(at, ErrorKind::Syntax(in_our_words(message)))
        }
    }
}

/// `message at Line: 1, Column: 2`; at the end of input the parser gives no place.
fn split_place(text: &str) -> Option<(&str, Location)> {
    let (message, place) = text.rsplit_once(" at Line: ")?;
    let (line, column) = place.split_once(", Column: ")?;
    Some((
        message,
        Location {
            line: line.parse().ok()?,
            column: column.parse().ok()?,
        },
    ))
}

fn in_our_words(message: &str) -> String {
    let message = message
        .replace("Expected: ", "expected ")
        .replace("EOF", "the end");
    let message = message.replace(", found: ", ", found ");
    let mut chars = message.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => message,
    }
}
