//! Text of procfs files, as `proc_pid_stat(5)` and `proc_pid_status(5)` describe it.

use std::str::FromStr;

use event::{BootTime, Credentials};

use crate::scan::Image;

/// What one line of `/proc/<pid>/stat` tells.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stat<'a> {
    pub(super) comm: &'a [u8],
    pub(super) ppid: u32,
    /// Device number of the controlling terminal.
    pub(super) tty: Option<u32>,
    pub(super) kernel_thread: bool,
    /// All threads have ended; the entry waits for the parent to read its status.
    pub(super) ended: bool,
    /// In steps of 10 ms.
    pub(super) start: BootTime,
    /// `None` without the right to trace the process.
    pub(super) image: Option<Image>,
}

/// `USER_HZ` is 100 on every architecture that Rust supports.
const TICK_NS: u64 = 1_000_000_000 / 100;
const PF_KTHREAD: u32 = 0x0020_0000;

// Positions after the command, which is field 2.
const STATE: usize = 0;
const PPID: usize = 1;
const TTY: usize = 4;
const FLAGS: usize = 6;
const THREADS: usize = 17;
const START: usize = 19;
const IMAGE: [usize; 5] = [23, 24, 25, 45, 46];

pub(super) fn stat(line: &[u8]) -> Option<Stat<'_>> {
    // The command may hold spaces and parentheses of its own, numbers cannot.
    let open = line.iter().position(|byte| *byte == b'(')?;
    let close = line.iter().rposition(|byte| *byte == b')')?;
    let fields: Vec<&[u8]> = line
        .get(close + 1..)?
        .split(u8::is_ascii_whitespace)
        .filter(|f| !f.is_empty())
        .collect();
    let field = |at: usize| fields.get(at).copied();

    let threads: u64 = number(field(THREADS)?)?;
    let ticks: u64 = number(field(START)?)?;
    Some(Stat {
        comm: line.get(open + 1..close)?,
        ppid: number(field(PPID)?)?,
        tty: Some(number::<i32>(field(TTY)?)?.cast_unsigned()).filter(|tty| *tty != 0),
        kernel_thread: number::<u32>(field(FLAGS)?)? & PF_KTHREAD != 0,
        // A main thread that ended before the others is a zombie in a live process.
        ended: matches!(field(STATE)?, b"Z" | b"X" | b"x") && threads <= 1,
        start: BootTime(ticks.checked_mul(TICK_NS)?),
        image: image(&fields),
    })
}

fn image(fields: &[&[u8]]) -> Option<Image> {
    let mut image = Image::default();
    for (address, at) in image.iter_mut().zip(IMAGE) {
        *address = number(fields.get(at)?)?;
    }
    let [.., start_stack, arg_start, _] = image;
    (start_stack != 0 && arg_start != 0).then_some(image)
}

/// What `/proc/<pid>/status` tells beyond `stat`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) credentials: Option<Credentials>,
    pub(super) effective_caps: Option<u64>,
}

pub(super) fn status(text: &[u8]) -> Status {
    let uids = ids(text, b"Uid:");
    let gids = ids(text, b"Gid:");
    Status {
        credentials: uids
            .zip(gids)
            .map(|((uid, euid), (gid, egid))| Credentials {
                uid,
                gid,
                euid,
                egid,
            }),
        effective_caps: words(text, b"CapEff:").and_then(|mut words| {
            u64::from_str_radix(str::from_utf8(words.next()?).ok()?, 16).ok()
        }),
    }
}

fn ids(text: &[u8], name: &[u8]) -> Option<(u32, u32)> {
    let mut words = words(text, name)?;
    Some((number(words.next()?)?, number(words.next()?)?))
}

fn words<'a>(text: &'a [u8], name: &[u8]) -> Option<impl Iterator<Item = &'a [u8]>> {
    let line = text
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(name))?;
    Some(
        line.split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty()),
    )
}

/// First number of `/proc/uptime`: hundredths of a second since boot, suspended time included.
pub(super) fn uptime(text: &[u8]) -> Option<BootTime> {
    let first = str::from_utf8(text).ok()?.split_ascii_whitespace().next()?;
    let (seconds, hundredths) = first.split_once('.')?;
    let hundredths: u64 = hundredths.parse().ok().filter(|_| hundredths.len() == 2)?;
    let ticks = seconds
        .parse::<u64>()
        .ok()?
        .checked_mul(100)?
        .checked_add(hundredths)?;
    Some(BootTime(ticks.checked_mul(TICK_NS)?))
}

