//! What watches the workload: nothing, `daemoneye` in one of its modes, or a peer.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;
use tempfile::TempDir;
use vm::Daemon;

use super::peers::{self, Peer};
use crate::shell;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Nothing.
    None,
    /// The same programs and buffer; records are drained and counted.
    Floor,
    /// `daemoneye record` to memory: no ledger, no rules.
    Collector,
    /// `daemoneye run` with its ledger and all shipped rules.
    Full,
    /// Another sensor.
    Peer(Peer),
}

impl Mode {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "no sensor",
            Self::Floor => "counting only",
            Self::Collector => "daemoneye record",
            Self::Full => "daemoneye run",
            Self::Peer(peer) => peer.name(),
        }
    }
}

/// Programs of our own are beside each other.
pub(super) fn program(name: &str) -> PathBuf {
    shell::target_dir().join("release").join(name)
}

/// `daemoneye` with the files that it writes.
pub(super) struct Sensor {
    pub(super) daemon: Daemon,
    dir: TempDir,
}

impl Sensor {
    /// Starts it and waits until it is ready.
    pub(super) fn start<A: AsRef<OsStr>>(
        mode: Mode,
        options: impl IntoIterator<Item = A>,
    ) -> Result<Self> {
        // In memory, so that a recording costs no more than its bytes.
        let memory = matches!(mode, Mode::Collector).then_some("/dev/shm");
        let dir = memory.map_or_else(tempfile::tempdir, tempfile::tempdir_in)?;
        let mut command = Command::new(program("daemoneye"));
        match mode {
            Mode::Collector => command.arg("record").arg(recording(dir.path())),
            Mode::Full => {
                let state = dir.path().join("state");
                command.args(["run", "--json", "--state-dir"]).arg(state)
            }
            _ => command.arg("bench-count"),
        };
        command.arg("--stats-json").arg(dir.path().join("stats"));
        let daemon = Daemon::start_command(command.args(options))?;
        Ok(Self { daemon, dir })
    }

    pub(super) fn recording(&self) -> PathBuf {
        recording(self.dir.path())
    }

    pub(super) fn stop(self) -> Result<Told> {
        self.daemon.stop()?;
        read_stats(&self.dir.path().join("stats"))
    }

    /// Ends it and keeps its recording.
    pub(super) fn stop_and_keep(self, file: &Path) -> Result<()> {
        let recording = self.recording();
        self.daemon.stop()?;
        std::fs::copy(recording, file).with_context(|| file.display().to_string())?;
        Ok(())
    }
}

fn recording(dir: &Path) -> PathBuf {
    dir.join("recording")
}

/// What a sensor told of.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Events.
    pub(super) seen: u64,
    /// By class and reason.
    pub(super) dropped: BTreeMap<String, u64>,
}

fn read_stats(path: &Path) -> Result<Told> {
    let text = std::fs::read(path).context("daemoneye wrote no --stats-json")?;
    let stats: Value = serde_json::from_slice(&text).context("--stats-json is no JSON")?;
    let sensor = &stats["sensor"];
    let seen = sensor["seen"].as_u64();
    let drops = sensor["dropped"].as_array();
    let text = |drop: &Value, name: &str| drop[name].as_str().unwrap_or("?").to_owned();
    let entry = |drop: &Value| {
        let name = format!("{}/{}", text(drop, "class"), text(drop, "reason"));
        (name, drop["count"].as_u64().unwrap_or(0))
    };
    let dropped = drops.context("--stats-json has no sensor.dropped")?.iter();
    Ok(Told {
        seen: seen.context("--stats-json has no sensor.seen")?,
        dropped: dropped.map(entry).filter(|(_, count)| *count > 0).collect(),
    })
}

/// Whatever watches.
pub(super) enum Watcher {
    Sensor(Sensor),
    Peer(peers::Running),
}

impl Watcher {
    /// `None` watches nothing.
    pub(super) fn start(mode: Mode, transport: &str) -> Result<Option<Self>> {
        let options = ["--sensor", "ebpf", "--transport", transport];
        Ok(match mode {
            Mode::None => None,
            Mode::Peer(peer) => Some(Self::Peer(peers::Running::start(peer)?)),
            _ => Some(Self::Sensor(Sensor::start(mode, options)?)),
        })
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        match self {
            Self::Sensor(sensor) => vec![sensor.daemon.pid()],
            Self::Peer(peer) => peer.pids(),
        }
    }

    /// Ends it, which saw so many execs at least if it lost none.
    pub(super) fn stop(self, execs: u64) -> Result<Told> {
        match self {
            Self::Sensor(sensor) => sensor.stop(),
            Self::Peer(peer) => peer.stop(execs),
        }
    }
}
