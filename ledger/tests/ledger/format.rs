//! Every byte in `docs/ledger-format.md`, section "A whole log", is what a ledger writes.

use std::fs;

use ledger::segment::Header;
use ledger::{Ledger, Options};

use crate::support::verify;

const DOCUMENT: &str = include_str!("../../../docs/ledger-format.md");

/// The fenced block that follows the line **`name`**.
fn block(name: &str) -> &'static str {
    let (_, after) = DOCUMENT.split_once(&format!("**`{name}`**")).unwrap();
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

#[test]
fn the_documented_log_is_what_is_written() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("ledger.key"), block("ledger.key")).unwrap();
    let options = Options {
        clock: || 1_700_000_000,
        ..Options::new("ignored: the key has the name")
    };
    // The nonce is random, so the documented one, with its header, takes the place of the first.
    drop(Ledger::open(dir.path(), &options).unwrap());
    let first = dir.path().join("entries/0000000000000000.seg");
    fs::write(&first, documented_header()).unwrap();
    let (mut ledger, _) = Ledger::open(dir.path(), &options).unwrap();
    ledger.append(b"alpha").unwrap();
    ledger.append(b"").unwrap();
    ledger.commit().unwrap();
    ledger.append(b"gamma").unwrap();
    ledger.checkpoint().unwrap();
    let proof = ledger.prove(2, None).unwrap().to_string();
    let segment = fs::read(&first).unwrap();
    let text = |name| fs::read_to_string(dir.path().join(name)).unwrap();
    if std::env::var_os("LEDGER_SHOW_GOLDEN").is_some() {
        eprintln!("{}\n{}", hex_lines(&segment), text("ledger.pub"));
        eprintln!("{}\n{proof}", text("checkpoints.txt"));
    }
    assert_eq!(hex_lines(&segment), block("entries/0000000000000000.seg"));
    assert_eq!(text("ledger.pub"), block("ledger.pub"));
    assert_eq!(text("last-checkpoint"), block("last-checkpoint"));
    assert_eq!(
        text("checkpoints.txt"),
        block("checkpoints.txt").to_owned() + "\n"
    );
    assert_eq!(proof, block("2.tlog-proof"));
    ledger.close().unwrap();
    verify(dir.path()).unwrap();
}
