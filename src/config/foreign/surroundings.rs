//! The facts and files on which the meaning of a foreign file depends.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::config::{Environment, HostFacts};
use crate::os::identity;

/// The facts on which the meaning of a foreign file depends.
pub struct Surroundings<'a> {
    /// The environment.
    pub environment: &'a Environment,
    /// The current directory; absolute.
    pub current_dir: &'a Path,
    /// The name of the machine.
    pub hostname: String,
    /// The number of CPUs.
    pub cpus: usize,
    /// Number and name of the user that runs this.
    pub user: (u32, String),
    /// Number and name of its group.
    pub group: (u32, String),
    /// True if the server will be able to become another user.
    pub is_root: bool,
    /// True if the files are explained: they may be of another machine, whose directories are not here.
    pub is_explained: bool,
    /// The time at which the files are read.
    pub now: SystemTime,
    /// Access to files.
    pub files: &'a Files<'a>,
}

/// Reads a file of at most so many bytes.
pub type ReadFile<'a> = dyn Fn(&Path, usize) -> Result<Vec<u8>, String> + 'a;

/// Functions that look at files.
pub struct Files<'a> {
    /// The content of a file of at most so many bytes, or why not.
    pub read: &'a ReadFile<'a>,
    /// The kind of a file; `None` if there is none.
    pub kind: &'a dyn Fn(&Path) -> Option<FileKind>,
    /// The path without links and `..`; `None` if there is no such file.
    pub real: &'a dyn Fn(&Path) -> Option<PathBuf>,
    /// The file of this machine that is meant by a path of another one; `None` if the path is of this machine.
    pub stand_in: &'a dyn Fn(&Path) -> Option<PathBuf>,
}

/// The kind of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileKind {
    /// True if the name is a symbolic link; the others are about its target.
    pub is_link: bool,
    /// True for a regular file.
    pub is_file: bool,
    /// True for a directory.
    pub is_dir: bool,
    /// The number of its inode.
    pub inode: u64,
}

impl Files<'static> {
    /// The files of this machine.
    pub const OF_THIS_MACHINE: Files<'static> = Files {
        read: &read,
        kind: &kind,
        real: &|path| fs::canonicalize(path).ok(),
        stand_in: &|_| None,
    };
}

impl<'a> Surroundings<'a> {
    /// Those of this process.
    pub fn of(host: &'a HostFacts, files: &'a Files<'a>) -> Self {
        let (uid, gid) = identity::own();
        let user = identity::user(&uid.to_string()).map(|user| user.name);
        Self {
            environment: &host.environment,
            current_dir: &host.current_dir,
            hostname: hostname(),
            cpus: host.machine.affinity.max(1),
            user: (uid, user.unwrap_or_else(|| uid.to_string())),
            group: (
                gid,
                identity::group_name(gid).unwrap_or_else(|| gid.to_string()),
            ),
            is_root: uid == 0,
            is_explained: false,
            now: SystemTime::now(),
            files,
        }
    }

    /// The same with another current directory.
    pub fn in_directory<'b>(&'b self, directory: &'b Path) -> Surroundings<'b> {
        Surroundings {
            current_dir: directory,
            hostname: self.hostname.clone(),
            user: self.user.clone(),
            group: self.group.clone(),
            ..*self
        }
    }

    /// The same for an explanation, which assumes that root starts the server.
    pub fn for_explanation(self) -> Self {
        Self {
            is_root: true,
            is_explained: true,
            ..self
        }
    }

    /// The kind of the file that `path`, relative to the current directory, names.
    pub fn kind(&self, path: &str) -> Option<FileKind> {
        (self.files.kind)(&self.current_dir.join(crate::config::native::path(path)))
    }
}

fn hostname() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

fn read(path: &Path, most: usize) -> Result<Vec<u8>, String> {
    // A named pipe that nothing writes to would wait for ever.
    let kind = fs::metadata(path)
        .map_err(|error| error.to_string())?
        .file_type();
    if kind.is_fifo() && !path.starts_with("/dev") && !path.starts_with("/proc") {
        return Err("a named pipe: name a file".to_owned());
    }
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    let limit = most as u64 + 1;
    let read = file.take(limit).read_to_end(&mut bytes);
    read.map_err(|error| error.to_string())?;
    match bytes.len() > most {
        true => Err(format!("longer than {most} bytes")),
        false => Ok(bytes),
    }
}

fn kind(path: &Path) -> Option<FileKind> {
    let found = fs::metadata(path).ok()?;
    Some(FileKind {
        is_link: fs::symlink_metadata(path).is_ok_and(|name| name.is_symlink()),
        is_file: found.is_file(),
        is_dir: found.is_dir(),
        inode: found.ino(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_pipe_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("uwsgi.ini");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        assert_eq!(
            read(&pipe, 100),
            Err("a named pipe: name a file".to_owned())
        );
    }
}
