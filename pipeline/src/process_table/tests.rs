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

/// pid 1 forked 2, that one 3 and so on; each runs `/bin/<pid>`.
fn line(table: &mut ProcessTable, pids: std::ops::RangeInclusive<u32>) {
    for pid in pids {
        table.exec(&process(pid, pid - 1, &format!("/bin/{pid}"), &["x", "y"]));
    }
}

fn pids(chain: &[Ancestor]) -> Vec<u32> {
    chain.iter().map(|ancestor| ancestor.key.pid).collect()
}

#[test]
fn chain_goes_up_to_the_root_nearest_first_without_arguments() {
    let mut table = table(100, 1 << 20);
    table.exec(&Process {
        parent: None,
        ..process(1, 0, "/sbin/init", &["init"])
    });
    line(&mut table, 2..=5);
    let above = table.above(key(5));
    assert_eq!(pids(&above), [4, 3, 2, 1]);
    assert_eq!(above[1].exe, "/bin/3");
    assert!(above.iter().all(|ancestor| ancestor.argv.is_empty()));
    assert_eq!(above[3].parent, None, "the root");
}

#[test]
fn chain_of_unknown_beginning_names_whom_it_lacks() {
    let mut table = table(100, 1 << 20);
    line(&mut table, 3..=5);
    let above = table.above(key(5));
    assert_eq!(pids(&above), [4, 3]);
    assert_eq!(above[1].parent, Some(key(2)));
    line(&mut table, 2..=2);
    assert_eq!(pids(&table.above(key(5))), [4, 3, 2], "it is known now");
    assert!(table.above(key(99)).is_empty());
}

#[test]
fn chain_is_cut_at_its_longest_and_of_a_process_that_forked_itself_at_once() {
    let mut table = table(1000, 1 << 20);
    line(&mut table, 1..=200);
    let above = table.above(key(200));
    assert_eq!(above.len(), chain::LONGEST);
    assert_eq!(above.last().unwrap().parent, Some(key(135)));
    table.exec(&process(300, 300, "/bin/x", &[]));
    assert!(table.above(key(300)).is_empty());
}

#[test]
fn siblings_share_one_chain_until_something_in_it_changes() {
    let mut table = table(100, 1 << 20);
    line(&mut table, 1..=4);
    let first = table.above(key(4));
    table.exec(&process(50, 4, "/bin/child", &[]));
    table.exec(&process(51, 1, "/bin/of another", &[]));
    assert!(Arc::ptr_eq(&first, &table.above(key(4))));
    assert_eq!(table.stats().chains_built, 1);

    table.exec(&process(2, 1, "/bin/other", &[]));
    let second = table.above(key(4));
    assert_eq!(second[1].exe, "/bin/other");
    assert_eq!(first[1].exe, "/bin/2", "what was told stays");
    table.exec(&process(4, 3, "/bin/own", &[]));
    assert!(
        Arc::ptr_eq(&second, &table.above(key(4))),
        "it shows others"
    );

    table.exit(key(2), BootTime(SECOND));
    table.advance(BootId::default(), BootTime(60 * SECOND));
    let third = table.above(key(4));
    assert_eq!(pids(&third), [3]);
    assert_eq!(third[0].parent, Some(key(2)));
}

#[test]
fn live_process_that_chains_show_was_used_with_them() {
    let mut table = table(5, 1 << 20);
    line(&mut table, 1..=3);
    table.above(key(3));
    table.fork(key(40), key(99));
    table.fork(key(41), key(99));
    table.ancestor(key(3));
    table.fork(key(42), key(99));
    assert_eq!(pids(&table.above(key(3))), [2, 1]);
    assert_eq!(table.parent(key(40)), None, "it went instead");
    assert_eq!(table.stats().evicted_live, 1);
}

#[test]
fn reused_pid_is_another_process() {
    let mut table = table(100, 1 << 20);
    let again = ProcessKey {
        start: BootTime(77),
        ..key(2)
    };
    line(&mut table, 1..=3);
    table.exit(key(2), BootTime(1));
    table.exec(&Process {
        key: again,
        ..process(2, 9, "/bin/again", &[])
    });
    assert_eq!(table.above(key(3))[0].exe, "/bin/2");
    assert_eq!(table.above(key(3))[0].key, key(2));
    assert!(table.above(again).is_empty());
}

