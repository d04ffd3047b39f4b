use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use event::{
    BootTime, Bytes, Event, EventKind, Exec, FileIdentity, HashFailure, Hashed, Header, Process,
    ProcessKey,
};
use sha2::{Digest as _, Sha256};

use super::*;

const LONG: Duration = Duration::from_secs(60);

/// Files by inode.
#[derive(Debug, Clone, Default)]
struct Files(Arc<Mutex<Shelf>>);

#[derive(Debug, Default)]
struct Shelf {
    files: HashMap<u64, File>,
    opened: u64,
}

#[derive(Debug, Clone)]
struct File {
    identity: FileIdentity,
    content: Vec<u8>,
    failure: Option<HashFailure>,
    /// Each read waits for one message.
    gate: Option<Receiver<()>>,
    /// Told before each read.
    reads: Option<Sender<()>>,
    /// Becomes the identity at the first read.
    written: Option<FileIdentity>,
    panics: bool,
    closing: Closing,
}

/// Who hears that a file is closed, and what its end waits for.
type Closing = Option<(Sender<()>, Receiver<()>)>;

struct Opened {
    shelf: Arc<Mutex<Shelf>>,
    file: File,
    position: usize,
}

fn identity(inode: u64) -> FileIdentity {
    FileIdentity {
        inode,
        size: 1000,
        mtime: 1_000 * inode,
        ctime: 1_000 * inode,
        nlink: 1,
        ..FileIdentity::default()
    }
}

impl Files {
    fn with(self, inode: u64, change: impl FnOnce(&mut File)) -> Self {
        let mut file = File {
            identity: identity(inode),
            content: vec![u8::try_from(inode % 251).unwrap(); 1000],
            failure: None,
            gate: None,
            reads: None,
            written: None,
            panics: false,
            closing: None,
        };
        change(&mut file);
        self.0.lock().unwrap().files.insert(inode, file);
        self
    }

    fn gated(self, inode: u64) -> (Self, Sender<()>) {
        let (open, gate) = unbounded();
        (self.with(inode, |file| file.gate = Some(gate)), open)
    }

    fn opened(&self) -> u64 {
        self.0.lock().unwrap().opened
    }

    fn hasher(&self, policy: HashPolicy) -> Hasher {
        let files = Arc::new(self.clone());
        Hasher::start(&Hashing { files, policy }, None).unwrap()
    }
}

impl ExecutableFiles for Files {
    fn open(&self, wanted: &Wanted) -> Result<Box<dyn Executable>, HashFailure> {
        let mut shelf = self.0.lock().unwrap();
        shelf.opened += 1;
        let file = shelf.files.get(&wanted.file.inode).cloned();
        let file = file.ok_or(HashFailure::Gone)?;
        if let Some(failure) = file.failure {
            return Err(failure);
        }
        Ok(Box::new(Opened {
            shelf: Arc::clone(&self.0),
            file,
            position: 0,
        }))
    }
}

impl Executable for Opened {
    fn identity(&self) -> io::Result<FileIdentity> {
        let shelf = self.shelf.lock().unwrap();
        Ok(shelf.files[&self.file.identity.inode].identity)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Some((told, gate)) = &self.file.closing {
            let _ = told.send(());
            let _ = gate.recv();
        }
    }
}

impl io::Read for Opened {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        assert!(!self.file.panics, "as asked for");
        if let Some(reads) = &self.file.reads {
            reads.send(()).map_err(|_| io::ErrorKind::BrokenPipe)?;
        }
        if let Some(gate) = &self.file.gate {
            gate.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
        }
        if let Some(written) = self.file.written.take() {
            let mut shelf = self.shelf.lock().unwrap();
            shelf.files.get_mut(&written.inode).unwrap().identity = written;
        }
        let rest = &self.file.content[self.position..];
        let length = rest.len().min(buffer.len()).min(400);
        buffer[..length].copy_from_slice(&rest[..length]);
        self.position += length;
        Ok(length)
    }
}

