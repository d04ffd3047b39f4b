//! Evidence bundles prove what they hold to whoever has the key, and nothing once they are changed.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;

use ledger::{
    BatchProof, Checkpoint, Error, Evidence, EvidenceError, HashKind, Ledger, MAX_EVIDENCE_BYTES,
    MAX_EVIDENCE_LEAVES, NoteError, Options, ProofError, PublicKeys, gather,
};
use rawzip::time::UtcDateTime;
use rawzip::{CompressionMethod, ZipArchive, ZipArchiveWriter};

use crate::support::{grow, leaf, open, options, small_segments};

type Files = Vec<(String, Vec<u8>)>;

/// A log with an old checkpoint, a rotation of the keys, and a bundle of some of its leaves.
struct Case {
    dir: tempfile::TempDir,
    /// The keys of epoch 0, as somebody kept them.
    kept: PublicKeys,
    old: Checkpoint,
    evidence: Evidence,
}

const INDEXES: [u64; 3] = [7, 130, 255];

impl Case {
    fn new() -> Case {
        Case::of(HashKind::Blake3)
    }

    fn of(hash: HashKind) -> Case {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            hash,
            ..small_segments()
        };
        let (mut ledger, _) = Ledger::open(dir.path(), &options).unwrap();
        let kept = ledger.public_keys().clone();
        grow(&mut ledger, 200, 20);
        let old = ledger.checkpoint().unwrap();
        grow(&mut ledger, 250, 20);
        ledger.rotate().unwrap();
        grow(&mut ledger, 300, 20);
        ledger.close().unwrap();
        let evidence = gather(dir.path(), &INDEXES.into(), None, Some(&old)).unwrap();
        let evidence = evidence.with_summary("in words\n".into());
        Case {
            dir,
            kept,
            old,
            evidence,
        }
    }

    fn zip(&self) -> Vec<u8> {
        self.evidence.to_zip().unwrap()
    }

    fn files(&self) -> Files {
        unpacked(&self.zip())
    }

    /// What verification says of the bundle with other files, held against the old checkpoint.
    fn verify(&self, files: &Files) -> Result<(), EvidenceError> {
        let evidence = Evidence::from_zip(&packed(files))?;
        let proven = evidence.verify(&self.kept, Some(self.old.note()))?;
        // Only what was proven may be looked at.
        for (index, leaf) in proven.leaves {
            assert_eq!(leaf, crate::evidence::leaf(index));
        }
        Ok(())
    }

    /// What it says once the file was changed.
    fn changed(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> EvidenceError {
        let mut files = self.files();
        let file = files.iter_mut().find(|(other, _)| other == name).unwrap();
        change(&mut file.1);
        self.verify(&files).expect_err("a changed bundle verifies")
    }

    fn replaced(&self, name: &str, from: &str, to: &str) -> EvidenceError {
        self.changed(name, |bytes| {
            let text = String::from_utf8(bytes.clone()).unwrap();
            assert!(text.contains(from), "{text}");
            *bytes = text.replacen(from, to, 1).into_bytes();
        })
    }
}

fn unpacked(zip: &[u8]) -> Files {
    let archive = ZipArchive::from_slice(zip).unwrap();
    let mut entries = archive.entries();
    let mut files = Vec::new();
    while let Some(entry) = entries.next_entry().unwrap() {
        let name = String::from_utf8(entry.file_path().as_bytes().to_vec()).unwrap();
        let data = archive.get_entry(entry.wayfinder()).unwrap();
        files.push((name, data.data().to_vec()));
    }
    files
}

fn packed(files: &Files) -> Vec<u8> {
    packed_as(files, CompressionMethod::STORE)
}

fn packed_as(files: &Files, method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipArchiveWriter::new(Vec::new());
    for (name, bytes) in files {
        let name = rawzip::path::EntryPath::verbatim(name.as_bytes());
        let file = zip.new_file(name).compression_method(method);
        let file = file.unix_permissions(0o644);
        let file = file.last_modified(UtcDateTime::from_unix(315_532_800));
        let (mut entry, config) = file.start().unwrap();
        let mut data = config.wrap(&mut entry);
        data.write_all(bytes).unwrap();
        let (_, descriptor) = data.finish().unwrap();
        entry.finish(descriptor).unwrap();
    }
    zip.finish().unwrap()
}

fn names(files: &Files) -> Vec<&str> {
    files.iter().map(|(name, _)| name.as_str()).collect()
}

