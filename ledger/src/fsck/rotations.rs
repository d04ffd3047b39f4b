//! The rotations of the keys, held against the leaves that state them.

use super::Fsck;
use crate::error::{Cause, Error};
use crate::layout;
use crate::rotation::Rotation;

impl Fsck<'_, '_> {
    /// A leaf of the ledger's own: the next rotation of the keys, which is listed unless it was
    /// stated while this verification ran or just before a crash.
    pub(super) fn rotation(&mut self, leaf: &[u8]) -> Result<(), Error> {
        let unsound = |cause| {
            let path = layout::rotations(self.dir);
            Error::damaged(&path, 0, self.leaf(), Cause::Rotation(cause))
        };
        let note = std::str::from_utf8(leaf).map_err(|_| unsound("the leaf is not text"))?;
        let rotation = Rotation::open(note, &self.rotated);
        let rotation = rotation.map_err(|_| unsound("the leaf is not sound"))?;
        if rotation.size != self.size || rotation.root != self.root() {
            return Err(unsound("the leaf is not for this place"));
        }
        let listed = self.seals.keys.rotations();
        if let Some(listed) = listed.get(self.rotated.rotations().len())
            && *listed != rotation
        {
            return Err(unsound("the leaf is not the one that is listed"));
        }
        self.rotated.add(rotation);
        Ok(())
    }

    /// Every rotation that is listed is a leaf.
    pub(super) fn rotations_are_there(&self) -> Result<(), Error> {
        if self.rotated.extend(&self.seals.keys) {
            return Ok(());
        }
        let cause = Cause::Rotation("the log lacks a leaf that is listed");
        let path = layout::rotations(self.dir);
        Err(Error::damaged(&path, 0, self.leaf(), cause))
    }
}
