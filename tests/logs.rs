//! Access log and diagnostics: one request is one line, whatever the request says.

use serde_json::Value;

use crate::support::http2::Http2;
use crate::support::raw::End;
use crate::support::server::{self, Pyserve, Server};
use crate::support::write_files;

fn server(format: &str) -> Server {
    Pyserve::app("every.py")
        .args(["--access-log", format])
        .ready()
}

fn json_line(server: &Server, part: &str) -> Value {
    let line = server.stdout.wait_for(part);
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}"))
}

#[test]
fn json_lines_tell_what_happened() {
    let server = server("json");
    let response = server.exchange(
        "GET /lengths?as=one HTTP/1.1\r\nHost: example.org\r\nUser-Agent: tester/1\r\n\
         Referer: http://example.org/\r\n\r\n",
    );
    let line = json_line(&server, "/lengths");
    assert_eq!(line["method"], "GET");
    assert_eq!(line["target"], "/lengths?as=one");
    assert_eq!(line["status"], 200);
    assert_eq!(line["bytes"], 10);
    assert_eq!(line["user_agent"], "tester/1");
    assert_eq!(line["referer"], "http://example.org/");
    assert_eq!(line["host"], "example.org");
    assert_eq!(line["remote_addr"], "127.0.0.1");
    assert_eq!(line["worker"], 0);
    assert_eq!(line["request_id"], response.header("X-Request-ID").unwrap());
    assert_eq!(line["protocol"], "HTTP/1.1");
    assert_eq!(line["handled_by"], "app");
}

#[test]
fn the_host_of_an_http2_request_is_logged() {
    let server = server("json");
    let mut client = Http2::new(server.connect());
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/lengths?as=one"),
        (":authority", "example.org:8080"),
    ];
    client.headers(1, &fields, true);
    assert_eq!(client.response_to(1, 10).0, 200);
    assert_eq!(json_line(&server, "/lengths")["host"], "example.org:8080");
}

#[test]
fn combined_lines_have_the_form_that_tools_read() {
    let server = server("combined");
    server.exchange(
        "GET /lengths HTTP/1.1\r\nHost: localhost\r\nUser-Agent: tester/1\r\n\
         Referer: http://example.org/\r\n\r\n",
    );
    let line = server.stdout.wait_for("/lengths");
    let (start, rest) = line.split_once('[').expect("a time");
    assert_eq!(start, "127.0.0.1 - - ");
    let (time, rest) = rest.split_once(']').expect("the end of the time");
    assert_eq!(time.len(), "10/Oct/2000:13:55:36 +0000".len(), "{time}");
    assert_eq!(
        rest,
        " \"GET /lengths HTTP/1.1\" 200 10 \"http://example.org/\" \"tester/1\""
    );
}

#[test]
fn a_forged_request_cannot_break_or_add_a_line() {
    for format in ["json", "combined"] {
        let server = server(format);
        let mut request =
            b"GET /hello?a\"b HTTP/1.1\r\nHost: localhost\r\nUser-Agent: x\" 200 \\".to_vec();
        request.extend(b"\t\xff\xc2\x9b31m\r\nReferer: \"}\r\n\r\n");
        let response = server.connect().exchange(request);
        // Whether or not the quotation mark is refused, the log has one line.
        let status = response.status();
        assert!(matches!(status, 200 | 400), "{response:?}");
        server.get("/hello?the-end");
        server.stdout.wait_for("the-end");
        let lines = server.stdout.so_far();
        assert!(lines.len() <= 2, "{lines:?}");
        for line in &lines {
            assert!(line.chars().all(|char| !char.is_control()), "{line:?}");
            if format == "json" {
                serde_json::from_str::<Value>(line).expect("JSON");
            }
        }
    }
}

#[test]
fn a_client_that_left_before_its_answer_is_logged_as_499() {
    let server = Pyserve::app("held.py")
        .args(["--access-log", "json"])
        .ready();
    let (connection, held) = server.hold("/left");
    connection.reset();
    let line = json_line(&server, "/left");
    assert_eq!(line["status"], 499);
    drop(held);
    assert_eq!(server.get("/").status(), 200, "the worker goes on");
}

