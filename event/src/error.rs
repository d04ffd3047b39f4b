/// What can be wrong with bytes that claim to be events.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The protobuf itself does not parse.
    #[error("not a valid event message: {0}")]
    Message(#[from] prost::DecodeError),
    /// A field that every event of this kind has is absent.
    #[error("event message has no {0}")]
    Missing(&'static str),
    /// A field holds a value outside its range.
    #[error("event message field {field} has the invalid value {value}")]
    Invalid {
        /// Field name as in `docs/event-format.md`.
        field: &'static str,
        /// The value found.
        value: u64,
    },
    /// The message was written by a newer, incompatible version.
    #[error("event schema version {found} is newer than {known}, the newest known here")]
    SchemaVersion {
        /// Version in the message.
        found: u32,
        /// Newest version that this build reads.
        known: u32,
    },
    /// The stream of frames is damaged at a place.
    #[error("recording is damaged at byte {offset}, after {events} whole events: {cause}")]
    Frame {
        /// Byte offset of the damaged frame from the start of the stream.
        offset: u64,
        /// Whole events before it.
        events: u64,
        /// What is wrong there.
        cause: String,
    },
    /// Reading or writing the stream did not work.
    #[error("recording: {0}")]
    Io(#[from] std::io::Error),
}
