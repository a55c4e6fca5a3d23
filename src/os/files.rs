//! Opens files beneath a directory, so that no name and no link leads out of it.
//!
//! The kernel does it race-free where it can (`openat2` with `RESOLVE_BENEATH`, Linux 5.6);
//! elsewhere, and for links that leave, we walk name by name and resolve links ourselves.
//! Both give the same answer: links that stay inside, or lead into a directory that was
//! declared, are followed; all others are [`Errno::XDEV`]. What may be served is not decided here:
//! the caller names what is hidden ([`Hides`]), and no link leads there.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// A directory held open, out of which [`Root::open_file`] leads only by links, and only
/// into directories that were declared.
#[derive(Debug)]
pub struct Root<'a> {
    directory: OwnedFd,
    path: &'a Path,
    declared: &'a [PathBuf],
    hides: Option<Hides<'a>>,
}

/// Present path and length of an open file, for messages. Never waits for a disk: the name is
/// that of `/proc`, and the kernel keeps the length of an open file.
pub fn describe(file: &File) -> (PathBuf, u64) {
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    let path = rustix::fs::readlink(link, Vec::new());
    let path = path.map_or_else(
        |_| OsString::new(),
        |path| OsString::from_vec(path.into_bytes()),
    );
    let length = rustix::fs::fstat(file).map_or(0, |stat| stat.st_size.unsigned_abs());
    (path.into(), length)
}

/// Names that links must not lead to.
#[derive(Debug, Clone, Copy)]
pub struct Hides<'a> {
    /// True if a name on the way is hidden; the second argument says whether it is the last.
    pub is_hidden: fn(&OsStr, bool) -> bool,
    /// Declared directories in which only the last name counts.
    pub but_in: &'a [PathBuf],
}

impl<'a> Root<'a> {
    /// Opens the directory itself; links in `path` are followed, it is trusted. Links inside
    /// may lead into the `declared` directories, and to nothing that is hidden.
    ///
    /// # Errors
    /// The error of `open`: the directory is missing, is none, or may not be searched.
    pub fn open(
        path: &'a Path,
        declared: &'a [PathBuf],
        hides: Option<Hides<'a>>,
    ) -> io::Result<Self> {
        Ok(Self {
            directory: open_directory(path)?,
            path,
            declared,
            hides,
        })
    }

    /// Opens `relative` for reading, without ever waiting for a FIFO or a device.
    ///
    /// The caller looks at what kind of file it got. An empty `relative` is the directory.
    ///
    /// # Errors
    /// The error of `open`, and [`Errno::XDEV`] for a path or link that leads to what is
    /// neither inside nor declared.
    pub fn open_file(&self, relative: &Path) -> io::Result<File> {
        if KERNEL_RESOLVES.load(Ordering::Relaxed) {
            match self.open_by_kernel(relative) {
                // An absolute link. It may still point to the inside: the walk knows.
                Err(Errno::XDEV) => {}
                // A link: only the walk sees the names that it leads through.
                Err(Errno::LOOP) if self.hides.is_some() => {}
                // Something was renamed meanwhile, and more often than we try again.
                Err(Errno::AGAIN) => {}
                // Before Linux 5.6, or forbidden by a system call filter; older container
                // engines answer EPERM for calls that they do not know. openat2 itself
                // says so only for O_NOATIME, which we do not use.
                Err(Errno::NOSYS | Errno::PERM) => KERNEL_RESOLVES.store(false, Ordering::Relaxed),
                outcome => return Ok(File::from(outcome?)),
            }
        }
        Ok(File::from(self.open_by_walking(relative)?))
    }

    fn open_by_kernel(&self, relative: &Path) -> rustix::io::Result<OwnedFd> {
        let path = if relative.as_os_str().is_empty() {
            Path::new(".")
        } else {
            relative
        };
        let links = match self.hides {
            Some(_) => ResolveFlags::NO_SYMLINKS,
            None => ResolveFlags::NO_MAGICLINKS,
        };
        let resolve = ResolveFlags::BENEATH | links;
        let mut outcome = Err(Errno::AGAIN);
        for _ in 0..KERNEL_ATTEMPTS {
            outcome =
                rustix::fs::openat2(&self.directory, path, READ_FLAGS, Mode::empty(), resolve);
            if !matches!(outcome, Err(Errno::AGAIN | Errno::INTR)) {
                break;
            }
        }
        outcome
    }

