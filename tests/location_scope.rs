//! Locations by host, exact paths and single files, over both versions of HTTP and on both ways
//! inside the server.

use tempfile::TempDir;

use crate::support::backend::{Backend, page};
use crate::support::server::{Pyserve, Server};
use crate::support::versions::{Way, ask, get, is_cut};
use crate::support::{temp_dir, write_files};

fn server(toml: &str, files: &[(&str, &str)]) -> (Server, TempDir) {
    let dir = temp_dir();
    write_files(dir.path(), files);
    write_files(dir.path(), &[("pyserve.toml", toml)]);
    let server = Pyserve::new()
        .current_dir(dir.path())
        .args(["--static-check", "1h"])
        .ready();
    (server, dir)
}

/// Status and body for a host and a target.
fn said(server: &Server, way: Way, host: &str, target: &str) -> (u16, String) {
    let answer = ask(server, way, "GET", host, target);
    (answer.status, answer.body)
}

/// An application that answers with its own name.
fn app(name: &str) -> String {
    format!(
        "def application(environ, start_response):\n    \
         start_response('200 OK', [('Content-Type', 'text/plain')])\n    \
         return [b'{name} ' + environ['HTTP_HOST'].encode() + environ['PATH_INFO'].encode()]\n"
    )
}

const HOSTS: &str = "
        [[location]]
        host = 'app.example.org'
        app = 'first.py'

        [[location]]
        host = ['second.example.org', 'second.test']
        app = 'second.py'

        [[location]]
        host = ['*.example.org']
        respond = 'wildcard'

        [[location]]
        host = '*.deep.example.org'
        respond = 'deep'

        [[location]]
        host = 'files.example.org'
        static = 'a'

        [[location]]
        host = 'files.test'
        static = 'b'

        [[location]]
        host = 'http.test'
        upstream = 'http://{}'

        [[location]]
        host = 'uwsgi.test'
        upstream = 'uwsgi+{}'

        [[location]]
        host = '[::1]'
        respond = 'IPv6'

        [[location]]
        prefix = '/shared'
        static = 'shared'

        [[location]]
        prefix = '/shared/own'
        host = 'http.test'
        respond = 'own'

        [[location]]
        host = 'old.test'
        redirect = 'http://app.example.org/'
    ";

/// Host, target and body.
const ON_HOSTS: [(&str, &str, &str); 21] = [
    ("app.example.org", "/a", "first app.example.org/a"),
    ("second.example.org", "/", "second second.example.org/"),
    ("second.test", "/", "second second.test/"),
    ("other.example.org", "/x", "wildcard"),
    ("a.b.example.org", "/x", "wildcard"),
    ("OTHER.Example.Org:81", "/x", "wildcard"),
    ("other.example.org.", "/x", "wildcard"),
    ("deep.example.org", "/", "wildcard"),
    ("a.deep.example.org", "/", "deep"),
    ("files.example.org", "/x", "x of a"),
    ("files.test", "/x", "x of b"),
    ("FILES.test.:8000", "/x", "x of b"),
    ("http.test", "/", "http"),
    ("uwsgi.test:80", "/", "uwsgi"),
    ("[::1]", "/", "IPv6"),
    ("[::1]:8000", "/", "IPv6"),
    ("[0:0:0:0:0:0:0:1]", "/", "IPv6"),
    // A location without hosts is for all.
    ("app.example.org", "/shared/x", "shared"),
    ("files.test", "/shared/x", "shared"),
    ("unknown.test", "/shared/x", "shared"),
    ("http.test", "/shared/own/x", "own"),
];