fn cause(error: EvidenceError) -> (String, &'static str) {
    match error {
        EvidenceError::File { name, cause } => (name, cause),
        EvidenceError::Archive(cause) => (String::new(), cause),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_bundle_proves_its_leaves_from_the_file_and_the_kept_keys_alone() {
    for hash in [HashKind::Blake3, HashKind::Sha256] {
        let case = Case::of(hash);
        let zip = case.zip();
        assert_eq!(zip, packed(&case.files()), "its bytes are not determined");
        fs::remove_dir_all(case.dir.path()).unwrap();
        let evidence = Evidence::from_zip(&zip).unwrap();
        assert_eq!(evidence, case.evidence);
        let proven = evidence.verify(&case.kept, Some(case.old.note())).unwrap();
        assert_eq!(
            proven.leaves,
            INDEXES.map(|index| (index, leaf(index))).into()
        );
        assert_eq!((proven.hash, proven.checkpoint.size()), (hash, 300));
        assert_eq!(proven.keys.epoch(), 1);
        assert_eq!(proven.keys.fingerprint(), case.kept.fingerprint());
        assert_eq!(proven.outside, Some(case.old));
    }
}

#[test]
fn the_files_of_a_bundle_are_few_and_named() {
    let files = Case::new().files();
    let expected = [
        "summary.txt",
        "keys.txt",
        "checkpoint.txt",
        "proof.txt",
        "consistency/200",
        "consistency/250",
        "leaves/7",
        "leaves/130",
        "leaves/255",
    ];
    assert_eq!(names(&files), expected);
}

#[test]
fn a_changed_file_is_told() {
    let case = Case::new();
    case.verify(&case.files()).unwrap();
    let inclusion = EvidenceError::Inclusion;
    let flipped = case.changed("leaves/130", |leaf| leaf[3] ^= 1);
    assert_eq!(flipped, inclusion(ProofError::Root));
    let longer = case.changed("leaves/7", |leaf| leaf.push(0));
    assert_eq!(longer, inclusion(ProofError::Root));

    let root = case.replaced("checkpoint.txt", "\n300\n", "\n301\n");
    assert_eq!(root, EvidenceError::Checkpoint(NoteError::Signature));
    let unsigned = case.replaced(
        "checkpoint.txt",
        "\u{2014} daemoneye/test",
        "\u{2014} other",
    );
    assert_eq!(unsigned, EvidenceError::Checkpoint(NoteError::NotSigned));
    let cut = case.changed("checkpoint.txt", |note| note.truncate(20));
    assert!(matches!(
        cut,
        EvidenceError::Checkpoint(NoteError::Malformed(_))
    ));

    let other = case.changed("proof.txt", |proof| {
        let text = String::from_utf8(proof.clone()).unwrap();
        let mut batch = BatchProof::parse(&text).unwrap();
        batch.path.pop();
        *proof = batch.to_string().into_bytes();
    });
    assert!(matches!(
        other,
        EvidenceError::Inclusion(ProofError::Length { .. })
    ));
    let hash = case.replaced("proof.txt", "hash blake3", "hash sha256");
    assert_eq!(hash, inclusion(ProofError::Root));
    let index = case.replaced("proof.txt", "index 130", "index 131");
    assert_eq!(cause(index).0, "proof.txt");
    let unsorted = case.replaced("proof.txt", "index 130", "index 6");
    assert_eq!(
        cause(unsorted),
        ("proof.txt".into(), "its indexes do not ascend")
    );

    let from = case.replaced("consistency/200", "from 200", "from 199");
    let (size, other) = (300, 200);
    assert_eq!(from, EvidenceError::Unlinked { size, other });
    let path = case.changed("consistency/200", |proof| {
        let at = proof.len() - 10;
        proof[at] = if proof[at] == b'A' { b'B' } else { b'A' };
    });
    assert!(matches!(path, EvidenceError::Rewritten { .. }), "{path:?}");

    let statement = case.replaced("keys.txt", "\n250\n", "\n249\n");
    assert_eq!(statement, EvidenceError::Keys(NoteError::Signature));
    let first = case.changed("keys.txt", |keys| *keys = keys.split_off(40));
    assert!(matches!(
        first,
        EvidenceError::Keys(NoteError::Malformed(_))
    ));
}

#[test]
fn a_file_that_is_missing_unknown_or_moved_is_told() {
    let case = Case::new();
    for name in ["keys.txt", "checkpoint.txt", "proof.txt"] {
        let mut files = case.files();
        files.retain(|(other, _)| other != name);
        let told = case.verify(&files).unwrap_err();
        assert_eq!(cause(told), (name.into(), "it is missing"));
    }
    let mut files = case.files();
    files.retain(|(name, _)| name != "leaves/130");
    let told = case.verify(&files).unwrap_err();
    let moved = (
        "proof.txt".to_owned(),
        "it is of other leaves than are there",
    );
    assert_eq!(cause(told), moved);
    for name in [
        "leaves/131",
        "leaves/0130",
        "leaves/../keys.txt",
        "../../etc/passwd",
        "/etc/passwd",
        "leaves/",
        "leaves/18446744073709551616",
        "note.txt",
    ] {
        let mut files = case.files();
        files.push((name.into(), Vec::new()));
        let (told, _) = cause(case.verify(&files).unwrap_err());
        assert!(told == name || told == "proof.txt", "{told}");
    }
    // Swapped leaves are leaves at other places.
    let mut files = case.files();
    let at = files.len() - 2;
    let (left, right) = files.split_at_mut(at + 1);
    std::mem::swap(&mut left[at].1, &mut right[0].1);
    let told = case.verify(&files).unwrap_err();
    assert_eq!(told, EvidenceError::Inclusion(ProofError::Root));
}

#[test]
fn an_archive_that_could_be_read_in_two_ways_is_refused() {
    let case = Case::new();
    let check = |zip: &[u8], expected: &str| {
        let told = cause(Evidence::from_zip(zip).unwrap_err());
        assert!(told.1.contains(expected), "{told:?}");
    };
    let twice = |name: &str| {
        let mut files = case.files();
        files.push((name.into(), b"other".to_vec()));
        packed(&files)
    };
    check(&twice("leaves/7"), "there twice");
    check(&twice("summary.txt"), "there twice");
    let zip = case.zip();
    check(&[b"#!/bin/sh\n", &zip[..]].concat(), "directory is damaged");
    check(&[&zip[..], b"more"].concat(), "bytes follow");
    check(&zip[..zip.len() - 1], "no ZIP archive");
    check(b"", "no ZIP archive");
    check(&zip[..100], "no ZIP archive");
    let deflated = packed_as(&case.files(), CompressionMethod::DEFLATE);
    check(&deflated, "must be stored");

    // The name in front of the bytes and that in the directory differ.
    let at = position(&zip, b"leaves/130");
    let mut renamed = zip.clone();
    renamed[at + 9] = b'1';
    check(&renamed, "another name");
    let flipped_at = position(&zip, b"leaf 130");
    let mut flipped = zip.clone();
    flipped[flipped_at] ^= 1;
    check(&flipped, "checksum");

    let many =
        (0..=2 * MAX_EVIDENCE_LEAVES as u64 + 5).map(|at| (format!("leaves/{at}"), Vec::new()));
    check(&packed(&many.collect()), "too many files");
    check(&vec![0; MAX_EVIDENCE_BYTES + 1], "larger than 64 MiB");
}

/// A ZIP archive of files, with what is put into their headers: extra fields and a comment in the
/// directory and in front of the file, the mode, the lengths in front, and what follows.
#[derive(Default)]
struct Raw<'a> {
    record_extra: &'a [u8],
    local_extra: &'a [u8],
    comment: &'a [u8],
    mode: u32,
    local_flags: u16,
    flags: u16,
    longer_in_front: u32,
    follows: &'a [u8],
    after_directory: &'a [u8],
}

impl Raw<'_> {
    fn packed(&self, files: &Files) -> Vec<u8> {
        let (mut zip, mut directory) = (Vec::new(), Vec::new());
        for (name, bytes) in files {
            let len = u32::try_from(bytes.len()).unwrap();
            let sum = [rawzip::crc32(bytes), len, len]
                .map(u32::to_le_bytes)
                .concat();
            let front = [
                rawzip::crc32(bytes),
                len + self.longer_in_front,
                len + self.longer_in_front,
            ];
            let front = front.map(u32::to_le_bytes).concat();
            let u16 = |n: usize| u16::try_from(n).unwrap().to_le_bytes();
            let offset = u32::try_from(zip.len()).unwrap().to_le_bytes();
            let head =
                |flags: u16| [&[20, 0], &flags.to_le_bytes()[..], &[0, 0, 0, 0, 0x21, 0]].concat();
            zip.extend([b"PK\x03\x04", &head(self.local_flags)[..], &front].concat());
            zip.extend([u16(name.len()), u16(self.local_extra.len())].concat());
            zip.extend([name.as_bytes(), self.local_extra, bytes, self.follows].concat());
            directory.extend([b"PK\x01\x02\x14\x03", &head(self.flags)[..], &sum].concat());
            let lens = [
                name.len(),
                self.record_extra.len(),
                self.comment.len(),
                0,
                0,
            ];
            directory.extend(lens.map(u16).concat());
            directory.extend([(self.mode << 16).to_le_bytes(), offset].concat());
            directory.extend([name.as_bytes(), self.record_extra, self.comment].concat());
        }
        let count = u16::try_from(files.len()).unwrap().to_le_bytes();
        let lens = [directory.len(), zip.len()].map(|n| u32::try_from(n).unwrap().to_le_bytes());
        directory.extend(self.after_directory);
        let end = [
            b"PK\x05\x06\0\0\0\0",
            &count[..],
            &count,
            &lens.concat(),
            &[0, 0],
        ]
        .concat();
        [zip, directory, end].concat()
    }
}

