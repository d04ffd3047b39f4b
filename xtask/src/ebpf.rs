//! The kernel object: built here, committed, and proved fresh.
//!
//! Users need no BPF toolchain because the built objects are in the repository. The price is that
//! they can be stale; the stamp beside them and `--check` are what stops that. Paths are remapped,
//! so the same sources and tools give the same bytes from any directory.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::shell;
use crate::stamp::{Kind, Stamp};
use crate::toolchain::{self, BpfTools};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Fails when the committed objects do not match their sources
    #[arg(long)]
    check: bool,
    /// The workspace whose objects are built (another copy shows that they are reproducible)
    #[arg(long, hide = true)]
    root: Option<PathBuf>,
}

const CRATE: &str = "sensor-ebpf";
const TARGET: &str = "bpfel-unknown-none";
const FLAG: &str = "-Clink-arg=--btf";
/// The workspace's release profile keeps overflow checks, whose panics no verifier accepts.
const PROFILE: [(&str, &str); 4] = [
    ("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "false"),
    ("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "false"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "2"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
];
const OUTPUT: &str = "sensor-linux/ebpf";
const STAMP: &str = "daemoneye.bpf.stamp";

/// An object and the features that it is built with.
struct Object {
    file: &'static str,
    features: &'static str,
}

const OBJECTS: [Object; 3] = [
    Object {
        file: "daemoneye.bpf.o",
        features: "",
    },
    Object {
        file: "daemoneye-perf.bpf.o",
        features: "perf",
    },
    Object {
        file: "daemoneye-debug.bpf.o",
        features: "debug-log",
    },
];

pub(crate) fn run(args: &Args) -> Result<()> {
    let root = args.root.as_deref().unwrap_or(shell::root());
    if args.check {
        check(root).map(shell::say)
    } else {
        build(root)
    }
}

fn build(root: &Path) -> Result<()> {
    let tools = BpfTools::install()?;
    let built = build_objects(root, &tools)?;
    let stamp = stamp(root, &tools, &built)?;
    let output = root.join(OUTPUT);
    std::fs::create_dir_all(&output)?;
    for (object, bytes) in OBJECTS.iter().zip(&built) {
        write_if_changed(&output.join(object.file), bytes)?;
        shell::say(format_args!(
            "{OUTPUT}/{} {} bytes",
            object.file,
            bytes.len()
        ));
    }
    write_if_changed(&output.join(STAMP), stamp.to_string().as_bytes())
}

/// Compares sources and objects with the stamp, and objects with fresh ones where they can be
/// built. Gives what was found in one line.
pub(crate) fn check(root: &Path) -> Result<String> {
    let output = root.join(OUTPUT);
    let stamp = Stamp::read(&output.join(STAMP)).context("run `cargo xtask ebpf`")?;
    check_sources(root, &stamp)?;
    let committed: Vec<Vec<u8>> = OBJECTS
        .iter()
        .map(|object| read(&output.join(object.file)))
        .collect::<Result<_>>()?;
    check_objects(&stamp, &committed)?;
    match reason_not_to_rebuild(&stamp)? {
        Some(reason) => Ok(format!(
            "eBPF objects match their stamp; rebuild skipped: {reason}"
        )),
        None => {
            check_rebuild(root, &committed)?;
            Ok("eBPF objects match their stamp and a rebuild, byte for byte".into())
        }
    }
}

fn check_sources(root: &Path, stamp: &Stamp) -> Result<()> {
    let mut now = Stamp::default();
    stamp_sources(root, &mut now)?;
    let kinds = [Kind::Source, Kind::Package, Kind::Flags];
    let changed: Vec<_> = kinds
        .iter()
        .flat_map(|kind| stamp.differing(&now, *kind))
        .collect();
    ensure!(
        changed.is_empty(),
        "the eBPF objects are older than their sources: {} changed; run `cargo xtask ebpf`",
        changed.join(", ")
    );
    Ok(())
}

fn check_objects(stamp: &Stamp, committed: &[Vec<u8>]) -> Result<()> {
    for (object, bytes) in OBJECTS.iter().zip(committed) {
        ensure!(
            stamp.get(Kind::Object, object.file) == Some(&hash(bytes)),
            "{OUTPUT}/{} is not the object of its stamp; run `cargo xtask ebpf`",
            object.file
        );
    }
    Ok(())
}

fn reason_not_to_rebuild(stamp: &Stamp) -> Result<Option<String>> {
    let Some(tools) = BpfTools::find()? else {
        return Ok(Some("bpf-linker or rust-src is not installed".into()));
    };
    let mut here = Stamp::default();
    stamp_tools(&tools, &mut here);
    let other = stamp.differing(&here, Kind::Tool);
    Ok((!other.is_empty()).then(|| format!("built with another version of {}", other.join(", "))))
}

fn check_rebuild(root: &Path, committed: &[Vec<u8>]) -> Result<()> {
    let tools = BpfTools::find()?.context("the BPF toolchain vanished")?;
    let built = build_objects(root, &tools)?;
    for ((object, old), new) in OBJECTS.iter().zip(committed).zip(&built) {
        if old != new {
            bail!(
                "a rebuild of {OUTPUT}/{} gives other bytes; run `cargo xtask ebpf`",
                object.file
            );
        }
    }
    Ok(())
}

fn build_objects(root: &Path, tools: &BpfTools) -> Result<Vec<Vec<u8>>> {
    OBJECTS
        .iter()
        .map(|object| build_object(root, tools, object))
        .collect()
}

fn build_object(root: &Path, tools: &BpfTools, object: &Object) -> Result<Vec<u8>> {
    // Of its own: the flags differ from those of every other build.
    let target_dir = shell::target_dir().join("ebpf");
    let mut command = shell::cargo(["build", "--release", "--quiet", "--target", TARGET]);
    command
        .current_dir(root)
        .args(["-Z", "build-std=core", "-p", CRATE, "--bin", CRATE]);
    command.args(["--features", object.features]);
    command.env("CARGO_TARGET_DIR", &target_dir).envs(PROFILE);
    // build-std and the target's lack of a prebuilt core need it; the sources use no feature gates.
    command.env("RUSTC_BOOTSTRAP", "1");
    command.env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &tools.linker);
    command.env("CARGO_ENCODED_RUSTFLAGS", rustflags(root, tools)?);
    shell::run(command.env_remove("RUSTFLAGS").env_remove("RUSTC_WRAPPER"))?;
    strip(tools, &target_dir.join(TARGET).join("release").join(CRATE))
}

fn rustflags(root: &Path, tools: &BpfTools) -> Result<String> {
    let cargo_home = toolchain::cargo_home()?;
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    let flags = [
        FLAG.to_owned(),
        remap(&cargo_home, "/cargo"),
        remap(&tools.sysroot, "/rust"),
        remap(&std::fs::canonicalize(root)?, "/daemoneye"),
    ];
    Ok(flags.join("\x1f"))
}

/// Drops DWARF and keeps BTF, which the loader needs.
fn strip(tools: &BpfTools, linked: &Path) -> Result<Vec<u8>> {
    let stripped = linked.with_extension("stripped");
    let mut command = Command::new(&tools.objcopy);
    command.arg("--strip-debug").arg(linked).arg(&stripped);
    shell::output(command.env("LD_LIBRARY_PATH", tools.sysroot.join("lib")))?;
    read(&stripped)
}

fn stamp(root: &Path, tools: &BpfTools, built: &[Vec<u8>]) -> Result<Stamp> {
    let mut stamp = Stamp::default();
    stamp_sources(root, &mut stamp)?;
    stamp_tools(tools, &mut stamp);
    for (object, bytes) in OBJECTS.iter().zip(built) {
        stamp.insert(Kind::Object, object.file, hash(bytes));
    }
    Ok(stamp)
}

fn stamp_tools(tools: &BpfTools, stamp: &mut Stamp) {
    stamp.insert(Kind::Tool, "rustc", tools.rustc_version.clone());
    stamp.insert(Kind::Tool, "bpf-linker", tools.linker_version.clone());
}

fn stamp_sources(root: &Path, stamp: &mut Stamp) -> Result<()> {
    for path in files_under(&root.join(CRATE))? {
        let name = path
            .strip_prefix(root)
            .context("a source is outside the workspace")?;
        stamp.insert(Kind::Source, &name.to_string_lossy(), hash(&read(&path)?));
    }
    for (name, value) in locked_packages(root)? {
        stamp.insert(Kind::Package, &name, value);
    }
    let profile = PROFILE.map(|(name, value)| format!("{name}={value}"));
    stamp.insert(
        Kind::Flags,
        "rustc",
        format!("{FLAG} {}", profile.join(" ")),
    );
    Ok(())
}

/// The packages whose code ends up in the object, with version and checksum. What those are built
/// with is left out: it changes often and the object does not; a rebuild is what checks that.
fn locked_packages(root: &Path) -> Result<Vec<(String, String)>> {
    let path = root.join("Cargo.lock");
    let lock = std::fs::read_to_string(&path).context("cannot read Cargo.lock")?;
    let lock: toml::Table = lock.parse().context("Cargo.lock is no TOML")?;
    let packages = lock.get("package").and_then(toml::Value::as_array);
    let packages = packages.context("Cargo.lock has no packages")?.iter();
    let kernel_side = packages.filter(|package| {
        let name = field(package, "name");
        ["aya-ebpf", "aya-log-ebpf", "aya-log-common"]
            .iter()
            .any(|start| name.starts_with(start))
    });
    let line = |p| {
        (
            format!("{} {}", field(p, "name"), field(p, "version")),
            field(p, "checksum"),
        )
    };
    Ok(kernel_side
        .map(line)
        .map(|(name, checksum)| (name, checksum.to_owned()))
        .collect())
}

fn field<'a>(package: &'a toml::Value, name: &str) -> &'a str {
    package
        .get(name)
        .and_then(toml::Value::as_str)
        .unwrap_or_default()
}

fn files_under(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        let entries = std::fs::read_dir(&dir).with_context(|| format!("no {}", dir.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                dirs.push(path)
            } else {
                files.push(path)
            }
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Leaves an equal file alone, so that nothing is rebuilt for it.
fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<()> {
    if std::fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}
