//! `sched_process_exec`, attached only where variables were asked for: sends the environment before
//! the exec record. User space picks the variables; the programs cannot search.
#![expect(unsafe_code, reason = "writes into the ring")]

use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use sensor_ebpf::config::Field;
use sensor_ebpf::drops::Slot;
use sensor_ebpf::record::{EnvironmentRecord, class, kind};

use super::{Buffer, companion_header, mute};
use crate::maps::count;
use crate::output;
use crate::read::{field, user_bytes};

#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub(crate) fn environment_of_exec(ctx: RawTracePointContext) -> i32 {
    let (task, bprm) = (ctx.arg(0), ctx.arg(2));
    if mute::will_mute(task, bprm) {
        return 0;
    }
    let mm: u64 = field(task, Field::TaskMm);
    let start: u64 = field(mm, Field::MmEnvStart);
    let end: u64 = field(mm, Field::MmEnvEnd);
    let total = end.saturating_sub(start);
    let room = (class::ENVIRONMENT_SMALL - size_of::<EnvironmentRecord>()) as u64;
    let sent = if total <= room {
        emit::<{ class::ENVIRONMENT_SMALL }>(&ctx, task, start, total)
    } else {
        emit::<{ class::ENVIRONMENT_LARGE }>(&ctx, task, start, total)
    };
    if !sent {
        count(Slot::EnvironmentRingFull);
    }
    0
}

/// False if there was no room.
#[inline(always)]
fn emit<const N: usize>(ctx: &RawTracePointContext, task: u64, start: u64, total: u64) -> bool {
    let Some(mut entry) = output::reserve::<Buffer<N>>() else {
        return false;
    };
    let base: *mut u8 = entry.as_mut_ptr().cast();
    // SAFETY: the entry has room for it and is aligned to 8.
    let record = unsafe { &mut *base.cast::<EnvironmentRecord>() };
    record.header = companion_header(kind::ENVIRONMENT, task);
    record.header.parent_tgid = field(task, Field::TaskExecId);
    record.total = total;
    let room = (N - size_of::<EnvironmentRecord>()) as u64;
    let len = if total > room { room } else { total } as u32;
    // SAFETY: len bytes fit after the record.
    let read = unsafe { user_bytes(base.add(size_of::<EnvironmentRecord>()), len, start) };
    record.unreadable = (read < 0) as u32;
    record.len = if read < 0 { 0 } else { len };
    entry.submit(ctx)
}
