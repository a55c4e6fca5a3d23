//! Processes beside the application, and the command before it.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::probe::Held;
use crate::support::server::{Pyserve, Server};
use crate::support::{apps, python, temp_dir, write_files};

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

/// A server with a companion that behaves as Celery does, and its task. `keys`: more settings of it.
fn with_task_queue(command: &str, keys: &str) -> (Server, Held) {
    let server = with(&task_queue(command, keys)).ready();
    let task = server.probe.held("task");
    server.probe.notes.wait_for("at work");
    (server, task)
}

fn task_queue(command: &str, keys: &str) -> String {
    format!("[[companion]]\nname = 'queue'\ncommand = {command}\n{keys}\n")
}

/// The command line of `task_queue.py`.
fn queue_line() -> String {
    let script = apps().join("task_queue.py");
    format!("{} {}", python::default().display(), script.display())
}

fn quoted(line: &str) -> String {
    format!("\"{line}\"")
}

/// Waits until a process has gone.
#[track_caller]
fn wait_until_gone(pid: i32) {
    let began = Instant::now();
    while is_alive(pid) {
        assert!(began.elapsed() < crate::support::DEADLINE, "{pid} is there");
        std::thread::sleep(Duration::from_millis(5));
    }
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
    server.stderr.wait_for("companion has exited");
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
    assert!(server.stderr.to_end().contains("did not stop"));
}

#[test]
fn a_companion_is_asked_to_end_by_the_signal_of_its_settings() {
    let script = "trap \"echo got INT; exit 0\" INT; trap \"echo got TERM\" TERM; echo at work; while :; do sleep 0.05; done";
    let settings = format!(
        "[[companion]]\nname = 'a'\nstop_signal = 'SIGINT'\ncommand = ['/bin/sh', '-c', '{script}']\n"
    );
    let mut server = with(&settings).ready();
    server.stderr.wait_for("at work");
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
    let log = server.stderr.so_far().join("\n");
    assert!(
        log.contains("got INT") && !log.contains("got TERM"),
        "{log}"
    );
    let ended = with(&settings.replace("SIGINT", "STOP")).run();
    assert_eq!(ended.code, 78, "{}", ended.stderr);
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
    assert!(log.contains("an essential companion has exited"), "{log}");
    assert!(log.contains("exit code 3"), "{log}");
}

