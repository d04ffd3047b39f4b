//! Conditions as SQL text, for people and for conversion.

use crate::catalog::Column;
use crate::ir::{Comparison, Function, Pattern, Predicate, Relation, Scalar};
use crate::like::{Like, Token};
use crate::text::escape;

/// A condition as text, and what of it SQL rules have no words for.
#[derive(Debug, Default)]
pub(crate) struct SqlText {
    pub(crate) text: String,
    /// In order, each once.
    pub(crate) inexpressible: Vec<&'static str>,
}

pub(crate) fn condition(predicate: &Predicate) -> SqlText {
    let mut out = SqlText::default();
    out.predicate(predicate);
    out
}

pub(crate) fn value(scalar: &Scalar) -> SqlText {
    let mut out = SqlText::default();
    out.scalar(scalar);
    out
}

impl SqlText {
    fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn lacks(&mut self, what: &'static str) {
        if !self.inexpressible.contains(&what) {
            self.inexpressible.push(what);
        }
    }

    fn predicate(&mut self, predicate: &Predicate) {
        match predicate {
            Predicate::And(parts) => self.joined(parts, " AND ", "TRUE"),
            Predicate::Or(parts) => self.joined(parts, " OR ", "FALSE"),
            Predicate::Not(inner) => match &**inner {
                Predicate::IsNull(value) => {
                    self.scalar(value);
                    self.push(" IS NOT NULL");
                }
                Predicate::Is(inner, Some(true)) => {
                    self.part(inner);
                    self.push(" IS NOT TRUE");
                }
                inner => {
                    self.push("NOT ");
                    self.part(inner);
                }
            },
            Predicate::Is(inner, truth) => {
                self.part(inner);
                self.push(match truth {
                    Some(true) => " IS TRUE",
                    Some(false) => " IS FALSE",
                    None => " IS UNKNOWN",
                });
            }
            Predicate::Truth(value) => {
                if matches!(value, Scalar::Bool(_)) {
                    self.lacks("a field that no event has");
                }
                self.scalar(value);
            }
            leaf => self.leaf(leaf),
        }
    }

    fn leaf(&mut self, leaf: &Predicate) {
        match leaf {
            Predicate::IsNull(value) => {
                self.scalar(value);
                self.push(" IS NULL");
            }
            Predicate::Compare(left, comparison, right) => {
                self.scalar(left);
                self.push(operator(*comparison));
                self.scalar(right);
            }
            Predicate::TextIn(value, texts) => {
                self.scalar(value);
                let texts: Vec<String> = texts.iter().map(|text| quoted_bytes(text)).collect();
                self.push(&format!(" IN ({})", texts.join(", ")));
            }
            Predicate::IntIn(value, numbers) => {
                self.scalar(value);
                let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
                self.push(&format!(" IN ({})", numbers.join(", ")));
            }
            Predicate::Matches(value, pattern) => {
                self.scalar(value);
                self.pattern(pattern);
            }
            Predicate::AnyMatches(array, pattern) => self.any_matches(array, pattern),
            Predicate::AnyEquals(array, value) => {
                self.scalar(value);
                self.push(" = ANY(");
                self.scalar(array);
                self.push(")");
            }
            Predicate::Relation(left, relation, right) => {
                self.push(match relation {
                    Relation::Contains => "contains(",
                    Relation::StartsWith => "starts_with(",
                    Relation::EndsWith => "ends_with(",
                });
                self.scalar(left);
                self.push(", ");
                self.scalar(right);
                self.push(")");
            }
            Predicate::InNetwork(value, network) => {
                self.lacks("a network (`cidr`)");
                self.scalar(value);
                self.push(&format!(" IN NETWORK {}/{}", network.address, network.bits));
            }
            other => self.predicate(other),
        }
    }

    fn joined(&mut self, parts: &[Predicate], word: &str, none: &str) {
        if parts.is_empty() {
            self.push(none);
        }
        for (position, part) in parts.iter().enumerate() {
            if position > 0 {
                self.push(word);
            }
            self.part(part);
        }
    }

