//! `sched_process_exit(task)`: runs for each thread; the process ends with its last one.
#![expect(unsafe_code, reason = "writes into the ring")]

use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use sensor_ebpf::config::Field;
use sensor_ebpf::drops::Slot;
use sensor_ebpf::record::{ExitRecord, Identity, START_TICK, header_flag, identity_flag, kind};

use super::{header, mute, process_of};
use crate::maps::{LAST_EXITS, LastProcess, PROCESSES, REMEMBERED, count};
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
    let task: u64 = ctx.arg(0);
    let signal: u64 = field(task, Field::TaskSignal);
    let live: u32 = field(signal, Field::SignalLive);
    if live != 0 {
        return 0;
    }
    let tgid: u32 = field(task, Field::TaskTgid);
    match take(tgid) {
        Some(identity) if identity.flags & identity_flag::SILENT != 0 => count(Slot::MutedExit),
        Some(identity) => emit(&ctx, tgid, &identity, task, signal),
        None if was_reported(tgid, task) => {}
        None => count(Slot::ExitUntracked),
    }
    0
}

/// Removes the process from the map. Two last threads on two cpus can both see `live == 0`; the
/// one whose delete succeeds reports the exit.
#[inline(always)]
fn take(tgid: u32) -> Option<Identity> {
    // SAFETY: the value is copied before anything can replace it with another process's; only the
    // exit of this process, or a later fork that got its pid, changes it.
    let identity = unsafe { PROCESSES.get(&tgid).copied() }?;
    // Before the delete, so that the other thread, which then finds nothing, finds this.
    note_exit(tgid, identity.start);
    PROCESSES.remove(&tgid).ok()?;
    Some(identity)
}

#[inline(always)]
fn note_exit(tgid: u32, start: u64) {
    if let Some(last) = LAST_EXITS.get_ptr_mut(tgid % REMEMBERED) {
        let tgid = tgid as u64;
        // SAFETY: an aligned value of the array.
        unsafe { last.write_volatile(LastProcess { tgid, start }) };
    }
}

/// Whether the other one of two last threads has just reported the exit.
#[inline(always)]
fn was_reported(tgid: u32, task: u64) -> bool {
    let (_, start) = process_of(task);
    LAST_EXITS.get_ptr(tgid % REMEMBERED).is_some_and(|last| {
        // SAFETY: an aligned value of the array.
        let last = unsafe { last.read_volatile() };
        last.tgid == tgid as u64 && last.start - last.start % START_TICK == start
    })
}

#[inline(always)]
fn emit(ctx: &RawTracePointContext, tgid: u32, identity: &Identity, task: u64, signal: u64) {
    let muted = mute::mark(identity, header_flag::MUTED);
    let header = header(kind::EXIT, muted, tgid, identity);
    let Some(mut entry) = output::reserve::<ExitRecord>() else {
        return count(Slot::ExitRingFull);
    };
    // SAFETY: the entry has the size of the record, and every field is written before it is sent.
    let record = unsafe { &mut *entry.as_mut_ptr() };
    record.header = header;
    let leader: u64 = field(task, Field::TaskGroupLeader);
    let started: u64 = field(leader, STARTED);
    record.run_time = header.time.saturating_sub(started);
    // The leader's name is the process's.
    // SAFETY: the field is 16 bytes.
    unsafe { comm(record.comm.as_mut_ptr(), leader) };
    record.status = status(task, signal);
    record.reserved = 0;
    if !entry.submit(ctx) {
        count(Slot::ExitRingFull);
    }
}

/// The status as `wait` reports it.
/// <https://github.com/torvalds/linux/blob/v6.12/kernel/exit.c#L1141>
#[inline(always)]
fn status(task: u64, signal: u64) -> u32 {
    let flags: u32 = field(signal, Field::SignalFlags);
    if flags & SIGNAL_GROUP_EXIT != 0 {
        return field(signal, Field::SignalGroupExitCode);
    }
    let leader: u64 = field(task, Field::TaskGroupLeader);
    field(leader, Field::TaskExitCode)
}
