//! What can be done to a log's files, and who finds it: `verify` alone, only a checkpoint that was
//! kept elsewhere, or nobody, because nothing that was signed for is touched.

use std::fs;
use std::path::{Path, PathBuf};

use ledger::{Error, IndexStatus, Ledger, Options, Report, VerifyOptions};

use crate::start::flip_byte;
use crate::support::{copy, grow, leaf, options, segments, verify};
use crate::tamper::{frames, reorder, rewrite};

const CHECKPOINTS: [&str; 2] = ["checkpoints.txt", "last-checkpoint"];

/// Who finds it, with which words.
#[derive(Debug)]
enum Found {
    Alone(&'static str),
    /// `verify` alone calls the log intact.
    ByOutsideCheckpoint(&'static str),
    /// The log is intact, and what lies beside it is not.
    BesideTheLog(&'static str),
    /// Nor does a checkpoint kept elsewhere.
    ByNobody,
}

/// Sealed at 4, 100, 200 and 300, then two commits of five leaves that nobody signed for.
struct Log {
    dir: tempfile::TempDir,
    /// The directory as it was at 200 leaves.
    older: tempfile::TempDir,
    /// The checkpoint of 300 leaves, kept elsewhere.
    kept: String,
}

fn log(segment_bytes: u64) -> Log {
    let (dir, older) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let options = Options {
        segment_bytes,
        ..options()
    };
    let (mut ledger, _) = Ledger::open(dir.path(), &options).unwrap();
    for size in [4, 100, 200] {
        grow(&mut ledger, size, 10);
        ledger.checkpoint().unwrap();
    }
    copy(dir.path(), older.path());
    grow(&mut ledger, 300, 10);
    let kept = ledger.checkpoint().unwrap().note().to_owned();
    grow(&mut ledger, 310, 5);
    drop(ledger);
    let log = Log { dir, older, kept };
    remove_index(log.dir.path());
    assert_eq!(log.verified().unwrap().entries, 310);
    log
}

impl Log {
    fn verified(&self) -> Result<Report, Error> {
        let options = VerifyOptions {
            checkpoint: Some(self.kept.clone()),
            ..VerifyOptions::default()
        };
        ledger::verify(self.dir.path(), options)
    }
}

/// It is no evidence, and whoever changes the log removes it.
fn remove_index(dir: &Path) {
    fs::remove_file(dir.join("index.redb")).unwrap();
}

fn check(what: &str, found: &Found, tamper: impl Fn(&Log)) {
    check_in(u64::MAX, what, found, tamper);
}

fn check_in(segment_bytes: u64, what: &str, found: &Found, tamper: impl Fn(&Log)) {
    let log = log(segment_bytes);
    tamper(&log);
    let (alone, held) = (verify(log.dir.path()), log.verified());
    let says = |result: &Result<Report, Error>, words: &str| match result {
        Err(error) => error.to_string().contains(words),
        Ok(_) => false,
    };
    let as_stated = match found {
        Found::Alone(words) => says(&alone, words) && held.is_err(),
        Found::ByOutsideCheckpoint(words) => alone.is_ok() && says(&held, words),
        Found::BesideTheLog(words) => alone.as_ref().is_ok_and(
            |report| matches!(&report.index, IndexStatus::Bad(told) if told.contains(words)),
        ),
        Found::ByNobody => alone.is_ok() && held.is_ok(),
    };
    let told =
        |result: Result<Report, Error>| result.map_or_else(|e| e.to_string(), |_| "intact".into());
    let (alone, held) = (told(alone), told(held));
    assert!(
        as_stated,
        "{what}: {alone}; with the checkpoint: {held}; not {found:?}"
    );
}

fn entries(log: &Log) -> PathBuf {
    segments(log.dir.path()).remove(0)
}

/// Changes a leaf, with checksum and chain computed anew.
fn forge_leaf(log: &Log, index: u64) {
    rewrite(&entries(log), |at, leaf| match at {
        at if at == index => b"forged".to_vec(),
        _ => leaf,
    });
}

fn edit(log: &Log, name: &str, change: impl FnOnce(String) -> String) {
    let path = log.dir.path().join(name);
    let text = fs::read_to_string(&path).unwrap();
    let changed = change(text.clone());
    assert_ne!(text, changed);
    fs::write(path, changed).unwrap();
}

/// The records of checkpoints.txt.
fn records(text: &str) -> Vec<String> {
    let starts: Vec<usize> = text
        .match_indices("daemoneye/test\n")
        .map(|at| at.0)
        .collect();
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    let ranges = starts.iter().zip(ends);
    ranges
        .map(|(&start, end)| text[start..end].to_owned())
        .collect()
}

fn edit_records(log: &Log, change: impl FnOnce(&mut Vec<String>)) {
    edit(log, "checkpoints.txt", |text| {
        let mut records = records(&text);
        assert_eq!(records.len(), 5);
        change(&mut records);
        records.concat()
    });
}

fn take_back(log: &Log, names: &[&str]) {
    for name in names {
        fs::copy(log.older.path().join(name), log.dir.path().join(name)).unwrap();
    }
}

fn take_all_back(log: &Log) {
    fs::remove_dir_all(log.dir.path()).unwrap();
    copy(log.older.path(), log.dir.path());
}

/// Another log of the same name, sealed at the same sizes with a key of its own.
fn other_log() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = Ledger::open(dir.path(), &options()).unwrap();
    for index in 0..310 {
        ledger.append(format!("other {index}").as_bytes()).unwrap();
        if [3, 99, 199, 299].contains(&index) {
            ledger.checkpoint().unwrap();
        }
    }
    ledger.commit().unwrap();
    dir
}

#[test]
fn flipped_bits_are_found() {
    let leaf_50 = Found::Alone("leaf 50: entry checksum does not match");
    check("a flipped bit in a leaf", &leaf_50, |log| {
        let mut bytes = fs::read(entries(log)).unwrap();
        let at = frames(&bytes)[50].start + 9;
        bytes[at] ^= 1;
        fs::write(entries(log), bytes).unwrap();
    });
    let sealed = Found::Alone("leaves 4 to 99: leaves do not hash to the root signed at size 100");
    check("a leaf changed with all checksums", &sealed, |log| {
        forge_leaf(log, 50)
    });
    let last = Found::Alone("last-checkpoint at byte 0: checkpoint on line 1 is not sound");
    check("a changed size", &last, |log| {
        edit(log, "last-checkpoint", |text| {
            text.replace("\n300\n", "\n301\n")
        });
    });
}

#[test]
fn deleted_swapped_and_duplicated_leaves_and_segments_are_found() {
    let chain = |leaf: &'static str| Found::Alone(leaf);
    let at_50 = chain("leaf 50: entry does not continue the hash chain");
    check("a deleted leaf", &at_50, |log| {
        reorder(&entries(log), |all| drop(all.remove(50)))
    });
    check("swapped leaves", &at_50, |log| {
        reorder(&entries(log), |all| all.swap(50, 60))
    });
    let at_51 = chain("leaf 51: entry does not continue the hash chain");
    check("a duplicated leaf", &at_51, |log| {
        reorder(&entries(log), |all| all.insert(51, all[50].clone()))
    });
    let missing = Found::Alone("file is missing");
    check_in(3_000, "a deleted segment", &missing, |log| {
        fs::remove_file(&segments(log.dir.path())[1]).unwrap();
    });
    let header = Found::Alone("segment header: it is not what must stand here");
    check_in(3_000, "swapped segments", &header, |log| {
        let files = segments(log.dir.path());
        let (one, two) = (fs::read(&files[1]).unwrap(), fs::read(&files[2]).unwrap());
        fs::write(&files[1], two).unwrap();
        fs::write(&files[2], one).unwrap();
    });
}

#[test]
fn deleted_swapped_and_duplicated_checkpoints_are_found_or_change_nothing() {
    let unlisted = Found::Alone("checkpoint of size 300 is not in checkpoints.txt");
    check("the last record deleted", &unlisted, |log| {
        edit_records(log, |all| drop(all.pop()))
    });
    let order =
        Found::Alone("checkpoint on line 22 is of size 100, smaller than the one before it");
    check("swapped records", &order, |log| {
        edit_records(log, |all| all.swap(2, 3))
    });
    // The leaves are still those that the next checkpoint signed for.
    check("a record deleted", &Found::ByNobody, |log| {
        edit_records(log, |all| drop(all.remove(2)))
    });
    check("a record twice", &Found::ByNobody, |log| {
        edit_records(log, |all| all.insert(2, all[2].clone()))
    });
    check("an older last-checkpoint", &Found::ByNobody, |log| {
        take_back(log, &["last-checkpoint"])
    });
}

/// Who proves with it finds that, too: `tree_file.rs` has each kind of damage.
#[test]
fn a_changed_tree_changes_nothing() {
    let tree = |log: &Log| log.dir.path().join("tree");
    let other = "block 0, of entries 0 to 255: its hashes are not those of the log; nothing signed";
    check(
        "a changed hash in the tree",
        &Found::BesideTheLog(other),
        |log| {
            let mut bytes = fs::read(tree(log)).unwrap();
            bytes[20] ^= 1;
            fs::write(tree(log), bytes).unwrap();
            let mut told = Vec::new();
            let mut tell = |error: &Error| told.push(error.to_string());
            ledger::prove_telling(log.dir.path(), 290, None, &mut tell).unwrap();
            assert!(told[0].contains("it is not the tree that was signed for"));
        },
    );
    check(
        "a tree of another log",
        &Found::BesideTheLog(other),
        |log| {
            fs::write(tree(log), [9; 44]).unwrap();
        },
    );
    let place = "tree at byte 0: block 0, of entries 0 to 255: the checksum of its place";
    check("a changed place", &Found::BesideTheLog(place), |log| {
        flip_byte(&tree(log), 1);
    });
    let moved = "its place is not where its first entry stands";
    check("another place", &Found::BesideTheLog(moved), |log| {
        let mut bytes = fs::read(tree(log)).unwrap();
        bytes[0] += 1;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&[0; 8]), &bytes[..8]);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        fs::write(tree(log), bytes).unwrap();
    });
    check(
        "a tree that is cut",
        &Found::BesideTheLog("the file ends before it"),
        |log| {
            let whole = fs::read(tree(log)).unwrap();
            fs::write(tree(log), &whole[..43]).unwrap();
        },
    );
    // As the index of these logs is.
    check("no tree", &Found::ByNobody, |log| {
        fs::remove_file(tree(log)).unwrap();
    });
}

