//! The first files of a log, and what of them an existing log must have.

use std::io::{self, BufReader};
use std::path::Path;

use super::secret::Secrets;
use crate::append::{Edge, Options, create_segment};
use crate::checkpoint::{self, Checkpoint, CheckpointText, Record, Records};
use crate::disk::{self, Access};
use crate::error::{Cause, Error};
use crate::gap::Gap;
use crate::hash::{HashKind, chain_start, origin_hash};
use crate::key::LogSecret;
use crate::keys::PublicKeys;
use crate::layout;
use crate::note;
use crate::published;
use crate::segment::{self, Header};
use crate::tiles::Tiles;
use crate::tree::Frontier;

/// The log's secrets: read, or created together with the log.
pub(super) fn secrets(dir: &Path, options: &Options, created: bool) -> Result<Secrets, Error> {
    let (path, public) = (layout::secret_key(dir), layout::public_key(dir));
    let mut secrets = Secrets::load(dir)?;
    if !secrets.is_none() {
        return Ok(secrets);
    }
    let signed = [layout::last_checkpoint(dir), layout::checkpoints(dir)];
    let signed = disk::exists(&signed[0])? || disk::exists(&signed[1])?;
    if !created || disk::exists(&public)? || signed {
        return Err(Error::Key {
            path,
            cause: "it is missing, but the log exists",
        });
    }
    if !note::is_key_name(&options.origin) {
        return Err(Error::Origin(options.origin.clone()));
    }
    secrets.current = Some(LogSecret::create(&path, &options.origin)?);
    Ok(secrets)
}

/// The first checkpoint, of size 0, then the first segment: so a log with a segment and without a
/// checkpoint is one that was tampered with.
pub(super) fn create_log(dir: &Path, options: &Options, key: &LogSecret) -> Result<(), Error> {
    let checkpoint_size = signed_size(dir, &PublicKeys::new(key.public()))?;
    if checkpoint_size > 0 {
        return Err(Error::RolledBack {
            log_size: 0,
            checkpoint_size,
        });
    }
    let edge = first_edge(key.origin(), options.hash);
    let text = CheckpointText {
        origin: key.origin().to_owned(),
        size: 0,
        root: edge.frontier.root(),
    };
    let note = key.sign(&text.render(), (options.clock)());
    // Whole, since a creation that was cut short may have left others of size 0.
    let replace = |path: &Path, text: &str| disk::replace(path, text.as_bytes(), Access::Everyone);
    replace(&layout::checkpoints(dir), &checkpoint::record(&note))?;
    replace(&layout::last_checkpoint(dir), &note)?;
    create_segment(dir, key.origin(), &edge).map(|_| ())
}

/// The largest size that a checkpoint found in `dir` was signed for; 0 when there is none.
fn signed_size(dir: &Path, keys: &PublicKeys) -> Result<u64, Error> {
    let last = published::last_checkpoint(dir, keys)?;
    let mut size = last.as_ref().map_or(0, Checkpoint::size);
    let path = layout::checkpoints(dir);
    let file = match disk::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(size),
        Err(e) => return Err(Error::io("open", &path)(e)),
    };
    let mut records = Records::new(BufReader::new(file), 0);
    while let Record::Note { note, offset } = records.next().map_err(Error::io("read", &path))? {
        size = size.max(published::opened(dir, keys, &note, offset)?.size());
    }
    Ok(size)
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

/// The hash kind of the first segment, which must be there, of this log, and follow the gap.
pub(super) fn hash_kind(dir: &Path, origin: &str, gap: Option<&Gap>) -> Result<HashKind, Error> {
    let kept_from = gap.map_or(0, |gap| gap.end);
    let path = layout::segment(dir, kept_from);
    let mut file = match disk::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let first = disk::segments(dir)?
                .into_iter()
                .find(|first| *first > kept_from);
            let missing = kept_from..first.unwrap_or(kept_from);
            return Err(Error::damaged(&path, 0, missing, Cause::Missing));
        }
        Err(e) => return Err(Error::io("open", &path)(e)),
    };
    let header = segment::read_header(&mut file).map_err(Error::io("read", &path))?;
    let header = header.and_then(|header| {
        let chain = gap.map_or_else(|| chain_start(origin, header.hash), |gap| gap.chain);
        let expected = Header {
            hash: header.hash,
            first: kept_from,
            nonce: header.nonce,
            origin: origin_hash(origin),
            chain,
        };
        if header == expected {
            Ok(header)
        } else {
            Err(Cause::Header("it is of another log"))
        }
    });
    let damaged = |cause| Error::damaged(&path, 0, kept_from..kept_from + 1, cause);
    header.map(|header| header.hash).map_err(damaged)
}
