//! Ordinary work, recorded: what a host does all day, and no rule should mind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use tempfile::TempDir;

use super::interrupt;
use super::target::{Mode, Sensor};
use crate::shell;

/// A kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// `cargo build` of a crate of this workspace, with all it depends on.
    RustBuild,
    /// `make` of a program in C of many files.
    CBuild,
    /// `apt-get install` of packages with maintainer scripts.
    Packages,
}

impl Work {
    pub(super) const ALL: [Self; 3] = [Self::RustBuild, Self::CBuild, Self::Packages];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::RustBuild => "Rust build",
            Self::CBuild => "C build",
            Self::Packages => "apt-get install",
        }
    }

    fn file_name(self) -> &'static str {
        match self {
            Self::RustBuild => "rust-build.events",
            Self::CBuild => "c-build.events",
            Self::Packages => "packages.events",
        }
    }

    /// What it needs that is not here.
    fn missing(self) -> Option<&'static str> {
        let needs: &[&'static str] = match self {
            Self::RustBuild => &[],
            Self::CBuild => &["make", "cc", "ar"],
            Self::Packages => &["apt-get"],
        };
        needs.iter().copied().find(|p| shell::find(p).is_none())
    }

    fn run(self) -> Result<()> {
        let dir = tempfile::tempdir_in(shell::target_dir())?;
        match self {
            Self::RustBuild => {
                let build = shell::cargo(["build", "--quiet", "-p", "pipeline", "--target-dir"]);
                quietly({ build }.arg(dir.path()))
            }
            Self::CBuild => {
                write_c_project(&dir)?;
                quietly(Command::new("make").args(["--jobs", "2"]).current_dir(&dir))
            }
            Self::Packages => quietly(
                Command::new("apt-get")
                    .args(["install", "--yes", "--reinstall"])
                    .args(["hostname", "tzdata", "login"])
                    .env("DEBIAN_FRONTEND", "noninteractive"),
            ),
        }
    }
}

/// The recording of such work; `Err` says why there is none here. One that is there is taken as it
/// is.
pub(super) fn recording(work: Work) -> Result<std::result::Result<PathBuf, String>> {
    let dir = shell::target_dir().join("bench");
    let file = dir.join(work.file_name());
    if file.exists() {
        return Ok(Ok(file));
    }
    if let Some(missing) = work.missing() {
        return Ok(Err(format!("{missing} is not installed")));
    }
    fs::create_dir_all(&dir)?;
    eprintln!("recording: {}", work.name());
    let sensor = Sensor::start(Mode::Collector, ["--sensor", "ebpf"])?;
    interrupt::check()?;
    let done = work.run();
    match done {
        Ok(()) => sensor.stop_and_keep(&file).map(|()| Ok(file)),
        Err(error) => sensor.stop().map(|_| Err(format!("{error:#}"))),
    }
}

fn quietly(command: &mut Command) -> Result<()> {
    shell::output(command).map(drop)
}

/// Files enough that `make`, the compiler driver, the assembler and the archiver run a while.
const C_FILES: u32 = 60;

fn write_c_project(dir: &TempDir) -> Result<()> {
    let at = |name: &str| dir.path().join(name);
    let mut main = String::from("int main(void) { int sum = 0;\n");
    for number in 0..C_FILES {
        let text = format!(
            "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n\
             int part{number}(int x) {{ char b[32]; snprintf(b, sizeof b, \"%d\", x); \
             return (int)strlen(b) + {number}; }}\n"
        );
        fs::write(at(&format!("part{number}.c")), text)?;
        main += &format!("extern int part{number}(int); sum += part{number}(sum);\n");
    }
    fs::write(at("main.c"), main + "return sum == 0; }\n")?;
    fs::write(at("Makefile"), MAKEFILE)?;
    make_executable(&at("configure"))
}

/// As such projects do: a script that probes the host, an archive, a program, a test, an install.
const MAKEFILE: &str = "\
OBJECTS := $(patsubst %.c,%.o,$(wildcard part*.c))
all: check
config.h: configure
\t./configure > $@
%.o: %.c config.h
\t$(CC) -O2 -c -o $@ $<
libparts.a: $(OBJECTS)
\trm -f $@
\tar cr $@ $^
\tranlib $@
program: main.c libparts.a
\t$(CC) -O2 -o $@ main.c libparts.a
check: program
\t./program && mkdir -p out/bin && install -m 755 program out/bin/ && ls -l out/bin | grep program
";

const CONFIGURE: &str = "#!/bin/sh\nset -e\nuname -sm\ncc --version | head -n 1\n\
    for tool in sed awk grep tr cut; do command -v $tool; done\n\
    echo int | sed s/int/long/ | tr a-z A-Z\nexpr 1 + 1\ndate +%Y\nid -u\n";

fn make_executable(configure: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;

    fs::write(configure, CONFIGURE)?;
    Ok(fs::set_permissions(
        configure,
        fs::Permissions::from_mode(0o755),
    )?)
}
