//! `--uwsgi`: a server behind pyserve that speaks the uwsgi protocol, first one that does
//! exactly what a test says, then the real ones.

use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};

use crate::support::backend::{Backend, Call, Packet, page};
use crate::support::raw::Response;
use crate::support::server::{Pyserve, Server, get, post};
use crate::support::{temp_dir, write_files};

/// pyserve before these servers.
fn before(addresses: &[&str]) -> Pyserve {
    let mut pyserve = Pyserve::new().without("PYSERVE_PYTHON");
    for address in addresses {
        pyserve = pyserve.args(["--uwsgi", address]);
    }
    pyserve
}

fn in_front_of(backend: &Backend) -> Server {
    before(&[backend.address()]).ready()
}

/// What the server behind gets for this request.
fn received(request: &str) -> Packet {
    let (tell, told) = channel::<Packet>();
    let tell = Mutex::new(tell);
    let backend = Backend::unix(move |mut call| {
        let packet = call.packet();
        call.body(&packet);
        call.send(page(""));
        tell.lock().unwrap().send(packet).unwrap();
    });
    let server = in_front_of(&backend);
    // The connection with which pyserve looks whether the server is there brings none.
    assert_eq!(server.exchange(request).status(), 200);
    told.recv_timeout(crate::support::DEADLINE).unwrap()
}

fn answered(answer: impl Into<Vec<u8>>) -> Response {
    let backend = Backend::saying(answer);
    in_front_of(&backend).get("/")
}

#[test]
fn the_packet_has_nginx_s_variables_and_a_true_header() {
    let packet = received(
        "GET /caf%C3%A9%2Fa?q=%20 HTTP/1.1\r\nHost: example.org:81\r\nX-One: 1\r\nX-One: 2\r\n\
         Cookie: a=1\r\nCookie: b=2\r\n\r\n",
    );
    assert_eq!((packet.modifier1, packet.modifier2), (0, 0));
    assert_eq!(packet.count, packet.vars.len(), "no name comes twice");
    let told: usize = packet
        .vars
        .iter()
        .map(|(n, v)| 4 + n.len() + v.chars().count())
        .sum();
    assert_eq!(packet.size, told, "the header counts the variables alone");
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
         X.Y: dot\r\n\r\n",
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
                ]
                .contains(&&***name)
        })
        .collect();
    assert_eq!(foreign, Vec::<&String>::new());
    assert_eq!(packet.vars["HTTP_UWSGI_POSTFILE"], "/etc/passwd");
    assert_eq!(packet.vars["REQUEST_SCHEME"], "http");
}

#[test]
fn the_host_of_an_absolute_target_wins() {
    let packet = received("GET http://a.example/x HTTP/1.1\r\nHost: b.example\r\n\r\n");
    assert_eq!(packet.vars["HTTP_HOST"], "a.example");
    assert_eq!(packet.vars["REQUEST_URI"], "/x");
}

#[test]
fn settings_add_variables_and_choose_modifiers() {
    let (tell, told) = channel::<Packet>();
    let tell = Mutex::new(tell);
    let backend = Backend::tcp(move |mut call| {
        let packet = call.packet();
        call.send(page(""));
        tell.lock().unwrap().send(packet).unwrap();
    });
    let server = before(&[backend.address()])
        .args(["--uwsgi-param", "SCRIPT_NAME=/shop"])
        .args(["--uwsgi-param", "HTTP_HOST=fixed"])
        .args(["--uwsgi-modifier1", "30", "--uwsgi-modifier2", "7"])
        .ready();
    assert_eq!(server.get("/").status(), 200);
    let packet = told.recv_timeout(crate::support::DEADLINE).unwrap();
    assert_eq!((packet.modifier1, packet.modifier2), (30, 7));
    assert_eq!(packet.vars["SCRIPT_NAME"], "/shop");
    assert_eq!(packet.vars["HTTP_HOST"], "fixed");
    assert_eq!(packet.count, packet.vars.len());
}

