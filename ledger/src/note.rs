//! C2SP signed notes: <https://c2sp.org/signed-note>.
//!
//! The signature types are those of [`KeyKind`]. Another algorithm is another kind, whose keys
//! [`PublicKey`] reads and [`SignedNote`] verifies, and another [`Signer`].

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest, Sha256};

/// Longest note that is read, in bytes. A checkpoint with 100 cosignatures stays below it.
pub(crate) const MAX_NOTE_BYTES: usize = 64 * 1024;

/// Latest time of a cosignature, in POSIX seconds.
pub(crate) const MAX_TIME: u64 = i64::MAX as u64;

/// Longest key name, in bytes.
const MAX_NAME_BYTES: usize = 255;

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
    /// The signature is by a key of this log, but of an epoch that does not reach this size.
    #[error("signed by a key of another epoch")]
    Epoch,
    /// Fewer of the witnesses cosigned than must have.
    #[error("too few witnesses cosigned it")]
    TooFewWitnesses,
    /// The checkpoint is of another log.
    #[error("checkpoint is of another origin")]
    Origin,
}

/// What a key signs, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyKind {
    /// Ed25519 over the text of a note.
    Note,
    /// Ed25519 over a time and the text of a note: <https://c2sp.org/tlog-cosignature>.
    Cosignature,
}

impl KeyKind {
    /// The signature type in a vkey.
    pub(crate) fn code(self) -> u8 {
        match self {
            KeyKind::Note => 0x01,
            KeyKind::Cosignature => 0x04,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<KeyKind> {
        [KeyKind::Note, KeyKind::Cosignature]
            .into_iter()
            .find(|kind| kind.code() == code)
    }
}

/// A public key and its name, written as a C2SP vkey: `name+hex(id)+base64(type, key)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    name: String,
    kind: KeyKind,
    id: [u8; 4],
    key: VerifyingKey,
}

impl PublicKey {
    pub(crate) fn new(name: &str, kind: KeyKind, key: VerifyingKey) -> PublicKey {
        PublicKey {
            name: name.to_owned(),
            kind,
            id: key_id(name, kind, &key),
            key,
        }
    }

    /// Reads a vkey line, without its newline. Only the canonical spelling is accepted.
    pub fn parse(text: &str) -> Result<PublicKey, NoteError> {
        let (name, id, key) = split_key(text).ok_or(NoteError::Malformed("not a vkey"))?;
        let bytes = STANDARD
            .decode(key)
            .map_err(|_| NoteError::Malformed("key is not base64"))?;
        let (kind, key) = bytes
            .split_first()
            .and_then(|(code, key)| Some((KeyKind::from_code(*code)?, key)))
            .ok_or(NoteError::Malformed("key is of an unknown type"))?;
        let key = key
            .try_into()
            .map_err(|_| NoteError::Malformed("key is not 32 bytes"))?;
        let key = VerifyingKey::from_bytes(key)
            .ok()
            .filter(|key| !key.is_weak())
            .ok_or(NoteError::Malformed("key is not a usable Ed25519 point"))?;
        let parsed = PublicKey::new(name, kind, key);
        match hex(&parsed.id) == id {
            true => Ok(parsed),
            false => Err(NoteError::Malformed("key id does not match name and key")),
        }
    }

    /// The key's name: a log's origin, or what a witness calls itself.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it signs.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    pub(crate) fn id(&self) -> [u8; 4] {
        self.id
    }

    fn verifies(&self, message: &str, signature: &[u8]) -> Result<(), NoteError> {
        let signature = Signature::from_slice(signature).map_err(|_| NoteError::Signature)?;
        self.key
            .verify_strict(message.as_bytes(), &signature)
            .map_err(|_| NoteError::Signature)
    }

