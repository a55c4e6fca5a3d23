//! Clients of HTTP/2 split cookies into crumbs (RFC 9113 §8.2.3): they are one field again, joined
//! with `; `, for whatever answers. So are several lines of HTTP/1.1, as nginx joins them.

use crate::support::backend::{Backend, page};
use crate::support::http2::{Http2, Outcome, get_fields};
use crate::support::server::{Pyserve, Server, request};

/// The bodies of the responses to the same crumbs over HTTP/2 and HTTP/1.1.
fn answers(server: &Server, path: &str) -> [String; 2] {
    let crumbs = ["a=1", "b=\"2; c=3\"", "session=x"];
    let mut fields = get_fields(path).to_vec();
    for crumb in crumbs {
        fields.push(("cookie", crumb));
        // Not beside each other.
        fields.push(("x-between", "1"));
    }
    let mut client = Http2::new(server.connect());
    client.headers(1, &fields, true);
    let Outcome::Response(200, body) = client.outcome(1) else {
        panic!("no response");
    };
    let lines: String = crumbs
        .iter()
        .map(|crumb| format!("Cookie: {crumb}\r\nX-Between: 1\r\n"))
        .collect();
    let one = server.exchange(&request("GET", path, &lines)).text();
    [String::from_utf8(body).unwrap(), one]
}

const JOINED: &str = "a=1; b=\"2; c=3\"; session=x";

#[test]
fn a_server_of_http_gets_one_cookie_field() {
    let backend = Backend::tcp(|mut call| {
        while let Some(head) = call.http_head() {
            let cookies: Vec<_> = head
                .lines()
                .filter(|line| line.to_lowercase().starts_with("cookie:"))
                .collect();
            call.send(page(&cookies.join("|")));
        }
    });
    let url = format!("http://{}", backend.address());
    let server = Pyserve::new().args(["--upstream", &url]).ready();
    for said in answers(&server, "/") {
        assert_eq!(said, format!("Cookie: {JOINED}"));
    }
}

#[test]
fn a_server_of_uwsgi_gets_one_variable() {
    let backend = Backend::unix(|mut call| {
        let packet = call.packet();
        call.send(page(&packet.vars["HTTP_COOKIE"]));
    });
    let server = Pyserve::new().args(["--uwsgi", backend.address()]).ready();
    for said in answers(&server, "/") {
        assert_eq!(said, JOINED);
    }
}

#[test]
fn an_application_gets_one_variable() {
    let server = Pyserve::app("mirror.py").ready();
    for said in answers(&server, "/") {
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["environ"]["HTTP_COOKIE"], JOINED);
    }
}

#[test]
fn crumbs_are_not_counted_as_fields() {
    let server = Pyserve::app("mirror.py").ready();
    let mut fields = get_fields("/").to_vec();
    fields.extend((0..300).map(|_| ("cookie", "a=1")));
    let mut client = Http2::new(server.connect());
    client.headers(1, &fields, true);
    assert!(matches!(client.outcome(1), Outcome::Response(200, _)));
}
