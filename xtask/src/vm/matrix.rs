//! What can be booted: kernels, architectures and variants, and which of them a run takes.

use std::path::PathBuf;

use clap::ValueEnum;

use crate::shell;

/// A kernel, by the series that a Debian suite has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kernel {
    /// Debian 11: the oldest that the eBPF sensor is for
    #[value(name = "5.10")]
    V5_10,
    /// Debian 12
    #[value(name = "6.1")]
    V6_1,
    /// Debian 13
    #[value(name = "6.12")]
    V6_12,
    /// Debian unstable: the newest that Debian has
    Sid,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Arch {
    #[value(name = "x86_64")]
    X86_64,
    Aarch64,
}

/// What is special about a boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Variant {
    /// Two cpus
    Plain,
    /// Booted with lockdown=confidentiality, which refuses eBPF the reads that the sensor lives on
    Lockdown,
    /// Booted with maxcpus=1: of four possible cpus one is online
    Maxcpus1,
    /// Four cpus
    Smp4,
}

/// How records come from the kernel, for every `daemoneye` under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// What `daemoneye` takes by itself
    Auto,
    /// The ring buffer
    Ring,
    /// Perf buffers
    Perf,
}

/// One VM: a line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) kernel: Kernel,
    pub(crate) arch: Arch,
    pub(crate) variant: Variant,
    pub(crate) transport: Transport,
}

const fn cell(kernel: Kernel, arch: Arch, variant: Variant) -> Cell {
    Cell {
        kernel,
        arch,
        variant,
        transport: Transport::Auto,
    }
}

/// What runs where nobody chooses, and in CI: each architecture, variant and series at least once,
/// but for unstable's, which is another one every week.
pub(crate) const DEFAULT: [Cell; 5] = [
    cell(Kernel::V5_10, Arch::X86_64, Variant::Plain),
    cell(Kernel::V6_1, Arch::X86_64, Variant::Maxcpus1),
    cell(Kernel::V6_12, Arch::X86_64, Variant::Smp4),
    cell(Kernel::V6_12, Arch::X86_64, Variant::Lockdown),
    cell(Kernel::V6_12, Arch::Aarch64, Variant::Plain),
];

/// The cells of these kernels, architectures and variants, each with these transports. An empty
/// list is left to us: every kernel, x86-64, the plain boot, what `daemoneye` takes by itself; and
/// [`DEFAULT`] if the first three are.
pub(crate) fn select(
    kernels: &[Kernel],
    arches: &[Arch],
    variants: &[Variant],
    transports: &[Transport],
) -> Vec<Cell> {
    let boots = if kernels.is_empty() && arches.is_empty() && variants.is_empty() {
        DEFAULT.to_vec()
    } else {
        product(
            or(kernels, Kernel::value_variants()),
            or(arches, &[Arch::X86_64]),
            or(variants, &[Variant::Plain]),
        )
    };
    let transports = or(transports, &[Transport::Auto]);
    let each = |cell| {
        transports
            .iter()
            .map(move |&transport| Cell { transport, ..cell })
    };
    boots.into_iter().flat_map(each).collect()
}

/// Every cell that there is, whatever the transport.
pub(crate) fn all() -> Vec<Cell> {
    product(
        Kernel::value_variants(),
        Arch::value_variants(),
        Variant::value_variants(),
    )
}

fn or<'a, T>(list: &'a [T], default: &'a [T]) -> &'a [T] {
    if list.is_empty() { default } else { list }
}

fn product(kernels: &[Kernel], arches: &[Arch], variants: &[Variant]) -> Vec<Cell> {
    let mut cells = Vec::new();
    for &arch in arches {
        for &kernel in kernels {
            cells.extend(variants.iter().map(|&variant| cell(kernel, arch, variant)));
        }
    }
    cells
}

impl Cell {
    /// The options of `cargo xtask vm-test` that select this cell alone.
    pub(crate) fn options(&self) -> String {
        let mut options = format!(
            "--kernel {} --arch {} --variant {}",
            self.kernel.name(),
            self.arch.name(),
            self.variant.name()
        );
        if self.transport != Transport::Auto {
            options += &format!(" --transport {}", self.transport.name());
        }
        options
    }

    /// Where its console is kept.
    pub(crate) fn dir(&self) -> PathBuf {
        dir().join(self.to_string())
    }
}

/// `6.1-x86_64-plain`, and behind it a transport that was asked for
impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [kernel, arch, variant] = [self.kernel.name(), self.arch.name(), self.variant.name()];
        write!(f, "{kernel}-{arch}-{variant}")?;
        match self.transport {
            Transport::Auto => Ok(()),
            asked => write!(f, "-{}", asked.name()),
        }
    }
}

