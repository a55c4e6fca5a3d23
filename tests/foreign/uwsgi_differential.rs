//! Files of the corpus served by the real uWSGI and by pyserve, with the same requests: statuses,
//! bodies, named header fields, environ keys and numbers of workers agree, or the difference is listed
//! here with its reason.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::behind::{Behind, program};
use crate::support::raw::{Connection, Response};
use crate::support::server::{Pyserve, Server};
use crate::support::{python, source, temp_dir, write_files};

/// The answer of the application: what the file has made of its surroundings.
const APP: &str = r#"
import json, os, sys
def siblings():
    count, parent = 0, os.getppid()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%s/stat" % name) as file:
                    count += int(file.read().rsplit(")", 1)[1].split()[1]) == parent
            except (OSError, ValueError):
                pass
    return count
def application(environ, start_response):
    status = "404 Not Found" if environ["PATH_INFO"].startswith("/missing") else "200 OK"
    start_response(status, [("Content-Type", "application/json"), ("X-App", "yes"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    answer = {key: environ.get(key) for key in (
        "PATH_INFO", "SCRIPT_NAME", "QUERY_STRING", "REQUEST_METHOD", "REQUEST_URI", "SERVER_PROTOCOL",
        "CONTENT_TYPE", "CONTENT_LENGTH", "HTTP_HOST", "HTTP_X_OWN", "wsgi.url_scheme", "wsgi.multithread",
        "wsgi.multiprocess", "wsgi.run_once")}
    answer.update(module=__name__, cwd=os.getcwd(), keys=sorted(environ), workers=siblings(),
        argv=sys.argv, body=body.decode(), env={name: os.environ.get(name) for name in NAMES})
    return [json.dumps(answer).encode()]
NAMES = ("GREETING", "DJANGO_SETTINGS_MODULE", "LANG", "EMPTY", "RATE", "STAMP", "LOST", "NAME", "ROOT", "COUNT")
app = application
"#;

/// Keys of the environ that one of the two has alone.
const KEYS_APART: &[(&str, &str)] = &[
    ("uwsgi.version", "uWSGI's own"),
    ("uwsgi.node", "uWSGI's own"),
    ("uwsgi.core", "uWSGI's own"),
    ("x-wsgiorg.fdevent.readable", "uWSGI's own"),
    ("x-wsgiorg.fdevent.writable", "uWSGI's own"),
    ("x-wsgiorg.fdevent.timeout", "uWSGI's own"),
    (
        "DOCUMENT_ROOT",
        "uWSGI names its directory; PEP 3333 has no such key",
    ),
    ("UWSGI_ROUTER", "uWSGI's own"),
    (
        "REMOTE_PORT",
        "uWSGI has none at a Unix socket; here it is empty",
    ),
    ("REMOTE_ADDR", "as REMOTE_PORT"),
    ("RAW_URI", "that of gunicorn, which applications ask for"),
    ("REQUEST_SCHEME", "as nginx passes it"),
    ("SERVER_SOFTWARE", "RFC 3875 §4.1.17"),
    ("HTTP_X_REQUEST_ID", "pyserve gives each request an id"),
    (
        "wsgi.input_terminated",
        "the body ends where the input ends",
    ),
    (
        "CONTENT_TYPE",
        "uWSGI has an empty one for requests without the field",
    ),
    ("CONTENT_LENGTH", "as CONTENT_TYPE"),
    (
        "HTTP_CONNECTION",
        "hop-by-hop: it is the server's, not the application's",
    ),
];

struct Case {
    file: &'static str,
    /// Replacements in the text, for both: directories of another machine, ports.
    edits: &'static [(&'static str, &'static str)],
    /// Modules, each with [`APP`].
    modules: &'static [&'static str],
    /// True if the file names no address of HTTP.
    is_socket_alone: bool,
    /// The number of workers where it is compared, and where uWSGI has another one.
    workers: Option<(u64, u64, &'static str)>,
    /// Targets beside the usual ones.
    targets: &'static [&'static str],
    /// True if the file names the types of files.
    has_types: bool,
    /// Differences that there are: of which targets, in what, and why.
    apart: &'static [Apart],
}

type Apart = (
    &'static [&'static str],
    &'static [&'static str],
    &'static str,
);

