//! Running other programs: each is named when it fails, and shown before it runs where it is slow.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result, anyhow, bail, ensure};

/// The workspace's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask is a folder of the workspace")
}

/// Where cargo builds: `CARGO_TARGET_DIR`, else `target`.
pub(crate) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || root().join("target"),
        |dir| {
            // Cargo reads a relative one from where it was called.
            std::path::absolute(&dir).unwrap_or_else(|_| dir.into())
        },
    )
}

/// The cargo that called us, started in the workspace's root.
pub(crate) fn cargo<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(cargo_program());
    command.args(arguments).current_dir(root());
    command
}

fn cargo_program() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Shows the command, runs it, fails unless it ends with 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    eprintln!("$ {}", display(command));
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| cannot_start(command))?;
    if !status.success() {
        bail!("`{}` ended with {status}", display(command));
    }
    Ok(())
}

/// Like [`run`], and shows every line that the program prints to `seen` as well.
pub(crate) fn watch(command: &mut Command, mut seen: impl FnMut(&str)) -> Result<()> {
    eprintln!("$ {}", display(command));
    let command = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| cannot_start(command))?;
    let (sender, lines) = mpsc::channel();
    let stdout = relay(child.stdout.take(), io::stdout(), sender.clone());
    let stderr = relay(child.stderr.take(), io::stderr(), sender);
    lines.iter().for_each(|line: String| seen(&line));
    for thread in [stdout, stderr] {
        thread
            .join()
            .map_err(|_| anyhow!("a thread that relays output panicked"))?;
    }
    let status = child.wait()?;
    ensure!(
        status.success(),
        "`{}` ended with {status}",
        display(command)
    );
    Ok(())
}

/// Copies lines to `to`, ours of the same name, and to `seen`.
fn relay(
    from: Option<impl Read + Send + 'static>,
    mut to: impl Write + Send + 'static,
    seen: Sender<String>,
) -> JoinHandle<()> {
    thread::spawn(move || {
        let lines = from
            .into_iter()
            .flat_map(|pipe| BufReader::new(pipe).split(b'\n'));
        for line in lines.map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            // Losing our own reader is no reason to lose the count.
            let _ = writeln!(to, "{line}");
            let _ = seen.send(line.into_owned());
        }
    })
}

/// Runs silently and gives standard output; fails, with standard error, unless it ends with 0.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| cannot_start(command))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!(
            "`{}` ended with {}\n{}",
            display(command),
            output.status,
            errors.trim_end()
        );
    }
    Ok(output.stdout)
}

/// Like [`output`], as trimmed text.
pub(crate) fn text(command: &mut Command) -> Result<String> {
    let output = String::from_utf8(output(command)?);
    Ok(output
        .with_context(|| format!("`{}` printed no UTF-8", display(command)))?
        .trim()
        .into())
}

/// The program's path, if PATH has it.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// Prints a line on standard output; a closed pipe is no error.
pub(crate) fn say(line: impl std::fmt::Display) {
    // The only other failure is a full disk behind a redirection, seen by the reader as well.
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// The command as it could be typed. Variables are left out: what repeats a failure is the xtask
/// command that set them.
pub(crate) fn display(command: &Command) -> String {
    let program = match command.get_program() {
        cargo if cargo == cargo_program() => OsStr::new("cargo"),
        other => other,
    };
    let words = std::iter::once(program).chain(command.get_args());
    words
        .map(|word| quote(&word.to_string_lossy()))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Quotes a word for a POSIX shell where it needs that.
pub(crate) fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn cannot_start(command: &Command) -> String {
    format!("cannot start `{}`", command.get_program().to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn words_are_quoted_only_where_a_shell_would_split_them() {
        let check = |word: &str, expected: &str| assert_eq!(quote(word), expected);
        check("--kernel=6.1", "--kernel=6.1");
        check("", "''");
        check("a b", "'a b'");
        check("it's", r"'it'\''s'");
    }
}
