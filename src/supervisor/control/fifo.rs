//! A FIFO from which the server reads commands of one character, as from `master-fifo` of uWSGI.
//!
//! The file has mode 0600, so only the server's user and root write to it. A task of its own reads it; commands
//! become [`Command`]s in the supervisor's loop, and while that is busy the writers wait. The file of an earlier
//! server is used on, so a command that is written during an upgrade is read by one of the two processes.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{mpsc, oneshot};

use super::Command;
use crate::front::accept::admin_server::Stages;
use crate::front::admin::SupervisorQuery;
use crate::os::trusted_path;

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

/// The FIFO, open for reading.
#[derive(Debug)]
pub struct CommandFifo {
    receiver: Receiver,
    directory: OwnedFd,
    name: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl CommandFifo {
    /// Opens the FIFO at `path`, and makes it if it is missing. Nobody has to write to it for that.
    ///
    /// # Errors
    /// The error of the system call, or a text that says what is in the place of the FIFO.
    pub fn open(path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let directory = trusted_path::open_directory(trusted_path::parent(path))?;
        let name = PathBuf::from(name);
        remove_foreign(&directory, &name)?;
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
        Ok(Self {
            receiver: Receiver::from_owned_fd(file)?,
            directory,
            name,
            identity: (stat.st_dev, stat.st_ino),
        })
    }

    /// Reads commands until the end, or until another process reads them.
    pub async fn serve(mut self, commands: mpsc::Sender<Command>, stages: Stages) {
        let mut buffer = [0; 64];
        loop {
            let read = tokio::select! {
                // Cancel-safe: what was not read stays in the FIFO.
                read = self.receiver.read(&mut buffer) => read,
                // Both are cancel-safe: tokens that stay cancelled.
                () = stages.released.cancelled() => return,
                () = stages.ended.cancelled() => return self.remove(),
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
                if obey(*character, &commands).await.is_none() {
                    // The supervisor has stopped.
                    return self.remove();
                }
            }
        }
    }

    /// Removes the file, if it is still the one that was opened.
    fn remove(self) {
        let found = rustix::fs::statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW);
        if found.is_ok_and(|stat| (stat.st_dev, stat.st_ino) == self.identity) {
            let _gone = rustix::fs::unlinkat(&self.directory, &self.name, AtFlags::empty());
        }
    }
}

/// Removes a FIFO that other users have made or may write to.
///
/// # Errors
/// The error of the system call, or a text for a file that is no FIFO.
fn remove_foreign(directory: &OwnedFd, name: &Path) -> io::Result<()> {
    let stat = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(()),
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
        true => Ok(()),
        false => Ok(rustix::fs::unlinkat(directory, name, AtFlags::empty())?),
    }
}

/// `None`: the supervisor has stopped.
async fn obey(character: u8, commands: &mpsc::Sender<Command>) -> Option<()> {
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
        Meaning::Refused(reason) => {
            tracing::warn!("ignored command {shown} from the FIFO: {reason}");
        }
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
        let fifo = CommandFifo::open(&path).unwrap();
        assert!(of(&path).file_type().is_fifo());
        assert_eq!(of(&path).permissions().mode() & 0o777, 0o600);
        // Another server reads the same one.
        let again = CommandFifo::open(&path).unwrap();
        assert_eq!(again.identity, fifo.identity);
        // One that others may write to is not used.
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o622)).unwrap();
        let other = CommandFifo::open(&path).unwrap();
        assert_eq!(of(&path).permissions().mode() & 0o777, 0o600);
        assert_ne!(other.identity, fifo.identity);
        fifo.remove();
        assert!(path.exists(), "it is not the one that was opened");
        other.remove();
        assert!(!path.exists());
        std::fs::write(&path, "text").unwrap();
        let error = CommandFifo::open(&path).unwrap_err().to_string();
        assert!(error.contains("another kind of file"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"text");
    }
}