/// A case without anything of its own.
const CASE: Case = Case {
    file: "",
    edits: &[],
    modules: &[],
    is_socket_alone: true,
    workers: None,
    targets: &[],
    has_types: false,
    apart: &[],
};

const CASES: &[Case] = &[
    Case {
        file: "docker-http.ini",
        edits: &[
            ("http = 0.0.0.0:5000", "http-socket = $(SOCK)"),
            ("uid = www-data\ngid = www-data\n", ""),
        ],
        modules: &["wsgi.py"],
        is_socket_alone: false,
        workers: Some((1, 1, "")),
        ..CASE
    },
    Case {
        file: "flask-digitalocean.ini",
        modules: &["wsgi.py"],
        workers: Some((5, 5, "")),
        ..CASE
    },
    Case {
        file: "sections.ini",
        modules: &["app/app/wsgi.py"],
        workers: Some((4, 4, "")),
        ..CASE
    },
    Case {
        file: "env-quotes.ini",
        modules: &["app.py"],
        ..CASE
    },
    Case {
        file: "percent.ini",
        modules: &["app.py"],
        ..CASE
    },
    Case {
        file: "first-definition.ini",
        modules: &["one/wsgi.py"],
        ..CASE
    },
    Case {
        file: "if-env.ini",
        modules: &["app.py"],
        ..CASE
    },
    Case {
        file: "mounts.ini",
        edits: &[
            ("http = :8000", "http-socket = $(SOCK)"),
            ("chdir = /srv", "chdir = %d"),
            ("callable = app\n", ""),
        ],
        modules: &["shop/wsgi.py", "blog/app.py", "main.py"],
        is_socket_alone: false,
        targets: &["/shop", "/shop/cart?x=1", "/shopping", "/blog/2024/"],
        apart: &[
            (
                &[
                    "/",
                    "/a%20b/c?x=1&y=%2F",
                    "/missing",
                    "/shopping",
                    "POST /form",
                ],
                &["module"],
                "in uWSGI / mounts nothing: the application that was loaded first gets these",
            ),
            (
                &["/"],
                &["SCRIPT_NAME", "keys"],
                "for / itself uWSGI omits SCRIPT_NAME, as PEP 3333 allows where it is empty",
            ),
            (
                &["/blog/2024/"],
                &["module"],
                "uWSGI names a file's module after its path",
            ),
        ],
        ..CASE
    },
    Case {
        file: "mounts-static.ini",
        edits: &[
            ("http-socket = 127.0.0.1:8080", "http-socket = $(SOCK)"),
            ("/srv/static", "%d/assets"),
            ("/srv/media", "%d/code/media"),
            ("route = ^/blog/x$ redirect:/elsewhere\n", ""),
            ("route-uri = ^/old$ redirect:/new\n", ""),
            ("route = .* addheader:X-A: 1\n", ""),
        ],
        modules: &["main.py", "shop.py", "blog.py"],
        is_socket_alone: false,
        targets: &[
            "/static/site.css",
            "/shop/static/site.css",
            "/blog/static/site.css",
            "/shop/static/missing.css",
            "/shop/media/a.txt",
        ],
        apart: &[(
            &["/"],
            &["SCRIPT_NAME", "keys"],
            "for / itself uWSGI omits SCRIPT_NAME, as PEP 3333 allows where it is empty",
        )],
        ..CASE
    },
    Case {
        file: "mount-first.ini",
        edits: &[("http-socket = :8080", "http-socket = $(SOCK)")],
        modules: &["shop.py", "blog/wsgi.py"],
        is_socket_alone: false,
        targets: &["/shop", "/shop/cart?x=1", "/shopping", "/blog/2024/"],
        apart: &[
            (
                &[
                    "/",
                    "/a%20b/c?x=1&y=%2F",
                    "/missing",
                    "/shopping",
                    "/shop",
                    "/shop/cart?x=1",
                    "POST /form",
                ],
                &["module"],
                "uWSGI names a file's module after its path",
            ),
            (
                &["/"],
                &["SCRIPT_NAME", "keys"],
                "for / itself uWSGI omits SCRIPT_NAME, as PEP 3333 allows where it is empty",
            ),
        ],
        ..CASE
    },
    Case {
        file: "mount-http-unmanaged.ini",
        edits: &[("http = :8080", "http-socket = $(SOCK)")],
        modules: &["shop.py", "blog.py"],
        is_socket_alone: false,
        targets: &["/shop", "/shop/cart?x=1", "/blog/2024/"],
        ..CASE
    },
    Case {
        file: "static-map.ini",
        edits: &[
            ("http-socket = 0.0.0.0:8080", "http-socket = $(SOCK)"),
            ("/code", "%d/code"),
        ],
        modules: &["code/config/wsgi.py"],
        is_socket_alone: false,
        targets: &[
            "/static/site.css",
            "/static/missing.css",
            "/favicon.ico",
            "/media/a.txt",
            "/static/../config/wsgi.py",
            "/staticfiles/site.css",
        ],
        apart: &[(
            &["/static/../config/wsgi.py"],
            &["PATH_INFO"],
            "uWSGI resolves the dots, pyserve passes the path as the client sent it",
        )],
        ..CASE
    },
    Case {
        file: "pyargv.ini",
        modules: &["app.py"],
        ..CASE
    },
    Case {
        file: "optimize.ini",
        edits: &[("http-websockets = true\n", "")],
        modules: &["app.py"],
        ..CASE
    },
    Case {
        file: "no-default-unmanaged.ini",
        edits: &[
            ("http-socket = :8080", "http-socket = $(SOCK)"),
            ("=shop.py", "=shop:application"),
            (
                "no-default-app = true",
                "no-default-app = true\nmanage-script-name = true",
            ),
        ],
        modules: &["shop.py"],
        is_socket_alone: false,
        targets: &["/shop", "/shop/cart?x=1", "/shopping"],
        apart: &[(
            &[
                "/",
                "/a%20b/c?x=1&y=%2F",
                "/missing",
                "/shopping",
                "POST /form",
            ],
            &["status", "content-type", "content-length", "body"],
            "uWSGI answers 500 where it has no application, pyserve 404",
        )],
        ..CASE
    },
    Case {
        file: "mimefile.ini",
        edits: &[("http-socket = :8080", "http-socket = $(SOCK)")],
        modules: &["app.py"],
        is_socket_alone: false,
        targets: &[
            "/assets/a.own",
            "/assets/b.stp",
            "/assets/c.p21",
            "/assets/site.css",
        ],
        has_types: true,
        apart: &[(
            &["/assets/a.own", "/assets/site.css"],
            &["content-type"],
            "pyserve names the charset of text",
        )],
        ..CASE
    },
    Case {
        file: "headers.ini",
        edits: &[("add-header = Server: mine\nadd-header = no colon\n", "")],
        modules: &["app.py"],
        ..CASE
    },
    Case {
        file: "arithmetic.ini",
        edits: &[("module = app", "module = app\nmaster = true")],
        modules: &["app.py"],
        workers: Some((3, 3, "")),
        ..CASE
    },
    Case {
        file: "cheaper.ini",
        edits: &[("module = app", "module = app\nmaster = true")],
        modules: &["app.py"],
        workers: Some((
            2,
            4,
            "cheaper-initial: pyserve starts with the smaller number, and adds workers as requests wait",
        )),
        ..CASE
    },
];

