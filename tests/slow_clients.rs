//! Clients that take a response slower than the application makes it: it waits in memory and
//! in a file, the worker is free, and nothing is lost, cut or taken for complete.

use std::time::Instant;

use crate::support::DEADLINE;
use crate::support::http2::{Http2, Outcome};
use crate::support::probe::Held;
use crate::support::raw::{Connection, End};
use crate::support::server::{Pyserve, Server, get};

crate::clients_over_tls! {
    a_long_response_is_taken_off_the_only_worker_and_arrives_byte_for_byte,
    a_worker_that_dies_breaks_the_response_although_its_beginning_is_in_a_file,
    events_arrive_one_by_one_and_a_client_that_leaves_closes_the_stream,
}

const BLOCK: usize = 64 << 10;
const BLOCKS: usize = 400;

/// What `long.py` sends.
fn numbered(blocks: usize) -> Vec<u8> {
    (0..blocks as u64)
        .flat_map(|block| block.to_le_bytes().repeat(BLOCK / 8))
        .collect()
}

fn long() -> Pyserve {
    Pyserve::app("long.py")
}

/// A client that has asked for this and takes nothing.
fn asking(server: &Server, target: &str) -> Connection {
    let mut client = server.connect();
    client.send(get(target));
    client
}

#[test]
fn a_long_response_is_taken_off_the_only_worker_and_arrives_byte_for_byte() {
    let server = long().ready();
    for (turn, length) in ["", "&length=yes"].into_iter().enumerate() {
        let mut slow = asking(&server, &format!("/?blocks={BLOCKS}{length}"));
        server.probe.notes.wait_for_nth("all taken", 3 * turn + 1);
        assert_eq!(server.get("/?blocks=1").body, numbered(1), "in between");
        let response = slow.response();
        assert_eq!(response.broken, None);
        assert!(
            response.body == numbered(BLOCKS),
            "{} bytes",
            response.body.len()
        );
        // The connection is still in step.
        slow.send(get("/?blocks=2"));
        assert_eq!(slow.response().body, numbered(2));
    }
}

