//! The tree as a plain file, for who proves leaves while the writer has the index locked: every
//! subtree of whole blocks at a place that its number tells, so that a proof takes a few reads.
//! `docs/ledger-format.md` draws it.
//!
//! It is no evidence. What is read of it is held against what was signed by whoever uses it.

use std::io::{self, BufReader, Read};
use std::iter::Peekable;
use std::path::{Path, PathBuf};

use crate::disk::{self, Access, AppendFile, ReadFile};
use crate::error::{Cause, Error};
use crate::hash::{Hash, HashKind};
use crate::index::LeafPlace;
use crate::layout;
use crate::prove::Known;
use crate::remains::{self, BLOCK};
use crate::tiles::{TILE_HEIGHT, Tile};
use crate::tree::{Frontier, Node};

/// Where a block begins, and the checksum of that.
const PLACE_BYTES: u64 = 12;
const HASH_BYTES: u64 = Hash::LEN as u64;

/// Buffered bytes that are handed to the OS.
const WRITE_BYTES: usize = 1 << 20;

/// Bytes that a start reads at once.
const READ_BYTES: usize = 256 << 10;

/// Blocks whose roots are in one tile.
const TILE_WIDTH: u64 = 1 << TILE_HEIGHT;

/// Subtrees of whole blocks that end in the first `blocks` blocks.
fn nodes_in(blocks: u64) -> u64 {
    2 * blocks - u64::from(blocks.count_ones())
}

/// Bytes of the file for so many blocks.
fn len_of(blocks: u64) -> u64 {
    PLACE_BYTES * blocks + HASH_BYTES * nodes_in(blocks)
}

/// Blocks that a file of so many bytes has whole.
fn blocks_in(len: u64) -> u64 {
    let least = len / (PLACE_BYTES + 2 * HASH_BYTES);
    let whole = (least..).take_while(|&blocks| len_of(blocks) <= len);
    whole.last().unwrap_or(least)
}

/// Where the hash of a node of level 8 or more stands; `None` for one that no file is long enough for.
fn offset_of(node: Node) -> Option<u64> {
    let height = node.level.checked_sub(TILE_HEIGHT)?;
    let blocks = node.index.checked_add(1)?.checked_mul(1 << height)?;
    let fits = blocks < u64::MAX >> TILE_HEIGHT;
    fits.then(|| len_of(blocks - 1) + PLACE_BYTES + HASH_BYTES * u64::from(height))
}

/// Where block number `block` begins, in its segment, as the file has it.
fn place_bytes(block: u64, offset: u64) -> [u8; PLACE_BYTES as usize] {
    let mut bytes = [0; PLACE_BYTES as usize];
    bytes[..8].copy_from_slice(&offset.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&block.to_le_bytes()), &bytes[..8]);
    bytes[8..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The file, to be read.
#[derive(Debug)]
pub(crate) struct TreeFile {
    dir: PathBuf,
    file: ReadFile,
    len: u64,
}

impl TreeFile {
    pub(crate) fn open(dir: &Path) -> Result<TreeFile, Error> {
        let path = layout::tree(dir);
        let file = disk::open(&path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => Error::damaged(&path, 0, 0..0, Cause::Missing),
            _ => Error::io("open", &path)(e),
        })?;
        let len = file.len().map_err(Error::io("read", &path))?;
        let dir = dir.to_owned();
        Ok(TreeFile { dir, file, len })
    }

    fn read<const N: usize>(&self, offset: u64) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.file.read_exact_at(offset, &mut bytes)?;
        Ok(bytes)
    }

    fn place_of(&self, block: u64) -> io::Result<Option<u64>> {
        let read: [u8; PLACE_BYTES as usize] = self.read(len_of(block))?;
        let offset = u64::from_le_bytes(*read.first_chunk().expect("12 bytes"));
        Ok((read == place_bytes(block, offset)).then_some(offset))
    }
}

impl Known for TreeFile {
    fn subtree(&self, _: HashKind, node: Node) -> Result<Hash, Error> {
        let path = layout::tree(&self.dir);
        let short = || Error::damaged(&path, self.len, 0..0, Cause::Truncated);
        let offset = offset_of(node).ok_or_else(short)?;
        match self.read(offset) {
            Ok(hash) => Ok(Hash(hash)),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(short()),
            Err(e) => Err(Error::io("read", &path)(e)),
        }
    }

