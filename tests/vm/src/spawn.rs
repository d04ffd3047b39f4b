//! Starting a program that was only just written.

use std::io;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use crate::daemon::patience;

/// Starts a program, also one that this process has written itself.
///
/// A child that another thread has forked, and that has not called exec yet, holds open what was
/// open for writing at that time: until it does, such a program is busy (ETXTBSY).
///
/// # Errors
/// It cannot be started, or stays busy for a minute.
pub fn spawn(command: &mut Command) -> io::Result<Child> {
    while_busy(|| command.spawn())
}

fn while_busy<T>(mut start: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let deadline = Instant::now() + patience(Duration::from_secs(60));
    loop {
        match start() {
            Err(error) if is_busy(&error) && Instant::now() < deadline => thread::yield_now(),
            started => return started,
        }
    }
}

fn is_busy(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ExecutableFileBusy
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiny;

    /// Now and then a scenario failed with "Text file busy".
    #[test]
    fn program_that_another_process_still_holds_open_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("program");
        tiny::write(&program, 7).unwrap();
        let mut held = Some(
            std::fs::File::options()
                .append(true)
                .open(&program)
                .unwrap(),
        );
        let mut command = Command::new(&program);
        let mut busy = 0;
        let started = while_busy(|| {
            let started = command.spawn();
            busy += u32::from(started.as_ref().is_err_and(is_busy));
            held.take();
            started
        });
        assert_eq!(started.unwrap().wait().unwrap().code(), Some(7));
        // Others of this process's threads may have forked.
        assert!(busy >= 1);
    }
}
