//! The line `web:` of a `Procfile`, as the command that starts the image.

use super::Reader;
use crate::config::Environment;
use crate::config::foreign::shell::{self, Command};
use crate::config::foreign::supervisord::{Server, server_of};
use crate::config::foreign::{Surroundings, Verdict};

/// The name of the file.
const FILE: &str = "Procfile";
/// Longest file.
const LONGEST: usize = 64 << 10;

/// The command of a process type of the `Procfile` in the current directory.
pub fn command(kind: &str, around: &Surroundings<'_>) -> Option<String> {
    let path = around.current_dir.join(FILE);
    let bytes = (around.files.read)(&path, LONGEST).ok()?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let mut lines = text.lines();
    lines.find_map(|line| {
        let (name, command) = line.trim().split_once(':')?;
        (name.trim_end() == kind).then(|| command.trim().to_owned())
    })
}

/// The words behind `pyserve`, if that is what `web:` starts.
pub fn own_words(around: &Surroundings<'_>) -> Option<Vec<String>> {
    let line = command("web", around)?;
    let start = Start::of(&line, around.environment)?;
    match start.program {
        Program::Pyserve(words) => Some(words),
        _ => None,
    }
}

pub(super) fn decide(reader: &mut Reader<'_>) {
    let Some(line) = command("web", reader.around) else {
        return;
    };
    let text = format!("web: {line}");
    if let Some(name) = SETTINGS_OF.iter().find(|name| reader.is_set(name)) {
        let why = format!("the setting {name} says what is served");
        reader.say(FILE, &text, Verdict::NoEffect(why));
        return;
    }
    let Some(start) = Start::of(&line, reader.environment()) else {
        let why = "a quote is not closed".to_owned();
        reader.say(FILE, &text, Verdict::Wrong(why));
        return;
    };
    let verdict = match start.program {
        Program::Gunicorn(words) => {
            reader.found.gunicorn = Some(words);
            reader.found.sizes_workers = false;
            Verdict::Read("the command line of gunicorn that is served".to_owned())
        }
        Program::Uwsgi(words) => {
            reader.found.uwsgi = Some(words);
            Verdict::Read("the command line of uWSGI that is served".to_owned())
        }
        Program::Pyserve(_) => Verdict::Read("the command line of pyserve".to_owned()),
        Program::Other(name) => Verdict::Unsupported(format!(
            "{name} is not started: the application is searched for, or name it with --app"
        )),
    };
    reader.say(FILE, &text, verdict);
    if let Some(dir) = start.chdir {
        reader.set(FILE, &text, "chdir", dir);
    }
    if let Some(before) = start.before {
        reader.set(FILE, &text, "before_start", before);
    }
    if !start.variables.is_empty() {
        reader.append(FILE, &text, "env", &start.variables);
    }
}

/// Settings with which `web:` means nothing.
pub(super) const SETTINGS_OF: &[&str] =
    &["app", "ini", "gunicorn", "supervisord", "upstream", "uwsgi"];

/// The program that a line starts in the end.
enum Program {
    Gunicorn(Vec<String>),
    Uwsgi(Vec<String>),
    Pyserve(Vec<String>),
    Other(String),
}

/// A line of commands, the last of which starts a server.
struct Start {
    chdir: Option<String>,
    /// The commands before the last.
    before: Option<String>,
    /// Variables for the last, `NAME=VALUE`.
    variables: Vec<String>,
    program: Program,
}

impl Start {
    /// Reads the line; `None` if a quote is not closed.
    fn of(line: &str, environment: &Environment) -> Option<Self> {
        let commands = shell::commands(line)?;
        let (last, before) = commands.split_last()?;
        let value_of = |name: &str| environment.raw(name);
        let words = shell::filled_in(&last.words, &value_of);
        let at = shell::program(&words);
        let name = words[at].rsplit('/').next().unwrap_or_default();
        let program = match server_of(&words[at..]) {
            Some((Server::Gunicorn, words)) => Program::Gunicorn(words),
            Some((Server::Uwsgi, words)) => Program::Uwsgi(words),
            _ if name == "pyserve" => Program::Pyserve(words[at + 1..].to_vec()),
            _ => Program::Other(name.to_owned()),
        };
        let (chdir, before) = match before {
            [first, rest @ ..] if is_change(first) => {
                let dir = shell::filled_in(&first.words[1..2], &value_of).pop();
                (dir, rest)
            }
            all => (None, all),
        };
        let span = |all: &[Command]| {
            let (first, last) = (all.first()?, all.last()?);
            Some(line[first.span.start..last.span.end].to_owned())
        };
        let variables = shell::variables(&words, at);
        let variables = variables
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        Some(Self {
            chdir,
            before: span(before),
            variables: variables.collect(),
            program,
        })
    }
}

/// True for `cd DIR &&`.
fn is_change(command: &Command) -> bool {
    command.words.len() == 2 && command.words[0] == "cd" && command.operator == "&&"
}
