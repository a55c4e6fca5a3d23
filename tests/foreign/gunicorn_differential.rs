//! pyserve beside the real gunicorn: both serve the same file, and get the same requests.
//!
//! Differences that are meant, and are not compared: `Server`, `Date`, `Connection` (gunicorn's sync
//! workers close connections), `REMOTE_ADDR` behind a trusted proxy (gunicorn keeps the proxy's address),
//! `SERVER_SOFTWARE`, and `wsgi.multiprocess` (True there for one worker as well).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::support::behind::{Behind, program};
use crate::support::server::{Pyserve, Server};
use crate::support::{python, temp_dir, write_files};

const APP: &str = r#"
import json, os, sys
def application(environ, start_response):
    body = environ["wsgi.input"].read()
    path = environ["PATH_INFO"]
    status = "404 Not Found" if path == "/missing" else "200 OK"
    if path == "/raise":
        raise ValueError("x")
    names = ["REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "SCRIPT_NAME", "CONTENT_LENGTH", "CONTENT_TYPE",
             "HTTP_HOST", "HTTP_X_OWN", "wsgi.url_scheme", "wsgi.multithread", "SERVER_PROTOCOL"]
    found = {name: environ.get(name) for name in names}
    found.update(greeting=os.environ.get("GREETING"), cwd=os.getcwd(), body=body.decode(),
                 program=os.path.basename(sys.argv[0]))
    answer = json.dumps(found, sort_keys=True).encode()
    start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(answer))), ("X-App", "yes"),
                            ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
    return [answer]
def make():
    return application
"#;

/// Files, the arguments of both, and the numbers of workers and threads that they ask for.
const FILES: &[(&str, &[&str], usize, usize)] = &[
    (
        "bind = '127.0.0.1:0'\nworkers = 2\ntimeout = 60\nraw_env = ['GREETING=hello world']\nwsgi_app = 'mysite'\n",
        &[],
        2,
        1,
    ),
    (
        "import os\nworkers = 1 + 0\nthreads = 3\nworker_class = 'gthread'\nkeepalive = 5\npreload_app = True\n\
         bind = ['127.0.0.1:' + str(int(os.environ.get('SURELY_NOT_SET', 0)))]\nmax_requests = 1000\nmax_requests_jitter = 50\n",
        &["mysite:make()"],
        1,
        3,
    ),
    (
        "bind = '127.0.0.1:1'\nworkers = 9\nraw_env = 'GREETING=file'\nforwarded_allow_ips = '127.0.0.1'\n",
        &[
            "mysite:application",
            "-w",
            "3",
            "--bind=127.0.0.1:0",
            "-e",
            "GREETING=command line",
        ],
        3,
        1,
    ),
    (
        "bind = '127.0.0.1:0'\nforwarded_allow_ips = '10.0.0.1'\nworkers = '2'\nthreads = 2\n",
        &["mysite"],
        2,
        2,
    ),
];

const REQUESTS: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: example.com\r\n",
    "GET /a%20b/c?x=1&y=%2f HTTP/1.1\r\nHost: example.com\r\nX-Own: 1\r\n",
    "HEAD /missing HTTP/1.1\r\nHost: example.com\r\n",
    "GET /missing HTTP/1.1\r\nHost: example.com\r\nX-Forwarded-Proto: https\r\n",
    "POST /form HTTP/1.1\r\nHost: example.com\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n",
    "GET /raise HTTP/1.1\r\nHost: example.com\r\n",
];

/// The status, the fields that count, and the body unless the server made it.
fn exchange(port: u16, request: &str) -> (String, Vec<String>, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let body = if request.starts_with("POST") {
        "hello"
    } else {
        ""
    };
    let text = format!("{request}Connection: close\r\n\r\n{body}");
    stream.write_all(text.as_bytes()).unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).unwrap();
    let response = String::from_utf8(response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").expect("a head");
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
    let is_own = |line: &str| {
        let name = line.split(':').next().unwrap().to_ascii_lowercase();
        ["content-type", "content-length", "x-app", "set-cookie"].contains(&&*name)
    };
    let is_by_server = status == "500";
    let mut fields: Vec<_> = lines
        .filter(|line| is_own(line) && !is_by_server)
        .map(str::to_ascii_lowercase)
        .collect();
    fields.sort();
    let body = if is_by_server { "" } else { body };
    (status, fields, body.to_owned())
}

