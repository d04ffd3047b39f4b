//! Where a list of processes comes from, by operating system.
//!
//! Each module has a `Procs` with `open`, `scan`, `absent` (fields that it cannot fill, with the
//! reason) and `hidden` (what our rights keep from us). Linux reads `/proc`, all others ask sysinfo.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod linux_text;
// Built for tests on Linux as well, so that it is exercised where we can run it.
#[cfg(any(not(target_os = "linux"), test))]
mod portable;

#[cfg(target_os = "linux")]
pub(crate) use linux::Procs;
#[cfg(not(target_os = "linux"))]
pub(crate) use portable::Procs;
