//! Entries of a segment in stretches, cut where their lengths tell and checked apart from each other.

use std::io::{self, Read};
use std::ops::Range;

use crate::error::Cause;
use crate::hash::{Hash, HashKind, chain_link, chain_next};
use crate::rotation::OWN_LEAF;

/// Bytes read, and checked, at once. Few in unit tests, so that these have several.
const STRETCH_BYTES: usize = if cfg!(test) { 1 << 10 } else { 1 << 20 };

const MAX_LEAF_BYTES: u32 = 1 << 20;
const HEAD_BYTES: usize = 8;
const CHAIN_BYTES: usize = 32;

/// Leaves below a node of level 8, which is hashed with the stretch that it is in.
pub(super) const BLOCK: u64 = 256;

/// Whole entries that follow each other.
#[derive(Default)]
pub(super) struct Stretch {
    bytes: Vec<u8>,
    /// Where each entry ends.
    ends: Vec<usize>,
}

impl Stretch {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Where the entry at `position` starts; for one past the last, where that ends.
    pub(super) fn start(&self, position: usize) -> usize {
        position.checked_sub(1).map_or(0, |last| self.ends[last])
    }

    /// The chain value that stands after the entry at `position`.
    pub(super) fn chain(&self, position: usize) -> Hash {
        let end = self.ends[position];
        Hash::read(&self.bytes[end - CHAIN_BYTES..]).expect("an entry ends with a chain value")
    }

    pub(super) fn leaf(&self, position: usize) -> &[u8] {
        let entry = self.start(position)..self.ends[position];
        &self.bytes[entry.start + HEAD_BYTES..entry.end - CHAIN_BYTES]
    }

    fn entry(&self, position: usize) -> &[u8] {
        &self.bytes[self.start(position)..self.ends[position]]
    }
}

/// The stretches of a segment, whose header was read.
pub(super) struct Stretches<R> {
    input: R,
    /// What was read of the next stretch.
    rest: Vec<u8>,
}

/// What is not whole after some entries.
enum Stop {
    /// Until there are so many bytes.
    Wants(usize),
    /// The length is none.
    Length(u32),
}

impl<R: Read> Stretches<R> {
    pub(super) fn new(input: R) -> Stretches<R> {
        Stretches {
            input,
            rest: Vec::new(),
        }
    }

    /// The next stretch, in the memory of `used`, and what is wrong with the entry after it if
    /// nothing can follow. Without entries at the end.
    pub(super) fn next(&mut self, used: Stretch) -> io::Result<(Stretch, Option<Cause>)> {
        let Stretch {
            mut bytes,
            mut ends,
        } = used;
        bytes.clear();
        bytes.append(&mut self.rest);
        let mut wanted = STRETCH_BYTES;
        loop {
            let room = wanted.saturating_sub(bytes.len());
            let mut input = self.input.by_ref().take(room as u64);
            let has_ended = input.read_to_end(&mut bytes)? < room;
            let stop = walk(&bytes, &mut ends);
            match stop {
                Stop::Length(word) => {
                    return Ok((Stretch { bytes, ends }, Some(Cause::Length(word))));
                }
                Stop::Wants(more) if ends.is_empty() && !has_ended => wanted = more,
                Stop::Wants(_) => {
                    self.rest = bytes.split_off(ends.last().copied().unwrap_or(0));
                    let is_cut = ends.is_empty() && !self.rest.is_empty();
                    let cause = is_cut.then_some(Cause::Truncated);
                    return Ok((Stretch { bytes, ends }, cause));
                }
            }
        }
    }
}

/// Finds where the whole entries in `bytes` end.
fn walk(bytes: &[u8], ends: &mut Vec<usize>) -> Stop {
    ends.clear();
    let mut at = 0;
    loop {
        let Some(word) = bytes[at..]
            .first_chunk()
            .filter(|_| bytes.len() - at >= HEAD_BYTES)
        else {
            return Stop::Wants(at + HEAD_BYTES);
        };
        let word = u32::from_le_bytes(*word);
        let len = word & 0x7fff_ffff;
        if len > MAX_LEAF_BYTES {
            return Stop::Length(word);
        }
        let len = usize::try_from(len).expect("a leaf's length is limited");
        let end = at + HEAD_BYTES + len + CHAIN_BYTES;
        if end > bytes.len() {
            return Stop::Wants(end);
        }
        ends.push(end);
        at = end;
    }
}

