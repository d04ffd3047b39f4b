//! One key of a detection with its values, as a condition.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::catalog::{Field, Type};
use crate::error::{ErrorKind, Place};
use crate::eval;
use crate::ir::{Comparison, Function, Network, Pattern, Predicate, Relation, Scalar};
use crate::sigma::encode;
use crate::sigma::expr::Expr;
use crate::sigma::logsource::{Logsource, Meaning, Os};
use crate::sigma::modifier::{Modifier, Target};
use crate::sigma::node::{Node, Yaml};
use crate::sigma::pcre;
use crate::sigma::value::{DASHES, Text};

/// Comparisons in one rule.
const MAX_COMPARISONS: usize = 20_000;
/// Flags of a value that `windash` writes out in all forms.
const MAX_DASHES: usize = 3;

/// Lists that placeholders stand for, by name.
pub(crate) type Lists = BTreeMap<String, Vec<String>>;

pub(crate) type Found = (Place, ErrorKind);

/// What the keys of one rule are compiled with.
pub(crate) struct Items<'a> {
    pub(crate) source: Logsource,
    pub(crate) host: Option<Os>,
    pub(crate) lists: &'a Lists,
    comparisons: Cell<usize>,
    /// Fields that are not produced, with what was probably meant.
    pub(crate) unknown: RefCell<Vec<(Place, String)>>,
}

/// A value after the modifiers.
#[derive(Debug, Clone)]
enum Value {
    Null,
    Exists(bool),
    Text(Text),
    /// Bytes of another encoding, for `base64` to take.
    Bytes(Vec<u8>),
    /// A whole number, and how it is written.
    Number(i128, String),
    /// Another one, and how it is written.
    Fraction(f64, String),
    Compare(Comparison, i128),
    Regex(String),
    Network(Network),
    Reference(String),
}

/// What else the modifiers said.
#[derive(Debug, Default)]
struct Manner {
    all: bool,
    negated: bool,
    cased: bool,
    open_start: bool,
    open_end: bool,
    flags: Vec<char>,
    part: Option<Function>,
    compare: Option<Comparison>,
}

fn wrong(problem: impl Into<String>) -> ErrorKind {
    ErrorKind::Detection(problem.into())
}

impl<'a> Items<'a> {
    pub(crate) fn new(source: Logsource, host: Option<Os>, lists: &'a Lists) -> Self {
        Self {
            source,
            host,
            lists,
            comparisons: Cell::new(0),
            unknown: RefCell::default(),
        }
    }

    /// The condition of one key; a list of values means any of them.
    pub(crate) fn compile(&self, target: &Target, values: &Node) -> Result<Expr, Found> {
        if values.items().is_empty() {
            return Err((values.at, wrong("an empty list matches nothing")));
        }
        let mut manner = Manner::default();
        let mut parts = Vec::new();
        for node in values.items() {
            let (value, of_value) = self.modified(target, node)?;
            manner = of_value;
            let alternatives = value.iter().map(|value| {
                self.count(target.at)?;
                self.leaf(target, value, &manner)
                    .map_err(|kind| (node.at, kind))
            });
            parts.push(Expr::any(alternatives.collect::<Result<_, _>>()?));
        }
        let linked = if manner.all {
            Expr::all(parts)
        } else {
            Expr::any(parts)
        };
        Ok(if manner.negated { linked.not() } else { linked })
    }

    fn count(&self, at: Place) -> Result<(), Found> {
        self.comparisons.set(self.comparisons.get() + 1);
        if self.comparisons.get() <= MAX_COMPARISONS {
            return Ok(());
        }
        let kind = ErrorKind::Limit {
            what: "number of comparisons",
            limit: format!("{MAX_COMPARISONS} in a rule"),
        };
        Err((at, kind))
    }

