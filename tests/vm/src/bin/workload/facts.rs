//! Processes that say of themselves what the sensor should say of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{ioctl_tiocsctty, setsid};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::child::{self, become_program};
use crate::report;
use crate::stage::Stage;

const NAMESPACES: [&str; 8] = ["mnt", "pid", "net", "user", "uts", "ipc", "cgroup", "time"];
/// `CLONE_NEWTIME`, which clone(2) does not take and clone3(2) does.
const NEW_TIME: i32 = 0x80;

/// Namespaces by their links, session and terminal of this process.
pub(crate) fn tell() -> Result<()> {
    for name in NAMESPACES {
        let link = fs::read_link(format!("/proc/self/ns/{name}"))?;
        let link = link.to_string_lossy();
        let (_, inode) = link.split_once('[').context("no inode in the link")?;
        report(&format!("ns-{name}"), inode.trim_end_matches(']'));
    }
    report("session", stat_field(6)?);
    report("tty", stat_field(7)?);
    report(
        "login-uid",
        fs::read_to_string("/proc/self/loginuid")?.trim(),
    );
    report(
        "audit-session",
        fs::read_to_string("/proc/self/sessionid")?.trim(),
    );
    Ok(())
}

/// A field of `/proc/self/stat`, by its number in proc(5).
pub(crate) fn stat_field(number: usize) -> Result<String> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(") ").context("no name in stat")?;
    // Before these are the pid and the name.
    let field = fields.split_ascii_whitespace().nth(number - 3);
    Ok(field.context("stat is short")?.to_owned())
}

/// A child that tells of itself and then runs a program: where its parent is (`plain`), in new
/// namespaces of all kinds (`unshared`), as leader of a session (`session`), with a terminal
/// (`terminal`).
pub(crate) fn facts(kind: &str) -> Result<()> {
    let stage = Stage::new()?;
    let program = stage.tiny("tiny", 0)?;
    let flags = if kind == "unshared" { all_new() } else { 0 };
    // From within a pid namespace the leader cannot be seen.
    report("session-outside", stat_field(6)?);
    // The kernel hangs a terminal up when its other side is closed.
    let other_side = terminal()?;
    let child = child::start_with(flags, None, || {
        match kind {
            "session" => drop(setsid()?),
            "terminal" => take_terminal(&other_side.1)?,
            _ => {}
        }
        tell()?;
        Err(become_program(&program, &["tiny"]))
    })?;
    report("child", child);
    child::end(child)?;
    Ok(())
}

fn all_new() -> i32 {
    libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWCGROUP
        | NEW_TIME
}

/// Both sides: a descriptor, and a path.
fn terminal() -> Result<(rustix::fd::OwnedFd, PathBuf)> {
    let side = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).context("/dev/ptmx")?;
    grantpt(&side)?;
    unlockpt(&side)?;
    let path = ptsname(&side, Vec::new())?.into_string()?;
    Ok((side, path.into()))
}

fn take_terminal(path: &Path) -> Result<()> {
    setsid()?;
    let terminal = open(path, OFlags::RDWR | OFlags::NOCTTY, Mode::empty())?;
    Ok(ioctl_tiocsctty(terminal)?)
}

/// A child that runs a program from a control group of its own, which is called as Docker calls
/// those of its containers.
pub(crate) fn control_group() -> Result<()> {
    let stage = Stage::new()?;
    let program = stage.tiny("tiny", 0)?;
    let container = "0123456789abcdef".repeat(4);
    let name = format!("docker-{container}.scope");
    let dir = control_groups()?.join(name);
    fs::create_dir(&dir).with_context(|| format!("no {}", dir.display()))?;
    let child = child::run(|| {
        fs::write(dir.join("cgroup.procs"), "0")?;
        Err(become_program(&program, &["tiny"]))
    });
    report(
        "cgroup",
        std::os::unix::fs::MetadataExt::ino(&fs::metadata(&dir)?),
    );
    report("container", container);
    fs::remove_dir(&dir)?;
    report("child", child?);
    Ok(())
}

/// Where the hierarchy is mounted that tells of containers: with version 1 that of pids or memory,
/// else the only one.
fn control_groups() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mounts: Vec<Vec<&str>> = mounts
        .lines()
        .map(|line| line.split(' ').collect())
        .collect();
    let find = |kind: &str, option: &str| {
        let found = mounts.iter().find(|mount| {
            mount[2] == kind && (option.is_empty() || mount[3].split(',').any(|o| o == option))
        });
        found.map(|mount| PathBuf::from(mount[1]))
    };
    find("cgroup", "pids")
        .or_else(|| find("cgroup", "memory"))
        .or_else(|| find("cgroup2", ""))
        .context("no control groups are mounted")
}

/// A child that runs a program with three variables, after others of so many bytes.
pub(crate) fn environment(padding: usize) -> Result<()> {
    let stage = Stage::new()?;
    let mut command = Command::new(stage.tiny("tiny", 0)?);
    // Sorted by std, so that the padding comes first.
    command.env_clear().env("A", "x".repeat(padding));
    command.env("DEYE_ONE", "1").env("DEYE_TWO", "b c");
    let mut child = command.env("OTHER", "x").spawn()?;
    report("child", child.id());
    child.wait()?;
    Ok(())
}

/// A child that lives for a while. Reports how long at least and at most, in ns.
pub(crate) fn lifetime() -> Result<()> {
    let before = crate::crowd::since_boot();
    let child = child::run(|| {
        let begin = crate::crowd::since_boot();
        std::thread::sleep(Duration::from_millis(50));
        report("at-least", crate::crowd::since_boot() - begin);
        Ok(0)
    })?;
    report("at-most", crate::crowd::since_boot() - before);
    report("child", child);
    Ok(())
}
