//! A file with the process id, which goes with the process.
//!
//! It is made before privileges are dropped, perhaps in a directory that another user can change:
//! the directory is opened once, root follows no link on the way there that another user could
//! have made ([`super::trusted_path`]), and what has the name is replaced as a whole, never
//! followed and never written to.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::trusted_path;

/// A file with the id of this process. It is removed when this is dropped, if it is still ours.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    written: Option<Written>,
}

/// A file that this process, or the one whose place it takes, has written.
#[derive(Debug)]
struct Written {
    directory: OwnedFd,
    name: PathBuf,
    file: File,
    /// Device and inode.
    identity: (u64, u64),
}

impl PidFile {
    /// Writes the file, in the place of an old one. A device, such as `/dev/null`, is written to.
    ///
    /// # Errors
    /// The error of the system call, or a text that says what is in the place of the file.
    pub fn write(path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let directory = trusted_path::open_directory(trusted_path::parent(path))?;
        let name = PathBuf::from(name);
        let there = rustix::fs::statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW);
        let file = match there.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            Ok(FileType::CharacterDevice) => written(open(&directory, &name, OFlags::empty())?)?,
            Ok(FileType::RegularFile) | Err(Errno::NOENT) => put(&directory, &name)?,
            Ok(other) => return Err(in_its_place(other)),
            Err(error) => return Err(error.into()),
        };
        let identity = identity(&rustix::fs::fstat(&file)?);
        Ok(Self {
            path: path.to_owned(),
            written: Some(Written {
                directory,
                name,
                file,
                identity,
            }),
        })
    }

    /// A file that [`PidFile::claim`] writes.
    pub fn later(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            written: None,
        }
    }

    /// The file of another process, which this one may write to although it could not open it:
    /// descriptors of its directory and of itself.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn of(path: &Path, directory: OwnedFd, file: OwnedFd) -> io::Result<Self> {
        let written = Written {
            name: path.file_name().ok_or(io::ErrorKind::InvalidInput)?.into(),
            identity: identity(&rustix::fs::fstat(&file)?),
            directory,
            file: file.into(),
        };
        Ok(Self {
            path: path.to_owned(),
            written: Some(written),
        })
    }

    /// Its path, and the descriptors of its directory and of itself; `None` if it was not written.
    pub fn share(&self) -> Option<(&Path, [BorrowedFd<'_>; 2])> {
        let written = self.written.as_ref()?;
        let descriptors = [written.directory.as_fd(), written.file.as_fd()];
        Some((&self.path, descriptors))
    }

    /// Writes the id of this process into the file, whatever id it holds: a new file in its place where
    /// the directory allows that, else the same one.
    ///
    /// # Errors
    /// The error of the system call, or a text that says what is in the place of the file.
    pub fn claim(&mut self) -> io::Result<()> {
        if self.written.as_ref().is_some_and(Written::has_our_id) {
            return Ok(());
        }
        match (Self::write(&self.path), &mut self.written) {
            (Ok(new), _) => *self = new,
            (Err(_), Some(before)) if before.is_in_place() => {
                let id = content();
                before.file.write_all_at(id.as_bytes(), 0)?;
                before.file.set_len(id.len() as u64)?;
            }
            (Err(error), _) => return Err(error),
        }
        Ok(())
    }
}

impl Written {
    /// True unless another file is in its place, or another server has written its id there.
    fn has_our_id(&self) -> bool {
        self.is_in_place() && self.content().is_ok_and(|text| text == content())
    }

    /// True unless another file is in its place.
    fn is_in_place(&self) -> bool {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let stat = rustix::fs::statat(&self.directory, &self.name, flags);
        stat.is_ok_and(|stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                && identity(&stat) == self.identity
        })
    }

    fn content(&self) -> io::Result<String> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.directory, &self.name, flags, Mode::empty())?;
        let mut text = String::new();
        // Longer than every id.
        File::from(file).take(32).read_to_string(&mut text)?;
        Ok(text)
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        if self.has_our_id() {
            // In a directory that only root may change it stays.
            let _removed = rustix::fs::unlinkat(&self.directory, &self.name, AtFlags::empty());
        }
    }
}

/// Puts a new file in the place of an old one at once, so that no reader sees half an id.
fn put(directory: &OwnedFd, name: &Path) -> io::Result<File> {
    let mut new = std::ffi::OsString::from(".");
    new.push(name);
    new.push(format!(".{}", std::process::id()));
    let create = OFlags::CREATE | OFlags::EXCL;
    let file = match open(directory, new.as_ref(), create) {
        // Left by a process that was killed: in a container the ids are the same each time.
        Err(Errno::EXIST) => {
            rustix::fs::unlinkat(directory, &*new, AtFlags::empty())?;
            open(directory, new.as_ref(), create)?
        }
        // The old file may be writable where its directory is not. Root can write everywhere.
        Err(Errno::ACCESS | Errno::PERM | Errno::ROFS) if !rustix::process::geteuid().is_root() => {
            return written(open(directory, name, OFlags::TRUNC)?);
        }
        file => file?,
    };
    let put = written(file).and_then(|file| {
        rustix::fs::renameat(directory, &*new, directory, name)?;
        Ok(file)
    });
    put.inspect_err(|_| {
        let _removed = rustix::fs::unlinkat(directory, &*new, AtFlags::empty());
    })
}