/// What the server behind gets as body, and as its length.
fn received_body(request: &[u8]) -> (Vec<u8>, String) {
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let backend = Backend::unix(move |mut call| {
        let packet = call.packet();
        let body = call.body(&packet);
        call.send(page(""));
        let length = packet.vars["CONTENT_LENGTH"].clone();
        assert!(!packet.vars.contains_key("HTTP_TRANSFER_ENCODING"));
        tell.lock().unwrap().send((body, length)).unwrap();
        assert_eq!(call.rest(), 0, "nothing behind the body");
    });
    let server = in_front_of(&backend);
    assert_eq!(server.connect().exchange(request).status(), 200);
    told.recv_timeout(crate::support::DEADLINE).unwrap()
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
fn answers_of_http_and_of_cgi_are_understood_however_they_are_split() {
    let answers = [
        (
            "HTTP/1.1 201 Created\r\nX-A: 1\r\nContent-Length: 2\r\n\r\nok",
            201,
        ),
        ("Status: 404 Not Found\r\nX-A: 1\r\n\r\nok", 404),
        ("X-A: 1\n\nok", 200),
        ("Location: /there\r\nX-A: 1\r\n\r\nok", 302),
        ("HTTP/1.0 203 Odd Words\r\nX-A: 1\r\n\r\nok", 203),
        (
            "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nX-A: 1\r\n\r\nok",
            200,
        ),
    ];
    for (answer, status) in answers {
        let pieces = Backend::unix(move |mut call| {
            let packet = call.packet();
            let target = &packet.vars["PATH_INFO"];
            let at: usize = target[1..].parse().unwrap();
            // Two writes; every byte by itself where the cut is beyond the end.
            if at < answer.len() {
                call.send(&answer[..at]);
                call.send(&answer[at..]);
            } else {
                answer.as_bytes().chunks(1).all(|byte| call.send(byte));
            }
        });
        let server = in_front_of(&pieces);
        for cut in 1..=answer.len() {
            let response = server.get(&format!("/{cut}"));
            assert_eq!(response.status(), status, "{answer:?} cut at {cut}");
            assert_eq!(response.text(), "ok", "{answer:?} cut at {cut}");
            assert_eq!(response.header("X-A").as_deref(), Some("1"));
            assert_eq!(response.broken, None);
        }
    }
}

#[test]
fn a_response_cut_short_breaks_the_client_s_connection_too() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloworld",
    ] {
        let backend = Backend::saying(answer);
        let server = in_front_of(&backend);
        let mut client = server.connect();
        client.send(get("/"));
        // Nothing at all where the head had not left yet; never a response that looks whole.
        if let Ok(head) = client.try_head() {
            let (bytes, end) = client.rest();
            let text = String::from_utf8_lossy(&bytes);
            assert!(
                !text.ends_with("0\r\n\r\n"),
                "{answer:?}: {head:?} {text:?} {end:?}"
            );
            assert!(text.len() < 10 || head.header("Content-Length").is_none());
        }
        server.stderr.wait_for("a response broke off");
    }
    let too_long = answered("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhalf and more");
    assert_eq!((too_long.text().as_str(), too_long.broken), ("half", None));
}

#[test]
fn a_chunked_answer_is_decoded() {
    let response = answered(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nT: x\r\n\r\n",
    );
    assert_eq!((response.text().as_str(), response.broken), ("hello", None));
    assert_eq!(response.header("T"), None);
}

#[test]
fn head_204_and_304_have_no_body_whatever_their_length_says() {
    let backend = Backend::unix(|mut call| {
        let packet = call.packet();
        let status = &packet.vars["PATH_INFO"][1..];
        call.send(format!(
            "HTTP/1.1 {status} X\r\nContent-Length: 5\r\nX-A: 1\r\n\r\n"
        ));
        // Does not close before the test is over.
        call.rest();
    });
    let server = in_front_of(&backend);
    let mut connection = server.connect();
    for request in [
        "HEAD /200 HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /204 HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /304 HTTP/1.1\r\nHost: h\r\n\r\n",
        "HEAD /404 HTTP/1.1\r\nHost: h\r\n\r\n",
    ] {
        let response = connection.exchange(request);
        assert_eq!(response.header("X-A").as_deref(), Some("1"), "{request}");
        assert_eq!(response.text(), "");
    }
}

#[test]
fn long_heads_are_taken_and_longer_ones_are_not() {
    let head = |length: usize| {
        let value = "v".repeat(length);
        format!("HTTP/1.1 200 OK\r\nSet-Cookie: {value}\r\nContent-Length: 0\r\n\r\n")
    };
    let response = answered(head(64 << 10));
    assert_eq!(response.header("Set-Cookie").unwrap().len(), 64 << 10);
    let backend = Backend::saying(head(200 << 10));
    let server = in_front_of(&backend);
    assert_eq!(server.get("/").status(), 502);
    server
        .stderr
        .wait_for("its head has more than 131072 bytes");
}

