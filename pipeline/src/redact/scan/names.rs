//! Values that a name announces: of flags, assignments, headers and members.

use std::ops::Range;

use super::{Scan, argument_end, starts_pem};
use crate::redact::patterns::{is_secret_name, is_switch};
use crate::redact::shell::{
    ends_word, is_blank, is_code, is_meta, is_quote, starts_command, starts_word_after, word_len,
};

impl Scan<'_> {
    pub(super) fn name(&mut self, word: Range<usize>) {
        if word.start < self.named || self.is_in_secret(word.start) {
            return;
        }
        let back = self.block[self.argument.start..word.start].iter().rev();
        let start = word.start - back.take_while(|byte| is_name_byte(**byte)).count();
        let end = self.skip(word.end, is_name_byte);
        self.named = end;
        let dashes = self.skip(start, |byte| byte == b'-') - start;
        let is_name = dashes < end - start
            && (is_secret_name(&self.block[start + dashes..end], self.names)
                || self.is_connection_password(start..end));
        if is_name {
            self.value_of(Name {
                whole: start..end,
                dashes,
            });
        }
    }

    /// `Pwd=…` in a connection string; alone, `PWD=/…` is a directory.
    fn is_connection_password(&self, name: Range<usize>) -> bool {
        self.block[name.clone()].eq_ignore_ascii_case(b"pwd")
            && self.at(name.end) == Some(b'=')
            && !matches!(self.at(name.end + 1), None | Some(b'/' | b'$' | b'~'))
            && (self.previous(name.start) == Some(b';')
                || self.at(self.skip(name.end, |byte| !ends_word(byte))) == Some(b';'))
    }

    /// Finds the value that belongs to a name.
    fn value_of(&mut self, name: Name) {
        let mut place = name.whole.end;
        let quoted = self.closes_quote(&name.whole);
        if let Some(after) = quoted {
            place = after;
        }
        match self.at(place) {
            Some(b'=') => self.assigned(&name, self.skip(place, |byte| byte == b'=')),
            Some(b':') if self.at(place + 1) == Some(b'=') => self.assigned(&name, place + 2),
            Some(b':') if quoted.is_some() => self.member(place + 1),
            Some(b':') if self.is_slash_flag(&name) => self.assigned(&name, place + 1),
            Some(b':') if self.at(place + 1).is_some_and(is_blank) => self.header(&name, place + 1),
            Some(byte) if is_blank(byte) => self.next_in_line(&name, place),
            None => self.next_argument(&name),
            Some(_) => {}
        }
    }

    /// `"name"` or `\"name\"`: where the closing quote ends.
    fn closes_quote(&self, name: &Range<usize>) -> Option<usize> {
        let quote = self.previous(name.start).filter(|byte| is_quote(*byte))?;
        let close = self.skip(name.end, |byte| byte == b'\\');
        (self.at(close) == Some(quote)).then_some(close + 1)
    }

    /// `/password:…`, as Windows programs take it.
    fn is_slash_flag(&self, name: &Name) -> bool {
        let start = name.whole.start;
        self.previous(start) == Some(b'/')
            && self
                .previous(start - 1)
                .is_none_or(|byte| is_blank(byte) || is_quote(byte))
    }

    /// `name=value`
    fn assigned(&mut self, name: &Name, start: usize) {
        let bare = name.whole.start == self.argument.start;
        if bare && !self.is_command_line() {
            self.given(name, start..self.argument.end);
        } else {
            self.shell_word(name, start);
        }
    }

    /// The word from `start` on, of a command line or URL query, without its quotes.
    fn shell_word(&mut self, name: &Name, start: usize) {
        let start = start + scheme_len(&self.block[start..self.argument.end]);
        let quote = self.skip(start, |byte| byte == b'\\');
        let value = match self.at(quote) {
            // A backtick opens no value but a substitution.
            Some(byte @ (b'"' | b'\'')) => {
                let value = quote + 1..self.quote_end(quote + 1, byte);
                // `\'` is a quote only to a shell within quotes; to another it begins a word.
                let plain = quote > start && self.block[value.clone()].iter().any(|b| is_meta(*b));
                let length = word_len(&self.block[value.clone()]);
                value.start..if plain {
                    value.start + length
                } else {
                    value.end
                }
            }
            _ => quote..self.skip(quote, |byte| !ends_word(byte)),
        };
        self.given(name, value);
    }

    fn quote_end(&self, from: usize, quote: u8) -> usize {
        let end = self.skip(from, |byte| byte != quote);
        if end > from && self.block[end - 1] == b'\\' {
            end - 1
        } else {
            end
        }
    }

    /// A value that belongs to a name: all of it, but for what only says where the secret is.
    fn given(&mut self, name: &Name, value: Range<usize>) {
        let text = &self.block[value.clone()];
        let title = &self.block[name.whole.clone()];
        let skipped = if title.ends_with(b"passin") || title.ends_with(b"passout") {
            text.starts_with(b"pass:").then_some(5)
        } else if title == b"-pass" {
            openssl_source(text)
        } else if is_cookie(title) && name.dashes > 0 && !text.contains(&b'=') {
            // `curl --cookie jar.txt`
            None
        } else if starts_pem(text) {
            (!self.is_command_line()).then_some(0)
        } else {
            // `docker build --secret id=…` names a secret and does not contain it.
            (!text.starts_with(b"id=")).then(|| scheme_len(text))
        };
        let Some(skipped) = skipped else {
            self.named = if starts_pem(text) {
                self.named
            } else {
                value.end
            };
            return;
        };
        let value = value.start + skipped..value.end;
        if is_cookie(title) && is_code(&self.block[value.clone()], true) {
            self.cookies(value);
        } else {
            self.secret(value);
        }
    }

    /// `a=b; c=d`, up to what is no cookie.
    fn cookies(&mut self, value: Range<usize>) {
        let text = &self.block[value.clone()];
        if starts_command(text) {
            return;
        }
        let mut end = word_len(text);
        while let Some(more) = next_cookie(&text[end..]) {
            end += more;
        }
        self.push(value.start..value.start + end);
    }

    /// `"name": "value"`
    fn member(&mut self, from: usize) {
        let start = self.skip(from, |byte| is_blank(byte) || byte == b'\\');
        let value = match self.at(start).filter(|byte| is_quote(*byte)) {
            Some(quote) => start + 1..self.quote_end(start + 1, quote),
            None => start..self.skip(start, |byte| !ends_word(byte) && !b",}".contains(&byte)),
        };
        self.secret(value);
    }

    /// `Name: value`, to the end of the argument or of the quotes around it.
    fn header(&mut self, name: &Name, from: usize) {
        let start = self.skip(from, is_blank);
        let start = start + scheme_len(&self.block[start..self.argument.end]);
        if self.is_prose(name, start) {
            return;
        }
        let before = self.previous(name.whole.start);
        let end = match before.filter(|byte| is_quote(*byte)) {
            Some(quote) => self.quote_end(start, quote),
            None if before.is_none_or(|byte| byte == b'=') && self.takes_rest(name) => {
                self.argument.end
            }
            None => return self.shell_word(name, start),
        };
        self.given(name, start..end);
    }

    /// Whether a header without quotes reaches to the end of the argument: one per argument.
    fn takes_rest(&mut self, name: &Name) -> bool {
        let is_first = name.whole.start >= self.headed;
        self.headed = self.argument.end;
        is_first && (is_cookie(&self.block[name.whole.clone()]) || !self.is_command_line())
    }

    /// `Password: rename field`: a word before a colon and more than one after it.
    fn is_prose(&self, name: &Name, start: usize) -> bool {
        let title = &self.block[name.whole.clone()];
        let is_word = title.iter().all(u8::is_ascii_alphabetic);
        if !is_word || is_cookie(title) || title.eq_ignore_ascii_case(b"authorization") {
            return false;
        }
        let end = self.skip(start, |byte| !ends_word(byte));
        let next = self.skip(end, is_blank);
        next > end && self.at(next).is_some_and(|byte| !ends_word(byte))
    }

    /// `--name value` within a command line.
    fn next_in_line(&mut self, name: &Name, from: usize) {
        let starts_word = self
            .previous(name.whole.start)
            .is_none_or(starts_word_after);
        let start = self.skip(from, is_blank);
        let takes_value = starts_word && self.takes_value(name) || self.is_set_in_line(name);
        if takes_value && self.at(start) != Some(b'-') {
            self.shell_word(name, start);
        }
    }

    /// `--name`, `value` as two arguments.
    fn next_argument(&mut self, name: &Name) {
        let start = self.argument.end + 1;
        let is_flag = name.whole.start == self.argument.start && self.takes_value(name);
        let is_set = &self.block[self.before.clone()] == b"set";
        if !is_flag && !is_set || start >= self.block.len() || self.block[start] == b'-' {
            return;
        }
        self.given(name, start..argument_end(self.block, start));
    }

    /// `config set NAME VALUE` within a command line.
    fn is_set_in_line(&self, name: &Name) -> bool {
        let head = &self.block[self.argument.start..name.whole.start];
        let word = head.iter().rev().take_while(|byte| !is_blank(**byte));
        let length = word.count();
        head[..head.len() - length].ends_with(b" set ")
    }

    fn takes_value(&self, name: &Name) -> bool {
        name.dashes > 0 && !is_switch(&self.block[name.whole.start + name.dashes..name.whole.end])
    }
}

