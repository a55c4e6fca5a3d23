//! Opens directories and files for root without being led astray by other users.
//!
//! The path is walked name by name, by descriptors. A link is followed only if root alone could
//! have made it, and `..` only out of a directory that root alone could have put there: then
//! no other user decides where the path leads.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};

const FLAGS: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Links that are followed: the kernel's own number.
const MOST_LINKS: usize = 40;

/// Opens `path`. For a process that is not root this is `open`: it can reach nothing that its
/// user could not.
///
/// # Errors
/// The error of the system call; `PermissionDenied` with a text for a link of another user.
pub fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    if !rustix::process::geteuid().is_root() {
        let flags = FLAGS.difference(OFlags::NOFOLLOW);
        return Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?);
    }
    walk(path).map(|found| found.directory)
}

/// Opens the file `path` as [`open_directory`] does its directory. The file itself may be a link
/// as well, such as `/dev/stdout`.
///
/// # Errors
/// The error of the system call; one with a text for a link of another user, also for a hard link
/// in the directory of another user.
fn open_file(path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    let mut path = path.to_owned();
    if !rustix::process::geteuid().is_root() {
        return Ok(rustix::fs::openat(CWD, &path, flags, mode)?);
    }
    for _ in 0..MOST_LINKS {
        // Links whose text is no path; they lead to descriptors of this process.
        if OWN_DESCRIPTORS.iter().any(|place| path.starts_with(place)) {
            return Ok(rustix::fs::openat(CWD, &path, flags, mode)?);
        }
        let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
        let Found {
            directory,
            is_placed_by_others,
        } = walk(parent(&path))?;
        let is_others = |stat: &Stat| -> io::Result<bool> {
            let directory = rustix::fs::fstat(&directory)?;
            Ok(is_placed_by_others || is_changed_by_others(&directory, stat))
        };
        let there = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW);
        if let Ok(stat) = there
            && FileType::from_raw_mode(stat.st_mode) == FileType::Symlink
        {
            if is_others(&stat)? {
                return Err(refused(&path, "is a link"));
            }
            let target = rustix::fs::readlinkat(&directory, name, Vec::new())?;
            path = parent(&path).join(OsStr::from_bytes(target.as_bytes()));
            continue;
        }
        let file = rustix::fs::openat(&directory, name, flags | OFlags::NOFOLLOW, mode)?;
        let stat = rustix::fs::fstat(&file)?;
        let is_regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if is_regular && stat.st_nlink > 1 && is_others(&stat)? {
            return Err(refused(&path, "is a hard link"));
        }
        return Ok(file);
    }
    Err(rustix::io::Errno::LOOP.into())
}

/// Opens a file for appending, or creates it with the permissions of the umask, by [`open_file`].
/// A FIFO without a reader is an error, not a wait.
///
/// # Errors
/// As [`open_file`].
pub fn open_to_append(path: &Path, besides: OFlags) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NONBLOCK;
    open_file(path, flags | besides, Mode::from_raw_mode(0o666)).map(File::from)
}

/// Directories of links to the descriptors of the process that opens them. Root alone can change
/// these paths.
const OWN_DESCRIPTORS: [&str; 2] = ["/proc/self/fd", "/dev/fd"];

/// The directory of a path, for [`open_directory`].
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// True if a user other than root can put another directory in the place of this one, or of one
/// on the way to it, while this process is root.
///
/// # Errors
/// As [`open_directory`].
pub fn is_placed_by_others(path: &Path) -> io::Result<bool> {
    Ok(rustix::process::geteuid().is_root() && walk(path)?.is_placed_by_others)
}

/// A directory at the end of a path.
struct Found {
    directory: OwnedFd,
    /// Another user decided that this directory is the one of its path.
    is_placed_by_others: bool,
}

fn walk(path: &Path) -> io::Result<Found> {
    let mut names = names_of(path.as_os_str());
    // For messages alone.
    let mut here = PathBuf::new();
    let mut directory = rustix::fs::openat(CWD, ".", FLAGS, Mode::empty())?;
    let mut is_placed_by_others = false;
    let mut links = 0;
    while let Some(name) = names.pop_front() {
        let next = here.join(&name);
        if name == "/" {
            directory = rustix::fs::openat(CWD, "/", FLAGS, Mode::empty())?;
            (here, is_placed_by_others) = (next, false);
            continue;
        }
        let stat = rustix::fs::statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        if name == ".." && is_placed_by_others {
            return Err(refused(&next, "leads out of a directory"));
        }
        let is_others =
            name != ".." && is_changed_by_others(&rustix::fs::fstat(&directory)?, &stat);
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            if is_others || is_placed_by_others {
                return Err(refused(&next, "is a link"));
            }
            links += 1;
            if links > MOST_LINKS {
                return Err(rustix::io::Errno::LOOP.into());
            }
            let target = rustix::fs::readlinkat(&directory, &name, Vec::new())?;
            let mut rest = names_of(&OsString::from_vec(target.into_bytes()));
            rest.append(&mut names);
            names = rest;
            continue;
        }
        // What has become a link since is refused by the flag.
        directory = rustix::fs::openat(&directory, &name, FLAGS, Mode::empty())?;
        here = next;
        is_placed_by_others |= is_others;
    }
    Ok(Found {
        directory,
        is_placed_by_others,
    })
}

