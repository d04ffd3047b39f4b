//! Sees that rule files change.
//!
//! What is watched are directories, one by one: those that rules are read from, and the one around
//! each path that the operator named or a link leads to, of which one name matters. So a file or
//! directory that is replaced is seen, and what else happens beside it is not.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use notify::event::{AccessKind, AccessMode, CreateKind, RemoveKind};
use notify::{Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use crate::Error;
use crate::rules::{BUILTIN, MAX_DEPTH, is_hidden, is_read};

/// Directories that are watched; rules in further ones are read anew when the operator asks.
const MAX_DIRECTORIES: usize = 1024;

/// Directories that come and go all the time are not listed for ever.
const MAX_LISTS: usize = 8;

/// Watches until it is dropped.
pub(super) struct Watch {
    _watcher: Option<RecommendedWatcher>,
}

/// What matters in each directory.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Interests(HashMap<PathBuf, Names>);

#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Names {
    /// Whatever rules are read from.
    all: bool,
    /// These.
    some: HashSet<OsString>,
}

impl Watch {
    /// Calls `on_change` when something that rules are read from may have changed.
    pub(super) fn of(
        paths: &[PathBuf],
        on_change: impl Fn() + Clone + Send + 'static,
    ) -> Result<Self, Error> {
        Self::settled(|| Interests::of(paths), on_change)
    }

    /// A directory that goes between being listed and being watched is no reason to watch none, and
    /// one that came in between is to be watched as well.
    fn settled(
        list: impl Fn() -> Interests,
        on_change: impl Fn() + Clone + Send + 'static,
    ) -> Result<Self, Error> {
        let mut listed = list();
        for _ in 1..MAX_LISTS {
            let watch = Self::on(listed.clone(), on_change.clone());
            let now = list();
            if watch.is_ok() && now == listed {
                return watch;
            }
            listed = now;
        }
        Self::on(listed, on_change)
    }

    fn on(interests: Interests, on_change: impl Fn() + Send + 'static) -> Result<Self, Error> {
        if interests.0.is_empty() {
            return Ok(Self { _watcher: None });
        }
        let mut directories: Vec<PathBuf> = interests.0.keys().cloned().collect();
        // Each after the one around it, which tells when it is replaced from then on.
        directories.sort_unstable();
        let on_event = move |event: notify::Result<Event>| {
            // An error means that changes were missed.
            if event.map_or(true, |event| interests.concern(&event)) {
                on_change();
            }
        };
        let config = Config::default().with_follow_symlinks(false);
        let unwatched = |path: &Path| {
            let path = path.to_owned();
            |source| Error::RulesUnwatched { path, source }
        };
        let mut watcher =
            RecommendedWatcher::new(on_event, config).map_err(unwatched(Path::new("the rules")))?;
        for directory in directories {
            watcher
                .watch(&directory, RecursiveMode::NonRecursive)
                .map_err(unwatched(&directory))?;
        }
        Ok(Self {
            _watcher: Some(watcher),
        })
    }
}

impl Interests {
    fn of(paths: &[PathBuf]) -> Self {
        let mut interests = Self::default();
        for path in paths.iter().filter(|path| path.as_os_str() != BUILTIN) {
            interests.add(path);
        }
        interests
    }

    /// A path that the operator named.
    fn add(&mut self, path: &Path) {
        self.add_name(path);
        self.add_directory(path, 0, &mut HashSet::new());
    }

    /// The entry of a path in its directory, and where a link leads.
    fn add_name(&mut self, path: &Path) {
        let (Some(name), Some(directory)) = (path.file_name(), path.parent()) else {
            return;
        };
        let directory = if directory.as_os_str().is_empty() {
            Path::new(".")
        } else {
            directory
        };
        self.names(directory).some.insert(name.to_owned());
        if path.is_symlink()
            && let Ok(target) = fs::canonicalize(path)
            && let (Some(name), Some(directory)) = (target.file_name(), target.parent())
        {
            self.names(directory).some.insert(name.to_owned());
        }
    }

    /// What cannot be read is no directory here; reading the rules tells what is wrong with it. As
    /// when they are read, one that links lead to again is passed over.
    fn add_directory(&mut self, path: &Path, depth: u32, met: &mut HashSet<PathBuf>) {
        let (Ok(entries), Ok(place)) = (fs::read_dir(path), fs::canonicalize(path)) else {
            return;
        };
        if self.0.len() >= MAX_DIRECTORIES || !met.insert(place) {
            return;
        }
        self.names(path).all = true;
        let entries = entries.flatten().map(|entry| entry.path());
        for entry in entries.filter(|entry| !is_hidden(entry)) {
            if entry.is_symlink() {
                self.add_name(&entry);
            }
            if depth < MAX_DEPTH && entry.is_dir() {
                self.add_directory(&entry, depth + 1, met);
            }
        }
    }

