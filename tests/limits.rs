//! What clients may take of the server, and what they get beyond: connections, requests in a
//! time, header fields.

use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};

use crate::support::http2::{Http2, Outcome, get_fields};
use crate::support::raw::{Connection, End};
use crate::support::server::{Pyserve, get, post};
use crate::support::{skipped, temp_dir};

/// A client's pause between two small steps: its pace is what is tested.
fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}

#[test]
fn connections_over_the_limit_wait_for_a_place() {
    let server = Pyserve::app("every.py")
        .args(["--max-connections", "2", "--threads", "2"])
        .ready();
    let mut first = server.connect();
    assert_eq!(first.exchange(get("/hello")).text(), "hello");
    let mut second = server.connect();
    second.send("GET /hello HTTP/1.1\r\n");
    let mut third = server.connect();
    third.send(get("/hello"));
    server.stderr.wait_for("--max-connections");
    // With all places taken, a response gives one back.
    second.send("Host: localhost\r\n\r\n");
    let response = second.response();
    assert_eq!(response.header("Connection").as_deref(), Some("close"));
    assert_eq!(second.rest().1, End::Closed);
    assert_eq!(third.response().text(), "hello");
}

#[test]
fn idle_connections_end_for_clients_that_wait_and_others_do_not() {
    let server = Pyserve::app("every.py")
        .args(["--max-connections", "3", "--threads", "2"])
        .args(["--keepalive-timeout", "3600"])
        .ready();
    let (_running, held) = server.hold("/held");
    let mut oldest = server.connect();
    assert_eq!(oldest.exchange(get("/hello")).text(), "hello");
    let mut newer = Http2::new(server.connect());
    newer.headers(1, &get_fields("/hello"), true);
    assert!(matches!(newer.outcome(1), Outcome::Response(200, _)));
    let mut waits = server.connect();
    assert_eq!(waits.exchange(get("/hello")).text(), "hello");
    assert_eq!(oldest.rest().1, End::Closed);
    newer.round_trip();
    drop(held);
}

/// Connections that send `start` and nothing more, from one address: more than there are places.
fn a_crowd(port: u16, start: &[u8]) -> Vec<Connection> {
    let one = |_| {
        let mut connection = Connection::tcp_from([127, 0, 0, 2], port);
        connection.send(start);
        connection
    };
    (0..60).map(one).collect()
}

#[test]
fn incomplete_heads_of_an_address_that_has_most_give_way_to_other_addresses() {
    for (start, more) in [
        (&b""[..], None),
        (b"GET /hello HTTP/1.1\r\nHost: ", None),
        (
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
            None,
        ),
        (b"", Some("127.0.0.2")),
    ] {
        let server = Pyserve::app("every.py")
            .args(["--max-connections", "40", "--header-timeout", "3600"])
            .args(more.iter().flat_map(|peer| ["--proxy-protocol", peer]))
            .ready();
        // Not of the crowd, and in its head as well.
        let mut slow = Connection::tcp_from([127, 0, 0, 3], server.port());
        slow.send("GET /hello HTTP/1.1\r\n");
        let mut crowd = a_crowd(server.port(), start);
        for _ in 0..2 {
            let mut other = Connection::tcp_from([127, 0, 0, 4], server.port());
            assert_eq!(other.exchange(get("/hello")).text(), "hello");
        }
        server.stderr.wait_for("connections closed for others");
        slow.send("Host: localhost\r\n\r\n");
        assert_eq!(slow.response().text(), "hello");
        assert_ne!(crowd[0].rest().1, End::TimedOut, "the oldest is closed");
    }
}

#[test]
fn connections_that_only_linger_give_way() {
    let took = || {
        let server = Pyserve::app("every.py")
            .args(["--max-connections", "40"])
            .ready();
        let mut refused = a_crowd(server.port(), b"GET / HTTP/9.9\r\n\r\n");
        // As many as have a place.
        for refused in &mut refused[..40] {
            assert_eq!(refused.response().status(), 505);
        }
        let began = Instant::now();
        assert_eq!(server.get("/hello").text(), "hello");
        began.elapsed()
    };
    // Otherwise each has its place for 5 s. A busy machine may be late, but not each time.
    let in_time = || took() < Duration::from_secs(3);
    assert!(in_time() || in_time() || in_time());
}

