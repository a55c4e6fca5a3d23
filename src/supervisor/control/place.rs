//! Paths of control sockets: for a server that opens one and for a client that looks for one.
//!
//! The file name is the process id of the server at its start, so that several servers may share a directory. The
//! directory is accessible to its user alone; one of that name that another user has made is not
//! used.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::io::Errno;

use crate::config::Control;
use crate::os::{sockets, trusted_path};

/// Prefix of the directories in shared places; the user id follows.
const PREFIX: &str = "pyserve-";

/// Paths at which a server may open its socket, best first: a path in a directory of this user, or
/// the reason why it is unusable. Creates the directories, and removes sockets of killed servers.
pub fn candidates(control: &Control) -> Vec<Result<PathBuf, String>> {
    if let Control::At(path) = control {
        return vec![Ok(path.clone())];
    }
    let directories = usual(control).into_iter();
    directories
        .map(|directory| match own(&directory) {
            Ok(()) => {
                sweep(&directory);
                Ok(free_name(&directory))
            }
            Err(error) => Err(format!("{}: {error}", directory.display())),
        })
        .collect()
}

/// Every socket path that a running server may have.
pub fn existing(control: &Control) -> Vec<PathBuf> {
    let temp_dir = match control {
        Control::Off => return Vec::new(),
        Control::At(path) => return vec![path.clone()],
        Control::Usual { temp_dir, .. } => temp_dir,
    };
    let mut places = usual(control);
    // Another user may have made a directory of this name, with their server in it.
    places.retain(|directory| check(directory).is_ok());
    if rustix::process::geteuid().is_root() {
        // Root may control the servers of all users.
        let others = entries(temp_dir).into_iter();
        places.extend(others.filter(|path| is_what_its_name_says(path)));
    }
    places.sort();
    places.dedup();
    let mut sockets: Vec<_> = places.iter().flat_map(|place| entries(place)).collect();
    sockets.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "sock")
    });
    sockets
}

/// The directories in which this user's servers open their sockets, best first.
pub fn usual(control: &Control) -> Vec<PathBuf> {
    let Control::Usual {
        runtime_dir,
        temp_dir,
    } = control
    else {
        return Vec::new();
    };
    let name = format!("{PREFIX}{}", rustix::process::geteuid().as_raw());
    let mut directories: Vec<_> = runtime_dir.iter().map(|dir| dir.join("pyserve")).collect();
    directories.push(temp_dir.join(name));
    directories
}

/// The path of a new socket. An upgraded server keeps the socket of a process that has ended, whose id this
/// process may have got.
fn free_name(directory: &Path) -> PathBuf {
    let pid = std::process::id();
    let others = (1..100).map(|number| directory.join(format!("{pid}-{number}.sock")));
    let first = directory.join(format!("{pid}.sock"));
    let mut all = std::iter::once(first.clone()).chain(others);
    all.find(|path| path.symlink_metadata().is_err())
        .unwrap_or(first)
}

/// Creates a directory for this user alone, or checks an existing one.
fn own(directory: &Path) -> io::Result<()> {
    let parent = trusted_path::open_directory(trusted_path::parent(directory))?;
    let name = directory.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
        Err(Errno::EXIST) => check(directory),
        made => Ok(made?),
    }
}

/// Checks that a directory exists and that only this user has access.
fn check(directory: &Path) -> io::Result<()> {
    // Links are not followed: another user may have made one.
    let meta = std::fs::symlink_metadata(directory)?;
    let is_ours = meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw();
    if !is_ours || meta.permissions().mode() & 0o077 != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "not a directory that only this user can access",
        ));
    }
    Ok(())
}

fn sweep(directory: &Path) {
    for path in entries(directory) {
        if sockets::is_abandoned(&path) {
            let _gone = std::fs::remove_file(&path);
        }
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// True if `pyserve-1000` is a directory for user 1000 alone.
fn is_what_its_name_says(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let Some(uid) = name
        .strip_prefix(PREFIX)
        .and_then(|uid| uid.parse::<u32>().ok())
    else {
        return false;
    };
    std::fs::symlink_metadata(path).is_ok_and(|meta| {
        meta.is_dir() && meta.uid() == uid && meta.permissions().mode() & 0o077 == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_takes_the_first_directory_that_is_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let uid = rustix::process::geteuid().as_raw();
        let control = Control::Usual {
            runtime_dir: Some(dir.path().join("missing")),
            temp_dir: dir.path().to_owned(),
        };
        let found = candidates(&control);
        assert!(found[0].is_err(), "its parent is not there");
        let name = format!("{PREFIX}{uid}/{}.sock", std::process::id());
        assert_eq!(found[1].as_ref().unwrap(), &dir.path().join(name));
        // Another server listens under this name.
        let taken = found[1].as_ref().unwrap();
        let _server = std::os::unix::net::UnixListener::bind(taken).unwrap();
        let again = candidates(&control).remove(1).unwrap();
        assert_eq!(
            again,
            dir.path()
                .join(format!("{PREFIX}{uid}/{}-1.sock", std::process::id()))
        );
        let made = std::fs::metadata(dir.path().join(format!("{PREFIX}{uid}"))).unwrap();
        assert_eq!(made.mode() & 0o777, 0o700);
    }

    #[test]
    fn a_directory_that_others_may_enter_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let shared = dir.path().join("shared");
        std::fs::create_dir(&shared).unwrap();
        std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(own(&shared).is_err());
        std::fs::remove_dir(&shared).unwrap();
        std::os::unix::fs::symlink("/tmp", &shared).unwrap();
        assert!(own(&shared).is_err());
    }

    #[test]
    fn a_directory_of_our_name_that_another_user_made_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let uid = rustix::process::geteuid().as_raw();
        let control = Control::Usual {
            runtime_dir: None,
            temp_dir: dir.path().to_owned(),
        };
        let place = dir.path().join(format!("{PREFIX}{uid}"));
        std::fs::create_dir(&place).unwrap();
        std::fs::write(place.join("1.sock"), "").unwrap();
        let allow = |mode| std::fs::set_permissions(&place, PermissionsExt::from_mode(mode));
        allow(0o700).unwrap();
        assert_eq!(existing(&control).len(), 1);
        allow(0o755).unwrap();
        assert!(existing(&control).is_empty());
    }

    #[test]
    fn with_control_off_no_socket_is_searched() {
        assert!(candidates(&Control::Off).is_empty());
        assert!(existing(&Control::Off).is_empty());
    }
}
