//! Responses of every source that clients leave unread, over HTTP/1 and HTTP/2, with the memory
//! budget (`--memory-budget`) used up. `benches/attacks.py` has them in full size.

use std::time::Duration;

use crate::support::backend::{Backend, Call};
use crate::support::cost::{grown, many_descriptors, memory};
use crate::support::http2::{
    END_HEADERS, END_STREAM, HEADERS, Http2, Outcome, RST_STREAM, block, frame, get_fields,
};
use crate::support::raw::Connection;
use crate::support::server::{Pyserve, Server, get};
use crate::support::{apps, temp_dir, write_files};

/// The budget in MiB.
const BUDGET: u64 = 16;
/// MiB that may be resident beyond what was before: 1.25 times the budget, as in
/// `benches/attacks.py`.
const MOST: u64 = BUDGET + BUDGET / 4;
/// RFC 9113 §7.
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const LONG: usize = 1 << 20;
/// It fits into one read of an upstream's response.
const SHORT: usize = 3000;

struct Site {
    server: Server,
    before: u64,
    _behind: [Backend; 2],
    _dir: tempfile::TempDir,
}

/// Sends as many bytes as the end of the path says.
fn answer(call: &mut Call, target: &str) {
    let bytes: usize = target.rsplit('/').next().unwrap().parse().unwrap();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n");
    let _has_gone = !call.send(head) || !call.send(vec![b'y'; bytes]);
}

fn site() -> Site {
    many_descriptors();
    let uwsgi = Backend::unix(|mut call| {
        let packet = call.packet();
        answer(&mut call, &packet.vars["PATH_INFO"]);
    });
    let http = Backend::tcp(|mut call| {
        while let Some(head) = call.http_head() {
            answer(&mut call, head.split(' ').nth(1).unwrap());
        }
    });
    let dir = temp_dir();
    let toml = format!(
        r#"
        app = "every.py"
        chdir = "{}"
        memory_budget = "{BUDGET}M"
        threads = 4

        [[location]]
        prefix = "/files"
        static = "{}"

        [[location]]
        prefix = "/uwsgi"
        upstream = "uwsgi+{}"

        [[location]]
        prefix = "/http"
        upstream = "http://{}"
        "#,
        apps().display(),
        dir.path().join("files").display(),
        uwsgi.address(),
        http.address()
    );
    let (long, short) = ("x".repeat(8 * LONG), "x".repeat(SHORT));
    write_files(
        dir.path(),
        &[
            ("pyserve.toml", &*toml),
            ("files/long", &*long),
            ("files/short", &*short),
        ],
    );
    let server = Pyserve::new().current_dir(dir.path()).watched().ready();
    // Memory that is taken once belongs to no attack.
    for _ in 0..5 {
        for source in SOURCES {
            assert_eq!(server.get(source.1).status(), 200);
        }
    }
    Site {
        before: memory(&server),
        server,
        _behind: [uwsgi, http],
        _dir: dir,
    }
}

/// Names, and a long and a short response of each.
const SOURCES: [(&str, &str, &str); 4] = [
    ("file", "/files/long", "/files/short"),
    (
        "application",
        "/dressed?bytes=1000000&pieces=16",
        "/dressed?bytes=3000",
    ),
    ("uwsgi server", "/uwsgi/1000000", "/uwsgi/3000"),
    ("HTTP server", "/http/1000000", "/http/3000"),
];

/// Each from an address of its own: together they may have nearly all of the budget.
fn attacker(server: &Server, number: u8) -> Connection {
    Connection::tcp_from([127, 0, 1, number], server.port())
}

impl Site {
    /// Checks memory for a while, and that clients from other addresses are served.
    fn check(&self, what: &str, round: u8) {
        let mut most = 0;
        for _ in 0..10 {
            most = most.max(grown(&self.server, self.before));
            let mut client = Connection::tcp_from([127, 0, 2, round], self.server.port());
            assert_eq!(client.exchange(get("/hello")).text(), "hello", "{what}");
            std::thread::sleep(Duration::from_millis(30));
        }
        let client = Connection::tcp_from([127, 0, 3, round], self.server.port());
        let mut http2 = Http2::new(client);
        http2.headers(1, &get_fields("/hello"), true);
        let hello = Outcome::Response(200, b"hello".to_vec());
        assert_eq!(http2.outcome(1), hello, "{what}");
        println!("{what}: {most} MiB, {MOST} allowed");
        assert!(most <= MOST, "{what}: {most} MiB, {MOST} allowed");
    }
}

