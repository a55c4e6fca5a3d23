//! An HTTP/1 client that keeps every byte: tests of framing must see what was sent.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::DEADLINE;
use super::tls::server_name;

/// A connection, and what was received on it but belongs to no response yet.
pub struct Connection {
    socket: Socket,
    received: Vec<u8>,
    /// The write side is closed.
    is_finished: bool,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The peer closed in an orderly way.
    Closed,
    /// The peer reset it.
    Reset,
    /// Nothing came within the deadline.
    TimedOut,
}

/// A response, its head byte for byte.
#[derive(Clone)]
pub struct Response {
    /// Status line and header fields with the empty line.
    pub head: Vec<u8>,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// How the connection ended inside the body, if it did.
    pub broken: Option<End>,
}

/// Framing of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

impl Connection {
    /// Connects to a port of the loopback address.
    pub fn tcp(port: u16) -> Self {
        Self::tcp_to(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// Connects to a port of 127.0.0.1 from another address of the loopback network.
    pub fn tcp_from(source: [u8; 4], port: u16) -> Self {
        Self::tcp_with(source, port, None)
    }

    /// Connects to a port with a receive buffer of a few kilobytes.
    pub fn tcp_that_takes_little(port: u16) -> Self {
        Self::tcp_that_takes_little_from([127, 0, 0, 1], port)
    }

    /// The same from another address of the loopback network.
    pub fn tcp_that_takes_little_from(source: [u8; 4], port: u16) -> Self {
        Self::tcp_with(source, port, Some(4096))
    }

    fn tcp_with(source: [u8; 4], port: u16, receive_buffer: Option<usize>) -> Self {
        use rustix::net::{AddressFamily, SocketFlags, SocketType};
        use rustix::net::{bind, connect, socket_with, sockopt};
        // Not to be left to what other tests start meanwhile.
        let (family, flags) = (AddressFamily::INET, SocketFlags::CLOEXEC);
        let socket = socket_with(family, SocketType::STREAM, flags, None).expect("a socket");
        if let Some(bytes) = receive_buffer {
            sockopt::set_socket_recv_buffer_size(&socket, bytes).unwrap();
        }
        bind(&socket, &SocketAddr::from((source, 0))).expect("an address of loopback");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        connect(&socket, &address).expect("the server accepts");
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Self::over(Socket::Tcp(stream))
    }

    /// Connects to any address.
    pub fn tcp_to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server accepts");
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(Socket::Tcp(stream))
    }

    /// Connects to a Unix socket.
    pub fn unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path).expect("the server accepts");
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Self::over(Socket::Unix(stream))
    }

    /// Begins a TLS session on a connection over TCP, with the handshake.
    ///
    /// # Errors
    /// The error that ended the handshake.
    pub fn secured(self, config: Arc<ClientConfig>, name: &str) -> std::io::Result<Self> {
        let Socket::Tcp(mut stream) = self.socket else {
            panic!("not over TCP");
        };
        let session = ClientConnection::new(config, server_name(name));
        let mut session = session.map_err(std::io::Error::other)?;
        while session.is_handshaking() {
            session.complete_io(&mut stream)?;
        }
        let stream = StreamOwned::new(session, stream);
        Ok(Self::over(Socket::Tls(Box::new(stream))))
    }

    /// Its TLS session.
    pub fn session(&self) -> &ClientConnection {
        match &self.socket {
            Socket::Tls(stream) => &stream.conn,
            Socket::Tcp(_) | Socket::Unix(_) => panic!("no TLS"),
        }
    }

    fn over(socket: Socket) -> Self {
        Self {
            socket,
            received: Vec::new(),
            is_finished: false,
        }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the server takes it");
    }

    /// Sends bytes to a server that may close in the middle.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        if self.is_finished {
            // A session would keep the bytes, and fail to send them at its next read.
            return Err(ErrorKind::BrokenPipe.into());
        }
        let socket = self.socket.as_write();
        socket.write_all(bytes.as_ref())?;
        socket.flush()
    }

    /// Changes the longest wait for bytes, which is the deadline of tests at first.
    pub fn waits(&self, longest: std::time::Duration) {
        let longest = Some(longest);
        match &self.socket {
            Socket::Tcp(stream) => stream.set_read_timeout(longest).unwrap(),
            Socket::Unix(stream) => stream.set_read_timeout(longest).unwrap(),
            Socket::Tls(stream) => stream.sock.set_read_timeout(longest).unwrap(),
        }
    }

    /// Says that nothing more will be sent.
    pub fn finish_sending(&mut self) {
        self.socket.shutdown(Shutdown::Write);
        self.is_finished = true;
    }

    /// Sends bytes and says that nothing more will be sent; over TCP in one packet, if they fit.
    pub fn send_and_finish(&mut self, bytes: impl AsRef<[u8]>) {
        self.cork();
        self.send(bytes);
        self.finish_sending();
    }

    /// Holds back over TCP what does not fill a packet, up to the FIN.
    pub fn cork(&self) {
        let socket = match &self.socket {
            Socket::Tcp(socket) => socket,
            Socket::Tls(stream) => &stream.sock,
            Socket::Unix(_) => return,
        };
        rustix::net::sockopt::set_tcp_cork(socket, true).unwrap();
    }

    /// Ends only the TLS session (`close_notify`); the connection below stays open.
    pub fn end_session(&mut self) {
        let Socket::Tls(stream) = &mut self.socket else {
            panic!("no TLS");
        };
        stream.conn.send_close_notify();
        // Fails only if the peer has gone already.
        let _ = stream.flush();
        self.is_finished = true;
    }

    /// Sends a FIN without the end of the TLS session.
    pub fn cut_session(&mut self) {
        let Socket::Tls(stream) = &self.socket else {
            panic!("no TLS");
        };
        // Fails only if the peer has gone already.
        let _ = stream.sock.shutdown(Shutdown::Write);
        self.is_finished = true;
    }

    /// Leaves at once, so that the server cannot take it for a half-close: over TCP by a reset.
    pub fn reset(self) {
        let socket = match &self.socket {
            Socket::Tcp(socket) => Some(socket),
            Socket::Tls(stream) => Some(&stream.sock),
            Socket::Unix(_) => None,
        };
        if let Some(socket) = socket {
            let at_once = Some(std::time::Duration::ZERO);
            rustix::net::sockopt::set_socket_linger(socket, at_once).unwrap();
        }
    }

    /// Sends one request and reads its response.
    pub fn exchange(&mut self, request: impl AsRef<[u8]>) -> Response {
        let request = request.as_ref();
        self.send(request);
        if request.starts_with(b"HEAD ") {
            self.response_to_head()
        } else {
            self.response()
        }
    }

    /// Reads one response. The error of a truncated body is in [`Response::broken`].
    pub fn response(&mut self) -> Response {
        let mut response = self.response_to_head();
        match framing(&response) {
            Framing::Length(length) => {
                response.broken = self.fill_to(length).err();
                let length = length.min(self.received.len());
                response.body = self.received.drain(..length).collect();
            }
            Framing::Chunked => loop {
                match self.chunk() {
                    Ok(chunk) if chunk.is_empty() => break,
                    Ok(chunk) => response.body.extend(chunk),
                    Err(end) => {
                        response.broken = Some(end);
                        break;
                    }
                }
            },
            Framing::UntilClose => {
                let (body, end) = self.rest();
                response.body = body;
                response.broken = (end != End::Closed).then_some(end);
            }
        }
        response
    }

    /// Reads the head of a response; whatever follows stays for the next call.
    pub fn response_to_head(&mut self) -> Response {
        self.try_head().unwrap_or_else(|end| {
            let partial = String::from_utf8_lossy(&self.received);
            panic!("no response: {end:?} after {partial:?}")
        })
    }

    /// Like [`Connection::response_to_head`], for a connection that may end instead.
    pub fn try_head(&mut self) -> Result<Response, End> {
        let length = self.fill_past(b"\r\n\r\n")?;
        Ok(Response {
            head: self.received.drain(..length).collect(),
            body: Vec::new(),
            broken: None,
        })
    }

    /// Reads one chunk of a chunked body; empty for the last one.
    ///
    /// # Panics
    /// If the framing is wrong, which no broken connection excuses.
    pub fn chunk(&mut self) -> Result<Vec<u8>, End> {
        let length = self.fill_past(b"\r\n")?;
        let line: Vec<u8> = self.received.drain(..length).collect();
        let digits = std::str::from_utf8(&line[..length - 2]).expect("a chunk size");
        let size = usize::from_str_radix(digits, 16).expect("a chunk size in hexadecimal");
        self.fill_to(size + 2)?;
        let mut chunk: Vec<u8> = self.received.drain(..size + 2).collect();
        assert!(chunk.ends_with(b"\r\n"), "a chunk ends with CRLF");
        chunk.truncate(size);
        Ok(chunk)
    }

    /// Reads exactly `length` bytes.
    pub fn exactly(&mut self, length: usize) -> Vec<u8> {
        self.try_exactly(length).expect("enough bytes")
    }

    /// Like [`Connection::exactly`], for a connection that may end before.
    pub fn try_exactly(&mut self, length: usize) -> Result<Vec<u8>, End> {
        self.fill_to(length)?;
        Ok(self.received.drain(..length).collect())
    }

    /// Reads what is there, at most `most` bytes.
    pub fn some(&mut self, most: usize) -> Result<usize, End> {
        let mut bytes = vec![0; most];
        match self.socket.as_read().read(&mut bytes) {
            Ok(0) => Err(End::Closed),
            Ok(length) => Ok(length),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(End::TimedOut),
            Err(_) => Err(End::Reset),
        }
    }

    /// Reads up to the end of the connection.
    pub fn rest(&mut self) -> (Vec<u8>, End) {
        loop {
            if let Err(end) = self.fill() {
                return (std::mem::take(&mut self.received), end);
            }
        }
    }

    /// Reads up to the end; how many responses began, and what status each had.
    pub fn statuses_to_end(&mut self) -> (Vec<u16>, End) {
        let (bytes, end) = self.rest();
        let text = String::from_utf8_lossy(&bytes);
        let statuses = text.match_indices("HTTP/1.").map(|(at, _)| {
            let code = text.get(at + 9..at + 12).unwrap_or_default();
            code.parse().unwrap_or(0)
        });
        (statuses.collect(), end)
    }

    fn fill_past(&mut self, mark: &[u8]) -> Result<usize, End> {
        loop {
            let found = self.received.windows(mark.len()).position(|at| at == mark);
            if let Some(at) = found {
                return Ok(at + mark.len());
            }
            self.fill()?;
        }
    }

    fn fill_to(&mut self, length: usize) -> Result<(), End> {
        while self.received.len() < length {
            self.fill()?;
        }
        Ok(())
    }

    fn fill(&mut self) -> Result<(), End> {
        let mut bytes = vec![0; 65_536];
        match self.socket.as_read().read(&mut bytes) {
            Ok(0) => Err(End::Closed),
            Ok(length) => {
                self.received.extend_from_slice(&bytes[..length]);
                Ok(())
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => Err(End::TimedOut),
                ErrorKind::Interrupted => Ok(()),
                _ => Err(End::Reset),
            },
        }
    }
}

