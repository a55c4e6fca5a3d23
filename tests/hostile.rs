//! Workers that damage what they share with the server: it costs requests of their own
//! application until they are replaced, and nothing else.

use std::time::Instant;

use crate::support::raw::End;
use crate::support::server::{Pyserve, Server, get, request};
use crate::support::{DEADLINE, apps, temp_dir, write_files};

/// Two workers of the hostile application, and another application beside them.
fn server(dir: &tempfile::TempDir) -> Server {
    server_with(dir, "2")
}

fn server_with(dir: &tempfile::TempDir, request_timeout: &str) -> Server {
    let toml = format!(
        "app = {hostile:?}\nworkers = 2\nrequest_timeout = {request_timeout}\n\
         [[location]]\nprefix = '/neighbour'\napp = {hello:?}\nworkers = 1\n",
        hostile = apps().join("hostile.py"),
        hello = apps().join("hello.py"),
    );
    write_files(dir.path(), &[("pyserve.toml", &toml)]);
    Pyserve::new()
        .without("PYSERVE_WORKERS")
        .env("PYTHONPATH", apps())
        .current_dir(dir.path())
        .ready()
}

/// Asks the hostile application until it answers as it should; its neighbour always does.
fn heals(server: &Server, damage: &str) {
    let began = Instant::now();
    let mut in_a_row = 0;
    while in_a_row < 5 {
        let neighbour = server.get("/neighbour/");
        assert_eq!(neighbour.status(), 200, "{damage}: {neighbour:?}");
        let mut connection = server.connect();
        let answer = connection.exchange(get("/"));
        let status = answer.status();
        assert!(
            matches!(status, 200 | 502 | 503 | 504),
            "{damage}: {answer:?}"
        );
        in_a_row = if status == 200 { in_a_row + 1 } else { 0 };
        assert!(began.elapsed() < DEADLINE, "{damage}: {answer:?}");
    }
}

fn do_damage(server: &Server, damage: &str) {
    let mut connection = server.connect();
    connection.send(request(
        "GET",
        &format!("/{damage}"),
        "Connection: close\r\n",
    ));
    // The request that did it has an end, too.
    let (answer, end) = connection.rest();
    assert_eq!(
        end,
        End::Closed,
        "{damage}: {}",
        String::from_utf8_lossy(&answer)
    );
}

#[test]
fn an_overwritten_scoreboard_ends_neither_the_server_nor_another_application() {
    for damage in ["overwrite_start", "overwrite_all", "clear_all"] {
        let dir = temp_dir();
        let server = server(&dir);
        do_damage(&server, damage);
        server
            .stderr
            .wait_for("a worker damaged shared memory or sockets");
        heals(&server, damage);
    }
}

#[test]
fn a_queue_that_is_shut_down_is_replaced() {
    for damage in ["shut_down_queue", "shut_down_receiving"] {
        let dir = temp_dir();
        let server = server(&dir);
        do_damage(&server, damage);
        server.stderr.wait_for("its queue is shut down");
        heals(&server, damage);
    }
}

#[test]
fn an_overwritten_queue_is_replaced() {
    for damage in [
        "overwrite_header",
        "overwrite_queue",
        "clear_queue",
        "end_queue",
        "set_head_beyond",
    ] {
        let dir = temp_dir();
        let server = server(&dir);
        do_damage(&server, damage);
        heals(&server, damage);
        server.stderr.wait_for("its queue is overwritten");
    }
}

/// None of it leaves the front with a state that it can tell from the usual one, so nothing is
/// logged; each request is served once, or fails.
#[test]
fn a_worker_that_takes_or_repeats_the_requests_of_others_costs_those_requests() {
    for damage in [
        "set_head_forward",
        "set_head_back",
        "set_tail_forward",
        "set_tail_back",
        "forget_waiting",
        "claim_waiting",
        "overwrite_slots",
        "fill_replies",
        "skip_all",
        "ring_for_ever",
        "fill_doorbell",
        "empty_doorbell",
        "let_front_sleep",
        "refuse_room",
    ] {
        let dir = temp_dir();
        let server = server(&dir);
        let ends = std::thread::scope(|scope| {
            let others: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let mut connection = server.connect();
                        let statuses = (0..50).map(|_| connection.exchange(get("/")).status());
                        statuses.collect::<Vec<_>>()
                    })
                })
                .collect();
            do_damage(&server, damage);
            let ends = others.into_iter().map(|other| other.join().unwrap());
            ends.flatten().collect::<Vec<_>>()
        });
        let others = |status: &&u16| !matches!(status, 200 | 500 | 502 | 503 | 504);
        assert_eq!(ends.iter().find(others), None, "{damage}");
        heals(&server, damage);
    }
}

#[test]
fn bodies_in_files_arrive_whatever_a_worker_does_to_the_socket_for_their_descriptors() {
    for damage in [
        "make_queue_nonblocking",
        "make_queue_blocking",
        "take_descriptors",
    ] {
        let dir = temp_dir();
        let server = server(&dir);
        let body = "x".repeat(300_000);
        let upload = format!(
            "POST /length HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let statuses = std::thread::scope(|scope| {
            let uploading = scope.spawn(|| {
                let mut connection = server.connect();
                let statuses = (0..20).map(|_| connection.exchange(&upload).status());
                statuses.collect::<Vec<_>>()
            });
            do_damage(&server, damage);
            uploading.join().unwrap()
        });
        assert!(
            statuses
                .iter()
                .all(|status| [200, 502, 504].contains(status)),
            "{damage}: {statuses:?}"
        );
        heals(&server, damage);
        let mut connection = server.connect();
        assert_eq!(connection.exchange(&upload).text(), "300000", "{damage}");
    }
}

#[test]
fn a_worker_that_violates_the_reply_protocol_is_killed() {
    for damage in [
        "send_descriptors",
        "send_nonsense",
        "report_ready_for_ever",
        "write_beyond",
        "write_back",
        "write_half_a_word",
    ] {
        let dir = temp_dir();
        let server = server(&dir);
        do_damage(&server, damage);
        server.stderr.wait_for("worker violated the reply protocol");
        heals(&server, damage);
    }
}

#[test]
fn requests_of_a_worker_that_erases_all_it_shares_end_without_a_deadline() {
    let dir = temp_dir();
    for damage in ["zero_everything", "fill_everything", "close_everything"] {
        let server = server_with(&dir, "0");
        do_damage(&server, damage);
        heals(&server, damage);
    }
}

#[test]
fn a_descriptor_may_come_before_the_news_of_the_previous_frame() {
    let dir = temp_dir();
    let server = server(&dir);
    let before = server.get("/").text();
    for _ in 0..3 {
        assert_eq!(server.get("/frames_without_news").text(), "done");
    }
    assert_eq!(server.stderr.count("violated"), 0, "{before}");
}
