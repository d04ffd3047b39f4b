//! Records as they lie in the ring buffer, in the byte order of the machine.
//!
//! Every record begins with a [`RecordHeader`]. An exec record is an [`ExecRecord`] and then, up to
//! the end of its size class, four byte areas back to back: the path given to exec (with its NUL),
//! the interpreter of a script (likewise), the components of the executable's path, the components
//! of the working directory; and at [`ExecRecord::argv_offset`] the argument block. Components come
//! innermost first, each ended by NUL. Bytes outside these areas are left over from older records
//! and mean nothing.
//!
//! What is no event takes no sequence number: a [`CgroupRecord`] and an [`EnvironmentRecord`]
//! precede the exec record that they belong to.

/// Layout version; the loader refuses records of another one.
pub const ABI: u16 = 2;

/// Longest argument block that is captured; the kernel itself allows a quarter of the stack limit.
pub const ARGV_CAP: usize = 32 * 1024;

/// Start times are rounded down to this, in ns: procfs gives them in clock ticks (`USER_HZ`, 100 on
/// every architecture that we support), and a process must have one key wherever it is read from.
/// Where a pid was chosen to come round within a tick, the later process starts a nanosecond later.
pub const START_TICK: u64 = 10_000_000;

/// A start in steps of [`START_TICK`].
#[inline(always)]
pub const fn tick_of(start: u64) -> u64 {
    start - start % START_TICK
}

/// Longest environment block that is captured.
pub const ENVIRONMENT_CAP: usize = 32 * 1024;

/// What a record tells.
pub mod kind {
    /// A process was created; only the header.
    pub const FORK: u8 = 1;
    /// A process replaced its program.
    pub const EXEC: u8 = 2;
    /// The last thread of a process ended.
    pub const EXIT: u8 = 3;
    /// The path of a control group, before the first exec in it.
    pub const CGROUP: u8 = 4;
    /// The environment of the exec that follows for the same process.
    pub const ENVIRONMENT: u8 = 5;
    /// A process could not replace its program.
    pub const FAILED_EXEC: u8 = 6;
}

/// Bits of [`RecordHeader::flags`].
pub mod header_flag {
    /// The forking process runs a program whose exec was muted.
    pub const PARENT_MUTED: u8 = 1;
    /// The process itself does.
    pub const MUTED: u8 = 1 << 1;
    /// The programs that tell of such events were left out, and one took their place that knows less:
    /// of an exec neither the interpreter of a script nor whether it gained rights; of an exit not when
    /// it was, the time is that of the release of the process.
    pub const SUBSTITUTE: u8 = 1 << 2;
}

/// First bytes of every record.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecordHeader {
    /// [`ABI`].
    pub abi: u16,
    /// One of [`kind`].
    pub kind: u8,
    /// See [`header_flag`].
    pub flags: u8,
    /// Cpu that `sequence` counts on.
    pub cpu: u32,
    /// Number of this event on its cpu, from 0; numbers of dropped records are missing. 0 for a
    /// record that is no event.
    pub sequence: u64,
    /// ns since boot (`CLOCK_BOOTTIME`; `CLOCK_MONOTONIC` in the build for perf buffers).
    pub time: u64,
    /// Start of the process, ns since boot in steps of [`START_TICK`].
    pub start: u64,
    /// Start of the forking process, likewise; 0 if unknown.
    pub parent_start: u64,
    /// Process id in the initial pid namespace.
    pub tgid: u32,
    /// Process id of the forking process; 0 if unknown.
    pub parent_tgid: u32,
}

/// A fork record is a header: `tgid` is the new process.
pub type ForkRecord = RecordHeader;

/// The last thread of a process ended.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExitRecord {
    /// Common part.
    pub header: RecordHeader,
    /// Name, NUL-padded.
    pub comm: [u8; 16],
    /// ns from fork to here.
    pub run_time: u64,
    /// Wait status as the parent will see it.
    pub status: u32,
    /// Zero.
    pub reserved: u32,
}

