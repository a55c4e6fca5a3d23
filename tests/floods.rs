//! What many hostile clients cost: no worker, bounded memory, and little of the time of the
//! others. Numbers are small enough for a few seconds each; what a client gets at each limit
//! stands in `limits`.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::http2::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, Http2, Outcome, PADDED, PING,
    PRIORITY, RST_STREAM, SETTINGS, UNKNOWN, WINDOW_UPDATE, block, frame,
};
use crate::support::others::Others;
use crate::support::probe::Held;
use crate::support::raw::{Connection, End};
use crate::support::server::{Pyserve, Server, get};

/// RFC 9113 §7: the peer may be generating excessive load.
const ENHANCE_YOUR_CALM: u32 = 11;

/// The kernel keeps as much for this process as it may; each hostile client is a descriptor.
fn many_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("up to the hard limit");
}

/// Resident memory of the server's own process, in bytes.
fn memory(server: &Server) -> u64 {
    let pid = server.pid().as_raw_nonzero();
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    let pages: u64 = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

fn grown(server: &Server, before: u64) -> u64 {
    memory(server).saturating_sub(before) >> 20
}

fn request(path: &str) -> Vec<u8> {
    block(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "h"),
    ])
}

/// Has the only worker thread held inside a request.
fn keep_busy(server: &Server) -> (Connection, Held) {
    let mut busy = server.connect();
    busy.send(get("/busy"));
    (busy, server.probe.held("/busy"))
}

/// Lets it go on, and checks that none of these was left in the queue behind it.
fn check_none_was_run(server: &Server, mut busy: Connection, held: Held, gone: &[&str]) {
    held.release();
    assert_eq!(busy.response().status(), 200);
    // It stands behind all that might have been left.
    assert_eq!(server.get("/gone/last").status(), 200);
    server.probe.notes.wait_for("called /gone/last");
    for path in gone {
        assert_eq!(server.probe.notes.count(path), 0, "{path}");
    }
}

/// Sends `attack`, which may be cut off, and checks that it cost no memory, and that others
/// are served.
fn check_flood(server: &Server, mut http2: Http2, attack: &[u8]) -> (Vec<u32>, End) {
    let before = memory(server);
    for part in attack.chunks(1 << 16) {
        if !http2.try_send(part) {
            break;
        }
    }
    assert_eq!(server.get("/hello").text(), "hello");
    let grown = grown(server, before);
    assert!(grown < 20, "{grown} MB");
    let farewell = http2.farewell();
    println!("{} bytes: {grown} MB more, then {farewell:?}", attack.len());
    farewell
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
    let before = memory(&server);
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
fn streams_that_are_reset_at_once_leave_no_work_for_the_application() {
    let server = Pyserve::app("held.py").ready();
    let (busy, held) = keep_busy(&server);
    let mut attack = Vec::new();
    for stream in (1..20_000).step_by(2) {
        let flags = END_HEADERS | END_STREAM;
        attack.extend(frame(HEADERS, flags, stream, &request("/gone/reset")));
        attack.extend(frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
    }
    let before = memory(&server);
    let mut http2 = Http2::new(server.connect());
    for part in attack.chunks(1 << 14) {
        if !http2.try_send(part) {
            break;
        }
    }
    let (codes, end) = http2.farewell();
    println!("resets: {codes:?} {end:?}");
    assert_ne!(end, End::TimedOut, "given up");
    assert!(
        codes.is_empty() || codes.contains(&ENHANCE_YOUR_CALM),
        "{codes:?}"
    );
    assert!(grown(&server, before) < 20);
    check_none_was_run(&server, busy, held, &["/gone/reset"]);
}

#[test]
fn streams_that_wait_and_are_reset_are_taken_back_from_the_queue() {
    let server = Pyserve::app("held.py").ready();
    let (busy, held) = keep_busy(&server);
    let mut http2 = Http2::new(server.connect());
    let path = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/gone/reset"),
        (":authority", "h"),
    ];
    // Each ping is answered when what stands before it has been looked at: these streams
    // wait in the queue when they are reset.
    for stream in (1..200).step_by(2) {
        http2.headers(stream, &path, true);
        if stream % 40 == 39 {
            http2.round_trip();
            for stream in (stream - 38..=stream).step_by(2) {
                assert!(http2.try_send(&frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())));
            }
            http2.round_trip();
        }
    }
    check_none_was_run(&server, busy, held, &["/gone/reset"]);
}

#[test]
fn streams_that_the_server_is_made_to_reset_end_the_connection() {
    let server = Pyserve::app("every.py").ready();
    let mut attack = Vec::new();
    for stream in (1..4000).step_by(2) {
        let flags = END_HEADERS | END_STREAM;
        attack.extend(frame(HEADERS, flags, stream, &request("/hello")));
        // RFC 9113 §6.9.1: a window beyond its limit is an error of the stream.
        attack.extend(frame(
            WINDOW_UPDATE,
            0,
            stream,
            &0x7FFF_FFFFu32.to_be_bytes(),
        ));
    }
    let http2 = Http2::new(server.connect());
    let (codes, end) = check_flood(&server, http2, &attack);
    assert_ne!(end, End::TimedOut);
    assert!(!codes.contains(&0), "{codes:?}");
}

#[test]
fn a_head_without_an_end_ends_the_connection() {
    let server = Pyserve::app("every.py").ready();
    for piece in [&b""[..], &[0x40; 100]] {
        let mut attack = frame(HEADERS, 0, 1, &request("/journal"));
        for _ in 0..50_000 {
            attack.extend(frame(CONTINUATION, 0, 1, piece));
        }
        let http2 = Http2::new(server.connect());
        let (_, end) = check_flood(&server, http2, &attack);
        assert_ne!(end, End::TimedOut);
    }
    assert_eq!(server.probe.notes.count("called"), 0);
}

