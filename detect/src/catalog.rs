//! Every column that a rule can name: one table for validation, evaluation and documentation.

use std::fmt;

/// The streams that a rule can read. Rows of the start-up snapshot are in none of them: rules see
/// what happens, not what was already there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// A process replaced its program.
    Exec,
    /// A process was created.
    Fork,
    /// A process ended.
    Exit,
    /// A process tried to replace its program and could not.
    FailedExec,
    /// The digest of a program that was executed before.
    Hashed,
    /// Events were lost.
    Lost,
}

impl Stream {
    /// All streams.
    pub const ALL: [Self; 6] = [
        Self::Exec,
        Self::Fork,
        Self::Exit,
        Self::FailedExec,
        Self::Hashed,
        Self::Lost,
    ];

    /// Name in `FROM`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Fork => "fork",
            Self::Exit => "exit",
            Self::FailedExec => "failed_exec",
            Self::Hashed => "hashed",
            Self::Lost => "lost",
        }
    }

    /// The stream of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stream| stream.name() == name)
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The type of a column or expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Type {
    /// Bytes, usually UTF-8.
    Text,
    /// An integer.
    Int,
    /// `TRUE` or `FALSE`.
    Bool,
    /// An array of text.
    List,
    /// An array of integers.
    IntList,
}

impl Type {
    /// Name for messages and documentation.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Int => "integer",
            Self::Bool => "boolean",
            Self::List => "text[]",
            Self::IntList => "integer[]",
        }
    }

    /// What an array holds; `None` for what is none.
    #[must_use]
    pub fn element(self) -> Option<Self> {
        match self {
            Self::List => Some(Self::Text),
            Self::IntList => Some(Self::Int),
            Self::Text | Self::Int | Self::Bool => None,
        }
    }
}

/// What a column is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Field {
    EventTime,
    Pid,
    Ppid,
    EntityId,
    Name,
    Comm,
    Executable,
    Filename,
    Interpreter,
    Args,
    ArgsCount,
    ArgsTruncatedBytes,
    CommandLine,
    WorkingDirectory,
    Environment,
    Uid,
    Gid,
    Euid,
    Egid,
    User,
    LoginUid,
    Session,
    SessionLeader,
    Tty,
    EffectiveCaps,
    HasFileCaps,
    IsSecureExec,
    CgroupId,
    Unit,
    ContainerId,
    ContainerRuntime,
    PodUid,
    NamespacePid,
    MntNs,
    PidNs,
    NetNs,
    UserNs,
    UtsNs,
    IpcNs,
    CgroupNs,
    TimeNs,
    Sha256,
    Md5,
    Sha1,
    Imphash,
    Hashes,
    OriginalFileName,
    Description,
    Product,
    Company,
    FileVersion,
    IntegrityLevel,
    LogonId,
    ExeChanged,
    ExeTouched,
    HashFailure,
    IsMemfd,
    IsDeleted,
    IsSetuid,
    IsSetgid,
    FileOwner,
    FileMode,
    FileInode,
    FileDevice,
    FileNlink,
    FileSize,
    FileMtime,
    FileCtime,
    Redactions,
    ParentPid,
    ParentPpid,
    ParentEntityId,
    ParentName,
    ParentComm,
    ParentExecutable,
    ParentArgs,
    ParentArgsCount,
    ParentCommandLine,
    ParentEuid,
    ParentUser,
    GrandparentExecutable,
    AncestorPid,
    AncestorEntityId,
    AncestorName,
    AncestorExecutable,
    AncestorCommandLine,
    AncestorEuid,
    ExitCode,
    ExitSignal,
    CoreDumped,
    RunTime,
    Errno,
    LostClass,
    LostReason,
    LostCount,
}

/// A set of fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct FieldSet(u128);

impl FieldSet {
    pub(crate) fn insert(&mut self, field: Field) {
        self.0 |= 1 << field as u32;
    }

    pub(crate) fn contains(self, field: Field) -> bool {
        self.0 & 1 << field as u32 != 0
    }

