//! Finds many texts in another one by four bytes of each.
//!
//! An automaton of thousands of texts is megabytes, and each byte of an event would be a step to
//! another place in them. Here each byte is a look at one bit in memory that stays in the
//! processor's first cache; only where the four bytes that stand for a text occur, that text is
//! compared.
//!
//! Where all texts are long, several grams in a row stand for each of them, and so many bytes of an
//! event are passed over at each step.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use super::lookup::FactId;

/// Bytes that stand for a text.
pub(super) const GRAM: usize = 4;

type Gram = [u8; GRAM];

/// Bits of the largest filter; it takes 32 KiB.
const MAX_FILTER_BITS: u32 = 18;

/// For each gram. Small filters of many columns share the first cache.
const FILTER_BITS_PER_GRAM: usize = 64;

/// Texts of at least [`GRAM`] bytes.
#[derive(Debug)]
pub(super) struct Grams {
    /// A bit is set for each gram that stands for a text.
    filter: Box<[u64]>,
    /// Bits of a hash that says where in the filter.
    filter_bits: u32,
    /// Where in `texts` those begin whose grams have a hash; one more than hashes.
    buckets: Box<[u32]>,
    /// Bits of such a hash.
    bucket_bits: u32,
    /// Bytes from one look to the next, and grams that stand for each text.
    stride: usize,
    texts: Vec<Text>,
    bytes: Vec<u8>,
}

/// A larger stride gains nothing.
const MAX_STRIDE: usize = 16;

/// More grams leave little of the filter that is not set.
const MAX_GRAMS: usize = 1 << (MAX_FILTER_BITS - 4);

/// A text by one of its grams. Small, and most of those that do not occur are told by what stands
/// here: the processor has to fetch nothing else for them.
#[derive(Debug)]
struct Text {
    id: FactId,
    gram: Gram,
    /// Another one of its grams, far from the first.
    other: Gram,
    /// Of its gram in it.
    offset: u32,
    other_offset: u32,
    /// Where it is in [`Grams::bytes`].
    start: u32,
    len: u32,
}

impl Text {
    /// By the gram at `offset`, of a text that is the end of `bytes`.
    fn new(id: FactId, offset: usize, text: &[u8], bytes: &[u8]) -> Self {
        let last = text.len() - GRAM;
        let other = if offset >= last - offset { 0 } else { last };
        let gram = |at: usize| text[at..].first_chunk().copied();
        let number = |place: usize| u32::try_from(place).expect("texts fit memory");
        Self {
            id,
            gram: gram(offset).expect("the gram is in the text"),
            other: gram(other).expect("a text is no shorter than a gram"),
            offset: number(offset),
            other_offset: number(other),
            start: number(bytes.len() - text.len()),
            len: number(text.len()),
        }
    }

    /// Whether it occurs in `text` with its gram at `at`; `bytes` are those of all texts.
    fn is_at(&self, at: usize, text: &[u8], bytes: &[u8]) -> bool {
        let start = at.checked_sub(self.offset as usize);
        let Some(rest) = start.map(|start| &text[start..]) else {
            return false;
        };
        let other = rest.get(self.other_offset as usize..);
        other.is_some_and(|other| other.starts_with(&self.other))
            && rest.starts_with(&bytes[self.start as usize..][..self.len as usize])
    }
}

impl Grams {
    pub(super) fn build(texts: &[(FactId, &[u8])]) -> Self {
        let shared = count(texts);
        let stride = stride(texts);
        let mut bytes = Vec::new();
        let mut by_gram = Vec::with_capacity(texts.len() * stride);
        for (id, text) in texts {
            bytes.extend_from_slice(text);
            let first = rarest(text, stride, &shared);
            let offsets = first..first + stride;
            by_gram.extend(offsets.map(|offset| Text::new(*id, offset, text, &bytes)));
        }
        let mut texts = by_gram;
        let bucket_bits = texts.len().next_power_of_two().ilog2() + 1;
        let bucket = |text: &Text| hash(text.gram, bucket_bits);
        texts.sort_by_key(bucket);
        let starts = (0..=1 << bucket_bits).map(|hash| {
            let start = texts.partition_point(|text| bucket(text) < hash);
            u32::try_from(start).expect("texts fit memory")
        });
        let filter_bits = (texts.len() * FILTER_BITS_PER_GRAM).next_power_of_two();
        let filter_bits = filter_bits.ilog2().min(MAX_FILTER_BITS);
        let mut filter = vec![0; 1 << (filter_bits - 6)].into_boxed_slice();
        for text in &texts {
            let (word, bit) = place(text.gram, filter_bits);
            filter[word] |= bit;
        }
        Self {
            filter,
            filter_bits,
            buckets: starts.collect(),
            bucket_bits,
            stride,
            texts,
            bytes,
        }
    }

    /// Tells every occurrence of every text.
    pub(super) fn find(&self, text: &[u8], found: &mut impl FnMut(FactId)) {
        if self.stride == 1 {
            for (at, gram) in text.array_windows().enumerate() {
                self.look(text, at, *gram, found);
            }
            return;
        }
        let mut at = 0;
        while let Some(gram) = text.get(at..).and_then(<[u8]>::first_chunk) {
            self.look(text, at, *gram, found);
            at += self.stride;
        }
    }

