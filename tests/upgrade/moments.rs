//! Signals and orders at each moment of an upgrade.

use super::*;
use crate::support::probe::Held;

/// A server whose new process imports its application.
fn starting(site: &Site) -> (Server, Held, Pid) {
    let server = site.pyserve().ready();
    site.hold_next_start();
    server.signal(Signal::USR2);
    let import = server.probe.held("importing");
    let new = logged_pid(&server, "starts its applications pid=");
    site.hold_no_more();
    (server, import, new)
}

/// A server whose old process holds a request, while the new one serves.
fn draining(site: &Site) -> (Server, Connection, Held, Pid) {
    let server = site.pyserve().ready();
    let (connection, held) = server.hold("/inside");
    let new = upgrade(&server);
    (server, connection, held, new)
}

#[test]
fn while_the_new_process_starts_a_stop_ends_both() {
    let site = Site::new();
    for (signal, code) in [(Signal::TERM, 0), (Signal::INT, 0), (Signal::QUIT, 131)] {
        let (mut server, import, new) = starting(&site);
        server.signal(signal);
        assert_eq!(server.wait_exit(), code);
        drop(import);
        wait_until("the new process ends", || has_ended(new));
    }
    let (mut server, import, new) = starting(&site);
    assert_eq!(verb(&server, &["stop"]).code, 0);
    assert_eq!(server.wait_exit(), 0);
    drop(import);
    wait_until("the new process ends", || has_ended(new));
    // As systemd and a terminal do, to all processes.
    let (mut server, import, new) = starting(&site);
    kill(new, Signal::TERM);
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
    drop(import);
    wait_until("the new process ends", || has_ended(new));
}

#[test]
fn while_the_new_process_starts_a_reload_follows_and_another_upgrade_is_refused() {
    let site = Site::new();
    let (server, import, _) = starting(&site);
    let refused = verb(&server, &["upgrade"]);
    assert_eq!(refused.code, 1);
    assert!(
        refused.stderr.contains("another one is under way"),
        "{}",
        refused.stderr
    );
    server.signal(Signal::USR2);
    server
        .stderr
        .wait_for_nth("no upgrade: another one is under way", 2);
    let refused = verb(&server, &["reload"]);
    assert_eq!(refused.code, 1);
    assert!(
        refused.stderr.contains("an upgrade is under way"),
        "{}",
        refused.stderr
    );
    assert_eq!(server.stderr.count("the reload follows it"), 0);
    server.signal(Signal::HUP);
    server
        .stderr
        .wait_for("an upgrade is under way: the reload follows it");
    assert_eq!(verb(&server, &["scale", "2"]).code, 0);
    assert_eq!(server.get("/").status(), 200);
    import.release();
    server.stderr.wait_for("upgraded from pyserve ");
    server.stderr.wait_for("reloaded in ");
    wait_until("two workers", || {
        verb(&server, &["status"])
            .stdout
            .contains("2 of 2 to 2 workers")
    });
}

#[test]
fn after_a_failed_upgrade_the_reload_takes_place_here() {
    let site = Site::new();
    let (server, import, new) = starting(&site);
    let before = server.get("/").text();
    server.signal(Signal::HUP);
    server.stderr.wait_for("the reload follows it");
    kill(new, Signal::KILL);
    drop(import);
    server.stderr.wait_for("keeps serving: it ended before");
    server.stderr.wait_for("reloaded in ");
    assert_ne!(server.get("/").text(), before);
}

#[test]
fn an_upgrade_is_refused_while_the_server_starts_reloads_or_stops() {
    let site = Site::new();
    site.hold_next_start();
    let server = site.pyserve().listening();
    let import = server.probe.held("importing");
    server.signal(Signal::USR2);
    server
        .stderr
        .wait_for("no upgrade: the server is not ready yet");
    import.release();
    server.stderr.wait_for("ready in ");
    server.signal(Signal::HUP);
    let import = server.probe.held("importing");
    let refused = verb(&server, &["upgrade"]);
    assert!(
        refused.stderr.contains("a reload is under way"),
        "{}",
        refused.stderr
    );
    assert_eq!(refused.code, 1);
    import.release();
    server.stderr.wait_for("reloaded in ");
    let (mut connection, held) = server.hold("/inside");
    server.signal(Signal::TERM);
    server.stderr.wait_for("finishing in-flight requests");
    server.signal(Signal::USR2);
    server.stderr.wait_for("no upgrade: the server is stopping");
    held.release();
    assert_eq!(connection.response().status(), 200);
}

#[test]
fn while_the_old_process_drains_signals_are_for_the_new_one() {
    let site = Site::new();
    let (mut server, mut connection, held, new) = draining(&site);
    server.signal(Signal::HUP);
    server.stderr.wait_for("reloaded in ");
    server.signal(Signal::USR2);
    server.stderr.wait_for_nth("upgraded from pyserve ", 2);
    let third = main_pid(&server);
    assert_ne!(third, new);
    wait_until("the second process ends", || has_ended(new));
    held.release();
    assert_eq!(connection.response().status(), 200);
    assert_eq!(connection.rest().0, b"");
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
    assert!(has_ended(third));
}

#[test]
fn a_stop_while_the_old_process_drains_loses_no_request() {
    let site = Site::new();
    for to_all in [false, true] {
        let (mut server, mut connection, held, new) = draining(&site);
        let mut late = server.connect();
        late.send(get("/late"));
        let late_held = server.probe.held("/late");
        server.signal(Signal::TERM);
        if to_all {
            kill(new, Signal::TERM);
        }
        server.stderr.wait_for("stopping gracefully");
        late_held.release();
        assert_eq!(late.response().status(), 200);
        held.release();
        assert_eq!(connection.response().status(), 200);
        assert_eq!(server.wait_exit(), 0);
        assert_eq!(server.stderr.count("second signal"), 0);
    }
}

#[test]
fn a_second_signal_ends_everything_at_once() {
    let site = Site::new();
    let (mut server, _connection, _held, new) = draining(&site);
    let mut late = server.connect();
    late.send(get("/late"));
    let _late_held = server.probe.held("/late");
    server.signal(Signal::TERM);
    server.stderr.wait_for("stopping gracefully");
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 143);
    wait_until("the new process ends", || has_ended(new));
}
