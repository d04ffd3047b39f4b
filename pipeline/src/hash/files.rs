//! What hashing asks of the operating system.

use std::fmt;
use std::io;

use event::{Bytes, FileIdentity, HashFailure, Process, ProcessKey};

/// Opens the executables of processes.
pub trait ExecutableFiles: fmt::Debug + Send + Sync {
    /// The file that the process ran: of the device and inode that `wanted.file` names. Must not
    /// wait for another program, and must not open anything but a regular file.
    ///
    /// # Errors
    /// [`HashFailure::Gone`] where no such file can be found, [`HashFailure::Unreadable`] where it
    /// may not be read.
    fn open(&self, wanted: &Wanted) -> Result<Box<dyn Executable>, HashFailure>;
}

/// An opened executable. Another thread goes on with it where one hangs in another file.
pub trait Executable: io::Read + Send {
    /// The file as it is now, its device as the exec event names it.
    ///
    /// # Errors
    /// The file cannot be asked any more.
    fn identity(&self) -> io::Result<FileIdentity>;
}

/// What is known of an executable from the exec event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The process, which may have ended or run something else since.
    pub key: ProcessKey,
    /// Its path.
    pub exe: Bytes,
    /// The file at exec. 0 in `size` or `ctime` means that the source cannot tell.
    pub file: FileIdentity,
}

impl Wanted {
    /// `None` where the event does not say which file it was.
    pub(crate) fn of(process: &Process) -> Option<Self> {
        Some(Self {
            key: process.key,
            // Not a slice, which would keep the whole event's buffer alive.
            exe: Bytes::copy_from_slice(&process.exe),
            file: process.exe_file?,
        })
    }
}