#[test]
fn the_same_over_http2() {
    let server = long().ready();
    let mut slow = Http2::new(server.connect());
    let target = format!("/?blocks={BLOCKS}");
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "localhost"),
        (":path", &*target),
    ];
    slow.headers(1, &fields, true);
    server.probe.notes.wait_for("all taken");
    assert_eq!(server.get("/?blocks=1").body, numbered(1));
    slow.allow(1, 1 << 30);
    match slow.outcome(1) {
        Outcome::Response(200, body) => assert!(body == numbered(BLOCKS), "{}", body.len()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_worker_that_dies_breaks_the_response_although_its_beginning_is_in_a_file() {
    let server = long().ready();
    for length in ["", "&length=yes"] {
        let dies = BLOCKS - 1;
        let mut slow = asking(&server, &format!("/?blocks={BLOCKS}&dies={dies}{length}"));
        server.stderr.wait_for("request lost");
        let response = slow.response();
        assert!(
            matches!(response.broken, Some(End::Closed | End::Reset)),
            "{:?}",
            response.broken
        );
        let expected = numbered(dies);
        assert!(
            response.body.len() > BLOCKS / 2 * BLOCK,
            "{}",
            response.body.len()
        );
        assert!(expected.starts_with(&response.body));
    }
}

/// Whether the only worker is held by a client that takes nothing of a long response; the
/// response is whole in either case.
fn holds_the_worker(builder: Pyserve, target: &str) -> bool {
    let server = builder.args(["--queue-timeout", "1s"]).ready();
    let mut slow = asking(&server, &format!("/?blocks={BLOCKS}{target}"));
    let head = slow.response_to_head();
    assert_eq!(head.status(), 200);
    let status = loop {
        let response = server.get("/?blocks=1");
        // The worker is busy for a moment even if it is not held.
        match response.status() {
            503 if server
                .probe
                .notes
                .so_far()
                .iter()
                .any(|note| note == "all taken") => {}
            status => break status,
        }
    };
    let mut body = Vec::new();
    while let Ok(chunk) = slow.chunk() {
        if chunk.is_empty() {
            assert!(body == numbered(BLOCKS), "{} bytes", body.len());
            return status == 503;
        }
        body.extend(chunk);
    }
    panic!("broken after {} bytes", body.len());
}

#[test]
fn beyond_its_limit_on_disk_a_response_waits_in_the_worker_and_is_not_cut() {
    assert!(!holds_the_worker(long(), ""));
    let limited = long().args(["--max-response-spool", "2M"]);
    assert!(holds_the_worker(limited, ""));
    let limited = long().args(["--response-spool-total", "2M"]);
    assert!(holds_the_worker(limited, ""));
    assert!(holds_the_worker(
        long().args(["--max-response-spool", "no"]),
        ""
    ));
}

#[test]
fn without_buffering_the_worker_waits_for_its_client() {
    assert!(holds_the_worker(long().args(["--buffering", "no"]), ""));
    assert!(holds_the_worker(long(), "&buffering=no"));
    assert!(!holds_the_worker(long(), "&buffering=yes"));
}

#[test]
fn a_disk_that_takes_nothing_costs_a_worker_and_no_bytes_and_is_told_once() {
    let builder = long();
    let spool = builder.path("spool");
    std::fs::create_dir(&spool).unwrap();
    let server = builder
        .args(["--workers", "2", "--temp-dir"])
        .args([&spool])
        .ready();
    std::fs::remove_dir_all(&spool).unwrap();
    let target = format!("/?blocks={BLOCKS}");
    let mut first = asking(&server, &target);
    server.stderr.wait_for("cannot spool responses");
    let mut second = asking(&server, &target);
    for slow in [&mut first, &mut second] {
        assert!(slow.response().body == numbered(BLOCKS));
    }
    let output = server.stderr.so_far();
    let lines = output.iter().filter(|line| line.contains("cannot spool"));
    assert_eq!(lines.count(), 1, "{output:#?}");
}

#[test]
fn slow_readers_of_long_responses_hold_little_memory_and_no_worker() {
    let server = long().ready();
    let before = server.anonymous_memory();
    let target = format!("/?blocks={BLOCKS}");
    let mut readers: Vec<_> = (0..20).map(|_| asking(&server, &target)).collect();
    server.probe.notes.wait_for_nth("all taken", 20);
    assert_eq!(server.get("/?blocks=1").body, numbered(1));
    let grown = server.anonymous_memory().saturating_sub(before);
    // 64 KiB in hyper's hands, as much in ours, and what the allocator keeps.
    assert!(grown < 20 * 400 * 1024, "{grown} bytes for 20 readers");
    let expected = numbered(BLOCKS);
    for reader in &mut readers {
        assert!(reader.response().body == expected);
    }
}

#[test]
fn what_a_stalled_upload_has_sent_lies_on_disk_but_for_a_few_bytes() {
    const UPLOADS: usize = 20;
    let server = long().watched().ready();
    let on_disk = || {
        let page = server.admin("/-/metrics").text();
        let of_requests = page
            .lines()
            .find_map(|line| line.strip_prefix("pyserve_spool_bytes{of=\"requests\"} "));
        of_requests.expect("a sample").parse::<usize>().unwrap()
    };
    let body = vec![b'x'; 500_000];
    let mut uploads = Vec::new();
    for _ in 0..UPLOADS {
        let mut client = server.connect();
        client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n");
        client.send(&body);
        uploads.push(client);
    }
    // Less than what is worth a write stays in memory.
    let began = Instant::now();
    while on_disk() < UPLOADS * (body.len() - (8 << 10)) {
        assert!(began.elapsed() < DEADLINE, "{} bytes", on_disk());
        std::thread::yield_now();
    }
}

#[test]
fn events_arrive_one_by_one_and_a_client_that_leaves_closes_the_stream() {
    let server = Pyserve::app("events.py")
        .args(["--access-log", "combined"])
        .ready();
    for (turn, target) in ["/", "/?buffering=no", "/?buffering=yes"]
        .into_iter()
        .enumerate()
    {
        let mut client = asking(&server, target);
        server.probe.held("before event 0").release();
        let head = client.response_to_head();
        let kind = head.header("Content-Type");
        assert_eq!(kind.as_deref(), Some("text/event-stream"));
        let mut next = None;
        for number in 0..3 {
            if let Some(next) = next.take() {
                Held::release(next);
            }
            let event = client.chunk().unwrap();
            assert_eq!(event, format!("data: event {number}\n\n").as_bytes());
            // The next one has not been made.
            next = Some(server.probe.held(&format!("before event {}", number + 1)));
        }
        client.reset();
        server.stdout.wait_for_nth(" 499 ", turn + 1);
        next.unwrap().release();
        let noted = server.probe.notes.wait_for_nth("closed after", turn + 1);
        assert_eq!(noted, "closed after 4", "one event is made for nobody");
    }
}

#[test]
fn one_address_leaves_room_on_disk_for_the_responses_of_others() {
    let server = long()
        .watched()
        .args(["--proxy-protocol", "127.0.0.1", "--threads", "8"])
        .args(["--response-spool-total", "16M"])
        .ready();
    let ask = |address: &str, blocks: usize| {
        let mut client = server.connect();
        let proxied = format!("PROXY TCP4 {address} 203.0.113.1 4000 80\r\n");
        client.send(proxied + &get(&format!("/?blocks={blocks}")));
        client
    };
    // 100 MB for four readers of one address that take nothing.
    let _greedy: Vec<_> = (0..4).map(|_| ask("203.0.113.9", BLOCKS)).collect();
    let on_disk = || {
        server
            .metric("pyserve_spool_bytes{of=\"responses\"}")
            .unwrap_or(0.0)
    };
    let began = Instant::now();
    let mut before = 0.0;
    // As much as they get.
    while before < 6e6 || before < on_disk() {
        before = on_disk();
        assert!(began.elapsed() < DEADLINE, "{before} bytes on disk");
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
    assert!(
        before <= 8.0 * 1024.0 * 1024.0,
        "{before}: half is its part"
    );
    let mut other = ask("203.0.113.10", 40);
    server.probe.notes.wait_for("all taken");
    assert!(other.response().body == numbered(40));
}

#[test]
fn one_address_leaves_room_on_disk_for_the_uploads_of_others() {
    let server = Pyserve::app("held.py")
        .args(["--proxy-protocol", "127.0.0.1", "--threads", "8"])
        .args(["--max-spool", "1M"])
        .ready();
    let upload = |address: &str, target: &str| {
        let mut client = server.connect();
        let proxied = format!("PROXY TCP4 {address} 203.0.113.1 4000 80\r\n");
        let body = "x".repeat(200_000);
        let _ = client.try_send(proxied + &crate::support::server::post(target, &body));
        client
    };
    // 400 of 1,024 KB; the next would leave less than it has.
    let _held: Vec<_> = ["/1", "/2"]
        .map(|target| (upload("203.0.113.9", target), server.probe.held(target)))
        .into();
    let mut third = upload("203.0.113.9", "/gone/3");
    assert_eq!(third.response().status(), 503);
    let mut other = upload("203.0.113.10", "/gone/4");
    assert_eq!(other.response().status(), 200);
}
