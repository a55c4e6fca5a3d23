//! The verdict of every line of the files in `tests/foreign/uwsgi`.
//!
//! Beside each file stands `NAME.expected`: for each line its number, the word of the verdict, and
//! the detail where the words of the reason do not matter less: `5 honoured workers = 4`. Settings
//! that follow from a default of uWSGI have no number. `UPDATE_EXPECTED=1` writes the files again, to be
//! read before they are committed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::server::Pyserve;
use crate::support::source;

fn files() -> Vec<PathBuf> {
    let all = fs::read_dir(source("tests/foreign/uwsgi")).expect("the corpus");
    let mut files: Vec<_> = all
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let ending = path.extension().and_then(|ending| ending.to_str());
            matches!(ending, Some("ini" | "yaml" | "json" | "xml"))
        })
        .collect();
    files.sort();
    files
}

#[test]
fn every_line_of_the_corpus_has_its_verdict() {
    let files = files();
    assert!(files.len() >= 60, "{} files", files.len());
    let names = files.iter().map(|path| path.file_name().unwrap());
    let ended = Pyserve::bare()
        .current_dir(source("tests/foreign/uwsgi"))
        .without("PORT")
        .args(["explain", "--json"])
        .args(names)
        .run();
    // Some of them cannot be read.
    assert_eq!(ended.code, 2, "{}", ended.stderr);
    let explained: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let explained = explained.as_array().unwrap();
    assert_eq!(explained.len(), files.len());
    let mut wrong = Vec::new();
    for (path, explained) in files.iter().zip(explained) {
        let text = fs::read_to_string(path).unwrap();
        let found = verdicts(explained);
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.ends_with(".ini") {
            wrong.extend(lines_without_verdict(&name, &text, explained));
        }
        wrong.extend(difference(path, &found));
        for secret in ["hunter2", "s3cr3t", "abcdef"] {
            if explained.to_string().contains(secret) {
                wrong.push(format!("{name}: {secret} is shown"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The file `NAME.expected` beside a file, if it differs from what was found; see above for its update.
pub(super) fn difference(path: &Path, found: &str) -> Option<String> {
    let name = path.file_name().unwrap().to_string_lossy();
    let expected = path.with_file_name(format!("{name}.expected"));
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&expected, found).unwrap();
    }
    let expected = fs::read_to_string(&expected).unwrap_or_default();
    (found != expected).then(|| format!("--- {name}\n{found}--- expected\n{expected}"))
}

/// The compact form.
pub(super) fn verdicts(explained: &Value) -> String {
    let mut text = String::new();
    for line in explained["lines"].as_array().unwrap() {
        let number = line["line"].as_u64().unwrap_or_default();
        let word = line["verdict"].as_str().unwrap();
        let mut detail = line["detail"].as_str().unwrap().to_owned();
        // The number of CPUs, and the place of this project, are of the machine.
        let dir = source("tests/foreign/uwsgi");
        detail = detail.replace(&*dir.to_string_lossy(), "HERE");
        let given = line["text"].as_str().unwrap();
        if given.contains("%k") {
            detail = "…".to_owned();
        }
        text.push_str(&format!("{number} {word} {detail}\n"));
    }
    for implied in explained["implied"].as_array().unwrap() {
        text.push_str(&format!("- {}\n", implied["setting"].as_str().unwrap()));
    }
    text.push_str(&format!("exit {}\n", explained["exit_code"]));
    text
}

/// Lines of an ini file that are neither empty nor comments nor sections, and have no verdict.
fn lines_without_verdict(name: &str, text: &str, explained: &Value) -> Vec<String> {
    let mut verdicts: BTreeMap<u64, usize> = BTreeMap::new();
    for line in explained["lines"].as_array().unwrap() {
        if line["file"].as_str() == Some(name) {
            *verdicts
                .entry(line["line"].as_u64().unwrap_or_default())
                .or_default() += 1;
        }
    }
    let numbered = text.lines().enumerate();
    let content = numbered.filter(|(_, line)| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with(['#', ';', '['])
    });
    content
        .filter(|(at, _)| !verdicts.contains_key(&(*at as u64 + 1)))
        .map(|(at, line)| format!("{name}:{}: {line}: no verdict", at + 1))
        .collect()
}

#[test]
fn a_directory_is_searched_and_its_worst_line_is_the_exit_code() {
    let dir = crate::support::temp_dir();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("deploy/uwsgi.ini", "[uwsgi]\nmodule = app\n");
    write("deploy/setup.cfg", "[uwsgi]\nmodule = app\n");
    write("tox.ini", "[tox]\nenvlist = py\n");
    write("package.json", "{\"name\": \"x\"}");
    write("venv/pyvenv.cfg", "");
    write("venv/uwsgi.ini", "[uwsgi]\nmodule = app\n");
    let explain = |argument: &str| {
        let ended = Pyserve::bare()
            .current_dir(dir.path())
            .args(["explain", argument])
            .run();
        (ended.code, ended.stdout, ended.stderr)
    };
    let (code, text, _) = explain(".");
    assert_eq!(code, 0, "{text}");
    assert_eq!(text.matches("(uWSGI)").count(), 1, "{text}");
    write("deploy/uwsgi.ini", "[uwsgi]\nmodule = app\nharakari = 3\n");
    let (code, text, _) = explain("deploy");
    // As under uWSGI, it has no effect.
    assert_eq!(code, 0);
    assert!(text.contains("did you mean harakiri?"), "{text}");
    assert_eq!(explain("missing.ini").0, 2);
    let (code, _, error) = explain("venv/lib");
    assert_eq!(code, 2, "{error}");
    let (code, text, _) = explain("uwsgi --http :8000 -Mp 4 --module 'mysite.wsgi'");
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("app = \"mysite.wsgi\""), "{text}");
    assert!(text.contains("workers = 4"), "{text}");
    let (code, text, _) = explain("uwsgi --http :8000 --proceses 4");
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("did you mean --processes?"), "{text}");
}

#[test]
fn the_written_file_sets_the_same_and_only_its_owner_reads_its_secrets() {
    use std::os::unix::fs::PermissionsExt;
    let dir = crate::support::temp_dir();
    let ini =
        "[uwsgi]\nmodule = app\nprocesses = 3\nenv = API_TOKEN=hunter2\nattach-daemon = sleep 9\n";
    fs::write(dir.path().join("uwsgi.ini"), ini).unwrap();
    let explain = || {
        let explain = ["explain", "--write", "uwsgi.ini"];
        Pyserve::bare().current_dir(dir.path()).args(explain).run()
    };
    let ended = explain();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(!ended.stdout.contains("hunter2"));
    let written = dir.path().join("pyserve.toml");
    let text = fs::read_to_string(&written).unwrap();
    let table: toml::Table = text.parse().unwrap();
    assert_eq!(table["app"].as_str(), Some("app"));
    assert_eq!(table["workers"].as_integer(), Some(3));
    assert_eq!(table["env"].as_str(), Some("API_TOKEN=hunter2"));
    assert_eq!(table["companion"][0]["command"].as_str(), Some("sleep 9"));
    let mode = written.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // It is not written over.
    let ended = explain();
    assert_eq!(ended.code, 1);
    assert!(
        ended.stderr.contains("there is one already"),
        "{}",
        ended.stderr
    );
}
