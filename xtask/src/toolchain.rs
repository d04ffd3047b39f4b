//! What a fresh machine lacks: Debian packages, rustup targets, the BPF linker. Each function
//! does nothing where the thing is there, installs it where that is possible, and else fails with
//! the command that would.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, anyhow, bail};

use crate::shell;

/// The newest release that links against an LLVM which Debian 12 has; it must not be older than
/// the LLVM inside rustc (1.95: 22.1).
const BPF_LINKER_VERSION: &str = "0.13.0";
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";
const LLVM_PACKAGES: [&str; 6] = [
    "llvm-22-dev",
    "libpolly-22-dev",
    "libzstd-dev",
    "zlib1g-dev",
    "libxml2-dev",
    "g++",
];

/// Installs Debian packages unless `present` says that they are not needed.
pub(crate) fn apt(packages: &[&str], present: impl Fn() -> bool) -> Result<()> {
    if present() {
        return Ok(());
    }
    let advice = format!(
        "apt-get install -y --no-install-recommends {}",
        packages.join(" ")
    );
    if shell::find("apt-get").is_none() {
        bail!(
            "this needs what Debian packages as: {}",
            packages.join(", ")
        );
    }
    if !::vm::is_root() {
        bail!("packages are missing; install them with: sudo {advice}");
    }
    let install = || {
        let mut command = Command::new("apt-get");
        command
            .args(["install", "-y", "--no-install-recommends"])
            .args(packages);
        shell::run(command.env("DEBIAN_FRONTEND", "noninteractive"))
    };
    // The list of packages may be old or absent, so a first failure says nothing.
    install().or_else(|_| apt_update().and_then(|()| install()))
}

/// Fetches the list of Debian packages.
pub(crate) fn apt_update() -> Result<()> {
    shell::run(Command::new("apt-get").arg("update"))
}

/// What `docs/verify_evidence.py` imports, from PyPI.
const PYTHON_PACKAGES: [&str; 2] = ["blake3>=1,<2", "cryptography>=42"];

/// A Python that has these packages, in an environment of its own below the target directory.
pub(crate) fn python() -> Result<PathBuf> {
    let dir = shell::target_dir().join("python");
    let python = dir.join("bin/python3");
    let has_packages = || {
        let mut probe = Command::new(&python);
        probe.args(["-c", "import blake3, cryptography"]);
        shell::output(&mut probe).is_ok()
    };
    if has_packages() {
        return Ok(python);
    }
    apt(&["python3", "python3-venv"], || {
        shell::output(Command::new("python3").args(["-c", "import ensurepip, venv"])).is_ok()
    })?;
    shell::run(Command::new("python3").args(["-m", "venv"]).arg(&dir))?;
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--quiet"]);
    shell::run(install.args(PYTHON_PACKAGES))?;
    Ok(python)
}

/// Installs the standard library of a target.
pub(crate) fn rust_target(target: &str) -> Result<()> {
    let query = ["--print", "target-libdir", "--target", target];
    let libdir = shell::text(rustc().args(query))?;
    if Path::new(&libdir).is_dir() {
        return Ok(());
    }
    rustup(&["target", "add", target])
}

/// Installs the sources of the standard library, from which `core` is built for BPF.
fn rust_src() -> Result<()> {
    if has_rust_src()? {
        return Ok(());
    }
    rustup(&["component", "add", "rust-src"])
}

fn has_rust_src() -> Result<bool> {
    Ok(sysroot()?
        .join("lib/rustlib/src/rust/library/core")
        .is_dir())
}

fn rustup(arguments: &[&str]) -> Result<()> {
    if shell::find("rustup").is_none() {
        bail!(
            "rustup is missing; install with your distribution's means what this would add: rustup {}",
            arguments.join(" ")
        );
    }
    shell::run(Command::new("rustup").args(arguments))
}

/// Directory of the toolchain in use.
pub(crate) fn sysroot() -> Result<PathBuf> {
    shell::text(rustc().args(["--print", "sysroot"])).map(PathBuf::from)
}

/// Cargo's home: the registry's sources and installed programs.
pub(crate) fn cargo_home() -> Result<PathBuf> {
    if let Some(home) = std::env::var_os("CARGO_HOME") {
        return Ok(home.into());
    }
    let home = std::env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?;
    Ok(Path::new(&home).join(".cargo"))
}

/// The compiler of this build.
pub(crate) fn rustc() -> Command {
    let mut command = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    command.current_dir(shell::root());
    command
}

/// What builds the eBPF objects.
pub(crate) struct BpfTools {
    pub(crate) linker: PathBuf,
    pub(crate) objcopy: PathBuf,
    pub(crate) sysroot: PathBuf,
    pub(crate) rustc_version: String,
    pub(crate) linker_version: String,
}

impl BpfTools {
    /// Finds the tools, after installing what is missing.
    pub(crate) fn install() -> Result<Self> {
        rust_src()?;
        if find_linker()?.is_none() {
            install_linker()?;
        }
        Self::find()?.ok_or_else(|| anyhow!("bpf-linker was installed but is not to be found"))
    }

    /// The tools, if all are there.
    pub(crate) fn find() -> Result<Option<Self>> {
        let (Some(linker), true) = (find_linker()?, has_rust_src()?) else {
            return Ok(None);
        };
        let sysroot = sysroot()?;
        let host = host_target()?;
        let objcopy = sysroot.join(format!("lib/rustlib/{host}/bin/rust-objcopy"));
        let rustc_version = shell::text(rustc().arg("--version"))?;
        let linker_version = shell::text(Command::new(&linker).arg("--version"))?;
        Ok(Some(Self {
            linker,
            objcopy,
            sysroot,
            rustc_version,
            linker_version,
        }))
    }
}

/// The host's target triple.
pub(crate) fn host_target() -> Result<String> {
    let version = shell::text(rustc().arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}

fn find_linker() -> Result<Option<PathBuf>> {
    let installed = cargo_home()?.join("bin/bpf-linker");
    Ok(shell::find("bpf-linker").or_else(|| installed.is_file().then_some(installed)))
}

fn install_linker() -> Result<()> {
    apt(&LLVM_PACKAGES, || {
        Path::new(LLVM_PREFIX)
            .join("include/llvm-c/Core.h")
            .is_file()
    })
    .context("bpf-linker is built against LLVM 22")?;
    let version = format!("={BPF_LINKER_VERSION}");
    let mut command = shell::cargo(["install", "bpf-linker", "--version", &version, "--locked"]);
    // The default feature wants LLVM 23, which Debian does not have.
    command.args(["--no-default-features", "--features", "llvm-22"]);
    // The first for its build script, the second for that of llvm-sys.
    command
        .env("LLVM_PREFIX", LLVM_PREFIX)
        .env("LLVM_SYS_221_PREFIX", LLVM_PREFIX);
    command.env_remove("CARGO_TARGET_DIR");
    shell::run(&mut command)
}
