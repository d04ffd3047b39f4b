//! Where alerts go.

mod lines;

pub use lines::{Format, Lines};

use crate::Error;
use crate::alert::Alert;

/// Takes alerts. A sink that fails is given up alone; the others go on.
pub trait Sink: Send {
    /// Name for messages.
    fn name(&self) -> &'static str;

    /// Delivers one alert.
    ///
    /// # Errors
    /// The alert is not delivered.
    fn deliver(&mut self, alert: &Alert<'_>) -> Result<(), Error>;
}
