//! Large files, which the kernel sends past hyper: to the byte whatever the connection does,
//! never a part for the whole, and with memory that depends neither on size nor on readers.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, fadvise};
use tempfile::TempDir;

use crate::support::http2::{Http2, Outcome, get_fields};
use crate::support::raw::{Connection, End};
use crate::support::server::{Pyserve, Server, get};
use crate::support::{DEADLINE, temp_dir};

crate::clients_over_tls! {
    every_length_arrives_to_the_byte_on_a_kept_connection,
    ranges_arrive_to_the_byte_on_a_kept_connection,
    several_ranges_arrive_to_the_byte_on_a_kept_connection,
    a_file_that_is_not_in_memory_arrives_all_the_same,
    pipelined_requests_are_answered_in_their_order,
    a_connection_of_http_1_0_ends_behind_the_last_byte,
    a_file_that_shrinks_breaks_the_connection_and_nothing_else,
    a_file_that_is_replaced_or_grows_is_sent_as_it_was_promised,
    many_readers_at_once_get_their_own_files,
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// A document root, and the server over it.
struct Site {
    server: Server,
    dir: TempDir,
    socket: PathBuf,
}

impl Site {
    fn new() -> Self {
        let dir = temp_dir();
        std::fs::create_dir(dir.path().join("static")).unwrap();
        std::fs::write(dir.path().join("static/small.txt"), "small").unwrap();
        let socket = dir.path().join("socket");
        let server = Pyserve::new()
            .without("PYSERVE_BIND")
            .env("PYSERVE_ACCESS_LOG", "combined")
            .current_dir(dir.path())
            .args(["--bind", "127.0.0.1:0", "--bind"])
            .args([format!("unix:{}", socket.display())])
            .args(["--root"])
            .args([dir.path()])
            // On a loaded machine the last of many readers has its turn after minutes.
            .args(["--body-timeout", "10m"])
            .listening();
        Self {
            server,
            dir,
            socket,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("static").join(name)
    }

    fn write(&self, name: &str, length: usize) -> Vec<u8> {
        let content = numbered(0, length);
        std::fs::write(self.path(name), &content).unwrap();
        content
    }

    fn check_alive(&self) {
        assert_eq!(self.server.get("/static/small.txt").text(), "small");
    }

    /// Waits for the access log's line of a client that left.
    fn wait_for_departure(&self, nth: usize) {
        self.server.stdout.wait_for_nth("\" 499 ", nth);
    }
}

/// Bytes that tell their place: no two pieces of a file are alike.
fn numbered(from: u64, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 16);
    for word in from / 8..=(from + length as u64) / 8 {
        bytes.extend_from_slice(&word.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
    }
    bytes.drain(..(from % 8) as usize);
    bytes.truncate(length);
    bytes
}

fn request(method: &str, name: &str, version: &str) -> String {
    format!("{method} /static/{name} HTTP/{version}\r\nHost: localhost\r\n\r\n")
}

#[track_caller]
fn check_file(connection: &mut Connection, target: &str, content: &[u8]) {
    let response = connection.exchange(get(target));
    assert_eq!(response.status(), 200, "{target}");
    assert_eq!(
        response.header("Content-Length"),
        Some(content.len().to_string())
    );
    assert!(response.broken.is_none(), "{target}: {:?}", response.broken);
    assert!(response.body == content, "{target} has other bytes");
}

#[test]
fn every_length_arrives_to_the_byte_on_a_kept_connection() {
    let site = Site::new();
    let lengths = [
        64 * KIB,
        64 * KIB + 1,
        128 * KIB,
        MIB - 1,
        MIB,
        MIB + 64 * KIB,
        MIB + 64 * KIB + 1,
        9 * MIB + 4321,
    ];
    let unix = Connection::unix(&site.socket);
    for mut connection in [site.server.connect(), unix] {
        for length in lengths {
            let name = format!("{length}.bin");
            let content = site.write(&name, length);
            check_file(&mut connection, &format!("/static/{name}"), &content);
            check_file(&mut connection, "/static/small.txt", b"small");
        }
    }
}

#[test]
fn ranges_arrive_to_the_byte_on_a_kept_connection() {
    let site = Site::new();
    let content = site.write("a.bin", 5 * MIB + 3);
    let unix = Connection::unix(&site.socket);
    for mut connection in [site.server.connect(), unix] {
        for range in [
            0..MIB,
            1..MIB + 70_000,
            4095..4097 + 3 * MIB,
            2 * MIB + 5..2 * MIB + 200_000,
            MIB..content.len(),
            content.len() - 1..content.len(),
        ] {
            let field = format!("Range: bytes={}-{}\r\n\r\n", range.start, range.end - 1);
            let request = request("GET", "a.bin", "1.1").replacen("\r\n\r\n", "\r\n", 1) + &field;
            let response = connection.exchange(request);
            assert_eq!(response.status(), 206);
            assert!(response.body == content[range.clone()], "{range:?}");
        }
        check_file(&mut connection, "/static/a.bin", &content);
    }
}

#[test]
fn several_ranges_arrive_to_the_byte_on_a_kept_connection() {
    let site = Site::new();
    let content = site.write("a.bin", 5 * MIB + 3);
    let ranges = [0..2 * MIB, 3 * MIB..3 * MIB + 1, 4 * MIB + 5..content.len()];
    let fields = ranges
        .each_ref()
        .map(|range| format!("{}-{}", range.start, range.end - 1));
    let field = format!("Range: bytes={}\r\n\r\n", fields.join(","));
    let request = request("GET", "a.bin", "1.1").replacen("\r\n\r\n", "\r\n", 1) + &field;
    let unix = Connection::unix(&site.socket);
    for mut connection in [site.server.connect(), unix] {
        let response = connection.exchange(&request);
        assert_eq!(response.status(), 206);
        let parts = response.byte_ranges();
        assert_eq!(parts.len(), ranges.len());
        for ((declared, bytes), range) in parts.iter().zip(&ranges) {
            assert!(*bytes == content[range.clone()], "{declared}");
        }
        check_file(&mut connection, "/static/a.bin", &content);
    }
}

#[test]
fn clients_of_one_file_share_its_descriptor_and_the_last_one_closes_it() {
    let site = Site::new();
    site.write("large.bin", 16 * MIB);
    let open = || {
        let descriptors = format!("/proc/{}/fd", site.server.pid().as_raw_nonzero());
        let links = std::fs::read_dir(descriptors).unwrap();
        let targets = links.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        targets
            .filter(|target| target.ends_with("large.bin"))
            .count()
    };
    let mut readers: Vec<_> = (0..10).map(|_| site.server.connect()).collect();
    for reader in &mut readers {
        reader.send(get("/static/large.bin"));
        reader.response_to_head();
    }
    assert_eq!(open(), 1);
    drop(readers);
    site.wait_for_departure(10);
    assert_eq!(open(), 0);
}

#[test]
fn a_file_that_is_not_in_memory_arrives_all_the_same() {
    let site = Site::new();
    let content = site.write("cold.bin", 12 * MIB + 5);
    let file = File::open(site.path("cold.bin")).unwrap();
    file.sync_all().unwrap();
    fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    check_file(&mut site.server.connect(), "/static/cold.bin", &content);
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let site = Site::new();
    let (a, b) = (
        site.write("a.bin", 3 * MIB + 1),
        site.write("b.bin", 200_000),
    );
    let mut connection = site.server.connect();
    for name in ["a.bin", "small.txt", "b.bin"] {
        connection.send(request("GET", name, "1.1"));
    }
    connection.send(request("HEAD", "a.bin", "1.1"));
    for name in ["absent.bin", "b.bin", "a.bin"] {
        connection.send(request("GET", name, "1.1"));
    }
    assert!(connection.response().body == a);
    assert_eq!(connection.response().text(), "small");
    assert!(connection.response().body == b);
    let head = connection.response_to_head();
    assert_eq!(head.header("Content-Length"), Some(a.len().to_string()));
    assert_eq!(connection.response().status(), 404);
    assert!(connection.response().body == b);
    assert!(connection.response().body == a);
}

#[test]
fn a_connection_of_http_1_0_ends_behind_the_last_byte() {
    let site = Site::new();
    let content = site.write("a.bin", 2 * MIB + 7);
    let mut connection = site.server.connect();
    connection.send(request("GET", "a.bin", "1.0"));
    let response = connection.response();
    assert!(response.body == content);
    assert_eq!(connection.rest(), (Vec::new(), End::Closed));
}

#[test]
fn http_2_gets_the_same_bytes() {
    let site = Site::new();
    let content = site.write("a.bin", 3 * MIB + 17);
    let mut http = Http2::new(site.server.connect());
    for stream in [1, 3] {
        let fields = get_fields("/static/a.bin");
        http.headers(stream, &fields, true);
        http.allow(stream, 64 << 20);
        let outcome = http.outcome(stream);
        assert!(outcome == Outcome::Response(200, content.clone()));
    }
}

#[test]
fn a_client_that_leaves_in_the_middle_costs_nothing_that_lasts() {
    let site = Site::new();
    sparse(&site.path("large.bin"), 64 << 20);
    for nth in 1..=20 {
        let mut connection = match nth % 2 {
            0 => site.server.connect(),
            _ => Connection::unix(&site.socket),
        };
        connection.send(get("/static/large.bin"));
        connection.exactly(nth * 10_000);
        drop(connection);
        site.wait_for_departure(nth);
    }
    site.check_alive();
    let fds = format!("/proc/{}/fd", site.server.pid().as_raw_nonzero());
    let still_open = std::fs::read_dir(fds)
        .unwrap()
        .flatten()
        .filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to.ends_with("large.bin")))
        .count();
    assert_eq!(still_open, 0);
}

