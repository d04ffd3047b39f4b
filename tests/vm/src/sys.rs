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
