//! Listings of directories without an index, as HTML and JSON.

use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

use crate::support::http2::{Http2, Outcome, get_fields};
use crate::support::server::{Pyserve, Server, request};
use crate::support::{make_fifo, temp_dir, write_files};

const TOML: &str = "
    [[location]]
    prefix = '/files'
    static = 'files'
    listing = true
    [[location]]
    prefix = '/closed'
    static = 'files'
    [[location]]
    prefix = '/open'
    static = 'files'
    listing = true
    missing = 'app'
    [[location]]
    prefix = '/'
    respond = 'of the other'
";

fn site() -> (Server, tempfile::TempDir) {
    let dir = temp_dir();
    write_files(
        dir.path(),
        &[
            ("pyserve.toml", TOML),
            ("files/b.txt", "12345"),
            ("files/a.txt", "1"),
            ("files/sub/deep.txt", "deep"),
            ("files/sub/caf\u{e9} & <b>.txt", "x"),
            ("files/with/index.html", "the index"),
            ("files/javascript:alert(1)", "x"),
            ("files/.env", "SECRET"),
            ("files/.git/config", "SECRET"),
            ("files/settings.py", "SECRET"),
            ("files/__pycache__/x", "SECRET"),
            ("outside/secret.txt", "SECRET"),
        ],
    );
    let files = dir.path().join("files");
    symlink("../outside", files.join("leads-outside")).unwrap();
    symlink("../outside/secret.txt", files.join("leads-outside.txt")).unwrap();
    symlink(".env", files.join("leads-to-hidden.txt")).unwrap();
    symlink("nothing", files.join("dangling")).unwrap();
    symlink("a.txt", files.join("inside.txt")).unwrap();
    symlink("sub", files.join("inside")).unwrap();
    make_fifo(&files.join("pipe"));
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    let file = std::fs::File::options()
        .write(true)
        .open(files.join("b.txt"));
    file.unwrap().set_modified(time).unwrap();
    (Pyserve::new().current_dir(dir.path()).listening(), dir)
}

