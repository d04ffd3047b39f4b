//! Every byte in `docs/ledger-format.md`, section "A whole log", is what a ledger writes, and so is
//! the example in `docs/evidence-format.md`.

use std::fs;
use std::path::Path;
use std::process::Command;

use ledger::segment::Header;
use ledger::{Ledger, Options, PublicKeys, Reader, Retention, gather};

use crate::support::{skipped, verify, write_secret};

const DOCUMENT: &str = include_str!("../../../docs/ledger-format.md");
const EVIDENCE: &str = include_str!("../../../docs/evidence-format.md");

/// The fenced block that follows the line **`name`**.
fn block(name: &str) -> &'static str {
    block_of(DOCUMENT, name)
}

fn block_of(document: &'static str, name: &str) -> &'static str {
    let (_, after) = document.split_once(&format!("**`{name}`**")).unwrap();
    let (_, after) = after.split_once("```text\n").unwrap();
    after.split_once("```").unwrap().0
}

fn hex_lines(bytes: &[u8]) -> String {
    let line = |line: &[u8]| {
        line.iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    bytes.chunks(32).map(|bytes| line(bytes) + "\n").collect()
}

/// The segment header in the document, which must itself be what is written for its fields.
fn documented_header() -> [u8; Header::LEN] {
    let hex: String = block("entries/0000000000000000.seg").split('\n').collect();
    let byte = |at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap();
    let bytes: [u8; Header::LEN] = std::array::from_fn(byte);
    assert_eq!(Header::decode(&bytes).unwrap().encode(), bytes);
    bytes
}

fn options() -> Options {
    Options {
        clock: || 1_700_000_000,
        ..Options::new("ignored: the key has the name")
    }
}

/// The checkpoints of the document, and how many bytes they take up to the one of `size` leaves.
fn documented_checkpoints(size: u64) -> String {
    let all = block("checkpoints.txt").to_owned() + "\n";
    let last = all.find(&format!("daemoneye/golden\n{size}\n")).unwrap();
    let end = all[last..].find("=\n\ndaemoneye").map(|at| last + at + 3);
    all[..end.unwrap_or(all.len())].to_owned()
}

/// Up to the rotation, whose keys are random.
#[test]
fn the_documented_log_is_what_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let secret = block("the secret of epoch 0");
    write_secret(&dir.path().join("ledger.key"), secret);
    // The nonce is random, so the documented one, with its header, takes the place of the first.
    drop(Ledger::open(dir.path(), &options()).unwrap());
    let first = dir.path().join("entries/0000000000000000.seg");
    fs::write(&first, documented_header()).unwrap();
    let (mut ledger, _) = Ledger::open(dir.path(), &options()).unwrap();
    ledger.append(b"alpha").unwrap();
    ledger.append(b"").unwrap();
    ledger.commit().unwrap();
    ledger.append(b"gamma").unwrap();
    let last = ledger.checkpoint().unwrap();
    let segment = hex_lines(&fs::read(&first).unwrap()).replace('\n', "");
    let documented = block("entries/0000000000000000.seg").replace('\n', "");
    assert!(documented.starts_with(&segment));
    let text = |name| fs::read_to_string(dir.path().join(name)).unwrap();
    assert_eq!(text("ledger.pub"), block("ledger.pub"));
    assert_eq!(text("checkpoints.txt"), documented_checkpoints(3));
    assert!(text("checkpoints.txt").ends_with(&format!("{}\n", last.note())));
    ledger.close().unwrap();
    verify(dir.path()).unwrap();
}

/// All of it.
#[test]
fn the_documented_log_is_read_and_continued() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("entries")).unwrap();
    write_secret(&dir.path().join("ledger.key"), block("ledger.key"));
    for name in ["ledger.pub", "last-checkpoint"] {
        fs::write(dir.path().join(name), block(name)).unwrap();
    }
    for name in ["checkpoints.txt", "rotations.txt"] {
        fs::write(dir.path().join(name), block(name).to_owned() + "\n").unwrap();
    }
    let hex = block("entries/0000000000000000.seg").replace('\n', "");
    let byte = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap();
    let segment: Vec<u8> = (0..hex.len() / 2).map(byte).collect();
    let file = dir.path().join("entries/0000000000000000.seg");
    fs::write(&file, &segment).unwrap();
    let report = verify(dir.path()).unwrap();
    assert_eq!((report.entries, report.sealed), (4, 4));
    assert_eq!((report.checkpoints, report.keys.epoch()), (3, 1));
    let leaf = Reader::open(dir.path()).unwrap().read(3).unwrap().unwrap();
    assert_eq!(leaf, block("rotations.txt").as_bytes());
    let proof = ledger::prove(dir.path(), 2, None).unwrap();
    assert_eq!(proof.to_string(), block("2.tlog-proof"));
    proof.verify(b"gamma", &report.keys).unwrap();
    check_evidence(dir.path(), &report.keys);

    let (ledger, recovery) = Ledger::open(dir.path(), &options()).unwrap();
    assert_eq!((recovery.entries, recovery.cut_bytes), (4, 0));
    ledger.close().unwrap();
    assert_eq!(fs::read(&file).unwrap(), segment);
    assert_eq!(verify(dir.path()).unwrap().checkpoints, 3);
}

