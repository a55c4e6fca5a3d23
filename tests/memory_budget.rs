//! The memory that clients can make the front hold has a total (`--memory-budget`), and so have
//! its descriptors. Attacks in small, over HTTP/1 and HTTP/2; `benches/attacks.py` has them in
//! full size.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::support::DEADLINE;
use crate::support::cost::{grown, many_descriptors, memory};
use crate::support::http2::{
    END_HEADERS, END_STREAM, HEADERS, Http2, Outcome, block, frame, get_fields,
};
use crate::support::raw::Connection;
use crate::support::server::{Pyserve, Server, get, post};

/// The budget of each server here, in MiB. One address gets half of it.
const BUDGET: u64 = 16;

fn server() -> Server {
    many_descriptors();
    let budget = format!("{BUDGET}M");
    let server = Pyserve::app("every.py")
        .args(["--memory-budget", &budget, "--threads", "2"])
        .watched()
        .ready();
    // What it touches once belongs to no attack.
    for _ in 0..20 {
        assert_eq!(server.get("/dressed?bytes=200000").status(), 200);
    }
    server
}

/// Checks that the attack has taken no more than the budget, and that others are served.
fn check(server: &Server, before: u64) {
    let grown = grown(server, before);
    println!("{grown} MiB of {BUDGET}");
    // A client of the same address, of which others have taken all that it may.
    assert_eq!(server.get("/hello").text(), "hello");
    assert!(grown <= BUDGET * 5 / 4, "{grown} MiB of {BUDGET}");
}

fn asks(path: &str, coding: &str) -> Vec<u8> {
    let mut fields = get_fields(path).to_vec();
    fields.push(("accept-encoding", coding));
    block(&fields)
}

#[test]
fn encoders_of_one_http2_connection_stay_within_the_budget() {
    let server = server();
    for coding in ["br", "zstd", "gzip"] {
        let before = memory(&server);
        let mut http2 = Http2::with_window(server.connect(), 0);
        let block = asks("/dressed?bytes=300000&pieces=20&length=no", coding);
        for stream in (1..201).step_by(2) {
            let flags = END_HEADERS | END_STREAM;
            assert!(http2.try_send(&frame(HEADERS, flags, stream, &block)));
        }
        http2.heads(100);
        http2.round_trip();
        print!("{coding}: ");
        check(&server, before);
    }
}

#[test]
fn heads_and_bodies_of_stalled_http2_uploads_stay_within_the_budget() {
    let server = server();
    let before = memory(&server);
    let field = "x".repeat(12_000);
    let mut connections = Vec::new();
    for _ in 0..4 {
        // Opened when its turn comes: one that waits for long is closed.
        let mut http2 = Http2::new(server.connect());
        http2.round_trip();
        for stream in (1..201).step_by(2) {
            let mut fields = get_fields("/journal").to_vec();
            fields[0].1 = "POST";
            fields.push(("x-large", &field));
            http2.headers(stream, &fields, false);
            // All of them fit into the connection's window of 1 MiB.
            http2.data(stream, &[b'x'; 9_000], false);
        }
        http2.round_trip();
        connections.push(http2);
    }
    check(&server, before);
    assert_eq!(
        server.probe.notes.count("/journal"),
        0,
        "no worker was taken"
    );
}

#[test]
fn unread_http2_responses_stay_within_the_budget() {
    for path in ["/dressed?bytes=200000", "/dressed?bytes=200000&pieces=4"] {
        let server = server();
        let before = memory(&server);
        let mut connections = Vec::new();
        for _ in 0..6 {
            let mut http2 = Http2::with_window(server.connect(), 1 << 30);
            for stream in (1..201).step_by(2) {
                http2.headers(stream, &get_fields(path), true);
            }
            // It reads nothing.
            connections.push(http2);
        }
        server.wait_for_metric("pyserve_queue_handed_out{application=\"every.py\"}", 0.0);
        check(&server, before);
    }
}

#[test]
fn unfinished_http1_heads_stay_within_the_budget() {
    let server = server();
    let before = memory(&server);
    let mut head = "GET /journal HTTP/1.1\r\nHost: h\r\n".to_owned();
    for number in 0..40 {
        write!(head, "x-{number}: {}\r\n", "x".repeat(3_000)).unwrap();
    }
    let mut connections: Vec<Connection> = (0..200).map(|_| server.connect()).collect();
    for connection in &mut connections {
        // Some are refused before their end.
        let _ = connection.try_send(&head);
    }
    check(&server, before);
    let refused = r#"pyserve_rejections_total{reason="memory"}"#;
    assert!(server.metric(refused) > Some(0.0));
    // What they held is free again.
    drop(connections);
    assert_eq!(server.exchange(&get("/hello")).status(), 200);
}

