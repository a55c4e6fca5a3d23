//! The number of workers follows the demand: more while requests wait and CPUs are idle, fewer
//! when they do not help.

use std::collections::HashSet;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::idle_cpus::IdleCpus;
use crate::support::probe::Held;
use crate::support::raw::Connection;
use crate::support::server::{Pyserve, Server, get};
use crate::support::{DEADLINE, apps, skipped};

const APP: &str = "waits_or_computes.py";

/// Of the elastic application on one CPU: one worker at the start.
fn elastic(idle: &IdleCpus) -> Pyserve {
    idle.server()
        .watched()
        .args(["--app", APP, "--chdir"])
        .args([apps()])
}

/// CPUs that are idle, unless such cannot be had here.
fn idle_cpus(percent: u64) -> Option<IdleCpus> {
    let idle = IdleCpus::new(percent);
    idle.map_err(|why| skipped("a server whose CPUs are idle", &why))
        .ok()
}

/// Sends a request for each path.
fn ask(server: &Server, paths: &[String]) -> Vec<Connection> {
    let connections = paths.iter().map(|path| {
        let mut connection = server.connect();
        connection.send(get(path));
        connection
    });
    connections.collect()
}

/// Sends a request for each path, the first one before the others; it is inside the application.
fn ask_first(server: &Server, paths: &[String]) -> (Vec<Connection>, Held) {
    let mut asked = ask(server, &paths[..1]);
    let first = server.probe.held(&paths[0]);
    asked.extend(ask(server, &paths[1..]));
    (asked, first)
}

fn paths(name: &str, number: usize) -> Vec<String> {
    (0..number).map(|at| format!("/{name}{at}")).collect()
}

/// Waits until all of them are inside the application at the same time.
fn all_held(server: &Server, paths: &[String]) -> Vec<Held> {
    paths.iter().map(|path| server.probe.held(path)).collect()
}

/// The texts of the answers, each with status 200.
fn answers(connections: Vec<Connection>) -> HashSet<String> {
    let answers = connections.into_iter().map(|mut connection| {
        let response = connection.response();
        assert_eq!(response.status(), 200);
        response.text()
    });
    answers.collect()
}

fn scaling(server: &Server) -> Value {
    server.status()["applications"][0]["scaling"].clone()
}

/// Waits until the status gives this reason for the number of workers.
#[track_caller]
fn wait_for_reason(server: &Server, part: &str) -> Value {
    let began = Instant::now();
    loop {
        let scaling = scaling(server);
        if scaling["reason"].as_str().unwrap().contains(part) {
            return scaling;
        }
        assert!(began.elapsed() < DEADLINE, "{part:?} is not in {scaling}");
    }
}

