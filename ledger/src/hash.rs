use std::fmt;

use sha2::Digest;

/// A 32-byte hash: of a leaf, of a node, or a root.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash(pub [u8; Hash::LEN]);

impl Hash {
    /// Bytes in a hash.
    pub const LEN: usize = 32;

    /// The first 32 of `bytes` as a hash, if there are that many.
    pub(crate) fn read(bytes: &[u8]) -> Option<Hash> {
        Some(Hash(*bytes.first_chunk()?))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The tree's hash function, chosen when a log is created and never changed.
///
/// Stock C2SP tools and public witnesses check checkpoints of both, but proofs of `Sha256` only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HashKind {
    /// BLAKE3.
    #[default]
    Blake3,
    /// SHA-256, as in RFC 6962.
    Sha256,
}

/// RFC 6962, section 2.1: leaves and nodes are hashed apart, so neither can pass for the other.
const LEAF_PREFIX: u8 = 0x00;
const NODE_PREFIX: u8 = 0x01;

impl HashKind {
    /// Its name in text formats.
    pub fn name(self) -> &'static str {
        match self {
            HashKind::Blake3 => "blake3",
            HashKind::Sha256 => "sha256",
        }
    }

    /// The kind with that name.
    pub fn from_name(name: &str) -> Option<HashKind> {
        [HashKind::Blake3, HashKind::Sha256]
            .into_iter()
            .find(|kind| kind.name() == name)
    }

