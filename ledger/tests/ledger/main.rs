//! What a ledger promises, held against a real directory.

mod crash;
mod evidence;
mod format;
mod life;
mod matrix;
mod parsers;
mod proofs;
mod readers;
mod recovery;
mod retention;
mod rfc6962;
mod rotation;
mod seals;
mod start;
mod support;
mod tamper;
mod tree_file;
