//! Clients of all kinds of connections during upgrades.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use rustls::HandshakeKind;

use super::*;
use crate::support::http2::{self, Http2};
use crate::support::load::Load;
use crate::support::tls;

/// A client that asks over and over, on connections that it keeps or on new ones. It fails at the first
/// response that is not 200.
struct Client {
    thread: JoinHandle<()>,
    count: Arc<AtomicUsize>,
}

fn client(
    stop: &Arc<AtomicBool>,
    keeps: bool,
    connect: impl Fn() -> Connection + Send + 'static,
    target: &'static str,
) -> Client {
    let (stop, count) = (Arc::clone(stop), Arc::<AtomicUsize>::default());
    let counted = Arc::clone(&count);
    let thread = std::thread::spawn(move || {
        let mut connection = connect();
        while !stop.load(Ordering::Relaxed) {
            let response = connection.exchange(get(target));
            assert_eq!(response.status(), 200);
            counted.fetch_add(1, Ordering::Relaxed);
            if !keeps || response.header("connection").as_deref() == Some("close") {
                connection = connect();
            }
        }
    });
    Client { thread, count }
}

#[test]
fn no_request_fails_over_any_kind_of_listener() {
    let site = Site::new();
    let unix = site.path("web.sock");
    let ledger = site.path("ledger.txt");
    let issued = tls::authority().issue(&["localhost"]);
    let app = std::fs::read_to_string(source("tests/apps/ledger.py")).unwrap();
    write_files(
        site.dir.path(),
        &[("ledger.py", &app), ("page.txt", "page")],
    );
    let builder = site.pyserve().watched();
    let admin = builder.path("admin");
    let bind = format!("127.0.0.1:0 https://127.0.0.1:0 unix:{}", unix.display());
    let mut server = builder
        .args([
            "--app",
            "ledger:application",
            "--workers",
            "2",
            "--static",
            "/files=.",
        ])
        .arg_file("--tls-cert", &issued.cert)
        .arg_file("--tls-key", &issued.key)
        .env("PYSERVE_BIND", bind)
        .env("LEDGER", &ledger)
        .ready();
    let tls_port = server.tls_port();
    let stop = Arc::<AtomicBool>::default();
    let over_tls = move || {
        let client = tls::authority().client(&["http/1.1"]);
        let connection = Connection::tcp(tls_port).secured(client, "localhost");
        connection.expect("a handshake")
    };
    let mut clients = Vec::new();
    for keeps in [true, false] {
        let unix = unix.clone();
        clients.push(client(&stop, keeps, over_tls, "/files/page.txt"));
        clients.push(client(
            &stop,
            keeps,
            move || Connection::unix(&unix),
            "/files/page.txt",
        ));
        let admin = admin.clone();
        clients.push(client(
            &stop,
            keeps,
            move || Connection::unix(&admin),
            "/-/ready",
        ));
    }
    let kept = Load::start(&server, 2, "/", Duration::from_millis(1), false);
    let fresh = Load::start(&server, 2, "/", Duration::from_millis(1), true);
    for round in 1..=3 {
        let before = counts(&clients);
        upgrade(&server);
        for load in [&kept, &fresh] {
            let enough = load.answered() + 20;
            wait_until("requests are answered", || load.answered() >= enough);
        }
        wait_for_each(&clients, &before, 0);
        server
            .stderr
            .wait_for_nth("has finished its requests", round);
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.thread.join().expect("no request failed");
    }
    kept.stop().check_each_ran_once(&ledger);
    fresh.stop().check_each_ran_once(&ledger);
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
}

