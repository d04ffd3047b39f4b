//! Boots a kernel under QEMU, runs the scenarios of `tests/vm` in it and reads its verdict off the
//! serial console. Needs no root and no hardware virtualization.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::initramfs::Initramfs;
use crate::kernels::Kernel;
use crate::tally::{Counter, Tally};
use crate::{shell, toolchain};

const TARGET: &str = "x86_64-unknown-linux-musl";
const QEMU: &str = "qemu-system-x86_64";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which Debian kernels
    #[arg(long, value_delimiter = ',', default_value = "6.1")]
    kernel: Vec<String>,
    /// Ends a VM after so many seconds
    #[arg(long, default_value_t = 600)]
    timeout: u64,
    /// Shows the whole console
    #[arg(short, long)]
    verbose: bool,
    /// Arguments for each test program, such as part of a test's name
    #[arg(last = true)]
    tests: Vec<String>,
}

impl Default for Args {
    fn default() -> Self {
        Self {
            kernel: vec!["6.1".into()],
            timeout: 600,
            verbose: false,
            tests: Vec::new(),
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let tally = run_kernels(args)?;
    shell::say(tally);
    ensure!(tally.failed == 0, "{} scenarios failed", tally.failed);
    Ok(())
}

/// Runs the scenarios on each kernel; gives the sum.
pub(crate) fn run_kernels(args: &Args) -> Result<Tally> {
    install()?;
    let programs = build()?;
    let mut sum = Tally::default();
    for name in &args.kernel {
        let kernel = Kernel::named(name)?;
        sum += boot(&kernel, &programs, args)?;
    }
    Ok(sum)
}

/// Installs QEMU and the target of the static build.
pub(crate) fn install() -> Result<()> {
    toolchain::apt(&["qemu-system-x86"], || shell::find(QEMU).is_some())?;
    toolchain::rust_target(TARGET)
}

/// What goes into the VM.
struct Programs {
    /// `daemoneye`, `init` and `workload`, by name.
    programs: HashMap<String, PathBuf>,
    tests: HashMap<String, PathBuf>,
}

fn build() -> Result<Programs> {
    let mut command = shell::cargo(["build", "--release", "--target", TARGET, "-p", "cli"]);
    command.args(["-p", "vm", "--bins", "--test", "*"]);
    command.arg("--message-format=json-render-diagnostics");
    eprintln!("$ {}", shell::display(&command));
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(
        output.status.success(),
        "the static build for the VM ended with {}",
        output.status
    );
    let mut found = Programs {
        programs: HashMap::new(),
        tests: HashMap::new(),
    };
    for line in output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let message = serde_json::from_slice(line).context("cargo printed no JSON")?;
        found.note(&message);
    }
    Ok(found)
}

impl Programs {
    /// Keeps the path of a program that cargo built.
    fn note(&mut self, message: &serde_json::Value) {
        let text = |path| message.pointer(path).and_then(serde_json::Value::as_str);
        let (Some(file), Some(name)) = (text("/executable"), text("/target/name")) else {
            return;
        };
        let ours = text("/manifest_path").is_some_and(|path| path.ends_with("tests/vm/Cargo.toml"));
        match text("/target/kind/0") {
            Some("bin") => self.programs.insert(name.to_owned(), file.into()),
            Some("test") if ours => self.tests.insert(name.to_owned(), file.into()),
            _ => None,
        };
    }

    fn path(&self, name: &str) -> Result<&Path> {
        self.programs
            .get(name)
            .map(PathBuf::as_path)
            .with_context(|| format!("no {name} was built"))
    }
}

fn boot(kernel: &Kernel, programs: &Programs, args: &Args) -> Result<Tally> {
    let image = kernel.image()?;
    let dir = shell::target_dir().join("vm").join(kernel.name);
    fs::create_dir_all(&dir)?;
    let initramfs = dir.join("initramfs.cpio");
    pack(&initramfs, programs, &kernel.shell()?).context("cannot pack the initramfs")?;
    let start = Instant::now();
    let mut console = Console::start(&image, &initramfs, &dir.join("console.log"), args)?;
    let verdict = console.watch(Duration::from_secs(args.timeout));
    let seconds = start.elapsed().as_secs();
    console.report(kernel, &verdict, seconds);
    let mut tally = console.counter.tally();
    if verdict != Verdict::Success && tally.failed == 0 {
        tally.failed = 1;
    }
    Ok(tally)
}

fn pack(path: &Path, programs: &Programs, shell: &Path) -> Result<()> {
    let mut archive = Initramfs::new(BufWriter::new(File::create(path)?));
    for dir in ["dev", "proc", "sys", "tmp", "bin", "tests", "etc", "root"] {
        archive.dir(dir)?;
    }
    archive.console()?;
    archive.program("init", programs.path("init")?)?;
    archive.program("bin/workload", programs.path("workload")?)?;
    archive.program("bin/daemoneye", programs.path("daemoneye")?)?;
    archive.program("bin/sh", shell)?;
    for (name, file) in &programs.tests {
        archive.program(&format!("tests/{name}"), file)?;
    }
    Ok(archive.finish()?)
}

/// How a VM ended.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Success,
    Failure(String),
}

