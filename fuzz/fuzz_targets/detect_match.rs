//! Any bytes in any column of an event are matched against the shipped rules.

#![no_main]

use std::cell::RefCell;
use std::sync::Arc;

use detect::{Matcher, RuleSet, Source};
use event::{
    Ancestor, Argv, Bytes, Digest, Event, EventKind, Exec, Exit, FailedExec, Hashed, Header, Process,
    ProcessKey,
};
use libfuzzer_sys::fuzz_target;

thread_local! {
    static MATCHER: RefCell<Matcher> = RefCell::new(Matcher::new(Arc::new(shipped())));
}

fn shipped() -> RuleSet {
    let sources: Vec<Source<'_>> =
        detect::shipped().iter().map(|(file, text)| Source { file, text }).collect();
    RuleSet::compile(&sources).expect("the shipped rules compile")
}

// Fields are separated by line breaks, the last one is the argument block.
fuzz_target!(|data: &[u8]| {
    let mut fields = data.splitn(6, |byte| *byte == b'\n').map(Bytes::copy_from_slice);
    let mut next = || fields.next().unwrap_or_default();
    let (exe, comm, filename, parent_exe, parent_block) = (next(), next(), next(), next(), next());
    let exit = Exit { exe: exe.clone(), comm: comm.clone(), ..Exit::default() };
    let failed =
        FailedExec { exe: exe.clone(), filename: filename.clone(), ..FailedExec::default() };
    let hashed = Hashed {
        key: ProcessKey::default(),
        exe: exe.clone(),
        exe_file: None,
        outcome: Ok(Digest { sha256: [7; 32], changed: true, touched: false }),
    };
    let process = Process {
        environment: Some(Argv::from_block(parent_block.clone())),
        file_caps: Some(true),
        cwd: Some(parent_exe.clone()),
        exe,
        comm,
        filename,
        argv: Argv::from_block(next()),
        parent_process: Some(Box::new(Ancestor {
            exe: parent_exe,
            argv: Argv::from_block(parent_block),
            ..Ancestor::default()
        })),
        ..Process::default()
    };
    let exec = EventKind::Exec(Box::new(Exec { process, old_tid: None }));
    let mut findings = Vec::new();
    MATCHER.with_borrow_mut(|matcher| {
        for kind in [
            exec,
            EventKind::Exit(exit),
            EventKind::FailedExec(Box::new(failed)),
            EventKind::Hashed(Box::new(hashed)),
        ] {
            matcher.on_event(&Event { header: Header::default(), kind }, 0, &mut findings);
        }
    });
});
