//! The server's descriptors run out: it waits, says so, obeys, and recovers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use serde_json::Value;

use crate::support::backend::{Backend, page};
use crate::support::http2::{Http2, Outcome, get_fields};
use crate::support::raw::Connection;
use crate::support::server::{Ended, Pyserve, Server, get, post};
use crate::support::{DEADLINE, apps};

/// Clients that come when there is no room for all of them.
const CROWD: usize = 40;

/// Leaves a running server no room for one more descriptor than `free`.
fn leave_descriptors(server: &Server, free: usize) {
    let used: Vec<u64> = std::fs::read_dir(format!("/proc/{}/fd", server.pid()))
        .expect("it runs")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    // The limit is on numbers, of which the free ones below the highest count as well.
    let unused = (0..).filter(|number| !used.contains(number)).nth(free);
    set_limit(server, unused);
}

fn set_limit(server: &Server, most: Option<u64>) {
    let limit = Rlimit {
        current: most,
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    prlimit(Some(server.pid()), Resource::Nofile, limit).expect("it is our child");
}

fn verb(server: &Server, arguments: &[&str]) -> Ended {
    Pyserve::bare()
        .env("PYSERVE_CONTROL", server.probe.path("control"))
        .args(arguments)
        .run()
}

fn application(server: &Server) -> Value {
    let ended = verb(server, &["status", "--json"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let status: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    status["applications"][0].clone()
}

/// The processes of the workers that serve.
fn workers(server: &Server) -> Vec<i32> {
    let application = application(server);
    let workers = application["workers"].as_array().expect("a list").iter();
    workers
        .filter_map(|worker| i32::try_from(worker["pid"].as_u64()?).ok())
        .collect()
}

/// CPU time that a process has used, in clock ticks.
fn cpu(pid: Pid) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let (_, fields) = text.rsplit_once(')').expect("a name");
    // proc_pid_stat(5): utime and stime are fields 14 and 15, and the name is the second.
    let ticks = fields.split_ascii_whitespace().skip(11).take(2);
    ticks.map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

/// Children of a process by their state, as proc_pid_stat(5) has it.
fn children(pid: Pid) -> HashMap<String, usize> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut states = HashMap::new();
    for child in text.split_ascii_whitespace() {
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").map_or("", |(_, rest)| &rest[..1]);
        *states.entry(state.to_owned()).or_default() += 1;
    }
    states
}

#[test]
fn a_server_without_a_free_descriptor_waits_obeys_and_recovers() {
    let server = Pyserve::app("hello.py").args(["--workers", "2"]).ready();
    let mut kept = server.connect();
    assert_eq!(kept.exchange(get("/")).status(), 200);
    leave_descriptors(&server, CROWD / 2);
    let mut crowd: Vec<Connection> = (0..CROWD).map(|_| server.connect()).collect();
    server.stderr.wait_for("cannot accept connections");
    let (used, began) = (cpu(server.pid()), Instant::now());

    // It serves whom it has, and obeys.
    assert_eq!(kept.exchange(get("/")).status(), 200);
    for _ in 0..3 {
        let health = verb(&server, &["health"]);
        assert_eq!(health.code, 1);
        assert!(health.stderr.contains("not accepted"), "{}", health.stderr);
    }
    let reload = verb(&server, &["reload"]);
    assert_eq!(reload.code, 1, "{}", reload.stdout);
    for part in ["cannot start ", "Too many open files", "ulimit -n"] {
        assert!(reload.stderr.contains(part), "{part}: {}", reload.stderr);
    }

    // A worker that dies cannot be replaced yet; the other one serves.
    let victim = workers(&server)[0];
    kill_process(Pid::from_raw(victim).unwrap(), Signal::KILL).unwrap();
    server.stderr.wait_for("cannot fork a worker");
    assert_eq!(kept.exchange(get("/")).status(), 200);
    let (used, took) = (cpu(server.pid()) - used, began.elapsed().as_secs_f64());
    let share = used as f64 / 100.0 / took;
    assert!(
        share < 0.5,
        "{share:.2} of a CPU while there is nothing to do"
    );

    // When there is room again, everything goes on.
    set_limit(&server, getrlimit(Resource::Nofile).current);
    for connection in &mut crowd {
        assert_eq!(connection.exchange(get("/")).status(), 200);
    }
    while workers(&server).len() < 2 {
        assert!(began.elapsed() < DEADLINE, "the worker is not replaced");
        assert_eq!(kept.exchange(get("/")).status(), 200);
    }
    let reload = verb(&server, &["reload"]);
    assert_eq!(reload.code, 0, "{}", reload.stderr);
    assert_eq!(kept.exchange(get("/")).status(), 200);
    while children(server.pid()).contains_key("Z") {
        assert!(began.elapsed() < DEADLINE, "a child is not reaped");
    }
    assert!(!server.stderr.so_far().join("\n").contains("panic"));
}

#[test]
fn requests_that_need_a_descriptor_are_told_and_cost_nobody_else_anything() {
    let server = Pyserve::app("handed_over.py").ready();
    let mut kept = server.connect();
    let mut large = server.connect();
    for connection in [&mut kept, &mut large] {
        let small = connection.exchange(get("/?how=small"));
        assert_eq!(small.text(), "small");
    }
    leave_descriptors(&server, 0);
    for _ in 0..3 {
        assert_eq!(kept.exchange(get("/?how=plain")).status(), 502);
        assert_eq!(kept.exchange(get("/?how=small")).text(), "small");
    }
    server.stderr.wait_for("no descriptor left");
    // Larger than what a message holds, so it needs a file.
    let body = "x".repeat(100_000);
    let refused = large.exchange(post("/?how=small", &body));
    // RFC 9110 §15.6.4.
    assert_eq!(refused.status(), 503);
    assert!(refused.header("Retry-After").is_some());
    server.stderr.wait_for("no descriptor is left");
    set_limit(&server, getrlimit(Resource::Nofile).current);
    let response = kept.exchange(get("/?how=plain"));
    assert_eq!((response.status(), response.body.len()), (200, 24 << 20));
    let response = server.exchange(&post("/?how=small", &body));
    assert_eq!(response.text(), "small");
}

#[test]
fn a_template_that_dies_without_a_free_descriptor_comes_back_when_there_is_one() {
    let server = Pyserve::app("hello.py").ready();
    let mut kept = server.connect();
    assert_eq!(kept.exchange(get("/")).status(), 200);
    let template = application(&server)["template"]["pid"].as_u64();
    let template = template.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    leave_descriptors(&server, 0);
    kill_process(template.expect("a template"), Signal::KILL).unwrap();
    server.stderr.wait_for("cannot start the interpreter");
    assert_eq!(kept.exchange(get("/")).status(), 200);
    set_limit(&server, getrlimit(Resource::Nofile).current);
    let began = Instant::now();
    while application(&server)["template"].is_null() {
        assert!(began.elapsed() < DEADLINE, "the template is not replaced");
        assert_eq!(kept.exchange(get("/")).status(), 200);
    }
}

/// Clients, uploads, files and an upstream at once, and a reload with a second set of workers,
/// where the limit on descriptors is as low as 64.
#[test]
fn under_a_low_limit_every_request_is_served_and_a_reload_succeeds() {
    for limit in [64, 128, 256] {
        let upstream = Backend::tcp(|mut call| {
            while call.http_head().is_some() {
                // Long enough for many to be in flight.
                std::thread::sleep(Duration::from_millis(200));
                call.send(page("upstream"));
            }
        });
        let builder = Pyserve::new();
        let (file, files) = (builder.path("pyserve.toml"), builder.path("files"));
        std::fs::create_dir(&files).unwrap();
        std::fs::write(files.join("large.bin"), vec![b'x'; 3 << 20]).unwrap();
        let settings = format!(
            "workers = 2\nthreads = 2\nstatic = ['/files={}']\n\
             [[location]]\nprefix = '/upstream'\nupstream = 'http://{}'\n\
             [[location]]\nprefix = '/'\napp = 'every.py'\nchdir = '{}'\n",
            files.display(),
            upstream.address(),
            apps().display()
        );
        std::fs::write(&file, settings).unwrap();
        let server = builder
            .args(["--config".as_ref(), file.as_os_str()])
            .with_descriptors(limit)
            .ready();
        let body = "x".repeat(100_000);
        let requests = [
            get("/hello"),
            get("/files/large.bin"),
            get("/upstream"),
            post("/read_input", &body),
        ];
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..40)
                .map(|number| {
                    let (server, requests) = (&server, &requests);
                    scope.spawn(move || {
                        for turn in 0..8 {
                            let request = &requests[(number + turn) % requests.len()];
                            let status = server.exchange(request).status();
                            assert_eq!(status, 200, "{request:.40}");
                        }
                    })
                })
                .collect();
            for _ in 0..2 {
                let reload = verb(&server, &["reload"]);
                assert_eq!(reload.code, 0, "{limit}: {}", reload.stderr);
            }
            let health = verb(&server, &["health"]);
            assert_eq!(health.code, 0, "{limit}: {}", health.stderr);
            for client in clients {
                client.join().expect("all its requests are served");
            }
        });
        let log = server.stderr.so_far().join("\n");
        assert!(
            !log.contains("panic") && !log.contains("Too many open files"),
            "{log}"
        );
    }
}

