use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::audit;
use crate::checkpoint::{self, Checkpoint, CheckpointText};
use crate::disk::{self, Access, AppendFile, Lock};
use crate::error::Error;
use crate::gap::Gap;
use crate::hash::{Hash, HashKind, chain_link, chain_next, origin_hash};
use crate::index::{Index, LeafPlace, OFFSET_STRIDE, State, Update};
use crate::key::LogSecret;
use crate::keys::PublicKeys;
use crate::layout;
use crate::proof::{consistency_path, inclusion_path};
use crate::prove::{self, Indexed, Known as _, Nodes};
use crate::published;
use crate::reader::{Live, Reader};
use crate::recover::{self, Recovery};
use crate::rotation::{self, OWN_LEAF, Rotation};
pub use crate::segment::MAX_LEAF_BYTES;
use crate::segment::{Frame, Header, Nonce};
use crate::thin::{self, NotThinned};
use crate::tiles::{TILE_HEIGHT, Tiles};
use crate::tlog_proof::TlogProof;
use crate::tree::{Frontier, Node};
use crate::tree_file::GrowingTree;

/// Buffered bytes that are handed to the OS without waiting for the commit.
const WRITE_BYTES: usize = 1 << 20;

/// Leaves after which a commit also brings the index up to date, which costs several syncs: more than
/// a daemon leaves without a checkpoint, which does so too.
const INDEX_LEAVES: u64 = if cfg!(test) { 1 << 6 } else { 1 << 18 };

/// How to create a ledger. An existing one keeps its own origin and hash.
#[derive(Debug, Clone)]
pub struct Options {
    /// The log's name in its checkpoints: unique, without spaces or `+`.
    pub origin: String,
    /// The tree's hash function.
    pub hash: HashKind,
    /// Size at which the next commit begins a new segment file.
    pub segment_bytes: u64,
    /// What time it is, in POSIX seconds: checkpoints say when they were signed.
    pub clock: fn() -> u64,
}

impl Options {
    /// A BLAKE3 log in segments of 256 MiB.
    pub fn new(origin: impl Into<String>) -> Options {
        Options {
            origin: origin.into(),
            hash: HashKind::default(),
            segment_bytes: 256 << 20,
            clock: system_time,
        }
    }
}

fn system_time() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}

/// The writer of a ledger; there is one at a time.
///
/// [`append`](Ledger::append) gives a leaf its index at once, [`commit`](Ledger::commit) makes it
/// durable, [`checkpoint`](Ledger::checkpoint) signs for it. After a failed write the ledger
/// returns [`Error::Poisoned`] until it is opened again.
pub struct Ledger {
    pub(crate) dir: PathBuf,
    pub(crate) key: LogSecret,
    pub(crate) keys: PublicKeys,
    pub(crate) clock: fn() -> u64,
    pub(crate) segment_bytes: u64,
    pub(crate) edge: Edge,
    pub(crate) segment: AppendFile,
    pub(crate) segment_first: u64,
    pub(crate) nonce: Nonce,
    pub(crate) buffer: Vec<u8>,
    pub(crate) live: Arc<Live>,
    pub(crate) index: Index,
    /// Leaves that the index covers.
    pub(crate) indexed: u64,
    pub(crate) tree: GrowingTree,
    pub(crate) checkpoints: AppendFile,
    /// The length of that list from which on it is thinned.
    pub(crate) thin_at: u64,
    pub(crate) last_checkpoint: Option<Checkpoint>,
    pub(crate) cursors: BTreeMap<String, u64>,
    pub(crate) cursors_changed: bool,
    /// The newest gap.
    pub(crate) gap: Option<Gap>,
    /// Segments of it are still there.
    pub(crate) dropping: bool,
    /// Bytes that a retention would drop and leaves still to be read keep.
    pub(crate) held_up: u64,
    /// The index has places of leaves before this one, which are gone.
    pub(crate) forget_places: Option<u64>,
    /// What of the upkeep failed last.
    pub(crate) put_off: Option<Error>,
    pub(crate) poisoned: bool,
    pub(crate) _lock: Lock,
}

