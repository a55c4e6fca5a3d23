//! A process that stays root when the server drops its privileges, and reads private keys for it.
//!
//! A key that root alone can read is read before the drop, and a renewed one could not be read any
//! more. So the server first executes itself once more. That process knows the paths of the settings,
//! answers requests for these and for nothing else, gives away only files in PEM, keeps of root's
//! capabilities only the one for reading, can neither write files nor start processes, and ends with the
//! last connection to a server. The new process of an upgrade has a connection of its own, which the old
//! one makes: it cannot start such a process itself, since it is not root.
//!
//! ```text
//! request   1 byte: operation; 2 bytes: length; path
//! response  4 bytes: errno, 0 for none; 4 bytes: length; content
//! join      as a request without a path, with a descriptor: another connection; no response
//! ```
//!
//! The server may be of a later version than this process: operations may be added, none may change.

use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::FileType;
use rustix::net::SocketType;
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs,
};

use super::sockets;

/// The first word of its command line.
pub const VERB: &str = "read-keys";
/// Longest wait of the server for a response. The files are local and small.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest file that is read, in bytes.
pub const LONGEST_FILE: u64 = 1 << 20;
/// Begins every object in PEM (RFC 7468 §2).
const PEM: &[u8] = b"-----BEGIN ";
/// Connections at a time: the server, and the new process of an upgrade. A server that was killed leaves none.
const CONNECTIONS: usize = 8;

/// The connection to the process.
#[derive(Debug)]
pub struct KeyReader {
    /// `None` once a response has not come in time.
    requests: Mutex<Option<UnixStream>>,
    /// The same connection, for what has no response.
    connection: UnixStream,
}

/// The state of a file, by which a change is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileState {
    /// Device.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
    /// Type and permissions.
    pub mode: u64,
    /// Length in bytes.
    pub size: u64,
    /// Time of the last change of the content, in nanoseconds since 1970.
    pub modified: u64,
    /// Time of the last change of the inode, in nanoseconds since 1970.
    pub changed: u64,
}

impl FileState {
    /// True for a regular file.
    pub fn is_file(&self) -> bool {
        self.kind() == FileType::RegularFile
    }

    /// True for a directory.
    pub fn is_dir(&self) -> bool {
        self.kind() == FileType::Directory
    }

    fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode as rustix::fs::RawMode)
    }

    fn fields(&self) -> [u64; 6] {
        [
            self.dev,
            self.ino,
            self.mode,
            self.size,
            self.modified,
            self.changed,
        ]
    }

    fn from_fields([dev, ino, mode, size, modified, changed]: [u64; 6]) -> Self {
        Self {
            dev,
            ino,
            mode,
            size,
            modified,
            changed,
        }
    }
}

impl From<&Metadata> for FileState {
    fn from(file: &Metadata) -> Self {
        let nanoseconds =
            |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Self {
            dev: file.dev(),
            ino: file.ino(),
            mode: file.mode().into(),
            size: file.size(),
            modified: nanoseconds(file.mtime(), file.mtime_nsec()) as u64,
            changed: nanoseconds(file.ctime(), file.ctime_nsec()) as u64,
        }
    }
}

/// The state of a file; links are followed. Blocks.
///
/// # Errors
/// The error of the system call.
pub fn state(path: &Path) -> io::Result<FileState> {
    Ok(FileState::from(&std::fs::metadata(path)?))
}

/// The names in a directory, sorted. Blocks.
///
/// # Errors
/// The error of the system call.
pub fn names(dir: &Path) -> io::Result<Vec<OsString>> {
    let entries = std::fs::read_dir(dir)?;
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    Ok(names)
}

/// The content of a file that is not too long for one in PEM. Blocks.
///
/// # Errors
/// The error of the system call, or `InvalidData` for something that is not such a file.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let state = state(path)?;
    if !state.is_file() || state.size > LONGEST_FILE {
        return Err(io::ErrorKind::InvalidData.into());
    }
    std::fs::read(path)
}