    /// Resolves like the kernel, but opens one name at a time and never through a link.
    /// `..` in a link goes back along the directories that we hold open, not through the
    /// file system, so a directory moved meanwhile does not lead outside.
    fn open_by_walking(&self, relative: &Path) -> rustix::io::Result<OwnedFd> {
        let mut names = names_of(relative.as_os_str());
        // The declared directory that a link led into, if any; `parents` are below it.
        let mut base: Option<(OwnedFd, &Path)> = None;
        let mut parents: Vec<OwnedFd> = Vec::new();
        let mut links = 0;
        while let Some(name) = names.pop_front() {
            let base_fd = base
                .as_ref()
                .map_or(self.directory.as_fd(), |(fd, _)| fd.as_fd());
            let here = parents.last().map_or(base_fd, AsFd::as_fd);
            let outside = if name == ".." {
                if parents.pop().is_some() {
                    continue;
                }
                if links == 0 {
                    return Err(Errno::XDEV);
                }
                let base = base.as_ref().map_or(self.path, |(_, path)| path);
                let base = base.canonicalize().map_err(|_| Errno::XDEV)?;
                names.push_front(name);
                without_dots(&base, std::mem::take(&mut names))
            } else {
                let base = base.as_ref().map_or(self.path, |(_, path)| path);
                if self.is_hidden(base, &name, names.is_empty()) {
                    return Err(Errno::NOENT);
                }
                let found = open_without_following(here, &name, OFlags::PATH)?;
                match FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode) {
                    FileType::Symlink => {
                        links += 1;
                        if links > MAX_LINKS {
                            return Err(Errno::LOOP);
                        }
                        let target = rustix::fs::readlinkat(&found, "", Vec::new())?;
                        let target = OsString::from_vec(target.into_bytes());
                        let mut followed = names_of(&target);
                        followed.append(&mut names);
                        if !Path::new(&target).is_absolute() {
                            names = followed;
                            continue;
                        }
                        without_dots(Path::new("/"), followed)
                    }
                    FileType::Directory => {
                        parents.push(found);
                        continue;
                    }
                    _ if !names.is_empty() => return Err(Errno::NOTDIR),
                    _ => return open_without_following(here, &name, READ_FLAGS),
                }
            };
            let (root, rest) = self.declared_for(&outside).ok_or(Errno::XDEV)?;
            base = Some((open_directory(root)?, root));
            parents.clear();
            names = names_of(rest.as_os_str());
        }
        let base_fd = base
            .as_ref()
            .map_or(self.directory.as_fd(), |(fd, _)| fd.as_fd());
        let here = parents.last().map_or(base_fd, AsFd::as_fd);
        open_without_following(here, OsStr::new("."), READ_FLAGS)
    }

    /// True if a name in `base`, or below it, is hidden.
    fn is_hidden(&self, base: &Path, name: &OsStr, is_last: bool) -> bool {
        self.hides.is_some_and(|hides| {
            let counts = is_last || !hides.but_in.iter().any(|dir| dir == base);
            counts && (hides.is_hidden)(name, is_last)
        })
    }

    /// The root or declared directory that an absolute path is in, and what follows it. A
    /// directory goes by two names: the one it was given by and, if links are in that, the
    /// one it has without them.
    fn declared_for(&self, target: &Path) -> Option<(&'a Path, PathBuf)> {
        let roots = || std::iter::once(self.path).chain(self.declared.iter().map(PathBuf::as_path));
        let below = |root: &Path| target.strip_prefix(root).map(Path::to_path_buf).ok();
        roots()
            .find_map(|root| Some((root, below(root)?)))
            .or_else(|| roots().find_map(|root| Some((root, below(&root.canonicalize().ok()?)?))))
    }
}

