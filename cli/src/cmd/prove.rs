//! `daemoneye ledger prove`: an entry, and that it is in the ledger.

use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use event::{Leaf, codec, json};
use ledger::{Checkpoint, Reader};
use pipeline::CommitPolicy;
use serde_json::json;

use super::ledger::{invalid, public_keys};
use crate::exit::{Code, Failure, WithCode};
use crate::holder::Holder;
use crate::output::{line, notice};
use crate::state::State;

/// An entry that an alert names is in the files after the next commit, a fraction of a second later.
pub(super) const COMMIT: Duration = Duration::from_secs(2);

/// Between two looks at what a daemon writes.
const PAUSE: Duration = Duration::from_millis(100);

/// What is to be proved.
pub(crate) struct Wanted<'a> {
    /// An entry's index.
    pub(crate) index: u64,
    /// This rule's finding about that entry, in place of the entry.
    pub(crate) finding: Option<&'a str>,
    /// In the tree of this checkpoint, or of the last one.
    pub(crate) at: Option<Checkpoint>,
    /// How long to wait for a checkpoint.
    pub(crate) patience: Duration,
}

pub(crate) fn prove(state: &State, wanted: &Wanted<'_>, json: bool) -> Result<ExitCode, Failure> {
    let dir = state.ledger();
    let mut reader = Reader::open(&dir).map_err(invalid)?;
    let commit = COMMIT.min(wanted.patience);
    let (index, leaf) = entry(&dir, &mut reader, (wanted.index, wanted.finding), commit)?;
    let prove = || ledger::prove_telling(&dir, index, wanted.at.as_ref(), &mut log_was_read);
    let proof = match &wanted.at {
        Some(_) => prove().map_err(invalid)?,
        None => once_signed(&dir, index, wanted.patience, prove)?,
    };
    // Checked as a third party would: from the proof, the leaf and the key alone.
    let checkpoint = proof
        .verify(&leaf, &public_keys(&dir)?)
        .code(Code::LedgerInvalid)?;
    let leaf = codec::decode(leaf.into()).context("the entry does not decode")?;
    let entry = json::leaf(&leaf);
    if json {
        line(json::line(&json!({
            "index": index, "verified": true, "tree_size": checkpoint.size(),
            "entry": entry, "proof": proof.to_string(),
        })))?;
    } else {
        line(json::line(&entry))?;
        line(format_args!(
            "entry {index} is in the tree of {} entries, signed by {}",
            checkpoint.size(),
            checkpoint.origin()
        ))?;
        line(proof)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The entry at an index, or a rule's finding about it, and where it is.
pub(super) fn entry(
    dir: &Path,
    reader: &mut Reader,
    (index, rule): (u64, Option<&str>),
    patience: Duration,
) -> Result<(u64, Vec<u8>), Failure> {
    let leaf = wait_for(dir, patience, None, || reader.read(index).map_err(invalid))?;
    let leaf = leaf.ok_or_else(|| not_there(format!("the ledger has no entry {index}")))?;
    let Some(rule) = rule else {
        return Ok((index, leaf));
    };
    let finding = wait_for(dir, patience, None, || finding(reader, index, rule))?;
    finding.ok_or_else(|| {
        not_there(format!(
            "the ledger has no finding of rule {rule} about entry {index}"
        ))
    })
}

/// Findings come after the event that they are about.
fn finding(reader: &mut Reader, index: u64, rule: &str) -> Result<Option<(u64, Vec<u8>)>, Failure> {
    for entry in reader.range(index.saturating_add(1)) {
        let (at, leaf) = entry.map_err(invalid)?;
        // What does not decode is no finding of ours.
        if let Ok(Leaf::Finding(finding)) = codec::decode(leaf.clone().into())
            && finding.leaf_index == index
            && *finding.rule_id == *rule
        {
            return Ok(Some((at, leaf)));
        }
    }
    Ok(None)
}

/// Says why the tree beside the log was of no use, and what to do.
pub(super) fn log_was_read(why: &ledger::Error) {
    notice(format_args!(
        "{why}; made of all entries instead, which takes longer. Once that file is removed, the \
         daemon's next start writes it anew"
    ));
}

/// What can be made of the ledger once a checkpoint covers the entry.
pub(super) fn once_signed<T>(
    dir: &Path,
    index: u64,
    patience: Duration,
    mut make: impl FnMut() -> Result<T, ledger::Error>,
) -> Result<T, Failure> {
    let interval = CommitPolicy::default().checkpoint_interval.as_secs();
    let waiting = format!(
        "entry {index} is not signed for yet; the daemon's next checkpoint covers it, within \
         {interval} s; waiting for that (--wait 0 does not)"
    );
    let made = wait_for(dir, patience, Some(&waiting), || match make() {
        Ok(made) => Ok(Some(made)),
        Err(ledger::Error::NotIntegrated { .. }) => Ok(None),
        Err(error) => Err(invalid(error)),
    })?;
    made.ok_or_else(|| {
        let how = match Holder::of(dir) {
            Some(holder) => {
                format!("{holder} covers it with its next checkpoint, within {interval} s")
            }
            None => "no daemon runs; `daemoneye ledger checkpoint` signs for it".to_owned(),
        };
        not_there(format!("entry {index} is not signed for yet: {how}"))
    })
}

/// Asks until there is an answer, the patience is at its end, or nobody writes to the ledger.
fn wait_for<T>(
    dir: &Path,
    patience: Duration,
    mut waiting: Option<&str>,
    mut ask: impl FnMut() -> Result<Option<T>, Failure>,
) -> Result<Option<T>, Failure> {
    let start = Instant::now();
    loop {
        // Before the question: a daemon that ends meanwhile has signed for everything.
        let is_written = Holder::of(dir).is_some();
        let answer = ask()?;
        if answer.is_some() || !is_written || start.elapsed() >= patience {
            return Ok(answer);
        }
        if let Some(waiting) = waiting.take() {
            notice(waiting);
        }
        thread::sleep(PAUSE);
    }
}

fn not_there(what: String) -> Failure {
    Failure::new(Code::NotThere, anyhow!(what))
}