impl Response {
    /// The status code.
    pub fn status(&self) -> u16 {
        self.status_line()[9..12].parse().expect("a status code")
    }

    /// The status line without its line end.
    pub fn status_line(&self) -> String {
        self.lines().next().expect("a status line")
    }

    /// The value of the first field called `name`, in whatever case.
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers(name).into_iter().next()
    }

    /// The values of all fields called `name`, in order.
    pub fn headers(&self, name: &str) -> Vec<String> {
        self.fields()
            .into_iter()
            .filter(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .collect()
    }

    /// The parts of a `multipart/byteranges` body: `Content-Range` and bytes of each. Read as
    /// RFC 2046 §5.1.1 writes it, and to its last byte.
    pub fn byte_ranges(&self) -> Vec<(String, Vec<u8>)> {
        let kind = self.header("Content-Type").unwrap();
        let boundary = kind
            .strip_prefix("multipart/byteranges; boundary=")
            .unwrap_or_else(|| panic!("{kind}"));
        let mut rest = &self.body[..];
        let mut parts = Vec::new();
        let mut delimiter = format!("--{boundary}\r\n");
        loop {
            if let Some(behind) = rest.strip_prefix(format!("\r\n--{boundary}--\r\n").as_bytes()) {
                assert!(behind.is_empty(), "nothing follows the last boundary");
                return parts;
            }
            rest = rest
                .strip_prefix(delimiter.as_bytes())
                .expect("a boundary begins each part");
            delimiter = format!("\r\n--{boundary}\r\n");
            let end = rest
                .windows(4)
                .position(|bytes| bytes == b"\r\n\r\n")
                .expect("a part has a head");
            let head = String::from_utf8(rest[..end].to_vec()).unwrap();
            rest = &rest[end + 4..];
            let (kind, range) = head.split_once("\r\nContent-Range: ").unwrap();
            assert!(kind.starts_with("Content-Type: "), "{head}");
            let (first, last) = range
                .trim_start_matches("bytes ")
                .split('/')
                .next()
                .and_then(|range| range.split_once('-'))
                .unwrap();
            let length = last.parse::<usize>().unwrap() - first.parse::<usize>().unwrap() + 1;
            parts.push((range.to_owned(), rest[..length].to_vec()));
            rest = &rest[length..];
        }
    }

    /// Names, as they came, and values of all fields; bytes shown as latin-1.
    pub fn fields(&self) -> Vec<(String, String)> {
        self.lines()
            .skip(1)
            .filter_map(|line| {
                let (name, value) = line.split_once(':')?;
                Some((name.to_owned(), value.trim().to_owned()))
            })
            .collect()
    }

    /// The body as text, bytes shown as latin-1.
    pub fn text(&self) -> String {
        latin1(&self.body)
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }

    fn lines(&self) -> impl Iterator<Item = String> {
        let head = latin1(&self.head);
        let lines: Vec<_> = head.split("\r\n").map(str::to_owned).collect();
        lines.into_iter()
    }
}