/// One connection of HTTP/2 asks for more upstream connections than there are descriptors.
#[test]
fn requests_in_flight_leave_the_descriptors_of_a_reload() {
    let (arrived, released) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let (counted, waits_for) = (Arc::clone(&arrived), Arc::clone(&released));
    let upstream = Backend::tcp(move |mut call| {
        while call.http_head().is_some() {
            counted.fetch_add(1, Ordering::Relaxed);
            while !waits_for.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
            }
            call.send(page("upstream"));
        }
    });
    let builder = Pyserve::new();
    let file = builder.path("pyserve.toml");
    let settings = format!(
        "workers = 2\nthreads = 2\n\
         [[location]]\nprefix = '/upstream'\nupstream = 'http://{}'\n\
         [[location]]\nprefix = '/'\napp = 'every.py'\nchdir = '{}'\n",
        upstream.address(),
        apps().display()
    );
    std::fs::write(&file, settings).unwrap();
    let server = builder
        .args(["--config".as_ref(), file.as_os_str()])
        .with_descriptors(128)
        .ready();
    let mut client = Http2::new(server.connect());
    for stream in 0..100 {
        client.headers(2 * stream + 1, &get_fields("/upstream"), true);
    }
    let began = Instant::now();
    while arrived.load(Ordering::Relaxed) < 50 {
        assert!(began.elapsed() < DEADLINE, "few reach the upstream");
        std::thread::sleep(Duration::from_millis(5));
    }
    let reload = verb(&server, &["reload"]);
    assert_eq!(reload.code, 0, "{}", reload.stderr);
    assert_eq!(server.get("/hello").text(), "hello");
    released.store(true, Ordering::Relaxed);
    assert!(matches!(client.outcome(1), Outcome::Response(200, _)));
}