/// True if a user other than root can put something else in the place of this entry: the
/// permissions of its directory decide, and in a sticky directory the owner of the entry.
/// The bits of the group include what access control lists allow (acl(5)).
fn is_changed_by_others(directory: &Stat, entry: &Stat) -> bool {
    const STICKY: u32 = 0o1000;
    const GROUP_AND_OTHERS_WRITE: u32 = 0o022;
    if directory.st_uid != 0 {
        return true;
    }
    let is_writable = directory.st_mode & GROUP_AND_OTHERS_WRITE != 0;
    let is_protected = directory.st_mode & STICKY != 0 && entry.st_uid == 0;
    is_writable && !is_protected
}

fn refused(path: &Path, what: &str) -> io::Error {
    let text = format!(
        "{} {what} that a user other than root can change, and root does not follow it (give the path that it leads to)",
        path.display()
    );
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

fn names_of(path: &OsStr) -> VecDeque<OsString> {
    let components = Path::new(OsStr::from_bytes(path.as_bytes())).components();
    components
        .filter(|component| !matches!(component, Component::CurDir))
        .map(|component| component.as_os_str().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};

    const OTHER: u32 = 64_321;

    /// A directory below which `theirs` belongs to another user, `sticky` is open to all, and
    /// `ours` only root can write to.
    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, mode) in [
            ("theirs", 0o755),
            ("sticky", 0o1777),
            ("ours", 0o755),
            ("group", 0o775),
        ] {
            fs::create_dir_all(dir.path().join(name).join("sub")).unwrap();
            fs::set_permissions(dir.path().join(name), Permissions::from_mode(mode)).unwrap();
            symlink(dir.path().join("ours"), dir.path().join(name).join("link")).unwrap();
            symlink("../ours", dir.path().join(name).join("relative")).unwrap();
        }
        chown(dir.path().join("theirs"), Some(OTHER), None).unwrap();
        symlink("ours", dir.path().join("sticky/of-other")).unwrap();
        lchown(dir.path().join("sticky/of-other"), Some(OTHER), None).unwrap();
        symlink("theirs/link", dir.path().join("indirect")).unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        dir
    }

    #[test]
    #[allow(clippy::disallowed_macros, reason = "the message of a test")]
    fn root_follows_the_links_that_root_alone_can_make() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: links of other users, because this is not root");
            return;
        }
        let dir = tree();
        let same = |path: &str, expected: &str| {
            let opened = open_directory(&dir.path().join(path))
                .unwrap_or_else(|error| panic!("{path}: {error}"));
            let expected = rustix::fs::stat(dir.path().join(expected)).unwrap();
            assert_eq!(
                rustix::fs::fstat(opened).unwrap().st_ino,
                expected.st_ino,
                "{path}"
            );
        };
        for (path, expected) in [
            ("ours/sub", "ours/sub"),
            ("theirs/sub", "theirs/sub"),
            ("ours/link/sub", "ours/sub"),
            ("ours/relative/../ours", "ours"),
            ("sticky/link", "ours"),
            ("sticky/sub/..", "sticky"),
            ("./theirs/../ours/./sub", "ours/sub"),
        ] {
            same(path, expected);
        }
        for path in [
            "theirs/link",
            "theirs/link/sub",
            "theirs/relative",
            "theirs/sub/..",
            "group/link",
            "sticky/of-other",
            "indirect",
            "ours/../theirs/link",
        ] {
            let error = open_directory(&dir.path().join(path)).unwrap_err();
            assert!(
                error.to_string().contains("other than root"),
                "{path}: {error}"
            );
        }
        let kind = |path: &str| open_directory(&dir.path().join(path)).unwrap_err().kind();
        assert_eq!(kind("ours/missing"), io::ErrorKind::NotFound);
        assert_eq!(
            kind("loop"),
            io::Error::from(rustix::io::Errno::LOOP).kind()
        );
    }

    #[test]
    #[allow(clippy::disallowed_macros, reason = "the message of a test")]
    fn root_appends_to_files_that_no_other_user_has_led_it_to() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: links of other users, because this is not root");
            return;
        }
        let dir = tree();
        let path = |name: &str| dir.path().join(name);
        let append = |path: &Path| open_to_append(path, OFlags::empty());
        fs::write(path("ours/file"), "").unwrap();
        for (place, target) in [("ours/new", "ours/made"), ("indirect-file", "ours/new")] {
            symlink(path(target), path(place)).unwrap();
        }
        symlink("../ours/file", path("theirs/to-file")).unwrap();
        symlink("theirs/to-file", path("to-theirs")).unwrap();
        fs::hard_link(path("ours/file"), path("theirs/hard")).unwrap();
        fs::hard_link(path("ours/file"), path("ours/hard")).unwrap();
        for name in [
            "theirs/own",
            "ours/hard",
            "indirect-file",
            "ours/link/other",
        ] {
            append(&path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        assert!(path("ours/made").exists(), "a link of root may dangle");
        for device in ["/dev/null", "/dev/stderr", "/dev/fd/2", "/proc/self/fd/2"] {
            // A socket cannot be opened, with or without links.
            if File::options().append(true).open(device).is_ok() {
                append(Path::new(device)).unwrap_or_else(|error| panic!("{device}: {error}"));
            }
        }
        for name in [
            "theirs/to-file",
            "to-theirs",
            "theirs/hard",
            "theirs/link/x",
        ] {
            let error = append(&path(name)).unwrap_err().to_string();
            assert!(error.contains("other than root"), "{name}: {error}");
        }
    }
}
