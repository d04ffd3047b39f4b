//! The whole-log check. It shares nothing with the writer above hashing and signature checks: its
//! own segment reader, its own tree. Entries are checked and hashed by a thread for each processor; one
//! puts the tree together and holds it against what was signed.

mod beside;
mod checkers;
mod gaps;
mod index;
mod own_leaves;
mod rotations;
mod seals;
mod stretch;
#[cfg(test)]
mod tests;

use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::thread;

use crate::checkpoint::Checkpoint;
use crate::disk;
use crate::error::{Cause, Error};
use crate::gap::Gap;
use crate::hash::{Hash, HashKind, blake3_of, chain_start};
use crate::keys::PublicKeys;
use crate::layout;
use crate::note::NoteError;
use crate::outside;
use crate::published;
use crate::segment::commit_follows;
use crate::witness::{self, Cosignature, Witnesses};
use beside::Beside;
use checkers::Checkers;
use gaps::Gone;
use index::{Compared, Summary};
use seals::Seals;
use stretch::{BLOCK, Checked, Stretches, Unchecked};

const HEADER_BYTES: u64 = 96;
const BLOCK_HEIGHT: u32 = 8;

/// How to verify.
#[derive(Default)]
pub struct VerifyOptions<'a> {
    /// The keys to trust. Without them the log is held against those that lie beside it, which
    /// whoever rewrote the whole directory could have replaced too.
    pub keys: Option<PublicKeys>,
    /// The note of a checkpoint of this log that was kept elsewhere. The log must hold at least the
    /// leaves that it signed for, unchanged. Without one, whoever can write the files can take the
    /// log back to any checkpoint in it, and continue it from there: see [`Report::unsealed`].
    pub checkpoint: Option<String>,
    /// Witnesses that must have cosigned: the outside checkpoint or else the one that was carried
    /// back from them and lies beside the log.
    pub witnesses: Option<Witnesses>,
    /// How old the last checkpoint may be, and the cosignatures that are needed: theirs are other
    /// clocks than the log's.
    pub age: Option<Age>,
    /// Called now and then, and at the end, be that damage.
    pub progress: Option<&'a mut dyn FnMut(Progress)>,
}

/// A bound on the age of the last checkpoint. A writer that runs signs anew every few minutes, so an
/// old one means that it does not run, or that newer ones were removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Age {
    /// What time it is, in POSIX seconds.
    pub now: u64,
    /// How far the checkpoint's time may be from that, in seconds.
    pub seconds: u64,
}

impl Age {
    /// Whether a checkpoint is of that age.
    pub fn check(self, last: &Checkpoint) -> Result<(), Error> {
        match self.allows(last.time()) {
            true => Ok(()),
            false => Err(Error::Stale {
                signed_at: last.time(),
                now: self.now,
                seconds: self.seconds,
            }),
        }
    }

    pub(crate) fn allows(self, time: u64) -> bool {
        time.abs_diff(self.now) <= self.seconds
    }
}

/// How far a verification has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Leaves verified.
    pub entries: u64,
    /// Leaves of these that a checkpoint covers: they are those that were signed for.
    pub sealed: u64,
    /// Bytes of segments verified.
    pub bytes: u64,
    /// Bytes of segments to read.
    pub total_bytes: u64,
}