#[test]
fn unfinished_http2_heads_stay_within_the_budget() {
    const CONTINUATION: u8 = 9;
    let server = server();
    let before = memory(&server);
    let long = "x".repeat(5_000);
    let names: Vec<_> = (0..9).map(|number| format!("x-{number}")).collect();
    let mut fields = get_fields("/hello").to_vec();
    fields.extend(names.iter().map(|name| (name.as_str(), long.as_str())));
    let head = block(&fields);
    let mut pieces = head.chunks(16_000);
    let mut frames = frame(HEADERS, END_STREAM, 1, pieces.next().unwrap());
    for piece in pieces {
        frames.extend(frame(CONTINUATION, 0, 1, piece));
    }
    let mut connections = Vec::new();
    for _ in 0..400 {
        let mut http2 = Http2::new(server.connect());
        // Some are refused before their end.
        let _ = http2.try_send(&frames);
        connections.push(http2);
    }
    check(&server, before);
    server
        .stderr
        .wait_for("no memory for an HTTP/2 header block");
    // What they held is free again.
    drop(connections);
    assert_eq!(server.exchange(&get("/hello")).status(), 200);
}

#[test]
fn unfinished_http1_bodies_stay_within_the_budget() {
    let server = server();
    let before = memory(&server);
    let head = "POST /journal HTTP/1.1\r\nHost: h\r\nContent-Length: 60000\r\n\r\n";
    let mut connections: Vec<Connection> = (0..300).map(|_| server.connect()).collect();
    for connection in &mut connections {
        connection.send(head);
        // Some are refused by now.
        let _ = connection.try_send([b'x'; 59_000]);
    }
    check(&server, before);
    let mut complete = 0;
    for connection in &mut connections {
        let _ = connection.try_send([b'x'; 1_000]);
        let response = connection.response();
        match response.status() {
            503 => assert!(response.header("Retry-After").is_some()),
            _ => {
                assert_eq!(response.text(), "60000");
                complete += 1;
            }
        }
    }
    assert!((30..300).contains(&complete), "{complete} of 300");
}

/// RFC 9110 §15.6.4: 503 with `Retry-After`.
#[test]
fn stalled_uploads_leave_descriptors_for_connections_over_both_protocols() {
    let server = Pyserve::app("every.py")
        .watched()
        .with_descriptors(600)
        .ready();
    let mut connections = Vec::new();
    for _ in 0..2 {
        let mut http2 = Http2::new(server.connect());
        http2.round_trip();
        // The window of each stream is that of the settings when they are acknowledged.
        assert!(http2.try_send(&frame(4, 1, 0, &[])));
        for stream in (1..61).step_by(2) {
            let mut fields = get_fields("/journal").to_vec();
            fields[0].1 = "POST";
            http2.headers(stream, &fields, false);
            for _ in 0..5 {
                http2.data(stream, &[b'x'; 14_000], false);
            }
            // It has been read, so that the connection's window is open again.
            http2.round_trip();
        }
        connections.push(http2);
    }
    let mut refused = 0;
    let mut stalled: Vec<Connection> = (0..60).map(|_| server.connect()).collect();
    for connection in &mut stalled {
        connection.send("POST /journal HTTP/1.1\r\nHost: h\r\nContent-Length: 70000\r\n\r\n");
        let _ = connection.try_send([b'x'; 69_000]);
    }
    // New connections are accepted, and what is said about them is true.
    for _ in 0..20 {
        let mut connection = server.connect();
        assert_eq!(connection.exchange(get("/hello")).status(), 200);
        stalled.push(connection);
    }
    assert_eq!(server.admin("/-/ready").status(), 200);
    // Those that wait for a descriptor are refused after a while.
    let began = Instant::now();
    while server.metric(r#"pyserve_rejections_total{reason="descriptors"}"#) < Some(30.0) {
        assert!(began.elapsed() < DEADLINE, "few are refused");
        std::thread::sleep(Duration::from_millis(50));
    }
    for connection in &mut stalled[..60] {
        if connection.try_send([b'x'; 1_000]).is_err() {
            refused += 1;
            continue;
        }
        let response = connection.response();
        match response.status() {
            503 => {
                assert!(response.header("Retry-After").is_some());
                refused += 1;
            }
            _ => assert_eq!(response.text(), "70000"),
        }
    }
    assert!((1..60).contains(&refused), "{refused}");
    drop(connections);
}

