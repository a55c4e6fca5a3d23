//! gunicorn's configuration: a file of Python, `GUNICORN_CMD_ARGS`, and command lines.
//!
//! 1. [`evaluation`] runs the file in the interpreter of the application, bounded in time and output.
//! 2. [`reader`] gives all settings with their values and lines, in gunicorn's precedence.
//! 3. [`meaning`] gives each a verdict, and makes the layer of settings.

mod command_line;
pub mod evaluation;
mod meaning;
pub mod python;
mod reader;
pub mod settings;
mod value;

pub use command_line::split;

use super::{Reading, Surroundings};
use evaluation::Evaluated;

/// The sources of one gunicorn. `GUNICORN_CMD_ARGS` counts in any case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// The words of a command line, without the name of the program.
    pub command_line: Option<Vec<String>>,
    /// The file, in place of the one that the command line names, or gunicorn finds.
    pub file: Option<String>,
}

/// Evaluates the file of a name as `gunicorn -c` has it.
pub type Evaluate<'a> = dyn Fn(&str) -> Result<Evaluated, String> + 'a;

/// Reads everything, and says what becomes of it.
pub fn read(sources: &Sources, around: &Surroundings<'_>, evaluate: &Evaluate<'_>) -> Reading {
    let settings = reader::read(sources, around, evaluate);
    meaning::of(settings, around)
}

/// The names of the switches that these words and `GUNICORN_CMD_ARGS` turn on.
pub fn switches(words: &[String], variable: Option<&str>) -> Vec<&'static str> {
    let place = super::Place {
        source: "command line".into(),
        line: 0,
    };
    let more = variable.and_then(command_line::split).unwrap_or_default();
    let all = [words, &more].map(|words| command_line::parse(words, &place));
    let options = all.into_iter().flat_map(|parsed| parsed.options);
    let on = options.filter(|(_, value, _)| value.is_true());
    on.map(|(setting, ..)| setting.name).collect()
}

/// True for the text of a file of gunicorn: it assigns some of its settings.
pub fn is_gunicorn(name: &str, text: &str) -> bool {
    let base = name.rsplit('/').next().unwrap_or(name);
    if matches!(base, "gunicorn.conf.py" | "gunicorn_conf.py") {
        return true;
    }
    if !base.ends_with(".py") || !base.contains("gunicorn") {
        return false;
    }
    let names = text.lines().filter_map(|line| line.split_once('='));
    let assigned = names.filter(|(name, _)| settings::named(name.trim()).is_some());
    assigned.count() >= 2
}

#[cfg(test)]
mod tests;
