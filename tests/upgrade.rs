//! Upgrades: a new process takes the place of a running server.

mod clients;
mod faults;
mod moments;
mod state;
mod suspended;

use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::raw::Connection;
use crate::support::server::{Ended, Pyserve, Server, get};
use crate::support::{DEADLINE, copy_program, skipped, source, temp_dir, write_files};

/// Answers with its process id and the one of its server; waits where a file `hold` says so.
const APP: &str = "import os, probe\n\
    here = os.path.dirname(__file__)\n\
    if os.path.exists(os.path.join(here, 'hold')): probe.wait('importing')\n\
    def app(environ, start_response):\n\
    \x20   if environ['PATH_INFO'] != '/': probe.wait(environ['PATH_INFO'])\n\
    \x20   return probe.plain(start_response, str(os.getpid()))\n";

/// A directory with the application and another name of the binary.
struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let dir = temp_dir();
        let probe = std::fs::read_to_string(source("tests/apps/probe.py")).unwrap();
        write_files(dir.path(), &[("app.py", APP), ("probe.py", &probe)]);
        install(&dir.path().join("pyserve"));
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A server of the binary in this directory, with the settings of a `pyserve.toml` there.
    fn pyserve(&self) -> Pyserve {
        write_files(self.dir.path(), &[("pyserve.toml", "app = 'app:app'\n")]);
        Pyserve::binary(&self.path("pyserve"))
            .quick()
            .current_dir(self.dir.path())
    }

    /// An executable script.
    fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path
    }

    /// The next start of the application waits until the test lets it go on.
    fn hold_next_start(&self) {
        std::fs::write(self.path("hold"), "").unwrap();
    }

    fn hold_no_more(&self) {
        std::fs::remove_file(self.path("hold")).unwrap();
    }
}

/// Another name of the binary under test.
fn install(path: &Path) {
    let binary = env!("CARGO_BIN_EXE_pyserve");
    if std::fs::hard_link(binary, path).is_err() {
        copy_program(binary, path);
    }
}

/// Runs a verb against the server with this control socket.
pub fn verb(server: &Server, arguments: &[&str]) -> Ended {
    let control = server.probe.path("control");
    // Root asks no server of a user that the settings do not name.
    let owner = std::fs::metadata(&control).map_or(0, |socket| socket.uid());
    let mut verb = Pyserve::bare().env("PYSERVE_CONTROL", control);
    if owner != 0 {
        verb = verb.env("PYSERVE_UID", owner.to_string());
    }
    verb.args(arguments).run()
}

