//! The calls that std and rustix do not wrap; this crate's only unsafe code.

#![allow(unsafe_code, reason = "raw system calls")]

use std::ffi::{CStr, CString, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr;

/// Ends the calling thread alone, as `pthread_exit` does last. The process goes on while it has
/// other threads, also when this is its leader.
///
/// `pthread_exit` itself unwinds the stack, which Rust's `main` does not let through.
pub fn exit_thread(code: u8) -> ! {
    loop {
        // SAFETY: `exit` takes no pointers and does not return. What it skips is the thread's
        // destructors and its stack, which no other thread refers to.
        unsafe { libc::syscall(libc::SYS_exit, c_int::from(code)) };
    }
}

/// Creates a child process that is a copy of this one; 0 in the child. For workloads that need a
/// fork without an exec.
///
/// # Errors
/// As fork(2).
pub fn fork() -> io::Result<u32> {
    // SAFETY: called by workloads that have one thread, so the child's copy of every lock is free.
    let pid = unsafe { libc::fork() };
    u32::try_from(pid).map_err(|_| io::Error::last_os_error())
}

/// Like [`fork`], with flags of clone(2), none of which share memory, and optionally with a chosen
/// process id.
///
/// # Errors
/// As clone3(2).
///
/// # Panics
/// The flags share memory or start a thread.
pub fn clone(flags: c_int, pid: Option<u32>) -> io::Result<u32> {
    let sharing = libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND;
    assert_eq!(flags & sharing, 0, "only copies of this process");
    // With CLONE_PARENT the kernel takes the forker's own signal.
    let signal = if flags & libc::CLONE_PARENT == 0 {
        libc::SIGCHLD
    } else {
        0
    };
    // SAFETY: all fields are integers.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = u64::try_from(flags).map_err(io::Error::other)?;
    arguments.exit_signal = u64::try_from(signal).map_err(io::Error::other)?;
    if let Some(pid) = &pid {
        arguments.set_tid = ptr::from_ref(pid) as u64;
        arguments.set_tid_size = 1;
    }
    let size = size_of_val(&arguments);
    // SAFETY: as for fork; the structure and the pid outlive the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size) };
    u32::try_from(pid).map_err(|_| io::Error::last_os_error())
}

/// A child made as by vfork(2), in this process's memory while the caller waits, which ends at
/// once.
///
/// # Errors
/// As clone(2).
pub fn vfork_and_exit(code: u8) -> io::Result<u32> {
    extern "C" fn code_of(argument: *mut c_void) -> c_int {
        argument as usize as c_int
    }
    let mut stack = vec![0u128; 4096];
    let top = stack.as_mut_ptr_range().end.cast();
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let argument = ptr::without_provenance_mut(code.into());
    // SAFETY: the child has a stack of its own, touches nothing else and ends when its function
    // returns; until then the caller stands still and keeps the stack.
    let pid = unsafe { libc::clone(code_of, top, flags, argument) };
    u32::try_from(pid).map_err(|_| io::Error::last_os_error())
}

/// Replaces the program, with an empty environment; `argv` may be empty. Returns only where the
/// kernel refuses.
#[must_use]
pub fn execveat(dir: BorrowedFd<'_>, path: &CStr, argv: &[CString], flags: c_int) -> io::Error {
    let mut pointers: Vec<_> = argv.iter().map(|argument| argument.as_ptr()).collect();
    pointers.push(ptr::null());
    let empty = [ptr::null::<u8>()];
    // SAFETY: NUL-terminated strings in lists that end with a null pointer, all alive.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            dir.as_raw_fd(),
            path.as_ptr(),
            pointers.as_ptr(),
            empty.as_ptr(),
            flags,
        )
    };
    io::Error::last_os_error()
}

/// Undoes whatever was set for a signal, and sends it to this process. Returns where that does not
/// end it. Any number will do, also those that libc keeps for itself.
pub fn die_by(signal: c_int) {
    // Handler, flags, restorer and mask; all zero is the kernel's default.
    let default = [0u64; 4];
    let everything = u64::MAX;
    let size = size_of_val(&everything);
    let nothing = ptr::null_mut::<c_void>();
    // SAFETY: pointers to live memory of the sizes that the kernel expects. A handler is removed
    // and none installed.
    unsafe {
        let action = ptr::from_ref(&default);
        libc::syscall(libc::SYS_rt_sigaction, signal, action, nothing, size);
        let mask = ptr::from_ref(&everything);
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_UNBLOCK,
            mask,
            nothing,
            size,
        );
        libc::syscall(libc::SYS_kill, libc::getpid(), signal);
    }
}

/// Has the kernel measure each run of every eBPF program until the descriptor is closed, however
/// this process ends; Linux 5.8.
///
/// # Errors
/// As bpf(2).
pub fn enable_bpf_stats() -> std::io::Result<std::os::fd::OwnedFd> {
    const BPF_ENABLE_STATS: libc::c_long = 32;
    const BPF_STATS_RUN_TIME: u64 = 0;
    bpf_descriptor(BPF_ENABLE_STATS, BPF_STATS_RUN_TIME)
}

/// The name of a loaded eBPF program, of which the kernel keeps 15 bytes.
///
/// # Errors
/// As bpf(2); there is none of that id.
pub fn bpf_program_name(id: u32) -> std::io::Result<String> {
    use std::os::fd::AsRawFd as _;

    const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
    const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
    /// In `struct bpf_prog_info`, which `name` ends here.
    const NAME: std::ops::Range<usize> = 64..80;
    let program = bpf_descriptor(BPF_PROG_GET_FD_BY_ID, id.into())?;
    let mut info = [0u8; NAME.end];
    let size = u64::try_from(info.len()).map_err(std::io::Error::other)?;
    let fd = u64::try_from(program.as_raw_fd()).map_err(std::io::Error::other)?;
    // Two 32-bit words (descriptor, size of info), then the address.
    let attributes = [size << 32 | fd, info.as_mut_ptr() as u64];
    // SAFETY: the kernel reads `attributes` and writes at most `size` bytes to `info`; both live
    // until the call returns.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_OBJ_GET_INFO_BY_FD,
            attributes.as_ptr(),
            size_of_val(&attributes),
        )
    };
    if result < 0 {
        return Err(std::io::Error::last_os_error());
    }
    let name = info[NAME].split(|byte| *byte == 0).next();
    Ok(String::from_utf8_lossy(name.unwrap_or_default()).into_owned())
}

/// A bpf(2) command that takes one word and gives a descriptor.
fn bpf_descriptor(command: libc::c_long, word: u64) -> std::io::Result<std::os::fd::OwnedFd> {
    use std::os::fd::FromRawFd as _;

    // SAFETY: the kernel reads the attributes, which live until the call returns, and no more.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const word, size_of_val(&word)) };
    match i32::try_from(fd) {
        // SAFETY: the call has just made it, so nobody else owns it.
        Ok(fd) if fd >= 0 => Ok(unsafe { std::os::fd::OwnedFd::from_raw_fd(fd) }),
        _ => Err(std::io::Error::last_os_error()),
    }
}
