//! What a process used, as procfs tells while it runs.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// USER_HZ, the unit of procfs times; 100 on every architecture that we build for.
const TICKS_PER_SECOND: u64 = 100;

/// User and system time of all threads so far.
pub(super) fn cpu(pid: u32) -> Result<Duration> {
    let stat = read(pid, "stat")?;
    // The name may hold spaces and parentheses; fields are counted after its last one.
    let (_, fields) = stat.rsplit_once(") ").context("stat has no name")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<u64>().ok());
    let (user, system) = ticks(11).zip(ticks(12)).context("stat has no times")?;
    Ok(Duration::from_millis(
        (user + system) * 1000 / TICKS_PER_SECOND,
    ))
}

/// Waits until the process has done what was left to do, 10 s at most, and gives its CPU time.
pub(super) fn cpu_at_rest(pid: u32) -> Result<Duration> {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut before = cpu(pid)?;
    loop {
        thread::sleep(Duration::from_millis(500));
        let now = cpu(pid)?;
        // A tick may come from timers alone.
        if now - before <= Duration::from_millis(10) || Instant::now() > deadline {
            return Ok(now);
        }
        before = now;
    }
}

/// Most memory ever resident, in bytes.
pub(super) fn peak_rss(pid: u32) -> Result<u64> {
    let status = read(pid, "status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(kib.context("status has no VmHWM")? * 1024)
}

fn read(pid: u32, file: &str) -> Result<String> {
    let path = format!("/proc/{pid}/{file}");
    fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
}