#[test]
fn a_few_slow_heads_give_way_when_they_are_old() {
    let server = Pyserve::app("every.py")
        .args(["--max-connections", "2", "--header-timeout", "3600"])
        .ready();
    let mut oldest = server.connect();
    // Answered behind it, so the server has begun to measure its age.
    assert_eq!(server.get("/hello").text(), "hello");
    pause();
    let _newer = server.connect();
    assert_eq!(server.get("/hello").text(), "hello");
    assert_ne!(oldest.rest().1, End::TimedOut);
}

#[test]
fn several_listeners_share_one_place() {
    let builder = Pyserve::app("hello.py").args(["--max-connections", "1"]);
    let path = builder.path("http.sock");
    let unix = format!("unix:{}", path.display());
    let server = builder
        .args(["--bind", "127.0.0.1:0", "--bind", &unix])
        .ready();
    for _ in 0..3 {
        assert_eq!(server.get("/").text(), "hello");
        let mut connection = Connection::unix(&path);
        assert_eq!(connection.exchange(get("/")).text(), "hello");
    }
}

#[test]
fn an_address_has_no_more_connections_than_it_may_and_gets_them_back() {
    let server = Pyserve::app("hello.py")
        .args(["--max-connections-per-ip", "2"])
        .ready();
    let mut two = [server.connect(), server.connect()];
    for connection in &mut two {
        assert_eq!(connection.exchange(get("/")).text(), "hello");
    }
    let mut third = server.connect();
    let (answer, end) = third.rest();
    assert_eq!(answer, b"");
    assert_ne!(end, End::TimedOut);
    server.stderr.wait_for("--max-connections-per-ip");
    let [mut one, other] = two;
    one.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    assert_eq!(one.response().text(), "hello");
    assert_eq!(one.rest().1, End::Closed);
    // The server has closed, and gives the place back in the same turn; another connection
    // that it accepts only now finds it.
    assert_eq!(server.get("/").text(), "hello");
    drop(other);
}

#[test]
fn the_connections_of_a_trusted_proxy_are_not_counted() {
    let server = Pyserve::app("hello.py")
        .args(["--max-connections-per-ip", "1", "--trust", "127.0.0.1"])
        .ready();
    let mut connections = [server.connect(), server.connect(), server.connect()];
    for connection in &mut connections {
        assert_eq!(connection.exchange(get("/")).text(), "hello");
    }
}

#[test]
fn requests_over_the_rate_are_429_by_the_address_of_the_client() {
    let server = Pyserve::app("journal.py")
        .args(["--rate-limit", "2/h", "--trust", "127.0.0.1"])
        .args(["--access-log", "combined"])
        .ready();
    let mut connection = server.connect();
    let mut ask = |address: &str| {
        let request = format!("GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: {address}\r\n\r\n");
        connection.exchange(request)
    };
    for address in ["203.0.113.9", "2001:db8::1", "2001:db8::2", "203.0.113.9"] {
        assert_eq!(ask(address).status(), 200, "{address}");
    }
    for address in ["203.0.113.9", "2001:db8::3"] {
        let refused = ask(address);
        assert_eq!(refused.status(), 429, "{address}");
        let wait: u64 = refused.header("Retry-After").unwrap().parse().unwrap();
        assert!((1..=1800).contains(&wait), "{wait}");
    }
    assert_eq!(ask("203.0.113.10").status(), 200);
    server.probe.notes.wait_for_nth("called", 5);
    assert_eq!(server.probe.notes.count("called"), 5);
    server.stdout.wait_for("\" 429 ");
}

#[test]
fn a_burst_may_be_larger_than_the_rate() {
    let server = Pyserve::app("hello.py")
        .args(["--rate-limit", "1/h", "--rate-burst", "3"])
        .ready();
    let statuses: Vec<_> = (0..4).map(|_| server.get("/").status()).collect();
    assert_eq!(statuses, [200, 200, 200, 429]);
}

