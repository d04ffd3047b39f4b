use std::fs;

use ledger::{Error, HashKind, IndexStatus, Ledger, MAX_LEAF_BYTES, Options};

use crate::support::{grow, leaf, open, options, small_segments, verify};

#[test]
fn leaves_survive_close_and_open() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, recovery) = Ledger::open(dir.path(), &options()).unwrap();
    assert!(recovery.created && recovery.is_clean());
    grow(&mut ledger, 1000, 100);
    let root = ledger.root();
    let sealed = ledger.close().unwrap();
    assert_eq!((sealed.size(), sealed.root()), (1000, root));

    let (ledger, recovery) = Ledger::open(dir.path(), &options()).unwrap();
    assert!(!recovery.created && recovery.is_clean(), "{recovery:?}");
    assert_eq!(
        (ledger.size(), ledger.durable_size(), ledger.root()),
        (1000, 1000, root)
    );
    let leaves: Vec<_> = ledger.reader().range(0).map(Result::unwrap).collect();
    assert_eq!(leaves, (0..1000).map(|i| (i, leaf(i))).collect::<Vec<_>>());
}

#[test]
fn a_log_spans_segments() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = Ledger::open(dir.path(), &small_segments()).unwrap();
    for size in (0..700).step_by(7) {
        grow(&mut ledger, size, 3);
        if size % 5 == 0 {
            ledger.checkpoint().unwrap();
        }
    }
    ledger.close().unwrap();
    let report = verify(dir.path()).unwrap();
    assert!(report.segments > 50, "{report:?}");
    assert_eq!(
        (report.entries, report.unsealed(), &report.torn),
        (693, 0, &None)
    );
    assert_eq!(report.index, IndexStatus::Agrees);
    let (ledger, recovery) = Ledger::open(dir.path(), &small_segments()).unwrap();
    assert!(recovery.is_clean());
    assert_eq!(ledger.root(), report.root);
}

#[test]
fn an_empty_log_can_be_sealed_and_verified() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = open(dir.path()).close().unwrap();
    assert_eq!(
        (checkpoint.size(), checkpoint.root()),
        (0, HashKind::Blake3.empty())
    );
    let report = verify(dir.path()).unwrap();
    assert_eq!((report.entries, report.checkpoints), (0, 1));
}

#[test]
fn checkpoints_without_news_are_not_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    grow(&mut ledger, 5, 5);
    let first = ledger.checkpoint().unwrap();
    assert_eq!(ledger.checkpoint().unwrap(), first);
    assert_eq!(ledger.close().unwrap(), first);
    assert_eq!(verify(dir.path()).unwrap().checkpoints, 2);
}

#[test]
fn origin_and_hash_stay_what_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let sha256 = Options {
        hash: HashKind::Sha256,
        ..options()
    };
    Ledger::open(dir.path(), &sha256)
        .unwrap()
        .0
        .close()
        .unwrap();
    let (ledger, _) = Ledger::open(dir.path(), &Options::new("another")).unwrap();
    assert_eq!(
        (ledger.origin(), ledger.hash_kind()),
        ("daemoneye/test", HashKind::Sha256)
    );
}

#[test]
fn origins_that_cannot_name_a_log_are_refused() {
    for origin in [
        "",
        "two words",
        "a+b",
        "line\nbreak",
        "nul\0",
        &"x".repeat(300),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let refused = Ledger::open(dir.path(), &Options::new(origin));
        assert!(matches!(refused, Err(Error::Origin(_))), "{origin:?}");
    }
}

#[test]
fn leaves_up_to_the_limit_are_taken_and_no_longer_ones() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    let largest = vec![0x80; MAX_LEAF_BYTES];
    assert_eq!(ledger.append(&largest).unwrap(), 0);
    assert_eq!(ledger.append(b"").unwrap(), 1);
    let refused = ledger.append(&vec![0; MAX_LEAF_BYTES + 1]);
    assert!(matches!(refused, Err(Error::LeafTooLarge { .. })));
    ledger.commit().unwrap();
    assert_eq!(ledger.reader().read(0).unwrap(), Some(largest));
    assert_eq!(ledger.reader().read(1).unwrap(), Some(Vec::new()));
    ledger.close().unwrap();
    assert_eq!(verify(dir.path()).unwrap().entries, 2);
}

#[test]
fn cursors_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    assert_eq!(ledger.cursor("agent"), None);
    grow(&mut ledger, 10, 10);
    ledger.checkpoint().unwrap();
    ledger.set_cursor("agent", 7);
    assert_eq!(ledger.cursor("agent"), Some(7));
    ledger.close().unwrap();
    assert_eq!(open(dir.path()).cursor("agent"), Some(7));
}

