//! The eBPF programs: raw tracepoints on fork, exec and exit of processes, and on request
//! on the end of system calls. Linux 5.10.10 and newer.
//!
//! Everything exists for bpf targets only, so that host builds of the workspace pass over it.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]
// core has no AtomicU64 for bpf targets.
#![cfg_attr(
    target_arch = "bpf",
    feature(core_intrinsics),
    expect(internal_features)
)]

#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod output;
#[cfg(target_arch = "bpf")]
mod programs;
#[cfg(target_arch = "bpf")]
mod read;

#[cfg(not(target_arch = "bpf"))]
fn main() {}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The helpers we call (`bpf_probe_read_kernel` and others) are for GPL-compatible programs only.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
#[expect(
    unsafe_code,
    reason = "the kernel looks the licence up by section name"
)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
