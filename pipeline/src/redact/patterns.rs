use super::programs::{self, Program};

/// What a word that was found can announce.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// Part of the name of a flag, assignment or header whose value is secret.
    Name,
    /// `://`, after which a URL can have credentials.
    Url,
    /// The begin of a PEM block.
    Pem,
    /// `chpasswd`, which reads accounts from a pipe.
    Accounts,
    /// The begin of a key that shows by its shape.
    Shape(&'static Shape),
    /// The begin of the name of a program that takes passwords by short flags.
    Program(&'static Program),
}

/// A kind of key that is recognized wherever it stands.
#[derive(Debug)]
pub(super) struct Shape {
    /// How it begins, exactly.
    pub(super) prefix: &'static str,
    /// Which bytes follow.
    pub(super) alphabet: fn(u8) -> bool,
    /// At least so many.
    pub(super) at_least: usize,
    /// So much of the prefix stays.
    pub(super) kept: usize,
}

const fn shape(prefix: &'static str, at_least: usize, alphabet: fn(u8) -> bool) -> Shape {
    Shape {
        prefix,
        alphabet,
        at_least,
        kept: 0,
    }
}

fn alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

fn upper_or_digit(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit()
}

fn word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

pub(super) fn url_safe(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

fn path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'/'
}

fn dotted(byte: u8) -> bool {
    url_safe(byte) || byte == b'.'
}

static SHAPES: [Shape; 22] = [
    shape("AKIA", 16, upper_or_digit), // AWS access key
    shape("ASIA", 16, upper_or_digit), // AWS session key
    shape("AIza", 30, url_safe),       // Google API key
    shape("ya29.", 20, dotted),        // Google OAuth
    shape("ghp_", 20, alphanumeric),   // GitHub, five kinds
    shape("gho_", 20, alphanumeric),
    shape("ghu_", 20, alphanumeric),
    shape("ghs_", 20, alphanumeric),
    shape("ghr_", 20, alphanumeric),
    shape("github_pat_", 20, word),
    shape("glpat-", 16, url_safe), // GitLab
    shape("npm_", 30, alphanumeric),
    shape("xoxb-", 10, url_safe), // Slack
    shape("xoxa-", 10, url_safe),
    shape("xoxp-", 10, url_safe),
    shape("sk_live_", 10, alphanumeric), // Stripe
    shape("rk_live_", 10, alphanumeric),
    shape("sk-ant-", 20, url_safe),
    shape("pypi-Ag", 10, url_safe),
    shape("tskey-", 10, url_safe), // Tailscale
    Shape {
        kept: "hooks.slack.com/services/".len(),
        ..shape("hooks.slack.com/services/", 10, path)
    },
    shape("eyJ", 20, dotted), // JWT: `scan` wants its three parts
];

/// Words of which every secret's name has one. What the name is as a whole decides
/// ([`is_secret_name`]).
const NAMES: [&str; 24] = [
    "pass",
    "pwd",
    "secret",
    "token",
    "credential",
    "authorization",
    "cookie",
    "apikey",
    "api-key",
    "api_key",
    "accesskey",
    "access-key",
    "access_key",
    "privatekey",
    "private-key",
    "private_key",
    "encryption",
    "accountkey",
    "account-key",
    "account_key",
    "storagekey",
    "storage-key",
    "storage_key",
    "oauth2-bearer",
];

pub(super) fn all() -> impl Iterator<Item = (&'static [u8], Kind)> {
    let names = NAMES.iter().map(|name| (name.as_bytes(), Kind::Name));
    let shapes = SHAPES
        .iter()
        .map(|shape| (shape.prefix.as_bytes(), Kind::Shape(shape)));
    let programs = programs::all().map(|(word, program)| (word.as_bytes(), Kind::Program(program)));
    names
        .chain([
            (&b"://"[..], Kind::Url),
            (b"-----begin", Kind::Pem),
            (b"chpasswd", Kind::Accounts),
        ])
        .chain(shapes)
        .chain(programs)
}

/// Ends of names (without separators) whose values are secret. `--password-file`, `--token-ttl`
/// and `--max-tokens` end differently.
const ENDS: [&str; 24] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "credential",
    "credentials",
    "apikey",
    "accesskey",
    "privatekey",
    "secretkey",
    "encryptionkey",
    "secretkeybase",
    "accountkey",
    "storagekey",
    "oauth2bearer",
    "storepass",
    "keypass",
    "sshpass",
    "passin",
    "passout",
    "authorization",
    "cookie",
    "mysqlpwd",
];

/// Whether a name, without leading dashes, is that of something secret.
pub(super) fn is_secret_name(name: &[u8], more: &[Vec<u8>]) -> bool {
    let name = &name[..name.len() - name.iter().rev().take_while(|b| b.is_ascii_digit()).count()];
    let mut buffer = [0; 64];
    let joined = join(name, &mut buffer);
    ENDS.iter().any(|end| joined.ends_with(end.as_bytes()))
        || more.iter().any(|other| joined == &other[..])
        || last_part_is(name, b"pass", 0)
        || last_part_is(name, b"pwd", 1)
}

/// Whether a flag of that name asks, tells or switches rather than takes a value.
pub(super) fn is_switch(name: &[u8]) -> bool {
    const VERBS: [&str; 14] = [
        "no", "ask", "with", "show", "print", "prompt", "use", "skip", "disable", "enable",
        "allow", "require", "list", "hide",
    ];
    let first = name
        .split(|byte| matches!(byte, b'-' | b'_' | b'.'))
        .next()
        .unwrap_or_default();
    first.len() < name.len()
        && VERBS
            .iter()
            .any(|verb| first.eq_ignore_ascii_case(verb.as_bytes()))
}

/// A configured name in lower case, without separators and final digits.
pub(super) fn joined(name: &str) -> Vec<u8> {
    let name = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
    let letters = name.bytes().filter(u8::is_ascii_alphanumeric);
    letters.map(|byte| byte.to_ascii_lowercase()).collect()
}

/// What to search for to find a configured name, however its parts are joined.
pub(super) fn longest_part(name: &str) -> &[u8] {
    let parts = name.as_bytes().split(|byte| !byte.is_ascii_alphanumeric());
    parts.max_by_key(|part| part.len()).unwrap_or_default()
}

/// The last 64 letters and digits of a name, in lower case.
fn join<'a>(name: &[u8], buffer: &'a mut [u8; 64]) -> &'a [u8] {
    let mut start = buffer.len();
    for byte in name
        .iter()
        .rev()
        .filter(|byte| byte.is_ascii_alphanumeric())
        .take(64)
    {
        start -= 1;
        buffer[start] = byte.to_ascii_lowercase();
    }
    &buffer[start..]
}

fn last_part_is(name: &[u8], last: &[u8], parts_before: usize) -> bool {
    let mut parts = name.rsplit(|byte| matches!(byte, b'-' | b'_' | b'.'));
    parts
        .next()
        .is_some_and(|part| part.eq_ignore_ascii_case(last))
        && parts.filter(|part| !part.is_empty()).count() >= parts_before
}
