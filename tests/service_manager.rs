//! Service managers: notifications by `NOTIFY_SOCKET`, and sockets that were bound for the server.

use std::io::Write;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::raw::Connection;
use crate::support::server::{Pyserve, get};
use crate::support::{DEADLINE, source, temp_dir, write_files};

/// A service manager that reads notifications.
struct Manager {
    socket: UnixDatagram,
    dir: TempDir,
}

impl Manager {
    fn new() -> Self {
        let dir = temp_dir();
        let socket = UnixDatagram::bind(dir.path().join("notify")).expect("a socket");
        socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        Self { socket, dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("notify")
    }

    /// The lines of the next message.
    fn next(&self) -> Vec<String> {
        let mut message = [0; 4096];
        let length = self.socket.recv(&mut message).expect("a message");
        let text = std::str::from_utf8(&message[..length]).expect("text");
        text.lines().map(str::to_owned).collect()
    }
}

fn value<'a>(lines: &'a [String], name: &str) -> &'a str {
    let line = lines.iter().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name} in {lines:?}"))
}

const APP: &str = "
import os
def application(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    names = sorted(n for n in os.environ if n.startswith(('NOTIFY_', 'WATCHDOG_', 'LISTEN_')))
    return [' '.join(names).encode() or b'none']
";

fn site() -> TempDir {
    let dir = temp_dir();
    write_files(dir.path(), &[("managed.py", APP)]);
    dir
}

#[test]
fn the_manager_gets_ready_reloading_and_stopping_and_no_child_gets_its_variables() {
    let (manager, dir) = (Manager::new(), site());
    let pyserve = Pyserve::new().env("NOTIFY_SOCKET", manager.path());
    let args = ["--app", "managed", "--chdir"];
    let mut server = pyserve.args(args).args([dir.path()]).ready();
    let ready = manager.next();
    assert_eq!(ready[0], "READY=1");
    assert!(
        value(&ready, "STATUS=").starts_with("ready in "),
        "{ready:?}"
    );
    assert_eq!(server.get("/").text(), "none");

    let before = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    server.signal(Signal::HUP);
    let reloading = manager.next();
    assert_eq!(reloading[0], "RELOADING=1");
    let micros: i64 = value(&reloading, "MONOTONIC_USEC=")
        .parse()
        .expect("a number");
    assert!(micros >= before.tv_sec * 1_000_000 + before.tv_nsec / 1000);
    let done = manager.next();
    assert_eq!(done, ["READY=1", "STATUS=reloaded"]);

    std::fs::write(dir.path().join("managed.py"), "raise SystemExit('no')").expect("writable");
    server.signal(Signal::HUP);
    assert_eq!(manager.next()[0], "RELOADING=1");
    let failed = manager.next();
    assert_eq!((&*failed[0], failed.len()), ("READY=1", 2), "{failed:?}");
    let status = value(&failed, "STATUS=");
    assert!(status.starts_with("the reload failed"), "{status}");
    assert_eq!(server.get("/").text(), "none", "the old code");

    server.signal(Signal::TERM);
    assert_eq!(manager.next()[0], "STOPPING=1");
    assert_eq!(server.wait_exit(), 0);
}

#[test]
fn a_watchdog_gets_signs_of_life_unless_it_watches_another_process() {
    let manager = Manager::new();
    let app = |pid: &str| {
        Pyserve::app("journal.py")
            .env("NOTIFY_SOCKET", manager.path())
            .env("WATCHDOG_USEC", "100000")
            .env("WATCHDOG_PID", pid)
            .ready()
    };
    let server = app("");
    let mut signs = 0;
    while signs < 5 {
        signs += usize::from(manager.next() == ["WATCHDOG=1"]);
    }
    drop(server);
    let manager_socket = &manager.socket;
    manager_socket.set_nonblocking(true).expect("a mode");
    while manager_socket.recv(&mut [0; 100]).is_ok() {}
    manager_socket.set_nonblocking(false).expect("a mode");
    let mut server = app("1");
    assert_eq!(manager.next()[0], "READY=1");
    server.signal(Signal::TERM);
    assert_eq!(
        manager.next()[0],
        "STOPPING=1",
        "and no sign of life before it"
    );
    server.wait_exit();
}

#[test]
fn a_manager_that_reads_nothing_or_has_gone_stops_nothing() {
    for path in ["/nonexistent/notify", "@pyserve-no-such-name", ""] {
        let mut server = Pyserve::app("journal.py")
            .env("NOTIFY_SOCKET", path)
            .ready();
        server.signal(Signal::TERM);
        assert_eq!(server.wait_exit(), 0, "{path:?}");
    }
}

/// A program that passes its standard input on as the socket of a manager.
fn activated(dir: &Path) -> Pyserve {
    let script = dir.join("activate");
    let text = format!(
        "#!/bin/sh\nexec 3<&0 </dev/null\nexport LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web\nexec {} \"$@\"\n",
        env!("CARGO_BIN_EXE_pyserve")
    );
    let mut file = std::fs::File::create(&script).expect("a file");
    file.write_all(text.as_bytes()).expect("written");
    drop(file);
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, executable).expect("executable");
    Pyserve::binary(&script).quick()
}

