//! A real pebble, an ACME authority for tests, behind a proxy that can hold, refuse and count requests,
//! and that adds renewal information (RFC 9773), which the package of Debian 12 has not.
//!
//! The proxy has its port before pebble starts: a server under test gets its URL, and pebble the ports of
//! the server.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConnection, ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::tls::{authority, server_name};
use super::{DEADLINE, provision, temp_dir};

/// An authority whose pebble may not have been started yet: requests wait for it.
pub struct Pebble {
    program: PathBuf,
    dir: TempDir,
    proxy: Arc<Proxy>,
    port: u16,
    dns: u16,
    process: Option<Child>,
    management: u16,
}

/// Settings of pebble that differ between tests.
#[derive(Default)]
pub struct PebbleSettings {
    /// Lifetime of its certificates in seconds.
    pub lifetime: Option<u64>,
    /// Key identifier and key of the only external account.
    pub external: Option<(&'static str, &'static str)>,
}

/// A request that the proxy has seen.
#[derive(Debug, Clone)]
pub struct Seen {
    pub path: String,
    /// The payload of a signed request.
    pub payload: Value,
    pub at: Instant,
}

#[derive(Default)]
struct State {
    /// The port of pebble; `None`: requests wait.
    upstream: Option<u16>,
    is_away: bool,
    /// Answers to the next requests whose path begins so, in place of pebble's.
    refusals: VecDeque<(String, String)>,
    /// Requests whose path begins so wait.
    held: Option<String>,
    /// Number of times at which waiting requests were dropped.
    dropped: usize,
    /// Begin and end of the window, in seconds from now; one for each new question, the last for all further ones.
    windows: VecDeque<(i64, i64)>,
    seen: Vec<Seen>,
    is_over: bool,
}

struct Proxy {
    state: Mutex<State>,
    changed: Condvar,
    tls: Arc<ServerConfig>,
    port: u16,
}

