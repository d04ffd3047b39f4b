//! What happened to processes, in one vocabulary for every operating system.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use crate::{BootId, BootTime, DropReason, EventClass, WallTime};

/// Names one process for ever: pids are reused, keys are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ProcessKey {
    /// The boot in which the process lives.
    pub boot: BootId,
    /// Process id in the initial pid namespace (the kernel's tgid).
    pub pid: u32,
    /// Start of the process (fork, not exec), since boot.
    pub start: BootTime,
}

impl ProcessKey {
    /// Stable text form, `<boot id>-<pid>-<start in ns since boot>`; ECS `process.entity_id`.
    #[must_use]
    pub fn entity_id(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for ProcessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.boot, self.pid, self.start.0)
    }
}

/// One thing that happened, as every stage after the sensor sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When and where.
    pub header: Header,
    /// What.
    pub kind: EventKind,
}

/// When and where an event happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    /// The boot that all keys of this event belong to.
    pub boot: BootId,
    /// Number given by the source on `cpu`; gaps are losses. 0 where the source has none.
    pub sequence: u64,
    /// The cpu that `sequence` counts on.
    pub cpu: u32,
    /// Time from the kernel, never rewritten afterwards.
    pub time: BootTime,
    /// The same instant on the wall clock, as of when the sensor read the event.
    pub wall: WallTime,
}

/// The kinds of event.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// A process replaced its program.
    Exec(Box<Exec>),
    /// A process (not a thread) was created.
    Fork(Fork),
    /// The last thread of a process ended.
    Exit(Exit),
    /// A source or a stage could not deliver something.
    Lost(Lost),
    /// A process that already ran when the sensor started.
    Snapshot(Box<Snapshot>),
    /// The digest of an executable whose exec event had to leave without it.
    Hashed(Box<Hashed>),
    /// A process tried to replace its program and could not; only where asked for.
    FailedExec(Box<FailedExec>),
}

impl Event {
    /// The process that the event is about; `Lost` is about none.
    #[must_use]
    pub fn key(&self) -> Option<ProcessKey> {
        match &self.kind {
            EventKind::Exec(exec) => Some(exec.process.key),
            EventKind::Fork(fork) => Some(fork.child),
            EventKind::Exit(exit) => Some(exit.key),
            EventKind::Snapshot(row) => Some(row.process.key),
            EventKind::Hashed(hashed) => Some(hashed.key),
            EventKind::FailedExec(failed) => Some(failed.key),
            EventKind::Lost(_) => None,
        }
    }

    /// The class in which its loss would be counted.
    #[must_use]
    pub fn class(&self) -> EventClass {
        match &self.kind {
            EventKind::Exec(_) => EventClass::Exec,
            EventKind::Fork(_) => EventClass::Fork,
            EventKind::Exit(_) => EventClass::Exit,
            EventKind::Snapshot(_) => EventClass::Snapshot,
            EventKind::Lost(_) => EventClass::Lost,
            EventKind::Hashed(_) => EventClass::Hashed,
            EventKind::FailedExec(_) => EventClass::FailedExec,
        }
    }
}

/// A process replaced its program.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exec {
    /// The process as the new program sees itself.
    pub process: Process,
    /// Thread that called exec, where it was not the leader: it takes over the leader's id.
    pub old_tid: Option<u32>,
}

/// A process that already ran when the sensor started; what procfs (or its like) still knew.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// The process; its parent is the present one, which after re-parenting is not the forker.
    pub process: Process,
}

/// A process (not a thread) was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fork {
    /// The new process.
    pub child: ProcessKey,
    /// The process that called fork, also where `CLONE_PARENT` makes another one its parent.
    pub parent: ProcessKey,
    /// The exec of what the parent runs was muted, so nothing tells what that is.
    pub parent_muted: bool,
}

/// The last thread of a process ended. There is exactly one per process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exit {
    /// The process.
    pub key: ProcessKey,
    /// The process that forked it, where known.
    pub parent: Option<ProcessKey>,
    /// How it ended; `None` where the source cannot tell.
    pub status: Option<ExitStatus>,
    /// How long it ran, from fork to here; `None` where the source cannot tell: the time of the event
    /// is then that at which the end was seen.
    pub run_time: Option<Duration>,
    /// Name at the end, at most 15 bytes.
    pub comm: Bytes,
    /// Executable path, joined from the process table; empty where unknown.
    pub exe: Bytes,
    /// The exec of what it ran was muted, so nothing tells what that is.
    pub muted: bool,
}

