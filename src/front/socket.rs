//! A connected socket, of a client or to an upstream server: TCP, Unix, or TCP inside a TLS session,
//! with one interface for all.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::front::tls::stream::TlsStream;
use crate::os::sealed_bytes::SealedBytes;
use crate::os::sendfile;
use crate::os::sockets::{self, PeerEnd};

/// A connected socket.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// Unix.
    Unix(UnixStream),
    /// TCP inside a TLS session.
    Tls(Box<TlsStream>),
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
            Self::Tls(socket) => socket.as_fd(),
        }
    }
}

impl Socket {
    /// Waits until bytes or the end can be read from the socket, in a session: records.
    pub fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(socket) => socket.poll_read_ready(context),
            Self::Unix(socket) => socket.poll_read_ready(context),
            Self::Tls(socket) => socket.tcp().poll_read_ready(context),
        }
    }

    /// Checks if the peer has ended the connection, even with unread bytes before the end. The
    /// socket counts as not ready until more arrives.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn peer_end(&self) -> io::Result<PeerEnd> {
        let mut end = Ok(PeerEnd::Open);
        let _not_ready = self.try_read_with(|socket| {
            end = sockets::peer_end(socket);
            Err::<(), _>(io::ErrorKind::WouldBlock.into())
        });
        end
    }

    /// True for a TCP socket, where a peer that has disconnected looks like one that has sent all
    /// (half-close).
    pub fn is_tcp(&self) -> bool {
        matches!(self, Self::Tcp(_) | Self::Tls(_))
    }

    /// True inside a TLS session, where the kernel knows only records.
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// True if a session has decrypted bytes, or its end, of which the socket shows nothing.
    pub fn has_buffered(&mut self) -> bool {
        match self {
            Self::Tls(socket) => socket.has_buffered(),
            Self::Tcp(_) | Self::Unix(_) => false,
        }
    }

    /// The socket without its session, of which only the end is left.
    pub fn without_session(self) -> Self {
        match self {
            Self::Tls(socket) => Self::Tcp(socket.into_tcp()),
            socket => socket,
        }
    }

    /// Closes the write side at once.
    ///
    /// # Errors
    /// The error of the system call.
    pub fn end_writing(&mut self) -> io::Result<()> {
        match self {
            Self::Tls(socket) => socket.end_writing(),
            socket => Ok(rustix::net::shutdown(
                socket.as_fd(),
                rustix::net::Shutdown::Write,
            )?),
        }
    }

    /// Waits until the socket can be written.
    pub fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(socket) => socket.poll_write_ready(context),
            Self::Unix(socket) => socket.poll_write_ready(context),
            Self::Tls(socket) => socket.tcp().poll_write_ready(context),
        }
    }

    /// True if nothing can be read, not even the end.
    pub fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        let read = match self {
            Self::Tcp(socket) => socket.try_read(&mut byte),
            Self::Unix(socket) => socket.try_read(&mut byte),
            Self::Tls(socket) => socket.try_receive(&mut ReadBuf::new(&mut byte)).map(|()| 1),
        };
        matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// True if neither bytes nor the end of the stream arrive within `time`.
    pub async fn stays_quiet(&mut self, time: Duration) -> bool {
        let comes = async {
            // Readiness may be left from before.
            while self.is_quiet() {
                let ready = match self {
                    Self::Tcp(socket) => socket.readable().await,
                    Self::Unix(socket) => socket.readable().await,
                    Self::Tls(socket) => socket.tcp().readable().await,
                };
                if ready.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(time, comes).await.is_err()
    }

    /// Sends pieces, or as much of them as the socket accepts. `writev`, the usual call, is for
    /// files and takes 0.2 µs more.
    ///
    /// # Errors
    /// The error of the system call; `WouldBlock` if the socket is not ready. The same bytes have to
    /// be offered again then ([`TlsStream`]).
    pub fn try_send(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        if let Self::Tls(socket) = self {
            return socket.try_send(parts);
        }
        self.try_write_with(|socket| {
            Ok(match parts {
                [part] => rustix::net::send(socket, part, SendFlags::NOSIGNAL)?,
                parts => {
                    let mut control = SendAncillaryBuffer::default();
                    rustix::net::sendmsg(socket, parts, &mut control, SendFlags::NOSIGNAL)?
                }
            })
        })
    }

    /// Sends `head` and `body`, which the kernel sends without a copy outside of a TLS session, or as much of them
    /// as the socket accepts.
    ///
    /// # Errors
    /// The error of the first system call; `WouldBlock` if the socket is not ready. What prevents the second one shows at
    /// the next attempt.
    pub fn try_send_sealed(&mut self, head: &[u8], body: &SealedBytes) -> io::Result<usize> {
        if self.is_tls() {
            return self.try_send(&[IoSlice::new(head), IoSlice::new(body.as_ref())]);
        }
        self.try_write_with(|socket| {
            let flags = SendFlags::NOSIGNAL | SendFlags::MORE;
            let sent = rustix::net::send(socket, head, flags)?;
            if sent < head.len() {
                return Ok(sent);
            }
            let length = body.as_ref().len();
            Ok(sent + sendfile::send(socket, body.file(), 0, length).unwrap_or(0))
        })
    }

    /// Reads although the runtime takes the socket for not ready.
    ///
    /// # Errors
    /// The error of the system call; `WouldBlock` if there is nothing.
    pub fn try_receive(&mut self, into: &mut ReadBuf<'_>) -> io::Result<()> {
        if let Self::Tls(socket) = self {
            return socket.try_receive(into);
        }
        let (length, _) = rustix::net::recv(
            self.as_fd(),
            into.initialize_unfilled(),
            RecvFlags::DONTWAIT,
        )?;
        into.advance(length);
        Ok(())
    }

    /// As [`Socket::try_send`], as soon as the socket is ready.
    pub fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_write_ready(context))?;
            match self.try_send(parts) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }

    /// Runs a read by another system call, if the socket may be ready; after `WouldBlock` it is not
    /// any more.
    pub fn try_read_with<T>(
        &self,
        read: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        self.try_io(Interest::READABLE, read)
    }

    /// Runs a write by another system call; after `WouldBlock` the socket is not ready any more.
    pub fn try_write_with(
        &self,
        write: impl FnOnce(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.try_io(Interest::WRITABLE, write)
    }

    fn try_io<T>(
        &self,
        interest: Interest,
        call: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        match self {
            Self::Tcp(socket) => socket.try_io(interest, || call(socket.as_fd())),
            Self::Unix(socket) => socket.try_io(interest, || call(socket.as_fd())),
            Self::Tls(socket) => {
                let socket = socket.tcp();
                socket.try_io(interest, || call(socket.as_fd()))
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_read(context, into),
            Self::Unix(socket) => Pin::new(socket).poll_read(context, into),
            Self::Tls(socket) => Pin::new(&mut **socket).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_write(context, bytes),
            Self::Unix(socket) => Pin::new(socket).poll_write(context, bytes),
            Self::Tls(socket) => Pin::new(&mut **socket).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_write_vectored(context, parts),
            Self::Unix(socket) => Pin::new(socket).poll_write_vectored(context, parts),
            Self::Tls(socket) => Pin::new(&mut **socket).poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_flush(context),
            Self::Unix(socket) => Pin::new(socket).poll_flush(context),
            Self::Tls(socket) => Pin::new(&mut **socket).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_shutdown(context),
            Self::Unix(socket) => Pin::new(socket).poll_shutdown(context),
            Self::Tls(socket) => Pin::new(&mut **socket).poll_shutdown(context),
        }
    }
}
