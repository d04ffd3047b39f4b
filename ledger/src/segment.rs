//! Segment files: a header, then one frame per leaf. `docs/ledger-format.md` draws both.
//!
//! The 32 bytes before any frame are the chain value that it continues, also for the first one:
//! the header ends with it. So a frame proves on its own that it belongs where it stands.

use std::io::{self, BufReader, Read, Seek, SeekFrom};

use crate::disk::ReadFile;
use crate::error::Cause;
use crate::hash::{Hash, HashKind, chain_link, chain_next};

/// Largest leaf, in bytes.
pub const MAX_LEAF_BYTES: usize = 1 << 20;

const MAX_LEAF_WORD: u32 = 1 << 20;

/// Set in the length word of the first frame of each commit. A commit is written only after the one
/// before it is durable, so a bad frame *followed* by a start was durable once: damage, not a tear.
const STARTS_COMMIT: u32 = 1 << 31;

const MAGIC: &[u8; 8] = b"DEYESEG\n";
const VERSION: u16 = 1;
const CRC: std::ops::Range<usize> = 12..16;
const CHUNK_BYTES: usize = 128 * 1024;

/// What a segment's header mixes into the checksums of its frames.
pub type Nonce = [u8; 8];

/// A segment's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The log's tree hash.
    pub hash: HashKind,
    /// Index of the segment's first leaf.
    pub first: u64,
    /// Random, and part of every frame's checksum: whoever writes a leaf cannot know it, and so
    /// cannot put bytes into a leaf that pass for a frame.
    pub nonce: Nonce,
    /// BLAKE3 of the origin.
    pub origin: Hash,
    /// The chain value that the first leaf continues.
    pub chain: Hash,
}

impl Header {
    /// Bytes in a header.
    pub const LEN: usize = 96;

    /// The header's bytes.
    pub fn encode(&self) -> [u8; Header::LEN] {
        let mut bytes = [0; Header::LEN];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[10] = self.hash.code();
        bytes[16..24].copy_from_slice(&self.first.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.nonce);
        bytes[32..64].copy_from_slice(&self.origin.0);
        bytes[64..].copy_from_slice(&self.chain.0);
        let crc = header_crc(&bytes);
        bytes[CRC].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header from the start of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Header, Cause> {
        let bytes: &[u8; Header::LEN] = bytes.first_chunk().ok_or(Cause::Truncated)?;
        if &bytes[..8] != MAGIC {
            return Err(Cause::Header("not a segment"));
        }
        if header_crc(bytes).to_le_bytes() != bytes[CRC] {
            return Err(Cause::Header("checksum does not match"));
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if version != VERSION {
            return Err(Cause::Version(version));
        }
        let hash = HashKind::from_code(bytes[10]).ok_or(Cause::Header("unknown hash"))?;
        let first = *bytes[16..].first_chunk().ok_or(Cause::Truncated)?;
        let nonce = *bytes[24..].first_chunk().ok_or(Cause::Truncated)?;
        let origin = Hash::read(&bytes[32..]).ok_or(Cause::Truncated)?;
        let chain = Hash::read(&bytes[64..]).ok_or(Cause::Truncated)?;
        Ok(Header {
            hash,
            first: u64::from_le_bytes(first),
            nonce,
            origin,
            chain,
        })
    }
}

fn header_crc(bytes: &[u8; Header::LEN]) -> u32 {
    let crc = crc32c::crc32c(&bytes[..CRC.start]);
    crc32c::crc32c_append(crc, &bytes[CRC.end..])
}

/// The first eight bytes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FrameHead {
    word: u32,
    crc: u32,
}

impl FrameHead {
    const LEN: usize = 8;

    fn read(bytes: [u8; FrameHead::LEN]) -> FrameHead {
        let [a, b, c, d, e, f, g, h] = bytes;
        let (word, crc) = (
            u32::from_le_bytes([a, b, c, d]),
            u32::from_le_bytes([e, f, g, h]),
        );
        FrameHead { word, crc }
    }

