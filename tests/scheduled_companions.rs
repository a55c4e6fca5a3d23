//! Companions that run at times of a schedule, and companions that run as another user.

use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::server::{Pyserve, Server};
use crate::support::{DEADLINE, is_root, temp_dir, write_files};

/// A server without an application, with these companions.
fn with(toml: &str) -> (Pyserve, tempfile::TempDir) {
    let dir = temp_dir();
    let toml = format!("{toml}\n[[location]]\nrespond = 'up'\n");
    write_files(dir.path(), &[("pyserve.toml", &*toml)]);
    (Pyserve::new().watched().current_dir(dir.path()), dir)
}

fn companion(server: &Server, name: &str) -> Value {
    let status = server.status();
    let all = status["companions"].as_array().expect("a list");
    let found = all.iter().find(|one| one["name"] == name);
    found.expect("the companion").clone()
}

/// Waits until the status of a companion satisfies a condition.
fn wait_for(server: &Server, name: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let found = companion(server, name);
        if is_so(&found) {
            return found;
        }
        assert!(began.elapsed() < DEADLINE, "{found}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn a_companion_runs_again_and_again_and_its_exit_code_is_logged() {
    let toml = "
        [[companion]]
        name = 'job'
        command = 'echo run in $(pwd); exit 3'
        every = '1s'
    ";
    let (pyserve, dir) = with(toml);
    let mut server = pyserve.listening();
    let first = companion(&server, "job");
    assert_eq!(
        (&first["pid"], &first["last_run"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(first["schedule"], "every 1s");
    assert!(
        first["next_run"]
            .as_str()
            .is_some_and(|time| time.ends_with('Z')),
        "{first}"
    );
    let line = server.stderr.wait_for_nth("run in", 2);
    assert!(
        line.contains("job") && line.contains(dir.path().to_str().unwrap()),
        "{line}"
    );
    let failed = server.stderr.wait_for("scheduled companion has failed");
    assert!(failed.contains("exit code 3"), "{failed}");
    let ended = wait_for(&server, "job", |one| one["last_run"]["took"].is_number());
    assert_eq!(ended["last_run"]["result"], "exit code 3");
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
}

#[test]
fn a_run_that_is_due_while_the_one_before_works_is_skipped_and_a_stop_waits_for_it() {
    let toml = "
        [[companion]]
        name = 'slow'
        command = '''trap 'echo finished; exit 0' TERM; echo begun; while :; do sleep 0.05; done'''
        every = '1s'
    ";
    let (pyserve, _dir) = with(toml);
    let mut server = pyserve.listening();
    server.stderr.wait_for("begun");
    server
        .stderr
        .wait_for("scheduled companion still runs: this run is skipped");
    let running = companion(&server, "slow");
    assert!(
        running["pid"].is_number() && running["last_run"]["took"].is_null(),
        "{running}"
    );
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
    let log = server.stderr.to_end();
    assert_eq!(log.matches("begun").count(), 1, "{log}");
    assert!(log.contains("finished"), "{log}");
}

#[test]
fn a_reload_lets_a_run_work_and_changes_the_schedule() {
    let toml = |schedule: &str| {
        format!(
            "[[companion]]\nname = 'job'\n{schedule}\n\
             command = '''trap 'echo terminated; exit 0' TERM; echo begun; while :; do sleep 0.05; done'''\n"
        )
    };
    let (pyserve, dir) = with(&toml("every = '1s'"));
    let server = pyserve.env("TZ", "Europe/Berlin").listening();
    server.stderr.wait_for("begun");
    let pid = companion(&server, "job")["pid"].clone();
    let rewrite = |toml: &str| {
        let text = format!("{toml}\n[[location]]\nrespond = 'up'\n");
        write_files(dir.path(), &[("pyserve.toml", &*text)]);
        server.signal(Signal::HUP);
    };
    rewrite(&toml("schedule = '30 3 1 1 *'"));
    server.stderr.wait_for("reloaded in");
    let after = companion(&server, "job");
    assert_eq!(after["pid"], pid, "it works on");
    assert_eq!(after["schedule"], "\"30 3 1 1 *\" (Europe/Berlin)");
    let next = after["next_run"].as_str().unwrap();
    assert!(next.ends_with("-01-01T03:30:00+01:00"), "{next}");
    rewrite("");
    server.stderr.wait_for("terminated");
}

#[test]
fn check_and_status_show_the_schedule() {
    let toml = "
        [[companion]]
        name = 'backup'
        command = 'true'
        schedule = '0 3 * * mon-fri'
    ";
    let (pyserve, dir) = with(toml);
    let checked = pyserve.env("TZ", "UTC").args(["check"]).run();
    let shown = "backup -> true, \"0 3 * * mon-fri\" (UTC)";
    assert!(checked.stdout.contains(shown), "{}", checked.stdout);
    let control = dir.path().join("control");
    let run = |args: &[&str]| {
        let pyserve = Pyserve::new().current_dir(dir.path()).env("TZ", "UTC");
        pyserve
            .args(["--control".as_ref(), control.as_os_str()])
            .args(args)
    };
    let _server = run(&[]).listening();
    let status = run(&["status"]).run();
    assert!(
        status
            .stdout
            .contains("backup  \"0 3 * * mon-fri\" (UTC)  next run 20"),
        "{}",
        status.stdout
    );
    assert!(
        status.stdout.contains("T03:00:00+00:00, no run so far"),
        "{}",
        status.stdout
    );
}

#[test]
fn schedules_and_users_that_cannot_be_used_end_the_start() {
    for (keys, part) in [
        ("schedule = '0 3 * *'", "4 fields"),
        ("schedule = '61 3 * * *'", "minute"),
        ("schedule = '0 0 31 2 *'", "no such day"),
        (
            "schedule = '@daily'\nevery = '1h'",
            "both `schedule` and `every`",
        ),
        ("every = '0.5'", "shorter than a second"),
        (
            "every = '1h'\nessential = true",
            "means nothing beside `every`",
        ),
        (
            "schedule = '@daily'\noverlap = true",
            "means nothing beside `schedule`",
        ),
        ("user = 'no such user'", "/etc/passwd"),
        ("user = '4000000001'", "give `group` as well"),
        ("group = 'root'", "no `user` beside it"),
    ] {
        let (pyserve, _dir) = with(&format!("[[companion]]\ncommand = 'true'\n{keys}\n"));
        let ended = pyserve.run();
        assert_eq!(ended.code, 78, "{}", ended.stderr);
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
    let (pyserve, _dir) = with("[[companion]]\ncommand = 'true'\nschedule = '@daily'\n");
    let ended = pyserve.env("TZ", "Mars/Olympus").run();
    assert_eq!(ended.code, 78, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("TZ=Mars/Olympus is no time zone"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_companion_runs_as_its_user_with_the_groups_and_the_home_of_that() {
    if !is_root("a companion as another user") {
        return;
    }
    let toml = "
        [[companion]]
        name = 'other'
        command = 'echo $(id -u):$(id -g):$(id -G) $HOME $USER; echo again > /dev/stdout; exec sleep 1000'
        user = 'nobody'
        [[companion]]
        name = 'group'
        command = 'echo $(id -u):$(id -g); exec sleep 1000'
        user = '4000000001'
        group = 7
    ";
    let (pyserve, _dir) = with(toml);
    let mut server = pyserve.listening();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let nobody: Vec<_> = passwd
        .lines()
        .find(|line| line.starts_with("nobody:"))
        .expect("a user nobody")
        .split(':')
        .collect();
    let (uid, gid, home) = (nobody[2], nobody[3], nobody[5]);
    server
        .stderr
        .wait_for(&format!("{uid}:{gid}:{gid} {home} nobody"));
    server.stderr.wait_for("again");
    server.stderr.wait_for("4000000001:7");
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);

    // Without root's rights there is no way to another user.
    let (pyserve, _dir) =
        with("uid = 'nobody'\n[[companion]]\ncommand = 'true'\nuser = 'daemon'\n");
    let ended = pyserve.run();
    assert_eq!(ended.code, 78, "{}", ended.stderr);
    assert!(
        ended
            .stderr
            .contains("only root may start a program as another user"),
        "{}",
        ended.stderr
    );
}
