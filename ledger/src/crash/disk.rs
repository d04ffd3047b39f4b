//! A disk that fails: what the real files hold is the page cache, and beside it stands what a power
//! loss would leave.
//!
//! - Written pages reach the disk when synced, or at any time before, in any order, and the last
//!   ones in parts. Names made, renamed or removed do when their directory is synced.
//! - A sync that fails marks pages as clean that never reached the disk. Only a new write to them
//!   lets a later sync write them.
//! - A call can be refused, once or from some call on, with part of the bytes written; and the
//!   process can die before any call, after which nothing is done any more.
//! - A read gives any part of what was asked for. One can be refused, or give nothing before the end
//!   of the file; what stands there is as it was.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use fastrand::Rng;

use crate::disk::Change;

const PAGE: usize = 4096;
const SECTOR: usize = 512;

thread_local! {
    static DISK: RefCell<Option<Disk>> = const { RefCell::new(None) };
}

/// What shall go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process dies before the call.
    Death,
    /// The call is refused with EIO.
    Refused,
    /// There is no space from this call on.
    Full,
}

/// What a read shall meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unread {
    /// EIO, once.
    Refused,
    /// Nothing, from this read on, as at the end of a file.
    Ended,
}

/// How often what was met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Met {
    pub(crate) calls: u64,
    pub(crate) deaths: u64,
    pub(crate) refused: u64,
    pub(crate) refused_syncs: u64,
    pub(crate) short_writes: u64,
    pub(crate) full: u64,
    /// Reads, and what else looks at a file.
    pub(crate) looks: u64,
    pub(crate) unread: u64,
    pub(crate) power_losses: u64,
    /// Pages of which a power loss left an older state, or a part.
    pub(crate) lost_pages: u64,
    pub(crate) lost_names: u64,
    /// Bytes written, the index's as well.
    pub(crate) written: u64,
}

#[derive(Debug, Clone)]
struct Disk {
    root: PathBuf,
    random: Rng,
    files: BTreeMap<u64, Inode>,
    next_inode: u64,
    /// Names as the running system sees them; those of directories have no inode.
    names: BTreeMap<PathBuf, Option<u64>>,
    durable_names: BTreeMap<PathBuf, Option<u64>>,
    /// Changes of names that their directory's sync makes durable.
    renaming: Vec<NameChange>,
    planned: Option<(u64, Fault)>,
    unread: Option<(u64, Unread)>,
    dead: bool,
    full: bool,
    failed: bool,
    met: Met,
}

#[derive(Debug, Clone, Default)]
struct Inode {
    cached: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
    len_is_dirty: bool,
}

#[derive(Debug, Clone)]
enum NameChange {
    Put(PathBuf, Option<u64>),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf, u64),
}

/// Makes the change by `call`, if this thread's disk lets it.
pub(crate) fn make<T>(change: Change<'_>, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    DISK.with_borrow_mut(|disk| match disk {
        Some(disk) => disk.make(change, call),
        None => call(),
    })
}

/// Before `wanted` bytes are read, or something else is looked at: how many it may be.
pub(crate) fn look(wanted: usize) -> io::Result<usize> {
    DISK.with_borrow_mut(|disk| match disk {
        Some(disk) => disk.look(wanted),
        None => Ok(wanted),
    })
}

pub(crate) fn is_simulated() -> bool {
    DISK.with_borrow(Option::is_some)
}

/// A disk as it was once.
pub(crate) struct Saved(Disk);

/// A simulated disk below `root` for this thread, until dropped.
pub(crate) struct Simulation(());

impl Drop for Simulation {
    fn drop(&mut self) {
        DISK.set(None);
    }
}

impl Simulation {
    /// `root` exists and is empty.
    pub(crate) fn start(root: &Path, seed: u64) -> Simulation {
        DISK.set(Some(Disk {
            root: root.to_owned(),
            random: Rng::with_seed(seed),
            files: BTreeMap::new(),
            next_inode: 0,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            renaming: Vec::new(),
            planned: None,
            unread: None,
            dead: false,
            full: false,
            failed: false,
            met: Met::default(),
        }));
        Simulation(())
    }

