use std::io;
use std::path::PathBuf;

use event::SensorError;

/// Why processes cannot be listed or a recording cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of procfs that every list needs cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// A file of procfs does not look as the kernel documents it.
    #[error("{} does not have the expected form", path.display())]
    Form {
        /// The file.
        path: PathBuf,
    },
    /// The operating system does not let us list processes.
    #[error("cannot list processes: {0}")]
    List(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The recording is damaged or unreadable.
    #[error(transparent)]
    Recording(#[from] event::Error),
}

impl Error {
    fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Read { .. } | Self::Form { .. } => Some("is procfs mounted on /proc?"),
            Self::Recording(event::Error::Frame { events: 1.., .. }) => {
                Some("everything before the damage was replayed")
            }
            Self::List(_) | Self::Recording(_) => None,
        }
    }
}

impl From<Error> for SensorError {
    fn from(error: Error) -> Self {
        Self {
            message: error.to_string(),
            advice: error.advice().map(str::to_owned),
            source: Some(Box::new(error)),
        }
    }
}