#[test]
fn a_listing_has_what_requests_find_and_nothing_else() {
    let (server, _dir) = site();
    let listed = server.exchange(&request("GET", "/files/", "Accept: application/json\r\n"));
    assert_eq!(listed.status(), 200);
    assert_eq!(
        listed.header("Content-Type").as_deref(),
        Some("application/json")
    );
    assert_eq!(listed.header("Vary").as_deref(), Some("Accept"));
    let entries = listed.json();
    let entries = entries.as_array().unwrap();
    let names: Vec<_> = entries
        .iter()
        .map(|entry| {
            (
                entry["type"].as_str().unwrap(),
                entry["name"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        names,
        [
            ("directory", "inside"),
            ("directory", "sub"),
            ("directory", "with"),
            ("file", "a.txt"),
            ("file", "b.txt"),
            ("file", "inside.txt"),
            ("file", "javascript:alert(1)"),
        ]
    );
    let b = &entries[4];
    assert_eq!(b["size"], 5);
    assert_eq!(b["mtime"], "Sun, 06 Nov 1994 08:49:37 GMT");
    for (kind, name) in names {
        let slash = if kind == "directory" { "/" } else { "" };
        assert_eq!(
            server.get(&format!("/files/{name}{slash}")).status(),
            200,
            "{name}"
        );
    }
}

#[test]
fn html_escapes_names_and_a_query_chooses_json() {
    let (server, _dir) = site();
    let page = server.get("/files/");
    assert_eq!(
        page.header("Content-Type").as_deref(),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(
        page.header("X-Content-Type-Options").as_deref(),
        Some("nosniff")
    );
    let text = String::from_utf8(page.body.clone()).unwrap();
    assert!(text.contains("<h1>Index of /files/</h1>"), "{text}");
    assert!(
        text.contains("<td><a href=\"./b.txt\">b.txt</a></td><td>1994-11-06 08:49</td><td>5</td>"),
        "{text}"
    );
    assert!(
        text.contains("<a href=\"./sub/\">sub/</a>") && text.contains("<a href=\"../\">"),
        "{text}"
    );
    // No scheme.
    assert!(text.contains("href=\"./javascript:alert(1)\""), "{text}");
    assert!(
        !text.contains("SECRET") && !text.contains("leads") && !text.contains(".env"),
        "{text}"
    );
    let sub = String::from_utf8(server.get("/files/sub/").body).unwrap();
    let link = "<a href=\"./caf%C3%A9%20&amp;%20%3Cb%3E.txt\">caf\u{e9} &amp; &lt;b&gt;.txt</a>";
    assert!(sub.contains(link), "{sub}");
    assert_eq!(
        server
            .get("/files/sub/caf%C3%A9%20&%20%3Cb%3E.txt")
            .status(),
        200
    );
    let json = server.get("/files/sub/?format=json").json();
    assert_eq!(json[0]["name"], "caf\u{e9} & <b>.txt");
}

#[test]
fn indexes_come_first_slashes_are_added_and_methods_are_those_of_files() {
    let (server, _dir) = site();
    assert_eq!(server.get("/files/with/").text(), "the index");
    for (target, to) in [
        ("/files", "/files/"),
        ("/files/sub?format=json", "/files/sub/?format=json"),
        ("/files/with", "/files/with/"),
    ] {
        let moved = server.get(target);
        assert_eq!(
            (moved.status(), moved.header("Location")),
            (301, Some(to.to_owned()))
        );
    }
    for target in [
        "/files/none/",
        "/files/none",
        "/files/a.txt/",
        "/files/.git/",
        "/files/leads-outside/",
        "/files/__pycache__/",
    ] {
        assert_eq!(server.get(target).status(), 404, "{target}");
    }
    let page = server.get("/files/");
    let head = server.exchange(&request("HEAD", "/files/", ""));
    assert_eq!((head.status(), &*head.body), (200, &b""[..]));
    assert_eq!(head.header("Content-Length"), page.header("Content-Length"));
    assert_eq!(
        server.exchange(&request("POST", "/files/", "")).status(),
        405
    );
    assert_eq!(
        server.exchange(&request("OPTIONS", "/files/", "")).status(),
        204
    );
    // Off by default.
    assert_eq!(server.get("/closed/").status(), 404);
    // Before what answers missing files.
    assert!(
        server
            .get("/open/sub/")
            .text()
            .contains("Index of /open/sub/")
    );
    assert_eq!(server.get("/open/none/").text(), "of the other");

    let mut http2 = Http2::new(server.connect());
    http2.headers(1, &get_fields("/files/"), true);
    assert_eq!(http2.outcome(1), Outcome::Response(200, page.body));
}

#[test]
fn long_directories_are_cut_and_changes_are_seen() {
    let dir = temp_dir();
    std::fs::create_dir_all(dir.path().join("many/new")).unwrap();
    for number in 0..10_050 {
        std::fs::write(dir.path().join(format!("many/{number:05}")), "").unwrap();
    }
    let args = ["--static", "/=many", "--static-listing", "/=yes"];
    let server = Pyserve::new()
        .current_dir(dir.path())
        .args(args)
        .listening();
    let entries = server.get("/?format=json").json();
    assert_eq!(entries.as_array().unwrap().len(), 10_000);
    let text = server.get("/").text();
    assert!(text.contains("The directory has more entries."));
    assert!(!text.contains("\"../\""), "the root has no parent");
    assert_eq!(
        server.get("/new/?format=json").json(),
        serde_json::json!([])
    );
    std::fs::write(dir.path().join("many/new/file"), "").unwrap();
    let began = std::time::Instant::now();
    while server.get("/new/?format=json").json() == serde_json::json!([]) {
        assert!(began.elapsed() < crate::support::DEADLINE);
        std::thread::sleep(Duration::from_millis(50));
    }
}