/// Where everything about VMs is kept.
pub(crate) fn dir() -> PathBuf {
    shell::target_dir().join("vm")
}

impl Kernel {
    pub(crate) fn name(self) -> String {
        name(self)
    }

    pub(crate) fn suite(self) -> &'static str {
        match self {
            Self::V5_10 => "bullseye",
            Self::V6_1 => "bookworm",
            Self::V6_12 => "trixie",
            Self::Sid => "sid",
        }
    }
}

impl Arch {
    pub(crate) fn name(self) -> String {
        name(self)
    }

    /// As Debian calls it.
    pub(crate) fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// What the static programs are built for.
    pub(crate) fn target(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-musl",
            Self::Aarch64 => "aarch64-unknown-linux-musl",
        }
    }
}

impl Variant {
    pub(crate) fn name(self) -> String {
        name(self)
    }

    pub(crate) fn cpus(self) -> u8 {
        match self {
            Self::Plain | Self::Lockdown => 2,
            Self::Maxcpus1 | Self::Smp4 => 4,
        }
    }

    /// What it adds to the kernel's command line.
    pub(crate) fn kernel_options(self) -> &'static str {
        match self {
            Self::Plain | Self::Smp4 => "",
            Self::Lockdown => "lockdown=confidentiality",
            Self::Maxcpus1 => "maxcpus=1",
        }
    }

    /// The kinds of scenarios that may not skip themselves here; see `place` of tests/vm.
    pub(crate) fn must_run(self) -> &'static str {
        match self {
            Self::Plain | Self::Smp4 => "ebpf,connector",
            Self::Lockdown => "lockdown,connector",
            Self::Maxcpus1 => "ebpf,connector,offline-cpu",
        }
    }
}

impl Transport {
    pub(crate) fn name(self) -> String {
        name(self)
    }

    /// What every `daemoneye` under test gets. One word, as the kernel's command line splits at
    /// spaces.
    pub(crate) fn test_options(self) -> Option<String> {
        (self != Self::Auto).then(|| format!("--transport={}", self.name()))
    }
}

/// As on the command line.
fn name<T: ValueEnum>(value: T) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::{Arch, DEFAULT, Kernel, Transport, Variant, all, select};

    #[test]
    fn axis_that_nobody_chose_is_kept_small() {
        assert_eq!(select(&[], &[], &[], &[]), DEFAULT);
        let names =
            |cells: Vec<super::Cell>| cells.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            names(select(&[Kernel::V6_1], &[], &[], &[])),
            ["6.1-x86_64-plain"]
        );
        assert_eq!(
            names(select(
                &[Kernel::V6_1, Kernel::Sid],
                &[Arch::Aarch64],
                &[Variant::Smp4],
                &[]
            )),
            ["6.1-aarch64-smp4", "sid-aarch64-smp4"]
        );
        assert_eq!(select(&[], &[Arch::Aarch64], &[], &[]).len(), 4);
        assert_eq!(all().len(), 4 * 2 * 4);
    }

    #[test]
    fn default_has_every_stable_kernel_architecture_and_variant() {
        let stable = |kernel: &&Kernel| **kernel != Kernel::Sid;
        for kernel in Kernel::value_variants().iter().filter(stable) {
            assert!(
                DEFAULT.iter().any(|cell| cell.kernel == *kernel),
                "{kernel:?}"
            );
        }
        for arch in Arch::value_variants() {
            assert!(DEFAULT.iter().any(|cell| cell.arch == *arch), "{arch:?}");
        }
        for variant in Variant::value_variants() {
            assert!(
                DEFAULT.iter().any(|cell| cell.variant == *variant),
                "{variant:?}"
            );
        }
    }

    #[test]
    fn options_of_a_cell_are_what_the_command_line_takes() {
        let options = DEFAULT[1].options();
        assert_eq!(options, "--kernel 6.1 --arch x86_64 --variant maxcpus1");
    }

    #[test]
    fn cells_of_each_transport_stand_together_and_are_told_apart() {
        let both = [Transport::Ring, Transport::Perf];
        let cells = select(&[], &[], &[], &both);
        assert_eq!(cells.len(), 2 * DEFAULT.len());
        let names: Vec<_> = cells[..2].iter().map(ToString::to_string).collect();
        assert_eq!(names, ["5.10-x86_64-plain-ring", "5.10-x86_64-plain-perf"]);
        assert_ne!(cells[0].dir(), cells[1].dir());
        let options = cells[1].options();
        assert_eq!(
            options,
            "--kernel 5.10 --arch x86_64 --variant plain --transport perf"
        );
    }
}
