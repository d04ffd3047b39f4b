//! The bytes of an event: protobuf, encoded once and then shared by ledger, socket and store.
//!
//! Field numbers and meanings are the contract written in `docs/event-format.md`; golden vectors
//! in `event/tests/golden.rs` hold them. Numbers are never reused. Unknown fields are skipped, so
//! a newer minor version stays readable; an incompatible one raises [`SCHEMA_VERSION`].
//!
//! Encoding is deterministic: fields in order of their numbers, defaults left out.

mod message;
mod process;

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use crate::{
    BootId, BootTime, ColumnName, Digest, DropReason, Error, Event, EventClass, EventKind, Exec,
    Exit, ExitStatus, FailedExec, Finding, Fork, HashFailure, Hashed, Header, Leaf, Level, Lost,
    ProcessKey, Snapshot, WallTime,
};
use message as pb;
use process::process;

/// Version that this build writes, and the newest that it reads.
pub const SCHEMA_VERSION: u32 = 1;

/// Encodes an event as a ledger leaf.
#[must_use]
pub fn encode_event(event: &Event) -> Bytes {
    encode(&event.header, event_body(&event.kind))
}

/// Encodes a finding as a ledger leaf.
#[must_use]
pub fn encode_finding(finding: &Finding) -> Bytes {
    encode(&finding.header, pb::Body::Finding(finding_message(finding)))
}

/// What the leaves begin with that the ledger itself appends.
pub const LEDGERS_OWN: &[u8] = b"daemoneye ledger ";

/// Decodes a ledger leaf. Fields of the result share `bytes`.
///
/// # Errors
/// The bytes are no leaf of a version known here.
pub fn decode(bytes: Bytes) -> Result<Leaf, Error> {
    // No encoded leaf begins so: there is no field 12 of a group.
    if bytes.starts_with(LEDGERS_OWN) {
        return Ok(Leaf::Ledger(bytes));
    }
    let leaf = pb::Leaf::decode(bytes)?;
    if leaf.schema_version > SCHEMA_VERSION {
        return Err(Error::SchemaVersion {
            found: leaf.schema_version,
            known: SCHEMA_VERSION,
        });
    }
    let header = header(&leaf)?;
    let boot = header.boot;
    let kind = match leaf.body.ok_or(Error::Missing("body"))? {
        pb::Body::Exec(exec) => EventKind::Exec(Box::new(Exec {
            process: process(exec.process, boot)?,
            old_tid: exec.old_tid,
        })),
        pb::Body::Fork(fork) => EventKind::Fork(Fork {
            child: required_key(fork.child, boot, "fork.child")?,
            parent: required_key(fork.parent, boot, "fork.parent")?,
            parent_muted: fork.parent_muted,
        }),
        pb::Body::Exit(exit) => EventKind::Exit(self::exit(exit, boot)?),
        pb::Body::Lost(lost) => EventKind::Lost(self::lost(&lost)?),
        pb::Body::Snapshot(row) => EventKind::Snapshot(Box::new(Snapshot {
            process: process(row.process, boot)?,
        })),
        pb::Body::Hashed(message) => EventKind::Hashed(Box::new(hashed(message, boot)?)),
        pb::Body::FailedExec(message) => EventKind::FailedExec(Box::new(FailedExec {
            key: required_key(message.key, boot, "failed_exec.key")?,
            parent: message.parent.map(|m| key(m, boot)),
            comm: message.comm,
            exe: message.exe,
            filename: message.filename,
            errno: message.errno,
            credentials: message.credentials.map(process::credentials),
            muted: message.muted,
        })),
        pb::Body::Finding(message) => {
            return Ok(Leaf::Finding(Box::new(finding(message, header)?)));
        }
    };
    Ok(Leaf::Event(Event { header, kind }))
}

/// Decodes a leaf that must be an event.
///
/// # Errors
/// As [`decode`], and where the leaf is a finding.
pub fn decode_event(bytes: Bytes) -> Result<Event, Error> {
    match decode(bytes)? {
        Leaf::Event(event) => Ok(event),
        Leaf::Finding(_) => Err(Error::Missing("event (this leaf is a finding)")),
        Leaf::Ledger(_) => Err(Error::Missing("event (this leaf is the ledger's own)")),
    }
}

