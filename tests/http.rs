//! HTTP as clients speak it: connections, versions, methods, listeners and limits.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crate::support::http2::{Http2, Outcome};
use crate::support::raw::{Connection, End};
use crate::support::server::{Pyserve, Server, get, post, request};
use crate::support::{temp_dir, write_files};

static SERVER: LazyLock<Server> =
    LazyLock::new(|| Pyserve::app("every.py").args(["--threads", "2"]).ready());

#[test]
fn a_connection_serves_many_requests() {
    let mut connection = SERVER.connect();
    for _ in 0..50 {
        let response = connection.exchange(get("/hello"));
        assert_eq!(response.text(), "hello");
        assert_ne!(response.header("Connection").as_deref(), Some("close"));
    }
}

#[test]
fn a_client_that_asks_for_the_end_gets_it() {
    let mut connection = SERVER.connect();
    connection.send("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!(
        connection.response().header("Connection").as_deref(),
        Some("close")
    );
    assert_eq!(connection.rest(), (vec![], End::Closed));
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let mut connection = SERVER.connect();
    let requests = [
        "/lengths?as=one",
        "/hello",
        "/late_start",
        "/lengths?as=generator",
    ];
    connection.send(requests.map(get).concat());
    for body in ["0123456789", "hello", "late", "0123456789"] {
        assert_eq!(connection.response().text(), body);
    }
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let mut connection = SERVER.connect();
    for byte in post("/echo", "slowly").bytes() {
        connection.send([byte]);
    }
    assert_eq!(connection.response().text(), "slowly");
}

#[test]
fn a_body_that_says_it_is_compressed_arrives_as_it_was_sent() {
    let request = "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\n\
                   Content-Length: 19\r\n\r\n\x1f\x08 no bomb unpacks ";
    assert_eq!(SERVER.exchange(request).text(), "\x1f\x08 no bomb unpacks ");
}

#[test]
fn expect_100_continue_is_answered_before_the_body_comes() {
    let mut connection = SERVER.connect();
    connection.send(
        "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\
         Expect: 100-continue\r\n\r\n",
    );
    let interim = connection.response_to_head();
    assert_eq!(interim.status_line(), "HTTP/1.1 100 Continue");
    connection.send("body");
    assert_eq!(connection.response().text(), "body");
}

/// The same request in one piece, in two inside its head or its body, and with another behind it:
/// the front reads a body that has arrived with its head in another way than one that has not.
#[test]
fn a_body_of_any_length_reaches_the_application_however_it_arrives() {
    for length in [1, 4000, 9000, 65_535, 65_536, 65_537, 200_000] {
        let body: String = ('a'..='z').cycle().take(length).collect();
        let request = post("/echo", &body);
        let pieces = [
            0,
            10,
            request.len() - length,
            request.len() - length / 2 - 1,
        ];
        for split in pieces {
            let (first, second) = request.split_at(split);
            let mut connection = SERVER.connect();
            connection.send(first);
            // Long enough for the front to read the first piece by itself, mostly.
            std::thread::sleep(std::time::Duration::from_millis(u64::from(split > 0) * 5));
            connection.send([second, &get("/hello")].concat());
            let response = connection.response();
            assert!(
                response.status() == 200 && response.text() == body,
                "{length} {split}"
            );
            assert_eq!(connection.response().text(), "hello", "{length} {split}");
            assert_eq!(connection.exchange(get("/hello")).text(), "hello");
        }
    }
}

#[test]
fn a_body_that_arrives_with_its_head_has_its_length_in_environ() {
    for (lines, length) in [
        ("Content-Length: 5\r\nContent-Type: text/x\r\n", "5"),
        ("content-length: 0005\r\nContent-Type: text/x\r\n", "5"),
        (
            "Content-Type: text/x\r\nConnection: keep-alive\r\nContent-Length:5 \r\n",
            "5",
        ),
    ] {
        let head = format!("POST /environ HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n");
        let environ = SERVER.connect().exchange(format!("{head}12345")).json();
        assert_eq!(environ["entries"]["CONTENT_LENGTH"][1], length, "{lines}");
        assert_eq!(environ["entries"]["CONTENT_TYPE"][1], "text/x");
    }
}

