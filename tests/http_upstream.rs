//! `--upstream http://…` and `https://…`: a server of HTTP behind pyserve that does exactly what a
//! test says. [`over_both`](crate::over_both) runs most tests with and without TLS.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use crate::support::backend::{Backend, Call, page};
use crate::support::http2::{Http2, Outcome, get_fields};
use crate::support::over::Over;
use crate::support::raw::Connection;
use crate::support::server::{Pyserve, Server, get, post, request};
use crate::support::{DEADLINE, temp_dir};

crate::over_both! {
    the_head_says_what_the_server_may_believe_and_nothing_for_one_hop,
    trusted_proxies_are_believed_and_the_peer_is_added,
    connections_are_used_again_but_not_for_what_must_not_run_twice,
    answers_without_a_body_are_over_with_their_head_whatever_their_length_says,
    a_body_that_a_server_sends_to_head_is_not_the_next_answer,
    a_connection_that_the_server_closes_is_not_used_again,
    a_used_connection_that_dies_costs_no_request,
    garbage_is_a_502_and_never_a_page,
    early_hints_are_read_and_the_answer_behind_them_is_passed_on,
    informational_responses_without_end_are_a_502,
    chunk_sizes_with_leading_zeros_are_taken,
    chunked_answers_arrive_piece_by_piece_and_keep_the_connection,
    an_answer_before_the_end_of_the_body_arrives,
    an_upgraded_connection_is_passed_through_both_ways,
    an_upgraded_connection_that_says_nothing_ends,
    a_server_may_refuse_to_switch,
    every_proper_request_for_an_upgrade_is_passed_on,
    no_other_request_is_one_for_an_upgrade,
    a_server_that_does_not_switch_leaves_the_client_s_connection_as_it_is,
    a_switch_to_what_was_not_offered_is_a_502,
    header_names_keep_their_spelling_or_get_that_of_their_standard,
}

/// pyserve before this server.
fn before(backend: &Backend) -> Pyserve {
    Pyserve::new()
        .without("PYSERVE_PYTHON")
        .args(backend.flags())
}

fn in_front_of(backend: &Backend) -> Server {
    before(backend).ready()
}

/// The length of the body that a head announces.
fn length_of(head: &str) -> usize {
    let line = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "));
    line.map_or(0, |digits| digits.parse().unwrap())
}

/// A server that answers every request with the request's head, and keeps the connection.
fn mirror(over: Over) -> Backend {
    over.backend(|mut call| {
        while let Some(head) = call.http_head() {
            call.exactly(length_of(&head));
            call.send(page(&head));
        }
    })
}

fn the_head_says_what_the_server_may_believe_and_nothing_for_one_hop(over: Over) {
    let backend = mirror(over);
    let server = in_front_of(&backend);
    let head = server
        .exchange(
            "GET /caf%C3%A9%2F?q=%20 HTTP/1.1\r\nHost: example.org:81\r\nConnection: X-Own, keep-alive\r\n\
             X-Own: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\nProxy-Connection: x\r\nProxy: evil\r\n\
             X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n\
             X_Forwarded_For: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\nUpgrade: h2c\r\nX-Kept: a\r\nX-Kept: b\r\n\r\n",
        )
        .text();
    let mut lines: Vec<_> = head.trim_end().lines().collect();
    assert_eq!(lines.remove(0), "GET /caf%C3%A9%2F?q=%20 HTTP/1.1");
    lines.retain(|line| !line.starts_with("X-Request-Id: "));
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "Host: example.org:81",
            "X-Forwarded-For: 127.0.0.1",
            "X-Forwarded-Host: example.org:81",
            &format!("X-Forwarded-Port: {}", server.port()),
            "X-Forwarded-Proto: http",
            "X-Kept: a",
            "X-Kept: b",
        ]
    );
}

fn trusted_proxies_are_believed_and_the_peer_is_added(over: Over) {
    let backend = mirror(over);
    let server = before(&backend).args(["--trust", "127.0.0.1"]).ready();
    let head = server
        .exchange(
            "GET / HTTP/1.1\r\nHost: inner\r\nX-Forwarded-For: 192.0.2.7\r\n\
             X-Forwarded-Proto: https\r\nX-Forwarded-Host: outer.example\r\n\r\n",
        )
        .text();
    for line in [
        "Host: outer.example\r\n",
        "X-Forwarded-For: 192.0.2.7, 127.0.0.1\r\n",
        "X-Forwarded-Proto: https\r\n",
        "X-Forwarded-Host: outer.example\r\n",
    ] {
        assert!(head.contains(line), "{line:?} in {head}");
    }
}

