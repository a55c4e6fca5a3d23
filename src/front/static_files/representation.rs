//! One form of a file: its state, its header fields, its bytes if they are few.

use parking_lot::{Mutex, MutexGuard};
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, header};

use super::conditional::Validators;
use super::sealed::Sealed;
use crate::front::body::negotiate::Accepted;
use crate::front::sendfile::file_source::SharedFile;
use crate::front::sendfile::residency::Residency;
use crate::os::files;

/// One form of a file: the data of a response.
#[derive(Debug)]
pub(super) struct Representation {
    /// Its name below the location's directory.
    pub(super) name: std::ffi::OsString,
    /// The state of the file when it was read.
    pub(super) stamp: Stamp,
    /// Identifies this form and state.
    pub(super) validators: Validators,
    /// The header fields of a complete response, `Content-Length` included.
    pub(super) headers: HeaderMap,
    /// Length of the whole in bytes.
    pub(super) length: u64,
    /// The bytes themselves; `None` if they are read from the file each time.
    pub(super) bytes: Option<Bytes>,
    /// The memory file of which `bytes` are all, if they are in one.
    pub(super) sealed: Option<Arc<Sealed>>,
    /// The file, while a response sends it.
    pub(super) open: OpenFile,
    /// Variants of `headers`, ready to be sent.
    pub(super) heads: Heads,
}

impl Representation {
    /// True if ranges of it may be served: of the identity only, and not to a client that excludes
    /// it where encoded forms exist or are about to be made.
    pub(super) fn has_ranges_for(&self, accepted: &Accepted) -> bool {
        let is_encoded = self.headers.contains_key(header::CONTENT_ENCODING);
        let is_negotiated = self.headers.contains_key(header::VARY);
        !is_encoded && (!is_negotiated || !accepted.refuses_identity())
    }
}

/// Heads of one form of a file as HTTP/1.1 writes them, made when they are first needed.
#[derive(Debug, Default)]
pub(super) struct Heads {
    pub(super) whole: OnceLock<Bytes>,
    pub(super) not_modified: OnceLock<Bytes>,
}

/// An open file that all responses which send it share, and that closes with the last of them:
/// a deleted file takes no room on the disk for longer, a file system can be unmounted, and no
/// descriptors have to be counted. What is known of its place in memory stays.
#[derive(Debug, Default)]
pub(super) struct OpenFile {
    file: Mutex<Weak<File>>,
    resident: Arc<Residency>,
    /// True if opening it again asks no server.
    is_local: OnceLock<bool>,
}

impl OpenFile {
    /// The file, if it is open.
    pub(super) fn get(&self) -> Option<SharedFile> {
        self.lock().upgrade().map(|file| self.shared(file))
    }

    /// Shares a file that was just opened, or the one that was opened before it and is in use.
    pub(super) fn keep(&self, file: File) -> SharedFile {
        let mut kept = self.lock();
        let file = kept.upgrade().unwrap_or_else(|| {
            let file = Arc::new(file);
            *kept = Arc::downgrade(&file);
            file
        });
        self.shared(file)
    }

    /// True if [`OpenFile::keep`] got a file before that can be opened again without waiting for a
    /// server.
    pub(super) fn is_local(&self) -> bool {
        self.is_local.get() == Some(&true)
    }

    /// Notes on which kind of file system `file` is.
    pub(super) fn locate(&self, file: &File) {
        self.is_local.get_or_init(|| files::opens_locally(file));
    }

    fn shared(&self, file: Arc<File>) -> SharedFile {
        let resident = Arc::clone(&self.resident);
        SharedFile {
            file,
            resident,
            counted: None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Weak<File>> {
        self.file.lock()
    }
}

/// Metadata that changes whenever the file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    mtime: (i64, i64),
    /// Changes with content, length and permissions, and when another file takes the name; unlike
    /// the modification time it cannot be set.
    ctime: (i64, i64),
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            ctime: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// True if a change after `now` would be visible, even with the coarsest clock of a file
    /// system.
    pub(super) fn is_settled(&self, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let changed = u64::try_from(self.ctime.0).unwrap_or(0);
        Duration::from_secs(changed) + COARSEST_CLOCK <= now
    }

    /// True if its content was last written a while before `now`. A file that is still being
    /// written, like a live stream's playlist, was not.
    pub(super) fn was_written_before(&self, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let written = u64::try_from(self.mtime.0).unwrap_or(0);
        Duration::from_secs(written) + COARSEST_CLOCK <= now
    }

    /// True if this neighbour may be used for `original`: it is not older. Archives and image
    /// layers truncate times to whole seconds, which must not make it look older.
    pub(super) fn is_up_to_date_with(&self, original: &Self) -> bool {
        match self.mtime.1 {
            0 => self.mtime.0 >= original.mtime.0,
            _ => self.mtime >= original.mtime,
        }
    }
}

/// FAT counts in steps of two seconds; the others are finer.
const COARSEST_CLOCK: Duration = Duration::from_secs(2);
