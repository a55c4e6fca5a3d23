//! Servers that are pointed at a file of gunicorn.

use std::path::Path;

use crate::support::server::{Pyserve, Server};
use crate::support::{python, temp_dir, write_files};

const APP: &str = r#"
import json, os
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({
        "greeting": os.environ.get("GREETING"), "cwd": os.getcwd(), "pid": os.getpid(),
        "scheme": environ["wsgi.url_scheme"], "threads": environ["wsgi.multithread"],
    }).encode()]
"#;

/// A server with nothing but what the file says, except for its interpreter.
fn pyserve(dir: &Path) -> Pyserve {
    surrounded(Pyserve::bare().current_dir(dir))
}

fn surrounded(pyserve: Pyserve) -> Pyserve {
    let control = pyserve.path("control");
    ["PORT", "WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS"]
        .into_iter()
        .fold(pyserve, Pyserve::without)
        .env("PYSERVE_CONTROL", control)
        .env("PYSERVE_LOG_FORMAT", "pretty")
        .env("PYSERVE_PYTHON", python::default())
}

fn answer(server: &Server) -> serde_json::Value {
    let response = server.get("/");
    serde_json::from_slice(&response.body).unwrap_or_else(|_| panic!("{response:?}"))
}

#[test]
fn a_site_is_served_as_its_gunicorn_conf_says() {
    let dir = temp_dir();
    write_files(
        dir.path(),
        &[
            ("app/mysite.py", APP),
            ("conf_helpers.py", "def number():\n    return 2\n"),
            (
                "gunicorn.conf.py",
                "import conf_helpers, os\nbind = '127.0.0.1:0'\nworkers = conf_helpers.number()\nthreads = 2\n\
                 chdir = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'app')\n\
                 wsgi_app = 'mysite'\nraw_env = ['GREETING=hello']\npidfile = 'site.pid'\nmax_request = 5\n",
            ),
        ],
    );
    let mut server = pyserve(dir.path())
        .args(["--gunicorn", "gunicorn.conf.py"])
        .ready();
    let answer = answer(&server);
    assert_eq!(answer["greeting"], "hello");
    assert_eq!(answer["threads"], true);
    assert!(
        answer["cwd"].as_str().unwrap().ends_with("/app"),
        "{answer}"
    );
    let log = server.stderr.so_far().join("\n");
    assert!(log.contains("2 × 2 threads"), "{log}");
    assert_eq!(
        log.matches("gunicorn.conf.py:9: max_request = 5: unknown")
            .count(),
        1,
        "{log}"
    );
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
}

#[test]
fn flags_variables_and_pyserve_toml_override_gunicorn_s_file() {
    let dir = temp_dir();
    write_files(
        dir.path(),
        &[
            ("mysite.py", APP),
            (
                "conf/gunicorn.conf.py",
                "wsgi_app = 'mysite'\nworkers = 7\nthreads = 7\nmax_requests = 7\nkeepalive = 7\n",
            ),
            (
                "pyserve.toml",
                "gunicorn = 'conf/gunicorn.conf.py'\nmax_requests = 3\n",
            ),
        ],
    );
    let ended = pyserve(dir.path())
        .env("PYSERVE_THREADS", "2")
        .env("GUNICORN_CMD_ARGS", "--keep-alive 9")
        .args(["check", "--workers", "1"])
        .run();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let row = |name: &str| {
        let start = format!("{name} ");
        let line = ended.stdout.lines().find(|line| line.starts_with(&start));
        let words: Vec<_> = line.unwrap_or_default().split_whitespace().collect();
        words[1..].join(" ")
    };
    assert_eq!(row("workers"), "1 --workers");
    assert_eq!(row("threads"), "2 PYSERVE_THREADS");
    assert_eq!(row("max_requests"), "3 pyserve.toml:2");
    assert_eq!(row("keepalive_timeout"), "9 s GUNICORN_CMD_ARGS");
    assert_eq!(row("app"), "mysite:application conf/gunicorn.conf.py:1");
}

#[test]
fn a_file_of_gunicorn_that_fails_ends_the_start_with_78() {
    let check = |text: &str, expected: &str| {
        let dir = temp_dir();
        write_files(
            dir.path(),
            &[("mysite.py", APP), ("gunicorn.conf.py", text)],
        );
        let ended = pyserve(dir.path())
            .args(["--app", "mysite", "--gunicorn", "gunicorn.conf.py"])
            .run();
        assert_eq!(ended.code, 78, "{text}: {}", ended.stderr);
        assert!(ended.stderr.contains(expected), "{}", ended.stderr);
        assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
    };
    check(
        "workers = 2\nraise RuntimeError('API_TOKEN=hunter2')\n",
        "gunicorn.conf.py:2: raise RuntimeError('API_TOKEN=***: its evaluation fails: RuntimeError: API_TOKEN=***",
    );
    check(
        "workers = 0\n",
        "gunicorn.conf.py:1: workers = 0: no worker would run",
    );
    check(
        "import sys\nsys.exit('bye')\n",
        "gunicorn.conf.py:2: sys.exit('bye'): its evaluation fails: SystemExit: bye",
    );
    check("import os\nos._exit(3)\n", "its evaluation has no result");
    check(
        "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n",
        "its evaluation has no result",
    );
    // A value that only the resolver refuses has its line too.
    check(
        "workers = 99999\n",
        "gunicorn.conf.py:1: workers = 99999: too many",
    );
}

#[test]
fn a_reload_evaluates_the_file_again() {
    let dir = temp_dir();
    let conf = |greeting: &str| {
        format!("wsgi_app = 'mysite'\nbind = '127.0.0.1:0'\nraw_env = 'GREETING={greeting}'\n")
    };
    write_files(
        dir.path(),
        &[("mysite.py", APP), ("gunicorn.conf.py", &conf("one"))],
    );
    let server = pyserve(dir.path())
        .args(["--gunicorn", "gunicorn.conf.py"])
        .ready();
    assert_eq!(answer(&server)["greeting"], "one");
    write_files(dir.path(), &[("gunicorn.conf.py", &conf("second"))]);
    server.signal(rustix::process::Signal::HUP);
    server.stderr.wait_for("reloaded");
    assert_eq!(answer(&server)["greeting"], "second");
}
