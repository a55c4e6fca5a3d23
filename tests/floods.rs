//! What many slow clients, and many at once, cost: no worker, bounded memory, and little of the
//! time of the others. Numbers are small enough for a few seconds each; what a client gets at
//! each limit stands in `limits`, floods of HTTP/2 in `http2_floods`.

use rustix::process::{Resource, Signal, getrlimit};

use crate::support::cost::{grown, many_descriptors, memory, most_memory, reset_most_memory};
use crate::support::others::Others;
use crate::support::raw::{Connection, End};
use crate::support::server::{Pyserve, get};
use crate::support::{temp_dir, write_files};

crate::clients_over_tls! {
    many_uploads_beyond_the_room_on_disk_are_refused_and_cost_no_memory,
}

#[test]
fn slow_headers_uploads_and_readers_at_once_cost_no_worker_little_memory_and_little_time() {
    many_descriptors();
    let server = Pyserve::app("every.py").args(["--threads", "2"]).ready();
    let mut others = Others::of(&server);
    let before = memory(&server);

    let mut slow: Vec<Connection> = Vec::new();
    let mut begin = |count: usize, bytes: &str| {
        for _ in 0..count {
            let mut connection = server.connect();
            connection.send(bytes);
            slow.push(connection);
        }
    };
    begin(1000, "GET /journal/slow HTTP/1.1\r\nHost: h\r\nX-Slow: ");
    begin(
        200,
        "POST /journal/slow HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\nx",
    );
    for _ in 0..200 {
        let mut connection = Connection::tcp_that_takes_little(server.port());
        connection.send(get("/long?blocks=16"));
        slow.push(connection);
    }
    // The workers have handed over all that the readers asked for.
    server.probe.notes.wait_for_nth("all taken", 200);

    others.notice_little_after(|| {
        for connection in &mut slow[..1200] {
            connection.send("x");
        }
    });
    let grown = grown(&server, before);
    println!("{grown} MB more");
    assert!(grown < 100, "{grown} MB");
    assert_eq!(server.probe.notes.count("/slow"), 0, "no worker was taken");
}

#[test]
fn thousands_of_slow_headers_are_closed_in_time_and_cost_others_little() {
    many_descriptors();
    let server = Pyserve::app("every.py")
        .args(["--header-timeout", "5"])
        .ready();
    let mut others = Others::of(&server);
    let before = memory(&server);
    // 5,000, unless the machine has descriptors for fewer: two here, one there for each.
    let descriptors = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let mut slow: Vec<_> = (0..5000.min(descriptors / 4))
        .map(|_| {
            let mut connection = server.connect();
            connection.send("GET /journal HTTP/1.1\r\nX: ");
            connection
        })
        .collect();
    others.notice_little_after(|| {
        for connection in &mut slow {
            // Some have been closed meanwhile.
            let _ = connection.try_send("x");
        }
    });
    let grown = grown(&server, before);
    println!("{} connections: {grown} MB more", slow.len());
    // 31 KB each.
    assert!(grown < 200, "{grown} MB");
    for connection in &mut slow {
        assert_ne!(connection.rest().1, End::TimedOut);
    }
    assert_eq!(server.probe.notes.count("/journal"), 0);
}

