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
    /// `u64`, ns on the monotonic clock.
    TaskStartMonotonic = "start_time": "task_struct.start_time";
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
    /// Counts the execs of a task; `u64`, `u32` before 5.7.
    TaskExecId = "self_exec_id": "task_struct.self_exec_id";
    /// `struct nsproxy *`.
    TaskNsproxy = "nsproxy": "task_struct.nsproxy";
    /// `struct pid *`.
    TaskThreadPid = "thread_pid": "task_struct.thread_pid";
    /// `struct css_set *`.
    TaskCgroups = "cgroups": "task_struct.cgroups";
    /// `struct pid *` of the session's leader.
    SignalSession = "signal.pids": "signal_struct.pids[PIDTYPE_SID]";
    /// `struct tty_struct *`; null without a terminal.
    SignalTty = "signal.tty": "signal_struct.tty";
    /// `struct tty_driver *`.
    TtyDriver = "tty.driver": "tty_struct.driver";
    /// `int`, from the driver's first minor.
    TtyIndex = "tty.index": "tty_struct.index";
    /// `int`.
    DriverMajor = "tty_driver.major": "tty_driver.major";
    /// `int`.
    DriverMinor = "tty_driver.minor_start": "tty_driver.minor_start";
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
    /// `kernel_cap_t`.
    CredCapPermitted = "cap_permitted": "cred.cap_permitted";
    /// `kernel_cap_t`.
    CredCapAmbient = "cap_ambient": "cred.cap_ambient";
    /// `struct user_namespace *`.
    CredUserNs = "user_ns": "cred.user_ns";
    /// `unsigned long`.
    MmEnvStart = "env_start": "mm_struct.env_start";
    /// `unsigned long`.
    MmEnvEnd = "env_end": "mm_struct.env_end";
    /// `struct file *`.
    MmExeFile = "exe_file": "mm_struct.exe_file";
    /// `struct uts_namespace *`.
    NsproxyUts = "uts_ns": "nsproxy.uts_ns";
    /// `struct ipc_namespace *`.
    NsproxyIpc = "ipc_ns": "nsproxy.ipc_ns";
    /// `struct mnt_namespace *`.
    NsproxyMnt = "mnt_ns": "nsproxy.mnt_ns";
    /// `struct net *`.
    NsproxyNet = "net_ns": "nsproxy.net_ns";
    /// `struct cgroup_namespace *`.
    NsproxyCgroup = "cgroup_ns": "nsproxy.cgroup_ns";
    /// `struct time_namespace *`, 5.6.
    NsproxyTime = "time_ns": "nsproxy.time_ns";
    /// `unsigned int`.
    UtsInum = "uts inode": "uts_namespace.ns.inum";
    /// `unsigned int`.
    IpcInum = "ipc inode": "ipc_namespace.ns.inum";
    /// `unsigned int`.
    MntInum = "mnt inode": "mnt_namespace.ns.inum";
    /// `unsigned int`.
    NetInum = "net inode": "net.ns.inum";
    /// `unsigned int`.
    CgroupInum = "cgroup inode": "cgroup_namespace.ns.inum";
    /// `unsigned int`.
    TimeInum = "time inode": "time_namespace.ns.inum";
    /// `unsigned int`.
    UserInum = "user inode": "user_namespace.ns.inum";
    /// `unsigned int`.
    PidInum = "pid inode": "pid_namespace.ns.inum";
    /// `unsigned int`, depth of the innermost pid namespace.
    PidLevel = "pid.level": "pid.level";
    /// `struct upid[]`, the first.
    PidNumbers = "pid.numbers": "pid.numbers";
    /// `struct upid`, the second: the difference is the size of one.
    PidSecondNumber = "pid.numbers[1]": "pid.numbers[1]";
    /// `int`.
    UpidNumber = "upid.nr": "upid.nr";
    /// `struct pid_namespace *`.
    UpidNamespace = "upid.ns": "upid.ns";
    /// `struct cgroup *`, in the v2 hierarchy.
    CssSetDefault = "dfl_cgrp": "css_set.dfl_cgrp";
    /// `struct cgroup_subsys_state *` of a controller that v1 containers use.
    CssSetController = "css_set.subsys": "css_set.subsys[pids_cgrp_id]"
        | "css_set.subsys[memory_cgrp_id]" | "css_set.subsys[cpu_cgrp_id]";
    /// `struct cgroup *`.
    CssCgroup = "css.cgroup": "cgroup_subsys_state.cgroup";
    /// `struct kernfs_node *`.
    CgroupNode = "cgroup.kn": "cgroup.kn";
    /// `struct cgroup_root *`.
    CgroupRoot = "cgroup.root": "cgroup.root";
    /// `u64`.
    NodeId = "kernfs_node.id": "kernfs_node.id";
    /// `const char *`.
    NodeName = "kernfs_node.name": "kernfs_node.name";
    /// `struct kernfs_node *`; null at the root. Renamed in 6.15.
    NodeParent = "kernfs_node.parent": "kernfs_node.__parent" | "kernfs_node.parent";
    /// `u32` or `unsigned long` that tells a 32-bit task from a 64-bit one; see `COMPAT_MASK`.
    TaskCompat = "thread_info compat": "task_struct.thread_info.status"
        | "task_struct.thread_info.flags";
    /// `unsigned long`, the system call's number.
    RegsSyscall = "pt_regs syscall": "pt_regs.orig_ax" | "pt_regs.syscallno";
    /// `unsigned long`, its first argument.
    RegsFirst = "pt_regs argument 1": "pt_regs.di" | "pt_regs.orig_x0";
    /// `unsigned long`, its second argument.
    RegsSecond = "pt_regs argument 2": "pt_regs.si" | "pt_regs.regs[1]";
    /// `const char *`, the path given to exec.
    BprmFilename = "bprm.filename": "linux_binprm.filename";
    /// `const char *`, the interpreter; the same pointer as `filename` where there is none.
    BprmInterp = "bprm.interp": "linux_binprm.interp";
    /// One bit; the offset counts bits.
    BprmSecureExec = "bprm.secureexec": "linux_binprm.secureexec";
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
    /// `loff_t`.
    InodeSize = "i_size": "inode.i_size";
    /// `time64_t`.
    InodeCtimeSeconds = "i_ctime": "inode.i_ctime_sec" | "inode.__i_ctime.tv_sec"
        | "inode.i_ctime.tv_sec";
    /// As `InodeMtimeNanos`.
    InodeCtimeNanos = "i_ctime_nsec": "inode.i_ctime_nsec" | "inode.__i_ctime.tv_nsec"
        | "inode.i_ctime.tv_nsec";
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

/// Fields that are bitfields: their offset counts bits.
pub const BITFIELDS: &[Field] = &[Field::BprmSecureExec];

/// What the loader tells the programs besides offsets.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settings {
    /// Not 0 where a mute list has entries.
    pub muting: u32,
    /// Numbers of `execve` and `execveat` on this architecture.
    pub exec_syscalls: [u32; 2],
    /// Bits of [`Field::TaskCompat`] that are set for a 32-bit task, whose calls have other
    /// numbers.
    pub compat_mask: u32,
    /// Not 0 where programs can be preempted, and are then left out for others on that cpu: several
    /// wait for each exec.
    pub preemptible: u32,
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
