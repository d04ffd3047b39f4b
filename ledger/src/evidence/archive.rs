//! A bundle's ZIP archive: stored files alone, so what is read is never larger than the archive.
//!
//! Whoever made an archive may want two readers to see two things in it. Nothing that is read here
//! counts before it is proven, but what could be read in two ways is rejected all the same: a name
//! that is there twice, a file's two headers that differ, another name in an extra field, a link, bytes
//! that belong to no file.

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Range;

use rawzip::time::UtcDateTime;
use rawzip::{CompressionMethod, Error, ZipArchive, ZipArchiveWriter, ZipFileHeaderRecord};
use rawzip::{ZipSliceArchive, crc32};

use super::{EvidenceError, MAX_EVIDENCE_BYTES, MAX_EVIDENCE_LEAVES, file};
use crate::checkpoint::parse_decimal;

/// Files that are no leaves and no consistency proofs.
const OTHER_FILES: usize = 4;

/// The number in the name of a file of this folder.
pub(super) fn number_in(folder: &str, name: &str) -> Option<u64> {
    parse_decimal(name.strip_prefix(folder)?)
}

pub(super) fn text(name: &str, bytes: &[u8]) -> Result<String, EvidenceError> {
    let text = std::str::from_utf8(bytes).map_err(|_| file(name, "it is not text"))?;
    Ok(text.to_owned())
}

/// The archive of these files, in this order, all with one time, so that it is always the same.
pub(super) fn write(files: &[(String, &[u8])]) -> Result<Vec<u8>, EvidenceError> {
    let bytes: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    // Some 200 bytes a file are the archive's own.
    if bytes + (files.len() << 8) > MAX_EVIDENCE_BYTES {
        return Err(TOO_LARGE);
    }
    pack(files).map_err(|_| EvidenceError::Archive("it cannot be packed"))
}

fn pack(files: &[(String, &[u8])]) -> Result<Vec<u8>, Error> {
    let mut zip = ZipArchiveWriter::new(Vec::new());
    for (name, bytes) in files {
        let file = zip.new_file(name.as_str()).unix_permissions(0o644);
        let file = file.last_modified(UtcDateTime::from_unix(FIRST_TIME));
        let (mut entry, config) = file.start()?;
        let mut data = config.wrap(&mut entry);
        data.write_all(bytes)?;
        let (_, descriptor) = data.finish()?;
        entry.finish(descriptor)?;
    }
    zip.finish()
}

/// The files of a bundle, by name.
pub(super) fn read(zip: &[u8]) -> Result<BTreeMap<String, &[u8]>, EvidenceError> {
    if zip.len() > MAX_EVIDENCE_BYTES {
        return Err(TOO_LARGE);
    }
    let archive = ZipArchive::from_slice(zip).map_err(|_| broken("it is no ZIP archive"))?;
    if !archive.comment().as_bytes().is_empty() || archive.end_offset() != zip.len() as u64 {
        return Err(broken("bytes follow the ZIP archive's end"));
    }
    let (mut files, mut places) = (BTreeMap::new(), Vec::new());
    let mut record_at = archive.directory_offset();
    let mut entries = archive.entries();
    while let Some(entry) = entries.next_entry().map_err(|_| BAD_DIRECTORY)? {
        if files.len() == MAX_FILES {
            return Err(broken("it holds too many files"));
        }
        let (name, stored) = stored(&archive, zip, &entry)?;
        if entry.central_directory_offset() != record_at {
            return Err(BAD_DIRECTORY);
        }
        record_at += stored.record_len;
        places.push(stored.place);
        if files.insert(name.clone(), stored.bytes).is_some() {
            return Err(file(&name, "it is there twice"));
        }
    }
    let directory = archive.directory_offset()..record_at;
    if !ends_with(zip, archive.eocd_offset(), files.len(), directory) {
        return Err(BAD_DIRECTORY);
    }
    check_places(places, archive.directory_offset())?;
    Ok(files)
}

