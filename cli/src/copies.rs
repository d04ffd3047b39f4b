//! Copies of every checkpoint in a second directory (`--checkpoint-dir`): another disk, a stick, a
//! share. A directory that hangs or fails holds nobody up.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;
use crossbeam_channel::{Receiver, Sender, bounded};
use ledger::{Checkpoint, Export, Ledger};
use serde_json::{Value, json};

use crate::cmd::ledger::invalid;
use crate::exit::{Code, Failure, WithCode};
use crate::output::notice;
use crate::privileges;
use crate::state::State;

/// Checkpoints that may wait for a slow directory.
const WAITING: usize = 8;

/// How long the directory may take at the start, and for the last checkpoint at the end. One that
/// takes longer for any other checkpoint is said to hang.
const PATIENCE: Duration = Duration::from_secs(5);

/// The thread that writes the copies.
pub(crate) struct Copies {
    checkpoints: Sender<Checkpoint>,
    thread: JoinHandle<()>,
    doing: Doing,
}

/// How the copying does, for `status.json`.
#[derive(Clone)]
pub(crate) struct Doing {
    now: Arc<Mutex<Now>>,
    dir: PathBuf,
}

struct Now {
    how: How,
    /// Since when a call is under way.
    busy_since: Option<Instant>,
    /// Size and time of the newest checkpoint there.
    newest: Option<(u64, u64)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Copying,
    Failing,
    /// What is there is of another history, and is left as it is.
    Refused,
}

impl Copies {
    /// Opens the directory, holds the ledger against the newest copy there, and starts. A directory
    /// that does not answer in time is waited for by the thread alone, which then does the same.
    pub(crate) fn start(dir: &Path, state: &State, ledger: &mut Ledger) -> Result<Self, Failure> {
        let log = state.ledger();
        let (wanted, own) = (dir.to_owned(), log.clone());
        Self::start_by(dir, log, ledger, PATIENCE, move || {
            Export::open(&wanted, &own)
        })
    }

    fn start_by(
        dir: &Path,
        log: PathBuf,
        ledger: &mut Ledger,
        patience: Duration,
        open: impl FnOnce() -> Result<Export, ledger::Error> + Send + 'static,
    ) -> Result<Self, Failure> {
        let place = || format!("--checkpoint-dir {}", dir.display());
        let doing = Doing::new(dir);
        let (checkpoints, signed) = bounded(WAITING);
        // Without room: what nobody waits for any more cannot be sent.
        let (answer, opened) = bounded(0);
        let (held, is_held) = bounded::<Option<Checkpoint>>(1);
        let (added, first) = bounded(0);
        let told = doing.clone();
        let work = move || {
            let opened = told.during(open);
            let export = match opened {
                Ok(export) => export,
                Err(error) => {
                    if let Err(late) = answer.send(Err(error)) {
                        told.is(How::Failing);
                        if let Err(error) = late.into_inner() {
                            tracing::error!("{}: {:#}", told.place(), anyhow::Error::new(error));
                        }
                    }
                    return;
                }
            };
            let mut copier = Copier { export, told };
            let newest = copier.export.newest().cloned();
            copier.told.has(newest.as_ref());
            match answer.send(Ok(newest)) {
                Ok(()) => match is_held.recv() {
                    Ok(Some(last)) => {
                        let result = copier.add(&last);
                        // Late: it is told as any other.
                        if let Err(late) = added.send(result) {
                            copier.tell(late.into_inner(), false);
                        }
                    }
                    Ok(None) => {}
                    // The start failed.
                    Err(_) => return,
                },
                Err(_) if copier.is_held_by(&log) => {
                    tracing::warn!(
                        "{} answers now: checkpoints are copied",
                        copier.told.place()
                    );
                }
                Err(_) => return copier.told.is(How::Refused),
            }
            copier.copy(&signed);
        };
        let thread = thread::Builder::new()
            .name("checkpoints".into())
            .spawn(work)
            .context("starting the thread that copies checkpoints")?;
        let copies = Self {
            checkpoints,
            thread,
            doing,
        };
        let deadline = Instant::now() + patience;
        let Ok(opened) = opened.recv_deadline(deadline) else {
            tracing::error!(
                "{} does not answer: the ledger is not held against the copies there, and \
                 checkpoints are copied once it does",
                place()
            );
            return Ok(copies);
        };
        let newest = opened.map_err(|error| unusable(error).context(place()))?;
        hold(ledger, newest.as_ref(), &place())?;
        // The thread waits for it.
        let _ = held.send(ledger.last_checkpoint().cloned());
        match first.recv_deadline(deadline) {
            Ok(Err(ledger::Error::Io { source, .. })) if is_full(&source) => {
                tracing::error!("{}: {source}; tried again with each checkpoint", place());
            }
            Ok(Err(error)) if is_denied(&error) => return Err(unusable(error).context(place())),
            Ok(added) => added.with_context(place).code(Code::StateUnusable)?,
            Err(_) => tracing::error!(
                "{} does not take the last checkpoint: checkpoints are copied once it does",
                place()
            ),
        }
        Ok(copies)
    }