#[test]
fn a_hundred_header_fields_pass_and_more_are_431_in_both_versions() {
    let server = Pyserve::app("hello.py").ready();
    let with = |fields: usize| {
        let lines: String = (1..fields)
            .map(|number| format!("X-{number}: y\r\n"))
            .collect();
        let request = format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
        server.exchange(&request).status()
    };
    assert_eq!((with(100), with(101)), (200, 431));
    server.stderr.wait_for("the request has 101 header fields");

    let names: Vec<String> = (0..101).map(|number| format!("x-{number}")).collect();
    let mut http2 = Http2::new(server.connect());
    let mut ask = |stream: u32, extra: usize, cookies: usize| {
        let mut fields = get_fields("/").to_vec();
        fields.extend(names[..extra].iter().map(|name| (name.as_str(), "y")));
        fields.extend((0..cookies).map(|_| ("cookie", "a=1")));
        http2.headers(stream, &fields, true);
        http2.outcome(stream)
    };
    let hello = Outcome::Response(200, b"hello".to_vec());
    assert_eq!(ask(1, 100, 0), hello);
    assert_eq!(ask(3, 90, 50), hello, "crumbs of cookies are one field");
    let refused = ask(5, 101, 0);
    assert!(matches!(refused, Outcome::Response(431, _)), "{refused:?}");
    server.stderr.wait_for("header fields (limit 100)");
}

#[test]
fn the_server_takes_all_descriptors_it_may_and_the_application_none_of_them() {
    let server = Pyserve::app("descriptors.py").ready();
    let pid = server.pid().as_raw_nonzero();
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let words: Vec<_> = line.unwrap().split_whitespace().collect();
    assert_eq!(words[3], words[4], "{words:?}");
    let ours = getrlimit(Resource::Nofile).current.unwrap();
    assert_eq!(server.get("/").json()[0], ours);
}

#[test]
fn a_body_below_the_least_rate_is_408_though_it_never_pauses() {
    let server = Pyserve::app("journal.py")
        .args(["--body-timeout", "500ms", "--min-body-rate", "100K"])
        .ready();
    let mut connection = server.connect();
    connection.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n");
    for _ in 0..500 {
        // 5 KB in a second at most.
        if connection.try_send([b'x'; 50]).is_err() {
            break;
        }
        pause();
    }
    assert_eq!(connection.statuses_to_end().0, [408]);
    server.stderr.wait_for("--min-body-rate");
    assert_eq!(server.probe.notes.count("called"), 0);

    // Above the rate, or without one, it may take longer than the timeout.
    let server = Pyserve::app("journal.py")
        .args(["--body-timeout", "10s", "--min-body-rate", "1"])
        .ready();
    let mut connection = server.connect();
    connection.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 20\r\n\r\n");
    for _ in 0..20 {
        connection.send("x");
        pause();
    }
    assert_eq!(connection.response().status(), 200);
}

#[test]
fn bodies_together_take_no_more_disk_than_they_may() {
    let server = Pyserve::app("held.py")
        .args(["--max-spool", "400K", "--threads", "2"])
        .ready();
    let upload = |target: &str| post(target, &"x".repeat(300_000));
    let mut first = server.connect();
    first.send(upload("/first"));
    let held = server.probe.held("/first");
    let mut second = server.connect();
    let _ = second.try_send(upload("/gone/second"));
    let refused = second.response();
    assert_eq!(refused.status(), 503);
    assert!(refused.header("Retry-After").is_some());
    server.stderr.wait_for("--max-spool");
    // What fits into memory needs no room.
    assert_eq!(server.exchange(&post("/gone/small", "x")).status(), 200);
    held.release();
    assert_eq!(first.response().status(), 200);
    let third = server.exchange(&upload("/gone/third"));
    assert_eq!(third.status(), 200, "the room has come back");
    assert_eq!(server.probe.notes.count("second"), 0);
}

