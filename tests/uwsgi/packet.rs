//! Requests as an upstream server receives them: the variables, the modifiers, the body.

use std::sync::Mutex;
use std::sync::mpsc::channel;

use super::{before, in_front_of};
use crate::support::backend::{Backend, Packet, page};
use crate::support::server::{Pyserve, post};

/// What the server behind gets for this request.
fn received(request: &str) -> Packet {
    let (sender, receiver) = channel::<Packet>();
    let sender = Mutex::new(sender);
    let backend = Backend::unix(move |mut call| {
        let packet = call.packet();
        call.body(&packet);
        call.send(page(""));
        sender.lock().unwrap().send(packet).unwrap();
    });
    let server = in_front_of(&backend);
    // The connection with which pyserve looks whether the server is there brings none.
    assert_eq!(server.exchange(request).status(), 200);
    receiver.recv_timeout(crate::support::DEADLINE).unwrap()
}

#[test]
fn the_packet_has_nginx_s_variables_and_a_true_header() {
    let packet = received(
        "GET /caf%C3%A9%2Fa?q=%20 HTTP/1.1\r\nHost: example.org:81\r\nX-One: 1\r\nX-One: 2\r\n\
         Cookie: a=1\r\nCookie: b=2\r\n\r\n",
    );
    assert_eq!((packet.modifier1, packet.modifier2), (0, 0));
    assert_eq!(packet.count, packet.vars.len(), "no name comes twice");
    let declared: usize = packet
        .vars
        .iter()
        .map(|(n, v)| 4 + n.len() + v.chars().count())
        .sum();
    assert_eq!(
        packet.size, declared,
        "the header counts the variables alone"
    );
    for (name, value) in [
        ("QUERY_STRING", "q=%20"),
        ("REQUEST_METHOD", "GET"),
        ("CONTENT_TYPE", ""),
        ("CONTENT_LENGTH", ""),
        ("REQUEST_URI", "/caf%C3%A9%2Fa?q=%20"),
        ("PATH_INFO", "/caf\u{c3}\u{a9}/a"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("REQUEST_SCHEME", "http"),
        ("REMOTE_ADDR", "127.0.0.1"),
        ("SERVER_NAME", "example.org"),
        ("HTTP_HOST", "example.org:81"),
        ("HTTP_X_ONE", "1,2"),
        ("HTTP_COOKIE", "a=1; b=2"),
    ] {
        assert_eq!(
            packet.vars.get(name).map(String::as_str),
            Some(value),
            "{name}"
        );
    }
    for name in ["DOCUMENT_ROOT", "REMOTE_PORT", "SERVER_PORT"] {
        assert!(!packet.vars[name].is_empty(), "{name}");
    }
    for name in [
        "SCRIPT_NAME",
        "HTTPS",
        "HTTP_CONTENT_TYPE",
        "HTTP_CONTENT_LENGTH",
    ] {
        assert!(!packet.vars.contains_key(name), "{name}");
    }
}

#[test]
fn a_client_cannot_make_up_variables_or_a_scheme() {
    let packet = received(
        "GET / HTTP/1.1\r\nHost: h\r\nUWSGI_FILE: /x\r\nUWSGI-POSTFILE: /etc/passwd\r\n\
         X_Forwarded_Proto: https\r\nX-Forwarded-Proto: https\r\nX-Forwarded-SSL: on\r\n\
         X-Forwarded-For: 1.2.3.4\r\nProxy: http://evil\r\nModifier1: 22\r\nREMOTE_USER: root\r\n\
         X.Y: dot\r\nScript-Name: /evil\r\nRemote-Addr: 6.6.6.6\r\nHTTPS: on\r\n\
         Http-Host: evil\r\n\r\n",
    );
    assert_eq!((packet.modifier1, packet.modifier2), (0, 0));
    let foreign: Vec<_> = packet
        .vars
        .keys()
        .filter(|name| {
            name.starts_with("UWSGI")
                || name.starts_with("HTTP_X_FORWARDED")
                || [
                    "HTTP_UWSGI_FILE",
                    "HTTP_PROXY",
                    "REMOTE_USER",
                    "HTTP_REMOTE_USER",
                    "HTTPS",
                    "HTTP_X.Y",
                    "SCRIPT_NAME",
                ]
                .contains(&&***name)
        })
        .collect();
    assert_eq!(foreign, Vec::<&String>::new());
    assert_eq!(packet.vars["HTTP_UWSGI_POSTFILE"], "/etc/passwd");
    assert_eq!(packet.vars["REQUEST_SCHEME"], "http");
    assert_eq!(packet.vars["REMOTE_ADDR"], "127.0.0.1");
    assert_eq!(packet.vars["HTTP_HOST"], "h");
    assert_eq!(packet.vars["HTTP_SCRIPT_NAME"], "/evil");
    assert_eq!(packet.count, packet.vars.len(), "no name comes twice");
}

#[test]
fn a_trusted_proxy_makes_it_https_whatever_else_is_said() {
    let (sender, receiver) = channel::<Packet>();
    let sender = Mutex::new(sender);
    let backend = Backend::unix(move |mut call| {
        let packet = call.packet();
        call.send(page(""));
        sender.lock().unwrap().send(packet).unwrap();
    });
    let server = before(&[backend.address()])
        .args(["--trust", "127.0.0.1"])
        .ready();
    server.exchange(
        "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n\
         X-Forwarded-SSL: off\r\n\r\n",
    );
    let packet = receiver.recv_timeout(crate::support::DEADLINE).unwrap();
    for (name, value) in [
        ("REQUEST_SCHEME", "https"),
        ("HTTPS", "on"),
        ("REMOTE_ADDR", "1.2.3.4"),
        // uWSGI reads these two.
        ("HTTP_X_FORWARDED_PROTO", "https"),
        ("HTTP_X_FORWARDED_SSL", "on"),
    ] {
        let said = packet.vars.get(name).map(String::as_str);
        assert_eq!(said, Some(value), "{name}");
    }
}

#[test]
fn the_host_of_an_absolute_target_wins() {
    let packet = received("GET http://a.example/x HTTP/1.1\r\nHost: b.example\r\n\r\n");
    assert_eq!(packet.vars["HTTP_HOST"], "a.example");
    assert_eq!(packet.vars["REQUEST_URI"], "/x");
}

#[test]
fn settings_add_variables_and_choose_modifiers() {
    let (sender, receiver) = channel::<Packet>();
    let sender = Mutex::new(sender);
    let backend = Backend::tcp(move |mut call| {
        let packet = call.packet();
        call.send(page(""));
        sender.lock().unwrap().send(packet).unwrap();
    });
    let server = before(&[backend.address()])
        .args(["--uwsgi-param", "SCRIPT_NAME=/shop"])
        .args(["--uwsgi-param", "HTTP_HOST=fixed"])
        .args(["--uwsgi-modifier1", "30", "--uwsgi-modifier2", "7"])
        .ready();
    assert_eq!(server.get("/").status(), 200);
    let packet = receiver.recv_timeout(crate::support::DEADLINE).unwrap();
    assert_eq!((packet.modifier1, packet.modifier2), (30, 7));
    assert_eq!(packet.vars["SCRIPT_NAME"], "/shop");
    assert_eq!(packet.vars["HTTP_HOST"], "fixed");
    assert_eq!(packet.count, packet.vars.len());
}

/// What the server behind gets as body, and as its length.
fn received_body(request: &[u8]) -> (Vec<u8>, String) {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let backend = Backend::unix(move |mut call| {
        let packet = call.packet();
        let body = call.body(&packet);
        call.send(page(""));
        let length = packet.vars["CONTENT_LENGTH"].clone();
        assert!(!packet.vars.contains_key("HTTP_TRANSFER_ENCODING"));
        sender.lock().unwrap().send((body, length)).unwrap();
        assert_eq!(call.rest(), 0, "nothing behind the body");
    });
    let server = in_front_of(&backend);
    assert_eq!(server.connect().exchange(request).status(), 200);
    receiver.recv_timeout(crate::support::DEADLINE).unwrap()
}

#[test]
fn bodies_follow_the_packet_with_their_true_length() {
    let small = post("/", "hello");
    assert_eq!(
        received_body(small.as_bytes()),
        (b"hello".to_vec(), "5".into())
    );
    let chunked = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    assert_eq!(
        received_body(chunked.as_bytes()),
        (b"abcde".to_vec(), "5".into())
    );
    // Longer than memory holds, so that it comes from a file, in several pieces.
    let long: Vec<u8> = (0..700_001u32).map(|n| (n / 3) as u8).collect();
    let mut request = format!(
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n",
        long.len()
    )
    .into_bytes();
    request.extend(&long);
    let (body, length) = received_body(&request);
    assert_eq!(length, "700001");
    assert!(body == long);
}

#[test]
fn a_body_is_complete_before_the_server_behind_hears_of_it() {
    // uWSGI gives up a body that pauses for four seconds.
    let backend = Backend::saying(page("here"));
    let server = in_front_of(&backend);
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.response_to_head().status(), 100, "it is read");
    client.send("he");
    assert_eq!(server.get("/").text(), "here");
    assert_eq!(backend.calls(), 1, "another client alone");
    client.send("llo");
    assert_eq!(client.response().text(), "here");
    assert_eq!(backend.calls(), 2);
}