#[test]
fn what_is_for_the_next_hop_alone_does_not_reach_the_client() {
    let response = answered(
        "HTTP/1.1 200 OK\r\nConnection: X-Own, keep-alive\r\nX-Own: 1\r\nKeep-Alive: 5\r\n\
         Proxy-Authenticate: x\r\nTE: x\r\nTrailer: x\r\nUpgrade: h2c\r\nX-Accel-Expires: 5\r\n\
         X-Accel-Limit-Rate: 5\r\nX-Accel-Charset: utf-8\r\nContent-Length: 0\r\nX-Kept: 1\r\n\r\n",
    );
    let names: Vec<_> = response
        .fields()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    for name in [
        "X-Own",
        "Keep-Alive",
        "Proxy-Authenticate",
        "TE",
        "Trailer",
        "Upgrade",
    ] {
        assert!(
            !names.iter().any(|other| other.eq_ignore_ascii_case(name)),
            "{name}"
        );
    }
    assert!(
        !names
            .iter()
            .any(|name| name.to_lowercase().starts_with("x-accel"))
    );
    assert!(names.iter().any(|name| name == "X-Kept"));
}

#[test]
fn garbage_is_a_502_and_never_a_page() {
    for (answer, why) in [
        ("<html>no head at all</html>", "it ends inside its head"),
        ("<html>\r\n\r\n", "neither a status line nor a header field"),
        ("HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n", "X cannot be sent on"),
        ("HTTP/1.1 abc\r\n\r\n", "is no status"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            "Content-Length",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nab",
            "Transfer-Encoding",
        ),
        ("HTTP/1.1 101 Switching\r\n\r\n", "switches protocols"),
    ] {
        let backend = Backend::saying(answer);
        let server = in_front_of(&backend);
        assert_eq!(server.get("/").status(), 502, "{answer:?}");
        server.stderr.wait_for(why);
    }
}

#[test]
fn an_answer_before_the_end_of_the_body_arrives() {
    // 8 MiB do not fit into the buffers of a socket: the server closes on an unread body.
    let body = "x".repeat(8 << 20);
    let backend = Backend::unix(|mut call| {
        call.packet();
        call.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
    });
    let response = in_front_of(&backend).exchange(&post("/", &body));
    assert_eq!((response.status(), response.text().as_str()), (403, "no"));
    // And one that answers while it goes on reading.
    let backend = Backend::unix(|mut call| {
        let packet = call.packet();
        call.send("HTTP/1.1 200 OK\r\n\r\nfirst ");
        let read = call.body(&packet).len();
        call.send(format!("then {read}"));
    });
    let response = in_front_of(&backend).exchange(&post("/", &body));
    assert_eq!(response.text(), format!("first then {}", 8 << 20));
}

#[test]
fn a_slow_client_does_not_hold_the_server_behind() {
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let backend = Backend::unix(move |mut call| {
        call.packet();
        let length = 8 << 20;
        call.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"
        ));
        assert!(call.send("x".repeat(length)));
        tell.lock().unwrap().send(()).unwrap();
    });
    let server = in_front_of(&backend);
    let mut client = server.connect();
    client.send(get("/"));
    // It is through although the client has not read a byte.
    told.recv_timeout(crate::support::DEADLINE).unwrap();
    let response = client.response();
    assert_eq!((response.body.len(), response.broken), (8 << 20, None));
}

