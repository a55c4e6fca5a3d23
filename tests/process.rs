//! Crashes, signals, forks and queues, with real processes.

use std::collections::HashSet;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::raw::Connection;
use crate::support::server::{Pyserve, Server, get, post};
use crate::support::{python, skipped, source};

/// Pid of the worker that serves `/` of an application that tells it.
fn worker_of(connection: &mut Connection) -> Pid {
    let response = connection.exchange(get("/"));
    assert_eq!(response.status(), 200, "{response:?}");
    let pid = response.text().parse().expect("a pid");
    Pid::from_raw(pid).expect("no zero")
}

fn workers(server: Server, count: usize) -> (Server, HashSet<String>) {
    // Each worker is held once, so every one of them is seen.
    let mut connections: Vec<_> = (0..count).map(|_| server.connect()).collect();
    for (number, connection) in connections.iter_mut().enumerate() {
        connection.send(get(&format!("/{number}")));
    }
    let held: Vec<_> = (0..count)
        .map(|number| server.probe.held(&format!("/{number}")))
        .collect();
    held.into_iter().for_each(|held| held.release());
    let pids = connections
        .iter_mut()
        .map(|connection| connection.response().text())
        .collect();
    (server, pids)
}

#[test]
fn a_worker_that_dies_costs_its_request_a_502_and_nobody_anything_else() {
    let server = Pyserve::app("dying.py").args(["--workers", "2"]).ready();
    for how in ["/exit", "/segv", "/kill"] {
        let (mut bystander, held) = server.hold("/wait");

        let mut victim = server.connect();
        let before = worker_of(&mut victim);
        let response = victim.exchange(get(how));
        assert_eq!(response.status(), 502, "{how}: {response:?}");
        let after = worker_of(&mut victim);
        assert_ne!(
            before, after,
            "{how}: the same connection is served by a replacement"
        );

        held.release();
        assert_eq!(bystander.response().status(), 200, "{how}");
    }
}

#[test]
fn a_kill_from_outside_fails_exactly_the_request_inside() {
    let server = Pyserve::app("dying.py").ready();
    let worker = worker_of(&mut server.connect());
    let (mut inside, held) = server.hold("/wait");
    let mut waiting: Vec<_> = (0..5).map(|_| server.connect()).collect();
    for (number, connection) in waiting.iter_mut().enumerate() {
        connection.send(get(&format!("/queued{number}")));
    }
    kill_process(worker, Signal::KILL).unwrap();
    assert_eq!(inside.response().status(), 502);
    drop(held);
    for (number, connection) in waiting.iter_mut().enumerate() {
        assert_eq!(connection.response().status(), 200, "{number}");
        let note = format!("called /queued{number}");
        server.probe.notes.wait_for(&note);
        assert_eq!(server.probe.notes.count(&note), 1, "run exactly once");
    }
    server.stderr.wait_for(&worker.as_raw_nonzero().to_string());
}

#[test]
fn a_worker_that_dies_in_the_middle_of_a_response_breaks_the_transfer() {
    let server = Pyserve::app("dying.py").ready();
    let mut connection = server.connect();
    connection.send(get("/halfway"));
    assert_eq!(connection.response_to_head().status(), 200);
    assert_eq!(connection.chunk().unwrap(), b"the beginning");
    server.probe.held("halfway").release();
    assert!(connection.chunk().is_err(), "no orderly end");
    assert_eq!(server.get("/").status(), 200);
}

#[test]
fn workers_that_never_get_ready_end_the_server_with_code_3() {
    let ended = Pyserve::app("boot_dies.py").run();
    assert_eq!(ended.code, 3, "{}", ended.stderr);
}

#[test]
fn sigterm_finishes_what_is_inside_and_exits_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Pyserve::app("held.py").ready();
        let mut idle = server.connect();
        assert_eq!(idle.exchange(get("/")).status(), 200);
        let (mut connection, held) = server.hold("/inside");
        server.signal(signal);
        // An idle connection ends with the beginning of the stop, so it has been seen.
        assert_eq!(idle.rest().0, b"");
        held.release();
        assert_eq!(connection.response().status(), 200);
        assert_eq!(
            connection.rest().0,
            b"",
            "the connection ends with the response"
        );
        assert_eq!(server.wait_exit(), 0);
    }
}

