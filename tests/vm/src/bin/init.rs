//! The first process of the VM: mounts, runs every test binary under `/tests`, prints the verdict
//! that `cargo xtask vm-test` looks for, and powers off.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::{Context as _, Result};
use rustix::fs::OFlags;
use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, reboot};

/// What is mounted where, by file system type.
const MOUNTS: [(&str, &str); 10] = [
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("tmpfs", "/dev/shm"),
    ("devpts", "/dev/pts"),
    ("tmpfs", "/tmp"),
    ("securityfs", "/sys/kernel/security"),
    ("tracefs", "/sys/kernel/tracing"),
    ("bpf", "/sys/fs/bpf"),
    ("cgroup2", "/sys/fs/cgroup"),
];

fn main() {
    let verdict = match run() {
        Ok(true) => "init: success".to_owned(),
        Ok(false) => "init: failure".to_owned(),
        Err(error) => format!("init: failure: {error:#}"),
    };
    say(&verdict);
    rustix::fs::sync();
    // Only a kernel without it refuses; then the host's timeout ends the VM.
    if let Err(error) = reboot(RebootCommand::PowerOff) {
        say(&format!("init: cannot power off: {error}"));
    }
}

fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

fn run() -> Result<bool> {
    // The kernel starts its first process in no session.
    rustix::process::setsid().context("setsid")?;
    for (kind, place) in MOUNTS {
        fs::create_dir_all(place).with_context(|| format!("cannot create {place}"))?;
        // Not every kernel has every file system; what needs one says so itself.
        if let Err(error) = mount(kind, place, kind, MountFlags::empty(), None) {
            say(&format!("init: cannot mount {kind} on {place}: {error}"));
        }
    }
    // As everywhere; 5.10 looks up the path that it makes of a descriptor that is executed.
    std::os::unix::fs::symlink("/proc/self/fd", "/dev/fd").context("cannot link /dev/fd")?;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    say(&format!("init: kernel {}", release.trim()));
    // Assignments on the kernel's command line that it does not know are variables here.
    std::env::var_os(vm::place::REQUIRE_VARIABLE).context("nothing says what must run")?;
    vm::tiny::write(Path::new("/bin/true"), 0).context("cannot write /bin/true")?;
    fs::create_dir_all("/etc").context("cannot create /etc")?;
    let accounts = "root:x:0:0::/:\nsomebody:x:1000:1000::/:\n";
    fs::write("/etc/passwd", accounts).context("cannot write /etc/passwd")?;
    let mut all = true;
    for test in tests()? {
        say(&format!("init: running {}", test.display()));
        let status = run_test(&test)?;
        say(&format!("init: {} ended with {status}", test.display()));
        all &= status.success();
    }
    // What is wrong with a log is no reason to lose the verdict.
    if let Err(error) = say_kernel_warnings() {
        say(&format!("init: no kernel log: {error}"));
    }
    Ok(all)
}

/// Where the kernel noticed that it is wrong about itself. A read of its log gives one record,
/// `level,sequence,time,flags;text`.
fn say_kernel_warnings() -> io::Result<()> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let mut log = File::options()
        .read(true)
        .custom_flags(flags)
        .open("/dev/kmsg")?;
    let mut record = [0; 8192];
    loop {
        let length = match log.read(&mut record) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            // What it had next is overwritten; it goes on with what there is.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => continue,
            Err(error) => return Err(error),
        };
        let text = String::from_utf8_lossy(&record[..length]);
        let text = text.split_once(';').map_or("", |(_, text)| text);
        if text.starts_with("WARNING: ") {
            say(&format!(
                "init: kernel warning: {}",
                text.lines().next().unwrap_or_default()
            ));
        }
    }
}

fn tests() -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir("/tests").context("no /tests in the initramfs")?;
    let mut tests = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<_>>>()?;
    tests.sort();
    Ok(tests)
}

/// Arguments of the kernel's command line after `--` go to the tests, to select some.
fn run_test(test: &Path) -> Result<ExitStatus> {
    let mut command = Command::new(test);
    command
        .arg("--test-threads=1")
        .args(std::env::args().skip(1));
    command
        .env("PATH", "/bin")
        .env("TMPDIR", "/tmp")
        .env("HOME", "/")
        .env("RUST_BACKTRACE", "0");
    command.env(vm::place::BIN_VARIABLE, "/bin/daemoneye");
    command.env(vm::place::WORKLOAD_VARIABLE, "/bin/workload");
    command
        .env(vm::place::ALONE_VARIABLE, "1")
        .env(vm::SLOW_VARIABLE, "10");
    command
        .status()
        .with_context(|| format!("cannot start {}", test.display()))
}
