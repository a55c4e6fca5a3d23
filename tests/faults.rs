//! Faults under load: nothing is lost, and nothing runs twice.
//!
//! Every request is written down by the application before it is answered, and by its
//! client when it is; both are compared afterwards.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::load::{Load, runs};
use crate::support::server::{Pyserve, Server, get};
use crate::support::{skipped, write_files};

crate::clients_over_tls! {
    ten_reloads_some_of_them_overlapping_lose_nothing,
    what_is_in_flight_at_a_stop_is_answered_and_what_comes_then_is_refused,
    more_and_fewer_workers_lose_nothing,
    a_template_that_is_killed_costs_nothing_and_is_replaced,
    a_panic_inside_the_host_costs_its_request_and_nothing_else,
}

const PAUSE: Duration = Duration::from_millis(3);

/// A server of `ledger.py` with two workers, and where the ledger is.
fn serving(args: &[&str]) -> (Server, PathBuf) {
    let builder = Pyserve::app("ledger.py");
    let ledger = builder.path("ledger");
    let server = builder
        .env("LEDGER", &ledger)
        .env("PYSERVE_WORKERS", "2")
        .args(args)
        .ready();
    (server, ledger)
}

fn load(server: &Server) -> Load {
    let load = Load::start(server, 8, "/", PAUSE, false);
    load.wait_for(50);
    load
}

#[test]
fn ten_reloads_some_of_them_overlapping_lose_nothing() {
    let (server, ledger) = serving(&[]);
    let load = load(&server);
    for number in 0..5 {
        server.signal(Signal::HUP);
        load.wait_for(load.answered() + 5);
        server.signal(Signal::HUP);
        server.stderr.wait_for_nth("reloaded in", number + 1);
    }
    load.wait_for(load.answered() + 300);
    load.stop().check_nothing_lost(&ledger);
}

#[test]
fn recycling_every_50_requests_for_5000_loses_nothing() {
    let (server, ledger) = serving(&["--max-requests", "50"]);
    let load = Load::start(&server, 8, "/", Duration::from_millis(1), false);
    load.wait_for(5000);
    load.stop().check_nothing_lost(&ledger);
    let recycled = server.stderr.count("worker is due for recycling");
    assert!(recycled >= 5, "{recycled}");
}

#[test]
fn a_leaking_application_is_recycled_before_it_is_fat_and_loses_nothing() {
    let (server, ledger) = serving(&["--max-worker-memory", "100M"]);
    let load = Load::start(&server, 8, "/leak", PAUSE, false);
    server.stderr.wait_for_nth("worker is due for recycling", 2);
    load.wait_for(load.answered() + 100);
    load.stop().check_nothing_lost(&ledger);
}

#[test]
fn what_is_in_flight_at_a_stop_is_answered_and_what_comes_then_is_refused() {
    for delay in ["0", "300ms"] {
        let (mut server, ledger) = serving(&["--drain-delay", delay, "--threads", "8"]);
        let load = |path, pause, fresh| Load::start(&server, 8, path, pause, fresh);
        let loads = [
            load("/slow", Duration::ZERO, true),
            load("/quick", Duration::ZERO, true),
            // These stay connected, and ask again in less time than they are given.
            load("/kept", PAUSE, false),
        ];
        for load in &loads[1..] {
            load.wait_for(50);
        }
        server.signal(Signal::TERM);
        // All go on until nobody listens any more.
        let tallies = loads.map(Load::join);
        assert_eq!(server.wait_exit(), 0);
        for tally in tallies {
            tally.check_each_ran_once(&ledger);
        }
    }
}

#[test]
fn more_and_fewer_workers_lose_nothing() {
    let (server, ledger) = serving(&[]);
    let load = load(&server);
    for signal in [
        Signal::TTIN,
        Signal::TTIN,
        Signal::TTOU,
        Signal::TTOU,
        Signal::TTOU,
    ] {
        let changes = server.stderr.count("number of workers changed");
        server.signal(signal);
        server
            .stderr
            .wait_for_nth("number of workers changed", changes + 1);
        load.wait_for(load.answered() + 200);
    }
    load.stop().check_nothing_lost(&ledger);
}

fn template(server: &Server) -> Pid {
    children(server.pid())
        .into_iter()
        .find(|pid| name(*pid) == "pyserve-tmpl")
        .expect("a template")
}

