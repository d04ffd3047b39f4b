//! Many processes at once.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Resource, Rlimit, WaitOptions, setrlimit};
use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::child::{self, Ending, become_program};
use crate::report;
use crate::rights::become_user;
use crate::stage::Stage;

/// Children that live until standard input ends. Says `ready` when all are there.
pub(crate) fn crowd(size: usize) -> Result<()> {
    for _ in 0..size {
        let child = child::start(|| {
            crate::wait_for_stdin()?;
            Ok(0)
        })?;
        report("child", child);
    }
    report("ready", size);
    for _ in 0..size {
        rustix::process::wait(WaitOptions::empty())?;
    }
    Ok(())
}

const WITHOUT_EXEC: u8 = 7;

/// Children that come and go until standard input ends. Of each it reports when it was not there
/// yet, when it was last known to be there, and when it was there no more, in ns since boot: `child`,
/// `born`, `alive`, `ended`. Those that run no program end with 7.
pub(crate) fn churn() -> Result<()> {
    let stage = Stage::new()?;
    let program = stage.tiny("tiny", 0)?;
    let mut children = Children::default();
    for turn in 0u64.. {
        let born = since_boot();
        let child = child::start(|| live(turn, &program))?;
        children.born.insert(child, born);
        if turn == 500 {
            report("ready", turn);
        }
        children.reap(WaitOptions::NOHANG)?;
        if stdin_ended()? {
            break;
        }
    }
    while !children.born.is_empty() {
        children.reap(WaitOptions::empty())?;
    }
    Ok(())
}

/// Some live for no time, some for a fifth of a second, some to the end; some run no program.
fn live(turn: u64, program: &Path) -> Result<u8> {
    if turn.is_multiple_of(9) {
        crate::wait_for_stdin()?;
    } else {
        thread::sleep(Duration::from_millis(turn * 37 % 200));
    }
    if turn.is_multiple_of(5) {
        return Ok(WITHOUT_EXEC);
    }
    Err(become_program(program, &["churn"]))
}

#[derive(Default)]
struct Children {
    /// When each of those that live was not there yet.
    born: HashMap<u32, u64>,
    /// When none of those that lived had ended.
    none_ended: u64,
}

impl Children {
    fn reap(&mut self, options: WaitOptions) -> Result<()> {
        loop {
            let now = since_boot();
            let Ok(Some((pid, _))) = rustix::process::wait(options) else {
                self.none_ended = now;
                return Ok(());
            };
            let pid = u32::try_from(pid.as_raw_nonzero().get())?;
            let born = self.born.remove(&pid).context("somebody else's child")?;
            report("child", pid);
            report("born", born);
            report("alive", born.max(self.none_ended));
            report("ended", since_boot());
        }
    }
}

/// Waits for a millisecond at most.
fn stdin_ended() -> Result<bool> {
    let stdin = io::stdin();
    let mut input = [PollFd::new(&stdin, PollFlags::IN)];
    let timeout = Timespec {
        tv_sec: 0,
        tv_nsec: 500_000,
    };
    Ok(poll(&mut input, Some(&timeout))? > 0)
}

pub(crate) fn since_boot() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    u64::try_from(now.tv_sec * 1_000_000_000 + now.tv_nsec).unwrap_or(0)
}

/// Processes that all fork two more, `generations` times; a user's limit bounds how many live at
/// once. Reports how many there have been.
pub(crate) fn bomb(generations: u32, at_once: u64) -> Result<()> {
    const USER: u32 = 54321;
    let ending = Ending::new()?;
    let first = child::start(|| {
        // The limit holds for users alone, not for root.
        let limit = Some(at_once);
        setrlimit(
            Resource::Nproc,
            Rlimit {
                current: limit,
                maximum: limit,
            },
        )?;
        become_user(USER, USER)?;
        explode(&ending, generations)
    })?;
    report("child", first);
    child::end(first)?;
    let marks = ending.wait()?;
    let count = |wanted| marks.iter().filter(|mark| **mark == wanted).count();
    report("born", count(BORN));
    report("refused", count(REFUSED));
    Ok(())
}

const BORN: u8 = b'+';
const REFUSED: u8 = b'-';

/// Parents wait for their children, so that the limit strikes.
fn explode(ending: &Ending, generations: u32) -> Result<u8> {
    ending.mark(BORN)?;
    let children = if generations > 0 { 2 } else { 0 };
    for _ in 0..children {
        if child::start(|| explode(ending, generations - 1)).is_err() {
            ending.mark(REFUSED)?;
        }
    }
    while rustix::process::wait(WaitOptions::empty()).is_ok() {}
    Ok(0)
}