#[derive(Debug, Clone)]
enum Step {
    Fork(u32, u32),
    Exec(u32, usize),
    Exit(u32),
    Advance(u64),
    Ancestor(u32),
    Above(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let pid = 0..40_u32;
    prop_oneof![
        (pid.clone(), pid.clone()).prop_map(|(child, parent)| Step::Fork(child, parent)),
        (pid.clone(), 0..300_usize).prop_map(|(pid, len)| Step::Exec(pid, len)),
        pid.clone().prop_map(Step::Exit),
        (0..10_u64).prop_map(Step::Advance),
        pid.clone().prop_map(Step::Ancestor),
        pid.prop_map(Step::Above),
    ]
}

fn take(table: &mut ProcessTable, step: &Step, time: &mut u64) {
    match *step {
        Step::Fork(child, parent) => table.fork(key(child), key(parent)),
        Step::Exec(pid, len) => table.exec(&process(
            pid,
            pid / 2,
            &format!("/bin/{len}"),
            &[&"a".repeat(len)],
        )),
        Step::Exit(pid) => table.exit(key(pid), BootTime(*time)),
        Step::Advance(seconds) => {
            *time += seconds * SECOND;
            table.advance(BootId::default(), BootTime(*time));
        }
        Step::Ancestor(pid) => drop(table.ancestor(key(pid))),
        Step::Above(pid) => drop(table.above(key(pid))),
    }
}

/// A chain as the table has it now, link by link.
fn naive_above(table: &ProcessTable, key: ProcessKey) -> Vec<(ProcessKey, Bytes)> {
    let mut above = Vec::new();
    let mut child = key;
    while above.len() < chain::LONGEST
        && let Some(parent) = table.parent(child).filter(|parent| *parent != child)
        && table.index.contains_key(&parent)
    {
        above.push((parent, table.exe(parent).unwrap_or_default()));
        child = parent;
    }
    above
}

/// What the counters must say, counted anew.
fn recount(table: &ProcessTable) -> (u64, u64) {
    let mut images = std::collections::HashMap::new();
    for slot in table.index.values() {
        if let Some(image) = &table.slots.get(*slot).image {
            images.insert(Arc::as_ptr(image), image.bytes());
        }
    }
    let chains = table.index.values();
    let chains = chains.filter_map(|slot| table.slots.get(*slot).above.as_ref());
    let chains: u64 = chains.map(Chain::bytes).sum();
    let entries = table.index.len() as u64;
    (
        entries,
        entries * ENTRY_BYTES as u64 + images.values().sum::<u64>() + chains,
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
            take(&mut table, &step, &mut time);
            let stats = table.stats();
            prop_assert!(stats.entries <= entries as u64);
            prop_assert!(stats.bytes <= bytes as u64);
            prop_assert_eq!((stats.entries, stats.bytes), recount(&table));
        }
    }

    /// A chain that is kept says what one put together now would say, whatever happened since,
    /// evictions included.
    #[test]
    fn kept_chain_is_the_one_of_now(
        steps in proptest::collection::vec(step(), 0..300),
        entries in 5..60_usize,
        bytes in 2_000..200_000_usize,
    ) {
        let mut table = table(entries, bytes);
        let mut time = 0;
        for step in steps {
            take(&mut table, &step, &mut time);
            for pid in 0..40 {
                let expected = naive_above(&table, key(pid));
                let above = table.above(key(pid));
                let told: Vec<_> = above.iter().map(|a| (a.key, a.exe.clone())).collect();
                prop_assert_eq!(told, expected);
            }
        }
    }

    /// Without a lack of room the table knows what a list of everything that happened knows.
    #[test]
    fn table_agrees_with_a_list_of_all_that_happened(
        steps in proptest::collection::vec(step(), 0..200),
    ) {
        let mut table = table(1_000, 16 << 20);
        let mut model = Model::default();
        let mut time = 0;
        for step in steps {
            take(&mut table, &step, &mut time);
            model.take(&step);
            for pid in 0..40 {
                let above = table.above(key(pid));
                let told: Vec<_> = above.iter().map(|a| (a.key.pid, a.exe.clone())).collect();
                prop_assert_eq!(told, model.above(pid));
            }
        }
    }
}

/// Parent, path, and when it ended.
type Modelled = (Option<u32>, Option<String>, Option<u64>);

/// Processes by pid.
#[derive(Default)]
struct Model {
    processes: std::collections::BTreeMap<u32, Modelled>,
    time: u64,
}

impl Model {
    fn take(&mut self, step: &Step) {
        match *step {
            Step::Fork(child, parent) => {
                let exe = self
                    .processes
                    .get(&parent)
                    .and_then(|(_, exe, _)| exe.clone());
                let new = (None, exe, None);
                let entry = self.processes.entry(child).or_insert(new);
                entry.0 = entry.0.or(Some(parent));
            }
            Step::Exec(pid, len) => {
                let ended = self.processes.get(&pid).and_then(|(.., ended)| *ended);
                let new = (Some(pid / 2), Some(format!("/bin/{len}")), ended);
                self.processes.insert(pid, new);
            }
            Step::Exit(pid) => {
                if let Some((.., ended)) = self.processes.get_mut(&pid) {
                    ended.get_or_insert(self.time);
                }
            }
            Step::Advance(seconds) => {
                self.time += seconds * SECOND;
                let now = self.time;
                let stays = |ended: u64| ended + 4 * SECOND >= now;
                self.processes
                    .retain(|_, (.., ended)| ended.is_none_or(stays));
            }
            Step::Ancestor(_) | Step::Above(_) => {}
        }
    }

    fn above(&self, pid: u32) -> Vec<(u32, Bytes)> {
        let mut above = Vec::new();
        let mut child = pid;
        while above.len() < chain::LONGEST
            && let Some((Some(parent), ..)) = self.processes.get(&child)
            && *parent != child
            && let Some((_, exe, _)) = self.processes.get(parent)
        {
            above.push((*parent, exe.clone().unwrap_or_default().into()));
            child = *parent;
        }
        above
    }
}