/// Whether the archive's end, which is at `end`, says the same of its directory as was found: readers
/// differ in which of it they go by (APPNOTE.TXT 4.3.16). No other end stands before it.
fn ends_with(zip: &[u8], end: u64, files: usize, directory: Range<u64>) -> bool {
    let at = usize::try_from(end).unwrap_or(usize::MAX);
    let numbers = (
        u16::try_from(files),
        u32::try_from(directory.end - directory.start),
        u32::try_from(directory.start),
    );
    let (Ok(files), Ok(len), Ok(start)) = numbers else {
        return false;
    };
    let said = [
        b"PK\x05\x06\0\0\0\0",
        &[files.to_le_bytes(); 2].concat()[..],
        &len.to_le_bytes(),
        &start.to_le_bytes(),
        &[0, 0],
    ];
    directory.end == end && zip.get(at..) == Some(&said.concat()[..])
}

/// A file as it lies in the archive.
struct Stored<'a> {
    bytes: &'a [u8],
    /// From the start of its header to the end of its bytes, or of the descriptor behind them.
    place: (u64, u64),
    /// Of its record in the directory.
    record_len: u64,
}

fn stored<'a>(
    archive: &ZipSliceArchive<&'a [u8]>,
    zip: &'a [u8],
    entry: &ZipFileHeaderRecord<'_>,
) -> Result<(String, Stored<'a>), EvidenceError> {
    let name = std::str::from_utf8(entry.file_path().as_bytes());
    let name = name.map_err(|_| broken("a file name is not text"))?;
    let name: String = name.chars().take(MAX_NAME).collect();
    let found = archive.get_entry(entry.wayfinder());
    let found = found.map_err(|_| file(&name, "it is not where the archive says"))?;
    let local = found.local_header();
    let stored = [entry.compression_method(), local.compression_method()];
    if stored != [CompressionMethod::STORE; 2] || entry.flags().is_encrypted() {
        return Err(file(
            &name,
            "it is compressed or encrypted; it must be stored",
        ));
    }
    if local.file_path().as_bytes() != entry.file_path().as_bytes() {
        return Err(file(&name, "it has another name elsewhere in the archive"));
    }
    let (start, end) = found.compressed_data_range();
    let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
    let bytes = range.and_then(|(start, end)| zip.get(start..end));
    let bytes = bytes.ok_or_else(|| file(&name, "it is cut short"))?;
    if entry.uncompressed_size_hint() != bytes.len() as u64 {
        return Err(file(&name, "it is not as long as the archive says"));
    }
    if crc32(bytes) != entry.crc32() {
        return Err(file(&name, "its checksum does not match"));
    }
    let start = entry.local_header_offset();
    let headers = Headers::at(zip, start, entry.central_directory_offset());
    let headers = headers.ok_or(BAD_DIRECTORY)?;
    let end = headers
        .end(bytes, end)
        .map_err(|cause| file(&name, cause))?;
    let stored = Stored {
        bytes,
        place: (start, end),
        record_len: headers.record_len(),
    };
    Ok((name, stored))
}

/// A file's two headers, from the bytes (APPNOTE.TXT 4.3.7 and 4.3.12). Some readers go by the one in
/// front of the file, some by that in the directory, some by fields that others pass over: what these
/// say must leave one reading.
struct Headers<'a> {
    zip: &'a [u8],
    local: &'a [u8],
    record: &'a [u8],
}

const LOCAL_BYTES: usize = 30;
const RECORD_BYTES: usize = 46;

/// Flags that may be set: a descriptor follows, the name is UTF-8.
const DESCRIBED: u16 = 1 << 3;
const UTF8: u16 = 1 << 11;

/// Extra fields that repackers add, of times and owners. Not that of another name (0x7075), nor of
/// other lengths (1).
const EXTRA_FIELDS: [u16; 5] = [0x000a, 0x5455, 0x5855, 0x7855, 0x7875];

