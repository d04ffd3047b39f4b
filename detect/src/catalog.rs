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
    /// Events were lost.
    Lost,
}

impl Stream {
    /// All streams.
    pub const ALL: [Self; 4] = [Self::Exec, Self::Fork, Self::Exit, Self::Lost];

    /// Name in `FROM`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Fork => "fork",
            Self::Exit => "exit",
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
    Args,
    ArgsCount,
    ArgsTruncatedBytes,
    CommandLine,
    WorkingDirectory,
    Uid,
    Gid,
    Euid,
    Egid,
    User,
    LoginUid,
    Session,
    Tty,
    EffectiveCaps,
    CgroupId,
    ContainerId,
    Sha256,
    IsMemfd,
    IsDeleted,
    IsSetuid,
    IsSetgid,
    FileOwner,
    FileMode,
    FileMtime,
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
    ExitCode,
    ExitSignal,
    CoreDumped,
    LostClass,
    LostReason,
    LostCount,
}

/// A set of fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct FieldSet(u64);

impl FieldSet {
    pub(crate) fn insert(&mut self, field: Field) {
        self.0 |= 1 << field as u32;
    }

    pub(crate) fn contains(self, field: Field) -> bool {
        self.0 & 1 << field as u32 != 0
    }

    /// With the joined forms of the arrays in it, in which the index looks for their elements.
    pub(crate) fn with_lines(mut self) -> Self {
        if self.contains(Field::Args) {
            self.insert(Field::CommandLine);
        }
        if self.contains(Field::ParentArgs) {
            self.insert(Field::ParentCommandLine);
        }
        self
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
                | F::CommandLine
                | F::WorkingDirectory
                | F::Uid
                | F::User
                | F::ParentPid
                | F::ParentExecutable
                | F::ParentCommandLine
                | F::ExitCode
                | F::ExitSignal
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
const LOST: &[Stream] = &[Stream::Lost];
const EXEC_EXIT: &[Stream] = &[Stream::Exec, Stream::Exit];
const PROCESS: &[Stream] = &[Stream::Exec, Stream::Fork, Stream::Exit];

/// Every column, in the order of the documentation.
#[rustfmt::skip]
pub static COLUMNS: &[Column] = &[
    column("event.time", Field::EventTime, Type::Int, &Stream::ALL, "time of the event, ns since 1970"),
    column("process.pid", Field::Pid, Type::Int, PROCESS, "process id"),
    column("process.ppid", Field::Ppid, Type::Int, PROCESS, "pid of the process that forked it"),
    column("process.entity_id", Field::EntityId, Type::Text, PROCESS, "unique id: `<boot id>-<pid>-<start>`"),
    column("process.name", Field::Name, Type::Text, EXEC_EXIT, "last part of `process.executable`"),
    column("process.comm", Field::Comm, Type::Text, EXEC_EXIT, "name in the kernel, at most 15 bytes; a process can change it"),
    column("process.executable", Field::Executable, Type::Text, EXEC_EXIT, "path of the running program; for a script, of its interpreter"),
    column("process.filename", Field::Filename, Type::Text, EXEC, "path as given to exec: may be relative, or a script"),
    column("process.args", Field::Args, Type::List, EXEC, "arguments, the program's own name first"),
    column("process.args_count", Field::ArgsCount, Type::Int, EXEC, "number of arguments"),
    column("process.args_truncated_bytes", Field::ArgsTruncatedBytes, Type::Int, EXEC, "bytes of arguments that were not captured"),
    column("process.command_line", Field::CommandLine, Type::Text, EXEC, "arguments joined by single spaces"),
    column("process.working_directory", Field::WorkingDirectory, Type::Text, EXEC, "working directory"),
    column("process.uid", Field::Uid, Type::Int, EXEC, "real user id"),
    column("process.gid", Field::Gid, Type::Int, EXEC, "real group id"),
    column("process.euid", Field::Euid, Type::Int, EXEC, "effective user id"),
    column("process.egid", Field::Egid, Type::Int, EXEC, "effective group id"),
    column("process.user", Field::User, Type::Text, EXEC, "account name"),
    nullable(column("process.login_uid", Field::LoginUid, Type::Int, EXEC, "user id at login; `NULL` for services")),
    nullable(column("process.session", Field::Session, Type::Int, EXEC, "audit or logon session")),
    nullable(column("process.tty", Field::Tty, Type::Int, EXEC, "device number of the terminal; `NULL` without one")),
    column("process.effective_caps", Field::EffectiveCaps, Type::Int, EXEC, "effective capabilities as a bit set"),
    column("process.cgroup_id", Field::CgroupId, Type::Int, EXEC, "control group id"),
    nullable(column("process.container_id", Field::ContainerId, Type::Text, EXEC, "container id; `NULL` outside containers")),
    nullable(column("process.sha256", Field::Sha256, Type::Text, EXEC, "SHA-256 of the executable, 64 lower-case hexadecimal digits; `NULL` until computed")),
    column("process.is_memfd", Field::IsMemfd, Type::Bool, EXEC, "the program never had a file name (`memfd_create`)"),
    column("process.is_deleted", Field::IsDeleted, Type::Bool, EXEC, "the program's file was deleted (and is no memfd)"),
    column("process.is_setuid", Field::IsSetuid, Type::Bool, EXEC, "the file has the set-user-id bit"),
    column("process.is_setgid", Field::IsSetgid, Type::Bool, EXEC, "the file has the set-group-id bit"),
    column("process.file_owner", Field::FileOwner, Type::Int, EXEC, "user id that owns the file"),
    column("process.file_mode", Field::FileMode, Type::Int, EXEC, "type and permission bits of the file"),
    column("process.file_mtime", Field::FileMtime, Type::Int, EXEC, "last change of the file's content, ns since 1970"),
    column("process.redactions", Field::Redactions, Type::Int, EXEC, "secrets that were taken out of the arguments"),
    column("parent.pid", Field::ParentPid, Type::Int, PROCESS, "process id"),
    column("parent.ppid", Field::ParentPpid, Type::Int, EXEC, "pid of its own parent"),
    column("parent.entity_id", Field::ParentEntityId, Type::Text, PROCESS, "unique id"),
    column("parent.name", Field::ParentName, Type::Text, EXEC, "last part of `parent.executable`"),
    column("parent.comm", Field::ParentComm, Type::Text, EXEC, "name in the kernel"),
    column("parent.executable", Field::ParentExecutable, Type::Text, EXEC, "path of its program at the time of the event"),
    column("parent.args", Field::ParentArgs, Type::List, EXEC, "its arguments"),
    column("parent.args_count", Field::ParentArgsCount, Type::Int, EXEC, "number of its arguments"),
    column("parent.command_line", Field::ParentCommandLine, Type::Text, EXEC, "its arguments joined by single spaces"),
    column("parent.euid", Field::ParentEuid, Type::Int, EXEC, "its effective user id"),
    column("process.exit_code", Field::ExitCode, Type::Int, EXIT, "exit code; 0 where a signal ended it"),
    column("process.exit_signal", Field::ExitSignal, Type::Int, EXIT, "signal that ended it; 0 for none"),
    column("process.core_dumped", Field::CoreDumped, Type::Bool, EXIT, "the kernel wrote a core dump"),
    column("lost.class", Field::LostClass, Type::Text, LOST, "kind of the lost events: `exec`, `fork`, `exit`, `snapshot`, `unknown`"),
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
        assert!(COLUMNS.len() <= 64, "FieldSet is a u64");
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
