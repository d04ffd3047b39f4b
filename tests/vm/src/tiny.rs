//! The smallest program that there is: one page, no libc, exits at once. What a storm of execs
//! measures is then the kernel and the sensor, not a dynamic linker.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

const BASE: u64 = 0x40_0000;
const HEADERS: u64 = 64 + 56;

/// Writes the program, ready to run.
///
/// # Errors
/// The file cannot be written, or a text file of that name is running.
pub fn write(path: &Path, exit_code: u8) -> io::Result<()> {
    fs::write(path, elf(exit_code))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// An ELF file of this machine's kind with one segment, which holds the headers and the code.
#[must_use]
pub fn elf(exit_code: u8) -> Vec<u8> {
    elf_of(&code(exit_code))
}

/// Like [`elf`], but its first instruction is one that no processor has: it ends by `SIGILL`.
#[must_use]
pub fn faulting_elf() -> Vec<u8> {
    elf_of(&UNDEFINED)
}

fn elf_of(code: &[u8]) -> Vec<u8> {
    let size = HEADERS + code.len() as u64;
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec(); // 64 bits, little-endian
    elf.extend(2u16.to_le_bytes()); // ET_EXEC
    elf.extend(MACHINE.to_le_bytes());
    elf.extend(1u32.to_le_bytes());
    elf.extend((BASE + HEADERS).to_le_bytes()); // entry
    elf.extend(64u64.to_le_bytes()); // program headers follow
    elf.extend(0u64.to_le_bytes()); // no section headers
    elf.extend(0u32.to_le_bytes());
    elf.extend([64u16, 56, 1, 0, 0, 0].map(u16::to_le_bytes).concat());
    elf.extend([1u32, 5].map(u32::to_le_bytes).concat()); // PT_LOAD, read and execute
    elf.extend(
        [0, BASE, BASE, size, size, 0x1000]
            .map(u64::to_le_bytes)
            .concat(),
    );
    elf.extend(code);
    elf
}

#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;

/// `ud2`
#[cfg(target_arch = "x86_64")]
const UNDEFINED: [u8; 2] = [0x0f, 0x0b];
/// `udf #0`
#[cfg(target_arch = "aarch64")]
const UNDEFINED: [u8; 4] = [0; 4];

/// `mov edi, code; mov eax, 231 (exit_group); syscall`
#[cfg(target_arch = "x86_64")]
fn code(exit_code: u8) -> Vec<u8> {
    vec![0xbf, exit_code, 0, 0, 0, 0xb8, 231, 0, 0, 0, 0x0f, 0x05]
}

/// `mov x0, code; mov x8, 94 (exit_group); svc 0`
#[cfg(target_arch = "aarch64")]
fn code(exit_code: u8) -> Vec<u8> {
    let mov = |register: u32, value: u32| 0xd280_0000 | value << 5 | register;
    [mov(0, exit_code.into()), mov(8, 94), 0xd400_0001]
        .map(u32::to_le_bytes)
        .concat()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    #[test]
    fn the_smallest_program_runs_and_exits_with_its_code() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tiny");
        for code in [0, 42, 255] {
            super::write(&path, code).unwrap();
            let status = Command::new(&path).status().unwrap();
            assert_eq!(status.code(), Some(code.into()));
        }
    }
}
