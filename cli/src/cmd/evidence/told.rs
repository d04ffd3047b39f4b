//! Proven entries in words. What a leaf says was chosen by others, and what is printed of it steers
//! no terminal.

use agent::sink::{event_line, finding_line};
use event::{Event, Finding, Leaf, WallTime, codec, json};
use ledger::{Evidence, Proven};

use crate::cmd::key::fingerprint;

/// The first line of a summary: another version may put it in other words.
const FIRST: &str = concat!("Evidence from DaemonEye ", env!("CARGO_PKG_VERSION"));

/// What became of the summary in a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Summary {
    /// It says what the proven entries say.
    Same,
    /// It says something else.
    Other,
    /// Another version wrote it.
    Unknown,
    /// There is none.
    Absent,
}

impl Summary {
    pub(super) fn of(evidence: &Evidence, proven: &Proven) -> Summary {
        let there = evidence.summary();
        match there.lines().next() {
            None => Summary::Absent,
            Some(_) if there == summary(proven) => Summary::Same,
            Some(FIRST) => Summary::Other,
            Some(_) => Summary::Unknown,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Summary::Same => "same",
            Summary::Other => "other",
            Summary::Unknown => "unknown",
            Summary::Absent => "absent",
        }
    }

    pub(super) fn told(self) -> &'static str {
        match self {
            Summary::Same => "says what the entries below say",
            Summary::Other => "does not say what the entries below say: do not believe it",
            Summary::Unknown => "not checked, since another version wrote it: do not believe it",
            Summary::Absent => "absent",
        }
    }
}

/// The same text for the same proven entries.
pub(super) fn summary(proven: &Proven) -> String {
    let mut lines = vec![
        FIRST.to_owned(),
        String::new(),
        "This text proves nothing. It is made again from what is proven, and compared, by"
            .to_owned(),
        "  daemoneye ledger verify-evidence FILE --key LEDGER.PUB".to_owned(),
        String::new(),
    ];
    lines.extend(head(proven));
    lines.push(String::new());
    lines.extend(entries(proven));
    lines.join("\n") + "\n"
}

/// What signs for the entries.
pub(super) fn head(proven: &Proven) -> Vec<String> {
    let checkpoint = &proven.checkpoint;
    let time = WallTime(checkpoint.time().saturating_mul(1_000_000_000)).to_string();
    let time = time.split_once('.').map_or(&*time, |(seconds, _)| seconds);
    vec![
        format!("log          {}", checkpoint.origin()),
        format!(
            "fingerprint  {} of its ledger.pub",
            fingerprint(&proven.keys)
        ),
        format!(
            "signed       for a tree of {} entries, at {time}Z by the host's clock, with the keys \
             of epoch {}",
            checkpoint.size(),
            epoch(proven)
        ),
        format!("root         {} {}", proven.hash.name(), checkpoint.root()),
    ]
}

/// The epoch whose keys sign for trees of that size.
pub(super) fn epoch(proven: &Proven) -> u64 {
    let size = proven.checkpoint.size();
    let epochs = proven.keys.epochs();
    let of_size = epochs.iter().rev().find(|epoch| epoch.from <= size);
    of_size.map_or(0, |epoch| epoch.number)
}

/// Each entry as one line.
pub(super) fn entries(proven: &Proven) -> Vec<String> {
    let leaves = proven.leaves.iter();
    leaves
        .map(|(index, leaf)| shown(&format!("entry {index}: {}", entry(proven, leaf))))
        .collect()
}

fn entry(proven: &Proven, leaf: &[u8]) -> String {
    match codec::decode(leaf.to_vec().into()) {
        Ok(Leaf::Event(event)) => event_line(&event),
        Ok(Leaf::Finding(finding)) => {
            let about: Vec<u64> = about(&finding).collect();
            let event = event_at(proven, finding.leaf_index);
            let line = finding_line(&finding, event.as_ref());
            let is_missing = |index: &u64| !proven.leaves.contains_key(index);
            let missing: Vec<u64> = about.iter().copied().filter(is_missing).collect();
            let missing = match missing.as_slice() {
                [] => String::new(),
                missing => format!("; not in this bundle, so not proven: {}", numbered(missing)),
            };
            format!("{line} (about {}{missing})", numbered(&about))
        }
        Ok(_) => "of the ledger itself".to_owned(),
        Err(error) => format!(
            "{} bytes that this version cannot read: {error}",
            leaf.len()
        ),
    }
}

/// Only what is proven as well is taken for the event of a finding.
fn event_at(proven: &Proven, index: u64) -> Option<Event> {
    let leaf = proven.leaves.get(&index)?;
    codec::decode_event(leaf.clone().into()).ok()
}

/// The entries that a finding is about.
pub(super) fn about(finding: &Finding) -> impl Iterator<Item = u64> {
    let mut about = finding.evidence.clone();
    about.push(finding.leaf_index);
    about.sort_unstable();
    about.dedup();
    about.into_iter()
}

pub(super) fn numbered(indexes: &[u64]) -> String {
    let noun = if indexes.len() == 1 {
        "entry"
    } else {
        "entries"
    };
    let indexes: Vec<String> = indexes.iter().map(ToString::to_string).collect();
    format!("{noun} {}", indexes.join(", "))
}

fn shown(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    for c in line.chars() {
        match json::steers_display(c) {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    shown
}
