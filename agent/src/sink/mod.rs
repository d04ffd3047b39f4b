//! Where alerts go.

mod lines;

pub use lines::{Format, Lines, event_line, finding_line};

use crate::Error;
use crate::alert::Alert;

/// Takes alerts. A sink that fails is offered the next alert again, and the others go on; only one
/// whose reader is gone ([`std::io::ErrorKind::BrokenPipe`]) is given up.
pub trait Sink: Send {
    /// Name for messages.
    fn name(&self) -> &'static str;

    /// Delivers one alert.
    ///
    /// # Errors
    /// The alert is not delivered.
    fn deliver(&mut self, alert: &Alert<'_>) -> Result<(), Error>;
}
