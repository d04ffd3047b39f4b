//! Sigma rules, as the specification 2.1 describes them.
//!
//! A file is read as YAML with the place of every value (`node.rs`), so that whatever is wrong is
//! told with its line. Selections and conditions become one expression in Sigma's two-valued logic
//! (`expr.rs`), which also knows what the fields mean that no event here has; from that comes the
//! form that the engine runs. `logsource.rs` says which fields there are and what they stand for.
//!
//! Nothing here decides about events: `eval.rs` and `program/` do, for both languages alike.

mod chain;
mod collection;
mod condition;
mod convert;
mod correlation;
mod detection;
mod encode;
mod expr;
mod filter;
mod header;
mod item;
mod load;
mod logsource;
mod modifier;
mod node;
mod pcre;
mod report;
mod rule;
mod side_tests;
pub mod sysmon;
mod value;

pub use convert::{Conversion, to_sql};
pub use header::Provenance;
pub use load::is_sigma;
pub(crate) use load::load;
pub use logsource::{Os, fields};
pub use report::{Component, Degraded, Elsewhere, Report, Untested};