/// A process replaced its program.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExecRecord {
    /// Common part.
    pub header: RecordHeader,
    /// Name, NUL-padded.
    pub comm: [u8; 16],
    /// Effective capabilities.
    pub cap_effective: u64,
    /// Control group id: of the v2 hierarchy, or of v1's pids (or memory) hierarchy where that is
    /// in use.
    pub cgroup_id: u64,
    /// Inode of the executable.
    pub inode: u64,
    /// Its length in bytes.
    pub size: u64,
    /// Last change of its content, seconds since 1970.
    pub mtime_seconds: i64,
    /// Last change of its content or attributes, likewise.
    pub ctime_seconds: i64,
    /// Bytes of the argument block in the process, captured or not.
    pub argv_total: u64,
    /// Inode numbers: mnt, pid, net, user, uts, ipc, cgroup, time; 0 where unknown.
    pub namespaces: [u32; 8],
    /// Nanoseconds of `mtime_seconds`.
    pub mtime_nanos: u32,
    /// Nanoseconds of `ctime_seconds`.
    pub ctime_nanos: u32,
    /// Device of the executable, `major << 20 | minor`.
    pub device: u32,
    /// Its hard links.
    pub nlink: u32,
    /// Its type and permissions.
    pub mode: u32,
    /// Its owner.
    pub file_uid: u32,
    /// Thread id of the caller before exec.
    pub old_tid: u32,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Effective group id.
    pub egid: u32,
    /// Audit login uid; `u32::MAX` if unset.
    pub login_uid: u32,
    /// Audit session; `u32::MAX` if unset.
    pub session: u32,
    /// Process id of the session's leader, in the initial pid namespace; 0 if unknown.
    pub session_leader: u32,
    /// Process id in its own pid namespace; 0 if unknown.
    pub namespace_pid: u32,
    /// Controlling terminal, `major << 20 | minor`; 0 for none.
    pub tty: u32,
    /// Where the path given to exec ends, from the start of the record. It begins after this
    /// structure and has its NUL.
    pub filename_end: u32,
    /// Where the interpreter ends; it has its NUL. No interpreter: same as `filename_end`.
    pub interpreter_end: u32,
    /// Where the components of the executable's path end.
    pub exe_end: u32,
    /// Where the components of the working directory end.
    pub cwd_end: u32,
    /// Where the argument block begins, from the start of the record.
    pub argv_offset: u32,
    /// Captured bytes of the argument block.
    pub argv_len: u32,
    /// See [`flag`].
    pub flags: u32,
    /// Number of the exec among those of its task; 0 if unknown.
    pub exec_id: u32,
}

/// Bits of [`ExecRecord::flags`].
pub mod flag {
    /// The argument block could not be read.
    pub const ARGV_UNREADABLE: u32 = 1;
    /// The executable's path is made up by its filesystem (memfd): it is a name, not a path.
    pub const EXE_UNNAMED: u32 = 1 << 1;
    /// The executable's path lacks its outermost components.
    pub const EXE_CUT: u32 = 1 << 2;
    /// The working directory lacks its outermost components.
    pub const CWD_CUT: u32 = 1 << 3;
    /// The path given to exec, or the interpreter, is cut.
    pub const FILENAME_CUT: u32 = 1 << 4;
    /// `AT_SECURE`: the exec gave ids or capabilities.
    pub const SECURE: u32 = 1 << 5;
    /// Capabilities came from the file.
    pub const FILE_CAPS: u32 = 1 << 6;
    /// [`SECURE`] is known.
    pub const SECURE_KNOWN: u32 = 1 << 7;
    /// [`FILE_CAPS`] is known: it is not in another user namespace, whose root it may be.
    pub const FILE_CAPS_KNOWN: u32 = 1 << 8;
}

/// The path of a control group.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CgroupRecord {
    /// Common part, of the process whose exec was the first there.
    pub header: RecordHeader,
    /// Control group id, as in [`ExecRecord`].
    pub id: u64,
    /// Where the components of its path end, from the start of the record. They begin after this
    /// structure, innermost first, each with its NUL.
    pub path_end: u32,
    /// 1 if the outermost components are missing.
    pub cut: u32,
}

/// The environment at exec.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EnvironmentRecord {
    /// Common part; `parent_tgid` is the exec's number, as in [`ExecRecord::exec_id`].
    pub header: RecordHeader,
    /// Bytes of the environment in the process, captured or not.
    pub total: u64,
    /// Captured bytes; they follow this structure.
    pub len: u32,
    /// 1 if it could not be read.
    pub unreadable: u32,
}

