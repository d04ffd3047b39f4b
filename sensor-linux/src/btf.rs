//! A reader for the BPF Type Format, just enough to find where a structure keeps a member.
//!
//! Format: <https://docs.kernel.org/bpf/btf.html>. The bytes come from the kernel, but are treated
//! as untrusted: every access is checked.

use std::collections::HashMap;

const MAGIC: u16 = 0xeb9f;
const TYPE_HEAD: usize = 12;
const MEMBER: usize = 12;
const ENUMERATOR: usize = 8;

/// Anonymous members and type modifiers that are followed before giving up.
const MAX_DEPTH: u32 = 16;

/// What is wrong with BTF bytes.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum BtfError {
    /// Not BTF, or of the other byte order.
    #[error("no BTF magic")]
    Magic,
    /// A section or type reaches past the end.
    #[error("cut at byte {0}")]
    Cut(usize),
    /// A type of a kind whose size is not known, so that what follows cannot be found.
    #[error("type {id} has the unknown kind {kind}")]
    Kind {
        /// Type id.
        id: u32,
        /// Its kind.
        kind: u32,
    },
}

/// Parsed BTF: where each type begins, and structures by name.
pub struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Offset in `types` of type `id` at `id - 1`.
    offsets: Vec<u32>,
    structs: HashMap<&'a [u8], u32>,
    /// Ids of the enumerations.
    enums: Vec<u32>,
}

mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const PTR: u32 = 2;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const TYPE_TAG: u32 = 18;
}

/// Head of a type description.
#[derive(Clone, Copy)]
struct Type {
    name: u32,
    info: u32,
    /// Size, or the id of the type this one refers to.
    size_or_type: u32,
    /// Where its own data begin in `types`.
    body: usize,
}

/// A member that was found.
#[derive(Clone, Copy)]
struct Member {
    /// Its type.
    id: u32,
    /// From the start of the structure in which it was looked for.
    bits: u32,
    bitfield: bool,
}

impl Type {
    fn kind(self) -> u32 {
        self.info >> 24 & 0x1f
    }

    fn len(self) -> usize {
        (self.info & 0xffff) as usize
    }

    /// Member offsets carry a bitfield size in their upper byte.
    fn has_bitfields(self) -> bool {
        self.info >> 31 == 1
    }

    /// Bytes of its own data.
    fn body_len(self) -> Option<usize> {
        Some(match self.kind() {
            1 | 14 | 17 => 4,
            2 | 7..=12 | 16 | 18 => 0,
            3 => 12,
            4 | 5 | 15 | 19 => self.len() * 12,
            6 | 13 => self.len() * 8,
            _ => return None,
        })
    }
}

