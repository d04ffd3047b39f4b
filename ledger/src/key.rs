//! The secret keys of a log, on disk in the text form of Go's `note` package, a line each:
//! `PRIVATE+KEY+name+hex(id)+base64(type, seed)`.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use zeroize::Zeroizing;

use crate::disk::{self, Access};
use crate::error::Error;
use crate::keys::LogKeys;
use crate::note::{self, KeyKind, MAX_TIME, PublicKey, Signer};

const PREFIX: &str = "PRIVATE+KEY+";
const MAX_KEY_FILE_BYTES: u64 = 2048;

/// The keys that sign a log's checkpoints: one for the tree, one for the time. Two, since no key is
/// to sign two kinds of statement.
pub(crate) struct LogSecret {
    log: SecretKey,
    time: SecretKey,
}

impl LogSecret {
    /// Reads a key file, or `None` when there is none, or one that was erased. One that another account
    /// owns or others than the owner can read or write is refused, as `ssh` does: they may have signed with it, and what
    /// is signed from here on would look as if nobody could have.
    pub(crate) fn load(path: &Path) -> Result<Option<LogSecret>, Error> {
        let Some(bytes) = disk::read_small(path, MAX_KEY_FILE_BYTES)? else {
            return Ok(None);
        };
        let bytes = Zeroizing::new(bytes);
        if !bytes.is_empty() && bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        require_private(path)?;
        let key = LogSecret::parse(&bytes);
        key.map(Some).map_err(|cause| Error::Key {
            path: path.to_owned(),
            cause,
        })
    }

    /// Creates keys for `origin` and writes them to `path`.
    pub(crate) fn create(path: &Path, origin: &str) -> Result<LogSecret, Error> {
        let key = LogSecret {
            log: SecretKey::create(origin, KeyKind::Note)?,
            time: SecretKey::create(origin, KeyKind::Cosignature)?,
        };
        disk::replace(path, key.render().as_bytes(), Access::Owner)?;
        // A filesystem without permissions keeps no secret.
        require_private(path)?;
        Ok(key)
    }

    pub(crate) fn origin(&self) -> &str {
        &self.log.name
    }

    pub(crate) fn public(&self) -> LogKeys {
        LogKeys {
            log: self.log.public(),
            time: self.time.public(),
        }
    }

    /// The key of the tree.
    pub(crate) fn signer(&self) -> &dyn Signer {
        &self.log
    }

    /// Signs the text of a checkpoint, made at `time`.
    pub(crate) fn sign(&self, text: &str, time: u64) -> String {
        note::sign(text, time, &[&self.log, &self.time])
    }

    fn parse(file: &[u8]) -> Result<LogSecret, &'static str> {
        let text = std::str::from_utf8(file).map_err(|_| "it is not text")?;
        let text = text.strip_suffix('\n').ok_or("it is cut short")?;
        let (log, time) = text.split_once('\n').ok_or("it is cut short")?;
        let (log, time) = (SecretKey::parse(log)?, SecretKey::parse(time)?);
        match (log.kind, time.kind) {
            (KeyKind::Note, KeyKind::Cosignature) if log.name == time.name => {
                Ok(LogSecret { log, time })
            }
            _ => Err("its keys are not of the kinds they must be"),
        }
    }

    fn render(&self) -> Zeroizing<String> {
        let (log, time) = (self.log.render(), self.time.render());
        // In one piece, so that no copy stays behind where it grows.
        let mut text = Zeroizing::new(String::with_capacity(log.len() + time.len() + 2));
        for line in [&*log, "\n", &*time, "\n"] {
            text.push_str(line);
        }
        text
    }
}

fn require_private(path: &Path) -> Result<(), Error> {
    let disk::Rights { mode, other_owner } = disk::rights(path)?;
    match (mode & 0o077, other_owner) {
        (0, None) => Ok(()),
        (_, owner) => Err(Error::KeyOpenToOthers {
            path: path.to_owned(),
            mode,
            owner,
        }),
    }
}

/// An Ed25519 key and its name. Wiped from memory when dropped.
struct SecretKey {
    name: String,
    kind: KeyKind,
    signing: SigningKey,
}

impl SecretKey {
    fn create(name: &str, kind: KeyKind) -> Result<SecretKey, Error> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut()).map_err(Error::Random)?;
        Ok(SecretKey {
            name: name.to_owned(),
            kind,
            signing: SigningKey::from_bytes(&seed),
        })
    }

    fn parse(line: &str) -> Result<SecretKey, &'static str> {
        let line = line.strip_prefix(PREFIX).ok_or("it is not a private key")?;
        let (name, id, seed) = note::split_key(line).ok_or("it is not a private key")?;
        let bytes = STANDARD.decode(seed);
        let bytes = Zeroizing::new(bytes.map_err(|_| "its seed is not base64")?);
        let (code, seed) = bytes.split_first().ok_or("its seed is empty")?;
        let kind = KeyKind::from_code(*code).ok_or("its type is unknown")?;
        let signing = SigningKey::try_from(seed).map_err(|_| "its seed is not 32 bytes")?;
        let key = SecretKey {
            name: name.to_owned(),
            kind,
            signing,
        };
        match note::hex(&key.public().id()) == id {
            true => Ok(key),
            false => Err("its id does not match its name and seed"),
        }
    }

    fn render(&self) -> Zeroizing<String> {
        let mut seed = Zeroizing::new([self.kind.code(); 33]);
        seed[1..].copy_from_slice(self.signing.as_bytes());
        let id = note::hex(&self.public().id());
        let seed = Zeroizing::new(STANDARD.encode(&seed[..]));
        let start = format!("{PREFIX}{}+{id}+", self.name);
        let mut line = Zeroizing::new(String::with_capacity(start.len() + seed.len()));
        line.push_str(&start);
        line.push_str(&seed);
        line
    }
}

impl Signer for SecretKey {
    fn public(&self) -> PublicKey {
        PublicKey::new(&self.name, self.kind, self.signing.verifying_key())
    }

    fn signature(&self, text: &str, time: u64) -> Vec<u8> {
        match self.kind {
            KeyKind::Note => self.signing.sign(text.as_bytes()).to_bytes().to_vec(),
            KeyKind::Cosignature => {
                let time = time.min(MAX_TIME);
                let signature = self
                    .signing
                    .sign(note::cosigned_text(text, time).as_bytes());
                [&time.to_be_bytes()[..], &signature.to_bytes()].concat()
            }
        }
    }
}
