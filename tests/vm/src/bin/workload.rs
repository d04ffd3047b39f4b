//! Does one precise thing, and prints who took part as lines of a name and a pid.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use vm::{sys, tiny};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match run(&arguments) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let _ = writeln!(io::stderr(), "workload {arguments:?}: {error:#}");
            ExitCode::from(99)
        }
    }
}

fn run(arguments: &[OsString]) -> Result<u8> {
    let (name, rest) = arguments.split_first().context("no subcommand")?;
    report("self", std::process::id());
    match name.to_str().unwrap_or_default() {
        // The children that the others start.
        "exit" => return Ok(number(rest, 0)?.try_into()?),
        "wait" => wait_for_stdin()?,
        "threads" => threads()?,
        "exit-from-thread" => exit_from_thread(),
        "leader-leaves" => leader_leaves(),
        // What scenarios start.
        "run" => run_child(rest)?,
        "kill" => kill_child()?,
        "fork" => fork_only()?,
        "codes" => codes(rest)?,
        "deleted" => run_deleted()?,
        "memfd" => run_memfd()?,
        "every-cpu" => every_cpu()?,
        "storm" => storm(number(rest, 0)?, number(rest, 1)?, &rest[2..])?,
        other => bail!("unknown subcommand {other}"),
    }
    Ok(0)
}

fn number(arguments: &[OsString], index: usize) -> Result<usize> {
    let text = arguments
        .get(index)
        .and_then(|a| a.to_str())
        .context("a number is missing")?;
    text.parse().with_context(|| format!("{text} is no number"))
}

/// A pipe that nobody reads any more is no error: some parents do not care.
fn report(name: &str, number: impl std::fmt::Display) {
    let _ = writeln!(io::stdout(), "{name} {number}");
}

fn wait_for_stdin() -> Result<()> {
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}

/// Four threads that have all run before any ends.
fn threads() -> Result<()> {
    let barrier = Arc::new(Barrier::new(5));
    let threads: Vec<_> = (0..4).map(|_| spawn_reporting(barrier.clone())).collect();
    barrier.wait();
    for thread in threads {
        ensure!(thread.join().is_ok(), "a thread panicked");
    }
    Ok(())
}

fn spawn_reporting(barrier: Arc<Barrier>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        report("tid", rustix::thread::gettid().as_raw_nonzero());
        barrier.wait();
    })
}

/// `exit_group` from a thread that is not the leader, while the leader and two others wait.
fn exit_from_thread() -> ! {
    let barrier = Arc::new(Barrier::new(3));
    for _ in 0..2 {
        let barrier = barrier.clone();
        thread::spawn(move || {
            barrier.wait();
            sleep_for_ever()
        });
    }
    thread::spawn(move || {
        report("tid", rustix::thread::gettid().as_raw_nonzero());
        barrier.wait();
        std::process::exit(7)
    });
    sleep_for_ever()
}

/// The leader ends alone; the last thread ends the process a little later, with a code.
fn leader_leaves() -> ! {
    let leader = rustix::process::getpid();
    thread::spawn(move || {
        report("tid", rustix::thread::gettid().as_raw_nonzero());
        while !is_zombie(leader.as_raw_nonzero().get()) {
            thread::sleep(Duration::from_millis(1));
        }
        std::process::exit(9)
    });
    sys::exit_thread()
}

fn is_zombie(tid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{tid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| rest.starts_with('Z'))
}

