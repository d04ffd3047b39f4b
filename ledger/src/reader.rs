use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use redb::Database;

use crate::disk;
use crate::error::{Cause, Error};
use crate::hash::{Hash, HashKind};
use crate::index::{self, LeafPlace, OFFSET_STRIDE};
use crate::layout;
use crate::prove::Known as _;
use crate::remains;
use crate::segment::{self, Header, Scanner, Step};
use crate::tree::Node;
use crate::tree_file::TreeFile;

/// Reads leaves by index, also while the ledger's writer runs.
///
/// A reader from [`crate::Ledger::reader`] sees exactly the durable leaves. One from
/// [`Reader::open`] sees what stands whole in the files, which can be a commit ahead of that.
/// Every leaf is checked against its checksum and the hash chain.
#[derive(Debug)]
pub struct Reader {
    dir: PathBuf,
    live: Option<Arc<Live>>,
    /// Segments are not read from their start where a place nearer to the leaf is known.
    by_places: bool,
    open: Option<OpenSegment>,
}

/// What a writer shares with its readers.
#[derive(Debug)]
pub(crate) struct Live {
    durable: AtomicU64,
    /// Weak, so that a reader left over does not keep a closed ledger's index locked.
    index: Weak<Database>,
}

impl Live {
    pub(crate) fn new(durable: u64, index: &Arc<Database>) -> Live {
        Live {
            durable: AtomicU64::new(durable),
            index: Arc::downgrade(index),
        }
    }

    pub(crate) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    pub(crate) fn set_durable(&self, size: u64) {
        self.durable.store(size, Ordering::Release);
    }
}

#[derive(Debug)]
struct OpenSegment {
    path: PathBuf,
    first: u64,
    /// The leaf that the scanner stands before.
    next: u64,
    scanner: Scanner,
    /// Leaves whose offset is known, ascending.
    marks: Vec<(u64, u64)>,
    /// Opened where the index said, which may be wrong.
    by_hint: bool,
}

impl Clone for Reader {
    fn clone(&self) -> Reader {
        Reader {
            dir: self.dir.clone(),
            live: self.live.clone(),
            by_places: self.by_places,
            open: None,
        }
    }
}

impl Reader {
    /// A reader of the ledger in `dir`, whether or not a writer runs.
    pub fn open(dir: &Path) -> Result<Reader, Error> {
        disk::segments(dir)?;
        Ok(Reader {
            dir: dir.to_owned(),
            live: None,
            by_places: true,
            open: None,
        })
    }

    /// As [`Reader::open`], of the entries alone: a leaf's index is what it was counted to be.
    pub(crate) fn without_places(dir: &Path) -> Result<Reader, Error> {
        let mut reader = Reader::open(dir)?;
        reader.by_places = false;
        Ok(reader)
    }

    pub(crate) fn new(dir: &Path, live: Arc<Live>) -> Reader {
        Reader {
            dir: dir.to_owned(),
            live: Some(live),
            by_places: true,
            open: None,
        }
    }

    /// The leaf at `index`, or `None` when there is none yet.
    pub fn read(&mut self, index: u64) -> Result<Option<Vec<u8>>, Error> {
        let scanner = self.scan(index)?;
        Ok(scanner.map(|scanner| scanner.leaf().to_vec()))
    }

    /// The leaf's hash in the tree, which the check of the chain mostly took already.
    pub(crate) fn hash(&mut self, kind: HashKind, index: u64) -> Result<Option<Hash>, Error> {
        let scanner = self.scan(index)?;
        Ok(scanner.map(|scanner| match kind {
            HashKind::Blake3 => scanner.link(),
            HashKind::Sha256 => kind.leaf(scanner.leaf()),
        }))
    }

    /// Reads the leaf: it is the scanner's last one. `None` where there is none yet.
    fn scan(&mut self, index: u64) -> Result<Option<&Scanner>, Error> {
        if self
            .live
            .as_ref()
            .is_some_and(|live| index >= live.durable())
        {
            return Ok(None);
        }
        let is_read = match self.try_read(index) {
            Err(Error::Damaged(_)) if self.open.as_ref().is_some_and(|open| open.by_hint) => {
                self.open = self.open_segment(index)?;
                self.try_read(index)
            }
            read => read,
        };
        let is_read = is_read?;
        let open = self.open.as_ref().filter(|_| is_read);
        Ok(open.map(|open| &open.scanner))
    }

