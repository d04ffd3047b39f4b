//! The state directory: what is taken, what is refused, and that a refusal changes nothing.
#![cfg(unix)]

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use event::wire::RecordingWriter;
use tempfile::TempDir;

/// Belongs to nobody here.
const FOREIGN: u32 = 54_321;

fn daemoneye(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_daemoneye"))
        .args(arguments)
        .output()
        .unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// `run` and `replay` refuse the directory with these words, and leave it as it was.
fn check_refused(dir: &TempDir, state: &Path, parts: &[&str]) {
    let before = listing(state);
    let run = ["run", "--sensor", "poll", "--state-dir", text(state)];
    for output in [daemoneye(&run), replay(dir, state)] {
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(5), "{stderr}");
        assert!(stderr.contains(text(state)), "{stderr}");
        for part in parts {
            assert!(stderr.contains(part), "{part:?} is not in {stderr}");
        }
    }
    assert_eq!(listing(state), before);
}

/// Name, owner, mode and time of change of a directory and what lies directly in it.
fn listing(dir: &Path) -> Vec<(PathBuf, u32, u32, i64, i64)> {
    let entries = fs::read_dir(dir).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut rows: Vec<_> = [dir.to_owned()]
        .into_iter()
        .chain(paths)
        .map(|path| {
            let found = fs::symlink_metadata(&path).unwrap();
            let (uid, mode) = (found.uid(), found.mode());
            (path, uid, mode, found.ctime(), found.ctime_nsec())
        })
        .collect();
    rows.sort();
    rows
}

/// A replay of nothing.
fn replay(dir: &TempDir, state: &Path) -> Output {
    let file = dir.path().join("empty.rec");
    RecordingWriter::new(fs::File::create(&file).unwrap())
        .unwrap()
        .flush()
        .unwrap();
    daemoneye(&["replay", text(&file), "--state-dir", text(state)])
}

fn check_taken(dir: &TempDir, state: &Path) {
    let output = replay(dir, state);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(state.join("ledger/ledger.pub").is_file());
}

#[test]
fn new_empty_and_used_directories_are_taken() {
    let dir = TempDir::new().unwrap();
    let state = dir.path().join("a");
    check_taken(&dir, &state);
    assert_eq!(state.metadata().unwrap().mode() & 0o777, 0o700);
    check_taken(&dir, &state);

    let disk = dir.path().join("disk");
    fs::create_dir_all(disk.join("lost+found")).unwrap();
    check_taken(&dir, &disk);
}