#[test]
fn what_the_app_writes_to_wsgi_errors_carries_the_request_id() {
    let server = server("off");
    let response = server.get("/errors_stream?token=traced");
    let id = response.header("X-Request-ID").expect("an id");
    for text in ["written traced", "printed traced", "partial line traced"] {
        let line = server.stderr.wait_for(text);
        assert!(line.contains(&format!("request_id={id}")), "{line}");
    }
    assert_eq!(
        server.stdout.so_far(),
        Vec::<String>::new(),
        "the access log is off"
    );
}

#[test]
fn control_characters_of_the_app_and_its_clients_do_not_reach_the_terminal() {
    let server = server("off");
    server.get("/errors_stream?token=%1b[31mred%0dreturn");
    let line = server.stderr.wait_for("written ");
    assert!(!line.contains('\u{1b}'), "{line:?}");
    assert!(!line.contains('\r'), "{line:?}");
}

#[test]
fn diagnostics_in_json_are_one_object_a_line() {
    let server = Pyserve::app("every.py")
        .args(["--log-format", "json"])
        .listening();
    server.stderr.wait_for("ready in ");
    server.get("/raises?what=LookupError");
    server.stderr.wait_for("LookupError");
    for line in server.stderr.so_far() {
        let line: Value =
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}"));
        assert!(line["level"].is_string(), "{line}");
    }
}

#[test]
fn peers_are_addresses_in_json_and_not_the_debug_form_of_an_option() {
    let server = Pyserve::app("hello.py")
        .args(["--log-format", "json", "--log-level", "debug"])
        .args(["--header-timeout", "100ms", "--proxy-protocol", "127.0.0.2"])
        .listening();
    server.stderr.wait_for("ready in ");
    let mut late = server.connect();
    late.send("GET ");
    late.rest();
    let line = server.stderr.wait_for("did not arrive in time");
    let line: Value = serde_json::from_str(&line).unwrap();
    let peer = line["peer"].as_str().expect("a text");
    let peer: std::net::SocketAddr = peer.parse().expect("an address");
    assert!(peer.ip().is_loopback());
    for line in server.stderr.so_far() {
        assert!(!line.contains("Some("), "{line}");
    }
}

#[test]
fn tracebacks_are_in_the_log_and_on_the_page_only_in_development() {
    let server = server("off");
    let response = server.get("/raises");
    assert!(
        !response.text().contains("ZeroDivisionError"),
        "{response:?}"
    );
    server
        .stderr
        .wait_for("ZeroDivisionError: secret of the application");

    let server = Pyserve::app("every.py").args(["--dev"]).ready();
    let response = server.get("/raises");
    assert_eq!(response.status(), 500);
    assert!(
        response.text().contains("ZeroDivisionError"),
        "{response:?}"
    );
}

