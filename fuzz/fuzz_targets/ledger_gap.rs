//! What a log says of dropped leaves, alone and in the log of the page: no panic, one spelling, and
//! `verify` calls a log intact only with what was signed and left.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use ledger::{Ledger, Options, PublicKeys, Reader, Retention, VerifyOptions};
use libfuzzer_sys::fuzz_target;

/// That log has epoch 0 alone.
static KEYS: LazyLock<PublicKeys> =
    LazyLock::new(|| PublicKeys::parse(fuzz::block("ledger.pub")).unwrap());

const REMAINS: &str = "entries/0000000000000000.tree";

/// The log of the page that dropped its first segment.
static DIR: LazyLock<PathBuf> = LazyLock::new(|| {
    let dir = fuzz::directory();
    fs::write(dir.join("ledger.key"), fuzz::block("the secret of epoch 0")).unwrap();
    let options = Options {
        segment_bytes: 1,
        clock: || 1_700_000_000,
        ..Options::new("the key has the name")
    };
    let (mut ledger, _) = Ledger::open(&dir, &options).unwrap();
    for leaf in &fuzz::leaves()[..2] {
        ledger.append(leaf).unwrap();
    }
    ledger.commit().unwrap();
    ledger.append(fuzz::leaves()[2]).unwrap();
    ledger.checkpoint().unwrap();
    let nothing = Retention {
        bytes: Some(0),
        seconds: None,
    };
    ledger.retain(&nothing, u64::MAX).unwrap();
    drop(ledger);
    // It is no evidence, and only costs time.
    fs::remove_file(dir.join("index.redb")).unwrap();
    assert_eq!(fs::read(dir.join("gaps.txt")).unwrap(), listed());
    assert_eq!(fs::read(dir.join(REMAINS)).unwrap(), remains());
    dir
});

fn listed() -> Vec<u8> {
    format!("{}\n", fuzz::block("gaps.txt")).into()
}

fn remains() -> Vec<u8> {
    fuzz::bytes(REMAINS)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&form, bytes)) = bytes.split_first() else {
        return;
    };
    ledger::fuzzing::remains(bytes);
    if let Ok(note) = std::str::from_utf8(bytes)
        && ledger::fuzzing::is_gap(note, &KEYS)
    {
        // Lines of other keys may follow.
        let signed = fuzz::block("gaps.txt").split_once("\n\n").unwrap().0;
        assert!(note.starts_with(signed), "{note}");
    }
    let (name, whole) = match form % 2 {
        0 => ("gaps.txt", listed()),
        _ => (REMAINS, remains()),
    };
    fs::write(DIR.join(name), bytes).unwrap();
    let report = ledger::verify(&DIR, VerifyOptions::default());
    let proof = ledger::prove(&DIR, 2, None);
    let leaf = Reader::open(&DIR).unwrap().read(2).unwrap();
    assert_eq!(leaf.as_deref(), Some(fuzz::leaves()[2]));
    if let Ok(report) = report {
        // A line of another key may follow, or a record cut short.
        assert!(bytes == whole || name == "gaps.txt");
        assert_eq!(report.kept_from(), 2);
    }
    if let Ok(proof) = proof {
        proof.verify(fuzz::leaves()[2], &KEYS).unwrap();
    }
    fs::write(DIR.join(name), whole).unwrap();
});