impl<'a> Headers<'a> {
    fn at(zip: &'a [u8], local: u64, record: u64) -> Option<Headers<'a>> {
        let from = |offset: u64| zip.get(usize::try_from(offset).ok()?..);
        let (local, record) = (from(local)?, from(record)?);
        let is_whole = local.len() >= LOCAL_BYTES && record.len() >= RECORD_BYTES;
        is_whole.then_some(Headers { zip, local, record })
    }

    fn record_len(&self) -> u64 {
        let record = |at| u64::from(u16_at(self.record, at));
        RECORD_BYTES as u64 + record(28) + record(30) + record(32)
    }

    /// Where the file ends, whose bytes end at `end`.
    fn end(&self, bytes: &[u8], end: u64) -> Result<u64, &'static str> {
        const DIFFER: &str = "its two headers differ";
        let (local, record) = (self.local, self.record);
        let flags = u16_at(record, 8);
        if flags != u16_at(local, 6) {
            return Err(DIFFER);
        }
        if flags & !(DESCRIBED | UTF8) != 0 {
            return Err("it has unknown flags");
        }
        if u16_at(record, 32) != 0 {
            return Err("it has a comment");
        }
        // Where it is told: that of a plain file, and of no link to another.
        if !matches!(u32_at(record, 38) >> 16 & 0o170_000, 0 | 0o100_000) {
            return Err("it is no plain file");
        }
        let extra = |header, start, name, len| extra_is_known(header, start, name, len);
        if !extra(local, LOCAL_BYTES, 26, 28) || !extra(record, RECORD_BYTES, 28, 30) {
            return Err("it has unknown extra fields");
        }
        let len = u32::try_from(bytes.len()).map_err(|_| DIFFER)?;
        let is = [crc32(bytes), len, len];
        let said = |header: &[u8], at: usize| [0, 4, 8].map(|field| u32_at(header, at + field));
        let before = said(local, 14);
        let described = flags & DESCRIBED != 0;
        if said(record, 16) != is || before != is && !(described && before == [0; 3]) {
            return Err(DIFFER);
        }
        match described {
            true => self.descriptor_end(&is, end),
            false => Ok(end),
        }
    }

    /// Behind the descriptor, which may begin with a signature.
    fn descriptor_end(&self, is: &[u32; 3], end: u64) -> Result<u64, &'static str> {
        let fields = is.iter().flat_map(|field| field.to_le_bytes());
        let fields: Vec<u8> = fields.collect();
        let signed = [b"PK\x07\x08", &fields[..]].concat();
        let there = usize::try_from(end)
            .ok()
            .and_then(|end| self.zip.get(end..));
        let there = there.unwrap_or_default();
        let mut forms = [signed, fields].into_iter();
        let form = forms.find(|form| there.starts_with(form));
        let form = form.ok_or("what follows it is not as it is")?;
        Ok(end + form.len() as u64)
    }
}

/// Whether a header's extra fields are well formed and known; `name` and `len` are where the lengths
/// stand.
fn extra_is_known(header: &[u8], start: usize, name: usize, len: usize) -> bool {
    let start = start + usize::from(u16_at(header, name));
    let extra = header.get(start..start + usize::from(u16_at(header, len)));
    let Some(mut extra) = extra else {
        return false;
    };
    while let Some((field, rest)) = extra.split_first_chunk::<4>() {
        let (id, len) = (u16_at(field, 0), usize::from(u16_at(field, 2)));
        let Some(rest) = rest.get(len..).filter(|_| EXTRA_FIELDS.contains(&id)) else {
            return false;
        };
        extra = rest;
    }
    extra.is_empty()
}

/// Within the length that was checked.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

/// Files must lie one after the other from the start on, before the directory.
fn check_places(mut places: Vec<(u64, u64)>, directory: u64) -> Result<(), EvidenceError> {
    places.sort_unstable();
    let mut free = 0;
    let starts = places.iter().map(|(start, _)| *start).chain([directory]);
    let ends = places.iter().map(|(_, end)| *end).chain([directory]);
    for (start, end) in starts.zip(ends) {
        if free != start {
            return Err(broken("files overlap, or bytes belong to none"));
        }
        free = end;
    }
    Ok(())
}

/// 1980-01-01, the first that an archive can name; without one, tools show a date that is none.
const FIRST_TIME: i64 = 315_532_800;

/// Each leaf may be of another epoch, and one more consistency proof leads to an outside checkpoint.
const MAX_FILES: usize = 2 * MAX_EVIDENCE_LEAVES + 1 + OTHER_FILES;

const MAX_NAME: usize = 64;

const TOO_LARGE: EvidenceError = EvidenceError::Archive("it is larger than 64 MiB");
const BAD_DIRECTORY: EvidenceError = EvidenceError::Archive("its directory is damaged");

fn broken(cause: &'static str) -> EvidenceError {
    EvidenceError::Archive(cause)
}