#[test]
fn a_second_sigterm_stops_at_once() {
    let mut server = Pyserve::app("held.py").ready();
    let mut idle = server.connect();
    assert_eq!(idle.exchange(get("/")).status(), 200);
    let (_connection, held) = server.hold("/inside");
    server.signal(Signal::TERM);
    // An idle connection ends with the beginning of the stop, so it has been seen.
    assert_eq!(idle.rest().0, b"");
    server.signal(Signal::TERM);
    server.wait_exit();
    drop(held);
}

#[test]
fn the_graceful_timeout_bounds_the_stop() {
    let mut server = Pyserve::app("held.py")
        .args(["--graceful-timeout", "300ms"])
        .ready();
    let (mut connection, held) = server.hold("/inside");
    server.signal(Signal::TERM);
    server.wait_exit();
    let (statuses, _) = connection.statuses_to_end();
    assert!(statuses.is_empty() || statuses[0] >= 500, "{statuses:?}");
    drop(held);
}

#[test]
fn a_stopped_server_leaves_no_process_behind() {
    let mut server = Pyserve::app("dying.py").args(["--workers", "2"]).ready();
    let worker = worker_of(&mut server.connect());
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
    // All writers of both pipes have gone: template and workers inherit them.
    server.stderr.to_end();
    server.stdout.to_end();
    assert!(
        kill_process(worker, Signal::KILL).is_err(),
        "{worker:?} still runs"
    );
}

#[test]
fn a_thread_left_by_the_import_is_named_and_each_worker_imports_for_itself() {
    let server = Pyserve::app("boot_thread.py")
        .args(["--workers", "2"])
        .ready();
    server.stderr.wait_for("metrics-pusher");
    server.probe.notes.wait_for_nth("imported by", 3);
    let importers: HashSet<_> = server.probe.notes.so_far().into_iter().collect();
    assert_eq!(
        importers.len(),
        3,
        "a template and two workers: {importers:?}"
    );
    let served_by = server.get("/").text();
    assert!(
        importers.contains(&format!("imported by {served_by}")),
        "{importers:?}"
    );
}

#[test]
fn a_socket_left_by_the_import_is_named() {
    let server = Pyserve::app("boot_socket.py").ready();
    server.stderr.wait_for("127.0.0.1:");
    server.probe.notes.wait_for_nth("imported by", 2);
    let line = server.stderr.so_far().join("\n");
    assert!(line.contains("socket"), "{line}");
}

#[test]
fn preload_yes_imports_once_whatever_that_leaves_and_no_imports_in_each_worker() {
    for (preload, imports) in [("yes", 1), ("no", 2)] {
        let server = Pyserve::app("boot_thread.py")
            .args(["--preload", preload, "--workers", "2"])
            .ready();
        server.probe.notes.wait_for_nth("imported by", imports);
        assert_eq!(server.get("/").status(), 200);
        assert_eq!(
            server.probe.notes.count("imported by"),
            imports,
            "{preload}"
        );
    }
}

#[test]
fn hooks_around_the_fork_and_at_the_end_run_and_the_heap_is_frozen() {
    let mut server = Pyserve::app("hooks.py").ready();
    assert_eq!(server.get("/").text(), "frozen True, worker 0");
    let notes = &server.probe.notes;
    for note in [
        "before fork",
        "parent after fork",
        "child after fork",
        "pyserve.after_fork in worker 0",
    ] {
        notes.wait_for(note);
    }
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
    server
        .probe
        .notes
        .wait_for("pyserve.before_exit in worker 0");
    server.probe.notes.wait_for("atexit in");
}

/// The scheduling policies of the threads of a process: proc(5), stat, field 41.
fn policies(pid: i32) -> HashSet<String> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads
        .map(|thread| std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap())
        .map(|stat| {
            let (_, behind_name) = stat.rsplit_once(')').unwrap();
            behind_name.split_whitespace().nth(38).unwrap().to_owned()
        })
        .collect()
}

