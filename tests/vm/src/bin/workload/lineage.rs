//! Who is whose parent, and which process has which number.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{getppid, set_child_subreaper, setsid};

use crate::child::{self, Ending, become_program};
use crate::report;
use crate::stage::Stage;

/// A child (`parent`) that ends before its own child (`child`), which then runs a program. Where
/// `reaper`, this process adopts the orphan.
pub(crate) fn orphan(reaper: bool) -> Result<()> {
    let stage = Stage::new()?;
    let program = stage.tiny("tiny", 0)?;
    if reaper {
        set_child_subreaper(rustix::process::Pid::from_raw(1))?;
    }
    let ending = Ending::new()?;
    let parent = child::run(|| {
        let us = rustix::process::getpid();
        let child = child::start(|| {
            await_new_parent(us);
            Err(become_program(&program, &["orphan"]))
        })?;
        report("child", child);
        Ok(0)
    })?;
    report("parent", parent);
    ending.wait()?;
    Ok(())
}

fn await_new_parent(old: rustix::process::Pid) {
    while getppid() == Some(old) {
        thread::sleep(Duration::from_millis(1));
    }
}

/// Two forks with `setsid` between them, as daemons do: `middle`, then `child`.
pub(crate) fn daemon() -> Result<()> {
    let stage = Stage::new()?;
    let program = stage.tiny("daemon", 0)?;
    let ending = Ending::new()?;
    let middle = child::run(|| {
        setsid()?;
        let us = rustix::process::getpid();
        let child = child::start(|| {
            await_new_parent(us);
            Err(become_program(&program, &["daemon"]))
        })?;
        report("child", child);
        Ok(0)
    })?;
    report("middle", middle);
    ending.wait()?;
    Ok(())
}

/// `forker` makes `child` a child of this process and not of its own.
pub(crate) fn clone_parent() -> Result<()> {
    let stage = Stage::new()?;
    let program = stage.tiny("tiny", 0)?;
    let ending = Ending::new()?;
    let forker = child::run(|| {
        let us = rustix::process::getpid();
        let child = child::start_with(libc::CLONE_PARENT, None, || {
            // The parent is another one than who forked.
            let code = u8::from(getppid() == Some(us));
            Err(match code {
                0 => become_program(&program, &["sibling"]),
                _ => anyhow::Error::msg("CLONE_PARENT had no effect"),
            })
        })?;
        report("child", child);
        Ok(0)
    })?;
    report("forker", forker);
    ending.wait()?;
    Ok(())
}

/// A pid that two processes have, one after the other, `apart` ms apart.
pub(crate) fn pid_twice(apart: u64) -> Result<()> {
    let stage = Stage::new()?;
    let program = stage.tiny("tiny", 0)?;
    let first = child::run(|| Err(become_program(&program, &["first"])))?;
    report("child", first);
    thread::sleep(Duration::from_millis(apart));
    let second = child::start_with(0, Some(first), || {
        Err(become_program(&program, &["second"]))
    });
    child::end(second.context("a process with a chosen pid")?)?;
    Ok(())
}