/// Header fields that are compared.
const FIELDS: &[&str] = &[
    "content-type",
    "content-length",
    "x-app",
    "set-cookie",
    "location",
    "strict-transport-security",
    "x-frame-options",
    "x-powered-by",
    "via",
];

/// uWSGI has no table of media types of its own, so it sends no type for files.
const UNTYPED_FILES: &str = "content-type";

fn prepare(case: &Case, dir: &Path) {
    let text = fs::read_to_string(source("tests/foreign/uwsgi").join(case.file)).unwrap();
    let text = case.edits.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "{}: {from}", case.file);
        text.replace(from, to)
    });
    fs::write(dir.join(case.file), text).unwrap();
    let types = fs::read_to_string(source("tests/foreign/uwsgi/types-own.txt")).unwrap();
    let modules = case.modules.iter().map(|module| (*module, APP));
    write_files(dir, &modules.collect::<Vec<_>>());
    write_files(
        dir,
        &[
            ("code/staticfiles/site.css", "body {}\n"),
            ("code/staticfiles/favicon.ico", "an icon"),
            ("code/media/a.txt", "a text\n"),
            ("assets/a.own", "own"),
            ("assets/b.stp", "stp"),
            ("assets/c.p21", "p21"),
            ("assets/site.css", "css"),
            ("types-own.txt", &types),
        ],
    );
}

