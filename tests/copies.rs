//! Processes that the application forks inside a request: they are no workers.

use crate::support::server::{Pyserve, Server};
use crate::support::write_files;

/// `/FORK/CHILD`: the parent waits for the child's end and answers with its status.
const APP: &str = r#"
import ctypes, os, platform, resource, sys
kept = []
def clone():
    # The flag is SIGCHLD; the call is clone on both architectures.
    number = 56 if platform.machine() == 'x86_64' else 220
    return ctypes.PyDLL(None).syscall(number, 17, 0, 0, 0, 0)
FORKS = {
    'os.fork': os.fork,
    'forkpty': lambda: os.forkpty()[0],
    'libc': ctypes.PyDLL(None).fork,
    'clone': clone,
}
def leak():
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    try:
        while True: kept.append(os.open('/dev/null', os.O_RDONLY))
    except OSError: pass
def app(environ, start_response):
    _, what, then = environ['PATH_INFO'].split('/')
    text = str(os.getpid())
    if what == 'leak': leak()
    if what == 'limit': resource.setrlimit(resource.RLIMIT_NOFILE, (4, 4))
    if what in FORKS:
        child = FORKS[what]()
        if child == 0 and then == 'exit': sys.exit(0)
        if child == 0 and then == 'raise': raise ValueError('in the child')
        if child == 0 and then == 'write':
            write = start_response('200 OK', [])
            write(b'child'); write(b'child')
            return []
        if child == 0 and then == 'stream':
            start_response('200 OK', [])
            return (b'child' * 20000 for _ in range(3))
        if child: text += ' %d' % os.waitpid(child, 0)[1]
    start_response('200 OK', [('Content-Length', str(len(text)))])
    return [text.encode()]
"#;

/// The same while the application is imported: the child goes on as if it were the parent.
const IMPORT: &str = r#"
import ctypes, os, platform
def clone():
    number = 56 if platform.machine() == 'x86_64' else 220
    return ctypes.PyDLL(None).syscall(number, 17, 0, 0, 0, 0)
forks = {'os.fork': os.fork, 'libc': ctypes.PyDLL(None).fork, 'clone': clone}
child = forks[os.environ['FORK']]()
if child: status = os.waitpid(child, 0)[1]
def app(environ, start_response):
    start_response('200 OK', [])
    return [b'%d %d' % (os.getpid(), status)]
"#;

#[test]
fn a_child_that_the_import_forks_is_neither_template_nor_worker() {
    for fork in ["os.fork", "libc", "clone"] {
        for preload in ["yes", "no"] {
            let builder = Pyserve::new();
            let dir = builder.path("site");
            write_files(&dir, &[("app.py", IMPORT)]);
            let server = builder
                .current_dir(dir)
                .env("FORK", fork)
                .args(["--app", "app.py", "--workers", "1", "--preload", preload])
                .ready();
            let first = server.get("/").text();
            assert!(first.ends_with(" 0"), "{fork} {preload}: {first}");
            for _ in 0..3 {
                assert_eq!(server.get("/").text(), first, "{fork} {preload}");
            }
        }
    }
}

fn start(threads: &str) -> Server {
    let builder = Pyserve::new();
    let dir = builder.path("site");
    write_files(&dir, &[("app.py", APP)]);
    builder
        .current_dir(dir)
        .args(["--app", "app.py", "--workers", "1", "--threads", threads])
        .ready()
}

#[track_caller]
fn check(before: Option<&str>, threads: &str) {
    let server = start(threads);
    if let Some(before) = before {
        assert_eq!(server.get(&format!("/{before}/")).status(), 200);
    }
    let worker = server.get("/pid/").text();
    for fork in ["os.fork", "forkpty", "libc", "clone"] {
        // A terminal takes two descriptors.
        if fork == "forkpty" && before.is_some() {
            continue;
        }
        for then in ["return", "exit", "raise", "write", "stream"] {
            let answer = server.get(&format!("/{fork}/{then}"));
            assert_eq!(
                (answer.status(), answer.text()),
                (200, format!("{worker} 0")),
                "{fork} {then} {before:?}"
            );
            for _ in 0..3 {
                assert_eq!(server.get("/pid/").text(), worker, "{fork} {then}");
            }
        }
    }
    // The scoreboard of the worker is as it was: the children wrote nothing there.
    assert_eq!(server.stderr.count("PS-301"), 0);
    assert_eq!(server.stderr.count("scoreboard"), 0);
}

#[test]
fn a_child_that_a_request_forks_neither_answers_nor_takes_requests() {
    check(None, "1");
}

#[test]
fn a_child_of_a_worker_without_a_free_descriptor_answers_nothing() {
    check(Some("leak"), "1");
}

#[test]
fn a_child_of_a_worker_whose_limit_is_below_its_descriptors_answers_nothing() {
    check(Some("limit"), "1");
}

#[test]
fn a_child_that_a_thread_of_a_worker_forks_answers_nothing() {
    check(None, "3");
}
