//! Inclusion proofs as self-contained text files: <https://c2sp.org/tlog-proof>.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::checkpoint::{Checkpoint, parse_decimal, parse_hash};
use crate::hash::{Hash, HashKind};
use crate::keys::PublicKeys;
use crate::note::{MAX_NOTE_BYTES, NoteError, SignedNote};
use crate::proof::{ProofError, verify_inclusion};

const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// A tree of 2^64 leaves has paths of 64 hashes.
const MAX_PATH: usize = 64;

/// Why a proof text was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlogProofError {
    /// The text is not of the form it must have.
    #[error("malformed proof: {0}")]
    Malformed(&'static str),
    /// Its checkpoint is malformed or does not verify.
    #[error("checkpoint in the proof is not sound")]
    Checkpoint(#[from] NoteError),
    /// The checkpoint is of a later epoch than the leaf.
    #[error(
        "checkpoint is signed by keys of a later epoch than the leaf, which do not vouch for it"
    )]
    Epoch,
    /// It does not prove this leaf.
    #[error(transparent)]
    Inclusion(#[from] ProofError),
}

/// An inclusion proof and the signed checkpoint it leads to. Not verified when parsed.
///
/// The `extra` line names the tree hash when it is not SHA-256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlogProof {
    /// The tree's hash function.
    pub hash: HashKind,
    /// The leaf index.
    pub index: u64,
    /// The sibling hashes, leaf side first.
    pub path: Vec<Hash>,
    /// The signed checkpoint.
    pub note: String,
}

impl TlogProof {
    /// Reads a `.tlog-proof` file.
    pub fn parse(text: &str) -> Result<TlogProof, TlogProofError> {
        let malformed = TlogProofError::Malformed;
        let (proof, note) = text
            .split_once("\n\n")
            .ok_or(malformed("no blank line before the checkpoint"))?;
        let mut lines = proof.split('\n').peekable();
        if lines.next() != Some(HEADER) {
            return Err(malformed("not a tlog-proof"));
        }
        let extra = lines.next_if(|line| line.starts_with("extra "));
        let hash = extra.map_or(Some(HashKind::Sha256), parse_extra);
        let hash = hash.ok_or(malformed("extra line names no known hash"))?;
        let index = lines.next().and_then(|line| line.strip_prefix("index "));
        let index = index.and_then(parse_decimal).ok_or(malformed("index"))?;
        let path: Option<Vec<Hash>> = lines.take(MAX_PATH + 1).map(parse_hash).collect();
        let path = path.ok_or(malformed("hash"))?;
        if path.len() > MAX_PATH || note.len() > MAX_NOTE_BYTES {
            return Err(malformed("too long"));
        }
        SignedNote::parse(note)?;
        Ok(TlogProof {
            hash,
            index,
            path,
            note: note.to_owned(),
        })
    }

    /// Verifies that `leaf` is in the log of `keys`, at the proof's index; returns the checkpoint, which
    /// must be of the leaf's own epoch.
    pub fn verify(&self, leaf: &[u8], keys: &PublicKeys) -> Result<Checkpoint, TlogProofError> {
        let checkpoint = Checkpoint::open(&self.note, keys)?;
        let (size, root) = (checkpoint.size(), checkpoint.root());
        if self.index < keys.first_leaf_at(size) {
            return Err(TlogProofError::Epoch);
        }
        verify_inclusion(
            self.hash,
            self.index,
            size,
            self.hash.leaf(leaf),
            &self.path,
            root,
        )?;
        Ok(checkpoint)
    }
}

impl fmt::Display for TlogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        if self.hash != HashKind::Sha256 {
            writeln!(f, "extra {}", STANDARD.encode(self.hash.name()))?;
        }
        writeln!(f, "index {}", self.index)?;
        self.path
            .iter()
            .try_for_each(|hash| writeln!(f, "{}", STANDARD.encode(hash.0)))?;
        write!(f, "\n{}", self.note)
    }
}

fn parse_extra(line: &str) -> Option<HashKind> {
    let name = STANDARD.decode(line.strip_prefix("extra ")?).ok()?;
    HashKind::from_name(std::str::from_utf8(&name).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::batch_path;
    use crate::proof::inclusion_path;

    /// Of the page's log, at a size of so many digits.
    const NOTE: &str = "daemoneye/golden\n1000000000\nSBhvLq9C3TZ+vL8JijTvqdSgtfekkbcQ1N5ZpbWFHFI=\n\n\
        \u{2014} daemoneye/golden yH1sKSh3Nfocs9A4uvy6OAuhQngh1hkWrG6F8tDwwD3JNhIHQ9HzGHVnRgAOJYGn/eTa+d2BTyAoOKepEp4TmE6dVQ8=\n\
        \u{2014} daemoneye/golden JSmZ9QAAAABlU/EAIifsfpJP4mSUgYjMIkRB7tBU1itLog9skO6XZovj1Rm8HvqfWneZEpjO225ZgaWBDEO1sCR6HC5SfYNFnIWcAQ==\n";

    #[test]
    fn a_proof_in_a_billion_leaves_has_less_than_2_kib() {
        let size = 1_000_000_000;
        let most = (0..size).step_by(999_983).map(|index| {
            let path = inclusion_path(index, size);
            assert_eq!(path, batch_path(&[index], size));
            let proof = TlogProof {
                hash: HashKind::Blake3,
                index,
                path: vec![Hash([7; 32]); path.len()],
                note: NOTE.to_owned(),
            };
            proof.to_string().len()
        });
        assert_eq!(most.max(), Some(1719));
    }
}
