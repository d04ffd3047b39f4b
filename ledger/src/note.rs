//! C2SP signed notes with Ed25519 signatures: <https://c2sp.org/signed-note>.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

/// Longest note that is read, in bytes. A checkpoint with 100 cosignatures stays below it.
pub(crate) const MAX_NOTE_BYTES: usize = 64 * 1024;

/// Longest key name, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// The signature type of plain Ed25519.
const ED25519: u8 = 0x01;

/// What starts a signature line: an em dash and a space.
pub(crate) const SIGNATURE_START: &str = "\u{2014} ";

/// Why a note, checkpoint or key was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoteError {
    /// The text is not of the form it must have.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// None of the signatures is by this key.
    #[error("not signed by this log's key")]
    NotSigned,
    /// The signature by this key does not verify.
    #[error("signature does not verify")]
    Signature,
    /// The checkpoint is of another log.
    #[error("checkpoint is of another origin")]
    Origin,
}

/// A log's Ed25519 public key and name, written as a C2SP vkey: `name+hex(id)+base64(0x01, key)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    name: String,
    id: [u8; 4],
    key: VerifyingKey,
}

impl PublicKey {
    pub(crate) fn new(name: &str, key: VerifyingKey) -> PublicKey {
        PublicKey {
            name: name.to_owned(),
            id: key_id(name, &key),
            key,
        }
    }

    /// Reads a vkey line, without its newline. Only the canonical spelling is accepted.
    pub fn parse(text: &str) -> Result<PublicKey, NoteError> {
        let (name, id, key) = split_key(text).ok_or(NoteError::Malformed("not a vkey"))?;
        let bytes = STANDARD
            .decode(key)
            .map_err(|_| NoteError::Malformed("key is not base64"))?;
        let [ED25519, key @ ..] = bytes.as_slice() else {
            return Err(NoteError::Malformed("key is not Ed25519"));
        };
        let key = key
            .try_into()
            .map_err(|_| NoteError::Malformed("key is not 32 bytes"))?;
        let key = VerifyingKey::from_bytes(key)
            .ok()
            .filter(|key| !key.is_weak())
            .ok_or(NoteError::Malformed("key is not a usable Ed25519 point"))?;
        let parsed = PublicKey::new(name, key);
        match hex(&parsed.id) == id {
            true => Ok(parsed),
            false => Err(NoteError::Malformed("key id does not match name and key")),
        }
    }

    /// The key's name, which is the log's origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The raw Ed25519 public key.
    pub fn bytes(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![ED25519];
        key.extend_from_slice(self.key.as_bytes());
        write!(
            f,
            "{}+{}+{}",
            self.name,
            hex(&self.id),
            STANDARD.encode(key)
        )
    }
}

/// A note and its signatures, none of them verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedNote {
    text: String,
    signatures: Vec<SignatureLine>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct SignatureLine {
    name: String,
    id: [u8; 4],
    signature: Vec<u8>,
}

impl SignedNote {
    /// Splits a note into its text and signatures.
    pub fn parse(note: &str) -> Result<SignedNote, NoteError> {
        if note.len() > MAX_NOTE_BYTES {
            return Err(NoteError::Malformed("note is too long"));
        }
        if note.chars().any(|c| c < ' ' && c != '\n') {
            return Err(NoteError::Malformed("note holds control characters"));
        }
        let gap = note
            .rfind("\n\n")
            .ok_or(NoteError::Malformed("note has no signatures"))?;
        let (text, signatures) = (&note[..=gap], &note[gap + 2..]);
        let signatures = signatures
            .strip_suffix('\n')
            .ok_or(NoteError::Malformed("note is cut short"))?;
        let signatures = signatures.split('\n').map(SignatureLine::parse);
        Ok(SignedNote {
            text: text.to_owned(),
            signatures: signatures.collect::<Result<_, _>>()?,
        })
    }

    /// The signed text, which ends with a newline.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Verifies the signature by `key`. Signatures by other keys are not looked at.
    pub fn verify(&self, key: &PublicKey) -> Result<(), NoteError> {
        let by_key = |line: &&SignatureLine| line.name == key.name && line.id == key.id;
        let line = self
            .signatures
            .iter()
            .find(by_key)
            .ok_or(NoteError::NotSigned)?;
        let signature = Signature::from_slice(&line.signature).map_err(|_| NoteError::Signature)?;
        key.key
            .verify_strict(self.text.as_bytes(), &signature)
            .map_err(|_| NoteError::Signature)
    }
}

impl SignatureLine {
    fn parse(line: &str) -> Result<SignatureLine, NoteError> {
        let malformed = NoteError::Malformed("not a signature line");
        let (name, signature) = line
            .strip_prefix(SIGNATURE_START)
            .and_then(|rest| rest.split_once(' '))
            .filter(|(name, _)| is_key_name(name))
            .ok_or(malformed)?;
        let bytes = STANDARD.decode(signature).map_err(|_| malformed)?;
        let (id, signature) = bytes.split_first_chunk().ok_or(malformed)?;
        Ok(SignatureLine {
            name: name.to_owned(),
            id: *id,
            signature: signature.to_owned(),
        })
    }
}

/// Signs `text`, which ends with a newline, as `name`.
pub(crate) fn sign(name: &str, key: &SigningKey, text: &str) -> String {
    let mut signature = key_id(name, &key.verifying_key()).to_vec();
    signature.extend_from_slice(&key.sign(text.as_bytes()).to_bytes());
    format!(
        "{text}\n{SIGNATURE_START}{name} {}\n",
        STANDARD.encode(signature)
    )
}

/// Whether `name` can name a key and so a log.
pub(crate) fn is_key_name(name: &str) -> bool {
    let allowed = |c: char| !c.is_whitespace() && !c.is_control() && c != '+';
    (1..=MAX_NAME_BYTES).contains(&name.len()) && name.chars().all(allowed)
}

/// Splits `name+id+base64`; the base64 may hold `+` itself.
pub(crate) fn split_key(text: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = text.split_once('+')?;
    let (id, key) = rest.split_once('+')?;
    is_key_name(name).then_some((name, id, key))
}

pub(crate) fn key_id(name: &str, key: &VerifyingKey) -> [u8; 4] {
    let mut hasher = Sha256::new();
    hasher.update(name);
    hasher.update([b'\n', ED25519]);
    hasher.update(key.as_bytes());
    let digest: [u8; 32] = hasher.finalize().into();
    let [a, b, c, d, ..] = digest;
    [a, b, c, d]
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
