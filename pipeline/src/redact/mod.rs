//! Takes secrets out of command lines before anything else sees them.
//!
//! One automaton over the whole argument block finds words that can announce a secret; without one
//! (most command lines) nothing else happens. Around each word found, `scan` looks for the secret
//! itself: the value of a flag or assignment, credentials in a URL or header, a password given to a
//! known program, the shape of a known key. The same rules hold inside an argument that is itself a
//! command line (`sh -c '…'`). A secret becomes [`MARKER`]; the number of arguments stays.
//!
//! What a shell could run is never taken out: a value ends where that begins (`shell`), even if
//! the rest of a password stays. Otherwise one word such as `token:` would hide a payload from every
//! rule and from the ledger.
//!
//! This is a net, not a proof: a secret that nothing announces (`echo hunter2 | sudo -S`) passes.
//! Rules, table and ledger see only what comes out here.

mod patterns;
mod programs;
mod scan;
mod shell;
#[cfg(test)]
mod tests;

use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use bytes::{Bytes, BytesMut};
use event::{Argv, Event, EventKind, Process};

use crate::Error;
use patterns::Kind;
use scan::Scan;

/// What stands in the place of a secret.
pub const MARKER: &[u8] = b"[REDACTED]";

/// A replacement can bring another secret's end into view; more rounds than this it never takes.
const ROUNDS: u32 = 4;

/// What to redact.
#[derive(Debug, Clone)]
pub struct Config {
    /// On by default. Off, secrets stand in the ledger for ever.
    pub enabled: bool,
    /// More names of flags and assignments whose value is secret, such as `vault-pin`. Case, `-`,
    /// `_`, `.` and a number at the end do not matter.
    pub names: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            names: Vec::new(),
        }
    }
}

/// Finds and replaces secrets. Cheap to use, not to build.
#[derive(Debug)]
pub struct Redactor {
    enabled: bool,
    words: AhoCorasick,
    kinds: Vec<Kind>,
    names: Vec<Vec<u8>>,
}

impl Redactor {
    /// Builds the automaton.
    ///
    /// # Errors
    /// The configured names make it too large.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let names: Vec<Vec<u8>> = config
            .names
            .iter()
            .map(|name| patterns::joined(name))
            .collect();
        let more = config.names.iter().map(|name| patterns::longest_part(name));
        let mut words: Vec<(&[u8], Kind)> = patterns::all().collect();
        words.extend(
            more.filter(|part| !part.is_empty())
                .map(|part| (part, Kind::Name)),
        );
        let (words, kinds): (Vec<&[u8]>, Vec<Kind>) = words.into_iter().unzip();
        let words = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .kind(Some(AhoCorasickKind::DFA))
            .build(words)?;
        Ok(Self {
            enabled: config.enabled,
            words,
            kinds,
            names,
        })
    }

    /// Redacts the arguments in an event and counts into its `redactions`; returns how many.
    pub fn event(&self, event: &mut Event) -> u32 {
        match &mut event.kind {
            EventKind::Exec(exec) => self.process(&mut exec.process),
            EventKind::Snapshot(row) => self.process(&mut row.process),
            _ => 0,
        }
    }

    /// Redacts arguments; `None` if there is nothing to redact.
    #[must_use]
    pub fn argv(&self, argv: &Argv) -> Option<(Argv, u32)> {
        if !self.enabled {
            return None;
        }
        let (mut block, mut count) = self.round(argv.as_block())?;
        for _ in 1..ROUNDS {
            let Some((again, more)) = self.round(&block) else {
                break;
            };
            block = again;
            count += more;
        }
        Some((Argv::from_block(block), count))
    }

    fn process(&self, process: &mut Process) -> u32 {
        let mut count = 0;
        if let Some((argv, found)) = self.argv(&process.argv) {
            process.argv = argv;
            count += found;
        }
        if let Some(environment) = &process.environment
            && let Some((redacted, found)) = self.argv(environment)
        {
            process.environment = Some(redacted);
            count += found;
        }
        // Only a recording brings one along.
        if let Some(parent) = process.parent_process.as_deref_mut()
            && let Some((argv, _)) = self.argv(&parent.argv)
        {
            parent.argv = argv;
        }
        process.redactions += count;
        count
    }

    fn round(&self, block: &Bytes) -> Option<(Bytes, u32)> {
        // Most blocks hold no word, and this search is twice as fast as the one for all words.
        if !self.words.is_match(block) {
            return None;
        }
        let mut scan = Scan::new(block, &self.names);
        for found in self.words.find_overlapping_iter(block) {
            scan.word(self.kinds[found.pattern().as_usize()], found.range());
        }
        let secrets = merge(scan.into_secrets());
        let count = u32::try_from(secrets.len()).unwrap_or(u32::MAX);
        (count > 0).then(|| (replace(block, &secrets), count))
    }
}

/// Sorts, and joins what overlaps or touches.
fn merge(mut secrets: Vec<Range<usize>>) -> Vec<Range<usize>> {
    secrets.sort_unstable_by_key(|secret| secret.start);
    secrets.dedup_by(|next, before| {
        let joins = next.start <= before.end;
        if joins {
            before.end = before.end.max(next.end);
        }
        joins
    });
    secrets
}

fn replace(block: &[u8], secrets: &[Range<usize>]) -> Bytes {
    let mut out = BytesMut::with_capacity(block.len() + secrets.len() * MARKER.len());
    let mut rest = 0;
    for secret in secrets {
        out.extend_from_slice(&block[rest..secret.start]);
        out.extend_from_slice(MARKER);
        rest = secret.end;
    }
    out.extend_from_slice(&block[rest..]);
    out.freeze()
}
