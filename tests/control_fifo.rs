//! The ways of uWSGI to steer a running server: commands in a FIFO (`master-fifo`), and reloads that end it
//! (`exit-on-reload`).

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::support::server::{Pyserve, Server};
use crate::support::{temp_dir, write_files};

const APP: &str = "import sys\n\
    def application(environ, start_response):\n\
    \x20   start_response('200 OK', [('Content-Type', 'text/plain')])\n\
    \x20   return [VERSION]\n\
    VERSION = b'old'\n";

/// A server of `uwsgi.ini` with these lines, and its directory.
fn serving(lines: &str) -> (Server, tempfile::TempDir) {
    let dir = temp_dir();
    let ini = format!("[uwsgi]\nwsgi-file = app.py\nmaster = true\n{lines}");
    write_files(dir.path(), &[("app.py", APP), ("uwsgi.ini", &ini)]);
    let server = Pyserve::new()
        .current_dir(dir.path())
        .args(["--ini", "uwsgi.ini"])
        .ready();
    (server, dir)
}

fn renew(dir: &Path) {
    let new = APP.replace("b'old'", "b'new'");
    write_files(dir, &[("app.py", &*new)]);
}

/// What a shell does for `echo TEXT > FIFO`.
fn echo(fifo: &Path, text: &str) {
    let mut file = OpenOptions::new().write(true).open(fifo).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn pid_of(file: PathBuf) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}

#[test]
fn commands_of_the_fifo_are_obeyed_and_it_goes_with_the_server() {
    let lines =
        "master-fifo = run/fifo\npidfile = run/pid\ntouch-reload = run/touched\nlogto = x\n";
    let dir = temp_dir();
    write_files(dir.path(), &[("run/touched", "")]);
    let ini = format!("[uwsgi]\nwsgi-file = app.py\n{lines}");
    write_files(dir.path(), &[("app.py", APP), ("uwsgi.ini", &ini)]);
    let mut server = Pyserve::new()
        .current_dir(dir.path())
        .args(["--ini", "uwsgi.ini"])
        .ready();
    let fifo = dir.path().join("run/fifo");
    let made = fifo.metadata().unwrap();
    assert!(made.file_type().is_fifo());
    assert_eq!(made.mode() & 0o777, 0o600);
    assert_eq!(server.get("/").text(), "old");

    renew(dir.path());
    echo(&fifo, "r\n");
    server.stderr.wait_for("reloaded in");
    assert_eq!(server.get("/").text(), "new");
    echo(&fifo, "w");
    server.stderr.wait_for_nth("reloaded in", 2);
    write_files(dir.path(), &[("run/touched", "again")]);
    server.stderr.wait_for_nth("reloaded in", 3);
    echo(&fifo, "+l");
    server.stderr.wait_for("no log files to reopen");
    echo(&fifo, "s");
    let status = server.stderr.wait_for("status, asked for by the FIFO");
    assert!(status.contains("\"state\":\"serving\""), "{status}");
    for (command, reason) in [
        ("p", "maintenance on"),
        ("L", "rename them"),
        ("x", "no command"),
        ("3", "there is one FIFO"),
    ] {
        echo(&fifo, command);
        let line = server
            .stderr
            .wait_for(&format!("ignored command {command}"));
        assert!(line.contains(reason), "{line}");
    }
    let pid = dir.path().join("run/pid");
    let written = pid_of(pid.clone());
    std::fs::remove_file(&pid).unwrap();
    echo(&fifo, "Ps");
    server
        .stderr
        .wait_for_nth("status, asked for by the FIFO", 2);
    assert_eq!(pid_of(pid), written);

    echo(&fifo, "q\n");
    assert_eq!(server.wait_exit(), 0);
    assert!(!fifo.exists());
}

#[test]
fn a_writer_that_stays_and_one_that_is_silent_hold_nothing_up() {
    let (mut server, dir) = serving("master-fifo = fifo\n");
    let fifo = dir.path().join("fifo");
    let mut open: Vec<File> = (0..20)
        .map(|_| OpenOptions::new().write(true).open(&fifo).unwrap())
        .collect();
    assert_eq!(server.get("/").text(), "old");
    // Far more than is read at once; the line feeds in between say nothing.
    open[3].write_all(&b"x\n".repeat(500)).unwrap();
    assert_eq!(server.get("/").text(), "old");
    renew(dir.path());
    open[7].write_all(b"R").unwrap();
    server.stderr.wait_for("reloaded in");
    assert_eq!(server.get("/").text(), "new");
    open[0].write_all(b"Q").unwrap();
    assert_eq!(server.wait_exit(), 131, "as after SIGQUIT");
}

