//! YAML as it was written: values of any shape, each with its place.

use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::NonFiniteFloatPolicy;
use serde_saphyr::{Location, Spanned};

use crate::error::Place;
use crate::yaml::{options, place};

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) at: Place,
    pub(crate) value: Yaml,
    bytes: Option<Range<usize>>,
    /// A number as it stands there: `0755`, `1.10` and `1e3` say more than their values.
    written: Option<Box<str>>,
}

/// A value; plain scalars are what YAML takes them for, quoted ones are text.
#[derive(Debug, Clone)]
pub(crate) enum Yaml {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    /// In the order of the file; no key is there twice.
    Map(Vec<(Key, Node)>),
}

/// A key and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) at: Place,
    pub(crate) text: String,
}

/// The documents of a file.
pub(crate) fn documents(text: &str) -> Result<Vec<Node>, serde_saphyr::Error> {
    let mut options = options();
    options.strict_booleans = true;
    // `1e400` may be meant as text.
    options.non_finite_float_policy = NonFiniteFloatPolicy::PassThrough;
    let mut documents: Vec<Node> = serde_saphyr::from_multiple_with_options(text, options)?;
    let each = documents.iter_mut();
    each.for_each(|document| document.note_numbers(text));
    Ok(documents)
}

impl Node {
    /// The value of a key, if this is a map that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        let found = self.entries()?.iter().find(|(k, _)| k.text == key);
        found.map(|(_, value)| value)
    }

    pub(crate) fn entries(&self) -> Option<&[(Key, Self)]> {
        match &self.value {
            Yaml::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The elements of a list; any other value is a list of itself.
    pub(crate) fn items(&self) -> &[Self] {
        match &self.value {
            Yaml::List(items) => items,
            _ => std::slice::from_ref(self),
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Yaml::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The text of a number, as the rule's author wrote it.
    pub(crate) fn number_text(&self) -> Option<String> {
        let value = match &self.value {
            Yaml::Int(number) => number.to_string(),
            Yaml::Float(number) => number.to_string(),
            _ => return None,
        };
        Some(self.written.as_deref().map_or(value, str::to_owned))
    }

    fn note_numbers(&mut self, source: &str) {
        match &mut self.value {
            Yaml::List(items) => items.iter_mut().for_each(|item| item.note_numbers(source)),
            Yaml::Map(entries) => {
                let values = entries.iter_mut().map(|(_, value)| value);
                values.for_each(|value| value.note_numbers(source));
            }
            Yaml::Int(_) | Yaml::Float(_) => {
                let bytes = self.bytes.clone();
                let written = bytes.and_then(|bytes| source.get(bytes));
                // `!!int "5"` is a number, too, and has quotes.
                let written = written.map(str::trim).filter(|text| is_number_text(text));
                self.written = written.map(Into::into);
            }
            _ => {}
        }
    }

    /// What it is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Yaml::Null => "null",
            Yaml::Bool(_) => "a truth value",
            Yaml::Int(_) | Yaml::Float(_) => "a number",
            Yaml::Text(_) => "text",
            Yaml::List(_) => "a list",
            Yaml::Map(_) => "keys and values",
        }
    }
}

fn is_number_text(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte);
    !text.is_empty() && text.bytes().all(is_part)
}

fn bytes(location: Location) -> Option<Range<usize>> {
    let span = location.span();
    let start = usize::try_from(span.byte_offset()?).ok()?;
    let length = usize::try_from(span.byte_len()?).ok()?;
    Some(start..start.checked_add(length)?)
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Spanned::<Yaml>::deserialize(deserializer)?;
        Ok(Self {
            at: place(value.defined),
            value: value.value,
            bytes: bytes(value.defined),
            written: None,
        })
    }
}

impl<'de> Deserialize<'de> for Yaml {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Yaml;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Yaml, E> {
        Ok(Yaml::Null)
    }

    fn visit_none<E>(self) -> Result<Yaml, E> {
        Ok(Yaml::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Yaml, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Yaml, E> {
        Ok(Yaml::Bool(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Yaml, E> {
        Ok(Yaml::Int(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Yaml, E> {
        Ok(Yaml::Int(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Yaml, E> {
        Ok(Yaml::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Yaml, E> {
        Ok(Yaml::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Yaml, E> {
        Ok(Yaml::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Yaml, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Yaml::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Yaml, A::Error> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let key = Key {
                at: place(key.defined),
                text: key.value,
            };
            if entries.iter().any(|(k, _)| k.text == key.text) {
                return Err(A::Error::custom(format!("duplicate key `{}`", key.text)));
            }
            entries.push((key, map.next_value()?));
        }
        Ok(Yaml::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::{Node, Yaml, documents};

    fn show(node: &Node) -> String {
        let value = match &node.value {
            Yaml::List(items) => format!("{:?}", items.iter().map(show).collect::<Vec<_>>()),
            Yaml::Map(entries) => {
                let entries = entries
                    .iter()
                    .map(|(k, v)| format!("{}@{}={}", k.text, k.at, show(v)));
                format!("{:?}", entries.collect::<Vec<_>>())
            }
            scalar => format!("{scalar:?}"),
        };
        format!("{}:{value}", node.at).replace(['"', '\\'], "'")
    }

    #[test]
    fn every_value_has_its_type_and_place() {
        let check = |text: &str, shown: &[&str]| {
            let documents = documents(text).unwrap();
            assert_eq!(documents.iter().map(show).collect::<Vec<_>>(), shown);
        };
        check("'1'", &["1:1:Text('1')"]);
        check(
            "- 1\n- ~\n-\n",
            &["1:1:['1:3:Int(1)', '2:3:Null', '3:2:Null']"],
        );
        check("a: yes\n", &["1:1:['a@1:1=1:4:Text('yes')']"]);
        check(
            "{'|all': [true]}",
            &["1:1:['|all@1:2=1:10:['1:11:Bool(true)']']"],
        );
        check("--- a\n--- 1.5\n", &["1:5:Text('a')", "2:5:Float(1.5)"]);
    }

    #[test]
    fn a_key_is_there_once() {
        assert!(documents("a: 1\na: 2\n").is_err());
    }
}
