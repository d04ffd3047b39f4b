//! What a process used, as procfs tells while it runs.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// USER_HZ, the unit of procfs times; 100 on every architecture that we build for.
const TICKS_PER_SECOND: u64 = 100;

/// User and system time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cpu {
    pub(super) user: Duration,
    pub(super) system: Duration,
}

impl Cpu {
    pub(super) fn total(self) -> Duration {
        self.user + self.system
    }

    /// Since an earlier look. The kernel keeps the sum right and may shift time from one part to
    /// the other.
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            user: self.user.saturating_sub(before.user),
            system: self.system.saturating_sub(before.system),
        }
    }
}

/// Of all threads so far, those that have ended as well.
pub(super) fn cpu(pid: u32) -> Result<Cpu> {
    let stat = read(pid, "stat")?;
    // The name may hold spaces and parentheses; fields are counted after its last one.
    let (_, fields) = stat.rsplit_once(") ").context("stat has no name")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<u64>().ok());
    let time = |ticks: u64| Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND);
    let (user, system) = ticks(11).zip(ticks(12)).context("stat has no times")?;
    Ok(Cpu {
        user: time(user),
        system: time(system),
    })
}

/// Waits until the processes have done what was left to do, 10 s at most, and gives their time.
pub(super) fn cpu_at_rest(pids: &[u32]) -> Result<Cpu> {
    let all = || {
        pids.iter().try_fold(Cpu::default(), |sum, pid| {
            let Cpu { user, system } = cpu(*pid)?;
            let (user, system) = (sum.user + user, sum.system + system);
            anyhow::Ok(Cpu { user, system })
        })
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut before = all()?;
    loop {
        thread::sleep(Duration::from_millis(500));
        let now = all()?;
        // A tick may come from timers alone.
        let used = now.since(before).total();
        if used <= Duration::from_millis(10) || Instant::now() > deadline {
            return Ok(now);
        }
        before = now;
    }
}

/// What the threads that live used so far, and how often they were woken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Threads {
    /// To the nanosecond, unlike [`cpu`].
    pub(super) cpu: Duration,
    /// Voluntary context switches: each is a wait, and so a wake-up.
    pub(super) waits: u64,
}

pub(super) fn threads(pid: u32) -> Result<Threads> {
    let tasks = format!("/proc/{pid}/task");
    let mut sum = Threads::default();
    for task in fs::read_dir(&tasks).with_context(|| format!("cannot list {tasks}"))? {
        let name = task?.file_name();
        let tid = name.to_string_lossy();
        let schedstat = read(pid, &format!("task/{tid}/schedstat"))?;
        let nanoseconds = schedstat.split(' ').next().and_then(|n| n.parse().ok());
        sum.cpu += Duration::from_nanos(nanoseconds.context("schedstat has no time")?);
        let status = read(pid, &format!("task/{tid}/status"))?;
        sum.waits += number(&status, "voluntary_ctxt_switches:")?;
    }
    Ok(sum)
}

/// Resident memory in bytes, by what it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Resident {
    pub(super) total: u64,
    /// Heap and stacks.
    pub(super) anonymous: u64,
    /// Program text and read-only data.
    pub(super) file: u64,
    /// eBPF maps and perf buffers that are mapped. The kernel allocates them whether or not they
    /// are; the pages of a ring buffer are mapped, and counted, twice.
    pub(super) rings: u64,
}

pub(super) fn resident(pid: u32) -> Result<Resident> {
    let status = read(pid, "status")?;
    let rings = mapped_rings(&read(pid, "smaps")?);
    let kib = |name| anyhow::Ok(number(&status, name)? * 1024);
    let mapped = kib("RssFile:")? + kib("RssShmem:")?;
    Ok(Resident {
        total: kib("VmRSS:")?,
        anonymous: kib("RssAnon:")?,
        file: mapped.saturating_sub(rings),
        rings,
    })
}

/// The resident bytes of mappings of eBPF maps and perf buffers.
fn mapped_rings(smaps: &str) -> u64 {
    let mut of_ring = false;
    let mut bytes = 0;
    for line in smaps.lines() {
        if let Some(kib) = line.strip_prefix("Rss:").filter(|_| of_ring) {
            let kib = kib.trim().trim_end_matches(" kB").parse().unwrap_or(0);
            bytes += kib * 1024;
        } else if line.starts_with(|c: char| c.is_ascii_digit() || ('a'..='f').contains(&c)) {
            of_ring = ["anon_inode:bpf", "anon_inode:[bpf", "anon_inode:[perf"]
                .iter()
                .any(|name| line.contains(name));
        }
    }
    bytes
}

/// Most memory ever resident, in bytes.
pub(super) fn peak_rss(pid: u32) -> Result<u64> {
    Ok(number(&read(pid, "status")?, "VmHWM:")? * 1024)
}

/// The number after a name in a status file; without a memory's unit.
fn number(status: &str, name: &str) -> Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|text| text.split_whitespace().next()?.parse().ok());
    number.with_context(|| format!("status has no {name}"))
}

pub(super) fn read(pid: u32, file: &str) -> Result<String> {
    let path = format!("/proc/{pid}/{file}");
    fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
}

#[cfg(test)]
mod tests {
    use super::{mapped_rings, number};

    #[test]
    fn only_mappings_of_maps_count_as_rings() {
        let smaps = "7f00-7f01 rw-s 00000000 00:0f 1   anon_inode:bpf-map\nSize: 8 kB\nRss:  4 kB\n\
                     7f01-7f02 r-xp 00000000 00:0f 2   /usr/bin/bpf-map\nRss:  16 kB\n\
                     b000-b001 r--s 00000000 00:0f 1   anon_inode:bpf-map\nRss:  8 kB\n";
        assert_eq!(mapped_rings(smaps), 12 * 1024);
    }

    #[test]
    fn numbers_are_read_with_and_without_unit() {
        let status =
            "VmHWM:\t  123 kB\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t8\n";
        assert_eq!(number(status, "VmHWM:").unwrap(), 123);
        assert_eq!(number(status, "voluntary_ctxt_switches:").unwrap(), 7);
        assert!(number(status, "VmRSS:").is_err());
    }
}
