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
    pub(super) fn fill(&mut self, view: &View<'_>, slots: &[Field]) {
        self.known = 0;
        self.texts
            .resize_with(slots.len().max(self.texts.len()), Vec::new);
        for (slot, (field, text)) in slots.iter().zip(&mut self.texts).enumerate() {
            text.clear();
            if let Some(raw) = view.text(*field) {
                self.known |= 1 << slot;
                fold_text(raw, text);
            }
        }
    }

    /// The folded text; `None` where the column is not known.
    pub(super) fn text(&self, slot: Slot) -> Option<&[u8]> {
        (self.known >> slot & 1 == 1).then(|| &*self.texts[usize::from(slot)])
    }
}
