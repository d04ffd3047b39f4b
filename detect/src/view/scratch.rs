//! Values that an event does not hold in one piece.

use std::io::Write as _;

use event::{Argv, Event, EventKind, Process, ProcessKey};

use super::exec::{DIGESTS, digest};
use crate::catalog::{Field, FieldSet};

/// Kept between events so that filling it allocates nothing once it has grown.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(super) command_line: Vec<u8>,
    pub(super) parent_command_line: Vec<u8>,
    pub(super) entity_id: Vec<u8>,
    pub(super) parent_entity_id: Vec<u8>,
    pub(super) sha256: Vec<u8>,
    pub(super) md5: Vec<u8>,
    pub(super) sha1: Vec<u8>,
    pub(super) imphash: Vec<u8>,
    pub(super) hashes: Vec<u8>,
    /// What was computed of the present event.
    filled: FieldSet,
}

impl Scratch {
    /// Computes those of `fields` that need computing, of another event than before.
    pub(crate) fn fill(&mut self, event: &Event, fields: FieldSet) {
        self.filled = FieldSet::default();
        self.fill_more(event, fields);
    }

    /// Computes those of `fields` that need computing, of the same event as before.
    pub(crate) fn fill_more(&mut self, event: &Event, fields: FieldSet) {
        let fields = fields.without(self.filled);
        self.filled = self.filled.union(fields);
        if fields.contains(Field::EntityId) {
            write_key(&mut self.entity_id, event.key());
        }
        if fields.contains(Field::ParentEntityId) {
            write_key(&mut self.parent_entity_id, parent_key(event));
        }
        match &event.kind {
            EventKind::Exec(exec) => {
                self.join_lines(&exec.process, fields);
                self.digests(&exec.process, fields);
            }
            EventKind::Hashed(hashed) if fields.contains(Field::Sha256) => {
                if let Ok(digest) = &hashed.outcome {
                    write_hex(&mut self.sha256, &digest.sha256);
                }
            }
            _ => {}
        }
    }

    fn digests(&mut self, process: &Process, fields: FieldSet) {
        if fields.contains(Field::Hashes) {
            write_hashes(&mut self.hashes, process);
        }
        for (field, out) in [
            (Field::Sha256, &mut self.sha256),
            (Field::Md5, &mut self.md5),
            (Field::Sha1, &mut self.sha1),
            (Field::Imphash, &mut self.imphash),
        ] {
            if fields.contains(field)
                && let Some(digest) = digest(process, field)
            {
                write_hex(out, digest);
            }
        }
    }

    fn join_lines(&mut self, process: &Process, fields: FieldSet) {
        if fields.contains(Field::CommandLine) {
            join(&mut self.command_line, &process.argv);
        }
        if fields.contains(Field::ParentCommandLine)
            && let Some(parent) = &process.parent_process
        {
            join(&mut self.parent_command_line, &parent.argv);
        }
    }
}

/// [`Argv::joined`] into a buffer that is there.
fn join(out: &mut Vec<u8>, argv: &Argv) {
    let block = argv.as_block();
    out.clear();
    out.extend_from_slice(block.strip_suffix(&[0]).unwrap_or(block));
    for byte in out {
        // Without a branch, so that many bytes are one step.
        *byte = if *byte == 0 { b' ' } else { *byte };
    }
}

fn write_key(out: &mut Vec<u8>, key: Option<ProcessKey>) {
    out.clear();
    if let Some(key) = key {
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{key}");
    }
}

fn write_hex(out: &mut Vec<u8>, hash: &[u8]) {
    out.clear();
    push_hex(out, hash, b'a');
}

fn push_hex(out: &mut Vec<u8>, hash: &[u8], ten: u8) {
    let digit = |d: u8| if d < 10 { b'0' + d } else { ten + d - 10 };
    let start = out.len();
    out.resize(start + 2 * hash.len(), 0);
    for (digits, byte) in out[start..].as_chunks_mut::<2>().0.iter_mut().zip(hash) {
        *digits = [digit(byte >> 4), digit(byte & 15)];
    }
}

/// In the form of Sysmon.
fn write_hashes(out: &mut Vec<u8>, process: &Process) {
    out.clear();
    for of in &DIGESTS {
        let Some(digest) = digest(process, of.field) else {
            continue;
        };
        if !out.is_empty() {
            out.push(b',');
        }
        out.extend_from_slice(of.name);
        out.push(b'=');
        push_hex(out, digest, b'A');
    }
}

fn parent_key(event: &Event) -> Option<ProcessKey> {
    match &event.kind {
        EventKind::Exec(exec) => exec.process.parent,
        EventKind::Fork(fork) => Some(fork.parent),
        EventKind::Exit(exit) => exit.parent,
        EventKind::FailedExec(failed) => failed.parent,
        _ => None,
    }
}
