//! Where things are: the programs under test, and reasons why a scenario cannot run here.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

/// Names the `daemoneye` to test.
pub const BIN_VARIABLE: &str = "DAEMONEYE_BIN";
/// Names the workload program where it is not beside the test.
pub const WORKLOAD_VARIABLE: &str = "DAEMONEYE_WORKLOAD";
/// Set where kernel scenarios must run: a reason to skip is then a failure.
pub const REQUIRE_VARIABLE: &str = "DAEMONEYE_REQUIRE_KERNEL";

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
    run_unless(reason_to_skip())
}

/// Likewise for scenarios of the process connector.
///
/// # Panics
/// They cannot although [`REQUIRE_VARIABLE`] says that they must.
#[must_use]
#[track_caller]
pub fn connector_scenarios_run() -> bool {
    let root = crate::is_root();
    let reason = (!root).then(|| "these scenarios need root".into());
    run_unless(reason.or_else(|| daemoneye().err().map(|error| error.to_string())))
}

#[track_caller]
fn run_unless(reason: Option<String>) -> bool {
    let Some(reason) = reason else {
        return true;
    };
    let test = std::panic::Location::caller();
    assert!(
        std::env::var_os(REQUIRE_VARIABLE).is_none(),
        "this test must run, but {reason}"
    );
    // One write, past libtest's capture, so that lines of parallel tests stay whole.
    let line = format!("skipped: {}:{}: {reason}\n", test.file(), test.line());
    let _ = std::io::stderr().write_all(line.as_bytes());
    false
}

fn reason_to_skip() -> Option<String> {
    if !crate::is_root() {
        return Some("loading eBPF programs needs root".into());
    }
    if !std::path::Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Some("this kernel has no BTF (/sys/kernel/btf/vmlinux)".into());
    }
    daemoneye().err().map(|error| error.to_string())
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
