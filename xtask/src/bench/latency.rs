//! From exec to the line of the alert, on a machine that is otherwise idle.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use vm::{Daemon, tiny};

use super::spread::Spread;
use super::storm::program;

/// Milliseconds from before the spawn to the alert's line, over so many alerts one by one. Nothing
/// is measured for none.
pub(super) fn measure(alerts: u64) -> Result<Option<Spread>> {
    let dir = tempfile::tempdir()?;
    let start = ["run", "--sensor", "ebpf", "--json", "--state-dir"];
    let mut command = Command::new(program("daemoneye"));
    let mut daemon = Daemon::start_command(command.args(start).arg(dir.path()))?;
    let shm = tempfile::tempdir_in("/dev/shm").context("no /dev/shm to start a program from")?;
    let mut times = Vec::new();
    for number in 0..alerts {
        let path = shm.path().join(format!("alert-{number}"));
        tiny::write(&path, 0)?;
        let start = Instant::now();
        Command::new(&path).status()?;
        let name = path.to_string_lossy();
        let (at, _) = daemon.line(Duration::from_secs(5), |line| line.contains(&*name))?;
        times.push(at.duration_since(start).as_secs_f64() * 1e3);
    }
    daemon.stop()?;
    Ok(Spread::of(times))
}