    fn names(&mut self, directory: &Path) -> &mut Names {
        self.0.entry(directory.to_owned()).or_default()
    }

    fn concern(&self, event: &Event) -> bool {
        if event.need_rescan() {
            return true;
        }
        changes(&event.kind)
            && event
                .paths
                .iter()
                .any(|path| self.concerns(path, &event.kind))
    }

    fn concerns(&self, path: &Path, kind: &EventKind) -> bool {
        if self.0.get(path).is_some_and(|names| names.all) {
            return true;
        }
        let of_directory = path.parent().and_then(|directory| self.0.get(directory));
        let Some(names) = of_directory else {
            return is_read(path);
        };
        let named = path
            .file_name()
            .is_some_and(|name| names.some.contains(name));
        named || names.all && (is_read(path) || is_about_directory(path, kind))
    }
}

/// Reading files, as we do ourselves, changes nothing.
fn changes(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(access) => *access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

/// A directory of rules that comes or goes. One that goes cannot be asked what it was.
fn is_about_directory(path: &Path, kind: &EventKind) -> bool {
    match kind {
        EventKind::Create(CreateKind::Folder) | EventKind::Remove(RemoveKind::Folder) => true,
        _ => path.extension().is_none() && !is_hidden(path),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crossbeam_channel::unbounded;
    use notify::event::{DataChange, ModifyKind};

    use super::*;

    /// Nothing was watched any more until the operator asked.
    #[test]
    fn a_directory_that_goes_before_it_is_watched_leaves_the_others_watched() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("rules/gone")).unwrap();
        let paths = [at("rules")];
        let list = || {
            let interests = Interests::of(&paths);
            let _ = fs::remove_dir(at("rules/gone"));
            interests
        };
        let (tell, told) = unbounded();
        let watch = Watch::settled(list, move || tell.send(()).unwrap_or_default());
        assert!(watch.is_ok(), "{:?}", watch.err());
        fs::write(at("rules/a.yaml"), "").unwrap();
        told.recv_timeout(Duration::from_secs(60)).unwrap();
    }

    #[test]
    fn a_directory_that_comes_while_others_are_listed_is_watched() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("rules")).unwrap();
        let paths = [at("rules")];
        let list = || {
            let interests = Interests::of(&paths);
            fs::create_dir_all(at("rules/new")).unwrap();
            interests
        };
        let (tell, told) = unbounded();
        let _watch = Watch::settled(list, move || tell.send(()).unwrap_or_default()).unwrap();
        fs::write(at("rules/new/a.yaml"), "").unwrap();
        told.recv_timeout(Duration::from_secs(60)).unwrap();
    }

    #[test]
    fn what_happens_beside_the_rules_does_not_concern_them() {
        // Each commit of a ledger that lay beside them was taken for a change.
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("rules/sub")).unwrap();
        fs::create_dir(at("state")).unwrap();
        fs::write(at("one.yaml"), "").unwrap();
        let mut interests = Interests::default();
        interests.add(&at("rules"));
        interests.add(&at("one.yaml"));
        let check = |path: &str, expected| {
            let kind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
            let event = Event::new(kind).add_path(at(path));
            assert_eq!(interests.concern(&event), expected, "{path}");
        };
        check("one.yaml", true);
        check("two.yaml", false);
        check("state", false);
        check("log.txt", false);
        check("rules", true);
        check("rules/a.yml", true);
        check("rules/lists", true);
        check("rules/sub/b.yaml", true);
        check("rules/a.yaml~", false);
        check("rules/notes.md", false);
    }

    #[cfg(unix)]
    #[test]
    fn directories_are_watched_once_and_hidden_ones_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("rules/sub")).unwrap();
        fs::create_dir_all(at("rules/.git/objects")).unwrap();
        for name in ["a", "b", "c", "d"] {
            std::os::unix::fs::symlink(".", at("rules").join(name)).unwrap();
        }
        let mut interests = Interests::default();
        interests.add(&at("rules"));
        let mut watched: Vec<_> = interests.0.into_iter().filter(|(_, n)| n.all).collect();
        watched.sort_by(|(a, _), (b, _)| a.cmp(b));
        let watched: Vec<PathBuf> = watched.into_iter().map(|(path, _)| path).collect();
        // Whichever of the names the directory below was met by.
        assert_eq!(watched.len(), 2, "{watched:?}");
        assert_eq!(watched[0], at("rules"));
    }

    #[test]
    fn reading_the_rules_does_not_count_as_a_change() {
        // Every load would start the next one.
        let check = |kind, expected| assert_eq!(changes(&kind), expected, "{kind:?}");
        check(EventKind::Access(AccessKind::Open(AccessMode::Any)), false);
        check(
            EventKind::Access(AccessKind::Close(AccessMode::Read)),
            false,
        );
        check(
            EventKind::Access(AccessKind::Close(AccessMode::Write)),
            true,
        );
        check(EventKind::Create(CreateKind::File), true);
    }
}
