//! A file with the process id, which goes with the process.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A file with the id of this process. It is removed when this is dropped, if it is still ours.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl PidFile {
    /// Writes the file, in the place of an old one.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn write(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(path)?;
        let found = file.metadata()?;
        // A device such as /dev/null has no content to replace.
        if found.is_file() {
            file.set_len(0)?;
        }
        writeln!(file, "{}", std::process::id())?;
        Ok(Self {
            path: path.to_owned(),
            identity: (found.dev(), found.ino()),
        })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let identity = |found: fs::Metadata| (found.is_file(), (found.dev(), found.ino()));
        let found = fs::symlink_metadata(&self.path).map(identity);
        if found.is_ok_and(|found| found == (true, self.identity)) && self.is_ours() {
            // In a directory that only root may change it stays.
            let _removed = fs::remove_file(&self.path);
        }
    }
}

impl PidFile {
    /// True unless another server has written its id there meanwhile.
    fn is_ours(&self) -> bool {
        let content = fs::read_to_string(&self.path).unwrap_or_default();
        content.trim() == std::process::id().to_string()
    }
}