    /// The value as its modifiers make it: one or several alternatives.
    fn modified(&self, target: &Target, node: &Node) -> Result<(Vec<Value>, Manner), Found> {
        let mut values = vec![Value::read(node, target).map_err(|kind| (node.at, kind))?];
        let mut manner = Manner::default();
        // How values are linked and whether the whole is negated changes no value.
        let mut first = true;
        for modifier in &target.modifiers {
            let mut next = Vec::new();
            for value in values {
                let changed = self.modify(value, *modifier, first, &mut manner);
                next.extend(changed.map_err(|kind| (node.at, kind))?);
            }
            values = next;
            first &= matches!(modifier, Modifier::All | Modifier::Negated);
        }
        Ok((values, manner))
    }

    fn modify(
        &self,
        value: Value,
        modifier: Modifier,
        first: bool,
        manner: &mut Manner,
    ) -> Result<Vec<Value>, ErrorKind> {
        let refused = |value: &Value| {
            wrong(format!(
                "modifier `{}` does not go with {}",
                modifier.name(),
                value.kind()
            ))
        };
        let one = |value| Ok(vec![value]);
        match (modifier, value) {
            (Modifier::All, value) => {
                manner.all = true;
                one(value)
            }
            (Modifier::Negated, value) => {
                manner.negated = true;
                one(value)
            }
            (Modifier::Cased, value @ (Value::Text(_) | Value::Reference(_))) => {
                manner.cased = true;
                one(value)
            }
            (Modifier::Contains | Modifier::StartsWith | Modifier::EndsWith, value) => {
                let start = modifier != Modifier::StartsWith;
                let end = modifier != Modifier::EndsWith;
                open(value, start, end, manner).map_or_else(|value| Err(refused(&value)), one)
            }
            (Modifier::Exists, Value::Exists(truth)) if first => one(Value::Exists(truth)),
            (Modifier::Expand, Value::Text(text)) => self.expand(&text.with_placeholders()),
            (Modifier::Expand, Value::Regex(pattern)) => self.expand_regex(&pattern),
            (Modifier::Windash, Value::Text(text)) => windash(&text),
            (Modifier::Utf16Le | Modifier::Utf16Be | Modifier::Utf16, Value::Text(text)) => {
                let text = plain(&text, modifier)?;
                one(Value::Bytes(match modifier {
                    Modifier::Utf16Be => encode::utf16be(&text),
                    Modifier::Utf16 => [b"\xff\xfe", &*encode::utf16le(&text)].concat(),
                    _ => encode::utf16le(&text),
                }))
            }
            (Modifier::Base64 | Modifier::Base64Offset, value) => {
                let bytes = match value {
                    Value::Text(text) => plain(&text, modifier)?.into_bytes(),
                    Value::Bytes(bytes) => bytes,
                    value => return Err(refused(&value)),
                };
                if modifier == Modifier::Base64 {
                    return one(Value::Text(Text::plain(&encode::base64(&bytes))));
                }
                offsets(&bytes)
            }
            (Modifier::Regex, Value::Regex(pattern)) if first => one(Value::Regex(pattern)),
            (Modifier::RegexFlag(flag), Value::Regex(pattern)) => {
                manner.flags.push(flag);
                one(Value::Regex(pattern))
            }
            (Modifier::Cidr, Value::Text(text)) if first => {
                one(Value::Network(network(&plain(&text, modifier)?)?))
            }
            (Modifier::FieldReference, Value::Text(text)) => {
                one(Value::Reference(plain(&text, modifier)?))
            }
            (Modifier::Compare(comparison), value) => {
                manner.compare = Some(comparison);
                match value {
                    Value::Number(number, _) => one(Value::Compare(comparison, number)),
                    Value::Fraction(number, _) if number.is_finite() => {
                        one(between(comparison, number))
                    }
                    value => Err(refused(&value)),
                }
            }
            (Modifier::TimePart(part), value @ (Value::Number(..) | Value::Compare(..))) => {
                manner.part = Some(part);
                one(value)
            }
            (Modifier::Regex | Modifier::Cidr | Modifier::Exists, _) if !first => Err(wrong(
                format!("modifier `{}` must be the first one", modifier.name()),
            )),
            (_, value) => Err(refused(&value)),
        }
    }