/// What a verification found. There is one only if nothing is damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The keys that verified the checkpoints; their name is the log's origin.
    pub keys: PublicKeys,
    /// The tree's hash function.
    pub hash: HashKind,
    /// Leaves in the log, those that were dropped included.
    pub entries: u64,
    /// The root hash over all of them.
    pub root: Hash,
    /// Checkpoints verified.
    pub checkpoints: u64,
    /// Leaves that the last checkpoint covers.
    pub sealed: u64,
    /// The last checkpoint. There always is one: a log begins with that of size 0.
    pub last_checkpoint: Option<Checkpoint>,
    /// How often a checkpoint was signed at an earlier time than the one before it: the clock of
    /// the host was set back.
    pub clock_set_back: u64,
    /// The outside checkpoint that the log was held against. Its leaves are proven to be those that
    /// were signed for, whatever was done to the files since.
    pub outside: Option<Checkpoint>,
    /// The checkpoint that was carried back from witnesses.
    pub witnessed: Option<Checkpoint>,
    /// The cosignatures that were asked for.
    pub cosignatures: Vec<Cosignature>,
    /// Bytes in the segments.
    pub bytes: u64,
    /// Segment files.
    pub segments: u64,
    /// Leaves that were dropped: the tree still covers them, and they can no longer be read. They
    /// are the first ones of the log, up to [`Report::kept_from`].
    pub gaps: Vec<Gap>,
    /// A write under way, or the torn end of one, after the last leaf.
    pub torn: Option<TornTail>,
    /// Whether a checkpoint at the end of checkpoints.txt is written in part.
    pub torn_checkpoint: bool,
    /// What the index says, and the tree beside it.
    pub index: IndexStatus,
}

impl Report {
    /// Leaves after the last checkpoint: chained, but not signed for yet. They prove nothing:
    /// whoever can write the files can have put them there, and cut off later checkpoints.
    pub fn unsealed(&self) -> u64 {
        self.entries - self.sealed
    }

    /// The first leaf that can be read.
    pub fn kept_from(&self) -> u64 {
        self.gaps.last().map_or(0, |gap| gap.end)
    }
}

/// Bytes after the last sound leaf that no later commit follows: a write that is under way, or was
/// when the machine stopped. Damage to the very last commit, if no checkpoint covers it, looks the
/// same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// The segment.
    pub file: PathBuf,
    /// Where the bytes start.
    pub offset: u64,
    /// How many there are.
    pub bytes: u64,
    /// What is wrong with the first of them as an entry.
    pub cause: Cause,
}

/// What the index says, and the tree that lies beside it for who proves while a writer runs. Neither is
/// evidence: bad ones are rebuilt from the log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum IndexStatus {
    /// All its tiles, offsets and checkpoints agree with the log, and so does the tree, as far as a
    /// checkpoint covers it.
    Agrees,
    /// It was not looked at: a running writer has it open. The tree agrees.
    InUse,
    /// It was not looked at: the writer was killed, and its next start will repair it.
    Unclean,
    /// There is none.
    Missing,
    /// It disagrees with the log, or its content is not sound; or so it is with the tree.
    Bad(String),
}

/// Verifies the ledger in `dir` from its first byte to its last, also while a writer runs.
pub fn verify(dir: &Path, mut options: VerifyOptions<'_>) -> Result<Report, Error> {
    let (trusted, kept) = (options.keys.as_ref(), options.checkpoint.as_deref());
    outside::is_not_set_back(dir, trusted, kept)?;
    loop {
        let gone = Gone::read(dir, options.keys.as_ref())?;
        let floor = gone.floor;
        let verified = verify_from(dir, &gone, &mut options);
        // A writer that drops leaves takes them away from whoever reads them.
        if verified.is_ok() || Gone::read(dir, options.keys.as_ref())?.floor == floor {
            return verified;
        }
    }
}

