//! The texts of one event, as the program looks at them.

use crate::catalog::Field;
use crate::text::fold_text;
use crate::view::View;

/// Number of a text column in its program.
pub(crate) type Slot = u8;

/// Letter case folded away. Kept between events, so that filling it allocates nothing once it has
/// grown.
#[derive(Debug, Default)]
pub(crate) struct Row {
    texts: Vec<Vec<u8>>,
    /// Slots whose column is known.
    known: u128,
}

impl Row {
    /// `read` has a bit for each slot whose text is looked at; of others it only matters whether
    /// they are known.
    pub(super) fn fill(&mut self, view: &View<'_>, slots: &[Field], read: u128) {
        self.known = 0;
        self.texts
            .resize_with(slots.len().max(self.texts.len()), Vec::new);
        for (slot, (field, text)) in slots.iter().zip(&mut self.texts).enumerate() {
            text.clear();
            if let Some(raw) = view.text(*field) {
                self.known |= 1 << slot;
                if read >> slot & 1 == 1 {
                    fold_text(raw, text);
                }
            }
        }
    }

    pub(super) fn is_known(&self, slot: Slot) -> bool {
        self.known >> slot & 1 == 1
    }

    /// The folded text; `None` where the column is not known.
    pub(super) fn text(&self, slot: Slot) -> Option<&[u8]> {
        self.is_known(slot).then(|| &*self.texts[usize::from(slot)])
    }
}