fn encode(header: &Header, body: pb::Body) -> Bytes {
    pb::Leaf {
        schema_version: SCHEMA_VERSION,
        boot_id: Bytes::copy_from_slice(&header.boot.0),
        sequence: header.sequence,
        cpu: header.cpu,
        time: header.time.0,
        wall: header.wall.0,
        body: Some(body),
    }
    .encode_to_vec()
    .into()
}

fn event_body(kind: &EventKind) -> pb::Body {
    match kind {
        EventKind::Exec(exec) => pb::Body::Exec(pb::Exec {
            process: Some(process::message(&exec.process)),
            old_tid: exec.old_tid,
        }),
        EventKind::Fork(fork) => pb::Body::Fork(pb::Fork {
            child: Some(key_message(fork.child)),
            parent: Some(key_message(fork.parent)),
            parent_muted: fork.parent_muted,
        }),
        EventKind::Exit(exit) => pb::Body::Exit(exit_message(exit)),
        EventKind::Lost(lost) => pb::Body::Lost(pb::Lost {
            class: code_of(&EventClass::ALL, lost.class),
            reason: code_of(&DropReason::ALL, lost.reason),
            count: lost.count,
            from: lost.from.0,
            to: lost.to.0,
        }),
        EventKind::Snapshot(row) => pb::Body::Snapshot(pb::Snapshot {
            process: Some(process::message(&row.process)),
        }),
        EventKind::Hashed(hashed) => pb::Body::Hashed(hashed_message(hashed)),
        EventKind::FailedExec(failed) => pb::Body::FailedExec(pb::FailedExec {
            key: Some(key_message(failed.key)),
            parent: failed.parent.map(key_message),
            comm: failed.comm.clone(),
            exe: failed.exe.clone(),
            filename: failed.filename.clone(),
            errno: failed.errno,
            credentials: failed.credentials.map(process::credentials_message),
            muted: failed.muted,
        }),
    }
}

fn exit_message(exit: &Exit) -> pb::Exit {
    let status = exit.status.unwrap_or_default();
    pb::Exit {
        key: Some(key_message(exit.key)),
        parent: exit.parent.map(key_message),
        raw_status: status.raw,
        code: status.code,
        signal: status.signal,
        core_dumped: status.core_dumped,
        comm: exit.comm.clone(),
        exe: exit.exe.clone(),
        status_unknown: exit.status.is_none(),
        run_time: exit.run_time.map(nanoseconds),
        muted: exit.muted,
    }
}

/// Capped at 584 years.
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn hashed_message(hashed: &Hashed) -> pb::Hashed {
    let digest = hashed.outcome.ok();
    pb::Hashed {
        key: Some(key_message(hashed.key)),
        exe: hashed.exe.clone(),
        exe_file: hashed.exe_file.map(process::file_message),
        sha256: digest.map(|d| Bytes::copy_from_slice(&d.sha256)),
        exe_changed: digest.is_some_and(|d| d.changed),
        exe_touched: digest.is_some_and(|d| d.touched),
        failure: hashed
            .outcome
            .err()
            .map_or(0, |failure| code_of(&HashFailure::ALL, failure)),
    }
}

fn finding_message(finding: &Finding) -> pb::Finding {
    pb::Finding {
        rule_id: finding.rule_id.to_string(),
        title: finding.title.to_string(),
        level: code_of(&Level::ALL, finding.level),
        tags: finding.tags.to_vec(),
        leaf_index: finding.leaf_index,
        key: finding.key.map(key_message),
        exe: finding.exe.clone(),
        selected: selected_messages(&finding.selected),
        absent: finding.absent.iter().map(|name| name.to_string()).collect(),
        evidence: finding.evidence.clone(),
        incomplete: finding.incomplete.clone(),
        author: finding.author.to_string(),
        license: finding.license.to_string(),
        matched: selected_messages(&finding.matched),
    }
}

fn selected_messages(columns: &[(ColumnName, String)]) -> Vec<pb::Selected> {
    let message = |(name, value): &(ColumnName, String)| pb::Selected {
        name: name.to_string(),
        value: value.clone(),
    };
    columns.iter().map(message).collect()
}

