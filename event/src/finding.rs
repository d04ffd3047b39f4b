use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use crate::{Event, Header, ProcessKey};

/// How much a finding matters; the names and order of Sigma's levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Level {
    /// Context, not an alert.
    #[default]
    Informational,
    /// Rarely worth a look alone.
    Low,
    /// Worth a look.
    Medium,
    /// Look now.
    High,
    /// Act now.
    Critical,
}

impl Level {
    /// All levels, least first.
    pub const ALL: [Self; 5] = [
        Self::Informational,
        Self::Low,
        Self::Medium,
        Self::High,
        Self::Critical,
    ];

    /// Lower-case name as rules write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Informational => "informational",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// The level of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }
}

/// A column of a rule; most are known beforehand.
pub type ColumnName = Cow<'static, str>;

/// A rule fired on an event. What is the same in all findings of a rule is shared by them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Finding {
    /// Time and place of the event that completed the match.
    pub header: Header,
    /// Rule id, unique in its rule set.
    pub rule_id: Arc<str>,
    /// Rule title.
    pub title: Arc<str>,
    /// Rule level.
    pub level: Level,
    /// Rule tags such as `attack.t1059.004`.
    pub tags: Arc<[String]>,
    /// Leaf index of the event that completed the match.
    pub leaf_index: u64,
    /// The process.
    pub key: Option<ProcessKey>,
    /// Its executable path.
    pub exe: Bytes,
    /// The columns that the rule selected, by name, as text (not UTF-8 bytes are escaped).
    pub selected: Vec<(ColumnName, String)>,
    /// Columns of the rule that this event could not fill: the match may be incomplete.
    pub absent: Vec<ColumnName>,
    /// Of a rule that counts or joins events, leaf indices of those that made it fire: the first
    /// ones where they are many, and `leaf_index` last. Empty for a rule on single events.
    pub evidence: Vec<u64>,
    /// Bounds that the evaluation met, in words: there may have been more than it counted.
    pub incomplete: Vec<String>,
    /// Who wrote the rule, where it says so: licences of rules ask that alerts name them.
    pub author: Arc<str>,
    /// The rule's licence, where it names one.
    pub license: Arc<str>,
    /// The columns that decided about the event that completed the match, with their values as in
    /// `selected`; long ones are cut and end in `…`.
    pub matched: Vec<(ColumnName, String)>,
}

/// What one ledger entry holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Leaf {
    /// An event.
    Event(Event),
    /// A rule fired.
    Finding(Box<Finding>),
    /// What the ledger itself appended, as text: a rotation of its keys, or which entries it dropped.
    Ledger(Bytes),
}