#[test]
fn http1_responses_stay_within_the_budget_and_others_are_served() {
    let site = site();
    for (round, (source, long, _)) in (1..).zip(SOURCES) {
        let open = |number| {
            let source = [127, 0, 1, number];
            let mut connection = Connection::tcp_that_takes_little_from(source, site.server.port());
            connection.send(get(long));
            connection
        };
        let unread: Vec<_> = (1..200).map(open).collect();
        site.check(source, round);
        drop(unread);
        // Also of responses whose clients leave while they are written to a file.
        let held = "pyserve_response_memory_bytes";
        site.server.wait_for_metric(held, 0.0);
    }
}

#[test]
fn http2_responses_stay_within_the_budget_and_others_are_served() {
    let site = site();
    let mut round = 0;
    for (source, long, short) in SOURCES {
        for (path, window) in [(long, 1), (long, 1 << 30), (short, 1)] {
            let asked = |stream| {
                frame(
                    HEADERS,
                    END_HEADERS | END_STREAM,
                    stream,
                    &block(&get_fields(path)),
                )
            };
            let burst: Vec<u8> = (1..200).step_by(2).flat_map(asked).collect();
            let open = |number| {
                let mut http2 = Http2::with_window(attacker(&site.server, number), window);
                http2.try_send(&burst);
                http2
            };
            let _unread: Vec<_> = (1..25).map(open).collect();
            round += 1;
            site.check(&format!("{source}, {path}, window {window}"), round);
        }
    }
}

/// Streams that a connection opens, with what they get: heads of responses by status, and resets by
/// code.
fn begun(http2: &mut Http2, streams: std::ops::Range<u32>, path: &str) -> (Vec<u32>, Vec<u32>) {
    let (mut heads, mut resets) = (Vec::new(), Vec::new());
    for stream in streams.clone().step_by(2) {
        http2.headers(stream, &get_fields(path), true);
    }
    while heads.len() + resets.len() < streams.len() / 2 {
        let frame = http2.frame().expect("the connection goes on");
        match frame.kind {
            HEADERS => heads.push(frame.stream),
            RST_STREAM => {
                let code = u32::from_be_bytes(frame.payload[..4].try_into().unwrap());
                assert_eq!(code, REFUSED_STREAM);
                resets.push(frame.stream);
            }
            _ => {}
        }
    }
    (heads, resets)
}

/// RFC 9113 §8.7: REFUSED_STREAM says that nothing was processed. RFC 9110 §15.6.4: 503.
#[test]
fn http2_streams_without_memory_get_few_pages_and_then_resets_that_cost_no_connection() {
    let server = Pyserve::app("every.py")
        .args(["--memory-budget", "16M", "--threads", "2"])
        .watched()
        .ready();
    let refused = r#"pyserve_rejections_total{reason="memory"}"#;
    let mut http2 = Http2::with_window(server.connect(), 0);
    // A connection may have a fifth of the budget.
    let (heads, resets) = begun(&mut http2, 1..241, "/dressed?bytes=3000");
    let pages = server.metric(refused).unwrap() as usize - resets.len();
    assert!((1..=4).contains(&pages), "{pages}");
    assert!(resets.len() > 20, "{}", resets.len());
    // More than a client may provoke.
    for first in [241, 441, 641] {
        let (others, resets) = begun(&mut http2, first..first + 200, "/journal");
        assert_eq!((others.len(), resets.len()), (0, 100));
    }
    assert_eq!(
        server.probe.notes.count("/journal"),
        0,
        "nothing was processed"
    );
    // What it gives up is free for others of its streams.
    for stream in heads {
        assert!(http2.try_send(&frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())));
    }
    http2.round_trip();
    http2.headers(1001, &get_fields("/dressed?bytes=0"), true);
    assert_eq!(http2.outcome(1001), Outcome::Response(200, Vec::new()));
}

#[test]
fn malformed_http2_requests_without_memory_are_reset_too() {
    let server = Pyserve::app("every.py")
        .args(["--memory-budget", "4M", "--threads", "2"])
        .watched()
        .ready();
    let mut held = Vec::new();
    for number in 1..30 {
        let mut http2 = Http2::with_window(attacker(&server, number), 0);
        let fields = [get_fields("/hello").as_slice(), &[("Upper", "case")]].concat();
        for stream in (1..201).step_by(2) {
            http2.headers(stream, &fields, true);
        }
        http2.round_trip();
        held.push(http2);
    }
    let mut reset = 0;
    for http2 in &mut held {
        http2.headers(201, &get_fields("/hello"), true);
        let mut last = (0, 0);
        while last.1 != 201 {
            let frame = http2.frame().expect("the connection goes on");
            last = (frame.kind, frame.stream);
        }
        reset += usize::from(last.0 == RST_STREAM);
    }
    assert!(reset > 10, "{reset}");
}
