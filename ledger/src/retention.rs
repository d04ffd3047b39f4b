//! Retention: the oldest segments are dropped whole, and the log itself says so.
//!
//! In this order, each step durable before the next: 1. the remains, held against the last
//! checkpoint; 2. the leaf that states the gap; 3. the statement in `gaps.txt`; 4. a checkpoint that
//! covers the leaf; 5. the segments go. A crash before 2 leaves remains that nobody asks for; after
//! it, what is left is done at the next open and checkpoint.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::BufReader;
use std::path::Path;

use crate::append::Ledger;
use crate::checkpoint::{CheckpointText, Record, Records};
use crate::disk::{self, Access};
use crate::error::{Cause, Error};
use crate::gap::{self, Gap, Reason};
use crate::hash::{Hash, blake3_of, origin_hash};
use crate::keys::PublicKeys;
use crate::layout;
use crate::note::SignedNote;
use crate::proof::{consistency_path, verify_consistency};
use crate::remains::{self, BLOCK, Remains};
use crate::segment;
use crate::tiles::TILE_HEIGHT;
use crate::tree::{Frontier, Node, subtrees};
use crate::witness;

/// What goes in one gap, unless one segment is more: the writer does nothing else meanwhile. Each takes
/// about a tenth of a second: hashes of the leaves, 512 KiB of them; files to remove; and sizes that
/// were signed, for each of which a block of leaves is read.
const GAP_LEAVES: u64 = 1 << 22;
const GAP_SEGMENTS: usize = 64;
const GAP_SIZES: usize = if cfg!(test) { 2 } else { 512 };

/// What a log keeps of its leaves. The newest segment is always kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// Bytes that all segments may take together.
    pub bytes: Option<u64>,
    /// How old a leaf may become, in seconds, by the times of the checkpoints.
    pub seconds: Option<u64>,
}

/// The oldest leaves, chosen by a [`Retention`]: they are those that were signed for, and what has
/// to be left of them is durable.
#[derive(Debug)]
pub struct Expired {
    gap: Gap,
    /// Where all that is to be dropped ends.
    wanted: u64,
}

impl Expired {
    /// The first leaf that will be kept.
    pub fn end(&self) -> u64 {
        self.gap.end
    }
}

impl Ledger {
    /// The next leaves to drop, if there are any: whole segments of leaves that a checkpoint covers
    /// and that are before leaf `needed` and before every cursor. Hundreds of segments go in more
    /// than one step.
    ///
    /// An error leaves the ledger as it is: leaves that are not those signed for are not dropped, and
    /// nothing more is while files of dropped leaves cannot be removed.
    pub fn expired(
        &mut self,
        retention: &Retention,
        needed: u64,
    ) -> Result<Option<Expired>, Error> {
        if self.poisoned {
            return Err(Error::Poisoned);
        }
        // Before more is chosen: what was to go may still be there.
        self.carry_out()?;
        match self.dropping {
            true => Ok(None),
            false => self.find_expired(retention, needed),
        }
    }

    /// Bytes of segments that would go as well by the retention that was last asked for, and stay,
    /// because a leaf in them is still to be read.
    pub fn held_up(&self) -> u64 {
        self.held_up
    }

    /// Appends the leaf that states the gap, signs for it, and drops the leaves. Returns the index of
    /// the leaf.
    pub fn drop_expired(&mut self, expired: Expired) -> Result<u64, Error> {
        self.unless_poisoned(|ledger| ledger.try_drop(expired.gap))
    }

    /// Drops all that the retention asks for; leaves from `needed` on are kept.
    pub fn retain(&mut self, retention: &Retention, needed: u64) -> Result<Vec<Gap>, Error> {
        let (mut gaps, mut needed) = (Vec::new(), needed);
        while let Some(expired) = self.expired(retention, needed)? {
            // What is appended meanwhile drops no more.
            needed = expired.wanted;
            self.drop_expired(expired)?;
            gaps.extend(self.gap.clone());
            if self.dropping
                && let Some(error) = self.put_off.take()
            {
                return Err(error);
            }
        }
        Ok(gaps)
    }

    /// The first leaf that is kept.
    pub fn kept_from(&self) -> u64 {
        self.gap.as_ref().map_or(0, |gap| gap.end)
    }

