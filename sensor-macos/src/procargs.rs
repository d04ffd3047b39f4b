//! The arguments of a running process as `sysctl(KERN_PROCARGS2)` gives them: number of arguments
//! (native `int`), path of the executable, padding, then arguments and environment; each text is
//! ended by a NUL. The layout is that of the program's initial stack, which `ps` reads the same
//! way.

/// The arguments in `buffer`. A process can overwrite them, and any may be cut: those that are
/// there are given, never the environment.
#[must_use]
pub fn parse(buffer: &[u8]) -> Vec<&[u8]> {
    let Some((count, rest)) = buffer.split_first_chunk() else {
        return Vec::new();
    };
    let count = usize::try_from(i32::from_le_bytes(*count)).unwrap_or(0);
    let Some(path_end) = rest.iter().position(|byte| *byte == 0) else {
        return Vec::new();
    };
    let padded = &rest[path_end..];
    // An empty first argument cannot be told from padding.
    let Some(first) = padded.iter().position(|byte| *byte != 0) else {
        return Vec::new();
    };
    let texts = &padded[first..];
    let texts = texts.strip_suffix(&[0]).unwrap_or(texts);
    texts.split(|byte| *byte == 0).take(count).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::parse;

    fn check(count: i32, rest: &[u8], expected: &[&[u8]]) {
        let buffer = [&count.to_le_bytes()[..], rest].concat();
        assert_eq!(parse(&buffer), expected, "{}", buffer.escape_ascii());
    }

    #[test]
    fn arguments_come_without_path_padding_and_environment() {
        check(
            3,
            b"/bin/sh\0\0\0\0sh\0-c\0a b\0HOME=/\0",
            &[b"sh", b"-c", b"a b"],
        );
        check(3, b"/bin/x\0x\0\0\xff\0A=1\0", &[b"x", b"", b"\xff"]);
        check(1, b"/bin/x\0x\0", &[b"x"]);
    }

    #[test]
    fn cut_or_senseless_buffers_give_what_is_there() {
        check(5, b"/bin/x\0\0x\0y\0", &[b"x", b"y"]);
        check(3, b"/bin/x\0\0x\0y\0", &[b"x", b"y"]);
        check(5, b"/bin/x\0\0x\0y", &[b"x", b"y"]);
        check(-1, b"/bin/x\0\0x\0", &[]);
        check(1, b"/bin/x", &[]);
        check(1, b"/bin/x\0\0\0", &[]);
        assert!(parse(b"\x01\0").is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_give_parts_of_them(buffer: Vec<u8>) {
            let total: usize = parse(&buffer).iter().map(|argument| argument.len()).sum();
            prop_assert!(total <= buffer.len());
        }
    }
}
