//! Files from disk: exact prefixes, nothing outside the root, and no Python involved.

use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

use crate::support::raw::{End, Response};
use crate::support::server::{Ended, Pyserve, Server, get, request};
use crate::support::{temp_dir, write_files};

/// A document root with something to find and something to keep.
fn site() -> TempDir {
    let dir = temp_dir();
    write_files(
        dir.path(),
        &[
            ("static/a.txt", "text of a\n"),
            ("static/page.html", "<p>page"),
            ("static/app.js", "js()"),
            ("static/style.css", "p {}"),
            ("static/data.json", "{}"),
            ("static/picture.svg", "<svg/>"),
            ("static/raw.unknown-type", "?"),
            ("static/space and caf\u{e9}.txt", "odd name"),
            ("static/empty.txt", ""),
            ("static/sub/index.html", "index of sub"),
            ("static/bare/file.txt", "no index here"),
            ("static/.env", "SECRET"),
            ("static/.git/config", "SECRET"),
            ("static/.well-known/hello", "well known"),
            ("static/settings.py", "SECRET"),
            ("static/settings.pyc", "SECRET"),
            ("static/db.sqlite3", "SECRET"),
            ("css/site.css", "b {}"),
            ("static_secret/x.txt", "SECRET"),
            ("secret.txt", "SECRET"),
        ],
    );
    symlink("a.txt", dir.path().join("static/inside")).unwrap();
    symlink("../secret.txt", dir.path().join("static/outside")).unwrap();
    symlink("/etc/passwd", dir.path().join("static/absolute")).unwrap();
    let mode = Mode::from_raw_mode(0o600);
    mknodat(CWD, dir.path().join("static/fifo"), FileType::Fifo, mode, 0).unwrap();
    dir
}

/// The site with an application that would answer whatever is no file.
fn server(site: &TempDir) -> Server {
    Pyserve::app("journal.py")
        .args(["--root"])
        .args([site.path()])
        .args(["--static-check", "0"])
        .ready()
}

fn check_hidden(response: &Response, target: &str) {
    assert!(
        matches!(response.status(), 400 | 403 | 404),
        "{target}: {response:?}"
    );
    assert!(!response.text().contains("SECRET"), "{target}");
    assert!(!response.text().contains("root:"), "{target}");
}

#[test]
fn files_come_with_type_length_and_validators() {
    let site = site();
    let server = server(&site);
    for (target, kind, body) in [
        ("/static/a.txt", "text/plain; charset=utf-8", "text of a\n"),
        ("/static/page.html", "text/html; charset=utf-8", "<p>page"),
        ("/static/app.js", "text/javascript; charset=utf-8", "js()"),
        ("/static/style.css", "text/css; charset=utf-8", "p {}"),
        ("/static/empty.txt", "text/plain; charset=utf-8", ""),
        ("/static/raw.unknown-type", "application/octet-stream", "?"),
        ("/static/inside", "application/octet-stream", "text of a\n"),
        (
            "/static/.well-known/hello",
            "application/octet-stream",
            "well known",
        ),
        (
            "/static/space%20and%20caf%C3%A9.txt",
            "text/plain; charset=utf-8",
            "odd name",
        ),
        (
            "/%73tatic/a%2Etxt",
            "text/plain; charset=utf-8",
            "text of a\n",
        ),
        ("/css/site.css?v=3", "text/css; charset=utf-8", "b {}"),
        ("/static/sub/", "text/html; charset=utf-8", "index of sub"),
    ] {
        let response = server.get(target);
        assert_eq!(response.status(), 200, "{target}: {response:?}");
        assert_eq!(response.text(), body, "{target}");
        assert_eq!(
            response.header("Content-Type").as_deref(),
            Some(kind),
            "{target}"
        );
        assert_eq!(
            response.header("Content-Length"),
            Some(body.len().to_string()),
            "{target}"
        );
        assert_eq!(
            response.header("X-Content-Type-Options").as_deref(),
            Some("nosniff")
        );
        for name in ["Date", "ETag", "Last-Modified"] {
            assert!(response.header(name).is_some(), "{name} of {target}");
        }
    }
    for target in ["/static/data.json", "/static/picture.svg"] {
        let kind = server.get(target).header("Content-Type").unwrap();
        assert!(kind.starts_with("application/json") || kind.starts_with("image/svg+xml"));
    }
    assert_eq!(server.probe.notes.count("called"), 0);
}

