//! `request_buffering = no`: the application reads a body while it arrives.

use std::sync::Mutex;
use std::sync::mpsc::channel;

use crate::support::DEADLINE;
use crate::support::backend::{Backend, page};
use crate::support::http2::{Http2, Outcome};
use crate::support::server::{Pyserve, Server, get};

crate::clients_over_tls! {
    each_piece_is_there_before_the_next_is_sent,
    a_large_body_arrives_byte_for_byte_and_the_connection_stays_in_step,
    an_answer_may_begin_while_the_body_still_arrives,
    a_body_that_breaks_off_raises_and_is_never_short,
    a_client_that_is_too_slow_raises,
    a_body_over_the_limit_is_refused_or_raises,
    an_application_that_reads_nothing_answers_at_once_and_the_answer_arrives,
}

fn server(args: &[&str]) -> Server {
    Pyserve::app("stream_input.py")
        .args(["--request-buffering", "no"])
        .args(args)
        .ready()
}

fn post(how: &str, framing: &str) -> String {
    format!("POST /?how={how} HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n")
}

fn numbered(length: u32) -> Vec<u8> {
    (0..length).map(|number| (number % 251) as u8).collect()
}

#[test]
fn each_piece_is_there_before_the_next_is_sent() {
    let server = server(&[]);
    let mut client = server.connect();
    client.send(post("pieces", "Content-Length: 9"));
    for piece in ["one", "two", "six"] {
        client.send(piece);
        server.probe.notes.wait_for(&format!("got {piece}"));
    }
    assert!(client.response().text().starts_with("9 "));
    let mut client = server.connect();
    client.send(post("pieces", "Transfer-Encoding: chunked"));
    for piece in ["yes", "but", "why"] {
        client.send(format!("3\r\n{piece}\r\n"));
        server.probe.notes.wait_for(&format!("got {piece}"));
    }
    client.send("0\r\n\r\n");
    assert!(client.response().text().ends_with("no length"));
}

#[test]
fn a_large_body_arrives_byte_for_byte_and_the_connection_stays_in_step() {
    let server = server(&[]);
    let body = numbered(5_000_000);
    let mut client = server.connect();
    for how in ["all", "lines"] {
        client.send(post(how, &format!("Content-Length: {}", body.len())));
        client.send(&body);
        let text = client.response().text();
        assert!(text.starts_with("5000000 "), "{text}");
        assert!(text.ends_with(" 5000000"), "{text}");
    }
    // The same that buffering gives.
    let mut other = Pyserve::app("stream_input.py").ready();
    let mut buffered = other.connect();
    buffered.send(post("all", &format!("Content-Length: {}", body.len())));
    buffered.send(&body);
    client.send(post("all", &format!("Content-Length: {}", body.len())));
    client.send(&body);
    assert_eq!(client.response().text(), buffered.response().text());
    client.send(post("all", "Content-Length: 0"));
    assert!(client.response().text().starts_with("0 "));
    other.signal(rustix::process::Signal::TERM);
    other.wait_exit();
}

#[test]
fn an_answer_may_begin_while_the_body_still_arrives() {
    let server = server(&[]);
    let mut client = server.connect();
    client.send(post("echo", "Transfer-Encoding: chunked"));
    for piece in ["one", "two"] {
        client.send(format!("3\r\n{piece}\r\n"));
        if piece == "one" {
            assert_eq!(client.response_to_head().status(), 200);
        }
        assert_eq!(client.chunk().unwrap(), piece.as_bytes());
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.chunk().unwrap(), b"");
}

