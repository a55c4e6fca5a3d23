//! Access log and diagnostics: one request is one line, whatever the request says.

use serde_json::Value;

use crate::support::server::{Pyserve, Server};

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
    drop(connection);
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
    let mut unreadable = server.connect();
    unreadable.send("nonsense\r\n\r\n");
    assert_eq!(unreadable.response_to_head().status(), 400);
    let mut late = server.connect();
    late.send("GET ");
    late.rest();
    for part in ["it cannot be read", "did not arrive in time"] {
        let line: Value = serde_json::from_str(&server.stderr.wait_for(part)).unwrap();
        let peer = line["peer"].as_str().expect("a text");
        let peer: std::net::SocketAddr = peer.parse().expect("an address");
        assert!(peer.ip().is_loopback());
    }
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

#[test]
fn a_head_that_cannot_be_read_has_its_line_with_the_status_that_was_sent() {
    let server = Pyserve::app("every.py")
        .watched()
        .args(["--access-log", "json"])
        .ready();
    let long = |length: usize| "x".repeat(length);
    for (count, (head, status)) in [
        ("nonsense\r\n\r\n".to_owned(), 400),
        (
            "GET / HTTP/1.1\r\nHost: h\r\nA B: c\r\n\r\n".to_owned(),
            400,
        ),
        (
            format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", long(70_000)),
            414,
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}", long(300_000)),
            431,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = server.connect();
        // The connection may be closed before all of it is sent.
        let _refused = client.try_send(&head);
        assert_eq!(client.response_to_head().status(), status, "{count}");
        let line = server.stdout.wait_for_nth("\"method\":\"\"", count + 1);
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&line["status"], &line["target"]),
            (&status.into(), &"".into())
        );
        assert_eq!(line["remote_addr"], "127.0.0.1");
        let told = server.stderr.wait_for_nth("it cannot be read", count + 1);
        assert!(
            told.contains(line["request_id"].as_str().unwrap()),
            "{told}"
        );
    }
    // One behind a good request on the same connection.
    let mut client = server.connect();
    client.send("GET /lengths?as=one HTTP/1.1\r\nHost: h\r\n\r\nnonsense\r\n\r\n");
    assert_eq!(client.response().status(), 200);
    assert_eq!(client.response_to_head().status(), 400);
    server.stdout.wait_for_nth("\"method\":\"\"", 5);
    let page = server.admin("/-/metrics").text();
    for sample in [
        "pyserve_requests_total{location=\"/\",handler=\"front\",status=\"400\"} 3",
        "pyserve_requests_total{location=\"/\",handler=\"front\",status=\"414\"} 1",
        "pyserve_requests_total{location=\"/\",handler=\"front\",status=\"431\"} 1",
        "pyserve_rejections_total{reason=\"unreadable\"} 5",
    ] {
        assert!(page.contains(sample), "{sample}\n{page}");
    }
    let server = self::server("combined");
    server.exchange("nonsense\r\n\r\n");
    let line = server.stdout.wait_for("\"-\" 400 0");
    assert!(line.ends_with("\"-\" 400 0 \"-\" \"-\""), "{line}");
}