/// True if `relative` is known not to exist below `directory`, by what the kernel remembers:
/// this never waits for a disk (`RESOLVE_CACHED`, Linux 5.12). `false`: it may exist.
pub fn is_surely_absent(directory: &Path, relative: &Path) -> bool {
    let find = |at: BorrowedFd<'_>, path: &Path, resolve| {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        rustix::fs::openat2(
            at,
            path,
            flags,
            Mode::empty(),
            resolve | ResolveFlags::CACHED,
        )
    };
    let Ok(root) = find(CWD, directory, ResolveFlags::empty()) else {
        return false;
    };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    matches!(find(root.as_fd(), relative, resolve), Err(Errno::NOENT))
}

/// Opens `relative` below `directory` for reading if the kernel can resolve the path from memory
/// (`RESOLVE_CACHED`, Linux 5.12), so that the lookup never waits for a disk. Links are followed in
/// `directory` alone; so the file is the one that [`Root::open_file`] opens, with the same flags.
/// `None`: that function has to be asked.
///
/// Opening waits only on file systems that ask a server ([`opens_locally`]). `relative` has no `..`.
pub fn open_cached(directory: &Path, relative: &Path) -> Option<File> {
    let resolve = ResolveFlags::CACHED | ResolveFlags::NO_SYMLINKS;
    let open = |at: BorrowedFd<'_>, path: &Path, beneath| {
        rustix::fs::openat2(at, path, READ_FLAGS, Mode::empty(), resolve | beneath)
    };
    // One call where there are no links, which is usual.
    let opened = match open(CWD, &directory.join(relative), ResolveFlags::empty()) {
        Err(Errno::LOOP) => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let cached = ResolveFlags::CACHED;
            let root = rustix::fs::openat2(CWD, directory, flags, Mode::empty(), cached).ok()?;
            open(root.as_fd(), relative, ResolveFlags::BENEATH)
        }
        opened => opened,
    };
    opened.ok().map(File::from)
}

/// True if the file system of `file` is known to open files without asking a server: neither a
/// network file system nor FUSE.
pub fn opens_locally(file: &File) -> bool {
    // By number (linux/magic.h, statfs(2)): ext2 to ext4, XFS, Btrfs, F2FS, tmpfs, overlay, ZFS,
    // bcachefs, SquashFS, EROFS.
    const LOCAL: [u32; 10] = [
        0xEF53,
        0x5846_5342,
        0x9123_683E,
        0xF2F5_2010,
        0x0102_1994,
        0x794C_7630,
        0x2FC1_2FC1,
        0xCA45_1A4E,
        0x7371_7368,
        0xE0F5_E1E2,
    ];
    let kind = rustix::fs::fstatfs(file).map(|status| status.f_type as u32);
    kind.is_ok_and(|kind| LOCAL.contains(&kind))
}

/// `base` and `names` as one path whose dots have been applied, as written.
fn without_dots(base: &Path, names: VecDeque<OsString>) -> PathBuf {
    let mut path = base.to_owned();
    for name in names {
        if name == ".." {
            path.pop();
        } else {
            path.push(name);
        }
    }
    path
}

