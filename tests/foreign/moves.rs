//! The three moves of the manual page `migrating`, with the files in `tests/foreign/moves`.
//!
//! Before: the real servers with these files. After: pyserve with the same files, then with the
//! `pyserve.toml` that `explain --write` makes of them. All give the same responses, and the page shows the
//! files and the output of `explain` as they are. Directories, sockets and users of the other machine are
//! replaced by some of this one, in the files of both.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::nginx_differential::PARAMS;
use crate::support::behind::{Behind, program};
use crate::support::nginx::Nginx;
use crate::support::raw::Connection;
use crate::support::server::{Pyserve, Server};
use crate::support::{python, skipped, source, temp_dir};

/// The compared parts of a response: its status, and of 200 the type and the body.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    request: &'static str,
    status: u16,
    kind: Vec<String>,
    body: String,
}

/// The responses to `METHOD target`s; a POST has a body of 3 bytes.
fn seen(connect: impl Fn() -> Connection, requests: &[&'static str]) -> Vec<Seen> {
    let ask = |request: &&'static str| {
        let (length, body) = match request.starts_with("POST") {
            true => ("Content-Length: 3\r\n", "a=1"),
            false => ("", ""),
        };
        let text = format!(
            "{request} HTTP/1.1\r\nHost: shop.example.org\r\nConnection: close\r\n{length}\r\n{body}"
        );
        let response = connect().exchange(text);
        let is_content = response.status() == 200;
        Seen {
            request,
            status: response.status(),
            kind: response
                .headers("content-type")
                .into_iter()
                .filter(|_| is_content)
                // Text files of pyserve are UTF-8.
                .map(|kind| kind.split(';').next().unwrap_or_default().to_owned())
                .collect(),
            body: if is_content {
                response.text()
            } else {
                String::new()
            },
        }
    };
    requests.iter().map(ask).collect()
}

/// A copy of the files of a move in a directory that every user may read, with other texts in some places.
fn copied(name: &str, edits: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
    let dir = temp_dir();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let here = dir.path().canonicalize().unwrap();
    let place = here.display().to_string();
    copy(&source("tests/foreign/moves").join(name), &here, &|text| {
        let edited = edits
            .iter()
            .fold(text, |text, (from, to)| text.replace(from, to));
        edited.replace("HERE", &place)
    });
    (dir, here)
}

fn copy(from: &Path, to: &Path, edit: &dyn Fn(String) -> String) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &target, edit),
            false => fs::write(target, edit(fs::read_to_string(&path).unwrap())).unwrap(),
        }
    }
}

