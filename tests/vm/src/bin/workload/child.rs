//! Children: how they start, what they become, how they end.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Child, Command};

use anyhow::{Context as _, Error, Result};
use rustix::process::{Pid, WaitOptions, WaitStatus, waitpid};
use vm::sys;

/// Starts a child that does `work` and ends with the code that this gives.
pub(crate) fn start(work: impl FnOnce() -> Result<u8>) -> Result<u32> {
    start_with(0, None, work)
}

/// Like [`start`], with flags of clone(2) and optionally with a chosen process id.
pub(crate) fn start_with(
    flags: i32,
    pid: Option<u32>,
    work: impl FnOnce() -> Result<u8>,
) -> Result<u32> {
    let child = sys::clone(flags, pid).context("clone3")?;
    if child != 0 {
        return Ok(child);
    }
    let code = work().unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "child: {error:#}");
        99
    });
    std::process::exit(code.into())
}

/// Waits for a child to end.
pub(crate) fn end(child: u32) -> Result<WaitStatus> {
    let child = Pid::from_raw(child.try_into()?).context("no pid")?;
    let (_, status) = waitpid(Some(child), WaitOptions::empty())?.context("it has not ended")?;
    Ok(status)
}

/// Starts a child and waits for it; gives its pid.
pub(crate) fn run(work: impl FnOnce() -> Result<u8>) -> Result<u32> {
    let child = start(work)?;
    end(child)?;
    Ok(child)
}

/// Becomes another program; comes back only where the kernel refuses.
pub(crate) fn become_program(path: &Path, argv: &[&str]) -> Error {
    let argv: Result<Vec<_>, _> = argv.iter().map(|a| CString::new(*a)).collect();
    match (c_string(path.as_os_str()), argv) {
        (Ok(path), Ok(argv)) => become_with(&path, &argv),
        (Err(error), _) => error,
        (_, Err(error)) => error.into(),
    }
}

/// Like [`become_program`], with any arguments, or none.
pub(crate) fn become_with(path: &CStr, argv: &[CString]) -> Error {
    Error::new(sys::execveat(rustix::fs::CWD, path, argv, 0))
        .context(format!("exec of {}", path.to_bytes().escape_ascii()))
}

pub(crate) fn c_string(text: &OsStr) -> Result<CString> {
    CString::new(text.as_bytes()).context("a path holds NUL")
}

/// This program with another subcommand.
pub(crate) fn ourselves(subcommand: impl AsRef<OsStr>) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(subcommand);
    Ok(command)
}

/// Its report shows that the child's exec is done.
pub(crate) fn await_first_line(child: &mut Child) -> Result<()> {
    let mut line = String::new();
    let pipe = child.stdout.as_mut().context("the child has no pipe")?;
    io::BufRead::read_line(&mut io::BufReader::new(pipe), &mut line)?;
    Ok(())
}

/// A pipe that many processes inherit: it ends for the reader when all of them have ended, also
/// those that are nobody's children here.
pub(crate) struct Ending {
    reader: File,
    writer: File,
}

impl Ending {
    pub(crate) fn new() -> Result<Self> {
        // Not closed by exec.
        let (reader, writer) = rustix::pipe::pipe()?;
        Ok(Self {
            reader: reader.into(),
            writer: writer.into(),
        })
    }

    /// Leaves a byte, which [`Ending::wait`] gives back.
    pub(crate) fn mark(&self, byte: u8) -> Result<()> {
        (&self.writer).write_all(&[byte])?;
        Ok(())
    }

    /// Waits for all others that have it; gives their marks.
    pub(crate) fn wait(self) -> Result<Vec<u8>> {
        drop(self.writer);
        let mut marks = Vec::new();
        (&self.reader).read_to_end(&mut marks)?;
        Ok(marks)
    }
}