#[derive(Debug, Clone, Copy)]
enum Operation {
    State,
    Names,
    Read,
    Join,
}

impl Operation {
    const ALL: [Self; 4] = [Self::State, Self::Names, Self::Read, Self::Join];
}

impl KeyReader {
    /// Starts the process for these files, and directories of files.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn start(files: &[PathBuf], directories: &[PathBuf]) -> io::Result<Self> {
        let (ours, its) = UnixStream::pair()?;
        let reader = Self::over(ours)?;
        let directories = directories.iter().map(|dir| {
            let mut dir = dir.clone().into_os_string();
            dir.push("/");
            dir
        });
        Command::new("/proc/self/exe")
            .arg(VERB)
            .args(files)
            .args(directories)
            .env_clear()
            .current_dir("/")
            .stdin(OwnedFd::from(its))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(reader)
    }

    /// The process at the other end of a connection of [`KeyReader::join`].
    ///
    /// # Errors
    /// The error of the system call.
    pub fn joined(connection: OwnedFd) -> io::Result<Self> {
        Self::over(UnixStream::from(connection))
    }

    fn over(connection: UnixStream) -> io::Result<Self> {
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            requests: Mutex::new(Some(connection.try_clone()?)),
            connection,
        })
    }

    /// Another connection to the process, for another server. Does not block.
    ///
    /// # Errors
    /// The error of the system call; `BrokenPipe` if the process has ended.
    pub fn join(&self) -> io::Result<OwnedFd> {
        let (one, other) = sockets::pair(SocketType::STREAM)?;
        let request = [Operation::Join as u8, 0, 0];
        let connection = self.connection.as_fd();
        sockets::send(connection, &[IoSlice::new(&request)], &[other.as_fd()])?;
        Ok(one)
    }

    /// As [`state`].
    ///
    /// # Errors
    /// The error of the system call there, or of the connection.
    pub fn state(&self, path: &Path) -> io::Result<FileState> {
        let content = self.ask(Operation::State, path)?;
        let mut fields = [0; 6];
        for (field, bytes) in fields.iter_mut().zip(content.chunks_exact(8)) {
            let mut number = [0; 8];
            number.copy_from_slice(bytes);
            *field = u64::from_le_bytes(number);
        }
        Ok(FileState::from_fields(fields))
    }

    /// As [`names`].
    ///
    /// # Errors
    /// As [`KeyReader::state`].
    pub fn names(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let content = self.ask(Operation::Names, dir)?;
        let names = content.split(|byte| *byte == 0);
        let names = names.filter(|name| !name.is_empty());
        Ok(names
            .map(|name| OsString::from_vec(name.to_vec()))
            .collect())
    }

    /// As [`read`].
    ///
    /// # Errors
    /// As [`KeyReader::state`].
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.ask(Operation::Read, path)
    }

    /// Ends the connection, and with the last one the process.
    pub fn dismiss(&self) {
        // A thread may wait for a response at this moment.
        let _ended_already = self.connection.shutdown(Shutdown::Both);
    }

    fn ask(&self, operation: Operation, path: &Path) -> io::Result<Vec<u8>> {
        let mut connection = self.requests.lock();
        let Some(stream) = connection.as_mut() else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        match exchange(stream, operation, path) {
            Ok((0, content)) => Ok(content),
            Ok((errno, _)) => Err(io::Error::from_raw_os_error(errno)),
            Err(error) => {
                // A late response would be taken for that to another request.
                *connection = None;
                Err(error)
            }
        }
    }
}

fn exchange(
    stream: &mut UnixStream,
    operation: Operation,
    path: &Path,
) -> io::Result<(i32, Vec<u8>)> {
    let path = path.as_os_str().as_bytes();
    let length = u16::try_from(path.len()).map_err(|_long| io::ErrorKind::InvalidInput)?;
    let mut request = vec![operation as u8];
    request.extend(length.to_le_bytes());
    request.extend(path);
    stream.write_all(&request)?;
    let (mut errno, mut length) = ([0; 4], [0; 4]);
    stream.read_exact(&mut errno)?;
    stream.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    let mut content = vec![0; length.min(LONGEST_FILE as u32) as usize];
    stream.read_exact(&mut content)?;
    Ok((i32::from_le_bytes(errno), content))
}

