//! The functions that rules may call; all others are refused.

use sqlparser::ast::{
    Expr, Function as Call, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments,
    ObjectNamePart, Value,
};
use sqlparser::tokenizer::Location;

use crate::catalog::Type;
use crate::error::ErrorKind;
use crate::ir::{Function, Pattern, Predicate, Relation, Scalar};
use crate::like::Like;
use crate::nearest::nearest;
use crate::sql::Fault;
use crate::sql::aggregate::is_aggregate;
use crate::sql::condition::{like_pattern, regex_pattern};
use crate::sql::glob::glob_pattern;
use crate::sql::scalar::Scalars;

/// A function as the documentation shows it.
#[derive(Debug, Clone, Copy)]
pub struct FunctionDoc {
    /// Name.
    pub name: &'static str,
    /// How it is called.
    pub usage: &'static str,
    /// What it gives.
    pub doc: &'static str,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Value(Function),
    Relation(Relation),
    Regexp,
    AnyLike {
        ignore_case: bool,
    },
    AnyRegexp,
    Glob,
    AnyGlob,
    /// Its arguments stand the other way round.
    PartPosition,
}

const fn function(
    name: &'static str,
    kind: Kind,
    usage: &'static str,
    doc: &'static str,
) -> FunctionDoc {
    FunctionDoc {
        name,
        usage,
        doc,
        kind,
    }
}

/// Every function, in the order of the documentation.
#[rustfmt::skip]
pub static FUNCTIONS: &[FunctionDoc] = &[
    function("lower", Kind::Value(Function::Lower), "lower(text)", "text in lower case"),
    function("upper", Kind::Value(Function::Upper), "upper(text)", "text in upper case"),
    function("length", Kind::Value(Function::Length), "length(text)", "number of characters"),
    function("octet_length", Kind::Value(Function::OctetLength), "octet_length(text)", "number of bytes"),
    function("basename", Kind::Value(Function::Basename), "basename(path)", "part after the last `/`"),
    function("dirname", Kind::Value(Function::Dirname), "dirname(path)", "part before the last `/`"),
    function("cardinality", Kind::Value(Function::Cardinality), "cardinality(array)", "number of elements"),
    function("array_length", Kind::Value(Function::Cardinality), "array_length(array)", "the same"),
    function("coalesce", Kind::Value(Function::Coalesce), "coalesce(value, …)", "the first value that is not `NULL`"),
    function("substr", Kind::Value(Function::Substring), "substr(text, from [, count])", "characters from number `from` on, the first being 1; also `substring(text FROM … FOR …)`"),
    function("position", Kind::Value(Function::Position), "position(part IN text)", "number of the character at which `part` begins; 0 where it does not occur"),
    function("strpos", Kind::PartPosition, "strpos(text, part)", "the same"),
    function("instr", Kind::PartPosition, "instr(text, part)", "the same"),
    function("replace", Kind::Value(Function::Replace), "replace(text, part, by)", "text with `by` in place of every `part`"),
    function("trim", Kind::Value(BOTH_ENDS), "trim([BOTH\\|LEADING\\|TRAILING] [characters FROM] text)", "text without these characters at its ends; without spaces if none are given"),
    function("btrim", Kind::Value(BOTH_ENDS), "btrim(text [, characters])", "the same"),
    function("ltrim", Kind::Value(Function::Trim { start: true, end: false }), "ltrim(text [, characters])", "the same, at its start"),
    function("rtrim", Kind::Value(Function::Trim { start: false, end: true }), "rtrim(text [, characters])", "the same, at its end"),
    function("split_part", Kind::Value(Function::SplitPart), "split_part(text, separator, number)", "part of that number, the first being 1 and the last -1; empty where there is none"),
    function("concat", Kind::Value(Function::Concat), "concat(text, …)", "texts one after the other; `NULL` is nothing. With `\\|\\|` it is `NULL`"),
    function("starts_with", Kind::Relation(Relation::StartsWith), "starts_with(text, part)", "`text` begins with `part`"),
    function("ends_with", Kind::Relation(Relation::EndsWith), "ends_with(text, part)", "`text` ends with `part`"),
    function("contains", Kind::Relation(Relation::Contains), "contains(text, part)", "`part` occurs in `text`"),
    function("regexp_like", Kind::Regexp, "regexp_like(text, 'pattern' [, 'i'])", "the pattern occurs in `text`; `i` ignores case"),
    function("glob", Kind::Glob, "glob(text, 'pattern')", "as `text GLOB 'pattern'`"),
    function("any_like", Kind::AnyLike { ignore_case: false }, "any_like(array, 'pattern')", "one element is `LIKE` the pattern"),
    function("any_ilike", Kind::AnyLike { ignore_case: true }, "any_ilike(array, 'pattern')", "one element is `ILIKE` the pattern"),
    function("any_regexp_like", Kind::AnyRegexp, "any_regexp_like(array, 'pattern' [, 'i'])", "the pattern occurs in one element"),
    function("any_glob", Kind::AnyGlob, "any_glob(array, 'pattern')", "one element is `GLOB` the pattern"),
];