    pub(crate) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// In the order of the catalog.
    pub(crate) fn columns(self) -> impl Iterator<Item = &'static Column> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let first = left.trailing_zeros() as usize;
            left &= left.wrapping_sub(1);
            COLUMNS.get(first)
        })
    }

    pub(crate) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A column.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Name as rules write it.
    pub name: &'static str,
    /// Its type.
    pub ty: Type,
    /// The streams that have it.
    pub streams: &'static [Stream],
    /// What it holds.
    pub doc: &'static str,
    /// `NULL` is a normal answer; elsewhere `NULL` means that the source cannot tell, and a
    /// finding of a rule that reads the column says so.
    pub nullable: bool,
    pub(crate) field: Field,
}

impl Column {
    /// Part of `SELECT *`.
    #[must_use]
    pub fn is_default(&self) -> bool {
        use Field as F;
        matches!(
            self.field,
            F::Pid
                | F::Executable
                | F::Filename
                | F::CommandLine
                | F::WorkingDirectory
                | F::Uid
                | F::User
                | F::Sha256
                | F::HashFailure
                | F::ParentPid
                | F::ParentExecutable
                | F::ParentCommandLine
                | F::ExitCode
                | F::ExitSignal
                | F::Errno
                | F::LostClass
                | F::LostReason
                | F::LostCount
        )
    }

    /// The column of that name; names are lower case.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        COLUMNS.iter().find(|column| column.name == name)
    }

    pub(crate) fn of(field: Field) -> &'static Self {
        // COLUMNS has each field once, in the order of the enum: `fields_are_listed_in_order`.
        &COLUMNS[field as usize]
    }
}

const fn column(
    name: &'static str,
    field: Field,
    ty: Type,
    streams: &'static [Stream],
    doc: &'static str,
) -> Column {
    Column {
        name,
        ty,
        streams,
        doc,
        nullable: false,
        field,
    }
}

const fn nullable(column: Column) -> Column {
    Column {
        nullable: true,
        ..column
    }
}

const EXEC: &[Stream] = &[Stream::Exec];
const EXIT: &[Stream] = &[Stream::Exit];
const FAILED: &[Stream] = &[Stream::FailedExec];
const HASHED: &[Stream] = &[Stream::Hashed];
const LOST: &[Stream] = &[Stream::Lost];
const EXEC_FAILED: &[Stream] = &[Stream::Exec, Stream::FailedExec];
const EXEC_HASHED: &[Stream] = &[Stream::Exec, Stream::Hashed];
/// Those that have what the kernel calls the process.
const NAMED: &[Stream] = &[Stream::Exec, Stream::Exit, Stream::FailedExec];
/// Those that have the program's path.
const IMAGE: &[Stream] = &[
    Stream::Exec,
    Stream::Exit,
    Stream::FailedExec,
    Stream::Hashed,
];
/// Those that have the process's parent.
const CHILD: &[Stream] = &[Stream::Exec, Stream::Fork, Stream::Exit, Stream::FailedExec];
/// Those that are about a process.
const PROCESS: &[Stream] = &[
    Stream::Exec,
    Stream::Fork,
    Stream::Exit,
    Stream::FailedExec,
    Stream::Hashed,
];

