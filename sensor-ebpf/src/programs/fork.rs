//! `sched_process_fork(parent, child)`: runs in the parent, before the child first runs. Where that
//! can be preempted `sched_wakeup_new(child)` takes its place, which comes next and holds the lock of
//! a run queue.
#![expect(unsafe_code, reason = "helper calls, writes into the ring")]

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_get_current_task;
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use sensor_ebpf::config::Field;
use sensor_ebpf::drops::Slot;
use sensor_ebpf::record::{ForkRecord, Identity, header_flag, identity_flag, kind, tick_of};

use super::{exec_mark, exit, header, identify, mute, process_of};
use crate::maps::{LAST_STARTS, LastProcess, PROCESSES, REMEMBERED_STARTS, count};
use crate::output;
use crate::read::{field, is_preemptible};

#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub(crate) fn sched_process_fork(ctx: RawTracePointContext) -> i32 {
    forked(&ctx, ctx.arg(0), ctx.arg(1));
    0
}

#[raw_tracepoint(tracepoint = "sched_wakeup_new")]
pub(crate) fn sched_wakeup_new(ctx: RawTracePointContext) -> i32 {
    // SAFETY: a helper without arguments.
    let parent = unsafe { bpf_get_current_task() };
    forked(&ctx, parent, ctx.arg(0));
    0
}

#[inline(always)]
fn forked(ctx: &impl EbpfContext, parent: u64, child: u64) {
    let (tgid, start) = process_of(child);
    let tid: u32 = field(child, Field::TaskPid);
    if tid != tgid {
        return;
    }
    let start = told_apart(tgid, start);
    let parent_tgid: u32 = field(parent, Field::TaskTgid);
    let forker = identify(parent, parent_tgid, 0);
    let identity = Identity {
        start,
        parent_start: forker.start,
        parent_tgid,
        flags: flags_of_child(&forker) | exec_mark(child),
    };
    if is_preemptible() {
        note_lost_exit(tgid);
    }
    // Fails if the map is full: the exit then finds no entry, and counts that.
    let _ = PROCESSES.insert(&tgid, &identity, 0);
    if mute::is_tree(&identity) {
        return count(Slot::MutedFork);
    }
    let muted = mute::mark(&forker, header_flag::PARENT_MUTED);
    emit(ctx, &header(kind::FORK, muted, tgid, &identity));
}

/// A process that is still in the map while another gets its pid ended without an exit that a program
/// saw, and its release comes too late.
#[inline(always)]
fn note_lost_exit(tgid: u32) {
    // SAFETY: not kept; the loader alone writes the entry of a pid that is being given out, and takes it
    // out again: that of a process whose exit was told.
    let before = unsafe { PROCESSES.get(&tgid) };
    if before.is_some_and(|before| !exit::was_told(tgid, before.start)) {
        count(Slot::ExitMissed);
    }
}

/// Who may choose pids (`clone3`, `ns_last_pid`) can use one twice within a tick; the later
/// process then gets a start that is a nanosecond off.
#[inline(always)]
fn told_apart(tgid: u32, start: u64) -> u64 {
    let Some(last) = LAST_STARTS.get_ptr_mut(tgid % REMEMBERED_STARTS) else {
        return start;
    };
    // SAFETY: an aligned value of the array. Another cpu may write it meanwhile, with another pid
    // of the same remainder: what is remembered is then mixed and matches nothing.
    unsafe {
        let before = last.read_volatile();
        let again = before.tgid == tgid as u64 && tick_of(before.start) == start;
        let start = if again { before.start + 1 } else { start };
        last.write_volatile(LastProcess {
            tgid: tgid as u64,
            start,
        });
        start
    }
}

#[inline(always)]
fn flags_of_child(forker: &Identity) -> u32 {
    if mute::is_tree(forker) {
        identity_flag::ANNOUNCED | identity_flag::MUTED_TREE | identity_flag::SILENT
    } else {
        // Until it execs, the child runs what its parent runs.
        identity_flag::ANNOUNCED | forker.flags & identity_flag::MUTED
    }
}

#[inline(always)]
fn emit(ctx: &impl EbpfContext, record: &ForkRecord) {
    let Some(mut entry) = output::reserve::<ForkRecord>() else {
        return count(Slot::ForkRingFull);
    };
    // SAFETY: the entry has the size of the record.
    unsafe { entry.as_mut_ptr().write(*record) };
    if !entry.submit(ctx) {
        count(Slot::ForkRingFull);
    }
}