    fn with<T>(&self, run: impl FnOnce(&mut Disk) -> T) -> T {
        DISK.with_borrow_mut(|disk| run(disk.as_mut().expect("set until dropped")))
    }

    /// Lets `fault` happen after so many calls more.
    pub(crate) fn plan(&self, after: u64, fault: Fault) {
        self.with(|disk| disk.planned = Some((after, fault)));
    }

    /// Lets a read meet this after so many more.
    pub(crate) fn plan_unread(&self, after: u64, unread: Unread) {
        self.with(|disk| disk.unread = Some((after, unread)));
    }

    /// Whether a call failed since this was last asked. What is planned and did not happen yet is no
    /// longer planned.
    pub(crate) fn has_failed(&self) -> bool {
        self.with(|disk| {
            (disk.planned, disk.unread) = (None, None);
            std::mem::take(&mut disk.failed)
        })
    }

    /// From now on nothing is done, until the process is started again.
    pub(crate) fn kill(&self) {
        self.with(|disk| disk.dead = true);
    }

    pub(crate) fn start_again(&self) {
        self.with(|disk| disk.dead = false);
    }

    pub(crate) fn free_space(&self) {
        self.with(|disk| disk.full = false);
    }

    pub(crate) fn save(&self) -> Saved {
        Saved(self.with(|disk| disk.clone()))
    }

    /// `seed` is for what happens then.
    pub(crate) fn restore(&self, saved: &Saved, seed: u64) {
        self.with(|disk| {
            *disk = saved.0.clone();
            disk.random = Rng::with_seed(seed);
            disk.write_out(|file| &file.cached);
        });
    }

    /// Leaves on the disk what reached it, and something of what had not to.
    pub(crate) fn lose_power(&self) {
        self.with(Disk::lose_power);
    }

    /// As [`lose_power`](Simulation::lose_power), leaving nothing that had not to be left.
    pub(crate) fn lose_all_unsynced(&self) {
        self.with(|disk| {
            for file in disk.files.values_mut() {
                file.forget();
            }
            disk.renaming.clear();
            disk.lose_power();
        });
    }

    pub(crate) fn met(&self) -> Met {
        self.with(|disk| disk.met)
    }
}

impl Disk {
    fn make<T>(
        &mut self,
        change: Change<'_>,
        call: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        if self.dead {
            return Err(io::Error::other("the process is dead"));
        }
        self.met.calls += 1;
        match &mut self.planned {
            Some((0, fault)) => {
                let fault = *fault;
                self.planned = None;
                self.strike(fault, change)?;
            }
            Some((after, _)) => *after -= 1,
            None => {}
        }
        if self.full && needs_space(change) {
            self.met.full += 1;
            self.failed = true;
            self.write_short(change);
            return Err(io::ErrorKind::StorageFull.into());
        }
        let done = call()?;
        self.record(change);
        Ok(done)
    }

    fn look(&mut self, wanted: usize) -> io::Result<usize> {
        self.met.looks += 1;
        match self.unread {
            Some((0, unread)) => {
                if let Some(met) = self.meets(unread, wanted) {
                    return met;
                }
            }
            Some((after, unread)) => self.unread = Some((after - 1, unread)),
            None => {}
        }
        let is_short = wanted > 1 && self.random.u8(..8) == 0;
        Ok(if is_short {
            self.random.usize(1..wanted)
        } else {
            wanted
        })
    }

    /// Only a read can end.
    fn meets(&mut self, unread: Unread, wanted: usize) -> Option<io::Result<usize>> {
        let met = match unread {
            Unread::Refused => {
                self.unread = None;
                Err(io::Error::from_raw_os_error(5))
            }
            Unread::Ended if wanted > 0 => Ok(0),
            Unread::Ended => return None,
        };
        self.met.unread += 1;
        self.failed = true;
        Some(met)
    }

    fn strike(&mut self, fault: Fault, change: Change<'_>) -> io::Result<()> {
        self.failed |= fault != Fault::Full;
        match fault {
            Fault::Death => {
                self.met.deaths += 1;
                // Killed within a write, which is then done in part.
                self.write_short(change);
                self.dead = true;
                Err(io::Error::other("the process is dead"))
            }
            Fault::Full => {
                self.full = true;
                Ok(())
            }
            Fault::Refused => {
                self.met.refused += 1;
                if let Change::Sync(path) = change {
                    self.met.refused_syncs += 1;
                    self.fail_sync(path);
                }
                self.write_short(change);
                Err(io::Error::from_raw_os_error(5))
            }
        }
    }

