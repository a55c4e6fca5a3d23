//! PEP 3333, "environ Variables": the variables about request, server and peer.

use std::net::TcpListener;

use serde_json::Value;

use super::{SERVER, alone};
use crate::support::raw::{Connection, Response};
use crate::support::server::{Pyserve, get, post, request};
use crate::support::skipped;

fn entry(response: &Response, key: &str) -> String {
    let entry = response.json()["entries"][key].clone();
    assert_eq!(entry[0], "str", "{key}: {entry}");
    entry[1].as_str().expect("a string").to_owned()
}

fn absent(response: &Response, key: &str) -> bool {
    response.json()["entries"][key] == Value::Null
}

/// A request for the environ, with more header lines.
fn environ_of(lines: &str) -> Response {
    SERVER.exchange(&request("GET", "/environ", lines))
}

#[test]
fn path_info_is_the_decoded_path_as_latin_1_and_the_raw_form_is_kept() {
    for (target, path) in [
        ("/environ/caf%C3%A9", "/environ/caf\u{c3}\u{a9}"),
        ("/environ/%ff%FE", "/environ/\u{ff}\u{fe}"),
        ("/environ/a%2Fb", "/environ/a/b"),
        ("/environ/a;b=1+2", "/environ/a;b=1+2"),
        ("/environ//double", "/environ//double"),
        ("/environ/%25", "/environ/%"),
        ("/environ/%3F", "/environ/?"),
    ] {
        let response = SERVER.get(&format!("{target}?q=%20"));
        assert_eq!(entry(&response, "PATH_INFO"), path, "{target}");
        for raw in ["REQUEST_URI", "RAW_URI"] {
            assert_eq!(entry(&response, raw), format!("{target}?q=%20"));
        }
    }
}

#[test]
fn dot_segments_reach_the_app_as_sent_or_not_at_all() {
    for target in ["/environ/a/../b", "/environ/./b", "/environ/%2e%2e/b"] {
        let response = SERVER.get(target);
        if response.status() == 200 {
            let decoded = target.replace("%2e", ".");
            assert_eq!(entry(&response, "PATH_INFO"), decoded);
        } else {
            assert!(matches!(response.status(), 400 | 404), "{response:?}");
        }
    }
}

#[test]
fn the_app_is_mounted_at_the_root_whose_name_is_empty() {
    let response = SERVER.get("/environ/x");
    assert_eq!(entry(&response, "SCRIPT_NAME"), "");
    assert_eq!(entry(&response, "PATH_INFO"), "/environ/x");
}

#[test]
fn the_query_string_is_raw_and_always_there() {
    for (target, query) in [
        ("/environ", ""),
        ("/environ?", ""),
        ("/environ?a=%20&b=+&c", "a=%20&b=+&c"),
        ("/environ?a?b", "a?b"),
        ("/environ?%00%0a", "%00%0a"),
    ] {
        assert_eq!(entry(&SERVER.get(target), "QUERY_STRING"), query);
    }
}

#[test]
fn request_headers_arrive_joined_latin_1_and_unforged() {
    let mut request = b"POST /environ HTTP/1.1\r\nHost: localhost\r\n".to_vec();
    request.extend(b"X-Two: a\r\nCookie: c=1\r\nX-Two: b\r\nCookie: d=2\r\n");
    request.extend(b"X-Latin: caf\xe9\r\nX_Under: 1\r\nProxy: http://evil\r\nX-Empty:\r\n");
    request.extend(b"Content-Type: text/x; charset=a\r\nContent-Length: 0\r\n\r\n");
    let response = SERVER.connect().exchange(request);
    let two = entry(&response, "HTTP_X_TWO");
    assert_eq!(two.replace(", ", ","), "a,b");
    assert_eq!(entry(&response, "HTTP_COOKIE"), "c=1; d=2");
    assert_eq!(entry(&response, "HTTP_X_LATIN"), "caf\u{e9}");
    assert_eq!(entry(&response, "HTTP_X_EMPTY"), "");
    assert_eq!(entry(&response, "CONTENT_TYPE"), "text/x; charset=a");
    for key in [
        "HTTP_CONTENT_TYPE",
        "HTTP_CONTENT_LENGTH",
        "HTTP_X_UNDER",
        "HTTP_PROXY",
    ] {
        assert!(absent(&response, key), "{key}");
    }
}

#[test]
fn content_length_is_true_after_the_chunks_are_joined_and_empty_without_a_body() {
    let response = SERVER.get("/environ");
    let length = &response.json()["entries"]["CONTENT_LENGTH"];
    assert!(*length == Value::Null || length[1] == "", "{length}");

    let response = SERVER.exchange(
        "POST /read_input HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\n\r\n",
    );
    let json = response.json();
    assert_eq!(json["length"], "11");
    assert_eq!(json["terminated"], true);
    assert_eq!(json["coding"], Value::Null);
    assert_eq!(json["pieces"][0], "b'hello world'");
}

#[test]
fn environ_is_a_plain_dict_and_fresh() {
    let mut connection = SERVER.connect();
    for _ in 0..4 {
        let about = connection.exchange(get("/environ")).json();
        assert_eq!(about["type"], "builtins.dict");
        assert_eq!(about["seen_before"], false);
    }
}

