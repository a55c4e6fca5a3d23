//! Imports that do not return: the log and `pyserve stacks` say where they hang.

use std::path::Path;

use rustix::process::Signal;

use crate::support::server::{Ended, Pyserve, Server};
use crate::support::{temp_dir, write_files};

/// Holds the interpreter in C code, for seconds each time, until its parent has gone: a server that
/// a test kills cannot end it.
const HOLDS_INTERPRETER: &str = "\
import os, re; PARENT = os.getppid()

def prepare():
    re.match('(a+)+$', 'a' * 26 + 'b')

while os.getppid() == PARENT: prepare()
";
/// Waits with the interpreter free.
const WAITS: &str = "import threading\n\nthreading.Event().wait()\n";
const SERVES: &str = "\
from wsgiref.simple_server import make_server

def application(environ, start_response):
    start_response('200 OK', [])
    return [b'its own']

server = make_server('127.0.0.1', 0, application)
server.serve_forever()
";
const LISTENS: &str = "\
import socket

listener = socket.create_server(('127.0.0.1', 0))
listener.accept()
";
const HOOK: &str = "\
import threading
import pyserve

@pyserve.after_fork
def connect():
    threading.Event().wait()

def application(environ, start_response):
    pass
";

/// Hangs in the child before the worker begins.
const HOOK_OF_FORK: &str = "\
import os
import threading

def connect():
    threading.Event().wait()

os.register_at_fork(after_in_child=connect)

def application(environ, start_response):
    pass
";

fn start(dir: &Path, source: &str, args: &[&str]) -> Server {
    write_files(dir, &[("module.py", source)]);
    let server = Pyserve::new().args(["--app", "module", "--chdir"]);
    server.args([dir]).args(args).started()
}

fn stacks(server: &Server) -> Ended {
    let control = server.probe.path("control");
    let verb = Pyserve::bare().env("PYSERVE_CONTROL", control);
    verb.args(["stacks"]).run()
}

#[test]
fn an_import_that_hangs_is_logged_with_its_place_and_shown_by_stacks() {
    let cases = [
        (HOLDS_INTERPRETER, "auto", "module.py:4 (in match() of "),
        (WAITS, "auto", "module.py:3 (in wait() of threading.py)"),
        (HOLDS_INTERPRETER, "no", "module.py:4 (in match() of "),
        (HOOK, "yes", "module.py:6 (in wait() of threading.py)"),
        (
            HOOK_OF_FORK,
            "yes",
            "module.py:5 (in wait() of threading.py)",
        ),
    ];
    let dirs = cases.map(|_| temp_dir());
    let servers: Vec<_> = cases
        .iter()
        .zip(&dirs)
        .map(|((source, preload, _), dir)| start(dir.path(), source, &["--preload", preload]))
        .collect();
    for (server, (_, preload, place)) in servers.iter().zip(cases) {
        let line = server.stderr.wait_for("for 5 s; it is at ");
        assert!(line.contains(place), "{preload}: {line}");
        assert!(line.contains("[PS-209]"), "{preload}: {line}");
        server.stderr.wait_for("/module.py\", line ");
        let ended = stacks(server);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        let process = match preload {
            "auto" => "generation 1, template (pid ",
            _ => "generation 1, worker 0 (pid ",
        };
        for part in [process, "module.py\", line "] {
            assert!(ended.stdout.contains(part), "{part}: {}", ended.stdout);
        }
    }
}

#[test]
fn a_server_that_the_module_starts_at_import_is_named_with_its_address() {
    let cases = [
        (
            SERVES,
            "auto",
            "starts a server of its own at import (serve_forever() at module.py:8, listening on 127.0.0.1:",
        ),
        (
            SERVES,
            "no",
            "starts a server of its own at import (serve_forever() at module.py:8, listening on 127.0.0.1:",
        ),
        (LISTENS, "auto", "the module listens on 127.0.0.1:"),
    ];
    let dirs = cases.map(|_| temp_dir());
    let servers: Vec<_> = cases
        .iter()
        .zip(&dirs)
        .map(|((source, preload, _), dir)| start(dir.path(), source, &["--preload", preload]))
        .collect();
    for (server, (_, preload, part)) in servers.iter().zip(cases) {
        let line = server.stderr.wait_for("[PS-210]");
        assert!(line.contains(part), "{preload}: {line}");
        assert!(
            line.contains("put it under `if __name__ == \"__main__\":`"),
            "{preload}: {line}"
        );
    }
}

#[test]
fn the_signal_for_stacks_harms_neither_template_nor_worker_after_the_import() {
    let server = Pyserve::app("hello.py").watched().ready();
    let template = &server.status()["applications"][0]["template"]["pid"];
    let template = template.as_u64().expect("a process id").to_string();
    let workers = server.status()["applications"][0]["workers"].clone();
    let worker = workers[0]["pid"]
        .as_u64()
        .expect("a process id")
        .to_string();
    for pid in [&template, &worker] {
        let kill = std::process::Command::new("kill")
            .args(["-62", pid])
            .status();
        assert!(kill.unwrap().success());
    }
    assert_eq!(server.get("/").status(), 200);
    assert_eq!(
        server.status()["applications"][0]["workers"][0]["pid"].to_string(),
        worker
    );
    assert_eq!(
        server.status()["applications"][0]["template"]["pid"].to_string(),
        template
    );
}

#[test]
fn term_while_imports_hang_ends_the_server_at_once() {
    let cases = [
        (WAITS, "yes"),
        (WAITS, "no"),
        (HOLDS_INTERPRETER, "no"),
        (HOOK, "yes"),
        (HOOK, "no"),
        (HOOK_OF_FORK, "yes"),
    ];
    for (source, preload) in cases {
        let dir = temp_dir();
        let source = source.replace(
            "threading.Event().wait()",
            "print('waits', flush=True); threading.Event().wait()",
        );
        let source = source.replace("while os", "print('waits', flush=True)\nwhile os");
        // Longer than the test waits.
        let args = ["--preload", preload, "--graceful-timeout", "600"];
        let mut server = start(dir.path(), &source, &args);
        server.stdout.wait_for("waits");
        server.signal(Signal::TERM);
        assert_eq!(server.wait_exit(), 0, "{preload}: {source}");
        let log = server.stderr.to_end();
        assert!(!log.contains("WARN"), "{preload}: {log}");
    }
}
