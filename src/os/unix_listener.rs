//! Listening on a Unix socket whose directory another user may change at any moment.
//!
//! The directory is opened once, and the socket is bound, looked at and given away by that
//! descriptor; nothing is found by its path again. Root follows no link on the way there that
//! another user could have made ([`super::trusted_path`]). What has the
//! socket's name is changed only if it can be nothing but the socket that was just bound.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid};

use super::{sockets, trusted_path};

/// A socket that is listened on, and where its file is.
#[derive(Debug)]
pub struct Bound {
    /// The listening socket.
    pub listener: UnixListener,
    /// Its directory and its name there.
    pub file: SocketFile,
}

/// The file of a socket, found by the descriptor of its directory.
#[derive(Debug)]
pub struct SocketFile {
    directory: OwnedFd,
    name: PathBuf,
    /// Device and inode of the file when it was made.
    identity: (u64, u64),
}

/// The way in which the path of a socket is resolved for the bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolve {
    /// As it is written; tools show it as the name of the socket. For root, only where no other
    /// user can change the path.
    Path,
    /// By the descriptor of its directory, like all later operations: for a process with more
    /// privileges than the users who can change the path.
    Directory,
}

/// Binds `path`, with these permissions if any are given; a socket on which no process listens
/// is replaced. The permissions hold from the first moment.
///
/// # Errors
/// The error of the system call.
pub fn bind(path: &Path, mode: Option<u32>, resolve: Resolve) -> io::Result<Bound> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let parent = trusted_path::parent(path);
    let directory = trusted_path::open_directory(parent)?;
    let place = match resolve {
        // Another user could exchange the directory between its check and the bind.
        Resolve::Path if trusted_path::is_placed_by_others(parent)? => place(&directory, name)?,
        Resolve::Path => path.to_owned(),
        Resolve::Directory => place(&directory, name)?,
    };
    let listener = match with_mode(mode, || UnixListener::bind(&place)) {
        // A socket without a listener is left over from a server that was killed.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && sockets::is_abandoned(&place) => {
            rustix::fs::unlinkat(&directory, name, AtFlags::empty())?;
            with_mode(mode, || UnixListener::bind(&place))?
        }
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            return Err(other_file(&directory, name).unwrap_or(error));
        }
        bound => bound?,
    };
    let stat = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(Bound {
        listener,
        file: SocketFile {
            directory,
            name: name.into(),
            identity: (stat.st_dev, stat.st_ino),
        },
    })
}

/// The error where something else than a socket has the name. The kernel says "address in use"
/// for every kind of file.
fn other_file(directory: &OwnedFd, name: &OsStr) -> Option<io::Error> {
    let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    let what = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Socket => return None,
        FileType::Directory => "a directory",
        FileType::Symlink => "a link",
        FileType::RegularFile => "a regular file",
        _ => "a file that is no socket",
    };
    let text = format!("{what} has this path (choose another path, or remove it)");
    Some(io::Error::new(io::ErrorKind::AlreadyExists, text))
}

/// The path of a name in an open directory, whatever its own path leads to by now.
fn place(directory: &OwnedFd, name: &OsStr) -> io::Result<PathBuf> {
    let directory = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    match directory.is_dir() {
        true => Ok(directory.join(name)),
        false => Err(io::Error::other(
            "this takes /proc, which is not mounted (or start as that user, and without --uid)",
        )),
    }
}

/// Makes a file with exactly these permissions. The mask belongs to the process: a file that
/// another thread makes in this moment may get less, never more.
fn with_mode<T>(mode: Option<u32>, make: impl FnOnce() -> T) -> T {
    let Some(mode) = mode else { return make() };
    let before = rustix::process::umask(Mode::from_raw_mode(!mode & 0o777));
    let made = make();
    rustix::process::umask(before);
    made
}

impl SocketFile {
    /// The file of a socket that another process has bound.
    ///
    /// # Errors
    /// The error of the system call for its directory.
    pub fn of(path: &Path, identity: (u64, u64)) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self {
            directory: trusted_path::open_directory(trusted_path::parent(path))?,
            name: name.into(),
            identity,
        })
    }

    /// Sets owner and group of the file; `None` leaves either as it is.
    ///
    /// # Errors
    /// The error of the system call; `PermissionDenied` if the file was replaced.
    pub fn give(&self, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.directory, &self.name, flags, Mode::empty())?;
        if !self.is_mine(&rustix::fs::fstat(&file)?) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the file in its place is not the socket that was bound",
            ));
        }
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        Ok(rustix::fs::chownat(
            file,
            "",
            uid,
            gid,
            AtFlags::EMPTY_PATH,
        )?)
    }

    /// Removes the file, unless there is another in its place.
    pub fn remove(&self) {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let stat = rustix::fs::statat(&self.directory, &self.name, flags);
        if stat.is_ok_and(|stat| self.is_mine(&stat)) {
            let _gone = rustix::fs::unlinkat(&self.directory, &self.name, AtFlags::empty());
        }
    }

    /// True if this is the socket that was bound: not a link to another one, either.
    fn is_mine(&self, stat: &Stat) -> bool {
        FileType::from_raw_mode(stat.st_mode) == FileType::Socket
            && stat.st_nlink == 1
            && (stat.st_dev, stat.st_ino) == self.identity
    }
}

