//! `pyserve.toml` as a layer of settings. It has the names of [`super::settings`], without
//! sections but those of locations; numbers, booleans and arrays become the texts that a flag would carry.
//!
//! ```toml
//! app = "mysite.wsgi"
//! workers = 4
//! bind = ["127.0.0.1:8000", "unix:/run/app.sock"]
//! static = { "/media" = "uploads" }      # or ["/media=uploads"], or a section [static]
//!
//! [[location]]                           # any number of them, see `super::locations`
//! prefix = "/old"
//! redirect = "/new"
//!
//! [[companion]]                          # likewise, see `super::companions`
//! command = ["celery", "-A", "mysite", "worker"]
//!
//! [[certificate]]                        # likewise, see `super::tls`
//! cert = "fullchain.pem"
//! key = "privkey.pem"
//! ```

use std::borrow::Cow;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::companions::COMPANION_SETTINGS;
use super::error::ConfigError;
use super::foreign::counterpart;
use super::layers::{Layer, SettingOrigin, SettingsTable};
use super::locations;
use super::settings::{self, Setting};
use super::suggest;
use super::tls::CERTIFICATE_SETTINGS;

/// Reads the text of the settings file `path`: what can be read of it, and the first mistake:
/// what is no TOML, no setting, or of a type that the setting cannot take.
pub fn layer(path: &Path, text: &str) -> (Layer, Option<ConfigError>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut mistake = errors.first().map(|error| ConfigError::Syntax {
        path: path.to_owned(),
        line: line_of(text, error.span().map_or(0, |span| span.start)),
        message: error.message().replace('\n', ", "),
    });
    let mut layer = Layer::default();
    for (key, value) in table.get_ref() {
        let read = Place::of(key, path, text, None).read(value, text, &mut layer);
        mistake = mistake.or(read.err());
    }
    (layer, mistake)
}

/// Name of the tables that describe a location.
const LOCATION: &str = "location";
/// Name of the tables that describe a process beside the application.
const COMPANION: &str = "companion";
/// Name of the tables with a certificate.
const CERTIFICATE: &str = "certificate";
/// Names of all tables of which the file may have several.
pub const TABLES: [&str; 3] = [LOCATION, COMPANION, CERTIFICATE];

/// The settings of a table of this kind, one of [`TABLES`].
pub fn settings_of_table(kind: &str) -> Vec<&'static Setting> {
    match kind {
        LOCATION => locations::all().collect(),
        COMPANION => COMPANION_SETTINGS.iter().collect(),
        _ => CERTIFICATE_SETTINGS.iter().collect(),
    }
}

/// A key of the file, for messages.
struct Place<'a> {
    path: &'a Path,
    line: usize,
    key: &'a str,
    /// The kind of table that it stands in, if in any.
    table: Option<&'static str>,
}

impl<'a> Place<'a> {
    fn of(
        key: &'a Spanned<Cow<'_, str>>,
        path: &'a Path,
        text: &str,
        table: Option<&'static str>,
    ) -> Self {
        Self {
            path,
            line: line_of(text, key.span().start),
            key: key.get_ref(),
            table,
        }
    }

    fn origin(&self) -> SettingOrigin {
        SettingOrigin::File {
            path: self.path.to_owned(),
            line: self.line,
        }
    }

    fn read(
        &self,
        value: &Spanned<DeValue<'_>>,
        text: &str,
        layer: &mut Layer,
    ) -> Result<(), ConfigError> {
        match self.key {
            LOCATION => layer.locations = self.tables(value, text, LOCATION)?,
            COMPANION => layer.companions = self.tables(value, text, COMPANION)?,
            CERTIFICATE => layer.certificates = self.tables(value, text, CERTIFICATE)?,
            _ => {
                let setting = self.setting()?;
                layer.insert(setting, self.values(setting, value)?, self.origin());
            }
        }
        Ok(())
    }

