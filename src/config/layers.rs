//! The settings of one source: names with values that have not been interpreted.
//!
//! Command line, environment and `pyserve.toml` each become one [`Layer`]; [`super::resolve`] asks
//! them in order of precedence. Each value remembers its [`SettingOrigin`], so that an error can name the
//! place to correct.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::native;
use super::settings::Setting;

/// Everything that one source sets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Layer {
    entries: BTreeMap<&'static str, SettingEntry>,
    /// The locations that it describes, in order; only a settings file has some.
    pub locations: Vec<SettingsTable>,
    /// Its `[[companion]]` tables, in order; only a settings file has some.
    pub companions: Vec<SettingsTable>,
    /// The options of uWSGI that made it, as they were given.
    pub uwsgi_options: Vec<(String, Option<String>)>,
    /// Its `[[certificate]]` tables, in order; only a settings file has some.
    pub certificates: Vec<SettingsTable>,
    /// Values that are hidden wherever a value is shown.
    pub secrets: Vec<String>,
    /// Addresses at which the other server of these settings waits for the server in front of it.
    pub sockets: Vec<String>,
    /// Names by which other machines reach the server of these settings.
    pub hosts: Vec<String>,
}

/// One table of a settings file, such as a `[[location]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsTable {
    /// The place where it begins.
    pub origin: SettingOrigin,
    entries: BTreeMap<&'static str, SettingEntry>,
}

/// One setting as a source gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingEntry {
    /// The values, in order; exactly one unless the setting is repeatable.
    pub values: Vec<String>,
    /// The place of the values.
    pub origin: SettingOrigin,
}

/// The place of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingOrigin {
    /// On the command line, as this flag (without `--`).
    Flag(String),
    /// In this environment variable.
    Variable(String),
    /// In a settings file.
    File {
        /// The file as it was named.
        path: PathBuf,
        /// Line of the key, from 1.
        line: usize,
    },
    /// In a file of another server, or in one of its variables.
    Foreign {
        /// `uwsgi.ini:12`.
        place: String,
        /// The line, without secrets.
        text: String,
    },
    /// Nobody set it.
    Default,
}

impl Layer {
    /// Adds what the source says about `setting`.
    pub fn insert(
        &mut self,
        setting: &'static Setting,
        values: Vec<String>,
        origin: SettingOrigin,
    ) {
        self.entries
            .insert(setting.name, SettingEntry { values, origin });
    }

    /// The entry for the setting of this name.
    pub fn entry(&self, name: &str) -> Option<&SettingEntry> {
        self.entries.get(name)
    }

    /// Takes the settings of `weaker` that are not set here, and all of its tables.
    pub fn add(&mut self, weaker: Self) {
        self.locations.extend_from_slice(&weaker.locations);
        self.companions.extend_from_slice(&weaker.companions);
        self.certificates.extend_from_slice(&weaker.certificates);
        self.uwsgi_options.extend_from_slice(&weaker.uwsgi_options);
        self.secrets.extend(weaker.secrets.iter().cloned());
        self.sockets.extend_from_slice(&weaker.sockets);
        self.hosts.extend_from_slice(&weaker.hosts);
        self.fill(weaker);
    }

    /// Takes the settings of a weaker source that this one does not give.
    pub fn fill(&mut self, weaker: Self) {
        for (name, entry) in weaker.entries {
            self.entries.entry(name).or_insert(entry);
        }
    }

    /// Forgets this value of a setting with several.
    pub fn remove_value(&mut self, name: &str, value: &str) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.values.retain(|other| other != value);
            if entry.values.is_empty() {
                self.entries.remove(name);
            }
        }
    }

    /// Forgets the setting of this name.
    pub fn remove(&mut self, name: &str) {
        self.entries.remove(name);
    }

    /// Changes every value, also those of tables.
    pub fn change_values(&mut self, change: &dyn Fn(&str) -> String) {
        let tables = [
            &mut self.locations,
            &mut self.companions,
            &mut self.certificates,
        ];
        let tables = tables.into_iter().flatten();
        let entries = tables.flat_map(|table| table.entries.values_mut());
        for entry in entries.chain(self.entries.values_mut()) {
            for value in &mut entry.values {
                *value = change(value);
            }
        }
    }
}

impl SettingsTable {
    /// An empty table that begins there.
    pub fn new(origin: SettingOrigin) -> Self {
        Self {
            origin,
            entries: BTreeMap::new(),
        }
    }

    /// Adds what the table says about `setting`.
    pub fn insert(
        &mut self,
        setting: &'static Setting,
        values: Vec<String>,
        origin: SettingOrigin,
    ) {
        self.entries
            .insert(setting.name, SettingEntry { values, origin });
    }

    /// The entry for the setting of this name.
    pub fn entry(&self, name: &str) -> Option<&SettingEntry> {
        self.entries.get(name)
    }

    /// Everything that it says.
    pub fn entries(&self) -> impl Iterator<Item = (&'static str, &SettingEntry)> {
        self.entries.iter().map(|(name, entry)| (*name, entry))
    }
}

impl SettingOrigin {
    /// `name` with `value` as one writes it at this place, for messages.
    pub fn spell(&self, name: &str, value: &str) -> String {
        let value = &*native::shown(value);
        match self {
            Self::Flag(flag) => format!("--{flag} {}", quoted_if_needed(value)),
            Self::Variable(variable) => format!("{variable}={}", quoted_if_needed(value)),
            Self::File { .. } => format!("{self}: {name} = {value:?}"),
            Self::Foreign { place, text } => format!("{place}: {text}"),
            Self::Default => format!("the default of {name}, {}", quoted_if_needed(value)),
        }
    }
}

impl fmt::Display for SettingOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "--{flag}"),
            Self::Variable(variable) => f.write_str(variable),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Foreign { place, .. } => f.write_str(place),
            Self::Default => f.write_str("default"),
        }
    }
}

/// The value as it is if it is one plain word, else in quotes with escapes.
fn quoted_if_needed(value: &str) -> String {
    let plain = !value.is_empty() && value.chars().all(|c| !c.is_whitespace() && !c.is_control());
    if plain {
        value.to_owned()
    } else {
        format!("{value:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_spelled_as_at_its_place() {
        let check = |origin: SettingOrigin, value: &str, expected: &str| {
            assert_eq!(origin.spell("max_body", value), expected);
        };
        check(
            SettingOrigin::Flag("max-body".into()),
            "1X",
            "--max-body 1X",
        );
        check(
            SettingOrigin::Flag("max-body".into()),
            "",
            "--max-body \"\"",
        );
        check(
            SettingOrigin::Variable("PYSERVE_MAX_BODY".into()),
            "1 X",
            "PYSERVE_MAX_BODY=\"1 X\"",
        );
        check(
            SettingOrigin::File {
                path: "pyserve.toml".into(),
                line: 12,
            },
            "1X",
            "pyserve.toml:12: max_body = \"1X\"",
        );
    }
}