const BOTH_ENDS: Function = Function::Trim {
    start: true,
    end: true,
};

/// A call whose result is a value.
pub(super) fn scalar(
    scalars: Scalars<'_>,
    call: &Call,
    expr: &Expr,
    at: Location,
    depth: usize,
) -> Result<Scalar, Fault> {
    let (doc, arguments) = resolve(call, at)?;
    let function = match doc.kind {
        Kind::Value(function) => function,
        Kind::PartPosition => Function::Position,
        _ => return scalars.condition(expr, at),
    };
    let mut arguments = arguments
        .into_iter()
        .map(|argument| scalars.at_depth(argument, at, depth + 1))
        .collect::<Result<Vec<_>, _>>()?;
    if doc.kind == Kind::PartPosition {
        arguments.reverse();
    }
    value(function, arguments).ok_or_else(|| misuse(doc, at))
}

/// A function of values; `None` if they do not fit it.
pub(super) fn value(function: Function, mut arguments: Vec<Scalar>) -> Option<Scalar> {
    use Type::{Int, List, Text};
    if matches!(function, Function::Trim { .. }) && arguments.len() == 1 {
        arguments.push(Scalar::Text((*b" ").into()));
    }
    let types: Vec<Type> = arguments.iter().map(Scalar::ty).collect();
    let fits = match function {
        Function::Coalesce => types.len() >= 2 && types.iter().all(|ty| *ty == types[0]),
        Function::Cardinality => types == [List] || types == [Type::IntList],
        Function::Substring => types == [Text, Int] || types == [Text, Int, Int],
        Function::Position | Function::Trim { .. } => types == [Text, Text],
        Function::Replace => types == [Text, Text, Text],
        Function::SplitPart => types == [Text, Text, Int],
        Function::Concat => types.len() >= 2 && types.iter().all(|ty| *ty == Text),
        _ => types == [Text],
    };
    if function == Function::Concat {
        let or_nothing =
            |value| Scalar::Call(Function::Coalesce, vec![value, Scalar::Text([].into())]);
        arguments = arguments.into_iter().map(or_nothing).collect();
    }
    fits.then_some(Scalar::Call(function, arguments))
}

/// A call that is a condition; `None` if it is one that gives a value.
pub(super) fn condition(
    scalars: Scalars<'_>,
    call: &Call,
    at: Location,
) -> Result<Option<Predicate>, Fault> {
    let (doc, arguments) = resolve(call, at)?;
    let (subject, rest) = match (doc.kind, arguments.split_first()) {
        (Kind::Value(_) | Kind::PartPosition, _) => return Ok(None),
        (_, Some((subject, rest))) => (scalars.compile(subject, at)?, rest),
        (_, None) => return Err(misuse(doc, at)),
    };
    let wanted = match doc.kind {
        Kind::AnyLike { .. } | Kind::AnyRegexp | Kind::AnyGlob => Type::List,
        _ => Type::Text,
    };
    if subject.ty() != wanted {
        return Err(misuse(doc, at));
    }
    let predicate = match (doc.kind, rest) {
        (Kind::Relation(relation), [part]) => {
            let part = scalars.compile(part, at)?;
            if part.ty() != Type::Text {
                return Err(misuse(doc, at));
            }
            relate(subject, relation, part)
        }
        (Kind::AnyLike { ignore_case }, [pattern]) => {
            let pattern = text_literal(pattern).ok_or_else(|| misuse(doc, at))?;
            let pattern = like_pattern(pattern, None, ignore_case, at)?;
            Predicate::AnyMatches(subject, pattern)
        }
        (Kind::Glob | Kind::AnyGlob, [pattern]) => {
            let pattern = text_literal(pattern).ok_or_else(|| misuse(doc, at))?;
            let pattern = glob_pattern(pattern, at)?;
            match doc.kind {
                Kind::AnyGlob => Predicate::AnyMatches(subject, pattern),
                _ => Predicate::Matches(subject, pattern),
            }
        }
        (Kind::Regexp | Kind::AnyRegexp, [pattern, flags @ ..]) => {
            let pattern = text_literal(pattern).ok_or_else(|| misuse(doc, at))?;
            let ignore_case = match flags {
                [] => false,
                [flag] if text_literal(flag) == Some("i") => true,
                _ => return Err(misuse(doc, at)),
            };
            let pattern = regex_pattern(pattern, ignore_case, at)?;
            match doc.kind {
                Kind::AnyRegexp => Predicate::AnyMatches(subject, pattern),
                _ => Predicate::Matches(subject, pattern),
            }
        }
        _ => return Err(misuse(doc, at)),
    };
    Ok(Some(predicate))
}

