use std::ops::Range;

use super::MARKER;
use super::patterns::{Kind, Shape, is_secret_name, is_switch, url_safe};
use super::programs::{self, Flag, Program};
use super::shell::{
    ends_word, is_blank, is_code, is_meta, is_quote, runs_next, starts_command, starts_word_after,
    word_len,
};

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

    fn name(&mut self, word: Range<usize>) {
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

    /// Whether the argument is a command line: its values end where a shell's words end.
    fn is_command_line(&mut self) -> bool {
        let argument = &self.block[self.argument.clone()];
        let runs = self.runs;
        *self
            .command_line
            .get_or_insert_with(|| runs || is_code(argument, false))
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

    /// Looks at the arguments of a program that was named.
    fn program(&mut self, program: &'static Program, word: Range<usize>) {
        if self
            .previous(word.start)
            .is_some_and(|byte| !starts_word_after(byte) && !is_slash(byte))
        {
            return;
        }
        let end = self.skip(word.end, |byte| url_safe(byte) || byte == b'.');
        if !program.is(&self.block[word.start..end]) {
            return;
        }
        if end == self.argument.end {
            self.program_of_block(program);
        } else if is_blank(self.block[end]) && word.start >= self.line_done[program.number] {
            let line = end..self.skip(end, |byte| !b";|&\n".contains(&byte));
            self.line_done[program.number] = line.end;
            self.arguments(
                program,
                Words {
                    block: self.block,
                    rest: line,
                    quoted: true,
                },
            );
        }
    }

    fn program_of_block(&mut self, program: &'static Program) {
        if !std::mem::replace(&mut self.block_done[program.number], true) {
            let rest = (self.argument.end + 1).min(self.block.len())..self.block.len();
            self.arguments(
                program,
                Words {
                    block: self.block,
                    rest,
                    quoted: false,
                },
            );
        }
    }

    fn arguments(&mut self, program: &'static Program, mut words: Words<'a>) {
        if let Some(after) = program.after
            && !words
                .by_ref()
                .any(|word| &self.block[word] == after.as_bytes())
        {
            return;
        }
        if program.hashes {
            return self.positional(words);
        }
        while let Some(word) = words.next() {
            if let Some(flag) = program.flags.iter().find(|flag| self.matches(flag, &word)) {
                self.short_flag(flag, word, &mut words);
            } else if let Some(long) = self.account(program, &word) {
                let value = if long == word.end {
                    words.next()
                } else {
                    Some(long + 1..word.end)
                };
                self.after(Some(b':'), value.unwrap_or(word.end..word.end));
            }
        }
    }

    /// `htpasswd -b FILE USER PASSWORD`; with `-n` without the file.
    fn positional(&mut self, words: Words<'a>) {
        let (mut batch, mut place, mut cost) = (false, 3, false);
        for word in words {
            let text = &self.block[word.clone()];
            if std::mem::take(&mut cost) {
                continue;
            }
            if let Some(letters) = text.strip_prefix(b"-") {
                batch |= letters.contains(&b'b');
                place -= u32::from(letters.contains(&b'n') && place == 3);
                cost = letters.ends_with(b"C");
                continue;
            }
            place -= 1;
            if place == 0 {
                if batch {
                    self.secret(word);
                }
                return;
            }
        }
    }

    /// `-p…`, or a bundle of one-letter flags of which the last is it (`-su user:password`).
    fn matches(&self, flag: &Flag, word: &Range<usize>) -> bool {
        let text = &self.block[word.clone()];
        let letter = flag.flag.as_bytes()[1];
        text.starts_with(flag.flag.as_bytes())
            || flag.separate
                && text.len() <= 6
                && text.split_first().is_some_and(|(dash, letters)| {
                    *dash == b'-'
                        && letters.last() == Some(&letter)
                        && letters.iter().all(u8::is_ascii_alphabetic)
                })
    }

    fn short_flag(&mut self, flag: &Flag, word: Range<usize>, words: &mut Words<'a>) {
        let text = &self.block[word.clone()];
        let is_attached = text.starts_with(flag.flag.as_bytes()) && text.len() > flag.flag.len();
        if is_attached {
            if flag.attached {
                self.after(flag.after, word.start + flag.flag.len()..word.end);
            }
        } else if flag.separate
            && let Some(value) = words.next()
        {
            self.after(flag.after, value);
        }
    }

    /// Where the name of a long `user:password` flag ends in this word.
    fn account(&self, program: &Program, word: &Range<usize>) -> Option<usize> {
        let text = &self.block[word.clone()];
        let long = program
            .accounts
            .iter()
            .find(|long| text.starts_with(long.as_bytes()))?;
        matches!(text.get(long.len()), None | Some(b'=')).then_some(word.start + long.len())
    }

    fn after(&mut self, separator: Option<u8>, value: Range<usize>) {
        let Some(separator) = separator else {
            return self.secret(value);
        };
        let text = &self.block[value.clone()];
        if let Some(at) = text.iter().position(|byte| *byte == separator) {
            self.secret(value.start + at + 1..value.end);
        }
    }
}

/// A secret's name where it stands, leading dashes included.
struct Name {
    whole: Range<usize>,
    dashes: usize,
}

/// The words of a range: its arguments, or (`quoted`) the words of a command line without quotes.
struct Words<'a> {
    block: &'a [u8],
    rest: Range<usize>,
    quoted: bool,
}

