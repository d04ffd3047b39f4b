//! Gives up what is not needed once the sensor runs: user, capabilities, system calls.
//!
//! All of it acts on the calling thread and is inherited by those that it starts, so it is done
//! before any other thread exists.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, remove_capability_from_bounding_set, set_capabilities,
    set_keep_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

/// Account that is taken if it exists.
const ACCOUNT: &str = "daemoneye";

/// Taken where no account was made: from the range that systemd uses for accounts that exist only
/// while their service runs, so that it owns nothing on the host.
const DYNAMIC_ID: u32 = 61_733;

/// What stays: reading the executables and procfs entries of other users.
const KEPT: CapabilitySet = CapabilitySet::DAC_READ_SEARCH.union(CapabilitySet::SYS_PTRACE);

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
            None => find(&passwd, ACCOUNT).unwrap_or(Self {
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

    /// Makes the account own a directory of ours and what lies in it. Files that somebody else owns
    /// or that have a second name are left alone.
    pub(crate) fn own(self, dir: &Path) -> Result<()> {
        self.own_one(dir)?;
        for entry in fs::read_dir(dir).with_context(|| format!("{}", dir.display()))? {
            let path = entry?.path();
            let kind = fs::symlink_metadata(&path)?.file_type();
            if kind.is_dir() {
                self.own(&path)?;
            } else if kind.is_file() {
                self.own_one(&path)?;
            }
        }
        Ok(())
    }

    fn own_one(self, path: &Path) -> Result<()> {
        let metadata = fs::symlink_metadata(path)?;
        let ours = metadata.uid() == 0 || metadata.uid() == self.uid;
        if !ours || (metadata.is_file() && metadata.nlink() > 1) {
            bail!("{} is not ours alone to give away", path.display());
        }
        std::os::unix::fs::lchown(path, Some(self.uid), Some(self.gid))
            .with_context(|| format!("changing the owner of {}", path.display()))
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

/// Becomes the account (if any), drops every capability but the two that are needed and closes the
/// system calls that the daemon never makes.
pub(crate) fn drop_to(account: Option<Account>) -> Result<()> {
    if let Some(account) = account {
        become_account(account).context("dropping root")?;
    }
    limit_capabilities(account.is_some()).context("dropping capabilities")?;
    set_no_new_privs(true).context("no_new_privs")?;
    let filter = filter().context("building the system call filter")?;
    apply_filter(&filter).context("installing the system call filter")
}

fn become_account(account: Account) -> Result<()> {
    for capability in CapabilitySet::all().difference(KEPT).iter() {
        // EINVAL: this kernel does not know the capability.
        let _ = remove_capability_from_bounding_set(capability);
    }
    set_keep_capabilities(true)?;
    let gid = Gid::from_raw(account.gid);
    let uid = Uid::from_raw(account.uid);
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}

/// Started without root, the process keeps of [`KEPT`] what it had.
fn limit_capabilities(was_root: bool) -> Result<()> {
    let kept = if was_root {
        KEPT
    } else {
        rustix::thread::capabilities(None)?
            .permitted
            .intersection(KEPT)
    };
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    Ok(set_capabilities(None, sets)?)
}

/// System calls that end with EPERM: network, new programs, other processes' memory, and
/// everything that changes the kernel or the system. A list of what is refused and not of what is
/// allowed, since libc and the standard library may choose other calls at any update.
fn refused() -> Vec<libc::c_long> {
    vec![
        libc::SYS_socket,
        libc::SYS_socketpair,
        libc::SYS_connect,
        libc::SYS_bind,
        libc::SYS_listen,
        libc::SYS_accept,
        libc::SYS_accept4,
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_io_uring_setup,
        libc::SYS_userfaultfd,
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_chroot,
        libc::SYS_setns,
        libc::SYS_unshare,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_delete_module,
        libc::SYS_kexec_load,
        libc::SYS_reboot,
        libc::SYS_swapon,
        libc::SYS_swapoff,
        libc::SYS_settimeofday,
        libc::SYS_clock_settime,
        libc::SYS_sethostname,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_keyctl,
        libc::SYS_open_by_handle_at,
        libc::SYS_setuid,
        libc::SYS_setresuid,
        libc::SYS_setgid,
        libc::SYS_setresgid,
    ]
}

fn filter() -> Result<BpfProgram> {
    let rules: BTreeMap<i64, Vec<_>> = refused().into_iter().map(|call| (call, vec![])).collect();
    let errno = u32::try_from(libc::EPERM).unwrap_or(1);
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(errno),
        std::env::consts::ARCH.try_into()?,
    )?;
    Ok(filter.try_into()?)
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

    #[test]
    fn the_filter_compiles_for_this_machine() {
        assert!(filter().unwrap().len() > refused().len());
    }
}
