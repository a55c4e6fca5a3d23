//! `--preload auto`: what a fork would break is found and named, what it would not break is no
//! reason to import more than once, and answers are right either way.

mod kinds;

use std::collections::{BTreeMap, BTreeSet};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use kinds::{BREAKS, FINE, PRELUDE};

use crate::support::server::{Pyserve, Server, get};
use crate::support::{apps, python, skipped, write_files};

fn preload_line(server: &Server) -> String {
    let lines = server.stderr.so_far();
    let mut lines = lines.iter().map(|line| line.trim_start());
    let line = lines.find(|line| line.starts_with("preload "));
    line.expect("the block says so").to_owned()
}

/// Says what is wrong with a server for this code, if it starts.
fn verdict(code: &str, check: impl Fn(&str) -> bool) -> Option<String> {
    let served = std::panic::catch_unwind(|| serving(code, Pyserve::new()));
    let Ok(server) = served else {
        return Some(format!("{code}\n    does not start"));
    };
    let line = preload_line(&server);
    let is_right = check(&line) && server.get("/").status() == 200;
    (!is_right).then(|| format!("{code}\n    {line}"))
}

/// A server for this code, in a directory of its own.
fn serving(code: &str, builder: Pyserve) -> Server {
    let dir = builder.path("app");
    write_files(&dir, &[("app.py", &format!("{PRELUDE}{code}\n"))]);
    builder
        .args(["--app", "app.py", "--chdir"])
        .args([&dir])
        .ready()
}

/// Calls `check` for each row, four at a time; the rows for which it finds something wrong.
fn all_rows<T: Sync>(rows: &[T], check: impl Fn(&T) -> Option<String> + Sync) -> Vec<String> {
    let next = Mutex::new(rows.iter());
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some(row) = next.lock().unwrap().next() else {
                        return;
                    };
                    wrong.lock().unwrap().extend(check(row));
                }
            });
        }
    });
    wrong.into_inner().unwrap()
}

