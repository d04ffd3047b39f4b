use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use tempfile::TempDir;

use super::{Procs, kernel_device};
use crate::scan::Scan;

/// A directory that looks like procfs.
fn procfs() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("sys/kernel/random")).unwrap();
    let boot_id = "3f2a0b4c-5d6e-7f80-9192-a3b4c5d6e7f8\n";
    fs::write(dir.path().join("sys/kernel/random/boot_id"), boot_id).unwrap();
    fs::write(dir.path().join("uptime"), "5000.25 1.00\n").unwrap();
    dir
}

fn add(root: &Path, pid: u32, ppid: u32, ticks: u64, cmdline: &[u8]) {
    let dir = root.join(pid.to_string());
    fs::create_dir_all(&dir).unwrap();
    let stat = format!(
        "{pid} (name) S {ppid} 1 1 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 {ticks} 0 0 0 1 1 0 0 0 \
         0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
    );
    fs::write(dir.join("stat"), stat).unwrap();
    fs::write(dir.join("cmdline"), cmdline).unwrap();
    fs::write(dir.join("status"), "Uid:\t1\t2\t2\t2\nGid:\t3\t4\t4\t4\n").unwrap();
}

fn scan(root: &Path, before: &Scan) -> Scan {
    Procs::at(root.into()).unwrap().scan(before).unwrap()
}

#[test]
fn arguments_survive_byte_for_byte() {
    let proc = procfs();
    add(proc.path(), 7, 1, 100, b"sh\0-c\0\xff\xfe a  b\0\0");
    let seen = &scan(proc.path(), &Scan::default()).processes[&7];
    assert_eq!(
        seen.process.argv.as_block().as_ref(),
        b"sh\0-c\0\xff\xfe a  b\0\0"
    );
    assert_eq!(seen.process.argv_truncated_bytes, 0);
    assert_eq!(seen.key().start.0, 1_000_000_000);
    assert_eq!(
        seen.key().boot.to_string(),
        "3f2a0b4c5d6e7f809192a3b4c5d6e7f8"
    );
}

#[test]
fn long_arguments_are_cut_and_the_rest_is_counted() {
    let proc = procfs();
    add(proc.path(), 7, 1, 100, &[b'a'; 100 * 1024]);
    let seen = &scan(proc.path(), &Scan::default()).processes[&7];
    assert_eq!(seen.process.argv.as_block().len(), 32 * 1024);
    assert_eq!(seen.process.argv_truncated_bytes, 68 * 1024);
}

#[test]
fn a_pid_that_vanishes_while_it_is_read_is_skipped() {
    let proc = procfs();
    add(proc.path(), 7, 1, 100, b"sh\0");
    fs::create_dir(proc.path().join("8")).unwrap();
    fs::create_dir(proc.path().join("9")).unwrap();
    fs::write(proc.path().join("9/stat"), "9 (cut").unwrap();
    let pids: Vec<_> = scan(proc.path(), &Scan::default())
        .processes
        .into_keys()
        .collect();
    assert_eq!(pids, [7]);
}

#[test]
fn deleted_executable_keeps_its_path() {
    let proc = procfs();
    add(proc.path(), 7, 1, 100, b"sh\0");
    symlink("/opt/gone (deleted)", proc.path().join("7/exe")).unwrap();
    let process = &scan(proc.path(), &Scan::default()).processes[&7].process;
    assert_eq!(process.exe.as_ref(), b"/opt/gone");
}

#[test]
fn executable_in_memory_has_no_path() {
    let proc = procfs();
    add(proc.path(), 7, 1, 100, b"sh\0");
    symlink("/memfd:payload (deleted)", proc.path().join("7/exe")).unwrap();
    let process = &scan(proc.path(), &Scan::default()).processes[&7].process;
    assert_eq!(process.exe.as_ref(), b"memfd:payload");
}

#[test]
fn executable_that_is_called_deleted_keeps_its_name() {
    let proc = procfs();
    add(proc.path(), 7, 1, 100, b"sh\0");
    let exe = proc.path().join("x (deleted)");
    fs::write(&exe, "").unwrap();
    symlink(&exe, proc.path().join("7/exe")).unwrap();
    let process = &scan(proc.path(), &Scan::default()).processes[&7].process;
    assert_eq!(process.exe.as_ref(), exe.as_os_str().as_encoded_bytes());
    assert_eq!(process.exe_file.unwrap().nlink, 1);
}

#[test]
fn unchanged_process_is_shared_with_the_scan_before() {
    let proc = procfs();
    add(proc.path(), 7, 1, 100, b"sh\0");
    add(proc.path(), 8, 1, 100, b"sh\0");
    let first = scan(proc.path(), &Scan::default());
    fs::write(proc.path().join("7/cmdline"), "true\0").unwrap();
    fs::write(proc.path().join("8/cmdline"), "").unwrap();
    let second = scan(proc.path(), &first);
    let is_shared = |pid| {
        Arc::ptr_eq(
            &first.processes[&pid].process,
            &second.processes[&pid].process,
        )
    };
    assert!(!is_shared(7));
    assert!(
        is_shared(8),
        "one that shows no arguments any more is ending"
    );
}

/// The name of the old program stood with the arguments of the new one.
#[test]
fn exec_while_a_process_is_read_mixes_no_two_programs() {
    let proc = procfs();
    add(proc.path(), 7, 1, 100, b"");
    let (stat, cmdline) = (proc.path().join("7/stat"), proc.path().join("7/cmdline"));
    fs::remove_file(&cmdline).unwrap();
    // Whoever opens it waits for the other end, so that the exec comes between two files.
    let made = Command::new("mkfifo").arg(&cmdline).status().unwrap();
    assert!(made.success());
    let exec = thread::spawn(move || {
        let mut pipe = OpenOptions::new().write(true).open(&cmdline).unwrap();
        let text = fs::read_to_string(&stat).unwrap();
        fs::write(&stat, text.replace("(name)", "(true)")).unwrap();
        fs::remove_file(&cmdline).unwrap();
        fs::write(&cmdline, "true\0--help\0").unwrap();
        pipe.write_all(b"true\0").unwrap();
    });
    let process = &scan(proc.path(), &Scan::default()).processes[&7].process;
    exec.join().unwrap();
    assert_eq!(process.comm.as_ref(), b"true");
    assert_eq!(process.argv.as_block().as_ref(), b"true\0--help\0");
}

#[test]
fn ten_thousand_processes_are_read_and_found_again() {
    let proc = procfs();
    for pid in 1..=10_000 {
        add(
            proc.path(),
            pid,
            pid / 2,
            u64::from(pid),
            b"/usr/bin/program\0--argument\0",
        );
    }
    let mut procs = Procs::at(proc.path().into()).unwrap();
    let first = procs.scan(&Scan::default()).unwrap();
    assert_eq!(first.processes.len(), 10_000);
    let second = procs.scan(&first).unwrap();
    assert!(second.processes.keys().eq(first.processes.keys()));
}

#[test]
fn missing_procfs_is_an_error_that_names_the_file() {
    let error = Procs::at("/nowhere".into()).err().unwrap().to_string();
    assert!(
        error.contains("/nowhere/sys/kernel/random/boot_id"),
        "{error}"
    );
}

#[test]
fn device_numbers_are_in_the_kernels_encoding() {
    let check = |st_dev, major: u32, minor: u32| {
        assert_eq!(kernel_device(st_dev), major << 20 | minor, "{st_dev:#x}");
    };
    check(0x0801, 8, 1);
    check(0xfe00, 254, 0);
    check(0x0301_0042, 0x100, 0x3042);
}
