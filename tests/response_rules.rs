//! `header` and `error_page`: what the settings change of responses, for every component that
//! answers, over both versions of HTTP, on both ways inside the server.

use tempfile::TempDir;

use crate::support::backend::Backend;
use crate::support::server::{Pyserve, Server};
use crate::support::versions::{Answer, Way, ask, get};
use crate::support::{temp_dir, write_files};

/// Answers `/…/STATUS` with that status, and fields that the rules change.
const APP: &str = "
def application(environ, start_response):
    status = environ['PATH_INFO'].rsplit('/', 1)[1]
    start_response(status + ' As Given', [
        ('Content-Type', 'text/plain'), ('X-Set', 'theirs'), ('X-Add', 'theirs'),
        ('X-Gone', 'a'), ('X-Gone', 'b'), ('Server', 'theirs'), ('WWW-Authenticate', 'Basic'), ('ETag', '\"theirs\"'),
        ('Set-Cookie', 'a=b'), ('Retry-After', '7')])
    return [b'theirs']
";

/// Responds like [`APP`].
fn response(path: &str) -> String {
    let status = path.rsplit('/').next().unwrap_or_default();
    let bodiless = matches!(status, "204" | "304");
    let length = if bodiless {
        ""
    } else {
        "Content-Length: 6\r\n"
    };
    let body = if bodiless { "" } else { "theirs" };
    format!(
        "HTTP/1.1 {status} As Given\r\nX-Set: theirs\r\nX-Add: theirs\r\nX-Gone: a\r\nX-Gone: b\r\nServer: theirs\r\n\
         WWW-Authenticate: Basic\r\nETag: \"theirs\"\r\nSet-Cookie: a=b\r\nRetry-After: 7\r\n{length}\r\n{body}"
    )
}

/// A server in front of all components, the top of its settings, and what has to live as long.
struct Site {
    server: Server,
    dir: TempDir,
    _backends: [Backend; 2],
}

/// Components and the path prefix of each.
const UPSTREAMS: [&str; 3] = ["/app", "/http", "/uwsgi"];

impl Site {
    /// `top` comes before all tables; `each` stands in every table.
    fn new(top: &str, each: &str) -> Self {
        let http = Backend::tcp(|mut call| {
            while let Some(head) = call.http_head() {
                let target = head.split(' ').nth(1).unwrap_or_default();
                call.send(response(target));
            }
        });
        let uwsgi = Backend::unix(|mut call| {
            let packet = call.packet();
            call.send(response(&packet.vars["PATH_INFO"]));
        });
        let tables = [
            ("/app", "app = 'app.py'".to_owned()),
            ("/http", format!("upstream = 'http://{}'", http.address())),
            ("/uwsgi", format!("upstream = 'uwsgi+{}'", uwsgi.address())),
            ("/files", "static = 'files'".to_owned()),
            ("/old", "redirect = '/new'".to_owned()),
            ("/text", "respond = 'text'".to_owned()),
            ("/bad", "respond = 'a text'\nstatus = 503".to_owned()),
            ("/none", "respond = ''\nstatus = 404".to_owned()),
        ];
        let tables = tables.map(|(prefix, handler)| {
            format!("[[location]]\nprefix = '{prefix}'\n{handler}\n{each}\n")
        });
        let toml = format!("{top}\n{}", tables.concat());
        let dir = temp_dir();
        let large = "0123456789".repeat(10_000);
        write_files(
            dir.path(),
            &[
                ("app.py", APP),
                ("files/a.txt", "in memory"),
                ("files/large.txt", &large),
                ("pyserve.toml", &toml),
                ("404.html", "<p>our 404"),
                ("50x.txt", "our 50x"),
                ("empty.gif", "GIF89a"),
            ],
        );
        let server = Pyserve::new()
            .current_dir(dir.path())
            .args(["--static-check", "1h"])
            .ready();
        let site = Self {
            server,
            dir,
            _backends: [http, uwsgi],
        };
        // Loads the file into memory.
        for _ in 0..2 {
            site.server.get("/files/a.txt");
        }
        site
    }

    /// Answers with a status of nginx's `add_header`, one for each component.
    fn usual(&self, way: Way) -> Vec<(&'static str, Answer)> {
        let targets = [
            "/app/200",
            "/http/201",
            "/uwsgi/206",
            "/app/302",
            "/http/308",
            "/app/204",
            "/http/204",
            "/uwsgi/304",
            "/files/a.txt",
            "/files/large.txt",
            "/old",
            "/text",
        ];
        let get = |target| (target, get(&self.server, way, target));
        targets.map(get).into()
    }