/// How a process ended, as `wait(2)` reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExitStatus {
    /// The raw status word: on Unix `code << 8 | core << 7 | signal`, on Windows the exit code.
    pub raw: u32,
    /// Exit code; 0 where a signal ended it.
    pub code: u32,
    /// Signal that ended it; 0 for none.
    pub signal: u32,
    /// The kernel marked a core dump.
    pub core_dumped: bool,
}

impl ExitStatus {
    /// Splits a Unix wait status.
    #[must_use]
    pub fn from_wait_status(raw: u32) -> Self {
        let signal = raw & 0x7f;
        Self {
            raw,
            code: if signal == 0 { raw >> 8 & 0xff } else { 0 },
            signal,
            core_dumped: raw & 0x80 != 0,
        }
    }
}

/// What an executable held, told after its exec. One follows an exec whose `sha256` is `None`
/// where hashing is on, with the digest or the reason why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashed {
    /// The process that ran it.
    pub key: ProcessKey,
    /// Its path, as in the exec.
    pub exe: Bytes,
    /// The file as it was at exec.
    pub exe_file: Option<FileIdentity>,
    /// The digest, or why there is none.
    pub outcome: Result<Digest, HashFailure>,
}

/// SHA-256 of an executable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    /// The hash.
    pub sha256: [u8; 32],
    /// The file was written between the exec and the end of hashing (its size or mtime shows it):
    /// the hash is of what it holds now, not of what ran.
    pub changed: bool,
    /// Not that, but its ctime moved: its mode, owner or links changed, or it was written and its
    /// mtime set back. So the hash is of what it holds now, and most likely of what ran.
    pub touched: bool,
}

/// Why an executable has no digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum HashFailure {
    /// No file of that identity could be opened any more.
    Gone,
    /// It may not be read, or reading it went wrong.
    Unreadable,
    /// It is longer than what is hashed.
    TooLarge,
    /// More executables waited than the hashing worker takes.
    QueueFull,
    /// Opening or reading it did not come to an end, or too many reads of other files hang.
    Stalled,
}

impl HashFailure {
    /// All failures, in the order of their codes on the wire.
    pub const ALL: [Self; 5] = [
        Self::Gone,
        Self::Unreadable,
        Self::TooLarge,
        Self::QueueFull,
        Self::Stalled,
    ];

    /// Lower-case name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Unreadable => "unreadable",
            Self::TooLarge => "too_large",
            Self::QueueFull => "queue_full",
            Self::Stalled => "stalled",
        }
    }
}

/// An exec that the kernel refused.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FailedExec {
    /// The process that tried, and goes on.
    pub key: ProcessKey,
    /// The process that forked it.
    pub parent: Option<ProcessKey>,
    /// Its name.
    pub comm: Bytes,
    /// What it runs; joined from the process table, empty where unknown.
    pub exe: Bytes,
    /// The path that it gave.
    pub filename: Bytes,
    /// Why: the system's error number (`ENOENT` is 2).
    pub errno: u32,
    /// Its numeric ids.
    pub credentials: Option<Credentials>,
    /// The exec of what it runs was muted, so nothing tells what that is.
    pub muted: bool,
}

/// Something was not delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// What kind of events.
    pub class: EventClass,
    /// Why.
    pub reason: DropReason,
    /// How many.
    pub count: u64,
    /// They were lost after this time …
    pub from: BootTime,
    /// … and not after this one.
    pub to: BootTime,
}

