//! NTLM and Negotiate authenticate connections (RFC 4559 §6): one that a client has authenticated
//! to a server behind pyserve answers that client alone, for as long as both live.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::backend::Backend;
use crate::support::curl;
use crate::support::raw::Connection;
use crate::support::server::{Pyserve, Server, get, request};

/// Authenticates connections in two steps, as NTLM does, and answers each request with the
/// number of its connection and the name of its user.
fn windows(scheme: &'static str) -> Backend {
    let count = Arc::<AtomicUsize>::default();
    Backend::tcp(move |mut call| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        let (mut challenged, mut user) = (None::<String>, None::<String>);
        while let Some(head) = call.http_head() {
            let said = head
                .lines()
                .find_map(|line| line.strip_prefix("Authorization: "));
            let token = said.map(|said| said.rsplit(' ').next().unwrap().to_owned());
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("Content-Length: "));
            call.exactly(length.map_or(0, |digits| digits.parse().unwrap()));
            let public = head.starts_with("GET /public");
            let (status, challenge) = match token {
                Some(token) if token.starts_with("one-") => {
                    challenged = Some(token["one-".len()..].to_owned());
                    ("401 No", format!("{scheme} two"))
                }
                Some(token) if token.starts_with("three-") => {
                    let name = token["three-".len()..].to_owned();
                    // The third message is of use on the connection of the first alone.
                    match challenged.as_ref() == Some(&name) {
                        true => {
                            user = Some(name);
                            ("200 OK", String::new())
                        }
                        false => ("403 Lost", String::new()),
                    }
                }
                _ if user.is_some() || public => ("200 OK", String::new()),
                _ => ("401 No", format!("Basic realm=\"x\", {scheme}")),
            };
            let line = match challenge.as_str() {
                "" => String::new(),
                challenge => format!("WWW-Authenticate: {challenge}\r\n"),
            };
            let is_bodiless = head.starts_with("HEAD ") && !head.starts_with("HEAD /stray");
            let page = format!("{number} {}", user.as_deref().unwrap_or("anonymous"));
            let length = page.len();
            let body = if is_bodiless { "" } else { &page };
            call.send(format!(
                "HTTP/1.1 {status}\r\n{line}Content-Length: {length}\r\n\r\n{body}"
            ));
        }
    })
}

fn in_front_of(backend: &Backend) -> Server {
    let url = format!("http://{}", backend.address());
    Pyserve::new().args(["--upstream", &url]).ready()
}

fn ask(client: &mut Connection, method: &str, authorization: &str) -> (u16, String) {
    let mut lines = match authorization {
        "" => String::new(),
        value => format!("Authorization: {value}\r\n"),
    };
    if method == "POST" {
        lines += "Content-Length: 0\r\n";
    }
    let response = client.exchange(request(method, "/", &lines));
    (response.status(), response.text())
}

/// Goes through the three messages.
fn log_in(client: &mut Connection, scheme: &str, name: &str) {
    assert_eq!(ask(client, "GET", "").0, 401);
    assert_eq!(ask(client, "GET", &format!("{scheme} one-{name}")).0, 401);
    let (status, page) = ask(client, "GET", &format!("{scheme} three-{name}"));
    assert_eq!(status, 200, "{page}");
}

#[test]
fn a_connection_that_a_client_has_authenticated_is_that_client_s_alone() {
    for (said, asked) in [("NTLM", "NTLM"), ("Negotiate", "negotiate")] {
        let backend = windows(said);
        let server = in_front_of(&backend);
        let (mut alice, mut bob, mut other) =
            (server.connect(), server.connect(), server.connect());
        log_in(&mut alice, asked, "alice");
        log_in(&mut bob, asked, "bob");
        let own = ask(&mut alice, "GET", "").1;
        for number in 0..10 {
            // Whatever the method: no other connection would be authenticated.
            let method = ["GET", "POST", "PUT"][number % 3];
            assert_eq!(ask(&mut alice, method, ""), (200, own.clone()));
            assert!(ask(&mut bob, method, "").1.ends_with(" bob"));
            let (status, page) = ask(&mut other, "GET", "");
            assert_eq!(
                (status, page.ends_with(" anonymous")),
                (401, true),
                "{page}"
            );
            let fresh = server.get("/");
            assert_eq!(
                (fresh.status(), fresh.text().ends_with(" anonymous")),
                (401, true)
            );
        }
        assert!(own.ends_with(" alice"));
    }
}

