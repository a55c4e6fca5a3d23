//! Binds the addresses, and accepts connections until they are to drain.

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::task::TaskTracker;

use super::closing;
use super::reception::{Accept, PAUSE, Reception};
use super::site::CurrentSite;
use super::stop::Stop;
use crate::config::ListenAddress;
use crate::observe::throttle::Throttle;
use crate::os::descriptors::has_visitors;
use crate::os::identity;
use crate::os::unix_listener::{self, RemoveOnDrop, Resolve};

/// Connections that may wait to be accepted; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// Connections accepted before those that are there have their turn. tokio would take 128, and
/// what each of them brings comes before the next step of everybody else: under a flood of short
/// connections a request waited for 250 ms, with this for 3. One at a time, as nginx does it
/// (`multi_accept off`), makes new clients wait where many old ones are busy.
const IN_A_ROW: u32 = 4;

/// Between two times that idle connections end for clients that wait: an idle connection is looked
/// at for 250 ms more.
const MAKE_ROOM: Duration = Duration::from_millis(300);

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot bind {address}: {reason}")]
pub struct BindError {
    address: String,
    reason: String,
}

/// A bound address.
#[derive(Debug)]
pub struct Listener {
    socket: ListenSocket,
    /// How clients reach it, with the port that the kernel chose for port 0.
    pub address: ListenAddress,
}

#[derive(Debug)]
enum ListenSocket {
    Tcp(std::net::TcpListener),
    Unix(StdUnixListener, RemoveOnDrop),
}

/// How the file of a Unix socket is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SocketFileSettings {
    /// Permissions, as chmod(1) takes them in octal; `None`: as the umask leaves them.
    pub mode: Option<u32>,
    /// User and group that own it, each if it is given.
    pub owner: Option<(Option<u32>, Option<u32>)>,
    /// User and group that the server runs as, where it is root now and will not be.
    pub becomes: Option<(u32, u32)>,
}

impl Listener {
    /// Binds and listens; a client that connects from now on waits to be accepted.
    ///
    /// # Errors
    /// [`BindError`] with the remedy where there is one.
    pub fn bind(address: &ListenAddress, file: &SocketFileSettings) -> Result<Self, BindError> {
        let bound = match address {
            ListenAddress::Tcp(address) => bind_tcp(*address),
            ListenAddress::Unix(path) => bind_unix(path, file),
        };
        bound.map_err(|error| BindError {
            address: address.to_string(),
            reason: remedy(&error, address),
        })
    }

    /// Leaves accepting to the caller.
    pub(super) fn into_accept(self) -> io::Result<Accept> {
        self.socket.into_accept()
    }

    /// Accepts until the connections are to drain, and then those that had begun to connect.
    ///
    /// # Errors
    /// What the kernel says about registering the socket.
    pub async fn accept(
        self,
        site: Arc<CurrentSite>,
        stop: Stop,
        tasks: TaskTracker,
    ) -> io::Result<()> {
        let listener = self.socket.into_accept()?;
        let reception = Reception::new(site, stop, tasks);
        let connections = reception.connections();
        let next = async || {
            // Looked at, not kept: another listener may need it while nobody comes here.
            let mut place = pin!(connections.place());
            loop {
                tokio::select! {
                    biased;
                    // Cancel-safe: polled in place.
                    _there = place.as_mut() => break,
                    // Cancel-safe: a timer.
                    () = tokio::time::sleep(MAKE_ROOM) => {
                        if has_visitors(&listener) {
                            connections.end_idle_ones();
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
                // Cancel-safe. What the kernel holds ready is taken below.
                () = reception.stop.drain.cancelled() => break,
            };
            match accepted {
                Ok((socket, ends)) => reception.receive(socket, ends, connections.place().await),
                // The client gave up between its SYN and our accept.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    connections.cannot_accept();
                    if no_accept.is_due().is_some() {
                        tracing::error!(address = %self.address, %error, "cannot accept connections");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        closing::accept_the_last(listener, &reception).await
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

fn bind_tcp(address: SocketAddr) -> io::Result<Listener> {
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
    let address = ListenAddress::Tcp(socket.local_addr()?);
    Ok(Listener {
        socket: ListenSocket::Tcp(socket),
        address,
    })
}

/// The user that the server becomes makes the socket itself where it may: root then touches no
/// path that this user could exchange. Elsewhere root makes it and gives it away, by descriptors.
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
    Ok(Listener {
        socket: ListenSocket::Unix(socket, RemoveOnDrop(bound.file)),
        address: ListenAddress::Unix(path.to_owned()),
    })
}

fn remedy(error: &io::Error, address: &ListenAddress) -> String {
    match (error.kind(), address) {
        (io::ErrorKind::PermissionDenied, ListenAddress::Tcp(_)) => {
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
