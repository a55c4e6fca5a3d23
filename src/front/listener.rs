//! Binds the addresses, accepts connections, and hands each to its own task.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio_util::task::TaskTracker;

use super::closing;
use super::connection::{self, Stop};
use super::connections::{Connections, Place};
use super::request::context::Ends;
use super::site::CurrentSite;
use super::socket::Socket;
use crate::config::ListenAddress;
use crate::observe::throttle::Throttle;
use crate::os::identity;

/// Connections that may wait to be accepted; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// Pause after an accept that failed because descriptors or memory ran out: long enough
/// not to spin, short enough that nobody notices once there are some again.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

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

/// Removes a Unix socket's path when the listener goes.
#[derive(Debug)]
pub(super) struct UnlinkOnDrop(PathBuf);

impl Drop for UnlinkOnDrop {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.0);
    }
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
        let reception = Reception { site, stop, tasks };
        let connections = reception.connections();
        let next = async || {
            // Looked at, not kept: another listener may need it while nobody comes here.
            drop(connections.place().await);
            listener.accept().await
        };
        let no_accept = Throttle::default();
        loop {
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

/// Where accepted connections go.
pub(super) struct Reception {
    site: Arc<CurrentSite>,
    pub(super) stop: Stop,
    tasks: TaskTracker,
}

impl Reception {
    /// Who counts connections, those of all listeners together.
    pub(super) fn connections(&self) -> Arc<Connections> {
        Arc::clone(&self.site.get().connections)
    }

    /// Serves a connection in a task of its own, which keeps its place.
    pub(super) fn receive(&self, socket: Socket, ends: Ends, place: Place) {
        let (site, stop) = (Arc::clone(&self.site), self.stop.clone());
        let serve = connection::serve(site, socket, ends, stop);
        self.tasks.spawn(async move {
            serve.await;
            drop(place);
        });
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

/// A listener that the runtime waits for.
pub(super) enum Accept {
    Tcp(TcpListener),
    /// Dropping the second part removes the path.
    Unix(UnixListener, UnlinkOnDrop),
}

impl AsFd for Accept {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener, _) => listener.as_fd(),
        }
    }
}

impl Accept {
    /// The next connection.
    pub(super) async fn accept(&self) -> io::Result<(Socket, Ends)> {
        match self {
            Self::Tcp(listener) => {
                let (socket, peer) = listener.accept().await?;
                over_tcp(socket, peer)
            }
            Self::Unix(listener, _) => {
                let (socket, _unnamed) = listener.accept().await?;
                Ok((Socket::Unix(socket), Ends::default()))
            }
        }
    }
}

/// A connection over TCP as the rest of the front wants it.
pub(super) fn over_tcp(socket: TcpStream, peer: SocketAddr) -> io::Result<(Socket, Ends)> {
    // Small responses must not wait for the client's acknowledgement.
    socket.set_nodelay(true)?;
    let ends = Ends {
        peer: Some(peer),
        local: socket.local_addr().ok(),
        ..Ends::default()
    };
    Ok((Socket::Tcp(socket), ends))
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
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_abandoned(path) => {
            std::fs::remove_file(path)?;
            StdUnixListener::bind(path)?
        }
        bound => bound?,
    };
    rustix::net::listen(&socket, BACKLOG)?;
    socket.set_nonblocking(true)?;
    let guard = UnlinkOnDrop(path.to_owned());
    Ok(Listener {
        socket: ListenSocket::Unix(socket, guard),
        address: ListenAddress::Unix(path.to_owned()),
    })
}

fn is_abandoned(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    let refused = std::os::unix::net::UnixStream::connect(path)
        .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    is_socket && refused
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
