//! What a daemon does with its ledger, at random, on a disk that fails at random.
//!
//! `DAEMONEYE_CRASH_RUNS` sets how many runs, `DAEMONEYE_CRASH_SEED` the first one's seed.

use std::cell::Cell;
use std::path::PathBuf;

use fastrand::Rng;

use super::disk::{Fault, Met, Simulation, Unread, temporary_dir};
use super::{decay, outsider};
use crate::remains::BLOCK;
use crate::rotation::OWN_LEAF;
use crate::{
    Error, HashKind, IndexStatus, Ledger, Options, Report, Retention, RotationRecovery,
    VerifyOptions, prove_telling, verify,
};

const RUNS: u64 = 60;

#[test]
fn nothing_acknowledged_is_lost_on_a_failing_disk() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let first: u64 = number("DAEMONEYE_CRASH_SEED").unwrap_or_else(|| {
        let mut seed = [0; 4];
        getrandom::fill(&mut seed).unwrap();
        u32::from_le_bytes(seed).into()
    });
    let runs = number("DAEMONEYE_CRASH_RUNS").unwrap_or(RUNS);
    let mut seen = Seen::default();
    for seed in first..first + runs {
        let told = Told(seed);
        Run::start(seed).run(&mut seen);
        std::mem::forget(told);
    }
    eprintln!("{runs} runs from seed {first}: {seen:?}");
    if runs >= 300 {
        seen.has_seen_all();
    }
}

/// Says which run it was that failed.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        let again = "DAEMONEYE_CRASH_RUNS=1 DAEMONEYE_CRASH_SEED=";
        eprintln!("repeat this run with {again}{}", self.0);
    }
}

/// What happened in all runs.
#[derive(Debug, Default)]
struct Seen {
    met: Met,
    opens: u64,
    refused_opens: u64,
    leaves: u64,
    lost_leaves: u64,
    cuts: u64,
    cut_checkpoints: u64,
    rebuilt: u64,
    poisoned: u64,
    rotations: u64,
    /// Cut short, and undone or finished by an open.
    cut_rotations: u64,
    gaps: u64,
    /// More than one by one retention.
    gaps_in_a_row: u64,
    rebuilt_over_gaps: u64,
    heartbeats: u64,
    thinned: u64,
    outsider: outsider::Seen,
    /// Whole ones in the tree beside the log.
    blocks: u64,
}

impl Seen {
    fn add(&mut self, met: Met) {
        let sum = &mut self.met;
        sum.calls += met.calls;
        sum.deaths += met.deaths;
        sum.refused += met.refused;
        sum.refused_syncs += met.refused_syncs;
        sum.short_writes += met.short_writes;
        sum.full += met.full;
        sum.looks += met.looks;
        sum.unread += met.unread;
        sum.power_losses += met.power_losses;
        sum.lost_pages += met.lost_pages;
        sum.lost_names += met.lost_names;
    }

    /// A simulation that no longer reaches what it is for would pass as well.
    fn has_seen_all(&self) {
        let met = &self.met;
        let faults = [
            met.deaths,
            met.refused_syncs,
            met.short_writes,
            met.full,
            met.unread,
        ];
        let losses = [met.lost_pages, met.lost_names, self.lost_leaves];
        let found = [self.cuts, self.cut_checkpoints, self.rebuilt, self.poisoned];
        let rotated = [self.rotations, self.cut_rotations];
        let gaps = [
            self.gaps,
            self.gaps_in_a_row,
            self.rebuilt_over_gaps,
            self.blocks,
        ];
        let outsider = &self.outsider;
        let others = [
            self.heartbeats,
            self.thinned,
            outsider.proven,
            outsider.not_kept,
            outsider.audited,
            outsider.too_old,
        ];
        let all = [&faults[..], &losses, &found, &rotated, &gaps, &others].concat();
        assert!(all.iter().all(|&count| count > 0), "{self:?}");
    }
}

thread_local! {
    /// POSIX seconds.
    static CLOCK: Cell<u64> = const { Cell::new(0) };
}

/// What a daemon may do next.
#[derive(Debug, Clone, Copy)]
enum Act {
    Append,
    Commit,
    Seal,
    Retain,
    MoveCursor,
    Rotate,
    Heartbeat,
    Thin,
    Fall,
    /// The one thing to do without a ledger.
    Open,
}

