//! `sched_process_exit(task)`: runs for each thread; the process ends with its last one. Where the
//! program can be preempted, and is then left out for others on that cpu, a substitute waits for what
//! it missed. It is attached through perf, which disables preemption, but leaves programs out itself
//! while a `bpf` call on that cpu changes a map; what that hides is seen at `sched_process_free(task)`.
#![expect(
    unsafe_code,
    reason = "helper calls, writes into the ring, a program by name"
)]

use core::ffi::c_void;

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_get_current_task;
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::{RawTracePointContext, TracePointContext};
use sensor_ebpf::config::Field;
use sensor_ebpf::drops::Slot;
use sensor_ebpf::record::{
    ExitRecord, Identity, RecordHeader, header_flag, identity_flag, kind, tick_of,
};

use super::{PASS, header, mute, process_of};
use crate::maps::{LAST_EXITS, LastProcess, PROCESSES, REMEMBERED_EXITS, count};
use crate::output;
use crate::read::{comm, field};

/// The status of the group is that of `exit_group`, not of the thread.
/// <https://github.com/torvalds/linux/blob/v6.12/include/linux/sched/signal.h#L257>
const SIGNAL_GROUP_EXIT: u32 = 4;

/// The start on the clock of the header.
const STARTED: Field = if cfg!(feature = "perf") {
    Field::TaskStartMonotonic
} else {
    Field::TaskStart
};

#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub(crate) fn sched_process_exit(ctx: RawTracePointContext) -> i32 {
    exited(&ctx, ctx.arg(0));
    0
}

/// Spelled out, as the macro's program would return 0 whatever this does; see [`PASS`].
#[unsafe(no_mangle)]
#[unsafe(link_section = "tracepoint")]
extern "C" fn exit_substitute(ctx: *mut c_void) -> u32 {
    let ctx = TracePointContext::new(ctx);
    // SAFETY: a helper without arguments.
    let task = unsafe { bpf_get_current_task() };
    exited(&ctx, task);
    PASS
}

/// Runs for each thread, some time after it was reaped; a process goes with its leader.
#[raw_tracepoint(tracepoint = "sched_process_free")]
pub(crate) fn sched_process_free(ctx: RawTracePointContext) -> i32 {
    let task: u64 = ctx.arg(0);
    let (tgid, start) = process_of(task);
    let tid: u32 = field(task, Field::TaskPid);
    // The loader enters a process that it still saw running after its exit, and takes it out again.
    if tid == tgid && !was_told(tgid, start) {
        // The pid may be another process's by now.
        ended(&ctx, task, Some(start));
    }
    0
}

#[inline(always)]
fn exited(ctx: &impl EbpfContext, task: u64) {
    let signal: u64 = field(task, Field::TaskSignal);
    let live: u32 = field(signal, Field::SignalLive);
    if live != 0 || ended(ctx, task, None) {
        return;
    }
    let (tgid, start) = process_of(task);
    if !was_told(tgid, start) {
        note_exit(tgid, start);
        count(Slot::ExitUntracked);
    }
}

/// Tells of the end of a process, unless that was done. False if the map has no such process. `released`
/// is the start of one that is told of at its release.
#[inline(always)]
fn ended(ctx: &impl EbpfContext, task: u64, released: Option<u64>) -> bool {
    let tgid: u32 = field(task, Field::TaskTgid);
    let Some(identity) = take(tgid, released) else {
        return false;
    };
    if identity.flags & identity_flag::SILENT != 0 {
        count(Slot::MutedExit);
    } else {
        let substitute = released.is_some() as u8 * header_flag::SUBSTITUTE;
        let flags = substitute | mute::mark(&identity, header_flag::MUTED);
        emit(ctx, &header(kind::EXIT, flags, tgid, &identity), task);
    }
    true
}

/// Removes the process from the map. Two last threads on two cpus can both see `live == 0`; the
/// one whose delete succeeds reports the exit. `None` also if it did not start at `start`.
#[inline(always)]
fn take(tgid: u32, start: Option<u64>) -> Option<Identity> {
    // SAFETY: the value is copied before anything can replace it with another process's; only the
    // exit of this process, or a later fork that got its pid, changes it.
    let identity = unsafe { PROCESSES.get(&tgid).copied() }?;
    if start.is_some_and(|start| tick_of(identity.start) != start) {
        return None;
    }
    // Before the delete, so that the other thread, which then finds nothing, finds this.
    note_exit(tgid, identity.start);
    PROCESSES.remove(&tgid).ok()?;
    Some(identity)
}

#[inline(always)]
fn note_exit(tgid: u32, start: u64) {
    if let Some(last) = LAST_EXITS.get_ptr_mut(tgid % REMEMBERED_EXITS) {
        let tgid = tgid as u64;
        // SAFETY: an aligned value of the array.
        unsafe { last.write_volatile(LastProcess { tgid, start }) };
    }
}

/// Whether the exit was reported or counted: by the other one of two last threads, or by a program that
/// ran before.
#[inline(always)]
pub(crate) fn was_told(tgid: u32, start: u64) -> bool {
    let start = tick_of(start);
    LAST_EXITS
        .get_ptr(tgid % REMEMBERED_EXITS)
        .is_some_and(|last| {
            // SAFETY: an aligned value of the array.
            let last = unsafe { last.read_volatile() };
            last.tgid == tgid as u64 && tick_of(last.start) == start
        })
}

#[inline(always)]
fn emit(ctx: &impl EbpfContext, header: &RecordHeader, task: u64) {
    let Some(mut entry) = output::reserve::<ExitRecord>() else {
        return count(Slot::ExitRingFull);
    };
    // SAFETY: the entry has the size of the record, and every field is written before it is sent.
    let record = unsafe { &mut *entry.as_mut_ptr() };
    record.header = *header;
    let leader: u64 = field(task, Field::TaskGroupLeader);
    let started: u64 = field(leader, STARTED);
    record.run_time = header.time.saturating_sub(started);
    // The leader's name is the process's.
    // SAFETY: the field is 16 bytes.
    unsafe { comm(record.comm.as_mut_ptr(), leader) };
    record.status = status(task);
    record.reserved = 0;
    if !entry.submit(ctx) {
        count(Slot::ExitRingFull);
    }
}

/// The status as `wait` reports it.
/// <https://github.com/torvalds/linux/blob/v6.12/kernel/exit.c#L1141>
#[inline(always)]
fn status(task: u64) -> u32 {
    let signal: u64 = field(task, Field::TaskSignal);
    let flags: u32 = field(signal, Field::SignalFlags);
    if flags & SIGNAL_GROUP_EXIT != 0 {
        return field(signal, Field::SignalGroupExitCode);
    }
    let leader: u64 = field(task, Field::TaskGroupLeader);
    field(leader, Field::TaskExitCode)
}
