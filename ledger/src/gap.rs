//! Gap statements: the leaves by which the ledger says which leaves it no longer keeps, and the file
//! that lists them.
//!
//! A log keeps its leaves from some index on. Each statement goes on where the one before it ended.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::checkpoint::{self, Record, Records, parse_decimal, parse_hash};
use crate::disk::{self, AppendFile};
use crate::error::{Cause, Error};
use crate::hash::Hash;
use crate::key::LogSecret;
use crate::keys::PublicKeys;
use crate::layout;
use crate::note::{self, NoteError, SignedNote};

/// The first line of a statement. With its spaces it is no origin, as in `rotation.rs`.
const HEADER: &str = "daemoneye ledger gap v1";

/// Some 400,000 statements.
const MAX_GAPS_BYTES: u64 = 256 << 20;

/// Why leaves were dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// They were older than leaves are kept.
    Age,
    /// The segments took more bytes than they may.
    Size,
}

impl Reason {
    /// Its name in a statement.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Age => "age",
            Reason::Size => "size",
        }
    }

    fn from_name(name: &str) -> Option<Reason> {
        [Reason::Age, Reason::Size]
            .into_iter()
            .find(|reason| reason.name() == name)
    }
}

/// Leaves that are no longer kept, as the log itself states it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gap {
    /// The first of them.
    pub first: u64,
    /// The first leaf after them.
    pub end: u64,
    /// Why they were dropped.
    pub reason: Reason,
    /// Bytes of the segments that held them.
    pub bytes: u64,
    /// The root hash over all leaves before `end`.
    pub root: Hash,
    /// The leaf that states this.
    pub index: u64,
    /// When, in POSIX seconds.
    pub time: u64,
    /// The chain value before leaf `end`.
    pub(crate) chain: Hash,
    /// BLAKE3 of the remains.
    pub(crate) remains: Hash,
    /// The signed note, which is the leaf.
    pub(crate) note: String,
}

impl Gap {
    /// Whether a leaf of the ledger's own is meant as a statement of this kind.
    pub(crate) fn is(leaf: &[u8]) -> bool {
        leaf.starts_with(HEADER.as_bytes())
    }

    /// Reads and verifies a statement that must go on after `last`.
    pub(crate) fn open(
        note: &str,
        keys: &PublicKeys,
        last: Option<&Gap>,
    ) -> Result<Gap, NoteError> {
        let gap = Gap::read(note, keys, last)?;
        gap.verify(keys)?;
        Ok(gap)
    }

    /// As [`Gap::open`], but leaves the signature to [`Gap::verify`].
    fn read(note: &str, keys: &PublicKeys, last: Option<&Gap>) -> Result<Gap, NoteError> {
        let signed = SignedNote::parse(note)?;
        let malformed = NoteError::Malformed("gap statement");
        let (origin, gap) = parse(signed.text(), note).ok_or(malformed)?;
        if origin != keys.name() {
            return Err(NoteError::Origin);
        }
        let goes_on = last.map_or((0, 0), |last| (last.end, last.index + 1));
        let is_next = gap.first == goes_on.0 && gap.index >= goes_on.1;
        match is_next && gap.first < gap.end && gap.end <= gap.index {
            true => Ok(gap),
            false => Err(NoteError::Malformed("gap statement is out of order")),
        }
    }

    fn verify(&self, keys: &PublicKeys) -> Result<(), NoteError> {
        // A rotation is a leaf of its own, so the keys of this one sign for both sizes around it.
        SignedNote::parse(&self.note)?.verify(&keys.at(self.index).log)
    }

    /// The text that is signed.
    fn text(&self, origin: &str) -> String {
        let hash = |hash: &Hash| STANDARD.encode(hash.0);
        let (root, chain, remains) = (hash(&self.root), hash(&self.chain), hash(&self.remains));
        format!(
            "{HEADER}\n{origin}\n{}\n{}\n{}\n{}\n{}\n{root}\n{chain}\n{remains}\n{}\n",
            self.index,
            self.first,
            self.end - 1,
            self.reason.name(),
            self.bytes,
            self.time,
        )
    }

