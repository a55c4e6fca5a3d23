//! The fast path: files in memory that are answered below hyper. Each response must be the one of
//! hyper, at the same position in the order.

use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::raw::{Connection, End, Response, latin1};
use crate::support::server::{Pyserve, Server, get, post};
use crate::support::{temp_dir, write_files};

/// A field that changes no response, and that the fast path leaves to hyper.
const THROUGH_HYPER: &str = "Trailer: x\r\n";
/// Largest file that is kept in memory.
const LARGE: usize = 64 << 10;

/// Content of which no part occurs twice.
fn large() -> String {
    (0..LARGE / 8).map(|line| format!("{line:07}\n")).collect()
}

fn site() -> TempDir {
    let dir = temp_dir();
    let css = "b { }\n".repeat(500);
    let large = large();
    write_files(
        dir.path(),
        &[
            ("static/a.txt", "text of a\n"),
            ("static/large.txt", &large),
            ("static/empty.txt", ""),
            ("static/style.css", &css),
            ("static/style.css.gz", "stands for something smaller"),
            ("static/space and caf\u{e9}.txt", "odd name"),
            ("static/sub/index.html", "index of sub"),
            ("static/.env", "SECRET"),
        ],
    );
    dir
}

/// A server of `site` and the application `app`, with a long cache validity and an admin listener.
fn server(app: &str, site: &TempDir, args: &[&str]) -> Server {
    let pyserve = Pyserve::app(app);
    let admin = format!("unix:{}", pyserve.path("admin").display());
    pyserve
        .env("PYSERVE_ADMIN", admin)
        .args(["--static-check", "1h", "--root"])
        .args([site.path()])
        .args(args)
        .ready()
}

/// Loads these paths into the cache.
fn warm(server: &Server, targets: &[&str]) {
    for target in targets {
        // Twice: a file that changed a moment ago is not trusted to be settled.
        server.get(target);
        server.get(target);
    }
}

/// Number of files that were answered in this way.
fn looked_up(server: &Server, from: &str) -> u64 {
    let page = Connection::unix(&server.probe.path("admin")).exchange(get("/-/metrics"));
    let name = format!("pyserve_static_lookups_total{{from=\"{from}\"}} ");
    let text = page.text();
    let value = text.lines().find_map(|line| line.strip_prefix(&name));
    value.expect("the sample").parse().expect("a number")
}

/// A response without the parts that differ between responses.
fn compared(response: &Response) -> (String, String) {
    let head = String::from_utf8(response.head.clone()).expect("ASCII");
    let masked = head.split_inclusive("\r\n").map(|line| {
        let name = line.split(':').next().unwrap_or_default();
        match name {
            "Date" | "X-Request-Id" => format!("{name}: {}\r\n", line.trim_end().len()),
            _ => line.to_owned(),
        }
    });
    let id = response.header("X-Request-Id").expect("an id");
    // Error pages contain it.
    (masked.collect(), latin1(&response.body).replace(&id, "ID"))
}

fn request(method: &str, target: &str, lines: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")
}

/// Sends a request on the fast path and through hyper, and compares the responses. True if the fast
/// path answered it.
fn check_both(
    server: &Server,
    connection: &mut Connection,
    method: &str,
    target: &str,
    lines: &str,
) -> bool {
    let before = looked_up(server, "fast_path");
    let fast = connection.exchange(request(method, target, lines));
    let took = looked_up(server, "fast_path") - before;
    let long = server.exchange(&request(method, target, &format!("{lines}{THROUGH_HYPER}")));
    assert_eq!(
        compared(&fast),
        compared(&long),
        "{method} {target} {lines:?}"
    );
    assert_eq!(
        looked_up(server, "fast_path") - before,
        took,
        "the full pipeline is not the fast path"
    );
    took == 1
}

const TARGETS: [&str; 7] = [
    "/static/a.txt",
    "/static/a.txt?v=1&x=%20",
    "/static/%61.txt",
    "/static/large.txt",
    "/static/style.css",
    "/static/sub/",
    "/static/space%20and%20caf%C3%A9.txt",
];

