//! `src/docs/options.md`, generated from the table of settings.
//!
//! `UPDATE_MANUAL=1 cargo test --lib manual` writes the file; without the variable the same
//! test fails where it differs.

use std::fmt::Write as _;

#[cfg(test)]
use crate::config::settings;
use crate::config::settings::{Default, Setting};

/// The whole file.
#[cfg(test)]
pub fn markdown() -> String {
    let mut out = HEAD.to_owned();
    for advanced in [false, true] {
        if advanced {
            out += ADVANCED;
        }
        let mut heading = "";
        for setting in settings::all().filter(|setting| setting.is_advanced() == advanced) {
            if setting.heading != heading {
                heading = setting.heading;
                let suffix = if advanced { " (advanced)" } else { "" };
                let _ = write!(out, "\n## {heading}{suffix}\n");
            }
            let _ = write!(out, "\n{}\n", section(setting));
        }
    }
    out
}

/// The part of one option.
pub fn section(setting: &Setting) -> String {
    let value = match setting.is_switch() {
        true => "[=yes|no]".to_owned(),
        false => format!(" {}", setting.value_name),
    };
    let mut out = format!("### `--{}{value}`\n\n{}.", setting.flag(), setting.help);
    match setting.default {
        Default::Value(text) | Default::Computed(text) => {
            let _ = write!(out, " Default: {text}.");
        }
        Default::None => {}
    }
    let _ = match setting.is_for_file() {
        true => write!(
            out,
            "\n\n`{}`, `{}` in `pyserve.toml`",
            setting.variable(),
            setting.name
        ),
        false => write!(out, "\n\n`{}`", setting.variable()),
    };
    out
}

#[cfg(test)]
const HEAD: &str = "\
# Options

Every option can be set in three places: `--max-body 1G` on the command line,
`PYSERVE_MAX_BODY=1G` in the environment, `max_body = \"1G\"` in `pyserve.toml`, before the first
`[[location]]` or `[[companion]]`. The command line takes precedence over the environment, the
environment over the file. `pyserve check` shows every setting with its origin, first those that
differ from the defaults; `pyserve help OPTION` prints one entry of this list.

In the file, `yes` and `no` may be written as `true` and `false`. A repeatable option takes several
values: in a variable with commas or spaces between them, in the
file as an array. BYTES are `512`, `64K`, `100M`, `1.5G`. TIME is in seconds, or `500ms`, `30s`, `2m`,
`1h`. Relative paths are relative to the `chdir`.

`pyserve schema > pyserve.schema.json` writes a JSON schema. With `#:schema ./pyserve.schema.json` in the
first line of `pyserve.toml`, editors with a TOML extension check and complete the file.

`pyserve man` prints a man page, and `pyserve completions bash|zsh|fish` completions for a shell:
`source <(pyserve completions bash)`.

This file is generated from the table of settings.
";

#[cfg(test)]
const ADVANCED: &str = "
# Advanced options

Few sites need these options; `pyserve -h` does not list them.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_md_is_what_the_table_of_settings_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/docs/options.md");
        if std::env::var_os("UPDATE_MANUAL").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        let file = std::fs::read_to_string(path).unwrap();
        assert!(
            file == markdown(),
            "src/docs/options.md differs from the table of settings; \
             write it with UPDATE_MANUAL=1 cargo test --lib manual"
        );
    }

    #[test]
    fn an_option_has_its_spellings_and_its_default() {
        let text = section(settings::named("max_body").unwrap());
        for part in [
            "### `--max-body BYTES`",
            "`PYSERVE_MAX_BODY`",
            "`max_body`",
            "Default: 100M.",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(section(settings::named("dev").unwrap()).contains("--dev[=yes|no]"));
    }
}