    /// Answers with another status.
    fn others(&self, way: Way) -> Vec<(&'static str, Answer)> {
        let targets = [
            "/app/404",
            "/http/500",
            "/uwsgi/202",
            "/app/418",
            "/files/missing",
            "/bad",
            "/none",
            "/nowhere",
        ];
        let get = |target| (target, get(&self.server, way, target));
        targets.map(get).into()
    }
}

fn is_of_upstream(target: &str) -> bool {
    UPSTREAMS.iter().any(|prefix| target.starts_with(prefix))
}

const RULES: &str = "header = ['set X-Set: ours', 'add X-Add: ours', 'X-Plain=a: b=c', \
    'always X-Always: always', 'remove X-Gone', 'remove Server']";

fn check_usual(target: &str, answer: &Answer, way: Way) {
    let shown = format!("{target} {way:?}: {answer:?}");
    let added = match is_of_upstream(target) {
        true => "theirs|ours",
        false => "ours",
    };
    assert_eq!(answer.value("x-set"), "ours", "{shown}");
    assert_eq!(answer.value("x-add"), added, "{shown}");
    assert_eq!(answer.value("x-plain"), "a: b=c", "{shown}");
    assert_eq!(answer.value("x-always"), "always", "{shown}");
    assert_eq!(answer.value("x-gone"), "", "{shown}");
    assert!(!answer.value("server").contains("theirs"), "{shown}");
}

fn check_others(target: &str, answer: &Answer, way: Way) {
    let shown = format!("{target} {way:?}: {answer:?}");
    let theirs = match is_of_upstream(target) {
        true => "theirs",
        false => "",
    };
    assert_eq!(answer.value("x-set"), theirs, "{shown}");
    assert_eq!(answer.value("x-add"), theirs, "{shown}");
    assert_eq!(answer.value("x-plain"), "", "{shown}");
    assert_eq!(answer.value("x-always"), "always", "{shown}");
    assert_eq!(answer.value("x-gone"), "", "{shown}");
    assert!(!answer.value("server").contains("theirs"), "{shown}");
}

