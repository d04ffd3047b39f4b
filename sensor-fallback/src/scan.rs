use std::collections::BTreeMap;
use std::sync::Arc;

use event::{BootId, BootTime, Process, ProcessKey, WallTime};

/// The processes of one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scan {
    pub(crate) boot: BootId,
    /// When the list was complete.
    pub(crate) at: BootTime,
    /// Wall time of boot, as the clock stood at `at`.
    pub(crate) boot_wall: WallTime,
    pub(crate) processes: BTreeMap<u32, Seen>,
}

/// A process as one scan saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// All that is known, without the parent. Shared with the scan before where nothing changed.
    pub(crate) process: Arc<Process>,
    /// Parent at the time of the scan; 0 for none.
    pub(crate) ppid: u32,
    /// The process that forked it, as far as its first scan could tell.
    pub(crate) parent: Option<ProcessKey>,
    /// Marks the program image where the system shows one: it changes with exec only.
    pub(crate) image: Option<Image>,
    /// A thread of the kernel: it never runs a program.
    pub(crate) kernel_thread: bool,
}

/// Addresses of code, stack and arguments. Exec lays them out anew: at random places, and where
/// that is turned off still by the sizes of program, arguments and environment.
pub(crate) type Image = [u64; 5];

impl Seen {
    pub(crate) fn key(&self) -> ProcessKey {
        self.process.key
    }

    /// The process with its parent, as events carry it.
    pub(crate) fn full(&self) -> Process {
        Process {
            parent: self.parent,
            ..Process::clone(&self.process)
        }
    }
}

impl Scan {
    pub(crate) fn get(&self, key: ProcessKey) -> Option<&Seen> {
        self.processes
            .get(&key.pid)
            .filter(|seen| seen.key() == key)
    }

    /// Fills in every parent. A process keeps the one it was first seen with: after re-parenting,
    /// the present one is not the forker.
    pub(crate) fn link_parents(&mut self, before: &Self) {
        let parents: Vec<_> = self
            .processes
            .values()
            .map(|seen| self.parent_of(seen, before))
            .collect();
        for (seen, parent) in self.processes.values_mut().zip(parents) {
            seen.parent = parent;
        }
    }

    fn parent_of(&self, child: &Seen, before: &Self) -> Option<ProcessKey> {
        if let Some(known) = before.get(child.key()) {
            return known.parent;
        }
        // A parent that ended during this scan is still in the one before.
        [self, before]
            .iter()
            .filter_map(|scan| scan.processes.get(&child.ppid))
            .map(Seen::key)
            .find(|parent| parent.start <= child.key().start && parent.pid != child.key().pid)
    }
}