    /// The raw Ed25519 public key.
    pub fn bytes(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![self.kind.code()];
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

    /// Whether a signature claims to be by a key of that name.
    pub(crate) fn is_signed_as(&self, name: &str) -> bool {
        self.signatures.iter().any(|line| line.name == name)
    }

    /// Verifies the signature by `key`. Signatures by other keys are not looked at.
    pub fn verify(&self, key: &PublicKey) -> Result<(), NoteError> {
        match key.kind {
            KeyKind::Note => key.verifies(&self.text, self.signature(key)?),
            KeyKind::Cosignature => self.cosigned_at(key).map(drop),
        }
    }

    /// Verifies the cosignature by `key` and returns when it was made, in POSIX seconds.
    pub fn cosigned_at(&self, key: &PublicKey) -> Result<u64, NoteError> {
        if key.kind != KeyKind::Cosignature {
            return Err(NoteError::NotSigned);
        }
        let (time, signature) = self
            .signature(key)?
            .split_first_chunk()
            .ok_or(NoteError::Signature)?;
        let time = u64::from_be_bytes(*time);
        if time > MAX_TIME {
            return Err(NoteError::Malformed("time of a cosignature"));
        }
        key.verifies(&cosigned_text(&self.text, time), signature)?;
        Ok(time)
    }

    /// When the cosignature by `key` says that it was made; not verified.
    pub(crate) fn claimed_at(&self, key: &PublicKey) -> Option<u64> {
        let (time, _) = self.signature(key).ok()?.split_first_chunk()?;
        Some(u64::from_be_bytes(*time))
    }

    fn signature(&self, key: &PublicKey) -> Result<&[u8], NoteError> {
        let by_key = |line: &&SignatureLine| line.name == key.name && line.id == key.id;
        let line = self.signatures.iter().find(by_key);
        Ok(&line.ok_or(NoteError::NotSigned)?.signature)
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

/// What a file or a leaf holds, as the text that a note is.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, NoteError> {
    std::str::from_utf8(bytes).map_err(|_| NoteError::Malformed("not text"))
}

/// One key that can sign.
pub(crate) trait Signer {
    /// The key that verifies.
    fn public(&self) -> PublicKey;

    /// The signature over `text`, as it follows the key id. `time` is for kinds that sign one.
    fn signature(&self, text: &str, time: u64) -> Vec<u8>;
}

/// The note of `text`, which ends with a newline, signed by each of `signers` at `time`.
pub(crate) fn sign(text: &str, time: u64, signers: &[&dyn Signer]) -> String {
    let mut note = format!("{text}\n");
    for signer in signers {
        let key = signer.public();
        let mut signature = key.id().to_vec();
        signature.extend_from_slice(&signer.signature(text, time));
        let signature = STANDARD.encode(signature);
        note.push_str(&format!("{SIGNATURE_START}{} {signature}\n", key.name()));
    }
    note
}

/// `note` with the signatures of `other`, of the same text, by keys that did not sign it.
pub(crate) fn with_signatures_of(note: &str, other: &str) -> Result<String, NoteError> {
    let signed = SignedNote::parse(note)?;
    let is_by_another = |line: &&str| {
        let line = SignatureLine::parse(line);
        let mut by = signed.signatures.iter();
        line.is_ok_and(|line| !by.any(|known| (&known.name, known.id) == (&line.name, line.id)))
    };
    let signatures = other
        .lines()
        .filter(|line| line.starts_with(SIGNATURE_START));
    let mut joined = note.to_owned();
    for line in signatures.filter(is_by_another) {
        joined.push_str(line);
        joined.push('\n');
    }
    SignedNote::parse(&joined).map(|_| joined)
}

/// What a cosignature signs.
pub(crate) fn cosigned_text(text: &str, time: u64) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
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

pub(crate) fn key_id(name: &str, kind: KeyKind, key: &VerifyingKey) -> [u8; 4] {
    let mut hasher = Sha256::new();
    hasher.update(name);
    hasher.update([b'\n', kind.code()]);
    hasher.update(key.as_bytes());
    let digest: [u8; 32] = hasher.finalize().into();
    let [a, b, c, d, ..] = digest;
    [a, b, c, d]
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
