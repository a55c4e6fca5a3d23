//! Servers that are pointed at a file of gunicorn.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::server::{Pyserve, Server};
use crate::support::{is_root, python, temp_dir, write_files};

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

/// As root, a file runs as the user of the server, else as the first owner that is not root.
#[test]
fn root_evaluates_a_file_as_another_user() {
    if !is_root("evaluating as another user") {
        return;
    }
    let dir = temp_dir();
    let note = "import os\nopen(f'note/{os.getuid()}.{os.getgid()}', 'w')\n";
    let conf = format!("{note}wsgi_app = 'mysite'\nbind = '127.0.0.1:0'\n");
    write_files(
        dir.path(),
        &[
            ("mysite.py", APP),
            ("gunicorn.conf.py", &conf),
            ("note/.keep", ""),
        ],
    );
    let set = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set(dir.path(), 0o755);
    set(&dir.path().join("note"), 0o777);
    let noted = || {
        let entries = std::fs::read_dir(dir.path().join("note"))
            .unwrap()
            .flatten();
        let mut names: Vec<_> = entries
            .map(|entry| entry.file_name().into_string().unwrap())
            .filter(|name| name != ".keep")
            .collect();
        names.sort();
        for name in &names {
            std::fs::remove_file(dir.path().join("note").join(name)).unwrap();
        }
        names
    };
    let check = |args: &[&str]| {
        let ended = pyserve(dir.path())
            .args(["check", "--gunicorn", "gunicorn.conf.py"])
            .args(args)
            .run();
        (ended.code, ended.stderr)
    };
    let said = check(&["--uid", "64321", "--gid", "64322"]);
    assert_eq!(noted(), ["64321.64322"], "{said:?}");
    let said = check(&[]);
    assert_eq!(noted(), ["0.0"], "{said:?}");
    let file = dir.path().join("gunicorn.conf.py");
    std::os::unix::fs::chown(&file, Some(64_323), Some(64_324)).unwrap();
    let said = check(&[]);
    assert_eq!(noted(), ["64323.64324"], "{said:?}");
}

#[test]
fn log_files_are_written_where_named_and_opened_again_by_usr1() {
    let dir = temp_dir();
    write_files(
        dir.path(),
        &[
            (
                "mysite.py",
                &APP.replace(
                    "    start_response",
                    "    environ['wsgi.errors'].write('from the application\\n')\n    start_response",
                ),
            ),
            ("logs/.keep", ""),
            (
                "gunicorn.conf.py",
                "wsgi_app = 'mysite'\nbind = '127.0.0.1:0'\naccesslog = 'logs/access.log'\nerrorlog = 'logs/error.log'\n\
                 access_log_format = 'seen %(m)s %(U)s %(s)s'\nloglevel = 'info'\n",
            ),
        ],
    );
    let file = |name: &str| dir.path().join("logs").join(name);
    let mut server = pyserve(dir.path())
        .args(["--gunicorn", "gunicorn.conf.py"])
        .started();
    let address = wait_for(&file("error.log"), "http://127.0.0.1:");
    let port = address.split("http://127.0.0.1:").nth(1).unwrap();
    let port: String = port.chars().take_while(char::is_ascii_digit).collect();
    let get = |path: &str| {
        let mut stream = std::net::TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
        let mut response = String::new();
        std::io::Read::read_to_string(&mut stream, &mut response).unwrap();
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    };
    get("/first");
    wait_for(&file("access.log"), "seen GET /first 200");
    wait_for(&file("error.log"), "from the application");
    for name in ["access.log", "error.log"] {
        std::fs::rename(file(name), file(&format!("{name}.1"))).unwrap();
    }
    server.signal(rustix::process::Signal::USR1);
    wait_for(&file("error.log"), "log files opened again");
    get("/second");
    wait_for(&file("access.log"), "seen GET /second 200");
    let old = std::fs::read_to_string(file("access.log.1")).unwrap();
    assert_eq!(old, "seen GET /first 200\n");
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
    assert_eq!(server.stdout.so_far(), [""; 0]);
}