#[test]
fn a_template_that_is_killed_costs_nothing_and_is_replaced() {
    let (server, ledger) = serving(&[]);
    let template = template(&server);
    let load = load(&server);
    kill_process(template, Signal::KILL).unwrap();
    server.stderr.wait_for("template died");
    load.wait_for(load.answered() + 300);
    // The next one can be forked from: its workers are another one's children by now.
    server.signal(Signal::TTIN);
    server.stderr.wait_for("to=3");
    load.wait_for(load.answered() + 300);
    load.stop().check_nothing_lost(&ledger);
}

#[test]
fn a_template_that_cannot_import_what_is_there_now_says_so_and_costs_nothing() {
    let builder = Pyserve::new();
    let dir = builder.path("app");
    let sound = "def app(e, s):\n s('200 OK', [])\n return [b'sound']\n";
    write_files(&dir, &[("site_app.py", sound)]);
    let server = builder
        .watched()
        .current_dir(&dir)
        .args(["--app", "site_app", "--workers", "1"])
        .ready();
    let broken = "import no_such_module_of_ours\n";
    write_files(&dir, &[("site_app.py", broken)]);
    kill_process(template(&server), Signal::KILL).unwrap();
    server
        .stderr
        .wait_for("No module named 'no_such_module_of_ours'");
    assert_eq!(server.get("/").text(), "sound");
    write_files(&dir, &[("site_app.py", sound)]);
    server.signal(Signal::TTIN);
    let ready = "pyserve_workers{application=\"site_app\",state=\"ready\"}";
    server.wait_for_metric(ready, 2.0);
}

#[test]
fn a_worker_of_which_its_template_could_not_tell_never_begins() {
    let builder = Pyserve::app("untold.py").watched();
    let flag = builder.path("die");
    let mut server = builder.args(["--graceful-timeout", "60s"]).ready();
    let workers = |app: &serde_json::Value| {
        let workers = app["workers"].as_array().unwrap().iter();
        let of = |worker: &serde_json::Value| {
            assert_eq!(worker["state"], "ready", "{app:#}");
            worker["pid"].as_u64().unwrap()
        };
        workers.map(of).collect::<Vec<_>>()
    };
    let ready = "pyserve_workers{application=\"untold.py\",state=\"ready\"}";
    for signal in [Signal::TTIN, Signal::TTIN] {
        std::fs::write(&flag, "").unwrap();
        let count = workers(&server.status()["applications"][0]).len();
        server.signal(signal);
        server.wait_for_metric(ready, count as f64 + 1.0);
        assert!(!flag.exists(), "it died while it forked");
    }
    assert_eq!(server.stderr.count("template died"), 2);
    server.signal(Signal::HUP);
    server.stderr.wait_for("reloaded in");
    // Nothing is left of the generation before: one template, with its workers below it.
    let deadline = Instant::now() + Duration::from_secs(20);
    while children(server.pid()).len() > 1 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(children(server.pid()).len(), 1);
    assert_eq!(workers(&server.status()["applications"][0]).len(), 3);
    let began = Instant::now();
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
    assert!(
        began.elapsed() < Duration::from_secs(50),
        "nobody is waited for"
    );
}

#[test]
fn a_panic_inside_the_host_costs_its_request_and_nothing_else() {
    for threads in ["1", "2"] {
        let server = Pyserve::app("panics.py")
            .args(["--threads", threads])
            .ready();
        let worker = server.get("/").text();
        let mut streaming = server.connect();
        streaming.send(get("/stream"));
        assert_eq!(streaming.response_to_head().status(), 200);
        assert_eq!(streaming.chunk().unwrap(), b"the beginning");
        server.probe.held("stream").release();
        assert!(streaming.chunk().is_err(), "no orderly end");
        for _ in 0..3 {
            assert_eq!(server.get("/panic").status(), 500);
            assert_eq!(server.get("/").text(), worker, "the same worker");
        }
        server.stderr.wait_for_nth("a panic: on purpose", 4);
        assert_eq!(server.probe.notes.count("called /panic"), 3, "each once");
    }
}

