//! Opening: finds where the log really ends, and settles what a crash left.
//!
//! Nothing is cut before everything was compared. Order of trust: the segments say what is there;
//! the last checkpoint and the index's commit record say what was there.

mod create;
mod gaps;
mod scan;
mod secret;
mod tail;

use std::collections::BTreeMap;
use std::io::{BufReader, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use crate::append::{Edge, Ledger, Options};
use crate::checkpoint::{self, Checkpoint, Record, Records};
use crate::disk::{self, Access, AppendFile, Lock};
use crate::error::{Cause, Error};
use crate::gap::{self, Gap, Verified};
use crate::hash::{Hash, HashKind};
use crate::index::{self, Index, LeafPlace, Opened, State};
use crate::keys::{self, PublicKeys};
use crate::layout;
use crate::note::NoteError;
use crate::prove::{Indexed, Nodes};
use crate::published;
use crate::reader::{Live, Reader};
use crate::segment::{Header, Nonce, Scanner};
use crate::thin;
use crate::tiles::Tiles;
use crate::tree_file::GrowingTree;
use create::{create_log, first_edge, hash_kind, secrets};
use scan::{Scan, Scanned};
use secret::Secrets;
use tail::Tail;

/// Leaves between index commits while the index is rebuilt, so that memory stays flat. Few in unit
/// tests, as below.
const REBUILD_LEAVES: u64 = if cfg!(test) { 1 << 3 } else { 1 << 20 };

/// What an open found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// The log was created.
    pub created: bool,
    /// Leaves in the log.
    pub entries: u64,
    /// Leaves that the last checkpoint covers.
    pub sealed: u64,
    /// Leaves found after the last checkpoint: chained, but signed for by nobody yet. The next
    /// checkpoint signs for them. After a crash these are the leaves committed since the last
    /// checkpoint; whoever can write the files can put others there.
    pub unsealed: u64,
    /// Leaves read again because the index did not cover them yet.
    pub replayed: u64,
    /// Bytes of a torn, never acknowledged write that were cut from the last segment.
    pub cut_bytes: u64,
    /// Bytes of a torn checkpoint that were cut from checkpoints.txt.
    pub cut_checkpoint_bytes: u64,
    /// What became of a rotation of the keys that was cut short.
    pub rotation: RotationRecovery,
    /// What became of the index.
    pub index: IndexRecovery,
}

impl Recovery {
    /// Whether the last run ended in a clean close and nothing was wrong.
    pub fn is_clean(&self) -> bool {
        let cut = self.cut_bytes + self.cut_checkpoint_bytes;
        let read = self.replayed + self.unsealed;
        let is_sound = self.index == IndexRecovery::Sound;
        cut == 0 && read == 0 && is_sound && self.rotation == RotationRecovery::None
    }
}

/// What became of a rotation of the keys that was cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RotationRecovery {
    /// There was none.
    None,
    /// The log did not name the successor yet: it was erased, and the old keys go on.
    Undone,
    /// The log named the successor: it has taken over, and the old secret is erased.
    Finished,
}

/// What became of the index at open.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum IndexRecovery {
    /// It was there and agrees with the log. Also for a new log.
    Sound,
    /// It was built again from the segments; cursors are lost.
    Rebuilt {
        /// Why.
        reason: String,
    },
}

pub(crate) fn open(dir: &Path, options: &Options) -> Result<(Ledger, Recovery), Error> {
    disk::create_dir(dir)?;
    let lock = disk::lock(dir)?;
    disk::create_dir(&layout::entries(dir))?;
    let created = disk::segments(dir)?.is_empty();
    settle_names(dir, created)?;
    let secrets = secrets(dir, options, created)?;
    let rotated = disk::exists(&layout::rotations(dir))?;
    if let Some(first) = secrets.current.as_ref().filter(|_| created && !rotated) {
        keys::publish(dir, &first.public())?;
        create_log(dir, options, first)?;
    }
    // A log begins with a checkpoint, so one without is not as it was left.
    let keys = published::public_keys(dir)?;
    let last = published::last_checkpoint(dir, &keys)?
        .ok_or_else(|| Error::damaged(&layout::last_checkpoint(dir), 0, 0..0, Cause::Missing))?;
    let firsts = disk::segments(dir)?;
    let gaps = gap::listed(dir, &keys, Verified::Newest)?;
    let first = firsts.first().copied().unwrap_or(0);
    let floor = gap::floor(dir, &gaps, first, last.size())?;
    let gone = gaps.iter().find(|gap| gap.end == floor).cloned();
    let found = Found {
        dir,
        kind: hash_kind(dir, keys.name(), gone.as_ref())?,
        firsts: firsts.into_iter().filter(|first| *first >= floor).collect(),
        gaps,
        floor,
        keys,
        last,
    };
    found.open(options, lock, secrets, created)
}

