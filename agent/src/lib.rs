//! The unprivileged half: which rules are loaded, what becomes an alert, where alerts go.
//!
//! It gets encoded leaves with their index from whoever feeds it (today the pipeline in the same
//! process, later a socket) and gives findings back for the ledger. It knows neither sensors nor
//! the ledger. Start with [`Agent`].

pub mod alert;
mod error;
mod observe;
pub mod reload;
pub mod rules;
mod run;
pub mod sink;

pub use error::Error;
pub use observe::{Observed, Observer, RuleCounts};
pub use run::{Agent, Feed, Stats};