/// Searching for a literal is a pattern, which the index can use.
fn relate(text: Scalar, relation: Relation, part: Scalar) -> Predicate {
    let literal = match &part {
        Scalar::Text(bytes) => std::str::from_utf8(bytes).ok(),
        _ => None,
    };
    let like = literal.map(|literal| match relation {
        Relation::Contains => Like::literal(literal, true, true),
        Relation::StartsWith => Like::literal(literal, false, true),
        Relation::EndsWith => Like::literal(literal, true, false),
    });
    match like {
        Some(like) => Predicate::Matches(text, Pattern::Like(like)),
        None => Predicate::Relation(text, relation, part),
    }
}

/// The text of a string literal.
pub(super) fn text_literal(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

/// For a function that has a syntax of its own.
pub(super) fn wrong_arguments(function: Function, at: Location) -> Fault {
    let is = |doc: &&FunctionDoc| match (doc.kind, function) {
        (Kind::Value(Function::Trim { .. }), Function::Trim { .. }) => true,
        (kind, function) => kind == Kind::Value(function),
    };
    match FUNCTIONS.iter().find(is) {
        Some(doc) => misuse(doc, at),
        None => Fault::ty(at, "wrong arguments"),
    }
}

fn misuse(doc: &FunctionDoc, at: Location) -> Fault {
    Fault::ty(at, format!("wrong arguments; usage: {}", doc.usage))
}

/// The name of the function that is called; names are case-insensitive.
pub(super) fn call_name(call: &Call) -> String {
    match call.name.0.as_slice() {
        [ObjectNamePart::Identifier(ident)] => ident.value.to_lowercase(),
        _ => call.name.to_string().to_lowercase(),
    }
}

/// The arguments of a call that has nothing else to it.
pub(super) fn plain_arguments(call: &Call) -> Option<Vec<&Expr>> {
    let Call {
        name: _,
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args:
            FunctionArguments::List(FunctionArgumentList {
                duplicate_treatment: None,
                args,
                clauses,
            }),
        within_group,
        filter: None,
        null_treatment: None,
        over: None,
    } = call
    else {
        return None;
    };
    let arguments = args.iter().map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    });
    let arguments = arguments.collect::<Option<Vec<_>>>()?;
    (clauses.is_empty() && within_group.is_empty()).then_some(arguments)
}

/// The function and its plain arguments; every other part of a call is refused.
fn resolve(call: &Call, at: Location) -> Result<(&'static FunctionDoc, Vec<&Expr>), Fault> {
    let Call {
        name: _,
        uses_odbc_syntax,
        parameters,
        args,
        within_group,
        filter,
        null_treatment,
        over,
    } = call;
    let text = call_name(call);
    if is_aggregate(&text) {
        let message = format!(
            "{text}() is for SELECT and HAVING of a rule with GROUP BY and a window, such as \
             TUMBLE(event.time, INTERVAL '1' MINUTE)"
        );
        return Err(Fault::ty(at, message));
    }
    let Some(doc) = FUNCTIONS.iter().find(|doc| doc.name == text) else {
        let nearest = nearest(&text, FUNCTIONS.iter().map(|doc| doc.name)).map(str::to_owned);
        return Err(Fault::new(
            at,
            ErrorKind::Unknown {
                what: "function",
                name: text,
                nearest,
            },
        ));
    };
    let plain = !uses_odbc_syntax
        && *parameters == FunctionArguments::None
        && within_group.is_empty()
        && filter.is_none()
        && null_treatment.is_none()
        && over.is_none();
    let FunctionArguments::List(FunctionArgumentList {
        duplicate_treatment,
        args,
        clauses,
    }) = args
    else {
        return Err(misuse(doc, at));
    };
    if !plain || duplicate_treatment.is_some() || !clauses.is_empty() {
        return Err(Fault::unsupported(
            at,
            format!("a clause in the call of {text}()"),
        ));
    }
    let arguments = args.iter().map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Ok(expr),
        _ => Err(misuse(doc, at)),
    });
    Ok((doc, arguments.collect::<Result<_, _>>()?))
}
