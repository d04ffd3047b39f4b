//! Records as they lie in the ring buffer, in the byte order of the machine.
//!
//! Every record begins with a [`RecordHeader`]. An exec record is an [`ExecRecord`] and then, up to
//! the end of its size class, three byte areas back to back: the path given to exec (with its NUL),
//! the components of the executable's path, the components of the working directory; and at
//! [`ExecRecord::argv_offset`] the argument block. Components come innermost first, each ended by
//! NUL. Bytes outside these areas are left over from older records and mean nothing.

/// Layout version; the loader refuses records of another one.
pub const ABI: u16 = 1;

/// Longest argument block that is captured; the kernel itself allows a quarter of the stack limit.
pub const ARGV_CAP: usize = 32 * 1024;

/// Start times are rounded down to this, in ns: procfs gives them in clock ticks (`USER_HZ`, 100 on
/// every architecture that we support), and a process must have one key wherever it is read from. A
/// pid cannot come round within a tick.
pub const START_TICK: u64 = 10_000_000;

/// What a record tells.
pub mod kind {
    /// A process was created; only the header.
    pub const FORK: u16 = 1;
    /// A process replaced its program.
    pub const EXEC: u16 = 2;
    /// The last thread of a process ended.
    pub const EXIT: u16 = 3;
}

/// First bytes of every record.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecordHeader {
    /// [`ABI`].
    pub abi: u16,
    /// One of [`kind`].
    pub kind: u16,
    /// Cpu that `sequence` counts on.
    pub cpu: u32,
    /// Number of this record on its cpu, from 0; numbers of dropped records are missing.
    pub sequence: u64,
    /// ns since boot (`CLOCK_BOOTTIME`).
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
    /// Control group id (cgroup v2).
    pub cgroup_id: u64,
    /// Inode of the executable.
    pub inode: u64,
    /// Its last change, seconds since 1970.
    pub mtime_seconds: i64,
    /// Bytes of the argument block in the process, captured or not.
    pub argv_total: u64,
    /// Nanoseconds of its last change.
    pub mtime_nanos: u32,
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
    /// Where the path given to exec ends, from the start of the record. It begins after this
    /// structure and has its NUL.
    pub filename_end: u32,
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
    /// The path given to exec is cut.
    pub const FILENAME_CUT: u32 = 1 << 4;
}

/// Sizes of exec records. The verifier wants constant sizes, and the ring is the only memory that
/// another program on the same cpu cannot overwrite meanwhile.
pub mod class {
    use super::{ARGV_CAP, ExecRecord};

    /// Typical commands: record size in bytes.
    pub const SMALL: usize = 1024;
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

    const _: () = assert!(size_of::<ExecRecord>() + SMALL_ARGV + 256 < SMALL);
    const _: () = assert!(size_of::<ExecRecord>() + LARGE_ARGV + 3 * 4096 < LARGE);
}

const _: () = assert!(size_of::<RecordHeader>() == 48);
const _: () = assert!(size_of::<ExitRecord>() == 72);
const _: () = assert!(size_of::<ExecRecord>() == 176);
const _: () = assert!(core::mem::offset_of!(RecordHeader, sequence) == 8);
const _: () = assert!(core::mem::offset_of!(RecordHeader, tgid) == 40);
const _: () = assert!(core::mem::offset_of!(ExecRecord, argv_total) == 96);
const _: () = assert!(core::mem::offset_of!(ExecRecord, flags) == 172);

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
    /// 1 once a fork or exec record told of the process; 0 for one that already ran when the
    /// programs were attached: the loader's snapshot tells of it.
    pub announced: u32,
}

const _: () = assert!(size_of::<Identity>() == 24);