#[test]
fn a_client_that_leaves_breaks_the_exchange_off() {
    let (tell, told): (Sender<usize>, _) = channel();
    let tell = Mutex::new(tell);
    let backend = Backend::unix(move |mut call| {
        call.packet();
        // Nothing comes any more: this returns when the other side has gone.
        tell.lock().unwrap().send(0).unwrap();
        let rest = call.rest();
        tell.lock().unwrap().send(rest).unwrap();
    });
    let server = in_front_of(&backend);
    let mut client = server.connect();
    client.send(get("/"));
    told.recv_timeout(crate::support::DEADLINE).unwrap();
    drop(client);
    told.recv_timeout(crate::support::DEADLINE).unwrap();
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
fn a_close_without_an_answer_is_a_502_that_names_the_buffer_size() {
    let backend = Backend::unix(|mut call| {
        // As uWSGI does: the header is enough to see that it is too much.
        call.exactly(4);
    });
    let server = in_front_of(&backend);
    let cookie = "c".repeat(5_000);
    let request = format!("GET /big HTTP/1.1\r\nHost: h\r\nCookie: {cookie}\r\n\r\n");
    assert_eq!(server.exchange(&request).status(), 502);
    server
        .stderr
        .wait_for("its buffer-size is probably smaller");
    assert_eq!(server.get("/small").status(), 502);
    server.stderr.wait_for("its worker died or was killed");
}

#[test]
fn waiting_for_a_server_ends_in_504() {
    let silent = Backend::unix(|mut call| {
        call.rest();
    });
    let server = before(&[silent.address()])
        .args(["--upstream-read-timeout", "200ms"])
        .ready();
    assert_eq!(server.get("/").status(), 504);
    server
        .stderr
        .wait_for("did not answer within 0.2 s (--upstream-read-timeout)");

    // It takes the packet and not the body, which is longer than all buffers.
    let (hold, held) = channel::<()>();
    let held = Mutex::new(held);
    let deaf = Backend::unix(move |mut call| {
        call.packet();
        let _ = held.lock().unwrap().recv();
    });
    let server = before(&[deaf.address()])
        .args(["--upstream-send-timeout", "200ms"])
        .ready();
    assert_eq!(
        server.exchange(&post("/", &"x".repeat(8 << 20))).status(),
        504
    );
    server.stderr.wait_for("(--upstream-send-timeout)");
    drop(hold);
}

#[test]
fn a_response_that_stops_in_the_middle_is_broken_off() {
    let backend = Backend::unix(|mut call: Call| {
        call.packet();
        call.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
        call.rest();
    });
    let server = before(&[backend.address()])
        .args(["--upstream-read-timeout", "200ms"])
        .ready();
    let response = server.get("/");
    assert_eq!(response.text(), "half");
    assert!(response.broken.is_some());
    server.stderr.wait_for("a response broke off");
}

#[test]
fn servers_that_are_not_there_are_told_apart() {
    let dir = temp_dir();
    write_files(dir.path(), &[("file", "")]);
    let missing = format!("unix:{}", dir.path().join("missing").display());
    let stale = dir.path().join("stale");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    let stale = format!("unix:{}", stale.display());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap().to_string();
    drop(port);
    for (address, why) in [
        (&missing, "there is no such socket"),
        (&stale, "left over from a server that has ended"),
        (&address, "nobody listens there"),
    ] {
        let server = before(&[address])
            .args(["--upstream-connect-timeout", "50ms"])
            .ready();
        server.stderr.wait_for("waiting for a server");
        assert_eq!(server.get("/").status(), 502, "{address}");
        let line = server.stderr.wait_for("request not served");
        assert!(line.contains(why), "{line}");
    }
}

#[test]
fn a_server_that_speaks_http_is_recognised() {
    let closing = Backend::tcp(|mut call| {
        // uWSGI's http-socket understands nothing and closes; others say 400.
        if call.exactly(1)[0] == b'O' {
            call.send("HTTP/1.0 400 Bad Request\r\n\r\n");
        }
    });
    let saying = Backend::tcp(|mut call| {
        call.exactly(1);
        call.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    });
    for backend in [closing, saying] {
        let server = in_front_of(&backend);
        assert_eq!(server.get("/").status(), 502);
        server.stderr.wait_for("speaks HTTP, not uwsgi");
    }
    // An application's own 400 stays one.
    let backend = Backend::unix(|mut call| {
        if call.exactly(1)[0] == 0 {
            call.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 3\r\n\r\nown");
        }
    });
    let response = in_front_of(&backend).get("/");
    assert_eq!((response.status(), response.text().as_str()), (400, "own"));
}

#[test]
fn requests_wait_for_a_server_that_comes_up_later() {
    let dir = temp_dir();
    let path = dir.path().join("late.sock");
    let server = before(&[&format!("unix:{}", path.display())]).ready();
    server.stderr.wait_for("waiting for a server");
    let mut client = server.connect();
    client.send(get("/"));
    let _backend = Backend::at(&path, |mut call| {
        call.packet();
        call.send(page("late"));
    });
    assert_eq!(client.response().text(), "late");
    server.stderr.wait_for("the server is there");
}

#[test]
fn a_server_that_is_gone_costs_no_request() {
    let here = Backend::saying(page("here"));
    let dir = temp_dir();
    let gone = format!("unix:{}", dir.path().join("gone").display());
    let server = before(&[&gone, here.address()]).ready();
    for _ in 0..20 {
        assert_eq!(server.get("/").text(), "here");
    }
    server.stderr.wait_for("leaving it alone");
    assert_eq!(here.calls(), 20);
}

#[test]
fn requests_go_to_the_server_with_the_fewest() {
    let (hold, held) = channel::<()>();
    let held = Mutex::new(held);
    let busy = Backend::unix(move |mut call| {
        call.packet();
        let _ = held.lock().unwrap().recv();
        call.send(page("busy"));
    });
    let free = Backend::saying(page("free"));
    let server = before(&[busy.address(), free.address()]).ready();
    let mut waiting = server.connect();
    // The first goes to the first; while it is held, all others go to the second.
    waiting.send(get("/"));
    while busy.calls() == 0 && free.calls() == 0 {
        std::thread::yield_now();
    }
    for _ in 0..8 {
        assert_eq!(server.get("/").text(), "free");
    }
    drop(hold);
    assert_eq!(waiting.response().text(), "busy");
    assert_eq!((busy.calls(), free.calls()), (1, 8));
}

#[test]
fn files_are_sent_for_the_application() {
    let dir = temp_dir();
    write_files(dir.path(), &[("files/report.txt", "0123456789")]);
    let answer = "HTTP/1.1 200 OK\r\nContent-Type: text/x-own\r\nX-Accel-Redirect: /protected/report.txt\r\n\
                  X-Accel-Buffering: no\r\nContent-Length: 0\r\n\r\n";
    let backend = Backend::saying(answer);
    let server = before(&[backend.address()])
        .args(["--internal", "/protected=files", "--chdir"])
        .args([dir.path()])
        .ready();
    let response = server.get("/");
    assert_eq!(response.text(), "0123456789");
    assert_eq!(
        response.header("Content-Type").as_deref(),
        Some("text/x-own")
    );
    let part = server.exchange("GET / HTTP/1.1\r\nHost: h\r\nRange: bytes=2-4\r\n\r\n");
    assert_eq!((part.status(), part.text().as_str()), (206, "234"));
    assert_eq!(
        server.get("/protected/report.txt").text(),
        "0123456789",
        "the application's own path"
    );
    // Without a place for such files, nothing is sent and nothing is given away.
    let server = in_front_of(&backend);
    let response = server.get("/");
    assert_eq!(
        (response.status(), response.header("X-Accel-Redirect")),
        (404, None)
    );
    server.stderr.wait_for("in no location of --internal");
}

#[test]
fn first_bytes_arrive_while_the_response_goes_on() {
    let (hold, held) = channel::<()>();
    let held = Mutex::new(held);
    let backend = Backend::unix(move |mut call| {
        call.packet();
        call.send("HTTP/1.1 200 OK\r\n\r\nfirst");
        let _ = held.lock().unwrap().recv();
        call.send("last");
    });
    let server = in_front_of(&backend);
    let mut client = server.connect();
    client.send(get("/"));
    assert_eq!(client.response_to_head().status(), 200);
    assert_eq!(client.chunk().unwrap(), b"first");
    drop(hold);
    assert_eq!(client.chunk().unwrap(), b"last");
    assert_eq!(client.chunk().unwrap(), b"");
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

#[test]
fn the_access_log_says_that_a_server_behind_answered() {
    let backend = Backend::saying(page("x"));
    let server = before(&[backend.address()])
        .args(["--access-log", "json"])
        .ready();
    server.get("/logged");
    let line = server.stdout.wait_for("/logged");
    assert!(line.contains("\"handled_by\":\"upstream\""), "{line}");
}

#[test]
fn a_full_listen_queue_is_waited_for() {
    // The queue holds one; nobody accepts until the second has been refused.
    let dir = temp_dir();
    let path = dir.path().join("full.sock");
    let listener = rustix::net::socket_with(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    let address = rustix::net::SocketAddrUnix::new(&path).unwrap();
    rustix::net::bind(&listener, &address).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let filling = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let server = before(&[&format!("unix:{}", path.display())]).ready();
    server.stderr.wait_for("its listen queue is full");
    let mut client = server.connect();
    client.send(get("/"));
    drop(filling);
    let listener = std::os::unix::net::UnixListener::from(listener);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            use std::io::{Read, Write};
            let mut stream = stream.unwrap();
            let mut some = [0; 4];
            if matches!(stream.read(&mut some), Ok(1..)) {
                stream.write_all(page("in").as_bytes()).unwrap();
                let _ = stream.read(&mut [0; 65_536]);
            }
        }
    });
    assert_eq!(client.response().text(), "in");
}
