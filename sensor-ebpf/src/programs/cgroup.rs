//! `sched_process_exec`, first of the programs there: sends the path of a control group before the
//! first exec in it. A program of its own, so that the verifier follows its walk apart from the
//! walks of the exec program.
#![expect(unsafe_code, reason = "writes into the ring")]

use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use sensor_ebpf::config::Field;
use sensor_ebpf::drops::Slot;
use sensor_ebpf::record::{CgroupRecord, class, kind};

use super::path::push_name;
use super::{Buffer, companion_header};
use crate::maps::{CGROUPS, count};
use crate::output;
use crate::read::field;

/// Control groups from the innermost to the root.
const MAX_DEPTH: u32 = 24;

#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub(crate) fn cgroup_of_exec(ctx: RawTracePointContext) -> i32 {
    let task: u64 = ctx.arg(0);
    let node = node_of(task);
    let id: u64 = field(node, Field::NodeId);
    // SAFETY: the value is not used.
    if node == 0 || unsafe { CGROUPS.get(&id) }.is_some() {
        return 0;
    }
    if emit(&ctx, task, node, id) {
        // Fails only where another cpu has just told of it as well.
        let _ = CGROUPS.insert(&id, &1, 0);
    } else {
        count(Slot::CgroupRingFull);
    }
    0
}

/// The kernfs node of a task's control group: of the v2 hierarchy, unless a controller that
/// containers use is in a v1 hierarchy.
#[inline(always)]
pub(crate) fn node_of(task: u64) -> u64 {
    let set: u64 = field(task, Field::TaskCgroups);
    let unified: u64 = field(set, Field::CssSetDefault);
    let controller: u64 = field(set, Field::CssSetController);
    let controlled: u64 = field(controller, Field::CssCgroup);
    let root: u64 = field(unified, Field::CgroupRoot);
    let legacy = controlled != 0 && field::<u64>(controlled, Field::CgroupRoot) != root;
    field(if legacy { controlled } else { unified }, Field::CgroupNode)
}

/// False if there was no room.
#[inline(always)]
fn emit(ctx: &RawTracePointContext, task: u64, node: u64, id: u64) -> bool {
    let Some(mut entry) = output::reserve::<Buffer<{ class::CGROUP }>>() else {
        return false;
    };
    let base: *mut u8 = entry.as_mut_ptr().cast();
    // SAFETY: the entry has room for it and is aligned to 8.
    let record = unsafe { &mut *base.cast::<CgroupRecord>() };
    record.header = companion_header(kind::CGROUP, task);
    record.id = id;
    record.path_end = size_of::<CgroupRecord>() as u32;
    // SAFETY: the entry has that many bytes, and the cursor lies in the record.
    let cut = unsafe { walk(base, &raw mut record.path_end, node) };
    record.cut = cut as u32;
    entry.submit(ctx)
}

/// Appends the names up to the root, which has none itself. True if some are missing.
///
/// # Safety
/// `base` points to [`class::CGROUP`] bytes, `cursor` into the record there.
#[inline(always)]
unsafe fn walk(base: *mut u8, cursor: *mut u32, mut node: u64) -> bool {
    for _ in 0..MAX_DEPTH {
        let parent: u64 = field(node, Field::NodeParent);
        if parent == 0 {
            return false;
        }
        let name: u64 = field(node, Field::NodeName);
        // SAFETY: by contract.
        if !unsafe { push_name(base, class::CGROUP as u32, cursor, name) } {
            return true;
        }
        node = parent;
    }
    true
}
