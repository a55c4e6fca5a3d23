//! Processes that are alive and do nothing: they are noticed, said not to be ready, and
//! replaced.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::server::{Pyserve, Server, get};
use crate::support::{DEADLINE, temp_dir, write_files};

struct Stuck {
    server: Server,
    dir: tempfile::TempDir,
}

impl Stuck {
    fn start(args: &[&str]) -> Self {
        let dir = temp_dir();
        let server = Pyserve::app("liveness.py")
            .watched()
            .env("STUCK", dir.path())
            .args(args)
            .ready();
        Self { server, dir }
    }

    fn set(&self, flag: &str) {
        write_files(self.dir.path(), &[(flag, "")]);
    }

    fn clear(&self, flag: &str) {
        std::fs::remove_file(self.dir.path().join(flag)).expect("it was set");
    }

    fn worker(&self) -> Pid {
        pid(&self.server.get("/").text())
    }

    fn ready(&self) -> u16 {
        self.server.admin("/-/ready").status()
    }

    fn template(&self) -> Pid {
        let status = self.server.status();
        let template = &status["applications"][0]["template"]["pid"];
        pid(&template.as_u64().expect("a process id").to_string())
    }
}

fn pid(text: &str) -> Pid {
    Pid::from_raw(text.parse().expect("a process id")).expect("not 0")
}

/// Waits until `done`.
fn until(what: &str, done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < DEADLINE, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a process has ended; whoever adopted it may not have reaped it.
fn is_gone(process: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"));
    stat.map_or(true, |stat| stat.contains(") Z "))
}

/// Children of a process.
fn children(process: Pid) -> Vec<Pid> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).into_iter();
    let texts = tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok());
    let all: String = texts.collect();
    all.split_whitespace().map(pid).collect()
}

#[test]
fn a_template_whose_hook_hangs_is_replaced_and_not_called_ready() {
    let stuck = Stuck::start(&[]);
    assert_eq!(stuck.ready(), 200);
    let (worker, template) = (stuck.worker(), stuck.template());
    stuck.set("hang");
    kill_process(worker, Signal::KILL).unwrap();
    until("it is not ready without workers", || stuck.ready() == 503);
    let stderr = &stuck.server.stderr;
    let line = stderr.wait_for("the template forks no worker for 10 s; it is at ");
    assert!(line.contains("liveness.py:19"), "{line}");
    until("the template is killed", || is_gone(template));
    let line = stderr.wait_for("template died");
    let reason = "killed by pyserve: it forked no worker for 10 s";
    assert!(line.contains(reason), "{line}");
    stuck.clear("hang");
    assert_eq!(stuck.server.get("/").status(), 200);
    assert_eq!(stuck.ready(), 200);
}

#[test]
fn the_end_of_a_worker_is_noticed_though_its_template_is_stopped() {
    let stuck = Stuck::start(&[]);
    let (worker, template) = (stuck.worker(), stuck.template());
    kill_process(template, Signal::STOP).unwrap();
    kill_process(worker, Signal::KILL).unwrap();
    until("it is not ready without workers", || stuck.ready() == 503);
    assert_eq!(stuck.server.get("/").status(), 200, "by another template");
    assert_ne!(stuck.template(), template);
}

#[test]
fn a_worker_that_is_stopped_is_replaced() {
    let stuck = Stuck::start(&[]);
    let worker = stuck.worker();
    kill_process(worker, Signal::STOP).unwrap();
    let answer = stuck.server.get("/");
    assert_eq!(answer.status(), 200);
    assert_ne!(pid(&answer.text()), worker);
    stuck
        .server
        .stderr
        .wait_for("worker takes no requests for 10 s");
}

#[test]
fn a_worker_that_is_stopped_is_replaced_though_its_clients_soon_leave() {
    let stuck = Stuck::start(&[]);
    let worker = stuck.worker();
    kill_process(worker, Signal::STOP).unwrap();
    // Each leaves long before the limit.
    let mut client = stuck.server.connect();
    client.send(get("/"));
    client.reset();
    stuck
        .server
        .stderr
        .wait_for("worker takes no requests for 10 s");
    assert_ne!(pid(&stuck.server.get("/").text()), worker);
}

#[test]
fn a_worker_whose_interpreter_is_held_between_requests_is_replaced() {
    let stuck = Stuck::start(&[]);
    let worker = pid(&stuck.server.get("/hold-interpreter").text());
    stuck.set("hold");
    until("another worker answers", || {
        let answer = stuck.server.get("/");
        assert_eq!(answer.status(), 200);
        pid(&answer.text()) != worker
    });
    stuck
        .server
        .stderr
        .wait_for("worker takes no requests for 10 s");
    until("it is killed", || is_gone(worker));
}

