//! Stops, reloads and other servers in the middle of an order.

use rustix::process::Signal;
use serde_json::json;

use super::{pebble, server, start, wait_for_certificate, wait_for_status, with_acme};
use crate::support::pebble::Pebble;
use crate::support::server::{Pyserve, Server};
use crate::support::{temp_dir, write_files};

/// The token of a challenge that is pending.
fn token(dir: &std::path::Path) -> (String, String) {
    let text = std::fs::read_to_string(dir.join("challenges.json")).unwrap();
    let pending: serde_json::Value = serde_json::from_str(&text).unwrap();
    let (token, answer) = pending["http"].as_object().unwrap().iter().next().unwrap();
    (token.clone(), answer.as_str().unwrap().to_owned())
}

fn answers(server: &Server, (token, answer): &(String, String)) -> bool {
    let target = format!("/.well-known/acme-challenge/{token}");
    let response = server.get(&target);
    response.status() == 200 && response.text() == *answer
}

#[track_caller]
fn wait_for_answer(server: &Server, pending: &(String, String)) {
    let began = std::time::Instant::now();
    while !answers(server, pending) {
        assert!(began.elapsed() < crate::support::DEADLINE, "no answer");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn a_server_that_is_killed_in_the_middle_of_an_order_continues_it() {
    let Some(mut pebble) = pebble("a restart in the middle of an order") else {
        return;
    };
    let dir = temp_dir();
    pebble.hold(Some("/chalZ/"));
    let mut first = server(&pebble, dir.path(), &["one.test"]).ready();
    let (plain, tls) = (first.port(), first.tls_port());
    start(&mut pebble, &first);
    pebble.wait_for("/chalZ/", 1);
    let pending = token(dir.path());
    assert!(answers(&first, &pending));
    first.signal(Signal::KILL);
    first.wait_exit();
    drop(first);
    pebble.drop_held();
    let second = Pyserve::app("environ.py").args([
        "--bind",
        &format!("127.0.0.1:{plain}"),
        "--bind",
        &format!("https://127.0.0.1:{tls}"),
    ]);
    let second = with_acme(second, &pebble, dir.path(), &["one.test"]).ready();
    wait_for_certificate(&second, "one.test", None);
    second.stderr.wait_for("order continued");
    assert_one_order(&pebble);
}

/// The authority has made one order: a nonce may be refused, and the request repeated.
#[track_caller]
pub(super) fn assert_one_order(pebble: &Pebble) {
    let log = pebble.log();
    let made = log.lines().filter(|line| line.contains("Added order "));
    assert_eq!(made.count(), 1, "{log}");
}

#[test]
fn a_stop_in_the_middle_of_an_order_is_quick() {
    let Some(mut pebble) = pebble("a stop in the middle of an order") else {
        return;
    };
    let dir = temp_dir();
    pebble.hold(Some("/chalZ/"));
    let mut server = server(&pebble, dir.path(), &["one.test"])
        .args(["--graceful-timeout", "20"])
        .ready();
    start(&mut pebble, &server);
    pebble.wait_for("/chalZ/", 1);
    let began = std::time::Instant::now();
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
    assert!(began.elapsed() < std::time::Duration::from_secs(15));
    pebble.hold(None);
}

#[test]
fn a_reload_keeps_the_pending_challenge_and_follows_changed_hosts() {
    let Some(mut pebble) = pebble("a reload in the middle of an order") else {
        return;
    };
    let dir = temp_dir();
    let settings = |names: &str| {
        let text = format!("acme = {names}\n");
        write_files(dir.path(), &[("pyserve.toml", &text)]);
    };
    settings(r#"["one.test"]"#);
    pebble.hold(Some("/chalZ/"));
    let store = dir.path().join("acme");
    let server = server(&pebble, &store, &[])
        .arg_file("--config", &dir.path().join("pyserve.toml"))
        .ready();
    start(&mut pebble, &server);
    pebble.wait_for("/chalZ/", 1);
    let pending = token(&store);
    server.signal(Signal::HUP);
    server.stderr.wait_for("reloaded in ");
    assert!(answers(&server, &pending));
    settings(r#"["one.test", "two.test"]"#);
    server.signal(Signal::HUP);
    server.stderr.wait_for_nth("reloaded in ", 2);
    wait_for_answer(&server, &pending);
    pebble.hold(None);
    wait_for_certificate(&server, "one.test", None);
    wait_for_certificate(&server, "two.test", None);
    settings(r#"["two.test"]"#);
    server.signal(Signal::HUP);
    server.stderr.wait_for_nth("reloaded in ", 3);
    let began = std::time::Instant::now();
    while server.status()["acme"].as_array().unwrap().len() != 1 {
        assert!(began.elapsed() < crate::support::DEADLINE);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    wait_for_status(&server, "two.test", "state", &json!("valid"));
}

#[test]
fn of_two_servers_with_one_directory_one_orders_both_answer_and_the_other_takes_over() {
    let Some(mut pebble) = pebble("two servers with one directory") else {
        return;
    };
    let dir = temp_dir();
    pebble.hold(Some("/chalZ/"));
    let first = server(&pebble, dir.path(), &["one.test"]).ready();
    let second = {
        first.stderr.wait_for("certificates by ACME");
        pebble.wait_for("/dir", 1);
        server(&pebble, dir.path(), &["one.test"]).ready()
    };
    second
        .stderr
        .wait_for("another server orders the certificates of this directory");
    // The authority reaches the other one, as behind a balancer.
    start(&mut pebble, &second);
    pebble.wait_for("/chalZ/", 1);
    wait_for_answer(&second, &token(dir.path()));
    drop(first);
    pebble.hold(None);
    wait_for_certificate(&second, "one.test", None);
    second.stderr.wait_for("order continued");
    assert_one_order(&pebble);
    // A third one only reads.
    let third = server(&pebble, dir.path(), &["one.test"]).ready();
    wait_for_certificate(&third, "one.test", None);
    wait_for_status(&third, "one.test", "state", &json!("valid"));
    assert_one_order(&pebble);
}
