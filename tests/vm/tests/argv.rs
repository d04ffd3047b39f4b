//! Arguments arrive byte for byte; what is cut is counted.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::sync::LazyLock;

use anyhow::Result;
use event::Process;
use vm::{Recording, Scenarios, Workload, numbered_arguments, place};

/// Most bytes that are captured.
const CAP: usize = 32 << 10;
/// In all, with the NUL of each; at the bounds of what the kernel side keeps in one piece, and up
/// to more than one argument may have.
const SIZES: [usize; 13] = [
    1,
    2,
    320,
    321,
    4096,
    4097,
    CAP - 1,
    CAP,
    CAP + 1,
    128 << 10,
    (128 << 10) + 1,
    1 << 20,
    2 << 20,
];

/// Programs run with these arguments, each once, in one recording.
static RECORDED: LazyLock<Scenarios> = LazyLock::new(|| record().expect("a recording"));

fn record() -> Result<Scenarios> {
    let (recording, workloads) = Recording::in_hindsight(&[], run)?;
    Ok(Scenarios::of(recording, workloads))
}

fn run() -> Result<HashMap<&'static str, Workload>> {
    let mut workloads = HashMap::from([("none", Workload::run(["no-argv"])?)]);
    for (name, _) in TEXTS {
        let started = Workload::run([OsString::from("run")].iter().chain(&command(name)))?;
        workloads.insert(name, started);
    }
    for size in SIZES {
        let name = name_of(size);
        workloads.insert(name, Workload::run(["argv", name])?);
    }
    Ok(workloads)
}

/// Names of workloads are constants.
fn name_of(size: usize) -> &'static str {
    Box::leak(size.to_string().into_boxed_str())
}

const TEXTS: [(&str, &[&[u8]]); 4] = [
    ("plain", &[]),
    ("spaces", &[b"a b", b" ", b"tab\t", b"line\nbreak"]),
    ("empty", &[b"", b"x", b"", b""]),
    ("bytes", &[b"\xff\xfe \x80\xc3"]),
];

fn command(name: &str) -> Vec<OsString> {
    let texts = TEXTS.into_iter().find(|(n, _)| *n == name);
    let (_, texts) = texts.expect("a text of that name");
    let program = place::workload().expect("the workload program");
    let mut command = vec![program.into_os_string(), "exit".into(), "0".into()];
    command.extend(texts.iter().map(|text| OsStr::from_bytes(text).to_owned()));
    command
}

fn exec_of(name: &str) -> &'static Process {
    let life = RECORDED.life(name, "child");
    life.expect("fork exec exit").program()
}

#[test]
fn arguments_with_spaces_nothing_and_any_bytes_survive() {
    if !place::kernel_scenarios_run() {
        return;
    }
    for (name, _) in TEXTS {
        let process = exec_of(name);
        let expected = command(name);
        let expected: Vec<_> = expected.iter().map(|a| a.as_bytes()).collect();
        let got: Vec<_> = process.argv.iter().collect();
        assert_eq!(got, expected, "{name}");
        assert_eq!(process.argv_truncated_bytes, 0, "{name}");
    }
}

#[test]
fn arguments_up_to_32_kib_are_whole_and_of_longer_ones_the_missing_bytes_are_counted() {
    if !place::kernel_scenarios_run() {
        return;
    }
    for size in SIZES {
        let process = exec_of(&size.to_string());
        let whole = numbered_arguments(size);
        let got = process.argv.as_block();
        assert_eq!(got.len(), size.min(CAP), "of {size}");
        assert!(whole.starts_with(got), "{size}: not the first of them");
        let missing = size.saturating_sub(CAP) as u64;
        assert_eq!(process.argv_truncated_bytes, missing, "of {size}");
    }
}

#[test]
fn program_without_arguments_has_what_the_kernel_makes_of_that() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let process = exec_of("none");
    // Since 5.18 there is an empty one; before, and where that is not backported, none.
    let count = RECORDED.workload("none").number("count");
    assert!(count <= 1);
    assert_eq!(process.argv.iter().count() as u64, count);
    assert!(process.argv.joined().is_empty());
    assert_eq!(process.argv_truncated_bytes, 0);
}

#[test]
fn execs_with_cut_arguments_are_counted() {
    if !place::kernel_scenarios_run() {
        return;
    }
    let ours = SIZES.iter().filter(|size| **size > CAP).count() as u64;
    // Others may run such programs meanwhile.
    assert!(RECORDED.recording.counter("/sensor/truncated") >= ours);
}
