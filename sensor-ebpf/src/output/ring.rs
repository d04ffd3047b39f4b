//! The ring buffer: records are filled in place, in memory that no other program can overwrite
//! meanwhile.

use core::mem::MaybeUninit;

use aya_ebpf::maps::ring_buf::RingBufEntry;
use aya_ebpf::programs::RawTracePointContext;

use crate::maps::EVENTS;

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
    pub(crate) fn submit(self, _ctx: &RawTracePointContext) -> bool {
        self.0.submit(0);
        true
    }

    /// Gives the room back.
    #[inline(always)]
    pub(crate) fn discard(self) {
        self.0.discard(0);
    }
}