fn exec(pid: u32, file: Option<FileIdentity>) -> Event {
    let process = Process {
        key: ProcessKey {
            pid,
            ..ProcessKey::default()
        },
        exe: Bytes::from_static(b"/bin/x"),
        exe_file: file,
        ..Process::default()
    };
    let old_tid = None;
    Event {
        header: Header {
            time: BootTime(u64::from(pid)),
            ..Header::default()
        },
        kind: EventKind::Exec(Box::new(Exec { process, old_tid })),
    }
}

fn process(event: &Event) -> &Process {
    match &event.kind {
        EventKind::Exec(exec) => &exec.process,
        other => panic!("{other:?}"),
    }
}

/// An exec that is held no time at all.
fn pass(hasher: &mut Hasher, pid: u32, file: FileIdentity) -> Event {
    let mut event = exec(pid, Some(file));
    hasher.arrived(&mut event);
    hasher.leaving(&mut event);
    event
}

fn await_result(hasher: &mut Hasher) {
    let done = hasher.results().recv_timeout(LONG).unwrap();
    hasher.done(Some(done));
}

fn followers(hasher: &mut Hasher) -> Vec<Hashed> {
    let events = std::iter::from_fn(|| hasher.next_event());
    events
        .map(|event| match event.kind {
            EventKind::Hashed(hashed) => *hashed,
            other => panic!("{other:?}"),
        })
        .collect()
}

fn outcome(hasher: &mut Hasher) -> Result<event::Digest, HashFailure> {
    let followers = followers(hasher);
    assert_eq!(followers.len(), 1, "{followers:?}");
    assert!(hasher.stats().later.holds());
    followers[0].outcome
}

fn sha256(content: &[u8]) -> [u8; 32] {
    Sha256::digest(content).into()
}

#[test]
fn first_exec_is_followed_by_its_digest_and_the_second_has_it() {
    let files = Files::default().with(7, |_| {});
    let mut hasher = files.hasher(HashPolicy::default());
    let first = pass(&mut hasher, 1, identity(7));
    assert_eq!(process(&first).sha256, None);
    await_result(&mut hasher);
    let follower = followers(&mut hasher).pop().unwrap();
    let digest = follower.outcome.unwrap();
    assert_eq!((digest.sha256, digest.changed), (sha256(&[7; 1000]), false));
    assert_eq!(
        (follower.key.pid, follower.exe_file),
        (1, Some(identity(7)))
    );

    let second = pass(&mut hasher, 2, identity(7));
    assert_eq!(process(&second).sha256, Some(digest.sha256));
    assert!(followers(&mut hasher).is_empty());
    let stats = hasher.stats();
    assert_eq!(
        (stats.cached, stats.files_read, stats.bytes_read),
        (1, 1, 1000)
    );
    assert_eq!(files.opened(), 1);
}

#[test]
fn digest_that_is_there_before_the_exec_leaves_goes_with_it() {
    let mut hasher = Files::default()
        .with(7, |_| {})
        .hasher(HashPolicy::default());
    let mut event = exec(1, Some(identity(7)));
    hasher.arrived(&mut event);
    await_result(&mut hasher);
    hasher.leaving(&mut event);
    assert_eq!(process(&event).sha256, Some(sha256(&[7; 1000])));
    assert!(followers(&mut hasher).is_empty());
    assert_eq!(hasher.stats().in_time, 1);
}

#[test]
fn file_changed_since_its_exec_is_marked_and_kept_as_what_it_is_now() {
    let check = |now: FileIdentity, changed, touched| {
        let files = Files::default().with(7, |file| file.identity = now);
        let mut hasher = files.hasher(HashPolicy::default());
        pass(&mut hasher, 1, identity(7));
        await_result(&mut hasher);
        let digest = outcome(&mut hasher).unwrap();
        assert_eq!((digest.changed, digest.touched), (changed, touched));
        let stats = hasher.stats();
        assert_eq!(
            (stats.changed, stats.touched),
            (changed.into(), touched.into())
        );
        let after = pass(&mut hasher, 2, now);
        let after = process(&after);
        assert!(after.sha256.is_some() && !after.exe_changed && !after.exe_touched);
        let before = pass(&mut hasher, 3, identity(7));
        assert_eq!(process(&before).sha256, None, "perhaps of another content");
    };
    let written = FileIdentity {
        mtime: 7_001,
        ctime: 7_001,
        ..identity(7)
    };
    check(written, true, false);
    // A chmod, a link, or a write with its mtime set back. Each package that was upgraded while one
    // of its programs started raised an alert for that.
    let touched = FileIdentity {
        ctime: 7_001,
        ..identity(7)
    };
    check(touched, false, true);
}

