//! `sched_process_fork(parent, child)`: runs in the parent, before the child first runs.
#![expect(unsafe_code, reason = "writes into the ring")]

use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use sensor_ebpf::config::Field;
use sensor_ebpf::drops::Slot;
use sensor_ebpf::record::{ForkRecord, Identity, kind};

use super::{header, identify, process_of};
use crate::maps::{EVENTS, PROCESSES, count};
use crate::read::field;

#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub(crate) fn sched_process_fork(ctx: RawTracePointContext) -> i32 {
    let parent: u64 = ctx.arg(0);
    let child: u64 = ctx.arg(1);
    let (tgid, start) = process_of(child);
    let tid: u32 = field(child, Field::TaskPid);
    if tid != tgid {
        return 0;
    }
    let parent_tgid: u32 = field(parent, Field::TaskTgid);
    let forker = identify(parent, parent_tgid, 0);
    let identity = Identity {
        start,
        parent_start: forker.start,
        parent_tgid,
        announced: 1,
    };
    if PROCESSES.insert(&tgid, &identity, 0).is_err() {
        count(Slot::ForkTableFull);
    }
    emit(&header(kind::FORK, tgid, &identity));
    0
}

#[inline(always)]
fn emit(record: &ForkRecord) {
    match EVENTS.reserve::<ForkRecord>(0) {
        Some(mut entry) => {
            // SAFETY: the entry has the size of the record.
            unsafe { entry.as_mut_ptr().write(*record) };
            entry.submit(0);
        }
        None => count(Slot::ForkRingFull),
    }
}
