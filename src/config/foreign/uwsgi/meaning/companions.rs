//! Companions that lines of uWSGI make.

use super::Meaning;
use crate::config::companions::COMPANION_SETTINGS;
use crate::config::foreign::Verdict;

/// The difference for programs that a command names without their directory.
pub(super) const PATH_OF_VENV: &str =
    "PATH begins with the programs of the virtual environment, unlike in uWSGI";

/// A word for the shell.
pub(super) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Adds a companion, with other `settings` than its name and its command.
pub(super) fn companion(
    meaning: &mut Meaning<'_>,
    at: usize,
    command: &str,
    settings: &[(&str, String)],
    names: &mut Vec<String>,
) {
    let name = name_of(command, names);
    let mut given = vec![("name", name.clone()), ("command", command.to_owned())];
    given.extend_from_slice(settings);
    let table = meaning.table(at, &mut COMPANION_SETTINGS.iter(), &given);
    meaning.draft.layer.companions.push(table);
    let shown = crate::config::foreign::secrets::masked(command);
    let mut text = format!("[[companion]] name = {name:?}, command = {shown:?}");
    for (name, value) in settings {
        text.push_str(&format!(", {name} = {value:?}"));
    }
    if meaning.draft.layer.entry("venv").is_some() {
        text.push_str(&format!(" ({PATH_OF_VENV})"));
    }
    names.push(name);
    meaning.say(at, Verdict::Honoured(text));
}

/// The first word of the command that is a program, with a number if the name is taken.
fn name_of(command: &str, names: &[String]) -> String {
    let program = command.split(" && exec ").last().unwrap_or(command);
    let program = program
        .split_once(" /bin/sh -c ")
        .map_or(program, |(_, inner)| inner);
    let program = program.split_whitespace().find(|word| {
        let word = word.trim_matches(['"', '\'']);
        let is_part = matches!(word, "exec" | "env" | "nice" | "sh" | "-c" | "cd" | "&&");
        !is_part && !word.contains('=') && word.contains(|c: char| c.is_ascii_alphanumeric())
    });
    let program = program.unwrap_or(command);
    let program = program.trim_matches(['"', '\'', '/']);
    let base = match program.rsplit('/').next() {
        None | Some("") => "command",
        Some(base) => base,
    };
    let mut name = base.to_owned();
    let mut number = 2;
    while names.contains(&name) {
        name = format!("{base}-{number}");
        number += 1;
    }
    name
}
