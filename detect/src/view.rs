//! Column values of one event.

use std::borrow::Cow;
use std::io::Write as _;

use event::{Ancestor, Argv, Event, EventKind, Exit, Fork, Header, Lost, Process, ProcessKey};

use crate::catalog::{Field, FieldSet, Stream};
use crate::text::basename;

/// The value of a column or expression; `NULL` is `None` around it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'v> {
    Text(Cow<'v, [u8]>),
    Int(i128),
    Bool(bool),
    List(&'v Argv),
}

/// Values that an event does not hold in one piece. Kept between events so that filling it
/// allocates nothing once it has grown.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    command_line: Vec<u8>,
    parent_command_line: Vec<u8>,
    entity_id: Vec<u8>,
    parent_entity_id: Vec<u8>,
    sha256: Vec<u8>,
}

/// An event as a row of its stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'v> {
    header: &'v Header,
    body: Body<'v>,
    scratch: &'v Scratch,
}

#[derive(Debug, Clone, Copy)]
enum Body<'v> {
    Exec(&'v Process),
    Fork(&'v Fork),
    Exit(&'v Exit),
    Lost(&'v Lost),
}

/// The stream that an event is a row of.
pub(crate) fn stream_of(event: &Event) -> Option<Stream> {
    Some(match &event.kind {
        EventKind::Exec(_) => Stream::Exec,
        EventKind::Fork(_) => Stream::Fork,
        EventKind::Exit(_) => Stream::Exit,
        EventKind::Lost(_) => Stream::Lost,
        _ => return None,
    })
}

impl Scratch {
    /// Computes those of `fields` that need computing.
    pub(crate) fn fill(&mut self, event: &Event, fields: FieldSet) {
        if fields.contains(Field::EntityId) {
            write_key(&mut self.entity_id, event.key());
        }
        if fields.contains(Field::ParentEntityId) {
            write_key(&mut self.parent_entity_id, parent_key(event));
        }
        if let EventKind::Exec(exec) = &event.kind {
            self.fill_exec(&exec.process, fields);
        }
    }

    fn fill_exec(&mut self, process: &Process, fields: FieldSet) {
        if fields.contains(Field::CommandLine) {
            join(&mut self.command_line, &process.argv);
        }
        if fields.contains(Field::ParentCommandLine)
            && let Some(parent) = &process.parent_process
        {
            join(&mut self.parent_command_line, &parent.argv);
        }
        if fields.contains(Field::Sha256)
            && let Some(hash) = &process.sha256
        {
            self.sha256.clear();
            self.sha256.extend(hash.iter().flat_map(|byte| {
                [byte >> 4, byte & 15].map(|d| if d < 10 { b'0' + d } else { b'a' + d - 10 })
            }));
        }
    }
}

/// [`Argv::joined`] into a buffer that is there.
fn join(out: &mut Vec<u8>, argv: &Argv) {
    let block = argv.as_block();
    out.clear();
    out.extend_from_slice(block.strip_suffix(&[0]).unwrap_or(block));
    for byte in out {
        if *byte == 0 {
            *byte = b' ';
        }
    }
}

fn write_key(out: &mut Vec<u8>, key: Option<ProcessKey>) {
    out.clear();
    if let Some(key) = key {
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{key}");
    }
}

fn parent_key(event: &Event) -> Option<ProcessKey> {
    match &event.kind {
        EventKind::Exec(exec) => exec.process.parent,
        EventKind::Fork(fork) => Some(fork.parent),
        EventKind::Exit(exit) => exit.parent,
        _ => None,
    }
}

impl<'v> View<'v> {
    /// `scratch` must have been filled for this event. Snapshot rows are no stream's.
    pub(crate) fn new(event: &'v Event, scratch: &'v Scratch) -> Option<Self> {
        let body = match &event.kind {
            EventKind::Exec(exec) => Body::Exec(&exec.process),
            EventKind::Fork(fork) => Body::Fork(fork),
            EventKind::Exit(exit) => Body::Exit(exit),
            EventKind::Lost(lost) => Body::Lost(lost),
            _ => return None,
        };
        Some(Self {
            header: &event.header,
            body,
            scratch,
        })
    }

    /// The value of a column; `None` is `NULL`.
    pub(crate) fn get(&self, field: Field) -> Option<Value<'v>> {
        if field == Field::EventTime {
            return int(self.header.wall.0);
        }
        match self.body {
            Body::Exec(process) => exec(process, self.scratch, field),
            Body::Fork(fork) => self.fork(fork, field),
            Body::Exit(exit) => self.exit(exit, field),
            Body::Lost(lost) => lost_value(lost, field),
        }
    }

    /// The bytes of a text column, without a copy.
    pub(crate) fn text(&self, field: Field) -> Option<&'v [u8]> {
        match self.get(field)? {
            Value::Text(Cow::Borrowed(text)) => Some(text),
            _ => None,
        }
    }

    /// Arguments were cut, so that conditions on them saw only a part.
    pub(crate) fn is_cut(&self, field: Field) -> bool {
        matches!(field, Field::Args | Field::ArgsCount | Field::CommandLine)
            && matches!(self.body, Body::Exec(process) if process.argv_truncated_bytes > 0)
    }

    fn fork(&self, fork: &'v Fork, field: Field) -> Option<Value<'v>> {
        match field {
            Field::Pid => int(fork.child.pid),
            Field::Ppid | Field::ParentPid => int(fork.parent.pid),
            Field::EntityId => text(&self.scratch.entity_id),
            Field::ParentEntityId => text(&self.scratch.parent_entity_id),
            _ => None,
        }
    }

    fn exit(&self, exit: &'v Exit, field: Field) -> Option<Value<'v>> {
        match field {
            Field::Pid => int(exit.key.pid),
            Field::Ppid | Field::ParentPid => int(exit.parent?.pid),
            Field::EntityId => text(&self.scratch.entity_id),
            Field::ParentEntityId => exit.parent.and(text(&self.scratch.parent_entity_id)),
            Field::Name => known(basename(&exit.exe)),
            Field::Comm => known(&exit.comm),
            Field::Executable => known(&exit.exe),
            Field::ExitCode => int(exit.status?.code),
            Field::ExitSignal => int(exit.status?.signal),
            Field::CoreDumped => Some(Value::Bool(exit.status?.core_dumped)),
            _ => None,
        }
    }
}

fn exec<'v>(process: &'v Process, scratch: &'v Scratch, field: Field) -> Option<Value<'v>> {
    match field {
        Field::Pid => int(process.key.pid),
        Field::Ppid | Field::ParentPid => int(process.parent?.pid),
        Field::EntityId => text(&scratch.entity_id),
        Field::ParentEntityId => process.parent.and(text(&scratch.parent_entity_id)),
        Field::Name => known(basename(&process.exe)),
        Field::Comm => known(&process.comm),
        Field::Executable => known(&process.exe),
        Field::Filename => known(&process.filename),
        Field::Args => list(&process.argv),
        Field::ArgsCount => list(&process.argv).and(int(process.argv.len() as u64)),
        Field::ArgsTruncatedBytes => int(process.argv_truncated_bytes),
        Field::CommandLine => list(&process.argv).and(text(&scratch.command_line)),
        Field::WorkingDirectory => known(process.cwd.as_ref()?),
        Field::User => known(process.user.as_ref()?),
        Field::LoginUid => int(process.login_uid?),
        Field::Session => int(process.session?),
        Field::Tty => int(process.tty?),
        Field::EffectiveCaps => int(process.effective_caps?),
        Field::CgroupId => int(process.cgroup_id?),
        Field::ContainerId => known(&process.container.as_ref()?.id),
        Field::Sha256 => process.sha256.and(text(&scratch.sha256)),
        Field::Redactions => int(process.redactions),
        Field::Uid | Field::Gid | Field::Euid | Field::Egid => credential(process, field),
        _ => file(process, field).or_else(|| parent(process, scratch, field)),
    }
}

fn credential(process: &Process, field: Field) -> Option<Value<'static>> {
    let credentials = process.credentials?;
    match field {
        Field::Uid => int(credentials.uid),
        Field::Gid => int(credentials.gid),
        Field::Euid => int(credentials.euid),
        Field::Egid => int(credentials.egid),
        _ => None,
    }
}

fn file(process: &Process, field: Field) -> Option<Value<'static>> {
    let file = process.exe_file.as_ref()?;
    Some(match field {
        Field::IsMemfd => Value::Bool(file.memfd),
        Field::IsDeleted => Value::Bool(file.nlink == 0 && !file.memfd),
        Field::IsSetuid => Value::Bool(file.is_setuid()),
        Field::IsSetgid => Value::Bool(file.is_setgid()),
        Field::FileOwner => Value::Int(file.uid.into()),
        Field::FileMode => Value::Int(file.mode.into()),
        Field::FileMtime => Value::Int(file.mtime.into()),
        _ => return None,
    })
}

fn parent<'v>(process: &'v Process, scratch: &'v Scratch, field: Field) -> Option<Value<'v>> {
    let parent: &Ancestor = process.parent_process.as_ref()?;
    match field {
        Field::ParentPpid => int(parent.parent?.pid),
        Field::ParentName => known(basename(&parent.exe)),
        Field::ParentComm => known(&parent.comm),
        Field::ParentExecutable => known(&parent.exe),
        Field::ParentArgs => list(&parent.argv),
        Field::ParentArgsCount => list(&parent.argv).and(int(parent.argv.len() as u64)),
        Field::ParentCommandLine => list(&parent.argv).and(text(&scratch.parent_command_line)),
        Field::ParentEuid => int(parent.euid?),
        _ => None,
    }
}

fn lost_value(lost: &Lost, field: Field) -> Option<Value<'static>> {
    match field {
        Field::LostClass => text(lost.class.name().as_bytes()),
        Field::LostReason => text(lost.reason.name().as_bytes()),
        Field::LostCount => int(lost.count),
        _ => None,
    }
}

fn int(number: impl Into<i128>) -> Option<Value<'static>> {
    Some(Value::Int(number.into()))
}

fn text(bytes: &[u8]) -> Option<Value<'_>> {
    Some(Value::Text(Cow::Borrowed(bytes)))
}

/// Text that sources leave empty where they do not know it.
fn known(bytes: &[u8]) -> Option<Value<'_>> {
    (!bytes.is_empty()).then_some(Value::Text(Cow::Borrowed(bytes)))
}

fn list(argv: &Argv) -> Option<Value<'_>> {
    (!argv.is_empty()).then_some(Value::List(argv))
}
