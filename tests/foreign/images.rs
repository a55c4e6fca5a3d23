//! Whole images: the verdict of every line of their files, and the lines to replace.
//!
//! Each directory of `tests/foreign/images` is one image; `NAME.expected` beside it has, for each file, its
//! lines as in the corpus of uWSGI, then the replacements. `UPDATE_EXPECTED=1` writes the files again, to be
//! read before they are committed.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::corpus::difference;
use crate::support::server::Pyserve;
use crate::support::{source, temp_dir, write_files};

fn explain(dir: &Path, arguments: &[&str]) -> (i32, String, String) {
    let ended = Pyserve::bare()
        .current_dir(dir)
        .without("PORT")
        .args(["explain"])
        .args(arguments)
        .run();
    (ended.code, ended.stdout, ended.stderr)
}

#[test]
fn every_line_of_whole_images_has_its_verdict_and_replacement() {
    let images = source("tests/foreign/images");
    let mut names: Vec<_> = fs::read_dir(&images)
        .expect("the images")
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    names.sort();
    assert!(names.len() >= 6, "{} images", names.len());
    let mut wrong = Vec::new();
    for dir in names {
        let (code, output, error) = explain(&dir, &["--json", "."]);
        let files: Value = serde_json::from_str(&output).unwrap_or_else(|_| panic!("{error}"));
        let mut found = String::new();
        for file in files.as_array().unwrap() {
            found.push_str(&of_file(file));
        }
        found.push_str(&format!("exit {code}\n"));
        if output.contains("hunter") {
            wrong.push(format!("{}: a secret is shown", dir.display()));
        }
        if found.contains(&*dir.display().to_string()) {
            wrong.push(format!("{}: a path of this machine", dir.display()));
        }
        wrong.extend(difference(&dir, &found));
        scripts_stay_scripts(&dir, &files, &mut wrong);
        every_line_has_a_verdict(&dir, &files, &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_python_that_is_too_old_is_said_first() {
    let dir = temp_dir();
    write_files(
        dir.path(),
        &[
            ("Procfile", "web: gunicorn app:app\n"),
            (
                "Dockerfile",
                "FROM python:3.6-slim AS run\nCMD [\"gunicorn\", \"app:app\"]\n",
            ),
        ],
    );
    let (_, output, _) = explain(dir.path(), &["Procfile", "Dockerfile"]);
    let first = output.lines().next().unwrap_or_default();
    assert!(
        first.contains("FIRST: Dockerfile:1: CPython 3.6"),
        "{output}"
    );
    assert!(first.contains("FROM python:3.13-slim"), "{output}");
}

/// Verdicts and replacements of one file.
fn of_file(file: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut found = format!("== {} ({})\n", text(&file["name"]), text(&file["server"]));
    for line in file["lines"].as_array().unwrap() {
        let number = line["line"].as_u64().unwrap_or_default();
        let (word, detail) = (text(&line["verdict"]), text(&line["detail"]));
        found.push_str(&format!("{number} {word} {detail}\n"));
    }
    for replacement in file["replace"].as_array().unwrap() {
        let mut number = replacement["line"].to_string();
        for (sign, lines) in [('-', "before"), ('+', "after")] {
            for line in replacement[lines].as_array().unwrap() {
                found.push_str(&format!("{number} {sign} {}\n", text(line)));
                number.clear();
            }
        }
    }
    found
}

/// A script that the shell could read before it can read after its replacements.
fn scripts_stay_scripts(dir: &Path, files: &Value, wrong: &mut Vec<String>) {
    let is_readable = |text: &str| {
        let ended = Command::new("bash").args(["-n", "-c", text]).output();
        ended.expect("bash").status.success()
    };
    let files = files.as_array().unwrap().iter();
    for file in files.filter(|file| file["server"] == "entry script") {
        let name = file["name"].as_str().unwrap();
        let text = fs::read_to_string(dir.join(name)).unwrap();
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        let replacements = file["replace"].as_array().unwrap();
        for one in replacements.iter().rev() {
            let lines_of = |part: &str| {
                let lines = one[part].as_array().unwrap().iter();
                lines
                    .map(|line| line.as_str().unwrap().to_owned())
                    .collect::<Vec<_>>()
            };
            let start = one["line"].as_u64().unwrap() as usize - 1;
            lines.splice(start..start + lines_of("before").len(), lines_of("after"));
        }
        let after = lines.join("\n");
        if is_readable(&text) && !is_readable(&after) {
            wrong.push(format!(
                "{}: {name}: the shell cannot read it:\n{after}",
                dir.display()
            ));
        }
    }
}

/// Each line of a Dockerfile, Procfile or script has a verdict, or belongs to one before it.
fn every_line_has_a_verdict(dir: &Path, files: &Value, wrong: &mut Vec<String>) {
    for file in files.as_array().unwrap() {
        let name = file["name"].as_str().unwrap();
        if !["Dockerfile", "Procfile", "entry script"].contains(&file["server"].as_str().unwrap()) {
            continue;
        }
        let text = fs::read_to_string(dir.join(name)).unwrap();
        let lines = file["lines"].as_array().unwrap();
        let numbers = lines.iter().filter_map(|line| line["line"].as_u64());
        let numbers: Vec<_> = numbers.collect();
        let (mut is_continued, mut is_text) = (false, false);
        for (index, line) in text.lines().enumerate() {
            let trimmed = line.trim();
            let is_content = !trimmed.is_empty() && !trimmed.starts_with('#');
            let is_first = is_content && !is_continued && !is_text;
            if is_first && !numbers.contains(&(index as u64 + 1)) {
                wrong.push(format!("{name}:{}: {line}: no verdict", index + 1));
            }
            is_text = match is_text {
                true => trimmed != "EOF",
                false => trimmed.ends_with("<<EOF"),
            };
            let continues = ["\\", "&&", "||", "|"]
                .iter()
                .any(|end| trimmed.ends_with(end));
            is_continued = continues || is_continued && !is_content;
        }
    }
}

#[test]
fn the_command_of_an_explained_dockerfile_has_the_settings_of_the_one_before() {
    let dir = temp_dir();
    write_files(
        dir.path(),
        &[
            (
                "Dockerfile",
                "FROM python:3.12-slim\nCMD [\"uwsgi\", \"--http\", \"127.0.0.1:8123\", \"-w\", \"mysite\", \
                 \"-p\", \"3\", \"--threads=2\", \"--env\", \"A=b c\"]\n",
            ),
            (
                "mysite.py",
                "def application(environ, start_response):\n    pass\n",
            ),
        ],
    );
    let (code, output, _) = explain(dir.path(), &["--json", "Dockerfile"]);
    assert_eq!(code, 0, "{output}");
    let files: Value = serde_json::from_str(&output).unwrap();
    let after = files[0]["replace"][1]["after"][0].as_str().unwrap();
    let words: Vec<String> = serde_json::from_str(after.strip_prefix("CMD ").unwrap()).unwrap();
    assert_eq!(words[0], "pyserve");
    let checked = Pyserve::bare()
        .current_dir(dir.path())
        .args(["check"])
        .args(&words[1..])
        .run();
    assert_eq!(checked.code, 0, "{}", checked.stderr);
    for (name, expected) in [
        ("workers", "3 "),
        ("threads", "2 "),
        ("app", "mysite "),
        ("bind", "127.0.0.1:8123 "),
        ("request_timeout", "no limit "),
        ("env", "A=b c "),
    ] {
        let mut lines = checked.stdout.lines();
        let line = lines.find(|line| line.starts_with(&format!("{name} ")));
        let value = line
            .and_then(|line| line.strip_prefix(name))
            .unwrap_or_default();
        assert!(
            value.trim_start().starts_with(expected),
            "{name}: {}",
            checked.stdout
        );
    }
}

#[test]
fn names_and_first_lines_tell_the_files_of_an_image() {
    let dir = temp_dir();
    let dockerfile = "FROM python:3.12\nCMD [\"uwsgi\", \"x.ini\"]\n";
    write_files(
        dir.path(),
        &[
            ("docker/web.Dockerfile", dockerfile),
            ("Dockerfile.prod", &dockerfile.replace("3.12", "3.6")),
            ("start", "#!/usr/bin/env bash\nexec uwsgi x.ini\n"),
            ("build.sh", "#!/bin/sh\nmake\n"),
            ("notes.txt", "exec uwsgi x.ini\n"),
            ("x.ini", "[uwsgi]\nmodule = a\n"),
        ],
    );
    let (code, output, _) = explain(dir.path(), &["--json", "."]);
    let files: Value = serde_json::from_str(&output).unwrap();
    let files = files.as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let names = files
        .iter()
        .map(|file| (text(&file["name"]), text(&file["server"])));
    let expected = [
        ("./Dockerfile.prod", "Dockerfile"),
        ("./docker/web.Dockerfile", "Dockerfile"),
        ("./start", "entry script"),
        ("./x.ini", "uWSGI"),
    ];
    let expected = expected.map(|(name, server)| (name.to_owned(), server.to_owned()));
    assert_eq!(names.collect::<Vec<_>>(), expected);
    // Python is too old in one of them.
    assert_eq!(code, 1);
    let (code, output, _) = explain(dir.path(), &["docker", "start", "x.ini"]);
    assert_eq!(code, 0, "{output}");
    let patch = "# lines to replace\n   1 - FROM python:3.12\n   1 + FROM python:3.12\n     + COPY --from=pyserve";
    assert!(output.contains(patch), "{output}");
    assert!(
        output.contains("   2 - exec uwsgi x.ini\n   2 + exec pyserve --ini x.ini\n"),
        "{output}"
    );
    for missing in ["missing", "missing/Dockerfile", "Procfile", "missing.sh"] {
        let (code, _, error) = explain(dir.path(), &[missing]);
        assert_eq!(code, 2, "{missing}: {error}");
    }
    // The default of an argument is part of the base image's name.
    let text = "ARG PYTHON=3.7\nARG VARIANT=slim\nFROM python:${PYTHON}-$VARIANT\n";
    write_files(dir.path(), &[("old/Dockerfile", text)]);
    let (code, output, _) = explain(dir.path(), &["old"]);
    assert_eq!(code, 1, "{output}");
    assert!(
        output.contains("CPython 3.7: pyserve needs 3.9 or newer"),
        "{output}"
    );
    // Only settings are written.
    let (code, _, error) = explain(dir.path(), &["--write", "start", "x.ini"]);
    assert_eq!(code, 0, "{error}");
    assert!(dir.path().join("pyserve.toml").exists());
}

/// The lines of `pyserve check` for these settings.
fn checked(dir: &Path, words: &[String], names: &[&str]) -> Vec<String> {
    let checked = Pyserve::bare()
        .current_dir(dir)
        .without("PORT")
        .args(["check"])
        .args(words)
        .run();
    assert_eq!(checked.code, 0, "{words:?}: {}", checked.stderr);
    let lines = checked.stdout.lines();
    let lines = lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines
        .filter(|line| {
            let name = line.split(' ').next().unwrap_or_default();
            names.contains(&name)
        })
        .collect()
}

#[test]
fn proposed_commands_leave_to_the_site_of_nginx_what_it_says() {
    let names = ["bind", "max_body", "access_log", "app", "nginx"];
    // The site of the image's own directory.
    let dir = temp_dir();
    let of = source("tests/foreign/images/tiangolo-site");
    for file in ["Dockerfile", "nginx.conf", "uwsgi.ini", "main.py"] {
        fs::copy(of.join(file), dir.path().join(file)).unwrap();
    }
    let (_, output, _) = explain(dir.path(), &["--json", "."]);
    let files: Value = serde_json::from_str(&output).unwrap();
    let replaced = files[0]["replace"].as_array().unwrap();
    let command = replaced.last().unwrap()["after"][0].as_str().unwrap();
    let words: Vec<String> = serde_json::from_str(command.strip_prefix("CMD ").unwrap()).unwrap();
    let here = dir.path().display().to_string();
    let words: Vec<_> = words[1..]
        .iter()
        .map(|word| word.replace("/app/", &format!("{here}/")))
        .collect();
    let expected = [
        format!("app main:app {here}/uwsgi.ini:2"),
        format!("bind 127.0.0.1:18443 {here}/nginx.conf:4"),
        format!("max_body 10K {here}/nginx.conf:5"),
        "access_log combined default".to_owned(),
        format!("nginx {here}/nginx.conf --nginx"),
    ];
    let mut found = checked(dir.path(), &words, &names);
    assert_eq!(sorted(&mut found), sorted(&mut expected.to_vec()));
    // The site of another container, whose settings become a file.
    let dir = temp_dir();
    let of = source("tests/foreign/images/proxy-of-gunicorn");
    for file in [
        "compose.yaml",
        "nginx/Dockerfile",
        "nginx/site.conf",
        "web/Dockerfile",
        "web/start.sh",
        "web/mysite.py",
    ] {
        fs::create_dir_all(dir.path().join(file).parent().unwrap()).unwrap();
        fs::copy(of.join(file), dir.path().join(file)).unwrap();
    }
    let (_, output, error) = explain(dir.path(), &["--json", "--write", "."]);
    assert!(
        error.starts_with("pyserve: wrote ") && error.ends_with("/pyserve.toml"),
        "{error}"
    );
    let files: Value = serde_json::from_str(&output).unwrap();
    let web = dir.path().join("web");
    fs::rename(dir.path().join("pyserve.toml"), web.join("pyserve.toml")).unwrap();
    let expected = [
        "app mysite:application --app",
        "bind 0.0.0.0:8080 pyserve.toml:1",
        "max_body 10K pyserve.toml:4",
        "access_log off pyserve.toml:5",
        "nginx none default",
    ];
    for (file, start) in [(0, "    command: pyserve "), (4, "exec pyserve ")] {
        let line = files[file]["replace"][0]["after"][0].as_str().unwrap();
        let words = line.strip_prefix(start).unwrap().split(' ');
        // The shell reads the line.
        let words: Vec<_> = words
            .map(|word| word.replace("${WEB_CONCURRENCY:-1}", "1"))
            .collect();
        let mut found = checked(&web, &words, &names);
        let mut expected = expected.map(str::to_owned).to_vec();
        assert_eq!(sorted(&mut found), sorted(&mut expected), "{line}");
    }
}

fn sorted(lines: &mut [String]) -> &[String] {
    lines.sort();
    lines
}