#[test]
fn a_second_writer_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let refused = Ledger::open(dir.path(), &options());
    let Err(Error::Locked { dir: named }) = refused else {
        panic!("not refused: {refused:?}");
    };
    assert_eq!(named, dir.path());
    drop(ledger);
    open(dir.path());
}

#[test]
#[cfg(unix)]
fn secrets_are_the_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("ledger");
    open(&dir).close().unwrap();
    let mode = |file: &str| fs::metadata(dir.join(file)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("."), mode("ledger.key")), (0o700, 0o600));
    assert_eq!(mode("entries/0000000000000000.seg"), 0o600);
    assert_eq!(mode("ledger.pub") & 0o600, 0o600);
}

/// A key that others could read was signed with as if it were secret.
#[test]
#[cfg(unix)]
fn a_key_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).close().unwrap();
    let key = dir.path().join("ledger.key");
    let set = |mode| fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
    for mode in [0o640, 0o620, 0o604, 0o644, 0o610, 0o666] {
        set(mode);
        let before = fs::read(dir.path().join("checkpoints.txt")).unwrap();
        let Err(Error::KeyOpenToOthers {
            path,
            mode: found,
            owner: None,
        }) = Ledger::open(dir.path(), &options())
        else {
            panic!("a key of mode {mode:o} was taken");
        };
        assert_eq!((path, found), (key.clone(), mode));
        assert_eq!(
            fs::read(dir.path().join("checkpoints.txt")).unwrap(),
            before
        );
    }
    for mode in [0o600, 0o400, 0o700] {
        set(mode);
        open(dir.path());
    }
    // So it is with the secret of an epoch that is about to begin.
    let next = dir.path().join("next.key");
    fs::copy(&key, &next).unwrap();
    fs::set_permissions(&next, fs::Permissions::from_mode(0o640)).unwrap();
    let refused = Ledger::open(dir.path(), &options());
    assert!(
        matches!(refused, Err(Error::KeyOpenToOthers { .. })),
        "{refused:?}"
    );
    // One that was erased is none any more.
    fs::write(&next, [0; 64]).unwrap();
    open(dir.path());
}

/// Its mode was looked at, and not whose it is: whoever owns it can read it at any time.
#[test]
#[cfg(unix)]
fn a_key_of_another_account_is_refused() {
    use std::os::unix::fs::chown;
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).close().unwrap();
    let key = dir.path().join("ledger.key");
    let before = fs::read(dir.path().join("checkpoints.txt")).unwrap();
    if chown(&key, Some(65_533), None).is_err() {
        eprintln!("skipped: only root can give a file away");
        return;
    }
    let refused = Ledger::open(dir.path(), &options()).unwrap_err();
    assert!(
        matches!(
            refused,
            Error::KeyOpenToOthers {
                owner: Some(65_533),
                ..
            }
        ),
        "{refused:?}"
    );
    let told = refused.to_string();
    assert!(told.contains("belongs to another account (uid 65533): make it yours (chown)"));
    assert_eq!(
        fs::read(dir.path().join("checkpoints.txt")).unwrap(),
        before
    );
}

#[test]
fn after_an_io_error_nothing_is_taken_until_reopened() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = Ledger::open(dir.path(), &small_segments()).unwrap();
    grow(&mut ledger, 20, 20);
    // The next segment cannot be created where a directory has its name.
    let next = dir.path().join("entries").join(format!("{:016x}.seg", 20));
    fs::create_dir(&next).unwrap();
    assert!(matches!(ledger.append(b"x"), Err(Error::Io { .. })));
    assert!(matches!(ledger.append(b"x"), Err(Error::Poisoned)));
    assert!(matches!(ledger.commit(), Err(Error::Poisoned)));
    assert!(matches!(ledger.checkpoint(), Err(Error::Poisoned)));
    assert_eq!(ledger.durable_size(), 20);
    drop(ledger);
    fs::remove_dir(&next).unwrap();
    let mut ledger = open(dir.path());
    assert_eq!(ledger.append(b"x").unwrap(), 20);
    ledger.close().unwrap();
    assert_eq!(verify(dir.path()).unwrap().entries, 21);
}

#[test]
fn a_state_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Ledger::open(&file.join("ledger"), &options()).unwrap_err();
    assert!(error.to_string().starts_with("create "), "{error}");
}