    /// Where the checkpoints go in.
    pub(crate) fn sender(&self) -> Sender<Checkpoint> {
        self.checkpoints.clone()
    }

    /// How it does, from now on.
    pub(crate) fn doing(&self) -> Doing {
        self.doing.clone()
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

/// Whether the ledger continues the newest copy.
fn hold(ledger: &mut Ledger, newest: Option<&Checkpoint>, place: &str) -> Result<(), Failure> {
    match newest {
        Some(newest) => match ledger.holds(newest) {
            // A directory that was away for as long as entries are kept.
            Err(error @ ledger::Error::TooOld { .. }) => tracing::warn!("{place}: {error}"),
            held => held.map_err(|error| invalid(error).context(place.to_owned()))?,
        },
        None if ledger.size() > 0 => tracing::warn!(
            "{place} holds no checkpoint of this ledger yet, so nothing shows whether it was set back"
        ),
        None => {}
    }
    Ok(())
}

/// As [`invalid`]; where rights are missing, it says whose.
fn unusable(error: ledger::Error) -> Failure {
    if is_of(&error, ErrorKind::NotFound) || is_of(&error, ErrorKind::NotADirectory) {
        return Failure::new(Code::Usage, error);
    }
    let denied = is_denied(&error);
    let failure = invalid(error);
    match denied {
        true => failure.context(privileges::writer()),
        false => failure,
    }
}

fn is_denied(error: &ledger::Error) -> bool {
    is_of(error, ErrorKind::PermissionDenied)
}

fn is_of(error: &ledger::Error, kind: ErrorKind) -> bool {
    matches!(error, ledger::Error::Io { source, .. } if source.kind() == kind)
}

/// A directory without room is no reason not to watch.
fn is_full(error: &io::Error) -> bool {
    let full = [ErrorKind::StorageFull, ErrorKind::QuotaExceeded];
    full.contains(&error.kind())
}

/// Writes copies, and tells how that does.
struct Copier {
    export: Export,
    told: Doing,
}

impl Copier {
    /// Whether a log whose writer runs already continues the newest copy. Reads all of its leaves.
    fn is_held_by(&self, log: &Path) -> bool {
        let Some(newest) = self.export.newest() else {
            return true;
        };
        match ledger::audit(log, None, newest.note()) {
            Ok(_) => true,
            Err(error @ ledger::Error::TooOld { .. }) => {
                tracing::warn!("{}: {error}", self.told.place());
                true
            }
            Err(error) => {
                tracing::error!(
                    "{}: {:#}; nothing is copied there, and the next start is refused",
                    self.told.place(),
                    anyhow::Error::new(error)
                );
                false
            }
        }
    }

    /// Until nobody signs any more.
    fn copy(&mut self, signed: &Receiver<Checkpoint>) {
        let mut failing = self.told.is_failing();
        while let Ok(checkpoint) = signed.recv() {
            // Only the newest of those that wait.
            let checkpoint = signed.try_iter().last().unwrap_or(checkpoint);
            let added = self.add(&checkpoint);
            failing = self.tell(added, failing);
        }
    }

    fn add(&mut self, checkpoint: &Checkpoint) -> Result<(), ledger::Error> {
        let added = self.told.during(|| self.export.add(checkpoint));
        self.told.has(self.export.newest());
        self.told.is(match &added {
            Ok(()) => How::Copying,
            Err(_) => How::Failing,
        });
        added
    }

    /// Tells the log what became of a copy; whether it failed.
    fn tell(&self, added: Result<(), ledger::Error>, failing: bool) -> bool {
        let place = self.told.place();
        match added {
            Ok(()) if failing => tracing::info!("{place} takes checkpoints again"),
            Err(error) if !failing => tracing::error!(
                "{place}: {:#}; tried again with each checkpoint",
                anyhow::Error::new(error)
            ),
            _ => {}
        }
        self.told.is_failing()
    }
}

impl Doing {
    fn new(dir: &Path) -> Self {
        Self {
            now: Arc::new(Mutex::new(Now {
                how: How::Copying,
                busy_since: None,
                newest: None,
            })),
            dir: dir.to_owned(),
        }
    }

    fn place(&self) -> String {
        format!("--checkpoint-dir {}", self.dir.display())
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a call that may hang.
    fn during<T>(&self, call: impl FnOnce() -> T) -> T {
        self.now().busy_since = Some(Instant::now());
        let result = call();
        self.now().busy_since = None;
        result
    }

    fn has(&self, newest: Option<&Checkpoint>) {
        self.now().newest = newest.map(|newest| (newest.size(), newest.time()));
    }

    fn is(&self, how: How) {
        self.now().how = how;
    }

    fn is_failing(&self) -> bool {
        self.now().how != How::Copying
    }

    /// For `status.json`.
    pub(crate) fn document(&self) -> Value {
        let now = self.now();
        let hangs = now
            .busy_since
            .is_some_and(|since| since.elapsed() > PATIENCE);
        let how = match now.how {
            _ if hangs => "hanging",
            How::Copying => "ok",
            How::Failing => "failing",
            How::Refused => "refused",
        };
        let newest = now
            .newest
            .map(|(size, time)| json!({ "size": size, "at_ms": time.saturating_mul(1_000) }));
        json!({
            "dir": self.dir.display().to_string(), "state": how, "ok": how == "ok",
            "last_checkpoint": newest,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(50);

    fn ledger(dir: &Path) -> Ledger {
        let options = ledger::Options::new("daemoneye/test");
        Ledger::open(dir, &options).unwrap().0
    }

    /// A directory that answers once `answer` is dropped.
    fn hung(copies: &Path, log: &Path, ledger: &mut Ledger) -> (Copies, Sender<()>) {
        let (answer, answered) = bounded::<()>(0);
        let (wanted, own) = (copies.to_owned(), log.to_owned());
        let open = move || {
            let _ = answered.recv();
            Export::open(&wanted, &own)
        };
        let copies = Copies::start_by(copies, log.to_owned(), ledger, SOON, open);
        (
            copies.unwrap_or_else(|_| panic!("it is not waited for")),
            answer,
        )
    }

    fn wait_for(doing: &Doing, state: &str) -> Value {
        let patience = Instant::now() + Duration::from_secs(60);
        loop {
            let document = doing.document();
            if document["state"] == state && document["last_checkpoint"] != Value::Null {
                return document;
            }
            assert!(Instant::now() < patience, "{document}");
            thread::yield_now();
        }
    }

    /// A dead network share held up the start for as long as it was dead.
    #[test]
    fn a_directory_that_hangs_does_not_hold_up_the_start_and_is_used_once_it_answers() {
        let (log, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut ledger = ledger(log.path());
        let (copies, answer) = hung(dir.path(), log.path(), &mut ledger);
        let doing = copies.doing();
        assert_eq!(doing.document()["last_checkpoint"], Value::Null);
        doing.now().busy_since = Instant::now().checked_sub(2 * PATIENCE);
        assert_eq!(
            (&doing.document()["state"], &doing.document()["ok"]),
            (&"hanging".into(), &false.into())
        );
        drop(answer);
        ledger.append(b"leaf").unwrap();
        copies.sender().send(ledger.checkpoint().unwrap()).unwrap();
        assert_eq!(wait_for(&doing, "ok")["last_checkpoint"]["size"], 1);
        copies.finish();
        let copied = ledger::newest_checkpoint(dir.path()).unwrap().unwrap();
        assert_eq!(Some(&copied), ledger.last_checkpoint());
    }

    /// What the start could not see is seen later, and the copies stay as they are.
    #[test]
    fn a_directory_that_answers_late_with_another_history_is_left_alone() {
        let (log, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut ledger = ledger(log.path());
        ledger.append(b"leaf").unwrap();
        let newer = ledger.checkpoint().unwrap();
        Export::open(dir.path(), log.path())
            .unwrap()
            .add(&newer)
            .unwrap();
        drop(ledger);
        // Set back to its beginning.
        for name in ["checkpoints.txt", "last-checkpoint"] {
            let file = log.path().join(name);
            let text = std::fs::read_to_string(&file).unwrap();
            let first = std::fs::read_to_string(log.path().join("checkpoints.txt")).unwrap();
            let first = first.split_inclusive("\n\n").take(2).collect::<String>();
            let first = match name {
                "checkpoints.txt" => first,
                _ => first.strip_suffix('\n').unwrap().to_owned(),
            };
            assert_ne!(first, text);
            std::fs::write(&file, first).unwrap();
        }
        std::fs::remove_file(log.path().join("index.redb")).unwrap();
        let segment = log.path().join("entries/0000000000000000.seg");
        std::fs::File::options()
            .write(true)
            .open(segment)
            .unwrap()
            .set_len(96)
            .unwrap();
        let mut ledger = self::ledger(log.path());
        assert_eq!(ledger.size(), 0);
        let (copies, answer) = hung(dir.path(), log.path(), &mut ledger);
        let doing = copies.doing();
        drop(answer);
        assert_eq!(wait_for(&doing, "refused")["last_checkpoint"]["size"], 1);
        ledger.append(b"other").unwrap();
        ledger.append(b"leaves").unwrap();
        let forged = ledger.checkpoint().unwrap();
        let _ = copies.sender().try_send(forged);
        copies.finish();
        let copied = ledger::newest_checkpoint(dir.path()).unwrap().unwrap();
        assert_eq!(copied, newer);
    }
}
