//! The start of a container without a container: variables and files of widely used images, prestart scripts,
//! a `Procfile`, the verbs that run a command of the project, and the settings of Django from the environment.

use std::path::Path;

use rustix::process::Signal;

use crate::frameworks::venv;
use crate::support::server::{Ended, Pyserve, Server};
use crate::support::{make_fifo, python, skipped, source, temp_dir, write_files};

/// Says variables of its environment.
const APP: &str = r#"
import os
def app(environ, start_response):
    start_response("200 OK", [])
    size = len(environ["wsgi.input"].read())
    text = "%s %s %s" % (os.environ.get("GREETING"), os.getcwd(), size)
    return [text.encode()]
"#;

fn image(dir: &Path) -> Pyserve {
    Pyserve::new().env("PYSERVE_IMAGE", "yes").current_dir(dir)
}

fn body(server: &Server, target: &str) -> String {
    String::from_utf8(server.get(target).body).unwrap()
}

#[test]
fn exports_of_a_prestart_script_reach_the_application_and_the_settings() {
    let dir = temp_dir();
    write_files(
        dir.path(),
        &[
            ("main.py", APP),
            ("assets/a.txt", "a file\n"),
            (
                "prestart.sh",
                "export GREETING=hello\nexport STATIC_URL=/assets STATIC_PATH=$PWD/assets NGINX_MAX_UPLOAD=1k\nset -- x\necho $$ > pid\n",
            ),
        ],
    );
    let mut server = image(dir.path()).ready();
    assert!(body(&server, "/").starts_with("hello "));
    assert_eq!(body(&server, "/assets/a.txt"), "a file\n");
    let long = format!(
        "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1025\r\n\r\n{}",
        "x".repeat(1025)
    );
    assert_eq!(server.exchange(&long).status(), 413);
    // The start says which variables have a meaning.
    server
        .stderr
        .wait_for("NGINX_MAX_UPLOAD=1k: honoured as max_body = \"1K\"");
    assert_eq!(server.stderr.count("PYSERVE_PRESTARTED"), 0);
    // The shell is replaced by the server.
    let pid = std::fs::read_to_string(dir.path().join("pid")).unwrap();
    assert_eq!(pid.trim(), server.pid().as_raw_nonzero().to_string());
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
}

#[test]
fn a_failing_prestart_script_ends_the_start() {
    let dir = temp_dir();
    write_files(
        dir.path(),
        &[
            ("main.py", APP),
            ("prestart.sh", "false\necho not reached >&2\n"),
        ],
    );
    let ended = image(dir.path()).run();
    assert_eq!(ended.code, 5, "{}", ended.stderr);
    assert!(
        ended
            .stderr
            .contains("the prestart script failed with exit code 1")
    );
    assert!(!ended.stderr.contains("not reached"), "{}", ended.stderr);
    let ended = image(dir.path()).args(["--prestart", "gone.sh"]).run();
    assert_eq!(ended.code, 78, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("prestart gone.sh"),
        "{}",
        ended.stderr
    );
    // A path with a quote in it is one word.
    write_files(dir.path(), &[("it's.sh", "export GREETING=quoted\n")]);
    let server = image(dir.path())
        .args(["--prestart", "it's.sh", "--app", "main:app"])
        .ready();
    assert!(body(&server, "/").starts_with("quoted "));
}

/// The shell that sources the script has the traps of the server's start.
#[test]
fn signals_that_the_start_ignores_do_not_end_a_prestart_script() {
    let dir = temp_dir();
    let gate = dir.path().join("gate");
    make_fifo(&gate);
    let script = "echo the script begins >&2\nexport GREETING=$(cat gate)\nsh -c 'kill -HUP $$' || export GREETING=$GREETING-$?\n";
    write_files(dir.path(), &[("main.py", APP), ("prestart.sh", script)]);
    let server = image(dir.path()).started();
    server.stderr.wait_for("the script begins");
    // All whose default action ends a process and which do not stop the server.
    for signal in [
        Signal::HUP,
        Signal::USR1,
        Signal::USR2,
        Signal::ALARM,
        Signal::VTALARM,
        Signal::PROF,
        Signal::XCPU,
    ] {
        server.signal(signal);
    }
    std::fs::write(gate, "released").unwrap();
    server.stderr.wait_for("ready in ");
    // Its commands have the default actions.
    let environ = format!("/proc/{}/environ", server.pid().as_raw_nonzero());
    let environ = String::from_utf8_lossy(&std::fs::read(environ).unwrap()).into_owned();
    assert!(environ.contains("GREETING=released-129"), "{environ}");
}

