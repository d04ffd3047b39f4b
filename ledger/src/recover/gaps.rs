//! Leaves that are no longer kept: what is known of them, and a removal that was cut short.

use super::Found;
use super::scan::Scanned;
use crate::append::Edge;
use crate::disk;
use crate::error::{Cause, Error};
use crate::gap::{self, Gap};
use crate::hash::origin_hash;
use crate::index::LeafPlace;
use crate::layout;
use crate::remains;
use crate::segment::Header;

impl Found<'_> {
    /// Where the first leaf that is read stands.
    pub(super) fn floor_place(&self) -> LeafPlace {
        LeafPlace {
            segment: self.floor,
            offset: Header::LEN as u64,
        }
    }

    /// Brings the edge from the beginning of the log to the floor, by what is left of the leaves
    /// before it. `flush` is called now and then, to put the tiles that are gathered elsewhere.
    pub(super) fn replay(
        &self,
        edge: &mut Edge,
        mut flush: impl FnMut(&mut Edge) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let origin = origin_hash(self.keys.name());
        for gap in self.gaps.iter().filter(|gap| gap.end <= self.floor) {
            let remains = remains::of(self.dir, gap, self.kind, origin)?;
            let tiles = &mut edge.tiles;
            let replayed = remains.replay(&mut edge.frontier, |node, hash| tiles.add(node, hash));
            if replayed.is_none() || edge.frontier.root() != gap.root {
                let path = layout::remains(self.dir, gap.first);
                let cause = Cause::Gap("what is left of them does not lead to the recorded root");
                return Err(Error::damaged(&path, 0, gap.first..gap.end, cause));
            }
            edge.chain = gap.chain;
            flush(edge)?;
        }
        Ok(())
    }

    /// The statement at the end of the log that `gaps.txt` does not list, if there is one. Those
    /// that it lists must be the leaves that were read again.
    pub(super) fn stated_gap(&self, scanned: &Scanned) -> Result<Option<Gap>, Error> {
        let size = scanned.edge.size();
        if let Some(beyond) = self.gaps.last().filter(|last| last.index >= size) {
            return Err(Error::RolledBack {
                log_size: size,
                checkpoint_size: beyond.index + 1,
            });
        }
        let own = scanned.own_leaves.iter().filter(|(_, leaf)| Gap::is(leaf));
        for (index, leaf) in own {
            let leaves = *index..index + 1;
            let other = |cause| {
                Error::damaged(
                    &layout::gaps(self.dir),
                    0,
                    leaves.clone(),
                    Cause::Gap(cause),
                )
            };
            match self.gaps.iter().find(|gap| gap.index == *index) {
                Some(known) if known.note.as_bytes() == leaf => {}
                None if index + 1 == size => {
                    let note = std::str::from_utf8(leaf);
                    let note = note.map_err(|_| other("the leaf is not text"))?;
                    let stated = Gap::open(note, &self.keys, self.gaps.last());
                    return match stated {
                        Ok(stated) if stated.index == *index => Ok(Some(stated)),
                        _ => Err(other("the leaf is not sound")),
                    };
                }
                _ => return Err(other("the leaf is not listed")),
            }
        }
        Ok(None)
    }

    /// Lists what the log states, and makes the list durable; returns the newest gap. Only called
    /// once the leaf is durable.
    pub(super) fn settle_gaps(&self, stated: Option<Gap>) -> Result<Option<Gap>, Error> {
        match stated {
            Some(gap) => {
                gap::list(self.dir, &gap)?;
                Ok(Some(gap))
            }
            None if disk::exists(&layout::gaps(self.dir))? => {
                gap::settle(self.dir)?;
                Ok(self.gaps.last().cloned())
            }
            None => Ok(None),
        }
    }

    /// Whether a segment is there that begins before `leaf`.
    pub(super) fn has_before(&self, leaf: u64) -> Result<bool, Error> {
        let firsts = disk::segments(self.dir)?;
        Ok(firsts.first().is_some_and(|first| *first < leaf))
    }
}
