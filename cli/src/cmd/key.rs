//! `daemoneye ledger key show|rotate|export-public`.

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use ledger::{Epoch, PublicKeys};
use serde_json::{Value, json};

use super::ledger::invalid;
use crate::args;
use crate::exit::{Code, Failure, WithCode};
use crate::holder::Holder;
use crate::output::line;
use crate::requests::Rotation;
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
    let (epoch, index) = match session::open_existing(&state)? {
        Ok(mut ledger) => {
            let index = ledger.rotate().map_err(invalid)?;
            let epoch = ledger.public_keys().epoch();
            ledger.close().map_err(invalid)?;
            (epoch, index)
        }
        Err(error @ ledger::Error::Locked { .. }) => ask(&state, error)?,
        Err(error) => return Err(session::not_opened(&state, error)),
    };
    if json {
        line(json!({ "epoch": epoch, "entry": index }))?;
    } else {
        line(format_args!(
            "epoch {epoch} begins with entry {index}; the secret of the one before is erased"
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// How long a daemon may take, which looks for requests every 10 s.
const PATIENCE: Duration = Duration::from_secs(30);

const PAUSE: Duration = Duration::from_millis(100);

/// Has the daemon that holds the ledger rotate its keys; the new epoch and the entry that it begins
/// with.
fn ask(state: &State, locked: ledger::Error) -> Result<(u64, u64), Failure> {
    let keys = || ledger::public_keys(&state.ledger()).map_err(invalid);
    let before = keys()?.epoch();
    let request = Rotation::ask(state).code(Code::StateUnusable)?;
    let end = Instant::now() + PATIENCE;
    loop {
        let keys = keys()?;
        if let Some(newest) = keys.epochs().last().filter(|_| keys.epoch() > before) {
            return Ok((newest.number, newest.from - 1));
        }
        let is_held = Holder::of(&state.ledger()).is_some();
        if !is_held || Instant::now() >= end {
            drop(request);
            let why = "it was asked to rotate the keys and did not: is it `daemoneye run`, and does \
                       its log say why? Else try again once it has ended";
            return Err(session::not_opened(state, locked).context(why.to_owned()));
        }
        thread::sleep(PAUSE);
    }
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
