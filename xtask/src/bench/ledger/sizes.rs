//! A log that grows: what a leaf costs, memory, bytes on disk; then proofs and the whole-log check.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::super::table::Table;
use super::goals::{Bound, Goal};
use super::reading::{self, Reading};
use super::{Args, Bench, Part, number};
use crate::shell;

/// What the ledger adds to a leaf: its frame.
const BYTES_OVER_LEAF: u64 = 40;

/// What is left of a dropped leaf, on three counts: its share of the index, of the tree beside it and
/// of what is recorded of the gap.
const BYTES_LEFT: u64 = 1;

/// Two segments, the one that is written and the one that goes next.
const SEGMENTS: u64 = 512 << 20;

pub(super) struct Sizes {
    leaf_bytes: u64,
    leaves: u64,
    found: Value,
    reading: Reading,
}

pub(super) fn measure(bench: &Bench, args: &Args) -> Result<Sizes> {
    let leaves = args.leaves;
    let sizes: Vec<String> = sizes(leaves).iter().map(u64::to_string).collect();
    eprintln!("growing to {leaves} leaves");
    let (sizes, leaf_bytes) = (sizes.join(","), args.leaf_bytes.to_string());
    let keep =
        kept_bytes(room(bench, args)?, leaves, args.leaf_bytes)?.map(|bytes| bytes.to_string());
    let mut options = vec!["--sizes", &sizes, "--leaf-bytes", &leaf_bytes];
    options.extend(keep.iter().flat_map(|bytes| ["--keep-bytes", bytes]));
    let found = bench.measure("grow", "grown", &options)?;
    let reading = reading::measure(bench, "grown")?;
    bench.remove("grown")?;
    Ok(Sizes {
        leaf_bytes: args.leaf_bytes,
        leaves,
        found,
        reading,
    })
}

/// Bytes that the log may take.
fn room(bench: &Bench, args: &Args) -> Result<u64> {
    let disk = rustix::fs::statvfs(bench.dir.path()).context("cannot tell the free disk space")?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize) / 2;
    // A float that is too large or none becomes the nearest number.
    let allowed = (args.disk_gb * 1e9) as u64;
    Ok(free.min(allowed))
}

/// So many bytes of entries are kept, if there is no room for all.
fn kept_bytes(room: u64, leaves: u64, leaf_bytes: u64) -> Result<Option<u64>> {
    let (all, left) = (leaves * (leaf_bytes + BYTES_OVER_LEAF), leaves * BYTES_LEFT);
    if all + left <= room {
        return Ok(None);
    }
    let keep = room.checked_sub(left + SEGMENTS).filter(|bytes| *bytes > 0);
    keep.map(Some)
        .context("too little room for what is left of dropped entries (--disk-gb)")
}

/// The powers of ten from 100,000 on, and the last size.
fn sizes(leaves: u64) -> Vec<u64> {
    let powers = (5..).map(|power| 10_u64.pow(power));
    let below = powers.take_while(|size| *size < leaves);
    below.chain([leaves]).collect()
}

impl Sizes {
    fn told(&self) -> impl Iterator<Item = &Value> {
        self.found["sizes"].as_array().into_iter().flatten()
    }

    fn megabytes(&self) -> impl Iterator<Item = f64> {
        let rss = self.told().filter_map(|size| size["rss"].as_f64());
        rss.map(|bytes| bytes / 1e6)
    }

    /// How far the memory at any size is from that at the first.
    fn memory_growth(&self) -> Option<f64> {
        let first = self.megabytes().next()?;
        let growth = self.megabytes().map(|rss| (rss - first).abs());
        growth.reduce(f64::max)
    }

    /// Of a log that still has all.
    fn bytes_per_leaf(&self) -> Option<f64> {
        let bytes = self.found["disk_bytes"].as_f64()?;
        (self.dropped() == 0).then_some(bytes / self.leaves as f64)
    }

    fn dropped(&self) -> u64 {
        self.found["kept_from"].as_u64().unwrap_or(0)
    }
}

impl Part for Sizes {
    fn print(&self) {
        shell::say(format_args!(
            "\na log that grows, leaves of {} bytes, 1,000 in a commit",
            self.leaf_bytes
        ));
        let mut table = Table::new(["leaves", "ns/leaf", "CPU ns/leaf", "RSS MB", "peak RSS MB"]);
        for size in self.told() {
            let figure = |name, unit: f64, digits: usize| {
                let value = number(size, name).map_or(f64::NAN, |value| value / unit);
                format!("{value:.digits$}")
            };
            table.row([
                size["leaves"].to_string(),
                figure("ns_per_leaf", 1.0, 0),
                figure("cpu_ns_per_leaf", 1.0, 0),
                figure("rss", 1e6, 2),
                figure("peak_rss", 1e6, 2),
            ]);
        }
        table.print();
        if let Some(bytes) = self.bytes_per_leaf() {
            shell::say(format_args!("{bytes:.1} bytes on disk per leaf"));
        } else {
            shell::say(format_args!(
                "the first {} entries were dropped; {:.2} GB on disk",
                self.dropped(),
                number(&self.found, "disk_bytes").map_or(f64::NAN, |bytes| bytes / 1e9)
            ));
        }
        self.reading.print();
    }

    fn json(&self) -> (&'static str, Value) {
        let mut found = self.found.clone();
        found["leaf_bytes"] = json!(self.leaf_bytes);
        found["bytes_per_leaf"] = json!(self.bytes_per_leaf());
        found["reading"] = self.reading.json();
        ("grow", found)
    }

    fn goals(&self) -> Vec<Goal> {
        let memory = self.memory_growth().map(|growth| {
            let what = "RSS from 100,000 leaves to the last";
            Goal::new(what, growth, Bound::AtMost(5.0), 2, " MB")
        });
        memory.into_iter().chain(self.reading.goals()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{SEGMENTS, kept_bytes, sizes};

    #[test]
    fn entries_are_dropped_where_there_is_no_room() {
        let check = |room, expected| {
            assert_eq!(kept_bytes(room, 1000, 300).ok(), expected);
        };
        check(341_000, Some(None));
        check(340_999, None);
        check(SEGMENTS + 1000, Some(None));
        let huge = |room| kept_bytes(room, 1 << 30, 300).ok();
        assert_eq!(huge((1 << 30) + SEGMENTS + 7), Some(Some(7)));
        assert_eq!(huge(1 << 30), None);
    }

    #[test]
    fn sizes_are_powers_of_ten_and_the_last() {
        let check = |leaves, expected: &[u64]| assert_eq!(sizes(leaves), expected);
        check(100_000, &[100_000]);
        check(1_000_000, &[100_000, 1_000_000]);
        check(1_500_000, &[100_000, 1_000_000, 1_500_000]);
    }
}