    /// In line, since this is done for every place.
    #[inline(always)]
    fn look(&self, text: &[u8], at: usize, gram: Gram, found: &mut impl FnMut(FactId)) {
        let (word, bit) = place(gram, self.filter_bits);
        if self.filter[word] & bit != 0 {
            self.compare(text, at, gram, found);
        }
    }

    /// Whether any of the texts occurs.
    pub(super) fn is_match(&self, text: &[u8]) -> bool {
        let mut is_match = false;
        self.find(text, &mut |_| is_match = true);
        is_match
    }

    #[cold]
    fn compare(&self, text: &[u8], at: usize, gram: Gram, found: &mut impl FnMut(FactId)) {
        let bucket = hash(gram, self.bucket_bits) as usize;
        let (first, end) = (self.buckets[bucket], self.buckets[bucket + 1]);
        let texts = &self.texts[first as usize..end as usize];
        for candidate in texts.iter().filter(|text| text.gram == gram) {
            if candidate.is_at(at, text, &self.bytes) {
                found(candidate.id);
            }
        }
    }
}

/// The bit of a gram in the filter.
fn place(gram: Gram, bits: u32) -> (usize, u64) {
    let hash = hash(gram, bits);
    ((hash >> 6) as usize, 1 << (hash & 63))
}

/// Knuth's multiplicative hash; its upper bits are the good ones.
fn hash(gram: Gram, bits: u32) -> u32 {
    u32::from_le_bytes(gram).wrapping_mul(0x9e37_79b1) >> (u32::BITS - bits)
}

/// What many events hold, whatever the rules ask for.
const ORDINARY: [&[u8]; 8] = [
    br"c:\windows\system32\cmd.exe /c ",
    br"\syswow64\windowspowershell\v1.0\powershell.exe",
    br"\microsoft\windows\",
    br"c:\program files (x86)\",
    br"c:\users\administrator\appdata\local\temp\",
    b"microsoft corporation",
    b"/usr/local/bin/ /usr/lib/x86_64-linux-gnu/",
    b"/bin/bash -c /home/",
];

/// In how many places each gram occurs in all texts together, more for those in [`ORDINARY`].
fn count(texts: &[(FactId, &[u8])]) -> HashMap<Gram, u32, FixedState> {
    let mut shared = HashMap::default();
    let of_rules = texts.iter().map(|(_, text)| (*text, 1));
    for (text, count) in of_rules.chain(ORDINARY.iter().map(|text| (*text, 1000))) {
        for gram in text.array_windows::<GRAM>() {
            *shared.entry(*gram).or_default() += count;
        }
    }
    shared
}

/// As large as the shortest text allows: one of its grams must be looked at wherever it occurs.
fn stride(texts: &[(FactId, &[u8])]) -> usize {
    let shortest = texts.iter().map(|(_, text)| text.len()).min().unwrap_or(0);
    let fits = |stride: &usize| texts.len() * stride <= MAX_GRAMS;
    let largest = MAX_STRIDE.min((shortest + 1).saturating_sub(GRAM));
    (1..=largest).rev().find(fits).unwrap_or(1)
}

/// Where so many grams in a row begin that fewest texts share, which are likely ones that few
/// events hold.
fn rarest(text: &[u8], count: usize, shared: &HashMap<Gram, u32, FixedState>) -> usize {
    let shared: Vec<u32> = text.array_windows::<GRAM>().map(|g| shared[g]).collect();
    let runs = shared.windows(count).enumerate();
    let run = runs.min_by_key(|(_, run)| run.iter().sum::<u32>());
    run.map_or(0, |(start, _)| start)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Grams;

    fn found(texts: &[Vec<u8>], text: &[u8]) -> Vec<u32> {
        let numbered: Vec<_> = (0u32..).zip(texts.iter().map(Vec::as_slice)).collect();
        let mut found = Vec::new();
        Grams::build(&numbered).find(text, &mut |id| found.push(id));
        found.sort_unstable();
        found.dedup();
        found
    }

    proptest! {
        #[test]
        fn exactly_the_texts_that_occur_are_found(
            texts in prop_oneof![
                prop::collection::vec(prop::collection::vec(b'a'..b'd', 4..8), 1..20),
                prop::collection::vec(prop::collection::vec(b'a'..b'c', 7..9), 1..20),
            ],
            text in prop::collection::vec(b'a'..b'd', 0..64),
        ) {
            let occurs = |part: &Vec<u8>| text.windows(part.len()).any(|window| window == &part[..]);
            let expected: Vec<u32> =
                (0u32..).zip(&texts).filter(|(_, part)| occurs(part)).map(|(id, _)| id).collect();
            prop_assert_eq!(found(&texts, &text), expected);
        }
    }

    #[test]
    fn texts_at_both_ends_and_over_each_other_are_found() {
        let texts = ["abcdef", "cdefgh", "abcd", "efgh", "xyzw"].map(|t| t.as_bytes().to_vec());
        assert_eq!(found(&texts, b"abcdefgh"), [0, 1, 2, 3]);
        assert_eq!(found(&texts, b"abc"), [] as [u32; 0]);
    }
}