#[test]
fn each_response_is_the_one_of_hyper() {
    let site = site();
    each_is_the_one_of_hyper(&server("journal.py", &site, &["--static-compress", "no"]));
}

#[test]
fn each_response_is_the_one_of_hyper_with_header_rules_too() {
    let site = site();
    let rules = [
        "X-First: 1",
        "Cache-Control: no-cache",
        "add Vary: Cookie",
        "add X-First: 2",
        "remove X-Content-Type-Options",
        "always add Content-Type: a/b",
        "set Etag: \"mine\"",
        "remove Last-Modified",
    ];
    let rules = rules.iter().flat_map(|rule| ["--header", rule]);
    let args: Vec<_> = ["--static-compress", "no"]
        .into_iter()
        .chain(rules)
        .collect();
    each_is_the_one_of_hyper(&server("journal.py", &site, &args));
}

#[test]
fn each_response_is_the_one_of_hyper_where_hosts_choose_the_location() {
    let site = site();
    let toml = format!(
        "[[location]]\nhost = 'localhost'\nprefix = '/static'\nstatic = '{}'\nheader = 'X-A: b'\n\
         [[location]]\nhost = 'other'\nprefix = '/static'\nrespond = 'other'\n",
        site.path().join("static").display()
    );
    write_files(site.path(), &[("hosts.toml", &toml)]);
    let config = site.path().join("hosts.toml");
    let args = [
        "--static-compress",
        "no",
        "--config",
        config.to_str().unwrap(),
    ];
    each_is_the_one_of_hyper(&server("journal.py", &site, &args));
}

fn each_is_the_one_of_hyper(server: &Server) {
    warm(server, &TARGETS);
    let tag = server.get("/static/a.txt").header("ETag").unwrap();
    let date = server.get("/static/a.txt").header("Last-Modified");
    let date = date.unwrap_or_default();
    let variants = [
        String::new(),
        "Accept-Encoding: gzip, deflate, br, zstd\r\n".into(),
        "Accept-Encoding: identity;q=0.5, gzip;q=0.2\r\n".into(),
        "Accept-Encoding: identity;q=0\r\n".into(),
        "Accept-Encoding: gzip;q=1.0, *;q=0\r\n".into(),
        "accept-encoding:\r\n".into(),
        "If-None-Match: *\r\n".into(),
        format!("If-None-Match: {tag}\r\n"),
        format!("IF-NONE-MATCH:W/{tag} \r\n"),
        format!("If-None-Match: \"x\", {tag}\r\nIf-Modified-Since: yesterday\r\n"),
        "If-None-Match: nonsense\r\n".into(),
        format!("If-Modified-Since: {date}\r\n"),
        "If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n".into(),
        "Connection: keep-alive\r\nCookie: a=b; c=\u{e9}\r\nUpgrade-Insecure-Requests: 1\r\n"
            .into(),
        "X-Forwarded-For: 192.0.2.1\r\nX-Request-ID: mine\r\nProxy: x\r\nForwarded: for=x\r\n"
            .into(),
        "Referer: http://localhost/\r\nUser-Agent: a\r\nUser-Agent: b\r\nAccept: */*\r\n".into(),
    ];
    let mut connection = server.connect();
    connection.exchange(get("/static/a.txt"));
    for target in TARGETS {
        for lines in &variants {
            for method in ["GET", "HEAD"] {
                let took = check_both(server, &mut connection, method, target, lines);
                assert!(took, "{method} {target} {lines:?} is for the fast path");
            }
        }
    }
}

