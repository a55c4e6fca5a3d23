//! `breakpoint()` in an application: a prompt on the terminal of `pyserve --dev`, elsewhere an
//! error that says what to do.

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::tcgetpgrp;

use crate::support::lines::Lines;
use crate::support::server::{Pyserve, Server, get};
use crate::support::{DEADLINE, raw};

const CTRL_C: &[u8] = b"\x03";
const CTRL_D: &[u8] = b"\x04";

/// A server on a terminal, and a person in front of it.
struct Session {
    server: Server,
    keyboard: File,
    screen: Lines,
}

impl Session {
    fn start(settings: impl FnOnce(Pyserve) -> Pyserve) -> Self {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let name = ptsname(&controller, Vec::new()).unwrap();
        let terminal = File::options()
            .read(true)
            .write(true)
            .open(name.to_str().unwrap())
            .unwrap();
        let keyboard = File::from(controller);
        let screen = Lines::read_from(keyboard.try_clone().unwrap());
        let server = settings(Pyserve::app("breakpoints.py").args(["--dev"]));
        let server = server.with_terminal(terminal).listening();
        Self {
            server,
            keyboard,
            screen,
        }
    }

    fn ready(settings: impl FnOnce(Pyserve) -> Pyserve) -> Self {
        let session = Self::start(settings);
        session.server.stderr.wait_for("ready in ");
        session
    }

    fn presses(&mut self, keys: &[u8]) {
        self.keyboard.write_all(keys).unwrap();
    }

    /// Types a command, and waits for a line with its result.
    fn types(&mut self, command: &str, result: &str) {
        self.presses(format!("{command}\n").as_bytes());
        self.screen.wait_for(result);
    }

    fn asks(&self, target: &str) -> raw::Connection {
        let mut connection = self.server.connect();
        connection.send(get(target));
        connection
    }

    fn server_has_the_terminal(&self) -> bool {
        tcgetpgrp(&self.keyboard) == Ok(self.server.pid())
    }

