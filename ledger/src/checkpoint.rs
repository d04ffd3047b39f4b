//! Checkpoints (<https://c2sp.org/tlog-checkpoint>) and the file that lists them.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::disk::{self, Access, AppendFile};
use crate::error::Error;
use crate::hash::Hash;
use crate::keys::PublicKeys;
use crate::note::{self, MAX_NOTE_BYTES, NoteError, SIGNATURE_START, SignedNote};

/// The text of a checkpoint, unsigned: origin, tree size and root hash, a line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointText {
    /// The log's name.
    pub origin: String,
    /// Leaves that the tree covers.
    pub size: u64,
    /// The root hash at that size.
    pub root: Hash,
}

impl CheckpointText {
    /// Reads the text of a checkpoint; extension lines are allowed and ignored.
    pub fn parse(text: &str) -> Result<CheckpointText, NoteError> {
        let mut lines = text
            .split_inclusive('\n')
            .map(|line| line.strip_suffix('\n'));
        let mut line = || {
            lines
                .next()
                .flatten()
                .ok_or(NoteError::Malformed("checkpoint is short"))
        };
        let (origin, size, root) = (line()?, line()?, line()?);
        if !note::is_key_name(origin) {
            return Err(NoteError::Malformed("checkpoint origin"));
        }
        if lines.any(|extension| extension.is_none_or(str::is_empty)) {
            return Err(NoteError::Malformed("checkpoint extension line"));
        }
        let size = parse_decimal(size).ok_or(NoteError::Malformed("checkpoint size"))?;
        let root = parse_hash(root).ok_or(NoteError::Malformed("checkpoint root hash"))?;
        Ok(CheckpointText {
            origin: origin.to_owned(),
            size,
            root,
        })
    }

    pub(crate) fn render(&self) -> String {
        format!(
            "{}\n{}\n{}\n",
            self.origin,
            self.size,
            STANDARD.encode(self.root.0)
        )
    }
}

/// A checkpoint whose signatures by the log's own keys have been verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    text: CheckpointText,
    time: u64,
    note: String,
}

impl Checkpoint {
    /// Verifies `note` with the log's keys and reads the checkpoint in it. Signatures by others are
    /// carried along, and not looked at.
    pub fn open(note: &str, keys: &PublicKeys) -> Result<Checkpoint, NoteError> {
        let signed = SignedNote::parse(note)?;
        let text = CheckpointText::parse(signed.text())?;
        let of_size = keys.at(text.size);
        match signed.verify(&of_size.log) {
            Err(NoteError::NotSigned) if keys.signed_in_another_epoch(&signed) => {
                return Err(NoteError::Epoch);
            }
            verified => verified?,
        }
        let time = signed.cosigned_at(&of_size.time)?;
        match text.origin == keys.name() {
            true => Ok(Checkpoint {
                text,
                time,
                note: note.to_owned(),
            }),
            false => Err(NoteError::Origin),
        }
    }

    /// As [`Checkpoint::open`], of what a file holds.
    pub(crate) fn read(note: &[u8], keys: &PublicKeys) -> Result<Checkpoint, NoteError> {
        Checkpoint::open(note::text(note)?, keys)
    }

    /// The log's name.
    pub fn origin(&self) -> &str {
        &self.text.origin
    }

    /// Leaves that it covers.
    pub fn size(&self) -> u64 {
        self.text.size
    }

    /// The root hash over them.
    pub fn root(&self) -> Hash {
        self.text.root
    }

    /// When it was signed, by the signer's clock, in POSIX seconds.
    pub fn time(&self) -> u64 {
        self.time
    }

    /// Whether it was signed after `other`: for more leaves, or later for as many.
    pub(crate) fn follows(&self, other: &Checkpoint) -> bool {
        (self.size(), self.time) > (other.size(), other.time)
    }

    /// The signed note, as published.
    pub fn note(&self) -> &str {
        &self.note
    }
}