#[test]
fn a_file_that_shrinks_breaks_the_connection_and_nothing_else() {
    let site = Site::new();
    let length = 64 << 20;
    let unix = Connection::unix(&site.socket);
    for (mut connection, left) in [(site.server.connect(), 0), (unix, (40 << 20) + 1)] {
        let path = site.path("large.bin");
        sparse(&path, length);
        connection.send(request("GET", "large.bin", "1.1").repeat(2));
        let head = connection.response_to_head();
        assert_eq!(head.header("Content-Length"), Some(length.to_string()));
        // Neither the kernel nor the server holds that much for a client that does not read.
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(left).unwrap();
        let (body, end) = connection.rest();
        assert!((body.len() as u64) < length, "{}", body.len());
        assert!(body.iter().all(|byte| *byte == 0), "no second response");
        assert_ne!(end, End::TimedOut);
        site.check_alive();
    }
}

#[test]
fn a_file_that_is_replaced_or_grows_is_sent_as_it_was_promised() {
    let site = Site::new();
    let content = site.write("large.bin", 32 * MIB);
    let mut connection = site.server.connect();
    connection.send(request("GET", "large.bin", "1.1"));
    let head = connection.response_to_head();
    assert_eq!(head.header("Content-Length"), Some((32 * MIB).to_string()));
    let mut file = File::options()
        .append(true)
        .open(site.path("large.bin"))
        .unwrap();
    file.write_all(b"more").unwrap();
    std::fs::write(site.path("new.bin"), "another file").unwrap();
    std::fs::rename(site.path("new.bin"), site.path("large.bin")).unwrap();
    assert!(connection.exactly(32 * MIB) == content);
    check_file(&mut connection, "/static/large.bin", b"another file");
}