/// The growing edge of the log: what the next leaf is hashed onto.
#[derive(Debug, Clone)]
pub(crate) struct Edge {
    pub(crate) frontier: Frontier,
    pub(crate) chain: Hash,
    pub(crate) tiles: Tiles,
    /// Offsets the index does not have yet.
    pub(crate) offsets: Vec<(u64, LeafPlace)>,
}

impl Edge {
    /// Takes in a leaf that stands at `place` and brings the chain to `chain` by `link`.
    pub(crate) fn add(&mut self, leaf: &[u8], link: Hash, chain: Hash, place: LeafPlace) {
        let index = self.frontier.size();
        if index.is_multiple_of(OFFSET_STRIDE) {
            self.offsets.push((index, place));
        }
        self.chain = chain;
        let leaf = self.frontier.kind().linked_leaf(link, leaf);
        self.frontier
            .push(leaf, |node, hash| self.tiles.add(node, hash));
    }

    pub(crate) fn size(&self) -> u64 {
        self.frontier.size()
    }
}

impl Ledger {
    /// Opens the ledger in `dir`, creating what is missing, and takes its writer's lock.
    ///
    /// What the last run left unfinished is settled and reported: the torn end of a write that was
    /// never acknowledged is cut, an index that is missing or corrupt is rebuilt. Anything else
    /// that is wrong with what is read is an error, and no file but the index is changed. Read are
    /// the leaves that no checkpoint or no index covers or that a consumer has still to read, and
    /// at least the last 32 MiB; older ones are left to [`crate::verify`].
    ///
    /// Leaves after the last checkpoint are taken as they stand, since only the key vouches for
    /// leaves; [`Recovery::unsealed`] says how many the next checkpoint will sign for.
    pub fn open(dir: &Path, options: &Options) -> Result<(Ledger, Recovery), Error> {
        recover::open(dir, options)
    }

    /// Appends a leaf of at most [`MAX_LEAF_BYTES`] and returns its index. It is pending until the
    /// next [`commit`](Ledger::commit).
    pub fn append(&mut self, leaf: &[u8]) -> Result<u64, Error> {
        if leaf.len() > MAX_LEAF_BYTES {
            return Err(Error::LeafTooLarge {
                len: leaf.len(),
                max: MAX_LEAF_BYTES,
            });
        }
        if leaf.starts_with(OWN_LEAF) {
            return Err(Error::OwnLeaf);
        }
        self.unless_poisoned(|ledger| ledger.try_append(leaf))
    }

    /// Makes all appended leaves durable and returns how many leaves are.
    pub fn commit(&mut self) -> Result<u64, Error> {
        self.unless_poisoned(Ledger::try_commit)
    }

    /// Commits, then signs and publishes a checkpoint over all leaves. Without new leaves it
    /// returns the last checkpoint again.
    pub fn checkpoint(&mut self) -> Result<Checkpoint, Error> {
        self.unless_poisoned(|ledger| ledger.try_checkpoint(false))
    }

    /// As [`checkpoint`](Ledger::checkpoint), but signs anew also without new leaves: that nothing
    /// came until now, and that somebody was there to say so. Not while the clock stands before the
    /// last checkpoint.
    pub fn heartbeat(&mut self) -> Result<Checkpoint, Error> {
        self.unless_poisoned(|ledger| ledger.try_checkpoint(true))
    }

    /// Begins the next epoch: appends the leaf by which the present keys hand over to new ones,
    /// erases the present secret and signs a checkpoint with the new one. Returns the index of the
    /// leaf. Whoever has the new secret cannot sign for what was before that leaf.
    pub fn rotate(&mut self) -> Result<u64, Error> {
        self.unless_poisoned(Ledger::try_rotate)
    }

    /// When the present epoch began, in POSIX seconds.
    pub fn epoch_began(&self) -> Result<u64, Error> {
        match self.keys.rotations().last() {
            Some(rotation) => Ok(rotation.time),
            None => published::first_time(&self.dir, &self.keys),
        }
    }

