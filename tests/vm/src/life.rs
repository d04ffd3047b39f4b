//! The events about one process, and what must hold for any.

use event::{Event, EventKind, Exec, Exit, ExitStatus, Fork, Process, ProcessKey, Snapshot};

use crate::recording::{expect_kinds, kinds};

/// The events about one process, in order.
#[derive(Debug, Clone)]
pub struct Life<'a>(Vec<&'a Event>);

impl<'a> Life<'a> {
    /// Of these events.
    #[must_use]
    pub fn of(events: Vec<&'a Event>) -> Self {
        Self(events)
    }

    /// Asserts the whole life, as `fork exec exit`, and what holds for every one: all events have
    /// one key and one parent.
    ///
    /// # Panics
    /// It is another life.
    #[must_use]
    #[track_caller]
    pub fn expect(self, kinds: &str) -> Self {
        expect_kinds(&self.0, kinds);
        let parent = self.0.first().and_then(|event| parent(event));
        for event in &self.0 {
            assert_eq!(event.key(), Some(self.key()), "{:?}", self.0);
            assert_eq!(self::parent(event), parent, "{:?}", self.0);
        }
        self
    }

    /// The events.
    #[must_use]
    pub fn events(&self) -> &[&'a Event] {
        &self.0
    }

    /// What happened, as `fork exec exit`.
    #[must_use]
    pub fn kinds(&self) -> String {
        kinds(&self.0)
    }

    /// The key, by the first event.
    ///
    /// # Panics
    /// There is no event.
    #[must_use]
    #[track_caller]
    pub fn key(&self) -> ProcessKey {
        let first = self.0.first().expect("an event about the process");
        first.key().expect("it is about a process")
    }

    /// The forker's key, by the first event.
    ///
    /// # Panics
    /// There is no event, or the parent is not known.
    #[must_use]
    #[track_caller]
    pub fn parent(&self) -> ProcessKey {
        let first = self.0.first().expect("an event about the process");
        parent(first).unwrap_or_else(|| panic!("no parent: {first:?}"))
    }

    /// The fork.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    #[track_caller]
    pub fn fork(&self) -> Fork {
        self.find("fork", |event| match &event.kind {
            EventKind::Fork(fork) => Some(*fork),
            _ => None,
        })
    }

    /// The row of the snapshot.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    #[track_caller]
    pub fn snapshot(&self) -> &'a Snapshot {
        self.find("snapshot", |event| match &event.kind {
            EventKind::Snapshot(row) => Some(&**row),
            _ => None,
        })
    }

    /// All execs.
    #[must_use]
    pub fn execs(&self) -> Vec<&'a Exec> {
        let exec = |event: &&'a Event| match &event.kind {
            EventKind::Exec(exec) => Some(&**exec),
            _ => None,
        };
        self.0.iter().filter_map(exec).collect()
    }

    /// The last exec.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    #[track_caller]
    pub fn exec(&self) -> &'a Exec {
        let execs = self.execs();
        execs
            .last()
            .unwrap_or_else(|| panic!("no exec among {:?}", self.0))
    }

    /// What the last exec says of the process.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    #[track_caller]
    pub fn program(&self) -> &'a Process {
        &self.exec().process
    }

    /// The exit.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    #[track_caller]
    pub fn exit(&self) -> &'a Exit {
        self.find("exit", |event| match &event.kind {
            EventKind::Exit(exit) => Some(exit),
            _ => None,
        })
    }

    /// How it ended.
    ///
    /// # Panics
    /// It did not, or that is not known.
    #[must_use]
    #[track_caller]
    pub fn status(&self) -> ExitStatus {
        let exit = self.exit();
        exit.status
            .unwrap_or_else(|| panic!("no status in {exit:?}"))
    }

    #[track_caller]
    fn find<T>(&self, name: &str, of: impl Fn(&&'a Event) -> Option<T>) -> T {
        let found = self.0.iter().find_map(of);
        found.unwrap_or_else(|| panic!("no {name} among {:?}", self.0))
    }
}

fn parent(event: &Event) -> Option<ProcessKey> {
    match &event.kind {
        EventKind::Fork(fork) => Some(fork.parent),
        EventKind::Exec(exec) => exec.process.parent,
        EventKind::Snapshot(row) => row.process.parent,
        EventKind::Exit(exit) => exit.parent,
        EventKind::FailedExec(failed) => failed.parent,
        _ => None,
    }
}