#[test]
fn a_template_that_dies_at_each_fork_ends_the_start() {
    let dir = temp_dir();
    write_files(dir.path(), &[("die", "")]);
    let ended = Pyserve::app("liveness.py").env("STUCK", dir.path()).run();
    assert_eq!(ended.code, 3, "{}", ended.stderr);
    let starts = ended.stderr.matches("template died").count();
    assert!(starts <= 4, "{starts}: {}", ended.stderr);
}

#[test]
fn a_worker_with_a_thread_that_does_not_end_is_killed_after_the_graceful_time() {
    let stuck = Stuck::start(&["--max-requests", "3", "--graceful-timeout", "2"]);
    let worker = pid(&stuck.server.get("/stay").text());
    until("it is replaced", || stuck.worker() != worker);
    stuck
        .server
        .stderr
        .wait_for("the idle worker does not exit");
    until("it is killed", || is_gone(worker));
}

/// A server that never finishes its import, and the process that imports.
fn importing() -> (Server, Pid, tempfile::TempDir) {
    let dir = temp_dir();
    let code = "import time\nprint('importing', flush=True)\ntime.sleep(1000)\n";
    write_files(dir.path(), &[("endless.py", code)]);
    let server = Pyserve::new()
        .current_dir(dir.path())
        .args(["--app", "endless.py"])
        .started();
    let began = Instant::now();
    let template = loop {
        let children = children(server.pid());
        let is_python = |child: &Pid| {
            std::fs::read_to_string(format!("/proc/{child}/cmdline"))
                // Its title replaces its command line.
                .is_ok_and(|line| line.contains("python") || line.contains("template"))
        };
        if let Some(child) = children.into_iter().find(is_python) {
            break child;
        }
        assert!(began.elapsed() < DEADLINE);
    };
    (server, template, dir)
}

#[test]
fn a_stop_ends_a_template_that_still_imports() {
    let (mut server, template, _dir) = importing();
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
    until("the template is gone", || is_gone(template));
}

#[test]
fn nothing_outlives_a_server_that_is_killed() {
    let (mut server, template, _dir) = importing();
    server.signal(Signal::KILL);
    server.wait_exit();
    until("the template is gone", || is_gone(template));

    let mut stuck = Stuck::start(&[]);
    let worker = pid(&stuck.server.get("/stay").text());
    stuck.server.signal(Signal::KILL);
    stuck.server.wait_exit();
    // It has 10 s to leave by itself, which its thread does not let it.
    until("the worker is gone", || is_gone(worker));
}

/// Every process stands still, as in a container that is paused.
#[test]
fn a_pause_of_everything_costs_no_worker() {
    let stuck = Stuck::start(&["--request-timeout", "4"]);
    let (worker, template) = (stuck.worker(), stuck.template());
    let mut inside = stuck.server.connect();
    inside.send(get("/held"));
    let held = stuck.server.probe.held("/held");
    let all = [worker, template, stuck.server.pid()];
    for process in all {
        kill_process(process, Signal::STOP).unwrap();
    }
    // As long as it takes to be over every limit by the clock.
    std::thread::sleep(Duration::from_secs(8));
    for process in all {
        kill_process(process, Signal::CONT).unwrap();
    }
    assert_eq!(stuck.ready(), 200);
    held.release();
    assert_eq!(inside.response().status(), 200);
    assert_eq!(stuck.worker(), worker);
    assert_eq!(stuck.template(), template);
}

#[test]
fn a_pause_of_everything_is_no_part_of_the_graceful_timeout() {
    let mut stuck = Stuck::start(&["--graceful-timeout", "6"]);
    let (worker, template) = (stuck.worker(), stuck.template());
    let mut inside = stuck.server.connect();
    inside.send(get("/held"));
    let held = stuck.server.probe.held("/held");
    stuck.server.signal(Signal::TERM);
    stuck.server.stderr.wait_for("finishing in-flight requests");
    let all = [worker, template, stuck.server.pid()];
    for process in all {
        kill_process(process, Signal::STOP).unwrap();
    }
    std::thread::sleep(Duration::from_secs(8));
    for process in all {
        kill_process(process, Signal::CONT).unwrap();
    }
    // The timers that were due meanwhile have fired.
    std::thread::sleep(Duration::from_millis(300));
    held.release();
    assert_eq!(inside.response().status(), 200);
    assert_eq!(stuck.server.wait_exit(), 0);
}