#[test]
fn a_file_in_the_place_of_the_fifo_is_kept_and_the_server_starts() {
    let dir = temp_dir();
    let ini = "[uwsgi]\nwsgi-file = app.py\nmaster-fifo = notes.txt\n";
    let files = [("app.py", APP), ("uwsgi.ini", ini), ("notes.txt", "mine")];
    write_files(dir.path(), &files);
    let server = Pyserve::new()
        .current_dir(dir.path())
        .args(["--ini", "uwsgi.ini"])
        .ready();
    assert!(
        server
            .stderr
            .so_far()
            .join("\n")
            .contains("no commands from the FIFO")
    );
    assert_eq!(server.get("/").text(), "old");
    drop(server);
    assert_eq!(pid_of(dir.path().join("notes.txt")), "mine");
}

#[test]
fn the_fifo_goes_on_in_an_upgraded_server() {
    let (server, dir) = serving("master-fifo = fifo\npidfile = pid\n");
    let fifo = dir.path().join("fifo");
    let before = pid_of(dir.path().join("pid"));
    server.signal(Signal::USR2);
    server.stderr.wait_for("upgraded from pyserve ");
    assert_ne!(pid_of(dir.path().join("pid")), before);
    renew(dir.path());
    echo(&fifo, "r");
    server.stderr.wait_for("reloaded in");
    assert_eq!(server.get("/").text(), "new");
}

#[test]
fn a_reload_ends_the_server_where_the_settings_say_so() {
    let lines = "exit-on-reload = true\ntouch-reload = touched\ntouch-chain-reload = chain\nmaster-fifo = fifo\n";
    let touch = |dir: &Path| write_files(dir, &[("touched", "now")]);
    let reload = |server: &Server| {
        let control = server.probe.path("control");
        let ended = Pyserve::bare()
            .env("PYSERVE_CONTROL", control)
            .args(["reload"])
            .run();
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        assert!(ended.stdout.contains("exit_on_reload"), "{}", ended.stdout);
    };
    type Ask<'a> = &'a dyn Fn(&Server, &Path);
    let asks: [Ask<'_>; 4] = [
        &|server, _| server.signal(Signal::HUP),
        &|_, dir| touch(dir),
        &|_, dir| echo(&dir.join("fifo"), "r"),
        &|server, _| reload(server),
    ];
    for (number, ask) in asks.into_iter().enumerate() {
        let (mut server, dir) = serving(lines);
        renew(dir.path());
        // The workers alone are replaced, as in uWSGI.
        echo(&dir.path().join("fifo"), "c");
        server.stderr.wait_for("reloaded in");
        assert_eq!(server.get("/").text(), "new");
        write_files(dir.path(), &[("chain", "")]);
        server.stderr.wait_for_nth("reloaded in", 2);
        ask(&server, dir.path());
        assert_eq!(server.wait_exit(), 0, "{number}");
        let log = server.stderr.so_far().join("\n");
        assert!(log.contains("stopping instead (exit_on_reload)"), "{log}");
    }
}

#[test]
fn garbage_makes_a_few_lines_and_its_number() {
    let (server, dir) = serving("master-fifo = fifo\n");
    echo(&dir.path().join("fifo"), &"x".repeat(100_000));
    let more = server.stderr.wait_for("more commands from the FIFO");
    let ignored = server.stderr.count("ignored command x");
    assert!(ignored <= 20, "{ignored}: {more}");
    assert_eq!(server.get("/").text(), "old");
}

#[test]
fn a_fifo_that_is_removed_is_made_again() {
    let (mut server, dir) = serving("master-fifo = fifo\n");
    let fifo = dir.path().join("fifo");
    std::fs::remove_file(&fifo).unwrap();
    server.stderr.wait_for("made the FIFO");
    echo(&fifo, "q");
    assert_eq!(server.wait_exit(), 0);
    assert!(!fifo.exists());
}

#[test]
fn of_two_servers_with_one_fifo_the_first_one_has_it() {
    let (mut first, dir) = serving("master-fifo = fifo\n");
    let mut second = Pyserve::new()
        .current_dir(dir.path())
        .args(["--ini", "uwsgi.ini"])
        .ready();
    let said = second.stderr.so_far().join("\n");
    assert!(said.contains("another server reads it"), "{said}");
    second.signal(Signal::TERM);
    assert_eq!(second.wait_exit(), 0);
    let fifo = dir.path().join("fifo");
    echo(&fifo, "q");
    assert_eq!(first.wait_exit(), 0);
    assert!(!fifo.exists());
}
