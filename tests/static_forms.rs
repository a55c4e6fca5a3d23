//! Encoded forms of files: neighbours, compression in the background, and which form a
//! client gets.

use std::fs::File;
use std::io::{Read, Write};
use std::time::{Duration, Instant, SystemTime};

use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use tempfile::TempDir;

use crate::support::cost::{memory, most_memory, reset_most_memory};
use crate::support::raw::Response;
use crate::support::server::{Pyserve, Server, request};
use crate::support::{DEADLINE, source, temp_dir, write_files};

fn gzipped(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn gunzipped(bytes: &[u8]) -> String {
    let mut text = String::new();
    GzDecoder::new(bytes).read_to_string(&mut text).unwrap();
    text
}

fn unbrotlied(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut decoder = brotli::Decompressor::new(bytes, 4096);
    decoder.read_to_string(&mut text).unwrap();
    text
}

/// A style sheet with all three neighbours (which say their names instead of being
/// encoded: the server does not look into them), a script with one, a picture with one.
fn site() -> TempDir {
    let dir = temp_dir();
    write_files(
        dir.path(),
        &[
            ("static/style.css", "plain style"),
            ("static/style.css.br", "brotli"),
            ("static/style.css.zst", "zstandard"),
            ("static/plain.txt", "short"),
            ("static/picture.png", "picture"),
            ("static/picture.png.gz", "gzip"),
            ("static/style.css.gz", "gzip of the style"),
            ("static/odd.txt", "odd"),
        ],
    );
    std::fs::create_dir(dir.path().join("static/odd.txt.gz")).unwrap();
    std::fs::write(dir.path().join("static/app.js"), "script()").unwrap();
    std::fs::write(dir.path().join("static/app.js.gz"), gzipped("script()")).unwrap();
    dir
}

fn server(site: &TempDir) -> Server {
    Pyserve::new()
        .current_dir(site.path())
        .args(["--static-check", "0"])
        .ready()
}

fn ask(server: &Server, target: &str, lines: &[&str]) -> Response {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    server.exchange(&request("GET", target, &lines))
}

fn accepting(server: &Server, target: &str, codings: &str) -> Response {
    ask(server, target, &[&format!("Accept-Encoding: {codings}")])
}

#[test]
fn the_neighbour_that_the_client_likes_best_is_sent() {
    let site = site();
    let server = server(&site);
    for (codings, text, coding) in [
        ("", "plain style", None),
        ("identity", "plain style", None),
        ("gzip", "gzip of the style", Some("gzip")),
        ("gzip, deflate, br, zstd", "brotli", Some("br")),
        ("gzip, zstd", "zstandard", Some("zstd")),
        ("br;q=0.5, gzip;q=0.9", "gzip of the style", Some("gzip")),
        ("br;q=0, *", "zstandard", Some("zstd")),
        ("identity;q=0, gzip", "gzip of the style", Some("gzip")),
        ("deflate", "plain style", None),
        ("gzip;q=0", "plain style", None),
    ] {
        let response = accepting(&server, "/static/style.css", codings);
        assert_eq!(response.status(), 200, "{codings}");
        assert_eq!(response.text(), text, "{codings}");
        let said = response.header("Content-Encoding");
        assert_eq!(said.as_deref(), coding, "{codings}");
        let vary = response.header("Vary");
        assert_eq!(vary.as_deref(), Some("Accept-Encoding"), "{codings}");
        let kind = response.header("Content-Type");
        assert_eq!(
            kind.as_deref(),
            Some("text/css; charset=utf-8"),
            "{codings}"
        );
        let length = response.header("Content-Length");
        assert_eq!(length, Some(text.len().to_string()), "{codings}");
    }
    let response = accepting(&server, "/static/app.js", "gzip");
    assert_eq!(gunzipped(&response.body), "script()");
    // RFC 9110 §12.5.3: rather the identity than a 406, whatever the client refuses.
    for refused in [
        "identity;q=0",
        "*;q=0",
        "identity;q=0, deflate",
        "gzip;q=1.0, *;q=0",
        "identity;q=0, gzip",
    ] {
        for (target, text) in [
            ("/static/plain.txt", "short"),
            ("/static/picture.png", "picture"),
        ] {
            let response = accepting(&server, target, refused);
            assert_eq!(response.status(), 200, "{target} {refused}");
            assert_eq!(response.text(), text, "{target} {refused}");
        }
    }
    // Of itself, a neighbour is a file like any other.
    let response = accepting(&server, "/static/app.js.gz", "gzip");
    assert_eq!(response.header("Content-Encoding"), None);
    assert_eq!(
        response.header("Content-Type").as_deref(),
        Some("application/gzip")
    );
    for target in [
        "/static/picture.png",
        "/static/odd.txt",
        "/static/plain.txt",
    ] {
        let response = accepting(&server, target, "gzip, br");
        assert_eq!(response.header("Content-Encoding"), None, "{target}");
        assert_eq!(response.header("Vary"), None, "{target}");
    }
}

/// An upload of `victim.txt.gz` must not replace `victim.txt`.
#[test]
fn neighbours_stand_in_for_a_file_where_a_build_puts_them_and_where_that_is_asked_for() {
    let site = site();
    let uploads = site.path().join("static").display().to_string();
    let toml = format!(
        "[[location]]\nprefix = '/table'\nstatic = '{uploads}'\n\
         [[location]]\nprefix = '/packed'\nstatic = '{uploads}'\nprecompressed = true\n"
    );
    std::fs::write(site.path().join("pyserve.toml"), toml).unwrap();
    let serve = |args: &[&str]| {
        let server = Pyserve::new().current_dir(site.path());
        server
            .args([
                "--static-check",
                "0",
                "--static",
                &format!("/media={uploads}"),
            ])
            .args(args)
            .ready()
    };
    let coding = |server: &Server, prefix: &str| {
        let response = accepting(server, &format!("{prefix}/style.css"), "gzip, br, zstd");
        assert_eq!(response.status(), 200, "{prefix}");
        let coding = response.header("Content-Encoding");
        assert_eq!(
            coding.is_none(),
            response.text() == "plain style",
            "{prefix}"
        );
        assert_eq!(
            coding.is_none(),
            response.header("Vary").is_none(),
            "{prefix}"
        );
        coding
    };
    let server = serve(&[]);
    assert_eq!(coding(&server, "/media"), None);
    assert_eq!(coding(&server, "/table"), None);
    assert_eq!(coding(&server, "/packed").as_deref(), Some("br"));
    assert_eq!(coding(&server, "/static").as_deref(), Some("br"));
    // It is a file of its own everywhere.
    assert_eq!(
        server.get("/media/style.css.gz").text(),
        "gzip of the style"
    );
    let server = serve(&[
        "--static-precompressed",
        "/media=yes",
        "--static-precompressed",
        "/static=no",
    ]);
    assert_eq!(coding(&server, "/media").as_deref(), Some("br"));
    assert_eq!(coding(&server, "/table"), None);
    assert_eq!(coding(&server, "/static"), None);
    let server = serve(&["--static-precompressed", "yes"]);
    assert_eq!(coding(&server, "/table").as_deref(), Some("br"));
}

#[test]
fn every_form_has_a_tag_of_its_own() {
    let site = site();
    let server = server(&site);
    let codings = ["identity", "gzip", "zstd", "br"];
    let tags = codings.map(|coding| {
        let response = accepting(&server, "/static/style.css", coding);
        response.header("ETag").unwrap()
    });
    for (at, tag) in tags.iter().enumerate() {
        assert!(
            !tag.starts_with("W/") && !tags[..at].contains(tag),
            "{tags:?}"
        );
        for coding in codings {
            let lines = [
                format!("Accept-Encoding: {coding}"),
                format!("If-None-Match: {tag}"),
            ];
            let lines: Vec<_> = lines.iter().map(String::as_str).collect();
            let response = ask(&server, "/static/style.css", &lines);
            let expected = if coding == codings[at] { 304 } else { 200 };
            assert_eq!(response.status(), expected, "{tag} {coding}");
            let vary = response.header("Vary");
            assert_eq!(vary.as_deref(), Some("Accept-Encoding"), "{tag} {coding}");
        }
    }
}

/// The entity tag of the style for a client that accepts `codings`.
fn tag(server: &Server, codings: &str) -> String {
    let response = accepting(server, "/static/style.css", codings);
    response.header("ETag").unwrap()
}

/// The response to a request for the style with these header lines.
fn style(server: &Server, codings: &str, lines: &str) -> Response {
    let lines = format!("Accept-Encoding: {codings}\r\n{lines}\r\n");
    server.exchange(&request("GET", "/static/style.css", &lines))
}

#[test]
fn a_range_is_one_of_the_identity_wherever_the_client_accepts_that() {
    let site = site();
    let server = server(&site);
    let (identity, gzip) = (tag(&server, "identity"), tag(&server, "gzip"));
    let ask = |codings: &str, lines: &str| style(&server, codings, lines);
    for codings in [
        "gzip",
        "gzip, deflate, br, zstd",
        "gzip;q=1.0, identity;q=0.1",
        "*",
    ] {
        for (lines, status, text) in [
            ("Range: bytes=0-4", 206, "plain"),
            ("Range: bytes=-5", 206, "style"),
            ("Range: bytes=11-", 416, ""),
            (
                &format!("Range: bytes=0-4\r\nIf-Range: {identity}"),
                206,
                "plain",
            ),
            (
                &format!("Range: bytes=0-4\r\nIf-Match: {identity}"),
                206,
                "plain",
            ),
            (
                &format!("Range: bytes=0-4\r\nIf-None-Match: {gzip}"),
                206,
                "plain",
            ),
        ] {
            let response = ask(codings, lines);
            assert_eq!(response.status(), status, "{codings} {lines}");
            assert_eq!(
                response.header("Content-Encoding"),
                None,
                "{codings} {lines}"
            );
            if status == 206 {
                assert_eq!(response.text(), text, "{codings} {lines}");
                assert_eq!(response.header("ETag").as_ref(), Some(&identity));
                assert_eq!(response.header("Vary").as_deref(), Some("Accept-Encoding"));
                let range = response.header("Content-Range").unwrap();
                assert!(range.ends_with("/11"), "{range}");
            }
        }
        let several = ask(codings, "Range: bytes=0-1,4-5");
        assert_eq!(several.status(), 206, "{codings}");
        assert!(
            several.text().contains("Content-Range: bytes 4-5/11"),
            "{codings}"
        );
    }
}

#[test]
fn a_range_that_is_not_of_the_identity_gets_the_whole_encoded_form() {
    let site = site();
    let server = server(&site);
    let gzip = tag(&server, "gzip");
    let ask = |codings: &str, lines: &str| style(&server, codings, lines);
    // RFC 9110 §13.1.5: what the client has is a part of another form, so it gets a whole
    // one; what is no range of bytes is as if it were not there (§14.2).
    for lines in [
        &format!("Range: bytes=0-4\r\nIf-Range: {gzip}"),
        "Range: lines=0-4",
        "Range: bytes=4-0",
    ] {
        let response = ask("gzip", lines);
        assert_eq!(response.status(), 200, "{lines}");
        assert_eq!(response.text(), "gzip of the style", "{lines}");
        assert_eq!(response.header("Content-Range"), None, "{lines}");
    }
    // A client that excludes the identity gets an encoded form, and that whole.
    for codings in ["identity;q=0, gzip", "gzip, *;q=0"] {
        for range in ["Range: bytes=0-3", "Range: bytes=900-"] {
            let response = ask(codings, range);
            assert_eq!(response.status(), 200, "{codings} {range}");
            assert_eq!(response.text(), "gzip of the style", "{codings} {range}");
            assert_eq!(response.header("ETag").as_ref(), Some(&gzip));
        }
    }
    // Only the identity has ranges, so no other form announces them.
    assert_eq!(ask("gzip", "").header("Accept-Ranges"), None);
    let plain = ask("identity", "").header("Accept-Ranges");
    assert_eq!(plain.as_deref(), Some("bytes"));
}

#[test]
fn a_download_in_ranges_is_whole_though_the_file_is_compressed_in_between() {
    let server = source_server(&["--static-check", "1h"]);
    let text = std::fs::read(source("README.md")).unwrap();
    let middle = text.len() / 2;
    let part = |range: &str| {
        let range = format!("Range: bytes={range}");
        let lines = ["Accept-Encoding: gzip, deflate", &range];
        let response = ask(&server, "/tree/README.md", &lines);
        assert_eq!(response.status(), 206, "{range}");
        assert_eq!(response.header("Content-Encoding"), None);
        (response.header("ETag"), response.body)
    };
    let (tag, first) = part(&format!("0-{}", middle - 1));
    server.stderr.wait_for_nth("static file compressed", 2);
    let (same_tag, second) = part(&format!("{middle}-"));
    assert_eq!(tag, same_tag);
    assert!([first, second].concat() == text);
    let whole = accepting(&server, "/tree/README.md", "identity;q=0, gzip");
    assert_eq!(whole.header("Content-Encoding").as_deref(), Some("gzip"));
}

#[test]
fn a_neighbour_that_is_older_than_its_file_is_not_sent() {
    let site = site();
    let server = server(&site);
    let base = SystemTime::now() - Duration::from_secs(100);
    let set = |name: &str, nanos: i64| {
        let file = File::options()
            .write(true)
            .open(site.path().join("static").join(name))
            .unwrap();
        let whole = base
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let time = Duration::from_secs(whole) + Duration::from_nanos(500_000_000);
        let time = time.as_nanos() as i64 + nanos;
        let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(time as u64);
        file.set_modified(time).unwrap();
    };
    let is_sent = || {
        let response = accepting(&server, "/static/app.js", "gzip");
        response.header("Content-Encoding").is_some()
    };
    set("app.js", 0);
    for (nanos, expected) in [
        (0, true),
        (1, true),
        (-1, false),
        (-1_000_000_000, false),
        // Cut to a whole second, as archives do.
        (-500_000_000, true),
        (-1_500_000_000, false),
    ] {
        set("app.js.gz", nanos);
        assert_eq!(is_sent(), expected, "{nanos}");
    }
    set("app.js.gz", 1);
    std::fs::write(site.path().join("static/app.js"), "changed()").unwrap();
    let response = accepting(&server, "/static/app.js", "gzip");
    assert_eq!(response.text(), "changed()");
}

/// The source tree: its files are old enough to be compressed at the first request.
fn source_server(args: &[&str]) -> Server {
    let tree = format!("/tree={}", source("").display());
    Pyserve::new()
        .args(["--static", &tree])
        .args(["--log-level", "pyserve::front::static_files=debug,info"])
        .args(args)
        .current_dir(source("tests/support"))
        .ready()
}

#[test]
fn an_empty_neighbour_is_not_sent() {
    let site = site();
    for suffix in ["br", "zst", "gz"] {
        std::fs::write(site.path().join(format!("static/style.css.{suffix}")), "").unwrap();
    }
    let server = server(&site);
    for coding in ["br", "zstd", "gzip"] {
        let response = accepting(&server, "/static/style.css", coding);
        assert_eq!(response.status(), 200);
        assert!(!response.body.is_empty(), "{coding}");
        let identity = server.get("/static/style.css");
        if response.header("Content-Encoding").is_none() {
            assert_eq!(response.body, identity.body);
        }
    }
}

#[test]
fn text_without_neighbours_is_compressed_once_in_the_background() {
    let server = source_server(&["--static-check", "1h"]);
    let text = std::fs::read_to_string(source("README.md")).unwrap();
    let first = accepting(&server, "/tree/README.md", "gzip, br");
    assert_eq!(
        first.body,
        text.as_bytes(),
        "the first client does not wait"
    );
    assert_eq!(first.header("Vary").as_deref(), Some("Accept-Encoding"));
    server.stderr.wait_for_nth("static file compressed", 2);
    let brotli = accepting(&server, "/tree/README.md", "gzip, br");
    assert_eq!(brotli.header("Content-Encoding").as_deref(), Some("br"));
    assert_eq!(unbrotlied(&brotli.body), text);
    let gzip = accepting(&server, "/tree/README.md", "gzip");
    assert_eq!(gzip.header("Content-Encoding").as_deref(), Some("gzip"));
    assert_eq!(gunzipped(&gzip.body), text);
    for form in [&brotli, &gzip] {
        let length = form.header("Content-Length");
        assert_eq!(length, Some(form.body.len().to_string()));
        assert!(form.body.len() < text.len() / 2);
        assert_eq!(form.header("Vary").as_deref(), Some("Accept-Encoding"));
        assert_eq!(form.header("Content-Type"), first.header("Content-Type"));
        assert_ne!(form.header("ETag"), first.header("ETag"));
    }
    assert_ne!(brotli.header("ETag"), gzip.header("ETag"));
    let plain = accepting(&server, "/tree/README.md", "identity");
    assert_eq!(plain.header("ETag"), first.header("ETag"));
    assert_eq!(server.stderr.count("static file compressed"), 2);
}

/// Scripts as a bundler writes them: a few thousand words in no order.
fn script(length: usize) -> String {
    let mut state = length as u32;
    let mut next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 8
    };
    let mut text = String::with_capacity(length + 32);
    while text.len() < length {
        let (word, number) = (next() % 4096, next() % 97);
        text.push_str(&format!("function w{word:x}(a){{return a+{number}}}"));
    }
    text
}

