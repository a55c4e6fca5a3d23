//! The log names the reason for which a worker or a template ended, and does not blame others for
//! what pyserve killed.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::server::{Pyserve, Server};
use crate::support::{DEADLINE, temp_dir, write_files};

const SERVES: &str = "
def application(environ, start_response):
    start_response('200 OK', [])
    return [b'ok']
";

fn module(dir: &Path, source: &str) -> Pyserve {
    write_files(dir, &[("module.py", &format!("{SERVES}{source}"))]);
    let server = Pyserve::new().args(["--app", "module", "--chdir"]);
    server.args([dir])
}

#[test]
fn an_exit_during_the_import_is_logged_with_its_status() {
    let cases = [
        (
            "import os\nos._exit(0)\n",
            "exit code 0, before it was ready",
        ),
        (
            "import os\nos._exit(7)\n",
            "exit code 7, before it was ready",
        ),
        (
            "import os\nos.closerange(3, 1000)\n",
            ", before it was ready",
        ),
        (
            "import os\nif os.fork(): os._exit(0)\n",
            "exit code 0, before it was ready",
        ),
    ];
    for (source, reason) in cases {
        let dir = temp_dir();
        let ended = module(dir.path(), source).args(["--preload", "no"]).run();
        assert_eq!(ended.code, 3, "{source}: {}", ended.stderr);
        let mut lines = ended.stderr.lines();
        let line = lines.find(|line| line.contains("worker died"));
        let line = line.unwrap_or_else(|| panic!("{source}: {}", ended.stderr));
        for part in ["WARN", "[PS-301]", reason] {
            assert!(line.contains(part), "{source}: {part}: {line}");
        }
    }
}

#[test]
fn workers_that_end_with_a_stop_or_a_reload_are_no_deaths() {
    let dir = temp_dir();
    let mut server = module(dir.path(), "")
        .args(["--preload", "no", "--workers", "2"])
        .ready();
    server.signal(Signal::HUP);
    server.stderr.wait_for("reloaded in");
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
    let log = server.stderr.to_end();
    assert!(!log.contains("died"), "{log}");
}

#[test]
fn a_stop_during_a_reload_that_hangs_kills_without_a_report_of_deaths() {
    for preload in ["no", "yes"] {
        let dir = temp_dir();
        let mut server = module(dir.path(), "").args(["--preload", preload]).ready();
        let hangs =
            format!("{SERVES}\nimport time\nprint('hangs', flush=True)\ntime.sleep(1000)\n");
        write_files(dir.path(), &[("module.py", &hangs)]);
        server.signal(Signal::HUP);
        server.stdout.wait_for("hangs");
        server.signal(Signal::TERM);
        assert_eq!(server.wait_exit(), 0);
        let log = server.stderr.to_end();
        assert!(!log.contains("died") && !log.contains("killed"), "{log}");
    }
}

fn template(server: &Server) -> Pid {
    let pid = server.status()["applications"][0]["template"]["pid"].as_u64();
    Pid::from_raw(pid.expect("a process id") as i32).expect("not 0")
}

#[test]
fn a_template_that_is_killed_from_outside_is_reported_as_such() {
    let dir = temp_dir();
    let server = module(dir.path(), "")
        .args(["--preload", "yes"])
        .watched()
        .ready();
    kill_process(template(&server), Signal::KILL).unwrap();
    let line = server.stderr.wait_for("template died");
    assert!(line.contains("SIGKILL: killed from outside"), "{line}");
}

#[test]
fn a_template_that_is_killed_because_it_closed_its_socket_is_reported_as_such() {
    let dir = temp_dir();
    // The handler runs in the template, between two messages.
    let source = "
import os, signal, threading

def close(*_):
    os.closerange(3, 1000)
    threading.Event().wait()

signal.signal(signal.SIGUSR2, close)
";
    let server = module(dir.path(), source)
        .args(["--preload", "yes"])
        .watched()
        .ready();
    kill_process(template(&server), Signal::USR2).unwrap();
    let line = server.stderr.wait_for("template died");
    let reason = "killed by pyserve: it had closed its control socket";
    assert!(line.contains(reason), "{line}");
}

#[test]
fn a_signal_that_reaches_an_interpreter_before_it_can_ignore_it_does_not_fail_a_reload() {
    let dir = temp_dir();
    let strike = dir.path().join("strike");
    let site = format!(
        "
import os, signal
try:
    os.rename({strike:?}, {strike:?} + '.done')
except OSError:
    pass
else:
    os.kill(os.getpid(), signal.SIGHUP)
"
    );
    write_files(dir.path(), &[("site/sitecustomize.py", &site)]);
    let server = module(dir.path(), "")
        .env("PYTHONPATH", dir.path().join("site"))
        .ready();
    write_files(dir.path(), &[("strike", "")]);
    server.signal(Signal::HUP);
    server.stderr.wait_for("starting another");
    server.stderr.wait_for("reloaded in");
    assert_eq!(server.get("/").status(), 200);
    assert_eq!(server.stderr.count("died"), 0);
}

#[test]
fn child_processes_of_a_worker_that_does_not_exit_are_killed_with_it() {
    let dir = temp_dir();
    let source = "
import os, pyserve, subprocess, time

@pyserve.after_fork
def begin():
    child = subprocess.Popen(['sleep', '1000'])
    print('started', child.pid, flush=True)

@pyserve.before_exit
def wait():
    time.sleep(1000)
";
    let mut server = module(dir.path(), source)
        .args(["--graceful-timeout", "1"])
        .ready();
    let line = server.stdout.wait_for("started ");
    let child = line.rsplit(' ').next().unwrap().trim().parse().unwrap();
    let child = Pid::from_raw(child).expect("not 0");
    server.signal(Signal::TERM);
    server.wait_exit();
    let began = std::time::Instant::now();
    while rustix::process::test_kill_process(child).is_ok() {
        assert!(began.elapsed() < DEADLINE, "it is left");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
