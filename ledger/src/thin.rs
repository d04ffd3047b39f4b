//! Keeps `checkpoints.txt` from growing without end: all of the last day, one an hour of what is older.
//!
//! A checkpoint that goes was one of many that lead to the same leaves: each one after it signs for
//! all that it signed for. What is left is in the same order and byte for byte as it was, and the
//! newest is always among it.

use std::path::Path;

use crate::checkpoint::{self, CheckpointText, Record, Records};
use crate::disk::{self, Access, AppendFile};
use crate::error::Error;
use crate::keys::PublicKeys;
use crate::layout;
use crate::note::SignedNote;

/// Seconds for which all are kept. None in unit tests, whose lives are short.
const ALL_SECONDS: u64 = if cfg!(test) { 0 } else { 86_400 };

/// Of older ones the first of each of these spans is kept.
const SPAN_SECONDS: u64 = 3_600;

/// A list of so many bytes is thinned: some 14,000 checkpoints, a day and a half of one every 10 s.
const LEAST_BYTES: u64 = if cfg!(test) { 2 << 10 } else { 8 << 20 };

/// Bytes that are written at once.
const WRITE_BYTES: usize = 1 << 20;

/// From which length on a list is thinned again that was this long afterwards. So each byte is
/// written twice at most, in the long run.
pub(crate) fn next_at(len: u64) -> u64 {
    LEAST_BYTES.max(2 * len)
}

/// From which length on a list is thinned again that could not be at this length: some five hours
/// later.
pub(crate) fn again_at(len: u64) -> u64 {
    len + LEAST_BYTES / 8
}

/// Why a list was not thinned.
#[derive(Debug)]
pub(crate) enum NotThinned {
    /// The old list is there as it was: it can be added to, and be thinned later.
    AsBefore(Error),
    /// The new one has its name, which is not known to be durable: a power loss may bring back the old
    /// one, without what is added now.
    Unsettled(Error),
}

/// Replaces the list in `dir` by a shorter one, which keeps what is of the last day or in the future,
/// and those around rotations. Returns the new list; `None` where what is not sound in the old one
/// has to stay.
pub(crate) fn thin(
    dir: &Path,
    keys: &PublicKeys,
    now: u64,
) -> Result<Option<AppendFile>, NotThinned> {
    let written = write(dir, keys, now);
    if let Ok(Some(list)) = written {
        return put(dir, list).map(Some);
    }
    // Where the disk is full, others need its room. If it stays, the next one begins with it.
    let _ = disk::remove(&layout::thinned_checkpoints(dir));
    written.map_err(NotThinned::AsBefore)
}

/// Puts the shorter list in the place of the other.
fn put(dir: &Path, mut list: AppendFile) -> Result<AppendFile, NotThinned> {
    let thinned = layout::thinned_checkpoints(dir);
    match list.take_name(&layout::checkpoints(dir)) {
        Ok(()) => {}
        // A name that is gone was taken all the same: some network file systems answer so.
        Err(error) if !disk::exists(&thinned).unwrap_or(false) => {
            return Err(NotThinned::Unsettled(error));
        }
        Err(error) => {
            let _ = disk::remove(&thinned);
            return Err(NotThinned::AsBefore(error));
        }
    }
    disk::sync_dir(dir).map_err(NotThinned::Unsettled)?;
    Ok(list)
}

/// Writes the shorter list beside the other, durably.
fn write(dir: &Path, keys: &PublicKeys, now: u64) -> Result<Option<AppendFile>, Error> {
    let path = layout::checkpoints(dir);
    let mut out = AppendFile::open(&layout::thinned_checkpoints(dir), Access::Everyone)?;
    // Left by a crash.
    out.cut(0)?;
    let file = disk::open(&path).map_err(Error::io("open", &path))?;
    let mut records = Records::new(std::io::BufReader::new(file), 0);
    let mut rule = Rule::new(keys, now);
    // One behind: the last one stays whatever it is.
    let (mut pending, mut buffer) = (None::<(String, bool)>, String::new());
    while let Record::Note { note, .. } = records.next().map_err(Error::io("read", &path))? {
        // One that is not sound stays, for `verify` to tell of.
        let Ok(note) = String::from_utf8(note) else {
            return Ok(None);
        };
        let stays = rule.keeps(&note);
        if let Some((note, true)) = pending.replace((note, stays)) {
            buffer.push_str(&checkpoint::record(&note));
        }
        if buffer.len() >= WRITE_BYTES {
            out.write(buffer.as_bytes())?;
            buffer.clear();
        }
    }
    if let Some((note, _)) = pending {
        buffer.push_str(&checkpoint::record(&note));
    }
    out.write(buffer.as_bytes())?;
    // Before the rename, or the new name could outlive a power loss without the bytes.
    out.sync()?;
    Ok(Some(out))
}