#[test]
fn the_host_chooses_among_the_locations_of_a_path() {
    let http = Backend::tcp(|mut call| {
        while call.http_head().is_some() {
            call.send(page("http"));
        }
    });
    let uwsgi = Backend::unix(|mut call| {
        call.packet();
        call.send(page("uwsgi"));
    });
    let toml = HOSTS
        .replacen("{}", http.address(), 1)
        .replacen("{}", uwsgi.address(), 1);
    let (first, second) = (app("first"), app("second"));
    let (server, _dir) = server(
        &toml,
        &[
            ("first.py", &first),
            ("second.py", &second),
            ("a/x", "x of a"),
            ("b/x", "x of b"),
            ("shared/x", "shared"),
        ],
    );
    for _ in 0..2 {
        for host in ["files.example.org", "files.test"] {
            said(&server, Way::Http1, host, "/x");
        }
    }
    for way in Way::ALL {
        for (host, target, body) in ON_HOSTS {
            assert_eq!(
                said(&server, way, host, target),
                (200, body.into()),
                "{host} {target} {way:?}"
            );
        }
        for (host, target, status) in [
            ("files.test", "/none", 404),
            ("example.org", "/", 421),
            ("unknown.test", "/", 421),
            ("example.org.evil", "/", 421),
            ("notexample.org", "/x", 421),
            ("files.test.evil", "/x", 421),
            ("[::2]", "/", 421),
            ("old.test", "/", 302),
        ] {
            assert_eq!(
                said(&server, way, host, target).0,
                status,
                "{host} {target} {way:?}"
            );
        }
    }
    // RFC 9112 §3.2.2: the authority of an absolute target, not the Host field.
    let absolute =
        server.exchange("GET http://files.test:8000/x HTTP/1.1\r\nHost: files.example.org\r\n\r\n");
    assert_eq!(absolute.text(), "x of b");
    let without = server.exchange("GET /x HTTP/1.0\r\n\r\n");
    assert_eq!(without.status(), 421);
}

#[test]
fn the_star_is_for_all_other_hosts_and_isolates_those_that_are_named() {
    let (server, _dir) = server(
        "
        [[location]]
        host = 'a.test'
        prefix = '/app'
        respond = 'a'

        [[location]]
        host = '*'
        respond = 'others'
        ",
        &[],
    );
    for way in Way::ALL {
        assert_eq!(said(&server, way, "a.test", "/app").1, "a");
        assert_eq!(said(&server, way, "a.test", "/").0, 404, "as in nginx");
        assert_eq!(said(&server, way, "b.test", "/app").1, "others");
        assert_eq!(said(&server, way, "192.0.2.1", "/").1, "others");
    }
}

#[test]
fn a_forwarded_host_counts_from_trusted_proxies_alone() {
    let toml = "
        [[location]]
        host = 'a.test'
        static = 'a'

        [[location]]
        host = 'b.test'
        static = 'b'
        ";
    let dir = temp_dir();
    write_files(
        dir.path(),
        &[("pyserve.toml", toml), ("a/x", "a"), ("b/x", "b")],
    );
    for (trust, body) in [("", "a"), ("127.0.0.1", "b")] {
        let server = Pyserve::new()
            .current_dir(dir.path())
            .env("PYSERVE_TRUST", trust)
            .ready();
        for _ in 0..3 {
            let response = server
                .exchange("GET /x HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-Host: b.test\r\n\r\n");
            assert_eq!(response.text(), body);
        }
    }
}

#[test]
fn unknown_hosts_get_the_status_of_the_setting_or_no_response() {
    let dir = temp_dir();
    let toml = "
        [[location]]
        host = 'a.test'
        respond = 'a'

        [[location]]
        host = 'a.test'
        prefix = '/cut'
        respond = ''
        status = 444
        ";
    write_files(dir.path(), &[("pyserve.toml", toml)]);
    let start = |status: &str| {
        Pyserve::new()
            .current_dir(dir.path())
            .env("PYSERVE_ACCESS_LOG", "combined")
            .args(["--unknown-host", status])
            .ready()
    };
    for status in [404, 421] {
        let server = start(&status.to_string());
        for way in Way::ALL {
            assert_eq!(said(&server, way, "b.test", "/").0, status);
        }
    }
    let server = start("444");
    for way in Way::ALL {
        assert!(is_cut(&server, way, "b.test", "/x"), "{way:?}");
        assert!(is_cut(&server, way, "a.test", "/cut"), "{way:?}");
        assert_eq!(said(&server, way, "a.test", "/").1, "a");
    }
    // Those before it on the connection are answered.
    let mut connection = server.connect();
    connection.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\nGET / HTTP/1.1\r\nHost: b.test\r\n\r\n");
    assert_eq!(connection.response().text(), "a");
    assert!(connection.try_head().is_err());
    server.stdout.wait_for("\" 444 0");
}

