//! The examples: what Django and Flask sites do all day, through the whole server.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::support::python::{self, Interpreter};
use crate::support::raw::{Connection, Response};
use crate::support::server::{Pyserve, Server, get};
use crate::support::{skipped, source, temp_dir};

const UPLOAD: usize = 50 << 20;
/// SHA-256 of [`upload`].
const UPLOAD_SHA256: &str = "3a7aef326b898081e6fb7b9599db2618b4f5e5301b64078f0f4e1f5382f634b9";
const BOUNDARY: &str = "a-boundary-of-the-test";

/// A browser with one connection and a jar.
struct Browser {
    connection: Connection,
    cookies: Vec<(String, String)>,
}

impl Browser {
    fn new(server: &Server) -> Self {
        Self {
            connection: server.connect(),
            cookies: Vec::new(),
        }
    }

    fn get(&mut self, target: &str) -> Response {
        self.request("GET", target, "", b"")
    }

    fn post_form(&mut self, target: &str, fields: &[(&str, &str)]) -> Response {
        let pairs: Vec<_> = fields
            .iter()
            .map(|(name, value)| format!("{name}={}", encode(value)))
            .collect();
        let kind = "Content-Type: application/x-www-form-urlencoded\r\n";
        self.request("POST", target, kind, pairs.join("&").as_bytes())
    }

