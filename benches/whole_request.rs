//! Whole requests over one keep-alive connection of a loopback socket: client, kernel, front, worker, application, and back.
//!
//! `cargo bench --bench whole_request`. Starts the binary with one worker and `apps/works.py`, and measures the
//! time of one round trip, which is the latency of a lone client. Pieces of the front: `hot_paths.rs`; beside
//! other servers and under load: `compare.py`.

#![allow(clippy::disallowed_methods, reason = "a benchmark may block")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

/// Longest wait for the start of the server and for a response.
const PATIENCE: Duration = Duration::from_secs(30);
const UPLOAD: usize = 64 << 10;

fn whole_requests(criterion: &mut Criterion) {
    let files = tempfile::tempdir().expect("a temporary directory");
    for (name, length) in [("small.txt", 1 << 10), ("large.bin", 1 << 20)] {
        std::fs::write(files.path().join(name), vec![b'x'; length]).expect("a file");
    }
    let server = Server::start(files.path());
    let mut connection = server.connect();
    let mut group = criterion.benchmark_group("whole request");
    let upload =
        format!("POST /upload HTTP/1.1\r\nHost: bench\r\nContent-Length: {UPLOAD}\r\n\r\n");
    let upload = [upload.as_bytes(), &vec![b'x'; UPLOAD]].concat();
    for (what, request, length) in [
        ("hello", get("/"), 13),
        ("10 KiB body", get("/10k"), 10 << 10),
        ("POST of 64 KiB", upload, 5),
        ("file of 1 KiB", get("/static/small.txt"), 1 << 10),
        ("file of 1 MiB", get("/static/large.bin"), 1 << 20),
    ] {
        assert_eq!(connection.exchange(&request), length, "{what}");
        group.bench_function(what, |bencher| {
            bencher.iter(|| connection.exchange(&request));
        });
    }
    group.finish();
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n").into_bytes()
}

/// A running pyserve, which ends with this value.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(files: &Path) -> Self {
        let apps = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/apps");
        let mut child = Command::new(env!("CARGO_BIN_EXE_pyserve"))
            .args(["--app", "works", "--chdir", apps, "--bind", "127.0.0.1:0"])
            .args([
                "--workers",
                "1",
                "--access-log",
                "off",
                "--log-format",
                "pretty",
            ])
            .arg("--static")
            .arg(format!("/static={}", files.display()))
            .arg("--control")
            .arg(files.join("control"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut lines = BufReader::new(child.stderr.take().expect("it is a pipe")).lines();
        let mut port = None;
        let mut said = String::new();
        for line in lines.by_ref() {
            let line = line.expect("the log is text");
            if line.contains("listening on") {
                port = line.rsplit(':').next().and_then(|port| port.parse().ok());
            }
            if line.starts_with("ready in") {
                break;
            }
            said.push_str(&line);
            said.push('\n');
        }
        // A full pipe would stop the server.
        std::thread::spawn(move || lines.for_each(drop));
        let Some(port) = port else {
            let _ = child.kill();
            panic!("pyserve does not listen:\n{said}");
        };
        Self { child, port }
    }

    fn connect(&self) -> Connection {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the server listens");
        stream.set_nodelay(true).expect("an option of TCP");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Connection {
            stream,
            buffer: vec![0; 256 << 10],
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGKILL of the server ends its workers too.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Sends the request and reads the whole response, a `200`; the length of its body.
    fn exchange(&mut self, request: &[u8]) -> usize {
        self.stream.write_all(request).expect("the server reads");
        let mut filled = 0;
        let head = loop {
            filled += self.read(filled);
            let found = self.buffer[..filled]
                .windows(4)
                .position(|four| four == b"\r\n\r\n");
            if let Some(end) = found {
                break end + 4;
            }
        };
        let text = std::str::from_utf8(&self.buffer[..head]).expect("an ASCII head");
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
        let length = text
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, value)| value.parse().ok())
            .expect("a Content-Length");
        let mut body = filled - head;
        while body < length {
            body += self.read(0);
        }
        assert_eq!(body, length);
        length
    }

    fn read(&mut self, from: usize) -> usize {
        let count = self
            .stream
            .read(&mut self.buffer[from..])
            .expect("a response");
        assert!(count > 0, "the connection ended");
        count
    }
}

criterion_group!(benches, whole_requests);
criterion_main!(benches);