    /// Makes a write in part, from its start.
    fn write_short(&mut self, change: Change<'_>) {
        let Change::Write {
            path,
            offset,
            bytes,
        } = change
        else {
            return;
        };
        let bytes = &bytes[..self.random.usize(..bytes.len() + 1)];
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(bytes, offset).unwrap();
        self.met.short_writes += u64::from(!bytes.is_empty());
        self.record(Change::Write {
            path,
            offset,
            bytes,
        });
    }

    fn record(&mut self, change: Change<'_>) {
        match change {
            Change::CreateDir(path) => self.put(path, None),
            Change::Create(path) if self.names.contains_key(path) => {}
            Change::Create(path) => {
                let inode = self.next_inode;
                self.next_inode += 1;
                self.files.insert(inode, Inode::default());
                self.put(path, Some(inode));
            }
            Change::Write {
                path,
                offset,
                bytes,
            } => {
                self.met.written += u64::try_from(bytes.len()).unwrap();
                let write_back = (self.random.u8(..8) == 0).then(|| self.random.u64(..));
                let file = self.file(path);
                file.write(usize::try_from(offset).unwrap(), bytes);
                if let Some(seed) = write_back {
                    file.write_back(&mut Rng::with_seed(seed));
                }
            }
            Change::SetLen { path, len } => {
                self.file(path).set_len(usize::try_from(len).unwrap());
            }
            Change::Sync(path) => self.file(path).sync(),
            Change::SyncDir(path) => self.sync_dir(path),
            Change::Rename { from, to } => {
                assert_eq!(from.parent(), to.parent());
                let inode = self
                    .names
                    .remove(from)
                    .flatten()
                    .expect("a file is renamed");
                self.names.insert(to.to_owned(), Some(inode));
                let change = NameChange::Rename(from.to_owned(), to.to_owned(), inode);
                self.renaming.push(change);
            }
            Change::Remove(path) => {
                self.names.remove(path);
                self.renaming.push(NameChange::Remove(path.to_owned()));
            }
        }
    }

    fn put(&mut self, path: &Path, inode: Option<u64>) {
        self.names.insert(path.to_owned(), inode);
        self.renaming.push(NameChange::Put(path.to_owned(), inode));
    }

    fn file(&mut self, path: &Path) -> &mut Inode {
        let inode = self.names.get(path).copied().flatten();
        let inode = inode.unwrap_or_else(|| panic!("{} was not created here", path.display()));
        self.files.get_mut(&inode).expect("named")
    }

    fn sync_dir(&mut self, dir: &Path) {
        let (synced, rest) = std::mem::take(&mut self.renaming)
            .into_iter()
            .partition(|change| change.dir() == Some(dir));
        self.renaming = rest;
        for change in synced {
            self.make_durable(change);
        }
    }

    fn make_durable(&mut self, change: NameChange) {
        match change {
            NameChange::Put(path, inode) => {
                self.durable_names.insert(path, inode);
            }
            NameChange::Remove(path) => {
                self.durable_names.remove(&path);
            }
            NameChange::Rename(from, to, inode) => {
                self.durable_names.remove(&from);
                self.durable_names.insert(to, Some(inode));
            }
        }
    }

    fn fail_sync(&mut self, path: &Path) {
        let mut random = self.random.fork();
        self.file(path).fail_sync(&mut random);
    }

    fn lose_power(&mut self) {
        self.met.power_losses += 1;
        self.settle_names();
        let named: BTreeSet<u64> = self.durable_names.values().flatten().copied().collect();
        self.files.retain(|inode, _| named.contains(inode));
        let mut random = self.random.fork();
        for file in self.files.values_mut() {
            self.met.lost_pages += file.lose_power(&mut random);
        }
        self.names = self.durable_names.clone();
        self.write_out(|file| &file.durable);
        (self.dead, self.planned, self.unread) = (false, None, None);
    }

