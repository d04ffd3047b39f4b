//! Leaves that are no longer there: what is left of them, held against what was signed.

use std::ops::RangeInclusive;
use std::path::Path;

use super::Fsck;
use crate::checkpoint::Checkpoint;
use crate::disk;
use crate::error::{Cause, Error};
use crate::gap::{self, Gap, Verified};
use crate::hash::{Hash, blake3_of};
use crate::keys::PublicKeys;
use crate::layout;
use crate::published;
use crate::remains::{self, Remains};

/// Leaves that may be gone, as recorded.
pub(super) struct Gone {
    pub(super) listed: Vec<Gap>,
    /// Leaves before this one are.
    pub(super) floor: u64,
}

impl Gone {
    pub(super) fn read(dir: &Path, trusted: Option<&PublicKeys>) -> Result<Gone, Error> {
        let (keys, last) = published::signed(dir, trusted)?;
        // Listed last: what is gone by then is recorded.
        let first = disk::segments(dir)?.first().copied().unwrap_or(0);
        let listed = gap::listed(dir, &keys, Verified::All)?;
        let sealed = last.as_ref().map_or(0, Checkpoint::size);
        let floor = gap::floor(dir, &listed, first, sealed)?;
        Ok(Gone { listed, floor })
    }

    /// Those whose leaves can no longer be read.
    pub(super) fn carried_out(&self) -> &[Gap] {
        let count = self.listed.partition_point(|gap| gap.end <= self.floor);
        &self.listed[..count]
    }
}

/// Leaves of a block, and its height.
const BLOCK: u64 = 256;
const BLOCK_HEIGHT: u32 = 8;

impl Fsck<'_, '_> {
    /// Brings the tree to the first leaf that is kept.
    pub(super) fn dropped(&mut self) -> Result<(), Error> {
        for gap in self.gone.carried_out() {
            self.gap_of(gap)?;
        }
        Ok(())
    }

    fn gap_of(&mut self, gap: &Gap) -> Result<(), Error> {
        let origin = blake3_of(&[self.seals.keys.name().as_bytes()]);
        let remains = remains::of(self.dir, gap, self.hash, origin)?;
        self.begins_with_rotation()?;
        let mut from = gap.first;
        self.tree.retain(|(height, _)| *height >= BLOCK_HEIGHT);
        for &hash in &remains.blocks {
            let end = from / BLOCK * BLOCK + BLOCK;
            self.signed_between(&remains, from + 1..=end - 1)?;
            self.add_block(hash);
            self.size = end;
            self.beside.at_size(end);
            if end < gap.end {
                self.boundary()?;
                self.begins_with_rotation()?;
            }
            from = end;
        }
        self.signed_between(&remains, from + 1..=gap.end.saturating_sub(1))?;
        for node in remains::low_frontier(gap.end) {
            let hash = remains.low(node);
            let hash = hash.ok_or_else(|| self.unknown(gap.end))?;
            self.tree.push((u32::from(node.level), hash));
        }
        (self.size, self.chain) = (gap.end, gap.chain);
        if self.root() != gap.root {
            let cause = Cause::Gap("what is left of them does not lead to the recorded root");
            let path = layout::remains(self.dir, gap.first);
            return Err(Error::damaged(&path, 0, gap.first..gap.end, cause));
        }
        self.boundary()
    }

    /// Whether what was signed of these sizes, of which no block ends, is what is left of them.
    fn signed_between(
        &mut self,
        remains: &Remains,
        sizes: RangeInclusive<u64>,
    ) -> Result<(), Error> {
        let is_in = |kept: &&Checkpoint| sizes.contains(&kept.size());
        for kept in self.kept().filter(is_in) {
            let (checkpoint_size, root) = (kept.size(), self.root_at(remains, kept.size()));
            match root {
                None => return Err(Error::TooOld { checkpoint_size }),
                Some(root) if root != kept.root() => {
                    return Err(Error::HistoryRewritten { checkpoint_size });
                }
                Some(_) => {}
            }
        }
        while let Some(next) = self.seals.next.as_ref().filter(is_in) {
            let size = next.size();
            let root = self.root_at(remains, size);
            if root != Some(next.root()) {
                return Err(self.unknown(size));
            }
            let note = self.seals.advance()?;
            self.compared.note(&note);
        }
        while let Some(next) = self.next_rotation().filter(|next| sizes.contains(next)) {
            let root = self.root_at(remains, next);
            self.rotation_at(root)?;
        }
        Ok(())
    }

    fn unknown(&self, size: u64) -> Error {
        let path = self.gone.carried_out().iter().rev();
        let gap = path.clone().find(|gap| gap.first < size);
        let path = layout::remains(self.dir, gap.map_or(0, |gap| gap.first));
        let leaves = self.seals.sealed()..size;
        Error::damaged(&path, 0, leaves, Cause::Root { size })
    }

    /// The root at a size, out of the tree of whole blocks before it and of what is left.
    fn root_at(&self, remains: &Remains, size: u64) -> Option<Hash> {
        let low = remains::low_frontier(size).into_iter();
        let low: Vec<Hash> = low.map(|node| remains.low(node)).collect::<Option<_>>()?;
        let blocks = self.tree.iter().map(|(_, hash)| *hash);
        let all: Vec<Hash> = blocks.chain(low).collect();
        let folded = all.into_iter().rev();
        folded.reduce(|right, left| self.hash.node(left, right))
    }

    fn add_block(&mut self, hash: Hash) {
        let (mut height, mut hash) = (BLOCK_HEIGHT, hash);
        self.completed(height, hash);
        while let Some((_, left)) = self.tree.pop_if(|(left, _)| *left == height) {
            (height, hash) = (height + 1, self.hash.node(left, hash));
            self.completed(height, hash);
        }
        self.tree.push((height, hash));
    }

    /// The size at which the next rotation stands.
    fn next_rotation(&self) -> Option<u64> {
        let next = self
            .seals
            .keys
            .rotations()
            .get(self.rotated.rotations().len());
        next.map(|next| next.size)
    }

    fn begins_with_rotation(&mut self) -> Result<(), Error> {
        match self.next_rotation() {
            Some(next) if next == self.size => self.rotation_at(Some(self.root())),
            _ => Ok(()),
        }
    }

    /// The next rotation is one of a leaf that was dropped, at the size of this root.
    fn rotation_at(&mut self, root: Option<Hash>) -> Result<(), Error> {
        let next = self
            .seals
            .keys
            .rotations()
            .get(self.rotated.rotations().len());
        let Some(next) = next.filter(|next| Some(next.root) == root).cloned() else {
            let cause = Cause::Rotation("the leaf is not for this place");
            return Err(Error::damaged(
                &layout::rotations(self.dir),
                0,
                self.leaf(),
                cause,
            ));
        };
        self.rotated.add(next);
        Ok(())
    }
}