const EXACT: &str = "
        [[location]]
        respond = 'site'

        [[location]]
        path = '/'
        respond = 'home'

        [[location]]
        prefix = '/static'
        static = 'static'

        [[location]]
        path = '/static/a.txt'
        respond = 'exact'

        [[location]]
        path = '/dir/'
        respond = 'with slash'

        [[location]]
        path = '/up'
        upstream = 'http://{}'

        [[location]]
        path = '/old'
        redirect = '/new'

        [[location]]
        path = '/app'
        app = 'app.py'

        [[location]]
        path = '/caf\u{e9}'
        respond = 'caf'
    ";

#[test]
fn an_exact_path_comes_before_every_prefix() {
    let backend = Backend::tcp(|mut call| {
        while call.http_head().is_some() {
            call.send(page("upstream"));
        }
    });
    let toml = EXACT.replace("{}", backend.address());
    let name = app("app");
    let files = [
        ("static/a.txt", "file"),
        ("static/b.txt", "b"),
        ("app.py", &name),
    ];
    let (server, _dir) = server(&toml, &files);
    for way in Way::ALL {
        for (target, body) in [
            ("/", "home"),
            ("/?q", "home"),
            ("/x/..", "home"),
            ("/x", "site"),
            ("/static/a.txt", "exact"),
            ("/static/%61.txt?q", "exact"),
            ("/static//a.txt", "exact"),
            ("/static/b.txt", "b"),
            ("/dir/", "with slash"),
            ("/dir", "site"),
            ("/dir/x", "site"),
            ("/dir%2F", "with slash"),
            ("/up", "upstream"),
            ("/up/", "site"),
            ("/up/x", "site"),
            ("/upper", "site"),
            ("/app", "app localhost/app"),
            ("/app/x", "site"),
            ("/caf%C3%A9", "caf"),
        ] {
            assert_eq!(
                said(&server, way, "localhost", target),
                (200, body.into()),
                "{target} {way:?}"
            );
        }
        let old = get(&server, way, "/old?q=1");
        assert_eq!((old.status, &*old.value("location")), (302, "/new?q=1"));
    }
}

const FILES: &str = "
        [[location]]
        respond = 'site'

        [[location]]
        path = '/favicon.ico'
        file = 'assets/icon.ico'
        max_age = '1d'

        [[location]]
        path = '/large'
        file = 'assets/large.txt'
        types = { txt = 'application/x-large' }

        [[location]]
        path = '/style.css'
        file = 'assets/style.css'
        precompressed = true
        header = 'X-A: b'

        [[location]]
        path = '/.well-known/apple-app-site-association'
        file = 'assets/apple-app-site-association'

        [[location]]
        path = '/later.txt'
        file = 'assets/later.txt'

        [[location]]
        path = '/linked.txt'
        file = 'assets/linked.txt'

        [[location]]
        prefix = '/other'
        static = 'other'
    ";

