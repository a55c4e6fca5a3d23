//! What the README and the files of the image name is there: options, settings, exit codes.
//!
//! `pyserve --help` is the witness: it is printed from the one table of settings.

use std::collections::BTreeSet;

use crate::support::server::Pyserve;
use crate::support::source;

fn text(path: &str) -> String {
    std::fs::read_to_string(source(path)).unwrap()
}

/// The part of the README between the line `## title` and the next such line.
fn chapter(title: &str) -> String {
    let readme = text("README.md");
    let (_, rest) = readme
        .split_once(&format!("\n## {title}\n"))
        .unwrap_or_else(|| panic!("no chapter {title}"));
    rest.split("\n## ").next().unwrap_or_default().to_owned()
}

fn help() -> String {
    let ended = Pyserve::new().args(["--help"]).run();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    ended.stdout
}

/// The names behind `--`, as long as a name goes on.
fn options(text: &str) -> BTreeSet<String> {
    let names = text.split("--").skip(1).map(|rest| {
        let end =
            rest.find(|char: char| !(char.is_ascii_lowercase() || "-0123456789".contains(char)));
        rest[..end.unwrap_or(rest.len())].to_owned()
    });
    names
        .filter(|name| name.starts_with(|char: char| char.is_ascii_lowercase()))
        .collect()
}

/// The options that the help describes: those at the beginning of its lines.
fn offered() -> BTreeSet<String> {
    let help = help();
    let described = help
        .lines()
        .filter(|line| line.trim_start().starts_with("--"));
    described
        .filter_map(|line| options(line.trim_start().split(' ').next()?).pop_first())
        .collect()
}

#[test]
fn the_table_of_options_has_every_option_and_no_other() {
    let chapter = chapter("Options");
    let rows = chapter.lines().filter(|line| line.starts_with("| `--"));
    let listed: BTreeSet<_> = rows
        .filter_map(|row| row.split(" | ").next())
        .flat_map(options)
        .collect();
    let offered = offered();
    assert!(offered.len() > 60, "{offered:?}");
    let missing: Vec<_> = offered.difference(&listed).collect();
    let unknown: Vec<_> = listed.difference(&offered).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "missing {missing:?}, unknown {unknown:?}"
    );
}

#[test]
fn options_and_variables_that_are_named_anywhere_are_there() {
    // Of other programs, in the commands and the prose.
    let foreign = [
        "bench",
        "from",
        "interval",
        "path",
        "release",
        "noinput",
        "no-cache-dir",
        "json",
        "rounds",
        "seconds",
        "help",
        "version",
    ];
    let offered = offered();
    let mut wrong = Vec::new();
    for path in ["README.md", "docker/kubernetes.yaml"] {
        let text = text(path);
        let named = options(&text).into_iter();
        wrong.extend(
            named.filter(|name| !offered.contains(name) && !foreign.contains(&name.as_str())),
        );
    }
    for path in [
        "README.md",
        "docker/kubernetes.yaml",
        "docker/Dockerfile",
        "docker/try-image.sh",
    ] {
        let text = text(path);
        for rest in text.split("PYSERVE_").skip(1) {
            let end = rest.find(|char: char| !(char.is_ascii_uppercase() || char == '_'));
            let name = rest[..end.unwrap_or(rest.len())]
                .to_lowercase()
                .replace('_', "-");
            // What Kubernetes would set for a service of that name.
            if !offered.contains(&name) && name != "port" {
                wrong.push(format!("{path}: PYSERVE_{name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn what_stands_for_uwsgi_s_and_nginx_s_settings_is_a_setting() {
    let chapter = chapter("Coming from nginx and uWSGI");
    // Keys of a `[[location]]` alone.
    let mut known: BTreeSet<_> = ["env", "redirect"].map(str::to_owned).into();
    known.extend(offered().iter().map(|name| name.replace('-', "_")));
    let mut count = 0;
    for row in chapter.lines().filter(|line| line.starts_with("| `")) {
        let ours = row.split(" | ").nth(1).expect("a second column");
        for quoted in ours.split('`').skip(1).step_by(2) {
            let name = quoted.split(" = ").next().unwrap_or_default();
            if name.starts_with(|char: char| char.is_ascii_lowercase()) {
                assert!(known.contains(name), "{row}");
                count += 1;
            }
        }
    }
    assert!(count > 30, "{count}");
}

#[test]
fn the_exit_codes_are_those_of_the_help() {
    let readme = chapter("Options");
    let help = help();
    let codes = |text: &str| -> BTreeSet<u32> {
        let (_, rest) = text.split_once("Exit codes:").expect("the exit codes");
        let (rest, _) = rest.split_once("128+n").expect("the last of them");
        rest.split(|char: char| !char.is_ascii_digit())
            .filter_map(|number| number.parse().ok())
            .collect()
    };
    assert_eq!(codes(&readme), codes(&help));
    assert!(codes(&help).len() > 6);
}
