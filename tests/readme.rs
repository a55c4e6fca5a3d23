//! The README is short, names only what exists, and each of its commands runs.
//!
//! `pyserve --help` is printed from the one table of settings, so options are compared with it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::frameworks::venv;
use crate::support::server::Pyserve;
use crate::support::{source, temp_dir};

/// A file of the source tree.
pub fn text(path: &str) -> String {
    std::fs::read_to_string(source(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The part of a document between the line `## title` and the next such line.
fn chapter<'a>(document: &'a str, title: &str) -> &'a str {
    let (_, rest) = document
        .split_once(&format!("\n## {title}\n"))
        .unwrap_or_else(|| panic!("no chapter {title}"));
    rest.split("\n## ").next().unwrap_or_default()
}

fn help() -> String {
    let ended = Pyserve::new().args(["--help"]).run();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    ended.stdout
}

/// The names behind `--`, as long as a name goes on.
pub fn options(text: &str) -> BTreeSet<String> {
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
pub fn offered() -> BTreeSet<String> {
    let help = help();
    let described = help
        .lines()
        .filter(|line| line.trim_start().starts_with("--"));
    described
        .filter_map(|line| options(line.trim_start().split(' ').next()?).pop_first())
        .collect()
}

/// The files of the manual, by their paths in the source tree.
pub fn manual() -> Vec<String> {
    let files = std::fs::read_dir(source("src/docs")).unwrap();
    let names = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut paths: Vec<_> = names.map(|name| format!("src/docs/{name}")).collect();
    paths.sort();
    assert!(paths.len() > 15, "{paths:?}");
    paths
}

#[test]
fn the_readme_has_at_most_two_hundred_lines_and_fifteen_options() {
    let readme = text("README.md");
    assert!(readme.lines().count() <= 200);
    let chapter = chapter(&readme, "Options");
    let rows = chapter.lines().filter(|line| line.starts_with("| `--"));
    let listed: Vec<_> = rows
        .map(|row| options(row.split(" | ").next().unwrap()))
        .collect();
    assert_eq!(listed.len(), 15);
    let offered = offered();
    for row in &listed {
        assert!(row.is_subset(&offered), "{row:?}");
    }
}

/// Options of other programs and of single verbs, in the commands and the prose.
const FOREIGN: &str = "bench dry-run from interval listen now path release noinput no-cache-dir preload json rounds reload stop to kill-whom write seconds help version deploy-hook webroot build-arg rm target check-config print-config timeout name allow page retry-after";

#[test]
fn options_and_variables_that_are_named_anywhere_are_there() {
    let offered = offered();
    let mut wrong = Vec::new();
    let mut documents = manual();
    let others = [
        "README.md",
        "docker/kubernetes/deployment.yaml",
        "docker/systemd/pyserve.service",
        "docker/systemd/pyserve.socket",
    ];
    documents.extend(others.map(str::to_owned));
    for path in &documents {
        let text = text(path);
        let named = options(&text).into_iter();
        let unknown = named
            .filter(|name| !offered.contains(name) && !FOREIGN.split(' ').any(|one| one == name));
        wrong.extend(unknown.map(|name| format!("{path}: --{name}")));
    }
    documents.extend(
        [
            "docker/Dockerfile",
            "docker/compose.yaml",
            "docker/compose.prod.yaml",
            "docker/stack.yaml",
        ]
        .map(str::to_owned),
    );
    for path in &documents {
        let text = text(path);
        for rest in text.split("PYSERVE_").skip(1) {
            let end = rest
                .find(|char: char| !(char.is_ascii_uppercase() || "_0123456789".contains(char)));
            let name = rest[..end.unwrap_or(rest.len())]
                .to_lowercase()
                .replace('_', "-");
            // A variable that Kubernetes would set for a service of that name.
            if !offered.contains(&name) && name != "port" {
                wrong.push(format!("{path}: PYSERVE_{name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_counterparts_of_uwsgi_s_and_nginx_s_settings_are_settings() {
    let chapter = text("src/docs/migrating.md");
    // Keys of a `[[location]]` or a `[[companion]]` alone.
    let own = "env redirect name missing html request_header path method segment file host status stub_status header_inherit replace_prefix schedule every";
    let mut known: BTreeSet<_> = own.split(' ').map(str::to_owned).collect();
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
    let numbers = |text: &str| -> BTreeSet<u32> {
        text.split(|char: char| !char.is_ascii_digit())
            .filter_map(|number| number.parse().ok())
            .collect()
    };
    let listed = |text: &str| {
        let (_, rest) = text.split_once("Exit codes:").expect("the exit codes");
        let (rest, _) = rest.split_once("128+n").expect("the last of them");
        numbers(rest)
    };
    let help = listed(&help());
    assert_eq!(listed(&text("README.md")), help);
    assert!(help.len() > 6);
    let manual = text("src/docs/troubleshooting.md");
    let rows = chapter(&manual, "Exit codes")
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(' ').next())
        .filter(|first| first.bytes().all(|byte| byte.is_ascii_digit()));
    assert_eq!(rows.flat_map(numbers).collect::<BTreeSet<_>>(), help);
}

#[test]
fn links_of_the_documents_lead_to_files() {
    let mut documents = manual();
    documents.extend(
        [
            "README.md",
            "CONTRIBUTING.md",
            "SECURITY.md",
            "benches/README.md",
            "src/ARCHITECTURE.md",
        ]
        .map(str::to_owned),
    );
    for path in documents {
        let text = text(&path);
        let links = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next());
        let images = text
            .split("src=\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next());
        let sets = text
            .split("srcset=\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next());
        for target in links.chain(images).chain(sets) {
            if target.contains("://") || target.starts_with('#') {
                continue;
            }
            let target = target.split('#').next().unwrap();
            let file = source(&path).parent().unwrap().join(target);
            assert!(file.exists(), "{path}: {target}");
        }
    }
}

#[test]
fn the_installation_begins_with_one_line() {
    let readme = text("README.md");
    let chapter = chapter(&readme, "Install");
    assert!(
        chapter
            .trim_start()
            .starts_with("```sh\npip install pyserve-wsgi\n```\n")
    );
}

#[test]
fn the_image_of_the_readme_copies_the_binary_from_where_docker_puts_it() {
    let readme = text("README.md");
    let place = "/usr/local/bin/pyserve";
    assert!(readme.contains(&format!("COPY --from=pyserve {place} ")));
    assert!(text("docker/Dockerfile").contains(&format!("/pyserve {place}\n")));
}

#[test]
fn images_in_documents_are_made_by_their_commands() {
    for path in ["README.md", "src/docs/images.md"] {
        let document = text(path);
        let copied = document.split("--from=").skip(1);
        let bases = document.split("\nFROM ").skip(1);
        let words = copied
            .chain(bases)
            .filter_map(|rest| rest.split_whitespace().next());
        let own: Vec<_> = words.filter(|word| word.starts_with("pyserve")).collect();
        assert!(!own.is_empty(), "{path}");
        for name in own {
            let mut commands = document.split("docker build -f docker/Dockerfile ").skip(1);
            let tag = format!("-t {name} .");
            let is_made = commands.any(|rest| {
                rest.split(['\n', '`'])
                    .next()
                    .unwrap_or_default()
                    .ends_with(&tag)
            });
            assert!(is_made, "{path}: no command makes the image {name}");
        }
    }
}

/// The lines of the blocks marked `sh`, without their comments.
fn commands() -> Vec<String> {
    let readme = text("README.md");
    let blocks = readme.split("```sh\n").skip(1);
    let lines = blocks.flat_map(|block| {
        let block = block.split("\n```").next().unwrap_or_default();
        block.lines().map(str::to_owned).collect::<Vec<_>>()
    });
    lines
        .map(|line| {
            line.split("  #")
                .next()
                .unwrap_or_default()
                .trim()
                .to_owned()
        })
        .collect()
}

/// Runs commands as a reader of the README would, in the top of a checkout.
struct Reader {
    venv: std::path::PathBuf,
    data: tempfile::TempDir,
}

impl Reader {
    fn run(&self, command: &str) {
        let words: Vec<_> = command.split_whitespace().collect();
        match &words[..] {
            // The binary under test is the product of this.
            ["cargo", "install", "--path", "."] => {
                assert!(Path::new(env!("CARGO_BIN_EXE_pyserve")).ends_with("pyserve"));
            }
            // `python/try-wheel.sh` tries the wheel of this name.
            ["pip", "install", distribution] => {
                let project = text("python/pyproject.toml");
                assert!(project.contains(&format!("\nname = \"{distribution}\"\n")));
            }
            // The test's own environment is made like this, from a file that includes the same one.
            ["python3", "-m", "venv", ".venv"] => {
                assert!(self.venv.join("bin/python").exists());
            }
            [".venv/bin/pip", "install", "-r", file] => {
                assert!(source(file).exists(), "{file}");
                let ours = text("tests/provision/requirements.txt");
                assert!(ours.contains(&format!("-r ../../{file}")), "{file}");
            }
            [".venv/bin/python", script, arguments @ ..] => self.python(script, arguments),
            ["pyserve", "--version" | "help"] => {
                let ended = self.pyserve().args(&words[1..]).run();
                assert_eq!(ended.code, 0, "{command}: {}", ended.stderr);
            }
            [
                "pyserve",
                "check" | "status" | "reload" | "upgrade" | "stop",
            ] => self.verb(words[1]),
            ["pyserve", arguments @ ..] => self.serve(arguments),
            _ => panic!("no test runs the README's command {command:?}"),
        }
    }

    fn pyserve(&self) -> Pyserve {
        Pyserve::new()
            .current_dir(source(""))
            .env("EXAMPLE_DATABASE", self.data.path().join("db.sqlite3"))
            .env("EXAMPLE_STATIC", self.data.path().join("static"))
            .env("EXAMPLE_MEDIA", self.data.path().join("media"))
    }

    fn python(&self, script: &str, arguments: &[&str]) {
        let ended = Command::new(self.venv.join("bin/python"))
            .arg(script)
            .args(arguments)
            .current_dir(source(""))
            .env("EXAMPLE_DATABASE", self.data.path().join("db.sqlite3"))
            .env("EXAMPLE_STATIC", self.data.path().join("static"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{script}: {stderr}");
    }

    /// A command that serves: its first page is fine.
    fn serve(&self, arguments: &[&str]) {
        let mut server = self.pyserve();
        if arguments.contains(&"--venv") {
            server = server.without("PYSERVE_PYTHON");
        }
        let venv = self.venv.to_str().unwrap();
        let arguments = arguments
            .iter()
            .map(|argument| argument.replace("\"$PWD/.venv\"", venv));
        let server = server.args(arguments).ready();
        let response = server.get("/");
        assert_eq!(response.status(), 200, "{response:?}");
    }

    /// A verb, in the directory of a server that runs.
    fn verb(&self, verb: &str) {
        let directory = source("python/examples");
        let mut server = Pyserve::new()
            .current_dir(&directory)
            .args(["--app", "hello.wsgi"])
            .ready();
        let ended = Pyserve::new()
            .current_dir(&directory)
            .env("PYSERVE_CONTROL", server.probe.path("control"))
            .env("PYSERVE_APP", "hello.wsgi")
            .args([verb])
            .run();
        assert_eq!(ended.code, 0, "{verb}: {}", ended.stderr);
        assert!(!ended.stdout.is_empty(), "{verb}");
        if verb == "stop" {
            assert_eq!(server.wait_exit(), 0);
        }
    }
}

#[test]
fn each_command_of_the_readme_runs() {
    let Some(venv) = venv("the commands of the README") else {
        return;
    };
    let reader = Reader {
        venv,
        data: temp_dir(),
    };
    let commands = commands();
    assert!(commands.len() > 10, "{commands:?}");
    for command in commands {
        reader.run(&command);
    }
}
