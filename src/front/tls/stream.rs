//! A TCP connection inside a TLS session, with the interface of a socket that does not block.
//!
//! A write reports bytes only once the kernel has all of their records. Until then the caller has
//! to offer the same bytes again, as for OpenSSL's `SSL_write`: so nothing that was reported waits
//! here for a flush, and minimum rates, truncated responses and lingering closes work as without
//! TLS. `tokio-rustls` reports bytes earlier, and cannot read where the runtime does not know that
//! there are bytes; so the session is driven here.

use std::io::{self, BufRead, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use rustix::net::RecvFlags;
use rustls::Connection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A TCP connection inside a TLS session.
#[derive(Debug)]
pub struct TlsStream {
    tcp: TcpStream,
    session: Connection,
    /// Received before the session began; it precedes the bytes that the socket receives.
    early: Bytes,
    /// Bytes whose records the kernel does not have completely.
    claimed: usize,
    /// Bytes received since the session began, or since the last decrypted ones.
    received: usize,
    is_closing: bool,
    /// Towards a server: the generation of the files that verified it.
    pub generation: u64,
}

/// Most bytes that a client may send without data in them. A record takes 18 KiB with the next
/// one's first bytes. Inside of a session rustls would gather a message of the handshake protocol
/// up to 64 KiB; clients send a few bytes of those (RFC 8446 §4.6.3).
const MOST_WITHOUT_DATA: usize = 32 << 10;

impl AsFd for TlsStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tcp.as_fd()
    }
}

impl TlsStream {
    /// A session whose handshake has not begun; `early` was received before it.
    pub fn new(tcp: TcpStream, session: impl Into<Connection>, early: Bytes) -> Self {
        Self {
            tcp,
            session: session.into(),
            early,
            claimed: 0,
            received: 0,
            is_closing: false,
            generation: 0,
        }
    }

    /// The socket below.
    pub fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// The socket, for bytes outside of the session.
    pub fn into_tcp(self) -> TcpStream {
        self.tcp
    }

    /// The socket before the session, and what was received from it.
    pub fn into_plain(self) -> (TcpStream, Bytes) {
        (self.tcp, self.early)
    }

    /// True if the first byte, which is awaited, is a letter, as that of an HTTP/1 method and of the
    /// preface of HTTP/2. A session begins with a record of type 22 (RFC 8446 §5.1).
    ///
    /// # Errors
    /// The error of the socket.
    pub async fn begins_with_letter(&self) -> io::Result<bool> {
        if let Some(first) = self.early.first() {
            return Ok(first.is_ascii_alphabetic());
        }
        let mut first = [0];
        let received = self.tcp.peek(&mut first).await?;
        Ok(received > 0 && first[0].is_ascii_alphabetic())
    }

    /// Number of bytes received, while the handshake is not complete.
    pub fn received(&self) -> usize {
        self.received
    }

    /// The session.
    pub fn session(&self) -> &Connection {
        &self.session
    }

    /// Sends the records of the handshake that are ready, and receives the next ones, which
    /// [`TlsStream::process`] handles. `false`: the handshake is complete.
    ///
    /// # Errors
    /// The error of the socket, and `UnexpectedEof`.
    pub async fn receive_handshake(&mut self) -> io::Result<bool> {
        std::future::poll_fn(|context| self.poll_tls_flush(context)).await?;
        if !self.session.is_handshaking() {
            return Ok(false);
        }
        let received = std::future::poll_fn(|context| self.poll_receive_records(context)).await?;
        match received {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(true),
        }
    }

    /// Handles received records; in a handshake, that is the costly part.
    ///
    /// # Errors
    /// A violation of the protocol, of which the peer gets an alert.
    pub fn process(&mut self) -> Result<(), rustls::Error> {
        let processed = self.session.process_new_packets();
        processed.map(|_state| ()).inspect_err(|_violation| {
            // The peer may have gone.
            let _ = self.try_tls_flush();
        })
    }

    /// True if there are bytes, or the end, that the socket does not show.
    pub fn has_buffered(&mut self) -> bool {
        !self.early.is_empty() || self.session.reader().fill_buf().is_ok()
    }

    /// Sends pieces, or as much of them as the socket accepts.
    ///
    /// # Errors
    /// `WouldBlock` until the kernel has all records; the same bytes have to be offered again.
    pub fn try_send(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.claimed == 0 {
            // Records of earlier calls, of which no byte was reported.
            self.try_tls_flush()?;
            self.claimed = self.session.writer().write_vectored(parts)?;
        }
        self.try_tls_flush()?;
        Ok(std::mem::take(&mut self.claimed))
    }

