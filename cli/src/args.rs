//! Every flag, once.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use agent::alert::Policy;
use agent::rules::Wanted;
use clap::{ArgAction, Parser, Subcommand, ValueEnum};
use detect::sigma::Os;
use event::Level;
use ledger::Retention;
use pipeline::TableLimits;
use pipeline::hash::HashPolicy;

use crate::exit;

/// Watches every process start and end on this host, matches each event against rules as it
/// happens, and keeps a signed ledger that cannot be altered unseen.
#[derive(Debug, Parser)]
#[command(name = "daemoneye", version, after_help = exit::table())]
pub(crate) struct Args {
    /// Print JSON instead of text; an error is then one line of JSON on standard error.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Log more of what daemoneye does to standard error; repeat for debug and trace. The variable
    /// DAEMONEYE_LOG (`LEVEL` or `CRATE=LEVEL`, several with commas) overrides, for libraries too.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Watch this host until interrupted; alerts go to standard output.
    Run(Run),
    /// Run recorded events through the same stages and rules.
    Replay(Replay),
    /// Write this host's events to a file until interrupted.
    Record(Record),
    /// Check, test, list or export rules.
    #[command(subcommand)]
    Rules(Rules),
    /// Verify the ledger or prove one of its entries.
    #[command(subcommand)]
    Ledger(Ledger),
    /// Show how the daemon does that runs here.
    Status(StateDir),
    /// Show what this host offers to the sensor and what would fix what is missing.
    Doctor,
    /// Drain and count the sensor's records: the floor that `cargo xtask bench` measures against.
    #[command(hide = true)]
    BenchCount(BenchCount),
}

impl Command {
    /// Whether messages from the kernel programs are wanted.
    pub(crate) fn wants_kernel_log(&self) -> bool {
        match self {
            Self::Run(run) => run.sensor.ebpf_debug,
            Self::Record(record) => record.sensor.ebpf_debug,
            _ => false,
        }
    }
}

/// Of `run`, the only command that creates one.
const STATE_DIR: &str = "Directory for the ledger and its keys; created if it does not exist (not its \
    parent, unless it is the default). Default: by platform, for root /var/lib/daemoneye on Linux, for \
    others below their home";

#[derive(Debug, clap::Args)]
#[command(mut_arg("state_dir", |arg| arg.help(STATE_DIR)))]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) state: StateDir,
    #[command(flatten)]
    pub(crate) sensor: Sensor,
    #[command(flatten)]
    pub(crate) hash: Hash,
    #[command(flatten)]
    pub(crate) table: Table,
    #[command(flatten)]
    pub(crate) alerts: Alerts,
    /// Write all counters to this file at the end.
    #[arg(long, value_name = "FILE")]
    pub(crate) stats_json: Option<PathBuf>,
    /// Keep the figures of `daemoneye status` in this file, in Prometheus' text format: for the
    /// textfile collector of node_exporter, whose files end in `.prom`. The account that rights are
    /// given up to must be able to write to its directory.
    #[arg(long, value_name = "FILE")]
    pub(crate) metrics_file: Option<PathBuf>,
    /// Copy every checkpoint to this directory too: on another disk, a stick, a share of another
    /// host. It must exist, and the account that rights are given up to must be able to write to
    /// it. A ledger that does not continue the newest checkpoint there is refused.
    #[arg(long, value_name = "DIR")]
    pub(crate) checkpoint_dir: Option<PathBuf>,
    /// Sign with new keys after so many days, and erase the old ones: whoever takes the keys cannot
    /// sign for entries from before. 0: never.
    #[arg(long, value_name = "DAYS", default_value_t = 7)]
    pub(crate) rotate_keys: u32,
    #[command(flatten)]
    pub(crate) keep: Keep,
    /// Account to drop to after start, by name or number. Default: `daemoneye` if it exists, else
    /// a number that belongs to nobody. Only used when started as root.
    #[arg(long, value_name = "USER")]
    pub(crate) user: Option<String>,
}

