//! What goes into a VM: our programs, linked statically, packed into an initramfs.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};

use super::initramfs::Initramfs;
use super::matrix::Arch;
use crate::shell;

/// The linker of rustc itself: with musl's start files, which rustc brings as well, no C toolchain
/// is needed for any architecture.
const LINKER: &str = "rust-lld";

/// Programs of one architecture.
pub(crate) struct Programs {
    /// `daemoneye`, `init` and `workload`, by name.
    programs: HashMap<String, PathBuf>,
    tests: HashMap<String, PathBuf>,
}

impl Programs {
    pub(crate) fn build(arch: Arch) -> Result<Self> {
        let target = arch.target();
        let mut command = shell::cargo(["build", "--release", "--target", target, "-p", "cli"]);
        command.args(["-p", "vm", "--bins", "--test", "*"]);
        command.arg("--message-format=json-render-diagnostics");
        let linker = target.to_uppercase().replace('-', "_");
        command.env(format!("CARGO_TARGET_{linker}_LINKER"), LINKER);
        eprintln!("$ {}", shell::display(&command));
        let command = command.stdin(Stdio::null()).stderr(Stdio::inherit());
        let output = command.output()?;
        ensure!(
            output.status.success(),
            "the static build for {target} ended with {}",
            output.status
        );
        Self::of(&output.stdout)
    }

    /// The programs that cargo's messages name.
    fn of(messages: &[u8]) -> Result<Self> {
        let mut found = Self {
            programs: HashMap::new(),
            tests: HashMap::new(),
        };
        let lines = messages.split(|byte| *byte == b'\n');
        for line in lines.filter(|line| !line.is_empty()) {
            found.note(&serde_json::from_slice(line).context("cargo printed no JSON")?);
        }
        Ok(found)
    }

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
        let path = self.programs.get(name).map(PathBuf::as_path);
        path.with_context(|| format!("no {name} was built"))
    }

    /// Writes the file system that a VM starts with.
    pub(crate) fn pack(&self, shell: &Path, to: &Path) -> Result<()> {
        let file = File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
        let mut archive = Initramfs::new(BufWriter::new(file));
        for dir in ["dev", "proc", "sys", "tmp", "bin", "tests", "etc", "root"] {
            archive.dir(dir)?;
        }
        archive.console()?;
        archive.program("init", self.path("init")?)?;
        archive.program("bin/workload", self.path("workload")?)?;
        archive.program("bin/daemoneye", self.path("daemoneye")?)?;
        archive.program("bin/sh", shell)?;
        for (name, file) in &self.tests {
            archive.program(&format!("tests/{name}"), file)?;
        }
        Ok(archive.finish()?)
    }
}
