//! What the settings say about static files: how long they may be kept, what answers where
//! there is none, what is hidden, where links may lead, and what is remembered.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use crate::support::raw::Response;
use crate::support::server::{Pyserve, Server, post, request};
use crate::support::{age, temp_dir, write_files};

fn site() -> TempDir {
    let dir = temp_dir();
    let manifest = r#"{"paths": {"logo.svg": "logo.123456789012.svg"}, "version": "1.1"}"#;
    write_files(
        dir.path(),
        &[
            ("static/staticfiles.json", manifest),
            ("static/logo.123456789012.svg", "<svg/>"),
            ("static/base.27e20196a850.css", "p {}"),
            ("static/base.css", "p {}"),
            ("static/base.210987654321.css", "p {}"),
            ("static/page.html", "<p>"),
            ("static/.env", "hidden"),
            ("static/a.py", "hidden"),
            ("css/site.css", "b {}"),
            ("spa/index.html", "<p>application"),
            ("spa/app.js", "js()"),
        ],
    );
    age(dir.path());
    dir
}

fn files_alone(site: &TempDir, args: &[&str]) -> Server {
    Pyserve::new().current_dir(site.path()).args(args).ready()
}

fn caching(server: &Server, target: &str) -> String {
    let response = server.get(target);
    assert_eq!(response.status(), 200, "{target}");
    response.header("Cache-Control").unwrap()
}

fn ask(server: &Server, target: &str, lines: &str) -> Response {
    server.exchange(&request("GET", target, lines))
}

const FOREVER: &str = "public, max-age=31536000, immutable";

#[test]
fn names_with_a_hash_may_be_kept_for_good_and_others_for_a_while() {
    let site = site();
    let server = files_alone(&site, &[]);
    for (target, expected) in [
        ("/static/base.27e20196a850.css", FOREVER),
        ("/static/logo.123456789012.svg", FOREVER),
        ("/static/base.css", "public, max-age=60"),
        ("/static/page.html", "no-cache"),
        ("/css/site.css", "public, max-age=60"),
    ] {
        assert_eq!(caching(&server, target), expected, "{target}");
    }
    let tag = server.get("/static/base.css").header("ETag").unwrap();
    let response = ask(
        &server,
        "/static/base.css",
        &format!("If-None-Match: {tag}\r\n"),
    );
    assert_eq!(response.status(), 304);
    assert_eq!(
        response.header("Cache-Control").as_deref(),
        Some("public, max-age=60")
    );
}

#[test]
fn how_long_files_may_be_kept_is_set_for_each_location() {
    let site = site();
    let server = files_alone(
        &site,
        &[
            "--static-max-age",
            "1h",
            "--static-max-age",
            "/css=0",
            "--static-immutable",
            "auto",
        ],
    );
    for (target, expected) in [
        ("/static/base.27e20196a850.css", "public, max-age=3600"),
        ("/static/logo.123456789012.svg", "public, max-age=3600"),
        ("/static/page.html", "public, max-age=3600"),
        ("/css/site.css", "no-cache"),
    ] {
        assert_eq!(caching(&server, target), expected, "{target}");
    }
    let server = files_alone(&site, &["--static-immutable", "/static=manifest"]);
    for (target, expected) in [
        ("/static/base.27e20196a850.css", "public, max-age=60"),
        ("/static/logo.123456789012.svg", FOREVER),
    ] {
        assert_eq!(caching(&server, target), expected, "{target}");
    }
    let server = files_alone(&site, &["--static-immutable", "no"]);
    for target in [
        "/static/base.27e20196a850.css",
        "/static/logo.123456789012.svg",
    ] {
        assert_eq!(caching(&server, target), "public, max-age=60");
    }
}

