use proptest::prelude::*;

use super::*;

fn key(pid: u32) -> ProcessKey {
    ProcessKey {
        pid,
        start: BootTime(u64::from(pid)),
        ..ProcessKey::default()
    }
}

fn process(pid: u32, parent: u32, exe: &str, argv: &[&str]) -> Process {
    Process {
        key: key(pid),
        parent: Some(key(parent)),
        comm: Bytes::from_static(b"comm"),
        exe: Bytes::copy_from_slice(exe.as_bytes()),
        argv: argv.iter().collect(),
        ..Process::default()
    }
}

fn table(entries: usize, bytes: usize) -> ProcessTable {
    ProcessTable::new(TableLimits {
        entries,
        bytes,
        grace: Duration::from_secs(4),
    })
}

const SECOND: u64 = 1_000_000_000;

#[test]
fn fork_runs_what_its_parent_runs_under_its_own_key() {
    let mut table = table(100, 1 << 20);
    table.exec(&process(1, 0, "/bin/bash", &["bash", "-i"]));
    let bytes = table.stats().bytes;
    table.fork(key(2), key(1));
    assert_eq!(
        table.stats().bytes,
        bytes + ENTRY_BYTES as u64,
        "the image is shared"
    );
    let child = table.ancestor(key(2)).unwrap();
    assert_eq!((child.key, child.parent), (key(2), Some(key(1))));
    assert_eq!(child.exe, "/bin/bash");
    assert_eq!(child.argv.joined(), b"bash -i");
}

#[test]
fn exec_replaces_the_image_and_keeps_the_parent() {
    let mut table = table(100, 1 << 20);
    table.fork(key(2), key(1));
    assert_eq!(table.ancestor(key(2)), None);
    let mut exec = process(2, 1, "/bin/true", &["true"]);
    exec.parent = None;
    table.exec(&exec);
    let bytes = table.stats().bytes;
    table.exec(&exec);
    assert_eq!(table.stats().bytes, bytes);
    assert_eq!(table.ancestor(key(2)).unwrap().parent, Some(key(1)));
}

#[test]
fn fork_that_comes_after_its_exec_does_not_undo_it() {
    let mut table = table(100, 1 << 20);
    table.exec(&process(1, 0, "/bin/sh", &["sh"]));
    table.exec(&process(2, 1, "/bin/true", &["true"]));
    table.fork(key(2), key(1));
    assert_eq!(table.exe(key(2)).unwrap(), "/bin/true");
}

#[test]
fn dead_process_stays_for_its_grace_time() {
    let mut table = table(100, 1 << 20);
    table.exec(&process(1, 0, "/bin/sh", &["sh"]));
    table.exit(key(1), BootTime(SECOND));
    table.advance(BootId::default(), BootTime(5 * SECOND));
    assert!(table.ancestor(key(1)).is_some());
    table.advance(BootId::default(), BootTime(5 * SECOND + 1));
    assert!(table.ancestor(key(1)).is_none());
    let expected = TableStats {
        expired: 1,
        ..TableStats::default()
    };
    assert_eq!(table.stats(), expected);
}

#[test]
fn dead_go_before_live_and_the_longest_unused_live_first() {
    let mut table = table(3, 1 << 20);
    for pid in 1..=3 {
        table.exec(&process(pid, 0, "/bin/sh", &["sh"]));
    }
    table.exit(key(3), BootTime(1));
    table.ancestor(key(1));
    table.fork(key(4), key(9));
    assert_eq!(table.exe(key(3)), None, "dead");
    table.fork(key(5), key(9));
    assert_eq!(table.exe(key(2)), None, "longest unused");
    assert!(table.exe(key(1)).is_some());
    assert_eq!(
        (table.stats().evicted_dead, table.stats().evicted_live),
        (1, 1)
    );
}

#[test]
fn long_arguments_are_cut_in_the_table() {
    let mut table = table(100, 1 << 20);
    table.exec(&process(1, 0, "/bin/sh", &[&"x".repeat(100_000)]));
    assert_eq!(
        table.ancestor(key(1)).unwrap().argv.as_block().len(),
        ARGV_BYTES
    );
}

#[test]
fn another_boot_empties_the_table() {
    let mut table = table(100, 1 << 20);
    table.exec(&process(1, 0, "/bin/sh", &["sh"]));
    table.advance(BootId([1; 16]), BootTime(0));
    assert_eq!(table.stats(), TableStats::default());
    assert_eq!(table.exe(key(1)), None);
}

#[derive(Debug, Clone)]
enum Step {
    Fork(u32, u32),
    Exec(u32, usize),
    Exit(u32),
    Advance(u64),
    Ancestor(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let pid = 0..40_u32;
    prop_oneof![
        (pid.clone(), pid.clone()).prop_map(|(child, parent)| Step::Fork(child, parent)),
        (pid.clone(), 0..300_usize).prop_map(|(pid, len)| Step::Exec(pid, len)),
        pid.clone().prop_map(Step::Exit),
        (0..10_u64).prop_map(Step::Advance),
        pid.prop_map(Step::Ancestor),
    ]
}

/// What the counters must say, counted anew.
fn recount(table: &ProcessTable) -> (u64, u64) {
    let mut images = std::collections::HashMap::new();
    for slot in table.index.values() {
        if let Some(image) = &table.slots.get(*slot).image {
            images.insert(Arc::as_ptr(image), image.bytes());
        }
    }
    let entries = table.index.len() as u64;
    (
        entries,
        entries * ENTRY_BYTES as u64 + images.values().sum::<u64>(),
    )
}

proptest! {
    #[test]
    fn bounds_hold_and_counters_are_exact(
        steps in proptest::collection::vec(step(), 0..400),
        entries in 1..50_usize,
        bytes in 1_000..20_000_usize,
    ) {
        let mut table = table(entries, bytes);
        let mut time = 0;
        for step in steps {
            match step {
                Step::Fork(child, parent) => table.fork(key(child), key(parent)),
                Step::Exec(pid, len) => table.exec(&process(pid, 0, "/bin/x", &[&"a".repeat(len)])),
                Step::Exit(pid) => table.exit(key(pid), BootTime(time)),
                Step::Advance(seconds) => {
                    time += seconds * SECOND;
                    table.advance(BootId::default(), BootTime(time));
                }
                Step::Ancestor(pid) => drop(table.ancestor(key(pid))),
            }
            let stats = table.stats();
            prop_assert!(stats.entries <= entries as u64);
            prop_assert!(stats.bytes <= bytes as u64);
            prop_assert_eq!((stats.entries, stats.bytes), recount(&table));
        }
    }
}
