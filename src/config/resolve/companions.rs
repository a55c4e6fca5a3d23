//! The `[[companion]]` tables: names that differ, and commands that are there.

use super::apps::variable;
use super::{Resolver, single, wrong};
use crate::config::companions::{COMPANION_SETTINGS, Companion, Program};
use crate::config::error::{ConfigError, Invalid, invalid};
use crate::config::layers::SettingsTable;
use crate::config::settings::Default;
use crate::config::values;

impl Resolver<'_> {
    pub(super) fn companions(&self) -> Result<Vec<Companion>, ConfigError> {
        let mut all: Vec<Companion> = Vec::new();
        for table in self.layers.iter().flat_map(|layer| &layer.companions) {
            let companion = companion(table)?;
            if all.iter().any(|other| other.name == companion.name) {
                return Err(refuse(
                    table,
                    "name",
                    &companion.name,
                    invalid(
                        "another companion has this name",
                        "give each a `name` of its own",
                    ),
                ));
            }
            all.push(companion);
        }
        Ok(all)
    }

    /// Environment variables of applications, companions and `before_start`.
    pub(super) fn env(&mut self) -> Result<Vec<(String, String)>, ConfigError> {
        Ok(self.many("env", variable)?.unwrap_or_default())
    }

    pub(super) fn before_start(&mut self) -> Result<Option<Program>, ConfigError> {
        let line = self.optional("before_start", |line| match line.contains('\0') {
            true => Err(invalid("a NUL ends a line for the shell", "remove it")),
            false => Ok(Program::Shell(line.to_owned())),
        })?;
        let line = line.filter(|line| *line != Program::Shell(String::new()));
        if line.is_none() {
            self.show_default("before_start", "none".to_owned());
        }
        Ok(line)
    }
}

fn companion(table: &SettingsTable) -> Result<Companion, ConfigError> {
    let words = table
        .entry("command")
        .map_or(&[][..], |entry| &entry.values);
    if words.first().is_none_or(|word| word.trim().is_empty()) {
        let problem = invalid("nothing that runs", "give a `command`");
        return Err(refuse(table, "command", &words.join(" "), problem));
    }
    if words.iter().any(|word| word.contains('\0')) {
        let problem = invalid("a NUL ends an argument", "remove it");
        return Err(refuse(table, "command", &words.join(" "), problem));
    }
    let program = match words {
        [line] => Program::Shell(line.clone()),
        words => Program::Words(words.to_vec()),
    };
    let name = one(table, "name", |text| match text.trim() {
        "" if table.entry("name").is_some() => Err(invalid(
            "the name is empty",
            "give one, or remove the key for the first word of the command",
        )),
        "" => Ok(program_name(words)),
        name if name.chars().any(char::is_control) => {
            Err(invalid("a name has no control characters", "give another"))
        }
        name => Ok(name.to_owned()),
    })?;
    Ok(Companion {
        name,
        program,
        is_essential: one(table, "essential", values::yes_or_no)?,
        stop_timeout: one(table, "stop_timeout", |text| match text {
            "" => Ok(None),
            text => values::duration(text).map(Some),
        })?,
        restart_on_reload: one(table, "restart_on_reload", values::yes_or_no)?,
        overlap: one(table, "overlap", values::yes_or_no)?,
    })
}

/// The first word, without its directory.
fn program_name(words: &[String]) -> String {
    let first = words.iter().flat_map(|word| word.split_whitespace()).next();
    let first = first.unwrap_or_default();
    first.rsplit('/').next().unwrap_or(first).to_owned()
}

/// A setting that is there, or has its default in the table of settings.
fn one<T>(
    table: &SettingsTable,
    name: &'static str,
    parse: impl Fn(&str) -> Result<T, Invalid>,
) -> Result<T, ConfigError> {
    if let Some(entry) = table.entry(name) {
        return single(&spelled(name), entry, parse);
    }
    let setting = COMPANION_SETTINGS
        .iter()
        .find(|setting| setting.name == name);
    let text = match setting.map(|setting| setting.default) {
        Some(Default::Value(text)) => text,
        _ => "",
    };
    parse(text).map_err(|invalid| refuse(table, name, text, invalid))
}

fn refuse(table: &SettingsTable, name: &str, value: &str, problem: Invalid) -> ConfigError {
    let origin = table
        .entry(name)
        .map_or(&table.origin, |entry| &entry.origin);
    wrong(&spelled(name), value, origin, problem)
}

fn spelled(name: &str) -> String {
    format!("[[companion]] {name}")
}
