//! The QEMU that runs a cell.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;

use super::matrix::{Arch, Cell};
use crate::{shell, toolchain};

/// Fit for every machine of its architecture, without hardware virtualization: a nested KVM that
/// does not know the processor's newer instructions hangs where emulation runs.
struct Qemu {
    program: &'static str,
    /// Debian's name for what it comes in.
    package: &'static str,
    machine: &'static [&'static str],
    console: &'static str,
}

const X86_64: Qemu = Qemu {
    program: "qemu-system-x86_64",
    package: "qemu-system-x86",
    // Without cmpxchg16b, which QEMU 7.2 emulates wrongly: the free lists of 6.12 break under a
    // storm of forks, with or without a sensor ("double fault" in slab code).
    machine: &["-cpu", "max,-cx16"],
    console: "ttyS0",
};

const AARCH64: Qemu = Qemu {
    program: "qemu-system-aarch64",
    package: "qemu-system-arm",
    // Pointers are signed by a cheap function, not by the architecture's cipher, whose emulation
    // takes half of the time.
    machine: &["-machine", "virt", "-cpu", "max,pauth-impdef=on"],
    console: "ttyAMA0",
};

impl Arch {
    fn qemu(self) -> Qemu {
        match self {
            Self::X86_64 => X86_64,
            Self::Aarch64 => AARCH64,
        }
    }
}

/// Installs what builds and runs VMs of this architecture.
pub(crate) fn install(arch: Arch) -> Result<()> {
    let qemu = arch.qemu();
    toolchain::apt(&[qemu.package], || shell::find(qemu.program).is_some())?;
    toolchain::rust_target(arch.target())
}

/// The command that boots a cell, with its console on standard output.
pub(crate) fn boot(cell: &Cell, image: &Path, initramfs: &Path, tests: &[String]) -> Command {
    let qemu = cell.arch.qemu();
    let mut command = Command::new(qemu.program);
    command.args("-accel tcg,thread=multi -m 1024".split(' '));
    command.args(qemu.machine);
    command.arg("-smp").arg(cell.variant.cpus().to_string());
    command.args("-nodefaults -no-reboot -display none -serial stdio".split(' '));
    command.arg("-kernel").arg(image);
    command.arg("-initrd").arg(initramfs);
    command.arg("-append");
    command.arg(kernel_command_line(cell, qemu.console, tests));
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// The kernel gives init what it does not know itself: assignments as variables, and what follows
/// `--` as arguments.
fn kernel_command_line(cell: &Cell, console: &str, tests: &[String]) -> String {
    let must_run = cell.variant.must_run();
    let mut words = vec![
        format!("console={console}"),
        // An oops stops the VM at once.
        "oops=panic panic=-1 loglevel=4".to_owned(),
        // QEMU translates a page of code anew for each address that it is mapped at, and goes through
        // all of these at each byte that is written when the page is used for something else. With
        // random addresses that took it up to half a minute, which the watchdog calls a soft lockup.
        "norandmaps".to_owned(),
        format!("{}={must_run}", ::vm::place::REQUIRE_VARIABLE),
    ];
    if let Some(options) = cell.transport.test_options() {
        words.push(format!("{}={options}", ::vm::place::OPTIONS_VARIABLE));
    }
    let options = cell.variant.kernel_options();
    if !options.is_empty() {
        words.push(options.to_owned());
    }
    if !tests.is_empty() {
        words.push(format!("-- {}", tests.join(" ")));
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::kernel_command_line;
    use crate::vm::matrix::{Cell, DEFAULT, Transport};

    #[test]
    fn command_line_names_the_variant_and_ends_with_the_tests() {
        let line = kernel_command_line(&DEFAULT[1], "ttyS0", &["shell_".into(), "memfd".into()]);
        assert!(line.contains(" norandmaps "), "{line}");
        assert!(line.contains(" maxcpus=1 "), "{line}");
        assert!(
            line.contains("DAEMONEYE_REQUIRE_KERNEL=ebpf,connector,offline-cpu "),
            "{line}"
        );
        assert!(line.ends_with(" -- shell_ memfd"), "{line}");
        assert!(!line.contains("DAEMONEYE_TEST_OPTIONS"), "{line}");
    }

    #[test]
    fn command_line_hands_the_transport_to_every_daemoneye_under_test() {
        let cell = Cell {
            transport: Transport::Perf,
            ..DEFAULT[0]
        };
        let line = kernel_command_line(&cell, "ttyS0", &[]);
        let options = "DAEMONEYE_TEST_OPTIONS=--transport=perf";
        assert!(line.split(' ').any(|word| word == options), "{line}");
    }
}