#[test]
fn requests_of_http_2_and_a_connection_behind_the_proxy_protocol_end_in_the_old_process() {
    let site = Site::new();
    let server = site
        .pyserve()
        .args(["--proxy-protocol", "127.0.0.1", "--workers", "2"])
        .ready();
    let mut behind = server.connect();
    behind.send("PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n");
    behind.send(get("/one"));
    let one = server.probe.held("/one");
    let mut connection = server.connect();
    connection.send("PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n");
    let mut http2 = Http2::new(connection);
    http2.headers(1, &http2::get_fields("/two"), true);
    let two = server.probe.held("/two");
    upgrade(&server);
    let mut new = server.connect();
    new.send("PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n");
    assert_eq!(new.exchange(get("/")).status(), 200);
    one.release();
    two.release();
    assert_eq!(behind.response().status(), 200);
    assert_eq!(http2.response_to(1, 1).0, 200);
    drop((behind, http2));
    server.stderr.wait_for("has finished its requests");
}

#[test]
fn a_session_is_resumed_by_the_new_process() {
    let site = Site::new();
    let issued = tls::authority().issue(&["localhost"]);
    let server = site
        .pyserve()
        .args(["--bind", "https://127.0.0.1:0"])
        .arg_file("--tls-cert", &issued.cert)
        .arg_file("--tls-key", &issued.key)
        .started();
    server.stderr.wait_for("ready in ");
    let port = server.tls_port();
    let client = tls::authority().client(&["http/1.1"]);
    let kind = || {
        let connection = Connection::tcp(port);
        let mut connection = connection.secured(client.clone(), "localhost").unwrap();
        // The ticket comes behind the handshake.
        assert_eq!(connection.exchange(get("/")).status(), 200);
        connection.session().handshake_kind()
    };
    assert_ne!(kind(), Some(HandshakeKind::Resumed));
    assert_eq!(kind(), Some(HandshakeKind::Resumed));
    for _ in 0..2 {
        upgrade(&server);
        assert_eq!(kind(), Some(HandshakeKind::Resumed));
    }
}

/// A client that asks over HTTP/2, again and again, on connections that it keeps until the server ends them.
/// A request is repeated only where GOAWAY says that it was not processed (RFC 9113 §6.8).
fn http2_client(
    stop: &Arc<AtomicBool>,
    connect: impl Fn() -> Connection + Send + 'static,
) -> Client {
    let (stop, count) = (Arc::clone(stop), Arc::<AtomicUsize>::default());
    let counted = Arc::clone(&count);
    let thread = std::thread::spawn(move || {
        let mut stream = 1;
        let mut connection = Http2::new(connect());
        while !stop.load(Ordering::Relaxed) {
            let block = http2::block(&http2::get_fields("/"));
            let flags = http2::END_HEADERS | http2::END_STREAM;
            // The server may have ended the connection.
            let _ = connection.try_send(&http2::frame(http2::HEADERS, flags, stream, &block));
            let (status, last) = fate(&mut connection, stream);
            match status {
                Some(status) => {
                    assert_eq!(status, 200);
                    counted.fetch_add(1, Ordering::Relaxed);
                }
                None => assert!(last.is_some_and(|last| last < stream), "{last:?} {stream}"),
            }
            stream += 2;
            if last.is_some() {
                (stream, connection) = (1, Http2::new(connect()));
            }
        }
    });
    Client { thread, count }
}

/// The status of the response on a stream, and the last stream of the last GOAWAY; reads to the end of the
/// response or of the connection.
fn fate(connection: &mut Http2, stream: u32) -> (Option<u16>, Option<u32>) {
    let (mut status, mut last) = (None, None);
    while let Ok(frame) = connection.frame() {
        match frame.kind {
            http2::GOAWAY => {
                let number = <[u8; 4]>::try_from(&frame.payload[..4]).unwrap();
                last = Some(u32::from_be_bytes(number) & 0x7FFF_FFFF);
                assert_eq!(frame.payload[4..8], [0; 4], "NO_ERROR");
            }
            http2::RST_STREAM if frame.stream == stream => {
                panic!("stream {stream} was reset: {:?}", frame.payload)
            }
            // RFC 7541 appendix A: number 8 of the static table is `:status: 200`.
            http2::HEADERS if frame.stream == stream => {
                status = Some(if frame.payload[0] == 0x88 { 200 } else { 0 });
            }
            _ => {}
        }
        let is_of_it = frame.stream == stream && matches!(frame.kind, http2::HEADERS | http2::DATA);
        if is_of_it && frame.flags & http2::END_STREAM != 0 {
            break;
        }
    }
    (status, last)
}