/// The style sheets and scripts of one page, the sizes of Wagtail's login page.
#[test]
fn compressing_takes_little_memory_and_gives_it_back() {
    let site = temp_dir();
    let lengths = [670_000, 276_000, 89_000, 20_000];
    for length in lengths {
        write_files(
            site.path(),
            &[(&format!("static/{length}.js"), &script(length))],
        );
    }
    let server = Pyserve::new()
        .current_dir(site.path())
        .args(["--log-level", "pyserve::front::static_files=debug,info"])
        .args(["--static-check", "0"])
        .ready();
    let most_before = reset_most_memory(&server);
    let before = memory(&server);
    let began = Instant::now();
    let mut connection = server.connect();
    // What was just written is compressed when a change of it would show.
    while server.stderr.count("static file compressed") < 2 * lengths.len() {
        assert!(
            began.elapsed() < 4 * DEADLINE,
            "{:?}",
            server.stderr.so_far()
        );
        for length in lengths {
            let target = format!("/static/{length}.js");
            let lines = "Accept-Encoding: br, gzip\r\n";
            let response = connection.exchange(request("GET", &target, lines));
            assert_eq!(response.status(), 200);
        }
    }
    // Behind the last file the memory is given back a moment later.
    while memory(&server) > before + 16 * MIB {
        assert!(
            began.elapsed() < 4 * DEADLINE,
            "{} MiB more",
            (memory(&server) - before) / MIB
        );
        connection.exchange(request("GET", "/static/20000.js", ""));
    }
    let most = most_memory(&server).saturating_sub(most_before) / MIB;
    assert!(most < 48, "{most} MiB more in between");
}

const MIB: u64 = 1 << 20;

#[test]
fn compression_can_be_chosen_and_turned_off() {
    let server = source_server(&["--static-compress", "gzip"]);
    accepting(&server, "/tree/README.md", "gzip, br");
    let line = server.stderr.wait_for("static file compressed");
    assert!(line.contains("gzip"), "{line}");
    for args in [["--static-compress", "no"], ["--static-cache", "no"]] {
        let server = source_server(&args);
        for _ in 0..2 {
            let response = accepting(&server, "/tree/README.md", "gzip, br");
            assert_eq!(response.header("Content-Encoding"), None, "{args:?}");
            assert_eq!(response.header("Vary"), None, "{args:?}");
        }
    }
}
