//! Responses whose end is missing: a 502 while the client has nothing, else everything that came
//! and a visible break; the access log has the bytes that were sent.

use std::sync::Mutex;
use std::sync::mpsc::channel;

use serde_json::Value;

use crate::support::backend::{Backend, Call};
use crate::support::curl;
use crate::support::http2::{Http2, Outcome, get_fields};
use crate::support::raw::{Connection, End};
use crate::support::server::{Pyserve, Server, get};

crate::clients_over_tls! {
    everything_that_came_before_the_end_arrives_over_http_1,
    a_worker_that_dies_inside_its_response_costs_what_it_had_not_sent,
    a_byte_that_is_missing_is_missed,
}

fn before(backend: &Backend) -> Pyserve {
    Pyserve::new()
        .without("PYSERVE_PYTHON")
        .env("PYSERVE_ACCESS_LOG", "json")
        .args(["--upstream", &format!("http://{}", backend.address())])
}

fn logged(server: &Server, target: &str) -> (u64, u64) {
    let line = server.stdout.wait_for(&format!("\"{target}\""));
    let line: Value = serde_json::from_str(&line).unwrap();
    let number = |name: &str| line[name].as_u64().unwrap();
    (number("status"), number("bytes"))
}

/// A head that announces a body of 300,000 bytes, and the first 1,000 of that.
fn parts(framing: &str) -> (String, Vec<u8>) {
    let first = [b'x'; 1000];
    let (line, body) = match framing {
        "length" => ("Content-Length: 300000", first.to_vec()),
        "chunked" => (
            "Transfer-Encoding: chunked",
            [b"3e8\r\n", &first[..], b"\r\n"].concat(),
        ),
        "chunk" => (
            "Transfer-Encoding: chunked",
            [b"493e0\r\n", &first[..]].concat(),
        ),
        _ => unreachable!(),
    };
    (
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/x\r\n{line}\r\n\r\n"),
        body,
    )
}

#[test]
fn a_response_that_comes_with_its_premature_end_is_a_502_or_what_came_and_a_break() {
    for framing in ["length", "chunked", "chunk"] {
        let (head, body) = parts(framing);
        let whole = [head.as_bytes(), &body].concat();
        let backend = Backend::tcp(move |mut call| {
            call.http_head();
            call.send(&whole);
        });
        let server = before(&backend).ready();
        for number in 0..20 {
            let target = format!("/{framing}/{number}");
            let response = server.get(&target);
            let (status, bytes) = logged(&server, &target);
            assert_eq!(status, u64::from(response.status()));
            assert_eq!(bytes, response.body.len() as u64, "{framing}");
            match response.status() {
                502 => assert_eq!(response.broken, None),
                _ => {
                    assert_eq!(response.body, [b'x'; 1000], "{framing}");
                    assert_eq!(response.broken, Some(End::Closed), "{framing}");
                }
            }
        }
    }
}

/// Sends the first part, waits for a word, and goes on; a reset or an end.
fn in_two_steps(framing: &'static str) -> (Backend, std::sync::mpsc::Sender<()>) {
    let (hold, held) = channel::<()>();
    let held = Mutex::new(held);
    let backend = Backend::tcp(move |mut call: Call| {
        call.http_head();
        let (head, body) = parts(framing);
        call.send(&head);
        call.send(&body[..200]);
        let _ = held.lock().unwrap().recv();
        call.send(&body[200..]);
    });
    (backend, hold)
}

#[test]
fn everything_that_came_before_the_end_arrives_over_http_1() {
    for framing in ["length", "chunked", "chunk"] {
        let (backend, hold) = in_two_steps(framing);
        let server = before(&backend).ready();
        let mut client = server.connect();
        client.send(get("/broken"));
        let head = client.response_to_head();
        assert_eq!(head.status(), 200);
        hold.send(()).unwrap();
        let (bytes, end) = client.rest();
        let content = bytes.iter().filter(|byte| **byte == b'x').count();
        assert_eq!((content, end), (1000, End::Closed), "{framing}");
        assert!(!bytes.ends_with(b"0\r\n\r\n"), "{framing}");
        assert_eq!(logged(&server, "/broken"), (200, 1000), "{framing}");
        server.stderr.wait_for("upstream response truncated");
    }
}

#[test]
fn everything_that_came_before_the_end_arrives_over_http_2() {
    for framing in ["length", "chunked", "chunk"] {
        let (backend, hold) = in_two_steps(framing);
        let server = before(&backend).ready();
        let mut client = Http2::new(server.connect());
        client.headers(1, &get_fields("/broken"), true);
        let (status, first) = client.response_to(1, 100);
        assert_eq!(status, 200);
        hold.send(()).unwrap();
        let (rest, outcome) = client.rest_of(1);
        // RFC 9113 §8.1: INTERNAL_ERROR.
        assert_eq!(outcome, Outcome::StreamError(2), "{framing}");
        assert_eq!(first.len() + rest.len(), 1000, "{framing}");
        assert_eq!(logged(&server, "/broken"), (200, 1000), "{framing}");
    }
}

