//! A worker that has warmed up becomes the template of the others.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::DEADLINE;
use crate::support::load::Load;
use crate::support::raw::Connection;
use crate::support::server::{Pyserve, Server, get};

const ASKED: &str = "asking a warm worker to become the template";
/// A request that is none of the load's.
const OURS: &str = "/?999999999";
const ADOPTED: &str = "has become the template";

/// The worker that answers, its parent, and who filled its cache.
fn about(server: &Server) -> [u32; 3] {
    let response = server.get(OURS);
    assert_eq!(response.status(), 200);
    let text = response.text();
    let numbers: Vec<_> = text.split(' ').map(|number| number.parse()).collect();
    match numbers[..] {
        [Ok(pid), Ok(parent), Ok(filled_by)] => [pid, parent, filled_by],
        _ => panic!("{text}"),
    }
}

/// Children of a process.
fn children(parent: u32) -> Vec<u32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let children = std::fs::read_to_string(path).unwrap_or_default();
    let numbers = children.split_whitespace();
    numbers.map(|pid| pid.parse().expect("a pid")).collect()
}

/// Template and workers of a server.
fn pythons(server: &Server) -> Vec<u32> {
    let pid = server.pid().as_raw_nonzero().get().unsigned_abs();
    let ours = children(pid);
    let theirs = ours.iter().flat_map(|pid| children(*pid));
    ours.iter().copied().chain(theirs).collect()
}

/// Proportional memory of all of them together, in MiB.
fn memory(server: &Server) -> f64 {
    let pss = |pid: u32| {
        let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.trim().strip_suffix(" kB")?.parse::<f64>().ok()
    };
    pythons(server).into_iter().filter_map(pss).sum::<f64>() / 1024.0
}

/// Asks on and on; every answer is a good one.
#[track_caller]
fn ask_until(connection: &mut Connection, done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert_eq!(connection.exchange(get(OURS)).status(), 200);
        assert!(began.elapsed() < DEADLINE, "it does not come");
    }
}

/// Waits until `count` workers and their template are all there is, and returns the template.
fn settled(server: &Server, count: usize) -> u32 {
    let began = Instant::now();
    loop {
        let all = pythons(server);
        if let Some(template) = all.iter().find(|pid| children(**pid).len() == count)
            && all.len() == count + 1
        {
            return *template;
        }
        assert!(began.elapsed() < DEADLINE, "{all:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn others_share_what_a_worker_has_warmed_up_and_no_request_is_lost() {
    let builder = Pyserve::app("warming.py");
    let ledger = builder.path("ledger");
    let server = builder
        .env("LEDGER", &ledger)
        .args(["--workers", "4", "--refork", "1000"])
        .ready();
    let first_template = settled(&server, 4);
    let load = Load::start(&server, 8, "/", Duration::from_millis(2), false);
    load.wait_for(400);
    let before = memory(&server);
    assert_eq!(server.stderr.count(ASKED), 0, "measured too late");
    server.stderr.wait_for(ADOPTED);
    // The template of before has ended, so all workers are of the new one.
    let mut connection = server.connect();
    ask_until(&mut connection, || {
        !pythons(&server).contains(&first_template)
    });
    let template = settled(&server, 4);
    assert_ne!(template, first_template);
    load.wait_for(load.answered() + 400);
    for _ in 0..20 {
        let [pid, parent, filled_by] = about(&server);
        assert_eq!([parent, filled_by], [template; 2], "worker {pid}");
    }
    let after = memory(&server);
    load.stop().check_nothing_lost(&ledger);
    assert_eq!(server.stderr.count("worker died"), 0);
    println!("4 workers and their template, before: {before:.0} MiB, after: {after:.0} MiB");
    assert!(after < 0.6 * before, "{after:.0} of {before:.0} MiB");
}

#[test]
fn an_application_that_left_a_thread_is_replaced_and_not_asked_again() {
    let server = Pyserve::app("warming.py")
        .watched()
        .args(["--workers", "1", "--refork", "5", "--max-requests", "30"])
        .ready();
    let [first, ..] = about(&server);
    server.get("/thread");
    let mut connection = server.connect();
    ask_until(&mut connection, || {
        server.stderr.count("worker is due for recycling") > 0
    });
    let said = server.stderr.wait_for("cannot become the template");
    assert!(said.contains("background"), "{said}");
    assert_ne!(about(&server)[0], first);
    let status = server.status();
    let refork = &status["applications"][0]["refork"];
    assert_eq!(refork["promoted"], 0, "{status:#}");
    let why = refork["last_failure"].as_str().unwrap_or_default();
    assert!(why.contains("background"), "{status:#}");
    let refused = r#"pyserve_reforks_total{outcome="refused"}"#;
    assert_eq!(server.metric(refused), Some(1.0));
    assert_eq!(server.stderr.count(ASKED), 1);
    assert_eq!(server.stderr.count(ADOPTED), 0);
}

#[test]
fn threads_leave_hooks_run_and_a_reload_starts_afresh() {
    let server = Pyserve::app("hooks.py")
        .args(["--workers", "1", "--threads", "2", "--refork", "10"])
        .ready();
    let mut connection = server.connect();
    for reforks in 0..2 {
        ask_until(&mut connection, || server.stderr.count(ADOPTED) > reforks);
        // The successor; the one that becomes the template; what that forks.
        let notes = &server.probe.notes;
        notes.wait_for_nth("pyserve.after_fork in worker 1", reforks + 1);
        notes.wait_for_nth("pyserve.before_exit in worker 0", 2 * reforks + 1);
        notes.wait_for_nth("pyserve.after_fork in worker 0", 2 * reforks + 2);
        notes.wait_for_nth("pyserve.before_exit in worker 1", reforks + 1);
        let template = settled(&server, 1);
        assert_eq!(server.get("/").text(), "frozen True, worker 0");
        if reforks == 0 {
            server.signal(Signal::HUP);
            server.stderr.wait_for("reloaded in");
            notes.wait_for("atexit in");
            // All of that generation have gone when there is one template.
            settled(&server, 1);
            assert_eq!(notes.count(&format!("atexit in {template}")), 0);
        }
    }
}

#[test]
fn a_promoted_template_that_is_killed_is_followed_by_a_fresh_one() {
    let server = Pyserve::app("warming.py")
        .watched()
        .args(["--workers", "1", "--refork", "5"])
        .ready();
    let was_worker = r#"pyserve_template_was_worker{application="warming.py"}"#;
    assert_eq!(server.metric(was_worker), Some(0.0));
    let mut connection = server.connect();
    ask_until(&mut connection, || server.stderr.count(ADOPTED) > 0);
    assert_eq!(server.metric(was_worker), Some(1.0));
    let status = server.status();
    assert_eq!(status["applications"][0]["refork"]["promoted"], 1);
    let promoted = Pid::from_raw(settled(&server, 1) as i32).expect("a pid");
    kill_process(promoted, Signal::KILL).expect("kill");
    server.stderr.wait_for("template died");
    // The worker goes on, and when it has gone the next has nothing to inherit.
    let [pid, _, filled_by] = about(&server);
    assert_ne!(pid, filled_by);
    let worker = Pid::from_raw(pid as i32).expect("a pid");
    kill_process(worker, Signal::KILL).expect("kill");
    server.stderr.wait_for("worker died");
    let [pid, _, filled_by] = about(&server);
    assert_eq!(pid, filled_by);
}
