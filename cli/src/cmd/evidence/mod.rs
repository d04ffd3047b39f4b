//! `daemoneye ledger evidence|verify-evidence`: entries for a third party, and what they prove.

mod told;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use event::{Leaf, codec, json};
use ledger::{Age, Cosignature, Evidence, MAX_EVIDENCE_BYTES, Proven, Reader};
use serde_json::json;

use self::told::Summary;
use super::key::fingerprint;
use super::ledger::{
    ago, cosignatures_json, invalid, now, of_evidence, public_keys, read_checkpoint, read_keys,
    read_outside, read_witnesses,
};
use super::prove::{COMMIT, entry, log_was_read, once_signed};
use crate::args::{self, AlertId};
use crate::exit::{Code, Failure, WithCode};
use crate::output::{line, notice};
use crate::private;
use crate::state::State;

/// Entries after an event among which findings about it are looked for.
const FINDINGS_WITHIN: usize = 1 << 16;

pub(crate) fn write(
    state: &State,
    asked: &args::Evidence,
    json: bool,
) -> Result<ExitCode, Failure> {
    require_new(&asked.output).code(Code::Usage)?;
    let dir = state.ledger();
    let checkpoint = |path: Option<&Path>| path.map(|path| read_checkpoint(state, path));
    let at = checkpoint(asked.at.as_deref()).transpose()?;
    let outside = checkpoint(asked.checkpoint.as_deref()).transpose()?;
    let patience = Duration::from_secs(asked.wait);
    let mut indexes = entries(&dir, &asked.alert, patience)?;
    indexes.extend(&asked.with);
    let newest = indexes.last().copied().unwrap_or(asked.alert.index);
    let checkpoints = (at.as_ref(), outside.as_ref());
    let gather = || ledger::gather_telling(&dir, &indexes, checkpoints, &mut log_was_read);
    let evidence = match &at {
        Some(_) => gather().map_err(invalid)?,
        None => once_signed(&dir, newest, patience, gather)?,
    };
    // Told is what a third party will find, from the bundle alone.
    let outside = outside.as_ref().map(ledger::Checkpoint::note);
    let proven = evidence.verify(&public_keys(&dir)?, outside);
    let proven = proven.code(Code::LedgerInvalid)?;
    let evidence = evidence.with_summary(told::summary(&proven));
    let zip = evidence.to_zip().code(Code::BadInput)?;
    create(&asked.output, &zip)?;
    tell_written(&asked.output, &zip, &proven, json)?;
    Ok(ExitCode::SUCCESS)
}

/// The entries that belong to an alert.
fn entries(dir: &Path, alert: &AlertId, patience: Duration) -> Result<BTreeSet<u64>, Failure> {
    let mut reader = Reader::open(dir).map_err(invalid)?;
    let wanted = (alert.index, alert.rule.as_deref());
    let (index, leaf) = entry(dir, &mut reader, wanted, COMMIT.min(patience))?;
    let mut indexes = BTreeSet::from([index]);
    match codec::decode(leaf.into()) {
        Ok(Leaf::Finding(finding)) => indexes.extend(told::about(&finding)),
        Ok(Leaf::Event(_)) => {
            let later = reader.range(index.saturating_add(1)).take(FINDINGS_WITHIN);
            for later in later {
                let (at, leaf) = later.map_err(invalid)?;
                // What does not decode is no finding of ours.
                if let Ok(Leaf::Finding(finding)) = codec::decode(leaf.into())
                    && told::about(&finding).any(|about| about == index)
                {
                    indexes.insert(at);
                    indexes.extend(told::about(&finding));
                }
            }
        }
        _ => {}
    }
    leave_out_dropped(&reader, index, &mut indexes)?;
    Ok(indexes)
}

/// What an alert is about may no longer be kept, where the alert itself is.
fn leave_out_dropped(
    reader: &Reader,
    asked: u64,
    indexes: &mut BTreeSet<u64>,
) -> Result<(), Failure> {
    let oldest = reader.oldest().map_err(invalid)?;
    let is_gone = |index: &u64| *index < oldest && *index != asked;
    let gone: Vec<u64> = indexes.iter().copied().filter(is_gone).collect();
    if !gone.is_empty() {
        notice(format_args!(
            "no longer kept, and so not in the bundle: {}",
            told::numbered(&gone)
        ));
        indexes.retain(|index| !is_gone(index));
    }
    Ok(())
}

fn require_new(path: &Path) -> anyhow::Result<()> {
    if path.symlink_metadata().is_ok() {
        bail!("{} exists already", path.display());
    }
    Ok(())
}

fn create(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut file = private::create_new(path)
        .with_context(|| format!("{} cannot be created", path.display()))
        .code(Code::Usage)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    Ok(written.with_context(|| format!("{}", path.display()))?)
}