/// The port in a line that has `http://127.0.0.1:`.
fn port(line: &str) -> u16 {
    let (_, rest) = line.split_once("http://127.0.0.1:").unwrap();
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

fn arguments(dir: &Path, own: &[&str]) -> Vec<String> {
    let conf = dir.join("gunicorn.conf.py").display().to_string();
    let chdir = dir.display().to_string();
    let all = ["-c", &conf, "--chdir", &chdir]
        .map(str::to_owned)
        .into_iter();
    all.chain(own.iter().map(|word| (*word).to_owned()))
        .collect()
}

/// Both servers for a file, and the port of the real one.
fn both(
    gunicorn: &Path,
    file: &str,
    own: &[&str],
    workers: usize,
) -> (Behind, u16, Server, TempDir) {
    let dir = temp_dir();
    let files = [("mysite.py", APP), ("gunicorn.conf.py", file)];
    write_files(dir.path(), &files);
    let link = dir.path().join("gunicorn");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_pyserve"), &link).unwrap();
    let words = arguments(dir.path(), own);

    let mut command = Command::new(gunicorn);
    command.args(&words).arg("--no-control-socket");
    for name in ["PORT", "WEB_CONCURRENCY", "GUNICORN_CMD_ARGS"] {
        command.env_remove(name);
    }
    let real = Behind::start(&mut command, temp_dir(), "Listening at: ");
    let real_port = port(&real.output.wait_for("Listening at: "));
    real.output.wait_for_nth("Booting worker with pid", workers);
    let ours = Pyserve::binary(&link).current_dir(dir.path());
    let control = ours.path("control");
    let ours = ours
        .env("PYSERVE_CONTROL", control)
        .env("PYSERVE_LOG_FORMAT", "pretty")
        .env("PYSERVE_PYTHON", python::default())
        .without("PORT")
        .without("WEB_CONCURRENCY")
        .args(&words)
        .ready();
    (real, real_port, ours, dir)
}

#[test]
fn sites_are_served_as_gunicorn_serves_them() {
    let Some(gunicorn) = program("peers", "gunicorn") else {
        return;
    };
    for (file, own, workers, threads) in FILES {
        let (real, real_port, ours, _dir) = both(&gunicorn, file, own, *workers);
        for request in REQUESTS {
            assert_eq!(
                exchange(ours.port(), request),
                exchange(real_port, request),
                "{file}: {request}"
            );
        }
        let log = real.output.so_far().join("\n");
        assert_eq!(log.matches("Booting worker").count(), *workers, "{log}");
        let log = ours.stderr.so_far().join("\n");
        let plural = if *threads == 1 { "thread" } else { "threads" };
        assert!(
            log.contains(&format!("{workers} × {threads} {plural}")),
            "{log}"
        );
    }
}

/// Headers by which proxies declare `https`, under the values of `secure_scheme_headers`.
#[test]
fn the_scheme_is_that_of_gunicorn_s_headers() {
    let Some(gunicorn) = program("peers", "gunicorn") else {
        return;
    };
    let start = "bind = '127.0.0.1:0'\nwsgi_app = 'mysite'\n";
    for fields in [
        "",
        "secure_scheme_headers = {}",
        "secure_scheme_headers = {'X-Forwarded-Proto': 'https', 'X-FORWARDED-SSL': 'on'}",
        "secure_scheme_headers = {'X-FORWARDED-PROTO': 'https'}",
    ] {
        let file = format!("{start}{fields}\n");
        let (_real, real_port, ours, _dir) = both(&gunicorn, &file, &[], 1);
        for own in [
            "X-Forwarded-Proto: https",
            "X-Forwarded-Proto: http",
            "X-Forwarded-Ssl: on",
            "X-Forwarded-Ssl: off",
            "X-Forwarded-Protocol: ssl",
            "X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: on",
        ] {
            let request = format!("GET / HTTP/1.1\r\nHost: example.com\r\n{own}\r\n");
            let (found, expected) = (
                exchange(ours.port(), &request),
                exchange(real_port, &request),
            );
            assert_eq!(found, expected, "{fields}: {own}");
        }
    }
}

#[test]
fn the_access_log_has_the_bytes_of_gunicorn_s() {
    let Some(gunicorn) = program("peers", "gunicorn") else {
        return;
    };
    for format in [
        r#"=%(h)s %(l)s "%(r)s" %(m)s %(U)s "%(q)s" %(H)s %(s)s %(b)s %(B)s %(T)s "%(f)s" "%(a)s""#,
        r"=%({Host}i)s %({raw_uri}e)s /%({query_string}e)s %({remote_addr}e)s %({X-None}i)s %(none)s",
        r#"{"log": "=", "u": "%(u)s", "q": "%(q)s", "f": "%(f)s", "a": "%({user-agent}i)s", "s": %(s)s}"#,
    ] {
        let file = format!(
            "bind = '127.0.0.1:0'\nwsgi_app = 'mysite'\naccesslog = '/dev/stderr'\naccess_log_format = '{format}'\n"
        );
        let (real, real_port, ours, _dir) = both(&gunicorn, &file, &[], 1);
        let mark = if format.starts_with('{') {
            r#""=""#
        } else {
            "="
        };
        for (nth, request) in [
            "GET / HTTP/1.1\r\nHost: example.com\r\n",
            "GET /a/b?x:1&y:%2f HTTP/1.1\r\nHost: example.com\r\nReferer: http://a/b\r\nUser-Agent: curl\r\n",
            "GET /missing? HTTP/1.1\r\nHost: example.com\r\nAuthorization: Basic dXNlcjpwYXNz\r\n",
        ]
        .iter()
        .enumerate()
        {
            exchange(ours.port(), request);
            exchange(real_port, request);
            let expected = real.output.wait_for_nth(mark, nth + 1);
            let found = ours.stdout.wait_for_nth(mark, nth + 1);
            assert_eq!(found, expected, "{format}: {request}");
        }
    }
}
