//! The source tree keeps its own rules: who may import whom, and where `unsafe` and
//! Python may be named.

mod functions;
mod graph;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use self::functions::{Function, functions};
use self::graph::Graph;

use crate::support::source;

/// What the files of each folder of `src/` may name after `crate::`, itself apart. A
/// longer path rules over a shorter one.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("os", &[]),
    ("observe", &["os"]),
    ("config", &["os", "observe"]),
    ("front", &["os", "config", "observe"]),
    ("supervisor", &["os", "config", "observe", "front"]),
    ("explain", &["config"]),
    ("init", &["config"]),
    ("manual", &["os", "config"]),
    (
        "cli",
        &["config", "explain", "init", "manual", "supervisor"],
    ),
];

/// The modules directly in `src/front/`, each above those that it may import.
const FRONT: &[&str] = &[
    "accept",
    "connection",
    "fast_path",
    "request",
    "site",
    "admin",
    "activity",
    "protocol",
    "error",
    "maintenance",
    "access",
    "acme",
    "static_files",
    "routing",
    "upstream",
    "response_rules",
    "body",
    "sendfile",
    "client_limits",
    "descriptors",
    "context",
    "give_way",
    "header_case",
    "shutdown",
    "socket",
    "tls",
];

/// The same for `src/supervisor/`.
const SUPERVISOR: &[&str] = &[
    "events",
    "upgrade",
    "shutdown",
    "interfaces",
    "check",
    "status",
    "maintenance",
    "control",
    "reload",
    "service",
    "apps",
    "app",
    "generation",
    "template",
    "uwsgi_service",
    "plan",
    "policy",
    "starting",
    "front_builder",
    "startup",
    "before_start",
    "companions",
    "signals",
];

/// Lines of the longest function.
const LONGEST_FUNCTION: usize = 80;

/// Functions that may be longer, by file and name, with the reason.
const LONGER_FUNCTIONS: &[(&str, &str, &str)] = &[];

/// Files directly in `src/` stand above all folders.
const TOP: &str = "";

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a source folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The lines of code: no comments, nothing behind the tests' `mod` line.
fn code(path: &Path) -> Vec<(usize, String)> {
    let text = std::fs::read_to_string(path).expect("a source file");
    let until_tests = text.lines().take_while(|line| *line != "#[cfg(test)]");
    until_tests
        .enumerate()
        .map(|(at, line)| {
            (
                at + 1,
                line.split("//").next().unwrap_or_default().to_owned(),
            )
        })
        .collect()
}

fn shown(path: &Path) -> String {
    let path = path
        .strip_prefix(env!("CARGO_MANIFEST_DIR"))
        .expect("in the tree");
    path.display().to_string()
}

/// The folder of `src/` in which a file is.
fn folder_of(path: &Path) -> String {
    let inside = path.strip_prefix(source("src")).expect("below src");
    let mut parts = inside.components();
    let first = parts.next().expect("a name");
    match parts.next() {
        Some(_) => first.as_os_str().to_string_lossy().into_owned(),
        None => TOP.to_owned(),
    }
}

