//! What happens when the ledger fails or a thread panics, which a real ledger cannot be asked for.

use std::io;

use event::sensor::BatchEnd;
use event::{Capabilities, EventKind, Fork, Header, ProcessKey, SensorError};
use ledger::Options;

use super::*;
use crate::Next;

/// Fails on the commit of that number.
struct Failing {
    ledger: Ledger,
    commits_left: u32,
    panics: bool,
}

impl Log for Failing {
    fn append(&mut self, leaf: &[u8]) -> Result<u64, ledger::Error> {
        self.ledger.append(leaf)
    }

    fn commit(&mut self) -> Result<u64, ledger::Error> {
        assert!(!self.panics, "the disk is on fire");
        let Some(left) = self.commits_left.checked_sub(1) else {
            let source = io::ErrorKind::StorageFull.into();
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

    fn set_cursor(&mut self, name: &str, index: u64) {
        self.ledger.set_cursor(name, index);
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

/// Runs until it fails by itself; checks what holds in every failure.
fn run(commits_left: u32, panics: bool) -> (Finished, u64) {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, _) = Ledger::open(dir.path(), &Options::new("test.example/log")).unwrap();
    let log = LogStart {
        size: 0,
        durable_size: 0,
        acknowledged: None,
        reader: ledger.reader(),
    };
    let sensor = Box::new(Endless {
        capabilities: Capabilities::default(),
        next: 0,
    });
    let config = Config {
        live: false,
        ..Config::default()
    };
    let failing = Failing {
        ledger,
        commits_left,
        panics,
    };
    let handle = start(sensor, Vec::new(), failing, log, &config).unwrap();
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
            Next::Idle => panic!("the agent was left waiting"),
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
    assert_eq!(stats.overall().delivered, stats.durable_size);
    (finished, next)
}

#[test]
fn ledger_that_fails_ends_the_pipeline_and_says_why() {
    let (finished, delivered) = run(3, false);
    let error = finished.result.unwrap_err();
    assert!(
        matches!(error, Error::Ledger(ledger::Error::Io { .. })),
        "{error:?}"
    );
    assert!(
        error.to_string().starts_with("ledger: sync /full: "),
        "{error}"
    );
    assert!(finished.stats.durable_size >= 3_000);
    assert!(delivered >= finished.stats.durable_size);
}

#[test]
fn thread_that_panics_ends_the_pipeline_and_is_named() {
    let (finished, _) = run(0, true);
    let error = finished.result.unwrap_err();
    assert_eq!(
        error.to_string(),
        "ledger thread panicked: the disk is on fire"
    );
}