fn verify_from(dir: &Path, gone: &Gone, options: &mut VerifyOptions<'_>) -> Result<Report, Error> {
    let trusted = options.keys.as_ref();
    let origin = published::keys_of(dir, trusted)?.name().to_owned();
    let summary = Summary::read(dir, &origin, gone.floor)?;
    let (keys, seals) = seals(dir, trusted)?;
    let outside = options.checkpoint.as_ref();
    let outside = outside.map(|note| outside::open(note, &keys)).transpose()?;
    let witnessed = witness::carried(dir, &keys)?;
    // After the last checkpoint, before which it is made durable.
    let beside = Beside::open(dir, seals.last.size())?;
    let cosignatures = match &options.witnesses {
        Some(witnesses) => cosignatures(witnesses, outside.as_ref().or(witnessed.as_ref()))?,
        None => Vec::new(),
    };
    if let Some(age) = options.age {
        age.check(&seals.last)?;
        let witnesses = options.witnesses.as_ref();
        witnesses.map_or(Ok(()), |all| all.within(age, &cosignatures))?;
    }
    // After the index and the checkpoints, so that it covers them while a writer goes on.
    let segments = list_segments(dir, gone.floor)?;
    let total_bytes = segments.iter().map(|segment| segment.len).sum();
    let hash = hash_kind(dir, &segments, gone.floor)?;
    let mut fsck = Fsck {
        dir,
        gone,
        segments: &segments,
        hash,
        size: 0,
        chain: chain_start(keys.name(), hash),
        tree: Vec::new(),
        nonce: [0; 8],
        seals,
        rotated: keys.first_epoch(),
        stated: 0,
        outside,
        witnessed,
        cosignatures,
        compared: Compared::new(summary),
        beside,
        bytes: 0,
        total_bytes,
        progress: options
            .progress
            .as_deref_mut()
            .map(|progress| progress as _),
    };
    let (jobs, queue) = checkers::queue();
    let torn = thread::scope(|scope| fsck.run(Checkers::start(scope, (jobs, &queue))));
    fsck.show_progress();
    fsck.report(keys, torn?)
}

/// The checkpoints so far and the keys that signed them: a writer that rotates its keys meanwhile
/// lists them before it signs with them.
fn seals<'a>(
    dir: &'a Path,
    trusted: Option<&PublicKeys>,
) -> Result<(PublicKeys, Seals<'a>), Error> {
    loop {
        let (keys, last) = published::sealed(dir, trusted)?;
        let seals = Seals::open(dir, &keys, last)?;
        if published::keys_of(dir, trusted)? == keys {
            return Ok((keys, seals));
        }
    }
}

/// The cosignatures on a checkpoint that witnesses must have seen.
fn cosignatures(
    witnesses: &Witnesses,
    checkpoint: Option<&Checkpoint>,
) -> Result<Vec<Cosignature>, Error> {
    let cosigned = match checkpoint {
        Some(checkpoint) => witnesses.check(checkpoint),
        None => Err(NoteError::NotSigned),
    };
    cosigned.map_err(|source| Error::NotWitnessed { source })
}

struct Segment {
    first: u64,
    path: PathBuf,
    len: u64,
}

fn list_segments(dir: &Path, floor: u64) -> Result<Vec<Segment>, Error> {
    // Those before are about to be removed.
    let found = disk::segments(dir)?.into_iter();
    let found: Vec<u64> = found.filter(|first| *first >= floor).collect();
    // Only now: a segment that another was seen to follow has its full length.
    let segments = found.into_iter().map(|first| {
        let path = layout::segment(dir, first);
        let len = disk::len(&path)?;
        Ok(Segment { first, path, len })
    });
    segments.collect()
}

fn hash_kind(dir: &Path, segments: &[Segment], floor: u64) -> Result<HashKind, Error> {
    let path = layout::segment(dir, floor);
    match segments.first() {
        Some(segment) if segment.first == floor => {}
        other => {
            let missing = floor..other.map_or(floor, |segment| segment.first);
            return Err(Error::damaged(&path, 0, missing, Cause::Missing));
        }
    }
    let mut header = Vec::new();
    let file = disk::open(&path).map_err(Error::io("open", &path))?;
    file.take(HEADER_BYTES)
        .read_to_end(&mut header)
        .map_err(Error::io("read", &path))?;
    let code = match header.len() as u64 {
        HEADER_BYTES => header[10],
        len => return Err(Error::damaged(&path, len, 0..1, Cause::Truncated)),
    };
    let unknown = || Error::damaged(&path, 10, 0..1, Cause::Header("unknown hash"));
    HashKind::from_code(code).ok_or_else(unknown)
}