/// A mistyped path became a new, empty ledger somewhere.
#[test]
fn a_directory_whose_parent_is_missing_is_refused_and_the_parent_named() {
    let dir = TempDir::new().unwrap();
    let output = replay(&dir, &dir.path().join("a/b/c"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{stderr}");
    let parent = dir.path().join("a");
    let expected = format!("{} does not exist", text(&parent));
    assert!(stderr.contains(&expected), "{stderr}");
    assert!(!parent.exists());
}

#[test]
fn a_directory_of_something_else_is_refused() {
    let dir = TempDir::new().unwrap();
    let state = dir.path().join("state");
    fs::create_dir(&state).unwrap();
    fs::write(state.join("passwd"), "precious").unwrap();
    check_refused(&dir, &state, &["holds other things (passwd)"]);

    let state = dir.path().join("accounting");
    fs::create_dir_all(state.join("ledger")).unwrap();
    fs::write(state.join("ledger/2024.csv"), "precious").unwrap();
    check_refused(&dir, &state, &["`ledger` was not made by DaemonEye"]);
}

#[test]
fn symbolic_links_are_refused() {
    let dir = TempDir::new().unwrap();
    let real = dir.path().join("real");
    fs::create_dir(&real).unwrap();
    let state = dir.path().join("link");
    symlink(&real, &state).unwrap();
    check_refused(&dir, &state, &["symbolic link"]);
    // A slash at the end would follow it.
    let run = [
        "run",
        "--sensor",
        "poll",
        "--state-dir",
        &format!("{}/", text(&state)),
    ];
    assert_eq!(daemoneye(&run).status.code(), Some(5));
    assert_eq!(fs::read_dir(&real).unwrap().count(), 0);

    let state = dir.path().join("state");
    fs::create_dir(&state).unwrap();
    symlink(&real, state.join("ledger")).unwrap();
    check_refused(&dir, &state, &["`ledger` is no directory"]);
}

#[test]
fn a_directory_that_others_can_write_is_refused() {
    let dir = TempDir::new().unwrap();
    for mode in [0o777, 0o1777, 0o770] {
        let state = dir.path().join(format!("{mode:o}"));
        fs::create_dir(&state).unwrap();
        fs::set_permissions(&state, Permissions::from_mode(mode)).unwrap();
        check_refused(&dir, &state, &["chmod go-w"]);
    }
}

/// Root wrote a probe of this name, and through a link to wherever the account had pointed it.
#[test]
fn no_probe_is_written_through_a_link() {
    let dir = TempDir::new().unwrap();
    let victim = dir.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    let state = dir.path().join("state");
    check_taken(&dir, &state);
    symlink(&victim, state.join(".writable")).unwrap();
    check_taken(&dir, &state);
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
    assert!(state.join(".writable").is_symlink());
}

#[test]
fn a_directory_of_somebody_else_is_refused_with_the_remedy() {
    if !is_root() {
        eprintln!("skipped: only root can make another account's directory");
        return;
    }
    let dir = TempDir::new().unwrap();
    let state = dir.path().join("state");
    check_taken(&dir, &state);
    chown(&state, Some(FOREIGN), Some(FOREIGN)).unwrap();
    check_refused(&dir, &state, &["belongs to uid 54321", "chown -R "]);

    // Not while a daemon is at work there: it would lose its ledger under its hands.
    let lock = fs::File::open(state.join("ledger/lock")).unwrap();
    lock.lock().unwrap();
    let ours = format!("the process {} writes there", std::process::id());
    let stderr = replay(&dir, &state).stderr;
    let stderr = String::from_utf8_lossy(&stderr);
    assert!(stderr.contains("belongs to uid 54321"), "{stderr}");
    assert!(!stderr.contains("chown"), "{stderr}");
    if cfg!(target_os = "linux") {
        assert!(stderr.contains(&ours), "{stderr}");
    }
}

/// The account might have the daemon write wherever it points its files.
#[test]
fn root_signs_as_the_owner_of_the_ledger() {
    if !is_root() {
        eprintln!("skipped: only root can make another account's directory");
        return;
    }
    let dir = TempDir::new().unwrap();
    let state = dir.path().join("state");
    check_taken(&dir, &state);
    let give_away = Command::new("chown")
        .args(["-R", "54321:54321", text(&state)])
        .status();
    assert!(give_away.unwrap().success());
    let arguments = ["ledger", "checkpoint", "--state-dir", text(&state)];
    let output = daemoneye(&arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    for entry in fs::read_dir(state.join("ledger")).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().uid(), FOREIGN, "{entry:?}");
    }
}

/// It said `./ledger`.
#[test]
fn a_ledger_in_use_is_told_by_its_path_and_who_holds_it() {
    let dir = TempDir::new().unwrap();
    let state = dir.path().join("state");
    check_taken(&dir, &state);
    let lock = fs::File::open(state.join("ledger/lock")).unwrap();
    lock.lock().unwrap();
    let run = ["run", "--sensor", "poll", "--state-dir", text(&state)];
    // `run` last: as root it gives the directory away.
    for output in [replay(&dir, &state), daemoneye(&run)] {
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(5), "{stderr}");
        assert!(
            stderr.contains(text(&state)) && !stderr.contains("./"),
            "{stderr}"
        );
        if cfg!(target_os = "linux") {
            let ours = format!("in use by the process {}", std::process::id());
            assert!(stderr.contains(&ours), "{stderr}");
        }
    }
}
