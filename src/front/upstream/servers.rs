//! A set of servers: picks one to connect to, handles unreachable ones, and logs their state.
//!
//! A request that has not been sent yet goes to the next server, and so may one that failed
//! (`exchange.rs`). For a full backlog, and for servers that have not started yet, the request
//! waits, up to the connect timeout. Names are looked up in the file pool, because the system's
//! resolver blocks, and cached briefly.

use parking_lot::{Mutex, MutexGuard};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{timeout, timeout_at};

use super::Failure;
use super::affinity::Affinity;
use super::balance::{Balance, Slot};
use super::private::Link;
use crate::config::upstream::{BalanceBy, ServerAddress, UpstreamSettings, UpstreamTimeouts};
use crate::front::descriptors::Tries;
use crate::front::sendfile::file_pool::FilePool;
use crate::front::socket::Socket;
use crate::front::tls::TlsError;
use crate::front::tls::stream::TlsStream;
use crate::front::tls::upstream::TlsToServers;
use crate::observe::codes;
use crate::observe::metrics::METRICS;
use crate::observe::upstreams::{InFlight, UpstreamServer};
use crate::os::descriptors::{are_exhausted, lacked_lately, room_for_client};

/// Time after the start of pyserve during which requests wait for servers that have never been
/// reached: containers and services start side by side.
const STARTING: Duration = Duration::from_secs(30);
/// First and longest pause between two attempts to connect.
const PAUSES: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(500)];
/// Lifetime of a cached name lookup. A replaced container has another address; nginx, which looks
/// names up once, has to be reloaded then.
const NAME_IS_KNOWN: Duration = Duration::from_secs(10);
/// Most idle connections kept per server; the value of the examples in nginx's manual.
const MOST_IDLE: usize = 32;
/// Longest time that an idle connection is kept, if the server does not close it first.
const LONGEST_IDLE: Duration = Duration::from_secs(60);
/// Timeout of the probe for HTTP.
const QUESTION: Duration = Duration::from_secs(2);

/// Servers that serve the same requests.
#[derive(Debug)]
pub struct Servers {
    /// Id of this set of servers, unique in this process.
    pub id: u64,
    servers: Vec<Server>,
    balance: Arc<Balance>,
    /// The order of servers for each client, if clients stay with one server.
    affinity: Option<Affinity>,
    /// The timeouts for these servers.
    pub timeouts: UpstreamTimeouts,
    /// TLS towards all of them.
    tls: Option<TlsToServers>,
    files: FilePool,
    began: Instant,
}

#[derive(Debug)]
struct Server {
    address: ServerAddress,
    /// Name in logs and errors.
    name: Arc<str>,
    /// Kept-alive connections, the most recently used at the end.
    idle: Mutex<Vec<(Socket, Instant)>>,
    /// The cached addresses of the name, and the time of the lookup.
    known: Mutex<Option<(Instant, Vec<SocketAddr>)>>,
    /// The cached result of [`Servers::speaks_http`].
    speaks_http: OnceLock<bool>,
    counts: &'static UpstreamServer,
}

/// A connection to a server, with the request's slot there.
pub struct Reached {
    /// The connection.
    pub link: Socket,
    /// The slot.
    pub slot: Slot,
    /// The server's name in logs and errors.
    pub name: Arc<str>,
    /// True if the connection has served an earlier request.
    pub is_reused: bool,
    /// The metrics guard of the request in flight.
    pub in_flight: InFlight,
}