/// Every column, in the order of the documentation.
#[rustfmt::skip]
pub static COLUMNS: &[Column] = &[
    column("event.time", Field::EventTime, Type::Int, &Stream::ALL, "time of the event, ns since 1970"),
    column("process.pid", Field::Pid, Type::Int, PROCESS, "process id"),
    column("process.ppid", Field::Ppid, Type::Int, CHILD, "pid of the process that forked it"),
    column("process.entity_id", Field::EntityId, Type::Text, PROCESS, "unique id: `<boot id>-<pid>-<start>`"),
    column("process.name", Field::Name, Type::Text, IMAGE, "last part of `process.executable`"),
    column("process.comm", Field::Comm, Type::Text, NAMED, "name in the kernel, at most 15 bytes; a process can change it"),
    column("process.executable", Field::Executable, Type::Text, IMAGE, "path of the running program (in `failed_exec` of the one that tried); for a script, of its interpreter"),
    column("process.filename", Field::Filename, Type::Text, EXEC_FAILED, "path as given to exec: may be relative, or a script"),
    nullable(column("process.interpreter", Field::Interpreter, Type::Text, EXEC, "interpreter as the script's last `#!` line names it; `NULL` for what is no script")),
    column("process.args", Field::Args, Type::List, EXEC, "arguments, the program's own name first"),
    column("process.args_count", Field::ArgsCount, Type::Int, EXEC, "number of arguments"),
    column("process.args_truncated_bytes", Field::ArgsTruncatedBytes, Type::Int, EXEC, "bytes of arguments that were not captured"),
    column("process.command_line", Field::CommandLine, Type::Text, EXEC, "arguments joined by single spaces"),
    column("process.working_directory", Field::WorkingDirectory, Type::Text, EXEC, "working directory"),
    nullable(column("process.environment", Field::Environment, Type::List, EXEC, "variables that the sensor was asked for, as `NAME=value`; `NULL` where it was asked for none")),
    column("process.uid", Field::Uid, Type::Int, EXEC_FAILED, "real user id"),
    column("process.gid", Field::Gid, Type::Int, EXEC_FAILED, "real group id"),
    column("process.euid", Field::Euid, Type::Int, EXEC_FAILED, "effective user id"),
    column("process.egid", Field::Egid, Type::Int, EXEC_FAILED, "effective group id"),
    column("process.user", Field::User, Type::Text, EXEC, "account name; on Linux of the effective user, see below"),
    nullable(column("process.login_uid", Field::LoginUid, Type::Int, EXEC, "user id at login; `NULL` for services")),
    nullable(column("process.session", Field::Session, Type::Int, EXEC, "audit or logon session")),
    column("process.session_leader", Field::SessionLeader, Type::Int, EXEC, "pid of the leader of its session (`getsid`)"),
    nullable(column("process.tty", Field::Tty, Type::Int, EXEC, "device number of the terminal; `NULL` without one")),
    column("process.effective_caps", Field::EffectiveCaps, Type::Int, EXEC, "effective capabilities as a bit set"),
    column("process.has_file_caps", Field::HasFileCaps, Type::Bool, EXEC, "it holds capabilities that the file gave it (`setcap`)"),
    column("process.is_secure_exec", Field::IsSecureExec, Type::Bool, EXEC, "the exec gave it ids or capabilities that its caller did not have (`AT_SECURE`)"),
    column("process.cgroup_id", Field::CgroupId, Type::Int, EXEC, "control group id"),
    nullable(column("process.unit", Field::Unit, Type::Text, EXEC, "systemd unit, such as `ssh.service`; `NULL` outside units")),
    nullable(column("process.container_id", Field::ContainerId, Type::Text, EXEC, "container id; `NULL` outside containers")),
    nullable(column("process.container_runtime", Field::ContainerRuntime, Type::Text, EXEC, "`docker`, `containerd`, `cri-o`, `podman`, `lxc` …; `NULL` outside containers and where the control group does not tell")),
    nullable(column("process.pod_uid", Field::PodUid, Type::Text, EXEC, "uid of the Kubernetes pod; `NULL` outside pods")),
    nullable(column("process.namespace_pid", Field::NamespacePid, Type::Int, EXEC, "process id in its own pid namespace; `NULL` in the initial one")),
    column("process.mnt_ns", Field::MntNs, Type::Int, EXEC, "mount namespace, the number in `/proc/<pid>/ns/mnt`"),
    column("process.pid_ns", Field::PidNs, Type::Int, EXEC, "pid namespace; the initial one is 4026531836"),
    column("process.net_ns", Field::NetNs, Type::Int, EXEC, "network namespace"),
    column("process.user_ns", Field::UserNs, Type::Int, EXEC, "user namespace; the initial one is 4026531837"),
    column("process.uts_ns", Field::UtsNs, Type::Int, EXEC, "host name namespace; the initial one is 4026531838"),
    column("process.ipc_ns", Field::IpcNs, Type::Int, EXEC, "System V IPC namespace; the initial one is 4026531839"),
    column("process.cgroup_ns", Field::CgroupNs, Type::Int, EXEC, "control group namespace; the initial one is 4026531835"),
    column("process.time_ns", Field::TimeNs, Type::Int, EXEC, "clock namespace; the initial one is 4026531834; Linux 5.6 and newer"),
    nullable(column("process.sha256", Field::Sha256, Type::Text, EXEC_HASHED, "SHA-256 of the executable, 64 lower-case hexadecimal digits; `NULL` in `exec` where it follows in `hashed`")),
    column("process.md5", Field::Md5, Type::Text, EXEC, "MD5 of the executable, 32 lower-case hexadecimal digits; Windows"),
    column("process.sha1", Field::Sha1, Type::Text, EXEC, "SHA-1 of the executable, 40 lower-case hexadecimal digits; Windows"),
    column("process.pe.imphash", Field::Imphash, Type::Text, EXEC, "MD5 over the names that the executable imports, 32 lower-case hexadecimal digits; Windows"),
    column("process.hashes", Field::Hashes, Type::Text, EXEC, "the digests that are known, as `SHA1=…,MD5=…,SHA256=…,IMPHASH=…` in upper case"),
    column("process.pe.original_file_name", Field::OriginalFileName, Type::Text, EXEC, "name that the executable was built under, from its version resource; Windows, as are the next four"),
    column("process.pe.description", Field::Description, Type::Text, EXEC, "what the version resource says the program is"),
    column("process.pe.product", Field::Product, Type::Text, EXEC, "product, from the version resource"),
    column("process.pe.company", Field::Company, Type::Text, EXEC, "company, from the version resource"),
    column("process.pe.file_version", Field::FileVersion, Type::Text, EXEC, "version, from the version resource"),
    column("process.integrity_level", Field::IntegrityLevel, Type::Text, EXEC, "`Low`, `Medium`, `High`, `System` …, or the SID of the label; Windows"),
    column("process.logon_id", Field::LogonId, Type::Int, EXEC, "number of the logon session; Windows"),
    nullable(column("process.exe_changed", Field::ExeChanged, Type::Bool, EXEC_HASHED, "the file was written between the exec and its hashing; `NULL` without a digest")),
    nullable(column("process.exe_touched", Field::ExeTouched, Type::Bool, EXEC_HASHED, "of the file only the ctime moved meanwhile: mode, owner or links changed, or it was written and its mtime set back; `NULL` without a digest")),
    nullable(column("process.hash_failure", Field::HashFailure, Type::Text, HASHED, "why there is no digest: `gone`, `unreadable`, `too_large`, `queue_full`, `stalled`; `NULL` with one")),
    column("process.is_memfd", Field::IsMemfd, Type::Bool, EXEC_HASHED, "the program never had a file name (`memfd_create`)"),
    column("process.is_deleted", Field::IsDeleted, Type::Bool, EXEC_HASHED, "the program's file was deleted (and is no memfd)"),
    column("process.is_setuid", Field::IsSetuid, Type::Bool, EXEC_HASHED, "the file has the set-user-id bit"),
    column("process.is_setgid", Field::IsSetgid, Type::Bool, EXEC_HASHED, "the file has the set-group-id bit"),
    column("process.file_owner", Field::FileOwner, Type::Int, EXEC_HASHED, "user id that owns the file"),
    column("process.file_mode", Field::FileMode, Type::Int, EXEC_HASHED, "type and permission bits of the file"),
    column("process.file_inode", Field::FileInode, Type::Int, EXEC_HASHED, "inode number of the file"),
    column("process.file_device", Field::FileDevice, Type::Int, EXEC_HASHED, "device of the file, `major * 1048576 + minor`"),
    column("process.file_nlink", Field::FileNlink, Type::Int, EXEC_HASHED, "names that the file has; 0 once it is deleted"),
    column("process.file_size", Field::FileSize, Type::Int, EXEC_HASHED, "length of the file in bytes"),
    column("process.file_mtime", Field::FileMtime, Type::Int, EXEC_HASHED, "last change of the file's content, ns since 1970; its owner can set it to anything"),
    column("process.file_ctime", Field::FileCtime, Type::Int, EXEC_HASHED, "last change of the file's content or attributes, ns since 1970; nobody can set it"),
    column("process.redactions", Field::Redactions, Type::Int, EXEC, "secrets that were taken out of the arguments"),
    column("parent.pid", Field::ParentPid, Type::Int, CHILD, "process id"),
    column("parent.ppid", Field::ParentPpid, Type::Int, EXEC, "pid of its own parent"),
    column("parent.entity_id", Field::ParentEntityId, Type::Text, CHILD, "unique id"),
    column("parent.name", Field::ParentName, Type::Text, EXEC, "last part of `parent.executable`"),
    column("parent.comm", Field::ParentComm, Type::Text, EXEC, "name in the kernel"),
    column("parent.executable", Field::ParentExecutable, Type::Text, EXEC, "path of its program at the time of the event"),
    column("parent.args", Field::ParentArgs, Type::List, EXEC, "its arguments"),
    column("parent.args_count", Field::ParentArgsCount, Type::Int, EXEC, "number of its arguments"),
    column("parent.command_line", Field::ParentCommandLine, Type::Text, EXEC, "its arguments joined by single spaces"),
    column("parent.euid", Field::ParentEuid, Type::Int, EXEC, "its effective user id"),
    column("parent.user", Field::ParentUser, Type::Text, EXEC, "its account name"),
    column("grandparent.executable", Field::GrandparentExecutable, Type::Text, EXEC, "path of the program of the parent's parent"),
    column("ancestor.pid", Field::AncestorPid, Type::IntList, EXEC, "process ids of the parent, of its parent, and so on up to the first process"),
    column("ancestor.entity_id", Field::AncestorEntityId, Type::List, EXEC, "their unique ids"),
    column("ancestor.name", Field::AncestorName, Type::List, EXEC, "the last parts of the paths of their programs"),
    column("ancestor.executable", Field::AncestorExecutable, Type::List, EXEC, "paths of their programs"),
    column("ancestor.command_line", Field::AncestorCommandLine, Type::List, EXEC, "their command lines; known of the parent, `NULL` of those above"),
    column("ancestor.euid", Field::AncestorEuid, Type::IntList, EXEC, "their effective user ids"),
    column("process.exit_code", Field::ExitCode, Type::Int, EXIT, "exit code; 0 where a signal ended it"),
    column("process.exit_signal", Field::ExitSignal, Type::Int, EXIT, "signal that ended it; 0 for none"),
    column("process.core_dumped", Field::CoreDumped, Type::Bool, EXIT, "the kernel wrote a core dump"),
    column("process.run_time", Field::RunTime, Type::Int, EXIT, "how long it ran, from fork to end, in ns"),
    column("process.errno", Field::Errno, Type::Int, FAILED, "why it failed, as the system's error number: 2 no such file, 8 no program, 13 permission denied"),
    column("lost.class", Field::LostClass, Type::Text, LOST, "kind of the lost events: `exec`, `fork`, `exit`, `failed_exec`, `hashed`, `snapshot`, `unknown`"),
    column("lost.reason", Field::LostReason, Type::Text, LOST, "why, such as `ring_full` or `queue_full`"),
    column("lost.count", Field::LostCount, Type::Int, LOST, "how many"),
];

#[cfg(test)]
mod tests {
    use super::{COLUMNS, Column, Stream};

    #[test]
    fn fields_are_listed_in_order() {
        for (index, column) in COLUMNS.iter().enumerate() {
            assert_eq!(column.field as usize, index, "{}", column.name);
            assert_eq!(Column::of(column.field).name, column.name);
        }
        assert!(COLUMNS.len() <= 128, "FieldSet is a u128");
    }

    #[test]
    fn names_are_unique_and_every_stream_has_defaults() {
        for column in COLUMNS {
            assert_eq!(COLUMNS.iter().filter(|c| c.name == column.name).count(), 1);
        }
        for stream in Stream::ALL {
            assert!(
                COLUMNS
                    .iter()
                    .any(|c| c.is_default() && c.streams.contains(&stream))
            );
        }
    }
}
