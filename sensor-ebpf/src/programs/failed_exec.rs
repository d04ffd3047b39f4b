//! `sys_exit(regs, ret)`, attached only where failed execs were asked for: every system call of the
//! host runs through here, and all but failed execs leave at once.
#![expect(unsafe_code, reason = "writes into the ring")]

use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_probe_read_user_str};
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use sensor_ebpf::config::Field;
use sensor_ebpf::drops::Slot;
use sensor_ebpf::record::{FailedExecRecord, class, header_flag, kind};

use super::{Buffer, header, identify, mute, task};
use crate::maps::count;
use crate::output;
use crate::read::{comm, exec_syscalls, field, is_compat};

/// `PATH_MAX`.
const PATH_CAP: u32 = 4096;

#[raw_tracepoint(tracepoint = "sys_exit")]
pub(crate) fn failed_exec(ctx: RawTracePointContext) -> i32 {
    let result: i64 = ctx.arg(1);
    if result >= 0 {
        return 0;
    }
    let Some(path) = attempted_path(ctx.arg(0)) else {
        return 0;
    };
    // SAFETY: a helper without arguments.
    let task = unsafe { bpf_get_current_task() };
    if is_compat(task) {
        return 0;
    }
    let tgid: u32 = field(task, Field::TaskTgid);
    let identity = identify(task, tgid, 0);
    if mute::is_tree(&identity) {
        count(Slot::MutedFailedExec);
        return 0;
    }
    let muted = mute::mark(&identity, header_flag::MUTED);
    let header = header(kind::FAILED_EXEC, muted, tgid, &identity);
    let Some(mut entry) = output::reserve::<Buffer<{ class::FAILED_EXEC }>>() else {
        count(Slot::FailedExecRingFull);
        return 0;
    };
    let base: *mut u8 = entry.as_mut_ptr().cast();
    // SAFETY: the entry has room for it and is aligned to 8.
    let record = unsafe { &mut *base.cast::<FailedExecRecord>() };
    record.header = header;
    record.errno = result.wrapping_neg() as u32;
    write_task(record, task);
    // SAFETY: PATH_CAP bytes fit after the record (asserted with the class).
    record.filename_len = unsafe { copy_path(base.add(size_of::<FailedExecRecord>()), path) };
    if !entry.submit(&ctx) {
        count(Slot::FailedExecRingFull);
    }
    0
}

/// The address of the path if the system call was an exec.
#[inline(always)]
fn attempted_path(regs: u64) -> Option<u64> {
    let [execve, execveat] = exec_syscalls();
    let number: u32 = field(regs, Field::RegsSyscall);
    if number == execve {
        Some(field(regs, Field::RegsFirst))
    } else if number == execveat {
        Some(field(regs, Field::RegsSecond))
    } else {
        None
    }
}

#[inline(always)]
fn write_task(record: &mut FailedExecRecord, task: u64) {
    let cred: u64 = field(task, Field::TaskCred);
    // SAFETY: the field is 16 bytes.
    unsafe { comm(record.comm.as_mut_ptr(), task) };
    [record.uid, record.gid, record.euid, record.egid] = task::ids(cred);
}

/// Bytes copied, the NUL included; 0 if the path cannot be read.
///
/// # Safety
/// `to` has room for [`PATH_CAP`] bytes.
#[inline(always)]
unsafe fn copy_path(to: *mut u8, from: u64) -> u32 {
    // SAFETY: by contract.
    let written = unsafe { bpf_probe_read_user_str(to.cast(), PATH_CAP, from as *const _) };
    if written > 0 { written as u32 } else { 0 }
}