impl std::fmt::Debug for Response {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body = self.text();
        let shown: String = body.chars().take(2000).collect();
        write!(out, "{}{shown:?}", latin1(&self.head))?;
        if let Some(end) = self.broken {
            write!(out, " broken: {end:?}")?;
        }
        Ok(())
    }
}

/// Bytes as characters of the same number.
pub fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Socket {
    fn as_read(&mut self) -> &mut dyn Read {
        match self {
            Self::Tcp(stream) => stream,
            Self::Unix(stream) => stream,
            Self::Tls(stream) => stream,
        }
    }

    fn as_write(&mut self) -> &mut dyn Write {
        match self {
            Self::Tcp(stream) => stream,
            Self::Unix(stream) => stream,
            Self::Tls(stream) => stream,
        }
    }

    fn shutdown(&mut self, how: Shutdown) {
        // Fails only if the peer has gone already.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(how),
            Self::Unix(stream) => stream.shutdown(how),
            Self::Tls(stream) => {
                stream.conn.send_close_notify();
                let sent = stream.flush();
                sent.and_then(|()| stream.sock.shutdown(how))
            }
        };
    }
}

/// RFC 9112 §6.3, for responses to anything but HEAD and CONNECT.
fn framing(response: &Response) -> Framing {
    if matches!(response.status(), 100..=199 | 204 | 304) {
        return Framing::Length(0);
    }
    if let Some(coding) = response.header("Transfer-Encoding") {
        assert_eq!(coding, "chunked", "the one coding that we were promised");
        return Framing::Chunked;
    }
    match response.header("Content-Length") {
        Some(length) => Framing::Length(length.parse().expect("a length")),
        None => Framing::UntilClose,
    }
}