#[test]
fn bodies_have_their_true_length() {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let backend = Backend::unix(move |mut call| {
        while let Some(head) = call.http_head() {
            let body = call.exactly(length_of(&head));
            assert!(!head.contains("Transfer-Encoding"), "{head}");
            call.send(page("ok"));
            sender.lock().unwrap().send(body).unwrap();
        }
    });
    let server = in_front_of(&backend);
    let long = "0123456789".repeat(70_000);
    for (request, body) in [
        (post("/", "hello"), "hello"),
        (post("/", &long), &long),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
                .to_owned(),
            "abc",
        ),
        (get("/"), ""),
    ] {
        let mut client = server.connect();
        client.send(&request);
        let mut response = client.response();
        if response.status() == 100 {
            response = client.response();
        }
        assert_eq!(response.text(), "ok");
        assert!(receiver.recv_timeout(DEADLINE).unwrap() == body.as_bytes());
    }
}

fn connections_are_used_again_but_not_for_what_must_not_run_twice(over: Over) {
    let backend = mirror(over);
    let server = in_front_of(&backend);
    let mut client = server.connect();
    for _ in 0..5 {
        assert_eq!(client.exchange(get("/")).status(), 200);
    }
    assert_eq!(backend.calls(), 1);
    assert_eq!(client.exchange(post("/", "x")).status(), 200);
    assert_eq!(
        backend.calls(),
        2,
        "a request that is not idempotent gets a new one"
    );
}

fn answers_without_a_body_are_over_with_their_head_whatever_their_length_says(over: Over) {
    // If it were waited for, the connection would be of no further use.
    for (method, status) in [("HEAD", 200), ("GET", 204), ("GET", 304), ("HEAD", 404)] {
        let backend = over.backend(move |mut call| {
            while call.http_head().is_some() {
                call.send(format!("HTTP/1.1 {status} X\r\nContent-Length: 5\r\n\r\n"));
            }
        });
        let server = in_front_of(&backend);
        let mut client = server.connect();
        for _ in 0..3 {
            let response = client.exchange(request(method, "/", ""));
            assert_eq!((response.status(), response.text().as_str()), (status, ""));
        }
        let calls = if method == "HEAD" { 3 } else { 1 };
        assert_eq!(backend.calls(), calls, "{method} {status}");
    }
}

fn a_body_that_a_server_sends_to_head_is_not_the_next_answer(over: Over) {
    // It comes when the next request has: that of a connection used again would get it.
    let backend = over.backend(|mut call| {
        let mut late = "";
        while let Some(head) = call.http_head() {
            call.send(late);
            match head.starts_with("HEAD ") {
                true => {
                    call.send("HTTP/1.1 200 OK\r\nContent-Length: 44\r\n\r\n");
                    late = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged";
                }
                false => _ = call.send(page("true")),
            }
        }
    });
    let server = in_front_of(&backend);
    let mut client = server.connect();
    assert_eq!(client.exchange(request("HEAD", "/", "")).status(), 200);
    assert_eq!(client.exchange(get("/")).text(), "true");
}

fn a_connection_that_the_server_closes_is_not_used_again(over: Over) {
    for answer in [
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more",
        "HTTP/1.1 200 OK\r\n\r\nok",
    ] {
        let backend = over.backend(move |mut call| {
            call.http_head();
            call.send(answer);
        });
        let server = in_front_of(&backend);
        for calls in 1..4 {
            let response = server.get("/");
            assert_eq!(
                (response.text().as_str(), response.broken),
                ("ok", None),
                "{answer:?}"
            );
            assert_eq!(backend.calls(), calls, "{answer:?}");
        }
    }
}