/// Names of builds and of uploads look the same.
#[test]
fn only_a_build_s_names_are_promised_to_stay() {
    let dir = temp_dir();
    let names = [
        "550e8400-e29b-41d4-a716-446655440000.jpg",
        "507f1f77bcf86cd799439011.jpg",
        "live-a1b2c3d4.m3u8",
        "page.27e20196a850.html",
        "index-BfX3k2aQ.js",
    ];
    for place in ["static", "uploads", "opted"] {
        for name in names {
            write_files(dir.path(), &[(&format!("{place}/{name}"), "x")]);
        }
        let manifest = r#"{"paths": {"a.jpg": "a.123456789012.jpg", "b.jpg": "b.plain.jpg"}}"#;
        for (name, text) in [
            ("staticfiles.json", manifest),
            ("a.123456789012.jpg", "x"),
            ("b.plain.jpg", "x"),
        ] {
            write_files(dir.path(), &[(&format!("{place}/{name}"), text)]);
        }
    }
    age(dir.path());
    let toml = r#"
        static_max_age = "/timed=5m"
        static = { "/uploads" = "uploads", "/timed" = "opted" }
        [[location]]
        prefix = "/table"
        static = "uploads"
        [[location]]
        prefix = "/opted"
        static = "opted"
        immutable = "auto"
        [[location]]
        prefix = "/opted/timed"
        static = "opted"
        immutable = "auto"
        max_age = "5m"
    "#;
    std::fs::write(dir.path().join("pyserve.toml"), toml).unwrap();
    let server = files_alone(&dir, &["--static-check", "0"]);
    for prefix in [
        "/static",
        "/uploads",
        "/table",
        "/opted",
        "/opted/timed",
        "/timed",
    ] {
        let of = |name: &str| caching(&server, &format!("{prefix}/{name}"));
        let usual = match prefix.ends_with("timed") {
            true => "public, max-age=300",
            false => "public, max-age=60",
        };
        let is_guessed = matches!(prefix, "/static" | "/opted");
        let hashed = if is_guessed { FOREVER } else { usual };
        assert_eq!(of("index-BfX3k2aQ.js"), hashed, "{prefix}");
        assert_eq!(of("a.123456789012.jpg"), hashed, "{prefix}: a manifest");
        assert_eq!(of("b.plain.jpg"), usual, "{prefix}: listed without a hash");
        assert_eq!(of(names[0]), usual, "{prefix}: a UUID");
        assert_eq!(of("live-a1b2c3d4.m3u8"), usual, "{prefix}");
        let page = if prefix.ends_with("timed") {
            usual
        } else {
            "no-cache"
        };
        assert_eq!(of("page.27e20196a850.html"), page, "{prefix}");
    }
    assert_eq!(
        caching(&server, "/uploads/507f1f77bcf86cd799439011.jpg"),
        "public, max-age=60"
    );
    // With --dev everything is asked for again.
    let server = files_alone(&dir, &["--dev"]);
    assert_eq!(caching(&server, "/static/index-BfX3k2aQ.js"), "no-cache");
}

#[test]
fn what_was_written_a_moment_ago_is_not_promised_to_stay() {
    let site = site();
    let server = files_alone(&site, &["--static-check", "0"]);
    let path = site.path().join("static/base.27e20196a850.css");
    assert_eq!(caching(&server, "/static/base.27e20196a850.css"), FOREVER);
    // Also if the writer's clock is ahead.
    std::fs::write(&path, "p { }").unwrap();
    let file = std::fs::File::open(&path).unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(60))
        .unwrap();
    assert_eq!(
        caching(&server, "/static/base.27e20196a850.css"),
        "public, max-age=60"
    );
    age(site.path());
    assert_eq!(caching(&server, "/static/base.27e20196a850.css"), FOREVER);
}

#[test]
fn a_new_manifest_is_seen() {
    let site = site();
    let server = files_alone(&site, &["--static-check", "0"]);
    let hashed = "/static/base.210987654321.css";
    assert_eq!(caching(&server, hashed), "public, max-age=60");
    let manifest = r#"{"paths": {"base.css": "base.210987654321.css"}}"#;
    std::fs::write(site.path().join("static/staticfiles.json"), manifest).unwrap();
    assert_eq!(caching(&server, hashed), FOREVER);
    assert_eq!(
        caching(&server, "/static/logo.123456789012.svg"),
        "public, max-age=60"
    );
}