#[test]
fn file_touched_while_it_is_read_is_marked_and_not_kept() {
    let touched = FileIdentity {
        nlink: 2,
        ctime: 9_000,
        ..identity(7)
    };
    let files = Files::default().with(7, |file| file.written = Some(touched));
    let mut hasher = files.hasher(HashPolicy::default());
    let mut event = exec(1, Some(identity(7)));
    hasher.arrived(&mut event);
    await_result(&mut hasher);
    hasher.leaving(&mut event);
    assert!(process(&event).exe_touched && !process(&event).exe_changed);
    assert_eq!(hasher.stats().cache, 0);
}

#[test]
fn file_written_while_it_is_read_is_marked_and_not_kept() {
    let written = FileIdentity {
        mtime: 9,
        ctime: 9,
        ..identity(7)
    };
    let files = Files::default().with(7, |file| file.written = Some(written));
    let mut hasher = files.hasher(HashPolicy::default());
    pass(&mut hasher, 1, identity(7));
    await_result(&mut hasher);
    assert!(outcome(&mut hasher).unwrap().changed);
    assert_eq!(hasher.stats().cache, 0);
}

#[test]
fn file_that_changed_a_moment_ago_is_hashed_and_not_kept() {
    let fresh = FileIdentity {
        // Ahead of the clock, so that it does not grow old while this test stands still.
        ctime: crate::clock::wall_now().0 + 60_000_000_000,
        ..identity(7)
    };
    let files = Files::default().with(7, |file| file.identity = fresh);
    let mut hasher = files.hasher(HashPolicy::default());
    pass(&mut hasher, 1, fresh);
    await_result(&mut hasher);
    assert!(!outcome(&mut hasher).unwrap().changed);
    assert_eq!(hasher.stats().cache, 0);
}

#[test]
fn every_failure_is_told_once() {
    let check = |change: fn(&mut File), told: Option<FileIdentity>, expected, opened| {
        let files = Files::default().with(7, change);
        let policy = HashPolicy {
            max_bytes: 1500,
            ..HashPolicy::default()
        };
        let mut hasher = files.hasher(policy);
        let mut event = exec(1, told);
        hasher.arrived(&mut event);
        hasher.leaving(&mut event);
        assert_eq!(process(&event).sha256, None);
        if opened > 0 {
            await_result(&mut hasher);
        }
        assert_eq!(outcome(&mut hasher), Err(expected));
        assert_eq!(files.opened(), opened);
        assert_eq!(hasher.stats().failed.iter().sum::<u64>(), 1);
    };
    let large = FileIdentity {
        size: 2000,
        ..identity(7)
    };
    check(|_| {}, Some(identity(8)), HashFailure::Gone, 1);
    check(|_| {}, None, HashFailure::Gone, 0);
    check(|_| {}, Some(large), HashFailure::TooLarge, 0);
    check(
        |file| file.identity.size = 2000,
        Some(identity(7)),
        HashFailure::TooLarge,
        1,
    );
    check(
        |file| file.content = vec![0; 2000],
        Some(identity(7)),
        HashFailure::TooLarge,
        1,
    );
    let unreadable = |file: &mut File| file.failure = Some(HashFailure::Unreadable);
    check(unreadable, Some(identity(7)), HashFailure::Unreadable, 1);
}