/// What one program takes for a bundle and another for something else: 24 bytes behind each file could
/// be of none, and fields that name a file otherwise were passed over.
#[test]
fn an_archive_whose_headers_leave_two_readings_is_refused() {
    let case = Case::new();
    let files = case.files();
    let told = |raw: Raw<'_>| {
        Evidence::from_zip(&raw.packed(&files))
            .map(drop)
            .map_err(cause)
    };
    let refused = |raw: Raw<'_>, expected: &str| {
        let (_, cause) = told(raw).unwrap_err();
        assert!(cause.contains(expected), "{cause}, not {expected}");
    };
    let plain = Raw::default;
    assert_eq!(told(plain()), Ok(()));
    assert_eq!(
        told(Raw {
            mode: 0o100_644,
            ..plain()
        }),
        Ok(())
    );
    // As Info-ZIP adds them: times and owner.
    let times = b"UT\x05\0\x01\0\0\0\0ux\x01\0\x01";
    let extra = Raw {
        record_extra: times,
        local_extra: times,
        ..plain()
    };
    assert_eq!(told(extra), Ok(()));

    // Another name, APPNOTE.TXT 4.6.9, which newer readers prefer.
    let renamed = b"up\x10\0\x01\0\0\0\0summary.txt";
    refused(
        Raw {
            record_extra: renamed,
            ..plain()
        },
        "extra fields",
    );
    refused(
        Raw {
            local_extra: renamed,
            ..plain()
        },
        "extra fields",
    );
    // Other lengths.
    let long = b"\x01\0\x08\0\0\0\0\0\0\0\0\0";
    refused(
        Raw {
            record_extra: long,
            ..plain()
        },
        "extra fields",
    );
    refused(
        Raw {
            local_extra: b"UT\x05\0\0",
            ..plain()
        },
        "extra fields",
    );
    refused(
        Raw {
            local_extra: b"UT",
            ..plain()
        },
        "extra fields",
    );
    refused(
        Raw {
            comment: b"alert 7",
            ..plain()
        },
        "comment",
    );
    refused(
        Raw {
            mode: 0o120_777,
            ..plain()
        },
        "plain file",
    );
    refused(
        Raw {
            longer_in_front: 1,
            ..plain()
        },
        "headers differ",
    );
    refused(
        Raw {
            flags: 1 << 11,
            ..plain()
        },
        "headers differ",
    );
    refused(
        Raw {
            flags: 1 << 13,
            local_flags: 1 << 13,
            ..plain()
        },
        "unknown flags",
    );
    refused(
        Raw {
            follows: b"more",
            ..plain()
        },
        "bytes belong to none",
    );
    refused(
        Raw {
            after_directory: b"more",
            ..plain()
        },
        "",
    );
    // The end says otherwise: disks, files here and in all, length and place of the directory.
    let zip = plain().packed(&files);
    for at in zip.len() - 18..zip.len() {
        let mut changed = zip.clone();
        changed[at] ^= 1;
        Evidence::from_zip(&changed).expect_err(&format!("byte {at} of {}", zip.len()));
    }
    let described = Raw {
        flags: 8,
        local_flags: 8,
        follows: &[0; 16],
        ..plain()
    };
    refused(described, "not as it is");
}

