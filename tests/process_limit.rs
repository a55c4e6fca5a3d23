//! No further process or thread may be made (`ulimit -u`, `pids.max`): what the server has
//! goes on.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::Signal;

use crate::support::raw::Connection;
use crate::support::server::{Pyserve, Server, post};
use crate::support::{is_root, temp_dir, write_files};

/// A user of this test alone: the limit counts all processes of a user.
const USER: u32 = 64_331;

/// Tells the length of the body. At `/limit/PID/MOST` it changes the limit of the server, which
/// is a process of the same user.
const ECHO: &str = "
import resource

def application(environ, start_response):
    body = environ['wsgi.input'].read()
    if environ['PATH_INFO'].startswith('/limit/'):
        pid, most = map(int, environ['PATH_INFO'].split('/')[2:])
        _, hard = resource.prlimit(pid, resource.RLIMIT_NPROC)
        resource.prlimit(pid, resource.RLIMIT_NPROC, (most if most else hard, hard))
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [str(len(body)).encode()]
";

fn open_to_all(path: &Path) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o777)).expect("it is ours");
}

/// Zero for none.
fn set_limit(server: &Server, most: u64) {
    let answer = server.get(&format!("/limit/{}/{most}", server.pid()));
    assert_eq!(answer.status(), 200);
}

#[test]
fn a_server_that_gets_no_more_threads_serves_and_reloads_later() {
    if !is_root("running as another user") {
        return;
    }
    let dir = temp_dir();
    let large = "x".repeat(1 << 20);
    write_files(
        dir.path(),
        &[("app.py", ECHO), ("static/large.txt", &large)],
    );
    std::fs::create_dir(dir.path().join("spool")).unwrap();
    for path in ["", "static", "spool"] {
        open_to_all(&dir.path().join(path));
    }
    let user = USER.to_string();
    let server = Pyserve::new()
        .without("PYSERVE_CONTROL")
        .env("TMPDIR", dir.path().join("spool"))
        .current_dir(dir.path())
        .args(["--uid", &user, "--gid", &user, "--app", "app.py"])
        .ready();
    set_limit(&server, 1);
    // Several at a time, each of which needs a thread that may block.
    let mut downloads: Vec<_> = (0..8).map(|_| server.connect()).collect();
    for download in &mut downloads {
        download.send("GET /static/large.txt HTTP/1.1\r\nHost: h\r\n\r\n");
    }
    for download in &mut downloads {
        let response = download.response();
        assert_eq!((response.status(), response.body.len()), (200, 1 << 20));
    }
    let upload = server.exchange(&post("/", &large));
    assert_eq!((upload.status(), &*upload.text()), (200, "1048576"));
    server.signal(Signal::HUP);
    server.stderr.wait_for("reload failed");
    assert_eq!(server.exchange(&post("/", "abc")).text(), "3");
    set_limit(&server, 0);
    server.signal(Signal::HUP);
    server.stderr.wait_for("reloaded in");
    assert_eq!(server.exchange(&post("/", "abcd")).text(), "4");
}

#[test]
fn a_limit_that_is_too_low_for_the_start_is_an_error() {
    if !is_root("running as another user") {
        return;
    }
    // One user for each case: processes of a case that has just ended may still be counted.
    let mut user = USER + 1;
    for front_threads in ["1", "2"] {
        for limit in 1..=4 {
            let dir = temp_dir();
            write_files(dir.path(), &[("app.py", ECHO)]);
            open_to_all(dir.path());
            let number = user.to_string();
            user += 1;
            let ended = Pyserve::new()
                .without("PYSERVE_CONTROL")
                .env("PYSERVE_FRONT_THREADS", front_threads)
                .env("TMPDIR", dir.path())
                .current_dir(dir.path())
                .args(["--uid", &number, "--gid", &number, "--app", "app.py"])
                .with_processes(limit)
                .run();
            assert_ne!(ended.code, 0, "{limit}");
            let log = ended.stderr;
            assert!(!log.contains("panicked"), "{limit}: {log}");
            assert!(
                log.contains("Resource temporarily unavailable"),
                "{limit}: {log}"
            );
        }
    }
}

#[test]
fn a_worker_that_gets_no_thread_names_the_limit_and_one_that_is_ready_serves() {
    if !is_root("running as another user") {
        return;
    }
    for (threads, user) in [("1", 64_400), ("4", 64_440)] {
        let is_served = |limit: u32| {
            let dir = temp_dir();
            write_files(dir.path(), &[("app.py", ECHO)]);
            open_to_all(dir.path());
            // One user for each case, as above.
            let number = (user + limit).to_string();
            let server = Pyserve::new()
                .without("PYSERVE_CONTROL")
                .env("PYSERVE_FRONT_THREADS", "1")
                .env("TMPDIR", dir.path())
                .current_dir(dir.path())
                .args(["--uid", &number, "--gid", &number, "--app", "app.py"])
                .args(["--workers", "1", "--threads", threads]);
            let socket = dir.path().join("http");
            let bind = format!("unix:{}", socket.display());
            let server = server.env("PYSERVE_BIND", bind).with_processes(limit);
            let mut server = server.started();
            let said = server.stderr.wait_for_any(&["ready in ", "`ulimit -u`"]);
            if said.contains("ready in ") {
                let body = Connection::unix(&socket).exchange(post("/", "ab")).text();
                assert_eq!(body, "2", "{limit}");
                assert_eq!(server.stderr.count("worker died"), 0, "{limit}");
                return true;
            }
            assert_ne!(server.wait_exit(), 0, "{limit}");
            let log = server.stderr.to_end();
            assert!(!log.contains("Traceback"), "{limit}: {log}");
            false
        };
        assert!((4..40).any(is_served), "{threads}");
    }
}
