//! Boots kernels under QEMU and runs the scenarios of `tests/vm` on them. Needs no root and no
//! hardware virtualization.
//!
//! [`matrix`] names what can be booted, [`debian`] has the kernels, [`programs`] what runs on them,
//! [`machine`] the QEMU command, [`console`] a VM that runs, [`watch`] what is read off its serial
//! line; [`table`] is what a run ends with.

mod console;
mod debian;
mod initramfs;
mod machine;
mod matrix;
mod programs;
mod table;
mod watch;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use self::console::Console;
use self::matrix::{Arch, Cell, Kernel, Transport, Variant};
use self::programs::Programs;
use self::table::{Ran, Row};
use self::watch::Outcome;
use crate::tally::Tally;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Kernels by series; all where only --arch or --variant chooses
    #[arg(long, value_delimiter = ',')]
    kernel: Vec<Kernel>,
    /// Architectures [default: x86_64]
    #[arg(long, value_delimiter = ',')]
    arch: Vec<Arch>,
    /// What is special about the boot [default: plain]
    #[arg(long, value_delimiter = ',')]
    variant: Vec<Variant>,
    /// How records come from the kernel [default: auto]
    #[arg(long, value_delimiter = ',')]
    transport: Vec<Transport>,
    /// Shows what there is, and what runs where nothing is chosen
    #[arg(long)]
    list: bool,
    /// So many VMs at once
    #[arg(long, default_value_t = JOBS, value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,
    /// Ends a VM after so many seconds
    #[arg(long, default_value_t = TIMEOUT)]
    timeout: u64,
    /// Looks for newer packages than those that were fetched before
    #[arg(long)]
    refresh: bool,
    /// Shows whole consoles
    #[arg(short, long)]
    verbose: bool,
    /// Arguments for each test program, such as part of a test's name
    #[arg(last = true, value_parser = word)]
    tests: Vec<String>,
}

const JOBS: u8 = 2;
/// Enough on a machine that is busy with other things: 600 s were seen at a load of 100.
const TIMEOUT: u64 = 1800;

impl Default for Args {
    fn default() -> Self {
        Self {
            kernel: Vec::new(),
            arch: Vec::new(),
            variant: Vec::new(),
            transport: Vec::new(),
            list: false,
            jobs: JOBS,
            timeout: TIMEOUT,
            refresh: false,
            verbose: false,
            tests: Vec::new(),
        }
    }
}

/// Arguments travel in the kernel's command line, which splits at spaces and has its own quotes.
fn word(text: &str) -> Result<String, String> {
    if text.contains(|c: char| c.is_whitespace() || c == '"') {
        return Err("no spaces and no quotes: it goes through the kernel's command line".into());
    }
    Ok(text.to_owned())
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.list {
        table::list();
        return Ok(());
    }
    let tally = run_cells(args)?;
    ensure!(tally.failed == 0, "{} failed", tally.failed);
    ensure!(tally.passed > 0, "no VM could be started");
    Ok(())
}

/// Runs the scenarios in each cell that was chosen, shows the table, and gives the sum.
pub(crate) fn run_cells(args: &Args) -> Result<Tally> {
    let cells = matrix::select(&args.kernel, &args.arch, &args.variant, &args.transport);
    let mut prepared = Prepared::default();
    for of_arch in cells.chunk_by(|a, b| a.arch == b.arch) {
        prepared.arch(of_arch, args.refresh)?;
    }
    let mut rows = prepared.rows;
    rows.extend(boot_all(prepared.ready, args));
    rows.sort_by_key(|row| cells.iter().position(|cell| *cell == row.cell));
    Ok(table::show(&rows, &args.tests))
}

/// What is ready to boot, and what cannot be had.
#[derive(Default)]
struct Prepared {
    ready: VecDeque<Ready>,
    rows: Vec<Row>,
}

/// A cell that has all it needs.
struct Ready {
    cell: Cell,
    image: PathBuf,
    initramfs: PathBuf,
}

impl Prepared {
    /// Gets everything for cells of one architecture.
    fn arch(&mut self, cells: &[Cell], refresh: bool) -> Result<()> {
        let arch = cells[0].arch;
        if let Err(error) = machine::install(arch) {
            self.rows
                .extend(cells.iter().map(|cell| Row::skipped(*cell, &error)));
            return Ok(());
        }
        let programs = Programs::build(arch)?;
        for of_kernel in cells.chunk_by(|a, b| a.kernel == b.kernel) {
            self.kernel(of_kernel, refresh, &programs);
        }
        Ok(())
    }

    /// Gets what cells of one kernel share.
    fn kernel(&mut self, cells: &[Cell], refresh: bool, programs: &Programs) {
        let shared = debian::files(&cells[0], refresh).and_then(|files| {
            let initramfs = files.kernel.with_file_name("initramfs.cpio");
            let packed = programs.pack(&files.shell, &initramfs);
            packed.context("cannot pack the initramfs")?;
            Ok((files.kernel, initramfs))
        });
        for &cell in cells {
            match &shared {
                Ok((image, initramfs)) => self.ready.push_back(Ready {
                    cell,
                    image: image.clone(),
                    initramfs: initramfs.clone(),
                }),
                Err(error) if error.is::<debian::Unreachable>() => {
                    self.rows.push(Row::skipped(cell, error));
                }
                Err(error) => self.rows.push(Row::failed(cell, error)),
            }
        }
    }
}

/// Boots cells, some at once, in their order.
fn boot_all(ready: VecDeque<Ready>, args: &Args) -> Vec<Row> {
    let queue = Mutex::new(ready);
    let next = || {
        queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    };
    let work = || {
        let mut rows = Vec::new();
        while let Some(one) = next() {
            rows.push(row(&one, args));
        }
        rows
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..args.jobs).map(|_| scope.spawn(work)).collect();
        let rows = workers.into_iter().map(thread::ScopedJoinHandle::join);
        rows.flat_map(|rows| rows.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

fn row(ready: &Ready, args: &Args) -> Row {
    match boot(ready, args) {
        Ok(outcome) => Row {
            cell: ready.cell,
            ran: Ran::Booted(outcome),
        },
        Err(error) => Row::failed(ready.cell, &error),
    }
}

/// Boots a cell, and once more where the emulator stood in the way.
fn boot(ready: &Ready, args: &Args) -> Result<Outcome> {
    let outcome = boot_once(ready, args)?;
    if !outcome.is_emulators_fault() {
        return Ok(outcome);
    }
    eprintln!("the emulator ran an instruction that the kernel had replaced; once more");
    boot_once(ready, args)
}

fn boot_once(ready: &Ready, args: &Args) -> Result<Outcome> {
    let command = machine::boot(&ready.cell, &ready.image, &ready.initramfs, &args.tests);
    let console = Console::start(&ready.cell, command, args.verbose)?;
    let outcome = console.watch(Duration::from_secs(args.timeout));
    table::say_end(ready.cell, &outcome, args.verbose);
    Ok(outcome)
}
