//! Holds the promises about which crate knows which: the table of ARCHITECTURE.md as data, checked
//! against `cargo metadata`, and where unsafe code may be.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::shell;

/// A crate of the workspace.
struct Crate {
    name: &'static str,
    /// Depends on lower ranks only. Tools have none: nothing ranked depends on them.
    rank: Option<u8>,
    /// The crates of the workspace that it may depend on.
    may: &'static [&'static str],
    /// Computes and nothing else: no operating system, clock, thread or file.
    pure: bool,
}

const fn ranked(name: &'static str, rank: u8, may: &'static [&'static str]) -> Crate {
    Crate {
        name,
        rank: Some(rank),
        may,
        pure: false,
    }
}

const fn pure(name: &'static str, rank: u8, may: &'static [&'static str]) -> Crate {
    Crate {
        name,
        rank: Some(rank),
        may,
        pure: true,
    }
}

const fn tool(name: &'static str, may: &'static [&'static str]) -> Crate {
    Crate {
        name,
        rank: None,
        may,
        pure: false,
    }
}

const CRATES: [Crate; 13] = [
    pure("event", 0, &[]),
    pure("sensor-ebpf", 0, &[]),
    ranked("ledger", 0, &[]),
    ranked("sensor-linux", 1, &["event", "sensor-ebpf"]),
    ranked("sensor-windows", 1, &["event"]),
    ranked("sensor-macos", 1, &["event"]),
    ranked("sensor-fallback", 1, &["event"]),
    pure("detect", 1, &["event"]),
    ranked("pipeline", 2, &["event", "ledger"]),
    ranked("agent", 2, &["event", "detect"]),
    ranked(
        "cli",
        3,
        &[
            "event",
            "ledger",
            "sensor-linux",
            "sensor-windows",
            "sensor-macos",
            "sensor-fallback",
            "detect",
            "pipeline",
            "agent",
        ],
    ),
    tool("xtask", &["event", "vm"]),
    tool("vm", &["event"]),
];

/// What a pure crate cannot want.
const IMPURE: [&str; 14] = [
    "aya",
    "caps",
    "crossbeam-channel",
    "endpoint-sec",
    "ferrisetw",
    "landlock",
    "libc",
    "mio",
    "nix",
    "redb",
    "rustix",
    "sysinfo",
    "tokio",
    "windows-sys",
];

/// Where unsafe code may be, as the start of a path; `*` is one crate name's rest.
const UNSAFE: [&str; 3] = ["sensor-ebpf/", "sensor-*/src/sys", "tests/vm/src/sys.rs"];

/// Checks everything; gives what was checked in one line.
pub(crate) fn check() -> Result<String> {
    let query = ["metadata", "--no-deps", "--format-version=1", "--locked"];
    let metadata: Value = serde_json::from_slice(&shell::output(&mut shell::cargo(query))?)?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata names no packages")?;
    let mut wrong: Vec<String> = packages.iter().flat_map(wrong_with).collect();
    let files = rust_files(shell::root())?;
    for file in &files {
        wrong.extend(wrong_unsafe(file)?);
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(format!(
        "{} crates, {} source files",
        packages.len(),
        files.len()
    ))
}

fn wrong_with(package: &Value) -> Vec<String> {
    let name = package["name"].as_str().unwrap_or_default();
    let Some(entry) = CRATES.iter().find(|entry| entry.name == name) else {
        return vec![format!(
            "crate {name} is not in the dependency table (xtask/src/deps.rs)"
        )];
    };
    let dependencies = package["dependencies"].as_array().into_iter().flatten();
    let names = dependencies.filter_map(|dependency| dependency["name"].as_str());
    names
        .filter_map(|dependency| wrong_dependency(entry, dependency))
        .collect()
}

fn wrong_dependency(of: &Crate, on: &str) -> Option<String> {
    let name = of.name;
    if of.pure && IMPURE.contains(&on) {
        return Some(format!(
            "{name} depends on {on}, but {name} is pure: no I/O, clock or threads"
        ));
    }
    let on = CRATES.iter().find(|entry| entry.name == on)?;
    if !of.may.contains(&on.name) {
        let may = if of.may.is_empty() {
            "none".to_owned()
        } else {
            of.may.join(", ")
        };
        return Some(format!(
            "{name} depends on {}; of our crates it may depend on: {may}",
            on.name
        ));
    }
    let upwards = of.rank.is_some() && of.rank <= on.rank;
    upwards.then(|| format!("{name} depends on {}, which has no lower rank", on.name))
}

fn wrong_unsafe(file: &Path) -> Result<Vec<String>> {
    let name = file
        .strip_prefix(shell::root())
        .unwrap_or(file)
        .to_string_lossy()
        .into_owned();
    if UNSAFE.iter().any(|pattern| matches(pattern, &name)) {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {name}"))?;
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| has_unsafe(line));
    let wrong = |(number, line): (usize, &str)| {
        format!(
            "{name}:{}: unsafe code belongs into a sys.rs: {}",
            number + 1,
            line.trim()
        )
    };
    Ok(lines.map(wrong).collect())
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => name.starts_with(pattern),
        Some((start, end)) => name
            .strip_prefix(start)
            .and_then(|rest| rest.find('/').map(|slash| &rest[slash..]))
            .is_some_and(|rest| rest.starts_with(end)),
    }
}

/// The keyword, or leave to use it; comments and strings aside.
fn has_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    // What is between quotes is every second part, on a line of its own at least.
    let code: String = code.split('"').step_by(2).collect();
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let mut words = code.split(|c| !word(c));
    words.any(|w| w == concat!("un", "safe"))
        || ["allow(", "expect("]
            .iter()
            .any(|leave| code.contains(&format!("{leave}{}", concat!("un", "safe_code"))))
}

fn rust_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))? {
            let path = entry?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                dirs.push(path);
            } else if name.ends_with(".rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::{CRATES, has_unsafe, matches, wrong_dependency};

    #[test]
    fn table_allows_what_is_below_and_nothing_else() {
        let check = |of: &str, on: &str, allowed: bool| {
            let of = CRATES.iter().find(|entry| entry.name == of).unwrap();
            assert_eq!(
                wrong_dependency(of, on).is_none(),
                allowed,
                "{} on {on}",
                of.name
            );
        };
        check("pipeline", "ledger", true);
        check("pipeline", "sensor-linux", false);
        check("detect", "ledger", false);
        check("event", "detect", false);
        check("event", "bytes", true);
        check("detect", "rustix", false);
        check("sensor-linux", "rustix", true);
        check("cli", "vm", false);
        for entry in CRATES {
            for on in entry.may {
                assert!(
                    wrong_dependency(&entry, on).is_none(),
                    "{} on {on}",
                    entry.name
                );
            }
        }
    }

    #[test]
    fn unsafe_is_found_in_code_and_not_in_words_about_it() {
        let check = |line: &str, expected| assert_eq!(has_unsafe(line), expected, "{line}");
        check("    unsafe { read(p) }", true);
        check("unsafe impl Send for X {}", true);
        check("#[unsafe(no_mangle)]", true);
        check("#![allow(unsafe_code, reason = \"raw\")]", true);
        check("// unsafe { no }", false);
        check(&format!("let text = {0}unsafe {{ no }}{0};", '"'), false);
        check("unsafe_code = deny", false);
    }

    #[test]
    fn unsafe_has_its_places() {
        let check = |name: &str, expected| {
            let found = super::UNSAFE.iter().any(|pattern| matches(pattern, name));
            assert_eq!(found, expected, "{name}");
        };
        check("sensor-ebpf/src/programs/exec.rs", true);
        check("sensor-linux/src/sys.rs", true);
        check("sensor-linux/src/ring.rs", false);
        check("tests/vm/src/sys.rs", true);
        check("cli/src/main.rs", false);
    }
}