    fn setting(&self) -> Result<&'static Setting, ConfigError> {
        let known = settings::named(self.key).filter(|setting| setting.is_for_file());
        known.ok_or_else(|| {
            let names = settings::all()
                .filter(|setting| setting.is_for_file())
                .map(|setting| setting.name)
                .chain(TABLES);
            self.unknown(names, || "`pyserve --help` lists the settings".to_owned())
        })
    }

    fn unknown<'n>(
        &self,
        names: impl Iterator<Item = &'n str>,
        otherwise: impl FnOnce() -> String,
    ) -> ConfigError {
        ConfigError::UnknownKey {
            path: self.path.to_owned(),
            line: self.line,
            key: self.key.to_owned(),
            hint: match (suggest::closest(self.key, names), counterpart(self.key)) {
                (_, Some(ours)) => ours.to_owned(),
                (Some(meant), None) => format!("did you mean {meant:?}?"),
                (None, None) => otherwise(),
            },
        }
    }

    /// The tables of `[[location]]` or another `kind`.
    fn tables(
        &self,
        value: &Spanned<DeValue<'_>>,
        text: &str,
        kind: &'static str,
    ) -> Result<Vec<SettingsTable>, ConfigError> {
        let settings = settings_of_table(kind);
        let not_tables =
            || self.wrong_type("anything but tables", &format!("each its own [[{kind}]]"));
        let DeValue::Array(items) = value.get_ref() else {
            return Err(not_tables());
        };
        let read = |item: &Spanned<DeValue<'_>>| {
            let DeValue::Table(pairs) = item.get_ref() else {
                return Err(not_tables());
            };
            let mut table = SettingsTable::new(SettingOrigin::File {
                path: self.path.to_owned(),
                line: line_of(text, item.span().start),
            });
            for (key, value) in pairs {
                let place = Place::of(key, self.path, text, Some(kind));
                let named = settings.iter().find(|setting| setting.name == place.key);
                let setting = named.ok_or_else(|| {
                    let names = || settings.iter().map(|setting| setting.name);
                    let all = || {
                        let all: Vec<_> = names().collect();
                        format!("a {kind} has {}", all.join(", "))
                    };
                    place.unknown(names(), all)
                })?;
                table.insert(setting, place.values(setting, value)?, place.origin());
            }
            Ok(table)
        };
        items.iter().map(read).collect()
    }

    fn values(
        &self,
        setting: &Setting,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<Vec<String>, ConfigError> {
        match value.get_ref() {
            DeValue::Array(items) if setting.repeatable => items
                .iter()
                .map(|item| self.scalar(setting, item.get_ref()))
                .collect(),
            DeValue::Table(pairs) if takes_pairs(setting, self.table.is_some()) => pairs
                .iter()
                .map(|(prefix, dir)| {
                    let prefix = prefix.get_ref();
                    if prefix.contains('=') {
                        return Err(self.wrong_type("a name with `=` in it", "a plain one"));
                    }
                    Ok(format!("{prefix}={}", self.scalar(setting, dir.get_ref())?))
                })
                .collect(),
            scalar => Ok(vec![self.scalar(setting, scalar)?]),
        }
    }

    fn scalar(&self, setting: &Setting, value: &DeValue<'_>) -> Result<String, ConfigError> {
        let expected = match (
            takes_pairs(setting, self.table.is_some()),
            setting.repeatable,
        ) {
            (true, false) => "a table of names and values",
            (true, true) => "\"name=value\", an array of those, or a table of names and values",
            (_, true) => "one value or an array",
            (_, false) => "one value",
        };
        if let Some(expected) = not_so(setting, value) {
            let found = match value {
                DeValue::Boolean(_) => "true or false",
                _ => "a number",
            };
            return Err(self.wrong_type(found, expected));
        }
        match value {
            DeValue::String(text) => Ok(text.clone().into_owned()),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map(|number| number.to_string())
                .map_err(|_| self.wrong_type("so large a number", "a smaller one")),
            DeValue::Float(number) => Ok(number.as_str().to_owned()),
            DeValue::Boolean(flag) => Ok(flag.to_string()),
            DeValue::Datetime(_) => Err(self.wrong_type("a date", expected)),
            DeValue::Array(_) => Err(self.wrong_type("an array", expected)),
            DeValue::Table(_) => Err(self.wrong_type("a table", expected)),
        }
    }

    fn wrong_type(&self, found: &str, expected: &str) -> ConfigError {
        ConfigError::WrongType {
            path: self.path.to_owned(),
            line: self.line,
            key: self.key.to_owned(),
            found: found.to_owned(),
            expected: expected.to_owned(),
        }
    }
}

/// True if a table of names and values is allowed, as `NAME=VALUE` is elsewhere. `in_table`: in that of a
/// location or companion.
pub fn takes_pairs(setting: &Setting, in_table: bool) -> bool {
    match setting.name {
        "types" | "env" | "basic_auth" | "header" | "error_page" => true,
        "static" => !in_table,
        _ => false,
    }
}

/// True if numbers and booleans are allowed as well as texts.
pub fn takes_number_or_boolean(setting: &Setting) -> bool {
    not_so(setting, &DeValue::Boolean(true)).is_none()
}

