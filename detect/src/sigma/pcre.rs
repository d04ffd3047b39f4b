//! Regular expressions of rules, which are PCRE, as those of the engine.

use std::iter::Peekable;
use std::str::Chars;

use crate::error::ErrorKind;
use crate::expression::{Reading, Refusal, Regex};

/// Longest pattern.
const MAX_BYTES: usize = 16 * 1024;
/// Largest compiled pattern.
const MAX_COMPILED: usize = 4 << 20;

/// Compiles a pattern with the flags `i`, `m`, `s`. The flags become part of the text, so that the
/// text alone says what matches.
pub(crate) fn compile(pattern: &str, flags: &[char]) -> Result<Regex, ErrorKind> {
    if pattern.len() > MAX_BYTES {
        return Err(ErrorKind::Limit {
            what: "regular expression",
            limit: format!("{MAX_BYTES} bytes"),
        });
    }
    let lines = flags.contains(&'m') || has_inline_lines(pattern);
    let mut flags: Vec<char> = flags.to_vec();
    flags.sort_unstable();
    flags.dedup();
    let mut text = translate(pattern, lines).map_err(|reason| ErrorKind::Pattern(reason.into()))?;
    if !flags.is_empty() {
        text = format!("(?{}){text}", flags.iter().collect::<String>());
    }
    let reading = Reading {
        unicode: true,
        dot_is_all: false,
        max_depth: 100,
        max_bytes: MAX_COMPILED,
    };
    Regex::new(&text, reading).map_err(|refusal| match refusal {
        Refusal::Syntax(reason) => ErrorKind::Pattern(reason),
        Refusal::TooLarge => ErrorKind::Limit {
            what: "compiled regular expression",
            limit: format!("{MAX_COMPILED} bytes"),
        },
    })
}

/// Whether the pattern switches to lines itself: `(?m)`, `(?im:`.
fn has_inline_lines(pattern: &str) -> bool {
    let groups = pattern.split("(?").skip(1);
    groups.into_iter().any(|group| {
        let flags = group.find([')', ':']).map_or("", |end| &group[..end]);
        flags.contains('m') && flags.chars().all(|c| c.is_ascii_alphabetic() || c == '-')
    })
}

/// PCRE's white space within a line. A blank itself would count for nothing under `(?x)`.
const HORIZONTAL: &str = r"\t\x20\x{A0}\x{1680}\x{180E}\x{2000}-\x{200A}\x{202F}\x{205F}\x{3000}";
/// What PCRE takes for the end of a line, each by itself.
const VERTICAL: &str = r"\n-\r\x{85}\x{2028}\x{2029}";

type Rest<'t> = Peekable<Chars<'t>>;

/// The same pattern in the syntax of the engine: what is plain in PCRE and not there is escaped,
/// what it alone has words for is written out, and what would mean something else is refused.
fn translate(pattern: &str, lines: bool) -> Result<String, &'static str> {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut chars = pattern.chars().peekable();
    // For each open group, whether white space and comments count for nothing.
    let mut extended = vec![false];
    while let Some(c) = chars.next() {
        let is_extended = extended.last().is_some_and(|extended| *extended);
        match c {
            '\\' => escape(&mut chars, is_extended, &mut out),
            '[' => class(&mut chars, is_extended, &mut out),
            '(' if is_comment(&chars) => {
                chars.by_ref().find(|c| *c == ')');
            }
            '(' => group(&mut chars, &mut extended, &mut out)?,
            ')' => {
                extended.pop();
                out.push(c);
            }
            '#' if is_extended => {
                chars.by_ref().find(|c| *c == '\n');
            }
            '{' if !is_quantifier(chars.clone()) => out.push_str(r"\{"),
            '*' | '+' | '?' | '{' => quantifier(c, &mut chars, is_extended, &mut out)?,
            // PCRE's also matches before a line break that ends the text.
            '$' if lines => out.push_str(r"(?:$|\n?\z)"),
            '$' => out.push_str(r"(?:\n?\z)"),
            _ => out.push(c),
        }
    }
    Ok(out)
}

/// After `(`: what kind of group it is, as far as that differs.
fn group(
    chars: &mut Rest<'_>,
    extended: &mut Vec<bool>,
    out: &mut String,
) -> Result<(), &'static str> {
    let around = extended.last().is_some_and(|extended| *extended);
    out.push('(');
    let Some(mark) = chars.next_if_eq(&'?') else {
        extended.push(around);
        return Ok(());
    };
    out.push(mark);
    let is_flag = |c: &char| c.is_ascii_alphabetic() || *c == '-';
    let mut rest = chars.clone();
    let flags: String = std::iter::from_fn(|| rest.next_if(is_flag)).collect();
    let Some(end) = rest.next_if(|c| matches!(c, ')' | ':')) else {
        named(chars, out);
        extended.push(around);
        return Ok(());
    };
    if flags.contains(['R', 'u']) {
        return Err("`(?R)` and `(?u)` are not supported: `R` and `u` are no flags in PCRE");
    }
    let (on, off) = flags.split_once('-').unwrap_or((&flags, ""));
    let within = (around || on.contains('x')) && !off.contains('x');
    match extended.last_mut() {
        Some(of_group) if end == ')' => *of_group = within,
        _ => extended.push(within),
    }
    out.push_str(&flags);
    out.push(end);
    *chars = rest;
    Ok(())
}