/// Makes durable what names are there: a run that was killed may have made some and not synced them,
/// and what is now built on them would be lost with them.
fn settle_names(dir: &Path, created: bool) -> Result<(), Error> {
    if created {
        disk::sync_name(dir)?;
    }
    disk::sync_dir(dir)?;
    disk::sync_dir(&layout::entries(dir))
}

/// What stands in the directory, before anything is decided.
struct Found<'a> {
    dir: &'a Path,
    /// The segments from the floor on.
    firsts: Vec<u64>,
    /// What is no longer kept, as far as it is listed.
    gaps: Vec<Gap>,
    /// The first leaf that is kept, or one after it: of what is before, hashes alone are known.
    floor: u64,
    kind: HashKind,
    keys: PublicKeys,
    last: Checkpoint,
}

/// Where checkpoints.txt ends.
struct Listed {
    bytes: u64,
    /// So many of the bytes are known to be durable.
    durable: u64,
    newest: Option<Checkpoint>,
}

/// An index to go on from.
struct Resumed {
    index: Index,
    state: State,
    /// What is read again of the leaves that it covers.
    tail: Tail,
    cursors: BTreeMap<String, u64>,
    /// The last checkpoint it knows.
    newest: Option<Checkpoint>,
}

/// What was found and compared, before a log file is changed.
struct Examined {
    index: Index,
    /// Leaves that the index covers.
    indexed: u64,
    /// Where these end; `None` when the index had to be built again.
    indexed_end: Option<LeafPlace>,
    /// Why the index had to be built again.
    rebuilt: Option<String>,
    cursors: BTreeMap<String, u64>,
    scanned: Scanned,
    listed: Listed,
    /// The index does not have the newest checkpoint.
    has_news: bool,
    /// The newest checkpoint.
    sealed_by: Checkpoint,
}

impl Examined {
    /// The byte of the last segment before which all is known to be durable: a commit, or one of the
    /// index, is written once the leaves before it are.
    fn durable_to(&self, segment: u64) -> u64 {
        let known = [self.indexed_end, self.scanned.last_commit];
        let here = known.into_iter().flatten();
        let here = here.filter(|place| place.segment == segment);
        here.map(|place| place.offset)
            .max()
            .unwrap_or(Header::LEN as u64)
    }
}

