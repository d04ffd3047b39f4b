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
/// Levels of these that every statement takes.
const OF_STATEMENT: usize = 4;

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
    if let Some(token) = visible.nth(MAX_TOKENS) {
        let limit = format_args!("{MAX_TOKENS} words");
        return Err(Fault::limit(token.span.start, "SQL text", limit));
    }
    match too_deep(&tokens) {
        Some(at) => Err(nesting(at)),
        None => Ok(tokens),
    }
}

/// Where the parser would give up. It is asked before it tries, since it then takes another way and
/// says that `NOT` or `WHEN` is not expected.
fn too_deep(tokens: &[TokenWithSpan]) -> Option<Location> {
    let (mut open, mut nots) = (0_usize, 0);
    let visible = tokens.iter().filter(|token| !is_space(token));
    for token in visible {
        let keyword = match &token.token {
            Token::Word(word) => word.keyword,
            _ => Keyword::NoKeyword,
        };
        nots = if keyword == Keyword::NOT { nots + 1 } else { 0 };
        match (&token.token, keyword) {
            (Token::LParen, _) => open += 1,
            (Token::RParen, _) => open = open.saturating_sub(1),
            // It takes the parser so much stack.
            (_, Keyword::CASE) => open += 2,
            (_, Keyword::END) => open = open.saturating_sub(2),
            _ => {}
        }
        if open + nots > MAX_NESTING - OF_STATEMENT {
            return Some(token.span.start);
        }
    }
    None
}

fn nesting(at: Location) -> Fault {
    Fault::limit(at, "nesting", format_args!("{MAX_NESTING} levels"))
}

/// Where the first of the words that are all capitals stands outside of parentheses.
pub(super) fn place_of(words: &str, sql: &str) -> Option<Location> {
    let tokens = tokenize(sql).ok()?;
    let mut open = 0_usize;
    tokens.iter().find_map(|token| {
        match &token.token {
            Token::LParen => open += 1,
            Token::RParen => open = open.saturating_sub(1),
            Token::Word(word) if open == 0 && word.quote_style.is_none() => {
                let is_meant = |wanted: &str| word.value.to_ascii_uppercase() == wanted;
                return words.split(' ').any(is_meant).then_some(token.span.start);
            }
            _ => {}
        }
        None
    })
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
        ParserError::RecursionLimitExceeded => nesting(START),
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