impl Servers {
    /// The servers of these settings, at least one.
    pub fn new(settings: &UpstreamSettings, tls: Option<TlsToServers>, files: FilePool) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let addresses = &settings.servers;
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            balance: Balance::new(addresses.len()),
            affinity: (settings.balance == BalanceBy::Address).then(|| Affinity::new(addresses)),
            servers: addresses.iter().cloned().map(Server::new).collect(),
            timeouts: settings.timeouts,
            tls,
            files,
            began: Instant::now(),
        }
    }

    /// Connects to a server that is not in `failed`, or reuses an idle connection unless it is to
    /// be `fresh`. For `may_repeat` see [`Balance::pick`]. `client` is its address, if known.
    ///
    /// # Errors
    /// [`Failure::Unreachable`] or [`Failure::TooSlow`] of the server that was tried last.
    pub async fn connect(
        &self,
        fresh: bool,
        may_repeat: bool,
        failed: &[usize],
        client: Option<IpAddr>,
    ) -> Result<Reached, Failure> {
        let order = client.and_then(|client| Some(self.affinity.as_ref()?.order(client)));
        let asked = Instant::now();
        let mut tried = failed.to_vec();
        let mut pause = PAUSES[0];
        let mut is_full = false;
        // A server that is there, and that waiting does not make acceptable.
        let mut is_refused = false;
        let mut last = None;
        loop {
            let now = Instant::now();
            let slot = match &order {
                Some(order) => self.balance.pick_in(order, &tried, now, may_repeat),
                None => self.balance.pick(&tried, now, may_repeat),
            };
            if let Some(slot) = slot {
                let server = &self.servers[slot.server()];
                tried.push(slot.server());
                if let Some(link) = self.take_idle(server, fresh) {
                    return Ok(server.reached(link, slot, true));
                }
                match self.link(slot.server()).await {
                    Ok(link) => {
                        slot.reached();
                        server.counts.connections.inc();
                        return Ok(server.reached(link, slot, false));
                    }
                    // The backlog of a Unix socket is full, and the kernel does not wait.
                    Err(Unreached::Error(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                        server.counts.failures.up("queue_full");
                        is_full = true;
                        last = Some(server.unreachable(&error));
                    }
                    // It is not the server that fails.
                    Err(Unreached::Error(error)) if are_exhausted(&error) => {
                        return Err(Failure::NoDescriptors);
                    }
                    Err(Unreached::Error(error)) => {
                        server.counts.failures.up("unreachable");
                        self.failed(&slot);
                        is_refused |= is_of_tls(&error);
                        last = Some(server.unreachable(&error));
                    }
                    Err(Unreached::TooLate(doing)) => {
                        server.counts.failures.up("unreachable");
                        self.failed(&slot);
                        last = Some(Failure::TooSlow {
                            server: Arc::clone(&server.name),
                            doing,
                            setting: "upstream-connect-timeout",
                            limit: self.timeouts.connect,
                        });
                    }
                }
                continue;
            }
            let is_over = asked.elapsed() + pause > self.timeouts.connect;
            let may_wait = is_full || self.is_starting() && !is_refused;
            if let (true, Some(last)) = (is_over || !may_wait, last.take()) {
                return Err(last);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES[1]);
            tried.truncate(failed.len());
        }
    }

    /// A connection that is reserved for one client; `None` if it may not be used any more.
    pub fn again(&self, link: Link) -> Option<Reached> {
        if !self.is_current(&link.socket) {
            return None;
        }
        let slot = self.balance.at(link.server);
        Some(self.servers[link.server].reached(link.socket, slot, true))
    }

    /// Takes an idle connection that is still open, and may be used, unless it is to be `fresh`.
    fn take_idle(&self, server: &Server, fresh: bool) -> Option<Socket> {
        if fresh {
            return None;
        }
        let mut idle = server.idle();
        while let Some((mut link, since)) = idle.pop() {
            if since.elapsed() < LONGEST_IDLE && self.is_current(&link) && link.is_quiet() {
                return Some(link);
            }
        }
        None
    }

    /// True unless the connection is a TLS session of files that have changed since.
    fn is_current(&self, link: &Socket) -> bool {
        match (&self.tls, link) {
            (Some(tls), Socket::Tls(stream)) => stream.generation == tls.generation(),
            _ => true,
        }
    }

    /// Waits until every server can be connected to, and logs the servers it waits for, with the
    /// reason.
    pub async fn wait_until_there(&self) {
        for (number, server) in self.servers.iter().enumerate() {
            self.wait_for(number, server).await;
        }
    }

    /// Records a usable response, and logs if the server has recovered.
    pub fn succeeded(&self, slot: &Slot) {
        if slot.succeeded() {
            let server = &*self.servers[slot.server()].name;
            tracing::info!(server, "upstream server recovered");
        }
    }

    /// Counts a failed request to this server in the metrics.
    pub fn count_failure(&self, slot: &Slot, reason: &'static str) {
        self.servers[slot.server()].counts.failures.up(reason);
    }

    /// Keeps a connection for a later request, unless other connections wait for descriptors.
    pub fn keep(&self, slot: &Slot, link: Socket) {
        if lacked_lately() {
            return;
        }
        let mut idle = self.servers[slot.server()].idle();
        idle.retain_mut(|(link, since)| since.elapsed() < LONGEST_IDLE && link.is_quiet());
        // Under the lock: files that change now find it among the idle ones.
        if !self.is_current(&link) {
            return;
        }
        if idle.len() < MOST_IDLE {
            idle.push((link, Instant::now()));
        }
    }

    /// Records a failure, and logs if the server is skipped from now on.
    pub fn failed(&self, slot: &Slot) {
        if let (Some(back_off), true) = (slot.failed(Instant::now()), self.servers.len() > 1) {
            let server = &*self.servers[slot.server()].name;
            let seconds = back_off.as_secs_f32();
            tracing::warn!(
                code = codes::BACK_OFF,
                server,
                seconds,
                "upstream server failed repeatedly: skipping it"
            );
        }
    }

    /// Number of servers.
    pub fn count(&self) -> usize {
        self.servers.len()
    }

    /// True if a server that has sent no usable response speaks HTTP. Probed once: the request
    /// waits for the probe.
    pub async fn speaks_http(&self, slot: &Slot) -> bool {
        let server = &self.servers[slot.server()];
        if let Some(known) = server.speaks_http.get() {
            return *known;
        }
        let question = async {
            let mut link = self.link(slot.server()).await.ok()?;
            link.write_all(b"OPTIONS * HTTP/1.0\r\n\r\n").await.ok()?;
            let mut answer = [0; 5];
            link.read_exact(&mut answer).await.ok()?;
            Some(answer == *b"HTTP/")
        };
        let speaks_http = timeout(QUESTION, question).await.ok().flatten() == Some(true);
        *server.speaks_http.get_or_init(|| speaks_http)
    }

    fn is_starting(&self) -> bool {
        !self.balance.has_been_reached() && self.began.elapsed() < STARTING
    }

    async fn wait_for(&self, number: usize, server: &Server) {
        let mut pause = PAUSES[0];
        let mut has_logged = false;
        loop {
            let why = match self.link(number).await {
                Ok(_link) => break,
                Err(Unreached::Error(error)) => server.unreachable(&error).to_string(),
                Err(Unreached::TooLate(doing)) => format!("it does not {doing}"),
            };
            let server = &*server.name;
            if self.began.elapsed() > STARTING {
                tracing::error!(
                    code = codes::UNREACHABLE,
                    server,
                    why,
                    "upstream server unreachable"
                );
                return;
            }
            if !has_logged {
                tracing::warn!(
                    code = codes::UNREACHABLE,
                    server,
                    why,
                    "waiting for an upstream server"
                );
                has_logged = true;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES[1]);
        }
        self.balance.reached(number);
        if has_logged {
            tracing::info!(server = &*server.name, "upstream server reachable");
        }
    }

    /// A new connection to a server, by its number.
    async fn link(&self, number: usize) -> Result<Socket, Unreached> {
        let server = &self.servers[number];
        let mut tries = Tries::default();
        loop {
            let end = tokio::time::Instant::now() + self.timeouts.connect;
            match timeout_at(end, server.connect(&self.files)).await {
                Ok(Ok(socket)) => return self.secured(number, socket, end).await,
                Ok(Err(error)) if are_exhausted(&error) => {
                    let has_more = self.close_an_idle_one();
                    if !has_more && !tries.again(&error).await {
                        return Err(Unreached::Error(error));
                    }
                }
                Ok(Err(error)) => return Err(Unreached::Error(error)),
                Err(_elapsed) => return Err(Unreached::TooLate("accept a connection")),
            }
        }
    }

    /// The connection inside a session, if the servers have TLS.
    async fn secured(
        &self,
        number: usize,
        socket: Socket,
        end: tokio::time::Instant,
    ) -> Result<Socket, Unreached> {
        let (tls, tcp) = match (&self.tls, socket) {
            (Some(tls), Socket::Tcp(tcp)) => (tls, tcp),
            (_, socket) => return Ok(socket),
        };
        match timeout_at(end, shake_hands(tls, number, tcp)).await {
            Ok(secured) => secured.map_err(Unreached::Error),
            Err(_elapsed) => Err(Unreached::TooLate("complete the TLS handshake")),
        }
    }

    /// Reads the files of TLS that have changed. Blocks.
    pub fn look(&self) {
        let has_changed = self.tls.as_ref().is_some_and(TlsToServers::look);
        if has_changed {
            // Their servers were verified by the files before.
            let servers = self.servers.iter();
            servers.for_each(|server| server.idle().clear());
        }
    }

    /// True if the servers have TLS.
    pub fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Closes the connection that has been idle longest at one of the servers, if there is one.
    fn close_an_idle_one(&self) -> bool {
        self.servers.iter().any(|server| {
            let mut idle = server.idle();
            !idle.is_empty() && {
                idle.remove(0);
                true
            }
        })
    }
}