/// A secret's name where it stands, leading dashes included.
struct Name {
    whole: Range<usize>,
    dashes: usize,
}

/// Length of an authentication scheme and the blank after it, as headers have it.
fn scheme_len(value: &[u8]) -> usize {
    const SCHEMES: [&str; 6] = [
        "bearer ",
        "basic ",
        "token ",
        "digest ",
        "apikey ",
        "negotiate ",
    ];
    let begins = |scheme: &&&str| {
        value
            .get(..scheme.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(scheme.as_bytes()))
    };
    SCHEMES.iter().find(begins).map_or(0, |scheme| scheme.len())
}

fn is_cookie(title: &[u8]) -> bool {
    let at = title.len().saturating_sub(6);
    title[at..].eq_ignore_ascii_case(b"cookie")
}

/// Length of `; name=value` at the begin of a text.
fn next_cookie(text: &[u8]) -> Option<usize> {
    let rest = text.strip_prefix(b";")?;
    let rest = rest.strip_prefix(b" ").unwrap_or(rest);
    let name = rest.iter().take_while(|byte| is_name_byte(**byte)).count();
    let value = rest[name..].strip_prefix(b"=")?;
    (name > 0 && !starts_command(value)).then(|| text.len() - value.len() + word_len(value))
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

/// What of an `openssl -pass` argument comes before the secret, if there is one.
fn openssl_source(text: &[u8]) -> Option<usize> {
    let elsewhere = [&b"file:"[..], b"env:", b"fd:", b"stdin"];
    let elsewhere = elsewhere.iter().any(|source| text.starts_with(source));
    (!elsewhere).then(|| if text.starts_with(b"pass:") { 5 } else { 0 })
}
