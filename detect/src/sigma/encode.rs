//! Encodings in which a text may stand in a command line.

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// With padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut word = [0; 3];
        word[..chunk.len()].copy_from_slice(chunk);
        let word = u32::from(word[0]) << 16 | u32::from(word[1]) << 8 | u32::from(word[2]);
        for digit in 0..4 {
            let index = word >> (18 - 6 * digit) & 63;
            let known = digit <= chunk.len();
            out.push(if known {
                char::from(BASE64[index as usize])
            } else {
                '='
            });
        }
    }
    out
}

/// What stays the same of the encoding wherever the bytes stand in what is encoded: one text for
/// each of the three positions in a group of three bytes. A very short one leaves nothing.
pub(crate) fn base64_offsets(bytes: &[u8]) -> [String; 3] {
    [(0, 0), (1, 2), (2, 3)].map(|(before, skip)| {
        let mut padded = vec![b' '; before];
        padded.extend_from_slice(bytes);
        let cut = [0, 3, 2][padded.len() % 3];
        let encoded = base64(&padded);
        let end = encoded.len().saturating_sub(cut);
        encoded.get(skip..end).unwrap_or_default().to_owned()
    })
}

/// UTF-16, least significant byte first.
pub(crate) fn utf16le(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// UTF-16, most significant byte first.
pub(crate) fn utf16be(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::{base64, base64_offsets, utf16be, utf16le};

    #[test]
    fn base64_is_that_of_rfc_4648() {
        let check = |text: &str, encoded: &str| assert_eq!(base64(text.as_bytes()), encoded);
        check("", "");
        check("f", "Zg==");
        check("fo", "Zm8=");
        check("foo", "Zm9v");
        check("foobar", "Zm9vYmFy");
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }

    #[test]
    fn one_of_the_offsets_is_in_every_encoding_around_the_bytes() {
        assert_eq!(
            base64_offsets(b"foobar"),
            ["Zm9vYmFy", "Zvb2Jhc", "mb29iYX"]
        );
        let offsets = base64_offsets(b"secret");
        for before in 0..6 {
            for after in 0..4 {
                let whole = format!("{}secret{}", "x".repeat(before), "y".repeat(after));
                let encoded = base64(whole.as_bytes());
                assert!(encoded.contains(&offsets[before % 3]), "{whole}");
            }
        }
    }

    #[test]
    fn utf16_has_two_bytes_for_each_unit() {
        assert_eq!(utf16le("cé"), b"c\0\xe9\0");
        assert_eq!(utf16be("c"), b"\0c");
        assert_eq!(utf16le("🦀").len(), 4);
    }
}
