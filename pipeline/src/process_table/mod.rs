//! Live and lately dead processes: who forked whom, and what each runs.
//!
//! Bounded by count and by bytes. Processes that exited stay for a grace time, so that events of
//! their children still find them; when room is short they go first, then those longest unused.

mod slots;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use event::{Ancestor, Argv, BootId, BootTime, Process, ProcessKey};

use crate::clock::after;
use slots::{List, Slots};

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
    stats: TableStats,
}

#[derive(Debug)]
struct Entry {
    key: ProcessKey,
    parent: Option<ProcessKey>,
    /// `None` where only a fork was seen, of a parent that is not known either.
    image: Option<Arc<Image>>,
    exited: Option<BootTime>,
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
            stats: TableStats::default(),
        }
    }

    /// A process was created: it runs what its parent runs.
    pub(crate) fn fork(&mut self, child: ProcessKey, parent: ProcessKey) {
        let image = self.used(parent).and_then(|entry| entry.image.clone());
        match self.used(child) {
            Some(entry) => entry.parent = entry.parent.or(Some(parent)),
            None => self.insert(Entry {
                key: child,
                parent: Some(parent),
                image,
                exited: None,
            }),
        }
    }

    /// A process runs a (new) program. Its arguments are redacted already.
    pub(crate) fn exec(&mut self, process: &Process) {
        let image = Arc::new(Image::of(process));
        self.stats.bytes += image.bytes();
        if let Some(entry) = self.used(process.key) {
            entry.parent = process.parent.or(entry.parent);
            let old = entry.image.replace(image);
            self.release(old);
            self.make_room();
        } else {
            let (key, parent) = (process.key, process.parent);
            self.insert(Entry {
                key,
                parent,
                image: Some(image),
                exited: None,
            });
        }
    }

    /// A process ended at `time`.
    pub(crate) fn exit(&mut self, key: ProcessKey, time: BootTime) {
        let Some(&slot) = self.index.get(&key) else {
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
        self.slots.get(*self.index.get(&key)?).parent
    }

    /// Path of what a process runs.
    pub(crate) fn exe(&self, key: ProcessKey) -> Option<Bytes> {
        let image = self.slots.get(*self.index.get(&key)?).image.as_deref()?;
        Some(image.exe.clone())
    }

    pub(crate) fn stats(&self) -> TableStats {
        self.stats
    }

    /// The entry, which now was used last.
    fn used(&mut self, key: ProcessKey) -> Option<&mut Entry> {
        let slot = *self.index.get(&key)?;
        if self.slots.get(slot).exited.is_none() {
            self.live.remove(slot, &mut self.slots);
            self.live.push_back(slot, &mut self.slots);
        }
        Some(self.slots.get_mut(slot))
    }

    fn insert(&mut self, entry: Entry) {
        let key = entry.key;
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
        let mut entry = self.slots.remove(slot);
        self.index.remove(&entry.key);
        self.stats.entries -= 1;
        self.stats.bytes -= ENTRY_BYTES as u64;
        self.release(entry.image.take());
        entry
    }

    /// An image that nobody shares any more gives its bytes back.
    fn release(&mut self, image: Option<Arc<Image>>) {
        if let Some(image) = image.and_then(Arc::into_inner) {
            self.stats.bytes -= image.bytes();
        }
    }
}

impl Image {
    /// Copies into one block of its own: a slice would keep the sensor's whole buffer alive.
    fn of(process: &Process) -> Self {
        let argv = process.argv.as_block();
        let argv = &argv[..argv.len().min(ARGV_BYTES)];
        let mut block =
            BytesMut::with_capacity(process.comm.len() + process.exe.len() + argv.len());
        let mut copy = |bytes: &[u8]| {
            block.extend_from_slice(bytes);
            block.split().freeze()
        };
        Self {
            comm: copy(&process.comm),
            exe: copy(&process.exe),
            argv: Argv::from_block(copy(argv)),
            euid: process.credentials.map(|ids| ids.euid),
        }
    }

    fn bytes(&self) -> u64 {
        let text = self.comm.len() + self.exe.len() + self.argv.as_block().len();
        (size_of::<Self>() + text) as u64
    }
}
