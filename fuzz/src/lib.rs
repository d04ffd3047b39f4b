//! The log and the evidence that `docs/ledger-format.md` and `docs/evidence-format.md` print byte by
//! byte: what targets of the ledger start from, and the one log that they can be led to believe in.

use std::fs;
use std::path::PathBuf;

use ledger::PublicKeys;

/// The fenced block of a page that follows the line **`name`**.
pub fn block(name: &str) -> &'static str {
    let pages = [
        include_str!("../../docs/ledger-format.md"),
        include_str!("../../docs/evidence-format.md"),
    ];
    let after = pages
        .iter()
        .find_map(|page| page.split_once(&format!("**`{name}`**")));
    let (_, after) = after
        .expect("a block of the pages")
        .1
        .split_once("```text\n")
        .unwrap();
    after.split_once("```").unwrap().0
}

/// The log's leaves.
pub fn leaves() -> [&'static [u8]; 4] {
    [b"alpha", b"", b"gamma", block("rotations.txt").as_bytes()]
}

/// The bytes of its segment.
pub fn segment() -> Vec<u8> {
    bytes("entries/0000000000000000.seg")
}

/// Those of a block in hexadecimal.
pub fn bytes(name: &str) -> Vec<u8> {
    let hex = block(name).replace('\n', "");
    let byte = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap();
    (0..hex.len() / 2).map(byte).collect()
}

/// A directory of this process, in memory where there is such a place.
pub fn directory() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    let place = if memory.is_dir() {
        memory
    } else {
        std::env::temp_dir()
    };
    let dir = place.join(format!("daemoneye-fuzz-{}", std::process::id()));
    // Left by another process of this number.
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// Its keys, with both epochs.
pub fn keys() -> PublicKeys {
    PublicKeys::parse(&keys_text()).expect("the keys of the page")
}

/// As a bundle has them.
pub fn keys_text() -> String {
    format!("{}\n{}", block("ledger.pub"), block("rotations.txt"))
}
