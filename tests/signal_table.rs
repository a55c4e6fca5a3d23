//! The table of signals: what each one does, sent to which process, at which moment.
//!
//! The reactions of the server are those of the README. For Python processes there is one rule,
//! no reaction, whatever signal(7) has as the default action. No request may be lost unless the
//! signal asks for an end at once.

use std::process::Command;

use rustix::process::{Pid, Signal};

use crate::support::probe::Held;
use crate::support::raw::Connection;
use crate::support::server::{Pyserve, Server};
use crate::support::{DEADLINE, skipped, write_files};

/// Names and numbers as in signal(7) for x86 and ARM. HUP comes last because a reload replaces
/// the processes that the others must not end.
const SIGNALS: [(&str, i32); 34] = [
    ("TERM", 15),
    ("INT", 2),
    ("QUIT", 3),
    ("USR1", 10),
    ("USR2", 12),
    ("TTIN", 21),
    ("TTOU", 22),
    ("TSTP", 20),
    ("WINCH", 28),
    ("PIPE", 13),
    ("ALRM", 14),
    ("VTALRM", 26),
    ("PROF", 27),
    ("IO", 29),
    ("PWR", 30),
    ("STKFLT", 16),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("URG", 23),
    ("CONT", 18),
    ("CHLD", 17),
    ("RTMIN+0", 34),
    // systemd as process 1 halts by this one, so some images have it as their STOPSIGNAL.
    ("RTMIN+3", 37),
    ("RTMIN+28", 62),
    ("RTMAX", 64),
    // Those of faults, and SIGKILL.
    ("SEGV", 11),
    ("BUS", 7),
    ("ILL", 4),
    ("FPE", 8),
    ("TRAP", 5),
    ("SYS", 31),
    ("ABRT", 6),
    ("KILL", 9),
    ("HUP", 1),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Server,
    Template,
    Worker,
    /// Every process, as systemd does with `KillMode=control-group`.
    Everything,
    /// The processes that `pkill pyserve` finds.
    Named,
}

