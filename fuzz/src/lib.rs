//! The log and the evidence that `docs/ledger-format.md` and `docs/evidence-format.md` print byte by
//! byte: what targets of the ledger start from, and the one log that they can be led to believe in.

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
    let hex = block("entries/0000000000000000.seg").replace('\n', "");
    let byte = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap();
    (0..hex.len() / 2).map(byte).collect()
}

/// Its keys, with both epochs.
pub fn keys() -> PublicKeys {
    PublicKeys::parse(&keys_text()).expect("the keys of the page")
}

/// As a bundle has them.
pub fn keys_text() -> String {
    format!("{}\n{}", block("ledger.pub"), block("rotations.txt"))
}
