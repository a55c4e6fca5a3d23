//! What floods of HTTP/2 cost (RFC 9113 §10.5): no work for the application, no memory, and
//! little of the time of the others.

use std::time::Duration;

use crate::support::cost::{grown, memory};
use crate::support::http2::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, Http2, Outcome, PADDED, PING,
    PRIORITY, RST_STREAM, SETTINGS, UNKNOWN, WINDOW_UPDATE, block, frame, get_fields,
};
use crate::support::others::Others;
use crate::support::probe::Held;
use crate::support::raw::{Connection, End};
use crate::support::server::{Pyserve, Server, get};

/// RFC 9113 §7: the peer may be generating excessive load.
const ENHANCE_YOUR_CALM: u32 = 11;

fn request(path: &str) -> Vec<u8> {
    block(&get_fields(path))
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

/// Heads that unpack to megabytes, on streams of one connection.
fn bomb() -> Vec<u8> {
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
    attack
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
    let path = get_fields("/gone/reset");
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
fn requests_that_are_refused_without_end_end_the_connection() {
    let server = Pyserve::app("every.py").ready();
    // Malformed by a name in upper case (RFC 9113 §8.2.1), and too large.
    let malformed = block(&[&get_fields("/hello")[..], &[("Upper", "x")]].concat());
    let long = "x".repeat(70_000);
    let one = |at: u32, fields: &[u8]| {
        let stream = 2 * at + 1;
        let mut frames = Vec::new();
        let mut parts = fields.chunks(16_384).peekable();
        let mut kind = HEADERS;
        while let Some(part) = parts.next() {
            let end = if parts.peek().is_none() {
                END_HEADERS
            } else {
                0
            };
            let flags = if kind == HEADERS {
                end | END_STREAM
            } else {
                end
            };
            frames.extend(frame(kind, flags, stream, part));
            kind = CONTINUATION;
        }
        frames
    };
    let large = block(&[&get_fields("/hello")[..], &[("x", &long)]].concat());
    for (fields, count) in [(&malformed, 3000), (&large, 300)] {
        let attack: Vec<u8> = (0..count).flat_map(|at| one(at, fields)).collect();
        let http2 = Http2::new(server.connect());
        let (codes, end) = check_flood(&server, http2, &attack);
        assert_ne!(end, End::TimedOut, "given up");
        assert!(
            codes.is_empty() || codes == [ENHANCE_YOUR_CALM],
            "{codes:?}"
        );
    }
    server
        .stderr
        .wait_for("too many HTTP/2 streams reset by the client");
    // As many as a client may have open are refused one by one.
    let mut http2 = Http2::new(server.connect());
    for stream in (1..200).step_by(2) {
        assert!(http2.try_send(&one(stream / 2, &malformed)));
        http2.round_trip();
    }
    http2.headers(201, &get_fields("/hello"), true);
    assert_eq!(http2.response_to(201, 0).0, 200);
}

#[test]
fn resets_that_a_client_provokes_and_does_not_read_are_bounded() {
    let server = Pyserve::app("every.py").ready();
    let most = 0x7FFF_FFFF;
    let mut http2 = Http2::with_window(server.connect(), most);
    assert!(http2.try_send(&frame(WINDOW_UPDATE, 0, 0, &(most - 65_535).to_be_bytes())));
    // Together far more than the kernel buffers: nothing that comes behind them is sent.
    let full: Vec<u8> = (0..40)
        .flat_map(|number| {
            let head = request("/long?blocks=16");
            frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, &head)
        })
        .collect();
    assert!(http2.try_send(&full));
    server.probe.notes.wait_for_nth("all taken", 40);
    let beyond = most.to_be_bytes();
    let attack: Vec<u8> = (40..40_000)
        .flat_map(|number| {
            let stream = 2 * number + 1;
            let open = frame(HEADERS, END_HEADERS, stream, &request("/echo"));
            [open, frame(WINDOW_UPDATE, 0, stream, &beyond)].concat()
        })
        .collect();
    let (_, end) = check_flood(&server, http2, &attack);
    assert_ne!(end, End::TimedOut);
    // By the resets that were sent before the kernel was full, or by those that wait.
    server.stderr.wait_for("connection closed: too many ");
}

#[test]
fn streams_that_a_trusted_proxy_makes_the_server_reset_do_not_end_its_connection() {
    let server = Pyserve::app("every.py")
        .args(["--trust", "127.0.0.1"])
        .ready();
    let mut http2 = Http2::new(server.connect());
    let beyond = 0x7FFF_FFFFu32.to_be_bytes();
    for stream in (1..4000).step_by(2) {
        let open = frame(HEADERS, END_HEADERS, stream, &request("/echo"));
        assert!(http2.try_send(&[open, frame(WINDOW_UPDATE, 0, stream, &beyond)].concat()));
        if stream % 100 == 1 {
            http2.round_trip();
        }
    }
    http2.headers(4001, &get_fields("/hello"), true);
    assert_eq!(http2.outcome(4001), Outcome::Response(200, b"hello".into()));
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
    let http2 = Http2::new(server.connect());
    let (_, end) = check_flood(&server, http2, &bomb());
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
    server.stderr.wait_for("too many HTTP/2 control frames");
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
    let fields = get_fields("/hello");
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
    let fields = get_fields("/gone/two");
    http2.headers(1, &fields, true);
    http2.round_trip();
    http1.reset();
    // A FIN this soon would be a half-close.
    http2.reset();
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
    let fields = get_fields("/");
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

/// So many streams, a request for `path` and a frame on each.
fn streams(count: u32, path: &str, kind: u8, payload: &[u8]) -> Vec<u8> {
    let each = (0..count).flat_map(|number| {
        let stream = 2 * number + 1;
        let open = frame(HEADERS, END_HEADERS | END_STREAM, stream, &request(path));
        [open, frame(kind, 0, stream, payload)].concat()
    });
    each.collect()
}

#[test]
fn others_notice_little_of_floods() {
    const PAUSE: Duration = Duration::from_millis(5);
    let window = 0x7FFF_FFFF_u32.to_be_bytes();
    let open = frame(HEADERS, END_HEADERS, 1, &request("/journal"));
    let many = |frame: Vec<u8>| [&open[..], &frame.repeat(10_000)].concat();
    let endless = frame(CONTINUATION, 0, 1, &[0x40; 100]).repeat(10_000);
    let attacks = [
        (
            "resets",
            streams(5000, "/journal", RST_STREAM, &[0, 0, 0, 8]),
        ),
        (
            "our resets",
            streams(5000, "/journal", WINDOW_UPDATE, &window),
        ),
        (
            "no end",
            [frame(HEADERS, 0, 1, &request("/")), endless].concat(),
        ),
        ("HPACK", bomb()),
        ("SETTINGS", many(frame(SETTINGS, 0, 0, &[]))),
        ("PING", many(frame(PING, 0, 0, &[0; 8]))),
        ("empty DATA", many(frame(DATA, 0, 1, &[]))),
        (
            "WINDOW_UPDATE",
            many(frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ),
    ];
    let server = Pyserve::app("every.py").ready();
    let mut others = Others::of(&server);
    let before = memory(&server);
    for (name, attack) in attacks {
        let mut connections = 0;
        others.notice_little_of(|| {
            let mut http2 = Http2::new(server.connect());
            // It is cut off in the middle. The next one comes when this one has ended, after a
            // pause: a server built without optimisation needs ten times as long for each, and
            // more of them would measure that.
            http2.try_send(&attack);
            assert_ne!(http2.farewell().1, End::TimedOut, "{name}: given up");
            connections += 1;
            std::thread::sleep(PAUSE);
        });
        let grown = grown(&server, before);
        println!("{name}: {connections} connections, {grown} MB more");
        assert!(grown < 30, "{name}: {grown} MB");
    }
}

#[test]
fn others_notice_little_of_windows_that_stay_shut() {
    const CONNECTIONS: usize = 10;
    const STREAMS: usize = 100;
    let server = Pyserve::app("every.py").ready();
    let mut others = Others::of(&server);
    let before = memory(&server);
    let held: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let mut http2 = Http2::with_window(server.connect(), 0);
            for number in 0..STREAMS as u32 {
                let head = request("/journal?ignore");
                let open = frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, &head);
                assert!(http2.try_send(&open));
            }
            http2
        })
        .collect();
    // All answers are made, and none may be sent.
    let notes = &server.probe.notes;
    notes.wait_for_nth("called GET /journal", CONNECTIONS * STREAMS);
    others.notice_little_after(|| {});
    let grown = grown(&server, before);
    println!("{grown} MB more");
    assert!(grown < 60, "{grown} MB");
    drop(held);
}

#[test]
fn a_client_that_asks_for_much_and_never_reads_is_given_up_in_time() {
    const STREAMS: u32 = 100;
    let server = Pyserve::app("every.py")
        .args(["--body-timeout", "500ms", "--log-level", "debug"])
        .ready();
    let before = memory(&server);
    let most = 0x7FFF_FFFF;
    let mut http2 = Http2::with_window(server.connect(), most);
    assert!(http2.try_send(&frame(WINDOW_UPDATE, 0, 0, &(most - 65_535).to_be_bytes())));
    for number in 0..STREAMS {
        // Together far more than the kernel buffers.
        let head = request("/long?blocks=16");
        let open = frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, &head);
        assert!(http2.try_send(&open));
    }
    server.stderr.wait_for("connection closed: the client");
    let grown = grown(&server, before);
    println!("{grown} MB more");
    assert!(grown < 60, "{grown} MB");
    assert_ne!(http2.farewell().1, End::TimedOut);
    assert_eq!(server.get("/hello").text(), "hello");
}