    /// The placeholders of a text, each replaced by every value of its list.
    fn expand(&self, text: &Text) -> Result<Vec<Value>, ErrorKind> {
        let mut pending = vec![text.clone()];
        let mut out = Vec::new();
        while let Some(text) = pending.pop() {
            match text.placeholder() {
                Some(name) => {
                    let list = self.list(name)?;
                    let texts = list.iter().rev();
                    pending.extend(texts.map(|by| text.replace_placeholder(&Text::parse(by))));
                }
                None => out.push(Value::Text(text)),
            }
            if out.len() + pending.len() > MAX_COMPARISONS {
                return Err(ErrorKind::Limit {
                    what: "number of values of placeholders",
                    limit: MAX_COMPARISONS.to_string(),
                });
            }
        }
        Ok(out)
    }

    fn expand_regex(&self, pattern: &str) -> Result<Vec<Value>, ErrorKind> {
        let text = Text::plain(pattern).with_placeholders();
        let Some(name) = text.placeholder() else {
            return Ok(vec![Value::Regex(pattern.to_owned())]);
        };
        let list = self.list(name)?;
        let patterns = list.iter().map(|by| {
            let by = Text::plain(&regex_syntax::escape(by));
            let replaced = text.replace_placeholder(&by).as_plain();
            replaced.map(Value::Regex).ok_or_else(|| {
                wrong("a regular expression with more than one placeholder is not supported")
            })
        });
        patterns.collect()
    }

    fn list(&self, name: &str) -> Result<&[String], ErrorKind> {
        let list = self.lists.get(name).filter(|list| !list.is_empty());
        list.map(Vec::as_slice)
            .ok_or_else(|| ErrorKind::NoList(name.to_owned()))
    }

    fn leaf(&self, target: &Target, value: &Value, manner: &Manner) -> Result<Expr, ErrorKind> {
        let Some(name) = &target.field else {
            return self.keyword(value, manner);
        };
        if let Value::Reference(other) = value {
            return self.reference(target.at, name, other, manner);
        }
        let meaning = self.source.meaning(name);
        if meaning == Meaning::Absent {
            // What is wrong with the value is told all the same.
            self.test(Meaning::Text(Field::CommandLine), value, manner)?;
            return Ok(self.absent(target.at, name, value.without_field()));
        }
        let predicate = self.test(meaning, value, manner)?;
        if self.is_given(meaning, value, manner) {
            return Ok(Expr::leaf(predicate));
        }
        Ok(Expr::missing(name, value.without_field(), Some(predicate)))
    }

    /// A leaf on a field that no source here produces.
    fn absent(&self, at: Place, name: &str, truth: bool) -> Expr {
        let meant = self.source.suggestion(name);
        let text = match meant {
            Some(meant) => format!("field `{name}` (did you mean `{meant}`?)"),
            None => format!("field `{name}`"),
        };
        self.unknown.borrow_mut().push((at, text));
        Expr::missing(name, truth, None)
    }

    /// Whether events have what the leaf needs where the rule is to run.
    fn is_given(&self, meaning: Meaning, value: &Value, manner: &Manner) -> bool {
        let Some(field) = meaning.field() else {
            return true;
        };
        if meaning == Meaning::User && self.host == Some(Os::Macos) {
            // Of accounts, only the name of user id 0 is known.
            let root = |like: &Text| like.like(!manner.cased).matches(b"root");
            return match value {
                Value::Text(text) => root(text),
                Value::Regex(pattern) => {
                    pcre::compile(pattern, &manner.flags).is_ok_and(|regex| regex.is_match(b"root"))
                }
                _ => true,
            };
        }
        self.source.gives(self.host, field)
    }

    fn is_unix(&self) -> bool {
        self.source.os.or(self.host) != Some(Os::Windows)
    }

