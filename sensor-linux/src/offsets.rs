//! Finds in the kernel's BTF where each field lies that the programs read.

use sensor_ebpf::config::{ABSENT, BITFIELDS, FIELD_COUNT, Field, REQUIRED};

use crate::Error;
use crate::btf::Btf;

/// Byte offsets in the order of [`Field`], for the programs' `OFFSETS` global.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offsets {
    /// [`ABSENT`] where this kernel has no such field.
    pub values: [u32; FIELD_COUNT],
}

impl Offsets {
    /// Resolves every field, the newest spelling first.
    ///
    /// # Errors
    /// A field is absent without which processes cannot be told apart.
    pub fn resolve(btf: &Btf<'_>) -> Result<Self, Error> {
        let mut values = [ABSENT; FIELD_COUNT];
        for (value, field) in values.iter_mut().zip(Field::ALL) {
            *value = field
                .paths()
                .iter()
                .find_map(|path| {
                    if BITFIELDS.contains(field) {
                        btf.bit_offset(path)
                    } else {
                        btf.offset(path)
                    }
                })
                .unwrap_or(ABSENT);
        }
        let offsets = Self { values };
        let missing: Vec<&str> = REQUIRED
            .iter()
            .filter(|f| offsets.of(**f).is_none())
            .map(|f| f.paths()[0])
            .collect();
        if missing.is_empty() {
            Ok(offsets)
        } else {
            Err(Error::MissingFields(missing))
        }
    }

    /// Offset of a field, `None` where this kernel lacks it.
    #[must_use]
    pub fn of(&self, field: Field) -> Option<u32> {
        let value = self.values[field as usize];
        (value != ABSENT).then_some(value)
    }

    /// The fields that this kernel lacks.
    pub fn absent(&self) -> impl Iterator<Item = Field> {
        Field::ALL
            .iter()
            .copied()
            .filter(|field| self.of(*field).is_none())
    }
}