#[test]
fn a_body_without_a_length_is_waited_for_also_where_others_are_not() {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let backend = Backend::unix(move |mut call| {
        let packet = call.packet();
        sender.lock().unwrap().send(String::new()).unwrap();
        let body = String::from_utf8(call.body(&packet)).unwrap();
        let text = format!("{} {body}", packet.vars["CONTENT_LENGTH"]);
        call.send(page(""));
        sender.lock().unwrap().send(text).unwrap();
    });
    let server = before(&[backend.address()])
        .args(["--request-buffering", "no"])
        .ready();
    let next = || receiver.recv_timeout(crate::support::DEADLINE).unwrap();
    // What has a length is passed on while it arrives.
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhe");
    assert_eq!(next(), "");
    client.send("llo");
    assert_eq!(next(), "5 hello");
    assert_eq!(client.response().status(), 200);
    // uwsgi has no way to say where the other ends: its length must be known first.
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n");
    assert_eq!(server.get("/").status(), 200);
    assert_eq!((next(), next()), (String::new(), " ".to_owned()));
    assert_eq!(backend.calls(), 2, "nothing of it yet");
    client.send("2\r\nlo\r\n0\r\n\r\n");
    assert_eq!((next(), next()), (String::new(), "5 hello".to_owned()));
    assert_eq!(client.response().status(), 200);
}

