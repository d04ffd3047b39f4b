//! Forms that the parser's dialect does not have, in forms that it has. Every word keeps its place.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::sql::glob::{GLOB, NOT_GLOB};

/// `GLOB` becomes an operator, and `IN LIST('name')` the same as `IN (LIST('name'))`.
pub(super) fn rewrite(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut tokens = tokens.into_iter().peekable();
    while let Some(mut token) = tokens.next() {
        let before = out.iter().rposition(|other| !is_space(other));
        let after_in = before.is_some_and(|at| is_keyword(&out[at], Keyword::IN));
        if is_word(&token, "GLOB")
            && tokens
                .peek()
                .is_some_and(|next| next.token != Token::LParen)
        {
            let not = before.filter(|at| is_keyword(&out[*at], Keyword::NOT));
            let operator = if not.is_some() { NOT_GLOB } else { GLOB };
            if let Some(at) = not {
                out.truncate(at);
            }
            token.token = Token::CustomBinaryOperator(operator.to_owned());
        } else if after_in && is_word(&token, "LIST") {
            let open = TokenWithSpan {
                token: Token::LParen,
                span: token.span,
            };
            out.extend([open, token]);
            for next in tokens.by_ref() {
                let span = next.span;
                let closes = next.token == Token::RParen;
                out.push(next);
                if closes {
                    let token = Token::RParen;
                    out.push(TokenWithSpan { token, span });
                    break;
                }
            }
            continue;
        }
        out.push(token);
    }
    out
}

fn is_space(token: &TokenWithSpan) -> bool {
    matches!(token.token, Token::Whitespace(_))
}

fn is_keyword(token: &TokenWithSpan, keyword: Keyword) -> bool {
    matches!(&token.token, Token::Word(word) if word.keyword == keyword)
}

fn is_word(token: &TokenWithSpan, text: &str) -> bool {
    matches!(&token.token, Token::Word(word)
        if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(text))
}