const ACTS: [Act; 9] = [
    Act::Append,
    Act::Commit,
    Act::Seal,
    Act::Retain,
    Act::MoveCursor,
    Act::Rotate,
    Act::Heartbeat,
    Act::Thin,
    Act::Fall,
];

/// How often each of [`ACTS`] is done: of everything something, then mostly dropping, rotating, and
/// starting again.
const HABITS: [[u8; ACTS.len()]; 4] = [
    [8, 6, 3, 4, 4, 2, 1, 1, 2],
    [8, 4, 4, 10, 6, 2, 1, 1, 2],
    [4, 2, 2, 6, 4, 6, 1, 1, 2],
    [4, 2, 3, 6, 4, 2, 1, 1, 8],
];

struct Run {
    random: Rng,
    habit: [u8; ACTS.len()],
    /// Calls that each act took when it was last done.
    usual: [u64; ACTS.len() + 1],
    simulation: Simulation,
    /// Removed with the run.
    root: tempfile::TempDir,
    dir: PathBuf,
    options: Options,
    ledger: Option<Ledger>,
    /// All leaves appended to the log as it stands.
    leaves: Vec<Vec<u8>>,
    /// How many of them are not to be lost.
    acknowledged: usize,
    /// The newest checkpoint that is not to be lost.
    sealed: Option<(u64, String)>,
    /// Those that somebody kept elsewhere.
    kept: Vec<(u64, String)>,
    /// A rotation failed, whose leaf may be in the log.
    rotating: bool,
    /// The greatest position that the consumer ever had.
    cursor: u64,
    /// The index or the tree was damaged since a writer put them right. What one that failed wrote of
    /// the tree may be lost later on, and is put right by the next start.
    decayed: bool,
    is_put_right: bool,
    /// The last start failed, perhaps while it built the index.
    unfinished: bool,
}

impl Run {
    fn start(seed: u64) -> Run {
        let mut random = Rng::with_seed(seed);
        let root = temporary_dir();
        let simulation = Simulation::start(root.path(), random.u64(..));
        CLOCK.set(1_700_000_000);
        Run {
            dir: root.path().join("state/ledger"),
            options: Options {
                hash: [HashKind::Blake3, HashKind::Sha256][random.usize(..2)],
                clock: || CLOCK.get(),
                ..Options::new("daemoneye/crash")
            },
            habit: HABITS[random.usize(..HABITS.len())],
            usual: [3; ACTS.len() + 1],
            random,
            simulation,
            root,
            ledger: None,
            leaves: Vec::new(),
            acknowledged: 0,
            sealed: None,
            kept: Vec::new(),
            rotating: false,
            cursor: 0,
            decayed: false,
            is_put_right: true,
            unfinished: false,
        }
    }

    fn run(mut self, seen: &mut Seen) {
        self.configure();
        for _ in 0..10 + self.random.u64(..80) {
            let act = self.choose();
            let seldom = if let Act::Open = act { 3 } else { 16 };
            if self.random.u8(..seldom) == 0 {
                self.look_from_outside(seen);
            }
            self.plan(act);
            let calls = self.simulation.met().calls;
            self.act(act, seen);
            let calls = self.simulation.met().calls - calls;
            self.usual[act as usize] = calls.max(3);
            CLOCK.set(CLOCK.get() + [0, 1, 60, 4_000][self.random.usize(..4)]);
        }
        self.end(seen);
        seen.add(self.simulation.met());
        seen.leaves += self.leaves.len() as u64;
        assert!(self.root.path().is_dir());
    }

    /// As an operator does between two starts.
    fn configure(&mut self) {
        self.options.segment_bytes = 200 << {
            let most = self.random.u64(1..10);
            self.random.u64(..most)
        };
    }

    fn choose(&mut self) -> Act {
        if self.ledger.is_none() {
            return Act::Open;
        }
        let mut left = self.random.u8(..self.habit.iter().sum::<u8>());
        let chosen = ACTS.into_iter().zip(self.habit).find(|(_, weight)| {
            let is_it = left < *weight;
            left = left.saturating_sub(*weight);
            is_it
        });
        chosen.expect("below the sum").0
    }

