//! What runs beside the application: the `[[companion]]` tables of `pyserve.toml`.
//!
//! The settings that a table may have stand here; [`super::resolve`] gives them their
//! meaning.

use std::fmt;
use std::time::Duration;

use super::settings::{Default, Setting};

/// A process beside the application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Companion {
    /// Names it in the log; no other has the same.
    pub name: String,
    /// What runs.
    pub program: Program,
    /// Whether the server ends when it does.
    pub is_essential: bool,
    /// How long it may take to end when it is asked to.
    pub stop_timeout: Duration,
}

impl fmt::Display for Companion {
    /// Its name, what runs, and that the server ends with it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.name, self.program)?;
        match self.is_essential {
            true => f.write_str(", essential"),
            false => Ok(()),
        }
    }
}

/// A program with its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// A line for `/bin/sh`.
    Shell(String),
    /// The program and its arguments; at least one word.
    Words(Vec<String>),
}

impl fmt::Display for Program {
    /// As one would type it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shell(line) => f.write_str(line),
            Self::Words(words) => f.write_str(&words.join(" ")),
        }
    }
}

/// Every setting of a companion.
pub static COMPANION_SETTINGS: &[Setting] = &[
    Setting {
        name: "name",
        value_name: "NAME",
        heading: HEADING,
        help: "Its name in the log",
        repeatable: false,
        default: Default::Computed("the first word of the command"),
    },
    Setting {
        name: "command",
        value_name: "COMMAND",
        heading: HEADING,
        help: "What runs: a line for the shell, or an array with the program and its arguments",
        repeatable: true,
        default: Default::None,
    },
    Setting {
        name: "essential",
        value_name: "yes|no",
        heading: HEADING,
        help: "End the server when it ends",
        repeatable: false,
        default: Default::Value("no"),
    },
    Setting {
        name: "stop_timeout",
        value_name: "TIME",
        heading: HEADING,
        help: "How long it may take to end after SIGTERM, when the server stops",
        repeatable: false,
        default: Default::Value("5"),
    },
];

const HEADING: &str = "Companion";