    /// A comparison of one field.
    fn test(
        &self,
        meaning: Meaning,
        value: &Value,
        manner: &Manner,
    ) -> Result<Predicate, ErrorKind> {
        let text = || self.text_of(meaning);
        Ok(match value {
            Value::Null => Predicate::IsNull(self.scalar_of(meaning)),
            Value::Exists(false) => Predicate::IsNull(self.scalar_of(meaning)),
            Value::Exists(true) => {
                Predicate::Not(Box::new(Predicate::IsNull(self.scalar_of(meaning))))
            }
            Value::Text(like) => match (self.number_of(meaning), exact_number(like)) {
                (Some(column), Some(number)) => compare(column, Comparison::Equal, number),
                _ => Predicate::Matches(text(), Pattern::Like(like.like(!manner.cased))),
            },
            Value::Number(..) | Value::Compare(..) if manner.part.is_some() => {
                self.time_part(meaning, value, manner)?
            }
            Value::Number(number, written) => match self.number_of(meaning) {
                Some(column) => compare(column, Comparison::Equal, *number),
                None => {
                    let like = Text::plain(written).like(true);
                    Predicate::Matches(text(), Pattern::Like(like))
                }
            },
            Value::Fraction(_, written) => {
                let like = Text::plain(written).like(true);
                Predicate::Matches(text(), Pattern::Like(like))
            }
            Value::Compare(comparison, number) => {
                let column = self.number_of(meaning);
                let parsed = || Scalar::Call(Function::Number, vec![text()]);
                compare(column.unwrap_or_else(parsed), *comparison, *number)
            }
            Value::Regex(pattern) => {
                let pattern = match (manner.open_start, manner.open_end) {
                    (false, true) => format!("^(?:{pattern})"),
                    (true, false) => format!("(?:{pattern})$"),
                    _ => pattern.clone(),
                };
                let regex = pcre::compile(&pattern, &manner.flags)?;
                Predicate::Matches(text(), Pattern::Chars(regex))
            }
            Value::Network(network) => Predicate::InNetwork(text(), *network),
            Value::Bytes(_) => {
                return Err(wrong(
                    "UTF-16 is what no field holds; it needs `base64` or `base64offset` after it",
                ));
            }
            Value::Reference(_) => return Err(wrong("a field is compared with a field only")),
        })
    }

    fn time_part(
        &self,
        meaning: Meaning,
        value: &Value,
        manner: &Manner,
    ) -> Result<Predicate, ErrorKind> {
        let (Meaning::Time(field), Some(part)) = (meaning, manner.part) else {
            return Err(wrong("parts of a time are those of `UtcTime` only"));
        };
        let part = Scalar::Call(part, vec![Scalar::Field(field)]);
        Ok(match value {
            Value::Compare(comparison, number) => compare(part, *comparison, *number),
            Value::Number(number, _) => compare(part, Comparison::Equal, *number),
            _ => return Err(wrong("a part of a time is a number")),
        })
    }

    /// A value that may be anywhere in the event.
    fn keyword(&self, value: &Value, manner: &Manner) -> Result<Expr, ErrorKind> {
        let value = match value {
            Value::Text(text) => Value::Text(anywhere(text)),
            Value::Number(_, written) | Value::Fraction(_, written) => {
                Value::Text(anywhere(&Text::plain(written)))
            }
            Value::Regex(pattern) => Value::Regex(pattern.clone()),
            value => {
                return Err(wrong(format!("{} needs a field", value.kind())));
            }
        };
        let fields = self.source.text().iter();
        let leaves = fields.map(|field| {
            Ok(Expr::leaf(self.test(
                Meaning::Text(*field),
                &value,
                manner,
            )?))
        });
        Ok(Expr::any(leaves.collect::<Result<_, _>>()?))
    }

