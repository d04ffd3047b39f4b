use std::fmt;
use std::io;

use event::SensorError;

/// Why the Endpoint Security sensor cannot start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// macOS does not accept us as a client.
    #[error("es_new_client refused: {0}")]
    Refused(Refusal),
    /// The subscription to process events was refused.
    #[error("es_subscribe refused")]
    Subscribe,
    /// A system call failed.
    #[error("{call}: {source}")]
    System {
        /// The call and what it was asked for.
        call: &'static str,
        /// What it answered.
        source: io::Error,
    },
    /// The system answered in a form that we do not know.
    #[error("{call} answered in an unknown form: {answer}")]
    Form {
        /// The call and what it was asked for.
        call: &'static str,
        /// What it answered.
        answer: String,
    },
    /// Endpoint Security is too old here.
    #[error("macOS {0} has no usable Endpoint Security")]
    Version(String),
    /// The thread for the client could not be started, or it ended at once.
    #[error("no thread for the Endpoint Security client: {0}")]
    Thread(#[source] io::Error),
}

/// Why macOS does not accept a client of Endpoint Security.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The program is not signed with the entitlement.
    NotEntitled,
    /// The user has not approved it (Transparency, Consent and Control).
    NotPermitted,
    /// Not root.
    NotPrivileged,
    /// The system's limit of clients is reached.
    TooManyClients,
    /// We asked in a wrong way.
    InvalidArgument,
    /// Endpoint Security cannot be reached.
    Internal,
    /// A reason newer than this program.
    Unknown,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotEntitled => "the program has no Endpoint Security entitlement",
            Self::NotPermitted => "the program is not permitted to see other programs' files",
            Self::NotPrivileged => "the program does not run as root",
            Self::TooManyClients => "there are too many clients",
            Self::InvalidArgument => "invalid argument",
            Self::Internal => "Endpoint Security cannot be reached",
            Self::Unknown => "for an unknown reason",
        })
    }
}

impl Refusal {
    fn advice(self) -> Option<&'static str> {
        match self {
            Self::NotEntitled => Some(
                "sign it with com.apple.developer.endpoint-security.client, which Apple grants \
                 on request",
            ),
            Self::NotPermitted => Some(
                "allow Full Disk Access for it in System Settings, Privacy & Security, or by a \
                 management profile",
            ),
            Self::NotPrivileged => Some("run as root"),
            Self::TooManyClients => Some("remove another endpoint security product"),
            Self::InvalidArgument | Self::Internal | Self::Unknown => None,
        }
    }
}

impl From<Error> for SensorError {
    fn from(error: Error) -> Self {
        let advice = match &error {
            Error::Refused(refusal) => refusal.advice(),
            Error::Version(_) => Some("macOS 11 or later is needed"),
            _ => None,
        };
        Self {
            message: error.to_string(),
            advice: advice.map(str::to_owned),
            source: Some(Box::new(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use event::SensorError;

    use super::{Error, Refusal};

    fn check(refusal: Refusal, cause: &str, advice: &str) {
        let error = SensorError::from(Error::Refused(refusal));
        assert!(
            error.message.starts_with("es_new_client refused: "),
            "{error}"
        );
        assert!(error.message.contains(cause), "{error}");
        assert!(error.advice.as_ref().unwrap().contains(advice), "{error}");
    }

    #[test]
    fn every_refusal_that_an_operator_can_change_says_how() {
        check(
            Refusal::NotEntitled,
            "entitlement",
            "com.apple.developer.endpoint-security.client",
        );
        check(Refusal::NotPermitted, "not permitted", "Full Disk Access");
        check(Refusal::NotPrivileged, "root", "run as root");
        check(Refusal::TooManyClients, "too many clients", "another");
    }
}
