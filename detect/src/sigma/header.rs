//! What a rule says about itself.

use event::Level;

use crate::error::{ErrorKind, Place};
use crate::rule::{MAX_ID_BYTES, canonical_id, is_id};
use crate::sigma::item::Found;
use crate::sigma::node::{Node, Yaml};

/// What a Sigma rule says about itself beyond what every rule does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Provenance {
    /// Who wrote it; to be named with its alerts where the rule's licence asks for that.
    pub author: String,
    /// Its licence, where it names one.
    pub license: String,
    /// `stable`, `test`, `experimental` or `deprecated`; empty where it does not say.
    pub status: String,
    /// Day of its creation.
    pub date: String,
    /// Day of its last change.
    pub modified: String,
    /// Other rules, as the kind of relation and their id.
    pub related: Vec<(String, String)>,
}

/// The part of a document that rules, filters and correlations have in common.
pub(crate) struct Header {
    pub(crate) id: String,
    /// Of the id, or of the document where it has none.
    pub(crate) at: Place,
    /// The other name that correlations and filters may use; as [`reference`] has it.
    pub(crate) name: Option<String>,
    pub(crate) title: String,
    pub(crate) description: String,
    pub(crate) level: Option<Level>,
    pub(crate) tags: Vec<String>,
    pub(crate) references: Vec<String>,
    pub(crate) falsepositives: Vec<String>,
    /// Fields that analysts want to see.
    pub(crate) fields: Vec<String>,
    pub(crate) provenance: Provenance,
}

const STATUSES: [&str; 4] = ["stable", "test", "experimental", "deprecated"];

fn key(key: &'static str, problem: impl Into<String>) -> ErrorKind {
    ErrorKind::Key {
        key,
        problem: problem.into(),
    }
}

impl Header {
    /// Everything that is wrong with it, or the header.
    pub(crate) fn read(document: &Node) -> Result<Self, Vec<Found>> {
        let mut errors = Vec::new();
        let mut note = |result: Result<(), Found>| errors.extend(result.err());
        note(check_title(document));
        note(check_taxonomy(document));
        note(check_status(document));
        let level = level(document);
        note(level.as_ref().map(|_| ()).map_err(Clone::clone));
        let id = id(document);
        note(id.as_ref().map(|_| ()).map_err(Clone::clone));
        let (Ok((id, at)), Ok(level), true) = (id, level, errors.is_empty()) else {
            return Err(errors);
        };
        Ok(Self {
            id,
            at,
            name: document.get("name").and_then(Node::text).map(canonical_id),
            title: text(document, "title"),
            description: text(document, "description").trim_end().to_owned(),
            level,
            tags: texts(document, "tags"),
            references: texts(document, "references"),
            falsepositives: texts(document, "falsepositives"),
            fields: texts(document, "fields"),
            provenance: Provenance {
                author: text(document, "author"),
                license: text(document, "license"),
                status: text(document, "status"),
                date: text(document, "date"),
                modified: text(document, "modified"),
                related: related(document),
            },
        })
    }
}

fn check_title(document: &Node) -> Result<(), Found> {
    match document.get("title") {
        None => Err((document.at, key("title", "is missing"))),
        Some(title) if scalar(title).trim().is_empty() => Err((title.at, key("title", "is empty"))),
        Some(_) => Ok(()),
    }
}

/// The value of a key that has one: `level:` with nothing after it is none.
pub(crate) fn given<'n>(document: &'n Node, key: &str) -> Option<&'n Node> {
    document
        .get(key)
        .filter(|node| !matches!(node.value, Yaml::Null))
}

fn check_taxonomy(document: &Node) -> Result<(), Found> {
    match given(document, "taxonomy") {
        Some(node) if scalar(node) != "sigma" => {
            let problem = format!("is `{}`; only `sigma` is known here", scalar(node));
            Err((node.at, key("taxonomy", problem)))
        }
        _ => Ok(()),
    }
}

fn check_status(document: &Node) -> Result<(), Found> {
    let Some(node) = given(document, "status") else {
        return Ok(());
    };
    match scalar(node).as_str() {
        "unsupported" => Err((
            node.at,
            key(
                "status",
                "is `unsupported`: its author says that it cannot be used",
            ),
        )),
        status if STATUSES.contains(&status) => Ok(()),
        status => {
            let expected = STATUSES.join(", ");
            Err((
                node.at,
                key(
                    "status",
                    format!("is `{status}`; one of {expected} is expected"),
                ),
            ))
        }
    }
}

fn level(document: &Node) -> Result<Option<Level>, Found> {
    let Some(node) = given(document, "level") else {
        return Ok(None);
    };
    let name = scalar(node);
    Level::from_name(&name).map(Some).ok_or_else(|| {
        let expected = Level::ALL.map(Level::name).join(", ");
        let problem = format!("is `{name}`; one of {expected} is expected");
        (node.at, key("level", problem))
    })
}

/// Rules without an id are known by their name, or else by their title.
fn id(document: &Node) -> Result<(String, Place), Found> {
    if let Some(node) = document.get("id") {
        let id = scalar(node);
        if is_id(&id) {
            return Ok((canonical_id(&id), node.at));
        }
        let problem =
            format!("must be 1 to {MAX_ID_BYTES} letters, digits, `-`, `_` or `.`, all ASCII");
        return Err((node.at, key("id", problem)));
    }
    let named = document.get("name").or_else(|| document.get("title"));
    let words = named.map(scalar).unwrap_or_default().to_lowercase();
    let words = words.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let mut id = words.join("-");
    id.truncate(MAX_ID_BYTES);
    if id.is_empty() {
        id.push_str("rule");
    }
    Ok((id, document.at))
}

fn related(document: &Node) -> Vec<(String, String)> {
    let Some(list) = document.get("related") else {
        return Vec::new();
    };
    let relation = |node: &Node| Some((scalar(node.get("type")?), scalar(node.get("id")?)));
    list.items().iter().filter_map(relation).collect()
}

fn text(document: &Node, key: &str) -> String {
    document.get(key).map(scalar).unwrap_or_default()
}

/// A list of texts, or one.
fn texts(document: &Node, key: &str) -> Vec<String> {
    let items = document.get(key).map(Node::items).unwrap_or_default();
    let texts = items.iter().map(scalar);
    texts.filter(|text| !text.is_empty()).collect()
}

/// What a value calls a rule, by id or by name: to be compared with those.
pub(crate) fn reference(node: &Node) -> String {
    canonical_id(&scalar(node))
}

/// A value as text; nothing for lists, maps and null.
pub(crate) fn scalar(node: &Node) -> String {
    match &node.value {
        Yaml::Text(text) => text.clone(),
        Yaml::Int(_) | Yaml::Float(_) => node.number_text().unwrap_or_default(),
        Yaml::Bool(truth) => truth.to_string(),
        Yaml::Null | Yaml::List(_) | Yaml::Map(_) => String::new(),
    }
}