fn tell_written(path: &Path, zip: &[u8], proven: &Proven, json: bool) -> std::io::Result<()> {
    let indexes: Vec<u64> = proven.leaves.keys().copied().collect();
    if json {
        return line(json!({
            "file": path, "bytes": zip.len(), "entries": indexes,
            "tree_size": proven.checkpoint.size(), "signed_at": proven.checkpoint.time(),
            "fingerprint": fingerprint(&proven.keys),
            "outside_size": proven.outside.as_ref().map(ledger::Checkpoint::size),
        }));
    }
    line(format_args!(
        "{}: {}, in the tree of {} entries, signed {}",
        path.display(),
        told::numbered(&indexes),
        proven.checkpoint.size(),
        ago(proven.checkpoint.time())
    ))?;
    line(format_args!(
        "key fingerprint: {}; tell it, or ledger.pub, to who is to verify, by another way",
        fingerprint(&proven.keys)
    ))
}

pub(crate) fn verify(asked: &args::VerifyEvidence, json: bool) -> Result<ExitCode, Failure> {
    let keys = read_keys(&asked.key).code(Code::BadInput)?;
    let outside = asked.checkpoint.as_deref().map(read_outside).transpose();
    let outside = outside.code(Code::BadInput)?;
    let witnesses = asked.witness_keys.as_deref();
    let witnesses = witnesses.map(|path| read_witnesses((path, asked.witnesses)));
    let witnesses = witnesses.transpose()?;
    let rejected = |error| {
        let code = of_evidence(&error);
        Failure::new(code, anyhow!(error)).context(asked.file.display().to_string())
    };
    let zip = read(&asked.file).code(Code::BadInput)?;
    let evidence = Evidence::from_zip(&zip).map_err(rejected)?;
    let proven = evidence.verify(&keys, outside.as_deref());
    let proven = proven.map_err(rejected)?;
    if let Some(seconds) = asked.max_age {
        let age = Age {
            now: now(),
            seconds,
        };
        age.check(&proven.checkpoint).map_err(invalid)?;
    }
    let cosignatures = witnesses.map(|witnesses| witnesses.check(&proven.checkpoint));
    let cosignatures = cosignatures.transpose();
    let cosignatures =
        cosignatures.map_err(|source| invalid(ledger::Error::NotWitnessed { source }))?;
    let summary = Summary::of(&evidence, &proven);
    let cosignatures = cosignatures.unwrap_or_default();
    if json {
        line(json::line(&report_json(&proven, &cosignatures, summary)))?;
    } else {
        print_report(&asked.file, &proven, &cosignatures, summary)?;
    }
    match summary {
        Summary::Other => Err(Failure::new(
            Code::LedgerInvalid,
            anyhow!("the entries are proven, but summary.txt does not say what they say"),
        )),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let name = || path.display().to_string();
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(name)?;
    let limit = MAX_EVIDENCE_BYTES as u64 + 1;
    file.take(limit)
        .read_to_end(&mut bytes)
        .with_context(name)?;
    Ok(bytes)
}

fn print_report(
    file: &Path,
    proven: &Proven,
    cosignatures: &[Cosignature],
    summary: Summary,
) -> std::io::Result<()> {
    line(format_args!(
        "{}: proven to be entries of the log whose key was given",
        file.display()
    ))?;
    told::head(proven)
        .iter()
        .try_for_each(|told| line(format_args!("  {told}")))?;
    for Cosignature { witness, time } in cosignatures {
        line(format_args!(
            "  witness      {witness} cosigned {}",
            ago(*time)
        ))?;
    }
    match &proven.outside {
        Some(outside) => line(format_args!(
            "  outside      of one history with the checkpoint of {} entries, signed {}, that was \
             kept elsewhere",
            outside.size(),
            ago(outside.time())
        ))?,
        None => line(
            "  outside      not checked: --checkpoint takes one that was kept elsewhere, and only \
             that shows a history rewritten by who had the key",
        )?,
    }
    line(format_args!("  summary.txt  {}", summary.told()))?;
    told::entries(proven).iter().try_for_each(line)?;
    line(
        "not proven: that the host told the truth, that its clock was right, and that nothing else \
         happened",
    )
}

fn report_json(
    proven: &Proven,
    cosignatures: &[Cosignature],
    summary: Summary,
) -> serde_json::Value {
    let checkpoint = &proven.checkpoint;
    let entries = proven.leaves.iter().map(|(index, leaf)| {
        let entry = codec::decode(leaf.clone().into());
        // What a later version wrote is proven all the same.
        json!({ "index": index, "bytes": leaf.len(), "entry": entry.ok().map(|e| json::leaf(&e)) })
    });
    json!({
        "verified": true, "origin": checkpoint.origin(), "fingerprint": fingerprint(&proven.keys),
        "hash": proven.hash.name(), "tree_size": checkpoint.size(),
        "root": checkpoint.root().to_string(), "signed_at": checkpoint.time(),
        "epoch": told::epoch(proven), "cosignatures": cosignatures_json(cosignatures),
        "outside_size": proven.outside.as_ref().map(ledger::Checkpoint::size),
        "summary": summary.name(), "entries": entries.collect::<Vec<_>>(),
    })
}
