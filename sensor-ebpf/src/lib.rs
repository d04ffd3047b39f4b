//! What the eBPF programs and their loader must agree on: record layouts, the kernel fields that
//! the programs read, and the counters they keep.
//!
//! This library is `no_std` and knows nothing of aya. The programs themselves are the binary of
//! this package (`main.rs`, built for `bpfel-unknown-none` by `cargo xtask ebpf`). Start with
//! [`record`]; `sensor-linux` loads the programs and decodes what they send.

#![no_std]

pub mod config;
pub mod drops;
pub mod record;