    /// In parentheses where it is made of parts.
    fn part(&mut self, predicate: &Predicate) {
        let simple = match predicate {
            Predicate::And(parts) | Predicate::Or(parts) => parts.len() == 1,
            Predicate::Not(_) | Predicate::Is(..) => false,
            Predicate::Matches(_, Pattern::Like(like)) => !needs_escape(like),
            _ => true,
        };
        if simple {
            return self.predicate(predicate);
        }
        self.push("(");
        self.predicate(predicate);
        self.push(")");
    }

    fn pattern(&mut self, pattern: &Pattern) {
        match pattern {
            Pattern::Like(like) => {
                let word = if like.ignore_case() { "ILIKE" } else { "LIKE" };
                self.push(&format!(" {word} {}", like_text(like)));
            }
            Pattern::Regex(regex) => self.push(&format!(" ~ {}", quoted(regex.as_str()))),
            Pattern::Chars(regex) => {
                self.push(&format!(" ~ {}", quoted(&of_chars(regex.as_str()))));
            }
        }
    }

    fn any_matches(&mut self, array: &Scalar, pattern: &Pattern) {
        let (name, text) = match pattern {
            Pattern::Like(like) if like.ignore_case() => ("any_ilike", like_text(like)),
            Pattern::Like(like) => ("any_like", like_text(like)),
            Pattern::Regex(regex) => ("any_regexp_like", quoted(regex.as_str())),
            Pattern::Chars(regex) => ("any_regexp_like", quoted(&of_chars(regex.as_str()))),
        };
        self.push(&format!("{name}("));
        self.scalar(array);
        self.push(&format!(", {text})"));
    }

    fn scalar(&mut self, scalar: &Scalar) {
        match scalar {
            Scalar::Field(field) => self.push(Column::of(*field).name),
            Scalar::Text(text) => self.push(&quoted_bytes(text)),
            Scalar::Int(number) => self.push(&number.to_string()),
            Scalar::Bool(truth) => self.push(if *truth { "TRUE" } else { "FALSE" }),
            Scalar::Element(array, position) => {
                self.scalar(array);
                self.push(&format!("[{position}]"));
            }
            Scalar::Case(branches, otherwise) => self.case(branches, otherwise.as_deref()),
            Scalar::Condition(condition) => self.part(condition),
            Scalar::Call(function, arguments) => self.call(*function, arguments),
        }
    }

    fn call(&mut self, function: Function, arguments: &[Scalar]) {
        match (function, arguments) {
            (Function::Fold, arguments) => {
                self.push("lower(upper(");
                self.arguments(arguments, ", ");
                self.push("))");
            }
            (Function::Account, [name, id]) => {
                self.push("coalesce(");
                self.scalar(name);
                self.push(", CASE WHEN ");
                self.scalar(id);
                self.push(" = 0 THEN 'root' END)");
            }
            (Function::Hour | Function::Minute, arguments) => {
                self.push("(");
                self.arguments(arguments, "");
                self.push(match function {
                    Function::Hour => " / 3600000000000 % 24)",
                    _ => " / 60000000000 % 60)",
                });
            }
            (function, arguments) => match infix(function) {
                Some(operator) => {
                    self.push("(");
                    self.arguments(arguments, operator);
                    self.push(")");
                }
                None => {
                    let (name, lacking) = function_name(function);
                    lacking.into_iter().for_each(|what| self.lacks(what));
                    self.push(&format!("{name}("));
                    let between = match function {
                        Function::Position => " IN ",
                        _ => ", ",
                    };
                    self.arguments(arguments, between);
                    self.push(")");
                }
            },
        }
    }

    fn case(&mut self, branches: &[(Predicate, Option<Scalar>)], otherwise: Option<&Scalar>) {
        self.push("CASE");
        let value = |out: &mut Self, value: Option<&Scalar>| match value {
            Some(value) => out.scalar(value),
            None => out.push("NULL"),
        };
        for (condition, result) in branches {
            self.push(" WHEN ");
            self.predicate(condition);
            self.push(" THEN ");
            value(self, result.as_ref());
        }
        if otherwise.is_some() {
            self.push(" ELSE ");
            value(self, otherwise);
        }
        self.push(" END");
    }

