//! Live and lately dead processes: who forked whom, and what each runs.
//!
//! Bounded by count and by bytes. Processes that exited stay for a grace time, so that events of
//! their children still find them; when room is short they go first, then those longest unused.

mod chain;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use event::{Ancestor, Argv, BootId, BootTime, Process, ProcessKey};

use crate::clock::after;
use crate::slots::{List, Slots};
use chain::{Chain, Chains};

/// How much the table keeps.
#[derive(Debug, Clone, Copy)]
pub struct TableLimits {
    /// Most processes.
    pub entries: usize,
    /// Most bytes, about.
    pub bytes: usize,
    /// How long a process stays after its exit, in event time.
    pub grace: Duration,
}

impl Default for TableLimits {
    fn default() -> Self {
        Self {
            entries: 32_768,
            bytes: 8 << 20,
            grace: Duration::from_secs(4),
        }
    }
}

/// Counters of the process table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TableStats {
    /// Processes known now, the lately dead included.
    pub entries: u64,
    /// Bytes that they take, about.
    pub bytes: u64,
    /// Removed when their grace time was over.
    pub expired: u64,
    /// Dead ones removed before that, for want of room.
    pub evicted_dead: u64,
    /// Live ones removed for want of room: their children's events lack a parent.
    pub evicted_live: u64,
    /// Chains of ancestors put together. The other events shared one that was there.
    pub chains_built: u64,
}

/// Longest argument block kept of a process; the event itself has more.
const ARGV_BYTES: usize = 4096;

/// What an entry costs apart from its image: slot, map entry, some slack of both.
const ENTRY_BYTES: usize = size_of::<Entry>() + 2 * size_of::<(ProcessKey, u32)>();

#[derive(Debug)]
pub(crate) struct ProcessTable {
    limits: TableLimits,
    boot: BootId,
    index: HashMap<ProcessKey, u32>,
    slots: Slots<Entry>,
    /// Least recently used first.
    live: List,
    /// First exited first.
    dead: List,
    chains: Chains,
    stats: TableStats,
}

#[derive(Debug)]
struct Entry {
    key: ProcessKey,
    parent: Option<ProcessKey>,
    /// `None` where only a fork was seen, of a parent that is not known either.
    image: Option<Arc<Image>>,
    exited: Option<BootTime>,
    /// The processes above it, for the events of its children.
    above: Option<Chain>,
    /// A chain of this epoch shows it, or did.
    shown: Option<u64>,
}

impl Entry {
    fn new(key: ProcessKey, parent: Option<ProcessKey>, image: Option<Arc<Image>>) -> Self {
        Self {
            key,
            parent,
            image,
            exited: None,
            above: None,
            shown: None,
        }
    }
}

/// What a process runs. A fork shares its parent's.
#[derive(Debug, Default)]
struct Image {
    comm: Bytes,
    exe: Bytes,
    argv: Argv,
    euid: Option<u32>,
}

impl ProcessTable {
    pub(crate) fn new(limits: TableLimits) -> Self {
        Self {
            limits,
            boot: BootId::default(),
            index: HashMap::new(),
            slots: Slots::default(),
            live: List::default(),
            dead: List::default(),
            chains: Chains::default(),
            stats: TableStats::default(),
        }
    }

    /// What a process runs now was muted: what it ran before must not stand for it.
    pub(crate) fn forget_image(&mut self, key: ProcessKey) {
        let Some(slot) = self.slot_of(key) else {
            return;
        };
        self.outdate_chains_with(slot);
        let old = self.slots.get_mut(slot).image.take();
        self.release(old);
    }

    /// A process was created: it runs what its parent runs.
    pub(crate) fn fork(&mut self, child: ProcessKey, parent: ProcessKey) {
        let image = self.used(parent).and_then(|entry| entry.image.clone());
        match self.slot_of(child) {
            Some(slot) => {
                self.touch(slot);
                let known = self.slots.get(slot).parent;
                self.set_parent(slot, known.or(Some(parent)));
            }
            None => self.insert(Entry::new(child, Some(parent), image)),
        }
    }

    /// A process runs a (new) program. Its arguments are redacted already.
    pub(crate) fn exec(&mut self, process: &Process) {
        let image = Arc::new(Image::of(process));
        self.stats.bytes += image.bytes();
        let Some(slot) = self.slot_of(process.key) else {
            return self.insert(Entry::new(process.key, process.parent, Some(image)));
        };
        self.touch(slot);
        let entry = self.slots.get(slot);
        if !entry
            .image
            .as_ref()
            .is_some_and(|old| old.looks_like(&image))
        {
            self.outdate_chains_with(slot);
        }
        let known = self.slots.get(slot).parent;
        self.set_parent(slot, process.parent.or(known));
        let old = self.slots.get_mut(slot).image.replace(image);
        self.release(old);
        self.make_room();
    }

    /// A process ended at `time`.
    pub(crate) fn exit(&mut self, key: ProcessKey, time: BootTime) {
        let Some(slot) = self.slot_of(key) else {
            return;
        };
        let entry = self.slots.get_mut(slot);
        if entry.exited.is_none() {
            entry.exited = Some(time);
            self.live.remove(slot, &mut self.slots);
            self.dead.push_back(slot, &mut self.slots);
        }
    }