fn key_message(key: ProcessKey) -> pb::Key {
    pb::Key {
        pid: key.pid,
        start: key.start.0,
    }
}

/// Codes start at 1: 0 is protobuf's default and means absent.
fn code_of<T: PartialEq>(all: &[T], value: T) -> u32 {
    let position = all.iter().position(|v| *v == value).unwrap_or(all.len());
    u32::try_from(position).unwrap_or(u32::MAX - 1) + 1
}

fn value_of<T: Copy>(all: &[T], code: u32, field: &'static str) -> Result<T, Error> {
    code.checked_sub(1)
        .and_then(|position| all.get(usize::try_from(position).ok()?))
        .copied()
        .ok_or(Error::Invalid {
            field,
            value: code.into(),
        })
}

fn header(leaf: &pb::Leaf) -> Result<Header, Error> {
    let boot = <[u8; 16]>::try_from(leaf.boot_id.as_ref()).map_err(|_| Error::Invalid {
        field: "boot_id",
        value: leaf.boot_id.len() as u64,
    })?;
    Ok(Header {
        boot: BootId(boot),
        sequence: leaf.sequence,
        cpu: leaf.cpu,
        time: BootTime(leaf.time),
        wall: WallTime(leaf.wall),
    })
}

fn key(message: pb::Key, boot: BootId) -> ProcessKey {
    ProcessKey {
        boot,
        pid: message.pid,
        start: BootTime(message.start),
    }
}

fn required_key(
    message: Option<pb::Key>,
    boot: BootId,
    field: &'static str,
) -> Result<ProcessKey, Error> {
    message.map(|m| key(m, boot)).ok_or(Error::Missing(field))
}

fn exit(message: pb::Exit, boot: BootId) -> Result<Exit, Error> {
    Ok(Exit {
        key: required_key(message.key, boot, "exit.key")?,
        parent: message.parent.map(|m| key(m, boot)),
        status: (!message.status_unknown).then_some(ExitStatus {
            raw: message.raw_status,
            code: message.code,
            signal: message.signal,
            core_dumped: message.core_dumped,
        }),
        run_time: message.run_time.map(Duration::from_nanos),
        comm: message.comm,
        exe: message.exe,
        muted: message.muted,
    })
}

fn hashed(message: pb::Hashed, boot: BootId) -> Result<Hashed, Error> {
    let outcome = match process::digest(message.sha256.as_ref(), "sha256")? {
        Some(sha256) => Ok(Digest {
            sha256,
            changed: message.exe_changed,
            touched: message.exe_touched,
        }),
        None => Err(value_of(
            &HashFailure::ALL,
            message.failure,
            "hashed.failure",
        )?),
    };
    Ok(Hashed {
        key: required_key(message.key, boot, "hashed.key")?,
        exe: message.exe,
        exe_file: message.exe_file.map(process::file),
        outcome,
    })
}

fn lost(message: &pb::Lost) -> Result<Lost, Error> {
    Ok(Lost {
        class: value_of(&EventClass::ALL, message.class, "lost.class")?,
        reason: value_of(&DropReason::ALL, message.reason, "lost.reason")?,
        count: message.count,
        from: BootTime(message.from),
        to: BootTime(message.to),
    })
}

fn finding(message: pb::Finding, header: Header) -> Result<Finding, Error> {
    Ok(Finding {
        header,
        rule_id: message.rule_id.into(),
        title: message.title.into(),
        level: value_of(&Level::ALL, message.level, "finding.level")?,
        tags: message.tags.into(),
        leaf_index: message.leaf_index,
        key: message.key.map(|m| key(m, header.boot)),
        exe: message.exe,
        selected: columns(message.selected),
        absent: message.absent.into_iter().map(Into::into).collect(),
        evidence: message.evidence,
        incomplete: message.incomplete,
        author: message.author.into(),
        license: message.license.into(),
        matched: columns(message.matched),
    })
}

fn columns(messages: Vec<pb::Selected>) -> Vec<(ColumnName, String)> {
    let column = |message: pb::Selected| (message.name.into(), message.value);
    messages.into_iter().map(column).collect()
}