/// RFC 9110 §11.4 has a space behind the scheme; servers take a tab as well.
#[test]
fn white_space_behind_the_scheme_is_a_space_or_a_tab() {
    let backend = windows("NTLM");
    let server = in_front_of(&backend);
    for said in ["NTLM x", "NTLM\tx", "negotiate\t x", "NeGoTiAtE \tx"] {
        let mut client = server.connect();
        let lines = format!("Authorization: {said}\r\n");
        let own = client.exchange(request("GET", "/public", &lines)).text();
        assert_ne!(server.get("/public").text(), own, "{said:?}");
    }
}

#[test]
fn head_leaves_it_to_its_client() {
    for scheme in ["NTLM", "Negotiate"] {
        let backend = windows(scheme);
        let server = in_front_of(&backend);
        let mut alice = server.connect();
        log_in(&mut alice, scheme, "alice");
        let own = ask(&mut alice, "GET", "").1;
        for _ in 0..3 {
            assert_eq!(ask(&mut alice, "HEAD", ""), (200, String::new()));
            assert_eq!(ask(&mut alice, "POST", ""), (200, own.clone()));
        }
        // The handshake itself may be one of HEAD.
        let mut bob = server.connect();
        for (said, status) in [("", 401), ("one-bob", 401), ("three-bob", 200)] {
            let said = match said {
                "" => String::new(),
                token => format!("{scheme} {token}"),
            };
            assert_eq!(ask(&mut bob, "HEAD", &said), (status, String::new()));
        }
        assert!(ask(&mut bob, "GET", "").1.ends_with(" bob"));
    }
}

#[test]
fn a_body_that_a_server_sends_to_head_ends_it() {
    let backend = windows("NTLM");
    let server = in_front_of(&backend);
    let mut alice = server.connect();
    log_in(&mut alice, "NTLM", "alice");
    let head = alice.exchange(request("HEAD", "/stray", ""));
    assert_eq!(head.status(), 200);
    // The body is not the next answer.
    let (status, page) = ask(&mut alice, "GET", "");
    assert_eq!(
        (status, page.ends_with(" anonymous")),
        (401, true),
        "{page}"
    );
}

#[test]
fn it_ends_with_its_client() {
    let backend = windows("NTLM");
    let server = in_front_of(&backend);
    for number in 0..5 {
        let mut client = server.connect();
        log_in(&mut client, "NTLM", &format!("user{number}"));
        drop(client);
        let left = server.get("/");
        assert_eq!(left.status(), 401, "{}", left.text());
        assert!(left.text().ends_with(" anonymous"), "{}", left.text());
    }
}

#[test]
fn a_client_without_such_a_scheme_shares_connections_as_before() {
    let backend = windows("NTLM");
    let server = in_front_of(&backend);
    for _ in 0..5 {
        assert_eq!(server.get("/public").status(), 200);
        let basic = request("GET", "/public", "Authorization: Basic bnRsbTp4\r\n");
        assert_eq!(server.exchange(&basic).status(), 200);
    }
    assert_eq!(backend.calls(), 1);
}

#[test]
fn where_the_server_has_closed_it_the_client_begins_anew() {
    let backend = Backend::tcp(|mut call| {
        for _ in 0..2 {
            let Some(head) = call.http_head() else { return };
            let is_known = head.contains("NTLM");
            let status = if is_known { "200 OK" } else { "401 No" };
            call.send(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"));
        }
    });
    let server = in_front_of(&backend);
    let mut client = server.connect();
    for _ in 0..3 {
        assert_eq!(ask(&mut client, "GET", "NTLM one").0, 200);
        assert_eq!(ask(&mut client, "GET", "").0, 401);
    }
    assert_eq!(backend.calls(), 3);
}

#[test]
fn over_http_2_it_ends_behind_the_answer() {
    let backend = windows("NTLM");
    let server = in_front_of(&backend);
    let header = ["--header", "Authorization: NTLM one-alice"];
    let Some(got) = curl::http2(&server, "/", &header) else {
        return;
    };
    assert_eq!((got.code, got.response.status()), (0, 401));
    let first = got.response.text();
    let number = first.split(' ').next().unwrap();
    let mut client = server.connect();
    for _ in 0..3 {
        let page = client.exchange(get("/public")).text();
        assert_ne!(page.split(' ').next().unwrap(), number, "{page}");
    }
}
