use std::io;

/// Why the pipeline did not start, or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The source of events broke.
    #[error("sensor: {0}")]
    Sensor(#[from] event::SensorError),
    /// The ledger cannot be written or read. What was durable stays so.
    #[error("ledger: {0}")]
    Ledger(#[from] ledger::Error),
    /// The ledger numbers leaves differently: something else writes to it.
    #[error("ledger: leaf got index {given}, but was delivered as {expected}")]
    LeafIndex {
        /// Index under which the agent has the leaf.
        expected: u64,
        /// Index that the ledger gave.
        given: u64,
    },
    /// A configured name cannot be searched for.
    #[error("redaction: {0}")]
    Redact(#[from] aho_corasick::BuildError),
    /// The system gave no thread.
    #[error("{stage} thread: {source}")]
    Thread {
        /// The thread's name.
        stage: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A bug: a thread panicked.
    #[error("{stage} thread panicked: {message}")]
    Panicked {
        /// The thread's name.
        stage: &'static str,
        /// What it said.
        message: String,
    },
    /// The pipeline takes no more findings.
    #[error("the pipeline has ended")]
    Ended,
    /// The ledger takes nothing more in this run: the disk was full.
    #[error("nothing is recorded since the disk was full; a restart goes on once there is room")]
    Suspended,
}

impl Error {
    /// Whether space is what is missing.
    pub(crate) fn is_storage_full(&self) -> bool {
        let first: &(dyn std::error::Error + 'static) = self;
        std::iter::successors(Some(first), |error| error.source())
            .filter_map(|error| error.downcast_ref::<io::Error>())
            .any(|error| {
                matches!(
                    error.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                )
            })
    }
}

impl Error {
    /// The message and those of its causes, in one line for the log.
    pub(crate) fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let causes = std::iter::successors(std::error::Error::source(self), |e| e.source());
        for cause in causes.map(ToString::to_string) {
            if !text.ends_with(&cause) {
                text = format!("{text}: {cause}");
            }
        }
        text
    }
}
