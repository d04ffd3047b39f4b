//! What a process started with high rights gives up once its sensor runs.

#[cfg(target_os = "linux")]
mod account;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod own;
#[cfg(target_os = "linux")]
mod seccomp;

use event::sensor::Capabilities;

use crate::exit::{Code, Failure, WithCode};
use crate::output::notice;

#[cfg(target_os = "linux")]
pub(crate) use account::Account;
#[cfg(target_os = "linux")]
pub(crate) use linux::{drop, guard_memory, lacking_to_read_others};

/// Nobody to become: other systems have no such step yet, see the table in the README.
#[cfg(not(target_os = "linux"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Account {}

#[cfg(not(target_os = "linux"))]
impl Account {
    pub(crate) fn choose(wanted: Option<&str>) -> anyhow::Result<Option<Self>> {
        match wanted {
            Some(_) => anyhow::bail!("--user is not supported on this system"),
            None => Ok(None),
        }
    }
}

#[cfg(all(unix, not(target_os = "linux")))]
impl Account {
    pub(crate) fn uid(self) -> u32 {
        match self {}
    }

    pub(crate) fn gid(self) -> u32 {
        match self {}
    }

    pub(crate) fn of_owner(_uid: u32, _gid: u32) -> Option<Self> {
        None
    }

    pub(crate) fn own(self, _top: &std::os::fd::OwnedFd) -> anyhow::Result<()> {
        match self {}
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn drop(_: Option<Account>, _: Keep) -> anyhow::Result<()> {
    Ok(())
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn guard_memory() -> anyhow::Result<()> {
    Ok(())
}

/// The account to drop to, from the flag; one that cannot be is wrong usage.
pub(crate) fn choose(wanted: Option<&str>) -> Result<Option<Account>, Failure> {
    let account = Account::choose(wanted).code(Code::Usage)?;
    if let (None, Some(name)) = (account, wanted) {
        notice(format_args!(
            "--user {name} has no effect: only root can become another account"
        ));
    }
    Ok(account)
}

/// Whom a directory must let write that the daemon writes to, in words.
pub(crate) fn writer() -> String {
    #[cfg(target_os = "linux")]
    let account = format!("user id {}", rustix::process::geteuid().as_raw());
    #[cfg(not(target_os = "linux"))]
    let account = "its account";
    format!("the daemon runs as {account}, which must be able to write to the directory")
}

/// The capabilities that the work after start needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// None: events come from the kernel with all that is in them.
    Nothing,
    /// Reading other users' procfs entries and executables, which is the same as reading all they
    /// may read.
    ReadingOthers,
}

impl Keep {
    pub(crate) fn needed_by(sensor: &Capabilities, hashing: bool) -> Self {
        match sensor.sensor {
            "netlink" | "poll" => Self::ReadingOthers,
            _ if hashing => Self::ReadingOthers,
            _ => Self::Nothing,
        }
    }
}