#[test]
fn variables_of_an_env_file_keep_their_meaning_with_quotes_and_white_space() {
    let dir = temp_dir();
    write_files(
        dir.path(),
        &[("main.py", APP), ("static/a.txt", "a file\n")],
    );
    let mut server = image(dir.path())
        .env("PYSERVE_BIND", "'127.0.0.1:0' ")
        .without("PYSERVE_WORKERS")
        .env("LISTEN_PORT", "")
        .env("NGINX_MAX_UPLOAD", "\"1k\"")
        .env("UWSGI_PROCESSES", " ")
        .env("UWSGI_CHEAPER", "\"\"")
        .env("WEB_CONCURRENCY", "1 ")
        .env("STATIC_URL", "'/assets'")
        .env("STATIC_PATH", "")
        .env("STATIC_INDEX", "\"0\"")
        .env("PRE_START_PATH", "gone.sh")
        .ready();
    let lines = server.stderr.so_far().join("\n");
    for part in [
        "WARN  the value of the variable NGINX_MAX_UPLOAD has quotes around it",
        "WARN  PRE_START_PATH:",
        "there is no such file",
    ] {
        assert!(lines.contains(part), "{part:?} is missing in: {lines}");
    }
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
    for (name, value) in [("LISTEN_PORT", "0"), ("PORT", "0"), ("PORT", " '00' ")] {
        let check = image(dir.path()).without("PYSERVE_BIND").env(name, value);
        let ended = check.args(["check"]).run();
        says(&ended, 78, "not the number of a port, 1 to 65535");
    }
    let check = image(dir.path())
        .without("PYSERVE_BIND")
        .env("PORT", " '8123' ");
    says(&check.args(["check"]).run(), 0, "0.0.0.0:8123");
}

#[test]
fn variables_of_images_have_no_effect_without_the_setting() {
    let dir = temp_dir();
    write_files(
        dir.path(),
        &[
            ("app.py", APP),
            ("prestart.sh", "exit 1\n"),
            ("Procfile", "web: gunicorn nothing\n"),
        ],
    );
    let server = Pyserve::new()
        .current_dir(dir.path())
        .env("APP_MODULE", "nothing")
        .env("NGINX_MAX_UPLOAD", "1")
        .ready();
    assert!(body(&server, "/").starts_with("None "));
}

#[test]
fn the_processes_of_uwsgi_s_variables_are_workers() {
    let dir = temp_dir();
    write_files(
        dir.path(),
        &[
            ("main.py", APP),
            ("uwsgi.ini", "[uwsgi]\nmodule = main\ncallable = app\n"),
        ],
    );
    let check = |variables: &[(&str, &str)], expected: &str| {
        let mut pyserve = image(dir.path()).without("PYSERVE_WORKERS");
        for (name, value) in variables {
            pyserve = pyserve.env(name, value);
        }
        let ended = pyserve.args(["check"]).run();
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        let line = ended
            .stdout
            .lines()
            .find(|line| line.starts_with("workers "));
        let line = line.unwrap_or_default();
        assert!(line.contains(expected), "{expected:?}: {line}");
    };
    check(&[("UWSGI_PROCESSES", "3"), ("UWSGI_CHEAPER", "1")], "1..3");
    check(&[("UWSGI_CHEAPER", "3")], "3..16");
    // One process is uWSGI's default, and not that of the image.
    check(&[], "default");
}

/// A WSGI application of one word.
fn word(word: &str) -> String {
    format!(
        "def application(environ, start_response):\n    start_response('200 OK', [])\n    return [b'{word}']\n"
    )
}

