//! Closes a listener without losing connections.
//!
//! Closing a listening socket resets the connections in it: handshakes in progress, and the
//! backlog, whose requests may have arrived already. So, to drain:
//! 1. New connections are refused. TCP: the kernel drops SYN packets, which clients send again
//!    after a second and then get a reset. Unix: the path is removed, and the
//!    kernel refuses.
//! 2. Handshakes in progress have a moment to complete.
//! 3. The backlog is accepted until it is empty.
//!
//! Where the kernel cannot drop packets (some sandboxes), the second step is left out.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

use super::reception::{Accept, Reception, over_tcp};
use crate::front::client_limits::connections::ACCEPT_PAUSE;
use crate::front::context::Endpoints;
use crate::front::socket::Socket;
use crate::os::sockets;

/// Time for handshakes in progress: their last packet is half a round trip away, and a whole one
/// takes 500 ms to the far side of the world over a bad mobile network.
const HANDSHAKES: Duration = Duration::from_millis(250);
/// Interval at which the backlog is checked for completed handshakes.
const LOOK: Duration = Duration::from_millis(10);

/// Accepts the connections in the backlog, and closes the listener.
///
/// # Errors
/// The error of the system call for taking the socket from the runtime.
pub(crate) async fn accept_the_last(listener: Accept, reception: &Reception) -> io::Result<()> {
    let last = Last::of(listener)?;
    // Cancel-safe: `cut` ends connections without grace.
    tokio::select! {
        () = last.accept(reception) => {}
        () = reception.stop.cut.cancelled() => {}
    }
    Ok(())
}

/// A listener that refuses new connections.
struct Last {
    socket: Closing,
    until: Instant,
}

enum Closing {
    Tcp(std::net::TcpListener),
    Unix(StdUnixListener),
}

impl Last {
    fn of(listener: Accept) -> io::Result<Self> {
        let (socket, refuses) = match listener {
            Accept::Tcp(listener) => {
                let socket = listener.into_std()?;
                let refuses = sockets::drop_new_handshakes(socket.as_fd());
                (Closing::Tcp(socket), refuses)
            }
            Accept::Unix(listener, path) => {
                drop(path);
                let socket = listener.into_std()?;
                // From here on `connect` fails; connections made before can still be accepted.
                let refuses = rustix::net::shutdown(&socket, rustix::net::Shutdown::Read);
                (Closing::Unix(socket), refuses.map_err(Into::into))
            }
        };
        if let Err(error) = &refuses {
            tracing::debug!(%error, "cannot refuse new connections on a closing listener");
        }
        let moment = match &socket {
            Closing::Tcp(_) if refuses.is_ok() => HANDSHAKES,
            _ => Duration::ZERO,
        };
        let until = Instant::now() + moment;
        Ok(Self { socket, until })
    }

    async fn accept(&self, reception: &Reception) {
        let connections = reception.connections();
        loop {
            match self.socket.accept() {
                Ok(Some((socket, ends))) => {
                    reception.receive(socket, ends, connections.place().await);
                }
                Ok(None) if Instant::now() >= self.until => return,
                Ok(None) => tokio::time::sleep(LOOK).await,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                // Descriptors become free as connections end.
                Err(error) => {
                    tracing::debug!(%error, "cannot accept the connections in the backlog yet");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

impl Closing {
    /// The next connection in the backlog, if any.
    fn accept(&self) -> io::Result<Option<(Socket, Endpoints)>> {
        match self {
            Self::Tcp(listener) => {
                let Some((socket, peer)) = if_any(listener.accept())? else {
                    return Ok(None);
                };
                socket.set_nonblocking(true)?;
                over_tcp(TcpStream::from_std(socket)?, peer).map(Some)
            }
            Self::Unix(listener) => {
                let Some((socket, _unnamed)) = if_any(listener.accept())? else {
                    return Ok(None);
                };
                socket.set_nonblocking(true)?;
                let socket = Socket::Unix(UnixStream::from_std(socket)?);
                Ok(Some((socket, Endpoints::default())))
            }
        }
    }
}

/// An empty backlog is not an error. An empty Unix listener that is shut down reports
/// `InvalidInput`.
fn if_any<T>(accepted: io::Result<T>) -> io::Result<Option<T>> {
    use io::ErrorKind::{InvalidInput, WouldBlock};
    match accepted {
        Err(error) if matches!(error.kind(), InvalidInput | WouldBlock) => Ok(None),
        accepted => accepted.map(Some),
    }
}