fn ours(case: &Case, dir: &Path) -> Server {
    let pyserve = Pyserve::bare().current_dir(dir);
    let socket = dir.join("ours");
    let bind = format!("unix:{}", socket.display());
    let arguments = match case.is_socket_alone {
        true => vec!["--bind", &bind],
        false => Vec::new(),
    };
    pyserve
        .env("SOCK", &socket)
        .env("PYSERVE_CONTROL", dir.join("control"))
        .env("PYSERVE_LOG_FORMAT", "pretty")
        .env("PYSERVE_FRONT_THREADS", "1")
        .env("PYSERVE_PYTHON", python::default())
        .args(["--ini", case.file])
        .args(arguments)
        .ready()
}

fn theirs(uwsgi: &Path, case: &Case, dir: &Path) -> Behind {
    let own = temp_dir();
    let mut command = Command::new("sh");
    // `Behind` starts in a directory of its own.
    let script = "cd \"$0\" && exec \"$@\"";
    command.arg("-c").arg(script).arg(dir).arg(uwsgi);
    command.env("SOCK", dir.join("theirs")).env_remove("PORT");
    command.arg("--ini").arg(case.file);
    if case.is_socket_alone {
        command.arg("--http-socket").arg(dir.join("theirs"));
    }
    // The last of the workers.
    let ready = match case.workers {
        Some((_, count, _)) => format!("spawned uWSGI worker {count} ("),
        None => "spawned uWSGI ".to_owned(),
    };
    Behind::start(&mut command, own, &ready)
}

fn ask(socket: &Path, method: &str, target: &str, rest: &str) -> Response {
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: example.org:81\r\nX-Own: x y\r\nConnection: close\r\n{rest}"
    );
    Connection::unix(socket).exchange(request)
}