#[test]
fn a_passed_socket_takes_the_place_of_bind_and_serves_the_next_process_too() {
    let dir = site();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let port = listener.local_addr().expect("an address").port();
    let unix = dir.path().join("passed.sock");
    let unix_listener = UnixListener::bind(&unix).expect("a listener");
    let connect = |is_tcp: bool| match is_tcp {
        true => Connection::tcp(port),
        false => Connection::unix(&unix),
    };
    let sockets: [(bool, OwnedFd); 2] = [(true, listener.into()), (false, unix_listener.into())];
    for (is_tcp, socket) in &sockets {
        // Early clients wait in the backlog, also those between two processes.
        for _ in 0..2 {
            let mut early = connect(*is_tcp);
            early.send(get("/"));
            let passed = socket.try_clone().expect("a copy");
            let server = activated(dir.path()).stdin_from(Stdio::from(passed));
            let mut server = server
                .args(["--app", "managed", "--chdir"])
                .args([dir.path()])
                .ready();
            assert_eq!(early.response().text(), "none");
            server.signal(Signal::TERM);
            assert_eq!(server.wait_exit(), 0);
            assert!(unix.exists(), "the file of the socket is not ours");
        }
    }
}

#[test]
fn what_is_no_listening_socket_is_refused_by_name() {
    let dir = site();
    let file = std::fs::File::open(dir.path().join("managed.py")).expect("a file");
    let connected = UnixDatagram::unbound().expect("a socket");
    let unready: OwnedFd = connected.into();
    for (input, expected) in [
        (Stdio::from(file), "is no socket"),
        (Stdio::from(unready), "is no listening stream socket"),
    ] {
        let pyserve = activated(dir.path()).stdin_from(input);
        let args = ["--app", "managed", "--chdir"];
        let ended = pyserve.args(args).args([dir.path()]).run();
        assert_eq!(ended.code, 69, "{}", ended.stderr);
        for part in [expected, "descriptor 3 (\"web\")"] {
            assert!(ended.stderr.contains(part), "{}", ended.stderr);
        }
    }
}

#[test]
fn systemd_s_own_tool_passes_sockets_for_requests_and_for_the_admin_listener() {
    let program = "systemd-socket-activate";
    if Command::new(program).arg("--version").output().is_err() {
        eprintln!("skipped: activation by systemd, because there is no {program}");
        return;
    }
    let dir = site();
    let [web, admin] = ["web.sock", "admin.sock"].map(|name| dir.path().join(name));
    let listen = [&web, &admin].map(|path| format!("--listen={}", path.display()));
    let binary = env!("CARGO_BIN_EXE_pyserve");
    let pyserve = Pyserve::binary(Path::new(program)).quick().args(listen);
    // It passes on no other variable.
    let variables = ["PYSERVE_PYTHON", "PYSERVE_CONTROL", "PYSERVE_WORKERS"];
    let server = pyserve
        .args(variables.map(|name| format!("--setenv={name}")))
        .args(["--fdname=web:admin", binary, "--app", "managed", "--chdir"])
        .args([dir.path()])
        .started();
    server.stderr.wait_for_nth("Listening on", 2);
    // It starts the server at the first connection.
    let mut first = Connection::unix(&web);
    assert_eq!(first.exchange(get("/")).text(), "none");
    let probe = Connection::unix(&admin).exchange(get("/-/ready"));
    assert_eq!(probe.status(), 200);
    server.signal(Signal::TERM);
}

#[test]
fn the_units_are_valid() {
    let program = "systemd-analyze";
    if Command::new(program).arg("--version").output().is_err() {
        eprintln!("skipped: checking the units, because there is no {program}");
        return;
    }
    let dir = temp_dir();
    for name in ["pyserve.service", "pyserve.socket"] {
        let unit = std::fs::read_to_string(source(&format!("docker/systemd/{name}")));
        // What this machine has in their place.
        let unit = unit
            .expect("the unit")
            .replace("/usr/local/bin/pyserve", env!("CARGO_BIN_EXE_pyserve"))
            .replace("/srv/site", "/")
            .replace("Type=notify-reload", "Type=notify");
        write_files(dir.path(), &[(name, &unit)]);
    }
    let paths = ["pyserve.service", "pyserve.socket"].map(|name| dir.path().join(name));
    let checked = Command::new(program)
        .args(["verify", "--man=no"])
        .args(paths)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&checked.stderr);
    let ours: Vec<_> = said
        .lines()
        .filter(|line| line.contains("pyserve."))
        .collect();
    assert_eq!(ours, [""; 0], "{said}");
}
