//! `[[location]]` in `pyserve.toml`: files, applications, redirects and texts side by side.

use crate::support::raw::Response;
use crate::support::server::{Pyserve, Server, post};
use crate::support::{temp_dir, write_files};

/// A server with this `pyserve.toml` and these files in a directory of its own.
fn server(toml: &str, files: &[(&str, &str)], args: &[&str]) -> (Server, tempfile::TempDir) {
    let dir = temp_dir();
    write_files(dir.path(), files);
    write_files(dir.path(), &[("pyserve.toml", toml)]);
    let server = Pyserve::new().current_dir(dir.path()).args(args).ready();
    (server, dir)
}

fn goes_to(response: &Response, status: u16, to: &str) {
    assert_eq!(response.status(), status, "{response:?}");
    assert_eq!(response.header("Location").as_deref(), Some(to));
}

/// An application that says where it is mounted and what is left of the path.
const WHERE: &str = "
def application(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return ['{SCRIPT_NAME}|{PATH_INFO}'.format(**environ).encode('latin-1')]
";

const FIXED: &str = r#"
    [[location]]
    prefix = "/ping"
    respond = "pong\n"

    [[location]]
    prefix = "/teapot"
    respond = '{"short": true}'
    status = 418
    content_type = "application/json"

    [[location]]
    prefix = "/gone"
    respond = ""
    status = 204

    [[location]]
    prefix = "/old"
    redirect = "/new"
    status = 308

    [[location]]
    prefix = "/root"
    redirect = "/"

    [[location]]
    prefix = "/elsewhere"
    redirect = "https://example.org/base/"

    [[location]]
    prefix = "/once"
    redirect = "/start?from=once"

    [[location]]
    prefix = "/files"
    static = "files"
    missing = "app"

    [[location]]
    prefix = "/files/deep"
    respond = "deeper"
"#;

#[test]
fn texts_are_said_to_everybody() {
    let (server, _dir) = server(FIXED, &[("files/a.txt", "file")], &[]);
    let pong = server.get("/ping");
    assert_eq!((pong.status(), &*pong.text()), (200, "pong\n"));
    let plain = "text/plain; charset=utf-8";
    assert_eq!(pong.header("Content-Type").as_deref(), Some(plain));
    assert!(pong.header("X-Request-ID").is_some());
    assert_eq!(server.get("/%70ing/below?q").text(), "pong\n");
    assert_eq!(server.get("/pingpong").status(), 404);

    let head = server.exchange("HEAD /ping HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(head.header("Content-Length").as_deref(), Some("5"));
    assert_eq!(head.text(), "");
    let teapot = server.exchange(&post("/teapot", "water"));
    assert_eq!(
        (teapot.status(), &*teapot.text()),
        (418, r#"{"short": true}"#)
    );
    let kind = teapot.header("Content-Type");
    assert_eq!(kind.as_deref(), Some("application/json"));
    let gone = server.get("/gone");
    assert_eq!((gone.status(), &*gone.text()), (204, ""));
    assert_eq!(gone.header("Content-Type"), None);
}

#[test]
fn redirects_keep_path_and_query_but_never_leave_their_host() {
    let (server, _dir) = server(FIXED, &[("files/a.txt", "file")], &[]);
    for (target, status, to) in [
        ("/old", 308, "/new"),
        ("/old/a/b?c=d&e", 308, "/new/a/b?c=d&e"),
        ("/old%2Fa", 308, "/new/a"),
        ("/root", 302, "/"),
        ("/root//evil.example", 302, "/evil.example"),
        ("/root/%2F/evil.example", 302, "/%2F/evil.example"),
        ("/root%2F/evil.example", 302, "/evil.example"),
        ("/elsewhere", 302, "https://example.org/base/"),
        ("/elsewhere/a?b", 302, "https://example.org/base/a?b"),
        ("/once/a?b", 302, "/start?from=once"),
    ] {
        goes_to(&server.get(target), status, to);
    }
    goes_to(
        &server.exchange(&post("/old/form", "x=1")),
        308,
        "/new/form",
    );
}

#[test]
fn the_longest_prefix_answers_whatever_it_is() {
    let (server, _dir) = server(
        FIXED,
        &[
            ("files/a.txt", "file"),
            ("files/deep/a.txt", "hidden by a location"),
        ],
        &[],
    );
    assert_eq!(server.get("/files/a.txt").text(), "file");
    assert_eq!(server.get("/files/deep/a.txt").text(), "deeper");
    // Left to the application, where there is none.
    assert_eq!(server.get("/files/missing").status(), 404);
    assert_eq!(server.get("/").status(), 404);
    server.stderr.wait_for("/old -> redirect 308 to /new");
}

#[test]
fn an_application_answers_what_no_location_does() {
    let files = [("files/a.txt", "file"), ("app.py", WHERE)];
    let (server, _dir) = server(FIXED, &files, &[]);
    assert_eq!(server.get("/ping").text(), "pong\n");
    assert_eq!(server.get("/files/a.txt").text(), "file");
    for target in ["/", "/files/missing", "/pingpong"] {
        assert_eq!(server.get(target).text(), format!("|{target}"));
    }
}

#[test]
fn check_shows_the_locations() {
    let dir = temp_dir();
    write_files(dir.path(), &[("pyserve.toml", FIXED), ("files/a.txt", "")]);
    let ended = Pyserve::new().current_dir(dir.path()).args(["check"]).run();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let shown = ended.stdout;
    for line in [
        "/files/deep -> respond 200 \"deeper\"",
        "/elsewhere -> redirect 302 to https://example.org/base/ and the rest of the path",
        "/once -> redirect 302 to /start?from=once\n",
        "/files -> files in ",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
}