    fn plan(&mut self, act: Act) {
        if self.random.u8(..8) == 0 {
            let unread = [Unread::Refused, Unread::Ended][self.random.usize(..2)];
            let reach = [10, 60, 300][self.random.usize(..3)];
            let after = self.random.u64(..reach);
            self.simulation.plan_unread(after, unread);
        }
        if self.random.u8(..4) != 0 {
            return;
        }
        let fault = match self.random.u64(..5) {
            0 | 1 => Fault::Death,
            2 => Fault::Full,
            _ => Fault::Refused,
        };
        let usual = self.usual[act as usize];
        let reach = [usual, usual, 3, 12, 60][self.random.usize(..5)];
        self.simulation.plan(self.random.u64(..reach), fault);
    }

    /// What is kept can be read and proven, and what is not is told, also before the next start. What is
    /// planned would meet who looks.
    fn look_from_outside(&mut self, seen: &mut Seen) {
        if self.sealed.is_none() {
            return;
        }
        self.simulation.has_failed();
        let known = outsider::Known {
            dir: &self.dir,
            leaves: &self.leaves,
            acknowledged: self.acknowledged,
            cursor: self.cursor,
            kept: &self.kept,
        };
        outsider::look(&known, &mut self.random, &mut seen.outsider);
    }

    /// Promised from now on.
    fn is_sealed(&mut self, size: u64, note: &str) {
        self.acknowledged = self.leaves.len();
        self.sealed = Some((size, note.to_owned()));
        self.kept.extend(self.sealed.clone());
    }

    fn open(&mut self, seen: &mut Seen) {
        if self.sealed.is_some() {
            self.verified();
        }
        if self.random.u8(..4) == 0 {
            self.configure();
        }
        seen.opens += 1;
        match Ledger::open(&self.dir, &self.options) {
            Ok((ledger, recovery)) => {
                self.simulation.has_failed();
                self.decayed &= !self.is_put_right;
                self.unfinished = false;
                assert!(!recovery.created || self.sealed.is_none(), "begun anew");
                seen.cuts += u64::from(recovery.cut_bytes > 0);
                seen.cut_checkpoints += u64::from(recovery.cut_checkpoint_bytes > 0);
                let is_rebuilt = recovery.index != crate::IndexRecovery::Sound;
                seen.rebuilt += u64::from(is_rebuilt);
                seen.rebuilt_over_gaps += u64::from(is_rebuilt && ledger.kept_from() > 0);
                seen.cut_rotations += u64::from(recovery.rotation != RotationRecovery::None);
                self.take_in_rotation(&ledger);
                seen.lost_leaves += self.leaves.len() as u64 - recovery.entries;
                self.is_continued(&ledger);
                self.ledger = Some(ledger);
            }
            Err(error) => {
                let failed = self.simulation.has_failed();
                assert!(failed, "not opened, without a fault: {error:?}");
                seen.refused_opens += 1;
                self.is_put_right &= !self.decayed;
                self.unfinished = true;
                self.fall();
            }
        }
    }

    /// The leaf of a rotation that failed may be there.
    fn take_in_rotation(&mut self, ledger: &Ledger) {
        let (next, size) = (self.leaves.len() as u64, ledger.size());
        if std::mem::take(&mut self.rotating) && size == next + 1 {
            self.leaves.push(rotation(ledger, next));
        }
    }

    /// Whether a log just opened holds all it has to; from now on it must keep what it shows.
    fn is_continued(&mut self, ledger: &Ledger) {
        let size = usize::try_from(ledger.size()).unwrap();
        let (acknowledged, appended) = (self.acknowledged, self.leaves.len());
        assert!(
            (acknowledged..=appended).contains(&size),
            "{size} leaves; {acknowledged} were acknowledged of {appended}"
        );
        self.leaves.truncate(size);
        let kept_from = ledger.kept_from();
        assert!(kept_from <= self.cursor, "{kept_from} > {}", self.cursor);
        let mut reader = ledger.reader();
        let mut read = reader.range(kept_from).map(|leaf| leaf.unwrap().1);
        let kept = &self.leaves[usize::try_from(kept_from).unwrap()..];
        assert!(kept.iter().all(|leaf| match leaf.as_slice() {
            OWN_LEAF => read.next().is_some_and(|read| read.starts_with(OWN_LEAF)),
            leaf => read.next().as_deref() == Some(leaf),
        }));
        assert_eq!(read.next(), None);
        let cursor = ledger.cursor("agent");
        assert!(cursor.is_none_or(|cursor| (kept_from..=self.cursor).contains(&cursor)));
        let last = ledger.last_checkpoint().unwrap();
        let sealed = self.sealed.as_ref().map_or(0, |sealed| sealed.0);
        assert!(last.size() >= sealed, "{} < {sealed}", last.size());
        let last = last.clone();
        self.is_sealed(last.size(), last.note());
    }

