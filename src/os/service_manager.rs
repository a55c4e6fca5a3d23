//! The protocol of service managers such as systemd: sockets that were bound for this process
//! (sd_listen_fds(3)), and notifications of its state (sd_notify(3)).
#![allow(unsafe_code)]

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, SocketType, sockopt};

use super::clock;

/// Number of the first descriptor that is passed (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;

/// Variables of both protocols. They are removed, as they are for this process alone.
const VARIABLES: [&str; 3] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// The parts of the environment that are for this process.
#[derive(Debug, Default)]
pub struct ServiceManager {
    /// Sockets that it listens on.
    pub sockets: Vec<PassedSocket>,
    /// The place for notifications.
    pub notifications: Notifications,
}

/// A listening stream socket that this process was started with.
#[derive(Debug)]
pub struct PassedSocket {
    /// The socket, close-on-exec and non-blocking.
    pub socket: OwnedFd,
    /// `FileDescriptorName=` of its unit; systemd's default is the name of the unit.
    pub name: String,
    /// True for TCP, false for a Unix socket.
    pub is_tcp: bool,
}

impl ServiceManager {
    /// Takes the variables and the sockets. To be called once, by the only thread.
    ///
    /// # Errors
    /// A text for a descriptor that is no listening stream socket.
    pub fn take() -> Result<Self, String> {
        let notifications = Notifications::take();
        let value = |name: &str| std::env::var(name).unwrap_or_default();
        let is_ours = value("LISTEN_PID") == std::process::id().to_string();
        let count: RawFd = value("LISTEN_FDS").parse().unwrap_or(0);
        if !is_ours || count < 1 {
            return Ok(Self {
                sockets: Vec::new(),
                notifications,
            });
        }
        let names = value("LISTEN_FDNAMES");
        VARIABLES.iter().for_each(|name| remove_variable(name));
        let mut names = names.split(':').map(str::to_owned);
        let sockets = (FIRST..FIRST + count).map(|number| {
            let name = names.next().unwrap_or_default();
            passed(number)
                .map(|(socket, is_tcp)| PassedSocket {
                    socket,
                    name: name.clone(),
                    is_tcp,
                })
                .map_err(|error| {
                    format!("descriptor {number} ({name:?}) of the service manager {error}")
                })
        });
        Ok(Self {
            sockets: sockets.collect::<Result<_, _>>()?,
            notifications,
        })
    }
}

/// Takes a passed descriptor, and checks that it is a listening stream socket.
fn passed(number: RawFd) -> Result<(OwnedFd, bool), String> {
    // SAFETY: only looked at; the number may be one that is not open.
    let seen = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl_setfd(seen, FdFlags::CLOEXEC).map_err(|error| format!("cannot be used: {error}"))?;
    // SAFETY: it is open, and the environment says that it is for this process. Called once, before
    // anything else opens descriptors and while there is one thread.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    let kind = sockopt::socket_type(&socket).map_err(|error| format!("is no socket: {error}"))?;
    let is_listening = sockopt::socket_acceptconn(&socket).unwrap_or(false);
    if kind != SocketType::STREAM || !is_listening {
        return Err("is no listening stream socket (use ListenStream= with Accept=no)".to_owned());
    }
    let is_tcp = match sockopt::socket_domain(&socket) {
        Ok(AddressFamily::INET | AddressFamily::INET6) => true,
        Ok(AddressFamily::UNIX) => false,
        _ => return Err("is of an address family that is not supported".to_owned()),
    };
    rustix::io::ioctl_fionbio(&socket, true).map_err(|error| format!("cannot be used: {error}"))?;
    Ok((socket, is_tcp))
}

/// Removes a variable, so that no child takes the message for its own.
fn remove_variable(name: &str) {
    // SAFETY: there is one thread, as `ServiceManager::take` demands.
    unsafe { std::env::remove_var(name) };
}

