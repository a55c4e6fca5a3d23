//! Accepts connections from a listening socket, and serves each in its own task.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio_util::task::TaskTracker;

use crate::front::client_limits::connections::{Connections, ListenerPermit};
use crate::front::connection;
use crate::front::context::Endpoints;
use crate::front::shutdown::Shutdown;
use crate::front::site::CurrentSite;
use crate::front::socket::Socket;
use crate::os::unix_listener::RemoveOnDrop;

/// The context in which accepted connections are served.
pub(crate) struct Reception {
    site: Arc<CurrentSite>,
    pub(crate) stop: Shutdown,
    tasks: TaskTracker,
    /// Connections are inside TLS sessions.
    is_tls: bool,
}

impl Reception {
    pub(crate) fn new(
        site: Arc<CurrentSite>,
        stop: Shutdown,
        tasks: TaskTracker,
        is_tls: bool,
    ) -> Self {
        Self {
            site,
            stop,
            tasks,
            is_tls,
        }
    }

    /// The counter of connections, shared by all listeners.
    pub(crate) fn connections(&self) -> Arc<Connections> {
        Arc::clone(&self.site.get().connections)
    }

    /// Serves a connection in its own task, which holds its slot.
    pub(crate) fn receive(&self, socket: Socket, ends: Endpoints, place: ListenerPermit) {
        let (site, stop) = (Arc::clone(&self.site), self.stop.clone());
        let serve = connection::serve(site, socket, ends, self.is_tls, stop);
        self.tasks.spawn(async move {
            serve.await;
            drop(place);
        });
    }
}

/// A listening socket registered with the runtime.
pub(crate) enum Accept {
    Tcp(TcpListener),
    /// Dropping the second part removes the path; none for a socket that was passed to this process.
    Unix(UnixListener, Option<RemoveOnDrop>),
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
    pub(crate) async fn accept(&self) -> io::Result<(Socket, Endpoints)> {
        match self {
            Self::Tcp(listener) => {
                let (socket, peer) = listener.accept().await?;
                over_tcp(socket, peer)
            }
            Self::Unix(listener, _) => {
                let (socket, _unnamed) = listener.accept().await?;
                Ok((Socket::Unix(socket), Endpoints::default()))
            }
        }
    }
}

/// A TCP connection as the rest of the front takes it.
pub(crate) fn over_tcp(socket: TcpStream, peer: SocketAddr) -> io::Result<(Socket, Endpoints)> {
    // Small responses are not delayed until the client's acknowledgement (Nagle).
    socket.set_nodelay(true)?;
    let ends = Endpoints {
        peer: Some(peer),
        local: socket.local_addr().ok(),
        ..Endpoints::default()
    };
    Ok((Socket::Tcp(socket), ends))
}