    fn find_expired(
        &mut self,
        retention: &Retention,
        needed: u64,
    ) -> Result<Option<Expired>, Error> {
        let read = self.cursors.values().copied().min().unwrap_or(needed);
        let sealed = self.last_checkpoint.as_ref().map_or(0, |last| last.size());
        let mut segments = Segments::list(&self.dir, sealed)?;
        if segments.first() < self.kept_from() {
            // Somebody put back what was dropped: the next checkpoint removes it.
            self.dropping = true;
            return Ok(None);
        }
        let now = (self.clock)();
        let aged = match retention.seconds {
            Some(seconds) => aged(&self.dir, &self.keys, now.saturating_sub(seconds))?,
            None => 0,
        };
        let chosen = |segments: &Segments| {
            let (by_age, by_size) = (segments.before(aged), segments.over(retention.bytes));
            (by_age, by_age.max(by_size))
        };
        let (_, if_read) = chosen(&segments);
        segments.needed = needed.min(read).min(sealed);
        let (by_age, wanted) = chosen(&segments);
        let bytes = |end: Option<u64>| end.map_or(0, |end| segments.bytes(end));
        self.held_up = bytes(if_read) - bytes(wanted);
        let Some(wanted) = wanted else {
            return Ok(None);
        };
        let (first, most) = (segments.first(), segments.at_once(wanted));
        let mut asked = self.asked(first, most)?;
        let end = segments.with_few(asked.keys().copied(), most);
        asked.retain(|size, _| is_near(*size, first, end));
        let reason = if Some(end) <= by_age {
            Reason::Age
        } else {
            Reason::Size
        };
        let (remains, root) = self.remains(first, end, &asked)?;
        let gap = Gap {
            first: remains.first,
            end,
            reason,
            bytes: segments.bytes(end),
            root,
            index: 0,
            time: now,
            chain: self.chain_before(end)?,
            remains: keep(&self.dir, &remains)?,
            note: String::new(),
        };
        Ok(Some(Expired { gap, wanted }))
    }

    fn try_drop(&mut self, gap: Gap) -> Result<u64, Error> {
        // So that the cursors are durable: an older one would ask for leaves that are gone.
        self.try_checkpoint(false)?;
        let (index, time) = (self.size(), (self.clock)());
        let gap = Gap { index, time, ..gap }.signed(&self.key);
        self.try_append(gap.note.as_bytes())?;
        self.try_commit()?;
        gap::list(&self.dir, &gap)?;
        self.gap = Some(gap);
        self.dropping = true;
        self.try_checkpoint(false)?;
        Ok(index)
    }

    /// Removes the segments of the newest gap, once its leaf is signed for. They are no part of the log
    /// any more: what stays of them is for the next checkpoint.
    pub(crate) fn carry_out(&mut self) -> Result<(), Error> {
        let sealed = self.last_checkpoint.as_ref().map_or(0, |last| last.size());
        let Some(gap) = self.gap.as_ref().filter(|gap| gap.index < sealed) else {
            return Ok(());
        };
        if !self.dropping {
            return Ok(());
        }
        let firsts = disk::segments(&self.dir)?;
        for &first in firsts.iter().filter(|&&first| first < gap.end) {
            disk::remove(&layout::segment(&self.dir, first))?;
        }
        disk::sync_dir(&layout::entries(&self.dir))?;
        (self.dropping, self.forget_places) = (false, Some(gap.end));
        Ok(())
    }

    /// What has to be left of the leaves `first..end`, and the root at `end`. All of it leads to what
    /// the last checkpoint signed, and to what those between signed.
    fn remains(
        &self,
        first: u64,
        end: u64,
        asked: &BTreeMap<u64, Option<Hash>>,
    ) -> Result<(Remains, Hash), Error> {
        let mut reader = self.reader();
        let mut nodes = self.nodes(&mut reader);
        let mut blocks = Vec::new();
        for block in first >> TILE_HEIGHT..end >> TILE_HEIGHT {
            blocks.push(nodes.hash(&(block << TILE_HEIGHT..(block + 1) << TILE_HEIGHT))?);
        }
        let mut low = BTreeMap::new();
        let mut wanted = wanted(asked.keys().copied(), first, end);
        // As the leaves stand in the files.
        wanted.sort_unstable_by_key(|node| (node.leaves().start, node.level));
        for node in wanted {
            if let Entry::Vacant(unknown) = low.entry(node) {
                unknown.insert(nodes.hash(&node.leaves())?);
            }
        }
        let before = first >> TILE_HEIGHT << TILE_HEIGHT;
        let before = subtrees(&(0..before)).into_iter().map(Node::leaves);
        let before = nodes.hashes(&before.collect::<Vec<_>>())?;
        let remains = Remains {
            kind: self.hash_kind(),
            first,
            end,
            origin: origin_hash(self.origin()),
            blocks,
            low: low.into_iter().collect(),
        };
        let root = self.checked(&remains, asked, before)?;
        Ok((remains, root))
    }

