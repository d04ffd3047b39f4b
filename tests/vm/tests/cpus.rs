//! Cpus come and go: every possible one has its place from the start.

use std::fs;

use anyhow::{Context as _, Result};
use event::Event;
use vm::{Recording, Workload, kind_name, place};

/// Turns a cpu on, and off again when dropped.
struct Online(u32);

impl Online {
    fn new(cpu: u32) -> Result<Self> {
        fs::write(place::cpu_switch(cpu), "1").context("cannot turn a cpu on")?;
        Ok(Self(cpu))
    }
}

impl Drop for Online {
    fn drop(&mut self) {
        // It stays on, which the test after it notices.
        let _ = fs::write(place::cpu_switch(self.0), "0");
    }
}

#[test]
fn cpu_that_comes_online_while_recording_is_heard_and_loses_nothing() {
    let Some(cpu) = place::offline_cpu() else {
        return;
    };
    let (recording, ()) = Recording::of(|| {
        let online = Online::new(cpu)?;
        Workload::run(["every-cpu"])?;
        drop(online);
        Workload::run(["every-cpu"])?;
        Ok(())
    })
    .unwrap();
    let from = |event: &&Event| event.header.cpu == cpu;
    let kinds: Vec<_> = recording
        .events
        .iter()
        .filter(from)
        .map(kind_name)
        .collect();
    for kind in ["fork", "exec", "exit"] {
        assert!(kinds.contains(&kind), "no {kind} from cpu {cpu}: {kinds:?}");
    }
    assert_eq!(recording.dropped(|_, _| true), 0, "{}", recording.stats);
    assert_eq!(
        recording.counter("/sensor/sequence_gaps"),
        0,
        "{}",
        recording.stats
    );
}