/// A source that tells no ctime: the file is asked each time, and read once.
#[test]
fn exec_without_ctime_goes_by_what_the_file_says_itself() {
    let told = FileIdentity {
        size: 0,
        ctime: 0,
        ..identity(7)
    };
    let files = Files::default().with(7, |_| {});
    let mut hasher = files.hasher(HashPolicy::default());
    for pid in 1..=3 {
        pass(&mut hasher, pid, told);
        await_result(&mut hasher);
        let digest = outcome(&mut hasher).unwrap();
        assert_eq!((digest.sha256, digest.changed), (sha256(&[7; 1000]), false));
    }
    assert_eq!((files.opened(), hasher.stats().files_read), (3, 1));
    let written = FileIdentity { mtime: 1, ..told };
    pass(&mut hasher, 4, written);
    await_result(&mut hasher);
    assert!(outcome(&mut hasher).unwrap().changed);
}

#[test]
fn execs_of_one_file_wait_for_one_read() {
    let (files, gate) = Files::default().gated(7);
    let mut hasher = files.hasher(HashPolicy::default());
    let mut held = exec(100, Some(identity(7)));
    hasher.arrived(&mut held);
    for pid in 0..20 {
        pass(&mut hasher, pid, identity(7));
    }
    assert_eq!(hasher.stats().later.held, 20);
    (0..10).for_each(|_| gate.send(()).unwrap_or_default());
    await_result(&mut hasher);
    hasher.leaving(&mut held);
    assert!(process(&held).sha256.is_some());
    let pids: Vec<u32> = followers(&mut hasher).iter().map(|h| h.key.pid).collect();
    assert_eq!(pids, (0..20).collect::<Vec<_>>());
    assert_eq!((files.opened(), hasher.stats().files_read), (1, 1));
    assert_eq!(hasher.stats().later.held, 0);
}

#[test]
fn small_file_does_not_wait_for_a_slow_one() {
    let (files, gate) = Files::default().gated(7);
    let files = files.with(8, |file| file.content.truncate(300));
    let mut hasher = files.hasher(HashPolicy::default());
    pass(&mut hasher, 1, identity(7));
    pass(&mut hasher, 2, identity(8));
    // Less than it needs, and more than are read before the other one is asked for.
    (0..3).for_each(|_| gate.send(()).unwrap());
    await_result(&mut hasher);
    assert_eq!(followers(&mut hasher)[0].key.pid, 2);
}

#[test]
fn what_the_worker_does_not_take_is_told_at_once() {
    let (files, _gate) = Files::default().gated(0);
    let policy = HashPolicy {
        queue: 3,
        waiting: 150,
        patience: Duration::from_millis(10),
        ..HashPolicy::default()
    };
    let mut hasher = files.hasher(policy);
    for pid in 0..1000 {
        pass(&mut hasher, pid, identity(u64::from(pid % 500)));
    }
    let early = followers(&mut hasher);
    assert!(early.len() >= 850, "{}", early.len());
    let began = Instant::now();
    hasher.finish();
    assert!(began.elapsed() < LONG);
    let late = followers(&mut hasher);
    assert_eq!(early.len() + late.len(), 1000, "one for each");
    assert!(
        early
            .iter()
            .all(|hashed| hashed.outcome == Err(HashFailure::QueueFull))
    );
    let stats = hasher.stats();
    assert!(stats.later.holds());
    assert_eq!((stats.later.delivered, stats.later.held), (1000, 0));
    pass(&mut hasher, 1, identity(1));
    assert_eq!(
        outcome(&mut hasher),
        Err(HashFailure::QueueFull),
        "it has ended"
    );
}

#[test]
fn end_waits_for_what_is_under_way() {
    let files = Files::default().with(7, |_| {}).with(8, |_| {});
    let policy = HashPolicy {
        patience: LONG,
        ..HashPolicy::default()
    };
    let mut hasher = files.hasher(policy);
    pass(&mut hasher, 1, identity(7));
    pass(&mut hasher, 2, identity(8));
    hasher.finish();
    assert!(
        followers(&mut hasher)
            .iter()
            .all(|hashed| hashed.outcome.is_ok())
    );
    assert_eq!(hasher.stats().later.delivered, 2);
}

