//! The only unsafe code of this crate: views of the ring, of the programs' counters and of the word
//! that they read, a call to the C library's allocator, and a socket option that rustix does not have.
#![expect(unsafe_code, reason = "mmap, malloc_trim and getsockopt")]

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use sensor_ebpf::drops::{SLOTS_PER_CPU, Slot};

use crate::ring::Memory;

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

// SAFETY: the memory belongs to no thread, and what others write is accessed atomically only.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps `bytes` of the map from its start.
    fn of(map: impl AsFd, access: ProtFlags, bytes: usize) -> io::Result<Self> {
        Self::part(map, access, 0, bytes)
    }

    /// Maps `bytes` of the map from an offset, which is a multiple of the page size.
    fn part(map: impl AsFd, access: ProtFlags, offset: u64, bytes: usize) -> io::Result<Self> {
        let anywhere = std::ptr::null_mut();
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let start = unsafe { mmap(anywhere, bytes, access, MapFlags::SHARED, map, offset)? };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { start, bytes })
    }

    /// A word that others write; `None` where there is none. Only to be loaded from where the
    /// mapping is read-only.
    fn word(&self, at: usize) -> Option<&AtomicU64> {
        let place = self.place(at, size_of::<u64>())?;
        // SAFETY: in bounds and aligned, mapped while self lives, and accessed atomically by all.
        Some(unsafe { AtomicU64::from_ptr(place.as_ptr().cast()) })
    }

    /// As [`word`](Self::word), of 4 bytes.
    fn half_word(&self, at: usize) -> Option<&AtomicU32> {
        let place = self.place(at, size_of::<u32>())?;
        // SAFETY: as above.
        Some(unsafe { AtomicU32::from_ptr(place.as_ptr().cast()) })
    }

    /// The address of so many bytes, if they lie inside and are aligned; mappings begin at a page.
    fn place(&self, at: usize, bytes: usize) -> Option<NonNull<u8>> {
        let inside = at.checked_add(bytes)? <= self.bytes;
        // SAFETY: in bounds.
        (inside && at.is_multiple_of(bytes)).then(|| unsafe { self.start.add(at) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in `part` with this length, and nothing refers to it any more.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// The ring's memory: the reader's position, which alone is writable, then the kernel's, each on a
/// page of its own, then the data. The kernel would map the data a second time behind that and does
/// not insist on it:
/// <https://github.com/torvalds/linux/blob/v6.12/kernel/bpf/ringbuf.c#L258>
#[derive(Debug)]
pub(crate) struct RingMemory {
    reader: Mapping,
    /// The page of the kernel's position and the data.
    kernel: Mapping,
    page: usize,
}

impl RingMemory {
    /// Maps the ring of `size` bytes of data behind `map`.
    pub(crate) fn map(map: impl AsFd, size: usize) -> io::Result<Self> {
        let page = rustix::param::page_size();
        let both = ProtFlags::READ | ProtFlags::WRITE;
        Ok(Self {
            reader: Mapping::of(&map, both, page)?,
            kernel: Mapping::part(&map, ProtFlags::READ, page as u64, page + size)?,
            page,
        })
    }

    /// Where the last reader stopped.
    pub(crate) fn position(&self) -> u64 {
        let word = self.reader.word(0);
        word.map_or(0, |word| word.load(Ordering::Acquire))
    }
}

impl Memory for RingMemory {
    fn size(&self) -> usize {
        self.kernel.bytes - self.page
    }

    fn reserved(&self) -> u64 {
        let word = self.kernel.word(0);
        word.map_or(0, |word| word.load(Ordering::Acquire))
    }

    fn length_word(&self, at: usize) -> u32 {
        let word = self.kernel.half_word(self.page + at);
        word.map_or(0, |word| word.load(Ordering::Acquire))
    }

    fn bytes(&self, at: usize, len: usize) -> &[u8] {
        if at > self.size() || len > self.size() - at {
            return &[];
        }
        // SAFETY: in bounds and mapped while self lives. By contract the record is filled, which was
        // seen in its length word, and not released: no program has its memory any more, and the
        // kernel gives it to none before `release`.
        unsafe { std::slice::from_raw_parts(self.kernel.start.as_ptr().add(self.page + at), len) }
    }

    fn release(&self, position: u64) {
        if let Some(word) = self.reader.word(0) {
            word.store(position, Ordering::Release);
        }
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
        let word = self.memory.word(index * size_of::<u64>());
        word.map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// One counter over all cpus.
    pub(crate) fn total(&self, slot: Slot) -> u64 {
        (0..self.cpus).map(|cpu| self.read(cpu, slot)).sum()
    }
}
