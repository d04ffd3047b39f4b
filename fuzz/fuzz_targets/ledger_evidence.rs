//! Evidence bundles: no panic, what is read is written to a bundle that reads the same, and what
//! verifies are leaves of the log.
#![no_main]

use std::io::Write;
use std::sync::LazyLock;

use ledger::{Evidence, PublicKeys};
use libfuzzer_sys::fuzz_target;
use rawzip::ZipArchiveWriter;

static KEYS: LazyLock<PublicKeys> = LazyLock::new(fuzz::keys);

/// What lies between two files.
const FILE: &[u8] = b"\n##\n";
/// What lies between a file's name and its bytes.
const NAME: &[u8] = b"\n#\n";

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    // The checksums of an archive are hard to hit: the files alone, and the archive made of them.
    if let Some(zip) = packed(bytes) {
        check(&zip);
    }
});

fn check(zip: &[u8]) {
    let Ok(evidence) = Evidence::from_zip(zip) else {
        return;
    };
    let again = evidence.to_zip().expect("it is no larger");
    assert_eq!(Evidence::from_zip(&again).as_ref(), Ok(&evidence));
    let old = fuzz::block("checkpoints.txt")
        .split_inclusive("=\n\n")
        .nth(1);
    for outside in [None, old.map(str::trim_end)] {
        let outside = outside.map(|note| format!("{note}\n"));
        let Ok(proven) = evidence.verify(&KEYS, outside.as_deref()) else {
            continue;
        };
        for (index, leaf) in proven.leaves {
            assert_eq!(fuzz::leaves()[index as usize], leaf);
        }
    }
}

fn packed(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut zip = ZipArchiveWriter::new(Vec::new());
    for file in split(bytes, FILE) {
        let mut parts = split(file, NAME);
        let name = std::str::from_utf8(parts.next()?).ok()?;
        let (mut entry, config) = zip.new_file(name).start().ok()?;
        let mut data = config.wrap(&mut entry);
        data.write_all(parts.next()?).ok()?;
        let (_, descriptor) = data.finish().ok()?;
        entry.finish(descriptor).ok()?;
    }
    zip.finish().ok()
}

fn split<'a>(bytes: &'a [u8], by: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let bytes = rest?;
        let at = bytes.windows(by.len()).position(|window| window == by);
        rest = at.map(|at| &bytes[at + by.len()..]);
        Some(&bytes[..at.unwrap_or(bytes.len())])
    })
}
