//! Binds the addresses, and accepts connections until they are to drain.

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::Path;
use std::sync::Arc;

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::task::TaskTracker;

use super::closing;
use super::reception::{Accept, PAUSE, Reception, UnlinkOnDrop};
use super::site::CurrentSite;
use super::stop::Stop;
use crate::config::ListenAddress;
use crate::observe::throttle::Throttle;
use crate::os::{identity, sockets};

/// Connections that may wait to be accepted; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// Connections accepted before those that are there have their turn. tokio would take 128, and
/// what each of them brings comes before the next step of everybody else: under a flood of short
/// connections a request waited for 250 ms, with this for 3. One at a time, as nginx does it
/// (`multi_accept off`), makes new clients wait where many old ones are busy.
const IN_A_ROW: u32 = 4;

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
    Unix(StdUnixListener, UnlinkOnDrop),
}

impl Listener {
    /// Binds and listens; a client that connects from now on waits to be accepted.
    ///
    /// # Errors
    /// [`BindError`] with the remedy where there is one.
    pub fn bind(address: &ListenAddress) -> Result<Self, BindError> {
        let bound = match address {
            ListenAddress::Tcp(address) => bind_tcp(*address),
            ListenAddress::Unix(path) => bind_unix(path),
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

    /// Gives the socket's file, if it has one, to somebody.
    ///
    /// # Errors
    /// [`BindError`] if that is not allowed.
    pub fn give(&self, uid: u32, gid: u32) -> Result<(), BindError> {
        let ListenAddress::Unix(path) = &self.address else {
            return Ok(());
        };
        identity::give(path, uid, gid).map_err(|error| BindError {
            address: self.address.to_string(),
            reason: format!("cannot give the socket to uid {uid} and gid {gid}: {error}"),
        })
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
            drop(connections.place().await);
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

fn bind_unix(path: &Path) -> io::Result<Listener> {
    let socket = match StdUnixListener::bind(path) {
        // A socket that nobody listens on is left over from a server that was killed.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && sockets::is_abandoned(path) => {
            std::fs::remove_file(path)?;
            StdUnixListener::bind(path)?
        }
        bound => bound?,
    };
    rustix::net::listen(&socket, BACKLOG)?;
    socket.set_nonblocking(true)?;
    let guard = UnlinkOnDrop::new(path);
    Ok(Listener {
        socket: ListenSocket::Unix(socket, guard),
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