#[track_caller]
pub fn upgrade(server: &Server) -> Pid {
    let ended = verb(server, &["upgrade"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(
        ended.stdout.starts_with("upgraded from pyserve "),
        "{}",
        ended.stdout
    );
    main_pid(server)
}

/// The process that answers on the control socket.
#[track_caller]
pub fn main_pid(server: &Server) -> Pid {
    let ended = verb(server, &["status", "--json"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let status: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    Pid::from_raw(status["pid"].as_i64().unwrap() as i32).unwrap()
}

fn has_ended(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_none_or(|(_, state)| state.starts_with('Z'))
}

#[track_caller]
pub fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < DEADLINE, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn kill(pid: Pid, signal: Signal) {
    kill_process(pid, signal).expect("the process is there");
}

/// The process id behind this text in the log.
fn logged_pid(server: &Server, before: &str) -> Pid {
    let line = server.stderr.wait_for(before);
    let (_, behind) = line.split_once(before).unwrap();
    let digits = behind.split(|c: char| !c.is_ascii_digit()).next().unwrap();
    Pid::from_raw(digits.parse().expect("a process id")).unwrap()
}

#[test]
fn another_process_takes_everything_over_and_the_first_one_forwards_signals_to_it() {
    let site = Site::new();
    let (unix, pidfile) = (site.path("web.sock"), site.path("site.pid"));
    let bind = format!("127.0.0.1:0 unix:{}", unix.display());
    let builder = site.pyserve().watched();
    let admin = builder.path("admin");
    let mut server = builder
        .env("PYSERVE_BIND", bind)
        .env("PYSERVE_PIDFILE", &pidfile)
        .ready();
    let first = server.pid();
    let old_worker = server.get("/").text();
    let mut pids = vec![first];
    for round in 1..=2 {
        let pid = match round {
            1 => upgrade(&server),
            _ => {
                server.signal(Signal::USR2);
                server.stderr.wait_for_nth("upgraded from pyserve ", 2);
                main_pid(&server)
            }
        };
        assert!(!pids.contains(&pid));
        pids.push(pid);
        assert_ne!(server.get("/").text(), old_worker);
        let over_unix = Connection::unix(&unix).exchange(get("/"));
        assert_eq!(over_unix.status(), 200);
        assert_eq!(
            Connection::unix(&admin).exchange(get("/-/ready")).status(),
            200
        );
        let written = std::fs::read_to_string(&pidfile).unwrap();
        assert_eq!(written, format!("{pid}\n"));
        server
            .stderr
            .wait_for_nth("has finished its requests and companions", round);
    }
    // The one in the middle has nothing left to do.
    wait_until("the second process ends", || has_ended(pids[1]));
    assert!(!has_ended(first));
    server.signal(Signal::HUP);
    server.stderr.wait_for("reloaded in ");
    assert_eq!(main_pid(&server), pids[2], "a reload keeps the process");
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
    assert!(has_ended(pids[2]));
    for file in [unix, admin, pidfile, server.probe.path("control")] {
        assert!(!file.exists(), "{}", file.display());
    }
}

#[test]
fn the_exit_code_of_the_first_process_is_that_of_the_server() {
    let site = Site::new();
    for (signal, code) in [(Signal::KILL, 137), (Signal::QUIT, 131)] {
        let mut server = site.pyserve().ready();
        let pid = upgrade(&server);
        server.stderr.wait_for("has finished its requests");
        kill(pid, signal);
        assert_eq!(server.wait_exit(), code);
    }
}

#[test]
fn the_file_at_the_path_of_the_binary_is_started_however_it_came_there() {
    let site = Site::new();
    let binary = site.path("pyserve");
    let server = site.pyserve().ready();
    let exe = |pid: Pid| std::fs::read_link(format!("/proc/{pid}/exe")).unwrap();
    // As a package manager does.
    let new = site.path("new");
    copy_program(&binary, &new);
    std::fs::rename(&new, &binary).unwrap();
    let pid = upgrade(&server);
    assert_eq!(exe(pid), binary);
    // A link that is switched to another release.
    std::fs::create_dir(site.path("release")).unwrap();
    let released = site.path("release/pyserve");
    install(&released);
    std::fs::remove_file(&binary).unwrap();
    std::os::unix::fs::symlink(&released, &binary).unwrap();
    let pid = upgrade(&server);
    assert_eq!(exe(pid), released);
    // The path stays the one that was given first.
    std::fs::remove_file(&binary).unwrap();
    install(&binary);
    let pid = upgrade(&server);
    assert_eq!(exe(pid), binary);
    let other = site.path("other");
    install(&other);
    let ended = verb(&server, &["upgrade", "--to", other.to_str().unwrap()]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(exe(main_pid(&server)), other);
}

#[test]
fn process_1_of_a_container_stays_and_forwards_signals() {
    let arguments = ["--pid", "--fork", "--kill-child", "--mount-proc"];
    let mut unshare = Command::new("unshare");
    let can = unshare.args(arguments).arg("true").status();
    if !can.is_ok_and(|status| status.success()) {
        return skipped(
            "an upgrade of process 1",
            "unshare --pid is not allowed here",
        );
    }
    let site = Site::new();
    write_files(site.dir.path(), &[("pyserve.toml", "app = 'app:app'\n")]);
    let mut server = Pyserve::binary(Path::new("/usr/bin/unshare"))
        .args(arguments)
        .args([site.path("pyserve")])
        .quick()
        .current_dir(site.dir.path())
        .ready();
    let path = format!("/proc/{0}/task/{0}/children", server.pid());
    let children = std::fs::read_to_string(path).unwrap();
    let init = Pid::from_raw(children.trim().parse().unwrap()).unwrap();
    let before = server.get("/").text();
    for round in 1..=2 {
        kill(init, Signal::USR2);
        server.stderr.wait_for_nth("upgraded from pyserve ", round);
        server
            .stderr
            .wait_for_nth("has finished its requests", round);
        assert_ne!(server.get("/").text(), before);
    }
    kill(init, Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
    server.stderr.wait_for("stopped in");
}
