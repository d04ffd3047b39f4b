//! The only raw kernel reads.
//!
//! Kernel pointers are plain numbers here: they are never dereferenced, only given to
//! `bpf_probe_read_*`, which fails on a bad address instead of faulting.
#![expect(unsafe_code, reason = "helpers take raw pointers")]

use core::ffi::c_void;
use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::{
    bpf_probe_read_kernel, bpf_probe_read_kernel_str, bpf_probe_read_user,
};
use sensor_ebpf::config::{ABSENT, FIELD_COUNT, Field, Settings};

/// Byte offsets by [`Field`], set by the loader.
#[unsafe(no_mangle)]
static OFFSETS: [u32; FIELD_COUNT] = [ABSENT; FIELD_COUNT];

/// See [`Settings`].
#[unsafe(no_mangle)]
static SETTINGS: Settings = Settings {
    muting: 0,
    exec_syscalls: [u32::MAX; 2],
    compat_mask: 0,
    preemptible: 0,
};

#[inline(always)]
pub(crate) fn is_muting() -> bool {
    // SAFETY: a static; volatile so that the value set by the loader is used.
    unsafe { (&raw const SETTINGS.muting).read_volatile() != 0 }
}

/// Whether programs can be preempted here.
#[inline(always)]
pub(crate) fn is_preemptible() -> bool {
    // SAFETY: as above.
    unsafe { (&raw const SETTINGS.preemptible).read_volatile() != 0 }
}

/// Numbers of `execve` and `execveat`.
#[inline(always)]
pub(crate) fn exec_syscalls() -> [u32; 2] {
    // SAFETY: as above.
    unsafe { (&raw const SETTINGS.exec_syscalls).read_volatile() }
}

/// Whether a task makes 32-bit system calls.
#[inline(always)]
pub(crate) fn is_compat(task: u64) -> bool {
    // SAFETY: as above.
    let mask = unsafe { (&raw const SETTINGS.compat_mask).read_volatile() };
    field::<u32>(task, Field::TaskCompat) & mask != 0
}

/// One bit of a bitfield; `None` where this kernel lacks it.
#[inline(always)]
pub(crate) fn bit(base: u64, bitfield: Field) -> Option<bool> {
    let bit = offset(bitfield)?;
    let mut byte = 0u8;
    // SAFETY: the byte is ours.
    unsafe {
        bpf_probe_read_kernel((&raw mut byte).cast(), 1, (base + bit / 8) as *const c_void);
    }
    Some(byte >> (bit % 8) & 1 == 1)
}

/// A value whose all-zero form is valid and means "unknown".
pub(crate) trait Plain: Copy {}
impl Plain for u16 {}
impl Plain for u32 {}
impl Plain for u64 {}
impl Plain for i64 {}
impl Plain for i32 {}

/// Offset of a field, or `None` where this kernel lacks it.
#[inline(always)]
pub(crate) fn offset(field: Field) -> Option<u64> {
    // SAFETY: in bounds; volatile so that the value set by the loader is used and not ABSENT.
    let offset = unsafe { core::ptr::read_volatile(OFFSETS.as_ptr().add(field as usize)) };
    if offset == ABSENT {
        None
    } else {
        Some(offset as u64)
    }
}

/// Address of an embedded member; 0 if the base is null or the field absent.
#[inline(always)]
pub(crate) fn member(base: u64, field: Field) -> u64 {
    match offset(field) {
        Some(offset) if base != 0 => base + offset,
        _ => 0,
    }
}

/// Reads a member; all zero where it cannot be read.
#[inline(always)]
pub(crate) fn field<T: Plain>(base: u64, field: Field) -> T {
    let mut value = MaybeUninit::<T>::zeroed();
    if let Some(offset) = offset(field) {
        // SAFETY: `value` has room for a T. On failure the helper fills it with zeros.
        unsafe {
            bpf_probe_read_kernel(
                value.as_mut_ptr().cast(),
                size_of::<T>() as u32,
                (base + offset) as *const c_void,
            );
        }
    }
    // SAFETY: zeroed or filled above, and any bytes are a valid T.
    unsafe { value.assume_init() }
}

/// The name of a task, copied to `to`; zeros where it cannot be read.
///
/// Apart from [`field`], which would zero 16 bytes first and so call memset.
///
/// # Safety
/// `to` must have room for 16 bytes; the verifier checks it as well.
#[inline(always)]
pub(crate) unsafe fn comm(to: *mut u8, task: u64) {
    let from = member(task, Field::TaskComm);
    // SAFETY: by contract. On failure, as for a null address, the helper writes zeros.
    unsafe { bpf_probe_read_kernel(to.cast(), 16, from as *const c_void) };
}

/// Copies a kernel string with its NUL. Bytes written, or a negative errno.
///
/// # Safety
/// `to` must have room for `cap` bytes; the verifier checks it as well.
#[inline(always)]
pub(crate) unsafe fn string(to: *mut u8, cap: u32, from: u64) -> i64 {
    // SAFETY: by contract.
    unsafe { bpf_probe_read_kernel_str(to.cast(), cap, from as *const c_void) }
}

/// Copies bytes of the current process. Negative errno if any page is absent.
///
/// # Safety
/// `to` must have room for `len` bytes; the verifier checks it as well.
#[inline(always)]
pub(crate) unsafe fn user_bytes(to: *mut u8, len: u32, from: u64) -> i64 {
    // SAFETY: by contract.
    unsafe { bpf_probe_read_user(to.cast(), len, from as *const c_void) }
}