#[test]
fn many_uploads_beyond_the_room_on_disk_are_refused_and_cost_no_memory() {
    many_descriptors();
    let server = Pyserve::app("every.py")
        .args(["--max-spool", "10M", "--threads", "2"])
        .ready();
    let mut others = Others::of(&server);
    let before = reset_most_memory(&server);
    let head = "POST /journal HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n";
    let part = vec![b'x'; 500_000];
    let mut uploads: Vec<_> = (0..100)
        .map(|_| {
            let mut connection = server.connect();
            connection.send(head);
            // Some are refused meanwhile.
            let _ = connection.try_send(&part);
            connection
        })
        .collect();
    server.stderr.wait_for("--max-spool");
    others.notice_little_of(|| {
        let mut upload = server.connect();
        let _ = upload.try_send([head.as_bytes(), &part, &part].concat());
        let _ = upload.try_head();
    });
    let grown = grown(&server, before);
    println!("uploads: {grown} MB more");
    assert!(grown < 60, "{grown} MB");
    assert_eq!(server.get("/hello").text(), "hello");
    let refused = uploads.iter_mut().filter_map(|connection| {
        let _ = connection.try_send(&part);
        let answer = connection.try_head().ok()?;
        Some(answer.status())
    });
    let statuses: Vec<_> = refused.collect();
    assert!(statuses.contains(&503), "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 503].contains(status)));
    drop(uploads);
    // The room comes back.
    let body = "x".repeat(1_000_000);
    let again = crate::support::server::post("/journal", &body);
    assert_eq!(server.exchange(&again).text(), "1000000");
}

#[test]
fn a_thousand_uploads_at_once_hold_little_memory_each() {
    const UPLOADS: u64 = 1000;
    many_descriptors();
    let server = Pyserve::app("every.py")
        .args(["--max-spool", "1G", "--threads", "2"])
        .ready();
    let before = memory(&server);
    let head = "POST /journal HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000\r\n\r\n";
    let mut uploads: Vec<_> = (0..UPLOADS)
        .map(|_| {
            let mut connection = server.connect();
            connection.send(head);
            connection
        })
        .collect();
    // A part waits for its server in each of the kernel's buffers: all have something to give.
    let part = vec![b'x'; 64 << 10];
    for _ in 0..4 {
        for connection in &mut uploads {
            connection.send(&part);
        }
    }
    assert_eq!(server.get("/hello").text(), "hello");
    let grown = most_memory(&server).saturating_sub(before);
    println!("{} KB for each", grown / UPLOADS / 1024);
    // Two buffers of hyper's and one of ours, of 16 KiB each, tasks and connection.
    assert!(grown < UPLOADS * 125_000, "{grown} bytes");
    assert_eq!(
        server.probe.notes.count("called POST"),
        0,
        "no worker was taken"
    );
}

#[test]
fn a_crowd_that_connects_at_once_does_not_come_before_those_who_are_there() {
    many_descriptors();
    // A worker that gets no CPU for a while is no fault of the front: the best round counts.
    let mut before = (0..10).map(|_| served_before_one_that_is_there());
    let best = before.find(|crowd| *crowd < 64);
    // tokio by itself takes 128 connections, then looks at the others.
    assert!(best.is_some(), "a hundred had their turn first");
}

/// How many of a crowd, whose connections wait to be accepted, are served until a client whose
/// connection was there has its answer from the application.
fn served_before_one_that_is_there() -> usize {
    const CROWD: usize = 600;
    const REQUESTS: usize = 20;
    let site = temp_dir();
    write_files(site.path(), &[("static/crowd", "x")]);
    let server = Pyserve::app("hello.py")
        .args(["--root".as_ref(), site.path().as_os_str()])
        .args(["--access-log", "combined"])
        .ready();
    let mut there = server.connect();
    // The file is in memory from now on: what the crowd asks for needs nobody but the front.
    assert_eq!(server.get("/static/crowd").text(), "x");
    server.stdout.wait_for("crowd");
    server.signal(Signal::STOP);
    let crowd: Vec<_> = (0..CROWD)
        .map(|_| {
            let mut connection = server.connect();
            connection.send(get("/static/crowd").repeat(REQUESTS));
            connection
        })
        .collect();
    there.send(get("/"));
    server.signal(Signal::CONT);
    assert_eq!(there.response().status(), 200);
    let own = server.stdout.wait_for("\"GET / HTTP");
    drop(crowd);
    let lines = server.stdout.so_far();
    let place = lines.iter().position(|line| *line == own);
    let before = place.expect("it was just there") / REQUESTS;
    println!("served before: {before}");
    before
}
