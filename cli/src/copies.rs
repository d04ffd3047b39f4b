//! Copies of every checkpoint in a second directory (`--checkpoint-dir`): another disk, a stick, a
//! share. A directory that hangs or fails holds nobody up.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;
use crossbeam_channel::{Receiver, Sender, bounded};
use ledger::{Checkpoint, Export, Ledger};

use crate::cmd::ledger::invalid;
use crate::exit::{Code, Failure, WithCode};
use crate::output::notice;
use crate::state::State;

/// Checkpoints that may wait for a slow directory.
const WAITING: usize = 8;

/// How long the last checkpoint may take at the end.
const PATIENCE: Duration = Duration::from_secs(5);

/// The thread that writes the copies.
pub(crate) struct Copies {
    checkpoints: Sender<Checkpoint>,
    thread: JoinHandle<()>,
}

impl Copies {
    /// Opens the directory, holds the ledger against the newest copy there, and starts.
    pub(crate) fn start(dir: &Path, state: &State, ledger: &mut Ledger) -> Result<Self, Failure> {
        let place = || format!("--checkpoint-dir {}", dir.display());
        let mut export =
            Export::open(dir, &state.ledger()).map_err(|error| invalid(error).context(place()))?;
        match export.newest() {
            Some(newest) => match ledger.holds(newest) {
                // A directory that was away for as long as entries are kept.
                Err(error @ ledger::Error::TooOld { .. }) => {
                    tracing::warn!("{}: {error}", place());
                }
                held => held.map_err(|error| invalid(error).context(place()))?,
            },
            None if ledger.size() > 0 => tracing::warn!(
                "{} holds no checkpoint of this ledger yet, so nothing shows whether it was set back",
                place()
            ),
            None => {}
        }
        if let Some(last) = ledger.last_checkpoint() {
            match export.add(last) {
                Err(ledger::Error::Io { source, .. }) if is_full(&source) => {
                    tracing::error!("{}: {source}; tried again with each checkpoint", place());
                }
                added => added.with_context(place).code(Code::StateUnusable)?,
            }
        }
        let (checkpoints, signed) = bounded(WAITING);
        let thread = thread::Builder::new()
            .name("checkpoints".into())
            .spawn(move || copy(&mut export, &signed))
            .context("starting the thread that copies checkpoints")?;
        Ok(Self {
            checkpoints,
            thread,
        })
    }

    /// Where the checkpoints go in.
    pub(crate) fn sender(&self) -> Sender<Checkpoint> {
        self.checkpoints.clone()
    }

    /// Waits for the last copy, but not for a directory that hangs.
    pub(crate) fn finish(self) {
        drop(self.checkpoints);
        let end = Instant::now() + PATIENCE;
        while !self.thread.is_finished() {
            if Instant::now() >= end {
                notice("--checkpoint-dir does not answer: the last checkpoint is not copied there");
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A directory without room is no reason not to watch.
fn is_full(error: &io::Error) -> bool {
    let full = [ErrorKind::StorageFull, ErrorKind::QuotaExceeded];
    full.contains(&error.kind())
}

/// Until nobody signs any more.
fn copy(export: &mut Export, signed: &Receiver<Checkpoint>) {
    let mut failing = false;
    while let Ok(checkpoint) = signed.recv() {
        // Only the newest of those that wait.
        let checkpoint = signed.try_iter().last().unwrap_or(checkpoint);
        match export.add(&checkpoint) {
            Ok(()) if failing => tracing::info!("--checkpoint-dir takes checkpoints again"),
            Ok(()) => {}
            Err(error) if !failing => tracing::error!(
                "--checkpoint-dir: {:#}; tried again with each checkpoint",
                anyhow::Error::new(error)
            ),
            Err(_) => continue,
        }
        failing = export.newest() != Some(&checkpoint);
    }
}