    /// What the independent check says of the log as it stands.
    fn verified(&self) -> Report {
        let checkpoint = self.sealed.as_ref().map(|sealed| sealed.1.clone());
        let options = || VerifyOptions {
            checkpoint: checkpoint.clone(),
            ..VerifyOptions::default()
        };
        let report = match verify(&self.dir, options()) {
            // What is not read is neither sound nor damaged.
            Err(Error::Io { .. } | Error::Index { .. }) if self.simulation.has_failed() => {
                verify(&self.dir, options())
            }
            verified => verified,
        };
        let report = report.unwrap_or_else(|e| panic!("not verified: {e:?}"));
        assert!(report.entries >= self.acknowledged as u64, "{report:?}");
        let is_bad = matches!(report.index, IndexStatus::Bad(_));
        assert!(self.decayed || self.unfinished || !is_bad, "{report:?}");
        report
    }

    fn act(&mut self, act: Act, seen: &mut Seen) {
        let done = match act {
            Act::Append => self.append(),
            Act::Commit => self.commit(),
            Act::Seal => self.seal(),
            Act::Retain => self.retain(seen),
            Act::MoveCursor => self.move_cursor(),
            Act::Rotate => self.rotate(seen),
            Act::Heartbeat => self.heartbeat(seen),
            Act::Thin => self.thin(seen),
            Act::Fall => return self.fall(),
            Act::Open => return self.open(seen),
        };
        if done.is_err() {
            // What is to be left of dropped leaves is written before anything is promised.
            let poisoned = self.ledger().commit();
            seen.poisoned += u64::from(matches!(poisoned, Err(Error::Poisoned)));
            self.fall();
        }
    }

    fn ledger(&mut self) -> &mut Ledger {
        self.ledger.as_mut().expect("only called with one")
    }

    fn append(&mut self) -> Result<(), Error> {
        let ledger = self.ledger.as_mut().expect("only called with one");
        append(ledger, &mut self.leaves, &mut self.random)
    }

    fn commit(&mut self) -> Result<(), Error> {
        let durable = self.ledger().commit()?;
        assert_eq!(durable, self.leaves.len() as u64);
        self.acknowledged = self.leaves.len();
        Ok(())
    }

    fn seal(&mut self) -> Result<(), Error> {
        let checkpoint = self.ledger().checkpoint()?;
        assert_eq!(checkpoint.size(), self.leaves.len() as u64);
        self.is_sealed(checkpoint.size(), checkpoint.note());
        Ok(())
    }

    fn heartbeat(&mut self, seen: &mut Seen) -> Result<(), Error> {
        let checkpoint = self.ledger().heartbeat()?;
        assert_eq!(checkpoint.size(), self.leaves.len() as u64);
        self.is_sealed(checkpoint.size(), checkpoint.note());
        seen.heartbeats += 1;
        Ok(())
    }

    /// With the next checkpoint that is signed.
    fn thin(&mut self, seen: &mut Seen) -> Result<(), Error> {
        self.ledger().thin_at = 0;
        self.heartbeat(seen)?;
        seen.thinned += u64::from(self.ledger().thin_at > 0);
        Ok(())
    }

    fn move_cursor(&mut self) -> Result<(), Error> {
        let size = self.ledger().size();
        let most = [size, self.random.u64(..1 + size)][self.random.usize(..2)];
        self.cursor = self.cursor.max(most);
        let cursor = self.cursor;
        self.ledger().set_cursor("agent", cursor);
        Ok(())
    }

