//! `daemoneye ledger verify|audit|prove|checkpoint|cosigned`.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow, bail};
use ledger::{
    Age, Cosignature, EvidenceError, IndexStatus, NoteError, Progress, PublicKeys, Report,
    SignedNote, VerifyOptions, Witnesses,
};
use serde_json::{Value, json};

use super::prove::{Wanted, log_was_read, prove};
use crate::args;
use crate::exit::{Code, Failure, WithCode};
use crate::output::{counted, line};
use crate::progress::ProgressLine;
use crate::session;
use crate::state::State;

pub(crate) fn ledger(command: &args::Ledger, json: bool) -> Result<ExitCode, Failure> {
    match command {
        args::Ledger::Verify {
            state,
            key,
            checkpoint,
            max_age,
            witness_keys,
            witnesses,
        } => {
            let asked = Asked {
                key: key.as_deref(),
                checkpoint: checkpoint.as_deref(),
                max_age: *max_age,
                witnesses: witness_keys.as_deref().map(|keys| (keys, *witnesses)),
            };
            verify(&open(state)?, &asked, json)
        }
        args::Ledger::Audit { since, key, state } => {
            audit(&open(state)?, since, key.as_deref(), json)
        }
        args::Ledger::Cosigned {
            file,
            witnesses,
            state,
        } => {
            let witnesses = (witnesses.keys.as_path(), witnesses.needed);
            cosigned(open(state)?, file, witnesses, json)
        }
        args::Ledger::Prove {
            index,
            finding,
            at,
            wait,
            state,
        } => {
            let state = open(state)?;
            let at = at.as_deref().map(|at| read_checkpoint(&state, at));
            let wanted = Wanted {
                at: at.transpose()?,
                index: *index,
                finding: finding.as_deref(),
                patience: Duration::from_secs(*wait),
            };
            prove(&state, &wanted, json)
        }
        args::Ledger::Evidence(evidence) => {
            super::evidence::write(&open(&evidence.state)?, evidence, json)
        }
        args::Ledger::VerifyEvidence(asked) => super::evidence::verify(asked, json),
        args::Ledger::Tail {
            follow,
            count,
            state,
        } => super::entries::tail(&open(state)?, *count, *follow, json),
        args::Ledger::Show { indices, state } => {
            super::entries::show(&open(state)?, *indices, json)
        }
        args::Ledger::Stats { state } => super::overview::stats(&open(state)?, json),
        args::Ledger::Retain { keep, state } => super::retain::retain(keep, open(state)?, json),
        args::Ledger::Key(command) => super::key::key(command, json),
        args::Ledger::Checkpoint { state } => checkpoint(open(state)?, json),
    }
}

fn open(state: &args::StateDir) -> Result<State, Failure> {
    State::existing(state.state_dir.as_deref())
}

/// What a verification is to hold the ledger against.
struct Asked<'a> {
    key: Option<&'a Path>,
    checkpoint: Option<&'a Path>,
    max_age: Option<u64>,
    witnesses: Option<(&'a Path, usize)>,
}