impl Iterator for Words<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let blank = |byte: u8| if self.quoted { is_blank(byte) } else { false };
        let text = &self.block[self.rest.clone()];
        let start = self.rest.start + text.iter().take_while(|byte| blank(**byte)).count();
        if start >= self.rest.end {
            return None;
        }
        let quote = Some(self.block[start]).filter(|byte| self.quoted && is_quote(*byte));
        let start = start + usize::from(quote.is_some());
        let ends = |byte: u8| match quote {
            Some(quote) => byte == quote,
            None if self.quoted => ends_word(byte),
            None => byte == 0,
        };
        let text = &self.block[start..self.rest.end];
        let end = start + text.iter().take_while(|byte| !ends(**byte)).count();
        self.rest.start = (end + 1).min(self.rest.end);
        Some(start..end)
    }
}

fn argument_end(block: &[u8], from: usize) -> usize {
    block[from..]
        .iter()
        .position(|byte| *byte == 0)
        .map_or(block.len(), |length| from + length)
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

/// Three parts, of which the second begins like the first (`{"` in base64).
fn is_jwt(text: &[u8]) -> bool {
    let mut parts = text.split(|byte| *byte == b'.');
    parts.next().is_some_and(|head| head.len() >= 10)
        && parts
            .next()
            .is_some_and(|claims| claims.starts_with(b"eyJ"))
}

/// What of an `openssl -pass` argument comes before the secret, if there is one.
fn openssl_source(text: &[u8]) -> Option<usize> {
    let elsewhere = [&b"file:"[..], b"env:", b"fd:", b"stdin"];
    let elsewhere = elsewhere.iter().any(|source| text.starts_with(source));
    (!elsewhere).then(|| if text.starts_with(b"pass:") { 5 } else { 0 })
}

fn is_cookie(title: &[u8]) -> bool {
    let at = title.len().saturating_sub(6);
    title[at..].eq_ignore_ascii_case(b"cookie")
}

fn starts_pem(text: &[u8]) -> bool {
    text.starts_with(b"-----BEGIN")
}

/// Length of `; name=value` at the begin of a text.
fn next_cookie(text: &[u8]) -> Option<usize> {
    let rest = text.strip_prefix(b";")?;
    let rest = rest.strip_prefix(b" ").unwrap_or(rest);
    let name = rest.iter().take_while(|byte| is_name_byte(**byte)).count();
    let value = rest[name..].strip_prefix(b"=")?;
    (name > 0 && !starts_command(value)).then(|| text.len() - value.len() + word_len(value))
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

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

fn is_slash(byte: u8) -> bool {
    matches!(byte, b'/' | b'\\')
}