#[test]
fn types_can_be_set_for_all_files_and_for_those_of_a_location() {
    let dir = temp_dir();
    let files = [
        "a.ts",
        "a.rpm",
        "LICENSE",
        "b.tar.gz",
        ".well-known/apple-app-site-association",
    ];
    for name in files {
        write_files(
            dir.path(),
            &[
                (&format!("static/{name}"), "x"),
                (&format!("own/{name}"), "x"),
            ],
        );
    }
    let toml = r#"
        types = { LICENSE = "text/plain", ".tar.gz" = "application/x.all" }
        [[location]]
        prefix = "/own"
        static = "own"
        types = { ts = "text/x.ts; charset=ascii", "tar.gz" = "application/x.own" }
    "#;
    std::fs::write(dir.path().join("pyserve.toml"), toml).unwrap();
    let own = [
        "text/x.ts; charset=ascii",
        "application/x-redhat-package-manager",
        "text/plain; charset=utf-8",
        "application/x.own",
        "application/json; charset=utf-8",
    ];
    let general = [
        "video/mp2t",
        "application/x-redhat-package-manager",
        "text/plain; charset=utf-8",
        "application/x.all",
        "application/json; charset=utf-8",
    ];
    let server = Pyserve::new().current_dir(dir.path()).ready();
    let policy = |server: &Server, prefix: &str| {
        files.map(|name| {
            let response = server.get(&format!("{prefix}/{name}"));
            response.header("Content-Type").unwrap()
        })
    };
    assert_eq!(policy(&server, "/static"), general);
    assert_eq!(policy(&server, "/own"), own);
    // The environment, and the command line that wins over it.
    let server = Pyserve::new()
        .current_dir(dir.path())
        .env("PYSERVE_TYPES", "ts=text/one,rpm=text/two")
        .ready();
    assert_eq!(
        policy(&server, "/static")[..2],
        ["text/one; charset=utf-8", "text/two; charset=utf-8"]
    );
    let server = Pyserve::new()
        .current_dir(dir.path())
        .env("PYSERVE_TYPES", "ts=text/one")
        .args(["--types", "rpm=text/three"])
        .ready();
    assert_eq!(
        policy(&server, "/static")[..2],
        ["video/mp2t", "text/three; charset=utf-8"]
    );
}

#[test]
fn a_prefix_ends_at_a_segment() {
    let site = site();
    let server = server(&site);
    for target in [
        "/staticfoo",
        "/static_secret/x.txt",
        "/static../secret.txt",
        "/",
        "/st",
        "/Static/a.txt",
    ] {
        let response = server.get(target);
        assert_eq!(
            response.text(),
            "0",
            "the app answers {target}: {response:?}"
        );
    }
    server.probe.notes.wait_for_nth("called", 6);
    assert_eq!(server.get("/static/absent.txt").status(), 404);
    assert_eq!(
        server.probe.notes.count("called"),
        6,
        "a missing file is no matter of the app"
    );
}

#[test]
fn nothing_outside_the_root_can_be_reached() {
    let site = site();
    let server = server(&site);
    // As with nginx, these name `/secret.txt`, which is no path of a file here.
    for target in [
        "/static/../secret.txt",
        "/static/%2e%2e/secret.txt",
        "/static/.%2e/secret.txt",
        "/static/..%2fsecret.txt",
        "/static/%2e%2e%2fsecret.txt",
        "/static/sub/../../secret.txt",
        "/static/sub/%2e%2e/%2e%2e/secret.txt",
        "/static/./../secret.txt",
    ] {
        assert_eq!(server.get(target).text(), "0", "the app answers {target}");
    }
    server.probe.notes.wait_for_nth("called", 8);
    for target in [
        "/static/../../secret.txt",
        "/static/%2e%2e/%2e%2e/secret.txt",
        "/../static/a.txt",
        "/static/..%2f..%2f..%2fetc%2fpasswd",
        "/static/..%5csecret.txt",
        "/static/..\\secret.txt",
        "/static/.%00./secret.txt",
        "/static/a.txt%00.html",
        "/static/%c0%ae%c0%ae/secret.txt",
        "/static/%252e%252e/secret.txt",
        "/static/..;/secret.txt",
        "/static//etc/passwd",
        "/static/%2fetc/passwd",
        "/static/outside",
        "/static/absolute",
        "/static/%",
        "/static/%zz",
        "/static/\u{ff}",
    ] {
        let mut connection = server.connect();
        let bytes: Vec<u8> = target.chars().map(|char| u32::from(char) as u8).collect();
        let request = [b"GET ", &bytes[..], b" HTTP/1.1\r\nHost: localhost\r\n\r\n"].concat();
        check_hidden(&connection.exchange(request), target);
    }
    assert_eq!(server.probe.notes.count("called"), 8);
}

