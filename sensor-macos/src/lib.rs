//! macOS sensor: process events from Endpoint Security.
//!
//! `EsSensor` is a client of Endpoint Security that is told of each fork, exec and exit. Its
//! callback copies a message and hands it over without waiting; the reader makes events of it.
//! `message`, `normalize`, `procargs`, `queue` and `stats` are pure and build everywhere; `client`
//! and `sys` (the only `unsafe`) exist on macOS alone.
//!
//! It does not know rules or storage, and not what to do where macOS refuses: [`Error`] says why,
//! the caller falls back. It only observes: it never holds up or denies anything.
//!
//! Start with `message.rs` for what macOS tells, then `normalize.rs` for what we make of it.
#![cfg_attr(
    not(target_os = "macos"),
    allow(
        dead_code,
        reason = "the client that drives the pure modules exists on macOS only"
    )
)]

#[cfg(target_os = "macos")]
mod client;
mod clock;
mod error;
mod message;
mod normalize;
pub mod procargs;
mod queue;
mod stats;
#[cfg(target_os = "macos")]
mod sys;

#[cfg(target_os = "macos")]
pub use client::EsSensor;
pub use error::{Error, Refusal};
