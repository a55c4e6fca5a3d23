//! The control socket, and the verbs that reach a server through it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::server::{Ended, Pyserve, Server, get};
use crate::support::{skipped, temp_dir};

/// Runs a verb against this server.
fn verb(server: &Server, arguments: &[&str]) -> Ended {
    let control = server.probe.path("control");
    Pyserve::bare()
        .env("PYSERVE_CONTROL", control)
        .args(arguments)
        .run()
}

fn status(server: &Server) -> Value {
    let ended = verb(server, &["status", "--json"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).expect("JSON")
}

/// What the socket answers to a line.
fn order(server: &Server, line: &str) -> String {
    let mut stream = UnixStream::connect(server.probe.path("control")).unwrap();
    stream.write_all(line.as_bytes()).unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    answer
}

#[test]
fn status_tells_what_each_thread_does_and_nothing_of_a_query() {
    let server = Pyserve::app("held.py").args(["--workers", "2"]).ready();
    let mut inside = server.connect();
    inside.send("GET /inside?token=secret HTTP/1.1\r\nHost: a\r\n\r\n");
    let held = server.probe.held("/inside");

    let json = status(&server);
    assert_eq!(json["state"], "serving", "{json:#}");
    let connections = &json["connections"];
    assert_eq!(
        (&connections["open"], &connections["active"]),
        (&1.into(), &1.into())
    );
    let application = &json["applications"][0];
    assert_eq!(application["name"], "held.py", "{json:#}");
    assert_eq!(application["queue"]["handed_out"], 1, "{json:#}");
    let workers = application["workers"].as_array().unwrap();
    assert_eq!(workers.len(), 2);
    let threads: Vec<_> = workers.iter().map(|worker| &worker["threads"][0]).collect();
    let busy = threads.iter().find(|thread| thread["doing"] == "busy");
    let busy = busy.unwrap_or_else(|| panic!("{json:#}"));
    assert_eq!(busy["request"]["path"], "/inside");
    assert_eq!(busy["request"]["method"], "GET");
    assert!(threads.iter().any(|thread| thread["doing"] == "idle"));
    for worker in workers {
        assert!(worker["pid"].as_u64().unwrap() > 1, "{json:#}");
        assert!(worker["memory"].as_u64().unwrap() > 1 << 20, "{json:#}");
    }

    let table = verb(&server, &["status"]).stdout;
    for part in ["serving for ", "busy ", "GET /inside [", "idle"] {
        assert!(table.contains(part), "{part}: {table}");
    }
    assert!(!table.contains("secret") && !json.to_string().contains("secret"));
    held.release();
    assert_eq!(inside.response().status(), 200);
}

#[test]
fn health_is_0_with_a_worker_and_1_without() {
    let server = Pyserve::app("boot_held.py").listening();
    let held = server.probe.held("importing");
    let ended = verb(&server, &["health"]);
    assert_eq!(ended.code, 1, "{}", ended.stdout);
    assert!(
        ended.stderr.contains("no worker is ready"),
        "{}",
        ended.stderr
    );
    assert_eq!(status(&server)["state"], "starting");
    held.release();
    server.stderr.wait_for("ready in ");
    let ended = verb(&server, &["health"]);
    assert_eq!((ended.code, &*ended.stdout), (0, "ready"));
}

#[test]
fn stop_finishes_what_is_inside_and_returns_when_the_server_has_gone() {
    let mut server = Pyserve::app("held.py").ready();
    let mut idle = server.connect();
    assert_eq!(idle.exchange(get("/")).status(), 200);
    let (mut inside, held) = server.hold("/inside");
    let control = server.probe.path("control");
    let stop = Pyserve::bare()
        .env("PYSERVE_CONTROL", &control)
        .args(["stop"]);
    let stopping = std::thread::spawn(move || stop.run());
    // An idle connection ends with the beginning of the stop.
    assert_eq!(idle.rest().0, b"");
    assert_eq!(status(&server)["state"], "stopping");
    let health = verb(&server, &["health"]);
    assert_eq!(health.code, 1);
    assert!(health.stderr.contains("stopping"), "{}", health.stderr);
    held.release();
    assert_eq!(inside.response().status(), 200);
    let stopped = stopping.join().unwrap();
    assert_eq!(
        (stopped.code, &*stopped.stdout),
        (0, "stopped"),
        "{}",
        stopped.stderr
    );
    assert_eq!(server.wait_exit(), 0);
    assert!(!control.exists(), "the socket goes with its server");
}

#[test]
fn a_worker_that_died_is_among_the_last_errors() {
    let server = Pyserve::app("dying.py").ready();
    for _ in 0..5 {
        assert_eq!(server.get("/").status(), 200);
    }
    assert_eq!(server.get("/kill").status(), 502);
    // Its successor is there.
    assert_eq!(server.get("/").status(), 200);
    server.stderr.wait_for("WARN  worker died");
    let json = status(&server);
    let worker = &json["applications"][0]["workers"][0];
    let served = worker["served"].as_u64().unwrap();
    assert!(
        served <= 1,
        "those of the one before do not count: {json:#}"
    );
    let what = json["last_errors"][0]["what"].as_str().unwrap();
    assert!(what.starts_with("worker 0 died: signal 9"), "{what}");
}

#[test]
fn only_the_user_may_open_the_socket() {
    let server = Pyserve::app("hello.py").ready();
    let meta = std::fs::metadata(server.probe.path("control")).unwrap();
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    let ours = rustix::process::geteuid().as_raw();
    assert_eq!(meta.uid(), ours);
    if ours != 0 {
        skipped("an order of another user", "only root can be another user");
        return;
    }
    // Even where the mode has been widened, the kernel's word for who asks counts.
    let everybody = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(server.probe.path("control"), everybody.clone()).unwrap();
    std::fs::set_permissions(server.probe.dir(), everybody).unwrap();
    let script = "import os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(b'{\"order\":\"stop\"}\\n')
print(s.makefile().readline())";
    let asked = std::process::Command::new(crate::support::python::default())
        .args(["-c", script])
        .arg(server.probe.path("control"))
        .output()
        .unwrap();
    let answer = String::from_utf8_lossy(&asked.stdout).into_owned();
    assert!(answer.contains("only the server's user"), "{asked:?}");
    assert_eq!(server.get("/").status(), 200);
}

#[test]
fn nonsense_is_refused_and_harms_nobody() {
    let server = Pyserve::app("hello.py").ready();
    for line in [
        "\n",
        "{}\n",
        "{\"order\":\"dance\"}\n",
        "GET / HTTP/1.1\r\n\r\n",
    ] {
        let answer = order(&server, line);
        assert!(
            answer.contains("does not support this order"),
            "{line:?}: {answer}"
        );
    }
    let long = format!("{{\"order\":\"{}\n", "x".repeat(5000));
    assert!(order(&server, &long).contains("\"done\":false"));
    assert_eq!(verb(&server, &["health"]).code, 0);
}

/// A server and verbs that have to find each other.
fn usual(temp_dir: &Path) -> Pyserve {
    Pyserve::app("hello.py")
        .without("PYSERVE_CONTROL")
        .without("XDG_RUNTIME_DIR")
        .env("TMPDIR", temp_dir)
}

fn usual_verb(temp_dir: &Path, arguments: &[&str]) -> Ended {
    let verb = Pyserve::bare()
        .without("XDG_RUNTIME_DIR")
        .env("TMPDIR", temp_dir);
    verb.current_dir(temp_dir).args(arguments).run()
}

#[test]
fn a_verb_finds_the_only_server_and_asks_which_of_several() {
    let dir = temp_dir();
    let nobody = usual_verb(dir.path(), &["status"]);
    assert_eq!(nobody.code, 69, "{}", nobody.stderr);
    assert!(
        nobody.stderr.contains("no server runs here"),
        "{}",
        nobody.stderr
    );
    assert_eq!(usual_verb(dir.path(), &["health"]).code, 1);

    let first = usual(dir.path()).ready();
    assert_eq!(usual_verb(dir.path(), &["health"]).code, 0);

    let mut second = usual(dir.path()).args(["--root", "."]).ready();
    let several = usual_verb(dir.path(), &["health"]);
    assert_eq!(several.code, 1);
    assert!(
        several.stderr.contains("several servers run"),
        "{}",
        several.stderr
    );
    for server in [&first, &second] {
        let address = format!("http://127.0.0.1:{}", server.port());
        assert!(several.stderr.contains(&address), "{}", several.stderr);
    }

    // One that was killed leaves its socket, and is no longer counted.
    second.signal(Signal::KILL);
    assert_eq!(second.wait_exit(), 137);
    assert_eq!(usual_verb(dir.path(), &["health"]).code, 0);
    // The next server removes it.
    let third = usual(dir.path()).ready();
    let uid = rustix::process::geteuid().as_raw();
    let sockets = std::fs::read_dir(dir.path().join(format!("pyserve-{uid}"))).unwrap();
    assert_eq!(sockets.count(), 2);
    drop((first, third));
}

#[test]
fn of_several_servers_the_one_of_this_directory_is_meant() {
    let dir = temp_dir();
    let here = temp_dir();
    crate::support::write_files(
        here.path(),
        &[(
            "hello.py",
            "def application(e, s):\n s('200 OK', [])\n return [b'here']\n",
        )],
    );
    let _elsewhere = usual(dir.path()).ready();
    let server = Pyserve::new()
        .without("PYSERVE_CONTROL")
        .without("XDG_RUNTIME_DIR")
        .env("TMPDIR", dir.path())
        .args(["--app", "hello.py", "--chdir"])
        .args([here.path()])
        .ready();
    let chdir = here.path().to_str().unwrap();
    let ended = usual_verb(dir.path(), &["status", "--json", "--chdir", chdir]);
    let json: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!(json["pid"], server.pid().as_raw_nonzero().get(), "{json:#}");
}

#[test]
fn a_server_without_a_place_for_its_socket_goes_on_with_a_warning() {
    let server = Pyserve::app("hello.py")
        .env("PYSERVE_CONTROL", "/proc/no/such")
        .ready();
    server.stderr.wait_for("no control socket");
    assert_eq!(server.get("/").status(), 200);
    let off = Pyserve::app("hello.py")
        .env("PYSERVE_CONTROL", "off")
        .ready();
    assert_eq!(off.stderr.count("no control socket"), 0);
    let ended = Pyserve::bare().args(["status", "--control", "off"]).run();
    assert_eq!(ended.code, 69);
    assert!(ended.stderr.contains("--control"), "{}", ended.stderr);
}

#[test]
fn reload_waits_for_the_outcome_and_a_failed_one_says_why() {
    let builder = Pyserve::new();
    let dir = builder.path("app");
    let app = |version: &str| format!("def app(e, s):\n s('200 OK', [])\n return [b'{version}']\n");
    crate::support::write_files(&dir, &[("site_app.py", &*app("old"))]);
    let server = builder
        .current_dir(&dir)
        .args(["--app", "site_app"])
        .ready();
    crate::support::write_files(&dir, &[("site_app.py", &*app("new"))]);
    let ended = verb(&server, &["reload"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stdout.starts_with("reloaded in "), "{}", ended.stdout);
    assert_eq!(server.get("/").text(), "new");
    assert_eq!(status(&server)["applications"][0]["generation"], 2);

    let broken = "raise RuntimeError('the password is hunter2')\n";
    crate::support::write_files(&dir, &[("site_app.py", broken)]);
    let ended = verb(&server, &["reload"]);
    assert_eq!(ended.code, 1, "{}", ended.stdout);
    for part in ["keep serving", "Traceback", "RuntimeError: the password"] {
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
    assert_eq!(server.get("/").text(), "new");
    let json = status(&server);
    let what = json["last_errors"][0]["what"].as_str().unwrap();
    assert!(what.ends_with("RuntimeError (see the log)"), "{what}");
    assert!(!json.to_string().contains("hunter2"), "{json:#}");
    assert_eq!(verb(&server, &["health"]).code, 0);
}

#[test]
fn a_mistake_in_the_settings_file_hides_no_running_server() {
    let builder = Pyserve::app("hello.py")
        .without("PYSERVE_CONTROL")
        .watched();
    let (place, control) = (builder.path("site"), builder.path("its-control"));
    let settings = format!("control = {control:?}\n");
    crate::support::write_files(&place, &[("pyserve.toml", &*settings)]);
    let server = builder.current_dir(&place).ready();
    let verb = |name: &str| {
        // No other server of this machine is found either.
        let verb = Pyserve::bare()
            .without("PYSERVE_CONTROL")
            .without("XDG_RUNTIME_DIR")
            .env("TMPDIR", &place);
        verb.current_dir(&place).args([name]).run()
    };
    for mistake in ["wrokers = 3", "workers = [", "[[companion]]\nworkers = 3"] {
        let text = format!("{settings}{mistake}\n");
        crate::support::write_files(&place, &[("pyserve.toml", &*text)]);
        for name in ["health", "status"] {
            let ended = verb(name);
            assert_eq!(ended.code, 0, "{name}, {mistake}: {}", ended.stderr);
        }
        // It is for the server to say, which looks at all of it.
        let ended = verb("reload");
        assert_eq!(ended.code, 1, "{mistake}: {}", ended.stdout);
        let errors = server.status()["last_errors"].to_string();
        for said in [&ended.stderr, &errors] {
            assert!(said.contains("pyserve.toml:"), "{mistake}: {said}");
        }
    }
    crate::support::write_files(&place, &[("pyserve.toml", "control = [\n")]);
    let ended = verb("status");
    assert_eq!(ended.code, 69, "{}", ended.stdout);
    for part in ["no server runs here", "pyserve.toml:1: not valid TOML"] {
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure_and_a_full_disk_is_one() {
    let server = Pyserve::app("hello.py").ready();
    let status = |stdout: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pyserve"));
        let control = server.probe.path("control");
        command
            .args(["status", "--control"])
            .arg(control)
            .stdout(stdout);
        command.output().expect("it starts")
    };
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ended = status(writer.into());
    assert_eq!((ended.status.code(), &*ended.stderr), (Some(0), &b""[..]));
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let ended = status(full.into());
    assert_eq!(ended.status.code(), Some(1));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(
        said.contains("pyserve: standard output: No space left"),
        "{said}"
    );
}

#[test]
fn workers_of_the_generation_before_are_leaving() {
    let server = Pyserve::app("held.py").args(["--workers", "1"]).ready();
    let mut inside = server.connect();
    inside.send("GET /inside HTTP/1.1\r\nHost: a\r\n\r\n");
    let held = server.probe.held("/inside");
    assert_eq!(verb(&server, &["reload"]).code, 0);
    let json = status(&server);
    let workers = json["applications"][0]["workers"].as_array().unwrap();
    let mut states: Vec<_> = workers
        .iter()
        .map(|worker| (worker["generation"].as_u64(), worker["state"].as_str()))
        .collect();
    states.sort_unstable();
    let expected = [(Some(1), Some("leaving")), (Some(2), Some("ready"))];
    assert_eq!(states, expected, "{json:#}");
    held.release();
    assert_eq!(inside.response().status(), 200);
}

#[test]
fn stacks_tell_where_a_request_hangs() {
    let server = Pyserve::app("held.py").args(["--workers", "2"]).ready();
    let mut inside = server.connect();
    inside.send("GET /inside?token=secret HTTP/1.1\r\nHost: a\r\n\r\n");
    let held = server.probe.held("/inside");
    let ended = verb(&server, &["stacks"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    for part in [
        "worker 0 (pid ",
        "worker 1 (pid ",
        ", GET /inside [",
        "held.py",
        "in wait",
    ] {
        assert!(ended.stdout.contains(part), "{part}: {}", ended.stdout);
    }
    assert!(!ended.stdout.contains("secret"), "{}", ended.stdout);
    held.release();
    assert_eq!(inside.response().status(), 200);
}

#[test]
fn scale_changes_the_number_of_workers_within_what_there_is_room_for() {
    let server = Pyserve::app("hello.py").ready();
    let ended = verb(&server, &["scale", "3"]);
    assert_eq!(
        (ended.code, &*ended.stdout),
        (0, "3 workers from now on"),
        "{}",
        ended.stderr
    );
    let serving = |server: &Server| {
        let json = status(server);
        let workers = json["applications"][0]["workers"]
            .as_array()
            .unwrap()
            .clone();
        workers
            .iter()
            .filter(|worker| worker["state"] != "leaving")
            .count()
    };
    assert_eq!(serving(&server), 3);
    assert_eq!(verb(&server, &["scale", "1"]).code, 0);
    assert_eq!(serving(&server), 1);
    let ended = verb(&server, &["scale", "1000000"]);
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("are possible"), "{}", ended.stderr);
    assert_eq!(verb(&server, &["scale", "0"]).code, 2);
}

#[test]
fn a_number_above_the_range_that_is_set_during_a_reload_holds_behind_it() {
    for workers in ["1..2", "1..6", "auto", "2"] {
        let server = Pyserve::app("boot_held.py")
            .args(["--workers", workers])
            .listening();
        server.probe.held("importing").release();
        server.stderr.wait_for("ready in ");
        server.signal(Signal::HUP);
        let held = server.probe.held("importing");
        for number in ["7", "5"] {
            let ended = verb(&server, &["scale", number]);
            assert_eq!(ended.code, 0, "{}", ended.stderr);
        }
        held.release();
        server.stderr.wait_for("reloaded in");
        let scaling = &status(&server)["applications"][0]["scaling"];
        assert_eq!(scaling["workers"], 5, "{workers}: {scaling}");
        let reason = scaling["reason"].as_str().unwrap();
        assert!(reason.contains("by hand"), "{workers}: {reason}");
        assert_eq!(server.get("/").text(), "booted");
        // What comes before a reload holds until then.
        server.signal(Signal::HUP);
        server.probe.held("importing").release();
        server.stderr.wait_for_nth("reloaded in", 2);
        let scaling = &status(&server)["applications"][0]["scaling"];
        let most = [("1..2", 2), ("1..6", 5)]
            .into_iter()
            .find(|(range, _)| *range == workers);
        if let Some((_, most)) = most {
            assert_eq!(scaling["workers"], most, "{workers}: {scaling}");
        }
    }
}