#[test]
fn nothing_hidden_is_served_by_any_of_its_names() {
    let site = site();
    let names = [
        "db.sqlite3-wal",
        "db.sqlite3-journal",
        "app.db",
        "settings.py~",
        "settings.py.bak",
        "x.pyo",
        "settings.py.gz",
        "X.PY",
        "%23index.html%23",
        "index.html.orig",
        "a.swp",
        "x.sqlite3.br",
        "__pycache__/a.txt",
        "sub/.git/config",
        "..data/mounted.txt",
    ];
    for name in names {
        let name = name.replace("%23", "#");
        write_files(site.path(), &[(&format!("static/{name}"), "SECRET")]);
    }
    let mut targets: Vec<_> = names.map(|name| format!("/static/{name}")).into();
    // A visible link to it, a chain of links, an index that is one, and a neighbour.
    for (link, target) in [
        ("env.txt", ".env"),
        ("chain.txt", "env.txt"),
        ("code.txt", "settings.py"),
        ("config.txt", ".git/config"),
        ("repository", ".git"),
        ("bare/index.html", "../.env"),
        ("database.bin", "db.sqlite3"),
    ] {
        symlink(target, site.path().join("static").join(link)).unwrap();
        targets.push(format!("/static/{link}"));
    }
    symlink(
        site.path().join("static/.env"),
        site.path().join("static/absolute.txt"),
    )
    .unwrap();
    symlink("../static/.git/config", site.path().join("css/across.txt")).unwrap();
    targets.extend(
        [
            "/static/absolute.txt",
            "/css/across.txt",
            "/static/bare/",
            "/static/repository/config",
        ]
        .map(String::from),
    );
    symlink("..data/mounted.txt", site.path().join("static/mounted.txt")).unwrap();
    let server = server(&site);
    for target in &targets {
        let response = server.get(target);
        assert_eq!(response.status(), 404, "{target}: {response:?}");
        check_hidden(&response, target);
    }
    let lines = "Accept-Encoding: gzip\r\n";
    symlink(".env", site.path().join("static/a.txt.gz")).unwrap();
    let response = server.exchange(&request("GET", "/static/a.txt", lines));
    assert_eq!(response.text(), "text of a\n");
    // As Kubernetes mounts a ConfigMap.
    assert_eq!(server.get("/static/mounted.txt").text(), "SECRET");
    let server = Pyserve::new()
        .current_dir(site.path())
        .args(["--static-hidden", "yes"])
        .ready();
    let is_file = |target: &&String| !target.contains("..") && !target.ends_with("repository");
    for target in targets.iter().filter(is_file) {
        assert_eq!(server.get(target).text(), "SECRET", "{target}");
    }
}

#[test]
fn what_is_no_public_file_is_not_found_at_once() {
    let site = site();
    let server = server(&site);
    for target in [
        "/static/fifo",
        "/static/",
        "/static/bare/",
        "/static/bare",
        "/static/.env",
        "/static/.git/config",
        "/static/settings.py",
        "/static/settings.pyc",
        "/static/db.sqlite3",
        "/static/a.txt/",
        "/static/a.txt/b",
    ] {
        let response = server.get(target);
        assert_eq!(response.status(), 404, "{target}: {response:?}");
        check_hidden(&response, target);
    }
}

#[test]
fn a_directory_with_an_index_is_redirected_to_its_slash() {
    let site = site();
    let server = server(&site);
    let response = server.get("/static/sub?q=1");
    assert!(matches!(response.status(), 301 | 308), "{response:?}");
    assert_eq!(
        response.header("Location").as_deref(),
        Some("/static/sub/?q=1")
    );
}

