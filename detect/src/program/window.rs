//! Which part of a long text to search for.
//!
//! An automaton grows with its texts, and what does not fit the processor's cache is slow. A few
//! bytes tell most texts apart, if they are the right ones: those that few of the texts share, which
//! are those that few events hold.

use std::collections::HashMap;

/// Bytes of a part.
const WINDOW: usize = 8;

/// Bytes that are counted together.
const GRAM: usize = 3;

/// How often runs of [`GRAM`] bytes occur in all texts of one column.
#[derive(Debug, Default)]
pub(crate) struct Grams(HashMap<[u8; GRAM], u32>);

impl Grams {
    pub(crate) fn count(&mut self, text: &[u8]) {
        for gram in text.array_windows::<GRAM>() {
            *self.0.entry(*gram).or_default() += 1;
        }
    }

    /// The part of the text that fewest texts share; all of a short one.
    pub(crate) fn rarest<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        let shared = |part: &&[u8]| {
            let grams = part.array_windows::<GRAM>();
            let counts = grams.map(|gram| self.0.get(gram).copied().unwrap_or(0));
            counts.fold(0u32, u32::saturating_add)
        };
        text.windows(WINDOW).min_by_key(shared).unwrap_or(text)
    }
}

#[cfg(test)]
mod tests {
    use super::Grams;

    #[test]
    fn the_part_that_tells_a_text_apart_is_taken() {
        let texts: [&[u8]; 4] = [
            br"imphash=00112233445566778899",
            br"imphash=ffeeddccbbaa00998877",
            br"\\appdata\\local\\temp\\",
            b"short",
        ];
        let mut grams = Grams::default();
        texts.iter().for_each(|text| grams.count(text));
        for text in &texts[..2] {
            let part = grams.rarest(text);
            assert!(!part.starts_with(b"imp"), "{}", part.escape_ascii());
        }
        assert_eq!(grams.rarest(b"short"), b"short");
        assert_eq!(grams.rarest(b""), b"");
    }
}