    /// That of the last whole block that begins at or before `leaf`.
    fn place(&self, leaf: u64) -> Result<Option<(u64, LeafPlace)>, Error> {
        let Some(last) = blocks_in(self.len).checked_sub(1) else {
            return Ok(None);
        };
        let block = last.min(leaf >> TILE_HEIGHT);
        let read = self.place_of(block);
        let offset = read.map_err(Error::io("read", &layout::tree(&self.dir)))?;
        let first = block << TILE_HEIGHT;
        // Its segment may be gone already, and an older one be left by a crash.
        if remains::end_of_dropped(&self.dir, first)?.is_some() {
            return Ok(None);
        }
        let segments = disk::segments(&self.dir)?;
        let segment = segments.into_iter().rfind(|segment| *segment <= first);
        let place = offset.zip(segment);
        Ok(place.map(|(offset, segment)| (first, LeafPlace { segment, offset })))
    }
}

/// The file, to be continued: the one that writes to it is the ledger's writer.
#[derive(Debug)]
pub(crate) struct GrowingTree {
    file: AppendFile,
    /// Of the blocks that it has.
    frontier: Frontier,
}

impl GrowingTree {
    /// Goes on from what the file has of the first `size` leaves, up to what is not as it is `known`.
    pub(crate) fn open(
        dir: &Path,
        (kind, size): (HashKind, u64),
        known: &impl KnownBlocks,
    ) -> Result<GrowingTree, Error> {
        let mut file = AppendFile::open(&layout::tree(dir), Access::Owner)?;
        let frontier = sound(dir, (kind, size >> TILE_HEIGHT), known)?;
        let len = len_of(frontier.size() >> TILE_HEIGHT);
        // What a run that was killed left behind it, or what is not of this log.
        if file.len() > len {
            file.cut(len)?;
        }
        Ok(GrowingTree { file, frontier })
    }

    /// Adds the blocks that end in the first `size` leaves, durably. `block` tells the root of the one
    /// that begins with a leaf, and where it begins in its segment.
    pub(crate) fn extend(
        &mut self,
        size: u64,
        mut block: impl FnMut(u64) -> Result<(Hash, u64), Error>,
    ) -> Result<(), Error> {
        let last = self.frontier.size();
        let mut bytes = Vec::new();
        while size - self.frontier.size() >= BLOCK {
            let first = self.frontier.size();
            let (root, offset) = block(first)?;
            bytes.extend_from_slice(&place_bytes(first >> TILE_HEIGHT, offset));
            self.frontier.push_subtree(TILE_HEIGHT, root, |_, hash| {
                bytes.extend_from_slice(&hash.0);
            });
            if bytes.len() >= WRITE_BYTES {
                self.file.write(&bytes)?;
                bytes.clear();
            }
        }
        if self.frontier.size() > last {
            self.file.write(&bytes)?;
            // Before the index says that it covers these leaves: the next start goes on from there.
            self.file.sync()?;
        }
        Ok(())
    }
}

/// What is known of whole blocks, to hold the file against.
pub(crate) trait KnownBlocks {
    /// The roots over the 256 blocks from that number on, or over those of them that there are.
    fn roots(&self, first: u64) -> Result<Tile, Error>;

    /// Leaves that are kept and begin a block, and where in their segments, ascending.
    fn starts(&self) -> Result<impl Iterator<Item = Result<(u64, u64), Error>>, Error>;
}

/// The frontier after the first of `blocks` blocks that the file has as they are known. All of them are
/// read: a power loss can leave holes in what was not synced, and a disk anywhere.
fn sound(
    dir: &Path,
    (kind, blocks): (HashKind, u64),
    known: &impl KnownBlocks,
) -> Result<Frontier, Error> {
    let path = layout::tree(dir);
    let file = disk::open(&path).map_err(Error::io("open", &path))?;
    let mut file = BufReader::with_capacity(READ_BYTES, file);
    let mut starts = known.starts()?.peekable();
    let (mut frontier, mut roots) = (Frontier::new(kind), Tile::new());
    for block in 0..blocks {
        if block.is_multiple_of(TILE_WIDTH) {
            roots = known.roots(block)?;
        }
        let root = roots.get(usize::try_from(block % TILE_WIDTH).expect("below 256"));
        let Some(&root) = root else {
            break;
        };
        let (mut next, mut hashes) = (frontier.clone(), Vec::new());
        next.push_subtree(TILE_HEIGHT, root, |_, hash| {
            hashes.extend_from_slice(&hash.0);
        });
        let start = start_of(&mut starts, block << TILE_HEIGHT)?;
        // What cannot be read is written anew as well: all of it is known.
        let found = read_block(&mut file, hashes.len()).unwrap_or(None);
        match found.filter(|found| is_block(found, block, start, &hashes)) {
            Some(_) => frontier = next,
            None => break,
        }
    }
    Ok(frontier)
}

/// Where a leaf begins, if that is among the `starts`, which ascend: those before it are passed.
fn start_of(
    starts: &mut Peekable<impl Iterator<Item = Result<(u64, u64), Error>>>,
    leaf: u64,
) -> Result<Option<u64>, Error> {
    while let Some(start) = starts.peek() {
        match start {
            Ok((first, _)) if *first > leaf => break,
            Ok((first, offset)) if *first == leaf => return Ok(Some(*offset)),
            _ => drop(starts.next().transpose()?),
        }
    }
    Ok(None)
}

