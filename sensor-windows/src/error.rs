use event::SensorError;

/// Why the ETW sensor cannot start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Windows refused a call.
    #[error("{call} refused with code {code:#x} ({})", meaning(*code))]
    Refused {
        /// The Windows function, or the functions where the library does not tell them apart.
        call: &'static str,
        /// Win32 error code or NTSTATUS.
        code: u32,
    },
    /// A session with our name exists and could not be stopped.
    #[error("an ETW session named {name} exists and cannot be stopped")]
    SessionExists {
        /// Its name.
        name: &'static str,
    },
    /// Windows gave no valid handle and no code.
    #[error("{call} gave an invalid handle")]
    InvalidHandle {
        /// The Windows function.
        call: &'static str,
    },
    /// The session ended while we read it, stopped by somebody else.
    #[error("the ETW session ended: {cause}")]
    Ended {
        /// What `ProcessTrace` answered.
        cause: String,
    },
    /// Windows answered in a form that we do not know.
    #[error("{call} answered in an unknown form")]
    Form {
        /// The Windows function.
        call: &'static str,
    },
    /// The thread for the session could not be started.
    #[error("no thread for the ETW session: {0}")]
    Thread(#[source] std::io::Error),
}

const ERROR_ACCESS_DENIED: u32 = 5;
const ERROR_NO_SYSTEM_RESOURCES: u32 = 1450;

impl Error {
    /// From the code of an I/O error, where ferrisetw puts an HRESULT.
    pub(crate) fn refused(call: &'static str, code: i32) -> Self {
        Self::Refused {
            call,
            code: win32_code(code.cast_unsigned()),
        }
    }

    fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Refused {
                code: ERROR_ACCESS_DENIED,
                ..
            } => Some("run as Administrator or as a member of Performance Log Users"),
            Self::Refused {
                code: ERROR_NO_SYSTEM_RESOURCES,
                ..
            } => Some("Windows allows 64 ETW sessions; `logman query -ets` lists them"),
            Self::SessionExists { .. } => Some("stop it with `logman stop <name> -ets`"),
            Self::Ended { .. } => Some("`logman stop` or another sensor may have ended it"),
            _ => None,
        }
    }
}

/// The Win32 code in an HRESULT of that facility; other codes as they are.
fn win32_code(code: u32) -> u32 {
    if code >> 16 == 0x8007 {
        code & 0xffff
    } else {
        code
    }
}

fn meaning(code: u32) -> &'static str {
    match code {
        ERROR_ACCESS_DENIED => "access denied",
        ERROR_NO_SYSTEM_RESOURCES => "too many sessions",
        87 => "invalid parameter",
        120 => "not implemented",
        4201 => "no such session",
        _ => "see `net helpmsg`",
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

#[cfg(test)]
mod tests {
    use event::SensorError;

    use super::Error;

    #[test]
    fn access_denied_names_call_code_and_what_to_do() {
        for code in [5, 0x8007_0005_u32.cast_signed()] {
            let error = SensorError::from(Error::refused("StartTraceW", code));
            assert_eq!(
                error.to_string(),
                "StartTraceW refused with code 0x5 (access denied) \
                 (run as Administrator or as a member of Performance Log Users)"
            );
        }
    }

    #[test]
    fn unknown_codes_are_shown_as_they_are() {
        let error = Error::refused("ControlTraceW", 0xc000_0022_u32.cast_signed());
        assert_eq!(
            error.to_string(),
            "ControlTraceW refused with code 0xc0000022 (see `net helpmsg`)"
        );
    }
}