#[test]
fn validators_answer_304_without_a_body() {
    let site = site();
    let server = server(&site);
    let mut connection = server.connect();
    let first = connection.exchange(get("/static/a.txt"));
    let tag = first.header("ETag").expect("a tag");
    let date = first.header("Last-Modified").expect("a date");
    for (lines, status) in [
        (format!("If-None-Match: {tag}\r\n"), 304),
        (format!("If-None-Match: W/{tag}\r\n"), 304),
        (format!("If-None-Match: \"x\", {tag}\r\n"), 304),
        ("If-None-Match: *\r\n".into(), 304),
        ("If-None-Match: \"x\"\r\n".into(), 200),
        (format!("If-Modified-Since: {date}\r\n"), 304),
        (
            "If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n".into(),
            200,
        ),
        ("If-Modified-Since: nonsense\r\n".into(), 200),
        (
            format!("If-None-Match: \"x\"\r\nIf-Modified-Since: {date}\r\n"),
            200,
        ),
    ] {
        let response = connection.exchange(request("GET", "/static/a.txt", &lines));
        assert_eq!(response.status(), status, "{lines}");
        assert_eq!(response.header("ETag").as_ref(), Some(&tag), "{lines}");
        let body = if status == 200 { "text of a\n" } else { "" };
        assert_eq!(response.text(), body, "{lines}");
    }
    std::fs::write(site.path().join("static/a.txt"), "another text").unwrap();
    let response = connection.exchange(request(
        "GET",
        "/static/a.txt",
        &format!("If-None-Match: {tag}\r\n"),
    ));
    assert_eq!(response.text(), "another text");
}

#[test]
fn head_has_the_headers_of_get_and_no_body() {
    let site = site();
    let server = server(&site);
    let mut connection = server.connect();
    for target in ["/static/a.txt", "/static/absent.txt"] {
        let head = connection.exchange(request("HEAD", target, ""));
        let full = connection.exchange(get(target));
        assert_eq!(head.status(), full.status(), "{target}");
        for name in ["Content-Length", "Content-Type", "ETag"] {
            assert_eq!(head.header(name), full.header(name), "{name} of {target}");
        }
    }
}

#[test]
fn other_methods_are_405_and_touch_nothing() {
    let site = site();
    let server = server(&site);
    for method in ["POST", "PUT", "DELETE", "PATCH", "MOVE", "COPY", "PROPFIND"] {
        for target in ["/static/a.txt", "/static/absent.txt", "/static/fifo"] {
            let response = server.exchange(&request(method, target, "Content-Length: 0\r\n"));
            assert_eq!(response.status(), 405, "{method} {target}");
            let allow = response
                .header("Allow")
                .expect("RFC 9110 §15.5.6 demands Allow");
            assert!(allow.contains("GET") && allow.contains("HEAD"), "{allow}");
        }
    }
    assert_eq!(
        std::fs::read(site.path().join("static/a.txt")).unwrap(),
        b"text of a\n"
    );
}

#[test]
fn files_over_one_block_arrive_byte_for_byte() {
    let site = site();
    let content: Vec<u8> = (0..3_000_001_u32)
        .map(|number| (number % 251) as u8)
        .collect();
    std::fs::write(site.path().join("static/big.bin"), &content).unwrap();
    let server = server(&site);
    let mut connection = server.connect();
    for _ in 0..2 {
        let response = connection.exchange(get("/static/big.bin"));
        assert!(response.body == content, "{} bytes", response.body.len());
    }
}

#[test]
fn a_file_that_shrinks_while_it_is_sent_breaks_the_transfer() {
    let site = site();
    let path = site.path().join("static/big.bin");
    let length = 64 << 20;
    std::fs::File::create(&path)
        .unwrap()
        .set_len(length)
        .unwrap();
    let server = server(&site);
    let mut connection = server.connect();
    connection.send(get("/static/big.bin"));
    let head = connection.response_to_head();
    assert_eq!(head.header("Content-Length"), Some(length.to_string()));
    // Neither the kernel nor the server holds 64 MiB for a client that does not read.
    std::fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(1000)
        .unwrap();
    let (body, end) = connection.rest();
    assert!((body.len() as u64) < length, "{}", body.len());
    assert_ne!(end, End::TimedOut);
    assert_eq!(server.get("/static/a.txt").status(), 200);
}

