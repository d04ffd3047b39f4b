//! Rules that follow their files: compiled anew when a file changes or the operator asks.
//!
//! The new set replaces the old one as a whole, between two batches of events. A set with an error
//! in it replaces nothing.

mod watch;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, never, unbounded};
use detect::RuleSet;
use watch::Watch;

use crate::Error;
use crate::rules::{self, Wanted};

/// Editors and package managers write in several steps: a change is over when nothing followed for
/// so long …
const QUIET: Duration = Duration::from_millis(200);

/// … or when they have gone on for so long.
const PATIENCE: Duration = Duration::from_secs(2);

/// Rule sets as they come; the agent's end.
pub struct Reloads(Receiver<Arc<RuleSet>>);

impl Reloads {
    /// For rules that never change.
    #[must_use]
    pub fn none() -> Self {
        Self(never())
    }

    /// The newest set that came since the last call.
    #[must_use]
    pub fn latest(&self) -> Option<Arc<RuleSet>> {
        self.0.try_iter().last()
    }
}

/// Compiles the rules anew, on a thread of its own that ends when nobody can ask it any more or
/// takes what it makes.
pub struct Reloader {
    asks: Sender<Ask>,
}

#[derive(Debug)]
enum Ask {
    /// A file changed.
    Changed,
    /// The operator wants it.
    Now,
}

impl Reloader {
    /// Watches the files and directories of `wanted`, of which `current` was made, and `stamp` taken
    /// before that. Each attempt is told to `tell`, with the error if the old set stays: also if a
    /// Sigma file whose rule runs no longer compiles. A new set is told of when it is on its way.
    ///
    /// Files that cannot be watched are told to it, too: then rules are only compiled anew when the
    /// operator asks.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(
        wanted: Wanted,
        stamp: u64,
        current: Arc<RuleSet>,
        tell: impl Fn(Result<&RuleSet, &Error>) + Send + 'static,
    ) -> std::io::Result<(Self, Reloads)> {
        let (asks, asked) = unbounded();
        let (sets, reloads) = unbounded();
        let work = Work {
            wanted,
            stamp,
            current,
            tell,
            changed: asks.clone(),
            sets,
        };
        thread::Builder::new()
            .name("rules".into())
            .spawn(move || work.run(&asked))?;
        Ok((Self { asks }, Reloads(reloads)))
    }

    /// What compiles the rules anew, to be called from anywhere.
    pub fn ask(&self) -> impl Fn() + Send + Sync + 'static {
        let asks = self.asks.clone();
        move || {
            // Fails only if the thread is gone, and with it whoever wants rules.
            let _ = asks.send(Ask::Now);
        }
    }
}

/// What the thread needs.
struct Work<T> {
    wanted: Wanted,
    stamp: u64,
    current: Arc<RuleSet>,
    tell: T,
    changed: Sender<Ask>,
    sets: Sender<Arc<RuleSet>>,
}

impl<T: Fn(Result<&RuleSet, &Error>)> Work<T> {
    fn run(mut self, asked: &Receiver<Ask>) {
        let mut watch = self.watch();
        if rules::stamp(&self.wanted) != self.stamp {
            // Fails only if the thread is gone, which this is.
            let _ = self.changed.send(Ask::Changed);
        }
        while let Ok(ask) = asked.recv() {
            settle(asked, &ask);
            // Anew, since directories come and go; and before the files are read, so that no change
            // falls between the two.
            let before = std::mem::replace(&mut watch, self.watch());
            drop(before);
            let loaded = anew(&self.wanted, &self.current);
            let mut is_wanted = true;
            if let Ok(rules) = &loaded {
                self.current = Arc::clone(rules);
                is_wanted = self.sets.send(Arc::clone(rules)).is_ok();
            }
            // Once it is on its way: of what happens after this is told, nothing meets the old set.
            (self.tell)(loaded.as_deref());
            if !is_wanted {
                return;
            }
        }
    }

