//! What a server behind may answer, and what the client makes of it.

use std::sync::Mutex;
use std::sync::mpsc::channel;

use super::{answered, before, in_front_of};
use crate::support::backend::{Backend, page};
use crate::support::server::{get, post};
use crate::support::{temp_dir, write_files};

#[test]
fn answers_of_http_and_of_cgi_are_understood_however_they_are_split() {
    let answers = [
        (
            "HTTP/1.1 201 Created\r\nX-A: 1\r\nContent-Length: 2\r\n\r\nok",
            201,
        ),
        ("Status: 404 Not Found\r\nX-A: 1\r\n\r\nok", 404),
        ("X-A: 1\n\nok", 200),
        ("Location: /there\r\nX-A: 1\r\n\r\nok", 302),
        ("HTTP/1.0 203 Odd Words\r\nX-A: 1\r\n\r\nok", 203),
        (
            "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nX-A: 1\r\n\r\nok",
            200,
        ),
    ];
    for (answer, status) in answers {
        let pieces = Backend::unix(move |mut call| {
            let packet = call.packet();
            let target = &packet.vars["PATH_INFO"];
            let at: usize = target[1..].parse().unwrap();
            // Two writes; every byte by itself where the cut is beyond the end.
            if at < answer.len() {
                call.send(&answer[..at]);
                call.send(&answer[at..]);
            } else {
                answer.as_bytes().chunks(1).all(|byte| call.send(byte));
            }
        });
        let server = in_front_of(&pieces);
        for cut in 1..=answer.len() {
            let response = server.get(&format!("/{cut}"));
            assert_eq!(response.status(), status, "{answer:?} cut at {cut}");
            assert_eq!(response.text(), "ok", "{answer:?} cut at {cut}");
            assert_eq!(response.header("X-A").as_deref(), Some("1"));
            assert_eq!(response.broken, None);
        }
    }
}

#[test]
fn a_response_cut_short_breaks_the_client_s_connection_too() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloworld",
    ] {
        let backend = Backend::saying(answer);
        let server = in_front_of(&backend);
        let mut client = server.connect();
        client.send(get("/"));
        // Never a response that looks whole, and a page of ours where none of it had left.
        if let Ok(head) = client.try_head()
            && head.status() != 502
        {
            let (bytes, end) = client.rest();
            let text = String::from_utf8_lossy(&bytes);
            assert!(
                !text.ends_with("0\r\n\r\n"),
                "{answer:?}: {head:?} {text:?} {end:?}"
            );
            assert!(text.len() < 10 || head.header("Content-Length").is_none());
        }
        server.stderr.wait_for("reason=");
    }
    let too_long = answered("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhalf and more");
    assert_eq!((too_long.text().as_str(), too_long.broken), ("half", None));
}

#[test]
fn every_request_has_a_connection_of_its_own_whatever_the_server_says() {
    // It offers to go on, and leaves the connection open; what it would read next is no packet
    // of a new connection, and goes unanswered.
    let backend = Backend::unix(|mut call| {
        call.packet();
        call.send("HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok");
        assert_eq!(call.rest(), 0, "a second request");
    });
    let server = in_front_of(&backend);
    let mut client = server.connect();
    for count in 1..=5 {
        // Over at its length: the connection's end does not come.
        let response = client.exchange(get("/"));
        assert_eq!((response.text().as_str(), response.broken), ("ok", None));
        assert_eq!(backend.calls(), count);
    }
}

#[test]
fn a_reset_is_not_the_end_of_an_answer_that_ends_with_its_connection() {
    let (hold, held) = channel::<()>();
    let held = Mutex::new(held);
    let backend = Backend::tcp(move |mut call| {
        // All but the body is read: closing resets the connection.
        call.packet();
        call.send("HTTP/1.1 200 OK\r\n\r\nhalf");
        let _ = held.lock().unwrap().recv();
    });
    let server = in_front_of(&backend);
    let mut client = server.connect();
    client.send(post("/", "unread"));
    let head = client.response_to_head();
    assert_eq!(head.status(), 200);
    assert_eq!(client.chunk().unwrap(), b"half");
    drop(hold);
    assert!(client.chunk().is_err(), "no last chunk");
    server.stderr.wait_for("upstream response truncated");
}

#[test]
fn a_chunked_answer_is_decoded() {
    let response = answered(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nT: x\r\n\r\n",
    );
    assert_eq!((response.text().as_str(), response.broken), ("hello", None));
    assert_eq!(response.header("T"), None);
}

