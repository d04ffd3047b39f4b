//! Drives `daemoneye` as an operator would: arguments, output, signals.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::place;

/// Starts the line on standard error which says that events flow.
const READY: &str = "daemoneye: ready";
/// Multiplies every deadline and divides every crowd, for machines that are emulated.
pub const SLOW_VARIABLE: &str = "DAEMONEYE_TEST_SLOW";

/// A deadline for this machine, from what is enough on ordinary ones.
#[must_use]
pub fn patience(ordinary: Duration) -> Duration {
    ordinary * slowness()
}

/// How many of something make sense on this machine, from how many do on ordinary ones.
#[must_use]
pub fn fewer(ordinary: u32) -> u32 {
    ordinary / slowness()
}

fn slowness() -> u32 {
    let factor = std::env::var(SLOW_VARIABLE).ok();
    let factor = factor.and_then(|text| text.parse().ok());
    factor.filter(|factor| *factor > 0).unwrap_or(1)
}

/// A running `daemoneye`. Dropping it kills it.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    stdout: Receiver<(Instant, String)>,
    stderr: Receiver<(Instant, String)>,
    log: String,
}

/// What is left of a `daemoneye` that ended.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// Lines on standard output that were not taken before.
    pub stdout: Vec<String>,
    /// All of standard error.
    pub stderr: String,
}

impl Daemon {
    /// Starts the program and waits until it is ready.
    ///
    /// # Errors
    /// It cannot be started, ends, or says nothing for a minute; with its standard error.
    pub fn start<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Result<Self> {
        let mut command = Command::new(place::daemoneye()?);
        Self::start_command(command.args(arguments).args(place::options()))
    }

    /// Like [`Daemon::start`], for a command made by the caller.
    ///
    /// # Errors
    /// The same.
    pub fn start_command(command: &mut Command) -> Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let stdout = lines_of(child.stdout.take());
        let stderr = lines_of(child.stderr.take());
        let mut daemon = Self {
            child,
            stdout,
            stderr,
            log: String::new(),
        };
        daemon.await_ready()?;
        Ok(daemon)
    }

    fn await_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + patience(Duration::from_secs(60));
        while let Ok((_, line)) = self.stderr.recv_timeout(until(deadline)) {
            let ready = line.starts_with(READY);
            self.note(&line);
            if ready {
                return Ok(());
            }
        }
        bail!("daemoneye did not become ready; it said:\n{}", self.log)
    }

    fn note(&mut self, line: &str) {
        self.log.push_str(line);
        self.log.push('\n');
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line on standard output that `wanted` accepts, and when it came; others are passed
    /// over.
    ///
    /// # Errors
    /// None comes in time.
    pub fn line(
        &mut self,
        within: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<(Instant, String)> {
        let deadline = Instant::now() + patience(within);
        let mut passed = Vec::new();
        loop {
            match self.stdout.recv_timeout(until(deadline)) {
                Ok((at, line)) if wanted(&line) => return Ok((at, line)),
                Ok((_, line)) => passed.push(line),
                Err(_) => break,
            }
        }
        while let Ok((_, line)) = self.stderr.try_recv() {
            self.note(&line);
        }
        bail!(
            "no such line within {within:?}; on stdout:\n{}\non stderr:\n{}",
            passed.join("\n"),
            self.log
        )
    }

    /// The next line on standard error that contains `wanted`.
    ///
    /// # Errors
    /// None comes in time.
    pub fn said(&mut self, within: Duration, wanted: &str) -> Result<String> {
        let deadline = Instant::now() + patience(within);
        while let Ok((_, line)) = self.stderr.recv_timeout(until(deadline)) {
            self.note(&line);
            if line.contains(wanted) {
                return Ok(line);
            }
        }
        bail!("no {wanted:?} within {within:?}; it said:\n{}", self.log)
    }

    /// Ends it as Ctrl-C does.
    ///
    /// # Errors
    /// It does not end within half a minute, or not with 0.
    pub fn stop(mut self) -> Result<Ended> {
        self.signal(Signal::INT)?;
        let status = self.wait(Duration::from_secs(30))?;
        let ended = self.rest(status);
        if !ended.status.success() {
            bail!(
                "daemoneye ended with {} on SIGINT; it said:\n{}",
                ended.status,
                ended.stderr
            );
        }
        Ok(ended)
    }

    /// Ends it as a crash does.
    ///
    /// # Errors
    /// It had ended before.
    pub fn kill(mut self) -> Result<Ended> {
        self.signal(Signal::KILL)?;
        let status = self.wait(Duration::from_secs(30))?;
        Ok(self.rest(status))
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).context("daemoneye has ended by itself")
    }

    fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + patience(within);
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(5));
        }
        bail!(
            "daemoneye still runs {within:?} after the signal; it said:\n{}",
            self.log
        )
    }

    fn rest(&mut self, status: ExitStatus) -> Ended {
        while let Ok((_, line)) = self.stderr.recv() {
            self.note(&line);
        }
        let stdout = self.stdout.iter().map(|(_, line)| line).collect();
        Ended {
            status,
            stdout,
            stderr: std::mem::take(&mut self.log),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Fails only where it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let rest: Vec<_> = self.stderr.try_iter().map(|(_, line)| line).collect();
            eprintln!("daemoneye said:\n{}{}", self.log, rest.join("\n"));
        }
    }
}

fn until(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

pub(crate) fn lines_of(pipe: Option<impl Read + Send + 'static>) -> Receiver<(Instant, String)> {
    let (sender, receiver) = mpsc::channel();
    if let Some(pipe) = pipe {
        thread::spawn(move || forward(pipe, &sender));
    }
    receiver
}

fn forward(pipe: impl Read, sender: &Sender<(Instant, String)>) {
    for line in BufReader::new(pipe).split(b'\n') {
        let Ok(line) = line else { return };
        let line = String::from_utf8_lossy(&line).into_owned();
        if sender.send((Instant::now(), line)).is_err() {
            return;
        }
    }
}
