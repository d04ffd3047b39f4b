//! One file per command.

pub(crate) mod bench_count;
pub(crate) mod doctor;
pub(crate) mod entries;
pub(crate) mod evidence;
pub(crate) mod key;
pub(crate) mod ledger;
pub(crate) mod overview;
pub(crate) mod prove;
pub(crate) mod record;
pub(crate) mod replay;
pub(crate) mod retain;
pub(crate) mod rules;
pub(crate) mod run;
pub(crate) mod status;
