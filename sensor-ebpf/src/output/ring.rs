//! The ring buffer: records are filled in place, in memory that no other program can overwrite
//! meanwhile.
//!
//! The kernel wakes a reader that has caught up, and has to interrupt itself for it. While the
//! reader naps that is waste, so it is left out.

use core::mem::MaybeUninit;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::BPF_RB_NO_WAKEUP;
use aya_ebpf::maps::ring_buf::RingBufEntry;

use crate::maps::{EVENTS, is_reader_napping};

/// Room for one record.
pub(crate) struct Entry<T: 'static>(RingBufEntry<T>);

/// Reserves room; `None` if there is none.
#[inline(always)]
pub(crate) fn reserve<T: 'static>() -> Option<Entry<T>> {
    EVENTS.reserve::<T>(0).map(Entry)
}

impl<T: 'static> Entry<T> {
    /// The memory, left over from older records.
    #[inline(always)]
    pub(crate) fn as_mut_ptr(&mut self) -> *mut T {
        let memory: &mut MaybeUninit<T> = &mut self.0;
        memory.as_mut_ptr()
    }

    /// Gives the record to user space. False if that did not succeed.
    #[inline(always)]
    pub(crate) fn submit(self, _ctx: &impl EbpfContext) -> bool {
        self.0.submit(wake_up());
        true
    }

    /// Gives the room back.
    #[inline(always)]
    pub(crate) fn discard(self) {
        self.0.discard(wake_up());
    }
}

/// How the reader hears of a record. Without a branch, which the verifier would follow.
#[inline(always)]
fn wake_up() -> u64 {
    is_reader_napping() * BPF_RB_NO_WAKEUP as u64
}