fn verify(state: &State, asked: &Asked<'_>, json: bool) -> Result<ExitCode, Failure> {
    let keys = asked.key.map(read_keys).transpose().code(Code::BadInput)?;
    let checkpoint = asked.checkpoint.map(read_outside).transpose();
    let outside_key = keys.is_some();
    let (mut shown, mut sealed) = (ProgressLine::new(), 0);
    let mut progress = |progress: Progress| {
        sealed = progress.sealed;
        shown.show(progress);
    };
    let options = VerifyOptions {
        keys,
        checkpoint: checkpoint.code(Code::BadInput)?,
        witnesses: asked.witnesses.map(read_witnesses).transpose()?,
        age: asked.max_age.map(|seconds| Age {
            now: now(),
            seconds,
        }),
        progress: Some(&mut progress),
    };
    let verified = ledger::verify(&state.ledger(), options);
    drop(shown);
    let report = verified.map_err(|error| invalid(error).intact(sealed))?;
    if json {
        line(report_json(&report))?;
    } else {
        print_report(state, &report, outside_key)?;
    }
    if let IndexStatus::Bad(cause) = &report.index {
        return Err(Failure::new(
            Code::LedgerInvalid,
            anyhow!("the entries are intact, but their index is not: {cause}"),
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn print_report(state: &State, report: &Report, outside_key: bool) -> std::io::Result<()> {
    line(format_args!(
        "ledger {} is intact",
        state.ledger().display()
    ))?;
    line(format_args!("  origin       {}", report.keys.name()))?;
    line(format_args!(
        "  entries      {} in {} bytes, {}",
        report.entries,
        report.bytes,
        counted(report.segments, "segment", "segments")
    ))?;
    line(format_args!(
        "  checkpoints  {}, all signed; the last one covers {} entries{}",
        report.checkpoints,
        report.sealed,
        report
            .last_checkpoint
            .as_ref()
            .map_or_else(String::new, age)
    ))?;
    if report.clock_set_back > 0 {
        line(format_args!(
            "  clock        set back {} between two checkpoints",
            counted(report.clock_set_back, "time", "times")
        ))?;
    }
    let cosigned = report.outside.as_ref().or(report.witnessed.as_ref());
    let cosigned = cosigned.map_or(0, ledger::Checkpoint::size);
    for Cosignature { witness, time } in &report.cosignatures {
        let ago = ago(*time);
        line(format_args!(
            "  witness      {witness} cosigned {cosigned} entries {ago}"
        ))?;
    }
    if report.kept_from() > 0 {
        line(format_args!(
            "  dropped      entries 0 to {}, stated in {}; the tree covers them, but they can no \
             longer be read",
            report.kept_from() - 1,
            counted(report.gaps.len() as u64, "record", "records")
        ))?;
    }
    if report.unsealed() > 0 {
        line(format_args!(
            "  unsealed     {} entries after it, not signed yet",
            report.unsealed()
        ))?;
    }
    if let Some(torn) = &report.torn {
        line(format_args!(
            "  unfinished   {} bytes at the end of {}: a write that is under way or was cut off",
            torn.bytes,
            torn.file.display()
        ))?;
    }
    if report.torn_checkpoint {
        line(
            "  unfinished   a checkpoint at the end of checkpoints.txt, which is being written or was cut off",
        )?;
    }
    if let Some(note) = index_note(&report.index) {
        line(format_args!("  index        {note}"))?;
    }
    match &report.outside {
        Some(outside) => line(format_args!(
            "  outside      it continues the checkpoint of {} entries that was kept elsewhere",
            outside.size()
        ))?,
        None => line(
            "  outside      not checked: --checkpoint takes one that was kept elsewhere, and only \
             that shows a rewritten history",
        )?,
    }
    if !outside_key {
        line("  key          the one beside the ledger; give a copy kept elsewhere with --key")?;
    }
    Ok(())
}

fn index_note(status: &IndexStatus) -> Option<&'static str> {
    match status {
        IndexStatus::InUse => Some("in use by a running daemon; not looked at"),
        IndexStatus::Unclean => Some("left by a killed daemon; its next start repairs it"),
        IndexStatus::Missing => Some("absent; the next start rebuilds it"),
        _ => None,
    }
}

fn report_json(report: &Report) -> Value {
    json!({
        "intact": true,
        "origin": report.keys.name(),
        "entries": report.entries,
        "root": report.root.to_string(),
        "checkpoints": report.checkpoints,
        "sealed": report.sealed,
        "unsealed": report.unsealed(),
        "signed_at": report.last_checkpoint.as_ref().map(ledger::Checkpoint::time),
        "clock_set_back": report.clock_set_back,
        "cosignatures": cosignatures_json(&report.cosignatures),
        "outside_size": report.outside.as_ref().map(ledger::Checkpoint::size),
        "bytes": report.bytes,
        "segments": report.segments,
        "kept_from": report.kept_from(),
        "gaps": report.gaps.iter().map(super::retain::gap_json).collect::<Vec<_>>(),
        "unfinished_bytes": report.torn.as_ref().map_or(0, |torn| torn.bytes),
        "index": format!("{:?}", report.index),
    })
}

pub(super) fn cosignatures_json(cosignatures: &[Cosignature]) -> Value {
    let each =
        |Cosignature { witness, time }: &Cosignature| json!({ "witness": witness, "time": time });
    cosignatures.iter().map(each).collect()
}

fn audit(state: &State, since: &Path, key: Option<&Path>, json: bool) -> Result<ExitCode, Failure> {
    let keys = key.map(read_keys).transpose().code(Code::BadInput)?;
    let since = read_outside(since).code(Code::BadInput)?;
    let audit = ledger::audit_telling(&state.ledger(), keys, &since, &mut log_was_read);
    let audit = audit.map_err(invalid)?;
    let oldest = ledger::Reader::open(&state.ledger()).and_then(|reader| reader.oldest());
    let kept_from = oldest.map_err(invalid)?;
    if json {
        let hashes = |path: &[ledger::Hash]| -> Vec<String> {
            path.iter().map(ToString::to_string).collect()
        };
        let rotations = audit.rotations.iter().map(|rotation| {
            json!({
                "size": rotation.size, "root": rotation.root.to_string(),
                "proof": hashes(&rotation.path),
            })
        });
        line(json!({
            "consistent": true,
            "hash": audit.hash.name(),
            "since": audit.since.note(),
            "last": audit.last.note(),
            "proof": hashes(&audit.path),
            "rotations": rotations.collect::<Vec<_>>(),
            "kept_from": kept_from,
        }))?;
    } else {
        line(format_args!(
            "the tree of {} entries{} begins with that of {}{}: nothing signed for then was \
             altered or removed from it",
            audit.last.size(),
            age(&audit.last),
            audit.since.size(),
            age(&audit.since)
        ))?;
        if kept_from > 0 {
            line(format_args!(
                "entries 0 to {} are in the tree alone: they were dropped, and can no longer be read",
                kept_from - 1
            ))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn cosigned(
    mut state: State,
    file: &Path,
    witnesses: (&Path, usize),
    json: bool,
) -> Result<ExitCode, Failure> {
    let note = read_text(file).code(Code::BadInput)?;
    let witnesses = read_witnesses(witnesses)?;
    state.become_owner()?;
    let kept = ledger::carry_back(&state.ledger(), &note, &witnesses);
    let (checkpoint, cosignatures) = kept.map_err(invalid)?;
    if json {
        line(json!({
            "size": checkpoint.size(), "cosignatures": cosignatures_json(&cosignatures),
        }))?;
    } else {
        line(format_args!(
            "kept: the checkpoint of {} entries, cosigned by {}",
            checkpoint.size(),
            counted(cosignatures.len() as u64, "witness", "witnesses")
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// When a checkpoint was signed, as part of a sentence.
pub(super) fn age(checkpoint: &ledger::Checkpoint) -> String {
    format!(", signed {}", ago(checkpoint.time()))
}

pub(super) fn ago(time: u64) -> String {
    match now().checked_sub(time) {
        Some(seconds @ 0..120) => format!("{seconds} s ago"),
        Some(seconds @ 120..7200) => format!("{} min ago", seconds / 60),
        Some(seconds @ 7200..172_800) => format!("{} h ago", seconds / 3600),
        Some(seconds) => format!("{} days ago", seconds / 86_400),
        None => format!("{} s in the future", time - now()),
    }
}

/// POSIX seconds.
pub(super) fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}

pub(super) fn read_witnesses((keys, needed): (&Path, usize)) -> Result<Witnesses, Failure> {
    let text = read_text(keys).code(Code::BadInput)?;
    Witnesses::parse(&text, needed)
        .with_context(|| format!("{}", keys.display()))
        .code(Code::BadInput)
}

fn checkpoint(mut state: State, json: bool) -> Result<ExitCode, Failure> {
    state.become_owner()?;
    let dir = state.ledger();
    let (note, fresh) = match session::open_existing(&state)? {
        Ok(ledger) => (ledger.close().map_err(invalid)?.note().to_owned(), true),
        Err(ledger::Error::Locked { .. }) => (last_note(&dir)?, false),
        Err(error) => return Err(session::not_opened(&state, error)),
    };
    if json {
        line(json!({ "checkpoint": note, "signed_now": fresh }))?;
    } else {
        line(note.trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The newest checkpoint of a running daemon.
fn last_note(dir: &Path) -> Result<String, Failure> {
    let newest = ledger::newest_checkpoint(dir).map_err(invalid)?;
    let newest = newest.context("nothing is signed yet; the daemon signs every 10 seconds");
    Ok(newest.code(Code::NotThere)?.note().to_owned())
}

pub(crate) fn public_keys(dir: &Path) -> Result<PublicKeys, Failure> {
    ledger::public_keys(dir).map_err(invalid)
}

pub(super) fn read_keys(path: &Path) -> anyhow::Result<PublicKeys> {
    let text = read_text(path)?;
    PublicKeys::parse(&text).with_context(|| format!("{}", path.display()))
}

pub(super) fn read_checkpoint(state: &State, path: &Path) -> Result<ledger::Checkpoint, Failure> {
    let keys = public_keys(&state.ledger())?;
    let note = read_outside(path).code(Code::BadInput)?;
    ledger::Checkpoint::open(&note, &keys)
        .with_context(|| format!("{}", path.display()))
        .code(Code::BadInput)
}

/// A checkpoint that was kept elsewhere; by whom it is signed is still to be seen.
pub(super) fn read_outside(path: &Path) -> anyhow::Result<String> {
    let note = read_text(path)?;
    if note.trim_end().matches("\n\n").count() > 1 {
        let path = path.display();
        bail!("{path} holds several checkpoints; give a single one, as in `last-checkpoint`");
    }
    SignedNote::parse(&note).with_context(|| format!("{} is no checkpoint", path.display()))?;
    Ok(note)
}

pub(super) fn read_text(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("{}", path.display()))
}

/// A refused file operation is no proof of damage.
pub(crate) fn invalid(error: ledger::Error) -> Failure {
    use ledger::Error;

    let code = match &error {
        Error::Io { source, .. } if is_of_the_place(source.kind()) => Code::StateUnusable,
        // The index could not be read or written; the entries are sound.
        Error::Index { .. } | Error::KeyOpenToOthers { .. } => Code::StateUnusable,
        Error::Io { .. } | Error::Locked { .. } | Error::Poisoned => Code::Failure,
        Error::NotIntegrated { .. } | Error::NotKept { .. } | Error::TooOld { .. } => {
            Code::NotThere
        }
        Error::OutsideCheckpoint {
            source: NoteError::Malformed(_),
            ..
        } => Code::BadInput,
        Error::Evidence(source) => of_evidence(source),
        _ => Code::LedgerInvalid,
    };
    Failure::new(code, error)
}

/// A file that is no bundle is bad input; one that does not prove what it should is not.
pub(super) fn of_evidence(error: &EvidenceError) -> Code {
    match error {
        EvidenceError::Archive(_)
        | EvidenceError::File { .. }
        | EvidenceError::Keys(NoteError::Malformed(_))
        | EvidenceError::Checkpoint(NoteError::Malformed(_))
        | EvidenceError::Outside(NoteError::Malformed(_)) => Code::BadInput,
        EvidenceError::Unlinked { .. } => Code::NotThere,
        _ => Code::LedgerInvalid,
    }
}

/// Rights or room are missing, for any ledger there.
fn is_of_the_place(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::StorageFull
            | ErrorKind::QuotaExceeded
    )
}