    /// The root at the end of the remains, if these are of the leaves that were signed for.
    fn checked(
        &self,
        remains: &Remains,
        asked: &BTreeMap<u64, Option<Hash>>,
        before: Vec<Hash>,
    ) -> Result<Hash, Error> {
        let (first, end, kind) = (remains.first, remains.end, self.hash_kind());
        let damaged = |size| {
            let file = layout::segment(&self.dir, first);
            Error::damaged(&file, 0, first..end, Cause::Root { size })
        };
        let size = first >> TILE_HEIGHT << TILE_HEIGHT;
        let frontier = Frontier::restore(kind, size, before);
        let mut frontier = frontier.expect("a hash for each of its subtrees");
        let signed = asked.range(first + 1..=end);
        let mut signed = signed
            .filter_map(|(size, root)| Some((*size, (*root)?)))
            .peekable();
        let mut blocks = remains.blocks.iter();
        loop {
            let block_end = frontier.size() + BLOCK;
            while let Some((size, root)) = signed.next_if(|(size, _)| *size < block_end) {
                if remains.root(frontier.clone(), size) != Some(root) {
                    return Err(damaged(size));
                }
            }
            match blocks.next() {
                Some(&hash) => frontier.push_subtree(TILE_HEIGHT, hash, |_, _| ()),
                None => break,
            }
        }
        let root = remains.root(frontier, end).ok_or_else(|| damaged(end))?;
        let last = self.last_checkpoint.as_ref().ok_or_else(|| damaged(end))?;
        let path = consistency_path(end, last.size());
        let path = self.nodes(&mut self.reader()).hashes(&path)?;
        verify_consistency(kind, end, root, last.size(), last.root(), &path)
            .map_err(|_| damaged(last.size()))?;
        Ok(root)
    }

    /// The sizes at which hashes must be left: those in whose block a leaf of `first..end` is, of the
    /// checkpoints that are listed or were witnessed, and of rotations. With the root, if signed.
    fn asked(&self, first: u64, end: u64) -> Result<BTreeMap<u64, Option<Hash>>, Error> {
        let is_near = |size| is_near(size, first, end);
        let mut asked = BTreeMap::new();
        let rotations = self.keys.rotations().iter();
        let rotations = rotations.map(|rotation| (rotation.size, Some(rotation.root)));
        let witnessed = witness::carried(&self.dir, &self.keys)?;
        let witnessed = witnessed.map(|seen| (seen.size(), Some(seen.root())));
        asked.extend(
            rotations
                .chain(witnessed)
                .filter(|(size, _)| is_near(*size)),
        );
        each_listed(&self.dir, |_, text| {
            if is_near(text.size) {
                asked.insert(text.size, Some(text.root));
            }
            Ok(())
        })?;
        Ok(asked)
    }

    fn chain_before(&self, first: u64) -> Result<Hash, Error> {
        let path = layout::segment(&self.dir, first);
        let mut file = disk::open(&path).map_err(Error::io("open", &path))?;
        let header = segment::read_header(&mut file).map_err(Error::io("read", &path))?;
        let damaged = |cause| Error::damaged(&path, 0, first..first + 1, cause);
        header.map(|header| header.chain).map_err(damaged)
    }
}

/// Whether a leaf of `first..end` is in the block that a size is in.
fn is_near(size: u64, first: u64, end: u64) -> bool {
    size.next_multiple_of(BLOCK) > first && size / BLOCK * BLOCK < end
}

/// The subtrees smaller than a block that must be left of the leaves `first..end`, for these sizes
/// and for the leaves after them. For a size beyond `first`, with those that end before.
fn wanted(sizes: impl Iterator<Item = u64>, first: u64, end: u64) -> Vec<Node> {
    let asked = sizes.flat_map(|size| {
        let from = if size > first { 0 } else { first + 1 };
        let nodes = remains::asked_by(size).into_iter();
        nodes.filter(move |node| (from..=end).contains(&node.leaves().end))
    });
    asked.chain(remains::low_frontier(end)).collect()
}

/// Makes the remains durable and returns their hash.
fn keep(dir: &Path, remains: &Remains) -> Result<Hash, Error> {
    let bytes = remains.encode();
    let path = layout::remains(dir, remains.first);
    disk::replace(&path, &bytes, Access::Owner)?;
    Ok(blake3_of(&[&bytes]))
}

/// The segments of a log.
struct Segments {
    /// First leaf and length in bytes.
    all: Vec<(u64, u64)>,
    /// No leaf from here on may be dropped.
    needed: u64,
}

impl Segments {
    fn list(dir: &Path, needed: u64) -> Result<Segments, Error> {
        let firsts = disk::segments(dir)?;
        let len = |first| {
            let path = layout::segment(dir, first);
            Ok((first, disk::len(&path)?))
        };
        let all = firsts.into_iter().map(len).collect::<Result<_, Error>>()?;
        Ok(Segments { all, needed })
    }

