//! Events at which the kernel did not run a program.
//!
//! A program that is preempted (PREEMPT_LAZY, PREEMPT_RT) and met again on the same cpu is not run a
//! second time; the kernel counts that as a recursion miss. It shows the count (5.12) in the
//! `fdinfo` of the program's descriptor. Files are opened before rights are given up, since later
//! they could not be, and read again and again.

use std::fs::File;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::fs::FileExt as _;

use event::EventClass;

/// Enough for the lines of a program.
const FDINFO_BYTES: usize = 1024;

/// What is missing where a program was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missed {
    /// An event.
    Event(EventClass),
    /// A part of one, by the name that it has in [`event::Stats::incomplete`].
    Part(&'static str),
}

/// Which of the programs that wait for one thing it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The only one on most kernels.
    First,
    /// Its like.
    Again,
    /// It is attached through perf.
    Substitute,
    /// It tells of exits at the release of the process.
    Release,
}

/// The counts of the programs, whose events would otherwise be missed in silence.
#[derive(Debug, Default)]
pub(crate) struct Misses(Vec<(Missed, Role, File)>);

impl Misses {
    /// Watches a program. Where the kernel shows nothing there is nothing to watch.
    pub(crate) fn watch(&mut self, missed: Missed, role: Role, program: BorrowedFd<'_>) {
        let path = format!("/proc/self/fdinfo/{}", program.as_raw_fd());
        if let Ok(file) = File::open(path) {
            self.0.push((missed, role, file));
        }
    }

    /// Programs that were missed so often.
    #[cfg(test)]
    pub(crate) fn simulated(counts: impl IntoIterator<Item = (Missed, Role, u64)>) -> Self {
        let file = |count: u64| {
            let file = File::from(
                rustix::fs::memfd_create("fdinfo", rustix::fs::MemfdFlags::CLOEXEC).unwrap(),
            );
            let text = format!("prog_type:\t17\nrecursion_misses:\t{count}\n");
            file.write_all_at(text.as_bytes(), 0).unwrap();
            file
        };
        let watched = counts.into_iter();
        Self(
            watched
                .map(|(missed, role, count)| (missed, role, file(count)))
                .collect(),
        )
    }

    /// How often it was, at most. The program of exits also runs for threads whose process goes on; for
    /// failed execs it is hardly a hint, since their program runs at the end of every system call.
    pub(crate) fn of(&self, missed: Missed) -> u64 {
        self.by(missed, |_| true)
    }

    /// How often it was missed by all programs of these roles.
    pub(crate) fn by(&self, missed: Missed, role: impl Fn(Role) -> bool) -> u64 {
        let watched = self.0.iter();
        watched
            .filter(|(of, by, _)| *of == missed && role(*by))
            .map(|(.., file)| read(file).unwrap_or(0))
            .min()
            .unwrap_or(0)
    }
}

fn read(file: &File) -> Option<u64> {
    let mut text = [0; FDINFO_BYTES];
    let len = file.read_at(&mut text, 0).ok()?;
    parse(std::str::from_utf8(text.get(..len)?).ok()?)
}

fn parse(fdinfo: &str) -> Option<u64> {
    let mut lines = fdinfo.lines();
    let count = lines.find_map(|line| line.strip_prefix("recursion_misses:"))?;
    count.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misses_are_read_where_the_kernel_shows_them() {
        let fdinfo =
            "pos:\t0\nprog_type:\t17\nrun_cnt:\t0\nrecursion_misses:\t35\nverified_insns:\t9\n";
        assert_eq!(parse(fdinfo), Some(35));
        assert_eq!(parse("pos:\t0\n"), None);
        assert_eq!(Misses::default().of(Missed::Event(EventClass::Exec)), 0);
    }

    #[test]
    fn what_one_of_several_programs_saw_is_not_missed() {
        let [exec, exit] = [EventClass::Exec, EventClass::Exit].map(Missed::Event);
        let misses = Misses::simulated([
            (exec, Role::First, 9),
            (exit, Role::First, 4),
            (exec, Role::Again, 5),
            (exec, Role::Substitute, 1),
        ]);
        assert_eq!((misses.of(exec), misses.of(exit)), (1, 4));
        assert_eq!(misses.by(exec, |role| role != Role::Substitute), 5);
    }
}
