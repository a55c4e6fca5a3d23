//! A FIFO from which the server reads commands of one character, as from `master-fifo` of uWSGI.
//!
//! The file has mode 0600, so only the server's user and root write to it. A task of its own reads it; commands
//! become [`Command`]s in the supervisor's loop, and while that is busy the writers wait. The file of an earlier
//! server is used on, so a command that is written during an upgrade is read by one of the two processes. A lock
//! on it keeps two servers from reading one FIFO. A FIFO that was removed is made again.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Command;
use crate::front::accept::admin_server::Stages;
use crate::front::admin::SupervisorQuery;
use crate::os::trusted_path;

/// Interval of looks at whether the file is still there.
const LOOK: Duration = Duration::from_secs(2);
/// Most lines of ignored commands in [`LOOK`]: each of uWSGI's commands has one.
const LINES: u32 = 10;

/// A command of the FIFO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FifoCommand {
    /// `r`, `R`: reload, as SIGHUP does.
    Reload,
    /// `c`, `w`, `W`: reload although `exit_on_reload` says otherwise: in uWSGI these replace the workers alone.
    ReloadWorkers,
    /// `q`: stop gracefully, as SIGTERM does.
    Stop,
    /// `Q`: stop at once, as SIGQUIT does.
    StopNow,
    /// `+`: one worker more, as SIGTTIN does.
    More,
    /// `-`: one worker less, as SIGTTOU does.
    Fewer,
    /// `l`: open the log files again, as SIGUSR1 does.
    ReopenLogs,
    /// `P`: write the pidfile again.
    WritePidFile,
}

/// The answer to a character.
#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    Order(FifoCommand),
    /// `s`: the status becomes a line of the log.
    Status,
    /// White space.
    Nothing,
    /// A command that this server does not have, with the reason.
    Refused(&'static str),
}

/// The meaning of a character, by uWSGI's table (core/fifo.c, `uwsgi_master_fifo_prepare`).
fn meaning(character: u8) -> Meaning {
    use FifoCommand::{
        Fewer, More, Reload, ReloadWorkers, ReopenLogs, Stop, StopNow, WritePidFile,
    };
    match character {
        b'r' | b'R' => Meaning::Order(Reload),
        b'c' | b'w' | b'W' => Meaning::Order(ReloadWorkers),
        b'q' => Meaning::Order(Stop),
        b'Q' => Meaning::Order(StopNow),
        b'+' => Meaning::Order(More),
        b'-' => Meaning::Order(Fewer),
        b'l' => Meaning::Order(ReopenLogs),
        b'P' => Meaning::Order(WritePidFile),
        b's' => Meaning::Status,
        _ if character.is_ascii_whitespace() => Meaning::Nothing,
        b'p' => Meaning::Refused("requests are not held back: use `pyserve maintenance on`"),
        b'L' => Meaning::Refused("log files are not rotated here: rename them, then write l"),
        b'C' => Meaning::Refused("workers stay"),
        b'f' => Meaning::Refused("use `pyserve upgrade`"),
        b'0'..=b'9' => Meaning::Refused("there is one FIFO"),
        b'B' | b'E' | b'S' => Meaning::Refused("there is no emperor and no subscription"),
        _ => Meaning::Refused("no command"),
    }
}

/// The FIFO, open for reading. It is removed with this value, unless another process goes on reading it.
#[derive(Debug)]
pub struct CommandFifo {
    receiver: Receiver,
    path: PathBuf,
    directory: OwnedFd,
    name: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
    /// True if no other server has the lock. A successor gets it when its predecessor has closed the file.
    is_locked: bool,
    /// True if another process reads on.
    is_released: bool,
    ignored: Ignored,
}

/// Commands that were ignored since the last look.
#[derive(Debug, Default)]
struct Ignored {
    lines: u32,
    unsaid: u64,
}

