//! What happens when the ledger fails or a thread panics, which a real ledger cannot be asked for.

use std::io;
use std::time::Instant;

use event::sensor::BatchEnd;
use event::{Capabilities, EventKind, Fork, Header, ProcessKey, SensorError};
use ledger::{Expired, Options, Retention};

use super::*;
use crate::Next;

/// Fails on the commit of that number.
struct Failing {
    ledger: Ledger,
    commits_left: u32,
    how: Failure,
    /// So many times no leaves can be dropped.
    drops_to_fail: u64,
}

#[derive(Clone, Copy)]
enum Failure {
    Panic,
    Io(io::ErrorKind),
}

impl Log for Failing {
    fn append(&mut self, leaf: &[u8]) -> Result<u64, ledger::Error> {
        self.ledger.append(leaf)
    }

    fn commit(&mut self) -> Result<u64, ledger::Error> {
        let Some(left) = self.commits_left.checked_sub(1) else {
            let Failure::Io(kind) = self.how else {
                panic!("the disk is on fire");
            };
            let source = kind.into();
            return Err(ledger::Error::Io {
                call: "sync",
                path: "/full".into(),
                source,
            });
        };
        self.commits_left = left;
        self.ledger.commit()
    }

    fn checkpoint(&mut self) -> Result<Checkpoint, ledger::Error> {
        self.ledger.checkpoint()
    }

    fn heartbeat(&mut self) -> Result<Checkpoint, ledger::Error> {
        self.ledger.heartbeat()
    }

    fn rotate(&mut self) -> Result<u64, ledger::Error> {
        self.ledger.rotate()
    }

    fn set_cursor(&mut self, name: &str, index: u64) {
        self.ledger.set_cursor(name, index);
    }

    fn durable_size(&self) -> u64 {
        self.ledger.durable_size()
    }

    fn expired(
        &mut self,
        retention: &Retention,
        needed: u64,
    ) -> Result<Option<Expired>, ledger::Error> {
        if let Some(left) = self.drops_to_fail.checked_sub(1) {
            self.drops_to_fail = left;
            let source = io::ErrorKind::Other.into();
            let (call, path) = ("read", "/bad".into());
            return Err(ledger::Error::Io { call, path, source });
        }
        self.ledger.expired(retention, needed)
    }

    fn held_up(&self) -> u64 {
        self.ledger.held_up()
    }

    fn drop_expired(&mut self, expired: Expired) -> Result<u64, ledger::Error> {
        self.ledger.drop_expired(expired)
    }

    fn put_off(&mut self) -> Option<ledger::Error> {
        self.ledger.put_off()
    }
}

/// Forks without end.
struct Endless {
    capabilities: Capabilities,
    next: u64,
}

impl Sensor for Endless {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn snapshot(&mut self, _: &mut Vec<Event>) -> Result<(), event::SensorError> {
        Ok(())
    }

    fn next_batch(&mut self, out: &mut Vec<Event>, _: Duration) -> Result<BatchEnd, SensorError> {
        for _ in 0..100 {
            let header = Header {
                time: event::BootTime(self.next * 1_000),
                ..Header::default()
            };
            let key = ProcessKey {
                start: header.time,
                ..ProcessKey::default()
            };
            let kind = EventKind::Fork(Fork {
                child: key,
                parent: ProcessKey::default(),
                parent_muted: false,
            });
            out.push(Event { header, kind });
            self.next += 1;
        }
        Ok(BatchEnd::Open)
    }

    fn stats(&self) -> event::Stats {
        event::Stats {
            seen: self.next,
            delivered: self.next,
            ..event::Stats::default()
        }
    }

    fn waker(&self) -> Waker {
        Arc::new(|| ())
    }
}

fn failing(commits_left: u32, how: Failure) -> (tempfile::TempDir, Handle) {
    let config = Config {
        live: false,
        ..Config::default()
    };
    failing_with(commits_left, how, 0, &config)
}

fn failing_with(
    commits_left: u32,
    how: Failure,
    drops_to_fail: u64,
    config: &Config,
) -> (tempfile::TempDir, Handle) {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        segment_bytes: 200_000,
        ..Options::new("test.example/log")
    };
    let (ledger, _) = Ledger::open(dir.path(), &options).unwrap();
    let log = LogStart {
        size: 0,
        durable_size: 0,
        cursor: None,
        kept_from: 0,
        reader: ledger.reader(),
    };
    let sensor = Box::new(Endless {
        capabilities: Capabilities::default(),
        next: 0,
    });
    let failing = Failing {
        ledger,
        commits_left,
        how,
        drops_to_fail,
    };
    let handle = start(sensor, Vec::new(), failing, log, config).unwrap();
    (dir, handle)
}

/// After one failure nothing was dropped until the next start.
#[test]
fn a_drop_that_failed_is_tried_again_and_told() {
    let mut config = Config {
        live: false,
        retention: Some(Retention {
            bytes: Some(800_000),
            seconds: None,
        }),
        ..Config::default()
    };
    config.commit.checkpoint_leaves = 5_000;
    config.commit.drop_retry = Duration::ZERO;
    let (dir, handle) = failing_with(u32::MAX, Failure::Panic, 3, &config);
    let mut subscription = handle.subscribe(0);
    let patience = Instant::now() + Duration::from_secs(60);
    while handle.stats().kept_from == 0 {
        assert!(Instant::now() < patience, "{:?}", handle.stats());
        if let Next::Leaves(_) = subscription.next(Duration::from_secs(1)).unwrap() {
            subscription.acknowledge(subscription.position());
        }
    }
    let stats = handle.stats();
    assert_eq!((stats.drop_errors, stats.drops_fail), (3, false));
    drop(subscription);
    handle.finish().result.unwrap();
    ledger::verify(dir.path(), ledger::VerifyOptions::default()).unwrap();
}

