//! Reads segments from a known edge to where the log really ends.

use super::{Found, REBUILD_LEAVES};
use crate::append::Edge;
use crate::disk;
use crate::error::{Cause, Error};
use crate::hash::{Hash, origin_hash};
use crate::index::{LeafPlace, State};
use crate::layout;
use crate::rotation::OWN_LEAF;
use crate::segment::{self, Header, Nonce, Scanner, Step};

/// A pass over the segments from a known edge to the end.
pub(super) struct Scan<'a> {
    pub(super) found: &'a Found<'a>,
    /// Leaves that are known to have been durable: a bad one among them is damage.
    pub(super) covered: u64,
    /// The size whose root is wanted.
    pub(super) watch: u64,
    /// What the leaves up to the size of the index must come to.
    pub(super) record: Option<&'a State>,
}

pub(super) struct Scanned {
    /// The first leaf of the pass.
    pub(super) from: u64,
    pub(super) edge: Edge,
    /// Where the sound leaves end.
    pub(super) end: LeafPlace,
    /// Where the last commit that was read starts. What stands before it was durable before it was
    /// written.
    pub(super) last_commit: Option<LeafPlace>,
    /// The nonce of the segment they end in.
    pub(super) nonce: Nonce,
    /// The leaves that the ledger itself appended, with their indices.
    pub(super) own_leaves: Vec<(u64, Vec<u8>)>,
    /// The root at the watched size, if the pass went over it.
    pub(super) watched: Option<Hash>,
}

impl Scan<'_> {
    pub(super) fn run(
        &self,
        edge: Edge,
        start: LeafPlace,
        mut flush: impl FnMut(&mut Edge, LeafPlace) -> Result<(), Error>,
    ) -> Result<Scanned, Error> {
        let mut scanned = Scanned {
            from: edge.size(),
            edge,
            end: start,
            last_commit: None,
            nonce: Nonce::default(),
            own_leaves: Vec::new(),
            watched: None,
        };
        self.watch(&mut scanned)?;
        let firsts = &self.found.firsts;
        for &first in firsts.iter().filter(|&&first| first >= start.segment) {
            let mut scanner = if first == start.segment {
                self.scanner(first, start.offset, |_| Ok(()))?
            } else {
                self.next_segment(&mut scanned, first)?
            };
            scanned.nonce = scanner.nonce();
            self.leaves(&mut scanned, &mut scanner, &mut flush)?;
        }
        Ok(scanned)
    }

    fn leaves(
        &self,
        scanned: &mut Scanned,
        scanner: &mut Scanner,
        flush: &mut impl FnMut(&mut Edge, LeafPlace) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let path = layout::segment(self.found.dir, scanned.end.segment);
        loop {
            match scanner.next().map_err(Error::io("read", &path))? {
                Step::End => return Ok(()),
                Step::Bad(cause) => return self.bad(scanned, scanner, cause),
                Step::Leaf => {
                    if scanner.leaf().starts_with(OWN_LEAF) {
                        let index = scanned.edge.size();
                        scanned.own_leaves.push((index, scanner.leaf().to_vec()));
                    }
                    if scanner.starts_commit() {
                        scanned.last_commit = Some(scanned.end);
                    }
                    let (link, chain) = (scanner.link(), scanner.chain());
                    scanned.edge.add(scanner.leaf(), link, chain, scanned.end);
                    scanned.end.offset = scanner.offset();
                    self.watch(scanned)?;
                }
            }
            if scanned.edge.size().is_multiple_of(REBUILD_LEAVES) {
                flush(&mut scanned.edge, scanned.end)?;
            }
        }
    }

    fn watch(&self, scanned: &mut Scanned) -> Result<(), Error> {
        let size = scanned.edge.size();
        if size == self.watch {
            scanned.watched = Some(scanned.edge.frontier.root());
        }
        match self.record {
            Some(record) if size == record.frontier.size() => self.compare(scanned, record),
            _ => Ok(()),
        }
    }

    /// Holds the leaves that the index covers against its commit record.
    fn compare(&self, scanned: &mut Scanned, record: &State) -> Result<(), Error> {
        let Scanned { edge, end, .. } = scanned;
        // The segment that the next leaf begins may have been there already, without a leaf.
        let next = LeafPlace {
            segment: edge.size(),
            offset: Header::LEN as u64,
        };
        // Or the leaf before it was the last of a segment that was dropped since.
        let was_dropped = record.end.segment < self.found.floor && edge.size() == self.found.floor;
        let ends_there = [*end, next].contains(&record.end) || was_dropped;
        if edge.frontier != record.frontier || edge.chain != record.chain || !ends_there {
            let path = layout::segment(self.found.dir, end.segment);
            let cause = Cause::Index("its commit record is not of these leaves");
            let leaves = 0..record.frontier.size();
            return Err(Error::damaged(&path, end.offset, leaves, cause));
        }
        // It has all that was gathered so far.
        edge.tiles.stored();
        edge.offsets.clear();
        Ok(())
    }

    /// Moves on to the segment that starts at leaf `first`, which must continue the edge.
    fn next_segment(&self, scanned: &mut Scanned, first: u64) -> Result<Scanner, Error> {
        let (dir, size) = (self.found.dir, scanned.edge.size());
        if first > size {
            let missing = layout::segment(dir, size);
            return Err(Error::damaged(&missing, 0, size..first, Cause::Missing));
        }
        let belongs = |header: &Header| {
            let expected = Header {
                hash: scanned.edge.frontier.kind(),
                first: size,
                nonce: header.nonce,
                origin: origin_hash(self.found.keys.name()),
                chain: scanned.edge.chain,
            };
            let foreign = Cause::Header("it does not continue the segment before it");
            if *header == expected && first == size {
                Ok(())
            } else {
                Err(foreign)
            }
        };
        let scanner = self.scanner(first, Header::LEN as u64, belongs)?;
        scanned.end = LeafPlace {
            segment: first,
            offset: Header::LEN as u64,
        };
        Ok(scanner)
    }

    fn scanner(
        &self,
        first: u64,
        offset: u64,
        belongs: impl FnOnce(&Header) -> Result<(), Cause>,
    ) -> Result<Scanner, Error> {
        let path = layout::segment(self.found.dir, first);
        let mut file = disk::open(&path).map_err(Error::io("open", &path))?;
        let header = segment::read_header(&mut file).map_err(Error::io("read", &path))?;
        let header = header.and_then(|header| belongs(&header).map(|()| header));
        let header = header.map_err(|cause| Error::damaged(&path, 0, first..first + 1, cause))?;
        let len = disk::len(&path)?;
        Scanner::new(file, header.nonce, offset, len).map_err(Error::io("read", &path))
    }

    /// A frame is not sound: the torn end of the last write, or damage.
    fn bad(&self, scanned: &Scanned, scanner: &Scanner, cause: Cause) -> Result<(), Error> {
        let (leaf, offset) = (scanned.edge.size(), scanner.offset());
        let path = layout::segment(self.found.dir, scanned.end.segment);
        if leaf >= self.covered && self.found.firsts.last() == Some(&scanned.end.segment) {
            let mut file = disk::open(&path).map_err(Error::io("open", &path))?;
            let commit =
                segment::commit_follows(&mut file, scanner.nonce(), offset, scanner.limit());
            if commit.map_err(Error::io("read", &path))? == Some(false) {
                return Ok(());
            }
        }
        Err(Error::damaged(&path, offset, leaf..leaf + 1, cause))
    }
}