/// Removes the file of a socket when its listener is dropped, unless another process has taken the
/// socket over.
#[derive(Debug)]
pub struct RemoveOnDrop {
    file: SocketFile,
    ours: Ownership,
}

impl RemoveOnDrop {
    /// The file of a socket that this process owns while `ours` says so.
    pub fn new(file: SocketFile, ours: Ownership) -> Self {
        Self { file, ours }
    }

    /// Device and inode of the file.
    pub fn identity(&self) -> (u64, u64) {
        self.file.identity
    }
}

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        if self.ours.get() {
            self.file.remove();
        }
    }
}

/// True while a listening socket belongs to this process; during an upgrade, another one has it open as
/// well. Only the owner removes the file of a socket, or closes the socket for clients.
#[derive(Debug, Clone)]
pub struct Ownership(Arc<AtomicBool>);

impl Ownership {
    /// That of a socket that this process has bound (`true`), or still has to take over.
    pub fn new(is_ours: bool) -> Self {
        Self(Arc::new(AtomicBool::new(is_ours)))
    }

    /// True if the socket belongs to this process.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// The socket belongs to this process from now on, or no longer.
    pub fn set(&self, is_ours: bool) {
        self.0.store(is_ours, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::os::unix::net::UnixStream;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn permissions_hold_from_the_start_and_an_abandoned_socket_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        for wanted in [0o600, 0o660, 0o666, 0o777] {
            let bound = bind(&path, Some(wanted), Resolve::Path).unwrap();
            assert_eq!(mode(&path), wanted);
            UnixStream::connect(&path).unwrap();
            let again = bind(&path, None, Resolve::Path).unwrap_err();
            assert_eq!(again.kind(), io::ErrorKind::AddrInUse, "somebody listens");
            // Killed: the file stays.
            drop(bound);
            assert!(path.exists());
        }
        bind(&path, None, Resolve::Path).unwrap().file.remove();
        assert!(!path.exists());
    }

    #[test]
    fn only_the_owner_of_a_socket_removes_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let bound = bind(&path, None, Resolve::Path).unwrap();
        let other = SocketFile::of(&path, bound.file.identity).unwrap();
        let (ours, theirs) = (Ownership::new(true), Ownership::new(false));
        let kept = RemoveOnDrop::new(bound.file, ours.clone());
        drop(RemoveOnDrop::new(other, theirs.clone()));
        assert!(path.exists());
        ours.set(false);
        let other = SocketFile::of(&path, kept.identity()).unwrap();
        drop(kept);
        assert!(path.exists());
        theirs.set(true);
        drop(RemoveOnDrop::new(other, theirs));
        assert!(!path.exists());
    }

    #[test]
    fn what_is_put_in_the_place_of_the_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (path, victim) = (dir.path().join("socket"), dir.path().join("victim"));
        let other = UnixListener::bind(dir.path().join("other")).unwrap();
        let bound = bind(&path, None, Resolve::Path).unwrap();
        std::fs::write(&victim, "x").unwrap();
        let owner = std::fs::metadata(&victim).unwrap().uid();
        let swaps: [&dyn Fn(); 3] = [
            &|| symlink(&victim, &path).unwrap(),
            &|| std::fs::hard_link(&victim, &path).unwrap(),
            &|| std::fs::hard_link(dir.path().join("other"), &path).unwrap(),
        ];
        for swap in swaps {
            std::fs::remove_file(&path).unwrap();
            swap();
            assert!(bound.file.give(Some(owner), None).is_err());
            bound.file.remove();
            assert!(path.symlink_metadata().is_ok(), "it is not ours");
        }
        drop(other);
        assert_eq!(std::fs::metadata(&victim).unwrap().uid(), owner);
    }

    #[test]
    fn the_directory_may_be_exchanged_behind_the_bind() {
        let dir = tempfile::tempdir().unwrap();
        let (mine, elsewhere) = (dir.path().join("mine"), dir.path().join("elsewhere"));
        std::fs::create_dir(&mine).unwrap();
        std::fs::create_dir(&elsewhere).unwrap();
        std::fs::write(elsewhere.join("socket"), "x").unwrap();
        let bound = bind(&mine.join("socket"), None, Resolve::Directory).unwrap();
        std::fs::rename(&mine, dir.path().join("moved")).unwrap();
        symlink(&elsewhere, &mine).unwrap();
        let own = std::fs::metadata(dir.path()).unwrap().uid();
        bound.file.give(Some(own), None).unwrap();
        bound.file.remove();
        assert!(!dir.path().join("moved/socket").exists());
        assert!(elsewhere.join("socket").exists());
    }
}