#[test]
fn other_requests_get_the_same_response_through_hyper() {
    let site = site();
    let server = server("journal.py", &site, &["--admin-on-main", "yes"]);
    warm(&server, &["/static/a.txt", "/static/empty.txt"]);
    let tag = server.get("/static/a.txt").header("ETag").unwrap();
    let mut connection = server.connect();
    for (method, target, lines) in [
        ("GET", "/static/a.txt", "Range: bytes=1-2\r\n"),
        ("GET", "/static/a.txt", &format!("If-Match: {tag}\r\n")),
        (
            "GET",
            "/static/a.txt",
            "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n",
        ),
        (
            "GET",
            "/static/a.txt",
            "If-Range: x\r\nRange: bytes=1-2\r\n",
        ),
        ("GET", "/static/a.txt", "Expect: 200-ok\r\n"),
        ("GET", "/static/a.txt", "Content-Length: 0\r\n"),
        ("GET", "/static/a.txt", "Content-Type: a/b\r\n"),
        (
            "GET",
            "/static/a.txt",
            "Accept-Encoding: gzip\r\nAccept-Encoding: br\r\n",
        ),
        ("GET", "/static/a.txt", "Connection: te\r\n"),
        ("GET", "/static/empty.txt", ""),
        ("GET", "/static/missing.txt", ""),
        ("GET", "/static/sub", ""),
        ("GET", "/static/.env", ""),
        ("GET", "/static/%2e%2e/secret", ""),
        ("GET", "/static//%61.txt", ""),
        ("GET", "/static/./a.txt", ""),
        ("GET", "/x/../static/a.txt", ""),
        ("GET", "/static/%zz", ""),
        ("GET", "/static/a.txt|", ""),
        ("OPTIONS", "/static/a.txt", ""),
        ("DELETE", "/static/a.txt", ""),
        ("GET", "/-/live", ""),
    ] {
        let took = check_both(&server, &mut connection, method, target, lines);
        assert!(!took, "{method} {target} {lines:?} is not plain");
    }
    // It ends the connection.
    assert!(!check_both(
        &server,
        &mut server.connect(),
        "GET",
        "/static/a.txt%00",
        ""
    ));
}