    /// Brings the table to the time of an event: removes what is dead for longer than the grace
    /// time, and everything when the event is of another boot.
    pub(crate) fn advance(&mut self, boot: BootId, time: BootTime) {
        if boot != self.boot {
            let stats = TableStats {
                entries: 0,
                bytes: 0,
                ..self.stats
            };
            *self = Self {
                boot,
                stats,
                ..Self::new(self.limits)
            };
        }
        while let Some(slot) = self.dead.front() {
            let exited = self.slots.get(slot).exited.unwrap_or_default();
            if after(exited, self.limits.grace) >= time {
                break;
            }
            self.remove(slot);
            self.stats.expired += 1;
        }
    }

    /// What is known of a process, as an event shows it of a parent.
    pub(crate) fn ancestor(&mut self, key: ProcessKey) -> Option<Ancestor> {
        let entry = self.used(key)?;
        let image = entry.image.as_deref()?;
        Some(Ancestor {
            key,
            comm: image.comm.clone(),
            exe: image.exe.clone(),
            argv: image.argv.clone(),
            parent: entry.parent,
            euid: image.euid,
        })
    }

    /// The process that forked this one.
    pub(crate) fn parent(&self, key: ProcessKey) -> Option<ProcessKey> {
        self.slots.get(self.slot_of(key)?).parent
    }

    /// Path of what a process runs.
    pub(crate) fn exe(&self, key: ProcessKey) -> Option<Bytes> {
        let image = self.slots.get(self.slot_of(key)?).image.as_deref()?;
        Some(image.exe.clone())
    }

    pub(crate) fn stats(&self) -> TableStats {
        self.stats
    }

    fn slot_of(&self, key: ProcessKey) -> Option<u32> {
        self.index.get(&key).copied()
    }

    /// The entry, which now was used last.
    fn used(&mut self, key: ProcessKey) -> Option<&mut Entry> {
        let slot = self.slot_of(key)?;
        self.touch(slot);
        Some(self.slots.get_mut(slot))
    }

    fn touch(&mut self, slot: u32) {
        if self.slots.get(slot).exited.is_none() {
            self.live.remove(slot, &mut self.slots);
            self.live.push_back(slot, &mut self.slots);
        }
    }

    fn set_parent(&mut self, slot: u32, parent: Option<ProcessKey>) {
        if self.slots.get(slot).parent == parent {
            return;
        }
        self.outdate_chains_with(slot);
        let entry = self.slots.get_mut(slot);
        entry.parent = parent;
        let above = entry.above.take();
        self.release_chain(above);
    }

    fn insert(&mut self, entry: Entry) {
        let key = entry.key;
        self.outdate_chains_without(key);
        let slot = self.slots.insert(entry);
        self.live.push_back(slot, &mut self.slots);
        self.index.insert(key, slot);
        self.stats.entries += 1;
        self.stats.bytes += ENTRY_BYTES as u64;
        self.make_room();
    }

    fn make_room(&mut self) {
        while self.is_over() {
            let Some(slot) = self.dead.front().or_else(|| self.live.front()) else {
                return;
            };
            if self.is_spared(slot) {
                continue;
            }
            let dead = self.remove(slot).exited.is_some();
            *(if dead {
                &mut self.stats.evicted_dead
            } else {
                &mut self.stats.evicted_live
            }) += 1;
        }
    }

    fn is_over(&self) -> bool {
        self.stats.entries > self.limits.entries as u64
            || self.stats.bytes > self.limits.bytes as u64
    }

    fn remove(&mut self, slot: u32) -> Entry {
        let dead = self.slots.get(slot).exited.is_some();
        let list = if dead { &mut self.dead } else { &mut self.live };
        list.remove(slot, &mut self.slots);
        self.outdate_chains_with(slot);
        let mut entry = self.slots.remove(slot);
        self.index.remove(&entry.key);
        self.stats.entries -= 1;
        self.stats.bytes -= ENTRY_BYTES as u64;
        self.release(entry.image.take());
        self.release_chain(entry.above.take());
        entry
    }

    /// A live process in whose descendants' chains it stands was used with them, though nobody
    /// asked for it: it goes behind the others once.
    fn is_spared(&mut self, slot: u32) -> bool {
        let entry = self.slots.get(slot);
        let spared = entry.exited.is_none() && entry.shown.is_some();
        if spared {
            self.outdate_chains_with(slot);
            self.slots.get_mut(slot).shown = None;
            self.touch(slot);
        }
        spared
    }

    /// An image that nobody shares any more gives its bytes back.
    fn release(&mut self, image: Option<Arc<Image>>) {
        if let Some(image) = image.and_then(Arc::into_inner) {
            self.stats.bytes -= image.bytes();
        }
    }
}

impl Image {
    /// Copies: a slice would keep the sensor's whole buffer alive. The arguments have a block of
    /// their own, since chains keep the names alone.
    fn of(process: &Process) -> Self {
        let argv = process.argv.as_block();
        let argv = &argv[..argv.len().min(ARGV_BYTES)];
        let mut names = BytesMut::with_capacity(process.comm.len() + process.exe.len());
        names.extend_from_slice(&process.comm);
        let comm = names.split().freeze();
        names.extend_from_slice(&process.exe);
        Self {
            comm,
            exe: names.freeze(),
            argv: Argv::from_block(Bytes::copy_from_slice(argv)),
            euid: process.credentials.map(|ids| ids.euid),
        }
    }

    /// Whether chains show the same of both.
    fn looks_like(&self, other: &Self) -> bool {
        (&self.exe, &self.comm, self.euid) == (&other.exe, &other.comm, other.euid)
    }

    fn bytes(&self) -> u64 {
        let text = self.comm.len() + self.exe.len() + self.argv.as_block().len();
        (size_of::<Self>() + text) as u64
    }
}