/// All files with the bytes of one, as a bomb does it.
#[test]
fn overlapping_files_are_refused() {
    let case = Case::new();
    let zip = case.zip();
    let archive = ZipArchive::from_slice(&zip).unwrap();
    let mut entries = archive.entries();
    let mut places = Vec::new();
    while let Some(entry) = entries.next_entry().unwrap() {
        places.push((
            entry.central_directory_offset(),
            entry.local_header_offset(),
        ));
    }
    let mut overlapping = zip.clone();
    let (record, _) = places[1];
    // The offset of the file's header, APPNOTE.TXT 4.3.12.
    let at = usize::try_from(record).unwrap() + 42;
    overlapping[at..at + 4].copy_from_slice(&0_u32.to_le_bytes());
    let told = Evidence::from_zip(&overlapping).unwrap_err();
    assert!(matches!(
        told,
        EvidenceError::File { .. } | EvidenceError::Archive(_)
    ));
}

fn position(bytes: &[u8], part: &[u8]) -> usize {
    bytes
        .windows(part.len())
        .position(|window| window == part)
        .unwrap()
}

#[test]
fn a_bundle_is_of_the_log_whose_keys_are_trusted() {
    let (case, other) = (Case::new(), Case::new());
    let told = case.evidence.verify(&other.kept, None).unwrap_err();
    assert_eq!(told, EvidenceError::OtherLog);
    let told = case.evidence.verify(&case.kept, Some(other.old.note()));
    let told = told.unwrap_err();
    assert_eq!(told, EvidenceError::Outside(NoteError::NotSigned));
    // All of another log's but the keys.
    let mut files = other.files();
    files[1] = case.files().swap_remove(1);
    let told = case.verify(&files).unwrap_err();
    assert_eq!(told, EvidenceError::Checkpoint(NoteError::NotSigned));
}