/// The bytes of the next block, whose hashes take so many; `None` where the file ends before.
fn read_block(file: &mut impl Read, hashes: usize) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; place_bytes(0, 0).len() + hashes];
    match file.read_exact(&mut bytes) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        read => read.map(|()| Some(bytes)),
    }
}

/// Whether these are the bytes of a block, which begins at `start` if that is known.
fn is_block(bytes: &[u8], block: u64, start: Option<u64>, hashes: &[u8]) -> bool {
    let Some((place, rest)) = bytes.split_first_chunk() else {
        return false;
    };
    let found = u64::from_le_bytes(*place.first_chunk().expect("12 bytes"));
    *place == place_bytes(block, start.unwrap_or(found)) && rest == hashes
}

#[cfg(all(test, unix))]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::crash::disk::{Simulation, temporary_dir};

    /// A few less were counted, so that a reader had to walk to a leaf of the last block over others.
    #[test]
    fn blocks_are_counted_to_the_last() {
        for blocks in (0..600).chain([u64::from(u32::MAX), 1 << 40]) {
            let (len, next) = (len_of(blocks), len_of(blocks + 1));
            assert_eq!([len, next - 1].map(blocks_in), [blocks; 2]);
        }
    }

    /// What an index would know of blocks whose roots are their numbers.
    struct Numbered(HashMap<Node, Hash>);

    impl Numbered {
        fn new(blocks: u64) -> Numbered {
            let (mut frontier, mut nodes) = (Frontier::new(HashKind::Blake3), HashMap::new());
            for block in 0..blocks {
                frontier.push_subtree(TILE_HEIGHT, root(block), |node, hash| {
                    nodes.insert(node, hash);
                });
            }
            Numbered(nodes)
        }
    }

    impl KnownBlocks for Numbered {
        fn roots(&self, first: u64) -> Result<Tile, Error> {
            let blocks = (first..first + TILE_WIDTH).map(|index| {
                let level = TILE_HEIGHT;
                self.0.get(&Node { level, index }).copied()
            });
            Ok(blocks.take_while(Option::is_some).flatten().collect())
        }

        fn starts(&self) -> Result<impl Iterator<Item = Result<(u64, u64), Error>>, Error> {
            Ok(std::iter::empty())
        }
    }

    fn root(block: u64) -> Hash {
        HashKind::Blake3.leaf(&block.to_le_bytes())
    }

    /// Its length alone would tell little: a page of it could be lost.
    #[test]
    fn what_was_added_outlasts_a_power_loss() {
        const BLOCKS: u64 = 500;
        let known = Numbered::new(BLOCKS);
        let open = |dir: &Path, blocks| {
            GrowingTree::open(dir, (HashKind::Blake3, blocks << TILE_HEIGHT), &known).unwrap()
        };
        for seed in 0..8 {
            let temporary = temporary_dir();
            let dir = temporary.path().join("ledger");
            let simulation = Simulation::start(temporary.path(), seed);
            disk::create_dir(&dir).unwrap();
            for blocks in [0, 1, 60, 61, 199, BLOCKS] {
                let mut tree = open(&dir, blocks / 2);
                let add = |first| Ok((root(first >> TILE_HEIGHT), 96));
                tree.extend(blocks << TILE_HEIGHT, add).unwrap();
                drop(tree);
                simulation.lose_all_unsynced();
                simulation.start_again();
                let tree = TreeFile::open(&dir).unwrap();
                assert_eq!(tree.len, len_of(blocks));
                let all = known.0.iter();
                for (node, hash) in all.filter(|(node, _)| node.leaves().end <= blocks << 8) {
                    assert_eq!(tree.subtree(HashKind::Blake3, *node).unwrap(), *hash);
                }
            }
        }
    }

    /// Drawn with the file: 4 blocks, of which the second completes a pair and the fourth two.
    #[test]
    fn nodes_stand_in_the_order_in_which_they_are_completed() {
        let at = |level, index| offset_of(Node { level, index });
        let expected = [
            (at(8, 0), 12),
            (at(8, 1), 56),
            (at(9, 0), 88),
            (at(8, 2), 132),
            (at(8, 3), 176),
            (at(9, 1), 208),
            (at(10, 0), 240),
            (at(8, 4), 284),
        ];
        for (found, offset) in expected {
            assert_eq!(found, Some(offset));
        }
        assert_eq!([0, 1, 2, 3, 4].map(len_of), [0, 44, 120, 164, 272]);
        assert_eq!(
            (at(7, 0), at(63, u64::MAX), at(8, u64::MAX >> 8)),
            (None, None, None)
        );
    }
}