/// What has to be given instead of a number or boolean that this setting cannot mean: nothing
/// that is run or named is a number, and TOML has words for yes and no.
fn not_so(setting: &Setting, value: &DeValue<'_>) -> Option<&'static str> {
    let is_number = matches!(value, DeValue::Integer(_) | DeValue::Float(_));
    let is_boolean = matches!(value, DeValue::Boolean(_));
    match setting.value_name {
        "yes|no" if is_number => Some("true or false"),
        "COMMAND" if is_number || is_boolean => match setting.repeatable {
            true => Some("a line for the shell, or an array of texts"),
            false => Some("a line for the shell"),
        },
        "NAME" if is_number || is_boolean => Some("a text"),
        _ => None,
    }
}

/// The line, from 1, of the byte at `offset`.
pub fn line_of(text: impl AsRef<[u8]>, offset: usize) -> usize {
    let before = text.as_ref().iter().take(offset);
    1 + before.filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Layer, ConfigError> {
        let (layer, mistake) = layer(Path::new("pyserve.toml"), text);
        mistake.map_or(Ok(layer), Err)
    }

    #[test]
    fn values_of_every_type_become_texts() {
        let check = |text: &str, name: &str, expected: &str| {
            let layer = read(text).unwrap();
            assert_eq!(
                layer.entry(name).unwrap().values.join("|"),
                expected,
                "{text}"
            );
        };
        check("app = 'mysite.wsgi'", "app", "mysite.wsgi");
        check("workers = 4", "workers", "4");
        check("queue_limit = 10_000", "queue_limit", "10000");
        check("queue_limit = 0x10", "queue_limit", "16");
        check("queue_timeout = 1.5", "queue_timeout", "1.5");
        check("dev = true", "dev", "true");
        check("bind = '8000'", "bind", "8000");
        check("bind = 8000", "bind", "8000");
        check("bind = ['8000', 'unix:/a b']", "bind", "8000|unix:/a b");
        check("trust = []", "trust", "");
        check("static = ['/a=dir']", "static", "/a=dir");
        check(
            "static = {'/a' = 'dir', '/b' = 'x'}",
            "static",
            "/a=dir|/b=x",
        );
        check("[static]\n'/a' = 'dir'", "static", "/a=dir");
    }

    #[test]
    fn the_line_of_a_setting_is_known() {
        let layer = read("# settings\n\nworkers = 4\nbind = [\n  '8000',\n]\n").unwrap();
        let line = |name: &str| layer.entry(name).unwrap().origin.to_string();
        assert_eq!(line("workers"), "pyserve.toml:3");
        assert_eq!(line("bind"), "pyserve.toml:4");
    }

    #[test]
    fn mistakes_are_refused_with_line_and_remedy() {
        let check = |text: &str, expected: &str| {
            assert_eq!(read(text).unwrap_err().to_string(), expected, "{text}");
        };
        check(
            "\nworkerz = 4",
            "pyserve.toml:2: unknown setting \"workerz\" (did you mean \"workers\"?)",
        );
        check(
            "max-body = 4",
            "pyserve.toml:1: unknown setting \"max-body\" (did you mean \"max_body\"?)",
        );
        check(
            "[server]\nport = 1",
            "pyserve.toml:1: unknown setting \"server\" (`pyserve --help` lists the settings)",
        );
        check(
            "config = 'x'",
            "pyserve.toml:1: unknown setting \"config\" (`pyserve --help` lists the settings)",
        );
        check(
            "workers = [1, 2]",
            "pyserve.toml:1: workers cannot be an array (give one value)",
        );
        check(
            "bind = [['8000']]",
            "pyserve.toml:1: bind cannot be an array (give one value or an array)",
        );
        check(
            "bind = {a = 1}",
            "pyserve.toml:1: bind cannot be a table (give one value or an array)",
        );
        check(
            "dev = 2024-01-01",
            "pyserve.toml:1: dev cannot be a date (give one value)",
        );
        check(
            "workers = 99999999999999999999",
            "pyserve.toml:1: workers cannot be so large a number (give a smaller one)",
        );
        let syntax = read("app = 'x'\nworkers = \n").unwrap_err().to_string();
        assert!(
            syntax.starts_with("pyserve.toml:2: not valid TOML: "),
            "{syntax}"
        );
        let twice = read("workers = 1\nworkers = 2\n").unwrap_err().to_string();
        assert!(
            twice.starts_with("pyserve.toml:2: not valid TOML: duplicate key"),
            "{twice}"
        );
    }

    #[test]
    fn what_stands_beside_a_mistake_can_be_read_all_the_same() {
        for mistake in [
            "workerz = 2",
            "workers = ",
            "workers = [",
            "[[location]]\nx = 1",
            "workers = {",
        ] {
            let (layer, found) = layer(
                Path::new("pyserve.toml"),
                &format!("control = '/run/c'\n{mistake}\n"),
            );
            assert!(found.is_some(), "{mistake}");
            let control = layer
                .entry("control")
                .unwrap_or_else(|| panic!("{mistake}"));
            assert_eq!(control.values, ["/run/c"], "{mistake}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "(\\PC|\n){0,60}|(app|static|bind|[=\\[\\]{}'\",.0-9 x]|\n){0,40}") {
            let _ = read(&text);
        }
    }
}