    /// The leaves from `from` on, until there are no more. Where leaves are dropped before they are
    /// read, [`Error::NotKept`] names the first of them and the oldest leaf that is kept, which comes
    /// next. Any other error is the last that comes.
    pub fn range(&mut self, from: u64) -> Leaves<'_> {
        Leaves {
            reader: self,
            next: Some(from),
        }
    }

    /// Starts the next read at a place that the index knows, unless a nearer one is known.
    pub(crate) fn hint(&mut self, leaf: u64, place: LeafPlace) -> Result<(), Error> {
        let near = |open: &OpenSegment| open.first == place.segment && open.mark(leaf).0 == leaf;
        if self.open.as_ref().is_some_and(near) {
            return Ok(());
        }
        let path = layout::segment(&self.dir, place.segment);
        // A wrong hint is no error: the segment is then read from its start.
        let Ok(mut file) = disk::open(&path) else {
            return Ok(());
        };
        let Ok(Ok(header)) = segment::read_header(&mut file) else {
            return Ok(());
        };
        let len = file.len().map_err(Error::io("read", &path))?;
        if !(Header::LEN as u64..=len).contains(&place.offset) {
            return Ok(());
        }
        let mut scanner = Scanner::new(file, header.nonce, place.offset, len)
            .map_err(Error::io("read", &path))?;
        // A place is known of durable leaves alone.
        if scanner.next().map_err(Error::io("read", &path))? != Step::Leaf {
            return Ok(());
        }
        scanner
            .seek(place.offset)
            .map_err(Error::io("read", &path))?;
        let marks = vec![(leaf, place.offset)];
        let (first, next) = (place.segment, leaf);
        self.open = Some(OpenSegment {
            path,
            first,
            next,
            scanner,
            marks,
            by_hint: true,
        });
        Ok(())
    }

    /// How many leaves there are: the durable ones, or, to a reader from outside, those that stand
    /// whole in the files. It is counted in the last segment, after the last place that is known.
    pub fn size(&mut self) -> Result<u64, Error> {
        if let Some(live) = &self.live {
            return Ok(live.durable());
        }
        self.open = None;
        self.seek(u64::MAX)?;
        Ok(self.open.as_ref().map_or(0, |open| open.next))
    }

    /// The index of the first leaf that can be read: leaves before it were dropped.
    pub fn oldest(&self) -> Result<u64, Error> {
        Ok(disk::segments(&self.dir)?.first().copied().unwrap_or(0))
    }

    /// The error for a leaf that was dropped.
    pub(crate) fn not_kept(&self, index: u64) -> Error {
        let firsts = match disk::segments(&self.dir) {
            Ok(firsts) => firsts,
            Err(e) => return e,
        };
        // Of those before it a crash may have left some.
        let oldest = firsts.iter().find(|&&first| first > index);
        let oldest = oldest.or(firsts.first()).copied().unwrap_or(0);
        Error::NotKept { index, oldest }
    }

    /// A subtree smaller than a tile knows, of leaves that were dropped.
    pub(crate) fn remains(&self, node: Node) -> Result<Option<Hash>, Error> {
        remains::find(&self.dir, node)
    }

    pub(crate) fn entries(&self) -> PathBuf {
        layout::entries(&self.dir)
    }

    fn try_read(&mut self, index: u64) -> Result<bool, Error> {
        if !self.seek(index)? {
            return Ok(false);
        }
        let Some(open) = &mut self.open else {
            return Ok(false);
        };
        match open.step()? {
            Step::Leaf => Ok(true),
            Step::End => Ok(false),
            Step::Bad(_) => self.read_bad(),
        }
    }

    /// Stands before the leaf at `index`; `false` when the log ends before it.
    fn seek(&mut self, index: u64) -> Result<bool, Error> {
        if !self.open.as_ref().is_some_and(|open| open.is_near(index)) {
            self.seek_by_index(index)?;
        }
        if self
            .open
            .as_ref()
            .is_none_or(|open| index < open.mark(index).0)
        {
            self.open = self.open_segment(index)?;
        }
        loop {
            let Some(open) = &mut self.open else {
                return Ok(false);
            };
            if open.walk_to(index)? {
                return Ok(true);
            }
            let next = open.next;
            let ended = open.scanner.offset() == open.scanner.limit();
            if !ended {
                let is_whole = match open.step()? {
                    Step::Leaf | Step::End => true,
                    Step::Bad(_) => self.read_bad()?,
                };
                match is_whole {
                    // Written whole meanwhile.
                    true => continue,
                    false => return Ok(false),
                }
            }
            let is_there = next != open.first && disk::exists(&layout::segment(&self.dir, next))?;
            if is_there {
                self.open = self.open_segment(next)?;
            } else if !self.pass_gap(next, index)? {
                return Ok(false);
            }
        }
    }

    /// Where the segment that is read ends and none begins with the leaf `next`: goes on to the leaf
    /// at `index` in a later one. `false` when the log ends.
    fn pass_gap(&mut self, next: u64, index: u64) -> Result<bool, Error> {
        let open = self.open.as_mut().expect("it was read to its end");
        let firsts = disk::segments(&self.dir)?;
        let Some(&later) = firsts.iter().find(|&&first| first > open.first) else {
            return Ok(false);
        };
        // Dropped while it was read; or those after it were, and a crash left it.
        if later <= index || !firsts.contains(&open.first) {
            self.open = self.open_segment(index)?;
            return Ok(true);
        }
        // Its last leaves may have come with the later one.
        if open.refresh()? || later == next {
            return Ok(true);
        }
        if remains::end_of_dropped(&self.dir, next)?.is_some_and(|end| later <= end) {
            return Err(self.not_kept(index));
        }
        let missing = layout::segment(&self.dir, next);
        Err(Error::damaged(&missing, 0, next..later, Cause::Missing))
    }

    fn seek_by_index(&mut self, index: u64) -> Result<(), Error> {
        if !self.by_places {
            return Ok(());
        }
        let database = self.live.as_ref().and_then(|live| live.index.upgrade());
        // It only saves time here: without an answer the segment is read from its start.
        let place = match database {
            Some(database) => index::place(&*database, index).ok(),
            None => TreeFile::open(&self.dir)
                .and_then(|tree| tree.place(index))
                .ok(),
        };
        match place.flatten() {
            Some((leaf, place)) => self.hint(leaf, place),
            None => Ok(()),
        }
    }

    /// Opens the segment that `index` is in, or would be.
    fn open_segment(&self, index: u64) -> Result<Option<OpenSegment>, Error> {
        let firsts = disk::segments(&self.dir)?;
        let Some(&first) = firsts.iter().rev().find(|&&first| first <= index) else {
            let not_kept = |&oldest| Err(Error::NotKept { index, oldest });
            return firsts.first().map_or(Ok(None), not_kept);
        };
        let path = layout::segment(&self.dir, first);
        let read = Error::io("read", &path);
        let mut file = match disk::open(&path) {
            Ok(file) => file,
            // Dropped since it was listed.
            Err(e) if e.kind() == io::ErrorKind::NotFound && self.oldest()? > first => {
                return self.open_segment(index);
            }
            Err(e) => return Err(Error::io("open", &path)(e)),
        };
        let header = segment::read_header(&mut file).map_err(Error::io("read", &path))?;
        let header = header.and_then(|header| match header.first == first {
            true => Ok(header),
            false => Err(Cause::Header("first leaf is not the file name's")),
        });
        let header = header.map_err(|cause| Error::damaged(&path, 0, first..first + 1, cause))?;
        let len = file.len().map_err(Error::io("read", &path))?;
        let offset = Header::LEN as u64;
        let scanner = Scanner::new(file, header.nonce, offset, len).map_err(read)?;
        let marks = vec![(first, offset)];
        Ok(Some(OpenSegment {
            path,
            first,
            next: first,
            scanner,
            marks,
            by_hint: false,
        }))
    }

    /// Reads the next frame, which was not sound a moment ago, once more. `false` when it is a
    /// write under way, to a reader from outside.
    ///
    /// Only once something stands that is written after the frame is durable, be it a commit or
    /// the next segment, is a frame judged, by what is read of it *after* that was seen: a writer
    /// may have come past it since the first look.
    fn read_bad(&mut self) -> Result<bool, Error> {
        let was_durable = self.live.is_some() || self.is_followed()?;
        let open = self.open.as_mut().expect("a frame was read from it");
        match open.step()? {
            Step::Leaf => Ok(true),
            Step::Bad(cause) if was_durable => {
                let (leaf, offset) = (open.next, open.scanner.offset());
                Err(Error::damaged(&open.path, offset, leaf..leaf + 1, cause))
            }
            Step::Bad(_) | Step::End => Ok(false),
        }
    }

    /// Whether a segment or a commit follows the frame that is to be read.
    fn is_followed(&self) -> Result<bool, Error> {
        let open = self.open.as_ref().expect("a frame was read from it");
        if disk::segments(&self.dir)?.last() != Some(&open.first) {
            return Ok(true);
        }
        let mut file = disk::open(&open.path).map_err(Error::io("open", &open.path))?;
        let read = || Error::io("read", &open.path);
        let len = file.len().map_err(read())?;
        let (nonce, offset) = (open.scanner.nonce(), open.scanner.offset());
        let commit = segment::commit_follows(&mut file, nonce, offset, len).map_err(read())?;
        Ok(commit != Some(false))
    }
}

