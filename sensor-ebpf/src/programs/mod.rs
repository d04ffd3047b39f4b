//! One hook family per file; what they share is here.

mod cgroup;
mod environment;
mod exec;
mod exit;
mod failed_exec;
mod fork;
mod mute;
mod path;
mod task;

use aya_ebpf::bindings::BPF_NOEXIST;
use sensor_ebpf::config::Field;
use sensor_ebpf::record::{ABI, Identity, RecordHeader, identity_flag, tick_of};

use crate::maps::{self, PROCESSES};
use crate::read::{field, is_preemptible};

/// What a program that is attached through perf returns: with 0 nobody else's events of that tracepoint
/// would be told, `perf stat` and its like being blind then.
const PASS: u32 = 1;

/// A record of `N` bytes; the ring aligns to 8.
#[repr(C, align(8))]
struct Buffer<const N: usize>([u8; N]);

/// A task's process: its tgid and start.
#[inline(always)]
fn process_of(task: u64) -> (u32, u64) {
    let leader: u64 = field(task, Field::TaskGroupLeader);
    let start: u64 = field(leader, Field::TaskStart);
    (field(task, Field::TaskTgid), tick_of(start))
}

/// What the map knows of a task's process. One that ran before the programs were attached gets its
/// entry here, with its present parent.
#[inline(always)]
#[expect(unsafe_code, reason = "map value")]
fn identify(task: u64, tgid: u32, flags: u32) -> Identity {
    // SAFETY: copied at once; only fork, exec and exit of this very process write the entry.
    if let Some(known) = unsafe { PROCESSES.get(&tgid).copied() } {
        return known;
    }
    let (parent_tgid, parent_start) = process_of(field(task, Field::TaskRealParent));
    let (_, start) = process_of(task);
    let identity = Identity {
        start,
        parent_start,
        parent_tgid,
        flags,
    };
    // Fails if the map is full, which the exit counts, or if the loader was faster.
    let _ = PROCESSES.insert(&tgid, &identity, BPF_NOEXIST.into());
    identity
}

/// The bits of [`Identity::flags`] that say which exec of a task was the last; 0 where one program
/// sees them all.
#[inline(always)]
fn exec_mark(task: u64) -> u32 {
    if !is_preemptible() {
        return 0;
    }
    field::<u32>(task, Field::TaskExecId) << identity_flag::EXEC_SHIFT
}

#[inline(always)]
fn without_exec_mark(flags: u32) -> u32 {
    flags & ((1 << identity_flag::EXEC_SHIFT) - 1)
}

/// Begins a record; takes its sequence number, so call it exactly once for each.
#[inline(always)]
fn header(kind: u8, flags: u8, tgid: u32, identity: &Identity) -> RecordHeader {
    let cpu = maps::cpu();
    RecordHeader {
        abi: ABI,
        kind,
        flags,
        cpu,
        sequence: maps::next_sequence(cpu),
        time: now(),
        start: identity.start,
        parent_start: identity.parent_start,
        tgid,
        parent_tgid: identity.parent_tgid,
    }
}

/// Begins a record that is no event of its own: it belongs to the exec that follows.
#[inline(always)]
fn companion_header(kind: u8, task: u64) -> RecordHeader {
    let (tgid, start) = process_of(task);
    RecordHeader {
        abi: ABI,
        kind,
        flags: 0,
        cpu: maps::cpu(),
        sequence: 0,
        time: now(),
        start,
        parent_start: 0,
        tgid,
        parent_tgid: 0,
    }
}

/// Time on the boot clock; on the monotonic clock in the build for perf buffers, since kernels that
/// need it lack the helper for the other (5.8).
#[inline(always)]
#[expect(unsafe_code, reason = "helper calls")]
fn now() -> u64 {
    // SAFETY: helpers without arguments.
    unsafe {
        #[cfg(not(feature = "perf"))]
        return aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns();
        #[cfg(feature = "perf")]
        return aya_ebpf::helpers::generated::bpf_ktime_get_ns();
    }
}