impl CommandFifo {
    /// Opens the FIFO at `path`, and makes it if it is missing, without waiting for a writer. A
    /// successor shares it with its predecessor.
    ///
    /// # Errors
    /// The error of the system call, or a text that says what is in the place of the FIFO, or that another
    /// server reads it.
    pub fn open(path: &Path, is_successor: bool) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let directory = trusted_path::open_directory(trusted_path::parent(path))?;
        let name = PathBuf::from(name);
        if remove_foreign(&directory, &name)? {
            let path = path.display();
            tracing::warn!("{path} was a FIFO of other users: made a new one in its place");
        }
        let mode = Mode::RUSR | Mode::WUSR;
        match rustix::fs::mkfifoat(&directory, &name, mode) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        // Open for writing too: else each writer that closes it would be an end of file.
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&directory, &name, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Fifo {
            return Err(io::Error::other("another file was put in its place"));
        }
        let is_locked = lock(&file);
        if !is_locked && !is_successor {
            return Err(io::Error::other("another server reads it"));
        }
        Ok(Self {
            receiver: Receiver::from_owned_fd(file)?,
            path: path.to_owned(),
            directory,
            name,
            identity: (stat.st_dev, stat.st_ino),
            is_locked,
            is_released: false,
            ignored: Ignored::default(),
        })
    }

    /// Reads commands until the end, or until another process reads them.
    pub async fn serve(mut self, commands: mpsc::Sender<Command>, stages: Stages) {
        let mut buffer = [0; 64];
        let mut next = Instant::now() + LOOK;
        loop {
            let read = tokio::select! {
                // Cancel-safe: what was not read stays in the FIFO.
                read = self.receiver.read(&mut buffer) => read,
                // Cancel-safe: it is made anew from `next`.
                () = tokio::time::sleep_until(next) => {
                    next = Instant::now() + LOOK;
                    self.look();
                    continue;
                }
                // Both are cancel-safe: tokens that stay cancelled.
                () = stages.released.cancelled() => {
                    self.is_released = true;
                    return;
                }
                () = stages.ended.cancelled() => return,
            };
            let characters = match read {
                Ok(0) => return,
                Ok(count) => &buffer[..count],
                Err(error) => {
                    tracing::error!(%error, "cannot read commands from the FIFO any more");
                    return;
                }
            };
            for character in characters {
                if obey(*character, &commands, &mut self.ignored)
                    .await
                    .is_none()
                {
                    // The supervisor has stopped.
                    return;
                }
            }
        }
    }

    /// Makes the file again if it was removed.
    fn look(&mut self) {
        self.ignored.tell();
        self.is_locked = self.is_locked || lock(&self.receiver);
        if self.is_there() {
            return;
        }
        let path = self.path.clone();
        let path = path.display();
        match Self::open(&self.path, false) {
            Ok(new) => {
                tracing::warn!("made the FIFO {path} again: it was removed");
                *self = new;
            }
            Err(error) => {
                // Said once.
                if self.identity != NONE {
                    tracing::warn!("no commands from the FIFO {path} any more: {error}");
                }
                self.identity = NONE;
            }
        }
    }

    /// True if the file is still the one that was opened.
    fn is_there(&self) -> bool {
        let found = rustix::fs::statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW);
        found.is_ok_and(|stat| (stat.st_dev, stat.st_ino) == self.identity)
    }
}

/// The identity of no file: another one is in the place of the FIFO.
const NONE: (u64, u64) = (0, 0);

impl Drop for CommandFifo {
    fn drop(&mut self) {
        if !self.is_released && self.is_there() {
            let _gone = rustix::fs::unlinkat(&self.directory, &self.name, AtFlags::empty());
        }
    }
}

impl Ignored {
    /// True if the next one may be logged.
    fn may_tell(&mut self) -> bool {
        let is_one = self.lines < LINES;
        match is_one {
            true => self.lines += 1,
            false => self.unsaid += 1,
        }
        is_one
    }

    /// The time of [`LOOK`] is over.
    fn tell(&mut self) {
        if self.unsaid > 0 {
            tracing::warn!("ignored {} more commands from the FIFO", self.unsaid);
        }
        *self = Self::default();
    }
}

/// True if no other server has the FIFO. The lock ends with the descriptor.
fn lock(file: impl AsFd) -> bool {
    let lock = rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive);
    // A file system without locks excludes no server.
    lock != Err(Errno::WOULDBLOCK)
}

/// Removes a FIFO that other users have made or may write to: `true`.
///
/// # Errors
/// The error of the system call, or a text for a file that is no FIFO.
fn remove_foreign(directory: &OwnedFd, name: &Path) -> io::Result<bool> {
    let stat = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Fifo {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "another kind of file is in its place",
        ));
    }
    let is_ours = stat.st_uid == rustix::process::geteuid().as_raw();
    match is_ours && stat.st_mode & 0o077 == 0 {
        true => Ok(false),
        false => {
            rustix::fs::unlinkat(directory, name, AtFlags::empty())?;
            Ok(true)
        }
    }
}

