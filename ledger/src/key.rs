//! The signing key on disk, in the text form of Go's `note` package:
//! `PRIVATE+KEY+name+hex(id)+base64(0x01, seed)`.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

use crate::disk::{self, Access};
use crate::error::{Cause, Error};
use crate::layout;
use crate::note::{self, NoteError, PublicKey};

const PREFIX: &str = "PRIVATE+KEY+";
const ED25519: u8 = 0x01;
const MAX_KEY_FILE_BYTES: u64 = 1024;

/// The key that signs a log's checkpoints. Wiped from memory when dropped.
pub(crate) struct LogKey {
    origin: String,
    signing: SigningKey,
}

impl LogKey {
    /// Reads `ledger.key`, or `None` when there is none.
    pub(crate) fn load(dir: &Path) -> Result<Option<LogKey>, Error> {
        let path = layout::secret_key(dir);
        let Some(bytes) = disk::read_small(&path, MAX_KEY_FILE_BYTES)? else {
            return Ok(None);
        };
        let bytes = Zeroizing::new(bytes);
        let key = LogKey::parse(&bytes);
        key.map(Some).map_err(|cause| Error::Key { path, cause })
    }

    /// Creates a key for `origin` and writes it to `ledger.key`.
    pub(crate) fn create(dir: &Path, origin: &str) -> Result<LogKey, Error> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut()).map_err(Error::Random)?;
        let key = LogKey {
            origin: origin.to_owned(),
            signing: SigningKey::from_bytes(&seed),
        };
        disk::replace(
            &layout::secret_key(dir),
            key.render().as_bytes(),
            Access::Owner,
        )?;
        Ok(key)
    }

    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    pub(crate) fn public(&self) -> PublicKey {
        PublicKey::new(&self.origin, self.signing.verifying_key())
    }

    pub(crate) fn sign(&self, text: &str) -> String {
        note::sign(&self.origin, &self.signing, text)
    }

    fn parse(file: &[u8]) -> Result<LogKey, &'static str> {
        let text = std::str::from_utf8(file).map_err(|_| "it is not text")?;
        let line = text.strip_suffix('\n').ok_or("it is cut short")?;
        let line = line.strip_prefix(PREFIX).ok_or("it is not a private key")?;
        let (origin, id, seed) = note::split_key(line).ok_or("it is not a private key")?;
        let bytes = Zeroizing::new(
            STANDARD
                .decode(seed)
                .map_err(|_| "its seed is not base64")?,
        );
        let [ED25519, seed @ ..] = bytes.as_slice() else {
            return Err("its type is not Ed25519");
        };
        let signing = SigningKey::try_from(seed).map_err(|_| "its seed is not 32 bytes")?;
        match note::hex(&note::key_id(origin, &signing.verifying_key())) == id {
            true => Ok(LogKey {
                origin: origin.to_owned(),
                signing,
            }),
            false => Err("its id does not match its name and seed"),
        }
    }

    fn render(&self) -> Zeroizing<String> {
        let mut seed = Zeroizing::new([ED25519; 33]);
        seed[1..].copy_from_slice(self.signing.as_bytes());
        let id = note::hex(&note::key_id(&self.origin, &self.signing.verifying_key()));
        let seed = Zeroizing::new(STANDARD.encode(&seed[..]));
        Zeroizing::new(format!("{PREFIX}{}+{id}+{}\n", self.origin, *seed))
    }
}

/// Writes `ledger.pub` if it is missing; otherwise it must hold this key.
pub(crate) fn publish(dir: &Path, key: &PublicKey) -> Result<(), Error> {
    match read_public(dir)? {
        Some(published) if published == *key => Ok(()),
        Some(_) => Err(damaged(dir, "it is not the key of ledger.key")),
        None => {
            let text = format!("{key}\n");
            disk::replace(&layout::public_key(dir), text.as_bytes(), Access::Everyone)
        }
    }
}

/// Reads `ledger.pub`, or `None` when there is none.
pub(crate) fn read_public(dir: &Path) -> Result<Option<PublicKey>, Error> {
    let Some(bytes) = disk::read_small(&layout::public_key(dir), MAX_KEY_FILE_BYTES)? else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes)
        .ok()
        .and_then(|text| text.strip_suffix('\n'));
    let text = text.ok_or_else(|| damaged(dir, "it is not a line of text"))?;
    PublicKey::parse(text).map(Some).map_err(|e| match e {
        NoteError::Malformed(cause) => damaged(dir, cause),
        _ => damaged(dir, "it is not a vkey"),
    })
}

fn damaged(dir: &Path, cause: &'static str) -> Error {
    Error::damaged(&layout::public_key(dir), 0, 0..0, Cause::Key(cause))
}
