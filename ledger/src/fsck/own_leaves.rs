//! The leaves that the ledger itself appended.

use super::Fsck;
use crate::error::{Cause, Error};
use crate::gap::Gap;
use crate::layout;

impl Fsck<'_, '_> {
    pub(super) fn own_leaf(&mut self, leaf: &[u8]) -> Result<(), Error> {
        match Gap::is(leaf) {
            true => self.gap(leaf),
            false => self.rotation(leaf),
        }
    }

    /// The leaf that states a gap, which is listed unless it was stated while this verification ran
    /// or just before a crash.
    fn gap(&mut self, leaf: &[u8]) -> Result<(), Error> {
        let unsound = |cause| {
            let path = layout::gaps(self.dir);
            Error::damaged(&path, 0, self.leaf(), Cause::Gap(cause))
        };
        let listed = &self.gone.listed;
        let at = listed.partition_point(|gap| gap.index < self.size);
        let last = at.checked_sub(1).map(|last| &listed[last]);
        let note = std::str::from_utf8(leaf).map_err(|_| unsound("the leaf is not text"))?;
        let gap = Gap::open(note, &self.seals.keys, last);
        let gap = gap.map_err(|_| unsound("the leaf is not sound"))?;
        if gap.index != self.size {
            return Err(unsound("the leaf is not for this place"));
        }
        match listed.get(at) {
            Some(listed) if *listed != gap => {
                Err(unsound("the leaf is not the one that is listed"))
            }
            Some(_) => {
                self.stated += 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Every gap that is listed is a leaf, where that can be read.
    pub(super) fn gaps_are_there(&self) -> Result<(), Error> {
        let listed = self.gone.listed.iter();
        let to_read = listed.filter(|gap| gap.index >= self.gone.floor).count();
        if self.stated == to_read {
            return Ok(());
        }
        let cause = Cause::Gap("the log lacks a leaf that is listed");
        Err(Error::damaged(
            &layout::gaps(self.dir),
            0,
            self.leaf(),
            cause,
        ))
    }
}
