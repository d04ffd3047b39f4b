//! Recordings of made-up events.

use std::fs::File;
use std::path::Path;

use event::wire::RecordingWriter;
use event::{Argv, BootTime, Event, EventKind, Exec, Header, Process, ProcessKey};

/// An exec of `/bin/PROGRAM`, so many seconds after boot.
pub(crate) fn exec(seconds: u64, pid: u32, program: &str, arguments: &[&str]) -> Event {
    let process = Process {
        key: ProcessKey {
            pid,
            ..ProcessKey::default()
        },
        comm: program.to_owned().into(),
        exe: format!("/bin/{program}").into(),
        argv: Argv::from_iter(arguments),
        ..Process::default()
    };
    Event {
        header: Header {
            time: BootTime(seconds * 1_000_000_000),
            ..Header::default()
        },
        kind: EventKind::Exec(Box::new(Exec {
            process,
            old_tid: None,
        })),
    }
}

/// Writes a recording of these events.
pub(crate) fn write(path: &Path, events: &[Event]) {
    let mut recording = RecordingWriter::new(File::create(path).unwrap()).unwrap();
    for event in events {
        recording.write(event).unwrap();
    }
    recording.flush().unwrap();
}
