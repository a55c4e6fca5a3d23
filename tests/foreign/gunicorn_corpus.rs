//! The verdict of every line of the files in `tests/foreign/gunicorn`, as in the corpus of uWSGI.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::corpus::{difference, verdicts};
use crate::support::server::Pyserve;
use crate::support::{python, source};

fn files() -> Vec<PathBuf> {
    let all = fs::read_dir(source("tests/foreign/gunicorn")).expect("the corpus");
    let mut files: Vec<_> = all
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "py"))
        .collect();
    files.sort();
    files
}

fn explain(dir: PathBuf) -> Pyserve {
    Pyserve::bare()
        .current_dir(dir)
        .without("PORT")
        .without("WEB_CONCURRENCY")
        .without("FORWARDED_ALLOW_IPS")
        .without("GUNICORN_CMD_ARGS")
        .env("PYSERVE_PYTHON", python::default())
        .args(["explain", "--json"])
}

#[test]
fn every_line_of_gunicorn_s_files_has_its_verdict() {
    let files = files();
    assert!(files.len() >= 15, "{} files", files.len());
    let names = files.iter().map(|path| path.file_name().unwrap());
    let ended = explain(source("tests/foreign/gunicorn")).args(names).run();
    // Some of them cannot be evaluated.
    assert_eq!(ended.code, 2, "{}", ended.stderr);
    let explained: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let explained = explained.as_array().unwrap();
    assert_eq!(explained.len(), files.len());
    let mut wrong = Vec::new();
    for (path, explained) in files.iter().zip(explained) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let here = source("tests/foreign/gunicorn");
        let found = verdicts(explained).replace(&*here.to_string_lossy(), "HERE");
        wrong.extend(difference(path, &found));
        wrong.extend(assignments_without_verdict(&name, path, explained));
        for secret in ["hunter2", "s3cr3t"] {
            if explained.to_string().contains(secret) {
                wrong.push(format!("{name}: {secret} is shown"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Lines at the left margin that assign or define a name, and have no verdict.
fn assignments_without_verdict(name: &str, path: &PathBuf, explained: &Value) -> Vec<String> {
    let lines = explained["lines"].as_array().unwrap();
    let decided: BTreeSet<_> = lines
        .iter()
        .filter_map(|line| line["line"].as_u64())
        .collect();
    let text = fs::read_to_string(path).unwrap();
    let is_wrong = explained["exit_code"] == 2;
    let content = text.lines().enumerate().filter(|(_, line)| {
        let is_inside = line.starts_with([' ', '#', ')', ']', '}', '"']) || line.trim().is_empty();
        !is_inside
            && !line.starts_with("else")
            && !line.starts_with("try")
            && !line.starts_with("except")
    });
    // A file that cannot be parsed has one verdict.
    let content = content.filter(|_| !is_wrong || decided.len() > 1);
    content
        .filter(|(at, _)| !decided.contains(&(*at as u64 + 1)))
        .map(|(at, line)| format!("{name}:{}: {line}: no verdict", at + 1))
        .collect()
}