/// `None`: the supervisor has stopped.
async fn obey(
    character: u8,
    commands: &mpsc::Sender<Command>,
    ignored: &mut Ignored,
) -> Option<()> {
    let shown = char::from(character).escape_default();
    match meaning(character) {
        Meaning::Nothing => {}
        Meaning::Order(order) => {
            tracing::info!("command {shown} from the FIFO");
            commands.send(Command::Fifo(order)).await.ok()?;
        }
        Meaning::Status => {
            let (sender, receiver) = oneshot::channel();
            let question = SupervisorQuery::Status(sender);
            commands.send(Command::Answer(question)).await.ok()?;
            let status = receiver.await.ok()?;
            let status = serde_json::to_string(&status).unwrap_or_default();
            tracing::info!(%status, "status, asked for by the FIFO");
        }
        Meaning::Refused(reason) if ignored.may_tell() => {
            tracing::warn!("ignored command {shown} from the FIFO: {reason}");
        }
        Meaning::Refused(_) => {}
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_of_uwsgi_has_a_meaning() {
        let known = b"0123456789-+BcCEflLpPqQrRsSwW";
        for character in 0..=u8::MAX {
            let is_command = meaning(character) != Meaning::Refused("no command");
            let expected = known.contains(&character) || character.is_ascii_whitespace();
            assert_eq!(is_command, expected, "{character}");
        }
        assert_eq!(meaning(b'r'), Meaning::Order(FifoCommand::Reload));
        assert_eq!(meaning(b'w'), Meaning::Order(FifoCommand::ReloadWorkers));
        assert_eq!(meaning(b'\n'), Meaning::Nothing);
    }

    #[tokio::test]
    async fn a_fifo_is_made_for_one_user_and_other_files_are_kept() {
        use std::os::unix::fs::{FileTypeExt, PermissionsExt};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("commands");
        let of = |path: &Path| std::fs::symlink_metadata(path).unwrap();
        let fifo = CommandFifo::open(&path, false).unwrap();
        assert!(of(&path).file_type().is_fifo());
        assert_eq!(of(&path).permissions().mode() & 0o777, 0o600);
        // The server that takes this one's place reads the same one, and leaves it to the other if need be.
        let mut again = CommandFifo::open(&path, true).unwrap();
        assert_eq!(again.identity, fifo.identity);
        again.is_released = true;
        drop(again);
        let error = CommandFifo::open(&path, false).unwrap_err().to_string();
        assert!(error.contains("another server reads it"), "{error}");
        assert!(path.exists());
        // One that others may write to is not used.
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o622)).unwrap();
        let other = CommandFifo::open(&path, false).unwrap();
        assert_eq!(of(&path).permissions().mode() & 0o777, 0o600);
        assert_ne!(other.identity, fifo.identity);
        drop(fifo);
        assert!(path.exists(), "it is not the one that was opened");
        drop(other);
        assert!(!path.exists());
        std::fs::write(&path, "text").unwrap();
        let error = CommandFifo::open(&path, false).unwrap_err().to_string();
        assert!(error.contains("another kind of file"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"text");
    }

    #[tokio::test]
    async fn a_fifo_that_was_removed_is_made_again_and_what_is_in_its_place_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("commands");
        let mut fifo = CommandFifo::open(&path, false).unwrap();
        std::fs::remove_file(&path).unwrap();
        fifo.look();
        assert!(fifo.is_there());
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "text").unwrap();
        fifo.look();
        fifo.look();
        assert_eq!(std::fs::read(&path).unwrap(), b"text");
        std::fs::remove_file(&path).unwrap();
        fifo.look();
        assert!(fifo.is_there());
    }

    #[test]
    fn of_many_ignored_commands_a_few_are_told() {
        let mut ignored = Ignored::default();
        let told = (0..1000).filter(|_| ignored.may_tell()).count();
        assert_eq!((told, ignored.unsaid), (LINES as usize, 1000 - told as u64));
        ignored.tell();
        assert!(ignored.may_tell() && ignored.unsaid == 0);
    }
}
