//! A bundle's ZIP archive: stored files alone, so what is read is never larger than the archive.
//!
//! Whoever made an archive may want two readers to see two things in it. Nothing that is read here
//! counts before it is proven, but what could be read in two ways is rejected all the same: a name
//! that is there twice or differs between a file's two headers, bytes that belong to no file.

use std::collections::BTreeMap;
use std::io::Write;

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
    let mut entries = archive.entries();
    while let Some(entry) = entries.next_entry().map_err(|_| BAD_DIRECTORY)? {
        if files.len() == MAX_FILES {
            return Err(broken("it holds too many files"));
        }
        let (name, stored) = stored(&archive, zip, &entry)?;
        places.push(stored.place);
        if files.insert(name.clone(), stored.bytes).is_some() {
            return Err(file(&name, "it is there twice"));
        }
    }
    if files.len() as u64 != archive.entries_hint() {
        return Err(BAD_DIRECTORY);
    }
    check_places(places, archive.directory_offset())?;
    Ok(files)
}

/// A file as it lies in the archive.
struct Stored<'a> {
    bytes: &'a [u8],
    /// From the start of its header to the end of its bytes.
    place: (u64, u64),
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
    let place = (entry.local_header_offset(), end);
    Ok((name, Stored { bytes, place }))
}

/// Files must lie one after the other from the start on, before the directory.
fn check_places(mut places: Vec<(u64, u64)>, directory: u64) -> Result<(), EvidenceError> {
    places.sort_unstable();
    let mut free = 0..=0;
    let starts = places.iter().map(|(start, _)| *start).chain([directory]);
    let ends = places.iter().map(|(_, end)| *end).chain([directory]);
    for (start, end) in starts.zip(ends) {
        if !free.contains(&start) {
            return Err(broken("files overlap, or bytes belong to none"));
        }
        // A data descriptor may follow.
        free = end..=end.saturating_add(DESCRIPTOR);
    }
    Ok(())
}

/// 1980-01-01, the first that an archive can name; without one, tools show a date that is none.
const FIRST_TIME: i64 = 315_532_800;

/// Each leaf may be of another epoch, and one more consistency proof leads to an outside checkpoint.
const MAX_FILES: usize = 2 * MAX_EVIDENCE_LEAVES + 1 + OTHER_FILES;

const MAX_NAME: usize = 64;

/// Longest data descriptor behind a file's bytes, that of ZIP64.
const DESCRIPTOR: u64 = 24;

const TOO_LARGE: EvidenceError = EvidenceError::Archive("it is larger than 64 MiB");
const BAD_DIRECTORY: EvidenceError = EvidenceError::Archive("its directory is damaged");

fn broken(cause: &'static str) -> EvidenceError {
    EvidenceError::Archive(cause)
}