/// The name of the user that runs the tests.
fn user() -> String {
    let output = Command::new("id").arg("-un").output().expect("id runs");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The environment with Django and Flask; `None`, and a line, if there is none.
fn venv() -> Option<PathBuf> {
    let system = python::supported().find(|python| python.path == python::default());
    match python::venv(system?) {
        Ok(venv) => Some(venv),
        Err(why) => {
            skipped("the moves of the manual", &why);
            None
        }
    }
}

/// pyserve in this directory, as its files say.
fn pyserve(dir: &Path) -> Pyserve {
    let pyserve = Pyserve::bare().current_dir(dir);
    let control = pyserve.path("control");
    pyserve
        .env("PYSERVE_CONTROL", control)
        .env("PYSERVE_LOG_FORMAT", "pretty")
        .env("PYSERVE_FRONT_THREADS", "1")
}

fn uwsgi(
    uwsgi: &Path,
    dir: &Path,
    words: &[&str],
    variables: &[(&str, &str)],
    last: u32,
) -> Behind {
    let mut command = Command::new("sh");
    // `Behind` starts in a directory of its own.
    let script = "cd \"$0\" && exec \"$@\"";
    command.args(["-c", script]).arg(dir).arg(uwsgi).args(words);
    command.env_remove("PORT").envs(variables.iter().copied());
    let ready = format!("spawned uWSGI worker {last} (");
    Behind::start(&mut command, temp_dir(), &ready)
}

/// Writes the `pyserve.toml` of a file, as the page says; the exit code is that of its lines.
fn write(dir: &Path, file: &str, code: i32) {
    let ended = Pyserve::bare()
        .current_dir(dir)
        .env("PYSERVE_PYTHON", python::default())
        .without("PORT")
        .without("WEB_CONCURRENCY")
        .args(["explain", "--write", file])
        .run();
    assert_eq!(ended.code, code, "{}{}", ended.stdout, ended.stderr);
}

#[test]
fn django_moves_from_nginx_and_uwsgi_and_supervisord() {
    let (Some(program), Some(venv)) = (program("uwsgi", "uwsgi"), venv()) else {
        return;
    };
    let user = user();
    let (_dir, here) = copied(
        "django",
        &[
            ("/srv/shop", "HERE"),
            ("/tmp/shop.sock", "HERE/shop.sock"),
            ("www-data", &user),
        ],
    );
    symlink(&venv, here.join("venv")).unwrap();
    let requests = [
        "GET /",
        "GET /cart/7/?x=1",
        "POST /cart/8/",
        "GET /cart/8",
        "GET /nothing/",
        "GET /static/site.css",
        "GET /static/missing.css",
        "GET /media/receipt.txt",
    ];
    let before = {
        let _uwsgi = uwsgi(&program, &here, &["--ini", "deploy/uwsgi.ini"], &[], 2);
        let text = fs::read_to_string(here.join("deploy/nginx.conf")).unwrap();
        let types = "types { text/css css; text/plain txt; }";
        let text = text
            .replace("/run/nginx.pid", "WORK/pid")
            .replace("include /etc/nginx/mime.types;", types)
            .replace("include uwsgi_params;", PARAMS)
            .replace("listen 80 default_server;", "listen LISTEN default_server;");
        let nginx = match Nginx::with_file(&text) {
            Ok(nginx) => nginx,
            Err(why) => return skipped("the moves of the manual", &why),
        };
        seen(|| nginx.connect(), &requests)
    };
    assert_eq!(before[0].body, "the shop\n");
    let after = |server: &Server| {
        server.stderr.wait_for("the mailer works");
        assert_eq!(seen(|| server.connect(), &requests), before);
        let log = server.stderr.so_far().join("\n");
        assert!(log.contains("2 × 2 threads"), "{log}");
    };
    // Port 80 is not that of a test.
    let unchanged = pyserve(&here)
        .env("PYSERVE_BIND", "127.0.0.1:0")
        .args(["--supervisord", "deploy/supervisord.conf"])
        .ready();
    after(&unchanged);
    drop(unchanged);
    write(&here, "deploy/supervisord.conf", 0);
    let written = pyserve(&here).env("PYSERVE_BIND", "127.0.0.1:0").ready();
    after(&written);
}

/// The responses of nginx and uWSGI, with the files that the image makes of its variables.
fn flask_before(
    program: &Path,
    venv: &Path,
    here: &Path,
    requests: &[&'static str],
) -> Result<Vec<Seen>, String> {
    let place = here.display().to_string();
    let ini = format!("{place}/app/uwsgi.ini");
    let home = format!("--virtualenv={}", venv.display());
    let base = format!("{place}/image/uwsgi.ini");
    let words = ["--ini", &base, "--die-on-term", "--need-app", &home];
    let variables = [("UWSGI_INI", &*ini), ("UWSGI_PROCESSES", "4")];
    let _uwsgi = uwsgi(program, &here.join("app"), &words, &variables, 4);
    let text = fs::read_to_string(here.join("image/nginx.conf")).unwrap();
    let text = text
        .replace("include uwsgi_params;", PARAMS)
        .replace("listen 8080;", "listen LISTEN;");
    let types = "types { text/css css; }";
    let nginx = Nginx::with_servers(&format!("{types}\n{text}"))?;
    Ok(seen(|| nginx.connect(), requests))
}

#[test]
fn flask_moves_from_an_image_of_tiangolo_s_kind() {
    let (Some(program), Some(venv)) = (program("uwsgi", "uwsgi"), venv()) else {
        return;
    };
    let user = user();
    let owner = format!("{user}:{user}");
    let (_dir, here) = copied(
        "flask",
        &[
            ("/app", "HERE/app"),
            ("/tmp/", "HERE/"),
            ("nginx:nginx", &owner),
        ],
    );
    let place = here.display().to_string();
    // The places in it are those of the image.
    let original = source("tests/foreign/moves/flask/Dockerfile");
    fs::copy(original, here.join("Dockerfile")).unwrap();
    let requests = [
        "GET /",
        "GET /count/4",
        "POST /count/9?x=1",
        "GET /count/x",
        "GET /nothing",
        "GET /assets/site.css",
        "GET /assets/missing.css",
    ];
    let app = here.join("app");
    let prestart = Command::new("sh")
        .args(["-c", ". ./prestart.sh"])
        .current_dir(&app)
        .output();
    assert!(prestart.is_ok_and(|output| output.status.success()));
    let before = match flask_before(&program, &venv, &here, &requests) {
        Ok(before) => before,
        Err(why) => return skipped("the moves of the manual", &why),
    };
    assert_eq!(before[0].body, "the counter\n");
    fs::remove_file(here.join("counter-ready")).unwrap();
    let ended = Pyserve::bare()
        .current_dir(&here)
        .without("PORT")
        .args(["explain", "--json", "Dockerfile", "app"])
        .run();
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    let files: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let replaced = files[0]["replace"].as_array().unwrap().last().unwrap();
    let command = replaced["after"][0].as_str().unwrap();
    let words = command.strip_prefix("CMD ").expect("a command");
    let words: Vec<String> = serde_json::from_str(words).unwrap();
    let words = words[1..].iter().map(|word| match word.as_str() {
        "0.0.0.0:8080" => "127.0.0.1:0".to_owned(),
        word => word.replace("/app/", &format!("{place}/app/")),
    });
    let words: Vec<String> = words.collect();
    let after = |words: &[String]| {
        let server = pyserve(&app)
            .env("UWSGI_PROCESSES", "4")
            .env("PYSERVE_VENV", &venv)
            .args(words)
            .ready();
        assert_eq!(seen(|| server.connect(), &requests), before);
        server.stderr.so_far().join("\n")
    };
    let log = after(&words);
    assert!(log.contains("4 × 1 thread"), "{log}");
    // The settings of the file can be those of `pyserve.toml`.
    write(&app, "uwsgi.ini", 0);
    let at = words.iter().position(|word| word == "--ini").unwrap();
    after(&[&words[..at], &words[at + 2..]].concat());
}

#[test]
fn a_procfile_moves_from_gunicorn() {
    let Some(program) = program("peers", "gunicorn") else {
        return;
    };
    let (_dir, here) = copied("gunicorn", &[("0.0.0.0:", "127.0.0.1:")]);
    let requests = [
        "GET /",
        "GET /a%20b?x=1",
        "POST /form",
        "HEAD /",
        "GET /missing",
    ];
    let procfile = fs::read_to_string(here.join("Procfile")).unwrap();
    let line = |name: &str, text: &str| {
        let mut lines = text.lines();
        let found = lines.find_map(|line| line.strip_prefix(name));
        found.expect("a process").to_owned()
    };
    let web = line("web: ", &procfile);
    let bin = temp_dir();
    symlink(env!("CARGO_BIN_EXE_pyserve"), bin.path().join("gunicorn")).unwrap();
    symlink(env!("CARGO_BIN_EXE_pyserve"), bin.path().join("pyserve")).unwrap();
    let before = {
        let script = format!(
            "cd {} && exec {} --no-control-socket",
            here.display(),
            web.replace("gunicorn ", &format!("{} ", program.display()))
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script]).env("PORT", "0");
        command
            .env_remove("WEB_CONCURRENCY")
            .env_remove("GUNICORN_CMD_ARGS");
        let real = Behind::start(&mut command, temp_dir(), "Listening at: ");
        let said = real.output.wait_for("Listening at: ");
        let port = said.rsplit(':').next().unwrap();
        let digits: String = port.chars().take_while(char::is_ascii_digit).collect();
        let port: u16 = digits.parse().unwrap();
        real.output.wait_for_nth("a worker is ready", 2);
        seen(|| Connection::tcp(port), &requests)
    };
    assert_eq!(before[0].status, 200);
    let after = |words: &str, log: &str| {
        let mut words = words.split(' ');
        let program = bin.path().join(words.next().unwrap());
        let ours = Pyserve::binary(&program).current_dir(&here);
        let control = ours.path("control");
        let server = ours
            .env("PYSERVE_CONTROL", control)
            .env("PYSERVE_LOG_FORMAT", "pretty")
            .env("PYSERVE_PYTHON", python::default())
            .env("PORT", "0")
            .without("WEB_CONCURRENCY")
            .args(words)
            .ready();
        assert_eq!(seen(|| server.connect(), &requests), before, "{log}");
        server.stderr.wait_for_nth("a worker is ready", 2);
        let log = server.stderr.so_far().join("\n");
        assert!(log.contains("2 × 4 threads"), "{log}");
    };
    // Unchanged: `gunicorn` is a link.
    after(&web, "the link");
    // The line that `explain` gives.
    let ended = Pyserve::bare()
        .current_dir(&here)
        .env("PYSERVE_PYTHON", python::default())
        .without("PORT")
        .args(["explain", "--json", "Procfile", "gunicorn.conf.py"])
        .run();
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    let files: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let replaced = files[0]["replace"][0]["after"][0].as_str().unwrap();
    after(&line("web: ", replaced), "the line to replace");
    // The settings of the file as `pyserve.toml`, on any port.
    write(&here, "gunicorn.conf.py", 0);
    let written = here.join("pyserve.toml");
    let text = fs::read_to_string(&written).unwrap();
    fs::write(&written, text.replace("127.0.0.1:8000", "127.0.0.1:0")).unwrap();
    after("pyserve --app blog.wsgi", "the settings");
}

/// The lines of a block of the page that begins with this command, without the empty ones.
fn shown(page: &str, command: &str) -> Vec<String> {
    let mut lines = page.lines();
    let first = format!("    $ {command}");
    lines
        .find(|line| **line == first)
        .unwrap_or_else(|| panic!("{command}"));
    lines
        .take_while(|line| line.is_empty() || line.starts_with("    "))
        .filter(|line| !line.is_empty())
        .map(|line| line[4..].to_owned())
        .collect()
}

#[test]
fn the_page_shows_the_files_and_what_explain_prints() {
    let page = fs::read_to_string(source("src/docs/migrating.md")).unwrap();
    let moves = source("tests/foreign/moves");
    for file in [
        "django/deploy/uwsgi.ini",
        "django/deploy/nginx.conf",
        "django/deploy/supervisord.conf",
        "flask/Dockerfile",
        "flask/app/uwsgi.ini",
        "gunicorn/Procfile",
        "gunicorn/gunicorn.conf.py",
    ] {
        let text = fs::read_to_string(moves.join(file)).unwrap();
        let indented = text.lines().map(|line| match line {
            "" => "\n".to_owned(),
            line => format!("    {line}\n"),
        });
        let indented: String = indented.collect();
        assert!(
            page.contains(&indented),
            "{file} is not on the page as it is"
        );
    }
    for (dir, command) in [
        ("django", "pyserve explain deploy/supervisord.conf"),
        ("flask", "pyserve explain Dockerfile app"),
        ("gunicorn", "pyserve explain Procfile gunicorn.conf.py"),
    ] {
        let ended = Pyserve::bare()
            .current_dir(moves.join(dir))
            .env("PYSERVE_PYTHON", python::default())
            .without("PORT")
            .without("WEB_CONCURRENCY")
            .args(command.split(' ').skip(1))
            .run();
        let place = format!("{}/", moves.join(dir).display());
        let output = ended.stdout.replace(&place, "/srv/blog/");
        let lines: Vec<&str> = output.lines().filter(|line| !line.is_empty()).collect();
        // A line with `…` stands for any number of lines.
        let (mut at, mut is_gap) = (0, false);
        for line in shown(&page, command) {
            if line.trim() == "…" {
                is_gap = true;
                continue;
            }
            let rest = lines.get(at..).unwrap_or_default();
            let found = match is_gap {
                true => rest.iter().position(|other| **other == line),
                false => rest.first().filter(|other| **other == line).map(|_| 0),
            };
            let found = found.unwrap_or_else(|| panic!("{command}: {line:?}\n{output}"));
            (at, is_gap) = (at + found + 1, false);
        }
    }
}