/// What is kept of the ledger's entries. Default: all.
#[derive(Debug, clap::Args)]
pub(crate) struct Keep {
    /// Drop the oldest entries of the ledger when all take more than this: bytes, or with `K`, `M`,
    /// `G` or `T` behind the number, 1,024 of the one before; at least 16M. Hashes stay, so that what
    /// is kept can still be proven, and the ledger records what was dropped. Default: no limit.
    #[arg(long, value_name = "SIZE", value_parser = kept_bytes)]
    pub(crate) keep_bytes: Option<u64>,
    /// Drop entries of the ledger that are older than so many days, by whole files of up to 16 MiB.
    /// Default: no limit.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub(crate) keep_days: Option<u32>,
}

const SECONDS_PER_DAY: u64 = 86_400;

impl Keep {
    /// `None` where all is kept.
    pub(crate) fn retention(&self) -> Option<Retention> {
        let seconds = self.keep_days.map(|days| u64::from(days) * SECONDS_PER_DAY);
        let bytes = self.keep_bytes;
        (bytes.is_some() || seconds.is_some()).then_some(Retention { bytes, seconds })
    }

    /// Size of the files that are dropped whole: an eighth of all, so that nearly all that may be
    /// kept is, and not days more than what was asked for.
    pub(crate) fn segment_bytes(&self) -> Option<u64> {
        let by_bytes = self.keep_bytes.map(|bytes| (bytes / 8).min(256 << 20));
        let by_days = self.keep_days.map(|_| 16 << 20);
        by_bytes.into_iter().chain(by_days).min()
    }
}

fn kept_bytes(text: &str) -> Result<u64, String> {
    let units = [("K", 10), ("M", 20), ("G", 30), ("T", 40)];
    let unit = units
        .iter()
        .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)));
    let (number, shift) = unit.unwrap_or((text, 0));
    let number: Option<u64> = number.parse().ok();
    number
        .and_then(|number| number.checked_mul(1 << shift))
        .filter(|bytes| *bytes >= 16 << 20)
        .ok_or_else(|| "expected a number of bytes of at least 16M, such as 500M or 20G".into())
}

#[derive(Debug, clap::Args)]
pub(crate) struct Replay {
    /// Recording made by `daemoneye record`.
    pub(crate) file: PathBuf,
    /// Keep the replay's ledger in this state directory. Default: a temporary one.
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) table: Table,
    #[command(flatten)]
    pub(crate) alerts: Alerts,
    #[command(flatten)]
    pub(crate) os: RulesOf,
    /// Write all counters to this file at the end.
    #[arg(long, value_name = "FILE")]
    pub(crate) stats_json: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RulesOf {
    /// System whose Sigma rules are wanted: that of the events. Default: this one.
    #[arg(long, value_name = "OS", value_parser = ["linux", "macos", "windows", "all"])]
    os: Option<String>,
}