#[test]
fn a_client_of_http_1_0_sees_a_reset_where_only_the_end_would_say_that_all_is_there() {
    let (backend, hold) = in_two_steps("chunked");
    let server = before(&backend).ready();
    let mut client = server.connect();
    client.send("GET /old HTTP/1.0\r\nHost: h\r\n\r\n");
    let head = client.response_to_head();
    assert_eq!((head.status(), head.header("Content-Length")), (200, None));
    hold.send(()).unwrap();
    let (bytes, end) = client.rest();
    assert_eq!((bytes.len(), end), (1000, End::Reset));
    assert_eq!(logged(&server, "/old"), (200, 1000));
}

#[test]
fn what_a_slow_client_had_not_taken_yet_arrives_before_the_break() {
    // More than sockets and memory hold: the rest waits in a file.
    const LENGTH: usize = 20 << 20;
    let backend = Backend::tcp(|mut call| {
        call.http_head();
        call.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            LENGTH + 1
        ));
        call.send(vec![b'x'; LENGTH]);
    });
    let server = before(&backend).ready();
    let mut client = Connection::tcp_that_takes_little(server.port());
    client.send(get("/slow"));
    server.stderr.wait_for("upstream response truncated");
    let response = client.response();
    assert_eq!(response.body.len(), LENGTH);
    assert_eq!(response.broken, Some(End::Closed));
    assert_eq!(logged(&server, "/slow"), (200, LENGTH as u64));
}

#[test]
fn a_worker_that_dies_inside_its_response_costs_what_it_had_not_sent() {
    let application = "import os, signal, time\n\
        def application(environ, start_response):\n\
        \x20   headers = [('Content-Type', 'text/x')]\n\
        \x20   if 'length' in environ['PATH_INFO']:\n\
        \x20       headers.append(('Content-Length', '300000'))\n\
        \x20   start_response('200 OK', headers)\n\
        \x20   yield b'x' * 1000\n\
        \x20   os.kill(os.getpid(), signal.SIGKILL)\n";
    let dir = crate::support::temp_dir();
    crate::support::write_files(dir.path(), &[("dying_inside.py", application)]);
    for target in ["/length", "/chunked"] {
        let server = Pyserve::new()
            .env("PYSERVE_ACCESS_LOG", "json")
            .args(["--app", "dying_inside.py", "--chdir"])
            .args([dir.path()])
            .ready();
        let response = server.get(target);
        let got = (response.status(), response.body.len());
        assert_eq!(got, (200, 1000), "{target}");
        assert_eq!(response.broken, Some(End::Closed), "{target}");
        assert_eq!(logged(&server, target), (200, 1000), "{target}");
        let again = format!("{target}/2");
        let mut client = Http2::new(server.connect());
        client.headers(1, &get_fields(&again), true);
        let (status, first) = client.response_to(1, 0);
        let (rest, outcome) = client.rest_of(1);
        assert_eq!(
            (status, outcome),
            (200, Outcome::StreamError(2)),
            "{target}"
        );
        assert_eq!(first.len() + rest.len(), 1000, "{target}");
        assert_eq!(logged(&server, &again), (200, 1000), "{target}");
    }
}

#[test]
fn a_byte_that_is_missing_is_missed() {
    let backend = Backend::tcp(|mut call| {
        call.http_head();
        call.send("HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n");
        call.send([b'x'; 299_999]);
    });
    let server = before(&backend).ready();
    for number in 0..10 {
        let target = format!("/{number}");
        let response = server.get(&target);
        let length = response.body.len() as u64;
        assert_eq!(logged(&server, &target), (200, length));
        assert_eq!((response.status(), length), (200, 299_999));
        assert_eq!(response.broken, Some(End::Closed));
    }
}

#[test]
fn a_compressed_stream_that_breaks_gives_what_had_been_said() {
    let (backend, hold) = in_two_steps("chunked");
    let server = before(&backend)
        .args([
            "--compress",
            "gzip",
            "--compress-private",
            "yes",
            "--compress-types",
            "text/x",
        ])
        .ready();
    let mut client = server.connect();
    client.send("GET /packed HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n");
    let head = client.response_to_head();
    assert_eq!(head.header("Content-Encoding").as_deref(), Some("gzip"));
    let first = client.chunk().unwrap();
    hold.send(()).unwrap();
    let mut packed = first;
    while let Ok(chunk) = client.chunk() {
        assert!(!chunk.is_empty(), "no last chunk");
        packed.extend(chunk);
    }
    assert_eq!(logged(&server, "/packed"), (200, packed.len() as u64));
    let dir = crate::support::temp_dir();
    let path = dir.path().join("packed.gz");
    std::fs::write(&path, &packed).unwrap();
    let unpacked = std::process::Command::new("gzip")
        .arg("-dc")
        .arg(&path)
        .output()
        .unwrap();
    assert_eq!(unpacked.stdout.len(), 1000, "all that came");
}

