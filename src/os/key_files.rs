//! The files of certificates and keys, as this process may read them, else by the process that stays
//! root ([`KeyReader`]). All functions block.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::key_reader::{self, FileState, KeyReader};

static READER: OnceLock<KeyReader> = OnceLock::new();

/// Starts the process that stays root, for these files, and directories of files. There is at most
/// one.
///
/// # Errors
/// The error of the system call.
pub fn start_reader(files: &[PathBuf], directories: &[PathBuf]) -> io::Result<()> {
    let reader = KeyReader::start(files, directories)?;
    // A second one ends by being dropped.
    let _started = READER.set(reader);
    Ok(())
}

/// Uses that process of the server whose place this one takes.
pub fn use_reader(reader: KeyReader) {
    let _started = READER.set(reader);
}

/// A connection to that process for the server that takes this one's place.
pub fn join_reader() -> Option<OwnedFd> {
    let joined = READER.get()?.join();
    joined
        .inspect_err(|error| tracing::warn!(%error, "cannot share the process that stays root"))
        .ok()
}

/// Ends the connection to that process, and the process if no other server uses it.
pub fn end_reader() {
    if let Some(reader) = READER.get() {
        reader.dismiss();
    }
}

/// The state of a file.
///
/// # Errors
/// The error of the system call.
pub fn state(path: &Path) -> io::Result<FileState> {
    or_by_root(key_reader::state(path), |reader| reader.state(path))
}

/// The names in a directory, sorted.
///
/// # Errors
/// The error of the system call.
pub fn names(dir: &Path) -> io::Result<Vec<OsString>> {
    or_by_root(key_reader::names(dir), |reader| reader.names(dir))
}

/// The content of a file in PEM.
///
/// # Errors
/// The error of the system call, `InvalidData` for something else.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    or_by_root(key_reader::read(path), |reader| reader.read(path))
}

fn or_by_root<T>(
    own: io::Result<T>,
    by_root: impl FnOnce(&KeyReader) -> io::Result<T>,
) -> io::Result<T> {
    match (own, READER.get()) {
        (Err(error), Some(reader)) if error.kind() == io::ErrorKind::PermissionDenied => {
            by_root(reader).map_err(|_also| error)
        }
        (own, _) => own,
    }
}
