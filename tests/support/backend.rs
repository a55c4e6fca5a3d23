//! A server behind pyserve that does exactly what a test says, well or badly.
//!
//! Every connection gets a thread that runs the test's script. Nothing is parsed that the
//! script does not ask for.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::{DEADLINE, temp_dir, tls};

/// A listening backend. Its threads end with the connections.
pub struct Backend {
    scheme: &'static str,
    address: String,
    authority: Option<PathBuf>,
    calls: Arc<AtomicUsize>,
    _dir: Option<tempfile::TempDir>,
}

/// One connection.
pub struct Call {
    first: Option<u8>,
    stream: Box<dyn Stream>,
}

/// A request in the uwsgi protocol.
pub struct Packet {
    /// First byte.
    pub modifier1: u8,
    /// Last byte of the header.
    pub modifier2: u8,
    /// Length of the variables as the header tells it.
    pub size: usize,
    /// The variables, bytes as latin-1; of two with one name the last.
    pub vars: BTreeMap<String, String>,
    /// How many variables there were.
    pub count: usize,
}

trait Stream: Read + Write + Send {
    /// The TLS session, if there is one.
    fn session(&self) -> Option<&ServerConnection> {
        None
    }

    /// Ends a session without `close_notify`.
    fn truncate(&mut self) {}
}

impl Stream for TcpStream {}
impl Stream for UnixStream {}

/// A connection inside a session, which ends with `close_notify`.
struct Secured {
    stream: StreamOwned<ServerConnection, TcpStream>,
    is_truncated: bool,
}

impl Read for Secured {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.stream.read(into)
    }
}

impl Write for Secured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

impl Stream for Secured {
    fn session(&self) -> Option<&ServerConnection> {
        Some(&self.stream.conn)
    }

    fn truncate(&mut self) {
        self.is_truncated = true;
    }
}

impl Drop for Secured {
    fn drop(&mut self) {
        if !self.is_truncated {
            self.stream.conn.send_close_notify();
            // Fails only if the other side has gone.
            let _ = self.stream.flush();
        }
    }
}

impl Backend {
    /// Listens on a Unix socket.
    pub fn unix(script: impl Fn(Call) + Send + Sync + 'static) -> Self {
        let dir = temp_dir();
        let path = dir.path().join("backend.sock");
        let mut backend = Self::at(&path, script);
        backend._dir = Some(dir);
        backend
    }

    /// Listens on this Unix socket.
    pub fn at(path: &Path, script: impl Fn(Call) + Send + Sync + 'static) -> Self {
        let listener = UnixListener::bind(path).expect("a socket");
        let streams = std::iter::from_fn(move || {
            let (stream, _) = listener.accept().ok()?;
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            stream.set_write_timeout(Some(DEADLINE)).unwrap();
            Some(Box::new(stream) as Box<dyn Stream>)
        });
        Self::over("http+", format!("unix:{}", path.display()), streams, script)
    }

    /// Listens on a free port.
    pub fn tcp(script: impl Fn(Call) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().unwrap().to_string();
        let streams = std::iter::from_fn(move || {
            let (stream, _) = listener.accept().ok()?;
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            stream.set_write_timeout(Some(DEADLINE)).unwrap();
            stream.set_nodelay(true).unwrap();
            Some(Box::new(stream) as Box<dyn Stream>)
        });
        Self::over("http://", address, streams, script)
    }

    /// Listens on a free port, with TLS and a certificate of the tests' authority for it.
    pub fn tls(script: impl Fn(Call) + Send + Sync + 'static) -> Self {
        let own = tls::authority().issue(&["127.0.0.1", "localhost"]);
        Self::tls_with(tls::server(&own, None), script)
    }

    /// The same with other settings of TLS.
    pub fn tls_with(
        config: Arc<ServerConfig>,
        script: impl Fn(Call) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().unwrap().to_string();
        let streams = std::iter::from_fn(move || {
            let (stream, _) = listener.accept().ok()?;
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            stream.set_write_timeout(Some(DEADLINE)).unwrap();
            stream.set_nodelay(true).unwrap();
            let session = ServerConnection::new(Arc::clone(&config)).unwrap();
            let secured = Secured {
                stream: StreamOwned::new(session, stream),
                is_truncated: false,
            };
            Some(Box::new(secured) as Box<dyn Stream>)
        });
        let mut backend = Self::over("https://", address, streams, script);
        backend.authority = Some(tls::authority().root());
        backend
    }

    /// A Unix socket that answers every request in the uwsgi protocol with these bytes.
    pub fn saying(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::unix(move |mut call| {
            let packet = call.packet();
            call.body(&packet);
            call.send(&answer);
        })
    }

