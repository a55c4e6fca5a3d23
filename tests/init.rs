//! `pyserve init`: the files that it writes for sample directories.

use std::path::{Path, PathBuf};

use crate::support::server::{Ended, Pyserve};
use crate::support::{python, skipped, source, temp_dir, write_files};

const FLASK: &str = "from flask import Flask\napp = Flask(__name__)\n";
const WSGI: &str = "def application(environ, start_response):\n    start_response('200 OK', [])\n    return [b'served']\n";

fn init(dir: &Path, arguments: &[&str]) -> Ended {
    let verb = Pyserve::bare().args(["init"]).args(arguments);
    verb.current_dir(dir).run()
}

/// Runs `pyserve init` where it has to succeed; the settings and the Dockerfile.
fn written(dir: &Path, arguments: &[&str]) -> (String, String) {
    let ended = init(dir, arguments);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).expect("a file");
    (read("pyserve.toml"), read("Dockerfile"))
}

fn check(dir: &Path, interpreter: &Path) -> Ended {
    let verb = Pyserve::bare().args(["check", "--python"]);
    verb.args([interpreter]).current_dir(dir).run()
}

/// Copies a directory of the examples.
fn copied(example: &str, to: &Path) {
    let mut open = vec![(source("python/examples").join(example), to.to_owned())];
    while let Some((from, to)) = open.pop() {
        std::fs::create_dir_all(&to).expect("a directory");
        for entry in std::fs::read_dir(from).expect("an example").flatten() {
            let target = to.join(entry.file_name());
            match entry.path().is_dir() {
                true => open.push((entry.path(), target)),
                false => {
                    std::fs::copy(entry.path(), target).expect("a copy");
                }
            }
        }
    }
}

/// An interpreter with Django and Flask.
fn frameworks(what: &str) -> Option<PathBuf> {
    let default = python::default();
    let interpreter = python::supported().find(|python| python.path == default)?;
    match python::venv(interpreter) {
        Ok(venv) => Some(venv.join("bin/python")),
        Err(because) => {
            skipped(what, &because);
            None
        }
    }
}

#[test]
fn a_wsgi_file_gets_settings_that_check_accepts() {
    let dir = temp_dir();
    write_files(dir.path(), &[("app.py", WSGI)]);
    let (settings, dockerfile) = written(dir.path(), &[]);
    assert!(settings.contains("\napp = \"app\"\n"), "{settings}");
    assert!(
        dockerfile.contains("\nFROM python:3.13-slim\n"),
        "{dockerfile}"
    );
    let ended = check(dir.path(), &python::default());
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stdout.contains("pyserve.toml"), "{}", ended.stdout);
}

#[test]
fn every_commented_setting_is_accepted_without_its_mark() {
    let dir = temp_dir();
    write_files(
        dir.path(),
        &[
            ("app.py", WSGI),
            ("media/a.txt", "a"),
            ("tasks/__init__.py", ""),
            ("tasks/celery.py", "app = Celery('tasks')"),
        ],
    );
    let (settings, _) = written(dir.path(), &[]);
    // A commented line of TOML has its mark and one blank; help has words in front of any `=`.
    let is_line = |line: &str| {
        let name = line.split(" = ").next().unwrap_or_default();
        let is_name = name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        line.starts_with("[[") || (is_name && line.contains(" = "))
    };
    let mut count = 0;
    let active: Vec<_> = settings
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if is_line(rest) => {
                count += 1;
                rest
            }
            _ => line,
        })
        .collect();
    assert!(count >= 12, "{settings}");
    let active = active.join("\n");
    std::fs::write(dir.path().join("pyserve.toml"), &active).unwrap();
    let ended = check(dir.path(), &python::default());
    assert_eq!(ended.code, 0, "{}\n{active}", ended.stderr);
}

