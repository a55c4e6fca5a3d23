//! The `[[companion]]` tables: names that differ, and commands that are there.

use std::time::Duration;

use super::{Resolver, identity, single, wrong};
use crate::config::companions::{COMPANION_SETTINGS, Companion, Program, Restart};
use crate::config::error::{ConfigError, Invalid, invalid};
use crate::config::layers::SettingsTable;
use crate::config::schedule::{self, Cron, Schedule};
use crate::config::settings::Default;
use crate::config::{RunAs, values};
use crate::os;
use crate::os::child::StopSignal;

impl Resolver<'_> {
    /// The companions; the server runs as `server`, or as the user who starts it.
    pub(super) fn companions(&self, server: Option<&RunAs>) -> Result<Vec<Companion>, ConfigError> {
        let mut all: Vec<Companion> = Vec::new();
        for table in self.layers.iter().flat_map(|layer| &layer.companions) {
            let companion = Companion {
                schedule: self.schedule(table)?,
                run_as: run_as(table, server)?,
                ..companion(table)?
            };
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
            if companion.is_essential && companion.restart != Restart::Always {
                let problem = invalid(
                    "it means nothing beside `essential`: the server stops when the companion exits",
                    "remove one of them",
                );
                return Err(refuse(table, "restart", "", problem));
            }
            all.push(companion);
        }
        Ok(all)
    }

    fn schedule(&self, table: &SettingsTable) -> Result<Option<Schedule>, ConfigError> {
        let every = given(table, "every", |text| match values::duration(text)? {
            period if period < Duration::from_secs(1) => Err(invalid(
                "shorter than a second",
                "give a longer time, as in `10m`",
            )),
            period => Ok(Schedule::Every(period)),
        })?;
        let cron = given(table, "schedule", |text| {
            let tz = self.surroundings.environment.variable("TZ");
            let zone = schedule::system_zone(tz.and_then(|tz| tz.to_str()))?;
            Cron::parse(text, zone).map(|cron| Schedule::Cron(Box::new(cron)))
        })?;
        let (Some(schedule), name) = (match (cron, every) {
            (Some(_), Some(_)) => {
                let problem = invalid("both `schedule` and `every`", "give one of them");
                return Err(refuse(table, "every", "", problem));
            }
            (Some(cron), None) => (Some(cron), "schedule"),
            (None, every) => (every, "every"),
        }) else {
            return Ok(None);
        };
        for other in ["essential", "overlap", "restart", "restart_on_reload"] {
            if let Some(entry) = table.entry(other) {
                let problem = invalid(
                    format!(
                        "it means nothing beside `{name}`: a run ends by itself, and the next one has the new code"
                    ),
                    "remove one of them",
                );
                return Err(refuse(table, other, &entry.values.join(" "), problem));
            }
        }
        Ok(Some(schedule))
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
        stop_signal: one(table, "stop_signal", |text| {
            let name = text.to_ascii_uppercase();
            values::choice(name.strip_prefix("SIG").unwrap_or(&name), &StopSignal::ALL)
        })?,
        restart: one(table, "restart", |text| values::choice(text, &Restart::ALL))?,
        restart_on_reload: one(table, "restart_on_reload", values::yes_or_no)?,
        overlap: one(table, "overlap", values::yes_or_no)?,
        schedule: None,
        run_as: None,
    })
}

/// The user of a companion, `None` for that of the server, which only root can change.
fn run_as(table: &SettingsTable, server: Option<&RunAs>) -> Result<Option<RunAs>, ConfigError> {
    let group = given(table, "group", identity::group)?;
    let user = given(table, "user", |text| identity::run_as(text, group))?;
    let Some(user) = user else {
        return match table.entry("group") {
            Some(entry) => {
                let problem = invalid("there is no `user` beside it", "give a `user`, too");
                Err(refuse(table, "group", &entry.values.join(" "), problem))
            }
            None => Ok(None),
        };
    };
    let (own_uid, own_gid) =
        server.map_or_else(os::identity::own, |server| (server.uid, server.gid));
    match own_uid {
        0 => Ok(Some(user)),
        _ if (own_uid, own_gid) == (user.uid, user.gid) => Ok(None),
        _ => {
            let entry = table.entry("user").map(|entry| entry.values.join(" "));
            let problem = invalid(
                format!(
                    "the server runs as uid {own_uid} and gid {own_gid}, and only root may start a program as another user"
                ),
                "run the server as root, without --uid and --gid, or remove `user`",
            );
            Err(refuse(table, "user", &entry.unwrap_or_default(), problem))
        }
    }
}

/// A setting that may be absent.
fn given<T>(
    table: &SettingsTable,
    name: &'static str,
    parse: impl FnOnce(&str) -> Result<T, Invalid>,
) -> Result<Option<T>, ConfigError> {
    let entry = table.entry(name);
    entry
        .map(|entry| single(&spelled(name), entry, parse))
        .transpose()
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

/// The error of a setting; `value` stands in it if the table does not have the setting.
fn refuse(table: &SettingsTable, name: &str, value: &str, problem: Invalid) -> ConfigError {
    let entry = table.entry(name);
    let given = entry.map(|entry| entry.values.join(" "));
    let origin = entry.map_or(&table.origin, |entry| &entry.origin);
    let value = given.as_deref().unwrap_or(value);
    wrong(&spelled(name), value, origin, problem)
}

fn spelled(name: &str) -> String {
    format!("[[companion]] {name}")
}
