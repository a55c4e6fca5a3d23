//! Binds the addresses, and accepts connections until the drain.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::drain;
use super::reception::{Accept, Reception};
use crate::config::ListenAddress;
use crate::front::client_limits::connections::ACCEPT_PAUSE;
use crate::front::shutdown::Shutdown;
use crate::front::site::CurrentSite;
use crate::observe::codes;
use crate::observe::throttle::Throttle;
use crate::os::descriptors::has_visitors;
use crate::os::identity;
use crate::os::service_manager::PassedSocket;
use crate::os::unix_listener::{self, Ownership, RemoveOnDrop, Resolve, SocketFile};

/// Length of the backlog; the kernel limits it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// Connections accepted before other tasks run. tokio would accept 128, and the first steps of each
/// come before the next step of every other: under a flood of short connections a request waited
/// for 250 ms, with this number for 3. One at a time, as in nginx (`multi_accept off`), makes new
/// clients wait where many old ones are busy.
const IN_A_ROW: u32 = 4;

/// Interval at which idle connections are closed for clients that wait: each is given 250 ms more.
const MAKE_ROOM: Duration = Duration::from_millis(300);
/// Interval at which clients that wait are looked for at the limit of connections.
const LOOK: Duration = Duration::from_millis(20);

/// The error for an address that cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot bind {address}: {reason}")]
pub struct BindError {
    address: String,
    reason: String,
}

impl BindError {
    /// The error for sockets of the service manager.
    pub fn of_passed(reason: String) -> Self {
        Self {
            address: "a socket of the service manager".to_owned(),
            reason,
        }
    }
}

/// A bound address.
#[derive(Debug)]
pub struct Listener {
    socket: ListenSocket,
    /// The address for clients, with the port that the kernel chose for port 0.
    pub address: ListenAddress,
    /// The address as it was asked for.
    asked: ListenAddress,
    /// The name of a socket of the service manager. It stays open there, and the connections in its
    /// backlog wait for the next process.
    passed_as: Option<String>,
    /// True unless another process takes the socket over, or has not handed it over yet.
    ours: Ownership,
}

/// A listening socket of one server that another one takes over.
#[derive(Debug)]
pub struct SharedSocket {
    /// Another descriptor of the socket.
    pub socket: OwnedFd,
    /// The address for clients.
    pub address: ListenAddress,
    /// The address as it was asked for.
    pub asked: ListenAddress,
    /// The name of a socket of the service manager.
    pub passed_as: Option<String>,
    /// Device and inode of the file of a Unix socket that the server has made.
    pub file: Option<(u64, u64)>,
    /// The owner, as this process sees it.
    pub ours: Ownership,
}

#[derive(Debug)]
enum ListenSocket {
    Tcp(std::net::TcpListener),
    /// With its file, if this process made it.
    Unix(StdUnixListener, Option<RemoveOnDrop>),
}

/// Owner and permissions of a Unix socket's file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SocketFileSettings {
    /// Permissions, octal as in chmod(1); `None`: by the umask.
    pub mode: Option<u32>,
    /// User and group that own it, each if given.
    pub owner: Option<(Option<u32>, Option<u32>)>,
    /// User and group to which the server switches, where it is root.
    pub becomes: Option<(u32, u32)>,
}

impl Listener {
    /// Binds and listens; connections from now on queue in the backlog.
    ///
    /// # Errors
    /// [`BindError`] with the remedy where there is one.
    pub fn bind(address: &ListenAddress, file: &SocketFileSettings) -> Result<Self, BindError> {
        let bound = match address {
            ListenAddress::Tcp(address) => bind_tcp(*address, ListenAddress::Tcp),
            ListenAddress::Tls(address) => bind_tcp(*address, ListenAddress::Tls),
            ListenAddress::Unix(path) => bind_unix(path, file),
        };
        bound.map_err(|error| BindError {
            address: address.to_string(),
            reason: remedy(&error, address),
        })
    }

