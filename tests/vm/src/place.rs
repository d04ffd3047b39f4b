//! Where things are: the programs under test, and reasons why a scenario cannot run here.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

/// Names the `daemoneye` to test.
pub const BIN_VARIABLE: &str = "DAEMONEYE_BIN";
/// Names the workload program where it is not beside the test.
pub const WORKLOAD_VARIABLE: &str = "DAEMONEYE_WORKLOAD";
/// Names the kinds of scenarios that must run, with commas between: a reason to skip one of them is
/// then a failure. Kinds are [`EBPF`], [`CONNECTOR`], [`LOCKDOWN`] and [`OFFLINE_CPU`].
pub const REQUIRE_VARIABLE: &str = "DAEMONEYE_REQUIRE_KERNEL";
/// Scenarios of kernel events.
pub const EBPF: &str = "ebpf";
/// Scenarios of the process connector.
pub const CONNECTOR: &str = "connector";
/// Scenarios of a kernel that lets nobody read its memory.
pub const LOCKDOWN: &str = "lockdown";
/// Scenarios of a cpu that comes online.
pub const OFFLINE_CPU: &str = "offline-cpu";
/// Scenarios of a SIGHUP.
const HANGUP: &str = "hangup";

/// Options that every `daemoneye` under test gets, separated by spaces: the same scenarios then
/// hold for another transport, say.
pub const OPTIONS_VARIABLE: &str = "DAEMONEYE_TEST_OPTIONS";

/// What [`OPTIONS_VARIABLE`] holds.
#[must_use]
pub fn options() -> Vec<String> {
    let options = std::env::var(OPTIONS_VARIABLE).unwrap_or_default();
    options.split_whitespace().map(str::to_owned).collect()
}

/// Set where nothing runs but the tests and what they start.
pub const ALONE_VARIABLE: &str = "DAEMONEYE_TEST_ALONE";

/// Whether nothing runs here but the tests and what they start.
#[must_use]
pub fn alone() -> bool {
    std::env::var_os(ALONE_VARIABLE).is_some()
}

/// The `daemoneye` under test: `DAEMONEYE_BIN`, else what cargo built beside this program.
///
/// # Errors
/// There is none.
pub fn daemoneye() -> Result<PathBuf> {
    let path = named_or_beside_us(BIN_VARIABLE, "daemoneye")?;
    ensure!(
        path.is_file(),
        "no {} (cargo build -p cli, or set {BIN_VARIABLE})",
        path.display()
    );
    Ok(path)
}

/// The workload program of this crate.
///
/// # Errors
/// There is none.
pub fn workload() -> Result<PathBuf> {
    let path = named_or_beside_us(WORKLOAD_VARIABLE, "workload")?;
    ensure!(path.is_file(), "no {} (cargo build -p vm)", path.display());
    Ok(path)
}

/// Whether scenarios of kernel events can run here; says on standard error why not, where
/// `cargo xtask test` counts it.
///
/// # Panics
/// They cannot although [`REQUIRE_VARIABLE`] says that they must.
#[must_use]
#[track_caller]
pub fn kernel_scenarios_run() -> bool {
    runs(EBPF, no_kernel_events())
}

/// Whether scenarios of the process connector can run here; says why not as the others do.
///
/// # Panics
/// They cannot although [`REQUIRE_VARIABLE`] says that they must.
#[must_use]
#[track_caller]
pub fn connector_scenarios_run() -> bool {
    let root = crate::is_root();
    let reason = (!root).then(|| "these scenarios need root".to_owned());
    runs(CONNECTOR, reason.or_else(no_daemoneye))
}

/// Whether this kernel is in lockdown's confidentiality mode; says why not as the others do.
///
/// # Panics
/// It is not although [`REQUIRE_VARIABLE`] says that it must be.
#[must_use]
#[track_caller]
pub fn lockdown_scenarios_run() -> bool {
    let reason = (!is_locked_down()).then(|| "this kernel is not locked down".to_owned());
    runs(LOCKDOWN, reason.or_else(no_daemoneye))
}

/// Whether a SIGHUP would reach a `daemoneye` started here, as far as kernel scenarios run at all;
/// says why not as the others do.
///
/// # Panics
/// They cannot although [`REQUIRE_VARIABLE`] says that they must.
#[must_use]
#[track_caller]
pub fn hangups_arrive() -> bool {
    if !runs(EBPF, no_kernel_events()) {
        return false;
    }
    // Whoever is started inherits that, as `nohup` wants it.
    let ignored = is_hangup_ignored().then(|| "SIGHUP is ignored here".to_owned());
    runs(HANGUP, ignored)
}

fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 != 0)
}

/// A cpu that could come online while a kernel scenario runs; says why not if there is none.
///
/// # Panics
/// There is none although [`REQUIRE_VARIABLE`] says that there must be.
#[must_use]
#[track_caller]
pub fn offline_cpu() -> Option<u32> {
    let cpu = first_offline_cpu();
    let none = || cpu.is_none().then(|| "every cpu is online".to_owned());
    runs(OFFLINE_CPU, none().or_else(no_kernel_events)).then_some(cpu)?
}

#[track_caller]
fn runs(kind: &str, reason: Option<String>) -> bool {
    let Some(reason) = reason else {
        return true;
    };
    let required = std::env::var(REQUIRE_VARIABLE).unwrap_or_default();
    assert!(
        !required.split(',').any(|required| required == kind),
        "this test must run, but {reason}"
    );
    let test = std::panic::Location::caller();
    // One write, past libtest's capture, so that lines of parallel tests stay whole.
    let line = format!("skipped: {}:{}: {reason}\n", test.file(), test.line());
    let _ = std::io::stderr().write_all(line.as_bytes());
    false
}

fn no_kernel_events() -> Option<String> {
    if !crate::is_root() {
        return Some("loading eBPF programs needs root".into());
    }
    if !std::path::Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Some("this kernel has no BTF (/sys/kernel/btf/vmlinux)".into());
    }
    if is_locked_down() {
        return Some("this kernel is locked down".into());
    }
    no_daemoneye()
}

fn no_daemoneye() -> Option<String> {
    daemoneye().err().map(|error| error.to_string())
}

fn is_locked_down() -> bool {
    let state = std::fs::read_to_string("/sys/kernel/security/lockdown");
    state.is_ok_and(|state| state.contains("[confidentiality]"))
}

/// Offline cpus are a list as `1-3,5`; possible ones that are not present count as well, but only
/// present ones have a directory.
fn first_offline_cpu() -> Option<u32> {
    let list = std::fs::read_to_string("/sys/devices/system/cpu/offline").ok()?;
    let cpu = list.trim().split(['-', ',']).next()?.parse().ok()?;
    std::path::Path::new(&cpu_switch(cpu))
        .exists()
        .then_some(cpu)
}

/// The file that turns a cpu on and off.
#[must_use]
pub fn cpu_switch(cpu: u32) -> String {
    format!("/sys/devices/system/cpu/cpu{cpu}/online")
}

/// Test binaries are one level below the programs.
fn named_or_beside_us(variable: &str, program: &str) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Ok(path.into());
    }
    let us = std::env::current_exe().context("this program has no path")?;
    let dir = us.parent().context("this program has no directory")?;
    let dir = if dir.ends_with("deps") {
        dir.parent().unwrap_or(dir)
    } else {
        dir
    };
    Ok(dir.join(program))
}
