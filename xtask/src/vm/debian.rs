//! Kernels and a shell for the VM, from Debian's packages, without root: apt works on directories
//! of its own and installs nothing. It verifies what it fetches as ever: the signature of the
//! suite's Release file, and by that the hash of each package.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Error, Result, bail};

use super::matrix::{Arch, Cell, dir};
use crate::shell;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The suite cannot be had, which says nothing about us.
#[derive(Debug)]
pub(crate) struct Unreachable(String);

impl Unreachable {
    /// What apt said, without the command and its many options.
    fn of(suite: &str, error: &Error) -> Self {
        let error = error.to_string();
        let said = error.split_once('\n').map_or(&*error, |(_, said)| said);
        Self(format!("no package list of {suite}: {said}"))
    }
}

impl std::fmt::Display for Unreachable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unreachable {}

/// What a VM needs from Debian.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) kernel: PathBuf,
    /// Not busybox: its shell runs `exec true` without an exec.
    pub(crate) shell: PathBuf,
}

/// The files for a cell: fetched once, then taken from the cache. With `refresh` they are fetched
/// anew, and kept as they were if that does not work.
pub(crate) fn files(cell: &Cell, refresh: bool) -> Result<Files> {
    let (suite, arch) = (cell.kernel.suite(), cell.arch.debian());
    let cache = dir().join("debian").join(format!("{suite}-{arch}"));
    let files = Files {
        kernel: cache.join("vmlinuz"),
        shell: cache.join("bash-static"),
    };
    let cached = files.kernel.is_file() && files.shell.is_file();
    if cached && !refresh {
        return Ok(files);
    }
    match fetch(suite, cell.arch, &cache, &files) {
        Err(error) if cached => eprintln!("{suite} as it was: {error:#}"),
        other => other?,
    }
    Ok(files)
}

/// The cloud flavour has the same tracing and BPF options as the normal one, BTF included, and a
/// quarter of its drivers.
fn fetch(suite: &str, arch: Arch, cache: &Path, files: &Files) -> Result<()> {
    let apt = Apt::new(suite, arch.debian(), cache)?;
    let meta = format!("linux-image-cloud-{}", arch.debian());
    let package = apt.dependency(&meta, "linux-image-")?;
    let package = package.with_context(|| format!("{meta} depends on no linux-image-*"))?;
    // Since 7.1 that is a meta package, too.
    let binary = apt.dependency(&package, "linux-binary-")?;
    apt.extract(&binary.unwrap_or(package), is_kernel, &files.kernel)?;
    apt.extract(
        "bash-static",
        |path| path.ends_with("bin/bash-static"),
        &files.shell,
    )
}

/// `boot/vmlinuz-6.1.0-1-amd64` or `usr/lib/modules/7.2-amd64/vmlinuz`.
fn is_kernel(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name == "vmlinuz" || name.starts_with("vmlinuz-")
}

/// apt on one suite and architecture, in a directory of its own.
struct Apt<'a> {
    dir: &'a Path,
    arch: &'a str,
}

