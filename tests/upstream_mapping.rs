//! Names and paths towards HTTP upstream servers: the prefix of a location replaced, as by nginx's
//! `proxy_pass` with a path; `Host`; and the server's redirects and cookies on the way back.

use tempfile::TempDir;

use crate::support::backend::Backend;
use crate::support::server::{Pyserve, Server};
use crate::support::versions::{Answer, Way, ask, get};
use crate::support::{temp_dir, write_files};

/// Answers with its request line and `Host`, and with a `Location` of its own.
fn backend() -> Backend {
    Backend::tcp(|mut call| {
        while let Some(head) = call.http_head() {
            let line = head.lines().next().unwrap_or_default();
            let hosts = head.lines().filter_map(|line| line.strip_prefix("Host: "));
            let host = hosts.collect::<Vec<_>>().join(",");
            let forwarded = head
                .lines()
                .find_map(|line| line.strip_prefix("X-Forwarded-Host: "));
            let body = format!("{line}|{host}|{}", forwarded.unwrap_or_default());
            let path = line.split(' ').nth(1).unwrap_or_default();
            call.send(format!(
                "HTTP/1.1 200 OK\r\nLocation: http://{host}{path}\r\nX-Path: {path}\r\n\
                 Set-Cookie: a=b; Path=/other/c\r\nSet-Cookie: c=d; Path=/\r\n\
                 Refresh: 3; url=http://{host}{path}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ));
        }
    })
}

fn server(toml: &str, backend: &Backend) -> (Server, TempDir) {
    let dir = temp_dir();
    let toml = toml.replace("ADDRESS", backend.address());
    write_files(dir.path(), &[("pyserve.toml", &toml)]);
    let server = Pyserve::new().current_dir(dir.path()).ready();
    (server, dir)
}

/// The target and the host that the server got.
fn got(answer: &Answer) -> (String, String) {
    let mut parts = answer.body.split('|');
    let line = parts.next().unwrap_or_default();
    let target = line.split(' ').nth(1).unwrap_or_default();
    (
        target.to_owned(),
        parts.next().unwrap_or_default().to_owned(),
    )
}

const PREFIXES: &str = "
    [[location]]
    upstream = 'http://ADDRESS'

    [[location]]
    prefix = '/api'
    upstream = 'http://ADDRESS'
    replace_prefix = '/other'

    [[location]]
    prefix = '/bare'
    upstream = 'http://ADDRESS'
    strip_prefix = true

    [[location]]
    prefix = '/deep/er'
    upstream = 'http://ADDRESS'
    replace_prefix = '/a/b%20c/'

    [[location]]
    path = '/one'
    upstream = 'http://ADDRESS'
    replace_prefix = '/two/'
    ";

#[test]
fn the_prefix_is_replaced_in_the_target_as_the_client_sent_it() {
    let backend = backend();
    let (server, _dir) = server(PREFIXES, &backend);
    for way in Way::ALL {
        for (target, expected) in [
            ("/x/../y?z", "/x/../y?z"),
            ("/apis", "/apis"),
            ("/api", "/other"),
            ("/api/", "/other/"),
            ("/api/x?y=/api", "/other/x?y=/api"),
            ("/api/a%20b/%C3%A9", "/other/a%20b/%C3%A9"),
            ("/api/a%2Fb//c", "/other/a%2Fb//c"),
            ("/%61pi/x", "/other/x"),
            ("/api%2Fx", "/other/x"),
            ("/api/http://h/x", "/other/http://h/x"),
            ("/bare", "/"),
            ("/bare?q", "/?q"),
            ("/bare/x", "/x"),
            ("/bare//x", "//x"),
            ("/deep/er/x", "/a/b%20c/x"),
            ("/one", "/two/"),
            ("/one?q", "/two/?q"),
            // The server must not climb out of the path that replaces the prefix.
            ("/api/x/../y", "/other/y"),
            ("/api/../api/../api/y", "/other/y"),
            ("/api/%2e%2e/api/y", "/other/y"),
            ("/api/x/..%2f..%2Fapi/y", "/other/y"),
            ("//api/y", "/other/y"),
            ("/x/../api/y", "/other/y"),
            // Of another location: as the client sent it.
            ("/api/../secret", "/api/../secret"),
        ] {
            let answer = get(&server, way, target);
            assert_eq!(got(&answer).0, expected, "{target} {way:?}");
        }
    }
}

#[test]
fn redirects_that_name_the_server_come_back_to_the_location() {
    let backend = backend();
    let toml = format!("upstream_host = 'server'\n{PREFIXES}");
    let (site, _dir) = server(&toml, &backend);
    for way in Way::ALL {
        for (target, expected) in [
            ("/x?y", "/x?y"),
            ("//evil.example/x", "/evil.example/x"),
            ("/api/x?y", "/api/x?y"),
            ("/api", "/api"),
            ("/bare/x", "/bare/x"),
            ("/bare//evil.example", "/bare//evil.example"),
            ("/deep/er/x", "/deep/er/x"),
            ("/one", "/one"),
        ] {
            let answer = get(&site, way, target);
            assert_eq!(answer.value("location"), expected, "{target} {way:?}");
            assert_eq!(
                answer.value("refresh"),
                format!("3; url={expected}"),
                "{target} {way:?}"
            );
            assert_eq!(got(&answer).1, backend.address());
            let cookies = ["a=b; Path=/other/c", "c=d; Path=/"];
            assert_eq!(answer.all("set-cookie"), cookies, "only on demand");
        }
    }
    // A redirect to the host that the client knows is left alone, as nginx does.
    let (site, _dir) = server(PREFIXES, &backend);
    let answer = get(&site, Way::Http1, "/api/x");
    assert_eq!(answer.value("location"), "http://localhost/other/x");
    let toml = format!("upstream_host = 'server'\nupstream_redirects = false\n{PREFIXES}");
    let (site, _dir) = server(&toml, &backend);
    let answer = get(&site, Way::Http1, "/api/x");
    let expected = format!("http://{}/other/x", backend.address());
    assert_eq!(answer.value("location"), expected);
}

#[test]
fn paths_of_cookies_come_back_on_demand() {
    let backend = backend();
    let toml = PREFIXES.replace(
        "replace_prefix",
        "upstream_cookie_paths = true\nreplace_prefix",
    );
    let toml = toml.replace("strip_prefix", "upstream_cookie_paths = true\nstrip_prefix");
    let (server, _dir) = server(&toml, &backend);
    for way in Way::ALL {
        for (target, expected) in [
            ("/x", ["a=b; Path=/other/c", "c=d; Path=/"]),
            ("/api/x", ["a=b; Path=/api/c", "c=d; Path=/"]),
            ("/bare/x", ["a=b; Path=/bare/other/c", "c=d; Path=/bare"]),
        ] {
            let answer = get(&server, way, target);
            assert_eq!(answer.all("set-cookie"), expected, "{target} {way:?}");
        }
    }
}

#[test]
fn the_host_for_the_server_is_the_client_s_or_its_own_or_a_text() {
    let backend = backend();
    let address = backend.address().to_owned();
    for (given, expected) in [
        ("", "example.org:81"),
        ("upstream_host = 'client'", "example.org:81"),
        ("upstream_host = 'server'", &address),
        (
            "upstream_host = 'inner.example.org:9'",
            "inner.example.org:9",
        ),
    ] {
        let table = "[[location]]\nprefix = '/t'\nupstream = 'http://ADDRESS'";
        for toml in [
            format!("{given}\n{table}"),
            format!("upstream_host = 'general'\n{table}\n{given}"),
            format!("{given}\nupstream = 'http://ADDRESS'"),
        ] {
            let is_general = given.is_empty() && toml.contains("general");
            let expected = if is_general { "general" } else { expected };
            let (server, _dir) = server(&toml, &backend);
            for way in Way::ALL {
                let answer = ask(&server, way, "GET", "example.org:81", "/t/x");
                assert_eq!(
                    got(&answer),
                    ("/t/x".to_owned(), expected.to_owned()),
                    "{toml}"
                );
                assert!(answer.body.ends_with("|example.org:81"), "{answer:?}");
            }
        }
    }
    let socket = Backend::unix(|mut call| {
        while let Some(head) = call.http_head() {
            let is_local = head.contains("\r\nHost: localhost\r\n");
            call.send(crate::support::backend::page(&is_local.to_string()));
        }
    });
    let server = Pyserve::new()
        .args(["--upstream-host", "server", "--upstream"])
        .args([format!("http+{}", socket.address())])
        .ready();
    let answer = ask(&server, Way::Http1, "GET", "example.org", "/");
    assert_eq!(answer.body, "true");
}

#[test]
fn settings_of_paths_and_hosts_that_cannot_hold_end_the_start() {
    for (keys, problem) in [
        (
            "upstream = 'http://a/other/'",
            "the path as `replace_prefix`",
        ),
        (
            "upstream = 'http://a'\nreplace_prefix = 'x'",
            "not the path of a URL",
        ),
        (
            "upstream = 'http://a'\nreplace_prefix = '/a/../b'",
            "not the path of a URL",
        ),
        (
            "upstream = 'http://a'\nreplace_prefix = '/a?b'",
            "not the path of a URL",
        ),
        (
            "upstream = 'http://a'\nreplace_prefix = '/a b'",
            "not the path of a URL",
        ),
        (
            "upstream = 'http://a'\nreplace_prefix = '//a'",
            "not the path of a URL",
        ),
        (
            "upstream = 'http://a'\nupstream_host = 'a/b'",
            "neither `client` nor `server` nor `{host}` nor a host",
        ),
        (
            "upstream = 'http://a'\nupstream_host = 'a:b'",
            "neither `client` nor `server` nor `{host}` nor a host",
        ),
        (
            "upstream = ['http://a', 'http://b']\nupstream_host = 'server'",
            "no common address",
        ),
        (
            "upstream = 'uwsgi://127.0.0.1:1'\nupstream_host = 'a'",
            "for a server of uwsgi",
        ),
        (
            "upstream = 'uwsgi://127.0.0.1:1'\nreplace_prefix = '/a'",
            "for a server of uwsgi",
        ),
        (
            "respond = 'a'\nreplace_prefix = '/a'",
            "it belongs to upstream",
        ),
    ] {
        let dir = temp_dir();
        let toml = format!("[[location]]\nprefix = '/p'\n{keys}\n");
        write_files(dir.path(), &[("pyserve.toml", &toml)]);
        let ended = Pyserve::new().current_dir(dir.path()).run();
        assert_eq!(ended.code, 78, "{keys}: {}", ended.stderr);
        assert!(ended.stderr.contains(problem), "{keys}: {}", ended.stderr);
    }
}