    fn leaf_len(self) -> Result<usize, Cause> {
        let len = self.word & !STARTS_COMMIT;
        let allowed = usize::try_from(len).ok().filter(|_| len <= MAX_LEAF_WORD);
        allowed.ok_or(Cause::Length(self.word))
    }

    fn check(self, nonce: Nonce, leaf: &[u8]) -> Result<(), Cause> {
        match frame_crc(nonce, self.word, leaf) == self.crc {
            true => Ok(()),
            false => Err(Cause::Checksum),
        }
    }
}

fn frame_crc(nonce: Nonce, word: u32, leaf: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&nonce), &word.to_le_bytes());
    crc32c::crc32c_append(crc, leaf)
}

/// One leaf as it stands in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The leaf.
    pub leaf: &'a [u8],
    /// The stored chain value after it.
    pub chain: Hash,
    /// Whether it is the first of a commit.
    pub starts_commit: bool,
}

impl<'a> Frame<'a> {
    /// Bytes that a frame adds to its leaf.
    pub const OVERHEAD: usize = FrameHead::LEN + Hash::LEN;

    /// Reads the frame at the start of `bytes`, checking its checksum but not its chain value.
    pub fn decode(nonce: Nonce, bytes: &'a [u8]) -> Result<Frame<'a>, Cause> {
        let (head, rest) = bytes.split_first_chunk().ok_or(Cause::Truncated)?;
        let head = FrameHead::read(*head);
        let (leaf, rest) = rest
            .split_at_checked(head.leaf_len()?)
            .ok_or(Cause::Truncated)?;
        head.check(nonce, leaf)?;
        let chain = Hash::read(rest).ok_or(Cause::Truncated)?;
        Ok(Frame {
            leaf,
            chain,
            starts_commit: head.word & STARTS_COMMIT != 0,
        })
    }

    /// Appends the frame to `out`. The leaf is at most [`MAX_LEAF_BYTES`] long.
    pub fn encode(&self, nonce: Nonce, out: &mut Vec<u8>) {
        let len = u32::try_from(self.leaf.len()).expect("leaf length was checked");
        let word = if self.starts_commit {
            len | STARTS_COMMIT
        } else {
            len
        };
        out.extend_from_slice(&word.to_le_bytes());
        out.extend_from_slice(&frame_crc(nonce, word, self.leaf).to_le_bytes());
        out.extend_from_slice(self.leaf);
        out.extend_from_slice(&self.chain.0);
    }
}

/// The bytes that a leaf of `len` bytes takes in a segment.
pub(crate) fn frame_bytes(len: usize) -> u64 {
    u64::try_from(len + Frame::OVERHEAD).expect("a leaf's length fits 64 bits")
}

/// What [`Scanner::next`] found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A sound leaf, now in [`Scanner::leaf`].
    Leaf,
    /// The end, exactly after a frame.
    End,
    /// The frame at [`Scanner::offset`] is not sound.
    Bad(Cause),
}

/// Reads a segment frame by frame, checking checksum and chain.
#[derive(Debug)]
pub(crate) struct Scanner {
    file: BufReader<ReadFile>,
    nonce: Nonce,
    offset: u64,
    limit: u64,
    chain: Hash,
    leaf: Vec<u8>,
    link: Hash,
    starts_commit: bool,
}

impl Scanner {
    /// Scans `file`, whose header holds `nonce`, from `offset`, where a frame starts, to `limit`.
    pub(crate) fn new(
        file: ReadFile,
        nonce: Nonce,
        offset: u64,
        limit: u64,
    ) -> io::Result<Scanner> {
        let file = BufReader::with_capacity(CHUNK_BYTES, file);
        let mut scanner = Scanner {
            file,
            nonce,
            offset,
            limit,
            chain: Hash([0; 32]),
            leaf: Vec::new(),
            link: Hash([0; 32]),
            starts_commit: false,
        };
        scanner.seek(offset)?;
        Ok(scanner)
    }