/// A stretch and what its entries are held against.
pub(super) struct Unchecked {
    pub(super) stretch: Stretch,
    /// Index of its first leaf.
    pub(super) first: u64,
    pub(super) hash: HashKind,
    pub(super) nonce: [u8; 8],
    /// The chain value that stands before it. It is checked with what it ends.
    pub(super) chain: Hash,
}

/// What the check of a stretch came to.
pub(super) struct Checked {
    pub(super) stretch: Stretch,
    first: u64,
    /// The leaf hash of each sound entry, up to the first that is not.
    pub(super) hashes: Vec<Hash>,
    /// The nodes over each whole, aligned block of them.
    blocks: Vec<Hash>,
    /// Where leaves of the ledger's own are.
    own: Vec<usize>,
    /// What is wrong with the first entry that is not sound.
    pub(super) bad: Option<Cause>,
}

impl Unchecked {
    pub(super) fn check(self) -> Checked {
        let (mut hashes, mut own, mut bad) = (Vec::new(), Vec::new(), None);
        let mut before = self.chain;
        for position in 0..self.stretch.len() {
            match self.link(position, before) {
                Ok(link) => {
                    let leaf = self.stretch.leaf(position);
                    if leaf.starts_with(OWN_LEAF) {
                        own.push(position);
                    }
                    hashes.push(self.hash.linked_leaf(link, leaf));
                    before = self.stretch.chain(position);
                }
                Err(cause) => {
                    bad = Some(cause);
                    break;
                }
            }
        }
        Checked {
            first: self.first,
            blocks: blocks(self.hash, self.first, &hashes),
            stretch: self.stretch,
            hashes,
            own,
            bad,
        }
    }

    /// The link of a sound entry, which continues `before`.
    fn link(&self, position: usize, before: Hash) -> Result<Hash, Cause> {
        let entry = self.stretch.entry(position);
        let (word, crc) = (&entry[..4], &entry[4..HEAD_BYTES]);
        let leaf = self.stretch.leaf(position);
        let sum = [&self.nonce[..], word, leaf]
            .iter()
            .fold(0, |sum, bytes| crc32c::crc32c_append(sum, bytes));
        if sum.to_le_bytes() != crc {
            return Err(Cause::Checksum);
        }
        let link = chain_link(leaf);
        match chain_next(before, link) == self.stretch.chain(position) {
            true => Ok(link),
            false => Err(Cause::Chain),
        }
    }
}

impl Checked {
    /// The node over the block that begins at `position`, if all of the block is here.
    pub(super) fn block(&self, position: usize) -> Option<Hash> {
        let leaf = self.first + position as u64;
        let number = leaf / BLOCK - self.first.div_ceil(BLOCK).min(leaf / BLOCK);
        let block = self.blocks.get(usize::try_from(number).ok()?);
        block.copied().filter(|_| leaf.is_multiple_of(BLOCK))
    }

    pub(super) fn is_own(&self, position: usize) -> bool {
        self.own.contains(&position)
    }

    /// Whether the ledger's own leaves are among these.
    pub(super) fn has_own(&self, positions: &Range<usize>) -> bool {
        self.own.iter().any(|own| positions.contains(own))
    }
}

/// The node over each aligned block of 256 that is whole.
fn blocks(kind: HashKind, first: u64, hashes: &[Hash]) -> Vec<Hash> {
    let skipped = usize::try_from(first.next_multiple_of(BLOCK) - first).expect("below 256");
    let whole = hashes.get(skipped..).unwrap_or_default();
    let blocks = whole.as_chunks::<{ BLOCK as usize }>().0;
    blocks.iter().map(|block| node(kind, block)).collect()
}

fn node(kind: HashKind, block: &[Hash; BLOCK as usize]) -> Hash {
    let mut level = *block;
    let mut len = level.len();
    while len > 1 {
        len /= 2;
        for at in 0..len {
            level[at] = kind.node(level[2 * at], level[2 * at + 1]);
        }
    }
    level[0]
}
