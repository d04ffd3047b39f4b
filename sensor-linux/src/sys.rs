//! The only unsafe code of this crate: a read-only view of the programs' counters, a call to the C
//! library's allocator, and a socket option that rustix does not have.
#![expect(unsafe_code, reason = "mmap, malloc_trim and getsockopt")]

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use sensor_ebpf::drops::{SLOTS_PER_CPU, Slot};

/// Gives free heap back to the system. aya parses the kernel's whole BTF whether asked to or not,
/// and glibc would keep those 10 MB for good.
pub(crate) fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer and may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Messages that a socket had no room for (`SO_MEMINFO`); `None` before Linux 4.12.
pub(crate) fn socket_drops(socket: BorrowedFd<'_>) -> Option<u32> {
    /// Words that the kernel has to tell, and the place of the drops among them:
    /// <https://github.com/torvalds/linux/blob/v6.12/include/uapi/linux/sock_diag.h#L19>
    const WORDS: usize = 9;
    const DROPS: usize = 8;
    let mut words = [0u32; WORDS];
    let mut bytes = libc::socklen_t::try_from(size_of_val(&words)).ok()?;
    // SAFETY: the kernel writes at most `bytes` bytes to `words`, and how many to `bytes`; both
    // outlive the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            words.as_mut_ptr().cast(),
            &raw mut bytes,
        )
    };
    (result == 0 && bytes as usize == size_of_val(&words)).then(|| words[DROPS])
}

/// The counter array of the programs, mapped so that reading it needs no system call.
#[derive(Debug)]
pub(crate) struct Counters {
    start: NonNull<u64>,
    bytes: usize,
    cpus: u32,
}

// SAFETY: the mapping is read-only and its words are read atomically; it belongs to no thread.
unsafe impl Send for Counters {}

impl Counters {
    /// Maps the array of `cpus * SLOTS_PER_CPU` counters behind `map`.
    pub(crate) fn map(map: impl AsFd, cpus: u32) -> io::Result<Self> {
        let bytes = size_of::<u64>() * (cpus * SLOTS_PER_CPU) as usize;
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let start = unsafe {
            mmap(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::READ,
                MapFlags::SHARED,
                map,
                0,
            )?
        };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { start, bytes, cpus })
    }

    pub(crate) fn cpus(&self) -> u32 {
        self.cpus
    }

    /// One counter of one cpu; 0 for a cpu that does not exist.
    pub(crate) fn read(&self, cpu: u32, slot: Slot) -> u64 {
        if cpu >= self.cpus {
            return 0;
        }
        let index = (cpu * SLOTS_PER_CPU + slot as u32) as usize;
        // SAFETY: in bounds, aligned, mapped while self lives; only ever accessed atomically here.
        unsafe { AtomicU64::from_ptr(self.start.as_ptr().add(index)).load(Ordering::Relaxed) }
    }

    /// One counter over all cpus.
    pub(crate) fn total(&self, slot: Slot) -> u64 {
        (0..self.cpus).map(|cpu| self.read(cpu, slot)).sum()
    }
}

impl Drop for Counters {
    fn drop(&mut self) {
        // SAFETY: mapped in `map` with this length, and nothing refers to it any more.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}