#[test]
fn worker_that_panics_leaves_nobody_waiting() {
    let files = Files::default()
        .with(7, |file| file.panics = true)
        .with(8, |_| {});
    let mut hasher = files.hasher(HashPolicy::default());
    pass(&mut hasher, 1, identity(7));
    assert!(hasher.results().recv_timeout(LONG).is_err());
    hasher.done(None);
    assert_eq!(outcome(&mut hasher), Err(HashFailure::Unreadable));
    pass(&mut hasher, 2, identity(8));
    await_result(&mut hasher);
    assert!(outcome(&mut hasher).is_ok(), "another one goes on");
}

/// Files whose first read hangs, and what tells that it does; reads end when the sender is dropped.
fn hanging(inodes: std::ops::Range<u64>) -> (Files, Receiver<()>, Sender<()>) {
    let (told, reads) = unbounded();
    let (open, gate) = unbounded();
    let files = inodes.fold(Files::default(), |files, inode| {
        files.with(inode, |file| {
            file.gate = Some(gate.clone());
            file.reads = Some(told.clone());
        })
    });
    (files, reads, open)
}

/// As time passes for a worker that hangs by now.
fn stall(hasher: &mut Hasher, reads: &Receiver<()>) {
    reads.recv_timeout(LONG).unwrap();
    let mut now = Instant::now();
    for _ in 0..10 {
        now += hasher.wait(now).unwrap();
        hasher.supervise(now);
    }
}

/// A file on a dead network filesystem kept all that came after it without digests.
#[test]
fn worker_that_hangs_is_given_up_and_another_takes_its_queue() {
    let (files, reads, _open) = hanging(7..8);
    let files = files.with(8, |_| {}).with(9, |_| {});
    let mut hasher = files.hasher(HashPolicy::default());
    pass(&mut hasher, 1, identity(7));
    hasher.supervise(Instant::now());
    assert!(followers(&mut hasher).is_empty(), "it is not late yet");
    pass(&mut hasher, 2, identity(8));
    pass(&mut hasher, 3, identity(9));
    stall(&mut hasher, &reads);
    let told = followers(&mut hasher);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(
        (told[0].key.pid, told[0].outcome),
        (1, Err(HashFailure::Stalled))
    );
    await_result(&mut hasher);
    await_result(&mut hasher);
    assert!(
        followers(&mut hasher)
            .iter()
            .all(|told| told.outcome.is_ok())
    );
    assert_eq!(hasher.stats().later.delivered, 3);
    assert!(hasher.stats().later.holds());
    assert_eq!(hasher.wait(Instant::now()), None, "nothing is under way");
}

/// Hashing stood still for good: only opening and reading were watched.
#[test]
fn worker_that_hangs_as_it_closes_a_file_is_given_up() {
    let check = |change: fn(&mut File), of_seven: Option<HashFailure>, known: bool| {
        let ((told, closes), (open, gate)) = (unbounded(), unbounded());
        let files = Files::default().with(8, |_| {}).with(7, |file| {
            change(file);
            file.closing = Some((told, gate));
        });
        let policy = HashPolicy {
            max_bytes: 1500,
            ..HashPolicy::default()
        };
        let mut hasher = files.hasher(policy);
        let mut file = identity(7);
        if known {
            open.send(()).unwrap();
            pass(&mut hasher, 3, file);
            await_result(&mut hasher);
            assert!(outcome(&mut hasher).is_ok());
            closes.recv_timeout(LONG).unwrap();
            // So that it is opened again.
            file.ctime = 0;
        }
        let mut held = exec(1, Some(file));
        hasher.arrived(&mut held);
        await_result(&mut hasher);
        pass(&mut hasher, 2, identity(8));
        stall(&mut hasher, &closes);
        hasher.leaving(&mut held);
        let told = followers(&mut hasher);
        let failure = told.first().and_then(|told| told.outcome.err());
        assert_eq!(failure, of_seven, "what was told before holds");
        assert_eq!(process(&held).sha256.is_some(), of_seven.is_none());
        await_result(&mut hasher);
        assert!(outcome(&mut hasher).is_ok(), "another one goes on");
    };
    check(|_| {}, None, false);
    check(|_| {}, None, true);
    let grown = |file: &mut File| file.content = vec![0; 2000];
    check(grown, Some(HashFailure::TooLarge), false);
}