/// A command that runs pyserve with `small` in `disk` as a file system of this size, where this
/// machine allows that.
pub fn with_small_disk(disk: &std::path::Path, size: &str) -> Option<std::path::PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let wrapper = disk.join("pyserve");
    let mounted = format!("{0}/small", disk.display());
    std::fs::create_dir(&mounted).unwrap();
    let mount = format!("mount -t tmpfs -o size={size} none {mounted}");
    let binary = env!("CARGO_BIN_EXE_pyserve");
    let script =
        format!("#!/bin/sh\nexec unshare -rm sh -c '{mount} && exec {binary} \"$@\"' sh \"$@\"\n");
    std::fs::write(&wrapper, script).unwrap();
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let test = std::process::Command::new("unshare")
        .args(["-rm", "sh", "-c", &mount])
        .output();
    test.is_ok_and(|output| output.status.success())
        .then_some(wrapper)
}

#[test]
fn a_full_disk_is_507_with_a_clear_line_and_the_server_goes_on() {
    let dir = temp_dir();
    let Some(wrapper) = with_small_disk(dir.path(), "512k") else {
        return skipped("a full disk", "user namespaces may not mount here");
    };
    let server = Pyserve::binary(&wrapper)
        .quick()
        .args(["--app", "echo.py", "--chdir"])
        .args([crate::support::apps()])
        .args(["--temp-dir".as_ref(), dir.path().join("small").as_os_str()])
        .ready();
    for _ in 0..3 {
        let mut connection = server.connect();
        let _ = connection.try_send(post("/", &"x".repeat(900_000)));
        assert_eq!(connection.response().status(), 507);
        assert_eq!(server.exchange(&post("/", "small")).text(), "small");
        let half = "y".repeat(300_000);
        assert_eq!(server.exchange(&post("/", &half)).text(), half);
    }
    server.stderr.wait_for("No space left on device");
}

#[test]
fn a_client_that_takes_a_response_too_slowly_is_given_up_and_one_in_time_is_not() {
    let dir = temp_dir();
    std::fs::create_dir(dir.path().join("static")).unwrap();
    let file = std::fs::File::create(dir.path().join("static/large")).unwrap();
    // More than the kernel buffers.
    file.set_len(64 << 20).unwrap();
    let server = Pyserve::app("hello.py")
        .args(["--root".as_ref(), dir.path().as_os_str()])
        .args(["--body-timeout", "500ms", "--min-body-rate", "1M"])
        .args(["--log-level", "debug"])
        .ready();
    for step in [0, 1000] {
        let mut connection = server.connect();
        connection.send(get("/static/large"));
        let mut closed = server
            .stderr
            .count("closed: the client reads the response too slowly");
        for _ in 0..1000 {
            if step > 0 {
                // 100 KB in a second at most.
                let _ = connection.some(step);
            }
            pause();
            closed = server
                .stderr
                .count("closed: the client reads the response too slowly");
            if closed > usize::from(step > 0) {
                break;
            }
        }
        assert_eq!(closed, 1 + usize::from(step > 0), "with {step}");
        assert_ne!(connection.rest().1, End::TimedOut);
    }
    let mut connection = server.connect();
    let response = connection.exchange(get("/static/large"));
    assert_eq!((response.body.len(), response.broken), (64 << 20, None));
}

#[test]
fn a_window_that_stays_shut_ends_an_http_2_connection() {
    let server = Pyserve::app("big.py")
        .args(["--body-timeout", "300ms", "--log-level", "debug"])
        .ready();
    let fields = get_fields("/");
    let mut http2 = Http2::with_window(server.connect(), 0);
    http2.headers(1, &fields, true);
    let (codes, end) = http2.farewell();
    assert!(codes.iter().all(|code| *code == 0), "{codes:?}");
    assert!(!codes.is_empty(), "the client gets an error");
    assert_ne!(end, End::TimedOut);
    // The worker was free all the time.
    assert_eq!(server.get("/").body.len(), 4 << 20);
}
