//! The operator's mute list: known noise ends here and costs no record.
#![expect(unsafe_code, reason = "map values")]

use sensor_ebpf::config::Field;
use sensor_ebpf::record::{Identity, MutedExe, identity_flag, mute};

use super::cgroup;
use crate::maps::{MUTED_CGROUPS, MUTED_EXES, MUTED_UIDS, PROCESSES};
use crate::read::{bit, field, is_muting};

/// What the list says of an exec: 0, or [`mute`] bits.
#[inline(always)]
pub(crate) fn verdict(task: u64, bprm: u64, file: u64, cgroup_id: u64) -> u32 {
    if !is_muting() {
        return 0;
    }
    // SAFETY: values are copied at once; only the loader writes them.
    unsafe {
        let cgroup = MUTED_CGROUPS.get(&cgroup_id).copied().unwrap_or(0);
        let exe = MUTED_EXES.get(&executable(file)).copied().unwrap_or(0);
        cgroup | exe | uid(task, bprm)
    }
}

/// The executable by its inode: a path could be that of another mount namespace.
#[inline(always)]
fn executable(file: u64) -> MutedExe {
    let inode: u64 = field(file, Field::FileInode);
    let super_block: u64 = field(inode, Field::InodeSuper);
    MutedExe {
        inode: field(inode, Field::InodeNumber),
        device: field(super_block, Field::SuperDevice),
        reserved: 0,
    }
}

/// A user is muted only while all of it is that user: what gains or lends rights is not noise.
#[inline(always)]
fn uid(task: u64, bprm: u64) -> u32 {
    let cred: u64 = field(task, Field::TaskCred);
    let uid: u32 = field(cred, Field::CredUid);
    let euid: u32 = field(cred, Field::CredEuid);
    let permitted: u64 = field(cred, Field::CredCapPermitted);
    let ambient: u64 = field(cred, Field::CredCapAmbient);
    let by_file = uid != 0 && permitted & !ambient != 0;
    // Without `bprm` nobody knows.
    let secure = bprm == 0 || bit(bprm, Field::BprmSecureExec) == Some(true);
    if uid != euid || by_file || secure {
        return 0;
    }
    // SAFETY: as above.
    unsafe { MUTED_UIDS.get(&uid).copied().unwrap_or(0) }
}

/// Whether the program that tells of execs will mute this one; for those that run before it.
#[inline(always)]
pub(crate) fn will_mute(task: u64, bprm: u64) -> bool {
    if !is_muting() {
        return false;
    }
    let file: u64 = field(bprm, Field::BprmFile);
    let cgroup_id: u64 = field(cgroup::node_of(task), Field::NodeId);
    let tgid: u32 = field(task, Field::TaskTgid);
    // SAFETY: not kept; only fork, exec and exit of this very process write the entry.
    let known = unsafe { PROCESSES.get(&tgid) };
    known.is_some_and(is_tree) || verdict(task, bprm, file, cgroup_id) != 0
}

/// The bit of a record's header if what a process runs is not told of, since its exec was muted.
#[inline(always)]
pub(crate) fn mark(identity: &Identity, bit: u8) -> u8 {
    (identity.flags & identity_flag::MUTED != 0) as u8 * bit
}

/// Whether the process is muted whatever it does.
#[inline(always)]
pub(crate) fn is_tree(identity: &Identity) -> bool {
    identity.flags & identity_flag::MUTED_TREE != 0
}

/// Notes in the process map whether the exec of a process is muted, and that it was seen. True if it
/// is muted.
#[inline(always)]
pub(crate) fn note(tgid: u32, identity: &Identity, verdict: u32, exec_mark: u32) -> bool {
    let mut flags = super::without_exec_mark(identity.flags) & !identity_flag::MUTED | exec_mark;
    if verdict & mute::TREE != 0 {
        flags |= identity_flag::MUTED_TREE;
    }
    let muted = verdict != 0 || flags & identity_flag::MUTED_TREE != 0;
    if muted {
        flags |= identity_flag::MUTED;
    }
    if flags != identity.flags {
        let identity = Identity { flags, ..*identity };
        // Fails if the process found no room in the map: it then stays unmuted next time.
        let _ = PROCESSES.insert(&tgid, &identity, 0);
    }
    muted
}
