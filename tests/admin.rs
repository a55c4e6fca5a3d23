//! The admin listener: probes, metrics, status.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::raw::{Connection, Response};
use crate::support::server::{Pyserve, Server, get};
use crate::support::{python, skipped, source};

fn watched(app: &str) -> Pyserve {
    Pyserve::app(app).watched()
}

fn admin(server: &Server) -> Connection {
    Connection::unix(&server.probe.path("admin"))
}

fn ask(server: &Server, target: &str) -> Response {
    server.admin(target)
}

/// The value of a sample, written as the page writes it.
fn sample(page: &str, name: &str) -> Option<f64> {
    let line = page.lines().find(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(' '))
    })?;
    line.rsplit_once(' ')?.1.parse().ok()
}

#[test]
fn live_is_told_before_ready_and_ready_before_anything_else_needs_a_worker() {
    let server = watched("boot_held.py").listening();
    let held = server.probe.held("importing");
    let mut connection = admin(&server);
    assert_eq!(connection.exchange(get("/-/live")).status(), 200);
    let ready = connection.exchange(get("/-/ready"));
    assert_eq!(ready.status(), 503);
    assert_eq!(
        ready.text(),
        "not ready: boot_held.py: no worker is ready\n"
    );
    held.release();
    server.stderr.wait_for("ready in ");
    let ready = connection.exchange(get("/-/ready?verbose"));
    assert_eq!((ready.status(), &*ready.text()), (200, "ready\n"));
    assert_eq!(ready.header("Cache-Control").unwrap(), "no-store");
}

#[test]
fn everything_is_answered_while_all_workers_hang() {
    let server = watched("held.py").ready();
    let (mut inside, held) = server.hold("/stuck");
    for path in ["/-/live", "/-/ready", "/-/metrics", "/-/status"] {
        assert_eq!(ask(&server, path).status(), 200, "{path}");
    }
    let status = ask(&server, "/-/status").json();
    let thread = &status["applications"][0]["workers"][0]["threads"][0];
    assert_eq!(thread["doing"], "busy", "{status:#}");
    assert_eq!(thread["request"]["path"], "/stuck", "{status:#}");
    assert!(thread["since"].as_f64().unwrap() >= 0.0);
    held.release();
    assert_eq!(inside.response().status(), 200);
}

#[test]
fn a_full_queue_is_not_ready() {
    let server = watched("held.py").args(["--queue-limit", "1"]).ready();
    let mut connections: Vec<_> = (0..40).map(|_| server.connect()).collect();
    connections[0].send(get("/first"));
    let _held = server.probe.held("/first");
    // Behind it come those that are handed out ahead, and count as waiting.
    let mut refused = false;
    for connection in &mut connections[1..] {
        connection.send(get("/gone"));
        let ready = ask(&server, "/-/ready");
        if ready.status() == 503 {
            assert_eq!(ready.text(), "not ready: held.py: the queue is full\n");
            refused = true;
            break;
        }
    }
    assert!(refused);
}

#[test]
fn a_draining_server_is_live_and_not_ready_until_its_end() {
    let mut server = watched("held.py").ready();
    let mut idle = server.connect();
    assert_eq!(idle.exchange(get("/")).status(), 200);
    let (mut inside, held) = server.hold("/inside");
    let mut scraper = admin(&server);
    assert_eq!(scraper.exchange(get("/-/ready")).status(), 200);
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(idle.rest().0, b"");
    let ready = scraper.exchange(get("/-/ready"));
    assert_eq!(
        (ready.status(), &*ready.text()),
        (503, "not ready: stopping\n")
    );
    assert_eq!(scraper.exchange(get("/-/live")).status(), 200);
    let metrics = scraper.exchange(get("/-/metrics")).text();
    assert_eq!(sample(&metrics, "pyserve_stopping"), Some(1.0));
    held.release();
    assert_eq!(inside.response().status(), 200);
    // A scraper that stays connected does not hold the server up.
    assert_eq!(server.wait_exit(), 0);
}