#[test]
fn the_front_preempts_no_worker_and_what_it_starts_is_scheduled_as_usual() {
    const NORMAL: &str = "0";
    const BATCH: &str = "3";
    for threads in ["1", "2"] {
        let server = Pyserve::app("hello.py")
            .args(["--front-threads", threads])
            .ready();
        let pid = server.pid().as_raw_nonzero().get();
        assert_eq!(
            policies(pid),
            HashSet::from([BATCH.to_owned()]),
            "{threads}"
        );
        let mut started = String::new();
        for thread in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
            let children = thread.unwrap().path().join("children");
            started += &std::fs::read_to_string(children).unwrap();
        }
        let template = started.split_whitespace().next().expect("the template");
        assert_eq!(
            policies(template.parse().unwrap()),
            HashSet::from([NORMAL.to_owned()])
        );
    }
}

#[test]
fn every_worker_has_a_number_and_a_process_of_its_own() {
    let server = Pyserve::app("held.py").args(["--workers", "3"]).ready();
    let (_server, pids) = workers(server, 3);
    assert_eq!(pids.len(), 3, "{pids:?}");
}

#[test]
fn a_slow_upload_does_not_hold_the_only_worker() {
    let server = Pyserve::app("every.py").ready();
    let mut slow = server.connect();
    slow.send("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nfirst");
    for _ in 0..3 {
        assert_eq!(server.get("/hello").text(), "hello");
    }
    slow.send("-rest");
    assert_eq!(slow.response().text().len(), 10);
}

#[test]
fn a_slow_reader_does_not_hold_the_only_worker() {
    let server = Pyserve::app("every.py").ready();
    let mut slow = server.connect();
    slow.send(get("/big"));
    let head = slow.response_to_head();
    assert_eq!(head.header("Content-Length").as_deref(), Some("4194304"));
    for _ in 0..3 {
        assert_eq!(server.get("/hello").text(), "hello");
    }
    let body = slow.exactly(4_194_304);
    assert!(body.chunks(16).all(|line| line == b"0123456789abcdef"));
}

#[test]
fn a_large_upload_arrives_byte_for_byte() {
    let builder = Pyserve::app("echo.py");
    let spool = builder.path("spool");
    std::fs::create_dir(&spool).unwrap();
    let server = builder.args(["--temp-dir"]).args([&spool]).ready();
    let body: Vec<u8> = (0..5_000_000_u32)
        .map(|number| (number % 251) as u8)
        .collect();
    let head = |framing: &str| format!("POST / HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n");
    let mut connection = server.connect();

    connection.send(head(&format!("Content-Length: {}", body.len())));
    connection.send(&body);
    assert!(connection.response().body == body, "with a length");

    connection.send(head("Transfer-Encoding: chunked"));
    for chunk in body.chunks(70_001) {
        connection.send(format!("{:x}\r\n", chunk.len()));
        connection.send(chunk);
        connection.send("\r\n");
    }
    connection.send("0\r\n\r\n");
    assert!(connection.response().body == body, "in chunks");
    assert_eq!(
        std::fs::read_dir(&spool).unwrap().count(),
        0,
        "nothing stays behind"
    );
}

#[test]
fn a_full_queue_answers_503_at_once_and_says_when_to_come_back() {
    let server = Pyserve::app("held.py")
        .args(["--queue-limit", "1", "--access-log", "json"])
        .ready();
    let (mut inside, held) = server.hold("/inside");
    let mut crowd: Vec<_> = (0..20).map(|_| server.connect()).collect();
    for connection in &mut crowd {
        connection.send(get("/"));
    }
    // One is in the queue and a few may be handed out ahead; all others are turned away
    // while the worker is still busy.
    server.stdout.wait_for_nth("503", 12);
    held.release();
    let mut turned_away = 0;
    for connection in &mut crowd {
        let response = connection.response();
        match response.status() {
            503 => {
                turned_away += 1;
                let wait = response.header("Retry-After").expect("when to come back");
                wait.parse::<u32>().expect("seconds");
            }
            status => assert_eq!(status, 200),
        }
    }
    assert!((12..20).contains(&turned_away), "{turned_away}");
    // A flood is not to fill the log: a line in ten seconds.
    let lines = server.stderr.count("request not served");
    assert!((1..=3).contains(&lines), "{lines}");
    assert_eq!(inside.response().status(), 200);
}