    /// Leaves appended, pending ones included.
    pub fn size(&self) -> u64 {
        self.edge.size()
    }

    /// Leaves that survive a power loss.
    pub fn durable_size(&self) -> u64 {
        self.live.durable()
    }

    /// The root hash over all leaves appended, pending ones included.
    pub fn root(&self) -> Hash {
        self.edge.frontier.root()
    }

    /// The log's name.
    pub fn origin(&self) -> &str {
        self.key.origin()
    }

    /// The tree's hash function.
    pub fn hash_kind(&self) -> HashKind {
        self.edge.frontier.kind()
    }

    /// The keys that verify this log's checkpoints.
    pub fn public_keys(&self) -> &PublicKeys {
        &self.keys
    }

    /// The last checkpoint signed. There always is one: a log begins with that of size 0.
    pub fn last_checkpoint(&self) -> Option<&Checkpoint> {
        self.last_checkpoint.as_ref()
    }

    /// A reader of the durable leaves, for this or another thread.
    pub fn reader(&self) -> Reader {
        Reader::new(&self.dir, Arc::clone(&self.live))
    }

    /// Where the consumer called `name` has got to, if it ever said.
    pub fn cursor(&self, name: &str) -> Option<u64> {
        self.cursors.get(name).copied()
    }

    /// Remembers how far the consumer called `name` has got. Durable with the next checkpoint;
    /// after a crash, or when the index was rebuilt, an older position or none may be found.
    pub fn set_cursor(&mut self, name: &str, index: u64) {
        self.cursors.insert(name.to_owned(), index);
        self.cursors_changed = true;
    }

    /// Proves that the leaf at `index` is in the log, at checkpoint `at` or else the last one of the
    /// leaf's epoch.
    pub fn prove(&self, index: u64, at: Option<&Checkpoint>) -> Result<TlogProof, Error> {
        let last = self.last_checkpoint.as_ref();
        let checkpoint = prove::vouching(&self.dir, &self.keys, index, at, last)?;
        let mut reader = self.reader();
        let path = self
            .nodes(&mut reader)
            .hashes(&inclusion_path(index, checkpoint.size()))?;
        prove::proof(self.hash_kind(), index, path, &checkpoint, &mut reader)
    }

    /// Whether the log's first leaves are those that `checkpoint` signed for: one that was kept
    /// elsewhere shows a log that was taken back or rewritten. Commits first.
    pub fn holds(&mut self, checkpoint: &Checkpoint) -> Result<(), Error> {
        self.commit()?;
        let old = (checkpoint.size(), checkpoint.root());
        // Its root is of leaves that were read, or signed for: the index's hashes are neither.
        let last = self.last_checkpoint.as_ref();
        let known = match last.filter(|last| old.0 <= last.size()) {
            Some(last) => (last.size(), last.root()),
            None => (self.size(), self.root()),
        };
        let indexed = |ranges: &[_]| self.nodes(&mut self.reader()).hashes(ranges);
        audit::consistency(&self.dir, self.hash_kind(), old, known, indexed).map(drop)
    }

    /// The hashes that prove that the tree of `new` leaves begins with the tree of `old` leaves.
    /// Both sizes must be durable.
    pub fn prove_consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>, Error> {
        let size = self.durable_size();
        if old > new || new > size {
            return Err(Error::NoSuchSize { old, new, size });
        }
        self.nodes(&mut self.reader())
            .hashes(&consistency_path(old, new))
    }

    /// What of the ledger's upkeep failed since this was last asked: making the list of checkpoints
    /// shorter, or removing the files of dropped leaves. Nothing is lost by it and the ledger goes on;
    /// it takes more room meanwhile, and a later checkpoint tries again.
    pub fn put_off(&mut self) -> Option<Error> {
        self.put_off.take()
    }

    /// Signs a last checkpoint and closes the ledger.
    pub fn close(mut self) -> Result<Checkpoint, Error> {
        self.checkpoint()
    }

    pub(crate) fn unless_poisoned<T>(
        &mut self,
        call: impl FnOnce(&mut Ledger) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if self.poisoned {
            return Err(Error::Poisoned);
        }
        let result = call(self);
        self.poisoned = result.is_err();
        result
    }

