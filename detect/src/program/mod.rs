//! All rules of one stream as one program.
//!
//! What rules ask of an event overlaps: a thousand of them ask for some hundred program names.
//! Each distinct leaf of their conditions is an *atom* (`atom.rs`), decided at most once for an
//! event. *Facts* (`fact.rs`) are texts that an event must show for a clause to be true; all of
//! them are looked for at once (`lookup.rs`), which leaves a few candidate clauses. Only those are
//! evaluated (`run.rs`), and most of their atoms are facts that have been looked for already.
//!
//! In front stands a cache of results (`cache.rs`).
//!
//! `eval.rs` says what the same conditions mean, one after the other; both must agree.

mod atom;
mod build;
mod cache;
mod digests;
mod fact;
mod grams;
mod halves;
mod lookup;
mod node;
mod row;
mod run;

pub(crate) use cache::Cache;
pub(crate) use fact::rarest;
pub(crate) use halves::Halves;
pub(crate) use run::{Memo, Satisfied};