/// The number of answers that each client has.
fn counts(clients: &[Client]) -> Vec<usize> {
    let all = clients.iter();
    all.map(|client| client.count.load(Ordering::Relaxed))
        .collect()
}

/// Waits until each client has more than `more` answers beyond those before, or has failed.
fn wait_for_each(clients: &[Client], before: &[usize], more: usize) {
    for (client, before) in clients.iter().zip(before) {
        wait_until("each client goes on", || {
            client.count.load(Ordering::Relaxed) > before + more || client.thread.is_finished()
        });
    }
}

/// Upgrades three times while these clients ask.
fn upgrade_under_load(mut server: Server, stop: &AtomicBool, clients: Vec<Client>) {
    for round in 1..=3 {
        let before = counts(&clients);
        upgrade(&server);
        wait_for_each(&clients, &before, 5);
        server
            .stderr
            .wait_for_nth("has finished its requests", round);
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.thread.join().expect("no request failed");
    }
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
}

/// A connection whose first line is of the PROXY protocol.
fn proxied(port: u16) -> Connection {
    let mut connection = Connection::tcp(port);
    connection.send("PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n");
    connection
}

#[test]
fn no_request_fails_over_http_2_and_behind_the_proxy_protocol() {
    let site = Site::new();
    let issued = tls::authority().issue(&["localhost"]);
    let server = site
        .pyserve()
        .args(["--proxy-protocol", "127.0.0.1", "--workers", "2"])
        .arg_file("--tls-cert", &issued.cert)
        .arg_file("--tls-key", &issued.key)
        .env("PYSERVE_BIND", "127.0.0.1:0 https://127.0.0.1:0")
        .ready();
    let (port, tls_port) = (server.port(), server.tls_port());
    let stop = Arc::<AtomicBool>::default();
    let secured = move |protocol: &str| {
        let client = tls::authority().client(&[protocol]);
        let connection = proxied(tls_port).secured(client, "localhost");
        connection.expect("a handshake")
    };
    let mut clients = vec![
        http2_client(&stop, move || proxied(port)),
        http2_client(&stop, move || secured("h2")),
    ];
    for keeps in [true, false] {
        clients.push(client(&stop, keeps, move || proxied(port), "/"));
        clients.push(client(&stop, keeps, move || secured("http/1.1"), "/"));
    }
    upgrade_under_load(server, &stop, clients);
}

#[test]
fn no_request_fails_over_passed_sockets() {
    let site = Site::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // As a service manager passes a socket (sd_listen_fds(3)).
    let script = site.script(
        "activate",
        &format!(
            "#!/bin/sh\nexec 3<&0 </dev/null\nexport LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web\nexec {} \"$@\"\n",
            site.path("pyserve").display()
        ),
    );
    write_files(site.dir.path(), &[("pyserve.toml", "app = 'app:app'\n")]);
    for proxied_by in [None, Some("127.0.0.1")] {
        let passed = std::os::fd::OwnedFd::from(listener.try_clone().unwrap());
        let server = Pyserve::binary(&script)
            .quick()
            .current_dir(site.dir.path())
            .stdin_from(passed)
            .args(["--workers", "2"])
            .args(proxied_by.map(|by| format!("--proxy-protocol={by}")))
            .ready();
        let stop = Arc::<AtomicBool>::default();
        let connect = move || match proxied_by {
            None => Connection::tcp(port),
            Some(_) => proxied(port),
        };
        let clients = vec![
            http2_client(&stop, connect),
            client(&stop, true, connect, "/"),
            client(&stop, false, connect, "/"),
        ];
        upgrade_under_load(server, &stop, clients);
    }
}
