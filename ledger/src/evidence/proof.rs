//! The texts of proofs in a bundle: a line that names the kind, numbers, and hashes in base64.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::MAX_EVIDENCE_LEAVES;
use crate::batch;
use crate::checkpoint::{parse_decimal, parse_hash};
use crate::hash::{Hash, HashKind};

const BATCH: &str = "daemoneye batch proof v1";
const CONSISTENCY: &str = "daemoneye consistency proof v1";

/// Most hashes in the proof of one leaf, or of consistency: a tree of 2^64 leaves has 64 levels.
const MAX_PATH: usize = 64;

/// An inclusion proof of several leaves; what it leads to is in a checkpoint. Not verified when
/// parsed, see [`verify_batch`](crate::verify_batch).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchProof {
    /// The tree's hash function.
    pub hash: HashKind,
    /// The leaf indexes, ascending.
    pub indexes: Vec<u64>,
    /// The hashes that complete the tree.
    pub path: Vec<Hash>,
}

impl BatchProof {
    /// Reads what a `BatchProof` displays as, and nothing else.
    pub fn parse(text: &str) -> Result<BatchProof, &'static str> {
        let mut lines = lines(text)?.peekable();
        if lines.next() != Some(BATCH) {
            return Err("it is no batch proof");
        }
        let hash = lines.next().and_then(|line| line.strip_prefix("hash "));
        let hash = hash.and_then(HashKind::from_name);
        let hash = hash.ok_or("it names no known hash")?;
        let mut indexes = Vec::new();
        while let Some(index) = lines.peek().and_then(|line| line.strip_prefix("index ")) {
            indexes.push(parse_decimal(index).ok_or("an index is not a number")?);
            lines.next();
            if indexes.len() > MAX_EVIDENCE_LEAVES {
                return Err("it is of too many leaves");
            }
        }
        batch::check_indexes(indexes.iter().copied(), u64::MAX)
            .map_err(|_| "its indexes do not ascend")?;
        let path = hashes(lines, MAX_PATH * indexes.len())?;
        Ok(BatchProof {
            hash,
            indexes,
            path,
        })
    }
}

impl fmt::Display for BatchProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{BATCH}\nhash {}", self.hash.name())?;
        let mut indexes = self.indexes.iter();
        indexes.try_for_each(|index| writeln!(f, "index {index}"))?;
        write_hashes(f, &self.path)
    }
}

/// A proof that one tree begins with another; what their roots are is in checkpoints. Not verified
/// when parsed, see [`verify_consistency`](crate::verify_consistency).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsistencyProof {
    /// Leaves in the smaller tree.
    pub from: u64,
    /// Leaves in the larger one.
    pub to: u64,
    /// The hashes of RFC 9162, section 2.1.4.
    pub path: Vec<Hash>,
}

impl ConsistencyProof {
    /// Reads what a `ConsistencyProof` displays as, and nothing else.
    pub fn parse(text: &str) -> Result<ConsistencyProof, &'static str> {
        let mut lines = lines(text)?;
        if lines.next() != Some(CONSISTENCY) {
            return Err("it is no consistency proof");
        }
        let mut size = |name| {
            let line: Option<&str> = lines.next();
            let size = line.and_then(|line| line.strip_prefix(name));
            size.and_then(parse_decimal).ok_or("a size is not a number")
        };
        Ok(ConsistencyProof {
            from: size("from ")?,
            to: size("to ")?,
            path: hashes(lines, MAX_PATH)?,
        })
    }
}

impl fmt::Display for ConsistencyProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{CONSISTENCY}\nfrom {}\nto {}", self.from, self.to)?;
        write_hashes(f, &self.path)
    }
}

fn lines(text: &str) -> Result<std::str::Split<'_, char>, &'static str> {
    Ok(text
        .strip_suffix('\n')
        .ok_or("it is cut short")?
        .split('\n'))
}

fn hashes<'a>(
    lines: impl Iterator<Item = &'a str>,
    most: usize,
) -> Result<Vec<Hash>, &'static str> {
    let hashes: Option<Vec<Hash>> = lines.take(most + 1).map(parse_hash).collect();
    let hashes = hashes.ok_or("a hash is malformed")?;
    match hashes.len() <= most {
        true => Ok(hashes),
        false => Err("it has too many hashes"),
    }
}

fn write_hashes(f: &mut fmt::Formatter<'_>, path: &[Hash]) -> fmt::Result {
    let mut path = path.iter();
    path.try_for_each(|hash| writeln!(f, "{}", STANDARD.encode(hash.0)))
}
