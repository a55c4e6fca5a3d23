//! The table of settings: every name, once, with its help and its default. A file below
//! `settings/` has the entries under one heading of the help, or a few.
//!
//! The command line is generated from it, the environment and `pyserve.toml` are checked
//! against it, and [`super::resolve`] gives each entry its meaning. One name has three
//! spellings: `--max-body`, `PYSERVE_MAX_BODY`, `max_body`. A setting that stands here and
//! is not read by the resolver is found by a test there.

mod application;
mod limits;
mod listening;
mod static_files;
mod upstream;
mod watching;
mod workers;

/// Every setting, in the order of the help.
pub fn all() -> impl Iterator<Item = &'static Setting> + Clone {
    TABLE.iter().copied().flatten()
}

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// Name in `pyserve.toml`, `max_body`; the other spellings follow from it.
    pub name: &'static str,
    /// The placeholder of the value in the help, `BYTES`; empty for a plain switch.
    pub value_name: &'static str,
    /// Heading of the help under which it stands.
    pub heading: &'static str,
    /// The help text, one or two lines.
    pub help: &'static str,
    /// True if it may be given more than once.
    pub repeatable: bool,
    /// The default.
    pub default: Default,
}

/// The default of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Default {
    /// This text, read like a value of a source.
    Value(&'static str),
    /// Something found out at start; the text says what.
    Computed(&'static str),
    /// Nothing.
    None,
}

impl Setting {
    /// `max-body`, the name behind `--`.
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// `PYSERVE_MAX_BODY`.
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.name.to_ascii_uppercase())
    }

    /// True if it is a switch that needs no value on the command line.
    pub fn is_switch(&self) -> bool {
        self.value_name.is_empty()
    }

    /// True if it may stand in `pyserve.toml`: all but the path of that file itself.
    pub fn is_for_file(&self) -> bool {
        self.name != "config"
    }

    /// The help with the default behind it.
    pub fn full_help(&self) -> String {
        match self.default {
            Default::Value(text) | Default::Computed(text) => {
                format!("{} [default: {text}]", self.help)
            }
            Default::None => self.help.to_owned(),
        }
    }
}

/// The setting of this name.
pub fn named(name: &str) -> Option<&'static Setting> {
    all().find(|setting| setting.name == name)
}

/// Prefix of the environment variables.
pub const PREFIX: &str = "PYSERVE_";

/// The table, by the headings of the help.
static TABLE: &[&[Setting]] = &[
    application::APPLICATION,
    upstream::UPSTREAM,
    application::PYTHON,
    listening::LISTENING,
    static_files::STATIC_FILES,
    workers::WORKERS,
    limits::LIMITS,
    watching::LOGGING,
    watching::WATCHING,
    watching::OTHER,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_spell_in_all_three_ways() {
        let mut seen = BTreeSet::new();
        for setting in all() {
            assert!(
                seen.insert(setting.name),
                "{} stands there twice",
                setting.name
            );
            assert!(
                setting
                    .name
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'),
                "{} does not spell as a flag and a variable",
                setting.name
            );
            assert!(!setting.help.ends_with('.'), "{}", setting.name);
        }
        let max_body = named("max_body").unwrap();
        assert_eq!(max_body.flag(), "max-body");
        assert_eq!(max_body.variable(), "PYSERVE_MAX_BODY");
    }
}