const TARGETS: [Target; 5] = [
    Target::Server,
    Target::Template,
    Target::Worker,
    Target::Everything,
    Target::Named,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    Importing,
    Idle,
    /// The same, where the server is process 1 of a container.
    Process1,
    InFlight,
    Stopping,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reaction {
    /// There is no such cell, for this reason.
    NoCell(&'static str),
    Nothing,
    /// A line of the log, and nothing else.
    Logged(&'static str),
    MoreWorkers,
    FewerWorkers,
    Reload,
    /// No request is lost, and the exit code is 0.
    GracefulStop,
    /// The exit code is this one.
    StopAtOnce(i32),
}

fn reaction(name: &str, number: i32, target: Target, moment: Moment) -> Reaction {
    use Reaction::*;
    match (target, moment) {
        (Target::Worker, Moment::Importing) => {
            return NoCell("there are no workers before the application is imported");
        }
        (Target::Named, Moment::Process1) => {
            return NoCell("processes of the container have no session that this test knows");
        }
        (target, moment)
            if is_fatal(name) && (target, moment) != (Target::Server, Moment::Idle) =>
        {
            return NoCell("the effect is the same for every process at every moment");
        }
        (Target::Template | Target::Worker, _) => return Nothing,
        (Target::Server | Target::Everything | Target::Named, _) => {}
    }
    match (name, moment) {
        ("TERM" | "INT", Moment::Stopping) => StopAtOnce(128 + number),
        ("TERM" | "INT", _) => GracefulStop,
        ("QUIT", _) => StopAtOnce(131),
        ("HUP" | "TTIN" | "TTOU", Moment::Stopping) => Nothing,
        ("TTIN", Moment::Importing) => Logged("number of workers changed from=1 to=2"),
        ("TTOU", Moment::Importing) => Logged("number of workers changed from=2 to=1"),
        ("HUP", _) => Reload,
        ("TTIN", _) => MoreWorkers,
        ("TTOU", _) => FewerWorkers,
        // credentials(7): nothing stops a process group that no shell could continue. With a
        // shell: `ctrl_z_stops_the_whole_job` in tests/signals.rs.
        ("TSTP", _) => Logged("continued after SIGTSTP"),
        ("USR1", _) => Logged("no log files to reopen"),
        ("USR2", Moment::Importing) => Logged("no upgrade: the server is not ready yet"),
        ("USR2", Moment::Stopping) => Logged("no upgrade: the server is stopping"),
        ("USR2", _) => NoCell("another process serves then: tests/upgrade.rs"),
        ("ALRM", _) => Logged("ignored SIGALRM"),
        ("VTALRM", _) => Logged("ignored SIGVTALRM"),
        ("PROF", _) => Logged("ignored SIGPROF"),
        ("IO", _) => Logged("ignored SIGIO"),
        ("PWR", _) => Logged("ignored SIGPWR"),
        ("STKFLT", _) => Logged("ignored SIGSTKFLT"),
        ("XCPU", _) => Logged("ignored SIGXCPU"),
        ("RTMIN+0", _) => Logged("ignored SIGRTMIN+0"),
        ("RTMIN+3", _) => Logged("ignored SIGRTMIN+3"),
        ("RTMIN+28", _) => Logged("ignored SIGRTMIN+28"),
        ("RTMAX", _) => Logged("ignored SIGRTMIN+30"),
        _ if is_fatal(name) => StopAtOnce(128 + number),
        ("WINCH" | "PIPE" | "XFSZ" | "URG" | "CONT" | "CHLD", _) => Nothing,
        _ => panic!("{name} has no reaction"),
    }
}

/// True for the signals that end every process (signal(7)): those of faults, and SIGKILL.
fn is_fatal(name: &str) -> bool {
    ["SEGV", "BUS", "ILL", "FPE", "TRAP", "SYS", "ABRT", "KILL"].contains(&name)
}

const APP: &str = "import os, probe\n\
    if 'HELD' in os.environ: probe.wait('importing')\n\
    def app(environ, start_response):\n\
    \x20   if environ['PATH_INFO'] != '/': probe.wait(environ['PATH_INFO'])\n\
    \x20   return probe.plain(start_response, str(os.getpid()))\n";

/// Arguments of unshare.
const IN_CONTAINER: [&str; 4] = ["--pid", "--fork", "--kill-child", "--mount-proc"];

/// A server at some moment of its life.
struct Scene {
    server: Server,
    pid: Pid,
    import: Option<Held>,
    request: Option<(Connection, Held)>,
}

impl Scene {
    fn new(moment: Moment) -> Self {
        // A session of its own, by which pkill knows it from the servers of other tests.
        let (outer, arguments) = match moment {
            Moment::Process1 => ("/usr/bin/unshare", &IN_CONTAINER[..]),
            _ => ("/usr/bin/setsid", &[][..]),
        };
        let builder = Pyserve::binary(outer.as_ref()).args(arguments);
        let dir = builder.path("app");
        let probe = crate::support::source("tests/apps/probe.py");
        let probe = std::fs::read_to_string(probe).unwrap();
        write_files(&dir, &[("table.py", APP), ("probe.py", &*probe)]);
        let builder = builder
            .args([env!("CARGO_BIN_EXE_pyserve"), "--app", "table", "--chdir"])
            .args([dir])
            .quick();
        if moment == Moment::Importing {
            let server = builder.env("HELD", "1").listening();
            let import = Some(server.probe.held("importing"));
            let request = None;
            return Self {
                pid: server.pid(),
                server,
                import,
                request,
            };
        }
        let server = builder.ready();
        let is_busy = matches!(moment, Moment::InFlight | Moment::Stopping);
        let request = is_busy.then(|| server.hold("/inside"));
        if moment == Moment::Stopping {
            server.signal(Signal::TERM);
            server.stderr.wait_for("finishing in-flight requests");
        }
        let pid = match moment {
            Moment::Process1 => children(server.pid())[0],
            _ => server.pid(),
        };
        Self {
            server,
            pid,
            import: None,
            request,
        }
    }

    fn send(&self, number: i32, target: Target) {
        let server = self.pid;
        let templates = children(server);
        let workers = templates.iter().copied().flat_map(children);
        let pids: Vec<Pid> = match target {
            Target::Server => vec![server],
            Target::Template => templates,
            Target::Worker => workers.collect(),
            Target::Everything => {
                let workers: Vec<Pid> = workers.collect();
                templates
                    .into_iter()
                    .chain(workers)
                    .chain([server])
                    .collect()
            }
            Target::Named => {
                let mut pkill = Command::new("pkill");
                let session = server.to_string();
                pkill.args([&format!("-{number}"), "--session", &session, "pyserve"]);
                assert!(pkill.status().unwrap().success());
                return;
            }
        };
        assert!(!pids.is_empty());
        let mut kill = Command::new("kill");
        kill.arg(format!("-{number}"));
        kill.args(pids.iter().map(Pid::to_string));
        assert!(kill.status().unwrap().success());
    }

    /// Lets the import or the request go on. The request gets its response.
    fn release(&mut self) {
        if let Some(import) = self.import.take() {
            import.release();
        }
        if let Some((mut connection, held)) = self.request.take() {
            held.release();
            assert_eq!(connection.response().status(), 200);
        }
    }

    /// All Python processes.
    fn python(&self) -> Vec<Pid> {
        let templates = children(self.pid);
        let workers: Vec<Pid> = templates.iter().copied().flat_map(children).collect();
        templates.into_iter().chain(workers).collect()
    }
}

fn children(pid: Pid) -> Vec<Pid> {
    let path = format!("/proc/{0}/task/{0}/children", pid.as_raw_nonzero());
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_ascii_whitespace()
        .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
        .collect()
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !is_so() {
        assert!(began.elapsed() < DEADLINE, "{what}");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// Sends one server all signals after which it goes on, and new ones those that end it.
fn check(moment: Moment) {
    for target in TARGETS {
        if matches!(reaction("CHLD", 17, target, moment), Reaction::NoCell(_)) {
            continue;
        }
        check_survived(target, moment);
        for (name, number) in SIGNALS {
            check_end(name, number, target, moment);
        }
    }
}

fn check_survived(target: Target, moment: Moment) {
    let mut scene = Scene::new(moment);
    let before = scene.python();
    let mut reloads = false;
    for (name, number) in SIGNALS {
        let cell = format!("{name} to {target:?}, {moment:?}");
        let reaction = reaction(name, number, target, moment);
        match reaction {
            Reaction::NoCell(_) | Reaction::GracefulStop | Reaction::StopAtOnce(_) => continue,
            _ => scene.send(number, target),
        }
        let log = &scene.server.stderr;
        match reaction {
            Reaction::Logged(line) => drop(log.wait_for(line)),
            Reaction::MoreWorkers => wait_until(&cell, || scene.python().len() == 3),
            Reaction::FewerWorkers => wait_until(&cell, || scene.python().len() == 2),
            Reaction::Reload => {
                if let Some(import) = scene.import.take() {
                    let again = scene.server.probe.held("importing");
                    import.release();
                    again.release();
                }
                log.wait_for("reloaded in");
                reloads = true;
            }
            _ => {}
        }
        // In the order of signals, the reload is the last.
        let now = scene.python();
        let is_there = before.iter().all(|pid| now.contains(pid));
        assert!(is_there || reloads, "{cell}: {before:?}, then {now:?}");
    }
    scene.release();
    match moment {
        Moment::Stopping => assert_eq!(scene.server.wait_exit(), 0, "{target:?}"),
        _ => {
            scene.server.stderr.wait_for("ready in");
            assert_eq!(scene.server.get("/").status(), 200, "{target:?}");
            let now = scene.python();
            assert!(reloads || before.iter().all(|pid| now.contains(pid)));
        }
    }
    assert_eq!(scene.server.stderr.count("signal "), 0, "{target:?}");
}

fn check_end(name: &str, number: i32, target: Target, moment: Moment) {
    let code = match reaction(name, number, target, moment) {
        Reaction::GracefulStop => 0,
        Reaction::StopAtOnce(code) => code,
        _ => return,
    };
    let mut scene = Scene::new(moment);
    let python = scene.python();
    if ["SEGV", "BUS"].contains(&name) {
        // Rust's handler for stack overflows takes the first one, and restores the default action.
        scene.send(number, target);
        wait_until(name, || !is_caught(scene.pid, number));
    }
    scene.send(number, target);
    if code == 0 && moment != Moment::Importing {
        scene.server.stderr.wait_for("stopping");
        scene.release();
    }
    let cell = format!("{name} to {target:?}, {moment:?}");
    assert_eq!(scene.server.wait_exit(), code, "{cell}");
    wait_until(&cell, || python.iter().all(|pid| has_ended(*pid)));
}

/// True if the process has a handler for this signal (proc_pid_status(5), `SigCgt`).
fn is_caught(pid: Pid, number: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = u64::from_str_radix(mask.unwrap().trim(), 16).unwrap();
    mask >> (number - 1) & 1 == 1
}

fn has_ended(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // A process 1 that does not reap leaves a zombie.
    stat.rsplit_once(") ")
        .is_none_or(|(_, state)| state.starts_with('Z'))
}

#[test]
fn every_signal_has_its_reaction_while_the_application_is_imported() {
    check(Moment::Importing);
}

#[test]
fn every_signal_has_its_reaction_in_an_idle_server() {
    check(Moment::Idle);
}

#[test]
fn every_signal_has_its_reaction_in_process_1_of_a_container() {
    let mut unshare = Command::new("unshare");
    let can = unshare.args(IN_CONTAINER).arg("true").status();
    match can.is_ok_and(|status| status.success()) {
        true => check(Moment::Process1),
        false => skipped("signals to process 1", "unshare --pid is not allowed here"),
    }
}

#[test]
fn every_signal_has_its_reaction_while_a_request_is_in_flight() {
    check(Moment::InFlight);
}

#[test]
fn every_signal_has_its_reaction_while_the_server_stops() {
    check(Moment::Stopping);
}

/// signal(7): the standard signals have the numbers 1 to 31, and 19 is SIGSTOP.
#[test]
fn every_signal_has_one_effect_in_the_manual() {
    let manual = crate::support::source("src/docs/signals.md");
    let manual = std::fs::read_to_string(manual).unwrap();
    let rows = manual.lines().filter(|line| line.starts_with("| SIG"));
    let first_cells = rows.filter_map(|row| row.split(" | ").next());
    let named: Vec<&str> = first_cells
        .flat_map(|names| names.split(|byte: char| !byte.is_ascii_alphanumeric()))
        .collect();
    for number in 1..=31 {
        let mut all = SIGNALS.iter().chain(&[("STOP", 19)]);
        let (name, _) = all
            .find(|(_, other)| *other == number)
            .unwrap_or_else(|| panic!("signal {number} is not in the table"));
        let name = format!("SIG{name}");
        let count = named.iter().filter(|named| **named == name).count();
        assert_eq!(count, 1, "{name} in the manual");
    }
}