impl<'a> Btf<'a> {
    /// Parses a whole BTF blob such as `/sys/kernel/btf/vmlinux`.
    ///
    /// # Errors
    /// The bytes are not BTF as documented.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        let magic = bytes
            .get(..2)
            .and_then(|b| b.try_into().ok())
            .map(u16::from_le_bytes);
        if magic != Some(MAGIC) {
            return Err(BtfError::Magic);
        }
        let base = u32_at(bytes, 4)? as usize;
        let types = section(bytes, base, u32_at(bytes, 8)?, u32_at(bytes, 12)?)?;
        let strings = section(bytes, base, u32_at(bytes, 16)?, u32_at(bytes, 20)?)?;
        let mut btf = Self {
            types,
            strings,
            offsets: Vec::new(),
            structs: HashMap::new(),
            enums: Vec::new(),
        };
        btf.index()?;
        Ok(btf)
    }

    /// Byte offset of `struct.member[.member…]` from the start of the structure. A member may be
    /// an element of an array: `member[3]`, or `member[ENUMERATOR]`. `None` where the structure, a
    /// member or an enumerator does not exist, or is a bitfield.
    #[must_use]
    pub fn offset(&self, path: &str) -> Option<u32> {
        let (bits, bitfield) = self.resolve(path)?;
        (!bitfield && bits.is_multiple_of(8)).then_some(bits / 8)
    }

    /// Like [`Btf::offset`], but of a bitfield, and in bits.
    #[must_use]
    pub fn bit_offset(&self, path: &str) -> Option<u32> {
        let (bits, bitfield) = self.resolve(path)?;
        bitfield.then_some(bits)
    }

    /// Bits from the start of the structure, and whether the last member is a bitfield.
    fn resolve(&self, path: &str) -> Option<(u32, bool)> {
        let mut steps = path.split('.');
        let mut id = *self.structs.get(steps.next()?.as_bytes())?;
        let (mut bits, mut bitfield) = (0u32, false);
        for step in steps {
            let (name, index) = match step.strip_suffix(']').and_then(|s| s.split_once('[')) {
                Some((name, index)) => (name, Some(index)),
                None => (step, None),
            };
            let member = self.member(self.strip(id)?, name.as_bytes(), 0)?;
            bits = bits.checked_add(member.bits)?;
            (id, bitfield) = (member.id, member.bitfield);
            if let Some(index) = index {
                let (element, size) = self.element(id)?;
                let skipped = self.index_value(index)?.checked_mul(size)?;
                bits = bits.checked_add(skipped.checked_mul(8)?)?;
                id = element;
            }
        }
        Some((bits, bitfield))
    }

    /// The type of an array's elements and its size in bytes.
    fn element(&self, array: u32) -> Option<(u32, u32)> {
        let array = self.strip(array)?;
        if array.kind() != kind::ARRAY {
            return None;
        }
        let element = u32_at(self.types, array.body).ok()?;
        let described = self.strip(element)?;
        let size = match described.kind() {
            kind::PTR => 8,
            kind::INT | kind::STRUCT | kind::UNION | kind::ENUM => described.size_or_type,
            _ => return None,
        };
        Some((element, size))
    }

    /// A number, or the value of an enumerator.
    fn index_value(&self, index: &str) -> Option<u32> {
        index
            .parse()
            .ok()
            .or_else(|| self.enumerator(index.as_bytes()))
    }

    fn enumerator(&self, name: &[u8]) -> Option<u32> {
        self.enums.iter().find_map(|id| {
            let described = self.strip(*id)?;
            (0..described.len()).find_map(|i| {
                let at = described.body + i * ENUMERATOR;
                let found = self.name(u32_at(self.types, at).ok()?) == name;
                found.then(|| u32_at(self.types, at + 4).ok()).flatten()
            })
        })
    }

    fn index(&mut self) -> Result<(), BtfError> {
        let mut at = 0;
        while at < self.types.len() {
            let id = u32::try_from(self.offsets.len() + 1).map_err(|_| BtfError::Cut(at))?;
            self.offsets
                .push(u32::try_from(at).map_err(|_| BtfError::Cut(at))?);
            let described = self.type_at(at)?;
            if described.kind() == kind::STRUCT && described.name != 0 {
                // The first of a name wins: duplicates are private structures of later units.
                self.structs.entry(self.name(described.name)).or_insert(id);
            }
            if described.kind() == kind::ENUM {
                self.enums.push(id);
            }
            let len = described.body_len().ok_or(BtfError::Kind {
                id,
                kind: described.kind(),
            })?;
            at = described.body + len;
        }
        if at > self.types.len() {
            return Err(BtfError::Cut(self.types.len()));
        }
        Ok(())
    }

    /// Finds a member by name, also inside anonymous structures and unions.
    fn member(&self, owner: Type, name: &[u8], depth: u32) -> Option<Member> {
        if depth > MAX_DEPTH || !matches!(owner.kind(), kind::STRUCT | kind::UNION) {
            return None;
        }
        (0..owner.len()).find_map(|i| {
            let at = owner.body + i * MEMBER;
            let member_name = self.name(u32_at(self.types, at).ok()?);
            let member_type = u32_at(self.types, at + 4).ok()?;
            let offset = u32_at(self.types, at + 8).ok()?;
            let (bits, bitfield) = if owner.has_bitfields() {
                (offset & 0x00ff_ffff, offset >> 24 != 0)
            } else {
                (offset, false)
            };
            if member_name == name {
                return Some(Member {
                    id: member_type,
                    bits,
                    bitfield,
                });
            }
            if !member_name.is_empty() {
                return None;
            }
            let inner = self.member(self.strip(member_type)?, name, depth + 1)?;
            Some(Member {
                bits: bits.checked_add(inner.bits)?,
                ..inner
            })
        })
    }

    /// The type behind typedefs and qualifiers.
    fn strip(&self, mut id: u32) -> Option<Type> {
        for _ in 0..MAX_DEPTH {
            let offset = *self
                .offsets
                .get(usize::try_from(id.checked_sub(1)?).ok()?)?;
            let described = self.type_at(offset as usize).ok()?;
            match described.kind() {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    id = described.size_or_type;
                }
                _ => return Some(described),
            }
        }
        None
    }

    fn type_at(&self, at: usize) -> Result<Type, BtfError> {
        Ok(Type {
            name: u32_at(self.types, at)?,
            info: u32_at(self.types, at + 4)?,
            size_or_type: u32_at(self.types, at + 8)?,
            body: at + TYPE_HEAD,
        })
    }

    fn name(&self, offset: u32) -> &'a [u8] {
        let rest = self.strings.get(offset as usize..).unwrap_or_default();
        rest.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

