//! Every map of the programs, its size and why; and the writes to them.
#![expect(unsafe_code, reason = "map values are shared memory")]

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::helpers::generated::bpf_get_smp_processor_id;
use aya_ebpf::macros::map;
#[cfg(feature = "perf")]
use aya_ebpf::maps::PerfEventByteArray;
#[cfg(not(feature = "perf"))]
use aya_ebpf::maps::RingBuf;
use aya_ebpf::maps::{Array, HashMap, LruHashMap};
#[cfg(feature = "perf")]
use sensor_ebpf::drops::STAGING_PER_CPU;
use sensor_ebpf::drops::{SLOTS_PER_CPU, Slot};
#[cfg(feature = "perf")]
use sensor_ebpf::record::class;
use sensor_ebpf::record::{Identity, MutedExe};

/// Records on their way to user space. The loader sets the size.
#[cfg(not(feature = "perf"))]
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(4 * 1024 * 1024, 0);

/// One word: 1 while the reader of the ring comes by itself, see [`is_reader_napping`]. User space
/// writes it through a mapping, which needs no right that the loader gives up.
#[cfg(not(feature = "perf"))]
#[map]
pub(crate) static NAPPING: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Records on their way to user space, by cpu. The loader opens the buffers.
#[cfg(feature = "perf")]
#[map]
pub(crate) static EVENTS: PerfEventByteArray = PerfEventByteArray::new(0);

/// Records being filled: [`STAGING_PER_CPU`] areas for each cpu. The loader sets the size.
#[cfg(feature = "perf")]
#[map]
pub(crate) static STAGING: Array<[u64; class::LARGE / 8]> =
    Array::with_max_entries(STAGING_PER_CPU, 0);

/// How many programs want each of the areas; the one that raised it from 0 has it.
#[cfg(feature = "perf")]
#[map]
pub(crate) static STAGING_OWNERS: Array<u64> = Array::with_max_entries(STAGING_PER_CPU, 0);

/// Live processes by tgid: filled at fork (and by the loader for those that already ran), deleted
/// at exit. The loader sets the size. Preallocated: allocating inside a scheduler tracepoint can
/// fail when it matters most.
#[map]
pub(crate) static PROCESSES: HashMap<u32, Identity> = HashMap::with_max_entries(65_536, 0);

/// Pids whose last start is remembered, by remainder: more than are given out within a clock tick.
pub(crate) const REMEMBERED_STARTS: u32 = 4096;

/// Pids whose last exit is remembered, by remainder: so many that no other takes the place while two
/// programs see one exit.
pub(crate) const REMEMBERED_EXITS: u32 = 32_768;

/// One word: 1 once the substitute of execs was seen to run before the program that it stands in for,
/// which it then leaves alone. Programs that are attached through perf share one place in the list of a
/// tracepoint, that of the first: whoever used it so before us.
#[map]
pub(crate) static SUBSTITUTE_FIRST: Array<u64> = Array::with_max_entries(1, 0);

/// The last process of a pid.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct LastProcess {
    pub(crate) tgid: u64,
    pub(crate) start: u64,
}

/// The last start by pid.
#[map]
pub(crate) static LAST_STARTS: Array<LastProcess> = Array::with_max_entries(REMEMBERED_STARTS, 0);

/// The last exit by pid.
#[map]
pub(crate) static LAST_EXITS: Array<LastProcess> = Array::with_max_entries(REMEMBERED_EXITS, 0);

/// Control groups whose path was sent, by id. User space keeps twice as many.
#[map]
pub(crate) static CGROUPS: LruHashMap<u64, u8> = LruHashMap::with_max_entries(4_096, 0);

/// Executables whose execs are muted, see [`sensor_ebpf::record::mute`].
#[map]
pub(crate) static MUTED_EXES: HashMap<MutedExe, u32> = HashMap::with_max_entries(256, 0);

/// Users whose execs are muted.
#[map]
pub(crate) static MUTED_UIDS: HashMap<u32, u32> = HashMap::with_max_entries(256, 0);

/// Control groups whose execs are muted.
#[map]
pub(crate) static MUTED_CGROUPS: HashMap<u64, u32> = HashMap::with_max_entries(256, 0);

/// Counters, see [`sensor_ebpf::drops`]. The loader sets the size from the possible cpus. A plain
/// array and not a per-cpu one since user space maps it: reading counters then needs neither a
/// syscall nor, before 5.19, the capability that the loader gives up.
#[map]
pub(crate) static COUNTERS: Array<u64> = Array::with_max_entries(SLOTS_PER_CPU, BPF_F_MMAPABLE);

/// 1 while the reader looks into the ring after a while anyway, so that nobody need wake it; else 0.
///
/// A record's room is reserved before this is asked: who is told 1 too late has by then made the
/// ring look full of something to a reader that has just gone back to waiting.
#[cfg(not(feature = "perf"))]
#[inline(always)]
pub(crate) fn is_reader_napping() -> u64 {
    let Some(word) = NAPPING.get_ptr(0) else {
        return 0;
    };
    // SAFETY: an aligned u64 of the array; volatile since user space writes it meanwhile.
    unsafe { word.read_volatile() & 1 }
}

/// Adds one to a counter of this cpu.
#[inline(always)]
pub(crate) fn count(slot: Slot) {
    let _ = bump(cpu(), slot);
}

/// Takes the next sequence number of `cpu`.
///
/// Not an atomic fetch-add, which needs 5.12: on a kernel whose tracepoints can be preempted two
/// records may get one number, so the reader counts records and compares with the total.
#[inline(always)]
pub(crate) fn next_sequence(cpu: u32) -> u64 {
    bump(cpu, Slot::Sequence)
}

#[inline(always)]
pub(crate) fn cpu() -> u32 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_get_smp_processor_id() }
}

#[inline(always)]
fn bump(cpu: u32, slot: Slot) -> u64 {
    let Some(counter) = COUNTERS.get_ptr_mut(cpu * SLOTS_PER_CPU + slot as u32) else {
        return 0;
    };
    // SAFETY: the pointer is an aligned u64 of the array, valid while the program runs. The result
    // of the add stays unused, so that it compiles to the form that every kernel has.
    unsafe {
        let before = counter.read_volatile();
        atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, 1);
        before
    }
}
