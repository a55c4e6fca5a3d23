//! Request targets with bytes that RFC 3986 does not allow there, which clients in the field
//! send: accepted as nginx does, as if they had been percent-encoded.

use serde_json::Value;

use crate::support::backend::{Backend, page};
use crate::support::nginx::Nginx;
use crate::support::raw::Connection;
use crate::support::server::{Pyserve, Server, get};
use crate::support::{skipped, temp_dir, write_files};

/// A target with all of them, as bytes, and how it is written in URLs.
const RAW: &[u8] = b"/a\"<>`{}|\\^caf\xc3\xa9\xff?q={\"a\":1}|<\\>^`\xe9";
const ENCODED: &str =
    "/a%22%3C%3E%60%7B%7D%7C%5C%5Ecaf%C3%A9%FF?q=%7B%22a%22:1%7D%7C%3C%5C%3E%5E%60%E9";

fn asking(target: &[u8], version: &str) -> Vec<u8> {
    [
        b"GET ",
        target,
        b" HTTP/",
        version.as_bytes(),
        b"\r\nHost: h\r\n\r\n",
    ]
    .concat()
}

fn status(mut connection: Connection, target: &[u8]) -> u16 {
    connection.exchange(asking(target, "1.1")).status()
}

#[test]
fn an_application_sees_the_same_whether_the_client_has_encoded_or_not() {
    let server = Pyserve::app("environ.py")
        .args(["--access-log", "json"])
        .ready();
    let entries = |target: &[u8], version: &str| -> Value {
        let response = server.connect().exchange(asking(target, version));
        assert_eq!(response.status(), 200);
        response.json()["entries"].take()
    };
    let absolute = [b"http://h", RAW].concat();
    for (target, version) in [
        (RAW, "1.1"),
        (RAW, "1.0"),
        (&absolute, "1.1"),
        (ENCODED.as_bytes(), "1.1"),
    ] {
        let entries = entries(target, version);
        // PEP 3333: decoded, and bytes as latin-1.
        let path = "/a\"<>`{}|\\^caf\u{c3}\u{a9}\u{ff}";
        assert_eq!(entries["PATH_INFO"][1], path);
        // RFC 3875 §4.1.7: URL-encoded.
        let query = ENCODED.split_once('?').unwrap().1;
        assert_eq!(entries["QUERY_STRING"][1], query);
        assert_eq!(entries["REQUEST_URI"][1], ENCODED);
        assert_eq!(entries["RAW_URI"][1], ENCODED);
        let line = server
            .stdout
            .wait_for(entries["HTTP_X_REQUEST_ID"][1].as_str().unwrap());
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&line["method"], &line["target"]),
            (&"GET".into(), &ENCODED.into())
        );
    }
    // A fragment is none of the server's business (RFC 9110 §4.2.5); nginx cuts it.
    let cut = entries(b"/a?b#c\"", "1.1");
    assert_eq!(
        (&cut["PATH_INFO"][1], &cut["QUERY_STRING"][1]),
        (&"/a".into(), &"b".into())
    );
    let no_path = entries(b"http://h?q={", "1.1");
    assert_eq!(no_path["PATH_INFO"][1], "/");
    assert_eq!(no_path["REQUEST_URI"][1], "/?q=%7B");
}

#[test]
fn an_upstream_gets_a_target_that_every_server_understands() {
    let backend = Backend::tcp(|mut call| {
        while let Some(head) = call.http_head() {
            call.send(page(head.lines().next().unwrap()));
        }
    });
    let server = Pyserve::new()
        .without("PYSERVE_PYTHON")
        .args(["--upstream", &format!("http://{}", backend.address())])
        .ready();
    let response = server.connect().exchange(asking(RAW, "1.1"));
    assert_eq!(response.text(), format!("GET {ENCODED} HTTP/1.1"));
}

#[test]
fn files_and_locations_are_found_by_raw_bytes_as_by_encoded_ones() {
    let site = temp_dir();
    write_files(site.path(), &[("static/caf\u{e9} {1}.txt", "a file")]);
    let toml = "[[location]]\nprefix = \"/gar\u{e7}on{x}\"\nrespond = \"a location\"\n";
    std::fs::write(site.path().join("pyserve.toml"), toml).unwrap();
    let server = Pyserve::app("hello.py")
        .current_dir(site.path())
        .args(["--root"])
        .args([site.path()])
        .ready();
    for target in [
        "/static/caf\u{e9}%20{1}.txt",
        "/static/caf%C3%A9%20%7B1%7D.txt",
    ] {
        for _ in 0..2 {
            let response = server.connect().exchange(asking(target.as_bytes(), "1.1"));
            assert_eq!(response.text(), "a file", "{target}");
        }
    }
    for target in ["/gar\u{e7}on{x}/y", "/gar%C3%A7on%7Bx%7D"] {
        let response = server.connect().exchange(asking(target.as_bytes(), "1.1"));
        assert_eq!(response.text(), "a location", "{target}");
    }
    assert_eq!(status(server.connect(), b"/static/..\\secret"), 404);
}

/// Each byte in a path and in a query; `%`, which nginx decodes, and what ends the line apart.
fn statuses(connect: impl Fn() -> Connection) -> Vec<(u8, bool, bool)> {
    let bytes = (0..=255).filter(|byte| !b"%\n\r ".contains(byte));
    let is_served = |target: &[u8]| match status(connect(), target) {
        200 => true,
        400 => false,
        other => panic!("{other}"),
    };
    bytes
        .map(|byte| {
            let path = is_served(&[b'/', b'a', byte, b'b']);
            let query = is_served(&[b'/', b'?', b'a', byte, b'b']);
            (byte, path, query)
        })
        .collect()
}

#[test]
fn the_bytes_that_a_target_may_have_are_those_of_nginx() {
    let server: Server = Pyserve::app("hello.py").ready();
    let ours = statuses(|| server.connect());
    for (byte, path, query) in &ours {
        let is_control = byte.is_ascii_control();
        assert_eq!((*path, *query), (!is_control, !is_control), "{byte:#x}");
    }
    assert_eq!(server.exchange(&get("/a b")).status(), 400);
    match Nginx::start("", "location / { return 200 hello; }") {
        Ok(nginx) => assert_eq!(statuses(|| nginx.connect()), ours),
        Err(why) => skipped("the comparison with nginx", &why),
    }
}
