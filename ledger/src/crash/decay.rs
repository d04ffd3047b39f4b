//! What an operator or a bad sector does to the files that can be made again from the others.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use fastrand::Rng;

use super::disk::make;
use crate::disk::Change;
use crate::layout;

const SECTOR: usize = 512;

/// Removes, cuts or overwrites a part of the index or of the tree beside the log.
pub(super) fn of_what_can_be_made_again(dir: &Path, random: &mut Rng) {
    let path = match random.bool() {
        true => layout::index(dir),
        false => layout::tree(dir),
    };
    let Ok(file) = fs::metadata(&path) else {
        return;
    };
    // Where the disk is full a part of it is done, or nothing.
    let _ = match random.u8(..4) {
        0 | 1 => make(Change::Remove(&path), || fs::remove_file(&path)),
        2 => cut(&path, random.u64(..file.len() + 1)),
        _ => overwrite(&path, file.len(), random),
    };
}

fn cut(path: &Path, len: u64) -> std::io::Result<()> {
    let file = fs::OpenOptions::new().write(true).open(path)?;
    make(Change::SetLen { path, len }, || file.set_len(len))?;
    make(Change::Sync(path), || Ok(()))
}

/// Often its first sector, which says how to read the rest.
fn overwrite(path: &Path, len: u64, random: &mut Rng) -> std::io::Result<()> {
    let sectors = len.div_ceil(SECTOR as u64);
    let sector = [0, random.u64(..sectors.max(1))][random.usize(..2)];
    let offset = sector * SECTOR as u64 + random.u64(..SECTOR as u64);
    let room = len
        .saturating_sub(offset)
        .min([1, 8, SECTOR as u64][random.usize(..3)]);
    let mut bytes = vec![0; usize::try_from(room).expect("a sector at most")];
    bytes.fill_with(|| random.u8(..));
    let file = fs::OpenOptions::new().write(true).open(path)?;
    let write = Change::Write {
        path,
        offset,
        bytes: &bytes,
    };
    make(write, || file.write_all_at(&bytes, offset))?;
    make(Change::Sync(path), || Ok(()))
}