#[test]
fn a_request_that_waited_too_long_gets_503_and_is_never_run() {
    let server = Pyserve::app("held.py")
        .args(["--queue-timeout", "200ms"])
        .ready();
    let (mut inside, held) = server.hold("/inside");
    for _ in 0..3 {
        let response = server.get("/late");
        assert_eq!(response.status(), 503);
        assert!(response.header("Retry-After").is_some(), "{response:?}");
    }
    held.release();
    assert_eq!(inside.response().status(), 200);
    assert_eq!(server.get("/").status(), 200);
    assert_eq!(server.probe.notes.count("called /late"), 0);
}

#[test]
fn a_request_whose_client_left_the_queue_is_never_run() {
    let server = Pyserve::app("held.py")
        .args(["--access-log", "json"])
        .ready();
    let (mut inside, held) = server.hold("/inside");
    for number in 0..4 {
        let mut gone = server.connect();
        gone.send(format!(
            "POST /gone{number} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\
             Expect: 100-continue\r\n\r\n"
        ));
        // The server knows of the request before the client leaves.
        assert_eq!(gone.response_to_head().status(), 100);
        gone.send("x");
        gone.reset();
        let line = server.stdout.wait_for(&format!("/gone{number}"));
        assert!(line.contains("499"), "{line}");
    }
    held.release();
    assert_eq!(inside.response().status(), 200);
    assert_eq!(server.get("/").status(), 200);
    assert_eq!(server.probe.notes.count("called /gone"), 0);
}

#[test]
fn a_streaming_response_is_closed_when_its_client_leaves() {
    let server = Pyserve::app("endless.py").ready();
    let mut connection = server.connect();
    connection.send(get("/"));
    assert_eq!(connection.response_to_head().status(), 200);
    let held = server.probe.held("streaming");
    drop(connection);
    held.release();
    let note = server.probe.notes.wait_for("closed after ");
    let sent: u32 = note["closed after ".len()..].parse().unwrap();
    assert!(sent < 100_000, "it ran to its end");
}

#[test]
fn an_idle_worker_takes_the_next_request_whatever_connection_it_comes_on() {
    let server = Pyserve::app("held.py").args(["--workers", "2"]).ready();
    let (mut first, held) = server.hold("/held");
    // Connections that have been served by either worker are not bound to it.
    let mut others: Vec<_> = (0..8).map(|_| server.connect()).collect();
    for _ in 0..3 {
        for connection in &mut others {
            assert_eq!(connection.exchange(get("/")).status(), 200);
        }
    }
    held.release();
    assert_eq!(first.response().status(), 200);
}

#[test]
fn uploads_of_many_clients_at_once_keep_apart() {
    let server = Pyserve::app("echo.py")
        .args(["--workers", "2", "--threads", "2"])
        .ready();
    let mut connections: Vec<_> = (0..16).map(|_| server.connect()).collect();
    for round in 0..10 {
        for (number, connection) in connections.iter_mut().enumerate() {
            connection.send(post("/", &format!("{round} {number} ").repeat(500)));
        }
        for (number, connection) in connections.iter_mut().enumerate() {
            assert_eq!(
                connection.response().text(),
                format!("{round} {number} ").repeat(500)
            );
        }
    }
}

#[test]
fn many_kills_under_load_fail_only_what_was_inside_and_run_nothing_twice() {
    let run = std::process::Command::new(python::default())
        .arg(source("benches/worker_kills.py"))
        .args(["--seconds", "3", "--every", "0.25", "--binary"])
        .arg(env!("CARGO_BIN_EXE_pyserve"))
        .arg("--python")
        .arg(python::default())
        .output()
        .expect("Python runs");
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{said}");
    assert!(said.contains(" kills: "), "{said}");
}

/// proc(5), `THP_enabled`: 0 after `PR_SET_THP_DISABLE`, which children inherit.
fn has_huge_pages(process: &str) -> Option<bool> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix("THP_enabled:"))?;
    Some(value.trim() == "1")
}

#[test]
fn the_server_has_no_huge_pages_and_its_workers_have_what_it_was_started_with() {
    let Some(inherited) = has_huge_pages("self") else {
        return skipped(
            "huge pages",
            "this kernel shows no THP_enabled (before 5.0)",
        );
    };
    let server = Pyserve::app("dying.py").ready();
    let worker = worker_of(&mut server.connect());
    assert_eq!(has_huge_pages(&server.pid().to_string()), Some(false));
    assert_eq!(has_huge_pages(&worker.to_string()), Some(inherited));
}