/// Runs until it fails by itself; checks what holds in every failure.
fn run(commits_left: u32, how: Failure) -> (Finished, u64) {
    let (_dir, handle) = failing(commits_left, how);
    let findings = handle.findings();
    let mut subscription = handle.subscribe(0);
    let mut next = 0;
    loop {
        match subscription.next(Duration::from_secs(60)).unwrap() {
            Next::Leaves(leaves) => {
                assert!(
                    leaves
                        .iter()
                        .map(|leaf| leaf.index)
                        .eq(next..next + leaves.len() as u64)
                );
                next += leaves.len() as u64;
            }
            Next::NotKept(..) | Next::Idle => panic!("the agent was left waiting"),
            Next::End => break,
        }
    }
    assert!(handle.is_drained(Duration::from_secs(60)));
    let finished = handle.finish();
    assert!(findings.submit(event::Finding::default()).is_err());
    let stats = &finished.stats;
    assert!(stats.balanced() && stats.sensor_agrees(), "{stats:?}");
    assert_eq!(stats.overall().held, 0);
    assert!(stats.overall().dropped > 0);
    assert!(stats.ledger_agrees(), "{stats:?}");
    assert_eq!(stats.overall().delivered, stats.durable_size);
    (finished, next)
}

#[test]
fn ledger_that_fails_ends_the_pipeline_and_says_why() {
    let (finished, delivered) = run(3, Failure::Io(io::ErrorKind::Other));
    let error = finished.result.unwrap_err();
    assert!(
        matches!(error, Error::Ledger(ledger::Error::Io { .. })),
        "{error:?}"
    );
    assert_eq!(error.to_string(), "ledger: sync /full");
    assert!(finished.stats.durable_size >= 3_000);
    assert!(delivered >= finished.stats.durable_size);
}

#[test]
fn thread_that_panics_ends_the_pipeline_and_is_named() {
    let (finished, _) = run(0, Failure::Panic);
    let error = finished.result.unwrap_err();
    assert_eq!(
        error.to_string(),
        "ledger thread panicked: the disk is on fire"
    );
}

/// A full disk ended the pipeline, and with it detection.
#[test]
fn full_disk_suspends_the_ledger_and_the_agent_goes_on() {
    let (_dir, handle) = failing(3, Failure::Io(io::ErrorKind::StorageFull));
    let findings = handle.findings();
    let mut subscription = handle.subscribe(handle.resume_from());
    let (mut next, mut seen, mut skipped) = (0, 0, 0);
    let mut draining = false;
    loop {
        match subscription.next(Duration::from_secs(60)).unwrap() {
            Next::Leaves(leaves) => {
                for leaf in leaves {
                    skipped += leaf.index - next;
                    seen += 1;
                    next = leaf.index + 1;
                }
                subscription.acknowledge(next);
            }
            Next::NotKept(..) | Next::Idle => panic!("the agent was left waiting"),
            Next::End => break,
        }
        let stats = handle.stats();
        assert!(stats.balanced() && stats.ledger_agrees(), "{stats:?}");
        if !draining && stats.unrecorded > 20_000 && next > stats.durable_size + 20_000 {
            // That was taken, and told to be done.
            assert!(matches!(handle.rotate_keys(), Err(Error::Suspended)));
            findings.submit(event::Finding::default()).unwrap();
            handle.drain();
            draining = true;
        }
    }
    assert!(draining, "the agent's leaves ended by themselves");
    let finished = handle.finish();
    let stats = &finished.stats;
    let error = finished.result.unwrap_err();
    assert!(error.is_storage_full(), "{error:?}");
    assert!(stats.balanced() && stats.ledger_agrees(), "{stats:?}");
    assert_eq!(stats.overall().held + stats.findings.held, 0);
    assert_eq!(stats.unrecorded, stats.size - stats.durable_size);
    assert_eq!(stats.findings.dropped, 1);
    assert_eq!(stats.agent.live + stats.agent.from_ledger, seen);
    // What the agent could not be given at the very end, it cannot tell from its indices.
    assert!(stats.agent.skipped >= skipped, "{:?}", stats.agent);
    assert_eq!(seen + stats.agent.skipped, subscription.position());
}

/// A crash lost findings that were still queued, and their evidence was not matched again.
#[test]
fn cursor_does_not_cover_leaves_whose_findings_are_queued() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, _) = Ledger::open(dir.path(), &Options::new("test.example/log")).unwrap();
    let log = LogStart {
        size: 10,
        durable_size: 10,
        cursor: Some(3),
        kept_from: 0,
        reader: ledger.reader(),
    };
    let shared = Arc::new(Shared::new(Arc::new(|| ()), &log, 1));
    let (to_ledger, _from_stages) = deliver::to_ledger(1, 1);
    let (open, _drained) = bounded(0);
    let (submitted, requests) = bounded(1);
    let (_events, events) = queue::bounded(1);
    let config = Config::default();
    let mut stages = Stages::new(
        &config,
        Redactor::new(&config.redact).unwrap(),
        events,
        (requests.clone(), crossbeam_channel::never()),
        Feed::new(to_ledger, Arc::clone(&shared), open),
        Arc::clone(&shared),
        log.size,
    );
    assert_eq!(stages.acknowledged(), 3);
    submitted.send(Request::Append(Box::default())).unwrap();
    Subscription::new(shared, log.reader.clone(), 3).acknowledge(7);
    assert_eq!(stages.acknowledged(), 3);
    drop(requests.recv().unwrap());
    assert_eq!(stages.acknowledged(), 7);
}