impl OpenSegment {
    /// The last known place at or before `leaf`, or else the first known one.
    fn mark(&self, leaf: u64) -> (u64, u64) {
        let after = self.marks.partition_point(|&(marked, _)| marked <= leaf);
        self.marks[after.saturating_sub(1)]
    }

    fn is_near(&self, leaf: u64) -> bool {
        let from = self
            .mark(leaf)
            .0
            .max(if self.next <= leaf { self.next } else { 0 });
        from <= leaf && leaf - from < 4 * OFFSET_STRIDE && self.first <= leaf
    }

    /// Walks to `leaf`, over frames; `false` when the segment ends, or breaks, before it.
    fn walk_to(&mut self, leaf: u64) -> Result<bool, Error> {
        let (marked, offset) = self.mark(leaf);
        if marked > leaf {
            return Ok(false);
        }
        if self.next > leaf || marked > self.next {
            self.scanner
                .seek(offset)
                .map_err(Error::io("read", &self.path))?;
            self.next = marked;
        }
        while self.next < leaf {
            if !self.skip()? {
                return Ok(false);
            }
        }
        Ok(self.scanner.offset() < self.scanner.limit() || self.refresh()?)
    }

    fn skip(&mut self) -> Result<bool, Error> {
        let mut skipped = self.scanner.skip().map_err(Error::io("read", &self.path))?;
        if !skipped && self.refresh()? {
            skipped = self.scanner.skip().map_err(Error::io("read", &self.path))?;
        }
        if skipped {
            self.passed();
        }
        Ok(skipped)
    }