#[test]
fn a_companion_is_started_again_as_its_settings_say() {
    let settings = "
        [[companion]]
        name = 'once'
        command = ['sh', '-c', 'echo once runs; exit 3']
        restart = 'never'

        [[companion]]
        name = 'good'
        command = ['sh', '-c', 'echo good runs']
        restart = 'on-failure'

        [[companion]]
        name = 'bad'
        command = ['sh', '-c', 'echo bad runs; exit 3']
        restart = 'on-failure'
        ";
    let server = with(settings).ready();
    server
        .stderr
        .wait_for("companion has exited, and is not started again");
    server.stderr.wait_for("companion has ended");
    server.stderr.wait_for_nth("bad runs", 3);
    let count = |text: &str| {
        let log = server.stderr.so_far();
        log.iter().filter(|line| line.contains(text)).count()
    };
    assert_eq!((count("once runs"), count("good runs")), (1, 1));
    assert_eq!(server.get("/").status(), 200);
    // A reload starts it with the new code.
    server.signal(Signal::HUP);
    server.stderr.wait_for_nth("once runs", 2);
    let wrong = with(&settings.replace("'never'", "'never'\nessential = true")).run();
    assert_eq!(wrong.code, 78, "{}", wrong.stderr);
    let wrong = with(&settings.replace("'never'", "'sometimes'")).run();
    assert!(
        wrong
            .stderr
            .contains("give one of always, on-failure, never"),
        "{}",
        wrong.stderr
    );
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
        "pyserve: before_start failed: exit code 7 (the command: echo no database; exit 7) [PS-112]"
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

#[test]
fn a_stop_lets_a_task_queue_finish_its_task_however_it_is_started() {
    let line = queue_line();
    let words: Vec<_> = line.split(' ').map(quoted).collect();
    let (_scripts, script, nested) = scripts(&line);
    for command in [
        quoted(&script),
        quoted(&nested),
        format!("['{script}']"),
        format!("['sh', '{nested}']"),
        format!("['sh', '-c', '{line}; true']"),
        format!("['/usr/bin/env', 'sh', '-c', '{line} && true']"),
        format!("\"sh -c '{line}; true'\""),
        format!("[{}]", words.join(", ")),
        quoted(&line),
        quoted(&format!("NAME='a; b' {line} 2>&1 # a comment")),
        quoted(&format!("cd . && {line}")),
        quoted(&format!("true; {line}; echo 'is not reached' > reached")),
        quoted(&format!("({line})")),
        quoted(&format!("{line} | cat")),
        quoted(&format!("if true; then {line}; fi")),
    ] {
        let (mut server, task) = with_task_queue(&command, "");
        server.signal(Signal::TERM);
        server.probe.notes.wait_for("warm shutdown");
        task.release();
        assert_eq!(server.wait_exit(), 0, "{command}");
        server.probe.notes.wait_for("task finished");
        let notes = server.probe.notes.so_far().join("\n");
        assert!(
            !notes.contains("killed") && !notes.contains("cold"),
            "{command}: {notes}"
        );
        let log = server.stderr.to_end();
        assert!(!log.contains("did not stop"), "{command}: {log}");
    }
}

/// A script that runs this line and something behind it, and one that runs that script so.
fn scripts(line: &str) -> (tempfile::TempDir, String, String) {
    let dir = temp_dir();
    let [script, nested] = ["run.sh", "nested.sh"].map(|name| dir.path().join(name));
    for (file, line) in [(&script, line), (&nested, script.to_str().unwrap())] {
        std::fs::write(file, format!("#!/bin/sh\n{line}\ntrue\n")).unwrap();
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let text = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
    (dir, text(script), text(nested))
}

#[test]
fn a_reload_and_a_stop_before_the_start_let_a_script_finish() {
    let line = queue_line();
    let (_scripts, script, _) = scripts(&line);
    let (server, task) = with_task_queue(&quoted(&script), "");
    server.signal(Signal::HUP);
    server.probe.notes.wait_for("warm shutdown");
    task.release();
    server.probe.notes.wait_for("task finished");
    server.stderr.wait_for_nth("companion started", 2);
    drop(server);

    let mut server = with(&format!("before_start = '{script}'")).started();
    let task = server.probe.held("task");
    server.probe.notes.wait_for("at work");
    server.signal(Signal::TERM);
    server.probe.notes.wait_for("warm shutdown");
    task.release();
    assert_eq!(server.wait_exit(), 128 + 15);
    server.probe.notes.wait_for("task finished");
    assert_eq!(server.probe.notes.count("killed"), 0);
}

#[test]
fn what_a_main_process_leaves_behind_is_killed_at_the_end_of_its_time() {
    let dir = temp_dir();
    let stubborn = dir.path().join("stubborn.sh");
    let text = "trap '' TERM; echo pid $$; while :; do sleep 0.05; done\n";
    std::fs::write(&stubborn, text).unwrap();
    let (_scripts, script, _) = scripts(&format!("sh {}", stubborn.display()));
    let settings =
        format!("[[companion]]\nname = 'a'\nstop_timeout = '300ms'\ncommand = '{script}'\n");
    let mut server = with(&settings).ready();
    let pid = pid_in(&server.stderr.wait_for("pid "), "pid ");
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
    wait_until_gone(pid);
    assert_eq!(server.stderr.to_end().matches("did not stop").count(), 1);
}

#[test]
fn the_graceful_timeout_is_the_limit_of_all_companions_at_a_stop() {
    let stubborn = "
        [[companion]]
        name = 'NAME'
        command = '''trap '' TERM; echo pid $$; while :; do sleep 0.05; done'''
        ";
    let settings = stubborn.replace("NAME", "a") + &stubborn.replace("NAME", "b");
    let server = with(&settings).args(["--graceful-timeout", "1"]);
    let mut server = server.ready();
    server.stderr.wait_for_nth("pid ", 2);
    let began = Instant::now();
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
    // Each may take 30 s by its own settings.
    let took = began.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert_eq!(server.stderr.to_end().matches("did not stop").count(), 2);
}

#[test]
fn what_does_not_stop_is_killed_with_its_children() {
    let (mut server, _task) = with_task_queue(&quoted(&queue_line()), "stop_timeout = '100ms'");
    let note = server.probe.notes.wait_for("at work");
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
    wait_until_gone(pid_in(&note, "pid "));
    wait_until_gone(pid_in(&note, "has pid "));
}

#[test]
fn a_reload_restarts_a_companion_when_the_old_one_has_finished() {
    let line = quoted(&queue_line());
    for trigger in ["signal", "verb", "file"] {
        let server = with(&task_queue(&line, ""));
        let (control, touched) = (server.path("control"), server.path("touched"));
        let server = server.args(["--touch-reload"]).args([&touched]).ready();
        let task = server.probe.held("task");
        server.probe.notes.wait_for("at work");
        match trigger {
            "signal" => server.signal(Signal::HUP),
            "verb" => {
                let reload = Pyserve::bare().args(["reload", "--control"]);
                let done = reload.args([&control]).run();
                assert_eq!(done.code, 0, "{}", done.stderr);
            }
            _ => std::fs::write(&touched, "").unwrap(),
        }
        server.probe.notes.wait_for("warm shutdown");
        server.stderr.wait_for("reloaded in");
        assert_eq!(server.get("/").status(), 200);
        let started = server.stderr.count("companion started");
        assert_eq!(started, 1, "{trigger}: never two at a time");
        task.release();
        server.stderr.wait_for_nth("companion started", 2);
        let _next = server.probe.held("task");
        assert_eq!(server.stderr.count("again_in"), 0, "{trigger}");
        assert_eq!(server.probe.notes.count("killed"), 0, "{trigger}");
    }
}

#[test]
fn with_overlap_the_new_companion_starts_beside_the_old_one() {
    let (mut server, task) = with_task_queue(&quoted(&queue_line()), "overlap = true");
    server.signal(Signal::HUP);
    let next = server.probe.held("task");
    server.probe.notes.wait_for("warm shutdown");
    server.probe.notes.wait_for_nth("at work", 2);
    // A stop waits for both, and asks neither twice.
    server.signal(Signal::TERM);
    server.probe.notes.wait_for_nth("warm shutdown", 2);
    next.release();
    task.release();
    assert_eq!(server.wait_exit(), 0);
    server.probe.notes.wait_for_nth("task finished", 2);
    assert_eq!(server.probe.notes.count("cold"), 0);
}

#[test]
fn a_stop_waits_for_a_companion_that_a_reload_has_asked_to_end() {
    let (mut server, task) = with_task_queue(&quoted(&queue_line()), "");
    server.signal(Signal::HUP);
    server.probe.notes.wait_for("warm shutdown");
    server.stderr.wait_for("reloaded in");
    server.signal(Signal::TERM);
    server.stderr.wait_for("asking the workers to exit");
    task.release();
    assert_eq!(server.wait_exit(), 0);
    server.probe.notes.wait_for("task finished");
    assert_eq!(server.probe.notes.count("cold"), 0, "SIGTERM comes once");
    let log = server.stderr.to_end();
    assert_eq!(log.matches("companion started").count(), 1, "{log}");
}

#[test]
fn a_stop_timeout_ends_an_old_companion_at_a_reload_too() {
    let (server, _task) = with_task_queue(&quoted(&queue_line()), "stop_timeout = '100ms'");
    let note = server.probe.notes.wait_for("at work");
    server.signal(Signal::HUP);
    server.stderr.wait_for("did not stop");
    server.stderr.wait_for_nth("companion started", 2);
    wait_until_gone(pid_in(&note, "has pid "));
}

/// The process of a companion, at its start number `nth` from 0.
fn started(server: &Server, name: &str, nth: usize) -> Option<i32> {
    let field = format!("companion={name} pid=");
    let lines = server.stderr.so_far();
    let mut lines = lines
        .iter()
        .filter(|line| line.contains("companion started") && line.contains(&field));
    lines.nth(nth).map(|line| pid_in(line, "pid="))
}

#[test]
fn companions_follow_their_settings_at_a_reload() {
    let one = |name: &str, seconds| {
        format!(
            "[[companion]]
            name = '{name}'
            essential = true
            restart_on_reload = false
            command = 'sleep {seconds}'
            "
        )
    };
    let server = with(&(one("kept", 1001) + &one("changed", 1002) + &one("removed", 1003)));
    let file = server.path("pyserve.toml");
    let mut server = server.ready();
    server.stderr.wait_for_nth("companion started", 3);
    let before = started(&server, "changed", 0).unwrap();
    let removed = started(&server, "removed", 0).unwrap();

    let settings = one("kept", 1001) + &one("changed", 1004) + &one("added", 1005);
    std::fs::write(&file, settings).unwrap();
    server.signal(Signal::HUP);
    server.stderr.wait_for_nth("companion started", 5);
    wait_until_gone(before);
    wait_until_gone(removed);
    assert_eq!(server.get("/").status(), 200, "their end ends nothing else");
    let added = started(&server, "added", 0).unwrap();
    assert!(is_alive(added) && is_alive(started(&server, "changed", 1).unwrap()));
    assert_eq!(started(&server, "kept", 1), None, "it was not restarted");
    assert!(is_alive(started(&server, "kept", 0).unwrap()));

    // Wrong settings change nothing.
    std::fs::write(&file, "[[companion]]\ncomand = 'x'\n").unwrap();
    server.signal(Signal::HUP);
    server.stderr.wait_for("reload failed");
    assert!(is_alive(added));
    assert_eq!(server.stderr.count("companion started"), 5);

    // The new one is essential as the old one was.
    let pid = rustix::process::Pid::from_raw(added).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    assert_eq!(server.wait_exit(), 5);
}

#[test]
fn code_that_cannot_be_imported_leaves_companions_alone() {
    let builder = Pyserve::new();
    let dir = builder.path("site");
    let app = std::fs::read_to_string(apps().join("hello.py")).unwrap();
    let settings = "[[companion]]\ncommand = 'sleep 1000'\n";
    write_files(&dir, &[("hello.py", &app), ("pyserve.toml", settings)]);
    let server = builder.current_dir(&dir).args(["--app", "hello.py"]);
    let server = server.ready();
    let pid = pid_in(&server.stderr.wait_for("companion started"), "pid=");
    write_files(&dir, &[("hello.py", "import no_such_module_here\n")]);
    server.signal(Signal::HUP);
    server.stderr.wait_for("reload failed");
    assert!(is_alive(pid));
    assert_eq!(server.stderr.count("stopping the old companion"), 0);
}

#[test]
fn what_runs_before_the_start_gets_one_signal_and_the_graceful_time() {
    let line = quoted(&format!("cd . && {}", queue_line()));
    let mut server = with(&format!("before_start = {line}")).started();
    let task = server.probe.held("task");
    server.probe.notes.wait_for("at work");
    server.signal(Signal::TERM);
    server.probe.notes.wait_for("warm shutdown");
    task.release();
    assert_eq!(server.wait_exit(), 128 + 15);
    server.probe.notes.wait_for("task finished");
    assert_eq!(server.probe.notes.count("killed"), 0);

    let stubborn = "trap '' TERM; echo waiting; while :; do sleep 0.05; done";
    let server = with(&format!("before_start = {}", quoted(stubborn)));
    let mut server = server.args(["--graceful-timeout", "1"]).started();
    server.stderr.wait_for("waiting");
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 128 + 15);
}