/// The server of an image whose applications `one`, `two` and `three` are in `site`, and which serves what
/// `conf/uwsgi.ini` says; `uwsgi` is a link to the binary.
struct Beside {
    dir: tempfile::TempDir,
    server: Server,
}

impl Beside {
    fn new() -> Self {
        let dir = temp_dir();
        let (one, two, three) = (word("one"), word("two"), word("three"));
        write_files(
            dir.path(),
            &[
                ("site/one.py", &one),
                ("site/two.py", &two),
                ("site/three.py", &three),
                ("site/broken.py", "import nothing_of_this_name\n"),
                ("prestart.sh", "echo sourced >> starts\n"),
            ],
        );
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_pyserve"), dir.path().join("uwsgi"))
            .unwrap();
        let ini = dir.path().join("conf");
        let beside = Self {
            server: {
                write_ini(dir.path(), "uwsgi.ini", "one");
                image(dir.path()).env("UWSGI_INI_DIR", ini).ready()
            },
            dir,
        };
        assert_eq!(beside.served(), "one");
        beside
    }

    fn served(&self) -> String {
        body(&self.server, "/")
    }

    /// `uwsgi` in the directory `below` with the variables of the image, at the address of its server.
    fn uwsgi(&self, below: &str) -> Pyserve {
        let bind = format!("127.0.0.1:{}", self.server.port());
        Pyserve::binary(&self.dir.path().join("uwsgi"))
            .quick()
            .env("PYSERVE_IMAGE", "yes")
            .env("PYSERVE_BIND", bind)
            .env("PYSERVE_CONTROL", self.server.probe.path("control"))
            .current_dir(self.dir.path().join(below))
    }

    fn verb(&self, verb: &str) -> Ended {
        let control = self.server.probe.path("control");
        let ended = Pyserve::bare()
            .env("PYSERVE_CONTROL", control)
            .args([verb])
            .run();
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        ended
    }
}

fn write_ini(dir: &Path, name: &str, app: &str) {
    let chdir = dir.join("site");
    let text = format!(
        "[uwsgi]\nchdir = {}\nwsgi-file = {app}.py\nmaster = true\nsocket = /tmp/uwsgi.sock\n",
        chdir.display()
    );
    write_files(&dir.join("conf"), &[(name, &text)]);
}

/// The guide of an old image: change uwsgi.ini, and call uwsgi.
#[test]
fn uwsgi_called_beside_the_server_of_an_image_hands_its_command_line_over() {
    let beside = Beside::new();
    write_ini(beside.dir.path(), "uwsgi.ini", "two");
    // As the guide prints it, with a dash.
    let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
    let user = [
        "--uid".to_owned(),
        uid.as_raw().to_string(),
        "--gid".to_owned(),
        gid.as_raw().to_string(),
    ];
    let ended = beside
        .uwsgi(".")
        .args(user)
        .args(["–ini=conf/uwsgi.ini"])
        .run();
    says(&ended, 0, "it reloads by this command line");
    assert!(ended.stdout.contains("\nserves "), "{}", ended.stdout);
    assert!(
        ended.stdout.contains("conf/uwsgi.ini:3"),
        "{}",
        ended.stdout
    );
    assert_eq!(beside.served(), "two");
    // Another file, relative to where the command is called.
    write_ini(beside.dir.path(), "other.ini", "three");
    let ended = beside.uwsgi("conf").args(["--ini", "other.ini"]).run();
    says(&ended, 0, "it reloads by this command line");
    assert_eq!(beside.served(), "three");
    let starts = std::fs::read_to_string(beside.dir.path().join("starts")).unwrap();
    assert_eq!(
        starts, "sourced\n",
        "the script is sourced by the server alone"
    );
    // Reloads and upgrades keep it.
    beside.verb("reload");
    assert_eq!(beside.served(), "three");
    crate::upgrade::upgrade(&beside.server);
    assert_eq!(beside.served(), "three");
    beside.verb("reload");
    assert_eq!(beside.served(), "three");
}