#[test]
fn only_reading_is_possible_and_only_what_is_there() {
    let server = watched("hello.py").ready();
    let check = |request: &str, status: u16| {
        let response = admin(&server).exchange(request);
        assert_eq!(response.status(), status, "{request}: {response:?}");
        response
    };
    let request = |line: &str| format!("{line} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    let response = check(&request("POST /-/ready"), 405);
    assert_eq!(response.header("Allow").unwrap(), "GET, HEAD");
    check(&request("DELETE /-/status"), 405);
    for path in ["/", "/-/", "/-/stop", "/-/reload", "/metrics", "/-/status/"] {
        check(&request(&format!("GET {path}")), 404);
    }
    let mut connection = admin(&server);
    connection.send("HEAD /-/metrics HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = connection.response_to_head();
    assert_eq!(head.status(), 200);
    assert!(
        head.header("Content-Length")
            .unwrap()
            .parse::<u32>()
            .unwrap()
            > 1000
    );
}

#[test]
fn the_main_listeners_tell_nothing_unless_asked_to_and_then_two_things() {
    let silent = watched("every.py").ready();
    for path in ["/-/live", "/-/ready", "/-/metrics", "/-/status"] {
        let response = silent.get(path);
        let text = response.text();
        assert!(
            !text.starts_with("live") && !text.starts_with("ready"),
            "{path}: {text}"
        );
        assert!(!text.contains("pyserve_"), "{path}");
    }
    let server = watched("every.py").args(["--admin-on-main", "yes"]).ready();
    assert_eq!(server.get("/-/live").text(), "live\n");
    assert_eq!(server.get("/-/ready").text(), "ready\n");
    for path in ["/-/metrics", "/-/status"] {
        let text = server.get(path).text();
        assert!(
            !text.contains("pyserve_") && !text.contains("\"pid\""),
            "{path}: {text}"
        );
    }
}

#[test]
fn metrics_count_what_happened() {
    let server = watched("hello.py").args(["--static", "/files=."]).ready();
    for _ in 0..3 {
        assert_eq!(server.get("/").status(), 200);
    }
    assert_eq!(server.get("/files/none.txt").status(), 404);
    let bad = "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n";
    assert_eq!(server.exchange(bad).status(), 400);
    let page = ask(&server, "/-/metrics").text();
    let check = |name: &str, expected: f64| {
        assert_eq!(sample(&page, name), Some(expected), "{name}:\n{page}");
    };
    let app = r#"{location="/",handler="app""#;
    check(
        &format!(r#"pyserve_requests_total{app},status="200"}}"#),
        3.0,
    );
    check(
        &format!("pyserve_request_duration_seconds_count{app}}}"),
        3.0,
    );
    check(
        &format!(r#"pyserve_request_app_seconds_bucket{app},le="+Inf"}}"#),
        3.0,
    );
    check(&format!("pyserve_request_queue_seconds_count{app}}}"), 3.0);
    check(
        r#"pyserve_requests_total{location="/files",handler="static",status="404"}"#,
        1.0,
    );
    check(r#"pyserve_rejections_total{reason="bad_request"}"#, 1.0);
    check("pyserve_connections_accepted_total", 5.0);
    check(r#"pyserve_connections{state="active"}"#, 0.0);
    check(
        r#"pyserve_workers{application="hello.py",state="ready"}"#,
        1.0,
    );
    check(
        r#"pyserve_worker_threads{application="hello.py",state="idle"}"#,
        1.0,
    );
    check(r#"pyserve_queue_waiting{application="hello.py"}"#, 0.0);
    let memory = r#"pyserve_worker_memory_bytes{application="hello.py",worker="0"}"#;
    assert!(sample(&page, memory).unwrap() > 1e6);
    assert!(sample(&page, "process_cpu_seconds_total").unwrap() > 0.0);
}

/// Every series `METRIC{LABEL="VALUE"}` whose increase an alert rule asks for.
fn series_of_alert_rules() -> Vec<String> {
    let rules = std::fs::read_to_string(source("docker/grafana/alerts.yaml")).unwrap();
    let mut series = Vec::new();
    for text in rules.split("increase(").skip(1) {
        let (selector, _) = text.split_once('[').unwrap();
        let Some((name, labels)) = selector.split_once('{') else {
            series.push(selector.to_owned());
            continue;
        };
        let (label, values) = labels.trim_end_matches('}').split_once('=').unwrap();
        let values = values.trim_start_matches('~').trim_matches('"');
        let all = values.split('|');
        series.extend(all.map(|value| format!("{name}{{{label}=\"{value}\"}}")));
    }
    series
}

#[test]
fn counters_of_alert_rules_are_exported_before_their_first_event() {
    let server = watched("hello.py").ready();
    let page = ask(&server, "/-/metrics").text();
    let series = series_of_alert_rules();
    assert!(series.len() > 6, "{series:?}");
    for name in series {
        // A rule without a label takes every series of the metric.
        let is_zero = |line: &str| {
            let rest = line.strip_prefix(&*name);
            rest.is_some_and(|rest| rest.starts_with([' ', '{']) && rest.ends_with(" 0"))
        };
        assert!(page.lines().any(is_zero), "{name} is missing in: {page}");
    }
}

#[test]
fn a_worker_that_died_is_counted_by_its_reason() {
    let server = watched("dying.py").ready();
    assert_eq!(server.get("/exit").status(), 502);
    assert_eq!(server.get("/kill").status(), 502);
    server.stderr.wait_for_nth("WARN  worker died", 2);
    let page = ask(&server, "/-/metrics").text();
    for reason in ["exit_code", "killed"] {
        let name = format!(r#"pyserve_worker_exits_total{{reason="{reason}"}}"#);
        assert_eq!(sample(&page, &name), Some(1.0), "{page}");
    }
    let lost = r#"pyserve_rejections_total{reason="worker_lost"}"#;
    assert_eq!(sample(&page, lost), Some(2.0), "{page}");
}

/// Reads a page with Prometheus' own library; prints the families it found.
const READER: &str = "
import sys
text = sys.stdin.read()
if sys.argv[1] == 'openmetrics':
    from prometheus_client.openmetrics.parser import text_string_to_metric_families
else:
    from prometheus_client.parser import text_string_to_metric_families
for family in text_string_to_metric_families(text):
    print(family.name, family.type, len(family.samples), bool(family.documentation))
";

#[test]
fn prometheus_reads_both_formats() {
    let default = python::default();
    let interpreter = python::all().iter().find(|python| python.path == default);
    let venv = match python::venv(interpreter.expect("the default is one of all")) {
        Ok(venv) => venv,
        Err(why) => return skipped("the reading of metrics by Prometheus' library", &why),
    };
    let server = watched("hello.py").args(["--static", "/a\"b=."]).ready();
    assert_eq!(server.get("/").status(), 200);
    assert_eq!(server.get("/a%22b/none").status(), 404);
    let prometheus = ask(&server, "/-/metrics");
    assert_eq!(
        prometheus.header("Content-Type").unwrap(),
        "text/plain; version=0.0.4; charset=utf-8"
    );
    let openmetrics = admin(&server).exchange(
        "GET /-/metrics HTTP/1.1\r\nHost: a\r\n\
         Accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.2\r\n\r\n",
    );
    assert_eq!(
        openmetrics.header("Content-Type").unwrap(),
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    for (format, page) in [("prometheus", &prometheus), ("openmetrics", &openmetrics)] {
        let families = read_metrics(&venv.join("bin/python"), format, &page.text());
        for expected in [
            "pyserve_requests counter 2 True",
            "pyserve_request_duration_seconds histogram 38 True",
            "pyserve_workers gauge 3 True",
            "pyserve_worker_exits counter 4 True",
            "process_resident_memory_bytes gauge 1 True",
        ] {
            assert!(
                families.contains(expected),
                "{format}, {expected}:\n{families}"
            );
        }
    }
}

fn read_metrics(python: &std::path::Path, format: &str, page: &str) -> String {
    let mut reader = Command::new(python)
        .args(["-c", READER, format])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the reader starts");
    let mut stdin = reader.stdin.take().expect("it is piped");
    stdin.write_all(page.as_bytes()).unwrap();
    drop(stdin);
    let output = reader.wait_with_output().unwrap();
    assert!(output.status.success(), "{format} cannot be read:\n{page}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn health_asks_the_admin_listener_where_there_is_no_control_socket() {
    let server = Pyserve::app("hello.py")
        .args(["--admin", "127.0.0.1:0", "--control", "off"])
        .ready();
    let line = server
        .stderr
        .wait_for("probes, metrics and status on http://");
    let address = line.split("http://").nth(1).unwrap();
    let address = address.split_ascii_whitespace().next().unwrap();
    let health = |address: &str| {
        let verb = Pyserve::bare().args(["health", "--control", "off", "--admin", address]);
        verb.run()
    };
    let ended = health(address);
    assert_eq!(
        (ended.code, &*ended.stdout),
        (0, "ready"),
        "{}",
        ended.stderr
    );
    drop(server);
    let ended = health(address);
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("does not answer"), "{}", ended.stderr);
}

#[test]
fn a_status_has_no_secrets() {
    let server = watched("held.py").env("SECRET_KEY", "hunter2").ready();
    let mut inside = server.connect();
    inside.send("GET /in?key=hunter2 HTTP/1.1\r\nHost: a\r\nCookie: hunter2\r\n\r\n");
    let held = server.probe.held("/in");
    let status: Value = ask(&server, "/-/status").json();
    assert!(!status.to_string().contains("hunter2"), "{status:#}");
    assert!(!ask(&server, "/-/metrics").text().contains("hunter2"));
    held.release();
    assert_eq!(inside.response().status(), 200);
}

#[test]
fn what_lies_on_disk_is_counted_while_it_lies_there() {
    let server = watched("held.py").ready();
    let (_holder, first) = server.hold("/first");
    let mut upload = server.connect();
    let body = "x".repeat(300_000);
    upload.send(crate::support::server::post("/second", &body));
    let spooled = |server: &Server| {
        let page = ask(server, "/-/metrics").text();
        sample(&page, r#"pyserve_spool_bytes{of="requests"}"#)
    };
    first.release();
    let second = server.probe.held("/second");
    assert_eq!(spooled(&server), Some(300_000.0));
    second.release();
    assert_eq!(upload.response().status(), 200);
    assert_eq!(spooled(&server), Some(0.0));
}

#[test]
fn reloads_are_counted_by_outcome() {
    let server = watched("hello.py").ready();
    server.signal(rustix::process::Signal::HUP);
    server.stderr.wait_for("reloaded in");
    let page = ask(&server, "/-/metrics").text();
    let done = r#"pyserve_reloads_total{outcome="done"}"#;
    assert_eq!(sample(&page, done), Some(1.0), "{page}");
    let generation = r#"pyserve_generation{application="hello.py"}"#;
    assert_eq!(sample(&page, generation), Some(2.0), "{page}");
}

#[test]
fn recycled_workers_are_counted_by_reason() {
    let server = watched("hello.py").args(["--max-requests", "5"]).ready();
    for _ in 0..10 {
        assert_eq!(server.get("/").status(), 200);
    }
    server.stderr.wait_for("worker is due for recycling");
    let page = ask(&server, "/-/metrics").text();
    let recycled = r#"pyserve_workers_replaced_total{reason="requests"}"#;
    assert!(sample(&page, recycled) >= Some(1.0), "{page}");
}

#[test]
fn workers_that_died_are_counted() {
    let server = watched("dying.py").ready();
    assert_eq!(server.get("/exit").status(), 502);
    server.wait_for_metric(r#"pyserve_workers_replaced_total{reason="died"}"#, 1.0);
}

#[test]
fn connections_left_open_keep_no_probe_out() {
    let server = watched("hello.py").ready();
    // More than the listener serves at a time; some have begun a request.
    let mut idle: Vec<_> = (0..80).map(|_| admin(&server)).collect();
    for connection in idle.iter_mut().step_by(2) {
        // The server may have closed the oldest of them already.
        let _ = connection.try_send("GET /-/live HTTP/1.1\r\n");
    }
    for _ in 0..3 {
        assert_eq!(ask(&server, "/-/live").status(), 200);
    }
    // The newest of them are still served.
    let newest = idle.last_mut().unwrap();
    assert_eq!(newest.exchange(get("/-/ready")).status(), 200);
}