enum Unreached {
    Error(io::Error),
    /// A step that the server has not carried out in time.
    TooLate(&'static str),
}

/// Carries out the handshake with a server, by its number.
async fn shake_hands(tls: &TlsToServers, server: usize, tcp: TcpStream) -> io::Result<Socket> {
    let (session, generation) = tls.session(server).map_err(io::Error::other)?;
    let mut stream = TlsStream::new(tcp, session, Bytes::new());
    stream.generation = generation;
    loop {
        match stream.receive_handshake().await {
            Ok(true) => {}
            Ok(false) => return Ok(Socket::Tls(Box::new(stream))),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(io::Error::other(
                    "it closed the connection in the TLS handshake",
                ));
            }
            Err(error) => return Err(error),
        }
        let processed = stream.process();
        processed.map_err(|error| io::Error::other(tls.explain(server, &error)))?;
    }
}

/// True for a certificate or a session that was refused.
fn is_of_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<TlsError>())
}

impl Server {
    fn new(address: ServerAddress) -> Self {
        let name = address.to_string();
        Self {
            counts: METRICS.upstreams.at(&name),
            name: name.into(),
            address,
            idle: Mutex::default(),
            known: Mutex::new(None),
            speaks_http: OnceLock::new(),
        }
    }

    fn reached(&self, link: Socket, slot: Slot, is_reused: bool) -> Reached {
        Reached {
            link,
            slot,
            name: Arc::clone(&self.name),
            is_reused,
            in_flight: self.counts.begin(),
        }
    }