/// After `(?`: `'name'`, and `|` of alternatives whose groups have the same numbers, which nothing
/// refers to.
fn named(chars: &mut Rest<'_>, out: &mut String) {
    if chars.next_if_eq(&'|').is_some() {
        out.push(':');
    }
    if chars.next_if_eq(&'\'').is_some() {
        out.push('<');
        out.extend(chars.by_ref().take_while(|c| *c != '\''));
        out.push('>');
    }
}

/// After `(`: `?#`.
fn is_comment(rest: &Rest<'_>) -> bool {
    let mut rest = rest.clone();
    rest.next() == Some('?') && rest.next() == Some('#')
}

/// A quantifier, of which there is only one in PCRE: a `+` after it is possessive, which the engine
/// would take for another.
fn quantifier(
    first: char,
    chars: &mut Rest<'_>,
    is_extended: bool,
    out: &mut String,
) -> Result<(), &'static str> {
    out.push(first);
    if first == '{' {
        through(chars, '}', out);
    }
    out.extend(chars.next_if_eq(&'?'));
    let mut rest = chars.clone();
    if is_extended {
        skip_blanks(&mut rest);
    }
    match rest.next() {
        Some('+') => Err("possessive quantifiers are not supported"),
        Some('*' | '?') => Err("a quantifier after a quantifier has no meaning"),
        Some('{') if is_quantifier(rest) => Err("a quantifier after a quantifier has no meaning"),
        _ => Ok(()),
    }
}

/// White space and comments.
fn skip_blanks(chars: &mut Rest<'_>) {
    while let Some(c) = chars.next_if(|c| c.is_whitespace() || *c == '#') {
        if c == '#' {
            while chars.next().is_some_and(|c| c != '\n') {}
        }
    }
}

/// After a backslash. `\<` and `\>` are word boundaries in the engine alone.
fn escape(chars: &mut Rest<'_>, is_extended: bool, out: &mut String) {
    match chars.next() {
        Some('Q') => quoted(chars, is_extended, out),
        Some('E') => {}
        Some('Z') => out.push_str(r"(?:\n?\z)"),
        Some('R') => out.push_str(&format!(r"(?:\r\n|[{VERTICAL}])")),
        Some('N') => out.push_str(r"[^\n]"),
        Some('h') => out.push_str(&format!("[{HORIZONTAL}]")),
        Some('H') => out.push_str(&format!("[^{HORIZONTAL}]")),
        Some('v') => out.push_str(&format!("[{VERTICAL}]")),
        Some('V') => out.push_str(&format!("[^{VERTICAL}]")),
        Some(c) => character(c, chars, out),
        None => out.push('\\'),
    }
}

/// After a backslash in a class.
fn class_escape(chars: &mut Rest<'_>, out: &mut String) {
    match chars.next() {
        Some('b') => out.push_str(r"\x08"),
        Some('h') => out.push_str(HORIZONTAL),
        Some('v') => out.push_str(VERTICAL),
        Some(c) => character(c, chars, out),
        None => out.push('\\'),
    }
}

/// An escape that is the same in a class and outside of one.
fn character(c: char, chars: &mut Rest<'_>, out: &mut String) {
    match c {
        '<' | '>' => out.push(c),
        'e' => out.push_str(r"\x1B"),
        '0' => {
            let mut code = 0;
            for _ in 0..2 {
                let digit = chars.next_if(|c| matches!(c, '0'..='7'));
                code = digit
                    .and_then(|c| c.to_digit(8))
                    .map_or(code, |d| code * 8 + d);
            }
            out.push_str(&format!(r"\x{{{code:X}}}"));
        }
        'x' | 'p' | 'P' if chars.peek() == Some(&'{') => {
            out.extend(['\\', c]);
            through(chars, '}', out);
        }
        c if c.is_ascii() => out.extend(['\\', c]),
        c => out.push(c),
    }
}

