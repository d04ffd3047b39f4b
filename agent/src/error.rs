use std::path::PathBuf;

/// What can go wrong in the agent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The rule directory or a file in it cannot be read.
    #[error("rules: {}: {source}", path.display())]
    RulesUnreadable {
        /// The file or directory.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// A rule file is larger than any rule needs to be.
    #[error("rules: {}: {bytes} bytes is over the limit of {limit}", path.display())]
    RuleFileTooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// Largest size taken.
        limit: u64,
    },
    /// What is named as rule files are is a pipe, a device or a socket.
    #[error("rules: {} is neither a file nor a directory", .0.display())]
    RulesNoFile(PathBuf),
    /// There is no rule file where rules were to be.
    #[error("rules: no .yaml or .yml file in {}", .0.display())]
    NoRules(PathBuf),
    /// A rule file holds nothing.
    #[error("rules: no rule in {}", .0.display())]
    NoRuleInFile(PathBuf),
    /// A file for the shipped rules exists or cannot be written.
    #[error("{}: {source}", path.display())]
    RulesUnwritable {
        /// The file or directory.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// Rules do not compile; each cause names its file, line and column.
    #[error("{}", join(.0))]
    RulesInvalid(Vec<detect::Error>),
    /// Changes of rule files cannot be seen.
    #[error("rules: changes of {} are not seen: {source}", path.display())]
    RulesUnwatched {
        /// The file or directory.
        path: PathBuf,
        /// Cause.
        source: notify::Error,
    },
    /// A leaf does not decode.
    #[error("leaf {index}: {source}")]
    Leaf {
        /// Its index in the ledger.
        index: u64,
        /// Cause.
        source: event::Error,
    },
    /// A sink did not take an alert.
    #[error("sink {sink}: {source}")]
    Sink {
        /// Its name.
        sink: &'static str,
        /// Cause.
        source: std::io::Error,
    },
}

fn join(errors: &[detect::Error]) -> String {
    errors
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}