fn section(bytes: &[u8], base: usize, offset: u32, len: u32) -> Result<&[u8], BtfError> {
    let start = base + offset as usize;
    bytes
        .get(start..start + len as usize)
        .ok_or(BtfError::Cut(start))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, BtfError> {
    bytes
        .get(at..at.saturating_add(4))
        .and_then(|b| b.try_into().ok())
        .map(u32::from_le_bytes)
        .ok_or(BtfError::Cut(at))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Btf, BtfError};

    /// `struct outer { int a; union { struct { long b; typedef_of_inner c; }; }; int bits:3; struct
    /// inner many[4]; }` with `struct inner { int x; int y; }` and `enum { FIRST, THIRD = 2 }`, laid
    /// out by hand.
    fn sample() -> Vec<u8> {
        let strings = b"\0int\0outer\0a\0b\0c\0inner\0x\0y\0inner_t\0bits\0many\0FIRST\0THIRD\0";
        let at =
            |name: &[u8]| strings.windows(name.len()).position(|w| w == name).unwrap() as u32 + 1;
        let mut types: Vec<u32> = vec![at(b"\0int\0"), 1 << 24, 4, 32]; // 1: int
        let inner = [
            at(b"\0inner\0"),
            4 << 24 | 2,
            8,
            at(b"\0x\0"),
            1,
            0,
            at(b"\0y\0"),
            1,
            32,
        ];
        types.extend(inner); // 2
        types.extend([at(b"\0inner_t\0"), 8 << 24, 2]); // 3: typedef
        types.extend([0, 4 << 24 | 2, 16, at(b"\0b\0"), 1, 0, at(b"\0c\0"), 3, 64]); // 4
        types.extend([0, 5 << 24 | 1, 16, 0, 4, 0]); // 5: union
        types.extend([at(b"\0outer\0"), 1 << 31 | 4 << 24 | 4, 64]); // 6
        types.extend([
            at(b"\0a\0"),
            1,
            0,
            0,
            5,
            64,
            at(b"\0bits\0"),
            1,
            3 << 24 | 197,
            at(b"\0many\0"),
            7,
            256,
        ]);
        types.extend([0, 3 << 24, 0, 2, 1, 4]); // 7: struct inner[4]
        types.extend([0, 6 << 24 | 2, 4, at(b"\0FIRST\0"), 0, at(b"\0THIRD\0"), 2]); // 8
        let types: Vec<u8> = types.into_iter().flat_map(u32::to_le_bytes).collect();
        let mut out = vec![0x9f, 0xeb, 1, 0];
        for word in [
            24,
            0,
            types.len() as u32,
            types.len() as u32,
            strings.len() as u32,
        ] {
            out.extend(word.to_le_bytes());
        }
        out.extend(&types);
        out.extend(strings);
        out
    }

    #[test]
    fn members_are_found_through_anonymous_unions_and_typedefs() {
        let bytes = sample();
        let btf = Btf::parse(&bytes).unwrap();
        let check = |path: &str, offset| assert_eq!(btf.offset(path), offset, "{path}");
        check("outer.a", Some(0));
        check("outer.b", Some(8));
        check("outer.c", Some(16));
        check("outer.c.y", Some(20));
        check("inner.x", Some(0));
        check("outer.bits", None);
        check("outer.none", None);
        check("none.a", None);
        check("outer.a.x", None);
        check("outer.many", Some(32));
        check("outer.many[1].y", Some(44));
        check("outer.many[THIRD]", Some(48));
        check("outer.many[NONE]", None);
        check("outer.a[1]", None);
        check("outer.many[4294967295]", None);
        assert_eq!(btf.bit_offset("outer.bits"), Some(197));
        assert_eq!(btf.bit_offset("outer.a"), None);
    }

    #[test]
    fn what_is_not_btf_is_refused() {
        assert_eq!(Btf::parse(b"").err(), Some(BtfError::Magic));
        assert_eq!(Btf::parse(b"\x7fELF").err(), Some(BtfError::Magic));
        let bytes = sample();
        for len in 4..bytes.len() {
            assert!(Btf::parse(&bytes[..len]).is_err(), "cut to {len} bytes");
        }
    }

    proptest! {
        #[test]
        fn damaged_btf_never_panics(at in 4usize..420, value: u8) {
            let mut bytes = sample();
            let at = at % bytes.len();
            bytes[at] = value;
            if let Ok(btf) = Btf::parse(&bytes) {
                let _ = btf.offset("outer.c.y");
                let _ = btf.bit_offset("outer.bits");
                let _ = btf.offset("outer.many[THIRD].y");
            }
        }
    }
}