#[test]
fn a_single_file_has_the_policy_of_static_files() {
    let large = "0123456789".repeat(20_000);
    let (server, dir) = server(
        FILES,
        &[
            ("assets/icon.ico", "icon"),
            ("assets/large.txt", &large),
            ("assets/style.css", "b { }"),
            ("assets/style.css.gz", "packed"),
            ("assets/apple-app-site-association", "{}"),
            ("assets/secret.txt", "secret"),
            ("other/x", "x"),
            ("elsewhere.txt", "elsewhere"),
        ],
    );
    let link = |target: &str, name: &str| {
        std::os::unix::fs::symlink(dir.path().join(target), dir.path().join(name)).unwrap();
    };
    link("assets/secret.txt", "other/secret.txt");
    link("elsewhere.txt", "assets/linked.txt");
    server.stderr.wait_for("later.txt");
    for way in Way::ALL {
        for _ in 0..2 {
            let icon = get(&server, way, "/favicon.ico?v=1");
            assert_eq!((icon.status, &*icon.body), (200, "icon"));
            assert_eq!(icon.value("cache-control"), "public, max-age=86400");
            assert_eq!(icon.value("content-type"), "image/x-icon");
            assert!(!icon.value("etag").is_empty());
        }
        let head = ask(&server, way, "HEAD", "localhost", "/favicon.ico");
        assert_eq!((head.status, &*head.value("content-length")), (200, "4"));
        let whole = get(&server, way, "/large");
        assert_eq!((whole.status, whole.body.len()), (200, large.len()));
        assert_eq!(whole.value("content-type"), "application/x-large");
        assert_eq!(get(&server, way, "/style.css").value("x-a"), "b");
        let association = get(&server, way, "/.well-known/apple-app-site-association");
        assert_eq!(
            association.value("content-type"),
            "application/json; charset=utf-8"
        );
        assert_eq!(get(&server, way, "/favicon.ico/x").body, "site");
        assert_eq!(get(&server, way, "/later.txt").status, 404);
        assert_eq!(
            get(&server, way, "/linked.txt").status,
            404,
            "a link out of the directory"
        );
        // The file's directory is not declared to be served: no link may lead into it.
        assert_eq!(get(&server, way, "/other/secret.txt").status, 404);
        assert_eq!(
            ask(&server, way, "DELETE", "localhost", "/favicon.ico").status,
            405
        );
    }
    let part = server.exchange("GET /large HTTP/1.1\r\nHost: h\r\nRange: bytes=5-9\r\n\r\n");
    assert_eq!((part.status(), &*part.text()), (206, "56789"));
    let packed =
        server.exchange("GET /style.css HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n");
    assert_eq!(packed.text(), "packed");
    write_files(dir.path(), &[("assets/later.txt", "now")]);
    assert_eq!(server.get("/later.txt").text(), "now");
}

#[test]
fn a_missing_single_file_is_not_replaced_by_its_neighbours() {
    let (server, _dir) = server(
        "
        static_missing = 'index.html'

        [[location]]
        path = '/one'
        file = 'assets/one'

        [[location]]
        prefix = '/pages'
        static = 'pages'
        ",
        &[
            ("assets/index.html", "neighbour"),
            ("pages/index.html", "page"),
        ],
    );
    for way in Way::ALL {
        assert_eq!(get(&server, way, "/one").status, 404);
        assert_eq!(get(&server, way, "/pages/x").body, "page");
    }
}