fn sleep_for_ever() -> ! {
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

/// Runs a program with the given arguments and waits for it.
fn run_child(arguments: &[OsString]) -> Result<()> {
    let (program, arguments) = arguments.split_first().context("no program")?;
    let mut child = Command::new(program).args(arguments).spawn()?;
    report("child", child.id());
    child.wait()?;
    Ok(())
}

fn kill_child() -> Result<()> {
    let mut child = ourselves("wait")?
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    report("child", child.id());
    await_first_line(&mut child)?;
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// Its report shows that the child's exec is done.
fn await_first_line(child: &mut std::process::Child) -> Result<()> {
    let mut line = String::new();
    let pipe = child.stdout.as_mut().context("the child has no pipe")?;
    io::BufRead::read_line(&mut io::BufReader::new(pipe), &mut line)?;
    Ok(())
}

/// A child that never calls exec.
fn fork_only() -> Result<()> {
    let child = sys::fork()?;
    if child == 0 {
        std::process::exit(3);
    }
    report("child", child);
    let child = i32::try_from(child)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    rustix::process::waitpid(child, rustix::process::WaitOptions::empty())?;
    Ok(())
}

fn codes(codes: &[OsString]) -> Result<()> {
    for code in codes {
        let mut child = ourselves("exit")?.arg(code).stdout(Stdio::null()).spawn()?;
        report(&format!("child-{}", code.display()), child.id());
        child.wait()?;
    }
    Ok(())
}

fn ourselves(subcommand: impl AsRef<OsStr>) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(subcommand);
    Ok(command)
}

/// A program whose file is gone by the time that it runs: open, unlink, exec by descriptor.
fn run_deleted() -> Result<()> {
    let path = std::env::temp_dir().join(format!("deleted-{}", std::process::id()));
    tiny::write(&path, 0)?;
    let file = File::open(&path)?;
    std::fs::remove_file(&path)?;
    run_descriptor(file.into())
}

fn run_memfd() -> Result<()> {
    let memfd = rustix::fs::memfd_create("workload", rustix::fs::MemfdFlags::CLOEXEC)?;
    File::from(memfd.try_clone()?).write_all(&tiny::elf(0))?;
    // A descriptor that is open for writing keeps the file from being run (ETXTBSY).
    let path = format!("/proc/self/fd/{}", memfd.as_raw_fd());
    let read_only = File::open(path)?;
    drop(memfd);
    run_descriptor(read_only.into())
}

fn run_descriptor(file: OwnedFd) -> Result<()> {
    let mut child = Command::new(format!("/proc/self/fd/{}", file.as_raw_fd())).spawn()?;
    report("child", child.id());
    child.wait()?;
    Ok(())
}

/// Forks, execs and exits once on each cpu that this process may run on.
fn every_cpu() -> Result<()> {
    let cpus = sched_getaffinity(None)?;
    for cpu in (0..CpuSet::MAX_CPU).filter(|cpu| cpus.is_set(*cpu)) {
        let mut one = CpuSet::new();
        one.set(cpu);
        sched_setaffinity(None, &one)?;
        ourselves("exit")?.arg("0").stdout(Stdio::null()).status()?;
    }
    Ok(())
}

/// Runs a program `count` times from `threads` threads, as fast as it goes. The program is the
/// third argument, else the smallest there is.
fn storm(count: usize, threads: usize, program: &[OsString]) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let tiny = dir.path().join("tiny");
    tiny::write(&tiny, 0)?;
    let program = program.first().map_or(tiny.as_path(), Path::new);
    let start = Instant::now();
    thread::scope(|scope| {
        let share = |index| count / threads + usize::from(index < count % threads);
        let workers: Vec<_> = (0..threads)
            .map(|i| scope.spawn(move || run_times(program, share(i))))
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| match worker.join() {
                Ok(result) => result,
                Err(_) => bail!("a thread panicked"),
            })
    })?;
    report("execs", count);
    report("microseconds", start.elapsed().as_micros());
    Ok(())
}

fn run_times(program: &Path, count: usize) -> Result<()> {
    let program = OsStr::from_bytes(program.as_os_str().as_bytes());
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::inherit());
    for _ in 0..count {
        // posix_spawn inside: vfork and exec.
        ensure!(
            command.status()?.success(),
            "the program of the storm failed"
        );
    }
    Ok(())
}
