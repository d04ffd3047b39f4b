//! Loads for measurements (`cargo xtask bench`): many execs, or many processes that do nothing.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Signal, set_parent_process_death_signal};
use vm::sys;

fn main() -> Result<()> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let words: Vec<&OsStr> = arguments.iter().map(OsString::as_os_str).collect();
    match words[..] {
        [name, count, threads, program] if name == "storm" => {
            execs(number(count)?, number(threads)?, program, None)
        }
        [name, count, threads, program, rate] if name == "paced" => execs(
            number(count)?,
            number(threads)?,
            program,
            Some(number(rate)?),
        ),
        [name, count] if name == "crowd" => crowd(number(count)?),
        _ => bail!(
            "usage: load {{storm COUNT THREADS PROGRAM | paced COUNT THREADS PROGRAM RATE | crowd COUNT}}"
        ),
    }
}

fn number(text: &OsStr) -> Result<u32> {
    let number = text.to_str().and_then(|text| text.parse().ok());
    number.with_context(|| format!("{} is no number", text.display()))
}

fn report(name: &str, number: u128) -> Result<()> {
    Ok(writeln!(io::stdout(), "{name} {number}")?)
}

/// Runs the program `count` times from `threads` threads: as fast as it goes, or `rate` times a
/// second in all. Reports how long that took, and the sum of what the single runs took.
fn execs(count: u32, threads: u32, program: &OsStr, rate: Option<u32>) -> Result<()> {
    ensure!(
        threads > 0 && rate != Some(0),
        "neither threads nor rate can be 0"
    );
    let start = Instant::now();
    let pace = rate.map(|rate| Duration::from_secs(1) * threads / rate);
    let busy = thread::scope(|scope| {
        let share = |index| count / threads + u32::from(index < count % threads);
        let workers: Vec<_> = (0..threads)
            .map(|i| scope.spawn(move || run_times(program, share(i), pace)))
            .collect();
        let busy = workers.into_iter().map(|worker| match worker.join() {
            Ok(result) => result,
            Err(_) => bail!("a thread panicked"),
        });
        busy.sum::<Result<Duration>>()
    })?;
    report("microseconds", start.elapsed().as_micros())?;
    report("busy", busy.as_micros())
}

fn run_times(program: &OsStr, count: u32, pace: Option<Duration>) -> Result<Duration> {
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::inherit());
    let start = Instant::now();
    let mut busy = Duration::ZERO;
    for index in 0..count {
        if let Some(pace) = pace {
            thread::sleep((pace * index).saturating_sub(start.elapsed()));
        }
        let before = Instant::now();
        // posix_spawn inside: vfork and exec.
        let status = command.status()?;
        busy += before.elapsed();
        ensure!(
            status.success(),
            "the program of the load ended with {status}"
        );
    }
    Ok(busy)
}

/// Children that wait until this process ends, which it does when its standard input does.
fn crowd(count: u32) -> Result<()> {
    for _ in 0..count {
        if sys::fork().context("a process more cannot be had here")? == 0 {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            io::copy(&mut io::stdin(), &mut io::sink())?;
            return Ok(());
        }
    }
    report("children", count.into())?;
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}