#[test]
fn workers_are_added_by_default_while_requests_wait_and_cpus_are_idle() {
    let Some(idle) = idle_cpus(90) else { return };
    let server = elastic(&idle).ready();
    server.stderr.wait_for("1 to 16 × 1 thread");
    let before = scaling(&server);
    assert_eq!(
        (&before["workers"], &before["minimum"], &before["maximum"]),
        (&1.into(), &1.into(), &16.into())
    );
    let paths = paths("wait", 4);
    let asked = ask(&server, &paths);
    // With one worker the second one would never get there.
    let held = all_held(&server, &paths);
    let now = wait_for_reason(&server, "of the CPUs were idle");
    assert!(now["workers"].as_u64() >= Some(4), "{now}");
    assert_eq!((&now["minimum"], &now["maximum"]), (&1.into(), &16.into()));
    let label = r#"{application="waits_or_computes.py"}"#;
    let metric = |name: &str| server.metric(&format!("pyserve_workers_{name}{label}"));
    assert_eq!(metric("target"), now["workers"].as_f64());
    assert_eq!(
        (metric("minimum"), metric("maximum")),
        (Some(1.0), Some(16.0))
    );
    let changes = server.metric(r#"pyserve_workers_scaled_total{reason="requests_waited"}"#);
    assert!(changes >= Some(1.0), "{changes:?}");
    held.into_iter().for_each(Held::release);
    let answers = answers(asked);
    assert_eq!(
        answers.len(),
        4,
        "each in a process of its own: {answers:?}"
    );
    assert!(
        answers.iter().all(|answer| answer.ends_with(" True")),
        "{answers:?}"
    );
}

#[test]
fn multiprocess_is_true_from_the_start_only_where_workers_may_be_added() {
    let Some(idle) = idle_cpus(90) else { return };
    for (arguments, expected) in [
        (&[][..], " True"),
        (&["--workers", "auto"], " True"),
        (&["--max-workers", "2"], " True"),
        (&["--max-workers", "1"], " False"),
        (&["--workers", "1"], " False"),
        (&["--workers", "1..2"], " True"),
        (&["--dev"], " False"),
        (&["--preload", "no"], " False"),
    ] {
        let server = elastic(&idle).args(arguments).ready();
        let answer = server.get("/").text();
        assert!(answer.ends_with(expected), "{arguments:?}: {answer}");
        let scaling = scaling(&server);
        let is_fixed = scaling["maximum"] == scaling["minimum"];
        assert_eq!(is_fixed, expected == " False", "{arguments:?}: {scaling}");
        assert_eq!(
            scaling["reason"] == "fixed",
            is_fixed,
            "{arguments:?}: {scaling}"
        );
    }
}

#[test]
fn busy_cpus_get_no_more_workers_and_the_status_says_so() {
    let Some(idle) = idle_cpus(0) else { return };
    let server = elastic(&idle).ready();
    let paths = paths("wait", 3);
    let (mut asked, first) = ask_first(&server, &paths);
    let why = "requests wait, and only 0 % of the CPUs are idle";
    let seen = wait_for_reason(&server, why);
    assert_eq!(seen["workers"], 1);
    first.release();
    let first = asked.remove(0).response().text();
    for (path, mut connection) in paths[1..].iter().zip(asked) {
        server.probe.held(path).release();
        assert_eq!(connection.response().text(), first, "the same worker");
    }
}

#[test]
fn no_more_workers_are_added_than_may_be() {
    let Some(idle) = idle_cpus(90) else { return };
    let server = elastic(&idle).args(["--max-workers", "2"]).ready();
    let paths = paths("wait", 4);
    let mut asked = ask(&server, &paths[..2]);
    let held = all_held(&server, &paths[..2]);
    asked.extend(ask(&server, &paths[2..]));
    let seen = wait_for_reason(&server, "as many workers as may be");
    assert_eq!((&seen["workers"], &seen["maximum"]), (&2.into(), &2.into()));
    held.into_iter().for_each(Held::release);
    all_held(&server, &paths[2..])
        .into_iter()
        .for_each(Held::release);
    assert_eq!(answers(asked).len(), 2);
}

#[test]
fn an_application_that_must_not_be_forked_stays_at_its_number() {
    let Some(idle) = idle_cpus(90) else { return };
    let server = idle
        .server()
        .watched()
        .args(["--app", "boot_thread.py", "--chdir"])
        .args([apps()])
        .ready();
    server
        .stderr
        .wait_for("none is added, because each imports for itself");
    let scaling = scaling(&server);
    assert_eq!(
        (&scaling["workers"], &scaling["maximum"]),
        (&1.into(), &1.into()),
        "{scaling}"
    );
    assert_eq!(
        scaling["reason"],
        "fixed, because each worker imports for itself"
    );
}

#[test]
fn workers_that_keep_the_cpus_busy_leave_and_finish_what_they_have() {
    let Some(idle) = idle_cpus(90) else { return };
    let server = elastic(&idle).ready();
    let waits = paths("wait", 4);
    let asked = ask(&server, &waits);
    let held = all_held(&server, &waits);
    held.into_iter().for_each(Held::release);
    answers(asked);
    let computes = paths("compute", 4);
    let asked = ask(&server, &computes);
    let held = all_held(&server, &computes);
    idle.set(0);
    // Four workers want the one CPU.
    server
        .stderr
        .wait_for("workers wanted a CPU while the CPUs were busy");
    let seen = wait_for_reason(&server, "wanted a CPU");
    assert!(seen["workers"].as_u64() < Some(4), "{seen}");
    held.into_iter().for_each(Held::release);
    let computed = answers(asked);
    assert_eq!(computed.len(), 4, "each by its worker: {computed:?}");
    assert_eq!(server.stderr.count("worker died"), 0);
}

#[test]
fn a_number_set_by_hand_holds_until_the_next_reload() {
    let Some(idle) = idle_cpus(90) else { return };
    let server = elastic(&idle).ready();
    let scale = |number: &str| {
        let ended = Pyserve::bare()
            .env("PYSERVE_CONTROL", server.probe.path("control"))
            .args(["scale", number])
            .run();
        assert_eq!(ended.code, 0, "{}", ended.stderr);
    };
    scale("2");
    let now = scaling(&server);
    assert_eq!(now["reason"], "set by hand, until the next reload");
    assert_eq!(
        (&now["workers"], &now["minimum"], &now["maximum"]),
        (&2.into(), &2.into(), &2.into())
    );
    server.signal(Signal::HUP);
    server.stderr.wait_for("reloaded in");
    let now = scaling(&server);
    assert_eq!((&now["minimum"], &now["maximum"]), (&1.into(), &16.into()));
    // It follows the demand again.
    let paths = paths("wait", 4);
    let asked = ask(&server, &paths);
    let held = all_held(&server, &paths);
    held.into_iter().for_each(Held::release);
    assert_eq!(answers(asked).len(), 4);
}

#[test]
fn a_worker_that_cannot_be_started_costs_nothing_but_itself() {
    let Some(idle) = idle_cpus(90) else { return };
    let server = elastic(&idle).env("MOST_WORKERS", "1").ready();
    let paths = paths("wait", 2);
    let (mut asked, first) = ask_first(&server, &paths);
    let seen = wait_for_reason(&server, "another worker could not be started");
    assert_eq!(seen["workers"], 1);
    first.release();
    assert_eq!(asked.remove(0).response().status(), 200);
    server.probe.held(&paths[1]).release();
    assert_eq!(asked.remove(0).response().status(), 200);
}
