//! Maintenance mode: `pyserve maintenance on`, `off` and `status`, for each kind of handler.

use std::fs;
use std::path::Path;

use rustix::process::Signal;

use crate::support::backend::{Backend, page};
use crate::support::http2::{Http2, Outcome, get_fields};
use crate::support::raw::Connection;
use crate::support::server::{Ended, Pyserve, Server, get, request};
use crate::support::{temp_dir, write_files};

const HELLO: &str = "
def application(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [b'hello']
";

/// Target, and status outside of maintenance.
const TARGETS: [(&str, u16); 6] = [
    ("/", 200),
    ("/files/a.txt", 200),
    ("/upstream", 200),
    ("/redirect", 302),
    ("/respond", 200),
    ("/files/none", 404),
];

fn server() -> (Server, tempfile::TempDir, Backend) {
    let backend = Backend::tcp(|mut call| {
        while call.http_head().is_some() {
            call.send(page("of the upstream"));
        }
    });
    let toml = format!(
        "app = 'app.py'\nadmin_on_main = true\ntrust = '127.0.0.1'\nstatic_check = '1h'\n\
         [[location]]\nprefix = '/files'\nstatic = 'files'\n\
         [[location]]\nprefix = '/upstream'\nupstream = 'http://{}'\n\
         [[location]]\nprefix = '/redirect'\nredirect = '/elsewhere'\n\
         [[location]]\nprefix = '/respond'\nrespond = 'said'\n",
        backend.address()
    );
    let dir = temp_dir();
    let files = [
        ("pyserve.toml", &*toml),
        ("app.py", HELLO),
        ("files/a.txt", "in memory"),
        ("page.html", "<h1>Back at noon</h1>"),
    ];
    write_files(dir.path(), &files);
    let pyserve = Pyserve::new().watched().current_dir(dir.path());
    let control = dir.path().join("control");
    let server = pyserve.env("PYSERVE_CONTROL", control).ready();
    (server, dir, backend)
}

fn maintenance(dir: &Path, args: &[&str]) -> Ended {
    Pyserve::bare()
        .current_dir(dir)
        .env("PYSERVE_CONTROL", dir.join("control"))
        .args(["maintenance"])
        .args(args)
        .run()
}

fn statuses(server: &Server, target: &str) -> (u16, u16) {
    let mut http2 = Http2::new(server.connect());
    http2.headers(1, &get_fields(target), true);
    let Outcome::Response(second, _) = http2.outcome(1) else {
        panic!("no response to {target}");
    };
    (server.get(target).status(), second)
}

#[test]
fn every_kind_of_location_is_503_until_it_ends_and_probes_go_on() {
    let (server, dir, _backend) = server();
    for _ in 0..2 {
        for (target, status) in TARGETS {
            assert_eq!(statuses(&server, target), (status, status), "{target}");
        }
    }
    let mut kept_alive = server.connect();
    assert_eq!(kept_alive.exchange(get("/files/a.txt")).status(), 200);
    let on = maintenance(dir.path(), &["on"]);
    assert_eq!(
        (on.code, &*on.stdout),
        (0, "maintenance mode is on"),
        "{}",
        on.stderr
    );
    // RFC 9110 §15.6.4, §10.2.3.
    let refused = kept_alive.exchange(get("/files/a.txt"));
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.header("Retry-After").as_deref(), Some("300"));
    assert_eq!(refused.header("Cache-Control").as_deref(), Some("no-store"));
    assert!(refused.text().contains("maintained"));
    for (target, _) in TARGETS {
        assert_eq!(statuses(&server, target), (503, 503), "{target}");
    }
    let body = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n12345";
    let mut connection = server.connect();
    assert_eq!(connection.exchange(body).status(), 503);
    assert_eq!(
        connection.exchange(get("/")).status(),
        503,
        "on the same connection"
    );
    for probe in ["/-/live", "/-/ready"] {
        assert_eq!(server.get(probe).status(), 200, "{probe}");
    }
    assert!(server.status()["maintenance"].is_string());
    let admin = Connection::unix(&server.probe.path("admin")).exchange(get("/-/ready"));
    assert_eq!(admin.status(), 200);
    let status = maintenance(dir.path(), &["status"]);
    assert!(
        status.stdout.starts_with("maintenance mode is on since 20"),
        "{}",
        status.stdout
    );

    // A reload changes nothing.
    server.signal(Signal::HUP);
    server.stderr.wait_for("reloaded in");
    assert_eq!(statuses(&server, "/"), (503, 503));
    assert_eq!(
        maintenance(dir.path(), &["off"]).stdout,
        "maintenance mode is off"
    );
    for (target, status) in TARGETS {
        assert_eq!(statuses(&server, target), (status, status), "{target}");
    }
    assert_eq!(
        maintenance(dir.path(), &["off"]).stdout,
        "maintenance mode was off already"
    );
    assert_eq!(
        maintenance(dir.path(), &["status"]).stdout,
        "maintenance mode is off"
    );
    assert!(server.status()["maintenance"].is_null());
}

#[test]
fn the_page_is_a_file_and_some_clients_are_served() {
    let (server, dir, _backend) = server();
    let args = [
        "on",
        "--page",
        "page.html",
        "--retry-after",
        "2m",
        "--allow",
        "10.0.0.0/8,::1",
    ];
    assert_eq!(maintenance(dir.path(), &args).code, 0);
    let refused = server.get("/");
    assert_eq!(
        (refused.status(), &*refused.text()),
        (503, "<h1>Back at noon</h1>")
    );
    assert_eq!(
        refused.header("Content-Type").as_deref(),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(refused.header("Retry-After").as_deref(), Some("120"));
    let head = server.exchange(&request("HEAD", "/", ""));
    assert_eq!(
        (head.status(), head.header("Content-Length").as_deref()),
        (503, Some("21"))
    );
    let from = |address: &str| {
        let lines = format!("X-Forwarded-For: {address}\r\n");
        server
            .exchange(&request("GET", "/files/a.txt", &lines))
            .status()
    };
    assert_eq!((from("10.1.2.3"), from("192.0.2.1")), (200, 503));
    // It was read once; another order replaces it.
    fs::write(dir.path().join("page.json"), "{\"down\": true}").unwrap();
    fs::remove_file(dir.path().join("page.html")).unwrap();
    assert_eq!(server.get("/").text(), "<h1>Back at noon</h1>");
    assert_eq!(
        maintenance(dir.path(), &["on", "--page", "page.json"]).code,
        0
    );
    let refused = server.get("/");
    assert_eq!(refused.json()["down"], true);
    assert_eq!(
        refused.header("Content-Type").as_deref(),
        Some("application/json")
    );
    assert_eq!(from("10.1.2.3"), 503);
}

#[test]
fn pages_and_networks_that_cannot_be_used_change_nothing() {
    let (server, dir, _backend) = server();
    for (args, code, part) in [
        (
            &["on", "--page", "nothing.html"][..],
            1,
            "cannot read the page",
        ),
        (&["on", "--page", "files"], 1, "not a regular file"),
        (&["on", "--allow", "10.0.0.0/33"], 1, "prefix length"),
        (&["on", "--retry-after", "soon"], 2, "--retry-after"),
        (&["maybe"], 2, "maybe"),
        (&[], 2, "on|off|status"),
    ] {
        let ended = maintenance(dir.path(), args);
        assert_eq!(ended.code, code, "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
    assert_eq!(server.get("/").status(), 200);
    // Without a server there is none to switch.
    let elsewhere = temp_dir();
    assert_eq!(maintenance(elsewhere.path(), &["on"]).code, 69);
}
