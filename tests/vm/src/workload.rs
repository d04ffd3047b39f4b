//! A process that does one precise thing, seen from outside: what it said and who took part.

use std::ffi::OsStr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::daemon::{lines_of, patience};
use crate::place;

/// What the `workload` program reported: lines of a name and a value, mostly a pid.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Workload {
    reported: Vec<(String, String)>,
}

impl Workload {
    /// Runs the program to its end. Its subcommands are in `src/bin/workload`.
    ///
    /// # Errors
    /// It cannot be started or does not end with 0.
    pub fn run<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Result<Self> {
        Self::run_command(Command::new(place::workload()?).args(arguments))
    }

    /// Like [`Workload::run`], for a command made by the caller.
    ///
    /// # Errors
    /// The same.
    pub fn run_command(command: &mut Command) -> Result<Self> {
        let output = command
            .output()
            .with_context(|| format!("cannot start {command:?}"))?;
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "{command:?} ended with {}: {errors}",
            output.status
        );
        // A child can fail where the workload goes on: what it said belongs to a failing test.
        eprint!("{errors}");
        Ok(Self::parse(&said))
    }

    /// Reads `name value` lines; others are the output of programs that it ran.
    #[must_use]
    pub fn parse(said: &str) -> Self {
        let pair = |line: &str| {
            let (name, value) = line.split_once(' ')?;
            Some((name.to_owned(), value.to_owned()))
        };
        Self {
            reported: said.lines().filter_map(pair).collect(),
        }
    }

    /// The number of that name.
    ///
    /// # Panics
    /// It was not reported.
    #[must_use]
    #[track_caller]
    pub fn number(&self, name: &str) -> u64 {
        let found = self.all(name).next();
        found.unwrap_or_else(|| panic!("the workload reported no {name}: {self:?}"))
    }

    /// The text of that name; bytes that are not printable ASCII are escaped.
    ///
    /// # Panics
    /// It was not reported.
    #[must_use]
    #[track_caller]
    pub fn text(&self, name: &str) -> &str {
        let found = self.reported.iter().find(|(n, _)| n == name);
        let (_, text) =
            found.unwrap_or_else(|| panic!("the workload reported no {name}: {self:?}"));
        text
    }

    /// The pid of that name.
    ///
    /// # Panics
    /// It was not reported.
    #[must_use]
    #[track_caller]
    pub fn pid(&self, name: &str) -> u32 {
        u32::try_from(self.number(name)).expect("pids have 32 bits")
    }

    /// All numbers of that name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = u64> + 'a {
        self.reported
            .iter()
            .filter(move |(n, _)| n == name)
            .filter_map(|(_, value)| value.parse().ok())
    }

    /// All pids whose name starts so, with the rest of the name.
    pub fn pids_of<'a>(&'a self, start: &'a str) -> impl Iterator<Item = (&'a str, u32)> + 'a {
        self.reported
            .iter()
            .filter_map(move |(name, value)| Some((name.strip_prefix(start)?, value.parse().ok()?)))
    }
}

/// A workload that goes on until it is told to end. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<(Instant, String)>,
    said: String,
}

impl Running {
    /// Starts the program, and waits until it reports `ready`.
    ///
    /// # Errors
    /// It cannot be started, or ends or says nothing for a minute before that.
    pub fn start<A: AsRef<OsStr>>(
        arguments: impl IntoIterator<Item = A>,
        ready: &str,
    ) -> Result<Self> {
        let mut command = Command::new(place::workload()?);
        let command = command.args(arguments).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let lines = lines_of(child.stdout.take());
        let mut running = Self {
            stdin: child.stdin.take(),
            child,
            lines,
            said: String::new(),
        };
        while !running.next_line()?.starts_with(ready) {}
        Ok(running)
    }

    fn next_line(&mut self) -> Result<String> {
        let (_, line) = self
            .lines
            .recv_timeout(patience(Duration::from_secs(60)))
            .with_context(|| format!("the workload only said:\n{}", self.said))?;
        self.said.push_str(&line);
        self.said.push('\n');
        Ok(line)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends its standard input, and waits until it ends by itself.
    ///
    /// # Errors
    /// It fails, or does not end.
    pub fn finish(mut self) -> Result<Workload> {
        drop(self.stdin.take());
        while let Ok(line) = self.lines.recv() {
            self.said.push_str(&line.1);
            self.said.push('\n');
        }
        let status = self.child.wait()?;
        ensure!(status.success(), "the workload ended with {status}");
        Ok(Workload::parse(&self.said))
    }

    /// Kills it.
    ///
    /// # Errors
    /// It has ended.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only where it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::Workload;

    #[test]
    fn reports_are_found_among_other_output() {
        let report = Workload::parse("noise\nself 12\ntid 13\ntid 14\nchild x\n");
        assert_eq!(report.pid("self"), 12);
        assert_eq!(report.all("tid").collect::<Vec<_>>(), [13, 14]);
        assert_eq!(report.all("child").count(), 0);
        assert_eq!(report.text("child"), "x");
        assert_eq!(report.pids_of("se").collect::<Vec<_>>(), [("lf", 12)]);
    }
}