#[test]
fn head_204_and_304_have_no_body_whatever_their_length_says() {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let backend = Backend::unix(move |mut call| {
        let packet = call.packet();
        let status = &packet.vars["PATH_INFO"][1..];
        call.send(format!(
            "HTTP/1.1 {status} X\r\nContent-Length: 5\r\nX-A: 1\r\n\r\n"
        ));
        // Does not close before pyserve does.
        call.rest();
        sender.lock().unwrap().send(()).unwrap();
    });
    let server = in_front_of(&backend);
    let mut connection = server.connect();
    for request in [
        "HEAD /200 HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /204 HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /304 HTTP/1.1\r\nHost: h\r\n\r\n",
        "HEAD /404 HTTP/1.1\r\nHost: h\r\n\r\n",
    ] {
        let response = connection.exchange(request);
        assert_eq!(response.header("X-A").as_deref(), Some("1"), "{request}");
        assert_eq!(response.text(), "");
        // It waits for no byte of them, as it would for a minute.
        let closed = receiver.recv_timeout(crate::support::DEADLINE);
        assert_eq!(closed, Ok(()), "{request}");
    }
}

#[test]
fn long_heads_are_taken_and_longer_ones_are_not() {
    let head = |length: usize| {
        let value = "v".repeat(length);
        format!("HTTP/1.1 200 OK\r\nSet-Cookie: {value}\r\nContent-Length: 0\r\n\r\n")
    };
    let response = answered(head(64 << 10));
    assert_eq!(response.header("Set-Cookie").unwrap().len(), 64 << 10);
    let backend = Backend::saying(head(200 << 10));
    let server = in_front_of(&backend);
    assert_eq!(server.get("/").status(), 502);
    server
        .stderr
        .wait_for("its head has more than 131072 bytes");
}

#[test]
fn what_is_for_the_next_hop_alone_does_not_reach_the_client() {
    let response = answered(
        "HTTP/1.1 200 OK\r\nConnection: X-Own, keep-alive\r\nX-Own: 1\r\nKeep-Alive: 5\r\n\
         Proxy-Authenticate: x\r\nTE: x\r\nTrailer: x\r\nUpgrade: h2c\r\nX-Accel-Expires: 5\r\n\
         X-Accel-Limit-Rate: 5\r\nX-Accel-Charset: utf-8\r\nContent-Length: 0\r\nX-Kept: 1\r\n\r\n",
    );
    let names: Vec<_> = response
        .fields()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    for name in [
        "X-Own",
        "Keep-Alive",
        "Proxy-Authenticate",
        "TE",
        "Trailer",
        "Upgrade",
    ] {
        assert!(
            !names.iter().any(|other| other.eq_ignore_ascii_case(name)),
            "{name}"
        );
    }
    assert!(
        !names
            .iter()
            .any(|name| name.to_lowercase().starts_with("x-accel"))
    );
    assert!(names.iter().any(|name| name == "X-Kept"));
}

#[test]
fn garbage_is_a_502_and_never_a_page() {
    for (answer, why) in [
        ("<html>no head at all</html>", "it ends inside its head"),
        ("<html>\r\n\r\n", "neither a status line nor a header field"),
        (
            "HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
            "X cannot be forwarded",
        ),
        ("HTTP/1.1 abc\r\n\r\n", "is not a status code"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            "Content-Length",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nab",
            "Transfer-Encoding",
        ),
        ("HTTP/1.1 101 Switching\r\n\r\n", "switches protocols"),
    ] {
        let backend = Backend::saying(answer);
        let server = in_front_of(&backend);
        assert_eq!(server.get("/").status(), 502, "{answer:?}");
        server.stderr.wait_for(why);
    }
}

#[test]
fn files_are_sent_for_the_application() {
    let dir = temp_dir();
    write_files(dir.path(), &[("files/report.txt", "0123456789")]);
    let answer = "HTTP/1.1 200 OK\r\nContent-Type: text/x-own\r\nX-Accel-Redirect: /protected/report.txt\r\n\
                  X-Accel-Buffering: no\r\nContent-Length: 0\r\n\r\n";
    let backend = Backend::saying(answer);
    let server = before(&[backend.address()])
        .args(["--internal", "/protected=files", "--chdir"])
        .args([dir.path()])
        .ready();
    let response = server.get("/");
    assert_eq!(response.text(), "0123456789");
    assert_eq!(
        response.header("Content-Type").as_deref(),
        Some("text/x-own")
    );
    let part = server.exchange("GET / HTTP/1.1\r\nHost: h\r\nRange: bytes=2-4\r\n\r\n");
    assert_eq!((part.status(), part.text().as_str()), (206, "234"));
    assert_eq!(
        server.get("/protected/report.txt").text(),
        "0123456789",
        "the application's own path"
    );
    // Without a place for such files, nothing is sent and nothing is given away.
    let server = in_front_of(&backend);
    let response = server.get("/");
    assert_eq!(
        (response.status(), response.header("X-Accel-Redirect")),
        (404, None)
    );
    server.stderr.wait_for("in no location of --internal");
}

#[test]
fn the_access_log_says_that_a_server_behind_answered() {
    let backend = Backend::saying(page("x"));
    let server = before(&[backend.address()])
        .args(["--access-log", "json"])
        .ready();
    server.get("/logged");
    let line = server.stdout.wait_for("/logged");
    assert!(line.contains("\"handled_by\":\"upstream\""), "{line}");
}
