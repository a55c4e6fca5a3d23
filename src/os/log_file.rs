//! A log file: opened for appending, and opened again under its name when that is asked for.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::{Gid, OFlags, Uid, fchown};

use super::trusted_path;

/// A log file that several may write, each call in one piece.
#[derive(Debug, Clone)]
pub struct LogFile {
    path: PathBuf,
    file: Arc<Mutex<File>>,
}

impl LogFile {
    /// Opens the file, or creates it; a new one belongs to `owner`, who will open it again.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn open(path: &Path, owner: Option<(u32, u32)>) -> io::Result<Self> {
        let is_new = !path.exists();
        let file = append(path)?;
        if let Some((uid, gid)) = owner.filter(|_| is_new) {
            fchown(
                file.as_fd(),
                Some(Uid::from_raw(uid)),
                Some(Gid::from_raw(gid)),
            )?;
        }
        Ok(Self {
            path: path.to_owned(),
            file: Arc::new(Mutex::new(file)),
        })
    }

    /// The name of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the file under its name again; where that fails, the one from before is kept.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn reopen(&self) -> io::Result<()> {
        let file = append(&self.path)?;
        *self.file.lock() = file;
        Ok(())
    }
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A FIFO without a reader is an error, not a wait.
fn append(path: &Path) -> io::Result<File> {
    trusted_path::open_to_append(path, OFlags::NOCTTY)
}
