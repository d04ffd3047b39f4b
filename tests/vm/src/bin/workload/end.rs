//! How processes end.

use std::process::Stdio;

use anyhow::Result;
use rustix::process::{Resource, Rlimit, setrlimit};
use vm::sys;

use crate::child::{self, await_first_line, ourselves};
use crate::report;
use crate::stage::Stage;

/// Signals that do not end a process, or not before another one comes: CHLD, CONT, STOP, TSTP,
/// TTIN, TTOU, URG and WINCH.
const HARMLESS: [i32; 8] = [17, 18, 19, 20, 21, 22, 23, 28];

/// A child that waits, killed from outside.
pub(crate) fn kill() -> Result<()> {
    let mut child = ourselves("wait")?
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    report("child", child.id());
    await_first_line(&mut child)?;
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// A child that never calls exec.
pub(crate) fn fork() -> Result<()> {
    report("child", child::run(|| Ok(3))?);
    Ok(())
}

/// A child for every exit code.
pub(crate) fn codes() -> Result<()> {
    for code in 0..=255 {
        report(&format!("child-{code}"), child::run(|| Ok(code))?);
    }
    Ok(())
}

/// A child for every signal that ends processes, once without and once with a core dump allowed,
/// and what `wait` told of it.
pub(crate) fn signals() -> Result<()> {
    let stage = Stage::new()?;
    for signal in (1..=64).filter(|signal| !HARMLESS.contains(signal)) {
        for core in [0, 1] {
            let child = child::start(|| {
                std::env::set_current_dir(&stage.dir)?;
                allow_core(core != 0)?;
                sys::die_by(signal);
                Ok(98)
            })?;
            report(&format!("signal-{signal}-{core}"), child);
            report(
                &format!("status-{signal}-{core}"),
                child::end(child)?.as_raw(),
            );
        }
    }
    Ok(())
}

fn allow_core(allowed: bool) -> Result<()> {
    let limit = if allowed { None } else { Some(0) };
    setrlimit(
        Resource::Core,
        Rlimit {
            current: limit,
            maximum: limit,
        },
    )?;
    Ok(())
}