    /// Of the changes not synced some are kept: the first ones, or any.
    fn settle_names(&mut self) {
        let changes = std::mem::take(&mut self.renaming);
        let in_order = self.random.bool();
        let kept = self.random.usize(..changes.len() + 1);
        for (number, change) in changes.into_iter().enumerate() {
            let is_kept = match in_order {
                true => number < kept,
                false => self.random.bool(),
            };
            match is_kept {
                true => self.make_durable(change),
                false => self.met.lost_names += 1,
            }
        }
        let root = self.root.clone();
        let names = &mut self.durable_names;
        // Ascending, so that a directory comes before what is in it.
        for path in names.keys().cloned().collect::<Vec<_>>() {
            let dir = path.parent().expect("below the root");
            if dir != root && names.get(dir) != Some(&None) {
                names.remove(&path);
            }
        }
    }

    fn write_out(&self, bytes: impl Fn(&Inode) -> &Vec<u8>) {
        for entry in fs::read_dir(&self.root).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => fs::remove_dir_all(path).unwrap(),
                false => fs::remove_file(path).unwrap(),
            }
        }
        for (path, inode) in &self.names {
            match inode {
                None => fs::create_dir(path).unwrap(),
                Some(inode) => {
                    let mut options = fs::OpenOptions::new();
                    // Of keys nothing else is taken.
                    let file = options.write(true).create_new(true).mode(0o600).open(path);
                    file.unwrap()
                        .write_all_at(bytes(&self.files[inode]), 0)
                        .unwrap();
                }
            }
        }
    }
}

fn needs_space(change: Change<'_>) -> bool {
    match change {
        Change::CreateDir(_) | Change::Write { .. } => true,
        Change::Create(path) => !path.exists(),
        Change::SetLen { path, len } => fs::metadata(path).is_ok_and(|file| file.len() < len),
        Change::Sync(_) | Change::SyncDir(_) | Change::Rename { .. } | Change::Remove(_) => false,
    }
}

impl NameChange {
    fn dir(&self) -> Option<&Path> {
        match self {
            NameChange::Put(path, _)
            | NameChange::Remove(path)
            | NameChange::Rename(_, path, _) => path.parent(),
        }
    }
}

impl Inode {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if bytes.is_empty() {
            return;
        }
        if end > self.cached.len() {
            set_len(&mut self.cached, end);
            self.len_is_dirty = true;
        }
        self.cached[offset..end].copy_from_slice(bytes);
        self.dirty.extend(offset / PAGE..=(end - 1) / PAGE);
    }

    fn set_len(&mut self, len: usize) {
        set_len(&mut self.cached, len);
        self.dirty.retain(|page| page * PAGE < len);
        self.len_is_dirty = true;
    }

    fn sync(&mut self) {
        for page in std::mem::take(&mut self.dirty) {
            self.store(page);
        }
        self.store_len();
    }

    /// What the kernel does whenever it likes.
    fn write_back(&mut self, random: &mut Rng) {
        let pages: Vec<usize> = self.dirty.iter().copied().collect();
        for page in pages.into_iter().filter(|_| random.bool()) {
            self.dirty.remove(&page);
            self.store(page);
        }
    }

    /// Some pages reach the disk, or none, and no page is dirty any more.
    fn fail_sync(&mut self, random: &mut Rng) {
        let some = random.bool();
        for page in std::mem::take(&mut self.dirty) {
            if some && random.bool() {
                self.store(page);
            }
        }
    }

    fn store(&mut self, page: usize) {
        self.store_part(page, 0..PAGE);
    }

    /// The disk may hold pages beyond the length that it has noted.
    fn store_part(&mut self, page: usize, part: std::ops::Range<usize>) {
        let start = (page * PAGE + part.start).min(self.cached.len());
        let end = (page * PAGE + part.end).min(self.cached.len());
        if self.durable.len() < end {
            set_len(&mut self.durable, end);
        }
        self.durable[start..end].copy_from_slice(&self.cached[start..end]);
    }

    fn store_len(&mut self) {
        set_len(&mut self.durable, self.cached.len());
        self.len_is_dirty = false;
    }

    fn forget(&mut self) {
        self.dirty.clear();
        self.len_is_dirty = false;
    }

    /// Leaves some of what was not synced; how many pages are not as they were.
    fn lose_power(&mut self, random: &mut Rng) -> u64 {
        let mut lost = 0;
        let old_len = self.durable.len();
        // None of the pages, all of them, or some.
        let (none, all) = (random.u8(..4) == 0, random.u8(..4) == 0);
        for page in std::mem::take(&mut self.dirty) {
            match random.u64(..4) {
                _ if none => lost += 1,
                0 => self.store(page),
                _ if all => self.store(page),
                1 => lost += 1,
                _ => {
                    lost += 1;
                    self.tear(page, old_len, random);
                }
            }
        }
        if self.len_is_dirty && random.bool() {
            self.store_len();
        }
        self.len_is_dirty = false;
        self.cached.clone_from(&self.durable);
        lost
    }

    /// Of a page some sectors reach the disk; of those that were never written, others may hold
    /// what was there before.
    fn tear(&mut self, page: usize, old_len: usize, random: &mut Rng) {
        let garbage = random.u8(..4) == 0;
        for at in (0..PAGE).step_by(SECTOR) {
            let start = page * PAGE + at;
            if random.bool() {
                self.store_part(page, at..at + SECTOR);
            } else if garbage && start >= old_len && start < self.durable.len() {
                let end = (start + SECTOR).min(self.durable.len());
                self.durable[start..end].fill_with(|| random.u8(..));
            }
        }
    }
}