/// Waits until a file has a line with this text, and returns the line.
fn wait_for(file: &Path, text: &str) -> String {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let all = std::fs::read_to_string(file).unwrap_or_default();
        if let Some(line) = all.lines().find(|line| line.contains(text)) {
            return line.to_owned();
        }
        assert!(std::time::Instant::now() < deadline, "{text}: {all}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn a_log_file_that_cannot_be_opened_ends_the_start_with_78() {
    let dir = temp_dir();
    write_files(dir.path(), &[("mysite.py", APP)]);
    let ended = pyserve(dir.path())
        .args([
            "--app",
            "mysite",
            "--bind",
            "127.0.0.1:0",
            "--log-file",
            "missing/error.log",
        ])
        .run();
    assert_eq!(ended.code, 78, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("cannot open the log file")
            && ended.stderr.contains("missing/error.log"),
        "{}",
        ended.stderr
    );
}

/// The binary by the name `gunicorn`.
fn link(dir: &Path) -> std::path::PathBuf {
    let link = dir.join("gunicorn");
    if !link.exists() {
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_pyserve"), &link).unwrap();
    }
    link
}

#[test]
fn a_link_of_the_name_gunicorn_takes_its_command_line() {
    let dir = temp_dir();
    write_files(
        dir.path(),
        &[
            (
                "mysite.py",
                &format!("{APP}\ndef make():\n    return application\n"),
            ),
            (
                "gunicorn.conf.py",
                "workers = 7\nthreads = 2\nraw_env = ['GREETING=file']\n",
            ),
        ],
    );
    let link = link(dir.path());
    let gunicorn =
        |words: &[&str]| surrounded(Pyserve::binary(&link).current_dir(dir.path())).args(words);
    let started = [
        "mysite:make()",
        "-b",
        "127.0.0.1:0",
        "-w2",
        "--timeout",
        "60",
        "--access-logfile",
        "-",
        "--statsd-host=x:1",
    ];
    let mut server = gunicorn(&started)
        .env("GUNICORN_CMD_ARGS", "--workers 5 -e 'GREETING=hello world'")
        .ready();
    assert_eq!(answer(&server)["greeting"], "hello world");
    server.stdout.wait_for("GET / HTTP/1.1");
    let log = server.stderr.so_far().join("\n");
    assert!(log.contains("2 × 2 threads"), "{log}");
    assert!(
        log.contains("command line: --statsd-host x:1: not supported"),
        "{log}"
    );
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
}

#[test]
fn the_link_answers_the_options_that_start_no_server() {
    let dir = temp_dir();
    write_files(
        dir.path(),
        &[
            ("mysite.py", APP),
            ("broken.py", "raise ValueError('x')\n"),
            ("other.py", "workers = 3\n"),
        ],
    );
    let link = link(dir.path());
    let run = |words: &[&str]| {
        surrounded(Pyserve::binary(&link).current_dir(dir.path()))
            .args(words)
            .run()
    };
    let version = run(&["--version"]);
    assert_eq!(version.code, 0);
    assert!(version.stdout.starts_with("pyserve ") && version.stdout.contains("gunicorn"));
    assert!(run(&["--help"]).stdout.contains("--check-config"));
    let checked = run(&["--check-config", "mysite"]);
    assert_eq!(
        (checked.code, &*checked.stdout),
        (0, ""),
        "{}",
        checked.stderr
    );
    assert_ne!(run(&["--check-config", "broken"]).code, 0);
    let shown = run(&["--print-config", "-c", "other.py", "mysite"]);
    assert_eq!(shown.code, 0, "{}", shown.stderr);
    assert!(shown.stdout.contains("other.py:1"), "{}", shown.stdout);
    for words in [
        &["mysite", "--bogus"][..],
        &["mysite", "-c", "missing.py"],
        &["mysite", "-w", "two"],
    ] {
        let ended = run(words);
        assert_eq!(ended.code, 78, "{words:?}: {}", ended.stderr);
    }
}

#[test]
fn hooks_of_a_worker_run_around_its_life_as_in_gunicorn() {
    let dir = temp_dir();
    let note = "import os\n\ndef note(text):\n    with open(os.environ['NOTES'], 'a') as file:\n        file.write(text + '\\n')\n";
    let app = "import notes\nnotes.note('import')\ndef application(environ, start_response):\n    start_response('200 OK', [])\n    return [b'x']\n";
    let conf = "import notes, os\nwsgi_app = 'mysite'\nbind = '127.0.0.1:0'\nworkers = 1\npreload_app = False\n\n\
                def post_fork(server, worker):\n    notes.note('post_fork %s %s' % (worker.age, server.cfg.workers))\n    \
                server.log.info('spawned as %s', worker.age)\n\n\
                def post_worker_init(worker):\n    notes.note('post_worker_init')\n\n\
                def worker_exit(server, worker):\n    notes.note('worker_exit')\n\n\
                def when_ready(server):\n    server.log.info('when_ready ran')\n    open('ready', 'w').close()\n\n\
                def on_exit(server):\n    notes.note('on_exit %s' % os.path.exists('ready'))\n";
    write_files(
        dir.path(),
        &[
            ("notes.py", note),
            ("mysite.py", app),
            ("gunicorn.conf.py", conf),
        ],
    );
    let notes = dir.path().join("notes.txt");
    let mut server = pyserve(dir.path())
        .env("NOTES", &notes)
        .args(["--gunicorn", "gunicorn.conf.py"])
        .ready();
    server.stderr.wait_for("spawned as 1");
    server.stderr.wait_for("when_ready ran");
    assert_eq!(server.get("/").status(), 200);
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
    let text = std::fs::read_to_string(&notes).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "post_fork 1 1",
            "import",
            "post_worker_init",
            "worker_exit",
            "on_exit True"
        ]
    );
}

#[test]
fn a_hook_that_raises_prevents_the_start_of_its_worker() {
    let dir = temp_dir();
    write_files(
        dir.path(),
        &[
            ("mysite.py", APP),
            (
                "gunicorn.conf.py",
                "wsgi_app = 'mysite'\nbind = '127.0.0.1:0'\ndef post_fork(server, worker):\n    server.nothing_of_the_kind\n",
            ),
        ],
    );
    let ended = pyserve(dir.path())
        .args(["--gunicorn", "gunicorn.conf.py"])
        .run();
    assert_ne!(ended.code, 0);
    assert!(
        ended
            .stderr
            .contains("server.nothing_of_the_kind is not there under pyserve"),
        "{}",
        ended.stderr
    );
}
