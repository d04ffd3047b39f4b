//! The system calls that the daemon refuses itself.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter, sock_filter,
};

/// Installs the filter on the calling thread and those that it starts.
pub(super) fn refuse() -> Result<()> {
    let filter = filter().context("building the system call filter")?;
    apply_filter(&filter).context("installing the system call filter")
}

/// System calls that end with EPERM: network, new programs, other processes' memory, other
/// accounts, and everything that changes the kernel or the system. A list of what is refused and
/// not of what is allowed, since libc and the standard library may choose other calls at any update.
const REFUSED: &[libc::c_long] = &[
    // network
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    // programs and other processes
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_personality,
    // rights
    libc::SYS_setuid,
    libc::SYS_setreuid,
    libc::SYS_setresuid,
    libc::SYS_setfsuid,
    libc::SYS_setgid,
    libc::SYS_setregid,
    libc::SYS_setresgid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    libc::SYS_capset,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // namespaces and mounts
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_quotactl,
    // kernel
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_io_uring_setup,
    libc::SYS_userfaultfd,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    KEXEC_FILE_LOAD,
    libc::SYS_syslog,
    // system
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_vhangup,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
];

/// Not in libc for musl on arm64.
const KEXEC_FILE_LOAD: libc::c_long = if cfg!(target_arch = "x86_64") {
    320
} else {
    294
};

/// Flags that `clone` is refused with. (CLONE_NEWTIME is for `clone3` and `unshare` alone.)
const NEW_NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

fn filter() -> Result<BpfProgram> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        REFUSED.iter().map(|call| (*call, vec![])).collect();
    rules.insert(libc::SYS_clone, new_namespace()?);
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(errno(libc::EPERM)),
        std::env::consts::ARCH.try_into()?,
    )?;
    let mut program = prologue();
    program.extend(BpfProgram::try_from(filter)?);
    Ok(program)
}

/// One rule for each flag: a condition can ask for all bits of a mask, not for any.
fn new_namespace() -> Result<Vec<SeccompRule>> {
    let rule = |flag| {
        let flag = u64::try_from(flag)?;
        let set = SeccompCmpOp::MaskedEq(flag);
        let condition = SeccompCondition::new(0, SeccompCmpArgLen::Dword, set, flag)?;
        Ok(SeccompRule::new(vec![condition])?)
    };
    NEW_NAMESPACES.into_iter().map(rule).collect()
}

/// What seccompiler cannot say, put before its program (whose jumps are relative).
///
/// - `clone3` does not exist: its flags lie in memory, where a filter cannot look. libc then takes
///   `clone`.
/// - On x86-64 no x32 calls: they pass for calls of this architecture under other numbers.
fn prologue() -> BpfProgram {
    const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let fail = |number| step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | errno(number));
    let clone3 = u32::try_from(libc::SYS_clone3).expect("system call numbers are small");
    let mut program = vec![
        step(LOAD, 0, 0, 0), // seccomp_data.nr
        step(EQUAL, 0, 1, clone3),
        fail(libc::ENOSYS),
    ];
    if cfg!(target_arch = "x86_64") {
        const AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
        const X32_SYSCALL_BIT: u32 = 0x4000_0000;
        program.extend([step(AT_LEAST, 0, 1, X32_SYSCALL_BIT), fail(libc::EPERM)]);
    }
    program
}

fn errno(number: libc::c_int) -> u32 {
    number.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::UdpSocket;
    use std::os::unix::net::UnixStream;
    use std::process::Command;
    use std::thread;

    use super::*;

    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

    /// Runs the program as the kernel does; knows the instructions that occur in it.
    fn verdict(program: &[sock_filter], call: u32, argument: u32) -> u32 {
        let arch = if cfg!(target_arch = "x86_64") {
            0xC000_003E
        } else {
            0xC000_00B7
        };
        let (mut at, mut register) = (0, 0);
        loop {
            let step = &program[at];
            let jump = |condition| usize::from(if condition { step.jt } else { step.jf });
            at += 1;
            match step.code {
                0x20 => {
                    register = match step.k {
                        0 => call,
                        4 => arch,
                        16 => argument,
                        _ => 0,
                    }
                }
                0x54 => register &= step.k,
                0x05 => at += usize::try_from(step.k).unwrap(),
                0x15 => at += jump(register == step.k),
                0x35 => at += jump(register >= step.k),
                0x06 => return step.k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    fn number(call: libc::c_long) -> u32 {
        u32::try_from(call).unwrap()
    }

    #[test]
    fn what_is_listed_is_refused_and_the_daily_calls_are_not() {
        let program = filter().unwrap();
        let refused = libc::SECCOMP_RET_ERRNO | errno(libc::EPERM);
        for call in REFUSED {
            assert_eq!(verdict(&program, number(*call), 0), refused, "{call}");
        }
        let daily = [
            libc::SYS_read,
            libc::SYS_openat,
            libc::SYS_futex,
            libc::SYS_mmap,
            libc::SYS_epoll_pwait,
            libc::SYS_fdatasync,
            libc::SYS_exit_group,
        ];
        for call in daily {
            assert_eq!(verdict(&program, number(call), 0), ALLOW, "{call}");
        }
    }

    #[test]
    fn clone_makes_threads_and_no_namespaces() {
        let program = filter().unwrap();
        let clone = number(libc::SYS_clone);
        let thread = libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND | libc::CLONE_FS;
        let refused = libc::SECCOMP_RET_ERRNO | errno(libc::EPERM);
        assert_eq!(verdict(&program, clone, thread.unsigned_abs()), ALLOW);
        for flag in NEW_NAMESPACES {
            let flags = (thread | flag).unsigned_abs();
            assert_eq!(verdict(&program, clone, flags), refused, "{flag:#x}");
        }
        assert_eq!(
            verdict(&program, number(libc::SYS_clone3), 0),
            libc::SECCOMP_RET_ERRNO | errno(libc::ENOSYS)
        );
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn x32_is_no_way_around() {
        let program = filter().unwrap();
        let socket = number(libc::SYS_socket) | 0x4000_0000;
        let refused = libc::SECCOMP_RET_ERRNO | errno(libc::EPERM);
        assert_eq!(verdict(&program, socket, 0), refused);
    }

    #[test]
    fn the_kernel_refuses_by_it_and_threads_still_start() {
        let tried = thread::spawn(|| {
            refuse().unwrap();
            let own = rustix::thread::capabilities(None).unwrap();
            let me = rustix::process::getpid();
            let errors: [(&str, Option<std::io::Error>); 5] = [
                ("socket", UdpSocket::bind("127.0.0.1:0").err()),
                ("socketpair", UnixStream::pair().err()),
                ("execve", Command::new("/bin/true").status().err()),
                (
                    "capset",
                    rustix::thread::set_capabilities(None, own)
                        .err()
                        .map(Into::into),
                ),
                (
                    "pidfd_open",
                    rustix::process::pidfd_open(me, rustix::process::PidfdFlags::empty())
                        .err()
                        .map(Into::into),
                ),
            ];
            for (call, error) in errors {
                let kind = error.map(|error| error.kind());
                assert_eq!(kind, Some(ErrorKind::PermissionDenied), "{call}");
            }
            // With `clone`, since there is no `clone3`; and files are still to be had.
            thread::spawn(|| std::fs::read("/proc/self/stat").unwrap())
                .join()
                .unwrap()
        });
        assert!(!tried.join().unwrap().is_empty());
    }
}