/// Refused requests: hyper alone decides on their host and their end.
#[test]
fn requests_that_hyper_refuses_are_not_answered_below_it() {
    let site = site();
    let server = server("journal.py", &site, &[]);
    warm(&server, &["/static/a.txt"]);
    let before = looked_up(&server, "fast_path");
    for (request, status) in [
        ("GET /static/a.txt HTTP/1.1\r\n\r\n", 400),
        (
            "GET /static/a.txt HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            400,
        ),
        ("GET /static/a.txt HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        ("GET /static/a.txt HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
        (
            "GET /static/a.txt HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n",
            400,
        ),
        (
            "GET /static/a.txt HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n",
            400,
        ),
        ("GET /static/a.txt HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", 400),
        ("GET  /static/a.txt HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /static/a.txt HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (
            "GET /static/a.txt HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 2\r\n\r\n",
            400,
        ),
        (
            "GET /static/a.txt HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\n\r\n",
            400,
        ),
    ] {
        let mut connection = server.connect();
        connection.exchange(self::request("GET", "/static/a.txt", THROUGH_HYPER));
        let smuggled = get("/static/a.txt");
        let _ = connection.try_send(format!("{request}{smuggled}"));
        let (statuses, end) = connection.statuses_to_end();
        assert_eq!(statuses, [status], "{request:?}");
        assert_ne!(end, End::TimedOut, "{request:?}");
    }
    assert_eq!(looked_up(&server, "fast_path"), before);
}

#[test]
fn a_connection_that_began_with_http1_does_not_become_http2() {
    let site = site();
    let server = server("journal.py", &site, &[]);
    warm(&server, &["/static/a.txt"]);
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for (lines, cut) in [(THROUGH_HYPER, 0), ("", 0), ("", 1), ("", 9)] {
        let mut connection = server.connect();
        let first = connection.exchange(request("GET", "/static/a.txt", lines));
        assert_eq!(first.text(), "text of a\n");
        let (one, two) = preface.split_at(cut);
        connection.send(one);
        looked_up(&server, "fast_path");
        let _ = connection.try_send(format!("{two}\0\0\0\x04\0\0\0\0\0"));
        let (bytes, end) = connection.rest();
        let text = latin1(&bytes);
        assert!(
            text.is_empty() || text.starts_with("HTTP/1.1 505 "),
            "{text:?}"
        );
        assert_ne!(end, End::TimedOut, "cut at {cut}");
    }
    let mut connection = server.connect();
    connection.exchange(get("/static/a.txt"));
    assert_eq!(connection.exchange(post("/journal/p", "x")).status(), 200);
}

#[test]
fn a_body_that_looks_like_a_request_is_a_body() {
    let site = site();
    let server = server("echo.py", &site, &[]);
    warm(&server, &["/static/a.txt"]);
    let plain = get("/static/a.txt");
    let mut connection = server.connect();
    connection.exchange(get("/static/a.txt"));
    let before = looked_up(&server, "fast_path");
    for cut in [0, 1, plain.len()] {
        let length = plain.len();
        let head =
            format!("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
        let (one, two) = plain.split_at(cut);
        connection.send(format!("{head}{one}"));
        // The rest arrives in a segment of its own, while hyper waits for it.
        connection.send(two);
        assert_eq!(connection.response().text(), plain);
        assert_eq!(looked_up(&server, "fast_path"), before, "cut at {cut}");
    }
    assert_eq!(
        connection.exchange(&plain).status(),
        200,
        "the connection is in step"
    );
    assert_eq!(
        looked_up(&server, "fast_path"),
        before + 1,
        "and on the fast path again"
    );
}

#[test]
fn a_request_may_be_cut_anywhere() {
    let site = site();
    let server = server("journal.py", &site, &[]);
    warm(&server, &["/static/a.txt"]);
    let plain = get("/static/a.txt");
    let long = request("GET", "/static/a.txt", THROUGH_HYPER);
    let mut connection = server.connect();
    for text in [plain.clone(), long.clone(), format!("\r\n{plain}")] {
        for cut in 1..text.len() {
            let (one, two) = text.split_at(cut);
            connection.send(one);
            // In nearly all cases not read by the server before this is answered.
            if cut % 8 == 0 {
                looked_up(&server, "fast_path");
            }
            connection.send(two);
            assert_eq!(connection.response().text(), "text of a\n", "{one:?}");
        }
    }
}

#[test]
fn responses_come_in_the_order_of_the_requests() {
    let site = site();
    let server = server("journal.py", &site, &["--threads", "2"]);
    warm(
        &server,
        &["/static/a.txt", "/static/style.css", "/static/large.txt"],
    );
    let kinds = [
        (get("/static/a.txt"), 200, Some(10)),
        (get("/static/style.css"), 200, Some(3000)),
        (get("/journal/x"), 200, None),
        (get("/static/missing.txt"), 404, None),
        (
            request("GET", "/static/a.txt", "Range: bytes=1-3\r\n"),
            206,
            Some(3),
        ),
        (get("/static/large.txt"), 200, Some(LARGE)),
        (
            request("GET", "/static/a.txt", "If-None-Match: *\r\n"),
            304,
            Some(0),
        ),
        (post("/journal/y", "body"), 200, None),
    ];
    // All orders of three, and a long row in which each kind follows each other.
    let count = kinds.len();
    let mut rows: Vec<Vec<usize>> = (0..count.pow(3))
        .map(|row| vec![row % count, row / count % count, row / count / count])
        .collect();
    rows.push(
        (0..count * count * 2)
            .map(|at| (at * at / 3 + at) % count)
            .collect(),
    );
    for row in rows {
        let mut connection = server.connect();
        let all: String = row.iter().map(|kind| kinds[*kind].0.as_str()).collect();
        connection.send(all);
        for (at, kind) in row.iter().enumerate() {
            let (text, status, length) = &kinds[*kind];
            let response = connection.response();
            assert_eq!(response.status(), *status, "number {at} of {row:?}: {text}");
            if let Some(length) = length {
                assert_eq!(response.body.len(), *length, "number {at} of {row:?}");
            }
        }
    }
}

#[test]
fn an_application_s_response_is_never_overtaken() {
    let site = site();
    let server = server("held.py", &site, &[]);
    warm(&server, &["/static/a.txt"]);
    let mut connection = server.connect();
    assert_eq!(connection.exchange(get("/static/a.txt")).status(), 200);
    connection.send(get("/inside"));
    let held = server.probe.held("/inside");
    connection.send(get("/static/a.txt"));
    let before = looked_up(&server, "fast_path");
    held.release();
    assert_ne!(
        connection.response().text(),
        "text of a\n",
        "the application first"
    );
    assert_eq!(connection.response().text(), "text of a\n");
    assert_eq!(looked_up(&server, "fast_path"), before + 1);
}

#[test]
fn a_slow_client_gets_every_byte_and_its_next_response() {
    let site = site();
    let server = server("journal.py", &site, &["--access-log", "json"]);
    warm(&server, &["/static/large.txt", "/static/a.txt"]);
    let (before, large) = (looked_up(&server, "fast_path"), large());
    let mut slow = Connection::tcp_that_takes_little(server.port());
    let rows = 100;
    let mut all = get("/static/large.txt").repeat(rows);
    all += &request("GET", "/static/a.txt", THROUGH_HYPER);
    slow.send(all);
    for row in 0..rows {
        let response = slow.response();
        assert_eq!(response.status(), 200, "{row}");
        assert!(response.body == large.as_bytes(), "{row}");
    }
    assert_eq!(slow.response().text(), "text of a\n");
    assert_eq!(looked_up(&server, "fast_path") - before, rows as u64);
    server.stdout.wait_for_nth("\"bytes\":65536", rows + 2);
    assert_eq!(server.stdout.count("\"status\":499"), 0);
}

#[test]
fn a_client_that_disconnects_in_the_middle_is_logged_as_such() {
    let site = site();
    let server = server("journal.py", &site, &["--access-log", "json"]);
    warm(&server, &["/static/large.txt"]);
    let mut slow = Connection::tcp_that_takes_little(server.port());
    slow.send(get("/static/large.txt").repeat(300));
    slow.response();
    drop(slow);
    let line = server.stdout.wait_for("\"status\":499");
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["target"], "/static/large.txt");
    assert_eq!(line["handled_by"], "static");
    assert!(line["bytes"].as_u64().unwrap() < LARGE as u64, "{line}");
}

#[test]
fn a_response_on_its_way_is_finished_when_the_server_stops() {
    let site = site();
    let mut server = server("journal.py", &site, &[]);
    warm(&server, &["/static/large.txt"]);
    // On a connection that hyper knows, and on one of which it has seen nothing.
    let mut known = Connection::tcp_that_takes_little(server.port());
    known.exchange(request("GET", "/static/large.txt", THROUGH_HYPER));
    let mut unknown = Connection::tcp_that_takes_little(server.port());
    // More than is read at a time.
    let rows = 1000;
    for connection in [&mut known, &mut unknown] {
        connection.send(get("/static/large.txt").repeat(rows));
        assert_eq!(connection.response().body.len(), LARGE);
    }
    server.signal(Signal::TERM);
    server.stderr.wait_for("listeners closed");
    for mut connection in [known, unknown] {
        let (bytes, end) = connection.rest();
        assert_eq!(end, End::Closed);
        let text = String::from_utf8_lossy(&bytes);
        let heads = text.matches("HTTP/1.1 200 OK").count();
        assert!(heads < rows, "it stops in between");
        let bodies = text.matches(&large()).count();
        assert_eq!(bodies, heads, "and never inside a response");
    }
    assert_eq!(server.wait_exit(), 0);
}

#[test]
fn the_log_line_is_the_same_on_both_paths() {
    let site = site();
    for format in ["json", "combined"] {
        let server = server("journal.py", &site, &["--access-log", format]);
        warm(&server, &["/static/a.txt"]);
        let mut connection = server.connect();
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        for (method, lines) in [
            ("GET", ""),
            ("HEAD", ""),
            ("GET", "If-None-Match: *\r\n"),
            (
                "GET",
                "Authorization: Basic dXNlcjpwYXNz\r\nReferer: a\r\nReferer: b\r\n",
            ),
            (
                "GET",
                "User-Agent: \"x\u{e9}\r\nAuthorization: Bearer x\r\n",
            ),
            ("GET", "X-Forwarded-For: 192.0.2.1\r\n"),
        ] {
            let line = |way: &str, connection: &mut Connection| {
                let mark = format!("number={}.", COUNT.fetch_add(1, Ordering::Relaxed));
                let target = format!("/static/a.txt?{mark}");
                let response =
                    connection.exchange(request(method, &target, &format!("{lines}{way}")));
                let line = server.stdout.wait_for(&mark);
                if format == "json" {
                    let line: Value = serde_json::from_str(&line).unwrap();
                    assert_eq!(line["request_id"], response.header("X-Request-Id").unwrap());
                }
                masked(&line.replace(&mark, ""))
            };
            let fast = line("", &mut connection);
            let long = line(THROUGH_HYPER, &mut server.connect());
            assert_eq!(fast, long, "{format} {method} {lines:?}");
        }
    }
}

/// A line without the parts that differ between requests.
fn masked(line: &str) -> String {
    match serde_json::from_str::<Value>(line) {
        Ok(mut json) => {
            for name in ["time", "request_id", "duration_s"] {
                assert!(!json[name].is_null(), "{name} in {line}");
                json[name] = Value::Null;
            }
            json.to_string()
        }
        Err(_) => {
            let (before, behind) = line.split_once('[').expect("a time");
            format!("{before}{}", behind.split_once(']').expect("its end").1)
        }
    }
}

#[test]
fn a_trusted_proxy_names_the_client_and_the_request() {
    let site = site();
    let args = ["--access-log", "json", "--trust", "127.0.0.1"];
    let server = server("journal.py", &site, &args);
    warm(&server, &["/static/a.txt"]);
    let before = looked_up(&server, "fast_path");
    let lines = "X-Forwarded-For: 198.51.100.1, 192.0.2.7\r\nX-Request-ID: theirs-1\r\n";
    let response = server.exchange(&request("GET", "/static/a.txt", lines));
    assert_eq!(response.header("X-Request-Id").as_deref(), Some("theirs-1"));
    let line = server.stdout.wait_for("theirs-1");
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["remote_addr"], "192.0.2.7");
    assert_eq!(looked_up(&server, "fast_path"), before + 1);
}