#[test]
fn many_slow_readers_hold_no_memory_and_nobody_up() {
    let site = Site::new();
    let content = site.write("large.bin", 16 * MIB);
    site.check_alive();
    let before = site.server.anonymous_memory();
    let mut readers: Vec<_> = (0..40).map(|_| site.server.connect()).collect();
    for reader in &mut readers {
        reader.send(get("/static/large.bin"));
        let head = reader.response_to_head();
        assert_eq!(
            head.header("Content-Length"),
            Some(content.len().to_string())
        );
    }
    // Each has its socket's buffer full, and takes a little now and then.
    let mut at = 0;
    for length in [1, 70_000, 500_000] {
        for reader in &mut readers {
            assert!(reader.exactly(length) == content[at..at + length]);
        }
        at += length;
        site.check_alive();
    }
    let grown = site.server.anonymous_memory().saturating_sub(before);
    assert!(grown < 40 * 256 * KIB, "{grown} bytes for 40 readers");
    for mut reader in readers {
        assert!(reader.exactly(content.len() - at) == content[at..]);
    }
}

#[test]
fn many_readers_at_once_get_their_own_files() {
    let site = Site::new();
    let contents: Vec<_> = (0..8)
        .map(|number| {
            let content = numbered(number * 8_000, 3 * MIB + number as usize);
            std::fs::write(site.path(&format!("{number}.bin")), &content).unwrap();
            content
        })
        .collect();
    std::thread::scope(|scope| {
        for reader in 0..16 {
            let (site, contents) = (&site, &contents);
            scope.spawn(move || {
                let mut connection = site.server.connect();
                for turn in 0..8 {
                    let number = (reader + turn) % 8;
                    let target = format!("/static/{number}.bin");
                    check_file(&mut connection, &target, &contents[number]);
                }
            });
        }
    });
}

#[test]
fn a_file_over_4_gib_arrives_to_its_last_byte() {
    let site = Site::new();
    let length: u64 = (4 << 30) + 3 * MIB as u64 + 5;
    sparse(&site.path("huge.bin"), length);
    let file = File::options()
        .write(true)
        .open(site.path("huge.bin"))
        .unwrap();
    let end = numbered(length - MIB as u64, MIB);
    file.write_all_at(&end, length - MIB as u64).unwrap();
    let range = format!("Range: bytes={}-\r\n\r\n", length - MIB as u64);
    let part = request("GET", "huge.bin", "1.1").replacen("\r\n\r\n", "\r\n", 1) + &range;
    let part = site.server.exchange(&part);
    assert_eq!(part.status(), 206);
    assert!(part.body == end);
    let mut stream = TcpStream::connect(("127.0.0.1", site.server.port())).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
        .write_all(request("GET", "huge.bin", "1.0").as_bytes())
        .unwrap();
    let mut block = vec![0; 4 * MIB];
    let mut tail = Vec::new();
    let mut received = 0;
    loop {
        let read = stream.read(&mut block).expect("no pause, no reset");
        if read == 0 {
            break;
        }
        if received == 0 {
            let head = String::from_utf8_lossy(&block[..read.min(1000)]).into_owned();
            assert!(head.contains(&format!("Content-Length: {length}\r\n")));
        }
        received += read as u64;
        if received > length - MIB as u64 {
            tail.extend_from_slice(&block[..read]);
        }
    }
    assert!(received > length, "{received} bytes with the head");
    assert!(tail.ends_with(&end));
}

fn sparse(path: &Path, length: u64) {
    File::create(path).unwrap().set_len(length).unwrap();
}
