//! All ways to run a program.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;
use std::process::Command;

use anyhow::{Error, Result};
use vm::{sys, tiny};

use crate::child::{self, become_program};
use crate::report;
use crate::stage::{Stage, report_file, report_path};

/// By way of the root, from at most nine directories down.
const DOTS: &str = ".././/../../../../../../../../proc/self/cwd/tiny";

/// A child that runs the smallest program in the way named, and the program's path.
pub(crate) fn exec(way: &str) -> Result<()> {
    let stage = Stage::new()?;
    let program = stage.tiny("tiny", 0)?;
    prepare(way, &stage, &program)?;
    report_path("dir", &stage.dir);
    report_path("program", &program);
    report_file(&program)?;
    let child = child::run(|| Err(go(way, &stage, &program)))?;
    report("child", child);
    Ok(())
}

fn prepare(way: &str, stage: &Stage, program: &Path) -> Result<()> {
    match way {
        "symlink" => std::os::unix::fs::symlink(program, stage.dir.join("link"))?,
        "hard-link" => fs::hard_link(program, stage.dir.join("link"))?,
        _ => {}
    }
    Ok(())
}

fn go(way: &str, stage: &Stage, program: &Path) -> Error {
    match way {
        "path" => become_program(program, &["tiny", "a b"]),
        "relative" => in_dir(&stage.dir, "./tiny"),
        "dots" => in_dir(&stage.dir, DOTS),
        "symlink" | "hard-link" => become_program(&stage.dir.join("link"), &["link"]),
        "descriptor" => by_descriptor(program),
        "directory" => by_directory(&stage.dir),
        "proc-descriptor" => by_proc(program),
        other => Error::msg(format!("unknown way {other}")),
    }
}

fn in_dir(dir: &Path, program: &str) -> Error {
    match std::env::set_current_dir(dir) {
        Ok(()) => become_program(Path::new(program), &["tiny"]),
        Err(error) => error.into(),
    }
}

/// `execveat(fd, "", …, AT_EMPTY_PATH)`, which is what fexecve(3) does.
fn by_descriptor(program: &Path) -> Error {
    match File::open(program) {
        Ok(file) => {
            report("descriptor", file.as_raw_fd());
            sys::execveat(
                file.as_fd(),
                c"",
                &[c"tiny".to_owned()],
                libc::AT_EMPTY_PATH,
            )
            .into()
        }
        Err(error) => error.into(),
    }
}

/// `execveat(fd of the directory, "tiny", …)`.
fn by_directory(dir: &Path) -> Error {
    match File::open(dir) {
        Ok(dir) => {
            report("descriptor", dir.as_raw_fd());
            sys::execveat(dir.as_fd(), c"tiny", &[c"tiny".to_owned()], 0).into()
        }
        Err(error) => error.into(),
    }
}

/// What fexecve(3) did on older systems.
fn by_proc(program: &Path) -> Error {
    match File::open(program) {
        Ok(file) => {
            report("descriptor", file.as_raw_fd());
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            become_program(Path::new(&path), &["tiny"])
        }
        Err(error) => error.into(),
    }
}

/// Three programs in one process, the first two of which are this one.
pub(crate) fn twice(left: usize) -> Result<()> {
    let us = std::env::current_exe()?;
    match left {
        2 => Err(become_program(&us, &["first", "twice", "1"])),
        1 => Err(become_program(&us, &["second", "exit", "5"])),
        _ => {
            report("child", child::run(|| twice(2).map(|()| 0))?);
            Ok(())
        }
    }
}

/// Programs that cannot be run: the process goes on, and ends.
pub(crate) fn failing() -> Result<()> {
    let stage = Stage::new()?;
    let plain = stage.dir.join("plain");
    fs::write(&plain, "no program")?;
    let empty = stage.program("empty", "")?;
    report_path("missing", &stage.dir.join("missing"));
    report_path("plain", &plain);
    report_path("empty", &empty);
    let missing = stage.dir.join("missing");
    let child = child::run(|| {
        for path in [&missing, &plain, &empty] {
            become_program(path, &["x"]);
        }
        Ok(6)
    })?;
    report("child", child);
    Ok(())
}

/// A program whose memory cannot be laid out. The kernel finds out when the old one is gone
/// already, and kills the process: no new program ever ran.
pub(crate) fn stillborn() -> Result<()> {
    const SEGMENT_ADDRESS: usize = 64 + 16;
    let stage = Stage::new()?;
    let mut elf = tiny::elf(0);
    elf[SEGMENT_ADDRESS..SEGMENT_ADDRESS + 8]
        .copy_from_slice(&0xffff_f000_0000_0000u64.to_le_bytes());
    let program = stage.program("stillborn", elf)?;
    let child = child::start(|| Err(become_program(&program, &["stillborn"])))?;
    let status = child::end(child)?;
    report("child", child);
    report("status", status.as_raw());
    Ok(())
}

/// A program that does what no processor can.
pub(crate) fn faulting() -> Result<()> {
    let stage = Stage::new()?;
    let program = stage.program("faulting", tiny::faulting_elf())?;
    let child = child::start(|| Err(become_program(&program, &["faulting"])))?;
    report("child", child);
    report("status", child::end(child)?.as_raw());
    Ok(())
}

/// posix_spawn(3), which is vfork and exec.
pub(crate) fn spawned() -> Result<()> {
    let stage = Stage::new()?;
    let program = stage.tiny("tiny", 4)?;
    report_path("program", &program);
    // std uses posix_spawn where it has nothing to do in between.
    let mut child = Command::new(&program).env_clear().spawn()?;
    report("child", child.id());
    child.wait()?;
    Ok(())
}

pub(crate) fn vforked() -> Result<()> {
    let child = sys::vfork_and_exit(8)?;
    report("child", child);
    child::end(child)?;
    Ok(())
}

/// A program whose file is gone by the time that it runs: open, unlink, exec by descriptor.
pub(crate) fn deleted() -> Result<()> {
    let stage = Stage::new()?;
    let program = stage.tiny("deleted", 0)?;
    let file = File::open(&program)?;
    fs::remove_file(&program)?;
    report_path("program", &program);
    run_descriptor(file.into())
}

pub(crate) fn memfd() -> Result<()> {
    let memfd = rustix::fs::memfd_create("workload", rustix::fs::MemfdFlags::CLOEXEC)?;
    File::from(memfd.try_clone()?).write_all(&tiny::elf(0))?;
    // A descriptor that is open for writing keeps the file from being run (ETXTBSY).
    let path = format!("/proc/self/fd/{}", memfd.as_raw_fd());
    let read_only = File::open(path)?;
    drop(memfd);
    run_descriptor(read_only.into())
}

fn run_descriptor(file: OwnedFd) -> Result<()> {
    let mut child = Command::new(format!("/proc/self/fd/{}", file.as_raw_fd())).spawn()?;
    report("child", child.id());
    child.wait()?;
    Ok(())
}
