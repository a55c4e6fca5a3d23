//! The manual: it names everything that a user can meet, in plain words, and `pyserve help`
//! shows it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::readme::{manual, offered, text};
use crate::support::server::Pyserve;
use crate::support::{skipped, source, temp_dir, write_files};
use crate::terminal::terminal;

/// Words and phrases that are not plain technical English, with what to write instead.
const WORST: &[(&str, &str)] = &[
    ("whoever", "the noun: the client, the user"),
    ("nobody", "no client, no process"),
    ("everybody", "every client"),
    ("somebody", "the noun"),
    (" tells ", "says, reports, forwards"),
    (" is told", "gets, is sent"),
    (" are told", "get, are sent"),
    ("breaks off", "is truncated, disconnects"),
    ("broken off", "truncated"),
    ("who comes later", "later connections"),
    ("lets go", "releases"),
    ("let go of", "released"),
    ("fattest", "with the largest resident set size"),
    ("counts as not said", "is ignored"),
    ("for one hop alone", "hop-by-hop"),
    ("believed", "trusted"),
    ("not ready any more", "no longer ready"),
    ("may be had", "is available"),
    ("be had back", "be regained"),
];

/// Paths of the source tree in a document, in backquotes; patterns and parts of paths are left out.
fn paths_in(text: &str) -> impl Iterator<Item = &str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter(|quoted| {
        let is_path = quoted.starts_with("src/")
            || quoted.starts_with("python/")
            || quoted.starts_with("tests/")
            || quoted.starts_with("benches/")
            || quoted.starts_with("docker/");
        is_path && !quoted.contains(['*', '{', ' ', '<'])
    })
}

