//! Runs workloads under `daemoneye record` and gives what it recorded.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context as _, Result};
use event::wire::RecordingReader;
use event::{Event, EventKind, ProcessKey};
use rustix::process::Signal;
use serde_json::Value;

use crate::{Daemon, Life};

/// A finished recording.
#[derive(Debug)]
pub struct Recording {
    /// Everything recorded, in order.
    pub events: Vec<Event>,
    /// The counters at the end.
    pub stats: Value,
    /// What the recorder said.
    pub stderr: String,
}

impl Recording {
    /// Records while `workloads` runs, and gives what that returned as well. Many workloads in one
    /// recording cost little more than one; tests tell them apart by pid.
    ///
    /// # Errors
    /// The recorder's or the recording's.
    pub fn of<T>(workloads: impl FnOnce() -> Result<T>) -> Result<(Self, T)> {
        Self::with(&[], |_| workloads())
    }

    /// Like [`Recording::of`], with more options for the recorder, which the workloads get as well.
    ///
    /// # Errors
    /// The same.
    pub fn with<T>(
        options: &[&str],
        workloads: impl FnOnce(&Daemon) -> Result<T>,
    ) -> Result<(Self, T)> {
        Self::by("ebpf", options, workloads)
    }

    /// Like [`Recording::with`], from the sensor of that name.
    ///
    /// # Errors
    /// The same.
    pub fn by<T>(
        sensor: &str,
        options: &[&str],
        workloads: impl FnOnce(&Daemon) -> Result<T>,
    ) -> Result<(Self, T)> {
        let options: Vec<&str> = ["--no-hash"].iter().chain(options).copied().collect();
        Self::hashed(sensor, &options, workloads)
    }

    /// Like [`Recording::by`], with digests of executables, as is the default of the program.
    ///
    /// # Errors
    /// The same.
    pub fn hashed<T>(
        sensor: &str,
        options: &[&str],
        workloads: impl FnOnce(&Daemon) -> Result<T>,
    ) -> Result<(Self, T)> {
        let dir = tempfile::tempdir().context("no temporary directory")?;
        let file = dir.path().join("events.rec");
        let stats = dir.path().join("stats.json");
        let start = ["record", "--sensor", sensor].into_iter();
        let start = start.chain(options.iter().copied()).map(Path::new);
        let daemon = Daemon::start(start.chain([Path::new("--stats-json"), &stats, &file]))?;
        let done = workloads(&daemon)?;
        let stderr = daemon.stop()?.stderr;
        let events = read(&file).with_context(|| format!("the recorder said:\n{stderr}"))?;
        let stats = std::fs::read(&stats).context("the recorder wrote no --stats-json")?;
        let stats = serde_json::from_slice(&stats).context("--stats-json is no JSON")?;
        Ok((
            Self {
                events,
                stats,
                stderr,
            },
            done,
        ))
    }

    /// Like [`Recording::with`], but the recorder stands still while `workloads` runs: when it looks,
    /// the processes are gone, and it can only tell what the kernel kept of them.
    ///
    /// # Errors
    /// The same.
    pub fn in_hindsight<T>(
        options: &[&str],
        workloads: impl FnOnce() -> Result<T>,
    ) -> Result<(Self, T)> {
        // Room for what others do meanwhile.
        let options = [&["--ring-size", "64"], options].concat();
        Self::with(&options, |daemon| {
            daemon.signal(Signal::STOP)?;
            let done = workloads();
            daemon.signal(Signal::CONT)?;
            done
        })
    }

    /// The events about a process, in order.
    #[must_use]
    pub fn about(&self, pid: u32) -> Vec<&Event> {
        let about = |event: &&Event| event.key().is_some_and(|key| key.pid == pid);
        self.events.iter().filter(about).collect()
    }

    /// All lives, for tests of many processes.
    #[must_use]
    pub fn lives(&self) -> HashMap<ProcessKey, Life<'_>> {
        let mut events: HashMap<ProcessKey, Vec<&Event>> = HashMap::new();
        for event in &self.events {
            if let Some(key) = event.key() {
                events.entry(key).or_default().push(event);
            }
        }
        let life = |(key, events)| (key, Life::of(events));
        events.into_iter().map(life).collect()
    }

    /// The life of a process.
    #[must_use]
    pub fn life(&self, pid: u32) -> Life<'_> {
        Life::of(self.about(pid))
    }

    /// A counter, by its path in the statistics (`/sensor/seen`).
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn counter(&self, path: &str) -> u64 {
        let value = self.stats.pointer(path).and_then(Value::as_u64);
        value.unwrap_or_else(|| panic!("no counter {path} in {}", self.stats))
    }

    /// Drops of the sensor, summed over the classes and reasons that `wanted` accepts.
    ///
    /// # Panics
    /// The statistics have no list of drops.
    #[must_use]
    pub fn dropped(&self, wanted: impl Fn(&str, &str) -> bool) -> u64 {
        let drops = self
            .stats
            .pointer("/sensor/dropped")
            .and_then(Value::as_array);
        let drops = drops.unwrap_or_else(|| panic!("no list of drops in {}", self.stats));
        let text = |drop: &'_ Value, name| drop[name].as_str().unwrap_or_default().to_owned();
        let wanted = |drop: &&Value| wanted(&text(drop, "class"), &text(drop, "reason"));
        drops
            .iter()
            .filter(wanted)
            .filter_map(|drop| drop["count"].as_u64())
            .sum()
    }
}

fn read(path: &Path) -> Result<Vec<Event>> {
    let file = File::open(path).with_context(|| format!("no recording {}", path.display()))?;
    let mut reader = RecordingReader::new(BufReader::new(file))?;
    let mut events = Vec::new();
    while let Some(event) = reader.next()? {
        events.push(event);
    }
    Ok(events)
}

/// Asserts the kinds of a list of events, as `fork exec exit`, and shows them where they differ.
///
/// # Panics
/// They differ.
pub fn expect_kinds(events: &[&Event], expected: &str) {
    let kinds = kinds(events);
    assert!(
        kinds == expected,
        "expected {expected}, got {kinds}:\n{}",
        dump(events)
    );
}

/// The kinds of a list of events, as `fork exec exit`.
#[must_use]
pub(crate) fn kinds(events: &[&Event]) -> String {
    let names: Vec<_> = events.iter().map(|event| kind_name(event)).collect();
    names.join(" ")
}

/// The name of an event's kind.
#[must_use]
pub fn kind_name(event: &Event) -> &'static str {
    match event.kind {
        EventKind::Fork(_) => "fork",
        EventKind::Exec(_) => "exec",
        EventKind::Exit(_) => "exit",
        EventKind::Snapshot(_) => "snapshot",
        EventKind::Lost(_) => "lost",
        EventKind::Hashed(_) => "hashed",
        EventKind::FailedExec(_) => "failed_exec",
        _ => "unknown",
    }
}

fn dump(events: &[&Event]) -> String {
    events.iter().fold(String::new(), |mut text, event| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{event:?}");
        text
    })
}
