//! Gives up what is not needed once the sensor runs: user, capabilities, system calls.
//!
//! All of it acts on the calling thread and is inherited by those that it starts, so it is done
//! before any other thread exists.

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Gid, Uid, set_dumpable_behavior};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, remove_capability_from_bounding_set,
    set_capabilities, set_keep_capabilities, set_no_new_privs, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use super::{Account, Keep, seccomp};

/// Becomes the account (if any), drops every capability but those to keep and closes the system
/// calls that the daemon never makes. Must be called before any thread is started.
pub(crate) fn drop(account: Option<Account>, keep: Keep) -> Result<()> {
    // Root of a container often has less than is wanted here.
    let permitted = capabilities(None)?.permitted;
    let kept = permitted.intersection(wanted(keep));
    limit_bounding_set(kept).context("limiting the capability bounding set")?;
    if let Some(account) = account {
        become_account(account).with_context(|| {
            format!(
                "dropping root for uid {} (needs CAP_SETUID and CAP_SETGID)",
                account.uid()
            )
        })?;
    }
    limit_capabilities(kept).context("dropping capabilities")?;
    set_no_new_privs(true).context("no_new_privs")?;
    seccomp::refuse()
}

/// Keeps others of the same account, and core dumps, from this process's memory, in which the
/// ledger's keys are from now on. A change of account does so too, but not every start makes one.
pub(crate) fn guard_memory() -> Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context("guarding the memory of keys")
}

fn wanted(keep: Keep) -> CapabilitySet {
    match keep {
        Keep::Nothing => CapabilitySet::empty(),
        Keep::ReadingOthers => CapabilitySet::DAC_READ_SEARCH.union(CapabilitySet::SYS_PTRACE),
    }
}

/// Names of the capabilities that reading others' files and processes needs and that are not here.
pub(crate) fn lacking_to_read_others() -> Vec<&'static str> {
    let permitted = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.permitted);
    [
        (CapabilitySet::DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH"),
        (CapabilitySet::SYS_PTRACE, "CAP_SYS_PTRACE"),
    ]
    .into_iter()
    .filter(|(capability, _)| !permitted.contains(*capability))
    .map(|(_, name)| name)
    .collect()
}

fn limit_bounding_set(kept: CapabilitySet) -> Result<(), Errno> {
    for capability in CapabilitySet::all().difference(kept).iter() {
        match remove_capability_from_bounding_set(capability) {
            // INVAL: this kernel does not know the capability. PERM: we have no CAP_SETPCAP;
            // no_new_privs keeps the set from being of use to anybody.
            Ok(()) | Err(Errno::INVAL | Errno::PERM) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn become_account(account: Account) -> Result<(), Errno> {
    // Across the change of uid; what is not to stay goes with `limit_capabilities`.
    set_keep_capabilities(true)?;
    let gid = Gid::from_raw(account.gid());
    let uid = Uid::from_raw(account.uid());
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)
}

fn limit_capabilities(kept: CapabilitySet) -> Result<(), Errno> {
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets)
}