#[test]
fn header_rules_for_all_change_each_response() {
    let site = Site::new(RULES, "");
    for way in Way::ALL {
        for (target, answer) in site.usual(way) {
            check_usual(target, &answer, way);
        }
        for (target, answer) in site.others(way) {
            check_others(target, &answer, way);
        }
    }
    // A request that no location gets.
    let bad = site
        .server
        .exchange("GET /../x HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(bad.status(), 400);
    assert_eq!(bad.header("X-Always").as_deref(), Some("always"));
    let malformed = site.server.exchange("GET / HTTP/1.1\r\nHost : h\r\n\r\n");
    assert_eq!(malformed.status(), 400);
    assert_eq!(malformed.header("X-Always").as_deref(), Some("always"));
    // A copy that is still valid.
    let tag = site.server.get("/files/a.txt").header("ETag").unwrap();
    for extra in ["", "Trailer: x\r\n"] {
        let fresh = site.server.exchange(&format!(
            "GET /files/a.txt HTTP/1.1\r\nHost: h\r\nIf-None-Match: {tag}\r\n{extra}\r\n"
        ));
        assert_eq!(fresh.status(), 304);
        assert_eq!(fresh.header("X-Set").as_deref(), Some("ours"));
    }
}

#[test]
fn header_rules_of_a_location_come_after_those_for_all() {
    let top = "header = ['X-Set: general', 'add X-Add: general', 'always X-General: g']";
    let site = Site::new(top, RULES);
    for way in Way::ALL {
        for (target, answer) in site.usual(way) {
            let added = match is_of_upstream(target) {
                true => "theirs|general|ours",
                false => "general|ours",
            };
            assert_eq!(answer.value("x-set"), "ours", "{target} {way:?}");
            assert_eq!(answer.value("x-add"), added, "{target} {way:?}");
            assert_eq!(answer.value("x-general"), "g", "{target} {way:?}");
        }
    }
    // As nginx's `add_header` in a location hides those of the server.
    let site = Site::new(top, &format!("{RULES}\nheader_inherit = false"));
    for way in Way::ALL {
        for (target, answer) in site.usual(way) {
            check_usual(target, &answer, way);
            assert_eq!(answer.value("x-general"), "", "{target} {way:?}");
        }
        let nowhere = get(&site.server, way, "/nowhere");
        assert_eq!(nowhere.value("x-general"), "g", "outside of locations");
    }
}

#[test]
fn header_rules_are_a_table_a_flag_and_a_variable_too() {
    let dir = temp_dir();
    write_files(dir.path(), &[("static/a.txt", "a")]);
    let server = Pyserve::new()
        .current_dir(dir.path())
        .env("PYSERVE_HEADER", "always A: b, c d\n add B: c\n\n")
        .ready();
    let answer = server.get("/static/a.txt");
    assert_eq!(answer.headers("A"), ["b, c d"]);
    assert_eq!(answer.headers("B"), ["c"]);
    let server = Pyserve::new()
        .current_dir(dir.path())
        .env("PYSERVE_HEADER", "A: variable")
        .args([
            "--header",
            "Cache-Control: max-age=7",
            "--header",
            "remove etag",
        ])
        .ready();
    let answer = server.get("/static/a.txt");
    assert_eq!(answer.headers("A"), [""; 0], "flags come first");
    assert_eq!(answer.headers("Cache-Control"), ["max-age=7"]);
    assert_eq!(answer.headers("ETag"), [""; 0]);
    write_files(
        dir.path(),
        &[(
            "pyserve.toml",
            "[header]\nX-Frame-Options = 'DENY'\n'always B' = 'x=y'\n",
        )],
    );
    let server = Pyserve::new().current_dir(dir.path()).ready();
    let answer = server.get("/static/a.txt");
    assert_eq!(answer.headers("X-Frame-Options"), ["DENY"]);
    assert_eq!(server.get("/none").headers("B"), ["x=y"]);
}

#[test]
fn rules_that_cannot_hold_end_the_start() {
    for (flag, value, problem) in [
        (
            "--header",
            "Content-Length: 3",
            "set by the server for each response",
        ),
        (
            "--header",
            "add Transfer-Encoding: chunked",
            "set by the server",
        ),
        ("--header", "remove Connection", "set by the server"),
        ("--header", "always Date: x", "set by the server"),
        ("--header", "Server: x", "--server-header"),
        ("--header", "X-A: a\r\nX-B: b", "control character"),
        ("--header", "X-A: a\u{7f}", "control character"),
        ("--header", "X A: b", "not the name of a header field"),
        ("--header", "X-A", "no `:` between name and value"),
        ("--header", "X-A: ", "the value is empty"),
        ("--error-page", "404", "no `=` between status and file"),
        ("--error-page", "200=x.html", "not the status of an error"),
        ("--error-page", "404==304 x.html", "a response with a body"),
    ] {
        let dir = temp_dir();
        write_files(dir.path(), &[("static/a.txt", "a")]);
        let ended = Pyserve::new()
            .current_dir(dir.path())
            .args([flag, value])
            .run();
        assert_eq!(ended.code, 78, "{value:?}: {}", ended.stderr);
        assert!(
            ended.stderr.contains(problem),
            "{value:?}: {}",
            ended.stderr
        );
    }
}

const PAGES: &str =
    "error_page = { 404 = '404.html', 5xx = '50x.txt', '400,418' = '=200 empty.gif' }";

#[test]
fn error_pages_replace_the_errors_of_the_server() {
    let site = Site::new(PAGES, "");
    for way in Way::ALL {
        for target in ["/files/missing", "/nowhere", "/none"] {
            let answer = get(&site.server, way, target);
            let shown = format!("{target} {way:?}: {answer:?}");
            assert_eq!(
                (answer.status, &*answer.body),
                (404, "<p>our 404"),
                "{shown}"
            );
            let kind = "text/html; charset=utf-8";
            assert_eq!(answer.value("content-type"), kind, "{shown}");
            assert_eq!(answer.value("content-length"), "10", "{shown}");
            assert_eq!(answer.value("cache-control"), "no-store", "{shown}");
            for absent in ["etag", "last-modified", "accept-ranges", "vary"] {
                assert_eq!(answer.value(absent), "", "{shown}");
            }
            let head = ask(&site.server, way, "HEAD", "localhost", target);
            assert_eq!((head.status, &*head.body), (404, ""), "{head:?}");
            assert_eq!(head.value("content-length"), "10", "{head:?}");
        }
        // Texts of the settings, and responses of others, stay.
        let text = get(&site.server, way, "/bad");
        assert_eq!((text.status, &*text.body), (503, "a text"));
        for prefix in UPSTREAMS {
            for status in [404, 500, 418] {
                let answer = get(&site.server, way, &format!("{prefix}/{status}"));
                assert_eq!((answer.status, &*answer.body), (status, "theirs"));
                assert_eq!(answer.value("etag"), "\"theirs\"");
            }
        }
    }
    let bad = site
        .server
        .exchange("GET /../x HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!((bad.status(), &*bad.text()), (200, "GIF89a"));
    assert_eq!(bad.header("Content-Type").as_deref(), Some("image/gif"));
    assert_eq!(bad.header("Connection").as_deref(), Some("close"));
    let built_in = site
        .server
        .exchange("DELETE /files/a.txt HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(built_in.status(), 405);
    assert!(built_in.text().contains("405"), "{built_in:?}");
}

#[test]
fn error_pages_replace_those_of_upstreams_on_demand() {
    let pages = PAGES.replace("404 =", "'404,401' =");
    let site = Site::new(&format!("{pages}\nintercept_errors = true"), "");
    for way in Way::ALL {
        for prefix in UPSTREAMS {
            for (status, expected, body) in [
                (404, 404, "<p>our 404"),
                (500, 500, "our 50x"),
                (503, 503, "our 50x"),
                (418, 200, "GIF89a"),
                (401, 401, "<p>our 404"),
                (403, 403, "theirs"),
                (200, 200, "theirs"),
            ] {
                let answer = get(&site.server, way, &format!("{prefix}/{status}"));
                let shown = format!("{prefix}/{status} {way:?}: {answer:?}");
                assert_eq!((answer.status, &*answer.body), (expected, body), "{shown}");
                let is_theirs = body == "theirs";
                assert_eq!(answer.value("etag").is_empty(), !is_theirs, "{shown}");
                assert_eq!(answer.value("set-cookie").is_empty(), !is_theirs, "{shown}");
                // RFC 9110 §10.2.3, §11.6.1: what explains the status stays.
                let kept = |is_kept: bool, value: &str| match is_kept || is_theirs {
                    true => value.to_owned(),
                    false => String::new(),
                };
                let challenge = kept(expected == 401, "Basic");
                assert_eq!(answer.value("www-authenticate"), challenge, "{shown}");
                assert_eq!(
                    answer.value("retry-after"),
                    kept(expected == 503, "7"),
                    "{shown}"
                );
                let length = answer.body.len().to_string();
                assert!(
                    ["", &length].contains(&&*answer.value("content-length")),
                    "{shown}"
                );
            }
        }
    }
    let phrase = site.server.get("/app/404").status_line();
    assert_eq!(phrase, "HTTP/1.1 404 Not Found");
}

#[test]
fn error_pages_of_a_location_come_before_those_for_all() {
    let top = "intercept_errors = true\nerror_page = { 404 = '404.html', 5xx = '50x.txt' }";
    let site = Site::new(top, "error_page = { 500 = '', 404 = 'empty.gif' }");
    for way in Way::ALL {
        for (target, status, body) in [
            ("/app/404", 404, "GIF89a"),
            ("/http/500", 500, "theirs"),
            ("/uwsgi/502", 502, "our 50x"),
            ("/files/missing", 404, "GIF89a"),
            ("/nowhere", 404, "<p>our 404"),
        ] {
            let answer = get(&site.server, way, target);
            assert_eq!(
                (answer.status, &*answer.body),
                (status, body),
                "{target} {way:?}"
            );
        }
    }
}

#[test]
fn a_missing_error_page_is_one_warning_and_the_built_in_page() {
    let site = Site::new(
        "error_page = { 404 = 'none.html', 400 = 'none.html', 500 = 'files' }",
        "",
    );
    let built_in = site.server.get("/nowhere");
    assert_eq!(built_in.status(), 404);
    assert!(built_in.text().contains("<h1>404"), "{built_in:?}");
    assert_eq!(site.server.stderr.count("none.html"), 1);
    site.server.stderr.wait_for("is not a file");
    // A reload finds it.
    write_files(site.dir.path(), &[("none.html", "there now")]);
    site.server.signal(rustix::process::Signal::HUP);
    site.server.stderr.wait_for("reloaded in");
    assert_eq!(site.server.get("/nowhere").text(), "there now");
    write_files(site.dir.path(), &[("none.html", "and changed")]);
    site.server.signal(rustix::process::Signal::HUP);
    site.server.stderr.wait_for_nth("reloaded in", 2);
    assert_eq!(site.server.get("/nowhere").text(), "and changed");
}