/// Each had been opened and was asked for again, and the queue that was full had no room for them.
#[test]
fn files_that_are_open_and_all_that_is_queued_outlive_their_worker() {
    let (told, reads) = unbounded();
    let (open, gate) = unbounded();
    let files = Files::default().with(7, |file| {
        file.gate = Some(gate);
        file.reads = Some(told);
    });
    let files = (8..12).fold(files, |files, inode| files.with(inode, |_| {}));
    let policy = HashPolicy {
        queue: 2,
        ..HashPolicy::default()
    };
    let mut hasher = files.hasher(policy);
    pass(&mut hasher, 7, identity(7));
    reads.recv_timeout(LONG).unwrap();
    pass(&mut hasher, 8, identity(8));
    pass(&mut hasher, 9, identity(9));
    // Before the next read of this one those two are opened.
    open.send(()).unwrap();
    reads.recv_timeout(LONG).unwrap();
    pass(&mut hasher, 10, identity(10));
    pass(&mut hasher, 11, identity(11));
    assert_eq!(files.opened(), 3);
    let now = Instant::now();
    (1..=10).for_each(|n| hasher.supervise(now + HashPolicy::default().stall * n));
    assert_eq!(outcome(&mut hasher), Err(HashFailure::Stalled));
    (0..4).for_each(|_| await_result(&mut hasher));
    let told = followers(&mut hasher);
    assert!(told.iter().all(|told| told.outcome.is_ok()), "{told:?}");
    assert_eq!((told.len(), files.opened()), (4, 5));
}

/// A daemon that was stopped for a while, or frozen with its control group, told each file that it
/// was reading as stalled.
#[test]
fn time_in_which_nobody_could_look_does_not_count() {
    let (files, reads, open) = hanging(7..8);
    let mut hasher = files.hasher(HashPolicy::default());
    pass(&mut hasher, 1, identity(7));
    reads.recv_timeout(LONG).unwrap();
    hasher.supervise(Instant::now());
    hasher.supervise(Instant::now() + LONG);
    (0..4).for_each(|_| open.send(()).unwrap());
    await_result(&mut hasher);
    assert!(outcome(&mut hasher).is_ok());
}

#[test]
fn hashing_pauses_while_too_many_hang_and_goes_on_when_they_end() {
    let (files, reads, open) = hanging(0..4);
    let files = files.with(8, |_| {});
    let mut hasher = files.hasher(HashPolicy::default());
    for pid in 0..4 {
        pass(&mut hasher, pid, identity(u64::from(pid)));
        stall(&mut hasher, &reads);
        assert_eq!(outcome(&mut hasher), Err(HashFailure::Stalled));
    }
    pass(&mut hasher, 5, identity(8));
    assert_eq!(outcome(&mut hasher), Err(HashFailure::Stalled), "no worker");
    assert_eq!(hasher.stats().failed.iter().sum::<u64>(), 5);

    drop(open);
    let began = Instant::now();
    let digest = loop {
        // Their threads end in their own time.
        hasher.supervise(Instant::now());
        pass(&mut hasher, 6, identity(8));
        if followers(&mut hasher).is_empty() {
            await_result(&mut hasher);
            break outcome(&mut hasher);
        }
        assert!(began.elapsed() < LONG);
        std::thread::yield_now();
    };
    assert!(digest.is_ok());
}

#[test]
fn end_does_not_wait_for_workers_that_were_given_up() {
    let (files, reads, _open) = hanging(7..8);
    let policy = HashPolicy {
        patience: LONG,
        ..HashPolicy::default()
    };
    let mut hasher = files.hasher(policy);
    pass(&mut hasher, 1, identity(7));
    stall(&mut hasher, &reads);
    let began = Instant::now();
    hasher.finish();
    assert!(began.elapsed() < LONG);
    assert_eq!(outcome(&mut hasher), Err(HashFailure::Stalled));
}