/// Without optimization `Vec::resize` goes byte by byte.
fn set_len(bytes: &mut Vec<u8>, len: usize) {
    bytes.truncate(len);
    bytes.extend_from_slice(&vec![0; len - bytes.len()]);
}

/// Where files are cheap to write and sync.
pub(crate) fn temporary_dir() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    match memory.is_dir() {
        true => tempfile::tempdir_in(memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Access, AppendFile};

    /// What is left of a file to which `two` was written after `one` was synced.
    fn left(then: impl Fn(&Simulation, &mut AppendFile)) -> Vec<u8> {
        let root = temporary_dir();
        let simulation = Simulation::start(root.path(), 1);
        let path = root.path().join("file");
        let mut file = AppendFile::open(&path, Access::Owner).unwrap();
        file.write(b"one ").unwrap();
        file.sync().unwrap();
        file.write(b"two ").unwrap();
        then(&simulation, &mut file);
        simulation.lose_all_unsynced();
        fs::read(path).unwrap()
    }

    #[test]
    fn only_what_was_synced_has_to_stay() {
        assert_eq!(left(|_, _| {}), b"one ");
        assert_eq!(left(|_, file| file.sync().unwrap()), b"one two ");
        let dead = |simulation: &Simulation, file: &mut AppendFile| {
            simulation.kill();
            file.sync().unwrap_err();
        };
        assert_eq!(left(dead), b"one ");
    }

    #[test]
    fn a_sync_after_one_that_failed_is_not_to_be_believed() {
        let twice = |simulation: &Simulation, file: &mut AppendFile| {
            simulation.plan(0, Fault::Refused);
            file.sync().unwrap_err();
            file.sync().unwrap();
            assert_eq!(simulation.met().refused_syncs, 1);
        };
        assert_eq!(left(twice), b"one \0\0\0\0");
        // A new write takes the whole page along.
        let written = |simulation: &Simulation, file: &mut AppendFile| {
            twice(simulation, file);
            file.write(b"three").unwrap();
            file.sync().unwrap();
        };
        assert_eq!(left(written), b"one two three");
    }

    #[test]
    fn a_power_loss_leaves_some_of_what_was_not_synced() {
        let root = temporary_dir();
        let path = root.path().join("file");
        let left = (0..200).map(|seed| {
            let simulation = Simulation::start(root.path(), seed);
            let mut file = AppendFile::open(&path, Access::Owner).unwrap();
            file.write(&[7; 3 * PAGE]).unwrap();
            simulation.lose_power();
            let left = fs::read(&path).unwrap();
            fs::remove_file(&path).unwrap();
            left
        });
        let left: BTreeSet<Vec<u8>> = left.collect();
        assert!(left.contains(&vec![]) && left.contains(&vec![7; 3 * PAGE]));
        assert!(left.len() > 20, "{}", left.len());
    }
}