fn a_used_connection_that_dies_costs_no_request(over: Over) {
    // Each connection answers once and swallows the second request: only the answer to the
    // first was on its way when it closed.
    let swallowed = std::sync::Arc::new(AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&swallowed);
    let backend = over.backend(move |mut call| {
        call.http_head();
        call.send(page("ok"));
        if call.http_head().is_some() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let server = in_front_of(&backend);
    for _ in 0..6 {
        assert_eq!(server.get("/").text(), "ok");
    }
    assert!(swallowed.load(Ordering::SeqCst) >= 3);
    for _ in 0..3 {
        assert_eq!(server.exchange(&post("/", "x")).text(), "ok");
    }
}

fn garbage_is_a_502_and_never_a_page(over: Over) {
    for (answer, why) in [
        ("<html>HTTP of 1991</html>", "ends inside its head"),
        ("<html>\r\n\r\n</html>", "neither a status line"),
        (
            "Content-Type: text/html\r\n\r\ncgi",
            "neither a status line",
        ),
        ("HTTP/2.0 200 OK\r\n\r\n", "is not a status code"),
        (
            "HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n",
            "switches protocols unasked",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "Content-Length",
        ),
        (
            // Threat 21: hints are checked as answers are.
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\rSet-Cookie: b\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            "cannot be forwarded",
        ),
        ("", "closed the connection without a response"),
    ] {
        let backend = over.backend(move |mut call| {
            call.http_head();
            call.send(answer);
        });
        let server = in_front_of(&backend);
        assert_eq!(server.get("/").status(), 502, "{answer:?}");
        server.stderr.wait_for(why);
    }
}

fn early_hints_are_read_and_the_answer_behind_them_is_passed_on(over: Over) {
    let backend = over.backend(|mut call| {
        call.http_head();
        call.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n");
        call.send(page("the page"));
    });
    let server = in_front_of(&backend);
    let response = server.get("/");
    assert_eq!(
        (response.status(), response.text()),
        (200, "the page".into())
    );
    assert_eq!(response.header("Link"), None);
}

fn informational_responses_without_end_are_a_502(over: Over) {
    let processing = "HTTP/1.1 102 Processing\r\n\r\n";
    let long = format!(
        "HTTP/1.1 103 Early Hints\r\nLink: {}\r\n\r\n",
        "x".repeat(8000)
    );
    for (interim, count, status) in [
        (processing.to_owned(), 100, 200),
        (processing.to_owned(), 101, 502),
        ("HTTP/1.1 100 Continue\r\n\r\n".to_owned(), 101, 502),
        (long.clone(), 16, 200),
        (long, 17, 502),
    ] {
        let backend = over.backend(move |mut call| {
            call.http_head();
            call.send(interim.repeat(count));
            call.send(page("the page"));
        });
        let server = in_front_of(&backend);
        assert_eq!(server.get("/").status(), status, "{count}");
        if status == 502 {
            server.stderr.wait_for("informational responses");
        }
    }
}

fn chunk_sizes_with_leading_zeros_are_taken(over: Over) {
    let backend = over.backend(|mut call| {
        while call.http_head().is_some() {
            let zeros = "0".repeat(36);
            call.send(format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                 {zeros}5\r\nhello\r\n{zeros}\r\n\r\n"
            ));
        }
    });
    let server = in_front_of(&backend);
    for _ in 0..2 {
        assert_eq!(server.get("/").text(), "hello");
    }
    assert_eq!(backend.calls(), 1);
}

fn chunked_answers_arrive_piece_by_piece_and_keep_the_connection(over: Over) {
    let (hold, held) = channel::<()>();
    let held = Mutex::new(held);
    let backend = over.backend(move |mut call| {
        while call.http_head().is_some() {
            call.send(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n5\r\nfirst\r\n",
            );
            let _ = held.lock().unwrap().recv();
            call.send("4\r\nlast\r\n0\r\nX: y\r\n\r\n");
        }
    });
    let server = in_front_of(&backend);
    let mut client = server.connect();
    client.send(get("/"));
    let head = client.response_to_head();
    assert_eq!((head.status(), head.header("Trailer")), (200, None));
    assert_eq!(client.chunk().unwrap(), b"first");
    drop(hold);
    assert_eq!(client.chunk().unwrap(), b"last");
    assert_eq!(client.chunk().unwrap(), b"");
    assert_eq!(server.get("/").text(), "firstlast");
    assert_eq!(backend.calls(), 1);
}

fn an_answer_before_the_end_of_the_body_arrives(over: Over) {
    let backend = over.backend(|mut call| {
        call.http_head();
        call.send("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno");
        // It does not read the body, and closes when the client has the answer.
        call.rest();
    });
    let response = in_front_of(&backend).exchange(&post("/", &"x".repeat(8 << 20)));
    assert_eq!((response.status(), response.text().as_str()), (413, "no"));
}

#[test]
fn failures_have_their_status() {
    let silent = Backend::tcp(|mut call| {
        call.rest();
    });
    let server = before(&silent)
        .args(["--upstream-read-timeout", "200ms"])
        .ready();
    assert_eq!(server.get("/").status(), 504);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", port.local_addr().unwrap());
    drop(port);
    let server = Pyserve::new()
        .args(["--upstream", &url, "--upstream-connect-timeout", "50ms"])
        .ready();
    assert_eq!(server.get("/").status(), 502);
    let here = mirror(Over::Tcp);
    let here_url = format!("http://{}", here.address());
    let server = Pyserve::new()
        .args(["--upstream", &url, "--upstream", &here_url])
        .ready();
    for _ in 0..8 {
        assert_eq!(server.get("/").status(), 200);
    }
}

/// Asks to switch to a protocol that says everything back.
const UPGRADE: &str =
    "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: echo\r\n\r\n";

fn echo(over: Over) -> Backend {
    over.backend(|mut call: Call| {
        let head = call.http_head().unwrap();
        assert!(
            head.contains("Connection: upgrade\r\nUpgrade: echo\r\n"),
            "{head}"
        );
        call.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\nX-A: 1\r\n\r\nearly");
        loop {
            let bytes = call.some();
            if bytes.is_empty() {
                return;
            }
            call.send(bytes);
        }
    })
}

fn an_upgraded_connection_is_passed_through_both_ways(over: Over) {
    let backend = echo(over);
    let server = in_front_of(&backend);
    let mut client = server.connect();
    client.send(UPGRADE);
    let head = client.try_head().unwrap();
    assert_eq!(head.status(), 101);
    assert_eq!(head.header("Upgrade").as_deref(), Some("echo"));
    assert_eq!(head.header("Connection").unwrap().to_lowercase(), "upgrade");
    assert_eq!(head.header("X-A").as_deref(), Some("1"));
    assert_eq!(client.exactly(5), b"early");
    for message in [&b"\x00\xff\r\n"[..], &[7; 100_000]] {
        client.send(message);
        assert!(client.exactly(message.len()) == message);
    }
    client.finish_sending();
    assert!(client.rest().0.is_empty());
}

fn an_upgraded_connection_that_says_nothing_ends(over: Over) {
    let backend = echo(over);
    let server = before(&backend)
        .args(["--upstream-read-timeout", "300ms"])
        .ready();
    let mut client: Connection = server.connect();
    client.send(UPGRADE);
    assert_eq!(client.try_head().unwrap().status(), 101);
    assert_eq!(client.rest().0, b"early");
}

fn a_server_may_refuse_to_switch(over: Over) {
    let backend = mirror(over);
    let response = in_front_of(&backend).exchange(UPGRADE);
    assert_eq!(response.status(), 200);
    assert!(response.text().contains("Upgrade: echo"));
}

/// Switches whatever it is asked for, once it has the whole request, and says everything back.
fn switching_to(over: Over, protocol: &'static str) -> Backend {
    over.backend(move |mut call| {
        let head = call.http_head().unwrap();
        let body = call.exactly(length_of(&head));
        let length = body.len();
        call.send(format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\nX-Body: {length}\r\n\r\n"
        ));
        loop {
            let bytes = call.some();
            if bytes.is_empty() {
                return;
            }
            call.send(bytes);
        }
    })
}

