//! The text file beside the eBPF objects that says what they were built from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// `kind`, `name` and `value` of each line; see [`Kind`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Stamp(BTreeMap<(Kind, String), String>);

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A source file and its BLAKE3 hash.
    Source,
    /// A package from Cargo.lock and its version and checksum.
    Package,
    /// Flags of the build.
    Flags,
    /// A tool and its version.
    Tool,
    /// A built object and its BLAKE3 hash.
    Object,
}

impl Kind {
    const ALL: [Self; 5] = [
        Self::Source,
        Self::Package,
        Self::Flags,
        Self::Tool,
        Self::Object,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Package => "package",
            Self::Flags => "flags",
            Self::Tool => "tool",
            Self::Object => "object",
        }
    }
}

const HEADER: &str = "# Made by `cargo xtask ebpf`, checked by `cargo xtask ebpf --check`.";

impl Stamp {
    pub(crate) fn insert(&mut self, kind: Kind, name: &str, value: String) {
        self.0.insert((kind, name.to_owned()), value);
    }

    pub(crate) fn get(&self, kind: Kind, name: &str) -> Option<&str> {
        self.0.get(&(kind, name.to_owned())).map(String::as_str)
    }

    /// Names of lines of this kind that differ between the two, or are in one only.
    pub(crate) fn differing(&self, other: &Self, kind: Kind) -> Vec<String> {
        let names = self
            .0
            .keys()
            .chain(other.0.keys())
            .filter(|(k, _)| *k == kind);
        let mut names: Vec<_> = names
            .filter(|key| self.0.get(key) != other.0.get(key))
            .collect();
        names.sort();
        names.dedup();
        names.into_iter().map(|(_, name)| name.clone()).collect()
    }

    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is no stamp", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let mut stamp = Self::default();
        for (number, line) in text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.starts_with('#'))
        {
            let mut words = line.splitn(3, '\t');
            let kind = words
                .next()
                .and_then(|w| Kind::ALL.into_iter().find(|k| k.name() == w));
            let (Some(kind), Some(name), Some(value)) = (kind, words.next(), words.next()) else {
                bail!("line {} is not kind, name and value", number + 1);
            };
            stamp.insert(kind, name, value.to_owned());
        }
        Ok(stamp)
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        self.0
            .iter()
            .try_for_each(|((kind, name), value)| writeln!(f, "{}\t{name}\t{value}", kind.name()))
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Stamp};

    #[test]
    fn stamp_text_reads_back_and_differences_are_named() {
        let mut stamp = Stamp::default();
        stamp.insert(Kind::Source, "sensor-ebpf/src/main.rs", "aa".into());
        stamp.insert(
            Kind::Tool,
            "rustc",
            "rustc 1.95.0 (59807616e 2026-04-14)".into(),
        );
        assert_eq!(Stamp::parse(&stamp.to_string()).unwrap(), stamp);

        let mut other = stamp.clone();
        other.insert(Kind::Source, "sensor-ebpf/src/main.rs", "bb".into());
        other.insert(Kind::Source, "sensor-ebpf/src/maps.rs", "cc".into());
        assert_eq!(
            stamp.differing(&other, Kind::Source),
            ["sensor-ebpf/src/main.rs", "sensor-ebpf/src/maps.rs"]
        );
        assert!(stamp.differing(&other, Kind::Tool).is_empty());
        assert!(Stamp::parse("source only-two\n").is_err());
    }
}