fn open(directory: &OwnedFd, name: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let always = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o644);
    rustix::fs::openat(directory, name.as_os_str().as_bytes(), always | flags, mode)
}

fn written(file: OwnedFd) -> io::Result<File> {
    let mut file = File::from(file);
    file.write_all(content().as_bytes())?;
    Ok(file)
}

fn content() -> String {
    format!("{}\n", std::process::id())
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

fn in_its_place(found: FileType) -> io::Error {
    let what = match found {
        FileType::Symlink => "a link",
        FileType::Directory => "a directory",
        _ => "a file of another kind",
    };
    let text = format!("{what} has this path, and it is not followed or replaced");
    io::Error::new(io::ErrorKind::AlreadyExists, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

    #[test]
    fn the_file_has_the_id_and_goes_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("site.pid");
        fs::write(&path, "123456789012345 of another server").unwrap();
        let file = PidFile::write(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), content());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o644);
        drop(file);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_was_handed_over_gets_the_id_of_its_new_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("site.pid");
        let first = PidFile::write(&path).unwrap();
        let (_, descriptors) = first.share().unwrap();
        let [directory, file] =
            descriptors.map(|descriptor| descriptor.try_clone_to_owned().unwrap());
        let mut second = PidFile::of(&path, directory, file).unwrap();
        fs::write(&path, "123456789012345\n").unwrap();
        second.claim().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), content());
        fs::write(&path, "1\n").unwrap();
        // In a directory that this process may not change, the file itself is written to.
        second.path = PathBuf::from("/absent/site.pid");
        second.claim().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), content());
        drop(first);
        assert!(path.exists(), "the first one has another inode");
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_of_another_server_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("site.pid");
        let file = PidFile::write(&path).unwrap();
        fs::write(&path, "1\n").unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
        let file = PidFile::write(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, content()).unwrap();
        // A later file may have the same inode: then it is as good as ours.
        let is_same =
            fs::metadata(&path).unwrap().ino() == file.written.as_ref().unwrap().identity.1;
        drop(file);
        assert_eq!(path.exists(), !is_same);
    }

    #[test]
    fn links_are_neither_followed_nor_replaced_and_other_names_of_a_file_keep_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "content").unwrap();
        let link = dir.path().join("link.pid");
        symlink(&victim, &link).unwrap();
        let error = PidFile::write(&link).unwrap_err();
        assert!(error.to_string().starts_with("a link has"), "{error}");
        symlink(dir.path().join("absent"), dir.path().join("dangling.pid")).unwrap();
        PidFile::write(&dir.path().join("dangling.pid")).unwrap_err();
        assert!(!dir.path().join("absent").exists());
        let hard = dir.path().join("hard.pid");
        fs::hard_link(&victim, &hard).unwrap();
        let file = PidFile::write(&hard).unwrap();
        assert_eq!(fs::read_to_string(&hard).unwrap(), content());
        drop(file);
        assert_eq!(fs::read_to_string(&victim).unwrap(), "content");
        assert!(link.is_symlink());
    }

    #[test]
    fn what_an_attacker_has_put_in_the_place_of_the_temporary_file_is_not_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "content").unwrap();
        let temporary = format!(".site.pid.{}", std::process::id());
        symlink(&victim, dir.path().join(&temporary)).unwrap();
        let path = dir.path().join("site.pid");
        let _file = PidFile::write(&path).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "content");
        assert_eq!(fs::read_to_string(&path).unwrap(), content());
    }

    #[test]
    fn root_follows_no_link_to_the_directory_that_another_user_can_change() {
        if !rustix::process::geteuid().is_root() {
            skipped();
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let theirs = dir.path().join("theirs");
        fs::create_dir(&theirs).unwrap();
        fs::create_dir(dir.path().join("ours")).unwrap();
        symlink(dir.path().join("ours"), theirs.join("run")).unwrap();
        chown(&theirs, Some(64_321), None).unwrap();
        let error = PidFile::write(&theirs.join("run/site.pid")).unwrap_err();
        assert!(error.to_string().contains("is a link"), "{error}");
        assert!(!dir.path().join("ours/site.pid").exists());
        // In the directory itself it is a new file.
        PidFile::write(&theirs.join("site.pid")).unwrap();
    }

    #[allow(clippy::disallowed_macros, reason = "the message of a test")]
    fn skipped() {
        eprintln!("skipped: directories of other users, because this is not root");
    }

    #[test]
    fn devices_are_written_to_and_stay() {
        drop(PidFile::write(Path::new("/dev/null")).unwrap());
        assert!(fs::metadata("/dev/null").is_ok());
        PidFile::write(Path::new("/dev/absent/site.pid")).unwrap_err();
        PidFile::write(Path::new("/")).unwrap_err();
    }
}
