//! The processes above a process, put together once for all its children.

use std::collections::HashSet;
use std::sync::Arc;

use event::{Ancestor, Argv, ProcessKey};

use super::ProcessTable;

/// Most processes above the parent that are told.
pub(super) const LONGEST: usize = 64;

/// Most unknown processes that are remembered as the end of chains.
const UNKNOWN: usize = 1024;

/// Which chains still say what is so.
#[derive(Debug, Default)]
pub(super) struct Chains {
    /// Goes up when something changes that a chain shows: those of before are not used again.
    pub(super) epoch: u64,
    /// Where chains of this epoch end: would be shown if the table knew it.
    unknown: HashSet<ProcessKey>,
}

impl Chains {
    fn outdate(&mut self) {
        self.epoch += 1;
        self.unknown.clear();
    }

    fn end_at(&mut self, unknown: ProcessKey) {
        if self.unknown.len() >= UNKNOWN {
            self.outdate();
        }
        self.unknown.insert(unknown);
    }
}

/// What stands above a process, as of an epoch of the table.
#[derive(Debug)]
pub(super) struct Chain {
    epoch: u64,
    processes: Arc<[Ancestor]>,
}

impl Chain {
    /// What it costs the table. The names are counted though an image may share them: it can be
    /// gone before the chain is.
    pub(super) fn bytes(&self) -> u64 {
        let text = |of: &Ancestor| of.comm.len() + of.exe.len();
        let sum: usize = self.processes.iter().map(text).sum();
        (size_of_val(&*self.processes) + sum) as u64
    }
}

impl ProcessTable {
    /// The processes above this one, nearest first, without arguments. The last one's parent is
    /// not known here, or it is the [`LONGEST`]th.
    pub(crate) fn above(&mut self, key: ProcessKey) -> Arc<[Ancestor]> {
        let Some(slot) = self.slot_of(key) else {
            return Arc::default();
        };
        let entry = self.slots.get(slot);
        if let Some(chain) = entry
            .above
            .as_ref()
            .filter(|c| c.epoch == self.chains.epoch)
        {
            return Arc::clone(&chain.processes);
        }
        // Of before the walk, which can begin another one.
        let epoch = self.chains.epoch;
        let processes: Arc<[Ancestor]> = self.walk(slot).into();
        let chain = Chain {
            epoch,
            processes: Arc::clone(&processes),
        };
        self.keep_chain(slot, chain);
        processes
    }

    fn walk(&mut self, from: u32) -> Vec<Ancestor> {
        self.stats.chains_built += 1;
        let mut chain = Vec::new();
        let mut child = self.slots.get(from);
        // A recording can claim that a process forked itself.
        while chain.len() < LONGEST
            && let Some(key) = child.parent.filter(|parent| *parent != child.key)
        {
            let Some(slot) = self.slot_of(key) else {
                self.chains.end_at(key);
                break;
            };
            self.touch(slot);
            self.slots.get_mut(slot).shown = Some(self.chains.epoch);
            child = self.slots.get(slot);
            chain.push(child.without_arguments());
        }
        chain
    }

    fn keep_chain(&mut self, slot: u32, chain: Chain) {
        self.stats.bytes += chain.bytes();
        let old = self.slots.get_mut(slot).above.replace(chain);
        self.release_chain(old);
        self.make_room();
    }

    /// To be called before an entry changes or goes.
    pub(super) fn outdate_chains_with(&mut self, slot: u32) {
        if self.slots.get(slot).shown == Some(self.chains.epoch) {
            self.chains.outdate();
        }
    }

    /// To be called before an entry comes.
    pub(super) fn outdate_chains_without(&mut self, key: ProcessKey) {
        if self.chains.unknown.contains(&key) {
            self.chains.outdate();
        }
    }

    pub(super) fn release_chain(&mut self, chain: Option<Chain>) {
        if let Some(chain) = chain {
            self.stats.bytes -= chain.bytes();
        }
    }
}

impl super::Entry {
    fn without_arguments(&self) -> Ancestor {
        let image = self.image.as_deref();
        Ancestor {
            key: self.key,
            comm: image.map(|image| image.comm.clone()).unwrap_or_default(),
            exe: image.map(|image| image.exe.clone()).unwrap_or_default(),
            argv: Argv::default(),
            parent: self.parent,
            euid: image.and_then(|image| image.euid),
        }
    }
}