    fn arguments(&mut self, arguments: &[Scalar], between: &str) {
        for (position, argument) in arguments.iter().enumerate() {
            if position > 0 {
                self.push(between);
            }
            self.scalar(argument);
        }
    }
}

/// What a function is called, and what there is no such function for in SQL rules.
fn function_name(function: Function) -> (&'static str, Option<&'static str>) {
    const TIME: Option<&str> = Some("parts of a time");
    const NUMBER: Option<&str> = Some("a number that is compared as text");
    match function {
        Function::Lower => ("lower", None),
        Function::Upper => ("upper", None),
        Function::Length => ("length", None),
        Function::OctetLength => ("octet_length", None),
        Function::Basename => ("basename", None),
        Function::Dirname => ("dirname", None),
        Function::Cardinality => ("cardinality", None),
        Function::Coalesce => ("coalesce", None),
        Function::Fold => ("fold", None),
        Function::Decimal => ("decimal", NUMBER),
        Function::Hexadecimal => ("hexadecimal", NUMBER),
        Function::Number => ("number", Some("a text that is compared as a number")),
        Function::Account => ("account", Some("a user id that is compared by name")),
        Function::Substring => ("substr", None),
        Function::Position => ("position", None),
        Function::Replace => ("replace", None),
        Function::Concat => ("concat", None),
        Function::SplitPart => ("split_part", None),
        Function::Trim {
            start: true,
            end: false,
        } => ("ltrim", None),
        Function::Trim {
            start: false,
            end: true,
        } => ("rtrim", None),
        Function::Trim { .. } => ("btrim", None),
        // They stand between their operands.
        Function::Add
        | Function::Subtract
        | Function::Multiply
        | Function::Divide
        | Function::Remainder
        | Function::BitAnd
        | Function::BitOr
        | Function::ShiftLeft
        | Function::ShiftRight => ("", None),
        Function::UtcTime => ("utc_time", TIME),
        Function::Minute => ("minute", None),
        Function::Hour => ("hour", None),
        Function::Day => ("day", TIME),
        Function::Week => ("week", TIME),
        Function::Month => ("month", TIME),
        Function::Year => ("year", TIME),
    }
}

fn infix(function: Function) -> Option<&'static str> {
    Some(match function {
        Function::Add => " + ",
        Function::Subtract => " - ",
        Function::Multiply => " * ",
        Function::Divide => " / ",
        Function::Remainder => " % ",
        Function::BitAnd => " & ",
        Function::BitOr => " | ",
        Function::ShiftLeft => " << ",
        Function::ShiftRight => " >> ",
        _ => return None,
    })
}

fn operator(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Equal => " = ",
        Comparison::NotEqual => " <> ",
        Comparison::Less => " < ",
        Comparison::LessOrEqual => " <= ",
        Comparison::Greater => " > ",
        Comparison::GreaterOrEqual => " >= ",
    }
}

/// SQL's patterns are on bytes, and `.` is any of them.
fn of_chars(pattern: &str) -> String {
    format!("(?u-s){pattern}")
}

fn needs_escape(like: &Like) -> bool {
    like.tokens()
        .iter()
        .any(|token| matches!(token, Token::Char('%' | '_')))
}

fn like_text(like: &Like) -> String {
    let escaped = needs_escape(like);
    let mut text = String::new();
    for token in like.tokens() {
        match token {
            Token::Many => text.push('%'),
            Token::One => text.push('_'),
            Token::Char(c @ ('%' | '_' | '!')) if escaped => text.extend(['!', *c]),
            Token::Char(c) => text.push(*c),
        }
    }
    let escape = if escaped { " ESCAPE '!'" } else { "" };
    format!("{}{escape}", quoted(&text))
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn quoted_bytes(text: &[u8]) -> String {
    match std::str::from_utf8(text) {
        Ok(text) => quoted(text),
        Err(_) => quoted(&escape(text)),
    }
}