fn every_proper_request_for_an_upgrade_is_passed_on(over: Over) {
    let backend = switching_to(over, "WebSocket");
    let server = in_front_of(&backend);
    for (request, length) in [
        (
            "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n",
            "0",
        ),
        (
            "GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            "0",
        ),
        (
            "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n\
             Upgrade: h2c, websocket/13\r\nUpgrade: websocket\r\n\r\n",
            "0",
        ),
        (
            "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "0",
        ),
        // Docker's API: attach and exec.
        (
            "POST /exec/x/start HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\nhello",
            "5",
        ),
    ] {
        let mut client = server.connect();
        client.send(request);
        let head = client.try_head().unwrap();
        assert_eq!(head.status(), 101, "{request}{head:?}");
        assert_eq!(head.headers("Connection").len(), 1, "{head:?}");
        assert_eq!(head.header("Connection").unwrap().to_lowercase(), "upgrade");
        assert_eq!(head.header("X-Body").as_deref(), Some(length));
        client.send("hello");
        assert_eq!(client.exactly(5), b"hello", "{request}");
    }
}

fn no_other_request_is_one_for_an_upgrade(over: Over) {
    let backend = mirror(over);
    let server = in_front_of(&backend);
    for request in [
        // RFC 9110 §7.8: ignored in HTTP/1.0, and where Connection does not list it.
        "GET / HTTP/1.0\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nUpgrade: websocket\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, close\r\nUpgrade: h2c\r\n\r\n",
    ] {
        let response = server.exchange(request);
        assert_eq!(response.status(), 200);
        let head = response.text().to_lowercase();
        assert!(!head.contains("upgrade:"), "{head}");
        assert!(!head.contains("connection:"), "{head}");
    }
}

