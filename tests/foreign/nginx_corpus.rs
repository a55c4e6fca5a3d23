//! The verdict of every line of the files in `tests/foreign/nginx`.
//!
//! As in `corpus.rs`, `NAME.expected` stands beside each file, and `UPDATE_EXPECTED=1` writes it, to be
//! read before it is committed. The files in `embedded` are read beside a `uwsgi.ini` that names the
//! application.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::corpus::{difference, verdicts};
use crate::support::server::Pyserve;
use crate::support::{source, temp_dir, write_files};

fn files(dir: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(dir).expect("the corpus");
    let paths = all.map(|entry| entry.unwrap().path());
    let is_site = |path: &PathBuf| {
        let ending = path.extension().and_then(|ending| ending.to_str());
        matches!(ending, Some("conf" | "template"))
    };
    let mut files: Vec<_> = paths.filter(is_site).collect();
    files.sort();
    files
}

/// The output of `pyserve explain` for files of one directory, one after another.
fn explained(dir: &Path, files: &[PathBuf]) -> Vec<Value> {
    let names = files.iter().map(|path| path.file_name().unwrap());
    let ended = Pyserve::bare()
        .current_dir(dir)
        .without("PORT")
        .args(["explain", "--json"])
        .args(names)
        .run();
    let all: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    all.as_array().unwrap().clone()
}

