//! Builds and starts `daemoneye run`, with the privileges that eBPF needs where they can be had.

use std::io::IsTerminal as _;
use std::process::Command;

use anyhow::Result;

use crate::shell;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Arguments of `daemoneye run`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    shell::run(&mut shell::cargo(["build", "--release", "-p", "cli"]))?;
    let program = shell::target_dir().join("release/daemoneye");
    let mut command = if ::vm::is_root() {
        Command::new(&program)
    } else if sudo_agrees() {
        let mut command = Command::new("sudo");
        command.arg(&program);
        command
    } else {
        eprintln!("no root and no sudo: starting unprivileged, where only polling works");
        Command::new(&program)
    };
    command.arg("run").args(&args.arguments);
    eprintln!("$ {}", shell::display(&command));
    replace(&mut command)
}

/// Asks for the password now, where there is somebody to ask.
fn sudo_agrees() -> bool {
    if shell::find("sudo").is_none() {
        return false;
    }
    let mut command = Command::new("sudo");
    if !std::io::stdin().is_terminal() {
        command.arg("--non-interactive");
    }
    command
        .arg("--validate")
        .status()
        .is_ok_and(|status| status.success())
}

/// Becomes the program, so that signals and the exit code are its own.
#[cfg(unix)]
fn replace(command: &mut Command) -> Result<()> {
    use std::os::unix::process::CommandExt as _;
    Err(anyhow::Error::new(command.exec())
        .context(format!("cannot start `{}`", shell::display(command))))
}

#[cfg(not(unix))]
fn replace(command: &mut Command) -> Result<()> {
    shell::run(command)
}
