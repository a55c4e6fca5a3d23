//! A stop before all workers are ready: nothing that an import or a hook has started is left, and
//! neither delays the stop.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::server::{Pyserve, Server};
use crate::support::{DEADLINE, temp_dir, write_files};

/// Starts the kinds of processes that an import may leave, prints their ids and waits for the first.
const STARTS_PROCESSES: &str = "
import os, subprocess, sys

def note(pid):
    print('started', pid, flush=True)

note(os.getpid())
child = subprocess.Popen(['sleep', '1000'])
note(child.pid)
note(subprocess.Popen(['sleep', '1000'], start_new_session=True).pid)
if os.fork() == 0:
    note(os.getpid())
    os.execvp('sleep', ['sleep', '1000'])
child.wait()
";
/// Leaves a process whose parent has exited.
const LEAVES_AN_ORPHAN: &str = "
import os, time

print('started', os.getpid(), flush=True)
if os.fork() == 0:
    if os.fork() == 0:
        print('started', os.getpid(), flush=True)
        os.execvp('sleep', ['sleep', '1000'])
    os._exit(0)
os.wait()
time.sleep(1000)
";
const SERVES: &str = "
def application(environ, start_response):
    start_response('200 OK', [])
    return [b'ok']
";
const HANGS_BEFORE_FORK: &str = "
import os, time

def hang():
    print('hangs', flush=True)
    time.sleep(1000)

os.register_at_fork(before=hang)
";

fn start(dir: &Path, source: &str, args: &[&str]) -> Server {
    write_files(dir, &[("module.py", &format!("{source}{SERVES}"))]);
    let server = Pyserve::new().args(["--app", "module", "--chdir"]);
    // Longer than a test waits.
    let server = server.args([dir]).args(["--graceful-timeout", "600"]);
    server.args(args).started()
}

/// The processes that the application has printed.
fn processes(server: &Server, count: usize) -> Vec<String> {
    let nth = |number| server.stdout.wait_for_nth("started ", number);
    let lines = (1..=count).map(nth);
    lines
        .map(|line| line.rsplit(' ').next().unwrap().trim().to_owned())
        .collect()
}

fn assert_gone(pids: &[String]) {
    let began = Instant::now();
    for pid in pids {
        let lives = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
            stat.is_ok_and(|stat| !stat.contains(") Z "))
        };
        while lives() {
            assert!(began.elapsed() < DEADLINE, "{pid} of {pids:?} is left");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn term_ends_what_the_import_of_a_worker_has_started() {
    let cases = [(STARTS_PROCESSES, 4), (LEAVES_AN_ORPHAN, 2)];
    for (source, count) in cases {
        for signal in [Signal::TERM, Signal::INT] {
            let dir = temp_dir();
            let mut server = start(dir.path(), source, &["--preload", "no", "--workers", "2"]);
            let pids = processes(&server, 2 * count);
            server.signal(signal);
            assert_eq!(server.wait_exit(), 0);
            assert_gone(&pids);
            let log = server.stderr.to_end();
            assert!(!log.contains("WARN"), "{log}");
        }
    }
}

#[test]
fn term_ends_what_a_worker_has_started_that_imports_beside_a_ready_one() {
    let dir = temp_dir();
    let first_serves = "
import os
try:
    os.close(os.open('first', os.O_CREAT | os.O_EXCL))
    is_first = True
except FileExistsError:
    is_first = False
if not is_first:
";
    let indented = STARTS_PROCESSES.replace('\n', "\n    ");
    let source = format!("{first_serves}{indented}\n");
    let args = ["--preload", "no", "--workers", "2", "--log-level", "debug"];
    let mut server = start(dir.path(), &source, &args);
    server.stderr.wait_for("worker ready");
    let pids = processes(&server, 4);
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
    assert_gone(&pids);
    let log = server.stderr.to_end();
    assert!(!log.contains("WARN"), "{log}");
}

#[test]
fn a_template_that_hangs_before_a_fork_does_not_delay_a_stop() {
    for preload in ["yes", "auto"] {
        let dir = temp_dir();
        let args = ["--preload", preload];
        let mut server = start(dir.path(), HANGS_BEFORE_FORK, &args);
        server.stdout.wait_for("hangs");
        server.signal(Signal::TERM);
        assert_eq!(server.wait_exit(), 0);
        // Neither the message of a hanging template nor that of its death.
        let log = server.stderr.to_end();
        assert!(!log.contains("PS-"), "{log}");
    }
}

#[test]
fn a_template_that_hangs_before_a_later_fork_does_not_delay_a_stop() {
    let dir = temp_dir();
    let source = HANGS_BEFORE_FORK.replace(
        "def hang():\n",
        "forks = []\n\ndef hang():\n    forks.append(1)\n    if len(forks) == 1: return\n",
    );
    let args = ["--preload", "yes", "--workers", "2", "--log-level", "debug"];
    let mut server = start(dir.path(), &source, &args);
    server.stderr.wait_for("worker ready");
    server.stdout.wait_for("hangs");
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
    let log = server.stderr.to_end();
    assert!(!log.contains("PS-"), "{log}");
}

/// A hook in the new worker hangs if the file `hangs` exists.
const HANGS_AFTER_FORK: &str = "
import os, time

def hang():
    if os.path.exists('hangs'):
        print('started', os.getpid(), flush=True)
        time.sleep(1000)

os.register_at_fork(after_in_child=hang)
";
/// The import hangs if the file `hangs` exists.
const HANGS_IN_IMPORT: &str = "
import os, time

if os.path.exists('hangs'):
    print('started', os.getpid(), flush=True)
    time.sleep(1000)
";

/// A worker that hangs ends with the server, which is killed: at the start, or later if a worker
/// `served` before and is replaced.
fn check_ends_with_the_killed_server(source: &str, args: &[&str], served: bool) {
    let dir = temp_dir();
    let hang = || write_files(dir.path(), &[("hangs", "")]);
    if !served {
        hang();
    }
    write_files(dir.path(), &[("module.py", &format!("{source}{SERVES}"))]);
    let server = Pyserve::new().args(["--app", "module", "--chdir"]);
    let server = server.args([dir.path()]).args(args).watched();
    let mut server = match served {
        true => server.ready(),
        false => server.started(),
    };
    if served {
        hang();
        let status = server.status();
        let worker = status["applications"][0]["workers"][0]["pid"].as_u64();
        let worker = i32::try_from(worker.expect("a process id")).unwrap();
        let worker = rustix::process::Pid::from_raw(worker).expect("not 0");
        rustix::process::kill_process(worker, Signal::KILL).unwrap();
    }
    let pids = processes(&server, 1);
    server.signal(Signal::KILL);
    server.wait_exit();
    assert_gone(&pids);
}

#[test]
fn a_worker_that_hangs_after_the_fork_ends_with_the_killed_server() {
    for served in [false, true] {
        check_ends_with_the_killed_server(HANGS_AFTER_FORK, &[], served);
    }
}

#[test]
fn a_worker_that_hangs_in_its_own_import_ends_with_the_killed_server() {
    check_ends_with_the_killed_server(HANGS_IN_IMPORT, &["--preload", "no"], false);
    check_ends_with_the_killed_server(HANGS_IN_IMPORT, &["--preload", "no"], true);
    let refused = format!("{HANGS_IN_IMPORT}\nends = os.pipe()\n");
    check_ends_with_the_killed_server(&refused, &[], true);
}