/// Malformed heads, each with its status, and the method and target of its line in the log.
fn malformed_heads() -> [(String, u16, &'static str, String); 10] {
    let long = |length: usize| "x".repeat(length);
    [
        (
            "nonsense\r\n\r\n".to_owned(),
            400,
            "",
            "nonsense".to_owned(),
        ),
        (
            "\x16\x03\x01\x02".to_owned(),
            400,
            "",
            "\u{16}\u{3}\u{1}\u{2}".into(),
        ),
        ("GET /old\r\n\r\n".to_owned(), 400, "GET", "/old".into()),
        (
            "PUT /a?b HTTP/1.1\r\nHost: h\r\nUser-Agent: c\r\nA B: c\r\n\r\n".to_owned(),
            400,
            "PUT",
            "/a?b".into(),
        ),
        (
            "HEAD /a\x1b[0m HTTP/1.1\r\nHost: h\r\nUser-Agent: c\r\n\r\n".to_owned(),
            400,
            "HEAD",
            "/a\u{1b}[0m".into(),
        ),
        (
            "POST /l HTTP/1.1\r\nHost: h\r\nUser-Agent: c\r\nContent-Length: x\r\n\r\n".to_owned(),
            400,
            "POST",
            "/l".into(),
        ),
        (
            format!(
                "GET /{} HTTP/1.1\r\nHost: h\r\nUser-Agent: c\r\n\r\n",
                long(70_000)
            ),
            414,
            "GET",
            format!("/{}...", long(2047)),
        ),
        (
            format!("GET /{}", long(300_000)),
            414,
            "GET",
            format!("/{}...", long(2047)),
        ),
        (
            format!(
                "GET /b HTTP/1.1\r\nHost: h\r\nUser-Agent: c\r\nX: {}",
                long(300_000)
            ),
            431,
            "GET",
            "/b".into(),
        ),
        (
            format!(
                "GET /f HTTP/1.1\r\nHost: h\r\nUser-Agent: c\r\n{}\r\n",
                "A: b\r\n".repeat(99)
            ),
            431,
            "GET",
            "/f".into(),
        ),
    ]
}

#[test]
fn a_malformed_head_has_a_page_and_a_line_with_method_and_target() {
    let server = Pyserve::app("every.py")
        .watched()
        .args(["--access-log", "json"])
        .ready();
    for (head, status, method, target) in malformed_heads() {
        let mut client = server.connect();
        // The connection may be closed before all of it is sent.
        let _refused = client.try_send(&head);
        let response = match method {
            "HEAD" => client.response_to_head(),
            _ => client.response(),
        };
        assert_eq!(response.status(), status, "{target}");
        assert_eq!(response.header("Connection").as_deref(), Some("close"));
        let kind = response.header("Content-Type");
        assert_eq!(kind.as_deref(), Some("text/html; charset=utf-8"));
        let id = response.header("X-Request-Id").unwrap();
        match method {
            "HEAD" => assert_eq!(client.rest(), (Vec::new(), End::Closed)),
            _ => assert!(response.text().contains(&id), "{response:?}"),
        }
        let line = server.stdout.wait_for(&id);
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["status"], status);
        assert_eq!(line["method"], method);
        assert_eq!(line["target"], target);
        assert_eq!(line["remote_addr"], "127.0.0.1");
        if head.contains("User-Agent") {
            assert_eq!(
                (&line["host"], &line["user_agent"]),
                (&"h".into(), &"c".into())
            );
        }
        server.stderr.wait_for(&id);
    }
    // One behind a good request on the same connection.
    let mut client = server.connect();
    client.send("GET /lengths?as=one HTTP/1.1\r\nHost: h\r\n\r\nnonsense\r\n\r\n");
    assert_eq!(client.response().status(), 200);
    assert_eq!(client.response().status(), 400);
    server.stdout.wait_for_nth("\"target\":\"nonsense\"", 2);
    let page = server.admin("/-/metrics").text();
    for sample in [
        "pyserve_requests_total{location=\"/\",handler=\"front\",status=\"400\"} 7",
        "pyserve_requests_total{location=\"/\",handler=\"front\",status=\"414\"} 2",
        "pyserve_requests_total{location=\"/\",handler=\"front\",status=\"431\"} 2",
        "pyserve_rejections_total{reason=\"bad_request\"} 7",
        "pyserve_rejections_total{reason=\"head_too_large\"} 4",
    ] {
        assert!(page.contains(sample), "{sample}\n{page}");
    }
}

/// The line of a request that waits when the start fails is written; nothing is dropped.
#[test]
fn a_request_that_waits_for_a_start_that_fails_has_its_line() {
    let builder = Pyserve::new();
    let dir = builder.path("site");
    let app = "import probe; probe.wait('import'); raise ValueError('no')";
    let probe = std::fs::read_to_string(crate::support::apps().join("probe.py")).unwrap();
    write_files(&dir, &[("app.py", app), ("probe.py", &probe)]);
    let mut server = builder
        .current_dir(&dir)
        .args(["--app", "app.py", "--access-log", "combined"])
        .listening();
    let import = server.probe.held("import");
    let mut client = server.connect();
    client.send(server::get("/early"));
    // It is in the queue when the one behind it has been answered.
    let control = server.probe.path("control");
    loop {
        let status = Pyserve::bare()
            .args(["status", "--json", "--control"])
            .args([&control])
            .run();
        if status.stdout.contains("\"waiting\": 1") || status.stdout.contains("\"waiting\":1") {
            break;
        }
    }
    import.release();
    assert_eq!(server.wait_exit(), 4);
    assert!(server.stdout.to_end().contains("/early"));
    assert!(!server.stderr.to_end().contains("dropped"));
}
