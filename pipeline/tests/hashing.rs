//! Execs and their digests through the whole pipeline.

mod synthetic;

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use event::{Event, EventKind, FileIdentity, HashFailure, codec};
use pipeline::hash::{Executable, ExecutableFiles, HashPolicy, Hashing, Wanted};
use pipeline::{Config, Next, Pipeline, Subscription};
use synthetic::{Synthetic, Then};

const LONG: Duration = Duration::from_secs(60);

/// Every file is its inode; every eleventh is gone.
#[derive(Debug)]
struct Files;

struct File(FileIdentity, std::io::Take<std::io::Repeat>);

impl ExecutableFiles for Files {
    fn open(&self, wanted: &Wanted) -> Result<Box<dyn Executable>, HashFailure> {
        if wanted.file.inode.is_multiple_of(11) {
            return Err(HashFailure::Gone);
        }
        let byte = u8::try_from(wanted.file.inode % 256).unwrap();
        let content = std::io::repeat(byte).take(wanted.file.size);
        Ok(Box::new(File(wanted.file, content)))
    }
}

impl Executable for File {
    fn identity(&self) -> std::io::Result<FileIdentity> {
        Ok(self.0)
    }
}

impl Read for File {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.1.read(buffer)
    }
}

fn event(i: u64) -> Event {
    let mut event = synthetic::event(i);
    if let EventKind::Exec(exec) = &mut event.kind {
        let inode = u64::from(exec.process.key.pid) * 7919 % 1000;
        exec.process.exe_file = Some(FileIdentity {
            inode,
            size: 10_000,
            mtime: 5,
            ctime: 5,
            ..FileIdentity::default()
        });
    }
    event
}

fn read_all(subscription: &mut Subscription) -> Vec<Event> {
    let mut all = Vec::new();
    loop {
        match subscription.next(LONG).unwrap() {
            Next::Leaves(leaves) => {
                let events = leaves
                    .into_iter()
                    .map(|d| codec::decode_event(d.leaf).unwrap());
                all.extend(events);
            }
            Next::NotKept(..) | Next::Idle => panic!("nothing came for {LONG:?}"),
            Next::End => return all,
        }
    }
}

/// Digests told by key: with the exec, and after it.
fn told(events: &[Event]) -> (BTreeMap<u32, bool>, BTreeMap<u32, u32>) {
    let (mut execs, mut followers) = (BTreeMap::new(), BTreeMap::new());
    for event in events {
        match &event.kind {
            EventKind::Exec(exec) => {
                execs.insert(exec.process.key.pid, exec.process.sha256.is_some());
            }
            EventKind::Hashed(hashed) => {
                assert!(execs.contains_key(&hashed.key.pid), "before its exec");
                *followers.entry(hashed.key.pid).or_default() += 1;
            }
            _ => {}
        }
    }
    (execs, followers)
}

#[test]
fn flood_of_execs_balances_and_each_gets_one_answer() {
    const EVENTS: u64 = 60_000;
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        hashing: Some(Hashing {
            files: Arc::new(Files),
            policy: HashPolicy {
                queue: 16,
                waiting: 64,
                ..HashPolicy::default()
            },
        }),
        ..Config::default()
    };
    let sensor = Synthetic::new((0..EVENTS).map(event), 300, Then::Finish);
    let ledger = synthetic::ledger(dir.path());
    let handle = Pipeline::start(sensor, Vec::new(), ledger, &config).unwrap();
    let mut subscription = handle.subscribe(0);
    let events = std::thread::scope(|scope| {
        let agent = scope.spawn(|| read_all(&mut subscription));
        while !agent.is_finished() {
            let stats = handle.stats();
            assert!(stats.balanced() && stats.ledger_agrees(), "{stats:?}");
            std::thread::yield_now();
        }
        agent.join().unwrap()
    });
    let stats = handle.finish().stats;
    assert!(stats.balanced() && stats.sensor_agrees(), "{stats:?}");
    assert_eq!(stats.overall().held + stats.overall().dropped, 0);
    assert_eq!(stats.overall().seen, EVENTS + stats.hashing.later.seen);

    let (execs, followers) = told(&events);
    for (pid, inline) in &execs {
        let expected = if *inline { None } else { Some(&1) };
        assert_eq!(followers.get(pid), expected, "{pid}");
    }
    let hashing = &stats.hashing;
    let inline = execs.values().filter(|inline| **inline).count() as u64;
    assert_eq!(hashing.cached + hashing.in_time, inline);
    assert_eq!(hashing.later.delivered, followers.len() as u64);
    assert_eq!(hashing.later.seen + inline, execs.len() as u64);
    assert!(hashing.cached > 0 && hashing.failed[0] > 0, "{hashing:?}");
}

#[test]
fn recording_is_not_hashed() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        live: false,
        hashing: Some(Hashing {
            files: Arc::new(Files),
            policy: HashPolicy::default(),
        }),
        ..Config::default()
    };
    let sensor = Synthetic::new((0..300).map(event), 300, Then::Finish);
    let ledger = synthetic::ledger(dir.path());
    let handle = Pipeline::start(sensor, Vec::new(), ledger, &config).unwrap();
    let events = read_all(&mut handle.subscribe(0));
    drop(handle.finish());
    let (execs, followers) = told(&events);
    assert!(execs.values().all(|inline| !inline) && followers.is_empty());
}