impl Found<'_> {
    fn open(
        mut self,
        options: &Options,
        lock: Lock,
        secrets: Secrets,
        created: bool,
    ) -> Result<(Ledger, Recovery), Error> {
        let mut examined = self.examine()?;
        let stated = self.stated(&examined.scanned, &examined.sealed_by)?;
        let gap = self.stated_gap(&examined.scanned)?;
        let settled = secrets.settle(self.dir, &self.keys, stated)?;
        let rotation = settled.told();
        let (segment, cut_bytes) = self.settle_segment(&examined)?;
        let (checkpoints, cut_checkpoint_bytes) = self.settle_checkpoints(&examined.listed)?;
        let gap = self.settle_gaps(gap)?;
        // Only now: the leaf that names a successor must be durable before the old secret goes.
        let key = settled.apply(self.dir, &mut self.keys)?;
        let size = examined.scanned.edge.size();
        let is_rebuilt = examined.rebuilt.is_some();
        let replayed = match examined.rebuilt {
            None => size - examined.indexed,
            Some(_) => {
                let Examined {
                    index,
                    scanned,
                    listed,
                    sealed_by,
                    ..
                } = &mut examined;
                let newest = Some(sealed_by.note());
                flush(index, &mut scanned.edge, scanned.end, listed.bytes, newest)?;
                examined.indexed = size;
                0
            }
        };
        let sealed = examined.sealed_by.size();
        let recovery = Recovery {
            created,
            entries: size,
            sealed,
            unsealed: size - sealed,
            replayed,
            cut_bytes,
            cut_checkpoint_bytes,
            rotation,
            index: match examined.rebuilt {
                Some(reason) if !created => IndexRecovery::Rebuilt { reason },
                _ => IndexRecovery::Sound,
            },
        };
        let dropping = match &gap {
            Some(gap) => self.has_before(gap.end)?,
            None => false,
        };
        let known = Indexed::new(self.dir, &examined.scanned.edge.tiles, &examined.index);
        // Durable is what an index covers that was there.
        let in_tree = if is_rebuilt { 0 } else { examined.indexed };
        let tree = GrowingTree::open(self.dir, (self.kind, in_tree), &known)?;
        let mut ledger = Ledger {
            dir: self.dir.to_owned(),
            key,
            keys: self.keys,
            clock: options.clock,
            segment_bytes: options.segment_bytes,
            edge: examined.scanned.edge,
            segment,
            segment_first: examined.scanned.end.segment,
            nonce: examined.scanned.nonce,
            buffer: Vec::new(),
            live: Arc::new(Live::new(size, examined.index.database())),
            index: examined.index,
            indexed: examined.indexed,
            tree,
            checkpoints,
            thin_at: thin::next_at(0),
            last_checkpoint: Some(examined.sealed_by),
            cursors: examined.cursors,
            cursors_changed: false,
            dropping,
            held_up: 0,
            // While its leaves are there, so are their places.
            forget_places: gap.as_ref().map(|gap| gap.end).filter(|_| !dropping),
            gap,
            put_off: None,
            poisoned: false,
            _lock: lock,
        };
        if replayed > 0 || examined.has_news {
            let newest = ledger.last_checkpoint.clone();
            ledger.write_index(newest.as_ref().map(Checkpoint::note))?;
        }
        ledger.extend_tree()?;
        Ok((ledger, recovery))
    }

    /// Finds the end of the log and holds it against all that is known of it.
    fn examine(&self) -> Result<Examined, Error> {
        let resumed = self.resume()?;
        let mut listed = match &resumed {
            Ok(resumed) => self.listed_since(resumed)?,
            Err(_) => self.listed(0)?,
        };
        let has_news = listed.newest.is_some();
        if let Ok(resumed) = &resumed {
            listed.newest = listed.newest.or_else(|| resumed.newest.clone());
        }
        let sealed_by = newer(&self.last, listed.newest.as_ref()).clone();
        if let Ok(Resumed { state, .. }) = &resumed
            && !self.holds(state)?
        {
            return Err(self.contradiction(state, &sealed_by));
        }
        let (resumed, rebuilt) = match resumed {
            Ok(resumed) => (resumed, None),
            Err(reason) => (self.new_index()?, Some(reason)),
        };
        let Resumed {
            index,
            state,
            tail,
            cursors,
            ..
        } = resumed;
        let indexed = state.frontier.size();
        let sealed = sealed_by.size();
        let scan = Scan {
            found: self,
            covered: sealed.max(indexed),
            watch: sealed,
            record: Some(&state),
        };
        // What the last segment holds is not known to be durable yet, so no commit covers it.
        let is_durable = |end: LeafPlace| self.firsts.last() != Some(&end.segment);
        let scanned = scan.run(tail.edge, tail.start, |edge, end| match rebuilt {
            Some(_) if is_durable(end) => flush(&index, edge, end, 0, None),
            _ => Ok(()),
        })?;
        self.continues(&scanned, &sealed_by, scanned.watched, &index)?;
        if sealed_by != self.last {
            self.continues(&scanned, &self.last, None, &index)?;
        }
        self.lists_last(&listed)?;
        Ok(Examined {
            index,
            indexed,
            indexed_end: rebuilt.is_none().then_some(state.end),
            rebuilt,
            cursors,
            scanned,
            listed,
            has_news,
            sealed_by,
        })
    }

    /// Cuts what is torn off the last segment, and makes the rest durable, which may have survived a
    /// crash in the page cache alone; returns how many bytes were cut.
    fn settle_segment(&self, examined: &Examined) -> Result<(AppendFile, u64), Error> {
        let end = examined.scanned.end;
        let path = layout::segment(self.dir, end.segment);
        let mut segment = AppendFile::open(&path, Access::Owner)?;
        let torn = segment.len().saturating_sub(end.offset);
        if torn > 0 {
            segment.cut(end.offset)?;
        }
        segment.renew(examined.durable_to(end.segment))?;
        Ok((segment, torn))
    }

    /// Cuts what is torn off checkpoints.txt, makes the rest durable, and brings the last checkpoint
    /// up to it.
    fn settle_checkpoints(&self, listed: &Listed) -> Result<(AppendFile, u64), Error> {
        let path = layout::checkpoints(self.dir);
        let mut checkpoints = AppendFile::open(&path, Access::Everyone)?;
        let torn = checkpoints.len().saturating_sub(listed.bytes);
        if torn > 0 {
            checkpoints.cut(listed.bytes)?;
        }
        checkpoints.renew(listed.durable)?;
        if let Some(newest) = listed.newest.as_ref().filter(|newest| self.is_news(newest)) {
            let path = layout::last_checkpoint(self.dir);
            disk::replace(&path, newest.note().as_bytes(), Access::Everyone)?;
        }
        Ok((checkpoints, torn))
    }

    /// The index and its commit record, or why they cannot be used.
    fn resume(&self) -> Result<Result<Resumed, String>, Error> {
        let index = match Index::open(self.dir, self.keys.name())? {
            Opened::Sound(index) => index,
            Opened::Missing => return Ok(Err("it was missing".into())),
            Opened::Bad(reason) => return Ok(Err(reason)),
        };
        let read = index::guarded(|| self.read_index(index));
        Ok(match read {
            Ok(Ok(Some(resumed))) => Ok(resumed),
            Ok(Ok(None)) => Err("its commit record is not sound".into()),
            // One that could not be read is as good as it was.
            Ok(Err(Error::Index { source, .. })) if !index::is_unread(&source) => {
                Err(source.to_string())
            }
            Ok(Err(e)) => return Err(e),
            Err(panic) => Err(panic),
        })
    }

    fn read_index(&self, index: Index) -> Result<Option<Resumed>, Error> {
        let failed = |e| index::failed(&layout::index(self.dir))(e);
        let database = &**index.database();
        let state = index::state(database, self.keys.name()).map_err(failed)?;
        let Some(state) = state.filter(|state| state.frontier.kind() == self.kind) else {
            return Ok(None);
        };
        let tiles = Tiles::load(&state.frontier, |id| index::tile(database, id));
        if tiles.map_err(failed)?.is_none() {
            return Ok(None);
        }
        let cursors = index.cursors().map_err(failed)?;
        let newest = index::newest(database).map_err(failed)?;
        let newest = newest.and_then(|note| Checkpoint::open(&note, &self.keys).ok());
        let unread = cursors.values().copied().min();
        let latest = unread.map_or(self.last.size(), |unread| unread.min(self.last.size()));
        let tail = self.tail(database, &state, latest)?;
        Ok(tail.map(|tail| Resumed {
            index,
            state,
            tail,
            cursors,
            newest,
        }))
    }

    /// An empty index in place of the one that is missing or bad.
    fn new_index(&self) -> Result<Resumed, Error> {
        // Before anything is put aside: what the old one has of dropped leaves may be all there is.
        self.replay(&mut first_edge(self.keys.name(), self.kind), |edge| {
            edge.tiles.stored();
            Ok(())
        })?;
        let path = layout::index(self.dir);
        if disk::exists(&path)? {
            disk::rename(&path, &layout::bad_index(self.dir))?;
        }
        let index = Index::create(self.dir, self.keys.name())?;
        let mut edge = first_edge(self.keys.name(), self.kind);
        let start = self.floor_place();
        self.replay(&mut edge, |edge| put_tiles(&index, edge))?;
        flush(&index, &mut edge, start, 0, None)?;
        let state = State {
            frontier: edge.frontier.clone(),
            chain: edge.chain,
            end: start,
            checkpoint_bytes: 0,
        };
        Ok(Resumed {
            index,
            state,
            tail: Tail { edge, start },
            cursors: BTreeMap::new(),
            newest: None,
        })
    }

    /// Reads checkpoints.txt after the newest that the index knows. That stands where the index says,
    /// unless the list was thinned since; it is never thinned out itself.
    fn listed_since(&self, resumed: &Resumed) -> Result<Listed, Error> {
        let Some(newest) = &resumed.newest else {
            return self.listed(0);
        };
        let (record, bytes) = (
            checkpoint::record(newest.note()),
            resumed.state.checkpoint_bytes,
        );
        let path = layout::checkpoints(self.dir);
        let stands = checkpoint::stands_before(&path, &record, bytes);
        if stands.map_err(Error::io("read", &path))? {
            return self.listed(bytes);
        }
        let mut after = None;
        self.each_note(0, |note, offset| {
            if note == newest.note() {
                after = Some(offset + record.len() as u64);
            }
            Ok(())
        })?;
        let size = newest.size();
        let unlisted = || Error::damaged(&path, 0, 0..0, Cause::Unlisted { size });
        self.listed(after.ok_or_else(unlisted)?)
    }

    /// Reads checkpoints.txt from a byte on; verifies all, unless it is the first.
    fn listed(&self, from: u64) -> Result<Listed, Error> {
        let mut newest: Option<(String, u64)> = None;
        let mut durable = from;
        let end = self.each_note(from, |note, offset| {
            // The last checkpoint is replaced once the list is synced.
            if note == self.last.note() {
                durable = offset + checkpoint::record(&note).len() as u64;
            }
            if from > 0 {
                self.verified(&note, offset)?;
            }
            newest = Some((note, offset));
            Ok(())
        })?;
        let newest = newest
            .map(|(note, offset)| self.verified(&note, offset))
            .transpose()?;
        Ok(Listed {
            bytes: end,
            durable,
            newest,
        })
    }

    /// Shows each note of checkpoints.txt from byte `from` on; returns where they end. A torn one may
    /// follow.
    fn each_note(
        &self,
        from: u64,
        mut each: impl FnMut(String, u64) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        let path = layout::checkpoints(self.dir);
        let mut file = match disk::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::damaged(&path, 0, 0..0, Cause::Missing));
            }
            Err(e) => return Err(Error::io("open", &path)(e)),
        };
        let len = file.len().map_err(Error::io("read", &path))?;
        if len < from {
            return Err(Error::damaged(&path, len, 0..0, Cause::Truncated));
        }
        file.seek(SeekFrom::Start(from))
            .map_err(Error::io("read", &path))?;
        let mut records = Records::new(BufReader::new(file), from);
        loop {
            match records.next().map_err(Error::io("read", &path))? {
                Record::End { offset } | Record::Torn { offset } => return Ok(offset),
                Record::Note { note, offset } => {
                    let malformed = |_| self.bad_note(offset, NoteError::Malformed("not text"));
                    each(String::from_utf8(note).map_err(malformed)?, offset)?;
                }
            }
        }
    }

    fn verified(&self, note: &str, offset: u64) -> Result<Checkpoint, Error> {
        published::opened(self.dir, &self.keys, note.as_bytes(), offset)
    }

    fn bad_note(&self, offset: u64, source: NoteError) -> Error {
        published::bad_checkpoint(self.dir, offset, |line| Cause::Checkpoint { line, source })
    }

    /// Whether the segments still hold what the index's commit record says.
    fn holds(&self, state: &State) -> Result<bool, Error> {
        let path = layout::segment(self.dir, state.end.segment);
        let file = match disk::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(Error::io("open", &path)(e)),
        };
        let len = file.len().map_err(Error::io("read", &path))?;
        if len < state.end.offset {
            return Ok(false);
        }
        // For the chain value alone, which needs no nonce.
        let scanner = Scanner::new(file, Nonce::default(), state.end.offset, len);
        Ok(scanner.map_err(Error::io("read", &path))?.chain() == state.chain)
    }

    /// Why the segments do not hold what the commit record says: reads them all to name it.
    fn contradiction(&self, state: &State, sealed_by: &Checkpoint) -> Error {
        let sealed = sealed_by.size();
        let scan = Scan {
            found: self,
            covered: sealed.max(state.frontier.size()),
            watch: sealed,
            record: None,
        };
        let mut edge = first_edge(self.keys.name(), self.kind);
        let read = self.replay(&mut edge, |edge| {
            edge.tiles.stored();
            Ok(())
        });
        let scanned = read.and_then(|()| scan.run(edge, self.floor_place(), |_, _| Ok(())));
        let scanned = match scanned {
            Ok(scanned) => scanned,
            Err(error) => return error,
        };
        let (log_size, size) = (scanned.edge.size(), state.frontier.size());
        let path = layout::segment(self.dir, scanned.end.segment);
        let cause = Cause::Index("its commit record is not of these leaves");
        match log_size {
            _ if log_size < sealed => Error::RolledBack {
                log_size,
                checkpoint_size: sealed,
            },
            _ if log_size < size => {
                Error::damaged(&path, scanned.end.offset, log_size..size, Cause::Truncated)
            }
            _ => Error::damaged(&path, state.end.offset, sealed.min(size)..size, cause),
        }
    }

    /// Whether the leaves hash to what the checkpoint signed.
    fn continues(
        &self,
        scanned: &Scanned,
        checkpoint: &Checkpoint,
        watched: Option<Hash>,
        index: &Index,
    ) -> Result<(), Error> {
        let (log_size, checkpoint_size) = (scanned.edge.size(), checkpoint.size());
        let rolled_back = Err(Error::RolledBack {
            log_size,
            checkpoint_size,
        });
        if log_size < checkpoint_size {
            return rolled_back;
        }
        let root = match watched {
            Some(root) => root,
            None => {
                let reader = &mut Reader::without_places(self.dir)?;
                let known = Indexed::new(self.dir, &scanned.edge.tiles, index);
                Nodes {
                    kind: self.kind,
                    known,
                    reader,
                }
                .hash(&(0..checkpoint_size))?
            }
        };
        if root == checkpoint.root() {
            Ok(())
        } else {
            rolled_back
        }
    }

    /// Whether the last checkpoint and checkpoints.txt agree, as far as it was read. The latter is
    /// written first, so it may be ahead by one.
    fn lists_last(&self, listed: &Listed) -> Result<(), Error> {
        let last = &self.last;
        let is_listed = |newest: &Checkpoint| newest.follows(last) || newest.note() == last.note();
        if listed.newest.as_ref().is_some_and(is_listed) {
            return Ok(());
        }
        let path = layout::checkpoints(self.dir);
        Err(Error::damaged(
            &path,
            listed.bytes,
            0..0,
            Cause::Unlisted { size: last.size() },
        ))
    }

    fn is_news(&self, newest: &Checkpoint) -> bool {
        newest.follows(&self.last)
    }
}