#[test]
fn every_path_that_the_documents_name_exists() {
    let mut documents = manual();
    let others = ["README.md", "CONTRIBUTING.md", "SECURITY.md"];
    documents.extend(others.map(str::to_owned));
    documents.push("src/ARCHITECTURE.md".to_owned());
    documents.push("benches/README.md".to_owned());
    let mut missing = Vec::new();
    for document in documents {
        let text = text(&document);
        missing.extend(
            paths_in(&text)
                .filter(|path| !source(path).exists())
                .map(|path| format!("{document}: {path}")),
        );
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn no_sentence_of_the_documents_has_the_worst_words() {
    let mut documents = manual();
    documents.extend(
        [
            "README.md",
            "CONTRIBUTING.md",
            "SECURITY.md",
            "benches/README.md",
        ]
        .map(str::to_owned),
    );
    let documents = documents.into_iter().map(|path| {
        let text = text(&path);
        (path, text)
    });
    let printed = [
        &["--help"][..],
        &["-h"],
        &["help"],
        &["man"],
        &["status", "--help"],
        &["health", "--help"],
    ];
    let printed = printed.map(|arguments| {
        let ended = Pyserve::new().args(arguments).run();
        (format!("pyserve {}", arguments.join(" ")), ended.stdout)
    });
    let mut wrong = Vec::new();
    for (path, text) in documents.chain(printed) {
        // Phrases may be wrapped. Quotations of bad examples are marked with « ».
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let text = text.to_lowercase();
        for (words, better) in WORST {
            for (at, _) in text.match_indices(words) {
                let around: String = text[..at].chars().rev().take(30).collect();
                let around: String = around.chars().rev().collect();
                let is_example = text[..at].matches('«').count() > text[..at].matches('»').count();
                if !is_example {
                    wrong.push(format!("{path}: …{around}[{words}], better: {better}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_option_has_an_entry() {
    let options = text("src/docs/options.md");
    let entries: BTreeSet<String> = options
        .lines()
        .filter_map(|line| line.strip_prefix("### `--"))
        .map(|rest| {
            let end = rest.find([' ', '[', '`']).unwrap();
            rest[..end].to_owned()
        })
        .collect();
    let offered: BTreeSet<_> = offered()
        .into_iter()
        .filter(|name| name != "help" && name != "version")
        .collect();
    assert!(offered.len() > 60);
    assert_eq!(entries, offered);
}

/// The words of the sources below `dir` that begin with `prefix` inside a string.
fn quoted(dir: &Path, prefix: &str, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            quoted(&path, prefix, found);
            continue;
        }
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (at, _) in code.match_indices(&format!("\"{prefix}")) {
            let rest = &code[at + 1..];
            let end = rest.find(|char: char| !(char.is_ascii_lowercase() || char == '_'));
            found.insert(rest[..end.unwrap_or(rest.len())].to_owned());
        }
    }
}

#[test]
fn every_metric_is_in_the_manual_and_no_other() {
    let mut known = BTreeSet::new();
    quoted(&source("src/front/admin"), "pyserve_", &mut known);
    assert!(known.len() > 30, "{known:?}");
    let page = text("src/docs/monitoring.md");
    let named: BTreeSet<String> = page
        .split("`pyserve_")
        .skip(1)
        .map(|rest| {
            let end = rest.find(|char: char| !(char.is_ascii_lowercase() || char == '_'));
            format!("pyserve_{}", &rest[..end.unwrap_or(rest.len())])
        })
        .collect();
    // A counter's family has its name without the ending.
    let family = |name: &String| name.trim_end_matches("_total").to_owned();
    let known: BTreeSet<_> = known.iter().map(family).collect();
    let named: BTreeSet<_> = named.iter().map(family).collect();
    assert_eq!(named, known);
}

#[test]
fn a_topic_that_a_document_names_exists() {
    let mut documents = manual();
    documents.push("README.md".to_owned());
    let topics: BTreeSet<_> = manual()
        .iter()
        .map(|path| {
            let name = path.rsplit('/').next().unwrap();
            name.trim_end_matches(".md").to_owned()
        })
        .collect();
    let mut count = 0;
    for path in documents {
        let text = text(&path).split_whitespace().collect::<Vec<_>>().join(" ");
        for rest in text.split("`pyserve help ").skip(1) {
            let word = rest.split('`').next().unwrap();
            let is_example = word.chars().any(|char| char.is_ascii_uppercase());
            assert!(is_example || topics.contains(word), "{path}: {word}");
            count += 1;
        }
    }
    assert!(count > 15, "{count}");
}

#[test]
fn help_prints_each_topic_as_plain_text() {
    for path in manual() {
        let topic = path.rsplit('/').next().unwrap().trim_end_matches(".md");
        let ended = Pyserve::new().args(["help", topic]).run();
        assert_eq!((ended.code, &*ended.stderr), (0, ""), "{topic}");
        let title = text(&path).lines().next().unwrap().replace("# ", "");
        assert!(
            ended.stdout.starts_with(&title),
            "{topic}: {}",
            ended.stdout
        );
        assert!(!ended.stdout.contains('\u{1b}'), "{topic}");
        // No word is lost on the way from Markdown to text.
        let words = |text: &str| -> BTreeSet<String> {
            let text = text.replace(['|', '#', '*', '\\', ':'], " ");
            text.split_whitespace()
                .filter(|word| !word.starts_with("```") && !word.starts_with("---"))
                .map(str::to_owned)
                .collect()
        };
        let printed = words(&ended.stdout);
        let source = words(&text(&path));
        let lost: Vec<_> = source.difference(&printed).collect();
        // Titles of the columns of a table with two.
        let titles = ["meaning", "key", "metric", "kind", "names", "limit"];
        let lost: Vec<_> = lost
            .into_iter()
            .filter(|word| word.starts_with('`') || word.len() > 9)
            .filter(|word| !titles.contains(&word.as_str()))
            .collect();
        assert!(lost.is_empty(), "{topic}: {lost:?}");
    }
}

#[test]
fn help_lists_the_topics_and_suggests_one_for_a_slip() {
    let ended = Pyserve::new().args(["help"]).run();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    for word in ["Topics:", "reload-and-stop", "Verbs:", "check"] {
        assert!(ended.stdout.contains(word), "{word}: {}", ended.stdout);
    }
    let ended = Pyserve::new().args(["help", "limitz"]).run();
    assert_eq!(ended.code, 2);
    assert!(ended.stderr.contains("'limits'"), "{}", ended.stderr);
    assert_eq!(ended.stdout, "");
    // As before: the help of a verb.
    let verb = Pyserve::new().args(["help", "scale"]).run();
    let option = Pyserve::new().args(["scale", "--help"]).run();
    assert_eq!((verb.code, verb.stdout), (0, option.stdout));
    let ended = Pyserve::new().args(["help", "max-body"]).run();
    assert!(
        ended.stdout.contains("PYSERVE_MAX_BODY"),
        "{}",
        ended.stdout
    );
}

/// The lines of `pyserve help signals` on a terminal with these variables.
fn on_terminal(variables: &[(&str, &str)]) -> Vec<String> {
    let (terminal, lines) = terminal();
    let pyserve = Pyserve::new().without("NO_COLOR").env("TERM", "xterm");
    let pyserve = variables
        .iter()
        .fold(pyserve, |pyserve, (name, value)| pyserve.env(name, value));
    let ended = pyserve.args(["help", "signals"]).stdout_to(terminal).run();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    lines.wait_for("exit code 128+n");
    lines.so_far()
}

#[test]
fn on_a_terminal_the_pager_shows_the_text() {
    let paged = on_terminal(&[("PAGER", "sed 's/^/pager> /'")]);
    assert!(
        paged.iter().all(|line| line.starts_with("pager> ")),
        "{paged:?}"
    );
    assert!(paged[0].contains("\u{1b}[1mSignals\u{1b}[0m"), "{paged:?}");
    // A pager that does not exist, or none.
    for pager in ["no-such-pager -x", "cat", ""] {
        let plain = on_terminal(&[("PAGER", pager), ("NO_COLOR", "1")]);
        assert!(plain[0].starts_with("Signals"), "{pager}: {plain:?}");
        let once = plain.iter().filter(|line| line.contains("128+n")).count();
        assert_eq!(once, 1, "{pager}: {plain:?}");
    }
}

#[test]
fn the_man_page_has_every_option_and_is_valid() {
    let ended = Pyserve::new().args(["man"]).run();
    assert_eq!((ended.code, &*ended.stderr), (0, ""));
    for name in offered() {
        let name = name.replace('-', "\\-");
        assert!(ended.stdout.contains(&format!("\\-\\-{name}")), "{name}");
    }
    for heading in [
        "NAME",
        "SYNOPSIS",
        "VERBS",
        "OPTIONS",
        "TOPICS OF THE MANUAL",
    ] {
        let line = format!(".SH {heading}");
        let quoted = format!(".SH \"{heading}\"");
        assert!(
            ended.stdout.contains(&line) || ended.stdout.contains(&quoted),
            "{heading}"
        );
    }
    let page = temp_dir();
    write_files(page.path(), &[("pyserve.1", &ended.stdout)]);
    let groff = Command::new("groff")
        .args(["-man", "-Tutf8", "-ww", "-z"])
        .arg(page.path().join("pyserve.1"))
        .output();
    match groff {
        Ok(checked) => assert_eq!(String::from_utf8_lossy(&checked.stderr), ""),
        Err(_) => skipped("groff's check of the man page", "there is no groff"),
    }
}

/// The words that bash offers for the last of these.
fn completed(words: &[&str]) -> Vec<String> {
    let script = format!(
        "source <(\"$0\" completions bash); COMP_WORDS=({}); COMP_CWORD={}; \
         _pyserve pyserve '{}' '{}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words.join(" "),
        words.len() - 1,
        words[words.len() - 1],
        words[words.len() - 2],
    );
    let ended = Command::new("bash")
        .args(["-c", &script, env!("CARGO_BIN_EXE_pyserve")])
        .output()
        .expect("bash runs");
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "", "{words:?}");
    let text = String::from_utf8(ended.stdout).unwrap();
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn shells_complete_verbs_and_options() {
    assert_eq!(completed(&["pyserve", "rel"]), ["reload"]);
    assert_eq!(completed(&["pyserve", "--max-bo"]), ["--max-body"]);
    assert_eq!(completed(&["pyserve", "check", "--worker"]), ["--workers"]);
    for (shell, mark) in [("zsh", "#compdef pyserve"), ("fish", "complete -c pyserve")] {
        let ended = Pyserve::new().args(["completions", shell]).run();
        assert_eq!((ended.code, &*ended.stderr), (0, ""), "{shell}");
        assert!(ended.stdout.contains(mark), "{shell}");
        for name in offered() {
            assert!(ended.stdout.contains(&name), "{shell}: {name}");
        }
    }
    let ended = Pyserve::new().args(["completions", "tcsh"]).run();
    assert_eq!(ended.code, 2);
    assert!(ended.stderr.contains("zsh"), "{}", ended.stderr);
}

#[test]
fn every_message_code_is_used_and_in_the_manual_and_no_other() {
    let table = text("src/observe/codes.rs");
    let table = table.split("#[cfg(test)]").next().unwrap();
    let rows: Vec<_> = table
        .lines()
        .filter_map(|line| line.trim().strip_suffix("\";")?.split_once(" = \""))
        .filter(|(_, code)| code.starts_with("PS-"))
        .collect();
    assert!(rows.len() > 30, "{rows:?}");
    let codes: BTreeSet<_> = rows.iter().map(|(_, code)| (*code).to_owned()).collect();
    assert_eq!(codes.len(), rows.len(), "a code stands there twice");
    let manual = text("src/docs/troubleshooting.md");
    let explained: BTreeSet<_> = manual
        .lines()
        .filter_map(|line| line.strip_prefix("### PS-")?.split_once(": "))
        .map(|(number, _)| format!("PS-{number}"))
        .collect();
    assert_eq!(explained, codes);
    let mut sources = String::new();
    collect(&source("src"), &mut sources);
    let uses = sources.replace(table, "");
    for (name, code) in &rows {
        let is_used =
            uses.contains(&format!("codes::{name}")) || table.contains(&format!("Some({name})"));
        assert!(is_used, "{code} {name}");
        let ended = Pyserve::new().args(["help", code]).run();
        assert!(ended.stdout.starts_with(code), "{code}: {}", ended.stdout);
    }
}

fn collect(dir: &Path, sources: &mut String) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            *sources += &std::fs::read_to_string(&path).unwrap();
        }
    }
}

#[test]
fn messages_end_with_their_code_and_json_has_it_as_a_field() {
    let check = |pyserve: Pyserve, code: &str, exit: i32| {
        let ended = pyserve.run();
        assert_eq!(ended.code, exit, "{}", ended.stderr);
        let last = ended.stderr.trim_end().lines().last().unwrap().to_owned();
        assert!(last.ends_with(&format!(" [{code}]")), "{code}: {last}");
    };
    let app = || Pyserve::app("hello.py");
    check(app().args(["--workers", "0"]), "PS-101", 78);
    check(app().args(["--python", "/no/such/python"]), "PS-107", 78);
    check(app().args(["--bind", "unix:/no/such/dir/x"]), "PS-109", 69);
    check(Pyserve::app("boot_fails.py"), "PS-201", 4);
    check(app().args(["--before-start", "false"]), "PS-112", 5);
    check(Pyserve::new().args(["status"]), "PS-116", 69);
    let empty = temp_dir();
    check(Pyserve::new().current_dir(empty.path()), "PS-105", 78);
    write_files(empty.path(), &[("pyserve.toml", "wrokers = 2\n")]);
    check(Pyserve::new().current_dir(empty.path()), "PS-102", 78);
    write_files(empty.path(), &[("pyserve.toml", "workers = = 2\n")]);
    check(Pyserve::new().current_dir(empty.path()), "PS-103", 78);

    for (format, expected) in [("json", "\"code\":\"PS-510\""), ("pretty", " [PS-510]")] {
        let server = app().args(["--log-format", format]).ready();
        let response = server.exchange("GET /\u{1} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(response.status(), 400);
        let line = server.stderr.wait_for("request rejected");
        assert!(line.contains(expected), "{line}");
    }
}