#[test]
fn a_request_too_large_for_the_protocol_is_refused_by_name() {
    let backend = Backend::saying(page("never"));
    let server = before(&[backend.address()])
        .args(["--uwsgi-param", &format!("OWN={}", "o".repeat(30_000))])
        .ready();
    let cookie = "c".repeat(40_000);
    let request = format!("GET / HTTP/1.1\r\nHost: h\r\nCookie: {cookie}\r\n\r\n");
    assert_eq!(server.exchange(&request).status(), 431);
    let line = server.stderr.wait_for("limit of the uwsgi protocol 65535");
    assert!(line.contains("HTTP_COOKIE with 40000 bytes"), "{line}");
    assert_eq!(backend.calls(), 0);
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    for (args, message) in [
        (
            &["--uwsgi", "unix:/tmp/x", "--app", "hello"][..],
            "give only one of app and uwsgi",
        ),
        (&["--uwsgi", "10.0.0.1:3031"], "--uwsgi-insecure"),
        (&["--uwsgi", "/tmp/x"], "give unix:/tmp/x"),
        (
            &["--uwsgi", "unix:/tmp/x", "--uwsgi", "unix:/tmp/x"],
            "twice",
        ),
        (&["--uwsgi-modifier1", "256"], "255"),
    ] {
        let ended = Pyserve::new().args(args).run();
        assert_eq!(ended.code, 78, "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(message), "{args:?}: {}", ended.stderr);
    }
}