/// After `\Q`: all is plain up to `\E`.
fn quoted(chars: &mut Rest<'_>, is_extended: bool, out: &mut String) {
    while let Some(c) = chars.next() {
        if c == '\\' && chars.next_if_eq(&'E').is_some() {
            break;
        }
        match c {
            c if is_extended => plain_if_extended(c, out),
            c => out.push_str(&regex_syntax::escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
}

/// What the engine would pass over where white space counts for nothing, in classes too.
fn plain_if_extended(c: char, out: &mut String) {
    if c.is_whitespace() || c == '#' {
        out.push_str(&format!(r"\x{{{:X}}}", u32::from(c)));
    } else {
        out.push_str(&regex_syntax::escape(c.encode_utf8(&mut [0; 4])));
    }
}

/// After `[`: in the engine classes nest and have set operations.
fn class(chars: &mut Rest<'_>, is_extended: bool, out: &mut String) {
    out.push('[');
    out.extend(chars.next_if_eq(&'^'));
    if chars.next_if_eq(&']').is_some() {
        out.push_str(r"\]");
    }
    if chars.next_if_eq(&'-').is_some() {
        out.push_str(r"\-");
    }
    while let Some(c) = chars.next() {
        match c {
            '\\' => class_escape(chars, out),
            '[' if chars.peek() == Some(&':') => posix_class(chars, out),
            '[' | '&' | '~' => out.extend(['\\', c]),
            c if is_extended && (c.is_whitespace() || c == '#') => plain_if_extended(c, out),
            '-' if chars.next_if_eq(&'-').is_some() => out.push_str(r"-\-"),
            ']' => {
                out.push(c);
                return;
            }
            _ => out.push(c),
        }
    }
}

/// After `[` of `[:alpha:]` inside a class.
fn posix_class(chars: &mut Rest<'_>, out: &mut String) {
    out.push('[');
    through(chars, ']', out);
}

/// All up to the character and with it.
fn through(chars: &mut Rest<'_>, end: char, out: &mut String) {
    for c in chars.by_ref() {
        out.push(c);
        if c == end {
            return;
        }
    }
}

/// After `{`: digits, perhaps a comma and digits, and `}`.
fn is_quantifier(mut rest: Rest<'_>) -> bool {
    let mut digits = || {
        let mut count = 0;
        while rest.next_if(char::is_ascii_digit).is_some() {
            count += 1;
        }
        (count, rest.next())
    };
    match digits() {
        (1.., Some('}')) => true,
        (1.., Some(',')) => digits().1 == Some('}'),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::compile;

    fn matches(pattern: &str, flags: &[char], text: &str) -> bool {
        compile(pattern, flags).unwrap().is_match(text.as_bytes())
    }

    #[test]
    fn a_pattern_occurs_somewhere_and_minds_case_unless_told() {
        assert!(matches("b+c", &[], "abbcd"));
        assert!(!matches("B", &[], "abc"));
        assert!(matches("B", &['i'], "abc"));
        assert!(matches("É", &['i'], "é"));
        assert!(!matches("^b", &[], "a\nb"));
        assert!(matches("^b$", &['m'], "a\nb\nc"));
        assert!(!matches("a.b", &[], "a\nb"));
        assert!(matches("a.b", &['s', 'i'], "A\nB"));
    }

    #[test]
    fn what_is_plain_in_pcre_is_plain() {
        let check = |pattern, text| assert!(matches(pattern, &[], text), "{pattern} on {text}");
        check(r"^\<a\>$", "<a>");
        check("^a{b}{2}$", "a{b}}");
        check("^x{,3}$", "x{,3}");
        check("^x{2,3}$", "xx");
        check("^[a[b]$", "[");
        check("^[a&&b]$", "&");
        check("^[~~^]$", "~");
        check("^[+--]$", ",");
        check("^[--a]$", "-");
        check("^[[:digit:]x]+$", "1x");
        check("^[]a]$", "]");
        check("^[^]a]$", "b");
        check(r"^[\]]$", "]");
        check("a$", "a\n");
        check(r"\$a", "$a");
    }

    #[test]
    fn what_only_pcre_has_words_for_is_written_out() {
        let check = |pattern, yes: &[&str], no: &[&str]| {
            for (texts, expected) in [(yes, true), (no, false)] {
                for text in texts {
                    assert_eq!(
                        matches(pattern, &[], text),
                        expected,
                        "{pattern} on {text:?}"
                    );
                }
            }
        };
        check(r"a\Z", &["a", "a\n"], &["a\n\n", "ab"]);
        check(r"^a\hb[\h]$", &["a b ", "a\tb\t"], &["a\nb ", "ahbh"]);
        check(r"^a\Rb$", &["a\r\nb", "a\nb"], &["aRb", "ab"]);
        check(r"^a\vb$", &["a\nb", "a\u{b}b"], &["avb"]);
        check(r"^a\Nb$", &["axb"], &["a\nb"]);
        check(r"^\Qa.*(\E.$", &["a.*(x"], &["axx(x"]);
        check(r"^\Qa.*", &["a.*"], &["axx"]);
        check(r"^\e\012\0$", &["\x1b\n\0"], &["e0120"]);
        check(r"^[\b]$", &["\u{8}"], &["b"]);
        check(r"^\é$", &["é"], &[]);
        // The braces were taken for plain ones.
        check(r"^\x{e9}+\x{41}$", &["éA", "ééA"], &["e9"]);
        check(r"^\p{Lu}{2}\P{L}$", &["AB1"], &["ab1", "ABC"]);
        check("^a(?#no ]comment)b$", &["ab"], &["a"]);
        check(r"^a\(?#", &["a#", "a(#"], &["a"]);
    }

    #[test]
    fn lines_are_those_of_flags_in_the_pattern_too() {
        // `$` was the end of the text but after `(?m`.
        for pattern in ["(?im)^B$", "(?m)^b$", "(?i-s:(?sm:^B$))"] {
            assert!(matches(pattern, &[], "a\nb\nc"), "{pattern}");
        }
        assert!(!matches("(?m:^b)$", &[], "a\nb\nc"));
        assert!(matches("(?P<m>b)$", &[], "b"));
        assert!(!matches("(?P<m>b)$", &[], "b\nc"));
    }

    #[test]
    fn white_space_and_comments_count_for_nothing_where_the_pattern_says_so() {
        // In classes and quotations they did not, and comments were read.
        let check = |pattern, text, expected| {
            assert_eq!(
                matches(pattern, &[], text),
                expected,
                "{pattern:?} on {text:?}"
            );
        };
        check("(?x)^a b $", "ab", true);
        check("(?x)^a[ #]b$", "a b", true);
        check("(?x)^a[ #]b$", "ab", false);
        check(r"(?x)^\Qa b\E c$", "a bc", true);
        check("(?x)^a # [or ( b)* **\nc$", "ac", true);
        check("(?x: a b )c d", "abc d", true);
        check("(?:(?x) a b )c d", "abc d", true);
        check("(?x)a b(?-x)c d", "abc d", true);
        check("a#b(?x) #c", "a#b", true);
        check("a#b[ ](?x) #c", "a#b ", true);
        check(r"^a\ b$", "a b", true);
        check(r"(?x) ^a\h+ b$", "a b", true);
        check(r"(?x) ^a[\h]b$", "a b", true);
        check(r"(?x) ^a\Hb$", "a b", false);
        assert!(compile("(?x)a+ +", &[]).is_err());
        assert!(compile("(?x)a+ # once\n +", &[]).is_err());
        assert!(compile("(?x)a+ # + \n b", &[]).is_ok());
        assert!(compile("a+ +", &[]).is_ok());
    }

    #[test]
    fn flags_that_pcre_does_not_have_are_refused() {
        // `(?R)` was taken for lines that end with a carriage return, and `(?-u)` for bytes.
        for pattern in ["a(?R)?b", "(?-u)a", "(?u:a)", "(?iR:a)"] {
            let refused = compile(pattern, &[]).err().map(|kind| kind.to_string());
            let told = refused.is_some_and(|text| text.contains("no flags in PCRE"));
            assert!(told, "{pattern}");
        }
        for (pattern, text) in [
            ("(?U)a+b", "ab"),
            ("(?'Ru'a)b", "ab"),
            ("(?P<R>a)b", "ab"),
            ("(?<u>a)b", "ab"),
            ("^(?|(a)|(b))c$", "bc"),
            ("(?s-i:A.b)", "A\nb"),
        ] {
            assert!(matches(pattern, &[], text), "{pattern}");
        }
    }

    #[test]
    fn an_empty_pattern_occurs_in_everything() {
        assert!(matches("", &[], "a") && matches("", &['i'], ""));
        assert!(matches("()", &[], "") && matches("a|", &[], "b"));
    }

    #[test]
    fn quantifiers_of_quantifiers_are_refused() {
        // `a++` is possessive: it was taken for `(?:a+)+`.
        for pattern in [
            "a++b", "a*+", "a?+", "a{2}+", "a**", "a+{2}", "a+?+", "a+??",
        ] {
            assert!(compile(pattern, &[]).is_err(), "{pattern}");
        }
        for pattern in ["a+?", "a{2}?", "a+{x", "(?:a+)+", r"a\++", "[+]+", "(?i)a+"] {
            assert!(compile(pattern, &[]).is_ok(), "{pattern}");
        }
    }

    #[test]
    fn what_takes_more_than_linear_time_is_refused() {
        for pattern in ["(?=a)b", "(?!a)b", r"(a)\1", "(?<=a)b", "(a"] {
            assert!(compile(pattern, &[]).is_err(), "{pattern}");
        }
    }
}