/// One step through `checkpoints.txt`, and the byte at which it starts.
#[derive(Debug)]
pub(crate) enum Record {
    /// A note and the blank line after it.
    Note { note: Vec<u8>, offset: u64 },
    /// The file ends inside a record, or with one that is no note: a power loss can leave its end
    /// and not its middle.
    Torn { offset: u64 },
    /// The file ends after a record.
    End { offset: u64 },
}

/// Reads `checkpoints.txt` record by record: each is a signed note and a blank line.
pub(crate) struct Records<R> {
    input: R,
    offset: u64,
}

impl<R: BufRead> Records<R> {
    /// `input` starts at `offset`, before a record.
    pub(crate) fn new(input: R, offset: u64) -> Records<R> {
        Records { input, offset }
    }

    /// The next record. One longer than a note may be is returned cut, and will not parse.
    pub(crate) fn next(&mut self) -> io::Result<Record> {
        let offset = self.offset;
        let mut note = Vec::new();
        let mut signed = false;
        loop {
            let start = note.len();
            let room = u64::try_from(MAX_NOTE_BYTES + 1 - start).unwrap_or(0);
            self.input
                .by_ref()
                .take(room)
                .read_until(b'\n', &mut note)?;
            let line = &note[start..];
            self.offset += u64::try_from(line.len()).expect("a line is within a note");
            match line {
                [] if start == 0 => return Ok(Record::End { offset }),
                b"\n" if signed => {
                    note.truncate(start);
                    let is_torn = !is_note(&note) && self.input.fill_buf()?.is_empty();
                    return Ok(match is_torn {
                        true => Record::Torn { offset },
                        false => Record::Note { note, offset },
                    });
                }
                _ if note.len() > MAX_NOTE_BYTES => return Ok(Record::Note { note, offset }),
                [.., b'\n'] => signed = line.starts_with(SIGNATURE_START.as_bytes()),
                _ => return Ok(Record::Torn { offset }),
            }
        }
    }
}

fn is_note(bytes: &[u8]) -> bool {
    note::text(bytes).and_then(SignedNote::parse).is_ok()
}

/// A list of records to add to, without what a crash left of one at its end; and where the last whole
/// record starts.
pub(crate) fn open_list(path: &Path) -> Result<(AppendFile, u64), Error> {
    let mut list = AppendFile::open(path, Access::Everyone)?;
    let (last, end) = last_record(path)?;
    if list.len() > end {
        list.cut(end)?;
    }
    Ok((list, last))
}

/// Where the last whole record of a file starts and ends.
fn last_record(path: &Path) -> Result<(u64, u64), Error> {
    let file = disk::open(path).map_err(Error::io("open", path))?;
    let mut records = Records::new(BufReader::new(file), 0);
    let mut start = 0;
    loop {
        match records.next().map_err(Error::io("read", path))? {
            Record::Note { offset, .. } => start = offset,
            Record::End { offset } | Record::Torn { offset } => return Ok((start, offset)),
        }
    }
}

/// Whether a record stands right before byte `end` of a file.
pub(crate) fn stands_before(path: &Path, record: &str, end: u64) -> io::Result<bool> {
    let Some(start) = end.checked_sub(record.len() as u64) else {
        return Ok(false);
    };
    let mut file = disk::open(path)?;
    let mut found = Vec::with_capacity(record.len());
    file.seek(SeekFrom::Start(start))?;
    file.take(record.len() as u64).read_to_end(&mut found)?;
    Ok(found == record.as_bytes())
}

/// What [`Records`] reads back.
pub(crate) fn record(note: &str) -> String {
    format!("{note}\n")
}

/// A decimal number without sign or leading zeros.
pub(crate) fn parse_decimal(text: &str) -> Option<u64> {
    let canonical = text == "0" || !text.starts_with('0');
    (canonical && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

/// A hash in canonical base64.
pub(crate) fn parse_hash(text: &str) -> Option<Hash> {
    let bytes = STANDARD.decode(text).ok()?;
    Some(Hash(bytes.try_into().ok()?))
}