impl<'a> Apt<'a> {
    fn new(suite: &str, arch: &'a str, dir: &'a Path) -> Result<Self> {
        for tool in ["apt-get", "apt-cache", "dpkg-deb"] {
            shell::find(tool).with_context(|| {
                format!("kernels come from Debian packages, and {tool} is missing")
            })?;
        }
        for part in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(dir.join(part))?;
        }
        fs::write(dir.join("sources.list"), source_line(suite)?)?;
        let apt = Self { dir, arch };
        // Without the option, apt takes old lists for success.
        let mut update = apt.command("apt-get");
        update.args(["update", "-qq", "-o", "APT::Update::Error-Mode=any"]);
        shell::output(&mut update).map_err(|error| Unreachable::of(suite, &error))?;
        Ok(apt)
    }

    fn command(&self, tool: &str) -> Command {
        let path = |name: &str| self.dir.join(name).display().to_string();
        let mut command = Command::new(tool);
        let options = [
            format!("Dir::Etc::SourceList={}", path("sources.list")),
            "Dir::Etc::SourceParts=/dev/null".into(),
            format!("Dir::State::Lists={}", path("lists")),
            // What is installed here is no matter, least of all for another architecture.
            "Dir::State::Status=/dev/null".into(),
            format!("Dir::Cache={}", self.dir.display()),
            format!("APT::Architecture={}", self.arch),
            format!("APT::Architectures={}", self.arch),
            // As root, apt would else switch to a user who may not write here.
            "APT::Sandbox::User=root".into(),
            "Acquire::Languages=none".into(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".into(),
        ];
        for option in options {
            command.arg("-o").arg(option);
        }
        command.env("LC_ALL", "C").current_dir(self.dir);
        command
    }

    /// The first package of such a name that a meta package depends on.
    fn dependency(&self, package: &str, start: &str) -> Result<Option<String>> {
        let depends = shell::text(self.command("apt-cache").args(["depends", package]))?;
        let found = depends.lines().find_map(|line| {
            let name = line.trim().strip_prefix("Depends: ")?;
            name.starts_with(start).then(|| name.to_owned())
        });
        Ok(found)
    }

    /// Fetches a package and copies the one file that `wanted` accepts out of it.
    fn extract(&self, package: &str, wanted: impl Fn(&Path) -> bool, to: &Path) -> Result<()> {
        shell::run(self.command("apt-get").args(["download", "-qq", package]))?;
        let start = format!("{package}_");
        let is_archive = |path: &Path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(&start) && name.ends_with(".deb")
        };
        let archive = find_file(self.dir, &is_archive)?;
        let archive = archive.with_context(|| format!("apt-get download left no {start}*.deb"))?;
        let unpacked = tempfile::tempdir_in(self.dir)?;
        let mut unpack = Command::new("dpkg-deb");
        shell::run(unpack.arg("-x").arg(&archive).arg(unpacked.path()))?;
        let file = find_file(unpacked.path(), &wanted)?;
        let file = file.with_context(|| format!("{package} does not hold the file wanted"))?;
        // Renamed last, so that a file in the cache is always whole.
        fs::copy(&file, to.with_extension("part"))?;
        fs::rename(to.with_extension("part"), to)?;
        Ok(fs::remove_file(&archive)?)
    }
}

/// The mirror that this machine uses, with the suite that is wanted.
fn source_line(suite: &str) -> Result<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
    }
    let mut texts = files
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok());
    let Some(mirror) = texts.find_map(|text| mirror_in(&text).map(str::to_owned)) else {
        bail!("no Debian mirror in /etc/apt/sources.list or /etc/apt/sources.list.d");
    };
    Ok(format!("deb {}{mirror} {suite} main\n", signed_by()))
}

/// Which keys may sign the suite. apt refuses a suite that none of its keys has signed.
fn signed_by() -> String {
    if Path::new(KEYRING).exists() {
        return format!("[signed-by={KEYRING}] ");
    }
    eprintln!("no {KEYRING}: packages are verified with whatever keys apt trusts here");
    String::new()
}

/// The first address that ends in `/debian`, in either of apt's formats.
fn mirror_in(text: &str) -> Option<&str> {
    let lines = text
        .lines()
        .filter(|line| line.starts_with("deb ") || line.starts_with("URIs:"));
    let mut words = lines.flat_map(str::split_whitespace);
    words.find(|word| word.contains("://") && word.trim_end_matches('/').ends_with("/debian"))
}

fn find_file(dir: &Path, wanted: &dyn Fn(&Path) -> bool) -> Result<Option<PathBuf>> {
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                dirs.push(entry.path());
            } else if entry.file_type()?.is_file() && wanted(&entry.path()) {
                return Ok(Some(entry.path()));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{is_kernel, mirror_in};

    #[test]
    fn mirror_is_found_in_both_formats() {
        let check = |text, mirror| assert_eq!(mirror_in(text), mirror, "{text}");
        check(
            "Types: deb\nURIs: http://m.example/debian\nSuites: x\n",
            Some("http://m.example/debian"),
        );
        check(
            "deb [arch=amd64] https://m.example/debian/ x main\n",
            Some("https://m.example/debian/"),
        );
        check("# deb http://m.example/debian x main\n", None);
        check("deb http://m.example/ubuntu x main\n", None);
    }

    #[test]
    fn kernel_is_found_where_old_and_new_packages_have_it() {
        let check =
            |path: &str, expected| assert_eq!(is_kernel(Path::new(path)), expected, "{path}");
        check("boot/vmlinuz-6.1.0-1-amd64", true);
        check("usr/lib/modules/7.2-amd64/vmlinuz", true);
        check("boot/config-6.1.0-1-amd64", false);
        check("usr/lib/modules/7.2-amd64/vmlinux.ko", false);
    }
}
