//! The list of processes as `NtQuerySystemInformation(SystemProcessInformation)` fills it in.
//!
//! One call gives pid, parent, exact creation time and session of every process, protected ones
//! included; no process has to be opened. Layout of 64-bit Windows, as in `winternl.h` and the
//! symbols of `ntdll`; entries are chained by their first field:
//!
//! ```text
//! 0x00 u32 offset of the next entry, 0 in the last     0x40 u64 address of the name
//! 0x20 u64 creation time (FILETIME)                    0x50 u64 process id
//! 0x38 u16 length of the name in bytes                 0x58 u64 id of the creator
//!                                                      0x64 u32 session id
//! ```

use crate::clock::FileTime;

/// One process of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Process id.
    pub pid: u32,
    /// The process that created it; may have ended since.
    pub ppid: u32,
    /// Creation time, 100 ns steps since 1601.
    pub created: u64,
    /// Terminal services session.
    pub session: u32,
    /// File name without a path; empty for the idle process.
    pub name: String,
}

impl Row {
    pub(crate) fn created(&self) -> FileTime {
        FileTime(self.created)
    }
}

const HEAD: usize = 0x68;

/// Reads the list in `bytes`, which Windows filled in at `address`: names are inside of it, by
/// address. Stops at the first entry that is not whole; a name that is not inside is empty.
#[must_use]
pub fn parse(bytes: &[u8], address: u64) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut at = 0;
    while let Some(entry) = bytes.get(at..).filter(|entry| entry.len() >= HEAD) {
        rows.push(Row {
            // Ids are 32 bits wide; their fields have room for a handle.
            pid: u32_at(entry, 0x50),
            ppid: u32_at(entry, 0x58),
            created: u64_at(entry, 0x20),
            session: u32_at(entry, 0x64),
            name: name(bytes, address, entry).unwrap_or_default(),
        });
        let next = u32_at(entry, 0) as usize;
        // Entries do not overlap; a smaller step could read the same bytes over and over.
        if next < HEAD {
            break;
        }
        at = at.saturating_add(next);
    }
    rows
}

fn name(bytes: &[u8], address: u64, entry: &[u8]) -> Option<String> {
    let length = usize::from(u16::from_le_bytes([entry[0x38], entry[0x39]]));
    let start = usize::try_from(u64_at(entry, 0x40).checked_sub(address)?).ok()?;
    let wide = bytes.get(start..start.checked_add(length)?)?;
    let units = wide
        .as_chunks::<2>()
        .0
        .iter()
        .map(|unit| u16::from_le_bytes(*unit));
    Some(
        char::decode_utf16(units)
            .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect(),
    )
}

fn u32_at(entry: &[u8], at: usize) -> u32 {
    entry[at..]
        .first_chunk()
        .map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(entry: &[u8], at: usize) -> u64 {
    entry[at..]
        .first_chunk()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{HEAD, Row, parse};

    const ADDRESS: u64 = 0x7ff6_0000_1000;

    fn row(pid: u32, name: &str) -> Row {
        Row {
            pid,
            ppid: pid / 2,
            created: 1 << 40 | u64::from(pid),
            session: 1,
            name: name.into(),
        }
    }

    /// The list as Windows lays it out: each name behind its entry and its threads.
    fn list(rows: &[Row]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (index, row) in rows.iter().enumerate() {
            let name: Vec<u8> = row.name.encode_utf16().flat_map(u16::to_le_bytes).collect();
            let at = bytes.len();
            let size = (0x100 + 0x50 + name.len()).next_multiple_of(8);
            bytes.resize(at + size, 0xaa);
            let mut put = |offset: usize, value: &[u8]| {
                bytes[at + offset..at + offset + value.len()].copy_from_slice(value);
            };
            let next = if index + 1 == rows.len() {
                0
            } else {
                u32::try_from(size).unwrap()
            };
            put(0x00, &next.to_le_bytes());
            put(0x20, &row.created.to_le_bytes());
            put(0x38, &u16::try_from(name.len()).unwrap().to_le_bytes());
            put(0x40, &(ADDRESS + at as u64 + 0x150).to_le_bytes());
            put(0x50, &u64::from(row.pid).to_le_bytes());
            put(0x58, &u64::from(row.ppid).to_le_bytes());
            put(0x64, &row.session.to_le_bytes());
            put(0x150, &name);
        }
        bytes
    }

    #[test]
    fn every_process_of_the_list_is_read() {
        let rows = [row(0, ""), row(4, "System"), row(9000, "naïve 😀.exe")];
        assert_eq!(parse(&list(&rows), ADDRESS), rows);
    }

    #[test]
    fn cut_list_gives_its_whole_entries() {
        let rows = [row(4, "System"), row(8, "a.exe")];
        let bytes = list(&rows);
        let first = list(&rows[..1]).len();
        assert_eq!(parse(&bytes[..first + HEAD - 1], ADDRESS), rows[..1]);
        assert_eq!(parse(&[], ADDRESS), []);
    }

    #[test]
    fn name_outside_of_the_list_is_empty() {
        let bytes = list(&[row(4, "System")]);
        assert_eq!(parse(&bytes, ADDRESS + (1 << 20))[0].name, "");
        assert_eq!(parse(&bytes, 0)[0].name, "");
    }

    proptest! {
        #[test]
        fn any_bytes_end_without_a_panic(bytes: Vec<u8>, address: u64) {
            prop_assert!(parse(&bytes, address).len() <= bytes.len() / HEAD);
        }
    }
}