/// setrlimit(2), RLIMIT_FSIZE: the memory files of the host count, and the first write beyond the
/// limit fails with EFBIG. `check` loads the host too.
#[test]
fn a_start_below_a_limit_of_file_sizes_names_the_limit() {
    for (verb, words) in [(None, "cannot start"), (Some("check"), "cannot check")] {
        let server = Pyserve::app("hello.py").args(verb).with_file_size(3);
        let ended = server.run();
        assert_ne!(ended.code, 0);
        for part in [words, "File too large", "limit of file sizes (ulimit -f)"] {
            assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
        }
    }
}

/// Each is a connection and a file of its own.
#[test]
fn unread_files_of_one_address_leave_descriptors_for_others() {
    let dir = crate::support::temp_dir();
    let large = "x".repeat(8 << 20);
    let app = "
import os

def application(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    if environ['PATH_INFO'] == '/hello':
        return [b'hello']
    file = open(os.path.join(os.path.dirname(__file__), 'large'), 'rb')
    return environ['wsgi.file_wrapper'](file)
";
    crate::support::write_files(dir.path(), &[("wrapper.py", app), ("large", &large)]);
    let server = Pyserve::new()
        .current_dir(dir.path())
        .with_descriptors(256)
        .args(["--app", "wrapper.py", "--workers", "1", "--threads", "2"])
        .watched()
        .ready();
    // Fewer connections than there may be.
    let mut unread: Vec<_> = (0..80)
        .map(|_| Connection::tcp_that_takes_little_from([127, 0, 1, 1], server.port()))
        .collect();
    let mut statuses = HashMap::new();
    for client in &mut unread {
        client.send(get("/file"));
    }
    for client in &mut unread {
        let head = client.try_head().expect("a response");
        *statuses.entry(head.status()).or_insert(0) += 1;
    }
    assert!(statuses[&200] >= 20, "{statuses:?}");
    assert!(statuses[&503] >= 10, "{statuses:?}");
    for number in 1..=4 {
        let mut other = Connection::tcp_from([127, 0, 2, number], server.port());
        assert_eq!(other.exchange(get("/hello")).text(), "hello");
        assert_eq!(other.exchange(get("/file")).body.len(), large.len());
    }
    // All comes back.
    drop(unread);
    let began = Instant::now();
    while server.get("/file").status() != 200 {
        assert!(began.elapsed() < DEADLINE);
    }
}

#[test]
fn a_limit_of_descriptors_that_is_too_low_for_the_start_is_an_error() {
    for limit in 6..=24 {
        let ended = Pyserve::app("hello.py").with_descriptors(limit).run();
        let log = ended.stderr;
        assert_ne!(ended.code, 0, "{limit}: {log}");
        assert!(!log.contains("panicked"), "{limit}: {log}");
        assert!(log.contains("ulimit -n"), "{limit}: {log}");
    }
}