#[test]
fn a_django_project_gets_its_commands_and_serves() {
    let Some(interpreter) = frameworks("the settings for a Django project") else {
        return;
    };
    let dir = temp_dir();
    copied("django", dir.path());
    write_files(
        dir.path(),
        &[
            ("requirements.txt", "Django>=4.2\ngunicorn==23\npsycopg2\n"),
            (".python-version", "3.12\n"),
            ("uwsgi.ini", "[uwsgi]\nmodule = mysite.wsgi\nhttp = :8000\n"),
        ],
    );
    let ended = init(dir.path(), &["--dry-run"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(!dir.path().join("pyserve.toml").exists());
    for name in ["pyserve.toml", "Dockerfile", ".dockerignore"] {
        assert!(
            ended.stdout.contains(&format!("==> {name} <==")),
            "{}",
            ended.stdout
        );
    }

    let ended = init(dir.path(), &[]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    for part in [
        "pyserve explain uwsgi.ini",
        "requirements.txt lists gunicorn",
    ] {
        assert!(ended.stdout.contains(part), "{}", ended.stdout);
    }
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    let settings = read("pyserve.toml");
    for line in [
        "app = \"mysite.wsgi\"",
        "# before_start = \"python manage.py migrate --noinput\"",
        "# uwsgi.ini is a file of uWSGI: `pyserve explain uwsgi.ini` shows its settings for this file.",
    ] {
        assert!(
            settings.lines().any(|found| found == line),
            "{line}\n{settings}"
        );
    }
    let dockerfile = read("Dockerfile");
    for line in [
        "FROM python:3.12-slim",
        "RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev libpq-dev && \\",
        "RUN pip install --no-cache-dir -r requirements.txt",
        "RUN python manage.py collectstatic --noinput",
        "ENTRYPOINT [\"pyserve\"]",
    ] {
        assert!(
            dockerfile.lines().any(|found| found == line),
            "{line}\n{dockerfile}"
        );
    }
    let ended = check(dir.path(), &interpreter);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
}

#[test]
fn a_flask_package_below_is_served_with_its_static_folder() {
    let Some(interpreter) = frameworks("the settings for a Flask application") else {
        return;
    };
    let dir = temp_dir();
    write_files(
        dir.path(),
        &[
            ("backend/wsgi.py", "from shop import app\n"),
            ("backend/shop/__init__.py", FLASK),
            ("backend/shop/static/a.css", "a {}"),
            ("backend/requirements.txt", "flask\n"),
        ],
    );
    let (settings, dockerfile) = written(dir.path(), &[]);
    for line in [
        "chdir = \"backend\"",
        "app = \"wsgi\"",
        "static = \"/static=shop/static\"",
        "static_missing = \"/static=app\"",
    ] {
        assert!(
            settings.lines().any(|found| found == line),
            "{line}\n{settings}"
        );
    }
    assert!(
        dockerfile.contains("COPY backend/requirements*.txt ./\n"),
        "{dockerfile}"
    );
    let ended = check(dir.path(), &interpreter);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let server = Pyserve::new()
        .without("PYSERVE_PYTHON")
        .args(["--python"])
        .args([&interpreter])
        .current_dir(dir.path())
        .ready();
    assert_eq!(server.get("/static/a.css").text(), "a {}");
}

#[test]
fn pages_without_an_application_need_no_python() {
    let dir = temp_dir();
    write_files(dir.path(), &[("public/index.html", "<p>page")]);
    let (settings, dockerfile) = written(dir.path(), &[]);
    assert!(settings.contains("\nstatic = \"/=public\"\n"), "{settings}");
    assert!(!dockerfile.contains("python"), "{dockerfile}");
    let server = Pyserve::new().current_dir(dir.path()).ready();
    assert_eq!(server.get("/").text(), "<p>page");
}

#[test]
fn options_of_the_command_line_become_lines_of_the_file() {
    let dir = temp_dir();
    write_files(dir.path(), &[("shop.py", WSGI), ("app.py", FLASK)]);
    let arguments = [
        "--app",
        "shop:application",
        "--workers",
        "3",
        "--trust",
        "10.0.0.0/8",
        "--static",
        "/media=up\"loads",
        "--env",
        "SECRET_KEY=do-not-show",
    ];
    let (settings, _) = written(dir.path(), &arguments);
    for line in [
        "app = \"shop:application\"",
        "workers = 3",
        "trust = \"10.0.0.0/8\"",
        "static = \"/media=up\\\"loads\"",
        "env = \"SECRET_KEY=do-not-show\"",
    ] {
        assert!(
            settings.lines().any(|found| found == line),
            "{line}\n{settings}"
        );
    }
    use std::os::unix::fs::PermissionsExt;
    let mode = dir
        .path()
        .join("pyserve.toml")
        .metadata()
        .unwrap()
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o600, "it has a secret");
    std::fs::create_dir(dir.path().join("up\"loads")).unwrap();
    let ended = check(dir.path(), &python::default());
    assert_eq!(ended.code, 0, "{}", ended.stderr);
}

#[test]
fn files_that_exist_are_never_changed() {
    let dir = temp_dir();
    write_files(
        dir.path(),
        &[("app.py", WSGI), ("Dockerfile", "FROM mine\n")],
    );
    // A link to nowhere is a name that exists, too.
    std::os::unix::fs::symlink("/no/such/file", dir.path().join(".dockerignore")).unwrap();
    let ended = init(dir.path(), &[]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    for part in [
        "wrote pyserve.toml",
        "kept Dockerfile",
        "kept .dockerignore",
    ] {
        assert!(ended.stdout.contains(part), "{}", ended.stdout);
    }
    let dockerfile = std::fs::read_to_string(dir.path().join("Dockerfile")).unwrap();
    assert_eq!(dockerfile, "FROM mine\n");

    std::fs::write(dir.path().join("pyserve.toml"), "workers = 1\n").unwrap();
    let ended = init(dir.path(), &[]);
    assert_eq!(ended.code, 1, "{}", ended.stdout);
    assert!(ended.stderr.contains("--dry-run"), "{}", ended.stderr);
    let settings = std::fs::read_to_string(dir.path().join("pyserve.toml")).unwrap();
    assert_eq!(settings, "workers = 1\n");
}

#[test]
fn a_directory_without_one_application_gets_no_files() {
    for (files, part) in [
        (&[][..], "--app"),
        (&[("notes.txt", "a")], "no application found"),
        (&[("a/app.py", WSGI), ("b/app.py", WSGI)], "in a, b"),
        (
            &[("manage.py", ""), ("a/wsgi.py", ""), ("b/wsgi.py", "")],
            "a.wsgi or b.wsgi",
        ),
    ] {
        let dir = temp_dir();
        write_files(dir.path(), files);
        let ended = init(dir.path(), &[]);
        assert_eq!(ended.code, 78, "{files:?}: {}", ended.stdout);
        assert!(ended.stderr.contains(part), "{files:?}: {}", ended.stderr);
        assert!(!dir.path().join("Dockerfile").exists());
    }
    let ended = init(temp_dir().path(), &["/no/such/directory"]);
    assert_eq!(ended.code, 78, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("/no/such/directory"),
        "{}",
        ended.stderr
    );
}

#[test]
fn each_list_of_packages_has_its_command() {
    let project = "[project]\nname = \"x\"\nversion = \"1\"\nrequires-python = \">=3.10,<3.12\"\n";
    let poetry = "[tool.poetry.dependencies]\npython = \"^3.11\"\n";
    for (files, lines) in [
        (
            &[("pyproject.toml", project), ("uv.lock", "")][..],
            &[
                "FROM python:3.11-slim",
                "COPY pyproject.toml uv.lock ./",
                "ENV VIRTUAL_ENV=/app/.venv PATH=/app/.venv/bin:$PATH",
            ][..],
        ),
        (
            &[("pyproject.toml", poetry), ("poetry.lock", "")],
            &["COPY pyproject.toml poetry.lock ./"],
        ),
        (
            &[("Pipfile", ""), ("Pipfile.lock", "{}")],
            &["RUN pip install --no-cache-dir pipenv && pipenv sync --system"],
        ),
        (
            &[("pyproject.toml", project)],
            &[
                "RUN pip install --no-cache-dir uv && uv pip install --system --no-cache -r pyproject.toml",
            ],
        ),
        (
            &[
                ("requirements/base.txt", ""),
                ("requirements/prod.txt", "-r base.txt"),
            ],
            &[
                "COPY requirements requirements",
                "RUN pip install --no-cache-dir -r requirements/prod.txt",
            ],
        ),
        (&[("setup.py", "")], &["RUN pip install --no-cache-dir ./"]),
        (&[], &["RUN pip install --no-cache-dir Flask"]),
    ] {
        let dir = temp_dir();
        write_files(dir.path(), &[&[("app.py", FLASK)], files].concat());
        let (_, dockerfile) = written(dir.path(), &[]);
        for line in lines {
            assert!(
                dockerfile.lines().any(|found| found == *line),
                "{line}\n{dockerfile}"
            );
        }
        // Its own reader of such files finds nothing to complain about.
        let verb = Pyserve::bare().args(["explain", "Dockerfile"]);
        let ended = verb.current_dir(dir.path()).run();
        assert_eq!(ended.code, 0, "{}", ended.stdout);
    }
}
