//! Frames: how encoded leaves are kept in a recording.
//!
//! A recording is [`MAGIC`], then frames up to the end: length of the body (u32 little-endian),
//! CRC-32C of the body (u32 little-endian), body ([`crate::codec`]). A recording ends after a
//! whole frame; anything else is reported with its place.

use std::io::{ErrorKind, Read, Write};

use bytes::Bytes;

use crate::{Error, Event, codec};

/// The first bytes of a recording; the last one is its version.
pub const MAGIC: [u8; 8] = *b"DEYEREC\x01";

/// Longest body accepted, in bytes. An exec record is below 64 KiB.
pub const MAX_FRAME: u32 = 1 << 20;

/// Writes events as a recording.
#[derive(Debug)]
pub struct RecordingWriter<W: Write> {
    out: W,
}

impl<W: Write> RecordingWriter<W> {
    /// Starts a recording.
    ///
    /// # Errors
    /// The magic cannot be written.
    pub fn new(mut out: W) -> Result<Self, Error> {
        out.write_all(&MAGIC)?;
        Ok(Self { out })
    }

    /// Appends one event.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&mut self, event: &Event) -> Result<(), Error> {
        self.write_encoded(&codec::encode_event(event))
    }

    /// Appends one event that is encoded already.
    ///
    /// # Errors
    /// It cannot be written, or is longer than [`MAX_FRAME`].
    pub fn write_encoded(&mut self, body: &[u8]) -> Result<(), Error> {
        let length = u32::try_from(body.len())
            .ok()
            .filter(|length| *length <= MAX_FRAME)
            .ok_or(Error::Invalid {
                field: "frame length",
                value: body.len() as u64,
            })?;
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(&crc32c::crc32c(body).to_le_bytes())?;
        Ok(self.out.write_all(body)?)
    }

    /// Passes everything written so far on to the operating system.
    ///
    /// # Errors
    /// The writer's own.
    pub fn flush(&mut self) -> Result<(), Error> {
        Ok(self.out.flush()?)
    }
}

/// Reads a recording, event by event.
#[derive(Debug)]
pub struct RecordingReader<R: Read> {
    input: R,
    offset: u64,
    events: u64,
}

impl<R: Read> RecordingReader<R> {
    /// Checks the magic.
    ///
    /// # Errors
    /// This is no recording of a version known here.
    pub fn new(input: R) -> Result<Self, Error> {
        let mut reader = Self {
            input,
            offset: 0,
            events: 0,
        };
        let mut magic = [0; MAGIC.len()];
        let got = reader.fill(&mut magic)?;
        if magic[..7] != MAGIC[..7] || got < MAGIC.len() {
            return Err(reader.damaged("this is not a DaemonEye recording"));
        }
        if magic != MAGIC {
            return Err(reader.damaged(format!("version {} is not known here", magic[7])));
        }
        reader.offset = MAGIC.len() as u64;
        Ok(reader)
    }

    /// The next event; `None` at the end of a whole recording.
    ///
    /// # Errors
    /// A damaged or cut frame ([`Error::Frame`], with its place) or the reader's own.
    #[expect(
        clippy::should_implement_trait,
        reason = "an Iterator would hide that errors end it"
    )]
    pub fn next(&mut self) -> Result<Option<Event>, Error> {
        let Some(body) = self.next_body()? else {
            return Ok(None);
        };
        let length = body.len() as u64;
        let event = codec::decode_event(body).map_err(|error| self.damaged(error.to_string()))?;
        self.offset += 8 + length;
        self.events += 1;
        Ok(Some(event))
    }

    /// Whole events read so far.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    fn next_body(&mut self) -> Result<Option<Bytes>, Error> {
        let mut head = [0; 8];
        match self.fill(&mut head)? {
            0 => return Ok(None),
            8 => {}
            got => return Err(self.damaged(format!("cut after {got} of 8 bytes of a frame head"))),
        }
        let [l0, l1, l2, l3, c0, c1, c2, c3] = head;
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        if length > MAX_FRAME {
            return Err(self.damaged(format!("frame length {length} is over {MAX_FRAME}")));
        }
        let mut body = vec![0; length as usize];
        let got = self.fill(&mut body)?;
        if got < body.len() {
            return Err(self.damaged(format!("cut after {got} of {length} bytes of a frame")));
        }
        if crc32c::crc32c(&body) != u32::from_le_bytes([c0, c1, c2, c3]) {
            return Err(self.damaged("checksum does not match"));
        }
        Ok(Some(body.into()))
    }

    /// Reads until `buffer` is full or the input ends; says how much came.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let mut got = 0;
        while got < buffer.len() {
            match self.input.read(&mut buffer[got..]) {
                Ok(0) => break,
                Ok(n) => got += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(got)
    }

    fn damaged(&self, cause: impl Into<String>) -> Error {
        Error::Frame {
            offset: self.offset,
            events: self.events,
            cause: cause.into(),
        }
    }
}