#[test]
fn every_line_of_the_sites_has_its_verdict() {
    let dir = source("tests/foreign/nginx");
    let alone = files(&dir);
    assert!(alone.len() >= 40, "{} files", alone.len());
    let mut pairs: Vec<_> = explained(&dir, &alone).into_iter().zip(&alone).collect();
    let embedded = dir.join("embedded");
    let mut beside = vec![embedded.join("uwsgi.ini")];
    let sites = files(&embedded);
    beside.extend(sites.clone());
    let with_app = explained(&embedded, &beside);
    pairs.extend(with_app.into_iter().skip(1).zip(&sites));
    let mut wrong = Vec::new();
    for (explained, path) in pairs {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert_eq!(explained["server"], "nginx", "{name}");
        let mut found = verdicts(&explained);
        found.push_str("---\n");
        found.push_str(explained["pyserve_toml"].as_str().unwrap());
        let text = fs::read_to_string(path).unwrap();
        wrong.extend(lines_without_verdict(&name, &text, &explained));
        wrong.extend(difference(path, &found));
        let shown = explained.to_string();
        if ["aHVudGVy", "hunter2"]
            .iter()
            .any(|secret| shown.contains(secret))
        {
            wrong.push(format!("{name}: a password is shown"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Lines that begin a directive and have no verdict; a fault ends the file.
fn lines_without_verdict(name: &str, text: &str, explained: &Value) -> Vec<String> {
    let lines = explained["lines"].as_array().unwrap();
    let of_file = lines
        .iter()
        .filter(|line| line["file"].as_str() == Some(name));
    let known: BTreeSet<u64> = of_file.filter_map(|line| line["line"].as_u64()).collect();
    if lines.iter().any(|line| line["verdict"] == "wrong") {
        return Vec::new();
    }
    let mut is_foreign = false;
    let mut missing = Vec::new();
    for (at, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim();
        let begins = !line.is_empty() && !line.starts_with(['#', '}', '\'', '"']);
        if begins && !is_foreign && !known.contains(&(at as u64 + 1)) {
            missing.push(format!("{name}:{}: {line}: no verdict", at + 1));
        }
        is_foreign = (is_foreign || line.contains("_by_lua_block")) && line != "}";
    }
    missing
}

#[test]
fn variables_of_the_environment_fill_a_template() {
    let dir = source("tests/foreign/nginx");
    let ended = Pyserve::bare()
        .current_dir(dir)
        .env("SITE_PORT", "8081")
        .env("SITE_HOST", "example.com")
        .env("BACKEND_HOST", "backend")
        .env("BACKEND_PORT", "9000")
        .args(["explain", "envsubst.conf.template"])
        .run();
    assert_eq!(ended.code, 0, "{}", ended.stdout);
    assert!(
        ended.stdout.contains("bind = \"0.0.0.0:8081\""),
        "{}",
        ended.stdout
    );
    assert!(
        ended.stdout.contains("upstream = \"http://backend:9000\""),
        "{}",
        ended.stdout
    );
}

#[test]
fn the_equivalent_settings_of_every_site_are_accepted() {
    let dir = source("tests/foreign/nginx");
    let all = files(&dir);
    let mut refused = Vec::new();
    for (explained, path) in explained(&dir, &all).iter().zip(&all) {
        let lines = explained["lines"].as_array().unwrap();
        let is_fatal = |line: &Value| matches!(line["verdict"].as_str(), Some("wrong" | "unset"));
        if lines.iter().any(is_fatal) {
            continue;
        }
        let here = temp_dir();
        let toml = moved(explained["pyserve_toml"].as_str().unwrap(), here.path());
        fs::write(here.path().join("pyserve.toml"), &toml).unwrap();
        let ended = Pyserve::bare()
            .current_dir(here.path())
            .without("PORT")
            .args(["check"])
            .run();
        // The certificates of the sites are not on this machine.
        let is_accepted = ended.code == 0
            || (ended.stderr.contains("cannot read the certificate")
                || ended.stderr.contains("cannot read the authorities"))
                && ["tls_cert", "upstream_ca"]
                    .iter()
                    .any(|name| toml.contains(name));
        if !is_accepted {
            refused.push(format!("{}: {}\n{toml}", path.display(), ended.stderr));
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

/// The settings with the directories of the sites below `root`, where they are made.
fn moved(toml: &str, root: &Path) -> String {
    let mut text = String::new();
    for line in toml.lines() {
        let name = line.split(" = ").next().unwrap_or_default();
        if !matches!(
            name,
            "static" | "file" | "error_page" | "internal" | "basic_auth"
        ) {
            text.push_str(line);
            text.push('\n');
            continue;
        }
        let mut rest = line;
        while let Some(at) = FOLDERS.iter().filter_map(|folder| rest.find(folder)).min() {
            let end = at + rest[at..].find(['"', ' ']).unwrap_or(rest.len() - at);
            let path = root.join(&rest[at + 1..end]);
            match name {
                "static" | "internal" => fs::create_dir_all(&path).unwrap(),
                _ => {
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(&path, "").unwrap();
                }
            }
            text.push_str(&rest[..at]);
            text.push_str(&path.display().to_string());
            rest = &rest[end..];
        }
        text.push_str(rest);
        text.push('\n');
    }
    text
}

/// The beginnings of the directories of the sites.
const FOLDERS: [&str; 7] = [
    "/app/", "/srv/", "/var/", "/usr/", "/home/", "/etc/", "/opt/",
];

#[test]
fn a_proxy_pass_to_the_address_of_gunicorn_is_the_application() {
    let dir = source("tests/foreign/nginx/embedded");
    let all = explained(
        &dir,
        &[dir.join("gunicorn.conf.py"), dir.join("proxy.conf")],
    );
    assert_eq!(all[0]["server"], "gunicorn");
    let toml = all[1]["pyserve_toml"].as_str().unwrap();
    assert!(!toml.contains("127.0.0.1:8000"), "{toml}");
    assert!(
        toml.contains("upstream = \"http://127.0.0.1:5555\""),
        "{toml}"
    );
    let lines = verdicts(&all[1]);
    assert!(lines.contains("7 honoured the application"), "{lines}");
}

#[test]
fn the_uwsgi_pass_of_another_application_stays_an_upstream_server() {
    let dir = temp_dir();
    let site = "server {\nlisten 80;\n\
        location /api/ { uwsgi_pass unix:/run/api.sock; }\n\
        location / { uwsgi_pass unix:///run/web.sock; }\n}\n";
    for (ini, expected) in [
        (
            "[uwsgi]\nmodule = site:app\nsocket = /run/web.sock\n",
            "3 honoured upstream = \"uwsgi+unix:/run/api.sock\"",
        ),
        (
            "[uwsgi]\nmodule = site:app\n",
            "4 unsupported it is the application",
        ),
    ] {
        write_files(dir.path(), &[("uwsgi.ini", ini), ("site.conf", site)]);
        let files = [dir.path().join("uwsgi.ini"), dir.path().join("site.conf")];
        let lines = verdicts(&explained(dir.path(), &files)[1]);
        assert!(lines.contains(expected), "{lines}");
    }
}

#[test]
fn a_site_means_the_application_of_the_command_line_as_at_a_start() {
    let dir = temp_dir();
    let site = "server {\nlisten 80;\nlocation / { uwsgi_pass unix:/run/web.sock; }\n}\n";
    write_files(dir.path(), &[("site.conf", site)]);
    let explained = |flags: &[&str]| {
        let ended = Pyserve::bare()
            .current_dir(dir.path())
            .args(["explain", "--json", "site.conf"])
            .args(flags)
            .run();
        let all: serde_json::Value = serde_json::from_str(&ended.stdout).expect("JSON");
        all[0].clone()
    };
    let alone = explained(&[]);
    let line = "3 honoured upstream = \"uwsgi+unix:/run/web.sock\" (with --app,";
    assert!(verdicts(&alone).contains(line), "{}", verdicts(&alone));
    let with = explained(&["--app", "site:app"]);
    assert!(
        verdicts(&with).contains("3 honoured the application"),
        "{with:#}"
    );
    let toml = with["pyserve_toml"].as_str().unwrap();
    assert!(
        toml.contains("app = \"site:app\"") && !toml.contains("upstream"),
        "{toml}"
    );
}

#[test]
fn fields_of_the_application_s_own_settings_stay_beside_those_of_the_site() {
    let dir = temp_dir();
    let site = "server {\nlisten 80;\nadd_header X-Site a always;\nlocation / { uwsgi_pass unix:/run/web.sock; }\n}\n";
    let ini = "[uwsgi]\nmodule = site:app\nadd-header = X-Own: b\n";
    write_files(dir.path(), &[("uwsgi.ini", ini), ("site.conf", site)]);
    let files = [dir.path().join("uwsgi.ini"), dir.path().join("site.conf")];
    let all = explained(dir.path(), &files);
    let toml = all[1]["pyserve_toml_together"].as_str().unwrap();
    for field in ["X-Site: a", "X-Own: b"] {
        assert!(toml.contains(field), "{toml}");
    }
    assert!(!toml.contains("header_inherit"), "{toml}");
}
