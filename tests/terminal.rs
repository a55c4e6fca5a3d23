//! What a person in front of a terminal sees.

use std::fs::File;
use std::io::Write;

use rustix::process::Pid;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::support::lines::Lines;
use crate::support::process_tree::{descendants, wait_for_the_end};
use crate::support::server::{Pyserve, Server};
use crate::support::{DEADLINE, temp_dir, write_files};

/// A terminal, and the lines that arrive on it.
pub fn terminal() -> (File, Lines) {
    let (terminal, lines, _) = terminal_with_keyboard();
    (terminal, lines)
}

/// The same, and a file that takes what a person types.
fn terminal_with_keyboard() -> (File, Lines, File) {
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let name = ptsname(&controller, Vec::new()).unwrap();
    let path = name.to_str().unwrap();
    let terminal = File::options().read(true).write(true).open(path);
    let terminal = terminal.unwrap();
    let keyboard = File::from(controller);
    let lines = Lines::read_from(keyboard.try_clone().unwrap());
    (terminal, lines, keyboard)
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

/// A shell with job control on this terminal, which runs `script` with pyserve as `$0 $@`.
fn job_of_a_shell(script: &str, terminal: &File, app: &str) -> Pyserve {
    let shell = ["--ctty", "--wait", "sh", "-m", "-c", script];
    let builder = Pyserve::binary("/usr/bin/setsid".as_ref()).args(shell);
    let dir = builder.path("app");
    let probe = crate::support::source("tests/apps/probe.py");
    let probe = std::fs::read_to_string(probe).unwrap();
    write_files(&dir, &[("job.py", app), ("probe.py", &*probe)]);
    builder
        .args([env!("CARGO_BIN_EXE_pyserve"), "--app", "job", "--chdir"])
        .args([dir])
        .quick()
        .env("TERM", "dumb")
        .stdin_from(terminal.try_clone().unwrap())
        .stdout_to(terminal.try_clone().unwrap())
}

pub fn is_stopped(pid: &Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, state)| state.starts_with('T'))
}

const HELD: &str = "import probe\n\
    def app(environ, start_response):\n\
    \x20   if environ['PATH_INFO'] != '/': probe.wait(environ['PATH_INFO'])\n\
    \x20   return probe.plain(start_response, 'done')\n";

#[test]
fn ctrl_z_stops_the_whole_job_and_the_shell_continues_it_and_ctrl_c_ends_it() {
    for flags in [&[][..], &["--dev"]] {
        let (terminal, lines, mut keyboard) = terminal_with_keyboard();
        let script = r#""$0" "$@"; echo is stopped; read line; fg; echo ended with $?"#;
        let builder = job_of_a_shell(script, &terminal, HELD).args(flags);
        let settings = builder.path("app").join("pyserve.toml");
        std::fs::write(settings, "[[companion]]\ncommand = ['sleep', '1000']\n").unwrap();
        let directory = builder.path("app");
        let mut server = builder.current_dir(directory).ready();
        let (mut inside, held) = server.hold("/inside");
        let all = descendants(server.pid());
        assert_eq!(
            all.len(),
            4,
            "server, template, worker and companion: {all:?}"
        );
        keyboard.write_all(b"\x1a").unwrap();
        lines.wait_for("is stopped");
        let began = std::time::Instant::now();
        while !all.iter().all(is_stopped) {
            assert!(began.elapsed() < DEADLINE, "{flags:?}: {all:?}");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        held.release();
        keyboard.write_all(b"go on\n").unwrap();
        server.stderr.wait_for("continued after SIGTSTP");
        assert_eq!(inside.response().text(), "done");
        assert_eq!(server.get("/").text(), "done");
        assert_eq!(descendants(server.pid()), all, "{flags:?}");
        keyboard.write_all(b"\x03").unwrap();
        lines.wait_for("ended with 0");
        assert_eq!(server.wait_exit(), 0, "{flags:?}");
    }
}

#[test]
fn a_worker_that_uses_the_terminal_from_the_background_is_not_stopped() {
    let app = "import os\n\
        def app(environ, start_response):\n\
        \x20   terminal = os.open('/dev/tty', os.O_RDWR)\n\
        \x20   os.write(terminal, b'from a worker\\n')\n\
        \x20   try: body = repr(os.read(terminal, 1))\n\
        \x20   except OSError as error: body = error.strerror\n\
        \x20   start_response('200 OK', [])\n\
        \x20   return [body.encode()]\n";
    let (terminal, lines, _keyboard) = terminal_with_keyboard();
    let server = job_of_a_shell(r#"stty tostop; "$0" "$@""#, &terminal, app).ready();
    // termios(3), TOSTOP: with SIGTTOU ignored the output goes through; without a handler for
    // SIGTTIN the input is an error.
    assert_eq!(server.get("/").text(), "Input/output error");
    lines.wait_for("from a worker");
    // The shell, which is the child, is killed; the server ends with it.
    let all = descendants(server.pid());
    assert_eq!(all.len(), 3, "server, template and worker: {all:?}");
    drop(server);
    wait_for_the_end(&all);
}

#[test]
fn a_server_in_the_background_writes_its_log_to_the_terminal() {
    let (terminal, lines, mut keyboard) = terminal_with_keyboard();
    let script = r#"stty tostop; "$0" "$@" & read line; kill $!; wait $!"#;
    let builder = job_of_a_shell(script, &terminal, HELD);
    let mut server = builder.stderr_to(terminal).started();
    lines.wait_for("ready in");
    keyboard.write_all(b"end\n").unwrap();
    lines.wait_for("stopped in");
    // Each attempt to write would send SIGTTOU.
    assert_eq!(lines.count("workers are possible"), 0);
    assert_eq!(server.wait_exit(), 0);
}
