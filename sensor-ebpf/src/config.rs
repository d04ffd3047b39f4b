//! Read-only globals that the loader sets before the programs are verified.
//!
//! rustc emits no CO-RE relocations, so the loader resolves each kernel field from the running
//! kernel's BTF and writes its byte offset here. A field that this kernel does not have stays
//! [`ABSENT`]; the verifier then sees a constant and drops the code that would read it.

/// Offset of a field that the running kernel does not have.
pub const ABSENT: u32 = u32::MAX;

macro_rules! fields {
    ($($(#[$doc:meta])* $variant:ident = $name:literal: $($path:literal)|+ ;)+) => {
        /// A kernel structure member that the programs read.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Field { $($(#[$doc])* $variant,)+ }

        impl Field {
            /// Every field, in the order of the offsets array.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Short name for messages.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// Where kernels keep it, the newest spelling first: `struct.member.member`.
            #[must_use]
            pub fn paths(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$($path),+],)+ }
            }
        }
    };
}

fields! {
    /// `pid_t`, the process id.
    TaskTgid = "tgid": "task_struct.tgid";
    /// `pid_t`, the thread id.
    TaskPid = "pid": "task_struct.pid";
    /// `struct task_struct *`.
    TaskGroupLeader = "group_leader": "task_struct.group_leader";
    /// `struct task_struct *`.
    TaskRealParent = "real_parent": "task_struct.real_parent";
    /// `u64`, ns since boot; named `real_start_time` before 5.5.
    TaskStart = "start_boottime": "task_struct.start_boottime" | "task_struct.real_start_time";
    /// `struct signal_struct *`.
    TaskSignal = "signal": "task_struct.signal";
    /// `int`, the wait status.
    TaskExitCode = "exit_code": "task_struct.exit_code";
    /// `char[16]`.
    TaskComm = "comm": "task_struct.comm";
    /// `struct mm_struct *`.
    TaskMm = "mm": "task_struct.mm";
    /// `const struct cred *`.
    TaskCred = "cred": "task_struct.cred";
    /// `struct fs_struct *`.
    TaskFs = "fs": "task_struct.fs";
    /// `kuid_t`; only with `CONFIG_AUDIT`.
    TaskLoginUid = "loginuid": "task_struct.loginuid";
    /// `unsigned int`; only with `CONFIG_AUDIT`.
    TaskSessionId = "sessionid": "task_struct.sessionid";
    /// `atomic_t`, threads that still run.
    SignalLive = "signal.live": "signal_struct.live";
    /// `unsigned int`, `SIGNAL_*`.
    SignalFlags = "signal.flags": "signal_struct.flags";
    /// `int`, the wait status of a group exit.
    SignalGroupExitCode = "signal.group_exit_code": "signal_struct.group_exit_code";
    /// `unsigned long`.
    MmArgStart = "arg_start": "mm_struct.arg_start";
    /// `unsigned long`.
    MmArgEnd = "arg_end": "mm_struct.arg_end";
    /// `kuid_t`.
    CredUid = "uid": "cred.uid";
    /// `kgid_t`.
    CredGid = "gid": "cred.gid";
    /// `kuid_t`.
    CredEuid = "euid": "cred.euid";
    /// `kgid_t`.
    CredEgid = "egid": "cred.egid";
    /// `kernel_cap_t`, 8 bytes in either of its forms (`u32[2]` before 6.3).
    CredCapEffective = "cap_effective": "cred.cap_effective";
    /// `const char *`, the path given to exec.
    BprmFilename = "bprm.filename": "linux_binprm.filename";
    /// `struct file *`, the file that runs (the interpreter of a script).
    BprmFile = "bprm.file": "linux_binprm.file";
    /// `struct path`.
    FilePath = "file.f_path": "file.f_path";
    /// `struct inode *`.
    FileInode = "file.f_inode": "file.f_inode";
    /// `unsigned long`.
    InodeNumber = "i_ino": "inode.i_ino";
    /// `unsigned int`.
    InodeNlink = "i_nlink": "inode.i_nlink";
    /// `umode_t`, 2 bytes.
    InodeMode = "i_mode": "inode.i_mode";
    /// `kuid_t`.
    InodeUid = "i_uid": "inode.i_uid";
    /// `struct super_block *`.
    InodeSuper = "i_sb": "inode.i_sb";
    /// `time64_t`.
    InodeMtimeSeconds = "i_mtime": "inode.i_mtime_sec" | "inode.__i_mtime.tv_sec"
        | "inode.i_mtime.tv_sec";
    /// `u32` in the newest form, else `long`: the low 4 bytes hold it on little-endian machines.
    InodeMtimeNanos = "i_mtime_nsec": "inode.i_mtime_nsec" | "inode.__i_mtime.tv_nsec"
        | "inode.i_mtime.tv_nsec";
    /// `dev_t`, `major << 20 | minor`.
    SuperDevice = "s_dev": "super_block.s_dev";
    /// `struct path`.
    FsPwd = "fs.pwd": "fs_struct.pwd";
    /// `struct vfsmount *`.
    PathMount = "path.mnt": "path.mnt";
    /// `struct dentry *`.
    PathDentry = "path.dentry": "path.dentry";
    /// `struct dentry *`.
    DentryParent = "d_parent": "dentry.d_parent";
    /// `const unsigned char *`.
    DentryName = "d_name": "dentry.d_name.name" | "dentry.__d_name.name";
    /// `const struct dentry_operations *`.
    DentryOperations = "d_op": "dentry.d_op";
    /// Function pointer; set where the path is made up (memfd, pipes).
    OperationsDname = "d_dname": "dentry_operations.d_dname";
    /// `struct dentry *`.
    VfsmountRoot = "mnt_root": "vfsmount.mnt_root";
    /// `struct vfsmount`, embedded: its offset leads back to the `struct mount`.
    MountVfsmount = "mount.mnt": "mount.mnt";
    /// `struct mount *`.
    MountParent = "mnt_parent": "mount.mnt_parent";
    /// `struct dentry *`.
    MountMountpoint = "mnt_mountpoint": "mount.mnt_mountpoint";
}

/// Number of fields, the length of the offsets array.
pub const FIELD_COUNT: usize = Field::ALL.len();

/// Fields without which there is no sensor: identity, parent and end of a process.
pub const REQUIRED: &[Field] = &[
    Field::TaskTgid,
    Field::TaskPid,
    Field::TaskGroupLeader,
    Field::TaskRealParent,
    Field::TaskStart,
    Field::TaskSignal,
    Field::TaskExitCode,
    Field::SignalLive,
    Field::SignalFlags,
    Field::SignalGroupExitCode,
];