impl Pebble {
    /// An authority that does not answer yet.
    ///
    /// # Errors
    /// Why this machine cannot have one.
    pub fn new() -> Result<Self, String> {
        let made = provision::directory("pebble", |dir| vec!["pebble".into(), dir.into()])?;
        let issued = authority().issue(&["localhost"]);
        let certs = CertificateDer::pem_file_iter(&issued.cert).unwrap();
        let certs = certs.collect::<Result<_, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_file(&issued.key).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(certs, key)
            .unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let proxy = Arc::new(Proxy {
            state: Mutex::default(),
            changed: Condvar::new(),
            tls: Arc::new(tls),
            port,
        });
        let serving = Arc::clone(&proxy);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if serving.state().is_over {
                    return;
                }
                let proxy = Arc::clone(&serving);
                std::thread::spawn(move || drop(proxy.serve(client)));
            }
        });
        Ok(Self {
            program: made.join("pebble"),
            dir: temp_dir(),
            proxy,
            port,
            dns: name_server(),
            process: None,
            management: 0,
        })
    }

    /// The URL for `--acme-directory`.
    pub fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.port)
    }

    /// Starts pebble; it validates hosts at these ports of 127.0.0.1.
    pub fn start(&mut self, http_port: u16, tls_port: u16, settings: &PebbleSettings) {
        let issued = authority().issue(&["localhost"]);
        let [port, management] = free_ports();
        let mut config = json!({
            "listenAddress": format!("127.0.0.1:{port}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": issued.cert,
            "privateKey": issued.key,
            "httpPort": http_port,
            "tlsPort": tls_port,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": settings.external.is_some(),
        });
        if let Some(lifetime) = settings.lifetime {
            config["certificateValidityPeriod"] = lifetime.into();
        }
        if let Some((kid, key)) = settings.external {
            config["externalAccountMACKeys"] = json!({kid: key});
        }
        let file = self.dir.path().join("config.json");
        std::fs::write(&file, json!({"pebble": config}).to_string()).unwrap();
        let log = std::fs::File::create(self.dir.path().join("log")).unwrap();
        let mut command = Command::new(&self.program);
        command
            .arg("-config")
            .arg(&file)
            .args(["-dnsserver", &format!("127.0.0.1:{}", self.dns)])
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_WFE_NONCEREJECT", "20")
            .env("PEBBLE_AUTHZREUSE", "0")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.process = Some(command.spawn().expect("pebble starts"));
        self.management = management;
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < DEADLINE, "pebble: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        self.proxy.state().upstream = Some(port);
        self.proxy.changed.notify_all();
    }

    /// Ends pebble, which forgets everything, and starts another one.
    pub fn restart(&mut self, server: &super::server::Server, settings: &PebbleSettings) {
        self.proxy.state().upstream = None;
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
        self.start(server.port(), server.tls_port(), settings);
    }

    /// The log of pebble.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// The root of the certificates, in PEM.
    pub fn root(&self) -> Vec<u8> {
        let request = "GET /roots/0 HTTP/1.0\r\nHost: localhost\r\n\r\n";
        let answer = exchange(self.management, request.as_bytes()).unwrap();
        let begin = answer.windows(5).position(|bytes| bytes == b"-----");
        answer[begin.expect("PEM")..].to_vec()
    }

    /// Connections are closed at once, or served again.
    pub fn set_away(&self, is_away: bool) {
        self.proxy.state().is_away = is_away;
    }

    /// The next request whose path begins with `path` gets this answer.
    pub fn refuse(&self, path: &str, answer: &str) {
        let refusal = (path.to_owned(), answer.to_owned());
        self.proxy.state().refusals.push_back(refusal);
    }

    /// Requests whose path begins with `path` wait; `None`: no longer.
    pub fn hold(&self, path: Option<&str>) {
        self.proxy.state().held = path.map(ToOwned::to_owned);
        self.proxy.changed.notify_all();
    }

    /// Drops the requests that wait, and lets further ones pass.
    pub fn drop_held(&self) {
        self.proxy.state().dropped += 1;
        self.hold(None);
    }

    /// Has renewal information: windows in seconds from now. Each question takes one; the last is for all
    /// further ones.
    pub fn set_windows(&self, windows: &[(i64, i64)]) {
        self.proxy.state().windows = windows.iter().copied().collect();
    }

    /// The requests whose path begins with `path`.
    pub fn seen(&self, path: &str) -> Vec<Seen> {
        let seen = self.proxy.state().seen.clone();
        seen.into_iter()
            .filter(|seen| seen.path.starts_with(path))
            .collect()
    }

    /// Waits until so many requests with this path were received.
    #[track_caller]
    pub fn wait_for(&self, path: &str, count: usize) {
        let began = Instant::now();
        while self.seen(path).len() < count {
            assert!(began.elapsed() < DEADLINE, "no {path}: {:?}", self.seen(""));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        self.proxy.state().is_over = true;
        self.proxy.changed.notify_all();
        let _woken = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(process) = &mut self.process {
            let _ended = process.kill();
            let _ = process.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- pebble's log:\n{}\n---", self.log());
        }
    }
}

impl Proxy {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, client: TcpStream) -> std::io::Result<()> {
        if self.state().is_away {
            return Ok(());
        }
        let session =
            ServerConnection::new(Arc::clone(&self.tls)).map_err(std::io::Error::other)?;
        let mut client = StreamOwned::new(session, client);
        let request = read_request(&mut client)?;
        let answer = self.answer(&request)?;
        client.write_all(&answer)?;
        client.conn.send_close_notify();
        client.flush()
    }

    fn answer(&self, request: &[u8]) -> std::io::Result<Vec<u8>> {
        let text = String::from_utf8_lossy(request).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let mut words = head.split_ascii_whitespace();
        let path = words.nth(1).unwrap_or_default().to_owned();
        let mut state = self.state();
        state.seen.push(Seen {
            path: path.clone(),
            payload: payload(body),
            at: Instant::now(),
        });
        let is_held = |state: &State| {
            let held = state.held.as_ref();
            state.upstream.is_none() || held.is_some_and(|held| path.starts_with(held))
        };
        let dropped = state.dropped;
        while is_held(&state) && !state.is_over {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if state.dropped != dropped {
            return Err(std::io::ErrorKind::ConnectionReset.into());
        }
        let at = state
            .refusals
            .iter()
            .position(|(of, _)| path.starts_with(of));
        if let Some((_, refusal)) = at.and_then(|at| state.refusals.remove(at)) {
            return Ok(refusal.into_bytes());
        }
        if path.starts_with(RENEWAL_INFO) {
            let window = match state.windows.len() {
                1 => state.windows.front().copied(),
                _ => state.windows.pop_front(),
            };
            return Ok(window.map_or_else(not_found, renewal_info));
        }
        let has_windows = !state.windows.is_empty();
        let port = state.upstream.unwrap_or_default();
        drop(state);
        let version = head.replacen("HTTP/1.1", "HTTP/1.0", 1);
        let forwarded = exchange(port, format!("{version}\r\n\r\n{body}").as_bytes())?;
        match path == "/dir" && has_windows {
            true => Ok(self.with_renewal_info(&forwarded)),
            false => Ok(forwarded),
        }
    }

    fn with_renewal_info(&self, answer: &[u8]) -> Vec<u8> {
        let text = String::from_utf8_lossy(answer);
        let (_, body) = text.split_once("\r\n\r\n").unwrap();
        let mut directory: Value = serde_json::from_str(body).unwrap();
        directory["renewalInfo"] = format!("https://localhost:{}{RENEWAL_INFO}", self.port).into();
        ok(&directory)
    }
}

const RENEWAL_INFO: &str = "/renewal-info";

fn ok(value: &Value) -> Vec<u8> {
    let body = value.to_string();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn not_found() -> Vec<u8> {
    b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_vec()
}

fn renewal_info((start, end): (i64, i64)) -> Vec<u8> {
    let time = |seconds: i64| {
        let date = Command::new("date")
            .args([
                "-u",
                "-d",
                &format!("{seconds} seconds"),
                "+%Y-%m-%dT%H:%M:%SZ",
            ])
            .output()
            .unwrap();
        String::from_utf8(date.stdout).unwrap().trim().to_owned()
    };
    ok(&json!({
        "suggestedWindow": {"start": time(start), "end": time(end)},
        "explanationURL": "https://example.org/why",
    }))
}

fn payload(body: &str) -> Value {
    let read = || -> Option<Value> {
        let body: Value = serde_json::from_str(body).ok()?;
        let payload = BASE64_URL_SAFE_NO_PAD
            .decode(body["payload"].as_str()?)
            .ok()?;
        serde_json::from_slice(&payload).ok()
    };
    read().unwrap_or_default()
}

/// One request with its body.
fn read_request(from: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                let is_it = name.eq_ignore_ascii_case("content-length");
                is_it.then(|| value.trim().parse::<usize>().unwrap())
            });
            if body.len() >= length.unwrap_or(0) {
                return Ok(read);
            }
        }
        let mut part = [0; 4096];
        match from.read(&mut part)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => read.extend_from_slice(&part[..count]),
        }
    }
}