#[test]
fn a_location_can_leave_missing_files_to_the_application() {
    let site = site();
    let all = format!("/={}", site.path().join("spa").display());
    let server = Pyserve::app("journal.py")
        .args(["--root", "/", "--static", &all, "--static-missing", "app"])
        .ready();
    assert_eq!(server.get("/app.js").text(), "js()");
    assert_eq!(server.get("/").text(), "<p>application", "the index");
    for target in ["/missing", "/app.js/", "/.env", "/100%", "/x/..%2fy"] {
        let response = server.get(target);
        assert_eq!(
            response.text(),
            "0",
            "the app answers {target}: {response:?}"
        );
    }
    let response = server.exchange(&post("/app.js", "form"));
    assert_eq!(response.text(), "4", "the app answers other methods");
    server.probe.notes.wait_for_nth("called", 6);
    assert_eq!(server.probe.notes.count("called"), 6);
}

/// With a time of validity that would outlast the test.
#[test]
fn a_file_that_comes_later_is_served_at_once() {
    let site = site();
    let path = |name: &str| site.path().join("spa").join(name);
    let all = format!("/={}", site.path().join("spa").display());
    let args = ["--root", "/", "--static", &all, "--static-check", "1h"];
    // The application makes the file and redirects to the same URL, as thumbnailers do.
    let server = Pyserve::app("makes_files.py")
        .env("MADE", site.path().join("spa"))
        .args(args)
        .args(["--static-missing", "app"])
        .ready();
    // The name of the last one is not UTF-8.
    for name in ["/thumb.jpg", "/other", "/caf%E9%FF.jpg"] {
        let made = server.get(name);
        assert_eq!(made.status(), 302, "{name}");
        assert_eq!(
            server.get(&made.header("Location").unwrap()).text(),
            format!("made for {name}")
        );
        server.probe.notes.wait_for(&format!("made {name}"));
        assert_eq!(server.probe.notes.count(&format!("made {name}")), 1);
    }
    let server = files_alone(
        &site,
        &[&args[..], &["--static-missing", "index.html"]].concat(),
    );
    assert_eq!(server.get("/route").text(), "<p>application");
    std::fs::write(path("route"), "a file").unwrap();
    assert_eq!(server.get("/route").text(), "a file");
    let server = files_alone(&site, &args);
    assert_eq!(server.get("/late.txt").status(), 404);
    std::fs::write(path("late.txt"), "late").unwrap();
    assert_eq!(server.get("/late.txt").text(), "late");
}

/// RFC 9110 §12.5.5: a cache must not give the page to a script that asks for the same path.
#[test]
fn a_fallback_page_names_the_fields_that_chose_it() {
    let site = site();
    let server = files_alone(
        &site,
        &["--static", "/=spa", "--static-missing", "/=index.html"],
    );
    let varies = |response: &Response| {
        let lines = response.headers("Vary").join(",");
        let mut names: Vec<_> = lines
            .split(',')
            .map(|name| name.trim().to_ascii_lowercase())
            .collect();
        names.sort();
        names.retain(|name| !name.is_empty() && name != "accept-encoding");
        names
    };
    let consulted = ["accept", "sec-fetch-dest", "sec-fetch-mode"];
    let html = "Accept: text/html\r\n";
    let page = ask(&server, "/users/7", html);
    assert_eq!(
        (page.status(), varies(&page)),
        (200, consulted.map(str::to_owned).into())
    );
    let tag = page.header("ETag").unwrap();
    let held = ask(
        &server,
        "/users/7",
        &format!("{html}If-None-Match: {tag}\r\n"),
    );
    assert_eq!(
        (held.status(), varies(&held)),
        (304, consulted.map(str::to_owned).into())
    );
    let head = server.exchange(&request("HEAD", "/users/7", html));
    assert_eq!(varies(&head), consulted);
    let part = ask(&server, "/users/7", &format!("{html}Range: bytes=0-1\r\n"));
    assert_eq!(
        (part.status(), varies(&part)),
        (206, consulted.map(str::to_owned).into())
    );
    // What is not chosen by them does not name them; an error is not stored.
    assert!(varies(&ask(&server, "/", html)).is_empty());
    assert!(varies(&ask(&server, "/app.js", "")).is_empty());
    let missing = ask(&server, "/missing.js", "Sec-Fetch-Dest: script\r\n");
    assert_eq!(missing.status(), 404);
    assert_eq!(missing.header("Cache-Control").as_deref(), Some("no-store"));
}

