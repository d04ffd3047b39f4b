//! A running VM: QEMU, its serial line, and the end of its time.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::matrix::Cell;
use super::watch::{Outcome, Watch, is_test};
use crate::shell;

/// After a panic the kernel shows where, and resets.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// A VM that runs. Dropping it ends it.
pub(crate) struct Console {
    qemu: Child,
    lines: Receiver<String>,
    log: File,
    name: String,
    verbose: bool,
    watch: Watch,
    start: Instant,
}

/// Where a cell's console is kept.
pub(crate) fn log_path(cell: &Cell) -> PathBuf {
    cell.dir().join("console.log")
}

impl Console {
    pub(crate) fn start(cell: &Cell, mut command: Command, verbose: bool) -> Result<Self> {
        let path = log_path(cell);
        fs::create_dir_all(cell.dir())?;
        let log =
            File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        eprintln!("$ {}", shell::display(&command));
        let mut qemu = command.spawn().context("cannot start QEMU")?;
        let lines = lines_of(&mut qemu);
        Ok(Self {
            qemu,
            lines,
            log,
            name: cell.to_string(),
            verbose,
            watch: Watch::default(),
            start: Instant::now(),
        })
    }

    /// Watches until init gives its verdict, the kernel panics, QEMU ends or time is over.
    pub(crate) fn watch(mut self, timeout: Duration) -> Outcome {
        let ended = self.read(timeout);
        self.watch.outcome(ended, self.start.elapsed())
    }

    /// Gives why there is no verdict of init.
    fn read(&mut self, timeout: Duration) -> Option<String> {
        let mut deadline = self.start + timeout;
        while !self.watch.is_over() {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    if self.take(&line) {
                        deadline = deadline.min(Instant::now() + LAST_WORDS);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.take_rest();
                    return Some(format!("no verdict within {} s", timeout.as_secs()));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Some("QEMU ended before init gave a verdict".into());
                }
            }
        }
        None
    }

    fn take(&mut self, line: &str) -> bool {
        // Losing the log is no reason to lose the run.
        let _ = writeln!(self.log, "{line}");
        if self.verbose || is_test(line) {
            shell::say(format_args!("{}: {line}", self.name));
        }
        self.watch.line(line)
    }

    /// The line in which it hangs has no end: the end of QEMU is taken for that.
    fn take_rest(&mut self) {
        // Fails only where it ended by itself.
        let _ = self.qemu.kill();
        while let Ok(line) = self.lines.recv() {
            self.take(&line);
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // Fails only where it ended by itself, which is as good.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// Lines of the console, without what terminals add.
fn lines_of(qemu: &mut Child) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    if let Some(pipe) = qemu.stdout.take() {
        thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line);
                let line = line.trim_end_matches('\r').to_owned();
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
    }
    lines
}
