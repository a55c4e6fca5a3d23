//! The template process: its start, and the control socket to it.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::task::{Context, Poll, ready};

use pyserve_wire::control::{Boot, FromTemplate, MAX_MESSAGE, ToTemplate};
use rustix::net::SocketType;
use rustix::process::Signal;
use tokio::io::unix::AsyncFd;

use crate::config::native;
use crate::os::access::{AccessKind, obstacle};
use crate::os::inotify::watch;
use crate::os::{child, memory, process, sockets, temporary};

/// Exit status of the bootstrap for an interpreter that it does not support.
pub const UNUSABLE_INTERPRETER: i32 = 99;

/// The WSGI host, built by the build script.
static HOST: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/host.so"));
/// The argument of `python -c`; it runs the boot file.
const BOOT_LINE: &str = include_str!("../../python/pyserve/boot_line.txt");
/// The script that loads the host.
const BOOT_FILE: &str = include_str!("../../python/pyserve/boot.py");

/// The files that every template loads, created once.
#[derive(Debug)]
pub struct HostFiles {
    boot: OwnedFd,
    host: OwnedFd,
}

impl HostFiles {
    /// Puts the host where a child can load it: a memory file, or an unlinked file in `fallback`
    /// where memory files are forbidden.
    ///
    /// # Errors
    /// The error of the system call for the fallback.
    pub fn create(fallback: &Path) -> io::Result<Self> {
        Ok(Self {
            boot: file("pyserve-boot", BOOT_FILE.as_bytes(), fallback)?,
            host: file("pyserve-host", HOST, fallback)?,
        })
    }
}

fn file(name: &str, bytes: &[u8], fallback: &Path) -> io::Result<OwnedFd> {
    memory::sealed_file(name, bytes).or_else(|_forbidden| {
        let mut file = temporary::unlinked_file(fallback)?;
        io::Write::write_all(&mut file, bytes)?;
        Ok(file.into())
    })
}

/// A running template.
#[derive(Debug)]
pub struct Template {
    /// Its process id, which is also the id of its process group.
    pub pid: u32,
    /// True if it has closed its end of the control socket.
    pub closed: bool,
    control: AsyncFd<OwnedFd>,
}

impl Template {
    /// Executes the interpreter in `directory`, with `env` added to our environment and its address
    /// space limited, and sends it its settings. `descriptors`: the queue, the scoreboard, the log and the pipe for stacks, in
    /// the order of [`ToTemplate::Boot`].
    ///
    /// # Errors
    /// The error of the system call for the interpreter or the socket.
    pub fn start(
        interpreter: &Path,
        directory: &Path,
        env: &[(String, String)],
        limit_as: Option<u64>,
        files: &HostFiles,
        boot: Boot,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<Self> {
        let (ours, theirs) = sockets::pair(SocketType::SEQPACKET)?;
        let inherited = [files.boot.as_fd(), files.host.as_fd(), theirs.as_fd()];
        let mut command = Command::new(interpreter);
        command
            .arg("-c")
            .arg(BOOT_LINE.trim_end())
            .envs(
                env.iter()
                    .map(|(name, value)| (name, native::string(value))),
            )
            .stdin(Stdio::null());
        // If the directory is missing, ours will do: the interpreter reports what it cannot find.
        if obstacle(directory, AccessKind::Search).is_none() && directory.is_dir() {
            command.current_dir(directory);
        }
        command.args(inherited.map(|fd| fd.as_raw_fd().to_string()));
        // Our host asks for the same later; `sitecustomize` runs before it, and may hang.
        child::end_with_us(&mut command, Signal::KILL);
        let pid = child::spawn(&mut command, &inherited)?;
        if let Some(bytes) = limit_as {
            process::limit_address_space(pid, bytes)?;
        }
        sockets::set_nonblocking(ours.as_fd())?;
        let template = Self {
            pid,
            closed: false,
            control: watch(ours)?,
        };
        template.send(&ToTemplate::Boot(Box::new(boot)), descriptors)?;
        Ok(template)
    }

    /// A worker that is asked to become a template; it answers on the other end of `control`.
    ///
    /// # Errors
    /// The error of the system call for registering the socket.
    pub fn of_worker(pid: u32, control: OwnedFd) -> io::Result<Self> {
        sockets::set_nonblocking(control.as_fd())?;
        Ok(Self {
            pid,
            closed: false,
            control: watch(control)?,
        })
    }

    /// Asks the template to exit when its pending forks are done. Its messages until then can still
    /// be received.
    pub fn dismiss(&self) {
        let control = self.control.get_ref();
        let _already_ended = rustix::net::shutdown(control, rustix::net::Shutdown::Write);
    }

    /// Requests the fork of a worker; `channels` are the threads' ends, followed by the worker's
    /// end of its socket for orders.
    ///
    /// # Errors
    /// The error of the system call; a template that has gone is `BrokenPipe`.
    pub fn fork(&self, worker: u32, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send(&ToTemplate::Fork { worker }, descriptors)
    }

    /// The next message; `None` when the template has closed its end.
    pub async fn receive(&self) -> Option<FromTemplate> {
        poll_fn(|context| self.poll_receive(context)).await
    }

    /// The next message, if it has arrived. Only one task may wait for it.
    pub fn poll_receive(&self, context: &mut Context<'_>) -> Poll<Option<FromTemplate>> {
        loop {
            let Ok(mut readable) = ready!(self.control.poll_read_ready(context)) else {
                return Poll::Ready(None);
            };
            if let Ok(received) = readable.try_io(|_| self.try_receive()) {
                return Poll::Ready(received.ok().flatten());
            }
        }
    }

    /// The next of the messages that are left after its exit.
    pub fn unread(&self) -> Option<FromTemplate> {
        self.try_receive().ok().flatten()
    }

    /// A message that has arrived already; `Ok(None)` at the end.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; `InvalidData` for a malformed one.
    fn try_receive(&self) -> io::Result<Option<FromTemplate>> {
        let mut buffer = vec![0; 2 * MAX_MESSAGE];
        match sockets::receive(self.control.get_ref(), &mut buffer)? {
            0 => Ok(None),
            length => FromTemplate::from_bytes(&buffer[..length])
                .map(Some)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }

    fn send(&self, message: &ToTemplate, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = message.to_bytes();
        sockets::send(
            self.control.get_ref().as_fd(),
            &[IoSlice::new(&bytes)],
            descriptors,
        )
        .map(drop)
    }
}
