//! Paths that are long, deep, or no text.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use vm::tiny;

use crate::child::{self, become_program};
use crate::report;
use crate::stage::{Stage, report_path};

/// No UTF-8, and a line break.
const NAME: &[u8] = b"t\xffny\n\xc3";

/// A child that runs a program by its bare name from `depth` directories down, each of a name of
/// `length` bytes.
pub(crate) fn deep(depth: usize, length: usize) -> Result<()> {
    let stage = Stage::new()?;
    let name = Path::new(OsStr::from_bytes(NAME));
    let step = "d".repeat(length);
    let child = child::run(|| {
        std::env::set_current_dir(&stage.dir)?;
        // One by one: together they may be more than the kernel takes at once.
        for _ in 0..depth {
            fs::create_dir(&step)?;
            std::env::set_current_dir(&step)?;
        }
        tiny::write(name, 0)?;
        Err(become_program(name, &["deep"]))
    })?;
    report("child", child);
    let program = stage.dir.join([step.as_str()].repeat(depth).join("/"));
    report_path("program", &program.join(name));
    Ok(())
}

/// A path of so many bytes given to exec, most of which mean nothing.
pub(crate) fn long(bytes: usize) -> Result<()> {
    let stage = Stage::new()?;
    let program = stage.tiny("tiny", 0)?;
    let dir = stage.dir.display().to_string();
    let rest = bytes
        .checked_sub(dir.len() + "tiny".len())
        .context("the directory's path is longer")?;
    let given = format!("{dir}{}tiny", "/".repeat(rest));
    report_path("program", &program);
    let child = child::run(|| Err(become_program(Path::new(&given), &["tiny"])))?;
    report("child", child);
    report("given", given);
    Ok(())
}