    /// Its code in a segment header.
    pub(crate) fn code(self) -> u8 {
        match self {
            HashKind::Blake3 => 1,
            HashKind::Sha256 => 2,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<HashKind> {
        [HashKind::Blake3, HashKind::Sha256]
            .into_iter()
            .find(|kind| kind.code() == code)
    }

    /// The leaf hash of `leaf`.
    pub fn leaf(self, leaf: &[u8]) -> Hash {
        self.digest(&[&[LEAF_PREFIX], leaf])
    }

    /// The leaf hash of `leaf`, whose link in the chain is `link`: with BLAKE3 they are the same.
    pub(crate) fn linked_leaf(self, link: Hash, leaf: &[u8]) -> Hash {
        match self {
            HashKind::Blake3 => link,
            HashKind::Sha256 => self.leaf(leaf),
        }
    }

    /// The hash of the node over `left` and `right`.
    pub fn node(self, left: Hash, right: Hash) -> Hash {
        let mut input = [0; 1 + 2 * Hash::LEN];
        input[0] = NODE_PREFIX;
        input[1..33].copy_from_slice(&left.0);
        input[33..].copy_from_slice(&right.0);
        self.digest(&[&input])
    }

    /// The root of the tree without leaves.
    pub fn empty(self) -> Hash {
        self.digest(&[])
    }

    fn digest(self, parts: &[&[u8]]) -> Hash {
        match self {
            HashKind::Blake3 => blake3_of(parts),
            HashKind::Sha256 => {
                let mut hasher = sha2::Sha256::new();
                parts.iter().for_each(|part| hasher.update(part));
                Hash(hasher.finalize().into())
            }
        }
    }
}

/// Keys the chain, so that no other hash in the log can be mistaken for a chain value. Unlike a
/// prefix it leaves room for both hashes in one block, which is all that a link costs.
const CHAIN_KEY: &[u8; 32] = b"daemoneye ledger chain, format 1";
const GENESIS_DOMAIN: &[u8; 16] = b"daemoneye.start1";

/// The chain value before the first leaf: binds the log's name and tree hash.
pub(crate) fn chain_start(origin: &str, kind: HashKind) -> Hash {
    blake3_of(&[GENESIS_DOMAIN, &[kind.code()], origin.as_bytes()])
}

/// What of a leaf is chained: its leaf hash, always in BLAKE3.
pub(crate) fn chain_link(leaf: &[u8]) -> Hash {
    HashKind::Blake3.leaf(leaf)
}

/// The chain value after the leaf with that link.
pub(crate) fn chain_next(previous: Hash, link: Hash) -> Hash {
    let mut input = [0; 2 * Hash::LEN];
    input[..32].copy_from_slice(&previous.0);
    input[32..].copy_from_slice(&link.0);
    Hash(*blake3::keyed_hash(CHAIN_KEY, &input).as_bytes())
}

/// The origin as it stands in a segment header.
pub(crate) fn origin_hash(origin: &str) -> Hash {
    blake3_of(&[origin.as_bytes()])
}

pub(crate) fn blake3_of(parts: &[&[u8]]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    Hash(*hasher.finalize().as_bytes())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::proof::{consistency_path, inclusion_path};
    use crate::tree::{Frontier, hash_of, split};

    /// The leaves of the Certificate Transparency reference tests.
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

    #[test]
    fn sha256_roots_are_those_of_certificate_transparency() {
        let roots = [
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
        let mut tree = Frontier::new(HashKind::Sha256);
        for (size, root) in roots.iter().enumerate() {
            assert_eq!(tree.root().to_string(), *root, "size {size}");
            if let Some(leaf) = LEAVES.get(size) {
                tree.push(HashKind::Sha256.leaf(leaf), |_, _| {});
            }
        }
    }

    #[test]
    fn sha256_proofs_are_those_of_certificate_transparency() {
        let check = |path: Vec<std::ops::Range<u64>>, expected: &[&str]| {
            let starts = path
                .iter()
                .map(|leaves| root(leaves).to_string()[..8].to_owned());
            assert_eq!(starts.collect::<Vec<_>>(), expected, "{path:?}");
        };
        check(inclusion_path(0, 1), &[]);
        check(inclusion_path(0, 8), &["96a296d2", "5f083f0a", "6b47aaf2"]);
        check(inclusion_path(5, 8), &["bc1a0643", "ca854ea1", "d37ee418"]);
        check(inclusion_path(2, 3), &["fac54203"]);
        check(inclusion_path(1, 5), &["6e340b9c", "5f083f0a", "bc1a0643"]);
        check(consistency_path(1, 1), &[]);
        check(
            consistency_path(1, 8),
            &["96a296d2", "5f083f0a", "6b47aaf2"],
        );
        check(
            consistency_path(6, 8),
            &["0ebc5d34", "ca854ea1", "d37ee418"],
        );
        check(consistency_path(2, 5), &["5f083f0a", "bc1a0643"]);
    }

    fn root(leaves: &std::ops::Range<u64>) -> Hash {
        let kind = HashKind::Sha256;
        match leaves.end - leaves.start {
            1 => kind.leaf(LEAVES[usize::try_from(leaves.start).unwrap()]),
            n => {
                let middle = leaves.start + split(n);
                kind.node(root(&(leaves.start..middle)), root(&(middle..leaves.end)))
            }
        }
    }

    #[test]
    fn subtrees_fold_to_the_range() {
        let node = |node: crate::tree::Node| {
            Ok::<_, ()>(root(
                &(node.index << node.level..(node.index + 1) << node.level),
            ))
        };
        assert_eq!(hash_of(HashKind::Sha256, &(0..7), node), Ok(root(&(0..7))));
        assert_eq!(hash_of(HashKind::Sha256, &(4..7), node), Ok(root(&(4..7))));
    }

    /// rs_merkle with RFC 6962's prefixes: a second implementation of the same tree.
    #[derive(Clone)]
    pub(crate) struct Blake3Nodes;

    impl rs_merkle::Hasher for Blake3Nodes {
        type Hash = [u8; 32];

        fn hash(leaf: &[u8]) -> [u8; 32] {
            HashKind::Blake3.leaf(leaf).0
        }

        fn concat_and_hash(left: &[u8; 32], right: Option<&[u8; 32]>) -> [u8; 32] {
            right.map_or(*left, |right| {
                HashKind::Blake3.node(Hash(*left), Hash(*right)).0
            })
        }
    }

    #[test]
    fn rs_merkle_builds_the_same_trees() {
        let mut ours = Frontier::new(HashKind::Blake3);
        let mut leaves = Vec::new();
        for i in 0..130_u8 {
            let leaf = HashKind::Blake3.leaf(&[i]);
            ours.push(leaf, |_, _| {});
            leaves.push(leaf.0);
            let theirs = rs_merkle::MerkleTree::<Blake3Nodes>::from_leaves(&leaves);
            assert_eq!(
                theirs.root(),
                Some(ours.root().0),
                "{} leaves",
                leaves.len()
            );
            let index = usize::from(i / 2);
            let path = theirs.proof(&[index]);
            let path: Vec<Hash> = path.proof_hashes().iter().copied().map(Hash).collect();
            let size = u64::from(i) + 1;
            let leaf = Hash(leaves[index]);
            let (kind, root) = (HashKind::Blake3, ours.root());
            let verified = crate::verify_inclusion(kind, u64::from(i / 2), size, leaf, &path, root);
            assert_eq!(verified, Ok(()), "{size} leaves");
        }
    }
}
