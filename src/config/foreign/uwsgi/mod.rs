//! uWSGI's configuration: ini, yaml, json and xml files, `UWSGI_*` variables, and command lines.
//!
//! 1. [`reader`] gives all options with their values, by uWSGI's own rules.
//! 2. [`meaning`] gives each a verdict, and makes the layer of settings.

mod expand;
mod forms;
mod magic;
mod meaning;
mod numbers;
pub mod options;
mod reader;

use super::{Reading, Surroundings};

pub use forms::{Form, is_uwsgi};
pub use reader::Options;

/// The sources of one uWSGI, in the order in which it reads them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// True if the variables `UWSGI_*` count.
    pub variables: bool,
    /// The words of a command line, without the name of the program.
    pub command_line: Vec<String>,
    /// Files, each as `--ini` and the like name it: with `:section` behind it, perhaps.
    pub files: Vec<(String, Form)>,
}

/// The options that the sources give, as uWSGI has them when it begins to obey them.
pub fn options_of(sources: &Sources, around: &Surroundings<'_>) -> Options {
    let mut reader = reader::Reader::new(around);
    if sources.variables {
        reader.variables();
    }
    for (name, form) in &sources.files {
        reader.file(name, *form);
    }
    reader.command_line(&sources.command_line);
    reader.finish()
}

/// Reads everything, and says what becomes of it.
pub fn read(sources: &Sources, around: &Surroundings<'_>) -> Reading {
    meaning::of(options_of(sources, around), around)
}

#[cfg(test)]
mod real_options;
#[cfg(test)]
mod tests;