/// A process and the program that it runs. `None` means the source cannot tell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Process {
    /// Identity.
    pub key: ProcessKey,
    /// The process that forked it.
    pub parent: Option<ProcessKey>,
    /// Kernel name, at most 15 bytes.
    pub comm: Bytes,
    /// Path of the running executable (of the interpreter, for a script), absolute where the
    /// source can resolve it.
    pub exe: Bytes,
    /// Path as it was given to exec: relative, a script, `/dev/fd/N`; empty where unknown.
    pub filename: Bytes,
    /// For a script, the interpreter as the last `#!` line names it; `filename` is the script.
    pub interpreter: Option<Bytes>,
    /// Arguments, the program's own name first.
    pub argv: Argv,
    /// Bytes of the argument block that were not captured. 0 means complete.
    pub argv_truncated_bytes: u64,
    /// Working directory at exec.
    pub cwd: Option<Bytes>,
    /// Numeric ids.
    pub credentials: Option<Credentials>,
    /// Account name or SID text where the source gives one.
    pub user: Option<Bytes>,
    /// Audit login uid; `None` also where it was never set.
    pub login_uid: Option<u32>,
    /// Audit or logon session.
    pub session: Option<u32>,
    /// Process id of the session's leader (`getsid`).
    pub session_leader: Option<u32>,
    /// Controlling terminal's device number.
    pub tty: Option<u32>,
    /// Effective capabilities as a bit set.
    pub effective_caps: Option<u64>,
    /// Control group id.
    pub cgroup_id: Option<u64>,
    /// Namespaces that it is in.
    pub namespaces: Option<Namespaces>,
    /// Process id as seen in its own pid namespace, where that is not the initial one.
    pub namespace_pid: Option<u32>,
    /// The container that its control group belongs to.
    pub container: Option<Container>,
    /// The systemd unit that its control group belongs to, such as `ssh.service`.
    pub unit: Option<Bytes>,
    /// The executable file.
    pub exe_file: Option<FileIdentity>,
    /// The kernel started the program in secure mode (`AT_SECURE`): the exec gave it ids or
    /// capabilities that the caller did not have.
    pub secure_exec: Option<bool>,
    /// It holds capabilities that came from the file (`setcap`), not from its user or its parent.
    pub file_caps: Option<bool>,
    /// Variables of the environment that were asked for, as `NAME=value`; `None` where none were.
    pub environment: Option<Argv>,
    /// Bytes of the environment that were not captured, at least: variables that were asked for may
    /// be among them.
    pub environment_truncated_bytes: u64,
    /// SHA-256 of the executable file; `None` also where a [`Hashed`] event follows.
    pub sha256: Option<[u8; 32]>,
    /// See [`Digest::changed`].
    pub exe_changed: bool,
    /// See [`Digest::touched`].
    pub exe_touched: bool,
    /// The parent as it was at the time of this event; joined from the process table.
    pub parent_process: Option<Box<Ancestor>>,
    /// The processes above the parent, nearest first, without arguments. If the last one has a
    /// parent, the rest was no longer known or more than the table follows.
    pub ancestors: Arc<[Ancestor]>,
    /// Secrets that were taken out of `argv`.
    pub redactions: u32,
    /// What only sources on Windows tell; `None` elsewhere.
    pub windows: Option<Box<WindowsProcess>>,
}

/// What only sources on Windows tell of a process and its program's file. `None` means the source
/// cannot tell, or the file has no such entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WindowsProcess {
    /// `Low`, `Medium`, `High`, `System` …, or the SID of the mandatory label.
    pub integrity_level: Option<Bytes>,
    /// The logon session (LUID) of its token.
    pub logon_id: Option<u64>,
    /// `OriginalFilename` of the version resource: the name that the program was built under.
    pub original_file_name: Option<Bytes>,
    /// `FileDescription` of the version resource.
    pub description: Option<Bytes>,
    /// `ProductName` of the version resource.
    pub product: Option<Bytes>,
    /// `CompanyName` of the version resource.
    pub company: Option<Bytes>,
    /// `FileVersion` of the version resource.
    pub file_version: Option<Bytes>,
    /// MD5 of the executable file.
    pub md5: Option<[u8; 16]>,
    /// SHA-1 of the executable file.
    pub sha1: Option<[u8; 20]>,
    /// MD5 over the names that the executable imports.
    pub imphash: Option<[u8; 16]>,
    /// Account name of the parent.
    pub parent_user: Option<Bytes>,
}

/// What rules and alerts say about a process further up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ancestor {
    /// Identity.
    pub key: ProcessKey,
    /// Kernel name.
    pub comm: Bytes,
    /// Executable path.
    pub exe: Bytes,
    /// Arguments, already redacted.
    pub argv: Argv,
    /// Its own parent.
    pub parent: Option<ProcessKey>,
    /// Its effective user id.
    pub euid: Option<u32>,
}

/// Numeric user and group ids in the initial user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Credentials {
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Effective group id.
    pub egid: u32,
}

/// Inode numbers of namespaces, as in the links of `/proc/<pid>/ns`; 0 where unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Namespaces {
    /// Mounts.
    pub mnt: u32,
    /// Process ids: the one it is in, not the one for its children.
    pub pid: u32,
    /// Network.
    pub net: u32,
    /// Users.
    pub user: u32,
    /// Host name.
    pub uts: u32,
    /// System V IPC.
    pub ipc: u32,
    /// Control groups.
    pub cgroup: u32,
    /// Clocks; Linux 5.6.
    pub time: u32,
}

/// A container, as its control group's path names it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Container {
    /// Id as the runtime prints it; 64 hexadecimal digits with most.
    pub id: Bytes,
    /// The runtime, where the path tells: `docker`, `containerd`, `cri-o`, `podman`, `lxc` …
    pub runtime: Bytes,
    /// Kubernetes pod, in the form `01234567-89ab-cdef-0123-456789abcdef` where it has that form.
    pub pod_uid: Option<Bytes>,
}

