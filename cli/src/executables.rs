//! Where the pipeline gets executables from, on this system.

use pipeline::hash::Hashing;

use crate::args::Hash;

/// How executables are to be hashed; `None` where they are not.
#[cfg(target_os = "linux")]
pub(crate) fn hashing(args: &Hash) -> Option<Hashing> {
    Some(Hashing {
        files: std::sync::Arc::new(linux::Files),
        policy: args.policy()?,
    })
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn hashing(_: &Hash) -> Option<Hashing> {
    None
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io::{self, Read};

    use event::{FileIdentity, HashFailure};
    use pipeline::hash::{Executable, ExecutableFiles, Wanted};
    use sensor_linux::ExecutableFile;

    #[derive(Debug)]
    pub(super) struct Files;

    struct Opened(ExecutableFile);

    impl ExecutableFiles for Files {
        fn open(&self, wanted: &Wanted) -> Result<Box<dyn Executable>, HashFailure> {
            let file = ExecutableFile::open(wanted.key.pid, &wanted.exe, &wanted.file)?;
            Ok(Box::new(Opened(file)))
        }
    }

    impl Executable for Opened {
        fn identity(&self) -> io::Result<FileIdentity> {
            self.0.identity()
        }
    }

    impl Read for Opened {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }
}