    /// It may take a moment.
    fn gets_the_terminal_back(&self) {
        let began = Instant::now();
        while !self.server_has_the_terminal() {
            assert!(began.elapsed() < DEADLINE, "the terminal is not given back");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn a_breakpoint_in_development_prompts_and_no_deadline_strikes() {
    for target in ["/break", "/pdb"] {
        let mut session = Session::ready(|server| server.args(["--request-timeout", "1"]));
        let mut asking = session.asks(target);
        session.screen.wait_for("application()");
        assert!(!session.server_has_the_terminal(), "the prompt has it");
        session.types("p 'is', value", "('is', 41)");
        session.presses(CTRL_C);
        session.screen.wait_for("KeyboardInterrupt");
        let longer = "!__import__('time').sleep(3); print('slept', value)";
        session.types(longer, "slept 41");
        session.types("value = 99", "value = 99");
        session.presses(b"c\n");
        assert_eq!(asking.response().text(), "value 100 []");
        session.gets_the_terminal_back();
        let so_far = session.server.stderr.so_far().join("\n");
        assert!(!so_far.contains("PS-30"), "{so_far}");
        // The session ends with its request, although it was stepped through.
        let mut asking = session.asks(target);
        session.screen.wait_for_nth("application()", 2);
        session.presses(b"n\nn\nn\nn\nn\nn\nn\nn\nn\nn\n");
        assert_eq!(asking.response().text(), "value 42 []");
        assert_eq!(session.server.get("/").text(), "value 41 []");
        session.gets_the_terminal_back();
        // Ctrl-C is the server's again.
        session.presses(CTRL_C);
        assert_eq!(session.server.wait_exit(), 0);
    }
}

#[test]
fn the_end_of_input_ends_the_request_and_not_the_worker() {
    let mut session = Session::ready(|server| server);
    let mut asking = session.asks("/break");
    session.screen.wait_for("application()");
    session.presses(CTRL_D);
    assert_eq!(asking.response().status(), 500);
    assert_eq!(session.server.get("/").text(), "value 41 []");
    session.gets_the_terminal_back();
}

#[test]
fn a_worker_that_dies_at_the_prompt_loses_the_terminal_to_the_server() {
    let mut session = Session::ready(|server| server);
    let mut asking = session.asks("/break");
    session.screen.wait_for("application()");
    session.presses(b"!import os; os.kill(os.getpid(), 9)\n");
    assert_eq!(asking.response().status(), 502);
    session.gets_the_terminal_back();
    assert_eq!(session.server.get("/").text(), "value 41 []");
}

#[test]
fn a_post_mortem_prompts_where_the_exception_was_raised() {
    let mut session = Session::ready(|server| server);
    let mut asking = session.asks("/post-mortem");
    session.screen.wait_for("application()");
    session.types("p 'is', value", "('is', 41)");
    session.presses(b"c\n");
    assert_eq!(asking.response().text(), "value 41 []");
    session.gets_the_terminal_back();
}

#[test]
fn a_reload_leaves_a_prompt_alone_and_the_next_prompt_waits() {
    let timeout = ["--request-timeout", "1", "--graceful-timeout", "1"];
    let mut session = Session::ready(|server| server.args(timeout));
    let mut first = session.asks("/break");
    session.screen.wait_for("application()");
    session.server.signal(Signal::HUP);
    session.server.stderr.wait_for("reloaded in ");
    let mut second = session.asks("/break");
    session.types("!__import__('time').sleep(3)", "sleep(3)");
    session.types("value = 10;; p 'is', value", "('is', 10)");
    session.presses(b"c\n");
    assert_eq!(first.response().text(), "value 11 []");
    session.screen.wait_for_nth("application()", 2);
    session.types("value = 20;; p 'is', value", "('is', 20)");
    session.presses(b"c\n");
    assert_eq!(second.response().text(), "value 21 []");
    session.gets_the_terminal_back();
}

#[test]
fn a_breakpoint_at_import_prompts_as_well() {
    let mut session = Session::start(|server| server.env("AT_IMPORT", ""));
    session.screen.wait_for("<module>()");
    session.types("p 'is', called", "('is', [])");
    session.presses(b"c\n");
    assert_eq!(session.server.get("/").text(), "value 41 ['import']");
    session.gets_the_terminal_back();
}

#[test]
fn a_breakpoint_without_a_prompt_is_an_error_that_says_what_to_do() {
    let check = |server: &Server, reason: &str| {
        assert_eq!(server.get("/break").status(), 500);
        let line = server.stderr.wait_for("RuntimeError: breakpoint() at ");
        assert!(line.contains("breakpoints.py:19: "), "{line}");
        assert!(line.contains(reason), "{line}");
        assert_eq!(server.get("/").status(), 200);
    };
    let production = Pyserve::app("breakpoints.py").ready();
    check(&production, "run `pyserve --dev` in a terminal");
    let development = Pyserve::app("breakpoints.py").args(["--dev"]).ready();
    check(&development, "pyserve has no terminal on standard input");
    let several = Session::ready(|server| server.args(["--workers", "2"]));
    check(&several.server, "use --workers 1 --threads 1");
    let threads = Session::ready(|server| server.args(["--threads", "2"]));
    check(&threads.server, "use --workers 1 --threads 1");
}

#[test]
fn pythonbreakpoint_keeps_its_meaning() {
    for (value, called) in [("0", "[]"), ("breakpoints.custom", "['custom']")] {
        for mode in [&[][..], &["--dev"]] {
            let server = Pyserve::app("breakpoints.py").args(mode);
            let server = server.env("PYTHONBREAKPOINT", value).ready();
            let expected = format!("value 42 {called}");
            assert_eq!(server.get("/break").text(), expected, "{value} {mode:?}");
        }
    }
}
