//! Arguments arrive byte for byte; what is cut is counted.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::LazyLock;

use anyhow::Result;
use event::{EventKind, Exec};
use vm::{Recording, Workload, place};

/// Programs run with these arguments, each once, in one recording.
static RECORDED: LazyLock<Recorded> = LazyLock::new(|| record().expect("a recording"));

struct Recorded {
    recording: Recording,
    workloads: Vec<(&'static str, Vec<OsString>, Workload)>,
}

fn record() -> Result<Recorded> {
    let program = place::workload()?;
    let (recording, workloads) = Recording::of(|| {
        let run = |(name, rest): (&'static str, Vec<OsString>)| {
            let mut argv = vec![program.clone().into_os_string(), "exit".into(), "0".into()];
            argv.extend(rest);
            let workload = Workload::run([OsString::from("run")].iter().chain(&argv))?;
            Ok((name, argv, workload))
        };
        cases().into_iter().map(run).collect::<Result<Vec<_>>>()
    })?;
    Ok(Recorded {
        recording,
        workloads,
    })
}

fn cases() -> Vec<(&'static str, Vec<OsString>)> {
    // Numbered, so that a wrong offset shows.
    let many = (0..2000)
        .map(|n| OsString::from(format!("{n:049}")))
        .collect();
    let big: String = (0..10_000).map(|n| format!("{n:010}")).collect();
    let bytes = OsStr::from_bytes(b"\xff\xfe \x80\xc3").to_owned();
    vec![
        ("plain", vec![]),
        (
            "spaces",
            ["a b", " ", "tab\t", "line\nbreak"]
                .map(OsString::from)
                .to_vec(),
        ),
        ("empty", ["", "x", "", ""].map(OsString::from).to_vec()),
        ("bytes", vec![bytes]),
        ("one-of-100-kb", vec![big.into()]),
        ("many-of-100-kb", many),
    ]
}

/// The argument block that the program was given, and the exec that was recorded.
fn recorded(name: &str) -> (Vec<u8>, &'static Exec) {
    let case = RECORDED.workloads.iter().find(|(n, ..)| *n == name);
    let (_, argv, workload) = case.expect("a case of that name");
    let block = argv
        .iter()
        .flat_map(|a| a.as_bytes().iter().copied().chain([0]))
        .collect();
    let events = RECORDED.recording.about(workload.pid("child"));
    let exec = events.iter().find_map(|event| match &event.kind {
        EventKind::Exec(exec) => Some(&**exec),
        _ => None,
    });
    (
        block,
        exec.unwrap_or_else(|| panic!("no exec of {name} among {events:?}")),
    )
}

#[test]
fn arguments_with_spaces_nothing_and_any_bytes_survive() {
    if !place::kernel_scenarios_run() {
        return;
    }
    for name in ["plain", "spaces", "empty", "bytes"] {
        let (block, exec) = recorded(name);
        let got = exec.process.argv.as_block();
        assert_eq!(
            got.escape_ascii().to_string(),
            block.escape_ascii().to_string(),
            "{name}"
        );
        assert_eq!(exec.process.argv_truncated_bytes, 0, "{name}");
    }
}

#[test]
fn long_arguments_are_cut_and_the_missing_bytes_counted() {
    if !place::kernel_scenarios_run() {
        return;
    }
    for name in ["one-of-100-kb", "many-of-100-kb"] {
        let (block, exec) = recorded(name);
        assert!(block.len() > 100_000, "{name} has {}", block.len());
        let got = exec.process.argv.as_block();
        assert!(
            block.starts_with(got),
            "{name}: the {} captured are no prefix",
            got.len()
        );
        assert!(got.len() >= 16 << 10, "{name}: only {} captured", got.len());
        let total = got.len() as u64 + exec.process.argv_truncated_bytes;
        assert_eq!(total, block.len() as u64, "{name}: {} captured", got.len());
    }
}
