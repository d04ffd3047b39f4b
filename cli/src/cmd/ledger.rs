//! `daemoneye ledger verify|prove|checkpoint`.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use ledger::{IndexStatus, PublicKey, Report, VerifyOptions};
use serde_json::{Value, json};

use super::prove::{Wanted, prove};
use crate::args;
use crate::exit::{Code, Failure, WithCode};
use crate::output::line;
use crate::session;
use crate::state::State;

pub(crate) fn ledger(command: &args::Ledger, json: bool) -> Result<ExitCode, Failure> {
    match command {
        args::Ledger::Verify {
            state,
            key,
            checkpoint,
        } => verify(&open(state)?, key.as_deref(), checkpoint.as_deref(), json),
        args::Ledger::Prove {
            index,
            finding,
            wait,
            state,
        } => {
            let wanted = Wanted {
                index: *index,
                finding: finding.as_deref(),
                patience: Duration::from_secs(*wait),
            };
            prove(&open(state)?, &wanted, json)
        }
        args::Ledger::Checkpoint { state } => checkpoint(open(state)?, json),
    }
}

fn open(state: &args::StateDir) -> Result<State, Failure> {
    State::existing(state.state_dir.as_deref())
}

fn verify(
    state: &State,
    key: Option<&Path>,
    checkpoint: Option<&Path>,
    json: bool,
) -> Result<ExitCode, Failure> {
    let key = key.map(read_key).transpose().code(Code::BadInput)?;
    let checkpoint = checkpoint.map(read_text).transpose().code(Code::BadInput)?;
    let outside_key = key.is_some();
    let report = ledger::verify(
        &state.ledger(),
        VerifyOptions {
            key,
            checkpoint,
            progress: None,
        },
    )
    .map_err(invalid)?;
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
    line(format_args!("  origin       {}", report.key.name()))?;
    line(format_args!(
        "  entries      {} in {} bytes, {} segments",
        report.entries, report.bytes, report.segments
    ))?;
    line(format_args!(
        "  checkpoints  {}, all signed; the last one covers {} entries",
        report.checkpoints, report.sealed
    ))?;
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
        "origin": report.key.name(),
        "entries": report.entries,
        "root": report.root.to_string(),
        "checkpoints": report.checkpoints,
        "sealed": report.sealed,
        "unsealed": report.unsealed(),
        "outside_size": report.outside.as_ref().map(ledger::Checkpoint::size),
        "bytes": report.bytes,
        "segments": report.segments,
        "unfinished_bytes": report.torn.as_ref().map_or(0, |torn| torn.bytes),
        "index": format!("{:?}", report.index),
    })
}

fn checkpoint(mut state: State, json: bool) -> Result<ExitCode, Failure> {
    state.become_owner()?;
    let dir = state.ledger();
    let options = ledger::Options::new(ORIGIN_OF_EXISTING);
    let (note, fresh) = match ledger::Ledger::open(&dir, &options) {
        Ok((ledger, _)) => (ledger.close().map_err(invalid)?.note().to_owned(), true),
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

/// Never used: a ledger that exists keeps its own origin.
const ORIGIN_OF_EXISTING: &str = "daemoneye";

/// The newest checkpoint of a running daemon.
fn last_note(dir: &Path) -> Result<String, Failure> {
    let path = dir.join("last-checkpoint");
    match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Failure::new(
            Code::NotThere,
            anyhow!("nothing is signed yet; the daemon signs every 10 seconds"),
        )),
        note => Ok(note.with_context(|| format!("{}", path.display()))?),
    }
}

pub(crate) fn public_key(dir: &Path) -> Result<PublicKey, Failure> {
    read_key(&dir.join("ledger.pub")).code(Code::LedgerInvalid)
}

fn read_key(path: &Path) -> anyhow::Result<PublicKey> {
    let text = read_text(path)?;
    PublicKey::parse(text.trim()).with_context(|| format!("{}", path.display()))
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("{}", path.display()))
}

/// A refused file operation is no proof of damage.
pub(crate) fn invalid(error: ledger::Error) -> Failure {
    use ledger::Error;

    let code = match &error {
        Error::Io { source, .. } if is_of_the_place(source.kind()) => Code::StateUnusable,
        // The index could not be read or written; the entries are sound.
        Error::Index { .. } => Code::StateUnusable,
        Error::Io { .. } | Error::Locked { .. } | Error::Poisoned => Code::Failure,
        Error::NotIntegrated { .. } => Code::NotThere,
        _ => Code::LedgerInvalid,
    };
    Failure::new(code, error)
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