/// RFC 9113 §5.2.2: what a client sends ahead waits in the server while the application does not
/// read. Small frames take more room than their payload says.
#[test]
fn http2_bodies_that_nothing_reads_stay_within_the_budget_and_go_on() {
    for (frame_length, frames) in [(16 << 10, 60), (300, 3_000)] {
        many_descriptors();
        let budget = format!("{BUDGET}M");
        let server = Pyserve::app("every.py")
            .args(["--memory-budget", &budget, "--threads", "2"])
            .args(["--workers", "1", "--request-buffering", "no"])
            .args(["--queue-timeout", "60", "--body-timeout", "60"])
            .watched()
            .ready();
        for _ in 0..20 {
            assert_eq!(server.get("/dressed?bytes=200000").status(), 200);
        }
        let held = [server.hold("/held/one"), server.hold("/held/two")];
        let before = memory(&server);
        let mut connections: Vec<Http2> = (0..30).map(|_| Http2::new(server.connect())).collect();
        let burst = frame(0, 0, 1, &vec![b'x'; frame_length]).repeat(frames);
        for http2 in &mut connections {
            let mut fields = get_fields("/stream_input").to_vec();
            fields[0].1 = "POST";
            // The windows are open when the settings of the server are acknowledged.
            http2.round_trip();
            assert!(http2.try_send(&frame(4, 1, 0, &[])));
            http2.round_trip();
            http2.headers(1, &fields, false);
            assert!(http2.try_send(&burst));
        }
        let sampled = (0..30).map(|_| {
            std::thread::sleep(Duration::from_millis(50));
            grown(&server, before)
        });
        let most = sampled.max().unwrap_or_default();
        println!("{most} MiB of {BUDGET} with frames of {frame_length} bytes");
        assert!(most <= BUDGET * 5 / 4, "{most} MiB of {BUDGET}");
        // Each of them is read to its end, once that is possible.
        for (mut connection, held) in held {
            held.release();
            assert_eq!(connection.response().status(), 200);
        }
        let (expected, mut whole) = (format!("{} ", frame_length * frames), 0);
        for http2 in &mut connections {
            http2.data(1, b"", true);
            match http2.outcome(1) {
                Outcome::Response(200, body) if body.starts_with(expected.as_bytes()) => whole += 1,
                // It came when the others had taken everything.
                Outcome::Response(503, _) => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(whole > 2, "{whole} of 30");
        assert_eq!(server.get("/hello").text(), "hello");
    }
}

/// Bytes of the memory file through which requests reach the workers, that are resident.
fn queue_memory(server: &Server) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let directory = format!("/proc/{}/fd", server.pid());
    let files = std::fs::read_dir(directory).unwrap().flatten();
    let is_queue = |path: &std::path::PathBuf| {
        let target = std::fs::read_link(path).unwrap_or_default();
        target.to_string_lossy().contains("pyserve-queue")
    };
    let queues = files.map(|file| file.path()).filter(is_queue);
    let blocks = queues.map(|path| std::fs::metadata(path).unwrap().blocks());
    blocks.sum::<u64>() * 512
}

#[test]
fn memory_of_bodies_on_their_way_to_workers_is_counted_and_given_back() {
    let server = Pyserve::app("every.py")
        .args(["--threads", "16", "--workers", "1"])
        .watched()
        .ready();
    let used = || server.metric("pyserve_memory_used_bytes").unwrap();
    let (before, memory) = (used(), queue_memory(&server));
    let body = "x".repeat(60_000);
    // All threads, and some that are handed out ahead of them.
    let mut clients: Vec<_> = (0..40).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(post("/journal", &body));
    }
    for client in &mut clients {
        assert_eq!(client.response().status(), 200);
    }
    drop(clients);
    let burst = queue_memory(&server) - memory;
    assert!(burst > 60_000, "{burst} bytes");
    let began = Instant::now();
    while queue_memory(&server) > memory + burst / 4 || used() > before + 300_000.0 {
        assert!(
            began.elapsed() < DEADLINE,
            "{} {}",
            queue_memory(&server),
            used()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_memory_shared_with_workers_is_part_of_the_line_at_the_start() {
    let server = Pyserve::app("hello.py")
        .args(["--workers", "2", "--threads", "4", "--memory-budget", "64M"])
        .ready();
    // 8 threads with 256 KiB each, and 40 requests of 72 KiB.
    server
        .stderr
        .wait_for("64 MiB for buffers of clients, of these up to 5 MiB shared with workers");
}
