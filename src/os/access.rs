//! Checks what this process may reach in the file system, one path component at a time.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Access, access};
use rustix::io::Errno;

/// The kind of access that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessKind {
    /// Execute a program.
    Execute,
    /// Read a file.
    Read,
    /// List a directory and look files up in it.
    Search,
}

/// Why a path cannot be used: a permission that this user does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("uid {uid} may not {what} {path} (mode {mode:04o}, owned by uid {owner})", path = at.display())]
pub struct AccessDenied {
    /// The path component at which access ends.
    pub at: PathBuf,
    uid: u32,
    what: &'static str,
    mode: u32,
    owner: u32,
}

/// Links that are followed: the kernel's own number.
const MOST_LINKS: usize = 40;

/// Returns the path component whose permissions keep this process from using the absolute `path`.
/// `None`: no permission does; the file may still be missing.
pub fn obstacle(path: &Path, wanted: AccessKind) -> Option<AccessDenied> {
    let mut here = PathBuf::from("/");
    let mut names = names_of(path.as_os_str());
    let mut links = 0;
    while let Some(name) = names.pop_front() {
        if is_denied(&here, Access::EXEC_OK) {
            return Some(of(here, "search"));
        }
        if name == ".." {
            here.pop();
            continue;
        }
        let next = here.join(&name);
        match rustix::fs::readlink(&next, Vec::new()) {
            Ok(target) if links < MOST_LINKS => {
                links += 1;
                let target = OsString::from_vec(target.into_bytes());
                if Path::new(&target).is_absolute() {
                    here = PathBuf::from("/");
                }
                let mut rest = names_of(&target);
                rest.append(&mut names);
                names = rest;
            }
            // No link.
            Err(Errno::INVAL) => here = next,
            Ok(_) | Err(_) => return None,
        }
    }
    let (access, what) = match wanted {
        AccessKind::Execute => (Access::EXEC_OK, "execute"),
        AccessKind::Read => (Access::READ_OK, "read"),
        AccessKind::Search => (Access::READ_OK | Access::EXEC_OK, "read and search"),
    };
    is_denied(&here, access).then(|| of(here, what))
}

fn is_denied(path: &Path, wanted: Access) -> bool {
    access(path, wanted) == Err(Errno::ACCESS)
}

fn of(at: PathBuf, what: &'static str) -> AccessDenied {
    let metadata = std::fs::metadata(&at).ok();
    AccessDenied {
        uid: rustix::process::getuid().as_raw(),
        what,
        mode: metadata
            .as_ref()
            .map_or(0, |metadata| metadata.mode() & 0o7777),
        owner: metadata.map_or(0, |metadata| metadata.uid()),
        at,
    }
}

fn names_of(path: &OsStr) -> VecDeque<OsString> {
    let components = Path::new(OsStr::from_bytes(path.as_bytes())).components();
    components
        .filter(|component| matches!(component, Component::Normal(_) | Component::ParentDir))
        .map(|component| component.as_os_str().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_used_and_what_is_missing_has_no_obstacle() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("link", &link).unwrap();
        assert_eq!(obstacle(&file, AccessKind::Read), None);
        assert_eq!(obstacle(directory.path(), AccessKind::Search), None);
        assert_eq!(
            obstacle(&directory.path().join("missing"), AccessKind::Read),
            None
        );
        assert_eq!(obstacle(&link, AccessKind::Read), None, "a loop");
        // Root may not execute a file without any execute permission either.
        let denied = obstacle(&file, AccessKind::Execute).unwrap();
        assert_eq!(denied.at, file.canonicalize().unwrap());
        assert!(denied.to_string().contains("may not execute"), "{denied}");
    }
}
