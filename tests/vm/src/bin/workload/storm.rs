//! As many processes as the machine can make, and one on each of its cpus.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use vm::tiny;

use crate::child::ourselves;
use crate::report;

/// Forks, execs and exits once on each cpu that this process may run on.
pub(crate) fn every_cpu() -> Result<()> {
    let cpus = sched_getaffinity(None)?;
    for cpu in (0..CpuSet::MAX_CPU).filter(|cpu| cpus.is_set(*cpu)) {
        let mut one = CpuSet::new();
        one.set(cpu);
        sched_setaffinity(None, &one)?;
        ourselves("exit")?.arg("0").stdout(Stdio::null()).status()?;
    }
    Ok(())
}

/// Runs a program `count` times from `threads` threads, as fast as it goes. The program is the
/// third argument, else the smallest there is.
pub(crate) fn storm(count: usize, threads: usize, program: &[OsString]) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let tiny = dir.path().join("tiny");
    tiny::write(&tiny, 0)?;
    let program = program.first().map_or(tiny.as_path(), Path::new);
    let start = Instant::now();
    thread::scope(|scope| {
        let share = |index| count / threads + usize::from(index < count % threads);
        let workers: Vec<_> = (0..threads)
            .map(|i| scope.spawn(move || run_times(program, share(i))))
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| match worker.join() {
                Ok(result) => result,
                Err(_) => bail!("a thread panicked"),
            })
    })?;
    report("execs", count);
    report("microseconds", start.elapsed().as_micros());
    Ok(())
}

fn run_times(program: &Path, count: usize) -> Result<()> {
    let program = OsStr::from_bytes(program.as_os_str().as_bytes());
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::inherit());
    for _ in 0..count {
        // posix_spawn inside: vfork and exec.
        ensure!(
            command.status()?.success(),
            "the program of the storm failed"
        );
    }
    Ok(())
}