#[test]
fn a_single_page_application_answers_for_its_pages() {
    let site = site();
    let all = format!("/={}", site.path().join("spa").display());
    let server = files_alone(
        &site,
        &["--static", &all, "--static-missing", "/=index.html"],
    );
    let html = "Accept: text/html,*/*;q=0.8\r\n";
    for (target, lines) in [
        ("/users/7", ""),
        ("/users/7/", ""),
        ("/users/jane.doe", html),
        ("/blob/setup.py", html),
        ("/blob/setup.py", "Sec-Fetch-Mode: navigate\r\n"),
        ("/users/a.b@c.de", html),
        ("/caf%E9", html),
        (
            "/caf%E9",
            "Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n",
        ),
        ("/blob/.gitignore?ref=a", html),
        ("/app.3f2a.js/", html),
        ("/", ""),
    ] {
        let head = server.exchange(&request("HEAD", target, lines));
        assert_eq!(head.status(), 200, "{target}");
        let response = ask(&server, target, lines);
        assert_eq!(response.status(), 200, "{target}");
        assert_eq!(response.text(), "<p>application", "{target}");
        let caching = response.header("Cache-Control");
        assert_eq!(caching.as_deref(), Some("no-cache"), "{target}");
    }
    for (target, lines, status) in [
        ("/missing.js", "Accept: */*\r\n", 404),
        (
            "/app.3f2a.js",
            "Sec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: script\r\n",
            404,
        ),
        (
            "/chunk",
            "Sec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: script\r\n",
            404,
        ),
        ("/caf%E9", "Accept: */*\r\n", 404),
        ("/blob/setup.py", "", 404),
        ("/.git/config", "", 404),
        ("/%zz", html, 400),
        ("/.env", html, 404),
        ("/%00", html, 400),
        ("/static/missing", html, 404),
    ] {
        let response = ask(&server, target, lines);
        assert_eq!(response.status(), status, "{target}");
    }
    assert_eq!(server.exchange(&post("/users/7", "")).status(), 405);
    assert_eq!(server.get("/app.js").text(), "js()");
}

#[test]
fn hidden_files_are_served_only_on_demand() {
    let site = site();
    for (args, status) in [(&[][..], 404), (&["--static-hidden", "yes"][..], 200)] {
        let server = files_alone(&site, args);
        for target in ["/static/.env", "/static/a.py"] {
            assert_eq!(server.get(target).status(), status, "{target}");
        }
    }
}

#[test]
fn links_lead_into_declared_directories_only() {
    let site = site();
    let elsewhere = temp_dir();
    write_files(
        elsewhere.path(),
        &[("shared/a.css", "shared"), ("secret/a.css", "SECRET")],
    );
    let link = |target: &Path, name: &str| {
        symlink(target, site.path().join("static").join(name)).unwrap();
    };
    let shared = elsewhere.path().join("shared");
    link(&shared.join("a.css"), "shared.css");
    link(&shared, "shared");
    link(&elsewhere.path().join("secret/a.css"), "secret.css");
    link(&site.path().join("css/site.css"), "absolute.css");
    link(Path::new("../css/site.css"), "relative.css");
    let statuses = |args: &[&str]| {
        let server = files_alone(&site, args);
        [
            "absolute.css",
            "relative.css",
            "shared.css",
            "shared/a.css",
            "secret.css",
        ]
        .map(|name| server.get(&format!("/static/{name}")).status())
    };
    assert_eq!(statuses(&[]), [200, 200, 404, 404, 404]);
    let shared = shared.display().to_string();
    assert_eq!(
        statuses(&["--static-links", &shared]),
        [200, 200, 200, 200, 404]
    );
}