#[test]
fn truncation_is_found_as_far_as_was_signed() {
    let cut = |log: &Log, leaves: usize| reorder(&entries(log), |all| all.truncate(leaves));
    let sealed = Found::Alone("leaves 250 to 299: file ends too early");
    check("cut below the last checkpoint", &sealed, |log| {
        cut(log, 250)
    });
    check("unsealed leaves cut off", &Found::ByNobody, |log| {
        cut(log, 305)
    });
    check("an unsealed leaf changed", &Found::ByNobody, |log| {
        forge_leaf(log, 303)
    });
}

#[test]
fn an_older_copy_is_found_by_a_checkpoint_kept_elsewhere() {
    let entries_alone = Found::Alone("leaves 200 to 299: file ends too early");
    check("older entries", &entries_alone, |log| {
        fs::copy(&segments(log.older.path())[0], entries(log)).unwrap();
    });
    let truncated = Found::ByOutsideCheckpoint("history was truncated: the log holds 200 leaves");
    check("all older", &truncated, take_all_back);
    let unlisted = Found::ByOutsideCheckpoint("checkpoint of size 300 is not in checkpoints.txt");
    check("older checkpoints", &unlisted, |log| {
        take_back(log, &CHECKPOINTS)
    });
    let rewritten = Found::ByOutsideCheckpoint("history was rewritten: the first 300 leaves");
    check(
        "older checkpoints, and a leaf changed after them",
        &rewritten,
        |log| {
            take_back(log, &CHECKPOINTS);
            forge_leaf(log, 250);
        },
    );
    check(
        "all older, and continued with the log's own key",
        &rewritten,
        |log| {
            take_all_back(log);
            let (mut ledger, _) = Ledger::open(log.dir.path(), &options()).unwrap();
            for _ in 0..200 {
                ledger.append(b"forged").unwrap();
            }
            ledger.close().unwrap();
            remove_index(log.dir.path());
        },
    );
}

