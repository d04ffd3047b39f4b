//! What a service manager is told: `sd_notify(3)`, over a socket that is connected before rights are
//! given up, since later none can be.

#[cfg(unix)]
use std::os::unix::net::UnixDatagram;
#[cfg(unix)]
use std::time::Duration;

#[cfg(unix)]
use crate::output::notice;

/// How long it may take to be told.
#[cfg(unix)]
const PATIENCE: Duration = Duration::from_secs(5);

/// The manager that started us and wants to know, if one did.
pub(crate) struct Manager {
    #[cfg(unix)]
    socket: Option<UnixDatagram>,
}

#[cfg(unix)]
impl Manager {
    /// Connects to the socket that `NOTIFY_SOCKET` names.
    pub(crate) fn connect() -> Self {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET") else {
            return Self { socket: None };
        };
        let socket = connect(name.as_encoded_bytes())
            .inspect_err(|error| notice(format_args!("NOTIFY_SOCKET cannot be told: {error}")));
        Self {
            socket: socket.ok(),
        }
    }

    /// What is watched from now on is seen. `status` is one line. Nothing more is told.
    pub(crate) fn ready(self, status: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(format!("READY=1\nSTATUS={status}\n").as_bytes())
        {
            notice(format_args!("the service manager cannot be told: {error}"));
        }
    }
}

/// To a path, or behind `@` to a name of Linux's own.
#[cfg(unix)]
fn connect(name: &[u8]) -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    // A manager that stands still is not to hold us up for long.
    socket.set_write_timeout(Some(PATIENCE))?;
    match name.strip_prefix(b"@") {
        #[cfg(target_os = "linux")]
        Some(name) => {
            use std::os::linux::net::SocketAddrExt as _;
            use std::os::unix::net::SocketAddr;

            socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?;
        }
        _ => {
            use std::os::unix::ffi::OsStrExt as _;

            socket.connect(std::ffi::OsStr::from_bytes(name))?;
        }
    }
    Ok(socket)
}

/// Elsewhere services are not told in this way.
#[cfg(not(unix))]
impl Manager {
    pub(crate) fn connect() -> Self {
        Self {}
    }

    pub(crate) fn ready(self, _: &str) {}
}
