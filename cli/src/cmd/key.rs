//! `daemoneye ledger key show|rotate|export-public`.

use std::process::ExitCode;

use ledger::{Epoch, PublicKeys};
use serde_json::{Value, json};

use super::ledger::invalid;
use crate::args;
use crate::exit::Failure;
use crate::output::line;
use crate::session;
use crate::state::State;

pub(crate) fn key(command: &args::Key, json: bool) -> Result<ExitCode, Failure> {
    let open = |state: &args::StateDir| State::existing(state.state_dir.as_deref());
    match command {
        args::Key::Show { state } => show(&open(state)?, json),
        args::Key::Rotate { state } => rotate(open(state)?, json),
        args::Key::ExportPublic { state } => export_public(&open(state)?, json),
    }
}

fn show(state: &State, json: bool) -> Result<ExitCode, Failure> {
    let keys = ledger::public_keys(&state.ledger()).map_err(invalid)?;
    let epochs = keys.epochs();
    if json {
        let epochs: Vec<Value> = epochs.iter().map(epoch_json).collect();
        line(json!({
            "origin": keys.name(), "fingerprint": fingerprint(&keys), "epochs": epochs,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    line(format_args!("origin {}", keys.name()))?;
    line(format_args!(
        "fingerprint {} of ledger.pub",
        fingerprint(&keys)
    ))?;
    for epoch in &epochs {
        let to = epoch
            .to
            .map_or_else(|| "on".to_owned(), |to| format!("to {to}"));
        line(format_args!(
            "epoch {}: signs for {} entries {to}\n  {}\n  {}",
            epoch.number, epoch.from, epoch.log, epoch.time
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// As `sha256sum` prints it of `ledger.pub`.
pub(super) fn fingerprint(keys: &PublicKeys) -> String {
    let bytes = keys.fingerprint();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn epoch_json(epoch: &Epoch) -> Value {
    json!({
        "epoch": epoch.number, "from": epoch.from, "to": epoch.to, "began": epoch.began,
        "key": epoch.log.to_string(), "time_key": epoch.time.to_string(),
    })
}

fn rotate(mut state: State, json: bool) -> Result<ExitCode, Failure> {
    state.become_owner()?;
    let opened = session::open_existing(&state)?;
    let mut ledger = opened.map_err(|error| session::not_opened(&state, error))?;
    let index = ledger.rotate().map_err(invalid)?;
    let epoch = ledger.public_keys().epoch();
    ledger.close().map_err(invalid)?;
    if json {
        line(json!({ "epoch": epoch, "entry": index }))?;
    } else {
        line(format_args!(
            "epoch {epoch} begins with entry {index}; the secret of the one before is erased"
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn export_public(state: &State, json: bool) -> Result<ExitCode, Failure> {
    let keys = ledger::public_keys(&state.ledger())
        .map_err(invalid)?
        .to_string();
    if json {
        line(json!({ "public_keys": keys }))?;
    } else {
        line(keys.trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}
