//! Many clients that ask without pause, and what became of each request.
//!
//! Every request has a number of its own, which the application `ledger.py` writes into a
//! file before it answers. So afterwards it is known of each whether it ran, how often, and
//! what its client got.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::DEADLINE;
use super::server::Server;
use super::tls::server_name;

/// The number of the next request, of whatever load.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Clients at work.
pub struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Vec<(u64, Fate)>>>,
    began: Instant,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It got this status.
    Status(u16),
    /// Its connection broke.
    Broken(String),
    /// There was nobody to connect to.
    Refused,
}

/// What became of all of them.
pub struct Tally {
    /// By number.
    pub fates: HashMap<u64, Fate>,
    /// How long it went on.
    pub took: Duration,
}

impl Load {
    /// Starts so many clients that ask for `path?NUMBER`, each waiting `pause` between its
    /// requests; with `fresh`, each on a connection of its own.
    pub fn start(
        server: &Server,
        clients: usize,
        path: &str,
        pause: Duration,
        fresh: bool,
    ) -> Self {
        let address = Address {
            port: server.client_port(),
            tls: server.client_settings(),
        };
        let stop = Arc::<AtomicBool>::default();
        let answered = Arc::<AtomicU64>::default();
        let clients = (0..clients).map(|_| {
            let (stop, answered) = (stop.clone(), answered.clone());
            let address = address.clone();
            let path = path.to_owned();
            std::thread::spawn(move || {
                let mut fates = Vec::new();
                let mut connection = None;
                while !stop.load(Ordering::Relaxed) {
                    let number = NEXT.fetch_add(1, Ordering::Relaxed);
                    let fate = ask(&mut connection, &address, &format!("{path}?{number}"));
                    if fate == Fate::Refused {
                        break;
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                    fates.push((number, fate));
                    if fresh {
                        connection = None;
                    }
                    std::thread::sleep(pause);
                }
                fates
            })
        });
        let clients = clients.collect();
        Self {
            stop,
            answered,
            clients,
            began: Instant::now(),
        }
    }

    /// Waits until so many requests have been answered since the start.
    pub fn wait_for(&self, count: u64) {
        while self.answered.load(Ordering::Relaxed) < count {
            assert!(self.began.elapsed() < DEADLINE, "too few requests");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// How many requests have been answered.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Ends it.
    pub fn stop(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        self.join()
    }

    /// Waits until nobody can connect any more.
    pub fn join(self) -> Tally {
        let clients = self.clients.into_iter();
        let fates = clients.flat_map(|client| client.join().expect("a client"));
        Tally {
            fates: fates.collect(),
            took: self.began.elapsed(),
        }
    }
}

impl Tally {
    /// Requests by what became of them.
    pub fn counts(&self) -> HashMap<Fate, usize> {
        let mut counts = HashMap::new();
        for fate in self.fates.values() {
            *counts.entry(fate.clone()).or_default() += 1;
        }
        counts
    }

    /// Every request was answered with 200, ran once, and they were not few.
    #[track_caller]
    pub fn check_nothing_lost(&self, ledger: &Path) {
        self.check_each_ran_once(ledger);
        let rate = self.fates.len() as f64 / self.took.as_secs_f64();
        assert!(rate >= 300.0, "only {rate:.0} requests/s");
    }

    /// Every request was answered with 200, and ran once.
    #[track_caller]
    pub fn check_each_ran_once(&self, ledger: &Path) {
        let counts = self.counts();
        let all_well = counts.len() == 1 && counts.contains_key(&Fate::Status(200));
        assert!(all_well, "{counts:?}");
        let runs = runs(ledger);
        for number in self.fates.keys() {
            assert_eq!(runs.get(number), Some(&1), "request {number}");
        }
    }
}

impl std::hash::Hash for Fate {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        format!("{self:?}").hash(state);
    }
}

/// How often each request ran.
pub fn runs(ledger: &Path) -> HashMap<u64, u32> {
    let mut runs = HashMap::new();
    for line in std::fs::read_to_string(ledger).expect("the ledger").lines() {
        let number = line.split(' ').next().expect("a number");
        *runs.entry(number.parse().expect("a number")).or_default() += 1;
    }
    runs
}

/// The address of the server, and the settings of TLS if its clients use it.
#[derive(Clone)]
struct Address {
    port: u16,
    tls: Option<Arc<ClientConfig>>,
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl Address {
    /// A connection, whose session begins with the first request.
    fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let tcp = TcpStream::connect(("127.0.0.1", self.port))?;
        tcp.set_read_timeout(Some(DEADLINE))?;
        tcp.set_nodelay(true)?;
        let Some(tls) = &self.tls else {
            return Ok(Box::new(tcp));
        };
        let session = ClientConnection::new(Arc::clone(tls), server_name("localhost"));
        let session = session.map_err(io::Error::other)?;
        Ok(Box::new(StreamOwned::new(session, tcp)))
    }
}

fn ask(connection: &mut Option<Box<dyn Stream>>, address: &Address, target: &str) -> Fate {
    if connection.is_none() {
        match address.connect() {
            Ok(stream) => *connection = Some(stream),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                return Fate::Refused;
            }
            Err(error) => return Fate::Broken(error.to_string()),
        }
    }
    let stream = connection.as_mut().expect("just connected");
    match exchange(&mut **stream, target) {
        Ok((status, stays)) => {
            if !stays {
                *connection = None;
            }
            Fate::Status(status)
        }
        Err(error) => {
            *connection = None;
            Fate::Broken(error.to_string())
        }
    }
}

/// The status, and whether the connection stays open.
fn exchange(stream: &mut dyn Stream, target: &str) -> io::Result<(u16, bool)> {
    stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        answer.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&answer).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let field = |name: &str| {
            head.lines().find_map(|line| {
                let (field, value) = line.split_once(": ")?;
                field.eq_ignore_ascii_case(name).then(|| value.to_owned())
            })
        };
        let length = field("content-length").and_then(|length| length.parse().ok());
        if body.len() < length.unwrap_or(0) {
            continue;
        }
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let stays = field("connection").is_none_or(|value| value != "close");
        return Ok((status.unwrap_or(0), stays));
    }
}