#[test]
fn a_head_that_unpacks_to_megabytes_is_refused() {
    let server = Pyserve::app("every.py").ready();
    // One entry of 4,000 bytes in the table, and a byte for each time that it is meant.
    let mut bomb = request("/journal");
    bomb.push(0x40);
    bomb.extend([1, b'x', 0x7F, 0xA1, 0x1E]);
    bomb.extend([b'y'; 4000]);
    bomb.extend(vec![0xBE; 10_000]);
    let mut attack = Vec::new();
    for stream in (1..100).step_by(2) {
        attack.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &bomb));
        // The table keeps its entry.
        bomb = [request("/journal"), vec![0xBE; 10_000]].concat();
    }
    // Each is refused by itself; something that no server takes ends the connection.
    attack.extend(frame(PING, 0, 1, &[0; 8]));
    let http2 = Http2::new(server.connect());
    let (_, end) = check_flood(&server, http2, &attack);
    assert_ne!(end, End::TimedOut);
    assert_eq!(server.probe.notes.count("called"), 0);
}

#[test]
fn frames_that_ask_for_nothing_end_the_connection() {
    let server = Pyserve::app("every.py").ready();
    let open = frame(HEADERS, END_HEADERS, 1, &request("/echo"));
    let floods = [
        frame(PING, 0, 0, &[0; 8]),
        frame(PING, ACK, 0, &[0; 8]),
        frame(SETTINGS, 0, 0, &[]),
        frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xFF, 0xFF]),
        frame(WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes()),
        frame(WINDOW_UPDATE, 0, 1, &1u32.to_be_bytes()),
        frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 0]),
        frame(UNKNOWN, 0, 0, b"what?"),
        frame(DATA, 0, 1, &[]),
        // Padding alone.
        frame(DATA, PADDED, 1, &[1, 0]),
    ];
    for flood in floods {
        let attack = [&open[..], &flood.repeat(50_000)].concat();
        // It reads nothing of what we answer.
        let http2 = Http2::new(server.connect());
        let (codes, end) = check_flood(&server, http2, &attack);
        assert_ne!(end, End::TimedOut, "given up: {flood:?}");
        // The reset of a connection with unread bytes may overtake the last word.
        let said = codes.is_empty() || codes == [ENHANCE_YOUR_CALM];
        assert!(said, "{codes:?} for {flood:?}");
    }
    server.stderr.wait_for("too many frames of HTTP/2");
}

#[test]
fn a_client_that_floods_slowly_is_told_why_its_connection_ends() {
    let server = Pyserve::app("every.py").ready();
    let mut http2 = Http2::new(server.connect());
    // It reads every answer before it sends more, so nothing is unread at the end.
    let pings = (0..100_000).position(|_| http2.ping() == Err(ENHANCE_YOUR_CALM));
    assert!(pings.expect("given up") >= 900, "{pings:?}");
    assert_eq!(http2.farewell(), (vec![], End::Closed));
}

#[test]
fn many_requests_with_all_that_clients_send_beside_them_are_no_flood() {
    let server = Pyserve::app("every.py").ready();
    let mut http2 = Http2::new(server.connect());
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/hello"),
        (":authority", "h"),
    ];
    for stream in (1..2000).step_by(2) {
        http2.headers(stream, &fields, true);
        assert!(http2.try_send(&frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 7])));
        assert_eq!(
            http2.outcome(stream),
            Outcome::Response(200, b"hello".into())
        );
        http2.allow(stream, 5);
        http2.round_trip();
    }
}

#[test]
fn a_client_that_goes_leaves_no_work_and_499_over_both_versions() {
    let server = Pyserve::app("held.py")
        .args(["--access-log", "combined"])
        .ready();
    let (busy, held) = keep_busy(&server);
    let mut http1 = server.connect();
    http1.send(get("/gone/one"));
    let mut http2 = Http2::new(server.connect());
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/gone/two"),
        (":authority", "h"),
    ];
    http2.headers(1, &fields, true);
    http2.round_trip();
    drop((http1, http2));
    server.stdout.wait_for("\"GET /gone/one HTTP/1.1\" 499");
    server.stdout.wait_for("\"GET /gone/two HTTP/2.0\" 499");
    check_none_was_run(&server, busy, held, &["/gone/one", "/gone/two"]);
}

#[test]
fn a_stream_of_http_2_that_is_reset_stops_the_application_within_a_piece() {
    let server = Pyserve::app("endless.py")
        .args(["--access-log", "combined"])
        .ready();
    let mut http2 = Http2::new(server.connect());
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "h"),
    ];
    http2.headers(1, &fields, true);
    let held = server.probe.held("streaming");
    assert!(http2.try_send(&frame(RST_STREAM, 0, 1, &8u32.to_be_bytes())));
    http2.round_trip();
    server.stdout.wait_for("\" 499 ");
    held.release();
    let note = server.probe.notes.wait_for("closed after");
    let pieces: u32 = note.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(pieces <= 4, "{note}");
    // The connection goes on, and the log has no exception.
    http2.headers(3, &fields, true);
    let held = server.probe.held("streaming");
    assert!(http2.try_send(&frame(RST_STREAM, 0, 3, &8u32.to_be_bytes())));
    http2.round_trip();
    held.release();
    server.probe.notes.wait_for_nth("closed after", 2);
    for noise in ["Traceback", "ERROR", "WARN"] {
        assert_eq!(server.stderr.count(noise), 0, "{noise}");
    }
}