    /// Goes to `offset`, where a frame starts, and takes the chain value that stands before it.
    pub(crate) fn seek(&mut self, offset: u64) -> io::Result<()> {
        const BEFORE: u64 = 32;
        let start = offset
            .checked_sub(BEFORE)
            .ok_or(io::ErrorKind::InvalidInput)?;
        self.file.seek(SeekFrom::Start(start))?;
        self.file.read_exact(&mut self.chain.0)?;
        self.offset = offset;
        Ok(())
    }

    /// Where the next frame starts; after [`Step::Bad`], where the bad one does.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn nonce(&self) -> Nonce {
        self.nonce
    }

    /// How long the file is by now.
    pub(crate) fn file_len(&self) -> io::Result<u64> {
        self.file.get_ref().len()
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Lets the scanner see what was appended since.
    pub(crate) fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// The chain value after the last leaf.
    pub(crate) fn chain(&self) -> Hash {
        self.chain
    }

    pub(crate) fn leaf(&self) -> &[u8] {
        &self.leaf
    }

    /// Whether that leaf is the first of a commit.
    pub(crate) fn starts_commit(&self) -> bool {
        self.starts_commit
    }

    /// What the chain took in of that leaf.
    pub(crate) fn link(&self) -> Hash {
        self.link
    }

    /// Reads and checks the next frame.
    pub(crate) fn next(&mut self) -> io::Result<Step> {
        let Some(room) = self.limit.checked_sub(self.offset).filter(|&room| room > 0) else {
            return Ok(Step::End);
        };
        let cause = match self.frame(room) {
            Ok(Ok(())) => return Ok(Step::Leaf),
            Ok(Err(cause)) => cause,
            // Shorter than it was when `limit` was taken.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Cause::Truncated,
            Err(e) => return Err(e),
        };
        self.seek(self.offset)?;
        Ok(Step::Bad(cause))
    }

    fn frame(&mut self, room: u64) -> io::Result<Result<(), Cause>> {
        if room < frame_bytes(0) {
            return Ok(Err(Cause::Truncated));
        }
        let head = self.head()?;
        let len = match head.leaf_len() {
            Ok(len) => len,
            Err(cause) => return Ok(Err(cause)),
        };
        if room < frame_bytes(len) {
            return Ok(Err(Cause::Truncated));
        }
        self.leaf.resize(len, 0);
        self.file.read_exact(&mut self.leaf)?;
        let mut chain = Hash([0; 32]);
        self.file.read_exact(&mut chain.0)?;
        if let Err(cause) = head.check(self.nonce, &self.leaf) {
            return Ok(Err(cause));
        }
        self.link = chain_link(&self.leaf);
        if chain_next(self.chain, self.link) != chain {
            return Ok(Err(Cause::Chain));
        }
        self.chain = chain;
        self.starts_commit = head.word & STARTS_COMMIT != 0;
        self.offset += frame_bytes(len);
        Ok(Ok(()))
    }

    /// Steps over the next frame without reading its leaf. `false` at the end or where no frame
    /// can be; the frame's soundness is left to whoever reads what follows.
    pub(crate) fn skip(&mut self) -> io::Result<bool> {
        let room = self.limit.saturating_sub(self.offset);
        if room < frame_bytes(0) {
            return Ok(false);
        }
        let Ok(len) = self.head()?.leaf_len() else {
            return self.seek(self.offset).map(|()| false);
        };
        if room < frame_bytes(len) {
            return self.seek(self.offset).map(|()| false);
        }
        self.file
            .seek_relative(i64::try_from(len).expect("a leaf's length is limited"))?;
        self.file.read_exact(&mut self.chain.0)?;
        self.offset += frame_bytes(len);
        Ok(true)
    }

    fn head(&mut self) -> io::Result<FrameHead> {
        let mut head = [0; FrameHead::LEN];
        self.file.read_exact(&mut head)?;
        Ok(FrameHead::read(head))
    }
}

