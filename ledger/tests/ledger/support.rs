use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ledger::{Damage, Error, Hash, Ledger, Options, Recovery, Report, VerifyOptions};

pub(crate) fn options() -> Options {
    Options::new("daemoneye/test")
}

pub(crate) fn small_segments() -> Options {
    Options {
        segment_bytes: 300,
        ..options()
    }
}

pub(crate) fn open(dir: &Path) -> Ledger {
    Ledger::open(dir, &options()).unwrap().0
}

pub(crate) fn recovered(dir: &Path) -> Recovery {
    Ledger::open(dir, &options()).unwrap().1
}

/// The chain value after `leaf`, as the format says.
pub(crate) fn chained(before: [u8; 32], leaf: &[u8]) -> Hash {
    let leaf = blake3::hash(&[b"\0", leaf].concat());
    let input = [before, *leaf.as_bytes()].concat();
    Hash(*blake3::keyed_hash(b"daemoneye ledger chain, format 1", &input).as_bytes())
}

/// A leaf that differs from all others and has a length of its own.
pub(crate) fn leaf(index: u64) -> Vec<u8> {
    let mut leaf = format!("leaf {index} ").into_bytes();
    leaf.resize(leaf.len() + usize::try_from(index % 7).unwrap(), b'.');
    leaf
}

/// Appends up to `size` leaves in total, `batch` per commit.
pub(crate) fn grow(ledger: &mut Ledger, size: u64, batch: u64) {
    while ledger.size() < size {
        let index = ledger.append(&leaf(ledger.size())).unwrap();
        if (index + 1).is_multiple_of(batch) {
            ledger.commit().unwrap();
        }
    }
    ledger.commit().unwrap();
}

pub(crate) fn verify(dir: &Path) -> Result<Report, Error> {
    ledger::verify(dir, VerifyOptions::default())
}

/// The damage that verification finds.
pub(crate) fn damage(dir: &Path) -> Damage {
    match verify(dir) {
        Err(Error::Damaged(damage)) => *damage,
        other => panic!("not found damaged: {other:?}"),
    }
}

pub(crate) fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir.join("entries"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|name| name == "seg"))
        .collect();
    files.sort();
    files
}

/// The first leaf of a segment, by its name.
pub(crate) fn first_of(segment: &Path) -> u64 {
    let name = segment.file_stem().unwrap().to_str().unwrap();
    u64::from_str_radix(name, 16).unwrap()
}

pub(crate) fn last_segment(dir: &Path) -> PathBuf {
    segments(dir).pop().unwrap()
}

/// Writes a key file, which must be its owner's alone.
pub(crate) fn write_secret(file: &Path, bytes: impl AsRef<[u8]>) {
    fs::write(file, bytes).unwrap();
    #[cfg(unix)]
    fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

/// Copies a ledger that no writer holds, or holds still.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Says, past libtest's capture, why a test did not run; `cargo xtask test` counts these lines.
#[track_caller]
pub(crate) fn skipped(reason: impl fmt::Display) {
    let test = std::panic::Location::caller();
    let line = format!("skipped: {}:{}: {reason}\n", test.file(), test.line());
    let _ = io::stderr().write_all(line.as_bytes());
}