#[test]
fn an_expectation_is_not_met_for_a_body_over_the_limit() {
    let server = Pyserve::app("every.py")
        .args(["--max-body", "1000"])
        .ready();
    let mut connection = server.connect();
    connection.send(
        "POST /journal HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1001\r\n\
         Expect: 100-continue\r\n\r\n",
    );
    assert_eq!(connection.response().status(), 413);
}

#[test]
fn a_body_over_the_limit_is_413_and_the_log_names_the_option() {
    let server = Pyserve::app("every.py")
        .args(["--max-body", "1000"])
        .ready();
    assert_eq!(
        server
            .exchange(&post("/echo", &"x".repeat(1000)))
            .body
            .len(),
        1000
    );

    let long = "x".repeat(1001);
    let chunked = format!(
        "POST /journal HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
         200\r\n{0}\r\n200\r\n{0}\r\n0\r\n\r\n",
        "x".repeat(512)
    );
    for request in [post("/journal", &long), chunked] {
        let mut connection = server.connect();
        let _ = connection.try_send(&request);
        let response = connection.response();
        assert_eq!(response.status(), 413);
        assert_ne!(connection.rest().1, End::TimedOut, "the rest is not read");
    }
    server.stderr.wait_for_nth("--max-body", 2);
    assert_eq!(server.probe.notes.count("called"), 0);
}