#[test]
fn a_redirect_keeps_the_host_of_the_request_on_demand() {
    let (server, _dir) = server(
        "
        [[location]]
        redirect = 'https://{host}'
        status = 301

        [[location]]
        prefix = '/port'
        redirect = 'https://{host}:8443/base/'
        ",
        &[],
    );
    for way in Way::ALL {
        for (host, target, to) in [
            ("example.org", "/a/b?c", "https://example.org/a/b?c"),
            ("Example.org:8000", "/", "https://example.org/"),
            ("[::1]:8000", "/x", "https://[::1]/x"),
            ("[::1]", "/x", "https://[::1]/x"),
            (
                "example.org",
                "//evil.test/",
                "https://example.org/evil.test/",
            ),
            (
                "example.org:80",
                "/port/x",
                "https://example.org:8443/base/x",
            ),
        ] {
            let answer = ask(&server, way, "GET", host, target);
            assert_eq!(answer.value("location"), to, "{host} {target} {way:?}");
        }
    }
    // RFC 9112 §3.2: a request of HTTP/1.0 may name no host.
    let without = server.exchange("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(without.status(), 400);
    let evil = server.exchange("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n");
    assert_eq!(evil.status(), 400);
}

#[test]
fn tables_whose_places_contradict_each_other_end_the_start() {
    let check = |toml: &str, problem: &str| {
        let dir = temp_dir();
        write_files(dir.path(), &[("pyserve.toml", toml), ("static/a", "")]);
        let ended = Pyserve::new().current_dir(dir.path()).run();
        assert_eq!(ended.code, 78, "{toml}: {}", ended.stderr);
        assert!(ended.stderr.contains(problem), "{toml}: {}", ended.stderr);
    };
    let table = "[[location]]\nrespond = 'a'\n";
    check(
        &format!("{table}host = 'a:80'"),
        "a host has no scheme, port or path",
    );
    check(
        &format!("{table}host = 'www.*'"),
        "`*` is not the first label alone",
    );
    check(&format!("{table}host = '_'"), "`*` for all other hosts");
    check(
        &format!("{table}path = '/a'\nprefix = '/a'"),
        "path names the one path",
    );
    check(&format!("{table}path = 'a'"), "does not start with `/`");
    check("[[location]]\nfile = 'static/a'", "a file and no path");
    check(
        "[[location]]\npath = '/a'\nfile = 'static'",
        "not the path of a file",
    );
    check(
        "[[location]]\npath = '/a'\nstatic = 'static'",
        "more than one path",
    );
    check(
        &format!("{table}host = ['a', 'b']\n{table}host = ['b', 'c']"),
        "another location has this prefix for one of its hosts (pyserve.toml:1)",
    );
    check(
        &format!("{table}path = '/a'\n{table}path = '/a'"),
        "another location has this path (pyserve.toml:1)",
    );
    check(
        "[[location]]\nhost = 'a'\nprefix = '/x'\nredirect = '/y'\n\
         [[location]]\nprefix = '/y'\nredirect = '/x'\nkeep_path = false",
        "go round in circles",
    );
    check(&format!("{table}status = 444"), "closed without a response");
    check(
        "[[location]]\nredirect = '/{host}'",
        "not in the place of the host",
    );
    check(
        "[[location]]\nredirect = 'https://a@{host}'",
        "not in the place of the host",
    );
    check(
        "unknown_host = 500\n[[location]]\nrespond = ''",
        "unknown_host",
    );
}

#[test]
fn hosts_and_paths_follow_a_reload_and_are_shown_by_check() {
    let (server, dir) = server(
        "[[location]]\nhost = 'a.test'\nrespond = 'a'\n",
        &[("static/x", "x")],
    );
    assert_eq!(said(&server, Way::Http1, "b.test", "/").0, 421);
    let toml = "
        [[location]]
        host = ['b.test', '*.b.test']
        app = 'one.py'

        [[location]]
        host = 'c.test'
        app = 'two.py'

        [[location]]
        path = '/x'
        file = 'static/x'
        ";
    let (one, two) = (app("one"), app("two"));
    let files = [("pyserve.toml", toml), ("one.py", &*one), ("two.py", &*two)];
    write_files(dir.path(), &files);
    server.signal(rustix::process::Signal::HUP);
    server.stderr.wait_for("reloaded in");
    for way in Way::ALL {
        assert_eq!(said(&server, way, "a.test", "/").0, 421);
        assert_eq!(said(&server, way, "b.test", "/").1, "one b.test/");
        assert_eq!(said(&server, way, "c.test", "/").1, "two c.test/");
        assert_eq!(said(&server, way, "c.test", "/x").1, "x");
    }
    // Applications of one prefix stay apart.
    server.signal(rustix::process::Signal::HUP);
    server.stderr.wait_for_nth("reloaded in", 2);
    assert_eq!(said(&server, Way::Http1, "c.test", "/").1, "two c.test/");
    let checked = Pyserve::new().current_dir(dir.path()).args(["check"]).run();
    assert_eq!(checked.code, 0, "{}", checked.stderr);
    for line in ["*.b.test / -> app ", "c.test / -> app ", "= /x -> file "] {
        assert!(checked.stdout.contains(line), "{}", checked.stdout);
    }
}

const EXTENSIONS: &str = "
        [[location]]
        static = 'www'
        max_age = '1h'

        [[location]]
        extension = ['.CSS', 'js']
        static = 'www'
        max_age = '30d'
        header = 'X-Kind: asset'

        [[location]]
        extension = 'php'
        respond = ''
        status = 403

        [[location]]
        prefix = '/api'
        respond = 'api'

        [[location]]
        prefix = '/up'
        extension = 'json'
        upstream = 'http://{}'
    ";

#[test]
fn an_extension_comes_before_the_same_prefix_and_behind_a_longer_one() {
    let backend = Backend::tcp(|mut call| {
        while call.http_head().is_some() {
            call.send(page("upstream"));
        }
    });
    let files = [
        ("www/a.txt", "text"),
        ("www/a.css", "css"),
        ("www/b.min.JS", "js"),
        ("www/x.php", "<?php secret"),
        ("www/up/a.json", "file"),
        ("www/up/a.css", "css below"),
    ];
    let (server, _dir) = server(&EXTENSIONS.replace("{}", backend.address()), &files);
    for way in Way::ALL {
        for (target, status, body, age) in [
            ("/a.txt", 200, "text", "public, max-age=3600"),
            ("/a.css", 200, "css", "public, max-age=2592000"),
            ("/a%2ec%73s?v=1", 200, "css", "public, max-age=2592000"),
            ("/b.min.JS", 200, "js", "public, max-age=2592000"),
            ("/up/a.css", 200, "css below", "public, max-age=2592000"),
            ("/up/a.json?x", 200, "upstream", ""),
            ("/api/a.css", 200, "api", ""),
            ("/x.php", 403, "", ""),
            ("/x.ph%70", 403, "", ""),
            ("/a.txt/../x.php?a.css", 403, "", ""),
            ("/none.css", 404, "", ""),
        ] {
            // Twice: the second response is of the memory.
            for _ in 0..2 {
                let answer = ask(&server, way, "GET", "site.test", target);
                assert_eq!(answer.status, status, "{target} {way:?}");
                if status == 200 {
                    assert_eq!(answer.body, body, "{target} {way:?}");
                    let given = answer.value("cache-control");
                    assert_eq!(given, age, "{target} {way:?}");
                }
                let is_asset = age.contains("2592000");
                let kind = answer.value("x-kind");
                assert_eq!(kind == "asset", is_asset, "{target} {way:?}");
            }
        }
    }
}

#[test]
fn extensions_of_one_prefix_belong_to_one_location() {
    for (toml, problem) in [
        (
            "[[location]]\nextension = ['css', 'js']\nrespond = 'a'\n[[location]]\nextension = 'JS'\nrespond = 'b'\n",
            "another location has this prefix",
        ),
        (
            "[[location]]\npath = '/a.css'\nextension = 'css'\nrespond = 'a'\n",
            "path names the one path",
        ),
        (
            "[[location]]\nextension = 'tar.gz'\nrespond = 'a'\n",
            "not the extension of a file",
        ),
    ] {
        let dir = temp_dir();
        write_files(dir.path(), &[("pyserve.toml", toml)]);
        let ended = Pyserve::new().current_dir(dir.path()).args(["check"]).run();
        assert_eq!(ended.code, 78, "{toml}: {}", ended.stderr);
        assert!(ended.stderr.contains(problem), "{toml}: {}", ended.stderr);
    }
}

const METHODS: &str = "
        [[location]]
        app = 'first.py'

        [[location]]
        method = 'OPTIONS'
        respond = ''
        status = 204
        header = 'Access-Control-Allow-Origin: *'

        [[location]]
        prefix = '/files'
        static = 'www'

        [[location]]
        prefix = '/files'
        method = ['!GET', '!HEAD']
        respond = 'read them'
        status = 403

        [[location]]
        path = '/page'
        file = 'www/a.txt'

        [[location]]
        path = '/page'
        method = ['HEAD', 'PUT']
        respond = ''
        status = 410

        [[location]]
        prefix = '/form'
        method = 'POST'
        redirect = '/form'
        status = 303

        [[location]]
        host = 'own.test'
        respond = 'own'
        ";

#[test]
fn a_method_comes_before_the_same_prefix_and_host_for_every_method() {
    let files = [("www/a.txt", "text"), ("first.py", &*app("first"))];
    let (server, _dir) = server(METHODS, &files);
    for way in Way::ALL {
        for (method, host, target, status) in [
            ("GET", "site.test", "/", 200),
            ("POST", "site.test", "/x", 200),
            ("OPTIONS", "site.test", "/x", 204),
            ("OPTIONS", "own.test", "/x", 200),
            ("GET", "site.test", "/files/a.txt", 200),
            ("HEAD", "site.test", "/files/a.txt", 200),
            ("POST", "site.test", "/files/a.txt", 403),
            ("OPTIONS", "site.test", "/files/a.txt", 403),
            ("GET", "site.test", "/page", 200),
            ("HEAD", "site.test", "/page", 410),
            ("PUT", "site.test", "/page", 410),
            ("POST", "site.test", "/form", 303),
            ("GET", "site.test", "/form", 200),
        ] {
            // Twice: the second response is of the memory.
            for _ in 0..2 {
                let answer = ask(&server, way, method, host, target);
                assert_eq!(answer.status, status, "{method} {host}{target} {way:?}");
                let is_allowed = answer.value("access-control-allow-origin") == "*";
                assert_eq!(is_allowed, status == 204, "{method} {target} {way:?}");
            }
        }
    }
}

#[test]
fn methods_of_one_prefix_belong_to_one_location() {
    let table = "[[location]]\nrespond = 'a'\n";
    for (toml, problem) in [
        (
            format!("{table}method = ['GET', 'POST']\n{table}method = '!GET'\n"),
            "another location has this prefix",
        ),
        (
            format!("{table}method = ['GET', '!POST']\n"),
            "some methods have a `!`",
        ),
        (format!("{table}method = 'get'\n"), "not the method"),
    ] {
        let dir = temp_dir();
        write_files(dir.path(), &[("pyserve.toml", &toml)]);
        let ended = Pyserve::new().current_dir(dir.path()).args(["check"]).run();
        assert_eq!(ended.code, 78, "{toml}: {}", ended.stderr);
        assert!(ended.stderr.contains(problem), "{toml}: {}", ended.stderr);
    }
}

const SEGMENTS: &str = "
        [[location]]
        app = 'first.py'

        [[location]]
        segment = ['.', '!.well-known', 'wp-admin']
        respond = ''
        status = 403

        [[location]]
        prefix = '/files'
        static = 'www'

        [[location]]
        prefix = '/files'
        extension = 'txt'
        respond = 'text'

        [[location]]
        prefix = '/files'
        segment = 'private'
        respond = ''
        status = 410
        ";

#[test]
fn a_segment_comes_before_the_same_prefix_and_its_extensions() {
    let files = [("www/a.css", "css"), ("first.py", &*app("first"))];
    let (server, _dir) = server(SEGMENTS, &files);
    for way in Way::ALL {
        for (target, status) in [
            ("/x", 200),
            ("/x/.env", 403),
            ("/x/%2eENV", 403),
            ("/x//.env", 403),
            ("/.well-known/x", 200),
            ("/.well-known/.x", 403),
            ("/a/WP-admin/x", 403),
            ("/x?/.env", 200),
            ("/x/../.env", 403),
            ("/.env/../x", 200),
            ("/files/a.css", 200),
            ("/files/a.txt", 200),
            ("/files/private.txt", 410),
            ("/files/x/private/a.css", 410),
            ("/files/xprivate.txt", 200),
        ] {
            let answer = ask(&server, way, "GET", "site.test", target);
            assert_eq!(answer.status, status, "{target} {way:?}");
        }
    }
}