/// The number in `loginuid` and `sessionid`, which is all ones where none was ever set.
pub(super) fn audit_id(text: &[u8]) -> Option<u32> {
    number(text.trim_ascii()).filter(|id| *id != u32::MAX)
}

pub(super) fn number<T: FromStr>(digits: &[u8]) -> Option<T> {
    str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use event::{BootTime, Credentials};

    use super::{Stat, audit_id, stat, status, uptime};

    const SHELL: &[u8] =
        b"4242 (a) S) b) S 6082 6082 4714 34816 -1 4194304 101 0 0 0 0 0 0 0 20 0 \
        1 0 100381 3133440 390 18446744073709551615 94220900143104 94220900162985 140723054601392 \
        0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 94220900178992 94220900180608 94221507145728 \
        140723054607073 140723054607093 140723054607093 140723054608363 0\n";

    fn with(field: usize, value: &str) -> Vec<u8> {
        let text = str::from_utf8(SHELL).unwrap();
        let (head, tail) = text.split_at(text.rfind(')').unwrap() + 2);
        let mut fields: Vec<&str> = tail.split_ascii_whitespace().collect();
        fields[field - 3] = value;
        format!("{head}{}", fields.join(" ")).into_bytes()
    }

    #[test]
    fn stat_of_a_command_with_parentheses_and_spaces_is_read() {
        assert_eq!(
            stat(SHELL).unwrap(),
            Stat {
                comm: b"a) S) b",
                ppid: 6082,
                tty: Some(34816),
                kernel_thread: false,
                ended: false,
                start: BootTime(1_003_810_000_000),
                image: Some([
                    94_220_900_143_104,
                    94_220_900_162_985,
                    140_723_054_601_392,
                    140_723_054_607_073,
                    140_723_054_607_093
                ]),
            }
        );
    }

    #[test]
    fn a_process_has_ended_when_its_last_thread_is_a_zombie() {
        assert!(stat(&with(3, "Z")).unwrap().ended);
        let mut leader_gone = str::from_utf8(&with(3, "Z"))
            .unwrap()
            .replace(" 20 0 1 0 ", " 20 0 3 0 ");
        assert!(!stat(leader_gone.as_bytes()).unwrap().ended);
        leader_gone.insert(0, '9');
        assert!(stat(leader_gone.as_bytes()).is_some());
    }

    #[test]
    fn image_is_unknown_where_the_kernel_hides_addresses() {
        assert_eq!(stat(&with(28, "0")).unwrap().image, None);
        assert!(stat(&with(9, "2129984")).unwrap().kernel_thread);
        assert_eq!(stat(&with(7, "0")).unwrap().tty, None);
    }

    #[test]
    fn cut_or_foreign_stat_lines_are_no_process() {
        for end in 0..SHELL.len() - 40 {
            let _ = stat(&SHELL[..end]);
        }
        assert_eq!(stat(&SHELL[..60]), None);
        assert_eq!(stat(b""), None);
        assert_eq!(stat(b")("), None);
        assert_eq!(stat(&with(22, "18446744073709551615")), None);
    }

    #[test]
    fn status_gives_real_and_effective_ids() {
        let text =
            b"Name:\tsu\nUid:\t1000\t0\t0\t0\nGid:\t1001\t5\t5\t5\nCapEff:\t000001ffffffffff\n";
        let read = status(text);
        assert_eq!(
            read.credentials,
            Some(Credentials {
                uid: 1000,
                gid: 1001,
                euid: 0,
                egid: 5
            })
        );
        assert_eq!(read.effective_caps, Some(0x1ff_ffff_ffff));
        assert_eq!(status(b"Name:\tsu\n"), super::Status::default());
    }

    #[test]
    fn uptime_has_hundredths() {
        assert_eq!(
            uptime(b"1003.81 1849.27\n"),
            Some(BootTime(1_003_810_000_000))
        );
        assert_eq!(uptime(b"0.05 0.00\n"), Some(BootTime(50_000_000)));
        assert_eq!(uptime(b"1003 5\n"), None);
    }

    #[test]
    fn audit_ids_that_were_never_set_are_none() {
        assert_eq!(audit_id(b"1000\n"), Some(1000));
        assert_eq!(audit_id(b"4294967295"), None);
    }
}