struct Fsck<'a, 'p> {
    dir: &'a Path,
    gone: &'a Gone,
    segments: &'a [Segment],
    hash: HashKind,
    size: u64,
    chain: Hash,
    /// Complete subtrees, largest first, each with its height.
    tree: Vec<(u32, Hash)>,
    /// Of the segment that is read.
    nonce: [u8; 8],
    seals: Seals<'a>,
    /// The keys, as far as their rotations were come to.
    rotated: PublicKeys,
    /// So many of the gaps that are listed were come to as leaves.
    stated: usize,
    outside: Option<Checkpoint>,
    witnessed: Option<Checkpoint>,
    cosignatures: Vec<Cosignature>,
    compared: Compared,
    beside: Beside,
    bytes: u64,
    total_bytes: u64,
    progress: Option<&'p mut dyn FnMut(Progress)>,
}

impl Fsck<'_, '_> {
    fn run(&mut self, mut checkers: Checkers) -> Result<Option<TornTail>, Error> {
        self.boundary()?;
        self.dropped()?;
        let mut torn = None;
        for segment in self.segments {
            torn = self.segment(segment, &mut checkers)?;
        }
        self.all_sealed_is_there(torn.as_ref())?;
        self.rotations_are_there()?;
        self.gaps_are_there()?;
        self.holds_outside()?;
        Ok(torn)
    }

    fn segment(
        &mut self,
        segment: &Segment,
        checkers: &mut Checkers,
    ) -> Result<Option<TornTail>, Error> {
        if segment.first > self.size {
            let missing = layout::segment(self.dir, self.size);
            let leaves = self.size..segment.first;
            return Err(Error::damaged(&missing, 0, leaves, Cause::Missing));
        }
        let file = disk::open(&segment.path).map_err(Error::io("open", &segment.path))?;
        let mut input = file.take(segment.len);
        self.header(segment, &mut input)?;
        let mut stretches = Stretches::new(input);
        let (mut first, mut chain) = (self.size, self.chain);
        let mut offset = HEADER_BYTES;
        let mut stop = None;
        loop {
            let (stretch, cause) = stretches
                .next(checkers.empty())
                .map_err(Error::io("read", &segment.path))?;
            let has_ended = stretch.len() == 0 || cause.is_some();
            stop = stop.or(cause);
            if let Some(last) = stretch.len().checked_sub(1) {
                let next = (first + stretch.len() as u64, stretch.chain(last));
                checkers.check(Unchecked {
                    stretch,
                    first,
                    hash: self.hash,
                    nonce: self.nonce,
                    chain,
                });
                (first, chain) = next;
            }
            while let Some(mut checked) = checkers.next(has_ended) {
                self.add_all(segment, offset, &checked)?;
                offset += checked.stretch.start(checked.hashes.len()) as u64;
                if let Some(cause) = checked.bad.take() {
                    return self.bad(segment, offset, cause).map(Some);
                }
                checkers.done(checked.stretch);
                self.show_progress();
            }
            if has_ended {
                let torn = stop.map(|cause| self.bad(segment, offset, cause));
                return torn.transpose();
            }
        }
    }