    /// With the note in it.
    pub(crate) fn signed(mut self, key: &LogSecret) -> Gap {
        let text = self.text(key.origin());
        self.note = note::sign(&text, self.time, &[key.signer()]);
        self
    }
}

fn parse(text: &str, note: &str) -> Option<(String, Gap)> {
    let rest = text.strip_prefix(HEADER)?.strip_prefix('\n')?;
    let mut lines = rest.strip_suffix('\n')?.split('\n');
    let origin = lines.next()?.to_owned();
    let mut number = || parse_decimal(lines.next()?);
    let (index, first, last) = (number()?, number()?, number()?);
    let gap = Gap {
        index,
        first,
        end: last.checked_add(1)?,
        reason: Reason::from_name(lines.next()?)?,
        bytes: parse_decimal(lines.next()?)?,
        root: parse_hash(lines.next()?)?,
        chain: parse_hash(lines.next()?)?,
        remains: parse_hash(lines.next()?)?,
        time: parse_decimal(lines.next()?)?,
        note: note.to_owned(),
    };
    lines.next().is_none().then_some((origin, gap))
}

/// Which statements to verify the signatures of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verified {
    All,
    /// The newest alone, which is what a writer builds on.
    Newest,
}

/// What `gaps.txt` lists. A statement at its end that is torn is left out.
pub(crate) fn listed(dir: &Path, keys: &PublicKeys, verified: Verified) -> Result<Vec<Gap>, Error> {
    let path = layout::gaps(dir);
    let Some(bytes) = disk::read_small(&path, MAX_GAPS_BYTES)? else {
        return Ok(Vec::new());
    };
    let damaged = |offset| {
        let path = path.clone();
        move |source| Error::damaged(&path, offset, 0..0, Cause::Gaps { source })
    };
    let mut gaps: Vec<Gap> = Vec::new();
    let mut records = Records::new(&bytes[..], 0);
    while let Record::Note { note, offset } = records.next().map_err(Error::io("read", &path))? {
        let read = note::text(&note).and_then(|note| match verified {
            Verified::All => Gap::open(note, keys, gaps.last()),
            Verified::Newest => Gap::read(note, keys, gaps.last()),
        });
        gaps.push(read.map_err(damaged(offset))?);
    }
    if let Some(newest) = gaps.last() {
        newest.verify(keys).map_err(damaged(0))?;
    }
    Ok(gaps)
}

/// Adds the statement to `gaps.txt`, durably; what a crash left of it there is cut first.
pub(crate) fn list(dir: &Path, gap: &Gap) -> Result<(), Error> {
    let mut listed = settle(dir)?;
    listed.write(checkpoint::record(&gap.note).as_bytes())?;
    listed.sync()
}

/// Makes what `gaps.txt` lists durable, and cuts what is torn: segments are removed by it.
pub(crate) fn settle(dir: &Path) -> Result<AppendFile, Error> {
    let (mut listed, last) = checkpoint::open_list(&layout::gaps(dir))?;
    listed.renew(last)?;
    Ok(listed)
}

/// The index of the first leaf that is kept and can be verified, in a directory whose first segment
/// begins at `first`: where that is within a gap, its removal was cut short. Of a gap whose leaf is
/// among the `sealed` ones nothing is needed: what is there of it is about to go, or was put back.
pub(crate) fn floor(dir: &Path, gaps: &[Gap], first: u64, sealed: u64) -> Result<u64, Error> {
    let mut newest_first = gaps.iter().rev();
    let dropped = newest_first.find(|gap| gap.index < sealed);
    let dropped = dropped.map_or(0, |gap| gap.end);
    if first <= dropped {
        return Ok(dropped);
    }
    let recorded = gaps.partition_point(|gap| gap.end < first);
    let unrecorded = || {
        let from = gaps.last().map_or(0, |gap| gap.end);
        let missing = layout::segment(dir, from);
        Error::damaged(&missing, 0, from..first, Cause::Missing)
    };
    gaps.get(recorded).map(|gap| gap.end).ok_or_else(unrecorded)
}