    fn watch(&self) -> Option<Watch> {
        let changed = self.changed.clone();
        let on_change = move || {
            // Fails only if the thread is gone.
            let _ = changed.send(Ask::Changed);
        };
        Watch::of(&self.wanted.paths, on_change)
            .inspect_err(|error| (self.tell)(Err(error)))
            .ok()
    }
}

/// A set that lost a rule to an error is none.
fn anew(wanted: &Wanted, current: &RuleSet) -> Result<Arc<RuleSet>, Error> {
    let rules = rules::load(wanted)?;
    let had_rules = |error: &&detect::Error| {
        let mut files = current.rules().iter().map(|rule| &rule.file);
        files.any(|file| *file == error.file)
    };
    let broken: Vec<_> = rules
        .report()
        .rejected
        .iter()
        .filter(had_rules)
        .cloned()
        .collect();
    if broken.is_empty() {
        Ok(Arc::new(rules))
    } else {
        Err(Error::RulesInvalid(broken))
    }
}

/// Waits until no change follows any more.
fn settle(asked: &Receiver<Ask>, first: &Ask) {
    if matches!(first, Ask::Now) {
        return;
    }
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        match asked.recv_timeout(QUIET) {
            Ok(Ask::Changed) => {}
            Ok(Ask::Now) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use crossbeam_channel::bounded;

    use super::*;

    /// Long for a machine that is busy; a test that passes never waits for it.
    const LONG: Duration = Duration::from_secs(60);

    fn rule(id: &str) -> String {
        format!("id: {id}\ntitle: R\nlevel: low\nsql: SELECT process.pid FROM exec\n")
    }

    /// Ids of the rules that were loaded, or why none were.
    type Told = Result<Vec<String>, String>;

    fn start(paths: Vec<PathBuf>) -> (Reloader, Reloads, Receiver<Told>) {
        let (tell, told) = bounded(16);
        let ids = |rules: &RuleSet| rules.rules().iter().map(|rule| rule.id.clone()).collect();
        let tell = move |outcome: Result<&RuleSet, &Error>| {
            let _ = tell.send(outcome.map(ids).map_err(ToString::to_string));
        };
        let wanted = Wanted { paths, host: None };
        let stamp = rules::stamp(&wanted);
        let current = Arc::new(rules::load(&wanted).unwrap_or_default());
        let (reloader, reloads) = Reloader::start(wanted, stamp, current, tell).unwrap();
        (reloader, reloads, told)
    }

    /// Puts a whole file in its place: one that was only just created, and is still empty, is an error
    /// that is told of where the machine is busy.
    fn put(file: &Path, text: &str) {
        let new = tempfile::NamedTempFile::new().unwrap();
        fs::write(&new, text).unwrap();
        new.persist(file).unwrap();
    }

    /// What is told next that was not told last: a change that is seen twice may be told twice.
    fn after(last: &Told, told: &Receiver<Told>) -> Told {
        loop {
            let next = told.recv_timeout(LONG).unwrap();
            if next != *last {
                return next;
            }
        }
    }

    #[test]
    fn changed_files_make_a_new_set_and_broken_ones_keep_the_old() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.yaml");
        fs::write(&file, rule("one")).unwrap();
        let (_reloader, reloads, told) = start(vec![dir.path().to_owned()]);

        put(&dir.path().join("b.yaml"), &rule("two"));
        let both = after(&Ok(vec!["one".to_owned()]), &told);
        assert_eq!(both, Ok(vec!["one".to_owned(), "two".to_owned()]));
        let set = reloads.latest().expect("what was told of is there");
        assert_eq!(set.rules().len(), 2);

        put(&file, "id: [");
        let broken = after(&both, &told);
        let error = broken.as_ref().unwrap_err();
        assert!(error.contains("a.yaml:1:"), "{error}");
        let same = |set: Arc<RuleSet>| set.rules().len() == 2;
        assert!(reloads.latest().is_none_or(same));

        // As editors do it.
        let new = dir.path().join("a.yaml~");
        fs::write(&new, rule("three")).unwrap();
        fs::rename(&new, &file).unwrap();
        let mended = after(&broken, &told).unwrap();
        assert_eq!(mended, ["three", "two"]);
    }

    #[test]
    fn a_file_that_is_replaced_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.yaml");
        fs::write(&file, rule("one")).unwrap();
        let (_reloader, _reloads, told) = start(vec![file.clone()]);
        let new = dir.path().join("new");
        fs::write(&new, rule("two")).unwrap();
        fs::rename(&new, &file).unwrap();
        while told.recv_timeout(LONG).unwrap() != Ok(vec!["two".to_owned()]) {}
    }

    #[test]
    fn a_directory_that_is_replaced_is_watched_again() {
        // The watch stayed on the one that was gone.
        let dir = tempfile::tempdir().unwrap();
        let rules = dir.path().join("rules");
        fs::create_dir(&rules).unwrap();
        fs::write(rules.join("a.yaml"), rule("one")).unwrap();
        let (_reloader, _reloads, told) = start(vec![rules.clone()]);
        let set = |id: &str| Ok(vec![id.to_owned()]);
        for id in ["two", "three"] {
            let new = dir.path().join("new");
            fs::create_dir(&new).unwrap();
            fs::write(new.join("a.yaml"), rule(id)).unwrap();
            fs::rename(&rules, dir.path().join(format!("before-{id}"))).unwrap();
            fs::rename(&new, &rules).unwrap();
            while told.recv_timeout(LONG).unwrap() != set(id) {}
        }
        fs::write(rules.join("a.yaml"), rule("four")).unwrap();
        while told.recv_timeout(LONG).unwrap() != set("four") {}
    }

    #[test]
    fn the_target_of_a_link_is_watched() {
        let dir = tempfile::tempdir().unwrap();
        let (rules, elsewhere) = (dir.path().join("rules"), dir.path().join("elsewhere"));
        fs::create_dir(&rules).unwrap();
        fs::create_dir(&elsewhere).unwrap();
        let target = elsewhere.join("a.yaml");
        fs::write(&target, rule("one")).unwrap();
        link(&target, &rules.join("a.yaml"));
        let (_reloader, _reloads, told) = start(vec![rules]);
        fs::write(&target, rule("two")).unwrap();
        while told.recv_timeout(LONG).unwrap() != Ok(vec!["two".to_owned()]) {}
    }

    #[cfg(unix)]
    #[test]
    fn a_mounted_config_map_that_changes_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let version = |name: &str, id: &str| {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("a.yaml"), rule(id)).unwrap();
            link(Path::new(name), &at("..data_tmp"));
            fs::rename(at("..data_tmp"), at("..data")).unwrap();
        };
        version("..1", "one");
        link(Path::new("..data/a.yaml"), &at("a.yaml"));
        let (_reloader, _reloads, told) = start(vec![dir.path().to_owned()]);
        for (before, now, id) in [("..1", "..2", "two"), ("..2", "..3", "three")] {
            version(now, id);
            fs::remove_dir_all(at(before)).unwrap();
            while told.recv_timeout(LONG).unwrap() != Ok(vec![id.to_owned()]) {}
        }
    }

    #[cfg(unix)]
    fn link(target: &Path, link: &Path) {
        std::os::unix::fs::symlink(target, link).unwrap();
    }

    #[cfg(windows)]
    fn link(target: &Path, link: &Path) {
        std::os::windows::fs::symlink_file(target, link).unwrap();
    }

    #[test]
    fn what_cannot_be_watched_is_told_and_still_read_when_asked() {
        let dir = tempfile::tempdir().unwrap();
        let later = dir.path().join("not/yet");
        let (reloader, _reloads, told) = start(vec![later.clone()]);
        let error = told.recv_timeout(LONG).unwrap().unwrap_err();
        assert!(error.contains("/not"), "{error}");
        fs::create_dir_all(&later).unwrap();
        fs::write(later.join("a.yaml"), rule("one")).unwrap();
        reloader.ask()();
        assert_eq!(told.recv_timeout(LONG).unwrap(), Ok(vec!["one".to_owned()]));
    }
}
