//! A private folder of the state directory for keys and certificates.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// A folder that only its owner can access.
#[derive(Debug, Clone)]
pub(super) struct Store(PathBuf);

impl Store {
    /// Creates the folder and its parents if necessary.
    pub(super) fn open(state_dir: &Path, folder: &str) -> io::Result<Store> {
        make_private(state_dir)?;
        let path = state_dir.join(folder);
        make_private(&path)?;
        Ok(Store(path))
    }

    /// The path of a file in the folder.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The contents of a file; `None` if it does not exist.
    pub(super) fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a file that only its owner can read. After a crash, either the old or the new file exists, never a mixture.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let unfinished = self.path(&format!(".{name}.{}", std::process::id()));
        // A leftover of an earlier process with the same id would keep its own permissions.
        let _ = fs::remove_file(&unfinished);
        let mut file = private_file().open(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, self.path(name))
    }
}

fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn make_private(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    fn mode(path: &Path) -> u32 {
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions()) & 0o777
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_can_read_what_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("a/state");
        let store = Store::open(&state, "tls").unwrap();
        assert_eq!(store.read("key").unwrap(), None);
        for text in [b"one".as_slice(), b"another"] {
            store.write("key", text).unwrap();
            assert_eq!(store.read("key").unwrap().unwrap(), text);
        }
        assert_eq!(mode(&store.path("key")), 0o600);
        assert_eq!((mode(&state), mode(&state.join("tls"))), (0o700, 0o700));
        assert_eq!(fs::read_dir(state.join("tls")).unwrap().count(), 1);
    }

    #[test]
    fn an_unwritable_directory_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(Store::open(&file, "tls").is_err());
    }
}
