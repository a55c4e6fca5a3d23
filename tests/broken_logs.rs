//! Standard output and standard error that take nothing: lines are lost, and nothing else.
//!
//! Four kinds of output: a full disk, a pipe whose reader has gone, a pipe whose reader has
//! stalled, and descriptors that are closed. Nothing can be read from such a server, so it
//! listens on a Unix socket of a known name.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::raw::{Connection, Response};
use crate::support::server::{Ended, Pyserve, Server, get};
use crate::support::{DEADLINE, make_fifo};

/// A server of `tests/apps/{app}` on the socket `http`, with metrics and a control socket.
fn server(app: &str) -> Pyserve {
    let server = Pyserve::app(app).watched();
    let bind = format!("unix:{}", server.path("http").display());
    server
        .env("PYSERVE_BIND", bind)
        .env("PYSERVE_ACCESS_LOG", "json")
}

/// Waits until something exists that gives no other sign.
fn wait_until(what: &str, there: impl Fn() -> bool) {
    let began = Instant::now();
    while !there() {
        assert!(began.elapsed() < DEADLINE, "waiting for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn ask(server: &Server, target: &str) -> Response {
    let path = server.probe.path("http");
    // The socket has a name a moment before it listens.
    wait_until("the listener", || UnixStream::connect(&path).is_ok());
    Connection::unix(&path).exchange(get(target))
}

fn verb(server: &Server, verb: &str) -> Pyserve {
    Pyserve::bare()
        .env("PYSERVE_CONTROL", server.probe.path("control"))
        .args([verb])
}

fn full() -> File {
    File::options().write(true).open("/dev/full").unwrap()
}

/// A pipe whose reader has gone.
fn without_reader() -> PipeWriter {
    pipe().unwrap().1
}

fn set_nonblocking(file: impl AsFd, nonblocking: bool) {
    let mut flags = fcntl_getfl(&file).unwrap();
    flags.set(OFlags::NONBLOCK, nonblocking);
    fcntl_setfl(&file, flags).unwrap();
}

/// A pipe that is full already, and its reader, which does not read.
fn stalled() -> (PipeReader, PipeWriter) {
    let (reader, writer) = pipe().unwrap();
    set_nonblocking(&writer, true);
    while (&writer).write(&[b'-'; 4096]).is_ok() {}
    set_nonblocking(&writer, false);
    (reader, writer)
}

/// One worker of the server dies, and another one serves.
fn replace_worker(server: &Server) {
    let pid = |status: serde_json::Value| status["applications"][0]["workers"][0]["pid"].as_i64();
    let before = pid(server.status()).expect("a worker");
    let process = Pid::from_raw(before.try_into().unwrap()).unwrap();
    kill_process(process, Signal::KILL).unwrap();
    wait_until("another worker", || {
        pid(server.status()).is_some_and(|now| now != before)
    });
}

/// A life with everything that makes lines.
#[track_caller]
fn serves_and_stops(mut server: Server) {
    assert_eq!(ask(&server, "/").text(), "ok");
    replace_worker(&server);
    assert_eq!(ask(&server, "/").text(), "ok");
    let reload = verb(&server, "reload").run();
    assert_eq!(reload.code, 0, "{}", reload.stderr);
    let health = verb(&server, "health").run();
    assert_eq!(health.code, 0, "{}", health.stderr);
    assert_eq!(ask(&server, "/").text(), "ok");
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
}

const DROPPED: &str = "pyserve_log_lines_dropped_total{log=\"diagnostics\"}";
const DROPPED_ACCESS: &str = "pyserve_log_lines_dropped_total{log=\"access\"}";

#[test]
fn full_disks_cost_lines_alone_and_they_are_counted() {
    let server = server("prints.py")
        .stdout_to(full())
        .stderr_to(full())
        .started();
    assert_eq!(ask(&server, "/").text(), "ok");
    for name in [DROPPED, DROPPED_ACCESS] {
        wait_until(name, || {
            server.metric(name).is_some_and(|lines| lines >= 1.0)
        });
    }
    serves_and_stops(server);
}

#[test]
fn readers_that_have_gone_cost_lines_alone() {
    let server = server("prints.py")
        .stdout_to(without_reader())
        .stderr_to(without_reader())
        .started();
    serves_and_stops(server);
}

#[test]
fn readers_that_stall_cost_lines_alone() {
    let ((_out, stdout), (_err, stderr)) = (stalled(), stalled());
    let server = server("prints.py")
        .args(["--log-level", "debug"])
        .stdout_to(stdout)
        .stderr_to(stderr)
        .started();
    serves_and_stops(server);
}

#[test]
fn descriptors_that_are_closed_are_not_given_to_sockets() {
    for log_format in ["pretty", "json"] {
        let line = format!("exec {} \"$@\" <&- >&- 2>&-", env!("CARGO_BIN_EXE_pyserve"));
        let shell = Pyserve::binary(Path::new("/bin/sh"));
        let bind = format!("unix:{}", shell.path("http").display());
        let server = shell
            .args(["-c", &line, "pyserve", "--app", "prints.py", "--chdir"])
            .args([crate::support::apps()])
            .quick()
            .watched()
            .env("PYSERVE_BIND", bind)
            .env("PYSERVE_ACCESS_LOG", "json")
            .env("PYSERVE_LOG_FORMAT", log_format)
            .started();
        assert_eq!(ask(&server, "/").text(), "ok");
        for number in 0..3 {
            let link = format!("/proc/{}/fd/{number}", server.pid());
            let target = std::fs::read_link(link).unwrap();
            assert_eq!(target, Path::new("/dev/null"));
        }
        serves_and_stops(server);
    }
}

#[test]
fn what_is_dropped_is_reported_when_the_reader_goes_on() {
    let (mut reader, stderr) = stalled();
    let server = server("prints.py").stderr_to(stderr).started();
    // More than waits in memory.
    assert_eq!(ask(&server, "/?errors=6000000").text(), "ok");
    wait_until(DROPPED, || {
        server.metric(DROPPED).is_some_and(|lines| lines > 1.0)
    });
    let mut read = Vec::new();
    let mut buffer = [0; 65536];
    let report: &[u8] = b"log lines dropped";
    while !read.windows(report.len()).any(|part| part == report) {
        let length = reader.read(&mut buffer).unwrap();
        assert!(length > 0, "the server has ended");
        let kept = read.len().saturating_sub(report.len());
        read.drain(..kept);
        read.extend_from_slice(&buffer[..length]);
    }
    serves_and_stops_with(server, reader);
}

/// The same, with somebody who reads.
fn serves_and_stops_with(server: Server, mut reader: PipeReader) {
    std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    serves_and_stops(server);
}

#[test]
fn a_descriptor_that_another_process_made_non_blocking_loses_nothing() {
    let (mut reader, stderr) = stalled();
    set_nonblocking(&stderr, true);
    let mut server = server("hello.py").stderr_to(stderr).started();
    assert_eq!(ask(&server, "/").text(), "hello");
    let text = std::thread::spawn(move || {
        let mut text = Vec::new();
        reader.read_to_end(&mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    });
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
    drop(server);
    let text = text.join().unwrap();
    let text = text.trim_start_matches('-');
    assert!(
        text.contains("ready in") && text.contains("stopped in"),
        "{text}"
    );
}

#[test]
fn companions_do_not_wait_for_a_reader_that_stalls() {
    let (_reader, stderr) = stalled();
    let server = server("hello.py");
    let (file, done) = (server.path("pyserve.toml"), server.path("done"));
    let companion = format!(
        "[[companion]]\nname = 'loud'\ncommand = 'head -c 6000000 /dev/zero | tr \"\\0\" x | fold -w 1000; \
         touch {}; exec sleep 1000'\n",
        done.display()
    );
    std::fs::write(&file, companion).unwrap();
    let mut server = server
        .args(["--config".as_ref(), file.as_os_str()])
        .stderr_to(stderr)
        .started();
    wait_until("the companion", || done.exists());
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
}

#[test]
fn a_start_that_fails_has_its_exit_code_though_nobody_reads_why() {
    let fails = |app: &str| Pyserve::app(app).stdout_to(Stdio::null());
    assert_eq!(fails("boot_fails.py").stderr_to(full()).run().code, 4);
    assert_eq!(
        fails("boot_fails.py")
            .stderr_to(without_reader())
            .run()
            .code,
        4
    );
    let (_reader, stderr) = stalled();
    assert_eq!(fails("boot_fails.py").stderr_to(stderr).run().code, 4);
    let wrong = |stderr: Stdio| {
        Pyserve::new()
            .args(["--workers", "none"])
            .stderr_to(stderr)
            .run()
    };
    assert_eq!(wrong(full().into()).code, 78);
    let (_reader, stderr) = stalled();
    assert_eq!(wrong(stderr.into()).code, 78);
    let unknown = |stderr: Stdio| Pyserve::new().args(["--unknown"]).stderr_to(stderr).run();
    assert_eq!(unknown(full().into()).code, 2);
}

#[test]
fn the_reason_of_a_failed_start_comes_last_and_whole() {
    let ended = Pyserve::app("boot_fails.py").run();
    assert_eq!(ended.code, 4);
    assert!(ended.stderr.contains("Traceback (most recent call last)"));
}

#[test]
fn verbs_exit_by_what_they_did_and_those_that_show_something_by_whether_it_was_shown() {
    let server = Pyserve::app("hello.py").ready();
    let run = |name: &str, arguments: &[&str]| -> Ended {
        verb(&server, name).args(arguments).stdout_to(full()).run()
    };
    assert_eq!(run("health", &[]).code, 0);
    assert_eq!(run("scale", &["1"]).code, 0);
    assert_eq!(run("reload", &[]).code, 0);
    for ended in [run("status", &[]), run("stacks", &[]), run("--help", &[])] {
        assert_eq!(ended.code, 1);
        assert!(
            ended.stderr.contains("No space left on device"),
            "{}",
            ended.stderr
        );
    }
    // A reader such as `head` that has seen enough.
    let status = verb(&server, "status").stdout_to(without_reader()).run();
    assert_eq!(status.code, 0, "{}", status.stderr);
    let nowhere = |name: &str, stderr: Stdio| {
        let control = server.probe.path("nothing");
        let verb = Pyserve::bare().env("PYSERVE_CONTROL", control).args([name]);
        verb.stderr_to(stderr).run().code
    };
    assert_eq!(nowhere("health", full().into()), 1);
    assert_eq!(nowhere("status", full().into()), 69);
    let (_reader, stderr) = stalled();
    assert_eq!(nowhere("status", stderr.into()), 69);
    let check = Pyserve::app("hello.py")
        .args(["check"])
        .stdout_to(full())
        .run();
    assert_eq!(check.code, 1);
    assert_eq!(run("stop", &[]).code, 0);
}

#[test]
fn the_startup_log_may_be_a_fifo_whoever_reads_it() {
    for (app, code) in [("hello.py", 0), ("boot_fails.py", 4)] {
        for has_reader in [false, true] {
            let server = Pyserve::app(app);
            let path = server.path("startup.log");
            make_fifo(&path);
            let reader = has_reader.then(|| {
                // Opened for both, so that it is there without a writer; full from the start.
                let mut both = File::options().read(true).write(true).open(&path).unwrap();
                set_nonblocking(&both, true);
                while both.write(&[b'-'; 4096]).is_ok() {}
                both
            });
            let mut server = server.args(["--startup-log"]).args([&path]).started();
            if code == 0 {
                server.stderr.wait_for("ready in ");
                server.signal(Signal::TERM);
            }
            assert_eq!(server.wait_exit(), code, "with a reader: {has_reader}");
            server.stderr.wait_for("cannot write the start-up log");
            drop(reader);
        }
    }
}

#[test]
fn a_log_file_that_is_a_fifo_without_a_reader_is_named_as_that() {
    let server = Pyserve::app("hello.py");
    let fifo = server.path("fifo");
    make_fifo(&fifo);
    let ended = server.args(["--access-log-file"]).args([fifo]).run();
    assert_eq!(ended.code, 78);
    let log = ended.stderr;
    assert!(log.contains("a FIFO needs a reader first"), "{log}");
}