    async fn connect(&self, files: &FilePool) -> io::Result<Socket> {
        room_for_client()?;
        match &self.address {
            ServerAddress::Unix(path) => Ok(Socket::Unix(UnixStream::connect(path).await?)),
            ServerAddress::Tcp { host, port } => {
                let mut last = io::Error::from(io::ErrorKind::NotFound);
                for address in self.addresses(host, *port, files).await? {
                    match TcpStream::connect(address).await {
                        Ok(stream) => {
                            stream.set_nodelay(true)?;
                            return Ok(Socket::Tcp(stream));
                        }
                        Err(error) => last = error,
                    }
                }
                // The server's address may have changed.
                *self.known() = None;
                Err(last)
            }
        }
    }

    async fn addresses(
        &self,
        host: &str,
        port: u16,
        files: &FilePool,
    ) -> io::Result<Vec<SocketAddr>> {
        if let Ok(ip) = host.parse() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        if let Some((when, addresses)) = &*self.known()
            && when.elapsed() < NAME_IS_KNOWN
        {
            return Ok(addresses.clone());
        }
        let name = host.to_owned();
        let look_up = move || (name.as_str(), port).to_socket_addrs();
        let addresses: Vec<_> = files.run(look_up).await?.collect();
        *self.known() = Some((Instant::now(), addresses.clone()));
        Ok(addresses)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(Socket, Instant)>> {
        self.idle.lock()
    }

    fn known(&self) -> MutexGuard<'_, Option<(Instant, Vec<SocketAddr>)>> {
        self.known.lock()
    }

    fn unreachable(&self, error: &io::Error) -> Failure {
        Failure::Unreachable {
            server: Arc::clone(&self.name),
            why: why_unreachable(&self.address, error),
        }
    }
}

/// The meaning of a connect error, and the remedy.
fn why_unreachable(address: &ServerAddress, error: &io::Error) -> String {
    use io::ErrorKind;
    match (address, error.kind()) {
        (ServerAddress::Unix(_), ErrorKind::NotFound) => {
            "there is no such socket (is the server running, and does it name the same path?)"
                .into()
        }
        (ServerAddress::Unix(_), ErrorKind::PermissionDenied) => {
            let user = rustix::process::geteuid().as_raw();
            format!(
                "user {user} may not connect to it (with uWSGI, set chmod-socket = 660 and share a \
                 group; the directories above must be searchable as well)"
            )
        }
        (ServerAddress::Unix(_), ErrorKind::ConnectionRefused) => {
            "connection refused: the socket file is left over from a server that has exited".into()
        }
        (ServerAddress::Tcp { .. }, ErrorKind::ConnectionRefused) => {
            "connection refused (is the server running, and on that port?)".into()
        }
        (_, ErrorKind::WouldBlock) => {
            "its listen queue is full (more processes, or a longer `listen`, would help)".into()
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_told_apart() {
        let unix = ServerAddress::Unix("/tmp/x.sock".into());
        let tcp = ServerAddress::Tcp {
            host: "127.0.0.1".into(),
            port: 1,
        };
        for (address, kind, part) in [
            (&unix, io::ErrorKind::NotFound, "no such socket"),
            (&unix, io::ErrorKind::PermissionDenied, "chmod-socket"),
            (&unix, io::ErrorKind::ConnectionRefused, "left over"),
            (&unix, io::ErrorKind::WouldBlock, "listen queue"),
            (&tcp, io::ErrorKind::ConnectionRefused, "on that port"),
        ] {
            let why = why_unreachable(address, &kind.into());
            assert!(why.contains(part), "{why}");
        }
    }
}