#[test]
fn a_command_line_that_cannot_be_served_leaves_the_server_of_an_image_as_it_is() {
    let beside = Beside::new();
    write_ini(beside.dir.path(), "broken.ini", "broken");
    let ended = beside.uwsgi("conf").args(["--ini", "broken.ini"]).run();
    says(&ended, 1, "the old code and settings keep serving");
    assert!(
        ended.stderr.contains("nothing_of_this_name"),
        "{}",
        ended.stderr
    );
    let ended = beside.uwsgi("conf").args(["--ini", "gone.ini"]).run();
    says(&ended, 78, "cannot read gone.ini");
    let ended = beside.uwsgi("conf").args(["–uini=gone.ini"]).run();
    says(&ended, 78, "not with the hyphens of an option");
    beside.verb("reload");
    assert_eq!(beside.served(), "one");
}

#[test]
fn uwsgi_hands_over_to_the_server_of_its_image_at_its_address_alone() {
    let beside = Beside::new();
    write_ini(beside.dir.path(), "other.ini", "two");
    // Another address: a server of its own.
    let own = beside
        .uwsgi("conf")
        .env("PYSERVE_BIND", "127.0.0.1:0")
        .env("PYSERVE_LOG_FORMAT", "pretty")
        .args(["--ini", "other.ini"]);
    let control = own.path("own");
    let own = own.env("PYSERVE_CONTROL", control).ready();
    assert_eq!(body(&own, "/"), "two");
    // Not in an image: the address is taken, as for uWSGI.
    let ended = beside
        .uwsgi("conf")
        .without("PYSERVE_IMAGE")
        .args(["--ini", "other.ini"])
        .run();
    assert_eq!(ended.code, 69, "{}", ended.stderr);
    assert_eq!(beside.served(), "one");
    // A server that is not of an image takes no command line.
    let server = Pyserve::new()
        .args(["--app", "one.py"])
        .current_dir(beside.dir.path().join("site"))
        .ready();
    let ended = beside
        .uwsgi("conf")
        .env("PYSERVE_BIND", format!("127.0.0.1:{}", server.port()))
        .env("PYSERVE_CONTROL", server.probe.path("control"))
        .args(["--ini", "other.ini"])
        .run();
    assert_eq!(ended.code, 69, "{}", ended.stderr);
    assert_eq!(body(&server, "/"), "one");
}

#[test]
fn the_web_line_of_a_procfile_starts_the_server() {
    let dir = temp_dir();
    write_files(
        dir.path(),
        &[
            ("site.py", ""),
            ("src/site_app.py", APP),
            (
                "Procfile",
                "web: cd src && gunicorn --workers 1 --env GREETING=$NAME site_app:app\n",
            ),
        ],
    );
    let server = image(dir.path()).env("NAME", "gunicorn").ready();
    let text = body(&server, "/");
    assert!(
        text.starts_with("gunicorn ") && text.contains("/src "),
        "{text}"
    );
    write_files(
        dir.path(),
        &[(
            "Procfile",
            "web: pyserve --chdir src --app site_app --max-body 1k --env GREETING=own\n",
        )],
    );
    // A flag of the command line takes precedence.
    let server = image(dir.path()).args(["--env", "GREETING=flag"]).ready();
    assert!(body(&server, "/").starts_with("flag "));
}

