//! Where the pipeline gets executables from, on this system.

use std::sync::Arc;

use pipeline::hash::{ExecutableFiles, Hashing};

use crate::args::Hash;

/// How executables are to be hashed; `None` where they are not.
pub(crate) fn hashing(args: &Hash) -> Option<Hashing> {
    let policy = args.policy()?;
    files().map(|files| Hashing { files, policy })
}

#[cfg(target_os = "linux")]
fn files() -> Option<Arc<dyn ExecutableFiles>> {
    Some(Arc::new(linux::Files))
}

/// Other sensors do not say which file was run.
#[cfg(not(target_os = "linux"))]
fn files() -> Option<Arc<dyn ExecutableFiles>> {
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
