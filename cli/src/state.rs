//! The state directory: where it is by default, and what lies in it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};

use crate::exit::{Code, Failure, WithCode};

/// A state directory that exists and can be written.
#[derive(Debug)]
pub(crate) struct State {
    dir: PathBuf,
}

impl State {
    /// Creates the directory where it is missing.
    pub(crate) fn create(wanted: Option<&Path>) -> Result<Self, Failure> {
        let dir = locate(wanted)?;
        create_private(&dir)
            .with_context(|| {
                format!(
                    "state directory {} cannot be created (choose another with --state-dir)",
                    dir.display()
                )
            })
            .code(Code::StateUnusable)?;
        let state = Self { dir };
        state.check_writable().code(Code::StateUnusable)?;
        Ok(state)
    }

    /// Takes a directory that must exist.
    pub(crate) fn existing(wanted: Option<&Path>) -> Result<Self, Failure> {
        let dir = locate(wanted)?;
        let state = Self { dir };
        if !state.ledger().is_dir() {
            let error = anyhow!(
                "no ledger in {}; name the directory of `daemoneye run` with --state-dir",
                state.dir.display()
            );
            return Err(Failure::new(Code::StateUnusable, error));
        }
        Ok(state)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn ledger(&self) -> PathBuf {
        self.dir.join("ledger")
    }

    fn check_writable(&self) -> anyhow::Result<()> {
        let probe = self.dir.join(".writable");
        fs::write(&probe, b"")
            .and_then(|()| fs::remove_file(&probe))
            .with_context(|| format!("state directory {} cannot be written", self.dir.display()))
    }
}

fn locate(wanted: Option<&Path>) -> Result<PathBuf, Failure> {
    match wanted {
        Some(dir) => Ok(dir.to_owned()),
        None => default_dir()
            .ok_or_else(|| anyhow!("no home directory is known; name one with --state-dir"))
            .code(Code::StateUnusable),
    }
}

/// Readable by the owner alone: it holds the signing key.
#[cfg(unix)]
fn create_private(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
}

#[cfg(not(unix))]
fn create_private(dir: &Path) -> std::io::Result<()> {
    fs::create_dir_all(dir)
}

/// The system's place for root, else one below the user's home.
#[cfg(unix)]
fn default_dir() -> Option<PathBuf> {
    if is_root() {
        Some(PathBuf::from(SYSTEM_DIR))
    } else {
        home_dir()
    }
}

#[cfg(target_os = "linux")]
const SYSTEM_DIR: &str = "/var/lib/daemoneye";
#[cfg(target_os = "macos")]
const SYSTEM_DIR: &str = "/Library/Application Support/daemoneye";
#[cfg(all(unix, not(any(target_os = "linux", target_os = "macos"))))]
const SYSTEM_DIR: &str = "/var/db/daemoneye";

#[cfg(unix)]
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(unix)]
fn home_dir() -> Option<PathBuf> {
    let set = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let state = set("XDG_STATE_HOME").or_else(|| Some(set("HOME")?.join(".local/state")));
    Some(state?.join("daemoneye"))
}

#[cfg(windows)]
fn default_dir() -> Option<PathBuf> {
    let base = std::env::var_os("ProgramData").or_else(|| std::env::var_os("LOCALAPPDATA"))?;
    Some(PathBuf::from(base).join("daemoneye"))
}
