//! Signals that are meant for the server, in all processes of it.

use rustix::process::{Pid, Signal, kill_process};

use crate::support::server::{Pyserve, Server};
use crate::support::write_files;

const APP: &str = "import os, signal, multiprocessing, subprocess, time, probe\n\
    def app(environ, start_response):\n\
    \x20   path = environ['PATH_INFO']\n\
    \x20   body = str(os.getpid())\n\
    \x20   if path == '/dispositions':\n\
    \x20       body = str([signal.getsignal(s) == signal.SIG_DFL for s in (1, 10, 12, 15)])\n\
    \x20   elif path == '/terminate-fork':\n\
    \x20       ends = set()\n\
    \x20       for _ in range(40):\n\
    \x20           child = multiprocessing.get_context('fork').Process(target=time.sleep, args=(60,))\n\
    \x20           child.start(); child.terminate(); child.join(); ends.add(child.exitcode)\n\
    \x20       body = str(ends)\n\
    \x20   elif path == '/terminate-exec':\n\
    \x20       child = subprocess.Popen(['sleep', '60'])\n\
    \x20       child.terminate(); body = str(child.wait())\n\
    \x20   elif path == '/own':\n\
    \x20       seen = []\n\
    \x20       signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))\n\
    \x20       os.kill(os.getpid(), signal.SIGUSR1); time.sleep(0); body = str(seen)\n\
    \x20   elif path != '/': probe.wait(path)\n\
    \x20   start_response('200 OK', [('Content-Type', 'text/plain')])\n\
    \x20   return [body.encode()]\n";

fn serving() -> Server {
    let builder = Pyserve::new();
    let dir = builder.path("app");
    let probe = std::fs::read_to_string(crate::support::source("tests/apps/probe.py")).unwrap();
    write_files(&dir, &[("site_app.py", APP), ("probe.py", &*probe)]);
    builder
        .current_dir(&dir)
        .args(["--app", "site_app", "--workers", "1", "--threads", "1"])
        .ready()
}

fn children(pid: Pid) -> Vec<Pid> {
    let path = format!("/proc/{0}/task/{0}/children", pid.as_raw_nonzero());
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_ascii_whitespace()
        .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
        .collect()
}

/// The template and its workers.
fn python(server: &Server) -> Vec<Pid> {
    let templates = children(server.pid());
    let workers: Vec<Pid> = templates.iter().flat_map(|pid| children(*pid)).collect();
    assert!(!workers.is_empty());
    templates.into_iter().chain(workers).collect()
}

#[test]
fn template_and_workers_take_no_notice_of_signals_meant_for_the_server() {
    let server = serving();
    let worker = server.get("/").text();
    let before = python(&server);
    let (mut inside, held) = server.hold("/inside");
    for signal in [
        Signal::HUP,
        Signal::INT,
        Signal::QUIT,
        Signal::USR1,
        Signal::USR2,
        Signal::TERM,
    ] {
        for pid in &before {
            kill_process(*pid, signal).unwrap();
        }
    }
    held.release();
    assert_eq!(inside.response().text(), worker);
    // Idle now.
    for pid in &before {
        kill_process(*pid, Signal::TERM).unwrap();
    }
    assert_eq!(server.get("/").text(), worker);
    assert_eq!(python(&server), before);
}

#[test]
fn term_to_every_process_ends_the_server_with_status_0_and_loses_no_request() {
    let mut server = serving();
    let (mut inside, held) = server.hold("/inside");
    for pid in python(&server) {
        kill_process(pid, Signal::TERM).unwrap();
    }
    server.signal(Signal::TERM);
    server.stderr.wait_for("stop");
    held.release();
    assert_eq!(inside.response().status(), 200);
    assert_eq!(server.wait_exit(), 0);
}

#[test]
fn applications_see_default_actions_and_their_children_and_handlers_work() {
    let server = serving();
    assert_eq!(
        server.get("/dispositions").text(),
        "[True, True, True, True]"
    );
    // Also where the signal comes before the child has run its hooks.
    assert_eq!(server.get("/terminate-fork").text(), "{-15}");
    assert_eq!(server.get("/terminate-exec").text(), "-15");
    assert_eq!(server.get("/own").text(), "[1]");
}
