use std::fs;

use anyhow::{Result, anyhow, bail};
use rustix::process::geteuid;

/// Account that is taken if it exists.
const NAME: &str = "daemoneye";

/// Taken where no account was made: from the range that systemd uses for accounts that exist only
/// while their service runs, so that it owns nothing on the host.
const DYNAMIC_ID: u32 = 61_733;

/// Whom to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Account {
    uid: u32,
    gid: u32,
}

impl Account {
    /// The account to drop to; `None` if this process is not root and has nobody to become.
    pub(crate) fn choose(wanted: Option<&str>) -> Result<Option<Self>> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let account = match wanted {
            None => find(&passwd, NAME).unwrap_or(Self {
                uid: DYNAMIC_ID,
                gid: DYNAMIC_ID,
            }),
            Some(name) => find(&passwd, name)
                .or_else(|| name.parse().ok().map(|id| Self { uid: id, gid: id }))
                .ok_or_else(|| anyhow!("there is no account {name}"))?,
        };
        if account.uid == 0 {
            bail!("--user must not be root: the point is to give its rights up");
        }
        Ok(Some(account))
    }

    /// Whoever has these ids; `None` for root and where this process is not root.
    pub(crate) fn of_owner(uid: u32, gid: u32) -> Option<Self> {
        (geteuid().is_root() && uid != 0).then_some(Self { uid, gid })
    }

    pub(crate) fn uid(self) -> u32 {
        self.uid
    }

    pub(crate) fn gid(self) -> u32 {
        self.gid
    }
}

/// An account's ids in the text of `/etc/passwd`.
fn find(passwd: &str, name: &str) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        if *fields.first()? != name {
            return None;
        }
        Some(Account {
            uid: fields.get(2)?.parse().ok()?,
            gid: fields.get(3)?.parse().ok()?,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_their_whole_name() {
        let passwd = "root:x:0:0::/root:/bin/sh\ndaemoneye2:x:7:7::/:\ndaemoneye:x:998:997::/:\n";
        assert_eq!(
            find(passwd, "daemoneye"),
            Some(Account { uid: 998, gid: 997 })
        );
        assert_eq!(find(passwd, "daemon"), None);
    }
}
