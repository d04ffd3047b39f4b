//! Passwords among the arguments of known programs.

use std::ops::Range;

use super::Scan;
use crate::redact::patterns::url_safe;
use crate::redact::programs::{Flag, Program};
use crate::redact::shell::{ends_word, is_blank, is_quote, starts_word_after};

impl<'a> Scan<'a> {
    /// Looks at the arguments of a program that was named.
    pub(super) fn program(&mut self, program: &'static Program, word: Range<usize>) {
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

fn is_slash(byte: u8) -> bool {
    matches!(byte, b'/' | b'\\')
}
