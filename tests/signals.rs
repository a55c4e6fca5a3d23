//! Signals that are meant for the server, in all processes of it.

use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::server::{Pyserve, Server};
use crate::support::{DEADLINE, write_files};
use crate::terminal::is_stopped;

const APP: &str = "import os, signal, multiprocessing, subprocess, time, probe\n\
    def app(environ, start_response):\n\
    \x20   path = environ['PATH_INFO']\n\
    \x20   body = str(os.getpid())\n\
    \x20   if path == '/dispositions':\n\
    \x20       body = str([signal.getsignal(s) == signal.SIG_DFL for s in (1, 10, 12, 15)])\n\
    \x20   elif path == '/terminate-fork':\n\
    \x20       ends = set()\n\
    \x20       for _ in range(40):\n\
    \x20           child = multiprocessing.get_context('fork').Process(target=time.sleep, args=(60,))\n\
    \x20           child.start(); child.terminate(); child.join(); ends.add(child.exitcode)\n\
    \x20       body = str(ends)\n\
    \x20   elif path == '/terminate-exec':\n\
    \x20       child = subprocess.Popen(['sleep', '60'])\n\
    \x20       child.terminate(); body = str(child.wait())\n\
    \x20   elif path == '/own':\n\
    \x20       seen = []\n\
    \x20       signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))\n\
    \x20       os.kill(os.getpid(), signal.SIGUSR1); time.sleep(0); body = str(seen)\n\
    \x20   elif path != '/': probe.wait(path)\n\
    \x20   start_response('200 OK', [('Content-Type', 'text/plain')])\n\
    \x20   return [body.encode()]\n";

fn serving() -> Server {
    let builder = Pyserve::new();
    let dir = builder.path("app");
    let probe = std::fs::read_to_string(crate::support::source("tests/apps/probe.py")).unwrap();
    write_files(&dir, &[("site_app.py", APP), ("probe.py", &*probe)]);
    builder
        .current_dir(&dir)
        .args(["--app", "site_app", "--workers", "1", "--threads", "1"])
        .ready()
}

fn children(pid: Pid) -> Vec<Pid> {
    let path = format!("/proc/{0}/task/{0}/children", pid.as_raw_nonzero());
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_ascii_whitespace()
        .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
        .collect()
}

/// The template and its workers.
fn python(server: &Server) -> Vec<Pid> {
    let templates = children(server.pid());
    let workers: Vec<Pid> = templates.iter().flat_map(|pid| children(*pid)).collect();
    assert!(!workers.is_empty());
    templates.into_iter().chain(workers).collect()
}

#[test]
fn template_and_workers_take_no_notice_of_signals_meant_for_the_server() {
    let server = serving();
    let worker = server.get("/").text();
    let before = python(&server);
    let (mut inside, held) = server.hold("/inside");
    for signal in [
        Signal::HUP,
        Signal::INT,
        Signal::QUIT,
        Signal::USR1,
        Signal::USR2,
        Signal::TERM,
    ] {
        for pid in &before {
            kill_process(*pid, signal).unwrap();
        }
    }
    held.release();
    assert_eq!(inside.response().text(), worker);
    // Idle now.
    for pid in &before {
        kill_process(*pid, Signal::TERM).unwrap();
    }
    assert_eq!(server.get("/").text(), worker);
    assert_eq!(python(&server), before);
}

#[test]
fn term_to_every_process_ends_the_server_with_status_0_and_loses_no_request() {
    let mut server = serving();
    let (mut inside, held) = server.hold("/inside");
    for pid in python(&server) {
        kill_process(pid, Signal::TERM).unwrap();
    }
    server.signal(Signal::TERM);
    server.stderr.wait_for("stop");
    held.release();
    assert_eq!(inside.response().status(), 200);
    assert_eq!(server.wait_exit(), 0);
}

#[test]
fn applications_see_default_actions_and_their_children_and_handlers_work() {
    let server = serving();
    assert_eq!(
        server.get("/dispositions").text(),
        "[True, True, True, True]"
    );
    // Also where the signal comes before the child has run its hooks.
    assert_eq!(server.get("/terminate-fork").text(), "{-15}");
    assert_eq!(server.get("/terminate-exec").text(), "-15");
    assert_eq!(server.get("/own").text(), "[1]");
}

