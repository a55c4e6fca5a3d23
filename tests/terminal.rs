//! What a person in front of a terminal sees.

use std::fs::File;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::support::lines::Lines;
use crate::support::server::{Pyserve, Server};
use crate::support::{temp_dir, write_files};

/// A terminal, and the lines that arrive on it.
pub fn terminal() -> (File, Lines) {
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let name = ptsname(&controller, Vec::new()).unwrap();
    let path = name.to_str().unwrap();
    let terminal = File::options().read(true).write(true).open(path);
    let terminal = terminal.unwrap();
    (terminal, Lines::read_from(File::from(controller)))
}

/// A server on a terminal, with the variables of a person's shell.
fn on_terminal(variables: &[(&str, &str)]) -> (Server, Lines) {
    let (terminal, lines) = terminal();
    let server = Pyserve::app("hello.py").without("PYSERVE_ACCESS_LOG");
    let server = server.without("NO_COLOR").env("TERM", "xterm");
    let server = variables
        .iter()
        .fold(server, |server, (name, value)| server.env(name, value));
    let server = server
        .args(["--static", "/static=."])
        .stdout_to(terminal.try_clone().unwrap())
        .stderr_to(terminal);
    let bind = format!("unix:{}", server.path("http").display());
    let server = server.env("PYSERVE_BIND", bind).started();
    lines.wait_for("ready in ");
    (server, lines)
}

fn get(server: &Server, target: &str) {
    let mut connection = crate::support::raw::Connection::unix(&server.probe.path("http"));
    connection.exchange(crate::support::server::get(target));
}

#[test]
fn each_request_is_a_short_coloured_line_on_a_terminal() {
    let (server, lines) = on_terminal(&[]);
    get(&server, "/page?a=1");
    get(&server, "/static/nothing");
    let found = lines.wait_for("/page?a=1");
    assert!(found.contains(" 200 GET /page?a=1 5 B "), "{found:?}");
    let missing = lines.wait_for("/static/nothing");
    assert!(
        missing.contains("\u{1b}[33m404 GET /static/nothing\u{1b}[0m "),
        "{missing:?}"
    );
}

#[test]
fn colours_are_left_out_where_they_are_not_wanted() {
    for plain in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let (server, lines) = on_terminal(&[plain]);
        get(&server, "/static/nothing");
        lines.wait_for(" 404 GET /static/nothing ");
        for line in lines.so_far() {
            assert!(!line.contains('\u{1b}'), "{plain:?}: {line:?}");
        }
    }
    // no-color.org: an empty value asks for nothing.
    let (server, lines) = on_terminal(&[("NO_COLOR", "")]);
    get(&server, "/static/nothing");
    assert!(lines.wait_for("/static/nothing").contains('\u{1b}'));
}

#[test]
fn development_shows_requests_also_without_a_terminal_and_production_in_combined_form() {
    let server = Pyserve::app("hello.py").without("PYSERVE_ACCESS_LOG");
    let server = server.args(["--dev"]).ready();
    server.get("/page");
    let line = server.stdout.wait_for("/page");
    assert!(line.contains(" 200 GET /page 5 B "), "{line}");
    assert!(!line.contains('\u{1b}'), "{line}");
    let server = Pyserve::app("hello.py").without("PYSERVE_ACCESS_LOG");
    let server = server.ready();
    server.get("/page");
    server.stdout.wait_for("\"GET /page HTTP/1.1\" 200 5");
}

#[test]
fn the_settings_decide_over_the_terminal() {
    let (server, lines) = on_terminal(&[("PYSERVE_ACCESS_LOG", "combined")]);
    get(&server, "/page");
    lines.wait_for("\"GET /page HTTP/1.1\" 200 5");
    let dir = temp_dir();
    let settings = "access_log = 'short'\nstatic = '/=.'\n";
    write_files(dir.path(), &[("pyserve.toml", settings)]);
    let server = Pyserve::new().without("PYSERVE_ACCESS_LOG");
    let server = server.current_dir(dir.path()).ready();
    server.get("/nothing");
    server.stdout.wait_for(" 404 GET /nothing ");
}

#[test]
fn listening_is_said_when_it_serves_and_never_by_a_start_that_fails() {
    let server = Pyserve::app("boot_held.py").listening();
    assert_eq!(server.stderr.count("listening on"), 0);
    drop(server);
    for format in ["pretty", "json"] {
        let ended = Pyserve::app("boot_fails.py")
            .args(["--log-format", format])
            .run();
        assert_eq!(ended.code, 4);
        assert!(!ended.stderr.contains("listening"), "{}", ended.stderr);
    }
    // The page that says why is served.
    let server = Pyserve::app("boot_fails.py").args(["--dev"]).listening();
    server.stderr.wait_for("listening on http://127.0.0.1:");
    let server = Pyserve::app("hello.py").ready();
    server.stderr.wait_for("listening on http://127.0.0.1:");
    assert_eq!(server.stderr.count("every interface"), 0);
}

#[test]
fn an_address_of_every_interface_is_named_as_that() {
    for address in ["0", ":0", "0.0.0.0:0", "[::]:0"] {
        let server = Pyserve::app("hello.py").args(["--bind", address]).started();
        server.stderr.wait_for("ready in ");
        let line = server.stderr.wait_for("is every interface");
        assert!(line.contains("--bind 127.0.0.1:"), "{line}");
    }
}
