//! Processes beside the application, and the command before it.

use rustix::process::Signal;

use crate::support::server::Pyserve;
use crate::support::{temp_dir, write_files};

/// A server with these settings in its `pyserve.toml`.
fn with(settings: &str) -> Pyserve {
    let server = Pyserve::app("hello.py");
    let file = server.path("pyserve.toml");
    std::fs::write(&file, settings).unwrap();
    server.args(["--config".as_ref(), file.as_os_str()])
}

/// The process id behind `text` in a line of the log.
fn pid_in(line: &str, text: &str) -> i32 {
    let (_, behind) = line.split_once(text).unwrap_or_else(|| panic!("{line}"));
    let digits = behind.split(|c: char| !c.is_ascii_digit()).next();
    digits.unwrap_or_default().parse().expect("a process id")
}

fn is_alive(pid: i32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn check_shows_the_companions() {
    let dir = temp_dir();
    let settings = "
        static = '/=.'
        [[companion]]
        name = 'beat'
        command = 'sleep 1000'
        essential = true
        [[companion]]
        command = ['celery', '-A', 'mysite']
        ";
    write_files(dir.path(), &[("pyserve.toml", settings)]);
    let ended = Pyserve::new().current_dir(dir.path()).args(["check"]).run();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    for shown in [
        "companion                beat -> sleep 1000, essential\n",
        "companion                celery -> celery -A mysite\n",
    ] {
        assert!(ended.stdout.contains(shown), "{shown}: {}", ended.stdout);
    }
}

#[test]
fn a_companion_runs_in_the_site_and_is_started_again() {
    let settings = "
        [[companion]]
        name = 'beat'
        command = 'echo tick $$ in $(pwd); echo oops >&2; exec sleep 1000'
        ";
    let mut server = with(settings).ready();
    let line = server.stderr.wait_for("tick");
    assert!(line.contains("beat"), "{line}");
    assert!(line.contains("tests/apps"), "{line}");
    server.stderr.wait_for("oops");
    let first = pid_in(&line, "tick ");
    let kill = |pid| {
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
    };
    kill(first);
    server.stderr.wait_for("companion has ended");
    let second = pid_in(&server.stderr.wait_for_nth("tick", 2), "tick ");
    assert_ne!(first, second);
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
    assert!(!is_alive(second));
}

#[test]
fn companions_leave_one_after_the_other_behind_the_workers() {
    let say = |name: &str| {
        format!(
            "[[companion]]\nname = '{name}'\ncommand = '''trap 'echo {name} leaves; exit 0' TERM; echo {name} is there
             while :; do sleep 0.05; done'''\n"
        )
    };
    let mut server = with(&(say("first") + &say("second"))).ready();
    server.stderr.wait_for("first is there");
    server.stderr.wait_for("second is there");
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
    let log = server.stderr.to_end();
    let at = |text: &str| {
        log.find(text)
            .unwrap_or_else(|| panic!("no {text:?} in {log}"))
    };
    assert!(at("second leaves") < at("first leaves"), "{log}");
}

#[test]
fn a_companion_that_does_not_stop_is_killed_in_its_time() {
    let settings = "
        [[companion]]
        name = 'stubborn'
        stop_timeout = '100ms'
        command = '''trap '' TERM; echo pid $$; while :; do sleep 0.05; done'''
        ";
    let mut server = with(settings).ready();
    let pid = pid_in(&server.stderr.wait_for("pid "), "pid ");
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
    assert!(!is_alive(pid));
    assert!(server.stderr.to_end().contains("does not stop"));
}

#[test]
fn an_essential_companion_takes_the_server_along() {
    let settings = "
        [[companion]]
        name = 'queue'
        command = ['sh', '-c', 'read line < RELEASE; exit 3']
        essential = true
        ";
    let server = with(settings);
    let gate = server.path("release");
    let settings = std::fs::read_to_string(server.path("pyserve.toml")).unwrap();
    let settings = settings.replace("RELEASE", &gate.display().to_string());
    std::fs::write(server.path("pyserve.toml"), settings).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&gate).status();
    assert!(made.unwrap().success());
    let mut server = server.ready();
    std::fs::write(&gate, "go\n").unwrap();
    assert_eq!(server.wait_exit(), 5);
    let log = server.stderr.to_end();
    assert!(log.contains("an essential companion has ended"), "{log}");
    assert!(log.contains("exit code 3"), "{log}");
}

#[test]
fn a_program_that_is_not_there_is_tried_again_and_costs_nothing() {
    let server = with("[[companion]]\ncommand = ['/no/such/program', 'x']").ready();
    let line = server.stderr.wait_for("cannot start companion");
    assert!(line.contains("program"), "{line}");
    server.stderr.wait_for_nth("cannot start companion", 2);
    assert_eq!(server.get("/").status(), 200);
}

#[test]
fn what_runs_before_the_start_has_run_before_the_application_is_imported() {
    let server = with("before_start = 'echo migrated > $PROBE/migrated; echo done'");
    let migrated = server.path("migrated");
    let server = server.ready();
    assert_eq!(std::fs::read_to_string(migrated).unwrap(), "migrated\n");
    let log = server.stderr.so_far().join("\n");
    let at = |text: &str| {
        log.find(text)
            .unwrap_or_else(|| panic!("no {text:?} in {log}"))
    };
    assert!(at("done") < at("ready in "), "{log}");
}

#[test]
fn a_start_that_cannot_be_prepared_does_not_happen() {
    let dir = temp_dir();
    let log = dir.path().join("startup.log");
    let server = with("before_start = 'echo no database; exit 7'");
    let ended = server.args(["--startup-log"]).args([&log]).run();
    assert_eq!(ended.code, 5, "{}", ended.stderr);
    let log = std::fs::read_to_string(log).unwrap();
    assert!(
        log.contains("not started, exit code 5\npyserve: before_start failed: exit code 7"),
        "{log}"
    );
    assert!(ended.stderr.contains("no database"), "{}", ended.stderr);
    assert_eq!(
        ended.stderr.lines().last().unwrap(),
        "pyserve: before_start failed: exit code 7 (the command: echo no database; exit 7)"
    );
}

#[test]
fn a_stop_ends_what_runs_before_the_start() {
    let server = with("before_start = 'echo waiting; exec sleep 1000'");
    let mut server = server.started();
    server.stderr.wait_for("waiting");
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 128 + 15);
}
