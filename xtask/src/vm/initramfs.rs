//! A file system for the kernel's start: a cpio archive in the `newc` format.
//!
//! The format is in the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

const DIR: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// Writes an archive, entry by entry. Directories come before what is in them.
pub(crate) struct Initramfs<W: Write> {
    out: W,
    inode: u32,
}

impl<W: Write> Initramfs<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, inode: 0 }
    }

    pub(crate) fn dir(&mut self, name: &str) -> io::Result<()> {
        self.entry(name, DIR, (0, 0), b"")
    }

    /// A copy of a program on this machine.
    pub(crate) fn program(&mut self, name: &str, file: &Path) -> io::Result<()> {
        self.entry(name, PROGRAM, (0, 0), &fs::read(file)?)
    }

    /// `/dev/console`: the kernel opens it for init before anything can be mounted.
    pub(crate) fn console(&mut self) -> io::Result<()> {
        self.entry("dev/console", CHARACTER_DEVICE, (5, 1), b"")
    }

    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.entry("TRAILER!!!", 0, (0, 0), b"")?;
        self.out.flush()
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), body: &[u8]) -> io::Result<()> {
        self.inode += 1;
        let size = |length: usize| u32::try_from(length).map_err(io::Error::other);
        let fields = [
            self.inode,
            mode,
            0, // uid
            0, // gid
            1, // links
            0, // mtime
            size(body.len())?,
            0, // device of the archive, twice
            0,
            device.0,
            device.1,
            size(name.len() + 1)?,
            0, // checksum, unused
        ];
        self.out.write_all(b"070701")?;
        for field in fields {
            write!(self.out, "{field:08x}")?;
        }
        self.padded(110, &[name.as_bytes(), b"\0"].concat())?;
        self.padded(0, body)
    }

    /// Both the name, after its 110 bytes of header, and the body end at a multiple of 4.
    fn padded(&mut self, before: usize, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        let end = before + bytes.len();
        self.out.write_all(&[0; 3][..end.next_multiple_of(4) - end])
    }
}

#[cfg(test)]
mod tests {
    use super::Initramfs;

    #[test]
    fn entries_start_at_multiples_of_4_and_the_trailer_ends_them() {
        let mut archive = Vec::new();
        let mut writer = Initramfs::new(&mut archive);
        writer.dir("bin").unwrap();
        writer.console().unwrap();
        writer.finish().unwrap();
        assert_eq!(archive.len() % 4, 0);
        let text = archive.escape_ascii().to_string();
        assert!(text.starts_with("07070100000001000041ed"), "{text}");
        let starts: Vec<_> = archive
            .windows(6)
            .enumerate()
            .filter(|(_, w)| w == b"070701")
            .map(|(i, _)| i)
            .collect();
        assert_eq!(starts.len(), 3);
        assert!(starts.iter().all(|start| start % 4 == 0), "{starts:?}");
        assert!(text.contains("TRAILER!!!"));
    }
}
