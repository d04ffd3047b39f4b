//! The calls that std and rustix do not wrap; this crate's only unsafe code.

#![allow(unsafe_code, reason = "raw system calls")]

/// Ends the calling thread alone, as `pthread_exit` does last. The process goes on while it has
/// other threads, also when this is its leader.
///
/// `pthread_exit` itself unwinds the stack, which Rust's `main` does not let through.
pub fn exit_thread() -> ! {
    loop {
        // SAFETY: `exit` takes no pointers and does not return. What it skips is the thread's
        // destructors and its stack, which no other thread refers to.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }
}

/// Creates a child process that is a copy of this one; 0 in the child. For workloads that need a
/// fork without an exec.
///
/// # Errors
/// As fork(2).
pub fn fork() -> std::io::Result<u32> {
    // SAFETY: called by workloads that have one thread, so the child's copy of every lock is free.
    let pid = unsafe { libc::fork() };
    u32::try_from(pid).map_err(|_| std::io::Error::last_os_error())
}
