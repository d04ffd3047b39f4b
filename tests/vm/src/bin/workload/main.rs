//! Does one precise thing, and prints who took part as lines of a name and a value.

mod argv;
mod child;
mod crowd;
mod end;
mod exec;
mod facts;
mod lineage;
mod path;
mod rights;
mod script;
mod space;
mod stage;
mod storm;
mod thread;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match run(&arguments) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let _ = writeln!(io::stderr(), "workload {arguments:?}: {error:#}");
            ExitCode::from(99)
        }
    }
}

fn run(arguments: &[OsString]) -> Result<u8> {
    let Some((name, rest)) = arguments.split_first() else {
        report("count", std::env::args_os().count());
        return Ok(0);
    };
    let name = name.to_str().unwrap_or_default();
    report("self", std::process::id());
    match name {
        // The children that the others start.
        "exit" => return Ok(number(rest, 0)?.try_into()?),
        "wait" => wait_for_stdin()?,
        "threads" => thread::threads()?,
        "exit-from-thread" => thread::exit_from_thread(),
        "leader-leaves" => thread::leader_leaves(text(rest, 0)?),
        "facts-wait" => {
            facts::tell()?;
            wait_for_stdin()?;
        }
        "rewrite" => argv::rewrite()?,
        // What scenarios start.
        "run" => run_child(rest)?,
        "every-cpu" => storm::every_cpu()?,
        "storm" => storm::storm(number(rest, 0)?, number(rest, 1)?, &rest[2..])?,
        "crowd" => crowd::crowd(number(rest, 0)?)?,
        "churn" => crowd::churn()?,
        "bomb" => crowd::bomb(number(rest, 0)?.try_into()?, number(rest, 1)? as u64)?,
        _ => return scenario(name, rest),
    }
    Ok(0)
}

/// What scenarios start to see one kind of child.
fn scenario(name: &str, rest: &[OsString]) -> Result<u8> {
    match name {
        "kill" => end::kill()?,
        "fork" => end::fork()?,
        "codes" => end::codes()?,
        "signals" => end::signals()?,
        "race-to-the-end" => thread::race_to_the_end(number(rest, 0)?)?,
        "exec-from-thread" => thread::exec_from_thread(text(rest, 0)?)?,
        "race-to-exec" => thread::race_to_exec(number(rest, 0)?)?,
        "fork-from-thread" => thread::fork_from_thread()?,
        "exec" => exec::exec(text(rest, 0)?)?,
        "twice" => exec::twice(number(rest, 0)?)?,
        "failing" => exec::failing()?,
        "stillborn" => exec::stillborn()?,
        "faulting" => exec::faulting()?,
        "spawned" => exec::spawned()?,
        "vforked" => exec::vforked()?,
        "deleted" => exec::deleted()?,
        "memfd" => exec::memfd()?,
        "script" => script::script(text(rest, 0)?)?,
        "deep" => path::deep(number(rest, 0)?, number(rest, 1)?)?,
        "long" => path::long(number(rest, 0)?)?,
        "orphan" => lineage::orphan(text(rest, 0)? == "reaper")?,
        "daemon" => lineage::daemon()?,
        "clone-parent" => lineage::clone_parent()?,
        "pid-twice" => lineage::pid_twice(number(rest, 0)? as u64)?,
        "pid-namespace" => space::pid_namespace()?,
        "user-namespace" => space::user_namespace()?,
        "mount-namespace" => space::mount_namespace()?,
        "chroot" => space::change_root()?,
        "rights" => rights::rights(text(rest, 0)?)?,
        "account" => space::account(text(rest, 0)?)?,
        "facts" => facts::facts(text(rest, 0)?)?,
        "cgroup" => facts::control_group()?,
        "environment" => facts::environment(number(rest, 0)?)?,
        "lifetime" => facts::lifetime()?,
        "argv" => argv::sized(number(rest, 0)?)?,
        "no-argv" => argv::none()?,
        other => bail!("unknown subcommand {other}"),
    }
    Ok(0)
}

fn text(arguments: &[OsString], index: usize) -> Result<&str> {
    let text = arguments.get(index).and_then(|a| a.to_str());
    text.context("a word is missing")
}

fn number(arguments: &[OsString], index: usize) -> Result<usize> {
    let text = text(arguments, index)?;
    text.parse().with_context(|| format!("{text} is no number"))
}

/// A pipe that nobody reads any more is no error: some parents do not care.
fn report(name: &str, value: impl std::fmt::Display) {
    let _ = writeln!(io::stdout(), "{name} {value}");
}

fn wait_for_stdin() -> Result<()> {
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}

/// Runs a program with the given arguments and waits for it.
fn run_child(arguments: &[OsString]) -> Result<()> {
    let (program, arguments) = arguments.split_first().context("no program")?;
    let mut child = Command::new(program).args(arguments).spawn()?;
    report("child", child.id());
    report("status", child.wait()?.into_raw());
    Ok(())
}