/// The first part of `docker/test-images.sh`, with the binary under test.
#[test]
fn an_image_serves_any_user_with_a_read_only_root_and_no_capabilities() {
    let state = Path::new(env!("CARGO_TARGET_TMPDIR")).join("images");
    let ran = std::process::Command::new("timeout")
        .args(["600", "bash"])
        .arg(source("docker/test-images.sh"))
        .args(["--first", "--binary", env!("CARGO_BIN_EXE_pyserve")])
        .arg(state)
        .output()
        .expect("a shell");
    let said = [ran.stdout, ran.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    if ran.status.code() == Some(3) {
        let because = said.lines().last().unwrap_or_default();
        return skipped("the image on a strict platform", because);
    }
    assert!(ran.status.success(), "{said}");
    assert!(said.contains("ok      a page"), "{said}");
}

fn says(ended: &Ended, code: i32, part: &str) {
    let said = format!("{}{}", ended.stdout, ended.stderr);
    assert_eq!(ended.code, code, "{said}");
    assert!(said.contains(part), "{part:?} is missing in: {said}");
}

#[test]
fn verbs_run_commands_of_the_project_with_its_variables() {
    let dir = temp_dir();
    let manage = "import os, sys\nprint(os.environ['GREETING'], os.getcwd(), sys.argv[1:])\nsys.exit(len(sys.argv))\n";
    write_files(dir.path(), &[("app.py", APP), ("manage.py", manage)]);
    let verb = |words: &[&str]| {
        Pyserve::new()
            .args(["--app", "app", "--env", "GREETING=hi", "--chdir"])
            .args([dir.path()])
            .args(words)
            .run()
    };
    let ended = verb(&["manage", "migrate", "--fake", "-v", "2"]);
    says(&ended, 5, "['migrate', '--fake', '-v', '2']");
    says(&ended, 5, &format!("hi {}", dir.path().display()));
    says(&verb(&["test", "one"]), 3, "['test', 'one']");
    std::fs::remove_file(dir.path().join("manage.py")).unwrap();
    says(&verb(&["manage", "migrate"]), 1, "there is no");
    says(&verb(&["deploy"]), 1, "nothing to deploy");
    write_files(
        dir.path(),
        &[(
            "test_one.py",
            "import unittest\nclass One(unittest.TestCase):\n    def test_it(self): pass\n",
        )],
    );
    says(&verb(&["test", "test_one"]), 0, "");
}

/// A plain application gets a plain shell, also beside an installed Flask.
#[test]
fn a_shell_has_the_names_of_the_application() {
    let Some(venv) = venv("shells of applications") else {
        return;
    };
    let dir = temp_dir();
    let flask = "from flask import Flask\napp = Flask('of_flask')\n";
    write_files(
        dir.path(),
        &[
            ("plain.py", APP),
            ("of_flask.py", flask),
            (
                "lines",
                "print('it is', getattr(app, 'name', None) or app.__name__)\n",
            ),
        ],
    );
    let shell = |app: &str, expected: &str| {
        let lines = std::fs::File::open(dir.path().join("lines")).unwrap();
        let ended = Pyserve::new()
            .without("PYSERVE_PYTHON")
            .arg_file("--venv", &venv)
            .args(["--app", app])
            .current_dir(dir.path())
            .stdin_from(lines)
            .args(["shell"])
            .run();
        says(&ended, 0, expected);
    };
    shell("plain:app", "it is app");
    shell("plain.py:app", "it is app");
    shell("of_flask:app", "it is of_flask");
}

/// Prints the signals that it gets.
/// Says each signal that it gets. They are blocked and taken one by one: a handler would miss
/// the one that comes between its return and the next pause.
const LISTENER: &str = "
import signal, sys
all = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}
signal.pthread_sigmask(signal.SIG_BLOCK, all)
print('listening', flush=True)
while True:
    number = signal.sigwait(all)
    print('got', int(number), flush=True)
    if number == signal.SIGTERM:
        sys.exit(7)
";

#[test]
fn a_verb_as_process_1_forwards_every_signal_to_its_command() {
    let container = ["--pid", "--fork", "--kill-child", "--mount-proc"];
    let mut unshare = std::process::Command::new("unshare");
    let can = unshare.args(container).arg("true").status();
    if !can.is_ok_and(|status| status.success()) {
        return skipped("signals of verbs", "unshare --pid is not allowed here");
    }
    let dir = temp_dir();
    write_files(dir.path(), &[("app.py", APP), ("manage.py", LISTENER)]);
    let mut outer = Pyserve::binary(Path::new("/usr/bin/unshare"))
        .args(container)
        .args([env!("CARGO_BIN_EXE_pyserve"), "--app", "app", "--chdir"])
        .args([dir.path()])
        .args(["manage", "listen"])
        .started();
    outer.stdout.wait_for("listening");
    let pid = outer.pid().as_raw_nonzero();
    let children = format!("/proc/{pid}/task/{pid}/children");
    let init = std::fs::read_to_string(children).unwrap().trim().to_owned();
    // Of the signals that users send, those with names; and a real-time signal.
    for number in [1, 2, 3, 6, 10, 12, 14, 18, 20, 21, 22, 28, 34, 15] {
        let sent = std::process::Command::new("kill")
            .args([format!("-{number}"), init.clone()])
            .status();
        assert!(sent.is_ok_and(|status| status.success()));
        outer.stdout.wait_for(&format!("got {number}"));
    }
    assert_eq!(outer.wait_exit(), 7);
}