#[test]
fn curl_knows_that_a_response_over_http_2_is_not_whole() {
    let (backend, hold) = in_two_steps("length");
    hold.send(()).unwrap();
    let server = before(&backend).ready();
    let Some(got) = curl::http2(&server, "/curl", &[]) else {
        return;
    };
    if got.response.status() == 200 {
        assert_ne!(got.code, 0);
        assert_eq!(got.response.body.len(), 1000);
    }
    let (status, bytes) = logged(&server, "/curl");
    assert_eq!(status, u64::from(got.response.status()));
    assert_eq!(bytes, got.response.body.len() as u64);
}

const WHOLE: usize = 30 << 20;

/// A server of one file of [`WHOLE`] bytes, which is not in its memory.
fn with_a_large_file() -> (Server, std::fs::File) {
    let server = Pyserve::new()
        .without("PYSERVE_PYTHON")
        .env("PYSERVE_ACCESS_LOG", "json")
        .watched();
    let dir = server.path("files");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("large.bin"), vec![b'x'; WHOLE]).unwrap();
    let file = std::fs::File::options();
    let file = file
        .clone()
        .write(true)
        .open(dir.join("large.bin"))
        .unwrap();
    let server = server.args(["--static", &format!("/={}", dir.display())]);
    (server.ready(), file)
}

/// The log has what was sent, and what happened; nothing says that the client has left.
#[track_caller]
fn cut_off(server: &Server, status: u64, bytes: usize, length: usize) {
    assert_eq!(logged(server, "/large.bin"), (status, bytes as u64));
    let warning = server.stderr.wait_for("response truncated: its file");
    for part in [
        "large.bin",
        &format!("length={length}"),
        "became shorter",
        "PS-515",
    ] {
        assert!(warning.contains(part), "{part}: {warning}");
    }
    let requests = "pyserve_requests_total";
    let page = server.admin("/-/metrics").text();
    let counted: Vec<_> = page
        .lines()
        .filter(|line| line.starts_with(requests))
        .collect();
    assert!(
        !counted.iter().any(|line| line.contains("499")),
        "{counted:#?}"
    );
}

#[test]
fn a_file_that_becomes_shorter_while_it_is_sent_is_no_client_that_left() {
    for (range, status) in [
        ("", 200),
        ("Range: bytes=100-29000000\r\n", 206),
        ("Range: bytes=0-9,100-29000000\r\n", 206),
        // Whoever writes the response has the last piece of it already.
        ("near the end", 200),
    ] {
        let (server, file) = with_a_large_file();
        let mut client = Connection::tcp_that_takes_little(server.port());
        let lines = if range.starts_with("Range") {
            range
        } else {
            ""
        };
        client.send(format!("GET /large.bin HTTP/1.1\r\nHost: h\r\n{lines}\r\n"));
        let head = client.response_to_head();
        assert_eq!(u64::from(head.status()), status);
        let length = if range == "near the end" {
            WHOLE - 1000
        } else {
            1000
        };
        file.set_len(length as u64).unwrap();
        let (bytes, _end) = client.rest();
        assert!(bytes.len() < WHOLE);
        cut_off(&server, status, bytes.len(), length);
    }
}

#[test]
fn a_file_that_becomes_shorter_is_a_stream_error_over_http_2() {
    let (server, file) = with_a_large_file();
    let mut client = Http2::new(server.connect());
    client.headers(1, &get_fields("/large.bin"), true);
    let (status, first) = client.response_to(1, 100);
    assert_eq!(status, 200);
    file.set_len(1000).unwrap();
    client.allow(1, WHOLE as u32);
    let (rest, outcome) = client.rest_of(1);
    // RFC 9113 §8.1: INTERNAL_ERROR.
    assert_eq!(outcome, Outcome::StreamError(2));
    cut_off(&server, 200, first.len() + rest.len(), 1000);
}

#[test]
fn the_bytes_of_a_client_that_leaves_are_those_that_its_socket_took() {
    let (server, _file) = with_a_large_file();
    let mut client = Connection::tcp_that_takes_little(server.port());
    client.send(get("/large.bin"));
    assert_eq!(client.response_to_head().status(), 200);
    client.exactly(100_000);
    drop(client);
    let (status, bytes) = logged(&server, "/large.bin");
    assert_eq!(status, 499);
    // The rest is in the buffers of two sockets: 4 MiB of sending by tcp(7), tcp_wmem.
    assert!((100_000..10 << 20).contains(&bytes), "{bytes}");
}
