//! Column values of one event.

mod ancestors;
mod exec;
mod scratch;

use std::borrow::Cow;

use event::{Argv, Event, EventKind, Exit, FailedExec, Fork, Hashed, Header, Lost, Process};

use crate::catalog::{Field, Stream};
use crate::text::basename;
pub(crate) use ancestors::Ancestors;
pub(crate) use exec::DIGESTS;
use exec::{credential, exec, file};
pub(crate) use scratch::Scratch;

/// The value of a column or expression; `NULL` is `None` around it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'v> {
    Text(Cow<'v, [u8]>),
    Int(i128),
    Bool(bool),
    List(&'v Argv),
    Ancestors(Ancestors<'v>),
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
    FailedExec(&'v FailedExec),
    Hashed(&'v Hashed),
    Lost(&'v Lost),
}

/// The stream that an event is a row of.
pub(crate) fn stream_of(event: &Event) -> Option<Stream> {
    Some(match &event.kind {
        EventKind::Exec(_) => Stream::Exec,
        EventKind::Fork(_) => Stream::Fork,
        EventKind::Exit(_) => Stream::Exit,
        EventKind::FailedExec(_) => Stream::FailedExec,
        EventKind::Hashed(_) => Stream::Hashed,
        EventKind::Lost(_) => Stream::Lost,
        _ => return None,
    })
}

impl<'v> View<'v> {
    /// `scratch` must have been filled for this event. Snapshot rows are no stream's.
    pub(crate) fn new(event: &'v Event, scratch: &'v Scratch) -> Option<Self> {
        let body = match &event.kind {
            EventKind::Exec(exec) => Body::Exec(&exec.process),
            EventKind::Fork(fork) => Body::Fork(fork),
            EventKind::Exit(exit) => Body::Exit(exit),
            EventKind::FailedExec(failed) => Body::FailedExec(failed),
            EventKind::Hashed(hashed) => Body::Hashed(hashed),
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
            Body::FailedExec(failed) => self.failed_exec(failed, field),
            Body::Hashed(hashed) => self.hashed(hashed, field),
            Body::Lost(lost) => lost_value(lost, field),
        }
    }

    /// The bytes of a text column, without a copy; of an array its elements, one after the other.
    pub(crate) fn text(&self, field: Field) -> Option<&'v [u8]> {
        match self.get(field)? {
            Value::Text(Cow::Borrowed(text)) => Some(text),
            Value::List(argv) => Some(argv.as_block()),
            _ => None,
        }
    }

    /// A digest of the file, of a column that is the text of one.
    pub(crate) fn digest(&self, field: Field) -> Option<&'v [u8]> {
        match self.body {
            Body::Exec(process) => exec::digest(process, field),
            Body::Hashed(hashed) if field == Field::Sha256 => {
                Some(&hashed.outcome.as_ref().ok()?.sha256)
            }
            _ => None,
        }
    }

    /// The array was cut, so that conditions on it saw only a part.
    pub(crate) fn is_cut(&self, field: Field) -> bool {
        let Body::Exec(process) = self.body else {
            return false;
        };
        match field {
            Field::Args | Field::ArgsCount | Field::CommandLine => process.argv_truncated_bytes > 0,
            Field::Environment => {
                process.environment_truncated_bytes > 0
                    || process.environment.as_ref().is_some_and(is_cut)
            }
            Field::AncestorPid
            | Field::AncestorEntityId
            | Field::AncestorName
            | Field::AncestorExecutable
            | Field::AncestorCommandLine
            | Field::AncestorEuid => {
                Ancestors::of(process, field).is_some_and(|ancestors| ancestors.is_cut())
            }
            _ => false,
        }
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
            Field::CoreDumped => flag(exit.status?.core_dumped),
            Field::RunTime => i128::try_from(exit.run_time?.as_nanos())
                .ok()
                .map(Value::Int),
            _ => None,
        }
    }

    fn failed_exec(&self, failed: &'v FailedExec, field: Field) -> Option<Value<'v>> {
        match field {
            Field::Pid => int(failed.key.pid),
            Field::Ppid | Field::ParentPid => int(failed.parent?.pid),
            Field::EntityId => text(&self.scratch.entity_id),
            Field::ParentEntityId => failed.parent.and(text(&self.scratch.parent_entity_id)),
            Field::Name => known(basename(&failed.exe)),
            Field::Comm => known(&failed.comm),
            Field::Executable => known(&failed.exe),
            Field::Filename => known(&failed.filename),
            Field::Errno => int(failed.errno),
            _ => credential(failed.credentials?, field),
        }
    }

    fn hashed(&self, hashed: &'v Hashed, field: Field) -> Option<Value<'v>> {
        match field {
            Field::Pid => int(hashed.key.pid),
            Field::EntityId => text(&self.scratch.entity_id),
            Field::Name => known(basename(&hashed.exe)),
            Field::Executable => known(&hashed.exe),
            Field::Sha256 => hashed.outcome.ok().and(text(&self.scratch.sha256)),
            Field::ExeChanged => flag(hashed.outcome.ok()?.changed),
            Field::ExeTouched => flag(hashed.outcome.ok()?.touched),
            Field::HashFailure => text(hashed.outcome.err()?.name().as_bytes()),
            _ => file(hashed.exe_file.as_ref()?, field),
        }
    }
}

/// Every string of a whole block ends with a NUL byte.
fn is_cut(block: &Argv) -> bool {
    block.as_block().last().is_some_and(|byte| *byte != 0)
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

/// Numbers that sources leave 0 where they do not know them.
fn nonzero(number: impl Into<i128>) -> Option<Value<'static>> {
    int(number).filter(|value| *value != Value::Int(0))
}

fn flag(truth: bool) -> Option<Value<'static>> {
    Some(Value::Bool(truth))
}

fn text(bytes: &[u8]) -> Option<Value<'_>> {
    Some(Value::Text(Cow::Borrowed(bytes)))
}

/// Text that sources leave empty where they do not know it.
fn known(bytes: &[u8]) -> Option<Value<'_>> {
    (!bytes.is_empty()).then_some(Value::Text(Cow::Borrowed(bytes)))
}
