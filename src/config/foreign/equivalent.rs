//! A layer of settings as the text of a `pyserve.toml`.

use std::fmt::Write as _;

use super::secrets;
use crate::config::companions::COMPANION_SETTINGS;
use crate::config::layers::{Layer, SettingsTable};
use crate::config::locations;
use crate::config::native;
use crate::config::settings::{self, Setting};

/// The file that sets the same as `layer`; with `hides_secrets`, fit for a terminal.
pub fn file(layer: &Layer, hides_secrets: bool) -> String {
    let mut text = String::new();
    let hidden = hides_secrets.then_some(&layer.secrets[..]);
    for setting in settings::all() {
        if let Some(entry) = layer.entry(setting.name) {
            line(&mut text, setting, &entry.values, hidden);
        }
    }
    let known: Vec<_> = locations::all().collect();
    for given in &layer.locations {
        table(&mut text, "location", given, &known, hidden);
    }
    let known: Vec<_> = COMPANION_SETTINGS.iter().collect();
    for given in &layer.companions {
        table(&mut text, "companion", given, &known, hidden);
    }
    text
}

/// True if a value in the layer is a secret.
pub fn has_secrets(layer: &Layer) -> bool {
    file(layer, true) != file(layer, false)
}

/// `workers = 4`, as it stands in a file, without secrets.
pub fn assignment(setting: &Setting, values: &[String]) -> String {
    let mut text = String::new();
    line(&mut text, setting, values, Some(&[]));
    text.trim_end().to_owned()
}

fn table(
    text: &mut String,
    kind: &str,
    given: &SettingsTable,
    known: &[&'static Setting],
    hidden: Option<&[String]>,
) {
    let _infallible = write!(text, "\n[[{kind}]]\n");
    for setting in known {
        if let Some(entry) = given.entry(setting.name) {
            line(text, setting, &entry.values, hidden);
        }
    }
}

/// Writes a setting; `hidden` are known secrets, `None` hides nothing.
fn line(text: &mut String, setting: &Setting, values: &[String], hidden: Option<&[String]>) {
    let shown = match hidden {
        Some(known) => secrets::hidden_words(values, known),
        None => values.to_vec(),
    };
    let scalars: Vec<_> = shown.iter().map(|value| scalar(setting, value)).collect();
    let value = match &scalars[..] {
        [one] => one.clone(),
        several => format!("[{}]", several.join(", ")),
    };
    let _infallible = writeln!(text, "{} = {value}", setting.name);
}

/// A number or a boolean where the setting is one, else a string.
fn scalar(setting: &Setting, value: &str) -> String {
    let is_number = !value.is_empty()
        && value.len() < 18
        && value.bytes().all(|byte| byte.is_ascii_digit())
        && (value == "0" || !value.starts_with('0'));
    let takes_number = ["N", "TIME", "BYTES", "CODE"].iter().any(|unit| {
        setting
            .value_name
            .split('|')
            .any(|name| name.ends_with(unit))
    });
    match (setting.value_name, value) {
        ("yes|no" | "yes|no|json" | "", "yes" | "true") => "true".to_owned(),
        ("yes|no" | "yes|no|json" | "", "no" | "false") => "false".to_owned(),
        _ if is_number && takes_number => value.to_owned(),
        _ => quoted(value),
    }
}

/// A basic string of TOML.
fn quoted(value: &str) -> String {
    let mut text = String::from("\"");
    for char in native::shown(value).chars() {
        match char {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            char if char.is_control() => {
                let _infallible = write!(text, "\\u{:04X}", u32::from(char));
            }
            char => text.push(char),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::file;
    use crate::config::layers::SettingOrigin;
    use proptest::prelude::*;

    fn layer(name: &str, values: &[&str]) -> Layer {
        let mut layer = Layer::default();
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        layer.insert(
            settings::named(name).unwrap(),
            values,
            SettingOrigin::Default,
        );
        layer
    }

    #[test]
    fn values_have_the_types_that_one_would_write() {
        let check = |name: &str, values: &[&str], expected: &str| {
            assert_eq!(file(&layer(name, values), true), format!("{expected}\n"));
        };
        check("workers", &["4"], "workers = 4");
        check("workers", &["2..8"], "workers = \"2..8\"");
        check("request_timeout", &["60"], "request_timeout = 60");
        check(
            "max_worker_memory",
            &["200M"],
            "max_worker_memory = \"200M\"",
        );
        check("buffering", &["no"], "buffering = false");
        check(
            "bind",
            &["8000", "unix:/a\"b"],
            "bind = [\"8000\", \"unix:/a\\\"b\"]",
        );
        check("uid", &["1000"], "uid = \"1000\"");
        check("startup_log", &["0660"], "startup_log = \"0660\"");
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(value in "[^\u{10fe00}-\u{10ffff}]{1,30}") {
            let written = file(&layer("before_start", &[&value]), false);
            let (read, mistake) = file::layer(Path::new("pyserve.toml"), &written);
            prop_assert!(mistake.is_none(), "{written}: {mistake:?}");
            prop_assert_eq!(&read.entry("before_start").unwrap().values[0], &value);
        }
    }
}