/// The file behind a running program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileIdentity {
    /// Inode number.
    pub inode: u64,
    /// Device number in the kernel's encoding (`major << 20 | minor`).
    pub device: u32,
    /// Hard links; 0 means the file has no name any more (deleted, or a memfd).
    pub nlink: u32,
    /// Length in bytes; 0 where the source cannot tell.
    pub size: u64,
    /// Last change of content, ns since 1970; its owner can set it to anything.
    pub mtime: u64,
    /// Last change of content or attributes, ns since 1970; nobody can set it. 0 where the
    /// source cannot tell.
    pub ctime: u64,
    /// Permission and type bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// The file never had a name (`memfd_create`).
    pub memfd: bool,
}

impl FileIdentity {
    /// A time of the file from the parts in which `stat` has it; 0 before 1970.
    #[must_use]
    pub fn time(seconds: i64, nanoseconds: i64) -> u64 {
        let ns = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
        u64::try_from(ns).unwrap_or(0)
    }

    /// Runs with its owner's id.
    #[must_use]
    pub fn is_setuid(&self) -> bool {
        self.mode & 0o4000 != 0
    }

    /// Runs with its group's id.
    #[must_use]
    pub fn is_setgid(&self) -> bool {
        // A set-group-id bit without group execution means mandatory locking.
        self.mode & 0o2010 == 0o2010
    }
}

/// Program arguments in one buffer, each ended by a NUL byte; a cut last one has none.
///
/// Arguments cannot contain NUL on any system we support, so this loses nothing: empty arguments,
/// spaces and bytes that are not UTF-8 survive.
#[derive(Clone, PartialEq, Eq, Default, Hash)]
pub struct Argv(Bytes);

impl Argv {
    /// Wraps the argument block as the kernel keeps it between `arg_start` and `arg_end`.
    #[must_use]
    pub fn from_block(block: Bytes) -> Self {
        Self(block)
    }

    /// The block itself.
    #[must_use]
    pub fn as_block(&self) -> &Bytes {
        &self.0
    }

    /// The arguments in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let body = self.0.strip_suffix(&[0]).unwrap_or(&self.0);
        let mut parts = body.split(|byte| *byte == 0);
        if self.0.is_empty() {
            parts.next();
        }
        parts
    }

    /// Number of arguments, a cut last one included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// No arguments at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The arguments joined by single spaces, for people and for rules on the command line.
    #[must_use]
    pub fn joined(&self) -> Vec<u8> {
        let mut line = self.0.strip_suffix(&[0]).unwrap_or(&self.0).to_vec();
        for byte in &mut line {
            if *byte == 0 {
                *byte = b' ';
            }
        }
        line
    }
}

impl fmt::Debug for Argv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.iter().map(<[u8]>::escape_ascii).map(|a| a.to_string()))
            .finish()
    }
}

/// Arguments with an inner NUL are cut there into two.
impl<A: AsRef<[u8]>> FromIterator<A> for Argv {
    fn from_iter<I: IntoIterator<Item = A>>(arguments: I) -> Self {
        let mut block = BytesMut::new();
        for argument in arguments {
            block.put_slice(argument.as_ref());
            block.put_u8(0);
        }
        Self(block.freeze())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Argv, ExitStatus};

    fn check(block: &[u8], arguments: &[&[u8]]) {
        let argv = Argv::from_block(Bytes::copy_from_slice(block));
        assert_eq!(
            argv.iter().collect::<Vec<_>>(),
            arguments,
            "{}",
            block.escape_ascii()
        );
        assert_eq!(argv.len(), arguments.len());
    }

    #[test]
    fn argv_keeps_empty_cut_and_spaced_arguments() {
        check(b"", &[]);
        check(b"\0", &[b""]);
        check(b"\0\0", &[b"", b""]);
        check(b"sh\0-c\0a b\0\0", &[b"sh", b"-c", b"a b", b""]);
        check(b"sh\0cut", &[b"sh", b"cut"]);
        check(b"\xff\xfe\0", &[b"\xff\xfe"]);
    }

    #[test]
    fn argv_from_arguments_is_the_kernels_block() {
        let argv: Argv = [&b"sh"[..], b"", b"x y"].into_iter().collect();
        assert_eq!(argv.as_block().as_ref(), b"sh\0\0x y\0");
        assert_eq!(argv.joined(), b"sh  x y");
    }

    #[test]
    fn wait_status_splits_into_code_signal_and_core() {
        let check = |raw, code, signal, core_dumped| {
            assert_eq!(
                ExitStatus::from_wait_status(raw),
                ExitStatus {
                    raw,
                    code,
                    signal,
                    core_dumped
                }
            );
        };
        check(0, 0, 0, false);
        check(0xff00, 255, 0, false);
        check(9, 0, 9, false);
        check(0x8b, 0, 11, true);
    }
}