#[test]
fn a_backslash_is_a_letter_of_a_name() {
    let site = site();
    let path = site.path().join("static");
    std::fs::write(path.join("back\\slash.txt"), "backslash").unwrap();
    std::fs::create_dir(path.join("a\\b")).unwrap();
    std::fs::write(path.join("a\\b/index.html"), "index").unwrap();
    let server = server(&site);
    for (target, body) in [
        ("/static/back%5Cslash.txt", "backslash"),
        ("/static/back%5cslash.txt", "backslash"),
        ("/static/back\\slash.txt", "backslash"),
        ("/static/a%5Cb/", "index"),
    ] {
        let response = server.get(target);
        assert_eq!(
            (response.status(), response.text()),
            (200, body.to_owned()),
            "{target}"
        );
    }
    let location = server.get("/static/a%5Cb").header("Location");
    assert_eq!(location.as_deref(), Some("/static/a%5Cb/"));
    for target in [
        "/static/sub%5Ca.txt",
        "/static/..%5c..%5csecret.txt",
        "/static/%5C..%5Ca.txt",
    ] {
        assert_eq!(server.get(target).status(), 404, "{target}");
    }
}

#[test]
fn locations_can_be_added_and_predefined_ones_replaced() {
    let site = site();
    let extra = temp_dir();
    write_files(extra.path(), &[("x.txt", "extra"), ("deep/x.txt", "deep")]);
    let at = |prefix: &str, dir: &Path| format!("{prefix}={}", dir.display());
    let server = Pyserve::app("journal.py")
        .args(["--root"])
        .args([site.path()])
        .args(["--static", &at("/media", extra.path())])
        .args(["--static", &at("/css", extra.path())])
        .args(["--static", &at("/media/inner", &extra.path().join("deep"))])
        .ready();
    for (target, body) in [
        ("/media/x.txt", "extra"),
        ("/css/x.txt", "extra"),
        ("/media/inner/x.txt", "deep"),
        ("/static/a.txt", "text of a\n"),
    ] {
        assert_eq!(server.get(target).text(), body, "{target}");
    }
    assert_eq!(server.get("/css/site.css").status(), 404, "replaced");
}

#[test]
fn files_are_served_while_the_application_boots() {
    let site = site();
    let server = Pyserve::app("boot_held.py")
        .args(["--root"])
        .args([site.path()])
        .listening();
    let importing = server.probe.held("importing");
    assert_eq!(server.get("/static/a.txt").text(), "text of a\n");
    let mut early = server.connect();
    early.send(get("/"));
    importing.release();
    assert_eq!(
        early.response().text(),
        "booted",
        "a request waits for the boot"
    );
}

#[test]
fn files_are_served_while_every_worker_hangs_or_has_crashed() {
    let site = site();
    let server = Pyserve::app("held.py")
        .args(["--root"])
        .args([site.path()])
        .ready();
    let (mut hanging, held) = server.hold("/hanging");
    assert_eq!(server.get("/static/a.txt").text(), "text of a\n");
    held.release();
    assert_eq!(hanging.response().status(), 200);

    let server = Pyserve::app("dying.py")
        .args(["--root"])
        .args([site.path()])
        .ready();
    let mut connection = server.connect();
    assert_eq!(connection.exchange(get("/exit")).status(), 502);
    assert_eq!(
        connection.exchange(get("/static/a.txt")).text(),
        "text of a\n"
    );
}

#[test]
fn a_server_of_files_alone_needs_no_python() {
    let site = site();
    let nowhere = temp_dir();
    let server = Pyserve::new()
        .without("PYSERVE_PYTHON")
        .env("PATH", nowhere.path())
        .current_dir(site.path())
        .ready();
    assert_eq!(server.get("/static/a.txt").text(), "text of a\n");
    assert_eq!(server.get("/other").status(), 404);
}

#[test]
fn a_static_directory_that_is_not_there_is_an_error_and_a_predefined_one_is_not() {
    let empty = temp_dir();
    let Ended { code, stderr, .. } = Pyserve::app("hello.py")
        .args([
            "--static",
            &format!("/media={}/absent", empty.path().display()),
        ])
        .run();
    assert_eq!(code, 78, "{stderr}");
    assert!(stderr.contains("absent"), "{stderr}");
    assert!(stderr.contains("static"), "{stderr}");

    let server = Pyserve::app("hello.py")
        .args(["--root"])
        .args([empty.path()])
        .ready();
    assert_eq!(
        server.get("/static/a.txt").text(),
        "hello",
        "no such location"
    );
}