    /// As [`TlsStream::try_send`], as soon as the socket is ready.
    pub fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.try_send(parts) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.tcp.poll_write_ready(context))?;
                }
                sent => return Poll::Ready(sent),
            }
        }
    }

    /// Reads although the runtime takes the socket for not ready.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing.
    pub fn try_receive(&mut self, into: &mut ReadBuf<'_>) -> io::Result<()> {
        loop {
            if let Some(read) = self.read_plaintext(into) {
                return read;
            }
            let socket = self.tcp.as_fd();
            self.received +=
                receive_records(&mut self.session, &mut self.early, &mut AtOnce(socket))?;
            self.process_records()?;
        }
    }

    /// Announces the end of the session (`close_notify`), and closes the write side.
    pub fn end_writing(&mut self) -> io::Result<()> {
        self.close_session();
        self.try_tls_flush()?;
        Ok(rustix::net::shutdown(
            &self.tcp,
            rustix::net::Shutdown::Write,
        )?)
    }

    /// RFC 8446 §6.1. Behind a part of a record it would be read as a part of that.
    fn close_session(&mut self) {
        if !self.is_closing && self.claimed == 0 {
            self.session.send_close_notify();
        }
        self.is_closing = true;
    }

    fn try_tls_flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            if self.session.write_tls(&mut Sending(&self.tcp))? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    fn poll_tls_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.try_tls_flush() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.tcp.poll_write_ready(context))?;
                }
                flushed => return Poll::Ready(flushed),
            }
        }
    }

    fn poll_receive_records(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let tcp = &mut self.tcp;
        let received = receive_records(
            &mut self.session,
            &mut self.early,
            &mut Waking { tcp, context },
        );
        match received {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            received => Poll::Ready(received.inspect(|bytes| self.received += bytes)),
        }
    }

    fn process_records(&mut self) -> io::Result<()> {
        self.process()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let is_server = matches!(self.session, Connection::Server(_));
        if is_server && self.received > MOST_WITHOUT_DATA {
            if self.session.reader().fill_buf().is_err() {
                let text = "too many bytes without data";
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            self.received = 0;
        }
        match self.try_tls_flush() {
            // The rest goes with the next write.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            flushed => flushed,
        }
    }

    /// Decrypted bytes, or the end; `None` if there is neither.
    fn read_plaintext(&mut self, into: &mut ReadBuf<'_>) -> Option<io::Result<()>> {
        let is_server = matches!(self.session, Connection::Server(_));
        let mut reader = self.session.reader();
        match reader.fill_buf() {
            Ok(bytes) => {
                let length = bytes.len().min(into.remaining());
                into.put_slice(&bytes[..length]);
                self.received = 0;
                reader.consume(length);
                Some(Ok(()))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            // Without `close_notify`. Requests have a framing of their own; a response may end with
            // the connection, and is complete only behind a `close_notify` (RFC 9112 §9.8).
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && is_server => Some(Ok(())),
            Err(error) => Some(Err(error)),
        }
    }
}

fn receive_records(
    session: &mut Connection,
    early: &mut Bytes,
    socket: &mut dyn Read,
) -> io::Result<usize> {
    if early.is_empty() {
        return session.read_tls(socket);
    }
    let mut bytes = &early[..];
    let read = session.read_tls(&mut bytes)?;
    early.advance(read);
    Ok(read)
}

impl AsyncRead for TlsStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if into.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if let Some(read) = this.read_plaintext(into) {
                return Poll::Ready(read);
            }
            ready!(this.poll_receive_records(context))?;
            this.process_records()?;
        }
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_send(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_send(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_tls_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.close_session();
        ready!(this.poll_tls_flush(context))?;
        Pin::new(&mut this.tcp).poll_shutdown(context)
    }
}

/// The socket as rustls writes to it.
struct Sending<'a>(&'a TcpStream);

impl Write for Sending<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The socket as rustls reads from it; where there is nothing, the runtime wakes the task later.
struct Waking<'a, 'b> {
    tcp: &'a mut TcpStream,
    context: &'a mut Context<'b>,
}

impl Read for Waking<'_, '_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut into = ReadBuf::new(into);
        match Pin::new(&mut *self.tcp).poll_read(self.context, &mut into) {
            Poll::Ready(read) => read.map(|()| into.filled().len()),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

/// The same past the runtime.
struct AtOnce<'a>(BorrowedFd<'a>);

impl Read for AtOnce<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let (length, _) = rustix::net::recv(self.0, into, RecvFlags::DONTWAIT)?;
        Ok(length)
    }
}