impl RulesOf {
    /// These rules, for that system.
    pub(crate) fn of(&self, paths: &[PathBuf]) -> Wanted {
        match self.os.as_deref() {
            None => Wanted::here(paths),
            // `all` is no system's name.
            Some(os) => Wanted {
                paths: paths.to_vec(),
                host: Os::from_name(os),
            },
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Record {
    /// File to write; it must not exist yet.
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) sensor: Sensor,
    #[command(flatten)]
    pub(crate) hash: Hash,
    /// Stop after this many seconds.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) seconds: Option<u64>,
    /// Write all counters to this file at the end.
    #[arg(long, value_name = "FILE")]
    pub(crate) stats_json: Option<PathBuf>,
    /// Account to drop to after start, as for `run`.
    #[arg(long, value_name = "USER")]
    pub(crate) user: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct BenchCount {
    #[command(flatten)]
    pub(crate) sensor: Sensor,
    /// Write all counters to this file at the end.
    #[arg(long, value_name = "FILE")]
    pub(crate) stats_json: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct StateDir {
    /// Directory with the ledger and its keys. Default: by platform, for root /var/lib/daemoneye on
    /// Linux, for others below their home.
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Sensor {
    /// Source of events. `auto` takes the best that can be had: the kernel's own events, on Linux
    /// the process connector, polling.
    #[arg(long = "sensor", value_enum, default_value_t = SensorChoice::Auto)]
    pub(crate) choice: SensorChoice,
    /// Load the eBPF programs that log from the kernel (for developers).
    #[arg(long)]
    pub(crate) ebpf_debug: bool,
    /// How records come from the eBPF programs. `auto` takes the ring buffer if the kernel has it.
    #[arg(long, value_enum, default_value_t = TransportChoice::Auto)]
    pub(crate) transport: TransportChoice,
    /// Size of the kernel's ring buffer (or of all perf buffers together) in MiB, or in KiB with a
    /// `K` behind it; raise it if `ring_full` losses are reported. Rounded up to a power of two.
    #[arg(long = "ring-size", value_name = "MIB", default_value = "4", value_parser = ring_bytes)]
    pub(crate) ring_bytes: u32,
    /// Live processes that the kernel side keeps apart; raise it if `table_full` losses are reported.
    #[arg(long, value_name = "COUNT", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1_024..=4_194_304))]
    pub(crate) max_processes: u32,
    /// Keep known noise quiet, in the kernel (eBPF): `exe=PATH`, `uid=NUMBER` or `cgroup=PATH`, and
    /// `,children` behind it to mute also all that such a process starts. May be repeated. Muted
    /// events are counted, but neither matched nor recorded.
    #[arg(long, value_name = "KIND=WHAT")]
    pub(crate) mute: Vec<Mute>,
    /// Report execs that fail as well (eBPF). Every system call of the host then costs a little more.
    #[arg(long)]
    pub(crate) failed_exec: bool,
    /// Record these variables of the environment with each exec (eBPF): names separated by commas;
    /// one that ends in `*` stands for all that begin so.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub(crate) env: Vec<String>,
    /// Size of the process connector's receive buffer in MiB; raise it if `source_lost` losses are
    /// reported.
    #[arg(long, value_name = "MIB", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) netlink_buffer: u32,
    /// Time between two scans of the polling sensor, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(10..=3_600_000))]
    pub(crate) poll_interval: u64,
}

/// As if no flag was given.
#[cfg(not(target_os = "linux"))]
impl Default for Sensor {
    fn default() -> Self {
        use clap::{Args as _, FromArgMatches as _};

        let command = Self::augment_args(clap::Command::new("daemoneye"));
        let matches = command.get_matches_from(["daemoneye"]);
        Self::from_arg_matches(&matches).expect("every flag has a default")
    }
}

/// From 64 KiB, which has room for one record of any size, if nothing else is in it.
fn ring_bytes(text: &str) -> Result<u32, String> {
    let (number, unit) = match text.strip_suffix('K') {
        Some(number) => (number, 1 << 10),
        None => (text, 1 << 20),
    };
    let number = number.parse().ok();
    number
        .and_then(|number: u32| number.checked_mul(unit))
        .filter(|bytes| (64 << 10..=512 << 20).contains(bytes))
        .ok_or_else(|| "expected 1 to 512 MiB, or KiB from 64K".into())
}

impl Sensor {
    pub(crate) fn poll_interval(&self) -> Duration {
        Duration::from_millis(self.poll_interval)
    }
}

/// How records come from the eBPF programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TransportChoice {
    /// The ring buffer if the kernel has it, else perf buffers.
    Auto,
    /// One ring buffer; Linux 5.8.
    Ring,
    /// A perf buffer for each cpu.
    Perf,
}

/// An entry of the mute list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mute {
    pub(crate) what: MuteWhat,
    pub(crate) children: bool,
}

/// See [`Mute`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MuteWhat {
    Exe(PathBuf),
    Uid(u32),
    Cgroup(PathBuf),
}

impl FromStr for Mute {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (text, children) = match text.strip_suffix(",children") {
            Some(text) => (text, true),
            None => (text, false),
        };
        let (kind, value) = text.split_once('=').unwrap_or((text, ""));
        if value.is_empty() {
            return Err("expected exe=PATH, uid=NUMBER or cgroup=PATH".into());
        }
        let what = match kind {
            "exe" => MuteWhat::Exe(value.into()),
            "uid" => MuteWhat::Uid(
                value
                    .parse()
                    .map_err(|_| format!("`{value}` is no number of a user (see `id -u`)"))?,
            ),
            "cgroup" => MuteWhat::Cgroup(value.into()),
            _ => return Err(format!("`{kind}` is none of exe, uid and cgroup")),
        };
        Ok(Self { what, children })
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Hash {
    /// Do not hash executables (Linux only so far). Started as root, the daemon then keeps no right
    /// to read other users' files.
    #[arg(long)]
    pub(crate) no_hash: bool,
    /// Longest executable that is hashed, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = HashPolicy::default().max_bytes, conflicts_with = "no_hash")]
    pub(crate) hash_max_bytes: u64,
    /// Bytes of executables that are read in a second at most; raise it if digests fail as
    /// `queue_full`.
    #[arg(long, value_name = "BYTES", default_value_t = HashPolicy::default().rate, conflicts_with = "no_hash", value_parser = clap::value_parser!(u64).range(4096..))]
    pub(crate) hash_rate: u64,
}

impl Hash {
    /// `None` where executables are not to be hashed.
    pub(crate) fn policy(&self) -> Option<HashPolicy> {
        (!self.no_hash).then(|| HashPolicy {
            max_bytes: self.hash_max_bytes,
            rate: self.hash_rate,
            ..HashPolicy::default()
        })
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Table {
    /// Memory for what processes run, which gives events their parent and ancestors; raise it if
    /// the log says that the process table is full. 4,096 processes to the MiB at most.
    #[arg(long, value_name = "MIB", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) process_table: u32,
}

impl Table {
    pub(crate) fn limits(&self) -> TableLimits {
        let mib = self.process_table as usize;
        TableLimits {
            entries: mib << 12,
            bytes: mib << 20,
            ..TableLimits::default()
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SensorChoice {
    /// The best that can be had.
    Auto,
    /// Linux eBPF.
    Ebpf,
    /// Linux process connector; misses the arguments of programs that end at once.
    Netlink,
    /// Windows ETW.
    Etw,
    /// macOS Endpoint Security.
    EndpointSecurity,
    /// Compare process lists; misses processes that live shorter than the interval.
    Poll,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Alerts {
    /// Rule file or directory, or `builtin` for the rules that are built in; may be repeated.
    /// Default: `builtin`.
    #[arg(long, value_name = "PATH", default_value = BUILTIN)]
    pub(crate) rules: Vec<PathBuf>,
    /// Lowest level that raises an alert; findings below it are recorded and counted.
    #[arg(long, value_name = "LEVEL", default_value = Policy::default().min_level.name(), value_parser = level)]
    pub(crate) min_level: Level,
}

fn level(name: &str) -> Result<Level, String> {
    let names: Vec<&str> = Level::ALL.iter().map(|level| level.name()).collect();
    Level::from_name(name).ok_or_else(|| format!("expected one of {}", names.join(", ")))
}

/// Stands for the built-in rules where a path is expected; a file of that name is `./builtin`.
const BUILTIN: &str = agent::rules::BUILTIN;

#[derive(Debug, Subcommand)]
pub(crate) enum Rules {
    /// Compile rules, and tell of each whether it is loaded, degraded or rejected, and why.
    Check {
        /// Rule files or directories, or `builtin`.
        #[arg(value_name = "PATH", default_value = BUILTIN)]
        paths: Vec<PathBuf>,
        #[command(flatten)]
        os: RulesOf,
        /// A rejected Sigma rule is an error, as one in SQL always is.
        #[arg(long)]
        strict: bool,
    },
    /// Run the tests that rules carry.
    Test {
        /// Rule files or directories, or `builtin`.
        #[arg(value_name = "PATH", default_value = BUILTIN)]
        paths: Vec<PathBuf>,
        #[command(flatten)]
        os: RulesOf,
    },
    /// List rules with level and title.
    List {
        /// Rule files or directories, or `builtin`.
        #[arg(value_name = "PATH", default_value = BUILTIN)]
        paths: Vec<PathBuf>,
        #[command(flatten)]
        os: RulesOf,
    },
    /// Say which rules recorded events of Sysmon satisfy.
    Try {
        /// Rule file or directory, or `builtin`.
        rules: PathBuf,
        /// Events, one JSON object a line: Sysmon's fields, or such an object as `event`.
        events: PathBuf,
        #[command(flatten)]
        os: RulesOf,
    },
    /// Show which conditions of a rule hold for an event, and which do not.
    Explain {
        /// Id of the rule.
        rule: String,
        /// The event as JSON: Sysmon's fields, or what tests of rules have (`exe`, `args` …).
        event: PathBuf,
        /// Rule files or directories, or `builtin`, that the rule is in.
        #[arg(long, value_name = "PATH", default_value = BUILTIN)]
        rules: Vec<PathBuf>,
    },
    /// Print the SQL rules that find what Sigma rules find.
    Convert {
        /// Files or directories of Sigma rules.
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
        #[command(flatten)]
        os: RulesOf,
    },
    /// Write the built-in rules to a directory, to read them or to change a copy.
    Export {
        /// Directory; created if it does not exist. Files in it are not overwritten.
        dir: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// List the epochs: which keys sign for which sizes of the ledger.
    Show {
        #[command(flatten)]
        state: StateDir,
    },
    /// Hand over to new keys and erase the old ones. A daemon that runs is asked to, and does so within
    /// 10 seconds; it does so by itself now and then, see `run --rotate-keys`.
    Rotate {
        #[command(flatten)]
        state: StateDir,
    },
    /// Print the public keys of all epochs, for `--key` on another machine.
    ExportPublic {
        #[command(flatten)]
        state: StateDir,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Evidence {
    /// The alert, by its `event.id` (`178:linux-shm-exec`), which is its leaf and its rule, or an
    /// entry by its leaf index alone: of a finding with the events that it is about, of an event with
    /// the findings about it (of those that came within 65,536 entries).
    #[arg(value_name = "ALERT-ID")]
    pub(crate) alert: AlertId,
    /// File to write; it must not exist yet.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Take these entries in too: leaf indexes separated by commas.
    #[arg(long, value_name = "INDEX,...", value_delimiter = ',')]
    pub(crate) with: Vec<u64>,
    /// Prove it in the tree of this checkpoint of the ledger, say of one that witnesses cosigned
    /// (`witnessed-checkpoint`), instead of the last one.
    #[arg(long, value_name = "FILE")]
    pub(crate) at: Option<PathBuf>,
    /// Prove also that this tree and that of another checkpoint of the ledger, which the receiver
    /// has, are of one history: for `verify-evidence --checkpoint`.
    #[arg(long, value_name = "FILE")]
    pub(crate) checkpoint: Option<PathBuf>,
    /// How long to wait for the checkpoint of a running daemon to cover the entries.
    #[arg(long, value_name = "SECONDS", default_value_t = 15)]
    pub(crate) wait: u64,
    #[command(flatten)]
    pub(crate) state: StateDir,
}

#[derive(Debug, clap::Args)]
pub(crate) struct VerifyEvidence {
    /// What `daemoneye ledger evidence` wrote.
    pub(crate) file: PathBuf,
    /// Public keys of the ledger, got from elsewhere than the file: its `ledger.pub`, or what
    /// `ledger key export-public` prints.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// A checkpoint of the ledger that was kept elsewhere. The file must prove that its entries are
    /// of one history with that (`evidence --checkpoint`).
    #[arg(long, value_name = "FILE")]
    pub(crate) checkpoint: Option<PathBuf>,
    /// Fail if the checkpoint in the file was signed longer ago.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) max_age: Option<u64>,
    /// The keys of witnesses, one vkey a line: the checkpoint in the file must have their
    /// cosignatures.
    #[arg(long, value_name = "FILE")]
    pub(crate) witness_keys: Option<PathBuf>,
    /// How many of them must have cosigned.
    #[arg(
        long,
        value_name = "COUNT",
        default_value_t = 1,
        requires = "witness_keys"
    )]
    pub(crate) witnesses: usize,
}

/// An alert, or an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AlertId {
    pub(crate) index: u64,
    /// The rule whose finding about that entry is meant.
    pub(crate) rule: Option<String>,
}

impl FromStr for AlertId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (index, rule) = match text.split_once(':') {
            Some((index, rule)) => (index, Some(rule)),
            None => (text, None),
        };
        let index = index.parse().ok();
        let index = index.filter(|_| rule.is_none_or(|rule| !rule.is_empty()));
        Ok(Self {
            index: index.ok_or("expected INDEX or INDEX:RULE, as `event.id` of an alert")?,
            rule: rule.map(str::to_owned),
        })
    }
}

/// Whose cosignatures are wanted on a checkpoint.
#[derive(Debug, clap::Args)]
pub(crate) struct Witnesses {
    /// The keys of witnesses, one vkey a line (<https://c2sp.org/tlog-cosignature>, Ed25519).
    #[arg(long = "witness-keys", value_name = "FILE")]
    pub(crate) keys: PathBuf,
    /// How many of them must have cosigned.
    #[arg(long = "witnesses", value_name = "COUNT", default_value_t = 1)]
    pub(crate) needed: usize,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Ledger {
    /// Check every entry and every signed checkpoint.
    Verify {
        #[command(flatten)]
        state: StateDir,
        /// Public keys that the checkpoints must be signed with. Default: those kept beside the
        /// ledger, which whoever alters the ledger can alter as well.
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// A checkpoint of this ledger that was kept elsewhere. Only with one it shows whether
        /// entries were rewritten or removed by somebody who could also remove checkpoints here.
        #[arg(long, value_name = "FILE")]
        checkpoint: Option<PathBuf>,
        /// Fail if the last checkpoint was signed longer ago, or cosigned by the witnesses that are
        /// asked for. A daemon signs every 10 s, and every 5 minutes when nothing happens.
        #[arg(long, value_name = "SECONDS")]
        max_age: Option<u64>,
        /// The keys of witnesses, one vkey a line: the checkpoint given, or else the one kept with
        /// `cosigned`, must have their cosignatures.
        #[arg(long, value_name = "FILE")]
        witness_keys: Option<PathBuf>,
        /// How many of them must have cosigned.
        #[arg(
            long,
            value_name = "COUNT",
            default_value_t = 1,
            requires = "witness_keys"
        )]
        witnesses: usize,
    },
    /// Prove that the ledger only grew since a checkpoint that was kept elsewhere.
    Audit {
        /// The checkpoint, a single one: as `ledger checkpoint` printed it, or a kept
        /// `last-checkpoint`.
        #[arg(long, value_name = "FILE")]
        since: PathBuf,
        /// Public keys that both checkpoints must be signed with, as for `verify`.
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        #[command(flatten)]
        state: StateDir,
    },
    /// Keep a checkpoint that was carried to witnesses and comes back with their cosignatures.
    Cosigned {
        /// The cosigned checkpoint.
        file: PathBuf,
        #[command(flatten)]
        witnesses: Witnesses,
        #[command(flatten)]
        state: StateDir,
    },
    /// Print an entry with its proof of inclusion, after checking the proof.
    Prove {
        /// Leaf index, as alerts name it.
        index: u64,
        /// Prove the entry of this rule's finding about the event at INDEX instead.
        #[arg(long, value_name = "RULE")]
        finding: Option<String>,
        /// Prove it in the tree of this checkpoint of the ledger, say of one that witnesses cosigned
        /// (`witnessed-checkpoint`), instead of the last one.
        #[arg(long, value_name = "FILE")]
        at: Option<PathBuf>,
        /// How long to wait for the checkpoint of a running daemon to cover the entry.
        #[arg(long, value_name = "SECONDS", default_value_t = 15)]
        wait: u64,
        #[command(flatten)]
        state: StateDir,
    },
    /// Write entries to a file with all that proves them to who has the ledger's public key alone.
    Evidence(Evidence),
    /// Verify such a file, on any machine, and print what it proves.
    VerifyEvidence(VerifyEvidence),
    /// Print the newest entries; works while a daemon runs.
    Tail {
        /// Go on with those that come, until interrupted.
        #[arg(short, long)]
        follow: bool,
        /// How many.
        #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 10)]
        count: u64,
        #[command(flatten)]
        state: StateDir,
    },
    /// Print entries by index; works while a daemon runs.
    Show {
        /// One index, as alerts name it, or a range: `FIRST..LAST`, both included, or `FIRST..`.
        #[arg(value_name = "INDEX", value_parser = indices)]
        indices: (u64, u64),
        #[command(flatten)]
        state: StateDir,
    },
    /// Tell how much the ledger holds, from when, and how it is sealed; works while a daemon runs.
    Stats {
        #[command(flatten)]
        state: StateDir,
    },
    /// Drop the oldest entries, as `run` does by the same options. Not while a daemon runs.
    Retain {
        #[command(flatten)]
        keep: Keep,
        #[command(flatten)]
        state: StateDir,
    },
    /// The keys that sign the ledger.
    #[command(subcommand)]
    Key(Key),
    /// Print the newest signed checkpoint, after signing one if nobody else holds the ledger.
    Checkpoint {
        #[command(flatten)]
        state: StateDir,
    },
}

/// The first and the last index.
fn indices(text: &str) -> Result<(u64, u64), String> {
    let (first, last) = match text.split_once("..") {
        Some((first, "")) => (first.parse(), Ok(u64::MAX)),
        Some((first, last)) => (first.parse(), last.parse()),
        None => (text.parse(), text.parse()),
    };
    match (first, last) {
        (Ok(first), Ok(last)) if first <= last => Ok((first, last)),
        (Ok(_), Ok(_)) => Err("the last index is before the first".into()),
        _ => Err("expected an index, FIRST..LAST or FIRST..".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::{AlertId, indices, kept_bytes, ring_bytes};

    #[test]
    fn an_alert_is_named_by_entry_and_rule_and_an_entry_by_its_index() {
        let check = |text: &str, expected: Option<(u64, Option<&str>)>| {
            let id = text.parse::<AlertId>().ok();
            let id = id.as_ref().map(|id| (id.index, id.rule.as_deref()));
            assert_eq!(id, expected, "{text}");
        };
        check("178", Some((178, None)));
        check("178:linux-shm-exec", Some((178, Some("linux-shm-exec"))));
        check("7:a:b", Some((7, Some("a:b"))));
        for text in ["", ":", "178:", ":rule", "-1", "18446744073709551616", "x"] {
            check(text, None);
        }
    }

    #[test]
    fn kept_bytes_have_binary_units() {
        let check = |text, expected| assert_eq!(kept_bytes(text).ok(), expected, "{text}");
        check("16M", Some(16 << 20));
        check("20G", Some(20 << 30));
        check("16777216", Some(16 << 20));
        check("1T", Some(1 << 40));
        for text in ["0", "15M", "16m", "1GB", "-1G", "G", "99999999999T"] {
            check(text, None);
        }
    }

    #[test]
    fn indices_are_one_or_a_range_with_its_end() {
        let check = |text, expected| assert_eq!(indices(text).ok(), expected, "{text}");
        check("7", Some((7, 7)));
        check("7..9", Some((7, 9)));
        check("7..", Some((7, u64::MAX)));
        for text in ["", "..", "..7", "9..7", "a", "7-9", "-1"] {
            check(text, None);
        }
    }

    #[test]
    fn ring_is_of_64_kib_at_least_and_mib_are_meant_without_a_unit() {
        let check = |text, expected: Option<u32>| {
            assert_eq!(ring_bytes(text).ok(), expected, "{text}");
        };
        check("4", Some(4 << 20));
        check("512", Some(512 << 20));
        check("64K", Some(64 << 10));
        check("524288K", Some(512 << 20));
        for text in [
            "0",
            "513",
            "63K",
            "524289K",
            "4294967295",
            "K",
            "64KB",
            "-1",
        ] {
            check(text, None);
        }
    }
}
