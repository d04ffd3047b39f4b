//! Windows sensor: process starts and stops from Event Tracing for Windows.
//!
//! `EtwSensor` runs a real-time session on the provider Microsoft-Windows-Kernel-Process. Its
//! callback decodes a record and hands it over without waiting; the reader makes events of it.
//! `decode`, `normalize`, `path`, `processes`, `queue` and `stats` are pure and build everywhere;
//! `session` and `sys` (the only `unsafe`) exist on Windows alone.
//!
//! It does not know rules or storage, and not what to do where ETW refuses: [`Error`] says why,
//! the caller falls back.
//!
//! Start with `provider.rs` for what is asked of Windows, then `normalize.rs` for what we make of
//! the answer.
#![cfg_attr(
    not(windows),
    allow(
        dead_code,
        reason = "the session that drives the pure modules exists on Windows only"
    )
)]

mod clock;
mod decode;
mod error;
mod normalize;
mod path;
pub mod processes;
mod provider;
mod queue;
#[cfg(windows)]
mod session;
#[cfg(windows)]
mod sys;

pub use error::Error;
#[cfg(windows)]
pub use session::EtwSensor;
