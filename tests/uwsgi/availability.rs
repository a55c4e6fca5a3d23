//! Servers that are not there, not yet, not any more, too busy, or of another kind.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::channel;

use super::{before, in_front_of};
use crate::support::backend::{Backend, page};
use crate::support::server::get;
use crate::support::{is_root, temp_dir, write_files};

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
        (&stale, "left over from a server that has exited"),
        (&address, "connection refused"),
    ] {
        let server = before(&[address])
            .args(["--upstream-connect-timeout", "50ms"])
            .ready();
        server.stderr.wait_for("waiting for an upstream server");
        assert_eq!(server.get("/").status(), 502, "{address}");
        let line = server.stderr.wait_for("request not served");
        assert!(line.contains(why), "{line}");
    }
}

#[test]
fn a_socket_that_refuses_our_user_is_named_with_the_remedy_and_served_when_it_is_mended() {
    if !is_root("a socket that refuses another user") {
        return;
    }
    let dir = temp_dir();
    let may = |path: &Path, mode| {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    };
    may(dir.path(), 0o755);
    let path = dir.path().join("refusing.sock");
    let backend = Backend::at(&path, |mut call| {
        call.packet();
        call.send(page("allowed"));
    });
    may(&path, 0o600);
    let server = before(&[backend.address()])
        .args(["--uid", "64321", "--gid", "64321"])
        .args(["--upstream-connect-timeout", "50ms"])
        .without("PYSERVE_CONTROL")
        .ready();
    let says_why = |line: &str| {
        for part in [
            backend.address(),
            "user 64321 may not connect",
            "chmod-socket = 660",
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
    };
    says_why(&server.stderr.wait_for("waiting for an upstream server"));
    assert_eq!(server.get("/first").status(), 502);
    says_why(&server.stderr.wait_for("request not served"));
    assert_eq!(backend.calls(), 0);
    may(&path, 0o660);
    std::os::unix::fs::chown(&path, None, Some(64321)).unwrap();
    server.stderr.wait_for("upstream server reachable");
    assert_eq!(server.get("/").text(), "allowed");

    // The same while it runs, and by a directory that cannot be searched.
    for (refusing, mended) in [(path.as_path(), 0o660), (dir.path(), 0o755)] {
        may(refusing, 0o600);
        assert_eq!(server.get("/again").status(), 502);
        may(refusing, mended);
        assert_eq!(server.get("/").text(), "allowed");
    }
    says_why(&server.stderr.wait_for_nth("request not served", 3));
    assert_eq!(backend.calls(), 3);
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
    server.stderr.wait_for("waiting for an upstream server");
    let mut client = server.connect();
    client.send(get("/"));
    let _backend = Backend::at(&path, |mut call| {
        call.packet();
        call.send(page("late"));
    });
    assert_eq!(client.response().text(), "late");
    server.stderr.wait_for("upstream server reachable");
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
    server.stderr.wait_for("skipping it");
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