/// A thief of the newest secret puts another leaf into an earlier epoch, and signs for all of it.
#[test]
fn later_keys_vouch_for_no_leaf_of_an_earlier_epoch() {
    let (genuine, forged) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut ledger = open(genuine.path());
    grow(&mut ledger, 5, 2);
    ledger.rotate().unwrap();
    grow(&mut ledger, 12, 2);
    let keys = ledger.public_keys().clone();
    ledger.close().unwrap();
    let secret = genuine.path().join("ledger.key");
    fs::copy(secret, forged.path().join("ledger.key")).unwrap();
    let mut ledger = open(forged.path());
    for index in 0..12 {
        let forged = || b"forged".to_vec();
        let leaf = if index == 4 { forged() } else { leaf(index) };
        ledger.append(&leaf).unwrap();
    }
    ledger.close().unwrap();

    let of = |dir: &Path| gather(dir, &[4, 8].into(), None, None).unwrap();
    of(genuine.path()).verify(&keys, None).unwrap();
    // The bundle as of a log that began with the stolen keys, and the genuine log's keys put in.
    let mut files = unpacked(&of(forged.path()).to_zip().unwrap());
    assert_eq!(files[1].0, "keys.txt");
    files[1].1 = keys.to_string().into_bytes();
    let evidence = Evidence::from_zip(&packed(&files)).unwrap();
    let told = evidence.verify(&keys, None).unwrap_err();
    assert_eq!(told, EvidenceError::Epoch { index: 4, size: 5 });
    let proof = unpacked(&of(genuine.path()).to_zip().unwrap());
    let proof = proof.into_iter().find(|(name, _)| name == "consistency/5");
    files.extend(proof);
    let evidence = Evidence::from_zip(&packed(&files)).unwrap();
    let told = evidence.verify(&keys, None).unwrap_err();
    assert!(
        matches!(told, EvidenceError::Rewritten { other: 5, .. }),
        "{told:?}"
    );
}

/// A thief of an erased epoch's secret could have signed for later sizes; who knows of the rotation
/// that the bundle hides sees it.
#[test]
fn a_hidden_rotation_is_seen_by_who_knows_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    grow(&mut ledger, 100, 10);
    ledger.close().unwrap();
    let stolen = tempfile::tempdir().unwrap();
    crate::support::copy(dir.path(), stolen.path());
    let mut ledger = open(dir.path());
    ledger.rotate().unwrap();
    let keys = ledger.public_keys().clone();
    drop(ledger);
    let mut forger = open(stolen.path());
    grow(&mut forger, 200, 10);
    forger.close().unwrap();
    let forged = gather(stolen.path(), &[150].into(), None, None).unwrap();
    let told = forged.verify(&keys, None).unwrap_err();
    assert_eq!(told, EvidenceError::Checkpoint(NoteError::Epoch));
    let first = fs::read_to_string(dir.path().join("ledger.pub")).unwrap();
    let first = PublicKeys::parse(&first).unwrap();
    forged.verify(&first, None).expect("nothing shows it");
}