/// A running VM, seen through its serial line.
struct Console {
    qemu: Child,
    lines: Receiver<String>,
    log: File,
    log_path: PathBuf,
    seen: Vec<String>,
    counter: Counter,
    release: String,
    verbose: bool,
}

impl Console {
    fn start(image: &Path, initramfs: &Path, log: &Path, args: &Args) -> Result<Self> {
        let mut qemu = qemu(image, initramfs, &args.tests)
            .spawn()
            .context("cannot start QEMU")?;
        let lines = lines_of(&mut qemu);
        let file = File::create(log)?;
        Ok(Self {
            qemu,
            lines,
            log: file,
            log_path: log.to_owned(),
            seen: Vec::new(),
            counter: Counter::default(),
            release: String::new(),
            verbose: args.verbose,
        })
    }

    /// Reads until init gives its verdict, the kernel panics, QEMU ends or time is over.
    fn watch(&mut self, timeout: Duration) -> Verdict {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    if let Some(verdict) = self.line(&line) {
                        return verdict;
                    }
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    return Verdict::Failure(format!("no verdict within {} s", timeout.as_secs()));
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    return Verdict::Failure("QEMU ended before init gave a verdict".into());
                }
            }
        }
    }

    fn line(&mut self, line: &str) -> Option<Verdict> {
        // Losing the log is no reason to lose the run.
        let _ = writeln!(self.log, "{line}");
        if self.verbose {
            shell::say(line);
        } else if line.starts_with("test ") && !line.starts_with("test result") {
            shell::say(format_args!("  {line}"));
        }
        self.counter.line(line);
        self.seen.push(line.to_owned());
        if let Some(release) = line.strip_prefix("init: kernel ") {
            self.release = release.to_owned();
        }
        match line.strip_prefix("init: failure") {
            Some(reason) => Some(Verdict::Failure(format!("init reports failure{reason}"))),
            None if line == "init: success" => Some(Verdict::Success),
            None => line
                .contains("Kernel panic")
                .then(|| Verdict::Failure(line.to_owned())),
        }
    }

    fn report(&self, kernel: &Kernel, verdict: &Verdict, seconds: u64) {
        let name = format!("vm {} ({})", kernel.name, self.release);
        let Verdict::Failure(reason) = verdict else {
            shell::say(format_args!(
                "{name}: {} in {seconds} s",
                self.counter.tally()
            ));
            return;
        };
        if !self.verbose {
            let start = self
                .seen
                .iter()
                .position(|line| line.starts_with("init: "))
                .unwrap_or(0);
            self.seen[start..].iter().for_each(shell::say);
        }
        shell::say(format_args!(
            "{name}: {reason} after {seconds} s: {}",
            self.counter.tally()
        ));
        shell::say(format_args!("console: {}", self.log_path.display()));
        shell::say(format_args!(
            "repeat with: cargo xtask vm-test --kernel {}",
            kernel.name
        ));
    }
}

/// The command that boots the VM, and shows it.
fn qemu(image: &Path, initramfs: &Path, tests: &[String]) -> Command {
    let mut command = Command::new(QEMU);
    // Without cmpxchg16b, which QEMU 7.2 emulates wrongly: the free lists of 6.12 break under a
    // storm of forks, with or without a sensor ("double fault" in slab code).
    command.args("-accel tcg,thread=multi -cpu max,-cx16 -smp 2 -m 1024".split(' '));
    command.args("-nodefaults -no-reboot -display none -serial stdio".split(' '));
    command
        .arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(initramfs);
    let mut append = "console=ttyS0 oops=panic panic=-1 loglevel=4".to_owned();
    if !tests.is_empty() {
        append = format!("{append} -- {}", tests.join(" "));
    }
    command.arg("-append").arg(append);
    eprintln!("$ {}", shell::display(&command));
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

impl Drop for Console {
    fn drop(&mut self) {
        // Fails only where it ended by itself, which is as good.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// Lines of the console, without what terminals add.
fn lines_of(qemu: &mut Child) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    if let Some(pipe) = qemu.stdout.take() {
        thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line)
                    .trim_end_matches('\r')
                    .to_owned();
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
    }
    lines
}