#[test]
fn what_a_fork_breaks_is_named_and_each_worker_imports_for_itself() {
    let wrong = all_rows(BREAKS, |(code, names)| {
        verdict(code, |line| {
            line.starts_with("preload   no: each worker imports for itself")
                && names.iter().all(|name| line.contains(name))
        })
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_a_fork_does_not_break_is_imported_once() {
    let wrong = all_rows(FINE, |code| {
        verdict(code, |line| {
            line.starts_with("preload   yes") && !line.contains("although")
        })
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Asks from several connections at once; every answer is that to its own question.
#[track_caller]
fn check_own_answers(server: &Server, requests: usize) {
    thread::scope(|scope| {
        for client in 0..6 {
            scope.spawn(move || {
                let mut connection = server.connect();
                for number in 0..requests {
                    let token = (client * requests + number).to_string();
                    let response = connection.exchange(get(&format!("/?{token}")));
                    assert_eq!((response.status(), response.text()), (200, token));
                }
            });
        }
    });
}

#[test]
fn every_answer_is_right_with_what_the_import_opened_and_after_a_worker_has_left() {
    let echo = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = echo.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut buffer = [0; 100];
        while let Ok((length, from)) = echo.recv_from(&mut buffer) {
            let _ = echo.send_to(&buffer[..length], from);
        }
    });
    let names = [
        "pool",
        "helper",
        "archive",
        "loop",
        "scratch",
        "process",
        "datagrams",
    ];
    let wrong = all_rows(&names, |name| {
        let server = Pyserve::app(&format!("left/{name}.py"))
            .env("ECHO_PORT", port.to_string())
            .args(["--workers", "3", "--max-requests", "20"])
            .ready();
        let check = || {
            check_own_answers(&server, 25);
            server.stderr.wait_for("worker is due for recycling");
            check_own_answers(&server, 5);
        };
        let is_wrong = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).is_err();
        is_wrong.then(|| format!("{name}: {}", preload_line(&server)))
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_waits_in_buffers_at_the_fork_is_written_once() {
    let builder = Pyserve::app("left/buffers.py");
    let journal = builder.path("journal");
    let mut server = builder
        .env("JOURNAL", &journal)
        .args(["--workers", "3"])
        .ready();
    let line = preload_line(&server);
    assert!(line.starts_with("preload   yes"), "{line}");
    check_own_answers(&server, 3);
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
    let text = std::fs::read_to_string(&journal).unwrap();
    let lines: BTreeSet<_> = text.lines().collect();
    assert_eq!((lines.len(), text.lines().count()), (2, 2), "{text}");
}

/// What each worker draws from this generator.
fn drawn(server: &Server, generator: &str, workers: usize) -> Vec<String> {
    let mut numbers = BTreeMap::new();
    while numbers.len() < workers {
        let text = server.get(&format!("/?{generator}")).text();
        let (worker, number) = text.split_once(' ').expect("a worker and its number");
        // The first that it drew.
        numbers
            .entry(worker.to_owned())
            .or_insert(number.to_owned());
    }
    numbers.into_values().collect()
}

#[track_caller]
fn check_numbers(server: &Server, unseeded: &[&str], seeded: &[&str]) {
    assert!(preload_line(server).starts_with("preload   yes"));
    for (names, distinct) in [(unseeded, 3), (seeded, 1)] {
        for name in names {
            let numbers: BTreeSet<_> = drawn(server, name, 3).into_iter().collect();
            assert_eq!(numbers.len(), distinct, "{name}: {numbers:?}");
        }
    }
}

#[test]
fn workers_draw_different_numbers_except_where_the_application_chose_the_seed() {
    let server = Pyserve::app("left/draws.py")
        .args(["--workers", "3"])
        .ready();
    check_numbers(
        &server,
        &["global", "unseeded", "dice", "late", "copy", "device"],
        &["seeded", "seeded+copy"],
    );
}

/// A server for an application of `tests/apps/left` in an environment with numpy and others.
fn with_libraries(app: &str, what: &str) -> Option<Pyserve> {
    let default = python::default();
    let python = python::supported().find(|python| python.path == default)?;
    let venv = python::environment("libraries", python)
        .inspect_err(|because| skipped(what, because))
        .ok()?;
    let server = Pyserve::app(app).without("PYSERVE_PYTHON");
    Some(server.args(["--venv"]).args([venv]))
}

#[test]
fn numpys_generators_draw_different_numbers_in_each_worker() {
    let Some(builder) = with_libraries("left/draws.py", "numpy's generators") else {
        return;
    };
    let server = builder.args(["--workers", "3"]).ready();
    let unseeded = ["global", "numpy", "generator", "state", "normal", "spawned"];
    let seeded = ["seeded", "chosen", "chosen+sequence"];
    check_numbers(&server, &unseeded, &seeded);
    check_numbers(&server, &["spawned+by+a+generator"], &[]);
}

#[test]
fn numpys_functions_with_another_bit_generator_draw_different_numbers_in_each_worker() {
    let Some(builder) = with_libraries("left/draws.py", "numpy's generators") else {
        return;
    };
    let builder = builder.env("OTHER_BITS", "1");
    let server = builder.args(["--workers", "3"]).ready();
    check_numbers(&server, &["numpy", "state", "normal"], &["chosen"]);
    assert_eq!(server.stderr.count("raised"), 0);
}

#[test]
fn numpy_is_imported_once_and_multiplies_rightly_in_every_worker() {
    let Some(builder) = with_libraries("left/matrices.py", "numpy before the fork") else {
        return;
    };
    // More threads than this machine may have processors.
    let server = builder
        .env("OPENBLAS_NUM_THREADS", "3")
        .args(["--workers", "2", "--max-requests", "10"])
        .ready();
    let line = preload_line(&server);
    assert!(line.starts_with("preload   yes"), "{line}");
    thread::scope(|scope| {
        for client in 1..4 {
            let server = &server;
            scope.spawn(move || {
                for factor in client..client + 10 {
                    let text = server.get(&format!("/?{factor}")).text();
                    assert!(text.starts_with("True "), "{text}");
                }
            });
        }
    });
}

#[test]
fn clients_that_connect_when_they_are_used_are_imported_once() {
    let Some(builder) = with_libraries("left/libraries.py", "clients of databases") else {
        return;
    };
    let server = builder.args(["--workers", "2"]).ready();
    let line = preload_line(&server);
    assert!(line.starts_with("preload   yes"), "{line}");
    assert_eq!(server.get("/").text(), "probe");
}

#[test]
fn prometheus_counts_for_all_workers_when_it_is_imported_once() {
    let Some(builder) = with_libraries("left/reporting.py", "Prometheus' multiprocess mode") else {
        return;
    };
    let dir = builder.path("metrics");
    std::fs::create_dir(&dir).unwrap();
    let server = builder
        .env("PROMETHEUS_MULTIPROC_DIR", &dir)
        .args(["--workers", "3"])
        .ready();
    let line = preload_line(&server);
    assert!(line.starts_with("preload   yes"), "{line}");
    check_own_answers(&server, 10);
    let page = server.get("/metrics").text();
    assert!(page.contains("requests_total 60.0"), "{page}");
}

/// A process by the process id in the application's response.
fn process(number: &str) -> Pid {
    let number = number.parse().ok().and_then(Pid::from_raw);
    number.expect("a process id")
}

#[track_caller]
fn check_gone(note: &str) {
    let fields: Vec<_> = note.split(' ').collect();
    for number in &fields[1..3] {
        assert!(
            test_kill_process(process(number)).is_err(),
            "{number} still runs"
        );
    }
    assert!(
        !Path::new(fields[3]).exists(),
        "{} is still there",
        fields[3]
    );
}

#[test]
fn what_the_refused_import_started_has_ended_before_workers_import() {
    let builder = Pyserve::app("left/started.py");
    let address = builder.path("address");
    // The address is taken twice, one after the other.
    let server = builder.env("ADDRESS", &address).ready();
    server.probe.notes.wait_for_nth("started", 2);
    let notes = server.probe.notes.so_far();
    check_gone(&notes[0]);
    let of_worker = server.get("/").text();
    assert!(notes[1].contains(&of_worker), "{notes:?}: {of_worker}");
    for number in of_worker.split(' ') {
        test_kill_process(process(number)).expect("it serves the worker");
        kill_process(process(number), Signal::KILL).expect("it is ours");
    }
}

#[test]
fn a_daemon_of_the_refused_import_has_ended_before_workers_import() {
    let daemon = "
import socket
if os.fork() == 0:
    SESSION
    if os.fork() == 0:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind('\\0' + DIR)
        os.set_inheritable(listener.fileno(), True)
        print('started', os.getpid(), flush=True)
        os.execvp('sleep', ['sleep', '1000'])
    os._exit(0)
os.wait(); ends = os.pipe()";
    for session in ["os.setsid()", "pass"] {
        let server = serving(&daemon.replace("SESSION", session), Pyserve::new());
        // The address was free for the second one.
        server.stdout.wait_for_nth("started", 2);
        let pid = |nth| {
            let line = server.stdout.wait_for_nth("started", nth);
            process(line.rsplit(' ').next().expect("a number").trim())
        };
        assert!(test_kill_process(pid(1)).is_err(), "it still runs");
        test_kill_process(pid(2)).expect("it serves the worker");
        kill_process(pid(2), Signal::KILL).expect("it is ours");
    }
}

#[test]
fn a_daemon_that_the_import_leaves_does_not_cost_preloading() {
    let code = "
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print('started', os.getpid(), flush=True)
        os.execvp('sleep', ['sleep', '1000'])
    os._exit(0)
os.wait()";
    let server = serving(code, Pyserve::new());
    let daemon = server.stdout.wait_for("started");
    let line = preload_line(&server);
    assert!(line.starts_with("preload   yes"), "{line}");
    let pid = process(daemon.rsplit(' ').next().expect("a number").trim());
    kill_process(pid, Signal::KILL).expect("it runs");
}

#[test]
fn what_a_failed_import_started_has_ended_with_it() {
    let builder = Pyserve::app("left/started.py");
    let address = builder.path("address");
    let mut server = builder
        .env("ADDRESS", &address)
        .env("RAISES", "1")
        .started();
    let note = server.probe.notes.wait_for("started");
    assert_eq!(server.wait_exit(), 4);
    let said = server.stderr.to_end();
    assert!(said.contains("after all that"), "{said}");
    check_gone(&note);
}

#[test]
fn exit_functions_that_do_not_end_delay_the_workers_by_a_bounded_time() {
    let code = "import atexit, threading; threading.Thread(target=threading.Event().wait).start()
atexit.register(threading.Event().wait)";
    let server = serving(code, Pyserve::new());
    let line = preload_line(&server);
    assert!(line.starts_with("preload   no"), "{line}");
    assert_eq!(server.get("/").status(), 200);
}

/// A server whose interpreters run `sitecustomize` of the agent.
fn beside_an_agent(arguments: &[&str]) -> Server {
    Pyserve::app("left/asks_agent.py")
        .env("PYTHONPATH", apps().join("left/agent"))
        .args(arguments)
        .ready()
}

#[test]
fn what_sitecustomize_started_counts_and_works_in_every_worker() {
    for preload in ["auto", "no"] {
        let server = beside_an_agent(&["--preload", preload, "--workers", "3"]);
        let line = preload_line(&server);
        assert!(line.starts_with("preload   no"), "{line}");
        let said = server.stderr.wait_for("an interpreter of its own");
        assert!(
            said.contains("thread \"agent\" (threading.Thread)"),
            "{said}"
        );
        let is_named = line.contains("thread \"agent\" (threading.Thread), present before");
        assert_eq!(is_named, preload == "auto", "{line}");
        check_own_answers(&server, 10);
        // Only workers import: none of them did so in vain.
        assert_eq!(server.probe.notes.count("imported by"), 3, "{preload}");
        // One that dies is followed by one with an agent of its own.
        let importers = server.probe.notes.so_far();
        let (_, number) = importers[0].rsplit_once(' ').expect("a number");
        kill_process(process(number), Signal::KILL).expect("it is there");
        server.probe.notes.wait_for_nth("imported by", 4);
        check_own_answers(&server, 10);
        server.signal(Signal::HUP);
        server.stderr.wait_for("reloaded in");
        check_own_answers(&server, 10);
    }
}

#[test]
fn a_worker_in_an_interpreter_of_its_own_stops_with_the_server() {
    let mut server = beside_an_agent(&["--workers", "2", "--threads", "2"]);
    check_own_answers(&server, 5);
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
    // All writers have gone.
    server.stderr.to_end();
}

#[test]
fn preload_yes_forks_nevertheless_and_names_what_is_shared() {
    let server = serving(
        "ends = os.pipe()",
        Pyserve::new().args(["--preload", "yes"]),
    );
    let said = server.stderr.wait_for("because of --preload yes");
    assert!(said.contains("pipe (descriptor "), "{said}");
    let line = preload_line(&server);
    assert!(line.starts_with("preload   yes"), "{line}");
    assert!(
        line.contains("although importing left pipe (descriptor "),
        "{line}"
    );
}

#[test]
fn check_says_what_keeps_the_application_from_being_imported_once() {
    for (code, verdict) in [
        ("", "yes: imported once"),
        ("ends = os.pipe()", "no: each worker"),
    ] {
        let builder = Pyserve::new();
        let dir = builder.path("app");
        write_files(&dir, &[("app.py", &format!("{PRELUDE}{code}\n"))]);
        let run = builder
            .args(["check", "--app", "app.py", "--chdir"])
            .args([&dir])
            .run();
        let lines = format!("{}{}", run.stdout, run.stderr);
        let mut lines = lines.lines().map(str::trim_start);
        let line = lines.find(|line| line.starts_with("preloading "));
        let line = line.expect("it is said");
        assert!(line.contains(verdict), "{line}");
    }
}

/// A program that starts pyserve with a descriptor that pyserve knows nothing of.
fn passing_a_descriptor(dir: &Path) -> PathBuf {
    let script = "#!/bin/sh\nexec 7<\"$0\"; exec \"$BINARY\" \"$@\"\n";
    write_files(dir, &[("start.sh", script)]);
    let path = dir.join("start.sh");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&path, mode).unwrap();
    path
}

#[test]
fn a_descriptor_that_the_server_was_started_with_does_not_count() {
    let dir = crate::support::temp_dir();
    let script = passing_a_descriptor(dir.path());
    for (code, verdict) in [
        ("os.fstat(7)", "yes"),
        ("os.close(7); f = open(__file__)", "no"),
    ] {
        let builder = Pyserve::binary(&script)
            .quick()
            .env("BINARY", env!("CARGO_BIN_EXE_pyserve"));
        let line = preload_line(&serving(code, builder));
        assert!(line.starts_with(&format!("preload   {verdict}")), "{line}");
    }
}

#[test]
fn a_worker_that_opened_a_file_does_not_become_the_template() {
    let server = Pyserve::app("left/opens_late.py")
        .args(["--workers", "1", "--refork", "5"])
        .ready();
    assert_eq!(server.get("/open").status(), 200);
    let mut connection = server.connect();
    while server.stderr.count("cannot become the template") == 0 {
        assert_eq!(connection.exchange(get("/")).status(), 200);
    }
    let said = server.stderr.wait_for("cannot become the template");
    assert!(
        said.contains("opens_late.py opened for reading (descriptor "),
        "{said}"
    );
}

#[test]
fn workers_of_a_worker_that_became_the_template_draw_different_numbers() {
    let server = Pyserve::app("left/draws.py")
        .args(["--workers", "2", "--refork", "5"])
        .ready();
    let mut connection = server.connect();
    while server.stderr.count("has become the template") == 0 {
        assert_eq!(connection.exchange(get("/?unseeded")).status(), 200);
    }
    for name in ["unseeded", "dice"] {
        let numbers: BTreeSet<_> = drawn(&server, name, 2).into_iter().collect();
        assert_eq!(numbers.len(), 2, "{name}: {numbers:?}");
    }
}