#[test]
fn files_of_the_corpus_serve_the_same_under_uwsgi_and_pyserve() {
    let Some(uwsgi) = program("uwsgi", "uwsgi") else {
        return;
    };
    assert!(CASES.len() >= 6);
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let uwsgi = &uwsgi;
        let running = CASES
            .iter()
            .map(|case| scope.spawn(move || differences(uwsgi, case)));
        let running: Vec<_> = running.collect();
        let ended = running.into_iter();
        ended.flat_map(|one| one.join().expect("a case")).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The differences of one file that are not listed, and the listed ones that are none.
fn differences(uwsgi: &Path, case: &Case) -> Vec<String> {
    let mut wrong = Vec::new();
    let dir = temp_dir();
    let dir = dir.path().canonicalize().unwrap();
    prepare(case, &dir);
    let _ours = ours(case, &dir);
    let _theirs = theirs(uwsgi, case, &dir);
    let both = [dir.join("ours"), dir.join("theirs")];
    let usual = ["/", "/a%20b/c?x=1&y=%2F", "/missing"];
    for target in usual.iter().chain(case.targets) {
        let [ours, theirs] = both
            .each_ref()
            .map(|socket| ask(socket, "GET", target, "\r\n"));
        compare(case, target, &ours, &theirs, &mut wrong);
    }
    let form =
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 7\r\n\r\na=1&b=2";
    let [ours, theirs] = both
        .each_ref()
        .map(|socket| ask(socket, "POST", "/form", form));
    compare(case, "POST /form", &ours, &theirs, &mut wrong);
    wrong
}

fn compare(case: &Case, target: &str, ours: &Response, theirs: &Response, wrong: &mut Vec<String>) {
    let is_apart = |what: &str| {
        let mut apart = case.apart.iter();
        apart.any(|(targets, fields, _reason)| targets.contains(&target) && fields.contains(&what))
    };
    let mut differs = |what: &str, ours: String, theirs: String| {
        // A difference that has gone is no longer one.
        if (ours != theirs) != is_apart(what) {
            wrong.push(format!(
                "{} {target}: {what}: {ours} here, {theirs} there",
                case.file
            ));
        }
    };
    differs(
        "status",
        ours.status().to_string(),
        theirs.status().to_string(),
    );
    let answers =
        [ours, theirs].map(|response| serde_json::from_slice::<Value>(&response.body).ok());
    let is_file = answers[1].is_none();
    for field in FIELDS {
        let is_untyped = is_file && !case.has_types;
        if is_untyped && *field == UNTYPED_FILES || !is_file && *field == "content-length" {
            continue;
        }
        differs(
            field,
            format!("{:?}", ours.headers(field)),
            format!("{:?}", theirs.headers(field)),
        );
    }
    let [Some(ours), Some(theirs)] = answers else {
        return differs("body", ours.text(), theirs.text());
    };
    for (key, value) in theirs.as_object().unwrap() {
        match key.as_str() {
            "keys" => {}
            "workers" => {
                if let Some((here, there, _reason)) = case.workers {
                    differs("workers", ours[key].to_string(), here.to_string());
                    differs("workers of uWSGI", value.to_string(), there.to_string());
                }
            }
            // An absent one and an empty one are the same to applications.
            "CONTENT_TYPE" | "CONTENT_LENGTH" => {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                differs(key, text(&ours[key]), text(value));
            }
            _ => differs(key, ours[key].to_string(), value.to_string()),
        }
    }
    let keys = |answer: &Value| -> BTreeSet<String> {
        let keys = answer["keys"].as_array().unwrap().iter();
        let keys = keys.map(|key| key.as_str().unwrap().to_owned());
        keys.filter(|key| !KEYS_APART.iter().any(|(apart, _)| apart == key))
            .collect()
    };
    differs(
        "keys",
        format!("{:?}", keys(&ours)),
        format!("{:?}", keys(&theirs)),
    );
}

#[test]
fn the_access_log_has_the_bytes_of_uwsgi_s() {
    let Some(uwsgi) = program("uwsgi", "uwsgi") else {
        return;
    };
    for (file, mark) in [("log-lines.ini", "=GET"), ("log-lines-json.ini", "\"=\"")] {
        let case = Case {
            file,
            edits: &[("http-socket = 127.0.0.1:8080", "http-socket = $(SOCK)")],
            modules: &["app.py"],
            is_socket_alone: false,
            ..CASE
        };
        let dir = temp_dir();
        let dir = dir.path().canonicalize().unwrap();
        prepare(&case, &dir);
        let ours = ours(&case, &dir);
        let theirs = theirs(&uwsgi, &case, &dir);
        for (nth, (target, fields)) in [
            ("/", "\r\n"),
            (
                "/a/b?x=1&y=%2F",
                "Referer: http://a/b\r\nUser-Agent: curl\r\n\r\n",
            ),
            ("/missing?", "\r\n"),
        ]
        .into_iter()
        .enumerate()
        {
            for socket in ["ours", "theirs"] {
                ask(&dir.join(socket), "GET", target, fields);
            }
            let expected = theirs.output.wait_for_nth(mark, nth + 1);
            let found = ours.stdout.wait_for_nth(mark, nth + 1);
            assert_eq!(found, expected, "{file}: {target}");
        }
    }
}