#[test]
fn a_bundle_leads_to_newer_and_older_checkpoints_and_not_to_another_history() {
    let case = Case::new();
    let mut ledger = Ledger::open(case.dir.path(), &options()).unwrap().0;
    let proven = case.evidence.verify(&case.kept, None).unwrap();
    assert_eq!(proven.outside, None);
    let at = proven.checkpoint;
    grow(&mut ledger, 333, 10);
    let newer = ledger.close().unwrap();
    // To itself and from the empty tree nothing needs to lead.
    case.evidence.verify(&case.kept, Some(at.note())).unwrap();
    let unlinked = case.evidence.verify(&case.kept, Some(newer.note()));
    let (size, other) = (300, 333);
    assert_eq!(unlinked, Err(EvidenceError::Unlinked { size, other }));
    let linked = gather(case.dir.path(), &INDEXES.into(), Some(&at), Some(&newer)).unwrap();
    let linked = linked.verify(&case.kept, Some(newer.note())).unwrap();
    assert_eq!(linked.outside, Some(newer.clone()));

    // The same log continued in another way, from a copy that was made before.
    let other = tempfile::tempdir().unwrap();
    crate::support::copy(case.dir.path(), other.path());
    let mut ledger = open(case.dir.path());
    grow(&mut ledger, 400, 10);
    let here = ledger.close().unwrap();
    let mut ledger = open(other.path());
    ledger.append(b"something else").unwrap();
    grow(&mut ledger, 400, 10);
    let there = ledger.close().unwrap();
    let evidence = gather(case.dir.path(), &[7].into(), None, Some(&newer)).unwrap();
    let told = evidence.verify(&case.kept, Some(there.note())).unwrap_err();
    assert!(matches!(told, EvidenceError::Rewritten { .. }), "{told:?}");
    let told = gather(case.dir.path(), &[7].into(), Some(&at), Some(&there)).unwrap_err();
    assert!(matches!(
        told,
        Error::HistoryRewritten {
            checkpoint_size: 400
        }
    ));
    evidence.verify(&case.kept, Some(here.note())).unwrap();
}

#[test]
fn a_bundle_is_made_beside_a_writer_and_equals_one_made_later() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    grow(&mut ledger, 3000, 500);
    ledger.checkpoint().unwrap();
    ledger.append(b"not signed for").unwrap();
    ledger.commit().unwrap();
    let indexes: BTreeSet<u64> = [0, 255, 256, 1999, 2999].into();
    let beside = gather(dir.path(), &indexes, None, None).unwrap();
    let beyond = gather(dir.path(), &[3000].into(), None, None).unwrap_err();
    let Error::NotIntegrated {
        index: 3000,
        sealed: 3000,
    } = beyond
    else {
        panic!("{beyond:?}");
    };
    drop(ledger);
    let later = gather(dir.path(), &indexes, None, None).unwrap();
    assert_eq!(later.to_zip().unwrap(), beside.to_zip().unwrap());
}

#[test]
fn damaged_leaves_and_too_many_are_no_evidence() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = open(dir.path());
    grow(&mut ledger, 1200, 300);
    ledger.close().unwrap();
    let none = gather(dir.path(), &BTreeSet::new(), None, None).unwrap_err();
    assert!(matches!(none, Error::Evidence(_)), "{none:?}");
    let all = gather(dir.path(), &(0..1001).collect(), None, None).unwrap_err();
    assert!(matches!(all, Error::Evidence(_)), "{all:?}");
    gather(dir.path(), &(0..1000).collect(), None, None).unwrap();
    flip(&crate::support::last_segment(dir.path()), b"leaf 77 ");
    let damaged = gather(dir.path(), &[77].into(), None, None).unwrap_err();
    assert!(matches!(damaged, Error::Damaged(_)), "{damaged:?}");
}

fn flip(file: &Path, part: &[u8]) {
    let mut bytes = fs::read(file).unwrap();
    let at = position(&bytes, part);
    bytes[at] ^= 1;
    fs::write(file, bytes).unwrap();
}