#[test]
fn what_is_remembered_needs_no_disk_until_it_has_to_be_checked() {
    let site = site();
    let path = site.path().join("static/base.css");
    let server = files_alone(&site, &["--static-check", "1h"]);
    assert_eq!(server.get("/static/base.css").text(), "p {}");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(server.get("/static/base.css").text(), "p {}");
    assert_eq!(server.get("/%73tatic//base.css").text(), "p {}");

    std::fs::write(&path, "new").unwrap();
    for args in [["--static-check", "0"], ["--static-cache", "no"]] {
        let server = files_alone(&site, &args);
        for text in ["new", "newer", "n3wer"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(server.get("/static/base.css").text(), text, "{args:?}");
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(server.get("/static/base.css").status(), 404, "{args:?}");
    }
}

#[test]
fn memory_for_files_has_a_limit() {
    let site = site();
    for number in 0..64 {
        let name = site.path().join(format!("static/{number}.txt"));
        std::fs::write(name, format!("{number:060000}")).unwrap();
    }
    let server = files_alone(&site, &["--static-cache", "1M", "--static-check", "1h"]);
    let mut connection = server.connect();
    for number in (0..64).chain(0..64) {
        let request = format!("GET /static/{number}.txt HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(
            connection.exchange(request).text(),
            format!("{number:060000}")
        );
    }
    for number in 0..64 {
        std::fs::remove_file(site.path().join(format!("static/{number}.txt"))).unwrap();
    }
    let remembered = (0..64)
        .filter(|number| server.get(&format!("/static/{number}.txt")).status() == 200)
        .count();
    assert!((8..=17).contains(&remembered), "{remembered} of 64 fit");
}

#[test]
fn reading_files_takes_no_more_threads_than_the_pool_has() {
    let site = site();
    let server = files_alone(&site, &["--static-cache", "no"]);
    let request = "GET /static/base.css HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut connections: Vec<_> = (0..64).map(|_| server.connect()).collect();
    for connection in &mut connections {
        connection.send(request.repeat(100));
    }
    for connection in &mut connections {
        for _ in 0..100 {
            assert_eq!(connection.response().text(), "p {}");
        }
    }
    let tasks = format!("/proc/{}/task", server.pid().as_raw_nonzero());
    let tasks = std::fs::read_dir(tasks).unwrap().filter_map(Result::ok);
    // A thread may end while we look.
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    let names: Vec<_> = names.collect();
    let pool = names
        .iter()
        .filter(|name| name.starts_with("pyserve-front"));
    // 32 for files and 4 for encoders, which the runtime does not tell apart.
    assert!((2..=32 + 4).contains(&pool.count()), "{names:?}");
}

#[test]
fn a_file_replaced_during_its_download_is_delivered_as_it_was_begun() {
    let site = site();
    let path = site.path().join("static/large.bin");
    let content: Vec<u8> = (0..20_000_000_u32).map(|at| (at % 249) as u8).collect();
    std::fs::write(&path, &content).unwrap();
    let server = files_alone(&site, &[]);
    for removed in [false, true] {
        std::fs::write(&path, &content).unwrap();
        let mut connection = server.connect();
        connection.send("GET /static/large.bin HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = connection.response_to_head();
        assert_eq!(head.header("Content-Length").as_deref(), Some("20000000"));
        if removed {
            std::fs::remove_file(&path).unwrap();
        } else {
            let new = site.path().join("static/new.bin");
            std::fs::write(&new, "another file").unwrap();
            std::fs::rename(new, &path).unwrap();
        }
        assert!(connection.exactly(content.len()) == content);
    }
}