#[test]
fn over_http2() {
    let server = server(&[]);
    let mut client = Http2::new(server.connect());
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "localhost"),
        (":path", "/?how=pieces"),
    ];
    client.headers(1, &fields, false);
    client.data(1, b"first", false);
    server.probe.notes.wait_for("got first");
    client.data(1, b"last", true);
    match client.outcome(1) {
        Outcome::Response(200, body) => assert!(body.starts_with(b"9 ")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_body_that_breaks_off_raises_and_is_never_short() {
    let server = server(&[]);
    for framing in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
        let before = server.probe.notes.count("still broken");
        let mut client = server.connect();
        client.send(post("all", framing));
        client.send("5\r\nhello\r\n");
        client.finish_sending();
        server.probe.notes.wait_for_nth("still broken", before + 1);
        drop(client);
    }
    assert_eq!(server.probe.notes.count("broken: "), 2);
    assert_eq!(server.get("/?how=none").text(), "not read");
}

#[test]
fn a_client_that_is_too_slow_raises() {
    let server = server(&["--body-timeout", "200ms"]);
    let mut client = server.connect();
    client.send(post("all", "Content-Length: 100"));
    client.send("some");
    let note = server.probe.notes.wait_for("broken: ");
    assert!(note.contains("too slow"), "{note}");
    assert_eq!(
        client.response().status(),
        400,
        "the application's own answer"
    );
}

#[test]
fn a_body_over_the_limit_is_refused_or_raises() {
    let server = server(&["--max-body", "1000"]);
    let mut client = server.connect();
    client.send(post("all", "Content-Length: 1001"));
    assert_eq!(client.response().status(), 413);
    let mut client = server.connect();
    client.send(post("pieces", "Transfer-Encoding: chunked"));
    client.send("1\r\n+\r\n");
    server.probe.notes.wait_for("got +");
    // The size of the chunk is enough.
    client.send("3e8\r\n");
    let note = server.probe.notes.wait_for("broken: ");
    assert!(note.contains("1000 bytes"), "{note}");
    assert_eq!(client.response().status(), 400);
}

#[test]
fn an_application_that_reads_nothing_answers_at_once_and_the_answer_arrives() {
    let server = server(&[]);
    for _ in 0..3 {
        let mut client = server.connect();
        client.send(post("none", "Content-Length: 50000000"));
        // More than all buffers on the way hold.
        let _refused = client.try_send(vec![b'x'; 8 << 20]);
        assert_eq!(client.response().text(), "not read");
    }
    assert_eq!(server.exchange(&get("/?how=none")).text(), "not read");
}

#[test]
fn one_location_streams_and_another_reads_to_the_end() {
    let builder = Pyserve::new();
    let file = builder.path("pyserve.toml");
    let dir = crate::support::apps();
    let table = |prefix: &str, more: &str| {
        let app = format!("stream_input.py'\nchdir = '{}", dir.display());
        format!("[[location]]\nprefix = '{prefix}'\napp = '{app}'\n{more}\n")
    };
    let text = table("/stream", "request_buffering = false") + &table("/", "");
    std::fs::write(&file, text).unwrap();
    let server = builder.args(["--config"]).args([&file]).ready();
    for (path, is_streamed) in [("/stream", true), ("/", false)] {
        let before = server.probe.notes.count("got");
        let mut client = server.connect();
        let head = post("pieces", "Content-Length: 6");
        client.send(head.replacen("POST /?", &format!("POST {path}?"), 1));
        client.send("one");
        if is_streamed {
            server.probe.notes.wait_for("got one");
        }
        client.send("two");
        assert!(client.response().text().starts_with("6 "), "{path}");
        let expected = if is_streamed { 2 } else { 1 };
        server.probe.notes.wait_for_nth("got", before + expected);
        assert_eq!(server.probe.notes.count("got") - before, expected, "{path}");
    }
}

/// A backend that hands over each piece that it has read of a chunked body; `end` at its
/// last chunk, `cut` at the end of the connection before that.
fn chunk_reader() -> (Backend, std::sync::mpsc::Receiver<String>) {
    let (sender, seen) = channel();
    let sender = Mutex::new(sender);
    let backend = Backend::tcp(move |mut call| {
        let Some(head) = call.http_head() else { return };
        let say = |text: &str| {
            let _test_is_over = sender.lock().unwrap().send(text.to_owned());
        };
        let fields: Vec<_> = head
            .lines()
            .filter(|line| line.contains("-En") || line.contains("-Le"))
            .collect();
        say(&fields.join(", "));
        let mut read = String::new();
        loop {
            let some = call.some();
            if some.is_empty() {
                return say("cut");
            }
            read += &String::from_utf8(some).unwrap();
            while let Some((size, rest)) = read.split_once("\r\n") {
                let length = usize::from_str_radix(size, 16).unwrap();
                if rest.len() < length + 2 {
                    break;
                }
                let (piece, rest) = rest.split_at(length);
                let rest = rest
                    .strip_prefix("\r\n")
                    .expect("the chunk's end")
                    .to_owned();
                if length == 0 {
                    assert_eq!(rest, "");
                    say("end");
                    call.send(page("thanks"));
                    return;
                }
                say(piece);
                read = rest;
            }
        }
    });
    (backend, seen)
}

#[test]
fn a_body_without_a_length_reaches_a_server_of_http_in_chunks() {
    let (backend, seen) = chunk_reader();
    let url = format!("http://{}", backend.address());
    let server = Pyserve::new()
        .without("PYSERVE_PYTHON")
        .args(["--upstream", &url, "--request-buffering", "no"])
        .args(["--max-body", "1000"])
        .ready();
    let next = || seen.recv_timeout(DEADLINE).unwrap();
    let mut client = server.connect();
    client.send(post("", "Transfer-Encoding: chunked"));
    assert_eq!(next(), "Transfer-Encoding: chunked");
    client.send("3\r\none\r\n");
    assert_eq!(next(), "one");
    client.send("3;x=y\r\ntwo\r\n");
    assert_eq!(next(), "two");
    client.send("0\r\nTrailer: x\r\n\r\n");
    assert_eq!(next(), "end");
    assert_eq!(client.response().text(), "thanks");
    // Nothing in it.
    let empty = post("", "Transfer-Encoding: chunked") + "0\r\n\r\n";
    assert_eq!(server.exchange(&empty).text(), "thanks");
    assert_eq!(
        (next(), next()),
        ("Transfer-Encoding: chunked".to_owned(), "end".to_owned())
    );
    // A client that leaves, and one that sends more than it may: never the last chunk.
    let mut client = server.connect();
    client.send(post("", "Transfer-Encoding: chunked"));
    client.send("3\r\none\r\n3\r\n");
    assert_eq!(next(), "Transfer-Encoding: chunked");
    assert_eq!(next(), "one");
    drop(client);
    assert_eq!(next(), "cut");
    let mut client = server.connect();
    client.send(post("", "Transfer-Encoding: chunked"));
    assert_eq!(next(), "Transfer-Encoding: chunked");
    client.send(format!("3e9\r\n{}\r\n", "x".repeat(1001)));
    assert_eq!(client.response().status(), 413);
    // However much of it has come through by then.
    let last = std::iter::repeat_with(next).find(|said| ["cut", "end"].contains(&&**said));
    assert_eq!(last.as_deref(), Some("cut"));
}

#[test]
fn over_http2_a_body_without_a_length_reaches_a_server_of_http_in_chunks() {
    let (backend, seen) = chunk_reader();
    let url = format!("http://{}", backend.address());
    let server = Pyserve::new()
        .without("PYSERVE_PYTHON")
        .args(["--upstream", &url, "--request-buffering", "no"])
        .ready();
    let next = || seen.recv_timeout(DEADLINE).unwrap();
    let mut client = Http2::new(server.connect());
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "localhost"),
        (":path", "/"),
    ];
    client.headers(1, &fields, false);
    assert_eq!(next(), "Transfer-Encoding: chunked");
    client.data(1, b"first", false);
    client.data(1, b"last", true);
    assert_eq!([next(), next(), next()], ["first", "last", "end"]);
    match client.outcome(1) {
        Outcome::Response(200, body) => assert_eq!(body, b"thanks"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn uwsgi_gets_a_body_without_a_length_when_it_is_complete() {
    let (sender, seen) = channel();
    let sender = Mutex::new(sender);
    let backend = Backend::unix(move |mut call| {
        let packet = call.packet();
        let body = call.body(&packet);
        let received = (packet.vars["CONTENT_LENGTH"].clone(), body);
        let _test_is_over = sender.lock().unwrap().send(received);
        call.send(page("thanks"));
    });
    let server = Pyserve::new()
        .without("PYSERVE_PYTHON")
        .args(["--uwsgi", backend.address(), "--request-buffering", "no"])
        .ready();
    let mut client = server.connect();
    client.send(post("", "Transfer-Encoding: chunked"));
    client.send("3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n");
    assert_eq!(client.response().text(), "thanks");
    assert_eq!(
        seen.recv_timeout(DEADLINE).unwrap(),
        ("6".to_owned(), b"onetwo".to_vec())
    );
    // Whoever breaks off costs the server nothing.
    let mut client = server.connect();
    client.send(post("", "Transfer-Encoding: chunked"));
    client.send("3\r\none\r\n");
    client.finish_sending();
    assert_eq!(client.response().status(), 400);
    assert_eq!(backend.calls(), 1);
}

/// Passes a body in two pieces to a server behind, which tells what it has `seen`.
fn pass_through(backend: &Backend, address: &str, seen: &std::sync::mpsc::Receiver<String>) {
    let server = Pyserve::new()
        .without("PYSERVE_PYTHON")
        .args(["--upstream", address, "--request-buffering", "no"])
        .args(["--body-timeout", "500ms"])
        .ready();
    let mut client = server.connect();
    client.send(post("", "Content-Length: 6"));
    client.send("one");
    assert_eq!(seen.recv_timeout(DEADLINE).unwrap(), "one");
    client.send("two");
    assert_eq!(seen.recv_timeout(DEADLINE).unwrap(), "two");
    assert_eq!(client.response().text(), "thanks");
    // The side that stops gets an error, and the upstream never gets a whole body.
    let mut client = server.connect();
    client.send(post("", "Content-Length: 6"));
    client.send("one");
    assert_eq!(seen.recv_timeout(DEADLINE).unwrap(), "one");
    assert_eq!(client.response().status(), 408);
    assert_eq!(backend.calls(), 2);
}

#[test]
fn servers_behind_get_a_body_while_it_arrives() {
    let (sender, seen) = channel();
    let sender = Mutex::new(sender);
    let backend = Backend::tcp(move |mut call| {
        if call.http_head().is_none() {
            return;
        }
        let say = |bytes: Vec<u8>| {
            let text = String::from_utf8(bytes).unwrap();
            let _test_is_over = sender.lock().unwrap().send(text);
        };
        say(call.exactly(3));
        let rest = call.some();
        if !rest.is_empty() {
            say(rest);
            call.send(page("thanks"));
        }
    });
    pass_through(&backend, &format!("http://{}", backend.address()), &seen);
}