    fn first(&self) -> u64 {
        self.all.first().map_or(0, |(first, _)| *first)
    }

    /// Where a segment begins before which all may be dropped, but not the newest.
    fn ends(&self) -> impl DoubleEndedIterator<Item = u64> {
        let ends = self.all.iter().skip(1).map(|(first, _)| *first);
        ends.filter(|end| *end <= self.needed)
    }

    /// The end of the segments whose leaves are all before `leaf`.
    fn before(&self, leaf: u64) -> Option<u64> {
        self.ends().rev().find(|end| *end <= leaf)
    }

    /// The end of the segments that are too much.
    fn over(&self, bytes: Option<u64>) -> Option<u64> {
        let total: u64 = self.all.iter().map(|(_, len)| len).sum();
        let excess = total.checked_sub(bytes?).filter(|excess| *excess > 0)?;
        let enough = self.ends().find(|end| self.bytes(*end) >= excess);
        enough.or_else(|| self.ends().next_back())
    }

    /// As many of the segments before `end` as go in one gap.
    fn at_once(&self, end: u64) -> u64 {
        let most = self.first() + GAP_LEAVES;
        let few = self.ends().take(GAP_SEGMENTS);
        let fits = few.take_while(|at| *at <= end.min(most)).last();
        fits.or_else(|| self.ends().next()).unwrap_or(end)
    }

    /// As many of the segments before `end` as hold few of these sizes, which ascend.
    fn with_few(&self, sizes: impl Iterator<Item = u64>, end: u64) -> u64 {
        let Some(beyond) = sizes.take_while(|size| *size < end).nth(GAP_SIZES) else {
            return end;
        };
        let fits = self.ends().take_while(|at| *at <= beyond).last();
        fits.or_else(|| self.ends().next()).unwrap_or(end)
    }

    /// Bytes of the segments before `end`.
    fn bytes(&self, end: u64) -> u64 {
        let before = self.all.iter().filter(|(first, _)| *first < end);
        before.map(|(_, len)| len).sum()
    }
}

/// So many of the first leaves were there at `time`, in POSIX seconds, or before. A checkpoint is
/// taken to be no older than any before it, so that a clock that was once far behind makes no leaf
/// old.
fn aged(dir: &Path, keys: &PublicKeys, time: u64) -> Result<u64, Error> {
    let (mut size, mut latest) = (0, 0);
    each_listed(dir, |note, text| {
        let claimed = note.claimed_at(&keys.at(text.size).time);
        latest = claimed.map_or(u64::MAX, |claimed| claimed.max(latest));
        if latest <= time {
            size = text.size;
        }
        Ok(())
    })?;
    Ok(size)
}

/// Shows every listed checkpoint, unverified.
fn each_listed(
    dir: &Path,
    mut each: impl FnMut(&SignedNote, CheckpointText) -> Result<(), Error>,
) -> Result<(), Error> {
    let path = layout::checkpoints(dir);
    let file = disk::open(&path).map_err(Error::io("open", &path))?;
    let mut records = Records::new(BufReader::new(file), 0);
    while let Record::Note { note, .. } = records.next().map_err(Error::io("read", &path))? {
        // One that is not sound asks for nothing; it is told of where checkpoints are verified.
        let note = std::str::from_utf8(&note).ok();
        let note = note.and_then(|note| SignedNote::parse(note).ok());
        let read = note.and_then(|note| Some((CheckpointText::parse(note.text()).ok()?, note)));
        if let Some((text, note)) = read {
            each(&note, text)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that had to go went at once, which held up the writer for as long as it took.
    #[test]
    fn what_goes_in_one_gap_is_bounded() {
        let segments = |leaves: u64, count: u64| Segments {
            all: (0..=count).map(|number| (number * leaves, 1)).collect(),
            needed: u64::MAX,
        };
        let many = segments(10, 1_000);
        assert_eq!(many.at_once(10_000), 640);
        assert_eq!(many.at_once(50), 50);
        let large = segments(GAP_LEAVES / 3 + 1, 10);
        assert_eq!(large.at_once(u64::MAX), 2 * (GAP_LEAVES / 3 + 1));
        // A segment goes whole, whatever is in it.
        assert_eq!(
            segments(GAP_LEAVES * 2, 2).at_once(u64::MAX),
            GAP_LEAVES * 2
        );
        assert_eq!(many.with_few([1, 2, 3].into_iter(), 50), 10);
        assert_eq!(many.with_few([1, 12, 30, 31].into_iter(), 50), 30);
        assert_eq!(many.with_few([1, 12, 29, 31].into_iter(), 50), 20);
        assert_eq!(many.with_few([1, 12, 50].into_iter(), 50), 50);
    }
}