#[test]
fn http_1_0_ends_with_the_connection_unless_asked_otherwise() {
    let mut connection = SERVER.connect();
    connection.send("GET /hello HTTP/1.0\r\n\r\n");
    assert_eq!(connection.response().text(), "hello");
    assert_eq!(connection.rest(), (vec![], End::Closed));

    let mut connection = SERVER.connect();
    for _ in 0..2 {
        connection.send("GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let response = connection.response();
        assert_eq!(response.text(), "hello");
        let keep_alive = response.header("Connection").unwrap_or_default();
        assert!(
            keep_alive.eq_ignore_ascii_case("keep-alive"),
            "{response:?}"
        );
    }
}

#[test]
fn an_absolute_target_is_served_like_its_path() {
    let response = SERVER.exchange(&get("http://localhost/hello"));
    assert_eq!(response.text(), "hello");
}

#[test]
fn every_response_has_a_date_and_the_server_header_can_be_turned_off() {
    let dated = |server: &Server, target: &str| {
        let response = server.get(target);
        let date = response.header("Date").expect("a date");
        let date = httpdate::parse_http_date(&date).expect("a date of HTTP");
        let age = date.elapsed().unwrap_or_default();
        assert!(age.as_secs() < 60, "{age:?}");
        response.header("Server")
    };
    assert_eq!(dated(&SERVER, "/hello").as_deref(), Some("pyserve"));
    let server = Pyserve::app("every.py")
        .args(["--server-header", "no"])
        .ready();
    for target in ["/hello", "/no_start"] {
        assert_eq!(dated(&server, target), None, "{target}");
    }
}

#[test]
fn headers_of_64_kib_pass_and_more_is_431_with_the_biggest_named_in_the_log() {
    let with = |length: usize| {
        let value = "x".repeat(length);
        format!(
            "GET /environ HTTP/1.1\r\nHost: localhost\r\nX-Small: 1\r\nX-Biggest: {value}\r\n\r\n"
        )
    };
    let response = SERVER.exchange(&with(60_000));
    assert_eq!(
        response.json()["entries"]["HTTP_X_BIGGEST"][1]
            .as_str()
            .unwrap()
            .len(),
        60_000
    );

    let mut connection = SERVER.connect();
    let _ = connection.try_send(with(70_000));
    assert_eq!(connection.response().status(), 431);
    let line = SERVER.stderr.wait_for("iggest");
    assert!(line.to_lowercase().contains("x-biggest"), "{line}");
}

#[test]
fn many_headers_count_towards_the_same_limit() {
    let lines: String = (0..90)
        .map(|number| format!("X-{number}: {}\r\n", "y".repeat(1000)))
        .collect();
    let mut connection = SERVER.connect();
    let _ = connection.try_send(request("GET", "/", &lines));
    assert_eq!(connection.response().status(), 431);
}

#[test]
fn a_target_over_the_limit_is_414() {
    let mut connection = SERVER.connect();
    let _ = connection.try_send(get(&format!("/{}", "x".repeat(70_000))));
    assert_eq!(connection.response().status(), 414);
    assert_eq!(
        SERVER
            .get(&format!("/hello/{}", "x".repeat(8_000)))
            .status(),
        200
    );
}

#[test]
fn several_listeners_serve_the_same_application() {
    let builder = Pyserve::app("hello.py");
    let path = builder.path("http.sock");
    let unix = format!("unix:{}", path.display());
    let server = builder
        .args([
            "--bind",
            "127.0.0.1:0",
            "--bind",
            "127.0.0.1:0",
            "--bind",
            &unix,
        ])
        .ready();
    server.stderr.wait_for_nth("listening on ", 3);
    let lines = server.stderr.so_far();
    let ports: Vec<u16> = lines
        .iter()
        .filter_map(|line| line.split_once("listening on http://127.0.0.1:"))
        .map(|(_, port)| port.trim().parse().expect("a port"))
        .collect();
    assert_eq!(ports.len(), 2, "{lines:?}");
    for port in ports {
        assert_eq!(Connection::tcp(port).exchange(get("/")).text(), "hello");
    }
    assert_eq!(Connection::unix(&path).exchange(get("/")).text(), "hello");
}

#[test]
fn a_unix_socket_left_by_a_dead_server_is_replaced_and_removed_at_the_end() {
    let builder = Pyserve::app("hello.py");
    let path = builder.path("http.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a dead socket lies there");
    let mut server = builder
        .args(["--bind", &format!("unix:{}", path.display())])
        .ready();
    assert_eq!(Connection::unix(&path).exchange(get("/")).text(), "hello");
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
    assert!(!path.exists(), "removed at the end");
}

#[test]
fn http_2_with_prior_knowledge_is_spoken_on_the_same_port() {
    let mut http2 = Http2::new(SERVER.connect());
    let fields = |method, path| {
        [
            (":method", method),
            (":scheme", "http"),
            (":path", path),
            (":authority", "localhost"),
        ]
    };
    http2.headers(1, &fields("GET", "/environ?q=1"), true);
    let Outcome::Response(200, body) = http2.outcome(1) else {
        panic!("no response");
    };
    let about: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let entries = &about["entries"];
    assert_eq!(entries["SERVER_PROTOCOL"][1], "HTTP/2.0");
    assert_eq!(entries["HTTP_HOST"][1], "localhost");
    assert_eq!(entries["PATH_INFO"][1], "/environ");
    assert_eq!(entries["REQUEST_URI"][1], "/environ?q=1");

    http2.headers(3, &fields("POST", "/echo"), false);
    http2.data(3, b"over ", false);
    http2.data(3, b"two", true);
    assert_eq!(
        http2.outcome(3),
        Outcome::Response(200, b"over two".to_vec())
    );
    http2.headers(5, &fields("GET", "/lengths?as=generator"), true);
    assert_eq!(
        http2.outcome(5),
        Outcome::Response(200, b"0123456789".to_vec())
    );
}

#[test]
fn cookies_split_by_http_2_arrive_as_one() {
    let mut http2 = Http2::new(SERVER.connect());
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/environ"),
        (":authority", "localhost"),
        ("cookie", "a=1"),
        ("cookie", "b=2"),
    ];
    http2.headers(1, &fields, true);
    let Outcome::Response(200, body) = http2.outcome(1) else {
        panic!("no response");
    };
    let about: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(about["entries"]["HTTP_COOKIE"][1], "a=1; b=2");
}