    fn header(&mut self, segment: &Segment, input: &mut impl Read) -> Result<(), Error> {
        let damaged = |cause| {
            let leaves = segment.first..segment.first.saturating_add(1);
            Err(Error::damaged(&segment.path, 0, leaves, cause))
        };
        let mut header = [0; HEADER_BYTES as usize];
        match input.read_exact(&mut header) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return damaged(Cause::Truncated),
            read => read.map_err(Error::io("read", &segment.path))?,
        }
        let mut expected = [0; HEADER_BYTES as usize];
        expected[..11].copy_from_slice(b"DEYESEG\n\x01\x00\x00");
        expected[10] = self.hash.code();
        expected[16..24].copy_from_slice(&self.size.to_le_bytes());
        let origin = blake3_of(&[self.seals.keys.name().as_bytes()]);
        self.nonce.copy_from_slice(&header[24..32]);
        expected[24..32].copy_from_slice(&self.nonce);
        expected[32..64].copy_from_slice(&origin.0);
        expected[64..].copy_from_slice(&self.chain.0);
        let crc = crc32c::crc32c(&expected[..12]);
        let crc = crc32c::crc32c_append(crc, &expected[16..]);
        expected[12..16].copy_from_slice(&crc.to_le_bytes());
        self.bytes += HEADER_BYTES;
        if header[8..10] != expected[8..10] && header[..8] == expected[..8] {
            return damaged(Cause::Version(u16::from_le_bytes([header[8], header[9]])));
        }
        match header == expected && segment.first == self.size {
            true => Ok(()),
            false => damaged(Cause::Header("it is not what must stand here")),
        }
    }

    /// Takes in the sound entries of a stretch that begins at `offset`: a whole block at once where
    /// nothing is known of a place within it.
    fn add_all(&mut self, segment: &Segment, offset: u64, checked: &Checked) -> Result<(), Error> {
        let mut position = 0;
        while position < checked.hashes.len() {
            let place = offset + checked.stretch.start(position) as u64;
            self.compared.place(self.size, segment.first, place);
            self.beside.place(self.size, place);
            let start = position;
            position += match self.block(checked, position) {
                Some(block) => {
                    self.add(BLOCK_HEIGHT, block);
                    BLOCK as usize
                }
                None => {
                    if checked.is_own(position) {
                        self.own_leaf(checked.stretch.leaf(position))?;
                    }
                    self.add(0, checked.hashes[position]);
                    1
                }
            };
            self.chain = checked.stretch.chain(position - 1);
            self.bytes += (checked.stretch.start(position) - checked.stretch.start(start)) as u64;
            self.boundary()?;
        }
        Ok(())
    }

    /// The node over the block of leaves that begins at `position`, unless it must be looked into.
    fn block(&self, checked: &Checked, position: usize) -> Option<Hash> {
        let within = self.size + 1..self.size + BLOCK;
        let kept = self.kept().map(Checkpoint::size);
        let known = kept.chain(self.seals.next.as_ref().map(Checkpoint::size));
        let mut known = known.chain(self.compared.claimed_size());
        let is_known = known.any(|size| within.contains(&size))
            || checked.has_own(&(position..position + BLOCK as usize));
        checked.block(position).filter(|_| !is_known)
    }

    /// Adds a complete subtree.
    fn add(&mut self, height: u32, hash: Hash) {
        let (mut height, mut hash) = (height, hash);
        self.size += 1 << height;
        self.completed(height, hash);
        while let Some((_, left)) = self.tree.pop_if(|(left, _)| *left == height) {
            (height, hash) = (height + 1, self.hash.node(left, hash));
            self.completed(height, hash);
        }
        self.tree.push((height, hash));
    }

    /// Shows a complete subtree to what is held against the tree.
    fn completed(&mut self, height: u32, hash: Hash) {
        if height == BLOCK_HEIGHT {
            self.compared.node(hash);
        }
        if height >= BLOCK_HEIGHT {
            self.beside.node(hash);
        }
    }

    fn root(&self) -> Hash {
        let hashes = self.tree.iter().rev().map(|&(_, hash)| hash);
        let root = hashes.reduce(|right, left| self.hash.node(left, right));
        root.unwrap_or_else(|| self.hash.empty())
    }

    /// Between two leaves: holds the tree against what was signed at this size.
    fn boundary(&mut self) -> Result<(), Error> {
        self.beside.at_size(self.size);
        self.compared.at_size(self.size, self.chain, &self.tree);
        self.is_history()?;
        while self
            .seals
            .next
            .as_ref()
            .is_some_and(|next| next.size() == self.size)
        {
            let leaves = self.seals.sealed()..self.size;
            if self.seals.next.as_ref().map(Checkpoint::root) != Some(self.root()) {
                let path = self.segment_of(leaves.start);
                return Err(Error::damaged(
                    &path,
                    0,
                    leaves,
                    Cause::Root { size: self.size },
                ));
            }
            let note = self.seals.advance()?;
            self.compared.note(&note);
        }
        Ok(())
    }

    /// The checkpoints that came from elsewhere.
    fn kept(&self) -> impl Iterator<Item = &Checkpoint> {
        self.outside.iter().chain(&self.witnessed)
    }

    /// Holds the tree against the outside checkpoints of this size.
    fn is_history(&self) -> Result<(), Error> {
        for kept in self.kept().filter(|kept| kept.size() == self.size) {
            if kept.root() != self.root() {
                let checkpoint_size = kept.size();
                return Err(Error::HistoryRewritten { checkpoint_size });
            }
        }
        Ok(())
    }

    /// Whether the outside checkpoints were come to, and are ones that the log still knows of.
    fn holds_outside(&self) -> Result<(), Error> {
        for kept in self.kept() {
            if kept.size() > self.size {
                return Err(Error::HistoryTruncated {
                    log_size: self.size,
                    checkpoint_size: kept.size(),
                });
            }
            if kept.size() > self.seals.sealed() {
                return Err(self.seals.unlisted(kept));
            }
        }
        Ok(())
    }

    fn bad(&self, segment: &Segment, offset: u64, cause: Cause) -> Result<TornTail, Error> {
        let read = || Error::io("read", &segment.path);
        let is_last = self
            .segments
            .last()
            .is_some_and(|last| last.first == segment.first);
        // What a commit of the index covers was durable.
        let is_covered = self.compared.claimed_size() > Some(self.size);
        if is_last && self.seals.next.is_none() && !is_covered {
            let mut file = disk::open(&segment.path).map_err(Error::io("open", &segment.path))?;
            let commit =
                commit_follows(&mut file, self.nonce, offset, segment.len).map_err(read())?;
            if commit == Some(false) {
                let (file, bytes) = (segment.path.clone(), segment.len - offset);
                return Ok(TornTail {
                    file,
                    offset,
                    bytes,
                    cause,
                });
            }
        }
        Err(Error::damaged(&segment.path, offset, self.leaf(), cause))
    }

    fn segment_of(&self, leaf: u64) -> PathBuf {
        let found = self
            .segments
            .iter()
            .rev()
            .find(|segment| segment.first <= leaf);
        found.map_or_else(|| layout::entries(self.dir), |segment| segment.path.clone())
    }

    fn leaf(&self) -> Range<u64> {
        self.size..self.size + 1
    }

    fn all_sealed_is_there(&self, torn: Option<&TornTail>) -> Result<(), Error> {
        let Some(next) = &self.seals.next else {
            return self.seals.last_is_listed();
        };
        let (path, end) = match self.segments.last() {
            Some(last) => (last.path.clone(), last.len),
            None => (layout::segment(self.dir, 0), 0),
        };
        let offset = torn.map_or(end, |torn| torn.offset);
        Err(Error::damaged(
            &path,
            offset,
            self.size..next.size(),
            Cause::Truncated,
        ))
    }

    fn show_progress(&mut self) {
        let now = Progress {
            entries: self.size,
            sealed: self.seals.sealed(),
            bytes: self.bytes,
            total_bytes: self.total_bytes,
        };
        if let Some(progress) = &mut self.progress {
            progress(now);
        }
    }

    fn report(self, keys: PublicKeys, torn: Option<TornTail>) -> Result<Report, Error> {
        let root = self.root();
        let is_there = self.beside.is_there();
        let index = match (self.compared.status(), self.beside.finish()?) {
            (status @ IndexStatus::Bad(_), _) => status,
            // Both are, and the next start writes both.
            (IndexStatus::Missing, _) if !is_there => IndexStatus::Missing,
            (_, Some(wrong)) => IndexStatus::Bad(wrong),
            (status, None) => status,
        };
        Ok(Report {
            keys,
            hash: self.hash,
            entries: self.size,
            root,
            checkpoints: self.seals.count,
            sealed: self.seals.sealed(),
            last_checkpoint: self.seals.passed,
            clock_set_back: self.seals.clock_set_back,
            outside: self.outside,
            witnessed: self.witnessed,
            cosignatures: self.cosignatures,
            bytes: self.total_bytes,
            segments: u64::try_from(self.segments.len()).expect("a count of files"),
            gaps: self.gone.carried_out().to_vec(),
            torn,
            torn_checkpoint: self.seals.torn.is_some(),
            index,
        })
    }
}
