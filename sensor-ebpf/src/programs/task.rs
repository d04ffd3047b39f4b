//! What an exec record says of the task: ids, rights, session, namespaces.
#![expect(unsafe_code, reason = "writes into the ring")]

use sensor_ebpf::config::Field;
use sensor_ebpf::record::{ExecRecord, flag};

use crate::read::{comm, field, member, offset};

/// Unset audit ids.
const UNSET: u32 = u32::MAX;

/// Inode of the first user namespace, fixed.
/// <https://github.com/torvalds/linux/blob/v6.12/include/linux/proc_ns.h#L44>
const INITIAL_USER_NS: u32 = 0xeffffffd;

/// Fills the record from the task.
#[inline(always)]
pub(crate) fn write(record: &mut ExecRecord, task: u64) {
    let cred: u64 = field(task, Field::TaskCred);
    // SAFETY: the field is 16 bytes.
    unsafe { comm(record.comm.as_mut_ptr(), task) };
    [record.uid, record.gid, record.euid, record.egid] = ids(cred);
    record.cap_effective = field(cred, Field::CredCapEffective);
    record.login_uid = audit_id(task, Field::TaskLoginUid);
    record.session = audit_id(task, Field::TaskSessionId);
    write_session(record, field(task, Field::TaskSignal));
    write_namespaces(record, task, cred);
    record.flags |= capability_flags(cred, record.namespaces[USER], record.uid, record.euid);
}

/// Real user and group, effective user and group.
#[inline(always)]
pub(crate) fn ids(cred: u64) -> [u32; 4] {
    [
        field(cred, Field::CredUid),
        field(cred, Field::CredGid),
        field(cred, Field::CredEuid),
        field(cred, Field::CredEgid),
    ]
}

#[inline(always)]
fn audit_id(task: u64, id: Field) -> u32 {
    if offset(id).is_some() {
        field(task, id)
    } else {
        UNSET
    }
}

#[inline(always)]
fn write_session(record: &mut ExecRecord, signal: u64) {
    let leader: u64 = field(signal, Field::SignalSession);
    record.session_leader = field(member(leader, Field::PidNumbers), Field::UpidNumber);
    let tty: u64 = field(signal, Field::SignalTty);
    record.tty = if tty == 0 { 0 } else { terminal(tty) };
}

/// `major << 20 | minor`.
#[inline(always)]
fn terminal(tty: u64) -> u32 {
    let driver: u64 = field(tty, Field::TtyDriver);
    let major: u32 = field(driver, Field::DriverMajor);
    let first: u32 = field(driver, Field::DriverMinor);
    let index: u32 = field(tty, Field::TtyIndex);
    major << 20 | first.wrapping_add(index) & 0xf_ffff
}

const MNT: usize = 0;
const PID: usize = 1;
const NET: usize = 2;
const USER: usize = 3;
const UTS: usize = 4;
const IPC: usize = 5;
const CGROUP: usize = 6;
const TIME: usize = 7;

#[inline(always)]
fn write_namespaces(record: &mut ExecRecord, task: u64, cred: u64) {
    let proxy: u64 = field(task, Field::TaskNsproxy);
    let inum = |pointer, inum| field::<u32>(field(proxy, pointer), inum);
    record.namespaces[MNT] = inum(Field::NsproxyMnt, Field::MntInum);
    record.namespaces[NET] = inum(Field::NsproxyNet, Field::NetInum);
    record.namespaces[UTS] = inum(Field::NsproxyUts, Field::UtsInum);
    record.namespaces[IPC] = inum(Field::NsproxyIpc, Field::IpcInum);
    record.namespaces[CGROUP] = inum(Field::NsproxyCgroup, Field::CgroupInum);
    record.namespaces[TIME] = inum(Field::NsproxyTime, Field::TimeInum);
    record.namespaces[USER] = field(field(cred, Field::CredUserNs), Field::UserInum);
    let upid = innermost(field(task, Field::TaskThreadPid));
    record.namespaces[PID] = field(field(upid, Field::UpidNamespace), Field::PidInum);
    record.namespace_pid = field(upid, Field::UpidNumber);
}

/// The number of a `struct pid` in its own namespace; 0 where that is unknown.
#[inline(always)]
fn innermost(pid: u64) -> u64 {
    let (Some(first), Some(second)) = (offset(Field::PidNumbers), offset(Field::PidSecondNumber))
    else {
        return 0;
    };
    if pid == 0 {
        return 0;
    }
    let level: u32 = field(pid, Field::PidLevel);
    pid + first + level as u64 * (second - first)
}

/// Capabilities beyond the ambient ones that a user other than root has right after exec came from
/// the file. In another user namespace the ids do not tell who is root.
#[inline(always)]
fn capability_flags(cred: u64, user_ns: u32, uid: u32, euid: u32) -> u32 {
    if user_ns != INITIAL_USER_NS {
        return 0;
    }
    let permitted: u64 = field(cred, Field::CredCapPermitted);
    let ambient: u64 = field(cred, Field::CredCapAmbient);
    if uid != 0 && euid != 0 && permitted & !ambient != 0 {
        flag::FILE_CAPS_KNOWN | flag::FILE_CAPS
    } else {
        flag::FILE_CAPS_KNOWN
    }
}