    fn over(
        scheme: &'static str,
        address: String,
        streams: impl Iterator<Item = Box<dyn Stream>> + Send + 'static,
        script: impl Fn(Call) + Send + Sync + 'static,
    ) -> Self {
        let calls = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&calls);
        let script = Arc::new(script);
        std::thread::spawn(move || {
            for mut stream in streams {
                let (script, counted) = (Arc::clone(&script), Arc::clone(&counted));
                std::thread::spawn(move || {
                    let mut first = [0];
                    // Who only looks whether we are here sends nothing.
                    if matches!(stream.read(&mut first), Ok(1)) {
                        counted.fetch_add(1, Ordering::SeqCst);
                        let first = Some(first[0]);
                        script(Call { first, stream });
                    }
                });
            }
        });
        Self {
            scheme,
            address,
            authority: None,
            calls,
            _dir: None,
        }
    }

    /// Its address as a setting takes it.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its address as `--upstream` takes it.
    pub fn url(&self) -> String {
        format!("{}{}", self.scheme, self.address)
    }

    /// Flags of a pyserve in front of it.
    pub fn flags(&self) -> Vec<String> {
        let mut flags = vec!["--upstream".to_owned(), self.url()];
        flags.extend(self.trust());
        flags
    }

    /// The flags by which its certificate is trusted.
    pub fn trust(&self) -> Vec<String> {
        let path = self.authority.iter().map(|path| path.display().to_string());
        path.flat_map(|path| ["--upstream-ca".to_owned(), path])
            .collect()
    }

    /// How many connections brought something.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

impl Call {
    /// Reads the header and the variables of a uwsgi request.
    pub fn packet(&mut self) -> Packet {
        let header = self.exactly(4);
        let size = usize::from(u16::from_le_bytes([header[1], header[2]]));
        let block = self.exactly(size);
        let mut rest = &block[..];
        let mut take = || {
            let length = usize::from(u16::from_le_bytes([rest[0], rest[1]]));
            let (value, behind) = rest[2..].split_at(length);
            rest = behind;
            let text = value
                .iter()
                .map(|byte| char::from(*byte))
                .collect::<String>();
            (text, rest.is_empty())
        };
        let (mut vars, mut count, mut is_over) = (BTreeMap::new(), 0, size == 0);
        while !is_over {
            let (name, _) = take();
            let (value, last) = take();
            vars.insert(name, value);
            (count, is_over) = (count + 1, last);
        }
        Packet {
            modifier1: header[0],
            modifier2: header[3],
            size,
            vars,
            count,
        }
    }

    /// Reads the body that the variables announce.
    pub fn body(&mut self, packet: &Packet) -> Vec<u8> {
        let length = packet.vars.get("CONTENT_LENGTH").map(String::as_str);
        self.exactly(length.unwrap_or_default().parse().unwrap_or(0))
    }

    /// True if this is pyserve's question whether a server of uwsgi speaks HTTP instead.
    pub fn is_question(&self) -> bool {
        self.first == Some(b'O')
    }

    /// Reads exactly so many bytes.
    pub fn exactly(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let first = self.first.take_if(|_| length > 0);
        bytes
            .iter_mut()
            .zip(first)
            .for_each(|(to, byte)| *to = byte);
        let rest = &mut bytes[usize::from(first.is_some())..];
        self.stream.read_exact(rest).expect("enough bytes");
        bytes
    }

    /// Reads the head of an HTTP request, with its empty line; `None` at the end of the
    /// connection.
    pub fn http_head(&mut self) -> Option<String> {
        let mut head = Vec::from_iter(self.first.take());
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if !matches!(self.stream.read(&mut byte), Ok(1)) {
                return None;
            }
            head.push(byte[0]);
        }
        Some(head.iter().map(|byte| char::from(*byte)).collect())
    }

    /// Reads some bytes; none at the end of the connection.
    pub fn some(&mut self) -> Vec<u8> {
        if let Some(first) = self.first.take() {
            return vec![first];
        }
        let mut bytes = vec![0; 4096];
        let read = self.stream.read(&mut bytes).unwrap_or(0);
        bytes.truncate(read);
        bytes
    }

    /// Reads whatever comes until the end of the connection; how many bytes.
    pub fn rest(&mut self) -> usize {
        let mut bytes = Vec::from_iter(self.first.take());
        let _ = self.stream.read_to_end(&mut bytes);
        bytes.len()
    }

    /// The TLS session.
    pub fn session(&self) -> &ServerConnection {
        self.stream.session().expect("a session")
    }

    /// Has the TLS session end without `close_notify`.
    pub fn truncate(&mut self) {
        self.stream.truncate();
    }

    /// Sends bytes; `false` if the other side has gone.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }
}

/// A complete answer with this body.
pub fn page(body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}")
}