#[test]
fn cgi_values_are_strings_and_name_the_server_and_protocol() {
    for (version, extra) in [("1.1", "Host: example.org:81\r\n"), ("1.0", "")] {
        let response = SERVER.exchange(&format!("GET /environ HTTP/{version}\r\n{extra}\r\n"));
        assert_eq!(
            entry(&response, "SERVER_PROTOCOL"),
            format!("HTTP/{version}")
        );
        assert_eq!(entry(&response, "REQUEST_METHOD"), "GET");
        assert!(!entry(&response, "SERVER_NAME").is_empty());
        let port: u16 = entry(&response, "SERVER_PORT")
            .parse()
            .expect("a number as text");
        assert!(port == SERVER.port() || port == 81, "{port}");
        let json = response.json();
        for (key, value) in json["entries"].as_object().unwrap() {
            if !key.starts_with("wsgi.") && *key == key.to_uppercase() {
                assert_eq!(value[0], "str", "{key}");
            }
        }
    }
}

#[test]
fn server_and_peer_are_named_on_a_unix_socket_too() {
    let builder = Pyserve::app("environ.py");
    let path = builder.path("http.sock");
    let server = builder
        .args(["--bind", &format!("unix:{}", path.display())])
        .ready();
    let mut connection = Connection::unix(&path);
    let response = connection.exchange(get("/"));
    assert!(!entry(&response, "SERVER_NAME").is_empty());
    assert!(!entry(&response, "SERVER_PORT").is_empty());
    assert_eq!(entry(&response, "REMOTE_ADDR"), "");
    drop(server);
}

#[test]
fn wsgi_keys_have_the_right_types() {
    let json = SERVER.get("/environ").json();
    let entries = &json["entries"];
    assert_eq!(
        entries["wsgi.version"],
        serde_json::json!(["tuple", "(1, 0)"])
    );
    assert_eq!(
        entries["wsgi.url_scheme"],
        serde_json::json!(["str", "http"])
    );
    assert_eq!(entries["wsgi.run_once"], serde_json::json!(["bool", false]));
}

#[test]
fn wsgi_errors_takes_every_kind_of_write_at_any_time_from_any_thread() {
    SERVER.get("/errors_stream?token=alpha");
    for line in [
        "written",
        "lines",
        "more lines",
        "printed",
        "partial line",
        "threaded",
    ] {
        SERVER.stderr.wait_for(&format!("{line} alpha"));
    }
    // The stream of an earlier request, used when that one is over.
    let server = alone("1");
    server.get("/errors_stream?token=beta");
    assert_eq!(server.get("/errors_stream?late&token=gamma").text(), "late");
    server.stderr.wait_for("late gamma");
}

#[test]
fn multithread_and_multiprocess_tell_the_configuration() {
    for (workers, threads) in [("1", "1"), ("1", "3"), ("2", "1"), ("2", "2")] {
        let server = Pyserve::app("environ.py")
            .args(["--workers", workers, "--threads", threads])
            .ready();
        let json = server.get("/").json();
        assert_eq!(
            json["entries"]["wsgi.multithread"][1],
            threads != "1",
            "{workers}x{threads}"
        );
        assert_eq!(
            json["entries"]["wsgi.multiprocess"][1],
            workers != "1",
            "{workers}x{threads}"
        );
    }
}

#[test]
fn two_requests_in_one_worker_share_nothing() {
    let server = alone("2");
    let mut connections = [server.connect(), server.connect()];
    for (connection, token) in connections.iter_mut().zip(["left", "right"]) {
        connection.send(post(
            &format!("/together?token={token}"),
            &format!("body of {token}"),
        ));
    }
    let held = ["left", "right"].map(|token| server.probe.held(&format!("inside {token}")));
    for held in held {
        held.release();
    }
    let [left, right] = connections.map(|mut connection| connection.response().json());
    assert_eq!(left["token"], "left");
    assert_eq!(left["input"], "body of left");
    assert_eq!(right["token"], "right");
    assert_eq!(right["input"], "body of right");
    assert_eq!(left["pid"], right["pid"]);
    for own in ["environ", "stream", "thread"] {
        assert_ne!(left[own], right[own], "{own}");
    }
}

#[test]
fn remote_addr_is_an_address_without_port_or_brackets() {
    let response = environ_of("");
    assert_eq!(entry(&response, "REMOTE_ADDR"), "127.0.0.1");
    entry(&response, "REMOTE_PORT")
        .parse::<u16>()
        .expect("a port");
}

#[test]
fn remote_addr_of_ipv6_has_no_brackets() {
    if TcpListener::bind("[::1]:0").is_err() {
        skipped("REMOTE_ADDR of IPv6", "there is no ::1");
        return;
    }
    let server = Pyserve::app("environ.py")
        .args(["--bind", "[::1]:0"])
        .ready();
    let line = server.stderr.wait_for("listening on ");
    let (_, address) = line.split_once("http://").expect("an address");
    let address = address.trim().parse().expect("an address with a port");
    let response = Connection::tcp_to(address).exchange(get("/"));
    assert_eq!(entry(&response, "REMOTE_ADDR"), "::1");
    assert_ne!(entry(&response, "SERVER_NAME"), "");
}

#[test]
fn the_first_thread_of_a_worker_is_the_main_thread_of_python() {
    let server = alone("1");
    assert_eq!(server.get("/environ").json()["main_thread"], true);
}