    /// A socket that was bound for this process. Its file, if it has one, is not ours.
    ///
    /// # Errors
    /// [`BindError`] if it has no address.
    pub fn passed(passed: PassedSocket) -> Result<Self, BindError> {
        let address = if passed.is_tcp {
            let socket = std::net::TcpListener::from(passed.socket);
            let address = socket.local_addr().map(ListenAddress::Tcp);
            address.map(|address| (ListenSocket::Tcp(socket), address))
        } else {
            let socket = StdUnixListener::from(passed.socket);
            let address = socket.local_addr().map(|address| {
                let path = address.as_pathname().unwrap_or(Path::new("(abstract)"));
                ListenAddress::Unix(path.to_owned())
            });
            address.map(|address| (ListenSocket::Unix(socket, None), address))
        };
        let (socket, address) =
            address.map_err(|error| BindError::of_passed(format!("{}: {error}", passed.name)))?;
        Ok(Self {
            socket,
            asked: address.clone(),
            address,
            passed_as: Some(passed.name),
            ours: Ownership::new(true),
        })
    }

    /// A socket of the server whose place this process takes, for an address of the settings.
    pub fn taken_over(shared: SharedSocket, asked: ListenAddress) -> Self {
        let SharedSocket {
            socket,
            address,
            passed_as,
            file,
            ours,
            ..
        } = shared;
        let (socket, address) = match (address, &asked) {
            (ListenAddress::Unix(path), _) => {
                let file = file.and_then(|identity| SocketFile::of(&path, identity).ok());
                let guard = file.map(|file| RemoveOnDrop::new(file, ours.clone()));
                (
                    ListenSocket::Unix(socket.into(), guard),
                    ListenAddress::Unix(path),
                )
            }
            // TLS may have been turned on or off for the address.
            (ListenAddress::Tcp(at) | ListenAddress::Tls(at), ListenAddress::Tls(_)) => {
                (ListenSocket::Tcp(socket.into()), ListenAddress::Tls(at))
            }
            (ListenAddress::Tcp(at) | ListenAddress::Tls(at), _) => {
                (ListenSocket::Tcp(socket.into()), ListenAddress::Tcp(at))
            }
        };
        Self {
            socket,
            address,
            asked,
            passed_as,
            ours,
        }
    }

    /// The state for a process that takes the socket over.
    ///
    /// # Errors
    /// The error of the system call for another descriptor.
    pub fn share(&self) -> io::Result<SharedSocket> {
        let (socket, file) = match &self.socket {
            ListenSocket::Tcp(socket) => (socket.as_fd(), None),
            ListenSocket::Unix(socket, file) => {
                (socket.as_fd(), file.as_ref().map(RemoveOnDrop::identity))
            }
        };
        Ok(SharedSocket {
            socket: socket.try_clone_to_owned()?,
            address: self.address.clone(),
            asked: self.asked.clone(),
            passed_as: self.passed_as.clone(),
            file,
            ours: self.ours.clone(),
        })
    }

    /// Leaves accepting to the caller.
    pub(crate) fn into_accept(self) -> io::Result<Accept> {
        self.socket.into_accept()
    }