#[test]
fn where_descriptors_are_few_clients_wait_and_a_reload_still_works() {
    let builder = Pyserve::binary(std::path::Path::new("/bin/sh"));
    let ledger = builder.path("ledger");
    let server = builder
        .args(["-c", "ulimit -n 64; exec \"$0\" \"$@\""])
        .args([
            env!("CARGO_BIN_EXE_pyserve"),
            "--app",
            "ledger.py",
            "--chdir",
        ])
        .args([crate::support::apps()])
        .quick()
        .env("LEDGER", &ledger)
        .ready();
    let mut crowd: Vec<_> = (0..60).map(|_| server.connect()).collect();
    for (number, connection) in crowd.iter_mut().enumerate() {
        connection.send(get(&format!("/?{number}")));
    }
    // As many as there is room for are inside, and make room when they are answered.
    assert_eq!(crowd[0].response().status(), 200);
    server.signal(Signal::HUP);
    // Connections leave enough for that.
    server.stderr.wait_for("reloaded in");
    for mut connection in crowd.drain(1..) {
        assert_eq!(connection.response().status(), 200, "each as one leaves");
    }
    drop(crowd);
    assert_eq!(server.get("/?60").status(), 200);
    let reloads = server.stderr.count("reloaded in");
    server.signal(Signal::HUP);
    server.stderr.wait_for_nth("reloaded in", reloads + 1);
    assert_eq!(runs(&ledger).len(), 61);
}

#[test]
fn afterwards_descriptors_and_memory_are_where_they_began() {
    let (server, ledger) = serving(&[]);
    let load = load(&server);
    let reload = |times: usize| {
        let before = server.stderr.count("reloaded in");
        for number in 1..=times {
            server.signal(Signal::HUP);
            server.stderr.wait_for_nth("reloaded in", before + number);
        }
        load.wait_for(load.answered() + 100);
    };
    reload(2);
    let (descriptors, memory) = (settled_descriptors(server.pid()), memory(server.pid()));
    reload(8);
    let after = settled_descriptors(server.pid());
    let grown = self::memory(server.pid()).saturating_sub(memory);
    load.stop().check_nothing_lost(&ledger);
    assert!(
        after <= descriptors + 4,
        "{descriptors} descriptors, then {after}"
    );
    assert!(grown < 8 << 20, "{grown} bytes more than before");
}

#[test]
fn as_process_1_it_reaps_orphans_by_the_hundred_and_serves_on() {
    let can = std::process::Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc", "true"])
        .status();
    if !can.is_ok_and(|status| status.success()) {
        return skipped("process 1", "unshare --pid is not allowed here");
    }
    let builder = Pyserve::binary(std::path::Path::new("/usr/bin/unshare"));
    let ledger = builder.path("ledger");
    let server = builder
        .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
        .args([
            env!("CARGO_BIN_EXE_pyserve"),
            "--app",
            "orphans.py",
            "--chdir",
        ])
        .args([crate::support::apps()])
        .quick()
        .env("LEDGER", &ledger)
        .ready();
    let load = Load::start(&server, 4, "/", Duration::from_millis(2), false);
    // Each makes 20 orphans; how fast says more about the machine than about us.
    let orphans = Load::start(&server, 1, "/orphans", Duration::from_millis(20), false);
    orphans.wait_for(50);
    let tally = orphans.stop();
    assert_eq!(tally.counts().len(), 1, "{:?}", tally.counts());
    let tally = load.stop();
    assert_eq!(tally.counts().len(), 1, "{:?}", tally.counts());
    // Reaping is quick, so soon there is none; the bound is only for one that never comes.
    for _ in 0..200 {
        if server.get("/zombies").text() == "0" {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("zombies are left: {}", server.get("/zombies").text());
}

/// Processes whose parent, or whose parent's parent, is `pid`.
fn children(pid: Pid) -> Vec<Pid> {
    let path = format!("/proc/{0}/task/{0}/children", pid.as_raw_nonzero());
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let pids = text.split_ascii_whitespace();
    pids.filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
        .collect()
}

fn name(pid: Pid) -> String {
    let path = format!("/proc/{}/comm", pid.as_raw_nonzero());
    let name = std::fs::read_to_string(path).unwrap_or_default();
    name.trim().to_owned()
}

/// How many descriptors a process has; the least of a few looks, because the workers of the
/// generation before need a moment to leave.
fn settled_descriptors(pid: Pid) -> usize {
    let path = format!("/proc/{}/fd", pid.as_raw_nonzero());
    let looks = (0..50).map(|_| {
        std::thread::sleep(Duration::from_millis(10));
        std::fs::read_dir(&path).map_or(0, Iterator::count)
    });
    looks.min().unwrap_or_default()
}

fn memory(pid: Pid) -> u64 {
    let path = format!("/proc/{}/statm", pid.as_raw_nonzero());
    let text = std::fs::read_to_string(path).expect("it runs");
    let pages: u64 = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}
