//! The test vectors that Certificate Transparency's implementations share (leaves, hashes, proofs and
//! ways to spoil them, as in <https://github.com/transparency-dev/merkle>), and other
//! implementations' word on what a log of SHA-256 gives out.

use ledger::{
    Hash, HashKind, Ledger, Options, ProofError, verify_batch, verify_consistency, verify_inclusion,
};
use sha2::Sha256;

use crate::support::{grow, leaf, options};

const KIND: HashKind = HashKind::Sha256;

const LEAVES: [&[u8]; 8] = [
    b"",
    b"\x00",
    b"\x10",
    b"\x20\x21",
    b"\x30\x31",
    b"\x40\x41\x42\x43",
    b"\x50\x51\x52\x53\x54\x55\x56\x57",
    b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
];

/// Of the trees of 0 to 8 leaves.
const ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

/// Index, size, path.
const INCLUSION: [(u64, u64, &[&str]); 5] = [
    (0, 1, &[]),
    (
        0,
        8,
        &[
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        5,
        8,
        &[
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (
        2,
        3,
        &["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    ),
    (
        1,
        5,
        &[
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
];

/// Old size, new size, path.
const CONSISTENCY: [(u64, u64, &[&str]); 5] = [
    (1, 1, &[]),
    (
        1,
        8,
        &[
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        6,
        8,
        &[
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (
        2,
        5,
        &[
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
    (
        6,
        7,
        &[
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
];

/// Belongs to nothing.
const SOME_HASH: &str = "abacaba000000000000000000000000000000000000000000060061e00123456";

fn hash(hex: &str) -> Hash {
    let byte = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap();
    Hash(std::array::from_fn(byte))
}

fn hashes(hex: &[&str]) -> Vec<Hash> {
    hex.iter().copied().map(hash).collect()
}

fn root(size: u64) -> Hash {
    hash(ROOTS[usize::try_from(size).unwrap()])
}

fn log(dir: &tempfile::TempDir) -> Ledger {
    let options = Options {
        hash: KIND,
        ..options()
    };
    Ledger::open(dir.path(), &options).unwrap().0
}

#[test]
fn a_log_has_the_published_roots_and_gives_out_the_published_proofs() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = log(&dir);
    let mut checkpoints = vec![ledger.last_checkpoint().unwrap().clone()];
    for leaf in LEAVES {
        ledger.append(leaf).unwrap();
        checkpoints.push(ledger.checkpoint().unwrap());
    }
    for (size, checkpoint) in (0..).zip(&checkpoints) {
        assert_eq!((checkpoint.size(), checkpoint.root()), (size, root(size)));
    }
    for (index, size, path) in INCLUSION {
        let at = &checkpoints[usize::try_from(size).unwrap()];
        let proof = ledger.prove(index, Some(at)).unwrap();
        assert_eq!(proof.path, hashes(path), "{index} of {size}");
    }
    for (old, new, path) in CONSISTENCY {
        let proof = ledger.prove_consistency(old, new).unwrap();
        assert_eq!(proof, hashes(path), "{old} to {new}");
    }
}

/// With all that is to spoil it: other numbers, roots and leaves, hashes changed, added, left out.
#[test]
fn the_published_inclusion_proofs_verify_and_spoiled_ones_do_not() {
    for (index, size, path) in INCLUSION {
        let leaf = KIND.leaf(LEAVES[usize::try_from(index).unwrap()]);
        let (path, root) = (hashes(path), root(size));
        let verify = |index, size, leaf, path: &[Hash], root| {
            let one = verify_inclusion(KIND, index, size, leaf, path, root);
            // The proof of a batch of one is the same, and so is what is said of it.
            let batch = verify_batch(KIND, &[(index, leaf)], size, path, root);
            assert_eq!(one.is_ok(), batch.is_ok(), "{index} of {size}");
            one
        };
        assert_eq!(verify(index, size, leaf, &path, root), Ok(()));
        let rejects = |index, size, leaf, path: &[Hash], root| {
            let verified = verify(index, size, leaf, path, root);
            verified.expect_err("a spoiled proof verifies");
        };
        for wrong in [index.wrapping_sub(1), index + 1, index ^ 2] {
            rejects(wrong, size, leaf, &path, root);
        }
        rejects(index, size / 2, leaf, &path, root);
        if size > 1 {
            rejects(index, size * 2, leaf, &path, root);
        }
        for wrong in [KIND.empty(), hash(SOME_HASH)] {
            rejects(index, size, wrong, &path, root);
            rejects(index, size, leaf, &path, wrong);
        }
        for spoiled in spoiled(&path, &[root, hash(SOME_HASH)]) {
            rejects(index, size, leaf, &spoiled, root);
        }
    }
}

#[test]
fn the_published_consistency_proofs_verify_and_spoiled_ones_do_not() {
    for (old, new, path) in CONSISTENCY {
        let (path, old_root, new_root) = (hashes(path), root(old), root(new));
        let verify = |old, new, old_root, new_root, path: &[Hash]| {
            verify_consistency(KIND, old, old_root, new, new_root, path)
        };
        assert_eq!(verify(old, new, old_root, new_root, &path), Ok(()));
        for spoiled in spoiled(&path, &[old_root, new_root]) {
            verify(old, new, old_root, new_root, &spoiled).unwrap_err();
        }
        if old == new {
            continue;
        }
        for wrong in [old - 1, old + 1, old ^ 2] {
            verify(wrong, new, old_root, new_root, &path).unwrap_err();
        }
        for wrong in [new / 2, new * 2] {
            verify(old, wrong, old_root, new_root, &path).unwrap_err();
        }
        let wrong = hash(SOME_HASH);
        verify(old, new, wrong, new_root, &path).unwrap_err();
        verify(old, new, old_root, wrong, &path).unwrap_err();
        verify(old, new, new_root, old_root, &path).unwrap_err();
        verify(old, new, old_root, new_root, &[]).unwrap_err();
    }
    let back = verify_consistency(KIND, 2, root(2), 1, root(1), &[]);
    assert_eq!(back, Err(ProofError::SizesReversed { old: 2, new: 1 }));
}

/// The path with each of `foreign` before and behind it, one hash less, one twice, one bit flipped.
fn spoiled(path: &[Hash], foreign: &[Hash]) -> Vec<Vec<Hash>> {
    let mut spoiled = Vec::new();
    for hash in foreign {
        spoiled.push([path, &[*hash]].concat());
        spoiled.push([&[*hash], path].concat());
    }
    if let [first, rest @ ..] = path {
        spoiled.push([&[*first], path].concat());
        spoiled.push(rest.to_vec());
        spoiled.push(path[..path.len() - 1].to_vec());
        spoiled.push([&[*first, foreign[0]], rest].concat());
    }
    for at in 0..path.len() {
        let mut flipped = path.to_vec();
        flipped[at].0[0] ^= 8;
        spoiled.push(flipped);
    }
    spoiled
}

/// Sizes around the edges of tiles, and some beyond.
const SIZES: [u64; 11] = [1, 2, 3, 7, 8, 100, 255, 256, 257, 600, 1025];

/// Checkpoint, inclusion and consistency, as a stock verifier of tiled logs checks them.
#[test]
fn tlog_tiles_accepts_what_a_log_gives_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut ledger = log(&dir);
    let mut before: Option<ledger::Checkpoint> = None;
    let theirs = |hash: Hash| tlog_tiles::Hash(hash.0);
    let proof = |path: Vec<Hash>| path.into_iter().map(theirs).collect::<Vec<_>>();
    for size in SIZES {
        grow(&mut ledger, size, 100);
        let checkpoint = ledger.checkpoint().unwrap();
        let (text, _) = checkpoint.note().split_once("\n\n").unwrap();
        let text = format!("{text}\n");
        let read = tlog_tiles::Checkpoint::from_bytes(text.as_bytes()).unwrap();
        assert_eq!((read.origin(), read.size()), ("daemoneye/test", size));
        let root = *read.hash();
        for index in (0..size).step_by(37) {
            let ours = ledger.prove(index, None).unwrap();
            let path = proof(ours.path);
            let record = tlog_tiles::record_hash(&leaf(index));
            tlog_tiles::check_record(&path, size, root, index, record).unwrap();
            tlog_tiles::check_record(&path, size, root, (index + 1) % size, record)
                .err()
                .or((size == 1).then_some(tlog_tiles::Error::InvalidProof))
                .expect("it is of another leaf");
        }
        if let Some(old) = before.replace(checkpoint.clone()) {
            let path = proof(ledger.prove_consistency(old.size(), size).unwrap());
            tlog_tiles::check_tree(&path, size, root, old.size(), theirs(old.root())).unwrap();
        }
    }
}

#[test]
fn ct_merkle_accepts_what_a_log_gives_out() {
    use ct_merkle::{ConsistencyProof, InclusionProof, RootHash};

    let dir = tempfile::tempdir().unwrap();
    let mut ledger = log(&dir);
    let mut before: Option<RootHash<Sha256>> = None;
    let bytes = |path: Vec<Hash>| path.iter().flat_map(|hash| hash.0).collect::<Vec<u8>>();
    for size in SIZES {
        grow(&mut ledger, size, 100);
        let checkpoint = ledger.checkpoint().unwrap();
        let root = RootHash::<Sha256>::new(checkpoint.root().0.into(), size);
        for index in (0..size).step_by(37) {
            let path = bytes(ledger.prove(index, None).unwrap().path);
            let proof = InclusionProof::try_from_bytes(path).unwrap();
            root.verify_inclusion(&leaf(index), index, &proof).unwrap();
            let other = root.verify_inclusion(&b"other", index, &proof);
            other.expect_err("it is of another leaf");
        }
        if let Some(old) = before.replace(root.clone()) {
            let path = ledger.prove_consistency(old.num_leaves(), size).unwrap();
            let proof = ConsistencyProof::try_from_bytes(bytes(path)).unwrap();
            root.verify_consistency(&old, &proof).unwrap();
        }
    }
}
