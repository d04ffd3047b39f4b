//! `index.redb`: what is looked up. Everything in it but the cursors can be rebuilt.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{
    Database, DatabaseError, Durability, ReadOnlyDatabase, ReadableDatabase, ReadableTable,
    TableDefinition,
};

use crate::disk;
use crate::error::Error;
use crate::hash::{Hash, HashKind, blake3_of};
use crate::layout;
use crate::tiles::{Tile, TileId};
use crate::tree::Frontier;

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const TILES: TableDefinition<(u8, u64), &[u8]> = TableDefinition::new("tiles");
/// Leaf index (every 256th) → first leaf of its segment, byte offset in it.
const OFFSETS: TableDefinition<u64, (u64, u64)> = TableDefinition::new("offsets");
const CURSORS: TableDefinition<&str, u64> = TableDefinition::new("cursors");

const FORMAT: u16 = 1;
const CACHE_BYTES: usize = 2 << 20;

/// Leaves between two indexed offsets.
pub(crate) const OFFSET_STRIDE: u64 = 256;

/// Where a leaf starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeafPlace {
    /// First leaf of its segment.
    pub(crate) segment: u64,
    /// Bytes before it in that segment.
    pub(crate) offset: u64,
}

/// How far the index reaches: the commit record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    /// The tree over the leaves it covers.
    pub(crate) frontier: Frontier,
    /// The chain value after the last of them.
    pub(crate) chain: Hash,
    /// Where the leaf after the last of them starts, or will.
    pub(crate) end: LeafPlace,
    /// The bytes that checkpoints take in checkpoints.txt, up to and with the newest that it knows,
    /// unless the list was thinned since.
    pub(crate) checkpoint_bytes: u64,
}

impl State {
    pub(crate) fn encode(&self, origin: &str) -> Vec<u8> {
        let mut bytes = FORMAT.to_le_bytes().to_vec();
        bytes.push(self.frontier.kind().code());
        let (end, size) = (self.end, self.frontier.size());
        for n in [size, end.segment, end.offset, self.checkpoint_bytes] {
            bytes.extend_from_slice(&n.to_le_bytes());
        }
        for hash in [self.chain].iter().chain(self.frontier.nodes()) {
            bytes.extend_from_slice(&hash.0);
        }
        let check = blake3_of(&[&bytes, origin.as_bytes()]);
        bytes.extend_from_slice(&check.0);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8], origin: &str) -> Option<State> {
        let (bytes, check) = bytes.split_last_chunk()?;
        if blake3_of(&[bytes, origin.as_bytes()]) != Hash(*check) {
            return None;
        }
        let (format, bytes) = bytes.split_first_chunk()?;
        let (&kind, bytes) = bytes
            .split_first()
            .filter(|_| *format == FORMAT.to_le_bytes())?;
        let (numbers, bytes) = bytes.split_first_chunk::<32>()?;
        let (hashes, []) = bytes.as_chunks() else {
            return None;
        };
        let (chain, nodes) = hashes.split_first()?;
        let mut numbers = numbers.as_chunks().0.iter().map(|n| u64::from_le_bytes(*n));
        let mut number = || numbers.next();
        let size = number()?;
        let nodes = nodes.iter().copied().map(Hash).collect();
        Some(State {
            frontier: Frontier::restore(HashKind::from_code(kind)?, size, nodes)?,
            chain: Hash(*chain),
            end: LeafPlace {
                segment: number()?,
                offset: number()?,
            },
            checkpoint_bytes: number()?,
        })
    }
}

/// What one index commit writes.
pub(crate) struct Update<'a> {
    /// `None` while the index is not to be gone on from.
    pub(crate) state: Option<&'a State>,
    pub(crate) tiles: Vec<(TileId, &'a Tile)>,
    pub(crate) offsets: &'a [(u64, LeafPlace)],
    /// The newest checkpoint, where that is another than before.
    pub(crate) newest: Option<&'a str>,
    pub(crate) cursors: &'a BTreeMap<String, u64>,
    /// Places of leaves before this one go.
    pub(crate) forget_places: Option<u64>,
}

