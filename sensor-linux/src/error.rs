use std::path::PathBuf;

/// What is needed to load the programs.
pub(crate) const PRIVILEGES: &str = "run as root, or with CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE";

/// What would help against lockdown.
pub(crate) const LOCKDOWN: &str = "boot without lockdown=confidentiality";

/// Entries of each kind that the programs' mute list has room for.
pub(crate) const MUTE_CAPACITY: usize = 256;

/// Why the sensor cannot start or go on, and what would help.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel does not describe its structures.
    #[error("kernel BTF {} cannot be read: {source}", path.display())]
    BtfUnreadable {
        /// The file that was tried.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The description does not parse.
    #[error("kernel BTF: {0}")]
    Btf(#[from] crate::btf::BtfError),
    /// Kernel fields without which nothing can be told are not in its BTF.
    #[error("kernel BTF lacks the fields {}", .0.join(", "))]
    MissingFields(Vec<&'static str>),
    /// bpf(2) is refused to this process.
    #[error("bpf(2) is refused: {source}")]
    NotPermitted {
        /// Cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The kernel keeps its memory from everybody.
    #[error("the kernel is locked down for confidentiality, which refuses reads of its memory")]
    Lockdown {
        /// What the kernel said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// procfs here numbers processes otherwise than the kernel does.
    #[error("this is not the host's pid namespace")]
    PidNamespace,
    /// The process connector cannot be used.
    #[error("process connector: {call}: {source}")]
    Connector {
        /// The step.
        call: &'static str,
        /// Cause.
        source: std::io::Error,
    },
    /// Nobody answers on the process connector.
    #[error("process connector: the kernel does not answer")]
    ConnectorSilent,
    /// This kernel cannot run the programs.
    #[error("the kernel does not take the eBPF {what}: {source}")]
    Load {
        /// Program or map.
        what: String,
        /// Cause, with the verifier's words.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file of the mute list is not there.
    #[error("cannot mute {}: {source}", path.display())]
    Muted {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// More entries than the programs have room for.
    #[error(
        "the mute list has {len} entries of one kind; {} is the most",
        MUTE_CAPACITY
    )]
    MuteListTooLong {
        /// How many.
        len: usize,
    },
    /// A system call on the running sensor does not work.
    #[error("{call}: {source}")]
    System {
        /// The call and its object.
        call: &'static str,
        /// Cause.
        source: std::io::Error,
    },
}

impl Error {
    #[cfg(target_os = "linux")]
    pub(crate) fn reading_messages(source: std::io::Error) -> Self {
        Self::System {
            call: "reading the process connector",
            source,
        }
    }

    /// What the operator can do about it.
    #[must_use]
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Self::BtfUnreadable { .. } => {
                Some("the kernel needs CONFIG_DEBUG_INFO_BTF; Debian's kernels have it since 5.10")
            }
            Self::Lockdown { .. } => Some(LOCKDOWN),
            Self::NotPermitted { .. } => Some(PRIVILEGES),
            Self::PidNamespace => Some("start it in the host's, for a container with --pid=host"),
            Self::Load { .. } | Self::MissingFields(_) => {
                Some("Linux 5.10.10 or newer is needed; `daemoneye doctor` shows what is there")
            }
            Self::Muted { .. } => Some("give paths as they are on this host, outside containers"),
            Self::MuteListTooLong { .. } => Some("mute a control group instead"),
            Self::Connector { source, .. } => Some(connector_advice(source)),
            Self::ConnectorSilent => Some(
                "it needs CONFIG_PROC_EVENTS in the kernel and the host's user and pid namespaces",
            ),
            Self::Btf(_) | Self::System { .. } => None,
        }
    }
}

fn connector_advice(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => "run as root, or with CAP_NET_ADMIN",
        std::io::ErrorKind::ConnectionRefused => {
            "start it in the host's network namespace, for a container with --network=host"
        }
        _ => "the kernel needs CONFIG_CONNECTOR and CONFIG_PROC_EVENTS",
    }
}

impl From<Error> for event::SensorError {
    fn from(error: Error) -> Self {
        Self {
            message: error.to_string(),
            advice: error.advice().map(str::to_owned),
            source: Some(Box::new(error)),
        }
    }
}