    fn reference(
        &self,
        at: Place,
        name: &str,
        other: &str,
        manner: &Manner,
    ) -> Result<Expr, ErrorKind> {
        let (left, right) = (self.source.meaning(name), self.source.meaning(other));
        for (name, meaning) in [(name, left), (other, right)] {
            if meaning == Meaning::Absent {
                return Ok(self.absent(at, name, false));
            }
        }
        let folded = |meaning| {
            let text = self.text_of(meaning);
            if manner.cased {
                return text;
            }
            Scalar::Call(Function::Fold, vec![text])
        };
        let numbers = self.number_of(left).zip(self.number_of(right));
        let predicate = match (relation(manner), numbers) {
            (None, Some((left, right))) => Predicate::Compare(left, Comparison::Equal, right),
            (None, None) => Predicate::Compare(folded(left), Comparison::Equal, folded(right)),
            (Some(relation), _) => Predicate::Relation(folded(left), relation, folded(right)),
        };
        for (name, meaning) in [(name, left), (other, right)] {
            let given = |field| self.source.gives(self.host, field);
            if !meaning.field().is_none_or(given) {
                return Ok(Expr::missing(name, false, Some(predicate)));
            }
        }
        Ok(Expr::leaf(predicate))
    }

    /// The value of a field, where there is such a field.
    pub(crate) fn field(&self, name: &str) -> Option<Scalar> {
        match self.source.meaning(name) {
            Meaning::Absent => None,
            meaning => Some(self.scalar_of(meaning)),
        }
    }

    /// The field as text.
    fn text_of(&self, meaning: Meaning) -> Scalar {
        let call = |function, field| Scalar::Call(function, vec![Scalar::Field(field)]);
        match meaning {
            Meaning::Number(field) => call(Function::Decimal, field),
            Meaning::Hex(field) => call(Function::Hexadecimal, field),
            Meaning::Time(field) => call(Function::UtcTime, field),
            Meaning::Always(number) => Scalar::Text(number.to_string().into_bytes().into()),
            Meaning::Text(_) | Meaning::User | Meaning::Absent => self.scalar_of(meaning),
        }
    }

    /// The field as a number, if it is one.
    fn number_of(&self, meaning: Meaning) -> Option<Scalar> {
        match meaning {
            Meaning::Number(_) | Meaning::Hex(_) | Meaning::Always(_) => {
                Some(self.scalar_of(meaning))
            }
            _ => None,
        }
    }

    fn scalar_of(&self, meaning: Meaning) -> Scalar {
        let column = |field| Scalar::Field(field);
        match meaning {
            Meaning::User if self.is_unix() => {
                let arguments = vec![column(Field::User), column(Field::Euid)];
                Scalar::Call(Function::Account, arguments)
            }
            Meaning::Always(number) => Scalar::Int(number),
            // An absent one is never asked for.
            _ => column(meaning.field().unwrap_or(Field::CommandLine)),
        }
    }
}

impl Value {
    fn read(node: &Node, target: &Target) -> Result<Self, ErrorKind> {
        let wants = |modifier| target.has(modifier);
        let written = || node.number_text().unwrap_or_default();
        Ok(match &node.value {
            _ if wants(Modifier::Exists) => match &node.value {
                Yaml::Bool(truth) => Self::Exists(*truth),
                Yaml::Text(text) if text == "yes" => Self::Exists(true),
                Yaml::Text(text) if text == "no" => Self::Exists(false),
                _ => {
                    return Err(wrong(format!(
                        "`exists` is true or false, not {}",
                        node.kind()
                    )));
                }
            },
            Yaml::Text(text) if wants(Modifier::Regex) => Self::Regex(text.clone()),
            Yaml::Int(_) | Yaml::Float(_) if wants(Modifier::Regex) => Self::Regex(written()),
            Yaml::Text(text) => Self::Text(Text::parse(text)),
            Yaml::Null => Self::Null,
            Yaml::Bool(truth) => Self::Text(Text::plain(if *truth { "true" } else { "false" })),
            Yaml::Int(number) => Self::Number(*number, written()),
            Yaml::Float(number) if is_whole(*number) => Self::Number(whole(*number), written()),
            Yaml::Float(number) => Self::Fraction(*number, written()),
            Yaml::List(_) | Yaml::Map(_) => {
                return Err(wrong(format!("a value is expected, not {}", node.kind())));
            }
        })
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Exists(_) => "`exists`",
            Self::Text(_) => "text",
            Self::Bytes(_) => "UTF-16",
            Self::Number(..) | Self::Fraction(..) => "a number",
            Self::Compare(..) => "a comparison",
            Self::Regex(_) => "a regular expression",
            Self::Network(_) => "a network",
            Self::Reference(_) => "a field",
        }
    }

    /// What a comparison with it is where the field does not exist.
    fn without_field(&self) -> bool {
        matches!(self, Self::Null | Self::Exists(false))
    }
}