/// The open index of the writer.
#[derive(Debug, Clone)]
pub(crate) struct Index {
    database: Arc<Database>,
    path: PathBuf,
    origin: String,
}

/// What was found when opening.
pub(crate) enum Opened {
    /// It is sound as far as could be seen.
    Sound(Index),
    /// There is no index.
    Missing,
    /// It cannot be used.
    Bad(String),
}

impl Index {
    pub(crate) fn open(dir: &Path, origin: &str) -> Result<Opened, Error> {
        let path = layout::index(dir);
        if !disk::exists(&path)? {
            return Ok(Opened::Missing);
        }
        match guarded(|| open_checked(&path)) {
            Ok(Ok(database)) => Ok(Opened::Sound(Index::new(database, path, origin))),
            Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => Err(Error::Locked { dir: dir.into() }),
            Ok(Err(e)) => {
                let e = redb::Error::from(e);
                match is_unread(&e) {
                    true => Err(failed(&path)(e)),
                    false => Ok(Opened::Bad(e.to_string())),
                }
            }
            Err(panic) => Ok(Opened::Bad(panic)),
        }
    }

    pub(crate) fn create(dir: &Path, origin: &str) -> Result<Index, Error> {
        let path = layout::index(dir);
        #[cfg(not(all(test, unix)))]
        let database = builder().create(&path);
        #[cfg(all(test, unix))]
        let database = crate::crash::backend::create(builder(), &path);
        let database = database.map_err(failed(&path))?;
        Ok(Index::new(database, path, origin))
    }

    fn new(database: Database, path: PathBuf, origin: &str) -> Index {
        Index {
            database: Arc::new(database),
            path,
            origin: origin.to_owned(),
        }
    }

    pub(crate) fn database(&self) -> &Arc<Database> {
        &self.database
    }

    /// Makes the update durable, whole or not at all.
    pub(crate) fn commit(&self, update: &Update<'_>) -> Result<(), Error> {
        let committed = guarded(|| self.try_commit(update));
        let corrupt = |panic| Err(redb::Error::Corrupted(panic));
        committed
            .unwrap_or_else(corrupt)
            .map_err(|source| Error::Index {
                path: self.path.clone(),
                source: Box::new(source),
            })
    }

