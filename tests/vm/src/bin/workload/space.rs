//! Processes in namespaces of their own, and below another root.

use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{chdir, chroot, getpid};
use vm::tiny;

use crate::child::{self, become_program};
use crate::report;
use crate::rights::{GROUP, USER, become_user};
use crate::stage::{Stage, report_path};

/// `child` is the first process of a pid namespace. It forks `inner`, which forks `last`; `last`
/// waits for ever, and is killed by the kernel when `child` ends. Before that `child` forks another
/// one of the number that `inner` had. They report what they call themselves.
pub(crate) fn pid_namespace() -> Result<()> {
    let stage = Stage::new()?;
    let program = stage.tiny("tiny", 0)?;
    let child = child::start_with(libc::CLONE_NEWPID, None, || {
        report("child-within", getpid().as_raw_nonzero());
        let (ready, started) = rustix::pipe::pipe()?;
        let inner = child::start(|| {
            let last = child::start(|| crate::thread::sleep_for_ever())?;
            report("last-within", last);
            drop(started);
            Err(become_program(&program, &["inner"]))
        })?;
        report("inner-within", inner);
        child::end(inner)?;
        drop(ready);
        let again = || Err(become_program(&program, &["again"]));
        child::end(child::start_with(0, Some(inner), again)?)?;
        Ok(6)
    })?;
    report("child", child);
    child::end(child)?;
    Ok(())
}

/// A user's process makes `child` in a user namespace in which it is nobody.
pub(crate) fn user_namespace() -> Result<()> {
    let stage = Stage::new()?;
    let program = stage.tiny("tiny", 0)?;
    child::run(|| {
        become_user(USER, GROUP)?;
        let child = child::start_with(libc::CLONE_NEWUSER, None, || {
            report("uid-within", rustix::process::getuid().as_raw());
            Err(become_program(&program, &["nobody"]))
        })?;
        report("child", child);
        child::end(child)?;
        Ok(0)
    })?;
    Ok(())
}

/// A child that becomes a user who has an account here, and runs a program: where its parent is
/// (`plain`), or in a new namespace of mounts (`mount`) or of users (`user`). `root` stays root.
pub(crate) fn account(kind: &str) -> Result<()> {
    let stage = Stage::new()?;
    let program = stage.tiny("tiny", 0)?;
    let accounts = std::fs::read_to_string("/etc/passwd").context("/etc/passwd")?;
    let wanted = |line: &&str| (line.split(':').nth(2) == Some("0")) == (kind == "root");
    let line = accounts.lines().find(wanted).context("no such account")?;
    let fields: Vec<&str> = line.split(':').collect();
    let (user, group) = (fields[2].parse()?, fields[3].parse()?);
    report("name", fields[0]);
    report("user", user);
    let flags = match kind {
        "mount" => libc::CLONE_NEWNS,
        "user" => libc::CLONE_NEWUSER,
        _ => 0,
    };
    let child = child::run(|| {
        // Of a namespace of users it is to be that user outside.
        if kind == "user" {
            become_user(user, group)?;
        }
        let child = child::start_with(flags, None, || {
            if kind != "user" {
                become_user(user, group)?;
            }
            Err(become_program(&program, &["tiny"]))
        })?;
        report("child", child);
        child::end(child)?;
        Ok(0)
    })?;
    report("between", child);
    Ok(())
}

/// A child in a mount namespace of its own, which runs a program on a file system that only it
/// sees.
pub(crate) fn mount_namespace() -> Result<()> {
    let stage = Stage::new()?;
    let inside = stage.dir.join("inside");
    std::fs::create_dir(&inside)?;
    report_path("program", &inside.join("tiny"));
    let child = child::start_with(libc::CLONE_NEWNS, None, || {
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).context("private mounts")?;
        mount("none", &inside, "tmpfs", MountFlags::empty(), None).context("a tmpfs")?;
        tiny::write(&inside.join("tiny"), 0)?;
        chdir(&inside)?;
        Err(become_program(Path::new("./tiny"), &["tiny"]))
    })?;
    report("child", child);
    child::end(child)?;
    Ok(())
}

/// A child whose root is a directory, which runs `/tiny` there.
pub(crate) fn change_root() -> Result<()> {
    let stage = Stage::new()?;
    let program = stage.tiny("tiny", 0)?;
    report_path("program", &program);
    report_path("dir", &stage.dir);
    let child = child::run(|| {
        chroot(&stage.dir)?;
        chdir("/")?;
        Err(become_program(Path::new("/tiny"), &["tiny"]))
    })?;
    report("child", child);
    Ok(())
}