/// The names that follow `crate::` in a line, groups in braces included.
fn imports(line: &str) -> Vec<String> {
    let name = |text: &str| {
        let end = text.find(|char: char| !char.is_alphanumeric() && char != '_');
        text[..end.unwrap_or(text.len())].to_owned()
    };
    line.match_indices("crate::")
        .flat_map(|(at, mark)| {
            let rest = &line[at + mark.len()..];
            match rest.strip_prefix('{') {
                Some(group) => group.split(',').map(|part| name(part.trim())).collect(),
                None => vec![name(rest)],
            }
        })
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn imports_go_downwards_only() {
    let mut wrong = Vec::new();
    for path in rust_files(&source("src")) {
        let folder = folder_of(&path);
        if folder == TOP || folder == "wire" {
            continue;
        }
        let (_, allowed) = MAY_IMPORT
            .iter()
            .find(|(name, _)| *name == folder)
            .unwrap_or_else(|| panic!("src/{folder} is not in the table"));
        for (number, line) in code(&path) {
            for import in imports(&line) {
                let ours = MAY_IMPORT.iter().any(|(name, _)| *name == import);
                if ours && import != folder && !allowed.contains(&&*import) {
                    wrong.push(format!(
                        "{}:{number}: {folder} imports {import}",
                        shown(&path)
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Checks that the modules of one folder import only those below themselves in `order`.
fn check_order(graph: &Graph, folder: &str, order: &[&str]) {
    let rank = |name: &str| order.iter().position(|other| *other == name);
    let mut wrong = BTreeSet::new();
    for (from, named) in &graph.arrows {
        let (Some(first), Some(own)) = (from.first(), from.get(1)) else {
            continue;
        };
        if first != folder {
            continue;
        }
        let Some(own_rank) = rank(own) else {
            wrong.insert(format!("src/{folder}/{own} is not in the table"));
            continue;
        };
        for other in named.iter().filter(|other| other[0] == folder) {
            let name = other.get(1).map_or("", |name| name);
            if name != own && !name.is_empty() && rank(name).is_none_or(|rank| rank < own_rank) {
                wrong.insert(format!("{} imports {}", from.join("::"), other.join("::")));
            }
        }
    }
    let wrong: Vec<_> = wrong.into_iter().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn modules_of_the_front_import_downwards_only() {
    let graph = Graph::of(&source("src"), &rust_files(&source("src")));
    let from = |from: &str, to: &str| {
        let path = |text: &str| text.split("::").map(str::to_owned).collect::<Vec<_>>();
        graph.arrows[&path(from)].contains(&path(to))
    };
    // The graph sees plain paths, `super`, and groups over several lines.
    assert!(from("front::request", "front::activity"));
    assert!(from(
        "front::upstream::workers::request_queue",
        "front::client_limits::network"
    ));
    check_order(&graph, "front", FRONT);
}

#[test]
fn modules_of_the_supervisor_import_downwards_only() {
    let graph = Graph::of(&source("src"), &rust_files(&source("src")));
    check_order(&graph, "supervisor", SUPERVISOR);
}

#[test]
fn no_files_import_each_other() {
    for root in ["src", "src/wire", "python/host/src"] {
        let files = rust_files(&source(root));
        let graph = Graph::of(&source(root), &files);
        let circles = graph.circles();
        let circles: Vec<_> = circles
            .iter()
            .map(|circle| {
                let names = circle.iter().map(|module| module.join("::"));
                names.collect::<Vec<_>>().join(", ")
            })
            .collect();
        assert!(circles.is_empty(), "in {root}:\n{}", circles.join("\n"));
    }
}

#[test]
fn functions_are_short() {
    let (mut all, mut wrong, mut excepted) = (0, Vec::new(), BTreeSet::new());
    for path in ["src", "python/host", "benches", "tests"]
        .iter()
        .flat_map(|folder| rust_files(&source(folder)))
    {
        let text = std::fs::read_to_string(&path).expect("a source file");
        let functions = functions(&text);
        all += functions.len();
        for Function { name, line, length } in functions {
            let file = shown(&path);
            if length <= LONGEST_FUNCTION {
                continue;
            }
            let of = |(of, may_be, _): &(&str, &str, &str)| (*of, *may_be) == (&*file, name);
            match LONGER_FUNCTIONS.iter().position(of) {
                Some(number) => _ = excepted.insert(number),
                None => wrong.push(format!("{file}:{line}: `{name}` has {length} lines")),
            }
        }
    }
    assert!(all > 3000, "only {all} functions were found");
    let most = LONGEST_FUNCTION;
    assert!(wrong.is_empty(), "over {most}:\n{}", wrong.join("\n"));
    for (number, (file, name, _)) in LONGER_FUNCTIONS.iter().enumerate() {
        assert!(
            excepted.contains(&number),
            "{file}: `{name}` needs no exception"
        );
    }
}

#[test]
fn the_length_of_a_function_is_counted_from_its_fn_line_to_its_brace() {
    let body = "    b\"\\r\";\n".repeat(3);
    let json = "    let text = r#\"\n{\n}\n\"#;\n";
    for (text, expected) in [
        (format!("fn name() {{\n{body}}}\n\nfn"), Some(5)),
        (
            format!(
                "pub(in crate::a) async fn name<T>(\n    a: T,\n) -> u8\nwhere\n    T: A,\n{{\n{body}}}\n"
            ),
            Some(10),
        ),
        (
            format!("pub unsafe extern \"C\" fn name() {{\n{json}{body}}}\n"),
            Some(9),
        ),
        ("const fn name() {}\n".to_owned(), Some(1)),
        ("fn name(\n    a: u8,\n) -> u8;\nfn".to_owned(), None),
        ("// fn name() {\n}\n".to_owned(), None),
    ] {
        let inside = text.lines().map(|line| format!("    {line}\n"));
        for text in [
            format!("\n{text}"),
            format!("\n{}", inside.collect::<String>()),
        ] {
            let expected = expected.map(|length| Function {
                name: "name",
                line: 2,
                length,
            });
            assert_eq!(functions(&text).pop(), expected, "{text}");
        }
    }
}

#[test]
fn no_regular_expression_can_backtrack() {
    let lock = std::fs::read_to_string(source("Cargo.lock")).unwrap();
    assert!(
        lock.contains("name = \"regex-automata\""),
        "the linear one, for log filters"
    );
    for backtracking in ["fancy-regex", "onig", "pcre", "pcre2", "regress"] {
        let line = format!("name = \"{backtracking}\"");
        assert!(!lock.contains(&line), "{backtracking}");
    }
}

#[test]
fn unsafe_is_confined_to_os_and_ffi() {
    let mut wrong = Vec::new();
    let files = [
        rust_files(&source("src")),
        rust_files(&source("python/host")),
    ]
    .concat();
    for path in files {
        let shown = shown(&path);
        if shown.starts_with("src/os/") || shown == "python/host/src/ffi.rs" {
            continue;
        }
        for (number, line) in code(&path) {
            let words = line.split(|char: char| !char.is_alphanumeric() && char != '_');
            if words.into_iter().any(|word| word == "unsafe") {
                wrong.push(format!("{shown}:{number}: {line}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_one_file_writes_to_the_standard_streams() {
    let mut wrong = Vec::new();
    for path in rust_files(&source("src")) {
        let shown = shown(&path);
        if shown == "src/os/standard.rs" {
            continue;
        }
        for (number, line) in code(&path) {
            // `eprintln!` and its kin panic when the write fails.
            let macros = ["print!", "println!", "dbg!"];
            let streams = ["io::stdout", "io::stderr"];
            let found = macros
                .iter()
                .chain(&streams)
                .any(|word| line.contains(word));
            if found {
                wrong.push(format!("{shown}:{number}: {line}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_in_src_names_pyo3() {
    for path in rust_files(&source("src")) {
        for (number, line) in code(&path) {
            assert!(!line.contains("pyo3"), "{}:{number}: {line}", shown(&path));
        }
    }
    let manifest = std::fs::read_to_string(source("Cargo.toml")).unwrap();
    assert!(!manifest.contains("pyo3"), "the binary's own manifest");
}

#[test]
fn every_source_file_says_what_it_is() {
    let folders = ["src", "python/host", "tests", "benches"];
    for path in folders
        .iter()
        .flat_map(|folder| rust_files(&source(folder)))
    {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("//! "),
            "{} has no opening comment",
            shown(&path)
        );
    }
}
