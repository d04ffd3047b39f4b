//! What a shell would run. A secret ends where that begins: evidence is worth more than the rest of
//! a password.

use super::MARKER;

/// Programs that start what an intruder does; as the first word of a value they make it no secret.
const STARTERS: [&str; 50] = [
    "sh",
    "bash",
    "dash",
    "zsh",
    "ksh",
    "ash",
    "csh",
    "tcsh",
    "busybox",
    "curl",
    "wget",
    "nc",
    "ncat",
    "netcat",
    "socat",
    "python",
    "python2",
    "python3",
    "perl",
    "ruby",
    "php",
    "lua",
    "exec",
    "eval",
    "sudo",
    "doas",
    "nohup",
    "setsid",
    "base64",
    "xxd",
    "mkfifo",
    "chmod",
    "insmod",
    "modprobe",
    "crontab",
    "systemctl",
    "powershell",
    "pwsh",
    "cmd",
    "certutil",
    "bitsadmin",
    "xargs",
    "openssl",
    "telnet",
    "tftp",
    "scp",
    "ssh",
    "chattr",
    "mshta",
    "rundll32",
];

/// Programs with names that are words: they count only beside a metacharacter.
const OTHERS: [&str; 16] = [
    "id", "whoami", "uname", "cat", "env", "node", "rm", "dd", "tee", "awk", "source", "touch",
    "cp", "mv", "kill", "ftp",
];

/// The longest first word, with its path, that is looked up.
const WORD_LIMIT: usize = 64;

/// Whether a value begins with the name of a program, its path aside.
pub(super) fn starts_command(text: &[u8]) -> bool {
    let head = &text[..text.len().min(WORD_LIMIT)];
    let word = head
        .split(|byte| ends_word(*byte))
        .next()
        .unwrap_or_default();
    is_program(word, &STARTERS)
}

/// Whether a shell may find something to run in the text: a substitution, or a metacharacter beside
/// what a password seldom has. Within a command line one backtick is enough: the other may follow.
pub(super) fn is_code(text: &[u8], in_command_line: bool) -> bool {
    let backticks = text.iter().filter(|byte| **byte == b'`').count();
    if backticks >= 2 - usize::from(in_command_line) || has(text, b"$(") {
        return true;
    }
    text.iter().any(|byte| is_meta(*byte))
        && (text.iter().any(|byte| is_blank(*byte))
            || has(text, b"${")
            || has(text, b"$IFS")
            || has(text, MARKER)
            || has_pairs(text)
            || has_program(text))
}

/// How far the text reaches before a blank or what a shell treats specially.
pub(super) fn word_len(text: &[u8]) -> usize {
    let end = text.iter().position(|byte| ends_word(*byte));
    let end = end.unwrap_or(text.len());
    end - usize::from(end > 0 && text[end - 1] == b'$' && text.get(end) == Some(&b'('))
}

/// Whether an argument makes the next one a command line (`-c`, `-lc`, `/c`).
pub(super) fn runs_next(argument: &[u8]) -> bool {
    let short = argument.len() <= 8
        && argument.starts_with(b"-")
        && argument[1..].iter().all(u8::is_ascii_alphabetic)
        && matches!(argument.last(), Some(b'c' | b'C'));
    short
        || [&b"/c"[..], b"/k", b"--command", b"-command"]
            .iter()
            .any(|flag| flag.eq_ignore_ascii_case(argument))
}

pub(super) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

pub(super) fn is_quote(byte: u8) -> bool {
    matches!(byte, b'"' | b'\'' | b'`')
}

pub(super) fn is_meta(byte: u8) -> bool {
    b";|&()<>\n".contains(&byte)
}

pub(super) fn starts_word_after(byte: u8) -> bool {
    is_blank(byte) || is_quote(byte) || b";|&(".contains(&byte)
}

pub(super) fn ends_word(byte: u8) -> bool {
    is_blank(byte) || is_quote(byte) || is_meta(byte)
}

fn has(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// `…;name=`, as connection strings have it.
fn has_pairs(text: &[u8]) -> bool {
    text.split(|byte| *byte == b';').skip(1).any(|part| {
        let name = part.iter().take_while(|byte| byte.is_ascii_alphanumeric());
        let length = name.count();
        length > 1 && part.get(length) == Some(&b'=')
    })
}

fn has_program(text: &[u8]) -> bool {
    let inside = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-./".contains(byte);
    text.split(|byte| !inside(byte))
        .any(|word| is_program(word, &STARTERS) || is_program(word, &OTHERS))
        || has(text, b"/dev/tcp/")
        || has(text, b"/dev/udp/")
}

fn is_program(word: &[u8], programs: &[&str]) -> bool {
    let name = word.rsplit(|byte| matches!(byte, b'/' | b'\\')).next();
    let name = name.unwrap_or_default();
    let name = name.strip_suffix(b".exe").unwrap_or(name);
    programs.iter().any(|program| program.as_bytes() == name)
}
