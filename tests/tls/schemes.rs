//! Locations of one scheme: `scheme = "http"` and `scheme = "https"`.

use crate::support::server::{Pyserve, Server};
use crate::support::{temp_dir, write_files};

/// The locations, of which each has a text or a file of its own.
const LOCATIONS: &str = r#"
[[location]]
prefix = "/"
scheme = "http"
redirect = "https://www.example.test"

[[location]]
prefix = "/"
scheme = "http"
host = "kept.test"
respond = "plain"

[[location]]
prefix = "/"
scheme = "https"
host = ["kept.test", "*"]
respond = "secured"

[[location]]
prefix = "/files"
scheme = "https"
static = "DIR/secured"

[[location]]
prefix = "/both"
respond = "both"
"#;

fn serving() -> (tempfile::TempDir, Server) {
    let dir = temp_dir();
    let settings = LOCATIONS.replace("DIR", &dir.path().display().to_string());
    write_files(
        dir.path(),
        &[("secured/a.txt", "file"), ("settings.toml", &settings)],
    );
    let server = Pyserve::app("environ.py")
        .with_tls()
        .args(["--trust", "127.0.0.1"])
        .arg_file("--config", &dir.path().join("settings.toml"))
        .ready();
    (dir, server)
}

#[test]
fn a_location_of_a_scheme_answers_over_that_scheme_alone() {
    let (_dir, server) = serving();
    let away = "https://www.example.test";
    for (target, host, plain, secured) in [
        ("/", "a.test", (302, format!("{away}/")), (200, "secured")),
        ("/x?y", "", (302, format!("{away}/x?y")), (200, "secured")),
        (
            "/x",
            "kept.test",
            (200, "plain".to_owned()),
            (200, "secured"),
        ),
        // Twice: the second time on the fast path.
        (
            "/files/a.txt",
            "a.test",
            (302, format!("{away}/files/a.txt")),
            (200, "file"),
        ),
        (
            "/files/a.txt",
            "a.test",
            (302, format!("{away}/files/a.txt")),
            (200, "file"),
        ),
        (
            "/files/a.txt",
            "kept.test",
            (200, "plain".to_owned()),
            (200, "file"),
        ),
        ("/both", "a.test", (200, "both".to_owned()), (200, "both")),
        (
            "/both/x",
            "kept.test",
            (200, "both".to_owned()),
            (200, "both"),
        ),
    ] {
        let head = |more: &str| format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n");
        let by_proxy = head("X-Forwarded-Proto: https\r\n");
        let from_proxy = head("X-Forwarded-Proto: http\r\n");
        for (over, response, expected) in [
            ("plain", server.exchange(&head("")), (plain.0, &*plain.1)),
            ("tls", server.connect_tls().exchange(head("")), secured),
            ("a proxy with TLS", server.exchange(&by_proxy), secured),
            (
                "TLS from a proxy without",
                server.connect_tls().exchange(from_proxy),
                (plain.0, &*plain.1),
            ),
        ] {
            let said = match response.status() {
                302 => response.header("Location").unwrap_or_default(),
                _ => response.text(),
            };
            let got = (response.status(), &*said);
            assert_eq!(got, expected, "{target} of {host:?} over {over}");
        }
    }
}

#[test]
fn a_scheme_is_http_or_https() {
    let dir = temp_dir();
    let settings = "[[location]]\nscheme = \"ftp\"\nrespond = \"a\"\n";
    write_files(dir.path(), &[("settings.toml", settings)]);
    let ended = Pyserve::app("environ.py")
        .arg_file("--config", &dir.path().join("settings.toml"))
        .run();
    assert_eq!(ended.code, 78, "{}", ended.stderr);
    for part in ["scheme", "ftp", "http", "https", "settings.toml:2"] {
        assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
    }
}
