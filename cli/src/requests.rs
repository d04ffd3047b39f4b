//! What other processes ask of a running daemon. It has no socket, so they ask by a file in the state
//! directory: whoever can make one there could write the ledger as well.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::private;
use crate::state::State;

/// Asks for new keys.
const ROTATE: &str = "rotate-keys";

/// The daemon's side.
pub(crate) struct Requests {
    rotate: PathBuf,
}

impl Requests {
    /// What was asked of a daemon that ended is not asked of this one.
    pub(crate) fn open(state: &State) -> Self {
        let requests = Self {
            rotate: state.place().join(ROTATE),
        };
        requests.rotation();
        requests
    }

    /// Whether new keys were asked for since the last look.
    pub(crate) fn rotation(&self) -> bool {
        fs::remove_file(&self.rotate).is_ok()
    }
}

/// A request for new keys, taken back when dropped.
pub(crate) struct Rotation(PathBuf);

impl Rotation {
    pub(crate) fn ask(state: &State) -> Result<Self> {
        let path = state.place().join(ROTATE);
        match private::create_new(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            made => drop(made.with_context(|| format!("{}", path.display()))?),
        }
        Ok(Self(path))
    }
}

impl Drop for Rotation {
    fn drop(&mut self) {
        // Mostly it was taken.
        let _ = fs::remove_file(&self.0);
    }
}
