//! Kernels and a shell for the VM, from Debian's packages, without root: apt works on directories
//! of its own under `target/vm-cache` and installs nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::shell;

/// A kernel that scenarios run on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kernel {
    /// As `--kernel` names it.
    pub(crate) name: &'static str,
    suite: &'static str,
    package: &'static str,
}

/// The cloud flavour has the same tracing and BPF options as the normal one, BTF included, and a
/// quarter of its drivers.
const KERNELS: [Kernel; 2] = [
    Kernel {
        name: "6.1",
        suite: "bookworm",
        package: "linux-image-cloud-amd64",
    },
    Kernel {
        name: "6.12",
        suite: "trixie",
        package: "linux-image-cloud-amd64",
    },
];

impl Kernel {
    pub(crate) fn named(name: &str) -> Result<Self> {
        let known = KERNELS.map(|kernel| kernel.name).join(", ");
        let found = KERNELS.into_iter().find(|kernel| kernel.name == name);
        found.with_context(|| format!("no kernel {name} here; known are {known}"))
    }

    /// The kernel image, fetched once.
    pub(crate) fn image(&self) -> Result<PathBuf> {
        let image = cache()
            .join(self.suite)
            .join(format!("vmlinuz-{}", self.name));
        if !image.is_file() {
            let apt = Apt::new(self.suite)?;
            let package = apt.dependency(self.package, "linux-image-")?;
            apt.extract(&package, |path| starts_with(path, "vmlinuz-"), &image)?;
        }
        Ok(image)
    }

    /// The VM's `/bin/sh`. Not busybox: its shell runs `exec true` without an exec.
    pub(crate) fn shell(&self) -> Result<PathBuf> {
        let shell = cache().join(self.suite).join("bash-static");
        if !shell.is_file() {
            let apt = Apt::new(self.suite)?;
            apt.extract(
                "bash-static",
                |path| starts_with(path, "bash-static"),
                &shell,
            )?;
        }
        Ok(shell)
    }
}

fn starts_with(path: &Path, start: &str) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let dir = path.parent().and_then(Path::file_name).unwrap_or_default();
    name.starts_with(start) && (dir == "boot" || dir == "bin")
}

fn cache() -> PathBuf {
    shell::target_dir().join("vm-cache")
}

/// apt on one suite, in a directory of its own.
struct Apt {
    dir: PathBuf,
}

impl Apt {
    fn new(suite: &str) -> Result<Self> {
        for tool in ["apt-get", "apt-cache", "dpkg-deb"] {
            shell::find(tool).with_context(|| {
                format!("kernels come from Debian packages, and {tool} is missing")
            })?;
        }
        let apt = Self {
            dir: cache().join(suite),
        };
        fs::create_dir_all(apt.dir.join("lists/partial"))?;
        fs::create_dir_all(apt.dir.join("archives/partial"))?;
        fs::write(apt.dir.join("sources.list"), source_line(suite)?)?;
        shell::run(apt.command("apt-get").arg("update").arg("-qq"))?;
        Ok(apt)
    }

    fn command(&self, tool: &str) -> Command {
        let path = |name: &str| self.dir.join(name).display().to_string();
        let mut command = Command::new(tool);
        let options = [
            format!("Dir::Etc::SourceList={}", path("sources.list")),
            "Dir::Etc::SourceParts=/dev/null".into(),
            format!("Dir::State::Lists={}", path("lists")),
            format!("Dir::Cache={}", self.dir.display()),
            // As root, apt would else switch to a user who may not write here.
            "APT::Sandbox::User=root".into(),
            "Acquire::Languages=none".into(),
        ];
        for option in options {
            command.arg("-o").arg(option);
        }
        command.current_dir(&self.dir);
        command
    }

    /// What a meta package stands for.
    fn dependency(&self, package: &str, start: &str) -> Result<String> {
        let depends = shell::text(self.command("apt-cache").args(["depends", package]))?;
        let found = depends.lines().find_map(|line| {
            line.trim()
                .strip_prefix("Depends: ")
                .filter(|name| name.starts_with(start))
        });
        Ok(found
            .with_context(|| format!("{package} depends on no {start}*"))?
            .to_owned())
    }

    /// Fetches a package and copies the first file that `wanted` accepts out of it.
    fn extract(&self, package: &str, wanted: impl Fn(&Path) -> bool, to: &Path) -> Result<()> {
        shell::run(self.command("apt-get").args(["download", "-qq", package]))?;
        let start = format!("{package}_");
        let archive = find_file(&self.dir, &|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(&start))
        })?;
        let archive = archive.with_context(|| format!("apt-get download left no {start}*.deb"))?;
        let unpacked = self.dir.join("unpacked");
        shell::run(
            Command::new("dpkg-deb")
                .arg("-x")
                .arg(&archive)
                .arg(&unpacked),
        )?;
        let file = find_file(&unpacked, &wanted)?;
        let file = file.with_context(|| format!("{package} does not hold the file wanted"))?;
        // Renamed last, so that a file in the cache is always whole.
        fs::copy(&file, to.with_extension("part"))?;
        fs::rename(to.with_extension("part"), to)?;
        fs::remove_dir_all(&unpacked)?;
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
    let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let signed = if Path::new(keyring).exists() {
        format!("[signed-by={keyring}] ")
    } else {
        String::new()
    };
    Ok(format!("deb {signed}{mirror} {suite} main\n"))
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
    use super::mirror_in;

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
}