#[test]
fn two_logs_spliced_are_found() {
    let header = Found::Alone("segment header: it is not what must stand here");
    check_in(3_000, "a segment of another log", &header, |log| {
        let other = self::log(3_000);
        fs::copy(
            &segments(other.older.path())[1],
            &segments(log.dir.path())[2],
        )
        .unwrap();
    });
    let sealed =
        Found::Alone("leaves 200 to 299: leaves do not hash to the root signed at size 300");
    check("leaves of another log in the chain", &sealed, |log| {
        rewrite(&entries(log), |index, old| match index {
            200.. => leaf(index + 1),
            _ => old,
        });
    });
    let key = Found::Alone("checkpoint on line 1 is not sound");
    check("entries and checkpoints of another log", &key, |log| {
        let other = other_log();
        fs::copy(&segments(other.path())[0], entries(log)).unwrap();
        for name in CHECKPOINTS {
            fs::copy(other.path().join(name), log.dir.path().join(name)).unwrap();
        }
    });
    let other = Found::ByOutsideCheckpoint("is signed by a key that this log does not have");
    check("another log in its place, key and all", &other, |log| {
        fs::remove_dir_all(log.dir.path()).unwrap();
        copy(other_log().path(), log.dir.path());
    });
}

#[test]
fn a_forged_checkpoint_is_found() {
    let at_13 = Found::Alone("checkpoint on line 15 is not sound");
    check("its size changed", &at_13, |log| {
        edit_records(log, |all| all[2] = all[2].replacen("\n100\n", "\n101\n", 1));
    });
    let at_25 = Found::Alone("checkpoint on line 29 is not sound");
    check("the signature of another", &at_25, |log| {
        edit_records(log, |all| {
            let signature = all[3].lines().find(|line| line.starts_with('—'));
            let signature = signature.unwrap().to_owned();
            let text: Vec<&str> = all[4].lines().collect();
            all[4] = [text[0], text[1], text[2], "", &signature, "", ""].join("\n");
        });
    });
    let last = Found::Alone("last-checkpoint at byte 0: checkpoint on line 1 is not sound");
    check("signed by another key", &last, |log| {
        let other = other_log();
        let path = other.path().join("last-checkpoint");
        fs::copy(path, log.dir.path().join("last-checkpoint")).unwrap();
    });
}