/// An exec that the kernel refused.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FailedExecRecord {
    /// Common part.
    pub header: RecordHeader,
    /// Name, NUL-padded.
    pub comm: [u8; 16],
    /// Error number, positive.
    pub errno: u32,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Effective group id.
    pub egid: u32,
    /// Bytes of the path, its NUL included; it follows this structure. 0 if it could not be read.
    pub filename_len: u32,
}

/// Sizes of exec records. The verifier wants constant sizes, and the ring is the only memory that
/// another program on the same cpu cannot overwrite meanwhile.
pub mod class {
    use super::{ARGV_CAP, ExecRecord};

    /// Typical commands: record size in bytes.
    pub const SMALL: usize = 1088;
    /// Argument bytes that fit.
    pub const SMALL_ARGV: usize = 320;
    /// Long commands.
    pub const MEDIUM: usize = 8 * 1024;
    /// Argument bytes that fit.
    pub const MEDIUM_ARGV: usize = 4 * 1024;
    /// Everything else; three paths of `PATH_MAX` fit.
    pub const LARGE: usize = 48 * 1024;
    /// Argument bytes that fit.
    pub const LARGE_ARGV: usize = ARGV_CAP;

    /// A control group's path: eight components of `NAME_MAX`.
    pub const CGROUP: usize = 2 * 1024;
    /// A short environment.
    pub const ENVIRONMENT_SMALL: usize = 4 * 1024;
    /// Every other.
    pub const ENVIRONMENT_LARGE: usize = super::ENVIRONMENT_CAP + 64;
    /// A failed exec: `PATH_MAX` and the rest.
    pub const FAILED_EXEC: usize = 4096 + 96;

    const _: () = assert!(size_of::<super::FailedExecRecord>() + 4096 <= FAILED_EXEC);
    const _: () = assert!(size_of::<super::EnvironmentRecord>() == 64);
    const _: () = assert!(size_of::<ExecRecord>() + SMALL_ARGV + 256 < SMALL);
    const _: () = assert!(size_of::<ExecRecord>() + LARGE_ARGV + 3 * 4096 < LARGE);
}

const _: () = assert!(size_of::<RecordHeader>() == 48);
const _: () = assert!(size_of::<ExitRecord>() == 80);
const _: () = assert!(size_of::<ExecRecord>() == 248);
const _: () = assert!(core::mem::offset_of!(RecordHeader, sequence) == 8);
const _: () = assert!(core::mem::offset_of!(RecordHeader, tgid) == 40);
const _: () = assert!(core::mem::offset_of!(ExecRecord, argv_total) == 112);
const _: () = assert!(core::mem::offset_of!(ExecRecord, flags) == 240);
const _: () = assert!(size_of::<CgroupRecord>() == 64);
const _: () = assert!(size_of::<FailedExecRecord>() == 88);

/// What the kernel-side process map keeps for each live process, keyed by tgid.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Identity {
    /// Start, ns since boot in steps of [`START_TICK`].
    pub start: u64,
    /// Start of the forking process; 0 if unknown.
    pub parent_start: u64,
    /// The forking process.
    pub parent_tgid: u32,
    /// See [`identity_flag`].
    pub flags: u32,
}

/// Bits of [`Identity::flags`].
pub mod identity_flag {
    /// A fork or exec record told of the process. Not set for one that already ran when the
    /// programs were attached: the loader's snapshot tells of it.
    pub const ANNOUNCED: u32 = 1;
    /// The exec of what it runs was muted.
    pub const MUTED: u32 = 1 << 1;
    /// It and all that it forks is muted for ever.
    pub const MUTED_TREE: u32 = 1 << 2;
    /// Its fork was muted, so its exit is as well.
    pub const SILENT: u32 = 1 << 3;
    /// Where programs can be preempted, the low 16 bits of the number of its last exec that one saw
    /// begin here; see [`ExecRecord::exec_id`](super::ExecRecord::exec_id).
    pub const EXEC_SHIFT: u32 = 16;
}

/// An executable in the mute list.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MutedExe {
    /// Inode.
    pub inode: u64,
    /// Device, `major << 20 | minor`.
    pub device: u32,
    /// Zero.
    pub reserved: u32,
}

/// Values of the mute lists.
pub mod mute {
    /// The execs themselves.
    pub const EXEC: u32 = 1;
    /// Also everything that these processes start.
    pub const TREE: u32 = 2;
}

const _: () = assert!(size_of::<Identity>() == 24);
