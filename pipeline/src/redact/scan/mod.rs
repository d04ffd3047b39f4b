//! Looks for the secrets themselves around the words that can announce them.
//!
//! Here are those that show by their own form (URLs, keys, accounts); `names` has the values of
//! names, `arguments` what is given to known programs.

mod arguments;
mod names;

use std::ops::Range;

use super::MARKER;
use super::patterns::{Kind, Shape, url_safe};
use super::programs;
use super::shell::{ends_word, is_blank, is_code, is_meta, runs_next, starts_command, word_len};

/// A look at one argument block. Words come in the order of their ends; what was looked at for one
/// word is skipped for the next, so that no block costs more than a few passes over it.
pub(super) struct Scan<'a> {
    block: &'a [u8],
    names: &'a [Vec<u8>],
    secrets: Vec<Range<usize>>,
    /// The argument that the word is in, and the one before it.
    argument: Range<usize>,
    before: Range<usize>,
    /// A shell's `-c` came before, with at most options between.
    runs: bool,
    /// Whether the argument is a command line, once that was asked.
    command_line: Option<bool>,
    /// PEM blocks up to here were looked at.
    keyed: usize,
    /// Headers up to here had their look at the rest of their argument.
    headed: usize,
    /// Names up to here were looked at.
    named: usize,
    /// For each program, up to where its arguments were looked at: in the block, and within one
    /// argument that is itself a command line.
    block_done: [bool; programs::COUNT],
    line_done: [usize; programs::COUNT],
}

impl<'a> Scan<'a> {
    pub(super) fn new(block: &'a [u8], names: &'a [Vec<u8>]) -> Self {
        Self {
            block,
            names,
            secrets: Vec::new(),
            argument: 0..argument_end(block, 0),
            before: 0..0,
            runs: false,
            command_line: None,
            keyed: 0,
            headed: 0,
            named: 0,
            block_done: [false; programs::COUNT],
            line_done: [0; programs::COUNT],
        }
    }

    /// A word that can announce a secret.
    pub(super) fn word(&mut self, kind: Kind, word: Range<usize>) {
        self.enter_argument(word.start);
        match kind {
            Kind::Name => self.name(word),
            Kind::Url => self.url(word),
            Kind::Pem => self.pem(word),
            Kind::Accounts => self.accounts(word),
            Kind::Shape(shape) => self.shape(shape, word),
            Kind::Program(program) => self.program(program, word),
        }
    }

    pub(super) fn into_secrets(self) -> Vec<Range<usize>> {
        self.secrets
    }

    /// A secret, up to where it could be something that runs.
    fn secret(&mut self, secret: Range<usize>) {
        let text = &self.block[secret.clone()];
        if starts_command(text) {
            return;
        }
        let in_command_line = self.is_command_line();
        let length = if is_code(text, in_command_line) {
            word_len(text)
        } else {
            // The value of `name=$(…)` ended before the parenthesis.
            let opens = text.ends_with(b"$") && self.block.get(secret.end) == Some(&b'(');
            text.len() - usize::from(opens)
        };
        self.push(secret.start..secret.start + length);
    }

    fn push(&mut self, secret: Range<usize>) {
        let value = &self.block[secret.clone()];
        if !value.is_empty() && value != MARKER {
            self.secrets.push(secret);
        }
    }

    /// Whether the argument is a command line: its values end where a shell's words end.
    fn is_command_line(&mut self) -> bool {
        let argument = &self.block[self.argument.clone()];
        let runs = self.runs;
        *self
            .command_line
            .get_or_insert_with(|| runs || is_code(argument, false))
    }

    fn is_in_secret(&self, place: usize) -> bool {
        self.secrets
            .last()
            .is_some_and(|secret| secret.contains(&place))
    }

    fn at(&self, place: usize) -> Option<u8> {
        (place < self.argument.end).then(|| self.block[place])
    }

    /// The byte before, within the argument.
    fn previous(&self, place: usize) -> Option<u8> {
        (place > self.argument.start).then(|| self.block[place - 1])
    }

    fn enter_argument(&mut self, place: usize) {
        while self.argument.end < place {
            let start = self.argument.end + 1;
            self.before = std::mem::replace(&mut self.argument, start..start);
            let before = &self.block[self.before.clone()];
            let is_option = matches!(before.first(), Some(b'-' | b'+'));
            self.runs = runs_next(before) || self.runs && is_option;
            self.command_line = None;
            self.argument.end = argument_end(self.block, start);
        }
    }

