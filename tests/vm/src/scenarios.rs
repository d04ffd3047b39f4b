//! Workloads that run in one recording.

use std::collections::HashMap;

use anyhow::{Context as _, Result};
use event::ProcessKey;

use crate::{Life, Recording, Workload};

/// Workloads that ran in one recording, by name. One recording of many costs little more than one
/// of one; tests tell them apart by pid.
#[derive(Debug)]
pub struct Scenarios {
    /// Everything that happened.
    pub recording: Recording,
    workloads: HashMap<&'static str, Workload>,
}

impl Scenarios {
    /// Records while each runs once: a name, and the arguments of the `workload` program.
    ///
    /// # Errors
    /// The recorder's or a workload's.
    pub fn record(list: &[(&'static str, &[&str])]) -> Result<Self> {
        let (recording, workloads) = Recording::of(|| run_all(list))?;
        Ok(Self::of(recording, workloads))
    }

    /// Like [`Scenarios::record`], but the recorder stands still meanwhile: see
    /// [`Recording::in_hindsight`].
    ///
    /// # Errors
    /// The same.
    pub fn record_in_hindsight(list: &[(&'static str, &[&str])]) -> Result<Self> {
        let (recording, workloads) = Recording::in_hindsight(&[], || run_all(list))?;
        Ok(Self::of(recording, workloads))
    }

    /// Of a recording that was made otherwise.
    #[must_use]
    pub fn of(recording: Recording, workloads: HashMap<&'static str, Workload>) -> Self {
        Self {
            recording,
            workloads,
        }
    }

    /// What a workload reported.
    ///
    /// # Panics
    /// There is none of that name.
    #[must_use]
    #[track_caller]
    pub fn workload(&self, name: &str) -> &Workload {
        let found = self.workloads.get(name);
        found.unwrap_or_else(|| panic!("no workload {name}"))
    }

    /// The life of the process that a workload reported as `role`.
    ///
    /// # Panics
    /// It reported none.
    #[must_use]
    #[track_caller]
    pub fn life(&self, name: &str, role: &str) -> Life<'_> {
        self.recording.life(self.workload(name).pid(role))
    }

    /// The key of the process that a workload reported as `role`.
    ///
    /// # Panics
    /// It reported none, or there is no event about it.
    #[must_use]
    #[track_caller]
    pub fn key(&self, name: &str, role: &str) -> ProcessKey {
        self.life(name, role).key()
    }
}

/// Runs each workload to its end.
///
/// # Errors
/// One cannot be started or fails.
pub fn run_all(list: &[(&'static str, &[&str])]) -> Result<HashMap<&'static str, Workload>> {
    let run = |(name, arguments): &(&'static str, &[&str])| {
        let workload = Workload::run(*arguments).with_context(|| format!("workload {name}"))?;
        Ok((*name, workload))
    };
    list.iter().map(run).collect()
}