/// The place for notifications, if there is one. Nothing here fails or blocks: a manager that does not
/// read them gets none.
#[derive(Debug, Default)]
pub struct Notifications {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// Longest time between two signs of life.
    watchdog: Option<Duration>,
    /// The variables of the protocol as they were, for the process that takes this one's place.
    variables: Vec<(&'static str, OsString)>,
}

/// A notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notification<'a> {
    /// The start is over, or a reload.
    Ready,
    /// A reload begins.
    Reloading,
    /// The stop begins.
    Stopping,
    /// Still alive.
    Alive,
    /// Another process is the main process of the service from now on.
    MainProcess(u32),
    /// A sentence for people.
    Status(&'a str),
}

impl fmt::Display for Notification<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => f.write_str("READY=1"),
            // `Type=notify-reload` takes only a time after that of its signal for the answer.
            Self::Reloading => {
                let micros = clock::monotonic_ns() / 1000;
                write!(f, "RELOADING=1\nMONOTONIC_USEC={micros}")
            }
            Self::Stopping => f.write_str("STOPPING=1"),
            Self::Alive => f.write_str("WATCHDOG=1"),
            Self::MainProcess(pid) => write!(f, "MAINPID={pid}"),
            Self::Status(text) => write!(f, "STATUS={}", text.replace('\n', " ")),
        }
    }
}

impl Notifications {
    fn take() -> Self {
        let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
            return Self::default();
        };
        let value = |name: &str| std::env::var(name).unwrap_or_default();
        let is_ours = ["", &std::process::id().to_string()].contains(&&*value("WATCHDOG_PID"));
        let micros = value("WATCHDOG_USEC").parse().ok();
        // Without the id: the next process has another one.
        let for_all = ["NOTIFY_SOCKET", "WATCHDOG_USEC"].into_iter();
        let for_all = for_all.filter(|name| *name == "NOTIFY_SOCKET" || is_ours);
        let variables = for_all.filter_map(|name| Some((name, std::env::var_os(name)?)));
        let variables = variables.collect();
        ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"]
            .iter()
            .for_each(|name| remove_variable(name));
        Self {
            socket: connected(path.into_vec()).ok(),
            watchdog: micros
                .filter(|&micros| is_ours && micros > 0)
                .map(Duration::from_micros),
            variables,
        }
    }

    /// True if a service manager listens.
    pub fn are_wanted(&self) -> bool {
        self.socket.is_some()
    }

    /// The environment by which the process that takes this one's place finds the manager.
    pub fn variables(&self) -> &[(&'static str, OsString)] {
        &self.variables
    }

    /// Half of the watchdog's time, as sd_watchdog_enabled(3) recommends; `None`: there is no watchdog.
    pub fn sign_of_life_every(&self) -> Option<Duration> {
        self.socket.as_ref()?;
        self.watchdog.map(|time| time / 2)
    }

    /// Sends notifications in one message.
    pub fn send(&self, all: &[Notification<'_>]) {
        if let Some((socket, address)) = &self.socket {
            let lines: Vec<_> = all.iter().map(ToString::to_string).collect();
            // A full queue, or a manager that has gone: the notification is lost.
            let _lost = socket.send_to_addr(lines.join("\n").as_bytes(), address);
        }
    }
}

/// A socket, and the address of `NOTIFY_SOCKET`: a path, or `@` before an abstract name.
fn connected(mut name: Vec<u8>) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.first() {
        Some(b'@') => SocketAddr::from_abstract_name(name.split_off(1))?,
        _ => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(&name))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

impl AsFd for PassedSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notifications_are_lines_of_one_message() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notifications = Notifications {
            socket: connected(path.into_os_string().into_vec()).ok(),
            watchdog: Some(Duration::from_secs(3)),
            variables: Vec::new(),
        };
        let mut message = [0; 200];
        let all = [Notification::Ready, Notification::Status("one\ntwo")];
        notifications.send(&all);
        let length = manager.recv(&mut message).unwrap();
        assert_eq!(&message[..length], b"READY=1\nSTATUS=one two");
        notifications.send(&[Notification::Reloading]);
        let length = manager.recv(&mut message).unwrap();
        let text = std::str::from_utf8(&message[..length]).unwrap();
        let time = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(time.parse::<u64>().unwrap() <= clock::monotonic_ns() / 1000);
        assert_eq!(
            notifications.sign_of_life_every(),
            Some(Duration::from_millis(1500))
        );
        // Without a reader nothing blocks.
        drop(manager);
        notifications.send(&[Notification::Stopping]);
    }

    #[test]
    fn abstract_names_begin_with_an_at_sign() {
        let name = format!("pyserve-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        let socket = connected(format!("@{name}").into_bytes()).ok();
        let notifications = Notifications {
            socket,
            watchdog: None,
            variables: Vec::new(),
        };
        notifications.send(&[Notification::Alive]);
        let mut message = [0; 20];
        let length = manager.recv(&mut message).unwrap();
        assert_eq!(&message[..length], b"WATCHDOG=1");
        assert_eq!(notifications.sign_of_life_every(), None);
    }
}