/// A line of `/proc/PID/status` with a set of signals: `SigBlk`, `SigIgn` or `SigCgt`.
fn set_in(status: &str, name: &str) -> u64 {
    let line = status
        .lines()
        .find_map(|line| line.trim().strip_prefix(name));
    let digits = line.unwrap_or_else(|| panic!("no {name}: {status}"));
    u64::from_str_radix(digits.trim_start_matches(':').trim(), 16).unwrap()
}

/// Signals that this process ignores are ignored in all that it starts.
fn check_defaults(status: &str, what: &str) {
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let inherited = set_in(&own, "SigIgn");
    assert_eq!(set_in(status, "SigBlk"), 0, "{what}");
    assert_eq!(set_in(status, "SigIgn") & !inherited, 0, "{what}");
    // grep handles the overflow of its stack.
    assert_eq!(set_in(status, "SigCgt") & !(1 << (11 - 1)), 0, "{what}");
}

#[test]
fn programs_that_application_and_server_start_have_the_default_actions_of_all_signals() {
    let show = "grep ^Sig /proc/self/status";
    let app = format!(
        "import multiprocessing, subprocess\n\
        def child(pipe):\n\
        \x20   pipe.send(open('/proc/self/status').read())\n\
        def app(environ, start_response):\n\
        \x20   if environ['PATH_INFO'] == '/exec':\n\
        \x20       body = subprocess.check_output(['sh', '-c', '{show}'])\n\
        \x20   else:\n\
        \x20       context = multiprocessing.get_context('fork')\n\
        \x20       ours, theirs = context.Pipe()\n\
        \x20       context.Process(target=child, args=(theirs,)).start()\n\
        \x20       body = ours.recv().encode()\n\
        \x20   start_response('200 OK', [])\n\
        \x20   return [body]\n"
    );
    let settings = format!(
        "app = 'starts'\nbefore_start = '{show}'\n\
        [[companion]]\nname = 'beside'\ncommand = 'sleep 0; {show}; sleep 1000'\n"
    );
    let builder = Pyserve::new();
    let dir = builder.path("app");
    write_files(&dir, &[("starts.py", &*app), ("pyserve.toml", &*settings)]);
    let server = builder.current_dir(&dir).ready();
    check_defaults(&server.get("/exec").text(), "executed by the application");
    let forked = server.get("/fork").text();
    // SIGRTMAX-2 and SIGRTMAX-1 have handlers of the host: for stacks, and for deadlines. 32 and
    // 33 are the C library's.
    let ours = 0b11 << (62 - 1) | 0b11 << (32 - 1);
    assert_eq!(set_in(&forked, "SigBlk"), 0);
    assert_eq!(set_in(&forked, "SigCgt") & !ours, 0, "{forked}");
    for companion in ["before_start", "beside"] {
        let sets = ["SigBlk", "SigIgn", "SigCgt"].map(|set| {
            let mut nth = 1;
            loop {
                let line = server.stderr.wait_for_nth(set, nth);
                if line.contains(companion) {
                    let (_, set) = line.split_once(set).unwrap();
                    let digits = set.trim_start_matches([':', '\t', ' ']);
                    let digits = digits.trim_start_matches("\\t");
                    break digits.split(' ').next().unwrap().to_owned();
                }
                nth += 1;
            }
        });
        let status = format!(
            "SigBlk: {}\nSigIgn: {}\nSigCgt: {}",
            sets[0], sets[1], sets[2]
        );
        check_defaults(&status, companion);
    }
}

#[test]
fn a_timer_of_the_application_without_a_handler_ends_its_worker() {
    // setitimer(2): the default action of its signals is to end the process.
    let app = "import signal, time\n\
        def app(environ, start_response):\n\
        \x20   timer = getattr(signal, environ['PATH_INFO'][1:], None)\n\
        \x20   if timer is not None:\n\
        \x20       signal.setitimer(timer, 0.01)\n\
        \x20       while True: pass\n\
        \x20   start_response('200 OK', [])\n\
        \x20   return [b'alive']\n";
    let builder = Pyserve::new();
    let dir = builder.path("app");
    write_files(&dir, &[("timer.py", app)]);
    let server = builder.current_dir(&dir).args(["--app", "timer"]).ready();
    for (timer, number) in [
        ("ITIMER_REAL", 14),
        ("ITIMER_VIRTUAL", 26),
        ("ITIMER_PROF", 27),
    ] {
        assert_eq!(server.get(&format!("/{timer}")).status(), 502);
        server.stderr.wait_for(&format!("signal {number}"));
        assert_eq!(server.get("/").text(), "alive");
    }
}