#[test]
fn lines_of_a_procfile_take_the_place_of_commands() {
    let dir = temp_dir();
    write_files(
        dir.path(),
        &[
            ("app.py", APP),
            (
                "Procfile",
                "release: echo released $GREETING\ntest: printf '<%s>'\n",
            ),
        ],
    );
    let verb = |words: &[&str]| {
        Pyserve::new()
            .current_dir(dir.path())
            .env("GREETING", "hello")
            .args(words)
            .run()
    };
    says(&verb(&["deploy"]), 0, "released hello");
    says(&verb(&["test", "a b", "c"]), 0, "<a b><c>");
}

#[test]
fn deploy_migrates_and_collects_static_files() {
    let Some(venv) = venv("deploy of a Django project") else {
        return;
    };
    let dir = temp_dir();
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .arg(source("docker/site"))
        .arg(dir.path().join("site"))
        .status();
    assert!(copied.is_ok_and(|status| status.success()));
    let site = dir.path().join("site");
    let pyserve = || {
        Pyserve::new()
            .without("PYSERVE_PYTHON")
            .env("PYTHONPATH", source("python"))
            .env(
                "DATABASE_URL",
                format!("sqlite:///{}", dir.path().join("site.db").display()),
            )
            .arg_file("--venv", &venv)
            .arg_file("--chdir", &site)
    };
    says(&pyserve().args(["deploy"]).run(), 0, "static file");
    assert!(dir.path().join("site.db").is_file() && site.join("static/visits/site.css").is_file());
    says(&pyserve().args(["test"]).run(), 0, "OK");
    // The module of settings is found below the server's own `pyserve` as well.
    let server = pyserve().ready();
    let page = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let response = server.exchange(page);
    assert_eq!(response.status(), 200, "{response:?}");
    assert!(String::from_utf8_lossy(&response.body).contains("visit 1"));
    assert!(body(&server, "/static/visits/site.css").contains("font"));
}