/// Becomes the process, if the words of the command line ask for that: `pyserve read-keys PATH…`,
/// with the connection as standard input. True when it has ended.
pub fn become_reader() -> bool {
    let mut words = std::env::args_os().skip(1);
    if words.next().as_deref() != Some(OsStr::new(VERB)) {
        return false;
    }
    let paths: Vec<PathBuf> = words.map(PathBuf::from).collect();
    give_up_rights();
    let connection = io::stdin().as_fd().try_clone_to_owned();
    if let Ok(connection) = connection {
        answer_all(UnixStream::from(connection), &paths);
    }
    true
}

/// Answers requests until the last connection ends.
fn answer_all(first: UnixStream, paths: &[PathBuf]) {
    let mut connections = vec![first];
    while !connections.is_empty() {
        let mut asked: Vec<_> = connections
            .iter()
            .map(|connection| PollFd::new(connection, PollFlags::IN))
            .collect();
        match poll(&mut asked, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return,
        }
        let ready: Vec<bool> = asked.iter().map(|one| !one.revents().is_empty()).collect();
        let mut joined = Vec::new();
        let mut ready = ready.into_iter();
        connections.retain_mut(|connection| {
            let is_ready = ready.next().unwrap_or_default();
            !is_ready || answer(connection, paths, &mut joined).is_ok()
        });
        joined.truncate(CONNECTIONS.saturating_sub(connections.len()));
        for connection in joined.into_iter().map(UnixStream::from) {
            // A server that is stopped in the middle of a request must not stop the others.
            let _unlimited = connection.set_read_timeout(Some(PATIENCE));
            let _unlimited = connection.set_write_timeout(Some(PATIENCE));
            connections.push(connection);
        }
    }
}

/// Leaves of root's rights that of reading files. What fails was not there to be given up.
fn give_up_rights() {
    let _ = set_no_new_privs(true);
    for resource in [Resource::Fsize, Resource::Nproc, Resource::Core] {
        let nothing = Rlimit {
            current: Some(0),
            maximum: Some(0),
        };
        let _ = setrlimit(resource, nothing);
    }
    if let Ok(own) = capabilities(None) {
        let reading = own.permitted & CapabilitySet::DAC_READ_SEARCH;
        let sets = CapabilitySets {
            effective: reading,
            permitted: reading,
            inheritable: CapabilitySet::empty(),
        };
        let _ = set_capabilities(None, sets);
    }
}

/// Answers one request; adds a new connection to `joined`.
fn answer(stream: &mut UnixStream, paths: &[PathBuf], joined: &mut Vec<OwnedFd>) -> io::Result<()> {
    let mut head = [0; 3];
    let received = sockets::receive_with_descriptors(&*stream, &mut head, joined)?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    stream.read_exact(&mut head[received.bytes..])?;
    let [operation, low, high] = head;
    let mut path = vec![0; usize::from(u16::from_le_bytes([low, high]))];
    stream.read_exact(&mut path)?;
    let path = PathBuf::from(OsString::from_vec(path));
    let operation = Operation::ALL.get(usize::from(operation)).copied();
    let done = match operation {
        Some(Operation::Join) => return Ok(()),
        Some(operation) if is_configured(&path, paths) => carry_out(operation, &path),
        _ => Err(io::ErrorKind::PermissionDenied.into()),
    };
    let (errno, content) = match done {
        Ok(content) => (0, content),
        Err(error) => {
            let errno = error.raw_os_error();
            (
                errno.unwrap_or(rustix::io::Errno::ACCESS.raw_os_error()),
                Vec::new(),
            )
        }
    };
    let length = u32::try_from(content.len()).map_err(|_long| io::ErrorKind::InvalidData)?;
    stream.write_all(&errno.to_le_bytes())?;
    stream.write_all(&length.to_le_bytes())?;
    stream.write_all(&content)
}