    /// Accepts from `open` on until the drain, and then the rest of the backlog.
    ///
    /// # Errors
    /// The error of the system call for registering the socket.
    pub async fn accept(
        self,
        open: CancellationToken,
        site: Arc<CurrentSite>,
        stop: Shutdown,
        tasks: TaskTracker,
    ) -> io::Result<()> {
        // Both are cancel-safe: tokens that stay cancelled.
        tokio::select! {
            () = open.cancelled() => {}
            () = stop.drain.cancelled() => {}
        }
        let listener = self.socket.into_accept()?;
        let reception = Reception::new(site, stop, tasks, self.address.is_tls());
        let connections = reception.connections();
        let next = async || {
            // Checked, not kept: another listener may need the slot while no connection arrives
            // here.
            let mut place = pin!(connections.place());
            let mut full_since = Instant::now();
            // The first look is at once: many clients may wait behind the one accepted last.
            let mut wait = Duration::ZERO;
            loop {
                tokio::select! {
                    biased;
                    // Cancel-safe: polled in place.
                    _there = place.as_mut() => break,
                    // Cancel-safe: a timer.
                    () = tokio::time::sleep(wait) => {
                        wait = LOOK;
                        let listed = &connections.listed;
                        if !has_visitors(&listener)
                            || listed.end_lingering_ones()
                            || listed.end_crowding_heads()
                        {
                            continue;
                        }
                        if full_since.elapsed() >= MAKE_ROOM {
                            full_since = Instant::now();
                            listed.end_idle_ones();
                        }
                    }
                }
            }
            listener.accept().await
        };
        let no_accept = Throttle::default();
        let mut in_a_row = 0;
        loop {
            if in_a_row == IN_A_ROW {
                tokio::task::yield_now().await;
                in_a_row = 0;
            }
            in_a_row += 1;
            let accepted = tokio::select! {
                // Cancel-safe: an accept that does not complete has taken nothing.
                accepted = next() => accepted,
                // Cancel-safe. The backlog is accepted below.
                () = reception.stop.drain.cancelled() => break,
            };
            match accepted {
                Ok((socket, ends)) => reception.receive(socket, ends, connections.place().await),
                // The client disconnected between its SYN and our accept.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    connections.cannot_accept();
                    if no_accept.is_due().is_some() {
                        tracing::error!(code = codes::ACCEPT, address = %self.address, %error, "cannot accept connections");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        match self.passed_as.is_some() || !self.ours.get() {
            // What closes a socket of our own would close this one for the next process, too.
            true => Ok(()),
            false => drain::accept_the_last(listener, &reception).await,
        }
    }
}

impl ListenSocket {
    fn into_accept(self) -> io::Result<Accept> {
        Ok(match self {
            Self::Tcp(socket) => Accept::Tcp(TcpListener::from_std(socket)?),
            Self::Unix(socket, guard) => Accept::Unix(UnixListener::from_std(socket)?, guard),
        })
    }
}

fn bind_tcp(address: SocketAddr, named: fn(SocketAddr) -> ListenAddress) -> io::Result<Listener> {
    let family = if address.is_ipv6() {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    // A restarted server must not wait for the old one's connections to time out.
    rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    let socket = std::net::TcpListener::from(socket);
    let local = named(socket.local_addr()?);
    Ok(Listener {
        socket: ListenSocket::Tcp(socket),
        address: local,
        asked: named(address),
        passed_as: None,
        ours: Ownership::new(true),
    })
}

/// The user to which the server switches makes the socket itself where it may: root then touches no
/// path that this user could exchange. Elsewhere root makes it and changes its owner, by
/// descriptors.
fn bind_unix(path: &Path, file: &SocketFileSettings) -> io::Result<Listener> {
    let own = |resolve| unix_listener::bind(path, file.mode, resolve);
    let bound = match (file.becomes, file.owner) {
        (None, None) => own(Resolve::Path)?,
        (_, Some((uid, gid))) => {
            let bound = own(Resolve::Directory)?;
            bound.file.give(uid, gid)?;
            bound
        }
        (Some((uid, gid)), None) => match identity::acting_as(uid, gid, || own(Resolve::Path))? {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let bound = own(Resolve::Directory)?;
                bound.file.give(Some(uid), Some(gid))?;
                bound
            }
            bound => bound?,
        },
    };
    let socket = bound.listener;
    rustix::net::listen(&socket, BACKLOG)?;
    socket.set_nonblocking(true)?;
    let ours = Ownership::new(true);
    let file = RemoveOnDrop::new(bound.file, ours.clone());
    let address = ListenAddress::Unix(path.to_owned());
    Ok(Listener {
        socket: ListenSocket::Unix(socket, Some(file)),
        asked: address.clone(),
        address,
        passed_as: None,
        ours,
    })
}

fn remedy(error: &io::Error, address: &ListenAddress) -> String {
    match (error.kind(), address) {
        (io::ErrorKind::PermissionDenied, ListenAddress::Tcp(_) | ListenAddress::Tls(_)) => {
            "permission denied (run as root or use a port above 1023)".to_owned()
        }
        (io::ErrorKind::PermissionDenied, ListenAddress::Unix(_)) => format!(
            "permission denied for uid {} (choose a directory that it may write to)",
            rustix::process::geteuid().as_raw()
        ),
        (io::ErrorKind::AddrInUse, _) => {
            "address in use (another server runs there; stop it or choose another --bind)"
                .to_owned()
        }
        (io::ErrorKind::AddrNotAvailable, _) => {
            "this machine does not have that address".to_owned()
        }
        _ => error.to_string(),
    }
}
