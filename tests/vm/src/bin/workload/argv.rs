//! Arguments of every size, and such as change later.

use std::ffi::CString;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::child::{self, become_with, c_string};
use crate::facts::stat_field;
use crate::report;
use crate::stage::Stage;

/// A child whose arguments are so many bytes in all, each ended by its NUL. They are as few as
/// possible.
pub(crate) fn sized(bytes: usize) -> Result<()> {
    let stage = Stage::new()?;
    let program = c_string(stage.tiny("tiny", 0)?.as_os_str())?;
    let argv = arguments(bytes)?;
    let child = child::run(|| {
        // The kernel takes a quarter of it, at most 6 MiB.
        let limit = Some(64 << 20);
        setrlimit(
            Resource::Stack,
            Rlimit {
                current: limit,
                maximum: limit,
            },
        )?;
        Err(become_with(&program, &argv))
    })?;
    report("child", child);
    Ok(())
}

/// Numbered throughout, so that a wrong offset shows.
fn arguments(bytes: usize) -> Result<Vec<CString>> {
    let block = vm::numbered_arguments(bytes);
    let argument = |bytes: &[u8]| CString::new(&bytes[..bytes.len() - 1]);
    Ok(block
        .chunks(vm::LONGEST_ARGUMENT)
        .map(argument)
        .collect::<Result<_, _>>()?)
}

/// A child that runs this program without any argument, not even its own name. It reports as
/// `count` what it got: newer kernels add an empty one.
pub(crate) fn none() -> Result<()> {
    let us = c_string(std::env::current_exe()?.as_os_str())?;
    let child = child::run(|| Err(become_with(&us, &[])))?;
    report("child", child);
    Ok(())
}

/// Overwrites its own arguments and its name, as servers do to show their state.
pub(crate) fn rewrite() -> Result<()> {
    // `arg_start` and `arg_end`.
    let start: u64 = stat_field(48)?.parse()?;
    let end: u64 = stat_field(49)?.parse()?;
    ensure!(start < end, "the arguments are hidden");
    let memory = OpenOptions::new().write(true).open("/proc/self/mem")?;
    memory.write_all_at(&vec![b'?'; usize::try_from(end - start)?], start)?;
    rustix::thread::set_name(c"rewritten")?;
    let now = std::fs::read("/proc/self/cmdline")?;
    ensure!(now.starts_with(b"???"), "still {}", now.escape_ascii());
    // Long enough for whoever looks at procfs after the exec.
    std::thread::sleep(Duration::from_millis(20));
    Ok(())
}
