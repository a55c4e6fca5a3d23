//! The verdict of every line of the files in `tests/foreign/supervisord`, as in the corpus of uWSGI, and
//! servers that are pointed at such a file.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use super::corpus::{difference, verdicts};
use crate::support::server::Pyserve;
use crate::support::{python, source, temp_dir, write_files};

#[test]
fn every_line_of_supervisord_s_files_has_its_verdict() {
    let dir = source("tests/foreign/supervisord");
    let all = fs::read_dir(&dir).expect("the corpus");
    let mut files: Vec<_> = all
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "conf"))
        .collect();
    files.sort();
    assert!(files.len() >= 10, "{} files", files.len());
    let names = files.iter().map(|path| path.file_name().unwrap());
    let ended = Pyserve::bare()
        .current_dir(&dir)
        .without("PORT")
        .without("WEB_CONCURRENCY")
        .without("FORWARDED_ALLOW_IPS")
        .env("PYSERVE_PYTHON", python::default())
        .args(["explain", "--json"])
        .args(names)
        .run();
    assert_eq!(ended.code, 2, "{}", ended.stderr);
    let explained: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let explained = explained.as_array().unwrap();
    assert_eq!(explained.len(), files.len());
    let mut wrong = Vec::new();
    for (path, explained) in files.iter().zip(explained) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert_eq!(explained["server"], "supervisord", "{name}");
        let toml = explained["pyserve_toml"].as_str().unwrap();
        let here = dir.to_string_lossy();
        let found = format!("{}{toml}", verdicts(explained)).replace(&*here, "HERE");
        wrong.extend(difference(path, &found));
        let lines = explained["lines"].as_array().unwrap();
        let decided: BTreeSet<_> = lines
            .iter()
            .filter_map(|line| line["line"].as_u64())
            .collect();
        let text = fs::read_to_string(path).unwrap();
        for (at, line) in text.lines().enumerate() {
            let is_content = !line.trim().is_empty() && !line.starts_with(['#', ';', '[', ' ']);
            if is_content && !decided.contains(&(at as u64 + 1)) {
                wrong.push(format!("{name}:{}: {line}: no verdict", at + 1));
            }
        }
        if explained.to_string().contains("hunter2") {
            wrong.push(format!("{name}: a secret is shown"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn programs_without_a_server_are_explained_as_nothing_to_serve() {
    let dir = temp_dir();
    let alone = "[supervisord]\n[program: daphne]\ncommand=daphne -p 8000 site.asgi\n";
    let server = "[supervisord]\n[program:web]\ncommand=uwsgi --http :8000 --module site\n";
    write_files(
        dir.path(),
        &[
            ("alone.conf", alone),
            ("server.conf", server),
            ("uwsgi.ini", "[uwsgi]\nmodule = site\n"),
        ],
    );
    let explain = |names: &[&str]| {
        let ended = Pyserve::bare()
            .current_dir(dir.path())
            .without("PORT")
            .args(["explain"])
            .args(names)
            .run();
        (ended.code, ended.stdout)
    };
    let (code, output) = explain(&["alone.conf"]);
    assert_eq!(code, 1, "{output}");
    assert!(
        output.contains("not supported: no program of the file starts"),
        "{output}"
    );
    assert!(output.contains("name = \"daphne\""), "{output}");
    for others in [&["server.conf"][..], &["alone.conf", "uwsgi.ini"]] {
        let (code, output) = explain(others);
        assert_eq!(code, 0, "{output}");
        assert!(
            !output.contains("no program of the file starts"),
            "{output}"
        );
    }
}

#[test]
fn programs_become_the_server_and_its_companions() {
    let dir = temp_dir();
    write_files(
        dir.path(),
        &[
            (
                "site/mysite.py",
                "import os\ndef application(environ, start_response):\n    start_response('200 OK', [])\n    \
                 return [os.environ['GREETING'].encode()]\n",
            ),
            (
                "supervisord.conf",
                "[supervisord]\nnodaemon=true\nenvironment=GREETING=\"hello\"\n\
                 [program:web]\ncommand=gunicorn mysite -b 127.0.0.1:0 -w 2 ; the site\ndirectory=site\n\
                 [program:other]\ncommand=sh -c 'echo \"$OTHER $GREETING in $(basename $(pwd))\"; exec sleep 600'\n\
                 directory=%(here)s/site\nenvironment=OTHER=\"one, two\"\n\
                 [program:start]\ncommand=sh -c 'test -e supervisord.conf && echo at the start; exec sleep 600'\n\
                 [program:relative]\ncommand=sh -c 'test -e mysite.py && echo below the start; exec sleep 600'\ndirectory=site\n\
                 [program:once]\ncommand=false\nautorestart=false\n",
            ),
        ],
    );
    let pyserve = Pyserve::bare().current_dir(dir.path());
    let control = pyserve.path("control");
    let mut server = pyserve
        .env("PYSERVE_CONTROL", control)
        .env("PYSERVE_LOG_FORMAT", "pretty")
        .env("PYSERVE_PYTHON", python::default())
        .without("PORT")
        .without("WEB_CONCURRENCY")
        .args(["--supervisord", "supervisord.conf"])
        .ready();
    assert_eq!(server.get("/").body, b"hello");
    server.stderr.wait_for("one, two hello in site");
    server.stderr.wait_for("at the start");
    server.stderr.wait_for("below the start");
    server
        .stderr
        .wait_for("companion has exited, and is not started again");
    let log = server.stderr.so_far().join("\n");
    assert!(log.contains("2 × 1 thread"), "{log}");
    server.signal(rustix::process::Signal::TERM);
    assert_eq!(server.wait_exit(), 0);
}
