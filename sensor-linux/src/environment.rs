//! Picks the variables that were asked for, and keeps them until their exec record comes.

use std::collections::HashMap;

use bytes::{BufMut, Bytes, BytesMut};
use event::Argv;

use crate::decode::Environment;

/// Environments that wait; more means that their exec records were lost.
const WAITING: usize = 1024;

/// The variables that were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) variables: Argv,
    /// Bytes of the environment that were not captured: more may be there.
    pub(crate) truncated_bytes: u64,
}

/// The environments whose exec records have not come yet.
#[derive(Debug, Default)]
pub(crate) struct Environments {
    /// Names; one that ends in `*` stands for all that begin so.
    names: Vec<Vec<u8>>,
    /// By process: which of its execs, and what was chosen.
    waiting: HashMap<u32, (u32, Chosen)>,
}

impl Environments {
    pub(crate) fn of(names: &[String]) -> Self {
        Self {
            names: names.iter().map(|name| name.clone().into_bytes()).collect(),
            waiting: HashMap::new(),
        }
    }

    /// Keeps the variables that were asked for.
    pub(crate) fn note(&mut self, record: &Environment<'_>) {
        if self.waiting.len() >= WAITING {
            self.waiting.clear();
        }
        let header = &record.fixed.header;
        self.waiting.remove(&header.tgid);
        if record.fixed.unreadable == 0 {
            let chosen = Chosen {
                variables: self.select(record.block),
                truncated_bytes: record.fixed.total.saturating_sub(record.fixed.len.into()),
            };
            self.waiting
                .insert(header.tgid, (header.parent_tgid, chosen));
        }
    }

    /// The variables of a process whose exec record has come; `None` if none were asked for. Where
    /// its environment was lost or unreadable, there are none and bytes are missing.
    pub(crate) fn take(&mut self, tgid: u32, exec_id: u32) -> Option<Chosen> {
        if self.names.is_empty() {
            return None;
        }
        let came = self.waiting.remove(&tgid);
        let (_, chosen) = came.filter(|(of, _)| *of == exec_id).unwrap_or_else(|| {
            let lost = Chosen {
                variables: Argv::default(),
                truncated_bytes: 1,
            };
            (exec_id, lost)
        });
        Some(chosen)
    }

    fn select(&self, block: &[u8]) -> Argv {
        let mut out = BytesMut::new();
        let mut rest = block;
        while !rest.is_empty() {
            let end = rest
                .iter()
                .position(|b| *b == 0)
                .map_or(rest.len(), |at| at + 1);
            let (entry, after) = rest.split_at(end);
            // The last one keeps its missing NUL: that is how an `Argv` shows that it is cut.
            if self.is_wanted(entry) {
                out.put_slice(entry);
            }
            rest = after;
        }
        Argv::from_block(Bytes::from(out))
    }

    fn is_wanted(&self, entry: &[u8]) -> bool {
        let name = entry.split(|b| *b == b'=').next().unwrap_or_default();
        self.names
            .iter()
            .any(|wanted| match wanted.strip_suffix(b"*") {
                Some(prefix) => name.starts_with(prefix),
                None => wanted == name,
            })
    }
}

#[cfg(test)]
mod tests {
    use sensor_ebpf::record::{EnvironmentRecord, RecordHeader};

    use super::*;

    fn record(tgid: u32, exec_id: u32, block: &[u8]) -> Environment<'_> {
        let header = RecordHeader {
            tgid,
            parent_tgid: exec_id,
            ..RecordHeader::default()
        };
        let fixed = EnvironmentRecord {
            header,
            total: block.len() as u64 + 7,
            len: u32::try_from(block.len()).unwrap(),
            unreadable: 0,
        };
        Environment { fixed, block }
    }

    #[test]
    fn only_named_variables_are_kept_and_a_cut_one_shows() {
        let mut environments = Environments::of(&["LD_*".into(), "HOME".into()]);
        let block = b"HOME=/root\0SECRET=x\0HOMEX=1\0LD_PRELOAD=/x.so\0LD_DEB";
        environments.note(&record(5, 1, block));
        let kept = environments.take(5, 1).unwrap();
        assert_eq!(kept.truncated_bytes, 7);
        assert_eq!(
            kept.variables.as_block().as_ref(),
            b"HOME=/root\0LD_PRELOAD=/x.so\0LD_DEB"
        );
        assert_eq!(Environments::default().take(5, 1), None);
    }

    #[test]
    fn another_exec_of_that_process_gets_nothing() {
        let mut environments = Environments::of(&["A".into()]);
        environments.note(&record(5, 1, b"A=1\0"));
        let lost = environments.take(5, 2).unwrap();
        assert!(lost.variables.is_empty() && lost.truncated_bytes > 0);
    }
}