#[test]
fn a_head_that_does_not_come_ends_the_connection() {
    let server = Pyserve::app("hello.py")
        .args(["--header-timeout", "200ms"])
        .ready();
    for begun in ["", "GET / HTTP/1.1\r\nHost:"] {
        let mut connection = server.connect();
        connection.send(begun);
        let (statuses, end) = connection.statuses_to_end();
        assert_ne!(end, End::TimedOut);
        assert!(statuses.is_empty() || statuses == [408], "{statuses:?}");
    }
}

#[test]
fn a_body_that_stalls_is_408_and_never_reaches_the_app() {
    let server = Pyserve::app("journal.py")
        .args(["--body-timeout", "200ms"])
        .ready();
    let mut connection = server.connect();
    connection.send("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf");
    let (statuses, end) = connection.statuses_to_end();
    assert_ne!(end, End::TimedOut);
    assert_eq!(statuses, [408]);
    assert_eq!(server.probe.notes.count("called"), 0);
}

#[test]
fn an_idle_connection_is_closed_after_the_keepalive_timeout() {
    let server = Pyserve::app("hello.py")
        .args(["--keepalive-timeout", "200ms"])
        .ready();
    let mut connection = server.connect();
    assert_eq!(connection.exchange(get("/")).text(), "hello");
    let idle_since = Instant::now();
    assert_eq!(connection.rest(), (vec![], End::Closed));
    let waited = idle_since.elapsed();
    assert!(
        waited < Duration::from_secs(10),
        "not by another deadline: {waited:?}"
    );
}

#[test]
fn without_keep_alive_every_response_ends_its_connection() {
    let dir = temp_dir();
    write_files(dir.path(), &[("a.txt", "text")]);
    let files = format!("/files={}", dir.path().display());
    let server = Pyserve::app("hello.py")
        .args(["--keepalive-timeout", "0", "--static", &files])
        .ready();
    // The second request for the file would be answered below hyper.
    for target in ["/", "/files/a.txt", "/files/a.txt"] {
        let mut connection = server.connect();
        let response = connection.exchange(get(target));
        let end = response.header("Connection");
        assert_eq!(end.as_deref(), Some("close"), "{target}");
        assert_eq!(connection.rest(), (vec![], End::Closed), "{target}");
    }
}

#[test]
fn methods_of_any_name_reach_the_app() {
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "X-ODD"] {
        let request = format!("{method} /environ HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let response = SERVER.exchange(&request);
        assert_eq!(response.json()["entries"]["REQUEST_METHOD"][1], method);
    }
}

#[test]
fn minor_versions_above_1_are_served_as_1_1_and_others_refused() {
    for (version, status) in [
        ("HTTP/1.0", 200),
        ("HTTP/1.1", 200),
        ("HTTP/1.2", 200),
        ("HTTP/1.9", 200),
        ("HTTP/2.0", 505),
        ("HTTP/2.1", 505),
        ("HTTP/3.0", 505),
        ("HTTP/9.9", 505),
        ("HTTP/0.9", 400),
        ("HTTP/1.10", 400),
        ("HTTP/11", 400),
        ("HTTP/1", 400),
        ("http/1.1", 400),
        ("HTTP/1.x", 400),
        ("HTTPS/1.1", 400),
        ("", 400),
    ] {
        let mut connection = SERVER.connect();
        connection.send(format!("GET /hello {version}\r\nHost: localhost\r\n\r\n"));
        let response = connection.response();
        assert_eq!(response.status(), status, "{version}");
        let line = response.status_line();
        // RFC 9110 §6.2: the highest version that we conform to; HTTP/1.0 as nginx, but for 1.0.
        let answered = if version == "HTTP/1.0" {
            "HTTP/1.0 "
        } else {
            "HTTP/1.1 "
        };
        assert!(line.starts_with(answered), "{version}: {line}");
        if status == 200 && version > "HTTP/1.0" {
            assert_eq!(connection.exchange(get("/hello")).text(), "hello");
        } else {
            assert_eq!(connection.rest().1, End::Closed, "{version}");
        }
    }
    let response = SERVER.exchange("GET / HTTP/1.9\r\n\r\n");
    assert_eq!(response.status(), 400, "as in HTTP/1.1, a host is needed");
}