/// Sends a request inside TLS, and reads to the end.
fn exchange(port: u16, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let socket = TcpStream::connect(("127.0.0.1", port))?;
    let config = authority().client(&[]);
    let session = ClientConnection::new(config, server_name("localhost")).unwrap();
    let mut stream = StreamOwned::new(session, socket);
    stream.write_all(request)?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => Err(error),
        _ => Ok(answer),
    }
}

/// Ports that are free now: pebble takes no port 0.
fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    let held = [(); COUNT].map(|()| TcpListener::bind(("127.0.0.1", 0)).unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

/// A port with a name server: every host has the address 127.0.0.1.
fn name_server() -> u16 {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut query = [0; 1500];
        while let Ok((length, client)) = socket.recv_from(&mut query) {
            if let Some(answer) = name_answer(&query[..length]) {
                let _gone = socket.send_to(&answer, client);
            }
        }
    });
    port
}

/// RFC 1035 §4: the answer to a query with one question.
fn name_answer(query: &[u8]) -> Option<Vec<u8>> {
    let name_end = 12 + query.get(12..)?.iter().position(|byte| *byte == 0)? + 1;
    let question = query.get(12..name_end + 4)?;
    let is_address = question[question.len() - 4..] == [0, 1, 0, 1];
    let mut answer = query[..2].to_vec();
    answer.extend([0x85, 0x80, 0, 1, 0, u8::from(is_address), 0, 0, 0, 0]);
    answer.extend_from_slice(question);
    if is_address {
        answer.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1]);
    }
    Some(answer)
}