/// Whether a sound frame that starts a commit stands anywhere in `file` after the bad frame at
/// `from`, up to `limit`.
///
/// Decides what the bad frame is: with a commit after it, damage; without, the torn end of the last
/// write. `Ok(None)` when the bytes are built so that deciding would take too long.
pub(crate) fn commit_follows(
    file: &mut ReadFile,
    nonce: Nonce,
    from: u64,
    limit: u64,
) -> io::Result<Option<bool>> {
    const WINDOW: usize = 4 * (MAX_LEAF_BYTES + Frame::OVERHEAD);
    const STEP: usize = WINDOW - (MAX_LEAF_BYTES + Frame::OVERHEAD + Hash::LEN);
    let mut budget: u64 = 4 << 30;
    let mut start = from.saturating_sub(Hash::LEN as u64);
    let mut window = Vec::new();
    let mut is_first = true;
    loop {
        file.seek(SeekFrom::Start(start))?;
        window.clear();
        let room = limit.saturating_sub(start).min(WINDOW as u64);
        file.by_ref().take(room).read_to_end(&mut window)?;
        if is_first && continues_what_should_be(nonce, &window) {
            return Ok(Some(true));
        }
        // The bad frame itself is not looked at.
        for at in Hash::LEN + usize::from(is_first)..window.len() {
            let (before, frame) = window.split_at(at);
            if !starts_commit(frame) {
                continue;
            }
            match budget.checked_sub(frame_bytes(frame.len().min(MAX_LEAF_BYTES))) {
                Some(rest) => budget = rest,
                None => return Ok(None),
            }
            if is_commit(nonce, Hash::read(&before[at - Hash::LEN..]), frame) {
                return Ok(Some(true));
            }
        }
        if window.len() < WINDOW {
            return Ok(Some(false));
        }
        start += STEP as u64;
        is_first = false;
    }
}

/// Whether a commit follows a frame that is bad in its chain value alone: it continues the value
/// that should have stood there. `window` starts with the chain value before the bad frame.
fn continues_what_should_be(nonce: Nonce, window: &[u8]) -> bool {
    let Some((previous, frame)) = window.split_first_chunk() else {
        return false;
    };
    let Ok(bad) = Frame::decode(nonce, frame) else {
        return false;
    };
    let chain = chain_next(Hash(*previous), chain_link(bad.leaf));
    is_commit(
        nonce,
        Some(chain),
        &frame[bad.leaf.len() + Frame::OVERHEAD..],
    )
}

/// Whether `bytes` begin with a sound frame that starts a commit and continues `previous`.
fn is_commit(nonce: Nonce, previous: Option<Hash>, bytes: &[u8]) -> bool {
    let continues =
        |frame: Frame<'_>, previous| chain_next(previous, chain_link(frame.leaf)) == frame.chain;
    match (Frame::decode(nonce, bytes), previous) {
        (Ok(frame), Some(previous)) => frame.starts_commit && continues(frame, previous),
        _ => false,
    }
}

/// Whether `bytes` can begin a frame that starts a commit: a cheap first look.
fn starts_commit(bytes: &[u8]) -> bool {
    bytes.first_chunk().is_some_and(|&head| {
        let word = u32::from_le_bytes(head);
        word & STARTS_COMMIT != 0 && word & !STARTS_COMMIT <= MAX_LEAF_WORD
    })
}

/// Reads a segment's header.
pub(crate) fn read_header(file: &mut ReadFile) -> io::Result<Result<Header, Cause>> {
    let mut bytes = Vec::with_capacity(Header::LEN);
    file.seek(SeekFrom::Start(0))?;
    file.by_ref()
        .take(Header::LEN as u64)
        .read_to_end(&mut bytes)?;
    Ok(Header::decode(&bytes))
}