#[test]
fn a_connection_of_http_1_0_is_kept_only_where_the_body_has_a_known_end() {
    let keep = "Connection: keep-alive\r\n";
    for (method, target, body, is_kept) in [
        ("GET", "/hello", "hello", true),
        ("GET", "/lengths?as=one", "0123456789", true),
        ("HEAD", "/hello", "", true),
        ("HEAD", "/held_body", "", true),
        ("GET", "/held_body", "onetwothree", false),
        ("GET", "/status?status=204+No+Content", "", true),
        ("GET", "/status?status=304+Not+Modified", "", true),
    ] {
        let mut connection = SERVER.connect();
        connection.send(format!("{method} {target} HTTP/1.0\r\n{keep}\r\n"));
        let response = match method {
            "HEAD" => connection.response_to_head(),
            _ if response_is_bodiless(target) => connection.response_to_head(),
            _ if !is_kept => {
                // The head first: a body that is complete by then has a known length.
                let mut response = connection.response_to_head();
                SERVER.probe.held("after one").release();
                SERVER.probe.held("after two").release();
                response.body = connection.exactly(body.len());
                response
            }
            _ => connection.response(),
        };
        assert_eq!(response.text(), body, "{method} {target}");
        let says = response.header("Connection");
        assert_eq!(response.header("Transfer-Encoding"), None, "RFC 9112 §6.1");
        match is_kept {
            true => {
                assert_eq!(says.as_deref(), Some("keep-alive"), "{method} {target}");
                assert_eq!(connection.exchange(get("/hello")).text(), "hello");
            }
            false => {
                assert_eq!(says.as_deref(), Some("close"), "{method} {target}");
                assert_eq!(connection.rest(), (vec![], End::Closed));
            }
        }
    }
    // An end of ours is no promise to go on.
    let refused = SERVER.exchange(&format!("GET /hello HTTP/1.0\r\n{keep}Host: a b\r\n\r\n"));
    assert_eq!(refused.headers("Connection"), ["close"]);
    // Without the wish, it ends in any case.
    let mut connection = SERVER.connect();
    connection.send("GET /hello HTTP/1.0\r\n\r\n");
    let (bytes, end) = connection.rest();
    assert!(bytes.ends_with(b"hello"));
    assert_eq!(end, End::Closed);
}

fn response_is_bodiless(target: &str) -> bool {
    target.contains("204") || target.contains("304")
}

#[test]
fn a_body_that_is_expected_is_asked_for_beside_an_upgrade_as_well() {
    for lines in [
        "Expect: 100-continue\r\n",
        "Upgrade: h2c\r\nConnection: upgrade\r\nExpect: 100-continue\r\n",
        "Expect: 100-continue\r\nConnection: upgrade\r\nUpgrade: websocket\r\n",
        "Expect: 100-Continue\r\n",
    ] {
        for (framing, body) in [
            ("Content-Length: 5\r\n", "hello"),
            ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        ] {
            let mut connection = SERVER.connect();
            connection.send(format!(
                "POST /echo HTTP/1.1\r\nHost: localhost\r\n{lines}{framing}\r\n"
            ));
            let head = connection.response_to_head();
            assert_eq!(head.status(), 100, "{lines}{framing}");
            connection.send(body);
            assert_eq!(connection.response().text(), "hello");
            assert_eq!(connection.exchange(get("/hello")).text(), "hello");
        }
    }
    for expectation in ["something", "100-continue, something", "200-ok"] {
        let refused = SERVER.exchange(&request(
            "GET",
            "/hello",
            &format!("Expect: {expectation}\r\n"),
        ));
        assert_eq!(refused.status(), 417, "{expectation}");
    }
}