#[test]
fn pkill_finds_all_processes_and_exact_matches_the_server() {
    let builder = Pyserve::binary("/usr/bin/setsid".as_ref());
    let server = builder
        .args([
            env!("CARGO_BIN_EXE_pyserve"),
            "--app",
            "hello.py",
            "--chdir",
        ])
        .args([crate::support::apps()])
        .quick()
        .ready();
    let session = server.pid().to_string();
    let found = |arguments: &[&str]| -> Vec<i32> {
        let mut pgrep = std::process::Command::new("pgrep");
        let output = pgrep.args(["--session", &session]).args(arguments).output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        text.lines().map(|line| line.parse().unwrap()).collect()
    };
    let own = server.pid().as_raw_nonzero().get();
    let python = python(&server);
    let python = python.iter().map(|pid| pid.as_raw_nonzero().get());
    let mut all: Vec<i32> = python.clone().chain([own]).collect();
    all.sort_unstable();
    assert_eq!(found(&["pyserve"]), all);
    assert_eq!(found(&["-x", "pyserve"]), [own]);
    assert_eq!(
        found(&["-f", "pyserve: worker"]),
        [python.clone().next_back().unwrap()]
    );
    let pidof = std::process::Command::new("pidof").arg("pyserve").output();
    if let Ok(pidof) = pidof {
        let pids = String::from_utf8(pidof.stdout).unwrap();
        let pids: Vec<i32> = pids
            .split_ascii_whitespace()
            .map(|pid| pid.parse().unwrap())
            .collect();
        assert!(pids.contains(&own), "{pids:?}");
        assert!(python.clone().all(|pid| !pids.contains(&pid)), "{pids:?}");
    }
}

#[test]
fn signals_that_the_parent_has_blocked_or_ignored_reach_the_server() {
    let script = "import os, signal, sys\n\
        for number in (1, 2, 10, 15): signal.signal(number, signal.SIG_IGN)\n\
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\n\
        os.execv(sys.argv[1], sys.argv[1:])";
    let python = crate::support::python::default();
    let server = Pyserve::binary(&python).args(["-c", script, env!("CARGO_BIN_EXE_pyserve")]);
    let server = server.args(["--app", "hello.py", "--chdir"]);
    let mut server = server.args([crate::support::apps()]).quick().ready();
    server.signal(Signal::HUP);
    server.stderr.wait_for("reloaded in");
    assert_eq!(server.get("/").status(), 200);
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
}

/// A server whose `before_start` runs until [`goes_on`].
fn before_the_start() -> Server {
    // No commands in the loop: a shell that is stopped while it starts one by vfork waits in the
    // kernel for the child, which is stopped as well, and never shows that it is stopped.
    const WAITS: &str = r#"echo begun; until [ -e "$PROBE/go" ]; do :; done"#;
    let server = Pyserve::app("hello.py").args(["--before-start", WAITS]);
    let server = server.in_own_group().started();
    server.stderr.wait_for("begun");
    server
}

fn goes_on(server: &Server) {
    std::fs::write(server.probe.path("go"), "").unwrap();
    server.stderr.wait_for("ready in ");
}

#[test]
fn signals_that_do_not_end_the_server_do_not_end_its_start() {
    let server = before_the_start();
    // HUP, USR1, USR2, ALRM, STKFLT, TTIN, TTOU, XCPU, XFSZ, VTALRM, PROF, IO, PWR and real-time ones of
    // signal(7).
    for number in [
        1, 10, 12, 14, 16, 21, 22, 24, 25, 26, 27, 29, 30, 34, 37, 64,
    ] {
        let pid = server.pid().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{number}"), &pid])
            .status();
        assert!(sent.unwrap().success(), "signal {number}");
    }
    goes_on(&server);
}

#[test]
fn ctrl_z_during_before_start_stops_the_command_with_the_server() {
    let server = before_the_start();
    let command = children(server.pid());
    assert_eq!(command.len(), 1, "{command:?}");
    server.signal(Signal::TSTP);
    let all = [server.pid(), command[0]];
    let began = Instant::now();
    while !all.iter().all(is_stopped) {
        assert!(began.elapsed() < DEADLINE, "{all:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    server.signal(Signal::CONT);
    server.stderr.wait_for("continued after SIGTSTP");
    goes_on(&server);
}