    pub(crate) fn try_append(&mut self, leaf: &[u8]) -> Result<u64, Error> {
        let index = self.edge.size();
        let starts_commit = index == self.durable_size();
        if starts_commit && self.segment.len() >= self.segment_bytes.max(Header::LEN as u64 + 1) {
            self.begin_segment()?;
        }
        let place = self.end();
        let link = chain_link(leaf);
        let chain = chain_next(self.edge.chain, link);
        Frame {
            leaf,
            chain,
            starts_commit,
        }
        .encode(self.nonce, &mut self.buffer);
        self.edge.add(leaf, link, chain, place);
        if self.buffer.len() >= WRITE_BYTES {
            self.write_buffer()?;
        }
        Ok(index)
    }

    /// Begins the next segment. Only called when all leaves before it are durable, so that its
    /// existence proves them so.
    fn begin_segment(&mut self) -> Result<(), Error> {
        let first = self.edge.size();
        (self.segment, self.nonce) = create_segment(&self.dir, self.origin(), &self.edge)?;
        self.segment_first = first;
        Ok(())
    }

    fn write_buffer(&mut self) -> Result<(), Error> {
        self.segment.write(&self.buffer)?;
        self.buffer.clear();
        self.buffer.shrink_to(WRITE_BYTES);
        Ok(())
    }

    pub(crate) fn try_commit(&mut self) -> Result<u64, Error> {
        let size = self.edge.size();
        if size > self.durable_size() {
            self.write_buffer()?;
            self.segment.sync()?;
            self.live.set_durable(size);
        }
        if size - self.indexed >= INDEX_LEAVES {
            self.write_index(None)?;
        }
        Ok(size)
    }

    pub(crate) fn try_checkpoint(&mut self, anew: bool) -> Result<Checkpoint, Error> {
        let checkpoint = self.sign(anew)?;
        if let Err(error) = self.carry_out() {
            self.put_off = Some(error);
        }
        Ok(checkpoint)
    }

    fn sign(&mut self, anew: bool) -> Result<Checkpoint, Error> {
        let size = self.try_commit()?;
        let time = (self.clock)();
        let is_said = |last: &Checkpoint| last.size() == size && !(anew && time > last.time());
        if let Some(last) = self.last_checkpoint.clone().filter(is_said) {
            if self.cursors_changed || self.indexed < size {
                self.write_index(None)?;
            }
            return Ok(last);
        }
        let text = CheckpointText {
            origin: self.origin().to_owned(),
            size,
            root: self.root(),
        };
        // Before the checkpoint, whose leaves are proven with it.
        self.extend_tree()?;
        let note = self.key.sign(&text.render(), time);
        let checkpoint = Checkpoint::open(&note, &self.keys)?;
        self.checkpoints
            .write(checkpoint::record(&note).as_bytes())?;
        self.checkpoints.sync()?;
        // After checkpoints.txt: a last checkpoint that is not listed there is a sign of tampering.
        disk::replace(
            &layout::last_checkpoint(&self.dir),
            note.as_bytes(),
            Access::Everyone,
        )?;
        self.last_checkpoint = Some(checkpoint.clone());
        self.write_index(Some(&note))?;
        if self.checkpoints.len() >= self.thin_at {
            self.thin_list(time)?;
        }
        Ok(checkpoint)
    }

    /// Makes the list of checkpoints shorter, or puts that off.
    pub(crate) fn thin_list(&mut self, now: u64) -> Result<(), Error> {
        match thin::thin(&self.dir, &self.keys, now) {
            Ok(thinned) => {
                if let Some(thinned) = thinned {
                    self.checkpoints = thinned;
                }
                self.thin_at = thin::next_at(self.checkpoints.len());
            }
            Err(NotThinned::AsBefore(error)) => {
                self.thin_at = thin::again_at(self.checkpoints.len());
                self.put_off = Some(error);
            }
            Err(NotThinned::Unsettled(error)) => return Err(error),
        }
        Ok(())
    }

