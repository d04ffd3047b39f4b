//! The writer, its recovery and its index on a disk that fails.
//!
//! [`disk`] simulates it, [`backend`] puts redb on it, [`runs`] does what a daemon does, thousands of
//! times, with another seed each time, while files [`decay`] that can be made again and an [`outsider`]
//! looks at the rest; [`each_call`] lets each call fail in turn and [`unread`] each read;
//! [`removal`] leaves some files of dropped leaves; [`second_place`] copies checkpoints. Only built for
//! tests.

pub(crate) mod backend;
mod decay;
pub(crate) mod disk;
mod each_call;
mod outsider;
mod removal;
mod runs;
mod second_place;
mod unread;