    fn rotate(&mut self, seen: &mut Seen) -> Result<(), Error> {
        self.rotating = true;
        let index = self.ledger().rotate()?;
        self.simulation.has_failed();
        assert_eq!(index, self.leaves.len() as u64);
        self.rotating = false;
        let leaf = rotation(self.ledger(), index);
        self.leaves.push(leaf);
        self.last_is_sealed();
        seen.rotations += 1;
        Ok(())
    }

    fn last_is_sealed(&mut self) {
        let last = self.ledger().last_checkpoint();
        let last = last.expect("there always is one").clone();
        self.is_sealed(last.size(), last.note());
    }

    /// Drops what the consumer has read, in some gaps or none.
    fn retain(&mut self, seen: &mut Seen) -> Result<(), Error> {
        let bytes = [None, Some(0), Some(0), Some(300), Some(2_000)];
        let seconds = [None, None, Some(0), Some(60), Some(5_000)];
        let retention = Retention {
            bytes: bytes[self.random.usize(..5)],
            seconds: seconds[self.random.usize(..5)],
        };
        for number in 0..1 + self.random.u64(..4) {
            let cursor = self.cursor;
            let Some(expired) = self.ledger().expired(&retention, cursor)? else {
                return Ok(());
            };
            self.leaves.push(OWN_LEAF.to_vec());
            self.ledger().drop_expired(expired)?;
            // It was signed for.
            self.last_is_sealed();
            seen.gaps += 1;
            seen.gaps_in_a_row += u64::from(number > 0);
        }
        Ok(())
    }

    /// The process ends, in good order or not, and perhaps the whole machine with it.
    fn fall(&mut self) {
        self.simulation.has_failed();
        if self.random.bool() {
            self.simulation.kill();
        }
        self.ledger = None;
        if self.random.u8(..3) == 0 {
            self.simulation.lose_power();
        }
        self.simulation.start_again();
        if self.random.bool() {
            self.simulation.free_space();
        }
        if self.random.u8(..4) == 0 {
            decay::of_what_can_be_made_again(&self.dir, &mut self.random);
            self.decayed = true;
            self.simulation.has_failed();
        }
    }

    /// On a sound disk the log opens, goes on, and is whole.
    fn end(&mut self, seen: &mut Seen) {
        self.fall();
        self.simulation.free_space();
        if self.random.bool() {
            self.simulation.lose_all_unsynced();
        }
        self.look_from_outside(seen);
        self.open(seen);
        let mut ledger = self.ledger.take().expect("opened");
        append(&mut ledger, &mut self.leaves, &mut self.random).unwrap();
        let last = ledger.checkpoint().unwrap();
        for _ in 0..4.min(last.size()) {
            let index = self.random.u64(ledger.kept_from()..last.size());
            ledger.prove(index, None).unwrap();
            let mut tell = |error: &Error| panic!("the tree beside the log: {error}");
            prove_telling(&self.dir, index, None, &mut tell).unwrap();
        }
        seen.blocks += (last.size() - ledger.kept_from()) / BLOCK;
        drop(ledger);
        self.acknowledged = self.leaves.len();
        self.sealed = Some((last.size(), last.note().to_owned()));
        let report = self.verified();
        assert_eq!((report.entries, report.unsealed()), (last.size(), 0));
        assert_eq!(report.root, last.root());
        assert_eq!((report.torn, report.torn_checkpoint), (None, false));
        assert_eq!(report.index, IndexStatus::Agrees);
    }
}

/// The leaf of a rotation.
fn rotation(ledger: &Ledger, index: u64) -> Vec<u8> {
    let leaf = ledger
        .reader()
        .read(index)
        .unwrap()
        .expect("a durable leaf");
    assert!(leaf.starts_with(OWN_LEAF));
    leaf
}

fn append(ledger: &mut Ledger, leaves: &mut Vec<Vec<u8>>, random: &mut Rng) -> Result<(), Error> {
    // Of the shortest some blocks of the tree.
    let (longest, most) = [(20, 400), (20, 60), (400, 60), (9_000, 6)][random.usize(..4)];
    for _ in 0..1 + random.u64(..most) {
        let mut leaf = vec![0; random.usize(..longest)];
        leaf.fill_with(|| random.u8(..));
        leaves.push(leaf);
        let index = ledger.append(leaves.last().expect("pushed"))?;
        assert_eq!(index + 1, leaves.len() as u64);
    }
    Ok(())
}
