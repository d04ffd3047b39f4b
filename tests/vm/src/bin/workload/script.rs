//! Files that begin with `#!`. Their interpreters are programs of ours, so no shell is needed.

use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;

use anyhow::{Error, Result};
use rustix::io::{FdFlags, fcntl_setfd};
use vm::sys;

use crate::child::{self, become_program};
use crate::report;
use crate::stage::{Stage, report_path};

/// A child that runs a script in the way named.
pub(crate) fn script(way: &str) -> Result<()> {
    let stage = Stage::new()?;
    let interpreter = stage.tiny("interpreter", 0)?;
    let line = match way {
        "argument" => format!("#! {} one argument \n", interpreter.display()),
        _ => format!("#!{}\n", interpreter.display()),
    };
    let script = stage.program("script", line)?;
    let outer = stage.program("outer", format!("#!{} -o\n", script.display()))?;
    report_path("interpreter", &interpreter);
    report_path("script", &script);
    report_path("outer", &outer);
    let child = child::run(|| Err(go(way, &script, &outer)))?;
    report("child", child);
    Ok(())
}

fn go(way: &str, script: &Path, outer: &Path) -> Error {
    match way {
        "plain" | "argument" => become_program(script, &["called", "x"]),
        "nested" => become_program(outer, &["called", "x"]),
        "descriptor" => by_descriptor(script).unwrap_or_else(|error| error),
        other => Error::msg(format!("unknown way {other}")),
    }
}

/// The interpreter is told `/dev/fd/N`, so the descriptor must outlive the exec.
fn by_descriptor(script: &Path) -> Result<Error> {
    let file = File::open(script)?;
    fcntl_setfd(&file, FdFlags::empty())?;
    report("descriptor", file.as_raw_fd());
    let argv = [c"called".to_owned(), c"x".to_owned()];
    Ok(sys::execveat(file.as_fd(), c"", &argv, libc::AT_EMPTY_PATH).into())
}
