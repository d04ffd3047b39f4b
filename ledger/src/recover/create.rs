//! The first files of a log, and what of them an existing log must have.

use std::fs::File;
use std::path::Path;

use crate::append::{Edge, Options, create_segment};
use crate::checkpoint::Checkpoint;
use crate::disk;
use crate::error::{Cause, Error};
use crate::hash::{HashKind, chain_start, origin_hash};
use crate::key::LogKey;
use crate::layout;
use crate::note;
use crate::segment::{self, Header};
use crate::tiles::Tiles;
use crate::tree::Frontier;

/// The log's key: read, or created together with the log.
pub(super) fn log_key(dir: &Path, options: &Options, created: bool) -> Result<LogKey, Error> {
    if let Some(key) = LogKey::load(dir)? {
        return Ok(key);
    }
    let (path, public) = (layout::secret_key(dir), layout::public_key(dir));
    if !created || public.exists() || layout::last_checkpoint(dir).exists() {
        return Err(Error::Key {
            path,
            cause: "it is missing, but the log exists",
        });
    }
    if !note::is_key_name(&options.origin) {
        return Err(Error::Origin(options.origin.clone()));
    }
    LogKey::create(dir, &options.origin)
}

pub(super) fn create_log(
    dir: &Path,
    options: &Options,
    key: &LogKey,
    last: Option<&Checkpoint>,
) -> Result<(), Error> {
    if let Some(checkpoint_size) = last.map(Checkpoint::size).filter(|&size| size > 0) {
        return Err(Error::RolledBack {
            log_size: 0,
            checkpoint_size,
        });
    }
    create_segment(dir, key.origin(), &first_edge(key.origin(), options.hash)).map(|_| ())
}

pub(super) fn first_edge(origin: &str, kind: HashKind) -> Edge {
    let chain = chain_start(origin, kind);
    Edge {
        frontier: Frontier::new(kind),
        chain,
        tiles: Tiles::new(),
        offsets: Vec::new(),
    }
}

/// The hash kind of the first segment, which must be there and of this log.
pub(super) fn hash_kind(dir: &Path, key: &LogKey) -> Result<HashKind, Error> {
    let path = layout::segment(dir, 0);
    let first = disk::segments(dir)?.first().copied().unwrap_or(0);
    if !path.exists() {
        return Err(Error::damaged(&path, 0, 0..first, Cause::Missing));
    }
    let mut file = File::open(&path).map_err(Error::io("open", &path))?;
    let header = segment::read_header(&mut file).map_err(Error::io("read", &path))?;
    let header = header.and_then(|header| {
        let (origin, chain) = (key.origin(), chain_start(key.origin(), header.hash));
        let expected = Header {
            hash: header.hash,
            first: 0,
            origin: origin_hash(origin),
            chain,
        };
        if header == expected {
            Ok(header)
        } else {
            Err(Cause::Header("it is of another log"))
        }
    });
    header
        .map(|header| header.hash)
        .map_err(|cause| Error::damaged(&path, 0, 0..1, cause))
}