/// Runs Python with the package in the source tree.
fn python(code: &str, variables: &[(&str, &str)]) -> (bool, String) {
    let ran = std::process::Command::new(python::default())
        .arg("-c")
        .arg(code)
        .env_clear()
        .env("PYTHONPATH", source("python"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let said = [ran.stdout, ran.stderr].concat();
    (
        ran.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

/// The URLs are those of the documentation of dj-database-url and of libpq ("Connection URIs").
#[test]
fn the_url_of_a_database_is_an_entry_of_django_s_databases() {
    let check = |url: &str, expected: &str| {
        let code =
            "import os; from pyserve.django_settings import parse; print(parse(os.environ['U']))";
        let (_, said) = python(code, &[("U", url)]);
        assert!(said.contains(expected), "{url}: {said}");
    };
    let engine = "{'ENGINE': 'django.db.backends.postgresql', 'NAME': ";
    check(
        "postgres://user:p%40ss%2Fw@db.example:5433/site?sslmode=require",
        &format!(
            "{engine}'site', 'USER': 'user', 'PASSWORD': 'p@ss/w', 'HOST': 'db.example', 'PORT': '5433', 'OPTIONS': {{'sslmode': 'require'}}}}"
        ),
    );
    check("postgresql://[::1]/site", "'HOST': '::1', 'PORT': ''");
    check(
        "postgres://%2Fvar%2Frun%2FPostgres/site",
        "'HOST': '/var/run/Postgres'",
    );
    check(
        "postgres://db/site?conn_max_age=600&atomic_requests=true",
        "'CONN_MAX_AGE': 600, 'ATOMIC_REQUESTS': True}",
    );
    check("mysql://u@db/site", "'django.db.backends.mysql'");
    check("sqlite:///db.sqlite3", "'NAME': 'db.sqlite3'}");
    check("sqlite:////data/db.sqlite3", "'NAME': '/data/db.sqlite3'}");
    check("sqlite://:memory:", "'NAME': ':memory:'}");
    check(
        "postgres://db:port/site",
        "ValueError: the port of the database URL",
    );
    check("postgres://db:0/site", "'PORT': ''");
    check(
        "postgres://u@tenant:a:b@db/site",
        "'USER': 'u@tenant', 'PASSWORD': 'a:b', 'HOST': 'db'",
    );
    // The beginning of the password must not become a port, and the user the host.
    for character in ["/", "?", "#"] {
        let say = format!(
            "ValueError: the database URL has a raw {}",
            match character {
                "#" => "#",
                _ => "@",
            }
        );
        for url in [
            format!("postgres://user:12{character}34@db.example:5432/site"),
            format!("postgres://user:@12{character}34@db.example/site"),
            format!("postgres://user:{character}@db.example/site?sslmode=require"),
            format!("mysql://user:12{character}?a=b@db.example/site"),
        ] {
            check(&url, &say);
        }
    }
    check("postgres://user:secret#", "percent-encode");
    // A secret is not shown.
    let (done, said) = python(
        "from pyserve.django_settings import parse; parse('hunter2')",
        &[],
    );
    assert!(!done && said.contains("ValueError: the database URL has no scheme"));
}

#[test]
fn the_environment_gives_exactly_the_settings_that_it_names() {
    let code = "from pyserve.django_settings import *\nprint(sorted(name for name in dir() if name[0] != '_'))\n";
    let names = |variables: &[(&str, &str)]| python(code, variables).1;
    assert_eq!(names(&[]).trim(), "['LOGGING']");
    let said = names(&[
        ("DATABASE_URL", "sqlite:///a"),
        ("DB_REPLICA_URL", "postgres://b/c"),
        ("SECRET_KEY", "x"),
        ("ALLOWED_HOSTS", "a, b"),
        ("USE_X_FORWARDED_HOST", "yes"),
        ("SECURE_PROXY_SSL_HEADER", "no"),
        ("STATIC_ROOT", "/data/static"),
    ]);
    assert_eq!(
        said.trim(),
        "['ALLOWED_HOSTS', 'DATABASES', 'LOGGING', 'SECRET_KEY', 'STATIC_ROOT', 'USE_X_FORWARDED_HOST']"
    );
    let urls = "from pyserve.django_settings import *; print(STATIC_URL, MEDIA_URL)";
    let given = [
        ("STATIC_URL", "/static"),
        ("MEDIA_URL", " https://cdn.example/media/ "),
    ];
    let (_, said) = python(urls, &given);
    assert_eq!(said.trim(), "/static/ https://cdn.example/media/");
    let dir = temp_dir();
    write_files(dir.path(), &[("url", "postgres://u:p@db/site\n")]);
    let file = dir.path().join("url");
    let values = "from pyserve.django_settings import *; print(DATABASES, SECURE_PROXY_SSL_HEADER)";
    let (_, said) = python(
        values,
        &[
            ("DATABASE_URL_FILE", file.to_str().unwrap()),
            ("DB_REPLICA_URL", "postgres://b/c"),
            ("SECURE_PROXY_SSL_HEADER", "yes"),
        ],
    );
    assert!(
        said.contains("'PASSWORD': 'p'") && said.contains("'replica': {"),
        "{said}"
    );
    assert!(
        said.contains("('HTTP_X_FORWARDED_PROTO', 'https')"),
        "{said}"
    );
    let (done, said) = python("import pyserve.django_settings", &[("DEBUG", "maybe")]);
    assert!(!done && said.contains("ValueError: DEBUG=maybe"), "{said}");
}
