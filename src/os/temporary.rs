//! Temporary files without a name, which vanish with their last descriptor.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{CWD, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;

use super::trusted_path::open_directory;

/// An empty file in `directory` that has no name, open for reading and writing. Root follows no
/// link on the way there that another user could have made ([`super::trusted_path`]).
///
/// # Errors
/// The error of the system call for the directory.
pub fn unlinked_file(directory: &Path) -> io::Result<File> {
    // Other users save the system calls.
    if rustix::process::geteuid().is_root() {
        return unlinked_at(open_directory(directory)?.as_fd(), Path::new("."));
    }
    unlinked_at(CWD, directory)
}

fn unlinked_at(base: BorrowedFd<'_>, directory: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    match openat(base, directory, flags | OFlags::TMPFILE, mode) {
        Ok(file) => return Ok(file.into()),
        // File systems without O_TMPFILE, such as NFS and older overlayfs.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {}
        Err(error) => return Err(error.into()),
    }
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = directory.join(format!(".pyserve-{}-{number}", std::process::id()));
    let file = openat(base, &path, flags | OFlags::CREATE | OFlags::EXCL, mode)?;
    unlinkat(base, &path, rustix::fs::AtFlags::empty())?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, Write};

    #[test]
    fn a_file_without_a_name_keeps_what_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = unlinked_file(directory.path()).unwrap();
        file.write_all(b"spooled").unwrap();
        file.rewind().unwrap();
        let mut read = String::new();
        file.read_to_string(&mut read).unwrap();
        assert_eq!(read, "spooled");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