    /// First place from `from` on whose byte is not of a kind, within the argument.
    fn skip(&self, from: usize, is: impl Fn(u8) -> bool) -> usize {
        let rest = &self.block[from..self.argument.end];
        from + rest.iter().take_while(|byte| is(**byte)).count()
    }

    /// `://user:password@host`
    fn url(&mut self, word: Range<usize>) {
        let end = self.skip(word.end, |byte| !b"/?#\"'`<> \t\r\n".contains(&byte));
        let authority = &self.block[word.end..end];
        let Some(at) = authority.iter().rposition(|byte| *byte == b'@') else {
            return;
        };
        if let Some(colon) = authority[..at].iter().position(|byte| *byte == b':') {
            let password = word.end + colon + 1..word.end + at;
            let length = word_len(&self.block[password.clone()]);
            let end = if self.is_command_line() {
                password.start + length
            } else {
                password.end
            };
            self.secret(password.start..end);
        }
    }

    fn pem(&mut self, word: Range<usize>) {
        if word.start < self.keyed || self.is_in_secret(word.end - 1) {
            return;
        }
        let head = &self.block[word.end..self.argument.end.min(word.end + 40)];
        let Some(at) = head.windows(11).position(|window| window == b"PRIVATE KEY") else {
            return;
        };
        let start = self.skip(word.end + at + 11, |byte| byte == b'-');
        let text = &self.block[start..self.argument.end];
        let end = start + key_len(text);
        self.keyed = end;
        self.push(start..end);
    }

    /// `echo user:password | chpasswd`
    fn accounts(&mut self, word: Range<usize>) {
        let head = &self.block[self.argument.start..word.start];
        let near = &head[head.len().saturating_sub(64)..];
        let Some(pipe) = near.iter().rposition(|byte| *byte == b'|') else {
            return;
        };
        let end = word.start - (near.len() - pipe);
        let head = &self.block[self.argument.start..end];
        let length = head.iter().rev().take_while(|b| !is_meta(**b)).count();
        let mut start = end - length;
        while start < end {
            let length = self.block[start..end]
                .iter()
                .take_while(|byte| !ends_word(**byte))
                .count();
            self.account_of(start..start + length);
            start += length + 1;
        }
    }

    /// `user:password`, but not a URL.
    fn account_of(&mut self, word: Range<usize>) {
        let text = &self.block[word.clone()];
        if let Some(colon) = text.iter().position(|byte| *byte == b':')
            && !text[colon + 1..].starts_with(b"//")
        {
            self.secret(word.start + colon + 1..word.end);
        }
    }

    fn shape(&mut self, shape: &Shape, word: Range<usize>) {
        let is_part = |byte| url_safe(byte) || (shape.alphabet)(byte);
        let inside = shape.kept == 0 && self.previous(word.start).is_some_and(is_part);
        if inside || &self.block[word.clone()] != shape.prefix.as_bytes() {
            return;
        }
        let end = self.skip(word.end, shape.alphabet);
        let jwt = shape.prefix != "eyJ" || is_jwt(&self.block[word.start..end]);
        if end - word.end >= shape.at_least && jwt {
            self.push(word.start + shape.kept..end);
        }
    }
}

fn argument_end(block: &[u8], from: usize) -> usize {
    block[from..]
        .iter()
        .position(|byte| *byte == 0)
        .map_or(block.len(), |length| from + length)
}

/// Three parts, of which the second begins like the first (`{"` in base64).
fn is_jwt(text: &[u8]) -> bool {
    let mut parts = text.split(|byte| *byte == b'.');
    parts.next().is_some_and(|head| head.len() >= 10)
        && parts
            .next()
            .is_some_and(|claims| claims.starts_with(b"eyJ"))
}

fn starts_pem(text: &[u8]) -> bool {
    text.starts_with(b"-----BEGIN")
}

/// How far the text can be the inside of a PEM block: to its end line, or to the first word that
/// cannot be part of it.
fn key_len(text: &[u8]) -> usize {
    let is_key = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=-,:\\".contains(&byte);
    let mut word = 0;
    let mut end = text.len();
    for (place, byte) in text.iter().enumerate() {
        if text[place..].starts_with(b"-----END") {
            return place;
        }
        if is_blank(*byte) {
            word = place + 1;
        } else if place == word && starts_command(&text[word..]) {
            end = word;
            break;
        } else if !is_key(*byte) {
            end = if ends_word(*byte) { place } else { word };
            break;
        }
    }
    // The blank stays, lest the next word touch the marker and look like more of the key.
    text[..end].trim_ascii_end().len()
}