    /// A crash leaves this undone or is finished by the next open: see `recover/secret.rs`.
    fn try_rotate(&mut self) -> Result<u64, Error> {
        // The last that the old keys sign.
        let closing = self.try_checkpoint(false)?;
        let next = LogSecret::create(&layout::next_key(&self.dir), self.origin())?;
        let time = (self.clock)();
        let note = rotation::statement(&self.keys, &closing, time, (&self.key, &next));
        let rotation = Rotation::open(&note, &self.keys)?;
        let index = self.try_append(note.as_bytes())?;
        self.try_commit()?;
        rotation::list(&self.dir, &rotation)?;
        rotation::hand_over(&self.dir)?;
        self.key = next;
        self.keys.add(rotation);
        self.try_checkpoint(false)?;
        Ok(index)
    }

    /// Brings the index up to the durable leaves; `newest` is the newest checkpoint, if the index does
    /// not have it.
    pub(crate) fn write_index(&mut self, newest: Option<&str>) -> Result<(), Error> {
        self.extend_tree()?;
        let state = State {
            frontier: self.edge.frontier.clone(),
            chain: self.edge.chain,
            end: self.end(),
            checkpoint_bytes: self.checkpoints.len(),
        };
        self.index.commit(&Update {
            state: Some(&state),
            tiles: self.edge.tiles.changed().collect(),
            offsets: &self.edge.offsets,
            newest,
            cursors: &self.cursors,
            forget_places: self.forget_places,
        })?;
        self.edge.tiles.stored();
        self.edge.offsets.clear();
        self.forget_places = None;
        self.cursors_changed = false;
        self.indexed = state.frontier.size();
        Ok(())
    }

    /// Brings the tree that others read up to the durable leaves, out of the index and of what is to
    /// be put there next.
    pub(crate) fn extend_tree(&mut self) -> Result<(), Error> {
        let (kind, offsets) = (self.hash_kind(), &self.edge.offsets);
        let known = Indexed::new(&self.dir, &self.edge.tiles, &self.index);
        self.tree.extend(self.edge.frontier.size(), |first| {
            let node = Node {
                level: TILE_HEIGHT,
                index: first >> TILE_HEIGHT,
            };
            let place = match offsets.binary_search_by_key(&first, |(leaf, _)| *leaf) {
                Ok(at) => Some(offsets[at]),
                Err(_) => known.place(first)?,
            };
            // That of a leaf that was dropped is forgotten.
            let place = place.filter(|(leaf, _)| *leaf == first);
            let offset = place.map_or(0, |(_, place)| place.offset);
            Ok((known.subtree(kind, node)?, offset))
        })
    }

    /// Where the next leaf will stand.
    fn end(&self) -> LeafPlace {
        let buffered = u64::try_from(self.buffer.len()).expect("a buffer's length fits 64 bits");
        LeafPlace {
            segment: self.segment_first,
            offset: self.segment.len() + buffered,
        }
    }

    pub(crate) fn nodes<'a>(&'a self, reader: &'a mut Reader) -> Nodes<'a, Indexed<'a>> {
        Nodes {
            kind: self.hash_kind(),
            known: Indexed::new(&self.dir, &self.edge.tiles, &self.index),
            reader,
        }
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger")
            .field("dir", &self.dir)
            .field("size", &self.size())
            .finish()
    }
}

/// Creates the segment that the next leaf goes to, with its header durable.
pub(crate) fn create_segment(
    dir: &Path,
    origin: &str,
    edge: &Edge,
) -> Result<(AppendFile, Nonce), Error> {
    let first = edge.size();
    let mut nonce = Nonce::default();
    getrandom::fill(&mut nonce).map_err(Error::Random)?;
    let header = Header {
        hash: edge.frontier.kind(),
        first,
        nonce,
        origin: origin_hash(origin),
        chain: edge.chain,
    };
    let path = layout::segment(dir, first);
    // By rename: a segment with half a header never exists.
    disk::replace(&path, &header.encode(), Access::Owner)?;
    Ok((AppendFile::open(&path, Access::Owner)?, nonce))
}
