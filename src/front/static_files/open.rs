//! Step 2: from a decoded path to an opened regular file.
//!
//! The directory is opened anew for each request, so one that was replaced (a deployment
//! that turns a link) is seen at once. What lies outside it does not exist.

use std::fs::{File, Metadata};
use std::io;
use std::path::Path;

use rustix::io::Errno;

use super::StaticError;
use super::path::FilePath;
use crate::os::files::Root;

/// A regular file, and what was true of it when it was opened.
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) metadata: Metadata,
    /// The name that its type is told from; an index file's own.
    pub(super) name: String,
}

/// Opens the file, or a directory's index. `None`: a directory with an index, but the path
/// lacks the slash that makes relative links in it right.
pub(super) fn open(dir: &Path, path: &FilePath) -> Result<Option<Opened>, StaticError> {
    let root = Root::open(dir).map_err(refusal)?;
    if path.is_directory {
        return open_index(&root, path).map(Some);
    }
    let file = root.open_file(Path::new(&path.relative)).map_err(refusal)?;
    let metadata = file.metadata().map_err(StaticError::Io)?;
    if metadata.is_dir() {
        return open_index(&root, path).map(|_| None);
    }
    regular(file, metadata, path.relative.clone()).map(Some)
}

fn open_index(root: &Root<'_>, path: &FilePath) -> Result<Opened, StaticError> {
    let name = match path.relative.as_str() {
        "" => INDEX.to_owned(),
        relative => format!("{relative}/{INDEX}"),
    };
    let file = root.open_file(Path::new(&name)).map_err(refusal)?;
    let metadata = file.metadata().map_err(StaticError::Io)?;
    regular(file, metadata, name)
}

/// FIFOs, devices, sockets and directories have nothing that could be sent.
fn regular(file: File, metadata: Metadata, name: String) -> Result<Opened, StaticError> {
    if !metadata.is_file() {
        return Err(StaticError::NotFound);
    }
    Ok(Opened {
        file,
        metadata,
        name,
    })
}

fn refusal(error: io::Error) -> StaticError {
    match Errno::from_io_error(&error) {
        // XDEV: it leads outside. NXIO: a socket, or a device without a driver.
        Some(
            Errno::NOENT
            | Errno::NOTDIR
            | Errno::NAMETOOLONG
            | Errno::LOOP
            | Errno::XDEV
            | Errno::NXIO
            | Errno::NODEV,
        ) => StaticError::NotFound,
        Some(Errno::ACCESS | Errno::PERM) => StaticError::Forbidden,
        _ => StaticError::Io(error),
    }
}

const INDEX: &str = "index.html";

#[cfg(test)]
mod tests {
    use super::*;

    /// By error number, because root, who runs some test suites, may read everything.
    #[test]
    fn what_the_kernel_refuses_is_told_apart() {
        let refused = |errno: Errno| refusal(errno.into());
        assert!(matches!(refused(Errno::ACCESS), StaticError::Forbidden));
        assert!(matches!(refused(Errno::NOENT), StaticError::NotFound));
        assert!(matches!(refused(Errno::MFILE), StaticError::Io(_)));
        assert!(matches!(refused(Errno::IO), StaticError::Io(_)));
    }
}
