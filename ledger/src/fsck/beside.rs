//! The tree that lies beside the log, held against the one that is put together here. It is no evidence:
//! what is wrong in it makes proofs slow, and nothing else.

use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use super::stretch::BLOCK;
use crate::disk::{self, ReadFile};
use crate::error::Error;
use crate::hash::Hash;
use crate::layout;

const PLACE_BYTES: usize = 12;

/// What is told with everything that is wrong in it.
const REMEDY: &str = "nothing signed is lost by it, and the next start of the writer puts it right";

/// Of a file that is no evidence, this is no reason to judge nothing else.
const UNREAD: Option<&str> = Some("it cannot be read");

/// The file, read along with the log.
pub(super) struct Beside {
    path: PathBuf,
    input: Option<BufReader<ReadFile>>,
    /// Blocks that must be there: those of all leaves that a checkpoint covers.
    blocks: u64,
    /// The block that is put together, and where it stands in the file.
    block: u64,
    offset: u64,
    /// Where its first leaf stands, if that can still be read.
    place: Option<u64>,
    /// The roots over it and over what it completes.
    hashes: Vec<u8>,
    wrong: Option<Wrong>,
}

/// The first thing that is wrong.
pub(super) struct Wrong {
    block: u64,
    offset: u64,
    place: Option<u64>,
    hashes: Vec<u8>,
    cause: &'static str,
}

impl Beside {
    /// The tree beside a log of which a checkpoint covers `sealed` leaves: one that was signed before
    /// the tree is opened.
    pub(super) fn open(dir: &Path, sealed: u64) -> Result<Beside, Error> {
        let path = layout::tree(dir);
        let input = match disk::open(&path) {
            Ok(file) => Some(BufReader::new(file)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(Error::io("open", &path)(e)),
        };
        Ok(Beside {
            path,
            input,
            blocks: sealed / BLOCK,
            block: 0,
            offset: 0,
            place: None,
            hashes: Vec::new(),
            wrong: None,
        })
    }

    pub(super) fn is_there(&self) -> bool {
        self.input.is_some()
    }

    /// A leaf stands at this byte of its segment.
    pub(super) fn place(&mut self, leaf: u64, offset: u64) {
        if leaf.is_multiple_of(BLOCK) {
            self.place = Some(offset);
        }
    }

    /// A subtree of whole blocks is complete.
    pub(super) fn node(&mut self, hash: Hash) {
        self.hashes.extend_from_slice(&hash.0);
    }

    /// Between two leaves: the log has so many.
    pub(super) fn at_size(&mut self, size: u64) {
        if size / BLOCK == self.block {
            return;
        }
        let (place, hashes) = (self.place.take(), std::mem::take(&mut self.hashes));
        if self.block < self.blocks && self.wrong.is_none() {
            let cause = match &mut self.input {
                Some(input) => held(input, self.block, place, &hashes).unwrap_or(UNREAD),
                None => Some("the file is missing"),
            };
            self.wrong = cause.map(|cause| Wrong {
                block: self.block,
                offset: self.offset,
                place,
                hashes: hashes.clone(),
                cause,
            });
        }
        self.block += 1;
        self.offset += (PLACE_BYTES + hashes.len()) as u64;
        self.hashes = hashes;
        self.hashes.clear();
    }

    /// What is wrong. A writer that starts meanwhile may have put it right.
    pub(super) fn finish(self) -> Result<Option<String>, Error> {
        let Some(wrong) = self.wrong else {
            return Ok(None);
        };
        let still = match disk::open(&self.path) {
            Ok(file) => wrong.is_still(file),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(e) => Err(e),
        };
        let still = still.map_err(Error::io("read", &self.path))?;
        Ok(still.then(|| wrong.told(&self.path)))
    }
}

impl Wrong {
    fn is_still(&self, mut file: ReadFile) -> io::Result<bool> {
        io::Seek::seek(&mut file, io::SeekFrom::Start(self.offset))?;
        let cause = held(&mut file, self.block, self.place, &self.hashes);
        Ok(cause.unwrap_or(UNREAD).is_some())
    }

    fn told(&self, path: &Path) -> String {
        let (path, block, cause) = (path.display(), self.block, self.cause);
        let (first, offset) = (block * BLOCK, self.offset);
        format!(
            "{path} at byte {offset}: block {block}, of entries {first} to {}: {cause}; {REMEDY}",
            first + BLOCK - 1
        )
    }
}

/// What is wrong with the block that is read next.
fn held(
    input: &mut impl Read,
    block: u64,
    place: Option<u64>,
    hashes: &[u8],
) -> io::Result<Option<&'static str>> {
    let mut found = vec![0; PLACE_BYTES + hashes.len()];
    match input.read_exact(&mut found) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
            return Ok(Some("the file ends before it"));
        }
        read => read?,
    }
    let (found_place, found_hashes) = found.split_at(PLACE_BYTES);
    let (offset, crc) = found_place.split_at(8);
    let sum = crc32c::crc32c_append(crc32c::crc32c(&block.to_le_bytes()), offset);
    let is_there = |place: u64| place.to_le_bytes() == offset;
    Ok(match found_hashes == hashes {
        false => Some("its hashes are not those of the log"),
        true if sum.to_le_bytes() != crc => Some("the checksum of its place does not match"),
        true if !place.is_none_or(is_there) => {
            Some("its place is not where its first entry stands")
        }
        true => None,
    })
}