#[test]
fn requests_on_the_fast_path_count_towards_an_address_s_rate() {
    let site = site();
    let args = ["--rate-limit", "4/h", "--rate-burst", "4"];
    let server = server("journal.py", &site, &args);
    let mut connection = server.connect();
    let statuses: Vec<u16> = (0..6)
        .map(|_| connection.exchange(get("/static/a.txt")).status())
        .collect();
    assert_eq!(statuses, [200, 200, 200, 200, 429, 429]);
    assert!(looked_up(&server, "fast_path") >= 2);
}

#[test]
fn a_file_that_was_replaced_or_deleted_is_seen() {
    let site = site();
    let server = Pyserve::app("journal.py")
        .args(["--static-check", "0", "--root"])
        .args([site.path()])
        .ready();
    let path = site.path().join("static/a.txt");
    let mut connection = server.connect();
    for text in ["one", "two", "three"] {
        std::fs::write(&path, text).unwrap();
        for _ in 0..3 {
            assert_eq!(connection.exchange(get("/static/a.txt")).text(), text);
        }
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(connection.exchange(get("/static/a.txt")).status(), 404);
}

#[test]
fn an_upgraded_connection_belongs_to_the_upstream_alone() {
    use crate::support::backend::Backend;
    let site = site();
    let plain = get("/static/a.txt");
    let length = plain.len();
    let backend = Backend::tcp(move |mut call| {
        call.http_head();
        call.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
        let echoed = call.exactly(length);
        call.send(echoed);
    });
    let server = Pyserve::new()
        .args([
            "--upstream",
            &format!("http://{}", backend.address()),
            "--root",
        ])
        .args([site.path()])
        .args(["--static-check", "1h"])
        .listening();
    warm(&server, &["/static/a.txt"]);
    let mut connection = server.connect();
    let head = connection.exchange(request(
        "GET",
        "/ws",
        "Connection: upgrade\r\nUpgrade: x\r\n",
    ));
    assert_eq!(head.status(), 101);
    connection.send(&plain);
    assert_eq!(connection.exactly(length), plain.as_bytes());
}