/// Lets anything stand before or after; the value itself if that means nothing for it.
fn open(value: Value, start: bool, end: bool, manner: &mut Manner) -> Result<Value, Value> {
    let mut text = match value {
        Value::Text(text) => text,
        Value::Number(_, written) | Value::Fraction(_, written) => Text::plain(&written),
        Value::Regex(_) | Value::Reference(_) => {
            manner.open_start = start;
            manner.open_end = end;
            return Ok(value);
        }
        value => return Err(value),
    };
    if start {
        text.open_start();
    }
    if end {
        text.open_end();
    }
    Ok(Value::Text(text))
}

fn anywhere(text: &Text) -> Text {
    let mut text = text.clone();
    text.open_start();
    text.open_end();
    text
}

fn relation(manner: &Manner) -> Option<Relation> {
    match (manner.open_start, manner.open_end) {
        (true, true) => Some(Relation::Contains),
        (false, true) => Some(Relation::StartsWith),
        (true, false) => Some(Relation::EndsWith),
        (false, false) => None,
    }
}

/// All forms of a text whose flags may begin with any of the dashes.
fn windash(text: &Text) -> Result<Vec<Value>, ErrorKind> {
    let dashes = text.flag_dashes();
    if dashes.len() > MAX_DASHES {
        return Err(ErrorKind::Limit {
            what: "number of flags in a value with `windash`",
            limit: MAX_DASHES.to_string(),
        });
    }
    let mut texts = vec![text.clone()];
    for at in dashes {
        let forms = |text: &Text| DASHES.map(|dash| text.with_char(at, dash));
        texts = texts.iter().flat_map(forms).collect();
    }
    Ok(texts.into_iter().map(Value::Text).collect())
}

fn offsets(bytes: &[u8]) -> Result<Vec<Value>, ErrorKind> {
    let texts = encode::base64_offsets(bytes);
    if texts.iter().any(String::is_empty) {
        return Err(wrong(
            "is too short for `base64offset`: every text contains it",
        ));
    }
    Ok(texts
        .iter()
        .map(|text| Value::Text(Text::plain(text)))
        .collect())
}

fn plain(text: &Text, modifier: Modifier) -> Result<String, ErrorKind> {
    text.as_plain()
        .ok_or_else(|| wrong(format!("modifier `{}` takes no wildcards", modifier.name())))
}

fn network(text: &str) -> Result<Network, ErrorKind> {
    let wrong = || {
        wrong(format!(
            "`{text}` is no network such as 10.0.0.0/8 or fe80::/10"
        ))
    };
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.map_or(Ok(most), |bits| bits.parse().map_err(|_| wrong()))?;
    if bits > most {
        return Err(wrong());
    }
    Ok(Network { address, bits })
}

/// The number that a text without wildcards is.
fn exact_number(text: &Text) -> Option<i128> {
    eval::number(text.as_plain()?.as_bytes())
}

fn compare(column: Scalar, comparison: Comparison, number: i128) -> Predicate {
    debug_assert_eq!(column.ty(), Type::Int);
    Predicate::Compare(column, comparison, Scalar::Int(number))
}

fn is_whole(number: f64) -> bool {
    number.fract() == 0.0 && number.abs() < 9e15
}

#[expect(clippy::cast_possible_truncation, reason = "is_whole bounds it")]
fn whole(number: f64) -> i128 {
    number as i128
}

/// A comparison of whole numbers with one that is not.
fn between(comparison: Comparison, number: f64) -> Value {
    let below = whole(number.floor().clamp(-9e15, 9e15));
    match comparison {
        Comparison::Less | Comparison::LessOrEqual => {
            Value::Compare(Comparison::LessOrEqual, below)
        }
        _ => Value::Compare(Comparison::Greater, below),
    }
}
