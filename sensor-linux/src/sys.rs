//! The only unsafe code of this crate: views of the programs' counters and of the word that they
//! read, a call to the C library's allocator, and a socket option that rustix does not have.
#![expect(unsafe_code, reason = "mmap, malloc_trim and getsockopt")]

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering, fence};

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

/// The memory of a BPF map, which the programs use as well.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the memory belongs to no thread, and words of it are accessed atomically only.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps `bytes` of the map from its start.
    fn of(map: impl AsFd, access: ProtFlags, bytes: usize) -> io::Result<Self> {
        let anywhere = std::ptr::null_mut();
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let start = unsafe { mmap(anywhere, bytes, access, MapFlags::SHARED, map, 0)? };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { start, bytes })
    }

    /// One of the words; `None` beyond the end. Only to be loaded from where the mapping is
    /// read-only.
    fn word(&self, index: usize) -> Option<&AtomicU64> {
        let at = index.checked_mul(size_of::<u64>())?;
        if at.checked_add(size_of::<u64>())? > self.bytes {
            return None;
        }
        // SAFETY: in bounds, aligned since mappings begin at a page, mapped while self lives, and
        // accessed atomically by whoever uses it.
        Some(unsafe { AtomicU64::from_ptr(self.start.as_ptr().add(at).cast()) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in `of` with this length, and nothing refers to it any more.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// The word that tells the programs whether the reader of the ring naps. A mapping, since before
/// Linux 5.19 `bpf(2)` asks for a capability that is given up after the start.
#[derive(Debug)]
pub(crate) struct NapWord(Mapping);

impl NapWord {
    pub(crate) fn map(map: impl AsFd) -> io::Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        Mapping::of(map, access, size_of::<u64>()).map(Self)
    }

    /// While it is set nobody is woken. What the caller reads after this it reads after the word
    /// has changed.
    pub(crate) fn set(&self, napping: bool) {
        if let Some(word) = self.0.word(0) {
            word.store(napping.into(), Ordering::SeqCst);
            fence(Ordering::SeqCst);
        }
    }
}

/// The counter array of the programs, mapped so that reading it needs no system call.
#[derive(Debug)]
pub(crate) struct Counters {
    memory: Mapping,
    cpus: u32,
}

impl Counters {
    /// Maps the array of `cpus * SLOTS_PER_CPU` counters behind `map`.
    pub(crate) fn map(map: impl AsFd, cpus: u32) -> io::Result<Self> {
        let bytes = size_of::<u64>() * (cpus * SLOTS_PER_CPU) as usize;
        let memory = Mapping::of(map, ProtFlags::READ, bytes)?;
        Ok(Self { memory, cpus })
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
        let word = self.memory.word(index);
        word.map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// One counter over all cpus.
    pub(crate) fn total(&self, slot: Slot) -> u64 {
        (0..self.cpus).map(|cpu| self.read(cpu, slot)).sum()
    }
}
