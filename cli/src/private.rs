//! Files that hold what processes were told: only their owner may read them.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

/// Creates a file to write to, which must not exist yet. On systems without permission bits it has
/// the access rights of its directory.
pub(crate) fn create_new(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(all(test, unix))]
mod tests {
    use std::io::ErrorKind;
    use std::os::unix::fs::MetadataExt as _;

    use super::create_new;

    #[test]
    fn nobody_else_may_read_it_and_nothing_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mode = create_new(&path).unwrap().metadata().unwrap().mode();
        assert_eq!(mode & 0o7777, 0o600);
        let again = create_new(&path).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    }
}