fn a_server_that_does_not_switch_leaves_the_client_s_connection_as_it_is(over: Over) {
    let backend = over.backend(|mut call| {
        while call.http_head().is_some() {
            call.send("HTTP/1.1 426 Upgrade Required\r\nUpgrade: x\r\nConnection: upgrade\r\nContent-Length: 2\r\n\r\nno");
        }
    });
    let server = in_front_of(&backend);
    let mut client = server.connect();
    for _ in 0..3 {
        let response = client.exchange(
            "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n",
        );
        assert_eq!((response.status(), response.text().as_str()), (426, "no"));
    }
}

fn a_switch_to_what_was_not_offered_is_a_502(over: Over) {
    let backend = switching_to(over, "smtp");
    let server = in_front_of(&backend);
    assert_eq!(server.exchange(UPGRADE).status(), 502);
    server
        .stderr
        .wait_for("switches to a protocol that was not asked for");
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let dir = temp_dir();
    for (args, message) in [
        (
            &["--upstream", "http://a", "--app", "hello"][..],
            "give only one of app and upstream",
        ),
        (
            &["--upstream", "http://a", "--uwsgi", "unix:/x"],
            "give only one of uwsgi and upstream",
        ),
        (
            &[
                "--upstream",
                "http://a",
                "--upstream",
                "uwsgi://127.0.0.1:1",
            ],
            "give servers of one kind",
        ),
        (&["--upstream", "https+unix:/a"], "no TLS over Unix sockets"),
        (
            &["--upstream", "http://a", "--upstream", "https://a"],
            "give servers of one kind",
        ),
        (&["--upstream", "http://a/path"], "requests keep theirs"),
        (&["--upstream", "uwsgi://10.0.0.1:3031"], "--uwsgi-insecure"),
    ] {
        let ended = Pyserve::new().current_dir(dir.path()).args(args).run();
        assert_eq!(ended.code, 78, "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(message), "{args:?}: {}", ended.stderr);
    }
}

fn header_names_keep_their_spelling_or_get_that_of_their_standard(over: Over) {
    let backend = mirror(over);
    let server = in_front_of(&backend);
    let lines = "sec-ch-ua: 1\r\nSec-WebSocket-Key: 2\r\nDNT: 3\r\nX-CSRFToken: 4\r\n\
                 User-Agent: 5\r\nx-kept: 6\r\nX-Kept: 7\r\n";
    // The spelling of one request is not that of the next.
    let mut connection = server.connect();
    for lines in [lines, "Dnt: 3\r\n", "", lines] {
        let head = connection.exchange(request("GET", "/", lines)).text();
        for line in lines.lines().filter(|line| !line.contains("ept: ")) {
            assert!(
                head.contains(&format!("\r\n{line}\r\n")),
                "{line} in {head}"
            );
        }
        assert_eq!(head.contains("DNT"), lines.contains("DNT"));
    }
    let mut http2 = Http2::new(server.connect());
    let own = [
        ("sec-ch-ua-mobile", "1"),
        ("sec-websocket-key", "2"),
        ("dnt", "3"),
        ("x-csrftoken", "4"),
        ("user-agent", "5"),
    ];
    http2.headers(1, &[&get_fields("/")[..], &own].concat(), true);
    let Outcome::Response(200, head) = http2.outcome(1) else {
        panic!("no answer");
    };
    let head = String::from_utf8(head).unwrap();
    for line in [
        "Sec-CH-UA-Mobile: 1",
        "Sec-WebSocket-Key: 2",
        "DNT: 3",
        "X-Csrftoken: 4",
        "User-Agent: 5",
    ] {
        assert!(
            head.contains(&format!("\r\n{line}\r\n")),
            "{line} in {head}"
        );
    }
}