fn carry_out(operation: Operation, path: &Path) -> io::Result<Vec<u8>> {
    match operation {
        Operation::State => {
            let fields = state(path)?.fields();
            Ok(fields
                .iter()
                .flat_map(|field| field.to_le_bytes())
                .collect())
        }
        Operation::Names => {
            let names = names(path)?;
            let names = names.into_iter().map(OsString::into_vec);
            Ok(names.collect::<Vec<_>>().join(&0))
        }
        Operation::Join => Ok(Vec::new()),
        Operation::Read => {
            let content = read(path)?;
            match content.windows(PEM.len()).any(|bytes| bytes == PEM) {
                true => Ok(content),
                false => Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }
}

/// True for a path of the settings, and up to two levels below a directory, which has a slash at its
/// end: `live/example.org/privkey.pem`.
fn is_configured(path: &Path, configured: &[PathBuf]) -> bool {
    const DEEPEST: usize = 2;
    configured.iter().any(|one| {
        let is_dir = one.as_os_str().as_bytes().ends_with(b"/");
        match path.strip_prefix(one) {
            Ok(below) if is_dir => {
                let mut parts = below.components();
                below.components().count() <= DEEPEST
                    && parts.all(|part| matches!(part, Component::Normal(_)))
            }
            Ok(below) => below.as_os_str().is_empty(),
            Err(_) => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_configured_paths_are_answered() {
        let configured = ["/etc/live/", "/etc/a.key"].map(PathBuf::from);
        for (path, expected) in [
            ("/etc/a.key", true),
            ("/etc/live", true),
            ("/etc/live/a", true),
            ("/etc/live/a/privkey.pem", true),
            ("/etc/live/a/b/privkey.pem", false),
            ("/etc/live/../shadow", false),
            ("/etc/live/a/..", false),
            ("/etc/a.key/x", false),
            ("/etc/a.keys", false),
            ("/etc/livex/a", false),
            ("/etc/shadow", false),
            ("etc/a.key", false),
            ("", false),
        ] {
            assert_eq!(
                is_configured(Path::new(path), &configured),
                expected,
                "{path}"
            );
        }
    }

    #[test]
    fn requests_are_answered_and_other_files_are_not_given_away() {
        let dir = tempfile::tempdir().unwrap();
        let [key, secret] = ["a.key", "secret.pem"].map(|name| dir.path().join(name));
        std::fs::write(&key, "-----BEGIN PRIVATE KEY-----\n").unwrap();
        std::fs::write(&secret, "root:x:0:0").unwrap();
        let (ours, its) = UnixStream::pair().unwrap();
        let mut configured = dir.path().to_owned().into_os_string();
        configured.push("/");
        let paths = [PathBuf::from(configured)];
        let serves = std::thread::spawn(move || answer_all(its, &paths));
        let reader = KeyReader::over(ours).unwrap();
        assert_eq!(reader.read(&key).unwrap(), b"-----BEGIN PRIVATE KEY-----\n");
        assert_eq!(reader.state(&key).unwrap(), state(&key).unwrap());
        assert_eq!(
            reader.names(dir.path()).unwrap(),
            names(dir.path()).unwrap()
        );
        assert!(reader.read(&secret).is_err());
        assert!(reader.read(Path::new("/etc/passwd")).is_err());
        let missing = reader.state(&dir.path().join("missing")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        let given_up = KeyReader::joined(reader.join().unwrap()).unwrap();
        let other = KeyReader::joined(reader.join().unwrap()).unwrap();
        drop(given_up);
        assert_eq!(other.read(&key).unwrap(), reader.read(&key).unwrap());
        assert!(other.read(&secret).is_err());
        reader.dismiss();
        assert!(reader.read(&key).is_err());
        assert!(reader.join().is_err());
        assert_eq!(other.read(&key).unwrap(), b"-----BEGIN PRIVATE KEY-----\n");
        other.dismiss();
        serves.join().unwrap();
    }
}