/// Which checkpoints stay.
struct Rule<'a> {
    keys: &'a PublicKeys,
    now: u64,
    /// The span of the one before.
    span: Option<u64>,
}

impl Rule<'_> {
    fn new(keys: &PublicKeys, now: u64) -> Rule<'_> {
        Rule {
            keys,
            now,
            span: None,
        }
    }

    fn keeps(&mut self, note: &str) -> bool {
        let read = SignedNote::parse(note).ok();
        let read = read.and_then(|note| {
            let size = CheckpointText::parse(note.text()).ok()?.size;
            Some((size, note.claimed_at(&self.keys.at(size).time)?))
        });
        let Some((size, time)) = read else {
            return true;
        };
        let is_recent = time.saturating_add(ALL_SECONDS) > self.now;
        let is_first = self.span.replace(time / SPAN_SECONDS) != Some(time / SPAN_SECONDS);
        let mut rotations = self.keys.rotations().iter();
        let is_rotation = rotations.any(|next| next.size == size || next.size + 1 == size);
        is_recent || is_first || is_rotation
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::{IndexStatus, Ledger, Options, VerifyOptions, verify};

    static CLOCK: AtomicU64 = AtomicU64::new(1_700_000_000);

    fn sizes(dir: &Path) -> Vec<u64> {
        let listed = std::fs::read(layout::checkpoints(dir)).unwrap();
        let mut records = Records::new(&listed[..], 0);
        let mut sizes = Vec::new();
        while let Record::Note { note, .. } = records.next().unwrap() {
            let note = SignedNote::parse(std::str::from_utf8(&note).unwrap()).unwrap();
            sizes.push(CheckpointText::parse(note.text()).unwrap().size);
        }
        sizes
    }

    /// A checkpoint every ten minutes, for two days.
    #[test]
    fn a_list_keeps_one_an_hour_the_newest_and_those_of_rotations() {
        let (dir, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let options = Options {
            clock: || CLOCK.load(Ordering::Relaxed),
            ..Options::new("daemoneye/test")
        };
        let (mut ledger, _) = Ledger::open(dir.path(), &options).unwrap();
        let mut export = crate::Export::open(copies.path(), dir.path()).unwrap();
        let mut rotated = 0;
        for round in 0..288 {
            CLOCK.fetch_add(600, Ordering::Relaxed);
            ledger.append(b"leaf").unwrap();
            match round {
                100 => rotated = ledger.rotate().unwrap(),
                _ => drop(ledger.checkpoint().unwrap()),
            }
            let last = ledger.last_checkpoint().unwrap().clone();
            export.add(&last).unwrap();
            if round % 7 == 0 {
                drop(ledger);
                let (reopened, recovery) = Ledger::open(dir.path(), &options).unwrap();
                assert!(recovery.is_clean(), "{recovery:?}");
                assert_eq!(reopened.last_checkpoint(), Some(&last));
                ledger = reopened;
            }
        }
        let (listed, size) = (sizes(dir.path()), ledger.size());
        assert!((50..120).contains(&listed.len()), "{listed:?}");
        let must_be = [0, rotated, rotated + 1, size];
        assert!(
            must_be.iter().all(|size| listed.contains(size)),
            "{listed:?}"
        );
        let copied = sizes(copies.path());
        assert!((50..120).contains(&copied.len()), "{copied:?}");
        drop(ledger);
        let report = verify(dir.path(), VerifyOptions::default()).unwrap();
        assert_eq!(report.checkpoints, listed.len() as u64);
        assert_eq!(report.index, IndexStatus::Agrees);
    }
}
