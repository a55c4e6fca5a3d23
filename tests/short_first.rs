//! Requests of routes that have been short overtake those of long ones in the queue.

use crate::support::raw::Connection;
use crate::support::server::{Pyserve, Server, get};

const WAITING: &str = r#"pyserve_queue_waiting{application="paces.py"}"#;
const HANDED_OUT: &str = r#"pyserve_queue_handed_out{application="paces.py"}"#;
const OVERTAKES: &str = r#"pyserve_queue_overtakes_total{application="paces.py"}"#;

/// A server with one thread that has had some requests of each route.
fn server(args: &[&str]) -> Server {
    let server = Pyserve::app("paces.py")
        .watched()
        .args(["--workers", "1", "--threads", "1"])
        .args(args)
        .ready();
    for target in [
        "/long/1", "/long/2", "/long/3", "/short", "/short", "/short",
    ] {
        assert_eq!(server.get(target).text(), target);
    }
    server
}

/// The order in which requests are run that have waited together: four long ones, two short ones.
fn order(server: &Server) -> Vec<String> {
    let (mut running, held) = server.hold("/held");
    let before = 7;
    server.probe.notes.wait_for_nth("called ", before);
    let targets = [
        "/long/4", "/long/5", "/short", "/long/6", "/short", "/long/7",
    ];
    let mut waiting: Vec<Connection> = Vec::new();
    for (at, target) in targets.iter().enumerate() {
        let mut connection = server.connect();
        connection.send(get(target));
        waiting.push(connection);
        // Those handed out ahead of the thread, and those in the queue behind them.
        let count = || server.metric(WAITING).unwrap() + server.metric(HANDED_OUT).unwrap();
        let began = std::time::Instant::now();
        while count() < at as f64 + 2.0 {
            assert!(began.elapsed() < crate::support::DEADLINE);
            std::thread::yield_now();
        }
    }
    held.release();
    assert_eq!(running.response().status(), 200);
    for (connection, target) in waiting.iter_mut().zip(targets) {
        assert_eq!(connection.response().text(), target);
    }
    server
        .probe
        .notes
        .wait_for_nth("called ", before + targets.len());
    let notes = server.probe.notes.so_far();
    let called = notes[before..]
        .iter()
        .filter_map(|note| note.strip_prefix("called "));
    called.map(str::to_owned).collect()
}

#[test]
fn short_requests_overtake_long_ones() {
    let server = server(&[]);
    let expected = [
        "/short", "/short", "/long/4", "/long/5", "/long/6", "/long/7",
    ];
    assert_eq!(order(&server), expected);
    assert_eq!(server.metric(OVERTAKES), Some(2.0));
}

#[test]
fn without_the_setting_requests_are_served_in_their_order() {
    let server = server(&["--short-first", "no"]);
    let expected = [
        "/long/4", "/long/5", "/short", "/long/6", "/short", "/long/7",
    ];
    assert_eq!(order(&server), expected);
    assert_eq!(server.metric(OVERTAKES), Some(0.0));
}
