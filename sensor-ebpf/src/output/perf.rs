//! Perf buffers: records are staged in a map and copied from there.
//!
//! A program can be preempted by another one on the same cpu where the kernel allows it
//! (PREEMPT_LAZY, PREEMPT_RT), so each staging area is owned by whoever raised its count from 0.
//! There is no fetch-and-add before 5.12; with add and then read, both may see that they are two
//! and go on to the next area, but never do both own one.
#![expect(unsafe_code, reason = "staging areas are shared memory")]

use core::ffi::c_void;
use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::BPF_F_CURRENT_CPU;
use aya_ebpf::helpers::generated::bpf_perf_event_output;
use sensor_ebpf::drops::STAGING_PER_CPU;

use crate::maps::{EVENTS, STAGING, STAGING_OWNERS, cpu};

/// A staged record.
pub(crate) struct Entry<T> {
    memory: *mut T,
    owners: *mut u64,
}

/// Takes a staging area; `None` if all of this cpu's are in use.
#[inline(always)]
pub(crate) fn reserve<T>() -> Option<Entry<T>> {
    let first = cpu() * STAGING_PER_CPU;
    for index in first..first + STAGING_PER_CPU {
        let owners = STAGING_OWNERS.get_ptr_mut(index)?;
        add(owners, 1);
        // SAFETY: an aligned u64 of the array.
        if unsafe { owners.read_volatile() } == 1 {
            let memory = STAGING.get_ptr_mut(index)?.cast();
            return Some(Entry { memory, owners });
        }
        add(owners, u64::MAX);
    }
    None
}

#[inline(always)]
fn add(owners: *mut u64, count: u64) {
    // SAFETY: an aligned u64 of the array.
    unsafe {
        atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(owners, count);
    }
}

impl<T> Entry<T> {
    /// The memory, left over from older records.
    #[inline(always)]
    pub(crate) fn as_mut_ptr(&mut self) -> *mut T {
        self.memory
    }

    /// Gives the record to user space. False if its buffer has no room.
    #[inline(always)]
    pub(crate) fn submit(self, ctx: &impl EbpfContext) -> bool {
        // SAFETY: the map is its definition, and the memory is of that size.
        let result = unsafe {
            bpf_perf_event_output(
                ctx.as_ptr(),
                (&raw const EVENTS).cast_mut().cast::<c_void>(),
                BPF_F_CURRENT_CPU,
                self.memory.cast(),
                size_of::<T>() as u64,
            )
        };
        self.discard();
        result == 0
    }

    /// Gives the room back.
    #[inline(always)]
    pub(crate) fn discard(self) {
        add(self.owners, u64::MAX);
    }
}