fn open_directory(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

/// The components of `path`. `.` and empty names are left out; `..` is kept.
fn names_of(path: &OsStr) -> VecDeque<OsString> {
    path.as_bytes()
        .split(|&byte| byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
        .map(|name| OsStr::from_bytes(name).to_owned())
        .collect()
}

fn open_without_following(
    directory: BorrowedFd<'_>,
    name: &OsStr,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::empty())
}

/// NONBLOCK: opening a FIFO does not wait for its writer. NOCTTY: opening a terminal does
/// not make it ours.
const READ_FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// As many links as Linux follows in one path (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// openat2(2) asks for a retry when something was renamed while it resolved `..`.
const KERNEL_ATTEMPTS: usize = 4;

/// False once `openat2` was found missing. One answer for the whole process.
static KERNEL_RESOLVES: AtomicBool = AtomicBool::new(true);

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;

    /// Opens `relative` both ways; they must agree. The content, `directory`, or the error.
    fn check(root: &Path, relative: &str, expected: Result<&str, Errno>) {
        check_with(root, &[], relative, expected);
    }

    fn check_with(
        root: &Path,
        declared: &[PathBuf],
        relative: &str,
        expected: Result<&str, Errno>,
    ) {
        let root = Root::open(root, declared, None).unwrap();
        let walked = root.open_by_walking(Path::new(relative)).map(File::from);
        let opened = root.open_file(Path::new(relative));
        for outcome in [walked.map_err(io::Error::from), opened] {
            let outcome = outcome.map(|mut file| {
                if file.metadata().unwrap().is_dir() {
                    return "directory".to_owned();
                }
                let mut text = String::new();
                file.read_to_string(&mut text).unwrap();
                text
            });
            let outcome = outcome.map_err(|error| error.raw_os_error().unwrap());
            let expected = expected.map(str::to_owned).map_err(Errno::raw_os_error);
            assert_eq!(outcome, expected, "{relative}");
        }
    }

    fn tree() -> (tempfile::TempDir, PathBuf) {
        let outside = tempfile::tempdir().unwrap();
        let root = outside.path().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/file"), "inside").unwrap();
        fs::write(outside.path().join("secret"), "outside").unwrap();
        (outside, root)
    }

    #[test]
    fn files_and_directories_beneath_open() {
        let (_keep, root) = tree();
        check(&root, "a/file", Ok("inside"));
        check(&root, "a", Ok("directory"));
        check(&root, "", Ok("directory"));
        check(&root, "a/none", Err(Errno::NOENT));
        check(&root, "a/file/more", Err(Errno::NOTDIR));
        check(&root, &"x".repeat(300), Err(Errno::NAMETOOLONG));
    }

    /// A file system may forget that something was not there, so only one answer is sure.
    #[test]
    fn what_is_surely_absent_does_not_exist() {
        let (_keep, root) = tree();
        symlink("a/file", root.join("link")).unwrap();
        for path in [
            "a/file",
            "a",
            "link",
            "a/none",
            "none",
            "../secret",
            "a/file/x",
        ] {
            let look = || is_surely_absent(&root, Path::new(path));
            look();
            let exists = root.join(path).exists();
            assert!(!(look() && exists), "{path}");
        }
        let late = || is_surely_absent(&root, Path::new("late"));
        late();
        fs::write(root.join("late"), "late").unwrap();
        assert!(!late());
        assert!(!is_surely_absent(&root.join("none"), Path::new("a")));
    }

    #[test]
    fn nothing_leads_outside() {
        let (_keep, root) = tree();
        symlink("../secret", root.join("up")).unwrap();
        symlink("../../../../../../../etc/passwd", root.join("a/far")).unwrap();
        symlink(root.parent().unwrap().join("secret"), root.join("absolute")).unwrap();
        symlink(root.parent().unwrap(), root.join("out")).unwrap();
        symlink("/", root.join("slash")).unwrap();
        symlink(root.join("../secret"), root.join("sly")).unwrap();
        for path in [
            "../secret",
            "a/../../secret",
            "up",
            "a/far",
            "absolute",
            "out/secret",
            "out",
            "slash/etc/passwd",
            "sly",
        ] {
            check(&root, path, Err(Errno::XDEV));
        }
    }

    #[test]
    fn links_that_stay_inside_are_followed() {
        let (_keep, root) = tree();
        symlink("file", root.join("a/same")).unwrap();
        symlink("../file", root.join("a/b/up")).unwrap();
        symlink("a/b/../../a", root.join("winding")).unwrap();
        symlink(root.join("a"), root.join("absolute")).unwrap();
        symlink("absolute/same", root.join("chain")).unwrap();
        symlink(root.parent().unwrap(), root.join("out")).unwrap();
        for path in [
            "a/same",
            "a/b/up",
            "winding/file",
            "absolute/file",
            "chain",
            "absolute/b/up",
            "out/root/a/file",
        ] {
            check(&root, path, Ok("inside"));
        }
        symlink("loop", root.join("loop")).unwrap();
        check(&root, "loop", Err(Errno::LOOP));
    }

    #[test]
    fn links_may_lead_into_declared_directories_and_stay_there() {
        let (keep, root) = tree();
        let other = keep.path().join("other");
        fs::create_dir_all(other.join("deep")).unwrap();
        fs::write(other.join("deep/file"), "other").unwrap();
        symlink(other.join("deep/file"), root.join("absolute")).unwrap();
        symlink("../../other/deep", root.join("a/relative")).unwrap();
        symlink("../file", other.join("deep/up")).unwrap();
        fs::write(other.join("file"), "above").unwrap();
        symlink("../../secret", other.join("deep/out")).unwrap();
        symlink("../root/a/file", other.join("back")).unwrap();
        let by_link = keep.path().join("by_link");
        symlink(&other, &by_link).unwrap();
        for declared in [other, by_link] {
            let declared = [declared];
            for (path, expected) in [
                ("absolute", Ok("other")),
                ("a/relative/file", Ok("other")),
                ("a/relative", Ok("directory")),
                ("a/relative/up", Ok("above")),
                ("a/relative/out", Err(Errno::XDEV)),
                ("a/relative/none", Err(Errno::NOENT)),
                ("../other/file", Err(Errno::XDEV)),
            ] {
                check_with(&root, &declared, path, expected);
            }
        }
        check(&root, "absolute", Err(Errno::XDEV));
        check(&root, "a/relative/file", Err(Errno::XDEV));
        let back = root.join("round");
        symlink(keep.path().join("other/back"), back).unwrap();
        check_with(&root, &[keep.path().join("other")], "round", Ok("inside"));
    }

    #[test]
    fn no_link_leads_to_a_hidden_name() {
        let (keep, root) = tree();
        let other = keep.path().join("other");
        for (dir, name) in [
            (root.join(".git"), "config"),
            (root.join("..data"), "file"),
            (root.clone(), ".env"),
            (other.join(".kept"), "file"),
            (other.clone(), ".env"),
        ] {
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join(name), "inside").unwrap();
        }
        let links = [
            (".env", "plain", false),
            ("plain", "chain", false),
            (".git/config", "config", false),
            (".git", "repository", false),
            ("a/../.env", "winding", false),
            ("../root/.env", "around", false),
            ("../other/.env", "elsewhere", false),
            ("../other/.kept/file", "kept", true),
            ("..data/file", "mounted", true),
            ("a/file", "visible", true),
        ];
        for (target, link, _) in links {
            symlink(target, root.join(link)).unwrap();
        }
        symlink(root.join(".env"), root.join("absolute")).unwrap();
        let declared = [other];
        let hides = |but_in| Hides {
            is_hidden: |name, is_last| {
                let name = name.as_bytes();
                name.starts_with(b".") && (is_last || !name.starts_with(b".."))
            },
            but_in,
        };
        let opens_but_in = |but_in, path: &str| {
            let root = Root::open(&root, &declared, Some(hides(but_in))).unwrap();
            let walked = root.open_by_walking(Path::new(path)).map(drop);
            let opened = root.open_file(Path::new(path)).map(drop);
            assert_eq!(walked.is_ok(), opened.is_ok(), "{path}");
            opened.is_ok()
        };
        let opens = |path| opens_but_in(&[], path);
        for (_, link, expected) in links {
            assert_eq!(opens_but_in(&declared, link), expected, "{link}");
        }
        assert!(
            !opens("kept") && !opens("absolute") && !opens("repository/config") && opens("a/file")
        );
    }

    #[test]
    fn the_root_may_itself_be_a_link() {
        let (keep, root) = tree();
        let link = keep.path().join("current");
        symlink(&root, &link).unwrap();
        symlink(root.join("a/file"), root.join("by_real_name")).unwrap();
        symlink(link.join("a/file"), root.join("by_link_name")).unwrap();
        for path in ["a/file", "by_real_name", "by_link_name"] {
            check(&link, path, Ok("inside"));
        }
    }
}