    fn try_commit(&self, update: &Update<'_>) -> Result<(), redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        // Two-phase, so leaves chosen by an attacker cannot craft a checksum; quick to reopen.
        transaction.set_quick_repair(true);
        {
            let mut tiles = transaction.open_table(TILES)?;
            for (id, tile) in &update.tiles {
                let bytes: Vec<u8> = tile.iter().flat_map(|hash| hash.0).collect();
                tiles.insert((id.level, id.index), bytes.as_slice())?;
            }
            let mut offsets = transaction.open_table(OFFSETS)?;
            if let Some(kept_from) = update.forget_places {
                offsets.retain_in(..kept_from, |_, _| false)?;
            }
            for (leaf, place) in update.offsets {
                offsets.insert(leaf, (place.segment, place.offset))?;
            }
            let mut cursors = transaction.open_table(CURSORS)?;
            for (name, index) in update.cursors {
                cursors.insert(name.as_str(), index)?;
            }
            let mut meta = transaction.open_table(META)?;
            if let Some(state) = update.state {
                if let Some(note) = update.newest {
                    meta.insert("checkpoint", note.as_bytes())?;
                }
                meta.insert("origin", self.origin.as_bytes())?;
                meta.insert("hash", state.frontier.kind().name().as_bytes())?;
                meta.insert("state", state.encode(&self.origin).as_slice())?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    pub(crate) fn cursors(&self) -> Result<BTreeMap<String, u64>, redb::Error> {
        let table = self.database.begin_read()?.open_table(CURSORS)?;
        let mut cursors = BTreeMap::new();
        for row in table.iter()? {
            let (name, index) = row?;
            cursors.insert(name.value().to_owned(), index.value());
        }
        Ok(cursors)
    }
}

/// Opens the index of a ledger that is not running, without changing it.
pub(crate) fn open_read_only(
    dir: &Path,
) -> Result<Result<ReadOnlyDatabase, DatabaseError>, String> {
    let path = layout::index(dir);
    guarded(|| {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES).open_read_only(&path)
    })
}

/// The commit record, or `None` when it is not there or not of this log.
pub(crate) fn state<D: ReadableDatabase>(
    database: &D,
    origin: &str,
) -> Result<Option<State>, redb::Error> {
    let meta = database.begin_read()?.open_table(META)?;
    let bytes = meta.get("state")?;
    Ok(bytes.and_then(|bytes| State::decode(bytes.value(), origin)))
}

pub(crate) fn tile<D: ReadableDatabase>(
    database: &D,
    id: TileId,
) -> Result<Option<Tile>, redb::Error> {
    let tiles = database.begin_read()?.open_table(TILES)?;
    let bytes = tiles.get((id.level, id.index))?;
    Ok(bytes.map(|bytes| tile_hashes(bytes.value())))
}

/// The hashes of a stored tile.
pub(crate) fn tile_hashes(bytes: &[u8]) -> Tile {
    bytes.as_chunks().0.iter().copied().map(Hash).collect()
}

/// The place of the last indexed leaf at or before `leaf`.
pub(crate) fn place<D: ReadableDatabase>(
    database: &D,
    leaf: u64,
) -> Result<Option<(u64, LeafPlace)>, redb::Error> {
    let offsets = database.begin_read()?.open_table(OFFSETS)?;
    let Some(row) = offsets.range(..=leaf)?.next_back() else {
        return Ok(None);
    };
    let (leaf, place) = row?;
    let (segment, offset) = place.value();
    Ok(Some((leaf.value(), LeafPlace { segment, offset })))
}

/// Every indexed place, ascending.
pub(crate) fn places<D: ReadableDatabase>(
    database: &D,
) -> Result<impl DoubleEndedIterator<Item = Result<(u64, LeafPlace), redb::Error>>, redb::Error> {
    let offsets = database.begin_read()?.open_table(OFFSETS)?;
    let rows = offsets.range(0..)?;
    Ok(rows.map(|row| {
        let (leaf, place) = row?;
        let (segment, offset) = place.value();
        Ok((leaf.value(), LeafPlace { segment, offset }))
    }))
}

/// The note of the newest checkpoint that it knows.
pub(crate) fn newest<D: ReadableDatabase>(database: &D) -> Result<Option<String>, redb::Error> {
    let meta = database.begin_read()?.open_table(META)?;
    let note = meta.get("checkpoint")?;
    Ok(note.and_then(|note| String::from_utf8(note.value().to_vec()).ok()))
}

/// Opens the index and reads all of it once: what redb met later in a corrupt page would be a panic.
/// It is about one byte for every two leaves.
fn open_checked(path: &Path) -> Result<Database, DatabaseError> {
    #[cfg(not(all(test, unix)))]
    let mut database = builder().open(path)?;
    #[cfg(all(test, unix))]
    let mut database = crate::crash::backend::open(builder(), path)?;
    database.check_integrity()?;
    Ok(database)
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// Runs what may meet a corrupt file: redb asserts on some of what it reads.
pub(crate) fn guarded<T>(read: impl FnOnce() -> T) -> Result<T, String> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(read))
        .map_err(|_| "redb panicked on it".to_owned())
}

/// Whether the file could not be read, which says nothing of what is in it.
pub(crate) fn is_unread(error: &redb::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    match error {
        // A file that is cut or not redb's at all comes as one of these.
        redb::Error::Io(e) => !matches!(e.kind(), InvalidData | UnexpectedEof),
        redb::Error::PreviousIo => true,
        _ => false,
    }
}

pub(crate) fn failed<E: Into<redb::Error>>(path: &Path) -> impl FnOnce(E) -> Error {
    move |source| Error::Index {
        path: path.to_owned(),
        source: Box::new(source.into()),
    }
}