fn check_evidence(dir: &Path, keys: &PublicKeys) {
    let evidence = gather(dir, &[0, 2].into(), None, None).unwrap();
    evidence.verify(keys, None).unwrap();
    let zip = evidence.to_zip().unwrap();
    let archive = rawzip::ZipArchive::from_slice(&zip).unwrap();
    let file = |name: &str| {
        let mut entries = archive.entries();
        while let Some(entry) = entries.next_entry().unwrap() {
            if entry.file_path().as_bytes() == name.as_bytes() {
                let found = archive.get_entry(entry.wayfinder()).unwrap();
                return String::from_utf8(found.data().to_vec()).unwrap();
            }
        }
        panic!("{name} is not there")
    };
    let documented = |name| block_of(EVIDENCE, name);
    assert_eq!(file("proof.txt"), documented("proof.txt"));
    assert_eq!(file("consistency/3"), documented("consistency/3"));
    assert_eq!(file("checkpoint.txt"), block("last-checkpoint"));
    let keys = format!("{}\n{}", block("ledger.pub"), block("rotations.txt"));
    assert_eq!(file("keys.txt"), keys);
    assert_eq!(
        (file("leaves/0"), file("leaves/2")),
        ("alpha".into(), "gamma".into())
    );
}

/// The pages say what a program that shares nothing with this one makes of them.
#[test]
fn the_pages_are_what_another_program_computes() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden.py");
    match Command::new("python3").arg(script).arg("--check").output() {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(e) => skipped(format_args!("python3 does not run: {e}")),
    }
}

/// 512 empty leaves.
#[test]
fn the_documented_tree_is_what_is_written() {
    let dir = tempfile::tempdir().unwrap();
    write_secret(
        &dir.path().join("ledger.key"),
        block("the secret of epoch 0"),
    );
    let (mut ledger, _) = Ledger::open(dir.path(), &options()).unwrap();
    for _ in 0..512 {
        ledger.append(b"").unwrap();
    }
    ledger.close().unwrap();
    let tree = fs::read(dir.path().join("tree")).unwrap();
    assert_eq!(hex_lines(&tree), block("tree"));
}

/// The first segment of three.
#[test]
fn the_documented_gap_is_what_is_written() {
    let dir = tempfile::tempdir().unwrap();
    write_secret(
        &dir.path().join("ledger.key"),
        block("the secret of epoch 0"),
    );
    let options = Options {
        segment_bytes: 1,
        ..options()
    };
    let (mut ledger, _) = Ledger::open(dir.path(), &options).unwrap();
    ledger.append(b"alpha").unwrap();
    ledger.append(b"").unwrap();
    ledger.commit().unwrap();
    ledger.append(b"gamma").unwrap();
    ledger.checkpoint().unwrap();
    let all = Retention {
        bytes: Some(0),
        seconds: None,
    };
    ledger.retain(&all, u64::MAX).unwrap();
    let file = |name| fs::read(dir.path().join(name)).unwrap();
    let gaps = block("gaps.txt");
    assert_eq!(file("gaps.txt"), format!("{gaps}\n").as_bytes());
    assert_eq!(ledger.reader().read(3).unwrap().unwrap(), gaps.as_bytes());
    let remains = "entries/0000000000000000.tree";
    assert_eq!(hex_lines(&file(remains)), block(remains));
    drop(ledger);
    assert_eq!(verify(dir.path()).unwrap().kept_from(), 2);
}