    fn step(&mut self) -> Result<Step, Error> {
        let mut step = self.scanner.next().map_err(Error::io("read", &self.path))?;
        if matches!(step, Step::End | Step::Bad(Cause::Truncated)) && self.refresh()? {
            step = self.scanner.next().map_err(Error::io("read", &self.path))?;
        }
        if step == Step::Leaf {
            self.passed();
        }
        Ok(step)
    }

    fn passed(&mut self) {
        self.next += 1;
        let last = self.marks.last().map_or(0, |&(leaf, _)| leaf);
        if self.next >= last + OFFSET_STRIDE {
            self.marks.push((self.next, self.scanner.offset()));
        }
    }

    /// Sees what was appended; whether that is anything.
    fn refresh(&mut self) -> Result<bool, Error> {
        let read = Error::io("read", &self.path);
        // Of what is open: its name is gone once it is dropped.
        let len = self.scanner.file_len();
        let len = len.map_err(Error::io("read", &self.path))?;
        let grown = len > self.scanner.limit();
        if grown {
            self.scanner.set_limit(len);
            self.scanner.seek(self.scanner.offset()).map_err(read)?;
        }
        Ok(grown)
    }
}

/// The leaves from some index on.
#[derive(Debug)]
pub struct Leaves<'a> {
    reader: &'a mut Reader,
    next: Option<u64>,
}

impl Iterator for Leaves<'_> {
    type Item = Result<(u64, Vec<u8>), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let index = self.next.take()?;
        match self.reader.read(index) {
            Ok(None) => None,
            Ok(Some(leaf)) => {
                self.next = index.checked_add(1);
                Some(Ok((index, leaf)))
            }
            Err(e) => {
                if let Error::NotKept { index, oldest } = e {
                    self.next = Some(oldest).filter(|oldest| *oldest > index);
                }
                Some(Err(e))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ledger, Options};

    /// The writer finished the torn frame and began the next segment before the reader looked at
    /// the listing, which was then taken for damage.
    #[test]
    fn a_frame_finished_between_two_looks_is_no_damage() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            segment_bytes: 1,
            ..Options::new("daemoneye/test")
        };
        let (mut ledger, _) = Ledger::open(dir.path(), &options).unwrap();
        for leaf in [b"one", b"two"] {
            ledger.append(leaf).unwrap();
        }
        ledger.commit().unwrap();
        let (path, next) = (
            layout::segment(dir.path(), 0),
            layout::segment(dir.path(), 2),
        );
        let whole = std::fs::read(&path).unwrap();
        for torn in whole.len() - 42..whole.len() {
            std::fs::write(&path, &whole[..torn]).unwrap();
            let mut reader = Reader::open(dir.path()).unwrap();
            assert!(reader.seek(1).unwrap());
            let step = reader.open.as_mut().unwrap().step().unwrap();
            assert_eq!(step, Step::Bad(Cause::Truncated));
            // Nothing follows: a write under way.
            assert!(!reader.read_bad().unwrap());
            std::fs::write(&path, &whole).unwrap();
            std::fs::write(&next, "").unwrap();
            assert!(reader.read_bad().unwrap());
            assert_eq!(reader.open.as_ref().unwrap().scanner.leaf(), b"two");
            std::fs::remove_file(&next).unwrap();
        }
        std::fs::write(&next, "").unwrap();
        // One that stays torn although another segment follows is damage.
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        let found = Reader::open(dir.path()).unwrap().read(1);
        assert!(matches!(found, Err(Error::Damaged(_))), "{found:?}");
    }
}