/// Writes the tiles of dropped leaves to an index under construction, which is of no use before it
/// has all of them.
fn put_tiles(index: &Index, edge: &mut Edge) -> Result<(), Error> {
    index.commit(&index::Update {
        state: None,
        tiles: edge.tiles.changed().collect(),
        offsets: &[],
        newest: None,
        cursors: &BTreeMap::new(),
        forget_places: None,
    })?;
    edge.tiles.stored();
    Ok(())
}

/// Writes what the edge has gathered to an index under construction.
fn flush(
    index: &Index,
    edge: &mut Edge,
    end: LeafPlace,
    checkpoint_bytes: u64,
    newest: Option<&str>,
) -> Result<(), Error> {
    let (frontier, chain) = (edge.frontier.clone(), edge.chain);
    let state = State {
        frontier,
        chain,
        end,
        checkpoint_bytes,
    };
    index.commit(&index::Update {
        state: Some(&state),
        tiles: edge.tiles.changed().collect(),
        offsets: &edge.offsets,
        newest,
        cursors: &BTreeMap::new(),
        forget_places: None,
    })?;
    edge.tiles.stored();
    edge.offsets.clear();
    Ok(())
}

fn newer<'a>(a: &'a Checkpoint, b: Option<&'a Checkpoint>) -> &'a Checkpoint {
    b.filter(|b| b.follows(a)).unwrap_or(a)
}