    fn post_file(&mut self, target: &str, token: Option<&str>, content: &[u8]) -> Response {
        let mut body = Vec::with_capacity(content.len() + 1000);
        let disposition = "Content-Disposition: form-data; name=";
        if let Some(token) = token {
            let part =
                format!("--{BOUNDARY}\r\n{disposition}\"csrfmiddlewaretoken\"\r\n\r\n{token}\r\n");
            body.extend(part.bytes());
        }
        let part = format!(
            "--{BOUNDARY}\r\n{disposition}\"file\"; filename=\"big.bin\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        body.extend(part.bytes());
        body.extend(content);
        body.extend(format!("\r\n--{BOUNDARY}--\r\n").bytes());
        let lines = format!(
            "Accept: application/json\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
        );
        self.request("POST", target, &lines, &body)
    }

    fn request(&mut self, method: &str, target: &str, lines: &str, body: &[u8]) -> Response {
        let jar: Vec<_> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{lines}");
        if !jar.is_empty() {
            head += &format!("Cookie: {}\r\n", jar.join("; "));
        }
        if method == "POST" {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        self.connection.send(head + "\r\n");
        self.connection.send(body);
        let response = self.connection.response();
        for cookie in response.headers("Set-Cookie") {
            let (name, value) = cookie.split_once('=').expect("name=value");
            let value = value.split(';').next().unwrap_or_default().to_owned();
            self.cookies.retain(|(known, _)| known != name);
            self.cookies.push((name.to_owned(), value));
        }
        response
    }
}

fn encode(value: &str) -> String {
    let encoded = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    value.bytes().map(encoded).collect()
}

fn token_in(page: &Response) -> String {
    let text = page.text();
    let mark = "name=\"csrfmiddlewaretoken\" value=\"";
    let at = text
        .find(mark)
        .unwrap_or_else(|| panic!("no form in {page:?}"))
        + mark.len();
    text[at..].split('"').next().unwrap_or_default().to_owned()
}

fn upload() -> Vec<u8> {
    (0..UPLOAD as u32)
        .map(|number| (number % 251) as u8)
        .collect()
}

/// The environment for the examples, made with the interpreter of the other tests.
pub fn venv(what: &str) -> Option<std::path::PathBuf> {
    let default = python::default();
    let python: &Interpreter = python::supported().find(|python| python.path == default)?;
    python::venv(python)
        .inspect_err(|because| skipped(what, because))
        .ok()
}

fn check_streams(server: &Server, target: &str) {
    let begin = Instant::now();
    let mut connection = server.connect();
    connection.send(get(&format!("{target}?pieces=3&pause_ms=300")));
    assert_eq!(connection.response_to_head().status(), 200);
    let mut arrivals = Vec::new();
    for number in 1..=3 {
        let piece = String::from_utf8(connection.chunk().unwrap()).unwrap();
        assert!(
            piece.starts_with(&format!("piece {number} of 3")),
            "{piece}"
        );
        assert_eq!(piece.lines().count(), 1, "one at a time: {piece}");
        arrivals.push(begin.elapsed());
    }
    assert_eq!(connection.chunk().unwrap(), b"");
    assert!(
        arrivals[2].as_millis() >= 900,
        "the application's own pauses: {arrivals:?}"
    );
}

fn manage(venv: &Path, data: &Path, arguments: &[&str]) {
    let run = Command::new(venv.join("bin/python"))
        .arg("manage.py")
        .args(arguments)
        .current_dir(source("python/examples/django"))
        .env("EXAMPLE_DATABASE", data.join("db.sqlite3"))
        .env("EXAMPLE_STATIC", data.join("static"))
        .env("EXAMPLE_MEDIA", data.join("media"))
        .env("DJANGO_SUPERUSER_PASSWORD", "not a secret")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .expect("the interpreter runs");
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
}

#[test]
fn the_django_example_does_what_sites_do() {
    let Some(venv) = venv("the Django example") else {
        return;
    };
    let data = temp_dir();
    manage(&venv, data.path(), &["migrate", "--verbosity", "0"]);
    manage(
        &venv,
        data.path(),
        &["collectstatic", "--noinput", "--verbosity", "0"],
    );
    let superuser = [
        "createsuperuser",
        "--noinput",
        "--username",
        "root",
        "--email",
        "a@example.org",
    ];
    manage(&venv, data.path(), &superuser);
    let server = Pyserve::new()
        .without("PYSERVE_PYTHON")
        .args(["--app", "mysite.wsgi", "--workers", "2", "--chdir"])
        .args([source("python/examples/django")])
        .args(["--root"])
        .args([data.path()])
        .args(["--venv"])
        .args([&venv])
        .env("EXAMPLE_DATABASE", data.path().join("db.sqlite3"))
        .env("EXAMPLE_STATIC", data.path().join("static"))
        .env("EXAMPLE_MEDIA", data.path().join("media"))
        .ready();
    let block = server.stderr.so_far().join("\n");
    assert!(block.contains("Django"), "{block}");

    let mut browser = Browser::new(&server);
    check_admin(&mut browser);
    check_csrf(&mut browser);
    check_upload(&mut browser);
    check_streams(&server, "/stream/");
    for visit in 1..=3 {
        assert_eq!(browser.get("/visits/").json()["visits"], visit);
    }
    assert_eq!(server.get("/static/notes/notes.css").status(), 200);
    assert_eq!(server.get("/static/admin/css/base.css").status(), 200);
    assert_eq!(server.get("/no/such/page").status(), 404);
}

fn check_admin(browser: &mut Browser) {
    let page = browser.get("/admin/");
    assert_eq!(page.status(), 302, "{page:?}");
    let page = browser.get(&page.header("Location").unwrap());
    let token = token_in(&page);
    let wrong = [
        ("csrfmiddlewaretoken", &*token),
        ("username", "root"),
        ("password", "wrong"),
    ];
    assert_eq!(
        browser
            .post_form("/admin/login/?next=/admin/", &wrong)
            .status(),
        200
    );
    let right = [
        ("csrfmiddlewaretoken", &*token),
        ("username", "root"),
        ("password", "not a secret"),
    ];
    let response = browser.post_form("/admin/login/?next=/admin/", &right);
    assert_eq!(response.status(), 302, "{response:?}");
    let page = browser.get("/admin/");
    assert_eq!(page.status(), 200);
    assert!(page.text().contains("Site administration"), "{page:?}");
}

fn check_csrf(browser: &mut Browser) {
    let token = token_in(&browser.get("/"));
    let forged = browser.post_form("/notes/", &[("text", "forged")]);
    assert_eq!(forged.status(), 403);
    let saved = browser.post_form(
        "/notes/",
        &[
            ("csrfmiddlewaretoken", &token),
            ("text", "a n\u{f6}te & more"),
        ],
    );
    assert_eq!(saved.status(), 302, "{saved:?}");
    let page = String::from_utf8(browser.get("/").body).unwrap();
    assert!(page.contains("a n\u{f6}te &amp; more"), "{page}");
    assert!(!page.contains("forged"), "{page}");
}

fn check_upload(browser: &mut Browser) {
    let token = token_in(&browser.get("/"));
    let content = upload();
    let response = browser.post_file("/documents/", Some(&token), &content);
    assert_eq!(response.status(), 201, "{response:?}");
    let stored = response.json();
    assert_eq!(stored["size"], UPLOAD);
    assert_eq!(stored["sha256"], UPLOAD_SHA256);
    let download = browser.get(stored["url"].as_str().unwrap());
    assert_eq!(download.status(), 200);
    assert!(download.body == content, "{} bytes", download.body.len());
}

#[test]
fn the_flask_example_does_what_sites_do() {
    let Some(venv) = venv("the Flask example") else {
        return;
    };
    let data = temp_dir();
    let server = Pyserve::new()
        .without("PYSERVE_PYTHON")
        // Without --app: it is found.
        .args(["--workers", "2", "--chdir"])
        .args([source("python/examples/flask")])
        .args(["--venv"])
        .args([&venv])
        .env("EXAMPLE_MEDIA", data.path().join("media"))
        .ready();
    let block = server.stderr.so_far().join("\n");
    assert!(block.contains("Flask"), "{block}");

    let mut browser = Browser::new(&server);
    assert_eq!(browser.get("/api").json()["message"], "Hello from Flask");
    let kind = "Content-Type: application/json\r\n";
    let echoed = browser.request("POST", "/api", kind, b"{\"a\": [1, null]}");
    assert_eq!(
        echoed.json()["received"],
        serde_json::json!({"a": [1, null]})
    );
    let response = browser.post_form("/name", &[("name", "Ada & \u{e9}")]);
    assert_eq!(response.status(), 303);
    assert_eq!(browser.get("/api").json()["name"], "Ada & \u{e9}");

    let content = upload();
    let response = browser.post_file("/documents", None, &content);
    assert_eq!(response.status(), 201, "{response:?}");
    let stored = response.json();
    assert_eq!(stored["sha256"], UPLOAD_SHA256);
    let download = browser.get(stored["url"].as_str().unwrap());
    assert!(download.body == content, "{} bytes", download.body.len());
    check_streams(&server, "/stream");
    assert_eq!(server.get("/static/flask.css").status(), 200);
}

#[test]
fn the_hello_example_and_everything_on_its_page_load() {
    let server = Pyserve::new()
        .args(["--app", "hello.wsgi", "--chdir"])
        .args([source("python/examples")])
        .ready();
    let page = server.get("/");
    assert_eq!(
        page.header("Content-Type").as_deref(),
        Some("text/html; charset=utf-8")
    );
    let text = page.text();
    for (target, kind) in [
        ("/css/hello.css", "text/css"),
        ("/js/hello.js", "text/javascript"),
        ("/images/pyserve.svg", "image/svg+xml"),
        ("/static/favicon.svg", "image/svg+xml"),
        ("/static/about.txt", "text/plain"),
    ] {
        assert!(text.contains(target), "{target} is on the page");
        let response = server.get(target);
        assert_eq!(response.status(), 200, "{target}");
        let type_header = response.header("Content-Type").unwrap();
        assert!(type_header.starts_with(kind), "{target}: {type_header}");
        assert!(!response.body.is_empty(), "{target}");
    }
    assert_eq!(server.get("/api").status(), 200);
    let script = server.get("/js/hello.js").text();
    assert!(script.contains("/api?pause_ms=100"), "{script}");
    assert!(server.get("/environ").text().contains("wsgi.input"));
    let echo = "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(server.exchange(echo).text(), "hello");
    check_streams(&server, "/stream");
    assert_eq!(server.get("/absent").status(), 404);
}

#[test]
fn requests_of_the_hello_page_that_overlap_go_to_idle_workers() {
    let server = Pyserve::new()
        .args(["--workers", "3", "--app", "hello.wsgi", "--chdir"])
        .args([source("python/examples")])
        .ready();
    // As long as the longest pause: three requests overlap however slow the machine is.
    let asked: Vec<_> = (0..3)
        .map(|_| {
            let mut connection = server.connect();
            connection.send(get("/api?pause_ms=2000"));
            connection
        })
        .collect();
    let pids = asked.into_iter().map(|mut connection| {
        let answer = connection.response().json();
        answer["pid"].as_u64().unwrap()
    });
    let pids: std::collections::BTreeSet<_> = pids.collect();
    assert_eq!(pids.len(), 3, "{pids:?}");
}
