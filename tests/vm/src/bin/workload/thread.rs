//! Threads: in which order they start, fork, exec and end.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Barrier};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, ensure};
use vm::sys;

use crate::child::{self, become_program};
use crate::report;
use crate::stage::{Stage, report_path};

/// Four threads that have all run before any ends.
pub(crate) fn threads() -> Result<()> {
    let barrier = Arc::new(Barrier::new(5));
    let threads: Vec<_> = (0..4).map(|_| spawn_reporting(barrier.clone())).collect();
    barrier.wait();
    threads.into_iter().try_for_each(join)
}

fn join(thread: JoinHandle<()>) -> Result<()> {
    ensure!(thread.join().is_ok(), "a thread panicked");
    Ok(())
}

fn spawn_reporting(barrier: Arc<Barrier>) -> JoinHandle<()> {
    thread::spawn(move || {
        report_tid();
        barrier.wait();
    })
}

fn report_tid() {
    report("tid", rustix::thread::gettid().as_raw_nonzero());
}

/// `exit_group` from a thread that is not the leader, while the leader and two others wait.
pub(crate) fn exit_from_thread() -> ! {
    let barrier = Arc::new(Barrier::new(3));
    for _ in 0..2 {
        let barrier = barrier.clone();
        thread::spawn(move || {
            barrier.wait();
            sleep_for_ever()
        });
    }
    thread::spawn(move || {
        report_tid();
        barrier.wait();
        std::process::exit(7)
    });
    sleep_for_ever()
}

/// The leader ends alone, with code 3. The last thread ends a little later: the whole process with
/// code 9 (`group`), itself alone with code 5 (`alone`), or never.
pub(crate) fn leader_leaves(last: &str) -> ! {
    let leader = rustix::process::getpid();
    let last = last.to_owned();
    thread::spawn(move || {
        while !is_zombie(leader.as_raw_nonzero().get()) {
            thread::sleep(Duration::from_millis(1));
        }
        report_tid();
        match last.as_str() {
            "group" => std::process::exit(9),
            "alone" => sys::exit_thread(5),
            _ => sleep_for_ever(),
        }
    });
    sys::exit_thread(3)
}

fn is_zombie(tid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{tid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| rest.starts_with('Z'))
}

pub(crate) fn sleep_for_ever() -> ! {
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

/// Children whose four threads, the leader among them, all end alone and at once.
pub(crate) fn race_to_the_end(children: usize) -> Result<()> {
    for number in 0..children {
        let child = child::start(|| {
            let barrier = Arc::new(Barrier::new(4));
            for _ in 0..3 {
                let barrier = barrier.clone();
                thread::spawn(move || {
                    barrier.wait();
                    sys::exit_thread(5)
                });
            }
            barrier.wait();
            sys::exit_thread(3)
        })?;
        report(&format!("child-{number}"), child);
        report(&format!("status-{number}"), child::end(child)?.as_raw());
    }
    Ok(())
}

/// A child in which a thread that is not the leader runs another program, while the leader waits,
/// or after it `left`.
pub(crate) fn exec_from_thread(leader: &str) -> Result<()> {
    let stage = Stage::new()?;
    let program = stage.tiny("tiny", 2)?;
    report_path("program", &program);
    let child = child::run(|| {
        let left = leader == "left";
        thread::spawn(move || {
            report_tid();
            while left && !is_zombie(std::process::id().cast_signed()) {
                thread::sleep(Duration::from_millis(1));
            }
            exec_or_end(&program)
        });
        if left {
            sys::exit_thread(3)
        }
        sleep_for_ever()
    })?;
    report("child", child);
    Ok(())
}

fn exec_or_end(program: &Path) -> ! {
    let error = become_program(program, &["from-thread"]);
    report("error", error);
    std::process::exit(99)
}

/// Children of which all threads run a program at once. One succeeds, and ends the others.
pub(crate) fn race_to_exec(children: usize) -> Result<()> {
    let stage = Stage::new()?;
    let program = stage.tiny("tiny", 2)?;
    for _ in 0..children {
        let child = child::run(|| {
            let barrier = Arc::new(Barrier::new(4));
            for _ in 0..3 {
                let (barrier, program) = (barrier.clone(), program.clone());
                thread::spawn(move || {
                    barrier.wait();
                    exec_or_end(&program)
                });
            }
            barrier.wait();
            exec_or_end(&program)
        })?;
        report("child", child);
    }
    Ok(())
}

/// A thread that is not the leader starts a process.
pub(crate) fn fork_from_thread() -> Result<()> {
    let stage = Stage::new()?;
    let program = stage.tiny("tiny", 0)?;
    let thread = thread::spawn(move || -> Result<()> {
        report_tid();
        let mut child = Command::new(program).stdout(Stdio::null()).spawn()?;
        report("child", child.id());
        child.wait()?;
        Ok(())
    });
    thread
        .join()
        .unwrap_or_else(|_| Err(anyhow::Error::msg("the thread panicked")))
}
