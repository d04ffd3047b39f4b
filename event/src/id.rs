use std::fmt;
use std::str::FromStr;

/// Identifies one boot of one host: 16 bytes, on Linux `/proc/sys/kernel/random/boot_id`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BootId(pub [u8; 16]);

/// 32 lower-case hexadecimal digits.
impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is not 32 hexadecimal digits (hyphens aside).
#[derive(Debug, thiserror::Error)]
#[error("boot id is not 32 hexadecimal digits")]
pub struct BootIdError;

/// Accepts the kernel's UUID form as well: hyphens are skipped.
impl FromStr for BootId {
    type Err = BootIdError;

    fn from_str(text: &str) -> Result<Self, BootIdError> {
        let digits: Vec<u8> = text
            .trim()
            .chars()
            .filter(|c| *c != '-')
            .map(|c| {
                c.to_digit(16)
                    .and_then(|d| u8::try_from(d).ok())
                    .ok_or(BootIdError)
            })
            .collect::<Result<_, _>>()?;
        let digits: [u8; 32] = digits.try_into().map_err(|_| BootIdError)?;
        let mut id = [0; 16];
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
        Ok(Self(id))
    }
}

#[cfg(test)]
mod tests {
    use super::BootId;

    #[test]
    fn boot_id_reads_the_kernels_form_and_its_own() {
        let id: BootId = "3f2a0b4c-5d6e-7f80-9192-a3b4c5d6e7f8\n".parse().unwrap();
        assert_eq!(id.to_string(), "3f2a0b4c5d6e7f809192a3b4c5d6e7f8");
        assert_eq!(id.to_string().parse::<BootId>().unwrap(), id);
        assert!("3f2a".parse::<BootId>().is_err());
        assert!(
            "zz2a0b4c-5d6e-7f80-9192-a3b4c5d6e7f8"
                .parse::<BootId>()
                .is_err()
        );
    }
}
